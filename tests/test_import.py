from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "anndata",
    "matplotlib",
    "napari",
    "pandas",
    "plotly",
    "pyvista",
    "scanpy",
    "scipy",
    "spatialdata",
    "squidpy",
    "tensorstore",
    "torch",
    "torch_geometric",
)
NAMESPACES = ("datasets", "get", "metrics", "pl", "pp", "tl")


def loaded_by(code: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has loaded after running the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_by("import isost").intersection(HEAVY)


def test_looking_around_loads_nothing_heavy() -> None:
    assert not loaded_by("import isost; dir(isost); isost.__version__").intersection(HEAVY)


@pytest.mark.parametrize("name", NAMESPACES)
def test_a_namespace_loads_nothing_heavy(name: str) -> None:
    assert not loaded_by(f"import isost; dir(isost.{name})").intersection(HEAVY)


def test_help_loads_nothing_heavy() -> None:
    code = "from isost._cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not loaded_by(code).intersection(HEAVY)


def test_import_takes_well_under_a_second() -> None:
    script = "import time; t = time.perf_counter(); import isost; print(time.perf_counter() - t)"
    seconds = min(
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    # A loose bound, for busy machines: the list of modules above is the sharp one.
    assert seconds < 1.0


def test_an_unknown_name_is_an_attribute_error() -> None:
    import isost

    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = isost.nothing_of_this_name
    for name in NAMESPACES:
        with pytest.raises(AttributeError, match="nothing_of_this_name"):
            _ = getattr(isost, name).nothing_of_this_name
