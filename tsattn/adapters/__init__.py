"""Functions that connect tsattn with other libraries, which are imported on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.adapters.gluonts import from_gluonts, to_gluonts
    from tsattn.adapters.sktime import to_sktime
    from tsattn.adapters.transformers import register_transformers

__all__ = ["from_gluonts", "register_transformers", "to_gluonts", "to_sktime"]


# The package that each function connects with; the module of the function has the same name.
_PACKAGES = {
    "from_gluonts": "gluonts",
    "register_transformers": "transformers",
    "to_gluonts": "gluonts",
    "to_sktime": "sktime",
}


def __getattr__(name: str) -> Any:
    """Import a function; Python calls this where the module has no such attribute yet."""
    if name not in _PACKAGES:
        raise AttributeError(f"module 'tsattn.adapters' has no attribute {name!r}")
    package = _PACKAGES[name]
    try:
        function = getattr(import_module(f"tsattn.adapters.{package}"), name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        # tsattn itself installs GluonTS, its extras the others.
        install = package if package == "gluonts" else f"'tsattn[{package}]'"
        raise ModuleNotFoundError(
            f"{name} needs {package}; install it with: pip install {install}", name=package
        ) from error
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    """Names for completion, with those that are not imported yet."""
    return sorted({*globals(), *__all__})
