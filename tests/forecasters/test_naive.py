"""The forecasts by a rule against their definitions, one step at a time."""

import doctest

import numpy as np
import pandas as pd
import pytest
from tables import series_table

from tsattn.evaluate.backtest import backtest
from tsattn.forecasters import naive
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive, WindowAverage


def by_hand(kind, history, horizon, season=1):
    """One series, one step at a time."""
    out = []
    history = list(history)
    for step in range(1, horizon + 1):
        if kind == "naive":
            out.append(history[-1])
        elif kind == "seasonal_naive":
            back = season - (step - 1) % season
            out.append(history[len(history) - back])
        elif kind == "window_average":
            out.append(sum(history[len(history) - season :]) / season)
        else:
            slope = (history[-1] - history[-season]) / (season - 1)
            out.append(history[-1] + step * slope)
    return out


@pytest.mark.parametrize("horizon", [1, 3, 10])
@pytest.mark.parametrize(
    ("make", "kind", "season"),
    [
        (Naive, "naive", 1),
        (lambda h: SeasonalNaive(h, 4), "seasonal_naive", 4),
        (lambda h: SeasonalNaive(h, season_length=1), "naive", 1),
        (lambda h: Drift(h, context=5), "drift", 5),
        (lambda h: Drift(h, 2), "drift", 2),
        (lambda h: WindowAverage(h, context=5), "window_average", 5),
        (lambda h: WindowAverage(h, 1), "naive", 1),
    ],
)
def test_each_rule_equals_its_definition(make, kind, season, horizon, assert_close):
    x = np.random.default_rng(0).normal(size=(6, 12, 3))
    actual = make(horizon).predict_windows(x)[0]
    expected = [[by_hand(kind, x[b, :, c], horizon, season) for c in range(3)] for b in range(6)]
    assert_close(actual, np.swapaxes(expected, 1, 2), "float64")


@pytest.mark.parametrize("make", [Naive, lambda h: SeasonalNaive(h, 4), Drift, WindowAverage])
def test_rows_before_the_context_do_not_matter(make):
    forecaster = make(3)
    x = np.random.default_rng(0).normal(size=(2, 20, 1))
    np.testing.assert_array_equal(
        forecaster.predict_windows(x)[0],
        forecaster.predict_windows(x[:, -forecaster.min_context :])[0],
    )


def frame_of(freq, n_rows=40):
    return series_table(np.arange(n_rows, dtype=float), freq=freq)


@pytest.mark.parametrize(("freq", "season"), [("h", 24), ("D", 7), ("MS", 12), ("YS", 1)])
def test_the_season_follows_the_frequency(freq, season):
    forecaster = SeasonalNaive(2)
    with pytest.raises(ValueError, match=r"call fit first or pass season_length="):
        forecaster.predict_windows(np.zeros((1, 30, 1)))[0]
    forecaster.fit(frame_of(freq))
    assert forecaster.season_length is None
    assert forecaster.context_ == forecaster.min_context == season
    assert forecaster.predict()["seasonal_naive"].tolist() == [
        40.0 - season,
        40.0 - season + (season > 1),
    ]


def test_a_second_fit_takes_the_new_season():
    forecaster = SeasonalNaive(2).fit(frame_of("h"))
    assert forecaster.fit(frame_of("D")).min_context == 7


def test_drift_over_the_whole_history_is_the_textbook_rule():
    history = np.random.default_rng(1).normal(size=30).cumsum()
    x = history.reshape(1, 30, 1)
    slope = np.diff(history).mean()
    np.testing.assert_allclose(
        Drift(4, context=30).predict_windows(x)[0].ravel(),
        history[-1] + slope * np.arange(1, 5),
        rtol=1e-12,
    )
    assert Drift(4).min_context == 8
    assert WindowAverage(4).min_context == 4


def two_series(freq):
    rng = np.random.default_rng(4)
    frames = []
    for i, n in enumerate((50, 70)):
        stamps = pd.date_range("2024-01-31", periods=n, freq=freq)
        frames.append(
            pd.DataFrame(
                {"unique_id": f"s{i}", "ds": stamps, "y": rng.normal(size=n).cumsum() + 10}
            )
        )
    return pd.concat(frames, ignore_index=True)


@pytest.mark.filterwarnings("ignore:series .* ends at")
@pytest.mark.parametrize(("freq", "season", "horizon"), [("D", 7, 30), ("h", 24, 5), ("MS", 12, 1)])
def test_the_rules_equal_statsforecasts(freq, season, horizon):
    """An outside oracle, on the same frame; its drift takes the whole history, so each series is
    asked by itself.
    """
    import statsforecast
    from statsforecast import models

    frame = two_series(freq)
    theirs = statsforecast.StatsForecast(
        models=[
            models.Naive(),
            models.SeasonalNaive(season),
            models.WindowAverage(9),
            models.RandomWalkWithDrift(),
        ],
        freq=freq,
    ).forecast(df=frame, h=horizon)
    ours = {
        "Naive": Naive(horizon),
        "SeasonalNaive": SeasonalNaive(horizon),
        "WindowAverage": WindowAverage(horizon, 9),
    }
    for name, forecaster in ours.items():
        answer = forecaster.fit(frame).predict()
        pd.testing.assert_frame_equal(answer[["unique_id", "ds"]], theirs[["unique_id", "ds"]])
        np.testing.assert_allclose(answer[forecaster.alias_], theirs[name], rtol=1e-6)
    for series, part in frame.groupby("unique_id"):
        drift = Drift(horizon, context=len(part)).fit(part).predict()["drift"]
        np.testing.assert_allclose(
            drift, theirs.loc[theirs["unique_id"] == series, "RWD"], rtol=1e-6
        )


@pytest.mark.parametrize("make", [Naive, SeasonalNaive, Drift, WindowAverage])
def test_names_are_the_catalogues(make):
    names = {
        Naive: "naive",
        SeasonalNaive: "seasonal_naive",
        Drift: "drift",
        WindowAverage: "window_average",
    }
    assert make(2).alias_ == names[make]
    assert make(2, alias="mine").alias_ == "mine"


@pytest.mark.parametrize("make", [Naive, SeasonalNaive, Drift, WindowAverage])
@pytest.mark.parametrize("ask", [{"level": 80}, {"quantiles": [0.1]}])
def test_intervals_are_refused_with_the_remedy(make, ask):
    forecaster = make(2).fit(frame_of("D"))
    with pytest.raises(ValueError, match=rf"points only.*SplitConformal\({make.__name__}"):
        forecaster.predict(**ask)
    with pytest.raises(ValueError, match="SplitConformal"):
        forecaster.predict_windows(np.zeros((1, 20, 1)), quantiles=(0.1,))[1]
    with pytest.raises(ValueError, match="SplitConformal"):
        backtest(forecaster, frame_of("D"), n_windows=2, **ask)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Naive(0), "horizon must be a whole number of at least 1; got 0"),
        (lambda: Naive(2.5), "horizon must be a whole number"),
        (
            lambda: SeasonalNaive(2, 0),
            "season_length must be a whole number of at least 1; got 0",
        ),
        (
            lambda: WindowAverage(2, context=0),
            "context must be a whole number of at least 1; got 0",
        ),
        (
            lambda: Drift(2, context=1),
            "context must be a whole number of at least 2; got 1",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 5)), r"shape \[B, T, C\]"),
        (np.zeros((2, 3, 1)), "T >= 4 rows"),
        (np.full((2, 4, 1), np.nan), "finite"),
        (np.full((2, 4, 1), np.inf), "finite"),
    ],
)
def test_unfit_windows_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        SeasonalNaive(2, 4).predict_windows(x)[0]


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(naive)
    assert outcome.attempted >= 4
    assert outcome.failed == 0


def test_a_fit_that_is_refused_changes_nothing():
    hours = pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=100, freq="h"), "y": np.arange(100.0)}
    )
    fitted = SeasonalNaive(3).fit(hours)
    before = fitted.predict()
    with pytest.raises(ValueError, match="too short"):
        fitted.fit(pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=3), "y": 1.0}))
    assert fitted.context_ == 24
    pd.testing.assert_frame_equal(fitted.predict(), before)
