"""Is each suite run whole, recorded truly, and shown as recorded? A suite that lost its tests must not pass."""

import ast
import json
from pathlib import Path

import pytest
from test_report import make_checkout, report, run

conformance = report.conformance
ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "benchmarks" / "results" / conformance.FILE

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
    conformance.Suite("passing", "what passes", ("tests/test_passing.py",), least=2, packages=("pytest",)),
    conformance.Suite("failing", "what fails", ("tests/test_failing.py",), least=1, packages=("no-such-package",)),
    conformance.Suite("emptied", "what is left", ("tests/test_passing.py",), least=2, only="two"),
    conformance.Suite("renamed", "what is gone", ("tests/test_passing.py",), least=1, only="four"),
)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout with the four suites above, and a list of the commits that it will be at."""
    (tmp_path / "tests").mkdir()
    for name, text in {"passing": PASSING, "failing": FAILING}.items():
        (tmp_path / "tests" / f"test_{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    gpu\n")
    commit = ["a" * 40]
    monkeypatch.setattr(conformance, "SUITES", SUITES)
    monkeypatch.setattr(conformance, "ROOT", tmp_path)
    monkeypatch.setattr(conformance, "current_commit", lambda: commit[0])
    # Plugins take longer than these tests.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return tmp_path, commit


def records(root):
    return json.loads((root / "benchmarks" / "results" / conformance.FILE).read_text())["suites"]


# --- running ----------------------------------------------------------------------------------------------------


def test_what_came_of_each_suite_is_recorded(house, capfd):
    root, _ = house
    assert conformance.main([]) == 1
    said = capfd.readouterr()
    assert "conformance: failing, emptied, renamed failed" in said.err
    found = records(root)
    assert list(found) == ["passing", "failing", "emptied", "renamed"]
    passing = found["passing"]
    assert [passing[name] for name in ("tests", "passed", "failed", "skipped")] == [2, 2, 0, 0], "slow ones count"
    assert (passing["counts"], passing["failures"]) == ({"checks": "7 of 7"}, [])
    assert passing["versions"]["pytest"] == pytest.__version__
    assert {"python", "torch"} <= set(passing["versions"])
    assert passing["commit"] == "a" * 40
    assert passing["seconds"] > 0
    failing = found["failing"]
    assert failing["versions"]["no-such-package"] == "not installed"
    assert [failing[name] for name in ("tests", "passed", "failed")] == [2, 1, 1]
    (fault,) = failing["failures"]
    assert fault["test"].endswith("test_failing::test_bad")
    assert fault["message"] == "ValueError: no such thing as ..."
    (lost,) = found["emptied"]["failures"]
    assert lost["message"] == "1 tests passed, at least 2 must; see what was skipped or renamed"
    assert found["renamed"]["failures"][0]["message"] == "pytest ended with status 5"


def test_what_is_recorded_at_this_commit_is_not_run_again(house, monkeypatch):
    root, commit = house
    ran = []
    execute = conformance.execute

    def counted(suite, *args):
        ran.append(suite.name)
        return execute(suite, *args)

    monkeypatch.setattr(conformance, "execute", counted)
    assert conformance.main(["passing"]) == 0
    assert list(records(root)) == ["passing"]
    assert conformance.main(["passing"]) == 0
    assert ran == ["passing"]
    assert conformance.main(["passing", "--again"]) == 0
    commit[0] = "b" * 40
    assert conformance.main(["passing"]) == 0
    assert ran == ["passing"] * 3
    assert records(root)["passing"]["commit"] == "b" * 40
    for _ in range(2):  # what failed is no news at the same commit, but it may have been mended
        assert conformance.main(["failing"]) == 1
    assert ran == [*["passing"] * 3, "failing", "failing"]
    assert list(records(root)) == ["passing", "failing"]


def test_an_interrupted_run_keeps_what_was_done(house, monkeypatch):
    root, _ = house
    done = {"tests": 1, "passed": 1, "failed": 0, "skipped": 0, "counts": {}, "failures": [], "seconds": 1.0}

    def interrupted(suite, *args):
        if suite.name == "failing":
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(conformance, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        conformance.main([])
    assert list(records(root)) == ["passing"]


def test_unknown_suites_are_named(house, capsys):
    assert conformance.main(["passing", "pasing"]) == 2
    assert capsys.readouterr().err == (
        "conformance: no suite is called 'pasing'; take one of passing, failing, emptied, renamed\n"
    )
    assert not (house[0] / "benchmarks").exists()


def test_the_real_data_reach_the_tests(house, monkeypatch):
    root, _ = house
    (root / "conftest.py").write_text("def pytest_addoption(parser):\n    parser.addoption('--data-dir')\n")
    (root / "tests" / "test_passing.py").write_text(
        f"def test_one(request):\n    assert request.config.getoption('--data-dir') == {str(root)!r}\n"
    )
    monkeypatch.setattr(conformance, "SUITES", (conformance.Suite("data", "", ("tests/test_passing.py",), least=1),))
    monkeypatch.chdir(root.parent)
    assert conformance.main(["--data-dir", root.name]) == 0


# --- the selections and the record of this checkout -------------------------------------------------------------


def slow_tests():
    """File and name of every test that is marked slow, as a whole or for some of its values."""
    for file in sorted((ROOT / "tests").glob("test_*.py")):
        tree = ast.parse(file.read_text())
        helpers = {
            node.name for node in tree.body if isinstance(node, ast.FunctionDef) and "mark.slow" in ast.unparse(node)
        }
        for node in (each for each in tree.body if isinstance(each, ast.FunctionDef)):
            marks = " ".join(ast.unparse(mark) for mark in node.decorator_list)
            called = {name.id for mark in node.decorator_list for name in ast.walk(mark) if isinstance(name, ast.Name)}
            if node.name.startswith("test_") and ("mark.slow" in marks or called & helpers):
                yield f"tests/{file.name}", node.name


def chooses(suite, file, name):
    """Whether a suite runs a test; its ``only`` is read as pytest reads it, words that are parts of names."""
    words = {f"_{i}": word in name or word in file for i, word in enumerate(sorted(words_of(suite)))}
    text = suite.only
    for i, word in enumerate(sorted(words_of(suite))):
        text = text.replace(word, f"_{i}")
    return file in suite.tests and (not text or eval(text, {}, words))


def words_of(suite):
    return set(suite.only.split()) - {"and", "or", "not"}


def test_every_slow_test_belongs_to_a_suite():
    found = list(slow_tests())
    assert len(found) > 10
    left = [test for test in found if not any(chooses(suite, *test) for suite in conformance.SUITES)]
    assert left == [], "add a row to SUITES in benchmarks/conformance.py"
    assert ("tests/test_export.py", "test_program_gives_the_same_points") in found, "marks on single values are seen"
    sktime = next(suite for suite in conformance.SUITES if suite.name == "sktime")
    assert chooses(sktime, "tests/test_adapters.py", "test_whole_suite_of_sktime")
    assert not chooses(sktime, "tests/test_adapters.py", "test_evaluator_of_gluonts_gives_our_scores")


def test_suites_have_names_of_one_word_and_files_that_exist():
    names = [suite.name for suite in conformance.SUITES]
    assert len(set(names)) == len(names)
    assert not [name for name in names if " " in name], "the Makefile takes several by SUITE"
    for suite in conformance.SUITES:
        assert [name for name in suite.tests if not (ROOT / name).is_file()] == []


def test_every_suite_is_recorded_and_passed():
    found = conformance.read_records(RECORD)
    assert list(found) == [suite.name for suite in conformance.SUITES], "run `make suites`"
    assert {name: record["failures"] for name, record in found.items() if record["failed"]} == {}
    for suite in conformance.SUITES:
        assert found[suite.name]["passed"] >= suite.least
        assert set(suite.packages) <= set(found[suite.name]["versions"])


# --- the pages --------------------------------------------------------------------------------------------------


def outcome(**changes):
    return {
        "tests": 5,
        "passed": 4,
        "failed": 0,
        "skipped": 1,
        "counts": {},
        "failures": [],
        "seconds": 12.3,
        "versions": {"python": "3.11.7", "torch": "2.6", "pytest": "8.3", "no-such-package": "not installed"},
        "commit": "0123456789abcdef",
        "uncommitted": False,
        "machine": "a machine",
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


TOLD = {
    "passing": outcome(counts={"checks": "353 of 353", "seconds": "1.5"}, passed=5, skipped=0),
    "failing": outcome(failed=1, failures=[{"test": "test_x::test_bad", "message": "ValueError: no"}]),
    "emptied": outcome(),
    "renamed": outcome(uncommitted=True),
}


@pytest.fixture
def pages(house):
    """A checkout whose record is ``TOLD``."""
    root = make_checkout(house[0])
    tell(root, TOLD)
    return root


def tell(root, told):
    (root / "benchmarks" / "results" / conformance.FILE).write_text(json.dumps({"suites": told}))


def test_pages_show_what_is_recorded(pages):
    assert run(pages) == 0
    readme = (pages / "README.md").read_text()
    assert "| passing (pytest 8.3) | 5 of 5 | checks: 353 of 353 |" in readme
    assert "Commit `0123456789ab`, `0123456789ab` with uncommitted changes; Python 3.11.7, torch 2.6" in readme
    assert readme.startswith("# Name\n")
    page = (pages / "docs" / "conformance.md").read_text()
    assert "| passing (pytest 8.3) | what passes | 5 of 5 | 0 | 0 | 12 |" in page
    assert "| failing (no-such-package not installed) | what fails | 4 of 5 | 1 | 1 | 12 |" in page
    assert "| passing | checks | 353 of 353 |" in page
    assert "| passing | seconds | 1.5 |" in page
    assert "- failing: `test_x::test_bad`: ValueError: no" in page
    assert run(pages, "--check") == 0


@pytest.mark.parametrize("name", ["README.md", "docs/conformance.md"])
def test_a_typed_count_is_caught(pages, name, capsys):
    run(pages)
    path = pages / name
    path.write_text(path.read_text().replace("353 of 353", "354 of 354"))
    assert run(pages, "--check") == 1
    assert f"{name} differs from the records; run `make report`" in capsys.readouterr().err


def without(record, field):
    return {name: value for name, value in record.items() if name != field}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (without(TOLD, "emptied"), "conformance.json lacks emptied; run `make suites SUITE=emptied`"),
        ({**TOLD, "failing": without(outcome(), "counts")}, "conformance.json: failing lacks counts; run"),
        ({**TOLD, "failing": 3}, "conformance.json: failing lacks tests, passed"),
        ({**TOLD, "renamed": outcome(commit=None)}, "renamed does not say where it comes from: commit is None"),
        ([1], "conformance.json is no record of suites"),
    ],
)
def test_records_that_are_not_whole_are_refused(pages, capsys, told, message):
    run(pages)
    before = (pages / "README.md").read_text()
    tell(pages, told)
    assert run(pages) == run(pages, "--check") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 2
    assert (pages / "README.md").read_text() == before


def test_a_suite_that_is_no_more_is_left_out(pages):
    tell(pages, {"old": outcome(), **TOLD})
    assert run(pages) == 0
    assert "old" not in (pages / "docs" / "conformance.md").read_text().split("| --- |")[1]
    assert conformance.main(["passing"]) == 0
    assert list(records(pages)) == list(TOLD)


def test_without_a_record_the_pages_say_so(pages):
    (pages / "benchmarks" / "results" / conformance.FILE).unlink()
    assert run(pages) == 0
    assert "No run is recorded yet." in (pages / "docs" / "conformance.md").read_text()
