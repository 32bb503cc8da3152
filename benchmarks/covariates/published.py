"""Takes what others scored from the covariates pack into results/covariates_published.jsonl, for
the page.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from covariates.pack import POOLED, Pack, Task
from covariates.page import PUBLISHED
from records import RESULTS, Record, parse

from tsattn.storage import one_line, write_atomic

_METRICS = ("MASE", "SQL", "WQL")


def published(pack: Pack) -> list[Record]:
    """The suites, the tasks with the scores of their seasonal naive forecast, and models with their
    scores by task.
    """
    sources = [
        (suite, about) for suite, about in pack.told["suites"].items() if "repository" in about
    ]
    suites = [
        {"kind": "suite", "suite": suite, **_some(about, "repository", "commit")}
        for suite, about in sources
    ]
    models = [_model(name, about, pack) for name, about in pack.told["models"].items()]
    own = [task for task in pack.tasks.values() if not task.published]
    rivals = dict.fromkeys(
        name for task in own for name in task.measured if name != "seasonal_naive"
    )
    measured = [
        {
            "kind": "measured model",
            "model": name,
            "scores": {
                task.name: _scores(task.measured[name]) for task in own if name in task.measured
            },
        }
        for name in rivals
    ]
    return [*suites, *(_task(task) for task in pack.tasks.values()), *models, *measured]


def _task(task: Task) -> Record:
    row = {
        "kind": "published task",
        "task": task.name,
        **_some(task._asdict(), "suite", "split", "horizon", "n_instances"),
    }
    row |= {"targets": len(task.targets), "known": len(task.known), "past": len(task.past)}
    return row | {"seasonal_naive": _scores(task.base)}


def _model(name: str, about: Mapping[str, Any], pack: Pack) -> Record:
    """A model: what it reads, whose test data it saw, and MASE, SQL and WQL by task."""
    scores = {
        task.name: task.published[name] for task in pack.tasks.values() if name in task.published
    }
    return {
        "kind": "published model",
        "model": name,
        "covariates": about.get("fev-bench", {}).get("covariates"),
        "leaked": [task for task, row in scores.items() if row.get("leaked")],
        "saw_test_data": about.get(POOLED, {}).get("test_data_leakage") == "Yes",
        "files": [suite["file"] for suite in about.values()],
        "scores": {task: _scores(row) for task, row in scores.items()},
    }


def _some(row: Mapping[str, Any], *names: str) -> Record:
    return {name: row[name] for name in names}


def _scores(row: Mapping[str, float]) -> list[float | None]:
    """``None`` where a suite has no such metric."""
    return [row.get(metric) for metric in _METRICS]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file anew; 2 where the pack is not there."""
    options = parse(argv, __doc__, {"pack": "", "out": RESULTS / PUBLISHED})
    try:
        lines = "".join(
            json.dumps(row, ensure_ascii=False) + "\n" for row in published(Pack(options.pack))
        )
        write_atomic(
            Path(options.out), lambda aside: Path(aside).write_text(lines, encoding="utf-8")
        )
    except (ValueError, OSError) as error:
        print(f"published: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
