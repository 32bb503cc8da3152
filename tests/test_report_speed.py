"""Do the pages of speed and scale say what their records say, and are records that do not compare refused?"""

import hashlib
import json

import pytest
from test_report import make_checkout, run, without


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


# --- speed ------------------------------------------------------------------------------------------------------


def timed(variant, ratio, *, shape=(1, 8, 4096, 64), way="auto", **changes):
    return {
        "kind": "time",
        "case": "x".join(map(str, shape)),
        "shape": list(shape),
        "variant": variant,
        "levels": None,
        "way": way,
        "causal": False,
        "mode": "step",
        "threads": 1,
        "rounds": 5,
        "gate_error": 2e-6,
        "ratio": ratio,
        "ratio_low": ratio - 0.05,
        "ratio_high": ratio + 0.05,
        "cpu_ratio": ratio,
        "ms": 100 * ratio,
        "baseline_ms": 100.0,
        "commit": "fedcba9876543210",
        "versions": {"torch": "2.6"},
        "machine": "a machine",
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


def weighed(variant, increase, length, **changes):
    sizes = {"increase_mb": increase, "baseline_mb": 40.0, "ratio": increase / 40}
    return timed(variant, 1.0, shape=(1, 8, length, 64), kind="memory") | sizes | changes


SPEED = [
    timed("mlr4", 1.25),
    timed("mlr4", 1.5, mode="forward"),
    timed("mlr4", 0.75, causal=True),
    timed("standard", 1.0),
    timed("mlr4", 2.5, shape=(896, 4, 42, 4)),
    timed("mlr4", 3.5, shape=(896, 4, 42, 4), way="masked"),
    weighed("mlr4", 60.0, 4096),
    weighed("mlr4", 110.0, 8192),
]


def write_speed(root, rows, *, plot=True):
    folder = root / "benchmarks" / "results"
    records = folder / "speed.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    if plot:
        digest = hashlib.sha256(records.read_bytes()).hexdigest()
        (folder / "speed.svg").write_text(f"<svg>records sha256 {digest}</svg>")


def test_the_speed_page_holds_ratios_ways_and_memory(checkout):
    write_speed(checkout, SPEED)
    assert run(checkout) == 0
    page = (checkout / "docs" / "speed.md").read_text()
    tables = {name.partition("\n")[0]: text for name in page.split("\n## ")[1:] for text in [name]}
    assert list(tables) == [
        "Training step",
        "Forward pass",
        "Training step, causal",
        "Ways of a training step",
        "Memory",
    ]
    assert "| (B, H, L, K) | baseline [ms] | standard | mlr4 |" in tables["Training step"]
    assert "| (1, 8, 4096, 64) | 100 | 1.00 (0.95 to 1.05) | 1.25 (1.20 to 1.30) |" in tables["Training step"]
    assert tables["Training step"].index("(896, 4, 42, 4)") < tables["Training step"].index("(1, 8, 4096, 64)")
    assert "| (1, 8, 4096, 64) | 100 | 1.50 (1.45 to 1.55) |" in tables["Forward pass"]
    assert "| (1, 8, 4096, 64) | 100 | 0.75 (0.70 to 0.80) |" in tables["Training step, causal"]
    ways = tables["Ways of a training step"]
    assert "| (896, 4, 42, 4) | mlr4 | 2.50 (2.45 to 2.55) | 3.50 (3.45 to 3.55) |" in ways
    assert "4096" not in ways, "one way alone is no comparison"
    assert "| (1, 8, 4096, 64) | 40 | 1.50 (60) |  |" in tables["Memory"]
    assert "| (1, 8, 8192, 64) | 40 | 2.75 (110) | 1.83 |" in tables["Memory"]
    assert "the baseline: torch's own" in page
    assert "Not measured: CUDA" in page
    assert "2.0e-06" in page
    assert page.endswith("Commit `fedcba987654`; torch 2.6; a machine.\n")
    assert "(../benchmarks/results/speed.svg)" in page


def test_a_typed_ratio_and_another_plot_are_caught(checkout, capsys):
    write_speed(checkout, SPEED)
    run(checkout)
    assert run(checkout, "--check") == 0
    path = checkout / "docs" / "speed.md"
    honest = path.read_text()
    path.write_text(honest.replace("1.25 (", "1.05 ("))
    assert run(checkout, "--check") == 1
    assert "speed.md differs from the records" in capsys.readouterr().err
    path.write_text(honest)
    write_speed(checkout, SPEED[::-1], plot=False)
    for options in ((), ("--check",)):
        assert run(checkout, *options) == 1
        assert "speed.svg shows other records" in capsys.readouterr().err
    (checkout / "benchmarks" / "results" / "speed.svg").unlink()
    assert run(checkout, "--check") == 1


def test_without_speed_records_the_page_says_so(checkout):
    assert run(checkout) == 0
    page = (checkout / "docs" / "speed.md").read_text()
    assert "No run is recorded yet." in page
    assert "speed.svg" not in page
    (checkout / "benchmarks" / "results" / "speed.svg").write_text("<svg/>")
    assert run(checkout, "--check") == 1, "a plot of nothing"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*SPEED, 7], "speed.jsonl, line 9: not a record of time or memory"),
        ([*SPEED, timed("mlr3", 1.0, kind="space")], "speed.jsonl, line 9: not a record of time or memory"),
        ([without(SPEED[0], "gate_error")], "speed.jsonl, line 1 lacks gate_error"),
        ([without(SPEED[0], "ratio_low")], "speed.jsonl, line 1 lacks ratio_low"),
        ([without(SPEED[6], "increase_mb")], "speed.jsonl, line 1 lacks increase_mb"),
        ([timed("mlr3", 1.0, commit=None)], "speed.jsonl, line 1 does not say where it comes from: commit is None"),
        ([*SPEED, timed("mlr3", 1.0, machine="b")], "speed.jsonl has rows of more than one machine"),
        ([*SPEED, timed("mlr3", 1.0, threads=2)], "speed.jsonl has rows of more than one threads"),
        ([*SPEED, timed("mlr3", 1.0, versions={"torch": "3"})], "speed.jsonl has rows of more than one torch"),
        ([*SPEED, timed("mlr4", 1.0)], "speed.jsonl says two things of ('time', '1x8x4096x64', 'mlr4', 'auto'"),
    ],
)
def test_speed_records_that_do_not_compare_are_refused(checkout, capsys, rows, message):
    run(checkout)
    before = (checkout / "docs" / "speed.md").read_text()
    write_speed(checkout, rows)
    assert run(checkout) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert (checkout / "docs" / "speed.md").read_text() == before


def test_a_speed_record_cut_short_is_refused(checkout, capsys):
    write_speed(checkout, SPEED)
    path = checkout / "benchmarks" / "results" / "speed.jsonl"
    path.write_text(path.read_text()[:-40])
    assert run(checkout, "--check") == 2
    assert "speed.jsonl, line 8: not a record" in capsys.readouterr().err


# --- scale ------------------------------------------------------------------------------------------------------


def spread(kind, size, ratio, **changes):
    return {
        "kind": kind,
        "size": size,
        "one_seconds": 10.0,
        "two_seconds": 10 * ratio,
        "ratio": ratio,
        "ratio_low": ratio - 0.05,
        "ratio_high": ratio + 0.05,
        "rounds": 3,
        "busy": 0.05,
        **changes,
    }


SCALE = {
    "rows": [
        *(spread("training", size, ratio) for size, ratio in (("small", 4.0), ("middle", 0.85), ("large", 0.6))),
        *(spread("grid", size, ratio) for size, ratio in (("small", 0.5), ("large", 0.95))),
        spread("forecasts", "few", 0.55, busy=0.25),
    ],
    "start_seconds": 12.4,
    "versions": {"torch": "2.6"},
    "commit": "fedcba9876543210",
    "machine": "a machine",
    "finished": "2026-01-01T00:00:00+00:00",
}


def test_the_scale_page_says_from_which_size_processes_pay(checkout, capsys):
    path, page = checkout / "benchmarks" / "results" / "scale.json", checkout / "docs" / "scale.md"
    run(checkout)
    assert "No run is recorded yet." in page.read_text()
    path.write_text(json.dumps(SCALE))
    assert run(checkout, "--check") == 1
    assert "scale.md differs from the records" in capsys.readouterr().err
    assert run(checkout) == 0
    text = page.read_text()
    assert text.startswith("# Scale\n")
    assert text.endswith("\nwhat follows\n")
    assert "| training | middle | 10.00 | 8.50 | 0.85 (0.80 to 0.90) |" in text
    assert "- training: from middle on." in text
    assert "- grid: not at large or below." in text
    assert "- forecasts: at few already." in text
    assert "took 12 s" in text
    assert "at most 25% of the processors. Commit `fedcba987654`; torch 2.6; a machine." in text
    page.write_text(text.replace("8.50", "7.50"))
    assert run(checkout, "--check") == 1
    path.write_text(json.dumps({**SCALE, "rows": [*SCALE["rows"], spread("grid", "huge", 0.5, busy=0.5)]}))
    assert run(checkout) == 0
    assert "- grid: not known, since other programs took the processors meanwhile." in page.read_text()
    assert "- training: from middle on." in page.read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "scale.json is no record of times; remove it and run benchmarks/scale.py"),
        (json.dumps({**SCALE, "rows": [without(SCALE["rows"][0], "ratio")]}), "scale.json is no record of times"),
        (json.dumps({**SCALE, "commit": None}), "scale.json does not say where it comes from: commit; run"),
    ],
)
def test_scale_records_that_say_too_little_are_refused(checkout, capsys, text, message):
    (checkout / "benchmarks" / "results" / "scale.json").write_text(text)
    assert run(checkout) == 2
    assert message in capsys.readouterr().err
