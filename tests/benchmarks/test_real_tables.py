"""The sixty real tables: their list, their shapes, and what the summary says of errors."""

import pandas as pd
import pytest
from real_tables.run import MODELS, summary
from real_tables.tables import HORIZONS, N_WINDOWS, SOURCES, Source, read_table


def test_sixty_different_tables_are_listed():
    assert len(SOURCES) == 60
    assert len({source.name for source in SOURCES}) == 60
    assert {source.freq.partition("-")[0] for source in SOURCES} == {*HORIZONS}


@pytest.mark.parametrize(
    "source",
    [source for source in SOURCES if source.package == "statsmodels"],
    ids=lambda each: each.name,
)
def test_tables_are_wide_and_complete(source):
    frame = read_table(source)
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert frame.index.inferred_freq is not None
    assert frame.notna().all(axis=None)
    step = max(1, source.horizon // 4)
    assert len(frame) > source.horizon + (N_WINDOWS - 1) * step


def test_months_in_columns_are_one_series():
    frame = read_table(Source("statsmodels", "elnino", "1950-01-01", "MS"))
    assert frame["value"].iloc[:3].tolist() == [23.11, 24.2, 25.37]


def test_the_summary_compares_with_the_best_single_model():
    def rows(table, **errors):
        return [{"table": table, "model": model, "mae": errors.get(model, 1.0)} for model in MODELS]

    lines = summary(
        [
            *rows("a", auto=0.5, zero=0.8),
            *rows("b", auto=0.5, zero=0.4, auto_ets=0.5),
            {"table": "c", "model": "zero", "mae": 9.0},
        ]
    )
    assert lines[0] == "2 tables with all models"
    assert "auto: 0.500 of seasonal_naive" in lines
    assert f"zero: {(0.8 * 0.4) ** 0.5:.3f} of seasonal_naive" in lines
    assert "auto: 13.1% ahead of the best single model" in lines
    assert "auto: within 5% of the best of each table on 1 of 2" in lines
