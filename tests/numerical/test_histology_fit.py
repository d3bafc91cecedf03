"""What a fit of expression to features computes, beside formulas written out, scipy and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from anndata import AnnData
from scipy import stats
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, r2_score, root_mean_squared_error

import isost
from isost._histology import fit as room
from isost._histology import network as networks
from isost._histology import ridge as ridges
from isost._histology.accuracy import accuracy_of, trust_in
from isost._histology.network import DualOutput, NetworkOptions, train_network
from isost._histology.noise import find_calls, find_noise
from isost._histology.ridge import PENALTIES, ridge_path
from isost._histology.split import folds_of, seen
from isost.metrics import bin_side

CPU = torch.device("cpu")
HOW: dict[str, dict[str, Any]] = {
    "ridge": {"method": "ridge"},
    "network": {"method": "network", "hidden": (32,), "epochs": 20},
    "prts": {"method": "prts", "hidden": (32, 32), "epochs": 20},
}


def similar(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-0.3 / x.shape[1] * ((x[:, None].astype(float) - y[None]) ** 2).sum(axis=2))


def exact(x: np.ndarray, scores: np.ndarray, penalty: float, at: np.ndarray) -> np.ndarray:
    """Kernel ridge regression, solved as it stands in the books."""
    return similar(at, x) @ np.linalg.solve(similar(x, x) + penalty * np.eye(len(x)), scores)


def drawn(n: int = 120, d: int = 6, r: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, d)).astype(np.float32)
    noise = draw.normal(size=(n, r)) * np.array([0.05, 0.5, 5.0])[:r]
    return x, np.sin(x[:, :r]) + noise


def test_ridge_with_all_cells_as_landmarks_is_exact() -> None:
    x, scores = drawn()
    at = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)
    for penalty, one in zip(PENALTIES, ridge_path(x, scores, PENALTIES, 0), strict=True):
        np.testing.assert_allclose(one.predict(at), exact(x, scores, penalty, at), rtol=1e-4, atol=1e-5)


def test_ridge_through_fewer_landmarks_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ridges, "_LANDMARKS", 60)
    x, scores = drawn(300, 3)
    one = ridge_path(x, scores, (1.0,), 0)[0]
    assert one.landmarks.shape == (60, 3) and one.weights.shape == (60, 3)
    wanted = exact(x, scores, 1.0, x)
    assert np.sqrt(((one.predict(x) - wanted) ** 2).mean()) < 0.02 * wanted.std()


def test_ridge_of_cells_that_look_alike() -> None:
    x, scores = drawn(40)
    x[1] = x[0]
    for penalty, one in zip((1.0, 10.0), ridge_path(x, scores, (1.0, 10.0), 0), strict=True):
        np.testing.assert_allclose(one.predict(x), exact(x, scores, penalty, x), rtol=1e-4, atol=1e-4)


def test_each_component_has_the_penalty_that_tells_held_out_tissue_best() -> None:
    x, scores = drawn(240, 6)
    coords = np.random.default_rng(2).uniform(0, 2000, (240, 2))
    slide = np.zeros(240, dtype=int)
    fold = folds_of(slide, coords)
    trained = [seen(fold, number, slide, coords) for number in range(int(fold.max()) + 1)]
    found, held_out = room._ridges(x, scores, fold, trained, 0, progress=False)
    told = np.empty((len(PENALTIES), *scores.shape))
    for held in range(4):
        rows = seen(fold, held, slide, coords)
        for place, penalty in enumerate(PENALTIES):
            told[place][fold == held] = exact(x[rows], scores[rows], penalty, x[fold == held])
    best = ((told - scores) ** 2).mean(axis=1).argmin(axis=0)
    assert len(set(best)) > 1 and best[0] < best[2], best
    for k in range(3):
        np.testing.assert_allclose(held_out[:, k], told[best[k], :, k], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.predict(x)[:, k], exact(x, scores, PENALTIES[best[k]], x)[:, k], atol=1e-5)


def a_network(n_levels: int = 3) -> DualOutput:
    torch.manual_seed(0)
    network = DualOutput(4, 2, n_levels, (8,), 0.3).eval()
    network.odds.copy_(torch.tensor([1.5, -0.7]))
    network.spread.copy_(torch.linspace(0.5, 2.0, n_levels))
    network.centre.copy_(torch.linspace(-1.0, 1.0, n_levels))
    return network


@pytest.mark.parametrize("components", [True, False])
def test_losses_are_those_that_are_written_out(components: bool) -> None:
    draw = np.random.default_rng(0)
    n_levels = 3 if components else 2
    network = a_network(n_levels)
    x, on = draw.normal(size=(50, 4)), draw.random((50, 2)) < [0.2, 0.7]
    level = draw.normal(size=(50, n_levels))
    tensors = [torch.tensor(x, dtype=torch.float32), torch.tensor(on), torch.tensor(level, dtype=torch.float32)]
    with torch.no_grad():
        gate, wrong = (float(loss) for loss in networks._losses(network, *tensors, components))
        logits, found = (each.double().numpy() for each in network(tensors[0]))
    p = 1 / (1 + np.exp(-logits))
    weight = np.where(on, np.exp([1.5, -0.7]), 1.0)
    weight /= 2 / (1 + np.exp([-1.5, 0.7]))  # mean weight of what the odds are of
    assert gate == pytest.approx(-(weight * np.where(on, np.log(p), np.log(1 - p))).mean(), rel=1e-5)
    spread, centre = np.linspace(0.5, 2.0, n_levels), np.linspace(-1.0, 1.0, n_levels)
    apart = found - (level - centre) / spread
    if components:
        wanted = (((found * spread + centre - level) ** 2).sum(axis=1) / (spread**2).sum()).mean()
        assert wanted == pytest.approx(((apart * spread) ** 2).sum(axis=1).mean() / (spread**2).sum())
    else:
        wanted = (apart**2)[on].mean()  # of cells that express a gene
    assert wrong == pytest.approx(wanted, rel=1e-5)


def test_what_a_network_found_undoes_weights_and_units() -> None:
    network, x = a_network(), torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (logits, level), (probability, found) = network(x), network.found(x)
    odds = logits.exp() / torch.tensor([1.5, -0.7]).exp()
    torch.testing.assert_close(probability, odds / (1 + odds))
    torch.testing.assert_close(found, level * torch.linspace(0.5, 2.0, 3) + torch.linspace(-1.0, 1.0, 3))


def random_task(n: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features that say nothing; genes that a tenth, half and four fifths of cells express."""
    draw = np.random.default_rng(seed)
    x, on = draw.normal(size=(n, 5)).astype(np.float32), draw.random((n, 3)) < [0.1, 0.5, 0.8]
    return torch.from_numpy(x), torch.from_numpy(on), torch.from_numpy(draw.normal(size=(n, 3)).astype(np.float32))


def trained(task: Any, rows: np.ndarray, held: np.ndarray, options: NetworkOptions, seed: int = 0) -> Any:
    return train_network(*task, rows, held, options, seed=seed, device=CPU, told=lambda: None)


@pytest.mark.parametrize("components", [True, False])
def test_the_probability_is_the_share_where_features_say_nothing(components: bool) -> None:
    task = random_task(2000)
    options = NetworkOptions((8,), 0.2, 3e-3, batch_size=64, epochs=25, patience=25, components=components)
    network, _ = trained(task, np.arange(1500), np.arange(1500, 2000), options)
    gate, _ = networks.network_found(network, task[0].numpy()[1500:], CPU)
    np.testing.assert_allclose(gate.mean(axis=0), task[1][:1500].float().mean(axis=0), atol=0.06)


def test_the_best_epoch_is_kept_and_training_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, states = [5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 2.1, 1.0], []

    def scripted(network: DualOutput, *_: Any) -> float:
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return losses[len(states) - 1]

    monkeypatch.setattr(networks, "_held_out_loss", scripted)
    options = NetworkOptions((8,), 0.2, 1e-2, batch_size=50, epochs=20, patience=3)
    network, history = trained(random_task(), np.arange(400), np.arange(400, 600), options)
    assert history["held_out"] == losses[:7] and len(history["trained"]) == 7
    for name, value in network.state_dict().items():
        assert torch.equal(value, states[3][name]), name
    assert any(not torch.equal(states[3][name], states[6][name]) for name in states[3])
    assert not network.training


def test_the_loss_that_stops_is_that_of_the_cells_that_are_held_out() -> None:
    task = random_task()
    options = NetworkOptions((8,), 0.2, 1e-2, batch_size=50, epochs=4)
    network, history = trained(task, np.arange(400), np.arange(400, 600), options)
    with torch.no_grad():
        again = float(networks._losses(network, *(part[400:] for part in task), True)[1])
    assert min(history["held_out"]) == pytest.approx(again, rel=1e-5)


def test_training_repeats_itself_and_leaves_global_state_alone() -> None:
    task, options = random_task(200), NetworkOptions((8,), 0.2, 1e-2, batch_size=50, epochs=3)
    before = torch.random.get_rng_state()
    one, first = trained(task, np.arange(150), np.arange(150, 200), options, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(99)
    two, second = trained(task, np.arange(150), np.arange(150, 200), options, seed=5)
    _, third = trained(task, np.arange(150), np.arange(150, 200), options, seed=6)
    assert first == second != third
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("n", [2, 3, 41, 43])
def test_no_batch_is_of_a_single_cell(n: int) -> None:
    options = NetworkOptions((8,), 0.2, 1e-2, batch_size=2, epochs=1)
    _, history = trained(random_task(100), np.arange(n), np.arange(50, 100), options)
    assert np.isfinite(history["held_out"]).all()


def noisy(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three genes, the spread of which grows with what is expected, differently; residuals of the last are skewed."""
    draw = np.random.default_rng(seed)
    expected = draw.uniform(1, 4, (n, 3))
    noise = np.column_stack([draw.normal(size=(n, 2)), draw.exponential(size=n) - 1])
    return expected, np.maximum(expected + np.sqrt([0.05, 0.01, 0.1] + expected * [0.0, 0.06, 0.04]) * noise, 0)


def test_the_noise_is_that_which_was_drawn() -> None:
    expected, measured = noisy(20_000, 0)
    noise = find_noise(expected, measured)
    at = np.tile(np.array([[1.2], [2.5], [3.8]]), (1, 3))
    np.testing.assert_allclose(noise.deviation(at), np.sqrt([0.05, 0.01, 0.1] + at * [0.0, 0.06, 0.04]), rtol=0.08)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.98])
def test_intervals_hold_the_share_that_was_asked_for(level: float) -> None:
    noise = find_noise(*noisy(4000, 0))
    expected, measured = noisy(4000, 1)
    lower, upper = noise.interval(expected, level)
    inside = (lower <= measured) & (measured <= upper)
    np.testing.assert_allclose(inside.mean(axis=0), level, atol=0.025)
    for low, high in ((1, 2), (3, 4)):
        part = (expected >= low) & (expected < high)
        share = [inside[part[:, gene], gene].mean() for gene in range(3)]
        np.testing.assert_allclose(share, level, atol=0.05, err_msg="where little, or much, is expected")


def test_intervals_of_a_gene_without_noise_and_of_one_that_is_never_found() -> None:
    expected = np.column_stack([np.linspace(0, 2, 50), np.zeros(50)])
    noise = find_noise(expected, expected)
    lower, upper = noise.interval(expected, 0.9)
    assert np.isfinite(noise.deviation(expected)).all() and noise.deviation(expected).max() < 1e-3
    np.testing.assert_allclose(lower, expected, atol=1e-3)
    assert (lower <= upper).all() and (lower >= 0).all()


def test_calls_are_logistic_regression() -> None:
    draw = np.random.default_rng(0)
    expected = draw.gamma(2.0, 0.7, (400, 4))
    expected[:, 2] *= 0.05
    on = draw.random((400, 4)) < 1 / (1 + np.exp(-([-2.0, 1.0, 0.0, -4.0] + expected * [1.5, -0.4, 20.0, 1.0])))
    on[:, 3] = expected[:, 3] > np.median(expected[:, 3])  # told without error
    calls = find_calls(expected, on)
    for gene in range(4):
        sklearns = LogisticRegression(C=1.0, tol=1e-9, max_iter=5000).fit(expected[:, [gene]], on[:, gene])
        wanted = sklearns.predict_proba(expected[:, [gene]])[:, 1]
        np.testing.assert_allclose(calls.probability(expected)[:, gene], wanted, atol=1e-3)


def test_calls_of_genes_that_all_cells_express_or_none() -> None:
    expected = np.column_stack([np.linspace(0, 3, 60), np.linspace(0, 3, 60), np.zeros(60)])
    on = np.column_stack([np.ones(60), np.zeros(60), np.arange(60) % 4 == 0]).astype(bool)
    found = find_calls(expected, on).probability(expected)
    assert found[:, 0].min() > 0.95 and found[:, 1].max() < 0.05
    np.testing.assert_allclose(found[:, 2], 0.25, atol=1e-5)


def test_columns_of_the_accuracy() -> None:
    draw = np.random.default_rng(0)
    section = np.repeat([0, 1, 2], [50, 80, 70])
    measured = np.maximum(draw.normal(0.5, 1, (200, 4)), 0)
    expected = 0.5 * measured + draw.normal(size=(200, 4)) + section[:, None]
    expressed = draw.random((200, 4))
    measured[:, 3], expected[:, 2] = 0, 1
    found = accuracy_of(expected, expressed, measured, section)
    assert set(found) == {"pcc", "rmse", "r2", "call_accuracy", "expressed"}
    for gene in range(4):
        parts = [(expected[section == k, gene], measured[section == k, gene]) for k in range(3)]
        if gene < 2:
            assert found["pcc"][gene] == pytest.approx(np.mean([stats.pearsonr(*part)[0] for part in parts]))
        assert found["rmse"][gene] == pytest.approx(np.mean([root_mean_squared_error(*part) for part in parts]))
        if gene < 3:
            assert found["r2"][gene] == pytest.approx(r2_score(measured[:, gene], expected[:, gene]))
            on = measured[:, gene] > 0
            wanted = balanced_accuracy_score(on, expressed[:, gene] > on.mean())
            assert found["call_accuracy"][gene] == pytest.approx(wanted)
    assert found["pcc"][2] == found["pcc"][3] == found["r2"][3] == found["expressed"][3] == 0
    assert np.isnan(found["call_accuracy"][3])


def alike(n: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Smooth expression of two genes that four sections share, measured at other places of each."""
    draw = np.random.default_rng(seed)
    place, section = draw.uniform(0, 1000, (4 * n, 2)), np.repeat(np.arange(4), n)
    return np.column_stack([np.sin(place[:, 0] / 200), np.cos(place[:, 1] / 200)]), place, section


@pytest.mark.parametrize("depth", [None, [0.0, 30.0, 10.0, 20.0]])
def test_trust_is_least_squares(depth: list[float] | None) -> None:
    truth, place, section = alike(60)
    draw = np.random.default_rng(1)
    own = np.sin(place / 80 + section[:, None])
    measured = truth + own + 0.5 * draw.normal(size=truth.shape) + 3 * section[:, None]
    expected = truth + own + draw.normal(size=truth.shape) - section[:, None]
    beside = {0: [1, 2, 3], 1: [0, 2, 3], 2: [0, 1, 3], 3: [0, 1, 2]}
    if depth is not None:
        beside = {0: [2], 2: [0, 3], 3: [2, 1], 1: [3]}
    width = 2 * bin_side([place[section == k] for k in range(4)])
    centred = measured - np.array([measured[section == k].mean(axis=0) for k in range(4)])[section]
    said = expected - np.array([expected[section == k].mean(axis=0) for k in range(4)])[section]
    around = np.zeros_like(measured)
    for cell in range(len(measured)):
        for other in beside[section[cell]]:
            rows = section == other
            weight = np.exp(-((place[rows] - place[cell]) ** 2).sum(axis=1) / (2 * width**2))
            around[cell] += weight @ centred[rows] / weight.sum() / len(beside[section[cell]])

    def least_squares(rows: np.ndarray) -> float:
        step = (said - around)[rows].reshape(-1, 1)
        return float(np.linalg.lstsq(step, (centred - around)[rows].ravel(), rcond=None)[0][0])

    left = np.array([least_squares(section != k) for k in range(4)])
    wanted = least_squares(section >= 0) - np.sqrt(3 / 4 * ((left - left.mean()) ** 2).sum())
    assert 0.05 < wanted < 0.95
    found = trust_in(expected, measured, place, section, None if depth is None else np.array(depth), section)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_trust_at_its_ends() -> None:
    truth, place, section = alike()
    noise = np.random.default_rng(1).normal(size=truth.shape)
    assert trust_in(truth, truth, place, section, None, section) == 0.95, "told is not measured"
    assert trust_in(noise, noise, place, section, None, section) == 0.95, "neighbours say nothing"
    assert trust_in(noise, truth, place, section, None, section) < 0.05
    one, fold = section == 0, np.arange(100) % 4
    assert trust_in(truth[one], truth[one], place[one], section[one], None, fold) == 0.95
    assert trust_in(noise[one], truth[one], place[one], section[one], None, fold) < 0.2
    assert trust_in(-truth[one], truth[one], place[one], section[one], None, fold) == 0
    assert trust_in(np.zeros((100, 2)), truth[one], place[one], section[one], None, fold) == 0
    small = [trust_in(0.01 * np.random.default_rng(k).normal(size=(100, 2)), truth[one], place[one], section[one], None,
                      fold) for k in range(20)]  # fmt: skip
    assert np.mean(small) < 0.4, "a weight of what says nothing is uncertain"


def slides_of(
    n_slides: int, n: int, *, signal: float, n_fields: int, seed: int = 0
) -> tuple[AnnData, dict[str, AnnData]]:
    """Genes smooth in space, on slides that differ; features follow them by `signal`, else they are noise."""
    draw = np.random.default_rng(seed)
    parts, features = [], {}
    for number in range(n_slides):
        place = draw.uniform(0, 1000, (n, 2))
        field = np.stack([gaussian_filter(draw.normal(size=(50, 50)), 6) for _ in range(n_fields)], axis=-1)
        field = (field / field.std(axis=(0, 1)))[tuple((place / 20).astype(int).T)]
        truth = np.tile(field, (1, 30 // n_fields))
        counts = draw.poisson(np.exp(0.6 * truth + draw.normal(0, 0.3, 30) + np.linspace(-1, 2, 30)))
        names = [f"{number}_{k}" for k in range(n)]
        parts.append(AnnData(counts.astype(np.float32)))
        parts[-1].obs_names = names
        x = signal * np.resize(field.T, (40, n)).T + draw.normal(size=(n, 40))
        features[str(number)] = AnnData(x.astype(np.float32), obsm={"spatial": place})
        features[str(number)].obs_names = names
        features[str(number)].uns["histology"] = {"encoder": "texture", "normalise_stain": True, "radius": 0.0}
    whole = parts[0] if n_slides == 1 else together(parts)
    whole.var_names = [f"gene{k}" for k in range(30)]
    return whole, features


def together(parts: list[AnnData]) -> AnnData:
    whole = AnnData(np.concatenate([part.X for part in parts]))
    whole.obs_names = [name for part in parts for name in part.obs_names]
    return whole


@pytest.mark.parametrize(("n_slides", "n"), [(1, 600), (2, 300), (3, 200)])
@pytest.mark.parametrize("method", HOW)
def test_features_that_say_nothing_have_no_accuracy(method: str, n_slides: int, n: int) -> None:
    """A leak of the tissue that is held out would show; so would means of the rest, low where that tissue is high."""
    pcc, calls = [], []
    for seed in range(2):
        adata, features = slides_of(n_slides, n, signal=0.0, n_fields=30, seed=seed)
        model = isost.tl.fit_histology(adata, features, **HOW[method], rng=seed, progress=False, device="cpu")
        pcc.append(model.accuracy["pcc"].mean())
        some = model.accuracy["expressed"].between(0.1, 0.9)
        calls.append(model.accuracy["call_accuracy"][some].mean())
        assert model.accuracy["r2"].mean() < 0.02
    assert abs(np.mean(pcc)) < 0.05, pcc
    assert abs(np.mean(calls) - 0.5) < 0.05, calls


@pytest.mark.parametrize("n_slides", [1, 3])
@pytest.mark.parametrize("method", HOW)
def test_accuracy_on_held_out_tissue_is_that_on_another_slide(method: str, n_slides: int) -> None:
    adata, features = slides_of(4, 250, signal=1.0, n_fields=3)
    given = {name: features[name] for name in list(features)[:n_slides]}
    measured = adata[[name.split("_")[0] in given for name in adata.obs_names]]
    model = isost.tl.fit_histology(measured, given, **HOW[method], progress=False, device="cpu")
    other = adata[features["3"].obs_names, model.genes].X
    wanted = np.log1p(other / adata[features["3"].obs_names].X.sum(axis=1, keepdims=True) * 1e4)
    told = model.predict(features["3"], device="cpu", interval=0.9)
    scores = isost.metrics.score_expression(
        told.X, wanted, expressed=told.layers["expressed"], lower=told.layers["lower"], upper=told.layers["upper"]
    )
    assert scores["pcc"].mean() > 0.2
    assert model.accuracy["pcc"].mean() == pytest.approx(scores["pcc"].mean(), abs=0.1)
    if n_slides == 1:  # does not say how much slides differ
        return
    some = scores["expressed"].between(0.1, 0.9).to_numpy()
    assert model.accuracy["call_accuracy"][some].mean() == pytest.approx(scores["call_accuracy"][some].mean(), abs=0.06)
    assert scores["coverage"].mean() == pytest.approx(0.9, abs=0.05)
    residual = np.sqrt(((told.X - wanted) ** 2).mean(axis=0))
    assert np.median(np.sqrt((told.layers["sd"] ** 2).mean(axis=0)) / residual) == pytest.approx(1, abs=0.12)


def test_networks_see_nothing_of_what_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    adata, features = slides_of(2, 200, signal=1.0, n_fields=3)
    calls = []

    def watched(x: Any, on: Any, level: Any, rows: np.ndarray, held: np.ndarray, *how: Any, **more: Any) -> Any:
        calls.append((rows, held))
        return train_network(x, on, level, rows, held, *how, **more)

    monkeypatch.setattr(room, "train_network", watched)
    isost.tl.fit_histology(adata, features, **HOW["network"] | {"epochs": 1}, n_networks=2, progress=False)
    place = np.concatenate([part.obsm["spatial"] for part in features.values()])
    slide = np.repeat([0, 1], 200)
    assert len(calls) == 8 and sorted(np.concatenate([held for _, held in calls[::2]])) == list(range(400))
    for rows, held in calls:
        assert not np.intersect1d(rows, held).size
        apart = np.hypot(*(place[rows][:, None] - place[held][None]).transpose(2, 0, 1))
        assert apart[slide[rows] == slide[held[0]]].min() > 20


def test_a_training_that_diverges_is_said() -> None:
    draw = np.random.default_rng(0)
    x, on = torch.tensor(draw.normal(size=(60, 3)), dtype=torch.float32), torch.ones(60, 2, dtype=torch.bool)
    level = torch.full((60, 2), torch.nan)
    options = NetworkOptions((4,), 0.1, 1e-3, epochs=3)
    with pytest.raises(ValueError, match="learning_rate: expected a training whose loss is finite"):
        networks.train_network(x, on, level, np.arange(40), np.arange(40, 60), options, seed=0,
                               device=torch.device("cpu"), told=lambda: None)  # fmt: skip
