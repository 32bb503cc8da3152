"""Do intervals hold their level on the test rows of ETTh1, and how wide are they? One row a way to get them.

The adaptive bands also learn from test truths, each after it is known. What is recorded is not run again.
Run: PYTHONPATH=benchmarks python benchmarks/suite/intervals.py --data-dir DIR [--way "mlr, adaptive"]
"""

from pathlib import Path
from typing import Any

import numpy as np
import records
import render
from records import Record, Records

from tsattn.benchmark import provenance
from tsattn.catalogue import make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.windows import WindowSpec, make_scaler
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal, roll_adaptive
from tsattn.evaluate.rolling import roll
from tsattn.levels import level_to_quantiles
from tsattn.limits import limit_threads

FILE, KEY = "intervals.jsonl", ("way",)
DATASET, HORIZON, SEED = "ETTh1", 96, 0
LEVELS = (80, 95)
WAYS = ("mlr, validation errors", "mlr, own quantiles", "mlr, adaptive", "rlinear, split", "rlinear, adaptive")


def make(way: str, context: int, valid: int) -> Any:
    """The forecaster of a way; conformal ones calibrate on the validation rows, which they have not learnt from."""
    name, _, how = way.partition(", ")
    inside = {} if how in ("adaptive", "split") else {"val_size": valid}
    head = {"head": "quantile"} if how == "own quantiles" else {}
    model = make_forecaster(name, HORIZON, context=context, random_state=SEED, **inside, **head)
    n_windows = valid - HORIZON + 1
    if how == "adaptive":
        return AdaptiveConformal(model, n_windows=n_windows, levels=LEVELS)
    return SplitConformal(model, n_windows=n_windows) if how == "split" else model


def judge(way: str, data_dir: str | None) -> Record:
    """Fit on training and validation rows, then judge every test window."""
    data = load_dataset(DATASET, data_dir=data_dir)
    split, context = data.split, data.card.protocol.context
    known = split.train + split.valid
    panel = data.panel.rows(0, known + split.test)
    model = make(way, context, split.valid).fit(panel.rows(0, known))
    scaler = make_scaler(panel, split.train)
    ends = WindowSpec(context, HORIZON).ends(panel.starts, np.array([known]), panel.lengths)
    if isinstance(model, AdaptiveConformal):
        rolled = roll_adaptive(model, panel, ends, scaler=scaler)
    else:
        rolled = roll(model, panel, ends, scaler=scaler, quantiles=level_to_quantiles(LEVELS))
    assert rolled.bounds is not None
    place = {q: i for i, q in enumerate(rolled.quantiles)}
    width = {}
    for level in LEVELS:
        low, high = (rolled.bounds[..., place[q]] for q in level_to_quantiles(level))
        width[f"{level}"] = round(float(((high - low) / scaler.scale).mean()), 4)
    coverage = {f"{level}": round(100 * rolled.coverage[level], 2) for level in LEVELS}
    scores = {"wql": round(rolled.wql, 4), "mae": round(rolled.mae, 4), "n_windows": rolled.n_windows}
    return {"way": way, "coverage": coverage, "width": width, **scores, **provenance(model)}


def table(folder: Path) -> str:
    """How often each way holds its levels, and how wide it is."""
    rows = records.read(folder / FILE, KEY)
    columns = {
        "intervals": lambda row: row["way"],
        **{f"{level}% holds": lambda row, at=f"{level}": f"{row['coverage'][at]:.1f}%" for level in LEVELS},
        **{f"width of {level}%": lambda row, at=f"{level}": f"{row['width'][at]:.3f}" for level in LEVELS},
        "WQL": lambda row: f"{row['wql']:.4f}",
        "MAE": lambda row: f"{row['mae']:.4f}",
    }
    return f"{render.table(rows, columns)}\n\n{records.origin(rows)}" if rows else render.NONE


def main(argv: list[str] | None = None) -> None:
    """Judge what is asked for and not on file; each row is kept as it comes."""
    options = records.parse(argv, __doc__, {"data_dir": None, "way": WAYS, "again": False}, choices={"way": WAYS})
    found = Records(records.RESULTS / FILE, KEY)
    with limit_threads(1):
        for cell in found.missing(({"way": way} for way in options.way), again=options.again):
            row = found.add(judge(cell["way"], options.data_dir), again=options.again)
            print(f"{row['way']}: {row['coverage']}, width {row['width']}, WQL {row['wql']}", flush=True)


BLOCKS = {("docs/benchmarks.md", "intervals"): table}

if __name__ == "__main__":
    main()
