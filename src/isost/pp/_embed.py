from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import dask
import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from isost._core.batches import CORRECTED, check_batches, correct_batches
from isost._core.checks import Problems, check_adata, show
from isost._core.decoder import MEAN_KEY, least_squares_loadings
from isost._core.expression import Summary, check_expression, expression_of, is_clipped, row_blocks, summarise
from isost._core.lazy import is_by_columns, is_lazy, opened
from isost._core.normalise import Normalisation, choose_normalisation, lognormalise
from isost._core.random import Rng
from isost._core.requests import as_number, as_whole
from isost._core.trust import WEIGHT_KEY
from isost._logging import logger
from isost.pp._decompose import decompose, project

# Differences below this share of the largest value are rounding errors of float32.
SAME_VALUE = 1e-5


def embed(
    adata: AnnData,
    *,
    n_comps: int = 50,
    n_top_genes: int | None = None,
    target_sum: float | None = None,
    log1p: bool | None = None,
    layer: str | None = None,
    section_key: str | None = None,
    batch_key: str | None = None,
    covariates: Sequence[str] = (),
    rng: Rng = None,
) -> None:
    """Embed cells by log-normalisation and PCA, such that the components decode to all genes.

    Whole numbers are counts: they are scaled to the median total (as `scanpy.pp.normalize_total` does) and log(1 + x)
    is taken. Fractions beyond 20 count as normalised already (by cell volume or total) and only log(1 + x) is taken;
    fractions up to 20 count as log-normalised, and values with negative fractions as scaled: both stay as they are.
    What was assumed is logged. Sparse input stays sparse.

    Of a stack with predicted sections (`obs["section_weight"]` below 1) means, variable genes and components are those
    of the measured ones, and the cells of the others are projected onto them.

    Parameters
    ----------
    adata
        Cells of all sections; not a view. Of one that is backed, or was opened by `anndata.experimental.read_lazy`,
        expression is read in blocks, and results are written to the object, not to its file.
    n_comps
        Number of principal components, at most one less than cells and than genes; fewer are kept, and said, where the
        data have no more.
    n_top_genes
        Decompose this many highly variable genes (`scanpy.pp.highly_variable_genes`) and mark them in
        `var["highly_variable"]`. With None, genes that are marked there already, or else all of them.
    target_sum
        Total of each cell before the logarithm; given, totals are always scaled.
    log1p
        Whether to take log(1 + x), where the values would be misjudged.
    layer
        Layer of raw or normalised expression; `X` by default.
    section_key
        Column of `obs`: highly variable genes are ranked within each section, so that differences between sections
        select none.
    batch_key
        Column of `obs` of batches, such as slides, runs, or stages measured apart: what differs between them in the
        mean and spread of each gene is taken out of log-normalised expression by ComBat (`scanpy.pp.combat`; Johnson,
        Li & Rabinovic 2007), and genes decode to what is left. If the batches are the stages or sections themselves,
        their true differences go too. It takes a dense matrix.
    covariates
        Columns of `obs`, such as cell types, whose effect is kept where they are shared unevenly between batches.
    rng
        Seed or generator for the start vector of the iterative PCA, which many genes take.

    Returns
    -------
    None. Writes, and leaves `X` and `layers` as they are:

    `obsm["X_pca"]` : (n_cells, n_comps) float32
        Scores.
    `varm["PCs"]` : (n_genes, n_comps) float32
        Loadings of all genes: those of the PCA, and by least squares on the scores for genes outside it.
    `var["pca_mean"]` : float32
        Mean of each gene; x = mean + PCs @ scores.
    `uns["pca"]`
        Variance and its ratio, as `scanpy.pp.pca` writes them.
    `uns["isost"]["embed"]`
        What the values were taken to be (`found`), `target_sum`, `log1p`, `layer`, `n_comps`.
    `layers["combat"]` : (n_cells, n_genes) float32
        With a `batch_key`: the corrected expression, which is then what was embedded.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, or a number none.
    ValueError
        For a view, non-finite, overflowed or negative counts, or no variation; nothing is written.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> import isost
    >>> counts = np.random.default_rng(0).poisson(5.0, (30, 12)).astype("float32")
    >>> adata = AnnData(counts)
    >>> isost.pp.embed(adata, n_comps=4)
    >>> adata.obsm["X_pca"].shape, adata.varm["PCs"].shape
    ((30, 4), (12, 4))
    """
    started = perf_counter()
    _check_arguments(adata, n_comps, n_top_genes, target_sum, section_key, batch_key, covariates)
    where = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    summary = _inspect(expression_of(adata, layer), where)
    how = choose_normalisation(summary, target_sum=target_sum, log1p=log1p, layer=layer)
    logger.info("embed: %s holds %s", where, how)
    matrix, before = lognormalise(adata, how), how
    if batch_key is not None:
        logger.info("embed: ComBat takes out what differs between the batches of obs[%r]", batch_key)
        matrix = correct_batches(adata, matrix, batch_key, covariates)
        how = Normalisation(f"corrected between batches of {batch_key}", None, False, CORRECTED)
    measured = _measured_cells(adata)
    known = matrix if measured is None else matrix[measured]
    mean = _mean_of_genes(known, where)
    with dask.config.set(scheduler="threads"):  # an open file is read here, whatever scheduler is active
        mask = _select_genes(adata, known, how, n_top_genes, section_key, measured)
        used, its_mean = (known, mean) if mask is None else (known[:, mask], mean[mask])
        scores, loadings, variance, ratio = decompose(used, its_mean, n_comps, rng)
        inside = loadings
        if mask is not None:
            loadings = _extend_loadings(known, mask, scores, loadings)
        if measured is not None:
            scores = project(matrix if mask is None else matrix[:, mask], its_mean, inside)

    if batch_key is not None:
        adata.layers[CORRECTED] = matrix
    adata.obsm["X_pca"] = scores
    adata.varm["PCs"] = loadings.astype(np.float32)
    adata.var[MEAN_KEY] = mean.astype(np.float32)
    if mask is not None:
        adata.var["highly_variable"] = mask
    adata.uns["pca"] = {
        "params": {"zero_center": True, "use_highly_variable": mask is not None, "mean": MEAN_KEY},
        "variance": variance,
        "variance_ratio": ratio,
    }
    kept = scores.shape[1]
    record = how.to_uns() | {"n_comps": kept}
    if batch_key is not None:
        record |= {"batch_key": batch_key, "before": before.to_uns()}
    adata.uns["isost"] = dict(adata.uns.get("isost", {})) | {"embed": record}
    logger.info(
        "embed: wrote obsm['X_pca'] (%d x %d), varm['PCs'], var[%r], uns['isost']; %.0f%% of the variance, %.1f s",
        adata.n_obs,
        kept,
        MEAN_KEY,
        100 * ratio.sum(),
        perf_counter() - started,
    )


def _check_arguments(
    adata: AnnData, n_comps: int, n_top_genes: int | None, target_sum: float | None, section_key: str | None,
    batch_key: str | None, covariates: Sequence[str],
) -> None:  # fmt: skip
    check_adata(adata)
    as_whole("n_comps", n_comps, 1)
    if n_top_genes is not None:
        as_whole("n_top_genes", n_top_genes, 1)
    if isinstance(covariates, str):
        raise TypeError(f"covariates: expected a list of names, found {covariates!r}. Next: [{covariates!r}].")
    problems = Problems()
    if adata.is_view:
        problems.add(
            "adata",
            expected="an AnnData that owns its data, as results are written to it",
            found="a view of another AnnData",
            next="adata = adata.copy()",
        )
    if min(adata.shape) < 2 and (adata.X is not None or adata.layers):
        problems.add(
            "adata", expected="two cells and two genes or more", found=f"shape {adata.shape}", next="look at the subset"
        )
    if target_sum is not None and not 0 < as_number("target_sum", target_sum) < np.inf:
        problems.add("target_sum", expected="a number above 0", found=f"{target_sum!r}", next="leave target_sum out")
    if section_key is not None and section_key not in adata.obs:
        columns = f"{section_key!r}, while the columns are {show(adata.obs)}"
        problems.add("section_key", expected="a column of adata.obs", found=columns, next="name one of these")
    if batch_key is not None:
        check_batches(adata, batch_key, covariates, problems)
    elif len(covariates):
        problems.add("covariates", expected="a batch_key with them", found="none", next="leave covariates out")
    if problems:
        raise problems.error("The expression cannot be embedded")


def _inspect(matrix: Any, where: str) -> Summary:
    problems = Problems()
    if not (isinstance(matrix, np.ndarray) or sparse.issparse(matrix) or is_lazy(matrix)):
        problems.add(
            where,
            expected="a numpy, scipy sparse or dask matrix, or one on disk",
            found=type(matrix).__name__,
            next="adata = adata.to_memory()",
        )
        raise problems.error("The expression cannot be embedded")
    if is_lazy(matrix) and is_by_columns(matrix):
        problems.add(
            where,
            expected="rows that can be read by themselves (CSR, or dense)",
            found="a sparse matrix by columns (CSC) on disk",
            next="adata = adata.to_memory(), or write it once more with adata.X = adata.X.tocsr()",
        )
        raise problems.error("The expression cannot be embedded")
    summary = summarise(matrix)
    check_expression(summary, where, problems)
    if problems:
        raise problems.error("The expression cannot be embedded")
    if is_clipped(summary):
        logger.warning(
            "%s reaches %g, the largest value of %s: larger counts may have been cut off or wrapped around. "
            "Next: store counts as float32 or int32.",
            where,
            summary.largest,
            summary.dtype,
        )
    empty, unused = int((summary.totals == 0).sum()), int((~summary.used).sum())
    if empty and summary.smallest >= 0:
        logger.warning(
            "%s: %d of %d cells hold nothing; they stay, at the origin of expression", where, empty, len(summary.totals)
        )
    if unused:
        logger.info(
            "%s: %d of %d genes are zero everywhere; they stay and decode to zero", where, unused, len(summary.used)
        )
    return summary


def _mean_of_genes(matrix: Any, where: str) -> np.ndarray:
    """Compute the mean (G,) of each gene, of which one has to vary."""
    n_cells, n_genes = matrix.shape
    total, low, high = np.zeros(n_genes), np.full(n_genes, np.inf), np.full(n_genes, -np.inf)
    for _, block in row_blocks(matrix):
        extremes = [block.min(axis=0), block.max(axis=0)]
        least, most = (part.toarray() if sparse.issparse(part) else part for part in extremes)
        low, high = np.minimum(low, least.ravel()), np.maximum(high, most.ravel())
        total += np.asarray(block.sum(axis=0, dtype=np.float64)).ravel()
    # Components of cells that are all alike would be rounding errors.
    if not np.any(high - low > SAME_VALUE * max(-low.min(), high.max())):
        raise ValueError(
            f"{where}: expected values that differ between cells, found the same in all of them. "
            "Next: name the layer that holds the counts by layer=..."
        )
    return total / n_cells


def _measured_cells(adata: AnnData) -> np.ndarray | None:
    """Rows of the cells whose expression was measured; None for all of them."""
    obs = opened(adata).obs
    if WEIGHT_KEY not in obs:
        return None
    rows = np.flatnonzero(obs[WEIGHT_KEY].to_numpy() == 1)
    if len(rows) in (0, adata.n_obs):
        return None
    logger.info("embed: components are those of the %d measured of %d cells", len(rows), adata.n_obs)
    return rows


def _select_genes(
    adata: AnnData, matrix: Any, how: Normalisation, n_top_genes: int | None, section_key: str | None,
    measured: np.ndarray | None,
) -> np.ndarray | None:  # fmt: skip
    if n_top_genes is None:
        if "highly_variable" not in adata.var:
            return None
        mask = np.asarray(adata.var["highly_variable"], dtype=bool)
        logger.info("embed: PCA of the %d genes marked in var['highly_variable']", mask.sum())
        return mask
    if n_top_genes >= adata.n_vars:
        logger.info("embed: n_top_genes=%d, and there are %d genes: all are used", n_top_genes, adata.n_vars)
        return None
    if how.found.startswith("scaled"):
        raise ValueError(
            "n_top_genes: expected counts or log-normalised expression to rank genes by, found scaled values. "
            "Next: isost.pp.embed(adata, layer=...) with the layer of counts, or leave n_top_genes out."
        )
    obs = opened(adata).obs[[] if section_key is None else [section_key]]
    obs = obs if measured is None else obs.iloc[measured]
    ranked = AnnData(matrix, obs=obs.astype(str).astype("category"))
    ranked.uns["log1p"] = {"base": None}
    ranked = sc.pp.highly_variable_genes(ranked, n_top_genes=n_top_genes, batch_key=section_key, inplace=False)
    mask = ranked["highly_variable"].to_numpy(dtype=bool)
    logger.info(
        "embed: PCA of the %d most variable genes%s",
        mask.sum(),
        "" if section_key is None else f", ranked within each {section_key}",
    )
    return mask


def _extend_loadings(matrix: Any, mask: np.ndarray, scores: np.ndarray, inside: np.ndarray) -> np.ndarray:
    loadings = np.empty((len(mask), scores.shape[1]))
    loadings[mask] = inside
    loadings[~mask] = least_squares_loadings(matrix[:, ~mask], scores.astype(np.float64))
    return loadings
