"""Expression at any place, and on the voxels of a volume."""

from __future__ import annotations

import numpy as np
import pytest

from isost import Reconstruction


def test_expression_decodes_the_field(fitted: Reconstruction) -> None:
    places = fitted.stack.coords[::97]
    everything = fitted.expression(places)
    assert everything.shape == (len(places), 10) and everything.dtype == np.float32
    names = list(fitted.stack.decoder.genes)
    some, std = fitted.expression(places, genes=[names[7], names[2]], return_std=True)
    assert np.allclose(some, everything[:, [7, 2]], atol=1e-5)
    assert std.shape == some.shape and std.dtype == np.float32 and (std >= 0).all() and (std > 0).any()
    assert np.allclose(fitted.expression(places, genes=names[7])[:, 0], everything[:, 7], atol=1e-5)


def test_expression_at_any_order_of_places(fitted: Reconstruction) -> None:
    draw = np.random.default_rng(0)
    places = fitted.stack.coords[::31].copy()
    places[:, 2] = draw.uniform(0, 150, len(places))
    order = draw.permutation(len(places))
    assert np.allclose(fitted.expression(places)[order], fitted.expression(places[order]), atol=1e-5)


@pytest.mark.parametrize(
    ("coords", "error", "message"),
    [
        ([[1.0, 2.0]], ValueError, r"shape \(n, 3\), found \(1, 2\)"),
        ([1.0, 2.0, 3.0], ValueError, r"shape \(n, 3\), found \(3,\)"),
        ([[np.nan, 2.0, 3.0]], ValueError, "found 1 of 1 with NaN"),
        ([["a", "b", "c"]], TypeError, "coords: expected numbers"),
    ],
)
def test_bad_places(fitted: Reconstruction, coords: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fitted.expression(coords)  # type: ignore[arg-type]


def test_unknown_gene(fitted: Reconstruction) -> None:
    with pytest.raises(KeyError, match="1 unknown: 'nope'"):
        fitted.expression(fitted.stack.coords[:2], genes="nope")
    with pytest.raises(KeyError, match="1 unknown: 'nope'"):
        fitted.to_spatialdata(50, genes=["nope"])
    with pytest.raises(ValueError, match="found an empty list"):
        fitted.to_spatialdata(50, genes=[])


def test_without_loadings(without_loadings: Reconstruction) -> None:
    places = without_loadings.stack.coords[:20]
    features, std = without_loadings.expression(places, return_std=True)
    assert features.shape == std.shape == (20, 4)
    with pytest.raises(ValueError, match=r"expected a representation with loadings.*isost.pp.embed"):
        without_loadings.expression(places, genes=["a"])
    with pytest.raises(ValueError, match="expected a representation with loadings"):
        without_loadings.to_spatialdata(50, genes=["a"])
    section = without_loadings.section(60, rng=0)
    assert section.n_vars == 0 and section.obsm["X_other"].shape == (section.n_obs, 4)
    assert "without loadings" in repr(without_loadings)


def test_volume_is_the_field_at_the_voxels(fitted: Reconstruction) -> None:
    sdata = fitted.to_spatialdata(40, rng=0)
    table = sdata.tables["isost_voxels"]
    assert np.allclose(fitted.expression(table.obsm["spatial"]), table.X, atol=1e-4)
    cells = sdata.tables["isost_cells"].n_obs
    assert sdata["isost_density"].values.sum() * 40**3 == pytest.approx(cells, rel=0.1)


def test_volume_of_cells_is_their_mean(fitted: Reconstruction) -> None:
    gene = fitted.stack.decoder.genes[0]
    sdata = fitted.to_spatialdata(40, genes=gene, volume="cells", rng=0)
    table = sdata.tables["isost_voxels"]
    z, y, x = (table.obs[axis].to_numpy() for axis in "zyx")
    values = sdata["isost_volume"]["scale0"].image.values[0, z, y, x]
    assert np.array_equal(np.isnan(values), table.obs["n_cells"] == 0)
    at = int(np.argmax(table.obs["n_cells"]))
    cells = sdata.tables["isost_cells"]
    inside = (np.abs(cells.obsm["spatial"] - table.obsm["spatial"][at]) <= 20).all(axis=1)
    assert inside.sum() == table.obs["n_cells"].iloc[at]
    assert values[at] == pytest.approx(cells.X[inside, 0].mean(), rel=1e-4)
    with pytest.raises(ValueError, match="volume: expected 'field' or 'cells'"):
        fitted.to_spatialdata(40, volume="mean")  # type: ignore[arg-type]


def test_representation_says_what_it_is(fitted: Reconstruction) -> None:
    assert "4 sections" in repr(fitted) and "depths 0 to 150 um" in repr(fitted)
    assert "X_pca (4), decoded to 10 genes" in repr(fitted) and "bridge on" in repr(fitted)
