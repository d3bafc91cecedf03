"""Packages that only an extra brings."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_extra(package: str, extra: str) -> Any:
    """Import a package when it is needed.

    Raises
    ------
    ImportError
        If it is not installed; the message says what to install.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"Expected the package {package.split('.')[0]}, found that it cannot be imported ({error}). "
            f"Next: pip install 'isost[{extra}]'"
        ) from error
