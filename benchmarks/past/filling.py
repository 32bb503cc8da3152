"""Judges ``tsattn.fill`` on values that were removed from complete series: a record a table and
length of gap in results/filling.jsonl.

Methods: the pretrained forecaster from both sides; straight lines; the mean of the nearest values
of the same phase, two on each side; and straight lines through the series without the season of a
decomposition (STL). Recorded runs are not repeated. Run: PYTHONPATH=benchmarks python
benchmarks/past/filling.py --split development --pack DIR, or --split kept --data-dir DIR
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from past.tables import OPTIONS, SPLITS, tables_of
from records import RESULTS, Record, Records, parse
from statsmodels.tsa.seasonal import STL

from tsattn.data.calendar import season_length
from tsattn.data.frames import to_panel
from tsattn.filling import fill
from tsattn.limits import limit_threads

FILE = "filling.jsonl"
KEY = ("split", "table", "gap")
# Share of the rows that is removed, about, and gaps of a series at most.
SHARE = 0.05
MOST_GAPS = 12
# Lengths of gaps in seasons; one step is a length of its own.
GAPS = {"step": 0.0, "quarter": 0.25, "season": 1.0, "two seasons": 2.0}
# Steps that stand for a season where the frequency has none.
NO_SEASON = 12
# Rounds of the decomposition: the first begins with straight lines.
N_ROUNDS = 2


def lines(frame: pd.DataFrame, season: int) -> pd.DataFrame:
    """Straight lines between the values on either side."""
    return frame.interpolate(method="linear", limit_area="inside")


def seasonal_means(frame: pd.DataFrame, season: int) -> pd.DataFrame:
    """The mean of the nearest values of the same phase, two on each side; lines where there is
    none, or no season.
    """
    if season == 1:
        return lines(frame, season)
    earlier = frame.groupby(np.arange(len(frame)) % season).ffill()
    later = frame.groupby(np.arange(len(frame)) % season).bfill()
    parts = [earlier, earlier.shift(season), later, later.shift(-season)]
    mean = pd.DataFrame(
        np.nanmean(np.stack(parts), axis=0), index=frame.index, columns=frame.columns
    )
    return frame.fillna(mean).fillna(lines(frame, season))


def decomposition(frame: pd.DataFrame, season: int) -> pd.DataFrame:
    """Lines through the series without its season, and the season; lines where there are not two
    seasons.
    """
    answer = lines(frame, season)
    if season == 1 or len(frame) < 2 * season + 1:
        return answer
    for name in frame.columns:
        for _ in range(N_ROUNDS):
            wave = STL(answer[name].bfill().ffill(), period=season).fit().seasonal
            without_season = (frame[name] - wave).interpolate(method="linear")
            answer[name] = frame[name].fillna(without_season + wave)
    return answer


def pretrained(frame: pd.DataFrame, season: int) -> pd.DataFrame:
    """``tsattn.fill``."""
    return fill(frame, n_threads=1)


METHODS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "fill": pretrained,
    "lines": lines,
    "seasonal means": seasonal_means,
    "decomposition": decomposition,
}


def remove(frame: pd.DataFrame, length: int, seed: int) -> pd.DataFrame | None:
    """The table without some stretches of so many rows; None where a series is too short."""
    n_rows = len(frame)
    if n_rows < 6 * length + 12:
        return None
    rng = np.random.default_rng(seed)
    n_gaps = int(np.clip(SHARE * n_rows / length, 1, MOST_GAPS))
    removed = frame.copy()
    first_row = max(n_rows // 10, 2)
    for column in range(frame.shape[1]):
        begins = rng.integers(first_row, n_rows - length - 1, size=n_gaps)
        for begin in begins.tolist():
            removed.iloc[begin : begin + length, column] = np.nan
    return removed


def judge(frame: pd.DataFrame, gap: str) -> Record | None:
    """Mean absolute errors of all methods over that of lines, for gaps of a length; None where the
    table is too short.
    """
    season = season_length(str(to_panel(frame).freq))
    length = max(1, round(GAPS[gap] * (season if season > 1 else NO_SEASON)))
    removed = remove(frame, length, seed=length)
    if removed is None:
        return None
    hidden = removed.isna() & frame.notna()
    errors = {}
    for method, work in METHODS.items():
        with warnings.catch_warnings():
            # Phases without a value, and gaps that touch one another.
            warnings.simplefilter("ignore", RuntimeWarning)
            answer = work(removed, season)
        errors[method] = (answer.to_numpy() - frame.to_numpy())[hidden.to_numpy()]
    scale = np.abs(errors["lines"]).mean()
    relative = {
        method: round(float(np.abs(error).mean() / scale), 6) for method, error in errors.items()
    }
    n_values = int(hidden.to_numpy().sum())
    return {"length": length, "n_values": n_values, "relative_mae": relative}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record, and print the means."""
    defaults = {**OPTIONS, "out": RESULTS / FILE}
    options = parse(argv, __doc__, defaults, choices={"split": SPLITS})
    records = Records(Path(options.out), KEY)
    with limit_threads(1):
        for name, frame in tables_of(options):
            cells = [{"split": options.split, "table": name, "gap": gap} for gap in GAPS]
            for cell in records.missing(cells):
                row = judge(frame, cell["gap"])
                if row is not None:
                    records.add(cell | row)
    for line in summary(records.rows(), options.split):
        print(line)
    return 0


def summary(rows: Sequence[Record], split: str) -> list[str]:
    """Means over the tables of a split, by length of gap and method."""
    texts = []
    for gap in GAPS:
        alike = [row for row in rows if row["split"] == split and row["gap"] == gap]
        errors = [f"{method} {mean_error(alike, method):.3f}" for method in METHODS]
        texts.append(f"{gap}: {', '.join(errors)} ({len(alike)} tables)")
    return texts


def mean_error(rows: Sequence[Record], method: str) -> float:
    """Geometric mean of a method's relative errors; an error of zero counts as a thousandth."""
    errors = [row["relative_mae"][method] for row in rows]
    return float(np.exp(np.log(np.maximum(errors, 1e-3)).mean())) if errors else float("nan")


if __name__ == "__main__":
    sys.exit(main())
