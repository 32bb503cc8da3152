"""What `python -m tsattn` runs: the command line."""

import sys

from tsattn.cli import main

if __name__ == "__main__":
    sys.exit(main())
