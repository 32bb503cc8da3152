"""Threads of torch inside a fit and a forecast, and the number that everybody else has
afterwards.
"""

import os
import platform
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from tsattn import (
    AttentionForecaster,
    AttentionRegressor,
    LinearForecaster,
    PretrainedForecaster,
    limits,
)
from tsattn.adapters.export import export_pt2
from tsattn.catalogue import load_forecaster
from tsattn.limits import choose_threads, limit_threads, thread_pool
from tsattn.nn.config import ModelConfig
from tsattn.nn.models import build_model, multiply_adds
from tsattn.training.settings import Training

OUTSIDE = 3


@pytest.fixture(autouse=True)
def _outside(_one_thread):
    torch.set_num_threads(OUTSIDE)


@pytest.fixture
def used():
    """The numbers of threads that any network passed forward with."""
    numbers = set()
    handle = register_module_forward_pre_hook(
        lambda module, args: numbers.add(torch.get_num_threads())
    )
    yield numbers
    handle.remove()


@pytest.fixture(scope="module")
def df():
    days = pd.date_range("2024-01-01", periods=120, freq="D")
    return pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(120.0))})


def attention(**settings):
    return AttentionForecaster.from_settings(
        horizon=3,
        **{"context": 16, "patch_len": 8, "max_epochs": 1, "n_layers": 1, "random_state": 0}
        | settings,
    )


def linear(**settings):
    return LinearForecaster.from_settings(
        horizon=3, context=16, max_epochs=1, random_state=0, **settings
    )


# --- the choice -----------------------------------------------------------------------------------


def test_small_networks_get_one_thread_and_large_ones_all():
    assert choose_threads(None, limits.ALL_THREADS_FROM - 1) == 1
    assert choose_threads(None, limits.ALL_THREADS_FROM) == OUTSIDE
    assert [choose_threads(2, work) for work in (1, 1e12)] == [2, 2]
    assert choose_threads(np.int64(2), 1) == 2


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_other_numbers_are_refused(bad, df):
    message = rf"n_threads must be a whole number of at least 1; got {bad!r}"
    for call in (lambda: choose_threads(bad, 1), lambda: limit_threads(bad).__enter__()):
        with pytest.raises(ValueError, match=message):
            call()
    for make in (attention, linear):
        with pytest.raises(ValueError, match=message):
            make(n_threads=bad).fit(df)
    assert torch.get_num_threads() == OUTSIDE


@pytest.mark.parametrize(
    "settings",
    [
        {"backbone": "mlr"},
        {"backbone": "mlr", "linear_skip": False, "n_layers": 1, "d_ff": 32, "patch_stride": 16},
        {"backbone": "nlinear"},
    ],
)
def test_the_work_of_a_pass_is_what_torch_counts(settings):
    config = ModelConfig(context=96, horizon=24, equivariant=True, **settings)
    network = build_model(config, generator=torch.Generator().manual_seed(0)).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.randn(5, 96, 1))
    assert 5 * multiply_adds(network, config) == pytest.approx(
        counter.get_total_flops() / 2, rel=0.1
    )


def test_the_default_network_is_a_small_one_and_a_wide_one_is_not(df):
    # 128 windows a step, the longest default context
    small = ModelConfig(context=512, horizon=96, backbone="mlr", equivariant=True)
    wide = ModelConfig(
        context=512, horizon=96, backbone="mlr", equivariant=True, d_model=256, d_ff=512, n_heads=8
    )
    work = [
        128 * multiply_adds(build_model(c, generator=torch.Generator()), c) for c in (small, wide)
    ]
    assert [choose_threads(None, each) for each in work] == [1, OUTSIDE]


# --- fits and forecasts ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [attention, linear])
@pytest.mark.parametrize(("asked", "threads"), [(None, 1), (2, 2)])
def test_fit_and_predict_use_them_and_give_them_back(df, used, make, asked, threads):
    model = make(n_threads=asked).fit(df)
    assert (used, torch.get_num_threads()) == ({threads}, OUTSIDE)
    assert model.summary_["threads"] == threads
    used.clear()
    model.predict()
    model.predict_windows(np.random.default_rng(0).normal(size=(500, 16, 1)), quantiles=(0.1, 0.9))
    assert (used, torch.get_num_threads()) == ({threads}, OUTSIDE)


def test_large_networks_use_all(df, used, monkeypatch):
    monkeypatch.setattr(limits, "ALL_THREADS_FROM", 1.0)
    model = attention().fit(df)
    model.predict()
    assert (used, model.summary_["threads"], torch.get_num_threads()) == (
        {OUTSIDE},
        OUTSIDE,
        OUTSIDE,
    )


def test_samples_and_attention_maps_use_them_too(df, used):
    model = attention(head="normal").fit(df)
    used.clear()
    model.sample(n_samples=2, random_state=0)
    model.attention_maps()
    assert (used, torch.get_num_threads()) == ({1}, OUTSIDE)


def test_a_regressor_uses_one_thread(used):
    waves = np.sin(np.arange(40)[:, None] + np.arange(20))
    AttentionRegressor(training=Training(max_epochs=1), random_state=0).fit(
        waves[:, :17], waves[:, 17:]
    ).predict(waves[:, :17])
    assert (used, torch.get_num_threads()) == ({1}, OUTSIDE)


def test_threads_change_no_forecast_beyond_rounding(df):
    one, two = (attention(n_threads=n).fit(df).predict()["mlr"] for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_a_failure_gives_them_back_too(df, used):
    with pytest.raises(ValueError, match="the loss became"):
        attention(learning_rate=1e30, max_epochs=3, n_threads=2).fit(df)
    assert (used, torch.get_num_threads()) == ({2}, OUTSIDE)
    model = attention().fit(df)

    def fail(*args):
        raise RuntimeError(f"out of memory on {torch.get_num_threads()} threads")

    model.network_.forward = fail
    with pytest.raises(RuntimeError, match="on 1 threads"):
        model.predict()
    assert torch.get_num_threads() == OUTSIDE


# --- blocks ---------------------------------------------------------------------------------------


def everything(df, folder):
    """What each kind of forecaster answers, also once it is saved and loaded."""
    answers = []
    sampled = attention(head="quantile")
    for forecaster in (PretrainedForecaster(3), sampled, linear(), linear(closed_form=True)):
        path = folder / forecaster.name
        forecaster.fit(df).save(path)
        answers += [forecaster.predict(level=50), load_forecaster(path).predict(level=50)]
    export_pt2(forecaster, folder / "model.pt2")  # it compares the program with the forecaster
    answers += [sampled.sample(2, random_state=0), sampled.attention_maps()]
    windows = np.sin(np.arange(600.0)).reshape(30, 20)
    regressor = AttentionRegressor(training=Training(max_epochs=1), random_state=0)
    answers.append(regressor.fit(windows[:, :16], windows[:, 16:]).predict(windows[:, :16]))
    return answers


@pytest.fixture(scope="module")
def plain(df, tmp_path_factory):
    """The answers to a user who has told torch nothing."""
    return everything(df, tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize(
    "told", [lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_what_the_user_tells_torch_changes_no_forecast(df, told, plain, tmp_path):
    """On ``meta`` a tensor without a device of its own would have no numbers."""
    with told():
        answers = everything(df, tmp_path / "told")
        assert torch.get_default_device().type == "meta" or torch.is_autocast_enabled("cpu")
    for answer, right in zip(answers, plain, strict=True):
        assert np.array_equal(answer, right)


def test_blocks_lie_in_one_another():
    with limit_threads(1):
        with limit_threads(2) as n_threads:
            assert torch.get_num_threads() == n_threads == 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == OUTSIDE


def in_thread(call):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    return answers[0]


def held(n_threads):
    """Inside and after a block."""
    with limit_threads(n_threads):
        inside = torch.get_num_threads()
    return inside, torch.get_num_threads()


def test_a_thread_that_begins_inside_anothers_block_does_not_keep_its_number():
    with limit_threads(1):
        assert in_thread(lambda: held(2)) == (2, OUTSIDE)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == OUTSIDE
    assert in_thread(torch.get_num_threads) == OUTSIDE


def test_a_thread_keeps_a_number_of_its_own():
    def own():
        torch.set_num_threads(4)
        return held(2)

    with limit_threads(1):
        assert in_thread(own) == (2, 4)
    assert torch.get_num_threads() == OUTSIDE


def test_blocks_of_threads_that_end_in_another_order_leave_nothing():
    entered = threading.Event()
    leave = threading.Event()

    def outlast():
        with limit_threads(2):
            entered.set()
            assert leave.wait(10)
        return torch.get_num_threads()

    actual = []
    other = threading.Thread(target=lambda: actual.append(outlast()))
    with limit_threads(1):
        other.start()
        assert entered.wait(10)
    leave.set()
    other.join()
    assert (actual, torch.get_num_threads(), in_thread(torch.get_num_threads)) == (
        [OUTSIDE],
        OUTSIDE,
        OUTSIDE,
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about GNU's C library")
def test_memory_that_is_freed_is_kept():
    code = (
        "import resource, torch\nfrom tsattn.limits import limit_threads\n"
        "def faults():\n"
        "    rounds = []\n"
        "    for _ in range(6):\n"
        "        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "        parts = [torch.empty(2**20, dtype=torch.uint8).fill_(1) for _ in range(24)]\n"
        "        del parts\n"
        "        rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
        "    return min(rounds)\n"
        "before = faults()\nwith limit_threads(1):\n    print(before, faults())\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    without, kept = map(int, process)
    assert without > 4000
    assert kept < without / 10


# --- threads that have ended ----------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the list of threads")
def test_threads_of_a_pool_are_gone_when_its_block_ends():
    """A process that was forked before waited for ever in its first Fourier transform."""
    for _ in range(50):
        with thread_pool(2) as pool:
            numbers = set(pool.map(lambda _: threading.get_native_id(), range(8)))
        assert not numbers & {int(number) for number in os.listdir("/proc/self/task")}


def test_a_pool_waits_for_threads_that_end_slowly_but_not_for_ever(tmp_path, monkeypatch):
    """The system is made up: a file stands for each thread, and one goes late."""
    monkeypatch.setattr(limits, "_TASKS", str(tmp_path))
    monkeypatch.setattr(limits, "_END_SECONDS", 60.0)

    def make_task(_):
        task = Path(tmp_path, str(threading.get_native_id()))
        task.touch()
        threading.Timer(0.2, task.unlink).start()

    started = time.monotonic()
    with thread_pool(1) as pool:
        list(pool.map(make_task, range(1)))
    assert not any(tmp_path.iterdir())
    assert time.monotonic() - started < 60
    monkeypatch.setattr(limits, "_END_SECONDS", 0.1)
    with thread_pool(1) as pool:
        number = pool.submit(threading.get_native_id).result()
        (tmp_path / str(number)).touch()
    assert any(tmp_path.iterdir())
