"""Runs other people's suites and our own long tests whole; one record a suite, with its commit and
versions.

`make suites` runs what suites.toml lists. What is recorded at this commit, and passed, is not run
again unless asked.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tsattn.benchmark import current_commit
from tsattn.storage import add_row, read_rows

ROOT = Path(__file__).resolve().parents[1]
RECORDS = Path("benchmarks", "results", "conformance.jsonl")
Record = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """Tests that are run together; suites.toml says what its fields mean."""

    name: str
    tests: tuple[str, ...]
    least: int
    only: str = ""
    packages: tuple[str, ...] = ()


def suites() -> dict[str, Suite]:
    """What suites.toml lists, by name."""
    told = tomllib.loads((Path(__file__).parent / "suites.toml").read_text(encoding="utf-8"))
    return {name: Suite(name, **fields) for name, fields in told.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked and not yet recorded; 0 when it passed, 1 when something failed, 2 when it
    cannot be run.
    """
    known = suites()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(known)}")
    parser.add_argument(
        "--again", action="store_true", help="also what is recorded at this commit and passed"
    )
    parser.add_argument(
        "--data-dir", help="folder with the real data sets, for the tests that read them"
    )
    options = parser.parse_args(argv)
    if unknown := [name for name in options.suites if name not in known]:
        print(
            f"suites: no suite is called {unknown[0]!r}; take one of {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    path = ROOT / RECORDS
    failed = []
    for name in options.suites or known:
        record = next((row for row in read_rows(path) if row["suite"] == name), None)
        if (
            options.again
            or record is None
            or record["commit"] != current_commit()
            or record["failed"]
        ):
            print(f"{name}: running {' '.join(known[name].tests)}", flush=True)
            record = add_row(
                path,
                {"suite": name, **execute(known[name], ROOT, options.data_dir)},
                ("suite",),
                again=True,
            )
        print(
            f"{name}: {record['passed']} of {record['tests']} passed, {record['failed']} failed",
            flush=True,
        )
        failed += [name] if record["failed"] else []
    if failed:
        print(f"suites: {', '.join(failed)} failed; {path.name} names the tests", file=sys.stderr)
    return 1 if failed else 0


def execute(suite: Suite, root: Path, data_dir: str | None) -> Record:
    """Run one suite in a process of its own; what came of it, and of which versions."""
    commit = current_commit()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
        ]
        command += ["-m", "not network and not gpu", "-k", suite.only]
        command += [] if data_dir is None else [f"--data-dir={Path(data_dir).resolve()}"]
        # As in `make test`: one thread, and the folder datasets is no package.
        variables = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        began = time.perf_counter()
        ended = subprocess.run(
            [*command, *suite.tests], cwd=root, env=variables, check=False
        ).returncode
        seconds = round(time.perf_counter() - began, 1)
        counts = (
            _read_report(report)
            if report.exists()
            else {"tests": 0, "skipped": 0, "counts": {}, "failures": []}
        )
    failures = counts["failures"]
    passed = counts["tests"] - len(failures) - counts["skipped"]
    if not failures and ended != 0:
        failures.append({"test": suite.name, "message": f"pytest ended with status {ended}"})
    if not failures and passed < suite.least:
        message = (
            f"{passed} tests passed, at least {suite.least} must; see what was skipped or renamed"
        )
        failures.append({"test": suite.name, "message": message})
    origin = _origin_of(suite, root, commit)
    return {**counts, "passed": passed, "failed": len(failures), "seconds": seconds, **origin}


def _read_report(path: Path) -> Record:
    """Tests, skips, failures and the counts that tests recorded, from pytest's report."""
    (suite,) = ElementTree.parse(path).getroot().iter("testsuite")
    failures = [
        {
            "test": f"{case.get('classname')}::{case.get('name')}",
            "message": _without_places(fault.get("message") or ""),
        }
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
        said = subprocess.run(
            changed, capture_output=True, text=True, check=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    packages = {name: _version(name) for name in (*suite.packages, "torch", "numpy", "pandas")}
    return {
        "versions": {"python": platform.python_version(), **packages},
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


if __name__ == "__main__":
    sys.exit(main())
