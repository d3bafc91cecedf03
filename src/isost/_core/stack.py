"""The AnnData door: a stack of sections as plain arrays, in the input's own unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, check_adata, check_names, show, show_rows, to_numbers
from isost._core.decoder import Decoder, layer_behind, loadings_key, read_decoder
from isost._core.expression import check_expression, check_finite, expression_of, summarise
from isost._core.lazy import opened
from isost._core.positions import read_coords
from isost._core.remainder import Remainder, read_remainder
from isost._core.scaling import Scaling
from isost._core.sections import SECTION_KEY, Sections, read_sections
from isost._core.stages import read_growth
from isost._core.trust import measured_of, trusted
from isost._core.units import MILLIMETRE, read_unit

__all__ = ["Decoder", "Scaling", "Stack", "check_stack", "read_stack"]


@dataclass(frozen=True, eq=False)
class Stack:
    """Cells sorted by section, sections sorted by numeric depth; positions in the input's unit.

    Within a section cells are sorted by name, so that a permutation of the input's rows gives the same stack.

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
    remainder
        What the features leave of the genes, where neighbouring cells share it; None without loadings.
    growth
        (K,) float64, of stages of development: how large each is beside the frame that `isost.pp.align_stages` laid
        them into. None for sections of one tissue.
    weights
        (K,) float64, of predicted sections: how far the expression of each is trusted, 1 for a measured one. Scores of
        the others are drawn towards what the measured ones say (`isost._core.trust`). None where all were measured.
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
    remainder: Remainder | None = None
    growth: np.ndarray | None = None
    weights: np.ndarray | None = None

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
    def n_scores(self) -> int:
        return self.n_features + (0 if self.remainder is None else self.remainder.scores.shape[1])

    @property
    def scores(self) -> np.ndarray:
        """(n, P + Q) float32: features, then the scores of the remainder. The field is of these."""
        return self.scores_of(slice(None))

    @property
    def measured(self) -> list[int]:
        """Sections whose expression was measured, not predicted."""
        return measured_of(self.weights, self.n_sections)

    def with_scores(self, scores: np.ndarray) -> Stack:
        """Give cells other scores (n, P + Q)."""
        features, rest = np.split(scores, [self.n_features], axis=1)
        remainder = self.remainder and replace(self.remainder, scores=np.ascontiguousarray(rest))
        return replace(self, features=np.ascontiguousarray(features), remainder=remainder)

    def scores_of(self, rows: slice | np.ndarray) -> np.ndarray:
        """Scores of some cells."""
        if self.remainder is None:
            return self.features[rows]
        return np.hstack([self.features[rows], self.remainder.scores[rows]])

    def loadings_of(self, index: np.ndarray) -> np.ndarray:
        """(len(index), P + Q) float32 loadings of the scores, of genes `index` of the decoder.

        Raises
        ------
        ValueError
            If the representation has no loadings.
        """
        if self.decoder is None:
            raise ValueError("Expected a representation with loadings; found none. Fit on obsm['X_pca'].")
        parts = [self.decoder.loadings[index]]
        if self.remainder is not None:
            parts.append(self.remainder.loadings[index])
        return np.hstack(parts)

    def decode(self, scores: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Features (n, P), or scores (n, P + Q), to genes `index` of the decoder: (n, len(index)) float32."""
        loadings = self.loadings_of(index)[:, : scores.shape[1]]
        return np.asarray(scores, dtype=np.float32) @ loadings.T + self.decoder.mean[index]  # type: ignore[union-attr]

    @property
    def section_index(self) -> np.ndarray:
        """(n,) int64, the section of each row."""
        return np.repeat(np.arange(self.n_sections), np.diff(self.starts))

    def growth_at(self, z: float | np.ndarray) -> np.ndarray:
        """How large stages are at ages z beside their common frame: their logarithms change linearly between stages.

        Raises
        ------
        ValueError
            If these are sections of one tissue.
        """
        if self.growth is None:
            raise ValueError("Expected stages in a common frame; found sections of one tissue.")
        return np.exp(np.interp(z, self.depths, np.log(self.growth)))

    @property
    def scaling(self) -> Scaling:
        """x, y to [0, 1] by the larger extent; z from the first depth, in mm as in the paper (Supplementary Note 1)."""
        low, high = self.coords[:, :2].min(axis=0), self.coords[:, :2].max(axis=0)
        origin = np.array([*low, self.depths[0]])
        return Scaling(origin, xy=float((high - low).max()) or 1.0, z=MILLIMETRE.get(self.unit, 1e3))

    def slice_of(self, section: int) -> slice:
        """Rows of section `section`."""
        return slice(int(self.starts[section]), int(self.starts[section + 1]))

    def select(self, sections: Sequence[int]) -> Stack:
        """Keep these sections only, still sorted by depth; `rows` keeps pointing into the AnnData."""
        keep = sorted({range(self.n_sections)[section] for section in sections})
        rows = np.concatenate([np.arange(self.starts[k], self.starts[k + 1]) for k in keep])
        return replace(
            self,
            coords=self.coords[rows],
            features=self.features[rows],
            remainder=self.remainder and replace(self.remainder, scores=self.remainder.scores[rows]),
            starts=np.concatenate([[0], np.cumsum(np.diff(self.starts)[keep])]),
            depths=self.depths[keep],
            names=tuple(self.names[k] for k in keep),
            rows=self.rows[rows],
            obs_names=self.obs_names[rows],
            growth=None if self.growth is None else self.growth[keep],
            weights=None if self.weights is None else self.weights[keep],
        )


def read_stack(
    adata: AnnData,
    *,
    section_key: str | None = SECTION_KEY,
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    use_rep: str = "X_pca",
) -> Stack:
    """Read a stack of sections from an AnnData, which is left as it is; a view will do, and one on disk.

    Of an AnnData that is backed, or was opened by `anndata.experimental.read_lazy`, expression is read in blocks.

    Sections whose expression was predicted, with less than 1 in `obs["section_weight"]`, have scores as far as they
    are trusted, and for the rest what the measured sections above and below say.

    Parameters
    ----------
    adata
        Cells of all sections.
    section_key
        Column of `obs` that names each cell's section, in any order; sections are sorted by depth, and categories
        without cells are dropped. With None, or without a column `"section"`, each distinct depth is a section.
    spatial_key
        Key in `obsm` of the positions (n_cells, 3) x, y, z, or (n_cells, 2) with `depth_key`, all in one unit, which is
        the first word of `uns["spatial_unit"]` (nm, um, mm, cm, pixel), else µm.
    depth_key
        Column of `obs` with each cell's depth, in place of the third coordinate.
    use_rep
        Key in `obsm` of the representation (n_cells, n_features). Its decoder to genes is read from `varm`.

    Raises
    ------
    TypeError
        If `adata` is no AnnData.
    ValueError
        If the stack cannot be read. Every problem is listed: what was expected, what was found, what to run next.
        Expression is looked at where the representation has loadings, so that it decodes.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> draw = np.random.default_rng(0)
    >>> adata = AnnData(obsm={"spatial": draw.random((40, 3)), "X_pca": draw.random((40, 2))})
    >>> adata.obs["section"] = np.repeat(["s10", "s2"], 20)
    >>> adata.obsm["spatial"][:, 2] = np.repeat([100.0, 20.0], 20)
    >>> stack = read_stack(adata)
    >>> stack.names, stack.depths.tolist(), stack.starts.tolist()
    (('s2', 's10'), [20.0, 100.0], [0, 20, 40])
    """
    check_adata(adata)
    adata = opened(adata, obsm=(spatial_key, use_rep))
    problems, coords, sections = _read_geometry(adata, section_key, spatial_key, depth_key)
    features = _read_features(adata, use_rep, problems)
    _check_behind(adata, use_rep, problems)
    if problems or coords is None or sections is None or features is None:
        raise problems.error("The stack cannot be read")
    obs_names = np.asarray(adata.obs_names, dtype=str)
    rows = np.lexsort((obs_names, sections.index))
    sizes = np.bincount(sections.index, minlength=len(sections.depths))
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    coords, features, decoder = coords[rows], features[rows], read_decoder(adata, use_rep)
    remainder = None
    if decoder is not None:
        remainder = read_remainder(
            adata, use_rep, rows, coords=coords, starts=starts, features=features, decoder=decoder,
            sections=sections.measured,
        )  # fmt: skip
    stack = Stack(
        coords=coords,
        features=features,
        starts=starts,
        depths=sections.depths,
        names=sections.names,
        rows=rows,
        obs_names=obs_names[rows],
        use_rep=use_rep,
        decoder=decoder,
        unit=read_unit(adata),
        remainder=remainder,
        growth=read_growth(adata, spatial_key, sections.depths),
        weights=sections.weights,
    )
    return trusted(stack)


def check_stack(
    adata: AnnData,
    *,
    section_key: str | None = SECTION_KEY,
    spatial_key: str = "spatial",
    depth_key: str | None = None,
    layer: str | None = None,
) -> None:
    """Check positions, sections and expression of a stack that is about to be embedded.

    What `read_stack` asks of the positions and `isost.pp.embed` of the expression is looked at in one go, so that a
    user hears of every problem before any work is done.

    Raises
    ------
    TypeError
        If `adata` is no AnnData.
    ValueError
        If there is any problem; all of them are listed.
    """
    check_adata(adata)
    adata = opened(adata, obsm=(spatial_key,))
    problems, _, _ = _read_geometry(adata, section_key, spatial_key, depth_key)
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    check_expression(summarise(expression_of(adata, layer)), where, problems)
    if problems:
        raise problems.error("The stack cannot be read")


def _read_geometry(
    adata: AnnData, section_key: str | None, spatial_key: str, depth_key: str | None
) -> tuple[Problems, np.ndarray | None, Sections | None]:
    if not adata.n_obs:
        raise ValueError("adata: expected cells, found an AnnData without any. Next: look at how it was subset.")
    problems = Problems()
    check_names(adata, problems)
    coords = read_coords(adata, spatial_key, depth_key, problems)
    return problems, coords, read_sections(adata, section_key, coords, problems)


def _check_behind(adata: AnnData, use_rep: str, problems: Problems) -> None:
    """Check the expression that is still to be embedded, or that a representation with loadings decodes to."""
    layer = layer_behind(adata, use_rep)
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if layer is None and adata.X is None:
        return
    if use_rep not in adata.obsm:
        check_expression(summarise(expression_of(adata, layer)), where, problems)
    elif loadings_key(use_rep) in adata.varm:
        check_finite(expression_of(adata, layer), where, problems)


def _read_features(adata: AnnData, use_rep: str, problems: Problems) -> np.ndarray | None:
    where = f"adata.obsm[{use_rep!r}]"
    if use_rep not in adata.obsm:
        problems.add(
            where,
            expected="a representation (n_cells, n_features)",
            found=f"obsm keys {show(adata.obsm)}",
            next="isost.pp.embed(adata)" + ("" if use_rep == "X_pca" else ", or name one of these by use_rep=..."),
        )
        return None
    raw = adata.obsm[use_rep]
    values = to_numbers(raw.toarray() if sparse.issparse(raw) else raw)
    if isinstance(values, list) or values.ndim != 2 or not values.shape[1]:
        found = f"values that are none: {show(values)}" if isinstance(values, list) else f"shape {values.shape}"
        problems.add(where, expected="numbers (n_cells, n_features)", found=found, next="isost.pp.embed(adata)")
        return None
    with np.errstate(over="ignore"):
        features = values.astype(np.float32)
    bad = ~np.isfinite(features).all(axis=1)
    if np.any(bad):
        problems.add(
            where,
            expected="finite values",
            found=f"NaN, infinity or float32 overflow in {show_rows(np.asarray(bad))}",
            next=f"adata = adata[numpy.isfinite({where}).all(axis=1)].copy()  # without these cells",
        )
    return features
