"""The list of planted breaks stays in step with the sources."""

from pathlib import Path

import pytest
from mutants import ROOT, Mutant, broken, copy_tree, mutants


def test_every_break_finds_its_place_and_its_tests():
    listed = mutants()
    assert len(listed) >= 25
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in listed}) == len(listed)
    for mutant in listed:
        text = broken(mutant, ROOT)
        assert text != (ROOT / mutant.file).read_text()
        # Any test catches what is no Python.
        compile(text if mutant.file.endswith(".py") else "", mutant.file, "exec")
        for name in mutant.tests.split():
            file, _, test = name.partition("::")
            assert f"def {test}" in (ROOT / file).read_text()


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("    y = f(a, b)\n", "    y = g(a)\n"),
        ("    y = f(\n        a,\n        b,\n    )\n", "    y = g(a)\n"),
        ("    y = f( a,b, )\n", "    y = g(a)\n"),
    ],
    ids=["same", "broken over lines", "glued"],
)
def test_a_change_of_white_space_and_trailing_commas_keeps_the_break(tmp_path, source, result):
    Path(tmp_path / "a.py").write_text(source)
    assert broken(Mutant("a.py", "    y = f(a, b)\n", "    y = g(a)\n", ""), tmp_path) == result


def test_words_that_are_glued_are_other_words(tmp_path):
    Path(tmp_path / "a.py").write_text("notx = 1\n")
    with pytest.raises(ValueError, match="must hold the text once; got 0 of"):
        broken(Mutant("a.py", "not x", "x", ""), tmp_path)


def test_a_text_that_is_gone_is_refused(tmp_path):
    Path(tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    for old, count in (("x = 1", 2), ("y = 1", 0)):
        with pytest.raises(ValueError, match=f"must hold the text once; got {count} of"):
            broken(Mutant("a.py", old, "", ""), tmp_path)


def test_a_break_is_planted_in_a_copy(tmp_path):
    copy_tree(tmp_path)
    for file in {mutant.file for mutant in mutants()}:
        assert (tmp_path / file).resolve().is_relative_to(tmp_path.resolve()), file
        assert not (tmp_path / file).samefile(ROOT / file), file
