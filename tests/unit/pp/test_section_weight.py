"""Weights of predicted sections: given, or their own."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from anndata import AnnData

import isost

Z = {"top": 100.0, "bottom": 0.0, "middle": 12.5}


@pytest.fixture
def sections() -> dict[str, AnnData]:
    draw = np.random.default_rng(0)
    return {name: AnnData(draw.random((n, 4)), obsm={"spatial": draw.random((n, 2))})
            for name, n in (("top", 12), ("bottom", 15), ("middle", 11))}  # fmt: skip


def weights_of(adata: AnnData) -> dict[str, float]:
    found = adata.obs.groupby("section", observed=True)["section_weight"].unique()
    assert adata.obs["section_weight"].dtype == np.float32
    return {name: one[0] for name, one in found.items() if len(one) == 1}


@pytest.mark.parametrize("given", [[1, 0, 0.25], np.array([1.0, 0.0, 0.25]), {"bottom": 0, "middle": 0.25}])
def test_weights_go_with_sections_in_the_order_of_depth(sections, given, caplog):
    with caplog.at_level(logging.INFO, logger="isost"):
        adata = isost.pp.stack_sections(sections, z=Z, weight=given)
    assert weights_of(adata) == {"bottom": 0.0, "middle": 0.25, "top": 1.0}
    assert adata.obs["section_weight"].tolist() == [0.0] * 15 + [0.25] * 11 + [1.0] * 12
    assert "predicted sections, and their weights: 'bottom' 0, 'middle' 0.25" in caplog.text


def test_without_predicted_sections_nothing_is_written_unless_asked_for(sections):
    assert "section_weight" not in isost.pp.stack_sections(sections, z=Z).obs
    assert weights_of(isost.pp.stack_sections(sections, z=Z, weight=[1, 1, 1])) == dict.fromkeys(Z, 1.0)
    assert weights_of(isost.pp.stack_sections(sections, z=Z, weight={})) == dict.fromkeys(Z, 1.0)


def test_a_prediction_says_itself_how_accurate_it_is(sections):
    sections["middle"].uns["histology"] = {"trust": 0.5, "encoder": "texture"}
    sections["top"].uns["histology"] = {"trust": np.float32(0.75), "encoder": "texture"}
    adata = isost.pp.stack_sections(sections, z=Z)
    assert weights_of(adata) == {"bottom": 1.0, "middle": 0.5, "top": 0.75}
    assert adata.uns["histology"]["encoder"] == "texture"
    adata = isost.pp.stack_sections(sections, z=Z, weight={"top": 0.125})
    assert weights_of(adata) == {"bottom": 1.0, "middle": 0.5, "top": 0.125}
    adata = isost.pp.stack_sections(list(sections.values()), z=[100, 0, 12.5], weight=[1, 1, 1])
    assert set(adata.obs["section_weight"]) == {1.0}


def test_other_entries_of_histology_mean_nothing(sections):
    sections["middle"].uns["histology"] = "a note"
    sections["top"].uns["histology"] = {"encoder": "texture"}
    assert "section_weight" not in isost.pp.stack_sections(sections, z=Z).obs


def test_sections_of_a_stack_keep_their_weights(sections):
    sections["middle"].uns["histology"] = {"trust": 0.5}
    stacked = isost.pp.stack_sections(sections, z=Z)
    parts = {name: stacked[stacked.obs["section"] == name].copy() for name in Z}
    assert weights_of(isost.pp.stack_sections(parts, z=Z)) == {"bottom": 1.0, "middle": 0.5, "top": 1.0}
    del parts["top"].obs["section_weight"], parts["top"].uns["histology"]
    assert weights_of(isost.pp.stack_sections(parts, z=Z)) == {"bottom": 1.0, "middle": 0.5, "top": 1.0}


@pytest.mark.parametrize(
    ("weight", "problem"),
    [
        ([0.5, 1], "weight: expected one weight for each of the 3 sections; found 2 weights"),
        (0.5, "found 1 weights"),
        ([1, 0.5, -0.5], "weight: expected a number from 0 to 1; found -0.5 for 'middle'"),
        ([1, 2, 0.5], "found 2.0 for 'bottom'"),
        ([1, np.nan, 0.5], "found nan for 'bottom'"),
        ([1, None, 0.5], "found nan for 'bottom'"),
        ([1, "0.5", 0.5], "found '0.5' for 'bottom'"),
        ({"bottom": [0.5, 0.5]}, "found .*0.5.* for 'bottom'"),
        ({"side": 0.5, "top": 1}, "weight: expected names of sections .*; found weights of 'side'"),
        ([0, 0, 0], "weight: expected a section of weight 1, one that was measured; found weights up to 0"),
        ([0.5, 0.9, 0], "found weights up to 0.9"),
    ],
)
def test_weights_that_are_none(sections, weight, problem):
    with pytest.raises(ValueError, match=rf"1 problem\.\n1\. .*{problem}"):
        isost.pp.stack_sections(sections, z=Z, weight=weight)


def test_a_trust_that_is_none_is_listed_beside_other_problems(sections):
    sections["middle"].uns["histology"] = {"trust": 1.5}
    sections["top"].obs["section_weight"] = np.arange(12) / 12
    with pytest.raises(ValueError, match="3 problems") as caught:
        isost.pp.stack_sections(sections, z=Z | {"top": np.nan})
    assert "section 'middle', uns['histology']['trust']: expected a number from 0 to 1; found 1.5" in str(caught.value)
    assert "section 'top', obs['section_weight']: expected one value for the section; found 0.0, " in str(caught.value)
    assert "section_weight" in isost.pp.stack_sections(sections, z=Z, weight={"middle": 0, "top": 1}).obs


def test_counts_beside_told_expression_are_said(sections, caplog):
    """Told expression is log1p; whole numbers beside it are not."""
    for section in sections.values():
        section.X = np.round(10 * np.asarray(section.X))
    sections["middle"].X = np.log1p(np.asarray(sections["middle"].X) / 3)
    sections["middle"].uns["histology"] = {"trust": 0.5}
    isost.pp.stack_sections(sections, z=dict(zip(sections, (0.0, 10.0, 20.0), strict=True)))
    assert "holds counts, predicted ones log1p" in caplog.text
