"""Tables become panels and come back as they came, and bad ones are refused in words."""

import time
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from side_by_side import columns_of

from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.calendar import future_times
from tsattn.data.columns import find_time_col
from tsattn.data.frames import from_long, from_wide, to_long, to_panel, to_wide
from tsattn.data.panel import Panel, require_length
from tsattn.data.schema import Schema

NAMES = {
    "nixtla": ("unique_id", "ds", "y"),
    "gluonts": ("item_id", "timestamp", "target"),
    "own": ("shop", "week", "sold"),
}
FREQS = [
    "15min",
    "h",
    "D",
    "B",
    "W-SUN",
    "W-MON",
    "MS",
    "ME",
    "QS-FEB",
    "QE-DEC",
    "YS-JAN",
    "BMS",
    "2h",
    "3D",
    "2MS",
]


def long_frame(
    ids=("a", "b"), periods=10, freq="h", tz=None, names=NAMES["nixtla"], start="2024-01-01"
):
    """Each series counts up from 100 times its number; stamps are those of pandas."""
    stamps = pd.date_range(start, periods=periods, freq=freq, tz=tz)
    n = len(ids)
    values = (np.arange(n)[:, None] * 100.0 + np.arange(periods)).ravel()
    columns = (
        np.repeat(np.asarray(ids, dtype=object), periods),
        stamps[np.tile(np.arange(periods), n)],
        values,
    )
    return pd.DataFrame(dict(zip(names, columns, strict=True))).infer_objects()


def wide_frame(periods=10, freq="h", tz=None, name=None):
    index = pd.date_range("2024-01-01", periods=periods, freq=freq, tz=tz, name=name)
    index.freq = None
    return pd.DataFrame(
        {"load": np.arange(periods) * 1.0, "OT": np.arange(periods) - 3.0}, index=index
    )


# --- good tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_a_long_frame_becomes_a_panel_and_comes_back(names):
    df = long_frame(names=names)
    before = df.copy(deep=True)
    panel = to_panel(df, Schema(*names))
    assert (panel.n_series, panel.freq, panel.dialect.target_col) == (2, "h", names[2])
    assert panel.values.shape == (20, 1)
    assert panel.starts.tolist() == [0, 10, 20]
    assert panel.ids.tolist() == ["a", "b"]
    assert panel.values.dtype == np.float64
    assert panel.values[:, 0].tolist() == df[names[2]].tolist()
    assert_frame_equal(to_long(panel), before)
    panel.values[:] = 0
    assert_frame_equal(df, before)  # neither reading nor writing to the panel touches the frame


def test_the_second_dialect_is_recognised_by_its_names():
    df = long_frame(names=NAMES["gluonts"])
    assert_frame_equal(to_long(to_panel(df)), df)
    assert_frame_equal(to_long(from_long(df)), df)


@pytest.mark.parametrize("names", [("ds", "y"), ("timestamp", "target"), ("week", "sold")])
def test_a_long_frame_without_ids_is_one_series(names):
    df = long_frame(ids=("a",), names=("id", *names)).drop(columns="id")
    panel = to_panel(df, Schema(None, "week", "sold") if names[0] == "week" else Schema())
    assert (panel.n_series, panel.dialect.kind, panel.dialect.id_col) == (1, "long", None)
    assert_frame_equal(to_long(panel), df)


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_a_wide_frame_with_a_time_index_comes_back(tz):
    df = wide_frame(tz=tz, name="when")
    panel = to_panel(df)
    assert (panel.n_series, panel.dialect.columns, panel.freq) == (2, ("load", "OT"), "h")
    assert panel.ids.tolist() == ["OT", "load"]
    assert panel.aligned
    assert_frame_equal(to_wide(panel), df)


def test_text_that_spells_numbers_is_read_and_the_first_other_cell_is_named():
    df = long_frame(periods=30, freq="D")
    texts = df["y"].map("{:.2f}".format).astype(object)
    expected = from_long(df.assign(y=texts.astype(float))).values
    for column in (
        texts.astype("string"),
        texts.astype("category"),
        texts.astype(float).astype("category"),
        texts.where(df.index % 2 == 0, texts.astype(float)),
    ):
        np.testing.assert_array_equal(from_long(df.assign(y=column)).values, expected)
    # An empty text is an empty cell.
    empty = from_long(df.assign(y=texts.where(df.index != 3, " "))).values
    assert np.flatnonzero(np.isnan(empty)).tolist() == [3]
    with pytest.raises(ValueError, match=r"column 'y' holds 'n/a' at 2024-.*coerce"):
        from_long(df.assign(y=texts.where(df.index != 3, "n/a")))


def test_columns_called_by_whole_numbers_keep_their_names(tmp_path):
    # As a pivoted table of stores has them; df.update(fill(df)) would do nothing otherwise.
    df = wide_frame().set_axis([10, 9], axis=1).assign(late=1.0)
    panel = to_panel(df)
    assert panel.ids.tolist() == [9, 10, "late"]
    assert_frame_equal(to_wide(panel), df)
    forecaster = make_forecaster("zero", 3).fit(df)
    assert forecaster.predict().columns.tolist() == [10, 9, "late"]
    bounds = [f"{name}-{side}-80" for name in (10, 9) for side in ("lo", "hi")]
    columns = forecaster.predict(level=80).columns
    assert columns[:6].tolist() == [10, *bounds[:2], 9, *bounds[2:]]
    forecaster.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert_frame_equal(loaded.predict(), forecaster.predict())
    # Stamps and other names cannot be saved, and become text.
    stamps = to_panel(wide_frame().set_axis(pd.to_datetime(["2024", "2025"]), axis=1))
    assert stamps.ids.tolist() == ["2024-01-01 00:00:00", "2025-01-01 00:00:00"]


@pytest.mark.parametrize(
    ("column", "schema"),
    [(column, Schema()) for column in ("date", "ds", "Timestamp", "time", "t0")]
    + [("t0", Schema(time_col="t0"))],
)
def test_the_time_column_of_a_wide_frame_is_found(column, schema):
    df = wide_frame().rename_axis(index=column).reset_index()
    panel = from_wide(df[["load", column, "OT"]], schema)  # it need not be the first
    assert (panel.dialect.time_col, panel.dialect.columns) == (column, ("load", "OT"))
    assert_frame_equal(to_wide(panel), df)
    assert_frame_equal(to_wide(to_panel(df, schema)), df)


def test_text_and_old_csv_layouts_are_read_as_stamps():
    df = long_frame(periods=30, freq="D", start="2024-01-05")
    iso = from_long(df.assign(ds=df.ds.astype(str))).times
    for layout in ("%d.%m.%Y", "%Y/%m/%d %H:%M", "%d/%m/%Y", "%m/%d/%Y %I:%M %p"):
        assert from_long(df.assign(ds=df.ds.dt.strftime(layout))).times.equals(iso)
    assert from_long(df.assign(ds=df.ds.dt.date)).times.equals(iso)
    assert from_wide(wide_frame().set_axis(wide_frame().index.astype(str))).freq == "h"


def test_text_with_utc_offsets():
    df = long_frame(ids=("a",), periods=2).assign(
        ds=["2024-01-01T00:00+01:00", "2024-01-01T01:00+01:00"]
    )
    assert from_long(df).times[0] == pd.Timestamp("2024-01-01T00:00+01:00")
    df.loc[1, "ds"] = "2024-01-01T02:00+02:00"
    assert from_long(df).times[1] == pd.Timestamp("2024-01-01T00:00Z")
    objects = df.assign(ds=[pd.Timestamp(cell) for cell in df.ds])
    assert from_long(objects).times.equals(from_long(df).times)
    df.loc[1, "ds"] = "2024-01-01T02:00"
    with pytest.raises(
        ValueError, match=r"'2024-01-01T02:00' in row 1 .* give all of them one or none"
    ):
        from_long(df)


@pytest.mark.parametrize("step", [1, 3])
def test_integer_time(step):
    df = long_frame().assign(ds=np.tile(np.arange(10) * step + 5, 2))
    panel = from_long(df.sample(frac=1, random_state=1))
    assert panel.freq == step
    assert_frame_equal(to_long(panel), df)
    assert future_times(panel.last_times(), step, 2).tolist() == [5 + 10 * step, 5 + 11 * step] * 2
    assert from_long(df, freq=step).freq == from_long(df, freq=str(step)).freq == step
    wide = pd.DataFrame({"x": [1.0, 2.0, 4.0]})
    assert_frame_equal(to_wide(from_wide(wide)), wide, check_index_type=False)


@pytest.mark.parametrize(
    "ids",
    [
        pd.Series([7, 3], dtype="int32"),
        pd.Series(["z", "a"], dtype="category"),
        pd.Series(["z", "a"], dtype="string"),
    ],
)
def test_ids_are_sorted_and_keep_their_type(ids):
    df = long_frame().assign(unique_id=ids.repeat(10).reset_index(drop=True))
    answer = to_long(from_long(df))
    assert answer.unique_id.dtype == ids.dtype
    assert_frame_equal(answer, df.sort_values(["unique_id", "ds"], ignore_index=True))


def test_rows_in_any_order_and_other_number_types():
    df = long_frame(ids=[f"s{i}" for i in range(20)])
    panel = from_long(df)
    for other in (
        df.sample(frac=1, random_state=3),
        df.assign(y=df.y.astype("Int64")),
        df.assign(y=df.y.astype(object)),
    ):
        assert from_long(other).fingerprint() == panel.fingerprint()
    assert from_long(df.assign(y=df.y.astype("float32"))).values.dtype == np.float64


def test_the_fingerprint_sees_every_part():
    df = long_frame()
    prints = {
        from_long(df).fingerprint(),
        from_long(df.assign(y=df.y + 1e-12)).fingerprint(),
        from_long(df.assign(ds=df.ds + pd.Timedelta("1h"))).fingerprint(),
        from_long(df.assign(ds=df.ds.dt.tz_localize("UTC"))).fingerprint(),
        from_long(df.replace({"unique_id": {"a": "c"}})).fingerprint(),
        from_wide(wide_frame()).fingerprint(),
        from_wide(wide_frame().rename(columns={"OT": "OL"})).fingerprint(),
        from_long(long_frame(periods=9)).fingerprint(),
    }
    assert len(prints) == 8
    assert (
        from_long(df.assign(ds=df.ds.astype("M8[s]"))).fingerprint() in prints
    )  # the unit is no part of the data


def test_the_fingerprint_takes_every_nan_for_the_same():
    holes = from_wide(wide_frame().replace(3.0, np.nan), Schema(missing="ffill"))
    odd = holes.values.copy()
    odd[np.isnan(odd)] = np.uint64(0x7FF8000000000001).view(np.float64)
    assert replace(holes, values=odd).fingerprint() == holes.fingerprint()


def test_slices_are_those_of_every_series():
    df = pd.concat([long_frame(ids=("a",), periods=6), long_frame(ids=("b",), periods=3)])
    panel = from_long(df)

    def values(part: Panel):
        return [
            part.values[a:b, 0].tolist()
            for a, b in zip(part.starts[:-1], part.starts[1:], strict=True)
        ]

    whole = values(panel)
    for start, stop in [
        (0, 2),
        (None, -2),
        (-4, None),
        (1, -1),
        (5, None),
        (4, 2),
        (-9, 9),
        (None, None),
    ]:
        part = panel.rows(start, stop)
        assert values(part) == [rows[start:stop] for rows in whole]
        assert len(part.times) == len(part.values)
        one_series = from_long(df[df.unique_id == "a"]).rows(start, stop)
        assert values(one_series) == [whole[0][start:stop]]
    assert values(panel.until(np.array([4, 1]))) == [whole[0][:4], whole[1][:1]]
    assert values(panel.last(4)) == [whole[0][-4:], whole[1]]
    assert values(panel.last(0)) == [[], []]
    assert panel.last_times().tolist() == [
        pd.Timestamp("2024-01-01 05:00"),
        pd.Timestamp("2024-01-01 02:00"),
    ]


def test_long_to_wide_and_back():
    df = pd.concat(
        [long_frame(ids=("a",), periods=6), long_frame(ids=("b",), periods=3)], ignore_index=True
    )
    wide = to_wide(from_long(df))
    assert wide["b"].tolist()[:3] == [0.0, 1.0, 2.0]
    assert wide["b"].isna().sum() == 3
    melted = to_long(from_wide(wide_frame(tz="UTC")))
    assert_frame_equal(to_wide(to_panel(melted))[["load", "OT"]], wide_frame(tz="UTC", name="ds"))


@settings(max_examples=25, deadline=None)
@given(
    freq=st.sampled_from(FREQS),
    tz=st.sampled_from([None, "UTC", "America/New_York"]),
    lengths=st.lists(st.integers(12, 20), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
)
def test_any_panel_comes_back(freq, tz, lengths, seed):
    rng = np.random.default_rng(seed)
    parts = [long_frame(ids=(f"s{i}",), periods=n, freq=freq, tz=tz) for i, n in enumerate(lengths)]
    df = pd.concat(parts, ignore_index=True)
    df["y"] = rng.normal(size=len(df)) * 10.0 ** rng.integers(-5, 6)
    panel = to_panel(df.sample(frac=1, random_state=seed))
    assert panel.freq == freq
    assert_frame_equal(to_long(panel), df)
    assert to_panel(to_long(panel)).fingerprint() == panel.fingerprint()
    assert to_panel(panel) is panel


def test_short_series_take_the_frequency_of_the_others():
    df = pd.concat([long_frame(ids=("a",), periods=1), long_frame(ids=("b",), periods=8)])
    assert from_long(df).freq == "h"
    assert from_long(df[df.unique_id == "a"], freq="H").freq == "h"


def test_stamps_keep_their_unit():
    df = long_frame().astype({"ds": "M8[s]"})
    panel = from_long(df)
    assert_frame_equal(to_long(panel), df)
    assert future_times(panel.last_times(), "h", 1).unit == "s"


# --- bad tables -----------------------------------------------------------------------------------


def spoil(df, row, **cells):
    df = df.astype({name: object for name, cell in cells.items() if isinstance(cell, str)})
    for name, cell in cells.items():
        df.loc[row, name] = cell
    return df


T3 = pd.Timestamp("2024-01-01 03:00")
BAD_LONG = {
    "duplicate": (
        lambda df: pd.concat([df, df.iloc[[13, 14]]]),
        r"series 'b': duplicate stamp 2024-01-01 03:00:00 \(and 1 more\), but a stamp may occur once .*drop",
    ),
    "gap": (
        lambda df: df.drop(index=[13, 14, 17]),
        r"series 'b': gap: there is no row at 2024-01-01 03:00:00 \(and 2 more\).*frequency 'h'.*missing='interpolate'",
    ),
    "gaps in two series": (
        lambda df: df.drop(index=[3, 13]),
        r"series 'a': gap: .*03:00:00 \(and 1 more, 2 series",
    ),
    "stray": (
        lambda df: spoil(df, 13, ds=T3 + pd.Timedelta("7min")),
        r"series 'b': the stamp 2024-01-01 03:07:00 is off the inferred frequency 'h' .*correct or resample",
    ),
    "infinite": (
        lambda df: spoil(df, [13, 15], y=-np.inf),
        r"series 'b': column 'y' holds -inf at 2024-01-01 03:00:00 \(and 1 more\), but values must be finite; correct",
    ),
    "text": (
        lambda df: spoil(df, 13, y="n/a"),
        r"series 'b': column 'y' holds 'n/a' at 2024-01-01 03:00:00, but values must be numbers; .*pd.to_numeric",
    ),
    "complex": (
        lambda df: df.assign(y=df.y.astype(complex)),
        r"series 'a': column 'y' holds 0j .*\(and 19 more, 2",
    ),
    "stamps as values": (
        lambda df: df.assign(y=df.ds),
        r"series 'a': column 'y' holds Timestamp.*must be numbers",
    ),
    "missing value": (
        lambda df: spoil(df, [13, 15, 4], y=np.nan),
        r"series 'a': column 'y' is missing \(NaN\) at 2024-01-01 04:00:00 \(and 2 more, 2 series in all\).*'ffill'",
    ),
    "missing stamp": (
        lambda df: spoil(df, 13, ds=pd.NaT),
        r"series 'b': column 'ds' has no stamp in row 13, but every row needs one; fill in or drop",
    ),
    "unreadable stamp": (
        lambda df: spoil(df.astype({"ds": str}), [13, 14], ds="2024-01-32"),
        r"series 'b': column 'ds' holds '2024-01-32' in row 13 \(and 1 more\), which cannot be read .*; correct it, or leave such rows out",
    ),
    "no stamps at all": (
        lambda df: df.assign(ds="soon"),
        r"series 'a': column 'ds' holds 'soon' in row 0 \(and 19",
    ),
    "day or month first": (
        lambda df: df.assign(ds=["01/02/2024"] * 20),
        r"column 'ds': '01/02/2024' in row 0 .*can be read day first or month first; write them as 2024-01-31",
    ),
    "missing id": (
        lambda df: spoil(df, 13, unique_id=None),
        r"column 'unique_id' has no id in row 13.*fill in",
    ),
    "mixed frequencies": (
        lambda df: pd.concat([df, long_frame(ids=("c",), freq="D")]),
        r"series 'c': mixed frequencies: 2024-01-01 00:00:00 is followed by 2024-01-02 00:00:00, while most .* 'h'",
    ),
    "irregular": (
        lambda df: df.assign(
            ds=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.tile(np.arange(10) ** 2, 2), "min")
        ),
        r"series 'a': irregular stamps: .* cannot be inferred; average measurements by steps of '15min'",
    ),
    "one row": (
        lambda df: df.iloc[[0, 10]],
        r"series 'a': one stamp only \(2024-01-01 00:00:00\).*frequency cannot be inferred; pass freq=",
    ),
    "empty": (
        lambda df: df.iloc[:0],
        r"the table is empty: columns \['unique_id', 'ds', 'y'\] and no rows; give",
    ),
    "no target": (
        lambda df: df.drop(columns="y"),
        r"column 'y' is missing; the table has .*; name it by target_col=",
    ),
    "no time": (
        lambda df: df.drop(columns="ds"),
        r"column 'ds' is missing; .*; name it by time_col=",
    ),
    "time in the index as well": (
        lambda df: df.drop(columns="ds").set_axis(pd.DatetimeIndex(df.ds, name="unique_id")),
        r"column 'unique_id' stands in the index as well, but names must be unique; drop one of them",
    ),
    "doubled column": (
        lambda df: pd.concat([df, df[["y"]]], axis=1),
        r"column 'y' occurs more than once, but names must be unique; rename or drop one",
    ),
}


@pytest.mark.parametrize("freq", ["D", "MS"])
def test_midnights_of_a_zone_told_in_another_are_refused_with_the_way_back(freq):
    frame = long_frame(ids=("a",), periods=90, freq=freq, tz="Europe/Berlin", start="2024-02-01")
    told = frame.assign(ds=frame["ds"].dt.tz_convert("UTC"))
    with pytest.raises(
        ValueError, match=r"convert them to the zone of their days, (correct|pass freq=)"
    ):
        from_long(told)
    back = from_long(told.assign(ds=told["ds"].dt.tz_convert("Europe/Berlin")))
    np.testing.assert_array_equal(back.values[:, 0], frame["y"])


@pytest.mark.parametrize("freq", ["6h", "12h"])
def test_local_steps_of_hours_across_a_clock_change_are_refused_with_the_way_on(freq):
    frame = long_frame(ids=("a",), periods=300, freq=freq)
    local = frame.assign(ds=frame["ds"].dt.tz_localize("America/New_York"))
    with pytest.raises(ValueError, match=r"drop their zone, as .dt.tz_localize\(None\) does"):
        from_long(local)
    assert from_long(local.assign(ds=local["ds"].dt.tz_localize(None))).freq == freq


def test_a_zone_is_blamed_only_where_stamps_fit_without_it():
    frame = long_frame(ids=("a",), periods=300, freq="6h")
    local = frame.assign(ds=frame["ds"].dt.tz_localize("America/New_York"))
    with pytest.raises(ValueError, match="drop their zone"):
        from_long(local, Schema(freq="6h"))
    assert from_long(frame, Schema(freq="6h")).freq == "6h"
    with pytest.raises(ValueError, match="must lie on it; correct or resample them, or pass an"):
        from_long(local, Schema(freq="W"))
    days = long_frame(ids=("a",), periods=90, freq="D", tz="Europe/Berlin", start="2024-02-01")
    with pytest.raises(ValueError, match="convert them to the zone of their days"):
        from_long(days.assign(ds=days["ds"].dt.tz_convert("UTC")), Schema(freq="D"))


@pytest.mark.parametrize(("change", "message"), BAD_LONG.values(), ids=BAD_LONG)
def test_bad_long_tables_are_refused(change, message):
    bad = change(long_frame())
    before = bad.copy(deep=True)
    with pytest.raises(ValueError, match=message) as caught:
        to_panel(bad, Schema(missing="error"))
    assert "\n" not in str(caught.value)
    assert_frame_equal(bad, before)


BAD_WIDE = {
    "duplicate": (
        lambda df: pd.concat([df, df.iloc[[3]]]),
        r"the table: duplicate stamp 2024-01-01 03:00:00, .* name the column that tells them by id_col=",
    ),
    "gap": (
        lambda df: df.drop(index=df.index[3]),
        r"the table: gap: there is no row at 2024-01-01 03:00:00, but",
    ),
    "infinite": (
        lambda df: spoil(df, T3, OT=np.inf),
        r"column 'OT' holds inf at 2024-01-01 03:00:00, but values",
    ),
    "text": (
        lambda df: spoil(df, T3, OT="?"),
        r"column 'OT' holds '\?' at 2024-01-01 03:00:00, but .*time_col=",
    ),
    "missing": (
        lambda df: df.assign(load=np.nan, OT=np.nan),
        (
            r"column 'load' has no value at all from 2024-01-01 00:00:00 \(and 1 more, 2 columns in"
            r" all\), but"
        ),
    ),
    "no column": (
        lambda df: df[[]],
        r"needs at least one value column, each with its own name; got \[\]",
    ),
    "same names": (
        lambda df: df.set_axis(["1", 1], axis=1),
        r"each with its own name; got \['1', '1'\]",
    ),
    "two times": (
        lambda df: df.assign(date=df.index, time=df.index).reset_index(drop=True),
        r"columns \['date', 'time'\] could all hold the stamps, but one must; name it by time_col=",
    ),
    "two levels": (lambda df: pd.concat({"x": df}, axis=1), r"columns must have one level; got 2"),
    "index of words": (
        lambda df: df.set_axis(list("abcdefghij")),
        r"the table: the index holds 'a' in row 0",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD_WIDE.values(), ids=BAD_WIDE)
def test_bad_wide_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        to_panel(change(wide_frame()), Schema(missing="error"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda df: {1, 2},
            r"data must be a frame, a series, .*; got set; make a DataFrame of it",
        ),
        (
            lambda df: [[1, 2]],
            r"data must be a frame, a series, .*; got list; make a DataFrame of it",
        ),
    ],
)
def test_wrong_types_name_the_way_out(make, message):
    with pytest.raises(TypeError, match=message):
        to_panel(make(long_frame()))


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "object"])
def test_whole_numbers_that_float64_rounds_are_named(dtype):
    df = long_frame(ids=("a",), periods=3)
    df["y"] = pd.Series([2**53, 2**60, 2**60 + 1], dtype=dtype)
    with pytest.warns(UserWarning, match="column 'y' holds 1152921504606846977 in row 2, which"):
        panel = to_panel(df)
    assert panel.values[:, 0].tolist() == [2**53, 2**60, 2**60]


def test_numbers_and_stamps_beyond_reach():
    df = long_frame(ids=("a",), periods=3)
    for far in (
        np.array(["9999-01-01", "9999-01-02", "9999-01-03"], dtype="M8[s]"),
        ["9999-01-01"] * 3,
    ):
        with pytest.raises(
            ValueError,
            match=r"'?9999-01-01.* in row 0 \(and 2 more\), which cannot be read .* 1678 to 2261",
        ):
            from_long(df.assign(ds=far))
    with pytest.raises(
        ValueError,
        match=r"column 'ds' holds 1000000000000000000000 in row 1, but integer time must stay",
    ):
        from_long(df.assign(ds=pd.Series([1, 10**21, 3], dtype=object)))
    with pytest.raises(
        ValueError, match=r"column 'y' holds 1000+ at .*, but values must be finite"
    ):
        from_long(df.assign(y=pd.Series([1, 10**400, 3], dtype=object)))
    with pytest.raises(
        ValueError, match=r"1000001 rows would lie from 0 to 1000000 .* grow 100 times at most"
    ):
        from_long(df.assign(ds=[0, 1, 10**6]), Schema(missing="ffill"))


def test_names_that_were_asked_for_must_be_there():
    df = long_frame()
    with pytest.raises(ValueError, match=r"column 'shop' is missing; .*; name it by id_col="):
        to_panel(df, Schema(id_col="shop"))
    with pytest.raises(ValueError, match=r"column 'sold' is missing; .*; name it by target_col="):
        to_panel(wide_frame(), Schema(target_col="sold", time_col="load"))
    with pytest.raises(ValueError, match=r"column 'when' is missing; .*; name it by time_col="):
        to_panel(wide_frame(), Schema(time_col="when"))
    with pytest.raises(ValueError, match=r"must be three columns; got \['unique_id', 'ds', 'ds'\]"):
        from_long(df, Schema(target_col="ds"))
    with pytest.raises(
        ValueError, match=r"missing must be one of error, interpolate, ffill, mask; got 'drop'"
    ):
        from_long(df, Schema(missing="drop"))


def test_a_given_frequency_is_held_against_the_stamps():
    df = long_frame()
    with pytest.raises(
        ValueError,
        match=r"series 'a': gap: there is no row at 2024-01-01 00:30:00 \(and 17 more, 2",
    ):
        from_long(df, Schema(freq="30min", missing="error"))
    with pytest.raises(
        ValueError,
        match=r"series 'a': the stamp 2024-01-01 01:00:00 \(and 9 more, 2 .* frequency '2h'",
    ):
        from_long(df, freq="2h")
    with pytest.raises(
        ValueError, match=r"the stamp 2024-01-01 00:00:00.* is off the frequency 'W-SUN'"
    ):
        from_long(long_frame(freq="W-MON"), freq="W")
    with pytest.raises(
        ValueError, match=r"freq 5 does not fit a time column of stamps; pass an alias"
    ):
        from_long(df, freq=5)
    mondays = pd.concat([long_frame(freq="W-SUN"), long_frame(ids=("c",), freq="W-MON")])
    with pytest.raises(
        ValueError, match=r"series 'c': the stamp 2024-01-01 .*\(mixed frequencies or anchors\?\)"
    ):
        from_long(mondays)


def many_series():
    df = long_frame(ids=range(10_000), periods=8)
    return df.sample(frac=1, random_state=0), df.index[5_000 * 8 + 3]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gap", r"series 5000: gap: there is no row at 2024-01-01 03:00:00, but"),
        ("stray", r"series 5000: the stamp 2024-01-01 03:20:00 is off"),
        ("duplicate", r"series 5000: duplicate stamp 2024-01-01 02:00:00, but"),
        ("nan", r"series 5000: column 'y' is missing \(NaN\) at 2024-01-01 03:00:00, but"),
        (
            "mixed",
            (
                r"series 5000: mixed frequencies: 2024-01-01 00:00:00 is followed by 2024-01-01"
                r" 00:05:00, while"
            ),
        ),
    ],
)
def test_one_bad_series_among_ten_thousand_is_found(fault, message):
    df, row = many_series()
    from_long(df)
    if fault == "gap":
        df = df.drop(index=row)
    elif fault == "nan":
        df.loc[row, "y"] = np.nan
    elif fault == "mixed":
        start = pd.Timestamp("2024-01-01")
        mine = df.unique_id == 5000
        df.loc[mine, "ds"] = start + (df.loc[mine, "ds"] - start) / 12
    else:
        df.loc[row, "ds"] = (
            T3 + pd.Timedelta("20min") if fault == "stray" else T3 - pd.Timedelta("1h")
        )
    with pytest.raises(ValueError, match=message):
        from_long(df, Schema(missing="error"))


@pytest.mark.parametrize("missing", ["interpolate", "ffill"])
def test_a_policy_inserts_absent_rows_but_fills_nothing(missing):
    df = long_frame(freq="MS", tz="Europe/Berlin")
    panel = from_long(df.drop(index=[3, 4, 17]), Schema(missing=missing))
    assert panel.missing == missing
    assert_frame_equal(to_long(panel), df.assign(y=df.y.where(~df.index.isin([3, 4, 17]))))
    wide = wide_frame()
    holes = from_wide(wide.drop(index=wide.index[4]), Schema(missing=missing))
    assert np.isnan(columns_of(holes)).all(axis=1).nonzero()[0].tolist() == [4]
    inside = from_long(spoil(df, [2, 9], y=np.nan), Schema(missing=missing))
    assert np.flatnonzero(np.isnan(inside.values)).tolist() == [2, 9]


def test_a_policy_cannot_fill_what_nothing_is_known_about():
    df = long_frame()
    with pytest.raises(
        ValueError,
        match=r"series 'b': column 'y' is missing \(NaN\) at its first stamp 2024-01-01 00:00:00, ",
    ):
        from_long(spoil(df, [10, 11], y=np.nan), Schema(missing="ffill"))
    with pytest.raises(
        ValueError,
        match=r"series 'b': column 'y' has no value at all from 2024-01-01.*leave the series out",
    ):
        from_long(spoil(df, df.index[10:], y=np.nan), Schema(missing="interpolate", bad="error"))
    with pytest.raises(
        ValueError,
        match=r"column 'OT' has no value at all from .*missing='ffill' fills only from values",
    ):
        from_wide(wide_frame().assign(OT=np.nan), Schema(missing="ffill", bad="error"))
    with pytest.raises(ValueError, match=r"holds inf at"):
        from_long(spoil(df, 4, y=np.inf), Schema(missing="ffill"))


def test_short_series_are_named():
    df = pd.concat(
        [long_frame(ids=("a", "c", "d", "e"), periods=3), long_frame(ids=("b",), periods=9)]
    )
    require_length(from_long(df), 3, "a context of 3")
    message = (
        r"too short: series 'a' \(3 rows, 2024-01-01 00:00:00 to 2024-01-01 02:00:00\); series 'c'"
        r" .*; series 'd' .* "
        r"and 1 more, but a context of 4 needs at least 4 rows in every series; give more rows"
    )
    with pytest.raises(ValueError, match=message):
        require_length(from_long(df), 4, "a context of 4")
    with pytest.raises(
        ValueError, match=r"too short: series 'OT' \(0 rows\); .*, but a context of 1"
    ):
        require_length(from_wide(wide_frame()).rows(0, 0), 1, "a context of 1")


FAULTS = {
    "duplicate": "series 5000: duplicate stamp 2024-01-02",
    "gap": "series 5000: gap: there is no row at 2024-01-04",
    "mixed": (
        "series 5000: mixed frequencies: 2024-01-01 00:00:00 is followed by 2024-01-01 01:00:00"
    ),
    "stray": "series 5000: the stamp 2024-01-04 00:20:00 is off",
    "zone": "only some stamps carry a UTC offset",
}


def ten_thousand(fault=None):
    """A shuffled table of 10,000 series of 8 days, of which one, at place 5,000, has a fault."""
    days = pd.date_range("2024-01-01", periods=8, freq="D")
    df = pd.DataFrame(
        {"unique_id": np.repeat(np.arange(10_000), 8), "ds": np.tile(days, 10_000), "y": 1.0}
    )
    row = 5_000 * 8 + 3
    mine = df["unique_id"] == 5_000
    if fault in ("duplicate", "stray"):
        df.loc[row, "ds"] = days[1] if fault == "duplicate" else days[3] + pd.Timedelta("20min")
    if fault == "mixed":
        df.loc[mine, "ds"] = pd.date_range("2024-01-01", periods=8, freq="h")
    if fault == "gap":
        df = df.drop(index=row)
    if fault == "zone":
        df["ds"] = df["ds"].dt.strftime("%Y-%m-%d")
        df.loc[row, "ds"] = "2024-01-04T00:00:00+01:00"
    return df.sample(frac=1, random_state=0)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_series_among_ten_thousand_is_named(fault):
    with pytest.raises(ValueError, match=FAULTS[fault]):
        from_long(ten_thousand(fault), Schema(missing="error"))


def test_ten_thousand_series_are_read_in_less_than_a_second():
    df = ten_thousand()
    took = []
    assert from_long(df).fingerprint() == from_long(df.sort_index()).fingerprint()
    for _ in range(3):
        began = time.process_time()
        from_long(df)
        took.append(time.process_time() - began)
    assert min(took) < 1


def sold(**changes):
    """Two shops by day, under names that nobody was told."""
    parts = [
        {"shop": shop, "day": pd.date_range("2024-01-01", periods=5), "sales": k + np.arange(5.0)}
        for k, shop in enumerate(["north", "south"])
    ]
    return pd.concat(map(pd.DataFrame, parts), ignore_index=True).assign(**changes)


@pytest.mark.parametrize(
    "table",
    [
        sold(),
        sold()[["sales", "shop", "day"]].sample(frac=1, random_state=0),
        sold(day=lambda f: f["day"].dt.strftime("%Y/%m/%d 00:00")),
        sold(shop=lambda f: f["shop"].astype("category")),
        sold(shop=lambda f: f["shop"].astype("string"), sales=lambda f: f["sales"].astype("Int64")),
        sold().set_index("day"),
        sold().rename(columns={"shop": "unique_id"}),
        sold(shop=lambda f: f["shop"].map({"north": 3, "south": 7})).rename(
            columns={"shop": "item_id"}
        ),
        sold().rename(columns={"day": "timestamp"}),
    ],
    ids=[
        "plain",
        "order",
        "text",
        "categories",
        "nullable",
        "index",
        "unique_id",
        "item_id",
        "timestamp",
    ],
)
def test_one_column_each_of_ids_times_and_numbers_needs_no_names(table):
    before = table.copy()
    panel = to_panel(table)
    pd.testing.assert_frame_equal(table, before)
    assert (panel.n_series, panel.freq) == (2, "D")
    assert panel.values[:, 0].tolist() == [0, 1, 2, 3, 4, 1, 2, 3, 4, 5]
    id_col = next(column for column in table.columns if column in ("shop", "unique_id", "item_id"))
    assert (panel.dialect.id_col, panel.dialect.target_col) == (id_col, "sales")


def test_named_covariates_stand_beside_such_columns():
    panel = to_panel(sold(promo=1.0), Schema(future_cols=["promo"]))
    assert (panel.n_series, panel.dialect.time_col, panel.dialect.target_col) == (2, "day", "sales")
    assert to_panel(sold(), Schema(id_col="shop", time_col="day")).n_series == 2


@pytest.mark.parametrize(
    ("table", "told"),
    [
        # Text that changes from day to day is no id.
        (sold()[:5].assign(shop=["rain", "sun"] * 2 + ["rain"]), "column 'shop' holds 'rain'"),
        (
            sold(price=1.0),
            r"'shop' tells series apart, and \['sales', 'price'\] hold numbers, .* target_col",
        ),
        (
            sold(sales="many"),
            "'shop' tells series apart, and none of the others holds numbers",
        ),
        (pd.concat([sold(), sold()[:1]]), "series 'north': duplicate stamp 2024-01-01"),
    ],
    ids=["weather", "two numbers", "no numbers", "twice"],
)
def test_what_columns_do_not_say_must_be_said(table, told):
    with pytest.raises(ValueError, match=told):
        to_panel(table)


@pytest.mark.parametrize("beside", [Decimal(1), "text", 2])
def test_a_signalling_nan_of_decimals_is_missing(beside):
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=6), "y": np.arange(6.0)})
    frame["y"] = [*map(Decimal, range(5)), Decimal("sNaN")]
    frame[7] = pd.Series([beside] * 5 + [Decimal("sNaN")], dtype=object)
    assert np.isnan(from_long(frame).values[-1])
    assert frame["y"].iloc[-1].is_snan()
    with pytest.raises(ValueError, match=r"column 'y' is missing \(NaN\) at 2024-01-06"):
        from_long(frame, Schema(missing="error"))


def test_a_column_of_counts_without_a_name_hides_no_times():
    days = pd.date_range("2024-01-01", periods=9).strftime("%Y-%m-%d")
    table = pd.DataFrame({None: range(5, 14), "when": days, "sales": np.arange(9.0) % 4})
    assert find_time_col(table) == "when"
