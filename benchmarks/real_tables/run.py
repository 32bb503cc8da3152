"""Judges forecasters on sixty small real tables: a record a table and model in
results/real_tables.jsonl.

A model is fitted once for each table, on the rows before its first of five cutoffs. Recorded runs
are not repeated; remove a line to run it again. Run:
PYTHONPATH=benchmarks python benchmarks/real_tables/run.py [--model NAME ...]
"""

import sys
import time
import warnings
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from real_tables.tables import N_WINDOWS, SOURCES, Source, read_table
from records import RESULTS, Records, parse

from tsattn.catalogue import make_forecaster, settings_for
from tsattn.evaluate.backtest import backtest
from tsattn.limits import limit_threads

FILE = "real_tables.jsonl"
KEY = ("table", "model", "settings")
MODELS = ("zero", "auto", "auto_ets", "dynamic_theta", "seasonal_naive")
REFERENCE = "seasonal_naive"
# An error of at most so many times the best one counts as level with it.
LEVEL = 1.05


def judge(source: Source, model: str) -> dict[str, Any]:
    """Errors of a model on a table: MAE on the standardised scale, and MASE."""
    frame = read_table(source)
    # Absolute errors judge medians, where `auto` may give means.
    settings = settings_for(model, random_state=0, point="median")
    forecaster = make_forecaster(model, source.horizon, **settings)
    begin = time.process_time()
    with warnings.catch_warnings():
        # Models warn where an optimiser stopped early; that shows in the scores.
        warnings.simplefilter("ignore")
        step_size = max(1, source.horizon // 4)
        result = backtest(forecaster, frame, n_windows=N_WINDOWS, step_size=step_size)
        scores = result.scores.iloc[0]
    has_mase = np.isfinite(scores["mase"])
    return {
        "mae": float(scores["mae"]),
        "mase": float(scores["mase"]) if has_mase else None,
        "series": frame.shape[1],
        "rows": len(frame),
        "seconds": round(time.process_time() - begin, 2),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Geometric means of errors over seasonal naive, and how often ``auto`` is level with the best
    other model.
    """
    errors_by_table: dict[str, dict[str, float]] = {}
    for row in rows:
        errors_by_table.setdefault(row["table"], {})[row["model"]] = row["mae"]
    complete = [errors for errors in errors_by_table.values() if errors.keys() >= set(MODELS)]
    lines = [f"{len(complete)} tables with all models"]
    if not complete:
        return lines
    ratios = {}
    for model in MODELS:
        ratios[model] = np.array([errors[model] / errors[REFERENCE] for errors in complete])
    means = {model: float(np.exp(np.log(ratio).mean())) for model, ratio in ratios.items()}
    lines += [f"{model}: {mean:.3f} of {REFERENCE}" for model, mean in means.items()]
    others = [model for model in MODELS if model != "auto"]
    best = np.min([ratios[model] for model in others], axis=0)
    n_level = int((ratios["auto"] <= LEVEL * best).sum())
    lead = min(means[model] for model in others) / means["auto"] - 1
    lines.append(f"auto: {100 * lead:.1f}% ahead of the best single model")
    lines.append(f"auto: within 5% of the best of each table on {n_level} of {len(complete)}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, and print the summary."""
    options = parse(argv, __doc__, {"model": MODELS, "table": (), "out": RESULTS / FILE})
    records = Records(Path(options.out), KEY)
    sources = {source.name: source for source in SOURCES}
    names = [name for name in sources if not options.table or name in options.table]
    cells = [
        {"table": name, "model": model, "settings": {}}
        for name, model in product(names, options.model)
    ]
    with limit_threads(1):
        for cell in records.missing(cells):
            row = records.add(cell | judge(sources[cell["table"]], cell["model"]))
            print(f"{row['table']:28} {row['model']:15} {row['mae']:.4f} {row['seconds']:7.1f} s")
    print("\n".join(summary(records.rows())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
