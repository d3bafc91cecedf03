from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Literal

import numpy as np
from anndata import AnnData
from spatialdata import SpatialData

from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_number, as_whole
from isost._core.voxels import Voxels, read_voxels
from isost._logging import logger
from isost._tools.annotate import annotate, category_colors
from isost._tools.knn_labels import (
    Space,
    choose_weight,
    knn_probabilities,
    local_means,
    neighbour_graph,
    propagate_labels,
)
from isost._tools.labels_element import checked_key, write_labels
from isost._tools.measured import Measured, read_measured
from isost._tools.targets import CELLS, VOXELS, check_channels, positions_of, representation_of, table_of

Weights = Literal["uniform", "distance"]
_PROPAGATION_NEIGHBOURS = 6  # as many as faces of a voxel


def transfer_labels(
    data: AnnData | SpatialData,
    adata: AnnData,
    *,
    key: str,
    n_neighbors: int = 15,
    weights: Weights = "distance",
    spatial_weight: float | None = None,
    propagate: float = 0.0,
    use_rep: str | None = None,
    spatial_key: str = "spatial",
    section_key: str | None = "section",
    key_added: str | None = None,
    rng: Rng = 0,
) -> None:
    """Carry labels of measured cells over to reconstructed cells and voxels, by their nearest neighbours.

    Neighbours are sought in expression and position together: root mean square distances of both are made equal and
    positions multiplied by `spatial_weight`. The measured cells are brought into the representation of the
    reconstruction. Reconstructed cells are compared with single measured cells. Voxels hold means, and are compared
    with means of the measured cells over their `n_neighbors` nearest in their section; the probabilities of a voxel
    are therefore the shares of labels to be expected there, and its label the most frequent one.

    Parameters
    ----------
    data
        What `isost.tl.reconstruct` made: its tables ``isost_cells`` and ``isost_voxels``, and its voxels, are labelled.
        Or an AnnData with positions in three dimensions and the representation, whose cells are.
    adata
        Measured cells, with labels in ``obs[key]``; those without one are left out. Not changed.
    key
        Column of labels.
    n_neighbors
        Neighbours that vote.
    weights
        ``"distance"``: a neighbour counts by 1 / distance; ``"uniform"``: all alike.
    spatial_weight
        Weight of position beside expression; 0 for expression alone. None: of 0, 0.5, 1, 2 and 4, the one at which
        labels of every second section are told best from those of the others; the log says how well.
    propagate
        Share, at least 0 and below 1, of what the six nearest neighbours in three dimensions say in each
        probability: p = (1 - propagate) p0 + propagate mean(p of neighbours), solved by iteration.
    use_rep
        Key of `obsm`; None for that of the reconstruction (``"X_pca"``).
    spatial_key
        Key of `obsm` of the positions.
    section_key
        Column of `adata.obs` that names sections; without it each distinct depth is one.
    key_added
        Name to write under; None for `key`. In a SpatialData what its names do not take becomes ``_``.
    rng
        Seed or generator, of the cells that weights are tried on.

    Returns
    -------
    None. Writes, in place, into each table:

    `obs[key_added]`
        Categorical, with the categories of the input in their order.
    `obsm[f"{key_added}_probabilities"]`
        DataFrame (n, n_categories) float32, a column a category; rows sum to 1.
    `uns[f"{key_added}_colors"]`
        Colours, the input's where it has them.

    And for a SpatialData the labels element ``isost_<key_added>`` (z, y, x): 0 outside the tissue, k for the k-th
    category, whose names and colours are in ``attrs["isost"]["labels"]``. Where there is no table of voxels, because
    it would be too large, voxels have this alone. It is in memory: ``sdata.write_element`` adds it to a store.

    Raises
    ------
    KeyError
        If the column, a table, positions or the representation are not found.
    TypeError
        If an argument is of another type.
    ValueError
        If there are fewer than two labels, genes of the reconstruction are missing, something else is kept under the
        name, a volume without a table of voxels holds genes, or an option is impossible. Nothing is written then.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=3, n_cells=100, n_genes=20)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=80, epochs=2, progress=False, rng=0)
    >>> isost.tl.transfer_labels(sdata, adata, key="domain")
    >>> sdata.tables["isost_cells"].obs["domain"].cat.categories.tolist()
    ['layer 1', 'layer 2', 'layer 3', 'layer 4', 'nucleus']
    >>> sdata["isost_domain"].dims
    ('z', 'y', 'x')
    """
    started = perf_counter()
    n_neighbors = as_whole("n_neighbors", n_neighbors, 1)
    _check(weights, spatial_weight, propagate)
    volume = data if isinstance(data, SpatialData) else None
    cells = table_of(data, CELLS)
    if use_rep is None:
        use_rep = "X_pca" if volume is None else str(volume.attrs.get("isost", {}).get("use_rep", "X_pca"))
    name, values = checked_key(data, key_added or key), representation_of(cells, use_rep)
    voxels = None if volume is None else _voxels(volume, use_rep)
    measured = read_measured(adata, key, cells, use_rep=use_rep, spatial_key=spatial_key, section_key=section_key)
    colors = category_colors(adata, key, len(measured.names))
    teller = _Teller(measured, n_neighbors, weights, spatial_weight, float(propagate), numpy_generator(rng))
    place = spatial_key if volume is None else "spatial"
    told = teller.of(measured.values, "cells")(values, positions_of(cells, place))
    if volume is not None and voxels is not None:
        means = local_means(measured.values, measured.coords, measured.section, n_neighbors)
        _label_voxels(volume, voxels, name, use_rep, teller.of(means, "voxels"), measured, colors)
    annotate(cells, name, told, measured.names, colors)  # where voxels cannot be labelled, cells are not either
    logger.info("transfer_labels: wrote %r of %d labels; %.1f s", name, len(measured.names), perf_counter() - started)


class _Teller:
    """The classifier with all that was asked for, but what measured cells are compared by."""

    def __init__(
        self, measured: Measured, n_neighbors: int, weights: Weights, spatial_weight: float | None, share: float,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self._measured, self._share, self._rng = measured, share, rng
        self._spatial_weight, self._weights, self._n_neighbors = spatial_weight, weights, n_neighbors

    def of(self, values: np.ndarray, what: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Make a function of values (m, P) and positions (m, 3) that tells probabilities (m, C)."""
        known, n_classes = self._measured, len(self._measured.names)
        space = Space(values, known.coords, self._weight(values, what))
        place = space.place(values, known.coords)

        def tell(asked: np.ndarray, coords: np.ndarray) -> np.ndarray:
            found = knn_probabilities(place, known.codes, space.place(asked, coords), n_classes,
                                      n_neighbors=self._n_neighbors, weights=self._weights)  # fmt: skip
            if self._share:
                found = propagate_labels(found, neighbour_graph(coords, _PROPAGATION_NEIGHBOURS), self._share)
            return found

        return tell

    def _weight(self, values: np.ndarray, what: str) -> float:
        known, fold = self._measured, self._measured.section % 2 == 1
        if self._spatial_weight is not None:
            return float(self._spatial_weight)
        if len(np.unique(fold)) < 2:
            logger.info("transfer_labels: one section alone has labels: spatial_weight=1")
            return 1.0
        weight, right = choose_weight(
            values, known.coords, known.codes, fold, len(known.names), n_neighbors=self._n_neighbors,
            weights=self._weights, rng=self._rng,
        )  # fmt: skip
        logger.info(
            "transfer_labels: %s: spatial_weight=%g, which tells %.0f%% of the cells of left-out sections rightly "
            "(expression alone %.0f%%)", what, weight, 100 * right[weight], 100 * right[0.0],
        )  # fmt: skip
        return weight


def _voxels(sdata: SpatialData, use_rep: str) -> Voxels:
    """Find the voxels, and see that they can be labelled."""
    voxels = read_voxels(sdata)
    if VOXELS in sdata.tables:
        representation_of(sdata.tables[VOXELS], use_rep)
    else:
        check_channels(voxels, use_rep)
    return voxels


def _label_voxels(
    sdata: SpatialData,
    voxels: Voxels,
    name: str,
    use_rep: str,
    tell: Callable[[np.ndarray, np.ndarray], np.ndarray],
    measured: Measured,
    colors: tuple[str, ...],
) -> None:
    index = np.argwhere(voxels.mask)
    table = sdata.tables.get(VOXELS)
    values = voxels.at(voxels.values, index) if table is None else representation_of(table, use_rep)
    probabilities = tell(values, voxels.centres(index))
    write_labels(sdata, voxels, name, probabilities.argmax(axis=1), measured.names, colors)
    if table is not None:
        annotate(table, name, probabilities, measured.names, colors)


def _check(weights: str, spatial_weight: float | None, propagate: float) -> None:
    if weights not in ("uniform", "distance"):
        raise ValueError(f"weights: expected 'uniform' or 'distance', found {weights!r}. Next: leave weights out.")
    if spatial_weight is not None and not 0 <= as_number("spatial_weight", spatial_weight) < np.inf:
        raise ValueError(
            f"spatial_weight: expected 0 or a positive number, found {spatial_weight:g}. Next: leave it out."
        )
    if not 0 <= as_number("propagate", propagate) < 1:
        raise ValueError(f"propagate: expected a share of at least 0 and below 1, found {propagate:g}. Next: 0.5, say.")
