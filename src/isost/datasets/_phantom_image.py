from __future__ import annotations

import anndata as ad
import numpy as np
from xarray import DataArray

from isost._core.random import Rng, numpy_generator
from isost.datasets._panel import CELL_TYPES
from isost.datasets._phantom import phantom_truth

#: Intensity of each cell type; what lies outside the tissue is dark.
TONES = dict(zip(CELL_TYPES, (0.3, 0.55, 0.8, 0.45, 1.0, 0.6, 0.2), strict=True))
_MARGIN = 0.05  # of the extent


def phantom_image(
    adata: ad.AnnData,
    *,
    spacing: float | None = None,
    pixel_size: float = 10.0,
    noise: float = 0.05,
    rng: Rng = 0,
) -> DataArray:
    """Render a stain of a phantom: planes at any spacing, between its sections too, as of a microscope.

    Each cell type takes up the stain to its own degree, and the intensity of a place is the mean over the types found
    there (`PhantomTruth.type_probability`), with noise: the image shows the outline and the layers of the tissue, and
    of genes only what follows cell types.

    Parameters
    ----------
    adata
        What `isost.datasets.phantom` returned, or a subset of it.
    spacing
        Distance of the planes along depth, µm; from the first depth of the phantom to its last. None: a quarter of that
        of its sections.
    pixel_size
        Of a plane, µm.
    noise
        Standard deviation of Gaussian noise; the brightest tissue is 1 and the background 0.
    rng
        Seed or generator of the noise.

    Returns
    -------
    xarray.DataArray
        ``(z, y, x)`` float32 with positions in µm, in the frame of the sections, for `isost.pp.image_features`.

    Raises
    ------
    KeyError
        If ``uns["phantom"]`` is missing.
    ValueError
        If a length is not above 0, or the noise below 0.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom("bending", n_cells=100, n_genes=10)
    >>> image = isost.datasets.phantom_image(adata, spacing=100, pixel_size=20)
    >>> image.sizes["z"], float(image.z[1])
    (5, 100.0)
    """
    truth = phantom_truth(adata)
    geometry = truth.geometry
    if spacing is None:
        spacing = float(adata.uns["phantom"]["spacing"]) / 4
    wrong = [f"{name}: expected a number above 0, found {value!r}" for name, value in
             (("spacing", spacing), ("pixel_size", pixel_size)) if not 0 < value < np.inf]  # fmt: skip
    if not 0 <= noise < np.inf:
        wrong.append(f"noise: expected 0 or a positive number, found {noise!r}")
    if wrong:
        raise ValueError("; ".join(wrong) + ". Next: leave them out.")
    z = np.arange(int(geometry.depth / spacing * (1 + 1e-9)) + 1) * float(spacing)
    side = np.linspace(-1.0, 1.0, 41)
    edge = np.concatenate([geometry.to_physical(*np.meshgrid(side, side), depth).reshape(-1, 3) for depth in z])
    margin = _MARGIN * geometry.extent
    low, high = edge[:, :2].min(axis=0) - margin, edge[:, :2].max(axis=0) + margin
    x, y = (np.arange(first, last, float(pixel_size)) for first, last in zip(low, high, strict=True))
    generator, tones = numpy_generator(rng), np.array(list(TONES.values()))
    places = np.column_stack([part.ravel() for part in np.meshgrid(x, y)])
    values = np.empty((len(z), len(y), len(x)), dtype=np.float32)
    for plane, depth in zip(values, z, strict=True):
        share = truth.type_probability(np.column_stack([places, np.full(len(places), depth)]))
        intensity = np.nan_to_num(share @ tones, nan=0.0).reshape(plane.shape)
        plane[:] = intensity + noise * generator.standard_normal(plane.shape)
    return DataArray(values, dims=("z", "y", "x"), coords={"z": z, "y": y, "x": x}, name="stain")
