"""Is nothing timed before its numbers are right, and do the records hold what the page needs?"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from fresh import in_fresh_process
from oracles import attend_one_head
from scripts import ROOT, load

speed, speed_page = load("speed"), load("speed_page")
TINY = speed.Case(2, 2, 42, 64)
NARROW = speed.Case(3, 2, 10, 4)


@pytest.fixture
def only_tiny(monkeypatch):
    """Two cases, of a moment each."""
    monkeypatch.setattr(speed, "CASES", {case.name: case for case in (TINY, NARROW)})


def run(out, *options):
    return speed.main(["--out", str(out), "--repeats", "2", *options])


def plant(monkeypatch, wrong):
    """Let ``wrong`` change what every way but the reference computes; it gets the result, q, k, v and the backend."""
    right = speed.attention

    def attention(q, k, v, *, backend, **settings):
        out = right(q, k, v, backend=backend, **settings)
        return out if backend == "reference" else wrong(out, q, k, v, backend)

    monkeypatch.setattr(speed, "attention", attention)


# --- the gate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("variant", speed.VARIANTS)
def test_every_variant_and_way_passes_at_small_sizes(variant, causal):
    ways = [c.way for c in speed.candidates_of(TINY, [variant])]
    assert ways[0] == "auto"
    assert {"expanded", "masked", "bands"} <= set(ways) or not variant.startswith("mlr")
    for way in ways:
        assert 0 <= speed.check(TINY, speed.Candidate(variant, way, causal)) < 1e-5


@pytest.mark.parametrize("variant", ["sliding_window", "global_local", "mlr4", "mlr8"])
def test_what_is_too_long_for_the_reference_passes_in_pieces(variant, monkeypatch):
    monkeypatch.setattr(speed, "GATE_LENGTH", 48)
    case = speed.Case(1, 2, 200, 64)
    scaled, cut = speed._small_versions(case, variant)
    assert (scaled[0], cut[0]) == (speed.Case(1, 2, 48, 64), speed.Case(1, 1, 48, 64))
    if variant == "mlr8":
        assert cut[1][0].block_sizes == (48, 48, 48, 32, 16, 8, 4, 2), "fine blocks keep their sizes"
    for causal in (False, True):
        assert speed.check(case, speed.Candidate(variant, "auto", causal)) < 1e-5


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("variant", speed.VARIANTS)
def test_row_formulas_agree_with_loops(variant, causal):
    """The gate's own truth against the oracle of the kernels, which shares no code with it."""
    case = speed.Case(1, 2, 17, 64)
    parts = speed.parts_of(variant, case)
    rows = torch.tensor([0, 5, 16])
    q, k, v, grad = (x[0, 0].detach().double() for x in speed.make_inputs(case, sum(p.width for p in parts)))
    found = speed.row_truth(parts, q, k, v, rows=rows, grad=grad[rows], causal=causal)
    sparse = torch.zeros_like(grad)
    sparse[rows] = grad[rows]
    sums, start = [0.0, [], [], 0.0], 0
    for part in parts:
        features = slice(start, start + part.width)
        start += part.width
        ranks = part.ranks or (part.width,)
        finest = -(-17 // 2 ** (len(ranks) - 1))
        levels = {"ranks": ranks, "block_sizes": [finest * 2**n for n in range(len(ranks))][::-1]}
        levels |= {"level_scales": [1.0] * len(ranks), "mean_levels": False, "scale": part.width**-0.5}
        out, dq, dk, dv = attend_one_head(
            *(x.tolist() for x in (q[:, features], k[:, features], v, sparse)),
            offset=0, seen_keys=[True] * 17, pattern={"causal": causal, "window": part.window}, levels=levels,
        )  # fmt: skip
        sums[0] += np.array(out)[rows]
        sums[1].append(dq)
        sums[2].append(dk)
        sums[3] += np.array(dv)
    wanted = (sums[0], np.concatenate(sums[1], 1), np.concatenate(sums[2], 1), sums[3])
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-9, atol=1e-11)


def only_gradient(wrong_gradient):
    class Planted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return wrong_gradient(grad)

    return Planted.apply


FAULTS = {
    "scaled": (lambda out, q, k, v, backend: out * 1.001, "the output is off by"),
    "not a number": (lambda out, q, k, v, backend: out * float("nan"), "the output is off by nan"),
    "gradient": (
        lambda out, q, k, v, backend: only_gradient(lambda grad: grad * 1.001)(out), "the gradient of q is off by"
    ),
    "full length only": (lambda out, q, k, v, backend: out + (1e-3 if len(q) > 1 else 0), "from float64 at 2x2x42x64"),
    "one sequence only": (
        lambda out, q, k, v, backend: out + (1e-3 if len(q) == 1 else 0), "from the reference at 1x2x42x64"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_numbers_get_no_time_and_no_record(fault, only_tiny, monkeypatch, tmp_path, capsys):
    change, message = FAULTS[fault]
    plant(monkeypatch, change)
    monkeypatch.setattr(speed, "one_step", lambda *_: pytest.fail("something wrong was timed"))
    out = tmp_path / "speed.jsonl"
    assert run(out, "--case", TINY.name, "--variant", "mlr4", "--quick") == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"WRONG {TINY.name} mlr4, auto: ")
    assert message in said.out
    assert said.out.count("\n") == 1
    assert "1 with wrong numbers" in said.err
    assert not out.exists()


def test_one_wrong_way_does_not_keep_the_others_from_being_timed(only_tiny, monkeypatch, tmp_path, capsys):
    plant(monkeypatch, lambda out, q, k, v, backend: out + (backend == "bands"))
    out = tmp_path / "speed.jsonl"
    assert run(out, "--case", TINY.name, "--variant", "mlr3") == 1
    assert "WRONG 2x2x42x64 mlr3, bands: the output is off by 1.0e+00" in capsys.readouterr().out
    ways = {row["way"] for row in speed.read_records(out)}
    assert {"auto", "expanded", "masked", "reference"} <= ways
    assert "bands" not in ways


def test_a_way_that_does_not_serve_is_left_out_by_name(only_tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(speed, "_forced", lambda variant, case: ["bands"])
    assert run(tmp_path / "speed.jsonl", "--case", TINY.name, "--variant", "standard") == 0
    assert "left out 2x2x42x64 standard, bands: " in capsys.readouterr().out
    assert {row["way"] for row in speed.read_records(tmp_path / "speed.jsonl")} == {"auto"}


# --- records ----------------------------------------------------------------------------------------------------


def test_records_are_whole_and_measured_once(only_tiny, monkeypatch, tmp_path, capsys):
    out = tmp_path / "speed.jsonl"
    assert run(out, "--case", NARROW.name, "--variant", "mlr3", "--variant", "bilinear_btt") == 0
    first = out.read_bytes()
    rows = speed_page.read_rows(out)
    assert {(row["variant"], row["way"]) for row in rows} >= {("mlr3", "auto"), ("mlr3", "bands")}
    row = next(row for row in rows if (row["variant"], row["way"], row["mode"]) == ("mlr3", "auto", "step"))
    assert (row["levels"], row["shape"], row["threads"], row["rounds"]) == ([2, 1, 1], [3, 2, 10, 4], 1, 2)
    assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
    assert row["ms"] > 0 < row["baseline_ms"]
    assert 0 <= row["gate_error"] < 1e-5
    capsys.readouterr()

    again = ["--case", NARROW.name, "--variant", "mlr3"]
    assert run(out, *again) == 0
    assert (capsys.readouterr().out, out.read_bytes()) == ("", first)
    out.write_bytes(b"".join(line for line in first.splitlines(keepends=True) if b'"masked"' not in line))
    assert run(out, *again) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["3x2x10x4 mlr3, masked"]
    assert run(out, *again, "--again") == 0
    assert len(speed.read_records(out)) == len(rows), "measured anew, in the place of the old ones"
    assert out.read_bytes() != first
    assert list(tmp_path.iterdir()) == [out], "nothing stays beside the records"


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_threads_are_set_for_the_run_alone(error, monkeypatch, tmp_path):
    seen = []

    def run_case(case, options):
        seen.append(torch.get_num_threads())
        if error is not None:
            raise error
        return 0

    monkeypatch.setattr(speed, "run_case", run_case)
    before = torch.get_num_threads()
    if error is None:
        assert run(tmp_path / "speed.jsonl", "--quick", "--threads", str(before + 1)) == 0
    else:
        with pytest.raises(error):
            run(tmp_path / "speed.jsonl", "--quick", "--threads", str(before + 1))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_ratios_are_medians_of_rounds_and_not_ratios_of_medians():
    def marks(step):
        return speed.Marks(step / 2, step, step / 2, step)

    pairs = [(marks(base), marks(ours)) for base, ours in ((1, 1), (10, 20), (2, 8), (4, 12), (1, 5))]
    forward, step = speed.time_records(TINY, speed.Candidate("mlr4", "auto", False), pairs)
    assert step["ratio"] == forward["ratio"] == 3
    assert (step["ratio_low"], step["ratio_high"], step["rounds"]) == (1.8, 4.2, 5)
    assert (step["baseline_ms"], step["ms"], forward["ms"]) == (2000, 8000, 4000)


def test_baseline_and_candidates_take_turns(monkeypatch):
    turns = []
    step = speed.one_step

    def watched(call, inputs):
        turns.append(call)
        return step(call, inputs)

    monkeypatch.setattr(speed, "one_step", watched)
    candidates = [speed.Candidate("mlr3", way, False) for way in ("expanded", "masked")]
    pairs = speed.time_rounds(NARROW, candidates, repeats=3, budget=0.0)
    assert [len(rounds) for rounds in pairs] == [3, 3]
    assert len(set(turns)) == 3
    assert turns == turns[:3] * 4, "one round to warm up, three that count"
    assert all(base == other for (base, _), (other, _) in zip(*pairs, strict=True)), "one baseline a round"


def test_a_damaged_file_is_refused_and_kept(only_tiny, tmp_path, capsys):
    out = tmp_path / "speed.jsonl"
    out.write_text('{"kind": "time"')
    assert run(out, "--case", NARROW.name) == 2
    assert "speed.jsonl, line 1 is no whole record" in capsys.readouterr().err
    assert out.read_text() == '{"kind": "time"'


def test_the_grid_covers_what_it_promises():
    lengths = sorted({case.length for case in speed.CASES.values()})
    assert (lengths[0], lengths[-1]) == (42, 16384)
    assert {"896x4x42x4", "896x16x42x8", "224x8x42x64", "1x8x4096x64", "1x8x8192x64", "1x8x16384x64"} <= set(
        speed.CASES
    )
    assert set(speed.QUICK) <= set(speed.CASES)
    for case in speed.CASES.values():
        chosen = speed.candidates_of(case, speed.VARIANTS)
        assert len(chosen) == len(set(chosen))
        assert {c.variant for c in chosen if c.way == "auto"} >= ({"mlr4", "mlr8"} if case.features == 64 else {"mlr3"})
        assert any(c.causal for c in chosen) == (1024 <= case.length <= 8192)


# --- memory -----------------------------------------------------------------------------------------------------


def hungry_step():
    """What is measured of a step that keeps 64 MB more, in MB beside the plain step."""
    peak = torch.ones(2**26)  # 256 MB that the process has seen before
    del peak
    plain = speed.measure_memory("mlr4", speed.Case(1, 1, 64, 64))
    step = speed.one_step

    def hungry(call, inputs):
        more = torch.ones(2**24)
        return step(call, inputs), more.sum()

    speed.one_step = hungry
    return speed.measure_memory("mlr4", speed.Case(1, 1, 64, 64)) - plain


def test_memory_is_the_increase_of_one_step():
    """It is seen to, whatever the process held at its peak before; in a process of its own, as the records are."""
    more = float(in_fresh_process(__file__, "print(hungry_step())"))
    assert 50 < more < 80


def test_a_fresh_process_says_its_increase():
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), "--measure-memory", "sdpa", "--case"]
    done = subprocess.run([*command, "1x8x2048x64"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # The result and the gradients of q, k and v alone are 4 MB each.
    assert 16 <= json.loads(done.stdout)["increase_mb"] < 60


def test_memory_is_recorded_beside_the_baseline(only_tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(speed, "MEMORY_LENGTH", 42)
    monkeypatch.setattr(speed, "memory_in_child", lambda variant, case: {"sdpa": 10.0, "mlr4": 15.0}[variant])
    out = tmp_path / "speed.jsonl"
    assert run(out, "--case", TINY.name, "--variant", "mlr4") == 0
    (row,) = [row for row in speed_page.read_rows(out) if row["kind"] == "memory"]
    assert (row["ratio"], row["increase_mb"], row["baseline_mb"], row["mode"]) == (1.5, 15.0, 10.0, "step")
    assert (row["way"], row["levels"]) == ("auto", [32, 16, 8, 8])


# --- the plot ---------------------------------------------------------------------------------------------------


def test_the_plot_is_the_same_for_the_same_records_and_names_them(only_tiny, tmp_path):
    out = tmp_path / "speed.jsonl"
    assert run(out, "--case", TINY.name, "--variant", "mlr4", "--plot") == 0
    plot = out.with_suffix(".svg")
    first = plot.read_text()
    assert ">mlr4<" in first
    assert len(first) < 100_000
    assert not speed_page.plot_is_outdated(tmp_path)
    speed.draw(out, plot)
    assert plot.read_text() == first
    row = json.loads(out.read_text().splitlines()[0])
    speed.add_records(out, [row | {"ratio": row["ratio"] + 1}])
    assert speed_page.plot_is_outdated(tmp_path)
