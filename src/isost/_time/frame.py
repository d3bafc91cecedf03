"""One frame of the plane for all sections: where each cell lies in it, such that coupled cells lie together.

Neighbouring sections, along depth and along age, are coupled both ways by unbalanced optimal transport. A cell c of
section i with place x_c is displaced by d_c; if its coupling leads to x_t in section j, then
x_c + d_c = x_t + d_j(x_t), with d_j the mean over the cells nearest to x_t. All these are met in the least squares
together, with displacements that are alike in neighbouring cells, and small; what couplings around a loop disagree by
is spread over it. Any map of the frame meets them as well: it is laid such that at each of its places the mean
displacement of all sections is zero.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import cg
from scipy.spatial import cKDTree
from tqdm.auto import tqdm

from isost._core.checkpoint import Checkpoint
from isost._core.gap import smooth_shift
from isost._core.stack import Stack
from isost._core.tasks import run, threads_for
from isost._core.transport import couple
from isost._logging import logger

_NEAREST, _BESIDE = 4, 8  # cells that a displacement is read from, and that are to be displaced alike
_ALIKE, _SMALL = 10.0, 0.1  # weights of that, and of no displacement at all, beside the couplings
_CENTRED = 3  # rounds
_MOST = 5000  # rounds of the solution


def common_frame(
    stack: Stack, edges: list[tuple[int, int]], *, n_candidates: int, feature_weight: float, show: bool = False,
    checkpoint: Checkpoint | None = None,
) -> np.ndarray:  # fmt: skip
    """Displacements (n, 2) of all cells into the common frame, in the input's unit.

    Parameters
    ----------
    stack
        Sections with features.
    edges
        Pairs of neighbouring sections, that are coupled both ways.
    n_candidates, feature_weight
        Of `couple`.
    show
        Show a bar of the couplings.
    checkpoint
        Keeps couplings as they are made.
    """
    pairs = [*edges, *((j, i) for i, j in edges)]
    sections = [
        (stack.coords[stack.slice_of(k), :2], stack.features[stack.slice_of(k)]) for k in range(stack.n_sections)
    ]
    options = {"n_candidates": n_candidates, "feature_weight": feature_weight}
    kept = checkpoint or Checkpoint(None, {}, resume=True)
    found = [kept.get(f"coupling_{i}_{j}") for i, j in pairs]
    missing = [number for number, one in enumerate(found) if one is None]
    calls = [(*sections[i], *sections[j], options) for i, j in (pairs[number] for number in missing)]
    n_threads = threads_for(max(len(one) for one, _ in sections))
    bar = tqdm(total=len(pairs), initial=len(pairs) - len(missing), desc="isost fit", unit="pair",
               disable=None if show else True)  # fmt: skip
    with bar:
        for done, coupling in run(_coupled, calls, n_threads=n_threads):
            number = missing[done]
            found[number] = coupling
            kept.put("coupling_{}_{}".format(*pairs[number]), coupling)
            bar.update()
    rows, right = [], []
    trees = [cKDTree(places) for places, _ in sections]
    for (i, j), coupling in zip(pairs, found, strict=True):
        assert coupling is not None
        target, root = coupling["target"], np.sqrt(coupling["mass"] / len(coupling["mass"]))
        there = _means(trees[j], target, stack.starts[j], stack.n_cells)
        rows.append(sparse.diags(root) @ (_own(stack, i) - there))
        right.append(root[:, None] * (target - sections[i][0]))
    for k, (places, _) in enumerate(sections):
        beside = _means(trees[k], places, stack.starts[k], stack.n_cells, _BESIDE + 1)
        rows.append(np.sqrt(_ALIKE / len(places)) * (_own(stack, k) - beside))
        right.append(np.zeros((len(places), 2)))
    system, wanted = sparse.vstack(rows, format="csr"), np.concatenate(right)
    normal = system.T @ system + _SMALL / stack.n_cells * sparse.identity(stack.n_cells)
    shift = np.stack([_solved(normal, system.T @ column) for column in wanted.T], axis=1)
    for _ in range(_CENTRED):
        shift = _centred(stack, shift)
    return shift


def _solved(normal: sparse.csr_matrix, right: np.ndarray) -> np.ndarray:
    solution, left = cg(normal, right, rtol=1e-6, maxiter=_MOST, M=sparse.diags(1 / normal.diagonal()))
    if left:
        logger.warning("fit: the common frame did not settle in %d rounds; it is taken as it is", _MOST)
    return solution


def _centred(stack: Stack, shift: np.ndarray) -> np.ndarray:
    """Take out of displacements what is common to all sections about the same place of the frame."""
    place, common = stack.coords[:, :2] + shift, np.zeros_like(shift)
    for k in range(stack.n_sections):
        rows = stack.slice_of(k)
        common += smooth_shift(cKDTree(place[rows]), shift[rows], place) / stack.n_sections
    return shift - common


def _coupled(
    coords: np.ndarray, features: np.ndarray, next_coords: np.ndarray, next_features: np.ndarray, options: dict
) -> dict[str, np.ndarray]:
    found = couple(coords, features, next_coords, next_features, **options)
    return {"target": found.target, "mass": found.mass}


def _own(stack: Stack, section: int) -> sparse.csr_matrix:
    """Pick the rows of a section of all cells."""
    rows = np.arange(stack.starts[section], stack.starts[section + 1])
    return sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), rows)), shape=(len(rows), stack.n_cells))


def _means(tree: cKDTree, places: np.ndarray, first: int, n: int, k: int = _NEAREST) -> sparse.csr_matrix:
    """Mean (m, n) over the cells of a section nearest to places, each the less the farther it is."""
    near_k = np.arange(1, min(k, tree.n) + 1)
    distance, near = tree.query(places, k=near_k)
    weight = np.exp(-0.5 * (2 * distance / np.maximum(distance[:, -1:], 1e-300)) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    ends = np.arange(0, near.size + 1, near.shape[1])
    return sparse.csr_matrix((weight.ravel(), near.ravel() + int(first), ends), shape=(len(places), n))
