"""What every public name keeps to: it resolves, follows the grammar, and its documentation is whole and runs."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import isost

NAMESPACES = ("datasets", "get", "metrics", "pl", "pp", "tl")
FIRST = {
    "get": {"sdata"},
    "pp": {"adata", "adatas", "features", "image"},
    "tl": {"adata", "sdata", "data", "fitted", "image"},
    "pl": {"adata", "sdata", "data", "fitted", "scores"},
}
ROOT = Path(__file__).parents[1]


def public_names() -> list[str]:
    """Dotted names, below isost, of everything that a user is meant to call."""
    return [f"{namespace}.{name}" for namespace in NAMESPACES for name in getattr(isost, namespace).__all__] + [
        "HistologyModel",
        "Reconstruction",
        "Reconstruction4D",
        "SpatialDomains",
    ]


def resolve(dotted: str) -> object:
    found: object = isost
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


NAMES = public_names()
FUNCTIONS = [name for name in NAMES if inspect.isfunction(resolve(name))]
CLASSES = [name for name in NAMES if inspect.isclass(resolve(name))]
METHODS = [
    f"{name}.{method}"
    for name in CLASSES
    for method, value in vars(resolve(name)).items()
    if not method.startswith("_") and (inspect.isfunction(value) or isinstance(value, classmethod | staticmethod))
]


def sections_of(function: object) -> dict[str, str]:
    """Heading to text of a numpy docstring."""
    doc = inspect.getdoc(function) or ""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}$", doc, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def own_parameters(function: Callable) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]


def test_every_name_is_a_function_or_a_class() -> None:
    assert sorted(FUNCTIONS + CLASSES) == sorted(NAMES)


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_dir_and_all_agree(namespace: str) -> None:
    module = getattr(isost, namespace)
    assert dir(module) == sorted(module.__all__) == list(module.__all__)
    assert not [name for name in module.__all__ if name.startswith("_")]


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_no_module_stands_in_front_of_its_function(namespace: str) -> None:
    """Once imported, a module `isost.tl.fit` would be found in place of a function of that name."""
    package = getattr(isost, namespace)
    modules = {info.name for info in pkgutil.iter_modules(package.__path__)}
    assert not modules.intersection(package.__all__)


@pytest.mark.parametrize("name", FUNCTIONS + METHODS)
def test_signature(name: str) -> None:
    parameters = own_parameters(resolve(name))
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    assert len(positional) <= 3
    # The first arguments say on what; everything that has a default after them is said by name, but what a plot shows.
    assert not [p.name for p in positional[1:] if p.default is not p.empty and p.name != "color"]
    assert not [p.name for p in parameters if p.annotation is p.empty]
    namespace = name.split(".")[0]
    if namespace in FIRST:
        assert parameters[0].name in FIRST[namespace]
        assert parameters[0].default is inspect.Parameter.empty


@pytest.mark.parametrize("name", FUNCTIONS + METHODS)
def test_docstring(name: str) -> None:
    function = resolve(name)
    sections = sections_of(function)
    summary = sections[""].strip().splitlines()[0]
    assert summary.endswith("."), "the first line is one sentence"
    parameters = own_parameters(function)
    if parameters:
        # "a, b" documents two at once; "**options" is written with its stars.
        headings = re.findall(r"^(\S.*)$", sections["Parameters"], flags=re.MULTILINE)
        documented = [part.split(":")[0].strip(" *") for line in headings for part in line.split(",")]
        assert documented == [p.name for p in parameters]
    if inspect.signature(function).return_annotation not in ("None", None):
        assert "Returns" in sections
    assert ">>>" in sections["Examples"]


@pytest.mark.parametrize("name", CLASSES)
def test_class_docstring(name: str) -> None:
    assert ">>>" in sections_of(resolve(name))["Examples"]


@pytest.mark.parametrize("name", FUNCTIONS + CLASSES + METHODS)
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    doc = inspect.getdoc(resolve(name)) or ""
    example = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    said: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(optionflags=flags, verbose=False).run(example, out=said.append)
    assert result.failed == 0, "".join(said)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_lists_it(name: str) -> None:
    assert re.search(rf"^\s*{re.escape(name)}$", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
