"""Renders the records: tables between the marks of README and docs, and the pictures of docs.

`make report` writes them; with ``--check`` nothing is written, and the exit code is 1 where a page
or a picture differs from the records.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import conformance
import render
from covariates import page as covariates_page
from paper import page as paper_page
from past import page as past_page
from peers import page as peers_page
from pretraining_study import page as study_page
from speed import page as speed_page
from suite import page as suite_page
from suite import pretrained as pretrained_page
from zero_shot import combination
from zero_shot import page as zero_shot_page

# Modules with BLOCKS, texts by page and name of their marks, and perhaps PICTURES by name; both are
# functions of the folder of records.
PAGES = (
    suite_page,
    pretrained_page,
    zero_shot_page,
    combination,
    covariates_page,
    study_page,
    speed_page,
    peers_page,
    paper_page,
    past_page,
    conformance,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Render or check; 0 when all is well, 1 when a page differs, 2 when the records cannot be
    used.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a page differs"
    )
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parents[1], help="the checkout"
    )
    options = parser.parse_args(argv)
    try:
        pages = texts(options.root)
        pictures = drawings(options.root)
    except (ValueError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    except KeyError as error:
        print(
            f"report: a record lacks the field {error}; remove it and run it again", file=sys.stderr
        )
        return 2
    stale = [path for path, text in pages.items() if path.read_text("utf-8") != text]
    undrawn = [path for path, panels in pictures.items() if not render.is_fresh(path, panels)]
    if options.check:
        for path in (*stale, *undrawn):
            print(f"report: {path} differs from the records; run `make report`", file=sys.stderr)
        return 1 if stale or undrawn else 0
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
    for path in undrawn:
        render.draw(path, pictures[path])
    return 0


def texts(root: Path) -> dict[Path, str]:
    """The whole text of each page, with its tables as the records have them.

    Raises:
        ValueError: If records do not compare, or a page lacks marks.
    """
    results = root / "benchmarks" / "results"
    pages: dict[Path, str] = {}
    for module in PAGES:
        for (name, mark), make_text in module.BLOCKS.items():
            path = root / name
            if path not in pages:
                pages[path] = path.read_text("utf-8")
            pages[path] = render.between(path, pages[path], mark, make_text(results))
    return pages


def drawings(root: Path) -> dict[Path, list[render.Panel]]:
    """The panels of each picture."""
    results = root / "benchmarks" / "results"
    panels = {}
    for module in PAGES:
        for name, make_panels in getattr(module, "PICTURES", {}).items():
            panels[root / "docs" / "pictures" / name] = make_panels(results)
    return panels


if __name__ == "__main__":
    sys.exit(main())
