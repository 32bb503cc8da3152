"""What every test of the scripts in benchmarks/ may count on: a commit for its records."""

import pytest
from checkout import ORIGIN


@pytest.fixture(autouse=True)
def _in_checkout(monkeypatch):
    """Reading records refuses those without a commit, which an exported tree has not."""
    monkeypatch.setattr("tsattn.benchmark.current_commit", lambda: ORIGIN["commit"])
