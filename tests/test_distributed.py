"""Several processes train as one does, and pieces elsewhere add up to what is done here."""

import dataclasses
import json
import multiprocessing
import multiprocessing.forkserver
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import covariate_forecasters
import numpy as np
import pandas as pd
import pytest
import ranks
import torch
from checkout import ROOT
from errands import Mortal, cube_root, die_at_first, leave_trace
from sklearn.base import clone
from small_forecasters import attention, linear
from tables import covariate_frame, fill_future, long_frame, wide_frame
from tiny_network import tiny_network

from tsattn import benchmark
from tsattn.batches import forecast_file
from tsattn.benchmark import Suite, run_suite
from tsattn.cli import main
from tsattn.data.frames import from_long
from tsattn.distributed import backtest_many, distributed_map, predict_many
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.naive import Naive, SeasonalNaive
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.storage import read_rows
from tsattn.training.processes import DDPSettings, processes_for, run_processes

CPU = torch.device("cpu")
# Two processes add up in another order than one: float32 rounding, a little more after many steps.
LOSS_RTOL = 1e-4
FORECAST_ATOL = 2e-5


# --- training in two processes --------------------------------------------------------------------


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def loaded():
    """A way to start processes that have loaded Lightning, which takes each of them ten seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tsattn.training.loop", "ranks"])
    yield context
    multiprocessing.forkserver._forkserver._stop()


def run_two(context, folder, names):
    """Two processes as torchrun starts them on two machines, one each."""
    port = free_port()
    done = [
        context.Process(target=ranks.train_all, args=(rank, port, folder, names)) for rank in (0, 1)
    ]
    try:
        for each in done:
            each.start()
        for each in done:
            each.join(600)
    finally:
        for each in done:
            each.kill()  # one that waits for the other would wait for half an hour
    said = [(folder / f"said-{rank}").read_text() for rank in (0, 1)]
    assert [each.exitcode for each in done] == [0, 0], said
    assert said == ["", ""], "quiet by default"
    return [torch.load(folder / f"found-{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture(scope="module")
def found(loaded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return folder, *run_two(loaded, folder, ranks.THIN)


def same_weights(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a["weights"].values(), b["weights"].values(), strict=True)
    )


def check_alike(case, first, second):
    """Both processes hold the same weights, and what one process would have learnt."""
    config, given = ranks.CASES[case]
    one = ranks.fit(config, **given)
    assert same_weights(first, second)
    assert [h["epoch"] for h in first["history"]] == [h["epoch"] for h in one["history"]]
    assert (first["best_epoch"], first["step"]) == (one["best_epoch"], one["step"])
    for ours, theirs in zip(first["history"], one["history"], strict=True):
        known = {name: value for name, value in theirs.items() if value is not None}
        assert ours.keys() == theirs.keys()
        assert {name: ours[name] for name in known} == pytest.approx(known, rel=LOSS_RTOL)
    scale = float(one["forecast"].abs().max())
    torch.testing.assert_close(
        first["forecast"], one["forecast"], rtol=0, atol=FORECAST_ATOL * scale
    )


@pytest.mark.parametrize("case", ranks.THIN)
def test_two_processes_learn_what_one_does(found, case):
    check_alike(case, found[1][case], found[2][case])


@pytest.mark.slow
def test_two_processes_learn_what_one_does_with_every_network(loaded, tmp_path):
    names = [name for name in ranks.CASES if name not in ranks.THIN]
    first, second = run_two(loaded, tmp_path, names)
    for name in names:
        check_alike(name, first[name], second[name])


def test_dropout_repeats_itself_and_differs_from_one_process(found):
    _, first, second = found
    assert same_weights(first["dropout"], second["dropout"])
    assert same_weights(first["dropout"], first["dropout again"])
    one = ranks.fit(ranks.LONG, dropout=0.3)
    losses = [[h["train_loss"] for h in each["history"]] for each in (first["dropout"], one)]
    # Other masks of the same rate: the losses are near one another, not equal.
    assert losses[0] != losses[1]
    np.testing.assert_allclose(*losses, rtol=0.5)


def test_each_process_takes_half_of_the_work_and_masks_of_its_own(found):
    _, first, second = found
    for (learnt, judged, seed), (others_learnt, others_judged, others_seed) in zip(
        first["seen"], second["seen"], strict=True
    ):
        assert learnt == others_learnt == len(ranks.LEARN) / 2 * ranks.SPEC.horizon
        assert {judged, others_judged} == {27 * ranks.SPEC.horizon, 26 * ranks.SPEC.horizon}
        assert seed != others_seed
    assert (
        len({seed for each in (first, second) for *_, seed in each["seen"]})
        == 2 * ranks.LONG.max_epochs
    )


def test_one_process_writes(found):
    assert (found[1]["writes"], found[2]["writes"]) == ([1, 2, 3], [])


def test_processes_begin_alike_whatever_their_seeds(found):
    _, first, second = found
    assert same_weights(first["own seeds"], second["own seeds"])
    assert same_weights(first["own seeds"], first["long"]), "the first process's seed counts"


def test_one_late_process_stops_all_at_the_same_step(found):
    _, first, second = found
    for each in (first, second):
        assert (each["late"]["timed_out"], each["late"]["step"]) == (True, 1)
    assert same_weights(first["late"], second["late"])


def test_a_killed_fit_goes_on_to_the_same_weights(found):
    folder, first, second = found
    assert first["killed"]
    assert same_weights(first["resumed"], first["dropout"])
    assert same_weights(second["resumed"], first["dropout"])
    assert len(list((folder / "kept").iterdir())) == 1


def test_processes_without_a_common_folder_are_refused(found):
    for each in found[1:]:
        assert "found different epochs in" in each["apart"]
        assert "checkpoint_dir must be one folder that all of them see" in each["apart"]


def test_a_loss_that_explodes_ends_both(found):
    assert found[1]["explosion"] == found[2]["explosion"]
    assert "lower learning_rate" in found[1]["explosion"]


@pytest.mark.parametrize("start", ["loaded", pytest.param("spawn", marks=pytest.mark.slow)])
def test_fit_in_two_processes_equals_fit_in_one(start, loaded, tmp_path, monkeypatch):
    if start == "loaded":
        monkeypatch.setattr("tsattn.training.processes.get_context", lambda _: loaded)
    df = long_frame()
    given = {"dropout": 0.0, "max_epochs": 2, "random_state": 3}
    one = attention(**given).fit(df)
    asked = attention(**given, trainer=DDPSettings(2), checkpoint_dir=tmp_path / "epochs")
    threads = torch.get_num_threads()
    variables = dict(os.environ)
    two = clone(asked).fit(df)
    assert torch.get_num_threads() == threads
    assert dict(os.environ) == variables
    np.testing.assert_allclose(two.history_, one.history_, rtol=LOSS_RTOL)
    ours, theirs = (each.predict(level=80) for each in (two, one))
    pd.testing.assert_frame_equal(ours, theirs, rtol=1e-4, atol=1e-5)
    assert len(list((tmp_path / "epochs").iterdir())) == 1
    two.save(tmp_path / "model")
    loaded = AttentionForecaster.load(tmp_path / "model")
    assert loaded.training.trainer is None
    pd.testing.assert_frame_equal(loaded.predict(level=80), ours)
    pd.testing.assert_frame_equal(pickle.loads(pickle.dumps(two)).predict(level=80), ours)


@pytest.mark.parametrize("start", ["loaded", pytest.param("spawn", marks=pytest.mark.slow)])
def test_errors_of_processes_come_back(start, loaded, capfd, monkeypatch):
    if start == "loaded":
        monkeypatch.setattr("tsattn.training.processes.get_context", lambda _: loaded)
    with pytest.raises(ValueError, match="invalid literal for int"):
        run_processes(int, ("x",), DDPSettings(2), CPU)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_lost_processes_are_told_of():
    with pytest.raises(
        RuntimeError, match="one of 2 processes that train together ended with exit code 3; if its"
    ):
        run_processes(os._exit, (3,), DDPSettings(2), CPU)
    with pytest.raises(RuntimeError, match="ended by signal 9; look whether memory ran out"):
        run_processes(signal.raise_signal, (signal.SIGKILL,), DDPSettings(2), CPU)


@pytest.mark.slow
def test_processes_leave_with_the_one_that_started_them(tmp_path):
    code = (
        "import time, torch; from tsattn.training.processes import DDPSettings, run_processes;"
        "run_processes(time.sleep, (300,), DDPSettings(2), torch.device('cpu'))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, cwd=ROOT
    )
    until(lambda: list(tmp_path.glob("tsattn-*/meeting")))
    time.sleep(2)
    parent.kill()
    parent.wait()
    until(lambda: not list(tmp_path.glob("tsattn-*")))


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DDPSettings(0),
            "n_processes must be a whole number of at least 1, or None under torchrun; got 0",
        ),
        (lambda: DDPSettings(True), "n_processes must be .* got True"),
        (
            lambda: DDPSettings(2, backend="mpi"),
            "backend must be one of None, gloo, nccl; got 'mpi'",
        ),
        (lambda: DDPSettings(2, timeout=0), "timeout must be seconds above 0; got 0"),
        (
            lambda: processes_for(DDPSettings(2, backend="nccl"), CPU),
            "backend 'nccl' works between GPUs only",
        ),
        (
            lambda: processes_for(DDPSettings(), CPU),
            "needs a launcher such as torchrun, and RANK is not set",
        ),
        (
            lambda: processes_for(DDPSettings(64), torch.device("cuda")),
            "64 processes need as many GPUs",
        ),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_started_processes_start_no_others(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "4")
    with pytest.raises(
        ValueError, match="would start processes in each of the 4 that a launcher started already"
    ):
        processes_for(DDPSettings(2), CPU)


def test_a_bad_trainer_is_refused_before_training(monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(
        TypeError, match="must be None, DDPSettings or TrainerParts; got int; write"
    ):
        linear(trainer=2).fit(long_frame())
    with pytest.raises(ValueError, match="needs a launcher such as torchrun"):
        linear(trainer=DDPSettings()).fit(long_frame())


def test_one_process_is_training_as_usual():
    df = long_frame()
    pd.testing.assert_frame_equal(
        linear(trainer=DDPSettings(1)).fit(df).predict(), linear().fit(df).predict()
    )


# --- items ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", [None, "native", "2"])
def test_results_come_in_the_order_of_items(engine):
    actual = distributed_map(cube_root, range(7), engine=engine)
    assert [each for each, _ in actual] == [x ** (1 / 3) for x in range(7)]
    assert (os.getpid() in {pid for _, pid in actual}) == (engine in (None, "native"))
    assert distributed_map(cube_root, [], engine=engine) == []


@pytest.mark.parametrize("engine", [None, "native", 2])
def test_errors_are_those_of_the_function(engine):
    with pytest.raises(ValueError, match=r"^-1 is below 0$"):
        distributed_map(cube_root, [1, -1, -2], engine=engine)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (
            "flink",
            "engine must be a number of processes or one of native, ray, dask, spark; got 'flink'",
        ),
        (0, "engine as a number of processes must be at least 1; got 0"),
        (True, "at least 1; got True"),
    ],
)
def test_unknown_engines_are_refused(engine, message):
    for call in (
        lambda: distributed_map(abs, [1], engine=engine),
        lambda: backtest_many(Naive(2), long_frame(), engine=engine),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("engine", "gone", "message"),
    [
        (
            "native",
            "fugue",
            r"engine 'native' needs fugue; install it with: pip install 'tsattn\[distributed\]'$",
        ),
        (
            "ray",
            "ray",
            r"engine 'ray' needs ray; install it with: pip install 'tsattn\[distributed\]'$",
        ),
        (
            "ray",
            "duckdb",  # as after a bare pip install ray
            r"engine 'ray' needs duckdb; install it with: pip install 'tsattn\[distributed\]'$",
        ),
        (
            "spark",
            "pyspark",
            r"'spark' needs pyspark; install it with: pip install 'tsattn\[distributed\]' pyspark$",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, engine, gone, message):
    monkeypatch.setattr("tsattn.checks.find_spec", lambda name: None if name == gone else name)
    with pytest.raises(ImportError, match=message):
        distributed_map(abs, [1], engine=engine)


# --- forecasts and backtests in pieces ------------------------------------------------------------

FITTED = {
    "attention": (lambda df: attention().fit(df), {"level": [80, 95]}),
    "linear": (lambda df: linear(missing="ffill").fit(df), {"quantiles": 0.1, "horizon": 2}),
    "naive": (
        lambda df: SeasonalNaive.from_settings(horizon=4, season_length=5, missing="ffill").fit(df),
        {},
    ),
    "conformal": (lambda df: SplitConformal(Naive(3), n_windows=40).fit(df), {"level": 80}),
}


@pytest.mark.parametrize("name", FITTED)
@pytest.mark.parametrize("n_chunks", [1, 3, 50])
def test_forecasts_of_chunks_are_those_of_the_whole(name, n_chunks):
    df = long_frame()
    fit, asked = FITTED[name]
    model = fit(df)
    parts = predict_many(model, df, n_chunks=n_chunks, **asked)
    pd.testing.assert_frame_equal(parts, model.predict(df, **asked), rtol=1e-5)
    panel = from_long(df)
    ours = predict_many(model, panel, n_chunks=n_chunks, **asked)
    theirs = model.predict(panel, **asked)
    pd.testing.assert_frame_equal(ours.to_frame(), theirs.to_frame(), rtol=1e-5)
    assert ours.cutoffs.equals(theirs.cutoffs)
    if theirs.source is not None:
        np.testing.assert_array_equal(ours.sums_of_points(), theirs.sums_of_points())
        paths = [answer.sample(3, random_state=0) for answer in (ours, theirs)]
        np.testing.assert_allclose(*paths, rtol=1e-5)
    assert (ours.levels, ours.asked_quantiles) == (theirs.levels, theirs.asked_quantiles)


def test_wide_frames_stay_whole():
    df = wide_frame()
    model = linear().fit(df)
    pd.testing.assert_frame_equal(predict_many(model, df, n_chunks=4), model.predict(df))


def test_covariates_go_with_their_series():
    df = covariate_frame()
    model = covariate_forecasters.attention(**covariate_forecasters.EVERY).fit(df)
    future = fill_future(model.make_future_frame())
    whole_forecast = model.predict(df, future=future)
    for order in (future, future.sample(frac=1, random_state=0)):
        pd.testing.assert_frame_equal(
            predict_many(model, df, n_chunks=2, future=order), whole_forecast, rtol=1e-4, atol=1e-5
        )
    judged = {"n_windows": 3, "refit": 2}
    same_results(
        backtest_many(model, df, by="series", n_chunks=3, **judged),
        backtest(model, df, **judged),
        rtol=1e-4,
    )


def test_gaps_are_filled_from_the_whole_history():
    """The last known value may lie before the context: chunks must not forget it."""
    df = long_frame()
    first = df["unique_id"] == "s0"
    df.loc[df.index[first][-30:], "y"] = np.nan
    model = SeasonalNaive.from_settings(horizon=4, season_length=5, missing="ffill").fit(df)
    pd.testing.assert_frame_equal(predict_many(model, df, n_chunks=2), model.predict(df))


def same_results(ours, theirs, *, rtol):
    np.testing.assert_array_equal(ours.origins, theirs.origins)
    if rtol:
        pd.testing.assert_frame_equal(ours.frame, theirs.frame, rtol=rtol)
    else:
        pd.testing.assert_frame_equal(ours.frame, theirs.frame, check_exact=True)
    pd.testing.assert_frame_equal(ours.scores, theirs.scores, rtol=max(rtol, 1e-12))
    pd.testing.assert_frame_equal(ours.by_step, theirs.by_step, rtol=max(rtol, 1e-12))


JUDGED = {"n_windows": 7, "step_size": 3, "level": [50, 80], "season_length": 5}


def forecasters():
    return {"nlinear": linear(max_epochs=1), "naive": SplitConformal(Naive(4), n_windows=40)}


@pytest.mark.parametrize("refit", [False, True, 3])
def test_a_backtest_by_fold_is_the_backtest(refit):
    df = long_frame()
    whole_result = backtest(forecasters(), df, refit=refit, **JUDGED)
    same_results(backtest_many(forecasters(), df, refit=refit, **JUDGED), whole_result, rtol=0)


@pytest.mark.parametrize("n_chunks", [1, 2, 50])
@pytest.mark.parametrize("refit", [False, 3])
def test_a_backtest_by_series_is_the_backtest(n_chunks, refit):
    df = long_frame()
    whole_result = backtest(forecasters(), df, refit=refit, **JUDGED)
    parts = backtest_many(forecasters(), df, by="series", n_chunks=n_chunks, refit=refit, **JUDGED)
    same_results(parts, whole_result, rtol=1e-5)


@pytest.mark.parametrize("by", ["fold", "series"])
def test_a_backtest_in_pieces_fills_missing_values_as_the_whole(by):
    df = long_frame()
    df.loc[df.index[[8, 40]], "y"] = np.nan
    rivals = [Naive(4), PretrainedForecaster(4, weights=tiny_network())]
    with pytest.warns(UserWarning, match="interpolated for naive"):
        whole_result = backtest(rivals, df, n_windows=3)
    with pytest.warns(UserWarning, match="interpolated for naive"):
        parts = backtest_many(rivals, df, by=by, n_windows=3)
    same_results(parts, whole_result, rtol=1e-5)


def test_scores_without_forecasts_add_up_too():
    df = long_frame()
    options = {**JUDGED, "keep": False, "refit": 2}
    whole_result = backtest(forecasters(), df, **options)
    for many in ({"by": "fold"}, {"by": "series", "n_chunks": 3}):
        parts = backtest_many(forecasters(), df, **many, **options)
        pd.testing.assert_frame_equal(parts.scores, whole_result.scores, rtol=1e-6)
        assert parts.rolled["naive"].point is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"by": "model"}, "by must be one of fold, series; got 'model'"),
        ({"by": "series", "n_chunks": 0}, "n_chunks must be a whole number of at least 1; got 0"),
        (
            {"n_chunks": 3},
            "n_chunks deals series out, and by='fold' deals fits out; got n_chunks = 3: use one",
        ),
        ({"n_windows": 0}, "n_windows must be a whole number of at least 1; got 0"),
    ],
)
def test_bad_requests_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        backtest_many(Naive(2), long_frame(), **given)


def test_no_chunk_is_no_forecast():
    with pytest.raises(ValueError, match="n_chunks must be a whole number of at least 1; got 0"):
        predict_many(Naive(2).fit(long_frame()), long_frame(), n_chunks=0)


@pytest.mark.parametrize("kind", ["plain", pytest.param("trained", marks=pytest.mark.slow)])
def test_pieces_in_other_processes_are_those_of_this_one(kind):
    df = long_frame()
    model = SplitConformal(Naive(4), n_windows=40) if kind == "plain" else linear(max_epochs=1)
    whole_result = backtest(model, df, refit=4, **JUDGED)
    same_results(
        backtest_many(model, df, refit=4, engine=2, **JUDGED),
        whole_result,
        rtol=0 if kind == "plain" else 1e-6,
    )
    model.fit(df)
    pd.testing.assert_frame_equal(
        predict_many(model, df, level=80, engine=2), model.predict(df, level=80), rtol=1e-5
    )


def test_batches_of_a_file_in_other_processes_are_those_of_this_one(tmp_path):
    source = tmp_path / "dates.parquet"
    long_frame(6, 40).sort_values(["ds", "unique_id"]).to_parquet(source, index=False)
    for name, engine in (("one", None), ("two", 2)):
        out = tmp_path / f"{name}.parquet"
        forecast_file(Naive(3), source, out, batch_series=2, engine=engine)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line_of_advice(tmp_path):
    with pytest.raises(OSError, match=r"one of 2 processes was killed .*; take fewer processes"):
        distributed_map(partial(die_at_first, tmp_path), range(6), engine=2)
    # The next pool is a new one.
    assert distributed_map(partial(die_at_first, tmp_path), range(6), engine=2)[2] == 9


# --- engines --------------------------------------------------------------------------------------


def spark_session():
    """A session of two processes that are started again where they die."""
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    builder = sql.SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
    return builder.config("spark.pyspark.python", sys.executable).getOrCreate()


@pytest.fixture(params=["dask", "ray", "spark"])
def cluster(request):
    """A small cluster of this machine, by its client or name."""
    if request.param == "dask":
        distributed = pytest.importorskip("distributed")
        dask = pytest.importorskip("dask")
        # A worker that is killed may take longer than the usual 15 seconds to start again.
        patience = {"distributed.deploy.lost-worker-timeout": "10 minutes"}
        with (
            dask.config.set(patience),
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as local,
            distributed.Client(local) as client,
        ):
            yield client
    elif request.param == "spark":
        session = spark_session()
        yield session
        session.stop()
    else:
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield "ray"
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what an engine says to programmers is its own
def test_engines_give_the_serial_result(cluster, tmp_path):
    assert distributed_map(partial(pow, 3), range(6), engine=cluster) == [3**x for x in range(6)]
    with pytest.raises(ValueError, match="invalid literal"):
        distributed_map(int, ["1", "x"], engine=cluster)
    (tmp_path / "traces").mkdir()
    distributed_map(partial(leave_trace, tmp_path / "traces"), range(9), engine=cluster)
    traces = [path.name.partition("-")[0] for path in (tmp_path / "traces").iterdir()]
    assert sorted(traces) == [str(n) for n in range(9)], "each item is run once"
    df = long_frame()
    model = linear(max_epochs=1).fit(df)
    ours = predict_many(model, df, level=80, engine=cluster)
    pd.testing.assert_frame_equal(ours, model.predict(df, level=80), rtol=1e-5)
    whole_result = backtest(forecasters(), df, refit=4, **JUDGED)
    for by, rtol in (("fold", 1e-6), ("series", 1e-5)):
        parts = backtest_many(forecasters(), df, refit=4, by=by, engine=cluster, **JUDGED)
        same_results(parts, whole_result, rtol=rtol)
    serial = run_suite(suite(tmp_path), out=tmp_path / "a")
    spread = run_suite(suite(tmp_path), out=tmp_path / "b", engine=cluster)
    assert [each["mse"] for each in spread] == pytest.approx(
        [each["mse"] for each in serial], rel=1e-6
    )
    names = [sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in "ab"]
    assert names[0] == names[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_engines_go_on_where_a_worker_is_killed(cluster, tmp_path):
    actual = distributed_map(partial(die_at_first, tmp_path), range(6), engine=cluster)
    assert actual == [3**n for n in range(6)]
    assert (tmp_path / "died-2").exists()
    df = long_frame(6, 40)
    model = Mortal(3)
    model.folder = tmp_path
    model.owner = os.getpid()
    expected = model.fit(df).predict()
    pd.testing.assert_frame_equal(predict_many(model, df, n_chunks=3, engine=cluster), expected)
    (tmp_path / "died").unlink()
    df.to_parquet(tmp_path / "series.parquet", index=False)
    forecast_file(
        model, tmp_path / "series.parquet", tmp_path / "out.parquet", batch_series=2, engine=cluster
    )
    assert (tmp_path / "died").exists()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), expected)


# --- grids ----------------------------------------------------------------------------------------


def suite(folder, **changes):
    path = folder / "daily.csv"
    if not path.exists():
        days = pd.date_range("2024-01-01", periods=120, freq="D")
        noise = np.random.default_rng(0).normal(size=(120, 2)).cumsum(axis=0)
        pd.DataFrame({"date": days, "u": noise[:, 0], "v": noise[:, 1]}).to_csv(path, index=False)
    given = {
        "table": path,
        "split": "0.6,0.2,0.2",
        "horizons": (4, 5),
        "models": ("nlinear", "naive"),
        "context": 8,
    }
    return Suite(**given | {"max_epochs": 1} | changes)


def without_times(records):
    left_out = {"fit_seconds", "predict_seconds", "peak_mb", "finished"}
    return [{k: v for k, v in record.items() if k not in left_out} for record in records]


def test_a_grid_in_other_processes_is_the_grid(tmp_path):
    said = []
    grid = suite(tmp_path, models=("drift", "naive"))
    serial = run_suite(grid)
    first = run_suite(dataclasses.replace(grid, horizons=(5,)), out=tmp_path / "out")
    spread = run_suite(grid, out=tmp_path / "out", engine=2, progress=said.append)
    assert without_times(spread) == without_times(serial)
    assert said == ["running 2 of 4 on 2"]
    assert [record for record in spread if record["horizon"] == 5] == first, (
        "what stands there is not run again"
    )
    assert len(read_rows(tmp_path / "out" / "records.jsonl")) == 4
    assert len(list((tmp_path / "out").iterdir())) == 2, "the lock of no run is left"
    assert without_times(run_suite(grid, engine="native")) == without_times(serial)


def test_suites_that_share_a_folder_run_nothing_twice(tmp_path, monkeypatch):
    done = []
    execute = benchmark._Run.execute

    def slowly(run):
        done.append(run.title)
        time.sleep(0.2)
        return execute(run)

    monkeypatch.setattr(benchmark._Run, "execute", slowly)
    grid = suite(tmp_path, models=("naive", "seasonal_naive", "drift"))
    results = {}
    threads = [
        threading.Thread(
            target=lambda n=n: results.update({n: run_suite(grid, out=tmp_path / "out")})
        )
        for n in "abc"
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(done) == sorted(set(done))
    assert len(done) == 6
    assert results["a"] == results["b"] == results["c"]
    assert len(read_rows(tmp_path / "out" / "records.jsonl")) == 6


def test_the_lock_of_a_dead_suite_holds_nobody_up(tmp_path):
    grid = suite(tmp_path, models=("naive",), horizons=(4,))
    (record,) = run_suite(grid, out=tmp_path / "out")
    path = tmp_path / "out" / "records.jsonl"
    key = {
        name: record[name]
        for name in ("dataset", "data_sha256", "split", "model", "horizon", "seed")
    }
    key |= {name: record[name] for name in ("season_length", "config_hash")}
    path.rename(path.with_name(f".{path.name}.{benchmark._digest(key)[:8]}.lock"))
    (again,) = run_suite(grid, out=tmp_path / "out")
    assert without_times([again]) == without_times([record])


def test_an_error_leaves_the_records_of_the_other_runs(tmp_path):
    grid = suite(tmp_path, settings={"nlinear": {"learning_rate": 1e30}})
    with pytest.raises(ValueError, match="lower learning_rate"):
        run_suite(grid, out=tmp_path / "out", engine="native")
    kept = [record["model"] for record in read_rows(tmp_path / "out" / "records.jsonl")]
    assert kept == ["naive", "naive"]


# --- the command ----------------------------------------------------------------------------------


def test_the_command_spreads_a_grid(tmp_path, capsys):
    grid = suite(tmp_path)
    command = [
        "benchmark",
        "--data",
        str(grid.table),
        "--split",
        grid.split,
        "--horizon",
        "4",
        "--model",
        "naive",
    ]
    assert main([*command, "--out", str(tmp_path / "out"), "--engine", "native", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "naive"
    assert len(read_rows(tmp_path / "out" / "records.jsonl")) == 1
    assert main([*command, "--engine", "flink"]) == 2
    assert (
        "engine must be a number of processes or one of native, ray, dask, spark; got 'flink'"
        in capsys.readouterr().err
    )
