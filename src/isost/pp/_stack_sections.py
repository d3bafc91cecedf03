from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from isost._core.checks import Problems, show, show_rows, to_numbers
from isost._core.sections import SECTION_KEY
from isost._core.trust import WEIGHT_KEY
from isost._logging import logger
from isost.pp._concatenate import concatenate


def stack_sections(
    adatas: Sequence[AnnData] | Mapping[str, AnnData],
    *,
    z: Sequence[float] | Mapping[str, float],
    section_key: str = SECTION_KEY,
    spatial_key: str = "spatial",
    join: str = "inner",
    weight: Sequence[float] | Mapping[str, float] | None = None,
) -> AnnData:
    """Put sections and their depths together into one AnnData.

    Parameters
    ----------
    adatas
        Sections, in any order. A mapping names them; in a list a section is named by its `obs[section_key]` where that
        holds one name, else by its place: `"section_0"`, `"section_1"`, ...
    z
        Depth of each section, in the unit of x and y: in the order of `adatas`, or a mapping from section names.
    section_key
        Column of `obs` to write section names to.
    spatial_key
        Key in `obsm` of the positions, (n_cells, 2), or (n_cells, 3) whose third column is replaced.
    join
        `"inner"` keeps the genes that all sections share; `"outer"` keeps all genes, with zeros where a section did not
        measure one.
    weight
        Trust in the expression of each section, 0 to 1: 1 for a measured one, as one of them has to be; less for one
        that was predicted, by how accurate that is; with 0 only positions are used. In the order of `adatas`, or a
        mapping from names of some. Of a section without one it is its own `obs["section_weight"]`, else its
        `uns["histology"]["trust"]`, which says how accurate its prediction was, else 1.

    Returns
    -------
    A new AnnData with the cells in the order of depth; the sections are left as they are.

    `obsm[spatial_key]` : (n_cells, 3) float64
        x, y as they were, and z.
    `obs[section_key]` : ordered categorical
        Section of each cell; categories in the order of depth.
    `obs_names`
        As they were, if unique over all sections; else with the section's name appended.
    `obs["section_weight"]` : float32
        Weight of each cell's section, where any is below 1 or `weight` is given. `isost.tl.fit` counts sections by it.

    Layers, `obs`, `obsm`, `var` and `varm` are kept where all sections have them, `var` and `varm` where they also
    agree. PCA scores are kept only where all sections share their loadings. Entries of `uns` that differ are moved to
    `uns["section_uns"][section]`. Whatever is left out is logged.

    Raises
    ------
    TypeError
        If a section is no AnnData, or `section_key` no name.
    ValueError
        If depths or positions are missing, not numbers or not finite, two depths are equal, sections are empty, names
        of genes occur twice, no gene is shared, weights are not from 0 to 1, of other sections or all below 1, or a
        section was predicted with ``use_positions`` and its weight is not 0. All problems are listed.

    Examples
    --------
    >>> import numpy as np
    >>> from anndata import AnnData
    >>> import isost
    >>> draw = np.random.default_rng(0)
    >>> sections = [AnnData(draw.random((4, 3)), obsm={"spatial": draw.random((4, 2))}) for _ in range(2)]
    >>> adata = isost.pp.stack_sections(sections, z=[50, 0])
    >>> adata.obs["section"].cat.categories.tolist(), adata.obsm["spatial"][:, 2].tolist()
    (['section_1', 'section_0'], [0.0, 0.0, 0.0, 0.0, 50.0, 50.0, 50.0, 50.0])
    >>> adata = isost.pp.stack_sections(sections, z=[50, 0], weight={"section_0": 0.5})  # the other was measured
    >>> adata.obs["section_weight"].tolist()
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    """
    sections = _name_sections(adatas, section_key)
    problems = Problems()
    if join not in ("inner", "outer"):
        problems.add(
            "join", expected="'inner' or 'outer'", found=repr(join), next="leave join out for the shared genes"
        )
    if len(sections) < 2:
        problems.add(
            "adatas",
            expected="two sections or more",
            found=f"{len(sections)}",
            next="isost.pp.stack_sections([first, second], z=[0, 50])",
        )
    depths = _read_depths(sections, z, problems)
    weights = _read_weights(sections, weight, problems)
    for name, section in sections.items():
        _check_section(name, section, spatial_key, problems)
    _check_genes(sections, problems)
    if problems:
        raise problems.error("The sections cannot be stacked")
    ordered = {name: sections[name] for name in sorted(sections, key=depths.__getitem__)}
    stacked = concatenate(ordered, spatial_key=spatial_key, join=join)
    labels = np.repeat(np.arange(len(ordered)), [section.n_obs for section in ordered.values()])
    stacked.obs[section_key] = pd.Categorical.from_codes(labels, categories=list(ordered), ordered=True)
    places = [_place(name, one, depths[name], spatial_key) for name, one in ordered.items()]
    stacked.obsm[spatial_key] = np.concatenate(places)
    predicted = {name: weights[name] for name in ordered if weights[name] < 1}
    if predicted or weight is not None:
        stacked.obs[WEIGHT_KEY] = np.array([weights[name] for name in ordered], dtype=np.float32)[labels]
    if predicted:
        _warn_counts(ordered, predicted)
        listed = ", ".join(f"{name!r} {one:.2g}" for name, one in predicted.items())
        logger.info("stack_sections: predicted sections, and their weights: %s", listed)
    logger.info(
        "stack_sections: %d sections from z = %g to %g, %d cells, %d genes",
        len(ordered),
        min(depths.values()),
        max(depths.values()),
        *stacked.shape,
    )
    return stacked


def _name_sections(adatas: Sequence[AnnData] | Mapping[str, AnnData], section_key: str) -> dict[str, AnnData]:
    if isinstance(adatas, AnnData) or not isinstance(adatas, Iterable):
        others: list[object] = [adatas]
    else:
        listed = list(adatas.values()) if isinstance(adatas, Mapping) else list(adatas)
        others = [one for one in listed if not isinstance(one, AnnData)]
    if others:
        raise TypeError(
            f"adatas: expected a list or mapping of AnnData, found {show({type(one).__name__ for one in others})}. "
            "Next: isost.pp.stack_sections([first, second], z=[0, 50])."
        )
    if not isinstance(section_key, str):
        raise TypeError(f"section_key: expected a column to write, found {section_key!r}. Next: leave section_key out.")
    if isinstance(adatas, Mapping):
        return {str(name): section for name, section in adatas.items()}
    own = [list(one.obs[section_key].astype(str).unique()) if section_key in one.obs else [] for one in listed]
    if all(len(names) == 1 for names in own) and len({names[0] for names in own}) == len(own):
        return {names[0]: one for names, one in zip(own, listed, strict=True)}
    width = len(str(len(listed) - 1))
    return {f"section_{place:0{width}d}": one for place, one in enumerate(listed)}


def _warn_counts(sections: dict[str, AnnData], predicted: dict[str, float]) -> None:
    """Say where counts are stacked with expression that was told as log1p."""
    if not any("histology" in sections[name].uns for name in predicted):
        return
    for name, section in sections.items():
        block = section.X[:200] if name not in predicted and section.X is not None else None
        values = block.data if block is not None and sparse.issparse(block) else block
        if values is not None and np.size(values) and np.max(values) > 1 and np.all(np.mod(values, 1) == 0):
            logger.warning("stack_sections: section %r holds counts, predicted ones log1p of 10,000. Next: scanpy.pp."
                           "normalize_total(section, target_sum=1e4); scanpy.pp.log1p(section)", name)  # fmt: skip
            return


def _read_depths(
    sections: dict[str, AnnData], z: Sequence[float] | Mapping[str, float], problems: Problems
) -> dict[str, float]:
    if isinstance(z, Mapping):
        given = {str(name): depth for name, depth in z.items()}
        found = f"depths of {show(given)}"
    else:
        listed = np.atleast_1d(np.asarray(z, dtype=object))
        given = dict(zip(sections, listed, strict=True)) if listed.shape == (len(sections),) else {}
        found = f"{listed.size} depths"
    if set(given) != set(sections):
        problems.add(
            "z",
            expected=f"one depth for each of the {len(sections)} sections ({show(sections)})",
            found=found,
            next=f"z={{{next(iter(sections), 'name')!r}: 0.0, ...}} with a depth for every section",
        )
        return {}
    values = to_numbers(np.array([given[name] for name in sections], dtype=object))
    if isinstance(values, list) or not np.isfinite(values).all():
        found = show(values if isinstance(values, list) else values[~np.isfinite(values)].tolist())
        problems.add("z", expected="finite numbers", found=found, next="z=[0.0, 50.0, ...] in the unit of x and y")
        return {}
    at_depth: dict[float, list[str]] = {}
    for name, depth in zip(sections, values.tolist(), strict=True):
        at_depth.setdefault(depth, []).append(name)
    if len(at_depth) < len(sections):
        problems.add(
            "z",
            expected="every section at a depth of its own",
            found="; ".join(f"{show(names)} at {depth:g}" for depth, names in at_depth.items() if len(names) > 1),
            next="give each section its own depth; pieces of one section are first joined by anndata.concat",
        )
    return dict(zip(sections, values.tolist(), strict=True))


def _read_weights(
    sections: dict[str, AnnData], weight: Sequence[float] | Mapping[str, float] | None, problems: Problems
) -> dict[str, float]:
    """Weight of each section: as given, else its own, else 1; empty where there is a problem."""
    before = len(problems)
    given: dict[str, object] = {}
    remedy = f"weight={{{next(iter(sections), 'name')!r}: 0.5}} with a weight for each section that was predicted"
    if isinstance(weight, Mapping):
        given = {str(name): one for name, one in weight.items()}
        if others := [name for name in given if name not in sections]:
            found = f"weights of {show(others)}"
            problems.add("weight", expected=f"names of sections ({show(sections)})", found=found, next=remedy)
    elif weight is not None:
        listed = np.atleast_1d(np.asarray(weight, dtype=object))
        if listed.shape == (len(sections),):
            given = dict(zip(sections, listed, strict=True))
        else:
            expected, found = f"one weight for each of the {len(sections)} sections", f"{listed.size} weights"
            problems.add("weight", expected=expected, found=found, next=remedy)
    weights: dict[str, float] = {}
    for name, section in sections.items():
        where, values = ("weight", [given[name]]) if name in given else _own_weight(name, section)
        numbers = to_numbers(np.array(values, dtype=object))
        if isinstance(numbers, list) or not np.all((numbers >= 0) & (numbers <= 1)):
            found = f"{show(numbers)} for {name!r}"
            problems.add(where, expected="a number from 0 to 1", found=found, next=remedy)
        elif numbers.shape != (1,):
            found = f"{show(numbers.ravel())} for {name!r}"
            problems.add(where, expected="one value for the section", found=found, next=remedy)
        else:
            weights[name] = float(numbers[0])
            if weights[name] > 0 and _told_by_others(section):
                problems.add(
                    f"section {name!r}",
                    expected="expression that was measured, or told by its image alone",
                    found="expression told with positions, which holds what the other sections say",
                    next=f"isost.tl.fit_histology without use_positions, or weight={{{name!r}: 0}}",
                )
    if len(problems) == before and weights and max(weights.values()) < 1:
        problems.add(
            "weight",
            expected="a section of weight 1, one that was measured",
            found=f"weights up to {max(weights.values()):g}",
            next="stack measured sections with them, or give the best predicted ones weight 1",
        )
    return weights if len(problems) == before else {}


def _own_weight(name: str, section: AnnData) -> tuple[str, list[object]]:
    """Where a section says how far it is trusted, and its distinct values there; 1 where it says nothing."""
    if WEIGHT_KEY in section.obs and section.n_obs:
        return f"section {name!r}, obs[{WEIGHT_KEY!r}]", list(section.obs[WEIGHT_KEY].unique())
    histology = section.uns.get("histology")
    trust = histology.get("trust", 1.0) if isinstance(histology, Mapping) else 1.0
    return f"section {name!r}, uns['histology']['trust']", [trust]


def _told_by_others(section: AnnData) -> bool:
    """Whether measured expression of other sections is in it, which no cross-validation could leave out."""
    histology = section.uns.get("histology")
    return isinstance(histology, Mapping) and bool(histology.get("use_positions", False))


def _check_section(name: str, section: AnnData, spatial_key: str, problems: Problems) -> None:
    if not section.n_obs:
        problems.add(f"section {name!r}", expected="cells", found="none", next="leave this section and its depth out")
        return
    if not section.var_names.is_unique:
        repeated = section.var_names[section.var_names.duplicated()].unique()
        problems.add(
            f"section {name!r}, var_names",
            expected="every gene once",
            found=f"{len(repeated)} names that occur more than once ({show(repeated)})",
            next="section.var_names_make_unique()",
        )
    where = f"section {name!r}, obsm[{spatial_key!r}]"
    if spatial_key not in section.obsm:
        found = f"obsm keys {show(section.obsm)}"
        problems.add(where, expected="(n_cells, 2) x, y", found=found, next="name the key by spatial_key=...")
        return
    values = to_numbers(section.obsm[spatial_key])
    if isinstance(values, list):
        problems.add(where, expected="numbers", found=show(values), next="convert them by .astype(float)")
    elif values.ndim != 2 or values.shape[1] not in (2, 3):
        found = f"shape {values.shape}"
        problems.add(where, expected="(n_cells, 2) x, y or (n_cells, 3)", found=found, next="keep the columns x and y")
    elif not np.isfinite(values[:, :2]).all():
        problems.add(
            where,
            expected="finite x and y",
            found=f"NaN or infinity in {show_rows(~np.isfinite(values[:, :2]).all(axis=1))}",
            next=f"section = section[numpy.isfinite(section.obsm[{spatial_key!r}][:, :2]).all(axis=1)]",
        )


def _place(name: str, section: AnnData, depth: float, spatial_key: str) -> np.ndarray:
    coords = np.asarray(to_numbers(section.obsm[spatial_key]))
    if coords.shape[1] == 3 and np.any(coords[:, 2] != depth):
        low, high = np.min(coords[:, 2]), np.max(coords[:, 2])
        was = f"{low:g}" if low == high else f"from {low:g} to {high:g}"
        logger.info("stack_sections: section %r, obsm[%r]: z %s is replaced by %g", name, spatial_key, was, depth)
    return np.column_stack([coords[:, :2], np.full(len(coords), depth)])


def _check_genes(sections: dict[str, AnnData], problems: Problems) -> None:
    genes = [set(map(str, section.var_names)) for section in sections.values() if section.n_obs]
    if len(genes) < 2 or set.intersection(*genes):
        return
    alike = set.intersection(*({gene.lower() for gene in group} for group in genes))
    problems.add(
        "var_names",
        expected="genes that all sections share",
        found="none in common: "
        + "; ".join(f"{name!r} has {show(one.var_names, 3)}" for name, one in sections.items()),
        next="section.var_names = section.var_names.str.upper()" + f" ({len(alike)} genes differ in case only)"
        if alike
        else "use one kind of names (symbols or Ensembl ids) in all sections",
    )
