"""benchmarks/peers: the pretrained forecaster beside others, and its table."""

import json
import time
from functools import partial

import pytest
from peers import page, run

from tsattn.pretrained import pretraining
from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.pretraining import Shape


def echo(x, horizon, threads):
    return lambda: time.sleep(0.02), {"batch": horizon}


@pytest.fixture
def measures(monkeypatch):
    """The script beside a forecaster of a moment, with a pretraining of a moment."""
    small = partial(ZeroConfig, d_model=24, n_heads=1, n_layers=1, d_ff=24)
    monkeypatch.setattr(run, "ZeroConfig", small)
    monkeypatch.setattr(run, "FORECASTERS", {"Echo": ("torch", 0.5, echo)})
    monkeypatch.setattr(pretraining, "SHAPES", (Shape(4, 8, 4, 1.0),))
    monkeypatch.setattr(run, "pretraining", partial(run.pretraining, steps=4))

    def call(folder, turns, *parts):
        monkeypatch.setattr(run, "RESULTS", folder)
        options = ["--context", "40", "--horizon", "6", "--series", "20", "--turns", turns]
        run.main([*(word for part in parts for word in ("--part", part)), *options])

    return call


@pytest.fixture(scope="module")
def measured():
    """The records of one run, once there is one."""
    return []


@pytest.fixture
def results(measures, measured, tmp_path):
    """A folder with the records of one run."""
    if not measured:
        measures(tmp_path, "2", "pretrained", "pretraining")
        measured.append((tmp_path / run.FILE).read_bytes())
    (tmp_path / run.FILE).write_bytes(measured[0])
    return tmp_path


def test_series_and_windows_a_second_are_recorded_and_told(results):
    ours, levels = (json.loads(line) for line in (results / run.FILE).read_text().splitlines())
    assert (ours["setting"], ours["peer_series"], ours["batch"]) == ("40 rows, 6 ahead", 10, 6)
    assert ours["model"] == "zero-5h"
    assert 0 < ours["ratio_low"] <= ours["ratio"] <= ours["ratio_high"]
    assert ours["ratio"] == pytest.approx(
        ours["series_per_second"] / ours["peer_series_per_second"], rel=0.9
    )
    assert 0.1 < levels["ratio"] < 10
    text = " ".join(page.pretrained(results).split())
    assert "| against | rows/ahead | base, A |" in text
    assert f"| Echo | 40/6 | {ours['ratio']:.3g} |" in text
    assert f"A: {ours['processor']}. torch {run.metadata.version('torch')}." in text


def test_each_processor_and_size_has_a_column_of_its_own(results, measures, monkeypatch):
    monkeypatch.setattr(run, "processor", lambda: "Another, family 1, model 2")
    measures(results, "1", "pretrained")
    rows = [json.loads(line) for line in (results / run.FILE).read_text().splitlines()]
    measured = [row for row in rows if row["kind"] == "pretrained"]
    assert [row["processor"] for row in measured] == [
        rows[0]["processor"],
        "Another, family 1, model 2",
    ]
    small = {**measured[1], "model": "zero-5h-small"}
    rows = [
        {**row, "ratio": ratio}
        for row, ratio in zip([*measured, small], (2.0, 3.0, 9.0), strict=True)
    ]
    (results / run.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = " ".join(page.pretrained(results).split())
    assert "| against | rows/ahead | small, A | small, B | base, A | base, B |" in text
    assert "| Echo | 40/6 | | 9 | 2 | 3 |" in text
    assert f"A: {rows[0]['processor']}; B: Another, family 1, model 2." in text


def test_nothing_recorded_is_said(tmp_path):
    (tmp_path / run.FILE).write_text("")
    assert page.pretrained(tmp_path) == "No run is recorded yet."


def test_spread_is_the_median_and_the_fifths_of_the_turns():
    assert run.spread([1.0, 6.0, 2.0, 3.0, 4.0, 5.0]) == {
        "ratio": 3.5,
        "ratio_low": 2.0,
        "ratio_high": 5.0,
    }
    assert run.paces([(10.0, 1.0), (30.0, 3.0), (20.0, 4.0)], "n") == {"n": 20.0, "peer_n": 3.0}
