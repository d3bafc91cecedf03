from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import squidpy as sq
from scipy.spatial.transform import Rotation
from spatialdata import SpatialData
from spatialdata.transformations import get_transformation

import isost

Make = Callable[..., SpatialData]

SHAPE = (9, 14, 11)
SIZE = (10.0, 10.0, 10.0)
ORIGIN = (-30.0, 5.0, 100.0)


@pytest.fixture(scope="module")
def reconstructed() -> SpatialData:
    adata = isost.datasets.phantom(n_sections=4, n_cells=150, n_genes=10, rng=1)
    isost.pp.embed(adata, n_comps=4)
    return isost.tl.reconstruct(adata, voxel_size=50.0, epochs=1, progress=False, rng=0)


def volume_of(gene_volume: Make, size: tuple[float, ...] = SIZE) -> tuple[SpatialData, np.ndarray, np.ndarray]:
    """Two genes, of which the second is linear in place; some voxels are no tissue."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(SHAPE) + 0.5
    linear = x * size[0] + 2 * y * size[1] - 3 * z * size[2]
    values = np.stack([rng.normal(size=SHAPE), linear])
    mask = np.ones(SHAPE, bool)
    mask[:, 0, :3] = mask[4, 7:9, 5] = False
    return gene_volume(values, mask, ["random", "linear"], size=size, origin=ORIGIN), values, mask


def test_across_depth_it_is_the_plane_of_the_volume(gene_volume: Make) -> None:
    sdata, values, mask = volume_of(gene_volume)
    for plane in range(SHAPE[0]):
        z = ORIGIN[2] + (plane + 0.5) * SIZE[2]
        section = isost.tl.virtual_section(sdata, origin=(7.0, -50.0, z), normal=(0, 0, 5))
        image = section["isost_section"]
        expected = np.where(mask[plane], values[:, plane], np.nan).astype(np.float32)
        np.testing.assert_array_equal(image.values, expected)
        np.testing.assert_array_equal(section["isost_section_mask"].values, mask[plane])
        matrix = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))
        np.testing.assert_allclose(matrix, [[10, 0, ORIGIN[0]], [0, 10, ORIGIN[1]], [0, 0, 1]])


@pytest.mark.parametrize("size", [SIZE, (10.0, 12.0, 20.0)])
def test_a_linear_function_is_itself_on_any_plane(gene_volume: Make, size: tuple[float, float, float]) -> None:
    z, y, x = np.indices(SHAPE) + 0.5
    linear = x * size[0] + 2 * y * size[1] - 3 * z * size[2]
    sdata = gene_volume(linear[None], np.ones(SHAPE, bool), ["linear"], size=size, origin=ORIGIN)
    middle = np.array(ORIGIN) + np.array(SHAPE[::-1]) * size / 2
    section = isost.tl.virtual_section(sdata, origin=middle, normal=(1, -2, 3), pixel_size=4.0)
    run = section.attrs["isost"]
    image = section["isost_section"].values[0]
    inside = np.isfinite(image)
    frame = np.stack([run["right"], run["up"]])
    corner = get_transformation(section["isost_section"], "global").to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2]
    rows, columns = np.nonzero(inside)
    flat = corner + (np.column_stack([columns, rows]) + 0.5) * 4.0
    normal = np.array(run["normal"])
    places = flat @ frame + (middle @ normal) * normal - ORIGIN
    np.testing.assert_allclose((places - middle + ORIGIN) @ normal, 0.0, atol=1e-9)
    within = ((places >= np.array(size) / 2) & (places <= (np.array(SHAPE[::-1]) - 0.5) * size)).all(axis=1)
    assert within.sum() > 300
    expected = places @ [1.0, 2.0, -3.0]
    np.testing.assert_allclose(image[rows, columns][within], expected[within], rtol=1e-4, atol=1e-2)


def test_a_turned_tissue_cut_alike_looks_alike(gene_volume: Make) -> None:
    """A smooth ball turned by any angle, and the plane with it: the image is the same, but for the grid."""
    turn = Rotation.from_euler("zyx", [25, 40, -10], degrees=True).as_matrix()
    z, y, x = np.indices((30, 30, 30)) + 0.5
    places = (np.stack([x, y, z], axis=-1) - 15.0) * 10.0
    mask = np.linalg.norm(places, axis=-1) < 140
    smooth = lambda at: np.sin(at[..., 0] / 60) + np.cos(at[..., 1] / 50) * at[..., 2] / 100  # noqa: E731
    options = {"origin": (-150.0, -150.0, -150.0)}
    still = gene_volume(smooth(places)[None], mask, ["g"], **options)
    turned = gene_volume(smooth(places @ turn)[None], mask, ["g"], **options)
    normal, right, point = np.array([0.2, 0.5, 1.0]), np.array([1.0, 0.0, 0.0]), np.array([5.0, -10.0, 20.0])
    one = isost.tl.virtual_section(still, origin=point, normal=normal, right=right, pixel_size=2.0)
    other = isost.tl.virtual_section(
        turned, origin=turn @ point, normal=turn @ normal, right=turn @ right, pixel_size=2.0
    )
    here, there = (_by_place(section) for section in (one, other))
    common = sorted(set(here) & set(there))
    assert len(common) > 10_000
    difference = [here[at] - there[at] for at in common]
    assert np.sqrt(np.mean(np.square(difference))) < 0.02, "grids that differ by up to half a pixel"


def _by_place(section: SpatialData) -> dict[tuple[int, int], float]:
    """Pixels by their place rounded to a pixel's edge."""
    image = section["isost_section"]
    corner = get_transformation(image, "global").to_affine_matrix(("x", "y"), ("x", "y"))[:2, 2]
    rows, columns = np.nonzero(np.isfinite(image.values[0]))
    places = np.rint((corner + (np.column_stack([columns, rows]) + 0.5) * 2.0) / 2.0).astype(int)
    return dict(zip(map(tuple, places.tolist()), image.values[0][rows, columns].tolist(), strict=True))


def test_cells_are_those_of_the_slab(reconstructed: SpatialData) -> None:
    table = reconstructed.tables["isost_cells"]
    origin, normal = np.array([0.0, 0.0, 75.0]), np.array([0.0, 0.6, 0.8])
    before = table.obsm["spatial"].copy()
    section = isost.tl.virtual_section(reconstructed, origin=origin, normal=2 * normal, thickness=30.0)
    cells = section["isost_section_cells"]
    offset = (before - origin) @ normal
    near = np.abs(offset) <= 15.0
    assert 0 < near.sum() < len(near)
    assert cells.obs_names.tolist() == table.obs_names[near].tolist()
    np.testing.assert_allclose(cells.obs["offset"], offset[near])
    np.testing.assert_array_equal(cells.obsm["spatial_3d"], before[near])
    np.testing.assert_allclose(cells.obsm["spatial"], before[near] @ np.array([[1, 0, 0], [0, 0.8, -0.6]]).T)
    np.testing.assert_array_equal(cells.X, table.X[near])
    np.testing.assert_array_equal(table.obsm["spatial"], before)
    points = section["isost_section_points"].compute()
    np.testing.assert_allclose(points[["x", "y"]], cells.obsm["spatial"])


@pytest.mark.filterwarnings("ignore:Calling `spatial_neighbors`:FutureWarning")
def test_it_goes_on_to_squidpy_and_to_disk(reconstructed: SpatialData, tmp_path: object) -> None:
    section = isost.tl.virtual_section(reconstructed, origin=(0, 0, 75), normal=(0, 1, 1), thickness=60.0)
    section.write(f"{tmp_path}/section.zarr")
    back = SpatialData.read(f"{tmp_path}/section.zarr")
    assert back.attrs["isost"]["thickness"] == 60.0
    cells = back["isost_section_cells"]
    sq.gr.spatial_neighbors(cells, coord_type="generic", n_neighs=4)
    assert cells.obsp["spatial_connectivities"].shape == (cells.n_obs, cells.n_obs)


def test_genes_are_decoded_on_the_plane(reconstructed: SpatialData) -> None:
    names = ["PC2", *isost._core.voxels.read_voxels(reconstructed).genes[:2]]
    volume = isost.get.gene(reconstructed, names[1])
    depth = float(volume.z[2])
    section = isost.tl.virtual_section(reconstructed, origin=(0, 0, depth), normal=(0, 0, 1), genes=names)
    assert section["isost_section"].coords["c"].values.tolist() == names
    np.testing.assert_allclose(section["isost_section"].values[1], volume.values[2], atol=1e-4)
    np.testing.assert_allclose(
        section["isost_section"].values[0], isost.get.gene(reconstructed, "PC2").values[2], atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"normal": (0, 0, 0)}, ValueError, "normal: expected a direction, found zeros"),
        ({"normal": (0, 1)}, ValueError, "normal: expected three"),
        ({"right": (0, 0, 0)}, ValueError, "right: expected a direction, found zeros"),
        ({"right": (0, 0, -2)}, ValueError, "apart from normal"),
        ({"origin": (0, 0, 1e5)}, ValueError, "misses it"),
        ({"thickness": 0}, ValueError, "thickness: expected a number above 0"),
        ({"pixel_size": -1.0}, ValueError, "pixel_size: expected a number above 0"),
        ({"genes": ["nothing"]}, KeyError, "found 'nothing'"),
        ({"genes": []}, KeyError, "found none"),
    ],
)
def test_errors_say_what_to_do(gene_volume: Make, options: dict, error: type[Exception], words: str) -> None:
    asked = {"origin": (0, 50, 145), "normal": (0, 0, 1)} | options
    with pytest.raises(error, match=f"{words}.*Next"):
        isost.tl.virtual_section(volume_of(gene_volume)[0], **asked)


def test_a_plane_beside_the_tissue_is_refused(gene_volume: Make) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:, :5] = True
    sdata = gene_volume(np.ones((1, *SHAPE)), mask, ["g"])
    with pytest.raises(ValueError, match="misses it.*Next"):
        isost.tl.virtual_section(sdata, origin=(0, 100, 0), normal=(0, 1, 0))
