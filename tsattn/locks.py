"""Locks of the process, which a fork waits for.

A process that is forked has one thread. A lock that another thread held would never be released
there.
"""

import functools
import os
from collections.abc import Callable
from threading import RLock
from typing import ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_AnswerT = TypeVar("_AnswerT")


def forkable() -> RLock:
    """A lock that the forking thread holds during a fork."""
    lock = RLock()
    if hasattr(os, "register_at_fork"):  # some systems have no forks
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


# A fork takes the last lock first, so one under which another is taken is made after it.

# What torch keeps for the whole process, such as its default type.
TORCH_STATE = forkable()
# Filters of warnings belong to the whole process. Two threads that leave ``catch_warnings`` in
# another order than they entered it would restore the wrong filters.
FILTERS = forkable()
# Two threads that add to what a forecaster knows would each lose what the other adds.
_UPDATES = forkable()


def in_turn(update: Callable[_Arguments, _AnswerT]) -> Callable[_Arguments, _AnswerT]:
    """A function that no two threads run at the same time, nor another function of this kind.

    Args:
        update: The function.
    """

    @functools.wraps(update)
    def waiting(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _AnswerT:
        with _UPDATES:
            return update(*args, **kwargs)

    return waiting
