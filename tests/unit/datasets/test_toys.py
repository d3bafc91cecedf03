from __future__ import annotations

from collections.abc import Callable

import anndata as ad
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath

from isost.datasets import letters, morph
from isost.datasets._letters import _letter
from isost.datasets._morph import _in_butterfly, _in_caterpillar


@pytest.mark.parametrize(("toy", "names"), [(letters, ["A", "B"]), (morph, ["caterpillar", "butterfly"])])
def test_layout(toy: Callable[..., ad.AnnData], names: list[str]) -> None:
    adata = toy(200)
    assert adata.shape == (400, 12)
    assert adata.obs["section"].cat.categories.tolist() == names and adata.obs["section"].cat.ordered
    assert adata.obsm["spatial"].shape == (400, 3) and adata.obsm["spatial"].dtype == np.float64
    np.testing.assert_array_equal(adata.obsm["spatial"][:, 2], np.repeat([0.0, 100.0], 200))
    assert np.isfinite(adata.X).all() and (adata.X >= 0.0).all()
    assert adata.obs_names.is_unique and adata.var_names.is_unique


@pytest.mark.parametrize("toy", [letters, morph])
def test_the_seed_decides(toy: Callable[..., ad.AnnData]) -> None:
    one, same, other = toy(50, rng=1), toy(50, rng=1), toy(50, rng=2)
    np.testing.assert_array_equal(one.X, same.X)
    assert not np.array_equal(one.obsm["spatial"], other.obsm["spatial"])
    with pytest.raises(ValueError, match="n_cells"):
        toy(0)


@pytest.mark.parametrize("letter", ["A", "B"])
def test_letters_look_as_matplotlib_draws_them(letter: str) -> None:
    inside, box = _letter(letter)
    path = TextPath((0.0, 0.0), letter, size=100.0, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    extent = path.get_extents()
    figure = Figure(figsize=(2.0, 2.0), dpi=100)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(extent.x0, extent.x1), ylim=(extent.y0, extent.y1))
    axes.axis("off")
    axes.add_patch(PathPatch(path, color="black", linewidth=0.0))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[::-1, :, 0] < 128
    pixel = (np.arange(200) + 0.5) / 200
    x, y = np.meshgrid(*(low + pixel * (high - low) for low, high in box.T))
    found = inside(np.column_stack([x.ravel(), y.ravel()])).reshape(200, 200)
    # Only pixels on the outline may differ.
    assert (found == drawn).mean() > 0.98


def test_letters_have_holes() -> None:
    (a, _), (b, _) = _letter("A"), _letter("B")
    assert not a(np.array([[0.0, 500.0]])).any()
    column = np.column_stack([np.zeros(500), np.linspace(1.0, 999.0, 500)])
    # Down the middle of a B: bar, hole, bar, hole, bar.
    assert np.count_nonzero(np.diff(b(column).astype(int))) == 4


@pytest.mark.parametrize("letter", ["A", "B"])
def test_letters_are_filled_evenly(letter: str) -> None:
    inside, box = _letter(letter)
    adata = letters(20_000)
    xy = adata.obsm["spatial"][adata.obs["section"] == letter, :2]
    edges = [np.linspace(*side, 11) for side in box.T]
    grid = np.random.default_rng(1).uniform(box[0], box[1], (400_000, 2))
    area = np.histogram2d(*grid[inside(grid)].T, edges)[0]
    found = np.histogram2d(*xy.T, edges)[0]
    expected = area * len(xy) / area.sum()
    full = expected > 30.0
    assert ((found - expected)[full] ** 2 / expected[full]).sum() < 1.6 * full.sum()


@pytest.mark.parametrize("outline", [_in_caterpillar, _in_butterfly])
def test_silhouettes_fit_their_boxes(outline: Callable[[np.ndarray], np.ndarray]) -> None:
    box = {
        _in_caterpillar: np.array([[-590.0, -220.0], [565.0, 360.0]]),
        _in_butterfly: np.array([[-700.0, -460.0], [700.0, 580.0]]),
    }[outline]
    wide = np.random.default_rng(0).uniform(1.5 * box[0], 1.5 * box[1], (50_000, 2))
    within = ((wide >= box[0]) & (wide <= box[1])).all(axis=1)
    assert not outline(wide[~within]).any()
    assert 0.2 < outline(wide[within]).mean() < 0.7


def test_the_butterfly_is_symmetric() -> None:
    xy = np.random.default_rng(0).uniform(-600.0, 600.0, (2000, 2))
    np.testing.assert_array_equal(_in_butterfly(xy), _in_butterfly(xy * [-1.0, 1.0]))


def test_genes_are_smooth() -> None:
    adata = letters(3000)
    xy = adata.obsm["spatial"][adata.obs["section"] == "A", :2]
    x = adata.X[(adata.obs["section"] == "A").to_numpy()]
    nearest = ((xy[:200, None] - xy[None]) ** 2).sum(axis=2).argsort(axis=1)[:, 1]
    # Neighbours differ by little more than the noise, 0.1 in each.
    assert np.sqrt(((x[:200] - x[nearest]) ** 2).mean()) < 0.2
    assert x.std(axis=0).min() > 0.2
