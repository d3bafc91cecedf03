from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from anndata import AnnData
from spatialdata import SpatialData

from isost._core.export import write_zarr
from isost._core.folder import absolute_path, check_apart, check_target
from isost._core.grid import make_grid
from isost._core.random import Rng, torch_generator
from isost._core.requests import check_kind, checked_genes
from isost._core.stack import Stack, check_stack, read_stack
from isost._logging import logger
from isost.pp._embed import embed
from isost.reconstruction import Reconstruction
from isost.tl._fit import checked_options, fit, fit_read

_READING = ("section_key", "spatial_key", "depth_key", "use_rep")
_FITTING = ("objective", "preset", "device", "progress")


def reconstruct(
    adata: AnnData | None,
    *,
    voxel_size: float | None = None,
    genes: str | Sequence[str] | None = None,
    volume: Literal["field", "cells"] = "field",
    max_memory: float | None = None,
    fitted: Reconstruction | None = None,
    output: str | os.PathLike[str] | None = None,
    save_model: str | os.PathLike[str] | None = None,
    rng: Rng = None,
    **fit_options: Any,
) -> SpatialData:
    """Turn a stack of sections into an isotropic 3D volume of expression with single cells.

    With nothing else said it finds sections and depths, embeds a copy where there is no ``obsm["X_pca"]`` (see
    `isost.pp.embed`), fits (see `isost.tl.fit`) on the GPU where there is one, and chooses a voxel size that suits the
    distances of cells and sections and fits into memory. What cannot be done is said before the fit begins.

    Parameters
    ----------
    adata
        Cells of all sections; not changed. None will do where `fitted` is given.
    voxel_size
        Edge of a voxel in the input's unit; None to have it chosen.
    genes
        Genes to have as channels of the volume and in ``X`` of the tables. None: the volume holds the features, from
        which `isost.get.gene` decodes any gene lazily.
    volume
        ``"field"``: the best estimate of mean expression at each voxel. ``"cells"``: the paper's, the mean of one
        realisation's cells in each voxel (eq 10).
    max_memory
        GiB that the result may take; None for half of the machine's memory.
    fitted
        What `isost.tl.fit` returned, to make a volume without fitting again.
    output
        New zarr store to write. The result is then opened from there, lazily. If making or writing it fails, the fit
        is saved beside it, and the log says where.
    save_model
        New folder for the fit, for `Reconstruction.load`; written before the volume is made. Not inside `output`.
    rng
        Seed or generator, of the fit and of the cells that are drawn.
    **fit_options
        Parameters of `isost.tl.fit`: ``section_key``, ``spatial_key``, ``depth_key``, ``use_rep``, ``objective``,
        ``preset``, ``device``, ``progress``, ``epochs`` and so on.

    Returns
    -------
    spatialdata.SpatialData
        Elements as in `Reconstruction.to_spatialdata`, coordinate system "global" in the input's unit.

    Raises
    ------
    FileExistsError
        If `output` or `save_model` exists.
    KeyError
        If a gene is unknown.
    TypeError
        If an option is unknown, or options of a fit are given together with `fitted`.
    ValueError
        If the stack cannot be read, `fitted` is of other cells, the volume does not fit into memory, or one of `output`
        and `save_model` lies in the other.
    OSError
        If `output` or `save_model` cannot be written; nothing is left there then.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> sdata["isost_volume"]["scale0"].image.dims
    ('c', 'z', 'y', 'x')
    >>> sdata.tables["isost_cells"].obsm["spatial"].shape[1]
    3
    """
    started = perf_counter()
    check_kind(volume)
    check_apart(output=output, save_model=save_model)
    for path in (output, save_model):
        if path is not None:
            check_target(path)
    generator = torch_generator(rng)
    if fitted is not None:
        _check_fitted(fitted, adata, fit_options)
        voxel_size = _checked_request(fitted.stack, voxel_size, genes, max_memory)
        kept: AbstractContextManager[None] = nullcontext()
    else:
        reading, fitting, rest = _split(fit_options)
        options = checked_options(rest)
        stack = _read(adata, reading, generator)
        voxel_size = _checked_request(stack, voxel_size, genes, max_memory)
        fitted = fit_read(stack, options, rng=generator, **fitting)
        kept = _keeping(fitted, output, save_model)
    with kept:
        if save_model is not None:
            # first what took longest, so that a failure further on does not lose it
            fitted.save(save_model)
        sdata = fitted.to_spatialdata(voxel_size, genes=genes, volume=volume, max_memory=max_memory, rng=generator)
        written = f"made {', '.join(name for _, name, _ in sdata.gen_elements())}"
        if output is not None:
            sdata = write_zarr(sdata, output)
            written += f"; wrote {os.fspath(output)}"
    _log_end(sdata, perf_counter() - started, written)
    return sdata


def _checked_request(
    stack: Stack, voxel_size: float | None, genes: str | Sequence[str] | None, max_memory: float | None
) -> float:
    """Check what is asked of the volume; return the size of its voxels."""
    asked, _ = checked_genes(stack, genes)
    n_channels = stack.n_scores if asked is None else len(asked)
    return make_grid(stack, voxel_size, n_channels=n_channels, max_memory=max_memory).voxel_size


@contextmanager
def _keeping(
    fitted: Reconstruction, output: str | os.PathLike[str] | None, save_model: str | os.PathLike[str] | None
) -> Iterator[None]:
    """Save the fit beside the outputs if what follows fails, unless it has been saved already."""
    try:
        yield
    except BaseException:  # Ctrl-C too
        beside = output if output is not None else save_model
        if beside is not None and not (save_model is not None and absolute_path(save_model).exists()):
            _save_beside(fitted, absolute_path(beside))
        raise


def _save_beside(fitted: Reconstruction, target: Path) -> None:
    names = (f"{target.stem}_fit{f'_{number}' if number > 1 else ''}" for number in itertools.count(1))
    path = next(path for path in map(target.with_name, names) if not path.exists())
    try:
        fitted.save(path)
    except OSError as error:
        logger.error("reconstruct: failed, and the fit could not be saved either: %s", error)
    else:
        logger.error(
            "reconstruct: failed, but the fit is kept. Next: "
            "isost.tl.reconstruct(None, fitted=isost.Reconstruction.load(%r), output=...)", str(path),
        )  # fmt: skip


def _check_fitted(fitted: Reconstruction, adata: AnnData | None, fit_options: dict[str, Any]) -> None:
    if not isinstance(fitted, Reconstruction):
        raise TypeError(
            f"fitted: expected what isost.tl.fit returns, found {type(fitted).__name__}. Next: leave fitted out."
        )
    if fit_options:
        raise TypeError(
            f"Expected no options of a fit together with fitted, found {', '.join(fit_options)}. Next: leave them out."
        )
    if adata is not None and set(fitted.stack.obs_names) - set(adata.obs_names):
        raise ValueError(
            "fitted: expected a fit of the cells of adata, found one with others. Next: leave adata or fitted out."
        )


def _split(fit_options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """How to read, how to fit (with the defaults of `fit`), and the other options."""
    defaults = inspect.signature(fit).parameters
    groups = [{key: fit_options.get(key, defaults[key].default) for key in keys} for keys in (_READING, _FITTING)]
    return groups[0], groups[1], {key: fit_options[key] for key in fit_options if key not in _READING + _FITTING}


def _read(adata: AnnData | None, reading: dict[str, Any], rng: Rng) -> Stack:
    """Read the stack, from an embedded copy where there is no embedding yet."""
    if isinstance(adata, AnnData) and reading["use_rep"] == "X_pca" and "X_pca" not in adata.obsm:
        geometry = {key: value for key, value in reading.items() if key != "use_rep"}
        check_stack(adata, **geometry)
        logger.info("no obsm['X_pca']: a copy is embedded by isost.pp.embed")
        adata = _copy_of_what_is_needed(adata, **geometry)
        embed(adata, rng=rng)
    return read_stack(adata, **reading)


def _copy_of_what_is_needed(
    adata: AnnData, section_key: str | None, spatial_key: str, depth_key: str | None
) -> AnnData:
    """Make an AnnData that shares X and has what the stack is read from."""
    columns = [key for key in (section_key, depth_key) if key in adata.obs]
    return AnnData(
        X=adata.X[:] if adata.isbacked else adata.X,
        obs=adata.obs[columns].copy(),
        var=adata.var[[key for key in ("highly_variable",) if key in adata.var]].copy(),
        obsm={spatial_key: adata.obsm[spatial_key]},
        uns={key: adata.uns[key] for key in ("spatial_unit",) if key in adata.uns},
    )


def _log_end(sdata: SpatialData, seconds: float, written: str) -> None:
    run = sdata.attrs["isost"]
    logger.info(
        "reconstruct: %.1f s; %s voxels (z, y, x) of %g %s, %d cells; %s",
        seconds, " x ".join(map(str, run["shape"])), run["voxel_size"], run["unit"],
        sdata.tables["isost_cells"].n_obs, written,
    )  # fmt: skip
