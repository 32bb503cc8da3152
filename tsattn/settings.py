"""The base of frozen groups of settings, which scikit-learn's ``clone`` and searches can read."""

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Self


class Settings:
    """The base of the frozen dataclasses that forecasters take as arguments.

    ``Schema`` says how a table is read, ``Network`` what a network looks like, ``Training`` how it
    is trained. Values are stored unchanged, because ``clone`` compares them.
    ``forecaster.set_params(network__d_model=32)`` puts a changed copy into the forecaster; so does
    a search over ``network__d_model``.
    """

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Names and values.

        Args:
            deep: scikit-learn passes it; it has no effect, since no value is a group.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def changed(self, **values: Any) -> Self:
        """A copy with some values changed. The copy is checked as a new object is.

        Args:
            **values: New values by name.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        names = [*self.get_params()]
        for name in values:
            if name not in names:
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}; it has {', '.join(names)}"
                )
        return replace(self, **values)  # type: ignore[type-var]

    def to_dict(self) -> dict[str, Any]:
        """Values that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]
        values = self.get_params()
        return {name: value for name, value in values.items() if value != defaults[name]}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.to_dict().items())
        return f"{type(self).__name__}({arguments})"


def own_arguments(owner: Any) -> dict[str, Any]:
    """The arguments of the constructor of an object, and their values.

    Raises:
        AttributeError: If the constructor does not store one under its name.
    """
    arguments = {}
    class_name = type(owner).__name__
    for name, parameter in inspect.signature(type(owner)).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise AttributeError(
                f"the constructor of {class_name} must name all of its arguments; got {parameter}:"
                " write them out"
            )
        if not hasattr(owner, name):
            raise AttributeError(
                f"the constructor of {class_name} must store {name!r} under its name; write"
                f" self.{name} = {name} there"
            )
        arguments[name] = getattr(owner, name)
    return arguments


def is_default(value: Any, default: Any) -> bool:
    """Whether an argument equals its default and has its type."""
    # Other objects, such as arrays, may not compare to one truth value.
    comparable = isinstance(value, Settings | str | int | float | tuple)
    return value is default or (comparable and type(value) is type(default) and value == default)


def check_settings(owner: object, *names: str) -> None:
    """Refuse a group of settings that is of another class, such as a dict.

    Args:
        owner: A forecaster.
        *names: Attributes that hold groups; the owner may lack some.

    Raises:
        TypeError: Naming the class.
    """
    for name in names:
        if not hasattr(owner, name):
            continue
        checked_group(name, getattr(owner, name))


def checked_group(name: str, value: Any) -> Settings:
    """A group of settings, if it is one.

    Args:
        name: Of the argument that holds it.
        value: What was passed.

    Raises:
        TypeError: Naming the class.
    """
    if not isinstance(value, Settings):
        class_name = f"tsattn.{name.title()}"
        raise TypeError(f"{name} must be a {class_name}, such as {class_name}(); got {value!r}")
    return value


def arranged(cls: type[Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor from settings by their bare names.

    Args:
        cls: A class whose arguments may be groups of settings.
        settings: Arguments, or fields of the groups among them.

    Raises:
        ValueError: If a name is unknown or a value out of its range.
    """
    parameters = inspect.signature(cls).parameters
    groups: dict[str, Settings] = {}  # settings objects among the arguments, by argument
    homes: dict[str, str] = {}  # argument of each field of these objects
    for name, parameter in parameters.items():
        if isinstance(parameter.default, Settings):
            groups[name] = parameter.default
            homes.update(dict.fromkeys(parameter.default.get_params(), name))
    arguments: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        if name in parameters:
            arguments[name] = value
        elif name in homes:
            inside.setdefault(homes[name], {})[name] = value
        else:
            names = ", ".join((*parameters, *homes))
            raise ValueError(f"{cls.__name__} has no setting {name!r}; it has {names}")
    for name, values in inside.items():
        group = checked_group(name, arguments.get(name, groups[name]))
        arguments[name] = group.changed(**values)
    return arguments
