"""Forecasts beyond the trained horizon: fed back step for step, and only when asked for."""

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import H, attention
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import covariate_frame, fill_future, wide_covariate_frame

from tsattn.data.cycles import cycle_features
from tsattn.data.encoding import CovariateWindows
from tsattn.data.frames import to_panel
from tsattn.forecaster import forecast_panel
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Naive

FIT = {"context": 12, "max_epochs": 1, "random_state": 0}
MAKERS = {
    "attention": lambda **k: attention(**k),
    "nlinear": lambda **k: LinearForecaster.from_settings(
        horizon=H, kind="nlinear", **{**FIT, **k}
    ),
    "decoder": lambda **k: attention(
        architecture="decoder", patch_stride=4, linear_skip=False, **k
    ),
    "counts": lambda **k: attention(head="negative_binomial", **k),
    "logarithms": lambda **k: attention(target_transform="log1p", **k),
    "mixing": lambda **k: attention(channel_mixing=True, **k),
}


def table(name):
    if name == "mixing":
        return wide_covariate_frame()[["s0", "s1"]]
    frame = covariate_frame()
    return (
        frame.assign(y=frame["y"].abs().round() + 1) if name in ("counts", "logarithms") else frame
    )


def by_hand(model, x, steps):
    """One stretch after the other through ``predict_windows``, and nothing else of the library."""
    history = x.copy()
    while history.shape[1] < x.shape[1] + steps:
        history = np.concatenate(
            [history, model.predict_windows(history[:, -model.context_ :])[0]], axis=1
        )
    return history[:, x.shape[1] : x.shape[1] + steps]


@pytest.mark.parametrize("steps", [1, H - 1, H, H + 1, 2 * H, 3 * H + 2])
@pytest.mark.parametrize("name", MAKERS)
def test_recursive_forecasts_equal_a_loop_over_windows(name, steps):
    model = MAKERS[name]().fit(table(name))
    panel = to_panel(table(name))
    forecast = forecast_panel(model, panel, horizon=steps, recursive=True)
    if name == "mixing":
        expected = by_hand(model, panel.grouped().values[None, -12:], steps)[0].T
    else:
        x = np.stack([panel.values[end - 12 : end] for end in panel.starts[1:]])
        expected = by_hand(model, x, steps)[..., 0]
    np.testing.assert_allclose(forecast.point, expected, rtol=1e-5)
    answer = model.predict(horizon=steps, recursive=True)
    np.testing.assert_array_equal(
        answer.select_dtypes("number").to_numpy().ravel(),
        forecast.to_frame().select_dtypes("number").to_numpy().ravel(),
    )
    assert len(answer) == steps * (1 if name == "mixing" else panel.n_series)


def test_known_columns_go_along_with_the_steps():
    frame = covariate_frame()
    model = attention(
        future_cols=["promo", "price"], static_cols=["kind"], calendar=["weekday"]
    ).fit(frame)
    steps = 2 * H + 1
    future = fill_future(model.make_future_frame(horizon=steps))
    answer = model.predict(horizon=steps, recursive=True, future=future)
    for name, rows in frame.groupby("unique_id"):
        told = future[future["unique_id"] == name]
        known = np.concatenate(
            [rows[["promo", "price"]].to_numpy(float), told[["promo", "price"]].to_numpy(float)]
        )
        days = pd.DatetimeIndex(pd.concat([rows["ds"], told["ds"]]))
        known = np.concatenate([known, cycle_features(days, ["weekday"])], axis=1)
        history = list(rows["y"])
        while len(history) < len(rows) + steps:
            begin = len(history) - 12
            ahead = known[begin : begin + 12 + H]
            ahead = np.concatenate([ahead, np.full((12 + H - len(ahead), 4), np.nan)])
            windows = CovariateWindows(
                np.empty((1, 12, 0)), ahead[None], np.array([[rows["kind"].iloc[0]]], dtype=object)
            )
            point = model.predict_windows(
                np.array(history[-12:]).reshape(1, 12, 1), covariates=windows
            )[0]
            history += point.ravel().tolist()
        np.testing.assert_allclose(
            answer[answer["unique_id"] == name]["mlr"],
            history[len(rows) : len(rows) + steps],
            rtol=1e-5,
        )
    late = future["ds"] >= future["ds"].max()
    moved = model.predict(
        horizon=steps, recursive=True, future=future.assign(price=future["price"] + 5 * late)
    )
    assert (np.isclose(moved["mlr"], answer["mlr"], rtol=1e-6) == ~late).all()
    with pytest.raises(
        ValueError, match=r"column 'price' of future= is missing at 2024-07-09.*at all 9 steps"
    ):
        model.predict(
            horizon=steps, recursive=True, future=future.assign(price=future["price"].where(~late))
        )


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_a_shorter_recursive_forecast_is_a_prefix(first, second):
    model = Naive(3).fit(covariate_frame())
    panel = to_panel(covariate_frame())
    short, long = sorted((first, second))
    one, two = (
        forecast_panel(model, panel, horizon=n, recursive=True).point for n in (short, long)
    )
    np.testing.assert_array_equal(one, two[:, :short])


def test_stamps_go_on_and_a_fitted_panel_gives_a_forecast():
    model = attention(calendar=["weekday"]).fit(covariate_frame())
    answer = model.predict(horizon=11, recursive=True)
    assert answer["ds"].tolist() == list(pd.date_range("2024-07-01", periods=11)) * 3
    pd.testing.assert_frame_equal(
        model.predict(covariate_frame(), horizon=11, recursive=True), answer
    )
    within = model.predict(horizon=H, recursive=True, level=50)
    pd.testing.assert_frame_equal(within, model.predict(level=50))


@pytest.mark.parametrize(
    ("kwargs", "ask", "message"),
    [
        (
            {},
            {},
            (
                "horizon = 9 is longer than the 4 steps that mlr was made for; .*horizon=9, or .*"
                " recursive=True"
            ),
        ),
        (
            {},
            {"level": 80, "recursive": True},
            "intervals reach 4 steps ahead.*horizon = 9 is beyond.*errors that nobody",
        ),
        ({}, {"quantiles": [0.5], "recursive": True}, "intervals reach 4 steps ahead"),
        ({"head": "quantile"}, {"level": 80, "recursive": True}, "intervals reach 4 steps ahead"),
        (
            {"past_cols": ["temp"]},
            {"recursive": True},
            "mlr reads the past column 'temp', whose values after the cutoff",
        ),
    ],
)
def test_what_would_not_be_honest_is_refused(kwargs, ask, message):
    model = attention(**kwargs).fit(covariate_frame())
    with pytest.raises(ValueError, match=message) as caught:
        model.predict(horizon=9, **ask)
    assert "\n" not in str(caught.value)


def test_a_raised_horizon_is_no_recursive_forecast():
    model = attention().fit(covariate_frame()).set_params(horizon=9)
    with pytest.raises(ValueError, match="fit again with the longer horizon"):
        model.predict(recursive=True)


def test_recursive_forecasts_follow_a_regular_series():
    """On a pure wave twelve steps ahead by four at a time stay near the wave: feeding back adds no
    bias of its own.
    """
    days = pd.date_range("2024-01-01", periods=300, freq="D")
    frame = pd.DataFrame({"ds": days, "y": np.sin(2 * np.pi * np.arange(300) / 12)})
    model = LinearForecaster.from_settings(
        horizon=H,
        kind="nlinear",
        context=24,
        batch_size=32,
        max_epochs=30,
        patience=None,
        learning_rate=1e-2,
        random_state=0,
    ).fit(frame[:280])
    answer = model.predict(horizon=20, recursive=True)
    np.testing.assert_allclose(answer["nlinear"], frame["y"][280:], atol=0.1)
