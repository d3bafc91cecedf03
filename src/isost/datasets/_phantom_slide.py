from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy import sparse
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, ShapesModel, TableModel

from isost._core.random import Rng, numpy_generator
from isost._logging import logger
from isost.datasets._slide_image import render, stain_colours
from isost.datasets._slide_tissue import CENTRE, FULLEST, Nuclei, SmoothField, Tissue, density, draw_nuclei, physical

#: What genes follow, in the order in which they take turns; "none" is nothing that the image shows.
LINKS = ("area", "density", "eosin", "none", "darkness", "elongation", "fibres", "none")

_PANEL = 2009  # seed of the genes, which are the same for all slides
_SMOOTH = 70.0  # µm, over which a gene that follows nothing is alike
_SHARED = 0.5  # of its variance, that neighbours have in common
_LIBRARY_SPREAD = 0.2  # of the log library size
_LEAST = 100.0  # µm of a side
_PIXELS = (50, 8000)  # of a side


def phantom_slide(
    *,
    n_cells: int = 600,
    n_genes: int = 40,
    side: float = 600.0,
    pixel_size: float = 0.5,
    library_size: float = 400.0,
    stain: tuple[float, float] = (1.0, 1.0),
    tint: float = 0.0,
    rng: Rng = 0,
) -> SpatialData:
    """Make a section stained with H&E whose nuclei express genes that follow what the image shows of them.

    The tissue is a round piece on white glass: eosin with fibres that turn and come into order from place to place,
    nests and stroma, and nuclei that are ellipses which do not overlap. Light comes through by the law of Beer and
    Lambert. The expected expression of gene j in cell i is ``exp(intercept[j] + slope[j] * z[i])``, with z the
    standardised property that the gene is linked to, or, for a gene linked to none, a smooth random field and noise
    that the image knows nothing of. Counts are Poisson, of libraries of lognormal size.

    Which genes follow what, and how steeply, is the same for all seeds and stains: slides of other seeds are other
    sections of the same tissue, on which a model of one is tested.

    Parameters
    ----------
    n_cells
        Number of nuclei; they take a tenth of the square at most.
    n_genes
        Number of genes; what they follow takes turns, so that eight genes hold every link once and none twice.
    side
        Of the square image, µm; 100 or more.
    pixel_size
        µm; 50 to 8,000 pixels a side.
    library_size
        Mean number of transcripts of a cell.
    stain
        Strength of haematoxylin and of eosin; expression does not depend on it.
    tint
        Of both stains, from -1, bluer, to 1, redder; expression does not depend on it.
    rng
        Seed or generator. The same seed gives the same slide; the same cells and counts for all stains and sizes of
        pixels, too.

    Returns
    -------
    spatialdata.SpatialData
        ``"he_image"`` (c, y, x) uint8; ``"nuclei"`` polygons in pixels, by name of the cell; ``"table"`` of them, with

        - ``X`` (n_cells, n_genes) counts, sparse int32; ``layers["rate"]`` float32 expected counts of a library of mean
          size;
        - ``obs``: ``nucleus_area`` µm^2, ``elongation`` (long over short axis), ``darkness`` (haematoxylin, optical
          density), ``density`` (nuclei per mm^2 nearby, a Gaussian kernel of 25 µm), ``eosin`` (optical density about
          it), ``fibres`` (0, in any direction, to 1, in one), and ``library``, the size relative to the mean;
        - ``obsm["spatial"]`` (n_cells, 2) x, y in µm, ``obsm["pixel"]`` in pixels;
        - ``var["link"]`` (categorical: area, density, eosin, darkness, elongation, fibres, none), ``var["slope"]``,
          ``var["intercept"]``;
        - ``uns["phantom_slide"]`` with ``pixel_size`` and ``stains`` (2, 3), optical densities of haematoxylin and
          eosin, each of length one.

    Raises
    ------
    ValueError
        If a parameter is out of range, or nuclei do not fit; all such parameters are named at once.

    Examples
    --------
    >>> import isost
    >>> sdata = isost.datasets.phantom_slide(n_cells=60, n_genes=8, side=200)
    >>> sdata["he_image"].shape, sdata["table"].shape
    ((3, 400, 400), (60, 8))
    >>> sdata["table"].var["link"].tolist()[:4]
    ['area', 'density', 'eosin', 'none']
    """
    strength = _check(n_cells, n_genes, side, pixel_size, library_size, stain, tint)
    generator = numpy_generator(rng)
    draw_cells, draw_counts, draw_pixels = (np.random.default_rng(seed) for seed in generator.integers(2**62, size=3))
    tissue = Tissue.draw(float(side), draw_cells)
    nuclei = draw_nuclei(tissue, int(n_cells), draw_cells)
    image = render(tissue, nuclei, float(pixel_size), strength, colours := stain_colours(float(tint)), draw_pixels)
    names = pd.Index([f"nucleus{k}" for k in range(n_cells)])
    outline = shapely.transform(nuclei.outlines(), lambda xy: xy / pixel_size)
    table = _measured(nuclei, names, _genes(int(n_genes), float(library_size)), draw_counts)
    table.obsm["pixel"] = nuclei.centre / pixel_size
    table.uns["phantom_slide"] = {"pixel_size": float(pixel_size), "stains": colours}
    sdata = SpatialData(
        images={"he_image": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=["r", "g", "b"])},
        shapes={"nuclei": ShapesModel.parse(gpd.GeoDataFrame(geometry=outline, index=names))},
        tables={"table": TableModel.parse(table, region="nuclei", region_key="region", instance_key="instance_id")},
    )
    logger.info("phantom_slide: %d x %d pixels, %d nuclei, %d genes", *image.shape[1:], n_cells, n_genes)
    return sdata


def _genes(n_genes: int, library_size: float) -> pd.DataFrame:
    """Say what each gene follows and how; the same for all slides."""
    link = np.resize(np.array(LINKS), n_genes)
    turn = pd.Series(link).groupby(link).cumcount().to_numpy()
    size, base, sign = (np.random.default_rng([_PANEL, k]) for k in range(3))
    slope = size.uniform(0.45, 0.8, n_genes) * sign.choice([-1.0, 1.0], n_genes)
    level = base.normal(0.0, 0.5, n_genes)
    share = np.exp(level) / np.exp(level).sum()
    kinds = [*dict.fromkeys(name for name in LINKS if name != "none"), "none"]
    return pd.DataFrame(
        {"link": pd.Categorical(link, kinds), "slope": slope, "intercept": np.log(library_size * share) - slope**2 / 2},
        index=[f"{name}_{k + 1}" for name, k in zip(link, turn, strict=True)],
    )  # fmt: skip


def _measured(nuclei: Nuclei, names: pd.Index, var: pd.DataFrame, rng: np.random.Generator) -> ad.AnnData:
    """Count genes in nuclei, and write what is true of them."""
    n = len(names)
    followed = np.empty((n, len(var)))
    for j, link in enumerate(var["link"]):
        if link == "none":
            common = SmoothField.draw(_SMOOTH, rng).at(nuclei.centre)
            followed[:, j] = np.sqrt(_SHARED) * common + np.sqrt(1 - _SHARED) * rng.standard_normal(n)
        else:
            followed[:, j] = nuclei.values[link]
    rate = np.exp(var["intercept"].to_numpy() + var["slope"].to_numpy() * followed)
    library = rng.lognormal(-(_LIBRARY_SPREAD**2) / 2, _LIBRARY_SPREAD, n)
    counts = rng.poisson(rate * library[:, None]).astype(np.int32)
    own = {name: physical(name, nuclei.values[name]) for name in CENTRE}
    obs = pd.DataFrame({"nucleus_area": own.pop("area"), "density": density(nuclei.centre), **own, "library": library})
    obs.index = names
    table = ad.AnnData(sparse.csr_matrix(counts), obs, var, layers={"rate": rate.astype(np.float32)})
    table.obs["region"], table.obs["instance_id"] = pd.Categorical(["nuclei"] * n), names.to_numpy()
    table.obsm["spatial"] = nuclei.centre
    table.uns["X_note"], table.uns["spatial_unit"] = "raw integer counts", "um"
    return table


def _check(
    n_cells: Any, n_genes: Any, side: Any, pixel_size: Any, library_size: Any, stain: Any, tint: Any
) -> np.ndarray:
    """Raise one ValueError that names every parameter out of range; else the strengths of the stains (2,)."""
    wrong = [f"{name}: expected a whole number of 1 or more, found {value!r}" for name, value in
             (("n_cells", n_cells), ("n_genes", n_genes)) if not _is(Integral, value) or value < 1]  # fmt: skip
    if not _is(Real, side) or not _LEAST <= side < np.inf:
        wrong.append(f"side: expected a number of µm, {_LEAST:g} or more, found {side!r}")
    wrong += [f"{name}: expected a number above 0, found {value!r}" for name, value in
              (("pixel_size", pixel_size), ("library_size", library_size))
              if not _is(Real, value) or not 0 < value < np.inf]  # fmt: skip
    pair = isinstance(stain, (tuple, list, np.ndarray)) and len(stain) == 2
    if not pair or not all(_is(Real, value) and 0 < value < np.inf for value in stain):
        wrong.append(f"stain: expected two numbers above 0, of haematoxylin and eosin, found {stain!r}")
    if not _is(Real, tint) or not -1 <= tint <= 1:
        wrong.append(f"tint: expected a number from -1 to 1, found {tint!r}")
    if not wrong:
        n_pixels, most = side / pixel_size, int(FULLEST * side**2 / CENTRE["area"])
        if not _PIXELS[0] <= n_pixels <= _PIXELS[1]:
            wrong.append(f"pixel_size: expected {_PIXELS[0]} to {_PIXELS[1]:,} pixels a side, found {n_pixels:,.0f} of "
                         f"{pixel_size:g} µm on {side:g} µm")  # fmt: skip
        if n_cells > most:
            wrong.append(f"n_cells: expected {most} or fewer on {side:g} µm, found {n_cells}")
    if wrong:
        raise ValueError("; ".join(wrong) + ". Next: call phantom_slide() with values in these ranges.")
    return np.asarray(stain, dtype=np.float64)


def _is(kind: type, value: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
