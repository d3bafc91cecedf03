"""Outlines, points and circles of any kind lie where they should on the slide, or are refused."""

from __future__ import annotations

import logging
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from anndata import AnnData
from shapely import MultiPolygon, Point, Polygon, box
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

from isost._histology.cells import Cells, read_cells
from isost._histology.slide import Slide, open_slide

ROWS, COLUMNS, SIZE = 400, 600, 0.5


@pytest.fixture
def slide() -> Slide:
    return open_slide(np.zeros((ROWS, COLUMNS, 3), dtype=np.uint8), SIZE, finest=0.5)


def read(cells: Any, slide: Slide, **options: Any) -> Cells:
    return read_cells(cells, slide, **{"unit": "pixel", "spatial_key": "spatial", "radius": None} | options)


def frame(*shapes: Any, **columns: Any) -> gpd.GeoDataFrame:
    index = [f"n{k}" for k in range(len(shapes))]
    return gpd.GeoDataFrame(columns, geometry=list(shapes), index=index)


def area(cells: Cells) -> np.ndarray:
    return shapely.area(cells.outline)


def test_polygons(slide: Slide) -> None:
    given = frame(box(10, 20, 30, 28), Polygon([(100, 100), (112, 100), (100, 112)]))
    found = read(given, slide)
    assert found.outlined and len(found) == 2 and found.names.tolist() == ["n0", "n1"]
    np.testing.assert_allclose(found.centre, [[20, 24], [104, 104]])
    np.testing.assert_allclose(area(found), [160, 72])
    assert shapely.equals(found.outline, given.geometry.values).all()


def test_polygons_of_parts_and_with_holes(slide: Slide) -> None:
    parts = MultiPolygon([box(10, 10, 20, 20), box(30, 10, 40, 20)])
    hole = box(50, 50, 70, 70).difference(box(55, 55, 65, 65))
    found = read(frame(parts, hole), slide)
    np.testing.assert_allclose(found.centre, [[25, 15], [60, 60]])
    np.testing.assert_allclose(area(found), [200, 300])


def test_points_are_discs(slide: Slide) -> None:
    """Of 4 µm, or of what is asked for, in pixels of 0.5 µm."""
    places = np.array([[20.0, 30.0], [100.5, 200.25]])
    for given in (
        frame(*map(Point, places)),
        places,
        places.tolist(),
        AnnData(np.zeros((2, 1)), obsm={"spatial": places}),
    ):
        for radius, pixels in ((None, 8), (2.5, 5)):
            found = read(given, slide, radius=radius)
            assert not found.outlined
            np.testing.assert_allclose(found.centre, places)
            np.testing.assert_allclose(area(found), np.pi * pixels**2, rtol=0.01)
            np.testing.assert_allclose(shapely.get_coordinates(shapely.centroid(found.outline)), places)


def test_circles(slide: Slide) -> None:
    found = read(frame(Point(50, 60), Point(80, 90), radius=[3.0, 7.0]), slide, radius=100.0)
    assert found.outlined
    np.testing.assert_allclose(found.centre, [[50, 60], [80, 90]])
    np.testing.assert_allclose(area(found), np.pi * np.square([3, 7]), rtol=0.01)


def test_names(slide: Slide) -> None:
    places = np.array([[20.0, 30.0], [100.0, 200.0]])
    table = AnnData(np.zeros((2, 1)), pd.DataFrame(index=["a", "b"]), obsm={"here": places, "spatial": places[::-1]})
    found = read(table, slide, spatial_key="here")
    assert found.names.tolist() == ["a", "b"]
    np.testing.assert_array_equal(found.centre, places)
    assert read(places, slide).names.tolist() == ["cell0", "cell1"]
    found = read(pd.DataFrame(places, columns=["x", "y"], index=[7, 3]), slide)
    assert found.names.tolist() == ["7", "3"]
    np.testing.assert_array_equal(found.centre, places)
    whole = gpd.GeoDataFrame(geometry=[box(1, 1, 3, 3), box(5, 5, 8, 8)], index=[4, 2])
    assert read(whole, slide).names.tolist() == ["4", "2"]


def test_depth_is_left_out(slide: Slide) -> None:
    found = read(np.array([[20, 30, 999]]), slide)
    np.testing.assert_array_equal(found.centre, [[20, 30]])
    np.testing.assert_array_equal(read(frame(Point(20, 30, 999)), slide).centre, [[20, 30]])


def test_an_outline_that_crosses_itself_is_mended(slide: Slide, caplog: pytest.LogCaptureFixture) -> None:
    """A bow-tie of two triangles keeps both."""
    bow = Polygon([(10, 10), (30, 30), (30, 10), (10, 30)])
    assert not bow.is_valid
    with caplog.at_level(logging.INFO, "isost"):
        found = read(frame(box(50, 50, 60, 60), bow), slide)
    assert "1 of 2 outlines cross themselves" in caplog.text
    assert shapely.is_valid(found.outline).all()
    np.testing.assert_allclose(area(found), [100, 200])
    np.testing.assert_allclose(found.centre[1], [20, 20])


def test_a_tail_of_an_outline_is_cut(slide: Slide) -> None:
    """What is mended has only parts with an area."""
    tail = Polygon([(10, 10), (20, 10), (20, 20), (40, 20), (20, 20), (10, 20)])
    found = read(frame(tail), slide)
    np.testing.assert_allclose(area(found), [100])
    assert set(shapely.get_type_id(found.outline)) <= {3, 6}


def test_micrometres(slide: Slide) -> None:
    found = read(np.array([[20.0, 30.0]]), slide, unit="um")
    np.testing.assert_allclose(found.centre, [[40, 60]])
    np.testing.assert_allclose(area(found), np.pi * 8**2, rtol=0.01)
    found = read(frame(box(10, 20, 30, 28)), slide, unit="um")
    np.testing.assert_allclose(found.outline[0].bounds, [20, 40, 60, 56])
    found = read(frame(Point(10, 20), radius=[3.0]), slide, unit="um")
    np.testing.assert_allclose(area(found), np.pi * 6**2, rtol=0.01)


@pytest.mark.parametrize("kind", ["polygons", "circles", "frame", "table", "multiscale"])
def test_elements_of_a_spatialdata(kind: str) -> None:
    """The same global place, of an image and of shapes whose frames are others."""
    image = Image2DModel.parse(
        np.zeros((3, ROWS, COLUMNS), dtype=np.uint8), dims=("c", "y", "x"),
        scale_factors=[2] if kind == "multiscale" else None,
        transformations={"global": Steps([Scale([2.0, 2.0], axes=("x", "y")),
                                          Translation([100.0, -40.0], axes=("x", "y"))])},
    )  # fmt: skip
    own = {"global": Steps([Scale([0.5, 0.5], axes=("x", "y")), Translation([60.0, 10.0], axes=("x", "y"))])}
    if kind == "circles":
        cells: Any = ShapesModel.parse(np.array([[300.0, 200.0]]), geometry=0, radius=[16.0], transformations=own)
    else:
        cells = ShapesModel.parse(frame(box(284, 184, 316, 216)), transformations=own)
    sdata = SpatialData(images={"image": image}, shapes={"cells": cells})
    cells = sdata["cells"]
    if kind == "frame":  # plain shapes are in the global frame
        cells = frame(box(202, 102, 218, 118))
    elif kind == "table":
        cells = np.array([[210.0, 110.0]])
    size = 0.25 if kind == "multiscale" else SIZE
    slide = open_slide(sdata["image"], size, finest=0.5)
    level = 2 if kind == "multiscale" else 1
    found = read(cells, slide)
    np.testing.assert_allclose(found.centre, np.array([[55, 75]]) / level)  # (210 - 100) / 2, (110 + 40) / 2
    expected = {"circles": np.pi * 4**2, "table": np.pi * 8**2}.get(kind, 64)
    np.testing.assert_allclose(area(found), expected / level**2, rtol=0.01)


def test_two_cells_at_one_place(slide: Slide) -> None:
    found = read(np.array([[20, 30], [20, 30]]), slide)
    np.testing.assert_array_equal(found.centre, [[20, 30], [20, 30]])
    assert len(read(frame(box(1, 1, 9, 9), box(1, 1, 9, 9)), slide)) == 2


def test_cells_at_the_edge(slide: Slide) -> None:
    """Their outline may lie partly beyond it."""
    places = [[0, 0], [COLUMNS - 0.001, ROWS - 0.001]]
    np.testing.assert_array_equal(read(np.array(places), slide).centre, places)
    assert len(read(frame(box(-5, -5, 7, 7)), slide)) == 1


@pytest.mark.parametrize("place", [(-0.1, 5), (5, -0.1), (COLUMNS, 5), (5, ROWS), (ROWS + 5, 5 + ROWS)], ids=repr)
def test_outside_of_the_image(slide: Slide, place: tuple[float, float]) -> None:
    message = r"cells: expected places on the image of 600 x 400 pixels, found 1 of 2 outside .*Next: "
    with pytest.raises(ValueError, match=message):
        read(np.array([place, (20, 30)]), slide)
    with pytest.raises(ValueError, match=message):
        read(frame(Point(place).buffer(0.05), box(1, 1, 3, 3)), slide)


def test_the_other_unit_is_named(slide: Slide) -> None:
    for unit, other in (("pixel", "um"), ("um", "pixel")):
        with pytest.raises(ValueError, match=f"Next: unit='{other}'"):
            read(np.array([[599.0, 401.0]]), slide, unit=unit)


def _repeated() -> AnnData:
    table = AnnData(np.zeros((2, 1)), obsm={"spatial": np.ones((2, 2))})
    table.obs_names = ["a", "a"]
    return table


def test_names_that_are_found_twice(slide: Slide) -> None:
    shapes = gpd.GeoDataFrame(geometry=[Point(1, 1), Point(2, 2)], index=["a", "a"])
    mixed = gpd.GeoDataFrame(geometry=[Point(1, 1), Point(2, 2)], index=pd.Index([1, "1"], dtype=object))
    for cells in (shapes, mixed, _repeated(), pd.DataFrame([[1, 1], [2, 2]], index=["a", "a"])):
        with pytest.raises(ValueError, match=r"cells: expected a name of its own for each, found some twice.*Next: "):
            read(cells, slide)


@pytest.mark.parametrize(("cells", "message"), [
    (frame(), "expected one or more, found none"),
    (np.zeros((0, 2)), "expected one or more, found none"),
    (AnnData(np.zeros((0, 1)), obsm={"spatial": np.zeros((0, 2))}), "expected one or more, found none"),
    (frame(Polygon(), box(1, 1, 3, 3)), "found 1 of 2 that are empty"),
    (frame(None, box(1, 1, 3, 3)), "found 1 of 2 that are empty"),
    (frame(Point(), Point(1, 1)), "found 1 of 2 that are empty"),
    (frame(shapely.LineString([(1, 1), (9, 9)])), "expected polygons or points, found LineString"),
    (frame(Point(1, 1), box(1, 1, 3, 3)), "expected polygons or points, found Point, Polygon"),
    (frame(Polygon([(1, 1), (5, 5), (9, 9)]), box(1, 1, 3, 3)), "expected outlines with an area, found 1 without"),
    (frame(Point(9, 9), Point(30, 30), radius=[0.0, 3.0]), "expected .*found 1"),
    (frame(Point(9, 9), Point(30, 30), radius=[np.nan, 3.0]), "expected .*found 1"),
    (frame(Point(9, 9), Point(30, 30), radius=[-2.0, 3.0]), "expected .*found 1"),
    (np.array([[1, 1], [np.nan, 3]]), "expected finite positions, found 1 of 2 that are not"),
    (np.array([[1, np.inf]]), "expected finite positions, found 1 of 1 that are not"),
    (frame(Point(1, 1), Point(np.nan, np.nan)), "expected .*found 1 of 2"),
    (np.ones((3, 1)), r"expected positions \(n, 2\), found float64 of shape \(3, 1\)"),
    (np.ones(3), r"expected positions \(n, 2\), found float64 of shape \(3,\)"),
    (np.array([["a", "b"]]), r"expected positions \(n, 2\), found"),
    (pd.DataFrame({"x": ["a"], "y": ["b"]}), r"expected positions \(n, 2\), found"),
    (frame(box(0, 0, 600, 20)), "expected cells or spots, found an outline of 1000 µm across"),
], ids=["no shapes", "no positions", "no rows", "empty polygon", "None", "empty point", "line", "mixed", "no area",
        "radius 0", "radius NaN", "radius below 0", "NaN", "infinite", "NaN point", "(n, 1)", "(n,)", "text",
        "text in a table", "large"])  # fmt: skip
def test_cells_that_are_none(cells: Any, message: str) -> None:
    """The image is a millimetre wide for the last, so that its outline is too."""
    slide = open_slide(np.zeros((ROWS, COLUMNS, 3), dtype=np.uint8), 1000 / 600, finest=0.5)
    with pytest.raises(ValueError, match=rf"(?s)cells: (?=.*Next: ).*({message})"):
        read(cells, slide)


@pytest.mark.parametrize("cells", [None, 3, "nuclei.geojson", {"x": [1]}, gpd.GeoSeries([Point(1, 1)])], ids=str)
def test_things_that_are_no_cells(slide: Slide, cells: Any) -> None:
    with pytest.raises(TypeError, match=r"cells: expected a GeoDataFrame, .*, found .*Next: "):
        read(cells, slide)


def test_a_wrong_spatial_key(slide: Slide) -> None:
    table = AnnData(np.zeros((2, 1)), obsm={"here": np.ones((2, 2))})
    with pytest.raises(ValueError, match=r"spatial_key: expected .*here.*, found 'spatial'.*Next: "):
        read(table, slide)


def test_what_is_given_is_not_changed(slide: Slide) -> None:
    given = frame(Polygon([(10, 10), (30, 30), (30, 10), (10, 30)]), box(1, 1, 3, 3))
    before = given.to_wkb()
    read(given, slide, unit="um")
    pd.testing.assert_frame_equal(pd.DataFrame(given.to_wkb()), pd.DataFrame(before))
