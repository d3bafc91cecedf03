from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spatialdata import SpatialData

import isost

pytest.importorskip("plotly", reason="plotly is not installed")
BRIGHT = (25, 45, 125)


def trace(figure: Any, number: int = 0) -> tuple[np.ndarray, Any]:
    """Positions (n, 3) of a trace, and the trace."""
    found = figure.data[number]
    return np.column_stack([found.x, found.y, found.z]), found


def test_a_voxel_lies_where_it_is(bright: SpatialData) -> None:
    figure = isost.pl.volume(bright, "PC1", threshold=0.5)
    places, points = trace(figure)
    np.testing.assert_allclose(places, [BRIGHT])
    assert points.marker.color.tolist() == [1.0]
    assert figure.layout.scene.aspectmode == "data"
    assert [figure.layout.scene[f"{name}axis"].title.text for name in "xyz"] == ["x (µm)", "y (µm)", "z (µm)"]
    assert points.marker.colorbar.title.text == "PC1 (score)"
    assert figure.layout.title.text == "PC1 at 0.5 and above"


def test_all_of_the_tissue_and_no_more(volume: SpatialData) -> None:
    places, points = trace(isost.pl.volume(volume, "Gad1", threshold=None))
    mask = volume.labels["isost_mask"].values > 0
    assert len(places) == mask.sum()
    z, y, x = np.argwhere(mask).T
    np.testing.assert_allclose(places, np.column_stack([-40 + 10 * x + 5, 10 * y + 5, 100 + 10 * z + 5]))
    pcs = volume.images["isost_volume"]["scale0"]["image"].values[:, mask]
    np.testing.assert_allclose(points.marker.color, 1.0 + pcs[0] + 0.5 * pcs[1], rtol=1e-5)
    low, high = points.marker.cmin, points.marker.cmax
    assert points.marker.color.min() <= low < high <= points.marker.color.max()


def test_what_is_too_much_is_averaged_and_said(bright: SpatialData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "isost"):
        figure = isost.pl.volume(bright, "PC1", threshold=0.1, max_voxels=24)
    places, points = trace(figure)
    # blocks of 2 x 2 x 2 voxels: the bright one is an eighth of its block
    np.testing.assert_allclose(places, [(30, 50, 130)])
    np.testing.assert_allclose(points.marker.color, [0.125])
    assert "means of 2 × 2 × 2 voxels" in figure.layout.title.text
    assert "4 x 6 x 8 voxels (z, y, x) are drawn as means of 2 × 2 × 2 voxels" in caplog.text


@pytest.mark.parametrize("kind", ["isosurface", "volume"])
def test_surfaces_are_closed_and_lie_where_the_values_are(bright: SpatialData, kind: str) -> None:
    places, surfaces = trace(isost.pl.volume(bright, "PC1", kind=kind, threshold=0.5))
    grid = surfaces.value.reshape(6, 8, 10)
    np.testing.assert_allclose(places[surfaces.value.argmax()], BRIGHT)
    assert surfaces.isomin == 0.5
    assert surfaces.isomax > 0.5
    border = np.ones(grid.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    assert (grid[border] < 0.5).all()


def test_outline_and_sections(volume: SpatialData) -> None:
    figure = isost.pl.volume(volume, "PC1")
    assert [found.name for found in figure.data[1:]] == ["tissue", "measured sections"]
    places, outline = trace(figure, 1)
    inside = outline.value > 0.5
    assert places[inside].min(axis=0).tolist() == [-35, 5, 105]
    assert places[inside].max(axis=0).tolist() == [35, 55, 135]
    frames, _ = trace(figure, 2)
    assert set(frames[np.isfinite(frames[:, 2]), 2]) == {100, 140}
    assert len(isost.pl.volume(volume, "PC1", tissue=False, sections=False).data) == 1


def test_a_page_needs_no_network(volume: SpatialData, tmp_path: Path) -> None:
    isost.pl.volume(volume, "PC1", save=tmp_path / "pc1.html")
    page = (tmp_path / "pc1.html").read_text(encoding="utf-8")
    assert "cdn.plot.ly/plotly" not in page
    assert "PC1 (score)" in page
    assert [path.name for path in tmp_path.iterdir()] == ["pc1.html"]


def test_a_picture_that_cannot_be_drawn(volume: SpatialData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import plotly.graph_objects as go

    def without_kaleido(*_: object, **__: object) -> None:
        raise RuntimeError("Image export requires the Kaleido package")

    monkeypatch.setattr(go.Figure, "write_image", without_kaleido)
    with pytest.raises(RuntimeError, match=r"kaleido.*Next: save 'pc1.html'"):
        isost.pl.volume(volume, "PC1", save=tmp_path / "pc1.png")
    assert not list(tmp_path.iterdir())


def test_without_plotly(volume: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ImportError, match=r"Expected the package plotly.*Next: pip install 'isost\[plotly\]'"):
        isost.pl.volume(volume, "PC1")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kind": "mesh"}, ValueError, "kind: expected one of points, isosurface, volume"),
        ({"backend": "mayavi"}, ValueError, "backend"),
        ({"threshold": 99.0}, ValueError, "threshold: expected at most the highest value"),
        ({"threshold": "high"}, ValueError, "threshold: expected a number or a percentile"),
        ({"max_voxels": 0}, ValueError, "max_voxels: expected 1 or more"),
        ({"opacity": 2}, ValueError, "opacity"),
        ({"cmap": "rainbows"}, ValueError, "cmap"),
        ({"save": "pc1.doc"}, ValueError, "html"),
    ],
)
def test_bad_requests(volume: SpatialData, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.volume(volume, "PC1", **options)
    assert "Next: " in str(caught.value)


def test_unknown_gene_and_another_type(volume: SpatialData) -> None:
    with pytest.raises(KeyError, match="close: Gad1"):
        isost.pl.volume(volume, "gad1")
    with pytest.raises(TypeError, match="expected a SpatialData"):
        isost.pl.volume(np.zeros((2, 2, 2)), "PC1")


@pytest.mark.filterwarnings("ignore::Warning:pyvista")
@pytest.mark.parametrize("kind", ["points", "isosurface", "volume"])
def test_pyvista_draws_at_the_same_place(bright: SpatialData, kind: str) -> None:
    pytest.importorskip("pyvista", reason="pyvista is not installed")
    plotter = isost.pl.volume(bright, "PC1", threshold=0.5, kind=kind, backend="pyvista")
    bounds = np.array(plotter.actors["quantity"].GetBounds()).reshape(3, 2)
    if kind == "volume":
        np.testing.assert_allclose(bounds, [(-45, 45), (-5, 65), (95, 145)])
    else:
        np.testing.assert_allclose(bounds.mean(axis=1), BRIGHT)
        assert ((np.ptp(bounds, axis=1) > 4) & (np.ptp(bounds, axis=1) < 11)).all()
    assert "tissue" in plotter.actors
    plotter.close()


def test_every_point_that_reaches_the_threshold(volume_of: Callable[..., SpatialData]) -> None:
    sdata = volume_of(shape=(3, 20, 20))
    values = sdata.images["isost_volume"]["scale0"]["image"].values[0]
    places, _ = trace(isost.pl.volume(sdata, "PC1", threshold="p75"))
    assert len(places) == (values >= np.nanpercentile(values, 75)).sum()
