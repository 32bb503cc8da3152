"""The zero-shot benchmark: reading and scoring as the pack does, forecasts in batches, records, and
the page.
"""

import gzip
import importlib.util
import json

import numpy as np
import packs
import pandas as pd
import pytest
import torch
from checkout import ORIGIN, ROOT, lines_of
from records import Records
from zero_shot import page, run
from zero_shot.pack import (
    COLUMNS,
    LEVELS,
    Instance,
    Pack,
    Task,
    fill,
    geometric_mean,
    score,
    seasonal_naive,
)

from tsattn.catalogue import MODELS, Entry
from tsattn.forecasters.naive import Naive
from tsattn.forecasters.pretrained import PretrainedFitted, PretrainedForecaster
from tsattn.pretrained.weights import SHIPPED, load_card

NAN = np.nan
CHRONOS = "chronos-zs"
GIFT = "gift-eval"


# --- a pack of a few rows -------------------------------------------------------------------------


def row(name, suite, data, *, split="development", horizon=2, season=4, cutoffs=(-2,), series=3):
    models = {"seasonal_naive": {"MASE": 2.0, "WQL": 0.5}, "other": {"MASE": 1.0, "WQL": 0.4}}
    if suite == CHRONOS:
        models["rival"] = {"MASE": 0.5, "WQL": 0.45}
    sizes = {
        "horizon": horizon,
        "seasonality": season,
        "freq": "D",
        "cutoffs": list(cutoffs),
        "series": series,
    }
    return {
        "name": name,
        "suite": suite,
        "split": split,
        "data": data,
        "published": models,
        **sizes,
    }


LONG = {"files": ["long.csv.gz"], "layout": "long", "time": None, "grid": None, "resample": None}
LONG |= {"aggregate": None, "drop_last": 0}
WIDE = {"files": ["wide.csv"], "layout": "wide", "time": "date", "grid": "h", "resample": "2h"}
WIDE |= {"aggregate": "sum", "drop_last": 1}
SERIES = {
    "b": [1.0, 2.0, 4.0, NAN, 5.0, 7.0, 6.0, 9.0],
    "a": [3.0, 3.0, 3.0],
    "c": [NAN, 1.0, NAN, 2.0, 0.0, NAN],
}


@pytest.fixture
def folder(tmp_path):
    """A pack of two suites: gaps, a series shorter than a season, a constant one, and a table that
    is resampled.
    """
    (tmp_path / "pack").mkdir()
    lines = ["item_id,timestamp,target"]
    for item, values in SERIES.items():
        stamps = pd.date_range("2020-01-01", periods=len(values)).strftime("%Y-%m-%d")
        lines += [
            f"{item},{s},{'' if np.isnan(v) else v}" for s, v in zip(stamps, values, strict=True)
        ]
    with gzip.open(tmp_path / "pack" / "long.csv.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    hours = [0, 1, 1, 2, 4, 5, 6, 7, 8]
    rows = [f"2020-01-01 {h:02}:00:00,{n},{10 * h}" for n, h in enumerate(hours)]
    (tmp_path / "pack" / "wide.csv").write_text("\n".join(["date,x,y", *rows]) + "\n")
    tasks = [
        *(row("short", CHRONOS, LONG), row("long", GIFT, LONG, cutoffs=(-2, -1), horizon=1)),
        *(
            row("wide", GIFT, WIDE, horizon=1, cutoffs=(-1,), season=1, series=2),
            row("kept", GIFT, LONG, split="report"),
        ),
    ]
    models = {
        "seasonal_naive": {CHRONOS: {"file": "c.csv", "trained_on": []}, GIFT: {"file": "s.csv"}}
    }
    models["other"] = {GIFT: {"file": "o.csv", "type": "zero-shot", "test_data_leakage": "Yes"}}
    models["rival"] = {CHRONOS: {"file": "r.csv", "trained_on": ["short", "elsewhere"]}}
    suites = {
        name: {"repository": f"of/{name}", "commit": "0" * 40, "more": "words"}
        for name in (GIFT, CHRONOS)
    }
    (tmp_path / "pack" / "tasks.json").write_text(
        json.dumps({"suites": suites, "models": models, "tasks": tasks})
    )
    return tmp_path / "pack"


def test_series_and_instances_are_cut_as_the_tasks_say(folder):
    pack = Pack(folder)
    asked = pack.instances(pack.tasks["long"])
    assert [(each.item, each.window) for each in asked] == [(i, w) for i in "bac" for w in (0, 1)]
    np.testing.assert_array_equal(asked[1].past, SERIES["b"][:-1])
    np.testing.assert_array_equal(asked[4].future, [0.0])
    assert len(asked) == pack.tasks["long"].n_instances


def test_a_table_is_put_on_its_grid_and_summed(folder):
    pack = Pack(folder)
    x, y = pack.instances(pack.tasks["wide"])
    # Hour 3 is missing and counts nothing in a sum; the first of the repeated hour stays; hour 8 is
    # dropped at the end.
    assert (x.item, x.past.tolist(), x.future.tolist()) == ("wide:x", [0 + 1, 3, 4 + 5], [6 + 7])
    assert (y.item, y.past.tolist(), y.future.tolist()) == (
        "wide:y",
        [0 + 10, 20, 40 + 50],
        [60 + 70],
    )


def test_tasks_of_one_data_set_share_what_was_read_and_cannot_change_it(folder):
    pack = Pack(folder)
    first = pack.instances(pack.tasks["short"])[0].past
    assert np.shares_memory(first, pack.instances(pack.tasks["long"])[0].past)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0.0


def test_a_folder_without_tasks_is_refused(tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"holds no tasks.json; name the folder of the zero-shot pack"
    ):
        Pack(tmp_path)
    assert run.main(["--pack", str(tmp_path), "--model", "naive"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_gaps_are_filled_from_before():
    np.testing.assert_array_equal(
        fill(np.array([NAN, 2.0, NAN, NAN, 5.0, NAN])), [2, 2, 2, 2, 5, 5]
    )
    np.testing.assert_array_equal(fill(np.array([NAN, NAN])), [0, 0])


# --- scores ---------------------------------------------------------------------------------------


def by_loops(task, instances, forecasts):
    """MASE, WQL and coverage, one number at a time."""
    errors = []
    losses = [0.0] * 9
    total = 0.0
    inside = []
    for each, answer in zip(instances, forecasts, strict=True):
        lag = 1 if task.suite == GIFT and len(each.past) < task.season else task.season
        steps = [abs(each.past[t] - each.past[t - lag]) for t in range(lag, len(each.past))]
        steps = [step for step in steps if not np.isnan(step)]
        scale = sum(steps) / len(steps) if steps else 0.0
        for y, quantiles in zip(each.future, answer, strict=True):
            if np.isnan(y):
                continue
            if scale > 0:
                errors.append(abs(y - quantiles[4]) / scale)
            total += abs(y)
            inside.append(quantiles[0] <= y <= quantiles[8])
            for k, (level, q) in enumerate(zip(LEVELS, quantiles, strict=True)):
                losses[k] += 2 * max(level * (y - q), (level - 1) * (y - q))
    return {"mase": np.mean(errors), "wql": np.mean(losses) / total, "coverage80": np.mean(inside)}


@pytest.mark.parametrize("suite", [CHRONOS, GIFT])
def test_scores_are_those_of_loops(suite, assert_close):
    chance = np.random.default_rng(0)
    task = Task("t", suite, "development", 3, 4, "D", (-3,), 6, {}, {})
    # Shorter than a season, as long, constant, one with gaps in past and future, and two ordinary
    # ones.
    pasts = [chance.normal(size=n) for n in (3, 4, 9, 12, 20, 30)]
    pasts[2] = np.ones(9)
    pasts[3][[2, 5, 6]] = NAN
    futures = chance.normal(size=(6, 3))
    futures[3, 1] = futures[4, 2] = NAN
    instances = [
        Instance(str(n), 0, *pair) for n, pair in enumerate(zip(pasts, futures, strict=True))
    ]
    forecasts = np.sort(chance.normal(size=(6, 3, 9)), axis=2)
    scores = score(task, instances, forecasts)
    expected = by_loops(task, instances, forecasts)
    for name, value in expected.items():
        assert_close(scores[name], value, "metric")


def test_a_short_past_counts_in_one_suite_only():
    past = np.array([1.0, 2.0, 4.0])
    future = np.array([5.0])
    answer = np.full((1, 1, 9), 2.0)
    usual = Instance("u", 0, np.array([0.0, 0.0, 0.0, 0.0, 1.0]), future)
    both = [Instance("s", 0, past, future), usual]
    answers = np.concatenate([answer, answer])
    for suite, expected in ((GIFT, (3 / 1.5 + 3 / 1) / 2), (CHRONOS, 3.0)):
        assert (
            score(Task("t", suite, "development", 1, 4, "D", (-1,), 2, {}, {}), both, answers)[
                "mase"
            ]
            == expected
        )


def test_forecasts_that_are_not_whole_are_refused():
    task = Task("t", GIFT, "development", 1, 1, "D", (-1,), 1, {}, {})
    asked = [Instance("i", 0, np.arange(3.0), np.ones(1))]
    for answer in (np.ones((1, 1, 8)), np.full((1, 1, 9), NAN)):
        with pytest.raises(
            ValueError, match=r"t: forecasts must be finite, of shape \(1, 1, 9\); got"
        ):
            score(task, asked, answer)


def test_seasonal_naive_repeats_a_season_and_spreads_in_one_suite(assert_close):
    asked = [Instance("i", 0, np.array([1.0, 2.0, NAN, 5.0, 4.0]), np.ones(3))]
    filled = np.array([1.0, 2.0, 2.0, 5.0, 4.0])
    for suite in (CHRONOS, GIFT):
        answer = seasonal_naive(
            Task("t", suite, "development", 3, 2, "D", (-3,), 1, {}, {}), asked
        )[0]
        assert_close(answer[:, 4], np.array([5.0, 4.0, 5.0]))
        deviation = 0.0 if suite == CHRONOS else np.sqrt(np.mean((filled[2:] - filled[:-2]) ** 2))
        assert_close(
            answer[:, 8] - answer[:, 4], 1.2815515655446004 * deviation * np.sqrt([1, 1, 2])
        )


TASKS = (
    "ett1/D/short",
    "ett1/H/medium",
    "jena_weather/D/short",
    "us_births/W/short",
    "us_births/M/short",
)
TASKS += (
    "m4_weekly/W/short",
    "covid_deaths/D/short",
    "monash_covid_deaths",
    "monash_cif_2016",
    "monash_m3_yearly",
)


@pytest.mark.parametrize("name", TASKS)
def test_the_pack_itself_reads_and_scores_alike(pack_dir, name, assert_close):
    spec = importlib.util.spec_from_file_location("pack_score", pack_dir / "score.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    pack = Pack(pack_dir)
    known = theirs.load_tasks()[name]
    task = pack.tasks[name]
    cases = theirs.instances(known)
    asked = pack.instances(task)
    assert len(asked) == task.n_instances == len(cases)
    for each, (_, window, past, future) in zip(asked, cases, strict=True):
        assert each.window == window
        assert_close(each.past, past.to_numpy(float))
        assert_close(each.future, future.to_numpy(float))
    chance = np.random.default_rng(1)
    naive = np.array(theirs.seasonal_naive(known, cases))
    drawn = naive + np.sort(chance.normal(size=naive.shape), axis=2) * np.abs(naive).mean()
    assert_close(seasonal_naive(task, asked), naive)
    for forecasts in (naive, drawn):
        scores = score(task, asked, forecasts)
        expected = theirs.score(known, forecasts, cases)
        assert_close(
            np.array([scores["mase"], scores["wql"]]), np.array([expected["MASE"], expected["WQL"]])
        )


# --- forecasts ------------------------------------------------------------------------------------


class Reader(PretrainedForecaster):
    """Reads gaps: every quantile is the last value seen plus the level, and what it was shown is
    kept.
    """

    start = 0.0
    max_context = 3

    def fit(self, panel):
        self.state_ = PretrainedFitted(panel=panel, network=torch.nn.Linear(1, 1))
        torch.nn.init.constant_(self.network_.weight, self.start)
        torch.nn.init.constant_(
            self.network_.bias, float(0 if self.weights == SHIPPED else self.weights)
        )
        self.seen = type(self).shown = []
        return self

    def _checked(self, x):
        return x

    def _forecast(self, x, quantiles, covariates):
        self.seen.append(x[..., 0])
        last = np.array([window[~np.isnan(window)][-1] for window in x[..., 0]])
        bounds = np.tile((last[:, None] + quantiles)[:, None, None], (1, self.horizon, 1, 1))
        return bounds[..., 0], bounds


class Learner(Naive):
    """Is trained: remembers the lengths of the series that it was fitted on, and
    forecasts zeros.
    """

    fits = ()

    def fit(self, panel):
        type(self).fits = (*self.fits, panel.lengths.tolist())
        return self

    def predict(self, panel, *, quantiles):
        self.quantiles = {q: np.full((panel.n_series, self.horizon), q) for q in quantiles}
        return self


class Local(Entry):
    """An entry whose class stands here."""

    def find(self):
        return {"Reader": Reader, "Learner": Learner}[self.home]


@pytest.fixture
def models(monkeypatch):
    found = {**MODELS, "reader": Local("Reader"), "learner": Local("Learner", trained=True)}
    monkeypatch.setattr("tsattn.catalogue.MODELS", found)
    monkeypatch.setattr(Reader, "start", 0.0)
    monkeypatch.setattr(Learner, "fits", ())


def test_a_reader_of_gaps_gets_batches_of_alike_length(folder, models, monkeypatch):
    pack = Pack(folder)
    monkeypatch.setattr(run, "chunk_size", lambda width: 2)
    asked = pack.instances(pack.tasks["short"])
    answer = run.forecast("reader", pack.tasks["short"], asked)
    np.testing.assert_allclose(answer[:, 0, 0], [7.1, 3.1, 2.1])
    np.testing.assert_allclose(answer[1, 1], 3 + np.array(LEVELS))
    # At most three rows of each are read; shorter ones begin with nothing, and what is missing
    # stays missing.
    first, second = Reader.shown
    np.testing.assert_array_equal(first, [[NAN, 5, 7], [1, NAN, 2]])
    np.testing.assert_array_equal(second, [[3.0]])
    mixed = run.forecast("reader", pack.tasks["short"], asked[1:])
    np.testing.assert_array_equal(Reader.shown[0], [[1, NAN, 2], [NAN, NAN, 3]])
    np.testing.assert_array_equal(mixed, answer[1:])


def test_a_model_that_learns_is_fitted_once_for_each_cutoff_on_whole_pasts(folder, models):
    pack = Pack(folder)
    answer = run.forecast("learner", pack.tasks["long"], pack.instances(pack.tasks["long"]))
    assert Learner.fits == ([6, 1, 4], [7, 2, 5])
    np.testing.assert_allclose(answer, np.broadcast_to(LEVELS, (6, 1, 9)))


def test_a_rule_repeats_the_season_that_a_past_holds(folder):
    pack = Pack(folder)
    asked = pack.instances(pack.tasks["short"])
    answer = run.forecast("seasonal_naive", pack.tasks["short"], asked)
    np.testing.assert_array_equal(answer[:, :, 0], [[4, 4], [3, 3], [1, 1]])
    np.testing.assert_array_equal(answer, seasonal_naive(pack.tasks["short"], asked))


def test_a_classical_model_answers_pasts_of_several_lengths():
    t = np.arange(60.0)
    pasts = [np.sin(t[:n]) + t[:n] / 9 for n in (30, 60, 30)]
    task = Task("t", GIFT, "development", 4, 4, "D", (-4,), 3, {}, {})
    answer = run.forecast(
        "theta", task, [Instance(str(n), 0, past, np.ones(4)) for n, past in enumerate(pasts)]
    )
    assert (np.diff(answer, axis=2) > 0).all()
    np.testing.assert_array_equal(answer[0], answer[2])
    assert not np.allclose(answer[0], answer[1])


# --- records --------------------------------------------------------------------------------------


@pytest.fixture
def start(folder, tmp_path, models, monkeypatch):
    """The script on the small pack: exit code; ``runs`` counts what was executed."""
    execute = run.execute

    def counted(cell, *rest):
        call.runs.append((cell["model"], cell["task"]))
        return execute(cell, *rest)

    def call(*options):
        call.runs = []
        return run.main(["--pack", str(folder), "--out", str(call.out), *options])

    monkeypatch.setattr(run, "execute", counted)
    call.out = tmp_path / "results" / run.FILE
    return call


def test_a_record_holds_scores_relative_to_the_published_naive_rule(start, folder, capsys):
    assert start("--model", "reader") == 0
    assert start.runs == [("reader", name) for name in ("short", "long", "wide")]
    out, err = capsys.readouterr()
    assert out.startswith("reader short: mase ")
    assert (err, out.count("\n")) == ("", 3)
    first = lines_of(start.out)[0]
    pack = Pack(folder)
    task = pack.tasks["short"]
    asked = pack.instances(pack.tasks["short"])
    expected = score(task, asked, run.forecast("reader", task, asked))
    assert {name: first[name] for name in expected} == pytest.approx(expected, rel=1e-8)
    assert first["rel_mase"] == pytest.approx(expected["mase"] / 2.0, rel=1e-8)
    assert first["rel_wql"] == pytest.approx(expected["wql"] / 0.5, rel=1e-8)
    told = {
        "suite": CHRONOS,
        "split": "development",
        "horizon": 2,
        "n_instances": 3,
        "params": 2,
        "settings": {},
    }
    assert {name: first[name] for name in told} == told
    assert len(first["weights"]) == 64
    assert Records(start.out, page.KEY).rows()[0] == first


def test_what_is_on_record_is_not_run_again_but_for_other_weights(start):
    start("--model", "reader", "--task", "short")
    assert start("--model", "reader", "--model", "naive") == 0
    assert start.runs == [
        ("reader", "long"),
        ("reader", "wide"),
        *(("naive", t) for t in ("short", "long", "wide")),
    ]
    start("--model", "reader", "--model", "naive")
    assert start.runs == []
    start("--model", "reader", "--task", "short", "--weights", "7")
    assert start.runs == [("reader", "short")]
    Reader.start = 1.0
    start("--model", "reader", "--model", "naive")
    assert start.runs == [("reader", "short"), ("reader", "long"), ("reader", "wide")]
    rows = lines_of(start.out)
    assert len({row["weights"] for row in rows if row["task"] == "short"}) == 4
    assert not any("weights" in row["settings"] for row in rows)


def test_report_tasks_are_run_on_demand_alone(start, capsys):
    assert start("--model", "naive", "--task", "kept") == 2
    assert (
        "--task kept is no task of --split development; use one of short, long, wide"
        in capsys.readouterr().err
    )
    assert start("--model", "naive", "--split", "report") == 0
    assert start.runs == [("naive", "kept")]
    assert "report tasks are run once for a release" in capsys.readouterr().err
    assert start("--model", "nobody") == 2
    assert "model 'nobody' is unknown" in capsys.readouterr().err


# --- the page -------------------------------------------------------------------------------------


def ran(task, suite, *, model="naive", rel=(0.5, 0.25), horizon=2, **changes):
    scores = {
        "mase": rel[0] * 2,
        "wql": rel[1] * 0.5,
        "rel_mase": rel[0],
        "rel_wql": rel[1],
        "coverage80": 0.75,
    }
    where = {
        "suite": suite,
        "task": task,
        "split": "development",
        "horizon": horizon,
        "n_instances": 100,
    }
    costs = {
        "seconds": 9.0,
        "cpu_seconds": 1.5,
        "params": 500_000,
        "peak_mb": 300.0,
        "settings": {},
        "weights": "ab" * 32,
    }
    return {"kind": "task", "model": model, **where, **scores, **costs, **ORIGIN, **changes}


def others():
    tasks = [("short", CHRONOS, 2), ("long", GIFT, 2), ("far", GIFT, 720)]
    best = [[0.9, "rival"], [0.2, "rival"]]
    rows = [
        {
            "kind": "published task",
            "task": name,
            "suite": suite,
            "split": "development",
            "horizon": horizon,
        }
        | {"n_instances": 100, "seasonal_naive": [2.0, 0.5], "best": best}
        for name, suite, horizon in tasks
    ]
    rival = {
        "kind": "published model",
        "model": "tirex",
        "columns": [[0.4, 0.5], [0.6, 0.7], [], [], []],
    }
    rival["note"] = "trained on 1 of the tasks"
    return [
        {"kind": "suite", "suite": GIFT, "repository": "of/gift", "commit": "1" * 40},
        *rows,
        rival | {"files": []},
    ]


OURS = [
    ran("short", CHRONOS),
    ran("long", GIFT, rel=(0.5, 0.5)),
    ran("far", GIFT, rel=(2.0, 0.5), horizon=720),
]


def test_aggregates_are_geometric_means_of_whole_columns():
    rows = [*OURS, *others()]
    (mine,) = page.own_records(rows).values()
    assert [(c.suite, c.split, c.most) for c in COLUMNS][2:4] == [
        (GIFT, "development", None),
        (GIFT, "development", 64),
    ]
    # sqrt(0.5 * 2) = 1 over both tasks of the suite, 0.5 over the one that looks at most 64 steps
    # ahead.
    np.testing.assert_allclose(
        page.aggregates(rows, mine)[2:4], [[1.0, 0.5], [0.5, 0.5]], rtol=1e-12
    )
    (part,) = page.own_records([*OURS[:2], *others()]).values()
    assert page.aggregates([*OURS[:2], *others()], part)[2] == [], (
        "a task of the column was not run"
    )
    assert geometric_mean([0.25, 1.0]) == 0.5


@pytest.fixture
def results(tmp_path):
    return lambda rows: write(tmp_path, rows, others())


def write(folder, rows, published):
    for name, some in ((page.FILE, rows), (page.PUBLISHED, published)):
        (folder / name).write_text("".join(json.dumps(each) + "\n" for each in some))
    return folder


def test_published_models_far_behind_are_left_out_unless_readme_has_them(tmp_path):
    of = {"near": 0.75, "behind": 0.77, "auto_ets": 1.5}
    more = [
        {
            "kind": "published model",
            "model": name,
            "columns": [[mase, 0.5], [], [mase, 0.5], [], []],
            "note": "",
        }
        | {"files": []}
        for name, mase in of.items()
    ]
    text = page.models(write(tmp_path, OURS, [*others(), *more]))
    assert [f"| {name} " in text for name in of] == [True, False, True]


def test_shipped_weights_have_the_names_that_tables_give_them():
    for digits, name in page.NAMES.items():
        network = packs.network(PretrainedForecaster(4, weights=name))
        assert packs.digest(network).startswith(digits), name
        assert load_card(name)["name"] == name


def test_the_page_has_our_rows_in_bold_beside_published_ones(results, monkeypatch):
    text = " ".join(page.models(results(OURS)).split())
    own = "| **naive ababab** | **0.500/0.250** | | **1.000/0.500** | | 0.5 |"
    assert own in text
    assert "| naive ababab | 75% | 4 |" in text, "what ours cost"
    rival = "| tirex † | 0.400/0.500 | 0.600/0.700 | | | 35 |"
    assert text.index(rival) < text.index(own), "by MASE on the development tasks"
    assert f"Published scores: of/gift at `{'1' * 12}`. Commit `{'c' * 12}`" in text
    assert page.summary(results(OURS)) == "No run is recorded yet.", (
        "README has shipped weights only"
    )
    monkeypatch.setattr(page, "NAMES", {"ababab": "zero-9"})
    readme = " ".join(page.summary(results(OURS)).split())
    assert "| **zero-9** | 0.5 M | 0.500/0.250 | | 1.000/0.500 | |" in readme
    assert "zero-9" not in page.models(results(OURS[:2])), "only whole columns count"
    assert page.models(results([])) == "No run is recorded yet."


def test_the_picture_shows_parameters_and_seconds(results):
    panels = page.picture(results(OURS))
    assert panels[0]["lines"] == {"tirex": [[35e6, 0.4]], "naive ababab": [[500_000, 0.5]]}
    assert panels[2]["lines"] == {"naive ababab": [[15.0, 0.5]]}
    assert panels[0]["ours"] == ["naive ababab"]
    assert page.picture(results([])) == []


def test_a_task_that_nobody_published_is_refused(results):
    with pytest.raises(ValueError, match=r"zero_shot_published\.jsonl lacks the task new"):
        page.read(results([OURS[0] | {"task": "new"}]))


def test_our_seasonal_naive_is_the_published_one_on_record():
    rows = page.read(ROOT / "benchmarks" / "results")
    actual = [
        row["rel_mase"]
        for row in rows
        if row["kind"] == "task" and row["model"] == "seasonal_naive"
    ]
    assert len(actual) >= 27
    np.testing.assert_allclose(actual, 1.0, rtol=0.002)
