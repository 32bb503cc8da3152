"""Errors that name a parameter, and the checks that several modules share.

A parameter has two spellings: ``freq="h"`` in Python and ``--freq h`` on the command line. An
:class:`InputError` keeps the parameters apart from the rest of its text. ``str(error)`` spells them
for Python, and :meth:`InputError.for_command_line` spells them as options.
"""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from numbers import Integral, Real
from typing import Any

# Numbers that stand for a missing value in many tables, and values beside them that show where a
# series lies, at least. They lie so many of its ranges outside.
_LOW_SENTINELS = (-99, -999, -9999, -99999, -999999, -(2**15), -(2**31))
# As tables of weather write them. 999.99 is rather a price.
_DECIMAL_SENTINELS = (-99.9, -99.99, -999.9, -9999.9, 999.9, 9999.9, 9999.99)
SENTINELS = (*_LOW_SENTINELS, *_DECIMAL_SENTINELS, 999, 9999, 99999, 999999, 2**31 - 1)
# From this size on fills such as 1e20 and the largest float32.
LEAST_FILL = 1e15
LEAST_OTHERS = 5
SENTINEL_RANGES = 2


@dataclass(frozen=True)
class Name:
    """A parameter without a value: ``n_windows`` in Python, ``--n-windows`` on the command line.

    Args:
        parameter: Its name in Python.
    """

    parameter: str

    def __str__(self) -> str:
        return self.parameter

    def for_command_line(self, options: Mapping[str, str]) -> str:
        """The option, or the name where a command has no such option."""
        return options.get(self.parameter, str(self))


@dataclass(frozen=True)
class Argument:
    """A parameter that gets a value: ``missing='ffill'`` in Python, ``--missing ffill`` on the
    command line.

    Args:
        parameter: Its name in Python.
        value: The value to pass; ``None`` leaves it open, as in ``freq=``.
    """

    parameter: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.parameter}={'' if self.value is None else repr(self.value)}"

    def for_command_line(self, options: Mapping[str, str]) -> str:
        """The option with its value, or the Python text where a command has no such option."""
        if self.parameter not in options:
            return str(self)
        option = options[self.parameter]
        if self.value is None:
            return option
        values = self.value if isinstance(self.value, list) else [self.value]
        return " ".join(f"{option} {value}" for value in values)


@dataclass(frozen=True)
class InPython:
    """Advice that only Python can follow; the command line leaves it out.

    Args:
        advice: The text, with the words that join it to the text before.
    """

    advice: str

    def __str__(self) -> str:
        return self.advice

    def for_command_line(self, options: Mapping[str, str]) -> str:
        """Nothing."""
        return ""


Piece = str | Name | Argument | InPython


class _InPieces(Exception):
    """What is said to the user in pieces, of which Python and the command line spell some apart."""

    def __init__(self, *pieces: Piece) -> None:
        super().__init__(*pieces)

    def __str__(self) -> str:
        return "".join(map(str, self.args))

    def for_command_line(self, options: Mapping[str, str]) -> str:
        """The message with options in the place of parameters.

        Args:
            options: Name of each parameter -> option, such as ``{"freq": "--freq"}``.
        """
        return _spelt(self.args, options)


class InputError(_InPieces, ValueError):
    """A mistake in what the user gave: the value, the rule and a remedy.

    Args:
        *pieces: The message in order. Plain text stands as it is.

    Example:
        >>> error = InputError("fill them by ", Argument("missing", "ffill"))
        >>> str(error)
        "fill them by missing='ffill'"
        >>> error.for_command_line({"missing": "--missing"})
        'fill them by --missing ffill'
    """


class InputWarning(_InPieces, UserWarning):
    """A remark on what the user gave, spelt as :class:`InputError` spells its message.

    Args:
        *pieces: The message in order. Plain text stands as it is.
    """


# What is done to each piece of a message, where a table is read in another way than the calls in
# messages expect.
_change_of_pieces: ContextVar[Callable[[Piece], Piece] | None] = ContextVar("pieces", default=None)


@contextmanager
def changed_pieces(change: Callable[[Piece], Piece]) -> Iterator[None]:
    """Change the pieces of errors and warnings that are raised inside.

    Args:
        change: The piece that stands in the place of another.
    """
    token = _change_of_pieces.set(change)
    try:
        yield
    except InputError as error:
        error.args = tuple(map(change, error.args))
        raise
    finally:
        _change_of_pieces.reset(token)


def warn(message: str | Warning, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called tsattn, however deep inside the remark is made.

    Args:
        message: The text, or the warning itself.
        category: Its class, if it is a text.
    """
    change = _change_of_pieces.get()
    if change is not None and isinstance(message, InputWarning):
        message.args = tuple(map(change, message.args))
    caller = frame = sys._getframe(1)
    # The outermost frame of the package has been called by the user; forecasters of the user's own
    # may lie between.
    while frame.f_back is not None:
        is_inside = frame.f_globals.get("__name__", "").partition(".")[0] == "tsattn"
        frame = frame.f_back
        if is_inside:
            caller = frame
    module = caller.f_globals.get("__name__", "")
    registry = caller.f_globals.setdefault("__warningregistry__", {})
    place = caller.f_code.co_filename, caller.f_lineno
    warnings.warn_explicit(message, category, *place, module, registry)


def _spelt(pieces: Iterable[Piece], options: Mapping[str, str]) -> str:
    return "".join(
        piece if isinstance(piece, str) else piece.for_command_line(options) for piece in pieces
    )


def pieces_of(error: ValueError) -> tuple[Piece, ...]:
    """The message of an error, for another error that says more."""
    return error.args if isinstance(error, InputError) else (str(error),)


def listed(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first ``most`` names, and how many others there are.

    Example:
        >>> listed(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    n_others = len(names) - most
    others = f" and {n_others} more" if n_others > 0 else ""
    return between.join(names[:most]) + others


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number of Python or numpy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number of Python or numpy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_switch(value: Any) -> bool:
    """Whether a value is True or False, of Python or numpy."""
    # Flags of numpy, which is not imported here, have a type of their own.
    return type(value).__name__ in ("bool", "bool_")


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return ``value`` as an int.

    Args:
        name: The parameter, for the message.
        value: A whole number of Python or numpy; booleans are refused.
        least: The smallest number that is allowed.

    Raises:
        InputError: If it is no whole number of at least ``least``.
    """
    if not is_whole(value) or value < least:
        rule = f"must be a whole number of at least {least}; got {value!r}"
        raise InputError(Name(name), f" {rule}")
    return int(value)


def check_whole_or_none(name: str, value: Any, least: int = 1) -> int | None:
    """As :func:`check_whole`, but ``None`` stays ``None``."""
    return None if value is None else check_whole(name, value, least)


def check_choice(name: str, value: Any, choices: Iterable[Any], advice: str = "") -> None:
    """Refuse a value that is not among the choices.

    Args:
        name: The parameter, for the message.
        value: What it was given.
        choices: What it may be.
        advice: The end of the message, where the names of the choices do not say enough.

    Raises:
        InputError: If it is none of them.
    """
    allowed = [*choices]
    # Python's 1 equals True, and a choice of True is none of 1.
    if value not in [choice for choice in allowed if is_switch(choice) == is_switch(value)]:
        names = ", ".join(map(str, allowed))
        raise InputError(Name(name), f" must be one of {names}; got {value!r}{advice}")


def check_switch(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Args:
        name: The parameter, for the message.
        value: What it was given.

    Raises:
        InputError: If it is something else.
    """
    if not is_switch(value):
        raise InputError(Name(name), f" must be True or False; got {value!r}")


def check_installed(feature: str, packages: Iterable[str], install: str) -> None:
    """Refuse a feature whose packages are not installed.

    Args:
        feature: Name of the feature, for the message.
        packages: Names by which the packages are imported.
        install: Arguments of ``pip install`` that bring the packages.

    Raises:
        ImportError: Naming the package.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ImportError(f"{feature} needs {package}; install it with: pip install {install}")
