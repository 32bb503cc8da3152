"""The entry point of ``tsattn`` and of ``python -m tsattn``, which runs the command line."""

import os
import signal
import sys
from types import FrameType

# As that of tsattn.cli, which is not imported yet.
_INTERRUPTED = 130


def main() -> int:
    """Run the command line of this process and return its exit code."""
    handler = signal.getsignal(signal.SIGINT)
    # In the background an interrupt is ignored.
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    from tsattn import cli

    signal.signal(signal.SIGINT, handler)
    return cli.main()


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End the process at once: an exception would show where the imports were."""
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    sys.exit(main())
