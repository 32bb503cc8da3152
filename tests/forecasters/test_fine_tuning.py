"""A pretrained forecaster that goes on learning: what it learns from, when that is kept, and what
stays as it was.
"""

import copy
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from tables import daily_table
from tiny_network import CARD, tiny_network

from tsattn import PretrainedForecaster, backtest, cli
from tsattn.benchmark import run_suite
from tsattn.catalogue import load_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.windows import History
from tsattn.forecasters import fine_tuning
from tsattn.forecasters.fine_tuning import _Windows, fine_tune
from tsattn.pretrained.weights import save_network
from tsattn.suite import Suite

H = 6
N_STEPS = 6


def quicken(patch):
    """Rates at which a network of random weights learns in few steps of few windows."""
    patch.setattr(fine_tuning, "_RATE", 0.05)
    patch.setattr(fine_tuning, "_OTHER_RATE", 0.015)
    patch.setattr(fine_tuning, "_ROWS_A_STEP", 1000)
    patch.setattr(fine_tuning, "_LEAST_STEPS", N_STEPS)
    patch.setattr(fine_tuning, "_MOST_STEPS", N_STEPS)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    quicken(monkeypatch)


def make(horizon=H, **params):
    return PretrainedForecaster.from_settings(
        horizon=horizon, **{"weights": tiny_network(), "fine_tune": True, "freq": "D", **params}
    )


def wave(n, seed=0):
    """A season of 5 rows whose every other turn is upside down, and a little noise."""
    t = np.arange(n)
    return np.where(t // 5 % 2, -1, 1) * np.array([0.0, 4, 1, -2, -3])[
        t % 5
    ] + np.random.default_rng(seed).normal(0, 0.1, n)


def waves(*lengths):
    return daily_table(*lengths, values=[wave(n, i) for i, n in enumerate(lengths)])


def before(frame, days):
    """The rows up to so many days before the last one."""
    return frame[frame["ds"] <= frame["ds"].max() - pd.Timedelta(days=days)]


def weights_of_network(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def weights_of(forecaster):
    return weights_of_network(forecaster.network_)


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def learnt():
    """A frame, and a forecaster that was tuned on all but its last 40 days."""
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch)
        frame = waves(260, 240)
        return frame, make().fit(before(frame, 40))


def test_a_pattern_of_the_table_is_learnt_and_helps_on_later_rows(learnt):
    frame, tuned = learnt
    plain = make(fine_tune=False).fit(before(frame, 40))
    summary = tuned.summary_
    assert summary["valid_windows"] == 17 + 15
    assert 0 < summary["best_step"] <= summary["steps"] == N_STEPS
    assert summary["valid_loss"] < 0.8 * summary["start_loss"]
    assert summary["parameters"] == sum(
        parameter.numel() for parameter in tuned.network_.parameters()
    )
    assert plain.summary_ == {}
    assert plain.network_ is tiny_network()
    panel = to_panel(frame)
    ends = (panel.starts[1:, None] - np.arange(H, 41)).ravel()
    errors = [
        np.abs(History(panel).futures(ends, H) - f.predict_before(History(panel), ends)[0]).mean()
        for f in (tuned, plain)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_a_seed_gives_the_same_weights_and_another_one_others(learnt):
    frame, tuned = learnt
    past = before(frame, 40)
    with torch.inference_mode():  # the caller's mode, in which nothing could be learnt
        cloned = clone(tuned).set_params(n_threads=2).fit(past)
    assert same(weights_of(cloned), weights_of(tuned))
    assert cloned.summary_ == tuned.summary_
    assert not same(weights_of(make(random_state=1).fit(past)), weights_of(tuned))
    one, other = (make(random_state=np.random.default_rng(4)).fit(past) for _ in range(2))
    assert same(weights_of(one), weights_of(other))


def test_a_later_fit_begins_with_the_shipped_weights_again(learnt):
    frame, tuned = learnt
    forecaster = make().fit(frame)
    assert not same(weights_of(forecaster), weights_of(tuned))
    assert same(weights_of(forecaster.fit(before(frame, 40))), weights_of(tuned))
    assert forecaster.set_params(fine_tune=False).fit(frame).network_ is tiny_network()
    assert forecaster.summary_ == {}


def test_weights_stay_where_nothing_is_gained(monkeypatch):
    monkeypatch.setattr(fine_tuning, "_RATE", 20.0)
    monkeypatch.setattr(fine_tuning, "_OTHER_RATE", 20.0)
    tuned = make().fit(waves(120))
    assert tuned.summary_["steps"] == N_STEPS
    assert tuned.summary_["best_step"] == 0
    assert tuned.summary_["valid_loss"] == tuned.summary_["start_loss"]
    assert tuned.network_ is tiny_network()


def test_a_lower_loss_that_may_be_luck_is_not_enough(monkeypatch, learnt):
    frame, tuned = learnt
    monkeypatch.setattr(fine_tuning, "_CONFIDENCE", 100 - 1e-9)
    doubted = make().fit(before(frame, 40))
    assert doubted.network_ is tiny_network()
    assert doubted.summary_ == tuned.summary_ | {
        "best_step": 0,
        "valid_loss": tuned.summary_["start_loss"],
    }


def test_held_out_rows_choose_and_do_not_teach(monkeypatch, learnt):
    frame, _ = learnt
    panel = to_panel(frame)
    seen = []
    loss = fine_tuning._losses

    def watch(network, windows):
        seen.append(weights_of_network(network))
        return loss(network, windows)

    monkeypatch.setattr(fine_tuning, "_losses", watch)

    def course(changed):
        seen.clear()
        fine_tune(tiny_network(), changed, horizon=H, val_size=30, random_state=0)
        return list(seen)

    first = course(panel)
    assert len(first) == N_STEPS + 1
    row = np.arange(len(panel.values)) - np.repeat(panel.starts[:-1], panel.lengths)
    held = (row >= np.repeat(panel.lengths - 30, panel.lengths))[:, None]
    for change, alike in ((held, True), (~held & (np.arange(len(held)) % 50 == 7)[:, None], False)):
        other = course(replace(panel, values=np.where(change, 5 - 3 * panel.values, panel.values)))
        assert all(same(one, two) for one, two in zip(first, other, strict=True)) == alike


def test_windows_teach_before_and_judge_within_the_rows_held_out():
    frame = daily_table(60, 9, 30, 4)
    frame["y"] = np.arange(len(frame), dtype=float)
    panel = to_panel(frame)
    stops = np.array([40, 3, 21, 0])
    windows = _Windows(panel, stops, H, 64)
    rng = np.random.default_rng(0)
    ends = []
    for _ in range(20):
        x, y = (part.numpy() for part in windows.draw(rng))
        observed = np.isfinite(x)
        assert (observed.sum(1) >= 8).all()
        last = x[:, -1]
        first = np.nanmin(x, axis=1)
        owner = np.searchsorted(panel.starts, last, side="right") - 1
        # A series that is too short to judge teaches with all its rows; one of four rows has no
        # part.
        stop = panel.starts[:-1] + np.where(stops <= 8, panel.lengths, stops)
        assert (np.nanmax(y, axis=1) < stop[owner]).all()
        assert (first >= panel.starts[owner]).all()
        np.testing.assert_array_equal(y[:, 0], last + 1)
        ends.append(last + 1)
    drawn = np.unique(np.concatenate(ends))
    assert set(drawn) == {*range(8, 40), 68, *range(77, 90)}
    judged = [(x[:, -1].numpy(), y.numpy()) for x, y in windows.judging()]
    assert sum(len(x) for x, _ in judged) == len(windows.judges)
    for last, y in judged:
        np.testing.assert_array_equal(y, last[:, None] + 1 + np.arange(H))
    assert set(windows.judges) == {*range(40, 55), *range(90, 94)}


def test_steps_after_the_last_training_row_teach_nothing(monkeypatch):
    frame = daily_table(60, 90)
    frame["y"] = np.arange(len(frame), dtype=float)
    futures = []
    loss = fine_tuning.pinball

    def watch(network, x, y):
        futures.append(y)
        return loss(network, x, y)

    monkeypatch.setattr(fine_tuning, "pinball", watch)
    make().fit(frame)
    y = torch.cat(futures)
    assert y.isnan().any()
    steps = y.diff(dim=1)
    assert (steps[~steps.isnan()] == 1).all()


def test_channels_of_a_wide_table_teach_as_series_do():
    long = waves(120, 120)
    wide = long.pivot(index="ds", columns="unique_id", values="y")
    wide.columns.name = None
    assert same(weights_of(make().fit(wide)), weights_of(make().fit(long)))


@pytest.mark.parametrize("missing", ["mask", "interpolate", "ffill"])
def test_missing_values_are_no_hindrance(missing):
    frame = waves(200, 150)
    frame.loc[np.random.default_rng(0).choice(np.r_[1:200, 201:350], 60, replace=False), "y"] = (
        np.nan
    )
    summary = make(missing=missing).fit(frame).summary_
    assert np.isfinite([summary["start_loss"], summary["valid_loss"]]).all()
    assert summary["valid_loss"] < summary["start_loss"]


@pytest.mark.parametrize("lengths", [(3,), (14,), (60,), (9, 12)])
def test_too_short_a_table_keeps_its_weights_and_says_so(lengths):
    forecaster = make()
    with pytest.warns(
        UserWarning,
        match="too few of them.*weights stay as they were: bring more rows.*three horizons",
    ) as caught:
        forecaster.fit(waves(*lengths))
    assert caught[0].filename == __file__
    assert forecaster.network_ is tiny_network()
    assert forecaster.summary_["steps"] == forecaster.summary_["best_step"] == 0
    assert len(forecaster.predict()) == H * len(lengths)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"fine_tune": "yes"}, "fine_tune must be True or False; got 'yes'"),
        ({"nonnegative": 1}, "nonnegative must be True or False; got 1"),
        ({"val_size": 0}, "held-out rows; got val_size = 0; set it above 0"),
        ({"val_size": 3}, "val_size must hold at least one horizon; got 3"),
        ({"val_size": 1.5}, r"val_size must be a number of rows or a share in \[0, 1\); got 1.5"),
        ({"random_state": -1}, "random_state must be an int of at least 0"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_learnt(bad, message):
    with pytest.raises(ValueError, match=message):
        make(**bad).fit(waves(100))


def test_an_interrupted_fit_leaves_the_one_before_it(monkeypatch, learnt):
    forecaster = copy.copy(learnt[1])
    forecast_before = forecaster.predict()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "_losses", stop)
    before_threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(waves(200))
    assert torch.get_num_threads() == before_threads
    pd.testing.assert_frame_equal(forecaster.predict(), forecast_before)


def test_nothing_of_the_process_is_changed(capfd):
    legacy, state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    weights_before = weights_of_network(tiny_network())
    tuned = make().fit(waves(130), verbose=True)
    np.testing.assert_array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert capfd.readouterr() == ("", "")
    assert same(weights_of_network(tiny_network()), weights_before)
    for network in (tiny_network(), tuned.network_):
        assert not network.training
        assert not any(
            parameter.requires_grad or parameter.grad is not None
            for parameter in network.parameters()
        )


def test_a_saved_tuned_forecaster_forecasts_alike_and_learns_no_more(tmp_path, monkeypatch, learnt):
    _, tuned = learnt
    tuned.save(tmp_path / "model")
    monkeypatch.setattr(fine_tuning, "fine_tune", None)
    loaded = load_forecaster(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(level=80), tuned.predict(level=80))
    assert loaded.fine_tune is True
    assert loaded.summary_ == tuned.summary_
    assert {**loaded.get_params(), "weights": 0} == {**tuned.get_params(), "weights": 0}
    make(fine_tune=False).fit(waves(40)).save(tmp_path / "plain")
    assert "summary" not in json.loads((tmp_path / "plain" / "config.json").read_text())


def test_a_backtest_learns_from_the_rows_before_each_refit(learnt):
    frame, tuned = learnt
    forecaster = make()
    result = backtest(forecaster, frame, n_windows=2, step_size=40 - H, refit=True).frame
    assert not hasattr(forecaster, "network_")
    first = result[result["cutoff"] == result["cutoff"].min()]
    np.testing.assert_allclose(first["zero"], tuned.predict()["zero"], rtol=1e-6)


def test_covariates_are_read_on_top_of_the_tuned_network():
    frame = waves(200)
    frame["promo"] = (np.arange(200) % 9 == 0).astype(float)
    frame["y"] += 3 * frame["promo"]
    tuned = make(future_cols=("promo",)).fit(frame)
    assert tuned.summary_["best_step"] > 0
    assert tuned.covariate_regression_ is not None
    own_model = make().fit(frame[["unique_id", "ds", "y"]])
    assert same(weights_of(tuned), weights_of(own_model))


def test_a_suite_gives_it_seeds_and_the_validation_rows(tmp_path, monkeypatch):
    days = pd.date_range("2024-01-01", periods=100, freq="D")
    requests = []

    def watch(network, panel, *, title, **how):
        requests.append((int(panel.lengths[0]), how))
        return fine_tune(network, panel, title=title, **how)

    monkeypatch.setattr(fine_tuning, "fine_tune", watch)
    pd.DataFrame({"date": days, "u": wave(100)}).to_csv(tmp_path / "daily.csv", index=False)
    save_network(tiny_network(), tmp_path / "tiny", "tiny", CARD)
    settings = {"zero": {"fine_tune": True, "weights": str(tmp_path / "tiny")}}
    grid = Suite(
        table=tmp_path / "daily.csv",
        split="0.6,0.2,0.2",
        horizons=(H,),
        models=("zero",),
        seeds=(3, 4),
        settings=settings,
    )
    records = run_suite(grid)
    assert requests == [
        (80, {"horizon": H, "val_size": 20, "random_state": seed}) for seed in (3, 4)
    ]
    assert [record["seed"] for record in records] == [3, 4]
    assert records[0]["mae"] != records[1]["mae"]
    assert records[0]["config"]["fine_tune"] is True
    assert records[0]["params"] > 0
    settings["zero"]["fine_tune"] = False
    plain = run_suite(replace(grid, settings=settings))
    assert [record["seed"] for record in plain] == [3]


def test_the_command_line_fine_tunes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    waves(130).to_csv("long.csv", index=False)
    monkeypatch.setattr(fine_tuning, "_MOST_STEPS", 2)
    monkeypatch.setattr(fine_tuning, "_LEAST_STEPS", 2)
    fit = ["fit", "long.csv", "--model", "zero", "--horizon", str(H), "--out", "model", "--json"]
    assert cli.main([*fit, "--fine-tune", "--seed", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    loaded = load_forecaster(tmp_path / "model")
    assert (loaded.fine_tune, loaded.random_state) == (True, 5)
    assert cli.main(["forecast", "long.csv", "--from", "model", "--fine-tune"]) == 2
    assert "--fine-tune means nothing: leave it out" in capsys.readouterr().err
    assert (
        cli.main(["forecast", "long.csv", "--model", "naive", "--horizon", "2", "--fine-tune"]) == 2
    )
    assert "--fine-tune means nothing to naive" in capsys.readouterr().err


def test_a_terminal_is_told_how_far_it_is_and_nobody_else(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    make().fit(waves(150), verbose=True)
    assert screen.getvalue() == ""
    monkeypatch.setattr(screen, "isatty", lambda: True)
    make().fit(waves(150))
    make(fine_tune=False).fit(waves(150), verbose=True)
    assert screen.getvalue() == ""
    model = make().fit(waves(150), verbose=True)
    assert "\rzero [" in screen.getvalue()
    assert f" of {N_STEPS}, validation " in screen.getvalue()
    assert screen.getvalue().endswith("\n")
    assert set(vars(model)) == {*model.get_params(deep=False), "state_"}
