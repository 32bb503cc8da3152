"""The regressor under scikit-learn's own suite, and scikit-learn's tools on it and on the
forecasters.
"""

import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, check_n_features_in_after_fitting
from tables import seasonal_table

from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import SeasonalNaive
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.forecasters.regressor import AttentionRegressor
from tsattn.nn.config import Network
from tsattn.training.settings import Training

NETWORK = Network(d_model=4, n_layers=1, d_ff=8, dropout=0.1)
TRAINING = Training(batch_size=512, max_epochs=1, skip_rate=1.0)


def regressor(**params):
    return AttentionRegressor(
        **{"network": NETWORK, "training": TRAINING, "random_state": 0, **params}
    )


def waves(n=200, rows=30, *, period=12.0, noise=0.05, seed=0):
    """Windows of noisy waves whose phase, level and size differ, ``[n, rows]``."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, period, (n, 1)) + np.arange(rows)
    size = rng.uniform(1, 3, (n, 1))
    level = rng.uniform(-5, 5, (n, 1))
    return level + size * (np.sin(2 * np.pi * t / period) + noise * rng.normal(size=(n, rows)))


# --- scikit-learn's own suite ---------------------------------------------------------------------


def outcomes(estimator):
    """Names of scikit-learn's checks by how they ended."""
    names_by_status = {"passed": [], "failed": [], "skipped": [], "xfail": []}
    for row in check_estimator(estimator, on_fail=None, on_skip=None):
        names_by_status[row["status"]].append(row["check_name"])
    return names_by_status


def test_whole_suite_of_scikit_learn(record_testsuite_property):
    """With the default tags scikit-learn asks everything; a frame-only estimator would be asked one
    thing.
    """
    assert get_tags(regressor()).input_tags.two_d_array
    names_by_status = outcomes(regressor())
    assert names_by_status["failed"] == []
    assert names_by_status["xfail"] == []
    assert set(names_by_status["skipped"]) <= {
        "check_array_api_input"
    }  # asks for a setting of SciPy's, see below
    record_testsuite_property(
        "checks", f"{len(names_by_status['passed'])} of {sum(map(len, names_by_status.values()))}"
    )
    assert len(names_by_status["passed"]) >= 50
    # What an estimator of theirs with the same abilities is asked, weights of samples aside.
    theirs = {
        name for name in outcomes(Ridge(copy_X=True))["passed"] if "sample_weight" not in name
    }
    assert theirs - set(names_by_status["passed"]) == set()


@pytest.mark.slow
def test_check_of_array_types_that_needs_a_setting(record_testsuite_property):
    """The one check that the suite leaves out unless SciPy is told, before its import, to expect
    other arrays.
    """
    code = (
        "from sklearn.utils.estimator_checks import check_array_api_input\nfrom tsattn import"
        f" AttentionRegressor, Network, Training\nmodel = AttentionRegressor(network={NETWORK!r},"
        f" training={TRAINING!r}, random_state=0)\ncheck_array_api_input('AttentionRegressor',"
        " model, array_namespace='numpy', expect_only_array_outputs=False)\nprint('passed')"
    )
    env = {**os.environ, "SCIPY_ARRAY_API": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "passed\n", done.stderr
    record_testsuite_property("the check that the suite leaves out unless SciPy is told", "passed")


class Forgetful(AttentionRegressor):
    """Answers any number of columns."""

    def predict(self, X):
        x = np.asarray(X, dtype=np.float64)
        return super().predict(np.resize(x, (len(x), self.n_features_in_)))


def test_suite_sees_a_regressor_that_takes_any_width():
    check_n_features_in_after_fitting("AttentionRegressor", regressor())
    with pytest.raises(AssertionError):
        check_n_features_in_after_fitting(
            "Forgetful", Forgetful(**regressor().get_params(deep=False))
        )


# --- what it learns -------------------------------------------------------------------------------


def test_the_regressor_learns_waves():
    windows = waves(400)
    x = windows[:, :24]
    y = windows[:, 24:]
    model = regressor(
        network=NETWORK.changed(d_model=8, d_ff=16),
        training=TRAINING.changed(max_epochs=30, learning_rate=0.02, batch_size=64),
    ).fit(x[:300], y[:300])
    error = np.abs(model.predict(x[300:]) - y[300:]).mean()
    assert error < 0.35 * np.abs(x[300:].mean(1, keepdims=True) - y[300:]).mean()
    assert error < 0.35 * np.abs(x[300:, -1:] - y[300:]).mean()
    assert model.score(x[300:], y[300:]) > 0.9
    assert 1 <= model.n_iter_ <= 30


def test_forecasts_follow_shift_and_scale():
    windows = waves()
    model = regressor().fit(windows[:, :24], windows[:, 24:])
    moved = model.predict(100 + 7 * windows[:, :24])
    np.testing.assert_allclose(moved, 100 + 7 * model.predict(windows[:, :24]), rtol=1e-9)


def test_channels_stand_side_by_side():
    """The c-th column of a moment is the c-th channel: one channel's forecast reads that channel
    alone.
    """
    both = np.stack([waves(seed=0), waves(seed=1, period=7.0)], axis=2)
    x = both[:, :24].reshape(200, -1)
    y = both[:, 24:].reshape(200, -1)
    model = regressor(n_channels=2).fit(x, y)
    answer = model.predict(x).reshape(200, 6, 2)
    other = both[:, :24].copy()
    other[:, :, 1] = other[:, ::-1, 1] ** 2
    changed = model.predict(other.reshape(200, -1)).reshape(200, 6, 2)
    np.testing.assert_array_equal(changed[:, :, 0], answer[:, :, 0])
    assert np.abs(changed[:, :, 1] - answer[:, :, 1]).max() > 0.1


def test_settings_left_out_are_its_own_defaults():
    windows = waves()
    model = AttentionRegressor(random_state=0).set_params(network__d_ff=8, training__max_epochs=1)
    model.fit(windows[:, :24], windows[:, 24:])
    assert (model.network, model.training) == (
        Network(n_layers=2, d_ff=8, dropout=0.1),
        Training(max_epochs=1, skip_rate=1.0),
    )
    config = model.fitted_.config
    assert (config.n_layers, config.d_ff, config.dropout, model.n_iter_) == (2, 8, 0.1, 1)
    with pytest.raises(ValueError, match="has no parameter 'nest__d_ff'"):
        model.set_params(nest__d_ff=8)


def test_shape_of_y_is_the_shape_of_the_answer():
    windows = waves()
    x = windows[:, :24]
    assert regressor().fit(x, windows[:, 24]).predict(x[:5]).shape == (5,)
    assert regressor().fit(x, windows[:, 24:25]).predict(x[:5]).shape == (5, 1)
    assert regressor().fit(x, windows[:, 24:]).predict(x[:5]).shape == (5, 6)


def test_sizes_are_clipped_to_the_window():
    windows = waves()
    model = regressor().fit(windows[:, :5], windows[:, 5])
    config = model.fitted_.config
    assert (config.context, config.patch_len, config.patch_stride) == (5, 5, 5)
    assert model.get_params()["network__patch_len"] == 16


def test_a_row_does_not_depend_on_its_batch(monkeypatch):
    windows = waves()
    model = regressor().fit(windows[:, :24], windows[:, 24:])
    whole_forecast = model.predict(windows[:, :24])
    monkeypatch.setattr("tsattn.forecasters.fitted._PASS_SEQUENCES", 7)
    np.testing.assert_allclose(model.predict(windows[:, :24]), whole_forecast, rtol=1e-12)


def test_last_windows_only_decide_when_to_stop():
    """Values of held windows change no weight of the first pass; values of the others do."""
    windows = waves()
    x = windows[:, :24]
    y = windows[:, 24:]
    model = regressor(val_size=50).fit(x, y)
    base = model.predict(x)
    np.testing.assert_allclose(model.fitted_.scaler.mean, [[x[:150].mean()]], rtol=1e-12)
    np.testing.assert_allclose(model.fitted_.scaler.scale, [[x[:150].std()]], rtol=1e-12)
    held = y.copy()
    learnt = y.copy()
    held[150:] += 100
    learnt[149] += 100
    np.testing.assert_array_equal(regressor(val_size=50).fit(x, held).predict(x), base)
    assert np.abs(regressor(val_size=50).fit(x, learnt).predict(x) - base).max() > 1e-6


def test_quiet_and_without_side_effects(capfd, recwarn):
    windows = waves()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what must stay as it is
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = regressor().fit(windows[:, :24], windows[:, 24]).predict(windows[:, :24])
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    torch.rand(3)
    np.testing.assert_array_equal(
        regressor().fit(windows[:, :24], windows[:, 24]).predict(windows[:, :24]), first
    )
    assert not np.array_equal(
        regressor(random_state=1).fit(windows[:, :24], windows[:, 24]).predict(windows[:, :24]),
        first,
    )
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_channels": 0}, "n_channels must be a whole number of at least 1; got 0"),
        ({"n_channels": 7}, "X must have a multiple of n_channels = 7 columns.* got 24"),
        ({"n_channels": 4}, "y must have a multiple of n_channels = 4 columns.* got 6"),
        ({"val_size": 1.5}, "val_size must be a number of windows or a share"),
        ({"val_size": 200}, "val_size = 200 leaves none of 200 windows"),
        ({"attention": "nlinear"}, "attention must be one of standard"),
        ({"training": Training(device="abacus")}, "device must be auto, cpu, cuda"),
        ({"training": Training(device="mps")}, "device must be auto, cpu, cuda.* got 'mps'"),
        ({"training": Training(device=None)}, "device must be auto, cpu, cuda.* got None"),
        (
            {"training": Training(linear_skip="least_squares")},
            "does not take linear_skip = 'least_squares'; leave it",
        ),
        (
            {"training": Training(target_transform="log1p")},
            "does not take target_transform = 'log1p'",
        ),
        ({"network": Network(channel_mixing=True)}, "does not take channel_mixing = True"),
        ({"network": Network(block_sizes="calendar")}, "does not take block_sizes = 'calendar'"),
    ],
)
def test_bad_settings_are_refused(params, message):
    windows = waves()
    with pytest.raises(ValueError, match=message):
        regressor(**params).fit(windows[:, :24], windows[:, 24:])


# --- scikit-learn's tools -------------------------------------------------------------------------


def test_clone_and_pickle():
    windows = waves()
    model = regressor().fit(windows[:, :24], windows[:, 24:])
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(windows[:, :24])
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(windows[:, :24]), model.predict(windows[:, :24]))


GRID = {"model__training__learning_rate": [1e-3, 1e-1], "model__attention": ["mlr"]}


def search(x, y, n_jobs):
    pipeline = Pipeline([("as is", FunctionTransformer()), ("model", regressor())])
    return GridSearchCV(
        pipeline, GRID, cv=TimeSeriesSplit(2), n_jobs=n_jobs, error_score="raise"
    ).fit(x, y)


def test_pipeline_cross_validation_and_search():
    windows = waves()
    x = windows[:, :24]
    y = windows[:, 24]
    alone = cross_val_score(regressor(), x, y, cv=TimeSeriesSplit(2))
    pipeline = Pipeline([("as is", FunctionTransformer()), ("model", regressor())])
    np.testing.assert_array_equal(cross_val_score(pipeline, x, y, cv=TimeSeriesSplit(2)), alone)
    scores = search(x, y, 1).cv_results_["mean_test_score"]
    np.testing.assert_allclose(scores[0], alone.mean(), rtol=1e-12)
    assert scores[0] != scores[1]


def long_frame(n_series=1, n=120):
    return seasonal_table([n] * n_series, rate=0.5, noise=0.1, lag=1.0, scale=1.0)


def time_pairs(df, cuts, held):
    """Row index pairs: every series up to each cut, and the ``held`` rows around and after it."""
    place = df.groupby("unique_id").cumcount().to_numpy()
    return [
        (np.flatnonzero(place < cut), np.flatnonzero((place >= cut - 24) & (place < cut + held)))
        for cut in cuts
    ]


FORECASTERS = {
    "attention": AttentionForecaster(
        4,
        context=24,
        network=Network(d_model=4, n_layers=1, d_ff=8, patch_len=6, patch_stride=6),
        training=Training(max_epochs=1),
        random_state=0,
    ),
    "linear": LinearForecaster(4, context=24, training=Training(max_epochs=1), random_state=0),
}


@pytest.mark.parametrize("name", FORECASTERS)
def test_forecasters_on_frames_with_row_pairs(name):
    df = long_frame(3)
    model = FORECASTERS[name]
    pairs = time_pairs(df, [80, 100], 16)
    scores = cross_val_score(model, df, cv=pairs, error_score="raise")
    expected = [clone(model).fit(df.iloc[a]).score(df.iloc[b]) for a, b in pairs]
    np.testing.assert_array_equal(scores, expected)
    np.testing.assert_array_equal(
        cross_val_score(make_pipeline(FunctionTransformer(), model), df, cv=pairs), expected
    )


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (PretrainedForecaster(4), {"point": ["median", "mean"]}),
        (SeasonalNaive(4), {"season_length": [6, 13]}),
        (
            SplitConformal(SeasonalNaive(4), n_windows=4),
            {"forecaster__season_length": [6, 13], "n_windows": [3]},
        ),
    ],
    ids=["zero", "seasonal naive", "conformal"],
)
def test_searches_over_forecasters_without_a_network_of_their_own(model, grid):
    df = long_frame(2)
    pairs = time_pairs(df, [80, 100], 16)
    before = repr(model)
    search = GridSearchCV(model, grid, cv=pairs, error_score="raise").fit(df)
    assert repr(model) == before
    candidates = [clone(model).set_params(**params) for params in search.cv_results_["params"]]
    expected = [
        np.mean([clone(each).fit(df.iloc[a]).score(df.iloc[b]) for a, b in pairs])
        for each in candidates
    ]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], expected, rtol=1e-9)
    assert expected[0] != expected[1]
    best = candidates[int(np.argmax(expected))]
    pd.testing.assert_frame_equal(search.predict(None), best.fit(df).predict())


def search_over_a_frame(n_jobs):
    df = long_frame(2)
    grid = {"network__d_model": [4, 8], "attention": ["mlr", "standard"]}
    pairs = time_pairs(df, [80, 100], 16)
    return GridSearchCV(
        FORECASTERS["attention"], grid, cv=pairs, n_jobs=n_jobs, error_score="raise"
    ).fit(df)


def test_search_over_a_frame_looks_into_the_network():
    search = search_over_a_frame(1)
    assert len({*search.cv_results_["mean_test_score"]}) == 4
    best = search.best_estimator_
    expected = search.best_params_
    assert (
        best.config_.d_model
        == best.get_params()["network__d_model"]
        == expected["network__d_model"]
    )
    assert best.config_.backbone == expected["attention"]
    assert FORECASTERS["attention"].network.d_model == 4
    narrow = clone(FORECASTERS["attention"]).set_params(attention=expected["attention"])
    own_model = narrow.set_params(network__d_model=expected["network__d_model"]).fit(long_frame(2))
    pd.testing.assert_frame_equal(best.predict(), own_model.predict())


@pytest.mark.slow
def test_search_in_two_processes():
    windows = waves()
    scores = [
        search(windows[:, :24], windows[:, 24], n).cv_results_["mean_test_score"] for n in (1, 2)
    ]
    np.testing.assert_array_equal(*scores)
    one = search_over_a_frame(1)
    two = search_over_a_frame(2)
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    pd.testing.assert_frame_equal(one.best_estimator_.predict(), two.best_estimator_.predict())


def test_time_series_split_of_a_wide_frame():
    df = long_frame(2).pivot(index="ds", columns="unique_id", values="y")
    cv = TimeSeriesSplit(2, test_size=30)
    scores = cross_val_score(FORECASTERS["linear"], df, cv=cv, error_score="raise")
    assert scores.shape == (2,)
    assert (scores < 0).all()
