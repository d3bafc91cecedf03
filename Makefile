# Each goal does its own set-up in .venv: a machine needs Python >= 3.11 and make, no more. uv is used where it is installed.
#   make demo    reconstruct a phantom and say what was written
#   make test    the tests (ARGS="-k name" picks some)
#   make lint    ruff and mypy
#   make docs    the documentation, warnings as errors, into docs/_build/html
#   make clean   remove .venv and what the tools have left

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
ARGS   ?=
bin    := $(VENV)/bin
set_up := $(VENV)/.set-up-for-

.PHONY: demo test lint docs clean

demo: $(set_up)run
	$(bin)/python -m isost demo $(ARGS)

test: $(set_up)test
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 MPLBACKEND=Agg $(bin)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

lint: $(set_up)dev
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

docs: $(set_up)dev
	$(bin)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "wrote docs/_build/html/index.html"

clean:
	rm -rf $(VENV) docs/_build docs/generated .mypy_cache .pytest_cache .ruff_cache

# One file for each set of packages says that it is in place and newer than what it was made from.
extras_run  :=
extras_test := [test,leiden]
extras_dev  := [dev,leiden]

$(set_up)%: pyproject.toml constraints.txt $(bin)/python
	@if command -v uv >/dev/null 2>&1; then \
		UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" uv pip install -q -p $(bin)/python -c constraints.txt -e '.$(extras_$*)'; \
	else \
		$(bin)/python -m pip install -q -c constraints.txt -e '.$(extras_$*)'; \
	fi
	@touch $@

$(bin)/python:
	@test -n "$(PYTHON)" || { echo "no Python >= 3.11 found: install one, or say which by make PYTHON=..." >&2; exit 1; }
	@echo "setting up $(VENV), once; this downloads torch and takes some minutes"
	@if command -v uv >/dev/null 2>&1; then \
		uv venv -q --python "$$(command -v $(PYTHON))" $(VENV); \
	else \
		$(PYTHON) -m venv $(VENV); \
	fi
