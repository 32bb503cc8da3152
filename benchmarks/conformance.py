"""What suites of other people and our own long tests said, run by tests/run_suites.py: a sentence
and a table.
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
    rows = {row["suite"]: row for row in records.read(folder / FILE, ("suite",))}
    known = tomllib.loads(SUITES.read_text(encoding="utf-8"))
    if rows and (absent := [name for name in known if name not in rows]):
        raise ValueError(f"{FILE} lacks {', '.join(absent)}; run `make suites SUITE={absent[0]}`")
    found = []
    for name, told in known.items() if rows else ():
        packages = [f"{each} {rows[name]['versions'][each]}" for each in told.get("packages", ())]
        alone = [each.partition(" ")[0] for each in packages] == [name.lower()]
        title = (
            f"{name} {packages[0].partition(' ')[2]}"
            if alone
            else f"{name} ({', '.join(packages)})"
        )
        found.append({**rows[name], "title": title if packages else name, "packages": packages})
    return found


def table(folder: Path) -> str:
    """How many tests of each suite of other libraries passed."""
    columns = {
        "suite": lambda row: row["title"],
        "passed": lambda row: f"{row['passed']}/{row['tests']}",
    }
    rows = [row for row in read(folder) if row["packages"]]
    return f"{render.table(rows, columns)}\n\n{records.commits(rows)}" if rows else render.NONE


def summary(folder: Path) -> str:
    """README's sentence."""
    rows = read(folder)
    if not rows:
        return render.NONE
    passed, tests = (sum(row[name] for row in rows) for name in ("passed", "tests"))
    return f"{passed} of {tests} tests of {len(rows)} suites passed."


BLOCKS = {("README.md", "conformance"): summary, ("docs/contributing.md", "conformance"): table}
