"""Planted breaks: each is applied to a copy of the sources, whose tests must then fail.

``python tests/mutants.py [--only SUBSTRING]`` runs the lists ``MUTANTS`` of all files
``tests/mutants_*.py``, says which breaks were caught, and ends with exit code 1 if one was not.
"""

import argparse
import importlib
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What `make test` runs.
QUICK = "not slow and not network and not gpu"
# A break that hangs is caught.
SECONDS = 600
# A string on one line, a word, or one other sign.
_TOKEN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|\w+|\S")
_CLOSERS = (")", "]", "}")
# Folders with files of mutants. A link would plant their breaks in the checkout itself.
_COPIED = ("tsattn", "tests", "benchmarks", "docs")


@dataclass(frozen=True)
class Mutant:
    """A break of one line.

    Args:
        file: Source file, from the root.
        old: Text that occurs once in it.
        new: What takes its place.
        tests: Files, or ``file::test``, of which one must fail, from the root, separated by spaces.
    """

    file: str
    old: str
    new: str
    tests: str


def mutants() -> list[Mutant]:
    """All that are listed."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.append(folder)
    names = sorted(path.stem for path in Path(__file__).parent.glob("mutants_*.py"))
    return [mutant for name in names for mutant in importlib.import_module(name).MUTANTS]


def broken(mutant: Mutant, folder: Path) -> str:
    """The text of the mutant's file with the break in it.

    White space and trailing commas of the old text need not be those of the file, so that a change
    of the line length leaves the lists as they are.

    Raises:
        ValueError: If the old text does not occur exactly once.
    """
    text = (folder / mutant.file).read_text()
    places = list(_pattern_of(mutant.old).finditer(text))
    if len(places) != 1:
        raise ValueError(
            f"{mutant.file} must hold the text once; got {len(places)} of {mutant.old!r}"
        )
    start, end = places[0].span()
    # The pattern begins and ends with a token: the white space around it is that of the file.
    before = mutant.old[: len(mutant.old) - len(mutant.old.lstrip())]
    after = mutant.old[len(mutant.old.rstrip()) :]
    return text[:start] + mutant.new.removeprefix(before).removesuffix(after) + text[end:]


def _pattern_of(source: str) -> re.Pattern[str]:
    """The tokens of the source with any white space and trailing comma between them."""
    tokens = _TOKEN.findall(re.sub(r",(\s*[)\]}])", r"\1", source))
    parts = [re.escape(tokens[0])]
    for previous, token in itertools.pairwise(tokens):
        if token in _CLOSERS:
            gap = r"\s*,?\s*"
        elif re.fullmatch(r"\w\w", previous[-1] + token[0]):
            gap = r"\s+"
        else:
            gap = r"\s*"
        parts.append(gap + re.escape(token))
    return re.compile("".join(parts))


def copy_tree(folder: Path) -> None:
    """Copy the folders in which breaks are planted; everything else is the original, by links."""
    for path in ROOT.iterdir():
        if path.name in _COPIED:
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)


def passes(tests: str, folder: Path) -> bool:
    """Do the tests pass in the copy?"""
    # Without compiled files: a break of the same length within a second would not be noticed.
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        QUICK,
        *tests.split(),
    ]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def survivors(chosen: list[Mutant], folder: Path) -> Iterator[Mutant]:
    """Those that no test notices."""
    for mutant in chosen:
        path = folder / mutant.file
        text = broken(mutant, folder)
        original = path.read_text()
        start = time.perf_counter()
        path.write_text(text)
        survived = passes(mutant.tests, folder)
        path.write_text(original)
        word = "SURVIVED" if survived else "caught"
        change = f"{mutant.old.strip()} -> {mutant.new.strip()}".replace("\n", " ")
        sys.stdout.write(
            f"{word:8} {time.perf_counter() - start:4.0f} s  {mutant.file}: {change[:140]}\n"
        )
        sys.stdout.flush()
        if survived:
            yield mutant


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Break the sources in many places and see that the tests notice."
    )
    parser.add_argument("--only", default="", help="part of a file, text or test")
    only = parser.parse_args().only
    chosen = [m for m in mutants() if any(only in text for text in (m.file, m.old, m.new, m.tests))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tree(folder)
        for tests in sorted({mutant.tests for mutant in chosen}):
            if not passes(tests, folder):
                sys.stdout.write(f"{tests} must pass without a break\n")
                return 2
        alive = list(survivors(chosen, folder))
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} breaks caught\n")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
