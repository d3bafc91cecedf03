from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter

import numpy as np
import pandas as pd
from anndata import AnnData
from xarray import DataArray, Dataset

from isost._core.requests import as_number, as_whole, checked_depth
from isost._core.stack import Stack
from isost._logging import logger
from isost._tools.organs import Labels, read_labels
from isost._tools.votes import PixelGrid, count, vote, votes_at
from isost.reconstruction import Reconstruction

_LEAST_SIDE = 16


def propagate_labels(
    fitted: Reconstruction,
    adata: AnnData,
    *,
    key: str,
    mapping: Mapping[str, str] | pd.Series | pd.DataFrame | None = None,
    ages: Sequence[float] | np.ndarray | None = None,
    step: float = 0.1,
    grid: int = 256,
) -> Dataset:
    """Carry labels, such as organs, along the learned flow of shape to any age.

    The cells of the stage before and of the stage after are carried to each age, noise-free. In each pixel of a grid
    the nearest carried cells of either stage vote, with weights 1 - t and t in all, where t is the share of the way
    from one stage to the next; the majority wins, and its share of the votes is the confidence. The outline lies where
    the distance from those of both stages is 0 in the same mean. A stage without labels has those of the nearest stages
    with some, carried to it. (Li, Bao et al. 2025
    label the stages between profiled ones of mouse embryos in this way.)

    Parameters
    ----------
    fitted
        What `isost.tl.fit` returned, of stages (`depth_key`) or of sections.
    adata
        What it was fitted on, with labels in ``obs[key]``; cells without one do not vote. Not changed.
    key
        Column of labels.
    mapping
        What each value of that column belongs to, such as the organ of each cell type: a dict, a Series, or a
        DataFrame with both as its two columns. A value that belongs to None does not vote. By default labels are taken
        as they are.
    ages
        Where to label. None: from the first to the last stage by `step`, and the stages themselves.
    step
        Distance of the ages, where none are given.
    grid
        Pixels along either side of the square that all stages lie in.

    Returns
    -------
    xarray.Dataset
        ``label`` (age, y, x) int16, k for the k-th name and 0 outside the tissue; ``confidence`` (age, y, x) float32,
        NaN outside; ``proportion`` (age, name) float64, the share of the area that belongs to each label: that of
        either stage's carried map, with weights 1 - t and t, so that it changes steadily; coordinates ``age``, ``y``,
        ``x`` in the frame of the fit, ``name``, and of stages that `isost.pp.align_stages` laid into one frame
        ``growth`` (age), how large the body is beside it. ``attrs``: ``colors``, ``unit``, ``pixel_size``, ``stages``.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError
        If an argument is of another type.
    ValueError
        If an age lies outside the stages, the cells are others, or the mapping lacks a value.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100, n_genes=24)
    >>> isost.pp.embed(adata, n_comps=10)
    >>> isost.pp.align_stages(adata)
    >>> stages = {"depth_key": "age", "section_key": "stage", "spatial_key": "spatial_stage"}
    >>> fitted = isost.tl.fit(adata, **stages, epochs=2, progress=False, rng=0)
    >>> organs = isost.tl.propagate_labels(
    ...     fitted, adata, key="cell_type", mapping=adata.uns["organ_of_type"], ages=[10.0, 12.0], grid=64
    ... )
    >>> organs.label.shape, organs.name.values.tolist()
    ((2, 64, 64), ['brain', 'heart', 'kidney', 'liver', 'spinal cord', 'trunk'])
    """
    started = perf_counter()
    check_along_age(fitted)
    side = as_whole("grid", grid, _LEAST_SIDE)
    stack = fitted.stack
    labels = read_labels(stack, adata, key, mapping)
    wanted = ages_between(stack, ages, step)
    code = _every_stage(fitted, labels)
    pixels = PixelGrid.over(stack.coords[:, :2], side)
    shape = (len(wanted), side, side)
    label, confidence = np.zeros(shape, np.int16), np.empty(shape, np.float32)
    proportion = np.empty((len(wanted), len(labels.names)))
    for number, age in enumerate(wanted.tolist()):
        ballots = []
        for places, rows, weight in fitted.field.carried(age):
            ballots.append((weight, vote(places, code[rows], len(labels.names), pixels)))
        found, sure, proportion[number] = count(ballots)
        label[number], confidence[number] = found.reshape(side, side), sure.reshape(side, side)
    coords: dict[str, object] = {
        "age": wanted, "y": pixels.low[1] + pixels.line, "x": pixels.low[0] + pixels.line, "name": list(labels.names),
    }  # fmt: skip
    if stack.growth is not None:
        coords["growth"] = ("age", stack.growth_at(wanted))
    logger.info(
        "propagate_labels: %d labels at %d ages, %.1f s", len(labels.names), len(wanted), perf_counter() - started
    )
    return Dataset(
        {
            "label": DataArray(label, dims=("age", "y", "x")),
            "confidence": DataArray(confidence, dims=("age", "y", "x")),
            "proportion": DataArray(proportion, dims=("age", "name")),
        },
        coords=coords,
        attrs={"colors": list(labels.colors), "unit": stack.unit, "pixel_size": pixels.size,
               "stages": stack.depths.tolist()},
    )  # fmt: skip


def check_along_age(fitted: Reconstruction) -> None:
    """Refuse anything but a fit along one depth, or age.

    Raises
    ------
    TypeError
        If it is something else.
    """
    if not isinstance(fitted, Reconstruction):
        raise TypeError(
            f"fitted: expected what isost.tl.fit returns for one depth_key, found {type(fitted).__name__}. "
            "Next: isost.tl.fit(adata, depth_key='age')."
        )


def _every_stage(fitted: Reconstruction, labels: Labels) -> np.ndarray:
    """Label (n,) all cells: those of a stage without labels by the vote of the nearest with some, carried to it."""
    stack, code = fitted.stack, labels.code.copy()
    known = [k for k in range(stack.n_sections) if (code[stack.slice_of(k)] >= 0).any()]
    for section in set(range(stack.n_sections)) - set(known):
        before, after = [k for k in known if k < section][-1:], [k for k in known if k > section][:1]
        z, own = float(stack.depths[section]), stack.slice_of(section)
        total = np.zeros((own.stop - own.start, len(labels.names)))
        for other in before + after:
            share = votes_at(
                fitted.field.paths.at(other, z), labels.code[stack.slice_of(other)], len(labels.names),
                stack.coords[own, :2],
            )  # fmt: skip
            assert share is not None
            total += share / abs(stack.depths[other] - z)
        code[own] = total.argmax(axis=1)
    return code


def ages_between(stack: Stack, ages: Sequence[float] | np.ndarray | None, step: float) -> np.ndarray:
    """Ages that were asked for, in rising order; or those from the first to the last stage, and the stages.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If there are none, or one lies outside the stages.
    """
    if ages is not None:
        wanted = np.unique([checked_depth(stack, age) for age in np.atleast_1d(np.asarray(ages)).tolist()])
        if not len(wanted):
            raise ValueError("ages: expected one or more, found none. Next: leave ages out.")
        return wanted
    first, last = float(stack.depths[0]), float(stack.depths[-1])
    if not 0 < as_number("step", step) <= last - first:
        raise ValueError(f"step: expected above 0 and at most {last - first:g}, found {step!r}. Next: leave it out.")
    steps = first + step * np.arange(int((last - first) / step + 1e-9) + 1)
    steps = np.round(steps, 9)  # 9.5 + 3 * 0.1 is to be 9.8
    return np.unique(np.concatenate([steps[np.abs(steps[:, None] - stack.depths).min(axis=1) > 1e-9], stack.depths]))
