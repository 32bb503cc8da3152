"""Errors of tables whose remedy is a call of pandas: it is run, and its result is forecast."""

import re

import numpy as np
import pandas as pd
import pytest

from tsattn import forecast

DAYS = pd.date_range("2024-01-01", periods=30)


def sales(**more):
    return pd.DataFrame({"date": DAYS, "sold": np.arange(30.0)} | more)


@pytest.mark.parametrize("shape", ["one", "ids", "keys", "index"])
@pytest.mark.parametrize("further", ["other rows", "equal rows"])
def test_rows_of_one_stamp_get_the_call_that_adds_them_up_or_drops_them(shape, further):
    one_series = sales()
    keys = {"ids": {"shop": "a"}, "keys": {"shop": "a", "item": 1}}.get(shape, {})
    df = one_series.assign(**keys)
    twice = df if further == "equal rows" else df.assign(sold=1.0)
    table = pd.concat([df, twice[3:5]], ignore_index=True)
    options = {"id_col": [*keys], "target_col": "sold"} if keys else {}
    if shape == "index":
        table = table.set_index("date")
    with pytest.raises(ValueError, match="duplicate stamp 2024-01-04") as caught:
        forecast(table, 1, model="naive", **options)
    (call,) = re.findall(r"further rows.* as (df.*) does", str(caught.value))
    whole = eval(call, {"df": table})
    assert whole["sold"].sum() == one_series["sold"].sum() + 2.0 * (further == "other rows")
    assert len(forecast(whole, 1, model="naive", **options)) == 1


def test_words_are_not_read_as_numbers_where_a_later_column_spells_some():
    charged = [f"{number},50" for number in range(30)]
    ids = [f"ch_{number}" for number in range(30)]
    df = pd.DataFrame({"id": ids, "date": DAYS, "amount": charged, "kind": "paid"})
    with pytest.raises(ValueError, match=r"name the one that is forecast \('amount'\)") as caught:
        forecast(df, 1)
    assert "to_numeric" not in str(caught.value)


def test_words_beside_times_are_none():
    ids = [f"ch_{n:04}" for n in range(30)]
    days = pd.date_range("2024-01-01", periods=30)
    df = pd.DataFrame({"id": ids, "created": days, "amount": np.arange(30.0)})
    with pytest.raises(ValueError, match="drop the column, or name the one that is") as caught:
        forecast(df, 1)
    assert "write times" not in str(caught.value)


@pytest.mark.parametrize("season", ["{}_{:02}", "{}+{:02}"])
def test_times_without_a_letter_are_no_wrong_numbers(season):
    seasons = [season.format(year, (year + 1) % 100) for year in range(1960, 1990)]
    df = pd.DataFrame({"season": seasons, "goals": np.arange(30.0)})
    with pytest.raises(ValueError, match="write times as 2024-01-31") as caught:
        forecast(df, 1)
    assert "decimal point" not in str(caught.value)
    years = df.assign(season=df["season"].str[:4] + "-01-31")
    assert forecast(years, 1, model="naive")["goals"].tolist() == [29.0]


@pytest.mark.filterwarnings("ignore:rows are absent on the same")
def test_hours_in_utc_that_begin_with_the_day_are_read_as_such():
    local = pd.date_range("2024-02-01", "2024-05-31 23:00", freq="h", tz="Europe/Berlin")
    local = local[(local.dayofweek < 5) & (local.hour >= 9) & (local.hour < 17)]
    utc = local.tz_convert("UTC")
    df = pd.DataFrame({"ds": utc.strftime("%d.%m.%Y %H:%M"), "y": np.arange(float(len(utc)))})
    with pytest.warns(UserWarning, match="opening hours move by an hour") as caught:
        forecast(df, 1)
    message = next(
        str(warning.message) for warning in caught if "clocks change" in str(warning.message)
    )
    names = {"df": df, "pd": pd}
    exec(message.rsplit("zone: ", 1)[1], names)
    assert names["df"]["ds"].tolist() == local.tolist()


@pytest.mark.parametrize("name", ["date", "Month"])
def test_rows_of_totals_between_others_are_told_as_such(name):
    months = pd.date_range("2015-01-01", periods=48, freq="MS")
    df = pd.DataFrame({name: months.strftime("%b %Y"), "sold": np.arange(48.0)})
    totals = pd.DataFrame({name: [f"Total {year}" for year in range(2015, 2019)], "sold": 99.0})
    totals.index = pd.RangeIndex(11, 48, 12)
    table = pd.concat([df, totals]).sort_index(kind="stable").reset_index(drop=True)
    with pytest.raises(ValueError, match=r"holds 'Total 2015' in row 12 .* leave such rows out"):
        forecast(table, 1)
    months_only = table[~table[name].str.contains("Total")]
    assert forecast(months_only, 1, model="naive")["sold"].tolist() == [47.0]


def test_of_several_columns_of_stamps_all_but_one_are_dropped():
    hours = pd.date_range("2024-01-01", periods=30, freq="h")
    df = pd.DataFrame({"open": hours, "close": hours + pd.Timedelta("59min"), "price": 1.0})
    with pytest.raises(ValueError, match="could all hold the stamps") as caught:
        forecast(df, 1)
    (call,) = re.findall(r"others, as (df = .*) does", str(caught.value))
    names = {"df": df}
    exec(call, names)
    answer = forecast(names["df"], 1, model="naive")
    assert answer["open"].tolist() == [hours[-1] + pd.Timedelta("1h")]
    # Days and hours are parts of one stamp.
    parts = pd.DataFrame({"date": hours.normalize(), "time": hours.floor("2h"), "price": 1.0})
    with pytest.raises(ValueError, match="time_col=, or join them"):
        forecast(parts, 1)


MONTHS = pd.date_range("2015-01-01", periods=30, freq="MS")


@pytest.mark.parametrize(
    "beside",
    [
        {"region": ["a", "b"], "Total": [435.0, 870.0]},
        {"country": ["x", "y"], "region": ["a", "b"], "Lat": [1.5, 2.5], "Long": [3.0, 4.0]},
        {"store": [7, 9]},
    ],
)
@pytest.mark.parametrize("layout", ["%Y-%m-%d", "%b-%y", "%Y%m"])
def test_tables_on_their_side_are_turned_without_their_other_numbers(beside, layout):
    dated = np.outer([1.0, 2.0], np.arange(30.0))
    table = pd.DataFrame(dated, columns=MONTHS.strftime(layout))
    table = pd.concat([pd.DataFrame(beside), table], axis=1)
    with pytest.raises(ValueError, match="are named by times, but a row must be a") as caught:
        forecast(table, 1)
    (call,) = re.findall(r"table, as (df.*) does", str(caught.value))
    turned = eval(call, {"df": table})
    assert not {"Total", "Lat", "Long"} & {*turned.columns}
    if "value" in turned:
        turned = turned.rename(columns={"region": "unique_id", "time": "ds", "value": "y"})
    answer = forecast(turned, 1, model="naive")
    assert answer.select_dtypes("float").to_numpy().ravel().tolist() == [29.0, 58.0]


def test_tables_on_their_side_may_hold_cells_without_a_number():
    table = pd.DataFrame({str(year): ["..", "2.5"] for year in range(1990, 2020)})
    with pytest.raises(ValueError, match="columns 1990 to 2019 are named by times"):
        forecast(table.assign(country=["a", "b"]), 1)


def test_further_columns_of_times_are_dropped():
    begins = pd.date_range("2020-01-01", periods=30, freq="MS")
    # The last bill and the one before it end on one day.
    ends = [*begins[1:], begins[-1]]
    df = pd.DataFrame({"from": begins, "to": ends, "kWh": np.arange(30.0)})
    with pytest.raises(ValueError, match=r"'to' holds .* is no series; drop it") as caught:
        forecast(df, 1)
    (call,) = re.findall(r"drop it, as (df.*) does", str(caught.value))
    assert forecast(eval(call, {"df": df}), 1, model="naive")["kWh"].tolist() == [29.0]
