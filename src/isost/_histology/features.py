"""Features of cells from their slide, by a built-in or a given encoder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
import torch
from tqdm.auto import tqdm

from isost._core.folder import written_beside
from isost._histology.cells import Cells
from isost._histology.slide import Slide
from isost._histology.stain import Stains, find_stains
from isost._histology.tiles import Encoder, encoded, tile_of
from isost._histology.windows import texture_features

SHAPE = ("area", "perimeter", "elongation", "solidity")
_TILES = 200  # that stains are found in
_THINNED = 7  # pixels between those that are looked at
_KEPT = 2048  # cells of a file in a cache


@dataclass(frozen=True, eq=False)
class HistologyFeatures:
    """Features (n, d) float32, what they are, which are of the cell itself, and the share of tissue in tiles."""

    values: np.ndarray
    names: list[str]
    local: np.ndarray
    tissue: np.ndarray


def stains_of(slide: Slide, cells: Cells, rng: np.random.Generator) -> Stains:
    """Find the stains in the tiles of some of the cells."""
    some = np.sort(rng.choice(len(cells), min(len(cells), _TILES), replace=False))
    pixels = [tile_of(slide, cells.centre[row])[::_THINNED, ::_THINNED].reshape(-1, 3) for row in some]
    return find_stains(np.concatenate(pixels))


def of_texture(slide: Slide, cells: Cells, stains: Stains, *, progress: bool) -> HistologyFeatures:
    """Colour, texture and nuclei, in the cell and about it, and the shape of its outline where there is one."""
    with tqdm(desc="histology", unit="block", disable=not progress) as bar:

        def told(n: int) -> None:
            bar.total = n
            bar.refresh()

        values, names = texture_features(slide, cells, stains, done=bar.update, n_blocks=told)
    tissue = values[:, names.index("tissue 128 um mean")].copy()
    local = np.array([" in it " in name for name in names])
    if cells.outlined:
        values = np.hstack([values, shapes(cells, slide.pixel_size)])
        names, local = [*names, *SHAPE], np.append(local, np.ones(len(SHAPE), dtype=bool))
    return HistologyFeatures(values, names, local, tissue)


def shapes(cells: Cells, pixel_size: float) -> np.ndarray:
    """(n, 4) float32: area µm^2, perimeter µm, elongation (long over short side of the box about it), solidity."""
    area = shapely.area(cells.outline)
    sides = shapely.get_coordinates(shapely.get_exterior_ring(shapely.oriented_envelope(cells.outline)))
    corner = sides.reshape(len(cells), 5, 2)
    length = np.linalg.norm(np.diff(corner[:, :3], axis=1), axis=2)
    long, short = length.max(axis=1), np.maximum(length.min(axis=1), 1e-9)
    solidity = area / np.maximum(shapely.area(shapely.convex_hull(cells.outline)), 1e-12)
    columns = [area * pixel_size**2, shapely.length(cells.outline) * pixel_size, long / short, solidity]
    return np.column_stack(columns).astype(np.float32)


def of_encoder(
    slide: Slide, cells: Cells, encoder: Encoder, stains: Stains | None, *,
    device: torch.device, batch_size: int, cache: Path | None, called: str, progress: bool,
) -> HistologyFeatures:  # fmt: skip
    """Encode tiles, some at a time; what a cache holds of the same slide, cells and encoder is read."""
    folder = None if cache is None else cache / _identity(slide, cells, stains, called)
    parts = np.array_split(np.arange(len(cells)), -(-len(cells) // _KEPT))
    found = []
    with tqdm(total=len(cells), desc="histology", unit="cell", disable=not progress) as bar:
        for number, part in enumerate(parts):
            file = None if folder is None else folder / f"{number:06d}.npz"
            if file is not None and file.is_file():
                with np.load(file) as kept:
                    found.append({name: kept[name] for name in kept.files})
                bar.update(len(part))
                continue
            each = []
            for rows in np.array_split(part, -(-len(part) // batch_size)):
                each.append(encoded(slide, cells, rows, encoder, stains, device))
                bar.update(len(rows))
            one = {"whole": np.concatenate([whole for whole, _, _ in each]),
                   "tissue": np.concatenate([tissue for _, _, tissue in each])}  # fmt: skip
            if each[0][1] is not None:
                one["local"] = np.concatenate([np.asarray(local) for _, local, _ in each])
            if file is not None:
                _keep(file, one)
            found.append(one)
    kinds = ["whole", "local"] if "local" in found[0] else ["whole"]
    values = [np.concatenate([one[kind] for one in found]) for kind in kinds]
    names = [f"{'tile' if kind == 'whole' else 'nucleus'} {k}" for kind, part in zip(kinds, values, strict=True)
             for k in range(part.shape[1])]  # fmt: skip
    local = np.repeat([kind == "local" for kind in kinds], [part.shape[1] for part in values])
    tissue = np.concatenate([one["tissue"] for one in found])
    return HistologyFeatures(np.hstack(values).astype(np.float32), names, local, tissue.astype(np.float32))


def _identity(slide: Slide, cells: Cells, stains: Stains | None, called: str) -> str:
    digest = hashlib.sha256(json.dumps([slide.shape, slide.pixel_size, slide.brightest, called]).encode())
    for file in sorted(Path(called).glob("*")) if Path(called).is_dir() else []:  # weights that were trained on since
        digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    rows = np.unique(np.linspace(0, len(cells) - 1, 16).astype(int))
    for row in rows:
        digest.update(tile_of(slide, cells.centre[row]).tobytes())
    digest.update(np.ascontiguousarray(cells.centre).tobytes())
    digest.update(b"".join(shapely.to_wkb(cells.outline).tolist()))
    if stains is not None:
        digest.update(stains.colours.tobytes() + stains.full.tobytes())
    return digest.hexdigest()[:24]


def _keep(file: Path, arrays: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(file) as beside:
        np.savez(beside, **arrays)  # type: ignore[arg-type]
