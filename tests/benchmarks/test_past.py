"""The judgement of filled gaps."""

import numpy as np
import pandas as pd
import pytest
from past import filling, page
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
    rows = judge(wave(), "quarter")
    errors = {row["method"]: row["relative_mae"] for row in rows}
    assert errors["lines"] == 1.0
    assert errors["seasonal means"] < errors["fill"] < 0.5
    assert {row["length"] for row in rows} == {6}


def test_means_are_geometric():
    rows = [{"method": "fill", "relative_mae": error} for error in (0.5, 2.0, 0.0)]
    assert mean_error(rows[:2], "fill") == pytest.approx(1.0)
    assert mean_error(rows, "fill") == pytest.approx(0.1)


def test_the_page_has_a_line_a_split_and_gap(tmp_path):
    records = Records(tmp_path / filling.FILE, filling.KEY)
    for method in filling.METHODS:
        cell = {"split": "kept", "table": "a", "gap": "step", "method": method}
        records.add(cell | {"relative_mae": 0.25})
    text = page.filled(tmp_path)
    kept_line = next(line for line in text.splitlines() if line.startswith("| kept "))
    cells = [cell.strip() for cell in kept_line.strip("|").split("|")]
    assert cells == ["kept", "step", "1", *["0.250"] * len(filling.METHODS)]
