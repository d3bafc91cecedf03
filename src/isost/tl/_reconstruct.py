from __future__ import annotations

import inspect
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from anndata import AnnData
from spatialdata import SpatialData

from isost._core.folder import absolute_path, check_apart, check_target
from isost._core.lazy import as_dask, is_lazy, opened
from isost._core.partial import Partial
from isost._core.random import Rng
from isost._core.requests import check_kind, check_one_tissue, checked_genes
from isost._core.stack import Stack, check_stack, read_stack
from isost._core.trust import WEIGHT_KEY
from isost._logging import logger
from isost.pp._embed import embed
from isost.reconstruction import Reconstruction
from isost.tl._fit import as_images, checked_options, fit, fit_read
from isost.tl._stream import Asked, fit_call, generator_of, stream

_READING = ("section_key", "spatial_key", "depth_key", "use_rep")
_FITTING = ("images", "objective", "preset", "device", "devices", "progress")


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
    resume: bool = False,
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
        GiB that the result may take; None for half of the machine's memory. With `output` the volume is streamed to
        the file and only has to fit there; then this bounds the slabs that are made at once (by default 256 MiB each,
        one on every thread), down to a plane each, beside the stack and the gaps that the slabs lie in.
    fitted
        What `isost.tl.fit` returned, to make a volume without fitting again.
    output
        New zarr store to write, slab by slab, as tasks of the active ``dask.distributed`` client where there is one.
        The result is opened from there, lazily. Until it is complete, what is done lies in a folder beside it,
        ``<output>.partial``, which stays if the work is interrupted or fails.
    save_model
        New folder for the fit, for `Reconstruction.load`; written before the volume is made. Not inside `output`.
    resume
        Repeat an interrupted call, with the same data, options and seed, to go on from ``<output>.partial``: the
        result is that of a call that was not interrupted. Where `output` is complete, it is opened.
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
        If `output` or `save_model` exists, or an unfinished run beside `output` and `resume` is False.
    KeyError
        If a gene is unknown.
    TypeError
        If an option is unknown, or options of a fit are given together with `fitted`.
    ValueError
        If the stack cannot be read, `fitted` is of other cells, the volume does not fit into memory or on the disk,
        one of `output` and `save_model` lies in the other, `resume` lacks an `output`, or the interrupted call was
        another.
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
    started, show = perf_counter(), bool(fit_options.get("progress", True))
    check_kind(volume)
    check_apart(output=output, save_model=save_model)
    if resume and output is None:
        raise ValueError("resume: expected the output of the interrupted call, found none. Next: pass output=...")
    partial = None if output is None else Partial(output, resume=resume)
    if save_model is not None and not (partial and partial.has_fit and absolute_path(save_model).exists()):
        check_target(save_model)
    generator, begun = generator_of(partial, rng)
    fitting: dict[str, Any] = {}
    if fitted is not None:
        fit_options.pop("progress", None)
        _check_fitted(fitted, adata, fit_options)
        stack = fitted.stack
    else:
        reading, fitting, rest = _split(fit_options)
        fitting |= {"options": checked_options(rest), "images": as_images(fitting["images"])}
        stack = _read(adata, reading, generator)
    check_one_tissue(stack)
    asked = Asked(voxel_size, *checked_genes(stack, genes), volume, max_memory)
    size = asked.size(stack, partial, begun)
    if partial is None:
        fitted = fitted or fit_read(stack, rng=generator, **fitting)
        with _keeping(fitted, save_model):
            if save_model is not None:
                # first what took longest, so that a failure further on does not lose it
                fitted.save(save_model)
            sdata = fitted.to_spatialdata(size, genes=genes, volume=volume, max_memory=max_memory, rng=generator)
    else:
        call = asked.call() | {"rng": rng if isinstance(rng, int) else None} | fit_call(stack, fitted, fitting)
        sdata = stream(partial, call, begun | {"voxel_size": size}, asked, stack, fitted, fitting, generator,
                       save_model=save_model, show=show)  # fmt: skip
    _log_end(sdata, perf_counter() - started, output)
    return sdata


@contextmanager
def _keeping(fitted: Reconstruction, save_model: str | os.PathLike[str] | None) -> Iterator[None]:
    """Save the fit beside `save_model` if that fails."""
    try:
        yield
    except BaseException:  # Ctrl-C too
        if save_model is not None and not absolute_path(save_model).exists():
            _save_beside(fitted, absolute_path(save_model))
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
            "isost.tl.reconstruct(None, fitted=isost.Reconstruction.load(%r))", str(path),
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
    """Make an AnnData that shares X, as dask where it is on disk, and has what the stack is read from."""
    adata = opened(adata, obsm=(spatial_key,))
    columns = [key for key in (section_key, depth_key, WEIGHT_KEY) if key in adata.obs]
    return AnnData(
        X=as_dask(adata.X) if is_lazy(adata.X) else adata.X,
        obs=adata.obs[columns].copy(),
        var=adata.var[[key for key in ("highly_variable",) if key in adata.var]].copy(),
        obsm={spatial_key: adata.obsm[spatial_key]},
        uns={key: adata.uns[key] for key in ("spatial_unit", spatial_key) if key in adata.uns},
    )


def _log_end(sdata: SpatialData, seconds: float, output: str | os.PathLike[str] | None) -> None:
    run = sdata.attrs["isost"]
    logger.info(
        "reconstruct: %.1f s; %s voxels (z, y, x) of %g %s, %d cells; made %s%s",
        seconds, " x ".join(map(str, run["shape"])), run["voxel_size"], run["unit"],
        sdata.tables["isost_cells"].n_obs, ", ".join(name for _, name, _ in sdata.gen_elements()),
        "" if output is None else f"; wrote {os.fspath(output)}",
    )  # fmt: skip
