"""Judges ``tsattn.anomalies`` on anomalies that were put into complete series: a record a table
in results/anomalies.jsonl.

The anomalies are single values that are too high or low, values that drop to zero, and stretches of
4 to 12 rows that are shifted, constant or reversed. Their size is 2.5 to 6 robust deviations of the
seasonal differences. Scores of the other methods are robust deviations (median and MAD): of the
rest of a robust decomposition (STL), of distances to the median of the phase, and of distances to
the mean of the two neighbours. These methods flag values beyond 3, or beyond larger numbers, of
which the table shows the best one on the development tables. Series that ``anomalies`` does not
judge are left out. Recorded runs are not repeated. Run:
PYTHONPATH=benchmarks python benchmarks/past/anomalies.py --split development --pack DIR, or --split
kept --data-dir DIR
"""

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from past.tables import OPTIONS, SPLITS, tables_of
from records import RESULTS, Record, Records, parse
from sklearn.metrics import average_precision_score, f1_score
from statsmodels.tsa.seasonal import STL

from tsattn.anomaly import _LEAST_VALUES, anomalies
from tsattn.data.calendar import season_length
from tsattn.data.frames import to_panel
from tsattn.limits import limit_threads

FILE = "anomalies.jsonl"
KEY = ("split", "table")
KINDS = ("high or low", "zero", "shift", "constant", "reversed")
# Rows of a series for each anomaly, about, and rows between two of them at least.
ROWS_OF_ANOMALY = 150
LEAST_ROWS_BETWEEN = 20
# Rows of the longer anomalies.
LENGTHS = (4, 12)
# Sizes in robust deviations.
SIZES = (2.5, 6.0)
# The size of a shift, as a share of that of a single value.
SHIFT = 0.7
# Rows count as anomalous where they moved by so many robust deviations.
LEAST_MOVE = 0.5
# Robust deviations beyond which the other methods flag a value: the usual rule, and wider ones.
RULES = (3.0, 5.0, 8.0, 12.0, 20.0, 40.0)
# The score beyond which ``anomalies`` flags.
OWN_RULE = 1.0
MAD_TO_DEVIATION = 1.4826
_BY_RULE = ("f1", "flagged_elsewhere")


def robust_deviations(x: np.ndarray) -> np.ndarray:
    """Distances from the median in units of the median absolute deviation, made comparable with a
    standard deviation.
    """
    distance = np.abs(x - np.nanmedian(x))
    return distance / max(MAD_TO_DEVIATION * float(np.nanmedian(distance)), 1e-9)


def by_decomposition(series: pd.Series, season: int) -> np.ndarray:
    """Robust deviations of the rest of a robust decomposition; of the distance to a running median
    where there is no season.
    """
    if season == 1 or len(series) < 2 * season + 1:
        running = series.rolling(7, center=True, min_periods=1).median()
        return robust_deviations((series - running).to_numpy())
    rest = STL(series, period=season, robust=True).fit().resid
    return robust_deviations(rest.to_numpy())


def by_seasonal_median(series: pd.Series, season: int) -> np.ndarray:
    """Robust deviations of the distance to the median of the same phase."""
    medians = series.groupby(np.arange(len(series)) % season).transform("median")
    return robust_deviations((series - medians).to_numpy())


def by_neighbours(series: pd.Series, season: int) -> np.ndarray:
    """Robust deviations of the distance to the mean of the two neighbours."""
    neighbours = (series.shift(1).bfill() + series.shift(-1).ffill()) / 2
    return robust_deviations((series - neighbours).to_numpy())


METHODS: dict[str, Callable[[pd.Series, int], np.ndarray]] = {
    "decomposition": by_decomposition,
    "seasonal median": by_seasonal_median,
    "neighbours": by_neighbours,
}


def with_anomalies(
    series: pd.Series, season: int, rng: np.random.Generator
) -> tuple[pd.Series, np.ndarray] | None:
    """A series with anomalies, and a mask of their rows; None for a constant series."""
    n_rows = len(series)
    changes = series.diff(max(season, 2)).dropna()
    deviation = MAD_TO_DEVIATION * float((changes - changes.median()).abs().median())
    if not deviation > 0:
        return None
    values = series.to_numpy().copy()
    is_anomalous = np.zeros(n_rows, dtype=bool)
    for _ in range(max(3, n_rows // ROWS_OF_ANOMALY)):
        kind = KINDS[rng.integers(len(KINDS))]
        is_single = kind in ("high or low", "zero")
        length = 1 if is_single else int(rng.integers(LENGTHS[0], LENGTHS[1] + 1))
        begin = int(rng.integers(n_rows // 8, n_rows - length - 2))
        move = rng.choice([-1, 1]) * rng.uniform(*SIZES) * deviation
        rows = slice(begin, begin + length)
        first_near = max(begin - LEAST_ROWS_BETWEEN, 0)
        last_near = begin + length + LEAST_ROWS_BETWEEN
        if is_anomalous[first_near:last_near].any():
            continue
        is_anomalous[rows] = True
        if kind == "high or low":
            values[rows] += move
        elif kind == "zero":
            values[rows] = 0.0
        elif kind == "shift":
            values[rows] += SHIFT * move
        elif kind == "constant":
            values[rows] = values[begin]
        else:
            values[rows] = values[rows][::-1].copy()
    has_moved = np.abs(values - series.to_numpy()) > LEAST_MOVE * deviation
    if not has_moved.any():
        return None
    return pd.Series(values, index=series.index), has_moved


def judge(frame: pd.DataFrame) -> Record | None:
    """Average precision, F1 and the flagged share of the other rows, for all methods and rules over
    the rows of all series of a table; None where no series is judged.
    """
    season = season_length(str(to_panel(frame).freq))
    rng = np.random.default_rng(len(frame))
    scores: dict[str, list[np.ndarray]] = {name: [] for name in ("anomalies", *METHODS)}
    labels = []
    for name in frame.columns:
        complete = frame[name].interpolate().dropna()
        if len(complete) < _LEAST_VALUES:
            continue
        planted = with_anomalies(complete, season, rng)
        if planted is None:
            continue
        series, is_anomaly = planted
        labels.append(is_anomaly)
        answer = anomalies(series, n_threads=1)
        scores["anomalies"].append(answer["score"].abs().to_numpy())
        for method, work in METHODS.items():
            scores[method].append(np.nan_to_num(work(series, season)))
    if not labels:
        return None
    truth = np.concatenate(labels)
    results = {}
    for method, parts in scores.items():
        results[method] = _scores(truth, np.concatenate(parts), rules_of(method))
    return {"n_anomalous_rows": int(truth.sum()), "scores": results}


def _scores(truth: np.ndarray, score: np.ndarray, rules: Sequence[float]) -> Record:
    """Average precision of a score, and by rule its F1 and the flagged share of the other rows."""
    # An interval without a width makes an infinite score.
    finite = np.nan_to_num(score, posinf=1e9)
    precision = average_precision_score(truth, finite)
    f1 = {}
    flagged_elsewhere = {}
    for rule in rules:
        is_flagged = finite > rule
        name = f"{rule:g}"
        f1[name] = round(float(f1_score(truth, is_flagged)), 6)
        flagged_elsewhere[name] = round(float(is_flagged[~truth].mean()), 6)
    return {
        "average_precision": round(float(precision), 6),
        "f1": f1,
        "flagged_elsewhere": flagged_elsewhere,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record, and print the means."""
    defaults = {**OPTIONS, "out": RESULTS / FILE}
    options = parse(argv, __doc__, defaults, choices={"split": SPLITS})
    records = Records(Path(options.out), KEY)
    with limit_threads(1), warnings.catch_warnings():
        # Series too short to be judged count as not flagged.
        warnings.simplefilter("ignore")
        for name, frame in tables_of(options):
            if len(frame) < _LEAST_VALUES:
                continue
            for cell in records.missing([{"split": options.split, "table": name}]):
                row = judge(frame)
                if row is not None:
                    records.add(cell | row)
    for line in summary(records.rows(), options.split):
        print(line)
    return 0


def summary(rows: Sequence[Record], split: str) -> list[str]:
    """Means over tables by method and rule."""
    texts = []
    for method in ("anomalies", *METHODS):
        for rule in rules_of(method):
            means = mean_scores(rows, split, method, rule)
            if means:
                texts.append(
                    f"{method} beyond {rule:g}: average precision {means[0]:.3f}, F1"
                    f" {means[1]:.3f}, flagged elsewhere {means[2]:.4f}"
                )
    return texts


def rules_of(method: str) -> tuple[float, ...]:
    """The rules of a method, the usual one first."""
    return (OWN_RULE,) if method == "anomalies" else RULES


def mean_scores(rows: Sequence[Record], split: str, method: str, rule: float) -> list[float]:
    """Average precision, F1 and the flagged share of the other rows, means over the tables of a
    split; empty where there is no table.
    """
    alike = [row["scores"][method] for row in rows if row["split"] == split]
    if not alike:
        return []
    name = f"{rule:g}"
    precision = float(np.mean([scores["average_precision"] for scores in alike]))
    by_rule = [np.mean([scores[key][name] for scores in alike]) for key in _BY_RULE]
    return [precision, *map(float, by_rule)]


if __name__ == "__main__":
    sys.exit(main())
