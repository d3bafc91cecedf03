from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spatialdata import SpatialData

from isost._core.optional import load_extra
from isost._core.voxels import read_voxels
from isost.pl._layers import Layer, cells_layer, hues, labels_layer, sections_layer, volume_layer
from isost.pl._quantity import read_volume

_LENGTHS = ("nm", "um", "mm", "cm")
_ANGLES = (0, 25, 35)


def napari(
    sdata: SpatialData,
    *,
    genes: str | Sequence[str] = (),
    labels: str | Sequence[str] = (),
    cells: bool = True,
    sections: bool = True,
    cmaps: Sequence[str] | None = None,
    vmin: float | str | None = "p1",
    vmax: float | str | None = "p99.8",
    show: bool = True,
) -> Any:
    """Open a viewer of napari with volumes, labels, reconstructed cells and measured sections, in 3D.

    Layers are plain ones with axes z, y, x, scaled and moved into the unit of the volume, so that depth is kept and a
    position that the viewer tells is one of the tissue. Volumes are read when they are drawn; one of more voxels than a
    graphics card draws at once is shown in 3D as means of blocks, which the log says.

    In a script, ``napari.run()`` keeps the window open.

    Parameters
    ----------
    sdata
        What `isost.tl.reconstruct` returns.
    genes
        Genes or channels of the volume, ``"density"`` or ``"uncertainty"``, a layer each; none is the first channel,
        such as ``"PC1"``, unless there are labels.
    labels
        Labels elements, by their name or by the key of an element ``isost_<key>``, with the names and colours that
        ``sdata.attrs["isost"]["labels"][key]`` has of them.
    cells
        Add the reconstructed cells, hidden at first, because they would cover the volume.
    sections
        Add a frame at the depth of each measured section.
    cmaps
        Colour maps of napari, one a gene; None chooses ones that start at black, because volumes are added up.
    vmin, vmax
        Limits of the colours of each gene: a number, a percentile of the tissue, or None for the extreme.
    show
        Open the window.

    Returns
    -------
    napari.Viewer

    Raises
    ------
    ImportError
        If napari is not installed: ``pip install 'isost[napari]'``.
    KeyError
        If a gene or a labels element is not found.
    TypeError
        If `sdata` is not a SpatialData.
    ValueError
        If an element is not 3D, or was rotated.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.letters(200)
    >>> sdata = isost.tl.reconstruct(adata, voxel_size=50, epochs=2, progress=False, rng=0)
    >>> viewer = isost.pl.napari(sdata, genes=["gene_1", "gene_2"])  # doctest: +SKIP
    """
    voxels = read_voxels(sdata)
    names, keys = ([asked] if isinstance(asked, str) else list(asked) for asked in (genes, labels))
    if not names and not keys:
        names = [voxels.channels[0]]
    volumes = [read_volume(sdata, name) for name in names]
    layers: list[tuple[str, Layer | None]] = [
        ("add_image", volume_layer(volume, name, cmap, vmin, vmax))
        for volume, name, cmap in zip(volumes, names, hues(len(names), cmaps), strict=True)
    ]
    layers += [("add_labels", labels_layer(sdata, key)) for key in keys]
    layers += [("add_points", cells_layer(sdata))] if cells else []
    layers += [("add_shapes", sections_layer(read_volume(sdata, voxels.channels[0])))] if sections else []
    return _viewer([(add, layer) for add, layer in layers if layer is not None], voxels.unit, show)


def _viewer(layers: list[tuple[str, Layer]], unit: str, show: bool) -> Any:
    package = load_extra("napari", "napari")
    viewer = package.Viewer(show=show, ndisplay=3, axis_labels=("z", "y", "x"))
    units = (unit if unit in _LENGTHS else "pixel",) * 3
    for add, layer in layers:
        options = dict(layer.options)
        if add == "add_labels" and "colormap" in options:
            options["colormap"] = package.utils.colormaps.DirectLabelColormap(color_dict=options["colormap"])
        getattr(viewer, add)(
            layer.data, name=layer.name, scale=layer.scale, translate=layer.translate, units=units, **options
        )
    viewer.scale_bar.visible = True
    viewer.axes.visible = True
    viewer.reset_view()
    if hasattr(viewer.camera, "orientation"):
        viewer.camera.orientation = ("towards", "up", "right")  # as in the plots, and not mirrored
    viewer.camera.angles = _ANGLES
    return viewer
