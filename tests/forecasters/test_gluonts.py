"""The networks of GluonTS: trained without a trace, and forecasting what GluonTS itself does."""

import logging
import random
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from tables import seasonal_table

from tsattn.data.frames import to_panel
from tsattn.evaluate.backtest import backtest
from tsattn.forecasters import gluonts as deep
from tsattn.forecasters.gluonts import GluonTSForecaster, SharedNormal
from tsattn.forecasters.naive import Naive, WindowAverage
from tsattn.forecasters.pooled import training_windows
from tsattn.silence import LIGHTNING, collected, ignored, silenced

with ignored(*deep._THEIR_OWN):
    from gluonts.torch.model.d_linear import DLinearEstimator
    from gluonts.torch.model.d_linear.module import DLinearModel
    from gluonts.torch.model.deepar.module import DeepARModel
    from gluonts.torch.model.estimator import PyTorchLightningEstimator
    from gluonts.torch.model.patch_tst.module import PatchTSTModel

MODELS = ("deepar", "patchtst", "dlinear")
H = 4
CONTEXT = 12
TINY = {"context": CONTEXT, "max_epochs": 1, "n_paths": 50, "random_state": 0}
FEW = {"num_batches_per_epoch": 3, "batch_size": 8}


def long(lengths=(60, 45), seed=0):
    return seasonal_table(lengths, rate=2 * np.pi / 6, noise=0.2, shift=5, seed=seed)


def make(model, *, estimator_args=FEW, **settings):
    return GluonTSForecaster(H, model, estimator_args=estimator_args, **{**TINY, **settings})


def contexts(n=5, seed=1):
    return np.random.default_rng(seed).normal(size=(n, CONTEXT, 1)) * 3 + 20


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


@pytest.mark.parametrize(
    "told", [lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_the_user_tells_torch_changes_no_forecast(told):
    plain = make("deepar").fit(long()).predict()
    with told():
        answer = make("deepar").fit(long()).predict()
    pd.testing.assert_frame_equal(answer, plain)


def test_a_fit_of_its_own_is_made_in_a_job_of_several_tasks(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NAME", "nightly")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert make("dlinear").fit(long()).n_windows_ > 0


def test_the_network_is_gluonts_own_and_learns(model):
    kind = {"deepar": DeepARModel, "patchtst": PatchTSTModel, "dlinear": DLinearModel}[model]
    forecaster = make(
        model,
        max_epochs=6,
        estimator_args={"num_batches_per_epoch": 20, "batch_size": 32, "lr": 1e-2},
    )
    frame = long((160, 160))
    scores = backtest([forecaster, Naive(H), WindowAverage(H, 6)], frame, n_windows=20).scores
    assert scores.loc[forecaster.alias_, "mae"] < 0.7 * scores["mae"].iloc[1:].min()
    assert isinstance(make(model).fit(long()).network_, kind)


def test_forecasts_equal_gluonts_own_predictor(model, monkeypatch):
    """The predictor that the estimator itself made, on the same standardised windows, with the same
    noise.
    """
    kept = []
    train_model = PyTorchLightningEstimator.train_model

    def keep(self, *args, **kwargs):
        kept.append(train_model(self, *args, **kwargs))
        return kept[-1]

    monkeypatch.setattr(PyTorchLightningEstimator, "train_model", keep)
    scaling = {} if model == "deepar" else {"scaling": "mean"}  # the network's own on top
    forecaster = make(model, max_epochs=3, estimator_args=FEW | scaling).fit(long())
    x = contexts(3)
    level = x.mean(axis=1)
    spread = x.std(axis=1)
    ours = forecaster.predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1][:, :, 0]
    point = forecaster.predict_windows(x)[0][:, :, 0]
    predictor = kept[0].predictor.to("cpu")
    entries = deep._entries((x[..., 0] - level) / spread)
    predictor.prediction_net.model.num_parallel_samples = forecaster.n_paths
    with ignored(*deep._THEIR_OWN), torch.random.fork_rng(devices=[]):
        torch.manual_seed(forecaster._path_seed)
        theirs = list(as_double(predictor).predict(entries))
    for b, forecast in enumerate(theirs):
        expected = (
            np.stack([forecast.quantile(q) for q in (0.1, 0.5, 0.9)], axis=-1) * spread[b]
            + level[b]
        )
        # GluonTS takes the nearest path where we interpolate between two.
        tolerance = {"atol": 0.2 * spread[b, 0]} if model == "deepar" else {"rtol": 1e-5}
        np.testing.assert_allclose(ours[b], expected, **tolerance)
        np.testing.assert_allclose(point[b], forecast.mean * spread[b] + level[b], rtol=1e-5)


def as_double(predictor):
    """GluonTS feeds float32; the network has been turned to float64."""
    net = predictor.prediction_net.double()
    forward = net.forward

    def widened(*args, **kwargs):
        kwargs = {k: v.double() if torch.is_floating_point(v) else v for k, v in kwargs.items()}
        return forward(*(a.double() if torch.is_floating_point(a) else a for a in args), **kwargs)

    net.forward = widened
    return predictor


def test_quantiles_are_those_of_the_student_t(model):
    if model == "deepar":
        return
    forecaster = make(model).fit(long())
    x = contexts(2)
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    with torch.no_grad():
        (df, loc, scale), _, _ = forecaster.network_(
            torch.as_tensor(z[..., 0]), torch.ones(2, CONTEXT).double()
        )
    quantiles = (0.05, 0.5, 0.99)
    expected = np.stack(
        [stats.t.ppf(q, df.numpy(), loc.numpy(), scale.numpy()) for q in quantiles], axis=-1
    )
    expected = (
        expected[:, :, None] * x.std(axis=1)[:, None, :, None] + x.mean(axis=1)[:, None, :, None]
    )
    np.testing.assert_allclose(
        forecaster.predict_windows(x, quantiles=quantiles)[1], expected, rtol=1e-6
    )


def test_all_windows_share_their_noise():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loc = torch.arange(6.0).repeat_interleave(1000)
        scale = torch.full((6000,), 2.0)
        drawn = SharedNormal(loc[:, None], scale[:, None], n_paths=1000).sample().reshape(6, 1000)
    noise = (drawn - torch.arange(6.0)[:, None]) / 2
    torch.testing.assert_close(noise, noise[:1].expand(6, -1), rtol=0, atol=1e-6)
    assert stats.kstest(noise[0].numpy(), "norm").pvalue > 0.01
    with pytest.raises(ValueError, match="draws one path a row"):
        SharedNormal(loc, scale, n_paths=1000).sample((2,))


def test_paths_do_not_depend_on_the_pass(monkeypatch):
    forecaster = make("deepar").fit(long())
    x = contexts(9)
    whole_forecast = forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1]
    monkeypatch.setattr(deep, "_PASS_ROWS", 2 * TINY["n_paths"])
    np.testing.assert_allclose(
        forecaster.predict_windows(x, quantiles=(0.1, 0.9))[1], whole_forecast, rtol=1e-9
    )
    np.testing.assert_allclose(
        forecaster.predict_windows(x[4:5], quantiles=(0.1, 0.9))[1], whole_forecast[4:5], rtol=1e-9
    )


def test_the_seed_decides_and_nothing_else(model):
    x = contexts()
    first = make(model).fit(long()).predict_windows(x)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        torch.rand(7)
        again = make(model).fit(long())
    np.testing.assert_array_equal(again.predict_windows(x)[0], first)
    np.testing.assert_array_equal(again.predict_windows(x)[0], first)
    assert not np.allclose(make(model, random_state=1).fit(long()).predict_windows(x)[0], first)


class Ear(logging.Handler):
    """Hears what loggers say: their own handlers write to the stream of the time of
    their import.
    """

    def __init__(self):
        super().__init__()
        self.words = []

    def emit(self, record):
        self.words.append(record.getMessage())


def test_nothing_is_left_behind(model, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    states = (
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
        random.getstate(),
    )
    filters = list(warnings.filters)
    threads = torch.get_num_threads()
    interrupt = signal.getsignal(signal.SIGINT)
    loggers = {
        name: (logging.getLogger(name).level, list(logging.getLogger(name).filters))
        for name in LIGHTNING
    }
    said = Ear()
    logging.getLogger("lightning.pytorch").addHandler(said)
    forecaster = make(model).fit(long())
    forecaster.predict(level=80)
    logging.getLogger("lightning.pytorch").removeHandler(said)
    assert said.words == []
    assert capfd.readouterr() == ("", "")
    assert list(Path(tmp_path).iterdir()) == [temporary]
    assert not list(temporary.iterdir())
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert warnings.filters == filters
    assert (torch.get_num_threads(), signal.getsignal(signal.SIGINT)) == (threads, interrupt)
    for name, (level, kept) in loggers.items():
        assert (logging.getLogger(name).level, logging.getLogger(name).filters) == (level, kept)


def test_two_threads_forecast_what_one_does():
    own_forecast = [
        make("deepar", random_state=seed).fit(long()).predict().iloc[:, 2].to_numpy()
        for seed in (0, 1)
    ]
    forecasts = {}

    def work(seed):
        forecasts[seed] = (
            make("deepar", random_state=seed).fit(long()).predict().iloc[:, 2].to_numpy()
        )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (0, 1):
        np.testing.assert_array_equal(forecasts[seed], own_forecast[seed])


def test_an_interrupt_reaches_the_caller_and_the_old_fit_stays(monkeypatch):
    forecaster = make("dlinear").fit(long())
    before = forecaster.predict()

    def interrupted(self, batch, index):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(
        "gluonts.torch.model.d_linear.lightning_module.DLinearLightningModule.training_step",
        interrupted,
    )
    with pytest.raises(KeyboardInterrupt):
        forecaster.fit(long((80, 80)))
    assert signal.getsignal(signal.SIGINT) is handler
    pd.testing.assert_frame_equal(forecaster.predict(), before)


def test_the_end_of_the_process_is_the_users_matter(monkeypatch):
    from gluonts.torch.model.d_linear.lightning_module import DLinearLightningModule

    answered = []
    before = signal.signal(signal.SIGTERM, lambda *_: answered.append("user"))
    step = DLinearLightningModule.training_step

    def signalled(module, *args):
        signal.raise_signal(signal.SIGTERM)
        return step(module, *args)

    monkeypatch.setattr(DLinearLightningModule, "training_step", signalled)
    try:
        make("dlinear").fit(long())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert answered


def test_a_constant_window_forecasts_its_value_with_no_spread(model):
    forecaster = make(model).fit(long())
    x = np.array([0.0, 0.1, -7e9])[:, None, None] * np.ones((1, CONTEXT, 1))
    forecasts = forecaster.predict_windows(x, quantiles=(0.1, 0.5, 0.9))[1]
    np.testing.assert_array_equal(forecasts, np.broadcast_to(x[:, :1, :, None], forecasts.shape))


def test_forecasts_follow_shift_and_scale(model):
    forecaster = make(model).fit(long())
    x = contexts()
    moved = forecaster.predict_windows(1e4 + 1e3 * x, quantiles=(0.1, 0.5))[1]
    np.testing.assert_allclose(
        moved, 1e4 + 1e3 * forecaster.predict_windows(x, quantiles=(0.1, 0.5))[1], rtol=1e-9
    )


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_any_context_is_served(model, rows):
    forecaster = make(model, context=rows).fit(long())
    assert np.isfinite(forecaster.predict(level=80).iloc[:, 2:].to_numpy()).all()
    if model == "deepar":
        assert forecaster.network_.describe_inputs()["past_target"].shape == (
            1,
            rows,
        ), "no more and no less is read"


def test_training_windows_come_shuffled(monkeypatch):
    """A few batches must not all be of the first series."""
    taught = []
    entries = deep._entries
    monkeypatch.setattr(
        deep, "_entries", lambda windows: taught.append(windows) or entries(windows)
    )
    make("dlinear").fit(long())
    make("dlinear", random_state=1).fit(long())
    *whole, _ = training_windows(
        to_panel(long()),
        context=CONTEXT,
        horizon=H,
        max_windows=999,
        generator=np.random.default_rng(),
        centre="mean",
    )
    expected = np.hstack(whole).astype(np.float32)
    for windows in taught:
        assert not np.array_equal(windows, expected)
        np.testing.assert_array_equal(np.unique(windows, axis=0), np.unique(expected, axis=0))
    assert not np.array_equal(*taught)


def test_arguments_reach_the_estimator():
    forecaster = make("deepar", estimator_args=FEW | {"hidden_size": 7, "num_layers": 1}).fit(
        long()
    )
    assert forecaster.network_.rnn.hidden_size == 7
    assert make("dlinear", max_windows=20).fit(long()).n_windows_ == 20
    rates = []
    original = DLinearEstimator.create_lightning_module

    def note(self):
        rates.append(
            (
                self.lr,
                self.batch_size,
                self.num_batches_per_epoch,
                self.trainer_kwargs["max_epochs"],
            )
        )
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DLinearEstimator, "create_lightning_module", note)
        make("dlinear", max_epochs=2, estimator_args=FEW | {"lr": 0.5}).fit(long())
    assert rates == [(0.5, 8, 3, 2)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "tft"}, "model must be one of deepar, patchtst, dlinear; got 'tft'"),
        ({"context": 1}, "context must be a whole number of at least 2; got 1"),
        ({"max_epochs": 0}, "max_epochs must be a whole number"),
        ({"n_paths": 0.5}, "n_paths must be a whole number"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda; got 'tpu'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GluonTSForecaster(2, **settings)


def test_settings_after_a_fit_count_at_the_next_forecast_or_are_refused(tmp_path):
    model = make("deepar", estimator_args={"num_batches_per_epoch": 2, "hidden_size": 4}).fit(
        long()
    )
    few = model.set_params(n_paths=7).predict(level=80)
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(GluonTSForecaster.load(tmp_path / "m").predict(level=80), few)
    model.set_params(estimator_args={"num_batches_per_epoch": 2, "hidden_size": 8})
    for ask in (model.predict, lambda: model.save(tmp_path / "m")):
        with pytest.raises(
            ValueError,
            match=r"estimator_args = .* is not that of the fit, .*; fit again, or set it",
        ):
            ask()


def test_errors_say_what_to_do():
    for name in ("hidden_sise", "prediction_length", "trainer_kwargs"):
        with pytest.raises(
            ValueError, match=f"estimator_args of 'deepar' may hold .*hidden_size.*; got '{name}'"
        ):
            make("deepar", estimator_args={name: 3}).fit(long())
    with pytest.raises(
        ValueError,
        match="one window of 500 rows of context and 4 of horizon needs at least 504 rows",
    ):
        make("dlinear", context=500).fit(long())
    with pytest.raises(ValueError, match="GluonTSForecaster is not fitted; call fit"):
        GluonTSForecaster(2).predict_windows(np.zeros((1, 9, 1)))
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device 'cuda' is not available here"):
            make("dlinear", device="cuda").fit(long())


def test_only_known_warnings_are_answered():
    def speak():
        with collected((UserWarning, "known")) as texts:
            warnings.warn("known and answered", UserWarning, stacklevel=1)
            warnings.warn("unknown", UserWarning, stacklevel=1)
            warnings.warn("known, but of another kind", RuntimeWarning, stacklevel=1)
        return texts

    with pytest.warns(Warning, match="known") as caught:
        texts = speak()
    assert texts == ["known and answered"]
    assert [str(warning.message) for warning in caught] == ["unknown", "known, but of another kind"]

    def fail():
        with collected((UserWarning, "known")):
            warnings.warn("unknown", UserWarning, stacklevel=1)
            raise LookupError

    with pytest.warns(UserWarning, match="unknown"), pytest.raises(LookupError):
        fail()
    before = list(warnings.filters)
    with ignored((UserWarning, "known")):
        warnings.warn("known and answered", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="unknown"):
            warnings.warn("unknown", UserWarning, stacklevel=1)
    assert warnings.filters == before


def test_only_this_thread_is_silenced(caplog):
    logger = logging.getLogger("tsattn.tests.hush")

    def say():
        logger.warning("from another thread")

    with silenced("tsattn.tests.hush"):
        logger.warning("from this thread")
        other = threading.Thread(target=say)
        other.start()
        other.join()
    logger.warning("after")
    assert caplog.messages == ["from another thread", "after"]
