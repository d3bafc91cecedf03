from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData

    from isost._core.model import SDEModel
    from isost._core.stack import Decoder, Stack

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _no_figure_left_open() -> Iterator[None]:
    """A figure that one test leaves open is not counted in another."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


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


@pytest.fixture(scope="session")
def stack_of() -> Callable[..., Stack]:
    """Make a stack of arrays from the positions (n, 2) or (n, 3) and the features (n, P) of its sections."""
    import numpy as np

    from isost._core.stack import Stack

    def make(
        positions: Sequence[np.ndarray],
        features: Sequence[np.ndarray],
        depths: Sequence[float],
        decoder: Decoder | None = None,
    ) -> Stack:
        sizes = [len(position) for position in positions]
        coords = [
            np.column_stack([position, np.full(size, z)]) if position.shape[1] == 2 else position
            for position, size, z in zip(positions, sizes, depths, strict=True)
        ]
        n = sum(sizes)
        return Stack(
            coords=np.concatenate(coords).astype(np.float64),
            features=np.concatenate(features).astype(np.float32),
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            depths=np.asarray(depths, dtype=np.float64),
            names=tuple(f"s{k + 1}" for k in range(len(depths))),
            rows=np.arange(n),
            obs_names=np.array([f"cell{i}" for i in range(n)]),
            use_rep="X_pca",
            decoder=decoder,
            unit="um",
        )

    return make


@pytest.fixture(scope="session")
def moving_model() -> Callable[..., SDEModel]:
    """Make a model in the scale of a stack whose every weight is random: cells move, and features change."""
    import torch

    from isost._core.model import SDEModel

    def make(stack: Stack, *, speed: float = 0.1, seed: int = 0, **config: Any) -> SDEModel:
        scaling, gap = stack.scaling, float(stack.depths[1] - stack.depths[0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = SDEModel(
                stack.n_features,
                origin=tuple(float(value) for value in scaling.origin),
                plane_scale=scaling.xy,
                depth_unit=gap,
                depth_range=float(stack.depths[-1] - stack.depths[0]) / gap,
                **config,
            )
            for pair in (model.forward_pair, model.backward_pair):
                for drift in (pair.shape, pair.expression):
                    if drift is not None:
                        torch.nn.init.normal_(drift.leave.weight, std=speed)
                        torch.nn.init.normal_(drift.leave.bias, std=speed)
        return model.eval()

    return make


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("isost"), "propagate", True)
    yield


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Problems are tiny, and on a busy machine a second thread spins for thirty times the work itself while it waits.
    # Before every test, because the first parallel function of numba gives torch as many threads as there are cores.
    threadpool_limits(1)
