from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.stats import hypergeom

import isost


@pytest.fixture
def tested() -> AnnData:
    """100 genes, of which the first 20 rise, the next 10 fall and the last is peaked."""
    names = [f"G{k}" for k in range(100)]
    kind = ["rising"] * 20 + ["falling"] * 10 + ["flat"] * 69 + ["peaked"]
    table = pd.DataFrame({"class": pd.Categorical(kind), "eta_squared": np.linspace(0.9, 0.1, 100)}, index=names)
    return AnnData(np.zeros((1, 1)), uns={"radial_gradients": {"genes": table}})


@pytest.fixture
def sets() -> dict[str, list[str]]:
    return {
        "mostly rising": [f"G{k}" for k in range(12, 24)],
        "flat": [f"G{k}" for k in range(40, 60)],
        "falling": [*(f"G{k}" for k in range(20, 30)), "not measured"],
        "too small": ["G1", "G2"],
        "strangers": ["A", "B", "C", "D", "E", "F"],
    }


def test_p_values_are_hypergeometric_with_the_genes_that_were_tested(tested: AnnData, sets: dict) -> None:
    found = isost.tl.enrichment(tested, sets)
    assert found.index.tolist() == ["mostly rising", "flat", "falling"]
    row = found.loc["mostly rising"]
    assert (row["overlap"], row["size"]) == (8, 12)
    assert row["p"] == pytest.approx(hypergeom.sf(7, 100, 12, 20))
    assert row["genes"].split(";") == sorted(f"G{k}" for k in range(12, 20))
    assert found.loc["flat", ["overlap", "p", "genes"]].tolist() == [0, 1.0, ""]
    assert row["padj"] == pytest.approx(3 * row["p"]), "also sets without a hit are tested"
    assert row["odds_ratio"] == pytest.approx(8.5 * 76.5 / (4.5 * 12.5)), "of 8, 76, 4 and 12 genes, with 1/2 added"
    assert np.isnan(found.loc["falling", "odds_ratio"]) and found.loc["falling", "p"] == 1


def test_classes_and_the_top_of_them(tested: AnnData, sets: dict) -> None:
    assert isost.tl.enrichment(tested, sets, gradient="falling").index[0] == "falling"
    assert isost.tl.enrichment(tested, sets, n_top=5)["overlap"].sum() == 0
    assert "too small" in isost.tl.enrichment(tested, sets, min_size=2).index


def test_a_gmt_file_is_read(tested: AnnData, sets: dict, tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("".join("\t".join([name, "a description", *genes]) + "\n" for name, genes in sets.items()))
    pd.testing.assert_frame_equal(isost.tl.enrichment(tested, path), isost.tl.enrichment(tested, sets))
    path.write_text("name only\n")
    with pytest.raises(ValueError, match="line 1.*Next"):
        isost.tl.enrichment(tested, path)


def test_it_asks_no_network(tested: AnnData, sets: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    isost.tl.enrichment(tested, sets)
    with pytest.raises(FileNotFoundError, match="online libraries are not looked up"):
        isost.tl.enrichment(tested, "KEGG_2016")


def test_errors_say_what_to_do(tested: AnnData, sets: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="rising, .*Next"):
        isost.tl.enrichment(tested, sets, gradient="flat")
    with pytest.raises(ValueError, match="expected sets with.*Next"):
        isost.tl.enrichment(tested, {"strangers": sets["strangers"]})
    with pytest.raises(TypeError, match="Next"):
        isost.tl.enrichment(tested, 3)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="Next"):
        isost.tl.enrichment(tested, sets, key="never")
    tested.uns["radial_gradients"]["genes"]["class"] = "flat"
    with pytest.raises(ValueError, match="found none of 100.*Next"):
        isost.tl.enrichment(tested, sets)
    tested.uns["radial_gradients"]["genes"]["class"] = "rising"
    monkeypatch.setitem(sys.modules, "gseapy", None)
    monkeypatch.setitem(sys.modules, "gseapy.stats", None)
    with pytest.raises(ImportError, match="pip install"):
        isost.tl.enrichment(tested, sets)


@pytest.fixture
def markers() -> pd.DataFrame:
    """100 genes in two domains; of "L1" the first 20 are markers, of "L2" none."""
    names = [f"G{k}" for k in range(100)]
    parts = [pd.DataFrame({"domain": name, "gene": names, "score": np.linspace(9, -9, 100), "marker": False})
             for name in ("L1", "L2")]  # fmt: skip
    parts[0].loc[:19, "marker"] = True
    return pd.concat(parts, ignore_index=True).sample(frac=1.0, random_state=0)


def test_markers_of_a_domain(tested: AnnData, markers: pd.DataFrame, sets: dict) -> None:
    found = isost.tl.enrichment(markers, sets, domain="L1")
    pd.testing.assert_frame_equal(found, isost.tl.enrichment(tested, sets))
    assert isost.tl.enrichment(markers, sets, domain="L1", n_top=5)["overlap"].sum() == 0
    assert isost.tl.enrichment(markers, sets, domain="L1", n_top=14)["overlap"].sum() == 2, "from the highest score"


def test_the_log_reads_well(
    tested: AnnData, markers: pd.DataFrame, sets: dict, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="isost"):
        isost.tl.enrichment(markers.replace({"domain": {"L1": "0"}}), sets, domain="0")
        isost.tl.enrichment(tested, sets)
    assert "enrichment: 20 genes of '0' in 3 sets, " in caplog.text
    assert "enrichment: 20 rising genes in 3 sets, " in caplog.text


def test_errors_of_markers(tested: AnnData, markers: pd.DataFrame, sets: dict) -> None:
    for domain in (None, "L9"):
        with pytest.raises(ValueError, match=f"domain: expected one of.*found {domain!r}. Next"):
            isost.tl.enrichment(markers, sets, domain=domain)
    with pytest.raises(ValueError, match="domain: expected markers of 'L2', found none among 100 genes. Next"):
        isost.tl.enrichment(markers, sets, domain="L2")
    with pytest.raises(ValueError, match="expected all genes that were tested.*markers alone.*Next"):
        isost.tl.enrichment(markers[markers["marker"]], sets, domain="L1")
    with pytest.raises(ValueError, match="without 'domain', 'gene'.*Next"):
        isost.tl.enrichment(pd.DataFrame({"score": [1.0]}), sets, domain="L1")
    with pytest.raises(ValueError, match="domain: expected it with what.*found AnnData. Next"):
        isost.tl.enrichment(tested, sets, domain="L1")
