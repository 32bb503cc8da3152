"""Columns beside the target on the command line: named, read, and refused where they cannot be
read.
"""

import io
import json

import numpy as np
import pandas as pd
import pytest

from tsattn import AttentionForecaster, Schema, make_forecaster
from tsattn.training import loop

ROWS = 90
HORIZON = 4
DAYS = pd.date_range("2024-01-01", periods=ROWS + HORIZON, freq="D")
FIT = ["--horizon", HORIZON, "--context", 16, "--max-epochs", 1]
READS = [
    "--past-col",
    "warmth",
    "--future-col",
    "promo",
    "--static-col",
    "kind",
    "--calendar",
    "weekday",
]
NAMED = {
    "past_cols": ["warmth"],
    "future_cols": ["promo"],
    "static_cols": ["kind"],
    "calendar": ["weekday"],
}


def kiosks():
    """Two daily series with their covariates, the horizon among the rows."""
    rng = np.random.default_rng(0)
    parts = []
    for name, kind in (("a", "ice"), ("b", "1")):
        promo = (rng.random(len(DAYS)) < 0.3).astype(float)
        columns = {
            "y": 5 + promo + rng.normal(size=len(DAYS)),
            "warmth": rng.normal(size=len(DAYS)),
            "promo": promo,
        }
        parts.append(pd.DataFrame({"unique_id": name, "ds": DAYS, **columns, "kind": kind}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder with the table and the rows that follow it."""
    monkeypatch.chdir(tmp_path)
    table = kiosks()
    past = table["ds"] < DAYS[ROWS]
    table[past].to_csv("table.csv", index=False)
    table.loc[~past, ["unique_id", "ds", "promo"]].to_csv("future.csv", index=False)
    return tmp_path


def test_a_forecast_reads_the_columns_that_the_python_call_reads(folder, run):
    code, _, err = run(
        "forecast",
        "table.csv",
        "--model",
        "mlr",
        *FIT,
        *READS,
        "--future",
        "future.csv",
        "--out",
        "f.csv",
    )
    assert (code, err) == (0, "")
    table = pd.read_csv("table.csv")
    future = pd.read_csv("future.csv")
    model = AttentionForecaster.from_settings(
        horizon=HORIZON, context=16, max_epochs=1, random_state=0, alias="mlr", **NAMED
    ).fit(table)
    pd.testing.assert_frame_equal(
        pd.read_csv("f.csv", parse_dates=["ds"]),
        model.predict(future=future),
        check_dtype=False,
        rtol=1e-6,
    )
    flipped = model.predict(future=future.assign(promo=1 - future["promo"]))["mlr"]
    assert not np.allclose(flipped, model.predict(future=future)["mlr"]), "promo is not read at all"


@pytest.mark.parametrize(("model", "named"), [("zero", []), ("ridge", ["--future-col", "promo"])])
def test_future_columns_may_be_text_and_need_no_names(folder, run, model, named):
    for file in ("table.csv", "future.csv"):
        frame = pd.read_csv(file)
        frame.assign(promo=frame["promo"].map({0: "none", 1: "sale"})).to_csv(file, index=False)
    argv = [
        "table.csv",
        "--horizon",
        HORIZON,
        "--model",
        model,
        *named,
        "--future",
        "future.csv",
    ]
    code, out, err = run("forecast", *argv)
    assert (code, err) == (0, "")
    own = make_forecaster(model, HORIZON, schema=Schema(future_cols=["promo"]), random_state=0)
    expected = own.fit(pd.read_csv("table.csv")).predict(future=pd.read_csv("future.csv"))
    np.testing.assert_allclose(pd.read_csv(io.StringIO(out))[model], expected[model], rtol=1e-6)


def test_the_future_of_many_series_may_have_more_rows_than_a_horizon(folder, run):
    rows = [(number, DAYS[k], k % 7.0, k % 2) for number in range(1030) for k in range(9)]
    table = pd.DataFrame(rows, columns=["unique_id", "ds", "y", "promo"])
    is_known = table["ds"] < DAYS[8]
    table[is_known].to_csv("many.csv", index=False)
    table[~is_known].drop(columns="y").to_csv("next.csv", index=False)
    code, out, err = run("forecast", "many.csv", "--horizon", 1, "--future", "next.csv")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1031


def test_a_saved_model_without_columns_reads_no_future(folder, run):
    run("fit", "table.csv", "--horizon", HORIZON, "--model", "naive", "--out", "model")
    code, out, err = run("forecast", "table.csv", "--from", "model", "--future", "future.csv")
    assert (code, out) == (2, "")
    assert "model reads no future columns; leave it out, or fit with --future-col" in err


def test_a_saved_model_knows_its_columns(folder, run):
    assert run("fit", "table.csv", *FIT, *READS, "--out", "model")[0] == 0
    again = ["forecast", "table.csv", "--from", "model"]
    code, saved, _ = run(*again, "--future", "future.csv")
    assert code == 0
    assert (
        saved
        == run("forecast", "table.csv", "--model", "mlr", *FIT, *READS, "--future", "future.csv")[1]
    )
    code, out, err = run(*again)
    assert (code, out) == (2, "")
    assert "--future is missing; give a table with promo for the 4 rows after each series" in err
    code, out, err = run(*again, "--future", "future.csv", "--past-col", "warmth")
    assert (code, out) == (2, "")
    assert "--from takes a model that knows its columns" in err


def test_wide_tables_keep_covariates_apart_from_channels(folder, run):
    table = pd.read_csv("table.csv")
    wide = (
        table.pivot(index="ds", columns="unique_id", values="y")
        .reset_index()
        .rename(columns={"ds": "date"})
    )
    wide["promo"] = table["promo"][:ROWS]
    wide.to_csv("wide.csv", index=False)
    pd.DataFrame({"date": DAYS[ROWS:], "promo": 1.0}).to_csv("ahead.csv", index=False)
    reads = ["--future-col", "promo", "--calendar", "auto", "--future", "ahead.csv"]
    code, out, _ = run("forecast", "wide.csv", "--model", "mlr", *FIT, *reads)
    assert code == 0
    assert out.splitlines()[0] == "date,a,b"
    assert len(out.splitlines()) == 1 + HORIZON


def test_a_backtest_gives_covariates_to_the_models_that_read_some(folder, run):
    judge = ["backtest", "table.csv", *FIT, "--n-windows", 2, "--json", "--model", "naive"]
    rows = [json.loads(line) for line in run(*judge, "--model", "mlr", *READS)[1].splitlines()]
    plain = [json.loads(line) for line in run(*judge, "--model", "mlr")[1].splitlines()]
    score = {row["model"]: row["mae"] for row in rows}
    before = {row["model"]: row["mae"] for row in plain}
    assert score["naive"] == before["naive"]
    assert score["mlr"] != before["mlr"]
    without_options = [word for word in judge if word not in FIT[2:]]
    code, out, err = run(*without_options, *READS)
    assert (code, out) == (2, "")
    assert "naive read no covariates; add a model that does, such as --model zero" in err


def spoilt(path, **cells):
    frame = pd.read_csv(path).astype(object)
    for column, value in cells.items():
        frame.loc[1, column] = value
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("options", "spoil", "said"),
    [
        (READS, {}, "--future is missing"),
        (
            ["--model", "naive", "--future", "future.csv"],
            {},
            "--future means nothing to naive; leave it out, or name another model",
        ),
        (
            ["--model", "zero", "--future", "future.csv"],
            {"wind": 1.0},
            "column 'wind' of --future is not in the table, whose rows must show its effect",
        ),
        ([*READS, "--future", "nowhere.csv"], {}, "there is no file nowhere.csv"),
        (
            [*READS, "--future", "future.csv"],
            {"promo": None},
            "series 'a': column 'promo' of --future is missing at",
        ),
        ([*READS, "--future", "future.csv"], {"promo": "soon"}, "holds 'soon' at {day}"),
        (
            ["--past-col", "warmth", "--future-col", "warmth"],
            {},
            "is named in --past-col and in --future-col",
        ),
        (["--past-col", "cold"], {}, "'cold'"),
        (["--static-col", "warmth"], {}, "'warmth'"),
        (["--calendar", "fortnight"], {}, "'fortnight'"),
    ],
    ids=[
        "no_future",
        "future_unread",
        "future_of_another_table",
        "no_file",
        "gap",
        "word",
        "twice",
        "absent",
        "not_static",
        "cycle",
    ],
)
def test_what_cannot_be_read_is_refused_before_training(
    folder, run, options, spoil, said, monkeypatch
):
    spoilt("future.csv", **spoil)
    monkeypatch.setattr(loop, "train", lambda *args, **kwargs: pytest.fail("training began"))
    before = sorted(folder.iterdir())
    how = ["--model", "mlr", *FIT]
    if "--model" in options:
        how = ["--horizon", HORIZON]
    code, out, err = run("forecast", "table.csv", *how, *options, "--out", "f.csv")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert said.format(day=DAYS[ROWS + 1].date()) in err
    assert sorted(folder.iterdir()) == before
