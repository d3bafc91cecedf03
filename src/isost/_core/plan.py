"""Entropic transport plans between two sections, on the pairs of cells that lie near each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

# Costs count in squared reaches, so this holds whatever the reach: the blur of a plan is a third of it.
_EPSILON = 0.1
_SHORT, _WIDER = 0.5, 4  # share of the mass of a cell below which it gets so many times the candidates
_AT_ONCE = 2**11  # entries of a cost, so that what is compared stays in the processor's cache
_FIRST_ROUNDS = 8  # of the scalings of a section with itself
_TINY = 1e-300
_MOST = 300.0  # logarithm of a scaling


def sinkhorn(
    cost: sparse.csr_matrix, *, epsilon: float, rho: float = np.inf,
    masses: tuple[np.ndarray, np.ndarray] | None = None, n_iter: int = 300, tol: float = 1e-4,
) -> sparse.csr_matrix:  # fmt: skip
    """Entropic optimal transport on a sparse support.

    Minimises <P, C> + epsilon KL(P | a b) + rho KL(P 1 | a) + rho KL(P' 1 | b) over plans on the stored entries of
    ``cost`` (Chizat et al. 2018; ``rho=inf`` is the balanced problem). Memory is linear in the entries.

    Parameters
    ----------
    cost
        ``(n, m)`` CSR; an entry that is not stored cannot carry mass.
    epsilon, rho
        Entropic regularisation and price of mass left out, in the unit of the cost.
    masses
        ``(n,)`` and ``(m,)`` positive masses a and b, each of sum 1; without them every cell weighs the same.
    n_iter, tol
        Sinkhorn iterations at most, and the relative change of the scalings at which they stop.

    Returns
    -------
    The plan, CSR ``(n, m)``, of total mass at most 1.
    """
    n, m = cost.shape
    a, b = masses if masses is not None else (np.full(n, 1 / n), np.full(m, 1 / m))
    scaled = _scale(cost, epsilon, rho, a, b, n_iter=n_iter, tol=tol)
    return sparse.csr_matrix(scaled.kernel.multiply(scaled.left[:, None]).multiply(scaled.right[None, :]))


class _Scaled(NamedTuple):
    """A plan diag(left) kernel diag(right), after so many rounds."""

    kernel: sparse.csr_matrix
    left: np.ndarray
    right: np.ndarray
    rounds: int


def _scale(
    cost: sparse.csr_matrix, epsilon: float, rho: float, a: np.ndarray, b: np.ndarray, *, n_iter: int, tol: float,
    right: np.ndarray | None = None,
) -> _Scaled:  # fmt: skip
    damping = 1.0 if np.isinf(rho) else rho / (rho + epsilon)
    # each row's smallest cost is taken out of the exponent, so that no row underflows whatever the scale of the cost
    least = _row_minima(cost) / epsilon
    gibbs = np.repeat(least, np.diff(cost.indptr))
    gibbs -= cost.data / epsilon
    kernel = sparse.csr_matrix((np.exp(gibbs, out=gibbs), cost.indices, cost.indptr), shape=cost.shape)
    transposed = kernel.T.tocsr()
    taken_out = (damping - 1) * least
    left, right = np.ones(len(a)), np.ones(len(b)) if right is None else right
    first = _FIRST_ROUNDS if a is b else 0
    for _ in range(first):
        # of a section with itself both scalings are alike, and reached much sooner by their geometric mean
        passed = np.log(np.maximum(kernel @ (b * right), _TINY))
        right = np.sqrt(right * _bounded(damping * (least - passed)))
    rounds = first
    for _ in range(n_iter):
        rounds += 1
        before = left
        left = _bounded(taken_out - damping * np.log(np.maximum(kernel @ (b * right), _TINY)))
        right = _bounded(-damping * np.log(np.maximum(transposed @ (a * left), _TINY)))
        if np.abs(left / before - 1).max(initial=0.0) < tol:
            break
    return _Scaled(kernel, a * left, b * right, rounds)


def _bounded(logarithm: np.ndarray) -> np.ndarray:
    """Exponential within what products of two scalings can be: few cells, far from all of the others, ask for more."""
    return np.exp(np.clip(logarithm, -_MOST, _MOST))


def _row_minima(cost: sparse.csr_matrix) -> np.ndarray:
    """Smallest stored entry of each row, 0 for an empty one."""
    minima = np.zeros(cost.shape[0])
    filled = np.flatnonzero(np.diff(cost.indptr))
    if filled.size:
        minima[filled] = np.minimum.reduceat(cost.data, cost.indptr[filled])
    return minima


@dataclass(frozen=True, eq=False)
class Sample:
    """Cells as a plan sees them: ``(n, 2)`` positions, ``(n, P)`` local means, ``(n,)`` masses of sum 1."""

    coords: np.ndarray
    mean: np.ndarray
    mass: np.ndarray

    @classmethod
    def of(cls, coords: np.ndarray, mean: np.ndarray, masses: str) -> Sample:
        return cls(coords, mean, area(coords) if masses == "area" else np.full(len(coords), 1 / len(coords)))


def area(coords: np.ndarray, k: int = 8) -> np.ndarray:
    """Share of the tissue's area about each cell, ``(n,)``: by it a thinner stain of cells is no lack of tissue."""
    k = min(k, len(coords) - 1)
    radius = cKDTree(coords).query(coords, k=[k + 1])[0][:, 0]
    typical = float(np.median(radius))
    if typical == 0.0:
        # Most cells lie on top of as many others, as where many share a spot: their distances tell no area.
        return np.full(len(coords), 1 / len(coords))
    share = np.clip(radius / typical, 0.1**0.5, 2.0) ** 2
    return share / share.sum()


def barycentre(
    here: Sample, there: Sample, reach: float, weight: float, n_candidates: int, rho: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean position in the next section that a plan sends each cell to, and the share of its mass that arrives.

    The unbalanced plan is on the nearest candidates, in both directions so that no cell of the next section is left
    out. Cells that lose more than half of their mass are asked again with more candidates.

    Parameters
    ----------
    here, there
        n cells and those of the next section.
    reach
        Unit of the distances that cells go.
    weight
        Of the squared difference of local means beside the squared distance.
    n_candidates
        Nearest cells of the next section.
    rho
        Price of mass left out.
    """
    near = _Near(here.coords, there.coords, n_candidates)
    rows, columns = near.pairs()
    cost = _cost(here, there, rows, columns, reach, weight)
    target, mass, right = _mean_target(here, there, rows, columns, cost, rho)
    short = np.flatnonzero(mass < _SHORT)
    if short.size and near.widen(short):
        # what has lost mass may find a place further off
        rows, columns = near.pairs()
        cost = _cost(here, there, rows, columns, reach, weight)
        target, mass, _ = _mean_target(here, there, rows, columns, cost, rho, right)
    return target, mass


class _Near:
    """Pairs of cells of two sections that lie near each other, seen from either."""

    def __init__(self, here: np.ndarray, there: np.ndarray, n_candidates: int) -> None:
        self._here, self._tree = here, cKDTree(there)
        n, m = len(here), len(there)
        self._k, back = min(n_candidates, m), min(n_candidates // 4 + 1, n)
        distance, ahead = self._tree.query(here, k=np.arange(1, self._k + 1))
        self._ahead = ahead.astype(np.int32)  # there are many, and no section has 2 ** 31 cells
        self._farthest = distance[:, -1]
        if here is there:
            away, behind = distance[:, :back], self._ahead[:, :back]
        else:
            away, behind = cKDTree(here).query(there, k=np.arange(1, back + 1))
        self._away, self._behind = away.ravel(), behind.astype(np.int32).ravel()
        self._wide: tuple[np.ndarray, np.ndarray] | None = None

    def widen(self, short: np.ndarray) -> bool:
        """Take more candidates of some cells, if there are any."""
        m = self._tree.n
        if self._k == m:
            return False
        distance, wider = self._tree.query(self._here[short], k=np.arange(1, min(_WIDER * self._k, m) + 1))
        # just beyond, as the farthest itself is among them
        self._farthest[short] = np.nextafter(distance[:, -1], np.inf)
        self._wide = short.astype(np.int32), wider.astype(np.int32)
        return True

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows, rising, and columns of all pairs, each once."""
        plain, known = np.arange(len(self._here), dtype=np.int32), self._ahead
        found: list[tuple[np.ndarray, np.ndarray]] = []
        if self._wide:
            plain = np.delete(plain, self._wide[0])
            found.append(self._wide)
        found.append((plain, known[plain]))
        rows, columns = [np.repeat(row, near.shape[1]) for row, near in found], [near.ravel() for _, near in found]
        # what is seen from behind only lies further off than all that is seen ahead, but for ties
        other = np.flatnonzero(self._away >= self._farthest[self._behind])
        row, column = self._behind[other], (other // (len(self._behind) // self._tree.n)).astype(np.int32)
        fresh = ~(known[row] == column[:, None]).any(axis=1)
        all_rows = np.concatenate([*rows, row[fresh]])
        order = np.argsort(all_rows, kind="stable")
        return all_rows[order], np.concatenate([*columns, column[fresh]])[order]


def _cost(
    here: Sample, there: Sample, rows: np.ndarray, columns: np.ndarray, reach: float, weight: float
) -> np.ndarray:
    """Cost of each pair, in squared reaches."""
    cost = ((here.coords[rows] - there.coords[columns]) ** 2).sum(axis=1, dtype=np.float64) / (2 * reach**2)
    for first in range(0, len(rows) if weight else 0, _AT_ONCE):
        block = slice(first, first + _AT_ONCE)
        off = here.mean[rows[block]]
        off -= there.mean[columns[block]]
        cost[block] += weight * np.einsum("ij,ij->i", off, off)
    return cost


def _mean_target(
    here: Sample, there: Sample, rows: np.ndarray, columns: np.ndarray, cost: np.ndarray, rho: float,
    right: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Mean target and share of the mass of each cell, and the scalings of the next section, to begin another with."""
    n, m = len(here.coords), len(there.coords)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
    # Spreading over few cells has a price of its own under the entropy. Taken off at the median cell, what mass is
    # still left out is left out for want of a place.
    least = np.minimum.reduceat(cost, starts[:-1])
    spread = np.add.reduceat(np.exp((least[rows] - cost) / _EPSILON), starts[:-1])
    cost = cost + np.median(_EPSILON * np.log(spread / m) - least)
    matrix = sparse.csr_matrix((cost, columns, starts), shape=(n, m))
    plan = _scale(matrix, _EPSILON, rho, here.mass, there.mass, n_iter=100, tol=1e-3, right=right)
    reached = plan.kernel @ np.column_stack([plan.right, plan.right[:, None] * there.coords])
    mass = plan.left * reached[:, 0] / here.mass
    return reached[:, 1:] / np.maximum(reached[:, :1], _TINY), mass, plan.right / there.mass
