"""The entry point of ``python -m tsattn``, which runs the command line."""

import sys

from tsattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
