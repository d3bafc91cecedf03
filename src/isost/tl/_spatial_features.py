from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image3DModel
from spatialdata.transformations import get_transformation

from isost._core.requests import as_number, as_whole
from isost._core.voxels import Voxels, read_voxels
from isost._logging import logger
from isost._tools.cell_features import CellFeatures
from isost._tools.features import Reduced, reduce_features
from isost._tools.labels_element import element_name
from isost._tools.targets import VOXELS, positions_of, representation_of, table_of
from isost._tools.volume_features import VolumeFeatures


def spatial_features(
    data: AnnData | SpatialData,
    *,
    sigma: float = 1.5,
    include_unsmoothed: bool = True,
    n_comps: int = 15,
    gradient_weight: float = 0.2,
    position_weight: float = 0.05,
    n_neighbors: int = 30,
    table_key: str = "isost_voxels",
    use_rep: str = "X_pca",
    spatial_key: str = "spatial",
    key_added: str = "X_spatial",
) -> None:
    """Describe every place by what is around it, how that changes, and where it is (Li, Bao et al. 2025; BANKSY).

    Of P components a voxel gets 4 P + 3 features, 203 for the paper's 50: their Gaussian means (P), the gradients of
    these along x, y and z by Sobel's operator (3 P), and its position (3). With `include_unsmoothed` its own values
    come beside them (P), which is the 253 that the paper counts; they keep borders sharp. Principal components of the
    features are what is kept.

    Nothing leaks in from outside the tissue: means and gradients are taken over the voxels inside, a constant stays
    one up to the surface, and a linear field has its true slope there.

    Scaling: means and own values keep the units of the components. Gradients are changes over one standard deviation
    of the smoothing, times `gradient_weight`. Positions, at one scale for x, y and z, have `position_weight` times
    the total variance of the means.

    Parameters
    ----------
    data
        What `isost.tl.reconstruct` made. Or an AnnData with positions in three dimensions, whose cells have no grid:
        then means are over the `n_neighbors` nearest cells in three dimensions, weighted by a Gaussian of half the
        distance of the farthest, and gradients are slopes by weighted least squares among them; along a direction
        in which all neighbours lie at one place, as across a single section, they are 0.
    sigma
        Standard deviation of the Gaussian in voxels; it is cut off at 3.
    include_unsmoothed
        Whether the 253 features, or the 203.
    n_comps
        Principal components to keep; all where there are fewer. The paper keeps 10.
    gradient_weight, position_weight
        See above.
    n_neighbors
        Of a cell without a grid.
    table_key
        ``"isost_voxels"`` for the volume; any other table of the SpatialData, such as ``"isost_cells"``, is taken as
        cells without a grid.
    use_rep, spatial_key
        Keys of `obsm`, of the components and positions of cells without a grid.
    key_added
        Key of `obsm` to write.

    Returns
    -------
    None. Writes, in place:

    `obsm[key_added]` : (n, n_comps) float32
        Of the table. Where the volume has no table, because it would be too large, the image ``isost_spatial`` (or the
        name that `key_added` gives), float32 (c, z, y, x), NaN outside the tissue, in memory.
    `uns[key_added]`
        ``params`` and ``variance_ratio``; in ``attrs["isost"]`` where there is no table.

    Raises
    ------
    KeyError
        If the volume, the table, or a key of `obsm` is not found.
    TypeError
        If `data` is neither, or a number none.
    ValueError
        If `sigma` is not positive, a weight is negative, values are not finite, or something else is kept under the
        name.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> isost.tl.spatial_features(sdata, n_comps=5)
    >>> sdata.tables["isost_voxels"].obsm["X_spatial"].shape[1]
    5
    """
    started = perf_counter()
    _check(sigma, gradient_weight, position_weight)
    _check_key(data, key_added, (use_rep, spatial_key))
    n_comps = as_whole("n_comps", n_comps, 1)
    weights = {"gradient_weight": float(gradient_weight), "position_weight": float(position_weight)}
    params: dict[str, Any] = weights | {"include_unsmoothed": bool(include_unsmoothed)}
    if isinstance(data, SpatialData) and table_key == VOXELS:
        voxels = read_voxels(data)
        source = VolumeFeatures(voxels.values, voxels.mask, sigma=float(sigma), own=include_unsmoothed)
        reduced = reduce_features(source, n_comps, **weights)
        where = _write_voxels(data, voxels, reduced, key_added, params | {"sigma": float(sigma)})
    else:
        table = table_of(data, table_key)
        cells = CellFeatures(
            positions_of(table, spatial_key),
            representation_of(table, use_rep),
            n_neighbors=as_whole("n_neighbors", n_neighbors, 4),
            own=include_unsmoothed,
        )
        reduced = reduce_features(cells, n_comps, **weights)
        where = _write_table(table, reduced, key_added, params | {"n_neighbors": int(n_neighbors)})
    logger.info(
        "spatial_features: wrote %s, %d components of %d features, %.0f%% of their variance; %.1f s",
        where, reduced.scores.shape[1], len(reduced.axes), 100 * reduced.variance_ratio.sum(), perf_counter() - started,
    )  # fmt: skip


def _check(sigma: float, gradient_weight: float, position_weight: float) -> None:
    if not 0 < as_number("sigma", sigma) < 100:
        raise ValueError(f"sigma: expected voxels, above 0 and below 100, found {sigma:g}. Next: leave sigma out.")
    for name, weight in (("gradient_weight", gradient_weight), ("position_weight", position_weight)):
        if not 0 <= as_number(name, weight) < np.inf:
            raise ValueError(f"{name}: expected 0 or a positive number, found {weight:g}. Next: leave {name} out.")


def _check_key(data: AnnData | SpatialData, key: str, read: tuple[str, str]) -> None:
    """Refuse what features are made from, and where a volume has no table, elements that are no features."""
    others: set[str] = set()
    if isinstance(data, SpatialData) and VOXELS not in data.tables:
        made = {told["element"] for told in data.attrs.get("isost", {}).get("features", {}).values()}
        others = {name for _, name, _ in data.gen_elements()} - made
    if key in read or element_name(key.removeprefix("X_")) in others:
        raise ValueError(
            f"key_added: expected a name that nothing else is kept under, found {key!r}. Next: leave key_added out."
        )


def _write_table(table: AnnData, reduced: Reduced, key: str, params: dict[str, Any]) -> str:
    table.obsm[key] = reduced.scores
    table.uns[key] = {"params": params, "variance_ratio": reduced.variance_ratio}
    return f"obsm[{key!r}]"


def _write_voxels(sdata: SpatialData, voxels: Voxels, reduced: Reduced, key: str, params: dict[str, Any]) -> str:
    if VOXELS in sdata.tables and sdata.tables[VOXELS].n_obs == len(reduced.scores):
        return f"tables[{VOXELS!r}].{_write_table(sdata.tables[VOXELS], reduced, key, params)}"
    name = element_name(key.removeprefix("X_"))
    image = np.full((reduced.scores.shape[1], *voxels.shape), np.nan, dtype=np.float32)
    image[:, voxels.mask] = reduced.scores.T
    if name in sdata.images:
        del sdata.images[name]
    place = get_transformation(sdata.images["isost_volume"], "global")
    channels = [f"{key.removeprefix('X_')}{number + 1}" for number in range(len(image))]
    sdata.images[name] = Image3DModel.parse(
        image, dims=("c", "z", "y", "x"), c_coords=channels, transformations={"global": place}
    )
    told = {"element": name, "params": params, "variance_ratio": [float(share) for share in reduced.variance_ratio]}
    run = dict(sdata.attrs.get("isost", {}))
    sdata.attrs["isost"] = run | {"features": dict(run.get("features", {})) | {key: told}}
    return f"images[{name!r}]"
