"""How do other libraries get at ours? One door each; the other library is imported when its door is
opened.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.adapters.gluonts import from_gluonts, to_gluonts
    from tsattn.adapters.sktime import to_sktime
    from tsattn.adapters.transformers import register_transformers

__all__ = ["from_gluonts", "register_transformers", "to_gluonts", "to_sktime"]

# Name -> module, package it needs, extra that installs the package (None: it comes with tsattn).
_DOORS: dict[str, tuple[str, str, str | None]] = {
    "from_gluonts": ("tsattn.adapters.gluonts", "gluonts", None),
    "register_transformers": ("tsattn.adapters.transformers", "transformers", "transformers"),
    "to_gluonts": ("tsattn.adapters.gluonts", "gluonts", None),
    "to_sktime": ("tsattn.adapters.sktime", "sktime", "sktime"),
}


def __getattr__(name: str) -> Any:
    """Open a door; Python calls this where the module has no such attribute yet."""
    if name not in _DOORS:
        raise AttributeError(f"module 'tsattn.adapters' has no attribute {name!r}")
    home, package, extra = _DOORS[name]
    try:
        found = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        what = package if extra is None else f"'tsattn[{extra}]'"
        raise ModuleNotFoundError(
            f"{name} needs {package}; install it with: pip install {what}", name=package
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Names for completion, those not imported yet included."""
    return sorted({*globals(), *__all__})
