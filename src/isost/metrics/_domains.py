from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
)

from isost._core.checks import to_numbers
from isost._core.graph import neighbours
from isost._core.requests import as_whole

_SCORES = {
    "nmi": normalized_mutual_info_score,
    "homogeneity": homogeneity_score,
    "completeness": completeness_score,
    "ari": adjusted_rand_score,
}


def domains(
    found: np.ndarray | pd.Series | Sequence[object],
    truth: np.ndarray | pd.Series | Sequence[object] | None,
    *,
    coords: np.ndarray | None = None,
    sample: np.ndarray | pd.Series | Sequence[object] | None = None,
    n_neighbors: int = 6,
) -> dict[str, float]:
    """Score spatial domains: how far they agree with known ones, and how coherent they are in space.

    Parameters
    ----------
    found
        (n,) domains that were found, of any type that compares; what they are called does not matter.
    truth
        (n,) known domains of the same places; None for the coherence alone. Places that lack either label (None, NaN or
        ``pandas.NA``) are left out of the agreement.
    coords
        (n, d) positions; None leaves the coherence out.
    sample
        (n,) section or sample of each place: neighbours are looked for within it. None takes all places as one.
    n_neighbors
        Nearest neighbours that each place is compared with; in a smaller sample all others.

    Returns
    -------
    dict
        With a `truth`, ``"nmi"``: normalised mutual information, 0 (they say nothing of each other) to 1 (the same up
        to names). ``"homogeneity"``: 1 where every found domain lies in one known domain only, however many there are.
        ``"completeness"``: 1 where every known domain lies in one found domain only. ``"ari"``: adjusted Rand index, 0
        for domains at random, 1 for the same. They are those of scikit-learn.

        With `coords`, ``"coherence"``: the mean, over places with a found domain, of the share of their nearest
        neighbours of the same domain. A single domain has 1, so read it beside the agreement.

    Raises
    ------
    TypeError
        If `coords` are no numbers, or `n_neighbors` is no whole number.
    ValueError
        If lengths differ, two Series name other places or the same in another order, no place has the labels that are
        compared, `coords` are not finite, a place has no sample, or neither `truth` nor `coords` are given.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=200, n_genes=10)
    >>> domain, xy = adata.obs["domain"], adata.obsm["spatial"][:, :2]
    >>> scores = isost.metrics.domains(domain, domain, coords=xy, sample=adata.obs["section"])
    >>> round(scores["nmi"], 6), 0.7 < scores["coherence"] < 0.9
    (1.0, True)
    """
    codes = _codes("found", found)
    if truth is None and coords is None:
        raise ValueError("truth: expected labels, or coords for the coherence, found neither. Next: pass coords=xy.")
    if not (codes >= 0).any():
        raise ValueError(
            f"found: expected domains, found none in {len(codes)} places. Next: isost.tl.spatial_domains(adata) "
            "writes obs['spatial_domain']."
        )
    part = np.zeros(len(codes), dtype=np.int64) if sample is None else _codes("sample", sample, len(codes))
    _check_same("sample", sample, found)
    scores = {}
    if truth is not None:
        known = _codes("truth", truth, len(codes))
        _check_same("truth", truth, found)
        both = (codes >= 0) & (known >= 0)
        if not both.any():
            raise ValueError(
                f"truth: expected places with both labels, found none in {len(codes)}. "
                "Next: pass two columns of one table, or truth=None."
            )
        scores = {name: float(score(known[both], codes[both])) for name, score in _SCORES.items()}
    if coords is not None:
        n_neighbors = as_whole("n_neighbors", n_neighbors, 1)
        scores["coherence"] = _coherence(codes, _places(coords, len(codes)), part, n_neighbors)
    return scores


def _codes(name: str, labels: object, n: int | None = None) -> np.ndarray:
    """Numbers (n,) of labels, -1 for missing ones."""
    if np.ndim(labels) != 1:  # type: ignore[arg-type]
        raise ValueError(f"{name}: expected one label for every place, found {np.ndim(labels)} dimensions. "  # type: ignore[arg-type]
                         "Next: pass a column, such as adata.obs['spatial_domain'].")  # fmt: skip
    column = labels if isinstance(labels, pd.Categorical) else pd.Series(labels, dtype=object).to_numpy()
    if n is not None and len(column) != n:
        raise ValueError(
            f"{name}: expected a label for each of {n} places, found {len(column)}. Next: pass columns of one table."
        )
    codes = pd.factorize(column)[0]
    if name == "sample" and (codes < 0).any():
        raise ValueError(
            f"sample: expected one for every place, found {(codes < 0).sum()} without. Next: leave these places out."
        )
    return np.asarray(codes)


def _check_same(name: str, labels: object, found: object) -> None:
    """Refuse two Series of other places: they are compared row by row."""
    if not isinstance(labels, pd.Series) or not isinstance(found, pd.Series) or labels.index.equals(found.index):
        return
    differing = labels.index.to_numpy(dtype=object) != found.index.to_numpy(dtype=object)
    if not differing.any():  # of another type alone
        return
    row = int(np.argmax(differing))
    raise ValueError(
        f"{name}: expected labels of the same cells in the same order as found, found {labels.index[row]!r} in row "
        f"{row}, where found has {found.index[row]!r}. Next: {name}.loc[found.index], or {name}.to_numpy() where rows "
        "correspond."
    )


def _places(coords: np.ndarray, n: int) -> np.ndarray:
    try:
        places = to_numbers(coords)
    except ValueError:  # rows of different lengths
        places = ["rows of different lengths"]
    if isinstance(places, list):
        raise TypeError(f"coords: expected numbers (n, d), found {places[0]!r}. Next: adata.obsm['spatial'][:, :2].")
    if places.ndim != 2 or len(places) != n or not places.shape[1]:
        raise ValueError(
            f"coords: expected shape ({n}, d), found {places.shape}. Next: adata.obsm['spatial'][:, :2], for instance."
        )
    bad = int((~np.isfinite(places)).any(axis=1).sum())
    if bad:
        raise ValueError(f"coords: expected finite positions, found {bad} of {n} without. Next: leave these out.")
    return places


def _coherence(codes: np.ndarray, places: np.ndarray, sample: np.ndarray, k: int) -> float:
    shares = []
    for number in np.unique(sample):
        here = np.flatnonzero((sample == number) & (codes >= 0))
        if len(here) > 1:
            near = neighbours(torch.from_numpy(places[here]), k).numpy()
            shares.append((codes[here][near] == codes[here][:, None]).mean(axis=1))
    return float(np.concatenate(shares).mean()) if shares else float("nan")
