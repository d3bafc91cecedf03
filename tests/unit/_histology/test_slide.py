"""Images of any kind are the same slide: colours, white, the size of a pixel, and regions of any size."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from PIL import Image
from spatialdata import SpatialData, get_pyramid_levels
from spatialdata.models import Image2DModel
from spatialdata.transformations import Scale, Translation
from spatialdata.transformations import Sequence as Steps

from isost._histology.slide import Slide, open_slide


def colours(height: int = 40, width: int = 52, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    values[0, 0], values[-1, -1] = 255, 0
    return values


def opened(image: Any, pixel_size: Any = 0.5) -> Slide:
    return open_slide(image, pixel_size, finest=0.5)


def whole(slide: Slide) -> np.ndarray:
    found = slide.region(0, 0, *slide.shape)
    assert found.dtype == np.uint8 and found.shape == (*slide.shape, 3)
    return found


@pytest.mark.parametrize("kind", ["last", "first", "dask", "dask first", "readonly"])
def test_arrays(kind: str) -> None:
    rgb = colours()
    image: Any = np.moveaxis(rgb, 2, 0) if "first" in kind else rgb.copy()
    if "dask" in kind:
        image = da.from_array(image, chunks=16)
    elif kind == "readonly":
        image.flags.writeable = False
    slide = opened(image)
    assert slide.shape == (40, 52) and slide.pixel_size == 0.5
    np.testing.assert_array_equal(slide.to_pixels, [[1, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(whole(slide), rgb)


@pytest.mark.parametrize("kind", ["16 bits", "12 bits", "12 bits, big-endian", "8 bits", "float32", "float64"])
def test_values_of_any_type(kind: str) -> None:
    """The same colours, to the last bit, because each type holds them all."""
    rgb = colours()
    image = {
        "16 bits": rgb.astype(np.uint16) * 257,
        "12 bits": np.round(rgb * (4095 / 255)).astype(np.uint16),
        "12 bits, big-endian": np.round(rgb * (4095 / 255)).astype(">u2"),
        "8 bits": rgb.astype(np.uint16),
        "float32": (rgb / 255).astype(np.float32),
        "float64": rgb / 255,
    }[kind]
    np.testing.assert_array_equal(whole(opened(image)), rgb)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_transparent_pixels_show_the_lamp(kind: str) -> None:
    rgba = colours(channels=4)
    rgba[5, 5], rgba[6, 6] = (10, 20, 30, 0), (10, 20, 30, 255)
    image = {"uint8": rgba, "uint16": rgba.astype(np.uint16) * 257, "float32": (rgba / 255).astype(np.float32)}[kind]
    found = whole(opened(image))
    share = rgba[..., 3:] / 255
    assert np.abs(found - (rgba[..., :3] * share + 255 * (1 - share))).max() <= 0.501
    assert found[5, 5].tolist() == [255] * 3 and found[6, 6].tolist() == [10, 20, 30]


@pytest.mark.parametrize("how", [{}, {"tile": (16, 16)}, {"planarconfig": "separate"}, {"bigtiff": True}])
def test_tiff(tmp_path: Path, how: dict[str, Any]) -> None:
    rgb = colours()
    image = np.moveaxis(rgb, 2, 0) if "planarconfig" in how else rgb
    tifffile.imwrite(tmp_path / "slide.tif", image, photometric="rgb", **how)
    for path in (tmp_path / "slide.tif", str(tmp_path / "slide.tif")):
        slide = opened(path, 0.3)
        assert slide.pixel_size == 0.3
        np.testing.assert_array_equal(whole(slide), rgb)


@pytest.mark.parametrize(("size", "unit", "expected"), [(0.25, "µm", 0.25), (325.0, "nm", 0.325), (0.0005, "mm", 0.5)])
@pytest.mark.parametrize("axes", ["YXS", "CYX"])
def test_the_pixel_size_of_ome_tiff(tmp_path: Path, size: float, unit: str, expected: float, axes: str) -> None:
    rgb = colours()
    meta = {"axes": axes, "PhysicalSizeX": size, "PhysicalSizeXUnit": unit,
            "PhysicalSizeY": size, "PhysicalSizeYUnit": unit}  # fmt: skip
    image, kind = (rgb, "rgb") if axes == "YXS" else (np.moveaxis(rgb, 2, 0), "minisblack")
    tifffile.imwrite(tmp_path / "slide.ome.tif", image, photometric=kind, metadata=meta, ome=True)
    slide = opened(tmp_path / "slide.ome.tif", None)
    assert slide.pixel_size == pytest.approx(expected)
    np.testing.assert_array_equal(whole(slide), rgb)
    assert opened(tmp_path / "slide.ome.tif", 0.7).pixel_size == 0.7, "what is given counts"


@pytest.mark.parametrize(("unit", "expected"), [("CENTIMETER", 10_000 / 25_000), ("INCH", 25_400 / 25_000)])
def test_the_pixel_size_of_resolution_tags(tmp_path: Path, unit: str, expected: float) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, colours(), photometric="rgb", resolution=(25_000, 25_000), resolutionunit=unit)
    assert opened(path, None).pixel_size == pytest.approx(expected)


@pytest.mark.parametrize(("resolution", "unit"), [(72, "INCH"), (300, "INCH"), (28, "CENTIMETER"), (25_000, "NONE")])
def test_the_resolution_of_a_screen_is_not_believed(tmp_path: Path, resolution: int, unit: str) -> None:
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, colours(), photometric="rgb", resolution=(resolution, resolution), resolutionunit=unit)
    with pytest.raises(ValueError, match="pixel_size: expected the µm of a pixel, found"):
        opened(path, None)
    assert opened(path, 0.5).pixel_size == 0.5


def test_a_pyramid_in_tiff_is_read_at_full_resolution(tmp_path: Path) -> None:
    rgb = colours(64, 96)
    with tifffile.TiffWriter(tmp_path / "slide.ome.tif") as file:
        file.write(rgb, photometric="rgb", subifds=1, tile=(16, 16), metadata={"axes": "YXS", "PhysicalSizeX": 0.25})
        file.write(rgb[::2, ::2], photometric="rgb", subfiletype=1, tile=(16, 16))
    slide = opened(tmp_path / "slide.ome.tif", None)
    assert slide.pixel_size == 0.25
    np.testing.assert_array_equal(whole(slide), rgb)


def test_files_are_closed(tmp_path: Path) -> None:
    """At the latest when the slide is gone, and without a warning."""
    tifffile.imwrite(tmp_path / "slide.tif", colours(), photometric="rgb")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        slide = opened(tmp_path / "slide.tif")
        whole(slide)
        del slide
        gc.collect()
    assert not [str(one.message) for one in said if one.category is ResourceWarning]


def test_png_and_jpeg(tmp_path: Path) -> None:
    rgb, rgba = colours(), colours(channels=4)
    Image.fromarray(rgb).save(tmp_path / "slide.png")
    np.testing.assert_array_equal(whole(opened(tmp_path / "slide.png")), rgb)
    Image.fromarray(rgba).save(tmp_path / "clear.PNG")
    np.testing.assert_array_equal(whole(opened(tmp_path / "clear.PNG")), whole(opened(rgba)))
    flat = np.full((40, 52, 3), (200, 120, 180), dtype=np.uint8)
    Image.fromarray(flat).save(tmp_path / "slide.jpg", quality=95)
    found = whole(opened(tmp_path / "slide.jpg"))
    assert np.abs(found.astype(int) - flat).max() <= 3
    limit = Image.MAX_IMAGE_PIXELS
    assert limit, "the guard of PIL is left as it was"


def test_a_palette(tmp_path: Path) -> None:
    drawn = np.full((20, 30, 3), (200, 120, 180), dtype=np.uint8)
    drawn[5:9, 4:8] = (60, 40, 140)
    Image.fromarray(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=4).save(tmp_path / "slide.png")
    np.testing.assert_array_equal(whole(opened(tmp_path / "slide.png")), drawn)


def test_a_jpeg_for_print_has_no_opacity(tmp_path: Path) -> None:
    """Its four colours are cyan, magenta, yellow and black."""
    flat = Image.fromarray(np.full((40, 52, 3), (200, 120, 180), dtype=np.uint8))
    flat.convert("CMYK").save(tmp_path / "slide.jpg", quality=95)
    assert np.abs(whole(opened(tmp_path / "slide.jpg")).astype(int) - np.asarray(flat)).max() <= 4


def test_an_image_of_a_spatialdata() -> None:
    rgb = colours()
    plain = Image2DModel.parse(np.moveaxis(rgb, 2, 0), dims=("c", "y", "x"))
    slide = opened(plain)
    np.testing.assert_array_equal(whole(slide), rgb)
    np.testing.assert_array_equal(slide.to_pixels, [[1, 0, 0], [0, 1, 0]])
    steps = Steps([Scale([2.0, 4.0], axes=("x", "y")), Translation([10.0, -3.0], axes=("x", "y"))])
    placed = Image2DModel.parse(rgb, dims=("y", "x", "c"), transformations={"global": steps})
    slide = opened(placed)
    np.testing.assert_array_equal(whole(slide), rgb)
    np.testing.assert_allclose(slide.to_pixels, [[0.5, 0, -5.0], [0, 0.25, 0.75]])
    assert slide.pixel_size == 0.5


@pytest.mark.parametrize(("size", "level"), [(0.125, 2), (0.1, 2), (0.25, 1), (0.24, 1), (0.3, 0), (0.5, 0), (2.0, 0)])
def test_the_level_of_a_pyramid(size: float, level: int) -> None:
    """The coarsest of pixels of no more than 0.5 µm; if there is none, the finest."""
    to_global = {"global": Scale([3.0, 3.0], axes=("x", "y"))}
    pyramid = Image2DModel.parse(
        np.moveaxis(colours(64, 96), 2, 0), dims=("c", "y", "x"), scale_factors=[2, 2], transformations=to_global
    )
    slide = opened(pyramid, size)
    expected = list(get_pyramid_levels(pyramid))[level]
    np.testing.assert_array_equal(whole(slide), expected.transpose("y", "x", "c").values)
    assert slide.pixel_size == pytest.approx(size * 2**level)
    np.testing.assert_allclose(slide.to_pixels @ [96.0 * 3, 64.0 * 3, 1], slide.shape[::-1])


def test_beyond_the_image_is_white() -> None:
    rgb = np.minimum(colours(), 250)
    slide = opened(rgb)
    found = slide.region(-3, -5, 50, 70)
    np.testing.assert_array_equal(found[3:43, 5:57], rgb)
    found[3:43, 5:57] = 255
    assert (found == 255).all()
    for top, left in ((-30, 0), (0, -30), (40, 0), (0, 52), (500, 500)):
        assert (slide.region(top, left, 20, 20) == 255).all()
    np.testing.assert_array_equal(slide.region(7, 9, 4, 5), rgb[7:11, 9:14])


def test_pixels_of_the_same_size_are_kept() -> None:
    rgb = colours()
    np.testing.assert_array_equal(opened(rgb).resampled(7, 9, 12, 15, 0.5), rgb[7:19, 9:24])


@pytest.mark.parametrize("size", [0.2, 0.25, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("along", ["x", "y"])
def test_a_ramp_stays_a_ramp(size: float, along: str) -> None:
    """5 a pixel, so that half a pixel would be told: the pixel k, whose middle is k + 0.5, has the value 5 k."""
    ramp = np.broadcast_to((5 * np.arange(50, dtype=np.uint8))[None, :, None], (50, 50, 3))
    slide = opened(np.ascontiguousarray(ramp if along == "x" else ramp.swapaxes(0, 1)))
    middle = (np.arange(12) + 0.5) * size / 0.5
    for corner in (10, 10.3, 10.5, 11.8):
        where = (10.0, corner) if along == "x" else (corner, 10.0)
        found = slide.resampled(*where, 12, 12, size).astype(float)
        expected = 5 * (corner + middle - 0.5)
        expected = expected[None, :, None] if along == "x" else expected[:, None, None]
        assert np.abs(found - expected).max() < 0.75


def test_resampled_beyond_the_image_is_white() -> None:
    slide = opened(np.zeros((40, 52, 3), dtype=np.uint8))
    found = slide.resampled(-20, -20, 20, 20, 1.0)
    assert (found[11:, 11:] == 0).all() and (found[:9] == 255).all() and (found[:, :9] == 255).all()


@pytest.mark.parametrize("image", [
    colours()[..., 0], colours()[..., :1], colours()[None, ..., 0], colours()[..., :2], colours()[None],
    np.zeros((20, 30, 5), dtype=np.uint8), np.zeros((0, 20, 3), dtype=np.uint8),
    colours().astype(np.int32), colours().astype(np.int64), colours().astype(np.float32),
    colours() / 255 - 0.1, np.where(colours() > 9, colours() / 255, np.nan),
    np.full((9, 9, 3), np.nan), colours() * 1j,
    Image2DModel.parse(colours()[None, ..., 0], dims=("c", "y", "x")),
], ids=["grey", "one channel", "one channel first", "two channels", "four axes", "five channels", "no pixels", "int32",
        "int64", "above 1", "below 0", "NaN", "nothing but NaN", "complex", "grey image of SpatialData"])  # fmt: skip
def test_images_that_are_none(image: Any) -> None:
    with pytest.raises(ValueError, match=r"image: expected .*, found .*Next: "):
        opened(image)


@pytest.mark.parametrize("image", [None, 3, [[1, 2]], colours() > 7, colours().astype(str), b"slide.tif"],
                         ids=["None", "number", "list", "bool", "str", "bytes"])  # fmt: skip
def test_things_that_are_no_image(image: Any) -> None:
    with pytest.raises(TypeError, match=r"image: expected .*, found .*Next: "):
        opened(image)


def test_a_whole_spatialdata() -> None:
    element = Image2DModel.parse(np.moveaxis(colours(), 2, 0), dims=("c", "y", "x"))
    with pytest.raises(TypeError, match=r"image: expected one image, found a SpatialData with 'stain'.*Next: "):
        opened(SpatialData(images={"stain": element}))


@pytest.mark.parametrize("size", [0, -0.5, np.nan, np.inf, True, "0.5", [0.5]], ids=repr)
def test_sizes_of_pixels_that_are_none(size: Any) -> None:
    with pytest.raises(ValueError, match=r"pixel_size: expected .*, found .*Next: "):
        opened(colours(), size)


def test_nothing_says_the_size_of_a_pixel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", colours(), photometric="rgb", metadata=None)
    Image.fromarray(colours()).save(tmp_path / "slide.png")
    for image in (colours(), tmp_path / "slide.tif", tmp_path / "slide.png"):
        with pytest.raises(ValueError, match="pixel_size: expected the µm of a pixel, found"):
            opened(image, None)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "slide.txt").write_text("none")
    with pytest.raises(ValueError, match=r"image: expected one of \.tif.*, found 'slide.txt'.*Next: "):
        opened(tmp_path / "slide.txt")
    for missing in (tmp_path / "none.tif", tmp_path, str(tmp_path / "none.png")):
        with pytest.raises(FileNotFoundError, match=r"image: expected a file, found none at .*Next: "):
            opened(missing)


@pytest.mark.parametrize("name", ["slide.tif", "slide.ome.tif"])
def test_several_planes(tmp_path: Path, name: str) -> None:
    planes = np.stack([colours()] * 2)
    axes = {"metadata": {"axes": "ZYXS"}} if "ome" in name else {}
    tifffile.imwrite(tmp_path / name, planes, photometric="rgb", **axes)
    with pytest.raises(ValueError, match=r"image: expected one plane, found 2 along .*Next: "):
        opened(tmp_path / name)


def test_a_grey_tiff(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", colours()[..., 0], photometric="minisblack")
    with pytest.raises(ValueError, match="image: expected three colours, found a grey image"):
        opened(tmp_path / "slide.tif")
