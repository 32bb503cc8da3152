"""Sample paths and sums of forecasts: shapes, seeds, spans, bands, refusals, and the coverage of
sums on real series.
"""

import importlib.util
import warnings

import numpy as np
import pandas as pd
import pytest
from small_forecasters import attention
from tables import long_table, wide_table
from tiny_network import tiny_network

from tsattn import AutoForecaster, PretrainedForecaster, SplitConformal, make_forecaster
from tsattn.catalogue import load_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import is_intermittent
from tsattn.evaluate.conformal import AdaptiveConformal
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasts import Forecast

DAYS = 40


def walks(n_series=3, n_rows=200, seed=0):
    rng = np.random.default_rng(seed)
    values = 50 + rng.normal(size=(n_series, n_rows)).cumsum(axis=1)
    return long_table(values)


def rare_sales(share=0.1, size=787, n_rows=300, seed=0):
    """Days of a shop that seldom sells, and then much."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n_rows) < share, rng.poisson(size, n_rows), 0).astype(float)


# --- the point


def test_mean_of_rare_sales_is_near_their_mean_and_the_median_is_zero():
    table = long_table([rare_sales()])
    median = PretrainedForecaster(14).fit(table).predict()["zero"].mean()
    mean = PretrainedForecaster(14, point="mean").fit(table).predict()["zero"].mean()
    assert median < 5
    assert 0.5 * 78.7 < mean < 2.2 * 78.7


def test_auto_takes_the_mean_for_rare_sales_and_the_median_for_others():
    table = long_table([rare_sales(n_rows=150)])
    chosen = AutoForecaster(14, max_time=20).fit(table)
    mean = AutoForecaster(14, point="mean", max_time=20).fit(table)
    median = AutoForecaster(14, point="median", max_time=20).fit(table)
    points = [model.predict()["auto"].mean() for model in (chosen, mean, median)]
    # In the same time they may have judged other candidates.
    assert points[0] == pytest.approx(points[1], rel=0.4)
    assert 0.5 * 78.7 < points[0] < 2.2 * 78.7
    assert points[2] < 0.3 * 78.7
    smooth = walks(1, 80)
    same = [
        AutoForecaster(7, point=point, max_time=20).fit(smooth).predict()["auto"]
        for point in ("auto", "median")
    ]
    pd.testing.assert_series_equal(*same)


@pytest.mark.parametrize("head", ["quantile", "student_t", "normal"])
def test_heads_give_means_and_medians(head):
    table = walks(2)
    plain = attention(head=head).fit(table)
    frame = plain.predict(quantiles=0.5)
    column = plain.alias_
    for point in ("median", "mean"):
        other = plain.with_state(plain.state_)
        other.set_params(point=point)
        answer = other.predict(quantiles=0.5)
        pd.testing.assert_series_equal(answer[f"{column}-q0.5"], frame[f"{column}-q0.5"])
        if point == "median":
            np.testing.assert_allclose(answer[column], frame[f"{column}-q0.5"], rtol=1e-6)
        elif head != "quantile":
            np.testing.assert_array_equal(answer[column], frame[column])
        else:
            assert (answer[column] != frame[column]).any()


def test_absolute_errors_give_medians_and_squared_errors_means():
    table = walks(1)
    assert attention(loss="mae").fit(table).own_point == "median"
    for loss, other, own in [("mae", "mean", "median"), ("mse", "median", "mean")]:
        for point in (other, "auto"):
            with pytest.raises(ValueError, match=f"point must be '{own}' .* got '{point}'"):
                attention(loss=loss, point=point).fit(table)
        attention(loss=loss, point=own).fit(table)
        attention(head="quantile", point=other).fit(table)


def test_unknown_point_is_refused():
    for make in (PretrainedForecaster, AutoForecaster):
        with pytest.raises(ValueError, match="point must be one of median, mean, auto; got 'mode'"):
            make(3, point="mode")
    with pytest.raises(ValueError, match="point must be one of median, mean, auto; got 'mode'"):
        attention(point="mode")
    with pytest.raises(ValueError, match="got 'mode'"):
        attention().set_params(point="mode")


def test_saved_point_is_that_of_the_model(tmp_path):
    table = long_table([rare_sales(n_rows=100)])
    for model in (PretrainedForecaster(5, point="mean"), AutoForecaster(5, max_time=20)):
        model.fit(table).save(tmp_path / model.name)
        loaded = load_forecaster(tmp_path / model.name)
        assert loaded.point == model.point
        pd.testing.assert_frame_equal(loaded.predict(level=80), model.predict(level=80))


def test_bands_do_not_move_with_the_point():
    table = walks(2)
    median = PretrainedForecaster(5).fit(table).predict(level=[50, 80])
    mean = PretrainedForecaster(5, point="mean").fit(table).predict(level=[50, 80])
    pd.testing.assert_frame_equal(median.drop(columns="zero"), mean.drop(columns="zero"))
    assert (median["zero"] != mean["zero"]).all()


def test_intermittent_windows_are_known():
    rows = [[0, 0, 3, 0], [0, 1, 2, 3], [0, 0, 0, 0], [0, 0, -1, 0], [0, np.nan, np.nan, 4]]
    x = np.array(rows, dtype=float)[..., None]
    assert is_intermittent(x).ravel().tolist() == [True, False, False, False, True]


# --- paths


def test_paths_have_the_quantiles_of_the_forecast_at_each_step():
    table = walks(2)
    model = PretrainedForecaster(10).fit(table)
    draws = model.sample(4000, random_state=3)
    assert draws.shape == (2, 10, 4000)
    frame = model.predict(quantiles=[0.1, 0.5, 0.9])
    for q in (0.1, 0.5, 0.9):
        bound = frame[f"zero-q{q}"].to_numpy().reshape(2, 10)
        np.testing.assert_allclose((draws <= bound[..., None]).mean(axis=2), q, atol=0.03)


def test_paths_depend_on_the_seed_alone():
    model = PretrainedForecaster(6).fit(walks(2))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = model.sample(n_samples=5, random_state=1)
    np.testing.assert_array_equal(first, model.sample(n_samples=5, random_state=1))
    assert (first != model.sample(n_samples=5, random_state=2)).any()
    assert (model.sample(n_samples=5) != model.sample(n_samples=5)).any()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_steps_of_paths_of_walks_follow_one_another():
    draws = PretrainedForecaster(12).fit(walks(4, 300)).sample(n_samples=500, random_state=0)
    correlation = [np.corrcoef(series[4], series[5])[0, 1] for series in draws]
    assert np.mean(correlation) > 0.7


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_paths_of_counts_are_counts():
    rng = np.random.default_rng(0)
    table = long_table([rng.poisson(2, 100).astype(float), rare_sales(0.05, 3)])
    for model in (PretrainedForecaster(9), AutoForecaster(9, max_time=20)):
        draws = model.fit(table).sample(n_samples=200, random_state=0)
        assert draws.min() >= 0
        np.testing.assert_array_equal(draws[0], draws[0].round())
        totals = model.total(level=[80, 98])
        assert (totals.select_dtypes("number") >= 0).all().all()


def test_paths_of_series_that_lack_windows_or_values():
    short = long_table([[3.0], [1.0, 2.0, 5.0], np.arange(60.0)])
    model = PretrainedForecaster(7, weights=tiny_network()).fit(short)
    assert np.isfinite(model.sample(n_samples=4, random_state=0)).all()
    values = np.random.default_rng(0).normal(size=200)
    values[20:150] = np.nan
    holed = PretrainedForecaster(7, weights=tiny_network()).fit(long_table([values]))
    assert np.isfinite(holed.sample(n_samples=4, random_state=0)).all()


def test_paths_of_many_series_are_those_of_smaller_parts(monkeypatch):
    table = walks(5, 60)
    model = PretrainedForecaster(4, weights=tiny_network()).fit(table)
    whole = model.sample(n_samples=6, random_state=0)
    monkeypatch.setattr("tsattn.sampling._CHUNK_VALUES", 4 * 6 * 2)
    np.testing.assert_array_equal(model.sample(n_samples=6, random_state=0), whole)
    monkeypatch.setattr("tsattn.sampling._MOST_WINDOWS", 2)
    few = model.sample(n_samples=6, random_state=0)
    assert few.shape == whole.shape
    assert (few != whole).any()


def test_bad_numbers_of_samples_are_refused():
    model = PretrainedForecaster(4, weights=tiny_network()).fit(walks(1, 40))
    for wrong in (0, 2.5):
        with pytest.raises(ValueError, match=f"n_samples must be a whole number .* got {wrong}"):
            model.sample(n_samples=wrong)


# --- sums


def test_sums_by_month_lie_within_their_bands_and_add_up():
    model = PretrainedForecaster(DAYS).fit(walks(2))
    frame = model.total("M", level=80)
    assert frame.columns.tolist() == [
        "unique_id",
        "ds",
        "rows",
        "zero",
        "zero-lo-80",
        "zero-hi-80",
    ]
    assert frame.groupby("unique_id")["rows"].sum().eq(DAYS).all()
    stamps = model.predict()["ds"]
    assert frame["ds"].isin(stamps).all()
    assert frame["ds"].dt.to_period("M").groupby(frame["unique_id"]).nunique().eq(2).all()
    assert (frame["zero-lo-80"] < frame["zero"]).all()
    assert (frame["zero"] < frame["zero-hi-80"]).all()
    pd.testing.assert_frame_equal(model.total("ME", level=80), frame)


def test_band_of_a_sum_is_wider_than_under_independence_and_narrower_than_the_sum_of_bands():
    model = PretrainedForecaster(20).fit(walks(3, 400))
    steps = model.predict(level=80).set_index("unique_id")
    widths = (steps["zero-hi-80"] - steps["zero-lo-80"]).groupby(level=0)
    total = model.total(level=80).set_index("unique_id")
    width = total["zero-hi-80"] - total["zero-lo-80"]
    assert (width > 1.5 * np.sqrt(widths.agg(lambda w: np.square(w).sum()))).all()
    assert (width < widths.sum()).all()


def test_sum_of_means_is_the_sum_of_the_points():
    table = long_table([rare_sales(), rare_sales(0.2, seed=1)])
    model = PretrainedForecaster(30, point="mean").fit(table)
    sums = model.predict().groupby("unique_id")["zero"].sum()
    np.testing.assert_allclose(model.total()["zero"], sums)
    median = PretrainedForecaster(30).fit(table)
    medians = median.predict().groupby("unique_id")["zero"].sum().to_numpy()
    assert (median.total()["zero"] > 1.5 * medians).all()


@pytest.mark.parametrize("key", ["rows", "zero"])
def test_keys_are_not_lost_behind_columns_of_the_answer(key):
    days = pd.date_range("2024-01-01", periods=40)
    table = pd.DataFrame({key: "p", "shop": "s", "ds": days, "y": np.arange(40.0) % 7})
    schema = Schema(id_col=[key, "shop"])
    model = PretrainedForecaster(3, weights=tiny_network(), schema=schema).fit(table)
    with pytest.raises(ValueError, match=f"two columns .* would be called '{key}'"):
        model.total()
    if key == "zero":
        with pytest.raises(ValueError, match="would be called 'zero'; rename it, or give another"):
            model.predict()


def test_an_alias_is_no_remedy_for_a_column_of_rows():
    days = pd.date_range("2024-01-01", periods=DAYS)
    values = np.arange(float(DAYS))
    column = pd.DataFrame({"rows": days, "y": values})
    channel = pd.DataFrame({"rows": values, "b": values}, index=days)
    for table in (column, channel, walks(1).rename(columns={"ds": "rows"})):
        model = PretrainedForecaster(7, weights=tiny_network()).fit(table)
        with pytest.raises(ValueError, match=r"would be called 'rows'; rename it$"):
            model.total()
    named = PretrainedForecaster(7, weights=tiny_network(), alias="rows").fit(walks(1))
    with pytest.raises(ValueError, match=r"called 'rows'; rename it, or give another alias=$"):
        named.total()


def test_sums_of_wide_tables_stand_by_stamp():
    rng = np.random.default_rng(0)
    table = wide_table(rng.normal(size=(90, 2)) + 9, ["b", "a"], freq="D")
    frame = PretrainedForecaster(14, weights=tiny_network()).fit(table).total(7, level=80)
    assert frame.columns.tolist()[:4] == ["rows", "b", "b-lo-80", "b-hi-80"]
    assert frame["rows"].tolist() == [7, 7]
    assert frame.index[0] == table.index[-1] + pd.Timedelta("1D")


def test_series_that_end_at_different_times_have_months_of_their_own():
    table = long_table([np.arange(50.0), np.arange(70.0)])
    frame = PretrainedForecaster(20, weights=tiny_network()).fit(table).total("M")
    assert frame.groupby("unique_id")["rows"].apply(list).to_dict() == {
        "s0": [10, 10],
        "s1": [20],
    }


def test_panel_gives_a_forecast_with_paths():
    panel = to_panel(walks(2), Schema())
    forecast = PretrainedForecaster(6).fit(panel).predict()
    assert isinstance(forecast, Forecast)
    assert forecast.sample(3, random_state=0).shape == (2, 6, 3)
    assert len(forecast.total("all", quantiles=[0.25])) == 2


@pytest.mark.filterwarnings("ignore:paths and totals of mlr")
def test_wrapped_and_classical_forecasters_sum_with_bands():
    table = walks(2, 120)
    naive = make_forecaster("naive", 6)
    models = [
        SplitConformal(naive, n_windows=12),
        AdaptiveConformal(naive, n_windows=12, levels=(50, 80)),
        make_forecaster("ets", 6, season_length=1),
        attention(6, head="quantile"),
    ]
    for model in models:
        frame = model.fit(table).total(level=80)
        column = model.alias_
        assert (frame[f"{column}-lo-80"] < frame[column]).all()
        assert (frame[column] < frame[f"{column}-hi-80"]).all()


@pytest.mark.parametrize(
    "model", [make_forecaster("theta", 14), make_forecaster("least_squares", 14)]
)
def test_a_model_that_keeps_few_rows_tells_that_they_show_no_dependence(model, tmp_path):
    table = walks(n_rows=400)
    model.fit(table).save(tmp_path / "model")
    with pytest.warns(UserWarning, match="keeps the last .* rows, .* pass the whole table, as in"):
        load_forecaster(tmp_path / "model").total(level=80)
    # The whole table has windows enough, so nothing is told.
    model.total(data=table, level=80)


@pytest.mark.parametrize("n_errors", [1, 3])
def test_paths_go_through_the_quantiles_that_the_errors_support(n_errors):
    wrapped = SplitConformal(make_forecaster("naive", 7), n_windows=n_errors).fit(walks(1))
    quantiles = {1: (0.3, 0.4, 0.5, 0.6, 0.7), 3: (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)}
    assert wrapped.sampled_quantiles == quantiles[n_errors]
    total = wrapped.total(level=50)
    assert (total["naive-lo-50"] < total["naive"]).all()


def test_points_without_quantiles_are_summed_and_have_no_bands():
    model = make_forecaster("naive", 6).fit(walks(2))
    last = walks(2).groupby("unique_id")["y"].last()
    np.testing.assert_allclose(model.total()["naive"], 6 * last)
    with pytest.raises(ValueError, match="naive gives points without quantiles here"):
        model.total(level=80)
    linear = make_forecaster("least_squares", 6, val_size=0).fit(walks(2))
    with pytest.raises(ValueError, match="least_squares gives points without quantiles here"):
        linear.total(level=80)


def test_a_sum_of_medians_without_paths_is_told():
    table = walks(2).assign(y=lambda f: f["y"].abs())
    known = {"target_transform": "log1p", "closed_form": True, "context": 12}
    bent = LinearForecaster.from_settings(horizon=6, val_size=0, **known).fit(table)
    with pytest.warns(
        UserWarning, match=r"totals of nlinear: the points are medians.*SplitConformal"
    ):
        total = bent.total()["nlinear"]
    points = bent.predict().groupby("unique_id")["nlinear"].sum()
    np.testing.assert_allclose(total, points)
    straight = make_forecaster("least_squares", 6, val_size=0).fit(table)
    with_paths = bent.set_params(val_size=0.2).fit(table)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        straight.total()
        with_paths.total(data=table)


def test_gbm_gives_medians_whose_sum_is_told_and_the_remedy_has_paths():
    table = long_table(rare_sales(share=0.3, size=10)[None])
    trees = make_forecaster("gbm", 6)
    with pytest.warns(UserWarning, match=r"totals of gbm: the points are medians.*SplitConformal"):
        trees.fit(table).total()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SplitConformal(trees, n_windows=5).fit(table).total()


def test_unknown_spans_are_refused():
    model = PretrainedForecaster(6, weights=tiny_network()).fit(walks(1))
    # Periods of several units would be counted by single ones.
    for span in ("moon", "2W", "7D", "B", "A", "W-XYZ"):
        with pytest.raises(ValueError, match=f"one calendar span such as .*; got '{span}'; write"):
            model.total(span)
    with pytest.raises(ValueError, match="span must be a whole number of at least 1; got 0"):
        model.total(0)
    numbers = PretrainedForecaster(6, weights=tiny_network()).fit(np.arange(40.0))
    with pytest.raises(ValueError, match="no calendar; got 'M'; write span=7"):
        numbers.total("M")
    assert len(numbers.total(2)) == 3


# --- coverage on real series

# Development tasks, the cutoffs a horizon apart, and the rows of a month. Each task has at least
# eighty sums, as the coverage of twenty is uncertain by nine points.
COVERAGE_TASKS = {
    "D": [("us_births/D/short", 80, 30), ("ett1/D/short", 12, 30), ("covid_deaths/D/short", 2, 30)],
    "W": [("us_births/W/short", 80, 4), ("ett1/W/short", 12, 4), ("m4_weekly/W/short", 2, 4)],
}


@pytest.mark.filterwarnings("ignore:.* far from its neighbours")
@pytest.mark.filterwarnings("ignore:series .* in each of its last")
# Some series of the weekly task ended years before others.
@pytest.mark.filterwarnings("ignore:series .* ends at")
@pytest.mark.parametrize("freq", COVERAGE_TASKS)
def test_bands_of_monthly_sums_hold_their_level_on_real_series(pack_dir, freq):
    spec = importlib.util.spec_from_file_location("pack_score", pack_dir / "score.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    tasks = theirs.load_tasks()
    shares = []
    for name, n_cutoffs, n_rows in COVERAGE_TASKS[freq]:
        assert tasks[name]["split"] == "development"
        series = theirs.load_series(tasks[name])
        # Some of the series are enough.
        values = [list(series.values())[n] for n in np.linspace(0, len(series) - 1, 40).astype(int)]
        values = values if len(series) > 40 else list(series.values())
        # One table with a series for each cutoff, so that all are forecast together.
        pasts = {}
        truths = []
        for back in n_rows * np.arange(1, n_cutoffs + 1):
            for n, part in enumerate(values):
                cutoff = len(part) - back
                pasts[f"{back:05} {n:03}"] = part.iloc[:cutoff].tail(500).rename("y")
                truths.append(part.iloc[cutoff:].iloc[:n_rows].sum())
        frame = pd.concat(pasts).rename_axis(["unique_id", "ds"]).reset_index()
        schema = Schema(freq=tasks[name]["freq"], missing="mask")
        total = PretrainedForecaster(n_rows, schema=schema).fit(frame).total(level=80)
        assert total["unique_id"].tolist() == list(pasts)
        shares.append(((total["zero-lo-80"] <= truths) & (truths <= total["zero-hi-80"])).mean())
    assert 0.75 <= np.mean(shares) <= 0.85, shares


@pytest.mark.parametrize(
    "span", ["QE-FEB", "QS-FEB", "QS-JAN", "QS-DEC", "YE-JUN", "YS-APR", "QE", "QS", "YS", "ME"]
)
def test_spans_are_those_that_pandas_names(span):
    months = pd.date_range("2015-01-01", periods=60, freq="MS")
    table = pd.DataFrame({"ds": months, "y": np.arange(60.0) % 12})
    model = make_forecaster("seasonal_naive", 30).fit(table)
    totals = model.total(span)
    sums = model.predict().set_index("ds")["seasonal_naive"].resample(span).agg(["sum", "size"])
    assert totals["rows"].tolist() == sums["size"].tolist()
    np.testing.assert_allclose(totals["seasonal_naive"], sums["sum"])


@pytest.mark.parametrize("span", ["QS-MON", "QE-foo", "YE-", "BQE", "2QE"])
def test_spans_that_are_none_are_refused(span):
    table = pd.DataFrame({"ds": pd.date_range("2015-01-01", periods=60, freq="MS"), "y": 1.0})
    with pytest.raises(ValueError, match=f"one calendar span .* got '{span}'"):
        make_forecaster("naive", 6).fit(table).total(span)
