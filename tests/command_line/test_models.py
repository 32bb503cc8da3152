"""Every model of the catalogue by the shell: fitted, saved and forecast; one of each class is also
forecast without a saved model, and judged.
"""

import json

import numpy as np
import pandas as pd
import pytest

from tsattn import cli
from tsattn.catalogue import MODELS

ROWS = 60
H = 2
# The first model of each class.
FIRSTS = {entry.home: name for name, entry in reversed(MODELS.items())}
POINTS_ONLY = ("naive", "seasonal_naive", "drift", "window_average", "ridge", "gbm")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A command in a folder with one table of two daily series: its rows as JSON."""
    monkeypatch.chdir(tmp_path)
    days = pd.date_range("2024-01-01", periods=ROWS, freq="D").astype(str)
    y = 5 + np.sin(np.arange(2 * ROWS)) + np.random.default_rng(0).normal(size=2 * ROWS).round(3)
    table = pd.DataFrame(
        {"unique_id": np.repeat(["a", "b"], ROWS), "ds": [*days, *days], "y": np.abs(y)}
    )
    table.to_csv("long.csv", index=False)

    def call(command, *options):
        code = cli.main([command, "long.csv", *map(str, options), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return [json.loads(line) for line in out.splitlines()]

    return call


@pytest.mark.parametrize("name", MODELS)
def test_each_model_is_fitted_saved_forecast_and_judged(name, run):
    asked = ["--model", name, "--horizon", H]
    takes = MODELS[name].settings()
    asked += ["--context", 16] if MODELS[name].trained and "context" in takes else []
    asked += ["--max-epochs", 1] if "max_epochs" in takes else []
    asked += ["--seed", 1] if "random_state" in takes else []
    # A season of seven days would be searched in each of the four commands.
    asked += ["--season-length", 1] if name == "auto_arima" else []
    level = [] if name in POINTS_ONLY else ["--level", 80]
    facts = run("fit", *asked, "--out", "model")[0]
    assert (facts["model"], facts["horizon"], facts["series"], facts["frequency"]) == (
        name,
        H,
        2,
        "D",
    )
    kept = run("forecast", "--from", "model", "--threads", 1, *level)
    assert [(row["unique_id"], row["ds"][:10]) for row in kept] == [
        (series, day) for series in "ab" for day in ("2024-03-01", "2024-03-02")
    ]
    assert all(isinstance(row[name], float) for row in kept)
    assert len(kept[0]) == 3 + len(level)
    # What auto chose is judged in other tests of commands; its fits take seconds.
    if name not in FIRSTS.values() or name == "auto":
        return
    assert run("forecast", *asked, *level) == kept
    judged = run("backtest", *asked, "--n-windows", 2)[0]
    assert judged["model"] == name
    assert judged["mae"] > 0


def test_context_and_season_reach_the_models_that_have_them(run):
    short = run("forecast", "--model", "theta", "--horizon", H, "--context", 10)
    assert short != run("forecast", "--model", "theta", "--horizon", H)
    seasonal = run("forecast", "--model", "seasonal_naive", "--horizon", H, "--season-length", 5)
    y = pd.read_csv("long.csv")["y"]
    assert [row["seasonal_naive"] for row in seasonal][:H] == y[ROWS - 5 : ROWS - 5 + H].tolist()


@pytest.mark.parametrize(
    "option", ["--context", "--max-epochs", "--max-time", "--season-length", "--freq"]
)
def test_a_fitted_model_takes_no_settings(option, run, capsys):
    run("fit", "--model", "naive", "--horizon", H, "--out", "model")
    assert cli.main(["forecast", "long.csv", "--from", "model", option, "5"]) == 2
    assert capsys.readouterr().err == (
        f"tsattn: --from takes a fitted model, to which {option} means nothing: leave it out\n"
    )
