"""Sphinx settings. The build needs no network: nothing is fetched, and notebooks are shown, not run, unless asked."""

import os
import shutil
from pathlib import Path

import isost

HERE = Path(__file__).parent

project = "isost"
author = "isost contributors"
copyright = "2026, isost contributors"
version = release = isost.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
# `isost.pp.embed` in a docstring is a link where there is such a thing, and code where there is none.
default_role = "py:obj"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 100
napoleon_google_docstring = False
napoleon_use_rtype = False

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# ISOST_DOCS_EXECUTE=cache runs the notebooks and shows what they draw; the build takes minutes then.
nb_execution_mode = os.environ.get("ISOST_DOCS_EXECUTE", "off")
nb_execution_timeout = 600
nb_execution_raise_on_error = True

html_theme = "sphinx_book_theme"
html_title = "isost"
html_static_path = ["_static"]
html_theme_options = {"show_toc_level": 2, "show_navbar_depth": 1}

# Sphinx reads below this folder only; the notebooks live at the top, where a reader looks for them.
shutil.copytree(
    HERE.parent / "tutorials", HERE / "tutorials", ignore=lambda _, names: {n for n in names if n[0] == "."},
    dirs_exist_ok=True,
)  # fmt: skip
