"""What of the expression follows an image, beyond what the neighbouring sections tell already.

Inner sections are left out one at a time. There the field of the others errs by e, and what the image shows differs by
d, in a few functions of its features, from what the same linear estimate would have made of what it shows at the cells
of the others: e is regressed on d (ridge), and a score is believed to follow the image as far as sections that the
regression never saw say. The field is then that of the scores less what follows the image, which is added back wherever
an image lies (kriging with an external drift).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from isost._core.covariance import Hyperparameters, estimate
from isost._core.gap import GapField, aligned_views
from isost._core.model import SDEModel
from isost._core.paths import Paths
from isost._core.stack import Stack
from isost._core.trust import measured_part, without
from isost._images.basis import Basis
from isost._images.kept import read_features, write_features
from isost._images.outline import shows_tissue
from isost._images.planes import ImagePlanes

_MOST_SECTIONS, _MOST_CELLS = 8, 4000
_RIDGES = np.geomspace(1e-4, 10.0, 11)  # of the mean square of a feature
_TINY = 1e-300
NOWHERE = (
    "images: expected tissue where cells were measured, found none at any cell. Next: look at the frame, the depths "
    "and the unit of the images, or align them with isost.pp.align_images."
)


@dataclass(frozen=True, eq=False)
class Guide:
    """Part of the scores that is linear in functions of the features of images.

    Attributes
    ----------
    planes
        The images.
    basis
        B functions of the features.
    weight
        (S, B) of these in each score.
    gain
        (S,) share of the squared error of sections left out that the images took away; 0 where they are not believed.
    outline
        Whether there is tissue only where the images show it.
    """

    planes: ImagePlanes
    basis: Basis
    weight: np.ndarray
    gain: np.ndarray
    outline: bool

    def at(self, coords: np.ndarray) -> np.ndarray:
        """Part (n, S) float32 of the scores at places (n, 3); 0 where no image shows tissue.

        Before the first plane and beyond the last it is that of these.
        """
        if not self.weight.any():
            return np.zeros((len(coords), len(self.weight)), np.float32)
        z = np.clip(coords[:, 2], *self.planes.depths[[0, -1]])
        shown = self.planes.at(np.column_stack([coords[:, :2], z]))
        return (self.basis(shown) @ self.weight.T).astype(np.float32)

    def inside(self, coords: np.ndarray) -> np.ndarray:
        """Say (n,) which places (n, 3) may be tissue: where images show it, and all where there are none."""
        if not self.outline:
            return np.ones(len(coords), dtype=bool)
        return self.planes.tissue(coords) | ~self.planes.covers(coords[:, 2])

    def report(self) -> dict[str, Any]:
        """Say, JSON-able, what is believed."""
        return {"outline": self.outline, "gain": [round(float(share), 4) for share in self.gain]}

    def save(self, path: Path) -> None:
        """Write a folder that `load` reads."""
        arrays = {name: getattr(self, name) for name in ("weight", "gain", "outline")}
        write_features(path, self.planes.features, vars(self.basis) | arrays)

    @classmethod
    def load(cls, path: Path) -> Guide:
        features, arrays = read_features(path)
        basis = Basis(*(arrays[name] for name in ("offset", "scale", "knots", "centre")))
        return cls(ImagePlanes(features), basis, arrays["weight"], arrays["gain"], bool(arrays["outline"]))

    def left(self, stack: Stack) -> Stack:
        """Stack without what follows the images."""
        if not self.weight.any():
            return stack
        part, n = self.at(stack.coords), stack.n_features
        remainder = stack.remainder
        if remainder is not None:
            remainder = replace(remainder, scores=remainder.scores - part[:, n:])
        return replace(stack, features=stack.features - part[:, :n], remainder=remainder)


def fit_guide(model: SDEModel, stack: Stack, planes: ImagePlanes) -> Guide | None:
    """Find what follows the images; None where there is nothing.

    The outline is believed where the images show tissue at nearly all measured cells; scores, where sections left out
    say so, two or more.

    Parameters
    ----------
    model, stack
        What carries the cells, and the cells.
    planes
        Images among the sections.
    """
    covered = planes.covers(stack.depths)
    found = planes.at(stack.coords)
    outline = shows_tissue(planes, stack)
    shown = _known(found, stack)
    basis = Basis.of(shown)
    functions = basis(shown)
    weight, gain = np.zeros((stack.n_scores, functions.shape[1])), np.zeros(stack.n_scores)
    inner = np.array([k for k in stack.measured[1:-1] if covered[k]], dtype=np.int64)
    if len(inner) > 1 and stack.n_scores:
        weight, gain = _fit_weight(model, stack, inner, functions)
    return Guide(planes, basis, weight, gain, outline) if outline or (gain > 0).any() else None


def _fit_weight(model: SDEModel, stack: Stack, inner: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (S, B) and gains (S,) from inner sections that are left out, given functions (n, B) at the cells."""
    asked = inner[np.unique(np.linspace(0, len(inner) - 1, _MOST_SECTIONS).round().astype(int))]
    hyper = estimate(measured_part(stack), views=[measured_part(view) for view in aligned_views(model, stack)])
    groups, n_scores = hyper.groups(), stack.n_scores
    joint = replace(stack, features=np.hstack([stack.scores, *[shown for _ in groups]]), remainder=None)
    both = _with_images(hyper, shown.shape[1])
    centre = joint.features.mean(axis=0, dtype=np.float64)
    off = []
    for k in asked.tolist():
        rest = joint.select([other for other in range(stack.n_sections) if other != k])
        rest.features[:, :n_scores] = without(stack, k).scores
        rows = np.random.default_rng(0).permutation(np.arange(stack.starts[k], stack.starts[k + 1]))[:_MOST_CELLS]
        gap = GapField(Paths(model, rest, only=k - 1), k - 1, both, centre)
        off.append((joint.features[rows] - gap.mean(joint.coords[rows])).astype(np.float64))
    weight, gain = np.zeros((n_scores, shown.shape[1])), np.zeros(n_scores)
    for number, (_, columns) in enumerate(groups):
        first = n_scores + number * shown.shape[1]
        parts = [(one[:, first : first + shown.shape[1]], one[:, columns]) for one in off]
        weight[columns], gain[columns] = regress(parts, hyper.noise[columns])
    return weight, gain


def _with_images(hyper: Hyperparameters, n_features: int) -> Hyperparameters:
    """Treat the features of images, once for each group of scores, like the scores of that group."""
    alike = []
    for covariance, columns in hyper.groups():
        ratio = float(np.exp(np.log(hyper.ratio[columns]).mean()))
        alike += [(covariance.length, covariance.depth_length, ratio, 1.0)] * n_features
    own = np.stack([hyper.length, hyper.depth_length, hyper.ratio, hyper.noise], axis=1)
    return Hyperparameters(*np.concatenate([own, np.array(alike)]).T)


def regress(parts: Sequence[tuple[np.ndarray, np.ndarray]], noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of errors on deviations, believed as far as parts that it never saw say.

    Parameters
    ----------
    parts
        Of each left-out section deviations (n, C) and errors (n, S).
    noise
        (S,) unit of the squared errors.

    Returns
    -------
    Weights (S, C), and the share (S,) of squared error that they take from parts left out; 0 for what is not believed.
    """
    squares = [(d.T @ d / len(d), d.T @ e / len(d)) for d, e in parts]
    n, unit = len(parts), np.maximum(noise, _TINY)
    total, cross = sum(square for square, _ in squares), sum(product for _, product in squares)
    level = max(float(np.trace(total)) / len(total), _TINY)
    eye = level * np.eye(len(total))
    along, own = np.zeros((2, len(_RIDGES), n, len(noise)))
    for number, (square, product) in enumerate(squares):
        for index, ridge in enumerate(_RIDGES):
            unseen = np.linalg.solve(total - square + ridge * eye, cross - product)
            along[index, number] = (unseen * product).sum(axis=0)
            own[index, number] = np.einsum("cs,cd,ds->s", unseen, square, unseen)
    best = int(((2 * along - own).sum(axis=1) / unit).sum(axis=1).argmax())
    along, own = along[best], own[best]
    # as far as the parts agree: their mean share less a standard error
    share = along / np.maximum(own, _TINY)
    sure = along.sum(axis=0) / np.maximum(own.sum(axis=0), _TINY) - share.std(axis=0, ddof=1) / np.sqrt(n)
    sure = np.clip(sure, 0.0, 1.0)
    error = np.stack([(e**2).mean(axis=0) for _, e in parts]).sum(axis=0)
    gain = (2 * sure * along.sum(axis=0) - sure**2 * own.sum(axis=0)) / np.maximum(error, _TINY)
    sure[gain <= 0] = 0.0
    weight = np.linalg.solve(total + _RIDGES[best] * eye, cross).T * sure[:, None]
    return weight, np.maximum(gain, 0.0) * (sure > 0)


def _known(shown: np.ndarray, stack: Stack) -> np.ndarray:
    """Give cells where no image shows tissue what the nearest cell of their section has, or the mean of all."""
    missing = ~np.isfinite(shown).all(axis=1)
    if missing.all():
        raise ValueError(NOWHERE)
    for section in range(stack.n_sections):
        rows = np.arange(stack.starts[section], stack.starts[section + 1])
        known, other = rows[~missing[rows]], rows[missing[rows]]
        if len(known) and len(other):
            shown[other] = shown[known[cKDTree(stack.coords[known, :2]).query(stack.coords[other, :2])[1]]]
        elif len(other):
            shown[other] = shown[~missing].mean(axis=0)
    return shown
