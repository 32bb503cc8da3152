"""The future that ``predict`` asks for, by name, and what every other place does with
covariates.
"""

import re

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import EVERY, H, attention
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import covariate_frame, fill_future, parts_of, wide_covariate_frame

from tsattn import forecast, make_forecaster
from tsattn.adapters.export import export_program
from tsattn.adapters.gluonts import to_gluonts
from tsattn.adapters.sktime import to_sktime
from tsattn.benchmark import chosen_settings
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateHistory, CovariateWindows
from tsattn.data.frames import from_long, from_wide, to_panel
from tsattn.data.future import future_frame, read_future
from tsattn.data.schema import Schema
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal, roll_adaptive
from tsattn.forecasters.naive import Naive
from tsattn.forecasts import Forecast

KNOWN = {"future_cols": ["promo", "price"]}
DECODER = {"architecture": "decoder", "patch_stride": 4, "linear_skip": False}


@pytest.fixture(scope="module")
def model():
    """For tests that only ask it."""
    return attention(**EVERY).fit(covariate_frame())


@pytest.fixture(scope="module")
def wide():
    return attention(past_cols=["temp"], future_cols=["promo"]).fit(wide_covariate_frame())


# --- future frames --------------------------------------------------------------------------------


def test_the_rows_to_fill_in_are_those_that_are_forecast(model):
    future = model.make_future_frame()
    assert future.columns.tolist() == ["unique_id", "ds", "promo", "price"]
    assert future[["promo", "price"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        future[["unique_id", "ds"]], model.predict(future=fill_future(future))[["unique_id", "ds"]]
    )
    assert len(model.make_future_frame(horizon=7)) == 21
    assert (
        model.make_future_frame(covariate_frame((20,)).assign(unique_id="n"))["unique_id"].tolist()
        == ["n"] * H
    )


def test_rows_ahead_inside_the_table_are_refused_with_the_way_out():
    rng = np.random.default_rng(0)
    price = rng.choice([1.5, 2.0], 97)
    df = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=97), "price": price})
    df["y"] = np.where(np.arange(97) < 90, 20 - 4 * price, np.nan)
    forecaster = make_forecaster("zero", 7, schema=Schema(future_cols=["price"]))
    message = (
        r"the last 7 rows of the table have no value, and future= was not given; .*: (.*) and (.*)$"
    )
    with pytest.raises(ValueError, match=message) as caught:
        forecaster.fit(df).predict()
    names = {"df": df}
    for call in re.search(message, str(caught.value)).groups():
        exec(call, names)
    answer = forecaster.fit(names["df"]).predict(future=names["future"])
    assert answer["ds"].tolist() == df["ds"][90:].tolist()


@pytest.mark.parametrize("where", ["index", "column"])
def test_wide_futures_have_the_form_of_their_table(where):
    table = (
        wide_covariate_frame()
        if where == "index"
        else wide_covariate_frame().reset_index(names="day")
    )
    forecaster = attention(past_cols=["temp"], future_cols=["promo"]).fit(table)
    future = forecaster.make_future_frame()
    assert future.columns.tolist() == (["promo"] if where == "index" else ["day", "promo"])
    answer = forecaster.predict(future=fill_future(future))
    assert answer.columns.tolist() == [*([] if where == "index" else ["day"]), "s0", "s1"]
    pd.testing.assert_index_equal(answer.index, future.index)
    # The other form is understood as well.
    other = (
        fill_future(future).reset_index(names="date")
        if where == "index"
        else fill_future(future).set_index("day")
    )
    pd.testing.assert_frame_equal(forecaster.predict(future=other), answer)


def test_rows_may_come_in_any_order_among_others(model):
    future = fill_future(model.make_future_frame())
    expected = model.predict(future=future)
    later = fill_future(model.make_future_frame(horizon=9)).groupby("unique_id").tail(5)
    more = pd.concat([future, later])
    more = pd.concat([more.assign(rain=1), future.assign(unique_id="stranger")]).sample(
        frac=1, random_state=0
    )
    pd.testing.assert_frame_equal(
        model.predict(future=more.astype({"unique_id": "category"})), expected
    )
    pd.testing.assert_frame_equal(
        model.predict(future=more.assign(ds=more["ds"].astype(str))), expected
    )
    for layout in ("%d/%m/%Y", "%m/%d/%Y"):  # each of these days may be a month
        written = more.assign(ds=more["ds"].dt.strftime(layout))
        pd.testing.assert_frame_equal(model.predict(future=written), expected)


def test_a_shorter_horizon_needs_a_shorter_future(model):
    future = fill_future(model.make_future_frame())
    whole_forecast = model.predict(future=future, level=50)
    first = future.groupby("unique_id").head(2)
    short = model.predict(future=first, level=50, horizon=2)
    pd.testing.assert_frame_equal(
        short, whole_forecast.groupby("unique_id").head(2).reset_index(drop=True)
    )
    with pytest.raises(
        ValueError, match=r"series 's0': column 'promo' of future= is missing at 2024-07-03"
    ):
        model.predict(future=first)
    own = attention(**EVERY).fit(covariate_frame()).set_params(horizon=2)
    pd.testing.assert_frame_equal(own.predict(future=first, level=50), short)
    assert len(own.make_future_frame()) == 6
    assert np.isfinite(own.score(covariate_frame()))


def test_fewer_steps_are_the_first_of_all_where_a_step_reads_every_row_ahead():
    ridge = make_forecaster(
        "ridge", H, schema=Schema(future_cols=["promo"], calendar=["weekday"])
    ).fit(covariate_frame())
    future = ridge.make_future_frame(horizon=2 * H).assign(promo=np.arange(6 * H) % 3)
    for whole, steps in ((H, 1), (H, H - 1), (2 * H, H + 1)):
        expected = (
            ridge.predict(future=future, horizon=whole, recursive=True)
            .groupby("unique_id")
            .head(steps)
        )
        answer = ridge.predict(future=future, horizon=steps, recursive=True)
        pd.testing.assert_frame_equal(answer, expected.reset_index(drop=True))


def lacking(future, rows=(), **values):
    future = future.copy()
    for column, value in values.items():
        future[column] = future[column].astype(object)
        future.loc[5, column] = value
    return future.drop(index=list(rows))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda f: None,
            (
                r"future= was not given: series 's0': column 'promo' .* at 2024-07-01 .*\(and 23"
                r" more, 3 series"
            ),
        ),
        (
            lambda f: f[:0],
            (
                r"series 's0': column 'promo' of future= is missing at 2024-07-01 .*\(and 23 more,"
                r" 3 series"
            ),
        ),
        (
            lambda f: lacking(f, [6, 7, 9]),
            r"series 's1': column 'promo' .* at 2024-07-03 .*\(and 5 more, 2 series in all\)",
        ),
        (
            lambda f: lacking(f, price=np.nan),
            r"series 's1': column 'price' .* at 2024-07-02 .*needs the future columns at",
        ),
        (
            lambda f: f.assign(ds=f["ds"] + pd.Timedelta("1h")),
            (
                r"future= has the stamps 2024-07-01 01:00:00 to .* series 's0' is forecast at"
                r" 2024-07-01 00:00:00 and later, at steps of 'D'; give rows .*make_future_frame\(\)"
            ),
        ),
        (
            lambda f: f.assign(unique_id="t0"),
            "future= has ids such as 't0', and the table has others, such as 's0'; write them",
        ),
        (
            lambda f: pd.concat([f, f[3:4]]),
            "future= has the row at 2024-07-04 00:00:00 of series 's0' twice",
        ),
        (
            lambda f: lacking(f, price="dear"),
            "column 'price' of future= holds 'dear' at 2024-07-02",
        ),
        (
            lambda f: lacking(f, price=-np.inf),
            "column 'price' of future= holds -inf at 2024-07-02 .*must be finite",
        ),
        (
            lambda f: f.drop(columns="price"),
            "column 'price' is missing from future=, which has the columns",
        ),
        (
            lambda f: f.drop(columns="unique_id"),
            "column 'unique_id' is missing from future=, which has the columns",
        ),
        (
            lambda f: f.assign(ds=f["ds"].dt.tz_localize("UTC")),
            "holds stamps in a time zone, but the series have stamps w",
        ),
        (
            lambda f: f.assign(ds=np.arange(12)),
            "column 'ds' of the future table holds integers, but the series have stamps",
        ),
        (lambda f: f.assign(ds="soon"), "column 'ds' of the future table holds 'soon' in row 0"),
    ],
)
def test_an_incomplete_future_is_one_clear_error(model, make, message):
    with pytest.raises(ValueError, match=message) as caught:
        model.predict(future=make(fill_future(model.make_future_frame())))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kinds", [(int, str), (str, int), (int, float)])
def test_ids_of_the_future_may_be_text_or_numbers(kinds):
    ids = {"s0": 1, "s1": 2, "s2": 3}
    frame = covariate_frame()
    frame["unique_id"] = frame["unique_id"].map(ids)
    model = make_forecaster("ridge", H, schema=Schema(future_cols=["promo"]))
    model.fit(frame.astype({"unique_id": kinds[0]}))
    future = fill_future(model.make_future_frame())
    expected = model.predict(future=future)
    other_ids = future["unique_id"].astype(kinds[1])
    pd.testing.assert_frame_equal(
        model.predict(future=future.assign(unique_id=other_ids)), expected
    )


@pytest.mark.parametrize("layout", ["%d/%m/%Y", "%m/%d/%Y"])
def test_text_that_can_be_read_day_first_and_month_first_is_read_as_the_rows_after_the_end(
    model, layout
):
    """Days 1 to 4 of July are also months 1 to 4."""
    future = fill_future(model.make_future_frame())
    texts = future.assign(ds=future["ds"].dt.strftime(layout))
    pd.testing.assert_frame_equal(model.predict(future=texts), model.predict(future=future))


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (
            pd.date_range("2024-01-01", periods=70, freq="D", tz="Europe/Berlin"),
            "holds stamps without a time zone, but the series have stamps in a time zone",
        ),
        (np.arange(70), "holds stamps without a time zone, but the series have integers"),
    ],
    ids=["zone", "integers"],
)
def test_stamps_of_another_kind_than_those_of_the_series_are_refused(stamps, message):
    frame = wide_covariate_frame().set_axis(stamps)
    fitted = attention(past_cols=["temp"], future_cols=["promo"]).fit(frame)
    future = fill_future(fitted.make_future_frame())
    assert len(fitted.predict(future=future)) == H
    with pytest.raises(ValueError, match=message):
        fitted.predict(future=future.set_axis(pd.date_range("2024-03-11", periods=H)))


@pytest.mark.parametrize("place", ["column", "text", "index"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_call_that_gives_the_future_the_zone_of_the_table_works(zone, place):
    frame = covariate_frame([40])[["ds", "y", "price"]]
    ahead = pd.DataFrame({"ds": pd.date_range(frame["ds"].max(), periods=3)[1:], "price": [50, 51]})
    schema = Schema(future_cols=["price"])
    known = forecast(frame, 2, future=ahead, schema=schema)["zero"]
    frame["ds"] = frame["ds"].dt.tz_localize(zone)
    future = ahead.assign(ds=ahead["ds"].dt.tz_localize("UTC" if zone is None else None))
    if place == "text":
        future["ds"] = future["ds"].astype(str)
    if place == "index":
        future = future.set_index("ds")
    with pytest.raises(ValueError, match="give it the same kind: ") as refused:
        forecast(frame, 2, future=future, schema=schema)
    names = {"future": future, "pd": pd}
    exec(str(refused.value).split("same kind: ")[1], names)
    answer = forecast(frame, 2, future=names["future"], schema=schema)["zero"]
    np.testing.assert_array_equal(answer, known)


def test_a_future_with_every_column_of_a_wide_table_leaves_none_to_forecast():
    days = pd.date_range("2024-01-01", periods=64)
    table = pd.DataFrame({"shop": np.arange(64.0) % 7, "promo": np.arange(64.0) % 3}, index=days)
    for rows in (table, table.rename_axis("day").reset_index()):
        message = (
            r"values of every column of the table, \['shop', 'promo'\], .*future_cols=\['promo'\]"
        )
        with pytest.raises(ValueError, match=message):
            forecast(rows[:60], 4, future=rows[60:])
        # Columns that are to be filled in are forecast.
        answer = forecast(rows[:60], 4, future=rows[60:].assign(shop=np.nan))
        expected = forecast(rows[:60], 4, future=rows[60:].drop(columns="shop"))
        pd.testing.assert_frame_equal(answer, expected)
        assert "shop" in answer


def test_a_future_with_some_columns_of_a_wide_table_needs_their_names_where_others_are_alike():
    days = pd.date_range("2024-01-01", periods=64)
    y = np.arange(64.0)
    table = pd.DataFrame({"a": y % 7, "b": y % 5, "promo": y % 3, "rain": y % 4 < 2}, index=days)
    for rows in (table, table.rename_axis("day").reset_index()):
        message = (
            r"some columns of a wide table, \['promo'\], .*\['a', 'b'\], .*future_cols=\['promo'"
        )
        with pytest.raises(ValueError, match=message):
            forecast(rows[:60], 4, future=rows[60:].drop(columns=["a", "b"]))
        ahead = rows[60:].drop(columns=["a", "b"])
        answer = forecast(rows[:60], 4, future=ahead, future_cols=["promo", "rain"])
        assert {"a", "b"} <= {*answer}
        assert not {"promo", "rain"} & {*answer}
        # Truth values are no series, and beside them and one other column nothing is left.
        own_forecast = forecast(
            rows[:60].drop(columns="promo"), 4, future=ahead.drop(columns="promo")
        )
        assert {"a", "b"} <= {*own_forecast}
        beside = forecast(rows[:60].drop(columns="b"), 4, future=ahead)
        assert "a" in beside
        assert "promo" not in beside


def test_past_and_static_columns_beside_the_future_ones_are_not_taken_for_such():
    table = covariate_frame().assign(kind="shop")
    rows = table.groupby("unique_id").tail(H)
    past = table.drop(rows.index)
    fields = {"past_cols": ["temp"], "static_cols": ["kind"]}
    named = forecast(past, H, model="ridge", future=rows, future_cols=["promo", "price"], **fields)
    columns = ["unique_id", "ds", "promo", "price", "temp", "kind"]
    answer = forecast(past, H, model="ridge", future=rows[columns], **fields)
    pd.testing.assert_frame_equal(answer, named)


@pytest.mark.parametrize(
    ("values", "alike", "other"),
    [(["x", "y", "z"], "category", ["x", "y", "y"]), ([0.1, 0.2, 3.0], "float32", [0.1, 0.2, 4])],
)
def test_a_static_value_that_differs_ahead_is_refused(values, alike, other):
    table = covariate_frame()
    names = table["unique_id"].unique()
    rows = table.groupby("unique_id").tail(H)

    def with_site(frame, sites):
        return frame.assign(site=frame["unique_id"].map(dict(zip(names, sites, strict=True))))

    known = with_site(table.drop(rows.index), values)
    model = make_forecaster("ridge", H, future_cols=["promo"], static_cols=["site"]).fit(known)
    plain = model.predict(future=rows)
    given = with_site(rows, values).astype({"site": alike})
    pd.testing.assert_frame_equal(model.predict(future=given), plain)
    told = (
        rf"series '{names[2]}': static column 'site' holds .* in future= \(and {H - 1} more\), but"
    )
    with pytest.raises(ValueError, match=told):
        model.predict(future=with_site(rows, other))
    empty = with_site(rows, [None] * 3)
    pd.testing.assert_frame_equal(model.predict(future=empty), plain)


def test_a_future_that_nobody_reads_is_refused():
    for kwargs in ({}, {"calendar": ["weekday"]}):
        forecaster = attention(**kwargs).fit(covariate_frame())
        assert forecaster.make_future_frame().columns.tolist() == ["unique_id", "ds"]
        with pytest.raises(
            ValueError, match="future= was given, but the model reads no future columns"
        ):
            forecaster.predict(future=forecaster.make_future_frame())
        assert len(forecaster.predict()) == 3 * H
    with pytest.raises(TypeError, match=r"data must be a frame, .*; got int"):
        attention(**KNOWN).fit(covariate_frame()).predict(future=1)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_the_first_of_all_that_is_missing_is_named(data):
    """The error names the first cell that is not there and counts the others; else all is read as
    it is.
    """
    columns = CovariateColumns.checked((), ["promo", "price"], (), ())
    freq = data.draw(st.sampled_from(["D", "h", "MS", "B"]))
    panel = from_long(
        covariate_frame(
            tuple(data.draw(st.lists(st.integers(3, 9), min_size=1, max_size=4))), freq=freq
        )
    )
    panel = panel.until(
        panel.lengths - [data.draw(st.integers(0, 2)) for _ in range(panel.n_series)]
    )
    steps = data.draw(st.integers(1, 5))
    future = fill_future(future_frame(panel, columns, steps))
    gone = [
        (r, c)
        for r in range(len(future))
        for c in ("promo", "price")
        if data.draw(st.integers(0, 3)) == 0
    ]
    holed = future.copy()
    for row, column in gone:
        holed.loc[row, column] = np.nan
    if data.draw(st.booleans()):
        holed = holed.dropna(how="all", subset=["promo", "price"])
    holed = holed.sample(frac=1, random_state=data.draw(st.integers(0, 99)))
    if gone:
        (row, column), others = gone[0], f" \\(and {len(gone) - 1} more" if len(gone) > 1 else ""
        named = (
            f"series '{future['unique_id'][row]}': column '{column}' .*"
            f" {future['ds'][row]}.*{others}"
        )
        with pytest.raises(ValueError, match=named):
            read_future(holed, panel, columns, steps)
    else:
        read = read_future(holed, panel, columns, steps)
        np.testing.assert_array_equal(read.reshape(-1, 2), future[["promo", "price"]].to_numpy())


# --- windows by hand ------------------------------------------------------------------------------


def some_windows(model, rows=15):
    panel = to_panel(
        covariate_frame(),
        Schema(past_cols=("temp", "promo", "price"), static_cols=("kind", "size")),
    )
    ends = panel.starts[1:] - H
    x = np.stack([panel.values[end - rows : end] for end in ends])
    return x, CovariateHistory(panel, model.covariate_columns_).windows(ends, rows, H)


def test_windows_longer_than_the_context_are_cut(model):
    x, windows = some_windows(model)
    whole_forecast = model.predict_windows(x, covariates=windows, quantiles=(0.3, 0.5))[1]
    np.testing.assert_allclose(
        model.predict_windows(x[:, 3:], covariates=windows.cut(12, H), quantiles=(0.3, 0.5))[1],
        whole_forecast,
        rtol=1e-6,
    )


def test_a_step_without_known_covariates_has_no_forecast(model):
    x, windows = some_windows(model)
    windows.known[1, 15 + 2, 0] = np.nan
    for actual in (
        model.predict_windows(x, covariates=windows)[0],
        model.predict_windows(x, covariates=windows, quantiles=(0.5,))[1],
    ):
        gone = np.isnan(actual.reshape(3, H))
        assert gone.tolist() == [[False] * 4, [False, False, True, False], [False] * 4]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda w: None,
            "this forecaster reads covariates; got none for its windows; pass covariates=",
        ),
        (
            lambda w: CovariateWindows(w.past[:, 1:], w.known, w.static),
            r"covariates.past must have shape \(3, 15, 1\)",
        ),
        (
            lambda w: CovariateWindows(w.past, w.known[:, :-1], w.static),
            r"covariates.known must have shape \(3, 19, 4\)",
        ),
        (
            lambda w: CovariateWindows(w.past, w.known, w.static[:2]),
            r"covariates.static must have shape \(3, 2\)",
        ),
        (
            lambda w: CovariateWindows(w.past + np.nan, w.known, w.static),
            "must be finite up to the cutoff; got NaN or inf",
        ),
        (
            lambda w: CovariateWindows(w.past, w.known + np.inf, w.static),
            "must be finite up to the cutoff; got NaN or inf",
        ),
        (
            lambda w: CovariateWindows(w.past, w.known, np.array([["a", "big"]] * 3, dtype=object)),
            "static column 'size' held numbers in training; got 'big'",
        ),
    ],
)
def test_windows_that_do_not_fit_are_refused(model, spoil, message):
    x, windows = some_windows(model)
    with pytest.raises(ValueError, match=message):
        model.predict_windows(x, covariates=spoil(windows))[0]


def test_covariates_that_nobody_reads_are_refused(model):
    x, windows = some_windows(model)
    with pytest.raises(
        ValueError,
        match="covariates= was given, but mlr reads none; leave it out, or fit with some",
    ):
        attention().fit(covariate_frame()).predict_windows(x, covariates=windows)[0]


# --- declarations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"past_cols": "temp"}, r"past_cols must be a list of names; got 'temp'; write \['temp'\]"),
        ({"future_cols": 7}, "future_cols must be a list of names; got 7"),
        (
            {"calendar": "hour"},
            r"calendar must be a list of names or 'auto'; got 'hour'; write \['hour'\]",
        ),
        ({"calendar": ["hour"]}, "calendar 'hour' says nothing about stamps of frequency 'D'"),
        (
            {"past_cols": ["temp", "temp"]},
            "column 'temp' is named in past_cols and in past_cols, but has one place",
        ),
        (
            {"past_cols": ["temp"], "future_cols": ["temp"]},
            "a future column is read in the context as well",
        ),
        ({"past_cols": ["rain"]}, "column 'rain' is missing"),
        (
            {"static_cols": ["temp"]},
            "series 's0': static column 'temp' holds .* but must have one value in a series",
        ),
        ({"past_cols": ["y"]}, "column 'y' is the target_col of the table"),
        *(
            ({name: value, **DECODER}, f"a decoder network .* {name}")
            for name, value in {
                "past_cols": ["temp"],
                "future_cols": ["promo"],
                "calendar": "auto",
            }.items()
        ),
    ],
)
def test_what_cannot_be_read_is_refused_before_training(kwargs, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message) as caught:
        attention(**kwargs).fit(covariate_frame())
    assert "\n" not in str(caught.value)


def test_models_that_read_nothing_leave_named_columns_unread():
    schema = Schema(past_cols=["temp"], future_cols=["promo"])
    assert make_forecaster("mlr", H, schema=schema).covariate_columns.past == ("temp",)
    for name in ("naive", "drift"):
        assert not make_forecaster(name, H, schema=schema).covariate_columns
    forecaster = Naive(H, schema=schema).fit(wide_covariate_frame())
    assert forecaster.predict().columns.tolist() == ["s0", "s1"]
    assert forecaster.panel_.covariates is None


def test_other_numbers_at_predict_are_refused(model):
    frame = covariate_frame()
    future = fill_future(model.make_future_frame())
    with pytest.raises(
        ValueError,
        match="series 's1': static column 'kind' was 'a', 'b' in training; got 'mill'; fit",
    ):
        model.predict(frame.replace({"kind": {"b": "mill"}}), future=future)
    with pytest.raises(ValueError, match="column 'temp' is missing"):
        model.predict(frame.drop(columns="temp"), future=future)
    with pytest.raises(
        ValueError,
        match="the panel has no covariate 'temp'; make it by to_panel with a schema that names it",
    ):
        model.predict(from_long(frame), future=future)


def test_panels_with_more_columns_than_are_read_are_fine(model):
    panel = to_panel(
        covariate_frame().assign(rain=0.0),
        Schema(past_cols=("rain", "price", "promo", "temp"), static_cols=("size", "kind")),
    )
    answer = attention(**EVERY).fit(panel).predict(future=fill_future(model.make_future_frame()))
    assert isinstance(answer, Forecast)
    pd.testing.assert_frame_equal(
        answer.to_frame(), model.predict(future=fill_future(model.make_future_frame()))
    )
    # What nobody reads is not kept.
    assert model.panel_.covariates.columns == ("temp", "promo", "price")
    forecaster = attention(future_cols=["price"]).fit(panel)
    assert (forecaster.panel_.covariates.columns, forecaster.panel_.covariates.statics) == (
        ("price",),
        (),
    )
    assert attention(calendar=["weekday"]).fit(panel).panel_.covariates is None


def test_settings_that_name_no_column_leave_the_hash_of_a_record_as_it_was():
    assert chosen_settings(
        {"past_cols": (), "calendar": [], "offset": 0, "mixing": False, "ranks": None}
    ) == {"offset": 0}
    assert chosen_settings({"past_cols": ["temp"]}) == {"past_cols": ["temp"]}


# --- around forecasters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(SplitConformal, {"n_windows": 6}), (AdaptiveConformal, {"n_windows": 6, "levels": (50, 80)})],
)
def test_conformal_intervals_pass_covariates_on(kind, settings):
    frame = covariate_frame()
    rule = kind(attention(**EVERY), **settings).fit(frame)
    future = fill_future(rule.make_future_frame())
    with pytest.raises(ValueError, match=f"and {3 * H * 2 - 1} more"):
        rule.predict(level=80, future=rule.make_future_frame())
    answer = rule.predict(level=80, future=future)
    pd.testing.assert_frame_equal(rule.predict(frame, level=80, future=future), answer)
    points = rule.forecaster_.predict(frame, future=future)
    np.testing.assert_allclose(answer["mlr"], points["mlr"], rtol=1e-6)
    with pytest.raises(ValueError, match="future= was not given: series 's0': column 'promo'"):
        rule.predict()
    frame.loc[frame["ds"] > "2024-06-26", "price"] += 100
    other = kind(attention(**EVERY), **settings).fit(frame)
    assert not np.allclose(other.intervals_.errors, rule.intervals_.errors)


def test_adaptive_intervals_are_judged_and_told_with_covariates():
    frame = covariate_frame()
    before, _ = parts_of(frame, 12)
    rule = AdaptiveConformal(attention(**EVERY), n_windows=6, levels=(50, 80)).fit(before)
    panel = to_panel(
        frame, Schema(past_cols=("temp", "promo", "price"), static_cols=("kind", "size"))
    )
    rolled = roll_adaptive(
        rule, panel, np.concatenate([panel.starts[1:] - 12 + w for w in range(8)])
    )
    assert np.isfinite(rolled.bounds).all()
    x, windows = some_windows(rule, 32)
    rule.update(x, np.zeros((3, H, 1)), covariates=windows)
    with pytest.raises(ValueError, match="this forecaster reads covariates; got none"):
        rule.update(x, np.zeros((3, H, 1)))


@pytest.mark.parametrize("kwargs", [{"past_cols": ["temp"]}, {"calendar": ["weekday"]}])
def test_places_without_room_for_covariates_refuse(kwargs):
    own = attention(**kwargs)
    for place, refused in ((to_gluonts, "GluonTS adapter"), (to_sktime, "sktime adapter")):
        with pytest.raises(
            ValueError, match=f"the {refused} has no place for covariates, and mlr reads some"
        ):
            place(own)
    with pytest.raises(
        ValueError, match="an exported program has no place for covariates, and mlr reads some"
    ):
        export_program(own.fit(covariate_frame()))


def test_attention_maps_read_no_future(model):
    maps = model.attention_maps()
    np.testing.assert_allclose(maps.sum(-1), 1, rtol=1e-5)
    frame = covariate_frame()
    last = frame["ds"] > "2024-06-24"
    assert not np.allclose(
        model.attention_maps(frame.assign(price=frame["price"].where(~last, 400))), maps
    )


def test_wide_tables_share_their_covariates(wide):
    future = fill_future(wide.make_future_frame())
    answer = wide.predict(future=future, level=50)
    assert answer.columns.tolist() == [
        f"{c}{s}" for c in ("s0", "s1") for s in ("", "-lo-50", "-hi-50")
    ]
    moved = wide.predict(future=future.assign(promo=1 - future["promo"]), level=50)
    assert (np.abs(moved - answer) > 1e-9).all(axis=None)
    assert isinstance(
        wide.predict(
            from_wide(wide_covariate_frame(), Schema(past_cols=["temp", "promo"])), future=future
        ),
        Forecast,
    )
    # Series may be new.
    more = wide.predict(wide_covariate_frame().assign(rain=1.0), future=future, level=50)
    pd.testing.assert_frame_equal(more[answer.columns], answer)
    assert "rain-lo-50" in more


@pytest.mark.parametrize("wrong", ["b ", "B", "  b"])
def test_future_ids_in_other_spaces_or_capitals_are_named(wrong):
    days = pd.date_range("2024-01-01", periods=30)
    one_series = pd.DataFrame({"ds": days, "y": np.arange(30.0), "promo": np.arange(30) % 2})
    table = pd.concat([one_series[:28].assign(unique_id=name) for name in "ab"])
    future = pd.concat([one_series[28:].assign(unique_id=name) for name in ("a", wrong)])
    with pytest.raises(ValueError, match=f"no row of series 'b', but rows of '{wrong}'") as caught:
        forecast(table, 2, model="ridge", future=future)
    (call,) = re.findall(r"as the table does: (future.*)", str(caught.value))
    scope = {"future": future.copy()}
    exec(call, scope)
    expected = pd.concat([one_series[28:].assign(unique_id=name) for name in "ab"])
    pd.testing.assert_frame_equal(scope["future"], expected)
    # Rows of other series are of no use, and one that is lacking is told as such.
    others = future.replace({"unique_id": {wrong: "c"}})
    with pytest.raises(ValueError, match="series 'b': column 'promo' of future= is missing"):
        forecast(table, 2, model="ridge", future=others)


@pytest.mark.parametrize("name", ["Promo", "promo "])
def test_columns_of_the_future_in_other_capitals_are_renamed(name):
    days = pd.date_range("2024-01-01", periods=30)
    one_series = pd.DataFrame({"ds": days, "y": np.arange(30.0), "promo": np.arange(30) % 2})
    column = name.strip().lower()
    future = one_series[28:].rename(columns={column: name})
    with pytest.raises(ValueError, match=f"'{name}' of future= is called '{column}'") as caught:
        forecast(one_series[:28], 2, model="ridge", future=future)
    scope = {"future": future}
    exec(str(caught.value).split("rename it: ")[1], scope)
    assert scope["future"].columns.tolist() == ["ds", "y", "promo"]
