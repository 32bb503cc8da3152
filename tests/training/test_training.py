"""Training: it learns, it repeats, it resumes, it stays quiet and it touches nothing of
the user's.
"""

import logging
import signal
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pandas as pd
import pytest
import torch

from tsattn import make_forecaster
from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.forecaster import FitContext
from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import Dropout, set_generator
from tsattn.nn.models import PatchEncoder, build_model
from tsattn.random import Generators
from tsattn.training import loop
from tsattn.training.loop import ForecastModule, train
from tsattn.training.settings import Training
from tsattn.training.state import Checkpoint

CPU = torch.device("cpu")
SPEC = WindowSpec(24, 4)


def values():
    t = torch.arange(300.0)
    noise = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 0.1
    return (torch.sin(t * 2 * torch.pi / 12) + noise)[:, None]


def fit(
    config,
    *,
    seed=0,
    backbone="mlr",
    checkpoint_dir=None,
    key="k" * 64,
    data=None,
    valid=True,
    device=CPU,
    **changes,
):
    generators = Generators.from_seed(seed, device)
    sizes = {
        "d_model": 8,
        "n_heads": 2,
        "n_layers": 1,
        "d_ff": 16,
        "patch_len": 6,
        "patch_stride": 3,
        **changes,
    }
    model = build_model(ModelConfig(24, 4, backbone, **sizes), generator=generators.init)
    data = values() if data is None else data
    learn = WindowBatches(data, np.arange(24, 240), SPEC, batch_size=32, generator=generators.order)
    check = WindowBatches(data, np.arange(244, 297), SPEC, batch_size=32) if valid else None
    checkpoint = (
        None if checkpoint_dir is None else Checkpoint(Path(checkpoint_dir), key, generators)
    )
    progress = train(
        model, learn, check, config, generators=generators, device=device, checkpoint=checkpoint
    )
    return model, progress


def same(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_it_learns_a_sine(loss):
    _, progress = fit(Training(loss=loss, learning_rate=1e-2, max_epochs=6, patience=None))
    losses = [entry["valid_loss"] for entry in progress.history]
    assert losses[-1] < 0.5 * losses[0]


def end_after(n_epochs):
    """A fit that ends after so many epochs, and is that of its settings so far."""

    def look(module):
        module.trainer.should_stop |= module.progress.epoch == n_epochs

    return FitContext(after_epoch=look)


# The first epochs of attention show whether it learns; all of them take long.
@pytest.mark.parametrize(
    ("name", "n_epochs"),
    [("mlr", 2), pytest.param("mlr", 99, marks=pytest.mark.slow), ("nlinear", 99)],
)
def test_a_weekly_sine_of_two_hundred_days_is_learnt_by_default(name, n_epochs):
    t = np.arange(214)
    rng = np.random.default_rng(0)
    y = np.sin(2 * np.pi * t / 7) + 0.05 * rng.normal(size=len(t))
    df = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=len(t)), "y": y})
    model = make_forecaster(name, 14, random_state=0).fit_within(df[:200], end_after(n_epochs))
    assert model.summary_["epochs"] <= n_epochs
    assert np.abs(model.predict()[name].to_numpy() - y[200:]).mean() < 0.1


def test_an_epoch_by_default_has_thirty_steps_at_least():
    _, short = fit(Training(patience=None), backbone="nlinear")
    assert (short.epoch, short.step) == (10, 10 * 5 * 7)  # five passes of seven steps
    assert [Training().n_passes(steps) for steps in (1, 7, 29, 30, 65)] == [30, 5, 2, 1, 1]
    _, told = fit(Training(max_epochs=10, patience=None), backbone="nlinear")
    assert (told.epoch, told.step) == (10, 10 * 7)


def test_best_weights_are_restored_and_patience_stops():
    model, progress = fit(Training(learning_rate=0.3, max_epochs=30, patience=2), seed=1)
    scores = [entry["valid_loss"] for entry in progress.history]
    assert progress.epoch == progress.best_epoch + 2 < 30
    assert progress.best_score == min(scores)
    x, y = next(iter(WindowBatches(values(), np.arange(244, 297), SPEC, batch_size=1000)))
    with torch.inference_mode():
        assert float(((model(x) - y) ** 2).mean()) == pytest.approx(progress.best_score, rel=1e-5)


def test_validation_loss_does_not_depend_on_the_batch_size():
    scores = []
    for size in (1, 7, 1000):
        generators = Generators.from_seed(0, CPU)
        model = build_model(ModelConfig(24, 4, "nlinear"), generator=generators.init)
        learn = WindowBatches(values(), np.arange(24, 60), SPEC, batch_size=36)
        check = WindowBatches(values(), np.arange(244, 297), SPEC, batch_size=size)
        scores.append(
            train(model, learn, check, Training(max_epochs=1), generators=generators, device=CPU)
        )
    assert scores[0].best_score == pytest.approx(scores[2].best_score, rel=1e-6)
    assert scores[1].best_score == pytest.approx(scores[2].best_score, rel=1e-6)


def test_the_rate_rises_and_falls():
    _, progress = fit(
        Training(learning_rate=1e-2, max_epochs=20, patience=None), backbone="nlinear", valid=False
    )
    rates = [entry["learning_rate"] for entry in progress.history]
    assert rates[1] == pytest.approx(1e-2)
    assert rates[0] < rates[1] > rates[5] > rates[19] > 0
    assert progress.best_epoch == 20
    assert progress.best_score is None


def test_the_linear_map_beside_the_transformer_has_a_rate_of_its_own():
    model = build_model(
        ModelConfig(
            context=24, horizon=4, d_model=8, d_ff=8, n_layers=1, patch_len=6, patch_stride=6
        )
    )
    module = ForecastModule(model, Training(skip_rate=5.0, weight_decay=0.1), steps_per_epoch=1)
    module.trainer = SimpleNamespace(optimizers=[module.configure_optimizers()])
    module.on_train_batch_start(None, 0)
    rates = {
        id(p): group["lr"]
        for group in module.trainer.optimizers[0].param_groups
        for p in group["params"]
    }
    decay = {
        id(p): group["weight_decay"]
        for group in module.trainer.optimizers[0].param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == module.rate(0) * (
            5.0 if name.startswith("skip.") else 1.0
        ), name
        assert decay[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0), name


def test_same_seed_same_weights_whatever_happened_before():
    config = Training(max_epochs=2)
    first, _ = fit(config)
    torch.rand(11)
    np.random.seed(5)  # noqa: NPY002  (the global state is what must not matter)
    second, _ = fit(config)
    other, _ = fit(config, seed=1)
    assert same(first, second)
    assert not same(first, other)


def test_global_state_is_neither_read_nor_set():
    np.random.seed(3)  # noqa: NPY002
    before = (
        torch.random.get_rng_state(),
        np.random.get_state()[1].copy(),  # noqa: NPY002
        torch.get_num_threads(),
    )
    filters = list(warnings.filters)
    level = logging.getLogger("lightning.pytorch").level
    fit(Training(max_epochs=1))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == torch.get_num_threads()
    assert filters == list(warnings.filters)
    assert level == logging.getLogger("lightning.pytorch").level
    assert torch.is_grad_enabled()


def test_concurrent_fits_equal_serial_ones():
    config = Training(max_epochs=2)
    serial = [fit(config, seed=seed)[0] for seed in range(3)]
    together: dict[int, torch.nn.Module] = {}
    before = list(warnings.filters)
    threads = [
        threading.Thread(
            target=lambda seed=seed: together.__setitem__(seed, fit(config, seed=seed)[0])
        )
        for seed in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(serial[seed], together[seed]) for seed in range(3))
    assert before == list(warnings.filters)


def test_nothing_is_printed_or_written(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fit(Training(max_epochs=1))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert not list(tmp_path.iterdir())


class Killed(Exception):
    pass


FOUR_EPOCHS = Training(max_epochs=4, patience=None)


@pytest.fixture(scope="module")
def undisturbed():
    """Network and progress of a fit that nothing stops."""
    torch.set_num_threads(1)
    return fit(FOUR_EPOCHS)


@pytest.mark.parametrize("survived", [1, 2, 3])
def test_resumed_training_equals_undisturbed(tmp_path, monkeypatch, survived, undisturbed):
    config = FOUR_EPOCHS
    whole, whole_progress = undisturbed
    write = Checkpoint.write

    def write_then_die(self, module):
        write(self, module)
        if module.progress.epoch == survived:
            raise Killed

    monkeypatch.setattr(Checkpoint, "write", write_then_die)
    with pytest.raises(Killed):
        fit(config, checkpoint_dir=tmp_path)
    monkeypatch.setattr(Checkpoint, "write", write)
    resumed, progress = fit(config, checkpoint_dir=tmp_path)
    assert same(whole, resumed)
    assert [h["train_loss"] for h in progress.history] == [
        h["train_loss"] for h in whole_progress.history
    ]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_finished_checkpoint_is_not_trained_again(tmp_path):
    config = Training(max_epochs=2)
    first, _ = fit(config, checkpoint_dir=tmp_path)
    stamp = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    second, progress = fit(config, checkpoint_dir=tmp_path)
    assert same(first, second)
    assert progress.epoch == 2
    assert stamp == {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}


def test_another_key_does_not_resume(tmp_path):
    config = Training(max_epochs=1)
    fit(config, checkpoint_dir=tmp_path, key="a" * 64)
    _, progress = fit(config, checkpoint_dir=tmp_path, key="b" * 64, seed=1)
    assert progress.step == 7
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_checkpoint_says_so(tmp_path):
    fit(Training(max_epochs=1), checkpoint_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(
        ValueError, match=r"epoch-00001\.safetensors is damaged .*; remove the file to train anew"
    ):
        fit(Training(max_epochs=1), checkpoint_dir=tmp_path)


def test_checkpoints_need_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for wrong in (5, "", tmp_path / "file", str(tmp_path / "file")):
        with pytest.raises(
            ValueError, match="checkpoint_dir must be a folder, or a name for one; got"
        ):
            Training(checkpoint_dir=wrong)
    assert Training(checkpoint_dir=tmp_path / "new").checkpoint_dir == tmp_path / "new"


def test_a_loss_that_explodes_stops_with_a_message():
    with pytest.raises(ValueError, match="lower learning_rate"):
        fit(Training(learning_rate=1e30, max_epochs=3), data=values() * 1e25)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"loss": "mape"}, "loss must be one of mse, mae, huber; got 'mape'"),
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number above 0; got '0.1'"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0; got 0"),
        ({"weight_decay": -1}, "weight_decay must be a finite number at least 0; got -1"),
        ({"skip_rate": None}, "skip_rate must be a finite number above 0; got None"),
        ({"skip_rate": True}, "skip_rate must be a finite number above 0; got True"),
        ({"skip_rate": 0.0}, "skip_rate"),
        ({"linear_skip": 1}, "linear_skip must be one of True, False, least_squares; got 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; got 0"),
        ({"max_epochs": 1.5}, "max_epochs must be a whole number"),
        ({"patience": 0}, "patience must be a whole number"),
    ],
)
def test_bad_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        Training(**kwargs)


def test_half_precision_learns_inside_an_autocast_too():
    """Torch keeps its narrow copies of weights until the outermost autocast ends."""
    config = Training(max_epochs=2, precision="bf16")
    _, alone = fit(config)
    with torch.autocast("cpu", torch.bfloat16):
        _, inside = fit(config)
    assert inside.history == alone.history


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_half_precision_trains_and_validates_every_architecture(architecture):
    other = (
        {"architecture": "decoder", "linear_skip": False, "patch_stride": 6}
        if architecture == "decoder"
        else {}
    )
    losses = []
    for precision in (None, "bf16"):
        _, progress = fit(
            Training(max_epochs=1, precision=precision), backbone="bilinear_btt", **other
        )
        losses.append(progress.history[-1]["valid_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[0] != losses[1]


def test_the_network_goes_back_to_its_device_after_the_last_step(monkeypatch):
    """Lightning leaves it on the CPU: what was trained on a GPU would answer from here."""
    moves = []
    move = PatchEncoder.to
    monkeypatch.setattr(
        PatchEncoder, "to", lambda self, *args: (moves.append(args), move(self, *args))[1]
    )
    run = loop._run
    monkeypatch.setattr(loop, "_run", lambda *args: (run(*args), moves.append("trained"))[0])
    fit(Training(max_epochs=1))
    assert moves == [(CPU,), "trained", (CPU,)]


def test_masks_are_drawn_where_the_network_is(monkeypatch):
    """A single process that a launcher started has its generator on the CPU and perhaps its network
    on a GPU.
    """
    made = []

    def generator(device):
        made.append(device.type)
        return torch_generator("cpu")

    torch_generator = torch.Generator
    model = torch.nn.Sequential(Dropout(0.5))
    monkeypatch.setattr(torch, "Generator", generator)
    for place in ("cpu", "meta"):
        masks = torch_generator("cpu").manual_seed(0)
        set_generator(model, masks)
        module = ForecastModule(model.to(place), Training(), steps_per_epoch=1, masks=masks).to(
            place
        )
        module.on_train_epoch_start()
        assert (model[0].generator is masks) == (place == "cpu")
    assert made == ["meta"]


@pytest.mark.gpu
def test_a_network_trained_on_cuda_stays_there():
    model, _ = fit(Training(max_epochs=1), device=torch.device("cuda"))
    assert {x.device.type for x in model.parameters()} == {"cuda"}


def test_an_interrupt_reaches_the_caller_and_leaves_its_handler(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def interrupted(self, module):
        raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(Training(max_epochs=2), checkpoint_dir=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_while_lightning_ends_leaves_the_handlers(monkeypatch):
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    teardown = lightning.Trainer._teardown

    def interrupted(trainer):
        trainer._teardown = lambda: teardown(trainer).missing
        raise KeyboardInterrupt

    monkeypatch.setattr(lightning.Trainer, "_teardown", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(Training(max_epochs=1))
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_an_error_inside_the_handling_of_an_interrupt_stays_one(monkeypatch):
    monkeypatch.setattr(Checkpoint, "write", lambda *_: 1 / 0)
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        with pytest.raises(ZeroDivisionError):
            fit(Training(max_epochs=1), checkpoint_dir=Path("unwritten"))


def test_a_fit_of_its_own_is_made_in_a_job_of_several_tasks(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NAME", "nightly")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    _, progress = fit(Training(max_epochs=1))
    assert progress.epoch == 1


def test_the_end_of_the_process_is_the_users_matter_on_slurm_too(monkeypatch, capfd):
    """Lightning would leave Python with the exit code 0, whatever the handler does."""
    for name in ("NTASKS", "PROCID", "LOCALID", "NODEID", "JOB_ID"):
        monkeypatch.setenv(f"SLURM_{name}", "1" if name == "NTASKS" else "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "nightly")
    answered = []
    before = signal.signal(signal.SIGTERM, lambda *_: answered.append("user"))
    step = ForecastModule.training_step

    def signalled(module, *args):
        signal.raise_signal(signal.SIGTERM)
        return step(module, *args)

    monkeypatch.setattr(ForecastModule, "training_step", signalled)
    try:
        _, progress = fit(Training(max_epochs=1))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert progress.step == len(answered) > 0
    assert capfd.readouterr() == ("", "")
