"""How many threads may a command take, and how much time a fit? The library leaves torch's number of threads alone."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def limit_threads(n_threads: int | None) -> Iterator[None]:
    """Let torch use ``n_threads`` inside a block, and as many as before after it.

    Networks of the default size do little between two points at which threads wait for one another: a second thread
    gains little on idle cores, and costs much on busy ones.

    Args:
        n_threads: At least 1; ``None`` changes nothing.

    Raises:
        ValueError: If it is below 1.
    """
    if n_threads is not None and n_threads < 1:
        raise ValueError(f"threads must be at least 1; got {n_threads}")
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if n_threads is None else n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds_from(max_time: Any) -> float | None:
    """A time limit in seconds from ``"90s"``, ``"10m"``, ``"1.5h"`` or a number of seconds; ``None`` stays.

    Raises:
        ValueError: If it is anything else.

    Example:
        >>> seconds_from("10m"), seconds_from(90)
        (600.0, 90.0)
    """
    if max_time is None or (isinstance(max_time, int | float) and not isinstance(max_time, bool)):
        return None if max_time is None else float(max_time)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([smh])\s*", max_time) if isinstance(max_time, str) else None
    if found is None:
        raise ValueError(f"max_time must be seconds or a text such as '90s', '10m' or '2h'; got {max_time!r}")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
