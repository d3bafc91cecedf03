"""How well expression is told of held-out tissue, and how much it counts beside that of neighbouring sections."""

from __future__ import annotations

import itertools

import numpy as np

from isost._core.kernel import kernel_fields
from isost._core.trust import NEIGHBOURS_WIDTH
from isost.metrics._bins import bin_side


def accuracy_of(
    expected: np.ndarray, expressed: np.ndarray, measured: np.ndarray, section: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns (G,), each a mean over sections: Pearson's r, root mean square error, accuracy of calls.

    `pcc` is 0 where nothing varies; `call_accuracy` is balanced over cells that express a gene and that do not (0.5 is
    chance), a call being a probability above the share of cells that express it.
    """
    rows = [np.flatnonzero(section == number) for number in np.unique(section)]
    pcc = np.mean([correlations(expected[part], measured[part]) for part in rows], axis=0)
    rmse = np.mean([np.sqrt(((expected[part] - measured[part]) ** 2).mean(axis=0)) for part in rows], axis=0)
    on = measured > 0
    call = expressed > on.mean(axis=0)
    known = [(call == on)[on[:, g] == kind, g].mean() if (on[:, g] == kind).any() else np.nan
             for g in range(on.shape[1]) for kind in (True, False)]  # fmt: skip
    balanced = np.array(known).reshape(-1, 2).mean(axis=1)
    variance = measured.var(axis=0)
    r2 = 1 - ((expected - measured) ** 2).mean(axis=0) / np.where(variance > 0, variance, np.inf)
    return {"pcc": pcc, "rmse": rmse, "r2": np.where(variance > 0, r2, 0.0), "call_accuracy": balanced,
            "expressed": on.mean(axis=0)}  # fmt: skip


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(G,) Pearson's r of columns; 0 where one is constant."""
    a, b = a - a.mean(axis=0, dtype=np.float64), b - b.mean(axis=0, dtype=np.float64)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.zeros(a.shape[1]), where=scale > 1e-12)


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
