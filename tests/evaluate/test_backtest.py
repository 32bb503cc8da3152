"""Backtests: their rows, scores, refits and comparisons against loops over the frame."""

import math
import re
import warnings

import loops
import numpy as np
import pandas as pd
import pytest
from side_by_side import ends_of_all
from small_forecasters import attention
from tables import wide_table
from tiny_network import tiny_network

from tsattn.adapters.refusals import refuse_covariates
from tsattn.catalogue import forecast, make_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import make_scaler
from tsattn.distributed import backtest_many, predict_many
from tsattn.evaluate.backtest import backtest, compare, roll, seasonal_errors
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal
from tsattn.evaluate.metrics import POINT_METRICS, winkler
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive

NAMES = ("unique_id", "ds", "y")


def long_frame(lengths=(30, 41, 25), freq="D", names=NAMES, seed=0):
    """Series of unequal length that end on different days."""
    rng = np.random.default_rng(seed)
    frames = []
    for i, n in enumerate(lengths):
        stamps = pd.date_range(
            pd.Timestamp("2024-01-01") + i * pd.tseries.frequencies.to_offset(freq),
            periods=n,
            freq=freq,
        )
        values = rng.normal(size=n) * 10**i + 5 * i
        frames.append(pd.DataFrame(dict(zip(names, (f"s{i}", stamps, values), strict=True))))
    return pd.concat(frames, ignore_index=True)


def wide_frame(n_rows=60, n_channels=3, seed=0):
    noise = np.random.default_rng(seed).normal(size=(n_rows, n_channels))
    return wide_table(noise * 10.0 ** np.arange(n_channels), ["load", "heat", "cold"][:n_channels])


def splits_by_hand(frame, n_windows, horizon, step_size, names=NAMES):
    """The judged rows as utilsforecast's backtest_splits lays them out, series by series and row by
    row.
    """
    id_col, time_col, target_col = names
    rows = []
    for name in sorted(frame[id_col].unique()):
        series = frame[frame[id_col] == name].sort_values(time_col)
        stamps = list(series[time_col])
        values = list(series[target_col])
        for window in range(n_windows):
            last = len(stamps) - horizon - step_size * (n_windows - 1 - window)  # rows of history
            rows += [
                (name, stamps[last + k], stamps[last - 1], values[last + k]) for k in range(horizon)
            ]
    return pd.DataFrame(rows, columns=[id_col, time_col, "cutoff", target_col])


@pytest.mark.parametrize(
    ("horizon", "step_size", "n_windows"), [(1, 1, 1), (4, 1, 5), (4, 2, 3), (3, 3, 4), (2, 5, 3)]
)
@pytest.mark.parametrize("freq", ["D", "h", "MS", "W-SAT"])
def test_the_frame_follows_backtest_splits(horizon, step_size, n_windows, freq):
    frame = long_frame(freq=freq)
    judged = backtest(Naive(horizon), frame, n_windows=n_windows, step_size=step_size).frame
    expected = splits_by_hand(frame, n_windows, horizon, step_size)
    assert list(judged.columns) == [*NAMES[:2], "cutoff", "y", "naive"]
    pd.testing.assert_frame_equal(judged[list(expected.columns)], expected)
    at_cutoff = frame.set_index(["unique_id", "ds"])["y"]
    np.testing.assert_array_equal(
        judged["naive"],
        at_cutoff.loc[list(zip(judged["unique_id"], judged["cutoff"], strict=True))],
    )


def test_other_names_are_kept():
    names = ("shop", "day", "sold")
    frame = long_frame(names=names)
    result = backtest(
        Naive(2),
        frame,
        n_windows=3,
        schema=Schema(id_col="shop", time_col="day", target_col="sold"),
    )
    expected = splits_by_hand(frame, 3, 2, 1, names)
    pd.testing.assert_frame_equal(result.frame[list(expected.columns)], expected)
    dialect = frame.rename(
        columns=dict(zip(names, ("item_id", "timestamp", "target"), strict=True))
    )
    assert list(backtest(Naive(2), dialect).frame.columns) == [
        "item_id",
        "timestamp",
        "cutoff",
        "target",
        "naive",
    ]


@pytest.mark.parametrize("names", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_columns_with_numbers_for_names_keep_them(names):
    frame = long_frame(names=names).astype({names[0]: "category"})
    result = backtest(Naive(3, schema=Schema(*names)), frame, n_windows=2)
    expected = splits_by_hand(frame, 2, 3, 1, names).astype({names[0]: frame[names[0]].dtype})
    pd.testing.assert_frame_equal(result.frame[list(expected.columns)], expected)
    assert result.by_series.index.names == ["model", names[0]]


@pytest.mark.parametrize("as_column", [False, True])
def test_a_wide_table_becomes_a_long_frame_sorted_by_channel(as_column):
    frame = wide_frame()
    melted = frame.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
    data = frame.reset_index(names="date") if as_column else frame
    judged = backtest(Naive(3), data, n_windows=4, step_size=2).frame
    expected = splits_by_hand(melted, 4, 3, 2)
    pd.testing.assert_frame_equal(judged[list(expected.columns)], expected)
    at_cutoff = melted.set_index(["unique_id", "ds"])["y"]
    np.testing.assert_array_equal(
        judged["naive"],
        at_cutoff.loc[list(zip(judged["unique_id"], judged["cutoff"], strict=True))],
    )


MAKERS = {
    "naive": lambda: Naive(4),
    "seasonal_naive": lambda: SeasonalNaive(4, 3),
    "drift": lambda: Drift(4, 5),
}


def scores_by_hand(frame, result, name, season):
    """Every score from the frame alone, standardised by the rows before the first cutoff."""
    table = result.frame
    plain = {}
    means = []
    errors = []
    for series, rows in table.groupby("unique_id"):
        values = frame.loc[frame["unique_id"] == series].sort_values("ds")
        train = values.loc[values["ds"] <= rows["cutoff"].min(), "y"].to_numpy()
        seen = [v for v in train.tolist() if not math.isnan(v)]
        centre = math.fsum(seen) / len(seen)
        spread = math.sqrt(math.fsum((v - centre) ** 2 for v in seen) / len(seen))
        errors += [
            (a - f, spread) for a, f in zip(rows["y"], rows[name], strict=True) if not math.isnan(a)
        ]
        means.append(loops.mase(rows["y"], rows[name], train, season))
    plain["mae"] = loops.average([abs(e) / s for e, s in errors])
    plain["mse"] = loops.average([(e / s) ** 2 for e, s in errors])
    plain["mae_original"] = loops.mae(table["y"], table[name])
    plain["mse_original"] = loops.mse(table["y"], table[name])
    plain["rmse_original"] = loops.rmse(table["y"], table[name])
    plain["smape"] = loops.smape(table["y"], table[name])
    plain["mase"] = loops.average([m for m in means if not math.isnan(m)])
    return plain


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("shape", ["long", "wide"])
def test_scores_equal_loops_over_the_frame(shape, holes):
    rng = np.random.default_rng(3)
    if shape == "long":
        frame = data = long_frame((40, 55, 33))
        if holes:
            frame.loc[rng.choice(np.arange(3, 40), 8, replace=False), "y"] = np.nan
            frame.loc[127, "y"] = np.nan
    else:
        data = wide_frame()
        if holes:
            data = data.mask(rng.random(data.shape) < 0.2)
            data.iloc[0] = 1.0
        frame = (
            data.rename_axis("ds").reset_index().melt("ds", var_name="unique_id", value_name="y")
        )
    result = backtest(
        [make() for make in MAKERS.values()],
        data,
        n_windows=7,
        step_size=2,
        season_length=3,
        schema=Schema(missing="ffill"),
    )
    assert list(result.scores.index) == list(MAKERS)
    assert result.frame["y"].isna().any() == holes
    for name in MAKERS:
        expected = scores_by_hand(frame, result, name, 3)
        scores = result.scores.loc[name, list(expected)]
        np.testing.assert_allclose(
            scores.to_numpy(float), list(expected.values()), rtol=1e-9, err_msg=name
        )
        assert result.scores.loc[name, "n_windows"] == 7
    # each step weighs by what is known of it
    assert list(result.by_step.index) == [(name, step) for name in MAKERS for step in (1, 2, 3, 4)]
    if not holes:
        scores = result.by_step["mae"].unstack("model").mean()
        np.testing.assert_allclose(scores[list(MAKERS)], result.scores["mae"], rtol=1e-12)


def test_quantile_scores_equal_loops():
    data = wide_frame()
    wrapped = SplitConformal(Naive(4), n_windows=20)
    result = backtest(wrapped, data, n_windows=9, level=80, quantiles=[0.25])
    frame = result.frame
    row = result.scores.loc["naive"]
    by_quantile = {0.1: frame["naive-lo-80"], 0.25: frame["naive-q0.25"], 0.9: frame["naive-hi-80"]}
    np.testing.assert_allclose(row["wql"], loops.wql(frame["y"], by_quantile), rtol=1e-12)
    expected = loops.coverage(frame["y"], frame["naive-lo-80"], frame["naive-hi-80"])
    np.testing.assert_allclose(row["coverage-80"], expected, rtol=1e-12)


def tables_by_hand(frame, result, name, season, by):
    """Scores of each group of the frame's rows: series, or steps ahead."""
    table = result.frame
    means = result.panel.until(result.origins[:, 0])
    scale = dict(zip(result.panel.ids, make_scaler(means).scale.ravel(), strict=True))
    keys = (
        table["unique_id"]
        if by == "series"
        else table.groupby(["unique_id", "cutoff"]).cumcount() + 1
    )
    scores_by_key = {}
    for key, rows in table.groupby(keys):
        y = rows["y"]
        point = rows[name]
        spread = rows["unique_id"].map(scale)
        low = rows[f"{name}-lo-80"]
        high = rows[f"{name}-hi-80"]
        scores = {
            "mse": loops.mse(y / spread, point / spread),
            "mae": loops.mae(y / spread, point / spread),
        }
        scores |= {
            f"{metric}_original": getattr(loops, metric)(y, point)
            for metric in ("mse", "mae", "rmse")
        }
        scores["smape"] = loops.smape(y, point)
        if by == "series":
            values = frame.loc[frame["unique_id"] == key].sort_values("ds")
            train = values.loc[values["ds"] <= rows["cutoff"].min(), "y"]
            scores["mase"] = loops.mase(y, point, train, season)
        scores["wql"] = loops.wql(y, {0.1: low, 0.9: high})
        scores_by_key[key] = scores | {"coverage-80": loops.coverage(y, low, high)}
    return pd.DataFrame(scores_by_key).T


@pytest.mark.parametrize("by", ["series", "step"])
@pytest.mark.parametrize("shape", ["long", "wide"])
def test_scores_of_each_series_and_step_equal_loops_over_the_frame(shape, by):
    data = long_frame((60, 75, 53)) if shape == "long" else wide_frame()
    data.iloc[50, -1] = np.nan  # a judged truth that is missing
    frame = (
        data
        if shape == "long"
        else data.rename_axis("ds").reset_index().melt("ds", None, "unique_id", "y")
    )
    models = [SplitConformal(model(4), n_windows=20) for model in (Naive, Drift)]
    schema = Schema(missing="ffill")
    result = backtest(
        models, data, n_windows=7, step_size=2, season_length=3, level=80, schema=schema
    )
    table = getattr(result, f"by_{by}")
    assert table.index.names == ["model", "unique_id" if by == "series" else "step"]
    for name in ("naive", "drift"):
        expected = tables_by_hand(frame, result, name, 3, by)
        pd.testing.assert_frame_equal(
            table.loc[name], expected, check_names=False, check_index_type=False, rtol=1e-9
        )
        assert table.loc[name].columns.isin(result.scores.columns).all()


def test_by_series_keeps_the_ids_of_the_table():
    ids = pd.Categorical.from_codes([2, 0, 1], ["small", "mid", "large"], ordered=True)
    data = pd.concat(
        [long_frame((30,)).drop(columns="unique_id").assign(shop=id) for id in ids],
        ignore_index=True,
    )
    data["shop"] = data["shop"].astype(ids.dtype)
    result = backtest(Naive(2), data, n_windows=3, schema=Schema(id_col="shop"))
    assert result.by_series.index.names == ["model", "shop"]
    assert result.by_series.loc["naive"].index.tolist() == ["small", "mid", "large"]


def test_a_result_is_shown_as_a_table_of_one_line_a_model():
    models = {
        "naive": SplitConformal(Naive(4), n_windows=10),
        "a<b": SplitConformal(Drift(4), n_windows=10),
    }
    result = backtest(models, long_frame((60,) * 9), n_windows=5, step_size=2, level=[50, 80])
    heading, columns, *rows, units = repr(result).splitlines()
    assert heading == "9 series, each judged on 5 windows of 4 rows, 2 rows apart"
    shown = ["mse", "mae", "mae_original", "smape", "mase", "wql", "coverage-50", "coverage-80"]
    assert columns.split() == shown
    assert [row.split()[0] for row in rows] == ["naive", "a<b"]
    np.testing.assert_allclose(
        np.array([row.split()[1:] for row in rows], float), result.scores[shown], rtol=1e-3
    )
    assert all(len(line) < 120 for line in (heading, *rows, units))
    page = result._repr_html_()
    assert heading in page
    assert page.count("<tr") == 3
    assert "a&lt;b" in page
    assert repr(backtest(Naive(1), wide_frame())).startswith(
        "3 series, each judged on 1 window of 1 row\n"
    )


def test_a_wrong_value_among_the_truths_is_told():
    values = np.random.default_rng(0).normal(size=120)
    values[117] = -8888.0
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=120), "y": values}
    )
    message = r"series 'a': -8888 at .* is judged as a truth and rules the scores; make it NaN"
    with pytest.warns(UserWarning, match=message) as caught:
        backtest(Naive(6), frame)
    assert len(caught) == 1
    frame.loc[117, "y"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        missing = backtest(Naive(6, schema=Schema(missing="ffill")), frame).scores
    # A number that stands for none is no truth.
    frame.loc[117, "y"] = -9999.0
    with pytest.warns(
        UserWarning, match="series 'a' has -9999 at .* are read as missing"
    ) as caught:
        pd.testing.assert_frame_equal(backtest(Naive(6), frame).scores, missing)
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:.* far from all other values")
def test_later_values_do_not_tell_what_a_number_stands_for():
    values = np.random.default_rng(0).normal(size=120)
    values[[40, 90]] = -9999.0
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=120), "y": values})
    later = frame.copy()
    # Beside this one -9999 would lie within reach of the others.
    later.loc[119, "y"] = -8000.0
    forecasts = [backtest(Naive(1), table, n_windows=30).frame["naive"] for table in (frame, later)]
    pd.testing.assert_series_equal(*forecasts)
    assert forecasts[0].min() > -10


@pytest.mark.parametrize(
    ("rows", "more", "number"),
    [([40, 130], 1, -8888), ([*range(40, 280, 10)], 23, -9999)],
    ids=["few", "a tenth"],
)
def test_wrong_values_do_not_set_the_scale(rows, more, number):
    """One -9999 among 300 values of temperature would make every error tiny."""
    rng = np.random.default_rng(0)
    values = 15 + 5 * np.sin(np.arange(300) / 12) + rng.normal(size=300)
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=300), "y": values}
    )
    clean = frame.copy()
    frame.loc[rows, "y"] = number
    clean.loc[rows, "y"] = np.nan
    other = clean.assign(unique_id="b", y=3 * values)
    message = (
        rf"series 'a'.* {number} at 2024-02-10 00:00:00 \(and {more} more\).* far from all other"
    )
    with pytest.warns(UserWarning, match=message) as record:
        result = backtest(Naive(7), pd.concat([frame, other]), n_windows=3)
    assert len(record) == 1
    scores = result.by_series.loc["naive"]
    with pytest.warns(UserWarning, match=message.replace("'a'", "'c'")) as record:
        backtest(Naive(7), pd.concat([other, frame.assign(unique_id="c")]), n_windows=3)
    assert len(record) == 1
    for name, y in {"a": clean["y"], "b": other["y"]}.items():
        past = y.to_numpy()[:291]
        row = scores.loc[name]
        assert row["mae"] == pytest.approx(row["mae_original"] / np.nanstd(past)), name
        seasonal = np.nanmean(np.abs(past[7:] - past[:-7]))
        assert row["mase"] == pytest.approx(row["mae_original"] / seasonal), name
    assert result.frame["y"].notna().all()


@pytest.mark.filterwarnings("ignore:.* is judged as a truth")
@pytest.mark.parametrize("kind", ["tail", "shift", "rare", "end"])
def test_values_that_may_be_right_count_in_the_scale(kind):
    rng = np.random.default_rng(1)
    y = {
        "tail": rng.standard_t(2, 400),
        "shift": np.r_[rng.normal(size=200), 1e4 + rng.normal(size=200)],
        "rare": np.where(rng.random(400) < 0.02, 100.0, 0.0),
        # Only rows before the judged ones set the scale.
        "end": np.r_[rng.normal(size=399), 1e4],
    }[kind]
    frame = pd.DataFrame({"unique_id": "a", "ds": pd.date_range("2024-01-01", periods=400), "y": y})
    result = backtest(Naive(5), frame)
    scale = make_scaler(result.panel, result.origins[:, 0]).scale[0, 0]
    scores = result.scores.iloc[0]
    assert scores["mae"] == pytest.approx(scores["mae_original"] / scale)


def test_an_all_missing_span_scores_nan_and_never_zero():
    data = wide_frame(n_channels=1)
    data.iloc[-4:] = np.nan
    with pytest.warns(UserWarning, match="has no value in the judged rows"):
        result = backtest(Naive(4), data, schema=Schema(missing="ffill"))
    assert result.scores.drop(columns="n_windows").isna().all(axis=None)
    assert result.by_step.isna().all(axis=None)
    assert result.frame["naive"].notna().all()


def test_a_series_without_a_season_is_left_out_of_mase_with_a_warning():
    frame = long_frame((30, 30))
    frame.loc[frame["unique_id"] == "s1", "y"] = 3.0
    result = backtest(Drift(2), frame, n_windows=3)
    with pytest.warns(UserWarning, match="mase is undefined .* 1 of 2 series"):
        scores = result.scores.loc["drift", "mase"]
    own_result = backtest(Drift(2), frame[frame["unique_id"] == "s0"], n_windows=3)
    assert scores == pytest.approx(own_result.scores.loc["drift", "mase"], rel=1e-12)


@pytest.mark.parametrize("season", [1, 7, 26, 100])
def test_seasonal_errors_stay_within_each_series(season):
    panel = to_panel(long_frame())
    stops = panel.lengths - 4
    parts = [panel.values[a : a + n, 0] for a, n in zip(panel.starts[:-1], stops, strict=True)]
    expected = [[loops.seasonal(part, season, 1)] for part in parts]
    np.testing.assert_allclose(seasonal_errors(panel, stops, season), expected, rtol=1e-12)


def test_scores_without_forecasts_are_the_same():
    data = wide_frame(300)
    kept, dropped = (
        backtest([Naive(4), Drift(4)], data, n_windows=200, keep=keep) for keep in (True, False)
    )
    pd.testing.assert_frame_equal(kept.scores, dropped.scores)
    with pytest.raises(ValueError, match="keep=True"):
        _ = dropped.frame
    with pytest.raises(ValueError, match="keep=True"):
        compare(dropped, "naive", "drift")


class Counting(Naive):
    """Counts its fits and calls, over all copies."""

    def __init__(self, horizon, **kwargs):
        super().__init__(horizon, **kwargs)
        self.log = Log()

    def _fit(self, panel, context):
        self.log.fits.append(panel.lengths.tolist())
        return super()._fit(panel, context)

    def _points(self, x):
        self.log.calls.append(len(x))
        return super()._points(x)


class Log:
    """Shared by deep copies, so that what happens to a copy is seen."""

    def __init__(self):
        self.fits = []
        self.calls = []

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize(
    ("refit", "fits"), [(False, 1), (True, 7), (1, 7), (2, 4), (3, 3), (7, 1), (9, 1)]
)
def test_refit_means_what_it_says(refit, fits):
    forecaster = Counting(2)
    result = backtest(forecaster, long_frame((30, 40)), n_windows=7, refit=refit)
    assert len(forecaster.log.fits) == fits
    every = 7 if refit is False else int(refit)
    first = np.array([30, 40]) - (2 + 6)
    assert forecaster.log.fits == [(first + w).tolist() for w in range(0, 7, every)]
    assert sum(forecaster.log.calls) == 7 * 2
    pd.testing.assert_frame_equal(
        result.frame, backtest(Naive(2), long_frame((30, 40)), n_windows=7).frame
    )


def test_refits_use_what_was_known_and_no_more():
    """A forecaster of the mean of its training rows tells by its answer which rows those were."""

    class Mean(Naive):
        def _points(self, x):
            mean = self.panel_.values.mean()
            return np.full((x.shape[0], self.horizon, x.shape[2]), mean)

    data = wide_frame(40, 1)
    y = data["load"].to_numpy()
    judged = (
        backtest(Mean(2), data, n_windows=5, step_size=2, refit=2).frame["naive"].to_numpy()[::2]
    )
    np.testing.assert_allclose(
        judged, [y[:30].mean(), y[:30].mean(), y[:34].mean(), y[:34].mean(), y[:38].mean()]
    )


def test_beside_one_that_leaves_missing_values_out_the_others_fill_them_in():
    frame = wide_frame()
    frame.iloc[[7, 30, 31, 55, -1], 1] = np.nan
    models = {"zero": make_forecaster("zero", 2), "naive": Naive(2)}
    settings = {"n_windows": 5, "step_size": 2}
    with pytest.warns(UserWarning, match=r"\(and 4 more\); such values are interpolated for naive"):
        judged = backtest(models, frame, **settings).frame
    own_result = backtest(models["zero"], frame, **settings).frame
    filled = backtest(Naive(2), frame, schema=Schema(missing="interpolate"), **settings).frame
    np.testing.assert_array_equal(judged["zero"], own_result["zero"])
    np.testing.assert_array_equal(judged["naive"], filled["naive"])
    assert judged["y"].isna().sum() == own_result["y"].isna().sum() > 0
    with pytest.warns(UserWarning, match="are interpolated for naive, seasonal_naive"):
        several = backtest([Naive(2), SeasonalNaive(2, 3)], frame, **settings).frame
    np.testing.assert_array_equal(several["naive"], filled["naive"])
    with pytest.raises(ValueError, match="missing='error' allows no missing values"):
        backtest(Naive(2), frame, schema=Schema(missing="error"), **settings)


def test_a_network_fitted_on_rows_without_gaps_reads_later_ones_filled():
    """The first cutoff lies before the gaps, so that the network of its fit has no mask."""
    frame = wide_frame()
    frame.iloc[[-9, -5], 1] = np.nan
    network = attention(horizon=2, max_epochs=1)
    settings = {"n_windows": 5, "step_size": 2}
    judged = backtest(network, frame, **settings).frame
    filling = attention(horizon=2, max_epochs=1, missing="interpolate")
    filled = backtest(filling, frame, **settings).frame
    np.testing.assert_array_equal(judged[network.alias_], filled[network.alias_])


@pytest.mark.parametrize("refit", [0, -1, 1.5, "yes", None])
def test_other_refits_are_refused(refit):
    with pytest.raises(ValueError, match="refit must be False"):
        backtest(Naive(2), long_frame(), n_windows=2, refit=refit)


def test_the_callers_forecaster_and_data_stay_as_they_were():
    class Vandal(Naive):
        def _fit(self, panel, context):
            panel.values[:] = 0
            return super()._fit(panel, context)

    mine = Vandal(2)
    panel = to_panel(wide_frame())
    before = panel.values.copy()
    frame = backtest(mine, panel, n_windows=3).frame
    np.testing.assert_array_equal(panel.values, before)
    np.testing.assert_array_equal(
        frame["naive"], backtest(Naive(2), panel, n_windows=3).frame["naive"]
    )
    # The first rows of a single series are a view.
    backtest(mine, panel.some(0, 1), n_windows=3)
    np.testing.assert_array_equal(panel.values, before)
    with pytest.raises(ValueError, match="not fitted"):
        mine.predict()
    table = long_frame()
    copy = table.copy(deep=True)
    backtest(Vandal(2), table, n_windows=3)
    pd.testing.assert_frame_equal(table, copy)


def test_several_forecasters_by_alias_or_by_name():
    data = wide_frame()
    by_alias = backtest([Naive(2), Drift(2)], data, n_windows=3)
    by_name = backtest({"one": Naive(2), "two": Drift(2)}, data, n_windows=3)
    assert list(by_alias.scores.index) == ["naive", "drift"]
    assert list(by_name.frame.columns)[-2:] == ["one", "two"]
    np.testing.assert_array_equal(by_name.scores.to_numpy(), by_alias.scores.to_numpy())
    assert by_name.scores.index.name == "model"
    numbered = backtest({1: Naive(2), 2: Drift(2)}, data, n_windows=3)
    assert list(numbered.frame.columns)[-2:] == list(numbered.scores.index) == ["1", "2"]


@pytest.mark.parametrize("bad", ["skip", "error"])
@pytest.mark.parametrize("step_size", [1, 7])
@pytest.mark.parametrize(
    "names", [["naive"], ["zero", "seasonal_naive"], ["naive", "least_squares", "drift", "ets"]]
)
def test_too_many_windows_are_refused_with_a_number_that_fits(names, step_size, bad):
    frame = long_frame((60, 41, 55))
    forecasters = [make_forecaster(name, 7) for name in names]
    ask = {"step_size": step_size, "schema": Schema(bad=bad)}
    with pytest.raises(ValueError, match="ask for less: n_windows=") as refused:
        backtest(forecasters, frame, n_windows=99, **ask)
    most = int(re.search(r"n_windows=(\d+) fits$", str(refused.value))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = backtest(forecasters, frame, n_windows=most, **ask)
    assert result.origins.shape[1] == most
    assert result.panel.n_series == (3 if bad == "error" else 1)
    # The others of several series may lend a map windows to learn from.
    if "least_squares" not in names:
        with pytest.raises(ValueError, match=f"ask for less: n_windows={most} fits"):
            backtest(forecasters, frame, n_windows=most + 1, **ask)


def test_a_horizon_without_room_for_a_window_is_told():
    with pytest.raises(ValueError, match="a shorter horizon, since not one window fits"):
        backtest(SeasonalNaive(20, 20), long_frame((30,)), n_windows=2)


def test_a_number_that_fits_is_found_where_errors_tell_none():
    forecaster = make_forecaster("ets", 2, season_length=6)
    with pytest.raises(ValueError, match="ask for less: n_windows=") as refused:
        backtest(forecaster, long_frame((60,)), n_windows=99)
    most = int(re.search(r"n_windows=(\d+) fits$", str(refused.value))[1])
    assert backtest(forecaster, long_frame((60,)), n_windows=most).origins.shape[1] == most


@pytest.mark.parametrize(
    ("forecasters", "data", "kwargs", "message"),
    [
        (
            [Naive(2), Naive(2)],
            wide_frame(),
            {},
            r"names of their own; got \['naive', 'naive'\]: pass a dict",
        ),
        (
            {1: Naive(2), "1": Drift(2)},
            wide_frame(),
            {},
            r"names of their own; got \['1', '1'\].*whose names are text",
        ),
        ([], wide_frame(), {}, "no forecaster to judge"),
        ([Naive(2), Drift(3)], wide_frame(), {}, r"one horizon; got \{'naive': 2, 'drift': 3\}"),
        (
            Naive(2),
            long_frame(),
            {"n_windows": 24, "schema": Schema(bad="error")},
            "too short: series 's2'.*a judged span of 25 rows",
        ),
        (
            SeasonalNaive(2, 20),
            long_frame(),
            {"n_windows": 10, "schema": Schema(bad="error")},
            "seasonal_naive, fitted on the rows before the 11 judged ones: too short",
        ),
        (
            Naive(2),
            wide_frame(),
            {"season_length": 0},
            "season_length must be a whole number of at least 1",
        ),
        (
            Naive(2),
            wide_frame(),
            {"n_windows": 0},
            "n_windows must be a whole number of at least 1; got 0",
        ),
        (
            Naive(2),
            wide_frame(),
            {"n_windows": "3"},
            "n_windows must be a whole number of at least 1; got '3'",
        ),
        (
            Naive(2),
            wide_frame(),
            {"step_size": 0},
            "step_size must be a whole number of at least 1; got 0",
        ),
        (Naive(2), wide_frame(), {"level": 120}, "strictly between 0 and 100"),
        (
            Naive(2, alias="cutoff"),
            wide_frame(),
            {},
            "two columns of the answer would be called 'cutoff'; rename it, or give another alias=",
        ),
        (
            Naive(2, schema=Schema(id_col="cutoff")),
            long_frame(names=("cutoff", "ds", "y")),
            {},
            "two columns of the answer would be called 'cutoff'; rename it$",
        ),
    ],
)
def test_bad_requests_are_refused_with_a_reason(forecasters, data, kwargs, message):
    with pytest.raises(ValueError, match=message) as caught:
        backtest(forecasters, data, **kwargs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mlr", r"a forecaster is needed, .*got 'mlr': write make_forecaster\('mlr', horizon\)"),
        (["naive", "mlr"], r"got 'naive': write make_forecaster\('naive', horizon\)"),
        ({"one": Naive}, r"got the class Naive: write Naive\(\.\.\.\)"),
        ([Naive(2), Drift], r"got the class Drift: write Drift\(\.\.\.\)"),
        (wide_frame(), r"got a DataFrame: write make_forecaster\(name, horizon\)"),
    ],
)
def test_a_name_or_a_class_is_no_forecaster(given, message):
    for ask in (lambda: backtest(given, wide_frame()), lambda: backtest_many(given, wide_frame())):
        with pytest.raises(TypeError, match=message):
            ask()
    first = (
        next(iter(given.values()))
        if isinstance(given, dict)
        else given[-1]
        if isinstance(given, list)
        else given
    )
    wrong = (
        lambda: SplitConformal(first, n_windows=9),
        lambda: AdaptiveConformal(first, n_windows=9),
        lambda: predict_many(first, wide_frame()),
        lambda: refuse_covariates(first, "it"),
    )
    for ask in wrong:
        with pytest.raises(
            TypeError, match="a forecaster is needed, made by its class or by make_forecaster; got"
        ):
            ask()


@pytest.mark.parametrize("level", [0.8, [80, 0.95], (0.5,)])
def test_a_share_is_no_level(level):
    wrong = {float(each) for each in np.atleast_1d(level)} - {80.0}
    message = (
        rf"level is in percent, .*: 80 means 80%; got {min(wrong)}: write"
        rf" level={100 * min(wrong):g}$"
    )
    fitted = SplitConformal(Naive(2), n_windows=9).fit(wide_frame())
    result = backtest([Naive(4), Drift(4)], wide_frame(), n_windows=2)
    asks = [
        lambda: fitted.predict(level=level),
        lambda: backtest(SplitConformal(Naive(2), n_windows=9), wide_frame(), level=level),
        lambda: forecast(wide_frame(), 2, model="drift", level=level),
        lambda: AdaptiveConformal(Naive(2), n_windows=9, levels=np.atleast_1d(level)),
        lambda: compare(result, "naive", "drift", level=min(wrong)),
        lambda: fitted.intervals_.widths(min(wrong)),
        lambda: winkler([1.0], [1.0], [1.0], level=min(wrong)),
    ]
    for ask in asks:
        with pytest.raises(ValueError, match=message):
            ask()


def test_quantiles_close_to_the_median_are_no_mistake():
    fitted = SplitConformal(Naive(2), n_windows=9).fit(wide_frame())
    frame = fitted.predict(quantiles=[0.498, 0.5, 0.502])
    assert (frame["load-q0.498"] <= frame["load-q0.502"]).all()


def test_a_comparison_pairs_the_windows():
    result = backtest([Naive(4), SeasonalNaive(4, 24), Drift(4)], wide_frame(300), n_windows=100)
    comparison = compare(result, "naive", "drift")
    assert comparison.difference == pytest.approx(
        result.scores.loc["naive", "mae"] - result.scores.loc["drift", "mae"]
    )
    assert comparison.low < comparison.difference < comparison.high
    assert comparison.n_windows == 100
    assert 0 <= comparison.share_better <= 1
    back = compare(result, "drift", "naive")
    assert (back.difference, back.low, back.high) == pytest.approx(
        (-comparison.difference, -comparison.high, -comparison.low)
    )
    same = compare(result, "naive", "naive", metric="mse")
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    assert compare(result, "naive", "drift", level=99).low < comparison.low


def test_a_comparison_of_disjoint_windows_is_the_plain_interval():
    result = backtest([Naive(4), Drift(4)], wide_frame(300), n_windows=40, step_size=4)
    gaps = (result.window_errors("naive") - result.window_errors("drift")).mean(axis=0)
    comparison = compare(result, "naive", "drift")
    half = 1.959963984540054 * gaps.std() / math.sqrt(40)
    assert (comparison.low, comparison.high) == pytest.approx(
        (gaps.mean() - half, gaps.mean() + half)
    )


def test_overlapping_windows_widen_the_interval():
    """Neighbouring windows share most truths: treating them as independent would overstate the
    evidence.
    """
    result = backtest([Naive(12), Drift(12)], wide_frame(500, 1).cumsum(), n_windows=200)
    gaps = (result.window_errors("naive") - result.window_errors("drift")).mean(axis=0)
    comparison = compare(result, "naive", "drift")
    assert comparison.high - comparison.low > 1.5 * 2 * 1.96 * gaps.std() / math.sqrt(200)


def test_quantiles_of_points_are_refused_before_another_model_is_fitted(monkeypatch):
    network = attention()

    def fit(*_, **__):
        raise AssertionError("fitted for nothing")

    monkeypatch.setattr(type(network), "fit", fit)
    with pytest.raises(ValueError, match="naive gives points only, no level"):
        backtest([network, Naive(4)], wide_table(np.arange(120.0)[:, None], ["a"]), level=80)


def test_comparisons_that_cannot_be_made_are_refused():
    result = backtest([Naive(4), Drift(4)], wide_frame())
    with pytest.raises(ValueError, match="at least 2 judged windows; got 1"):
        compare(result, "naive", "drift")
    with pytest.raises(ValueError, match=r"models are \['drift', 'naive'\]"):
        compare(result, "naive", "other")
    with pytest.raises(ValueError, match=r"metrics mae, mse, rmse, bias, .*; got 'naive', 'wql'"):
        result.window_errors("naive", "wql")


@pytest.mark.parametrize("metric", POINT_METRICS)
def test_window_errors_are_those_of_the_frame(metric):
    result = backtest(Drift(3), long_frame(), n_windows=4, step_size=2)
    scale = make_scaler(result.panel, result.origins[:, 0]).scale[:, 0]
    windows = result.frame.groupby(["unique_id", "cutoff"])[["y", "drift"]]
    pairs = [window.to_numpy() / scale[n // 4] for n, (_, window) in enumerate(windows)]
    expected = [getattr(loops, metric)(*pair.T) for pair in pairs]
    np.testing.assert_allclose(result.window_errors("drift", metric).ravel(), expected, rtol=1e-12)


# MSE / MAE of ETTh1 at horizons 96, 192, 336, 720 by the published protocol: every test window,
# training statistics. Those of the other data sets are in tests/test_benchmark.py.
PUBLISHED = {
    "naive": "1.2944/.7132 1.3249/.7331 1.3299/.7460 1.3351/.7550",
    "seasonal_naive": ".5122/.4333 .5808/.4692 .6499/.5008 .6554/.5141",
}


def test_published_scores_to_four_digits(data_dir):
    from tsattn.data.cards import load_dataset

    dataset = load_dataset("etth1", data_dir)
    train, first, stop = dataset.split.bounds
    scaler = make_scaler(dataset.panel, train)
    for column, horizon in enumerate((96, 192, 336, 720)):
        rows = np.arange(first, stop - horizon + 1)
        assert len(rows) == (2785, 2689, 2545, 2161)[column]
        ends = ends_of_all(dataset.panel, rows)
        for forecaster in (Naive(horizon), SeasonalNaive(horizon, 24)):
            rolled = roll(forecaster, dataset.panel, ends, scaler=scaler, keep=False)
            mse, mae = PUBLISHED[forecaster.alias_].split()[column].split("/")
            scores = (f"{rolled.mse:.4f}", f"{rolled.mae:.4f}")
            assert scores == (f"{float(mse):.4f}", f"{float(mae):.4f}"), (
                forecaster.alias_,
                horizon,
            )
            assert rolled.n_windows == len(ends)


def test_series_without_a_judged_value_are_told():
    days = pd.date_range("2024-01-01", periods=60)
    values = np.arange(60.0) % 9
    table = pd.DataFrame({"whole": values, "ended": values}, index=days)
    table.loc[days[50:], "ended"] = np.nan
    zero = make_forecaster("zero", 7, weights=tiny_network())
    message = "series 'ended' has no value in the judged rows and counts in no score"
    with pytest.warns(UserWarning, match=message):
        result = backtest(zero, table, n_windows=1)
    assert result.scores["mae"].notna().all()
    with pytest.warns(UserWarning, match=message):
        result = backtest(zero, table[["ended"]], n_windows=1)
    assert result.scores["mae"].isna().all()
    # A series with a value in another window is judged there.
    assert len(backtest(zero, table, n_windows=3, step_size=7).scores) == 1
