from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from anndata import AnnData

from isost._core.fit import choose_device
from isost._core.random import Rng, draw_seed, torch_generator
from isost._core.requests import as_number, as_whole
from isost._histology.fit import FitOptions
from isost._histology.fit import fit_histology as fit_measured
from isost._histology.measured import joined, read_measured
from isost._histology.network import NETWORKS, NetworkOptions
from isost._logging import logger
from isost.histology_model import HistologyModel

_METHODS = ("network", "ridge", "prts")


def fit_histology(
    adata: AnnData,
    features: AnnData | Sequence[AnnData] | Mapping[str, AnnData],
    *,
    genes: Literal["hvg", "markers"] | Sequence[str] = "hvg",
    n_genes: int = 200,
    method: Literal["network", "ridge", "prts"] = "network",
    section_key: str | None = None,
    spatial_key: str = "spatial",
    layer: str | None = None,
    standardise: Literal["slide", "all"] = "slide",
    use_positions: bool = False,
    position_width: float | None = None,
    n_components: int = 20,
    n_networks: int = 1,
    hidden: Sequence[int] | None = None,
    dropout: float | None = None,
    learning_rate: float | None = None,
    weight_decay: float = 0.05,
    batch_size: int = 256,
    epochs: int | None = None,
    patience: int | None = None,
    device: str | torch.device | None = None,
    rng: Rng = 0,
    progress: bool = True,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> HistologyModel:
    """Fit expression to what an H&E image shows of cells, or spots, and about them (PRTS; Wen et al. 2025).

    Layers with batch norm, LeakyReLU and dropout have two heads: is a gene expressed (cross-entropy, the rarer class
    weighted up), and how much is there (squared error). With ``method="prts"`` the second head tells each gene, and X
    is probability x level, as published (Research, 10.34133/research.0961). With ``"network"``, the default, it tells
    the principal components of the expression of many genes, which one gene's noise hardly touches; X is what these
    components say, and level is X / probability. ``"ridge"`` tells the same components by Gaussian kernel ridge
    regression, each with the penalty that is best on held-out tissue.

    Tissue is held out in turn, as whole slides from three on, else as blocks of a slide; never as single cells, whose
    surroundings others have seen. A network is trained until its loss on that tissue gets no better, those of all turns
    are averaged, and what each tells of the tissue that it did not see says how accurate the model is.

    Parameters
    ----------
    adata
        Measured cells or spots: counts, or log-normalised expression. It is left as it is.
    features
        What `isost.tl.histology_features` returned, for one slide or several; cells are matched by name, and may be
        more than were measured.
    genes
        ``"hvg"``: highly variable genes, by slide; ``"markers"``: of highly variable genes, those of clusters of cells
        by Wilcoxon's test, as in PRTS; or names.
    n_genes
        Of the first two.
    method
        See above.
    section_key
        Column of ``adata.obs`` that tells slides apart. None: each of `features` is one.
    spatial_key
        Positions of `adata` in the frame that sections share, in ``obsm``, by which predictions are compared with
        neighbouring sections; without it, those on the slides.
    layer
        That holds expression. None: ``X``.
    standardise
        ``"slide"``: features and expression are those of a cell relative to the other cells of its slide, so that
        stains and whole sections may differ, and differences between slides are not told. ``"all"``: as they are.
    use_positions
        Tell expression by where a cell lies in that frame, too, and so by what other sections say of the place: for
        aligned sections of one tissue, two or more, of which some were only stained. ``predict`` then asks for
        positions. Further features are heights of Gaussians on a grid over x and y; depth is none. Whole sections are
        held out. Sections should cover the same tissue, else ``standardise="all"``: each one's own mean is taken out.
        A stack does not take what such a model tells, as that holds what its neighbours say; it adds these itself.
    position_width
        Standard deviation of these Gaussians, and the distance between them, in µm. None: a tenth of the longer side
        of the tissue.
    n_components
        Of expression, but for ``"prts"``.
    n_networks
        Trained for each part of the tissue that is held out.
    hidden, dropout, learning_rate
        Of networks. None: layers of 256 and 256, 0.5, 1e-3; for ``"prts"`` as published, 512, 512, 1024 and 1024, 0.1,
        1e-2.
    weight_decay, batch_size
        Of AdamW.
    epochs, patience
        At most, and without a better loss on held-out tissue. None: 200, 20; for ``"prts"`` as published, 100, 10.
    device
        ``"cpu"``, ``"cuda"``, or None for a GPU where there is one.
    rng
        Seed or generator.
    progress
        Show a bar.
    checkpoint
        Folder to keep networks that are done in, until all are; what Ctrl-C interrupts goes on from there. ``"ridge"``
        takes seconds and keeps nothing.
    resume
        Go on from `checkpoint`.

    Returns
    -------
    isost.HistologyModel
        With ``predict``, ``accuracy``, ``trust``, ``save``, ``load``.

    Raises
    ------
    TypeError, ValueError
        If `adata` or `features` are something else, share less than 40 cells, hold negative or missing values, slides
        have too few cells, genes are missing, there are no positions of two slides to use, or an option is impossible.
    OSError
        If `checkpoint` cannot be made, or holds something else.

    Examples
    --------
    >>> import isost
    >>> slide = isost.datasets.phantom_slide(n_cells=200, n_genes=10)
    >>> features = isost.tl.histology_features(slide["he_image"], slide["nuclei"], pixel_size=0.5, progress=False)
    >>> model = isost.tl.fit_histology(slide["table"], features, epochs=5, progress=False)
    >>> model.accuracy.columns.tolist()
    ['pcc', 'rmse', 'r2', 'expressed', 'call_accuracy']
    """
    if method not in _METHODS:
        raise ValueError(f"method: expected one of {_METHODS}, found {method!r}. Next: leave it out.")
    if standardise not in ("slide", "all"):
        raise ValueError(f"standardise: expected 'slide' or 'all', found {standardise!r}. Next: leave it out.")
    if resume and checkpoint is None:
        raise ValueError(
            "resume: expected the checkpoint of an interrupted fit, found none. Next: checkpoint='progress'."
        )
    if not isinstance(use_positions, bool):
        raise TypeError(f"use_positions: expected True or False, found {use_positions!r}. Next: use_positions=True.")
    if position_width is not None:
        if not use_positions:
            raise ValueError("position_width: expected use_positions=True beside it, found False. Next: set it, or "
                             "leave position_width out.")  # fmt: skip
        if not 0 < as_number("position_width", position_width) < float("inf"):
            raise ValueError(f"position_width: expected µm above 0, found {position_width!r}. Next: leave it out.")
    network = _network_options(
        method, hidden=hidden, dropout=dropout, learning_rate=learning_rate, weight_decay=weight_decay,
        batch_size=batch_size, epochs=epochs, patience=patience,
    )  # fmt: skip
    options = FitOptions(
        method, network, as_whole("n_components", n_components, 1), as_whole("n_networks", n_networks, 1)
    )
    generator, where = torch_generator(rng), choose_device(device)
    data, how = read_measured(
        adata, features, genes=genes, n_genes=as_whole("n_genes", n_genes, 1), section_key=section_key,
        spatial_key=spatial_key, layer=layer, by_slide=standardise == "slide", seed=draw_seed(generator) % 2**31,
        use_positions=use_positions, position_width=None if position_width is None else float(position_width),
    )  # fmt: skip
    folder = None if checkpoint is None else Path(checkpoint).expanduser().absolute()
    fitted = fit_measured(
        data, options, generator=generator, device=where, progress=progress, checkpoint=folder, resume=resume
    )
    if fitted.info["blocks"]:
        logger.info(
            "fit_histology: blocks of %d slide(s) were held out, beside tissue that was trained on: what is said of "
            "them flatters; three slides or more tell", fitted.info["n_slides"],
        )  # fmt: skip
    made = joined(features)[0].uns["histology"]
    params = {
        "method": method, "genes": genes if isinstance(genes, str) else "given", "standardise": standardise,
        "n_components": options.n_components, "n_networks": options.n_networks,
        "position_width": None if data.positions is None else data.positions.width,
        "normalisation": how.to_uns(), "features": {name: _plain(made[name]) for name in _MADE if name in made},
    }  # fmt: skip
    model = HistologyModel(fitted, params)
    logger.info(
        "fit_histology: %d genes; Pearson's r %.3f in the mean on held-out tissue (%d parts)%s",
        len(data.genes), model.accuracy["pcc"].mean(), fitted.info["n_folds"],
        "" if model.trust is None else f", trust {model.trust:.2f}",
    )  # fmt: skip
    return model


_MADE = ("encoder", "function", "tile", "normalise_stain", "radius")


def _plain(value: Any) -> Any:
    """Python's own number in place of numpy's, which files give back and JSON does not take."""
    return value.item() if hasattr(value, "item") else value


def _network_options(
    method: str, *, hidden: Sequence[int] | None, dropout: float | None, learning_rate: float | None,
    weight_decay: float, batch_size: int, epochs: int | None, patience: int | None,
) -> NetworkOptions:  # fmt: skip
    usual = NETWORKS["prts" if method == "prts" else "network"]
    if hidden is not None and (isinstance(hidden, str) or not hasattr(hidden, "__len__") or not len(hidden)):
        raise ValueError(f"hidden: expected widths of layers, found {hidden!r}. Next: hidden=(256, 256).")
    rate = usual.learning_rate if learning_rate is None else as_number("learning_rate", learning_rate)
    share = usual.dropout if dropout is None else as_number("dropout", dropout)
    decay = as_number("weight_decay", weight_decay)
    if not 0 <= share < 1 or not 0 < rate < float("inf") or not 0 <= decay < float("inf"):
        raise ValueError(
            f"Expected 0 <= dropout < 1, learning_rate > 0 and weight_decay >= 0, found {share}, {rate}, {decay}. "
            "Next: leave them out."
        )
    return replace(
        usual, hidden=usual.hidden if hidden is None else tuple(as_whole("hidden", width, 1) for width in hidden),
        dropout=share, learning_rate=rate, weight_decay=decay, batch_size=as_whole("batch_size", batch_size, 2),
        epochs=usual.epochs if epochs is None else as_whole("epochs", epochs, 1),
        patience=usual.patience if patience is None else as_whole("patience", patience, 1),
    )  # fmt: skip
