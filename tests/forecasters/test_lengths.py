"""Series of many lengths in one table: none is cut because another is short, and each gets a
forecast.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import plant_small_gbm
from tables import long_table

from tsattn import (
    AttentionForecaster,
    LinearForecaster,
    Network,
    Schema,
    SplitConformal,
    Training,
    backtest,
    make_forecaster,
)
from tsattn.data.frames import to_panel
from tsattn.data.training_windows import WindowSpec
from tsattn.distributed import backtest_many, predict_many
from tsattn.evaluate.metrics import mase

# Series of unlike length may end years before the others, which is told.
pytestmark = pytest.mark.filterwarnings("ignore:series .* ends at")

SMALL = Network(d_model=8, n_heads=2, n_layers=1, d_ff=16, patch_len=6, patch_stride=3)
FEW = Training(max_epochs=2)


def monthly(lengths, seed=0):
    """Seasonal series with a level, a trend and noise of their own, one after another."""
    rng = np.random.default_rng(seed)
    values = []
    for n in lengths:
        t = np.arange(n)
        level = rng.uniform(1000.0, 8000.0)
        wave = 1 + rng.normal(0, 0.08, 12)[t % 12] + rng.normal(0, 0.03, n)
        values.append(level * wave + rng.normal(0, 3) * t)
    ids = [f"s{i:04d}" for i in range(len(values))]
    return long_table(values, ids, start="2000-01-31", freq="ME")


def small(name="mlr", horizon=6, **settings):
    if name == "mlr":
        return AttentionForecaster(horizon, network=SMALL, training=FEW, random_state=0, **settings)
    return LinearForecaster(horizon, training=FEW, random_state=0, **settings)


def forecast_of(model, df):
    return model.predict(df)[model.alias_].to_numpy()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        # Few and large steps; the many and small ones of the default take long.
        ("mlr", {"max_epochs": 8, "learning_rate": 4e-3}),
        pytest.param("mlr", {}, marks=pytest.mark.slow),
        ("nlinear", {}),
        ("least_squares", {}),
    ],
)
def test_a_competition_of_many_lengths_is_forecast(name, settings):
    lengths = np.random.default_rng(1).integers(66, 145, 30)
    df = monthly(lengths)
    ahead = df.groupby("unique_id").tail(18)
    past = df.drop(ahead.index)
    model = make_forecaster(name, 18, random_state=0, **settings).fit(past)
    assert model.context_ == int(np.median(lengths - 18 - 18 - 18))
    truth, history = (part.groupby("unique_id")["y"].apply(np.array) for part in (ahead, past))
    score = {}
    for forecaster in (model, make_forecaster("seasonal_naive", 18).fit(past)):
        answer = forecaster.predict().groupby("unique_id")[forecaster.alias_].apply(np.array)
        every = [mase(truth[s], answer[s], history[s], season_length=12) for s in truth.index]
        score[forecaster.alias_] = np.mean(every)
        score[forecaster.alias_, "short"] = np.mean(
            np.array(every)[lengths - 18 < model.context_ + 24]
        )
    assert score[name] < 0.9 * score["seasonal_naive"]
    assert score[name, "short"] < 0.9 * score["seasonal_naive", "short"]


def test_one_short_series_does_not_shorten_the_context_of_all():
    long = monthly([90] * 9)
    both_series = pd.concat([long, monthly([30], seed=1).assign(unique_id="short")])
    assert small().fit(both_series).context_ == small().fit(long).context_ == 90 - 9 - 6
    assert (
        small().fit(long[long["unique_id"] == "s0000"]).context_ == (90 - 9 - 6) // 2
    )  # one alone: half of it


def test_windows_of_a_short_series_begin_at_half_of_what_it_has():
    starts = np.array([0, 40, 70, 80])
    first = np.zeros(3, dtype=int)
    ends = WindowSpec(12, 4, 8).ends(starts, first, np.array([40, 24, 10]))
    assert ends[ends <= 40].tolist() == list(range(12, 37))  # whole contexts
    assert ends[ends > 40].tolist() == list(
        range(40 + 10, 40 + 21)
    )  # half of 20 rows, and none of the last series
    alone = WindowSpec(12, 4, 8).ends(np.array([0, 20]), np.zeros(1, dtype=int), np.array([20]))
    assert alone.tolist() == [12, 13, 14, 15, 16]


@pytest.mark.parametrize("name", ["mlr", "nlinear"])
def test_a_short_series_teaches(name):
    """Its values reach the weights, though it has no room for one whole context."""
    df = monthly([80, 80, 40])
    other = df.copy()
    other.loc[other["unique_id"] == "s0002", "y"] = np.random.default_rng(9).normal(size=40)
    asked = df[df["unique_id"] == "s0000"]
    first, second = (small(name, context=40).fit(each) for each in (df, other))
    assert first.summary_["train_windows"] > 2 * (80 - 8 - 6 - 40)
    assert not np.allclose(forecast_of(first, asked), forecast_of(second, asked), rtol=1e-6)


@pytest.mark.parametrize("name", ["mlr", "nlinear"])
def test_padding_tells_nothing_of_another_series(name):
    """The rows before a short series are those of its neighbour, and are never read."""
    df = monthly([80, 40, 80])
    model = small(name, context=40).fit(df)
    short = df[df["unique_id"] == "s0001"].tail(20)
    own_forecast = forecast_of(model, short)
    beside = model.predict(pd.concat([df[df["unique_id"] == "s0000"], short]))
    np.testing.assert_allclose(beside[model.alias_].to_numpy()[6:], own_forecast, rtol=1e-5)
    windows = to_panel(short).values[None]
    padded = np.concatenate([np.full((1, 20, 1), np.nan), windows], axis=1)
    np.testing.assert_array_equal(
        model.predict_windows(padded)[0], model.predict_windows(windows)[0]
    )


def test_the_front_of_a_linear_window_is_its_mean():
    model = LinearForecaster(6, "rlinear", context=24, closed_form=True).fit(monthly([80, 80]))
    x = to_panel(monthly([10])).values[None]
    filled = np.concatenate([np.full((1, 14, 1), x.mean()), x], axis=1)
    np.testing.assert_allclose(
        model.predict_windows(x)[0], model.predict_windows(filled)[0], rtol=1e-5
    )


@pytest.mark.parametrize(
    "settings", [{"head": "negative_binomial"}, {"architecture": "decoder"}, {"head": "quantile"}]
)
def test_every_network_takes_short_series(settings):
    df = monthly([80, 40, 60]).assign(y=lambda df: df["y"].round())
    network = Network(d_model=8, n_heads=2, n_layers=1, d_ff=16, patch_len=6, patch_stride=6)
    training = Training(max_epochs=1, linear_skip=False)
    model = AttentionForecaster(
        6, context=48, network=network, training=training, random_state=0, **settings
    )
    assert np.isfinite(
        model.fit(df).predict(level=80 if "head" in settings else None).iloc[:, 2:].to_numpy()
    ).all()


def test_covariates_of_short_series_are_read():
    df = monthly([80, 40, 60, 16])
    df["price"] = np.random.default_rng(0).normal(size=len(df))
    df["kind"] = df["unique_id"].map({"s0000": "a", "s0001": "b", "s0002": "a", "s0003": "b"})
    schema = Schema(past_cols=("price",), static_cols=("kind",), calendar=("month",))
    model = small(context=40, schema=schema).fit(df)
    assert np.isfinite(forecast_of(model, df)).all()
    moved = df.assign(price=np.where(df["unique_id"] == "s0001", 5.0, df["price"]))
    change = (
        np.abs(forecast_of(model, moved) - forecast_of(model, df)).reshape(4, 6).max(axis=1) > 0
    )
    assert change.tolist() == [False, True, False, False]
    frame = backtest(model, df, n_windows=2).frame
    assert np.isfinite(frame["mlr"]).all()


@pytest.mark.parametrize("name", ["mlr", "nlinear"])
def test_a_series_too_short_for_the_network_is_forecast_by_another(name, tmp_path):
    df = monthly([80, 5, 79, 1])
    model = small(name, context=24)
    message = (
        rf"2 of 4 series have fewer than 8 rows of history, too few for {name}; .* by the"
        r" pretrained 'zero'"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        model.fit(df)
    assert len(caught) == 1
    answer = model.predict(level=80)  # said once
    zero = make_forecaster("zero", 6).fit(df).predict(level=80)
    both = answer["unique_id"].isin(["s0001", "s0003"])
    np.testing.assert_allclose(
        answer.loc[both].iloc[:, 2:].to_numpy(), zero[both].iloc[:, 2:].to_numpy(), rtol=1e-5
    )
    assert (np.abs(answer.loc[~both, name] - zero.loc[~both, "zero"]) > 1e-3).any()
    with pytest.warns(UserWarning, match=message) as caught:
        pd.testing.assert_frame_equal(model.predict(df, level=80), answer)
    assert len(caught) == 1
    model.save(tmp_path / "saved")
    pd.testing.assert_frame_equal(type(model).load(tmp_path / "saved").predict(level=80), answer)


def test_series_that_are_all_too_short_are_one_error():
    model = small(context=24).fit(monthly([80, 80]))
    with pytest.raises(
        ValueError, match=r"too short: series 's0000' \(5 rows.* mlr needs at least 8 rows"
    ):
        model.predict(monthly([5, 7]))
    with pytest.raises(
        ValueError, match=r"too short: series 's0000' \(20 rows.*takes 24 rows of context"
    ):
        small(context=24).fit(monthly([20, 30]))


def test_backtests_reach_windows_that_are_too_short():
    df = monthly([80, 16, 60])
    with pytest.warns(UserWarning, match="1 of 3 series have fewer than 8 rows") as caught:
        result = backtest(small(context=24), df, n_windows=4)
    assert len(caught) == 1
    assert np.isfinite(result.frame["mlr"]).all()
    assert len(result.frame) == 3 * 4 * 6


def test_an_update_may_bring_a_short_series():
    df = monthly([80, 80, 5])
    model = small(context=24).fit(df[df["unique_id"] != "s0002"])
    with pytest.warns(UserWarning, match="1 of 3 series"):
        model.update(df[df["unique_id"] == "s0002"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(model.predict()) == 18


def test_scores_count_windows_of_short_series():
    df = monthly([80, 26, 60])
    model = small("nlinear", context=24).fit(df)
    # Windows of each series, whose first one has a context before it or half of what there is.
    counts = {"s0000": 80 - 24 - 6 + 1, "s0001": 26 - 10 - 6 + 1, "s0002": 60 - 24 - 6 + 1}
    scores = {name: model.score(df[df["unique_id"] == name]) for name in counts}
    total = sum(scores[name] * n for name, n in counts.items())
    assert model.score(df) == pytest.approx(total / sum(counts.values()))
    few = df[df["unique_id"] == "s0001"].head(13)
    with pytest.raises(ValueError, match="a score of nlinear needs at least 14 rows"):
        model.score(few)


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_context_without_a_value_is_told_by_name(kind):
    df = monthly([80, 80])
    if kind == "wide":
        df = df.pivot(index="ds", columns="unique_id", values="y")
        gone = df.assign(s0001=df["s0001"].where(np.arange(80) < 40))
    else:
        gone = df.assign(
            y=df["y"].where(
                (df["unique_id"] == "s0000") | (df.groupby("unique_id").cumcount() < 40)
            )
        )
    strict = small(context=24, schema=Schema(missing="mask", bad="error")).fit(df)
    with pytest.raises(
        ValueError, match=r"series 's0001' has no value among its last 24 rows.*leave it out"
    ):
        strict.predict(gone)
    schema = Schema(missing="mask")
    model = small(context=24, schema=schema).fit(df)
    message = (
        "left out: series 's0001' has no value among its last 24 rows; their forecasts are NaN"
    )
    unjudged = message.replace("their forecasts are NaN", "they are not judged")
    with pytest.warns(UserWarning, match=message):
        answer = model.predict(gone)
    assert answer.isna().any(axis=None)
    with pytest.warns(UserWarning, match=message):
        pd.testing.assert_frame_equal(predict_many(model, gone, n_chunks=2), answer)
    # The rows before the gap teach, as the series of a fit do that has too few of them.
    fitted = small(context=24, schema=schema).fit(gone)
    with pytest.warns(UserWarning, match=message):
        pd.testing.assert_frame_equal(fitted.predict().isna(), answer.isna())
    with pytest.warns(UserWarning, match=unjudged):
        judged = backtest(small(context=24, schema=schema), gone, n_windows=2)
    assert judged.panel.n_series == 1
    # The last cutoff alone has no value before it.
    late = (
        gone.shift(9) if kind == "wide" else gone.assign(y=gone.groupby("unique_id")["y"].shift(9))
    )
    with pytest.warns(UserWarning, match=unjudged):
        judged = backtest(small(context=24, schema=schema), late, n_windows=2)
    assert judged.panel.n_series == 1
    with pytest.warns(UserWarning, match=unjudged):
        judged = backtest_many(
            small(context=24, schema=schema), late, n_windows=2, by="series", n_chunks=2
        )
    assert judged.panel.n_series == 1
    with pytest.warns(UserWarning, match=message):
        calibrated = SplitConformal(small(context=24, schema=schema), n_windows=4).fit(late)
    assert calibrated.predict(level=50).isna().any(axis=None)


@pytest.mark.parametrize("name", ["ridge", "gbm", "dlinear_gluonts"])
def test_pooled_forecasters_take_series_of_every_length(name, tmp_path, monkeypatch):
    plant_small_gbm(monkeypatch)
    df = monthly([80, 90, 20, 3, 85, 95])
    settings = {"max_epochs": 1} if name == "dlinear_gluonts" else {}
    model = make_forecaster(name, 6, random_state=0, **settings).fit(df)
    assert model.context_ == 12  # of the series of three rows, 0
    answer = model.predict()
    assert np.isfinite(answer[name]).all()
    short = df[df["unique_id"] == "s0002"].tail(5)
    mean = np.concatenate([np.full(7, short["y"].mean()), short["y"]])
    np.testing.assert_allclose(
        forecast_of(model, short), model.predict_windows(mean[None, :, None])[0].ravel()
    )
    with pytest.raises(ValueError, match="finite"):
        model.predict_windows(np.array([1.0, np.nan, 2.0])[None, :, None])
    model.save(tmp_path / "saved")
    pd.testing.assert_frame_equal(type(model).load(tmp_path / "saved").predict(), answer)


def test_a_short_series_teaches_a_pooled_forecaster():
    df = monthly([80, 90, 16])
    other = df.assign(
        y=df["y"].where(
            df["unique_id"] != "s0002", df["y"] * (1 + df.groupby("unique_id").cumcount() % 2)
        )
    )
    first, second = (make_forecaster("ridge", 6).fit(each) for each in (df, other))
    assert first.n_windows_ == second.n_windows_ > 80 + 90 - 2 * 17
    asked = df[df["unique_id"] == "s0000"]
    assert not np.allclose(forecast_of(first, asked), forecast_of(second, asked), rtol=1e-6)


def test_a_series_that_an_update_brings_is_saved_and_scored_like_the_others(tmp_path):
    days = pd.date_range("2024-01-01", periods=120)
    wave = np.sin(np.arange(120) / 3)
    df = pd.concat(
        pd.DataFrame({"unique_id": u, "ds": days, "y": size * wave})
        for u, size in (("a", 1), ("c", 9))
    )
    model = LinearForecaster(7, "rlinear", closed_form=True, context=28).fit(df)
    before = model.score(df)
    model.update(pd.DataFrame({"unique_id": "b", "ds": days, "y": wave[::-1]}))
    assert model.score(df) == before
    model.save(tmp_path / "model")
    loaded = LinearForecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=80), model.predict(level=80))
    assert loaded.predict()["unique_id"].unique().tolist() == ["a", "b", "c"]
