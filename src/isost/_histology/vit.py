"""Vision transformers of the package `transformers` as encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from isost._core.optional import load_extra
from isost._histology.tiles import SIDE, Encoder

_MEAN, _DEVIATION = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # where a checkpoint does not say


def load_vit(name: str | Path, device: torch.device) -> Encoder:
    """Load a transformer by name or from a local folder.

    Its class token is the feature of the tile, its other tokens those of the patches; positions are interpolated to
    tiles of 256 pixels.

    Raises
    ------
    ImportError
        If `transformers` is not installed.
    ValueError
        If there is no such model, or it is no vision transformer.
    """
    transformers = load_extra("transformers", "histology")
    try:
        model = transformers.AutoModel.from_pretrained(str(name)).to(device).eval()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"encoder: expected a vision transformer by name or in a folder, found that {str(name)!r} cannot be loaded "
            f"({str(error).splitlines()[0]}). Next: look at the name, or pass the folder that save_pretrained wrote."
        ) from error
    patch = getattr(model.config, "patch_size", None)
    if not isinstance(patch, int):
        raise ValueError(
            f"encoder: expected a vision transformer with square patches, found {type(model).__name__}. Next: pass a "
            "function from tiles to features."
        )
    mean, deviation = _colours(transformers, name)
    side = SIDE // patch

    def encode(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = (tiles - mean.to(tiles)) / deviation.to(tiles)
        if side * patch != SIDE:
            given = torch.nn.functional.interpolate(given, size=side * patch, mode="bilinear", antialias=True)
        tokens = model(pixel_values=given, interpolate_pos_encoding=True).last_hidden_state
        return tokens[:, 0], tokens[:, -(side**2) :]

    return encode


def _colours(transformers: Any, name: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of colours that the model was trained on, (3, 1, 1)."""
    try:
        found, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(str(name))
    except OSError:
        found = {}
    return tuple(
        torch.tensor(found.get(key) or usual).reshape(3, 1, 1)
        for key, usual in (("image_mean", _MEAN), ("image_std", _DEVIATION))
    )  # type: ignore[return-value]
