"""Every bad input gives one error that says what was expected, what was found and what to run next."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from anndata import AnnData


@pytest.fixture
def adata(make_stack: Callable[..., AnnData]) -> AnnData:
    return make_stack(n=20, n_genes=6)


@pytest.fixture
def problems_of() -> Callable[[Callable[[], object]], list[str]]:
    """The numbered problems of the ValueError that a call raises; each must have its three parts."""

    def check(call: Callable[[], object]) -> list[str]:
        with pytest.raises(ValueError, match=r"^The .* cannot be \w+: \d+ problems?\.\n1\. ") as caught:
            call()
        text = str(caught.value)
        problems = re.split(r"\n(?=\d+\. )", text)[1:]
        assert text.startswith(f"{text.split(': ')[0]}: {len(problems)} problem")
        for problem in problems:
            assert re.match(r"(?s)\d+\. .+: expected .+; found .+\.\n   Next: \S", problem), problem
        return problems

    return check


@pytest.fixture
def the_problem(problems_of: Callable[[Callable[[], object]], list[str]]) -> Callable[[Callable[[], object]], str]:
    """The only problem of the ValueError that a call raises."""

    def check(call: Callable[[], object]) -> str:
        problems = problems_of(call)
        assert len(problems) == 1, problems
        return problems[0]

    return check
