from __future__ import annotations

import numpy as np
import pytest
import torch

from isost._core.random import numpy_generator, torch_generator


def test_a_seed_gives_the_same_numbers_twice():
    assert torch.equal(torch.rand(5, generator=torch_generator(3)), torch.rand(5, generator=torch_generator(3)))
    assert np.array_equal(numpy_generator(np.int64(3)).random(5), numpy_generator(3).random(5))


def test_no_seed_gives_other_numbers():
    assert torch_generator().initial_seed() != torch_generator().initial_seed()
    assert numpy_generator().random() != numpy_generator().random()


def test_generators_advance_from_call_to_call():
    source = np.random.default_rng(0)
    assert torch_generator(source).initial_seed() != torch_generator(source).initial_seed()
    torch_source = torch.Generator().manual_seed(0)
    assert numpy_generator(torch_source).random() != numpy_generator(torch_source).random()


def test_a_cpu_generator_is_used_itself():
    generator, numpy_source = torch.Generator(), np.random.default_rng(0)
    assert torch_generator(generator) is generator
    assert numpy_generator(numpy_source) is numpy_source


def test_global_state_is_left_alone():
    before = torch.random.get_rng_state()
    torch.rand(3, generator=torch_generator(0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("rng", ["0", 1.5, True, np.random.RandomState(0)])
@pytest.mark.parametrize("make", [torch_generator, numpy_generator])
def test_other_types_are_refused(make, rng):
    with pytest.raises(TypeError, match=r"expected an int.*found .*Next: pass rng=0"):
        make(rng)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="expected a seed from 0 to .*, found -4"):
        torch_generator(-4)
