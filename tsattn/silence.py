"""Context managers that keep warnings and log lines of other libraries from the user."""

import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging import LogRecord, getLogger
from threading import current_thread, get_ident, main_thread
from typing import Any

from tsattn.locks import FILTERS

# Category of a warning, and the beginning of its message as a regular expression.
_Rule = tuple[type[Warning], str]
# Lightning reports on these loggers what concerns its own developers.
LIGHTNING = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch",
    "lightning.pytorch.trainer.connectors.signal_connector",
)
# Signals whose handlers Lightning replaces; not every system has the last one.
_HANDLED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]


@contextmanager
def collected(*rules: _Rule) -> Iterator[list[str]]:
    """Collect the warnings that match a rule. All others reach the user when the block ends.

    The block restores the user's filters. Blocks of several threads run one after the other.

    Args:
        *rules: Category and the beginning of the message as a regular expression, ``""`` for any.

    Yields:
        A list that holds the texts of the collected warnings once the block has ended.

    Example:
        >>> with collected((UserWarning, "known")) as texts:
        ...     warnings.warn("known and answered")
        >>> texts
        ['known and answered']
    """
    texts: list[str] = []
    with FILTERS:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield texts
        finally:
            for warning in caught:
                text = str(warning.message)
                if _matches(warning.category, text, rules):
                    texts.append(text)
                else:
                    warnings.warn_explicit(
                        warning.message, warning.category, warning.filename, warning.lineno
                    )


def _matches(category: type[Warning], text: str, rules: Iterable[_Rule]) -> bool:
    return any(
        issubclass(category, rule_category) and re.match(beginning, text)
        for rule_category, beginning in rules
    )


@contextmanager
def ignored(*rules: _Rule) -> Iterator[None]:
    """Ignore the warnings that match a rule. The block restores the user's filters.

    Args:
        *rules: As for :func:`collected`.
    """
    with FILTERS, warnings.catch_warnings():
        for category, beginning in rules:
            warnings.filterwarnings("ignore", message=beginning, category=category)
        yield


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """Drop the records that this thread sends to loggers; records of other threads pass.

    Args:
        *names: Names of the loggers. The children of a logger are not included.
    """
    silenced_thread = get_ident()

    def is_of_another_thread(record: LogRecord) -> bool:
        return record.thread != silenced_thread

    loggers = [getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(is_of_another_thread)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(is_of_another_thread)


@contextmanager
def interruptible() -> Iterator[Callable[..., None]]:
    """Let Lightning train inside the block as if it knew no signals.

    It answers an interrupt by ignoring the signal from then on and by leaving Python, or by another
    error where it was about to end. It answers SIGTERM by leaving Python with the exit code 0,
    whatever handler the user has. An interrupt raises KeyboardInterrupt.

    Yields:
        A function that puts back the user's handlers, to be called once Lightning has begun.
    """
    handlers = {number: signal.getsignal(number) for number in _HANDLED}
    error_outside = sys.exc_info()[1]

    def restore(*_: Any) -> None:
        if current_thread() is main_thread():  # no other thread may change them
            for number, handler in handlers.items():
                if handler is not None:  # one that Python did not install
                    signal.signal(number, handler)

    try:
        yield restore
    finally:
        restore()
        error = sys.exc_info()[1]
        while error is not None and error is not error_outside:
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            error = error.__context__
