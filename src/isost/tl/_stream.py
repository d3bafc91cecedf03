"""The half of `reconstruct` that streams to a file: what was asked, what is done of it, and going on from there."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from spatialdata import SpatialData

from isost import __version__
from isost._core.checkpoint import clear, identity_of
from isost._core.export import open_zarr
from isost._core.fit import choose_device
from isost._core.folder import absolute_path
from isost._core.grid import GIB, make_grid
from isost._core.partial import Partial
from isost._core.random import Rng, draw_seed, set_state_of, state_of, torch_generator
from isost._core.stack import Stack
from isost._core.stream import stream_volume
from isost._core.volume import Request
from isost._logging import logger
from isost.reconstruction import Reconstruction
from isost.tl._fit import fit_read

_AFTER_FIT = "generator_after_fit.txt"


@dataclass(frozen=True, eq=False)
class Asked:
    """What is asked of a volume.

    Attributes
    ----------
    voxel_size, kind, max_memory
        As `reconstruct` has them.
    genes, index
        Names, and positions in the decoder.
    """

    voxel_size: float | None
    genes: list[str] | None
    index: np.ndarray | None
    kind: str
    max_memory: float | None

    def size(self, stack: Stack, partial: Partial | None, begun: dict[str, Any]) -> float:
        """Edge of a voxel: as asked, else as chosen when the call began, else as it suits what there is room for."""
        room = None
        if partial is not None:
            # what has been begun had room then, and has used some of it
            room = math.inf if "voxel_size" in begun else shutil.disk_usage(partial.target.parent).free
        n_channels = stack.n_scores if self.genes is None else len(self.genes)
        wanted = begun.get("voxel_size") if self.voxel_size is None else self.voxel_size
        grid = make_grid(stack, wanted, n_channels=n_channels, max_memory=self.max_memory, room=room)
        return grid.voxel_size

    def call(self) -> dict[str, Any]:
        """Tell what has to be the same for a call to go on; memory may be other than it was."""
        return {"voxel_size": self.voxel_size, "genes": self.genes, "volume": self.kind, "version": __version__}

    @property
    def room(self) -> float | None:
        """Bytes of memory for what is made at once."""
        return None if self.max_memory is None else self.max_memory * GIB


def generator_of(partial: Partial | None, rng: Rng) -> tuple[torch.Generator, dict[str, Any]]:
    """Random numbers of a call and what was chosen when it began: those of the call that was interrupted, if any."""
    earlier = None if partial is None else partial.started()
    if earlier is None:
        generator = torch_generator(rng)
        return generator, {"generator": state_of(generator)}
    generator = torch.Generator()
    set_state_of(generator, earlier["generator"])
    return generator, earlier


def fit_call(stack: Stack, fitted: Reconstruction | None, fitting: dict[str, Any]) -> dict[str, Any]:
    """Tell what the fit of a call depends on."""
    if fitted is not None:
        return identity_of(stack, None, fitted=fitted.params)
    how = {name: fitting[name] for name in ("objective", "preset")}
    if fitting["images"] is not None:
        how["images"] = fitting["images"].identity()
    return identity_of(stack, None, **how, **asdict(fitting["options"]))


def stream(
    partial: Partial, call: dict[str, Any], chosen: dict[str, Any], asked: Asked, stack: Stack,
    fitted: Reconstruction | None, fitting: dict[str, Any], generator: torch.Generator,
    *, save_model: str | os.PathLike[str] | None, show: bool,
) -> SpatialData:  # fmt: skip
    """Fit, unless that is done, and stream the volume; or open it where all is done."""
    chosen = partial.begin(call, chosen)
    if partial.complete:
        return _opened(partial, save_model)
    with _keeping(partial):
        fitted = fitted or _fit_for(partial, stack, fitting, generator)
        if save_model is not None:
            _save(fitted, save_model)
        n_channels = fitted.stack.n_scores if asked.genes is None else len(asked.genes)
        grid = make_grid(fitted.stack, chosen["voxel_size"], n_channels=n_channels, room=math.inf)
        request = Request(asked.genes, asked.index, asked.kind, draw_seed(generator))
        params = {**fitted.params, "volume": asked.kind}
        return stream_volume(fitted.field, grid, request, params, partial, room=asked.room, show=show)


def _opened(partial: Partial, save_model: str | os.PathLike[str] | None) -> SpatialData:
    sdata = open_zarr(partial.target)
    if sdata.attrs.get("isost", {}).get("call") != partial.digest:
        raise ValueError(
            f"resume: expected the output of this call in {partial.target}, found that of another. "
            "Next: choose another output."
        )
    if save_model is not None and not absolute_path(save_model).exists():
        raise ValueError(
            f"save_model: expected the fit that {partial.target} was made of, found none at {save_model}, and the work "
            "is done. Next: leave save_model out."
        )
    partial.discard()
    logger.info("reconstruct: %s is complete already", partial.target)
    return sdata


def _fit_for(partial: Partial, stack: Stack, fitting: dict[str, Any], generator: torch.Generator) -> Reconstruction:
    """Fit, or take up the fit that an interrupted call made or began."""
    if partial.fit.exists():
        logger.info("reconstruct: the fit is done already")
        set_state_of(generator, partial.kept(_AFTER_FIT))
        fitted = Reconstruction.load(partial.fit)
        fitted.model.to(choose_device(fitting["device"]))
        return fitted
    fitted = fit_read(stack, rng=generator, checkpoint=partial.progress, resume=True, **fitting)
    partial.keep(_AFTER_FIT, state_of(generator))
    fitted.save(partial.fit)
    clear(partial.progress)
    return fitted


def _save(fitted: Reconstruction, path: str | os.PathLike[str]) -> None:
    """Save the fit, unless an interrupted call has."""
    if not absolute_path(path).exists():
        fitted.save(path)
    elif Reconstruction.load(path).params != fitted.params:
        raise FileExistsError(
            f"save_model: expected a new folder, or the fit of this call, found another fit at {path}. "
            "Next: choose another folder; the call goes on with resume=True."
        )


@contextmanager
def _keeping(partial: Partial) -> Iterator[None]:
    """Keep what is done if what follows fails, unless it was asked for something impossible before anything was."""
    try:
        yield
    except BaseException as error:  # Ctrl-C too
        impossible = isinstance(error, ValueError | TypeError | KeyError)
        if impossible and not partial.fit.exists() and not any(partial.slabs.iterdir()):
            partial.discard()
        else:
            logger.error(
                "reconstruct: failed; what is done is kept in %s. Next: the same call with resume=True", partial.folder
            )
        raise
