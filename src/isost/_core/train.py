"""Train the drifts by an objective: epochs of steps over all gaps, in phases, that can be interrupted and resumed."""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Event
from typing import Any

import torch
from tqdm.auto import tqdm

from isost._core.bridge import BridgeObjective
from isost._core.checkpoint import Checkpoint
from isost._core.devices import Ranks
from isost._core.model import SDEModel
from isost._core.tasks import one_thread_each
from isost._core.trajectory import TrajectoryObjective
from isost._logging import logger

Objective = BridgeObjective | TrajectoryObjective
Step = tuple[tuple[int, str], int]
_FEWEST_CELLS = 64  # of a step, where the device has no memory for more


@dataclass(frozen=True)
class _Way:
    """What a phase learns of one direction, and what moves it; steps of the other direction leave it as it is."""

    parameters: list[torch.nn.Parameter]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler


class Training:
    """NAdam under a cosine rate; at the end of a phase, or on Ctrl-C, the weights of its best epoch stay.

    Parameters
    ----------
    model, problem
        What is trained, and its loss.
    n_gaps
        Gaps between sections; an epoch has steps for each of them in both directions, in random order.
    settings
        ``epochs`` of each phase, ``learning_rate``, ``gaps_at_once``.
    generator
        Of the order of the steps, and of everything in the loss.
    checkpoint
        Where progress is kept.

    Attributes
    ----------
    model
        As it is now.
    history
        Mean loss of each epoch, by phase.
    interrupted
        Whether Ctrl-C ended it.
    """

    def __init__(
        self, model: SDEModel, problem: Objective, n_gaps: int, settings: dict[str, Any], generator: torch.Generator,
        checkpoint: Checkpoint,
    ) -> None:  # fmt: skip
        self.model, self._problem = model, problem
        self._epochs, self._rate = int(settings["epochs"]), float(settings["learning_rate"])
        self._generator, self._checkpoint = generator, checkpoint
        steps = [(gap, direction) for gap in range(n_gaps) for direction in ("forward", "backward")]
        self._steps = steps * -(-problem.least_steps // len(steps))
        self.history: dict[str, list[float]] = {phase: [] for phase in problem.phases}
        self.interrupted = False
        self._at_once = int(settings["gaps_at_once"])
        self._ranks = Ranks()
        self._two_threads = torch.get_num_threads() > 1
        self._best, self._lowest = _copy(model), float("inf")

    def share(self, ranks: Ranks, device: torch.device) -> None:
        """Take a part of each step as one of several processes, on a device of its own."""
        self._ranks = ranks
        self.move(device)
        if ranks.rank:
            self._checkpoint = self._checkpoint.read_only()

    def move(self, device: torch.device) -> None:
        """Move the model, and what losses are of, to a device."""
        self.model.to(device)
        self._problem.move(device)

    def outcome(self) -> dict[str, Any]:
        """Tell what another process has to know of this training."""
        weights = {name: value.cpu() for name, value in self.model.state_dict().items()}
        return {"model": weights, "history": self.history, "interrupted": self.interrupted,
                "generator": self._generator.get_state()}  # fmt: skip

    def take(self, outcome: dict[str, Any]) -> None:
        """Take over the outcome of a training elsewhere."""
        self.model.load_state_dict(outcome["model"])
        self._generator.set_state(outcome["generator"])
        self.history, self.interrupted = outcome["history"], outcome["interrupted"]
        self.model.eval()

    def run(self, *, show: bool) -> None:
        """Train all phases."""
        kept = self._resume()
        total = self._epochs * len(self.history)
        bar = tqdm(total=total, initial=self._done, desc="isost fit", unit="epoch", disable=None if show else True)
        try:
            with one_thread_each() if self._apart else nullcontext():
                for phase in self.history:
                    if len(self.history[phase]) < self._epochs:
                        self._run_phase(phase, bar, kept)
                        kept = None
        except KeyboardInterrupt:
            self.model.load_state_dict(self._best)
            logger.warning("fit: interrupted after %d epochs; the best weights so far are kept", self._done)
            self.interrupted = True
        finally:
            bar.close()
            self.model.eval()

    @property
    def _apart(self) -> bool:
        """Whether both directions, which share nothing, are learned at the same time: steps are too small to be cut."""
        return self._at_once == self._ranks.size == 1 and self._two_threads and self.model.device.type == "cpu"

    @property
    def _done(self) -> int:
        return sum(len(losses) for losses in self.history.values())

    def _run_phase(self, phase: str, bar: tqdm, kept: dict[str, Any] | None) -> None:
        ways = self._ways(phase)
        if kept is None:
            self._lowest = float("inf")
        else:
            for direction, way in ways.items():
                way.optimiser.load_state_dict(kept["optimiser"][direction])
                way.schedule.load_state_dict(kept["schedule"][direction])
        while len(self.history[phase]) < self._epochs:
            mean_loss = self._epoch(phase, ways)
            for way in ways.values():
                way.schedule.step()
            self.history[phase].append(mean_loss)
            bar.set_postfix_str(f"{phase} {mean_loss:.4g}", refresh=False)
            bar.update()
            if mean_loss < self._lowest:
                self._lowest, self._best = mean_loss, _copy(self.model)
            if len(self.history[phase]) == self._epochs:
                self.model.load_state_dict(self._best)
            self._checkpoint.keep(lambda: self._state(ways))

    def _ways(self, phase: str) -> dict[str, _Way]:
        learned = {id(parameter) for parameter in self._problem.parameters(phase)}
        ways = {}
        for direction, pair in (("forward", self.model.forward_pair), ("backward", self.model.backward_pair)):
            parameters = [parameter for parameter in pair.parameters() if id(parameter) in learned]
            optimiser = torch.optim.NAdam(parameters, lr=self._rate, foreach=True)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
                optimiser, T_max=self._epochs, eta_min=self._rate / 20
            )  # fmt: skip
            ways[direction] = _Way(parameters, optimiser, schedule)
        return ways

    def _epoch(self, phase: str, ways: dict[str, _Way]) -> float:
        """Return the mean loss of the steps."""
        order = torch.randperm(len(self._steps), generator=self._generator).tolist()
        # a seed for each step, so that it does not matter which process takes it, or when
        seeds = torch.randint(2**62, (len(order),), generator=self._generator).tolist()
        steps = list(zip([self._steps[index] for index in order], seeds, strict=True))
        groups = [steps[first : first + self._at_once] for first in range(0, len(steps), self._at_once)]
        losses = torch.zeros(len(groups), device=self.model.device)  # read once an epoch: no GPU is waited for
        failed = Event()

        def take(numbers: list[int]) -> None:
            for number in numbers:
                if failed.is_set():
                    return
                losses[number] = self._step(phase, groups[number], ways)

        if self._apart:
            parts = [[n for n, group in enumerate(groups) if group[0][0][1] == direction] for direction in ways]
            with ThreadPoolExecutor(len(parts)) as pool:
                futures = [pool.submit(take, part) for part in parts]
                try:
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:  # after Ctrl-C too
                    if not all(future.done() for future in futures):
                        failed.set()
                for future in futures:
                    future.result()
        else:
            take(list(range(len(groups))))
        mean = float(self._ranks.add([losses.sum()])[0]) / len(steps)
        if not mean < float("inf"):
            raise self._diverged(f"a loss of {mean}")
        return mean

    def _step(self, phase: str, group: list[Step], ways: dict[str, _Way]) -> torch.Tensor:
        """Take one step by the mean gradient of a group, and return the sum of its losses."""
        asked = [ways[direction] for direction in sorted({direction for (_, direction), _ in group})]
        parameters = [parameter for way in asked for parameter in way.parameters]
        gradient = [torch.zeros_like(parameter) for parameter in parameters]
        total = torch.zeros((), device=self.model.device)
        for (gap, direction), seed in group[self._ranks.rank :: self._ranks.size]:
            self._problem.generators[direction] = torch.Generator().manual_seed(seed)
            total += self._add_gradient(gap, direction, phase, parameters, gradient, share=1 / len(group))
        for parameter, summed in zip(parameters, self._ranks.add(gradient), strict=True):
            parameter.grad = summed
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for way in asked:
            way.optimiser.step()
        return total

    def _add_gradient(
        self, gap: int, direction: str, phase: str, parameters: list[torch.nn.Parameter],
        gradient: list[torch.Tensor], *, share: float,
    ) -> torch.Tensor:  # fmt: skip
        """Loss of a step, of fewer cells where the device has no memory for all that were asked for."""
        while True:
            try:
                loss = self._problem.loss(gap, direction, phase)
                found = torch.autograd.grad(loss, parameters, allow_unused=True)
                for summed, part in zip(gradient, found, strict=True):
                    if part is not None:
                        summed.add_(part, alpha=share)
                return loss.detach()
            except FloatingPointError as error:
                raise self._diverged(str(error)) from error
            except torch.OutOfMemoryError:
                fewer = self._problem.max_cells // 2
                if fewer < _FEWEST_CELLS:
                    raise
                logger.warning("fit: the device has no memory for steps of %d cells: going on with %d (max_cells)",
                               self._problem.max_cells, fewer)  # fmt: skip
                self._problem.max_cells = fewer
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    def _diverged(self, found: str) -> ValueError:
        return ValueError(
            f"learning_rate: expected one that training converges with, found that it diverges with {self._rate:g} "
            f"({found}). Next: pass a smaller one, or leave learning_rate out."
        )

    def _state(self, ways: dict[str, _Way]) -> dict[str, Any]:
        return {
            "history": self.history, "model": _copy(self.model), "best": self._best, "lowest": self._lowest,
            "max_cells": self._problem.max_cells, "generator": self._generator.get_state(),
            "optimiser": {direction: way.optimiser.state_dict() for direction, way in ways.items()},
            "schedule": {direction: way.schedule.state_dict() for direction, way in ways.items()},
        }  # fmt: skip

    def _resume(self) -> dict[str, Any] | None:
        """Take up the state that was kept; return it where its phase is to go on."""
        kept = self._checkpoint.state()
        if kept is None:
            return None
        self.history, self._best, self._lowest = kept["history"], kept["best"], kept["lowest"]
        self._problem.max_cells = kept["max_cells"]
        self.model.load_state_dict(kept["model"])
        self._generator.set_state(kept["generator"])
        logger.info("fit: going on after %d epochs", self._done)
        return kept if self._done % self._epochs else None


def _copy(model: SDEModel) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
