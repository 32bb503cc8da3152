"""The judgement of filled gaps and of flagged values."""

import numpy as np
import pandas as pd
import pytest
from past import anomalies, filling, page
from past.anomalies import METHODS, by_neighbours, with_anomalies
from past.filling import decomposition, judge, lines, mean_error, remove, seasonal_means
from records import Records


def wave(n_rows=120):
    index = pd.date_range("2024-01-01", periods=n_rows, freq="h")
    return pd.DataFrame({"a": 50 + 10 * np.sin(2 * np.pi * np.arange(n_rows) / 24)}, index=index)


def test_the_other_methods_fill_what_they_can():
    frame = wave()
    removed = frame.copy()
    removed.iloc[60:66] = np.nan
    gap = slice(60, 66)
    errors = {
        work.__name__: float((work(removed, 24) - frame).abs().iloc[gap].max().iloc[0])
        for work in (lines, seasonal_means, decomposition)
    }
    assert errors["lines"] > 1.0
    assert errors["seasonal_means"] < 1e-9
    assert errors["decomposition"] < 0.5
    assert removed.iloc[gap].isna().all(axis=None)


def test_gaps_leave_both_ends():
    removed = remove(wave(), 6, seed=0)
    assert removed.iloc[[0, -1]].notna().all(axis=None)
    assert 6 <= removed.isna().sum().sum() <= filling.MOST_GAPS * 6
    assert remove(wave(40), 24, seed=0) is None


def test_errors_are_relative_to_lines():
    row = judge(wave(), "quarter")
    errors = row["relative_mae"]
    assert errors["lines"] == 1.0
    assert errors["seasonal means"] <= errors["fill"] < 0.01
    assert row["length"] == 6
    assert judge(wave(40), "season") is None


def test_means_are_geometric():
    rows = [{"relative_mae": {"fill": error}} for error in (0.5, 2.0, 0.0)]
    assert mean_error(rows[:2], "fill") == pytest.approx(1.0)
    assert mean_error(rows, "fill") == pytest.approx(0.1)


def test_the_page_has_a_line_a_gap(tmp_path):
    records = Records(tmp_path / filling.FILE, filling.KEY)
    errors = dict.fromkeys(filling.METHODS, 0.25)
    records.add({"split": "kept", "table": "a", "gap": "step", "relative_mae": errors})
    step_line = next(
        line for line in page.filled(tmp_path).splitlines() if line.startswith("| step ")
    )
    cells = [cell.strip() for cell in step_line.strip("|").split("|")]
    assert cells == ["step", "1", *["0.250"] * len(filling.METHODS)]


def test_anomalies_are_where_the_series_changed():
    series = wave(300)["a"] + np.random.default_rng(0).normal(size=300)
    changed, is_anomaly = with_anomalies(series, 24, np.random.default_rng(1))
    assert 2 <= is_anomaly.sum() <= 40
    assert (changed[~is_anomaly] - series[~is_anomaly]).abs().max() < 1.5
    assert (changed[is_anomaly] - series[is_anomaly]).abs().min() > 0
    assert with_anomalies(series * 0, 24, np.random.default_rng(1)) is None


@pytest.mark.parametrize("name", METHODS)
def test_the_other_methods_find_a_high_value(name):
    series = wave(720)["a"] + np.random.default_rng(0).normal(size=720)
    series.iloc[350] += 30
    deviations = METHODS[name](series, 24)
    assert deviations[350] > anomalies.RULES[0] > np.median(deviations)


def test_deviations_are_robust():
    series = pd.Series(np.random.default_rng(0).normal(size=1000))
    assert 0.8 < np.square(by_neighbours(series, 1)).mean() ** 0.5 < 1.2


def test_the_page_shows_the_best_rule_of_development_tables(tmp_path):
    records = Records(tmp_path / anomalies.FILE, anomalies.KEY)
    f1 = dict.fromkeys(map("{:g}".format, (anomalies.OWN_RULE, *anomalies.RULES)), 0.1)
    f1["8"] = 0.4
    elsewhere = dict.fromkeys(f1, 0.02)
    one = {"average_precision": 0.5, "f1": f1, "flagged_elsewhere": elsewhere}
    scores = dict.fromkeys(("anomalies", *METHODS), one)
    for split in ("development", "kept"):
        records.add({"split": split, "table": split, "scores": scores})
    lines_of_table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.flagged(tmp_path).splitlines()
        if line.startswith("| decomposition")
    ]
    assert lines_of_table == [
        ["decomposition", "3", "0.500", "0.100", "2.00"],
        ["decomposition", "8", "0.500", "0.400", "2.00"],
    ]
