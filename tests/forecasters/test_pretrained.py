"""The pretrained forecaster: any series, whatever stands beside it, its refusals, its weights and
saved folders.
"""

import doctest
import inspect
import json
import os
import re
import statistics
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from tables import daily_table, weekly_values
from tiny_network import CARD, tiny_network

import tsattn
from tsattn import PretrainedForecaster, backtest, catalogue, forecast
from tsattn.adapters.gluonts import TsattnPredictor
from tsattn.data.frames import to_panel
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.distributed import predict_many
from tsattn.evaluate.conformal import SplitConformal
from tsattn.evaluate.intervals import SeriesScales, step_of
from tsattn.forecaster import forecast_panel
from tsattn.forecasters import pretrained as module
from tsattn.forecasters.naive import Naive
from tsattn.forecasts import Forecast
from tsattn.pretrained import network as inner
from tsattn.pretrained import weights
from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.weights import FACTS, load_card, load_network, read_network, save_network

H = 5
REACH = tiny_network().config.max_context
TOKENS = tiny_network().config.token_context
LEVELS = tiny_network().quantile_levels
SHIPPED = (Path(weights.__file__).parent / "weights" / "zero-5h.safetensors").is_file()
# The shipped network too, once there is one.
NETWORKS = {"tiny": tiny_network} | ({"zero-5h": load_network} if SHIPPED else {})


@pytest.fixture(params=list(NETWORKS))
def network(request):
    return NETWORKS[request.param]()


def make(horizon=H, **params):
    return PretrainedForecaster.from_settings(
        horizon=horizon, **{"weights": tiny_network(), **params}
    )


def fitted(network=None, horizon=H, **params):
    return make(horizon, weights=network or tiny_network(), **params).fit(daily_table(30))


def windows(*rows):
    """Histories of any lengths as one batch ``[B, T, 1]``, NaN before the first value."""
    longest = max(map(len, rows))
    return np.stack(
        [
            np.pad(np.asarray(row, float), (longest - len(row), 0), constant_values=np.nan)
            for row in rows
        ]
    )[..., None]


# --- one forecast, whatever stands beside it ------------------------------------------------------


def test_series_of_any_lengths_are_forecast_as_if_alone(network):
    lengths = (1, 2, 3, 5, 8, 13, 21, 34, 55, 63, 64, 65, 89, 144, 1)
    frame = daily_table(*lengths)
    forecaster = make(weights=network, freq="D").fit(frame)
    together = forecaster.predict(level=80).drop(columns="ds").set_index("unique_id")
    assert np.isfinite(together).all(axis=None)
    for name, own in frame.groupby("unique_id"):
        own_forecast = forecaster.predict(own, level=80).drop(columns=["unique_id", "ds"])
        spread = max(own["y"].std(ddof=0), 1e-6)
        np.testing.assert_allclose(
            together.loc[[name]], own_forecast, atol=1e-5 * spread, rtol=1e-5
        )


def test_neither_order_nor_neighbours_change_a_forecast(network):
    forecaster = fitted(network)
    x = windows(*[weekly_values(n, n) for n in (3, 40, 64, 64, 17, 50, 9)])
    order = np.random.default_rng(0).permutation(len(x))
    whole_forecast = forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1]
    np.testing.assert_allclose(
        forecaster.predict_windows(x[order], quantiles=(0.1, 0.9))[1],
        whole_forecast[order],
        rtol=1e-5,
    )
    parts = [
        forecaster.predict_windows(x[i : i + 1], quantiles=(0.1, 0.9))[1] for i in range(len(x))
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole_forecast, rtol=1e-5)


def test_series_with_as_many_tokens_go_together_and_seasons_are_sought_once(network, monkeypatch):
    # Changes are other series, with seasons of their own.
    monkeypatch.setattr(inner, "share_of_changes", lambda x, *_: torch.zeros(len(x)))
    x = torch.from_numpy(
        np.stack(
            [weekly_values(64, i, period) for i, period in enumerate((7, 11, 5, 7, 12, 11, 7))]
        )
    )
    alone = torch.cat([network.forecast(row[None], H) for row in x])
    sought = []
    parts = []
    detect = inner.detect_seasons
    embed = network._embed
    monkeypatch.setattr(
        inner, "detect_seasons", lambda x, likely: (sought.append(len(x)), detect(x, likely))[1]
    )
    monkeypatch.setattr(
        network, "_embed", lambda x, tokens: (parts.append(x.shape[:2]), embed(x, tokens))[1]
    )
    monkeypatch.setattr(inner, "_PART_NUMBERS", 30 * 16)
    torch.testing.assert_close(network.forecast(x, H), alone, rtol=1e-5, atol=1e-5)
    lengths = [n_tokens for _, n_tokens in parts]
    assert sought == [7]
    assert len(parts) > 2
    assert sum(n for n, _ in parts) == 7
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]
    assert all(n == 1 or n * n_tokens <= 30 + n for n, n_tokens in parts)


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_share_the_series_and_change_nothing(monkeypatch, n_threads):
    monkeypatch.setattr(module, "_PASS_STEPS", 200)
    monkeypatch.setattr(module, "_LEAST_STEPS", 100)
    monkeypatch.setattr(module, "_MIXED_STEPS", 100)
    x = windows(*[weekly_values(10 + i, i) for i in range(40)])
    seen = []
    network = tiny_network()
    before = torch.get_num_threads()

    def watch(part, horizon, likely):
        seen.append(torch.get_num_threads())
        return type(network).forecast(network, part, horizon, likely=likely)

    monkeypatch.setattr(network, "forecast", watch, raising=False)
    forecasts = fitted(n_threads=n_threads).predict_windows(x)[0]
    assert set(seen) == {1}
    assert len(seen) > n_threads
    assert torch.get_num_threads() == before
    monkeypatch.undo()
    np.testing.assert_allclose(forecasts, fitted(n_threads=1).predict_windows(x)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("lengths", "horizon"),
    [([500] * 900, 24), (range(1, 700), 24), ([4096] * 5 + [1] * 5, 1024), ([7], 1), ([], 3)],
)
def test_passes_take_every_row_once_and_pad_little(lengths, horizon):
    lengths = np.array(lengths, dtype=np.int64)
    passes = list(module._passes(lengths, horizon))
    assert sorted(np.concatenate([*passes, []]).tolist()) == list(range(len(lengths)))
    for rows in passes:
        longest = lengths[rows[0]]
        assert longest == lengths[rows].max()
        steps = len(rows) * (longest + horizon)
        assert len(rows) == 1 or steps < module._PASS_STEPS + longest + horizon
        assert (
            steps <= module._MIXED_STEPS
            or lengths[rows].min() >= module._LEAST_SHARE * longest - 1
            or len(rows) == 1
        )
    assert len(passes) <= 60
    # As many for each of two or four threads.
    assert len(lengths) < 900 or len(passes) == 4


def test_points_and_quantiles_come_of_one_pass(monkeypatch):
    calls = []
    network = tiny_network()

    def watch(x, horizon, likely):
        calls.append(len(x))
        return type(network).forecast(network, x, horizon, likely=likely)

    monkeypatch.setattr(network, "forecast", watch, raising=False)
    forecaster = make().fit(daily_table(30, 30, 30))
    forecaster.predict(level=[50, 80], quantiles=[0.4])
    assert calls == [3]
    calls.clear()
    backtest(forecaster, daily_table(30, 30), n_windows=4, level=80)
    assert sum(calls) == 2 * 4


# --- what a forecast depends on -------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["mask", "interpolate"])
def test_no_forecast_knows_its_future(missing):
    frame = daily_table(90, 70)
    frame.loc[[20, 50, 84, 85, 140, 158], "y"] = np.nan

    def judge(data):
        judged = backtest(
            make(), data, n_windows=4, step_size=3, level=80, schema=Schema(missing=missing)
        ).frame
        return judged.sort_values(["cutoff", "unique_id", "ds"], kind="stable")

    honest = judge(frame)
    cutoffs = np.sort(honest["cutoff"].unique())
    columns = ["zero", "zero-lo-80", "zero-hi-80"]
    for cutoff in cutoffs:
        changed = frame.assign(y=frame["y"].where(frame["ds"] <= cutoff, -30 * frame["y"] + 1000))
        earlier = (honest["cutoff"] <= cutoff).to_numpy()
        expected = honest.loc[earlier, columns]
        assert np.isfinite(expected).all(axis=None)
        np.testing.assert_allclose(judge(changed).loc[earlier, columns], expected, rtol=1e-5)


def test_a_backtest_reads_all_the_history_that_there_is():
    frame = daily_table(600)
    judged = backtest(make(), frame, n_windows=3).frame
    panel = to_panel(frame)
    forecaster = fitted()
    for i, end in enumerate(range(600 - H - 2, 600 - H + 1)):
        own_forecast = forecaster.predict_windows(panel.values[end - REACH : end][None])[0]
        np.testing.assert_allclose(
            judged["zero"][i * H : (i + 1) * H], own_forecast.ravel(), rtol=1e-6
        )
    # Nothing older than the reach is handed over, and everything counts that tokens hold.
    x = panel.values[None, :590]
    base = forecaster.predict_windows(x)[0]
    for row, same in ((590 - REACH - 1, True), (590 - TOKENS, False), (589, False)):
        other = x.copy()
        other[0, row] += 50
        assert np.allclose(forecaster.predict_windows(other)[0], base, rtol=1e-6) == same


@pytest.mark.filterwarnings("ignore:no series has a value in the last")
@pytest.mark.parametrize("place", ["leading", "inner", "trailing"])
def test_missing_values_are_used_as_such(network, place):
    full = weekly_values(50)
    holes = {"leading": slice(0, 20), "inner": [10, 11, 30], "trailing": slice(47, 50)}[place]
    holed = full.copy()
    holed[holes] = np.nan
    forecaster = make(weights=network).fit(daily_table(50, values=[holed]))
    answer = forecaster.predict(level=80)[["zero", "zero-lo-80", "zero-hi-80"]].to_numpy()
    assert np.isfinite(answer).all()
    given = forecaster.predict_windows(holed[None, :, None])[0]
    np.testing.assert_allclose(answer[:, 0], given[0, :, 0], rtol=1e-6)
    short = forecaster.predict_windows(holed[None, 20:, None])[0]
    # What is missing before the first value is no history at all; elsewhere it is told apart from
    # what stands there.
    assert np.allclose(given, short, rtol=1e-5) == (place == "leading")
    assert not np.allclose(given, forecaster.predict_windows(full[None, :, None])[0], rtol=1e-3)


def test_absent_rows_are_missing_values():
    frame = daily_table(50, 40)
    gone = frame.drop(index=[5, 6, 70])
    holed = frame.assign(y=frame["y"].mask(frame.index.isin([5, 6, 70])))
    pd.testing.assert_frame_equal(make().fit(gone).predict(), make().fit(holed).predict())


def test_a_scale_and_a_shift_go_through(network):
    forecaster = fitted(network)
    x = windows(weekly_values(60), weekly_values(33, 1, 12), weekly_values(7, 2))
    quantiles = (0.05, 0.5, 0.95)
    base = forecaster.predict_windows(x, quantiles=quantiles)[1]
    spread = np.nanstd(x, axis=1)[:, None, :, None]
    for a, b in ((3.0, 0.0), (1e-12, 0.0), (1e12, 0.0), (0.1, -7.0), (1e4, 1e6), (1.0, 1e5)):
        forecasts = (forecaster.predict_windows(a * x + b, quantiles=quantiles)[1] - b) / a
        assert (np.abs(forecasts - base) <= 1e-4 * spread).all(), (a, b)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.25, 1e-12, 1e12, 0.1])
def test_a_constant_stays(network, value):
    x = np.full((2, 40, 1), value)
    x[1, 3:9] = np.nan
    answer = fitted(network).predict_windows(x, quantiles=(0.01, 0.5, 0.99))[1]
    np.testing.assert_allclose(answer, value, rtol=1e-9)


def test_levels_may_come_of_a_generator():
    frame = daily_table(40)
    for ask in ("level", "quantiles"):
        expected = [80, 90] if ask == "level" else [0.1, 0.9]
        pd.testing.assert_frame_equal(
            forecast(frame, 2, model="zero", **{ask: (each for each in expected)}),
            forecast(frame, 2, **{ask: expected}),
        )
    assert forecast(frame, 2, level=np.array(80)).shape == (2, 5)


@pytest.mark.parametrize("schema", [None, {"freq": "D"}, "D"])
def test_settings_of_another_kind_are_refused(schema):
    with pytest.raises(TypeError, match=r"schema must be a tsattn\.Schema, such as tsattn\.Schema"):
        make(schema=Schema()).set_params(schema=schema).fit(daily_table(30))


@pytest.mark.parametrize(("factor", "shift"), [(1e-200, 0), (1e200, 0), (1.0, 1e12)])
def test_no_size_is_taken_for_a_constant(factor, shift):
    y = np.round(weekly_values(60), 2)
    plain = fitted().predict_windows(y[None, :, None])[0]
    forecasts = fitted().predict_windows(factor * y[None, :, None] + shift)[0]
    np.testing.assert_allclose((forecasts - shift) / factor, plain, atol=2e-3)


def test_zeros_counts_and_negatives_are_finite(network):
    rng = np.random.default_rng(0)
    rows = [
        rng.poisson(0.1, 60),
        rng.poisson(30, 60),
        -np.exp(rng.normal(size=60)),
        np.r_[np.zeros(59), 1],
        [4],
        [4, 4],
    ]
    answer = fitted(network, 12).predict_windows(windows(*rows), quantiles=(0.01, 0.3, 0.99))[1]
    assert np.isfinite(answer).all()
    assert (np.diff(answer, axis=3) >= 0).all()


def test_forecasts_are_cut_at_zero_only_if_asked_and_never_where_values_were_negative():
    rng = np.random.default_rng(0)
    positive = rng.gamma(0.3, size=60)
    mixed = rng.normal(size=60)
    positive[7] = np.nan
    frame = daily_table(60, 60, values=[positive, mixed])
    request = {"level": 98, "quantiles": [0.2]}
    free = make().fit(frame).predict(**request).set_index("unique_id").drop(columns="ds")
    cut = (
        make(nonnegative=True)
        .fit(frame)
        .predict(**request)
        .set_index("unique_id")
        .drop(columns="ds")
    )
    assert (free.loc["s00"] < 0).any(axis=None)
    np.testing.assert_array_equal(cut.loc["s00"], free.loc["s00"].clip(lower=0))
    np.testing.assert_array_equal(cut.loc["s01"], free.loc["s01"])
    assert (cut.loc["s01"] < 0).any(axis=None)


@pytest.mark.parametrize("columns", [(), ("promo",)])
def test_forecasts_keep_within_bounds_that_are_touched(columns):
    rng = np.random.default_rng(0)
    promo = rng.random(240) < 0.4
    counts = rng.poisson(0.3 + 2.0 * promo).astype(float)
    free = rng.normal(size=240)
    counts[50:60] = np.nan
    sun = np.maximum(0.0, np.sin(np.arange(240) / 2) + 0.3 * free)
    kinds = {
        "counts": counts,
        "capped": 8 - counts,
        "free": free,
        "moved": 100 + 3 * counts,
        "sun": sun,
    }
    frame = daily_table(*[240] * 5, values=list(kinds.values()))
    frame["unique_id"] = np.repeat(list(kinds), 240)
    frame["promo"] = np.tile(promo, 5).astype(float)
    schema = Schema(future_cols=list(columns))
    model = PretrainedForecaster(24, schema=schema, n_threads=1).fit(
        frame[frame["ds"] < "2024-06-07"]
    )
    assert (model.covariate_regression_ is not None) == bool(columns)
    future = frame[frame["ds"] >= "2024-06-07"].drop(columns="y") if columns else None
    actual = (
        model.predict(future=future, level=98, quantiles=0.3)
        .set_index("unique_id")
        .drop(columns="ds")
    )
    assert (actual.loc["counts"] % 1 == 0).all(axis=None)
    # Without a bound they would pass it; a series without bounds has none, and those of a moved one
    # move along.
    assert actual.loc["counts"].to_numpy().min() == actual.loc["sun", "zero"].min() == 0
    assert actual.loc["capped"].to_numpy().max() == 8
    assert actual.loc["free", "zero-lo-98"].min() < -1
    np.testing.assert_allclose(
        actual.loc["moved"], 100 + 3 * actual.loc["counts"], rtol=0, atol=0.05
    )


def test_channels_of_a_wide_table_are_series():
    long = daily_table(60, 60)
    wide = long.pivot(index="ds", columns="unique_id", values="y")
    wide.iloc[:10, 1] = np.nan
    answer = make().fit(wide).predict(level=80)
    assert list(answer.columns) == [
        "s00",
        "s00-lo-80",
        "s00-hi-80",
        "s01",
        "s01-lo-80",
        "s01-hi-80",
    ]
    own = (
        make()
        .fit(long[(long["unique_id"] == "s00") | (long["ds"] >= wide.index[10])])
        .predict(level=80)
    )
    for name in ("s00", "s01"):
        np.testing.assert_allclose(
            answer[name], own.loc[own["unique_id"] == name, "zero"], rtol=1e-5
        )


@pytest.mark.parametrize("freq", ["min", "h", "D", "B", "W-SAT", "MS", "QE-DEC", "YS-JAN", 1, 7])
def test_any_frequency_will_do(freq):
    stamps = (
        np.arange(40) * freq
        if isinstance(freq, int)
        else pd.date_range("2000-01-01", periods=40, freq=freq)
    )
    answer = forecast(pd.DataFrame({"ds": stamps, "y": weekly_values(40)}), 3, model="naive")
    ours = make(3).fit(pd.DataFrame({"ds": stamps, "y": weekly_values(40)})).predict()
    pd.testing.assert_series_equal(ours["ds"], answer["ds"])


# --- horizons, levels and quantiles ---------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 2, 100, 1024])
def test_any_horizon_will_do(network, horizon):
    answer = make(horizon, weights=network).fit(daily_table(40)).predict(level=80)
    assert len(answer) == horizon
    assert np.isfinite(answer[["zero", "zero-lo-80"]]).all(axis=None)


def test_other_horizons_may_be_asked_of_predict():
    forecaster = fitted()
    whole_forecast = forecaster.predict()
    pd.testing.assert_frame_equal(forecaster.predict(horizon=2), whole_forecast[:2])
    pd.testing.assert_frame_equal(forecaster.predict(horizon=30), fitted(horizon=30).predict())
    assert forecaster.horizon == H


def by_hand(values, levels, q):
    """A quantile between the levels of a network, one number at a time."""
    z = statistics.NormalDist().inv_cdf
    for k, level in enumerate(levels):
        if q == level:
            return values[k]
        if level < q < levels[k + 1]:
            share = (z(q) - z(level)) / (z(levels[k + 1]) - z(level))
            return values[k] + share * (values[k + 1] - values[k])
    raise AssertionError(q)


def test_quantiles_between_the_levels_lie_on_the_line_over_the_normal_ones(network):
    x = weekly_values(60)
    levels = network.quantile_levels
    probabilities = sorted({0.01, 0.0137, 0.2, 0.33, 0.5, 0.6180339, 0.985, 0.99, *levels})
    forecasts = fitted(network).predict_windows(x[None, :, None], quantiles=probabilities)[1][
        0, :, 0
    ]
    direct = network.forecast(
        torch.from_numpy(x[None, -network.config.max_context :]), H, likely=7
    )[0].numpy()
    for step in range(H):
        for i, q in enumerate(probabilities):
            assert forecasts[step, i] == pytest.approx(
                by_hand(direct[step], levels, q), rel=1e-6
            ), (
                step,
                q,
            )
    assert (np.diff(forecasts, axis=1) >= 0).all()
    np.testing.assert_array_equal(
        forecasts[:, probabilities.index(0.5)],
        fitted(network).predict_windows(x[None, :, None])[0][0, :, 0],
    )


def test_a_normal_distribution_is_met_between_its_levels():
    z = statistics.NormalDist(3, 2).inv_cdf
    probabilities = np.linspace(0.01, 0.99, 99)
    actual = module._Between(LEVELS, probabilities.tolist(), "zero")(
        np.array([z(p) for p in LEVELS])
    )
    np.testing.assert_allclose(actual, [z(q) for q in probabilities], rtol=1e-12)
    steps = np.cumsum(np.random.default_rng(0).exponential(size=(100, len(LEVELS))) ** 5, axis=1)
    fine = np.linspace(0.01, 0.99, 5000)
    assert (np.diff(module._Between(LEVELS, fine.tolist(), "zero")(steps), axis=1) >= 0).all()


def test_the_point_is_the_median_and_levels_are_quantiles():
    forecaster = fitted()
    answer = forecaster.predict(
        level=[80, 98, 50, 63.4], quantiles=[0.5, 0.1, 0.9, 0.01, 0.99, 0.183]
    )
    np.testing.assert_array_equal(answer["zero"], answer["zero-q0.5"])
    for side, level, q in (
        ("lo", 80, 0.1),
        ("hi", 80, 0.9),
        ("lo", 98, 0.01),
        ("hi", 98, 0.99),
        ("lo", 63.4, 0.183),
    ):
        np.testing.assert_array_equal(answer[f"zero-{side}-{level}"], answer[f"zero-q{q}"])


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [0, -1, 1025, 2.5, True, "24"])
def test_horizons_out_of_range_are_refused(horizon):
    with pytest.raises(ValueError, match=r"horizon must be .*1.*got"):
        make(horizon)
    with pytest.raises(ValueError, match=r"horizon must be .*1.*got"):
        fitted().predict(horizon=horizon)
    with pytest.raises(ValueError, match=r"horizon must be .*1.*got"):
        fitted().set_params(horizon=horizon)


@pytest.mark.parametrize(
    "ask", [{"level": 99}, {"level": 98.1}, {"quantiles": 0.009}, {"quantiles": [0.5, 0.999]}]
)
def test_what_the_network_does_not_know_is_refused(ask):
    with pytest.raises(
        ValueError,
        match=r"zero knows the quantiles from 0.01 to 0.99, so levels up to 98.*SplitConformal",
    ):
        fitted().predict(**ask)


def test_a_series_without_a_value_is_left_out_or_refused_by_name():
    gone = np.full(80, np.nan)
    late = weekly_values(80)
    late[80 - TOKENS :] = np.nan
    wide = pd.DataFrame(
        {"a": weekly_values(80), "b": late}, index=pd.date_range("2024-01-01", periods=80)
    )
    empty = daily_table(30, 80, values=[weekly_values(30), gone])
    ended = daily_table(30, 80, values=[weekly_values(30), late])
    strict = Schema(bad="error")
    with pytest.raises(
        ValueError,
        match=r"series 's01': column 'y' has no value at all from .*leave the series out",
    ):
        make(schema=strict).fit(empty)
    message = rf"series 's01' has no value among its last {TOKENS} rows.*leave it out"
    with pytest.raises(ValueError, match=message):
        make(schema=strict).fit(ended)
    with pytest.raises(ValueError, match="series 'b' has no value"):
        make(schema=strict).fit(wide)
    with pytest.warns(UserWarning, match=f"'s01' has no value among its last {TOKENS} rows"):
        model = make().fit(ended)
    assert model.predict().set_index("unique_id").loc["s01", "zero"].isna().all()
    with pytest.warns(UserWarning, match="left out: series 's01' has no value among"):
        answer = fitted().predict(ended)
    assert answer.set_index("unique_id").loc["s00", "zero"].notna().all()
    with pytest.warns(UserWarning, match="left out: series 'b' has no value among"):
        assert make().fit(wide).predict()["b"].isna().all()


def test_sentinels_at_the_end_are_read_as_missing_whatever_missing_says():
    values = weekly_values(200)
    values[-30:] = -999.0
    df = daily_table(200, values=[values])
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        answer = PretrainedForecaster(H, schema=Schema(missing="error")).fit(df).predict()
    assert (answer["zero"] > 0).all()
    first, second = (str(w.message) for w in record)
    assert "where forecasts may go on" in first
    assert "such values are read as missing" in second


def test_windows_that_cannot_be_read_are_refused():
    forecaster = fitted()
    x = windows(weekly_values(40), weekly_values(20))
    for bad, message in (
        (x[0], r"shape \[B, T, C\]"),
        (x[:, :0], r"T >= 1 rows of history; got \(2, 0, 1\)"),
        (
            np.where(np.arange(2)[:, None, None] == 1, np.nan, x),
            "window 1, channel 0: give a longer history",
        ),
        (np.where(x > 11, np.inf, x), "got inf"),
    ):
        with pytest.raises(ValueError, match=message):
            forecaster.predict_windows(bad)[0]


def test_what_is_not_fitted_is_refused(tmp_path):
    for call in (
        lambda f: f.predict(),
        lambda f: f.predict_windows(windows([1.0]))[0],
        lambda f: f.save(tmp_path / "m"),
    ):
        with pytest.raises(ValueError, match="PretrainedForecaster is not fitted; call fit"):
            call(make())


@pytest.mark.parametrize("n_threads", [0, 1.5, True])
def test_a_bad_number_of_threads_is_refused(n_threads):
    with pytest.raises(ValueError, match="n_threads must be a whole number of at least 1; got"):
        fitted(n_threads=n_threads).predict()


def test_missing_values_can_be_refused_or_filled():
    holed = daily_table(40).assign(y=lambda frame: frame["y"].where(frame.index != 20))
    with pytest.raises(ValueError, match=r"is missing \(NaN\) at"):
        make(missing="error").fit(holed)
    filled = make(missing="ffill").fit(holed).predict()["zero"]
    by_hand = make().fit(holed.assign(y=holed["y"].ffill())).predict()["zero"]
    np.testing.assert_array_equal(filled, by_hand)


# --- the protocol ---------------------------------------------------------------------------------


def test_fit_remembers_the_table_and_nothing_else():
    frame = daily_table(40, 30)
    forecaster = make().fit(frame)
    assert {name for name in vars(forecaster) if name.endswith("_")} == {"state_"}
    assert forecaster.summary_ == {}
    assert forecaster.season_ == 7
    assert forecaster.covariate_regression_ is None
    assert forecaster.network_ is tiny_network()
    assert not forecaster.network_.training
    assert isinstance(forecaster.fit(to_panel(frame)).predict(), Forecast)
    assert isinstance(forecaster.fit(frame).predict(), pd.DataFrame)


def test_parameters_are_read_and_set_as_scikit_learn_wants_them():
    forecaster = make(alias="mine", nonnegative=True, freq="D")
    assert list(forecaster.get_params(deep=False)) == list(
        inspect.signature(PretrainedForecaster).parameters
    )
    assert forecaster.get_params()["schema__freq"] == "D"
    cloned = clone(forecaster)
    assert {**cloned.get_params(), "weights": None} == {**forecaster.get_params(), "weights": None}
    assert forecaster.set_params(horizon=9, alias=None) is forecaster
    assert (forecaster.horizon, forecaster.alias) == (9, None)
    with pytest.raises(ValueError, match="has no parameter 'context'; it takes horizon, alias"):
        forecaster.set_params(alias="x", context=3)
    assert forecaster.alias is None
    assert "mine" in cloned.fit(daily_table(20)).predict().columns


def test_nothing_of_the_process_is_changed(network):
    legacy, state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    weights_before = {name: value.clone() for name, value in network.state_dict().items()}
    make(weights=network).fit(daily_table(40, 3)).predict(level=80)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, weights_before[name])


def test_adapters_hand_the_network_all_rows_that_it_reads():
    frame = daily_table(120, 100, 3)
    forecaster = make().fit(frame)
    whole_forecast = forecaster.predict()
    pd.testing.assert_frame_equal(
        predict_many(forecaster, frame, n_chunks=2), whole_forecast, rtol=1e-5
    )
    entries = [
        {"target": own["y"].to_numpy(), "start": pd.Period(own["ds"].iloc[0], "D"), "item_id": name}
        for name, own in frame.groupby("unique_id")
    ]
    actual = list(TsattnPredictor(forecaster, freq="D", quantiles=(0.1, 0.9)).predict(entries))
    means = np.concatenate(
        [each.forecast_array[each.forecast_keys.index("mean")] for each in actual]
    )
    np.testing.assert_allclose(means, whole_forecast["zero"], rtol=1e-5)


def test_calibrated_intervals_stand_around_the_same_points():
    frame = daily_table(120, 100, 90)
    panel = to_panel(frame)
    calibrated = SplitConformal(make(), n_windows=20).fit(frame)
    assert calibrated.max_context == REACH
    np.testing.assert_allclose(
        calibrated.predict(level=80)["zero"], make().fit(frame).predict()["zero"], rtol=1e-6
    )
    ends = panel.starts[1:, None] - H - np.arange(20)[::-1]
    history = History(panel)
    at = ends.ravel()
    errors = np.abs(
        history.futures(at, H) - fitted().predict_windows(history.reaching(at, REACH))[0]
    )
    steps = step_of(history.contexts(ends[:, 0], 32))
    scales = SeriesScales.of(errors.reshape(3, 20, H, 1), steps, 1 / H).left_out.reshape(60, 1, 1)
    np.testing.assert_allclose(
        calibrated.intervals_.errors, np.sort(errors / scales, axis=0), rtol=1e-4
    )


def test_histories_of_unlike_length_are_cut_as_a_loop_would():
    frame = daily_table(9, 1, 30)
    frame.loc[[3, 20], "y"] = np.nan
    for missing in ("mask", "interpolate", "ffill"):
        panel = to_panel(frame, Schema(missing=missing))
        history = History(panel)
        ends = np.array([4, 9, 10, 12, 25, 40])
        for reach in (1, 3, 12, 100):
            histories = history.reaching(ends, reach)
            lengths = [
                min(reach, end - panel.starts[np.searchsorted(panel.starts, end - 1, "right") - 1])
                for end in ends
            ]
            assert histories.shape == (len(ends), max(lengths), 1)
            for row, end, n in zip(histories, ends, lengths, strict=True):
                assert np.isnan(row[: len(row) - n]).all()
                np.testing.assert_array_equal(
                    row[len(row) - n :], history.contexts(np.array([end]), n)[0]
                )
    assert History(to_panel(daily_table(5))).reaching(np.empty(0, dtype=np.int64), 4).shape == (
        0,
        0,
        1,
    )


def test_a_panel_of_any_policy_is_taken_as_it_is():
    frame = daily_table(40).assign(y=lambda frame: frame["y"].where(frame.index != 20))
    panel = to_panel(frame)
    assert isinstance(panel, Panel)
    answer = make().fit(panel).predict()
    np.testing.assert_array_equal(answer.point.ravel(), make().fit(frame).predict()["zero"])


# --- one call -------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A folder in the place of the shipped weights."""
    folder = tmp_path / "shipped"
    save_network(tiny_network(), folder, "zero-5h", CARD)
    monkeypatch.setattr(weights, "_shipped", lambda: folder)
    load_network.cache_clear()
    yield folder
    load_network.cache_clear()


@pytest.mark.usefixtures("shipped")
def test_one_call_forecasts_any_table():
    frame = daily_table(40, 7)
    expected = make().fit(frame).predict(level=80, quantiles=0.3)
    pd.testing.assert_frame_equal(tsattn.forecast(frame, H, level=80, quantiles=0.3), expected)
    assert list(expected.columns) == [
        "unique_id",
        "ds",
        "zero",
        "zero-lo-80",
        "zero-hi-80",
        "zero-q0.3",
    ]
    answer = forecast(to_panel(frame), H)
    assert isinstance(answer, Forecast)
    renamed = frame.set_axis(["shop", "day", "sold"], axis=1)
    other = forecast(renamed, H, schema=Schema("shop", "day", "sold"))
    np.testing.assert_array_equal(other["zero"], expected["zero"])
    gone = frame.drop(index=3)
    with pytest.raises(ValueError, match="gap"):
        forecast(gone, H, schema=Schema(missing="error"))
    assert len(forecast(gone, H)) == 2 * H


@pytest.mark.usefixtures("shipped")
def test_one_call_takes_a_bare_series():
    values = weekly_values(40)
    network = tiny_network()
    middle = network.quantile_levels.index(0.5)

    def expect(season):
        """The network's own answer where the frequency usually has this season."""
        return network.forecast(torch.from_numpy(values[None]), H, likely=season)[
            0, :, middle
        ].numpy()

    stamps = pd.date_range("2024-01-01", periods=40, freq="h")
    months = pd.period_range("2020-01", periods=40, freq="M")
    for season, data, index in (
        (
            24,
            pd.Series(values, index=stamps, name="load"),
            pd.date_range(stamps[-1], periods=H + 1, freq="h")[1:],
        ),
        (
            12,
            pd.Series(values, index=months, name="load"),
            pd.period_range("2023-05", periods=H, freq="M"),
        ),
        (1, pd.Series(values, index=range(0, 80, 2), name="load"), np.arange(80, 90, 2)),
    ):
        answer = forecast(data, H, level=80)
        assert list(answer.columns) == ["load", "load-lo-80", "load-hi-80"]
        assert answer.index.tolist() == list(index)
        np.testing.assert_allclose(answer["load"], expect(season), rtol=1e-6)
    for data in (values, values.tolist(), pd.Series(values)):
        answer = forecast(data, H)
        assert answer.index.tolist() == list(range(40, 45))
        np.testing.assert_allclose(answer["y"], expect(1), rtol=1e-6)
    assert forecast([3], 2)["y"].tolist() == [3, 3]
    assert np.isfinite(forecast([3, None, 5.5], 2)["y"]).all()


def test_one_call_takes_any_model_and_the_columns_that_it_reads():
    frame = daily_table(60, 60).assign(promo=lambda f: (f.index % 3 == 0).astype(float))
    pd.testing.assert_frame_equal(
        forecast(frame.drop(columns="promo"), H, model="naive"), Naive(H).fit(frame).predict()
    )
    ahead = pd.concat(
        pd.DataFrame(
            {"unique_id": name, "ds": pd.date_range("2024-07-01", periods=H), "promo": 1.0}
        )
        for name in ("s00", "s01")
    )
    assert catalogue._future_cols(ahead, Schema()) == ["promo"]
    wide = ahead[:H].drop(columns="unique_id").rename(columns={"ds": "date"})
    assert catalogue._future_cols(wide, Schema()) == ["promo"]
    assert catalogue._future_cols(wide.set_index("date"), Schema()) == ["promo"]
    with pytest.raises(
        ValueError, match="model 'naive' reads no future columns; leave future= out"
    ):
        forecast(frame, H, future=ahead, model="naive")
    for nothing in (
        ahead[["unique_id", "ds"]],
        ahead[["unique_id", "ds"]].assign(y=np.nan),
        ahead.set_index(["unique_id", "ds"])[[]],
    ):
        with pytest.raises(
            ValueError, match=r"future= holds no column beside ids and stamps .*; leave future= out"
        ):
            forecast(frame, H, future=nothing)
    answer = forecast(frame, H, model="least_squares")
    assert list(answer.columns) == ["unique_id", "ds", "least_squares"]


@pytest.mark.parametrize("data", [3, "a.csv", np.ones((3, 2, 1)), None])
def test_one_call_refuses_what_is_no_table(data):
    with pytest.raises(
        TypeError, match="data must be a frame, a series, a dict of columns, a Panel, or a list or"
    ):
        forecast(data, 3)


def test_the_example_in_the_docstring_is_true():
    assert doctest.run_docstring_examples(catalogue.forecast, vars(catalogue)) is None
    assert forecast([3.0, 1.0, 2.0], 2, model="naive")["y"].tolist() == [2.0, 2.0]


# --- weights and saved forecasters ----------------------------------------------------------------


def test_shipped_weights_are_read_once_and_stay_as_they_are(shipped):
    state = torch.get_rng_state()
    network = load_network()
    assert torch.equal(torch.get_rng_state(), state)
    assert network is load_network("zero-5h") or network is load_network()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in tiny_network().state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    card = load_card()
    assert card["licence"] == "Apache-2.0"
    assert ZeroConfig.from_dict(card["network"]) == tiny_network().config
    assert set(FACTS) < set(card)
    assert sorted(path.name for path in shipped.iterdir()) == [
        "zero-5h.json",
        "zero-5h.safetensors",
    ]


def test_a_changed_byte_is_refused(shipped):
    file = shipped / "zero-5h.safetensors"
    whole = file.read_bytes()
    for place in (0, 9, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(
            ValueError,
            match=r"zero-5h.safetensors is damaged: its sha256 must be .*reinstall tsattn",
        ):
            PretrainedForecaster(H).fit(daily_table(20))
    file.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"zero-5h\.safetensors is damaged"):
        load_network()
    file.write_bytes(whole)
    load_network()


def test_a_card_that_does_not_fit_is_refused(shipped):
    file = shipped / "zero-5h.json"
    card = json.loads(file.read_text())
    for changed, message in (
        ({**card, "format": 2}, "must be a card of format 1"),
        (
            {**card, "network": {**card["network"], "max_tokens": 9}},
            "settings are not those that the weights were written",
        ),
        (
            {name: value for name, value in card.items() if name != "network"},
            "does not fit the network that",
        ),
        ([], "must be a card of format 1"),
    ):
        file.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            load_network()
    file.write_text("{")
    with pytest.raises(ValueError, match=r"zero-5h.json holds no valid JSON .*reinstall tsattn"):
        load_network()


@pytest.mark.parametrize("gone", ["zero-5h.json", "zero-5h.safetensors"])
def test_a_missing_file_is_refused(shipped, gone):
    (shipped / gone).unlink()
    with pytest.raises(
        ValueError, match=rf"{gone} is missing, and there is no forecast without weights; reinstall"
    ):
        forecast([1.0, 2.0], 2)


def test_weights_of_another_name_or_kind_are_refused(shipped):
    with pytest.raises(ValueError, match=r"under the name 'zero-9'; there are zero-5h"):
        PretrainedForecaster(H, weights="zero-9").fit(daily_table(20))
    with pytest.raises(
        TypeError,
        match="weights must be the name of shipped weights such as 'zero-5h', a path, or a net",
    ):
        PretrainedForecaster(H, weights=3).fit(daily_table(20))
    with pytest.raises(ValueError, match=r"must hold one set of weights, .*got \[\]"):
        PretrainedForecaster(H, weights=shipped.parent).fit(daily_table(20))


def test_a_folder_in_the_working_directory_is_no_name(tmp_path, monkeypatch):
    save_network(tiny_network(), tmp_path / "mine", "mine", CARD)
    monkeypatch.chdir(tmp_path)
    own, known = (
        make(weights=each, freq="D").fit(daily_table(30)).predict()
        for each in ("mine", tiny_network())
    )
    pd.testing.assert_frame_equal(own, known)
    with pytest.raises(
        ValueError, match=r"under the name 'zero3'; there are zero-5h, zero-5h-small; a path"
    ):
        make(weights="zero3").fit(daily_table(30))


def test_weights_are_written_whole_and_with_their_card(tmp_path):
    save_network(tiny_network(), tmp_path / "a", "mine", {**CARD, "seed": 3})
    save_network(tiny_network(), tmp_path / "b", "mine", {**CARD, "seed": 3})
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
        "mine.json",
        "mine.safetensors",
    ]
    for name in ("mine.json", "mine.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    expected = fitted().predict()
    for path in (tmp_path / "a", tmp_path / "a" / "mine.safetensors", str(tmp_path / "a")):
        pd.testing.assert_frame_equal(
            PretrainedForecaster(H, weights=path).fit(daily_table(30)).predict(), expected
        )
    assert read_network(tmp_path / "a") is not read_network(tmp_path / "a")
    with pytest.raises(ValueError, match=r"a card must tell steps, .*got none of \['scores'\]"):
        save_network(tiny_network(), tmp_path, "x", {name: 0 for name in FACTS if name != "scores"})
    spoilt = read_network(tmp_path / "a")
    next(iter(spoilt.parameters())).fill_(np.nan)
    with pytest.raises(ValueError, match="weights must be finite; got NaN or inf in"):
        save_network(spoilt, tmp_path, "x", CARD)
    assert not list(tmp_path.glob("x*"))


@pytest.mark.skipif(not SHIPPED, reason="no weights are shipped yet")
def test_what_is_shipped_is_small_and_says_where_it_came_from():
    folder = Path(weights.__file__).parent / "weights"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    card = load_card()
    assert card["parameters"] <= 1e6
    assert card["licence"] == "Apache-2.0"
    assert all(card[fact] not in (None, "", {}) for fact in FACTS)
    assert card["steps"] > 0
    assert load_network().quantile_levels[0] == 0.01
    assert load_network().quantile_levels[-1] == 0.99


@pytest.mark.parametrize("kind", ["long", "wide", "panel"])
def test_a_saved_forecaster_answers_alike(tmp_path, kind):
    data = daily_table(120, 3, 40)
    data.loc[[110, 130], "y"] = np.nan
    if kind == "wide":
        data = data[data["unique_id"] != "s01"].pivot(index="ds", columns="unique_id", values="y")
    if kind == "panel":
        data = to_panel(data)
    forecaster = make(nonnegative=True, alias="mine", n_threads=2).fit(data)
    forecaster.save(tmp_path / "model")
    forecaster.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    loaded = PretrainedForecaster.load(tmp_path / "model")
    kept = loaded.predict(level=80)
    expected = forecaster.predict(level=80)
    if kind == "panel":
        kept = kept.to_frame()
        expected = expected.to_frame()
    pd.testing.assert_frame_equal(kept, expected)
    assert {**loaded.get_params(), "weights": None} == {**forecaster.get_params(), "weights": None}
    assert re.search(r", weights=ZeroNetwork\(ZeroConfig\(d_model=16, .*\)\)", repr(loaded))
    assert loaded.panel_.lengths.max() <= REACH
    new = daily_table(5, 6)
    if kind == "long":
        pd.testing.assert_frame_equal(loaded.predict(new), forecaster.predict(new))
    with pytest.raises(
        ValueError, match=r"holds a PretrainedForecaster; load it with PretrainedForecaster\.load"
    ):
        tsattn.AttentionForecaster.load(tmp_path / "model")


def test_a_saved_forecaster_that_was_changed_is_refused(tmp_path):
    fitted().save(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    facts = tmp_path / "model" / "config.json"
    facts_read = json.loads(facts.read_text())
    for change in (
        {"parameters": {**facts_read["parameters"], "horizon": 0}},
        {
            "parameters": {
                **facts_read["parameters"],
                "schema": {**facts_read["parameters"]["schema"], "missing": "drop"},
            }
        },
        {"parameters": {**facts_read["parameters"], "nonnegative": "yes"}},
        {"network": {**facts_read["network"], "d_model": 10**9}},
        {"network": {**facts_read["network"], "d_model": 2**14}},
        {"network": {**facts_read["network"], "n_layers": 10**5}},
        {"network": {**facts_read["network"], "near": 0}},
        {"network": {**facts_read["network"], "near": "8"}},
        {"network": {**facts_read["network"], "near": 2**40}},
        {"network": {**facts_read["network"], "max_tokens": -1}},
        {"network": {**facts_read["network"], "max_tokens": 1.5}},
        {"network": {**facts_read["network"], "token_len": True}},
        {"network": {**facts_read["network"], "max_len": 10**7}},
        {"network": {**facts_read["network"], "quantiles": [0.1, 0.5, 0.5, 0.9]}},
        {"panel_in": 3},
        {"panel": {**facts_read["panel"], "freq": "h"}},
    ):
        facts.write_text(json.dumps(facts_read | change))
        with pytest.raises(ValueError, match=r"is not what save\(\) wrote"):
            PretrainedForecaster.load(tmp_path / "model")
    facts.write_text(json.dumps(facts_read))
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        PretrainedForecaster.load(tmp_path / "model")


# --- what is loaded, and the command line ---------------------------------------------------------

HEAVY = ("lightning", "sklearn", "gluonts", "statsmodels", "matplotlib", "scipy.stats")
CALLS = (
    "tsattn.forecast(pd.DataFrame({'ds': range(30), 'y': np.sin(np.arange(30.0))}), 4, level=80)",
    "tsattn.PretrainedForecaster.load('model').predict(level=80)",
    "assert cli.main('forecast table.csv --horizon 4 --level 80 --out f.csv'.split()) == 0",
)


def fresh_python(folder, *lines):
    """What lines print in a process of its own."""
    env = os.environ | {"PYTHONPATH": str(Path(tsattn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(call, cwd=folder, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def light_folder(shipped, tmp_path):
    daily_table(1000, 3).to_csv(tmp_path / "table.csv", index=False)
    fitted().save(tmp_path / "model")
    assert shipped.parent == tmp_path
    return tmp_path


def begin(folder):
    """Lines with which a process takes the weights of the folder for those that are shipped."""
    return (
        "import json, sys",
        "from pathlib import Path",
        "import tsattn.pretrained.weights as weights",
        f"weights._shipped = lambda: Path({str(folder / 'shipped')!r})",
        "from tsattn import cli",
    )


def test_a_forecast_loads_nothing_heavy(light_folder):
    """And a heavy import would be seen."""
    message = f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    lines = (*begin(light_folder), "import numpy as np, pandas as pd, tsattn", *CALLS, message)
    shown = fresh_python(light_folder, *lines, "import sklearn, scipy.stats", message).splitlines()
    assert [json.loads(line) for line in shown[-2:]] == [[], ["sklearn", "scipy.stats"]]


@pytest.mark.usefixtures("shipped")
def test_the_command_line_forecasts_without_a_model_named(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = daily_table(40, 1)
    frame.loc[5, "y"] = np.nan
    frame.drop(index=10).to_csv("table.csv", index=False)
    code, out, err = run("forecast", "table.csv", "--horizon", H, "--level", 80, "--level", 50)
    assert (code, err) == (0, "")
    lines = [line.split(",") for line in out.splitlines()]
    assert lines[0] == [
        "unique_id",
        "ds",
        "zero",
        "zero-lo-50",
        "zero-hi-50",
        "zero-lo-80",
        "zero-hi-80",
    ]
    expected = make().fit(frame.drop(index=10)).predict(level=[80, 50])
    np.testing.assert_allclose([float(line[2]) for line in lines[1:]], expected["zero"], rtol=1e-9)
    assert (
        run(
            "forecast", "table.csv", "--horizon", H, "--model", "zero", "--level", 80, "--level", 50
        )[1]
        == out
    )
    code, out, err = run("forecast", "table.csv", "--horizon", H, "--missing", "error")
    assert (code, out) == (2, "")
    assert "gap" in err
    code, out, err = run("forecast", "table.csv", "--horizon", H, "--level", 99)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "levels up to 98" in err
    code, out, _ = run(
        "forecast",
        "table.csv",
        "--horizon",
        H,
        "--model",
        "naive",
        "--missing",
        "ffill",
        "--threads",
        2,
    )
    assert code == 0
    assert out.startswith("unique_id,ds,naive\n")


@pytest.mark.usefixtures("shipped")
def test_a_backtest_from_the_command_line_judges_zero_beside_others(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    daily_table(40, 30).to_csv("table.csv", index=False)
    argv = [
        "backtest",
        "table.csv",
        "--horizon",
        H,
        "--model",
        "zero",
        "--model",
        "naive",
        "--n-windows",
        3,
        "--json",
    ]
    code, out, err = run(*argv)
    assert (code, err) == (0, "")
    scores = [json.loads(line) for line in out.splitlines()]
    assert [row["model"] for row in scores] == ["zero", "naive"]
    expected = backtest(make(), daily_table(40, 30), n_windows=3).scores["mae"].item()
    assert scores[0]["mae"] == pytest.approx(expected)


def test_the_protocols_own_way_gives_the_same():
    panel = to_panel(daily_table(100, 4, 30))
    forecaster = make().fit(panel)
    direct = forecast_panel(forecaster, panel, level=80)
    ours = forecaster.predict(level=80)
    np.testing.assert_array_equal(direct.point, ours.point)
    assert set(direct.quantiles) == {0.1, 0.9}
