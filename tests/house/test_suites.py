"""Each suite of other libraries is run whole and recorded truly; a suite that lost its tests must
not pass.
"""

import ast
import json

import conformance
import pytest
import run_suites
from checkout import ORIGIN, ROOT

from tsattn.storage import read_rows

PASSING = """
import pytest


def test_one(record_testsuite_property):
    record_testsuite_property("checks", "7 of 7")


@pytest.mark.slow
def test_two():
    pass


@pytest.mark.gpu
def test_three():
    raise AssertionError
"""
FAILING = """
def test_good():
    pass


def test_bad():
    raise ValueError("no such thing as /some/place/x.csv\\nand more")
"""
SUITES = (
    run_suites.Suite("passing", ("tests/test_passing.py",), least=2, packages=("pytest",)),
    run_suites.Suite("failing", ("tests/test_failing.py",), least=1, packages=("no-such-package",)),
    run_suites.Suite("emptied", ("tests/test_passing.py",), least=2, only="two"),
    run_suites.Suite("renamed", ("tests/test_passing.py",), least=1, only="four"),
)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout with the four suites above, and a list of the commits that it will be at."""
    (tmp_path / "tests").mkdir()
    for name, text in {"passing": PASSING, "failing": FAILING}.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n")
    commit = ["a" * 40]
    monkeypatch.setattr(run_suites, "suites", lambda: {suite.name: suite for suite in SUITES})
    monkeypatch.setattr(run_suites, "ROOT", tmp_path)
    monkeypatch.setattr(run_suites, "current_commit", lambda: commit[0])
    # Plugins take longer than these tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return tmp_path, commit


def recorded(root):
    return {row["suite"]: row for row in read_rows(root / run_suites.RECORDS)}


def test_what_came_of_each_suite_is_recorded(house, capfd):
    root, _ = house
    assert run_suites.main([]) == 1
    assert "suites: failing, emptied, renamed failed" in capfd.readouterr().err
    records = recorded(root)
    assert list(records) == ["passing", "failing", "emptied", "renamed"]
    passing = records["passing"]
    assert [passing[name] for name in ("tests", "passed", "failed", "skipped")] == [2, 2, 0, 0], (
        "slow ones count"
    )
    assert (passing["counts"], passing["failures"]) == ({"checks": "7 of 7"}, [])
    assert passing["versions"]["pytest"] == pytest.__version__
    assert (passing["commit"], passing["uncommitted"]) == ("a" * 40, False)
    failing = records["failing"]
    assert failing["versions"]["no-such-package"] == "not installed"
    (fault,) = failing["failures"]
    assert fault["test"].endswith("test_failing::test_bad")
    assert fault["message"] == "ValueError: no such thing as ..."
    (lost,) = records["emptied"]["failures"]
    assert lost["message"] == "1 tests passed, at least 2 must; see what was skipped or renamed"
    assert records["renamed"]["failures"][0]["message"] == "pytest ended with status 5"


def test_what_passed_at_this_commit_is_not_run_again(house, monkeypatch):
    root, commit = house
    ran = []
    done = {"tests": 1, "passed": 1, "failed": 0, "counts": {}, "failures": []}

    def execute(suite, *args):
        ran.append(suite.name)
        if suite.name == "emptied":
            raise KeyboardInterrupt
        return {**done, "failed": int(suite.name == "failing"), "commit": commit[0]}

    monkeypatch.setattr(run_suites, "execute", execute)
    assert run_suites.main(["passing"]) == run_suites.main(["passing"]) == 0
    assert ran == ["passing"]
    assert run_suites.main(["passing", "--again"]) == 0
    commit[0] = "b" * 40
    assert run_suites.main(["passing"]) == 0
    assert ran == ["passing"] * 3
    assert recorded(root)["passing"]["commit"] == "b" * 40
    for _ in range(2):  # what failed is no news at the same commit, but it may have been mended
        assert run_suites.main(["failing"]) == 1
    with pytest.raises(KeyboardInterrupt):
        run_suites.main([])
    assert ran[3:] == ["failing"] * 3 + ["emptied"], "an interrupted run keeps what was done"
    assert list(recorded(root)) == ["passing", "failing"]


def test_unknown_suites_are_named_and_the_real_data_reach_the_tests(house, monkeypatch, capsys):
    root, _ = house
    assert run_suites.main(["passing", "pasing"]) == 2
    message = (
        "suites: no suite is called 'pasing'; take one of passing, failing, emptied, renamed\n"
    )
    assert capsys.readouterr().err == message
    (root / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--data-dir')\n"
    )
    (root / "tests" / "test_passing.py").write_text(
        f"def test_one(request):\n    assert request.config.getoption('--data-dir') == {str(root)!r}\n"
    )
    record = run_suites.execute(
        run_suites.Suite("data", ("tests/test_passing.py",), least=1), root, str(root)
    )
    assert (record["passed"], record["failures"]) == (1, [])


# --- the suites of this checkout ------------------------------------------------------------------


def slow_tests():
    """File and name of every test that is marked slow, as a whole or for some of its values."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        text = file.read_text()
        # Most files have none, and are not worth the time of being parsed.
        if "mark.slow" not in text:
            continue
        functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
        helpers = {node.name for node in functions if "mark.slow" in ast.unparse(node)}
        for node in functions:
            marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
            called = {
                name.id
                for mark in node.decorator_list
                for name in ast.walk(mark)
                if isinstance(name, ast.Name)
            }
            if node.name.startswith("test_") and ("mark.slow" in marks or called & helpers):
                yield str(file.relative_to(ROOT)), node.name


def chooses(suite, file, name):
    """Whether a suite runs a test; its ``only`` is read as pytest reads it, words that are parts of
    names.
    """
    words = sorted(set(suite.only.split()) - {"and", "or", "not"})
    text = suite.only
    for i, word in enumerate(words):
        text = text.replace(word, f"_{i}")
    known = {f"_{i}": word in name or word in file for i, word in enumerate(words)}
    return file in suite.tests and (not text or eval(text, {}, known))


def test_every_slow_test_belongs_to_a_suite():
    tests = list(slow_tests())
    suites = run_suites.suites()
    assert len(tests) > 10
    left = [test for test in tests if not any(chooses(suite, *test) for suite in suites.values())]
    assert left == [], "add a table to tests/suites.toml"
    assert (
        "tests/adapters/test_export.py",
        "test_program_gives_the_same_points",
    ) in tests, "marks on single values are seen"
    assert chooses(
        suites["sktime"], "tests/adapters/test_adapters.py", "test_whole_suite_of_sktime"
    )
    assert not chooses(
        suites["sktime"],
        "tests/adapters/test_adapters.py",
        "test_evaluator_of_gluonts_gives_our_scores",
    )


def test_every_suite_names_files_that_exist_and_is_recorded_as_passed():
    records = recorded(ROOT)
    suites = run_suites.suites()
    assert records.keys() == suites.keys(), "run `make suites`"
    for name, suite in suites.items():
        assert [each for each in suite.tests if not (ROOT / each).is_file()] == []
        assert " " not in name, "the Makefile takes several by SUITE"
        assert (records[name]["failures"], records[name]["failed"]) == ([], 0)
        assert records[name]["passed"] >= suite.least
        assert set(suite.packages) <= set(records[name]["versions"])


def test_the_pages_have_each_suite_with_versions_and_counts(tmp_path, monkeypatch):
    told = tmp_path / "suites.toml"
    told.write_text(
        '[GluonTS]\npackages = ["gluonts"]\n[kills]\n[scale]\npackages = ["dask", "ray"]\n'
    )
    monkeypatch.setattr(conformance, "SUITES", told)
    versions = {"torch": "2", "gluonts": "0.1", "dask": "3", "ray": "4"}
    row = {**ORIGIN, "tests": 5, "passed": 4, "failed": 1, "versions": versions, "counts": {}}
    rows = [{**row, "suite": name} for name in ("old", "GluonTS", "kills", "scale")]

    def write(rows):
        (tmp_path / conformance.FILE).write_text("".join(json.dumps(each) + "\n" for each in rows))

    write(rows)
    text = [" ".join(line.split()) for line in conformance.table(tmp_path).splitlines()]
    assert text[2:5] == ["| GluonTS 0.1 | 4/5 |", "| scale (dask 3, ray 4) | 4/5 |", ""]
    assert conformance.summary(tmp_path) == "12 of 15 tests of 3 suites passed."
    write(rows[:3])
    with pytest.raises(
        ValueError, match=r"conformance\.jsonl lacks scale; run `make suites SUITE=scale`"
    ):
        conformance.table(tmp_path)
