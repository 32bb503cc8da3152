"""Levels and quantiles, the frame that a forecast becomes, and what the base class refuses."""

import copy
import doctest
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted
from tables import long_table, wide_table
from tiny_network import tiny_network

from tsattn import forecaster as module
from tsattn import levels, make_forecaster
from tsattn.checks import InputWarning
from tsattn.data import windows
from tsattn.data.frames import to_panel
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecaster import Fitted, Forecaster, forecast_panel
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive
from tsattn.forecasts import Forecast, unbounded
from tsattn.levels import check_request, level_to_quantiles, quantile_to_level
from tsattn.training.settings import Training

H = 3


def long_frame(n_series=2, n_rows=30, **index):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=n_rows) + 10 * i for i in range(n_series)]
    return long_table(values, **index)


def wide_frame(n_rows=30, **index):
    values = np.random.default_rng(0).normal(size=(n_rows, 2))
    return wide_table(values, ["load", "heat"], **index)


@pytest.mark.parametrize("freq", ["h", "D", "W-WED", "M", "Q-MAR", "Y"])
@pytest.mark.parametrize("layout", ["long", "wide", "wide index"])
def test_forecasts_of_periods_are_periods(layout, freq, tmp_path):
    """Also of loaded models, in frames of the future and beside truths."""
    periods = pd.period_range("2001-01-01", periods=33, freq=freq)
    known = periods[:30]
    table = pd.DataFrame({"load": np.arange(30.0), "heat": 1.0 + np.arange(30.0) % 7}, index=known)
    if layout == "wide":
        table = table.rename_axis("when").reset_index()
    elif layout == "long":
        table = table.melt(ignore_index=False, var_name="unique_id", value_name="y")
        table = table.rename_axis("ds").reset_index()
    model = Drift(3).fit(table)
    model.save(tmp_path / "m")
    for fitted in (model, Drift.load(tmp_path / "m")):
        for answer in (fitted.predict(), fitted.make_future_frame()):
            times = answer.get("ds", answer.get("when", answer.index))
            assert times.dtype == periods.dtype
            assert times[:3].tolist() == periods[30:].tolist()
    judged = backtest(model, table, n_windows=1).frame
    assert judged["ds"][:3].tolist() == known[-3:].tolist()
    assert (judged["cutoff"] == known[-4]).all()


@pytest.mark.parametrize("level", [1, 50, 80, 90, 95, 97.5, 99, 99.9])
def test_a_level_and_its_quantiles_are_one(level):
    lower, upper = level_to_quantiles(level)
    assert (lower, upper) == (float(str(lower)), float(str(upper)))
    assert len(str(lower)) <= 7, "rounding dust would become part of a column name"
    assert lower + upper == pytest.approx(1)
    assert quantile_to_level(lower) == quantile_to_level(upper) == level


def test_every_typed_decimal_comes_back_exactly():
    for permille in range(1, 496):  # a level below 1 is a share in the wrong place
        lower = permille / 1000
        upper = (1000 - permille) / 1000
        assert level_to_quantiles(quantile_to_level(lower)) == (lower, upper)


def test_requests_are_sorted_and_merged():
    assert check_request([95, 80.0, 80], (0.9, 0.5)) == (
        (80, 95),
        (0.5, 0.9),
        (0.025, 0.1, 0.5, 0.9, 0.975),
    )
    assert check_request(None, None) == ((), (), ())
    assert check_request(80, 0.1)[2] == (0.1, 0.9)
    assert check_request(np.array([80]), np.array([0.1]))[2] == (0.1, 0.9)


@pytest.mark.parametrize("level", [0, 100, -5, float("nan"), "80", True, [80, 120], None])
def test_bad_levels_are_refused(level):
    if level is None:
        with pytest.raises(ValueError, match=r"strictly between 0 and 100.*got None"):
            check_request([None], None)
    else:
        with pytest.raises(ValueError, match="strictly between 0 and 100"):
            check_request(level, None)


def test_levels_as_text_are_told_to_be_numbers():
    for level, quantiles in ((["80", "95"], None), (None, "0.1")):
        with pytest.raises(ValueError, match=r"got '(80|0\.1)': write it without quotes"):
            check_request(level, quantiles)


@pytest.mark.parametrize("quantiles", [0, 1, [0.1, 90], "0.1", [True]])
def test_bad_quantiles_are_refused(quantiles):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        check_request(None, quantiles)


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), [0.5, 0.5]])
def test_quantiles_of_windows_stand_in_their_own_order(quantiles):
    """Sorted ones would stand in columns of others."""
    x = np.arange(20.0).reshape(1, 20, 1)
    zero = make_forecaster("zero", 2).fit(x.ravel())
    assert zero.predict_windows(x, quantiles=[0.1, 0.9])[1].shape == (1, 2, 1, 2)
    wrapped = SplitConformal(make_forecaster("naive", 2), n_windows=9).fit(x.ravel())
    history = windows.History(wrapped.panel_)
    for call in (
        lambda: zero.predict_windows(x, quantiles=quantiles),
        lambda: wrapped.predict_before(history, np.array([20]), quantiles=quantiles),
    ):
        with pytest.raises(ValueError, match=r"must ascend, each once, .*; got .*: write"):
            call()


def test_the_median_bounds_no_interval():
    assert quantile_to_level(0.5) == 0


def calibrated(data, schema=Schema()):
    return SplitConformal(Naive(H, schema=schema), n_windows=9, step_size=1).fit(data)


@pytest.mark.parametrize(
    "names", [("unique_id", "ds", "y"), ("item_id", "timestamp", "target"), ("shop", "day", "sold")]
)
def test_long_in_long_out(names):
    frame = long_frame(names=names)
    schema = Schema("shop", "day", "sold") if names[0] == "shop" else Schema()
    out = calibrated(frame, schema).predict(level=[80], quantiles=[0.5, 0.1])
    assert list(out.columns) == [
        *names[:2],
        "naive",
        "naive-lo-80",
        "naive-hi-80",
        "naive-q0.1",
        "naive-q0.5",
    ]
    assert isinstance(out.index, pd.RangeIndex)
    assert list(out[names[0]]) == ["s0"] * H + ["s1"] * H
    assert list(out[names[1]][:H]) == list(pd.date_range("2024-01-31", periods=H))
    np.testing.assert_array_equal(out["naive-lo-80"], out["naive-q0.1"])
    np.testing.assert_array_equal(out["naive"], out["naive-q0.5"])
    last = frame.groupby(names[0])[names[2]].last()
    np.testing.assert_array_equal(out["naive"], np.repeat(last.to_numpy(), H))


def test_level_and_quantiles_are_the_same_bits():
    fitted = calibrated(long_frame())
    by_level = fitted.predict(level=80)
    by_quantile = fitted.predict(quantiles=(0.1, 0.9))
    assert by_level["naive-lo-80"].tolist() == by_quantile["naive-q0.1"].tolist()
    assert by_level["naive-hi-80"].tolist() == by_quantile["naive-q0.9"].tolist()
    assert (
        by_level["naive"].tolist()
        == by_quantile["naive"].tolist()
        == fitted.predict()["naive"].tolist()
    )


def test_wide_in_wide_out_by_index_and_by_column():
    frame = wide_frame(tz="Europe/Berlin").rename_axis("when")
    by_index = calibrated(frame).predict(level=80)
    assert list(by_index.columns) == [
        "load",
        "load-lo-80",
        "load-hi-80",
        "heat",
        "heat-lo-80",
        "heat-hi-80",
    ]
    assert by_index.index.name == "when"
    assert str(by_index.index.tz) == "Europe/Berlin"
    assert by_index.index[0] == frame.index[-1] + pd.Timedelta("1h")
    np.testing.assert_array_equal(by_index["heat"], np.repeat(frame["heat"].iloc[-1], H))

    by_column = calibrated(frame.reset_index(names="date")).predict(level=80)
    assert list(by_column.columns) == ["date", *by_index.columns]
    assert isinstance(by_column.index, pd.RangeIndex)
    assert list(by_column["date"]) == list(by_index.index)
    np.testing.assert_array_equal(by_column["heat-hi-80"], by_index["heat-hi-80"])


def test_ids_keep_their_type():
    frame = long_frame()
    frame["unique_id"] = frame["unique_id"].astype("category")
    assert Naive(H).fit(frame).predict()["unique_id"].dtype == frame["unique_id"].dtype
    frame = long_frame()
    frame["unique_id"] = frame["unique_id"].str[1:].astype("int64")
    assert Naive(H).fit(frame).predict()["unique_id"].dtype == np.int64


def test_a_frame_without_ids_is_one_series():
    out = Naive(H).fit(long_frame(1).drop(columns="unique_id")).predict()
    assert list(out.columns) == ["ds", "naive"]


def test_a_fractional_level_names_its_columns():
    fitted = SplitConformal(Naive(H), n_windows=20).fit(long_frame(4, 60))
    assert list(fitted.predict(level=[97.5]).columns)[3:] == ["naive-lo-97.5", "naive-hi-97.5"]


def test_a_panel_gives_a_forecast():
    panel = to_panel(long_frame())
    fitted = calibrated(panel)
    for out in (fitted.predict(), fitted.predict(panel)):
        assert isinstance(out, Forecast)
    assert isinstance(fitted.predict(long_frame()), pd.DataFrame)
    assert isinstance(calibrated(long_frame()).predict(panel), Forecast)
    out = fitted.predict(level=80)
    assert out.point.shape == (2, H)
    assert out.horizon == H
    assert set(out.quantiles) == {0.1, 0.9}
    assert list(out.cutoffs) == [pd.Timestamp("2024-01-30")] * 2
    pd.testing.assert_frame_equal(out.to_frame(), calibrated(long_frame()).predict(level=80))


def test_an_alias_may_not_hide_a_column():
    with pytest.raises(ValueError, match="two columns of the answer would be called 'ds'"):
        Naive(H, alias="ds").fit(long_frame()).predict()


def test_a_shorter_horizon_is_a_prefix_and_a_longer_one_is_refused():
    panel = to_panel(long_frame())
    fitted = Drift(H).fit(panel)
    whole_forecast = forecast_panel(fitted, panel)
    part = forecast_panel(fitted, panel, horizon=2)
    np.testing.assert_array_equal(part.point, whole_forecast.point[:, :2])
    assert len(part.times) == 2 * panel.n_series
    with pytest.raises(ValueError, match=r"horizon = 4 is longer than the 3 steps.*horizon=4"):
        forecast_panel(fitted, panel, horizon=4)
    with pytest.raises(ValueError, match="horizon must be a whole number"):
        forecast_panel(fitted, panel, horizon=0)


def test_many_series_are_answered_in_chunks():
    calls = []

    class Counting(Naive):
        def _points(self, x):
            calls.append(len(x))
            return super()._points(x)

    panel = to_panel(long_frame(1300, 5))
    out = forecast_panel(Counting(H), panel)
    assert calls == [512, 512, 276]
    np.testing.assert_array_equal(out.point[:, 0], panel.values[panel.starts[1:] - 1, 0])


class Odd(Naive):
    """Answers what it was told to."""

    def __init__(self, returned):
        super().__init__(H)
        self.returned = returned

    def _points(self, x):
        return self.returned


def test_a_wrong_shape_or_value_is_refused():
    panel = to_panel(long_frame())
    with pytest.raises(
        ValueError, match=r"must answer windows, steps, channels as \(2, 3, 1\); got \(2, 3\)"
    ):
        forecast_panel(Odd(np.zeros((2, 3))), panel)
    bad = np.zeros((2, 3, 1))
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite for series 's1'"):
        forecast_panel(Odd(bad), panel)
    numbered = long_frame().assign(unique_id=lambda frame: frame["unique_id"].factorize()[0])
    with pytest.raises(ValueError, match="not finite for series 1;"):
        forecast_panel(Odd(bad), to_panel(numbered))


def test_levels_are_refused_for_a_forecaster_that_says_it_has_points_only():
    class Own(Forecaster):
        context = 1
        gives_quantiles = False

        def __init__(self, horizon=H, *, alias=None, schema=Schema()):
            self.horizon = horizon
            self.alias = alias
            self.schema = schema

        def _fit(self, panel, context):
            return Fitted(panel=panel)

        def _forecast(self, x, quantiles, covariates):
            return unbounded(np.repeat(x[:, -1:], self.horizon, axis=1))

    model = Own().fit(long_frame())
    assert len(model.predict()) == 2 * H
    with pytest.raises(ValueError, match=r"Own gives points only, no level .*SplitConformal\(Own"):
        model.predict(level=80)

    class Forgetful(Own):
        gives_quantiles = True

    message = (
        r"must answer windows, steps, channels, quantiles as \(2, 3, 1, 2\); got \(2, 3, 1, 0\)"
    )
    with pytest.raises(ValueError, match=message):
        Forgetful().fit(long_frame()).predict(level=80)


class Smallest(Forecaster):
    """Repeats the last row; without a schema and an alias."""

    context = 1
    change = None

    def __init__(self, horizon=H):
        self.horizon = horizon

    def _fit(self, panel, context):
        return Fitted(panel=panel)

    def _forecast(self, x, quantiles, covariates):
        point = np.repeat(x[:, -1:], self.horizon, axis=1)
        bounds = point[..., None] + np.array(quantiles)
        return (point, bounds) if self.change is None else self.change(point, bounds)


def test_the_smallest_forecaster_forecasts(tmp_path):
    model = Smallest().fit(long_frame())
    forecast = model.predict(level=80)
    assert list(forecast) == ["unique_id", "ds", "Smallest", "Smallest-lo-80", "Smallest-hi-80"]
    model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(Smallest.load(tmp_path / "model").predict(level=80), forecast)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda point, bounds: point,
            TypeError,
            r"_forecast of Own must return points and quantiles, two arrays; got a ndarray: .*"
            r" set gives_quantiles = False and return tsattn.forecasts.unbounded\(points\)",
        ),
        (lambda point, bounds: None, TypeError, "two arrays; got a NoneType"),
        (
            lambda point, bounds: (point, None),
            ValueError,
            r"quantiles as \(2, 3, 1, 2\); got None; return from _forecast the 2 quantiles that",
        ),
        (
            lambda point, bounds: (point[..., 0], bounds),
            ValueError,
            r"got \(2, 3\); return points of this shape from _forecast",
        ),
        (
            lambda point, bounds: ([["a"]], bounds),
            TypeError,
            r"channels as an array of numbers; got a list \(could not convert .*; return points of",
        ),
        (
            lambda point, bounds: (point, point[..., None] + np.array([1.0, -1.0])),
            ValueError,
            r"quantiles of Own must not cross; got 1\.\d+ for 0\.1 and -0\.\d+ for 0\.9 at step 1: sort"
            r" them by np\.sort\(bounds, axis=-1\)",
        ),
        (lambda point, bounds: (point, bounds * np.nan), ValueError, "not finite for series 's0'"),
    ],
)
def test_an_answer_that_is_no_forecast_is_refused(change, error, message):
    class Own(Smallest):
        pass

    Own.change = staticmethod(change)
    with pytest.raises(error, match=message):
        Own().fit(long_frame()).predict(level=80)


def test_quantiles_may_cross_by_rounding():
    class Own(Smallest):
        change = staticmethod(lambda point, bounds: (point, 9 - 1e-8 * bounds.cumsum(axis=-1)))

    assert (Own().fit(long_frame()).predict(level=80)["Own-hi-80"] < 9).all()


def test_a_constructor_that_forgets_an_argument_is_named():
    class Own(Smallest):
        def __init__(self, size=3):
            pass

    with pytest.raises(ValueError, match="horizon must be a whole number of at least 1; got None"):
        Own().fit(long_frame())
    with pytest.raises(AttributeError, match=r"Own must store 'size' .*; write self.size = size"):
        Own().get_params()

    class Open(Smallest):
        def __init__(self, **rest):
            super().__init__(**rest)

    with pytest.raises(AttributeError, match=r"of Open must name all .*; got \*\*rest: write them"):
        Open().get_params()


def test_a_context_that_is_still_open_is_refused():
    class Open(Naive):
        context = None

    chosen = Open(H)
    with pytest.raises(ValueError, match="context = None: fit it first"):
        _ = chosen.min_context
    chosen = chosen.with_state(Fitted(panel=to_panel(long_frame()), context=5))
    assert chosen.min_context == 5


def test_a_fit_that_returns_nothing_is_refused():
    class Silent(Naive):
        def _fit(self, panel, context):
            pass

    class Whole(Naive):
        def _fit(self, panel, context):
            return panel

    class Empty(Naive):
        def _fit(self, panel, context):
            return Fitted(panel=None)

    for kind, got in (
        (Silent, "a NoneType"),
        (Whole, "a Panel"),
        (Empty, "a Fitted without a panel"),
    ):
        message = (
            rf"_fit of {kind.__name__} must return .*; got {got}: end it with return Fitted\(panel="
        )
        with pytest.raises(TypeError, match=message):
            kind(H).fit(long_frame())


def test_a_fit_that_fails_leaves_the_one_before():
    forecaster = Naive(H).fit(long_frame())
    before = forecaster.state_
    with pytest.raises(ValueError, match="column 'y' is missing"):
        forecaster.fit(long_frame().drop(columns="y"))
    assert forecaster.state_ is before
    with pytest.raises(ValueError, match="Naive learns anew in every fit; got warm_start = True"):
        forecaster.fit(long_frame(), warm_start=True)
    assert forecaster.state_ is before


@dataclass(frozen=True, eq=False)
class MeanFitted(Fitted):
    """One number."""

    mean: float

    def facts(self):
        return {"learnt": {"mean": self.mean}}

    @classmethod
    def restored(cls, forecaster, saved, **common):
        return cls(saved.facts["learnt"]["mean"], **common)


class Mean(Naive):
    """The mean of all rows of the fit."""

    fitted_class = MeanFitted

    def _fit(self, panel, context):
        return MeanFitted(panel.values.mean(), panel=panel)

    def _points(self, x):
        return np.full((len(x), self.horizon, x.shape[2]), self.state_.mean)


class NoFacts(Mean):
    """Does not say what is saved."""

    fitted_class = Fitted


def test_a_forecaster_of_ones_own_is_saved_with_what_its_fit_says(tmp_path):
    forecaster = Mean(H).fit(long_frame())
    forecaster.save(tmp_path / "model")
    loaded = Mean.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), forecaster.predict(), check_exact=True)
    with pytest.raises(ValueError, match="NoFacts cannot be saved: its fit is a MeanFitted"):
        NoFacts(H).fit(long_frame()).save(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_copies_and_clones_keep_settings_and_only_copies_the_fit():
    forecaster = LinearForecaster(H, "rlinear", context=7, closed_form=True).fit(long_frame())
    for twin in (copy.deepcopy(forecaster), pickle.loads(pickle.dumps(forecaster))):
        pd.testing.assert_frame_equal(twin.predict(), forecaster.predict(), check_exact=True)
        check_is_fitted(twin)
    fresh = clone(forecaster)
    assert fresh.get_params() == forecaster.get_params()
    assert not hasattr(fresh, "context_")
    with pytest.raises(NotFittedError):
        check_is_fitted(fresh)


def test_new_data_may_be_shorter_than_a_frequency_needs():
    fitted = Naive(H).fit(long_frame())
    new = pd.DataFrame({"unique_id": ["new"], "ds": [pd.Timestamp("2025-06-01")], "y": [4.0]})
    out = fitted.predict(new)
    assert list(out["ds"]) == list(pd.date_range("2025-06-02", periods=H))
    assert list(out["naive"]) == [4.0] * H


@pytest.mark.parametrize("tz", [None, "Europe/Berlin"])
@pytest.mark.parametrize("freq", ["15min", "h", "D", "B", "W-MON", "MS", "QS"])
def test_new_series_are_forecast_after_their_last_stamp(freq, tz):
    new = long_frame(1, 20, freq=freq, tz=tz).assign(unique_id="new")
    out = Naive(H).fit(long_frame(2, freq=freq, tz=tz)).predict(new[:-5])
    assert out["ds"].tolist() == new["ds"].tolist()[15 : 15 + H]
    assert out["ds"].dtype == new["ds"].dtype
    assert out["naive"].tolist() == [new["y"].iloc[14]] * H


class Tuned(Naive):
    """Has a group of settings of its own."""

    def __init__(self, horizon, *, training=Training(), alias=None, schema=Schema()):
        super().__init__(horizon, alias=alias, schema=schema)
        self.training = training


def test_settings_are_found_by_their_bare_names():
    made = Tuned.from_settings(horizon=2, max_epochs=3, freq="h", alias="mine")
    assert (made.training, made.schema, made.alias) == (
        Training(max_epochs=3),
        Schema(freq="h"),
        "mine",
    )
    assert made.get_params()["training__max_epochs"] == 3
    assert "training__max_epochs" not in made.get_params(deep=False)
    assert (
        repr(made) == "Tuned(horizon=2, training=Training(max_epochs=3), alias='mine',"
        " schema=Schema(freq='h'))"
    )
    given = Tuned.from_settings(horizon=2, training=Training(patience=None), max_epochs=3)
    assert given.training == Training(patience=None, max_epochs=3)
    with pytest.raises(
        ValueError, match=r"Tuned has no setting 'epochs'; it has horizon, training, .*max_epochs"
    ):
        Tuned.from_settings(horizon=2, epochs=3)


def test_settings_are_changed_together_or_not_at_all():
    made = Tuned(2)
    assert made.set_params(training__max_epochs=4, training__patience=1, horizon=5) is made
    assert (made.training, made.horizon) == (Training(max_epochs=4, patience=1), 5)
    assert Training() == Training(max_epochs=None), "the shared default stays as it was"
    for bad, message in (
        (
            {"alias": "x", "training__max_epochs": 0},
            "max_epochs must be a whole number of at least 1; got 0",
        ),
        ({"alias": "x", "horizon": 0}, "horizon must be a whole number of at least 1; got 0"),
        (
            {"alias": "x", "network__d_model": 3},
            "Tuned has no parameter 'network'; it takes horizon, training",
        ),
        ({"alias": "x", "training__epochs": 3}, "Training has no setting 'epochs'; it has loss"),
        ({"alias__x": 3}, "alias of Tuned has no parameters of its own; got alias__x"),
    ):
        with pytest.raises(ValueError, match=message):
            made.set_params(**bad)
        assert (made.training.max_epochs, made.horizon, made.alias) == (4, 5, None)
    wrapped = SplitConformal(Tuned(2), n_windows=3).set_params(forecaster__training__max_epochs=2)
    assert wrapped.forecaster.training.max_epochs == 2


def test_the_examples_in_the_docstrings_are_true():
    outcomes = [doctest.testmod(each) for each in (module, levels, windows)]
    assert sum(each.attempted for each in outcomes) >= 7
    assert sum(each.failed for each in outcomes) == 0


def test_forecasts_do_not_share_the_panel():
    panel = to_panel(wide_frame())
    assert isinstance(panel, Panel)
    before = panel.values.copy()
    out = Naive(H).fit(panel).predict()
    out.point[:] = 0
    np.testing.assert_array_equal(panel.values, before)


def test_two_columns_of_one_name_are_refused():
    stamps = pd.date_range("2024-01-01", periods=40)
    wide = pd.DataFrame({"a": np.arange(40.0), "a-lo-80": -np.arange(40.0)}, index=stamps)
    fitted = SplitConformal(Naive(2), n_windows=12).fit(wide)
    assert fitted.predict().shape == (2, 2)
    # No alias is in the names of a wide answer.
    with pytest.raises(ValueError, match=r"two columns .* would be called 'a-lo-80'; rename it$"):
        fitted.predict(level=80)
    long = pd.DataFrame({"x-lo-80": "s", "ds": stamps, "y": np.arange(40.0)})
    named = SplitConformal(Naive(2, alias="x", schema=Schema(id_col="x-lo-80")), n_windows=12).fit(
        long
    )
    with pytest.raises(ValueError, match=r"called 'x-lo-80'; rename it, or give another alias=$"):
        named.predict(level=80)
    pair = [SplitConformal(Naive(2, alias=name), n_windows=12) for name in ("m", "m-lo-80")]
    with pytest.raises(ValueError, match="two columns of the answer would be called 'm-lo-80'"):
        backtest(pair, long.rename(columns={"x-lo-80": "unique_id"}), level=80)


def test_names_of_a_wide_answer_are_not_compared_each_with_each():
    compared = []

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

    names = [Name(f"c{n}") for n in range(400)]
    wide = pd.DataFrame(
        {str(name): np.arange(9.0) for name in names}, index=pd.date_range("2024-01-01", periods=9)
    )
    assert Naive(1).fit(wide).predict().columns.tolist() == [str(name) for name in names]
    levels.refuse_twice(names)
    assert len(compared) < 4 * len(names)


def test_a_second_fit_forgets_what_was_learnt_before_and_a_failed_one_does_not():
    model = Naive(H).fit(long_frame())
    before = model.state_
    with pytest.raises(ValueError, match="the table is empty"):
        model.fit(long_frame()[:0])
    assert model.state_ is before
    model.fit(wide_frame())
    assert model.state_ is not before
    assert model.panel_.ids.tolist() == ["heat", "load"]
    assert list(model.predict().columns) == ["load", "heat"]


# --- time zones -----------------------------------------------------------------------------------


def in_berlin(zone="Europe/Berlin"):
    """A value for each hour of the day of Berlin, over a change of the clocks."""
    hours = pd.date_range("2024-03-20", periods=600, freq="h", tz="Europe/Berlin")
    values = np.where((hours.hour >= 8) & (hours.hour < 18), 10.0 + hours.hour, 0.0)
    return pd.DataFrame({"unique_id": "a", "ds": hours.tz_convert(zone), "y": values})


def test_new_rows_in_another_zone_are_read_in_that_of_the_fit():
    table = in_berlin()
    model = make_forecaster("ridge", 24, context=24, calendar=("hour",), random_state=0).fit(table)
    expected = model.predict(table)
    pd.testing.assert_frame_equal(model.predict(in_berlin("America/New_York")), expected)
    assert str(expected["ds"].dt.tz) == "Europe/Berlin"


def test_opening_hours_are_those_of_the_zone_of_the_fit():
    def opened(zone):
        table = in_berlin(zone)
        hour = table["ds"].dt.tz_convert("Europe/Berlin").dt.hour
        return table[(hour >= 8) & (hour < 18)]

    with pytest.warns(InputWarning, match="read as closed"):
        model = make_forecaster("naive", 4).fit(opened("Europe/Berlin"))
    answer = model.predict(opened("UTC"))
    pd.testing.assert_frame_equal(answer, model.predict())
    assert answer["ds"].dt.hour.tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("fitted", ["Europe/Berlin", None])
def test_stamps_with_and_without_a_zone_do_not_meet(fitted):
    days = pd.date_range("2024-01-01", periods=60, tz="Europe/Berlin")
    zoned = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.arange(60.0) % 7})
    naive = zoned.assign(ds=days.tz_localize(None))
    table, rows = (zoned, naive) if fitted else (naive, zoned)
    model = LinearForecaster(2, context=24, closed_form=True).fit(table)
    kinds = ["stamps in a time zone", "stamps without a time zone"]
    of_fit, got = kinds if fitted else kinds[::-1]
    message = f"^the model was fitted on {of_fit}; got {got}; give both the same: df"
    for call in (model.predict, model.update):
        names = {"df": rows.copy(), "pd": pd}
        with pytest.raises(ValueError, match=message) as caught:
            call(rows)
        exec(str(caught.value).split("the same: ")[1], names)
        call(names["df"])


@pytest.mark.parametrize("name", ["seasonal_naive", "ridge", "zero"])
def test_a_fit_that_is_updated_for_long_keeps_the_rows_that_are_read(name):
    def hours(first, stop):
        return long_frame(n_rows=1500).groupby("unique_id").nth(list(range(first, stop)))

    options = {"weights": tiny_network()} if name == "zero" else {}
    model = make_forecaster(name, 4, freq="D", **options).fit(hours(0, 40))
    whole = copy.deepcopy(model).update(hours(40, 1400)).update(hours(1400, 1500))
    whole.state_ = replace(whole.state_, panel=to_panel(hours(0, 1500)))
    for first in range(40, 1500, 365):
        model.update(hours(first, min(first + 365, 1500)))
    n_read = max(model.max_context, 8) + 12 * 4
    assert model.panel_.lengths.tolist() == [max(40, n_read)] * 2
    assert n_read < 1000
    pd.testing.assert_frame_equal(model.predict(), whole.predict())
    if name == "zero":
        paths = model.sample(20, random_state=0)
        assert np.array_equal(paths, whole.sample(20, random_state=0))


@pytest.mark.parametrize("name", ["naive", "ridge"])
def test_a_pipeline_of_scikit_learn_ends_in_a_forecaster(name):
    model = make_forecaster(name, H)
    pipeline = make_pipeline("passthrough", model).fit(long_frame())
    pd.testing.assert_frame_equal(pipeline.predict(None), model.predict())


@pytest.mark.parametrize(
    ("name", "value"),
    [("warm_start", "no"), ("verbose", 1), ("keep", "points"), ("recursive", "no")],
)
def test_switches_are_true_or_false(name, value):
    df = long_table([np.arange(40.0) % 7], ["a"])
    model = LinearForecaster(2, "rlinear", closed_form=True)
    calls = {
        "warm_start": lambda: model.fit(df, warm_start=value),
        "verbose": lambda: model.fit(df, verbose=value),
        "keep": lambda: backtest({"a": model}, df, keep=value),
        "recursive": lambda: model.fit(df).predict(horizon=3, recursive=value),
    }
    with pytest.raises(ValueError, match=f"{name} must be True or False; got {value!r}"):
        calls[name]()


def test_a_closed_form_is_asked_for_by_true():
    df = long_table([np.arange(40.0) % 7], ["a"])
    with pytest.raises(ValueError, match="closed_form must be True or False; got 'no'"):
        LinearForecaster(2, "rlinear", closed_form="no").fit(df)
