"""The combination: what is judged and on which rows, bands, time, short series, saved folders."""

import itertools
import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch
from covariate_forecasters import plant_few_trees
from tables import long_table

from tsattn.catalogue import load_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.forecasters import candidates, judged_windows, trials
from tsattn.forecasters.auto import AutoForecaster
from tsattn.forecasters.covariate_weights import PastForecasts
from tsattn.forecasters.deadlines import fit_in_time, require_seconds, seconds_left
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Naive
from tsattn.forecasters.pretrained import PretrainedForecaster, clean_panel
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.pretrained.weights import load_network

H = 6
CANDIDATES = AutoForecaster._candidates
QUICK = ("zero", "naive", "seasonal_naive", "drift")


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    plant_few_trees(monkeypatch)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Who sleeps puts the clock forward instead."""
    slept = [0.0]
    monotonic = time.monotonic

    def sleep(seconds):
        slept[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + slept[0])


def some(self, panel, until):
    return (each for each in AutoForecaster._candidates(self, panel, until) if each.name in QUICK)


def with_least_squares(self, panel, until):
    every = CANDIDATES(self, panel, until)
    return (each for each in every if each.name in ("zero", "least_squares"))


def that_learn(self, panel, until):
    every = CANDIDATES(self, panel, until)
    return (each for each in every if each.name in (*QUICK, "least_squares", "dynamic_theta"))


Learning = type("AutoForecaster", (AutoForecaster,), {"_candidates": that_learn})
# With some of the candidates, and saved and loaded as the class of this package.
_PASSES = {"__module__": AutoForecaster.__module__, "_candidates": some}
Quick = type("AutoForecaster", (AutoForecaster,), _PASSES)


class Slow(Naive):
    """The naive rule with a pause for each window, or for each that does not end with 3."""

    pause = True

    def _points(self, x):
        time.sleep(0.05 * len(x) * (self.pause or (x != 3).any()))
        return super()._points(x)


def table(*lengths, kind="walk", seed=0):
    """Monthly series of these lengths: walks, years that repeat with little noise, or walks of each
    month.
    """
    rng = np.random.default_rng(seed)
    values = []
    for n in lengths:
        walk = np.cumsum(rng.normal(size=n))
        year = np.tile(rng.normal(size=12), -(-n // 12))[:n] + rng.normal(size=n) / 20
        if kind == "months":
            walk = np.cumsum(rng.normal(size=(-(-n // 12), 12)), axis=0).ravel()[:n]
        values.append(50 + 9 * year if kind == "year" else walk)
    return long_table(values, start="1990-01-01", freq="MS")


def two_waves():
    """Two series, sums of two waves, which least squares forecast best."""
    frame = table(150, 150)
    time = np.tile(np.arange(150), 2)
    phase = np.repeat([0.0, 2.0], 150)
    noise = 0.05 * np.random.default_rng(0).normal(size=300)
    frame["y"] = np.sin(time / 2.3 + phase) + np.sin(time / 5.1 - phase) + noise
    return frame


# --- wrong values and series that have ended


@pytest.mark.filterwarnings("ignore:.* far from its neighbours")
def test_a_wrong_value_ruins_neither_weights_nor_forecast():
    step = np.arange(480)
    values = 50 + 10 * np.sin(2 * np.pi * step / 24) + np.random.default_rng(0).normal(0, 0.5, 480)
    table = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=480, freq="h"), "y": values})
    truth = 50 + 10 * np.sin(2 * np.pi * np.arange(480, 504) / 24)
    errors = {}
    judged = {}
    for name, value in (("clean", values[475]), ("wrong", 5555.0)):
        table.loc[475, "y"] = value
        model = Learning(24, random_state=0).fit(table)
        errors[name] = np.abs(model.predict()["auto"] - truth).mean()
        judged[name] = model.leaderboard_["error"].min()
    assert errors["wrong"] < 2 * errors["clean"]
    assert judged["wrong"] < 1.5 * judged["clean"]
    assert model.state_.panel.values.max() == 5555, "the history is kept as it is"


def test_a_series_that_has_ended_is_forecast_by_its_last_value():
    sales = np.random.default_rng(0).poisson(5, (2, 120)).astype(float)
    sales[0, 60:] = 0
    frame = long_table(sales, ["dead", "alive"])
    with pytest.warns(UserWarning, match="series 'dead' has 0 in each of its last 60 rows"):
        forecaster = Quick(14).fit(frame)
    answer = forecaster.predict(level=80).set_index("unique_id")
    assert (answer.loc["dead", "auto"] == 0).all()
    assert (answer.loc["dead", "auto-lo-80"] == 0).all()
    assert answer.loc["alive", "auto"].min() > 2


# --- windows


def test_windows_are_a_horizon_apart_and_most_rows_stand_before_them():
    panel = to_panel(table(120, 40, 7, 6))
    ends, stops = judged_windows.judged_windows(panel, H)
    each = [
        ends[(ends > a) & (ends <= b)] - a
        for a, b in zip(panel.starts, panel.starts[1:], strict=False)
    ]
    assert each[0].tolist() == [120 - H * k for k in range(8, 0, -1)]
    assert each[1].tolist() == [28, 34]
    assert each[2].tolist() == [1]
    assert each[3].tolist() == []
    assert stops.tolist() == [72, 28, 1, 6]


@pytest.mark.parametrize(
    ("length", "first", "step"), [(40, 18, 2), (44, 20, 2), (20, 9, 1), (7, 1, H), (45, 27, H)]
)
def test_windows_of_one_short_series_overlap(length, first, step):
    panel = to_panel(table(length))
    ends, stops = judged_windows.judged_windows(panel, H)
    expected = np.arange(length - H, first - 1, -step)[::-1]
    np.testing.assert_array_equal(ends, expected)
    assert len(ends) <= judged_windows._MAX_SERIES_WINDOWS
    assert stops.tolist() == [ends[0]]


def test_overlapping_windows_are_the_evidence_of_those_that_fit_side_by_side():
    owners = np.zeros(4, dtype=int)
    assert judged_windows.independent_windows(np.array([20, 26, 32, 38]), owners, H) == 4
    assert judged_windows.independent_windows(np.array([20, 22, 24, 26]), owners, H) == 2
    assert judged_windows.independent_windows(np.array([20, 200]), owners[:2], H) == 2
    two_series = np.array([0, 0, 1, 1])
    n_independent = judged_windows.independent_windows(np.array([20, 26, 60, 66]), two_series, H)
    assert n_independent == pytest.approx(4 / np.sqrt(2))
    assert judged_windows.independent_windows(np.array([], dtype=int), owners[:0], H) == 0


def test_of_many_series_some_windows_are_drawn():
    panel = to_panel(table(*[60] * 300))
    ends, stops = judged_windows.judged_windows(panel, H)
    assert len(ends) == judged_windows._MAX_JUDGED_WINDOWS
    assert (np.diff(ends) > 0).all()
    assert set(np.unique(stops)) == {60 - H, 60 - 2 * H}  # each series' last one, and some before
    np.testing.assert_array_equal(judged_windows.judged_windows(panel, H)[0], ends)


@pytest.mark.parametrize(
    "name", ["zero", "seasonal_naive", "least_squares", "dynamic_theta", "auto_ets", "mlr"]
)
def test_no_candidate_sees_a_row_that_it_is_judged_on(name):
    frame = table(90, 90)
    panel = to_panel(frame)
    ends, stops = judged_windows.judged_windows(panel, H)
    ends = ends[[0, len(ends) // 2]]  # the first window of each series
    after = np.concatenate([np.arange(120) >= stop for stop in [stops[0]]])[
        : len(panel.values) // 2
    ]
    other = to_panel(frame.assign(y=frame["y"] + 1e3 * np.tile(after, 2)))
    actual = []
    for each in (panel, other):
        maker = AutoForecaster(H, max_time="10m")
        if name == "mlr":
            candidate = candidates.Candidate("mlr", _network())
        else:
            candidate = next(
                c for c in maker._candidates(each, time.monotonic() + 60) if c.name == name
            )
        actual.append(
            trials.try_candidate(
                candidate, each.until(stops), each, ends, trials.Limit(math.inf, "1m")
            )
        )
    np.testing.assert_array_equal(actual[0].answer[0], actual[1].answer[0])
    assert np.isfinite(actual[0].answer[0]).all()


def _network():
    from tsattn.forecasters.attention import AttentionForecaster
    from tsattn.nn.config import Network
    from tsattn.training.settings import Training

    small = Network(d_model=8, n_heads=2, n_layers=1, d_ff=8, patch_len=4, patch_stride=4)
    return AttentionForecaster(
        H, context=12, network=small, training=Training(max_epochs=1), random_state=0
    )


# --- forecasts


def test_years_that_repeat_are_left_to_models_that_see_them():
    frame = table(*[120] * 6, kind="year")
    auto = Quick(H).fit(frame)
    board = auto.leaderboard_
    assert board.index[0] in ("zero", "seasonal_naive")
    assert board.loc[["naive", "drift"], "weight"].tolist() == [0, 0]
    assert board["weight"].sum() == pytest.approx(1)
    assert auto.n_windows_ == 6 * 8
    assert list(board.columns) == ["error", "weight", "seconds", "note"]
    assert board["error"].is_monotonic_increasing


def test_the_point_is_the_weighted_mean_of_the_members():
    frame = table(*[90] * 5)
    auto = Quick(H).fit(frame)
    weights = auto.leaderboard_["weight"]
    assert (weights > 0).sum() > 1
    told = {"zero": PretrainedForecaster, "naive": Naive}
    told |= {"seasonal_naive": candidates.SeasonalNaive, "drift": candidates.Drift}
    expected = sum(
        weights[name] * cls(H).fit(frame).predict()[name]
        for name, cls in told.items()
        if weights[name] > 0
    )
    np.testing.assert_allclose(auto.predict()["auto"], expected, rtol=1e-9)


def test_a_candidate_that_learns_is_fitted_again_on_all_rows(monkeypatch):
    """Least squares have all the weight on sums of two waves: their forecast is the answer."""

    monkeypatch.setattr(AutoForecaster, "_candidates", with_least_squares)
    frame = two_waves()
    auto = AutoForecaster(H, max_time="5m").fit(frame)
    assert auto.leaderboard_.loc["least_squares", "weight"] == 1
    own_model = LinearForecaster(H, "rlinear", closed_form=True).fit(frame)
    np.testing.assert_allclose(auto.predict()["auto"], own_model.predict()["rlinear"], rtol=1e-9)


def test_a_candidate_is_compared_on_the_windows_that_it_answers():
    """Drift and seasonal values cannot answer the windows of short series. Their small sums of
    errors over the windows of the one long series are no lead.
    """
    board = Quick(H).fit(table(90, *[14] * 20)).leaderboard_
    assert board.index[0] == "naive"
    assert board.loc["drift", "error"] > board.loc["zero", "error"]
    assert board.loc["seasonal_naive", "error"] > 1.5 * board.loc["naive", "error"]
    assert board.loc[["drift", "seasonal_naive"], "weight"].tolist() == [0, 0]


def test_boosted_trees_take_part_where_columns_are_named():
    """The value is a product of two columns, which no other candidate follows."""

    class Some(AutoForecaster):
        def _candidates(self, panel, until):
            return (
                candidate
                for candidate in super()._candidates(panel, until)
                if candidate.name in ("zero", "gbm")
            )

    frame = table(250)
    rng = np.random.default_rng(0)
    frame["first"] = rng.choice([-1.0, 1.0], 250)
    frame["second"] = rng.choice([-1.0, 1.0], 250)
    frame["y"] = 5 * frame["first"] * frame["second"] + rng.normal(size=250)
    schema = Schema(future_cols=["first", "second"])
    auto = Some(H, max_time="5m", schema=schema).fit(frame)
    assert "gbm" in auto.leaderboard_.index
    assert auto.leaderboard_.loc["gbm", "error"] < 0.6
    plain = AutoForecaster(H)
    names = [c.name for c in plain._candidates(to_panel(frame[["unique_id", "ds", "y"]]), 0.0)]
    assert "gbm" not in names


def grower(n=120, seed=0):
    """Months that double every ten months, with a season that grows along."""
    month = np.arange(n)
    noise = np.random.default_rng(seed).normal(0, 0.02, n)
    return 100 * np.exp(month / 15 + 0.4 * np.sin(2 * np.pi * month / 12) + noise)


class Logs(AutoForecaster):
    """With the pretrained network, as it is and on a log scale."""

    def _candidates(self, panel, until):
        names = ("zero", "zero_log")
        return (c for c in super()._candidates(panel, until) if c.name in names)


Logs.__name__ = "AutoForecaster"
Logs.__module__ = AutoForecaster.__module__


def test_series_that_grow_by_shares_are_forecast_in_logarithms(tmp_path):
    frame = long_table([grower(seed=seed) for seed in range(6)], start="1990-01-01", freq="MS")
    past = frame[frame.groupby("unique_id").cumcount() < 108]
    future = frame[frame.groupby("unique_id").cumcount() >= 108]
    auto = Logs(12).fit(past)
    board = auto.leaderboard_
    assert board.loc["zero_log", "error"] < board.loc["zero", "error"]
    assert board.loc["zero_log", "weight"] > 0
    zero = PretrainedForecaster(12).fit(past)

    def error(forecaster):
        forecast = forecaster.predict()[forecaster.name].to_numpy()
        return np.abs(forecast - future["y"].to_numpy()).mean()

    assert error(auto) < 0.7 * error(zero)
    auto.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=80), auto.predict(level=80))


def test_logarithms_are_tried_on_positive_months_quarters_and_years_alone():
    def names(values, freq="MS"):
        panel = to_panel(long_table([values], freq=freq))
        return [c.name for c in AutoForecaster(H)._candidates(panel, 0.0)]

    assert "zero_log" in names(grower())
    assert "zero_log" in names(grower(), "QS")
    assert "zero_log" not in names(grower(), "h")
    assert "zero_log" not in names(grower() - 1e6)
    x = np.array([[1.0, 2.0, 4.0], [1.0, -2.0, 4.0]])[:, :, None]
    forecaster = PretrainedForecaster(H).fit([1.0, 2.0, 3.0])
    candidate = candidates.Candidate("zero_log", forecaster, banded=True, in_logs=True)
    point, bounds = candidates.answer_windows(candidate, x, (0.1, 0.9), None)
    assert np.isfinite(point[0]).all()
    assert np.isnan(point[1]).all()
    assert np.isnan(bounds[1]).all()
    expected = np.exp(forecaster.predict_windows(np.log(x[:1]))[0])
    np.testing.assert_allclose(point[:1], expected)


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_one_line_says_what_was_chosen():
    auto = Quick(H).fit(table(*[120] * 6, kind="year"))
    members = auto.leaderboard_["weight"].sort_values(ascending=False)
    assert auto.chosen_.startswith(f"{members.iloc[0]:.0%} {members.index[0]}")
    assert auto.chosen_.endswith("judged on 48 windows of the past")
    assert "naive 0%" not in auto.chosen_
    short = Quick(H).fit(table(6)).chosen_
    assert short == "100% zero, since no series is long enough for a judgement"
    partly = Quick(H).fit(table(90, 20)).chosen_
    left_out = auto.revised(
        leaderboard=auto.leaderboard_.assign(note=["", "", "", "would take 9 seconds"])
    )
    assert left_out.chosen_.endswith(f"; without {auto.leaderboard_.index[3]} would take 9 seconds")
    assert "without" not in partly


def test_series_too_short_for_any_window_get_the_pretrained_forecast():
    frame = table(6, 5)
    auto = Quick(H).fit(frame)
    zero = PretrainedForecaster(H, alias="auto").fit(frame)
    pd.testing.assert_frame_equal(auto.predict(level=80), zero.predict(level=80))
    assert auto.n_windows_ == 0
    assert auto.band_factor_ == 1


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_the_pretrained_network_stands_in_for_members_whose_context_a_series_lacks():
    frame = table(*[90] * 5, 4, kind="months")
    auto = Quick(H).fit(frame)
    auto._weights[:] = [0, 1] if len(auto._weights) == 2 else auto._weights
    zero = PretrainedForecaster(H, alias="auto").fit(frame)
    assert auto.leaderboard_.loc["seasonal_naive", "weight"] > 0
    mine = auto.predict().set_index("unique_id")
    theirs = zero.predict().set_index("unique_id")
    np.testing.assert_allclose(mine.loc["s5", "auto"], theirs.loc["s5", "auto"], rtol=1e-6)
    assert not np.allclose(mine.loc["s0", "auto"], theirs.loc["s0", "auto"], rtol=1e-3)


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_a_series_or_channel_that_begins_late_leaves_the_candidates_of_others():
    frame = table(*[90] * 4, 9, kind="year")
    late = (frame["unique_id"] == "s4") & (frame.groupby("unique_id").cumcount() < 5)
    auto = Quick(H).fit(frame.assign(y=frame["y"].mask(late)))
    assert {*auto.leaderboard_.index} == {*QUICK}
    assert (auto.leaderboard_["note"] == "").all()
    assert np.isfinite(auto.predict()["auto"]).all()
    wide = table(150, 150, kind="year").pivot(index="ds", columns="unique_id", values="y")
    for first in (30, 120, 149):
        holed = wide.assign(s1=wide["s1"].where(np.arange(150) >= first))
        assert np.isfinite(Learning(H).fit(holed).predict(level=80)).all(axis=None)


def test_windows_that_the_network_had_no_time_for_are_not_judged(monkeypatch):
    answer_in_time = trials._answer_in_time

    def half_answered(candidate, *others):
        answer, progress = answer_in_time(candidate, *others)
        if candidate.name == "zero":
            for numbers in answer:
                numbers[::2] = np.nan
        return answer, progress

    frame = table(*[90] * 4, kind="year")
    whole_fit = Quick(H).fit(frame)
    monkeypatch.setattr(trials, "_answer_in_time", half_answered)
    auto = Quick(H).fit(frame)
    assert auto.n_windows_ == whole_fit.n_windows_ // 2
    assert np.isfinite(auto.band_factor_)
    assert np.isfinite(auto.predict(level=80).drop(columns=["unique_id", "ds"])).all(axis=None)


def test_series_are_cleaned_together_as_each_alone():
    frame = table(90, 40, 90, 260, 7)
    rows = np.arange(len(frame))
    frame.loc[rows % 61 == 30, "y"] *= 1e3
    panel = to_panel(frame)
    together = clean_panel(panel, 100, ()).values
    assert np.isnan(together).sum() >= 5
    for name, (start, stop) in zip(panel.ids, itertools.pairwise(panel.starts), strict=True):
        alone = to_panel(frame[frame["unique_id"] == name])
        np.testing.assert_array_equal(together[start:stop], clean_panel(alone, 100, ()).values)


def test_a_table_with_gaps_is_forecast():
    frame = table(*[90] * 4, kind="year")
    holes = np.random.default_rng(0).random(len(frame)) < 0.1
    auto = Quick(H).fit(frame.assign(y=frame["y"].mask(holes)))
    whole_fit = Quick(H).fit(frame)
    gap = np.abs(auto.predict()["auto"] - whole_fit.predict()["auto"])
    assert gap.mean() < 0.2 * frame["y"].std()


@pytest.mark.parametrize("gap", [2070, 2600])
def test_windows_in_a_gap_longer_than_the_network_reads_are_not_judged(gap):
    hours = pd.date_range("2020-01-01", periods=600 + gap, freq="h")
    y = np.random.default_rng(0).normal(size=len(hours))
    y[570:-30] = np.nan
    auto = Quick(H).fit(pd.DataFrame({"ds": hours, "y": y}))
    assert np.isfinite(auto.band_factor_)
    assert np.isfinite(auto.predict(level=80).drop(columns="ds")).all(axis=None)


def test_a_series_that_the_pretrained_network_refuses_is_left_out():
    n = load_network().config.token_context + 20
    walk = np.cumsum(np.random.default_rng(0).normal(size=n))
    ended = np.where(np.arange(n) < 10, walk, np.nan)
    frame = long_table([walk, ended], freq="h")
    with pytest.warns(UserWarning, match="left out: series 's1' has no value among"):
        answer = Quick(H).fit(frame).predict().set_index("unique_id")["auto"]
    assert answer["s0"].notna().all()
    assert answer["s1"].isna().all()
    with pytest.raises(ValueError, match=r"series 's1' has no value among.*leave it out"):
        Quick(H, schema=Schema(bad="error")).fit(frame)


def test_what_the_pretrained_network_refuses_is_refused():
    frame = table(90).assign(more=1e200 * np.arange(90.0))
    with pytest.raises(
        ValueError, match="covariate 'more': values must have squares within float64"
    ):
        Quick(H, schema=Schema(past_cols=["more"])).fit(frame)


def test_channels_of_a_wide_table_are_combined_alike():
    wide = table(*[90] * 5).pivot(index="ds", columns="unique_id", values="y")
    auto = Quick(H).fit(wide)
    long = Quick(H).fit(table(*[90] * 5))
    assert auto.leaderboard_.index.equals(long.leaderboard_.index)
    np.testing.assert_allclose(
        auto.predict().to_numpy(), long.predict()["auto"].to_numpy().reshape(5, H).T, rtol=1e-5
    )


def test_counts_have_no_forecast_below_zero():
    rng = np.random.default_rng(0)
    frame = table(*[80] * 3).assign(y=rng.poisson(0.4, 240).astype(float))
    few = table(*[28] * 3).assign(y=rng.poisson(1.0, 84).astype(float))  # too few to show a bound
    for counts in (frame, few):
        forecast = Quick(H).fit(counts).predict(level=95)
        assert forecast[["auto", "auto-lo-95"]].to_numpy().min() >= 0
    below = Quick(H).fit(frame.assign(y=frame["y"] - 0.5)).predict(level=95)
    assert below["auto-lo-95"].min() == -0.5  # a bound that `zero` sees


@pytest.mark.filterwarnings("ignore:.* far from its neighbours")
def test_each_side_of_a_band_is_measured_by_the_errors_on_that_side():
    """Upper bounds of skewed series are far away, as the large errors are: such bands hold what
    they say and stay nearly as they are.
    """
    frame = table(*[90] * 8)
    frame["y"] = 10 * np.random.default_rng(0).exponential(size=len(frame)) ** 2
    assert 0.8 < Quick(H).fit(frame).band_factor_ < 1.4


def test_fits_repeat_and_leave_the_random_state_alone():
    state = torch.get_rng_state()
    frames = [Quick(H).fit(table(*[60] * 4)).predict(level=[80, 95]) for _ in range(2)]
    pd.testing.assert_frame_equal(*frames)
    assert torch.equal(torch.get_rng_state(), state)
    quantiles = frames[0].filter(like="-").to_numpy()
    assert (frames[0]["auto-lo-95"] <= frames[0]["auto-lo-80"]).all()
    assert np.isfinite(quantiles).all()


# --- time

# On a busy machine the candidates before it may have taken all the time.
TOO_LATE = ("would take ", "was left out: hardly any time is left")


def test_a_candidate_that_takes_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(candidates, "Drift", Slow)
    frame = table(*[60] * 30)
    started = time.monotonic()
    auto = Quick(H, max_time=4).fit(frame)
    assert time.monotonic() - started < 4
    assert auto.leaderboard_.loc["drift", "note"].startswith(TOO_LATE)
    assert auto.leaderboard_.loc["drift", "weight"] == 0
    assert Quick(H, max_time=120).fit(table(60)).leaderboard_.loc["drift", "note"] == ""


def test_the_time_of_a_candidate_is_not_that_of_constant_series_alone(monkeypatch):
    class Sometimes(Slow):
        pause = False

        def _points(self, x):
            return np.concatenate([super(Sometimes, self)._points(each[None]) for each in x])

    monkeypatch.setattr(candidates, "Drift", Sometimes)
    frame = table(*[60] * 80)
    frame.loc[frame["unique_id"].isin([f"s{n}" for n in range(10, 20)] + ["s0", "s1"]), "y"] = 3.0
    auto = Quick(H, max_time=4).fit(frame)
    assert auto.leaderboard_.loc["drift", "note"].startswith(TOO_LATE)


def test_windows_of_a_slow_candidate_are_not_forecast_to_measure_its_speed(monkeypatch):
    """A window of a second, of 12, under a limit of 4 seconds: after two of them it is too slow."""
    n_windows = []

    class Slowest(Naive):
        def _points(self, x):
            n_windows.append(len(x))
            time.sleep(1.0 * len(x))
            return super()._points(x)

    monkeypatch.setattr(candidates, "Drift", Slowest)
    auto = Quick(H, max_time=4).fit(table(200))
    assert auto.n_windows_ == 12
    assert sum(n_windows) <= 3
    note = auto.leaderboard_.loc["drift", "note"]
    assert note.startswith(TOO_LATE)
    assert note.endswith(" of max_time=4")


def test_no_candidate_begins_without_time(monkeypatch):
    class Slowest(Naive):
        def _fit(self, panel, context):
            time.sleep(2.0)
            return super()._fit(panel, context)

    monkeypatch.setattr(candidates, "Naive", Slowest)
    board = Quick(H, max_time=1.5).fit(table(200)).leaderboard_
    assert board.loc["drift", "note"] == "was left out: hardly any time is left of max_time=1.5"
    assert np.isfinite(board.loc["zero", "error"])


def test_a_candidate_of_some_windows_is_judged_on_these(monkeypatch):
    """Half a second a window allows some of 80: the others have no forecast of it."""

    class Slowish(Naive):
        def _points(self, x):
            time.sleep(0.1 * len(x))
            return super()._points(x)

    monkeypatch.setattr(candidates, "Drift", Slowish)
    auto = Quick(H, max_time=12).fit(table(*[200] * 10))
    board = auto.leaderboard_
    # On a busy machine the pretrained network has no time for all of them, either.
    assert 40 <= auto.n_windows_ <= 120
    assert board.loc["drift", "note"] == ""
    assert 0 < board.loc["drift", "seconds"] < 8
    assert board.loc["drift", "error"] == pytest.approx(board.loc["naive", "error"], rel=0.3)


@pytest.mark.parametrize(
    ("season", "theta", "smoothing"),
    [(12, (None, None), None), (52, (520, None), 1), (288, (864, None), 1), (1440, (None, 1), 1)],
)
def test_classical_models_of_long_seasons_are_bounded(season, theta, smoothing):
    """A state for each of 288 values of a day takes seconds a window."""
    first, second = candidates._classical(H, season)
    assert (first.context, first.season_length) == theta
    assert second.season_length == smoothing


def test_rows_of_a_large_table_are_bounded(monkeypatch):
    """A fit takes a second for 1,000 rows: of 20,000 rows some are read, on both fits."""
    rows = []
    fit = LinearForecaster._fit

    def slow_fit(self, panel, context):
        rows.append(len(panel.values))
        time.sleep(len(panel.values) / 2000)
        return fit(self, panel, context)

    monkeypatch.setattr(LinearForecaster, "_fit", slow_fit)
    monkeypatch.setattr(AutoForecaster, "_candidates", with_least_squares)
    walk = np.cumsum(np.random.default_rng(0).normal(size=20_000))
    auto = AutoForecaster(H, max_time=5).fit(pd.DataFrame({"ds": np.arange(20_000), "y": walk}))
    assert 1000 <= max(rows) <= 4000
    assert len(auto.panel_.values) == 20_000
    assert np.isfinite(auto.predict()["auto"]).all()


def test_no_second_fit_begins_with_fewer_rows(monkeypatch):
    rows = []

    def watch(fit, panel, seconds, **options):
        timed = fit_in_time(fit, panel, seconds, **options)
        rows.append((options["n_rows"], timed.n_rows))
        return timed

    monkeypatch.setattr(trials, "fit_in_time", watch)
    monkeypatch.setattr(AutoForecaster, "_candidates", with_least_squares)
    AutoForecaster(H, max_time=600).fit(two_waves())
    (first_begins, first_reads), (second_begins, _) = rows
    assert first_begins == 0
    assert second_begins == first_reads >= 150


def test_the_last_fit_on_columns_has_nearly_all_that_is_left(monkeypatch):
    fit = PretrainedForecaster._fit
    limits = []

    def watch(self, panel, context):
        limits.append(seconds_left())
        return fit(self, panel, context)

    monkeypatch.setattr(PretrainedForecaster, "_fit", watch)
    frame = table(400)
    frame["price"] = np.arange(400) % 5.0
    Quick(H, max_time=600, schema=Schema(past_cols=["price"])).fit(frame)
    assert len(limits) == 2
    assert 0.8 < limits[-1] / 540 <= 0.9


@pytest.mark.parametrize("name", ["zero", "gbm"])
def test_candidates_that_learn_from_columns_have_most_of_the_time(monkeypatch, name):
    kind = {"zero": PretrainedForecaster, "gbm": SklearnForecaster}[name]
    limits = []

    class Seen(Exception):
        """Its first fit has begun."""

    def watch(self, panel, context):
        limits.append((seconds_left(), len(panel.values)))
        raise Seen

    monkeypatch.setattr(kind, "_fit", watch)

    def one(self, panel, until):
        return (each for each in CANDIDATES(self, panel, until) if each.name == name)

    monkeypatch.setattr(AutoForecaster, "_candidates", one)
    frame = table(2400)
    frame["price"] = np.arange(2400) % 5.0
    with pytest.raises(Seen):
        AutoForecaster(H, max_time=600, schema=Schema(past_cols=["price"])).fit(frame)
    seconds, rows = limits[0]
    assert 0.5 < seconds / 540 <= 0.6
    assert rows == 2400 - 12 * H  # all before the judged windows, at once


@pytest.mark.parametrize(
    ("length", "pause", "n_fits"), [(2000, 1.1, 1), (2000, 0, 2), (300, 1.1, 2)]
)
def test_a_slow_fit_is_repeated_for_many_new_rows_alone(monkeypatch, length, pause, n_fits):
    """The judged windows are 72 rows."""
    fit = PretrainedForecaster._fit
    rows = []

    def watch(self, panel, context):
        rows.append(len(panel.values))
        time.sleep(pause)
        return fit(self, panel, context)

    monkeypatch.setattr(PretrainedForecaster, "_fit", watch)
    frame = table(length)
    auto = Quick(H, max_time=60).fit(frame)
    assert rows == [length - 12 * H, length][:n_fits]
    # Either way it goes on from the last row.
    assert len(auto.panel_.values) == length
    assert auto.predict()["ds"].min() > frame["ds"].max()


def test_regressions_on_columns_that_take_too_long_are_left_out(monkeypatch, tmp_path):
    """The first fit of the pretrained network learns them, at a pace that nobody knows before."""

    def endless(*_):
        while True:
            time.sleep(0.02)
            require_seconds()

    monkeypatch.setattr(PastForecasts, "of", endless)
    frame = table(400)
    frame["price"] = np.arange(400) % 5.0
    started = time.monotonic()
    auto = Quick(H, max_time=5, schema=Schema(past_cols=["price"]))
    with pytest.warns(UserWarning, match="columns beside the target take no part; .* max_time=5"):
        auto.fit(frame)
    assert time.monotonic() - started < 5
    assert np.isfinite(auto.leaderboard_.loc["zero", "error"])
    forecast = auto.predict(level=80)
    plain = PretrainedForecaster(H, point="auto").fit(frame[["unique_id", "ds", "y"]])
    member = auto._members[0].forecaster
    point = member.predict().point[0]
    np.testing.assert_array_equal(point, plain.predict()["zero"])
    auto.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=80), forecast)


def test_reading_the_table_takes_part_of_the_time(monkeypatch):
    read = AutoForecaster.read

    def read_slowly(self, *args, **options):
        time.sleep(2.0)
        return read(self, *args, **options)

    monkeypatch.setattr(AutoForecaster, "read", read_slowly)
    board = Quick(H, max_time=1.5).fit(table(200)).leaderboard_
    assert board.loc["naive", "note"] == "was left out: hardly any time is left of max_time=1.5"
    assert np.isfinite(board.loc["zero", "error"])


@pytest.mark.parametrize(
    ("given", "told"), [(0, "above 0"), (-1.0, "above 0"), ("soon", "'90s'"), (None, "'1m'")]
)
def test_a_time_that_is_none_is_refused(given, told):
    with pytest.raises(ValueError, match=told):
        AutoForecaster(H, max_time=given)
    with pytest.raises(ValueError, match="horizon"):
        AutoForecaster(0)


# --- saved folders


def test_a_saved_combination_forecasts_alike(tmp_path):
    frame = table(*[80] * 4, kind="year")
    auto = Quick(H, schema=Schema(freq="MS")).fit(frame)
    auto.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert type(loaded) is AutoForecaster
    pd.testing.assert_frame_equal(loaded.predict(level=80), auto.predict(level=80))
    new = table(70, kind="year", seed=3)
    pd.testing.assert_frame_equal(loaded.predict(new), auto.predict(new))
    pd.testing.assert_frame_equal(loaded.leaderboard_, auto.leaderboard_)
    auto.save(tmp_path / "model")  # over an older one


def test_a_member_of_another_model_is_refused(tmp_path):
    for name, frame in {
        "a": table(*[80] * 4, kind="year"),
        "b": table(*[80] * 4, kind="year", seed=1),
    }.items():
        Quick(H).fit(frame).save(tmp_path / name)
    facts = json.loads((tmp_path / "a" / "config.json").read_text())
    member = facts["members"][0][0]
    file = tmp_path / "a" / member / "config.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match="not the one that was saved"):
        AutoForecaster.load(tmp_path / "a")
