"""What stands on a terminal while a command or a fit runs, and that nothing stands
anywhere else.
"""

import errno
import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT

from tsattn import AttentionForecaster, Training, backtest, benchmark, terminal
from tsattn.forecasters.naive import Naive
from tsattn.suite import Suite
from tsattn.terminal import ProgressLine, progress_line

COLUMNS = 100
TRAIN = "--horizon 4 --max-epochs 3 --context 24"
# What is typed; all of it in one process, for most of a command's time is the start of Python.
TYPED = {
    "forecast": f"forecast data.csv {TRAIN} --model mlr",
    "untrained": "forecast data.csv --horizon 4",
    "combined": "forecast short.csv --horizon 4 --model auto --max-time 20s",
    "fit": f"fit data.csv {TRAIN} --out model",
    "backtest": (
        f"backtest data.csv {TRAIN} --model mlr --model nlinear --model naive --n-windows 2"
    ),
    "benchmark": f"benchmark --data data.csv --split 0.6,0.2,0.2 {TRAIN} --model mlr",
    "demo": "demo --out demo",
    "quiet": f"fit data.csv {TRAIN} --out quiet --json --quiet",
    "saved": "forecast data.csv --from model",
}
SESSION = """
import json, os, sys, termios, traceback
import pandas as pd
from tsattn import AttentionForecaster, Training, cli, demo

def python(verbose):
    df = pd.read_csv("data.csv", parse_dates=["ds"])
    AttentionForecaster(4, context=24, training=Training(max_epochs=3), random_state=0).fit(df, verbose=verbose)

def tell(name, call, *args):
    try:
        code = call(*args)
    except Exception:
        traceback.print_exc()
        code = "no exit code"
    sys.stderr.flush()
    print(f"<<{name} {code}>>", flush=True)

# The demo itself, with fewer epochs, cutoffs and weeks.
whole = demo.load_co2
demo.load_co2 = lambda: whole().last(500)
demo._TRAINING |= {"max_epochs": 3, "batch_size": 128}
demo._N_CUTOFFS = 2
for name, typed in json.loads(sys.argv[1]).items():
    tell(name, cli.main, typed.split())
tell("loud", python, True)
tell("still", python, False)
termios.tcsetwinsize(2, (24, 50))
tell("narrow", python, True)
"""
# What stands on the line of a training: bar, epoch of how many, loss, and the times gone and left
# or how it ended.
TIMES = r", ((?P<gone>\d+) s gone(, (?P<left>\d+) s left)?|(?P<ending>done|stopped.*) after \d+ s)"
LINE = re.compile(
    r"(?P<title>\S+) \[(?P<bar>[#.]+)\] epoch (?P<epoch>\d+) of (?P<of>\d+), loss"
    r" (?P<loss>\d+\.\d{4})"
    r"(, validation (?P<valid>\d+\.\d{4}))?" + TIMES
)
# And of a backtest or a combination.
JUDGED = re.compile(
    r"(?P<who>\S+) \[(?P<bar>[#.]+)\]"
    r" (?P<what>(fitting|judging) \S+|judging|[\d,]+ (models?|windows))" + TIMES
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with one daily table that is learnt in a second, and its last rows."""
    folder = tmp_path_factory.mktemp("terminal")
    days = pd.date_range("2024-01-01", periods=150, freq="D")
    y = np.sin(np.arange(150)) + np.random.default_rng(0).normal(size=150) / 10
    table = pd.DataFrame({"unique_id": "a", "ds": days, "y": y.round(4)})
    table.to_csv(folder / "data.csv", index=False)
    table.tail(70).to_csv(folder / "short.csv", index=False)
    return folder


def read_all(descriptor):
    """Everything that comes from the other end until nobody writes any more."""
    parts = []
    while True:
        try:
            part = os.read(descriptor, 65536)
        except OSError as error:  # Linux's way to say that a terminal has been left
            if error.errno != errno.EIO:
                raise
            part = b""
        if not part:
            return b"".join(parts).decode()
        parts.append(part)


@pytest.fixture(scope="module")
def seen(folder):
    """What stood on the terminal after each of ``TYPED`` and ``SESSION``, by name: exit code, and
    every byte.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, COLUMNS))
    text = []
    reader = threading.Thread(target=lambda: text.append(read_all(ours)))
    reader.start()
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", SESSION, json.dumps(TYPED)],
            cwd=folder,
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "PYTHONSAFEPATH": "1",
                "OMP_NUM_THREADS": "1",
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
    finally:
        os.close(theirs)
    code = process.wait(timeout=280)
    reader.join(timeout=30)
    os.close(ours)
    assert code == 0, text
    parts = re.split(r"<<(\w+) (.*)>>\r\n", text[0])
    assert parts[-1] == ""
    return {name: (code, shown) for shown, name, code in zip(*[iter(parts)] * 3, strict=False)}


def trainings(text):
    """The drawings of each training line, in order, and what stands on the other lines."""
    drawings_of_fits = []
    other_lines = []
    for line in text.split("\n"):
        parts = [part.rstrip() for part in line.split("\r") if part.strip()]
        # The line of a backtest stands where the one of a training is drawn.
        drawings = [LINE.fullmatch(part) for part in parts if JUDGED.fullmatch(part) is None]
        if any(drawings):
            assert all(drawings), f"something else stands on the line of a training: {line!r}"
            drawings_of_fits.append(drawings)
        elif drawings or not parts:
            other_lines.append(line.strip("\r"))
    return drawings_of_fits, other_lines


def judging(text, who="backtest"):
    """What is told of a backtest or a combination, in order."""
    parts = re.split(r"[\r\n]+", text)
    matches = [JUDGED.fullmatch(part.rstrip()) for part in parts]
    return [match for match in matches if match is not None and match["who"] == who]


def check_training(drawings, title, n_epochs=3):
    """One training, as it was shown: it goes forward, tells its time left, and is ended."""
    assert {drawing["title"] for drawing in drawings} == {title}
    assert {drawing["of"] for drawing in drawings} == {str(n_epochs)}
    epochs = [int(drawing["epoch"]) for drawing in drawings]
    assert (epochs, epochs[0]) == (sorted(epochs), 1)
    bars = [drawing["bar"].count("#") / len(drawing["bar"]) for drawing in drawings]
    assert bars == sorted(bars)
    assert sum(drawing["left"] is not None for drawing in drawings) >= 2
    gone = [int(drawing["gone"]) for drawing in drawings[:-1]]
    assert gone == sorted(gone)
    assert all(0 < float(drawing["loss"]) < 1e3 for drawing in drawings)
    assert (drawings[-1]["ending"], epochs[-1], bars[-1]) == ("done", n_epochs, 1.0)
    assert drawings[-1]["valid"] is not None
    assert max(len(drawing[0]) for drawing in drawings) < COLUMNS


@pytest.mark.parametrize("name", [*TYPED, "loud", "still", "narrow"])
def test_no_traceback(seen, name):
    code, text = seen[name]
    assert code == ("0" if name in TYPED else "None")
    assert "Traceback" not in text
    assert "Error" not in text


def test_forecast(seen):
    (drawings,), others = trainings(seen["forecast"][1])
    check_training(drawings, "mlr")
    # The forecast begins on a line of its own, and the last line is ended.
    assert (others[0], len(others)) == ("unique_id,ds,mlr", 1 + 4 + 1)


def test_forecast_without_training(seen):
    drawings_of_fits, others = trainings(seen["untrained"][1])
    assert (drawings_of_fits, others[0], len(others)) == ([], "unique_id,ds,zero", 1 + 4 + 1)


def test_forecast_by_the_combination(seen):
    drawings_of_fits, others = trainings(seen["combined"][1])
    assert others.pop(0).startswith("auto: ")
    assert (drawings_of_fits, others[0], len(others)) == ([], "unique_id,ds,auto", 1 + 4 + 1)
    told = judging(seen["combined"][1], "auto")
    assert [each["what"] for each in told][:3] == [
        "judging zero",
        "judging naive",
        "judging seasonal_naive",
    ]
    bars = [each["bar"].count("#") / len(each["bar"]) for each in told]
    assert (bars, bars[0]) == (sorted(bars), 0.0)
    assert all(each["left"] is not None for each in told[1:])


def test_fit(seen):
    (drawings,), others = trainings(seen["fit"][1])
    check_training(drawings, "mlr")
    assert others[0].split() == ["model", "mlr"]


def test_backtest(seen):
    (first, second), others = trainings(seen["backtest"][1])
    check_training(first, "mlr")
    check_training(second, "nlinear")
    assert [line.split()[0] for line in others if line][1:] == ["mlr", "nlinear", "naive"]
    told = judging(seen["backtest"][1])
    assert [each["what"] for each in told if each["what"].startswith("fitting")] == [
        "fitting mlr",
        "fitting nlinear",
        "fitting naive",
    ]
    bars = [each["bar"].count("#") / len(each["bar"]) for each in told]
    assert (bars, bars[0], bars[-1]) == (sorted(bars), 0.0, 1.0)
    assert (told[0]["gone"], told[0]["left"]) == ("0", None)
    assert any(each["left"] is not None for each in told)
    assert (told[-1]["what"], told[-1]["ending"]) == ("3 models", "done")


def test_benchmark(seen):
    (drawings,), others = trainings(seen["benchmark"][1])
    check_training(drawings, "mlr")
    assert others[0] == "[1/1] running: data horizon 4 mlr seed 0, 0 s gone"
    assert others[2].split()[:4] == ["data", "4", "mlr", "0"]
    told = judging(seen["benchmark"][1], "mlr")
    assert (told[0]["what"], told[-1]["what"], told[-1]["ending"]) == (
        "judging",
        "27 windows",
        "done",
    )


def test_demo(seen):
    drawings_of_fits, others = trainings(seen["demo"][1])
    (drawings,) = drawings_of_fits
    check_training(drawings, "mlr")
    assert others[0].startswith("judging auto, zero, mlr")
    assert "demo: forecast.csv, backtest.csv, forecast.png" in others[-2]


def test_quiet_says_nothing(seen):
    text = seen["quiet"][1]
    assert (text[0], text.count("\n")) == ("{", 1)


def test_a_fitted_model_is_not_trained(seen):
    drawings_of_fits, others = trainings(seen["saved"][1])
    assert (drawings_of_fits, others[0]) == ([], "unique_id,ds,mlr")


def test_python_shows_what_is_asked_for(seen):
    (drawings,), others = trainings(seen["loud"][1])
    check_training(drawings, "mlr")
    assert others == [""]
    assert seen["still"][1] == ""


def test_a_narrow_terminal_gets_a_shorter_line(seen):
    drawings = [part.strip() for part in seen["narrow"][1].split("\r") if part.strip()]
    assert (
        max(len(part.rstrip()) for part in drawings) == 49
    )  # one longer would go on in the next row, and could not be written over
    assert {drawing.split("]")[0] for drawing in drawings[-3:]} <= {"mlr [", "mlr [#"}
    assert "epoch 3 of 3, loss " in drawings[-1]


def test_nothing_is_shown_where_stderr_is_no_terminal(folder, capfd):
    df = pd.read_csv(folder / "data.csv", parse_dates=["ds"])
    AttentionForecaster(4, context=24, training=Training(max_epochs=2), random_state=0).fit(
        df, verbose=True
    )
    assert capfd.readouterr() == ("", "")


# --- the line by itself ---------------------------------------------------------------------------


class Screen(io.StringIO):
    """A terminal without a descriptor."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def line_on(screen, n_steps=40, seconds=None):
    return ProgressLine(screen, "mlr", n_epochs=4, n_steps=n_steps, seconds=seconds)


def last(screen):
    return screen.getvalue().split("\r")[-1].rstrip(" ")


def test_time_left_is_that_of_the_steps_to_come_at_the_pace_so_far(clock):
    screen = Screen()
    line = line_on(screen)
    clock[0] += 7  # the first step starts the libraries, and says nothing about the others
    line.draw(1, 1, 0.5, None)
    assert last(screen) == "mlr [................] epoch 1 of 4, loss 0.5000, 7 s gone"
    clock[0] += 9
    line.draw(1, 10, 0.25, 0.125)
    assert (
        last(screen)
        == "mlr [#.....] epoch 1 of 4, loss 0.2500, validation 0.1250, 16 s gone, 30 s left"
    )
    clock[0] += 100
    line.draw(2, 20, 0.25, 0.125)
    assert last(screen).endswith(", 2 min gone, 2 min left")  # 109 s for 19 steps, 20 to come
    line.finish("done")
    assert (
        last(screen)
        .rstrip()
        .endswith("epoch 2 of 4, loss 0.2500, validation 0.1250, done after 2 min")
    )


def test_a_resumed_training_counts_its_own_steps_only(clock):
    screen = Screen()
    line = line_on(screen)
    line.draw(3, 21, 0.5, None)
    clock[0] += 9
    line.draw(3, 30, 0.5, None)
    assert last(screen).endswith(", 10 s left")


def test_a_time_limit_bounds_the_time_left(clock):
    screen = Screen()
    line = line_on(screen, seconds=12)
    line.draw(1, 1, 0.5, None)
    clock[0] += 9
    line.draw(1, 10, 0.5, None)
    assert last(screen).endswith(", 3 s left")
    clock[0] += 9
    line.draw(1, 11, 0.5, None)
    assert last(screen).endswith(", 0 s left")


def test_a_shorter_line_covers_the_one_before(clock):
    screen = Screen()
    line = line_on(screen)
    line.draw(1, 1, 0.5, 0.25)
    line.draw(1, 1, 0.5, None)
    first, second = screen.getvalue().split("\r")[1:]
    assert len(second) >= len(first.rstrip())


def test_steps_of_a_millisecond_are_not_all_drawn(clock):
    line = line_on(Screen())
    assert line.due
    line.draw(1, 1, 0.5, None)
    assert not line.due
    clock[0] += 0.2
    assert line.due


def test_a_line_is_ended_whatever_ends_the_training(monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)

    def interrupted():
        with progress_line("mlr", n_epochs=4, n_steps=40) as line:
            line.draw(1, 1, 0.5, None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen.getvalue().endswith("\n")
    written = screen.getvalue()
    with progress_line(None, n_epochs=4, n_steps=40) as untitled:
        assert not untitled.due
        untitled.draw(1, 1, 0.5, None)
    assert screen.getvalue() == written
    with pytest.raises(ValueError, match="later"), progress_line("mlr", n_epochs=4, n_steps=40):
        raise ValueError("later")
    assert screen.getvalue().count("\n") == 1  # no line was begun


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_what_is_no_terminal_gets_no_line(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_line("mlr", n_epochs=4, n_steps=40) as line:
        assert not line.due
        line.draw(1, 1, 0.5, None)
        line.finish("done")
    assert stream is None or not stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (0.2, "1 s"), (99.5, "100 s"), (101, "2 min"), (6001, "2 h")],
)
def test_seconds_in_words(seconds, words):
    assert terminal.in_words(seconds) == words


def test_a_line_covers_whatever_stood_there(clock):
    """The line of a training is drawn where that of a backtest stands, and the other way round."""
    screen = Screen()
    line_on(screen).draw(1, 1, 0.5, None)
    assert len(screen.getvalue().split("\r")[1]) == 79


def test_a_backtest_tells_the_time_of_the_windows_to_come(clock, monkeypatch):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)

    class Slow(Naive):
        def _fit(self, panel, context):
            clock[0] += 10
            return super()._fit(panel, context)

        def _points(self, x):
            clock[0] += 5
            return super()._points(x)

    frame = pd.DataFrame(
        {"a": np.arange(40.0)}, index=pd.date_range("2024-01-01", periods=40, freq="D")
    )
    models = {"one": Slow(2), "two": Slow(2)}
    backtest(models, frame, n_windows=4, refit=2, verbose=True)
    told = [
        (each["what"], each["gone"], each["left"], each["ending"])
        for each in judging(screen.getvalue())
    ]
    assert told == [
        ("fitting one", "0", None, None),
        ("judging one", "15", "45", None),
        ("fitting one", "15", "45", None),
        ("judging one", "30", "30", None),
        ("fitting two", "30", "30", None),
        ("judging two", "45", "15", None),
        ("fitting two", "45", "15", None),
        ("judging two", "60", "0", None),
        ("2 models", "60", "0", None),
        ("2 models", None, None, "done"),
    ]
    assert screen.getvalue().endswith("\n")
    before = screen.getvalue()
    backtest(models, frame, n_windows=4)
    assert screen.getvalue() == before


def test_a_benchmark_tells_the_time_of_the_runs_to_come(tmp_path, clock, monkeypatch):
    frame = pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=60, freq="D"), "y": np.arange(60.0)}
    )
    frame.to_csv(tmp_path / "data.csv", index=False)
    suite = Suite(
        table=tmp_path / "data.csv", split="0.6,0.2,0.2", models=("naive", "drift"), horizons=(2, 3)
    )
    whole = benchmark._Run.execute

    def slow(run):
        clock[0] += 30
        return whole(run)

    monkeypatch.setattr(benchmark._Run, "execute", slow)
    said = []
    records = benchmark.run_suite(suite, out=tmp_path / "runs", progress=said.append)
    told = [line.split(" seed 0, ") for line in said]
    assert [times for _, times in told] == [
        "0 s gone",
        "30 s gone",
        "60 s gone, 60 s left",
        "90 s gone, 30 s left",
    ]
    assert benchmark.run_suite(suite, out=tmp_path / "runs", progress=said.append) == records
    assert said[4:] == [f"{line.replace('running', 'found')} seed 0, 0 s gone" for line, _ in told]
