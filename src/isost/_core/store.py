"""A fitted model as a folder: JSON, a state_dict and npz; never pickle."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isost._core.field import Field, Guidance
from isost._core.folder import absolute_path, check_target, written_beside
from isost._core.model import SDEModel
from isost._core.remainder import Remainder
from isost._core.stack import Decoder, Stack

FORMAT = "isost.Reconstruction"
FORMAT_VERSION = 1
HEADER = "isost.json"
IMAGES = "images.zarr"  # where a fit was guided by some
_FILES = ("model.pt", "stack.npz", "field.npz")
BROKEN = (KeyError, TypeError, ValueError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError)
_REMEDY = "Next: save it again from the fit, or fit anew"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a reconstruction is made of."""

    stack: Stack
    model: SDEModel
    field: Field
    history: dict[str, list[float]]
    params: dict[str, Any]


def save_parts(parts: Parts, path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write the folder beside its place and move it there.

    Raises
    ------
    FileExistsError
        If `path` exists, unless `overwrite` is given and it is a saved fit.
    OSError
        If writing fails; what was at `path` is still there.
    """
    contents = {"model.pt": _model_bytes(parts.model), "stack.npz": npz_bytes(stack_arrays(parts.stack)),
                "field.npz": npz_bytes(parts.field.state())}  # fmt: skip
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model": parts.model.config,
        "stack": {"use_rep": parts.stack.use_rep, "unit": parts.stack.unit},
        "history": parts.history,
        "params": parts.params,
        "images": parts.field.guide is not None,
    }

    def write_images(folder: Path) -> None:
        if parts.field.guide is not None:
            parts.field.guide.save(folder / IMAGES)

    write_folder(path, header, contents, overwrite=overwrite, beside=write_images)


def write_folder(
    path: str | os.PathLike[str], header: dict[str, Any], contents: dict[str, bytes], *, overwrite: bool,
    beside: Callable[[Path], None] | None = None,
) -> None:  # fmt: skip
    """Write files, their checksums in the header, and what else is to lie beside them: all or nothing."""
    target = check_target(path, overwrite=overwrite)
    if target.exists() and not (target / HEADER).is_file():
        raise FileExistsError(
            f"Expected a saved fit to overwrite, found {target} without {HEADER}. Next: choose another path."
        )
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    text = json.dumps(header | {"sha256": sums}, indent=1, allow_nan=True).encode()
    with written_beside(path, overwrite=overwrite) as fresh:
        fresh.mkdir()
        for name, content in (contents | {HEADER: text}).items():
            (fresh / name).write_bytes(content)
        if beside is not None:
            beside(fresh)


def load_parts(path: str | os.PathLike[str], *, read_guide: Callable[[Path], Guidance]) -> Parts:
    """Read a folder that `save_parts` wrote, and images by a function that knows how.

    Raises
    ------
    TypeError
        If `path` is no path.
    FileNotFoundError
        If there is no such folder, or a file of it is missing.
    ValueError
        If it is something else, was written by a newer version, or is damaged.
    """
    folder, header, contents = read_folder(path, _FILES, FORMAT, FORMAT_VERSION)
    if header.get("images") and not (folder / IMAGES).is_dir():
        raise FileNotFoundError(
            f"Expected {IMAGES} in the folder of a fit that images guided, found none in {folder}. {_REMEDY}."
        )
    try:
        stack = stack_of(arrays_of(contents["stack.npz"]), header["stack"])
        model = SDEModel(**header["model"])
        state = torch.load(io.BytesIO(contents["model.pt"]), map_location="cpu", weights_only=True)
        model.load_state_dict(state)
        model.eval()
        guide = read_guide(folder / IMAGES) if header.get("images") else None
        field = Field.from_state(model, stack, arrays_of(contents["field.npz"]), guide)
        return Parts(stack, model, field, header["history"], header["params"])
    except BROKEN as error:
        raise damaged(folder, str(error).splitlines()[0]) from error


def read_folder(
    path: str | os.PathLike[str], files: tuple[str, ...], form: str, version: int
) -> tuple[Path, dict[str, Any], dict[str, bytes]]:
    """Read the header and the files of a folder that `write_folder` wrote, and check that they are whole."""
    folder = absolute_path(path)
    header = _read_header(folder, files, form, version)
    contents = {name: _read_bytes(folder / name, files) for name in files}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != header.get("sha256", {}).get(name):
            raise damaged(folder / name, "its checksum differs from the one noted when it was saved")
    return folder, header, contents


def _read_header(folder: Path, files: tuple[str, ...], form: str, newest: int) -> dict[str, Any]:
    if not folder.is_dir():
        found = f"a file: {folder}" if folder.exists() else f"none at {folder}"
        raise FileNotFoundError(
            f"Expected the folder of a saved fit, found {found}. Next: check the path; "
            f"{form.removeprefix('isost.')}.save(path) writes one."
        )
    try:
        header = json.loads(_read_bytes(folder / HEADER, files))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise damaged(folder / HEADER, str(error)) from error
    if not isinstance(header, dict) or header.get("format") != form:
        raise ValueError(
            f"Expected the folder of a saved fit, found another {HEADER} in {folder}. Next: check the path."
        )
    version = header.get("format_version")
    if not isinstance(version, int):
        raise damaged(folder / HEADER, f"format_version is {version!r}")
    if version > newest:
        raise ValueError(
            f"Expected format version {newest} or older, found {version} in {folder}. "
            "Next: pip install --upgrade isost."
        )
    return header


def _read_bytes(path: Path, files: tuple[str, ...]) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Expected {HEADER}, {', '.join(files)} in a saved fit, found no {path.name} in {path.parent}. {_REMEDY}."
        ) from error


def damaged(path: Path, found: str) -> ValueError:
    return ValueError(f"Expected an undamaged saved fit, found {path} damaged: {found}. {_REMEDY}.")


def _model_bytes(model: SDEModel) -> bytes:
    # through memory: a full disk is then an OSError of the write, not an internal error of torch's writer
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu() for name, value in model.state_dict().items()}, buffer)
    return buffer.getvalue()


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # compressing floats takes long and saves little
    return buffer.getvalue()


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return dict(stored)


def stack_arrays(stack: Stack) -> dict[str, np.ndarray]:
    arrays = {name: getattr(stack, name) for name in ("coords", "features", "starts", "depths", "rows")}
    arrays["names"] = np.array(stack.names, dtype=np.str_)
    arrays["obs_names"] = np.asarray(stack.obs_names, dtype=np.str_)
    if stack.decoder is not None:
        arrays["genes"] = np.array(stack.decoder.genes, dtype=np.str_)
        arrays["loadings"], arrays["mean"] = stack.decoder.loadings, stack.decoder.mean
    if stack.growth is not None:
        arrays["growth"] = stack.growth
    if stack.weights is not None:
        arrays["weights"] = stack.weights
    if stack.remainder is not None:
        arrays["remainder"], arrays["remainder_loadings"] = stack.remainder.scores, stack.remainder.loadings
    return arrays


def stack_of(arrays: dict[str, np.ndarray], words: dict[str, str]) -> Stack:
    decoder = None
    if "genes" in arrays:
        decoder = Decoder(tuple(arrays.pop("genes").tolist()), arrays.pop("loadings"), arrays.pop("mean"))
    remainder = None
    if "remainder" in arrays:
        remainder = Remainder(arrays.pop("remainder"), arrays.pop("remainder_loadings"))
    names = tuple(arrays.pop("names").tolist())
    return Stack(
        **arrays, names=names, decoder=decoder, remainder=remainder, use_rep=words["use_rep"], unit=words["unit"]
    )
