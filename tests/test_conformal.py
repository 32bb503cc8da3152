"""Do calibrated intervals hold their level, and do they refuse what they cannot hold?"""

import doctest
import math

import numpy as np
import pandas as pd
import pytest

from tsattn.data.frames import to_panel
from tsattn.evaluate import conformal
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.baselines import Naive, SeasonalNaive
from tsattn.evaluate.conformal import SplitConformal, StepIntervals, scale_of
from tsattn.forecast import level_to_quantiles


class Zero(Naive):
    """Forecasts 0, whatever it sees, so that errors are the values themselves."""

    def _forecast(self, x):
        return np.zeros((x.shape[0], self.horizon, x.shape[2]))


def wide(values):
    stamps = pd.date_range("2024-01-01", periods=len(values), freq="h")
    return pd.DataFrame(values, index=stamps, columns=[f"c{i}" for i in range(values.shape[1])])


def long(series):
    stamps = pd.date_range("2024-01-01", periods=len(next(iter(series.values()))), freq="h")
    frames = [pd.DataFrame({"unique_id": name, "ds": stamps, "y": y}) for name, y in series.items()]
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("n", [4, 5, 9, 19, 20, 99, 100])
@pytest.mark.parametrize("level", [10, 50, 80, 90, 95, 99])
def test_width_is_the_right_order_statistic(n, level):
    """k is the least whole number with k / (n + 1) >= level / 100, found here by trying them all."""
    errors = np.random.default_rng(n).permutation(np.arange(1.0, n + 1)).reshape(n, 1, 1)
    fits = [k for k in range(1, n + 1) if 100 * k >= level * (n + 1)]
    if fits:
        assert StepIntervals(errors).widths(level) == fits[0]
    else:
        with pytest.raises(
            ValueError, match=rf"level {level} needs at least {math.ceil(level / (100 - level))} .*n = {n}"
        ):
            StepIntervals(errors).widths(level)


@pytest.mark.parametrize(("level", "least"), [(50, 1), (80, 4), (90, 9), (95, 19), (97.5, 39), (99, 99), (99.9, 999)])
def test_the_least_number_of_errors_is_the_one_named(level, least):
    assert StepIntervals(np.ones((least, 1, 1))).widths(level) == 1
    with pytest.raises(ValueError, match=f"at least {least} calibration errors at every step; got n = {least - 1}"):
        StepIntervals(np.ones((least - 1, 1, 1))).widths(level)


def test_missing_truths_do_not_count():
    errors = np.arange(1.0, 11.0).repeat(2).reshape(10, 2, 1)
    errors[6:, 1] = np.nan  # six errors are left at the second step
    intervals = StepIntervals(errors[::-1])
    np.testing.assert_array_equal(intervals.widths(80).ravel(), [9, 6])  # ceil(11 * .8), ceil(7 * .8)
    with pytest.raises(ValueError, match=r"got n = 6: use more calibration windows, or a level of at most 85.71"):
        intervals.widths(90)


def test_bounds_are_symmetric_monotone_and_start_from_the_point():
    rng = np.random.default_rng(0)
    intervals = StepIntervals(np.abs(rng.normal(size=(60, 3, 2))))
    point = rng.normal(size=(5, 3, 2))
    asked = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    bounds = intervals.apply(point, asked)
    assert bounds.shape == (5, 3, 2, 7)
    assert (np.diff(bounds, axis=-1) >= 0).all()
    np.testing.assert_array_equal(bounds[..., 3], point)
    np.testing.assert_allclose(bounds[..., 0] + bounds[..., -1], 2 * point, rtol=1e-12, atol=1e-12)
    scaled = intervals.apply(point, asked, scale=np.full((5, 2), 3.0))
    np.testing.assert_allclose(scaled - point[..., None], 3 * (bounds - point[..., None]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("errors", [np.ones((3, 2)), -np.ones((3, 1, 1)), np.full((3, 1, 1), np.inf)])
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
    values = np.arange(40.0)[:, None] * [1, 10]
    fitted = SplitConformal(Zero(2), n_windows=5, step_size=step_size).fit(wide(values))
    first = 40 - (2 + step_size * 4)
    expected = [values[first + step_size * w : first + step_size * w + 2] for w in range(5)]
    np.testing.assert_array_equal(fitted.intervals_.errors, expected)  # they grow, so they are sorted
    assert fitted.forecaster_._panel.lengths.tolist() == [first]


def test_the_forecaster_that_was_given_stays_as_it_was():
    mine = SeasonalNaive(2)
    SplitConformal(mine, n_windows=5).fit(wide(np.random.default_rng(0).normal(size=(60, 1))))
    assert not hasattr(mine, "season_length_")
    with pytest.raises(ValueError, match="not fitted"):
        mine.predict()


def test_coverage_holds_on_independent_noise():
    """Exchangeable errors: the mean coverage over many calibrations is at least the level, and barely more."""
    rng = np.random.default_rng(0)
    shares = {80: [], 95: []}
    for _ in range(60):
        values = rng.standard_t(4, size=(40 + 200, 3))
        fitted = SplitConformal(Zero(1), n_windows=39).fit(wide(values[:40]))
        x, y = values[40:, None, :], values[40:, :]
        for level, found in shares.items():
            lower, upper = np.moveaxis(fitted.predict_windows(x, quantiles=level_to_quantiles(level)), -1, 0)
            found.append(((lower[:, 0] <= y) & (y <= upper[:, 0])).mean())
    for level, found in shares.items():
        slack = 3 * np.std(found) / math.sqrt(len(found))
        assert level / 100 - slack <= np.mean(found) <= level / 100 + 1 / 40 + slack


def test_one_step_and_channel_each_have_their_width():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(400, 2)), axis=0) * [1, 100]
    fitted = SplitConformal(Naive(8), n_windows=200).fit(wide(values))
    widths = fitted.intervals_.widths(80)
    assert (np.diff(widths[:, 0]) > 0).all(), "a random walk is less certain the further ahead"
    assert (widths[:, 1] > 20 * widths[:, 0]).all()


def test_series_of_different_size_share_one_calibration():
    rng = np.random.default_rng(0)
    walk = rng.normal(size=120)
    fitted = SplitConformal(Naive(3), n_windows=6).fit(
        long({"big": 1000 * walk + 5e4, "small": walk, "other": rng.normal(size=120)})
    )
    assert fitted.context == 32
    assert fitted.intervals_.errors.shape == (18, 3, 1)
    out = fitted.predict(level=80)
    width = (out["naive-hi-80"] - out["naive-lo-80"]).to_numpy().reshape(3, 3)
    np.testing.assert_allclose(width[0], 1000 * width[2], rtol=1e-9)
    wide_context = SplitConformal(SeasonalNaive(3, 48), n_windows=6).fit(long({"a": walk, "b": walk[::-1]}))
    assert wide_context.context == 48


def test_short_series_take_their_scale_from_what_exists():
    fitted = SplitConformal(Naive(2), n_windows=5).fit(long({"a": np.arange(16.0), "b": np.arange(16.0) ** 2}))
    assert fitted.context == 10
    assert np.isfinite(fitted.predict(level=80).drop(columns=["unique_id", "ds"]).to_numpy()).all()


def test_a_backtest_reports_the_coverage_of_the_wrapped_forecaster():
    values = np.random.default_rng(1).normal(size=(500, 2))
    result = backtest(
        SplitConformal(Zero(4, alias="zero"), n_windows=60), wide(values), n_windows=200, level=[80], quantiles=[0.5]
    )
    assert list(result.frame.columns) == [
        "unique_id", "ds", "cutoff", "y", "zero", "zero-lo-80", "zero-hi-80", "zero-q0.5"
    ]  # fmt: skip
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
        wrapped.predict_windows(np.zeros((1, 3, 1)))
    fitted = wrapped.fit(frame)
    with pytest.raises(ValueError, match=r"level 95 needs at least 19 calibration errors.*got n = 6"):
        fitted.predict(level=95)
    with pytest.raises(ValueError, match="too short"):
        SplitConformal(Naive(2), n_windows=29).fit(frame)
    with pytest.raises(ValueError, match="too short"):
        SplitConformal(SeasonalNaive(2, 24), n_windows=6).fit(frame)
    with pytest.raises(ValueError, match="n_windows must be an integer, at least 1"):
        SplitConformal(Naive(2), n_windows=0).fit(frame)


def test_missing_truths_are_left_out_of_the_calibration():
    values = np.arange(40.0)[:, None]
    values[35] = np.nan
    panel = to_panel(wide(values), missing="ffill")
    fitted = SplitConformal(Zero(1), n_windows=10).fit(panel)
    assert np.isnan(fitted.intervals_.errors).sum() == 1
    assert fitted.intervals_.widths(80) == 38  # the 8th of the nine errors 30..34, 36..39


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(conformal)
    assert found.attempted >= 4
    assert found.failed == 0
