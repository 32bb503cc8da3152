"""One bad series does not stop the others: it is named once and forecast as NaN."""

import warnings

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import plant_few_trees, plant_small_gbm
from small_forecasters import attention
from tables import long_table, wide_of

from tsattn.anomaly import anomalies
from tsattn.catalogue import MODELS, forecast, load_forecaster, make_forecaster
from tsattn.checks import InputWarning
from tsattn.data.frames import from_long, to_panel
from tsattn.data.schema import Schema
from tsattn.distributed import predict_many
from tsattn.evaluate.backtest import backtest
from tsattn.filling import fill
from tsattn.forecasters.auto import AutoForecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.plotting import plot_forecast
from tsattn.report import write_report

N_ROWS = 60
Y = 10.0 + np.random.default_rng(0).integers(0, 9, N_ROWS)


def table(*, empty=True, short=False, dead=False, static=False):
    values = {"a": Y, "b": 2 * Y}
    if empty:
        values["empty"] = np.full(N_ROWS, np.nan)
    if dead:
        values["dead"] = np.r_[Y[:30], np.zeros(N_ROWS - 30)]
    if short:
        values["short"] = Y[:3]
    frame = long_table(values.values(), [*values], end="2024-03-01")
    return frame.assign(kind=frame["unique_id"].str.len().astype(float)) if static else frame


LEFT_OUT = r"left out: series 'empty' has no value; their forecasts are NaN; bad='error' refuses"


@pytest.mark.parametrize("model", ["zero", "naive", "ridge", "auto_ets", "theta"])
def test_other_series_are_forecast_as_without_the_bad_one(model):
    with pytest.warns(UserWarning, match=LEFT_OUT):
        answer = forecast(table(), 2, model=model)
    pd.testing.assert_frame_equal(answer[:4], forecast(table(empty=False), 2, model=model))
    odd = answer[4:]
    assert odd["unique_id"].tolist() == ["empty", "empty"]
    assert odd["ds"].tolist() == list(pd.date_range("2024-03-02", periods=2))
    assert odd[model].isna().all()


@pytest.mark.parametrize("kind", ["stamps", "spans"])
def test_categories_of_times_keep_the_names_of_series(kind):
    days = table()["unique_id"].map({"a": 1, "b": 2, "empty": 3})
    ids = pd.to_timedelta(days, "D")
    if kind == "stamps":
        ids += pd.Timestamp("2024-01-01")
    frame = table().assign(unique_id=ids.astype("category"))
    with pytest.warns(UserWarning, match="has no value"):
        answer = forecast(frame, 1, model="naive")
    assert answer["unique_id"].tolist() == ids.unique().tolist()


def test_columns_of_a_wide_table_are_left_out_alike():
    with pytest.warns(UserWarning, match=LEFT_OUT):
        answer = forecast(wide_of(table()), 2, model="seasonal_naive")
    assert list(answer) == ["a", "b", "empty"]
    assert answer["empty"].isna().all()
    assert answer[["a", "b"]].notna().all(axis=None)


def test_short_series_are_left_out_where_they_cannot_be_forecast(tmp_path):
    frame = table(empty=False, short=True)
    forecaster = make_forecaster("seasonal_naive", 2)
    with pytest.warns(UserWarning, match="left out: series 'short' has too few rows"):
        forecaster.fit(frame)
    answer = forecaster.predict()
    assert answer.set_index("unique_id").loc["short", "seasonal_naive"].isna().all()
    assert answer.set_index("unique_id").loc["b", "seasonal_naive"].notna().all()
    forecaster.save(tmp_path / "m")
    loaded = load_forecaster(tmp_path / "m")
    pd.testing.assert_frame_equal(loaded.predict(), answer)
    with pytest.warns(UserWarning, match="left out: series 'short' has too few rows"):
        pd.testing.assert_frame_equal(loaded.predict(frame), answer)
    with pytest.warns(UserWarning, match="left out: series 'short' has too few rows"):
        pd.testing.assert_frame_equal(predict_many(loaded, frame, n_chunks=2), answer)


@pytest.mark.filterwarnings("ignore:left out:UserWarning")
def test_a_new_series_is_forecast_once_updates_have_made_it_long_enough(tmp_path):
    frame = table(empty=False)
    stamps = sorted(frame["ds"].unique())
    first_day = stamps[-9]
    past = frame[(frame["unique_id"] != "b") & (frame["ds"] < first_day)]
    forecaster = make_forecaster("seasonal_naive", 2).fit(past)
    for day in stamps[-9:]:
        forecaster.update(frame[frame["ds"] == day])
        forecaster.save(tmp_path / "m")
        forecaster = load_forecaster(tmp_path / "m")
    late = frame[(frame["unique_id"] != "b") | (frame["ds"] >= first_day)]
    expected = forecaster.predict(late)
    assert expected["seasonal_naive"].notna().all()
    pd.testing.assert_frame_equal(forecaster.predict(), expected)


def test_backtests_judge_the_others():
    frame = table(short=True)
    with pytest.warns(UserWarning, match="'empty' has no value; 'short' has too few rows"):
        result = backtest(make_forecaster("seasonal_naive", 2), frame, n_windows=2)
    own_result = backtest(make_forecaster("seasonal_naive", 2), table(empty=False), n_windows=2)
    pd.testing.assert_frame_equal(result.scores, own_result.scores)
    assert set(result.frame["unique_id"]) == {"a", "b"}


def test_bad_series_may_stop_the_others():
    schema = Schema(bad="error")
    with pytest.raises(ValueError, match="series 'empty': column 'y' has no value at all"):
        forecast(table(), 2, schema=schema)
    with pytest.raises(ValueError, match="too short: series 'short'"):
        forecast(table(empty=False, short=True), 2, schema=schema, model="seasonal_naive")
    with pytest.raises(ValueError, match="bad must be one of error, skip; got 'drop'"):
        Schema(bad="drop")


def test_tables_of_bad_series_only_are_refused():
    frame = table()
    with pytest.raises(ValueError, match="has no value at all"):
        forecast(frame[frame["unique_id"] == "empty"], 2)
    only = table(short=True)
    with pytest.raises(ValueError, match="too short: series 'short'"):
        forecast(only[only["unique_id"] == "short"], 2, model="seasonal_naive")


def test_static_columns_stay_with_their_series():
    frame = table(static=True).sample(frac=1, random_state=0)
    panel = to_panel(frame, Schema(static_cols=["kind"]))
    assert panel.ids.tolist() == ["a", "b"]
    assert panel.covariates.static.tolist() == [[1.0], [1.0]]
    assert panel.skipped[0].name == "empty"


def test_updates_bring_values_of_a_series_that_had_none():
    with pytest.warns(UserWarning, match=LEFT_OUT):
        forecaster = make_forecaster("dlinear", 2).fit(table())
    later = long_table([Y], ["empty"], start="2024-03-02")
    forecaster.update(later)
    answer = forecaster.predict().set_index("unique_id")
    assert answer.loc["empty", "dlinear"].notna().all()
    assert len(answer) == 6


# A series that ended is told, by each forecaster that goes on with its last value.
UNMOVING = "series '{}' has 0 in each of its last {} rows with a value{}, longer than ever before"


def test_a_dead_series_is_forecast_as_dead():
    sales = np.random.default_rng(0).poisson(5, 150)
    frame = long_table([np.r_[sales, np.zeros(150)], np.r_[sales, sales]], ["dead", "alive"])
    with pytest.warns(UserWarning, match=UNMOVING.format("dead", 150, "")):
        answer = forecast(frame, 3).set_index("unique_id")
    assert answer.loc["dead", "zero"].tolist() == [0.0, 0.0, 0.0]
    assert (answer.loc["alive", "zero"] > 2).all()
    # Fewer zeros, which the network alone took for a bad month.
    short = table(empty=False, dead=True)
    with pytest.warns(UserWarning, match=UNMOVING.format("dead", 30, "")):
        bands = forecast(short, 3, level=80).set_index("unique_id").loc["dead"]
    assert bands["zero"].tolist() == [0.0, 0.0, 0.0]
    assert (bands["zero-lo-80"] == 0).all()


@pytest.mark.parametrize("model", ["zero", "auto"])
def test_one_warning_tells_of_all_dead_series(model):
    sales = np.random.default_rng(0).poisson(5, 80)
    dead = np.r_[sales, np.zeros(40)]
    frame = long_table([dead, np.r_[sales, sales[:40]], dead], ["x", "y", "z"])
    with pytest.warns(UserWarning, match=UNMOVING.format("x", 40, r" \(and 1 more\)")) as caught:
        forecast(frame, 3, model=model)
    assert len(caught) == 1


def test_the_last_value_of_a_dead_series_is_told():
    sales = np.random.default_rng(0).poisson(5, 120)
    dead = np.r_[sales[:80], np.zeros(37), np.full(3, np.nan)]
    with pytest.warns(UserWarning, match=UNMOVING.format("dead", 37, "")):
        answer = forecast(long_table([dead, sales], ["dead", "alive"]), 3)
    assert (answer.set_index("unique_id").loc["dead", "zero"] == 0).all()


def test_a_dead_series_with_empty_cells_goes_on():
    sales = np.random.default_rng(0).poisson(5, 200)
    frame = long_table([np.r_[sales, np.full(40, np.nan)], np.r_[sales, sales[:40]]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = forecast(frame, 3)
    assert (answer["zero"] > 2).all()


def test_of_two_series_one_that_ended_long_before_is_told():
    frame = long_table([Y], ["new"])
    early = long_table([Y], ["old"], end="2021-03-01")
    with pytest.warns(UserWarning, match="series 'old' ends at 2021-03-01 .*a forecast of it"):
        from_long(pd.concat([frame, early]))


@pytest.mark.parametrize(("end", "days"), [("2021-03-01", 1096), ("2023-11-01", 121)])
def test_a_series_that_ended_long_before_the_others_is_told(end, days):
    frame = pd.concat([table(empty=False), long_table([Y], ["old"], end=end)])
    with pytest.warns(UserWarning, match=f"series 'old' ends at {end} .*, {days} days before"):
        from_long(frame)


def test_a_series_that_ends_somewhat_earlier_is_not_told():
    frame = pd.concat([table(empty=False), long_table([Y], ["late"], end="2024-01-15")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_long(frame)


EMPTY_END = "no series has a value in the last {}; a forecast begins after .*, unless .* left out"


def test_last_rows_without_a_value_are_told():
    frame = long_table([[*Y[:-2], None, None], [*Y[:-3], None, None, None]], ["a", "b"])
    first, last = frame["ds"].iloc[-2:]
    with pytest.warns(UserWarning, match=EMPTY_END.format(f"2 rows, {first} to {last}")):
        answer = forecast(frame, 1)
    assert (answer["ds"] > last).all()
    with pytest.warns(UserWarning, match=EMPTY_END.format(f"row, {first}")):
        forecast(frame[frame["ds"] != last], 1)


def test_rows_to_forecast_below_the_others_are_given_as_the_future():
    frame = long_table([[*Y[:-2], None, None]], ["a"]).assign(price=1.0)
    last = frame["ds"].iloc[-1]
    with pytest.warns(UserWarning, match=EMPTY_END.format("2 rows, .*")) as caught:
        forecast(frame, 2)
    future_call, frame_call = str(caught[0].message).split("known ahead: ")[1].split(" and ")
    scope = {"df": frame}
    exec(f"{future_call}; {frame_call}", scope)
    answer = forecast(scope["df"], 2, future=scope["future"])
    assert answer["ds"].iloc[-1] == last


def test_last_rows_that_are_empty_in_one_series_or_filled_are_not_told():
    uneven = long_table([[*Y[:-1], None], Y], ["a", "b"])
    filled = long_table([[*Y[:-1], None]], ["a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(uneven, 1)
        forecast(filled, 1, model="naive", missing="ffill")


@pytest.mark.parametrize("shape", [lambda frame: frame, wide_of])
def test_a_series_without_a_value_for_long_is_told(shape):
    values = np.random.default_rng(0).normal(50, 1, (3, 200))
    values[1, -12:] = np.nan
    frame = long_table(values, ["a", "b", "c"])
    last = frame["ds"].iloc[-13]
    silent = f"series 'b' has no value after {last}, in its last 12 rows, while others go on"
    with pytest.warns(UserWarning, match=silent):
        forecast(shape(frame), 1)
    left_out = frame.dropna()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = forecast(left_out, 1)
    assert answer.set_index("unique_id").loc["b", "ds"] == last + pd.Timedelta(1, "D")


def test_values_that_are_read_as_missing_are_told():
    values = np.random.default_rng(0).normal(50, 1, (3, 200))
    values[0, 150] = -9999
    values[1, [20, 190]] = 1e6
    frame = long_table(values, ["a", "b", "c"])
    of_sentinels = r"series 'a' has -9999 at 2024.*, far from all other values; such numbers are"
    of_others = r"series 'b' has 1e\+06 at 2024.*, far from its neighbours \(and 1 more\)"
    for model in (PretrainedForecaster(2), AutoForecaster(2, max_time=1)):
        with pytest.warns(UserWarning, match=of_sentinels), pytest.warns(match=of_others):
            fitted = model.fit(frame)
    with pytest.warns(UserWarning, match=of_sentinels), pytest.warns(match=of_others):
        fitted.predict(frame)


def test_every_model_of_the_catalogue_passes_over_an_empty_series():
    # The order of an ARIMA is not at issue here, and its warnings are.
    names = [name for name in MODELS if not MODELS[name].trained and "arima" not in name]
    assert len(names) > 5
    for name in names:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answer = forecast(table(), 2, model=name)
        assert sum(str(warning.message).startswith("left out: ") for warning in caught) == 1, name
        assert answer[name][:4].notna().all(), name


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("shape", [table, lambda: wide_of(table())])
def test_series_without_a_forecast_are_drawn_nowhere(shape, tmp_path):
    forecaster = make_forecaster("naive", 2)
    panel = to_panel(shape())
    forecast = forecaster.fit(panel).predict(panel)
    axes = plot_forecast(panel, forecast).figure.axes
    assert [ax.get_title() for ax in axes if ax.lines] == ["a", "b"]
    with pytest.raises(ValueError, match="series 'empty' has no value and was left out"):
        plot_forecast(panel, forecast, series="empty")
    write_report(tmp_path / "page.html", forecaster, panel, forecast)
    page = (tmp_path / "page.html").read_text()
    assert "2 series, 2 rows ahead" in page
    assert "Left out: empty has no value." in page


@pytest.mark.filterwarnings("ignore:left out")
def test_paths_of_series_without_a_forecast_are_nan():
    panel = to_panel(table())
    forecast = make_forecaster("zero", 2).fit(panel).predict(panel)
    paths = forecast.sample(3, random_state=0)
    assert paths.shape == (*forecast.point.shape, 3)
    assert np.isnan(paths).all(axis=(1, 2)).tolist() == [False, False, True]


@pytest.mark.filterwarnings("ignore:left out")
def test_paths_of_networks_have_the_series_of_the_forecast():
    model = attention(2, head="student_t", max_epochs=1).fit(table(empty=False))
    names = model.predict(table())["unique_id"].unique()
    assert names.tolist() == ["a", "b", "empty"]
    paths = model.sample(3, table(), random_state=0)
    assert np.isnan(paths).all(axis=(1, 2)).tolist() == [False, False, True]


@pytest.mark.parametrize("shape", ["long", "wide"])
def test_a_sentinel_at_the_end_is_told(shape):
    frame = table(empty=False)
    wrong = frame.assign(y=frame["y"].where(~frame["ds"].isin(frame["ds"].unique()[-3:]), -9999.0))
    dead = frame.assign(y=frame["y"].where(frame["unique_id"] != "a", 0.0))
    if shape == "wide":
        frame, wrong, dead = map(wide_of, (frame, wrong, dead))
    message = (
        r"series 'a' has -9999 at 2024-02-28 00:00:00 \(and 5 more, 2 series in all\), far from"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        forecast(wrong, 2, model="naive")
    assert len(caught) == 1
    kept = r"series 'a' ends with -9999 from 2024-02-28 00:00:00 on \(and 1 more\), far from all"
    with pytest.warns(UserWarning, match=kept):
        forecast(wrong, 2, model="naive", missing="error")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for right in (frame, dead):
            forecast(right, 2, model="naive")
        # A series may lie there.
        number = frame.select_dtypes(float).columns
        forecast(
            frame.assign(**{name: frame[name] - 9999 - Y[-1] for name in number}), 2, model="naive"
        )


def daily(values, column="y"):
    return pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=len(values)), column: values})


def around(level, **at):
    values = np.random.default_rng(0).normal(level, 1, 120).round(2)
    for row, value in at.items():
        values[int(row[1:])] = value
    return values


@pytest.mark.filterwarnings("ignore:series .* has had no rows on")
@pytest.mark.parametrize("names", [("shop 1", "Shop 1"), ("a", "a "), ("b  1", "b 1")])
def test_ids_that_differ_in_spaces_or_capitals_are_told(names):
    frame = table(empty=False)
    one_series = frame[frame["unique_id"] == "a"]
    ids = [names[row >= 30] for row in range(len(one_series))]
    first, second = sorted(names)
    message = f"series '{first}' and series '{second}' differ in spaces or capitals only"
    with pytest.warns(UserWarning, match=message):
        to_panel(one_series.assign(unique_id=ids))
    # So are ids in alternating rows, between which stamps without a value are filled in.
    rng = np.random.default_rng(0)
    mixed_ids = np.where(rng.random(len(one_series)) < 0.3, *names)
    with pytest.warns(UserWarning, match=message):
        to_panel(one_series.assign(unique_id=mixed_ids))
    # Series that last together are two, as those of random ids.
    both_series = pd.concat([one_series.assign(unique_id=name) for name in names])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert to_panel(both_series).n_series == 2


@pytest.mark.parametrize("model", ["gbm", "seasonal_naive", "least_squares", "ets"])
def test_sentinels_in_the_middle_are_told_with_a_call_that_works(model, monkeypatch):
    plant_small_gbm(monkeypatch)
    for target in ("y", "sales"):
        df = daily(around(20, r50=-9999, r51=-999, r80=-9999), target)
        message = r"has -9999 at 2024-02-20 00:00:00 \(and 2 more\), far from all other values"
        with pytest.warns(UserWarning, match=message) as caught:
            forecast(df, 2, model=model)
        assert len(caught) == 1
        names = {"df": df.copy()}
        exec(str(caught[0].message).split("empty: ")[1].split("; or, if")[0], names)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answer = forecast(names["df"], 2, model=model, missing="interpolate")
        assert answer.iloc[:, 1].between(10, 30).all()


@pytest.mark.parametrize("number", [-99.9, -9999.9, 999.9, 9999.99])
def test_sentinels_may_have_decimals(number):
    df = daily(around(20, r50=number, r51=number, r80=number))
    with pytest.warns(UserWarning, match=f"has {number} at 2024-02-20 00:00:00") as caught:
        told = forecast(df, 2)
    names = {"df": df.copy()}
    exec(str(caught[0].message).split("empty: ")[1].split("; or, if")[0], names)
    assert names["df"]["y"].isna().sum() == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pd.testing.assert_frame_equal(told, forecast(names["df"], 2))


@pytest.mark.filterwarnings("ignore:.* such numbers are read as missing")
@pytest.mark.filterwarnings("ignore:no series has a value in the last 2 rows")
@pytest.mark.parametrize(
    "model", ["zero", "ridge", "gbm", "seasonal_naive", "ets", "least_squares"]
)
def test_sentinels_are_missing_values_to_every_model(model, monkeypatch):
    """A ridge regression had seventy times the error."""
    plant_small_gbm(monkeypatch)
    clean = daily(around(20))
    dirty = daily(around(20, r50=-9999, r51=-999, r118=-9999, r119=-9999))
    empty = dirty.assign(y=dirty["y"].where(dirty["y"] > 0))
    settings = {"random_state": 0} if model == "gbm" else {}
    policy = None if model == "zero" else "interpolate"
    answer = forecast(dirty, 2, model=model, **settings)
    expected = forecast(empty, 2, model=model, missing=policy, **settings)
    pd.testing.assert_frame_equal(answer, expected)
    assert answer[model].between(15, 25).all()
    # New rows are read as those of the fit, single ones beside them.
    forecaster = make_forecaster(model, 2, **settings).fit(clean[:118])
    pd.testing.assert_frame_equal(
        forecaster.update(dirty[118:119]).update(dirty[119:]).predict(),
        forecaster.fit(clean[:118]).predict(pd.concat([clean[:118], dirty[118:]])),
    )


@pytest.mark.filterwarnings("ignore:.* such numbers are read as missing")
@pytest.mark.parametrize("model", ["zero", "ridge", "naive"])
def test_a_series_may_begin_with_sentinels(model):
    dirty = daily(around(20, r0=-9999, r1=-9999))
    answer = forecast(dirty, 2, model=model)
    assert answer[model].between(15, 25).all()
    later = daily(around(20))[118:].assign(ds=pd.date_range("2024-04-30", periods=2))
    forecaster = make_forecaster(model, 2).fit(dirty).update(later)
    assert forecaster.predict()[model].between(15, 25).all()


@pytest.mark.filterwarnings("ignore:.* such numbers are read as missing")
@pytest.mark.parametrize("policy", ["interpolate", "ffill"])
def test_sentinels_before_the_first_value_take_it_where_missing_values_are_filled(policy):
    values = around(20, r0=-9999, r1=-9999)
    filled = around(20, r0=values[2], r1=values[2])
    schema = Schema(missing=policy)
    panels = [
        make_forecaster("naive", 2, schema=schema).fit(daily(v)).panel_ for v in (values, filled)
    ]
    np.testing.assert_array_equal(panels[0].values, panels[1].values)


@pytest.mark.filterwarnings("ignore:.* such numbers are read as missing")
@pytest.mark.parametrize("share", [0.7, 1.0])
@pytest.mark.parametrize("model", ["zero", "ridge"])
def test_a_dead_sensor_of_numbers_that_others_show_to_be_none(model, share):
    alive = daily(around(20, r50=-999, r51=-999)).assign(unique_id="alive")
    silent = np.where(np.arange(120) < 120 * (1 - share), around(20), -999.0)
    dead = daily(silent).assign(unique_id="dead")
    both_series = pd.concat([alive, dead])
    empty = both_series.assign(y=both_series["y"].where(both_series["y"] > 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        answer = forecast(both_series, 2, model=model)
        expected = forecast(empty, 2, model=model)
        beside_nothing = forecast(dead, 2, model=model)
    pd.testing.assert_frame_equal(answer, expected)
    # A series alone may be one of that number.
    if share == 1:
        assert (beside_nothing[model] == -999).all()


def test_a_series_of_little_but_sentinels_is_told_with_a_call_that_works():
    values = around(20)
    values[np.arange(1, len(values) + 1) % 4 > 0] = -999
    dead, alive = (
        daily(y).assign(unique_id=name) for y, name in [(values, "d"), (around(20), "a")]
    )
    text_expected = f"series 'd' has -999 in 90 of {len(dead)} rows, and it is read as that number"
    for table_of, work in [
        (dead, lambda df: forecast(df, 2)),
        (pd.concat([alive, dead]), lambda df: forecast(df, 2)),
        (dead, fill),
        (dead, anomalies),
        (dead, lambda df: backtest(make_forecaster("naive", 2), df)),
    ]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work(table_of)
        (message,) = [
            text for text in (str(warning.message) for warning in caught) if text_expected in text
        ]
        names = {"df": table_of.copy()}
        exec(message.split("empty: ")[1], names)
        assert forecast(names["df"], 2)["zero"].between(10, 30).all()
    with pytest.warns(InputWarning, match=rf"has -999 in {len(dead)} of {len(dead)} rows"):
        assert (forecast(dead.assign(y=-999), 2)["zero"] == -999).all()


def test_what_most_values_are_is_told_only_where_it_lies_far_from_the_others():
    near = np.where(np.arange(120) % 3, -99.0, -98.0)
    prices = np.where(np.arange(120) % 3, 999.0, 799.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in (near, prices, np.full(120, 9999.0)):
            forecast(daily(values), 2)
        # The next rows of a series are judged beside those before.
        fitted = PretrainedForecaster(2).fit(daily(around(20)))
    later = pd.DataFrame({"ds": [daily(near)["ds"].max() + pd.Timedelta("1D")], "y": [-999.0]})
    with pytest.warns(InputWarning) as caught:
        fitted.update(later)
    assert not any("is read as that number" in str(warning.message) for warning in caught)


@pytest.mark.parametrize("number", [1e20, 9.969209968386869e36, -(2.0**31), np.finfo("f4").max])
def test_fills_of_any_size_are_told_with_a_call_that_works(number):
    df = daily(around(20, **dict.fromkeys(["r50", "r51", "r52", "r80"], float(number))))
    with pytest.warns(UserWarning, match=r"and 3 more.* are read as missing"):
        assert forecast(df, 2)["zero"].between(10, 30).all()
    with pytest.warns(UserWarning, match=r"far from all other values") as caught:
        forecast(df, 2, model="seasonal_naive")
    names = {"df": df}
    exec(str(caught[0].message).split("empty: ")[1].split("; or, if")[0], names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = forecast(names["df"], 2, model="seasonal_naive", missing="interpolate")
    assert answer["seasonal_naive"].between(10, 30).all()


@pytest.mark.parametrize("model", ["seasonal_naive", "ets"])
def test_a_single_fill_is_no_peak(model):
    with pytest.warns(UserWarning, match=r"has 1e\+20 at 2024-02-20 .*, far from all other values"):
        forecast(daily(around(20, r50=1e20)), 2, model=model)


# A sentinel, and a number with a slipped decimal point.
@pytest.mark.parametrize(
    ("model", "number"), [("zero", -999), ("ridge", -999), ("ridge", 912.3456)]
)
def test_wrong_numbers_in_columns_are_told_with_a_call_that_works(model, number, monkeypatch):
    plant_few_trees(monkeypatch)
    prices = {"price": around(9, r50=number, r51=number), "kind": np.tile(["a", "-999"], 60)}
    df = daily(around(20)).assign(**prices)
    future = pd.DataFrame({"ds": pd.date_range("2024-04-30", periods=2), "price": 9.0, "kind": "a"})
    known = {"schema": Schema(future_cols=["kind", "price"]), "future": future, "model": model}
    message = (
        rf"column 'price' holds {number:g} at 2024-02-20 00:00:00 \(and 1 more\), far from all"
    )
    with pytest.warns(
        UserWarning, match=message + ".* are read as missing, and take the"
    ) as caught:
        answer = forecast(df, 2, **known)
    assert len(caught) == 1
    names = {"df": df.copy()}
    exec(str(caught[0].message).split("empty: ")[1].split(", or")[0], names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = forecast(names["df"], 2, missing="ffill", **known)
    pd.testing.assert_frame_equal(answer, expected)
    with pytest.warns(UserWarning, match=message + ".* and it is read as that number") as caught:
        kept = forecast(df, 2, missing="error", **known)
    assert len(caught) == 1
    assert not kept.equals(answer)


@pytest.mark.filterwarnings("ignore:.* take the value before them")
def test_a_column_that_begins_with_sentinels_takes_its_first_value():
    prices = around(9, r0=-999, r1=-999, r40=-999)
    known = around(9)
    known[[0, 1, 40]] = [known[2], known[2], known[39]]
    schema = Schema(past_cols=["price"])
    frames = [daily(around(20)).assign(price=column) for column in (prices, known)]
    # The second of two series has a first value of its own.
    first = daily(around(30)).assign(price=5.0, unique_id="a")
    frames = [pd.concat([first, frame.assign(unique_id="b")]) for frame in frames]
    answers = [forecast(frame, 2, model="ridge", schema=schema) for frame in frames]
    pd.testing.assert_frame_equal(*answers)


@pytest.mark.filterwarnings("ignore:.* take the value before them")
@pytest.mark.parametrize("dead", ["a", "z"])
def test_a_column_of_nothing_but_sentinels_in_a_series_takes_the_median_of_the_others(dead):
    prices = around(9, r118=-999, r119=-999)
    frames = []
    for price in (-999.0, np.median(prices[:118])):
        hung = daily(around(30)).assign(price=price, unique_id=dead)
        frames.append(pd.concat([daily(around(20)).assign(price=prices, unique_id="b"), hung]))
    schema = Schema(past_cols=["price"])
    answers = [forecast(frame, 2, model="ridge", schema=schema) for frame in frames]
    pd.testing.assert_frame_equal(*answers)


@pytest.mark.filterwarnings("ignore:.* has -999 in 120 of 120 rows")
def test_a_series_of_nothing_but_sentinels_is_told_from_its_first_row_on():
    frame = pd.concat(
        [
            daily(around(20, r60=-999)).assign(unique_id="b"),
            daily(np.full(120, -999.0)).assign(unique_id="z"),
        ]
    )
    with pytest.warns(UserWarning, match="series 'z' ends with -999 from 2024-01-01 00:00:00 on"):
        forecast(frame, 2, missing="error", model="naive")


@pytest.mark.parametrize("model", ["zero", "auto"])
@pytest.mark.parametrize("rows", [["r119"], ["r50", "r119"], ["r50", "r80"], ["r118", "r119"]])
def test_each_wrong_value_is_told_once(model, rows):
    df = daily(around(20, **dict.fromkeys(rows, -9999)))
    with pytest.warns(UserWarning, match="-9999") as caught:
        forecast(df, 2, model=model, **({"max_time": 1} if model == "auto" else {}))
    assert len(caught) == 1


@pytest.mark.parametrize(
    "values",
    [
        around(20, r50=0, r51=0, r80=0),
        around(20, r50=999.99, r51=999.99),
        np.clip(around(1000) * np.linspace(0.5, 1.5, 120), None, 999),
        np.round(np.abs(around(0)) * 300, 0),
        around(999).round(0),
        around(20, r50=999),
        around(1e16),
        around(-100).round(0),
        np.where(np.arange(120) % 7 == 6, 0.0, 999.0),
    ],
    ids=["zeros", "prices", "cap", "counts", "level", "a peak", "large", "decibels", "weekends"],
)
def test_values_that_may_be_right_are_no_sentinels(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(daily(values), 2, model="seasonal_naive")


@pytest.mark.parametrize("row", [30, 119])
@pytest.mark.parametrize("year", [2022, 2026])
def test_a_stamp_of_a_wrong_year_is_told(row, year):
    df = daily(around(20))
    df.loc[row, "ds"] = df["ds"][row].replace(year=year)
    message = (
        r"rows are absent between .* and at most [01] elsewhere; if a stamp is wrong, correct it"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        forecast(df, 2)
    assert len(caught) == 1
    assert "if none is, a policy by missing= says so" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(df, 2, missing="mask")


def test_a_stamp_too_far_away_is_refused_without_other_words():
    df = daily(around(20))
    df.loc[119, "ds"] = df["ds"][119].replace(year=2099)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = f"the most between {df['ds'][118]} and {df['ds'][119]}, but a table may grow 100"
        with pytest.raises(ValueError, match=message):
            forecast(df, 2)


def test_gaps_like_others_are_no_wrong_stamps():
    rows = np.flatnonzero(np.random.default_rng(0).random(900) < 0.05)
    df = daily(np.arange(900.0)).iloc[rows]
    long_gap = daily(around(20)).drop(index=range(40, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(df, 2, freq="D")
        forecast(long_gap.iloc[:-5], 2)


def test_wrong_numbers_in_columns_are_told_with_their_series_and_further_columns():
    rng = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=120)
    shops = []
    for shop, number in [("a", 9.0), ("b", -999.0)]:
        columns = {name: rng.normal(9, 1, 120) for name in ("price", "temp")}
        for name in columns:
            columns[name][[50, 51]] = number
        shops.append(pd.DataFrame({"unique_id": shop, "ds": days, "y": np.arange(120.0)} | columns))
    schema = Schema(past_cols=["price", "temp"])
    message = (
        r"^column 'price' \(of 2 such columns\) holds -999 at 2024-02-20 00:00:00 of series 'b'"
        r" \(and 1 more\), far from"
    )
    with pytest.warns(UserWarning, match=message):
        make_forecaster("ridge", 2, schema=schema).fit(pd.concat(shops))
