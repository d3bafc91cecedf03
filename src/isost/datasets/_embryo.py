from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from isost._core.checks import to_numbers
from isost._core.random import Rng, numpy_generator
from isost._core.requests import as_number, as_whole
from isost._logging import logger
from isost.datasets._body import Body
from isost.datasets._embryo_sampling import draw_stage
from isost.datasets._embryo_truth import EmbryoTruth
from isost.datasets._organs import Programme
from isost.datasets._panel import softmax
from isost.datasets._sampling import SectionEffect


def embryo(
    ages: Sequence[float] = (9.5, 11.0, 12.5, 14.0, 15.5),
    *,
    depths: Sequence[float] = (0.0,),
    n_cells: int = 800,
    n_genes: int = 84,
    length: float = 2000.0,
    library_size: float = 1000.0,
    count_noise: bool = True,
    oriented: bool = False,
    stage_effects: float = 0.0,
    rng: Rng = 0,
) -> ad.AnnData:
    """Make stages of development of a growing embryo whose truth is known at every age and depth.

    From the first age to the last the body grows to 2.5 times its length, uncurls, and shifts its proportions from head
    to trunk. The heart migrates, the liver grows, and a kidney appears and splits in two. Some genes mark an organ at
    all ages, some peak in an organ at an age of their own, and some are cyclic in the whole body, with a period as long
    as all ages together or somewhat longer. Each stage lies turned and shifted in its own way, as on a slide. Away from
    its middle plane the body narrows to an end, and is twisted and bowed.

    Parameters
    ----------
    ages
        Of the stages, in days, rising; two or more. The body is that of the first at the first, and of the last at the
        last.
    depths
        Relative depths of the sections of each stage, above -1 and below 1; by default only the middle plane.
    n_cells
        Mean number of cells of the middle plane at the first age; it grows with the area of the body.
    n_genes
        Number of genes, of six kinds (``var["kind"]``) in turn.
    length
        Of the body at the first age, along its axis, µm.
    library_size
        Mean number of transcripts of a cell; lognormal from cell to cell.
    count_noise
        Poisson counts (sparse int32). False: the exact log-normalised expression of each cell (dense float32).
    oriented
        Let all stages lie as the truth does.
    stage_effects
        Strength s of technical differences between stages: a gene's rate p becomes ``gain * p + offset`` with
        log(gain) ~ N(0, s^2) and an offset uniform between 0 and s / 2 of the gene's base rate.
    rng
        Seed or generator.

    Returns
    -------
    anndata.AnnData
        ``X`` counts or expression; ``obs["stage"]`` (ordered categorical), ``obs["age"]``, ``obs["z"]`` (µm from the
        middle plane; it grows with the body), ``obs["cell_type"]``, ``obs["organ"]``; ``obsm["spatial"]`` (n, 2)
        float64, µm, ``obsm["material"]`` (n, 2) float32; ``var["kind"]``, ``var["target"]`` (organ or cell type of a
        gene), ``var["peak"]`` (age, days); ``uns["organ_of_type"]``; ``uns["embryo"]`` the parameters, with the
        ``angle`` (radians) and ``shift`` (µm) by which each stage was turned about the origin and then shifted, from
        which `embryo_truth` makes the truth.

    Raises
    ------
    TypeError
        If a parameter is no number.
    ValueError
        If ages or depths do not rise, or a parameter is out of range.

    Examples
    --------
    >>> import isost
    >>> adata = isost.datasets.embryo(n_cells=100)
    >>> adata.obs["stage"].cat.categories.tolist()
    ['E9.5', 'E11', 'E12.5', 'E14', 'E15.5']
    >>> counts = adata.obs["stage"].value_counts(sort=False)
    >>> bool(counts["E15.5"] > 4 * counts["E9.5"])
    True
    """
    wanted = to_numbers(np.asarray(ages))
    if isinstance(wanted, list) or wanted.ndim != 1 or len(wanted) < 2 or not np.all(np.diff(wanted) > 0):
        raise ValueError(f"ages: expected two rising numbers or more, found {ages!r}. Next: leave ages out.")
    planes = to_numbers(np.asarray(depths))
    if isinstance(planes, list) or planes.ndim != 1 or not len(planes) or not np.all(np.diff([-1, *planes, 1]) > 0):
        raise ValueError(f"depths: expected rising numbers between -1 and 1, found {depths!r}. Next: leave depths out.")
    for name, number in (("length", length), ("library_size", library_size)):
        if not 0.0 < as_number(name, number) < np.inf:
            raise ValueError(f"{name}: expected a number above 0, found {number!r}. Next: leave it out.")
    if not 0.0 <= as_number("stage_effects", stage_effects) < np.inf:
        raise ValueError(f"stage_effects: expected 0 or more, found {stage_effects!r}. Next: leave it out.")
    recorded: dict[str, Any] = {
        "ages": wanted.astype(np.float64), "n_cells": as_whole("n_cells", n_cells, 1),
        "n_genes": as_whole("n_genes", n_genes, 1), "length": float(length), "library_size": float(library_size),
        "depths": planes.astype(np.float64), "seed": int(numpy_generator(rng).integers(2**62)),
    }  # fmt: skip
    truth = _truth(recorded)
    generator = np.random.default_rng([recorded["seed"], 1])
    turn = np.random.default_rng([recorded["seed"], 2])
    angle = turn.uniform(-np.pi, np.pi, len(wanted)) * (not oriented)
    shift = turn.uniform(-length, length, (len(wanted), 2)) * (not oriented)
    stages = []
    for number, age in enumerate(wanted.tolist()):
        effect = _effect(truth.programme, stage_effects, generator)
        drawn = [
            draw_stage(truth, age, None, generator, count_noise=count_noise, effect=effect, w=float(w)) for w in planes
        ]
        for number_of_plane, one in enumerate(drawn if len(drawn) > 1 else []):
            one.obs_names = [f"{name}_{number_of_plane}" for name in one.obs_names]
        stage = ad.concat(drawn, merge="same", uns_merge="same")
        cos, sin = np.cos(angle[number]), np.sin(angle[number])
        stage.obsm["spatial"] = stage.obsm["spatial"] @ np.array([[cos, sin], [-sin, cos]]) + shift[number]
        stages.append(stage)
    adata = ad.concat(stages, merge="same", uns_merge="same")
    names = [stage.obs["stage"].cat.categories[0] for stage in stages]
    adata.obs["stage"] = pd.Categorical(adata.obs["stage"], names, ordered=True)
    adata.uns["X_note"] = "raw integer counts" if count_noise else "log1p of rates in 1e4, without count noise"
    adata.uns["embryo"] = recorded | {"angle": angle, "shift": shift}
    logger.info("embryo: %d sections, %d cells, %d genes", len(wanted) * len(planes), adata.n_obs, n_genes)
    return adata


def embryo_truth(adata: ad.AnnData) -> EmbryoTruth:
    """Make the truth of an embryo phantom from the parameters recorded in it.

    Parameters
    ----------
    adata
        What `isost.datasets.embryo` returned, or a subset of it, or the same read from a file.

    Returns
    -------
    EmbryoTruth
        The truth, before stages were turned and shifted.

    Raises
    ------
    KeyError
        If ``uns["embryo"]`` is missing.

    Examples
    --------
    >>> import isost
    >>> truth = isost.datasets.embryo_truth(isost.datasets.embryo(n_cells=50, n_genes=12))
    >>> truth.inside([[0.0, 0.0, 12.0]]).tolist()
    [True]
    """
    if "embryo" not in adata.uns:
        raise KeyError(
            'uns["embryo"]: expected the parameters of an embryo phantom, found none. '
            "Next: pass what isost.datasets.embryo() returned."
        )
    return _truth(adata.uns["embryo"])


def _truth(recorded: Any) -> EmbryoTruth:
    ages = np.asarray(recorded["ages"], dtype=np.float64)
    programme = Programme.draw(int(recorded["n_genes"]), np.random.default_rng([int(recorded["seed"]), 0]))
    body = Body(float(recorded["length"]), float(ages[0]), float(ages[-1]))
    return EmbryoTruth(body, programme, int(recorded["n_cells"]), float(recorded["library_size"]))


def _effect(programme: Programme, strength: float, rng: np.random.Generator) -> SectionEffect | None:
    if strength == 0.0:
        return None
    base = softmax(programme.base[None])[0]
    gain = np.exp(strength * rng.standard_normal(len(base)))
    return SectionEffect(gain, rng.uniform(0.0, 0.5 * strength, len(base)) * base)
