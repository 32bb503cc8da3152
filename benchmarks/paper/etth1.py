"""The paper's forecasting experiment: attention of two and of four levels and standard attention on
ETTh1.

The network is an encoder of two layers, judged on every test window. All variants share every
setting; the rate is that of the least validation MAE with the first seed. Recorded runs are not
repeated. Run:
PYTHONPATH=benchmarks python benchmarks/paper/etth1.py --data-dir DIR [--horizon 96 ...] [--seed 0
...] [--paper]
"""

import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import records
from records import Record, Records

from tsattn.catalogue import make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.panel import Panel
from tsattn.data.windows import make_scaler
from tsattn.evaluate.rolling import roll
from tsattn.limits import limit_threads

FILE = "paper_etth1.jsonl"
KEY = ("variant", "horizon", "seed", "learning_rate", "settings")
STANDARD = "standard"
VARIANTS = {STANDARD: "standard attention", "mlr2": "two levels", "mlr4": "four levels"}
# A head's features over those of each level, coarse to fine.
LEVELS: dict[str, tuple[int, ...]] = {"mlr2": (2, 2), "mlr4": (2, 4, 8, 8)}
# Seed of the runs that choose the rate.
TUNING_SEED = 0
_GRID = {
    "horizon": (96, 192, 336),
    "seed": (0, 1, 2),
    "variant": tuple(VARIANTS),
    "learning_rate": (3e-4, 1e-3),
}
# Settings of all variants; a head_rank of 0 is none.
_SHARED: dict[str, Any] = {
    "context": 336,
    "patch_len": 16,
    "patch_stride": 8,
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 2,
    "d_ff": 64,
    "head_rank": 0,
    "linear_skip": False,
    "loss": "huber",
    "max_epochs": 4,
    "patience": 2,
}
PAPER = {"d_model": 512, "n_heads": 8, "d_ff": 2048}


def attention_of(variant: str, n_features: int) -> dict[str, Any]:
    """The model of the catalogue and the ranks of a variant whose heads have so many features.

    Raises:
        ValueError: If the features cannot be shared among the levels.
    """
    if variant == STANDARD:
        return {"name": "standard"}
    divisors = LEVELS[variant]
    if n_features % max(divisors):
        raise ValueError(
            f"{variant} needs a multiple of {max(divisors)} features a head; got {n_features};"
            " change --n-heads"
        )
    return {"name": "mlr", "ranks": tuple(n_features // divisor for divisor in divisors)}


def run(cell: Record, data: Any) -> Record:
    """Train one forecaster on the training rows, stopped by the validation rows, and judge it on
    all windows of the validation rows and of the test rows.

    Scores are on the scale of the training rows. ``cell`` has the fields of ``KEY``; ``data`` is a
    data set with a split.
    """
    settings = cell["settings"]
    horizon = cell["horizon"]
    train_stop, valid_stop, test_stop = data.split.bounds
    panel = data.panel.rows(0, test_stop)
    before_test = panel.rows(0, valid_stop)
    scaler = make_scaler(panel, train_stop)
    model: Any = make_forecaster(
        horizon=horizon,
        **settings,
        **attention_of(cell["variant"], settings["d_model"] // settings["n_heads"]),
        learning_rate=cell["learning_rate"],
        random_state=cell["seed"],
        val_size=data.split.valid,
        device="cpu",
    )
    cpu_start = time.process_time()
    model.fit(before_test)
    valid_rows = range(train_stop, valid_stop)
    test_rows = range(valid_stop, test_stop)
    valid_scores = _scores("valid", model, before_test, valid_rows, scaler)
    test_scores = _scores("test", model, panel, test_rows, scaler)
    cpu_seconds = time.process_time() - cpu_start
    facts = ("epochs", "best_epoch", "parameters", "patches", "fit_seconds")
    return {
        "kind": "run",
        **cell,
        **valid_scores,
        **test_scores,
        **{name: model.summary_[name] for name in facts},
        "cpu_seconds": round(cpu_seconds, 1),
    }


def _scores(name: str, model: Any, panel: Panel, rows: range, scaler: Any) -> Record:
    """MSE, MAE and number of all windows whose horizon lies in some rows of a panel."""
    cutoffs = np.arange(rows.start, rows.stop - model.horizon + 1)
    ends = (panel.starts[:-1, None] + cutoffs).ravel()
    rolled = roll(model, panel, ends, scaler=scaler, keep=False)
    return {
        f"{name}_mse": rolled.mse,
        f"{name}_mae": rolled.mae,
        f"{name}_windows": rolled.n_windows // panel.n_series,
    }


def best_rate(rows: list[Record]) -> float:
    """The rate of the least validation MAE, among runs of one variant and horizon that differ in
    seed and rate.

    Only runs with the first seed count where there are any.
    """
    tuning_runs = [row for row in rows if row["seed"] == TUNING_SEED] or rows
    best_run = min(tuning_runs, key=lambda row: row["valid_mae"])
    return float(best_run["learning_rate"])


def grid(options: Any, settings: dict[str, Any], file: Records) -> Iterator[Record]:
    """The runs of the options: all rates with the first seed, then the other seeds at the best
    rate.

    They come one by one, since the later ones depend on the records of the earlier ones.
    """
    for horizon, variant in product(options.horizon, options.variant):
        cell = {"variant": variant, "horizon": horizon, "settings": settings}
        rates = options.learning_rate
        rate = rates[0]
        if len(rates) > 1:
            for tuning_rate in rates:
                yield {**cell, "seed": TUNING_SEED, "learning_rate": tuning_rate}
            alike = [row for row in file.rows() if all(row[name] == cell[name] for name in cell)]
            rate = best_rate([row for row in alike if row["learning_rate"] in rates])
        for seed in options.seed:
            yield {**cell, "seed": seed, "learning_rate": rate}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not recorded yet."""
    defaults = {"data_dir": None, **_GRID, **_SHARED}
    more = {"paper": PAPER, "choices": {"variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**defaults, "out": records.RESULTS / FILE}, **more)
    settings = {name: getattr(options, name) for name in _SHARED}
    settings["head_rank"] = options.head_rank or None
    # An unusable variant is refused before any run.
    for variant in options.variant:
        attention_of(variant, options.d_model // options.n_heads)
    file = Records(options.out, KEY)
    data = load_dataset("ETTh1", data_dir=options.data_dir)
    with limit_threads(1):
        for cell in file.missing(grid(options, settings, file)):
            row = file.add(run(cell, data))
            name = (
                f"{row['variant']}, horizon {row['horizon']}, seed {row['seed']}, rate"
                f" {row['learning_rate']:g}"
            )
            print(
                f"{name}: validation MAE {row['valid_mae']:.4f}, test MAE {row['test_mae']:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
