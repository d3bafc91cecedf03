from __future__ import annotations

import numpy as np
import pytest
import torch

from isost._core.sde import BrownianPath

TIMES = torch.tensor([0.0, 0.5, 0.6, 2.0], dtype=torch.float64)


def test_a_path_replays() -> None:
    path = BrownianPath((50, 3), TIMES, seed=7)
    first = [path.increment(step) for step in range(3)]
    again = BrownianPath((50, 3), TIMES, seed=7)
    for step in (2, 0, 1):
        assert torch.equal(path.increment(step), first[step])
        assert torch.equal(again.increment(step), first[step])


def test_a_path_touches_no_global_state_and_needs_none() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    first = BrownianPath((5, 2), TIMES, seed=7).increment(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(BrownianPath((5, 2), TIMES, seed=7).increment(1), first)


@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)], ids=["rising", "falling"])
def test_variance_is_the_length_of_the_step(times: torch.Tensor) -> None:
    path = BrownianPath((20_000, 2), times, seed=1)
    for step in range(3):
        increment = path.increment(step).numpy()
        length = abs(float(times[step + 1] - times[step]))
        assert increment.shape == (20_000, 2)
        assert abs(increment.mean()) < 4 * np.sqrt(length / 40_000)
        assert increment.var() == pytest.approx(length, rel=4 * np.sqrt(2 / 40_000))


@pytest.mark.parametrize(
    "other",
    [0, 8, 7 + 2**32, 7 + 2**62, (7, 1), (7, 0, 1), (1, 7)],
    ids=["zero", "next", "same-32-bits", "large", "pair", "triple", "swapped"],
)
def test_paths_of_different_seeds_share_nothing(other: int | tuple[int, ...]) -> None:
    times = torch.linspace(0, 1, 51, dtype=torch.float64)
    draws = []
    for seed in (7, other):
        path = BrownianPath((40, 1), times, seed)
        draws.append(torch.cat([path.increment(step) for step in range(50)]).numpy().ravel())
    assert np.unique(np.concatenate(draws)).size == 4000
    assert abs(np.corrcoef(draws)[0, 1]) < 4 / np.sqrt(2000)


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_coarse_increments_are_sums_of_the_fine_ones(factor: int) -> None:
    times = torch.linspace(1.0, 2.5, 13, dtype=torch.float64)
    fine = BrownianPath((9, 2), times, seed=3)
    coarse = fine.coarsen(factor)
    torch.testing.assert_close(coarse.times, times[::factor], rtol=0, atol=0)
    for step in range(12 // factor):
        together = sum(fine.increment(step * factor + part) for part in range(factor))
        torch.testing.assert_close(coarse.increment(step), together, rtol=0, atol=1e-14)


def test_coarsening_twice_is_coarsening_once() -> None:
    fine = BrownianPath((9, 2), torch.linspace(0, 1, 13, dtype=torch.float64), seed=3)
    torch.testing.assert_close(
        fine.coarsen(2).coarsen(3).increment(1), fine.coarsen(6).increment(1), rtol=0, atol=1e-14
    )


def test_a_factor_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="divides 12 steps; found 5"):
        BrownianPath((9, 2), torch.linspace(0, 1, 13), seed=3).coarsen(5)


def test_increments_have_the_dtype_of_the_depths() -> None:
    for dtype in (torch.float32, torch.float64):
        assert BrownianPath((2, 2), TIMES.to(dtype), seed=0).increment(0).dtype == dtype
