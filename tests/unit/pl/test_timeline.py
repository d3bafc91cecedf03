from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from anndata import AnnData
from matplotlib.colors import to_hex

import isost
from isost import Reconstruction
from isost.pl import timeline

COLORS = ["#0072b2", "#e69f00"]


@pytest.fixture
def organs() -> xr.Dataset:
    """Five ages on 8 x 8 pixels of 10 µm: a body of two organs, of which the second grows by a column an age."""
    label = np.zeros((5, 8, 8), np.int16)
    label[:, 1:-1, 1:-1] = 1
    for number in range(5):
        label[number, 1:-1, 1 : 1 + number] = 2
    sure = np.where(label > 0, np.linspace(0.5, 1.0, 5 * 64).reshape(label.shape), np.nan).astype(np.float32)
    middle = np.arange(8) * 10.0 - 35.0
    return xr.Dataset(
        {"label": (("age", "y", "x"), label), "confidence": (("age", "y", "x"), sure)},
        coords={"age": [9.5, 10.0, 10.5, 11.0, 11.5], "y": middle, "x": middle, "name": ["trunk", "brain"],
                "growth": ("age", [0.5, 0.75, 1.0, 1.5, 2.0])},
        attrs={"colors": COLORS, "stages": [9.5, 11.5], "unit": "um", "pixel_size": 10.0},
    )  # fmt: skip


class Field:
    """Expression is age times the number of the gene."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def expression(self, coords: np.ndarray, *, genes: list[str]) -> np.ndarray:
        if genes not in (["gene_1"], ["gene_2"]):
            raise KeyError(f"genes: found {genes}. Next: ...")
        self.asked.append(coords)
        return coords[:, 2:] * int(genes[0][-1])


def _shown(ax: plt.Axes) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(ax.images[0].get_array(), dtype=float), np.nan)


def test_maps_are_those_of_the_labels(organs: xr.Dataset) -> None:
    axes = timeline(organs, n_ages=5)
    assert axes.shape == (1, 5)
    for ax, label in zip(axes[0], organs.label.values, strict=True):
        np.testing.assert_array_equal(_shown(ax), np.where(label > 0, label - 1.0, np.nan))
        image = ax.images[0]
        assert [to_hex(image.cmap(image.norm(k))) for k in range(2)] == COLORS
        assert image.origin == "lower" and ax.get_aspect() == 1


def test_titles_are_ages_and_say_which_were_profiled(organs: xr.Dataset) -> None:
    titles = [ax.get_title() for ax in timeline(organs, n_ages=3)[0]]
    assert titles == ["9.5\n(profiled)", "10.5", "11.5\n(profiled)"]


def test_ages_are_the_nearest_there_are(organs: xr.Dataset) -> None:
    titles = [ax.get_title() for ax in timeline(organs, ages=[11.1, 10.04, 9.99])[0]]
    assert titles == ["11", "10"]
    assert timeline(organs, ages=10.5).shape == (1, 1)


def test_stages_are_drawn_at_their_own_size(organs: xr.Dataset) -> None:
    axes = timeline(organs, n_ages=5)[0]
    for ax, own in zip(axes, organs.growth.values, strict=True):
        np.testing.assert_allclose(ax.images[0].get_extent(), np.array([-40, 40, -40, 40]) * own)
        assert ax.get_xlim() == (-80, 80) and ax.get_ylim() == (-80, 80)
    for ax in timeline(organs, n_ages=5, grown=False)[0]:
        np.testing.assert_allclose(ax.images[0].get_extent(), [-40, 40, -40, 40])
        assert ax.get_xlim() == (-40, 40)


def test_sections_of_one_tissue_are_drawn_as_they_are(organs: xr.Dataset) -> None:
    for ax in timeline(organs.drop_vars("growth"), n_ages=2)[0]:
        assert ax.get_xlim() == (-40, 40)


def test_the_legend_names_the_organs(organs: xr.Dataset) -> None:
    legend = timeline(organs)[0, -1].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["trunk", "brain"]


def test_confidence_has_a_row_of_its_own(organs: xr.Dataset) -> None:
    axes = timeline(organs, n_ages=5, confidence=True)
    assert axes.shape == (2, 5)
    for ax, sure in zip(axes[1], organs.confidence.values, strict=True):
        np.testing.assert_allclose(_shown(ax), sure)
        assert (ax.images[0].norm.vmin, ax.images[0].norm.vmax) == (0, 1)


def test_a_gene_is_shown_at_every_pixel_of_the_tissue_on_one_scale(organs: xr.Dataset) -> None:
    fitted = Field()
    axes = timeline(organs, n_ages=3, fitted=fitted, genes=["gene_1", "gene_2"], vmax=None)
    assert axes.shape == (3, 3)
    for row, gene in ((1, 1), (2, 2)):
        for ax, age, label in zip(axes[row], (9.5, 10.5, 11.5), organs.label.values[::2], strict=True):
            np.testing.assert_allclose(_shown(ax), np.where(label > 0, gene * age, np.nan), rtol=1e-6)
        assert {(ax.images[0].norm.vmin, ax.images[0].norm.vmax) for ax in axes[row]} == {(9.5 * gene, 11.5 * gene)}
    first = fitted.asked[0]
    y, x = np.nonzero(organs.label.values[0])
    np.testing.assert_allclose(first, np.column_stack([organs.x.values[x], organs.y.values[y], np.full(len(x), 9.5)]))


def test_y_may_grow_downwards(organs: xr.Dataset) -> None:
    assert timeline(organs, invert_y=True)[0, 0].get_ylim() == (80, -80)


def test_it_is_saved_and_not_shown(organs: xr.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[None] = []
    monkeypatch.setattr(plt, "show", lambda *_, **__: shown.append(None))
    timeline(organs, save=tmp_path / "timeline.png")
    assert not shown and (tmp_path / "timeline.png").stat().st_size > 1000
    timeline(organs, show=True)
    assert shown == [None]


def test_of_a_fit(fitted_stages: Reconstruction, stages: AnnData) -> None:
    organs = isost.tl.propagate_labels(fitted_stages, stages, key="organ", step=2.0, grid=32)
    ax = timeline(organs, ages=[12.5], fitted=fitted_stages, genes="marker_2", vmin=None, vmax=None)[1, 0]
    found = _shown(ax)
    brain = organs.name.values.tolist().index("brain") + 1
    label = organs.label.sel(age=12.5).values
    assert np.isnan(found[label == 0]).all()
    assert found[label == brain].mean() > found[(label > 0) & (label != brain)].mean() + 0.5


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"data": 3}, TypeError, "data: expected what isost.tl.propagate_labels returns, found int"),
        ({"genes": "gene_1"}, TypeError, "genes: expected what isost.tl.fit returned with them, found None"),
        ({"genes": "Gad1", "fitted": Field()}, KeyError, "Gad1"),
        ({"ages": []}, ValueError, "ages, n_ages: expected one age or more, found none"),
        ({"n_ages": 0}, ValueError, "ages, n_ages: expected one age or more, found none"),
    ],
)
def test_bad_requests(organs: xr.Dataset, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"{words}.*Next: "):
        timeline(**{"data": organs} | options)
