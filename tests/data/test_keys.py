"""Series that several columns name together, given or found."""

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import tsattn
from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.calendar import ticks
from tsattn.data.columns import read_stamps
from tsattn.data.frames import from_long, to_long, to_panel
from tsattn.data.joining import continued_panel
from tsattn.data.keys import find_blocks, find_keys, join_keys, key_values, split_ids
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal

DAYS = pd.date_range("2024-01-01", periods=30)
NAMED = Schema(id_col=["store", "item"], time_col="date", target_col="sales")
FOUND = r"values of 'store' and 'item' tell series apart, and 'sales' is forecast"


def shops(*, stores=(1, 2, 10), items=("A", "B/x"), **more):
    """Sales by store and item; each series has a level of its own."""
    rows = [
        (store, item, day, 100 * s + 10 * i + day.dayofweek)
        for s, store in enumerate(stores)
        for i, item in enumerate(items)
        for day in DAYS
    ]
    return pd.DataFrame(rows, columns=["store", "item", "date", "sales"]).assign(**more)


def promoted():
    frame = shops()
    rng = np.random.default_rng(0)
    return frame.assign(
        promo=rng.integers(0, 2, len(frame)), price=rng.normal(5, 1, len(frame)).round(2)
    )


def keys_of(panel):
    return panel.dialect.key_cols or panel.dialect.id_col


def test_several_columns_name_series():
    panel = from_long(shops(), NAMED)
    assert panel.n_series == 6
    # In the order of the keys, not of their text.
    assert panel.ids.tolist() == ["1/A", "1/B\\/x", "2/A", "2/B\\/x", "10/A", "10/B\\/x"]
    back = to_long(panel)
    pd.testing.assert_frame_equal(back, shops().astype({"sales": float}))


def test_rows_that_occur_twice_hide_no_keys():
    frame = shops()
    twice = pd.concat([frame, frame.iloc[[3, 40]]])
    with (
        pytest.warns(UserWarning, match=FOUND),
        pytest.raises(ValueError, match=r"duplicate stamp.*drop_duplicates\(\['store', 'item'"),
    ):
        to_panel(twice)
    with pytest.raises(ValueError, match=r"\['store', 'item'\] tell the rows apart: pass id_col="):
        from_long(twice, NAMED.changed(id_col="store"))
    # Rows of which the keys say all differ by nothing else.
    with pytest.raises(ValueError, match=r"duplicate stamp.*drop_duplicates"):
        from_long(twice.assign(note="x"), NAMED)
    unhashable = twice.assign(tags=[["x"]] * len(twice))
    assert find_keys(unhashable, unhashable["date"], ["store", "item"]) == ()


@pytest.mark.filterwarnings("ignore:the values of")
def test_whole_floats_name_series():
    """pandas reads whole numbers as floats where a cell of their column was empty in the file."""
    frame = shops().astype({"store": float})
    panel = to_panel(frame)
    assert panel.dialect.key_cols == ("store", "item")
    assert panel.ids[0] == "1/A"
    pd.testing.assert_frame_equal(to_long(panel), frame.astype({"sales": float}))
    assert to_panel(frame[frame["item"] == "A"].drop(columns="item")).n_series == 3
    half = frame.assign(store=frame["store"] + 0.5)
    assert find_keys(half, half["date"], ["store", "item"]) == ()


@pytest.mark.parametrize("value", [np.nan, None])
def test_keys_without_a_value_are_refused(value):
    frame = shops().astype({"store": object if value is None else float})
    frame.loc[[5, 9], "store"] = value
    with pytest.raises(
        ValueError, match=r"'store' has no id in row 5 \(and 1 more\).* fill in or drop"
    ):
        to_panel(frame)
    with pytest.raises(ValueError, match="'store' has no id in row 5"):
        from_long(frame, NAMED)
    # A column that no series needs may have gaps.
    noted = shops(note=None)
    noted.loc[3, "note"] = "sale"
    assert find_keys(noted, noted["date"], ["note", "store", "item"]) == ("store", "item")


@pytest.mark.parametrize(
    "values",
    [
        {"store": ["a", "a/"], "item": ["/b", "b"]},
        {"store": ["a\\", "a"], "item": ["b", "\\/b"]},
        {"store": ["", "x"], "item": ["y", ""]},
        {"store": [True, False], "item": [1.5, -2.0]},
        {"store": pd.to_datetime(["2024-01-01", "2024-01-02"]), "item": ["b", "c"]},
        {"store": pd.Categorical(["b", "a"], ["b", "a", "z"]), "item": [3, 2]},
        {"store": [1, "a"], "item": [Decimal("1.5"), b"x"]},
        {"store": pd.Categorical([2.0, "a"]), "item": [(1, 2), pd.Timestamp("2024-01-01")]},
    ],
)
def test_keys_come_back_as_they_were(values):
    frame = pd.DataFrame(values)
    joined, name = join_keys(frame, ("store", "item"))
    assert joined[name].nunique() == 2
    values = [key_values(frame[key]) for key in frame]
    back = split_ids(joined[name].tolist(), ("store", "item"), tuple(frame.dtypes), values)
    pd.testing.assert_frame_equal(pd.DataFrame(back), frame)
    assert all([*map(type, back[key])] == [*map(type, frame[key])] for key in frame)
    assert list(frame) == ["store", "item"]


def test_keys_of_several_types_are_kept_in_files_and_by_new_rows(tmp_path):
    frame = shops()
    frame["store"] = frame["store"].map({1: 1, 2: 2.5, 10: "a"}.get).astype(object)
    fitted = make_forecaster("naive", 2, schema=NAMED).fit(frame)
    answer = fitted.predict()
    assert answer["store"].unique().tolist() == [1, 2.5, "a"]
    fitted.save(tmp_path / "m")
    loaded = load_forecaster(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), answer)
    later = frame.groupby(["store", "item"]).tail(1)
    later = later.assign(date=later["date"] + pd.Timedelta(days=1))
    new_store = frame[frame["store"] == 1].assign(store="b")
    both = continued_panel(loaded.panel_, to_panel(pd.concat([later, new_store]), NAMED))
    assert to_long(both)["store"].unique().tolist() == [1, 2.5, "a", "b"]


@pytest.mark.parametrize(
    "typed",
    [
        lambda df: df.convert_dtypes(),
        lambda df: df.convert_dtypes(dtype_backend="pyarrow"),
        lambda df: df.astype({"store": "category", "item": "string"}),
        lambda df: df.astype({"store": pd.CategoricalDtype([10, 2, 1], ordered=True)}),
    ],
    ids=["nullable", "arrow", "categories of numbers", "ordered"],
)
def test_keys_keep_their_types_in_files_and_by_new_rows(typed, tmp_path):
    frame = typed(shops())
    fitted = make_forecaster("naive", 2, schema=NAMED).fit(frame)
    answer = fitted.predict()
    fitted.save(tmp_path / "m")
    loaded = load_forecaster(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), answer)
    assert answer.dtypes[["store", "item"]].equals(frame.dtypes[["store", "item"]])
    later = frame.assign(date=frame["date"] + pd.Timedelta(days=30))
    updated = loaded.update(later).predict()
    assert updated.dtypes.equals(answer.dtypes)


@pytest.mark.parametrize("kind", ["string[pyarrow]", "dictionary"])
def test_ids_of_arrow_are_loaded(kind, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    types = {"dictionary": pyarrow.dictionary(pyarrow.int32(), pyarrow.string())}
    dtype = pd.ArrowDtype(types.get(kind, pyarrow.string()))
    frame = pd.DataFrame({"ds": DAYS, "y": np.arange(30.0)})
    frame["unique_id"] = pd.array(["a"] * 30, dtype=dtype)
    fitted = make_forecaster("naive", 2).fit(frame)
    fitted.save(tmp_path / "m")
    answer = load_forecaster(tmp_path / "m").predict()
    pd.testing.assert_frame_equal(answer, fitted.predict(), check_dtype=kind != "dictionary")


def test_keys_of_the_same_text_are_refused():
    frame = shops()
    frame["store"] = frame["store"].map({1: 1, 2: 2, 10: "1"}.get).astype(object)
    with pytest.raises(ValueError, match=r"'store' holds .* are the same text, .* rename one"):
        to_panel(frame, NAMED)


def test_numbers_of_a_column_of_objects_come_back_as_numbers():
    frame = shops()
    frame["store"] = frame["store"].factorize()[0]
    answer = tsattn.forecast(frame.astype({"store": object}), 1, id_col=["store", "item"])
    assert answer.merge(frame, on=["store", "item"])["sales"].notna().sum() == len(frame)


@pytest.mark.parametrize(
    ("frame", "schema", "keys", "warned"),
    [
        (shops(), Schema(), ("store", "item"), FOUND),
        (shops(items=("A",)).drop(columns="item"), Schema(), "store", "'store' tell series apart"),
        (promoted(), Schema(target_col="sales"), ("store", "item"), FOUND),
        (shops().drop(columns="store").iloc[:60], Schema(), "item", None),
        (shops().rename(columns={"date": "ds", "sales": "y"}), Schema(), ("store", "item"), "'y'"),
        (shops().set_index("date"), Schema(), ("store", "item"), FOUND),
        # The number of a row names no series.
        (shops().assign(nr=range(180)), Schema(target_col="sales"), ("store", "item"), FOUND),
    ],
    ids=[
        "two",
        "one of integers",
        "target named",
        "one of text",
        "defaults",
        "index",
        "row number",
    ],
)
@pytest.mark.filterwarnings("ignore:the values of")
def test_keys_are_found_where_they_make_stamps_unique(frame, schema, keys, warned):
    if warned is None:
        panel = to_panel(frame, schema)
    else:
        with pytest.warns(UserWarning, match=warned):
            panel = to_panel(frame, schema)
    assert keys_of(panel) == keys


@pytest.mark.filterwarnings("ignore:the values of")
def test_the_simplest_keys_are_found():
    frame = shops().assign(
        state=lambda f: f["store"].map({1: "CA", 2: "CA", 10: "TX"}),
        weekday=lambda f: f["date"].dt.day_name(),
    )
    panel = to_panel(frame, Schema(target_col="sales"))
    assert keys_of(panel) == ("store", "item")
    assert find_keys(frame, frame["date"], ["weekday", "state"]) == ()


@pytest.mark.parametrize(
    ("frame", "schema", "message"),
    [
        (
            promoted(),
            Schema(),
            r"'store' and 'item' tell series apart, and \['sales', 'promo', 'price'\] hold numbers",
        ),
        (
            shops(),
            NAMED.changed(id_col="store"),
            r"series 1: stamp 2024-01-01 .* more than once.*pass id_col=\['store', 'item'\]",
        ),
        (
            shops(),
            Schema(id_col=None, time_col="date", target_col="sales"),
            r"the series: stamp 2024-01-01 .* pass id_col=\['store', 'item'\]",
        ),
        (shops(), NAMED.changed(id_col=["store", "goods"]), "column 'goods' is missing"),
        (
            shops(item=lambda f: f["item"].where(f.index > 0)),
            NAMED,
            "column 'item' has no id in row 0",
        ),
        (
            pd.concat([shops(), shops()[:1]]),
            NAMED,
            "series '1/A': duplicate stamp 2024-01-01 00:00:00",
        ),
    ],
    ids=["no target", "one key of two", "one series", "absent", "no value", "twice"],
)
def test_what_keys_do_not_tell_is_refused(frame, schema, message):
    with pytest.raises(ValueError, match=message):
        to_panel(frame, schema)


@pytest.mark.filterwarnings("ignore:the values of")
@pytest.mark.parametrize("name", ["Unnamed: 0", "index"])
def test_a_column_that_numbers_the_rows_is_no_target(name):
    frame = shops().reset_index(drop=True)
    frame.insert(0, name, frame.index)
    for schema in (Schema(), Schema(id_col=["store", "item"], time_col="date")):
        assert to_panel(frame, schema).dialect.target_col == "sales"


def test_two_equal_stamps_make_no_keys():
    # Counts are whole numbers that come again and again, too.
    frame = pd.DataFrame({"date": DAYS, "a": np.arange(30) % 5, "b": np.arange(30) % 3})
    with pytest.raises(ValueError, match="duplicate stamp 2024-01-01"):
        to_panel(pd.concat([frame, frame[:1].assign(a=4)]))


def test_answers_have_the_keys_of_the_table(tmp_path):
    forecaster = make_forecaster("seasonal_naive", 2, schema=NAMED).fit(shops())
    answer = forecaster.predict()
    assert list(answer) == ["store", "item", "date", "seasonal_naive"]
    assert answer["store"].tolist() == np.repeat([1, 2, 10], 4).tolist()
    assert answer["item"].tolist() == ["A", "A", "B/x", "B/x"] * 3
    forecaster.save(tmp_path / "m")
    loaded = load_forecaster(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), answer)
    one_series = shops(stores=(7,), items=("C",))
    assert loaded.predict(one_series)["store"].tolist() == [7, 7]
    frame = backtest(forecaster, shops(), n_windows=2, schema=NAMED).frame
    assert list(frame) == ["store", "item", "date", "cutoff", "sales", "seasonal_naive"]
    bands = SplitConformal(make_forecaster("seasonal_naive", 2, schema=NAMED), n_windows=4)
    assert list(bands.fit(shops()).predict(level=80))[:3] == ["store", "item", "date"]


@pytest.mark.filterwarnings("ignore:the values of")
def test_a_fit_fixes_the_columns_of_new_rows():
    forecaster = make_forecaster("dlinear", 2).fit(shops())
    # One series alone would be a wide table.
    one_series = shops(stores=(2,), items=("A",))
    answer = forecaster.predict(one_series)
    assert answer[["store", "item"]].to_numpy().tolist() == [[2, "A"], [2, "A"]]
    later = shops(stores=(2,), items=("A",)).assign(
        date=lambda f: f["date"] + pd.Timedelta(30, "D")
    )
    forecaster.update(later)
    ends = forecaster.predict().groupby(["store", "item"])["date"].max()
    assert ends[2, "A"] == pd.Timestamp("2024-03-02")
    assert ends[1, "A"] == pd.Timestamp("2024-02-01")


def test_future_columns_are_looked_up_by_all_keys():
    frame = shops(promo=lambda f: f["date"].dt.dayofweek % 2)
    schema = NAMED.changed(future_cols=["promo"])
    forecaster = make_forecaster("ridge", 2, context=4, schema=schema).fit(frame)
    rows = forecaster.make_future_frame()
    assert list(rows) == ["store", "item", "date", "promo"]
    assert len(rows) == 12
    answer = forecaster.predict(future=rows.assign(promo=1)[::-1])
    assert len(answer) == 12
    with pytest.raises(ValueError, match=r"series '10/B.*: column 'promo' of future= is missing"):
        forecaster.predict(future=rows.assign(promo=1)[:-1])
    for column in ("item", "date", "promo"):
        names = [name for name in rows if name != column]
        message = f"column '{column}' is missing from future=, which has the columns {names}; its"
        with pytest.raises(ValueError, match=re.escape(message)):
            forecaster.predict(future=rows.drop(columns=column))


def test_levels_of_an_index_are_keys():
    frame = shops().set_index(["store", "item", "date"])
    answer = tsattn.forecast(frame, 1, model="naive")
    assert list(answer) == ["store", "item", "date", "naive"]


def test_the_command_line_takes_several_columns(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shops().assign(item=lambda f: f["item"].map({"A": "007", "B/x": "7"})).to_csv(
        "t.csv", index=False
    )
    columns = ["--id-col", "store", "--id-col", "item", "--time-col", "date"]
    model = ["--horizon", "1", "--model", "naive"]
    code, out, err = run("forecast", "t.csv", *columns, "--target-col", "sales", *model)
    assert (code, err) == (0, "")
    assert out.splitlines()[:3] == [
        "store,item,date,naive",
        "1,007,2024-01-31,1.0",
        "1,7,2024-01-31,11.0",
    ]


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_codes_that_are_found_in_a_file_keep_their_zeros(tmp_path, run, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    frame = shops(stores=("007", "010")).assign(promo=lambda f: f["date"].dt.dayofweek % 2)
    future = frame[["store", "item", "date", "promo"]].assign(
        date=lambda f: f["date"] + pd.Timedelta(len(DAYS), "D")
    )
    for name, table in {"t": frame, "f": future}.items():
        if ending == "csv":
            table.to_csv(f"{name}.csv", index=False)
        else:
            table.to_excel(f"{name}.xlsx", index=False)
    promo = ["--future", f"f.{ending}", "--future-col", "promo", "--model", "least_squares"]
    code, out, err = run("forecast", f"t.{ending}", "--horizon", "1", *promo)
    assert (code, err.count("tell series apart")) == (0, 1)
    assert [line[:6] for line in out.splitlines()[1:]] == ["007,A,", "007,B/", "010,A,", "010,B/"]


def test_a_fitted_model_reads_codes_as_those_of_its_fit(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = shops(stores=("007", "010"), items=("NA", "B"))
    frame.to_csv("t.csv", index=False)
    frame[:30].to_csv("one.csv", index=False)
    columns = ["--id-col", "store", "--id-col", "item", "--target-col", "sales"]
    fit = ["fit", "t.csv", *columns, "--horizon", "1", "--model", "naive", "--out", "named"]
    assert run(*fit)[0] == 0
    shops(stores=("007", "010")).to_csv("t.csv", index=False)
    fit = ["fit", "t.csv", "--horizon", "1", "--model", "naive", "--out", "found"]
    assert run(*fit)[0] == 0
    for model in ("named", "found"):
        code, out, err = run("forecast", "one.csv", "--from", model)
        assert (code, err) == (0, "")
        assert out.splitlines()[1].startswith("007,NA,2024-01-31,")


def sensors(order, **more):
    """Two sensors, one of which measures half a day after the other."""
    parts = [
        pd.DataFrame({"sensor": name, "ds": DAYS[:20] + pd.Timedelta(12 * k, "h"), "y": 5.0 * k})
        for k, name in enumerate(["a", "b"])
    ]
    return pd.concat(parts).sort_values(order, kind="stable").assign(**more)


def test_series_below_one_another_are_not_mixed():
    with pytest.warns(UserWarning, match="values of 'sensor' tell series apart, and 'y' is"):
        answer = tsattn.forecast(sensors("sensor", note="x"), 1, model="naive")
    assert answer.values.tolist() == [
        ["a", pd.Timestamp("2024-01-21"), 0.0],
        ["b", pd.Timestamp("2024-01-21 12:00"), 5.0],
    ]


@pytest.mark.parametrize(
    "frame",
    [
        sensors("ds"),  # of one series with remarks
        sensors("sensor")[:20],
        sensors("sensor").assign(ds=pd.date_range("2024-01-01", periods=40)),
        sensors("sensor", other=lambda f: f["sensor"]),
        sensors("sensor").assign(sensor=lambda f: f["sensor"].where(f.index > 0)),
        sensors("sensor").assign(ds="at noon"),
    ],
    ids=["by time", "one value", "one after another", "two columns", "no id", "no times"],
)
def test_other_columns_of_text_name_no_series(frame):
    columns = ["sensor", *({"other"} & {*frame})]
    assert find_blocks(frame, columns, lambda: ticks(read_stamps(frame["ds"], "", str))) == ()


def test_a_key_of_one_value_and_empty_cells_is_told():
    with pytest.raises(ValueError, match="column 'item' has no id in row 0"):
        to_panel(shops(items=(None, "B")))


@pytest.mark.filterwarnings("ignore:the values of")
def test_columns_of_the_future_are_not_forecast():
    frame = shops(promo=lambda f: f["date"].dt.dayofweek % 2)
    rows = make_forecaster("naive", 2, schema=NAMED).fit(frame).predict()
    future = rows[["store", "item", "date"]].assign(promo=1)
    answer = tsattn.forecast(frame, 2, future=future, model="least_squares")
    assert list(answer) == ["store", "item", "date", "least_squares"]


@pytest.mark.parametrize("names", [("unique_id", "ds", "y"), ("shop", "date", "sold")])
def test_ids_and_days_of_merged_cells_are_repeated(names):
    id_col, time_col, target_col = names
    days = pd.date_range("2024-01-01", periods=20)
    one_series = pd.DataFrame({time_col: days, target_col: np.arange(20.0)})
    whole_frame = pd.concat(
        [one_series.assign(**{id_col: shop}) for shop in "ab"], ignore_index=True
    )
    by_days = whole_frame.sort_values([time_col, id_col], ignore_index=True)
    for table, merged in ((whole_frame, id_col), (by_days, time_col)):
        df = table.assign(**{merged: table[merged].where(~table[merged].duplicated())})
        with pytest.raises(
            ValueError, match="have each value repeated in the rows below"
        ) as caught:
            tsattn.forecast(df, 1, model="naive")
        call = re.search(r"below it: (df\[\S+ = \S+)", str(caught.value))[1]
        scope = {"df": df}
        exec(call, scope)
        pd.testing.assert_frame_equal(scope["df"], table)
    # A single empty cell belongs to no merged ones, also where each id differs from the one above.
    for table in (whole_frame, by_days):
        lacking = table.assign(**{id_col: table[id_col].where(table.index != 5)})
        with pytest.raises(ValueError, match=r"in row 5.*fill in or drop these rows"):
            tsattn.forecast(lacking, 1)


def test_the_column_that_is_proposed_is_no_mark_and_no_part_of_a_time():
    table = pd.DataFrame(
        {
            "Store": np.repeat([1, 2], 30),
            "DayOfWeek": [*DAYS.dayofweek + 1] * 2,
            "Open": 1,
            "Date": [*DAYS] * 2,
            "Sales": np.arange(60.0),
            "Customers": np.arange(60),
        }
    )
    with pytest.raises(ValueError, match=r"such as Schema\(target_col='Sales'\)"):
        tsattn.forecast(table, 1)
    marks = table[["Store", "Date", "DayOfWeek", "Open"]]
    with pytest.raises(ValueError, match=r"such as Schema\(target_col='DayOfWeek'\)"):
        tsattn.forecast(marks, 1)
    # Of one store it is a part of the times of another column.
    with pytest.raises(
        ValueError, match=r"'DayOfWeek' holds times.* drop the column, as"
    ) as caught:
        tsattn.forecast(table[:30], 1)
    call = re.search(r", as (df\.drop\S+) does", str(caught.value))[1]
    answer = tsattn.forecast(eval(call, {"df": table[:30]}), 1, model="naive")
    assert answer["Sales"].tolist() == [29.0]


def test_a_count_of_the_rows_of_each_series_is_not_proposed():
    table = pd.DataFrame(
        {
            "lfd. Nr.": [*range(1, 31)] * 2,
            "Filiale": ["Nord"] * 30 + ["Ost"] * 30,
            "Datum": [*DAYS] * 2,
            "Umsatz": np.arange(60.0),
        }
    )
    with pytest.raises(ValueError, match=r"such as Schema\(target_col='Umsatz'\)"):
        tsattn.forecast(table, 1)


def test_numbers_beside_words_for_missing_ones_are_proposed():
    one_series = pd.DataFrame({"date": DAYS, "value": ["..", *map(str, range(29))]})
    table = pd.concat([one_series.assign(country=name) for name in "AB"])
    with pytest.raises(ValueError, match=r"\['value'\] hold numbers and other text") as caught:
        tsattn.forecast(table, 1)
    assert "Schema(target_col='value')" in str(caught.value)


@pytest.mark.parametrize(
    "sales",
    [
        ["closed", *range(29)],
        ["closed", *map(str, range(29))],
        [f"{number},50 €" for number in range(30)],
        [f"1.{number}" for number in range(200, 230)],
    ],
)
def test_numbers_in_text_are_not_passed_over_for_another_column(sales):
    one_shop = pd.DataFrame({"date": DAYS, "sales": sales, "staff": [*range(3, 8)] * 6})
    table = pd.concat([one_shop.assign(shop=name) for name in "AB"])
    with pytest.raises(ValueError, match=r"\['sales', 'staff'\] hold numbers, but one column must"):
        tsattn.forecast(table, 1, model="naive")


@pytest.mark.parametrize(
    "remark", [["x"] * 29 + ["7"], [str(day.date()) for day in DAYS], ["10115"] * 30, ["07"] * 30]
)
def test_other_text_is_no_second_column_of_numbers(remark):
    one_shop = pd.DataFrame({"date": DAYS, "remark": remark, "sales": np.arange(30.0)})
    table = pd.concat([one_shop.assign(shop=name) for name in "AB"])
    with pytest.warns(UserWarning, match="and 'sales' is forecast"):
        answer = tsattn.forecast(table, 1, model="naive")
    assert answer["naive"].tolist() == [29.0, 29.0]


def test_ids_that_end_are_no_merged_cells():
    days = pd.date_range("2024-01-01", periods=9)
    table = pd.DataFrame({"shop": ["a"] * 9 + [None] * 9, "ds": [*days, *days], "y": 1.0})
    with pytest.raises(ValueError, match=r"no id in row 9 .*; fill in or drop these rows"):
        tsattn.forecast(table, 1, model="naive")


@pytest.mark.parametrize("id_col", [["store", "item"], ["store"], ("store", "item"), []])
def test_scikit_learn_clones_a_forecaster_with_keys(id_col):
    schema = Schema(id_col=id_col, time_col="date", target_col="sales")
    twin = clone(make_forecaster("naive", 1, schema=schema))
    assert twin.schema == schema
    assert twin.schema is not schema
