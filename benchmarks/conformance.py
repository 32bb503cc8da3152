"""A sentence and a table of the results of other libraries' suites and our own long tests, run by
tests/run_suites.py.
"""

import tomllib
from pathlib import Path

import records
import render
from records import Record

FILE = "conformance.jsonl"
SUITES = Path(__file__).resolve().parents[1] / "tests" / "suites.toml"


def read(folder: Path) -> list[Record]:
    """The record of each suite, with its packages and their versions as its title; none where no
    suite has been run.

    Raises:
        ValueError: If one of them has no record.
    """
    records_by_suite = {row["suite"]: row for row in records.read(folder / FILE, ("suite",))}
    if not records_by_suite:
        return []
    suites = tomllib.loads(SUITES.read_text(encoding="utf-8"))
    absent = [name for name in suites if name not in records_by_suite]
    if absent:
        raise ValueError(f"{FILE} lacks {', '.join(absent)}; run `make suites SUITE={absent[0]}`")
    rows = []
    for name, suite in suites.items():
        row = records_by_suite[name]
        versions = {package: row["versions"][package] for package in suite.get("packages", ())}
        packages = [f"{package} {version}" for package, version in versions.items()]
        rows.append({**row, "title": _title(name, versions), "packages": packages})
    return rows


def _title(name: str, versions: dict[str, str]) -> str:
    """A suite with the versions of its packages, or of the one package that has its name."""
    if not versions:
        return name
    if list(versions) == [name.lower()]:
        return f"{name} {versions[name.lower()]}"
    packages = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"{name} ({packages})"


def table(folder: Path) -> str:
    """How many tests of each suite of other libraries passed."""
    columns = {
        "suite": lambda row: row["title"],
        "passed": lambda row: f"{row['passed']}/{row['tests']}",
    }
    rows = [row for row in read(folder) if row["packages"]]
    if not rows:
        return render.NONE
    return f"{render.table(rows, columns)}\n\n{records.commits(rows)}"


def summary(folder: Path) -> str:
    """README's sentence."""
    rows = read(folder)
    if not rows:
        return render.NONE
    n_passed = sum(row["passed"] for row in rows)
    n_tests = sum(row["tests"] for row in rows)
    return f"{n_passed} of {n_tests} tests of {len(rows)} suites passed."


BLOCKS = {("README.md", "conformance"): summary, ("docs/contributing.md", "conformance"): table}
