"""What a fit chooses: genes, epochs, networks, mixtures, the map of genes; and what it makes of new sections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import anndata
import numpy as np
import ot
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import isost
from isost._core.normalise import Normalisation
from isost._domains import fit, model
from isost._domains.fit import FitOptions, _choose_genes, _epochs, _members
from isost._domains.gene_map import neighbour_correlation, place_genes
from isost._domains.graph import spatial_graph
from isost._domains.mixture import fit_mixtures
from isost._domains.model import Genes
from isost._domains.patches import Patches
from isost._domains.tissue import Tissue
from isost._domains.train import Training

N, K = 300, 3
QUICK = {"n_domains": 3, "n_networks": 2, "epochs": 6, "n_init": 4, "progress": False, "device": "cpu"}


def tissue_of(matrix: np.ndarray, coords: np.ndarray) -> Tissue:
    none = np.zeros(len(coords), dtype=np.int64)
    names = [f"g{k}" for k in range(matrix.shape[1])]
    return Tissue(matrix.astype(np.float32), Normalisation("nothing", None, False, None), names, coords, none, none)


@pytest.mark.parametrize("as_sparse", [False, True])
def test_genes_that_vary_most_in_space_are_chosen(as_sparse: bool) -> None:
    """Ten of fifty, the others larger and wider, whatever the order; with what they are centred and scaled by."""
    draw = np.random.default_rng(0)
    place = draw.uniform(0, 10, (N, 2))
    spatial = np.sort(draw.choice(50, 10, replace=False))
    x = draw.normal(0, 3, (N, 50)) + 20
    turn = draw.uniform(0, 2 * np.pi, 10)
    waves = place @ (0.7 * np.stack([np.cos(turn), np.sin(turn)]))
    x[:, spatial] = np.sin(waves) + 0.4 * draw.normal(size=(N, 10)) + 5
    tissue = tissue_of(x, place)
    graph = spatial_graph(place, tissue.sample)
    if as_sparse:
        tissue = Tissue(sparse.csr_matrix(tissue.matrix), *list(vars(tissue).values())[1:])
    genes = _choose_genes(tissue, graph, 10)
    assert genes.names == [f"g{k}" for k in spatial]
    np.testing.assert_allclose(genes.mean, x[:, spatial].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(genes.deviation, x[:, spatial].std(axis=0), rtol=1e-4)
    fewer = _choose_genes(tissue, graph, 4).names
    assert len(fewer) == 4 and set(fewer) < set(genes.names)
    every = _choose_genes(tissue, graph, None).names
    assert set(genes.names) < set(every) and every == sorted(every, key=lambda name: int(name[1:]))


@pytest.mark.parametrize(
    ("epochs", "n_blocks", "expected"),
    [(100, 1, 100), (100, 4, 25), (100, 7, 15), (100, 1000, 3), (8, 5, 3), (2, 50, 2), (0, 5, 0)],
)
def test_as_many_steps_as_epochs_of_one_step(epochs: int, n_blocks: int, expected: int) -> None:
    """Three epochs at the least, where so many were asked for."""
    assert _epochs(epochs, n_blocks) == expected


def test_steps_of_a_fit_in_blocks(bands: AnnData, fit_quickly: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_CELLS", 50)
    steps, step = [], Training._step

    def noted(self: Training, *given: object) -> tuple[float, float]:
        steps.append(len(self.network.first.bias))
        return step(self, *given)

    monkeypatch.setattr(Training, "_step", noted)
    found = fit_quickly(bands, epochs=20).params["epochs"]
    assert found == 5 and len(steps) == 2 * 20, "two networks, four blocks"


def cells() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Domain (n,) of each cell and what lies around it (n, 6)."""
    draw = np.random.default_rng(0)
    label = draw.permutation(np.repeat(np.arange(K), N // K))
    return label, 4 * np.eye(6)[label] + draw.normal(size=(N, 6)), draw


def members_of(zs: list[np.ndarray], around: np.ndarray, networks: list[str]):
    options = FitOptions(n_domains=K, n_comps=4, n_init=3)
    each = [(z, None, z) for z in zs]
    return _members(networks, each, around, 5.0, options, np.random.default_rng(1))


def planted(label: np.ndarray, noise: float, draw: np.random.Generator) -> np.ndarray:
    return (5 * np.eye(8)[label] + noise * draw.normal(size=(N, 8))).astype(np.float32)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_network_with_the_better_domains_is_kept(order: tuple[int, int]) -> None:
    """Though the other's are as clear in its latents."""
    label, around, draw = cells()
    zs = [planted(draw.permutation(label), 0.3, draw), planted(label, 1.0, draw)]
    names = ["random", "planted"]
    members, kept, found = members_of([zs[k] for k in order], around, [names[k] for k in order])
    assert kept == [order.index(1)]
    assert [member.network for member in members] == ["planted"]
    assert adjusted_rand_score(label, members[0].shares(zs[1]).argmax(axis=1)) > 0.95
    assert len(found["evidence"]) == 2 and found["evidence"][0] > found["evidence"][1] + 0.5


@pytest.mark.parametrize(("n_planted", "of"), [(2, 4), (3, 5), (1, 1)])
def test_the_better_half_is_kept_and_matched(n_planted: int, of: int) -> None:
    label, around, draw = cells()
    good = set(draw.choice(of, n_planted, replace=False).tolist())
    zs = [planted(label if k in good else draw.permutation(label), 0.5, draw) for k in range(of)]
    members, kept, found = members_of(zs, around, [f"network {k}" for k in range(of)])
    assert set(kept) == good and len(kept) == -(-of // 2)
    assert [member.network for member in members] == [f"network {k}" for k in kept]
    assert found["evidence"] == sorted(found["evidence"], reverse=True)
    common = [member.matched[member.shares(zs[k]).argmax(axis=1)] for member, k in zip(members, kept, strict=True)]
    for one in common:
        assert adjusted_rand_score(label, one) > 0.95 and (one == common[0]).mean() > 0.95
    assert found["agreement"] == (None if of == 1 else pytest.approx(1.0, abs=0.05))


@pytest.mark.parametrize(("n", "n_comps", "seen"), [(120, 30, 5), (240, 30, 8), (240, 6, 6), (960, 30, 30)])
def test_a_mixture_of_few_cells_sees_few_components(n: int, n_comps: int, seen: int) -> None:
    """One for every thirty cells, and five at the least."""
    draw = np.random.default_rng(0)
    z, around = draw.normal(size=(n, 32)), draw.normal(size=(n, 3))
    options = FitOptions(n_domains=2, n_comps=n_comps, n_init=1)
    (member,), _, _ = _members(["network"], [(z, None, z)], around, 5.0, options, np.random.default_rng(1))
    assert member.components.axes.shape == (32, seen)
    assert member.mixture.means_.shape == (2, seen)


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_of_the_likeliest_mixtures_that_with_the_largest_evidence_is_taken(
    turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is among them."""
    label, around, draw = cells()
    other = np.where(draw.random(N) < 0.3, draw.integers(K, size=N), label)
    codes = [draw.permutation(label), label, other]
    mixtures = [SimpleNamespace(predict=lambda x, code=code: code[: len(x)]) for code in np.roll(codes, turn, axis=0)]
    asked = []

    def fitted(x: np.ndarray, number: int, **how: object) -> list[SimpleNamespace]:
        asked.append((x.shape, number, how["covariance"], how["n_init"]))
        return mixtures

    monkeypatch.setattr(fit, "fit_mixtures", fitted)
    members, _, found = members_of([planted(label, 1.0, draw)], around, ["one"])
    assert asked == [((N, 4), K, "tied", 3)]
    assert members[0].mixture is mixtures[(1 + turn) % 3]
    np.testing.assert_allclose(found["evidence"], [fit.evidence(around, label)])
    assert found["evidence"][0] > max(fit.evidence(around, code) for code in (codes[0], other))


def together(p: int, seed: int) -> np.ndarray:
    """Correlations of genes, shuffled, that go together in six blocks."""
    draw = np.random.default_rng(seed)
    which = draw.permutation(np.arange(p) % 6)
    signal = draw.normal(size=(400, 6))[:, which]
    return np.corrcoef((signal + 0.5 * draw.normal(size=(400, p))).T)


def test_transport_betters_the_start_of_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Genes whose places share a side are correlated more than on the map that transport starts from."""
    found: dict[str, list[float]] = {"transport": [], "start": [], "random": []}
    for seed in range(4):
        correlation = together(60, seed)
        found["transport"].append(neighbour_correlation(correlation, *place_genes(correlation)))
        found["random"].append(neighbour_correlation(correlation, *place_genes(correlation, np.random.default_rng(0))))
        with monkeypatch.context() as instead:
            instead.setattr(ot.gromov, "gromov_wasserstein", lambda *_, G0, **__: G0)
            found["start"].append(neighbour_correlation(correlation, *place_genes(correlation)))
    assert np.mean(found["transport"]) > np.mean(found["start"]) + 0.03, found
    assert min(found["transport"]) > max(found["random"]) + 0.2, found


def sections(seed: int, *, factors: int | None = None) -> AnnData:
    """Counts of three bands, each with seven of 24 genes for itself; each gene by a factor of its own."""
    draw = np.random.default_rng(seed)
    place = draw.uniform(0, [600, 300], (220, 2))
    band = np.digitize(place[:, 0], [270, 450])
    rate = np.full((220, 24), 2.0)
    for number in range(3):
        rate[np.ix_(band == number, np.arange(7 * number, 7 * number + 7))] *= 4
    if factors is not None:
        rate *= np.exp(np.random.default_rng(factors).normal(0, 1.2, 24))
    adata = AnnData(draw.poisson(rate).astype(np.float32), obsm={"spatial": place})
    adata.obs["band"] = band
    adata.obs_names = [f"{seed}_{k}" for k in range(220)]
    return adata


def test_a_new_section_is_given_the_moments_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its genes measured by other factors than in both batches that were fitted on."""
    both = anndata.concat({"one": sections(0, factors=10), "two": sections(1, factors=11)}, label="sample")
    fitted = isost.SpatialDomains.fit(both, batch_key="sample", **QUICK)
    third, other = sections(2, factors=12), sections(3, factors=13)
    new = anndata.concat({"three": third, "four": other}, label="sample")
    fitted.annotate(third, device="cpu")
    fitted.annotate(new, batch_key="sample", device="cpu")
    score = [adjusted_rand_score(one.obs["band"], one.obs["spatial_domain"]) for one in (third, new)]
    monkeypatch.setattr(Genes, "aligned", Genes.features)
    monkeypatch.setattr("isost._domains.model.adapted", lambda mixture, _: mixture)
    fitted.annotate(third, device="cpu")
    as_it_is = adjusted_rand_score(third.obs["band"], third.obs["spatial_domain"])
    assert min(score) > max(0.9, as_it_is + 0.3), (score, as_it_is)


def test_alignment_by_hand() -> None:
    """Mean and deviation of each gene in each batch become those of the fit; one that is constant only moves."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(90, 4)) * [1, 2, 3, 4] + [5, 6, 7, 8]
    x[:, 3] = 1.5
    tissue = tissue_of(x, draw.uniform(size=(90, 2)))
    batch = np.repeat([0, 1], [30, 60])
    tissue = Tissue(**vars(tissue) | {"batch": batch, "genes": ["d", "a", "b", "c"]})
    genes = Genes(["a", "b", "d"], tissue.how, np.array([1.0, -2.0, 3.0]), np.array([0.5, 2.0, 4.0]))
    constant = Genes(["c"], tissue.how, np.array([7.0]), np.array([2.0]))
    for number in range(2):
        moved = np.asarray(genes.aligned(tissue).matrix)[batch == number]
        np.testing.assert_allclose(moved.mean(axis=0), genes.mean, rtol=1e-4)
        np.testing.assert_allclose(moved.std(axis=0), genes.deviation, rtol=1e-4)
        np.testing.assert_allclose(np.corrcoef(moved[:, 0], x[batch == number, 1])[0, 1], 1.0, rtol=1e-5)
        np.testing.assert_allclose(genes.aligned(tissue).rows(np.arange(90))[batch == number].std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(constant.aligned(tissue).matrix, 7.0, rtol=1e-5)
    first = replace(genes, axes=np.eye(3, 1, dtype=np.float32)).aligned(tissue).rows(np.arange(90))
    np.testing.assert_array_equal(first, genes.aligned(tissue).rows(np.arange(90)) * [1, 0, 0])
    thin = Tissue(**vars(tissue) | {"matrix": sparse.csr_matrix(tissue.matrix)})
    np.testing.assert_allclose(genes.aligned(thin).matrix, genes.aligned(tissue).matrix, rtol=1e-6)


EXTENT = 600.0


def stack(seed: int = 0, n: int = 500) -> AnnData:
    """Two sections; the second of material that was shifted by far more than cells are apart."""
    draw = np.random.default_rng(seed)
    material = draw.uniform(0, EXTENT, (2 * n, 2))
    patterns = np.random.default_rng(7)
    waves = patterns.normal(0, 4 * np.pi / EXTENT, (2, 24))
    x = np.cos(material @ waves + patterns.uniform(0, 2 * np.pi, 24))
    level = np.repeat([0, 1], n)
    place = material + level[:, None] * [70.0, -40.0]
    adata = AnnData(draw.poisson(3 * np.exp(x)).astype(np.float32))
    adata.obsm["spatial"] = np.column_stack([place, 50.0 * level])
    return adata


def test_sections_that_shift_are_joined_where_the_tissue_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fit, and in new cells."""
    graphs: list[sparse.csr_matrix] = []
    init = Patches.__init__

    def noted(self: Patches, graph: sparse.csr_matrix, *rest: object) -> None:
        graphs.append(graph)
        init(self, graph, *rest)

    monkeypatch.setattr(Patches, "__init__", noted)
    adata, new = stack(0), stack(1)
    options = QUICK | {"epochs": 2, "n_networks": 1, "variant": "spatial"}
    fitted = isost.SpatialDomains.fit(adata, **options)
    fitted.annotate(new, device="cpu")
    followed = new.obsm["X_domains"]
    for number, one in enumerate((adata, new)):
        coords, none = one.obsm["spatial"], np.zeros(1000, dtype=np.int64)
        straight = spatial_graph(coords, none)
        steps = [graph[:500, 500:].tocoo() for graph in (graphs[number], straight)]
        apart = [coords[500 + step.col, :2] - coords[step.row, :2] for step in steps]
        inside = [(np.abs(coords[step.row, :2] - EXTENT / 2) < 150).all(axis=1) for step in steps]
        middle = [rows[which].mean(axis=0) for rows, which in zip(apart, inside, strict=True)]
        np.testing.assert_allclose(middle[0], [70, -40], atol=20)
        np.testing.assert_allclose(middle[1], 0, atol=10)
        assert (graphs[number][:500, :500] != straight[:500, :500]).nnz == 0
    for room in (fit, model):
        monkeypatch.setattr(room, "followed", lambda graph, *_: graph)
    fitted.annotate(new, device="cpu")
    assert np.abs(new.obsm["X_domains"] - followed).max() > 0.01 * np.abs(followed).max()
    again = isost.SpatialDomains.fit(adata, **options)
    weight = [one.domains.members[0].network.first.lin.weight.detach() for one in (fitted, again)]
    assert (weight[0] - weight[1]).abs().max() > 1e-4
    assert (graphs[0] != graphs[-1]).nnz > 0


def unequal(seed: int, k: int = 12, q: int = 20, n: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, 20) of twelve domains, each smaller by a quarter, elongated along two axes that tell nothing."""
    draw = np.random.default_rng(seed)
    share = 0.75 ** np.arange(k)
    label = draw.choice(k, n, p=share / share.sum())
    centre = np.zeros((k, q))
    centre[:, 2:] = 4.5 / np.sqrt(2) * draw.normal(size=(k, q - 2))
    x = centre[label] + draw.normal(size=(n, q)) * np.r_[5.0, 3.5, np.ones(q - 2)]
    u, s, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    return u * s, label


def test_starts_of_many_clusters_find_small_and_elongated_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined where the covariance within clusters is one; starts of as many clusters as domains miss some of them."""
    rows = [unequal(seed) for seed in range(6)]

    def found() -> tuple[float, float]:
        made = [fit_mixtures(x, 12, covariance="tied", n_init=12, rng=np.random.default_rng(0))[0] for x, _ in rows]
        score = [adjusted_rand_score(label, one.predict(x)) for one, (x, label) in zip(made, rows, strict=True)]
        return float(np.mean(score)), float(np.mean([one.lower_bound_ for one in made]))

    many = found()
    monkeypatch.setattr("isost._domains.mixture._PIECES", (1,))
    monkeypatch.setattr("isost._domains.mixture._LEADING", (None,))
    one = found()
    assert many[0] > max(0.92, one[0] + 0.08) and many[1] > one[1] + 0.5, (many, one)
