from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, check_adata, show, to_numbers
from isost._core.positions import read_coords
from isost._core.sections import read_sections
from isost._core.stages import align, tissue
from isost._logging import logger

_MANY = 0.02  # of the cells of a stage


def align_stages(
    adata: AnnData,
    *,
    depth_key: str = "age",
    section_key: str | None = "stage",
    spatial_key: str = "spatial",
    use_rep: str | None = "X_pca",
    mirror: bool = False,
    z_key: str | None = None,
    key_added: str = "spatial_stage",
) -> None:
    """Lay stages of development into one frame of the plane: of one middle, one size and one orientation.

    Each stage is centred on the middle of the area that its cells cover and scaled by the root mean square distance of
    that area from it, to the geometric mean of the stages' sizes; cells apart from the tissue, in parts of less than
    5 % of the cells, do not count. Beginning with the second, it is turned such that alike cells (of `use_rep`, as
    local means about that of the stage) of it and of the stage before come nearest together. What is left of growth in
    form, and not in size, is for `isost.tl.fit` to learn. A tissue without any landmark in its expression can be laid
    over itself turned, and half of an embryo over the whole of another: look at the result (`isost.pl.sections`).

    Parameters
    ----------
    adata
        Cells of all stages; not a view.
    depth_key
        Column of `obs` with the age of each cell's stage.
    section_key
        Column of `obs` that names each cell's stage. With None, or without the default column, each distinct age is a
        stage.
    spatial_key
        Key of `obsm` of the positions (n_cells, 2 or 3), of which the first two are taken.
    use_rep
        Key of `obsm` of the representation by which stages are turned. None: they are not turned.
    mirror
        Let stages be mirrored too, where some lay face down.
    z_key
        Of stages of several sections each: column of `obs` of their depths, from a landmark that all stages share (such
        as the middle plane), which are scaled like the plane. The sections of a stage have to be aligned already.
    key_added
        Key that is written.

    Returns
    -------
    None. Writes

    `obsm[key_added]` : (n_cells, 2) float64
        Positions in the common frame, in the input's unit.
    `obs[f"{z_key}_stage"]` : float64
        With a `z_key`: depths in the common frame.
    `uns[key_added]`
        ``stages``, ``ages``, and for each stage its ``centre`` (K, 2), ``size`` (K,) and ``turn`` (K, 2, 2), with the
        common ``size_common``: x in the frame is ``(x - centre) @ turn.T * size_common / size``. `isost.tl.fit` with
        ``spatial_key=key_added`` reads it, so that sections between stages also come in their own size.

    Raises
    ------
    KeyError
        If the representation or the depths are not found.
    TypeError
        If `adata` is no AnnData.
    ValueError
        If `adata` is a view, positions and ages cannot be read (every problem is listed), the representation is not
        finite, or all cells of a stage lie on a line.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=10)
    >>> isost.pp.align_stages(adata)
    >>> adata.uns["spatial_stage"]["size"].round(-2)
    array([ 500.,  700.,  900., 1100., 1500.])
    """
    started = perf_counter()
    check_adata(adata)
    if adata.is_view:
        raise ValueError("adata: expected an AnnData that owns its data, found a view. Next: adata = adata.copy().")
    if use_rep is not None and use_rep not in adata.obsm:
        raise KeyError(
            f"use_rep: expected a key of obsm ({show(adata.obsm)}), found {use_rep!r}. "
            "Next: isost.pp.embed(adata), or use_rep=None for stages that lie alike."
        )
    problems = Problems()
    coords = read_coords(adata, spatial_key, depth_key, problems)
    named = section_key if section_key in adata.obs or section_key != "stage" else None
    sections = read_sections(adata, named, coords, problems)
    if problems or coords is None or sections is None:
        raise problems.error("The stages cannot be read")
    raw: Any = np.zeros((adata.n_obs, 0)) if use_rep is None else adata.obsm[use_rep]
    features = raw.toarray() if sparse.issparse(raw) else np.asarray(raw)
    if not np.isfinite(features).all():
        raise ValueError(f"adata.obsm[{use_rep!r}]: expected finite values, found others. Next: isost.pp.embed(adata).")
    rows = [np.flatnonzero(sections.index == k) for k in range(len(sections.names))]
    flat = [name for name, own in zip(sections.names, rows, strict=True) if not np.ptp(coords[own, :2], axis=0).all()]
    if flat:
        raise ValueError(
            f"adata.obsm[{spatial_key!r}]: expected cells of each stage at different x and y, found the same in "
            f"{show(flat)}. Next: look at its positions."
        )
    for name, own in zip(sections.names, rows, strict=True):
        apart = 1 - len(tissue(coords[own, :2])) / len(own)
        if apart > _MANY:
            logger.warning("stage %s: %.0f%% of the cells lie apart from its tissue; they do not count for its size",
                           name, 100 * apart)  # fmt: skip
    stages = [(coords[own, :2], features[own]) for own in rows]
    depth = None if z_key is None else _depths(adata, z_key)
    poses = align(stages, mirror=mirror, turned=use_rep is not None)
    size = np.array([pose.size for pose in poses])
    common = float(np.exp(np.log(size).mean()))
    placed = np.empty((adata.n_obs, 2))
    for own, pose in zip(rows, poses, strict=True):
        placed[own] = pose.applied(coords[own, :2], common)
        if depth is not None:
            depth[own] *= common / pose.size
    if depth is not None:
        adata.obs[f"{z_key}_stage"] = depth
    adata.obsm[key_added] = placed
    adata.uns[key_added] = {
        "stages": list(sections.names), "ages": sections.depths, "size": size, "size_common": common,
        "centre": np.stack([pose.centre for pose in poses]), "turn": np.stack([pose.turn for pose in poses]),
    }  # fmt: skip
    logger.info("align_stages: wrote obsm[%r], uns[%r]; %d stages, the last %.2g times as large as the first; %.1f s",
                key_added, key_added, len(size), size[-1] / size[0], perf_counter() - started)  # fmt: skip


def _depths(adata: AnnData, z_key: str) -> np.ndarray:
    if z_key not in adata.obs:
        raise KeyError(
            f"z_key: expected a column of obs ({show(adata.obs)}), found {z_key!r}. Next: name one of these."
        )
    depth = to_numbers(adata.obs[z_key])
    if isinstance(depth, list) or not np.isfinite(depth).all():
        found = show(depth) if isinstance(depth, list) else "NaN or infinity"
        raise ValueError(f"adata.obs[{z_key!r}]: expected depths as numbers, found {found}. Next: look at the column.")
    return depth.copy()
