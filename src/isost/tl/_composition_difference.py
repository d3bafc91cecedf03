from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import false_discovery_control

from isost._core.checks import check_adata, show
from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_whole
from isost._logging import logger
from isost._tools.categories import categories_of, check_every_cell
from isost._tools.permute import permutation_p


def composition_difference(
    adata: AnnData,
    *,
    key: str,
    condition_key: str,
    groupby: str = "spatial_domain",
    reference: str | None = None,
    sample_key: str | None = None,
    min_cells: int = 10,
    n_permutations: int = 10_000,
    rng: Rng = 0,
) -> pd.DataFrame:
    """Compare what share each label has in each domain between conditions.

    Cells of one sample are not independent, so samples are the replicates: their shares are compared, and p-values come
    from permuting the conditions of whole samples. Few samples give no small p, however large the difference: 3 and 3
    samples can be divided in 20 ways and give 0.1 at least, 4 and 4 give 2 / 70 = 0.029, 5 and 5 give 2 / 252 = 0.008;
    of 3 and 4 samples it is 1 / 35 = 0.029. What can be reached is logged. Adjusted for all domains and labels it grows
    further: if one of m comparisons differs, to m times as much. Ask few questions of few samples. Without a
    `sample_key` there are no replicates, and differences come without p-values.

    Parameters
    ----------
    adata
        Cells; left as they are.
    key
        Column of `obs` with labels, such as cell types; cells without one are left out.
    condition_key
        Column of `obs` with conditions.
    groupby
        Column of `obs` with domains; cells without one are left out.
    reference
        Condition that all others are compared with; None takes the first.
    sample_key
        Column of `obs` of samples, each of one condition. Sections of one animal are no replicates: name the animals.
    min_cells
        A sample counts in a domain where it has so many cells with a label or more; without a `sample_key`, a
        condition.
    n_permutations
        If there are at most so many ways to divide the samples of a domain, all are gone through, and p is exact; else
        so many are drawn.
    rng
        Seed or generator for these.

    Returns
    -------
    pandas.DataFrame
        A row for each domain, label and condition other than the reference: ``share`` and ``share_reference``, means
        over samples, of all cells without a `sample_key`; their ``difference``; ``log2_ratio``, of the shares with
        1 / n added to both, n the cells of the domain in both conditions, so that it is finite and what one cell makes
        is small; ``n_samples`` and ``n_samples_reference``; ``p``, two-sided, of the difference; and ``padj`` by
        Benjamini and Hochberg over all rows that have a p. Shares are NaN where a condition has no samples, and p where
        either has none, where no cell of a domain has the label, or without a `sample_key`. ``attrs["smallest_p"]`` is
        the smallest that could have been. `isost.pl.composition_difference` plots it.

    Raises
    ------
    KeyError
        If a column is not found.
    TypeError
        If `adata` is no AnnData, or an argument is of another type.
    ValueError
        If there is one condition alone, the reference is unknown, a sample lies in two conditions, a cell has no sample
        or condition, or nothing has enough cells.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.phantom(n_sections=8, n_cells=200, n_genes=10)
    >>> treated = ["s1", "s3", "s5", "s7"]
    >>> adata.obs["condition"] = adata.obs["section"].isin(treated).map({True: "treated", False: "control"})
    >>> found = isost.tl.composition_difference(
    ...     adata, key="cell_type", condition_key="condition", groupby="domain", sample_key="section", min_cells=5
    ... )
    >>> round(found.attrs["smallest_p"], 3), bool((found["padj"] < 0.05).any())
    (0.029, False)
    """
    check_adata(adata)
    min_cells, most = as_whole("min_cells", min_cells, 1), as_whole("n_permutations", n_permutations, 1)
    generator = numpy_generator(rng)
    labels, domains = categories_of(adata, key, "key"), categories_of(adata, groupby, "groupby")
    conditions = categories_of(adata, condition_key, "condition_key")
    used = (np.asarray(labels.codes) >= 0) & (np.asarray(domains.codes) >= 0)
    check_every_cell(conditions, condition_key, "condition_key", used)
    first = _reference(conditions, condition_key, reference)
    samples = conditions
    if sample_key is not None:
        samples = categories_of(adata, sample_key, "sample_key")
        check_every_cell(samples, sample_key, "sample_key", used)
        _check_nested(samples, conditions, used, sample_key, condition_key)
    cells = pd.DataFrame({"domain": domains, "label": labels, "condition": conditions, "sample": samples})[used]
    counts = _counts(cells)
    counts = counts[counts.sum(axis=1) >= min_cells]
    if not len(counts):
        raise ValueError(
            f"min_cells: expected {min_cells} labelled cells of a domain in some "
            f"{'sample' if sample_key else 'condition'}, found fewer in all. Next: a smaller min_cells."
        )
    parts, smallest = [], []
    for name in (name for name in conditions.categories if name != first):
        for domain in domains.categories:
            table, least = _compare(counts, domain, name, first, most, generator, sample_key is not None)
            parts.append(table)
            smallest.append(least)
    found = pd.concat(parts, ignore_index=True)
    for column, names in (("domain", domains), ("label", labels)):
        found[column] = pd.Categorical(found[column], categories=names.categories)
    found["padj"] = np.nan
    tested = found["p"].notna()
    if tested.any():
        found.loc[tested, "padj"] = false_discovery_control(found.loc[tested, "p"])
    found.attrs["smallest_p"] = float(np.nanmin(smallest)) if np.isfinite(smallest).any() else float("nan")
    found.attrs |= {"key": key, "groupby": groupby, "reference": first}
    _say(found, sample_key)
    return found


def _reference(conditions: pd.Categorical, key: str, reference: str | None) -> str:
    names = list(conditions.categories)
    if len(names) < 2:
        raise ValueError(
            f"condition_key: expected two conditions or more in obs[{key!r}], found {show(names)} alone. "
            "Next: isost.tl.composition(adata, key=..., groupby=...) compares domains with the tissue."
        )
    if reference is not None and str(reference) not in names:
        raise ValueError(f"reference: expected one of {show(names)}, found {reference!r}. Next: {names[0]!r}.")
    return names[0] if reference is None else str(reference)


def _check_nested(
    samples: pd.Categorical, conditions: pd.Categorical, used: np.ndarray, sample_key: str, condition_key: str
) -> None:
    pairs = pd.DataFrame({"sample": samples, "condition": conditions})[used].drop_duplicates()
    mixed = pairs["sample"][pairs["sample"].duplicated()].unique().tolist()
    if mixed:
        raise ValueError(
            f"sample_key: expected samples of one condition each, found {show(mixed)} in two or more of "
            f"obs[{condition_key!r}]. Next: name a column whose samples are whole, found obs[{sample_key!r}]."
        )


def _counts(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of each label (columns) in each domain of each sample that has any."""
    index = [cells[name].astype(str) for name in ("domain", "condition", "sample")]
    table = pd.crosstab(index, cells["label"].astype(str))
    return table.reindex(columns=list(cells["label"].cat.categories), fill_value=0)


def _compare(
    counts: pd.DataFrame, domain: str, name: str, first: str, most: int,
    generator: np.random.Generator, replicated: bool,
) -> tuple[pd.DataFrame, float]:  # fmt: skip
    """All labels of one domain between two conditions, and the smallest p that could have been."""
    level = counts.index.get_level_values
    here = counts[(level("domain") == domain) & level("condition").isin([name, first])]
    shares = here.div(here.sum(axis=1), axis=0).to_numpy()
    of_first = here.index.get_level_values("condition") == first
    table = pd.DataFrame({"domain": domain, "label": counts.columns, "condition": name, "reference": first})
    for column, rows in (("share", ~of_first), ("share_reference", of_first)):
        table[column] = shares[rows].mean(axis=0) if rows.any() else np.nan
    table["difference"] = table["share"] - table["share_reference"]
    one = 1 / max(int(here.to_numpy().sum()), 1)
    table["log2_ratio"] = np.log2((table["share"] + one) / (table["share_reference"] + one))
    table["n_samples"], table["n_samples_reference"] = int((~of_first).sum()), int(of_first.sum())
    if not replicated:
        return table.assign(n_samples=0, n_samples_reference=0, p=np.nan), float("nan")
    p, smallest = permutation_p(shares, of_first, most, generator)
    table["p"] = np.where(here.to_numpy().sum(axis=0) > 0, p, np.nan)
    return table, smallest


def _say(found: pd.DataFrame, sample_key: str | None) -> None:
    if sample_key is None:
        logger.warning("composition_difference: no sample_key, so no replicates and no p-values: cells of one sample "
                       "are not independent")  # fmt: skip
        return
    least = found.attrs["smallest_p"]
    logger.info("composition_difference: %d comparisons, %d with padj <= 0.05; so many samples can give p = %.2g",
                found["p"].notna().sum(), (found["padj"] <= 0.05).sum(), least)  # fmt: skip
    if not least <= 0.05:
        logger.warning("composition_difference: so few samples cannot give p <= 0.05, whatever the difference")
