from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.colors import to_hex
from scipy.sparse import csr_matrix

import isost
from isost.pl._palette import palette

DEPTHS = (-20.0, 5.5, 40.0)


def positions(ax: plt.Axes) -> np.ndarray:
    return np.concatenate([points.get_offsets() for points in ax.collections])


def values(ax: plt.Axes) -> np.ndarray:
    return np.concatenate([np.asarray(points.get_array()) for points in ax.collections])


def of_depth(adata: AnnData, depth: float) -> AnnData:
    return adata[adata.obsm["spatial"][:, 2] == depth]


def bar_of(axes: np.ndarray) -> plt.Axes:
    figure = axes[0].figure
    (bar,) = [ax for ax in figure.axes if ax not in list(axes)]
    return bar


def test_one_panel_a_section_in_order_of_depth(stack: AnnData) -> None:
    axes = isost.pl.sections(stack)
    assert [ax.get_title() for ax in axes] == ["z = −20 µm", "z = 5.5 µm", "z = 40 µm"]
    for ax, depth in zip(axes, DEPTHS, strict=True):
        expected = of_depth(stack, depth).obsm["spatial"][:, :2]
        np.testing.assert_array_equal(np.unique(positions(ax), axis=0), np.unique(expected, axis=0))


def test_distances_are_the_same_in_all_directions_and_panels(stack: AnnData) -> None:
    axes = isost.pl.sections(stack)
    axes[0].figure.draw_without_rendering()
    scales = []
    for ax in axes:
        origin, right, up = ax.transData.transform([(0, 0), (100, 0), (0, 100)])
        scales += [right[0] - origin[0], up[1] - origin[1]]
    np.testing.assert_allclose(scales, scales[0], rtol=1e-3)
    coords = stack.obsm["spatial"]
    for ax in axes:
        assert ax.get_xlim()[0] < coords[:, 0].min() < coords[:, 0].max() < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < coords[:, 1].min() < coords[:, 1].max() < ax.get_ylim()[1]


def test_inverted_y(stack: AnnData) -> None:
    upright, inverted = isost.pl.sections(stack)[0], isost.pl.sections(stack, invert_y=True)[0]
    assert inverted.get_ylim() == upright.get_ylim()[::-1]


def test_scale_bar_is_as_long_as_it_says(stack: AnnData) -> None:
    stack.uns["spatial_unit"] = "mm of the block"
    ax = isost.pl.sections(stack)[0]
    (bar,) = [line for line in ax.lines if line.get_label() == "_scale_bar"]
    number, unit = ax.texts[0].get_text().split()
    assert np.ptp(bar.get_xdata()) == float(number) == 200
    assert unit == "mm"
    assert ax.get_title() == "z = −20 mm"


@pytest.mark.parametrize("sparse", [False, True])
def test_gene_on_one_scale(stack: AnnData, sparse: bool) -> None:
    expected = np.asarray(stack[:, "Gad1"].X).ravel()
    if sparse:
        stack.X = csr_matrix(stack.X)
    axes = isost.pl.sections(stack, "Gad1")
    for ax in axes:
        norm = ax.collections[-1].norm
        assert (norm.vmin, norm.vmax) == pytest.approx((expected.min(), np.percentile(expected, 99)))
    np.testing.assert_allclose(np.sort(np.concatenate([values(ax) for ax in axes])), np.sort(expected))
    assert bar_of(axes).get_ylabel() == "Gad1 (expression)"
    for ax, depth in zip(axes, DEPTHS, strict=True):
        # high values lie over low ones
        assert (np.diff(values(ax)) >= 0).all()
        section = of_depth(stack, depth)
        place = {tuple(xy): at for xy, at in zip(section.obsm["spatial"][:, :2], section.obs_names, strict=True)}
        drawn = [place[tuple(xy)] for xy in positions(ax)]
        by_name = pd.Series(expected, index=stack.obs_names)
        np.testing.assert_allclose(values(ax), by_name[drawn])


def test_layer_component_and_numeric_column(stack: AnnData) -> None:
    for options, expected, label in (
        ({"color": "Gad1", "layer": "counts"}, np.asarray(stack.layers["counts"][:, 0]), "Gad1 (counts)"),
        ({"color": "PC2"}, stack.obsm["X_pca"][:, 1], "PC2 (score)"),
        ({"color": "area"}, stack.obs["area"].to_numpy(), "area"),
    ):
        axes = isost.pl.sections(stack, **options)
        np.testing.assert_allclose(np.sort(np.concatenate([values(ax) for ax in axes])), np.sort(expected))
        assert bar_of(axes).get_ylabel() == label


def test_a_gene_in_one_cell_is_seen(stack: AnnData) -> None:
    expression = np.zeros((500, 1), dtype=np.float32)
    expression[7] = 3.0
    adata = AnnData(expression, var=pd.DataFrame(index=["rare"]))
    adata.obsm["spatial"] = np.column_stack(
        [np.random.default_rng(0).uniform(size=(500, 2)), np.repeat([0.0, 9.0], 250)]
    )
    norm = isost.pl.sections(adata, "rare")[0].collections[-1].norm
    assert (norm.vmin, norm.vmax) == (0, 3)


def test_limits_are_taken_as_given(stack: AnnData) -> None:
    axes = isost.pl.sections(stack, "Gad1", vmin=1, vmax="p50")
    norm = axes[0].collections[-1].norm
    assert (norm.vmin, norm.vmax) == (1, pytest.approx(np.median(stack[:, "Gad1"].X)))


def test_categories_keep_the_users_colours(stack: AnnData) -> None:
    stack.uns["kind_colors"] = ["#112233", "#445566"]
    axes = isost.pl.sections(stack, "kind")
    legend = axes[0].figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["glia", "neuron"]
    assert [to_hex(handle.get_color()) for handle in legend.legend_handles] == ["#112233", "#445566"]
    (points,) = axes[0].collections
    section = of_depth(stack, DEPTHS[0])
    kind = {tuple(xy): kind for xy, kind in zip(section.obsm["spatial"][:, :2], section.obs["kind"], strict=True)}
    for xy, color in zip(points.get_offsets(), points.to_rgba(points.get_array()), strict=True):
        assert to_hex(color) == {"glia": "#112233", "neuron": "#445566"}[kind[tuple(xy)]]


def test_categories_without_colours_and_cells_without_category(stack: AnnData) -> None:
    stack.obs.loc[stack.obs_names[:40], "kind"] = np.nan
    axes = isost.pl.sections(stack, "kind")
    handles = axes[0].figure.legends[0].legend_handles
    assert tuple(to_hex(handle.get_color()) for handle in handles) == palette(2)
    missing, known = axes[0].collections
    assert len(missing.get_offsets()) == of_depth(stack, DEPTHS[0]).obs["kind"].isna().sum() > 0
    assert len(missing.get_offsets()) + len(known.get_offsets()) == 20


def test_colours_for_too_few_categories_are_not_used(stack: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    stack.uns["kind_colors"] = ["#112233"]
    handles = isost.pl.sections(stack, "kind")[0].figure.legends[0].legend_handles
    assert tuple(to_hex(handle.get_color()) for handle in handles) == palette(2)
    assert "kind_colors" in caplog.text


def test_booleans_are_categories(stack: AnnData) -> None:
    stack.obs["dense"] = stack.obs["area"] > 0
    texts = isost.pl.sections(stack, "dense")[0].figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["False", "True"]


def test_input_is_left_as_it_is(stack: AnnData) -> None:
    before = stack.copy()
    isost.pl.sections(stack, "kind")
    isost.pl.sections(stack, "Gad1")
    assert dict(stack.uns) == dict(before.uns)
    pd.testing.assert_frame_equal(stack.obs, before.obs)
    np.testing.assert_array_equal(stack.X, before.X)


def test_view_depth_column_and_sections_by_depth(stack: AnnData) -> None:
    stack.obs["z"] = stack.obsm["spatial"][:, 2] * 2
    stack.obsm["flat"] = stack.obsm["spatial"][:, :2]
    view = stack[stack.obs["section"] != "s2"]
    axes = isost.pl.sections(view, spatial_key="flat", depth_key="z", section_key=None)
    assert [ax.get_title() for ax in axes] == ["z = 11 µm", "z = 80 µm"]
    assert view.is_view


def test_one_section_of_one_cell(stack: AnnData) -> None:
    (ax,) = isost.pl.sections(stack[:1], "Gad1")
    assert len(positions(ax)) == 1
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(("n", "ncols", "rows"), [(3, 2, 2), (3, 1, 3), (3, 10, 1)])
def test_rows(stack: AnnData, n: int, ncols: int, rows: int) -> None:
    axes = isost.pl.sections(stack, ncols=ncols)
    assert len(axes) == n
    assert len({round(ax.get_position().y0, 3) for ax in axes}) == rows


def test_given_axes_are_used(stack: AnnData) -> None:
    figure, own = plt.subplots(1, 3)
    axes = isost.pl.sections(stack, "kind", axes=own)
    assert list(axes) == list(own)
    assert plt.get_fignums() == [figure.number]
    assert [text.get_text() for text in own[-1].get_legend().get_texts()] == ["glia", "neuron"]


def test_show_only_when_asked(stack: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[bool] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    isost.pl.sections(stack)
    assert not shown
    isost.pl.sections(stack, show=True)
    assert shown


def test_save_replaces_whole_or_not_at_all(stack: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "sections.png"
    isost.pl.sections(stack, save=target)
    first = target.read_bytes()
    assert first.startswith(b"\x89PNG")

    def fails(self: plt.Figure, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plt.Figure, "savefig", fails)
    with pytest.raises(OSError, match="disk full"):
        isost.pl.sections(stack, save=target)
    assert target.read_bytes() == first
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"color": "gad1"}, KeyError, "'Gad1'"),
        ({"color": "Gad1", "layer": "raw"}, KeyError, "counts"),
        ({"color": "PC3"}, KeyError, "PC1 to PC2"),
        ({"spatial_key": "umap"}, ValueError, "obsm keys"),
        ({"depth_key": "z"}, ValueError, "adata.obs"),
        ({"color": "Gad1", "vmax": "99%"}, ValueError, "p99"),
        ({"color": "Gad1", "vmin": 2, "vmax": 1}, ValueError, "vmin < vmax"),
        ({"ncols": 0}, ValueError, "1 or more"),
        ({"save": "plot"}, ValueError, "plot.png"),
        ({"save": "nowhere/plot.png"}, FileNotFoundError, "nowhere"),
    ],
)
def test_bad_requests(stack: AnnData, options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        isost.pl.sections(stack, **options)
    text = str(caught.value)
    assert "xpected" in text
    assert "found" in text
    assert "Next: " in text


def test_bad_input(stack: AnnData) -> None:
    with pytest.raises(TypeError, match="expected an AnnData, found ndarray"):
        isost.pl.sections(stack.X)
    with pytest.raises(ValueError, match="without any"):
        isost.pl.sections(stack[:0])
    with pytest.raises(ValueError, match="one for each of 3 sections, found 2"):
        isost.pl.sections(stack, axes=plt.subplots(1, 2)[1])
    stack.obs["Gad1"] = 1.0
    with pytest.raises(ValueError, match="both in adata.obs and among the genes"):
        isost.pl.sections(stack, "Gad1")
    stack.obsm["spatial"][3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        isost.pl.sections(stack)


def test_cell_names_are_no_categories(stack: AnnData) -> None:
    stack.obs["name"] = stack.obs_names
    with pytest.raises(ValueError, match="at most 60 categories, found 75"):
        isost.pl.sections(stack, "name")


def test_real_sections(data_dir: Path) -> None:
    import anndata

    adata = anndata.read_h5ad(data_dir / "merfish_hypothalamus.h5ad")
    axes = isost.pl.sections(adata, "Gad1")
    assert [ax.get_title() for ax in axes] == [f"z = {z} µm" for z in (0, 50, 100, 150, 200)]
    assert sum(len(positions(ax)) for ax in axes) == adata.n_obs


def test_sections_at_one_depth_are_named(stack: AnnData) -> None:
    stack.obsm["spatial"][stack.obs["section"] == "s10", 2] = 40.0
    titles = [ax.get_title() for ax in isost.pl.sections(stack)]
    assert titles[0] == "z = −20 µm" and set(titles[1:]) == {"s1\nz = 40 µm", "s10\nz = 40 µm"}
    stack.obsm["spatial"][:, 2] = 0.0
    axes = isost.pl.sections(stack)
    assert {ax.get_title() for ax in axes} == {"s1", "s2", "s10"}
    for ax in axes:
        expected = stack[stack.obs["section"] == ax.get_title()].obsm["spatial"][:, :2]
        np.testing.assert_array_equal(np.unique(positions(ax), axis=0), np.unique(expected, axis=0))
    assert [ax.get_title() for ax in isost.pl.sections(stack[stack.obs["section"] == "s1"])] == ["z = 0 µm"]


@pytest.mark.parametrize(
    ("key", "titles"),
    [
        ("age", ["age = −20", "age = 5.5", "age = 40"]),
        ("z", ["z = −20 µm", "z = 5.5 µm", "z = 40 µm"]),
        (None, ["z = −20 µm", "z = 5.5 µm", "z = 40 µm"]),
    ],
)
def test_titles_say_what_the_depth_is(stack: AnnData, key: str | None, titles: list[str]) -> None:
    """An age has no unit that is known."""
    if key is not None:
        stack.obs[key] = stack.obsm["spatial"][:, 2]
        stack.obsm["spatial"] = stack.obsm["spatial"][:, :2]
    axes = isost.pl.sections(stack, depth_key=key)
    assert [ax.get_title() for ax in axes] == titles
