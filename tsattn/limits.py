"""Limits of a fit: threads of torch, time, and the place and precision of new networks."""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from tsattn.checks import InputError, Name, check_whole, is_number
from tsattn.locks import TORCH_STATE

# Multiply-adds of one pass forward (nn.models.multiply_adds) from which a network takes all of
# torch's threads. Measured on two cores, one thread against two, with networks of three layers,
# widths from 16 to 256, and steps of 1 to 2,048 windows. On an idle machine a second thread makes
# steps 0.9 to 1.05 times as fast below 10 million multiply-adds, up to 1.5 times below 250 million,
# and 1.5 to 1.7 times from 800 million on, where a step takes a tenth of a second. On a machine
# with two other busy processes it makes steps of every size 2 to 30 times slower, because each
# thread waits for the other some hundred times a step. The limit takes that risk only where the
# gain is full.
ALL_THREADS_FROM = 1e9
# 32 MiB less a page for the header of the block.
_LARGEST_COUNTED_BLOCK_BYTES = 2**25 - 2**12
# Where Linux lists the threads of this process.
_TASKS = "/proc/self/task"
# A thread needs less than a millisecond to end, on a crowded machine some tens of them.
_END_SECONDS = 1.0
_LOOK_SECONDS = 1e-4
_SECONDS_PER_UNIT = {"": 1, "s": 1, "m": 60, "h": 3600}
_TIME_LIMIT = re.compile(r"\s*(?P<number>\d+(?:\.\d*)?)\s*(?P<unit>[smh]?)\s*")


def choose_threads(n_threads: int | None, work: float) -> int:
    """The number of threads for a network.

    Args:
        n_threads: Number that the user sets, at least 1. ``None`` gives a small network one thread
            and a large one all of torch's.
        work: Multiply-adds of one pass forward.

    Raises:
        ValueError: If ``n_threads`` is no whole number of at least 1.
    """
    import torch

    if n_threads is not None:
        return check_whole("n_threads", n_threads)
    return torch.get_num_threads() if work >= ALL_THREADS_FROM else 1


def keep_memory() -> None:
    """Let the C library keep up to 64 MiB of freed memory for the next request.

    GNU's C library returns freed memory above a limit to the system, which hands it out again page
    by page. That took a third of a forecast's time. The limit is twice the largest block that was
    ever freed, of blocks up to 32 MiB; so one such block is requested and freed.
    """
    import torch

    torch.empty(_LARGEST_COUNTED_BLOCK_BYTES, dtype=torch.uint8)


class _Holders:
    """The blocks of all threads of Python that hold torch's number of threads at a value.

    Each thread of Python has a number of its own, and a new thread begins with the number that any
    thread set last. A thread that begins while another one is in its block would therefore keep
    that block's number for good.
    """

    def __init__(self) -> None:
        self._thread_state = threading.local()
        self._n_blocks = 0
        self._outside = 0  # the number before the first block
        self._latest = 0  # the number that was set last

    def enter(self, n_threads: int) -> int:
        """Set the number, and return the number to set after the block."""
        import torch

        with TORCH_STATE:
            threads_before = torch.get_num_threads()
            is_new_thread = not hasattr(self._thread_state, "before")
            if not self._n_blocks:
                self._outside = threads_before
            elif is_new_thread and threads_before == self._latest:
                # The number comes from the block of another thread.
                threads_before = self._outside
            self._thread_state.before = threads_before
            self._n_blocks += 1
            self._latest = n_threads
            torch.set_num_threads(n_threads)
        return threads_before

    def leave(self, before: int) -> None:
        """Set the number that :meth:`enter` returned."""
        import torch

        with TORCH_STATE:
            self._n_blocks -= 1
            self._latest = before
            torch.set_num_threads(before)


_HOLDERS = _Holders()


@contextmanager
def limit_threads(n_threads: int) -> Iterator[int]:
    """Let torch use ``n_threads`` inside a block, and the number from before after it.

    Args:
        n_threads: At least 1.

    Yields:
        That number.

    Raises:
        ValueError: If it is no whole number of at least 1.
    """
    n_threads = check_whole("n_threads", n_threads)
    keep_memory()
    before = _HOLDERS.enter(n_threads)
    try:
        yield n_threads
    finally:
        _HOLDERS.leave(before)


@contextmanager
def thread_pool(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of Python that no longer exist when the block has ended.

    Python joins a thread before the system has ended it. In between, the thread returns the memory
    of MKL's Fourier transforms under a lock. A process that is forked then would wait for ever for
    this lock in its first transform: on a crowded machine, one in six did.
    """
    numbers: list[int] = []

    def note_number() -> None:
        numbers.append(threading.get_native_id())

    try:
        with ThreadPoolExecutor(n_threads, initializer=note_number) as pool:
            yield pool
    finally:
        _await_end(numbers)


def _await_end(numbers: Sequence[int]) -> None:
    """Wait until the system has ended the threads of these numbers, a second at most.

    Without a list of threads, as on systems other than Linux, there is no waiting.
    """
    tasks = [f"{_TASKS}/{number}" for number in numbers]
    until = time.monotonic() + _END_SECONDS
    while any(os.path.exists(task) for task in tasks) and time.monotonic() < until:
        time.sleep(_LOOK_SECONDS)


class Shared:
    """Blocks of all threads that need one change of the process: the first to begin makes it, the
    last to end undoes it.

    Args:
        change: Makes the change, and returns what undoes it.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change = change
        self._n_blocks = 0

    def __enter__(self) -> None:
        with TORCH_STATE:
            if not self._n_blocks:
                self._undo = self._change()
            self._n_blocks += 1

    def __exit__(self, *_: object) -> None:
        with TORCH_STATE:
            self._n_blocks -= 1
            if not self._n_blocks:
                self._undo()


def _in_single() -> Callable[[], None]:
    """Make float32 torch's default type, which belongs to the process."""
    import torch

    users_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    return partial(torch.set_default_dtype, users_dtype)


# The blocks of all threads in which torch's default type is float32.
IN_SINGLE = Shared(_in_single)


@contextmanager
def plain_torch() -> Iterator[None]:
    """Let torch make tensors on the CPU and narrow no products inside a block or a function,
    whatever ``torch.set_default_device`` and an autocast around it say. Both belong to a thread.
    """
    with ExitStack() as stack:
        torch = sys.modules.get("torch")
        if torch is not None:  # otherwise nobody can have told it anything
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def seconds_from(max_time: Any) -> float | None:
    """Convert a time limit to seconds.

    Args:
        max_time: A text such as ``"90s"``, ``"10m"`` or ``"1.5h"``, a number of seconds, as text
            too, or ``None`` for no limit.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> seconds_from("10m"), seconds_from(90)
        (600.0, 90.0)
    """
    if max_time is None:
        return None
    if is_number(max_time):
        return float(max_time)
    match = _TIME_LIMIT.fullmatch(max_time) if isinstance(max_time, str) else None
    if match is None:
        raise InputError(
            Name("max_time"),
            f" must be seconds or a text such as '90s', '10m' or '2h'; got {max_time!r}",
        )
    return float(match["number"]) * _SECONDS_PER_UNIT[match["unit"]]
