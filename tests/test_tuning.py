"""A search for settings: it sees validation losses only, repeats itself, refuses bad spaces and
stays quiet.
"""

import logging
import warnings

import numpy as np
import pandas as pd
import pytest
import tables
from small_forecasters import attention, linear
from tables import wide_frame

from tsattn.data.frames import from_long
from tsattn.data.schema import Schema
from tsattn.distributed import DDPSettings
from tsattn.forecasters.naive import Naive
from tsattn.forecasts import Forecast
from tsattn.tuning import Tuned, tune

RATE = "training__learning_rate"
BATCH = "training__batch_size"
DECAY = "training__weight_decay"
SPACE = {
    RATE: (1e-4, 1e-1, "log"),
    BATCH: [8, 16],
    "context": (12, 24),
    DECAY: lambda trial: trial.suggest_float(DECAY, 0.0, 0.1),
}


def long_frame():
    """Series so short that a search takes a second."""
    return tables.long_frame(2, 100)


def search(model=None, df=None, space=None, **given):
    return tune(
        linear() if model is None else model,
        long_frame() if df is None else df,
        SPACE if space is None else space,
        **{"n_trials": 4, "random_state": 0} | given,
    )


@pytest.fixture(scope="module")
def found():
    return search()


def test_every_trial_is_in_the_table_and_the_best_one_is_returned(found):
    assert isinstance(found, Tuned)
    table = found.trials
    assert table.index.tolist() == [0, 1, 2, 3]
    assert table.columns.tolist() == ["valid_loss", "state", "epochs", "seconds", "error", *SPACE]
    assert set(table["state"]) == {"done"}
    best = table["valid_loss"].idxmin()
    assert found.valid_loss == table["valid_loss"][best] == found.forecaster.summary_["valid_loss"]
    assert dict(found.params) == {name: table[name][best] for name in SPACE}
    assert {name: found.forecaster.get_params()[name] for name in SPACE} == dict(found.params)
    assert (table[RATE].between(1e-4, 1e-1) & table["context"].between(12, 24)).all()
    assert table[BATCH].isin([8, 16]).all()
    assert (table["epochs"] == found.forecaster.training.max_epochs).all()


def test_the_loss_of_a_trial_is_that_of_a_fit_with_its_settings(found):
    again = (
        linear(random_state=found.forecaster.random_state)
        .set_params(**found.params)
        .fit(long_frame())
    )
    assert again.summary_["valid_loss"] == found.valid_loss
    pd.testing.assert_frame_equal(again.predict(level=80), found.forecaster.predict(level=80))


def test_the_first_trial_takes_the_forecasters_own_settings(found):
    model = linear(learning_rate=3e-3, batch_size=16, context=20)
    first = search(model, n_trials=1).trials.iloc[0]
    assert (first[RATE], first[BATCH], first["context"]) == (3e-3, 16, 20)
    # Outside of the space there is nothing to take.
    assert search(linear(batch_size=999), n_trials=1).trials[BATCH].isin([8, 16]).all()


def test_a_search_repeats_itself_and_another_seed_is_another_search(found):
    assert search().trials.drop(columns="seconds").equals(found.trials.drop(columns="seconds"))
    other = search(random_state=1)
    assert not other.trials[RATE].equals(found.trials[RATE])


def test_epochs_of_fits_that_a_checkpoint_holds_are_told(found, tmp_path):
    first, again = (
        search(linear(checkpoint_dir=tmp_path)).trials.drop(columns="seconds") for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, again)
    pd.testing.assert_frame_equal(first, found.trials.drop(columns="seconds"))


def test_seeds_are_the_forecasters_own_or_follow_the_search():
    assert search(linear(random_state=7), n_trials=1).forecaster.random_state == 7
    free = [
        search(linear(random_state=None), n_trials=1, random_state=s).forecaster for s in (0, 0, 1)
    ]
    seeds = [each.random_state for each in free]
    assert seeds[0] == seeds[1] != seeds[2]
    pd.testing.assert_frame_equal(free[0].predict(), free[1].predict())


def test_what_was_given_stays_as_it_was():
    model = linear()
    df = long_frame()
    space = {BATCH: [8, 16]}
    before = model.get_params()
    copy = df.copy()
    search(model, df, space, n_trials=2)
    assert model.get_params() == before
    assert not hasattr(model, "network_")
    pd.testing.assert_frame_equal(df, copy)
    assert space == {BATCH: [8, 16]}


def test_rows_put_aside_cannot_matter():
    """The leak test: whatever stands in the test rows, the search is the same, bit for bit."""
    df = long_frame()
    changed = df.copy()
    rank = changed.groupby("unique_id")["ds"].rank(ascending=False)
    changed.loc[rank <= 20, "y"] = 1e6 * np.random.default_rng(0).normal(
        size=int((rank <= 20).sum())
    )
    ours, theirs = (search(df=each, test_size=20, n_trials=2) for each in (df, changed))
    assert ours.trials.drop(columns="seconds").equals(theirs.trials.drop(columns="seconds"))
    pd.testing.assert_frame_equal(ours.forecaster.predict(), theirs.forecaster.predict())
    short = df[df.groupby("unique_id")["ds"].rank(ascending=False) > 20]
    pd.testing.assert_frame_equal(
        search(df=short, n_trials=2).forecaster.predict(), ours.forecaster.predict()
    )
    # The check has a subject: without the cut the rows do matter.
    assert search(df=changed, n_trials=2).valid_loss != ours.valid_loss


def test_the_best_answers_in_the_kind_of_its_data(found):
    assert isinstance(found.forecaster.predict(), pd.DataFrame)
    assert isinstance(search(df=from_long(long_frame()), n_trials=1).forecaster.predict(), Forecast)
    wide = search(
        attention(),
        wide_frame(),
        {"network__n_heads": [1, 2], "network__ranks": [None]},
        n_trials=2,
    )
    assert wide.forecaster.predict().columns.tolist() == wide_frame().columns.tolist()


def test_choices_may_be_of_any_kind():
    space = {
        "network__ranks": [(2, 1, 1), (2, 2), None],
        "attention": ["mlr"],
        "training__patience": [None, 2],
    }
    table = search(attention(), space=space, n_trials=3).trials
    assert all(each in space["network__ranks"] for each in table["network__ranks"])


@pytest.mark.parametrize("seed", range(3))
def test_no_combination_is_fitted_twice_while_others_are_left(seed):
    space = {"kind": ["nlinear", "rlinear"], "context": (12, 14)}
    trials = search(space=space, n_trials=7, random_state=seed).trials
    combinations = trials[["kind", "context"]].apply(tuple, axis=1)
    assert combinations[:6].nunique() == 6
    # Nothing new is left for the last one.
    assert combinations[6] in set(combinations[:6])


def test_hopeless_fits_are_ended_early():
    space = {RATE: [1e-2, 1e-9]}
    table = search(
        linear(learning_rate=1e-2, max_epochs=4), space=space, n_trials=12, prune=True
    ).trials
    pruned = table[table["state"] == "pruned"]
    assert len(pruned) > 0
    assert (pruned[RATE] == 1e-9).all()
    assert (pruned["epochs"] < 4).all()
    assert set(table[table["state"] == "done"]["epochs"]) == {4}
    whole = search(linear(learning_rate=1e-2, max_epochs=4), space=space, n_trials=6).trials
    assert (whole[RATE] == 1e-9).any()
    assert set(whole["state"]) == {"done"}


def test_a_fit_that_fails_is_a_row_and_the_search_goes_on():
    space = {RATE: [5e-3, 1e30]}
    search_result = search(linear(max_epochs=3), space=space, n_trials=8)
    failed = search_result.trials[search_result.trials["state"] == "failed"]
    assert len(failed) > 0
    assert failed["error"].str.contains("lower learning_rate").all()
    assert failed["valid_loss"].isna().all()
    assert search_result.params[RATE] == 5e-3
    with pytest.raises(
        ValueError, match="none of 2 trials could be fitted; the first said: the loss became"
    ):
        search(linear(max_epochs=3), space={RATE: [1e30]}, n_trials=2)


def test_what_a_function_draws_and_no_forecaster_takes_is_a_row_too():
    space = {RATE: lambda trial: [1e-2, -1.0][trial.suggest_int("which", 0, 1)]}
    trials = search(space=space, n_trials=6).trials
    failed = trials[trials["state"] == "failed"]
    assert 0 < len(failed) < 6
    assert failed["error"].str.contains("learning_rate must be a finite number above 0").all()


def test_the_first_trial_takes_no_setting_that_the_space_lacks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of what is out of range
        assert (
            search(
                linear(skip_rate=5.5), space={"training__skip_rate": (5, 6)}, n_trials=1
            ).trials.shape[0]
            == 1
        )
    first = search(linear(skip_rate=5.0), space={"training__skip_rate": (1, 9)}, n_trials=1).params
    assert first == {"training__skip_rate": 5}


def test_a_map_that_is_solved_has_no_loss_to_compare():
    with pytest.raises(
        ValueError, match="a solved map leaves no validation loss to compare; set closed_form=False"
    ):
        search(linear(closed_form=True), space={"context": [12, 24]}, n_trials=1)


@pytest.mark.filterwarnings("ignore:no series has a value in the last")
def test_validation_rows_without_a_value_are_told():
    table = long_frame()
    last = table.groupby("unique_id")["ds"].transform("max")
    table.loc[table["ds"] > last - pd.Timedelta("20D"), "y"] = np.nan
    model = attention(val_size=12, schema=Schema(missing="mask"))
    with pytest.raises(
        ValueError,
        match=r"the first said: the validation rows hold no value, .*; raise val_size or cut",
    ):
        search(model, table, {BATCH: [8, 16]}, n_trials=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": {}}, "space must map names of settings to what may be tried; got {}"),
        (
            {"space": {"learning_rate": [1]}},
            "LinearForecaster has no setting 'learning_rate'; it has kind, context, ",
        ),
        ({"space": {5: [1]}}, "LinearForecaster has no setting 5; it has kind, context, "),
        ({"prune": "no"}, "prune must be True or False; got 'no'"),
        (
            {"space": {"training__loss": ["mse", "mae"]}},
            "training__loss cannot be tuned: losses under different values do not compare; set",
        ),
        (
            {"space": {"random_state": [0, 1]}},
            "random_state cannot be tuned: the best of several seeds is luck",
        ),
        (
            {"space": {"schema__freq": ["D"]}},
            "schema__freq cannot be tuned: it says how the table is read",
        ),
        (
            {"space": {"training__device": ["cpu"]}},
            "training__device cannot be tuned: it says how a fit is run",
        ),
        ({"space": {BATCH: []}}, "batch_size has no choices; list at least one"),
        (
            {"space": {BATCH: 8}},
            r"batch_size must be a list of choices, a tuple \(low, high\).*; got 8",
        ),
        ({"space": {BATCH: (8,)}}, r"batch_size as a tuple must be \(low, high\)"),
        (
            {"space": {"kind": ("nlinear", "dlinear")}},
            "kind as a tuple must be .*: put choices into a list",
        ),
        ({"space": {BATCH: (16, 8)}}, r"batch_size must have low below high; got \(16, 8\)"),
        (
            {"space": {DECAY: (0, 1.0, "log")}},
            "training__weight_decay must have low below high and, with 'log', above 0",
        ),
        ({"space": {DECAY: (0.1, 1.0, "lin")}}, r"or \(low, high, 'log'\) with two numbers"),
        (
            {"space": {BATCH: [8, -1]}},
            r"allows what a fit refuses \(training__batch_size = -1\): batch_size must be a whole",
        ),
        (
            {"space": {"context": (12, 10**6)}},
            r"allows what a fit refuses \(context = 1000000\): .*shorten context",
        ),
        ({"space": {"kind": ["nlinear", "arima"]}}, r"\(kind = 'arima'\): kind must be one of"),
        ({"n_trials": 0}, "n_trials must be a whole number of at least 1; got 0"),
        ({"test_size": -1}, "test_size must be a whole number of at least 0; got -1"),
        ({"test_size": 10**6}, "test_size = 1000000 leaves nothing of series 's0'"),
        (
            {"model": linear(val_size=0)},
            "tune compares validation losses, and val_size = 0 leaves none",
        ),
        ({"random_state": -1}, "random_state must be an int of at least 0"),
        (
            {"model": linear(trainer=DDPSettings(2)), "prune": True},
            "prune=True looks at each epoch",
        ),
        (
            {"model": linear(trainer=DDPSettings()), "random_state": None},
            "processes of a launcher must search alike",
        ),
    ],
)
def test_bad_requests_are_refused_before_training(monkeypatch, given, message):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        search(**given)


def test_combinations_are_tried_out_before_training(monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    space = {"network__d_model": [8, 16], "network__n_heads": [2, 3]}
    with pytest.raises(
        ValueError,
        match=r"allows what a fit refuses \(network__d_model = 8, network__n_heads = 3\): ",
    ):
        search(attention(), space=space)
    # Too many to try all: each choice is tried at least once.
    many = {
        "network__d_ff": list(range(8, 400)),
        "network__n_layers": [1, 2],
        BATCH: [*range(1, 400), 0],
    }
    with pytest.raises(ValueError, match="batch_size = 0"):
        search(attention(), space=many)


def test_settings_that_need_filled_values_are_refused_before_training(monkeypatch):
    df = long_frame()
    df.loc[40, "y"] = np.nan
    space = {"training__linear_skip": [True, "least_squares"]}
    with monkeypatch.context() as patch:
        patch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
        with pytest.raises(
            ValueError, match=r"\(training__linear_skip = 'least_squares'\): mlr .*"
        ):
            search(attention(), df=df, space=space)
    filled = attention(schema=Schema(missing="interpolate"))
    trials = search(filled, df=df, space=space).trials
    assert set(trials["state"]) == {"done"}
    assert set(trials["training__linear_skip"]) == {True, "least_squares"}


def test_contexts_that_are_judged_by_other_windows_are_told():
    def rows(name, n):
        y = np.sin(np.arange(n))
        return pd.DataFrame({"unique_id": name, "ds": pd.date_range("2024", periods=n), "y": y})

    df = pd.concat([rows("long", 120), rows("short", 40), rows("other", 40)])
    space = {"context": [8, 28]}
    counts = [
        linear(context=context, val_size=30).fit(df).summary_["valid_windows"]
        for context in space["context"]
    ]
    message = rf"losses on {counts[0]} .* \(context = 8\) .* {counts[1]} \(context = 28\)"
    with pytest.warns(UserWarning, match=message):
        search(linear(val_size=30), df=df, space=space, n_trials=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(linear(val_size=0.1), df=df, space=space, n_trials=1)


def test_other_forecasters_are_refused():
    with pytest.raises(TypeError, match=r"needs a forecaster with a validation loss, .* got Naive"):
        tune(Naive(4), long_frame(), {"context": [1]})


def test_a_missing_optuna_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("tsattn.checks.find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"tune needs optuna; install it with: pip install 'tsattn\[tune\]'"
    ):
        search()


def test_it_is_quiet_and_leaves_the_loggers_as_they_were(capfd):
    import optuna

    loggers = [
        logging.getLogger(name)
        for name in ("optuna", "optuna.study.study", "optuna.storages._in_memory")
    ]
    before = [(each.level, list(each.filters), list(each.handlers)) for each in loggers]
    verbosity = optuna.logging.get_verbosity()
    search(linear(max_epochs=3), space={RATE: [5e-3, 1e30]}, n_trials=4, prune=True)
    assert capfd.readouterr() == ("", "")
    assert [(each.level, list(each.filters), list(each.handlers)) for each in loggers] == before
    assert optuna.logging.get_verbosity() == verbosity


def test_series_without_a_value_are_told_and_left_out():
    df = long_frame()
    empty = df[df["unique_id"] == "s0"].assign(unique_id="empty", y=np.nan)
    with pytest.warns(UserWarning, match="'empty' has no value; the search reads nothing of them"):
        found = search(df=pd.concat([df, empty]), test_size=20, n_trials=1)
    expected = search(test_size=20, n_trials=1).forecaster.predict()
    pd.testing.assert_frame_equal(found.forecaster.predict(), expected)
