"""The benchmark of forecasts with covariates: reading and scoring as the pack does, tables,
records, and the page.
"""

import gzip
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from checkout import ORIGIN, ROOT, lines_of
from covariates import page, published, run
from covariates.pack import POOLED, Case, Pack, Task, score
from packs import SPLITS, relative
from zero_shot.pack import LEVELS, Instance, fill
from zero_shot.pack import Task as ZeroShotTask
from zero_shot.pack import seasonal_naive as zero_shot_naive

from tsattn.catalogue import MODELS, Entry
from tsattn.forecasters.naive import SeasonalNaive
from tsattn.forecasters.regression import SklearnForecaster

NAN = np.nan
FEV = "fev-bench"


# --- a pack of a few rows -------------------------------------------------------------------------


def row(
    name,
    suite,
    data,
    *,
    split="development",
    columns=((), (), ()),
    horizon=2,
    cutoffs=(-2,),
    series=2,
    **more,
):
    targets, known, past = columns
    scores = {
        "seasonal_naive": {"MASE": 2.0, "WQL": 0.5} | ({} if suite == POOLED else {"SQL": 1.5})
    }
    sizes = {
        "horizon": horizon,
        "cutoffs": list(cutoffs),
        "min_past": 1,
        "instances": series * len(cutoffs),
    }
    seasons = {"seasonality": 4, "naive_seasonality": 4}
    others = {
        "published": {} if suite == "own" else scores,
        "measured": scores | {"trees": scores["seasonal_naive"]},
    }
    of = {"targets": list(targets), "known": list(known), "past": list(past)}
    return {
        "name": name,
        "suite": suite,
        "split": split,
        "data": data,
        **sizes,
        **seasons,
        **of,
        **others,
        **more,
    }


LONG = {
    "files": ["data/long.csv.gz"],
    "layout": "long",
    "time": None,
    "grid": None,
    "resample": None,
}
LONG |= {"aggregate": None, "drop_first": 0, "drop_last": 0}
WIDE = {"files": ["wide.csv"], "layout": "wide", "time": "date", "grid": "h", "resample": "2h"}
WIDE |= {"aggregate": {"*": "sum", "y": "mean"}, "drop_first": 1, "drop_last": 1}
STEPS = 60


def series(seed):
    """A target that follows a known column, one step of it missing, and a column of the past."""
    chance = np.random.default_rng(seed)
    known, past = chance.normal(size=(2, STEPS))
    return {
        "target": 10 + 3 * known + np.sin(np.arange(STEPS) * np.pi / 2),
        "known": known,
        "past": past,
    }


@pytest.fixture
def folder(tmp_path):
    """A pack of three suites: two series with columns of both kinds, and a table that is put on a
    grid and summed.
    """
    (tmp_path / "pack" / "data").mkdir(parents=True)
    stamps = pd.date_range("2020-01-01", periods=STEPS)
    frames = [
        pd.DataFrame({"item_id": item, "timestamp": stamps, **series(n)})
        for n, item in enumerate("ba")
    ]
    frames[1] = frames[1].iloc[20:]
    table = pd.concat(frames)
    table.loc[table["timestamp"] == "2020-02-10", ["target", "known"]] = NAN
    with gzip.open(tmp_path / "pack" / "data" / "long.csv.gz", "wt") as file:
        table.to_csv(file, index=False)
    hours = [0, 1, 1, 2, 4, 5, 6, 7, 8, 9]
    rows = [f"2020-01-01 {hour:02}:00:00,{n},{10 * hour},text" for n, hour in enumerate(hours)]
    (tmp_path / "pack" / "wide.csv").write_text("\n".join(["date,x,y,z", *rows]) + "\n")
    both = (["target"], ["known"], ["past"])
    tasks = [
        row("long", FEV, LONG, columns=both, cutoffs=(-6, -4)),
        row("alone", "own", LONG, columns=(["target", "past"], [], [])),
        row("wide", POOLED, WIDE, columns=(["y"], ["x"], []), horizon=1, cutoffs=(-1,), series=1),
        row("kept", FEV, LONG, columns=both, split="report"),
        row(
            "late",
            FEV,
            LONG,
            columns=both,
            cutoffs=(-25, -2),
            min_past=20,
            split="report",
            instances=3,
        ),
    ]
    models = {
        "seasonal_naive": {FEV: {"file": "s.csv", "covariates": "none"}, POOLED: {"file": "g.csv"}}
    }
    suites = {
        name: {"repository": f"of/{name}", "commit": "0" * 40, "more": "words"}
        for name in (FEV, POOLED)
    }
    told = {"suites": suites | {"own": {"windows": "words"}}, "models": models, "tasks": tasks}
    (tmp_path / "pack" / "tasks.json").write_text(json.dumps(told))
    return tmp_path / "pack"


def test_cases_are_cut_as_the_tasks_say(folder):
    pack = Pack(folder)
    cases = pack.cases(pack.tasks["long"])
    assert [(case.item, case.window, len(case.past)) for case in cases] == [
        ("b", 0, 54),
        ("b", 1, 56),
        ("a", 0, 34),
        ("a", 1, 36),
    ]
    first = series(0)
    assert cases[0].past.columns.tolist() == ["target", "known", "past"]
    np.testing.assert_allclose(cases[0].future.to_numpy(), first["known"][54:56, None])
    np.testing.assert_allclose(cases[0].truth, first["target"][54:56, None])
    assert cases[0].future.index[0] == pd.Timestamp("2020-01-01") + pd.Timedelta(days=54)
    late = pack.cases(pack.tasks["late"])
    assert [(case.item, case.window) for case in late] == [("b", 0), ("b", 1), ("a", 1)], (
        "15 rows are too few"
    )
    assert len(late) == pack.tasks["late"].n_instances


def test_a_table_is_put_on_its_grid_and_each_column_summed_up_in_its_way(folder):
    pack = Pack(folder)
    (case,) = pack.cases(pack.tasks["wide"])
    # Hours 0-1, 2-3, 4-5, 6-7, 8-9, without the first and the last pair; hour 3 is missing, the
    # first hour 1 stays.
    assert case.item == "wide"
    np.testing.assert_array_equal(case.past, [[20.0, 3], [45, 4 + 5]])
    np.testing.assert_array_equal((case.future.iloc[0, 0], case.truth[0, 0]), (6 + 7, 65))


def test_a_folder_without_tasks_is_refused(tmp_path, capsys):
    with pytest.raises(
        ValueError, match=r"holds no tasks.json; name the folder of the covariates pack"
    ):
        Pack(tmp_path)
    assert run.main(["--pack", str(tmp_path), "--model", "naive"]) == 2
    assert capsys.readouterr().err.startswith("covariates: --pack ")


# --- scores ---------------------------------------------------------------------------------------


def task_of(suite, *, horizon=3, season=2, targets=("u", "v")):
    sizes = {
        "horizon": horizon,
        "season": season,
        "naive_season": season,
        "cutoffs": (),
        "min_past": 1,
    }
    columns = {"targets": targets, "future_cols": (), "past_cols": ()}
    return Task(
        "t",
        suite,
        "development",
        n_instances=0,
        **sizes,
        **columns,
        data={},
        published={},
        measured={},
    )


def case_of(window, past, truth):
    past = pd.DataFrame(past, columns=["u", "v"][: np.shape(past)[1]])
    return Case("i", window, past, past[[]], np.asarray(truth, dtype=float))


def loss(y, quantiles):
    return [
        2 * max(level * (y - q), (level - 1) * (y - q))
        for level, q in zip(LEVELS, quantiles, strict=True)
    ]


def by_loops(task, cases, forecasts):
    """The metrics of fev-bench, one number at a time."""
    parts = []
    for window in sorted({case.window for case in cases}):
        for target in range(len(task.targets)):
            errors = []
            scaled = []
            plain = []
            sizes = []
            for case, answer in zip(cases, forecasts, strict=True):
                if case.window != window:
                    continue
                past = case.past.iloc[:, target].tolist()
                steps = [
                    abs(past[t] - past[t - task.season]) for t in range(task.season, len(past))
                ]
                steps = [step for step in steps if not np.isnan(step)]
                scale = sum(steps) / len(steps) if steps else 0.0
                for y, quantiles in zip(case.truth[:, target], answer[:, target], strict=True):
                    if np.isnan(y):
                        continue
                    plain.append(np.mean(loss(y, quantiles)))
                    sizes.append(abs(y))
                    if scale > 0:
                        errors.append(abs(y - quantiles[4]) / scale)
                        scaled.append(np.mean(loss(y, quantiles)) / scale)
            parts.append(
                [np.mean(errors), np.mean(scaled), np.mean(plain) / max(np.mean(sizes), 1)]
            )
    return dict(zip(("mase", "sql", "wql"), np.mean(parts, axis=0), strict=True))


def test_scores_are_those_of_loops(assert_close):
    chance = np.random.default_rng(0)
    cases = []
    for n, (window, length) in enumerate([(0, 9), (0, 12), (0, 5), (1, 9), (1, 20)]):
        past = chance.normal(size=(length, 2))
        truth = chance.normal(size=(3, 2)) * (5 if n % 2 else 0.1)
        past[3, 0] = truth[1, 1] = NAN
        cases.append(case_of(window, past, truth))
    cases[2].past["u"] = 1.0  # its scale is zero
    forecasts = np.sort(chance.normal(size=(5, 3, 2, 9)), axis=3)
    scores = score(task_of(FEV), cases, forecasts)
    expected = by_loops(task_of(FEV), cases, forecasts)
    for name, value in expected.items():
        assert_close(scores[name], value, "metric")


def test_windows_and_targets_count_alike_in_one_suite_and_are_one_pool_in_the_other():
    # Scales are 1 of u and 2 of v; two series in the first window, one in the second.
    past = [[0.0, 0.0], [0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]
    cases = [case_of(window, past, [[0.0, 8.0]]) for window in (0, 0, 1)]
    forecasts = np.zeros((3, 1, 2, 9))
    forecasts[:, 0, 0] = np.array([1.0, 3.0, 5.0])[:, None]
    forecasts[:, 0, 1] = 8.0
    # u: errors 1, 3 and 5; v: none. Points, so that a quantile loss is the absolute error.
    per_window = ((1 + 3) / 2 / 1 + 0) / 2, (5 / 1 + 0) / 2
    scores = score(task_of(FEV, horizon=1), cases, forecasts)
    assert scores["mase"] == pytest.approx(np.mean(per_window), rel=1e-12)
    assert scores["sql"] == pytest.approx(scores["mase"], rel=1e-12)
    # Mean |y| of u is 0, and counts as 1.
    assert scores["wql"] == pytest.approx((((1 + 3) / 2 + 0) / 2 + (5 + 0) / 2) / 2, rel=1e-12)
    assert scores["coverage80"] == 0.5
    pooled = score(task_of(POOLED, horizon=1), cases, forecasts)
    assert pooled == pytest.approx({"mase": 9 / 6, "wql": 9 / 24, "coverage80": 0.5}, rel=1e-12)


def test_forecasts_that_are_not_whole_are_refused():
    cases = [case_of(0, [[1.0, 2.0]] * 3, [[1.0, 2.0]])]
    for answer in (np.ones((1, 1, 2, 8)), np.full((1, 1, 2, 9), NAN)):
        with pytest.raises(
            ValueError, match=r"t: forecasts must be finite, of shape \(1, 1, 2, 9\); got"
        ):
            score(task_of(FEV, horizon=1), cases, answer)


def naive_quantiles(task, cases):
    """The suites' seasonal naive forecast, each target by itself; fev-bench reads the last 1,000
    rows.
    """
    rule = ZeroShotTask(
        "t", POOLED, task.split, task.horizon, task.naive_season, "D", (), 0, {}, {}
    )
    answers = []
    for target in task.targets:
        pasts = [fill(case.past[target].to_numpy()) for case in cases]
        pasts = pasts if task.suite == POOLED else [past[-1000:] for past in pasts]
        answers.append(
            zero_shot_naive(
                rule, [Instance("i", 0, past, np.zeros(task.horizon)) for past in pasts]
            )
        )
    return np.stack(answers, axis=2)


# Of each kind one: one target and many, gaps, many series, both kinds of files, and the suite that
# pools.
CHECKED = (
    "epf_de",
    "jena_weather_1D",
    "jena_weather_1H",
    "vic_electricity",
    "metro_traffic",
    "orange_juice",
)
CHECKED += ("bizitobs_l2c/H/short",)
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture(scope="session")
def covariates_pack(pack_dir):
    """The covariates pack, which lies beside the zero-shot pack."""
    folder = pack_dir.parent / "covariates"
    if not folder.is_dir():
        pytest.skip(f"needs the covariates pack at {folder}")
    return folder


@pytest.mark.parametrize("name", CHECKED)
def test_the_pack_itself_reads_and_scores_alike(covariates_pack, name, assert_close):
    spec = importlib.util.spec_from_file_location("covariates_score", covariates_pack / "score.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    pack = Pack(covariates_pack)
    known = theirs.load_tasks()[name]
    task = pack.tasks[name]
    expected = theirs.instances(known)
    cases = pack.cases(task)
    assert len(cases) == task.n_instances == len(expected)
    for case, other in zip(cases, expected, strict=True):
        assert (case.item, case.window) == (other.item_id, other.window)
        assert case.past.equals(other.past)
        assert case.future.equals(other.future)
    naive = naive_quantiles(task, cases)
    scores = relative(score(task, cases, naive), task.base)
    assert {name: scores[name] for name in scores if name.startswith("rel_")} == pytest.approx(
        dict.fromkeys([f"rel_{metric.lower()}" for metric in task.base if len(metric) < 5], 1.0),
        rel=1e-6,
    )
    drawn = (
        naive
        + np.sort(np.random.default_rng(1).normal(size=naive.shape), axis=3) * np.abs(naive).mean()
    )
    for forecasts in (naive, drawn):
        scores = score(task, cases, forecasts)
        other = theirs.score(known, forecasts, expected)
        for metric, value in other.items():
            assert_close(scores[metric.lower()], value)


# --- forecasts ------------------------------------------------------------------------------------


class Watched(SklearnForecaster):
    """A ridge regression that keeps the tables that it was given."""

    fits = ()
    asked = ()

    def fit(self, data, y=None, *, verbose=False):
        type(self).fits = (*self.fits, data)
        return super().fit(data)

    def predict(self, data=None, **how):
        type(self).asked = (*self.asked, (data, how["future"]))
        return super().predict(data, **how)


class Local(Entry):
    """An entry whose class stands here."""

    def find(self):
        return Watched


@pytest.fixture
def watched(monkeypatch):
    """The catalogue with the watched ridge regression, which gives points."""
    monkeypatch.setattr(
        "tsattn.catalogue.MODELS", {**MODELS, "watched": Local("Watched", trained=True)}
    )
    monkeypatch.setattr(run, "POINTS", (*run.POINTS, "watched"))
    monkeypatch.setattr(Watched, "fits", ())
    monkeypatch.setattr(Watched, "asked", ())


def test_a_model_is_fitted_once_before_the_first_cutoff_and_reads_what_it_needs_later(
    folder, watched
):
    pack = Pack(folder)
    task = pack.tasks["long"]
    answer = run.forecast("watched", task, pack.cases(task), True)
    (fitted,) = Watched.fits
    assert fitted.columns.tolist() == ["unique_id", "ds", "y", "known", "past"]
    assert fitted["unique_id"].value_counts().to_dict() == {"b": 54, "a": 34}
    (first, ahead), (second, later) = Watched.asked
    assert first["ds"].max() == fitted["ds"].max()
    assert second["ds"].max() - first["ds"].max() == pd.Timedelta(days=2)
    assert len(second) == len(first) < len(fitted), "a few lags are read"
    assert [frame.columns.tolist() for frame in (ahead, later)] == [
        ["unique_id", "ds", "known"]
    ] * 2
    assert later["ds"].min() == second["ds"].max() + pd.Timedelta(days=1)
    assert not fitted.isna().any(axis=None)
    # 2020-02-10, row 40, is missing and takes the value before.
    of_b = fitted[fitted["unique_id"] == "b"].reset_index()
    for column in ("y", "known"):
        assert of_b[column][40] == of_b[column][39] != of_b[column][41]
    assert (np.ptp(answer, axis=3) == 0).all(), "a point stands for all quantiles"


def test_without_columns_a_table_has_none(folder, watched):
    pack = Pack(folder)
    run.forecast("watched", pack.tasks["long"], pack.cases(pack.tasks["long"]), False)
    assert Watched.fits[0].columns.tolist() == ["unique_id", "ds", "y"]
    assert Watched.asked[0][1] is None


def test_several_targets_are_series_of_one_table(folder):
    pack = Pack(folder)
    task = pack.tasks["alone"]
    answer = run.forecast("seasonal_naive", task, pack.cases(task), False)
    for case, quantiles in zip(pack.cases(task), answer, strict=True):
        np.testing.assert_allclose(
            quantiles[:, :, 0], case.past[["target", "past"]].to_numpy()[-4:-2]
        )


def test_a_forecaster_that_leaves_gaps_out_gets_them_but_for_rows_without_a_value(folder):
    pack = Pack(folder)
    task = pack.tasks["long"]
    case = pack.cases(task)[0]
    gaps = run.Tables(task, [case], columns=True, gaps=True)
    assert gaps.past(100)["y"].isna().sum() == 1
    assert not gaps.past(100)["known"].isna().any()
    only = Case(case.item, 0, case.past.iloc[:41], case.future, case.truth)
    assert run.Tables(task, [only], columns=True, gaps=True).past(1)["y"].tolist() == [
        case.past["target"].iloc[39]
    ]


def test_a_local_rule_reads_ten_seasons(folder, monkeypatch):
    pack = Pack(folder)
    seen = []
    fit = SeasonalNaive.fit
    monkeypatch.setattr(
        SeasonalNaive, "fit", lambda self, data: (seen.append(len(data)), fit(self, data))[1]
    )
    long = [
        case._replace(past=pd.concat([case.past] * 4))
        for case in pack.cases(pack.tasks["long"])[:1]
    ]
    long[0].past.index = pd.date_range("2019-01-01", periods=len(long[0].past))
    run.forecast("seasonal_naive", pack.tasks["long"], long, False)
    assert seen == [100]


@pytest.mark.parametrize("model", ["zero", "ridge"])
def test_a_forecast_follows_the_known_column_and_no_value_after_its_cutoff(folder, model):
    pack = Pack(folder)
    task = pack.tasks["long"]
    cases = pack.cases(task)
    plain = run.forecast(model, task, cases, True)
    moved = [case._replace(future=case.future + 2) for case in cases]
    change = run.forecast(model, task, moved, True) - plain
    assert (change[..., 4] > 0.5).all()
    alone = [run.forecast(model, task, some, False) for some in (cases, moved)]
    np.testing.assert_array_equal(*alone, "nobody reads the columns")
    # Targets and past columns of all rows from the first cutoff on are others now.
    path = folder / "data" / "long.csv.gz"
    table = pd.read_csv(path)
    table.loc[table["timestamp"] >= "2020-02-24", ["target", "past"]] += 99
    table.to_csv(folder / "data" / "other.csv.gz", index=False)
    other = pack.cases(task._replace(data={**LONG, "files": ["data/other.csv.gz"]}))
    first = [n for n, case in enumerate(cases) if case.window == 0]
    assert cases[first[0]].future.index[0] == pd.Timestamp("2020-02-24")
    changed = run.forecast(model, task, other, True)
    np.testing.assert_array_equal(changed[first], plain[first])
    assert not np.allclose(changed, plain)


# --- records --------------------------------------------------------------------------------------


@pytest.fixture
def start(folder, tmp_path, monkeypatch):
    """The script on the small pack: exit code; ``runs`` counts what was executed."""
    execute = run.execute

    def counted(cell, *rest):
        call.runs.append((cell["model"], cell["task"], cell["columns"]))
        return execute(cell, *rest)

    def call(*options):
        call.runs = []
        return run.main(["--pack", str(folder), "--out", str(call.out), *options])

    monkeypatch.setattr(run, "execute", counted)
    call.out = tmp_path / "results" / page.FILE
    return call


def test_a_record_holds_scores_relative_to_the_suites_naive_rule(start, folder, capsys):
    assert start("--model", "ridge", "--task", "long", "--task", "alone") == 0
    out, err = capsys.readouterr()
    assert out.startswith("ridge long: mase ")
    assert (err, out.count("\n")) == ("", 2)
    first, second = lines_of(start.out)
    pack = Pack(folder)
    task = pack.tasks["long"]
    expected = score(task, pack.cases(task), run.forecast("ridge", task, pack.cases(task), True))
    assert {name: first[name] for name in expected} == pytest.approx(expected, rel=1e-8)
    over = {
        "rel_mase": expected["mase"] / 2.0,
        "rel_sql": expected["sql"] / 1.5,
        "rel_wql": expected["wql"] / 0.5,
    }
    assert {name: first[name] for name in over} == pytest.approx(over, rel=1e-8)
    told = {
        "suite": FEV,
        "split": "development",
        "columns": True,
        "horizon": 2,
        "n_instances": 4,
        "params": 0,
    }
    assert {name: first[name] for name in told} == told
    assert {
        "seconds",
        "cpu_seconds",
        "commit",
        "versions",
        "machine",
        "settings",
        "weights",
    } <= first.keys()
    assert second["columns"] is False, "there are none"


def test_what_is_on_record_is_not_run_again_but_for_other_columns(start):
    assert start("--model", "ridge", "--task", "long") == 0
    assert start("--model", "ridge", "--task", "long", "--task", "alone") == 0
    assert start.runs == [("ridge", "alone", False)]
    start("--model", "ridge", "--task", "long", "--task", "alone", "--without-columns")
    assert start.runs == [("ridge", "long", False)], "a task without columns has one run"
    start("--model", "seasonal_naive", "--task", "long")
    start("--model", "seasonal_naive", "--task", "long", "--without-columns")
    assert start.runs == [], "a model that reads no columns has one run"


def test_weights_tell_runs_apart(start):
    start("--model", "zero", "--task", "long")
    start("--model", "zero", "--task", "long", "--weights", "zero-5h-small")
    assert start.runs == [("zero", "long", True)]
    assert len({row["weights"] for row in lines_of(start.out)}) == 2


def test_report_tasks_are_run_on_demand_alone(start, capsys):
    assert start("--model", "naive", "--task", "kept") == 2
    assert (
        "--task kept is no task of --split development; use one of long, alone, wide"
        in capsys.readouterr().err
    )
    assert start("--model", "naive", "--split", "report", "--task", "kept") == 0
    assert start.runs == [("naive", "kept", False)]
    assert "report tasks are run once for a release" in capsys.readouterr().err
    assert start("--model", "nobody") == 2
    assert "model 'nobody' is unknown" in capsys.readouterr().err


# --- the page -------------------------------------------------------------------------------------


def test_what_others_scored_is_taken_from_the_pack(folder, tmp_path, capsys):
    facts_read = json.loads((folder / "tasks.json").read_text())
    scores = {"MASE": 1.0, "SQL": 0.75, "WQL": 0.25}
    facts_read["models"]["rival"] = {
        FEV: {"file": "r.csv", "covariates": "known"},
        POOLED: {"test_data_leakage": "Yes"},
    }
    facts_read["models"]["rival"][POOLED]["file"] = "q.csv"
    facts_read["tasks"][0]["published"]["rival"] = scores | {"leaked": True}
    (folder / "tasks.json").write_text(json.dumps(facts_read))
    assert published.main(["--pack", str(folder), "--out", str(tmp_path / "p.jsonl")]) == 0
    rows = lines_of(tmp_path / "p.jsonl")
    suite = {"kind": "suite", "suite": FEV, "repository": "of/fev-bench", "commit": "0" * 40}
    task = {
        "kind": "published task",
        "task": "wide",
        "suite": POOLED,
        "split": "development",
        "horizon": 1,
    }
    task |= {
        "n_instances": 1,
        "targets": 1,
        "known": 1,
        "past": 0,
        "seasonal_naive": [2.0, None, 0.5],
    }
    model = {"kind": "published model", "model": "rival", "covariates": "known", "leaked": ["long"]}
    model |= {
        "saw_test_data": True,
        "files": ["r.csv", "q.csv"],
        "scores": {"long": [1.0, 0.75, 0.25]},
    }
    own = {"kind": "measured model", "model": "trees", "scores": {"alone": [2.0, 1.5, 0.5]}}
    for expected in (suite, task, model, own):
        assert expected in rows
    assert len(rows) == 2 + 5 + 2 + 1, "suites with a source, tasks, models, rivals"
    assert published.main(["--pack", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("published: --pack ")


def test_the_scores_of_others_on_record_are_those_of_the_pack(covariates_pack):
    rows = json.loads(json.dumps(published.published(Pack(covariates_pack))))
    assert rows == page.records.read_rows(RESULTS / page.PUBLISHED)


def others():
    """Two tasks of one suite, one with covariates, a task of the other and an own one; rivals of
    all kinds.
    """
    tasks = [("price", FEV, 2), ("weather", FEV, 0), ("orders", POOLED, 0), ("demand", "own", 3)]
    rows = [{"kind": "suite", "suite": FEV, "repository": "of/fev", "commit": "1" * 40}]
    for name, suite, known in tasks:
        split = SPLITS[suite == POOLED]
        base = [2.0, None if suite == POOLED else 1.0, 0.5]
        rows.append(
            {
                "kind": "published task",
                "task": name,
                "suite": suite,
                "split": split,
                "known": known,
                "past": 0,
            }
        )
        rows[-1] |= {"seasonal_naive": base}
    bases = {"price": [2.0, 1.0, 0.5], "weather": [2.0, 1.0, 0.5], "orders": [2.0, None, 0.5]}
    bolt = {"price": [1.0, 0.5, 0.4], "weather": [1.5, 0.75, 0.4], "orders": [1.0, None, 0.25]}
    rivals = [
        ("seasonal_naive", "none", [], False, bases),
        ("chronos_bolt_base", "none", [], True, bolt),
        (
            "tirex-2",
            "known, past",
            ["price"],
            False,
            bolt | {"price": [0.1, 0.1, 0.1], "weather": [0.5, 0.2, 0.1]},
        ),
        ("auto_arima", "none", [], False, {"weather": [1.0, 0.9, 0.1]}),
        ("unknown", "none", [], False, {"price": [0.6, 0.25, 0.1]}),
    ]
    for model, reads, leaked, saw, scores in rivals:
        row = {"kind": "published model", "model": model, "covariates": reads, "leaked": leaked}
        rows.append(row | {"saw_test_data": saw, "scores": scores})
    for model, scores in (
        ("lightgbm", [0.5, 0.25, 0.1]),
        ("lightgbm_without_covariates", [1.0, 0.5, 0.1]),
    ):
        rows.append({"kind": "measured model", "model": model, "scores": {"demand": scores}})
    return rows


def ran(task, rel, *, model="zero", columns=True, weights="ab" * 32, suite=FEV, **changes):
    scores = {
        "rel_mase": rel[0],
        "rel_sql": rel[1],
        "rel_wql": 9.0,
        "coverage80": 0.75,
        "cpu_seconds": 3.0,
    }
    where = {
        "kind": "task",
        "task": task,
        "suite": suite,
        "split": "development",
        "model": model,
        "columns": columns,
    }
    return {**where, "settings": {}, "weights": weights, **scores, **ORIGIN, **changes}


OURS = [
    ran("price", (0.4, 0.4)),
    ran("price", (0.8, 0.5), columns=False, coverage80=0.5),
    ran("weather", (0.9, 0.9), columns=False),
    ran("price", (1.0, 1.25), model="seasonal_naive", columns=False, weights=None),
    ran("demand", (0.5, 0.25), suite="own"),
]


@pytest.fixture
def results(tmp_path):
    """The folder of records, written."""

    def write(rows):
        for name, some in ((page.FILE, rows), (page.PUBLISHED, others())):
            (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in some))
        return tmp_path

    return write


def plain(text):
    return " ".join(text.split())


def test_leaked_results_are_replaced_and_missing_ones_count_as_naive():
    scores = page.published(others())
    assert scores["tirex-2"]["price"] == scores["chronos_bolt_base"]["price"] == (0.5, 0.5)
    assert scores["tirex-2"]["weather"] == (0.25, 0.2)
    assert scores["auto_arima"] == {"price": (1.0, 1.0), "weather": (0.5, 0.9)}, (
        "of its suite alone"
    )
    assert scores["tirex-2"]["orders"] == (0.5, 0.5), "WQL stands where there is no SQL"


def test_means_are_geometric_over_whole_groups_and_rows_follow_the_first_column(results):
    text = plain(page.means(SPLITS[0])(results(OURS)))
    assert "| model | reads | with covariates (1) | without (1) | all (2) | own tasks (1) |" in text
    ours = (
        "| **zero ababab** | future+past | 0.400/0.400 | 0.900/0.900 | 0.600/0.600 | 0.500/0.250 |"
    )
    # sqrt(.5 * .25) and sqrt(.5 * .2)
    rival = "| tirex-2 † | future+past | 0.500/0.500 | 0.250/0.200 | 0.354/0.316 | |"
    without = "| **zero ababab**, without | none | 0.800/0.500 | 0.900/0.900 | 0.849/0.671 | |"
    naive = "| **seasonal_naive** | none | 1.000/1.250 | | | |"
    own = "| lightgbm ‡ | future | | | | 0.250/0.250 | | lightgbm ‡, without | none | | | | 0.500/0.500 |"
    places = [text.index(line) for line in (ours, rival, naive, own)]
    assert places == sorted(places)
    assert without in text
    assert "| chronos_bolt_base | none |" in text, "it is marked where it has seen the data"
    assert "| unknown |" not in text
    assert f"Published scores: of/fev at `{'1' * 12}`. Commit `{'c' * 12}`" in text


def test_the_report_has_no_row_of_ours_before_it_is_run(results):
    text = plain(page.means(SPLITS[1])(results(OURS)))
    assert "| chronos_bolt_base † | none | | | | 0.500/0.500 |" in text
    assert "zero" not in text


def test_gains_are_ratios_of_runs_with_and_without(results):
    text = plain(page.gains(results(OURS)))
    assert "| task | **zero ababab** |" in text
    assert "| price | 0.500/0.800 |" in text
    assert "| geometric mean of 1 | 0.500/0.800 |" in text
    assert "weather" not in text, "it has no covariates"
    assert page.gains(results(OURS[:1])) == "No run is recorded yet."


def test_costs_are_those_of_tasks_with_covariates(results):
    text = plain(page.costs(results(OURS)))
    assert "| zero ababab | 2 | 75% | 6 | | zero ababab, without | 1 | 50% | 3 |" in text
    assert "seasonal_naive" not in text, "it has no intervals"
    assert page.costs(results([])) == "No run is recorded yet."


def test_each_task_has_a_line_and_the_best_model_that_has_not_seen_it(results):
    text = plain(page.by_task(results(OURS)))
    assert "| task | **zero ababab** | lightgbm | best published |" in text
    assert "| price | 0.400/0.400 | | unknown 0.300/0.250 |" in text
    assert "weather" not in text, "it has no covariates"
    assert "orders" not in text, "it was not run"
    assert "| demand | 0.500/0.250 | 0.250/0.250 | |" in text


def test_a_task_that_nobody_published_is_refused(results):
    with pytest.raises(ValueError, match=r"covariates_published\.jsonl lacks the task new"):
        page.read(results([OURS[0] | {"task": "new"}]))


def test_our_seasonal_naive_is_that_of_the_suites_on_record():
    rows = page.read(RESULTS)
    actual = [
        row["rel_mase"]
        for row in rows
        if row["kind"] == "task" and row["model"] == "seasonal_naive"
    ]
    assert len(actual) >= 10
    np.testing.assert_allclose(actual, 1.0, rtol=1e-6)
