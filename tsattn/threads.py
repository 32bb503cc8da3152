"""How many threads does torch use for a while? The commands ask for few; the library leaves the number alone."""

from collections.abc import Iterator
from contextlib import contextmanager


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
