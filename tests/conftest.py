from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anndata import AnnData

os.environ.setdefault("MPLBACKEND", "Agg")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data sets; tests that ask for it are skipped where there is none."""
    value = os.environ.get("ISOST_DATA_DIR", "")
    if not value:
        pytest.skip("real data: ISOST_DATA_DIR is not set")
    if not Path(value).is_dir():
        pytest.skip(f"real data: ISOST_DATA_DIR={value} is not a folder")
    return Path(value)


@pytest.fixture(scope="session")
def _toy() -> AnnData:
    import isost

    return isost.datasets.phantom("bending", n_sections=4, n_cells=80, n_genes=20, spacing=50.0, extent=400.0, rng=0)


@pytest.fixture
def toy(_toy: AnnData) -> AnnData:
    """Four sections 50 µm apart of about 80 cells and 20 genes: raw counts, sparse, no embedding."""
    return _toy.copy()


@pytest.fixture(scope="session")
def _toy_embedded(_toy: AnnData) -> AnnData:
    import isost

    adata = _toy.copy()
    isost.pp.embed(adata, n_comps=6)
    return adata


@pytest.fixture
def toy_embedded(_toy_embedded: AnnData) -> AnnData:
    """The toy stack with 6 principal components."""
    return _toy_embedded.copy()


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("isost"), "propagate", True)
    yield
