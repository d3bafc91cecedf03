"""The AnnData door: a stack of sections as plain arrays, in the input's own unit."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from anndata import AnnData

MILLIMETRE = {"nm": 1e6, "um": 1e3, "mm": 1.0, "cm": 0.1}


@dataclass(frozen=True, eq=False)
class Decoder:
    """Linear map from features (principal components) to log-normalised genes: x = mean + loadings @ features.

    Attributes
    ----------
    genes
        Names of the G genes.
    loadings
        (G, P) float32.
    mean
        (G,) float32.
    """

    genes: tuple[str, ...]
    loadings: np.ndarray
    mean: np.ndarray

    def index(self, genes: str | Sequence[str]) -> np.ndarray:
        """Positions of `genes` among the decoder's genes, (len(genes),) int64.

        Raises
        ------
        KeyError
            If a gene is unknown; the message names the closest known ones.
        """
        asked = [genes] if isinstance(genes, str) else list(genes)
        index = pd.Index(self.genes).get_indexer(pd.Index(asked, dtype=object))
        unknown = [gene for gene, at in zip(asked, index, strict=True) if at < 0]
        if unknown:
            close = {gene: difflib.get_close_matches(str(gene), self.genes, n=3, cutoff=0.5) for gene in unknown[:5]}
            hints = "; ".join(f"{gene!r} (close: {', '.join(found) or 'none'})" for gene, found in close.items())
            raise KeyError(
                f"genes: expected names among the {len(self.genes)} genes of the stack, found {len(unknown)} unknown: "
                f"{hints}. Next: look names up in adata.var_names."
            )
        return index.astype(np.int64)

    def decode(self, features: np.ndarray, genes: str | Sequence[str] | None = None) -> np.ndarray:
        """Features (n, P) to log-normalised expression, (n, G) or (n, len(genes)) float32."""
        rows = slice(None) if genes is None else self.index(genes)
        return np.asarray(features, dtype=np.float32) @ self.loadings[rows].T + self.mean[rows]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Invertible map between physical and internal coordinates; x and y share one scale, so shapes are kept.

    Attributes
    ----------
    origin
        (3,) float64, physical position of the internal origin.
    xy
        Physical length of one internal unit in the plane.
    z
        Physical length of one internal unit along depth.
    """

    origin: np.ndarray
    xy: float
    z: float

    def to_internal(self, coords: np.ndarray) -> np.ndarray:
        """Physical (n, 3) to internal (n, 3) float64: (coords - origin) / (xy, xy, z)."""
        return (np.asarray(coords, dtype=np.float64) - self.origin) / (self.xy, self.xy, self.z)

    def to_physical(self, coords: np.ndarray) -> np.ndarray:
        """Internal (n, 3) to physical (n, 3) float64: coords * (xy, xy, z) + origin."""
        return np.asarray(coords, dtype=np.float64) * (self.xy, self.xy, self.z) + self.origin


@dataclass(frozen=True, eq=False)
class Stack:
    """Cells sorted by section, sections sorted by numeric depth; positions in the input's unit.

    Attributes
    ----------
    coords
        (n, 3) float64 x, y, z.
    features
        (n, P) float32.
    starts
        (K + 1,) int64; section k is rows `starts[k]:starts[k + 1]`.
    depths
        (K,) float64, strictly increasing: the median z of each section, whose cells may lie at several z.
    names
        K section names.
    rows
        (n,) int64, the row of the AnnData that each row of the stack came from.
    obs_names
        (n,) str.
    use_rep
        Key of the representation in `obsm`.
    decoder
        Features to genes, or None for a representation without loadings.
    unit
        Unit of `coords`.
    """

    coords: np.ndarray
    features: np.ndarray
    starts: np.ndarray
    depths: np.ndarray
    names: tuple[str, ...]
    rows: np.ndarray
    obs_names: np.ndarray
    use_rep: str
    decoder: Decoder | None
    unit: str

    @property
    def n_cells(self) -> int:
        return len(self.coords)

    @property
    def n_sections(self) -> int:
        return len(self.depths)

    @property
    def n_features(self) -> int:
        return self.features.shape[1]

    @property
    def section_index(self) -> np.ndarray:
        """(n,) int64, the section of each row."""
        return np.repeat(np.arange(self.n_sections), np.diff(self.starts))

    @property
    def scaling(self) -> Scaling:
        """x, y to [0, 1] by the larger extent; z from the first depth, in mm as in the paper (Supplementary Note 1)."""
        low, high = self.coords[:, :2].min(axis=0), self.coords[:, :2].max(axis=0)
        origin = np.array([*low, self.depths[0]])
        return Scaling(origin, xy=float((high - low).max()), z=MILLIMETRE.get(self.unit, 1e3))

    def slice_of(self, section: int) -> slice:
        """Rows of section `section`."""
        return slice(int(self.starts[section]), int(self.starts[section + 1]))

    def select(self, sections: Sequence[int]) -> Stack:
        """The stack of these sections only, still sorted by depth."""
        keep = sorted({range(self.n_sections)[section] for section in sections})
        rows = np.concatenate([np.arange(self.starts[k], self.starts[k + 1]) for k in keep])
        return replace(
            self,
            coords=self.coords[rows],
            features=self.features[rows],
            starts=np.concatenate([[0], np.cumsum(np.diff(self.starts)[keep])]),
            depths=self.depths[keep],
            names=tuple(self.names[k] for k in keep),
            rows=self.rows[rows],
            obs_names=self.obs_names[rows],
        )


def read_stack(
    adata: AnnData,
    *,
    section_key: str = "section",
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    use_rep: str = "X_pca",
) -> Stack:
    """Read a stack of sections from an AnnData, which is left as it is."""
    coords = np.array(adata.obsm[spatial_key], dtype=np.float64)
    if depth_key is not None:
        coords = np.column_stack([coords[:, :2], adata.obs[depth_key].to_numpy(dtype=np.float64)])
    labels = adata.obs[section_key].astype(str) if section_key in adata.obs else pd.Series(coords[:, 2]).map("z{:g}".format)
    codes, names = pd.factorize(labels)
    depths = np.array([np.median(coords[codes == k, 2]) for k in range(len(names))])
    order = np.argsort(depths)
    section = np.argsort(order)[codes]
    obs_names = np.asarray(adata.obs_names, dtype=str)
    rows = np.lexsort((obs_names, section))
    return Stack(
        coords=coords[rows],
        features=np.asarray(adata.obsm[use_rep], dtype=np.float32)[rows],
        starts=np.concatenate([[0], np.cumsum(np.bincount(section, minlength=len(names)))]).astype(np.int64),
        depths=depths[order],
        names=tuple(str(names[k]) for k in order),
        rows=rows,
        obs_names=obs_names[rows],
        use_rep=use_rep,
        decoder=_read_decoder(adata, use_rep),
        unit="um",
    )


def _read_decoder(adata: AnnData, use_rep: str) -> Decoder | None:
    if use_rep != "X_pca" or "PCs" not in adata.varm:
        return None
    mean = adata.var["pca_mean"] if "pca_mean" in adata.var else adata.X.mean(axis=0)
    loadings = np.asarray(adata.varm["PCs"], dtype=np.float32)
    return Decoder(tuple(map(str, adata.var_names)), loadings, np.asarray(mean, dtype=np.float32).ravel())
