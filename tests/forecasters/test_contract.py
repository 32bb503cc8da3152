"""The promises of the base class, kept by every forecaster.

A new forecaster is one line in ``FORECASTERS``: a name, and how to make it for ``H`` steps with a
schema.
"""

import copy
import functools
import pickle
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from tables import seasonal_table, wide_of
from tiny_network import tiny_network

from tsattn.checks import InputWarning
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.data.windows import make_scaler
from tsattn.evaluate.backtest import backtest, roll
from tsattn.evaluate.conformal import AdaptiveConformal, SplitConformal
from tsattn.forecaster import Fitted, forecast_panel
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.auto import AutoForecaster
from tsattn.forecasters.classical import StatsmodelsForecaster
from tsattn.forecasters.gluonts import GluonTSForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Drift, Naive, SeasonalNaive, WindowAverage
from tsattn.forecasters.network import NetworkForecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasters.regression import SklearnForecaster
from tsattn.forecasts import Forecast
from tsattn.nn.config import Network
from tsattn.training.settings import Training

H = 4
SCHEMA = Schema()
FIT = {"context": 12, "training": Training(max_epochs=1), "random_state": 0}
NETWORK = Network(d_model=8, n_heads=2, n_layers=1, d_ff=8, patch_len=4, patch_stride=2)
DEEP = {"context": 12, "max_epochs": 1, "n_paths": 20, "random_state": 0}
FEW = {"num_batches_per_epoch": 2, "batch_size": 8}
GAPS = (1, 2, 7, 40, 41)
GBM = HistGradientBoostingRegressor(max_iter=3, max_leaf_nodes=4, early_stopping=False)


def zero(schema):
    return PretrainedForecaster(H, weights=tiny_network(), schema=schema)


class Auto(AutoForecaster):
    """With candidates that take no time."""

    def _candidates(self, panel, until):
        for each in super()._candidates(panel, 0.0):
            if each.name == "zero":
                yield each._replace(forecaster=zero(self.schema))
            elif each.name in ("naive", "drift", "least_squares"):
                yield each


def auto(schema):
    return Auto(H, schema=schema)


FORECASTERS = {
    "auto": auto,
    "naive": lambda schema: Naive(H, schema=schema),
    "seasonal_naive": lambda schema: SeasonalNaive(H, 6, schema=schema),
    "seasonal_naive by frequency": lambda schema: SeasonalNaive(H, schema=schema),
    "drift": lambda schema: Drift(H, schema=schema),
    "window_average": lambda schema: WindowAverage(H, 5, schema=schema),
    "ets": lambda schema: StatsmodelsForecaster(
        H, "ets", season_length=6, context=24, schema=schema
    ),
    "autoreg": lambda schema: StatsmodelsForecaster(
        H, "autoreg", season_length=6, context=24, schema=schema
    ),
    "ridge": lambda schema: SklearnForecaster(
        H, "ridge", context=12, max_windows=150, random_state=0, schema=schema
    ),
    "gbm": lambda schema: SklearnForecaster(
        H, GBM, context=8, max_windows=100, random_state=0, schema=schema
    ),
    "gluonts deepar": lambda schema: GluonTSForecaster(
        H, "deepar", **DEEP, estimator_args=FEW, schema=schema
    ),
    "gluonts dlinear": lambda schema: GluonTSForecaster(
        H, "dlinear", **DEEP, estimator_args=FEW, schema=schema
    ),
    "conformal naive": lambda schema: SplitConformal(Naive(H, schema=schema), n_windows=12),
    "conformal drift": lambda schema: SplitConformal(
        Drift(H, 5, schema=schema), n_windows=9, step_size=2
    ),
    "conformal zero": lambda schema: SplitConformal(zero(schema), n_windows=12),
    "adaptive naive": lambda schema: AdaptiveConformal(
        Naive(H, schema=schema), n_windows=12, levels=(50, 80)
    ),
    "nlinear": lambda schema: LinearForecaster(H, "nlinear", **FIT, schema=schema),
    "mlr": lambda schema: AttentionForecaster(H, network=NETWORK, **FIT, schema=schema),
    "quantile head": lambda schema: AttentionForecaster(
        H, head="quantile", network=NETWORK, **FIT, schema=schema
    ),
    "zero": zero,
}


@pytest.fixture(params=list(FORECASTERS))
def name(request):
    return request.param


@pytest.fixture
def make(name):
    """A new forecaster, reading tables by the schema given."""
    return lambda schema=SCHEMA: FORECASTERS[name](schema)


@functools.cache
def whole_frame(lengths):
    return seasonal_table(
        lengths, rate=2 * np.pi / 6, noise=0.3, level=3, slope=0.02, seed=7, end="2024-06-30"
    )


def long_frame(lengths=(120, 96, 150), holes=()):
    """Daily series of unlike size and length that end on one day; ``holes`` are rows from the end
    without value.
    """
    frame = whole_frame(lengths)
    if not holes:
        return frame.copy()
    row_from_end = frame.groupby("unique_id").cumcount(ascending=False) + 1
    return frame.assign(y=frame["y"].mask(row_from_end.isin(holes)))


def wide_frame(n_rows=130):
    return wide_of(long_frame((n_rows, n_rows)))


@functools.cache
def fitted(name, kind="long"):
    """Fitted once for all tests that only ask it; a test that fits makes its own."""
    return FORECASTERS[name](SCHEMA).fit(long_frame() if kind == "long" else wide_frame())


@functools.cache
def filled(name, missing):
    """Fitted once on a table with holes that a policy fills."""
    return FORECASTERS[name](Schema(missing=missing)).fit(long_frame(holes=GAPS))


def numbers(answer):
    """The forecasts of a frame, without ids and stamps."""
    return answer.select_dtypes("number").to_numpy()


def last_contexts(panel, context):
    """The last rows of each series; where a series is shorter than another, NaN before it."""
    longest = min(context, int(panel.lengths.max()))
    windows = np.full((panel.n_series, longest, 1), np.nan)
    for window, start, stop in zip(windows, panel.starts[:-1], panel.starts[1:], strict=True):
        rows = panel.values[max(stop - longest, start) : stop]
        window[longest - len(rows) :] = rows
    return windows


def intervals_of(forecaster, **ask):
    """The answer with intervals, or None of a forecaster that refuses them by naming the remedy."""
    try:
        return forecaster.predict(**ask)
    except ValueError as refusal:
        assert "SplitConformal" in str(refusal)  # noqa: PT017  any other refusal is a failure
        return None


def test_a_forecaster_names_its_horizon_context_and_columns(name):
    forecaster = fitted(name)
    assert forecaster.horizon == H
    assert forecaster.min_context >= 1
    assert forecaster.alias_ in fitted(name).predict().columns


def test_fit_returns_self_and_the_fit_before_and_the_order_of_rows_do_not_matter(name, make):
    again = make()
    assert again.fit(wide_frame().reset_index(names="date")) is again
    by_column = again.predict()
    assert list(by_column.columns) == ["date", "s0", "s1"]
    np.testing.assert_array_equal(by_column[["s0", "s1"]], fitted(name, "wide").predict())
    shuffled = long_frame().sample(frac=1, random_state=0)
    assert again.fit(shuffled) is again
    pd.testing.assert_frame_equal(again.predict(), fitted(name).predict())
    pd.testing.assert_frame_equal(fitted(name).predict(shuffled), fitted(name).predict())


def test_predict_before_fit_is_refused(make):
    with pytest.raises(ValueError, match="fit"):
        make().predict(long_frame())


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_inputs_stay_as_they_were(name, kind):
    frame = long_frame() if kind == "long" else wide_frame()
    original = frame.copy(deep=True)
    forecaster = FORECASTERS[name](SCHEMA)
    # A fit on a frame reads it and fits the panel; the fit on the long one stands in the next test.
    panel = forecaster.read(frame)
    values = panel.values.copy()
    print_before = panel.fingerprint()
    answer = forecaster.fit(panel).predict(panel)
    assert isinstance(answer, Forecast)
    np.testing.assert_array_equal(panel.values, values)
    assert panel.fingerprint() == print_before
    expected = fitted(name, kind)
    pd.testing.assert_frame_equal(answer.to_frame(), expected.predict(frame))
    pd.testing.assert_frame_equal(frame, original)
    x = last_contexts(panel, forecaster.max_context)
    before = x.copy()
    forecaster.predict_windows(x)
    np.testing.assert_array_equal(x, before)


def test_nothing_leaks_into_the_process(make, tmp_path, monkeypatch, capfd):
    frame = long_frame()
    original = frame.copy(deep=True)
    monkeypatch.chdir(tmp_path)
    threads, legacy, state = (
        torch.get_num_threads(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
        torch.get_rng_state(),
    )
    make().fit(frame).predict(frame)
    pd.testing.assert_frame_equal(frame, original)
    assert not list(Path(tmp_path).iterdir())
    assert capfd.readouterr() == ("", "")
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_predict_is_predict_windows_on_the_last_context(name, kind):
    forecaster = fitted(name, kind)
    panel = to_panel(long_frame() if kind == "long" else wide_frame())
    windows = forecaster.predict_windows(last_contexts(panel, forecaster.max_context))[0]
    assert windows.shape == (panel.n_series, H, 1)
    np.testing.assert_allclose(forecaster.predict(panel).point, windows[..., 0], rtol=1e-6)


def test_only_the_last_context_rows_count(name):
    forecaster = fitted(name)
    panel = to_panel(long_frame())
    context = forecaster.max_context
    more = last_contexts(panel, min(96, context + 20))
    np.testing.assert_allclose(
        forecaster.predict_windows(more)[0],
        forecaster.predict_windows(more[:, -context:])[0],
        rtol=1e-6,
    )


def test_long_in_long_out(name):
    forecaster = fitted(name)
    out = forecaster.predict()
    assert list(out.columns) == ["unique_id", "ds", forecaster.alias_]
    assert out["unique_id"].tolist() == ["s0"] * H + ["s1"] * H + ["s2"] * H
    assert out["ds"].tolist() == list(pd.date_range("2024-07-01", periods=H)) * 3
    pd.testing.assert_frame_equal(out, forecaster.predict(long_frame()))


def test_wide_in_wide_out(name):
    out = fitted(name, "wide").predict()
    assert list(out.columns) == ["s0", "s1"]
    pd.testing.assert_index_equal(
        out.index,
        pd.date_range("2024-07-01", periods=H, freq="D", name="ds"),
        exact="equiv",
        check_names=True,
    )


def test_a_panel_gives_a_forecast_with_the_same_numbers(name):
    panel = to_panel(long_frame())
    answer = fitted(name).predict(panel)
    assert isinstance(answer, Forecast)
    pd.testing.assert_frame_equal(answer.to_frame(), fitted(name).predict())


def test_unseen_series_are_forecast_without_fitting(name):
    forecaster = fitted(name)
    new = long_frame((100, 110)).replace({"unique_id": {"s0": "new", "s1": "newer"}})
    out = forecaster.predict(new)
    assert out["unique_id"].unique().tolist() == ["new", "newer"]
    windows = forecaster.predict_windows(last_contexts(to_panel(new), forecaster.max_context))[0]
    np.testing.assert_allclose(out[forecaster.alias_], windows.ravel(), rtol=1e-6)


def test_columns_may_have_other_names(name, make):
    names = ["shop", "day", "sold"]
    out = make(Schema(*names)).fit(long_frame().set_axis(names, axis=1)).predict()
    assert list(out.columns)[:2] == names[:2]
    np.testing.assert_array_equal(numbers(out), numbers(fitted(name).predict()))


def test_series_that_change_places_keep_their_forecasts(name):
    """None is told by its number."""
    turned = {"s0": "z", "s1": "y", "s2": "x"}
    out = fitted(name).predict(long_frame().replace({"unique_id": turned}))
    pairs = out.set_index(["unique_id", "ds"]).iloc[:, 0]
    expected = (
        fitted(name)
        .predict()
        .replace({"unique_id": turned})
        .set_index(["unique_id", "ds"])
        .iloc[:, 0]
    )
    np.testing.assert_allclose(pairs.sort_index(), expected.sort_index(), rtol=1e-6)


def test_numbers_of_any_kind_are_read(make):
    whole_frame = long_frame().assign(y=lambda frame: frame["y"].round())
    expected = make().read(whole_frame).fingerprint()
    for dtype in ("float32", "int64", "Float64"):
        assert make().read(whole_frame.astype({"y": dtype})).fingerprint() == expected


def test_forecasts_do_not_depend_on_the_batch(name):
    forecaster = fitted(name)
    panel = to_panel(long_frame())
    x = np.lib.stride_tricks.sliding_window_view(
        panel.values[:120, 0], min(forecaster.max_context, 64)
    )[::8, :, None]
    whole_forecast = forecaster.predict_windows(x)[0]
    # A network in single precision sums in another order in another batch.
    scale = 1e-6 * np.abs(whole_forecast).max() if "zero" in name or name == "auto" else 0
    for batch in (1, 3):
        parts = [
            forecaster.predict_windows(x[first : first + batch])[0]
            for first in range(0, len(x), batch)
        ]
        np.testing.assert_allclose(np.concatenate(parts), whole_forecast, rtol=1e-6, atol=scale)


def test_a_recursive_forecast_does_not_depend_on_longer_series_beside_it(name):
    forecaster = fitted(name)
    frame = long_frame((34, 150))
    short = frame[frame["unique_id"] == "s0"]
    own_forecast = forecaster.predict(short, horizon=2 * H + 1, recursive=True)
    both_forecasts = forecaster.predict(frame, horizon=2 * H + 1, recursive=True)
    np.testing.assert_allclose(
        numbers(both_forecasts[both_forecasts["unique_id"] == "s0"]),
        numbers(own_forecast),
        rtol=1e-4,
        atol=1e-5,
    )


def test_scores_do_not_depend_on_the_chunk(name):
    forecaster = fitted(name, "wide")
    panel = to_panel(wide_frame())
    ends = np.arange(64, 127, 8)
    scaler = make_scaler(panel, 60)
    scores = []
    for chunk in (1, 3, 10_000):
        rolled = roll(forecaster, panel, ends, scaler=scaler, chunk=chunk, keep=False)
        scores.append((rolled.mse, rolled.mae, rolled.mse_original, rolled.smape))
    np.testing.assert_allclose(scores, np.broadcast_to(scores[0], (3, 4)), rtol=1e-6)


def test_no_window_is_no_error(name):
    context = fitted(name).max_context
    assert fitted(name).predict_windows(np.empty((0, context, 1)))[0].shape == (0, H, 1)


@pytest.mark.parametrize("missing", ["ffill", "interpolate"])
def test_forecasts_are_never_missing(name, make, missing):
    holed = long_frame(holes=GAPS)
    with pytest.raises(ValueError, match="missing"):
        make(Schema(missing="error")).fit(holed)
    forecaster = filled(name, missing)
    assert np.isfinite(numbers(forecaster.predict())).all()
    assert np.isfinite(numbers(forecaster.predict(holed))).all()
    x = np.full((2, forecaster.max_context, 1), np.nan)
    with pytest.raises(ValueError, match="finite"):
        forecaster.predict_windows(x)


@pytest.mark.filterwarnings("ignore:no series has a value in the last")
def test_unless_asked_missing_values_are_left_out_or_interpolated_with_a_word(name, make):
    holed = long_frame(holes=GAPS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        forecaster = make().fit(holed)
    assert np.isfinite(numbers(forecaster.predict())).all()
    is_told = any("are interpolated for" in str(warning.message) for warning in caught)
    assert is_told != forecaster.masks_
    if not forecaster.masks_:
        chosen = filled(name, "interpolate")
        np.testing.assert_array_equal(numbers(forecaster.predict()), numbers(chosen.predict()))


def test_empty_cells_before_the_first_value_of_a_series_count_for_nothing(name, make):
    long = fitted(name).predict()
    wide = make().fit(wide_of(long_frame())).predict()
    for series, column in wide.items():
        rows = long[long["unique_id"] == series]
        np.testing.assert_array_equal(column, rows.iloc[:, 2])


def test_constant_series_have_finite_forecasts(make):
    constant = long_frame().assign(y=5.0)
    np.testing.assert_allclose(numbers(make().fit(constant).predict()), 5.0, rtol=1e-5)


def test_a_short_series_is_one_clear_error(name, make):
    context = fitted(name).min_context
    short = long_frame((120, max(context - 1, 1)))
    if isinstance(fitted(name), NetworkForecaster):  # another forecaster takes its place
        with pytest.warns(UserWarning, match="1 of 2 series have fewer than 8 rows of history"):
            assert len(fitted(name).predict(short)) == 2 * H
        return
    if context == 1:  # one row suffices: a series of one is no error
        assert len(fitted(name).predict(short)) == 2 * H
        return
    with pytest.warns(UserWarning, match="left out: series 's1' has too few rows"):
        answer = fitted(name).predict(short)
    left_out = answer[answer["unique_id"] == "s1"]
    assert left_out[left_out.columns[2:]].isna().all(axis=None)
    own_rows = short[short["unique_id"] == "s1"]
    with pytest.raises(ValueError, match="too short: series 's1'") as caught:
        fitted(name).predict(own_rows)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"T >= \d+ rows"):
        fitted(name).predict_windows(np.zeros((1, context - 1, 1)))[0]


def test_a_panel_of_another_frequency_is_refused(name):
    days = to_panel(long_frame())
    hours = to_panel(
        long_frame().assign(
            ds=lambda f: pd.Timestamp("2024-01-01") + (f["ds"] - f["ds"].min()) / 24
        )
    )
    with pytest.raises(ValueError, match="fitted on frequency 'D'; got 'h'; resample, or fit anew"):
        fitted(name).predict(hours)
    assert len(fitted(name).predict(days).to_frame()) == 3 * H


def test_a_shorter_horizon_is_a_prefix(name):
    panel = to_panel(long_frame())
    whole_forecast = forecast_panel(fitted(name), panel)
    for steps in range(1, H + 1):
        part = forecast_panel(fitted(name), panel, horizon=steps)
        np.testing.assert_array_equal(part.point, whole_forecast.point[:, :steps])
    if fitted(name).reaching(H + 1) is not fitted(name):
        longer = forecast_panel(
            FORECASTERS[name](SCHEMA).set_params(horizon=H + 1).fit(panel), panel
        )
        np.testing.assert_array_equal(
            forecast_panel(fitted(name), panel, horizon=H + 1).point, longer.point
        )
        assert fitted(name).horizon == H
        return
    with pytest.raises(ValueError, match=f"horizon = {H + 1} is longer"):
        forecast_panel(fitted(name), panel, horizon=H + 1)


@pytest.mark.parametrize("steps", [H - 1, H + 2])
def test_a_horizon_that_is_set_after_the_fit_is_served_or_refused_in_words(name, steps, tmp_path):
    if "horizon" not in fitted(name).get_params(deep=False):
        return  # of a conformal one the forecaster has it
    changed = copy.copy(fitted(name)).set_params(horizon=steps)
    windows = last_contexts(to_panel(long_frame()), 40)
    bound = name in ("auto", "ridge", "gbm") or name.startswith("gluonts")
    if bound or (isinstance(changed, NetworkForecaster) and steps > H):
        rule = (
            f"not that of the fit, {H}; fit again, or set it back"
            if bound
            else f"longer than the {H} steps that"
        )
        for ask in (
            changed.predict,
            lambda: changed.predict_windows(windows),
            lambda: changed.save(tmp_path / "it"),
        ):
            with pytest.raises(ValueError, match=f"horizon = {steps} is {rule}"):
                ask()
        assert not (tmp_path / "it").exists()
        assert len(changed.set_params(horizon=H).predict()) == 3 * H
    else:
        assert len(changed.predict()) == 3 * steps
        assert changed.predict_windows(windows[:, -changed.max_context :])[0].shape == (3, steps, 1)


@pytest.mark.parametrize(
    ("name", "changes"), [("ridge", {"regressor": "gbm"}), ("gluonts dlinear", {"model": "deepar"})]
)
def test_what_was_fitted_does_not_answer_for_another_model_that_is_set(name, changes, tmp_path):
    changed = copy.copy(fitted(name)).set_params(**changes)
    for ask in (changed.predict, lambda: changed.save(tmp_path / "it")):
        with pytest.raises(
            ValueError, match=r"= '\w+' is not that of the fit, '\w+'; fit again, or set it back"
        ):
            ask()


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_levels_and_quantiles_are_one_and_do_not_cross(name, kind):
    forecaster = fitted(name, kind)
    by_level = intervals_of(forecaster, level=[50, 80])
    if by_level is None:
        return
    by_quantile = forecaster.predict(quantiles=[0.1, 0.25, 0.5, 0.75, 0.9])
    heads = ["s0", "s1"] if kind == "wide" else [forecaster.alias_]
    for head in heads:
        for level, lower, upper in ((50, 0.25, 0.75), (80, 0.1, 0.9)):
            np.testing.assert_array_equal(
                by_level[f"{head}-lo-{level}"], by_quantile[f"{head}-q{lower}"]
            )
            np.testing.assert_array_equal(
                by_level[f"{head}-hi-{level}"], by_quantile[f"{head}-q{upper}"]
            )
        ladder = by_quantile[[f"{head}-q{q}" for q in (0.1, 0.25, 0.5, 0.75, 0.9)]].to_numpy()
        assert (np.diff(ladder, axis=1) >= 0).all()
        np.testing.assert_array_equal(by_level[head], by_quantile[head])
        np.testing.assert_array_equal(by_level[head], forecaster.predict()[head])


@pytest.mark.parametrize("ask", [{"level": 100}, {"level": [80, -1]}, {"quantiles": [0.5, 1.5]}])
def test_bad_requests_are_refused(name, ask):
    with pytest.raises(ValueError, match="strictly between 0 and"):
        fitted(name).predict(**ask)


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda f: pickle.loads(pickle.dumps(f))], ids=["deepcopy", "pickle"]
)
def test_copies_forecast_alike(name, twin):
    other = twin(fitted(name))
    assert other is not fitted(name)
    pd.testing.assert_frame_equal(other.predict(), fitted(name).predict())
    pd.testing.assert_frame_equal(
        other.predict(long_frame((97, 98))), fitted(name).predict(long_frame((97, 98)))
    )


def later_rows(frame, n_rows=5):
    """The last rows of each series once more, after its end."""
    later = frame.groupby("unique_id").tail(n_rows)
    return later.assign(ds=later["ds"] + pd.Timedelta(n_rows, "D"))


def test_later_rows_are_taken_in_without_a_fit(name):
    model = copy.deepcopy(fitted(name))
    later = later_rows(long_frame())
    # A series may be new, and its first rows too few.
    new = later.iloc[:1].assign(unique_id="new")
    short = model.min_context > 1
    expectation = nullcontext()
    if short:
        expectation = pytest.warns(InputWarning, match="left out: series 'new'")
    elif isinstance(model, NetworkForecaster):
        expectation = pytest.warns(UserWarning, match="1 of 4 series have fewer than")
    expected = model.predict(pd.concat([long_frame(), later]))
    with expectation as warned:
        assert model.update(pd.concat([later, new])) is model
    assert warned is None or Path(warned[0].filename) == Path(__file__)
    forecast = model.predict()
    assert set(forecast["unique_id"]) == {*expected["unique_id"], "new"}
    known = forecast[forecast["unique_id"] != "new"].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, expected)
    if not short:
        assert forecast.notna().all(axis=None)


@pytest.mark.parametrize("name", ["auto", "seasonal_naive", "conformal drift", "zero"])
def test_later_rows_are_saved(name, tmp_path):
    model = copy.deepcopy(fitted(name))
    later = later_rows(long_frame(), n_rows=12)
    new = later[later["unique_id"] == later["unique_id"].iloc[0]].assign(unique_id="new")
    model.update(pd.concat([later, new])).save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())
    # Also in a loaded one, which has the end of each series alone.
    once_more = later_rows(pd.concat([later, new]))
    expected = model.update(once_more).predict()
    pd.testing.assert_frame_equal(loaded.update(once_more).predict(), expected)


def test_a_new_series_that_is_too_short_spoils_no_file(tmp_path):
    model = copy.deepcopy(fitted("seasonal_naive"))
    new = later_rows(long_frame()).iloc[:1].assign(unique_id="new")
    with pytest.warns(InputWarning, match="left out: series 'new' has too few rows"):
        model.update(new).save(tmp_path / "model")
    loaded = SeasonalNaive.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())


# --- the leak test --------------------------------------------------------------------------------

N_WINDOWS = 2
STEP = 3
FILLED = Schema(missing="interpolate")
# Missing just before cutoffs, so that a fill that looks ahead gives itself away.
HOLES = tuple(H + STEP * w + 1 for w in range(N_WINDOWS))


def assert_blind(judge, frame):
    """Nothing after a cutoff may matter: the rows from an origin on are changed, and all earlier
    windows compared.

    Args:
        judge: From a frame to the frame of a backtest.
        frame: Long.
    """
    honest = judge(frame)
    window = honest.groupby("unique_id")["cutoff"].rank(method="dense").astype(int) - 1
    assert window.max() == N_WINDOWS - 1
    from_end = frame.groupby("unique_id").cumcount(ascending=False)
    columns = [c for c in honest.columns if c not in ("unique_id", "ds", "cutoff", "y")]
    for w in (0, N_WINDOWS - 1):
        after = from_end < H + STEP * (N_WINDOWS - 1 - w)
        changed = frame.assign(y=frame["y"].where(~after, -30 * frame["y"] + 1000))
        assert not changed.loc[after, "y"].equals(frame.loc[after, "y"])
        earlier = (window <= w).to_numpy()
        actual = judge(changed).loc[earlier, columns].to_numpy()
        expected = honest.loc[earlier, columns].to_numpy()
        assert np.isfinite(expected).all()
        if not np.allclose(actual, expected, rtol=1e-6):
            raise AssertionError(f"a forecast knew the future of its cutoff {w}")


def judged(make, **kwargs):
    def judge(frame):
        return backtest(make(FILLED), frame, n_windows=N_WINDOWS, step_size=STEP, **kwargs).frame

    return judge


@pytest.mark.parametrize("refit", [False, True])
def test_no_forecast_and_no_interval_knows_its_future(name, make, refit):
    level = None if intervals_of(fitted(name), level=50) is None else [50]
    assert_blind(judged(make, refit=refit, level=level), long_frame(holes=HOLES))


def test_a_forecaster_that_peeks_is_caught():
    class Peeking(Naive):
        """Looks its context up in the whole table, which it was handed by the back door."""

        def __init__(self, panel):
            super().__init__(H)
            self.whole = panel.values[:, 0]

        @property
        def context(self):
            return 12

        def _points(self, x):
            views = np.lib.stride_tricks.sliding_window_view(self.whole, 12)
            places = [int(np.argmin(np.abs(views - window[:, 0]).sum(axis=1))) for window in x]
            return np.stack([self.whole[at + 12 : at + 12 + H, None] for at in places])

    def judge(frame):
        panel = to_panel(frame)
        return backtest(Peeking(panel), panel, n_windows=N_WINDOWS, step_size=STEP).frame

    with pytest.raises(AssertionError, match="knew the future"):
        assert_blind(judge, long_frame())


@dataclass(frozen=True, eq=False)
class MeanFitted(Fitted):
    """One number."""

    mean: float


class Mean(Naive):
    """Learns one number from all rows that it is given."""

    def _fit(self, panel, context):
        return MeanFitted(float(np.nanmean(panel.values)), panel=panel)

    def _points(self, x):
        return np.full((x.shape[0], self.horizon, x.shape[2]), self.state_.mean)


def test_a_backtest_that_fits_on_everything_is_caught():
    def leaking(frame):
        panel = to_panel(frame)
        honest = backtest(Mean(H), panel, n_windows=N_WINDOWS, step_size=STEP)
        ends = panel.starts[:-1, None] + honest.origins
        rolled = roll(Mean(H).fit(panel), panel, ends)
        return honest.frame.assign(naive=rolled.point.ravel())

    assert_blind(
        lambda frame: backtest(Mean(H), frame, n_windows=N_WINDOWS, step_size=STEP).frame,
        long_frame(),
    )
    with pytest.raises(AssertionError, match="knew the future"):
        assert_blind(leaking, long_frame())


@pytest.mark.filterwarnings("ignore:series .* is far from all other values")
def test_a_fill_that_looks_ahead_is_caught():
    def leaking(frame):
        filled = frame.assign(
            y=frame.groupby("unique_id")["y"].transform(lambda y: y.interpolate())
        )
        return backtest(Naive(H), filled, n_windows=N_WINDOWS, step_size=STEP).frame

    with pytest.raises(AssertionError, match="knew the future"):
        assert_blind(leaking, long_frame(holes=HOLES))


def test_a_score_is_minus_the_error_of_all_windows_in_scales_of_the_fit(name):
    forecaster = fitted(name)
    frame = long_frame()
    whole = frame[frame["unique_id"] == "s1"]
    last = whole.tail(30)
    values = last["y"].to_numpy()
    has_context = forecaster.max_context <= len(last) - H
    first = forecaster.max_context if has_context else (len(last) - H) // 2
    errors = []
    for end in range(first, len(last) - H + 1):
        point = forecaster.predict(last.head(end))[forecaster.alias_]
        errors.append(np.abs(point - values[end : end + H]))
    trained = whole["y"].to_numpy()
    if isinstance(forecaster, NetworkForecaster):
        trained = trained[: -int(0.1 * len(trained))]
    expected = -np.mean(errors) / trained.std()
    assert forecaster.score(last) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["auto", "seasonal_naive", "conformal drift", "zero", "nlinear"])
def test_later_rows_and_files_leave_the_score(name, tmp_path):
    model = copy.deepcopy(fitted(name))
    recent = long_frame().groupby("unique_id").tail(40)
    score = model.score(recent)
    later = later_rows(long_frame(), n_rows=12).assign(y=lambda rows: 9 * rows["y"])
    new = later[later["unique_id"] == later["unique_id"].iloc[0]].assign(unique_id="new")
    model.update(pd.concat([later, new])).save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert model.score(recent) == loaded.score(recent) == pytest.approx(score, rel=1e-6)


def test_a_score_leaves_out_missing_truths_and_windows_without_a_value():
    model = fitted("zero")
    frame = long_frame()
    last = frame[frame["unique_id"] == "s1"].tail(30).reset_index(drop=True)
    holed = last.assign(y=last["y"].mask(last.index.isin([15, 20])))
    values = holed["y"].to_numpy()
    errors = []
    for end in range(13, 27):
        point = model.predict_windows(values[None, :end, None])[0].ravel()
        errors.append(np.abs(point - values[end : end + H]))
    scale = frame.loc[frame["unique_id"] == "s1", "y"].std(ddof=0)
    assert model.score(holed) == pytest.approx(-np.nanmean(errors) / scale, rel=1e-5)
    masked = FORECASTERS["mlr"](Schema(missing="mask")).fit(frame)
    empty = frame.groupby("unique_id").cumcount().between(40, 60)
    assert masked.score(frame.assign(y=frame["y"].mask(empty))) < 0


def test_a_fit_needs_no_scale_and_a_score_does():
    frame = long_frame()
    large = Naive(H).fit(frame.assign(y=1e200 * frame["y"]))
    assert large.predict()["naive"].notna().all()
    with pytest.raises(ValueError, match=r"squares leave float64, .* give them in a larger unit"):
        large.score(frame)
