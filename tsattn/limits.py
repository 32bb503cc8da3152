"""How many threads torch may take, how much time a fit, and in which precision networks
are made.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any

# Multiply-adds of one pass forward (nn.models.multiply_adds) from which a network takes all of
# torch's threads. Measured on two cores: one thread against two, networks of three layers and
# widths from 16 to 256, steps of 1 to 2,048 windows. Alone on the machine a second thread makes
# steps 0.9 to 1.05 times as fast below 10 million multiply-adds, up to 1.5 times below 250 million,
# and 1.5 to 1.7 times from 800 million on, where a step takes a tenth of a second. Beside two other
# busy processes it makes them 2 to 30 times slower, at every size, for both threads wait, some
# hundred times a step, until the system lets the other one go on. Only where the gain is full is
# that risk worth taking.
ALL_THREADS_FROM = 1e9


def choose_threads(n_threads: int | None, work: float) -> int:
    """Threads for a network: as many as asked for, otherwise one for a small network, all of
    torch's for a large one.

    Args:
        n_threads: What the user asks for, at least 1; ``None`` leaves the choice to ``work``.
        work: Multiply-adds of one pass forward.

    Raises:
        ValueError: If ``n_threads`` is no whole number of at least 1.
    """
    import torch

    if n_threads is not None:
        return check_threads(n_threads)
    return torch.get_num_threads() if work >= ALL_THREADS_FROM else 1


def keep_memory() -> None:
    """Let the C library keep memory that is freed, up to 64 MiB of it, for what is asked for next.

    GNU's gives freed memory back to the system above a limit, and the system hands it out page by
    page, which took a third of a forecast's time. The limit is twice the largest block, of at most
    32 MiB, that was ever freed.
    """
    import torch

    torch.empty(2**25 - 2**12, dtype=torch.uint8)


def check_threads(n_threads: Any) -> int:
    """A number of threads, as it is.

    Raises:
        ValueError: If it is no whole number of at least 1.
    """
    if not hasattr(n_threads, "__index__") or isinstance(n_threads, bool) or n_threads < 1:
        raise ValueError(
            f"n_threads must be a whole number of at least 1; got {n_threads!r}; leave it out for"
            " the library's choice"
        )
    return int(n_threads)


class _Holders:
    """Blocks that hold torch's number of threads at a value, of all threads of Python together.

    The number belongs to each thread of Python, and a new one begins with the number that was set
    last, by whomever. A thread that begins while another one is in its block would keep that
    block's number for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known = threading.local()
        self._inside = 0
        self._outside = 0
        self._latest = 0

    def enter(self, n_threads: int) -> int:
        """Set the number; what it shall be again afterwards."""
        import torch

        with self._lock:
            before = torch.get_num_threads()
            if not self._inside:
                self._outside = before
            elif not hasattr(self._known, "before") and before == self._latest:
                before = self._outside
            self._known.before = before
            self._inside += 1
            self._latest = n_threads
            torch.set_num_threads(n_threads)
        return before

    def leave(self, before: int) -> None:
        """Set the number that :meth:`enter` gave."""
        import torch

        with self._lock:
            self._inside -= 1
            self._latest = before
            torch.set_num_threads(before)


_HOLDERS = _Holders()


@contextmanager
def limit_threads(n_threads: int) -> Iterator[int]:
    """Let torch use ``n_threads`` inside a block, and as many as before after it, whatever ends it.

    Args:
        n_threads: At least 1.

    Yields:
        That number.

    Raises:
        ValueError: If it is no whole number of at least 1.
    """
    n_threads = check_threads(n_threads)
    keep_memory()
    before = _HOLDERS.enter(n_threads)
    try:
        yield n_threads
    finally:
        _HOLDERS.leave(before)


class _InSingle:
    """Blocks in which torch makes float32 where nothing else is asked, whatever the user set; of
    all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outside: Any = None

    def __enter__(self) -> None:
        import torch

        with self._lock:
            self._outside = self._outside if self._inside else torch.get_default_dtype()
            self._inside += 1
            torch.set_default_dtype(torch.float32)

    def __exit__(self, *_: object) -> None:
        import torch

        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.set_default_dtype(self._outside)


IN_SINGLE = _InSingle()


def seconds_from(max_time: Any) -> float | None:
    """A time limit in seconds from ``"90s"``, ``"10m"``, ``"1.5h"`` or a number of seconds;
    ``None`` stays.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> seconds_from("10m"), seconds_from(90)
        (600.0, 90.0)
    """
    if max_time is None or (isinstance(max_time, Real) and not isinstance(max_time, bool)):
        return None if max_time is None else float(max_time)
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh])\s*", max_time)
        if isinstance(max_time, str)
        else None
    )
    if found is None:
        raise ValueError(
            f"max_time must be seconds or a text such as '90s', '10m' or '2h'; got {max_time!r}"
        )
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
