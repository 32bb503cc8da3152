"""Callbacks and a logger of Lightning inside a fit: what they see, and what they leave alone."""

import csv
import pickle
import re

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.base import clone

from tsattn import AttentionForecaster, LinearForecaster, Network, Training
from tsattn.training.parts import TrainerParts

EPOCHS = 5


class Recorder(Callback):
    """Numbers that a callback finds after each epoch."""

    def __init__(self):
        self.rows = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.rows.append({name: float(x) for name, x in trainer.callback_metrics.items()})


def frame():
    y = np.sin(np.arange(200) / 3) + np.random.default_rng(0).normal(0, 0.1, 200)
    return pd.DataFrame({"ds": pd.date_range("2024", periods=200), "y": y})


def network(**settings):
    training = Training(**{"max_epochs": EPOCHS, "patience": None, **settings})
    sizes = Network(d_model=8, n_layers=1, d_ff=8, patch_len=6, patch_stride=3)
    return AttentionForecaster(4, context=24, network=sizes, training=training, random_state=0)


def stops_early():
    return [EarlyStopping("valid_loss", min_delta=1e9, patience=2)]


def test_parts_see_the_course_of_a_fit_and_leave_its_result_alone(tmp_path):
    recorder = Recorder()
    parts = TrainerParts(lambda: [recorder], lambda: CSVLogger(tmp_path))
    with_parts = network(trainer=parts).fit(frame())
    pd.testing.assert_frame_equal(with_parts.predict(), network().fit(frame()).predict())
    course = with_parts.history_.set_index("epoch")
    # A callback that does not monitor runs before the epoch is logged, so it is one epoch behind.
    recorded = pd.DataFrame(recorder.rows[1:], index=course.index[:-1])
    pd.testing.assert_frame_equal(recorded[course.columns], course[:-1], rtol=1e-6)
    (path,) = tmp_path.rglob("metrics.csv")
    rows = [*csv.DictReader(path.read_text().splitlines())]
    for name in course:
        assert [float(row[name]) for row in rows] == pytest.approx([*course[name]])


def test_without_validation_windows_there_is_no_validation_loss():
    recorder = Recorder()
    parts = TrainerParts(lambda: [recorder])
    training = Training(max_epochs=2, trainer=parts)
    LinearForecaster(4, context=24, val_size=0, training=training).fit(frame())
    assert recorder.rows[-1].keys() == {"train_loss", "learning_rate"}


def test_each_fit_has_callbacks_of_its_own():
    model = network(trainer=TrainerParts(stops_early))
    for _ in range(2):
        assert len(model.fit(frame()).history_) == 3


def test_each_fit_has_a_log_of_its_own(tmp_path):
    model = network(max_epochs=1, trainer=TrainerParts(logger=lambda: CSVLogger(tmp_path)))
    model.cross_validation(frame(), n_windows=2, refit=True)
    assert len([*tmp_path.rglob("metrics.csv")]) == 2


def test_callbacks_of_lightning_that_need_an_option_have_it(tmp_path):
    parts = TrainerParts(lambda: [ModelCheckpoint(tmp_path / "kept", monitor="valid_loss")])
    network(trainer=parts, max_epochs=2).fit(frame())
    assert len([*(tmp_path / "kept").iterdir()]) == 1


def four_fifths_below(points, truth):
    """A multiple of the pinball loss of the quantile 0.8."""
    return torch.maximum(truth - points, (points - truth) / 4)


@pytest.mark.parametrize("kind", ["encoder", "encoder with gaps", "linear"])
def test_an_own_loss_is_learnt(kind):
    rng = np.random.default_rng(0)
    y = rng.normal(0, 1, 2000)
    if "gaps" in kind:
        y[rng.random(2000) < 0.1] = np.nan
    df = pd.DataFrame({"ds": pd.date_range("2020", periods=2000), "y": y})
    parts = TrainerParts(loss=four_fifths_below)
    training = Training(max_epochs=8, learning_rate=0.02, trainer=parts)
    model = LinearForecaster(4, context=24, training=training, random_state=0)
    if kind != "linear":
        model = network(max_epochs=8, trainer=parts)
    later = model.cross_validation(df, n_windows=150).dropna()
    is_below = later["y"] < later[model.alias_]
    assert 0.72 < is_below.mean() < 0.88


def test_the_own_loss_of_each_value_gives_the_forecast_of_the_usual_one():
    def squares(points, truth):
        return (points - truth) ** 2

    own = network(trainer=TrainerParts(loss=squares)).fit(frame()).predict()
    usual = network().fit(frame()).predict()
    np.testing.assert_allclose(own["mlr"], usual["mlr"], rtol=1e-4)


def test_another_loss_of_the_same_name_is_another_fit(tmp_path):
    forecasts = []
    for beta in (0.01, 10.0, 0.01):
        parts = TrainerParts(loss=torch.nn.SmoothL1Loss(reduction="none", beta=beta))
        training = Training(max_epochs=2, trainer=parts, checkpoint_dir=tmp_path)
        model = LinearForecaster(4, context=24, training=training, random_state=0)
        forecasts.append(model.fit(frame()).predict())
        assert len([*tmp_path.iterdir()]) == (1 if beta == 0.01 and len(forecasts) == 1 else 2)
    assert not forecasts[0].equals(forecasts[1])
    pd.testing.assert_frame_equal(forecasts[0], forecasts[2])


@pytest.mark.parametrize("point", ["mean", "median"])
def test_points_of_an_own_loss_are_neither_means_nor_medians(point):
    model = network(trainer=TrainerParts(loss=four_fifths_below)).set_params(point=point)
    message = f"point must be None with a loss of your own, .*; got '{point}'; leave it out"
    with pytest.raises(ValueError, match=message):
        model.fit(frame())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TrainerParts(loss="mse"), TypeError, "loss must be a function .*; got 'mse'; wr"),
        (
            lambda: Training(loss="mae", trainer=TrainerParts(loss=four_fifths_below)),
            ValueError,
            "there are two losses, 'mae' and that of TrainerParts; leave out loss",
        ),
        (
            lambda: network(trainer=TrainerParts(loss=torch.nn.functional.l1_loss)).fit(frame()),
            ValueError,
            r"the loss of each value, of shape \(\d+, .*; got \(\); take no mean, as",
        ),
        (
            lambda: network(trainer=TrainerParts(loss=lambda *_: 0.5)).fit(frame()),
            TypeError,
            "loss must give a tensor, .*; got float; compute it from points",
        ),
        (
            lambda: AttentionForecaster(
                4, head="quantile", training=Training(trainer=TrainerParts(loss=four_fifths_below))
            ).fit(frame()),
            ValueError,
            "loss is for points; got loss = <function .* with head = 'quantile'",
        ),
    ],
)
def test_a_loss_that_cannot_be_learnt_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_forecaster_with_parts_is_cloned_pickled_and_saved(tmp_path):
    model = network(trainer=TrainerParts(stops_early)).fit(frame())
    copies = [clone(model), pickle.loads(pickle.dumps(model))]
    assert [copy.training.trainer for copy in copies] == [model.training.trainer] * 2
    assert len(copies[0].fit(frame()).history_) == 3
    model.save(tmp_path / "model")
    loaded = AttentionForecaster.load(tmp_path / "model")
    assert loaded.training.trainer is None
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())


def test_a_finished_fit_with_parts_is_found_again(tmp_path):
    for _ in range(2):
        recorder = Recorder()
        parts = TrainerParts(lambda recorder=recorder: [recorder])
        network(max_epochs=2, trainer=parts, checkpoint_dir=tmp_path).fit(frame())
    assert recorder.rows == []
    assert repr(TrainerParts(stops_early)) == (
        f"TrainerParts(callbacks={__name__}.stops_early, logger=None, loss=None)"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (lambda: TrainerParts([]), "callbacks must be a function that .* its own; got []; write"),
        (lambda: TrainerParts(logger=True), "logger must be a function .*; got True; write logger"),
        (lambda: TrainerParts(lambda: [1]), "callbacks must return Lightning .*; got int; derive"),
        (lambda: TrainerParts(lambda: None), "callbacks must return .*; got NoneType; derive"),
        (lambda: TrainerParts(logger=list), "logger must return a Lightning logger; got list;"),
    ],
)
def test_other_parts_are_refused(parts, message):
    with pytest.raises(TypeError, match=message.replace("[]", re.escape("[]"))):
        network(trainer=parts()).fit(frame())


def test_callbacks_alone_are_no_trainer():
    message = r"must be None, DDPSettings or TrainerParts; got Recorder; write TrainerParts\(call"
    with pytest.raises(TypeError, match=message):
        network(trainer=Recorder()).fit(frame())
