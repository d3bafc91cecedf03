"""What all plots share: fonts, axes with a physical unit, scale bars, contrast limits, writing to disk."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isost._core.folder import absolute_path, written_beside

INK = "#333333"
OUTSIDE = "#e9e9e9"
MISSING = "#c8c8c8"
ACCENT = "#d55e00"
PLAIN = "#4477aa"

Limit = float | str | None  # of a colour scale: a number, a percentile such as "p99", or the extreme

_RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "figure.dpi": 120,
    "figure.facecolor": "white",
    "savefig.dpi": 200,
    "savefig.facecolor": "white",
}


def style() -> AbstractContextManager[None]:
    """Fonts and lines of every plot, for the time of drawing only: the user's own settings stay."""
    return mpl.rc_context(_RC)


def unit_label(unit: str) -> str:
    """'um' and its spellings as 'µm'; any other unit as it is."""
    return "µm" if unit.lower() in {"um", "µm", "μm", "micron", "microns", "micrometer", "micrometre"} else unit


def position_labels(positions: np.ndarray, apart: float | None = None) -> list[str]:
    """Positions to a hundredth of their smallest distance, `apart`, without idle zeros."""
    gaps = np.diff(np.unique(positions))
    least = apart if apart is not None else gaps.min() if gaps.size else 0.01
    decimals = int(np.clip(np.ceil(2 - np.log10(least)), 0, 9))
    return [f"{round(float(at), decimals) + 0.0:.10g}".replace("-", "−") for at in positions]


def contrast(values: np.ndarray, vmin: Limit, vmax: Limit) -> tuple[float, float]:
    """Limits of a colour scale: a number, a percentile ("p99"), or None for the extreme of the finite values."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return 0.0, 1.0
    low = limit(finite, vmin, "vmin", finite.min())
    high = limit(finite, vmax, "vmax", finite.max())
    if not low < high and isinstance(vmax, str):
        # A gene in fewer cells than the percentile leaves out would be drawn as absent.
        high = float(finite.max())
    if low < high:
        return low, high
    if isinstance(vmin, int | float) and isinstance(vmax, int | float):
        raise ValueError(f"vmin, vmax: expected vmin < vmax, found {vmin}, {vmax}. Next: swap them, or leave them out.")
    return (high - 1.0, high) if isinstance(vmax, int | float) else (low, low + 1.0)


def limit(finite: np.ndarray, value: Limit, name: str, extreme: float) -> float:
    """Find a number, a percentile of the values, or their extreme, under the name of an argument."""
    if value is None:
        return float(extreme)
    if isinstance(value, str):
        try:
            percent = float(value.removeprefix("p"))
        except ValueError:
            percent = -1.0
        if value.startswith("p") and 0 <= percent <= 100:
            return float(np.percentile(finite, percent))
    elif np.isfinite(value):
        return float(value)
    raise ValueError(
        f"{name}: expected a number or a percentile from 'p0' to 'p100', found {value!r}. Next: {name}='p99', say."
    )


def extend(values: np.ndarray, limits: tuple[float, float]) -> str:
    """Which ends of the colour bar get an arrow: those that values lie beyond."""
    finite = np.asarray(values)[np.isfinite(values)]
    below, above = bool((finite < limits[0]).any()), bool((finite > limits[1]).any())
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]


def round_length(extent: float) -> float:
    """Find the largest of 1, 2, 5 times a power of ten that is at most a third of an extent."""
    target = extent / 3
    power = 10.0 ** np.floor(np.log10(target))
    return float(max(step for step in (1, 2, 5) if step * power <= target * (1 + 1e-9)) * power)


def scale_bar(ax: Axes, unit: str) -> None:
    """Draw a bar of round length under the left end of the axes, in the unit of the data."""
    left, right = ax.get_xlim()
    length = round_length(right - left)
    blended = ax.get_xaxis_transform()
    ax.plot(
        [left, left + length],
        [-0.03, -0.03],
        transform=blended,
        color=INK,
        lw=2.5,
        solid_capstyle="butt",
        clip_on=False,
        label="_scale_bar",
    )
    ax.text(left, -0.055, f"{length:g} {unit}", transform=blended, ha="left", va="top", fontsize=9)


def bare(ax: Axes) -> None:
    """No ticks, no frame: for panels whose scale is told by a bar."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def root_figure(ax: Axes) -> Figure:
    """Find the figure that the axes lie in, also through subfigures."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("axes: expected ones of a figure, found some that were removed from it. Next: leave them out.")
    return figure


def finish(fig: Figure, save: str | Path | None, show: bool) -> None:
    """Write the figure where it was asked for, whole or not at all, and show it where that was asked for."""
    if save is not None:
        path, known = absolute_path(save), fig.canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise ValueError(
                f"save: expected a name with an ending among {', '.join(known)}, found {path.name!r}. "
                f"Next: '{path.with_suffix('.png').name}', say."
            )
        with written_beside(save, overwrite=True) as part:
            fig.savefig(part, bbox_inches="tight")
    if show:
        plt.show()
