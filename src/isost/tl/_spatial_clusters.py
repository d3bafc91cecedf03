from __future__ import annotations

from time import perf_counter
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.checks import show
from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_number, as_whole
from isost._core.voxels import Voxels, full_resolution, read_voxels
from isost._logging import logger
from isost._tools.annotate import annotate
from isost._tools.clusters import leiden_clusters, load_igraph, mixture_clusters
from isost._tools.labels_element import checked_key, write_labels
from isost._tools.mixture import STARTED_ON
from isost._tools.targets import VOXELS, check_channels, positions_of, representation_of, table_of
from isost.pl._palette import palette
from isost.tl._spatial_features import spatial_features


def spatial_clusters(
    data: AnnData | SpatialData,
    *,
    method: Literal["mixture", "leiden"] = "mixture",
    n_clusters: int | None = None,
    resolution: float = 1.0,
    n_iterations: int = 2,
    n_neighbors: int = 15,
    n_landmarks: int = 20_000,
    table_key: str = "isost_voxels",
    use_rep: str = "X_spatial",
    spatial_key: str = "spatial",
    key_added: str = "spatial_clusters",
    rng: Rng = 0,
) -> None:
    """Divide the tissue into spatial domains: clusters of its spatial features.

    ``use_rep="X_pca"`` clusters the components themselves in the same way, without a look at what is around: the
    non-spatial clustering to compare with, under another `key_added`.

    Parameters
    ----------
    data
        What `isost.tl.reconstruct` made, or an AnnData with positions in three dimensions.
    method
        ``"mixture"``: Gaussians that share one covariance, fitted by expectation-maximisation from many starts; it
        takes gradients that run through all domains into the covariance. ``"leiden"``: communities of the unweighted
        graph of nearest neighbours, by igraph (``pip install 'isost[leiden]'``; igraph is under the GPL).
    n_clusters
        Of the mixture; where it is known, give it. None: of 2 to 10, the largest whose clusters stand apart, with 0.8
        times as many places or fewer in the middle between any two clusters as in them; the log says where no number
        does so. No labels are used. Look at the valleys in ``uns``: near 1, what is divided changes gradually. What
        changes gradually but dwells at its extremes, as waves do, can stand apart too. Clusters of fewer than 1 % of
        the places are not looked for; of fewer than 80 places, or landmarks, all are one.
    resolution, n_iterations, n_neighbors
        Of Leiden: resolution of the modularity, iterations, and neighbours of a place in the graph.
    n_landmarks
        Places, drawn at random, that clusters are found among; all others follow. The mixture labels them by itself,
        Leiden through the `n_neighbors` nearest landmarks.
    table_key
        ``"isost_voxels"`` for the volume, or another table of the SpatialData.
    use_rep
        Key of `obsm`. Where ``"X_spatial"`` is not there yet, `isost.tl.spatial_features` makes it with its defaults.
    spatial_key
        Key of `obsm` of the positions.
    key_added
        Name to write under.
    rng
        Seed or generator.

    Returns
    -------
    None. Writes, in place:

    `obs[key_added]`
        Categorical ``"0"``, ``"1"``, ... from the largest cluster to the smallest.
    `uns[key_added]`
        ``params``, and ``valley``, the criterion for each number of clusters that was tried.
    `uns[f"{key_added}_colors"]`
        Colours that stay apart for colour-blind readers.

    And for voxels the labels element ``isost_<key_added>`` (z, y, x), 0 outside the tissue and k + 1 for cluster k,
    whose names and colours are in ``attrs["isost"]["labels"]``: where there is no table of voxels, this alone.
    `isost.pl.clusters` plots it, `isost.metrics.label_agreement` and `isost.metrics.plane_consistency` score it.

    Raises
    ------
    ImportError
        If Leiden is asked for and igraph is not installed.
    KeyError
        If a table, positions or the representation are not found.
    TypeError
        If an argument is of another type.
    ValueError
        If an option is impossible, something else is kept under the name, or a volume without a table of voxels holds
        genes.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=100, n_genes=20)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=80, epochs=2, progress=False, rng=0)
    >>> isost.tl.spatial_clusters(sdata, n_clusters=4)
    >>> sdata.tables["isost_voxels"].obs["spatial_clusters"].cat.categories.tolist()
    ['0', '1', '2', '3']
    """
    started = perf_counter()
    _check(method, resolution)
    generator, n_landmarks = numpy_generator(rng), as_whole("n_landmarks", n_landmarks, 10)
    leiden = {"n_iterations": as_whole("n_iterations", n_iterations, 1),
              "n_neighbors": as_whole("n_neighbors", n_neighbors, 1)}  # fmt: skip
    voxels = read_voxels(data) if isinstance(data, SpatialData) and table_key == VOXELS else None
    table, n_places = _places(data, voxels, table_key, spatial_key)
    key_added = checked_key(data, key_added)
    if method == "leiden":
        load_igraph()
    else:
        _check_number(n_clusters, n_places, n_landmarks)
    # from here on features are written where there are none yet: whatever is wrong with the arguments was found before
    x = _representation(data, voxels, table, table_key, use_rep, spatial_key)
    params: dict[str, Any] = {"method": method, "use_rep": use_rep, "n_landmarks": n_landmarks}
    valleys: dict[int, float] = {}
    if method == "leiden":
        codes = leiden_clusters(x, resolution=resolution, n_landmarks=n_landmarks, rng=generator, **leiden)
        params |= leiden | {"resolution": float(resolution)}
    else:
        codes, valleys = mixture_clusters(x, n_clusters=n_clusters, n_landmarks=n_landmarks, rng=generator)
    names = [str(number) for number in range(int(codes.max()) + 1)]
    colors = palette(len(names))
    if voxels is not None and isinstance(data, SpatialData):
        write_labels(data, voxels, key_added, codes, names, colors)
    if table is not None:
        annotate(table, key_added, codes, names, colors)
        tried = {"valley": {str(number): share for number, share in valleys.items()}}
        table.uns[key_added] = {"params": params} | (tried if valleys else {})
    logger.info("spatial_clusters: wrote %r, %d clusters of %d places; %.1f s", key_added, len(names), len(codes),
                perf_counter() - started)  # fmt: skip


def _check(method: str, resolution: float) -> None:
    if method not in ("mixture", "leiden"):
        raise ValueError(f"method: expected 'mixture' or 'leiden', found {method!r}. Next: leave method out.")
    if not 0 < as_number("resolution", resolution) < np.inf:
        raise ValueError(f"resolution: expected a positive number, found {resolution:g}. Next: resolution=1.0.")


def _check_number(n_clusters: int | None, n_places: int, n_landmarks: int) -> None:
    most = min(n_places, n_landmarks, STARTED_ON)
    if n_clusters is not None and as_whole("n_clusters", n_clusters, 1) > most:
        raise ValueError(
            f"n_clusters: expected {most} or less, the fewest of {n_places} places, {n_landmarks} landmarks and "
            f"{STARTED_ON}, found {n_clusters}. Next: leave it out to have it chosen."
        )


def _places(
    data: AnnData | SpatialData, voxels: Voxels | None, table_key: str, spatial_key: str
) -> tuple[AnnData | None, int]:
    """Look up the table, where there is one, and count the places."""
    if voxels is not None and isinstance(data, SpatialData) and VOXELS not in data.tables:
        return None, int(voxels.mask.sum())
    table = table_of(data, table_key)
    return table, len(positions_of(table, spatial_key))


def _representation(
    data: AnnData | SpatialData, voxels: Voxels | None, table: AnnData | None, table_key: str, use_rep: str,
    spatial_key: str,
) -> np.ndarray:  # fmt: skip
    """Look up the representation (n, q); spatial features are made where there are none yet."""
    if table is not None:
        if use_rep == "X_spatial" and use_rep not in table.obsm:
            spatial_features(data, table_key=table_key, spatial_key=spatial_key)
        return representation_of(table, use_rep)
    assert voxels is not None and isinstance(data, SpatialData)  # nothing else is without a table
    index = np.argwhere(voxels.mask)
    if use_rep == str(voxels.run.get("use_rep", "X_pca")):
        check_channels(voxels, use_rep)
        return voxels.at(voxels.values, index)
    if use_rep == "X_spatial" and "isost_spatial" not in data.images:
        spatial_features(data, table_key=table_key, spatial_key=spatial_key)
    known = dict(data.attrs.get("isost", {}).get("features", {}))
    if use_rep not in known:
        raise KeyError(
            f"use_rep: expected features of the volume ({show(known)}), found {use_rep!r}. "
            "Next: isost.tl.spatial_features(sdata) makes 'X_spatial'."
        )
    return voxels.at(full_resolution(data, "images", known[use_rep]["element"]).data, index)
