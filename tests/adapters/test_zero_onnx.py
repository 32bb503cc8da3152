"""The pretrained forecaster as an ONNX file: the numbers of predict_windows without torch, and the
service of the page, which loses no request.
"""

import copy
import io
import json
import re
import shutil
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_network as tiny
from checkout import ROOT
from fresh import in_fresh_process
from pages import blocks
from speed import service as load
from tiny_network import SIZES, tiny_network

import tsattn.adapters.zero_onnx
from tsattn import PretrainedForecaster, Training
from tsattn.adapters.zero_onnx import export_zero_onnx
from tsattn.forecasters.linear import LinearForecaster

CONTEXT = 8 * SIZES["max_tokens"]
LEVELS = tiny_network().quantile_levels


def forecaster(horizon, **options):
    return PretrainedForecaster(horizon, weights=tiny_network(), **options).fit([0.0])


# What is imported for the first export of a process begins to log there.
EXPORT = """
import logging
import onnx
from tsattn import PretrainedForecaster
from tsattn.adapters import zero_onnx

joined = zero_onnx._joined

def recorded(models):
    (model,) = models.values()
    onnx.save(model, "{folder}/alone.onnx")
    return joined(models)

zero_onnx._joined = recorded
model = PretrainedForecaster(5, weights=tiny_network()).fit([0.0])
logging.basicConfig(level=logging.DEBUG, filename="{folder}/log.txt", force=True)
zero_onnx.export_zero_onnx(model, "{folder}/zero.onnx")
logging.getLogger("onnxscript.optimizer").info("heard again")
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder with the file, and with the model of torch's exporter that it was made from.

    What the export wrote to a log is there, too.

    A program is traced without types at run time, since its sizes are no whole numbers.
    """
    folder = tmp_path_factory.mktemp("zero")
    written = in_fresh_process(tiny.__file__, EXPORT.format(folder=folder), limit=900)
    assert written == ""
    return folder


@pytest.fixture(scope="module")
def session(exported):
    return onnxruntime.InferenceSession(exported / "zero.onnx")


def answer(session, windows, horizon, season=0):
    """Quantiles ``[B, F, Q]`` of windows ``[B, T]`` with one or several horizons and seasons."""
    full = np.zeros(len(windows), dtype=np.int64)
    inputs = {"windows": windows, "horizon": full + horizon, "season": full + season}
    (quantiles,) = session.run(["quantiles"], inputs)
    return quantiles


def expected(window, horizon, **options):
    """What the forecaster gives for one window ``[T]``, ``[F, Q]``."""
    model = forecaster(horizon, **options)
    points, quantiles = model.predict_windows(window[None, :, None], quantiles=LEVELS)
    middle = LEVELS.index(0.5)
    assert np.array_equal(points[0, :, 0], quantiles[0, :, 0, middle])
    return quantiles[0, :, 0]


def series(n_rows, seed=0):
    """Series of many kinds, of the same length."""
    rng = np.random.default_rng(seed)
    step = np.arange(n_rows)
    noise = rng.normal(size=(9, n_rows))
    wave = 5 * np.sin(2 * np.pi * step / 7)
    gaps = wave + noise[0]
    gaps[rng.random(n_rows) < 0.2] = np.nan
    gaps[-1] = 3.0
    outlier = wave + noise[1]
    outlier[n_rows // 2] = 1e4
    sentinels = wave + noise[0]
    sentinels[rng.random(n_rows) < 0.1] = -999.0
    late = wave + noise[2]
    late[: n_rows // 3] = np.nan
    ended = wave + noise[3]
    ended[-30:] = 2.5
    fallen = 50 + wave + noise[8]
    fallen[-3:] = 0.0
    return np.stack(
        [
            wave + noise[4],
            1e6 + step + noise[5],
            noise[6].cumsum(),
            np.full(n_rows, 3.0),
            rng.poisson(1.0, n_rows).astype(float),
            rng.poisson(3.0, n_rows).astype(float),
            np.maximum(wave + noise[7], 0.0),
            1e-6 * np.exp(noise[8]),
            gaps,
            outlier,
            sentinels,
            late,
            ended,
            wave + 0.01 * noise[4],
            0.1 * step**2 + 0.2 * noise[5],
            fallen,
        ]
    )


def assert_close(answers, right):
    assert answers.shape == right.shape
    assert np.abs(answers - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize(
    ("n_rows", "horizon"), [(1, 1), (2, 9), (9, 3), (20, 12), (40, 1), (CONTEXT, 30), (100, 7)]
)
def test_the_file_gives_the_numbers_of_the_forecaster(session, n_rows, horizon):
    windows = series(n_rows, seed=n_rows)
    windows = windows[np.isfinite(windows[:, -CONTEXT:]).any(1)]
    answers = answer(session, windows, horizon)
    for window, quantiles in zip(windows, answers, strict=True):
        # Of a longer series the file reads the last rows.
        assert_close(quantiles, expected(window[-CONTEXT:], horizon))


def test_series_of_different_lengths_and_horizons_are_answered_as_alone(session):
    windows = series(50)
    lengths = np.array([50, 3, 17, 40, 33, 50, 12, 30, 25, 20, 44, 50, 38, 41, 35, 48])
    horizons = np.arange(1, 17)
    seasons = np.array([0, 7] * 6 + [12, 0, 7, 7])
    for window, length in zip(windows, lengths, strict=True):
        window[: 50 - length] = np.nan
    answers = answer(session, windows, horizons, seasons)
    assert answers.shape == (16, 16, len(LEVELS))
    for number, horizon in enumerate(horizons):
        alone = answer(session, windows[number, None], horizon, seasons[number])[0]
        assert_close(answers[number, :horizon], alone)
        assert np.isnan(answers[number, horizon:]).all()


def test_a_usual_season_is_read(session):
    step = np.arange(60)
    window = np.sin(2 * np.pi * step / 7) + np.random.default_rng(3).normal(size=60)
    model = forecaster(5)
    weekly = model.with_state(replace(model.state_, season=7))
    _, right = weekly.predict_windows(window[None, :, None], quantiles=LEVELS)
    answers = answer(session, window[None], 5, season=7)
    assert_close(answers[0], right[0, :, 0])
    assert np.abs(answers - answer(session, window[None], 5)).max() > 1e-3


@pytest.mark.parametrize("unit", [1e-300, 1e60, 1e300])
def test_values_beyond_single_precision_are_read(session, unit):
    window = unit * series(40)[0]
    (quantiles,) = answer(session, window[None], 3)
    # The largest value is the unit: squares would overflow.
    assert_close(quantiles / unit, expected(window, 3) / unit)


def test_what_the_forecaster_refuses_is_nan(session):
    windows = series(20)[:3]
    windows[0] = np.nan
    windows[1, 4] = np.inf
    answers = answer(session, windows, 4)
    assert np.isnan(answers[:2]).all()
    assert np.isfinite(answers[2]).all()


def test_short_series_take_the_smaller_shape(exported, session):
    """Both shapes are here the same graph, so the answers are the same, and the weights shared."""
    model = onnx.load(exported / "alone.onnx")
    joined = tsattn.adapters.zero_onnx._joined({16: copy.deepcopy(model), CONTEXT: model})
    both = onnxruntime.InferenceSession(joined.SerializeToString())
    weights = onnx.load(exported / "zero.onnx").graph.initializer
    assert len(joined.graph.initializer) == len(weights) > 20
    for n_rows in (16, 17):
        windows = series(40)[:2, -n_rows:]
        assert_close(answer(both, windows, 3), answer(session, windows, 3))


def test_the_file_loads_without_a_warning(exported, capfd):
    onnxruntime.InferenceSession(exported / "zero.onnx")
    assert capfd.readouterr().err == ""


def test_an_export_says_nothing_to_a_log(exported):
    log = (exported / "log.txt").read_text()
    assert log.splitlines() == ["INFO:onnxscript.optimizer:heard again"]


def test_metadata_say_what_the_file_reads(session):
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["levels"]) == list(LEVELS)
    assert facts["model"] == "zero"
    assert (facts["format"], facts["context"], facts["max_horizon"]) == ("1", str(CONTEXT), "1024")


def test_what_cannot_be_exported_is_refused(tmp_path):
    path = tmp_path / "zero.onnx"
    with pytest.raises(TypeError, match="got LinearForecaster; use export_onnx"):
        export_zero_onnx(LinearForecaster(3), path)
    with pytest.raises(ValueError, match="fit"):
        export_zero_onnx(PretrainedForecaster(3), path)
    assert not path.exists()


def test_a_terminal_is_told_how_far_an_export_is_and_nobody_else(monkeypatch, tmp_path):
    graph = onnx.helper.make_graph([], "none", [], [])
    program = SimpleNamespace(model_proto=onnx.helper.make_model(graph))
    monkeypatch.setattr(tsattn.adapters.zero_onnx, "_traced", lambda module: module)
    monkeypatch.setattr(tsattn.adapters.zero_onnx, "to_onnx", lambda *_, **__: program)
    monkeypatch.setattr(tsattn.adapters.zero_onnx, "_joined", lambda graphs: program.model_proto)
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    export_zero_onnx(forecaster(3), tmp_path / "zero.onnx", verbose=True)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    export_zero_onnx(forecaster(3), tmp_path / "zero.onnx")
    assert screen.getvalue() == ""
    export_zero_onnx(forecaster(3), tmp_path / "zero.onnx", verbose=True)
    assert "\rzero.onnx [" in screen.getvalue()
    assert f"tracing {CONTEXT} rows" in screen.getvalue()
    assert screen.getvalue().endswith("\n")


# --- the page and its service ---------------------------------------------------------------------


def test_the_serving_page_runs(exported, tmp_path, monkeypatch):
    """With a tiny network in place of the shipped one, whose export takes minutes, and one pass of
    training.
    """
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "serving.md"
    (_, first), (_, service), *rest = blocks(page.read_text(encoding="utf-8"), "python")
    modules = re.findall(r"^(?:import|from) (\w+)", service, flags=re.MULTILINE)
    assert set(modules) - sys.stdlib_module_names == {"numpy", "onnxruntime"}
    assert len([line for line in service.splitlines() if line]) <= 66

    def copied(model, path, **_):
        assert isinstance(model, PretrainedForecaster)
        shutil.copy(exported / "zero.onnx", path)

    monkeypatch.setattr(tsattn.adapters.zero_onnx, "export_zero_onnx", copied)
    default = "PretrainedForecaster(7)"
    assert default in first
    names = {"tiny_network": tiny_network, "Training": Training}
    tiny = first.replace(default, "PretrainedForecaster(7, weights=tiny_network())")
    trained = "random_state=0).fit(sales)"
    assert trained in tiny
    tiny = tiny.replace(trained, f"training=Training(max_epochs=1), {trained}")
    for source in (tiny, *(source for _, source in rest)):
        exec(compile(source, str(page), "exec"), names)
    assert names["result"].origins.shape == (2, 6)


def has_torch(process):
    """Whether a process has loaded torch's library."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def test_the_service_answers_refuses_and_loses_nothing(exported):
    service = load.Service(exported)
    # It must not hold up the stop for good.
    silent_client = socket.create_connection(("127.0.0.1", service.port))
    tally = load.Tally()
    lock = threading.Lock()
    clients = [
        threading.Thread(target=load.client, args=(service, seed, tally, lock), daemon=True)
        for seed in range(8)
    ]
    for thread in clients:
        thread.start()
    for body, name in load.WRONG:
        status, content = service.ask(body)
        assert status == 400
        assert name in content["error"]
        assert "send {" in content["error"]
    while len(tally.waits) < 40:
        assert service.process.poll() is None
        time.sleep(0.05)
    assert has_torch("self")
    assert not has_torch(service.process.pid)
    assert service.stop() == 0
    silent_client.close()
    for thread in clients:
        thread.join()
    assert tally.n_lost == 0
    assert tally.n_misjudged == 0
    assert load.difference(forecaster(1), tally.answers) <= 1e-5
