"""What a fit can be told, and the paper's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Preset:
    """A row of the paper's hyperparameter table; depth in mm, x and y scaled to [0, 1], features min-max scaled."""

    sigma_xy: float
    sigma_z: float
    sigma_g: float
    dz: float
    alpha: float
    epochs: int
    learning_rate: float = 0.001  # the published code's; the text says 0.01
    time: bool = False  # depth is time, and counts in its own unit


# Li, Bao et al. 2025, Supplementary Table; where the paper gives a range, its lower end
PRESETS = {
    "mouse_brain_merfish": Preset(0.01, 0.1, 0.1, 0.01, 0.1, 100),
    "mouse_kidney_arrayseq": Preset(0.01, 0.14, 0.1, 0.1, 1.0, 100),
    "human_embryo_cs7": Preset(0.014, 0.1, 0.1, 0.1, 1.0, 100),
    "spinal_cord_visium": Preset(0.01, 0.1, 0.1, 0.01, 0.02, 100),
    "mouse_embryo_time": Preset(0.014, 0.1, 0.1, 0.1, 0.1, 2000, time=True),
}

_FROM_ZERO = ("sigma_xy", "sigma_z", "sigma_g", "alpha", "beta", "gamma", "feature_weight")

OBJECTIVES = ("bridge", "trajectory")


@dataclass(frozen=True)
class FitOptions:
    """Options of a fit; None means: the preset's value, or the objective's own default.

    Attributes
    ----------
    epochs
        Passes over all gaps and both directions, per phase (``bridge`` has one phase, ``trajectory`` three). Where
        there are fewer than four gaps, a pass of ``bridge`` takes each several times, eight steps in all.
    learning_rate
        Of NAdam. The paper's text says 0.01, the published code 0.001.
    dz
        Length of an Euler step; in mm with a preset, else in median gaps.
    sigma_xy, sigma_z, sigma_g
        Diffusions per square root of the unit of ``dz``: positions in units of the larger extent, depth seen by the
        drift in the unit of ``dz``, features in the objective's scaled units. Of ``bridge`` by default: half the
        spacing of the cells a gap, none, and for each feature what makes carried cells as varied as those of left-out
        sections.
    alpha
        Weight of the expression loss beside the shape loss.
    beta, gamma
        ``trajectory`` with images: weights beside the shape loss of the distance of cells from the tissue that images
        show, and of what their expression leads to expect there. The paper's are 100 or 1000, and 1e-4 or 5e-3.
    max_cells
        Cells a loss looks at in one step: what bounds memory. 1024 for ``bridge``, 512 for ``trajectory``.
    gaps_at_once
        Gaps, each in one direction, whose gradients a step averages; several devices share them.
    width, unet_depth, n_neighbours
        Width of the networks, pooling steps of the Graph U-Net, neighbours of a cell in its graph.
    n_candidates, feature_weight
        ``bridge``: cells of the next section that a cell may be coupled with, and the weight lambda of expression
        beside position in the cost.
    correct_sections
        Correct the gain and the offset of every gene in sections that stand out as badly stained, where sections left
        out say that it helps.
    """

    epochs: int | None = None
    learning_rate: float | None = None
    dz: float | None = None
    sigma_xy: float | None = None
    sigma_z: float | None = None
    sigma_g: float | None = None
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    max_cells: int | None = None
    gaps_at_once: int = 1
    width: int = 64
    unet_depth: int = 2
    n_neighbours: int = 5
    n_candidates: int = 48
    feature_weight: float = 2.0
    correct_sections: bool = True

    def check(self) -> None:
        """Report every impossible value together."""
        problems = []
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in _FROM_ZERO else None
            if value is None:
                continue
            if field.name == "correct_sections":
                if not isinstance(value, bool | np.bool_):
                    problems.append(f"{field.name}: expected True or False, found {value!r}")
                continue
            whole = "float" not in str(field.type)
            number = isinstance(value, Integral) if whole else isinstance(value, Real) and math.isfinite(value)
            if isinstance(value, bool) or not number:
                problems.append(f"{field.name}: expected a {'whole' if whole else 'finite'} number, found {value!r}")
            elif (value < 0) if least == 0 else (value <= 0):
                problems.append(f"{field.name}: expected {'at least 0' if least == 0 else 'above 0'}, found {value!r}")
        if problems:
            raise ValueError("The fit cannot run with these options; give other values.\n" + "\n".join(problems))


def resolve(options: FitOptions, preset: str | None, defaults: dict[str, Any]) -> dict[str, Any]:
    """Settle the values a fit runs with: what was asked for, else the preset's, else the objective's defaults."""
    if preset is not None and preset not in list(PRESETS):
        raise KeyError(f"Expected a preset among {', '.join(PRESETS)}; found {preset!r}. Give one of these, or None.")
    chosen = {field.name: getattr(options, field.name) for field in fields(options)}
    row = PRESETS[preset] if preset is not None else None
    for name, value in chosen.items():
        if value is None:
            chosen[name] = getattr(row, name, defaults[name]) if row is not None else defaults[name]
        else:
            chosen[name] = _plain(value)
    return chosen


def _plain(value: Any) -> bool | int | float:
    """Make one of Python's own numbers; numpy's are not JSON-able."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return int(value) if isinstance(value, Integral) else float(value)
