"""Functions that connect tsattn with other libraries, which are imported on first use."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.adapters.gluonts import from_gluonts, to_gluonts
    from tsattn.adapters.sktime import to_sktime
    from tsattn.adapters.transformers import register_transformers

__all__ = ["from_gluonts", "register_transformers", "to_gluonts", "to_sktime"]


@dataclass(frozen=True)
class _Adapter:
    """Where a function is defined, and what it needs.

    Args:
        module: Name of the module.
        package: Package that the module imports.
        extra: Extra of tsattn that installs the package; ``None`` where tsattn itself does.
    """

    module: str
    package: str
    extra: str | None = None


_ADAPTERS = {
    "from_gluonts": _Adapter("tsattn.adapters.gluonts", "gluonts"),
    "register_transformers": _Adapter(
        "tsattn.adapters.transformers", "transformers", extra="transformers"
    ),
    "to_gluonts": _Adapter("tsattn.adapters.gluonts", "gluonts"),
    "to_sktime": _Adapter("tsattn.adapters.sktime", "sktime", extra="sktime"),
}


def __getattr__(name: str) -> Any:
    """Import a function; Python calls this where the module has no such attribute yet."""
    if name not in _ADAPTERS:
        raise AttributeError(f"module 'tsattn.adapters' has no attribute {name!r}")
    adapter = _ADAPTERS[name]
    try:
        function = getattr(import_module(adapter.module), name)
    except ModuleNotFoundError as error:
        if error.name != adapter.package:
            raise
        install = adapter.package
        if adapter.extra is not None:
            install = f"'tsattn[{adapter.extra}]'"
        raise ModuleNotFoundError(
            f"{name} needs {adapter.package}; install it with: pip install {install}",
            name=adapter.package,
        ) from error
    globals()[name] = function
    return function


def __dir__() -> list[str]:
    """Names for completion, with those that are not imported yet."""
    return sorted({*globals(), *__all__})
