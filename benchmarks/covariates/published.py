"""Writes the published scores of the covariates pack into results/covariates_published.jsonl, for
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
    suites = []
    for suite, about in pack.contents["suites"].items():
        if "repository" in about:
            source = {"repository": about["repository"], "commit": about["commit"]}
            suites.append({"kind": "suite", "suite": suite, **source})
    tasks = [_task(task) for task in pack.tasks.values()]
    models = [_model(name, about, pack) for name, about in pack.contents["models"].items()]
    return [*suites, *tasks, *models, *_measured(pack)]


def _measured(pack: Pack) -> list[Record]:
    """Scores of the rivals that the pack's makers ran on tasks of their own."""
    rows: dict[str, Record] = {}
    for task in pack.tasks.values():
        if task.published:
            continue
        for name, scores in task.measured.items():
            if name != "seasonal_naive":
                row = rows.setdefault(name, {"kind": "measured model", "model": name, "scores": {}})
                row["scores"][task.name] = _scores(scores)
    return list(rows.values())


def _task(task: Task) -> Record:
    return {
        "kind": "published task",
        "task": task.name,
        "suite": task.suite,
        "split": task.split,
        "horizon": task.horizon,
        "n_instances": task.n_instances,
        "targets": len(task.targets),
        "known": len(task.future_cols),
        "past": len(task.past_cols),
        "seasonal_naive": _scores(task.base),
    }


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


def _scores(row: Mapping[str, float]) -> list[float | None]:
    """``None`` where a suite has no such metric."""
    return [row.get(metric) for metric in _METRICS]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file anew; 2 where the pack is not there."""
    options = parse(argv, __doc__, {"pack": "", "out": RESULTS / PUBLISHED})
    try:
        rows = published(Pack(options.pack))
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(Path(options.out), lambda path: Path(path).write_text(text, encoding="utf-8"))
    except (ValueError, OSError) as error:
        print(f"published: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
