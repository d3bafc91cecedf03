from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData
from spatialdata.models import Labels3DModel, PointsModel
from spatialdata.transformations import Scale, Sequence, Translation

import isost
from isost.pl import _layers
from isost.pl._layers import cells_layer, labels_layer, sections_layer, volume_layer
from isost.pl._quantity import read_volume

BRIGHT_ZYX = (125.0, 45.0, 25.0)
SCREENSHOT = """
import json, sys
import numpy as np
import napari
from qtpy.QtWidgets import QApplication
from spatialdata import read_zarr
import isost

viewer = isost.pl.napari(read_zarr(sys.argv[1]), genes="PC1", labels="domain")


def picture(path=None):
    for _ in range(10):
        QApplication.processEvents()
    return viewer.screenshot(path, canvas_only=True, flash=False)[..., :3].astype(float)


all_layers, drawn = picture(sys.argv[2]), {}
for layer in viewer.layers:
    if layer.visible:
        layer.visible = False
        drawn[layer.name] = int((np.abs(picture() - all_layers).max(axis=-1) > 8).sum())
        layer.visible = True
print(json.dumps({
    "layers": [layer.name for layer in viewer.layers], "ndisplay": viewer.dims.ndisplay,
    "drawn": drawn, "limits": list(viewer.layers["PC1"].contrast_limits),
    "bar": viewer.scale_bar.visible, "last": list(viewer.layers[0].data_to_world((3, 5, 7))),
    "units": str(viewer.layers[0].units[0]),
}))
viewer.close()
"""


@pytest.fixture
def labelled(bright: SpatialData) -> SpatialData:
    """With regions 1 (lower half along z) and 2, their names and colours, and some cells."""
    regions = np.ones((4, 6, 8), dtype=np.int32)
    regions[2:] = 2
    axes = ("z", "y", "x")
    place = Sequence([Scale([10.0] * 3, axes=axes), Translation([100.0, 0.0, -40.0], axes=axes)])
    bright.labels["isost_domain"] = Labels3DModel.parse(regions, dims=axes, transformations={"global": place})
    bright.labels["plain"] = Labels3DModel.parse(regions, dims=axes, transformations={"global": place})
    bright.attrs["isost"]["labels"] = {"domain": {"names": ["cortex", "white"], "colors": ["#ff0000", "#00ff00"]}}
    cells = pd.DataFrame({"x": [-40.0, 0.0, 39.0], "y": [0.0, 30.0, 59.0], "z": [101.0, 120.0, 139.0]})
    bright.points["isost_points"] = PointsModel.parse(cells)
    return bright


def world(layer: Any, index: tuple[int, int, int]) -> np.ndarray:
    return np.array(index) * layer.scale + layer.translate


def test_a_voxel_lies_where_it_is(bright: SpatialData) -> None:
    layer = volume_layer(read_volume(bright, "PC1"), "PC1", "inferno", "p1", None)
    assert isinstance(layer.data, da.Array), "read when it is drawn"
    values = np.asarray(layer.data)
    np.testing.assert_allclose(world(layer, np.unravel_index(values.argmax(), values.shape)), BRIGHT_ZYX)
    assert layer.options["contrast_limits"] == (0.0, 1.0)
    assert np.isfinite(values).all()
    assert values[0, 0, 0] == 0.0, "outside the tissue lies the lower limit"


def test_what_is_too_large_for_3d_is_a_pyramid(
    bright: SpatialData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_layers, "_IN_3D", 30)
    caplog.set_level("INFO", "isost")
    layer = volume_layer(read_volume(bright, "PC1"), "PC1", "inferno", None, None)
    assert [level.shape for level in layer.data] == [(4, 6, 8), (2, 3, 4)]
    assert layer.data[1][1, 2, 3].compute() == pytest.approx(0.125)
    assert "means of 2 x 2 x 2 voxels" in caplog.text


def test_labels_with_names_and_colours(labelled: SpatialData) -> None:
    for key in ("domain", "isost_domain"):
        layer = labels_layer(labelled, key)
        assert layer.name == "domain"
        np.testing.assert_allclose(world(layer, (0, 0, 0)), (105, 5, -35))
        assert layer.options["features"]["name"] == ["outside", "cortex", "white"]
        np.testing.assert_allclose(layer.options["colormap"][2], (0, 1, 0, 1))
    plain = labels_layer(labelled, "plain")
    assert "colormap" not in plain.options
    with pytest.raises(KeyError, match=r"expected 'area' or 'isost_area'.*Next: "):
        labels_layer(labelled, "area")


def test_cells_and_sections_keep_depth(labelled: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = cells_layer(labelled)
    assert layer is not None
    np.testing.assert_array_equal(layer.data, [(101, 0, -40), (120, 30, 0), (139, 59, 39)])
    frames = sections_layer(read_volume(labelled, "PC1"))
    assert frames is not None
    assert [set(frame[:, 0]) for frame in frames.data] == [{100.0}, {140.0}]
    assert (frames.data[0].min(axis=0).tolist(), frames.data[0].max(axis=0).tolist()) == ([100, 0, -40], [100, 60, 40])
    monkeypatch.setattr(_layers, "_MOST_CELLS", 2)
    fewer = cells_layer(labelled)
    assert fewer is not None
    assert (len(fewer.data), fewer.name) == (2, "cells, 1 of 2")


def test_without_napari(bright: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(ImportError, match=r"Expected the package napari.*Next: pip install 'isost\[napari\]'"):
        isost.pl.napari(bright)


@pytest.mark.filterwarnings("ignore::Warning")  # of napari and what it loads
def test_layers_of_the_viewer(labelled: SpatialData, monkeypatch: pytest.MonkeyPatch) -> None:
    napari = pytest.importorskip("napari", reason="napari is not installed")
    from napari.components import ViewerModel

    def without_a_window(show: bool, **options: Any) -> Any:
        assert not show
        return ViewerModel(**options)

    monkeypatch.setattr(napari, "Viewer", without_a_window, raising=False)
    viewer = isost.pl.napari(labelled, genes=["PC1", "Gad1"], labels="domain", show=False)
    assert [layer.name for layer in viewer.layers] == ["PC1", "Gad1", "domain", "cells", "measured sections"]
    image, gene, domain, cells, sections = viewer.layers
    np.testing.assert_allclose(image.data_to_world((2, 4, 6)), BRIGHT_ZYX)
    np.testing.assert_allclose(image.data_to_world((3, 5, 7)), (135, 55, 35))
    np.testing.assert_allclose(domain.extent.world, image.extent.world)
    np.testing.assert_allclose(cells.data_to_world(cells.data[1]), (120, 30, 0))
    assert {frame[0, 0] for frame in sections.data} == {100.0, 140.0}
    assert image.colormap.name != gene.colormap.name
    np.testing.assert_allclose(domain.get_color(1), (1, 0, 0, 1))
    assert viewer.dims.ndisplay == 3
    assert viewer.scale_bar.visible
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"micrometer"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"genes": "gad1"}, KeyError, "close: Gad1"),
        ({"labels": ["nothing"]}, KeyError, "labels: expected 'nothing'"),
        ({"genes": ["PC1", "PC2"], "cmaps": ["red"]}, ValueError, "cmaps: expected one for each of 2 genes"),
    ],
)
def test_bad_requests(bright: SpatialData, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.napari(bright, show=False, **options)
    assert "Next: " in str(caught.value)


def test_screenshot(labelled: SpatialData, tmp_path: Path, run_on_a_screen: Callable[..., str]) -> None:
    labelled.write(tmp_path / "volume.zarr")
    said = json.loads(run_on_a_screen(SCREENSHOT, tmp_path / "volume.zarr", tmp_path / "shot.png").splitlines()[-1])
    assert said["layers"] == ["PC1", "domain", "cells", "measured sections"]
    assert (said["ndisplay"], said["bar"], said["units"]) == (3, True, "micrometer")
    np.testing.assert_allclose(said["last"], (135, 55, 35))
    limits = volume_layer(read_volume(labelled, "PC1"), "PC1", "inferno", "p1", "p99.8").options["contrast_limits"]
    np.testing.assert_allclose(said["limits"], limits)
    assert list(said["drawn"]) == ["PC1", "domain", "measured sections"], "cells are hidden at first"
    assert min(said["drawn"].values()) > 200, "pixels that are others without the layer"


@pytest.fixture
def run_on_a_screen() -> Callable[..., str]:
    """Run a script where OpenGL draws: on the screen that there is, on one of xvfb, or not at all."""
    pytest.importorskip("napari", reason="napari is not installed")
    pytest.importorskip("qtpy", reason="napari has no Qt")
    command = [sys.executable, "-c"]
    if not os.environ.get("DISPLAY") and sys.platform.startswith("linux"):
        if shutil.which("xvfb-run") is None:
            pytest.skip("no screen, and no xvfb-run to make one")
        command = ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24", *command]

    def run(script: str, *arguments: Path) -> str:
        done = subprocess.run(
            [*command, script, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode and any(word in done.stderr for word in ("OpenGL", "GLX", "xcb", "EGL")):
            pytest.skip(f"no OpenGL here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
