"""Images among the sections, as a fit sees them, and the way that tissue takes from plane to plane between two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.spatial import cKDTree

from isost._core.tasks import run, threads_for
from isost._core.transport import couple

if TYPE_CHECKING:
    from isost._core.field import Guidance
    from isost._core.model import SDEModel
    from isost._core.stack import Stack

N_KNOTS = 3  # planes of a gap that a path goes through
_POINTS = 3000  # of the tissue of a plane
_WEIGHT = 0.25  # of what is shown beside the place: planes are near each other, and images know little noise
_NEAR_END = 0.1  # of a gap: nearer to a section a plane says nothing that the section does not
_NEAREST = 4


class Told(Protocol):
    """A linear map of features (n, P) to what images show (n, C): weight (C, P), offset (C,), and r2 (C,) held out."""

    @property
    def weight(self) -> np.ndarray: ...

    @property
    def offset(self) -> np.ndarray: ...

    @property
    def r2(self) -> np.ndarray: ...


class Imaged(Protocol):
    """Images among the sections."""

    def between(self, low: float, high: float) -> np.ndarray:
        """Depths of the planes between two depths, both excluded."""
        ...

    def tissue_near(self, z: float, n: int, within: float) -> tuple[np.ndarray, np.ndarray] | None:
        """About n places (n, 2) evenly over the tissue of the plane nearest to a depth, and what it shows there (n, C).

        None where there is no plane so near, or no tissue on it.
        """
        ...

    def sampled(self, z: float, n: int) -> tuple[np.ndarray, np.ndarray] | None:
        """N places (n, 2) of the tissue of the plane nearest to a depth, as often as they are stained, as above."""
        ...

    def told(self, stack: Stack) -> Told:
        """Regress what the images show at the cells, scaled as above, on the features of the cells."""
        ...

    def show(self, stack: Stack) -> bool:
        """Say whether the tissue of the images is that of the sections, at the depths of these."""
        ...

    def guide(self, model: SDEModel, stack: Stack) -> Guidance | None:
        """Find what of the expression and of the outline follows the images."""
        ...

    def identity(self) -> str:
        """Checksum."""
        ...


@dataclass(frozen=True, eq=False)
class _Warp:
    """Displacement of the tissue of one plane to the next."""

    places: np.ndarray
    shift: np.ndarray

    def __call__(self, places: np.ndarray) -> np.ndarray:
        distance, near = cKDTree(self.places).query(places, k=np.arange(1, min(_NEAREST, len(self.places)) + 1))
        weight = 1 / (distance + 1e-9)
        weight /= weight.sum(axis=1, keepdims=True)
        return places + (weight[..., None] * self.shift[near]).sum(axis=1)


@dataclass(frozen=True, eq=False)
class Way:
    """How tissue goes from one section to the next through planes between them.

    Attributes
    ----------
    shares
        ``(M,)`` of the gap, rising, at which planes lie.
    """

    shares: np.ndarray
    ahead: tuple[_Warp, ...]
    behind: tuple[_Warp, ...]

    def end(self, start: np.ndarray, *, ahead: bool) -> np.ndarray:
        """Where places (n, 2) of the one section come to lie in the other."""
        return self._through(start, ahead=ahead)[-1]

    def via(self, start: np.ndarray, end: np.ndarray, *, ahead: bool) -> list[np.ndarray]:
        """Places (n, 2) on each plane, in the order of the way, of what goes from `start` to `end`.

        Where it does not end where the planes lead it, the difference is spread evenly over the way.
        """
        places = self._through(start, ahead=ahead)
        shares = self.shares if ahead else 1 - self.shares[::-1]
        return [place + share * (end - places[-1]) for place, share in zip(places[:-1], shares, strict=True)]

    def _through(self, start: np.ndarray, *, ahead: bool) -> list[np.ndarray]:
        places = [start]
        for warp in self.ahead if ahead else self.behind:
            places.append(warp(places[-1]))
        return places[1:]


def knots(images: Imaged, low: float, high: float) -> np.ndarray:
    """Depths of a few planes, evenly over a gap."""
    near = _NEAR_END * (high - low)
    inner = images.between(low + near, high - near)
    wanted = np.linspace(0, len(inner) - 1, N_KNOTS + 2)[1:-1] if len(inner) > N_KNOTS else np.arange(len(inner))
    return inner[np.unique(wanted.round().astype(int))]


def find_ways(model: SDEModel, images: Imaged, asked: list[tuple[float, np.ndarray, float]]) -> list[Way | None]:
    """Warp the tissue from plane to plane between two depths (input unit), in internal units of the plane.

    Parameters
    ----------
    asked
        Depth of the one section, of planes between, and of the other.

    Returns
    -------
    None where the images do not reach from one to the other, with a plane within a tenth of the gap of either.
    """
    clouds: list[list[tuple[np.ndarray, np.ndarray]] | None] = []
    for low, between, high in asked:
        near = _NEAR_END * (high - low)
        depths = (low, *between, high) if len(between) else ()
        found = [images.tissue_near(float(z), _POINTS, near) for z in depths] or [None]
        known = [part for part in found if part is not None]
        whole = len(known) == len(found)
        clouds.append([(plane_to_internal(model, place), shown) for place, shown in known] if whole else None)
    calls = [
        pair
        for planes in clouds
        if planes is not None
        for one, other in zip(planes[:-1], planes[1:], strict=True)
        for pair in ((*one, *other), (*other, *one))
    ]
    shifts = dict(run(_shift, calls, n_threads=threads_for(_POINTS)))
    ways: list[Way | None] = []
    first = 0
    for (low, between, high), planes in zip(asked, clouds, strict=True):
        if planes is None:
            ways.append(None)
            continue
        numbers = range(first, first + 2 * (len(planes) - 1), 2)
        ahead = tuple(_Warp(calls[number][0], shifts[number]) for number in numbers)
        behind = tuple(_Warp(calls[number + 1][0], shifts[number + 1]) for number in reversed(numbers))
        ways.append(Way((between - low) / (high - low), ahead, behind))
        first = numbers.stop
    return ways


def plane_to_internal(model: SDEModel, places: np.ndarray) -> np.ndarray:
    """Scale places (n, 2) of the plane from the input's unit."""
    return model.scaling.to_internal(np.column_stack([places, np.zeros(len(places))]))[:, :2]


def _shift(places: np.ndarray, shown: np.ndarray, next_places: np.ndarray, next_shown: np.ndarray) -> np.ndarray:
    # tissue fills the next plane as evenly as this one
    found = couple(places, shown, next_places, next_shown, feature_weight=_WEIGHT, masses="cells")
    return found.target - places
