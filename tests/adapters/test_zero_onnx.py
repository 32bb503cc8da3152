"""The pretrained forecaster as an ONNX file: the numbers of predict_windows without torch, and the
service of the page, which loses no request.

An export takes two minutes: the tests that are not slow run the module that is exported, and join
files that are made by hand.
"""

import copy
import functools
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
import torch
from checkout import ROOT
from fresh import in_fresh_process
from pages import blocks
from speed import service as load
from tiny_network import SIZES, tiny_network

import tsattn.adapters.export
import tsattn.adapters.zero_onnx
from tsattn import PretrainedForecaster, Training
from tsattn.adapters.export import export_program
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


class Eager:
    """What is exported, as torch computes it, with the call of a session of onnxruntime."""

    def __init__(self, n_steps=CONTEXT):
        nonnegative = forecaster(1).nonnegative
        program = tsattn.adapters.zero_onnx._PaddedForecaster(tiny_network(), n_steps, nonnegative)
        self.program = program.eval()

    def run(self, names, inputs):
        assert names == ["quantiles"]
        n_ahead = int(inputs["horizon"].max())
        tensors = [torch.as_tensor(inputs[name]) for name in ("windows", "horizon", "season")]
        with torch.no_grad():
            return [self.program(*tensors, n_ahead).numpy()]


@pytest.fixture(scope="module", params=["eager", pytest.param("file", marks=pytest.mark.slow)])
def session(request):
    if request.param == "eager":
        return Eager()
    return onnxruntime.InferenceSession(request.getfixturevalue("exported") / "zero.onnx")


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
    failing = 20 + wave + noise[0]
    failing[rng.random(n_rows) < 0.1] = 0.0
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
            failing,
        ]
    )


def assert_close(answers, right):
    assert answers.shape == right.shape
    assert np.abs(answers - right).max() <= 1e-5 * np.abs(right).max()


@pytest.mark.parametrize(
    ("n_rows", "horizon"), [(1, 1), (2, 9), (9, 3), (20, 12), (40, 1), (CONTEXT, 30), (100, 7)]
)
def test_the_program_gives_the_numbers_of_the_forecaster(session, n_rows, horizon):
    windows = series(n_rows, seed=n_rows)
    windows = windows[np.isfinite(windows[:, -CONTEXT:]).any(1)]
    answers = answer(session, windows, horizon)
    for window, quantiles in zip(windows, answers, strict=True):
        # Of a longer series the program reads the last rows.
        assert_close(quantiles, expected(window[-CONTEXT:], horizon))


def test_series_of_different_lengths_and_horizons_are_answered_as_alone(session):
    windows = series(50)
    lengths = np.array([50, 3, 17, 40, 33, 50, 12, 30, 25, 20, 44, 50, 38, 41, 35, 48, 46])
    horizons = np.arange(1, 18)
    seasons = np.array([0, 7] * 6 + [12, 0, 7, 7, 0])
    for window, length in zip(windows, lengths, strict=True):
        window[: 50 - length] = np.nan
    answers = answer(session, windows, horizons, seasons)
    assert answers.shape == (17, 17, len(LEVELS))
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


def test_a_smaller_shape_gives_the_same_numbers():
    for n_rows in (1, 15, 16):
        windows = series(40)[:, -n_rows:]
        windows = windows[np.isfinite(windows).any(1)]
        assert_close(answer(Eager(16), windows, 3), answer(Eager(), windows, 3))


@pytest.mark.slow
def test_short_series_take_the_smaller_shape(exported):
    """Both shapes are here the same graph, so the answers are the same, and the weights shared."""
    session = onnxruntime.InferenceSession(exported / "zero.onnx")
    model = onnx.load(exported / "alone.onnx")
    joined = tsattn.adapters.zero_onnx._joined({16: copy.deepcopy(model), CONTEXT: model})
    both = onnxruntime.InferenceSession(joined.SerializeToString())
    weights = onnx.load(exported / "zero.onnx").graph.initializer
    assert len(joined.graph.initializer) == len(weights) > 20
    for n_rows in (16, 17):
        windows = series(40)[:2, -n_rows:]
        assert_close(answer(both, windows, 3), answer(session, windows, 3))


@pytest.mark.slow
def test_the_file_loads_without_a_warning(exported, capfd):
    onnxruntime.InferenceSession(exported / "zero.onnx")
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_an_export_says_nothing_to_a_log(exported):
    log = (exported / "log.txt").read_text()
    assert log.splitlines() == ["INFO:onnxscript.optimizer:heard again"]


# --- files that are made by hand ------------------------------------------------------------------


def summing(factor):
    """A model with the inputs and the output of an exported one; any two have the same names.

    Its answers are the sum of the sizes of the values, times the factor and the level, plus the
    season; NaN beyond the horizon.
    """
    double, whole = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64
    value = onnx.helper.make_tensor_value_info

    def node(kind, inputs, outputs):
        return onnx.helper.make_node(kind, inputs, outputs, name=f"make_{outputs[0]}")

    weights = {
        "factor": np.float64(factor),
        "levels": np.array(LEVELS),
        "nothing": np.float64(0),
        "first": np.int64(0),
        "next": np.int64(1),
        "across": np.array([1]),
        "inside": np.array([1, 2]),
        "last": np.array([2]),
        "missing": np.float64(np.nan),
    }
    nodes = [
        node("IsNaN", ["windows"], ["gaps"]),
        node("Where", ["gaps", "nothing", "windows"], ["whole"]),
        node("Abs", ["whole"], ["sizes"]),
        node("ReduceSum", ["sizes", "across"], ["sum"]),
        node("Unsqueeze", ["sum", "last"], ["sums"]),
        # Without its lowest value, which has no name.
        node("Clip", ["sums", "", "most"], ["clipped"]),
        node("Mul", ["clipped", "factor"], ["products"]),
        node("Mul", ["products", "levels"], ["parts"]),
        node("CastLike", ["season", "windows"], ["seasons"]),
        node("Unsqueeze", ["seasons", "inside"], ["added"]),
        node("Add", ["parts", "added"], ["rows"]),
        node("Range", ["first", "n_ahead", "next"], ["steps"]),
        node("Unsqueeze", ["horizon", "across"], ["ends"]),
        node("Less", ["steps", "ends"], ["is_ahead"]),
        node("Unsqueeze", ["is_ahead", "last"], ["is_row_ahead"]),
        node("Where", ["is_row_ahead", "rows", "missing"], ["quantiles"]),
    ]
    weights["most"] = np.float64(np.inf)
    inputs = [
        value("windows", double, ["batch", "rows"]),
        value("horizon", whole, ["batch"]),
        value("season", whole, ["batch"]),
        value("n_ahead", whole, []),
    ]
    outputs = [value("quantiles", double, ["batch", "n_ahead", "levels"])]
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "summing", inputs, outputs, tensors)
    opsets = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def summed(windows, horizons, seasons, factor=1.0):
    """The answers of that model for windows of one length."""
    sums = np.nansum(np.abs(windows), axis=1)[:, None, None]
    rows = sums * factor * np.array(LEVELS) + np.array(seasons)[:, None, None]
    is_ahead = np.arange(max(horizons)) < np.array(horizons)[:, None]
    return np.where(is_ahead[..., None], rows, np.nan)


@pytest.fixture
def by_hand(monkeypatch):
    """Exports for sizes below the context, and for the context, take models made by hand."""
    monkeypatch.setattr(tsattn.adapters.zero_onnx, "_traced", lambda module: module)

    def exporting(sizes=(), factors=(1.0,)):
        remaining = iter(factors)
        monkeypatch.setattr(tsattn.adapters.zero_onnx, "_SHAPES", sizes)
        monkeypatch.setattr(
            tsattn.adapters.zero_onnx,
            "to_onnx",
            lambda *_, **__: SimpleNamespace(model_proto=summing(next(remaining))),
        )

    return exporting


def test_each_length_is_answered_by_the_first_shape_that_holds_it(tmp_path, by_hand, capfd):
    path = tmp_path / "zero.onnx"
    # A shape above the context of the network is not written.
    by_hand((16, 32, 500), (1.0, 2.0, 4.0))
    export_zero_onnx(forecaster(3), path)
    session = onnxruntime.InferenceSession(path)
    assert capfd.readouterr() == ("", "")
    horizons = [1, 4, 2]
    seasons = [0, 7, 12]
    factors = {1: 1.0, 16: 1.0, 17: 2.0, 32: 2.0, 33: 4.0, CONTEXT: 4.0, 200: 4.0}
    for n_rows, factor in factors.items():
        windows = np.random.default_rng(n_rows).normal(size=(3, n_rows))
        windows[:2, 0] = np.nan
        answers = answer(session, windows, horizons, seasons)
        np.testing.assert_allclose(answers, summed(windows, horizons, seasons, factor))
    graph = onnx.load(path).graph
    # The models differ in one weight.
    assert len(graph.initializer) == len(summing(1.0).graph.initializer) + 2
    assert [value.name for value in graph.input] == ["windows", "horizon", "season"]


def test_metadata_say_what_the_file_reads(tmp_path, by_hand):
    model = forecaster(3)
    weekly = model.with_state(replace(model.state_, season=7))
    for name, each, season in (("zero", model, "1"), ("weekly", weekly, "7")):
        by_hand()
        export_zero_onnx(each, tmp_path / f"{name}.onnx")
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
        assert session.get_modelmeta().custom_metadata_map == {
            "format": "1",
            "model": "zero",
            "context": str(CONTEXT),
            "max_horizon": "1024",
            "season": season,
            "levels": json.dumps(list(LEVELS)),
        }


def test_what_cannot_be_exported_is_refused(tmp_path):
    path = tmp_path / "zero.onnx"
    with pytest.raises(TypeError, match="got LinearForecaster; use export_onnx"):
        export_zero_onnx(LinearForecaster(3), path)
    with pytest.raises(ValueError, match="fit"):
        export_zero_onnx(PretrainedForecaster(3), path)
    assert not path.exists()


def test_a_terminal_is_told_how_far_an_export_is_and_nobody_else(monkeypatch, tmp_path, by_hand):
    by_hand(factors=(1.0, 1.0, 1.0))
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


PAGE = ROOT / "docs" / "serving.md"


def run_page(folder, monkeypatch, export):
    """Run the page with a tiny network in place of the shipped one, whose export takes minutes, and
    one pass of training.
    """
    monkeypatch.chdir(folder)
    (_, first), _, *rest = blocks(PAGE.read_text(encoding="utf-8"), "python")

    def checked(model, path, **_):
        assert isinstance(model, PretrainedForecaster)
        export(path)

    monkeypatch.setattr(tsattn.adapters.zero_onnx, "export_zero_onnx", checked)
    default = "PretrainedForecaster(7)"
    assert default in first
    names = {"tiny_network": tiny_network, "Training": Training}
    tiny = first.replace(default, "PretrainedForecaster(7, weights=tiny_network())")
    trained = "random_state=0).fit(sales)"
    assert trained in tiny
    tiny = tiny.replace(trained, f"training=Training(max_epochs=1), {trained}")
    for source in (tiny, *(source for _, source in rest)):
        exec(compile(source, str(PAGE), "exec"), names)
    assert names["result"].origins.shape == (2, 6)


@pytest.mark.slow
def test_the_serving_page_runs(exported, tmp_path, monkeypatch):
    run_page(tmp_path, monkeypatch, lambda path: shutil.copy(exported / "zero.onnx", path))


class Program:
    """A program of torch with the call of a session of onnxruntime."""

    def __init__(self, path):
        self.program = torch.export.load(path).module()

    def run(self, names, inputs):
        assert names == ["points"]
        return [self.program(torch.as_tensor(inputs["windows"])).numpy()]


def test_the_serving_page_runs_without_a_runtime(tmp_path, monkeypatch):
    """What the page writes as ONNX files is computed by torch."""

    def opened(path):
        assert Path(path).is_file()
        return Eager() if path == "zero.onnx" else Program(path)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    # One trace serves both files.
    monkeypatch.setattr(tsattn.adapters.export, "export_program", functools.cache(export_program))
    monkeypatch.setattr(tsattn.adapters.export, "export_onnx", tsattn.adapters.export.export_pt2)
    run_page(tmp_path, monkeypatch, lambda path: Path(path).touch())


def test_the_service_of_the_page_needs_little():
    _, (_, service), *_ = blocks(PAGE.read_text(encoding="utf-8"), "python")
    modules = re.findall(r"^(?:import|from) (\w+)", service, flags=re.MULTILINE)
    assert set(modules) - sys.stdlib_module_names == {"numpy", "onnxruntime"}
    assert len([line for line in service.splitlines() if line]) <= 66


def has_torch(process):
    """Whether a process has loaded torch's library."""
    return "libtorch" in Path(f"/proc/{process}/maps").read_text()


def answers_under_load(folder):
    """Answers of the service that finds zero.onnx in a folder, which refuses and loses nothing."""
    service = load.Service(folder)
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
    assert tally.answers
    return tally.answers


@pytest.mark.slow
def test_the_service_gives_the_numbers_of_the_forecaster(exported):
    answers = answers_under_load(exported)
    assert load.difference(forecaster(1), answers) <= 1e-5


def test_the_service_answers_refuses_and_loses_nothing(tmp_path, by_hand):
    by_hand()
    model = forecaster(1)
    export_zero_onnx(model.with_state(replace(model.state_, season=7)), tmp_path / "zero.onnx")
    for body, quantiles in answers_under_load(tmp_path):
        request = json.loads(body)
        history = np.array(request["history"], dtype=float)[-CONTEXT:]
        np.testing.assert_allclose(quantiles, summed(history[None], [request["horizon"]], [7])[0])
