from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from spatialdata import SpatialData

from isost._core.folder import absolute_path, written_beside
from isost._core.voxels import AXES
from isost.pl._budget import within_budget
from isost.pl._projection import Turntable
from isost.pl._quantity import read_volume
from isost.pl._style import INK, bare, contrast, extend, root_figure, scale_bar, style

_SIDE = 4.6
_DPI = 110


def rotate(
    sdata: SpatialData,
    color: str,
    *,
    save: str | Path | None = None,
    n_frames: int = 36,
    fps: int = 12,
    axis: Literal["x", "y", "z"] = "y",
    kind: Literal["max", "alpha"] = "max",
    label: str | None = None,
    max_voxels: int = 500_000,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    show: bool = False,
) -> Axes:
    """Turn the volume once round, as a GIF or MP4.

    At 0 degrees x is to the right and y up (`axis` y); at 90 degrees depth is to the right. There is no perspective, so
    that the scale bar holds everywhere. A volume of more than `max_voxels` voxels is averaged in blocks, which the
    title and the log say.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene (log-normalised expression, decoded from the components), a channel of the volume such as ``"PC1"``,
        ``"density"`` or ``"uncertainty"``.
    save
        File to write, ``.gif``, or ``.mp4`` where ffmpeg is installed; None draws the first frame only.
    n_frames
        Frames of one turn; the last is followed by the first.
    fps
        Frames a second.
    axis
        What the volume turns about; it points up.
    kind
        ``"max"``: the highest value along each line of sight. ``"alpha"``: the tissue as a cloud that is the more
        opaque the higher its value, where what is near hides what is far.
    label
        What the colour bar calls it, for instance the symbol of a gene that is named by an identifier.
    max_voxels
        Most voxels that are projected.
    cmap
        Colour map.
    vmin, vmax
        Limits of the colour scale: a number, a percentile, of the projections or, with ``"alpha"``, of the tissue, or
        None for the extreme.
    show
        Show the first frame: calls `matplotlib.pyplot.show`.

    Returns
    -------
    Axes with the first frame.

    Raises
    ------
    KeyError
        If an element of the volume, the gene or the channel is not found.
    RuntimeError
        If an MP4 is asked for and there is no ffmpeg.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If an option is none of its values.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> ax = isost.pl.rotate(sdata, "gene_1", save="gene_1.gif", n_frames=4)
    >>> ax.get_title(loc="left").splitlines()[0]
    'turned by 0° about y'
    """
    _check(axis, kind, n_frames, fps, cmap)
    writer = None if save is None else _writer(save, fps)
    drawn = within_budget(read_volume(sdata, color, label), max_voxels)
    table, angles = Turntable(drawn, axis), 360 * np.arange(n_frames) / n_frames
    if kind == "max":
        frames = [table.highest(angle) for angle in angles]
        values = np.concatenate([frame.ravel() for frame in frames])
    else:
        frames, values = [], drawn.tissue
    limits = contrast(values, vmin, vmax)
    norm, colors = Normalize(*limits), mpl.colormaps[cmap]
    if kind == "alpha":
        frames = [table.composite(angle, limits, colors) for angle in angles]
    with style():
        ax, image, pointers = _first(table, frames[0], ScalarMappable(norm, colors), extend(values, limits))
        if writer is not None and save is not None:
            with written_beside(save, overwrite=True) as part, writer.saving(root_figure(ax), str(part), _DPI):
                for _ in _turning(table, ax, image, pointers, frames, angles):
                    writer.grab_frame()
        next(_turning(table, ax, image, pointers, frames[:1], angles[:1]))
        if show:
            plt.show()
    return ax


def _check(axis: str, kind: str, n_frames: int, fps: int, cmap: str) -> None:
    for name, found, known in (("axis", axis, AXES), ("kind", kind, ("max", "alpha"))):
        if found not in known:
            raise ValueError(f"{name}: expected one of {', '.join(known)}, found {found!r}. Next: {name}={known[0]!r}.")
    for name, number in (("n_frames", n_frames), ("fps", fps)):
        if not number >= 1:
            raise ValueError(f"{name}: expected 1 or more, found {number!r}. Next: leave it out.")
    if cmap not in mpl.colormaps:
        raise ValueError(f"cmap: expected the name of a colour map of matplotlib, found {cmap!r}. Next: 'viridis'.")


def _writer(save: str | Path, fps: int) -> AbstractMovieWriter:
    """Choose by the ending, and say what is missing before anything is computed."""
    path = absolute_path(save)
    if path.suffix.lower() == ".gif":
        return PillowWriter(fps=fps)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"save: expected a name that ends in .gif or .mp4, found {path.name!r}. Next: change it.")
    if not FFMpegWriter.isAvailable():
        raise RuntimeError(
            f"save: expected ffmpeg on the PATH, which writes {path.name!r}, found none. "
            f"Next: save={path.with_suffix('.gif').name!r}, or install ffmpeg."
        )
    # h264 takes only even numbers of pixels
    return FFMpegWriter(fps=fps, codec="h264", extra_args=["-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"])


def _first(table: Turntable, frame: np.ndarray, shade: ScalarMappable, ends: str) -> tuple[Axes, AxesImage, list[Any]]:
    left, right, bottom, top = table.extent
    longer = max(right - left, top - bottom)
    width, height = (_SIDE * max(length / longer, 0.6) for length in (right - left, top - bottom))
    figure = plt.figure(figsize=(width + 1.9, height + 1.1))
    wide, tall = figure.get_size_inches()
    ax = figure.add_axes((0.3 / wide, 0.45 / tall, width / wide, height / tall))
    image = ax.imshow(frame, extent=table.extent, origin="lower", cmap=shade.cmap)
    image.set_norm(shade.norm)
    image.set_interpolation("bilinear" if frame.ndim == 3 else "nearest")
    least = 0.6 * max(right - left, top - bottom) / 2  # a thin volume has room about it
    ax.set(xlim=(min(left, -least), max(right, least)), ylim=(min(bottom, -least), max(top, least)))
    bare(ax)
    scale_bar(ax, table.drawn.of.unit)
    bar = figure.add_axes(((width + 0.75) / wide, 1.1 / tall, 0.13 / wide, 1 - 1.7 / tall))
    figure.colorbar(shade, cax=bar, label=table.drawn.of.label.replace(" (", "\n("), extend=ends).outline.set_visible(
        False
    )
    compass = figure.add_axes(((width + 0.55) / wide, 0.1 / tall, 0.75 / wide, 0.75 / tall))
    compass.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
    compass.set_axis_off()
    pointers: list[Any] = []
    for name in AXES:
        pointers.append(
            (compass.plot([], [], color=INK, lw=1.2)[0], compass.text(0, 0, name, ha="center", va="center"))
        )
    return ax, image, pointers


def _turning(
    table: Turntable, ax: Axes, image: AxesImage, pointers: list[Any], frames: list[np.ndarray], angles: np.ndarray
) -> Iterator[float]:
    """Put one frame after the other into the axes."""
    for frame, angle in zip(frames, angles, strict=True):
        image.set_data(frame)
        note = f"\n{table.drawn.note}" if table.drawn.note else ""
        ax.set_title(f"turned by {angle:.0f}° about {table.axis}{note}", loc="left")
        for (line, name), (right, up, _) in zip(pointers, table.directions(float(angle)), strict=True):
            line.set_data([0, right], [0, up])
            name.set_position((1.3 * right, 1.3 * up))
            name.set_alpha(min(1.0, 2 * float(np.hypot(right, up))))
        yield float(angle)
