"""Tables continued by later rows: names in other types, late series, another frequency."""

import copy
import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import plant_few_trees
from tables import long_table, wide_of, wide_table

from tsattn.catalogue import forecast, load_forecaster, make_forecaster
from tsattn.data.frames import to_long, to_panel
from tsattn.data.schema import Schema
from tsattn.distributed import predict_many
from tsattn.forecasters.naive import SeasonalNaive

ROWS = 60
NEW_ROWS = 10
VALUES = 50 + np.random.default_rng(0).normal(0, 3, (4, ROWS))


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    plant_few_trees(monkeypatch)


def linear(**settings):
    return make_forecaster("least_squares", 7, context=14, **settings)


def split(frame):
    """Its rows without the last stamps, and those."""
    first_new = frame["ds"].drop_duplicates().sort_values().iloc[-NEW_ROWS]
    return frame[frame["ds"] < first_new], frame[frame["ds"] >= first_new]


def shops(items=(1, 2)):
    frame = long_table(VALUES, range(4))
    frame["store"] = frame["unique_id"].map(dict(enumerate("AABB")))
    frame["item"] = frame["unique_id"].map(dict(enumerate([*items, *items])))
    return frame.drop(columns="unique_id")


@pytest.mark.parametrize(("fitted", "later"), [(int, float), (float, int), (object, int)])
def test_numbers_name_the_same_series_in_any_type(fitted, later):
    old, new = split(shops())
    model = linear(id_col=["store", "item"]).fit(old.astype({"item": fitted}))
    updated = model.update(new.astype({"item": later})).predict()
    expected = linear(id_col=["store", "item"]).fit(old).update(new).predict()
    pd.testing.assert_frame_equal(updated, expected, check_dtype=False)


@pytest.mark.parametrize("later", [float, str, "Int64"])
def test_names_keep_the_type_of_the_fit(later):
    old, new = split(shops())
    model = linear(id_col=["store", "item"]).fit(old)
    answer = model.update(new.astype({"item": later})).predict()
    assert answer["item"].dtype == old["item"].dtype
    old, new = split(long_table(VALUES, range(4)))
    updated = linear().fit(old).update(new.astype({"unique_id": later}))
    assert updated.predict()["unique_id"].dtype == old["unique_id"].dtype
    # A name that is no whole number needs another type.
    further = pd.concat([old, new]).query("unique_id == 0").assign(unique_id=0.5)
    assert 0.5 in updated.update(further).predict()["unique_id"].tolist()


def test_names_that_a_file_turns_into_numbers_stay_text():
    old, new = split(long_table(VALUES[:3], ["1", "2", "X3"]))
    model = linear().fit(old)
    expected = linear().fit(old).update(new[new["unique_id"] != "X3"]).predict()
    numbers = new[new["unique_id"] != "X3"].astype({"unique_id": int})
    pd.testing.assert_frame_equal(model.update(numbers).predict(), expected)
    assert expected["unique_id"].tolist()[::7] == ["1", "2", "X3"]


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_new_rows_without_a_value_are_refused_and_filled_by_a_policy(layout):
    frame = long_table(VALUES[:3], ["a", "b", "c"])
    first_day, last_day = sorted(frame["ds"].unique())[-2:]
    frame.loc[(frame["unique_id"] == "b") & (frame["ds"] == first_day), "y"] = np.nan
    filled = frame.assign(y=frame.groupby("unique_id")["y"].ffill())
    if layout == "wide":
        frame, filled = (
            table.pivot(index="ds", columns="unique_id", values="y").reset_index()
            for table in (frame, filled)
        )
    past = frame[frame["ds"] < first_day]
    model = linear(time_col="ds", missing="error").fit(past)
    before = model.predict()
    with pytest.raises(ValueError, match=r"'b'.* is missing \(NaN\) at 2024-02-28"):
        model.update(frame[frame["ds"] == first_day])
    pd.testing.assert_frame_equal(model.predict(), before)
    with pytest.warns(UserWarning, match="'b' has no value in the new rows; they count as"):
        unasked = linear(time_col="ds").fit(past).update(frame[frame["ds"] == first_day])
    assert unasked.predict().notna().all(axis=None)
    model.set_params(schema__missing="ffill")
    for day in (first_day, last_day):
        model.update(frame[frame["ds"] == day])
    pd.testing.assert_frame_equal(model.predict(), model.predict(filled))


@pytest.mark.parametrize("kind", [str, int, "category"])
def test_a_series_goes_on_where_its_new_rows_hold_no_value(kind):
    frame = long_table(VALUES[:3], ["1", "2", "3"]).astype({"unique_id": kind})
    old, new = split(frame)
    # Rows that are known already are no later ones.
    again = old[old["ds"] == old["ds"].max()]
    for name, rows in (("2", new), ("3", again)):
        is_empty = rows["unique_id"].astype(str) == name
        rows = rows.assign(y=rows["y"].mask(is_empty))
        model = make_forecaster("zero", 7).fit(old)
        expected = model.predict(pd.concat([old, rows]).drop_duplicates(["unique_id", "ds"]))
        if name == "2":
            assert expected["ds"].nunique() == 7
        pd.testing.assert_frame_equal(model.update(rows).predict(), expected)


@pytest.mark.filterwarnings("ignore::tsattn.checks.InputWarning")
@pytest.mark.parametrize("name", ["zero", "ridge"])
def test_columns_of_rows_without_a_value_are_kept(name):
    frame = long_table(VALUES[:3], ["1", "2", "3"])
    temperature = np.random.default_rng(1).normal(15, 5, len(frame))
    frame = frame.assign(temperature=temperature, y=frame["y"] + temperature)
    old, new = split(frame)
    is_first = new["ds"] == new["ds"].min()
    new = new.assign(y=new["y"].mask(is_first & (new["unique_id"] == "2")))
    options = {"past_cols": ["temperature"]}
    model = make_forecaster(name, 7, **options).fit(old)
    expected = model.predict(frame.assign(y=pd.concat([old["y"], new["y"]])))
    first = make_forecaster(name, 7, **options).fit(old).update(new[is_first])
    assert first.predict()["ds"].nunique() == 7
    pd.testing.assert_frame_equal(first.update(new[~is_first]).predict(), expected)


@pytest.mark.parametrize("order", ["%d/%m/%Y", "%m/%d/%Y", "%a %d.%m.%Y"])
@pytest.mark.parametrize("layout", ["long", "wide"])
def test_later_dates_are_read_in_the_order_of_the_fit(order, layout, tmp_path):
    frame = long_table(VALUES[:2], ["a", "b"])
    known = make_forecaster("zero", 7).fit(frame).predict()
    frame = frame.assign(ds=frame["ds"].dt.strftime(order))
    if layout == "wide":
        frame = frame.pivot(index="ds", columns="unique_id", values="y").reset_index()
        frame = frame.sort_values("ds", key=lambda texts: pd.to_datetime(texts, format=order))
    days = pd.to_datetime(frame["ds"], format=order)
    # The last of these days leave the order open.
    assert days.max() == pd.Timestamp("2024-02-29")
    is_old = days < "2024-02-02"
    path = tmp_path / "model"
    make_forecaster("zero", 7).fit(frame[is_old]).save(path)
    model = load_forecaster(path)
    # One day and the next week leave the order open, the last week does not.
    later_days = days[~is_old].drop_duplicates().sort_values().to_numpy()
    for some in np.split(later_days, [1, 8, 20]):
        model.update(frame[days.isin(some)])
    answer = model.predict()
    values = answer["zero"] if layout == "long" else answer[["a", "b"]].T.stack()
    np.testing.assert_array_equal(values, known["zero"])


def test_an_order_that_the_fit_does_not_show_is_refused():
    frame = long_table(VALUES[:1], ["a"])
    model = make_forecaster("zero", 7).fit(frame)
    later = pd.DataFrame({"unique_id": ["a"], "ds": ["01/03/2024"], "y": [5.0]})
    with pytest.raises(ValueError, match="can be read day first or month first"):
        model.update(later)


def test_names_that_a_smaller_type_cannot_hold_stay():
    old, new = split(long_table(VALUES[:2], [1, 300]))
    updated = linear().fit(old).update(new[new["unique_id"] == 1].astype({"unique_id": "int8"}))
    assert updated.predict()["unique_id"].tolist()[::7] == [1, 300]


def test_categories_of_keys_that_new_rows_lack_stay():
    frame = shops(items=("x", "y"))
    old, new = split(frame.assign(item=frame["item"].astype("category")))
    new = new[new["item"] == "x"]
    new = new.assign(item=new["item"].cat.remove_unused_categories())
    answer = linear(id_col=["store", "item"]).fit(old).update(new).predict()
    assert answer["item"].tolist()[::7] == ["x", "y", "x", "y"]


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("fitted", ["plain", "category"])
@pytest.mark.parametrize("ids", [["a", "b", "c"], [1, 2, 3]])
def test_categories_need_not_name_the_series_that_new_rows_lack(ids, fitted):
    old, new = split(long_table(VALUES[:3], ids))
    old = old[old["unique_id"] != ids[2]]
    if fitted == "category":
        old = old.astype({"unique_id": "category"})
    for later in (new[new["unique_id"] == ids[1]], new[new["unique_id"] != ids[0]]):
        updated = linear().fit(old).update(later.astype({"unique_id": "category"})).predict()
        expected = linear().fit(old).update(later).predict()
        assert isinstance(updated["unique_id"].dtype, pd.CategoricalDtype)
        pd.testing.assert_frame_equal(
            updated.astype({"unique_id": expected["unique_id"].dtype}), expected
        )


@pytest.mark.parametrize("missing", ["interpolate", "ffill"])
@pytest.mark.parametrize("late", ["a", "b"])
def test_a_late_column_of_a_wide_table_is_missing(missing, late):
    wide = wide_table(VALUES[:3].T, ["a", "b", "c"])
    old, new = wide[:-NEW_ROWS], wide[-NEW_ROWS:]
    whole = wide.copy()
    whole.loc[new.index, late] = np.nan
    expected = linear(missing=missing).fit(old).predict(whole)
    without = linear(missing=missing).fit(old).update(new.drop(columns=late))
    pd.testing.assert_frame_equal(without.predict(), expected)
    with pytest.raises(
        ValueError, match=f"new rows have no column '{late}', which .* add it, or first call"
    ):
        linear(missing="error").fit(old).update(new.drop(columns=late))
    with pytest.warns(UserWarning, match=f"no column '{late}', which the .* count as missing"):
        unasked = linear().fit(old).update(new.drop(columns=late)).predict()
    interpolated = linear(missing="interpolate").fit(old).update(new.drop(columns=late)).predict()
    pd.testing.assert_frame_equal(unasked, interpolated)


@pytest.mark.parametrize(("freq", "steps"), [("D", 24), ("2h", 2)])
def test_rows_of_another_frequency_are_refused_where_values_may_be_missing(freq, steps):
    hours = long_table(VALUES[:1], ["a"], freq="h")
    others = long_table(VALUES[:1], ["a"], freq=freq)
    model = make_forecaster("zero", 3).fit(hours)
    message = f"frequency 'h'; the new values lie {steps} or more of its steps apart; resample"
    with pytest.raises(ValueError, match=message):
        model.predict(others)
    # The last value of a series and the first of the next one are no neighbours.
    with pytest.raises(ValueError, match=message):
        model.predict(long_table(VALUES[:2], ["a", "b"], freq=freq))
    # A few rows show no frequency, and absent rows are no other one.
    model.predict(others[:3])
    model.predict(hours.drop(index=range(5, 20, 2)))


@pytest.mark.parametrize("name", ["zero", "seasonal_naive"])
def test_late_and_corrected_rows_may_lie_apart(name):
    days = long_table(VALUES[:2], ["a", "b"])
    late = days["ds"].isin(days["ds"].iloc[[20, 24, 30, 35]])
    holed = days.assign(y=days["y"].mask(late))
    model = make_forecaster(name, 3, missing="ffill").fit(holed)
    expected = make_forecaster(name, 3).fit(days).predict()
    pd.testing.assert_frame_equal(model.update(days[late]).predict(), expected)
    # Rows after the last known ones show a frequency, also beside corrected rows.
    start = days["ds"].max() + pd.Timedelta(7, "D")
    weeks = long_table(VALUES[:2, :5], ["a", "b"], freq="7D", start=start)
    with pytest.raises(ValueError, match="the new values lie 7 or more of its steps apart"):
        model.update(pd.concat([days[late], weeks]))


@pytest.mark.parametrize("missing", [None, "error", "ffill"])
@pytest.mark.parametrize("layout", ["long", "wide", "promo"])
@pytest.mark.parametrize("name", ["zero", "least_squares"])
def test_a_corrected_row_may_come_with_the_next_one(name, layout, missing):
    # Far more rows lie between both than the new rows are.
    table = long_table(np.tile(VALUES[:2], 4), ["a", "b"])
    days = sorted(table["ds"].unique())
    schema = Schema(missing=missing)
    options = {}
    if layout == "promo":
        table["promo"] = np.arange(len(table)) % 3.0
        schema = schema.changed(future_cols=["promo"])
        future = long_table(VALUES[:2, :3], ["a", "b"], start=days[-1] + pd.Timedelta(1, "D"))
        options["future"] = future.drop(columns="y").assign(promo=1.0)
    if layout == "wide":
        table = wide_of(table).reset_index()
    first = table[table["ds"] < days[-1]]
    numbers = table.columns.difference(["unique_id", "ds"])
    wrong = first.assign(**{name: first[name].where(first["ds"] != days[9], 1) for name in numbers})
    new = table[table["ds"].isin([days[9], days[-1]])]
    model = make_forecaster(name, 3, schema=schema).fit(wrong)
    expected = model.predict(table, **options)
    pd.testing.assert_frame_equal(model.update(new).predict(**options), expected, rtol=1e-4)


def test_a_known_row_without_a_new_value_stays_as_it_is():
    table = long_table(VALUES[:2], ["a", "b"])
    first, new = table.iloc[table.index % ROWS < 50], table.iloc[table.index % ROWS >= 48]
    expected = linear().fit(first).update(new).predict()
    blank = new.assign(y=new["y"].mask(new.index % ROWS < 50))
    pd.testing.assert_frame_equal(linear().fit(first).update(blank).predict(), expected)


@pytest.mark.parametrize("missing", [None, "error"])
def test_rows_that_nobody_knows_are_absent_also_beside_corrected_ones(missing):
    table = long_table(VALUES[:2], ["a", "b"])
    days = sorted(table["ds"].unique())
    model = make_forecaster("seasonal_naive", 3, missing=missing).fit(table[table["ds"] < days[50]])
    new = table[table["ds"].isin([days[9], days[52]])]
    place = f"{days[50]} \\(and 3 more, 2 series in all\\)"
    if missing == "error":
        with pytest.raises(ValueError, match=f"'a': gap: there is no row at {place}"):
            model.update(new)
        return
    with pytest.warns(UserWarning, match=f"no value at {place}; such values are interpolated"):
        model.update(new)


def test_sparse_rows_may_follow_sparse_rows():
    sparse = long_table(VALUES[:1], ["a"], freq="h")
    sparse.loc[sparse.index % 3 < 2, "y"] = np.nan
    make_forecaster("zero", 3).fit(sparse).predict(sparse)


def weeks_beside_days():
    """Thirty days of one series, and seven weeks of another one."""
    dense = long_table(VALUES[:1, :30], ["dense"], freq="D")
    return pd.concat([dense, long_table(VALUES[:1, :7], ["sparse"], freq="7D")])


def test_sparse_series_of_a_fit_stand_alone():
    table = weeks_beside_days()
    sparse = table["unique_id"] == "sparse"
    model = make_forecaster("zero", 3, freq="D").fit(table)
    answer = model.predict(table[sparse])
    whole = model.predict().query("unique_id == 'sparse'").reset_index(drop=True)
    pd.testing.assert_frame_equal(answer, whole, rtol=1e-4)
    # Two values alone show no frequency.
    rare = make_forecaster("zero", 3, freq="D").fit(table[~sparse | (table["ds"] < "2024-01-10")])
    with pytest.raises(ValueError, match="the new values lie 7 or more of its steps apart"):
        rare.predict(table[sparse])


def test_chunks_of_a_table_have_sparse_series_as_the_table_has():
    table = weeks_beside_days()
    model = make_forecaster("zero", 3, freq="D").fit(table[table["unique_id"] == "dense"])
    chunks = predict_many(model, table, n_chunks=2)
    pd.testing.assert_frame_equal(chunks, model.predict(table), rtol=1e-4)


def test_a_future_table_needs_the_names_of_the_table():
    table = long_table(VALUES[:2], ["a", "b"]).assign(promo=0.0)
    later = long_table(VALUES[:2, :3], ["a", "b"], start=table["ds"].max() + pd.Timedelta(1, "D"))
    later = later.drop(columns="y").assign(promo=0.0)
    message = "column 'ds' is missing from future=, .*'date'.*rename or add it"
    with pytest.raises(ValueError, match=message):
        forecast(table, 3, future=later.rename(columns={"ds": "date"}))


def test_a_file_of_another_frequency_is_refused(tmp_path):
    from tsattn.batches import forecast_file

    long_table(VALUES[:2], ["a", "b"]).to_parquet(tmp_path / "days.parquet")
    model = make_forecaster("zero", 3).fit(long_table(VALUES[:2], ["a", "b"], freq="h"))
    with pytest.raises(ValueError, match="frequency 'h'; the new values lie 24"):
        forecast_file(model, tmp_path / "days.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_rows_that_skip_days_name_the_rows_between(layout):
    frame = long_table(VALUES[:2], ["a", "b"])
    days = sorted(frame["ds"].unique())
    old, new = frame[frame["ds"] < days[50]], frame[frame["ds"] >= days[52]]
    between = frame[frame["ds"].isin(days[50:52])]
    if layout == "wide":
        old, between, new = (
            table.pivot(index="ds", columns="unique_id", values="y")
            for table in (old, between, new)
        )
    model = linear(missing="error").fit(old)
    message = r"series 'a' \(and 1 more\): gap: the rows known"
    with pytest.raises(ValueError, match=message) as gap:
        model.update(new)
    with pytest.warns(UserWarning, match=f"{message} .*; they count as missing"):
        unasked = linear().fit(old).update(new).predict()
    assert f"give the rows from {days[50]} to {days[51]} too, or" in str(gap.value)
    after = linear().fit(old).update(pd.concat([between, new])).predict()
    call = re.search(r"first call (.*)$", str(gap.value))[1]
    eval(f"model.{call}", {"model": model})
    filled = model.update(new).predict()
    pd.testing.assert_frame_equal(filled, unasked)
    same_stamps = filled["ds"].equals(after["ds"]) if layout == "long" else True
    assert same_stamps
    assert filled.index.equals(after.index)


def test_a_gap_in_rows_for_a_fitted_forecaster_gets_advice_that_it_takes():
    frame = long_table(VALUES[:2], ["a", "b"])
    model = linear(missing="error").fit(frame)
    with pytest.raises(ValueError, match="gap: there is no row at") as gap:
        model.predict(frame.drop(index=frame.index[30]))
    assert "freq=" not in str(gap.value)
    call = re.search(r", as (set_params\(.*?\)) of the fitted", str(gap.value))[1]
    eval(f"model.{call}", {"model": model})
    assert model.predict(frame.drop(index=frame.index[30])).notna().all(axis=None)


def test_new_rows_without_ids_are_refused_where_the_fit_has_ids():
    days = pd.date_range("2024-01-01", periods=9)
    one_series = pd.DataFrame({"ds": days, "y": np.arange(9.0)})
    later = pd.DataFrame({"ds": days[-1:] + pd.Timedelta("1D"), "y": 9.0})
    both_series = pd.concat([one_series.assign(unique_id="a"), one_series.assign(unique_id="b")])
    model = make_forecaster("naive", 1).fit(both_series)
    with pytest.raises(ValueError, match=r"no column 'unique_id', by which .* add it"):
        model.update(later)
    assert model.update(later.assign(unique_id="b")).predict()["naive"].tolist() == [8.0, 9.0]
    # One series without a name goes on without one.
    assert make_forecaster("naive", 1).fit(one_series).update(later).predict()[
        "naive"
    ].tolist() == [9.0]


def test_new_rows_without_a_column_of_the_fit_name_it():
    frame = wide_table(VALUES.T, ["a", "b", "c", "d"])
    old, new = frame[:-NEW_ROWS], frame[-NEW_ROWS:]
    first, *others = "abcd"
    model = linear(missing="error").fit(old)
    with pytest.raises(ValueError, match="the new rows have no column 'a', which") as caught:
        model.update(new.drop(columns=first))
    call = re.search(r"first call (set_params\(.*\))$", str(caught.value))[1]
    eval(f"model.{call}", {"model": model})
    answer = model.update(new.drop(columns=first)).predict()
    expected = linear().fit(old).update(new).predict()
    pd.testing.assert_frame_equal(answer[others], expected[others])


@pytest.mark.parametrize(
    ("ids", "later"),
    [
        (["001", "002", "X3"], {"001": 1, "002": 2}),
        (["1", "2", "X3"], {"1": 1.0, "2": 2.0}),
        (["1.0", "2.0", "X3"], {"1.0": 1, "2.0": 2}),
    ],
)
def test_numbers_name_the_series_whose_text_spells_them(ids, later):
    old, new = split(long_table(VALUES[:3], ids))
    new = new[new["unique_id"] != "X3"]
    numbers = new.assign(unique_id=new["unique_id"].map(later))
    answer = linear().fit(old).update(numbers).predict()
    pd.testing.assert_frame_equal(answer, linear().fit(old).update(new).predict())
    assert answer["unique_id"].unique().tolist() == ids


def test_a_number_that_several_texts_spell_names_a_new_series():
    old, new = split(long_table(VALUES[:2], ["01", "001"]))
    numbers = new[new["unique_id"] == "01"].assign(unique_id=1.0)
    answer = make_forecaster("zero", 7).fit(old).update(numbers).predict()
    assert answer["unique_id"].unique().tolist() == ["001", "01", "1"]


def test_a_future_table_may_name_series_by_the_numbers_that_their_texts_spell():
    table = long_table(VALUES[:2], ["001", "002"]).assign(promo=np.arange(2.0 * ROWS) % 2)
    later = long_table(VALUES[:2, :3], ["001", "002"], start="2024-03-01").drop(columns="y")
    later = later.assign(promo=1.0)
    numbers = later.astype({"unique_id": int})
    expected = forecast(table, 3, future=later)
    pd.testing.assert_frame_equal(forecast(table, 3, future=numbers), expected)


def keyed(start="2024-01-01", n=40):
    parts = [
        pd.DataFrame({"shop": shop, "item": item, "ds": pd.date_range(start, periods=n)})
        for shop in ("001", "002")
        for item in (7, 8)
    ]
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(y=np.arange(len(frame)) % 11.0, promo=np.arange(len(frame)) % 3 // 2)


@pytest.mark.parametrize(
    "spelling",
    [
        {"shop": int},
        {"shop": float, "item": str},
        {"item": lambda item: f"{item:03}"},
        {"shop": int, "item": lambda item: f"{item:04}"},
    ],
    ids=["numbers", "swapped", "text", "both"],
)
def test_each_of_several_keys_may_lose_or_gain_zeros_in_a_later_table(spelling):
    schema = Schema(id_col=["shop", "item"], future_cols=["promo"])
    old, later = keyed(), keyed("2024-02-10", 5)
    other = later.assign(**{key: later[key].map(write) for key, write in spelling.items()})
    future = keyed("2024-02-15", 2).drop(columns="y")
    ahead = future.assign(**{key: future[key].map(write) for key, write in spelling.items()})
    fitted = make_forecaster("zero", 2, schema=schema).fit(old)
    same = copy.deepcopy(fitted)
    expected = fitted.update(later).predict(future=future)
    answer = same.update(other).predict(future=ahead)
    pd.testing.assert_frame_equal(answer, expected)
    assert answer["shop"].unique().tolist() == ["001", "002"]
    assert answer["item"].dtype == np.int64
    chunks = predict_many(fitted, pd.concat([old, later]), future=ahead, n_chunks=2)
    pd.testing.assert_frame_equal(chunks, expected)


@pytest.mark.parametrize("names", [["a", "b"], ["a"], ["y"]])
@pytest.mark.parametrize(
    "stamps",
    [
        1_600_000_000 + 3600 * np.arange(ROWS),
        pd.date_range("2024-01-01", periods=ROWS).strftime("%Y%m%d").astype(int),
    ],
    ids=["epoch", "dates"],
)
def test_one_row_has_its_stamp_in_the_column_of_the_fit(stamps, names):
    wide = pd.DataFrame({"when": stamps, **dict(zip(names, VALUES, strict=False))})
    fitted = make_forecaster("zero", 2).fit(wide[:-1])
    expected = make_forecaster("zero", 2).fit(wide).predict()
    pd.testing.assert_frame_equal(fitted.update(wide[-1:]).predict(), expected)


def test_texts_name_the_number_that_they_spell_where_one_of_them_does():
    old, new = split(long_table(VALUES[:2], [1, 2]))
    fitted = make_forecaster("zero", 7).fit(old)
    expected = fitted.update(new).predict()
    texts = new.assign(unique_id=new["unique_id"].map({1: "001", 2: "02"}))
    answer = make_forecaster("zero", 7).fit(old).update(texts).predict()
    assert answer["unique_id"].tolist() == expected["unique_id"].tolist()
    np.testing.assert_array_equal(answer["zero"], expected["zero"])
    # Two texts of one number are two series.
    texts = new.assign(unique_id=new["unique_id"].map({1: "001", 2: "01"}))
    answer = make_forecaster("zero", 7).fit(old).update(texts).predict()
    assert {*answer["unique_id"]} == {1, 2, "001", "01"}
    texts = new.assign(unique_id=new["unique_id"].map({1: "001", 2: "1"}))
    answer = make_forecaster("zero", 7).fit(old).update(texts).predict()
    assert {*answer["unique_id"]} == {1, 2, "001"}


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
def test_stamps_may_name_series(tz):
    cohorts = pd.date_range("2020-01-01", periods=2, freq="MS", tz=tz)
    old, new = split(long_table(VALUES[:2], cohorts))
    fitted = make_forecaster("zero", 7).fit(old)
    updated = fitted.update(new)
    expected = make_forecaster("zero", 7).fit(old).predict(pd.concat([old, new]))
    pd.testing.assert_frame_equal(updated.predict(), expected)


def test_whole_numbers_and_their_text_name_the_same_columns():
    old, new = wide_table(VALUES.T, [1, 2, 3, "d"])[:-NEW_ROWS], wide_table(VALUES.T, [*"123d"])
    for model in (linear(), make_forecaster("zero", 7)):
        answer = model.fit(old).update(new[-NEW_ROWS:]).predict()
        expected = model.fit(old).update(new[-NEW_ROWS:].set_axis(old.columns, axis=1)).predict()
        pd.testing.assert_frame_equal(answer, expected)
        assert answer.columns.tolist() == [1, 2, 3, "d"]


def one_series(name, layout):
    """Two parts of a series that no id names."""
    whole = wide_table(VALUES[:1].T, [name])
    if layout == "series":
        whole = whole[name]
    elif layout == "column":
        whole = whole.rename_axis("ds").reset_index()
    return whole[:-NEW_ROWS], whole[-NEW_ROWS:]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("fitted", "later", "layout"),
    [
        ("sales", None, "series"),
        (None, "sales", "series"),
        ("sales", "y", "column"),
        ("y", "sales", "column"),
    ],
)
def test_a_series_without_a_name_continues_the_only_one(fitted, later, layout):
    old, new = one_series(fitted, layout)[0], one_series(later, layout)[1]
    same = one_series(fitted, layout)[1]
    for model in (linear(), make_forecaster("zero", 7)):
        answer = model.fit(old).update(new).predict()
        pd.testing.assert_frame_equal(answer, model.fit(old).update(same).predict())


@pytest.mark.parametrize("layout", ["series", "column"])
def test_a_series_of_another_name_continues_the_only_one_with_a_warning(layout):
    old, same = one_series("sales", layout)
    new = one_series("turnover", layout)[1]
    model = make_forecaster("zero", 7).fit(old)
    with pytest.warns(UserWarning, match="values 'turnover', and continue the .*, 'sales'; if"):
        answer = model.update(new).predict()
    pd.testing.assert_frame_equal(answer, model.fit(old).update(same).predict())


@pytest.mark.parametrize(("fitted", "later"), [("abc", "xy"), ("abc", "x"), ("a", "xy")])
def test_new_rows_of_other_columns_are_refused(fitted, later):
    wide = wide_table(VALUES.T, [*"abcd"])
    old = wide[[*fitted]][:-NEW_ROWS]
    new = wide.iloc[-NEW_ROWS:, : len(later)].set_axis([*later], axis=1)
    model = make_forecaster("zero", 7).fit(old)
    before = model.predict()
    message = re.escape(
        f"columns {[*later]!r}, none of which is among the series of the fit, {[*fitted]!r}"
    )
    with pytest.raises(ValueError, match=message + "; give them the names of the fit"):
        model.update(new)
    pd.testing.assert_frame_equal(model.predict(), before)


def test_an_absent_column_of_a_wide_table_is_told_where_it_is_left_out():
    wide = wide_table(VALUES[:3].T, [*"abc"])
    old, new = wide[:-NEW_ROWS], wide[-NEW_ROWS:].drop(columns="b")
    with pytest.warns(UserWarning, match="have no column 'b', which the .*; they count as missing"):
        make_forecaster("zero", 7).fit(old).update(new)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_forecaster("zero", 7, missing="mask").fit(old).update(new)


def with_columns():
    """Two series with a future column of numbers and a past column of words."""
    frame = long_table(VALUES[:2], ["a", "b"])
    day = frame.groupby("unique_id").cumcount()
    words = day.map(lambda number: "abc"[number % 3])
    return frame.assign(promo=day % 5.0, word=words)


@pytest.mark.filterwarnings("ignore::tsattn.checks.InputWarning")
@pytest.mark.parametrize("name", ["zero", "least_squares"])
@pytest.mark.parametrize("column", ["promo", "word"])
def test_blank_columns_of_new_rows_take_the_values_before_them(name, column):
    old, new = split(with_columns())
    new = new[new["ds"] == new["ds"].min()]
    after = long_table(VALUES[:2, :2], ["a", "b"], start=new["ds"].max() + pd.Timedelta("1D"))
    future = after.drop(columns="y").assign(promo=1.0)
    ids = new["unique_id"]
    for blanks in (ids == "a", ids.notna()):
        later = new.assign(**{column: new[column].mask(blanks)})
        model = make_forecaster(name, 2, past_cols=["word"], future_cols=["promo"]).fit(old)
        whole_frame = pd.concat([old, later])
        rows = to_long(model.series(whole_frame).last(NEW_ROWS))
        expected = model.predict(whole_frame, future=future)
        with pytest.warns(UserWarning, match=f"'{column}' is missing .* take the value before"):
            model.update(later)
        pd.testing.assert_frame_equal(to_long(model.panel_.last(NEW_ROWS)), rows)
        pd.testing.assert_frame_equal(model.predict(future=future), expected)


def test_columns_of_a_network_may_be_blank_in_new_rows():
    old, new = split(with_columns())
    later = new[new["ds"] == new["ds"].min()].assign(word=None)
    settings = {"context": 16, "past_cols": ["word"], "max_epochs": 1, "random_state": 0}
    model = make_forecaster("mlr", 2, missing="ffill", **settings).fit(old)
    expected = model.predict(pd.concat([old, later]))
    pd.testing.assert_frame_equal(model.update(later).predict(), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layout", ["long", "wide"])
@pytest.mark.parametrize("missing", [None, "ffill", "interpolate"])
@pytest.mark.parametrize("name", ["zero", "least_squares"])
def test_the_first_new_rows_may_hold_no_value(name, missing, layout):
    old, new = split(long_table(VALUES[:2], ["a", "b"]))
    days = sorted(new["ds"].unique())
    blanks = {
        "a start": (new["ds"] <= days[1]) & (new["unique_id"] == "b"),
        "a day": new["ds"] == days[0],
        "all": new["ds"] >= days[0],
    }
    for blank in blanks.values():
        later = new.assign(y=new["y"].mask(blank))
        whole_frame = pd.concat([old, later])
        tables = [old, later, whole_frame]
        if layout == "wide":
            tables = [wide_of(table) for table in tables]
        fitted, added, joined = tables
        model = make_forecaster(name, 7, missing=missing).fit(fitted)
        expected = model.predict(joined)
        pd.testing.assert_frame_equal(model.update(added).predict(), expected)


def test_first_new_rows_without_a_value_are_told_or_refused():
    old, new = split(long_table(VALUES[:1]).drop(columns="unique_id"))
    later = new.assign(y=[np.nan, *new["y"][1:]])
    nothing = new.assign(y=np.nan)
    with pytest.warns(UserWarning, match=f"no value at {new['ds'].min()}, the first of the new"):
        linear().fit(old).update(later)
    with pytest.warns(UserWarning, match="the table has no value in the new rows; they count"):
        linear().fit(old).update(nothing)
    with pytest.warns(UserWarning, match="no series has a value in the last 10 rows"):
        make_forecaster("zero", 7).fit(old).update(nothing)
    for rows in (later, nothing):
        with pytest.raises(ValueError, match=r"'y' is missing .* missing='error' allows no"):
            linear(missing="error").fit(old).update(rows)
    blank = new.assign(promo=np.nan)
    model = linear(missing="error", past_cols=["promo"]).fit(old.assign(promo=1.0))
    with pytest.raises(ValueError, match="a covariate needs a value in every row; fill it in, or"):
        model.update(blank)


def test_a_new_series_needs_a_value_in_its_first_row():
    old, new = split(with_columns())
    fitted = make_forecaster("zero", 2, missing="ffill", past_cols=["promo"]).fit(old)
    other = new.assign(unique_id="c")
    is_first = other["ds"] == other["ds"].min()
    other = other.drop_duplicates("ds")
    with pytest.raises(ValueError, match=r"'c': column 'y' is missing .* at its first stamp"):
        fitted.update(other.assign(y=other["y"].mask(is_first)))
    with pytest.raises(ValueError, match=r"'c': column 'promo' .* nothing stands before it"):
        fitted.update(other.assign(promo=other["promo"].mask(is_first)))


@pytest.mark.filterwarnings("ignore::tsattn.checks.InputWarning")
def test_numbers_for_missing_values_leave_the_first_new_rows_blank():
    old, new = split(with_columns())
    is_first = new["ds"] == new["ds"].min()
    is_last = new["ds"] == new["ds"].max()
    blank = new.assign(y=new["y"].mask(is_first), promo=new["promo"].mask(is_first))
    later = blank.assign(
        y=blank["y"].mask(is_last, -9999.0), promo=blank["promo"].mask(is_last, -9999.0)
    )
    whole_frame = pd.concat([old, later])
    model = make_forecaster("zero", 2, missing="ffill", past_cols=["promo"]).fit(old)
    rows = to_long(model.series(whole_frame))
    pd.testing.assert_frame_equal(to_long(model.update(later).panel_), rows)


def as_columns(values):
    return pd.DataFrame({"a": values, "b": [2.0 * value for value in values]})


def as_rows(values):
    return np.array([values, values]).T


@pytest.mark.parametrize(
    "shape", [list, tuple, np.array, pd.Series, pd.DataFrame, as_columns, as_rows]
)
@pytest.mark.parametrize("name", ["zero", "least_squares", "seasonal_naive"])
def test_rows_without_stamps_follow_those_of_the_fit(name, shape):
    values = VALUES[0].tolist()
    model = make_forecaster(name, 7).fit(shape(values[:-NEW_ROWS]))
    expected = model.predict(shape(values))
    for part in (values[-NEW_ROWS:-1], values[-1:]):
        model.update(shape(part))
    pd.testing.assert_frame_equal(model.predict(), expected)


@pytest.mark.filterwarnings("ignore:left out:UserWarning")
def test_rows_without_stamps_may_hold_missing_values():
    wide = as_columns(VALUES[0].tolist())
    new = wide[-2:].reset_index(drop=True)
    tables = [
        new.assign(a=[np.nan, 1.0]),
        new.assign(b=np.nan),
        new.assign(c=np.nan),
    ]
    for later in tables:
        model = make_forecaster("zero", 7).fit(wide[:-2])
        expected = model.predict(pd.concat([wide[:-2], later], ignore_index=True))
        pd.testing.assert_frame_equal(model.update(later).predict(), expected)


def test_numbers_of_rows_say_where_these_belong():
    values = VALUES[0].tolist()
    model = make_forecaster("naive", 1).fit(values[:-NEW_ROWS])
    expected = model.predict(values)
    whole = pd.Series(values)
    # The rest, the whole table, and the rest with known rows before it.
    for rows in (whole[-NEW_ROWS:], whole, whole[-NEW_ROWS - 5 :]):
        later = make_forecaster("naive", 1).fit(values[:-NEW_ROWS]).update(rows)
        pd.testing.assert_frame_equal(later.predict(), expected)
        assert later.panel_.values[:, 0].tolist()[-NEW_ROWS:] == values[-NEW_ROWS:]
    zero = make_forecaster("zero", 1).fit(values)
    zero.update(pd.Series([7.0, 8.0], index=[0, 1]))
    assert zero.panel_.values[:3, 0].tolist() == [7.0, 8.0, values[2]]
    timed = pd.DataFrame({"ds": range(ROWS), "y": values})
    zero = make_forecaster("zero", 1).fit(timed).update(timed[:2].assign(y=[7.0, 8.0]))
    assert zero.panel_.values[:3, 0].tolist() == [7.0, 8.0, values[2]]


@pytest.mark.parametrize("case", ["corrected", "constant"])
def test_rows_that_may_follow_or_begin_with_those_of_the_fit_are_refused(case):
    values = VALUES[0].tolist() if case == "corrected" else [1.0] * ROWS
    model = make_forecaster("zero", 1).fit(values[:-2])
    later = [51.0, *values[1:]] if case == "corrected" else values
    with pytest.raises(ValueError, match=r"60 new rows have no stamps, and 5[78] of 58") as caught:
        model.update(later)
    numbers = re.search(r"index, (range.*) where they follow, or (list.*) where", str(caught.value))
    for text, n_rows in zip(numbers.groups(), (2 * ROWS - 2, ROWS), strict=True):
        fitted = make_forecaster("zero", 1).fit(values[:-2])
        fitted.update(pd.Series(later, index=eval(text)))
        rows = fitted.panel_.values[:, 0].tolist()
        assert (len(rows), rows[-ROWS:]) == (n_rows, later)


def test_more_rows_than_those_of_the_fit_may_follow_it():
    values = VALUES[0].tolist()
    model = make_forecaster("zero", 1).fit(values[:10]).update(values[10:])
    assert model.panel_.values[:, 0].tolist() == values


@pytest.mark.parametrize(
    ("place", "end"), [("index", "2024-01-03 11:00:00"), ("ds", "2024-02-29 00:00:00"), ("ds", 59)]
)
def test_rows_without_stamps_are_refused_after_rows_with_some(place, end):
    fitted = wide_table(VALUES[:1].T, ["y"])["y"]
    where = "their index"
    if place == "ds":
        fitted = long_table(VALUES[:1]).drop(columns="unique_id")
        where = "a column 'ds'"
    if end == ROWS - 1:
        fitted = fitted.assign(ds=range(ROWS))
    message = f"no stamps, and the rows known end at {end}; give the stamps of the new ones in"
    with pytest.raises(ValueError, match=f"{message} {where}"):
        make_forecaster("zero", 7).fit(fitted).update([1.0, 2.0])


def test_rows_without_stamps_are_refused_after_series_of_unlike_ends():
    wide = to_panel(as_columns(VALUES[0].tolist()))
    model = make_forecaster("zero", 7).fit(wide.until(np.array([ROWS, ROWS - 3])))
    with pytest.raises(ValueError, match="end at rows from 56 to 59; number the new ones by an"):
        model.update(as_columns([1.0]))
    model.update(as_columns([1.0]).set_axis([ROWS]))


class SlowNaive(SeasonalNaive):
    def _continued(self, panel):
        time.sleep(0.02)
        return super()._continued(panel)


def test_threads_that_update_one_forecaster_lose_no_rows():
    frame = long_table(VALUES, range(4))
    old, new = split(frame)
    parts = [part for _, part in new.groupby("unique_id")]
    forecaster = SlowNaive(7, season_length=7).fit(old)
    with ThreadPoolExecutor(len(parts)) as pool:
        [*pool.map(forecaster.update, parts)]
    pd.testing.assert_frame_equal(forecaster.predict(), forecaster.predict(frame))


@pytest.mark.parametrize("method", ["update", "predict"])
@pytest.mark.parametrize("column", ["shop", "date", "sales"])
def test_a_column_that_the_fit_named_can_be_renamed(column, method):
    days = pd.date_range("2024-01-01", periods=60, name="date")
    df = pd.DataFrame({"shop": "a", "date": days, "sales": np.arange(60.0) % 7})
    schema = Schema(id_col="shop", time_col="date", target_col="sales")
    model = SeasonalNaive(7, schema=schema).fit(df[:40])
    new = df[40:].rename(columns={column: column.capitalize()})
    remedy = "; the fit had it, so rename a column to it, or add it"
    with pytest.raises(ValueError, match=f"column '{column}' is missing .*{remedy}"):
        getattr(model, method)(new)
    getattr(model, method)(new.rename(columns={column.capitalize(): column}))


@pytest.mark.parametrize(
    ("start", "is_told"), [("2024-03-04", False), ("2024-04-30", True), ("2026-03-04", True)]
)
def test_two_new_rows_far_from_those_known_are_told(start, is_told):
    df = long_table([np.arange(60.0) % 7], ["a"], end="2024-03-01")
    model = make_forecaster("zero", horizon=7).fit(df)
    new = long_table([[3.0, 4.0]], ["a"], end=pd.Timestamp(start) + pd.Timedelta(days=1))
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.update(new)
    gaps = [str(w.message) for w in record if f"those of update begin at {start}" in str(w.message)]
    assert bool(gaps) == is_told


@pytest.mark.parametrize(("end", "is_told"), [("2023-12-31", False), ("2022-03-04", True)])
def test_rows_far_before_those_known_are_told(end, is_told):
    df = long_table([np.arange(60.0) % 7] * 2, ["a", "b"], end="2024-03-01")
    model = make_forecaster("zero", horizon=7).fit(df)
    new = pd.concat(
        [
            long_table([np.arange(9.0)], ["a"], end="2024-03-04"),
            long_table([np.arange(20.0) % 7], ["b"], end=end),
        ]
    )
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        model.update(new)
    told = f"series 'b': the new rows end at {end} 00:00:00, before the first row known, 2024-01-02"
    assert any(told in str(w.message) for w in record) == is_told
