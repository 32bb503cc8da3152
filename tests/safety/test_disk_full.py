"""A full disk is told in one line that names the file, and leaves what stood there before."""

import errno
import json
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tables import series_table

import tsattn.adapters.export
from tsattn import cli, make_forecaster
from tsattn.adapters.export import export_onnx, export_pt2
from tsattn.catalogue import load_forecaster
from tsattn.storage import add_row
from tsattn.training.processes import DDPSettings, run_processes

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="Linux alone has /dev/full")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(n_rows=60):
    return series_table(5 + np.sin(np.arange(n_rows)))


@contextmanager
def little_room(n_bytes=256):
    """No file of this process may grow beyond so many bytes, as on a disk with no more room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes_no_bytecode = sys.dont_write_bytecode
    # A module that is compiled now would be kept in part, and could not be imported any more.
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = writes_no_bytecode


def network():
    return make_forecaster("nlinear", 4, context=16, max_epochs=1).fit(table())


def model(path):
    make_forecaster("naive", 3).fit(table()).save(path)


def record(path):
    add_row(path, {"run": 2, "words": "x" * 500}, ["run"])


class Program:
    """A program of ONNX of some kilobytes, which takes no export."""

    model = SimpleNamespace(metadata_props={})

    def save(self, file, **_):
        Path(file).write_bytes(bytes(100_000))


def program(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tsattn.adapters.export, "to_onnx", lambda *_: Program())
        export_onnx(network(), path)


WRITERS = {"m": model, "r.jsonl": record, "f.onnx": program}
WRITERS |= {"f.pt2": lambda path: export_pt2(network(), path)}


@pytest.mark.parametrize("name", WRITERS)
def test_a_library_call_names_the_file_and_leaves_the_old_one(name, folder):
    path = folder / name
    if name == "m":
        make_forecaster("naive", 2).fit(table()).save(path)
    elif name == "r.jsonl":
        add_row(path, {"run": 1}, ["run"])
    else:
        path.write_bytes(b"old")
    before = {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    with (
        pytest.raises(
            OSError, match=r"cannot be written: .*; make room, or name another place$"
        ) as caught,
        little_room(),
    ):
        WRITERS[name](path)
    assert str(caught.value).startswith(f"{path} cannot")
    assert caught.value.errno == errno.EFBIG
    assert {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()} == before
    assert sum(each.is_dir() for each in folder.rglob("*")) == (name == "m")
    if name == "m":
        assert load_forecaster(path).horizon == 2


@pytest.mark.parametrize("written", ["f.csv", "f.parquet", "f.png", "m"])
def test_a_command_says_so_in_one_line_and_leaves_nothing(written, folder, capsys):
    table().to_csv("long.csv", index=False)
    option = {"f.png": "--plot"}.get(written, "--out")
    command = [
        "fit" if written == "m" else "forecast",
        "long.csv",
        "--model",
        "naive",
        "--horizon",
        "30",
    ]
    with little_room():
        code = cli.main([*command, option, written])
    out, err = capsys.readouterr()
    # A picture comes after its table, which is not lost with it.
    assert (code, len(out.splitlines())) == (2, 31 * (written == "f.png"))
    assert (
        err == f"tsattn: {written} cannot be written: File too large; make room, or name another"
        " place\n"
    )
    assert os.listdir(folder) == ["long.csv"]


# Of each way to call the command: its exit code, and what it wrote to stderr. What it needs is loaded
# once, and a fork ends as a process of its own would.
COMMANDS = """
import json, os, runpy, sys
from tsattn import cli
call = ["forecast", "long.csv", "--model", "naive", "--horizon", "2"]
assert cli.main([*call, "--out", "loaded.csv"]) == 0
found = []
for options in json.load(sys.stdin):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.dup2(os.open("told", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        sys.argv = ["tsattn", *call, *options]
        runpy.run_module("tsattn", run_name="__main__", alter_sys=True)
        sys.exit()
    status = os.waitpid(child, 0)[1]
    with open("told") as told:
        found.append([os.waitstatus_to_exitcode(status), told.read()])
print(json.dumps(found))
"""


@needs_full
def test_a_full_device_is_told(folder):
    table().to_csv("long.csv", index=False)
    message = "No space left on device; make room, or name another place\n"
    told = {
        ("--out", str(FULL)): f"tsattn: /dev/full cannot be written: {message}",
        (): f"tsattn: standard output: {message}",
        ("--json",): f"tsattn: standard output: {message}",
    }
    ran = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps(list(told)),
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(ran.stdout) == [[2, each] for each in told.values()]


def test_rows_that_are_dealt_out_name_their_folder(folder, capsys):
    rows = np.arange(1500)
    days = np.datetime64("2024-01-01") + rows // 25
    by_date = pd.DataFrame({"unique_id": rows % 25, "ds": days, "y": rows * np.sqrt(2)})
    by_date.to_parquet("dates.parquet", index=False)
    argv = ["forecast", "dates.parquet", "--model", "naive", "--horizon", "2", "--out"]
    with little_room(2000):
        assert cli.main([*argv, "f.parquet", "--batch-series", "25"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("tsattn: ")
    assert err.endswith(
        ".f.parquet.batches cannot be written: File too large; make room, or name another place\n"
    )
    assert os.listdir(folder) == ["dates.parquet"]


def deep():
    few = {"num_batches_per_epoch": 2}
    forecaster = make_forecaster("deepar", 4, context=16, max_epochs=1, estimator_args=few)
    forecaster.fit(table())


def several_processes():
    run_processes(abs, (1,), DDPSettings(2), torch.device("cpu"))


@pytest.mark.parametrize("fit", [deep, several_processes])
def test_a_fit_names_the_folder_of_temporary_files(fit, folder, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with (
        pytest.raises(
            OSError, match=r"cannot be written: .*; make room, or name another place$"
        ) as caught,
        little_room(),
    ):
        fit()
    assert str(caught.value).startswith(f"{folder} cannot")


def test_other_errors_of_the_system_stay_as_they_are(folder):
    Path("file").write_text("x")
    with pytest.raises(FileExistsError):
        add_row(Path("file/r.jsonl"), {"run": 1}, ["run"])
