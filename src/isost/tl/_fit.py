from __future__ import annotations

import difflib
import os
from dataclasses import fields
from typing import Any, Literal, overload

import torch
from anndata import AnnData
from xarray import DataArray

from isost._core.checkpoint import clear
from isost._core.fit import fit_stack
from isost._core.folder import absolute_path
from isost._core.options import FitOptions
from isost._core.random import Rng, torch_generator
from isost._core.stack import Stack, read_stack
from isost._images.images import Images
from isost._time.fit import fit_sheet
from isost._time.sheet import read_sheet
from isost.reconstruction import Reconstruction
from isost.reconstruction4d import Reconstruction4D

SHEET_OPTIONS = ("n_candidates", "feature_weight")


@overload
def fit(adata: AnnData, *, depth_key: str | None = ..., **options: Any) -> Reconstruction: ...


@overload
def fit(adata: AnnData, *, depth_key: list[str] | tuple[str, str], **options: Any) -> Reconstruction4D: ...


def fit(
    adata: AnnData,
    *,
    section_key: str | None = "section",
    spatial_key: str = "spatial",
    depth_key: str | list[str] | tuple[str, str] | None = None,
    use_rep: str = "X_pca",
    images: DataArray | None = None,
    objective: Literal["bridge", "trajectory"] = "bridge",
    preset: str | None = None,
    device: str | torch.device | None = None,
    devices: int = 1,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    rng: Rng = None,
    **options: Any,
) -> Reconstruction | Reconstruction4D:
    """Fit the coupled stochastic differential equations of shape and expression along depth.

    ds = f_s(s, z, N) dz + sigma_s dW and dg = f_g(s, g, z, N) dz + sigma_g dW, and a second pair from the last section
    to the first (eqs 1-6 and 8 of Li, Bao et al. 2025, bioRxiv 10.1101/2025.08.15.670472).

    Parameters
    ----------
    adata
        Cells of all sections; not changed. Sections whose expression was predicted, with a weight below 1 in
        ``obs["section_weight"]`` (`isost.pp.stack_sections`), count by it: their cells keep their places, and take
        that share of their own expression, and for the rest what the measured sections nearest above and below say
        there, by a Gaussian kernel of five spacings of the cells, linear in depth. What is decided by leaving sections
        out is decided on measured ones alone. The log and ``params["predicted_sections"]`` say which were predicted
        and how much they count.
    section_key
        Column of `obs` that names each cell's section. Without the default column, or with None, each distinct depth is
        a section.
    spatial_key
        Key in `obsm` of the positions (n_cells, 3) x, y, z, or (n_cells, 2) with `depth_key`, all in one unit.
    depth_key
        Column of `obs` with each cell's depth, in place of the third coordinate; or with the age of its stage, of
        stages that `isost.pp.align_stages` laid into one frame (``spatial_key="spatial_stage"``). Two columns, of depth
        and of age, for stages of several sections each: all sections are laid into one frame by couplings along both,
        and a `Reconstruction4D` is returned. Of what follows it takes `use_rep`, `progress`, `checkpoint`, `resume`,
        ``n_candidates`` and ``feature_weight``; it draws no random numbers.
    use_rep
        Key in `obsm` of the expression that is carried, (n_cells, n_features). `isost.pp.embed` or `scanpy.pp.pca` make
        one that decodes to genes; any other is carried as itself.
    images
        What `isost.pp.image_features` made of images among the sections, in their frame and unit
        (`isost.pp.align_images`), at more depths than there are sections. With ``"bridge"`` each use of them is
        believed as far as sections that are left out say, so that useless images change little. Paths of cells go by
        the tissue of up to three planes in a gap, coupled from plane to plane, if both show the same tissue at the
        depths of sections, and inner sections are predicted clearly better so. There is tissue only where images show
        it, if they show it at nearly all cells. The field is that of the expression less what follows the images, by a
        ridge regression of left-out sections' errors, and this is added where an image lies. With ``"trajectory"`` as
        published (eqs 11 and 12): ``beta`` times the Chamfer distance between simulated cells and the tissue of a
        plane, drawn by intensity, and ``gamma`` times the squared error of a linear map from expression to the
        features of the image. ``params["images"]`` says what was believed: ``followed``, ``outline``, ``gain`` (share
        of the squared error of each component that images take from left-out sections), and ``r2`` of that map for
        each feature within sections that it was not fitted on.
    objective
        ``"bridge"``: sections are coupled once by optimal transport and the drifts are regressed on Brownian bridges
        between coupled cells. ``"trajectory"``: the paper's, Sinkhorn W2 and expression losses on simulated cells
        (eq 7), in three phases; slower.
    preset
        Hyperparameters of one of the paper's data sets, with depth in mm: ``"mouse_brain_merfish"``,
        ``"mouse_kidney_arrayseq"``, ``"human_embryo_cs7"``, ``"spinal_cord_visium"``; or with time as depth, in days:
        ``"mouse_embryo_time"``. None: defaults in the stack's own scale.
    device
        ``"cpu"`` or ``"cuda"``; None or ``"auto"`` for the GPU where there is one.
    devices
        GPUs of this machine, or processes on its CPU, that share each step of the training, which then averages the
        gradients of so many gaps (`gaps_at_once`): ``pip install 'isost[devices]'``. The fit is that of one device
        with the same `gaps_at_once`. A script has to guard its main part by ``if __name__ == "__main__":``.
    progress
        Show a bar.
    checkpoint
        Folder for the progress of this fit, which is removed when it is complete: couplings as they are made, and
        every quarter of a minute the state of the training. If it cannot be written any more, the fit goes on.
    resume
        Repeat an interrupted call, with the same data, options and seed, to go on from `checkpoint`; the result is
        that of a fit that was not interrupted.
    rng
        Seed or generator; the same seed gives the same fit on one machine.
    **options
        What differs from the preset or the defaults: ``epochs`` (of each phase), ``learning_rate``, ``dz`` (Euler
        step), ``sigma_xy``, ``sigma_z``, ``sigma_g`` (diffusions), ``alpha`` (weight of expression beside shape),
        ``beta``, ``gamma`` (weights of images in ``"trajectory"``),
        ``max_cells`` (of one step, bounds memory), ``gaps_at_once`` (gaps that a step averages), ``width``,
        ``unet_depth``, ``n_neighbours`` (networks),
        ``n_candidates``, ``feature_weight`` (coupling), ``correct_sections`` (True: a section whose neighbours are
        predicted better without it, as one that is badly stained, has the gain and the offset of every gene
        corrected; with five sections or more, and never the first or last. The log and
        ``params["corrected_sections"]`` say which; the result holds its cells as corrected, `adata` as they were).

    Returns
    -------
    Reconstruction
        Ask it for a `section`, for `expression` at any place, or for a volume (`to_spatialdata`). Ctrl-C while it fits
        keeps the best weights so far. A `Reconstruction4D` for two depth keys.

    Raises
    ------
    ValueError
        If the stack cannot be read (every problem is listed), a setting is impossible, `resume` lacks a `checkpoint`,
        or the interrupted fit was another.
    FileExistsError
        If there is progress in `checkpoint` and `resume` is False.
    TypeError
        If an option is unknown.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> isost.pp.embed(adata, n_comps=5)
    >>> fitted = isost.tl.fit(adata, epochs=2, progress=False, rng=0)
    >>> fitted.section(50, rng=0).n_vars
    12
    """
    if resume and checkpoint is None:
        raise ValueError(
            "resume: expected the checkpoint of the interrupted fit, found none. Next: pass checkpoint=..."
        )
    if isinstance(depth_key, list | tuple):
        given = {"objective": objective != "bridge", "preset": preset is not None, "images": images is not None,
                 "device": str(device) not in ("None", "auto", "cpu"), "devices": devices != 1}  # fmt: skip
        _check_sheet_options([name for name, differs in given.items() if differs], options)
        sheet = read_sheet(
            adata, section_key=section_key, spatial_key=spatial_key, depth_key=depth_key, use_rep=use_rep
        )
        folder = None if checkpoint is None else absolute_path(checkpoint)
        asked = {name: value for name, value in options.items() if value is not None}
        field, said = fit_sheet(sheet, progress=progress, checkpoint=folder, resume=resume, **asked)
        if folder is not None:
            clear(folder)
        return Reconstruction4D(field, said)
    settings = checked_options(options)
    stack = read_stack(adata, section_key=section_key, spatial_key=spatial_key, depth_key=depth_key, use_rep=use_rep)
    folder = None if checkpoint is None else absolute_path(checkpoint)
    fitted = fit_read(
        stack, settings, objective=objective, preset=preset, device=device, devices=devices, progress=progress,
        checkpoint=folder, resume=resume, rng=rng, images=as_images(images),
    )  # fmt: skip
    if folder is not None and not fitted.params["interrupted"]:
        clear(folder)
    return fitted


def _check_sheet_options(given: list[str], options: dict[str, Any]) -> None:
    """Refuse what means nothing to a fit over depth and age."""
    given += [name for name in options if name not in SHEET_OPTIONS]
    if given:
        raise TypeError(
            f"Expected for depth and age no other options than {', '.join(SHEET_OPTIONS)}, found {', '.join(given)}. "
            "Next: leave them out, or depth_key='age'."
        )
    checked_options(options).check()


def as_images(features: Any) -> Images | None:
    """Take what `isost.pp.image_features` made, or None.

    Raises
    ------
    TypeError
        If it is something else.
    """
    return None if features is None else Images(features)


def fit_read(stack: Stack, options: FitOptions, *, rng: Rng, **how: Any) -> Reconstruction:
    """Fit a stack that has been read."""
    fitted = fit_stack(stack, generator=torch_generator(rng), options=options, **how)
    return Reconstruction(fitted.stack, fitted.model, fitted.field, fitted.history, fitted.info)


def checked_options(options: dict[str, Any]) -> FitOptions:
    """Make the options of a fit.

    Raises
    ------
    TypeError
        If one is unknown.
    """
    known = [field.name for field in fields(FitOptions)]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise TypeError(
                f"Expected options of a fit ({', '.join(known)}), found {name!r}. "
                f"Next: {f'did you mean {close[0]!r}?' if close else 'leave it out.'}"
            )
    return FitOptions(**options)
