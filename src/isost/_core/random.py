"""Seeds, numpy generators and torch generators in, one generator out; nothing global is touched."""

from __future__ import annotations

import operator

import numpy as np
import torch

Rng = int | np.random.Generator | torch.Generator | None

_SEEDS = 2**63 - 1


def torch_generator(rng: Rng = None) -> torch.Generator:
    """Make a CPU `torch.Generator` from whatever a public function was given as `rng`.

    Parameters
    ----------
    rng
        A seed, a numpy or torch generator (one number is drawn from it, so that it advances; a torch generator on
        the CPU is returned itself), or None for a fresh unpredictable seed.

    Raises
    ------
    TypeError
        If `rng` is none of these.
    ValueError
        If the seed is negative or does not fit into 63 bits.
    """
    if isinstance(rng, torch.Generator) and rng.device.type == "cpu":
        return rng
    generator = torch.Generator(device="cpu")
    if rng is None:
        generator.seed()
        return generator
    return generator.manual_seed(_draw_seed(rng))


def numpy_generator(rng: Rng = None) -> np.random.Generator:
    """Make a `numpy.random.Generator` from whatever a public function was given as `rng`; see `torch_generator`."""
    if isinstance(rng, np.random.Generator):
        return rng
    return np.random.default_rng(None if rng is None else _draw_seed(rng))


def state_of(generator: torch.Generator) -> str:
    """State of a generator as text, for `set_state_of`."""
    return generator.get_state().numpy().tobytes().hex()


def set_state_of(generator: torch.Generator, state: str) -> None:
    """Let a generator go on from a state."""
    generator.set_state(torch.frombuffer(bytearray.fromhex(state), dtype=torch.uint8))


def draw_seed(generator: torch.Generator) -> int:
    """Draw a seed from a generator, which advances."""
    return int(torch.randint(2**62, (), generator=generator))


def _draw_seed(rng: int | np.random.Generator | torch.Generator) -> int:
    if isinstance(rng, torch.Generator):
        return int(torch.randint(_SEEDS, (), generator=rng, device=rng.device))
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(_SEEDS))
    try:
        if isinstance(rng, bool):
            raise TypeError
        seed = operator.index(rng)
    except TypeError:
        raise TypeError(
            f"rng: expected an int, a numpy.random.Generator, a torch.Generator or None, found {type(rng).__name__}. "
            "Next: pass rng=0, or numpy.random.default_rng(0)."
        ) from None
    if not 0 <= seed <= _SEEDS:
        raise ValueError(f"rng: expected a seed from 0 to {_SEEDS} (2**63 - 1), found {seed}. Next: pass rng=0.")
    return seed
