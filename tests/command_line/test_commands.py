"""The contract of the command line: results, one line for every mistake, nothing left behind."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT
from tables import long_table, wide_of

import tsattn.__main__ as entry_point
from tsattn import cli, demo
from tsattn.catalogue import MODELS
from tsattn.data.frames import to_panel
from tsattn.forecasters.naive import Naive
from tsattn.training import loop

ROWS = 90
HORIZON = 4
SMALL = ["--context", "16", "--max-epochs", "1"]
COMMANDS = ["", "demo", "fit", "forecast", "backtest", "benchmark", "models", "datasets"] + [
    f"datasets {name}" for name in ("list", "show", "fetch", "verify")
]


def long_frame(rows=ROWS):
    """Two daily series, as text would hold them."""
    noise = np.random.default_rng(0).normal(size=2 * rows).round(3)
    values = 5 + np.sin(np.arange(2 * rows)) + noise
    frame = long_table(values.reshape(2, rows), "ab")
    return frame.assign(ds=frame["ds"].astype(str))


def wide_frame(rows=ROWS):
    return wide_of(long_frame(rows)).reset_index(names="date")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with one good long and one good wide table."""
    monkeypatch.chdir(tmp_path)
    long_frame().to_csv("long.csv", index=False)
    wide_frame().to_csv("wide.csv", index=False)
    return tmp_path


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


# --- mistakes -------------------------------------------------------------------------------------


def changed(column, row, value):
    frame = long_frame().astype({column: object})
    frame.loc[row, column] = value
    return frame


def without_value():
    frame = long_frame()
    frame.loc[40, "y"] = np.nan
    return frame


def mixed_frequencies():
    frame = long_frame()
    hours = pd.date_range("2024-01-01", periods=ROWS, freq="h").astype(str)
    frame.loc[frame["unique_id"] == "b", "ds"] = hours
    return frame


BAD_TABLES = {
    "duplicates": (lambda: pd.concat([long_frame(), long_frame().iloc[[7]]]), "'a'.*2024-01-08"),
    "gap": (lambda: long_frame().drop(index=30), "'a'.*2024-01-31"),
    "mixed frequencies": (mixed_frequencies, "frequenc"),
    "infinity": (lambda: changed("y", 95, np.inf), "'b'.*inf"),
    "text among numbers": (lambda: changed("y", 3, "n/a?"), "n/a\\?"),
    "missing value": (without_value, "'a'.*2024-02-10.*(interpolate|ffill)"),
    "no stamp": (lambda: changed("ds", 3, "someday"), "someday"),
    "empty stamp": (lambda: changed("ds", 3, None), "ds"),
    "wide gap": (lambda: wide_frame().drop(index=30), "2024-01-31"),
    "wide duplicate": (lambda: pd.concat([wide_frame(), wide_frame().iloc[[7]]]), "2024-01-08"),
    "wide text": (lambda: wide_frame().assign(b="x", c=1.0), "'b'.*'x'"),
    "no rows": (lambda: long_frame().iloc[:0], "row"),
    "too short": (lambda: long_frame(3), "rows"),
    "missing column": (lambda: long_frame().rename(columns={"y": "load"}).assign(price=1.0), "y"),
}

# Each would write into the working folder if it went well.
WRITERS = {
    "fit": ["fit", "bad.csv", "--horizon", HORIZON, *SMALL, "--out", "model"],
    "forecast": [
        "forecast",
        "bad.csv",
        "--horizon",
        HORIZON,
        "--model",
        "mlr",
        *SMALL,
        "--out",
        "new/f.csv",
        "--plot",
        "new/f.png",
    ],
    "backtest": [
        "backtest",
        "bad.csv",
        "--horizon",
        HORIZON,
        "--model",
        "naive",
        "--out",
        "new/b.csv",
    ],
    "benchmark": [
        *("benchmark", "--data", "bad.csv", "--split", "0.6,0.2,0.2", "--horizon", HORIZON),
        *("--model", "naive", "--out", "runs", "--json"),
    ],
}


def check_refusal(result, pattern):
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.startswith("tsattn: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err
    assert re.search(pattern, err), err
    # Advice is for the command line: options, no parameters and no calls.
    assert not re.search(r"\b[a-z_]+=|\w\(|\bpd\.|schema", re.sub(r"'[^']*'", "", err)), err


def test_a_fit_ends_at_its_time_limit(folder, run):
    long_frame().to_csv("long.csv", index=False)
    limited = [
        "fit",
        "long.csv",
        "--horizon",
        HORIZON,
        "--context",
        "16",
        "--max-epochs",
        "100000",
        "--max-time",
    ]
    began = time.monotonic()
    code, _, err = run(*limited, "2s", "--out", "model")
    assert code == 0, err
    assert time.monotonic() - began < 60
    code, _, err = run(*limited, "soon", "--out", "model")
    assert code == 2
    assert "--max-time must be seconds or a text such as '90s', '10m' or '2h'; got 'soon'" in err


def test_more_than_memory_holds_is_one_line(folder, run):
    expected = "memory is too small: Unable to allocate .*; ask for fewer steps, or give fewer rows"
    check_refusal(run("forecast", "long.csv", "--horizon", 10**16, "--model", "naive"), expected)


def test_more_than_torch_may_allocate_is_one_line(folder, run, monkeypatch):
    monkeypatch.setattr(Naive, "_points", lambda forecaster, x: torch.empty(2**50))
    expected = "memory is too small: you tried to allocate .*; ask for fewer steps"
    check_refusal(run("forecast", "long.csv", "--horizon", 3, "--model", "naive"), expected)


def test_other_runtime_errors_are_not_taken_for_lack_of_memory(folder, run, monkeypatch):
    monkeypatch.setattr(Naive, "_points", lambda forecaster, x: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        run("forecast", "long.csv", "--horizon", 3, "--model", "naive")


@pytest.mark.parametrize("command", ["backtest", "benchmark"])
def test_a_series_too_short_to_be_judged_is_one_line(folder, run, command):
    long_frame().iloc[: ROWS + 2].to_csv("bad.csv", index=False)
    answer = run(*WRITERS[command], "--bad", "error")
    check_refusal(answer, "'b'.*rows|rows.*'b'|'b' has 2 rows")
    if command == "backtest":
        code, _, err = run(*WRITERS[command])
        assert code == 0
        assert err.count("left out: series 'b' has too few rows") == 1


@pytest.mark.parametrize("command", ["fit", "forecast"])
def test_a_series_too_short_for_the_network_is_a_warning(folder, run, command):
    long_frame().iloc[: ROWS + 8].to_csv("bad.csv", index=False)
    code, _, err = run(*WRITERS[command])
    assert code == 0
    assert "tsattn: warning" not in err
    long_frame().iloc[: ROWS + 2].to_csv("bad.csv", index=False)
    code, _, err = run(*WRITERS[command])
    assert code == 0
    assert (
        err.count(
            "tsattn: warning: 1 of 2 series have fewer than 8 rows of history, too few for mlr"
        )
        == 1
    )


# All but a benchmark read a table by the same lines: each fault once by these, in turn.
READERS = ["fit", "forecast", "backtest"]


@pytest.mark.parametrize(
    ("fault", "command"),
    [
        *((fault, READERS[i % len(READERS)]) for i, fault in enumerate(BAD_TABLES)),
        *((fault, "benchmark") for fault in BAD_TABLES),
    ],
)
def test_a_bad_table_is_one_line_and_leaves_nothing(folder, run, fault, command):
    make, pattern = BAD_TABLES[fault]
    make().to_csv("bad.csv", index=False)
    before = files(folder)
    # A suite refuses missing values by itself.
    policy = [] if command == "benchmark" else ["--missing", "error"]
    check_refusal(run(*WRITERS[command], *policy), pattern)
    assert files(folder) == before


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"a,b\n1,2\n3,4,5\n", b"\xff\xfe\x00\x81", b"\x00\x00"]
)
def test_files_that_are_no_tables_are_refused(folder, run, content):
    Path("bad.csv").write_bytes(content)
    before = files(folder)
    check_refusal(run(*WRITERS["backtest"]), "bad.csv|column|row|stamp|time")
    assert files(folder) == before


BAD_USAGE = {
    "": "no command given; see `tsattn --help`",
    "frobnicate": "No such command 'frobnicate'; see `tsattn --help`",
    "datasets": "Missing command; see `tsattn datasets --help`",
    "fit": "Missing argument 'DATA.csv'; see `tsattn fit --help`",
    "fit long.csv --out m": "Missing option '--horizon'",
    "fit long.csv --horizon 4": "Missing option '--out'",
    "fit long.csv --horizon 4 --out m --colour red": "No such option: --colour",
    "fit long.csv --horizon four --out m": "'--horizon': .* got 'four'; see `tsattn fit --help`",
    "fit long.csv --horizon=4.5 --out m": (
        "'--horizon': a horizon is a number of rows, such as 24, got '4.5'"
    ),
    "forecast long.csv --horizon 3D": (
        "a number of rows, such as 24; 3D are 3 rows of daily data or 72 rows of hourly data, got"
    ),
    "benchmark --dataset ETTh1 --horizon 36h": "such as 24; 36h are 36 rows of hourly data, got",
    "fit long.csv --horizon 0 --out m": "horizon must be .*at least 1; got 0",
    "fit nowhere.csv --horizon 4 --out m": "there is no file nowhere.csv; check the path",
    "fit . --horizon 4 --out m": r"^tsattn: \.: Is a directory; check the path",
    "fit long.csv --horizon 4 --out long.csv": "long.csv is a file; name a folder",
    "fit long.csv --horizon 4 --out long.csv/m": (
        "long.csv is a file, so nothing can be written below it"
    ),
    "fit long.csv --horizon 4 --out m --model naive --context 3": (
        "--context means nothing to naive; leave it out"
    ),
    "fit long.csv --horizon 4 --out m --model fourier": (
        "'fourier' is unknown; use one such as zero, auto, "
    ),
    "fit long.csv --horizon 4 --out m --context 3": "context.*16|patch_len",
    "fit long.csv --horizon 4 --out m --max-epochs 0": "--max-epochs must be .*at least 1; got 0",
    "fit long.csv --horizon 400 --out m": "rows",
    "fit long.csv --horizon 4 --out m --missing drop": "missing.*'drop'",
    "fit long.csv --horizon 4 --out m --freq nonsense": "freq.*'nonsense'",
    "fit long.csv --horizon 4 --out m --id-col shop": "'shop'",
    "fit long.csv --horizon 4 --out m --target-col sales": "'sales'",
    "forecast long.csv": "--horizon is missing; say how many rows",
    "forecast long.csv --horizon 4 --level 120": "level.*120",
    "forecast long.csv --horizon 4 --level x": "'--level': .* such as 80,95, got 'x'",
    "forecast long.csv --horizon 4 --level 80,120": "level.*120",
    "forecast long.csv --horizon 4 --from m --model mlr": "give one of the two",
    "forecast long.csv --horizon 4 --context 16": "--context means nothing to zero; .* --model mlr",
    "forecast long.csv --horizon 4 --model theta --fine-tune": "nothing to theta; .* --model zero",
    "forecast long.csv --horizon 4 --season-length 7": "nothing to zero; .* --model seasonal_naive",
    "forecast long.csv --horizon": "requires an argument; see `tsattn forecast --help`",
    "backtest long.csv --horizon 4 --model naive --max-time 5s": "nothing to naive; .* --model auto",
    "forecast long.csv --horizon 4 --model naive --past-col x": "--past-col means nothing to naive",
    "forecast long.csv --horizon 4 --model arima": "'arima' is unknown; did you mean sarimax or auto_arima",
    "forecast long.csv --horizon 4 --model naive --level 80": "naive gives points only, no level or"
    " quantiles; leave them out, or take another model",
    "forecast long.csv --horizon 2000": "horizon must be at most 1024 steps",
    "forecast long.csv --from nowhere": "nowhere.*is missing",
    "forecast long.csv --horizon 4 --plot f.xyz": "f.xyz names no picture format",
    "forecast long.csv --horizon 4 --out .": r"\. is a folder; name a file",
    # A writer needs a longer name aside.
    f"forecast long.csv --horizon 4 --model naive --out f.csv --report {'p' * 245}.html": (
        "cannot be written to: .*; choose another path than p"
    ),
    "forecast long.csv --horizon 4 --model naive --out f.csv --report f.csv/p.html": (
        "f.csv is a file to write, so f.csv/p.html cannot lie below it"
    ),
    "fit long.csv --horizon 400 --out .": "exists and is no saved model; choose another folder",
    "backtest long.csv --horizon 4 --model prophet": (
        r"'prophet' is unknown; .*; `tsattn models` lists all \d+$"
    ),
    "forecast long.csv --horizon 4 --level 0.8": "80 means 80%.*got 0.8: write --level 80",
    "backtest long.csv --horizon 4 --model naive --n-windows 999": "ask for less: --n-windows 86 fits$",
    "backtest long.csv --horizon 4 --model naive --n-windows 0": "--n-windows must be .* got 0",
    "backtest long.csv --horizon 4 --model naive --step 0": "--step must be .* got 0",
    "backtest long.csv --horizon 4 --model naive --refit 0": (
        "--refit must be a whole number of windows of at least 1; got 0"
    ),
    "backtest long.csv --horizon 4 --model naive --n-windows 99": "rows",
    "backtest long.csv --horizon 4 --model seasonal_naive --season-length 0": (
        "--season-length must be .* got 0"
    ),
    "benchmark": "nothing to judge on; name a data set",
    "benchmark none.toml --dataset ETTh1": "none.toml: No such file or directory; check the path",
    "benchmark --dataset wide.csv": (
        "no data set is called 'wide.csv'; known are electricity, etth1.*; a table of your own is"
        " given by --data FILE.csv and --split 0.7,0.1,0.2"
    ),
    "benchmark wide.csv --horizon 4": (
        "wide.csv is no TOML file .*or give a table to judge on by --data FILE.csv and --split 0"
    ),
    "benchmark --dataset ETTh1 --data-dir nowhere": "'nowhere' is no folder; name the one with ETTh1.csv",
    "benchmark --data wide.csv --horizon 4": "a table and its split go together",
    "benchmark --data wide.csv --split 0.7,0.1,0.2": "has no card that lists horizons",
    "benchmark --data wide.csv --split 0.7,0.1 --horizon 4": (
        "three shares that sum to 1.*'0.7,0.1'"
    ),
    "benchmark --data wide.csv --split 0.6,0.2,0.2 --horizon 4 --model mlr --out r": (
        "54 training rows; mlr needs 340"
    ),
    "benchmark --data wide.csv --split 0.6,0.2,0.2 --horizon 4 --model naive --out wide.csv": (
        "name a folder"
    ),
    "datasets show nosuch": "no data set is called 'nosuch'; known are",
    "datasets verify ETTh1 --data-dir .": "neither ETTh1.csv nor ETTh1.csv.gz is in",
    "demo --out long.csv": "long.csv is a file; name a folder",
}


@pytest.mark.parametrize("argv", BAD_USAGE)
def test_bad_usage_is_one_line_and_leaves_nothing(folder, run, argv, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    before = files(folder)
    check_refusal(run(*argv.split()), BAD_USAGE[argv])
    assert files(folder) == before


def test_all_models_are_listed(run):
    assert run("models") == (0, "".join(f"{name}\n" for name in MODELS), "")
    code, out, _ = run("models", "--json")
    assert code == 0
    assert [row["model"] for row in lines(out)] == [*MODELS]


def test_one_option_names_several_levels(folder, run):
    asked = ("forecast", "long.csv", "--horizon", 2)
    repeated = run(*asked, "--level", 80, "--level", 95)
    assert repeated[0] == 0
    assert run(*asked, "--level", "80,95") == repeated
    assert run(*asked, "--level", "80%, 95%") == repeated


@pytest.mark.parametrize("policy", ["ffill", "interpolate"])
def test_series_with_nothing_known_before_a_gap_are_refused(folder, run, policy):
    frame = long_frame()
    frame.loc[0, "y"] = np.nan
    frame.to_csv("bad.csv", index=False)
    check_refusal(run(*WRITERS["backtest"], "--missing", policy), "'a'.*2024-01-01")


def test_a_backtest_of_the_usual_models_reads_a_table_with_gaps(folder, run):
    frame = wide_frame()
    frame.loc[[10, 11, len(frame) - 1], "a"] = np.nan
    frame.to_csv("gaps.csv", index=False)
    code, out, err = run("backtest", "gaps.csv", "--horizon", 2, "--json")
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    scores = {row["model"]: row for row in rows}
    assert list(scores) == ["zero", "naive", "seasonal_naive"]
    assert all(np.isfinite(row["mae"]) for row in scores.values())


def test_control_characters_of_a_table_do_not_reach_the_terminal(folder, run):
    changed("y", 3, "\x1b[31mred\nsecond line").to_csv("bad.csv", index=False)
    code, out, err = run(*WRITERS["backtest"])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "\x1b" not in err


def test_a_real_process_says_the_same(folder):
    make, pattern = BAD_TABLES["text among numbers"]
    make().to_csv("bad.csv", index=False)
    before = files(folder)
    argv = [str(writer) for writer in WRITERS["backtest"]]
    said = subprocess.run(
        [sys.executable, "-m", "tsattn", *argv], capture_output=True, text=True, timeout=120
    )
    check_refusal((said.returncode, said.stdout, said.stderr), pattern)
    assert files(folder) == before


def test_interrupts_end_with_130_and_defects_are_not_hidden(run, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsattn.data.cards.list_cards", stop)
    assert run("datasets", "list") == (130, "", "")

    with monkeypatch.context() as early:
        early.setattr("typer.main.get_command", stop)
        assert run("datasets", "list") == (130, "", "")

    def leave(*_):
        """As Lightning does in the middle of a fit."""
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    monkeypatch.setattr("tsattn.data.cards.list_cards", leave)
    assert run("datasets", "list") == (130, "", "")

    def defect(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr("tsattn.data.cards.list_cards", defect)
    with pytest.raises(RuntimeError, match="a defect"):
        cli.main(["datasets", "list"])


# An interrupt in the middle of an import, and in one that Python replaces by a RuntimeError.
INTERRUPTED_TYPER = """
import os
import signal


class Name:
    def __set_name__(self, *_):
        os.kill(os.getpid(), signal.SIGINT)


class Holder:
    name = Name()


print("typer is imported")
raise SystemExit(3)
"""
STARTS = {
    "module": ["-m", "tsattn"],
    "command": ["-c", "import sys; from {module} import {name}; sys.exit({name}())"],
}


@pytest.mark.parametrize("start", STARTS)
def test_an_interrupt_of_the_start_ends_with_130(start, tmp_path):
    (tmp_path / "typer.py").write_text(INTERRUPTED_TYPER)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    module, _, name = pyproject["project"]["scripts"]["tsattn"].partition(":")
    argv = [part.format(module=module, name=name) for part in STARTS[start]]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def run_start(handler):
        """The program under a handler that its shell has set: in the background it ignores."""
        done = subprocess.run(
            [sys.executable, *argv, "--help"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
        )
        return done.returncode, done.stdout, done.stderr

    assert run_start(signal.SIG_DFL) == (130, "", "")
    assert run_start(signal.SIG_IGN) == (3, "typer is imported\n", "")


def test_after_the_start_an_interrupt_lets_a_command_clean_up(monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "main", lambda: signal.getsignal(signal.SIGINT))
    assert entry_point.main() is handler


@pytest.mark.parametrize("options", [(), ("--json", "--out", "f.csv"), ("--out", "-")])
@pytest.mark.parametrize("command", ["forecast", "backtest"])
def test_a_result_for_a_closed_standard_output_is_not_lost(
    command, options, folder, run, monkeypatch
):
    monkeypatch.setattr("sys.stdout", None)
    argv = [command, "long.csv", "--model", "naive", "--horizon", 2]
    code, _, err = run(*argv, *options)
    assert code == 2
    assert re.fullmatch("tsattn: standard output is closed.* name a file by --out.*\n", err)
    assert run(*argv, "--out", "f.csv") == (0, "", "")


def test_a_standard_output_that_cannot_hold_a_name_is_told(folder, run, monkeypatch):
    long_frame().replace({"unique_id": {"b": "Łódź"}}).to_csv("city.csv", index=False)
    argv = ["forecast", "city.csv", "--model", "naive", "--horizon", 2]
    packed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(packed, encoding="cp1252"))
    code, _, err = run(*argv)
    assert code == 2
    assert re.fullmatch(
        r"tsattn: standard output is \S+, which cannot hold '\\u0141'; name a file by --out, .*\n",
        err,
    )
    assert not packed.getvalue()
    assert run(*argv, "--out", "f.csv") == (0, "", "")


def test_a_reader_that_leaves_is_no_error():
    code = "import sys; from tsattn.cli import main; sys.exit(main(['models']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=120) == 141


# --- what goes well -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run, command):
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: tsattn {command}".rstrip())


def test_help_and_version_answer_without_loading_anything_heavy(run):
    code = (
        "import sys; from tsattn.cli import main; main(['benchmark', '--help']);"
        " print(sorted({'torch', 'numpy', 'pandas', 'matplotlib', 'lightning', 'statsmodels'} &"
        " set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert said.stdout.splitlines()[-1] == "[]"
    assert run("--version")[1].count(".") == 2


def test_a_model_is_fitted_saved_and_used_again(folder, run):
    code, out, err = run(
        "fit", "long.csv", "--horizon", HORIZON, *SMALL, "--out", "deep/model", "--json"
    )
    assert (code, err) == (0, "")
    (summary,) = lines(out)
    assert (summary["context"], summary["horizon"], summary["out"]) == (16, HORIZON, "deep/model")
    assert files(folder / "deep" / "model") == ["config.json", "model.safetensors"]
    kept = run("forecast", "long.csv", "--from", "deep/model", "--level", 80)
    fresh = run(
        "forecast", "long.csv", "--horizon", HORIZON, "--model", "mlr", *SMALL, "--level", "80"
    )
    assert kept == fresh, "one seed, one model"
    frame = pd.read_csv(folder / "long.csv")
    answer = pd.DataFrame([line.split(",") for line in kept[1].splitlines()])
    assert list(answer.iloc[0]) == ["unique_id", "ds", "mlr", "mlr-lo-80", "mlr-hi-80"]
    assert len(answer) == 1 + 2 * HORIZON
    assert list(answer[1][1 : HORIZON + 1]) == [f"2024-03-{day:02d}" for day in range(31, 32)] + [
        f"2024-04-{day:02d}" for day in range(1, HORIZON)
    ], frame["ds"].max()
    shorter = run("forecast", "long.csv", "--from", "deep/model", "--horizon", 2)[1]
    assert len(shorter.splitlines()) == 1 + 2 * 2
    check_refusal(
        run("forecast", "long.csv", "--from", "deep/model", "--horizon", 9),
        "horizon = 9 is longer than",
    )
    again = run("fit", "long.csv", "--horizon", HORIZON, *SMALL, "--out", "deep/model")
    assert (again[0], again[2]) == (0, "")
    assert "parameters" in again[1]


def test_a_forecast_goes_to_files_in_the_dialect_that_came(folder, run):
    argv = [
        "forecast",
        "wide.csv",
        "--horizon",
        HORIZON,
        *SMALL,
        "--model",
        "standard",
        "--level",
        "50",
    ]
    assert run(*argv, "--level", "80", "--out", "new/f.csv", "--plot", "new/f.png") == (0, "", "")
    frame = pd.read_csv("new/f.csv")
    assert list(frame.columns[:6]) == ["date", "a", "a-lo-50", "a-hi-50", "a-lo-80", "a-hi-80"]
    assert (frame["a-lo-80"] <= frame["a-lo-50"]).all()
    assert (frame["a-hi-50"] <= frame["a-hi-80"]).all()
    assert Path("new/f.png").read_bytes().startswith(b"\x89PNG")
    assert files(folder / "new") == ["f.csv", "f.png"]
    code, out, _ = run(*argv, "--json")
    assert code == 0
    rows = lines(out)
    assert rows[0]["date"] == "2024-03-31T00:00:00"
    assert [row["b"] for row in rows] == pytest.approx(frame["b"].tolist())


def test_a_picture_that_fails_loses_no_forecast(folder, run, monkeypatch):
    def fail(*_):
        raise ValueError("no such font; install it")

    monkeypatch.setattr("tsattn.plotting.save_plot", fail)
    argv = ["forecast", "long.csv", "--horizon", HORIZON, "--model", "naive", "--plot", "f.png"]
    assert run(*argv, "--out", "f.csv") == (2, "", "tsattn: no such font; install it\n")
    assert len(pd.read_csv("f.csv")) == 2 * HORIZON
    assert run(*argv)[1] == Path("f.csv").read_text()


def test_other_column_names_and_gaps_by_policy(folder, run):
    frame = (
        long_frame().rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"}).drop(index=30)
    )
    frame.to_csv("shops.csv", index=False)
    names = [
        "--id-col",
        "shop",
        "--time-col",
        "day",
        "--target-col",
        "sales",
        "--missing",
        "ffill",
        "--freq",
        "D",
    ]
    argv = ["backtest", "shops.csv", "--horizon", HORIZON, "--model", "naive", *names]
    code, out, err = run(*argv, "--n-windows", 3, "--out", "b.csv", "--json")
    assert (code, err, len(lines(out))) == (0, "", 1)
    assert list(pd.read_csv("b.csv").columns) == ["shop", "day", "cutoff", "sales", "naive"]


@pytest.mark.parametrize("model", ["mlr", "nlinear", "zero"])
def test_a_saved_model_remembers_how_its_table_is_read(folder, run, model):
    frame = (
        long_frame()
        .rename(columns={"unique_id": "shop", "ds": "day", "y": "sales"})
        .assign(temp=7.0)
    )
    frame.drop(index=30).to_csv("shops.csv", index=False)
    names = ["--id-col", "shop", "--time-col", "day", "--target-col", "sales", "--missing", "ffill"]
    small = [] if model == "zero" else SMALL
    fit = ["fit", "shops.csv", "--horizon", HORIZON, "--model", model, *small, "--out", "model"]
    assert run(*fit, *names)[0] == 0
    code, out, err = run("forecast", "shops.csv", "--from", "model")
    assert (code, err, out.splitlines()[0]) == (0, "", f"shop,day,{model}")
    assert (
        out
        == run("forecast", "shops.csv", "--horizon", HORIZON, "--model", model, *small, *names)[1]
    )
    # What is named counts before what is remembered.
    frame.drop(index=30).rename(columns={"day": "date"}).to_csv("dates.csv", index=False)
    check_refusal(run("forecast", "dates.csv", "--from", "model"), "'day' is missing")
    code, named, _ = run("forecast", "dates.csv", "--from", "model", "--time-col", "date")
    assert (code, named.splitlines()[1:]) == (0, out.splitlines()[1:])
    check_refusal(
        run("forecast", "shops.csv", "--from", "model", "--missing", "error"), "2024-01-31"
    )


def test_integer_stamps_take_an_integer_frequency(folder, run):
    frame = long_frame().assign(ds=[*range(0, 2 * ROWS, 2)] * 2)
    frame.to_csv("counted.csv", index=False)
    code, out, err = run(
        "backtest", "counted.csv", "--horizon", 3, "--model", "naive", "--freq", 2, "--json"
    )
    assert (code, err) == (0, "")
    assert lines(out)[0]["n_windows"] == 10


def test_a_backtest_prints_scores_and_writes_what_they_come_from(folder, run):
    argv = [
        "backtest",
        "long.csv",
        "--horizon",
        HORIZON,
        "--model",
        "seasonal_naive",
        "--model",
        "naive",
    ]
    code, out, err = run(
        *argv, "--n-windows", 5, "--step", 3, "--out", "new/backtest.csv", "--json"
    )
    assert (code, err) == (0, "")
    seasonal, naive = lines(out)
    assert (seasonal["model"], naive["model"], naive["n_windows"], naive["step"]) == (
        "seasonal_naive",
        "naive",
        5,
        3,
    )
    frame = pd.read_csv("new/backtest.csv")
    assert list(frame.columns) == ["unique_id", "ds", "cutoff", "y", "seasonal_naive", "naive"]
    assert len(frame) == 2 * 5 * HORIZON
    assert naive["mae_original"] == pytest.approx((frame["y"] - frame["naive"]).abs().mean())
    known = long_frame().set_index(["unique_id", "ds"])["y"]
    last = [known[key] for key in zip(frame["unique_id"], frame["cutoff"], strict=True)]
    assert frame["naive"].tolist() == pytest.approx(last)
    table = run(*argv, "--n-windows", 5, "--step", 3)[1]
    assert table.split()[0] == "model"
    assert f"{naive['mae']:.4f}" in table


def test_a_backtest_of_trained_models_takes_the_shared_settings(folder, run):
    argv = [
        "backtest",
        "long.csv",
        "--horizon",
        HORIZON,
        "--model",
        "nlinear",
        "--model",
        "naive",
        *SMALL,
    ]
    first, second = (run(*argv, "--json", "--n-windows", 2) for _ in "ab")
    assert first == second
    assert first[0] == 0
    assert [row["model"] for row in lines(first[1])] == ["nlinear", "naive"]


def test_a_benchmark_prints_every_row_run_or_found(folder, run):
    argv = ["benchmark", "--data", "wide.csv", "--split", "0.6,0.2,0.2", "--horizon", HORIZON]
    models = ["--model", "naive", "--model", "seasonal_naive"]
    code, out, err = run(*argv, *models, "--out", "runs", "--json")
    assert (code, err) == (0, "")
    rows = lines(out)
    assert [(row["model"], row["n_windows"]) for row in rows] == [
        ("naive", 15),
        ("seasonal_naive", 15),
    ]
    assert len(lines((folder / "runs" / "records.jsonl").read_text())) == 2
    assert run(*argv, *models, "--out", "runs", "--json")[1] == out, (
        "found, so not a second changed"
    )
    assert run(*argv, *models, "--json")[0] == 0
    table = run(*argv, *models, "--out", "runs")[1]
    assert f"{rows[0]['mse']:.4f}" in table
    Path("suite.toml").write_text('models = ["drift"]\nhorizons = [2, 3]\n')
    code, out, err = run("benchmark", "suite.toml", *argv[1:5], "--json")
    assert [(row["model"], row["horizon"]) for row in lines(out)] == [("drift", 2), ("drift", 3)]


def test_the_promised_benchmark_line(run, data_dir):
    argv = ["benchmark", "--dataset", "ETTh1", "--data-dir", data_dir, "--horizon", "96"]
    code, out, err = run(*argv, "--model", "naive", "--model", "seasonal_naive", "--json")
    assert (code, err) == (0, "")
    naive, seasonal = lines(out)
    assert [round(naive[name], 4) for name in ("mse", "mae", "n_windows")] == [1.2944, 0.7132, 2785]
    assert [round(seasonal[name], 4) for name in ("mse", "mae", "n_windows")] == [
        0.5122,
        0.4333,
        2785,
    ]


def test_progress_is_for_terminals_only(folder, run, monkeypatch):
    argv = [
        "benchmark",
        "--data",
        "wide.csv",
        "--split",
        "0.6,0.2,0.2",
        "--horizon",
        "4",
        "--model",
        "naive",
    ]
    assert run(*argv)[2] == ""
    monkeypatch.setattr(cli.sys.stderr, "isatty", lambda: True, raising=False)
    said = []
    monkeypatch.setattr(cli.typer, "echo", lambda text, err=False: said.append((text, err)))
    cli.main(argv)
    assert ("[1/1] running: wide horizon 4 naive seed 0, 0 s gone", True) in said
    said.clear()
    cli.main([*argv, "--quiet"])
    assert [err for _, err in said] == [False]


def test_warnings_are_one_line_unless_quiet(folder, run):
    frame = long_frame().assign(y=1.0)
    frame.to_csv("flat.csv", index=False)
    argv = ["backtest", "flat.csv", "--horizon", HORIZON, "--model", "naive", "--json"]
    code, out, err = run(*argv)
    assert code == 0
    assert lines(out)[0]["mase"] is None
    assert err.startswith("tsattn: warning: ")
    assert err.count("\n") == 1
    assert run(*argv, "--quiet") == (0, out, "")


def test_data_sets_are_listed_shown_and_verified(run, data_dir):
    names = [row["name"] for row in lines(run("datasets", "list", "--json")[1])]
    assert names == ["electricity", "etth1", "etth2", "ettm1", "ettm2", "weather"]
    assert [line.split()[0] for line in run("datasets", "list")[1].splitlines()] == names
    (card,) = lines(run("datasets", "show", "ETTh1", "--json")[1])
    assert (card["rows"], card["split"]["train"]) == (17420, 8640)
    assert "CC-BY-ND-4.0" in run("datasets", "show", "etth1")[1]
    for command in ("verify", "fetch"):
        code, out, err = run("datasets", command, "ETTm1", "--data-dir", data_dir)
        assert (code, err) == (0, "")
        assert out.startswith("ettm1: 69680 rows, checked by sha256, ")
    (report,) = lines(run("datasets", "verify", "weather", "--data-dir", data_dir, "--json")[1])
    assert report["channels"] == 21


# --- the demo -------------------------------------------------------------------------------------


def test_the_demo_writes_its_three_files(folder, run, monkeypatch):
    whole = demo.load_co2()
    monkeypatch.setattr(demo, "load_co2", lambda: whole.last(800))
    monkeypatch.setattr(demo, "_TRAINING", {**demo._TRAINING, "max_epochs": 1})
    code, out, err = run("demo", "--out", "here")
    assert (code, err) == (0, "")
    assert "Mauna Loa" in out
    assert files(folder / "here") == ["backtest.csv", "forecast.csv", "forecast.png"]
    judged = pd.read_csv("here/backtest.csv", parse_dates=["ds", "cutoff"])
    assert list(judged.columns) == ["unique_id", "ds", "cutoff", "y", *demo._MODELS]
    assert judged["cutoff"].nunique() >= 10
    forecast = pd.read_csv("here/forecast.csv", parse_dates=["ds"])
    bounds = [f"auto-{side}-{level}" for level in (80, 95) for side in ("lo", "hi")]
    assert list(forecast.columns) == ["unique_id", "ds", "auto", *bounds]
    assert (forecast["ds"].iloc[0] - judged["ds"].max()).days == 7
    assert Path("here/forecast.png").read_bytes().startswith(b"\x89PNG")


def test_the_demos_data_have_the_gaps_that_they_are_known_for():
    panel = demo.load_co2()
    assert (len(panel.values), panel.freq, panel.missing) == (2284, "W-SAT", "interpolate")
    assert int(np.isnan(panel.values).sum()) == 59


@pytest.mark.slow
def test_the_demo_keeps_its_word(folder, run):
    code, out, _ = run("demo", "--json")
    assert code == 0
    scores = {row["model"]: row["mae_original"] for row in lines(out)}
    assert scores["mlr"] <= min(scores["naive"], scores["seasonal_naive"]) / 2
    assert scores["auto"] <= 1.2 * min(scores[name] for name in demo._MODELS if name != "auto")


def test_tables_read_the_same_from_file_and_from_memory(folder):
    from tsattn.benchmark import read_table

    assert read_table("long.csv").fingerprint() == to_panel(long_frame()).fingerprint()
    assert os.listdir(folder) == os.listdir(".")


@pytest.mark.parametrize(("asked", "used"), [([], 1), (["--threads", "3"], 3)])
def test_training_takes_the_threads_asked_for_and_gives_them_back(
    folder, run, monkeypatch, asked, used
):
    seen = []
    train = loop.train

    def watch(*args, **kwargs):
        seen.append(torch.get_num_threads())
        return train(*args, **kwargs)

    monkeypatch.setattr(loop, "train", watch)
    torch.set_num_threads(2)
    commands = [
        ["fit", "long.csv", "--out", "m"],
        ["forecast", "long.csv", "--model", "mlr"],
        ["backtest", "long.csv", "--model", "mlr"],
    ]
    for command in commands:
        assert run(*command, "--horizon", HORIZON, *SMALL, *asked)[0] == 0
        assert torch.get_num_threads() == 2
    assert seen == [used] * 3
    assert run("fit", "long.csv", "--horizon", HORIZON, "--out", "n", "--threads", "0")[0] == 2


# --- backtests, and what auto chose ---------------------------------------------------------------


def test_a_backtest_judges_the_default_model_and_two_rules(folder, run):
    code, out, err = run("backtest", "long.csv", "--horizon", HORIZON, "--n-windows", "2", "--json")
    assert (code, err) == (0, "")
    assert [row["model"] for row in lines(out)] == ["zero", "naive", "seasonal_naive"]


def test_a_backtest_takes_levels_and_refits(folder, run, monkeypatch):
    fits = []
    fit = Naive._fit

    def counted(self, panel, context):
        fits.append(panel.lengths.tolist())
        return fit(self, panel, context)

    monkeypatch.setattr(Naive, "_fit", counted)
    judged = ["backtest", "long.csv", "--horizon", HORIZON, "--model", "naive", "--n-windows", "4"]
    assert run(*judged, "--refit", "2")[::2] == (0, "")
    assert fits == [[ROWS - HORIZON - 3] * 2, [ROWS - HORIZON - 1] * 2]
    check_refusal(run(*judged, "--refit", "-1"), "refit")
    check_refusal(run(*judged, "--level", "0.8"), "80 means 80%")
    # Without --model, those are judged that give intervals.
    levels = ["--level", "80", "--level", "50"]
    assert run(*judged[:4], *levels, "--n-windows", "1", "--out", "b.csv")[::2] == (0, "")
    columns = pd.read_csv("b.csv").columns.tolist()
    assert {"zero-lo-80", "zero-hi-80", "zero-lo-50", "zero-hi-50"} < set(columns)


def test_stamps_of_a_backtest_are_written_as_they_came(folder, run):
    months = pd.period_range("1955-01", "1960-12", freq="M").astype(str)
    pd.DataFrame({"month": months, "y": range(72)}).to_csv("t.csv", index=False)
    argv = ["t.csv", "--horizon", "2", "--model", "naive"]
    assert run("backtest", *argv, "--n-windows", "1", "--out", "b.csv")[0] == 0
    assert Path("b.csv").read_text().splitlines()[1].startswith("y,1960-11,1960-10,70")
    assert run("forecast", *argv, "--out", "f.csv") == (0, "", "")
    assert Path("f.csv").read_text() == "month,y\n1961-01,71.0\n1961-02,71.0\n"
    assert run("forecast", *argv, "--out", "f.parquet") == (0, "", "")
    assert pd.read_parquet("f.parquet")["month"].dtype.kind == "M"


def test_a_terminal_is_told_what_auto_chose(folder, run, monkeypatch):
    monkeypatch.setattr(cli.console, "progress", lambda quiet: None if quiet else told.append)
    told = []
    argv = ["forecast", "long.csv", "--horizon", HORIZON, "--model", "auto", "--max-time", "5s"]
    code, _, _ = run(*argv)
    assert code == 0
    members = r"\d+% \w+( \+ \d+% \w+)*"
    assert re.match(rf"auto: {members}, judged on \d+ windows of the past", told[-1]), told
    told.clear()
    assert run(*argv, "--quiet")[0] == 0
    assert told == []


def test_no_help_is_cut(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "..." not in out.replace("[ARGS]...", "")
