"""Fitted spatial domains in a folder: JSON, npz and a state_dict, never pickle."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture

from isost._core.normalise import Normalisation
from isost._core.store import BROKEN, arrays_of, damaged, npz_bytes, read_folder, write_folder
from isost._domains.components import Components
from isost._domains.model import Domains, Genes, Member
from isost._domains.network import DualBranch

FORMAT, FORMAT_VERSION = "isost.SpatialDomains", 1
_FILES = ("domains.npz", "networks.pt")
_MIXTURE = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


def save_domains(domains: Domains, params: dict[str, Any], path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Write the folder beside its place and move it there."""
    genes = domains.genes
    arrays: dict[str, np.ndarray] = {
        "genes": np.array(genes.names, dtype=np.str_), "mean": genes.mean, "deviation": genes.deviation,
        "order": domains.order,
    }  # fmt: skip
    if genes.axes is not None:
        arrays["components"] = genes.axes
    for name, part in domains.together.items():
        arrays |= {f"{name}_mean": part.mean, f"{name}_axes": part.axes}
    states = {}
    for number, member in enumerate(domains.members):
        arrays |= {f"mean_{number}": member.components.mean, f"axes_{number}": member.components.axes}
        arrays |= {f"{name}{number}": getattr(member.mixture, name) for name in _MIXTURE}
        arrays[f"matched_{number}"] = member.matched
        states[str(number)] = {key: value.cpu() for key, value in member.network.state_dict().items()}
    first = domains.members[0]
    header = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "params": params, "info": domains.info,
        "history": domains.history, "normalisation": genes.how.to_uns(), "network": first.network.config,
        "dual": first.network.genes is not None, "covariance": first.mixture.covariance_type,
        "n_networks": len(domains.members),
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(states, buffer)
    contents = {"domains.npz": npz_bytes(arrays), "networks.pt": buffer.getvalue()}
    write_folder(path, header, contents, overwrite=overwrite)


def load_domains(path: str | os.PathLike[str]) -> tuple[Domains, dict[str, Any]]:
    """Read a folder that `save_domains` wrote."""
    folder, header, contents = read_folder(path, _FILES, FORMAT, FORMAT_VERSION)
    try:
        arrays = arrays_of(contents["domains.npz"])
        states = torch.load(io.BytesIO(contents["networks.pt"]), map_location="cpu", weights_only=True)
        genes = Genes(
            arrays["genes"].tolist(), Normalisation.from_uns(header["normalisation"]), arrays["mean"],
            arrays["deviation"], arrays.get("components"),
        )  # fmt: skip
        members = [_member(header, arrays, states, number) for number in range(int(header["n_networks"]))]
        together = {
            name.removesuffix("_axes"): Components(arrays[name.replace("_axes", "_mean")], arrays[name])
            for name in arrays
            if name.endswith("_axes")
        }
        return Domains(genes, members, together, arrays["order"], header["history"], header["info"]), header["params"]
    except BROKEN as error:
        raise damaged(folder, str(error).splitlines()[0]) from error


def _member(header: dict[str, Any], arrays: dict[str, np.ndarray], states: dict[str, Any], number: int) -> Member:
    state = states[str(number)]
    network = DualBranch(place=state["genes.place"] if header["dual"] else None, **header["network"])
    network.load_state_dict(state)
    mixture = GaussianMixture(len(arrays[f"means_{number}"]), covariance_type=str(header["covariance"]))
    for name in _MIXTURE:
        setattr(mixture, name, arrays[f"{name}{number}"])
    own = Components(arrays[f"mean_{number}"], arrays[f"axes_{number}"])
    return Member(network.eval(), own, mixture, arrays[f"matched_{number}"])
