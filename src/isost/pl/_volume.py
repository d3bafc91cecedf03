from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from spatialdata import SpatialData

from isost.pl._plotly import plotly_figure, save_plotly
from isost.pl._pyvista import pyvista_plotter, save_pyvista
from isost.pl._scene import make_scene


def volume(
    sdata: SpatialData,
    color: str,
    *,
    kind: Literal["points", "isosurface", "volume"] = "points",
    threshold: float | str | None = "p80",
    label: str | None = None,
    max_voxels: int = 150_000,
    opacity: float | None = None,
    cmap: str = "viridis",
    vmin: float | str | None = "p0.5",
    vmax: float | str | None = "p99.5",
    tissue: bool = True,
    sections: bool = True,
    backend: Literal["plotly", "pyvista"] = "plotly",
    show: bool = False,
    save: str | Path | None = None,
) -> Any:
    """Draw where a gene is expressed in 3D, to be turned, in the unit of the volume and with equal axes.

    Only what reaches `threshold` is drawn, in the grey outline of the tissue. A volume of more than `max_voxels` voxels
    is averaged in blocks, which the title and the log say; no voxel is left out.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    color
        A gene (log-normalised expression, decoded from the components), a channel of the volume such as ``"PC1"``,
        ``"density"`` or ``"uncertainty"``.
    kind
        ``"points"``: the voxels, at their centres; ``"isosurface"``: surfaces of equal value from the threshold
        to `vmax`; ``"volume"``: many transparent ones.
    threshold
        Least value that is drawn: a number, a percentile of the tissue such as ``"p80"``, or None for all of it.
    label
        What the colour bar calls it, for instance the symbol of a gene that is named by an identifier.
    max_voxels
        Most voxels that are handed to the browser or the window.
    opacity
        Of what is drawn, above 0 and up to 1; None chooses one that suits `kind`.
    cmap
        Colour map of matplotlib.
    vmin, vmax
        Limits of the colour scale: a number, a percentile of the tissue, or None for the extreme.
    tissue
        Draw the outline of the tissue.
    sections
        Draw a frame at the depth of each measured section.
    backend
        ``"plotly"``, for browsers and notebooks: ``pip install 'isost[plotly]'``; or ``"pyvista"``, for a window:
        ``pip install 'isost[pyvista]'``.
    show
        Open it.
    save
        File to write. plotly: ``.html``, a page that needs no network, or a picture such as ``.png`` where kaleido is
        installed. pyvista: ``.png``, ``.jpg`` or ``.tif``, or ``.html`` where trame is installed.

    Returns
    -------
    plotly.graph_objects.Figure or pyvista.Plotter

    Raises
    ------
    ImportError
        If the package of the backend is not installed.
    KeyError
        If an element of the volume, the gene or the channel is not found.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If an option is none of its values, or nothing reaches `threshold`.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> figure = isost.pl.volume(sdata, "gene_1", threshold="p90", save="gene_1.html")
    >>> figure.layout.scene.xaxis.title.text, figure.layout.scene.aspectmode
    ('x (µm)', 'data')
    """
    if backend not in ("plotly", "pyvista"):
        raise ValueError(f"backend: expected 'plotly' or 'pyvista', found {backend!r}. Next: backend='plotly'.")
    scene = make_scene(
        sdata, color, kind=kind, threshold=threshold, label=label, max_voxels=max_voxels, opacity=opacity, cmap=cmap,
        vmin=vmin, vmax=vmax,
    )  # fmt: skip
    if backend == "pyvista":
        plotter = pyvista_plotter(scene, tissue=tissue, sections=sections, show=show)
        if save is not None:
            save_pyvista(plotter, save)
        if show:
            plotter.show()
        return plotter
    figure = plotly_figure(scene, tissue=tissue, sections=sections)
    if save is not None:
        save_plotly(figure, save)
    if show:
        figure.show()
    return figure
