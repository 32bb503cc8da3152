"""Cross-validation, scores and baselines of utilsforecast and statsforecast give the numbers that
ours give.
"""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from tsattn.data.frames import to_long
from tsattn.data.schema import Schema
from tsattn.evaluate import metrics
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive, WindowAverage
from tsattn.nn.config import Network
from tsattn.training.settings import Training

KEYS = ["unique_id", "cutoff", "ds"]
FREQS = ["D", "15min", "ME", "W-SUN", "B", "QS", 5]


@pytest.fixture(scope="module")
def uf():
    """utilsforecast's metrics, evaluation and splits."""
    pytest.importorskip("utilsforecast")
    import utilsforecast.evaluation
    import utilsforecast.losses
    import utilsforecast.processing

    return utilsforecast


@pytest.fixture(scope="module")
def sf():
    """statsforecast, its engine and its models."""
    import statsforecast
    import statsforecast.models

    return statsforecast


def uneven(freq="D", lengths=(60, 45, 52), *, season=7):
    """Series of several lengths that start and end apart."""
    rng = np.random.default_rng(0)
    parts = []
    for i, n in enumerate(lengths):
        if isinstance(freq, int):
            stamps = 100 + freq * (np.arange(n) + 4 * i)
        else:
            stamps = pd.date_range("2001-01-01", periods=n + 4 * i, freq=freq)[4 * i :]
        y = 50 + 10 * i + 5 * np.sin(2 * np.pi * np.arange(n) / season + i) + rng.normal(size=n)
        parts.append(pd.DataFrame({"unique_id": f"s{i}", "ds": stamps, "y": y}))
    return pd.concat(parts, ignore_index=True)


def in_order(frame, columns):
    return frame[columns].sort_values(KEYS, ignore_index=True)


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("freq", FREQS)
@pytest.mark.parametrize(("horizon", "n_windows", "step"), [(4, 3, 4), (4, 5, 1), (3, 2, 5)])
def test_cross_validation_has_the_rows_of_backtest_splits(uf, freq, horizon, n_windows, step):
    df = uneven(freq)
    ours = backtest(
        Naive(horizon), df, n_windows=n_windows, step_size=step, schema=Schema(freq=freq)
    ).frame
    splits = uf.processing.backtest_splits(df, n_windows, horizon, "unique_id", "ds", freq, step)
    theirs = pd.concat(
        [valid.merge(cutoffs, on="unique_id") for cutoffs, _, valid in splits], ignore_index=True
    )
    assert len(ours) == 3 * n_windows * horizon
    columns = ["unique_id", "ds", "cutoff", "y"]
    pd.testing.assert_frame_equal(in_order(ours, columns), in_order(theirs, columns))


@pytest.mark.parametrize(
    "model",
    [
        LinearForecaster(4, context=8, training=Training(max_epochs=1), random_state=0),
        AttentionForecaster(
            4,
            context=8,
            network=Network(d_model=4, n_layers=1, d_ff=8, patch_len=4, patch_stride=4),
            training=Training(max_epochs=1),
            random_state=0,
        ),
    ],
    ids=["linear", "attention"],
)
def test_cross_validation_of_trained_forecasters_too(uf, model):
    df = uneven("W-SUN")
    ours = model.cross_validation(df, n_windows=4, step_size=2, refit=2, level=50)
    splits = uf.processing.backtest_splits(df, 4, 4, "unique_id", "ds", "W-SUN", 2)
    theirs = pd.concat([valid.merge(cutoffs, on="unique_id") for cutoffs, _, valid in splits])
    columns = ["unique_id", "ds", "cutoff", "y"]
    pd.testing.assert_frame_equal(in_order(ours, columns), in_order(theirs, columns))
    assert list(ours.columns[4:]) == [f"{model.alias_}{end}" for end in ("", "-lo-50", "-hi-50")]


class Recorder(Naive):
    """Remembers what it was fitted on."""

    seen: list

    def _fit(self, panel, context):
        Recorder.seen.append(to_long(panel))
        return super()._fit(panel, context)


@pytest.mark.parametrize("freq", ["D", "MS", 5])
def test_every_fit_sees_the_training_rows_of_backtest_splits(uf, freq):
    df = uneven(freq)
    Recorder.seen = []
    backtest(Recorder(4), df, n_windows=3, step_size=2, refit=True, schema=Schema(freq=freq))
    splits = list(uf.processing.backtest_splits(df, 3, 4, "unique_id", "ds", freq, 2))
    assert len(Recorder.seen) == len(splits) == 3
    for seen, (_, train, _) in zip(Recorder.seen, splits, strict=True):
        pd.testing.assert_frame_equal(seen, train.reset_index(drop=True))


# --- scores ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged():
    """A frame of forecasts with intervals, and the rows before its first cutoff."""
    df = uneven()
    rule = SplitConformal(SeasonalNaive(4, 7, alias="M"), n_windows=20)
    result = backtest(rule, df, n_windows=5, step_size=2, level=[50, 80], quantiles=[0.5])
    first = result.frame.groupby("unique_id")["cutoff"].min()
    return result.frame, df[df["ds"] <= df["unique_id"].map(first)]


def by_window(frame):
    """(id, cutoff) and the rows of each window."""
    return [(key, rows.sort_values("ds")) for key, rows in frame.groupby(["unique_id", "cutoff"])]


def theirs_by_window(uf, frame, loss, name, **kwargs):
    table = uf.evaluation.evaluate(frame, metrics=[loss], models=["M"], **kwargs)
    assert set(table["metric"]) == {name}
    assert len(table) == 15
    return table.set_index(["unique_id", "cutoff"])["M"]


def point_of(metric, factor=1.0):
    return lambda rows: factor * metric(rows["y"], rows["M"])


@pytest.mark.parametrize(
    ("loss", "ours"),
    [
        ("mae", point_of(metrics.mae)),
        ("mse", point_of(metrics.mse)),
        ("rmse", point_of(metrics.rmse)),
        ("bias", point_of(metrics.bias)),
        (
            "smape",
            point_of(metrics.smape, 1 / 2),
        ),  # theirs lies between 0 and 1, ours between 0 and 2
    ],
)
def test_point_scores_are_theirs(uf, judged, loss, ours):
    frame = judged[0].drop(columns=[c for c in judged[0] if c.startswith("M-")])
    theirs = theirs_by_window(uf, frame, getattr(uf.losses, loss), loss)
    for key, rows in by_window(frame):
        assert ours(rows) == pytest.approx(theirs[key], rel=1e-12)


@pytest.mark.parametrize("level", [50, 80])
def test_coverage_and_interval_score_are_theirs(uf, judged, level):
    frame, _ = judged
    low = f"M-lo-{level}"
    high = f"M-hi-{level}"
    covered = theirs_by_window(
        uf, frame, uf.losses.coverage, f"coverage_level{level}", level=[level]
    )
    scores = theirs_by_window(
        uf, frame, uf.losses.winkler_score, f"winkler_score_level{level}", level=[level]
    )
    for key, rows in by_window(frame):
        assert metrics.coverage(rows["y"], rows[low], rows[high]) == pytest.approx(
            covered[key], rel=1e-12
        )
        assert metrics.winkler(rows["y"], rows[low], rows[high], level=level) == pytest.approx(
            scores[key], rel=1e-12
        )
    assert 0 < covered.mean() < 1


def test_quantile_loss_is_theirs(uf, judged):
    frame, _ = judged
    quantiles = (0.1, 0.25, 0.75, 0.9)
    columns = ["M-lo-80", "M-lo-50", "M-hi-50", "M-hi-80"]
    frame = frame.drop(columns="M-q0.5")
    theirs = theirs_by_window(uf, frame, uf.losses.mqloss, "mqloss", level=[50, 80])
    crps = theirs_by_window(uf, frame, uf.losses.scaled_crps, "scaled_crps", level=[50, 80])
    for key, rows in by_window(frame):
        losses = [
            metrics.pinball(rows["y"], rows[c], quantile=q)
            for q, c in zip(quantiles, columns, strict=True)
        ]
        assert np.mean(losses) == pytest.approx(theirs[key], rel=1e-9)
        wql = metrics.wql(rows["y"], rows[columns], quantiles=quantiles)
        assert wql == pytest.approx(crps[key], rel=1e-9)


def test_scaled_error_is_theirs(uf, judged):
    frame, train = judged
    frame = frame.drop(columns=[c for c in frame if c.startswith("M-")])
    loss = partial(uf.losses.mase, seasonality=7)
    theirs = uf.evaluation.evaluate(frame, metrics=[loss], models=["M"], train_df=train).set_index(
        ["unique_id", "cutoff"]
    )["M"]
    for (name, cutoff), rows in by_window(frame):
        past = train.loc[train["unique_id"] == name, "y"]
        ours = metrics.mase(rows["y"], rows["M"], past, season_length=7)
        assert ours == pytest.approx(theirs[name, cutoff], rel=1e-9)


def test_their_scores_see_a_wrong_row(uf, judged):
    frame = judged[0].copy()
    frame.loc[0, "M"] += 1.0
    theirs = theirs_by_window(uf, frame, uf.losses.mae, "mae")
    rights = [point_of(metrics.mae)(rows) for _, rows in by_window(judged[0])]
    assert np.sum(~np.isclose(rights, theirs.sort_index().to_numpy())) == 1


# --- baselines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freq", "horizon", "n_windows", "step"), [("D", 4, 3, 4), ("MS", 9, 4, 2), (5, 9, 4, 2)]
)
def test_baselines_are_theirs(sf, freq, horizon, n_windows, step):
    """On frames whose first window has 25 rows at least; a rule of all rows is told how many they
    are.
    """
    df = uneven(freq)
    rows = 20
    models = sf.models
    engine = sf.StatsForecast(
        [
            models.Naive(),
            models.SeasonalNaive(7),
            models.RandomWalkWithDrift(),
            models.WindowAverage(6),
            models.HistoricAverage(),
        ],
        freq=freq,
    )
    theirs = engine.cross_validation(
        df=df, h=horizon, n_windows=n_windows, step_size=step, input_size=rows
    )
    named = {
        "Naive": Naive(horizon),
        "SeasonalNaive": SeasonalNaive(horizon, 7),
        "RWD": Drift(horizon, rows),
        "WindowAverage": WindowAverage(horizon, 6),
        "HistoricAverage": WindowAverage(horizon, rows),
    }
    ours = backtest(named, df, n_windows=n_windows, step_size=step, schema=Schema(freq=freq)).frame
    columns = ["unique_id", "ds", "cutoff", "y", *named]
    pd.testing.assert_frame_equal(
        in_order(ours, columns), in_order(theirs, columns), rtol=1e-12, check_exact=False
    )


def test_forecasts_of_baselines_are_theirs(sf):
    df = uneven()
    engine = sf.StatsForecast(
        [sf.models.Naive(), sf.models.SeasonalNaive(7), sf.models.WindowAverage(5)], freq="D"
    )
    theirs = engine.forecast(df=df, h=10)
    for name, rule in {
        "Naive": Naive(10, alias="Naive"),
        "SeasonalNaive": SeasonalNaive(10, 7, alias="SeasonalNaive"),
        "WindowAverage": WindowAverage(10, 5, alias="WindowAverage"),
    }.items():
        pd.testing.assert_frame_equal(
            rule.fit(df).predict(), theirs[["unique_id", "ds", name]], rtol=1e-12
        )
