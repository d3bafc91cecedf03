from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    normalized_mutual_info_score,
)

from isost.metrics import domains

LINE = np.array([[0.0, 0], [1, 0], [2.1, 0], [3.3, 0], [4.6, 0]])  # nearest: 1, 0, 1, 2, 3


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_agreement_is_that_of_scikit_learn_without_missing_labels(missing: object) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(["a", "b", "c"], 200).astype(object)
    found = np.where(rng.random(200) < 0.6, truth, rng.choice(["x", "y"], 200)).astype(object)
    there = rng.random(200) < 0.8
    holes = found.copy()
    holes[150:] = missing
    scores = domains(holes, np.where(there, truth, missing))
    both = there & (np.arange(200) < 150)
    truth, found = truth[both].astype(str), found[both].astype(str)
    assert scores == pytest.approx({
        "nmi": normalized_mutual_info_score(truth, found),
        "homogeneity": homogeneity_score(truth, found),
        "completeness": completeness_score(truth, found),
        "ari": adjusted_rand_score(truth, found),
    })  # fmt: skip


def test_division_is_homogeneous_and_union_complete() -> None:
    divided = domains([0, 1, 2, 3], ["a", "a", "b", "b"])
    assert divided["homogeneity"] == pytest.approx(1) and divided["completeness"] < 0.9
    united = domains(pd.Series(["a"] * 4), pd.Categorical(["a", "a", "b", "b"]))
    assert united["completeness"] == pytest.approx(1) and united["homogeneity"] == pytest.approx(0)


def test_coherence_by_hand() -> None:
    labels = ["a", "a", "b", "b", "b"]
    assert domains(labels, None, coords=LINE, n_neighbors=1) == {"coherence": pytest.approx(4 / 5)}
    # two neighbours: (1,2), (0,2), (1,3), (2,4) and (3,2): shares 1/2, 1/2, 1/2, 1, 1
    assert domains(labels, None, coords=LINE, n_neighbors=2)["coherence"] == pytest.approx(3.5 / 5)
    assert domains(labels, None, coords=LINE)["coherence"] == pytest.approx((1 + 1 + 2 + 2 + 2) / 20), "all others"


def test_coherence_of_a_lattice() -> None:
    x, y = np.meshgrid(np.arange(20.0), np.arange(20.0) * 1.0001)
    coords = np.column_stack([x.ravel(), y.ravel()])
    halves = np.where(coords[:, 0] < 10, "left", "right")
    # 40 of 400 places have one of four neighbours on the other side; those at the rim look further inside
    assert domains(halves, None, coords=coords, n_neighbors=4)["coherence"] == pytest.approx(1 - 40 / 4 / 400, abs=0.01)
    board = ((coords[:, 0] + np.round(coords[:, 1])) % 2).astype(int)
    inner = domains(board, None, coords=coords, n_neighbors=2)["coherence"]
    assert inner < 0.05


def test_neighbours_are_those_of_the_same_sample() -> None:
    coords = np.concatenate([LINE, LINE])
    labels = ["a"] * 5 + ["b"] * 5
    sample = ["one"] * 5 + ["two"] * 5
    assert domains(labels, None, coords=coords, sample=sample, n_neighbors=2)["coherence"] == 1
    assert domains(labels, None, coords=coords, n_neighbors=1)["coherence"] == 0, "one lies on the other"


def test_coherence_takes_places_without_truth_but_none_without_domain() -> None:
    found = ["a", "a", None, "b", "b"]
    scores = domains(found, [None, "A", "A", None, "B"], coords=LINE, n_neighbors=1)
    assert scores["coherence"] == 1 and scores["nmi"] == pytest.approx(1)
    lone = domains(["a", None], None, coords=LINE[:2])
    assert np.isnan(lone["coherence"])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (([1, 2], [1]), {}, ValueError, "truth: expected a label for each of 2 places, found 1. Next"),
        (([1, 2], None), {}, ValueError, "truth: expected labels, or coords.*Next"),
        (([None, np.nan], [1, 2]), {}, ValueError, "found: expected domains, found none in 2 places. Next"),
        (([], []), {}, ValueError, "found: expected domains, found none in 0.*Next"),
        (([1, None], [None, 2]), {}, ValueError, "truth: expected places with both labels, found none.*Next"),
        ((np.ones((2, 2)), None), {"coords": LINE[:2]}, ValueError, "found: expected one label.*Next"),
        (([1, 2], None), {"coords": LINE}, ValueError, r"coords: expected shape \(2, d\), found \(5, 2\). Next"),
        (([1, 2], None), {"coords": [1.0, 2.0]}, ValueError, "coords: expected shape.*Next"),
        (([1, 2], None), {"coords": [[1, 2], [3]]}, TypeError, "coords: expected numbers.*Next"),
        (([1, 2], None), {"coords": [["a"], ["b"]]}, TypeError, "coords: expected numbers.*found 'a'. Next"),
        (([1, 2], None), {"coords": [[0, np.nan], [0, 1]]}, ValueError, "finite positions, found 1 of 2.*Next"),
        (([1, 2], [1, 2]), {"sample": ["s"]}, ValueError, "sample: expected a label for each of 2.*found 1. Next"),
        (([1, 2], None), {"coords": LINE[:2], "sample": ["s", None]}, ValueError, "sample: .*found 1 without. Next"),
        (([1, 2], None), {"coords": LINE[:2], "n_neighbors": 0}, ValueError, "n_neighbors: expected a whole.*Next"),
    ],
)
def test_errors(arguments: tuple, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        domains(*arguments, **options)


def test_series_of_other_cells_are_refused() -> None:
    found = pd.Series(["a", "a", "b"], index=["c1", "c2", "c3"])
    says = "expected labels of the same cells in the same order as found, found 'c3' in row 0, .*'c1'.*Next"
    with pytest.raises(ValueError, match=f"truth: {says}"):
        domains(found, found[::-1])
    with pytest.raises(ValueError, match=f"sample: {says}"):
        domains(found, None, coords=LINE[:3], sample=found[::-1])
    with pytest.raises(ValueError, match="truth: expected labels of the same cells.*found 'x' in row 2.*Next"):
        domains(found, found.rename({"c3": "x"}))
    assert domains(found, found.copy())["nmi"] == domains(found, found[::-1].to_numpy()[::-1])["nmi"] == 1
    assert domains(found, found[::-1].loc[found.index])["ari"] == 1


def test_layers_of_three_animals_are_coherent(data_dir: Path) -> None:
    adata = anndata.read_h5ad(data_dir / "starmap_mpfc.h5ad")
    options = {"coords": adata.obsm["spatial"][:, :2], "sample": adata.obs["section"]}
    layers = domains(adata.obs["domain"], adata.obs["domain"], **options)
    types = domains(adata.obs["cell_type"], adata.obs["domain"], **options)
    assert layers["nmi"] == pytest.approx(1) and layers["coherence"] > 0.9
    assert 0.2 < types["nmi"] < 0.6 and types["coherence"] < 0.4
