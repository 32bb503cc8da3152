"""Frozen, checked groups of settings that scikit-learn's ``clone`` and searches can look into."""

from dataclasses import fields, replace
from numbers import Integral
from typing import Any, Self


class Settings:
    """Base of the frozen dataclasses that forecasters take as arguments: how a table is read, a
    network, a training.

    A value stays as it was given, so that ``clone`` finds it again.
    ``forecaster.set_params(network__d_model=32)``, and with it a search over ``network__d_model``,
    puts a changed copy into the forecaster and leaves this one as it is.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Names and values.

        Args:
            deep: Without meaning here; scikit-learn passes it.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed, checked as a new one.

        Args:
            **values: New values by name.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        known = self.get_params()
        for name in values:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}; it has {', '.join(known)}"
                )
        return replace(self, **values)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Values that differ from their defaults."""
        return {
            field.name: value
            for field in fields(self)  # type: ignore[arg-type]
            if (value := getattr(self, field.name)) != field.default
        }

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({fields})"


def check_settings(owner: object, *names: str) -> None:
    """Refuse settings of an owner, where it has some of these names, that are not of their class.

    Raises:
        TypeError: Naming the class.
    """
    for name in names:
        if hasattr(owner, name) and not isinstance(given := getattr(owner, name), Settings):
            kind = f"tsattn.{name.title()}"
            raise TypeError(f"{name} must be a {kind}, such as {kind}(); got {given!r}")


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int.

    Raises:
        ValueError: If it is no whole number of at least ``least``.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")
    return int(value)
