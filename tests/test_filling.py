"""Missing values inside series are filled by forecasts from both sides."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tables import hourly_wave as hourly
from tiny_network import tiny_network

import tsattn
from tsattn import Schema, fill
from tsattn.checks import InputWarning
from tsattn.data.frames import to_panel
from tsattn.filling import GapFiller, find_gaps
from tsattn.pretrained.weights import SHIPPED
from tsattn.two_sides import Stretches, TwoSides

ROWS = 24 * 12


def fill_somehow(data, **settings):
    """Fill a table where it does not matter with which values: by a network that takes no time."""
    return fill(data, weights=tiny_network(), **settings)


@pytest.fixture(scope="module")
def day_filled():
    """Truth and filled values of a series that lacks a day and single hours."""
    truth = hourly()
    table = truth.copy()
    table.iloc[120:144] = np.nan
    table.iloc[[40, 200]] = np.nan
    return truth, fill(table)["y"]


def test_a_missing_day_has_its_shape(day_filled):
    truth, filled = day_filled
    line = truth.where(filled == truth).interpolate()
    day = slice(120, 144)
    error = (filled - truth).abs().iloc[day].mean()
    assert error < 2.0
    assert error < 0.2 * (line - truth).abs().iloc[day].mean()


def test_observed_values_stay(day_filled):
    truth, filled = day_filled
    observed = np.ones(ROWS, dtype=bool)
    observed[120:144] = observed[[40, 200]] = False
    assert (filled[observed] == truth[observed]).all()
    assert filled.notna().all()


def test_rows_that_are_absent_are_added():
    table = hourly().rename("y").rename_axis("ds").reset_index().assign(unique_id="a")
    filled = fill_somehow(table.drop(index=range(100, 106)))
    assert filled["ds"].tolist() == table["ds"].tolist()
    assert filled["y"].notna().all()


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_covariates_stay_as_they_are(shape):
    table = hourly().rename("y").rename_axis("ds").reset_index()
    if shape == "wide":
        table = table.rename(columns={"y": "a"})
    table["promo"] = np.where(np.arange(ROWS) % 5, np.nan, 1.0)
    table["event"] = np.where(np.arange(ROWS) % 7 == 1, "sale", None)
    filled = fill_somehow(table.drop(index=range(100, 106)), past_cols=["promo", "event"])
    expected = table[["promo", "event"]]
    expected.iloc[100:106] = np.nan
    pd.testing.assert_frame_equal(filled[["promo", "event"]], expected.fillna(np.nan))
    assert filled.iloc[:, 1].notna().all()


# Each type and each shape; the shape does not ask for the type.
@pytest.mark.parametrize(
    ("dtype", "shape"), [(bool, "long"), ("boolean", "wide"), (object, "long"), (object, "wide")]
)
def test_booleans_come_back_as_such(shape, dtype):
    # Few rows: how a value is filled is not the point.
    table = hourly()[:40].rename("y").rename_axis("ds").reset_index()
    table["promo"] = pd.Series(np.arange(40) % 5 == 0, dtype=dtype)
    columns = {"past_cols": ["promo"]}
    if shape == "wide":
        table = table.rename(columns={"y": "a"})
    else:
        table["big"] = True
        columns["static_cols"] = ["big"]
    filled = fill_somehow(
        table.assign(**{table.columns[1]: table.iloc[:, 1].where(table.index != 7)}), **columns
    )
    for name in {*table.columns} & {"promo", "big"}:
        assert filled[name].dtype == ("boolean" if table[name].dtype == "boolean" else bool)
        assert (filled[name] == table[name]).all()
    # A row that is added has no value.
    promo = fill_somehow(table.drop(index=[7]), **columns)["promo"]
    assert pd.isna(promo[7])
    assert promo.drop(7).tolist() == table["promo"].drop(7).tolist()
    assert {type(cell) for cell in promo.drop(7)} <= {bool, np.bool_}


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_columns_keep_their_types(shape):
    table = hourly()[:40].round().rename("y").rename_axis("ds").reset_index()
    table["y"] = table["y"].astype("Int64").where(table.index != 7)
    number = np.arange(40)
    table["n"] = number
    table["kind"] = pd.Categorical(number % 2, categories=[1, 0, 5], ordered=True)
    table["note"] = pd.array(["x", "y"] * 20, dtype="string")
    columns = {"past_cols": ["n", "kind", "note"]}
    if shape == "wide":
        table = table.rename(columns={"y": "a"})
    else:
        table["brand"] = pd.Categorical(["b"] * 40, categories=["b", "c"])
        table["size"] = 3
        columns["static_cols"] = ["brand", "size"]
    filled = fill_somehow(table, **columns)[table.columns]
    assert filled.iloc[:, 1].notna().all()
    others = table.columns[2:]
    assert filled.dtypes.equals(table.dtypes)
    pd.testing.assert_frame_equal(filled[others], table[others])
    # A row that is added has no whole number, and perhaps a value between them.
    shorter = table.drop(index=[20]).assign(**{table.columns[1]: np.arange(39) % 5 + 0.5})
    added = fill_somehow(shorter, **columns)
    assert added["n"].dtype == float
    assert added["kind"].dtype == table["kind"].dtype
    assert added["kind"].isna().sum() == 1


@pytest.mark.parametrize("freq", ["M", "Q-DEC", "W-SUN", "D"])
@pytest.mark.parametrize("shape", ["column", "wide index", "long index"])
def test_periods_come_back_as_such(shape, freq):
    periods = pd.period_range("2024-01-01", periods=9, freq=freq, name="when")
    table = pd.DataFrame({"y": np.arange(9.0)}, index=periods)
    if shape == "wide index":
        table = table.rename(columns={"y": "load"})
    elif shape == "column":
        table = table.reset_index()
    filled = fill_somehow(table.drop(index=table.index[4]))
    times = filled.get("when", filled.index)
    assert times.dtype == periods.dtype
    assert times.tolist() == periods.tolist()


def test_a_wide_table_keeps_its_booleans_where_it_names_no_covariates():
    table = hourly()[:60].rename("a").to_frame()
    table["open"] = np.arange(60) % 5 == 0
    table["always"] = True
    filled = fill_somehow(table.assign(a=table["a"].where(np.arange(60) != 7)))
    columns = ["open", "always"]
    pd.testing.assert_frame_equal(filled[columns], table[columns], check_freq=False)
    added = fill_somehow(table.drop(table.index[50]))
    assert added["always"].dtype == bool
    assert added["open"].dtype == bool


def test_long_and_wide_tables_keep_their_form():
    wide = pd.DataFrame({"a": hourly(0), "b": 3 * hourly(1)})
    wide.iloc[60:70, 0] = np.nan
    wide.iloc[90, 1] = np.nan
    filled_wide = fill_somehow(wide)
    assert filled_wide.columns.tolist() == ["a", "b"]
    assert filled_wide.index.equals(wide.index)
    stacked = wide.rename_axis("when").reset_index().melt("when", var_name="shop", value_name="v")
    filled_long = fill_somehow(
        stacked, schema=Schema(id_col="shop", time_col="when", target_col="v")
    )
    assert filled_long.columns.tolist() == ["shop", "when", "v"]
    named = fill_somehow(stacked, id_col="shop", time_col="when", target_col="v")
    pd.testing.assert_frame_equal(named, filled_long)
    with pytest.raises(ValueError, match=r"column 'shops' is missing \(did you mean 'shop'"):
        fill_somehow(stacked, id_col="shops")
    with pytest.raises(ValueError, match="Schema has no setting 'ids'; it has id_col, "):
        fill_somehow(stacked, ids="shop")
    np.testing.assert_allclose(
        filled_long["v"].to_numpy().reshape(2, -1).T, filled_wide.to_numpy(), rtol=1e-6
    )


def test_ends_stay_missing():
    table = hourly()
    table.iloc[:5] = np.nan
    table.iloc[-3:] = np.nan
    filled = fill_somehow(pd.DataFrame({"a": table, "b": hourly(1)}))
    assert filled["a"].isna().sum() == 8


def test_time_reversed_is_filled_alike():
    """Both sides count alike."""
    values = hourly().to_numpy()
    values[100:110] = np.nan
    forward = fill(values)["y"].to_numpy()
    backward = fill(values[::-1].copy())["y"].to_numpy()[::-1]
    np.testing.assert_allclose(forward, backward, rtol=0.02)


def test_a_random_walk_is_filled_by_its_line():
    walk = np.random.default_rng(0).normal(size=400).cumsum()
    panel = to_panel(walk)
    lines_share, _, joined_share = GapFiller(TwoSides(panel, SHIPPED, 1)).choose_weights(6)
    assert lines_share + joined_share >= 0.75


def test_counts_stay_whole_numbers():
    rate = 8 + 6 * np.sin(2 * np.pi * np.arange(200) / 12)
    counts = np.random.default_rng(0).poisson(rate).astype(float)
    for begin, length in ((50, 3), (80, 6), (120, 12)):
        counts[begin : begin + length] = np.nan
    filled = fill_somehow(counts)["y"].to_numpy()
    assert (filled == np.rint(filled)).all()
    assert filled.min() >= 0


def test_a_constant_series_stays_constant():
    filled = fill_somehow([5.0, 5.0, np.nan, np.nan, 5.0, 5.0])["y"]
    assert filled.tolist() == [5.0] * 6


def test_nothing_to_fill_changes_nothing():
    table = pd.DataFrame({"a": hourly()})
    pd.testing.assert_frame_equal(fill_somehow(table), table, check_freq=False)


def test_gaps_lie_between_observed_values_of_one_series():
    table = pd.DataFrame({"a": [np.nan, 1, np.nan, 2, np.nan], "b": [np.nan, np.nan, 3, np.nan, 4]})
    gaps = find_gaps(to_panel(table))
    assert gaps.length.tolist() == [1, 1]
    assert gaps.owner.tolist() == [0, 1]


@pytest.mark.parametrize("work", [fill, tsattn.anomalies])
def test_series_without_a_value_are_told(work):
    table = pd.DataFrame({"a": hourly(), "b": np.nan})
    long = table.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    with pytest.warns(InputWarning, match="left out: series 'b' .* they have no rows"):
        assert set(work(long)["unique_id"]) == {"a"}
    with pytest.raises(ValueError, match="'b'"):
        work(long, schema=Schema(bad="error"))


def test_a_wide_table_keeps_the_column_of_a_series_without_a_value():
    table = pd.DataFrame({"a": hourly(), "b": np.nan})
    with pytest.warns(InputWarning, match="left out: series 'b' .*; their columns stay empty; "):
        filled = fill_somehow(table)
    pd.testing.assert_frame_equal(filled, table, check_freq=False)


def test_sides_end_with_their_series():
    table = pd.DataFrame({"a": np.arange(6.0), "b": 10 + np.arange(6.0)})
    stretch = Stretches(np.array([7]), np.array([2]), np.array([1]))
    sides = TwoSides(to_panel(table), SHIPPED, 1)
    assert sides.before(stretch)[0].tolist() == [10.0]
    assert sides.after(stretch)[0].tolist() == [15.0, 14.0, 13.0]
    first = Stretches(np.array([3]), np.array([3]), np.array([0]))
    assert np.isnan(sides.after(first)).all()


def test_long_gaps_stay_and_are_told():
    values = np.sin(np.arange(1400) / 3)
    values[100:1200] = np.nan
    values[50] = np.nan
    with pytest.warns(InputWarning, match=r"gaps of more than 1023 rows stay empty: .*1100 rows"):
        filled = fill_somehow(values)["y"]
    assert filled.isna().sum() == 1100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fill_somehow(values, max_gap=3)["y"].isna().sum() == 1100


@pytest.mark.parametrize("max_gap", [0, 1.5, "a"])
def test_max_gap_is_a_whole_number(max_gap):
    with pytest.raises((ValueError, TypeError), match="max_gap"):
        fill_somehow([1.0, np.nan, 2.0], max_gap=max_gap)
    with pytest.raises(ValueError, match="max_gap must be at most 1023 rows; got 2000"):
        fill_somehow([1.0, np.nan, 2.0], max_gap=2000)


def test_nothing_else_changes():
    table = hourly()
    table.iloc[5] = np.nan
    before = table.copy()
    fill_somehow(table)
    pd.testing.assert_series_equal(table, before)
    assert "fill" in dir(tsattn)


def test_numbers_that_often_stand_for_a_missing_value_are_told():
    table = hourly().rename("y").rename_axis("ds").reset_index()
    table.loc[[40, 41, 200], "y"] = -999.0
    with pytest.warns(InputWarning, match=r"the table has -999 at .* \(and 2 more\)") as caught:
        assert (fill_somehow(table)["y"] == -999).sum() == 3
    assert Path(caught[0].filename) == Path(__file__)
    assert "which fill keeps, but does not read" in str(caught[0].message)
    assert "forecast" not in str(caught[0].message)
    names = {"df": table.copy()}
    exec(str(caught[0].message).split("empty: ")[1], names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fill_somehow(names["df"])["y"].min() > -999


@pytest.mark.parametrize("wrong", [50_000.0, -9999.0])
def test_gaps_beside_a_wrong_value_are_filled_from_right_ones(wrong):
    table = pd.DataFrame({"a": hourly(), "b": 10 * hourly()})
    table.iloc[41:43, 0] = np.nan
    spoilt = table.copy()
    spoilt.iloc[40, 0] = wrong
    with pytest.warns(InputWarning, match=f"'a' has {wrong:g} at .* keeps, but does not read"):
        filled = fill_somehow(spoilt)
    assert filled.iloc[40, 0] == wrong
    assert filled.iloc[41:43, 0].between(*hourly().agg(["min", "max"])).all()
    expected = fill_somehow(table.assign(a=table["a"].where(spoilt["a"] != wrong)))
    pd.testing.assert_frame_equal(
        filled.drop(index=table.index[40]), expected.drop(table.index[40])
    )


def test_values_that_a_known_column_explains_are_read():
    table = hourly().rename("y").rename_axis("ds").reset_index()
    table["fair"] = np.isin(table.index, [40, 90, 150, 200, 250]).astype(float)
    table.loc[[40, 150, 200], "y"] = [5000.0, 4000.0, 6000.0]
    table.loc[41, "y"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled = fill_somehow(table, future_cols=["fair"])
    assert filled["y"].notna().all()
    with pytest.warns(InputWarning, match="has 5000 at .* keeps, but does not read"):
        fill_somehow(table[["ds", "y"]])


def test_wrong_values_that_are_many_are_no_gap():
    table = pd.DataFrame({"y": np.tile(hourly(), 10)})
    table.loc[300:1400, "y"] = -9999.0
    with pytest.warns(InputWarning) as caught:
        filled = fill_somehow(table)
    pd.testing.assert_frame_equal(filled, table)
    assert not any("stay empty" in str(warning.message) for warning in caught)
