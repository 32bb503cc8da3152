"""Saved models in another process, on another machine, in another year: they answer alike."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
import torch
from checkout import GOLDEN
from dateutil import tz
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn import storage
from tsattn.catalogue import load_forecaster
from tsattn.data.schema import Schema
from tsattn.data.stored import time_facts as _time_facts
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.storage import read_folder, read_json, standing_folder, write_folder


def models_of_all_kinds():
    """Name, fitted model: tables, id types, zones, units, policies and outputs that a file must
    carry.
    """

    def dated(frame):
        return frame.assign(
            unique_id=pd.to_datetime(
                frame["unique_id"].map({"s0": "2024-02-01", "s1": "2024-01-01"})
            )
        )

    stamps = long_frame(2)["ds"].dt
    frames = {
        "long": long_frame(2),
        "wide": wide_frame(),
        "micro": long_frame(2).assign(ds=stamps.as_unit("us")),
        "seconds": wide_frame().set_axis(wide_frame().index.as_unit("s")),
        "integer": long_frame(2).assign(ds=np.tile(np.arange(160) * 7, 2)),
        "ordered": long_frame(2).assign(
            unique_id=lambda f: pd.Categorical(f["unique_id"], ["s1", "x", "s0"], ordered=True)
        ),
        "strings": long_frame(2).astype({"unique_id": "string"}),
        "dates": dated(long_frame(2)),
    }
    return {name: linear(max_epochs=1).fit(frame) for name, frame in frames.items()} | {
        "attention": attention(max_epochs=1).fit(long_frame(2)),
        "decoder": attention(architecture="decoder", patch_stride=6, linear_skip=False).fit(
            long_frame(2)
        ),
        "masked": attention(missing="mask", max_epochs=1).fit(wide_frame()),
        "log1p": linear(target_transform="log1p", max_epochs=1).fit(
            long_frame(2).assign(y=lambda f: f["y"].abs())
        ),
    }


HEAVY = ("lightning", "sklearn", "gluonts", "statsmodels", "matplotlib", "scipy.stats", "optuna")
# What another process does with all saved models of a folder; the last line is the twin of those
# before it.
ELSEWHERE = f"""
import pickle, sys
from pathlib import Path
import tsattn
from tsattn.catalogue import load_forecaster
from tsattn.forecasters.fitted import FittedNetwork

def told():
    print([name for name in {HEAVY!r} if name in sys.modules])

found = {{}}
for path in Path("models").iterdir():
    model = load_forecaster(path)
    found[path.name] = model.predict(level=[50]), model.get_params(), model.history_, model.summary_
model.save("again")
Path("answers").write_bytes(pickle.dumps(found))
told()
tsattn.forecast([1.0, 2.0, 3.0] * 10, 4, level=80)
told()

answer = FittedNetwork.answer

def planted(*args):
    import scipy.stats
    return answer(*args)

FittedNetwork.answer = planted
model.predict()
told()
"""


def answers_elsewhere(models, folder):
    """What the models answer after they were saved and loaded by a process of its own, without a
    GPU.
    """
    for name, model in models.items():
        model.save(folder / "models" / name)
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", ELSEWHERE],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # Forecasts by saved and by shipped weights load nothing heavy, and an import that is planted is
    # seen.
    assert ran.stdout.splitlines() == ["[]", "[]", "['scipy.stats']"]
    return pickle.loads((folder / "answers").read_bytes())


def test_models_answer_alike_in_a_fresh_process_without_the_table_and_load_nothing_heavy(tmp_path):
    models = models_of_all_kinds()
    answers = answers_elsewhere(models, tmp_path)
    assert sorted(answers) == sorted(models)
    for name, model in models.items():
        frame, parameters, history, summary = answers[name]
        pd.testing.assert_frame_equal(frame, model.predict(level=[50]), check_exact=True, obj=name)
        pd.testing.assert_frame_equal(history, model.history_, check_exact=True)
        assert (parameters, summary) == (model.get_params(), model.summary_)


def shops():
    """A table in columns of its own names, a row missing, with a number beside the target."""
    names = {"unique_id": "shop", "ds": "day", "y": "sales"}
    return long_frame(2).rename(columns=names).assign(temp=7.0).drop(index=40)


@pytest.mark.parametrize(
    "make", [attention, linear, lambda **k: PretrainedForecaster.from_settings(horizon=4, **k)]
)
def test_a_saved_model_reads_new_tables_as_it_was_told(make, tmp_path):
    schema = Schema(id_col="shop", time_col="day", target_col="sales", missing="ffill")
    make(schema=schema).fit(shops()).save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert loaded.schema == schema
    new = shops().groupby("shop").tail(130).assign(shop=lambda f: "new " + f["shop"])
    answer = loaded.predict(new)
    assert answer.columns.tolist() == ["shop", "day", loaded.alias_]
    plain = new.rename(columns={"shop": "unique_id", "day": "ds", "sales": "y"}).drop(
        columns="temp"
    )
    known = make(missing="ffill").fit(
        shops().rename(columns={"shop": "unique_id", "day": "ds", "sales": "y"})
    )
    np.testing.assert_array_equal(answer[loaded.alias_], known.predict(plain)[loaded.alias_])
    with pytest.raises(ValueError, match="column 'shop' is missing"):
        loaded.predict(plain)


@pytest.mark.parametrize(
    "zone",
    [
        ZoneInfo("Europe/Berlin"),
        "America/St_Johns",
        timezone(timedelta(hours=5, minutes=30)),
        timezone(timedelta(seconds=-3661)),
        timezone(timedelta(hours=1), "CET"),
        tz.tzoffset(None, 3600),
        tz.tzutc(),
    ],
    ids=repr,
)
def test_zones_of_every_kind_are_saved(zone, tmp_path):
    times = pd.date_range("2024-03-26", periods=160, freq="h", tz="UTC").tz_convert(zone)
    model = linear(max_epochs=1).fit(pd.DataFrame({"ds": times, "y": np.sin(np.arange(160))}))
    model.save(tmp_path / "model")
    forecast = LinearForecaster.load(tmp_path / "model").predict()
    expected = model.predict()
    assert (forecast["ds"] == expected["ds"]).all()
    assert (forecast["ds"].dt.tz_localize(None) == expected["ds"].dt.tz_localize(None)).all()
    np.testing.assert_array_equal(forecast["nlinear"], expected["nlinear"])
    if not type(zone).__module__.startswith("dateutil") and zone != timezone(timedelta(hours=1)):
        assert forecast["ds"].dtype == expected["ds"].dtype


def test_what_a_file_cannot_hold_is_refused_when_saved(tmp_path):
    model = linear(max_epochs=1).fit(long_frame(2))
    periods = np.array([pd.Period("2024"), pd.Period("2025")], dtype=object)
    panel = replace(model.panel_, ids=periods)
    model = model.revised(panel=panel)
    with pytest.raises(
        ValueError, match=r"^ids of type Period cannot be saved, only text and numbers; convert"
    ):
        model.save(tmp_path / "model")
    wide = wide_frame().rename_axis(pd.Timestamp("2024-01-01"))
    with pytest.raises(ValueError, match=r"^index_name of type Timestamp cannot be saved"):
        linear(max_epochs=1).fit(wide).save(tmp_path / "model")
    times = pd.date_range("2024-01-01", periods=48, freq="h", tz="UTC")
    with pytest.raises(
        ValueError, match=r"has no name that a file could hold; convert the stamps to one that has"
    ):
        _time_facts(times.tz_convert(tz.gettz("Europe/Berlin")))
    with pytest.raises(ValueError, match="alias must be text or a whole number to be saved; got T"):
        linear(max_epochs=1, alias=True).fit(wide_frame()).save(tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_device_of_torch_is_saved_by_its_name(tmp_path):
    model = linear(max_epochs=1, device=torch.device("cpu")).fit(wide_frame())
    model.save(tmp_path / "model")
    loaded = load_forecaster(tmp_path / "model")
    assert loaded.training.device == "cpu"
    pd.testing.assert_frame_equal(loaded.predict(), model.predict())


def test_others_may_read_what_one_user_saved(tmp_path):
    before = os.umask(0o022)
    try:
        linear(max_epochs=1).fit(wide_frame()).save(tmp_path / "model")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in (tmp_path / "model").iterdir()} == {
        "0o644"
    }


def test_a_link_to_a_model_stays_a_link(tmp_path):
    model = linear(max_epochs=1).fit(wide_frame())
    model.save(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    model.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]
    pd.testing.assert_frame_equal(
        LinearForecaster.load(tmp_path / "link").predict(), model.predict()
    )


def test_what_a_killed_writer_set_aside_is_found_and_cleared(tmp_path):
    def write(text):
        return lambda folder: (folder / "config.json").write_text(text)

    path = tmp_path / "model"
    left = tmp_path / ".model.old.0123456789ab"
    (tmp_path / ".model.old.notes").mkdir()
    write_folder(path, write("old"))
    path.replace(left)
    assert standing_folder(path) == left
    write_folder(path, write("new"))
    assert (standing_folder(path) / "config.json").read_text() == "new"
    assert sorted(each.name for each in tmp_path.iterdir()) == [".model.old.notes", "model"]
    assert standing_folder(tmp_path / "no" / "model") == tmp_path / "no" / "model"


def test_what_was_removed_in_part_is_never_taken_for_a_model(tmp_path, monkeypatch):
    """The first writer is killed while it clears up, the second between its two renames."""

    def write(text):
        return lambda folder: (folder / "config.json").write_text(text)

    def remove_in_part(folder, **options):
        (folder / "config.json").unlink(missing_ok=True)
        raise KeyboardInterrupt

    path = tmp_path / "model"
    write_folder(path, write('{"format": 1, "class": "old"}'))
    with monkeypatch.context() as patched:
        patched.setattr(storage.shutil, "rmtree", remove_in_part)
        with pytest.raises(KeyboardInterrupt):
            write_folder(path, write('{"format": 1, "class": "new"}'))
    path.replace(tmp_path / ".model.old.0123456789ab")
    assert read_folder(path, lambda folder: read_json(folder / "config.json"))["class"] == "new"
    write_folder(path, write('{"format": 1, "class": "newest"}'))
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_a_folder_replaced_while_it_is_read_is_read_again(tmp_path):
    path = tmp_path / "model"

    def save(text):
        def write(folder):
            for name in ("config.json", "model.safetensors"):
                (folder / name).write_text(text)

        write_folder(path, write)

    def read(folder):
        reads.append(folder)
        config = (folder / "config.json").read_text()
        if len(reads) <= n_replacements:
            save(json.dumps({"format": 1, "class": str(len(reads))}))
        if config != (folder / "model.safetensors").read_text():
            raise ValueError("mixed")
        return config

    for n_replacements in (0, 1, 30):
        reads = []
        save('{"format": 1, "class": "first"}')
        expected = f'"{n_replacements or "first"}"'
        assert expected in read_folder(path, read)
        assert len(reads) == n_replacements + 1


def test_a_folder_set_aside_while_it_is_read_is_read_there(tmp_path):
    path = tmp_path / "model"
    left = tmp_path / ".model.old.0123456789ab"
    facts = {"format": 1, "class": "old"}
    write_folder(path, lambda folder: (folder / "config.json").write_text(json.dumps(facts)))
    reads = []

    def read(folder):
        reads.append(folder)
        if len(reads) == 1:
            # The first of the two renames of a writer.
            path.replace(left)
        return read_json(folder / "config.json")

    assert read_folder(path, read) == facts
    assert reads == [path, left]


def test_a_damaged_folder_that_stays_is_read_once(tmp_path):
    reads = []

    def read(folder):
        reads.append(folder)
        return read_json(folder / "config.json")

    for path in (tmp_path, tmp_path / "no" / "model"):
        with pytest.raises(ValueError, match=r"config\.json is missing"):
            read_folder(path, read)
    assert reads == [tmp_path, tmp_path / "no" / "model"]


def test_what_its_writer_clears_while_it_is_looked_for_is_no_fault(tmp_path, monkeypatch):
    path, gone, left = (
        tmp_path / name for name in ("model", ".model.old.0123456789ab", ".model.old.0123456789ac")
    )
    left.mkdir()
    monkeypatch.setattr(storage, "_set_aside", lambda path: [gone, left])
    assert standing_folder(path) == left
    monkeypatch.setattr(storage, "_set_aside", lambda path: [gone])
    with pytest.raises(ValueError, match="missing"):
        read_json(standing_folder(path) / "config.json")


def test_a_model_made_for_cuda_opens_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = linear(max_epochs=1).fit(wide_frame())
    for device in ("cuda", "cuda:3"):
        model.set_params(training__device=device).save(tmp_path / "model")
        loaded = LinearForecaster.load(tmp_path / "model")
        assert loaded.training.device == device
        pd.testing.assert_frame_equal(loaded.predict(), model.predict())
    with pytest.raises(ValueError, match="device 'cuda:3' is not available here"):
        loaded.fit(wide_frame())


@pytest.mark.gpu
def test_a_model_trained_on_cuda_answers_on_the_cpu(tmp_path):
    model = attention(device="cuda", max_epochs=1).fit(wide_frame())
    frame = answers_elsewhere({"one": model}, tmp_path)["one"][0]
    np.testing.assert_allclose(frame, model.predict(level=[50]), rtol=1e-4, atol=1e-5)


def test_a_model_of_an_older_version_answers_as_it_did():
    """The folder was saved by version 0.1.0 of the first format; its forecast is the one of that
    day.
    """
    expected = pd.read_csv(GOLDEN / "model_v1_forecast.csv")
    assert sum(path.stat().st_size for path in (GOLDEN / "model_v1").iterdir()) < 30_000
    model = AttentionForecaster.load(GOLDEN / "model_v1")
    forecast = model.predict(level=80)
    assert forecast.columns.tolist() == expected.columns.tolist()
    assert forecast["unique_id"].dtype == pd.CategoricalDtype(["s0", "s1"])
    assert forecast["ds"].astype(str).tolist() == expected["ds"].tolist()
    for column in ("mlr", "mlr-lo-80", "mlr-hi-80"):
        np.testing.assert_allclose(forecast[column], expected[column], rtol=1e-5)
    assert "sha256" not in json.loads((GOLDEN / "model_v1" / "config.json").read_text())
    assert model.training.n_threads is None


def test_an_option_that_is_gone_does_not_bar_an_old_model(tmp_path):
    shutil.copytree(GOLDEN / "model_v1", tmp_path / "old")
    facts = json.loads((GOLDEN / "model_v1" / "config.json").read_text())
    for value in (True, False):
        assert "compile" in facts["parameters"]
        facts["parameters"]["compile"] = value
        (tmp_path / "old" / "config.json").write_text(json.dumps(facts))
        model = AttentionForecaster.load(tmp_path / "old")
        model.save(tmp_path / "new")
        assert (
            "compile"
            not in json.loads((tmp_path / "new" / "config.json").read_text())["parameters"]
        )
    facts["parameters"]["other"] = 1
    (tmp_path / "old" / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="AttentionForecaster has no setting 'other'"):
        AttentionForecaster.load(tmp_path / "old")


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_threads", 0), ("n_threads", "2"), ("batch_size", "9"), ("batch_size", None)],
)
def test_settings_that_would_fail_in_a_forecast_are_refused(tmp_path, name, value):
    shutil.copytree(GOLDEN / "model_v1", tmp_path / "old")
    facts = json.loads((tmp_path / "old" / "config.json").read_text())
    facts["parameters"][name] = value
    (tmp_path / "old" / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=f"is not what save.* {name} must be a whole number"):
        AttentionForecaster.load(tmp_path / "old")
