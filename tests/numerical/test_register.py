"""Images laid over sections: the map that was applied is found, and another tissue is refused."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from xarray import DataArray

import isost
from isost._images.planes import ImagePlanes


@pytest.fixture(scope="module")
def adata() -> AnnData:
    return isost.datasets.phantom("bending", n_sections=4, spacing=100, n_cells=400, n_genes=10, rng=2)


@pytest.fixture(scope="module")
def features(adata: AnnData) -> DataArray:
    return isost.pp.image_features(isost.datasets.phantom_image(adata, spacing=100), kernel_sizes=(3,))


def turned(angle: float, *, stretch: float = 1.0, shift: tuple[float, float] = (2500.0, -900.0)) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch, 1.0])
    return np.column_stack([linear, shift])


def away(adata: AnnData, matrix: np.ndarray) -> AnnData:
    """Sections in another frame than the images."""
    moved = adata.copy()
    moved.obsm["spatial"][:, :2] = adata.obsm["spatial"][:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return moved


@pytest.mark.parametrize(("angle", "stretch"), [(0.0, 1.0), (35.0, 1.0), (170.0, 1.0), (-80.0, 1.15)])
def test_the_map_is_found(adata: AnnData, features: DataArray, angle: float, stretch: float) -> None:
    matrix = turned(angle, stretch=stretch)
    before = features.attrs["affine"]
    found = isost.pp.align_images(features, away(adata, matrix), affine=stretch != 1.0)
    places = adata.obsm["spatial"][:, :2]
    own = np.array(found.attrs["affine"])
    off = (places @ own[:, :2].T + own[:, 2]) - (places @ matrix[:, :2].T + matrix[:, 2])
    assert np.sqrt((off**2).sum(axis=1).mean()) < 20  # of a tissue 1,000 wide
    assert found.attrs["overlap"] > 0.95
    assert features.attrs["affine"] == before and "overlap" not in features.attrs
    # as the fit reads them: the intensity at a cell is that of before
    moved = away(adata, matrix)
    one, other = (
        ImagePlanes(features).at(adata.obsm["spatial"])[:, 0],
        ImagePlanes(found).at(moved.obsm["spatial"])[:, 0],
    )
    known = np.isfinite(one) & np.isfinite(other)
    assert np.corrcoef(one[known], other[known])[0, 1] > 0.9


def test_another_tissue_is_refused(adata: AnnData, features: DataArray) -> None:
    thin = adata[np.abs(adata.obsm["spatial"][:, 1]) < 60].copy()
    with pytest.raises(ValueError, match="found that .* of cells and tissue lie together at best, less than 80%.*Next"):
        isost.pp.align_images(features, thin, affine=False)


def test_planes_elsewhere_in_depth(adata: AnnData, features: DataArray) -> None:
    with pytest.raises(ValueError, match="found planes from 5000 to 5300. Next"):
        isost.pp.align_images(features.assign_coords(z=features.z + 5000), adata)
    with pytest.raises(TypeError, match="expected what isost.pp.image_features returns"):
        isost.pp.align_images(np.zeros((3, 4, 5)), adata)
