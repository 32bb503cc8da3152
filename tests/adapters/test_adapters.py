"""The adapters to sktime, GluonTS and others: the same numbers on both sides."""

import doctest
import json
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import tsattn.adapters
from tsattn import make_forecaster
from tsattn.data.frames import from_long
from tsattn.evaluate import metrics
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Naive, SeasonalNaive, WindowAverage
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasts import Forecast

# Networks compute in float32, and where a window lies in memory moves the last digits.
FLOAT32 = 1e-5
NET = {"d_model": 4, "n_heads": 2, "n_layers": 1, "d_ff": 8, "patch_len": 4, "patch_stride": 4}


def linear(horizon=3, **params):
    return LinearForecaster.from_settings(
        horizon=horizon, **{"context": 12, "max_epochs": 2, "random_state": 0, **params}
    )


def network(horizon=3, **params):
    return AttentionForecaster.from_settings(
        horizon=horizon, **{**NET, "context": 12, "max_epochs": 1, "random_state": 0, **params}
    )


# --- the doors ------------------------------------------------------------------------------------


def test_doors_list_and_refuse():
    assert tsattn.adapters.__all__ == [
        "from_gluonts",
        "register_transformers",
        "to_gluonts",
        "to_sktime",
    ]
    assert set(tsattn.adapters.__all__) <= set(dir(tsattn.adapters))
    with pytest.raises(
        AttributeError, match=r"module 'tsattn\.adapters' has no attribute 'to_darts'"
    ):
        tsattn.adapters.to_darts  # noqa: B018


def fresh(code):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_doors_opens_none():
    code = (
        "import sys, tsattn.adapters;print([n for n in ('torch', 'pandas', 'gluonts', 'sktime',"
        " 'transformers') if n in sys.modules])"
    )
    assert fresh(code) == "[]\n"


@pytest.mark.parametrize(
    ("door", "package", "remedy"),
    [
        ("to_sktime", "sktime", "pip install 'tsattn[sktime]'"),
        ("register_transformers", "transformers", "pip install 'tsattn[transformers]'"),
        ("to_gluonts", "gluonts", "pip install gluonts"),
    ],
)
def test_missing_package_is_named_with_its_remedy(door, package, remedy, monkeypatch):
    for name in [
        n for n in sys.modules if n == f"tsattn.adapters.{package}" or n.split(".")[0] == package
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(vars(tsattn.adapters), door, raising=False)

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(
        ModuleNotFoundError, match=rf"{door} needs {package}; install it with: .*"
    ) as caught:
        getattr(tsattn.adapters, door)
    assert remedy in str(caught.value)


# --- sktime ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sk():
    """sktime's forecaster class and suite."""
    pytest.importorskip("sktime")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sktime.utils.estimator_checks import check_estimator

        from tsattn.adapters import sktime
    return SimpleNamespace(check=check_estimator, module=sktime, make=sktime.to_sktime)


def sktime_results(sk, model, **selection):
    """Names of sktime's checks and what came of each; what sktime says of itself is not judged
    here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sk.check(model, raise_exceptions=False, verbose=0, **selection)


def assert_all_passed(results, least):
    failed = {
        name: result
        for name, result in results.items()
        if not isinstance(result, str) or result != "PASSED"
    }
    assert failed == {}
    assert len(results) >= least


def test_new_values_of_a_single_series_count_under_any_name(sk):
    history = pd.Series(np.sin(np.arange(60.0)), pd.date_range("2024-01-01", periods=60), name="y")
    new = pd.Series(500.0, pd.date_range("2024-03-01", periods=3))
    forecasts = []
    for later in (new.rename("y"), new, new.rename("other")):
        model = sk.make(LinearForecaster(3, "rlinear", context=14, closed_form=True))
        model.fit(history, fh=[1, 2]).update(later, update_params=False)
        forecasts.append(model.predict().tolist())
    assert forecasts[0] == forecasts[1] == forecasts[2]
    assert max(forecasts[0]) > 2


SLICE = [
    "test_constructor",
    "test_clone",
    "test_predict_time_index",
    "test_predict_quantiles",
]


def test_slice_of_the_suite_of_sktime(sk):
    """Of the linear forecaster; the test below has the others."""
    model = sk.module.TsattnForecaster(**sk.module.TsattnForecaster.get_test_params()[0])
    results = sktime_results(sk, model, tests_to_run=SLICE)
    assert_all_passed(results, 30)
    assert {name.split("[")[0] for name in results} == set(SLICE)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2], ids=["linear", "attention", "pretrained"])
def test_whole_suite_of_sktime(sk, number, record_testsuite_property):
    model = sk.module.TsattnForecaster(**sk.module.TsattnForecaster.get_test_params()[number])
    results = sktime_results(sk, model)
    passed = sum(isinstance(result, str) and result == "PASSED" for result in results.values())
    record_testsuite_property(
        f"checks, {['linear', 'attention', 'pretrained'][number]}", f"{passed} of {len(results)}"
    )
    assert_all_passed(results, 350)


def test_suite_of_sktime_sees_an_index_that_is_off_by_one(sk, monkeypatch):
    right = sk.module.TsattnForecaster._index
    monkeypatch.setattr(
        sk.module.TsattnForecaster, "_index", lambda self, fh: right(self, fh).shift(1)
    )
    model = sk.module.TsattnForecaster(**sk.module.TsattnForecaster.get_test_params()[0])
    results = sktime_results(sk, model, tests_to_run=["test_predict_time_index"])
    assert any(result != "PASSED" for result in results.values())


def monthly(n=80, columns=("a", "b")):
    t = np.arange(n)
    rng = np.random.default_rng(0)
    values = {
        c: 10 * i + np.sin(t / 2 + i) + 0.1 * rng.normal(size=n) for i, c in enumerate(columns)
    }
    return pd.DataFrame(values, index=pd.period_range("2015-01", periods=n, freq="M"))


@pytest.mark.parametrize("make", [linear, network])
def test_sktime_forecasts_are_ours(sk, make):
    y = monthly()
    model = sk.make(make(9)).fit(y, fh=[1, 3])
    ours = make(3, val_size=8).fit(y.reset_index(drop=True))
    answer = model.predict()
    np.testing.assert_allclose(answer, ours.predict().iloc[[0, 2]], rtol=FLOAT32)
    assert answer.index.astype(str).tolist() == ["2021-09", "2021-11"]
    bands = model.predict_interval(coverage=0.6)
    frame = ours.predict(level=60).to_numpy().reshape(3, 2, 3)[[0, 2]]
    np.testing.assert_allclose(bands.to_numpy().reshape(2, 2, 2), frame[:, :, 1:], rtol=FLOAT32)


def test_sktime_series_gives_a_series_and_stamps_stay(sk):
    y = monthly(columns=("only",))["only"]
    stamped = y.set_axis(pd.date_range("2024-02-27", periods=80, freq="D"))
    answers = [sk.make(linear()).fit(each, fh=[2]).predict() for each in (y, stamped)]
    assert [answer.name for answer in answers] == ["only", "only"]
    assert answers[1].index[0] == pd.Timestamp("2024-05-18")
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(("value", "fault"), [(np.nan, "no value"), (np.inf, "an infinite value")])
def test_sktime_columns_without_numbers_are_named(sk, value, fault):
    y = monthly(columns=("full", "hole")).assign(hole=value)
    for each, name in ((y, "'hole'"), (y["hole"].rename(None), "0")):
        with pytest.raises(ValueError, match=f"column {name} of y has {fault} in 80 rows"):
            sk.make(PretrainedForecaster(1)).fit(each, fh=[1])


@pytest.mark.parametrize("refit", [True, False])
def test_sktime_rows_with_a_gap_are_refused(sk, refit):
    months = monthly(columns=("only",))["only"]
    days = months.set_axis(pd.date_range("2024-02-27", periods=80, freq="D"))
    for y in (months, days, months.reset_index(drop=True)):
        message = f"must follow one another; got {y.index[6]} after {y.index[4]}; reindex y"
        with pytest.raises(ValueError, match=message):
            sk.make(linear()).fit(y.drop(y.index[5]), fh=[2])
        model = sk.make(linear()).fit(y[:70], fh=[2])
        message = f"got {y.index[73]} after {y.index[69]}; reindex y"
        with pytest.raises(ValueError, match=message):
            model.update(y[73:], update_params=refit)
        missing = y.where(y.index != y.index[71])
        assert np.isfinite(model.update(missing[70:], update_params=refit).predict()).all()


STOCK_DAYS = pd.bdate_range("2024-01-01", periods=82).delete([10, 40])
HOURS = pd.date_range("2024-01-01", periods=200, freq="h")


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(STOCK_DAYS, id="stock exchange"),
        pytest.param(HOURS[(HOURS.hour > 7) & (HOURS.hour < 18)][:80], id="shop"),
        pytest.param(pd.date_range("2000-01-01", periods=80, freq="MS").shift(14, "D"), id="15th"),
        pytest.param(pd.date_range("2024-01-10", periods=80, tz="Europe/Berlin"), id="summer time"),
    ],
)
def test_sktime_closed_days_and_unlike_months_are_no_gaps(sk, index):
    y = monthly(columns=("only",))["only"]
    fits = [sk.make(linear()).fit(each, fh=[2]) for each in (y, y.set_axis(index))]
    np.testing.assert_array_equal(*[fit.forecaster_.predict().point for fit in fits])


def test_sktime_shrinks_context_patches_and_validation(sk):
    y = monthly(11)
    model = sk.make(network(1, context=48, patch_len=16, patch_stride=8)).fit(y, fh=[1, 2])
    fitted = model.forecaster_
    assert (fitted.horizon, fitted.val_size, fitted.context) == (2, 2, 7)
    assert (fitted.network.patch_len, fitted.network.patch_stride) == (7, 7)
    assert model.get_params()["forecaster"].context == 48
    model = sk.make(linear()).fit(y.iloc[:4], fh=[1, 2, 3])  # one row of context, none held back
    assert (model.forecaster_.context_, model.forecaster_.val_size) == (1, 0)
    assert np.isfinite(model.predict().to_numpy()).all()
    with pytest.raises(ValueError, match="nothing is known about errors"):
        model.predict_quantiles(alpha=[0.1])
    with pytest.raises(ValueError, match="3 rows hold no window of one row before 3 steps"):
        sk.make(linear()).fit(y.iloc[:3], fh=[1, 2, 3])


def test_sktime_stretches_where_errors_do_not_reach(sk):
    from scipy.stats import norm

    y = monthly(40, columns=("a",))
    model = sk.make(linear(2, val_size=5)).fit(
        y, fh=[1, 2]
    )  # 4 calibration windows of 2 steps: level 80 at most
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        within = model.predict_quantiles(alpha=[0.1, 0.5, 0.9])
    point = model.predict()["a"].to_numpy()
    np.testing.assert_array_equal(within[("a", 0.5)], point)
    x = y.to_numpy()
    ends = range(len(x) - 5, len(x) - 1)
    # Errors count in deviations of their windows.
    errors = [
        np.abs(x[e : e + 2, 0] - model.forecaster_.predict_windows(x[None, e - 12 : e])[0][0, :, 0])
        / x[e - 12 : e].std()
        for e in ends
    ]
    largest = np.max(errors, axis=0) * x[-12:].std()
    np.testing.assert_allclose(within[("a", 0.9)] - point, largest, rtol=FLOAT32)
    with pytest.warns(
        UserWarning, match=r"level 95 needs more than n = 4 calibration errors.*level 80"
    ):
        beyond = model.predict_quantiles(alpha=[0.025, 0.975])
    wide = largest * norm.ppf(0.975) / norm.ppf(0.9)
    np.testing.assert_allclose(beyond[("a", 0.975)] - point, wide, rtol=FLOAT32)
    np.testing.assert_allclose(point - beyond[("a", 0.025)], wide, rtol=FLOAT32)


@pytest.mark.parametrize(
    "val_size", [40, 5]
)  # where errors reach all levels, and where they reach 80 at most
def test_sktime_bounds_under_a_transform_are_those_of_their_own_side(sk, val_size):
    y = np.exp(monthly(60, columns=("a",)))
    given = linear(2, val_size=val_size)
    given.set_params(training__target_transform="log1p")
    model = sk.make(given).fit(y, fh=[1, 2])
    alpha = [0.1, 0.5, 0.9]
    own = model.forecaster_.predict_windows(y.to_numpy()[None, -12:], quantiles=alpha)[1][0, :, 0]
    np.testing.assert_allclose(model.predict_quantiles(alpha=alpha), own, rtol=1e-9)
    assert (own[:, 1] - own[:, 0] < 0.9 * (own[:, 2] - own[:, 1])).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert (model.predict_quantiles(alpha=[0.001]) >= 0).all(axis=None)


def test_sktime_takes_probabilities_that_differ_by_rounding(sk):
    y = monthly(columns=("a",))
    for given in (linear(2, val_size=40), network(2, head="quantile")):
        model = sk.make(given).fit(y, fh=[1, 2])
        bounds = model.predict_quantiles(alpha=[0.33, 0.67, 1 - 0.67])
        assert (bounds["a"][0.33] == bounds["a"][1 - 0.67]).all()
        assert (bounds["a"][0.33] < bounds["a"][0.67]).all()


def test_sktime_asks_a_head_for_its_own_quantiles(sk):
    y = monthly()
    model = sk.make(network(2, head="quantile")).fit(y, fh=[1, 2])
    alpha = [0.9, 0.1, 0.5]
    bounds = model.predict_quantiles(alpha=alpha)
    own = model.forecaster_.predict_windows(y.to_numpy()[None, -12:], quantiles=sorted(alpha))[1][0]
    np.testing.assert_allclose(bounds, own[..., [2, 0, 1]].reshape(2, -1), rtol=FLOAT32)
    assert list(bounds.columns) == [(name, a) for name in y.columns for a in alpha]
    with pytest.raises(ValueError, match=r"trained for quantiles from 0\.025 to 0\.975; got 0\.99"):
        model.predict_quantiles(alpha=[0.99])


def test_sktime_update_reads_new_rows_and_no_later_ones(sk):
    y = monthly()
    model = sk.make(linear()).fit(y.iloc[:60], fh=[1, 2, 3])
    kept = model.forecaster_
    model.update(y.iloc[60:64], update_params=False)
    assert model.forecaster_ is kept
    after = model.predict()
    np.testing.assert_allclose(
        after, kept.predict_windows(y.to_numpy()[None, 52:64])[0][0], rtol=FLOAT32
    )
    assert str(after.index[0]) == "2020-05"
    model.update(y.iloc[64:70], update_params=True)
    second_forecast = linear(3, val_size=7).fit(y.iloc[:70].reset_index(drop=True)).predict()
    np.testing.assert_allclose(model.predict(), second_forecast, rtol=FLOAT32)
    model._set_cutoff(
        y.index[[49]]
    )  # as sktime's rolling predictions do: rows after it are not to be seen
    earlier = model.forecaster_.predict_windows(y.to_numpy()[None, 38:50])[0][0]
    np.testing.assert_allclose(model.predict(), earlier, rtol=FLOAT32)
    model._set_cutoff(y.index[[5]])
    first = model.forecaster_.predict_windows(y.to_numpy()[None, :6])[0][0]
    np.testing.assert_allclose(model.predict(), first, rtol=FLOAT32)


def test_sktime_update_takes_corrected_rows_for_the_old_ones(sk):
    y = monthly(70, columns=("a",))
    model = sk.make(linear()).fit(y, fh=[1, 2])
    corrected = y.iloc[-3:] + 5
    model.update(corrected, update_params=False)
    expected = model.forecaster_.predict_windows(
        pd.concat([y.iloc[:-3], corrected]).to_numpy()[None]
    )[0][0, :2]
    np.testing.assert_allclose(model.predict().to_numpy(), expected)


def test_sktime_missing_values_follow_the_forecaster(sk):
    y = monthly(columns=("a",))
    y.iloc[[20, 79]] = np.nan
    model = sk.make(linear(missing="ffill")).fit(y, fh=[1, 2])
    filled = y.ffill().to_numpy()[None, -12:]
    np.testing.assert_allclose(
        model.predict(), model.forecaster_.predict_windows(filled)[0][0], rtol=FLOAT32
    )
    assert sk.make(linear()).get_tag("capability:missing_values")
    assert not sk.make(linear(missing="error")).get_tag("capability:missing_values")


@pytest.mark.parametrize("hole", [slice(68, 69), slice(60, 72), slice(76, None)])
def test_sktime_missing_values_are_filled_from_before_the_context(sk, hole):
    y = monthly(columns=("a",))
    y.iloc[hole] = np.nan
    model = sk.make(linear(missing="interpolate", val_size=10)).fit(y, fh=[1, 2, 3])
    ours = linear(missing="interpolate", val_size=10).fit(y["a"].tolist()).predict()
    np.testing.assert_allclose(model.predict().to_numpy()[:, 0], ours.iloc[:, -1], rtol=FLOAT32)


def test_sktime_numbers_that_stand_for_missing_values_are_left_out(sk):
    y = monthly(columns=("a",))
    empty = y.copy()
    y.iloc[[20, 70, 78]] = -9999
    empty.iloc[[20, 70, 78]] = np.nan
    with pytest.warns(UserWarning, match=r"'a' has -9999 at 20 \(and 2 more\)"):
        forecast = sk.make(PretrainedForecaster(1)).fit(y, fh=[1, 2]).predict()
    expected = sk.make(PretrainedForecaster(1)).fit(empty, fh=[1, 2]).predict()
    pd.testing.assert_frame_equal(forecast, expected, rtol=FLOAT32)


def test_sktime_seed_takes_the_place_of_the_forecasters(sk):
    y = monthly()
    answers = [
        sk.make(linear(random_state=None), random_state=s).fit(y, fh=[1]).predict()
        for s in (3, 3, 4)
    ]
    pd.testing.assert_frame_equal(answers[0], answers[1])
    assert not answers[0].equals(answers[2])


def test_sktime_forecasts_of_the_pretrained_network_are_ours(sk):
    """Its own quantiles, and missing values without a word; nothing is shrunk or held back."""
    y = monthly(40)
    y.iloc[[20, 39], 0] = np.nan
    model = sk.make(PretrainedForecaster(1, n_threads=1)).fit(y, fh=[1, 3])
    assert model.get_tag("capability:missing_values")
    assert model.forecaster_.horizon == 3
    ours = PretrainedForecaster(3).fit(y.reset_index(drop=True))
    np.testing.assert_allclose(model.predict(), ours.predict().iloc[[0, 2]], rtol=FLOAT32)
    bands = model.predict_interval(coverage=0.6)
    frame = ours.predict(level=60).to_numpy().reshape(3, 2, 3)[[0, 2]]
    np.testing.assert_allclose(bands.to_numpy().reshape(2, 2, 2), frame[:, :, 1:], rtol=FLOAT32)
    swapped = model.predict_quantiles(alpha=[0.9, 0.1]).to_numpy()
    assert (swapped[:, 0] > swapped[:, 1]).all()


def test_sktime_takes_forecasters_with_weights_only(sk):
    with pytest.raises(
        TypeError, match=r"to_sktime takes .*LinearForecaster or a PretrainedForecaster; got Naive"
    ):
        sk.make(Naive(1))
    with pytest.raises(TypeError, match=r"forecaster must be .* got Naive"):
        sk.module.TsattnForecaster(Naive(1)).fit(monthly(), fh=[1])
    with pytest.raises(TypeError, match=r"forecaster must be .* got str"):
        sk.module.TsattnForecaster("linear").fit(monthly(), fh=[1])


def test_sktime_evaluates_and_tunes(sk):
    from sktime.forecasting.model_evaluation import evaluate
    from sktime.split import ExpandingWindowSplitter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sktime's of itself and of its metric
        cv = ExpandingWindowSplitter(fh=[1, 2], initial_window=60, step_length=10)
        scores = evaluate(sk.make(linear()), y=monthly(columns=("a",))["a"], cv=cv)
    assert len(scores) == 2
    assert np.isfinite(scores.filter(like="test_").to_numpy(dtype=float)).all()


def test_examples_of_the_sktime_adapter(sk):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = doctest.testmod(sk.module)
    assert outcome.attempted >= 6
    assert outcome.failed == 0


# --- GluonTS --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gl():
    """GluonTS as the tests use it, imported without its word on JSON."""
    pytest.importorskip("gluonts")
    from tsattn.adapters import from_gluonts, gluonts, to_gluonts

    return SimpleNamespace(module=gluonts, read=from_gluonts, make=to_gluonts)


def sine_entries(n_series=4, n=140, *, freq="D", dtype=np.float64, season=7):
    rng = np.random.default_rng(0)
    t = np.arange(n)
    return [
        {
            "start": pd.Period("2024-01-01", freq) + 3 * i,
            "target": (
                (100 + 50 * np.sin(2 * np.pi * t / season + i) + rng.normal(size=n))
                .round()
                .astype(dtype)
            ),
            "item_id": f"s{i}",
        }
        for i in range(n_series)
    ]


def frame_of(entries):
    parts = []
    for entry in entries:
        stamps = pd.date_range(entry["start"].start_time, periods=len(entry["target"]), freq="D")
        parts.append(
            pd.DataFrame({"unique_id": entry["item_id"], "ds": stamps, "y": entry["target"]})
        )
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("make", [linear, network])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32])
def test_gluonts_forecasts_are_ours(gl, make, dtype):
    entries = sine_entries()
    predictor = gl.make(make()).train(sine_entries(dtype=dtype))
    forecasts = list(predictor.predict(sine_entries(dtype=dtype)))
    ours = make().fit(frame_of(entries)).predict(quantiles=[0.1, 0.5, 0.9])
    assert [f.item_id for f in forecasts] == ["s0", "s1", "s2", "s3"]
    assert [f.start_date.start_time for f in forecasts] == list(ours["ds"][::3])
    name = ours.columns[2]
    for key, column in {
        "mean": name,
        "0.1": f"{name}-q0.1",
        "0.5": f"{name}-q0.5",
        "0.9": f"{name}-q0.9",
    }.items():
        told = np.concatenate([f.mean if key == "mean" else f.quantile(key) for f in forecasts])
        np.testing.assert_allclose(told, ours[column], rtol=FLOAT32)


def test_gluonts_keeps_the_order_and_equal_names(gl, monkeypatch):
    predictor = gl.make(linear()).train(sine_entries())
    entries = [{**entry, "item_id": "same"} for entry in sine_entries(5)[::-1]]
    whole_forecast = [f.mean for f in predictor.predict(entries)]
    monkeypatch.setattr(gl.module, "_CHUNK", 2)
    parts = [f.mean for f in predictor.predict(iter(entries), num_samples=7)]
    np.testing.assert_allclose(parts, whole_forecast, rtol=FLOAT32)
    own_forecast = [next(predictor.predict([entry])).mean for entry in entries]
    np.testing.assert_allclose(own_forecast, whole_forecast, rtol=FLOAT32)


def test_evaluator_of_gluonts_gives_our_scores(gl):
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MAE, MSE, Coverage, MeanWeightedSumQuantileLoss
    from gluonts.model import evaluate_model

    entries = sine_entries()
    quantiles = (0.1, 0.5, 0.9)
    training, template = split(entries, offset=-15)
    test = template.generate_instances(3, windows=5, distance=3)
    predictor = gl.make(linear(), quantiles=quantiles).train(list(training))
    asked = [MSE(), MAE(), Coverage(0.9), MeanWeightedSumQuantileLoss(quantiles)]
    theirs = evaluate_model(predictor, test_data=test, metrics=asked, axis=None).iloc[0]
    y = np.array([pair[1]["target"] for pair in test])
    forecasts = list(predictor.predict(test.input))
    bounds = np.stack([[f.quantile(q) for f in forecasts] for q in quantiles], axis=-1)
    assert y.shape == (20, 3)
    point = np.array([f.mean for f in forecasts])
    assert theirs["MSE[mean]"] == pytest.approx(metrics.mse(y, point), rel=1e-9)
    assert theirs["MAE[0.5]"] == pytest.approx(metrics.mae(y, bounds[..., 1]), rel=1e-9)
    wql = metrics.wql(y, bounds, quantiles=quantiles)
    assert theirs["mean_weighted_sum_quantile_loss"] == pytest.approx(wql, rel=1e-9)
    # Their coverage of a quantile is the share of truths below it; ours is two-sided.
    assert theirs["coverage[0.9]"] == pytest.approx((y < bounds[..., 2]).mean(), rel=1e-9)
    two_sided = metrics.coverage(y, bounds[..., 0], bounds[..., 2])
    assert two_sided == pytest.approx(((bounds[..., 0] <= y) & (y <= bounds[..., 2])).mean())


def test_evaluate_model_finds_it_better_than_their_naive(gl):
    from gluonts.dataset.split import split
    from gluonts.ev.metrics import MAE, MASE, MSE, MSIS, ND, MeanWeightedSumQuantileLoss
    from gluonts.model import evaluate_model
    from gluonts.model.seasonal_naive import SeasonalNaivePredictor

    training, template = split(sine_entries(6, 200), offset=-60)
    test = template.generate_instances(12, windows=5, distance=12)
    predictor = gl.make(linear(12, context=28, max_epochs=20, batch_size=32)).train(list(training))
    asked = [MSE(), MAE(), MASE(), ND(), MSIS(), MeanWeightedSumQuantileLoss((0.1, 0.5, 0.9))]
    ours = evaluate_model(predictor, test_data=test, metrics=asked, axis=None, seasonality=7)
    rule = SeasonalNaivePredictor(prediction_length=12, season_length=7)
    naive = evaluate_model(rule, test_data=test, metrics=asked[:4], axis=None, seasonality=7)
    assert np.isfinite(ours.to_numpy()).all()
    assert (ours[naive.columns].to_numpy() < naive.to_numpy()).all()
    by_window = evaluate_model(predictor, test_data=test, metrics=asked, axis=1, seasonality=7)
    assert len(by_window) == 30
    starts = [f.start_date for f in predictor.predict(test.input)]
    assert starts == [entry["start"] + len(entry["target"]) for entry in test.input]


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
def test_older_evaluator_of_gluonts(gl):
    from gluonts.evaluation import Evaluator, make_evaluation_predictions

    entries = sine_entries()
    predictor = gl.make(linear()).train(entries)
    forecasts, series = make_evaluation_predictions(entries, predictor, num_samples=5)
    total, each = Evaluator(quantiles=(0.1, 0.5, 0.9), num_workers=0)(series, forecasts)
    assert len(each) == 4
    assert np.isfinite([total["MSE"], total["ND"], total["mean_wQuantileLoss"]]).all()


@pytest.mark.parametrize("make", [linear, network, lambda: PretrainedForecaster(3)])
def test_gluonts_serialises_without_code(gl, make, tmp_path):
    from gluonts.model import Predictor

    entries = sine_entries()
    predictor = gl.make(make(), quantiles=(0.1, 0.9), drop=["feat_static_cat"]).train(entries)
    predictor.serialize(tmp_path)
    paths = sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()
    )
    assert paths == [
        "forecaster/config.json",
        "forecaster/model.safetensors",
        "gluonts-config.json",
        "tsattn.json",
    ]
    again = Predictor.deserialize(tmp_path, device="cpu")
    assert type(again) is gl.module.TsattnPredictor
    assert (again.prediction_length, again.lead_time) == (3, 0)
    for a, b in zip(predictor.predict(entries), again.predict(entries), strict=True):
        assert a.forecast_keys == b.forecast_keys == ["0.1", "0.9", "mean"]
        np.testing.assert_array_equal(a.forecast_array, b.forecast_array)
    facts = json.loads((tmp_path / "tsattn.json").read_text())
    for damage in ({"freq": facts["freq"]}, [facts["freq"]]):
        (tmp_path / "tsattn.json").write_text(json.dumps(damage))
        with pytest.raises(ValueError, match="is not what serialize"):
            Predictor.deserialize(tmp_path)
    (tmp_path / "tsattn.json").unlink()
    with pytest.raises(ValueError, match="is not what serialize"):
        Predictor.deserialize(tmp_path)


def test_gluonts_baselines_are_serialised_too(gl, tmp_path):
    from gluonts.model import Predictor

    entries = sine_entries()
    predictor = gl.make(SeasonalNaive(7, 7), quantiles=()).train(entries)
    forecasts = list(predictor.predict(entries))
    assert forecasts[0].forecast_keys == ["mean"]
    np.testing.assert_array_equal(forecasts[2].mean, entries[2]["target"][-7:])
    predictor.serialize(tmp_path)
    again = Predictor.deserialize(tmp_path, device="cpu")
    for forecast, other in zip(forecasts, again.predict(entries), strict=True):
        np.testing.assert_array_equal(forecast.forecast_array, other.forecast_array)


def test_gluonts_missing_values_are_filled_with_the_past(gl):
    entries = sine_entries()
    for entry in entries:
        entry["target"][[30, 138]] = np.nan
    filled = [
        {**entry, "target": pd.Series(entry["target"]).ffill().to_numpy()} for entry in entries
    ]
    predictor = gl.make(linear(missing="ffill")).train(entries)
    for a, b in zip(predictor.predict(entries), predictor.predict(filled), strict=True):
        np.testing.assert_array_equal(a.mean, b.mean)
    with pytest.raises(ValueError, match="missing"):
        gl.make(linear(missing="error")).train(entries)


@pytest.mark.parametrize(
    ("freq", "stamps"),
    [
        ("M", "MS"),
        ("Q-DEC", "QS-JAN"),
        ("Y-DEC", "YS-JAN"),
        ("W-SUN", "W-MON"),
        ("W-WED", "W-THU"),
        ("D", "D"),
        ("h", "h"),
        ("15min", "15min"),
        ("3h", "3h"),
        ("2D", "2D"),
        ("s", "s"),
    ],
)
def test_periods_become_stamps_of_the_same_frequency(gl, freq, stamps):
    start = pd.Period("2024-05-06", freq)
    panel = gl.read(
        [{"start": start, "target": np.arange(9)}, {"start": start + 4, "target": np.arange(2.0)}]
    )
    assert panel.freq == stamps
    assert panel.ids.tolist() == ["0", "1"]
    assert panel.lengths.tolist() == [9, 2]
    assert panel.times[8] == (start + 8).start_time
    assert panel.times[9] == (start + 4).start_time


@pytest.mark.parametrize("name", ["zero", "naive"])
def test_gluonts_entries_without_values_take_no_other_forecast(gl, name):
    alive = sine_entries(2)
    blank = {**alive[0], "item_id": "blank", "target": np.full(140, np.nan)}
    quantiles = [0.1, 0.9] if name == "zero" else []
    predictor = gl.make(make_forecaster(name, 3), quantiles=quantiles).train(alive)
    right = [answer.forecast_array for answer in predictor.predict(alive)]
    with pytest.warns(UserWarning, match="1 of 3 entries have no value, such as 'blank'; their"):
        first, second, third = predictor.predict([alive[0], blank, alive[1]])
    assert (first.item_id, second.item_id, third.item_id) == ("s0", "blank", "s1")
    assert np.isnan(second.forecast_array).all()
    np.testing.assert_allclose([first.forecast_array, third.forecast_array], right, rtol=1e-5)
    predictor.forecaster.set_params(schema__bad="error")
    with pytest.raises(ValueError, match="series 0: column 'y' has no value"):
        list(predictor.predict([blank, *alive]))


def test_gluonts_last_values_that_are_missing_are_filled_from_before_the_context(gl):
    entries = sine_entries(2)
    predictor = gl.make(make_forecaster("naive", 3), quantiles=[]).train(entries)
    entries[0]["target"][-1] = np.nan
    first, _ = predictor.predict(entries)
    np.testing.assert_array_equal(first.mean, entries[0]["target"][-2])


def test_gluonts_numbers_that_stand_for_missing_values_are_left_out(gl):
    entries = sine_entries(2)
    entries[1]["target"][[20, 139]] = -9999
    with pytest.warns(UserWarning, match=r"series 's1' has -9999 at .* \(and 1 more\)"):
        predictor = gl.make(make_forecaster("naive", 3), quantiles=[]).train(entries)
    with pytest.warns(UserWarning, match=r"series 's1' has -9999 at 20 \(and 1 more\)"):
        _, second = predictor.predict(entries)
    np.testing.assert_array_equal(second.mean, entries[1]["target"][138])
    predictor.forecaster.set_params(schema__missing="error")
    with pytest.warns(UserWarning, match="series 's1' ends with -9999"):
        _, second = predictor.predict(entries)
    np.testing.assert_array_equal(second.mean, -9999)


def test_gluonts_entries_that_begin_late_have_few_rows(gl):
    entries = sine_entries(2)
    predictor = gl.make(make_forecaster("seasonal_naive", 3), quantiles=[]).train(entries)
    entries[1]["target"][:136] = np.nan
    with pytest.raises(
        ValueError, match=r"series 's1' \(4 rows, .* seasonal_naive needs at least 7"
    ):
        list(predictor.predict(entries))


def test_panel_from_gluonts_is_the_frames(gl):
    entries = sine_entries()
    assert gl.read(entries[::-1]).fingerprint() == from_long(frame_of(entries)).fingerprint()
    answer = linear().fit(gl.read(entries)).predict()
    assert isinstance(answer, Forecast)
    assert answer.ids.tolist() == ["s0", "s1", "s2", "s3"]


def test_ready_made_data_sets_of_gluonts_are_read(gl):
    from gluonts.dataset.common import ListDataset
    from gluonts.dataset.pandas import PandasDataset

    entries = sine_entries()
    frame = frame_of(entries)
    sets = {
        "pandas": PandasDataset.from_long_dataframe(
            frame, item_id="unique_id", timestamp="ds", target="y", freq="D", assume_sorted=True
        ),
        "list": ListDataset(entries, freq="D"),
    }
    predictor = gl.make(linear()).train(entries)
    right = [f.mean for f in predictor.predict(entries)]
    for data in sets.values():
        assert gl.read(data).fingerprint() == from_long(frame).fingerprint()
        np.testing.assert_array_equal([f.mean for f in predictor.predict(data)], right)


def bad_entry(**change):
    return [{**sine_entries(1)[0], **change}]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "the data set has no entry"),
        (5, "must yield mappings with a start and a target; got 5; make one"),
        (sine_entries(1)[0], "must yield mappings .*; got 'start'; make one"),
        (sine_entries(1) * 2, "two entries bear the item_id 's0'"),
        (bad_entry(feat_dynamic_real=np.ones((1, 143))), "covariate 'feat_dynamic_real'.*drop="),
        (bad_entry(target=np.ones((2, 50))), r"a row of numbers; got shape \(2, 50\)"),
        (bad_entry(target=np.array(["a"] * 50)), "a row of numbers; got shape"),
        (bad_entry(start=pd.Timestamp("2024-01-01")), "start must be a pandas Period"),
        (
            [{"start": pd.Period("2024-01-01", "D"), "values": [1.0]}],
            "needs a start and a target; got start, values: add",
        ),
        ([{}], "an entry needs a start and a target; got nothing: add 'start'"),
        (
            sine_entries(1) + bad_entry(start=pd.Period("2024-01-01", "h"), item_id="b"),
            "entries must have one frequency; got D, h",
        ),
    ],
)
def test_faulty_data_sets_of_gluonts_are_refused(gl, entries, message):
    with pytest.raises(ValueError, match=message):
        gl.read(entries)


def test_gluonts_refuses_what_it_would_have_to_ignore(gl):
    entries = sine_entries()
    static = [{**entry, "feat_static_cat": [0]} for entry in entries]
    with pytest.raises(ValueError, match="covariate 'feat_static_cat'"):
        gl.make(linear()).train(static)
    predictor = gl.make(linear(), drop=["feat_static_cat"]).train(static)
    assert len(list(predictor.predict(static))) == 4
    with pytest.raises(ValueError, match="validation_data cannot be used"):
        gl.make(linear()).train(entries, validation_data=entries)
    with pytest.raises(ValueError, match="fitted on frequency 'D'; got 'h' in entry '0'"):
        list(
            predictor.predict([{"start": pd.Period("2024-01-01", "h"), "target": np.arange(50.0)}])
        )
    with pytest.raises(ValueError, match="entry 's0' has 11 rows, but the forecaster reads 12"):
        list(gl.make(WindowAverage(3, 12)).train(entries).predict(bad_entry(target=np.arange(11))))
    with pytest.raises(ValueError, match="quantiles lie strictly between 0 and 1"):
        gl.make(linear(), quantiles=[10])


def test_examples_of_the_gluonts_adapter(gl):
    outcome = doctest.testmod(gl.module)
    assert outcome.attempted >= 6
    assert outcome.failed == 0
