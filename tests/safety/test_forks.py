"""Forks: a process that is forked after a forecast, as pools and servers do, forecasts too.

Torch itself makes such a process wait for ever after any work on several threads.
"""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from fresh import in_fresh_process

import tsattn
from tsattn import PretrainedForecaster, Schema

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks")

# Seconds after which a child that waits says where, and ends. One that works takes five to ten; a
# machine may stand still for minutes.
PATIENCE = 200


def sales(n_series=150, n_days=400):
    """Large enough for torch to share work on it among threads."""
    days = pd.date_range("2024-01-01", periods=n_days)
    rng = np.random.default_rng(0)
    ids = [f"shop{number}" for number in range(n_series)]
    index = pd.MultiIndex.from_product([ids, days], names=["unique_id", "ds"])
    frame = index.to_frame(index=False)
    frame["promo"] = (rng.random(len(frame)) < 0.2).astype(float)
    week = np.tile(np.arange(n_days) % 7, n_series)
    return frame.assign(y=10 + week + 3 * frame["promo"] + rng.normal(size=len(frame)))


def forecast(folder):
    return tsattn.forecast(sales().drop(columns="promo"), 7, level=80)


def forecast_with_columns(folder):
    history = sales(n_series=2, n_days=150)
    knowing = PretrainedForecaster(7, schema=Schema(future_cols=["promo"])).fit(history)
    future = knowing.make_future_frame().assign(promo=0.0)
    return knowing.predict(future=future)


def save_and_load(folder):
    """The weights alone are so large that they are copied by several threads."""
    path = f"{folder}/model"
    PretrainedForecaster(7).fit([1.0, 2.0, 3.0]).save(path)
    return PretrainedForecaster.load(path).predict()


def fill_and_search(folder):
    holed = sales(n_series=4).drop(columns="promo")
    holed.loc[holed.index % 11 == 3, "y"] = np.nan
    filled = tsattn.fill(holed)
    return tsattn.anomalies(filled)


ROUTES = (forecast, forecast_with_columns, save_and_load, fill_and_search)

FORK = """
import faulthandler
import os

torch.set_num_threads(2)

def work():
    for route in ROUTES:
        route({folder!r})

work()
child = os.fork()
if not child:
    faulthandler.dump_traceback_later({patience}, exit=True)
    work()
    os._exit(0)
_, status, usage = os.wait4(child, 0)
# A child that waits for ever has worked little, one on a slow machine a lot.
worked = f"{{usage.ru_utime:.1f}} s of work and {{usage.ru_stime:.1f}} s in the system"
assert status == 0, f"the child ended with {{status}} after {{worked}}"
assert torch.get_num_threads() == 2
"""


def test_a_process_that_is_forked_after_work_does_it_too(tmp_path):
    code = FORK.format(folder=str(tmp_path), patience=PATIENCE)
    in_fresh_process(__file__, code, limit=2 * PATIENCE)


FORK_BESIDE = """
import json
import os
import signal
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from unittest.mock import patch

from tsattn.forecasters.gluonts import _seeded
from tsattn.limits import IN_SINGLE, limit_threads
from tsattn.silence import collected

def check(work, act, patience):
    "The status of a child that is forked while a thread works, which ends after that."
    began = threading.Event()

    def wait():
        with work(began):
            began.set()
            time.sleep(1)

    thread = threading.Thread(target=wait)
    thread.start()
    began.wait()
    child = os.fork()
    if not child:
        signal.alarm(patience)
        try:
            act()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    thread.join()
    return status

frame = sales(n_series=2)
model = tsattn.make_forecaster("ets", 7).fit(frame)
model.predict()
filters = [*warnings.filters]
device = torch.device("cpu")

def forecast_again():
    assert warnings.filters == filters
    model.predict()
    model.update(frame)

def set_torch():
    IN_SINGLE.__exit__()
    limit_threads(1).__enter__()

@contextmanager
def setting_torch(began):
    with patch.object(torch, "set_default_dtype", lambda dtype: (began.set(), time.sleep(0.5))):
        IN_SINGLE.__enter__()
    yield

statuses = {
    "forecast": check(lambda _: collected((UserWarning, "")), forecast_again, 20),
    "gluonts": check(lambda _: _seeded(0, device), lambda: _seeded(0, device).__enter__(), 10),
    "torch": check(setting_torch, set_torch, 10),
}
print(json.dumps(statuses))
"""


@pytest.fixture(scope="module")
def statuses():
    """How children ended that one process forked while another thread of it worked."""
    return json.loads(in_fresh_process(__file__, FORK_BESIDE))


def test_a_process_that_is_forked_while_another_thread_works_forecasts(statuses):
    assert statuses["forecast"] == 0


def test_a_process_that_is_forked_while_a_network_of_gluonts_works_uses_one_too(statuses):
    assert statuses["gluonts"] == 0


def test_a_process_that_is_forked_while_another_thread_sets_torch_sets_it_too(statuses):
    assert statuses["torch"] == 0
