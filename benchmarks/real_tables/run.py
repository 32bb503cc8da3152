"""Judges forecasters on sixty small real tables: a record a table and model in
results/real_tables.jsonl.

A model is fitted once for each table, on the rows before its first of five cutoffs. What is on
record is not run again; remove its line to repeat it. Run:
PYTHONPATH=benchmarks python benchmarks/real_tables/run.py [--model NAME ...]
"""

import sys
import time
import warnings
from collections.abc import Sequence
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
# A lead within this share of the best counts as level.
LEVEL = 1.05


def judge(source: Source, model: str) -> dict[str, Any]:
    """Errors of a model on a table: MAE on the standardised scale, and MASE."""
    frame = read_table(source)
    # Absolute errors judge medians, where `auto` may give means.
    settings = settings_for(model, random_state=0, point="median")
    forecaster = make_forecaster(model, source.horizon, **settings)
    begin = time.process_time()
    with warnings.catch_warnings():
        # Models say where an optimiser stopped; the scores say what that costs.
        warnings.simplefilter("ignore")
        result = backtest(
            forecaster,
            frame,
            n_windows=N_WINDOWS,
            step_size=max(1, source.horizon // 4),
        )
        scores = result.scores.iloc[0]
    return {
        "mae": float(scores["mae"]),
        "mase": float(scores["mase"]) if np.isfinite(scores["mase"]) else None,
        "series": frame.shape[1],
        "rows": len(frame),
        "seconds": round(time.process_time() - begin, 2),
    }


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Geometric means of errors over seasonal naive, and how often ``auto`` is level with the best
    other model.
    """
    errors: dict[str, dict[str, float]] = {}
    for row in rows:
        errors.setdefault(row["table"], {})[row["model"]] = row["mae"]
    complete = {name: found for name, found in errors.items() if set(MODELS) <= set(found)}
    lines = [f"{len(complete)} tables with all models"]
    if not complete:
        return lines
    ratios = {
        model: np.array([found[model] / found[REFERENCE] for found in complete.values()])
        for model in MODELS
    }
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
    wanted = [each for each in SOURCES if not options.table or each.name in options.table]
    cells = [
        {"table": source.name, "model": model, "settings": {}}
        for source in wanted
        for model in options.model
    ]
    sources = {source.name: source for source in SOURCES}
    with limit_threads(1):
        for cell in records.missing(cells):
            row = records.add(cell | judge(sources[cell["table"]], cell["model"]))
            print(f"{row['table']:28} {row['model']:15} {row['mae']:.4f} {row['seconds']:7.1f} s")
    print("\n".join(summary(records.rows())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
