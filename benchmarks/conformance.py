"""Do other people's suites and our own long tests pass? Runs them whole and keeps what came of each in one record.

`make suites` runs it. What stands in the record with this commit, and passed, is not run again unless asked. The record
is written after every suite, so that an interrupted run goes on where it stopped.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tsattn.benchmark import current_commit
from tsattn.storage import write_json

Record = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
FILE = "conformance.json"
# What stands between these marks of README is rendered from the record.
MARKS = ("<!-- conformance:begin -->", "<!-- conformance:end -->")
_FIELDS = ("tests", "passed", "failed", "skipped", "counts", "failures", "seconds")
_ORIGIN = ("versions", "commit", "uncommitted", "machine", "finished")
_ALWAYS = ("torch", "numpy", "pandas")


@dataclass(frozen=True)
class Suite:
    """Tests that are run together.

    Args:
        name: What the record and the pages call it.
        about: What it checks, for the page.
        tests: Files of tests.
        least: Fewer passed tests than these are a failure: a selection that has lost its tests is green for ever.
        only: Names of tests as ``pytest -k`` takes them; all by default.
        packages: Packages of other people that it is about.
    """

    name: str
    about: str
    tests: tuple[str, ...]
    least: int
    only: str = ""
    packages: tuple[str, ...] = ()


# A new suite is one row here; `make test` fails until `make suites` has run it.
SUITES = (
    Suite(
        "sktime",
        "every check of sktime's `check_estimator` on a linear and an attention forecaster; forecasts, intervals,"
        " updates and tuning through its interface give our numbers",
        ("tests/test_adapters.py",),
        least=15,
        only="sktime",
        packages=("sktime",),
    ),
    Suite(
        "scikit-learn",
        "every check of scikit-learn's `check_estimator` on the window regressor, none expected to fail; clone, pickle,"
        " pipelines and searches in two processes, on frames as well",
        ("tests/test_regressor.py",),
        least=25,
        packages=("scikit-learn",),
    ),
    Suite(
        "GluonTS",
        "estimator and predictor under `evaluate_model`, the older evaluator and GluonTS's serialisation; float32,"
        " float64 and integer targets; its scores are ours",
        ("tests/test_adapters.py",),
        least=35,
        only="not sktime and not doors and not missing_package",
        packages=("gluonts",),
    ),
    Suite(
        "utilsforecast",
        "cross-validation row by row as `backtest_splits`, also while refitting; our scores are those of its `evaluate`"
        " on our frames",
        ("tests/test_foreign.py",),
        least=50,
        only="not baselines",
        packages=("utilsforecast",),
    ),
    Suite(
        "statsforecast",
        "naive, seasonal naive, drift and averages forecast as its models do, over several frequencies",
        ("tests/test_foreign.py", "tests/test_baselines.py"),
        least=12,
        only="baselines_are_theirs or statsforecast",
        packages=("statsforecast",),
    ),
    Suite(
        "transformers",
        'models with `attn_implementation="tsattn_mlr"` give what our kernel gives, with masks, windows, grouped heads,'
        " caches and gradients",
        ("tests/test_adapters_transformers.py",),
        least=40,
        packages=("transformers",),
    ),
    Suite(
        "ONNX",
        "exported networks of every kind give the forecaster's numbers in a runtime without torch",
        ("tests/test_export.py",),
        least=60,
        packages=("onnx", "onnxscript", "onnxruntime"),
    ),
    Suite(
        "random-tables",
        "tables of any frequency, zone, dtype, id, size and fault through fit, predict, save and load: a whole forecast"
        " or one clear refusal",
        ("tests/test_panels.py",),
        least=6,
        packages=("hypothesis",),
    ),
    Suite(
        "kills",
        "fits and saves killed at random moments and at every touch of the disk go on as if nothing had been",
        ("tests/test_safety_kills.py",),
        least=4,
        only="killed",
    ),
    Suite(
        "crowds",
        "fits, saves and loads that run at once, in threads and in processes, equal those that ran alone",
        ("tests/test_safety_kills.py",),
        least=3,
        only="crowds or meet",
    ),
    Suite(
        "saved-models",
        "the same forecasts in a fresh process without the training table and without a GPU, and from a file of the"
        " first format",
        ("tests/test_safety_saved.py",),
        least=14,
    ),
    Suite(
        "tampered-files",
        "cut, swapped, poisoned and edited files are refused in one line, and no code in them is run",
        ("tests/test_safety_tampering.py",),
        least=40,
    ),
    Suite(
        "size",
        "time and memory of forecasts of 10,000 series and of rolling evaluation over a table of 321 x 26,304 values",
        ("tests/test_safety_size.py",),
        least=2,
    ),
    Suite(
        "training-options",
        "time limits, warm starts, updates, transforms and bfloat16 training",
        ("tests/test_comfort.py",),
        least=30,
    ),
    Suite(
        "scale-out",
        "training in two processes, and forecasts, rolling evaluation and grids in other processes, on Dask and on Ray,"
        " give the result of one",
        ("tests/test_distributed.py",),
        least=40,
        packages=("fugue", "dask", "distributed", "ray"),
    ),
    Suite(
        "complaints",
        "an acceptance test for each of fifteen standing complaints about forecasting libraries",
        ("tests/test_complaints.py", "tests/test_complaints_use.py"),
        least=45,
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked and not yet recorded; 0 when it passed, 1 when something failed, 2 when it cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(s.name for s in SUITES)}")
    parser.add_argument("--again", action="store_true", help="also what is recorded at this commit and passed")
    parser.add_argument("--data-dir", help="folder with the real data sets, for the tests that read them")
    options = parser.parse_args(argv)
    unknown = [name for name in options.suites if name not in {suite.name for suite in SUITES}]
    if unknown:
        print(f"conformance: no suite is called {unknown[0]!r}; take one of {_names(SUITES)}", file=sys.stderr)
        return 2
    chosen = [suite for suite in SUITES if suite.name in options.suites or not options.suites]
    return run(chosen, ROOT, again=options.again, data_dir=options.data_dir)


def run(suites: Sequence[Suite], root: Path, *, again: bool = False, data_dir: str | None = None) -> int:
    """Run suites and keep a record of each in ``benchmarks/results/conformance.json``.

    Args:
        suites: What to run.
        root: The checkout.
        again: Whether to run what is recorded at this commit, and passed, too.
        data_dir: Folder with the real data sets.

    Returns:
        1 if one of them failed, otherwise 0.
    """
    path = root / "benchmarks" / "results" / FILE
    failed = []
    for suite in suites:
        records = read_records(path)
        record, commit = records.get(suite.name), current_commit()
        if again or record is None or record["commit"] != commit or record["failed"]:
            print(f"{suite.name}: running {' '.join(suite.tests)}", flush=True)
            record = execute(suite, root, data_dir) | _origin_of(suite, root, commit)
            records = read_records(path)  # another process may have added to it meanwhile
            write_json(path, {"suites": {**records, suite.name: record}})
        print(
            f"{suite.name}: {record['passed']} of {record['tests']} tests passed, {record['failed']} failed", flush=True
        )
        failed += [suite.name] if record["failed"] else []
    if failed:
        print(f"conformance: {', '.join(failed)} failed; {FILE} names the tests", file=sys.stderr)
    return 1 if failed else 0


def execute(suite: Suite, root: Path, data_dir: str | None) -> Record:
    """Run one suite in a process of its own; what came of it, without its origin."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-m", "not network and not gpu", "-k", suite.only]
        command += [] if data_dir is None else [f"--data-dir={Path(data_dir).resolve()}"]
        # As in `make test`: one thread, and the folder datasets is no package.
        variables = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        began = time.perf_counter()
        ended = subprocess.run([*command, *suite.tests], cwd=root, env=variables, check=False).returncode
        seconds = round(time.perf_counter() - began, 1)
        found = _read_report(report) if report.exists() else {"tests": 0, "skipped": 0, "counts": {}, "failures": []}
    failures = found["failures"]
    passed = found["tests"] - len(failures) - found["skipped"]
    if not failures and ended != 0:
        failures.append({"test": suite.name, "message": f"pytest ended with status {ended}"})
    if not failures and passed < suite.least:
        message = f"{passed} tests passed, at least {suite.least} must; see what was skipped or renamed"
        failures.append({"test": suite.name, "message": message})
    return {**found, "passed": passed, "failed": len(failures), "seconds": seconds}


def _read_report(path: Path) -> Record:
    """Tests, skips, failures and the counts that tests recorded, from pytest's report."""
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")
    failures = [
        {"test": f"{case.get('classname')}::{case.get('name')}", "message": _without_places(fault.get("message") or "")}
        for case in suite.iter("testcase")
        for fault in (*case.iter("failure"), *case.iter("error"))
    ]
    return {
        "tests": len(list(suite.iter("testcase"))),
        "skipped": sum(1 for case in suite.iter("testcase") if case.find("skipped") is not None),
        "counts": {each.get("name"): each.get("value") for each in suite.iter("property")},
        "failures": failures,
    }


def _without_places(message: str) -> str:
    """The first line of a message without paths of this machine."""
    return re.sub(r"(?<!\w)/[\w./-]+", "...", message.partition("\n")[0])[:200]


def _origin_of(suite: Suite, root: Path, commit: str | None) -> Record:
    changed = ["git", "-C", str(root), "status", "--porcelain", "--", "tsattn", "tests"]
    try:
        said = subprocess.run(changed, capture_output=True, text=True, check=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in (*suite.packages, *_ALWAYS)},
        },
        "commit": commit,
        "uncommitted": bool(said.strip()),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


# --- the record and its pages -----------------------------------------------------------------------------------


def read_records(path: Path) -> dict[str, Record]:
    """What came of each suite, in the order of ``SUITES``; suites that are no more are left out.

    Raises:
        ValueError: If the file is damaged, or a record lacks a field.
    """
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        told = None
    told = told.get("suites") if isinstance(told, dict) else None
    if not isinstance(told, dict):
        raise ValueError(f"{path.name} is no record of suites; remove it and run `make suites`")
    records = {suite.name: told[suite.name] for suite in SUITES if suite.name in told}
    for name, record in records.items():
        absent = [field for field in (*_FIELDS, *_ORIGIN) if not isinstance(record, Mapping) or field not in record]
        if absent:
            raise ValueError(f"{path.name}: {name} lacks {', '.join(absent)}; run `make suites SUITE={name}`")
    return records


def read_complete(path: Path) -> dict[str, Record]:
    """As :func:`read_records`, of every suite, or of none where no suite has been run yet.

    Raises:
        ValueError: As :func:`read_records`, if a suite is missing, or one does not say where it comes from.
    """
    records = read_records(path)
    if records and (absent := [suite.name for suite in SUITES if suite.name not in records]):
        raise ValueError(f"{path.name} lacks {', '.join(absent)}; run `make suites SUITE={absent[0]}`")
    for name, record in records.items():
        for field in ("versions", "commit", "machine"):
            if not record[field]:
                raise ValueError(
                    f"{path.name}: {name} does not say where it comes from: {field} is {record[field]!r};"
                    " run it again in a checkout"
                )
    return records


def table(records: Mapping[str, Record]) -> str:
    """README's table: what of other people's suites passed, and what of our own."""
    if not records:
        return _NONE
    lines = ["| suite | tests passed | counted in them |", "| --- | ---: | --- |"]
    lines += [
        f"| {_titled(name, record)} | {_passed(record)} | {_counts(record)} |" for name, record in records.items()
    ]
    return "\n".join([*lines, "", _origin(records)])


def page(records: Mapping[str, Record]) -> str:
    """docs/conformance.md: what each suite checks, and what came of it."""
    if not records:
        return f"{_HEAD}\n{_NONE}\n"
    lines = [
        "| suite | what it checks | passed | failed | skipped | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    about = {suite.name: suite.about for suite in SUITES}
    for name, record in records.items():
        numbers = [_passed(record), str(record["failed"]), str(record["skipped"]), f"{record['seconds']:.0f}"]
        lines.append(f"| {_titled(name, record)} | {about[name]} | {' | '.join(numbers)} |")
    counted = [
        f"| {name} | {what} | {value} |" for name, each in records.items() for what, value in each["counts"].items()
    ]
    if counted:
        lines += ["", "## Counted", "", _COUNTED, "", "| suite | what | value |", "| --- | --- | ---: |", *counted]
    failures = [f"- {name}: `{f['test']}`: {f['message']}" for name, each in records.items() for f in each["failures"]]
    if failures:
        lines += ["", "## Failed", "", *failures]
    return "\n".join([_HEAD, *lines, "", _origin(records), ""])


_NONE = "No run is recorded yet."
_HEAD = f"""\
<!-- written by benchmarks/report.py from benchmarks/results/{FILE}; change the record, not this page -->

# Conformance

What do other people's test suites say of this library, and what do its own long tests? `make suites` runs them whole,
one process a suite, and keeps what came of each; `make test` runs a thin slice. Packages stand with the version
that was installed.
"""
_COUNTED = "What tests counted or measured beyond passing."


def _titled(name: str, record: Record) -> str:
    """The suite and the versions of the packages it is about."""
    (suite,) = [suite for suite in SUITES if suite.name == name]
    versions = [(each, record["versions"][each]) for each in suite.packages]
    if [each for each, _ in versions] == [name.lower()]:
        return f"{name} {versions[0][1]}"
    return f"{name} ({', '.join(' '.join(each) for each in versions)})" if versions else name


def _passed(record: Record) -> str:
    return f"{record['passed']} of {record['tests']}"


def _counts(record: Record) -> str:
    """What is plainly counted or passed; measurements stand on the page."""
    counts = record["counts"].items()
    return "; ".join(f"{what}: {value}" for what, value in counts if re.fullmatch(r"\d+( of \d+)?|passed", value))


def _origin(records: Mapping[str, Record]) -> str:
    def names(pick: Any) -> str:
        return ", ".join(sorted({pick(record) for record in records.values()}))

    commits = names(lambda r: f"`{r['commit'][:12]}`" + (" with uncommitted changes" if r["uncommitted"] else ""))
    versions = names(lambda r: f"Python {r['versions']['python']}, torch {r['versions']['torch']}")
    return f"Commit {commits}; {versions}; {names(lambda r: r['machine'])}."


def _names(suites: Sequence[Suite]) -> str:
    return ", ".join(suite.name for suite in suites)


if __name__ == "__main__":
    sys.exit(main())
