"""A reconstruction over depth and age in a folder: JSON and npz, never pickle."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from isost._core.covariance import Hyperparameters
from isost._core.store import BROKEN, arrays_of, damaged, npz_bytes, read_folder, stack_arrays, stack_of, write_folder
from isost._time.field import Kernel4, SheetField
from isost._time.sheet import Sheet

FORMAT, FORMAT_VERSION = "isost.Reconstruction4D", 1
_FILES = ("stack.npz", "field.npz")


def save_sheet_field(
    field: SheetField, params: dict[str, Any], path: str | os.PathLike[str], *, overwrite: bool
) -> None:
    """Write the folder beside its place and move it there."""
    stack, hyper = field.sheet.stack, field.kernel.hyper
    state = {
        "at": field.sheet.at, "scale": field.sheet.scale, "shift": field.shift, "gaps": field.kernel.gaps,
        "factor": field.factor, "length": hyper.length, "depth_length": hyper.depth_length, "ratio": hyper.ratio,
        "noise": hyper.noise,
    }  # fmt: skip
    header = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "params": params,
        "stack": {"use_rep": stack.use_rep, "unit": stack.unit},
    }  # fmt: skip
    contents = {"stack.npz": npz_bytes(stack_arrays(stack)), "field.npz": npz_bytes(state)}
    write_folder(path, header, contents, overwrite=overwrite)


def load_sheet_field(path: str | os.PathLike[str]) -> tuple[SheetField, dict[str, Any]]:
    """Read a folder that `save_sheet_field` wrote."""
    folder, header, contents = read_folder(path, _FILES, FORMAT, FORMAT_VERSION)
    try:
        state: dict[str, np.ndarray] = arrays_of(contents["field.npz"])
        sheet = Sheet(stack_of(arrays_of(contents["stack.npz"]), header["stack"]), state["at"], state["scale"])
        hyper = Hyperparameters(state["length"], state["depth_length"], state["ratio"], state["noise"])
        return SheetField(sheet, state["shift"], Kernel4(hyper, state["gaps"]), state["factor"]), header["params"]
    except BROKEN as error:
        raise damaged(folder, str(error).splitlines()[0]) from error
