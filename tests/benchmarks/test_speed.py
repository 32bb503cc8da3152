"""Nothing is timed before its numbers are right; ratios are of turns in one process,
recorded once.
"""

import os
import sys

import numpy as np
import pytest
import torch
from checkout import ROOT
from fresh import in_fresh_process
from speed import gate, page, run

from tsattn.storage import read_rows

TINY = gate.Case(2, 2, 42, 64)
NARROW = gate.Case(3, 2, 10, 4)


@pytest.fixture
def only_tiny(monkeypatch):
    """Two cases, of a moment each."""
    monkeypatch.setattr(run, "CASES", {case.name: case for case in (TINY, NARROW)})


def measure(out, *options):
    return run.main(["--out", str(out), "--repeats", "2", *options])


def plant(monkeypatch, wrong):
    """Let ``wrong`` change what every way but the reference computes; it gets the result, q and the
    backend.
    """
    right = gate.attention

    def attention(q, k, v, *, backend, **settings):
        out = right(q, k, v, backend=backend, **settings)
        return out if backend == "reference" else wrong(out, q, backend)

    monkeypatch.setattr(gate, "attention", attention)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("variant", gate.VARIANTS)
def test_every_variant_and_way_passes(variant, causal, monkeypatch):
    ways = [c.way for c in run.candidates_of(TINY, [variant])]
    assert {"expanded", "masked", "bands"} <= set(ways) or not variant.startswith("mlr")
    for way in ways:
        assert 0 <= gate.check(TINY, gate.Candidate(variant, way, causal)) < 1e-5
    # What is too long for the whole reference passes in a small version and by its last queries.
    monkeypatch.setattr(gate, "GATE_LENGTH", 48)
    monkeypatch.setattr(gate, "GRADIENT_LENGTH", 100)
    assert gate.check(gate.Case(1, 2, 200, 64), gate.Candidate(variant, "auto", causal)) < 1e-5


class Doubled(torch.autograd.Function):
    """Its gradient is off by a thousandth."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * 1.001


FAULTS = {
    "scaled": (lambda out, q, backend: out * 1.001, "the output is off by"),
    "not a number": (lambda out, q, backend: out * float("nan"), "the output is off by nan"),
    "gradient": (lambda out, q, backend: Doubled.apply(out), "the gradient of q is off by"),
    "full length only": (
        lambda out, q, backend: out + (1e-3 if len(q) > 1 else 0),
        "from float64 at 2x2x42x64",
    ),
    "one sequence only": (
        lambda out, q, backend: out + (1e-3 if len(q) == 1 else 0),
        "from the reference at 1x2x42x64",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_numbers_get_no_time_and_no_record(fault, only_tiny, monkeypatch, tmp_path, capsys):
    change, message = FAULTS[fault]
    plant(monkeypatch, change)
    monkeypatch.setattr(run, "one_step", lambda *_: pytest.fail("something wrong was timed"))
    out = tmp_path / "speed.jsonl"
    assert measure(out, "--case", TINY.name, "--variant", "mlr4", "--quick") == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"WRONG {TINY.name} mlr4, auto: ")
    assert message in said.out
    assert "1 with wrong numbers" in said.err
    assert not out.exists()


def test_one_wrong_way_does_not_keep_the_others_from_being_timed(
    only_tiny, monkeypatch, tmp_path, capsys
):
    plant(monkeypatch, lambda out, q, backend: out + (backend == "bands"))
    out = tmp_path / "speed.jsonl"
    assert measure(out, "--case", NARROW.name, "--variant", "mlr3") == 1
    assert "WRONG 3x2x10x4 mlr3, bands: the output is off by 1.0e+00" in capsys.readouterr().out
    ways = {row["way"] for row in read_rows(out)}
    assert {"auto", "expanded", "masked", "reference"} <= ways
    assert "bands" not in ways
    monkeypatch.setattr(run, "_forced", lambda variant, case: ["bands"])
    assert measure(tmp_path / "other.jsonl", "--case", NARROW.name, "--variant", "standard") == 0
    assert "left out 3x2x10x4 standard, bands: " in capsys.readouterr().out, (
        "a way that does not serve is named"
    )


def test_records_are_whole_and_measured_once(only_tiny, tmp_path, capsys):
    out = tmp_path / "speed.jsonl"
    assert measure(out, "--case", NARROW.name, "--variant", "mlr3") == 0
    first = out.read_text()
    rows = page.read(tmp_path)
    row = next(row for row in rows if (row["way"], row["mode"]) == ("auto", "step"))
    assert (row["levels"], row["shape"], row["threads"], row["rounds"]) == (
        [2, 1, 1],
        [3, 2, 10, 4],
        1,
        2,
    )
    assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert row["ms"] > 0 < row["baseline_ms"]
    assert 0 <= row["gate_error"] < 1e-5
    capsys.readouterr()
    again = ["--case", NARROW.name, "--variant", "mlr3"]
    assert measure(out, *again) == 0
    assert (capsys.readouterr().out, out.read_text()) == ("", first)
    out.write_text(
        "".join(line for line in first.splitlines(keepends=True) if '"masked"' not in line)
    )
    assert measure(out, *again) == 0
    assert {line.partition(":")[0] for line in capsys.readouterr().out.splitlines()} == {
        "3x2x10x4 mlr3, masked"
    }
    assert measure(out, *again, "--again") == 0
    assert len(read_rows(out)) == len(rows), "measured anew, in the place of the old ones"
    assert out.read_text() != first
    out.write_text('{"kind"\n{"kind": "time"}\n')
    assert measure(out, *again) == 2
    assert "speed.jsonl, line 1 is no JSON object" in capsys.readouterr().err


def test_ratios_are_medians_of_rounds_and_not_ratios_of_medians():
    def marks(step):
        return {"forward": (step / 2, step / 2), "step": (step, step)}

    pairs = [
        (marks(base), marks(ours)) for base, ours in ((1, 1), (10, 20), (2, 8), (4, 12), (1, 5))
    ]
    forward, step = run.time_records(TINY, gate.Candidate("mlr4", "auto", False), pairs)
    assert step["ratio"] == forward["ratio"] == 3
    assert (step["ratio_low"], step["ratio_high"], step["rounds"]) == (1.8, 4.2, 5)
    assert (step["baseline_ms"], step["ms"], forward["ms"]) == (2000, 8000, 4000)


def test_baseline_and_candidates_take_turns(monkeypatch):
    turns = []
    step = run.one_step

    def watched(call, inputs):
        turns.append(call)
        return step(call, inputs)

    monkeypatch.setattr(run, "one_step", watched)
    rounds = run.time_rounds(NARROW, gate.Candidate("mlr3", "masked", True), repeats=3, budget=0.0)
    assert len(rounds) == 3
    assert turns == turns[:2] * 4, "one round to warm up, three that count"
    assert turns[0] != turns[1]
    assert all(0 < each["forward"][0] < each["step"][0] for both in rounds for each in both)


def test_the_grid_covers_what_it_promises():
    lengths = sorted({case.length for case in run.CASES.values()})
    assert (lengths[0], lengths[-1]) == (42, 16384)
    assert set(run.QUICK) <= set(run.CASES)
    for case in run.CASES.values():
        chosen = run.candidates_of(case, gate.VARIANTS)
        assert len(chosen) == len(set(chosen))
        assert {c.variant for c in chosen if c.way == "auto"} >= (
            {"mlr4", "mlr8"} if case.features == 64 else {"mlr3"}
        )
        assert any(c.causal for c in chosen) == (1024 <= case.length <= 8192)


def hungry_step():
    """What is measured of a step that keeps 64 MB more, in MB beside the plain step."""
    peak = torch.ones(2**26)  # 256 MB that the process has seen before
    del peak
    plain = run.measure_memory("mlr4", gate.Case(1, 1, 64, 64))
    step = run.one_step

    def hungry(call, inputs):
        more = torch.ones(2**24)
        return step(call, inputs), more.sum()

    run.one_step = hungry
    return run.measure_memory("mlr4", gate.Case(1, 1, 64, 64)) - plain


def test_memory_is_the_increase_of_one_step():
    """It is seen to, whatever the process held at its peak before; in a process of its own, as the
    records are.
    """
    answer = in_fresh_process(
        __file__, "print(hungry_step())", variables={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert 50 < float(answer) < 80


def test_memory_is_recorded_beside_the_baseline(only_tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "MEMORY_LENGTH", 42)
    monkeypatch.setattr(
        run, "memory_in_child", lambda variant, case: {"sdpa": 10.0, "mlr4": 15.0}[variant]
    )
    assert measure(tmp_path / "speed.jsonl", "--case", TINY.name, "--variant", "mlr4") == 0
    (row,) = [row for row in page.read(tmp_path) if row["kind"] == "memory"]
    assert (row["ratio"], row["increase_mb"], row["baseline_mb"], row["mode"]) == (
        1.5,
        15.0,
        10.0,
        "step",
    )
    text = page.memory(tmp_path)
    assert "| 2x2x42x64 | mlr4    |         10 |        15 |  1.50 |" in text
    (panel,) = page.picture(tmp_path)
    ((length, ratio, low, high),) = panel["lines"]["mlr4"]
    assert length == 42
    assert low <= ratio <= high
    assert np.isfinite(high)


def test_a_million_series_cost_what_the_page_says():
    """No row is lost after a kill half way."""
    rows = read_rows(ROOT / "benchmarks" / "results" / "million.jsonl")
    by_kind = {(row["kind"], row["series"]): row for row in rows if row["kind"] != "engine"}
    row = by_kind["killed", 1_000_000]
    assert row["killed"]
    assert (row["series_out"], row["rows_out"]) == (1_000_000, 7_000_000)
    assert by_kind["killed", 100_000]["equal"], "bit for bit what a run without a kill writes"
    assert all(row["equal"] for row in rows if row["kind"] == "engine")
    whole = by_kind["whole", 1_000_000]
    assert whole["printed"]["n_rows"] == "7000000"
    minutes = whole["seconds"] / 60
    gigabytes = whole["peak_mb"] / 1000
    sentence = (
        f"A million series of 200 rows took {minutes:.0f} minutes on one core and"
        f" {gigabytes:.1f} GB."
    )
    text = " ".join((ROOT / "docs" / "serving.md").read_text(encoding="utf-8").split())
    assert sentence in text, sentence
