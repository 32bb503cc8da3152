"""Words of other libraries that are answered here, and all others left to the user."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord, getLogger
from signal import SIGINT, getsignal, signal
from threading import RLock, get_ident

# Filters belong to the whole process: two threads that leave ``catch_warnings`` in another order
# would leave the wrong list behind, so they take turns.
_LOCK = RLock()
# What Lightning says by these loggers is no matter of the user's.
LIGHTNING = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch")


@contextmanager
def collected(*rules: tuple[type[Warning], str]) -> Iterator[list[str]]:
    """Collect the warnings that match a rule; all others reach the user when the block ends or
    raises.

    The user's filters are as before afterwards. Blocks of several threads run one after the other.

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
    with _LOCK:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield texts
        finally:
            for each in caught:
                if any(
                    issubclass(each.category, kind) and re.match(text, str(each.message))
                    for kind, text in rules
                ):
                    texts.append(str(each.message))
                else:
                    warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


@contextmanager
def ignored(*rules: tuple[type[Warning], str]) -> Iterator[None]:
    """Ignore the warnings that match a rule; all others go their way, and the user's filters are as
    before after.

    Args:
        *rules: As for :func:`collected`.
    """
    with _LOCK, warnings.catch_warnings():
        for kind, text in rules:
            warnings.filterwarnings("ignore", message=text, category=kind)
        yield


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """Drop what loggers say to this thread; levels and handlers stay, and other threads are heard.

    Args:
        *names: Names of the loggers; a logger's children are others.
    """
    mine = get_ident()

    def from_elsewhere(record: LogRecord) -> bool:
        return record.thread != mine

    loggers = [getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(from_elsewhere)


@contextmanager
def interruptible() -> Iterator[None]:
    """Lightning answers an interrupt by turning the signal off and leaving; both are the caller's
    to decide.
    """
    before = getsignal(SIGINT)
    try:
        yield
    except SystemExit as left:
        if isinstance(left.__context__, KeyboardInterrupt):
            signal(SIGINT, before)
            raise KeyboardInterrupt from None
        raise
