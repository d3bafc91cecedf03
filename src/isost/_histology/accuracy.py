"""How well expression is told of held-out tissue, and how much it counts beside that of neighbouring sections."""

from __future__ import annotations

import itertools

import numpy as np

from isost._core.kernel import kernel_fields
from isost._core.trust import NEIGHBOURS_WIDTH
from isost.metrics._bins import bin_side
from isost.metrics._score_expression import call_accuracy, columns_of


def accuracy_of(
    expected: np.ndarray, expressed: np.ndarray, measured: np.ndarray, section: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns (G,) of `isost.metrics.score_expression`."""
    return columns_of(expected, measured, section) | {"call_accuracy": call_accuracy(expressed, measured > 0)}


def trust_in(
    expected: np.ndarray, measured: np.ndarray, place: np.ndarray, section: np.ndarray, depth: np.ndarray | None
) -> float:
    """Weight w between 0 and 1 with which w x expected + (1 - w) x neighbours' is nearest to what was measured.

    Parameters
    ----------
    expected, measured
        (n, G) of held-out tissue.
    place
        (n, 2) in the frame that sections share.
    section
        (n,) numbers.
    depth
        (S,) of the sections: neighbours are those next above and below; None: all others are.

    Returns
    -------
    Least squares, of expression relative to the mean of each section. What neighbours say is a kernel mean at the same
    place, as wide as in a stack (`isost.pp.stack_sections`); of one section alone, its mean.
    """
    n_sections = int(section.max()) + 1
    rows = [np.flatnonzero(section == number) for number in range(n_sections)]
    wanted, said = (np.concatenate([values[part] - values[part].mean(axis=0) for part in rows])
                    for values in (measured, expected))  # fmt: skip
    where = np.concatenate([place[part] for part in rows])
    ends = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    parts = [slice(*pair) for pair in itertools.pairwise(ends)]
    width = NEIGHBOURS_WIDTH * bin_side([where[part] for part in parts])
    around = np.zeros_like(wanted)
    for number, part in enumerate(parts):
        for other in (beside := _beside(number, n_sections, depth)):
            field = next(iter(kernel_fields(where[part], where[parts[other]], wanted[parts[other]], (width,))))
            around[part] += field / len(beside)
    step = said - around
    return float(np.clip((step * (wanted - around)).sum() / max((step**2).sum(), 1e-12), 0, 1))


def _beside(number: int, n_sections: int, depth: np.ndarray | None) -> list[int]:
    others = [other for other in range(n_sections) if other != number]
    if depth is None:
        return others
    above = [other for other in others if depth[other] > depth[number]]
    below = [other for other in others if depth[other] <= depth[number]]
    return [*sorted(below, key=lambda k: depth[k])[-1:], *sorted(above, key=lambda k: depth[k])[:1]]
