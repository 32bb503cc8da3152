"""How is the documentation built? Sphinx reads these names; `make docs` builds without touching the network."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

project = "tsattn"
author = "The tsattn authors"
copyright = author
version = release = importlib.metadata.version("tsattn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
# Shapes stand in the annotations, so signatures keep them, one parameter a line.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Cost", "notes_style")]

# Examples in docstrings lean on the names of their own module, and the reference is one page: it gets the names of
# every module that it shows.
_shown = re.findall(
    r"^\.\. (?:auto|current)module:: (\S+)$", Path(__file__).with_name("api.md").read_text(encoding="utf-8"), flags=re.M
)
doctest_global_setup = "\n".join(f"from {module} import *" for module in _shown)

html_theme = "furo"
html_title = f"tsattn {release}"

# numpy's ArrayLike is a union of a dozen names that its users never see.
_LONG_NAMES = {stringify_annotation(ArrayLike, mode): "ArrayLike" for mode in ("smart", "fully-qualified")}


def _shorten(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    for long, short in _LONG_NAMES.items():
        signature = signature and signature.replace(long, short)
    return signature, returns


def setup(app: Any) -> None:
    """Called by Sphinx before it reads the pages."""
    app.connect("autodoc-process-signature", _shorten)
