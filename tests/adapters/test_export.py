"""Exported networks: the numbers of their forecaster, in a process without torch, for every network
there is.
"""

import copy
import functools
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import onnxruntime
import pytest
import torch
from small_forecasters import NET, TINY, attention, linear
from tables import long_frame, wide_frame

import tsattn.adapters.export
from tsattn import make_forecaster
from tsattn.adapters.export import export_onnx, export_program, export_pt2
from tsattn.adapters.zero_onnx import export_zero_onnx
from tsattn.data.transforms import TRANSFORMS
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.nn.config import ATTENTION_KINDS, LINEAR_KINDS
from tsattn.training.settings import Training

CONTEXT = 24
HORIZON = 4
SMALL = {"n_layers": 1, "d_ff": 16, "max_epochs": 1}


# Left to the slow tests, where every kind is exported in every way; the tests below export the
# linear ones and the standard one, too.
LATER = ("standard", "sliding_window", "bilinear_mlr", "mlbtc", *LINEAR_KINDS)


def later(value, slow):
    return pytest.param(value, marks=pytest.mark.slow) if slow else value


def positive(frame):
    """The same table without negative values."""
    numbers = frame.select_dtypes("float").columns
    return frame.assign(**{name: frame[name].abs() for name in numbers})


@functools.cache
def fit(kind, table="long", **changes):
    """The same forecaster for the same settings: no test changes it."""
    frame = positive(long_frame() if table == "long" else wide_frame())
    if kind in LINEAR_KINDS:
        return linear(kind=kind, max_epochs=1, **changes).fit(frame)
    return attention(attention=kind, **{**SMALL, **changes}).fit(frame)


def windows(model, n, seed=0):
    """Histories of quite different sizes: around zero if they may be, and large ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, CONTEXT, 1)).cumsum(1) * 10.0 ** rng.integers(-2, 4, size=(n, 1, 1))
    return (np.abs(x) if model.training.target_transform else x).astype(np.float32)


def assert_same(points, model, x):
    """Equal to 1e-5 of the largest number of each forecast.

    A wide model takes a fixed level off in float32, so for windows far below it that level is the
    measure.
    """
    expected = model.predict_windows(x)[0]
    fitted = model.fitted_
    assert points.dtype == np.float32
    assert points.shape == expected.shape == (len(x), model.horizon, 1)
    size = np.abs(expected).max(1, keepdims=True)
    if not model.config_.equivariant:
        size = np.maximum(
            size, fitted.transform.inverse(np.abs(fitted.scaler.mean) + fitted.scaler.scale)
        )
    assert (np.abs(points - expected) <= 1e-5 * size).all(), (
        np.abs(points - expected) / size
    ).max()


def served(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, lambda x: session.run(["points"], {"windows": x})[0]


@functools.cache
def program_of(model):
    """The program of a forecaster, once for all tests that ask for it: a trace takes seconds."""
    return export_program(model)


@functools.cache
def traced(model):
    return called(program_of(model))


def called(program):
    module = program.module()
    return lambda x: module(torch.as_tensor(x)).numpy()


def written(model, path):
    export_onnx(model, path)
    return served(path)[1]


def check(run, model):
    for n in (1, 3, 64):
        x = windows(model, n, seed=n)
        assert_same(run(x), model, x)


# --- the same numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [later(kind, kind in LATER) for kind in (*ATTENTION_KINDS, *LINEAR_KINDS)]
)
def test_program_gives_the_same_points(kind):
    model = fit(kind, "wide" if kind == "dlinear" else "long")
    check(traced(model), model)


@pytest.mark.parametrize(
    ("kind", "table", "transform"), [("nlinear", "wide", "log1p"), ("dlinear", "long", None)]
)
def test_onnx_gives_the_same_points(kind, table, transform, tmp_path):
    model = fit(kind, table, target_transform=transform)
    check(written(model, tmp_path / "model.onnx"), model)


class Described(AttentionForecaster):
    """With options that only the description of a network has."""

    more: ClassVar = {}

    def _describe(self, *args, **derived):
        return super()._describe(*args, **derived, **self.more)


# Settings of the forecaster, and options beside them.
VARIANTS = [
    ({"rotary": True, "ranks": (2, 2)}, {"learn_scales": True, "n_kv_heads": 1}),
    ({"scaling": "paper", "offset": (0, 2)}, {"learn_scales": True}),
    ({"layer_pattern": "GW", "n_layers": 2, "offset": "layers"}, {"n_global": 1}),
    ({"missing": "mask"}, {}),
]


def described(changes, more, monkeypatch):
    monkeypatch.setattr(Described, "more", more)
    return Described.from_settings(horizon=HORIZON, **{**TINY, **NET, **SMALL, **changes})


@pytest.mark.slow
@pytest.mark.parametrize("table", ["long", "wide"])
@pytest.mark.parametrize("kind", [*ATTENTION_KINDS, *LINEAR_KINDS])
def test_onnx_gives_the_same_points_everywhere(kind, table, tmp_path):
    model = fit(kind, table)
    check(written(model, tmp_path / "model.onnx"), model)


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "more"), VARIANTS, ids=lambda changes: "-".join(changes))
def test_onnx_of_every_setting(changes, more, tmp_path, monkeypatch):
    model = described(changes, more, monkeypatch).fit(positive(wide_frame()))
    check(written(model, tmp_path / "model.onnx"), model)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("kind", ["mlr", "rlinear"])
def test_onnx_of_every_transform(kind, name, tmp_path):
    for table in ("long", "wide"):
        model = fit(kind, table, target_transform=name)
        check(written(model, tmp_path / "model.onnx"), model)


def decoder(kind):
    return fit(kind, architecture="decoder", linear_skip=False, patch_len=3, patch_stride=3)


def test_a_decoder_is_written_out_step_by_step():
    model = decoder("standard")
    with torch.no_grad():  # whatever the caller's mode, the way without caches is traced
        run = traced(model)
    check(run, model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_onnx_of_decoders(kind, tmp_path):
    model = decoder(kind)
    check(written(model, tmp_path / "model.onnx"), model)


@pytest.mark.parametrize("table", ["long", later("wide", True)])
def test_missing_values_are_masked(table):
    model = fit("mlr", table, missing="mask")
    run = traced(model)
    x = windows(model, 20)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    assert_same(run(x), model, x)
    x[0, :, 0] = np.nan
    x[1, 3, 0] = np.inf
    points = run(x)
    assert np.isnan(points[:2, :, 0]).all()
    assert np.isfinite(points[2:]).all()
    assert_same(points[2:], model, x[2:])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_inside(name):
    model = fit("nlinear", target_transform=name)
    run = traced(model)
    check(run, model)
    # Falling series, whose forecasts would be negative without the cut.
    falling = np.linspace(30, 0, CONTEXT, dtype=np.float32)[None, :, None] ** np.float32(2)
    assert_same(run(falling), model, falling)


HEADED = [
    ("quantile", "long"),
    ("student_t", "wide"),
    ("normal", "long"),
    ("log_normal", "wide"),
    ("log_normal", "long"),
    ("negative_binomial", "long"),
]
# Left to the slow tests.
MORE_HEADED = [("normal", "long"), ("log_normal", "long")]


def headed(head, table):
    """A fitted forecaster, and windows that its head can see."""
    frame = positive(long_frame() if table == "long" else wide_frame())
    numbers = frame.select_dtypes("float").columns
    frame[numbers] = frame[numbers].round() + 1
    model = attention(head=head, **SMALL).fit(frame)
    return model, np.abs(windows(model, 20)).round() + 1


# Both kinds of table, and each head but the normal one, which is the log-normal one of logarithms.
@pytest.mark.parametrize(("head", "table"), [case for case in HEADED if case not in MORE_HEADED])
def test_points_of_a_head_are_its_own(head, table):
    model, x = headed(head, table)
    assert_same(traced(model)(x), model, x)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "table"), HEADED)
def test_onnx_of_every_head(head, table, tmp_path):
    model, x = headed(head, table)
    assert_same(written(model, tmp_path / "model.onnx")(x), model, x)


def test_a_window_that_another_network_would_forecast_is_nan():
    model = fit("mlr", missing="mask")
    x = windows(model, CONTEXT)
    for i in range(CONTEXT):
        x[i, :i] = np.nan
    points = traced(model)(x)
    own = np.arange(CONTEXT) <= CONTEXT - 8
    np.testing.assert_array_equal(np.isnan(points).all((1, 2)), ~own)
    assert_same(points[own], model, x[own])
    frame = positive(long_frame())
    frame.loc[
        frame.index[:-5][frame["unique_id"].iloc[:-5] == frame["unique_id"].iloc[-1]], "y"
    ] = np.nan
    with pytest.warns(UserWarning, match="1 of 3 series have fewer than 8 rows of history"):
        short = attention(attention="mlr", missing="mask", **SMALL).fit(frame)
    assert_same(
        traced(short)(x[own]), short, x[own]
    )  # the comparison with the last contexts passes by that series


def test_constant_windows_come_back_as_they_are():
    model = fit("mlr")
    run = traced(model)
    x = np.full((3, CONTEXT, 1), [[[0.1]], [[0.0]], [[-7e8]]], dtype=np.float32)
    np.testing.assert_array_equal(run(x), x[:, :HORIZON])
    assert_same(run(x), model, x)


def test_a_level_costs_no_digits():
    """Movement of a thousandth of the level: a scale in float32 would be off in its
    fourth digit.
    """
    model = fit("rlinear", "wide")
    x = (10_000 + np.random.default_rng(0).normal(size=(5, CONTEXT, 1))).astype(np.float32)
    gap = traced(model)(x) - model.predict_windows(x)[0]
    assert np.abs(gap).max() < 2e-3  # two units in the last place of float32 at that level


@pytest.fixture
def one_trace(monkeypatch):
    """A forecaster is traced once for all of its files."""
    monkeypatch.setattr(tsattn.adapters.export, "export_program", program_of)


def test_the_horizon_is_that_of_the_forecaster():
    model = copy.deepcopy(fit("nlinear")).set_params(horizon=3)
    check(traced(model), model)
    with pytest.raises(ValueError, match="horizon = 5 is longer than the 4 steps"):
        export_program(model.set_params(horizon=5))


def test_loaded_and_updated_forecasters_are_exported_too(tmp_path):
    fit("dlinear", "wide").save(tmp_path / "model")
    model = LinearForecaster.load(tmp_path / "model")
    model.update(positive(wide_frame(180).tail(20)))
    check(traced(model), model)


# --- files ----------------------------------------------------------------------------------------

FRESH = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
np.save("points.npy", session.run(["points"], {"windows": np.load("windows.npy")})[0])
assert not {"torch", "tsattn", "onnx", "pandas"} & set(sys.modules), "more than a runtime was loaded"
print(json.dumps(session.get_modelmeta().custom_metadata_map))
"""


def fresh(source, folder):
    """Run a program in a process of its own."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.usefixtures("one_trace")
def test_a_process_without_torch_gives_the_same_points(tmp_path, monkeypatch, capfd):
    """Whatever the default type of torch where the files are written."""
    model = fit("mlr", "wide", target_transform="log1p")
    before = model.predict()
    monkeypatch.chdir(tmp_path)
    filters = list(warnings.filters)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        export_onnx(model, Path("model.onnx"))
        export_pt2(model, "model.pt2")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]
    assert warnings.filters == filters
    assert torch.equal(torch.get_rng_state(), state)
    assert before.equals(model.predict())

    x = windows(model, 7)
    np.save(tmp_path / "windows.npy", x)
    facts = json.loads(fresh(FRESH, tmp_path))
    assert_same(np.load(tmp_path / "points.npy"), model, x)
    told = {"context": "24", "horizon": "4", "channels": "1", "frequency": "D", "format": "1"}
    assert facts == {**told, "model": "mlr", "channel_names": "[]"}

    inside = {"facts.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=inside).module()
    assert_same(program(torch.as_tensor(x)).numpy(), model, x)
    plain = json.loads(inside["facts.json"])
    assert {k: v if isinstance(v, str) else json.dumps(v) for k, v in plain.items()} == facts

    session, run = served(tmp_path / "model.onnx")
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("windows", "tensor(float)", ["batch", 24, 1])
    assert (made.name, made.type, made.shape) == ("points", "tensor(float)", ["batch", 4, 1])
    assert_refused_windows_are_nan(run, model)
    for name in ("model.onnx", "model.pt2"):
        places = re.findall(
            rb"[\w./-]*/(?:tsattn|site-packages)/[\w./-]*", (tmp_path / name).read_bytes()
        )
        assert places == [], "a file tells where it was made"


def assert_refused_windows_are_nan(run, model):
    x = windows(model, 5)
    clean = run(x)
    x[0, 3], x[1, -1], x[2, 5] = np.nan, np.inf, -0.01
    with pytest.raises(ValueError, match="finite"):
        model.predict_windows(x[:2])
    with pytest.raises(ValueError, match="at least 0"):
        model.predict_windows(x[2:3])
    points = run(x)
    hurt = np.zeros((5, 4, 1), dtype=bool)
    hurt[:3] = True
    np.testing.assert_array_equal(np.isnan(points), hurt)
    np.testing.assert_allclose(points[~hurt], clean[~hurt], rtol=1e-5)


class Interrupted:
    """An ONNX program that is written half."""

    model = SimpleNamespace(metadata_props={})

    def save(self, file, **_):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")


@pytest.mark.usefixtures("one_trace")
@pytest.mark.parametrize("export", [export_onnx, export_pt2], ids=["onnx", "pt2"])
def test_an_interrupted_export_leaves_the_old_file(export, tmp_path, monkeypatch):
    def break_off(program, file, **_):
        file.write(b"half")
        raise OSError("disk full")

    path = tmp_path / "model"
    path.write_bytes(b"old")
    monkeypatch.setattr(tsattn.adapters.export, "to_onnx", lambda *_: Interrupted())
    monkeypatch.setattr(torch.export, "save", break_off)
    with pytest.raises(OSError, match="disk full"):
        export(fit("nlinear"), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- what is refused ------------------------------------------------------------------------------


def test_only_fitted_networks_are_exported(tmp_path):
    with pytest.raises(ValueError, match="LinearForecaster has not been fitted; call fit"):
        export_onnx(linear(), tmp_path / "model.onnx")
    with pytest.raises(TypeError, match="have a network to export; got Naive"):
        export_pt2(make_forecaster("naive", 4), tmp_path / "model.pt2")
    with pytest.raises(TypeError, match="got PretrainedForecaster; export_zero_onnx writes a Pre"):
        export_onnx(make_forecaster("zero", 4), tmp_path / "model.onnx")
    for export in (export_onnx, export_pt2, export_zero_onnx):
        with pytest.raises(ValueError, match="is a folder; name a file in it"):
            export(linear(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_numbers_are_refused(tmp_path):
    class Corrected(LinearForecaster):
        def _forecast(self, x, quantiles, covariates):
            return super()._forecast(x, quantiles, covariates)[0] * 1.001, np.empty(
                (*x.shape[:1], HORIZON, 1, 0)
            )

    model = Corrected(
        HORIZON, context=CONTEXT, training=Training(max_epochs=1), random_state=0
    ).fit(long_frame())
    with pytest.raises(ValueError, match="Corrected cannot be exported: the program is off by"):
        export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_missing_packages_are_named(missing, tmp_path, monkeypatch):
    find = tsattn.checks.find_spec
    monkeypatch.setattr(
        tsattn.checks, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(
        ImportError, match=rf"needs {missing}; install it with: pip install 'tsattn\[onnx\]'"
    ):
        export_onnx(fit("nlinear"), tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "more"),
    [({"attention": "bilinear_mlr"}, {}), ({}, {"learn_scales": True})],
    ids=["einsum", "repeat"],
)
def test_what_onnx_cannot_say_is_an_error(changes, more, tmp_path, monkeypatch):
    """Without the translation of some operators torch breaks off, or writes a file that no runtime
    opens.
    """
    monkeypatch.setattr(tsattn.adapters.export, "_with_onnx_operators", lambda program: program)
    model = described({**changes, "patch_len": 8}, more, monkeypatch)
    with pytest.raises(
        ValueError, match=r"this network has no ONNX form .*; use export_pt2"
    ) as caught:
        export_onnx(model.fit(long_frame()), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
