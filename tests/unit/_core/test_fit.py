from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from isost._core.bridge import BridgeObjective
from isost._core.carry import carry
from isost._core.fit import Fitted, choose_device, fit_stack
from isost._core.options import FitOptions
from isost._core.stack import Stack
from isost._core.trajectory import TrajectoryObjective

OBJECTIVES = {"bridge": BridgeObjective, "trajectory": TrajectoryObjective}
QUICK = {"epochs": 2, "width": 8, "dz": 0.5, "max_cells": 25}
N = 40


@pytest.fixture
def stack(stack_of: Callable[..., Stack]) -> Stack:
    """The same cells in three sections, moved by (25, -15) µm and raised by 0.2 from each to the next."""
    draw = np.random.default_rng(0)
    cells = draw.uniform(0, [400, 300], (N, 2))
    level = np.column_stack([np.sin(cells[:, 0] / 60), np.cos(cells[:, 1] / 50), cells.sum(axis=1) / 300])
    return stack_of(
        [cells + k * np.array([25.0, -15.0]) for k in range(3)], [level + 0.2 * k for k in range(3)], [0.0, 50.0, 100.0]
    )


def fit(stack: Stack, seed: int = 0, objective: str = "bridge", preset: str | None = None, **options: float) -> Fitted:
    return fit_stack(
        stack, objective=objective, preset=preset, device="cpu", progress=False,
        generator=torch.Generator().manual_seed(seed), options=FitOptions(**{**QUICK, **options}),
    )  # fmt: skip


def weights(fitted: Fitted) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in fitted.model.state_dict().values()])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_seed_gives_the_same_fit_twice_and_another_seed_another(stack: Stack, objective: str) -> None:
    first, again, other = (fit(stack.select([0, 1]), seed, objective, epochs=1) for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(again))
    assert first.history == again.history
    places = stack.coords[:9] + [0.0, 0.0, 20.0]
    assert np.array_equal(first.field.predict(places).mean, again.field.predict(places).mean)
    assert not torch.allclose(weights(first), weights(other))
    assert first.history != other.history


def test_without_a_generator_a_fit_is_still_the_same_twice(stack: Stack) -> None:
    options = FitOptions(epochs=1, width=8)
    first, again = (fit_stack(stack, device="cpu", progress=False, options=options) for _ in range(2))
    assert torch.equal(weights(first), weights(again))


@pytest.mark.parametrize(("objective", "epochs"), [("bridge", 25), ("trajectory", 12)])
def test_the_loss_falls_and_cells_land_nearer(stack: Stack, objective: str, epochs: int) -> None:
    pair = stack.select([0, 1])
    fitted = fit(pair, 0, objective, epochs=epochs, learning_rate=0.01, max_cells=N)
    for losses in fitted.history.values():
        assert len(losses) == epochs
    first = next(iter(fitted.history.values()))
    assert np.mean(first[-3:]) < 0.6 * first[0]
    # all but a hair of the gap: cells of the first section beside where the second one was measured
    cells = carry(fitted.model, pair, 49.99)
    own = cells.section == 0
    start, end = pair.coords[cells.row[own], :2], pair.coords[cells.row[own] + N, :2]
    landed = np.linalg.norm(cells.coords[own, :2] - end, axis=1).mean()
    assert landed < 0.6 * np.linalg.norm(start - end, axis=1).mean()
    raised = (cells.features[own] - stack.features[cells.row[own]]).mean()
    assert 0.05 < raised < 0.4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_input_and_global_state_are_left_alone(stack: Stack, objective: str) -> None:
    arrays = {name: getattr(stack, name) for name in ("coords", "features", "starts", "depths", "rows")}
    for array in arrays.values():
        array.flags.writeable = False
    before = {name: array.copy() for name, array in arrays.items()}
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit(stack, 0, objective, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    for name, array in arrays.items():
        assert getattr(stack, name) is array
        assert np.array_equal(array, before[name])


def test_global_seeds_do_not_matter(stack: Stack) -> None:
    torch.manual_seed(1)
    first = fit(stack)
    torch.manual_seed(2)
    assert torch.equal(weights(fit(stack)), weights(first))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_one_huge_gradient_moves_no_further_than_any_other(
    stack: Stack, objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All gradients are longer than is allowed, and in one of two fits the second one by far."""
    kind = OBJECTIVES[objective]
    loss = kind.loss
    monkeypatch.setattr(kind, "phases", ("both",))
    monkeypatch.setattr(kind, "least_steps", 1)

    def after(outlier: float) -> torch.Tensor:
        factors = iter([1e4, 1e4 * outlier, 1e4, 1e4])
        monkeypatch.setattr(kind, "loss", lambda self, *step: loss(self, *step) * next(factors))
        return weights(fit(stack, 0, objective, epochs=1))

    torch.testing.assert_close(after(outlier=1.0), after(outlier=1e4), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("objective", "steps"), [("bridge", 8), ("trajectory", 4)])
def test_few_gaps_are_learned_as_well_as_many(
    stack: Stack, objective: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, seen = OBJECTIVES[objective], []
    loss = kind.loss
    monkeypatch.setattr(kind, "phases", ("both",))
    monkeypatch.setattr(kind, "loss", lambda self, *step: seen.append(step[:2]) or loss(self, *step))
    fit(stack, 0, objective, epochs=1)
    assert len(seen) == steps and len(set(seen)) == 4
    assert all(seen.count(step) == steps // 4 for step in seen)


STEPS = 4  # an epoch: two gaps, two directions
BEST = 1


def interrupt_after(monkeypatch: pytest.MonkeyPatch, objective: str, steps: int) -> list[torch.Tensor]:
    """Press Ctrl-C after some steps; returns the weights at the beginning of each step until then.

    What is added to the losses changes no gradient, and makes the second epoch the best.
    """
    kind, seen = OBJECTIVES[objective], []
    monkeypatch.setattr(kind, "least_steps", 1)
    loss = kind.loss

    def interrupted(self, gap, direction, phase):  # type: ignore[no-untyped-def]
        seen.append(torch.cat([value.flatten().double() for value in self.model.state_dict().values()]).clone())
        if len(seen) > steps:
            raise KeyboardInterrupt
        return loss(self, gap, direction, phase) + 10 * abs((len(seen) - 1) // STEPS - BEST)

    monkeypatch.setattr(kind, "loss", interrupted)
    return seen


@pytest.mark.parametrize(("objective", "steps"), [("bridge", 4 * STEPS + 2), ("trajectory", 3 * STEPS)])
def test_ctrl_c_keeps_the_best_weights_and_says_so(
    stack: Stack, objective: str, steps: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = interrupt_after(monkeypatch, objective, steps)
    with caplog.at_level(logging.WARNING, logger="isost"):
        fitted = fit(stack, 0, objective, epochs=9)
    losses = fitted.history[next(iter(fitted.history))]
    assert len(losses) == steps // STEPS
    assert torch.equal(weights(fitted), seen[(BEST + 1) * STEPS])
    assert fitted.info["interrupted"] is True
    assert f"interrupted after {len(losses)} epochs" in caplog.text
    # and the fit is of use
    assert np.isfinite(fitted.field.predict(stack.coords[:5]).mean).all()
    assert not fitted.model.training


def test_ctrl_c_in_the_first_epoch_of_a_phase_keeps_what_the_last_phase_reached(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = interrupt_after(monkeypatch, "trajectory", 2 * STEPS + 3)
    fitted = fit(stack, 0, "trajectory", epochs=2)
    assert torch.equal(weights(fitted), seen[2 * STEPS])
    assert {phase: len(losses) for phase, losses in fitted.history.items()} == {"shape": 2, "expression": 0, "both": 0}


def test_ctrl_c_at_once_leaves_a_model_that_moves_nothing(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = interrupt_after(monkeypatch, "bridge", 2)
    fitted = fit(stack)
    assert torch.equal(weights(fitted), seen[0])
    cells = carry(fitted.model, stack, 20.0)
    np.testing.assert_allclose(cells.coords[:, :2], stack.coords[cells.row, :2], atol=1e-3)


def test_the_best_epoch_is_kept_without_an_interruption_too(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = interrupt_after(monkeypatch, "bridge", 10**6)
    fitted = fit(stack, epochs=4)
    assert len(fitted.history["both"]) == 4
    assert torch.equal(weights(fitted), seen[(BEST + 1) * STEPS])
    assert fitted.info["interrupted"] is False


def test_a_gpu_that_is_not_there_is_an_error(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for device in ("cuda", "cuda:3", torch.device("cuda")):
        with pytest.raises(ValueError, match=r"found 'cuda.*0 GPU.*device='cpu'"):
            fit_stack(stack, device=device, progress=False)
    assert choose_device(None) == choose_device("auto") == torch.device("cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "", "cpu:x"])
def test_a_device_that_makes_no_sense_is_an_error(device: str) -> None:
    with pytest.raises(ValueError, match="expected 'auto', 'cpu' or 'cuda'"):
        choose_device(device)


def test_an_unknown_objective_is_an_error(stack: Stack) -> None:
    with pytest.raises(ValueError, match="bridge.*found 'sinkhorn'"):
        fit_stack(stack, objective="sinkhorn")


def test_bad_options_are_found_before_any_work(stack: Stack, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="epochs(.|\n)*width"):
        fit_stack(stack, options=FitOptions(epochs=-1, width=0))
    with pytest.raises(KeyError, match="human_embryo_cs7"):
        fit_stack(stack, preset="mouse")
    assert "sections" not in caplog.text


def test_a_preset_counts_depth_in_millimetres_and_features_from_least_to_most(stack: Stack) -> None:
    fitted = fit(stack, 0, "trajectory", preset="human_embryo_cs7", epochs=1, dz=None)
    config = fitted.model.config
    assert (config["depth_unit"], config["sigma_xy"], config["step"]) == (1000.0, 0.014, 0.1)
    features = fitted.model.to_internal(stack.coords, stack.features)[2]
    np.testing.assert_allclose(features.min(dim=0).values, 0.0, atol=1e-6)
    np.testing.assert_allclose(features.max(dim=0).values, 1.0, atol=1e-6)
    assert fitted.info["preset"] == "human_embryo_cs7"
    # without one, in the stack's own gaps
    assert fit(stack, epochs=1).model.config["depth_unit"] == 50.0


def test_time_as_depth_counts_in_days(stack: Stack) -> None:
    stages = replace(stack, depths=np.array([9.5, 10.5, 11.5]), unit="a.u.")
    stages.coords[:, 2] = np.repeat(stages.depths, N)
    model = fit(stages, preset="mouse_embryo_time", epochs=1, dz=None).model
    assert model.config["depth_unit"] == 1.0
    assert model.n_steps(model.internal_depth(10.5)) == 10


def test_a_bridge_keeps_the_relative_sizes_of_the_components(stack: Stack) -> None:
    fitted = fit(stack, epochs=1)
    assert len(set(fitted.model.feature_scale.tolist())) == 1
    features = fitted.model.to_internal(stack.coords, stack.features)[2]
    np.testing.assert_allclose(features.mean(dim=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_record_of_a_fit_is_plain(stack: Stack, objective: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="isost"):
        fitted = fit(stack, 0, objective, epochs=1)
    info = json.loads(json.dumps(fitted.info))
    assert info["objective"] == objective and info["device"] == "cpu" and info["seconds"] > 0
    assert info["settings"]["epochs"] == 1 and info["settings"]["sigma_xy"] > 0
    assert json.loads(json.dumps(fitted.history)) == fitted.history
    first, *_, last = [record.message for record in caplog.records if record.message.startswith("fit: ")]
    assert "3 sections, 120 cells, 3 features" in first and "cpu" in first
    assert "done in" in last


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_sections_and_no_features_will_do(stack_of: Callable[..., Stack], stack: Stack, objective: str) -> None:
    bare = stack_of([stack.coords[stack.slice_of(k), :2] for k in range(2)], [np.zeros((N, 0))] * 2, [0.0, 50.0])
    fitted = fit(bare, 0, objective)
    cells = carry(fitted.model, bare, 25.0)
    assert cells.features.shape == (2 * N, 0) and np.isfinite(cells.coords).all()
    value = fitted.field.predict(bare.coords[:4])
    assert value.mean.shape == (4, 0) and (value.density > 0).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_constant_features_and_sections_of_one_place_stay_finite(
    stack_of: Callable[..., Stack], objective: str
) -> None:
    """Nothing varies: no scale may be divided by zero."""
    line = np.column_stack([np.arange(12.0), np.zeros(12)])
    block = stack_of([line] * 2, [np.ones((12, 2))] * 2, [0.0, 50.0])
    fitted = fit(block, 0, objective)
    assert torch.isfinite(weights(fitted)).all()
    np.testing.assert_allclose(fitted.field.predict(block.coords[:3]).mean, 1.0, atol=0.05)
