"""Images between few sections: how much they make up for the sections that are not there.

    python benchmarks/images.py --out images.json

Writes one JSON file and prints it as Markdown tables. Of a dense stack every third section is fitted on, without images
and with them, and all of them without; sections halfway between those of the dense stack are held out. Tissues:

- phantom: `isost.datasets.phantom` that bends or branches, with its stain (`phantom_image`).
- brain: autofluorescence of a whole mouse brain (`brainreg_mouse_brain.nii.gz` in the folder ISOST_DATA_DIR), with
  expression laid over it: genes of layers below the surface, of structures that are darker or brighter, gradients, and
  genes of regions that the images do not show (Voronoi cells in coordinates that are scaled with the tissue).

Useless images are noise, and those of another tissue. Scores, means over the held-out sections:

- nmse: squared error of bin means in units of the gene's variance (`isost.metrics.score_field`), as measured: most of
  it is the sampling of the cells that it is measured with.
- true nmse: squared error of the field at the cells, in units of the variance, against what is true of them; of the
  brain of the genes that follow what images show of it, and of those of unseen regions.
- coverage: of 90 % intervals of the means of bins.
- dice: overlap of occupied bins; higher at, of the held-out sections, those where it is above that without images.
- titration: `isost.tl.section_titration` with images, of a bending phantom of 13 sections; means over the sections that
  are scored at every step (as measured).
- known motion: of phantoms, every third section with the cells carried as they truly move: what images cannot exceed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.spatial import cKDTree
from tables import show
from xarray import DataArray

import isost
from isost._core.held_out import Split
from isost.tl._held_out import Fit, Keys, read_geometry, split

STEP = 3
BRAIN, NIFTI = "brainreg_mouse_brain.nii.gz", 352
PLANES, EVERY, PIXEL, PLANE = (60, 231), 10, 40.0, 50.0
GENES, REGIONS, UNSEEN = 6, 40, 4  # genes of a pattern, regions, patterns of them
SURFACE = (150.0, 400.0, 800.0, 1400.0)  # µm below the surface


@dataclass(frozen=True)
class Case:
    """A tissue: dense sections, those halfway between, images, and what is true.

    Attributes
    ----------
    dense, between
        Cells, with counts.
    rate
        Of positions (n, 3): expected transcripts (n, G).
    still
        Positions (n, 3) carried to one plane as they truly move, where it is known.
    unseen
        How many of the genes, the last, follow nothing that images show.
    """

    dense: ad.AnnData
    between: ad.AnnData
    images: dict[str, DataArray]
    rate: Callable[[np.ndarray], np.ndarray]
    still: Callable[[np.ndarray], np.ndarray] | None = None
    unseen: int = 0


def phantom(shape: str, seed: int, n_sections: int, n_cells: int) -> Case:
    """Make a phantom 450 µm deep, and the stain of another for the wrong tissue."""
    spacing = 450.0 / (n_sections - 1)
    dense = isost.datasets.phantom(shape, n_sections=n_sections, n_cells=n_cells, spacing=spacing, rng=seed)
    truth = isost.datasets.phantom_truth(dense)
    halfway = [truth.sample_section((k + 0.5) * spacing, rng=100 * seed + k) for k in range(n_sections - 1)]
    other = isost.datasets.phantom({"bending": "branching"}.get(shape, "bending"), n_cells=10, rng=seed + 50)
    stain = isost.datasets.phantom_image(dense, spacing=12.5, rng=seed)
    images = {"images": stain, "another tissue": isost.datasets.phantom_image(other, spacing=12.5, rng=seed)}

    def still(coords: np.ndarray) -> np.ndarray:
        a, b = truth.geometry.to_material(coords)
        return np.column_stack([truth.geometry.to_physical(a, b, 225.0)[:, :2], coords[:, 2]])

    return Case(dense, ad.concat(halfway), images, truth.rate, still)


def brain(seed: int, n_cells: int) -> Case:
    """Lay expression over a brain."""
    volume = read_nifti(Path(os.environ["ISOST_DATA_DIR"]) / BRAIN)
    smooth = ndimage.gaussian_filter(volume, 1.0)
    mask = smooth > 60
    parts, n = ndimage.label(mask)
    mask = parts == 1 + int(np.bincount(parts.ravel(), minlength=n + 1)[1:].argmax())
    generator = np.random.default_rng(seed)
    regions = unseen_regions(mask, generator)
    patterns = brain_patterns(smooth, mask) + regions
    genes = gene_panel(len(patterns), generator)
    numbers = np.arange(*PLANES, EVERY)
    dense = [draw(k, mask, patterns, genes, n_cells, generator) for k in numbers]
    halfway = [draw(k + EVERY // 2, mask, patterns, genes, n_cells, generator) for k in numbers[:-1]]
    y, x = (np.arange(length) * PIXEL for length in volume.shape[1:])
    z = np.arange(PLANES[0], PLANES[1], 2)
    image = DataArray(volume[z], dims=("z", "y", "x"), coords={"z": z * PLANE, "y": y, "x": x})
    other = isost.datasets.phantom_image(
        isost.datasets.phantom("bending", n_cells=10, rng=seed), spacing=5, pixel_size=5
    )
    stretched = other.assign_coords(
        {
            name: np.linspace(image[name].values[0], image[name].values[-1], other.sizes[name])
            for name in ("z", "y", "x")
        }
    )
    return Case(ad.concat(dense), ad.concat(halfway), {"images": image, "another tissue": stretched},
                lambda coords: rates(coords, patterns, genes), unseen=GENES * len(regions))  # fmt: skip


def read_nifti(path: Path) -> np.ndarray:
    """Coronal planes (z, y, x) float32 of a NIfTI-1 file of uint16."""
    content = gzip.decompress(path.read_bytes())
    x, y, z = struct.unpack("<3h", content[42:48])
    return np.frombuffer(content, "<u2", offset=NIFTI).reshape(z, y, x).transpose(2, 0, 1).astype(np.float32)


def brain_patterns(smooth: np.ndarray, mask: np.ndarray) -> list[np.ndarray]:
    """Patterns (z, y, x) between 0 and 1, of anatomy."""
    below = ndimage.distance_transform_edt(mask, sampling=(PLANE, PIXEL, PIXEL))
    found = [np.exp(-0.5 * ((below - depth) / (0.4 * depth)) ** 2) for depth in SURFACE]
    bright = ndimage.gaussian_filter(np.where(mask, smooth, 0), (1, 2, 2)) / np.maximum(
        ndimage.gaussian_filter(mask.astype(float), (1, 2, 2)), 1e-3
    )
    for level in np.quantile(bright[mask], (0.2, 0.5, 0.8)):
        found.append(1 / (1 + np.exp(-(bright - level) / 15)))
    z, y, x = scaled(mask)
    found += [np.abs(y), 0.5 + x / 2, z]
    return [np.clip(one, 0, 1).astype(np.float32) for one in found]


def scaled(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates z from 0 to 1; y and x from about -1 to 1 over the width and the height of the tissue of a plane."""
    z, y, x = np.indices(mask.shape, dtype=np.float32)
    half = [ndimage.gaussian_filter1d(mask.any(axis=axis).sum(axis=1).astype(float), 4)[:, None, None] / 2
            for axis in (2, 1)]  # fmt: skip
    middle = [ndimage.gaussian_filter1d(np.nan_to_num(np.where(mask, one, np.nan).mean(axis=(1, 2), where=mask)), 4)
              for one in (y, x)]  # fmt: skip
    y, x = ((one - at[:, None, None]) / np.maximum(size, 1) for one, at, size in zip((y, x), middle, half, strict=True))
    return (z - PLANES[0]) / (PLANES[1] - PLANES[0]), y, x


def unseen_regions(mask: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Patterns (z, y, x) between 0 and 1: random halves of regions that go with the outline alone."""
    places = np.stack([2 * one if k == 0 else one for k, one in enumerate(scaled(mask))], axis=-1)
    seeds = generator.uniform((-0.2, -1, -1), (2.2, 1, 1), (REGIONS, 3))
    region = cKDTree(seeds).query(places.reshape(-1, 3))[1].reshape(mask.shape)
    halves = [generator.permutation(REGIONS) < REGIONS // 2 for _ in range(UNSEEN)]
    return [ndimage.gaussian_filter(half[region].astype(np.float32), (1, 2, 2)) for half in halves]


def gene_panel(n_patterns: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Log rates: base (G,) and amplitudes (G, patterns); GENES follow each pattern."""
    follows = np.repeat(np.arange(n_patterns), GENES)
    amplitude = np.zeros((len(follows), n_patterns))
    amplitude[np.arange(len(follows)), follows] = generator.choice([-1, 1], len(follows)) * generator.uniform(
        1, 2.5, len(follows)
    )
    return generator.normal(0, 1, len(follows)), amplitude


def rates(coords: np.ndarray, patterns: list[np.ndarray], genes: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    at = (coords[:, ::-1] / [PLANE, PIXEL, PIXEL]).T
    known = np.stack([ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in patterns], axis=1)
    base, amplitude = genes
    rate = np.exp(base + known @ amplitude.T)
    return 1e4 * rate / rate.sum(axis=1, keepdims=True)


def draw(
    number: int, mask: np.ndarray, patterns: list[np.ndarray], genes: tuple[np.ndarray, np.ndarray], n_cells: int,
    generator: np.random.Generator,
) -> ad.AnnData:  # fmt: skip
    """Draw cells evenly from the tissue of a plane, with counts of 1,000 transcripts."""
    pixel = np.argwhere(mask[number])
    chosen = pixel[generator.integers(len(pixel), size=n_cells)] + generator.uniform(-0.5, 0.5, (n_cells, 2))
    coords = np.column_stack([chosen[:, ::-1] * PIXEL, np.full(n_cells, number * PLANE)])
    made = ad.AnnData(generator.poisson(rates(coords, patterns, genes) / 10).astype(np.float32))
    made.obsm["spatial"] = coords
    made.obs["section"] = f"z{number}"
    return made


def run(case: Case, about: dict[str, Any]) -> list[dict[str, Any]]:
    """Fit and score every way."""
    both = ad.concat({"dense": case.dense, "between": case.between}, label="kind")
    both.obs_names = [str(k) for k in range(both.n_obs)]
    depth = both.obsm["spatial"][:, 2]
    both.obs["section"] = pd.Categorical([f"{z:g}" for z in depth])
    both.uns["spatial_unit"] = "um"
    names = read_geometry(both, Keys())[1].names
    dense = [f"{z:g}" for z in np.unique(case.dense.obsm["spatial"][:, 2])]
    third = dense[::STEP]
    asked = {f"{z:g}" for z in np.unique(case.between.obsm["spatial"][:, 2]) if z < float(third[-1])}
    guides = {name: isost.pp.image_features(image) for name, image in case.images.items()}
    first = case.images["images"]
    noise = first.copy(data=np.random.default_rng(0).normal(size=first.shape).astype(np.float32))
    guides["noise"] = isost.pp.image_features(noise, threshold=None)
    records: list[dict[str, Any]] = []
    ways: list[tuple[str, list[str], DataArray | None, bool]] = [("every third", third, None, False)]
    guides["images, no edge"] = isost.pp.image_features(first, edge=False)
    ways += [(name, third, features, False) for name, features in guides.items()]
    ways += [("known motion", third, None, True)] if case.still else []
    for name, kept, features, still in [*ways, ("all", dense, None, False)]:
        started, adata = perf_counter(), both
        if still and case.still:
            adata = both.copy()
            adata.obsm["spatial"] = case.still(both.obsm["spatial"])
        train, held = split(adata, [k for k, one in enumerate(names) if one not in kept], n_comps=30)
        held = Split(held.training, [one for one in held.held_out if one.name in asked], held.genes)
        fitted = isost.tl.fit(train, images=features, rng=0, progress=False)
        scores = pd.DataFrame(held.score({"isost": Fit(fitted, held.genes)}))
        scores = scores[scores["method"] == "isost"].set_index("section")
        true = np.mean(
            [against_truth(case, fitted, both[both.obs["section"] == one], still) for one in scores.index], 0
        )
        records.append(about | {
            "fitted on": name, "followed": fitted.params.get("images", {}).get("followed", False),
            "nmse": scores["nmse"].mean(), "true nmse": true[0], "unseen": true[1], "dice": scores["dice"].mean(),
            "coverage": scores["coverage"].mean(),
            "higher": int((scores["dice"] > pd.Series(records[0]["each"])).sum()) if records else 0,
            "of": len(scores), "seconds": perf_counter() - started, "each": scores["dice"].to_dict(),
        })  # fmt: skip
        print(records[-1], flush=True)
    return records


def against_truth(case: Case, fitted: isost.Reconstruction, cells: ad.AnnData, still: bool) -> list[float]:
    """Squared error of the field over the variance, both about their means over the section, summed over genes.

    Of genes that images can show, and of the others (NaN where there are none).
    """
    coords = cells.obsm["spatial"]
    true = np.log1p(case.rate(coords))
    places = case.still(coords) if still and case.still else coords
    off = fitted.expression(places, genes=list(cells.var_names)) - true
    varies, shown = true.var(axis=0) > 1e-3, np.arange(true.shape[1]) < true.shape[1] - case.unseen
    parts = [varies & shown, varies & ~shown]
    return [float(off.var(axis=0)[own].sum() / true.var(axis=0)[own].sum()) if own.any() else np.nan for own in parts]


def titration(seed: int, n_cells: int) -> pd.DataFrame:
    """Score every 2nd, 3rd, 4th and 6th section, without images and with them."""
    adata = isost.datasets.phantom("bending", n_sections=13, n_cells=n_cells, spacing=37.5, rng=seed)
    images = isost.pp.image_features(isost.datasets.phantom_image(adata, spacing=12.5, rng=seed))
    scores = isost.tl.section_titration(
        adata, steps=(2, 3, 4, 6), n_comps=30, images=images, rng=0, progress=False
    )  # fmt: skip
    shown = scores[scores["common"] & scores["method"].isin(("isost", "isost, images", "nearest"))]
    return shown.groupby(["spacing", "method"])[["nmse", "dice", "energy"]].mean().reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("images.json"))
    parser.add_argument("--only", choices=("bending", "branching", "brain", "titration"), help="leave the others out")
    parser.add_argument("--seeds", type=int, default=1, help="phantoms of each shape, and expressions over the brain")
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--sections", type=int, default=7, help="of a dense stack of a phantom (default: 7)")
    parser.add_argument("--cells", type=int, default=2000, help="of a section (default: 2000)")
    asked = parser.parse_args()
    logging.getLogger("isost").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    if asked.only in (None, "titration"):
        show(titration(asked.first_seed, asked.cells))
    records = []
    for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
        for tissue in ("bending", "branching", "brain"):
            if asked.only in (None, tissue):
                case = (
                    brain(seed, asked.cells)
                    if tissue == "brain"
                    else phantom(tissue, seed, asked.sections, asked.cells)
                )
                records += run(case, {"tissue": tissue, "seed": seed})
    if not records:
        return
    asked.out.write_text(json.dumps(records, indent=1))
    frame = pd.DataFrame(records).drop(columns="each")
    show(frame)
    means = frame.groupby(["tissue", "fitted on"], sort=False)
    show(
        means[["nmse", "true nmse", "unseen", "dice", "coverage", "seconds"]]
        .mean()
        .join(means[["higher", "of"]].sum())
        .reset_index()
    )


if __name__ == "__main__":
    main()
