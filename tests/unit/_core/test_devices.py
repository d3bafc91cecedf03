"""Training on two processes is that of one, with as many gaps in a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData

from isost._core import train as train_module
from isost._core.bridge import BridgeObjective
from isost.tl import fit

HOW = {"epochs": 2, "progress": False, "rng": 0}


@pytest.mark.parametrize("objective", ["bridge", "trajectory"])
def test_two_processes_have_the_loss_of_one(toy_embedded: AnnData, objective: str) -> None:
    pytest.importorskip("lightning_fabric")
    one = fit(toy_embedded, gaps_at_once=2, objective=objective, **HOW)
    two = fit(toy_embedded, devices=2, objective=objective, **HOW)
    assert two.params["settings"]["gaps_at_once"] == 2
    for phase, losses in one.history.items():
        np.testing.assert_allclose(two.history[phase], losses, rtol=1e-5)
    for name, value in one.model.state_dict().items():
        np.testing.assert_allclose(two.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_more_gaps_at_once_are_fewer_and_smoother_steps(toy_embedded: AnnData) -> None:
    one, three = (fit(toy_embedded, gaps_at_once=n, **HOW) for n in (1, 3))
    assert one.history != three.history
    assert one.params["settings"]["gaps_at_once"] == 1


def test_without_fabric_it_says_what_to_install(toy_embedded: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lightning_fabric", None)
    with pytest.raises(ImportError, match=r"pip install 'isost\[devices\]'"):
        fit(toy_embedded, devices=2, **HOW)
    with pytest.raises(ValueError, match="devices: expected a whole number of 1 or more"):
        fit(toy_embedded, devices=0, **HOW)


def test_a_step_that_does_not_fit_is_made_smaller(
    toy_embedded: AnnData, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loss, sizes = BridgeObjective.loss, []

    def small_device(self: BridgeObjective, *args: object) -> torch.Tensor:
        sizes.append(self.max_cells)
        if self.max_cells > 128:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, *args)

    monkeypatch.setattr(BridgeObjective, "loss", small_device)
    fitted = fit(toy_embedded, max_cells=512, **HOW)
    assert sizes[:4] == [512, 256, 128, 128] and set(sizes[3:]) == {128}
    assert "no memory for steps of 512 cells: going on with 256 (max_cells)" in caplog.text
    assert np.isfinite(fitted.history["both"]).all()


def test_a_device_with_no_memory_at_all_says_so(toy_embedded: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: BridgeObjective, *args: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train_module.BridgeObjective, "loss", full)
    with pytest.raises(torch.OutOfMemoryError):
        fit(toy_embedded, **HOW)
