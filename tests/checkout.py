"""The folders of the checkout, and where a record of a test comes from."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Models and forecasts that earlier versions wrote.
GOLDEN = ROOT / "tests" / "golden"
# What every record says of the run behind it.
ORIGIN = {"commit": "c" * 40, "versions": {"torch": "2"}, "machine": "one", "finished": "now"}


def lines_of(path):
    """The records of a file, one a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]
