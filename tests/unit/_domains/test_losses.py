"""The two losses against loops in float64, and conflicting gradients against the formula of Yu et al. (2020)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isost._domains.losses import contrastive_loss, project_conflicts, scaled_cosine_error


def test_scaled_cosine_error_by_hand() -> None:
    """Rows at 0, 90, 180 and 60 degrees: (1 - cos)^3 is 0, 1, 8 and 1/8."""
    truth = torch.tensor([[2.0, 0.0]] * 4, dtype=torch.float64)
    found = torch.tensor([[5.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.5, np.sqrt(0.75)]], dtype=torch.float64)
    assert float(scaled_cosine_error(found, truth)) == pytest.approx((0 + 1 + 8 + 0.125) / 4)
    assert float(scaled_cosine_error(found, truth, gamma=1.0)) == pytest.approx((0 + 1 + 2 + 0.5) / 4)


def test_length_does_not_count() -> None:
    draw = np.random.default_rng(0)
    found, truth = (torch.from_numpy(draw.normal(size=(5, 4))) for _ in range(2))
    lengths = torch.from_numpy(draw.uniform(0.1, 9, (5, 1)))
    assert float(scaled_cosine_error(found * lengths, truth)) == pytest.approx(float(scaled_cosine_error(found, truth)))


def both_ways(pairs: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([*pairs, *((j, i) for i, j in pairs)], dtype=torch.int64).reshape(-1, 2).T


def by_loop(z: np.ndarray, pairs: list[tuple[int, int]], temperature: float) -> float:
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    terms = []
    for i in range(len(z)):
        near = {b for a, b in pairs if a == i} | {a for a, b in pairs if b == i}
        if near:
            weight = {k: np.exp(unit[i] @ unit[k] / temperature) for k in range(len(z)) if k != i}
            terms.append(-np.log(sum(weight[j] for j in near) / sum(weight.values())))
    return float(np.mean(terms))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_contrastive_loss_is_that_of_a_loop(temperature: float) -> None:
    """Cell 3 has no neighbour: it is no positive of anybody, does not count itself, but is a negative of all."""
    z = np.random.default_rng(1).normal(size=(7, 4))
    pairs = [(0, 1), (0, 2), (1, 2), (4, 5), (5, 6)]
    found = float(contrastive_loss(torch.from_numpy(z), both_ways(pairs), temperature))
    assert found == pytest.approx(by_loop(z, pairs, temperature), rel=1e-10)
    alone = z.copy()
    alone[3] = z[0]
    assert abs(float(contrastive_loss(torch.from_numpy(alone), both_ways(pairs), temperature)) - found) > 1e-6


def test_nobody_has_a_neighbour() -> None:
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = contrastive_loss(z, both_ways([]), 0.5)
    loss.backward()
    assert float(loss.detach()) == 0.0 and not z.grad.any()


@pytest.mark.parametrize("temperature", [0.05, 0.01, 0.001])
def test_a_low_temperature_is_finite(temperature: float) -> None:
    """The neighbours of cells 0 and 1 point away from them: e^(s / t) lies far below what float32 can tell from 0."""
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.1], [1.0, 0.1], [0.0, 1.0]], requires_grad=True)
    pairs = [(0, 1), (2, 3)]
    loss = contrastive_loss(z, both_ways(pairs), temperature)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()
    unit = (z / z.norm(dim=1, keepdim=True)).detach().double().numpy()
    s = unit @ unit.T / temperature
    np.fill_diagonal(s, -np.inf)
    top = s.max(axis=1)
    all_of_them = top + np.log(np.exp(s - top[:, None]).sum(axis=1))
    own = np.array([s[0, 1], s[1, 0], s[2, 3], s[3, 2]])
    assert float(loss.detach()) == pytest.approx(float((all_of_them - own).mean()), rel=1e-4)


def gradients(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (4,), (1,)]
    one, other = ([torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes] for _ in range(2))
    return one, other


def flat(parts: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([part.ravel() for part in parts]).numpy()


def test_gradients_that_agree_are_added() -> None:
    g, h = gradients(0)
    h = [b + 2 * a for a, b in zip(g, h, strict=True)]
    assert flat(g) @ flat(h) > 0
    np.testing.assert_allclose(flat(project_conflicts(g, h)), flat(g) + flat(h))


@pytest.mark.parametrize("seed", range(4))
def test_gradients_that_conflict_are_projected(seed: int) -> None:
    """Each loses its part along the other, over all parameters at once, as in algorithm 1 of Yu et al."""
    g, h = gradients(seed)
    h = [b - 2 * a for a, b in zip(g, h, strict=True)]
    a, b = flat(g), flat(h)
    assert a @ b < 0
    found = flat(project_conflicts(g, h))
    np.testing.assert_allclose(found, (a - a @ b / (b @ b) * b) + (b - a @ b / (a @ a) * a))
    assert found @ a >= 0 and found @ b >= 0


def test_a_gradient_of_nothing_is_no_conflict() -> None:
    g, h = gradients(0)
    none = [torch.zeros_like(part) for part in h]
    np.testing.assert_array_equal(flat(project_conflicts(g, none)), flat(g))
