"""How well expression is told of held-out tissue, and how much it counts beside that of neighbouring sections."""

from __future__ import annotations

import itertools

import numpy as np

from isost._core.kernel import kernel_fields
from isost._core.trust import NEIGHBOURS_WIDTH
from isost.metrics._bins import bin_side
from isost.metrics._score_expression import call_accuracy, columns_of

_MOST = 0.95  # weight of a section that was not measured
_NOTHING = 1e-12


def accuracy_of(
    expected: np.ndarray, expressed: np.ndarray, measured: np.ndarray, section: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns (G,) of `isost.metrics.score_expression`."""
    return columns_of(expected, measured, section) | {"call_accuracy": call_accuracy(expressed, measured > 0)}


def trust_in(
    expected: np.ndarray, measured: np.ndarray, place: np.ndarray, section: np.ndarray, depth: np.ndarray | None,
    fold: np.ndarray,
) -> float:  # fmt: skip
    """Weight w for which w x expected + (1 - w) x neighbours' is nearest to measured, less its standard error.

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
    fold
        (n,) in which tissue was held out together.

    Returns
    -------
    0 to 0.95, what is told being never as good as measured. Least squares, of expression relative to the mean of each
    section, with the standard error of the jackknife over folds: where nothing is told, w may be anything. What
    neighbours say is a kernel mean at the same place, as wide as in a stack (`isost.pp.stack_sections`); of one section
    alone, its mean.
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
    step, held = said - around, fold[np.concatenate(rows)]
    along, square = ((step * part).sum(axis=1) for part in (wanted - around, step))
    sums = np.array([[values[held == number].sum() for number in np.unique(held)] for values in (along, square)])
    whole, without = sums.sum(axis=1), sums.sum(axis=1)[:, None] - sums
    if min(whole[1], without[1].min()) < _NOTHING:
        return 0.0
    weight, left = whole[0] / whole[1], without[0] / without[1]
    error = np.sqrt((len(left) - 1) * left.var())
    return float(np.clip(weight - error, 0, _MOST))


def _beside(number: int, n_sections: int, depth: np.ndarray | None) -> list[int]:
    others = [other for other in range(n_sections) if other != number]
    if depth is None:
        return others
    above = [other for other in others if depth[other] > depth[number]]
    below = [other for other in others if depth[other] <= depth[number]]
    return [*sorted(below, key=lambda k: depth[k])[-1:], *sorted(above, key=lambda k: depth[k])[:1]]
