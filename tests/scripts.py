"""What tests of the scripts in benchmarks/ share."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What every record says of the run behind it.
ORIGIN = {"commit": "c" * 40, "versions": {"torch": "2"}, "machine": "one", "finished": "now"}
