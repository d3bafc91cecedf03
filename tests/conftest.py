from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data sets; tests that ask for it are skipped where there is none."""
    value = os.environ.get("ISOST_DATA_DIR", "")
    if not value:
        pytest.skip("real data: ISOST_DATA_DIR is not set")
    if not Path(value).is_dir():
        pytest.skip(f"real data: ISOST_DATA_DIR={value} is not a folder")
    return Path(value)


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging.getLogger("isost"), "propagate", True)
    yield
