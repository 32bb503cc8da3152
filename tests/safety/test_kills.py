"""Models that survive kills, and fits that survive crowds."""

import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from logging import getLogger
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fresh import in_fresh_process
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn.batches import forecast_file
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.naive import Naive

BATCHES = {"batch_series": 2}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and /proc")


# Kills. A helper process imports the library once and forks a child for every death.

# A fit imports it, which takes seconds; a child finds what its helper has imported.
BEFORE_FITS = "import lightning\n"


def fit_and_keep(folder, epochs=8):
    """What dies: a fit that keeps its epochs, and then a model on disk."""
    model = attention(max_epochs=epochs, patience=None, checkpoint_dir=Path(folder) / "epochs")
    model.fit(long_frame(2, 120)).save(Path(folder) / "model")


def save_over(folder):
    """What dies: a second save over the first one."""
    AttentionForecaster.load(Path(folder) / "second").save(Path(folder) / "model")


def die_at(event, watched):
    """Kill this process just before its n-th touch of the file system inside a folder."""
    left = [event]
    kinds = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir"}

    def hook(name, args):
        if (
            name in kinds
            and args
            and isinstance(args[0], str | os.PathLike)
            and str(watched) in os.fspath(args[0])
        ):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def fork(work, *args):
    """Begin ``work`` in a child, which ends with it in any case; the number of its process."""
    child = os.fork()
    if child:
        return child
    try:
        work(*args)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def forked(work, *args, after=None, event=None):
    """Run ``work`` in a child that dies after a time or at an event; whether it was killed."""

    def begin():
        if event is not None:
            die_at(event, args[0])
        work(*args)

    child = fork(begin)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return os.WIFSIGNALED(status)


def state(folder):
    """Everything that a saved model is, bit for bit, but the time it took and where it kept its
    epochs.
    """
    facts = json.loads((folder / "config.json").read_text())
    facts["summary"].pop("fit_seconds")
    facts["parameters"]["training"].pop("checkpoint_dir")
    return (folder / "model.safetensors").read_bytes(), facts


def kill_fits(folder, moments, seed):
    """Kill a fit at random moments of its life, one after another, until ``moments`` deaths; then
    let it end.

    Writes the number of deaths on stdout.
    """
    rng = np.random.default_rng(seed)
    folder = Path(folder)
    (folder / "whole").mkdir()
    began = time.perf_counter()
    forked(fit_and_keep, folder / "whole")
    lasts = time.perf_counter() - began
    deaths = tries = 0
    while deaths < moments:
        broken = folder / f"broken{tries}"
        broken.mkdir()
        tries += 1
        # Two deaths of one fit, the second after it has gone on from what the first one left.
        for _ in range(2):
            if deaths < moments and forked(
                fit_and_keep, broken, after=rng.uniform(0.05, 1) * lasts
            ):
                deaths += 1
        forked(fit_and_keep, broken)
        assert state(broken / "model") == state(folder / "whole" / "model"), (
            f"death {deaths} is seen in the model"
        )
        kept = [
            path.name for path in (broken / "epochs").iterdir() if not path.name.startswith(".")
        ]
        assert len(kept) == 1, kept
        assert tries < 10 * moments, "the fits end before they are killed"
    sys.stdout.write(str(deaths))


def kill_fits_everywhere(folder):
    """Kill a short fit just before each touch of its checkpoint folder; writes how often
    on stdout.
    """
    folder = Path(folder)
    (folder / "whole").mkdir()
    forked(fit_and_keep, folder / "whole", 3)
    for event in range(1000):
        broken = folder / f"broken{event}"
        broken.mkdir()
        died = forked(fit_and_keep, broken, 3, event=event)
        if not died:
            break
        forked(fit_and_keep, broken, 3)
        assert state(broken / "model") == state(folder / "whole" / "model"), event
    assert event > 15, event
    sys.stdout.write(str(event))


def kill_saves(folder):
    """Kill a save just before each touch of the disk; the old model or the new one must be there,
    and savable.
    """
    folder = Path(folder)
    seen = set()
    first = AttentionForecaster.load(folder / "first")
    expected = {
        name: AttentionForecaster.load(folder / name).predict() for name in ("first", "second")
    }
    for event in range(1000):
        first.save(folder / "model")
        died = forked(save_over, folder, event=event)
        forecast = AttentionForecaster.load(folder / "model").predict()
        (which,) = [name for name, frame in expected.items() if frame.equals(forecast)]
        seen.add((died, which))
        if not died:
            break
    assert seen == {(True, "first"), (True, "second"), (False, "second")}, seen
    first.save(folder / "model")
    assert AttentionForecaster.load(folder / "model").predict().equals(expected["first"])
    assert not list(folder.glob(".model.*")), "copies of killed saves pile up"


def forecast_batches(folder):
    """What dies: a forecast of a file by date in batches."""
    forecast_file(Naive(3), Path(folder) / "dates.parquet", Path(folder) / "out.parquet", **BATCHES)


def kill_batches_everywhere(folder):
    """Kill a forecast in batches just before each touch of its folder; writes how often
    on stdout.
    """
    folder = Path(folder)
    forecast_batches(folder)
    whole = (folder / "out.parquet").read_bytes()
    for event in range(1000):
        (folder / "out.parquet").unlink()
        died = forked(forecast_batches, folder, event=event)
        out = folder / "out.parquet"
        assert not out.exists() or out.read_bytes() == whole, "whole or not there"
        forked(forecast_batches, folder)
        assert out.read_bytes() == whole, event
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["dates.parquet", "out.parquet"], event
        if not died:
            break
    assert event > 30, event
    sys.stdout.write(str(event))


@LINUX
@pytest.mark.slow
def test_batches_may_be_killed_at_every_touch_of_the_disk(tmp_path, record_testsuite_property):
    table = long_frame(5, 30).sort_values(["ds", "unique_id"])
    table.to_parquet(tmp_path / "dates.parquet", index=False)
    deaths = in_fresh_process(__file__, f"kill_batches_everywhere({str(tmp_path)!r})")
    record_testsuite_property("batches killed at touches of the disk", deaths)


@LINUX
@pytest.mark.slow
def test_ten_killed_fits_go_on_as_if_nothing_had_been(tmp_path, record_testsuite_property):
    deaths = in_fresh_process(__file__, f"{BEFORE_FITS}kill_fits({str(tmp_path)!r}, 10, seed=0)")
    record_testsuite_property("fits killed at random moments", deaths)


@LINUX
@pytest.mark.slow
def test_a_fit_may_be_killed_at_every_touch_of_the_disk(tmp_path, record_testsuite_property):
    deaths = in_fresh_process(__file__, f"{BEFORE_FITS}kill_fits_everywhere({str(tmp_path)!r})")
    record_testsuite_property("fits killed at touches of the disk", deaths)


@LINUX
def test_a_killed_save_leaves_the_old_or_the_new_model(tmp_path):
    # Fitted here, so that the helper need not load what fits need.
    for seed, name in enumerate(("first", "second")):
        attention(max_epochs=1, random_state=seed).fit(wide_frame()).save(tmp_path / name)
    in_fresh_process(__file__, f"kill_saves(Path({str(tmp_path)!r}))")


# Crowds.


def one_of_many(seed, folder):
    """A fit with checkpoints, a save and a load, in a shared folder."""
    model = (attention if seed % 2 else linear)(random_state=seed, checkpoint_dir=folder / "epochs")
    model.fit(long_frame(2)).save(folder / f"model{seed}")
    return type(model).load(folder / f"model{seed}").predict(level=80)


def surroundings():
    return (
        list(warnings.filters),
        [
            (getLogger(n).level, list(getLogger(n).filters), list(getLogger(n).handlers))
            for n in LOGGERS
        ],
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002  (the global state is what must not change)
        Path.cwd(),
        signal.getsignal(signal.SIGINT),
        dict(os.environ),
    )


LOGGERS = ["", "lightning", "lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "tsattn"]


def test_crowds_of_threads_equal_the_lonely_ones(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    serial = [one_of_many(seed, tmp_path / "serial") for seed in range(4)]
    before = surroundings()
    threads_before = threading.active_count()
    together = {}
    threads = [
        threading.Thread(
            target=lambda seed=seed: together.update({seed: one_of_many(seed, tmp_path / "crowd")})
        )
        for seed in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(4):
        pd.testing.assert_frame_equal(serial[seed], together[seed], check_exact=True)
    assert surroundings() == before
    assert threading.active_count() == threads_before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crowd", "serial"]
    assert tuple(capfd.readouterr()) == ("", "")


def crowd_of_processes(folder, seeds):
    children = [fork(one_of_many, seed, Path(folder)) for seed in seeds]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


@LINUX
@pytest.mark.slow
def test_crowds_of_processes_equal_the_lonely_ones(tmp_path):
    crowd = tmp_path / "crowd"
    crowd.mkdir()
    call = f"{BEFORE_FITS}crowd_of_processes({str(crowd)!r}, range(4))"
    in_fresh_process(__file__, call)
    for seed in range(4):
        one_of_many(seed, tmp_path / "serial")
        assert state(crowd / f"model{seed}") == state(tmp_path / "serial" / f"model{seed}")


def test_saves_and_loads_of_one_folder_that_meet_are_never_mixed(tmp_path):
    models = [linear(max_epochs=1, random_state=seed).fit(wide_frame()) for seed in range(2)]
    answers = [model.predict() for model in models]
    models[0].save(tmp_path / "model")
    faults = []
    actual = set()
    done = threading.Event()

    def write(model):
        try:
            for _ in range(25):
                model.save(tmp_path / "model")
        except BaseException as error:
            faults.append(error)

    def read():
        try:
            while not done.is_set():
                frame = LinearForecaster.load(tmp_path / "model").predict()
                actual.add([answer.equals(frame) for answer in answers].index(True))
        except BaseException as error:
            faults.append(error)

    writers = [threading.Thread(target=write, args=(model,)) for model in models]
    readers = [threading.Thread(target=read)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    readers[0].join()
    assert not faults
    assert actual == {0, 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
