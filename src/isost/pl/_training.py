from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from isost.pl._style import INK, OUTSIDE, PLAIN, finish, root_figure, style

if TYPE_CHECKING:
    from isost.reconstruction import Reconstruction

_STILL = "Nothing was trained: left-out sections are\npredicted best by cells that stand still."


def training(
    fitted: Reconstruction | Mapping[str, Sequence[float]],
    *,
    ax: Axes | None = None,
    show: bool = False,
    save: str | Path | None = None,
) -> Axes:
    """Plot the loss of each epoch, with the phases of the training marked.

    Parameters
    ----------
    fitted
        What `isost.tl.fit` returns, or its `history`: the mean loss of each epoch, by phase.
    ax
        Axes to draw into; None makes a figure.
    show
        Call `matplotlib.pyplot.show`.
    save
        File to write the figure to; its ending chooses the format.

    Returns
    -------
    The Axes, with one line a phase. The losses of different phases are different quantities: compare within a phase.
    Of a fit that found nothing to learn, as sections stand still, they hold words that say so.

    Raises
    ------
    TypeError
        If `fitted` is neither a fitted result nor a mapping of losses.
    ValueError
        If a history holds no epoch.

    Examples
    --------
    >>> import isost
    >>> ax = isost.pl.training({"shape": [3.0, 1.0], "expression": [0.8, 0.5], "both": [1.2, 0.9]})
    >>> len(ax.lines)
    3
    """
    history = _history(fitted)
    with style():
        panel = plt.subplots(figsize=(5.2, 3.2), layout="constrained")[1] if ax is None else ax
        if not history:
            panel.set_axis_off()
            panel.text(0.5, 0.5, _STILL, transform=panel.transAxes, ha="center", va="center", color=INK)
            finish(root_figure(panel), save, show)
            return panel
        start = 0
        for number, (phase, losses) in enumerate(history.items()):
            epochs = np.arange(start, start + len(losses)) + 1
            panel.plot(epochs, losses, color=PLAIN, lw=1.5, marker="o" if len(losses) == 1 else None, label=phase)
            if len(history) > 1:
                _mark(panel, start, len(losses), phase, shaded=number % 2 == 1)
            start += len(losses)
        finite = np.concatenate([np.asarray(losses, dtype=np.float64) for losses in history.values()])
        finite = finite[np.isfinite(finite)]
        # A debiased Sinkhorn loss may fall below zero, where a logarithm ends; a short scale is read better as it is.
        if finite.size and 0 < 10 * finite.min() < finite.max():
            panel.set_yscale("log")
        panel.set(xlabel="epoch", ylabel="mean loss", xlim=(0.5, start + 0.5))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        finish(root_figure(panel), save, show)
    return panel


def _mark(ax: Axes, start: int, length: int, name: str, *, shaded: bool) -> None:
    if shaded:
        ax.axvspan(start + 0.5, start + length + 0.5, color=OUTSIDE, lw=0, zorder=0)
    ax.text(
        start + 0.5 + length / 2, 1.02, name, transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=INK
    )


def _history(fitted: Reconstruction | Mapping[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    history = getattr(fitted, "history", fitted)
    if not isinstance(history, Mapping):
        raise TypeError(
            f"fitted: expected what isost.tl.fit returns or its history, found {type(fitted).__name__}. "
            "Next: isost.pl.training(isost.tl.fit(adata))."
        )
    drawn = {str(phase): losses for phase, losses in history.items() if len(losses)}
    if not drawn and fitted is history:
        raise ValueError(
            "history: expected the losses of one epoch or more, found none. Next: fit again, with epochs=1 or more."
        )
    return drawn
