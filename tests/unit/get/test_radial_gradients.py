from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import isost


@pytest.fixture
def cells() -> AnnData:
    rng = np.random.default_rng(0)
    places = rng.uniform(-1, 1, (400, 3))
    values = np.column_stack([np.linalg.norm(places, axis=1), rng.normal(size=400)]) + 0.1 * rng.normal(size=(400, 2))
    adata = AnnData(values.astype(np.float32), obsm={"spatial": places})
    adata.var_names = ["rises", "noise"]
    isost.tl.radial_gradients(adata, point=(0, 0, 0), width=0.25)
    return adata


def test_what_was_written_is_read_as_a_copy(cells: AnnData) -> None:
    found = isost.get.radial_gradients(cells)
    assert found["class"].astype(str).tolist() == ["rising", "flat"]
    found.loc["rises", "p"] = 7.0
    assert isost.get.radial_gradients(cells).loc["rises", "p"] < 1e-6
    shells = isost.get.radial_gradients(cells, what="shells")
    for what in ("mean", "spread"):
        assert isost.get.radial_gradients(cells, what=what).columns.tolist() == shells.index.tolist()


def test_several_by_name(cells: AnnData) -> None:
    found = isost.get.radial_gradients({"day 3": cells, "day 7": cells})
    assert found.columns[0] == "condition"
    assert found["condition"].tolist() == ["day 3", "day 3", "day 7", "day 7"]
    assert found.index.tolist() == ["rises", "noise"] * 2


def test_errors_say_what_to_do(cells: AnnData) -> None:
    with pytest.raises(KeyError, match="'radial'.*found 'canal'.*Next"):
        isost.get.radial_gradients(cells, key="canal")
    with pytest.raises(KeyError, match="what.*Next"):
        isost.get.radial_gradients(cells, what="genom")
    with pytest.raises(TypeError, match="Next"):
        isost.get.radial_gradients(3)  # type: ignore[arg-type]
