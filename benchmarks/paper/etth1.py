"""The paper's forecasting experiment: attention of two and of four levels beside standard attention
on ETTh1.

A two-layer encoder, judged on every test window. All variants share every setting; the rate is that
of the least validation MAE with the first seed. Runs that are recorded are not made again. Run:
PYTHONPATH=benchmarks python benchmarks/paper/etth1.py --data-dir DIR [--horizon 96 ...] [--seed 0
...] [--paper]
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import records
from records import Record, Records

from tsattn.catalogue import make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.windows import make_scaler
from tsattn.evaluate.rolling import roll
from tsattn.limits import limit_threads

FILE = "paper_etth1.jsonl"
KEY = ("variant", "horizon", "seed", "learning_rate", "settings")
STANDARD = "standard"
VARIANTS = {STANDARD: "standard attention", "mlr2": "two levels", "mlr4": "four levels"}
# Shares of a head's features, coarse to fine.
LEVELS: dict[str, tuple[int, ...]] = {"mlr2": (2, 2), "mlr4": (2, 4, 8, 8)}
TUNING_SEED = 0  # its runs choose the rate
_GRID = {
    "horizon": (96, 192, 336),
    "seed": (0, 1, 2),
    "variant": tuple(VARIANTS),
    "learning_rate": (3e-4, 1e-3),
}
# What all variants share; 0 is none.
_SHARED: dict[str, Any] = {"context": 336, "patch_len": 16, "patch_stride": 8}
_SHARED |= {"d_model": 32, "n_heads": 4, "n_layers": 2}
_SHARED |= {
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
    shares = LEVELS[variant]
    if n_features % max(shares):
        raise ValueError(
            f"{variant} needs a multiple of {max(shares)} features a head; got {n_features}; change"
            " --n-heads"
        )
    return {"name": "mlr", "ranks": tuple(n_features // share for share in shares)}


def run(cell: Record, data: Any) -> Record:
    """Train one forecaster on the training rows, stopped by the validation rows, and judge it on
    all windows of both.

    Scores are of the validation rows and of the test rows, on the scale of the training rows.
    ``cell`` has the fields of ``KEY``; ``data`` is a data set of known split.
    """
    settings = cell["settings"]
    horizon = cell["horizon"]
    first, valid, stop = data.split.bounds
    panel = data.panel.rows(0, stop)
    known = panel.rows(0, valid)
    scaler = make_scaler(panel, first)
    attention = attention_of(cell["variant"], settings["d_model"] // settings["n_heads"])
    how = {
        "learning_rate": cell["learning_rate"],
        "random_state": cell["seed"],
        "val_size": data.split.valid,
    }
    model: Any = make_forecaster(horizon=horizon, **settings, **attention, **how, device="cpu")
    cpu = time.process_time()
    model.fit(known)
    scores: Record = {}
    for name, rows, begin, end in (("valid", known, first, valid), ("test", panel, valid, stop)):
        ends = (rows.starts[:-1, None] + np.arange(begin, end - horizon + 1)).ravel()
        rolled = roll(model, rows, ends, scaler=scaler, keep=False)
        scores |= {
            f"{name}_mse": rolled.mse,
            f"{name}_mae": rolled.mae,
            f"{name}_windows": rolled.n_windows,
        }
    told = {
        name: model.summary_[name]
        for name in ("epochs", "best_epoch", "parameters", "patches", "fit_seconds")
    }
    return {
        "kind": "run",
        **cell,
        **scores,
        **told,
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def best_rate(rows: list[Record]) -> float:
    """The rate of the least validation MAE, among runs of one variant and horizon that differ in
    seed and rate.

    Only runs with the first seed count where there are any.
    """
    tuned = [row for row in rows if row["seed"] == TUNING_SEED] or rows
    return float(min(tuned, key=lambda row: row["valid_mae"])["learning_rate"])


def grid(options: Any, settings: dict[str, Any], found: Records) -> Iterator[Record]:
    """The runs that are asked for: all rates with the first seed, then the other seeds at the rate
    that was best.

    Asked for one after another, since the second kind depends on what was recorded of the first.
    """
    for horizon in options.horizon:
        for variant in options.variant:
            shared_ = {"variant": variant, "horizon": horizon, "settings": settings}
            rates = options.learning_rate
            if len(rates) > 1:
                for rate in rates:
                    yield {**shared_, "seed": TUNING_SEED, "learning_rate": rate}
                same = [
                    row
                    for row in found.rows()
                    if all(row[name] == shared_[name] for name in shared_)
                ]
                rates = (best_rate([row for row in same if row["learning_rate"] in rates]),)
            for seed in options.seed:
                yield {**shared_, "seed": seed, "learning_rate": rates[0]}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for and not recorded yet."""
    defaults = {"data_dir": None, **_GRID, **_SHARED}
    more = {"paper": PAPER, "choices": {"variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**defaults, "out": records.RESULTS / FILE}, **more)
    settings = {name: getattr(options, name) for name in _SHARED} | {
        "head_rank": options.head_rank or None
    }
    for variant in options.variant:
        attention_of(variant, options.d_model // options.n_heads)
    found = Records(options.out, KEY)
    data = load_dataset("ETTh1", data_dir=options.data_dir)
    with limit_threads(1):
        for cell in found.missing(grid(options, settings, found)):
            row = found.add(run(cell, data))
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
