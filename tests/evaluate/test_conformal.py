"""Calibrated intervals: the levels that they hold, and those that they refuse."""

import doctest
import functools
import json
import math

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.base import clone
from tables import long_table, wide_of, wide_table

from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.evaluate import conformal, intervals
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal, roll_adaptive
from tsattn.evaluate.intervals import (
    AdaptiveIntervals,
    SeriesScales,
    StepIntervals,
    scale_of,
    step_of,
)
from tsattn.evaluate.rolling import roll
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Naive, SeasonalNaive
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.levels import level_to_quantiles
from tsattn.pretrained.weights import load_network
from tsattn.storage import file_digest


class Zero(Naive):
    """Forecasts 0, whatever it sees, so that errors are the values themselves."""

    def _points(self, x):
        return np.zeros((x.shape[0], self.horizon, x.shape[2]))


def wide(values):
    return wide_table(values, [f"c{i}" for i in range(values.shape[1])])


def long(series):
    return long_table(series.values(), list(series), freq="h")


@pytest.mark.parametrize("change", [{"levels": (60,)}, {"levels": (50, 60)}, {"gamma": 0.3}])
def test_levels_in_motion_are_bound_to_their_fit(change):
    frame = long({"a": np.random.default_rng(0).normal(size=60)})
    model = AdaptiveConformal(Naive(3), n_windows=8, levels=(50,)).fit(frame)
    expected = model.predict(level=50)
    model.set_params(**change)
    changed = next(iter(change))
    with pytest.raises(
        ValueError, match=rf"^{changed} = .* not that of the fit, .*; fit again, or set it back"
    ):
        model.predict(level=60)
    pd.testing.assert_frame_equal(
        model.set_params(levels=[50], gamma=None).predict(level=50), expected
    )
    level = model.set_params(**change).levels[0]
    assert model.fit(frame).predict(level=level).shape == expected.shape


def test_series_that_the_forecaster_refuses_are_left_out():
    n = load_network().config.token_context + 20
    hours = np.sin(2 * np.pi * np.arange(n) / 24)
    ended = np.where(np.arange(n) < 10, hours, np.nan)
    whole_frame = long({"whole": hours})
    both = long({"ended": ended, "whole": hours})
    model = SplitConformal(PretrainedForecaster(3), n_windows=4).fit(whole_frame)
    with pytest.warns(UserWarning, match="left out: series 'ended' has no value among"):
        answer = model.predict(both, level=50).set_index("unique_id")
    assert answer.loc["ended", "zero"].isna().all()
    expected = model.predict(level=50)["zero"]
    np.testing.assert_allclose(answer.loc["whole", "zero"], expected, rtol=1e-5, atol=1e-5)
    strict = PretrainedForecaster(3, schema=Schema(bad="error"))
    with pytest.raises(ValueError, match=r"series 'ended' has no value among.*leave it out"):
        SplitConformal(strict, n_windows=4).fit(whole_frame).predict(both, level=50)


@pytest.mark.parametrize("n", [4, 5, 9, 19, 20, 99, 100])
@pytest.mark.parametrize("level", [10, 50, 80, 90, 95, 99])
def test_width_is_the_right_order_statistic(n, level):
    """k is the least whole number with k / (n + 1) >= level / 100, found here by trying
    them all.
    """
    errors = np.random.default_rng(n).permutation(np.arange(1.0, n + 1)).reshape(n, 1, 1)
    fits = [k for k in range(1, n + 1) if 100 * k >= level * (n + 1)]
    if fits:
        assert StepIntervals(errors).widths(level) == fits[0]
    else:
        with pytest.raises(
            ValueError,
            match=rf"level {level} needs at least {math.ceil(level / (100 - level))} .*n = {n}",
        ):
            StepIntervals(errors).widths(level)


@pytest.mark.parametrize(
    ("level", "least"), [(50, 1), (80, 4), (90, 9), (95, 19), (97.5, 39), (99, 99), (99.9, 999)]
)
def test_the_least_number_of_errors_is_the_one_named(level, least):
    assert StepIntervals(np.ones((least, 1, 1))).widths(level) == 1
    with pytest.raises(
        ValueError, match=f"at least {least} calibration errors at every step; got n = {least - 1}"
    ):
        StepIntervals(np.ones((least - 1, 1, 1))).widths(level)


def test_missing_truths_do_not_count():
    errors = np.arange(1.0, 11.0).repeat(2).reshape(10, 2, 1)
    errors[6:, 1] = np.nan  # six errors are left at the second step
    intervals = StepIntervals(errors[::-1])
    np.testing.assert_array_equal(
        intervals.widths(80).ravel(), [9, 6]
    )  # ceil(11 * .8), ceil(7 * .8)
    with pytest.raises(
        ValueError, match=r"got n = 6: use more calibration windows, or a level of at most 85.71"
    ):
        intervals.widths(90)
    with pytest.raises(ValueError, match=r"got n = 0: use more calibration windows$"):
        StepIntervals(np.where(errors > 0, np.nan, 0)).widths(50)


def test_bounds_are_symmetric_monotone_and_start_from_the_point():
    rng = np.random.default_rng(0)
    intervals = StepIntervals(np.abs(rng.normal(size=(60, 3, 2))))
    point = rng.normal(size=(5, 3, 2))
    quantiles = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    bounds = intervals.apply(point, quantiles)
    assert bounds.shape == (5, 3, 2, 7)
    assert (np.diff(bounds, axis=-1) >= 0).all()
    np.testing.assert_array_equal(bounds[..., 3], point)
    np.testing.assert_allclose(bounds[..., 0] + bounds[..., -1], 2 * point, rtol=1e-12, atol=1e-12)
    scaled = intervals.apply(point, quantiles, scale=np.full((5, 2), 3.0))
    np.testing.assert_allclose(
        scaled - point[..., None], 3 * (bounds - point[..., None]), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize(
    "errors", [np.ones((3, 2)), -np.ones((3, 1, 1)), np.full((3, 1, 1), np.inf)]
)
def test_errors_that_are_none_are_refused(errors):
    with pytest.raises(ValueError, match="absolute and finite"):
        StepIntervals(errors)


def test_intervals_do_not_change_what_they_were_given():
    errors = np.array([3.0, 1.0, 2.0]).reshape(3, 1, 1)
    StepIntervals(errors)
    assert errors.ravel().tolist() == [3, 1, 2]


def test_scale_is_positive_for_every_window():
    x = np.stack([np.arange(4.0), np.full(4, 0.1) * 3, np.zeros(4)])[..., None]
    np.testing.assert_allclose(scale_of(x).ravel(), [np.arange(4).std(), 0.3, 1.0])


@pytest.mark.parametrize("step_size", [1, 3])
def test_calibration_takes_the_rolling_windows_of_the_last_rows(step_size):
    values = np.arange(40.0)[:, None]
    fitted = SplitConformal(Zero(2), n_windows=5, step_size=step_size).fit(wide(values))
    first = 40 - (2 + step_size * 4)
    expected = [values[first + step_size * w : first + step_size * w + 2] for w in range(5)]
    # They grow, so they are sorted.
    np.testing.assert_allclose(fitted.intervals_.errors * fitted.scales_, expected)
    assert fitted.forecaster_.panel_.lengths.tolist() == [first]


def test_a_calibration_on_forecasts_that_are_not_finite_is_refused():
    class Broken(Naive):
        def _points(self, x):
            return np.full_like(super()._points(x), np.nan)

    with pytest.raises(ValueError, match=r"naive gave a forecast that is not finite .* after 27;"):
        SplitConformal(Broken(3), n_windows=10).fit(np.arange(40.0))


def test_the_forecaster_that_was_given_stays_as_it_was():
    mine = SeasonalNaive(2)
    wrapped = SplitConformal(mine, n_windows=5)
    assert not [
        name for name in vars(wrapped) if name.endswith("_")
    ]  # nothing that only a fit leaves behind
    wrapped.fit(wide(np.random.default_rng(0).normal(size=(60, 1))))
    assert not hasattr(mine, "context_")
    with pytest.raises(ValueError, match="not fitted"):
        mine.predict()


def test_coverage_holds_on_independent_noise():
    """Exchangeable errors: the mean coverage over many calibrations is at least the level, and
    barely more.
    """
    rng = np.random.default_rng(0)
    shares = {80: [], 95: []}
    for _ in range(60):
        values = rng.standard_t(4, size=(40 + 600, 1))
        fitted = SplitConformal(Zero(1), n_windows=39).fit(wide(values[:40]))
        x = values[40:, None, :]
        y = values[40:, :]
        for level, share_inside in shares.items():
            lower, upper = np.moveaxis(
                fitted.predict_windows(x, quantiles=level_to_quantiles(level))[1], -1, 0
            )
            share_inside.append(((lower[:, 0] <= y) & (y <= upper[:, 0])).mean())
    for level, share_inside in shares.items():
        slack = 3 * np.std(share_inside) / math.sqrt(len(share_inside))
        assert level / 100 - slack <= np.mean(share_inside) <= level / 100 + 1 / 40 + slack


def test_each_step_and_series_has_its_width():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(400, 2)), axis=0) * [1, 100]
    frame = SplitConformal(Naive(8), n_windows=200).fit(wide(values)).predict(level=80)
    small, large = ((frame[f"{c}-hi-80"] - frame[f"{c}-lo-80"]) for c in ("c0", "c1"))
    assert (np.diff(small) > 0).all(), "a random walk is less certain the further ahead"
    assert (large > 20 * small).all()


def test_series_of_different_size_share_one_calibration():
    rng = np.random.default_rng(0)
    walk = rng.normal(size=120)
    fitted = SplitConformal(Naive(3), n_windows=6).fit(
        long({"big": 1000 * walk + 5e4, "small": walk, "other": rng.normal(size=120)})
    )
    assert (fitted.min_context, fitted.max_context) == (2, 32)
    assert fitted.intervals_.errors.shape == (18, 3, 1)
    out = fitted.predict(level=80)
    width = (out["naive-hi-80"] - out["naive-lo-80"]).to_numpy().reshape(3, 3)
    np.testing.assert_allclose(width[0], 1000 * width[2], rtol=1e-9)
    wide_context = SplitConformal(SeasonalNaive(3, 48), n_windows=6).fit(
        long({"a": walk, "b": walk[::-1]})
    )
    assert wide_context.min_context == 48


def test_short_series_take_their_scale_from_what_exists():
    fitted = SplitConformal(Naive(2), n_windows=5).fit(
        long({"a": np.arange(16.0), "b": np.arange(16.0) ** 2})
    )
    assert fitted.max_context == 10
    assert np.isfinite(fitted.predict(level=80).drop(columns=["unique_id", "ds"]).to_numpy()).all()


@pytest.mark.parametrize(
    "make", [SplitConformal, functools.partial(AdaptiveConformal, levels=(80,))]
)
def test_a_series_needs_no_more_rows_than_its_forecaster_and_one_step(make):
    walks = np.random.default_rng(0).normal(size=(3, 120)).cumsum(axis=1)
    table = long({"a": walks[0], "b": walks[1]})
    fitted = make(Naive(2), n_windows=6).fit(table)
    known = fitted.predict(level=80).drop(columns="ds")
    new = long({"new": walks[2, :5]})
    few = pd.concat([table.groupby("unique_id").tail(3), new])
    out = fitted.predict(few, level=80).drop(columns="ds")
    pd.testing.assert_frame_equal(out[:4], known)  # their scale is known
    own_forecast = fitted.predict(new, level=80).drop(columns="ds")
    pd.testing.assert_frame_equal(out[4:].reset_index(drop=True), own_forecast)
    assert (own_forecast["naive-hi-80"] > own_forecast["naive"]).all()
    with pytest.raises(ValueError, match="needs at least 2 rows"):
        fitted.predict(long({"new": [3.0]}).assign(ds=pd.Timestamp("2024-01-01")), level=80)


@pytest.mark.parametrize(
    "make", [SplitConformal, functools.partial(AdaptiveConformal, levels=(80,))]
)
@pytest.mark.parametrize("n_long", [1, 2])
def test_a_series_too_short_to_be_calibrated_is_forecast(make, n_long, tmp_path):
    walks = np.random.default_rng(0).normal(size=(4, 60)).cumsum(axis=1)
    series = {"b": walks[1, :9], "d": walks[3, :3] / 1000, "e": walks[3]}
    series = {"a": walks[0], **series} if n_long == 2 else series
    table = long(series)
    with pytest.warns(UserWarning, match="not calibrated") as caught:
        fitted = make(Naive(2), n_windows=9).fit(table)
    assert [str(warning.message) for warning in caught] == [
        "series 'b' (and 1 more) is not calibrated, since it has too few rows; its intervals follow"
        " the size of its steps"
    ]
    forecast = fitted.predict(level=80)
    pd.testing.assert_frame_equal(fitted.predict(table, level=80), forecast)
    pd.testing.assert_frame_equal(fitted.total(level=80), fitted.total(data=table, level=80))
    width = (forecast["naive-hi-80"] - forecast["naive"]).to_numpy()
    assert (width > 0).all()
    of_small = (forecast["unique_id"] == "d").to_numpy()
    assert (width[of_small] < 0.01).all()
    assert (width[~of_small] > 0.1).all()
    long_series = table[table["unique_id"].isin(["a", "e"])]
    if n_long == 2:
        alone = make(Naive(2), n_windows=9).fit(long_series).predict(level=80)
        own_rows = forecast[forecast["unique_id"].isin(["a", "e"])]
        pd.testing.assert_frame_equal(own_rows.reset_index(drop=True), alone)
    fitted.save(tmp_path / "model")
    loaded = make.load if make is SplitConformal else AdaptiveConformal.load
    pd.testing.assert_frame_equal(loaded(tmp_path / "model").predict(level=80), forecast)


def test_a_series_too_short_for_the_forecaster_is_left_out():
    rows = np.random.default_rng(0).normal(size=60)
    table = long({"a": rows, "b": rows[:12], "c": rows[:5]})
    with (
        pytest.warns(UserWarning, match="left out: series 'c' has too few rows"),
        pytest.warns(UserWarning, match="series 'b' is not calibrated, since"),
    ):
        fitted = SplitConformal(SeasonalNaive(2, 7), n_windows=9).fit(table)
    is_nan = fitted.predict(level=80).set_index("unique_id")["seasonal_naive-hi-80"].isna()
    assert is_nan.to_dict() == {"a": False, "b": False, "c": True}
    strict = SeasonalNaive(2, 7, schema=Schema(bad="error"))
    with pytest.raises(ValueError, match="too short: series 'c'"):
        SplitConformal(strict, n_windows=9).fit(table)


def quiet_and_noisy(n_rows=900, seed=0):
    """Two series of one weekly rhythm, one with a tenth of the other's noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_rows)
    rhythm = 30 * np.sin(2 * np.pi * t / 7)
    return {
        name: rhythm + size * rng.normal(size=n_rows)
        for name, size in (("noisy", 10.0), ("quiet", 1.0))
    }


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("horizon", "n_windows", "step_size"), [(1, 120, 1), (12, 40, 5)])
def test_quiet_and_noisy_series_each_hold_the_level(horizon, n_windows, step_size, adaptive):
    rule = SeasonalNaive(horizon, 7)
    settings = {"n_windows": n_windows, "step_size": step_size}
    wrapped = AdaptiveConformal(rule, **settings) if adaptive else SplitConformal(rule, **settings)
    result = backtest(wrapped, long(quiet_and_noisy()), n_windows=500, level=80)
    assert result.by_series.loc["seasonal_naive", "coverage-80"].between(0.75, 0.85).all()
    assert (
        result.by_step.loc["seasonal_naive", "coverage-80"].between(0.73, 0.87).all()
    )  # of few errors each
    assert result.scores["coverage-80"].between(0.77, 0.83).all()


def test_one_series_has_the_quantiles_of_its_own_errors():
    values = np.cumsum(np.random.default_rng(0).normal(size=90) * np.linspace(1, 9, 90))
    fitted = SplitConformal(Naive(3), n_windows=30).fit(long({"a": values}))
    out = fitted.predict(level=[50, 80])
    for step in range(3):
        origins = 90 - 3 - np.arange(30)
        errors = np.sort(np.abs(values[origins + step] - values[origins - 1]))
        for level, k in ((50, 16), (80, 25)):  # ceil(31 level / 100)
            half = out[f"naive-hi-{level}"] - out["naive"]
            assert half[step] == pytest.approx(errors[k - 1], rel=1e-12)


def test_few_windows_do_not_make_the_scale_of_a_series_wild():
    """Random walks, whose steps tell their errors: three windows each would tell them badly."""
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.normal(size=40))
    walks = {f"s{i:02}": np.cumsum(size * rng.normal(size=420)) for i, size in enumerate(sizes)}
    wrapped = SplitConformal(Naive(4), n_windows=3, step_size=4)
    result = backtest(wrapped, long(walks), n_windows=300, level=80)
    fitted = wrapped.fit(to_panel(long(walks)).until(110))
    assert np.std(np.log(fitted.scales_[:, 0] / sizes)) < 0.3
    assert abs(result.scores["coverage-80"].item() - 0.8) < 0.03
    assert result.by_series["coverage-80"].std() < 0.12


def test_a_scale_is_that_of_errors_or_of_steps_by_what_the_windows_can_tell():
    rng = np.random.default_rng(0)
    sizes = np.array([1.0, 4.0, 0.2, 30.0])
    steps = np.array([2.0, 2.0, 1.0, 5.0])[:, None]
    errors = np.abs(rng.normal(size=(4, 400, 2, 1))) * sizes[:, None, None, None]
    many = SeriesScales.of(errors, steps)
    np.testing.assert_allclose(many.scales[:, 0], errors.mean(axis=(1, 2, 3)), rtol=0.01)
    one = SeriesScales.of(errors[:, :1], steps)
    np.testing.assert_allclose(one.scales / one.scales[0], steps / steps[0])
    np.testing.assert_array_equal(one.left_out, one.scales[:, None])
    # The error of a window is no part of what it is held against.
    loud = errors.copy()
    loud[1, 7] *= 100
    changed = SeriesScales.of(loud, steps).left_out[1, :, 0] / many.left_out[1, :, 0]
    assert changed.argmin() == 7
    assert changed[7] == pytest.approx(1, abs=0.02)
    assert np.delete(changed, 7).min() > 1.1


def test_series_without_errors_to_tell_have_a_scale():
    errors = np.ones((4, 6, 2, 1))
    steps = np.array([[1.0], [2.0], [3.0], [4.0]])
    errors[1], errors[2], errors[3, 1] = 0.0, np.nan, np.nan
    scales = SeriesScales.of(errors, steps)
    typical = math.sqrt(1 * 1 / 4)  # of the two series whose errors tell, beside their steps
    np.testing.assert_allclose(scales.scales[1:3] / steps[1:3], typical)
    np.testing.assert_allclose(scales.scales[[0, 3]], 1.0)
    assert (scales.left_out[[0, 3]] > 0).all()
    assert np.isnan(scales.left_out[1:3]).all()  # no share in what the others' errors tell
    np.testing.assert_array_equal(
        SeriesScales.of(np.zeros((2, 3, 1, 1)), np.full((2, 1), 5.0)).scales, 5.0
    )


def test_dead_series_do_not_narrow_the_intervals_of_the_others():
    alive = {f"s{i}": 50 + 10 * np.random.default_rng(i).normal(size=60) for i in range(4)}
    dead = {f"z{i:02}": np.zeros(60) for i in range(30)}
    want, actual = (
        SplitConformal(Naive(3), n_windows=8)
        .fit(long(table))
        .predict(level=80)
        .set_index("unique_id")
        .loc[[*alive]]
        for table in (alive, alive | dead)
    )
    ratio = (actual["naive-hi-80"] - actual["naive"]) / (want["naive-hi-80"] - want["naive"])
    assert ratio.between(0.5, 2).all()
    nothing = SplitConformal(Naive(3), n_windows=8).fit(long(dead)).predict(level=80)
    assert (nothing[["naive-lo-80", "naive-hi-80"]] == 0).all(axis=None)


def test_steps_are_positive_for_every_window():
    x = np.array(
        [
            [0.0, 3, 4, 9],
            [0, 0, 0, 6],
            [0.3, 0.3, 0.3, 0.3],
            [0, 0, 0, 0],
            [np.nan] * 3 + [7],
            [np.nan, 1, 3, 4],
        ]
    )
    np.testing.assert_allclose(step_of(x[..., None]).ravel(), [3, 2, 0.3, 1, 7, 1.5])
    np.testing.assert_allclose(step_of(x[:, 3:, None]).ravel(), [9, 6, 0.3, 1, 7, 4])


def test_series_are_known_by_their_ids_wherever_they_stand():
    series = quiet_and_noisy(300)
    fitted = SplitConformal(SeasonalNaive(6, 7), n_windows=60).fit(long(series))

    def width(frame):
        out = fitted.predict(frame, level=80).set_index("unique_id")
        return (out["seasonal_naive-hi-80"] - out["seasonal_naive-lo-80"]).groupby(level=0).first()

    both = width(None)
    assert both["noisy"] == pytest.approx(10 * both["quiet"], rel=0.3)
    alone = width(long({"a": series["noisy"], "quiet": series["quiet"]}))
    assert alone["quiet"] == pytest.approx(both["quiet"], rel=1e-12)
    new = width(long({"x": series["quiet"], "y": 1000 * series["quiet"]}))
    assert new["y"] == pytest.approx(1000 * new["x"], rel=1e-9)
    assert both["quiet"] < new["x"] < 3 * both["noisy"]
    # Windows alone do not say whose they are: they are new series.
    x = np.stack([series["quiet"][-40:], 1000 * series["quiet"][-40:]])[..., None]
    bounds = fitted.predict_windows(x, quantiles=(0.1, 0.9))[1]
    np.testing.assert_allclose(
        (bounds[..., 1] - bounds[..., 0])[:, 0, 0], [new["x"], new["y"]], rtol=1e-9
    )


def test_forecasts_of_a_table_have_the_bounds_of_a_backtest():
    series = quiet_and_noisy(200)
    panel = to_panel(long(series))
    fitted = SplitConformal(SeasonalNaive(4, 7), n_windows=40).fit(panel.until(150))
    rolled = roll(fitted, panel, panel.starts[:-1] + 150, quantiles=(0.1, 0.9))
    quantiles = fitted.predict(panel.until(150), level=80).quantiles
    np.testing.assert_allclose(
        np.stack([quantiles[0.1], quantiles[0.9]], axis=-1), rolled.bounds[:, :, 0], rtol=1e-12
    )


class Falling(Naive):
    """Falls by one a row, so that points and bounds reach below zero."""

    def _points(self, x):
        return x[:, -1:] - np.arange(1.0, self.horizon + 1)[:, None]


class Never(Falling):
    nonnegative = True


def solved(horizon=6, **settings):
    return LinearForecaster.from_settings(
        **{"horizon": horizon, "context": 28, "closed_form": True, "val_size": 200, **settings}
    )


def attentive(horizon=6, **settings):
    sizes = {
        "patch_len": 7,
        "patch_stride": 7,
        "d_model": 16,
        "n_layers": 1,
        "max_epochs": 3,
        "random_state": 0,
    }
    return AttentionForecaster.from_settings(
        **{"horizon": horizon, "context": 28, "val_size": 200, **sizes, **settings}
    )


NETWORKS = pytest.mark.parametrize("make", [solved, attentive], ids=["nlinear", "mlr"])


def first_widths(out, level=80):
    """Width of the first step's interval, by series."""
    name = next(
        column.removesuffix(f"-lo-{level}") for column in out if column.endswith(f"-lo-{level}")
    )
    first = out.groupby("unique_id").first()
    return first[f"{name}-hi-{level}"] - first[f"{name}-lo-{level}"]


@pytest.mark.parametrize(("make", "seed"), [(solved, 0), (solved, 1), (attentive, 0)])
def test_a_network_holds_the_level_of_quiet_and_noisy_series(make, seed):
    result = backtest(make(), long(quiet_and_noisy(1200, seed)), n_windows=400, level=80)
    assert result.by_series["coverage-80"].between(0.76, 0.88).all()


def test_a_network_knows_series_by_their_ids_and_takes_others_for_typical():
    series = quiet_and_noisy(400)
    fitted = solved().fit(long(series))
    both_forecasts = first_widths(fitted.predict(level=80))
    assert both_forecasts["noisy"] == pytest.approx(10 * both_forecasts["quiet"], rel=0.3)
    other = long({"a": series["noisy"], "quiet": series["quiet"], "z": 1000 * series["quiet"] + 5})
    widths = first_widths(fitted.predict(other, level=80))
    assert widths["quiet"] == pytest.approx(both_forecasts["quiet"], rel=1e-5)
    assert widths["z"] == pytest.approx(1000 * widths["a"], rel=0.2)
    assert both_forecasts["quiet"] < widths["a"] < both_forecasts["noisy"]
    x = np.stack([series["noisy"][-28:], series["quiet"][-28:]])[..., None]
    bounds = fitted.predict_windows(x, quantiles=(0.1, 0.9))[1][:, 0, 0]
    assert bounds[0, 1] - bounds[0, 0] == pytest.approx(widths["a"], rel=1e-5)
    second_forecast = first_widths(
        fitted.predict(long({"quiet": 1000 * series["quiet"] + 5}), level=80)
    )
    assert second_forecast["quiet"] == pytest.approx(
        1000 * both_forecasts["quiet"], rel=1e-3
    )  # the size of a window still counts


@NETWORKS
def test_a_saved_network_keeps_the_sizes_of_its_series(make, tmp_path):
    series = quiet_and_noisy(400)
    frame = pd.concat(
        [long(series), long({"short": np.arange(12.0)})]
    )  # too short to be calibrated
    fitted = make().fit(frame)
    fitted.save(tmp_path / "model")
    scales = load_file(tmp_path / "model" / "model.safetensors")["intervals.scales"]
    assert np.isnan(scales[:, 0]).tolist() == [False, False, True]  # in the order of ids
    loaded = type(fitted).load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=[50, 80]), fitted.predict(level=[50, 80]))
    given = long({"new": series["noisy"], "quiet": series["quiet"]})
    pd.testing.assert_frame_equal(loaded.predict(given, level=80), fitted.predict(given, level=80))


def test_a_series_too_short_for_a_network_leaves_the_intervals_of_others():
    series = quiet_and_noisy(400)
    fitted = solved().fit(long(series))
    own_forecast = first_widths(fitted.predict(level=80))
    with pytest.warns(UserWarning, match="1 of 3 series have fewer than"):
        beside = first_widths(
            fitted.predict(pd.concat([long({"few": np.arange(5.0)}), long(series)]), level=80)
        )
    np.testing.assert_allclose(beside[own_forecast.index], own_forecast, rtol=1e-5)
    assert beside["few"] > 0


def test_covariates_of_a_linear_network_leave_each_series_its_size():
    rng = np.random.default_rng(0)
    series = quiet_and_noisy(600)
    frame = long(series).assign(price=rng.normal(size=1200))
    frame["y"] += 20 * frame["price"]
    later = frame.groupby("unique_id").tail(6)
    fitted = solved(future_cols=["price"], freq="h").fit(frame.drop(later.index))
    assert fitted.fitted_.covariate_regression.error_ratio < 1
    widths = first_widths(fitted.predict(future=later.drop(columns="y"), level=80))
    bare = first_widths(
        solved(freq="h").fit(frame.drop(later.index).drop(columns="price")).predict(level=80)
    )
    # Intervals follow the movements of a window, here of what the effect of the price leaves.
    assert widths["noisy"] / widths["quiet"] == pytest.approx(
        bare["noisy"] / bare["quiet"], rel=0.1
    )


@pytest.mark.parametrize("transform", ["nonnegative", "log1p"])
def test_bounds_around_a_network_that_is_never_negative_stop_at_zero(transform):
    values = np.abs(np.random.default_rng(0).normal(size=400))

    def least(target_transform):
        rule = solved(val_size=0, target_transform=target_transform)
        assert (
            rule.nonnegative
            == rule.fit(wide(values[:, None])).nonnegative
            == (target_transform is not None)
        )
        fitted = SplitConformal(rule, n_windows=40).fit(wide(values[:, None]))
        return fitted.predict(level=90)["c0-lo-90"].min()

    assert least(transform) == 0
    assert least(None) < 0


def test_bounds_keep_within_what_a_series_touches():
    rain = np.maximum(0, np.random.default_rng(0).normal(-0.3, 1, size=400))
    wide_frame_of_both = wide(np.stack([rain, 20 - rain], axis=1))
    forecast = (
        SplitConformal(solved(context=56, val_size=0), n_windows=40)
        .fit(wide_frame_of_both)
        .predict(level=90)
    )
    assert forecast["c0-lo-90"].min() == min(0, forecast["c0"].min())
    assert forecast["c1-hi-90"].max() == max(20, forecast["c1"].max())
    # 28 rows are too few to tell.
    free = (
        SplitConformal(solved(val_size=0), n_windows=40)
        .fit(wide_frame_of_both[["c0"]])
        .predict(level=90)
    )
    assert free["c0-lo-90"].min() < 0


@pytest.mark.parametrize("transform", ["nonnegative", "sqrt", "log1p"])
def test_covariates_and_a_transform_go_together(transform):
    rng = np.random.default_rng(0)
    promo = (rng.random(700) < 0.3).astype(float)
    frame = long({"a": np.zeros(350), "b": np.zeros(350)}).assign(promo=promo)
    frame["y"] = rng.poisson(3 + 30 * promo).astype(float)
    later = frame.groupby("unique_id").tail(6)
    how = {"future_cols": ["promo"], "target_transform": transform, "freq": "h"}
    fitted = solved(**how).fit(frame.drop(later.index))
    assert fitted.fitted_.covariate_regression.error_ratio < 1
    high, low = (
        fitted.predict(future=later.drop(columns="y").assign(promo=p), level=80) for p in (1.0, 0.0)
    )
    assert (high.iloc[:, 2] > low.iloc[:, 2] + 15).all()
    assert low.iloc[:, 2:].to_numpy().min() >= 0


@pytest.mark.parametrize("table", ["wide", "long"])
@pytest.mark.parametrize("adaptive", [False, True])
def test_bounds_of_counts_stop_at_zero(table, adaptive):
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=(120, 2)).astype(float)
    half = rng.poisson(2.0, size=(120, 2)) + 0.5
    signed = np.where(np.arange(120)[:, None] == 3, -1.0, counts)

    def bounds(rule, values):
        frame = wide(values) if table == "wide" else long({"a": values[:, 0], "b": values[:, 1]})
        panel = to_panel(frame)
        wrapped = (
            AdaptiveConformal(rule, n_windows=40)
            if adaptive
            else SplitConformal(rule, n_windows=40)
        )
        wrapped.fit(panel.until(100))
        ends = panel.starts[:-1, None] + np.arange(100, 118)
        if adaptive:
            rolled = roll_adaptive(wrapped, panel, ends, quantiles=(0.1, 0.5, 0.9))
        else:
            rolled = roll(wrapped, panel, ends, quantiles=(0.1, 0.5, 0.9))
            quantiles = wrapped.predict(panel.until(100), quantiles=[0.1, 0.5, 0.9]).quantiles
            first = np.stack([quantiles[q] for q in (0.1, 0.5, 0.9)], axis=-1)
            np.testing.assert_array_equal(
                first, rolled.bounds.reshape(len(panel.starts) - 1, 18, *first.shape[1:])[:, 0]
            )
        assert (np.diff(rolled.bounds, axis=-1) >= 0).all()
        np.testing.assert_array_equal(rolled.bounds[..., 1], rolled.point)
        return rolled.bounds[..., 0], np.minimum(rolled.point, 0)

    for rule, values in ((Falling(2), counts), (Never(2), half)):
        lower, floor = bounds(rule, values)
        assert (lower >= floor).all()
        assert (lower == 0).any()
    for values in (half, signed):
        lower, floor = bounds(Falling(2), values)
        assert (lower < floor).any()


def test_a_backtest_reports_the_coverage_of_the_wrapped_forecaster():
    values = np.random.default_rng(1).normal(size=(500, 2))
    result = backtest(
        SplitConformal(Zero(4, alias="zero"), n_windows=60),
        wide(values),
        n_windows=200,
        level=[80],
        quantiles=[0.5],
    )
    assert list(result.frame.columns) == [
        "unique_id",
        "ds",
        "cutoff",
        "y",
        "zero",
        "zero-lo-80",
        "zero-hi-80",
        "zero-q0.5",
    ]
    frame = result.frame
    share = ((frame["zero-lo-80"] <= frame["y"]) & (frame["y"] <= frame["zero-hi-80"])).mean()
    assert result.scores.loc["zero", "coverage-80"] == pytest.approx(share, abs=1e-12)
    assert 0.7 < share < 0.9


def test_errors_say_what_to_do():
    frame = wide(np.random.default_rng(0).normal(size=(30, 1)))
    wrapped = SplitConformal(Naive(2), n_windows=6)
    with pytest.raises(ValueError, match="not fitted"):
        wrapped.predict(frame)
    with pytest.raises(ValueError, match="not fitted"):
        wrapped.predict_windows(np.zeros((1, 3, 1)))[0]
    fitted = wrapped.fit(frame)
    with pytest.raises(
        ValueError, match=r"level 95 needs at least 19 calibration errors.*got n = 6"
    ):
        fitted.predict(level=95)
    with pytest.raises(ValueError, match="too short"):
        SplitConformal(Naive(2), n_windows=29).fit(frame)
    with pytest.raises(ValueError, match="too short"):
        SplitConformal(SeasonalNaive(2, 24), n_windows=6).fit(frame)
    with pytest.raises(ValueError, match="n_windows must be a whole number of at least 1"):
        SplitConformal(Naive(2), n_windows=0).fit(frame)


def test_missing_truths_are_left_out_of_the_calibration():
    values = np.arange(40.0)[:, None]
    values[35] = np.nan
    panel = to_panel(wide(values), Schema(missing="ffill"))
    fitted = SplitConformal(Zero(1), n_windows=10).fit(panel)
    assert np.isnan(fitted.intervals_.errors).sum() == 1
    # The 8th of the nine errors 30..34, 36..39.
    assert fitted.intervals_.widths(80) * fitted.scales_ == pytest.approx(38)


class Last(Naive):
    """The last known value, whatever else is missing."""

    max_context = 8
    masks = True
    default_missing = "mask"

    def _checked(self, x):
        return x[:, -8:]

    def _points(self, x):
        places = np.where(np.isnan(x), 0, np.arange(1, x.shape[1] + 1)[:, None]).max(
            axis=1, keepdims=True
        )
        return np.repeat(np.take_along_axis(x, places - 1, axis=1), self.horizon, axis=1)


@pytest.mark.parametrize("table", ["wide", "long"])
def test_a_forecaster_that_leaves_missing_values_out_is_calibrated_on_what_is_there(table):
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(300, 2)), axis=0) * [1, 5]
    values[rng.random(values.shape) < 0.2] = np.nan
    frame = wide(values) if table == "wide" else long({"a": values[:, 0], "b": values[:, 1]})
    for kind in (SplitConformal, AdaptiveConformal):
        wrapped = kind(Last(3), n_windows=60)
        assert np.isfinite(
            wrapped.fit(frame).predict(level=80).select_dtypes("number").to_numpy()
        ).all()
        result = backtest(wrapped, frame, n_windows=150, level=80)
        assert abs(result.scores["coverage-80"].item() - 0.8) < 0.08
    with pytest.raises(ValueError, match=r"T >= \d+ rows"):
        wrapped.fit(frame).predict_windows(np.zeros((1, 0, 2 if table == "wide" else 1)))
    with pytest.raises(ValueError, match="finite"):
        wrapped.predict_windows(np.full((1, 40, 2 if table == "wide" else 1), np.inf))


# --- adaptive -------------------------------------------------------------------------------------


def widths_by_hand(errors, alphas, largest):
    """One step and channel: a width for each level, the higher never narrower."""
    ranked = sorted(errors)
    widths = []
    for alpha in alphas:
        n = len(ranked)
        k = math.ceil(round((n + 1) * (1 - alpha), 9))
        width = 0.0 if k < 1 else ranked[min(k, n) - 1]
        if k > n:
            width = largest * 2 ** ((1 / (n + 1) - alpha) / 0.05)
        widths.append(max([width, *widths]))
    return widths


def followed_by_hand(values, calibration, ends, horizon, levels, gamma, step):
    """Bounds of one step ahead around zero, one channel, one window at a time; truths come when
    they come.
    """
    alphas = [1 - level / 100 for level in levels]
    largest = max(calibration)
    issued = []
    told = 0
    out = []
    for end in ends:
        while told < len(issued) and issued[told][0] + step < end:
            at, widths = issued[told]
            truth = abs(values[at + step])
            for i, level in enumerate(levels):
                alphas[i] += gamma * (1 - level / 100 - (truth > widths[i]))
            largest = max(largest, truth)
            told = told + 1
        widths = widths_by_hand(calibration, alphas, largest)
        issued.append((end, widths))
        out.append(widths)
    return np.array(out)


def shifting(n_rows=600, n_channels=2, seed=0):
    """Noise that grows fourfold after two fifths, and fades at the end: no calibration on its
    beginning serves.
    """
    rng = np.random.default_rng(seed)
    size = np.where(np.arange(n_rows) < 0.4 * n_rows, 1.0, 4.0) * np.where(
        np.arange(n_rows) < 0.8 * n_rows, 1.0, 0.1
    )
    return rng.normal(size=(n_rows, n_channels)) * size[:, None]


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("gamma", [0.01, 0.3])
def test_levels_follow_as_an_independent_loop_does(gamma, stride):
    values = shifting(n_channels=1)
    start = 120
    horizon = 5
    levels = (50, 80, 90)
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Zero(horizon), n_windows=60, levels=levels, gamma=gamma).fit(
        panel.until(start)
    )
    ends = np.arange(start, 600 - horizon + 1, stride)
    rolled = roll_adaptive(forecaster, panel, ends)
    assert rolled.quantiles == (0.05, 0.1, 0.25, 0.75, 0.9, 0.95)
    for step in range(horizon):
        for c in range(1):
            calibration = np.sort(
                np.abs(values[start - 60 - horizon + 1 + step : start - horizon + 1 + step, c])
            )
            expected = followed_by_hand(
                values[:, c], calibration, ends, horizon, levels, gamma, step
            )
            np.testing.assert_allclose(rolled.bounds[:, step, c, 3:], expected, rtol=1e-9)
            np.testing.assert_allclose(rolled.bounds[:, step, c, 2::-1], -expected, rtol=1e-9)
    assert not rolled.point.any()


@pytest.mark.parametrize("horizon", [1, 12])
def test_coverage_holds_on_a_stream_where_split_conformal_fails(horizon):
    values = shifting(1600, 1)
    start = 200
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Zero(horizon), n_windows=150).fit(panel.until(start))
    ends = np.arange(start, len(values) - horizon)
    adaptive = roll_adaptive(forecaster, panel, ends)
    split = roll(
        SplitConformal(Zero(horizon), n_windows=150).fit(panel.until(start)),
        panel,
        ends,
        quantiles=adaptive.quantiles,
    )
    assert (adaptive.mse, adaptive.mae) == pytest.approx((split.mse, split.mae), rel=1e-12)
    for level in (80, 95):
        assert abs(adaptive.coverage[level] - level / 100) < 0.02
        assert abs(split.coverage[level] - level / 100) > 0.05
    # Not by wide intervals now and narrow ones then: coverage is near its level in each regime,
    # once it has settled.
    y = values[ends[:, None] + np.arange(horizon)]
    inside = ((adaptive.bounds[..., 1] <= y) & (y <= adaptive.bounds[..., 2])).mean(axis=(1, 2))
    for first, last in ((0, 400), (640, 1040), (1240, 1360)):
        assert abs(inside[first:last].mean() - 0.8) < 0.08


@pytest.mark.parametrize("table", ["wide", "long"])
def test_no_interval_depends_on_rows_after_its_cutoff(table):
    values = shifting(300)
    start = 100
    horizon = 6
    frames = {
        "wide": lambda v: to_panel(wide(v)),
        "long": lambda v: to_panel(long({"a": v[:, 0], "b": 50 * v[:, 1]})),
    }
    panel = frames[table](values)
    forecaster = AdaptiveConformal(Naive(horizon), n_windows=40, levels=(60,), gamma=0.1).fit(
        panel.until(start)
    )
    ends = panel.starts[:-1, None] + np.arange(start, 300 - horizon + 1)
    honest = roll_adaptive(forecaster, panel, ends)
    for cutoff in (101, 150, 151, 222):
        changed = values.copy()
        changed[cutoff:] = 1e3 - 7 * changed[cutoff:]
        rolled = roll_adaptive(forecaster, frames[table](changed), ends)
        row = ends.ravel() - np.repeat(panel.starts[:-1], ends.shape[1])
        np.testing.assert_array_equal(rolled.bounds[row <= cutoff], honest.bounds[row <= cutoff])
        assert not np.allclose(rolled.bounds[row > cutoff], honest.bounds[row > cutoff])


def test_truths_are_told_at_the_first_cutoff_that_knows_them():
    values = shifting(120, 1)
    loud = values.copy()
    loud[80] = 100.0
    forecaster = AdaptiveConformal(Zero(3), n_windows=30, levels=(80,), gamma=0.3).fit(
        wide(values[:40])
    )
    plain, moved = (
        roll_adaptive(forecaster, to_panel(wide(v)), np.arange(40, 118)).bounds
        for v in (values, loud)
    )
    differs = (plain != moved)[:, :, 0, 1]
    assert not differs[: 81 - 40].any(), "the first cutoff with row 80 before it is that of 81 rows"
    assert differs[81 - 40].all(), "each step ahead had a forecast of that row"


def test_the_order_of_windows_and_series_does_not_matter():
    values = shifting(200)
    panel = to_panel(long({"a": values[:, 0], "b": values[:, 1]}))
    forecaster = AdaptiveConformal(Naive(4), n_windows=30, gamma=0.2).fit(panel.until(120))
    ends = (panel.starts[:-1, None] + np.arange(120, 197)).ravel()
    mixed = np.random.default_rng(0).permutation(len(ends))
    whole = roll_adaptive(forecaster, panel, ends)
    shuffled = roll_adaptive(forecaster, panel, ends[mixed])
    np.testing.assert_array_equal(shuffled.bounds, whole.bounds[mixed])
    np.testing.assert_array_equal(shuffled.point, whole.point[mixed])
    assert shuffled.coverage == whole.coverage
    turned = to_panel(long({"b": values[:, 0], "a": values[:, 1]}))
    other = roll_adaptive(clone(forecaster).fit(turned.until(120)), turned, ends)
    np.testing.assert_allclose(
        other.bounds, np.roll(whole.bounds.reshape(2, 77, 4, 1, 4), 1, axis=0).reshape(154, 4, 1, 4)
    )


def test_series_that_end_at_different_stamps_are_judged_by_the_clock():
    values = shifting(200)
    stamps = pd.date_range("2024-01-01", periods=200, freq="h")
    late = pd.concat(
        [
            pd.DataFrame({"unique_id": "a", "ds": stamps, "y": values[:, 0]}),
            pd.DataFrame({"unique_id": "b", "ds": stamps[60:], "y": values[60:, 1]}),
        ]
    )
    panel = to_panel(late)
    forecaster = AdaptiveConformal(Naive(4), n_windows=10, levels=(50,), gamma=0.3).fit(
        panel.until([120, 60])
    )
    ends = (panel.starts[:-1, None] + np.stack([np.arange(120, 197), np.arange(60, 137)])).ravel()
    together = roll_adaptive(forecaster, panel, ends)
    # Both series share a level at the same stamp, wherever their rows stand.
    places = forecaster.places_of(panel, ends)
    scale = forecaster.scale_before(conformal.History(panel), ends, places)
    width = (together.bounds[..., 1] - together.bounds[..., 0])[:, :, 0] / scale
    np.testing.assert_allclose(width[:77], width[77:], rtol=1e-9)
    assert len(np.unique(np.round(width[:, 0], 9))) > 5


def test_the_forecaster_stays_where_fit_or_update_left_it():
    values = shifting(300)
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Zero(3), n_windows=60, gamma=0.2).fit(panel.until(100))
    split = SplitConformal(Zero(3), n_windows=60).fit(panel.until(100))
    x = values[None, 90:100]
    before = forecaster.predict_windows(x, quantiles=(0.025, 0.1, 0.5, 0.9, 0.975))[1]
    np.testing.assert_array_equal(
        before, split.predict_windows(x, quantiles=(0.025, 0.1, 0.5, 0.9, 0.975))[1]
    )
    roll_adaptive(forecaster, panel, np.arange(100, 290))
    np.testing.assert_array_equal(
        forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1], before[..., [1, 3]]
    )
    forecaster.update(x, np.full((1, 3, 2), 100.0))
    wider = forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1]
    assert (np.diff(wider, axis=-1) > np.diff(before[..., [1, 3]], axis=-1)).all()
    forecaster.fit(panel.until(100))
    np.testing.assert_array_equal(
        forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1], before[..., [1, 3]]
    )


def test_telling_truths_by_hand_equals_rolling():
    values = shifting(200, 1)
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Zero(1), n_windows=60, levels=(80,), gamma=0.1).fit(
        panel.until(100)
    )
    rolled = roll_adaptive(forecaster, panel, np.arange(100, 200))
    for end in range(100, 200):
        x = values[None, end - 5 : end]
        np.testing.assert_allclose(
            forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1][0], rolled.bounds[end - 100]
        )
        forecaster.update(x, values[None, end : end + 1])


def test_a_truth_is_judged_by_the_width_of_its_time():
    forecaster = AdaptiveConformal(Zero(1), n_windows=20, levels=(50,), gamma=0.1).fit(
        wide(shifting(60, 1))
    )
    x = np.zeros((1, 1, 1))
    start = 0.5
    issued = forecaster.adaptive_.widths()
    forecaster.adaptive_.alphas[:] = 0.01  # much happened since: intervals are far wider now
    unit = forecaster.scales_
    forecaster.update(x, (issued + 1e-6) * unit, widths=issued)
    assert forecaster.adaptive_.alphas.item() == pytest.approx(0.01 + 0.1 * (start - 1))
    forecaster.update(x, (issued - 1e-6) * unit, widths=issued)
    assert forecaster.adaptive_.alphas.item() == pytest.approx(
        0.01 + 0.1 * (start - 1) + 0.1 * start
    )
    forecaster.update(x, np.full((1, 1, 1), np.nan))
    assert forecaster.adaptive_.alphas.item() == pytest.approx(
        0.01 + 0.1 * (start - 1) + 0.1 * start
    )


def test_beyond_the_largest_error_intervals_double_and_stay_finite():
    adaptive = AdaptiveIntervals(StepIntervals(np.arange(1.0, 10.0).reshape(9, 1, 1)), (80,), 0.25)
    errors = []
    widths = []
    for _ in range(12):
        errors.append(2 * adaptive.widths().max())
        adaptive.update(np.full((1, 1, 1), errors[-1]))
        widths.append(adaptive.widths().item())
    assert np.all(np.diff(widths) > 0)
    assert widths[-1] > 1e6
    # alpha is 0.2 - 0.25 * 0.8 = 0 after one miss: 0.1 below 1 / (n + 1), two doublings of the
    # error just known.
    assert widths[0] == pytest.approx(4 * errors[0])
    for _ in range(10_000):
        adaptive.follow(np.ones((1, 1, 1)), np.full((1, 1), np.nan))
    assert np.isfinite(adaptive.widths()).all()


def test_a_stream_that_was_flat_at_first_is_covered_later():
    values = np.where(np.arange(900) < 200, 3.0, np.random.default_rng(0).normal(size=900))[:, None]
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Naive(1), n_windows=50, gamma=0.05).fit(panel.until(150))
    assert not forecaster.adaptive_.widths().any()
    rolled = roll_adaptive(forecaster, panel, np.arange(300, 899))
    assert abs(rolled.coverage[80] - 0.8) < 0.05


def test_higher_levels_are_never_narrower_even_when_they_hit_more():
    adaptive = AdaptiveIntervals(
        StepIntervals(np.arange(1.0, 101.0).reshape(100, 1, 1)), (50, 60), 1.0
    )
    adaptive.alphas[:] = np.array([0.2, 0.6])[:, None, None]
    assert adaptive.widths().ravel().tolist() == [81, 81]


def test_misses_of_several_series_count_in_part_and_missing_truths_not_at_all():
    adaptive = AdaptiveIntervals(
        StepIntervals(np.arange(1.0, 10.0).repeat(2).reshape(9, 2, 1)), (80,), 0.1
    )
    adaptive.update(
        np.array([[9.0, np.nan], [1.0, np.nan], [2.0, np.nan], [np.nan, np.nan]])[..., None]
    )
    np.testing.assert_allclose(adaptive.alphas.ravel(), [0.2 + 0.1 * (0.2 - 1 / 3), 0.2])


def test_truths_that_are_missing_teach_nothing():
    values = shifting(200, 1)
    holed = values.copy()
    holed[150] = np.nan
    panel = to_panel(wide(holed), Schema(missing="ffill"))
    forecaster = AdaptiveConformal(Zero(1), n_windows=60, levels=(80,), gamma=0.1).fit(
        panel.until(100)
    )
    high = roll_adaptive(forecaster, panel, np.arange(100, 200)).bounds[:, 0, 0, 1]
    assert high[150 - 100] == high[151 - 100]
    assert np.isfinite(high).all()


def test_the_state_is_lean_and_results_may_be_dropped():
    values = shifting(200)
    panel = to_panel(wide(values))
    forecaster = AdaptiveConformal(Naive(4), n_windows=30).fit(panel.until(120))
    kept = roll_adaptive(forecaster, panel, np.arange(120, 197), quantiles=(0.1, 0.5, 0.9))
    lean = roll_adaptive(
        forecaster, panel, np.arange(120, 197), quantiles=(0.1, 0.5, 0.9), keep=False
    )
    assert (lean.point, lean.bounds) == (None, None)
    assert (lean.coverage, lean.wql) == (kept.coverage, kept.wql)
    np.testing.assert_array_equal(kept.bounds[..., 1], kept.point)
    assert roll_adaptive(forecaster, panel, np.array([], dtype=int)).n_windows == 0


@pytest.mark.parametrize(("horizon", "gamma"), [(1, 0.02), (20, 0.02), (96, 0.4 / 96)])
def test_gamma_follows_the_delay(horizon, gamma):
    fitted = AdaptiveConformal(Zero(horizon), n_windows=20).fit(wide(shifting(200)))
    assert fitted.adaptive_.gamma == pytest.approx(gamma)


def test_adaptive_refusals_say_what_to_do():
    frame = wide(shifting(60))
    with pytest.raises(
        ValueError, match=r"level 95 needs at least 19 calibration errors.*got n = 18"
    ):
        AdaptiveConformal(Naive(2), n_windows=18).fit(frame[["c0"]])
    fitted = AdaptiveConformal(Naive(2), n_windows=18, levels=(50, 80)).fit(frame)
    with pytest.raises(ValueError, match="follows the levels 50, 80; got 90: name it in levels="):
        fitted.predict(level=90)
    with pytest.raises(ValueError, match="follows the levels 50, 80; got 95"):
        roll_adaptive(fitted, to_panel(frame), np.array([30]), quantiles=(0.025,))
    with pytest.raises(ValueError, match="levels must name at least one level"):
        AdaptiveConformal(Naive(2), n_windows=18, levels=())
    with pytest.raises(ValueError, match="level is in percent"):
        AdaptiveConformal(Naive(2), n_windows=18, levels=(0.8, 100))
    for gamma in (0, -1, math.inf, math.nan, "0.1"):
        with pytest.raises(ValueError, match="gamma must be a number above 0"):
            AdaptiveConformal(Naive(2), n_windows=18, gamma=gamma)
    with pytest.raises(
        ValueError, match=r"y must have the shape of the forecasts, \(1, 2, 2\); got \(2, 2\)"
    ):
        fitted.update(np.zeros((1, 5, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="AdaptiveConformal is not fitted"):
        AdaptiveConformal(Naive(2), n_windows=18).predict(frame)
    with pytest.raises(ValueError, match="AdaptiveConformal is not fitted"):
        AdaptiveConformal(Naive(2), n_windows=18).update(np.zeros((1, 5, 2)), np.zeros((1, 2, 2)))


@pytest.mark.parametrize("horizon", [2, 10])
def test_a_second_fit_counts_the_horizon_of_now(horizon):
    rng = np.random.default_rng(0)
    frame = long(
        {
            name: at + np.cumsum(rng.normal(size=100))
            for name, at in {"a": 0, "b": 1000, "c": -500}.items()
        }
    )
    refitted = (
        SplitConformal(Naive(6), n_windows=20)
        .fit(frame)
        .set_params(forecaster__horizon=horizon)
        .fit(frame)
    )
    once = SplitConformal(Naive(horizon), n_windows=20).fit(frame)
    pd.testing.assert_frame_equal(refitted.predict(level=80), once.predict(level=80))


def test_a_fit_that_is_refused_changes_nothing():
    frame = long({"a": np.random.default_rng(0).normal(size=80)})
    fitted = AdaptiveConformal(Naive(3), n_windows=20).fit(frame)
    before = fitted.predict(level=80)
    with pytest.raises(ValueError, match="calibration errors"):
        fitted.set_params(n_windows=1).fit(frame.assign(y=1000 * frame["y"]))
    pd.testing.assert_frame_equal(fitted.predict(level=80), before)


def test_settings_inside_stay_where_others_are_refused():
    wrapped = AdaptiveConformal(Naive(3), n_windows=20)
    with pytest.raises(ValueError, match="levels"):
        wrapped.set_params(forecaster__horizon=99, levels=())
    assert wrapped.forecaster.horizon == 3


def test_series_are_sought_once_for_each_window_and_not_once_for_each_series(monkeypatch):
    rng = np.random.default_rng(0)
    frame = long({f"s{n:03}": rng.normal(size=40) for n in range(300)})
    fitted = SplitConformal(Naive(3), n_windows=20).fit(frame)
    requests = []
    seek = pd.Index.get_indexer
    monkeypatch.setattr(
        pd.Index,
        "get_indexer",
        lambda own, target: (requests.append(len(target)), seek(own, target))[1],
    )
    history = fitted.panel_
    for end in history.starts[1:]:
        fitted.predict_before(History(history), np.array([end]), quantiles=(0.1, 0.9))
    assert sum(requests) == 300


# --- saved folders --------------------------------------------------------------------------------


def counts_and_others():
    rng = np.random.default_rng(3)
    return long({"counts": rng.poisson(2.0, 80), "others": rng.normal(size=80)})


@pytest.mark.parametrize(
    "make", [Naive, lambda horizon: solved(horizon, val_size=0)], ids=["naive", "solved"]
)
@pytest.mark.parametrize("kind", [SplitConformal, AdaptiveConformal])
def test_a_loaded_wrapper_answers_alike(kind, make, tmp_path):
    frame = counts_and_others()
    fitted = kind(make(3), n_windows=30).fit(frame)
    fitted.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert type(loaded) is kind
    assert {**loaded.get_params(), "forecaster": 0} == {**fitted.get_params(), "forecaster": 0}
    other = long({"new": np.random.default_rng(4).normal(size=60)})
    for table in (None, other):
        expected = fitted.predict(table, level=[80, 95])
        pd.testing.assert_frame_equal(loaded.predict(table, level=[80, 95]), expected)
    pd.testing.assert_frame_equal(loaded.fit(frame).predict(), fitted.predict())


def test_columns_beside_the_target_come_back(tmp_path):
    frame = counts_and_others().assign(promo=lambda f: f.index % 5 == 0).astype({"promo": float})
    schema = Schema(future_cols=["promo"])
    fitted = SplitConformal(make_forecaster("ridge", 3, schema=schema), n_windows=10).fit(frame)
    fitted.save(tmp_path / "model")
    loaded = SplitConformal.load(tmp_path / "model")
    future = fitted.make_future_frame().assign(promo=[0.0, 1.0, 0.0] * 2)
    expected = fitted.predict(future=future, level=80)
    pd.testing.assert_frame_equal(loaded.predict(future=future, level=80), expected)


def test_levels_in_motion_come_back_where_they_were(tmp_path):
    frame = counts_and_others()
    fitted = AdaptiveConformal(Naive(3), n_windows=30, levels=[80]).fit(frame)
    before = fitted.state_
    x = np.zeros((2, 40, 1)) + np.arange(40.0)[:, None]
    fitted.update(x, np.full((2, 3, 1), 1e6))
    assert fitted.state_ is not before
    assert (before.adaptive.alphas != fitted.adaptive_.alphas).all()
    fitted.save(tmp_path / "model")
    loaded = AdaptiveConformal.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.adaptive_.widths(), fitted.adaptive_.widths())
    for model in (fitted, loaded):
        model.update(x, np.full((2, 3, 1), 1e7))
    np.testing.assert_array_equal(loaded.adaptive_.widths(), fitted.adaptive_.widths())


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("errors", lambda a: -a),
        ("errors", lambda a: a[:, :2]),
        ("scales", lambda a: 0 * a),
        ("scales", lambda a: a[:1]),
        ("per_step", lambda a: a * np.inf),
        ("counts", lambda a: a.astype(np.float64)),
        ("alphas", lambda a: a * np.nan),
        ("largest", lambda a: a - 1e9),
    ],
)
def test_a_wrapper_with_other_numbers_is_refused(name, damage, tmp_path):
    AdaptiveConformal(Naive(3), n_windows=30).fit(counts_and_others()).save(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors[f"learnt.{name}"] = np.ascontiguousarray(damage(tensors[f"learnt.{name}"]))
    save_file(tensors, file)
    facts = json.loads((tmp_path / "config.json").read_text()) | {"sha256": file_digest(file)}
    (tmp_path / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is not what save"):
        load_forecaster(tmp_path)


def test_another_forecaster_inside_is_refused(tmp_path):
    SplitConformal(Naive(3), n_windows=30).fit(counts_and_others()).save(tmp_path / "model")
    Naive(3).fit(counts_and_others().iloc[:40]).save(tmp_path / "model" / "forecaster")
    with pytest.raises(ValueError, match="forecaster is not the one that was saved"):
        load_forecaster(tmp_path / "model")


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(intervals)
    assert outcome.attempted >= 9
    assert outcome.failed == 0


@pytest.mark.parametrize("inner", [SeasonalNaive(8), LinearForecaster(8, context=4, val_size=0)])
def test_a_table_too_short_is_told_by_its_own_rows(inner):
    quarters = pd.period_range("2015Q1", periods=13, freq="Q")
    df = pd.DataFrame({"ds": quarters, "y": np.arange(13.0)})
    rule = SplitConformal(inner, n_windows=4)
    with pytest.raises(ValueError, match=r"13 rows.*calibration span of 11 rows") as refusal:
        rule.fit(df)
    n_needed = int(str(refusal.value).split("at least ")[1].split()[0])
    enough = pd.period_range("2015Q1", periods=n_needed, freq="Q")
    rule.fit(pd.DataFrame({"ds": enough, "y": np.arange(float(n_needed))}))


@pytest.mark.parametrize("n", [1, 2, 8, 18, 31, 99, 5_000])
def test_the_level_that_a_refusal_names_is_granted(n):
    rule = intervals.StepIntervals(np.ones((n, 1, 1)))
    with pytest.raises(ValueError, match="or a level of at most") as refusal:
        rule.widths(99.9999)
    named = float(str(refusal.value).split("at most ")[1])
    assert rule.widths(named).tolist() == [[1.0]]
    # One more in the last decimal is more than the errors support.
    with pytest.raises(ValueError, match=f"got n = {n}"):
        rule.widths(named + 0.01)


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_adaptive_intervals_go_on_after_the_rows_of_a_table(layout):
    values = np.random.default_rng(0).normal(50, 3, (2, 60))
    frame = long_table(values, ["a", "b"])
    if layout == "wide":
        frame = wide_of(frame).reset_index()
    first_new = np.sort(frame["ds"].unique())[-4]
    old, new = frame[frame["ds"] < first_new], frame[frame["ds"] >= first_new]
    fitted = AdaptiveConformal(Naive(2), n_windows=20).fit(old)
    x = values[:, -6:-4, None]
    fitted.update(x, np.full((2, 2, 1), 1e6))
    widths = fitted.adaptive_.widths()
    expected = fitted.predict(frame, level=80)
    pd.testing.assert_frame_equal(fitted.update(new).predict(level=80), expected)
    np.testing.assert_array_equal(fitted.adaptive_.widths(), widths)
    with pytest.raises(ValueError, match="got no y: pass it, or the rows of a table alone"):
        fitted.update(x)
