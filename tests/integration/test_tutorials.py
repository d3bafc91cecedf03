"""Tutorials run, and what they tell their reader to look at is there to be seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isost

TUTORIALS = sorted((Path(__file__).parents[2] / "tutorials").glob("*.ipynb"))
DATA = {"hypothalamus": "merfish_hypothalamus.h5ad"}  # in the folder that ISOST_DATA_DIR names

MADE = ("histology",)  # run on made tissue here; real slides take minutes


def quickstart(names: dict[str, Any]) -> None:
    """Drawn cells lie in the tissue, and the gene is as it is in truth."""
    inside, known, mean = names["inside"], names["known"], names["mean"]
    assert inside.mean() > 0.9
    assert np.corrcoef(mean[inside, 0], known[:, 0])[0, 1] > 0.8


def hypothalamus(names: dict[str, Any]) -> None:
    """Cell types come in the measured proportions, and to look around brings clusters nearer to the domains."""
    assert names["shares"].attrs["pearson"]["overall"] > 0.9
    voxels = names["voxels"]
    around, alone = (
        isost.metrics.label_agreement(voxels[key], voxels["domain"])["nmi"]
        for key in ("spatial_clusters", "expression_clusters")
    )
    assert around > alone


def gradients(names: dict[str, Any]) -> None:
    """Most planted genes are told rightly, about the canal and about the lesion, and flat ones are left alone."""
    for volume, key, truth in (
        ("uninjured", "radial", names["uninjured"].var["canal"]),
        ("injured", "lesion", names["injured"].var["lesion"]),
    ):
        found = isost.get.radial_gradients(names["volumes"][volume], key=key)["class"]
        planted = truth[~truth.isin(["", "flat"])]
        assert (found[planted.index].astype(str) == planted.astype(str)).mean() >= 0.75
        assert (found[truth.index[truth == "flat"]] == "flat").mean() >= 0.75


def development(names: dict[str, Any]) -> None:
    """The stage between stages is where the truth has it, and organs, growth and peaks are as planted."""
    params = names["fitted"].params
    assert params["motion"] > 0 and params["change"] > 0
    assert names["inside"] > 0.95
    assert names["pearson"].groupby(names["adata"].var["kind"], observed=True).mean().min() > 0.9
    assert names["shares"].attrs["pearson"]["overall"] > 0.97
    enough = names["enough"]
    assert abs(enough["rate"] - enough["true_rate"]).mean() < 0.06
    assert enough["dying"].max() < 0.05
    assert names["found"]["dynamic"].all()
    assert (abs(names["off"]) < 0.2).mean() >= 0.7
    known = names["adata"].var["target"].loc[names["markers"]["gene"]]
    assert (known.to_numpy() == names["markers"]["label"]).all()


def images(names: dict[str, Any]) -> None:
    """The shift is found, images are followed, and with them less is missed and less lies outside."""
    np.testing.assert_allclose(names["features"].attrs["affine"], [[1, 0, -800], [0, 1, 0]], atol=50)
    assert abs(np.linalg.det(np.array(names["features"].attrs["affine"])[:, :2]) - 1) < 1e-6
    assert names["fits"]["with images"].params["images"]["followed"]
    assert names["errors"]["with images"] < 0.6 * names["errors"]["sections alone"]
    assert names["outside"]["with images"] < names["outside"]["sections alone"]


def histology(names: dict[str, Any]) -> None:
    """The section that was only stained is told as well as the model said, and intervals hold what they say."""
    assert names["r"].mean() > 0.3
    assert abs(names["r"].mean() - names["model"].accuracy["pcc"].mean()) < 0.1
    assert 0.85 < names["inside"] < 0.97
    assert names["strange"] < 0.3


CLAIMS: dict[str, Callable[[dict[str, Any]], None]] = {
    "development": development,
    "gradients": gradients,
    "histology": histology,
    "hypothalamus": hypothalamus,
    "images": images,
    "quickstart": quickstart,
}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_shows_what_it_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed, folder = DATA.get(path.stem), os.environ.get("ISOST_DATA_DIR", "")
    if needed and not (folder and (Path(folder) / needed).is_file()):
        pytest.skip(f"needs {needed} in the folder ISOST_DATA_DIR")
    monkeypatch.chdir(tmp_path)
    if path.stem in MADE:
        monkeypatch.delenv("ISOST_DATA_DIR", raising=False)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    names: dict[str, object] = {}
    for number, cell in enumerate(cells, start=1):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    CLAIMS[path.stem](names)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_is_kept_without_outputs(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
