"""Fitted histology in a folder: JSON, npz and a state_dict, never pickle."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch

from isost._core.store import BROKEN, arrays_of, damaged, npz_bytes, read_folder, write_folder
from isost._histology.genes import Components
from isost._histology.model import Histology
from isost._histology.network import DualOutput
from isost._histology.noise import Calls, Noise
from isost._histology.positions import Positions
from isost._histology.ridge import Ridge
from isost._histology.scale import FeatureScale, Known

FORMAT, FORMAT_VERSION = "isost.HistologyModel", 1
_FILES = ("histology.npz", "networks.pt")
_PARTS: dict[str, tuple[type, tuple[str, ...]]] = {
    "components": (Components, ("mean", "loadings", "scores")),
    "ridge": (Ridge, ("landmarks", "weights")),
    "calls": (Calls, ("offset", "slope")),
    "noise": (Noise, ("base", "slope", "least", "quantiles")),
    "known": (Known, ("mean", "axes", "places")),
    "scale": (FeatureScale, ("mean", "deviation")),
    "positions": (Positions, ("centres", "mean", "places")),
}


def save_histology(fitted: Histology, params: dict[str, Any], path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write the folder beside its place and move it there."""
    arrays = {"genes": np.array(fitted.genes, dtype=np.str_), "features": np.array(fitted.scale.names, dtype=np.str_),
              "slope": fitted.slope}  # fmt: skip
    for name, (_, columns) in _PARTS.items():
        part = getattr(fitted, name)
        if part is not None:
            arrays |= {f"{name}.{column}": getattr(part, column) for column in columns}
    arrays |= {f"accuracy.{name}": values for name, values in fitted.accuracy.items()}
    states = {str(k): network.state_dict() for k, network in enumerate(fitted.networks)}
    header = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "params": params, "info": fitted.info,
        "history": fitted.history, "networks": [network.config for network in fitted.networks],
        "slides": fitted.scale.slides, "usual": fitted.known.usual,
        "width": None if fitted.positions is None else fitted.positions.width,
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(states, buffer)
    contents = {"histology.npz": npz_bytes(arrays), "networks.pt": buffer.getvalue()}
    write_folder(path, header, contents, overwrite=overwrite)


def load_histology(path: str | os.PathLike[str]) -> tuple[Histology, dict[str, Any]]:
    """Read a folder that `save_histology` wrote."""
    folder, header, contents = read_folder(path, _FILES, FORMAT, FORMAT_VERSION)
    try:
        arrays = arrays_of(contents["histology.npz"])
        states = torch.load(io.BytesIO(contents["networks.pt"]), map_location="cpu", weights_only=True)
        more: dict[str, list[Any]] = {"known": [float(header["usual"])]}
        if "positions.centres" in arrays:
            more["positions"] = [float(header["width"])]
        before: dict[str, list[Any]] = {"scale": [arrays["features"].tolist(), list(header["slides"])]}
        parts: dict[str, Any] = {
            name: kind(*before.get(name, []), *(arrays[f"{name}.{column}"] for column in columns), *more.get(name, []))
            if f"{name}.{columns[0]}" in arrays else None
            for name, (kind, columns) in _PARTS.items()
        }  # fmt: skip
        networks = []
        for number, config in enumerate(header["networks"]):
            with torch.random.fork_rng(devices=[]):  # weights are drawn, and read over
                network = DualOutput(**config)
            network.load_state_dict(states[str(number)])
            networks.append(network.eval())
        accuracy = {name[len("accuracy.") :]: arrays[name] for name in arrays if name.startswith("accuracy.")}
        fitted = Histology(
            arrays["genes"].tolist(), networks=networks, slope=arrays["slope"], accuracy=accuracy,
            history=header["history"], info=header["info"], **parts,
        )  # fmt: skip
        return fitted, header["params"]
    except BROKEN as error:
        raise damaged(folder, str(error).splitlines()[0]) from error
