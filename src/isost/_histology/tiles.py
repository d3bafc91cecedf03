"""Tiles about cells for encoders that are networks, and which patches of a tile the nucleus lies in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
import torch

from isost._histology.cells import Cells
from isost._histology.slide import Slide
from isost._histology.stain import Stains, is_tissue
from isost._histology.texture import PIXEL

SIDE = 256  # pixels of 0.5 µm

#: Tiles (B, 3, 256, 256) float32 between 0 and 1, to (B, d), or to that and tokens (B, t^2, d) of t x t patches.
Encoder = Callable[[torch.Tensor], torch.Tensor | tuple[torch.Tensor, torch.Tensor]]


def tile_of(slide: Slide, centre: np.ndarray) -> np.ndarray:
    """(256, 256, 3) uint8 about a place x, y in pixels of the slide."""
    half = SIDE / 2 * PIXEL / slide.pixel_size
    return slide.resampled(centre[1] - half, centre[0] - half, SIDE, SIDE, PIXEL)


def encoded(
    slide: Slide, cells: Cells, rows: np.ndarray, encoder: Encoder, stains: Stains | None, device: torch.device
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Encode the tiles of some cells.

    Returns
    -------
    Of the tile (m, d), of the patches that overlap the nucleus their mean (m, d) or None, and (m,) the share of tissue.

    Raises
    ------
    TypeError, ValueError
        If the encoder returns something else.
    """
    tiles = np.stack([tile_of(slide, cells.centre[row]) for row in rows])
    tissue = is_tissue(tiles).mean(axis=(1, 2))
    if stains is not None:
        tiles = stains.normalised(tiles)
    given = torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div(255).to(device)
    with torch.inference_mode():
        found = encoder(given)
    whole, tokens = found if isinstance(found, tuple) else (found, None)
    if not isinstance(whole, torch.Tensor) or whole.ndim != 2 or len(whole) != len(rows):
        shape = tuple(whole.shape) if isinstance(whole, torch.Tensor) else type(whole).__name__
        raise ValueError(f"encoder: expected features ({len(rows)}, d) of {len(rows)} tiles, found {shape}. Next: "
                         "return a tensor, or a pair of it and the tokens of the patches (B, t^2, d).")  # fmt: skip
    if tokens is None:
        return whole.float().cpu().numpy(), None, tissue
    side = round(tokens.shape[1] ** 0.5) if tokens.ndim == 3 else 0
    if tokens.ndim != 3 or side**2 != tokens.shape[1] or len(tokens) != len(rows):
        raise ValueError(f"encoder: expected tokens (B, t^2, d) of t x t patches, found {tuple(tokens.shape)}. Next: "
                         "leave tokens of the class and registers out.")  # fmt: skip
    share = torch.from_numpy(np.stack([overlap(slide, cells, row, side) for row in rows])).to(tokens)
    local = torch.einsum("bt,btd->bd", share, tokens)
    return whole.float().cpu().numpy(), local.float().cpu().numpy(), tissue


def overlap(slide: Slide, cells: Cells, row: int, side: int) -> np.ndarray:
    """(side^2,) float32, the patches of a tile that the outline of its cell overlaps, all alike, their sum one."""
    patch = SIDE / side
    step = PIXEL / slide.pixel_size
    outline = shapely.transform(cells.outline[row], lambda xy: ((xy - cells.centre[row]) / step + SIDE / 2) / patch)
    corner = np.arange(side)
    x, y = np.meshgrid(corner, corner)
    hit = shapely.intersects(outline, shapely.box(x, y, x + 1, y + 1)).ravel()
    if not hit.any():  # beyond the tile
        hit = np.arange(side**2) == side // 2 * side + side // 2
    return np.asarray(hit / hit.sum(), dtype=np.float32)
