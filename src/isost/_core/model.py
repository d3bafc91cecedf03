"""The two coupled stochastic differential equations with their scaling: everything that a fit learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isost._core.drift import DriftPair
from isost._core.graph import neighbours
from isost._core.stack import Scaling

N_NEIGHBOURS = 5


class SDEModel(nn.Module):
    """Forward (f_s, f_g) and backward (h_s, h_g) drifts with their diffusions (eqs 3-6 and 8).

    Inside, positions are scaled to [0, 1] by the larger extent of the plane, depth counts in ``depth_unit`` from the
    first section, and features are shifted and scaled column by column; ``to_internal`` and ``to_physical`` convert.

    Parameters
    ----------
    n_features
        P, the number of features (principal components); 0 for positions alone.
    origin, plane_scale, depth_unit
        Input coordinates ``(x, y, z)`` of the internal zero, and the lengths of the internal one in the plane and
        along depth, in the input's unit.
    depth_range
        Depth of the last section in internal units; the networks see depth as a share of it.
    sigma_xy, sigma_z, sigma_g
        Diffusion of positions, jitter of the depth that a drift sees, and diffusion of features (one for all, or one
        for each), per square root of an internal unit of depth.
    step
        Length of an Euler step in internal units of depth: M = floor(gap / step) steps a gap, at least one.
    width, unet_depth, n_neighbours
        Width of the networks, pooling steps of the Graph U-Net, and cells in N.
    moving, changing
        Whether positions drift at all, and the share of the learned drift of features that is followed; what stands
        still costs no network.
    """

    feature_offset: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        plane_scale: float = 1.0,
        depth_unit: float = 1.0,
        depth_range: float = 1.0,
        sigma_xy: float = 0.0,
        sigma_z: float = 0.0,
        sigma_g: float | list[float] = 0.0,
        step: float = 0.1,
        width: int = 64,
        unet_depth: int = 2,
        n_neighbours: int = N_NEIGHBOURS,
        moving: bool = True,
        changing: float = 1.0,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "n_features": n_features, "origin": [float(value) for value in origin], "plane_scale": plane_scale,
            "depth_unit": depth_unit, "depth_range": depth_range, "sigma_xy": sigma_xy, "sigma_z": sigma_z,
            "sigma_g": sigma_g, "step": step, "width": width, "unet_depth": unet_depth, "n_neighbours": n_neighbours,
            "moving": moving, "changing": changing,
        }  # fmt: skip
        self.n_features = n_features
        self.forward_pair = DriftPair(n_features, width=width, unet_depth=unet_depth)
        self.backward_pair = DriftPair(n_features, width=width, unet_depth=unet_depth)
        self.register_buffer("feature_offset", torch.zeros(n_features))
        self.register_buffer("feature_scale", torch.ones(n_features))

    @property
    def device(self) -> torch.device:
        return self.feature_offset.device

    def on_cpu(self) -> SDEModel:
        """Make a copy on the CPU, which takes no memory of the device."""
        copied = SDEModel(**self.config)
        copied.load_state_dict({name: value.cpu() for name, value in self.state_dict().items()})
        return copied.eval()

    @property
    def scaling(self) -> Scaling:
        config = self.config
        return Scaling(np.array(config["origin"]), config["plane_scale"], config["depth_unit"])

    def to_internal(self, coords: np.ndarray, features: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Scale ``(n, 3)`` and ``(n, P)``, or none, to internal positions ``(n, 2)``, depths ``(n,)`` and features."""
        inside = torch.from_numpy(self.scaling.to_internal(coords).astype(np.float32)).to(self.device)
        values = torch.tensor(np.asarray(features, dtype=np.float32), device=self.device)
        n = values.shape[1]
        return inside[:, :2], inside[:, 2], (values - self.feature_offset[:n]) / self.feature_scale[:n]

    def to_physical(self, position: Tensor, features: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Scale internal positions ``(n, 2)`` and features ``(n, P)``, or none, to the input's units."""
        plane = np.column_stack([position.double().cpu().numpy(), np.zeros(len(position))])
        n = features.shape[1]
        values = features * self.feature_scale[:n] + self.feature_offset[:n]
        return self.scaling.to_physical(plane)[:, :2], values.cpu().numpy()

    def internal_depth(self, z: float) -> float:
        return (z - self.config["origin"][2]) / self.config["depth_unit"]

    def n_steps(self, gap: float) -> int:
        """Count the Euler steps over an internal length of depth: M = floor(|gap| / step), at least one."""
        return max(1, int(abs(gap) / self.config["step"] + 1e-6))

    def diffusion(self) -> Tensor:
        """``(3 + P,)`` standard deviation of (x, y, depth jitter, g) per square root of an internal unit of depth."""
        config = self.config
        sigma = torch.zeros(3 + self.n_features, device=self.device)
        sigma[3:] = torch.as_tensor(config["sigma_g"], dtype=sigma.dtype)
        sigma[:2] = config["sigma_xy"]
        sigma[2] = config["sigma_z"]
        return sigma

    def near(self, position: Tensor) -> Tensor:
        """Find N, the neighbours ``(n, k)`` of each cell, of cells as they now lie."""
        return neighbours(position, self.config["n_neighbours"])

    def drift(
        self, pair: DriftPair, depth: Tensor, state: Tensor, *, parts: str = "both", near: Tensor | None = None
    ) -> Tensor:
        """Drift ``(n, 3 + P)`` of (x, y, depth jitter, g) per internal unit of depth, in the pair's direction.

        The graph is that of the cells as they now lie, or one that was found before. The jitter has no drift: it only
        lets a cell see a depth beside its own (sigma_z of eq 5). ``parts="shape"`` leaves the expression still and
        costs no Graph U-Net.
        """
        position, seen, features = state[:, :2], depth + state[:, 2], state[:, 3:]
        drift = torch.zeros_like(state)
        changing = self.config["changing"] > 0 and parts == "both" and pair.expression is not None
        if not (self.config["moving"] or changing):
            return drift
        near = self.near(position) if near is None else near
        place = 2 * position - 1
        share = (2 * seen / self.config["depth_range"] - 1)[:, None]
        shape, change = drift[:, :2], drift[:, 3:]
        if self.config["moving"]:
            shape = pair.shape(place, share, near)
        if changing and pair.expression is not None:
            change = self.config["changing"] * pair.expression(place, features, share, near)
        return torch.cat([shape, drift[:, 2:3], change], dim=1)
