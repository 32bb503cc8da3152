"""The list of planted breaks stays in step with the sources."""

from pathlib import Path

import pytest
from mutants import ROOT, Mutant, broken, mutants


def test_every_break_finds_its_place_and_its_tests():
    listed = mutants()
    assert len(listed) >= 25
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in listed}) == len(listed)
    for mutant in listed:
        assert broken(mutant, ROOT) != (ROOT / mutant.file).read_text()
        assert all((ROOT / name).is_file() for name in mutant.tests.split())


def test_a_text_that_is_gone_is_refused(tmp_path):
    Path(tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for old, count in (("x = 1", 2), ("y = 1", 0)):
        with pytest.raises(ValueError, match=f"must hold the text once; got {count} of"):
            broken(Mutant("a.py", old, "", ""), tmp_path)
