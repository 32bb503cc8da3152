"""Settings of Sphinx, which builds these pages without touching the network."""

import importlib.metadata
import re
from typing import Any

from docutils.nodes import Element, Node, SkipNode, math_block
from docutils.utils.math.latex2mathml import tex2mathml
from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation

import tsattn

project = "tsattn"
author = "The tsattn authors"
copyright = author
version = release = importlib.metadata.version("tsattn")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
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
# What a fit learns is a property, which has an entry of its own.
napoleon_use_ivar = True
napoleon_custom_sections = [("Cost", "notes_style")]

# A name that a docstring links is in the reference, or the build fails. Two kinds are let through:
# types of other packages, whose own pages would have to be fetched, and the insides below, which
# the reference leaves out on purpose.
nitpicky = True
_INSIDES = (
    "tsattn.training.state.Checkpoint",
    "tsattn.random.Generators",
    "tsattn.training.state.Progress",
    "tsattn.data.calendar.parse_freq",
    "tsattn.data.columns._Interchange",
    "tsattn.data.columns._ToPandas",
    "tsattn.distributed._Item",
    "tsattn.distributed._Result",
    "tsattn.forecasters.auto.AutoFitted",
    "tsattn.forecasters.pretrained.PretrainedFitted",
    "tsattn.data.columns.as_frame",
    "tsattn.data.cycles.CYCLES",
    "tsattn.distributed._R",
    "tsattn.distributed._T",
    "tsattn.evaluate.rolling.Rolled",
    "tsattn.evaluate.rolling.roll",
    "tsattn.forecaster.forecast_panel",
    "tsattn.forecasters.covariate_regression.CovariateRegression",
    "tsattn.kernels.decode.decode",
    "tsattn.kernels.geometry.Geometry",
    "tsattn.nn.layers.FeedForward",
    "tsattn.training.processes.Team",
    "tsattn.training.loop.ForecastModule",
    "tsattn.terminal.ProgressLine",
    *("AdaptiveConformal.places", "Cache.append", "Cache.attend"),
    *("CYCLES", "FACTS", "HEADS", "MISSING", "QUANTILES", "READS"),
    *("judged_rows", "parse_freq", "run_processes", "scale_before"),
)
nitpick_ignore_regex = [
    (r"py:class", r"(?!tsattn\.).*"),
    (r"py:exc", r"sklearn\..*"),
    (r"py:\w+", "|".join(map(re.escape, _INSIDES))),
]

html_theme = "furo"
# Browsers read MathML without a script, which the default renderer would load from another host.
html_math_renderer = "mathml"
html_title = f"tsattn {release}"

# numpy's ArrayLike is a union of a dozen names that its users never see.
_LONG_NAMES = {
    stringify_annotation(ArrayLike, mode): "ArrayLike" for mode in ("smart", "fully-qualified")
}


def _shorten(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: Any,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None]:
    for long, short in _LONG_NAMES.items():
        signature = signature and signature.replace(long, short)
    return signature, returns


def _at_home(app: Any, env: Any, node: Any, inside: Node) -> Node | None:
    """Where the link to a public name leads: to the module that it lives in, where the reference
    shows it.
    """
    name = re.fullmatch(r"tsattn\.(\w+)(.*)", node.get("reftarget", ""))
    if node.get("refdomain") != "py" or name is None or name[1] not in tsattn._HOMES:
        return None
    target = f"{tsattn._HOMES[name[1]]}.{name[1]}{name[2]}"
    found: Node | None = env.domains["py"].resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], target, node, inside
    )
    return found


def _write_mathml(translator: Any, node: Element) -> None:
    """Write a formula as MathML; TeX that docutils does not know stops the build."""
    block = isinstance(node, math_block)
    formula = tex2mathml(node.astext().strip(), as_block=block)
    translator.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx before it reads the pages."""
    app.add_html_math_renderer("mathml", (_write_mathml, None), (_write_mathml, None))
    app.connect("missing-reference", _at_home)
    app.connect("autodoc-process-signature", _shorten)
