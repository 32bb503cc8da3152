"""Files that are written whole or not at all, and places that are no plain files and stay what they
are.
"""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT

from tsattn.storage import is_special, write_atomic

TRAIN = ["--horizon", "4", "--max-epochs", "1", "--context", "16"]


def put(path, text):
    write_atomic(path, lambda aside: aside.write_text(text) and None)


def read_in_background(fifo):
    """Read a FIFO to its end while somebody else writes to it."""
    texts = []
    thread = threading.Thread(target=lambda: texts.append(fifo.read_text()), daemon=True)
    thread.start()

    def result():
        thread.join(timeout=30)
        assert texts, "nobody wrote"
        return texts[0]

    return result


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def null(tmp_path):
    """A link to the null device: what replaces a link replaces this one, and the device is out of
    reach.
    """
    path = tmp_path / "null"
    path.symlink_to(os.devnull)
    return path


# --- files, links, devices ------------------------------------------------------------------------


def test_a_file_is_exchanged_and_nothing_left_beside_it(tmp_path):
    path = tmp_path / "new" / "a.txt"
    put(path, "one")
    with path.open() as old:
        put(path, "two")
        assert (old.read(), path.read_text()) == (
            "one",
            "two",
        )  # whoever reads the old file goes on reading it
    assert os.listdir(path.parent) == ["a.txt"]


def fail(aside):
    aside.write_text("half")
    raise ValueError("no more")


def test_half_a_file_is_never_seen(tmp_path, fifo):
    path = tmp_path / "a.txt"
    link = tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    for target in (path, link, fifo):  # nobody reads the FIFO: to open it would wait for ever
        with pytest.raises(ValueError, match="no more"):
            write_atomic(target, fail)
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "fifo", "link"]


@pytest.mark.parametrize("target", ["here.txt", "elsewhere/there.txt"])
def test_a_link_stays_and_its_target_is_exchanged(tmp_path, target):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / target).write_text("old")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    (tmp_path / "second").symlink_to("link.txt")
    inode = (tmp_path / target).stat().st_ino
    put(tmp_path / "second", "new")
    assert (os.readlink(link), os.readlink(tmp_path / "second")) == (target, "link.txt")
    assert ((tmp_path / target).read_text(), (tmp_path / target).is_symlink()) == ("new", False)
    assert (
        tmp_path / target
    ).stat().st_ino != inode  # another file in its place, and not the old one overwritten
    assert not list(tmp_path.rglob(".*"))


def test_the_next_writer_removes_what_killed_writers_left(tmp_path):
    (tmp_path / ".a.txt.0123456789ab").write_text("half")
    folder = tmp_path / ".a.txt.ba9876543210"
    folder.mkdir()
    (folder / "half").write_text("half")
    others = [".a.txt.lock", ".a.txt.0123456789abcd", ".b.txt.0123456789ab"]
    for name in others:
        (tmp_path / name).write_text("kept")

    def write(aside):
        # A second writer must leave the file of the first one alone.
        put(tmp_path / "a.txt", "second")
        aside.write_text("first")

    write_atomic(tmp_path / "a.txt", write)
    assert (tmp_path / "a.txt").read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == sorted(["a.txt", *others])


def test_a_link_to_nothing_makes_its_target(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("new/file")
    put(link, "text")
    assert (link.is_symlink(), (tmp_path / "new" / "file").read_text()) == (True, "text")


def test_links_that_point_at_one_another_are_refused(tmp_path):
    for here, there in ("ab", "ba"):
        (tmp_path / here).symlink_to(there)
    with pytest.raises(OSError, match="symbolic links"):
        put(tmp_path / "a", "text")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_fifo_is_written_into(tmp_path, fifo):
    for path in (fifo, tmp_path / "link"):
        if path != fifo:
            path.symlink_to(fifo)
        result = read_in_background(fifo)
        put(path, "through " * 20_000)  # more than a pipe holds
        assert result() == "through " * 20_000
    assert (stat.S_ISFIFO(fifo.stat().st_mode), (tmp_path / "link").is_symlink()) == (True, True)


def test_a_device_stays_a_device(null):
    put(null, "text")
    assert (null.is_symlink(), null.is_char_device(), Path(os.devnull).is_char_device()) == (
        True,
        True,
        True,
    )


def test_what_is_special(tmp_path, fifo, null):
    (tmp_path / "file").touch()
    plain = [tmp_path, tmp_path / "file", tmp_path / "none", tmp_path / "file" / "below"]
    assert [is_special(each) for each in (*plain, fifo, null)] == [False] * 4 + [True] * 2


# --- the command line -----------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=90, freq="D").astype(str)
    pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(90.0))}).to_csv(
        "data.csv", index=False
    )
    return tmp_path


@pytest.fixture
def model(table, run):
    assert run("fit", "data.csv", *TRAIN, "--out", "model")[0] == 0
    return "model"


def test_a_forecast_goes_where_out_points_to(table, run, model, fifo, null):
    code, expected, _ = run("forecast", "data.csv", "--from", model)
    assert (code, expected.splitlines()[0]) == (0, "unique_id,ds,mlr")
    (table / "link.csv").symlink_to("target.csv")
    result = read_in_background(fifo)
    for out in ("plain.csv", "link.csv", fifo, null):
        assert run("forecast", "data.csv", "--from", model, "--out", out) == (0, "", "")
    assert (
        result()
        == (table / "plain.csv").read_text()
        == (table / "target.csv").read_text()
        == expected
    )
    assert (table / "link.csv").is_symlink()
    assert fifo.is_fifo()
    assert null.is_char_device()
    assert run("forecast", "data.csv", "--from", model, "--out", "-") == (0, expected, "")
    assert run("forecast", "data.csv", "--from", model, "--out", "/dev/stdout") == (0, expected, "")
    assert not (table / "-").exists()


def test_a_backtest_goes_where_out_points_to(table, run, fifo):
    judge = ["backtest", "data.csv", "--horizon", 4, "--model", "naive", "--n-windows", 2]
    assert run(*judge, "--out", "b.csv")[1].split()[0] == "model"
    expected = (table / "b.csv").read_text()
    assert expected.startswith("unique_id,ds,cutoff,y,naive\n")
    assert run(*judge, "--out", "-") == (0, expected, "")  # the table of scores would be no CSV
    result = read_in_background(fifo)
    code, out, _ = run(*judge, "--out", fifo, "--json")
    assert (code, result(), json.loads(out)["model"]) == (0, expected, "naive")


TWICE = """
import sys
from tsattn import cli
judge = "backtest data.csv --horizon 4 --model naive --n-windows 1 --out".split()
sys.exit(cli.main([*judge, "-"]) or cli.main([*judge, "/dev/stdout"]))
"""


def test_standard_output_that_is_a_file_is_appended_to(table):
    (table / "log").write_text("before\n")
    variables = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    with (table / "log").open("a") as log:
        subprocess.run(
            [sys.executable, "-c", TWICE], stdout=log, env=variables, check=True, timeout=250
        )
    lines = (table / "log").read_text().splitlines()
    assert (lines[0], len(lines), lines[1:6]) == ("before", 11, lines[6:])


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (
            "forecast data.csv --horizon 4 --out - --json",
            "--out - and --json both take standard output; leave out",
        ),
        (
            "backtest data.csv --horizon 4 --out - --json",
            "--out - and --json both take standard output; leave out",
        ),
        ("fit data.csv --horizon 4 --out -", "--out - is standard output; name a folder"),
        ("demo --out -", "--out - is standard output; name a folder"),
        ("benchmark --data data.csv --out -", "--out - is standard output; name a folder"),
        ("fit data.csv --horizon 4 --out null", "null is a file; name a folder"),
        (
            "forecast data.csv --horizon 4 --out loop",
            "loop: Too many levels of symbolic links; check the path",
        ),
    ],
)
def test_other_places_are_refused_before_any_work(table, run, null, typed, message):
    (table / "loop").symlink_to("loop")
    code, out, err = run(*typed.split())
    assert (code, out) == (2, "")
    assert message in err
    assert null.is_symlink()
