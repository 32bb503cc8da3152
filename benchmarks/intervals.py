"""Do 80% and 95% intervals hold their level on the test rows of ETTh1, and how wide are they?

Every way to get intervals is judged on all test windows and all channels. Models learn and calibrate on training and
validation rows only; the adaptive bands also learn from test truths, each after it is known. Ways that stand in
results/intervals.json are not run again unless asked; report.py renders docs/intervals.md from it.
Run: python benchmarks/intervals.py --data-dir DIR [--way "mlr, own quantiles" ...] [--again]
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tsattn.benchmark import provenance
from tsattn.limits import limit_threads
from tsattn.storage import write_json

FILE = "intervals.json"
RESULTS = Path(__file__).resolve().parent / "results"
DATASET, HORIZON, SEED = "ETTh1", 96, 0
LEVELS = (80, 95)
ALLOWED = 2.0  # points between a level and its coverage
_FIELDS = {"way", "coverage", "width", "wql", "mae", "n_windows"}
_ORIGIN = ("versions", "commit", "machine", "finished")

_MARK = "<!-- written by benchmarks/report.py from the record intervals.json; change that, not this page -->"
_ABOUT = """\
An 80% interval should hold the truth in 80 of 100 cases. How often did it on the test rows of {dataset}, {horizon}
steps ahead, all windows and channels, one seed. Width is the mean distance between the bounds on the scale of the
training rows; WQL is the weighted quantile loss over the bounds of both levels; less is better in both.
`backtest(level=[80, 95])` gives coverage and WQL for data of your own."""

# A way: what it does, and what makes the forecaster from context and rows of the validation span.
_SETTINGS: dict[str, Any] = {"random_state": SEED}


def _mlr(context: int, valid: int, **settings: Any) -> Any:
    from tsattn.forecasters.attention import AttentionForecaster

    return AttentionForecaster(HORIZON, context=context, **_SETTINGS, **settings)


def _rlinear(context: int) -> Any:
    from tsattn.forecasters.attention import LinearForecaster

    return LinearForecaster(HORIZON, "rlinear", context=context, **_SETTINGS)


def _split(context: int, valid: int) -> Any:
    from tsattn.evaluate.conformal import SplitConformal

    return SplitConformal(_rlinear(context), n_windows=valid - HORIZON + 1)


def _adaptive(inner: Any, valid: int) -> Any:
    from tsattn.evaluate.conformal import AdaptiveConformal

    return AdaptiveConformal(inner, n_windows=valid - HORIZON + 1, levels=LEVELS)


WAYS: dict[str, tuple[str, Callable[[int, int], Any]]] = {
    "mlr, validation errors": (
        "what `AttentionForecaster` does by itself: errors of its own validation rows, which also stopped its training",
        lambda context, valid: _mlr(context, valid, val_size=valid),
    ),
    "mlr, own quantiles": (
        "`head='quantile'`: quantiles learnt on the training rows, not calibrated",
        lambda context, valid: _mlr(context, valid, val_size=valid, head="quantile"),
    ),
    "mlr, adaptive": (
        "`AdaptiveConformal` around it: calibrated on the validation rows, then moved by each miss once it is known",
        lambda context, valid: _adaptive(_mlr(context, valid), valid),
    ),
    "rlinear, split": (
        "`SplitConformal` around the linear model: errors of the validation rows, which it has not learnt from",
        _split,
    ),
    "rlinear, adaptive": (
        "`AdaptiveConformal` around the linear model",
        lambda context, valid: _adaptive(_rlinear(context), valid),
    ),
}


def judge(way: str, data_dir: str | None) -> dict[str, Any]:
    """Fit on training and validation rows, then judge every test window."""
    from tsattn.data.cards import load_dataset
    from tsattn.data.windows import WindowSpec, make_scaler
    from tsattn.evaluate.conformal import AdaptiveConformal, roll_adaptive
    from tsattn.evaluate.rolling import roll
    from tsattn.forecaster import level_to_quantiles

    data = load_dataset(DATASET, data_dir=data_dir)
    split, context = data.split, data.card.protocol.context
    known = split.train + split.valid
    panel = data.panel.rows(0, known + split.test)
    model = WAYS[way][1](context, split.valid).fit(panel.rows(0, known))
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
    return {
        "way": way,
        "coverage": {f"{level}": round(100 * rolled.coverage[level], 2) for level in LEVELS},
        "width": width,
        "wql": round(rolled.wql, 4),
        "mae": round(rolled.mae, 4),
        "n_windows": rolled.n_windows,
        **provenance(model),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of the record, in the order of ``WAYS``.

    Raises:
        ValueError: If the file is damaged or a row does not say where it comes from.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        known = {row["way"]: row for row in rows}
        broken = [row for row in rows if _FIELDS - set(row) or not all(row.get(name) for name in _ORIGIN)]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path.name} is damaged; remove it and run benchmarks/intervals.py") from None
    if broken or set(known) - set(WAYS):
        raise ValueError(f"{path.name} has a row without its figures, its origin or a known way; run it again")
    return [known[way] for way in WAYS if way in known]


def page(rows: list[dict[str, Any]]) -> str:
    """The text of docs/intervals.md."""
    lines = [_MARK, "", "# Intervals", "", *_ABOUT.format(dataset=DATASET, horizon=HORIZON).splitlines(), ""]
    if not rows:
        return "\n".join([*lines, "No run is recorded yet.", ""])
    head = ("intervals", "80% holds", "95% holds", "width of 80%", "width of 95%", "WQL", "MAE")
    lines += [f"| {' | '.join(head)} |", f"| --- |{' ---: |' * 6}"]
    for row in rows:
        cells = [*(f"{row['coverage'][f'{level}']:.1f}%" for level in LEVELS)]
        cells += [*(f"{row['width'][f'{level}']:.3f}" for level in LEVELS), f"{row['wql']:.4f}", f"{row['mae']:.4f}"]
        lines.append(f"| {row['way']} | {' | '.join(cells)} |")
    lines += ["", *(f"- *{row['way']}*: {WAYS[row['way']][0]}." for row in rows), "", *verdict(rows), ""]
    commits = sorted({row["commit"][:12] for row in rows})
    origin = "`, `".join(commits)
    return "\n".join([*lines, f"Commit `{origin}`; torch {rows[0]['versions']['torch']}; {rows[0]['machine']}.", ""])


def verdict(rows: list[dict[str, Any]]) -> list[str]:
    """Which ways hold both levels within the allowed points."""

    def far(row: dict[str, Any]) -> float:
        return max(abs(row["coverage"][f"{level}"] - level) for level in LEVELS)

    good = [row["way"] for row in rows if far(row) <= ALLOWED]
    bad = [row["way"] for row in rows if far(row) > ALLOWED]
    lines = []
    if good:
        lines.append(f"Within {ALLOWED:g} points of both levels: {'; '.join(good)}.")
    if bad:
        lines.append(
            f"Further off: {'; '.join(bad)}. Errors of the validation rows speak for the test rows only if both are"
            " exchangeable, and a series that changes with the seasons and the years breaks that."
        )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Judge what is asked for and not on file; each row is kept as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--way", action="append", choices=list(WAYS))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / FILE)
    options = parser.parse_args(argv)
    rows = {row["way"]: row for row in read_rows(options.out)}
    with limit_threads(1):
        for way in options.way or WAYS:
            if way in rows and not options.again:
                continue
            rows[way] = judge(way, options.data_dir)
            write_json(options.out, {"rows": [rows[each] for each in WAYS if each in rows]})
            print(f"{way}: {rows[way]['coverage']}, width {rows[way]['width']}, WQL {rows[way]['wql']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
