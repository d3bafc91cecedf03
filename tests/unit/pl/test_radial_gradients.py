from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import isost


def cells_of(seed: int, shift: float = 0.0) -> AnnData:
    """Cells of a ball whose genes rise, fall, peak or do nothing with the distance from its centre."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-100, 100, (1500, 3))
    places = places[np.linalg.norm(places, axis=1) < 100]
    r = np.linalg.norm(places, axis=1) / 100
    signal = np.column_stack([r, r**2, -r, -4 * (r - 0.6) ** 2, 0 * r]) + shift
    adata = AnnData((signal + 0.2 * rng.normal(size=signal.shape)).astype(np.float32), obsm={"spatial": places})
    adata.var_names = ["rises", "rises late", "falls", "peaks", "nothing"]
    isost.tl.radial_gradients(adata, point=(0, 0, 0), width=10.0)
    return adata


@pytest.fixture(scope="module")
def cells() -> AnnData:
    return cells_of(0)


def test_profiles_are_shell_means_with_bands_of_their_spread(cells: AnnData) -> None:
    ax = isost.pl.radial_gradients(cells, genes="falls")[0]
    mean = isost.get.radial_gradients(cells, what="mean").loc["falls"].to_numpy()
    spread = isost.get.radial_gradients(cells, what="spread").loc["falls"].to_numpy()
    shells = isost.get.radial_gradients(cells, what="shells")
    used = shells["n"].to_numpy() >= 0.01 * shells["n"].sum()
    assert not used.all(), "a shell of few cells is left out"
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xydata(), np.column_stack([shells["distance"], mean])[used])
    (band,) = ax.collections
    low, high = band.get_datalim(ax.transData).intervaly
    assert low == pytest.approx((mean - spread)[used].min())
    assert high == pytest.approx((mean + spread)[used].max())
    assert ax.get_xlabel() == "from the point (µm)"
    assert ax.get_title(loc="left") == "falls"


def test_the_heat_map_is_sorted_by_class_and_place(cells: AnnData) -> None:
    heat = isost.pl.radial_gradients(cells)[-1]
    assert [label.get_text() for label in heat.get_yticklabels()] == ["rises", "rises late", "falls", "peaks"]
    (mesh,) = heat.collections
    values = np.asarray(mesh.get_array())
    assert values.shape[0] == 4
    np.testing.assert_allclose(np.abs(values).max(axis=1), 1.0)
    np.testing.assert_allclose(values.mean(axis=1), 0.0, atol=1e-9)
    assert values[0, -1] > 0 > values[0, 0]
    assert values[2, 0] > 0 > values[2, -1]
    assert [text.get_text() for text in heat.texts] == ["rising", "falling", "peaked"]
    assert heat.yaxis_inverted()


def test_conditions_share_genes_and_have_a_colour_each(cells: AnnData) -> None:
    axes = isost.pl.radial_gradients({"day 3": cells, "day 7": cells_of(1, shift=2.0)}, n_genes=3)
    profiles, maps = axes[:-2], axes[-2:]
    assert len(profiles) == 3
    assert all(len(ax.lines) == 2 for ax in profiles)
    assert len({line.get_color() for line in profiles[0].lines}) == 2
    assert [text.get_text() for text in profiles[0].get_legend().get_texts()] == ["day 3", "day 7"]
    assert [ax.get_title() for ax in maps] == ["day 3", "day 7"]


def test_nothing_overlaps(cells: AnnData) -> None:
    axes = isost.pl.radial_gradients(cells)
    figure = axes[0].figure
    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in axes]
    for number, one in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= one.x0
        assert one.x1 <= figure.bbox.x1 + 1
        assert not any(one.shrunk(0.98, 0.98).overlaps(other.shrunk(0.98, 0.98)) for other in boxes[number + 1 :])


def test_no_gradient_at_all_still_makes_a_picture(cells: AnnData) -> None:
    flat = cells.copy()
    flat.uns["radial_gradients"]["genes"]["class"] = "flat"
    assert len(isost.pl.radial_gradients(flat, n_genes=2)) == 3


def test_errors_say_what_to_do(cells: AnnData) -> None:
    with pytest.raises(KeyError, match="found 'absent'.*Next"):
        isost.pl.radial_gradients(cells, genes=["absent"])
    with pytest.raises(KeyError, match="Next"):
        isost.pl.radial_gradients(cells, key="never")
    with pytest.raises(ValueError, match="Next"):
        isost.pl.radial_gradients(cells, genes=[])
    with pytest.raises(ValueError, match="Next"):
        isost.pl.radial_gradients({})
