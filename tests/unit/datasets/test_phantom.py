from __future__ import annotations

import time
import tracemalloc
from pathlib import Path
from typing import get_args

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from scipy.spatial import cKDTree

from isost.datasets import phantom, phantom_truth
from isost.datasets._panel import CELL_TYPES, DOMAINS, KINDS, domain_membership, type_of_domain
from isost.datasets._shapes import Shape

SHAPES = get_args(Shape)


def _grid(z: float, step: float = 4.0) -> np.ndarray:
    side = np.arange(-900.0, 900.0, step) + step / 2.0
    x, y = np.meshgrid(side, side)
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, z)])


def test_layout() -> None:
    adata = phantom("bending", n_cells=150, n_sections=4, n_genes=25)
    assert sparse.issparse(adata.X) and adata.X.dtype == np.int32
    assert adata.obsm["spatial"].dtype == np.float64 and adata.obsm["spatial"].shape == (adata.n_obs, 3)
    section = adata.obs["section"].cat
    assert section.ordered and section.categories.tolist() == ["s1", "s2", "s3", "s4"]
    np.testing.assert_array_equal(adata.obsm["spatial"][:, 2], 50.0 * section.codes)
    assert set(adata.var["kind"]) == set(KINDS)
    assert adata.obs_names.is_unique and adata.var_names.is_unique


def test_survives_writing_and_the_truth_comes_back(tmp_path: Path) -> None:
    adata = phantom("branching", n_cells=100, n_sections=3, section_effects=0.2, rng=5)
    truth = phantom_truth(adata)
    adata.write_h5ad(tmp_path / "phantom.h5ad")
    again = phantom_truth(ad.read_h5ad(tmp_path / "phantom.h5ad")[:, :7])
    np.testing.assert_array_equal(again.expression(adata.obsm["spatial"]), truth.expression(adata.obsm["spatial"]))


def test_the_seed_decides() -> None:
    one, same, other = (phantom(n_cells=100, n_sections=2, rng=rng) for rng in (1, 1, 2))
    assert (one.X != same.X).nnz == 0
    np.testing.assert_array_equal(one.obsm["spatial"], same.obsm["spatial"])
    assert one.shape != other.shape or (one.X != other.X).nnz > 0
    advancing = np.random.default_rng(0)
    first, second = (phantom(n_cells=100, n_sections=2, rng=advancing) for _ in range(2))
    assert first.uns["phantom"]["seed"] != second.uns["phantom"]["seed"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("z", [0.0, 170.0, 333.0, 400.0])
def test_density_integrates_to_the_number_of_cells(shape: Shape, z: float) -> None:
    truth = phantom_truth(phantom(shape, n_cells=1000))
    integral = truth.density(_grid(z)).sum() * 4.0**2
    assert integral == pytest.approx(1000.0, rel=3e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("z", [0.0, 210.0, 400.0])
def test_cells_are_drawn_from_the_density(shape: Shape, z: float) -> None:
    truth = phantom_truth(phantom(shape, n_cells=1000, n_genes=1))
    n, side = 40_000, 100.0
    cells = truth.sample_section(z, n=n, rng=3).obsm["spatial"]
    assert truth.inside(cells).all()
    grid = _grid(z)
    edges = np.arange(-900.0, 900.0 + side, side)
    expected = np.histogram2d(grid[:, 0], grid[:, 1], edges, weights=truth.density(grid) * 4.0**2)[0] * n / 1000.0
    found = np.histogram2d(cells[:, 0], cells[:, 1], edges)[0]
    full = expected > 50.0
    expected *= n / expected.sum()
    deviation = ((found - expected)[full] ** 2 / expected[full]).sum()
    # The grid's own error at the outline widens the chi-squared distribution a little.
    assert deviation < 1.5 * stats.chi2.ppf(0.999, full.sum())


def test_still_is_evenly_dense_but_for_the_known_slope() -> None:
    truth = phantom_truth(phantom("still"))
    y = np.linspace(-300.0, 300.0, 13)
    density = truth.density(np.column_stack([np.zeros_like(y), y, np.full_like(y, 100.0)]))
    np.testing.assert_allclose(density, density[0])
    left, right = truth.density(np.array([[-400.0, 0.0, 0.0], [400.0, 0.0, 0.0]]))
    assert right / left == pytest.approx(1.32 / 0.68)


def test_mean_counts_are_the_expected_ones() -> None:
    truth = phantom_truth(phantom("bending", n_genes=20, library_size=400.0))
    cells = truth.sample_section(130.0, n=20_000, rng=1)
    expected = truth.rate(cells.obsm["spatial"]) * 400.0 / 1e4
    for region in (cells.obs["domain"] == "layer 1", cells.obs["domain"] == "nucleus"):
        counts = cells.X[region.to_numpy()].toarray()
        error = counts.std(axis=0) / np.sqrt(len(counts))
        deviation = (counts.mean(axis=0) - expected[region.to_numpy()].mean(axis=0)) / error
        assert np.abs(deviation).max() < 4.5
    assert cells.X.sum(axis=1).mean() == pytest.approx(400.0, rel=0.02)


def test_without_count_noise_the_mean_is_the_expression() -> None:
    adata = phantom("branching", n_cells=6000, n_sections=3, n_genes=20, count_noise=False)
    truth = phantom_truth(adata)
    assert isinstance(adata.X, np.ndarray) and adata.X.dtype == np.float32
    deviation = adata.X - truth.expression(adata.obsm["spatial"])
    # What is left is the cell's own type, which averages out.
    error = deviation.std(axis=0) / np.sqrt(adata.n_obs)
    assert (np.abs(deviation.mean(axis=0)) < 4.5 * error + 1e-6).all()
    own_type = adata.X[:, (adata.var["kind"] == "cell_type").to_numpy()]
    assert (
        own_type[adata.obs["cell_type"] == "type 1", 0].mean()
        > own_type[adata.obs["cell_type"] == "glia", 0].mean() + 0.5
    )


def test_normalised_counts_tend_to_the_expression() -> None:
    truth = phantom_truth(phantom(n_genes=30, library_size=1e6))
    cells = truth.sample_section(50.0, n=3000, rng=0)
    counts = cells.X.toarray().astype(np.float64)
    normalised = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    expected = truth.expression(cells.obsm["spatial"])
    smooth = ~cells.var["kind"].isin(["noise", "cell_type"]).to_numpy()
    # A cell's noise genes and its type shift its total by some per cent, which the mean over cells takes out.
    assert np.abs((normalised - expected).mean(axis=0)[smooth]).max() < 0.03


def test_patterns_are_carried_by_the_tissue() -> None:
    truth = phantom_truth(phantom("bending"))
    a, b = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 200))
    first, last = (truth.geometry.to_physical(a, b, z) for z in (0.0, 400.0))
    carried = [name for name in truth.genes if name.startswith(("layered", "radial", "marker"))]
    still = [name for name in truth.genes if name.startswith(("gradient_z", "travelling"))]
    # The sum over genes changes with the depth-dependent ones, so ratios to a constant gene are compared.
    change = {}
    for names in (carried, still):
        ratio = [np.log(truth.rate(c, genes=names) / truth.rate(c, genes=["constant_1"])) for c in (first, last)]
        change[names[0]] = np.abs(ratio[1] - ratio[0]).max(axis=0)
    np.testing.assert_allclose(change[carried[0]], 0.0, atol=1e-8)
    assert (change[still[0]] > 0.5).all()
    np.testing.assert_array_equal(truth.domain(first), truth.domain(last))


def test_outside_is_said_to_be_outside() -> None:
    truth = phantom_truth(phantom(n_genes=12))
    coords = np.array([[0.0, 0.0, 100.0], [5000.0, 0.0, 100.0]])
    assert truth.inside(coords).tolist() == [True, False]
    assert truth.density(coords)[1] == 0.0
    assert np.isfinite(truth.expression(coords)[0]).all() and np.isnan(truth.expression(coords)[1]).all()
    assert truth.domain(coords)[1] == ""


def test_genes_are_chosen_by_name() -> None:
    truth = phantom_truth(phantom(n_genes=12))
    coords = np.array([[10.0, 20.0, 100.0]])
    names = [truth.genes[7], truth.genes[2]]
    np.testing.assert_allclose(truth.expression(coords, genes=names), truth.expression(coords)[:, [7, 2]])
    with pytest.raises(KeyError, match="Next"):
        truth.expression(coords, genes=["Gad1"])


def test_domains_and_types_agree() -> None:
    adata = phantom("bending", n_cells=3000, n_sections=3, n_genes=2)
    truth = phantom_truth(adata)
    np.testing.assert_array_equal(truth.domain(adata.obsm["spatial"]), adata.obs["domain"].astype(str))
    probability = truth.type_probability(adata.obsm["spatial"])
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    found = np.bincount(adata.obs["cell_type"].cat.codes, minlength=len(CELL_TYPES))
    np.testing.assert_allclose(found, probability.sum(axis=0), atol=4.5 * np.sqrt(found.max()))
    for domain, own in zip(DOMAINS, CELL_TYPES, strict=False):
        inside = adata.obs.loc[adata.obs["domain"] == domain, "cell_type"]
        assert inside.value_counts().idxmax() == own


def test_targets_are_where_their_genes_are_high() -> None:
    adata = phantom(n_cells=3000, n_sections=2, count_noise=False)
    for kind, label, names in (("marker", "domain", DOMAINS), ("cell_type", "cell_type", CELL_TYPES)):
        genes = adata.var_names[adata.var["kind"] == kind]
        assert len(genes) >= len(names) - 1
        mean = pd.DataFrame(adata[:, genes].X, columns=genes).groupby(adata.obs[label].to_numpy()).mean()
        assert mean.idxmax().tolist() == adata.var.loc[genes, "target"].tolist()


def test_memberships_are_probabilities() -> None:
    a, b = np.random.default_rng(0).uniform(-1.0, 1.0, (2, 300))
    membership = domain_membership(a, b)
    np.testing.assert_allclose(membership.sum(axis=1), 1.0)
    np.testing.assert_allclose(type_of_domain().sum(axis=1), 1.0)
    assert np.unique(membership.argmax(axis=1)).size == len(DOMAINS)


def test_section_effects_are_recorded_and_act() -> None:
    adata = phantom(n_cells=4000, n_sections=3, n_genes=15, section_effects=0.5, rng=2)
    truth = phantom_truth(adata)
    gain, offset = adata.varm["section_gain"], adata.varm["section_offset"]
    assert gain.shape == offset.shape == (15, 3)
    assert (offset >= 0.0).all() and gain.std() > 0.1
    for k in range(3):
        section = adata[adata.obs["section"].cat.codes == k]
        share = truth.rate(section.obsm["spatial"]).mean(axis=0) / 1e4
        expected = adata.uns["phantom"]["library_size"] * (gain[:, k] * share + offset[:, k])
        counts = section.X.toarray()
        error = counts.std(axis=0) / np.sqrt(len(counts))
        assert (np.abs(counts.mean(axis=0) - expected) < 4.5 * error).all()


def test_dropout_takes_a_hole() -> None:
    whole = phantom(n_cells=4000, n_sections=2, n_genes=1)
    torn = phantom(n_cells=4000, n_sections=2, n_genes=1, dropout=0.1)
    assert torn.n_obs == pytest.approx(0.9 * whole.n_obs, rel=0.05)
    xy = torn[torn.obs["section"] == "s1"].obsm["spatial"][:, :2]
    grid = _grid(0.0, 10.0)
    inside = grid[phantom_truth(torn).inside(grid), :2]
    nearest, _ = cKDTree(xy).query(inside)
    assert nearest.max() > 80.0


def test_a_section_between_sections() -> None:
    truth = phantom_truth(phantom("branching", n_genes=12))
    section = truth.sample_section(123.0, rng=0)
    assert section.obs["section"].cat.categories.tolist() == ["z123"]
    assert (section.obsm["spatial"][:, 2] == 123.0).all()
    assert section.n_obs == pytest.approx(2000, abs=200)
    with pytest.raises(ValueError, match="between 0 and 400"):
        truth.sample_section(401.0)


def test_time_is_linear_in_cells() -> None:
    def seconds(n_cells: int) -> float:
        start = time.perf_counter()
        adata = phantom("branching", n_cells=n_cells, n_sections=5, n_genes=20)
        assert adata.n_obs == pytest.approx(5 * n_cells, rel=0.05)
        return time.perf_counter() - start

    seconds(100)
    small, large = seconds(5_000), seconds(20_000)
    assert large < 8.0 * small + 1.0
    assert large < 20.0


def test_memory_is_linear_in_cells() -> None:
    def peak(n_cells: int) -> int:
        tracemalloc.start()
        phantom("bending", n_cells=n_cells, n_sections=4, n_genes=20)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(100)
    small, large = peak(5_000), peak(40_000)
    assert large < 9.0 * small
    # A count and its column take 8 bytes, and rows are held once in blocks and once joined.
    assert large < 4 * 40_000 * (20 * 8 * 2 + 400) + 2e8


def test_wrong_parameters_are_named_together() -> None:
    with pytest.raises(ValueError, match="shape.*n_sections.*n_cells.*spacing.*dropout.*Next"):
        phantom("twisting", n_sections=1, n_cells=0, spacing=0.0, dropout=1.0)  # type: ignore[call-overload]
    with pytest.raises(KeyError, match="Next"):
        phantom_truth(ad.AnnData(np.zeros((2, 2))))
