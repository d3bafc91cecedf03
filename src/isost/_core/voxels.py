"""The SpatialData door, inwards: the volume of a reconstruction as lazy arrays, and where its voxels lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
from spatialdata import SpatialData, get_pyramid_levels
from spatialdata.transformations import get_transformation
from xarray import DataArray

from isost._core.decoder import MEAN_KEY, Decoder, loadings_key
from isost._core.tables import REMAINDER, feature_names

AXES = ("x", "y", "z")
_ROUNDING = 1e-3  # of a voxel


@dataclass(frozen=True, eq=False)
class Voxels:
    """A reconstruction on its grid.

    Attributes
    ----------
    values
        Lazy (C, z, y, x) float32, the channels of ``isost_volume``, NaN outside the tissue.
    channels
        Their names: features, or genes where the volume was made of genes.
    remainder
        Lazy (Q, z, y, x), what genes have beside their features; None where nothing was kept.
    decoder
        What genes are decoded from features by; None where the channels are genes, or cannot be decoded.
    beside
        (G, Q) loadings of the remainder.
    lazy_mask
        Lazy (z, y, x), above 0 inside the tissue.
    origin, size
        (3,) float64, x, y, z of the outer corner of the first voxel, and the edges of a voxel.
    run
        What the reconstruction says of itself, `attrs["isost"]`.
    """

    values: da.Array
    channels: tuple[str, ...]
    remainder: da.Array | None
    decoder: Decoder | None
    beside: np.ndarray | None
    lazy_mask: da.Array
    origin: np.ndarray
    size: np.ndarray
    run: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = self.values.shape[1:]
        return z, y, x

    @property
    def unit(self) -> str:
        return str(self.run.get("unit", "um"))

    @property
    def section_depths(self) -> np.ndarray:
        """(K,) depths of the measured sections."""
        return np.asarray(self.run.get("sections", {}).get("depth", []), dtype=np.float64)

    @property
    def genes(self) -> tuple[str, ...]:
        """Names of what `gene` takes beside the channels."""
        return self.channels if self.decoder is None else self.decoder.genes

    def kind(self, name: str) -> str:
        """Say what the values of a channel or a gene are."""
        score = name in self.channels and self.run.get("channels") == "features"
        return "score" if score else "log-normalised expression"

    @cached_property
    def mask(self) -> np.ndarray:
        """(z, y, x) bool, inside the tissue; in memory."""
        return np.asarray(self.lazy_mask) > 0

    def axis(self, name: str) -> np.ndarray:
        """Positions of the voxel centres along x, y or z."""
        at = AXES.index(name)
        return self.origin[at] + (np.arange(self.shape[2 - at]) + 0.5) * self.size[at]

    def centres(self, index: np.ndarray) -> np.ndarray:
        """(m, 3) float64, x, y, z of the centres of voxels given by (m, 3) z, y, x."""
        return self.origin + (np.asarray(index)[:, ::-1] + 0.5) * self.size

    def holds(self, coords: np.ndarray) -> np.ndarray:
        """Tell which places (n, 3) lie in a voxel inside the tissue: (n,) bool."""
        place, shape = (coords - self.origin) / self.size, np.array(self.shape[::-1])
        # the first and the last section may lie on the faces of the grid, which are rounded
        near = ((place >= -_ROUNDING) & (place <= shape + _ROUNDING)).all(axis=1)
        x, y, z = np.clip(np.floor(place), 0, shape - 1).astype(np.int64).T
        return near & self.mask[z, y, x]

    def gene(self, name: str) -> da.Array:
        """Lazy (z, y, x) float32 of a channel, or of a gene: x = mean + L @ g + M @ r."""
        if name in self.channels:
            return self.values[self.channels.index(name)]
        decoder = self._decoder_for(name)
        at = decoder.index(name)[0]
        values = da.tensordot(decoder.loadings[at], self.values, axes=(0, 0)) + decoder.mean[at]
        if self.beside is not None and self.remainder is not None:
            values = values + da.tensordot(self.beside[at], self.remainder, axes=(0, 0))
        return values

    def loadings(self, name: str) -> np.ndarray:
        """(C,) float32, what a gene takes of each channel."""
        decoder = self._decoder_for(name)
        return decoder.loadings[decoder.index(name)[0]]

    def gene_mean(self, name: str) -> float:
        """Look up what a gene is where all channels are 0."""
        decoder = self._decoder_for(name)
        return float(decoder.mean[decoder.index(name)[0]])

    def decoded(self, index: np.ndarray, genes: Sequence[str] | None = None) -> np.ndarray:
        """(m, G) float32 of genes, or of all that there are, at voxels given by (m, 3) z, y, x inside the tissue."""
        scores = self.at(self.values, index)
        if self.decoder is None:
            return scores if genes is None else scores[:, [self.channels.index(name) for name in genes]]
        chosen = np.arange(len(self.decoder.genes)) if genes is None else self.decoder.index(list(genes))
        found = scores @ self.decoder.loadings[chosen].T + self.decoder.mean[chosen]
        if self.beside is not None and self.remainder is not None:
            found += self.at(self.remainder, index) @ self.beside[chosen].T
        return found

    def _decoder_for(self, name: str) -> Decoder:
        if self.decoder is None:
            raise KeyError(
                f"name: expected a channel of the volume ({', '.join(self.channels[:5])}"
                f"{', ...' * (len(self.channels) > 5)}), found {name!r}; the volume holds no features that genes could "
                "be decoded from. Next: reconstruct without genes=, or with this one."
            )
        return self.decoder

    @staticmethod
    def at(values: da.Array, index: np.ndarray) -> np.ndarray:
        """Read (C, z, y, x) at (m, 3) voxels: (m, C), one chunk after the other, so that little is in memory."""
        found = np.empty((len(index), values.shape[0]), dtype=np.float32)
        if not len(index):
            return found
        number = chunk_numbers(values, index)
        order = np.argsort(number, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            low, high = index[rows].min(axis=0), index[rows].max(axis=0) + 1
            box = np.asarray(values[:, low[0] : high[0], low[1] : high[1], low[2] : high[2]])
            z, y, x = (index[rows] - low).T
            found[rows] = box[:, z, y, x].T
        return found


def chunk_numbers(values: da.Array, index: np.ndarray) -> np.ndarray:
    """Find the chunk (m,) of (C, z, y, x) that each of (m, 3) voxels z, y, x lies in, by number."""
    ends = [np.cumsum(lengths) for lengths in values.chunks[1:]]
    at = [np.searchsorted(end, axis, side="right") for end, axis in zip(ends, index.T, strict=True)]
    return np.ravel_multi_index(at, [len(end) for end in ends])


def read_voxels(sdata: SpatialData) -> Voxels:
    """Find the volume of a reconstruction, in memory or opened from disk, whole or cropped.

    Raises
    ------
    TypeError
        If `sdata` is no SpatialData.
    KeyError
        If an element is missing.
    ValueError
        If the volume was rotated.
    """
    if not isinstance(sdata, SpatialData):
        raise TypeError(
            f"sdata: expected a SpatialData, found {type(sdata).__name__}. Next: isost.tl.reconstruct(adata) makes "
            "one; sections in an AnnData are plotted by isost.pl.sections(adata)."
        )
    image, run = full_resolution(sdata, "images", "isost_volume"), dict(sdata.attrs.get("isost", {}))
    channels = tuple(map(str, image.coords["c"].values))
    decoder, beside = _decoder(sdata, list(channels), str(run.get("use_rep", "X_pca")))
    remainder = full_resolution(sdata, "images", "isost_remainder").data if "isost_remainder" in sdata.images else None
    origin, size = place_of(sdata.images["isost_volume"])
    masked = "isost_mask" in sdata.labels  # a crop may lack it
    mask = full_resolution(sdata, "labels", "isost_mask").data if masked else ~da.isnan(image.data[0])
    return Voxels(image.data, channels, remainder, decoder, beside, mask, origin, size, run)


def full_resolution(sdata: SpatialData, kind: str, name: str) -> DataArray:
    """Look an element up among the images or the labels, at its full resolution."""
    elements = getattr(sdata, kind)
    if name not in elements:
        raise KeyError(
            f"sdata: expected {name!r} among its {kind}, found {', '.join(map(repr, elements)) or 'none'}. "
            "Next: isost.tl.reconstruct(adata) writes it."
        )
    element = elements[name]
    return next(iter(get_pyramid_levels(element))) if hasattr(element, "children") else element


def _decoder(sdata: SpatialData, channels: list[str], use_rep: str) -> tuple[Decoder | None, np.ndarray | None]:
    """Find what the features of the volume, and the remainder beside them, decode by, which the tables keep."""
    key = loadings_key(use_rep)
    for table in (sdata.tables[name] for name in ("isost_voxels", "isost_cells") if name in sdata.tables):
        if key in table.varm and channels == feature_names(use_rep, table.varm[key].shape[1]):
            mean = table.var[MEAN_KEY].to_numpy(dtype=np.float32)
            beside = np.asarray(table.varm[REMAINDER], dtype=np.float32) if REMAINDER in table.varm else None
            return Decoder(tuple(table.var_names), np.asarray(table.varm[key], dtype=np.float32), mean), beside
    return None, None


def place_of(element: Any) -> tuple[np.ndarray, np.ndarray]:
    """Find the corner of the first voxel and the edges of a voxel, x, y, z, in the coordinate system "global"."""
    matrix = get_transformation(element, "global").to_affine_matrix(AXES, AXES)
    if np.any(matrix[:3, :3] != np.diag(np.diag(matrix[:3, :3]))):
        raise ValueError("Expected a volume along the axes, found a rotated one. Next: take the gene before rotating.")
    return matrix[:3, 3].astype(np.float64), np.diag(matrix)[:3].astype(np.float64)
