"""Columns beside the target: read, checked, kept with their series, handed to the network in their
time.
"""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT
from covariate_forecasters import EVERY
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import covariate_frame, wide_covariate_frame

from tsattn.checks import InputError, InputWarning
from tsattn.data.covariates import CovariateColumns
from tsattn.data.cycles import CYCLES, choose_cycles, cycle_features
from tsattn.data.encoding import CovariateEncoder, CovariateHistory
from tsattn.data.frames import from_long, from_wide, to_long, to_panel, to_target_panel, to_wide
from tsattn.data.joining import continued_panel
from tsattn.data.schema import Schema
from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.nn.config import ARCHITECTURES, READS, ModelConfig
from tsattn.nn.covariates import StepNetwork
from tsattn.nn.heads import HEADS
from tsattn.nn.models import build_model

MOVING = ("temp", "promo", "price")
STATIC = ("kind", "size")
COLUMNS = CovariateColumns.checked(**EVERY)


def panel(frame=None, **kwargs):
    return from_long(
        covariate_frame() if frame is None else frame,
        Schema(past_cols=MOVING, static_cols=STATIC, **kwargs),
    )


# --- tables ---------------------------------------------------------------------------------------


def test_columns_travel_with_their_rows():
    frame = covariate_frame()
    read_panel = panel(frame.sample(frac=1, random_state=0))
    np.testing.assert_array_equal(read_panel.covariates.values, frame[list(MOVING)].to_numpy(float))
    assert read_panel.covariates.static.tolist() == [["a", 1.0], ["b", 2.0], ["a", 3.0]]
    assert read_panel.covariates.columns == MOVING
    np.testing.assert_array_equal(read_panel.values[:, 0], frame["y"])
    for part in (
        read_panel.rows(5, -7),
        read_panel.last(9),
        read_panel.until(np.array([8, 9, 10])),
        read_panel.rows(3, 4),
    ):
        at = pd.MultiIndex.from_arrays([np.repeat(part.ids, part.lengths), part.times])
        expected = frame.set_index(["unique_id", "ds"]).loc[at, list(MOVING)]
        np.testing.assert_array_equal(part.covariates.values, expected.to_numpy(float))
        assert np.shares_memory(part.covariates.static, read_panel.covariates.static)


def test_panels_without_covariates_are_as_they_were():
    plain = from_long(covariate_frame())
    assert plain.covariates is None
    assert plain.fingerprint() != panel().fingerprint()
    one = replace(panel(), covariates=None)
    assert one.fingerprint() == plain.fingerprint()


@pytest.mark.parametrize("column", [*MOVING, *STATIC])
def test_every_covariate_is_in_the_fingerprint(column):
    frame = covariate_frame()
    changed = frame.copy()
    if column in STATIC:
        changed.loc[frame["unique_id"] == "s1", column] = "c" if column == "kind" else 7
    else:
        changed.loc[100, column] = not frame.loc[100, column] if column == "promo" else 7
    assert panel(frame).fingerprint() != panel(changed).fingerprint()


def test_tables_come_back():
    again = from_long(to_long(panel()), Schema(past_cols=MOVING, static_cols=STATIC))
    assert again.fingerprint() == panel().fingerprint()
    wide = from_wide(wide_covariate_frame(), Schema(past_cols=["temp", "promo"]))
    assert wide.ids.tolist() == ["s0", "s1"]
    pd.testing.assert_frame_equal(
        to_wide(wide), wide_covariate_frame().astype(float), check_freq=False
    )
    melted = to_long(wide)
    assert melted.columns.tolist() == ["unique_id", "ds", "y", "temp", "promo"]
    assert (
        melted[melted["unique_id"] == "s1"]["temp"].tolist()
        == wide_covariate_frame()["temp"].tolist()
    )


def test_panels_are_continued_with_their_covariates():
    whole_panel = panel()
    assert (
        continued_panel(whole_panel.until(40), whole_panel.rows(35, None)).fingerprint()
        == whole_panel.fingerprint()
    )
    wide = from_wide(
        wide_covariate_frame().reset_index(names="ds"), Schema(past_cols=["temp", "promo"])
    )
    assert continued_panel(wide.until(40), wide.rows(40, None)).fingerprint() == wide.fingerprint()
    names = {"y": "sold", "temp": "y", "promo": "ds", "ds": "day"}
    swapped = from_long(
        covariate_frame().rename(columns=names),
        Schema(time_col="day", target_col="sold", past_cols=["y", "ds"]),
    )
    assert (
        continued_panel(swapped.until(40), swapped.rows(35, None)).fingerprint()
        == swapped.fingerprint()
    )
    other = panel(covariate_frame().assign(size=9))
    with pytest.raises(
        ValueError,
        match=r"series 's0': static column 'size' holds 1\.0 and 9\.0 .*one value in a series",
    ):
        continued_panel(whole_panel.until(40), other.rows(40, None))


def spoiled(column, value, row=100):
    frame = covariate_frame().astype({column: object})
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: panel(spoiled("temp", np.nan), missing="error"),
            r"series 's1': column 'temp' is missing \(NaN\) at 2024-06-01.*missing='ffill'",
        ),
        (
            lambda: panel(spoiled("price", "cheap")),
            "series 's1': column 'price' holds 'cheap' at 2024-06-01.*must be numbers",
        ),
        (
            lambda: panel(spoiled("price", np.inf)),
            "'price' holds inf at 2024-06-01.*must be finite",
        ),
        (
            lambda: panel(spoiled("kind", None)),
            "series 's1': static column 'kind' holds None in row 100",
        ),
        (
            lambda: panel(spoiled("size", np.nan)),
            "series 's1': static column 'size' holds nan in row 100",
        ),
        (
            lambda: panel(spoiled("kind", "z")),
            "series 's1': static column 'kind' holds 'b' and 'z', but must have one",
        ),
        (
            lambda: panel(covariate_frame().assign(kind=pd.Timestamp("2024"))),
            "'kind' must hold numbers, text or categories; got",
        ),
        (
            lambda: from_long(covariate_frame(), Schema(past_cols=["rain"])),
            "column 'rain' is missing.*past_cols= or future_cols=",
        ),
        (
            lambda: from_long(covariate_frame(), Schema(static_cols=["rain"])),
            "column 'rain' is missing.*add it, or correct static_cols=",
        ),
        (
            lambda: from_long(covariate_frame(), Schema(past_cols=["y"])),
            "'y' is the target_col of the table and cannot be",
        ),
        (
            lambda: from_wide(wide_covariate_frame(), Schema(past_cols=["rain"])),
            "column 'rain' is missing",
        ),
        (
            lambda: to_panel(wide_covariate_frame(), Schema(static_cols=["temp"])),
            r"static_cols need a long table, with rows of several series",
        ),
        (
            lambda: to_panel(from_long(covariate_frame()), Schema(past_cols=["temp"])),
            "the panel has no covariate 'temp'; make it by",
        ),
        (
            lambda: panel(spoiled("temp", np.nan, 70), missing="ffill"),
            "nothing stands before it that could be carried forward",
        ),
        (
            lambda: replace(panel(), values=np.zeros((3, 1))),
            "covariates must have the panel's 3 rows and 3 series; got 196 and 3",
        ),
    ],
)
def test_faulty_covariates_are_named(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["ffill", "interpolate", "mask"])
def test_under_a_policy_the_last_value_is_carried_forward_and_never_a_later_one(missing):
    frame = covariate_frame()
    holed = frame.astype({"temp": float})
    holed.loc[100:102, "temp"] = np.nan
    holed = holed.drop(index=[30, 31, 120])
    read_panel = from_long(holed, Schema(past_cols=MOVING, static_cols=STATIC, missing=missing))
    expected = frame.astype({"promo": float})[list(MOVING)].copy()
    expected.iloc[[30, 31, 120]] = np.nan
    expected.iloc[100:103, 0] = np.nan
    expected = expected.groupby(frame["unique_id"]).ffill()
    np.testing.assert_array_equal(read_panel.covariates.values, expected.to_numpy(float))
    assert np.isnan(read_panel.values[[30, 31, 120]]).all()


def test_covariates_carried_forward_by_default_are_named_once():
    frame = covariate_frame().astype({"temp": float})
    frame["sky"] = np.where(frame["temp"] > 0, "clear", "rain")
    frame.loc[[100, 101, 180], "temp"] = np.nan
    frame.loc[102, "sky"] = None
    schema = Schema(past_cols=[*MOVING, "sky"])
    with pytest.warns(InputWarning) as caught:
        read_panel = from_long(frame, schema)
    (warning,) = caught
    message = str(warning.message)
    stamps = frame["ds"]
    assert message.startswith(
        f"series 's1': column 'temp' is missing (NaN) at {stamps[100]} (and 2 more, 2 series in"
        f" all); series 's1': column 'sky' is missing (NaN) at {stamps[102]}; such cells take the"
        " value before them; if a blank means 0 or none, write it there: df['temp'] ="
        " df['temp'].fillna(0); df['sky'] = df['sky'].fillna('none'); if"
    )
    assert "df[" not in warning.message.for_command_line({"missing": "--missing"})
    chosen = from_long(frame, schema.changed(missing="mask"))
    np.testing.assert_array_equal(chosen.covariates.values, read_panel.covariates.values)


def test_covariates_of_absent_rows_need_no_word():
    read_panel = panel(covariate_frame().drop(index=[30, 31]))
    assert np.isfinite(read_panel.covariates.values).all()


@pytest.mark.parametrize(
    ("values", "call"),
    [
        ([1.0, None], ".fillna(0)"),
        (["sale", None], ".fillna('none')"),
        ([True, None], ".fillna(False)"),
        (pd.Categorical(["sale", None]), ".astype(object).fillna('none')"),
        (pd.array([1, None], dtype="Int64"), ".fillna(0)"),
        (pd.array([True, None], dtype="boolean"), ".fillna(False)"),
    ],
)
def test_mostly_blank_covariates_are_refused_with_a_call_that_fills_them(values, call):
    df, schema = half_blank(values)
    to_panel(df, schema.changed(missing="mask"))
    df["promo"] = df["promo"].where(df.index != 100)
    with pytest.raises(InputError) as caught:
        to_panel(df, schema)
    message = str(caught.value)
    assert message.startswith(
        "series 's1': column 'promo' is missing (NaN) in 31 of 60 rows, the first at 2024-05-03"
        " 00:00:00, but a covariate needs a value in at least half of the rows of a series; if"
    )
    statement = f"df['promo'] = df['promo']{call}"
    assert f"write it there: {statement};" in message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        exec(statement)
    assert len(to_panel(df, schema).values) == 196


def test_who_names_a_policy_may_have_mostly_blank_covariates():
    df, schema = half_blank([1.0, None])
    df.loc[[72, 100], "promo"] = np.nan
    with pytest.raises(InputError, match=r"32 of 60 rows, .*fillna\(0\).* missing='ffill'"):
        to_panel(df, schema)
    carried = to_panel(df, schema.changed(missing="ffill")).covariates.values
    assert (carried == 1).all()
    with pytest.raises(ValueError, match="column 'promo' is missing"):
        to_panel(df, schema.changed(missing="error"))


@pytest.mark.parametrize("layout", ["ids", "keys", "wide"])
def test_covariates_without_a_first_value_are_refused_with_calls_that_help(layout):
    fields = {"past_cols": ["temp", "sky"]}
    df = wide_covariate_frame().astype({"temp": float}).drop(columns="promo")
    first = 0
    if layout != "wide":
        df = covariate_frame().astype({"temp": float})
        first = 70
    if layout == "keys":
        df = df.assign(store="n", item=df["unique_id"]).drop(columns="unique_id")
        fields |= {"id_col": ["store", "item"], "target_col": "y"}
    df["sky"] = np.where(df["temp"] > 0, "clear", "rain")
    df.iloc[[first, first + 1, first + 9], df.columns.get_loc("temp")] = np.nan
    df.iloc[[first], df.columns.get_loc("sky")] = None
    schema = Schema(**fields)
    with pytest.raises(InputError, match=r"column 'temp' is missing .*nothing stands") as caught:
        to_panel(df, schema)
    message = str(caught.value)
    filling = "df['temp'] = df['temp'].fillna(0); df['sky'] = df['sky'].fillna('none')"
    assert f"if a blank means 0 or none, write it there: {filling}; or drop" in message
    drop = message.partition("before its first value: ")[2]
    for call, n_lost in ((filling, 0), (drop, 2)):
        names = {"df": df.copy()}
        exec(call, names)
        schema_now = schema.changed(missing="ffill" if call == drop else None)
        n_rows = len(df) - n_lost
        if layout == "wide":
            n_rows *= 2
        assert len(to_panel(names["df"], schema_now).values) == n_rows


def test_mostly_blank_covariates_without_a_first_value_are_refused_with_calls_that_help():
    df, schema = half_blank([1.0, None])
    df.loc[70:110, "promo"] = np.nan
    with pytest.raises(InputError, match=r"51 of 60 rows.*drop the rows before") as caught:
        to_panel(df, schema)
    drop = re.search(r"first value: (df = .*) and pass missing='ffill'$", str(caught.value))
    names = {"df": df}
    exec(drop[1], names)
    assert len(to_panel(names["df"], schema.changed(missing="ffill")).values) == 196 - 42


def half_blank(values):
    """A table with a covariate that holds two values in turn, the second one blank."""
    frame = covariate_frame()
    cells = pd.Series(values).take(np.arange(len(frame)) % 2)
    return frame.assign(promo=cells.set_axis(frame.index)), Schema(past_cols=["promo"])


def test_wide_tables_name_their_blank_covariates():
    frame = wide_covariate_frame().astype({"temp": float})
    frame.iloc[[5, 6], frame.columns.get_loc("temp")] = np.nan
    with pytest.warns(
        InputWarning, match=r"^column 'temp' is missing \(NaN\) at .*\(and 1 more\);"
    ):
        from_wide(frame, Schema(past_cols=["temp"]))
    assert np.isnan(to_target_panel(frame, Schema(past_cols=["temp"])).covariates.values).any()


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("category", pd.Categorical(["x", "y", "x"]), ["x", "y", "x"]),
        ("numbered category", pd.Categorical([3, 1, 3]), ["3", "1", "3"]),
        ("string", pd.array(["x", "y", "x"], dtype="string"), ["x", "y", "x"]),
        ("mixed", np.array([1, "y", 1.0], dtype=object), ["1", "y", "1"]),
        ("Int64", pd.array([3, 1, 3], dtype="Int64"), [3.0, 1.0, 3.0]),
        ("bool", np.array([True, False, True]), [1.0, 0.0, 1.0]),
        ("objects", np.array([1, 2.5, True], dtype=object), [1.0, 2.5, 1.0]),
    ],
)
def test_static_columns_of_many_kinds(kind, values, expected):
    frame = pd.DataFrame({"unique_id": ["a", "b", "c"], "ds": 1, "y": 0.0, "s": values})
    frame = pd.concat([frame, frame.assign(ds=2)])
    assert from_long(frame, Schema(static_cols=["s"])).covariates.static[:, 0].tolist() == expected


# --- the calendar ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_known_column_that_holds_the_target_is_told(kind):
    days = pd.date_range("2024-01-01", periods=9)
    table = pd.DataFrame({"ds": days, "y": [1.0, 2.0, np.nan, *range(6)], "price": 1.0})
    table["copy"] = table["y"].fillna(5.0)
    table["text"] = "a"
    table = table.rename(columns={"y": "kw"} if kind == "wide" else {})
    with pytest.warns(InputWarning, match="column 'copy' holds the target itself in all rows"):
        to_panel(table, Schema(future_cols=["price", "copy", "text"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_panel(table, Schema(past_cols=["copy"], future_cols=["price", "text"]))
        close = table.assign(copy=table["copy"] + (table.index == 8))
        to_panel(close, Schema(past_cols=["text"], future_cols=["price", "copy"]))
        # Nothing is given away where nothing changes.
        constant = table.rename(columns={"kw": "y"}).assign(y=1.0, unique_id="a")
        to_panel(constant, Schema(future_cols=["price"]))


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_known_column_that_holds_the_target_in_another_unit_is_told(kind):
    draws = np.random.default_rng(0).normal(20, 5, (2, 60))
    days = pd.date_range("2024-01-01", periods=60)
    parts = [pd.DataFrame({"unique_id": n, "ds": days, "y": draws[n]}) for n in range(2)]
    table = parts[0].drop(columns="unique_id") if kind == "wide" else pd.concat(parts)
    table = table.rename(columns={"y": "celsius"} if kind == "wide" else {})
    target = table.iloc[:, -1]
    # Each thermometer may have a start of its own.
    start = np.repeat([32.0, 3200.0], 60)[: len(table)]
    table["fahrenheit"] = (start + 1.8 * target).round(1)
    # A plan follows the target, and a switch its own two values.
    table["plan"] = 1e200 * (target + np.tile(draws[1], len(table) // 60) / 9)
    table["switch"] = (target > 20).astype(float)
    with pytest.warns(
        InputWarning, match="'fahrenheit' holds the target in another unit"
    ) as caught:
        to_panel(table, Schema(future_cols=["fahrenheit", "plan", "switch"]))
    assert len(caught) == 1
    events = table.assign(fahrenheit=3 * table["switch"]).drop(columns=target.name)
    renamed = events.rename(columns={"switch": target.name})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_panel(renamed, Schema(future_cols=["fahrenheit", "plan"]))


def test_cycles_follow_the_clock_of_the_time_zone():
    times = pd.date_range("2024-03-01", periods=800, freq="h", tz="Europe/Berlin")
    features = cycle_features(times, CYCLES)
    for row in range(0, 800, 37):
        stamp = times[row]
        shares = {
            "hour": stamp.hour / 24,
            "weekday": stamp.dayofweek / 7,
            "monthday": (stamp.day - 1) / stamp.days_in_month,
            "month": (stamp.month - 1) / 12,
            "yearday": (stamp.dayofyear - 1) / 366,
        }
        expected = [f(2 * np.pi * shares[name]) for name in CYCLES for f in (np.sin, np.cos)]
        np.testing.assert_allclose(features[row], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("freq", "n", "expected"),
    [
        ("h", 24 * 400, ("hour", "weekday", "yearday")),
        ("15min", 4 * 24 * 10, ("hour", "weekday")),
        ("D", 100, ("weekday", "monthday")),
        ("B", 400, ("weekday", "monthday", "yearday")),
        ("W-MON", 120, ("yearday",)),
        ("MS", 30, ("month",)),
        ("QE", 30, ("month",)),
    ],
)
def test_auto_takes_what_fits_and_was_seen_whole(freq, n, expected):
    times = pd.date_range("2020-01-01", periods=n, freq=freq)
    assert choose_cycles("auto", freq, times) == expected
    varied = cycle_features(times, expected).std(axis=0)
    assert (varied > 0.1).all()


@pytest.mark.parametrize(
    ("calendar", "freq", "message"),
    [
        (
            ["hour"],
            "D",
            (
                "calendar 'hour' says nothing about stamps of frequency 'D'; leave it out: it fits"
                " with weekday"
            ),
        ),
        (["weekday"], "W-MON", "says nothing about stamps of frequency 'W-MON'"),
        (["weekday"], 1, "integer time has no calendar"),
        (["moon"], "D", "calendar must be 'auto' or some of hour, weekday.*got 'moon'"),
        (["weekday", "weekday"], "D", "calendar must name each cycle once"),
        ("auto", "YS", "calendar='auto' finds no cycle"),
        ("auto", 1, "calendar='auto' finds no cycle"),
    ],
)
def test_a_calendar_that_does_not_fit_is_refused(calendar, freq, message):
    times = pd.Index(np.arange(9)) if freq == 1 else pd.date_range("2020", periods=9, freq=freq)
    with pytest.raises(ValueError, match=message):
        choose_cycles(calendar, freq, times)


# --- what a network gets to see -------------------------------------------------------------------


def test_windows_show_past_columns_to_the_cutoff_and_known_ones_to_the_last_step():
    read_panel = panel()
    frame = covariate_frame()
    source = CovariateHistory(read_panel, COLUMNS)
    ends = np.array([20, 66, 100, 192])
    windows = source.windows(ends, 6, 3)
    weekday = cycle_features(read_panel.times, ["weekday"])
    for i, end in enumerate(ends):
        np.testing.assert_array_equal(windows.past[i, :, 0], frame["temp"][end - 6 : end])
        np.testing.assert_array_equal(
            windows.known[i, :, :2], frame[["promo", "price"]][end - 6 : end + 3].to_numpy(float)
        )
        np.testing.assert_array_equal(windows.known[i, :, 2:], weekday[end - 6 : end + 3])
    assert windows.static[:, 0].tolist() == ["a", "a", "b", "a"]
    assert source.width(6, 3) * len(ends) == windows.past.size + windows.known.size
    inner = windows.cut(4, 3)
    np.testing.assert_array_equal(inner.past, windows.past[:, 2:])
    np.testing.assert_array_equal(inner.known, windows.known[:, 2:])


def test_windows_at_the_end_take_what_is_told_of_the_future():
    read_panel = panel()
    ahead = np.random.default_rng(0).normal(size=(3, 2, 2))
    windows = CovariateHistory(read_panel, COLUMNS, ahead).windows(read_panel.starts[1:], 6, 3)
    np.testing.assert_array_equal(windows.known[:, 6:8, :2], ahead)
    days = pd.date_range("2024-07-01", periods=2)
    np.testing.assert_array_equal(windows.known[0, 6:8, 2:], cycle_features(days, ["weekday"]))
    assert np.isnan(windows.known[:, 8]).all()
    inside = CovariateHistory(read_panel, COLUMNS).windows(read_panel.starts[1:] - 3, 6, 3)
    np.testing.assert_array_equal(inside.known[:, 3:, :2], windows.known[:, :6, :2])


def test_scales_are_those_of_the_training_rows():
    frame = covariate_frame()
    stops = np.array([50, 40, 46])
    encoder = CovariateEncoder.fit(COLUMNS, panel(frame), stops)
    train = frame[
        frame.groupby("unique_id").cumcount()
        < frame["unique_id"].map(dict(zip(["s0", "s1", "s2"], stops, strict=True)))
    ]
    numbers = train[list(MOVING)].astype(float)
    np.testing.assert_allclose(encoder.mean, numbers.mean())
    np.testing.assert_allclose(encoder.scale, numbers.std(ddof=0))
    late = frame.copy()
    late.loc[frame.groupby("unique_id").cumcount(ascending=False) < 20, "temp"] *= 100
    np.testing.assert_array_equal(
        CovariateEncoder.fit(COLUMNS, panel(late), stops).mean, encoder.mean
    )
    rows = encoder.rows(panel(frame))
    np.testing.assert_allclose(
        rows["past"][:, 0], (frame["temp"] - encoder.mean[0]) / encoder.scale[0], rtol=1e-6
    )
    np.testing.assert_array_equal(rows["static"][:, :2], [[1, 0], [0, 1], [1, 0]])
    np.testing.assert_allclose(
        rows["static"][:, 2], (np.array([1, 2, 3]) - 2) / np.std([1, 2, 3]), rtol=1e-6
    )
    assert encoder.sizes == {"n_past": 1, "n_known": 4, "n_static": 3}
    assert {name: part.shape[1] for name, part in rows.items()} == {
        "past": 1,
        "known": 4,
        "static": 3,
    }


def test_constant_columns_are_harmless_and_vast_ones_refused():
    frame = covariate_frame().assign(temp=3.0)
    assert CovariateEncoder.fit(COLUMNS, panel(frame), np.array([70, 60, 66])).scale[0] == 1
    frame["temp"] = np.linspace(-1e200, 1e200, len(frame))
    with pytest.raises(
        ValueError,
        match=r"covariate 'temp': values must have squares within float64; got up to 1e\+200",
    ):
        CovariateEncoder.fit(COLUMNS, panel(frame), np.array([70, 60, 66]))


@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 5), st.integers(1, 7))
def test_batches_are_the_windows_of_a_loop(seed, context, horizon, batch):
    """What training gathers from resident tensors is what prediction cuts window by window."""
    rng = np.random.default_rng(seed)
    read_panel = panel(covariate_frame(tuple(rng.integers(15, 25, 3))))
    encoder = CovariateEncoder.fit(COLUMNS, read_panel, read_panel.lengths)
    spec = WindowSpec(context, horizon)
    ends = spec.ends(read_panel.starts, np.zeros(3, dtype=np.int64), read_panel.lengths)
    tensors = {name: torch.as_tensor(rows) for name, rows in encoder.rows(read_panel).items()}
    values = torch.as_tensor(read_panel.values)
    order = torch.Generator().manual_seed(seed)
    batches = WindowBatches(
        values,
        ends,
        spec,
        batch_size=batch,
        generator=order,
        covariates=tensors,
        starts=read_panel.starts,
    )
    shuffled = ends[
        torch.randperm(len(ends), generator=torch.Generator().manual_seed(seed)).numpy()
    ]
    expected = encoder.encode(
        CovariateHistory(read_panel, COLUMNS).windows(shuffled, context, horizon), horizon
    )
    x, y, parts = zip(*batches, strict=True)
    np.testing.assert_array_equal(torch.cat(x)[:, -1, 0], read_panel.values[shuffled - 1, 0])
    np.testing.assert_array_equal(torch.cat(y)[:, 0, 0], read_panel.values[shuffled, 0])
    for name, whole in expected.items():
        np.testing.assert_allclose(torch.cat([part[name] for part in parts]), whole, rtol=1e-6)


# --- networks -------------------------------------------------------------------------------------

SIZES = {
    "context": 20,
    "horizon": 5,
    "d_model": 8,
    "d_ff": 8,
    "n_layers": 2,
    "patch_len": 8,
    "patch_stride": 4,
}
COUNTS = {"n_past": 2, "n_known": 3, "n_static": 4}


def network(**kwargs):
    config = ModelConfig(**{**SIZES, "dropout": 0.0, **kwargs})
    return build_model(config, generator=torch.Generator().manual_seed(0)).eval()


def inputs(channels=2, seed=1, **counts):
    counts = counts or COUNTS
    source = torch.Generator().manual_seed(seed)
    shapes = {
        "past": (20, counts.get("n_past")),
        "known": (25, counts.get("n_known")),
        "static": (counts.get("n_static"),),
    }
    beside = {k: torch.randn(3, *s, generator=source) for k, s in shapes.items() if s[-1]}
    return torch.randn(3, 20, channels, generator=torch.Generator().manual_seed(9)), beside


@pytest.mark.parametrize("head", HEADS)
def test_without_covariates_a_network_is_what_it_was(head):
    """Names, draws and, where the new parts add nothing, the numbers of the plain network, bit for
    bit.
    """
    kind = {"head": head}
    plain = network(**kind)
    rich = network(**kind, **COUNTS)
    names = set(plain.state_dict())
    assert {
        name for name in rich.state_dict() if name.split(".")[0] not in ("beside", "ahead")
    } == names
    assert all(
        torch.equal(value, rich.state_dict()[name]) for name, value in plain.state_dict().items()
    )
    with torch.no_grad():
        for name, value in rich.named_parameters():
            if name.split(".")[0] in ("beside", "ahead"):
                value.zero_()
    x, covariates = inputs()
    assert torch.equal(rich(x, **covariates), plain(x))


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["past", "known", "static"])
def test_every_covariate_reaches_the_forecast_of_every_head(head, name):
    model = network(head=head, **COUNTS)
    x, covariates = inputs()
    base = model(x, **covariates)
    changed = {**covariates, name: covariates[name] + 1}
    assert not torch.allclose(model(x, **changed), base)
    assert base.shape[:3] == (3, 5, 2)


def test_the_covariates_of_a_step_touch_no_other_step():
    model = network(**COUNTS)
    x, covariates = inputs()
    known = covariates["known"].clone()
    known[:, 22] += 1
    moved = (model(x, **{**covariates, "known": known}) - model(x, **covariates)).abs().amax(
        (0, 2)
    ) > 1e-6
    assert moved.tolist() == [False, False, True, False, False]
    known = covariates["known"].clone()
    known[:, 3] += 1
    assert (
        (model(x, **{**covariates, "known": known}) - model(x, **covariates)).abs().amax((0, 2))
        > 1e-6
    ).all()


def test_the_step_network_equals_a_loop():
    step = StepNetwork(3, 8, 2, generator=torch.Generator().manual_seed(0)).double()
    known = torch.randn(2, 4, 3, dtype=torch.float64)
    states = torch.randn(2, 6, 8, dtype=torch.float64)
    actual = step(known, states)
    for b in range(2):
        for f in range(4):
            inner = (
                step.widen_step.weight @ known[b, f]
                + step.widen_step.bias
                + step.widen_state.weight @ states[b].mean(0)
            )
            out = (
                step.narrow.weight @ torch.nn.functional.gelu(inner)
                + step.narrow.bias
                + step.skip.weight @ known[b, f]
            )
            torch.testing.assert_close(actual[b, f], out)


@pytest.mark.parametrize(
    "counts", [{"n_past": 2}, {"n_known": 3}, {"n_static": 4}, {"n_past": 1, "n_static": 2}]
)
def test_channels_share_covariates_and_stay_apart(counts):
    model = network(**counts).double()
    x, beside = inputs(**counts)
    x = x.double()
    beside = {k: v.double() for k, v in beside.items()}
    whole = model(x, **beside)
    torch.testing.assert_close(model(x[:, :, 1:], **beside), whole[:, :, 1:])
    torch.testing.assert_close(model(1e3 * x - 7, **beside), 1e3 * whole - 7)
    assert model.attention_maps(x, **beside).shape[:4] == (2, 3, 2, 2)


@pytest.mark.parametrize(
    ("counts", "give", "message"),
    [
        (
            {"n_past": 2},
            {},
            r"the network reads windows of shape \(20, 2\) as past covariates; got none",
        ),
        ({}, {"n_past": 2}, r"the network reads no past covariates; got \(20, 2\)"),
        (
            {"n_known": 3},
            {"n_known": 2},
            r"windows of shape \(25, 3\) as known covariates; got \(25, 2\)",
        ),
        (
            {"n_static": 3},
            {"n_static": 2},
            r"windows of shape \(3,\) as static covariates; got \(2,\)",
        ),
    ],
)
def test_a_network_takes_what_it_was_built_for(counts, give, message):
    x, covariates = inputs(**give) if give else (inputs()[0], {})
    with pytest.raises(ValueError, match=message):
        network(**counts)(x, **covariates)


@pytest.mark.parametrize("name", [*COUNTS, "mixed_channels"])
@pytest.mark.parametrize("kind", ["nlinear", "decoder"])
def test_networks_that_read_nothing_refuse(kind, name):
    other = (
        {"backbone": kind}
        if kind == "nlinear"
        else {"architecture": kind, "patch_stride": 8, "linear_skip": False}
    )
    with pytest.raises(
        ValueError,
        match=f"a {'linear' if kind == 'nlinear' else kind} network reads no .* got {name} = 2",
    ):
        ModelConfig(**{**SIZES, **other, name: 2})
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 0; got -1"):
        ModelConfig(**{**SIZES, name: -1})


def test_one_kind_of_network_reads_covariates_as_the_guide_says():
    assert set(READS) == {*ARCHITECTURES, "linear"}
    assert {kind: len(reads) for kind, reads in READS.items()} == {
        "encoder": 5,
        "decoder": 0,
        "linear": 0,
    }
    guide = " ".join((ROOT / "docs" / "guide.md").read_text().split())
    assert (
        '`AttentionForecaster` with the default `architecture="encoder"` also read columns' in guide
    )


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [(["$1.50", "$2.25"], [1.5, 2.25]), (["1,5", "2,25"], [1.5, 2.25]), (["10%", "20%"], [10, 20])],
)
def test_spelt_numbers_that_are_read_as_categories_are_told_with_a_call_that_works(cells, numbers):
    days = pd.date_range("2024-01-01", periods=8)
    df = pd.DataFrame({"ds": days, "y": 1.0, "price": cells * 4})
    schema = Schema(past_cols=["price"])
    with pytest.warns(
        UserWarning, match="'price' holds text such as .* read as categories"
    ) as caught:
        from_long(df, schema)
    names = {"df": df, "pd": pd}
    call = re.search(r"each table: (df.*) reads", str(caught[0].message))[1]
    exec(call, names)
    read = from_long(names["df"], schema)
    assert read.covariates.values[:, 0].tolist() == [*numbers] * 4


@pytest.mark.parametrize("cells", [["007", "008"], ["type 1", "type 2"], ["1-2", "3-4"]])
@pytest.mark.filterwarnings("error")
def test_codes_and_words_are_categories_without_a_word(cells):
    days = pd.date_range("2024-01-01", periods=8)
    df = pd.DataFrame({"ds": days, "y": 1.0, "kind": cells * 4})
    panel = from_long(df, Schema(past_cols=["kind"]))
    assert panel.covariates.categories == (tuple(cells),)


@pytest.mark.parametrize("kind", ["naive", "zoned", "dates", "datetimes"])
def test_a_column_of_dates_gets_the_call_that_counts_days(kind):
    days = pd.date_range("2022-12-01 12:00", periods=30)
    column = {
        "naive": days,
        "zoned": days.tz_localize("Europe/Berlin"),
        "dates": pd.Series(days.date),
        "datetimes": pd.Series(days.to_pydatetime(), dtype=object),
    }[kind]
    stamps = pd.date_range("2024-01-01", periods=30)
    df = pd.DataFrame({"ds": stamps, "y": np.arange(30.0) % 7, "ordered": column})
    # A cell without a date stays without a number.
    df.loc[3, "ordered"] = None
    schema = Schema(past_cols=["ordered"], missing="ffill")
    with pytest.raises(ValueError, match="makes days since 1970 of dates; or ") as caught:
        to_panel(df, schema)
    (call,) = re.findall(r"; (df\['ordered'\] = .*) makes days", str(caught.value))
    exec(call, {"df": df, "pd": pd})
    assert df["ordered"].isna().sum() == 1
    numbers = to_panel(df, schema).covariates.values[:, 0]
    assert (np.diff(numbers)[4:] == 1.0).all()


@pytest.mark.parametrize(
    ("kind", "static"),
    [
        ("naive", [18262.5, 18283.5]),
        ("zoned", [18262.5, 18283.5]),
        ("periods", ["2020-01-01", "2020-01-22"]),
        ("durations", [86_400.0, 604_800.0]),
    ],
)
def test_a_static_column_of_times_gets_the_call_that_converts_it(kind, static):
    days = pd.to_datetime(["2020-01-01 12:00", "2020-01-22 12:00"])
    cells = {
        "naive": days,
        "zoned": days.tz_localize("UTC"),
        "periods": days.to_period("D"),
        "durations": pd.to_timedelta([1, 7], unit="D"),
    }[kind]
    stamps = pd.date_range("2024-01-01", periods=30)
    names = np.repeat(["a", "b"], 30)
    numbers = np.arange(60.0) % 7
    df = pd.DataFrame({"id": names, "ds": stamps.append(stamps), "y": numbers})
    df["opened"] = cells.repeat(30)
    schema = Schema(id_col="id", target_col="y", static_cols=["opened"])
    with pytest.raises(
        ValueError, match="static column 'opened' must hold numbers, text"
    ) as caught:
        to_panel(df, schema)
    (call,) = re.findall(r"; convert it: (df\['opened'\] = .*) makes ", str(caught.value))
    exec(call, {"df": df, "pd": pd})
    assert to_panel(df, schema).covariates.static[:, 0].tolist() == static
