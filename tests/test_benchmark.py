"""The benchmark suite: every window judged, nothing run twice, the origin of each record."""

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT

from tsattn import benchmark
from tsattn.benchmark import REQUIRED, Suite, current_commit, find_record, read_table, run_suite
from tsattn.catalogue import MODELS
from tsattn.forecaster import Forecaster
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.storage import read_rows

ROWS = 120
HORIZON = 5
SEASON = 7
SHARES = "0.6,0.2,0.2"


def make_table(path, *, rows=ROWS, seed=0):
    chance = np.random.default_rng(seed)
    days = pd.date_range("2024-01-01", periods=rows, freq="D")
    noise = chance.normal(size=(rows, 2)).cumsum(axis=0)
    pd.DataFrame({"date": days, "u": noise[:, 0], "v": 40 + 9 * noise[:, 1]}).to_csv(
        path, index=False
    )
    return path


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path / "daily.csv")


def suite_of(table, /, **changes):
    given = {
        "table": table,
        "split": SHARES,
        "horizons": (HORIZON,),
        "models": ("naive", "seasonal_naive"),
    }
    return Suite(**given | changes)


@pytest.fixture
def counted(monkeypatch):
    """Titles of the runs that were really run."""
    done = []
    execute = benchmark._Run.execute

    def counting(run):
        done.append(run.title)
        return execute(run)

    monkeypatch.setattr(benchmark._Run, "execute", counting)
    return done


def loop_scores(table, forecast):
    """The scores by the slow way: one window after another, one cell after another."""
    values = pd.read_csv(table).drop(columns="date").to_numpy()
    train = int(ROWS * 0.6)
    test = int(ROWS * 0.2)
    mean = values[:train].mean(axis=0)
    scale = values[:train].std(axis=0)
    scaled = (values - mean) / scale
    first = ROWS - test
    errors = [
        scaled[end + step, c] - forecast(scaled[:end, c], step)
        for end in range(first, ROWS - HORIZON + 1)
        for step in range(HORIZON)
        for c in range(2)
    ]
    return np.mean(np.square(errors)), np.mean(np.abs(errors)), test - HORIZON + 1


def test_naive_scores_equal_loops_over_every_window(table):
    naive, seasonal = run_suite(suite_of(table))
    mse, mae, n_windows = loop_scores(table, lambda past, step: past[-1])
    assert (naive["mse"], naive["mae"]) == pytest.approx((mse, mae), rel=1e-12)
    assert naive["n_windows"] == n_windows == 20
    mse, mae, _ = loop_scores(table, lambda past, step: past[len(past) - SEASON + step % SEASON])
    assert (seasonal["mse"], seasonal["mae"]) == pytest.approx((mse, mae), rel=1e-12)
    assert seasonal["season_length"] == seasonal["context"] == SEASON


def test_what_draws_no_random_numbers_runs_once(table):
    models = ("least_squares", "nlinear", "naive")
    grid = suite_of(table, models=models, context=8, max_epochs=1, seeds=(0, 1))
    runs = [(record["model"], record["seed"]) for record in run_suite(grid)]
    assert runs == [("least_squares", 0), ("nlinear", 0), ("nlinear", 1), ("naive", 0)]


def test_the_numbers_of_pretrained_weights_count(table):
    (record,) = run_suite(suite_of(table, models=("zero",)))
    network = PretrainedForecaster(HORIZON).fit([0.0]).network_
    assert record["params"] == sum(numbers.numel() for numbers in network.parameters())


def test_a_record_says_what_was_run_and_where_it_comes_from(table):
    record = run_suite(suite_of(table, models=("seasonal_naive",), season_length=3, seeds=(4, 5)))[
        0
    ]
    assert set(REQUIRED) <= set(record)
    assert json.loads(json.dumps(record)) == record
    assert (record["dataset"], record["split"], record["horizon"]) == (
        "daily",
        [72, 24, 24],
        HORIZON,
    )
    assert (record["model"], record["seed"], record["params"], record["season_length"]) == (
        "seasonal_naive",
        4,
        0,
        3,
    )
    assert set(record["versions"]) == {"python", "torch", "numpy", "pandas", "lightning", "tsattn"}
    assert record["peak_mb"] > 10
    assert record["fit_seconds"] >= 0
    assert record["predict_seconds"] > 0


def test_the_grid_is_run_in_order_and_naive_models_once(table, counted):
    settings = {"nlinear": {"batch_size": 16}}
    grid = suite_of(
        table,
        models=("nlinear", "naive"),
        horizons=(2, 3),
        seeds=(0, 1),
        context=8,
        max_epochs=1,
        settings=settings,
    )
    records = run_suite(grid)
    assert [(r["horizon"], r["model"], r["seed"]) for r in records] == [
        *((2, "nlinear", 0), (2, "nlinear", 1), (2, "naive", 0)),
        *((3, "nlinear", 0), (3, "nlinear", 1), (3, "naive", 0)),
    ]
    trained = records[0]
    assert (trained["context"], trained["params"]) == (8, 8 * 2 + 2)
    assert (trained["config"]["batch_size"], trained["config"]["max_epochs"]) == (16, 1)
    assert trained["mse"] != records[1]["mse"], "another seed is another fit"
    assert len({r["config_hash"] for r in records if r["model"] == "nlinear"}) == 1


def test_a_trained_run_repeats_itself(table):
    once, twice = (
        run_suite(suite_of(table, models=("nlinear",), context=8, max_epochs=2, seeds=(3,)))[0]
        for _ in "ab"
    )
    same = ("mse", "mae", "mse_original", "config_hash", "data_sha256")
    assert [once[name] for name in same] == [twice[name] for name in same]


def test_a_record_says_how_errors_grow_and_how_training_went(table):
    trained, naive = run_suite(
        suite_of(table, models=("nlinear", "naive"), horizons=(3,), context=8, max_epochs=2)
    )
    for record in (trained, naive):
        for name in ("mse", "mae"):
            assert len(record[f"{name}_by_step"]) == 3
            assert np.mean(record[f"{name}_by_step"]) == pytest.approx(record[name], abs=1e-5)
    assert trained["epochs"] == 2
    assert trained["best_epoch"] in (1, 2)
    assert trained["valid_loss"] > 0
    assert trained["timed_out"] is False
    assert "epochs" not in naive


def test_a_suite_limits_the_time_of_every_fit(table):
    (record,) = run_suite(
        suite_of(table, models=("nlinear",), context=8, max_epochs=500, max_time="0.01s")
    )
    assert record["timed_out"]
    assert record["epochs"] < 500
    assert record["config"]["max_time"] == "0.01s"


def test_the_trained_models_see_training_and_validation_rows_only(table, tmp_path):
    """Change every test row but the first contexts' reach: the fit, hence the first forecast, stays
    the same.
    """
    frame = pd.read_csv(table)
    changed = frame.copy()
    changed.loc[96:, ["u", "v"]] += 1000.0
    changed.to_csv(tmp_path / "other.csv", index=False)
    fits = []

    def keep(run):
        model = benchmark.make_forecaster(run.model, run.horizon, **run.settings)
        fits.append(model.fit(run.source.panel.rows(0, run.source.split.bounds[1])).history_)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark._Run, "execute", keep)
        for path in (table, tmp_path / "other.csv"):
            run_suite(suite_of(path, models=("nlinear",), context=8, max_epochs=2))
    pd.testing.assert_frame_equal(*fits)


def test_what_stands_in_the_folder_is_found_and_not_run(table, tmp_path, counted):
    out = tmp_path / "new" / "records"
    first = run_suite(suite_of(table), out=out)
    assert len(counted) == len(read_rows(out / "records.jsonl")) == 2
    again = run_suite(suite_of(table), out=out)
    assert len(counted) == 2
    assert again == first
    more = run_suite(suite_of(table, models=("naive", "drift")), out=out)
    assert counted[2:] == ["daily horizon 5 drift seed 0"]
    assert more[0] == first[0]


def test_the_time_left_is_told_by_the_runs_made_here(table, tmp_path):
    suite = suite_of(table, models=("naive", "seasonal_naive", "drift"))
    run_suite(suite, out=tmp_path / "other")
    file = f"{suite.name}.jsonl"
    lines = []

    def tell(line):  # another suite is done with two of the runs as this one begins
        if not lines:
            done = (tmp_path / "other" / file).read_text().splitlines(keepends=True)
            (tmp_path / file).write_text("".join(done[:2]))
        lines.append(line)

    run_suite(suite, out=tmp_path, progress=tell)
    assert len(lines) == 3
    assert not any(" left" in line for line in lines)


def test_a_killed_suite_goes_on_where_it_stopped(table, tmp_path, monkeypatch):
    execute = benchmark._Run.execute
    done = []

    def dying(run):
        if done:
            raise KeyboardInterrupt
        done.append(run.model)
        return execute(run)

    monkeypatch.setattr(benchmark._Run, "execute", dying)
    with pytest.raises(KeyboardInterrupt):
        run_suite(suite_of(table), out=tmp_path / "out")
    assert len(read_rows(tmp_path / "out" / "records.jsonl")) == 1
    monkeypatch.setattr(
        benchmark._Run, "execute", lambda run: done.append(run.model) or execute(run)
    )
    records = run_suite(suite_of(table), out=tmp_path / "out")
    assert done == ["naive", "seasonal_naive"]
    assert [record["model"] for record in records] == done


@pytest.mark.parametrize("harm", ["half", "empty", "field", "other"])
def test_half_written_and_foreign_records_are_run_again(table, tmp_path, counted, harm):
    out = tmp_path / "out"
    (record,) = run_suite(suite_of(table, models=("naive",)), out=out)
    path = out / "records.jsonl"
    text = path.read_text()
    spoilt = {
        "half": text[: len(text) // 2],
        "empty": "",
        "field": json.dumps({k: v for k, v in record.items() if k != "mae"}) + "\n",
        "other": json.dumps(record | {"data_sha256": "0" * 64}) + "\n",
    }
    path.write_text(spoilt[harm])
    (again,) = run_suite(suite_of(table, models=("naive",)), out=out)
    assert len(counted) == 2
    assert again["mse"] == record["mse"]
    assert (
        find_record(read_rows(path), {"model": "naive", "data_sha256": record["data_sha256"]})
        == again
    )
    assert len(read_rows(path)) == 1 + (harm == "other")


def test_a_file_that_holds_no_records_is_refused_before_any_run(table, tmp_path, counted):
    (tmp_path / "records.jsonl").write_text("date,u\n1,2\n")
    with pytest.raises(
        ValueError, match=r"records\.jsonl, line 1 is no JSON object; remove the line"
    ):
        run_suite(suite_of(table, models=("naive",)), out=tmp_path)
    assert counted == []


def test_changed_data_or_settings_are_another_run(table, tmp_path, counted):
    out = tmp_path / "out"
    run_suite(suite_of(table), out=out)
    run_suite(suite_of(table, season_length=3, models=("seasonal_naive",)), out=out)
    run_suite(suite_of(table, split="0.7,0.1,0.2", models=("naive",)), out=out)
    make_table(table, seed=1)
    run_suite(suite_of(table, models=("naive",)), out=out)
    assert len(counted) == len(read_rows(out / "records.jsonl")) == 5


def test_the_hash_covers_the_configuration_and_nothing_else(table, tmp_path):
    def hashed(**changes):
        source = benchmark._sources(suite_of(table, **changes), None)[0]
        (run,) = benchmark._runs(suite_of(table, **changes), source)
        return run.key["config_hash"]

    small = {"models": ("mlr",), "context": 16}
    plain = hashed(**small)
    longer = make_table(tmp_path / "longer.csv", rows=300, seed=2)
    assert hashed(**small, horizons=(3,)) == hashed(**small, seeds=(9,)) == plain
    assert hashed(**small, table=longer, split="0.5,0.3,0.2") == plain
    assert hashed(**small, max_epochs=3) != plain
    assert hashed(**small | {"context": 24}) != plain
    assert hashed(**small, settings={"mlr": {"dropout": 0.0}}) != plain
    assert hashed(**small, settings={"mlr": {"linear_skip": False}}) != plain
    assert hashed(**small, settings={"mlr": {"patience": None}}) != plain
    # What asks for nothing is as if it did not exist: an option of a later version leaves old
    # records valid.
    assert hashed(**small, settings={"mlr": {"ranks": None, "rotary": False}}) == plain
    assert hashed(**small | {"models": ("standard",)}) != plain
    lists, tuples = ({"mlr": {"ranks": kind((2, 1, 1))}} for kind in (list, tuple))
    assert hashed(**small, settings=lists) == hashed(**small, settings=tuples)
    assert hashed(models=("seasonal_naive",)) != hashed(
        models=("seasonal_naive",), season_length=SEASON
    )


def test_long_tables_are_judged_series_by_series(tmp_path):
    wide = pd.read_csv(make_table(tmp_path / "wide.csv"))
    long = wide.melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    long.sample(frac=1, random_state=0).to_csv(tmp_path / "long.csv", index=False)
    (by_channel,) = run_suite(suite_of(tmp_path / "wide.csv", models=("naive",)))
    (by_series,) = run_suite(suite_of(tmp_path / "long.csv", models=("naive",)))
    assert by_series["mse"] == pytest.approx(by_channel["mse"], rel=1e-12)
    assert by_series["n_windows"] == by_channel["n_windows"]
    long[:-3].to_csv(tmp_path / "long.csv", index=False)
    with pytest.raises(
        ValueError, match="series of one length; series 'v' has 117 rows of 120: cut all series"
    ):
        run_suite(suite_of(tmp_path / "long.csv"))


def test_suites_come_from_toml_and_what_is_given_stands_above(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text(
        'datasets = ["ETTh1"]\nhorizons = [96, 192]\nmodels = ["naive"]\n[settings.mlr]\ndropout ='
        " 0.1\n"
    )
    suite = Suite.from_toml(path, horizons=(24,), seeds=(), context=None)
    assert (suite.datasets, suite.horizons, suite.models, suite.seeds) == (
        ("ETTh1",),
        (24,),
        ("naive",),
        (0,),
    )
    assert suite.name == "suite", "its records stand in suite.jsonl"
    assert suite.settings == {"mlr": {"dropout": 0.1}}


def test_what_is_given_stands_above_the_settings_of_a_file(tmp_path):
    path = tmp_path / "suite.toml"
    text = "context = 48\n[settings.linear]\ncontext = 96\nmax_epochs = 4\npatience = 2\n"
    path.write_text(text, encoding="utf-8-sig")  # some editors write a byte order mark
    suite = Suite.from_toml(path, datasets=("ETTh1",), max_epochs=1)
    assert suite.settings_of("nlinear") == {"context": 96, "patience": 2}


def test_a_run_with_a_calendar_is_another_run(table, tmp_path):
    grid = {"models": ("mlr",), "context": 16, "max_epochs": 1}
    reading = {"mlr": {"calendar": ["weekday"]}}
    (plain,) = run_suite(suite_of(table, **grid), out=tmp_path)
    (record,) = run_suite(suite_of(table, **grid, settings=reading), out=tmp_path)
    assert record["config"]["calendar"] == ["weekday"]
    assert record["config_hash"] != plain["config_hash"]
    assert record["params"] > plain["params"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"past_cols": ("u",)},
            "judged on the values alone; leave out past_cols=, or run backtest",
        ),
        ({"calendar": ("hour",)}, "judged on the values alone; leave out calendar="),
    ],
)
def test_columns_that_no_model_would_read_are_refused(table, columns, message):
    with pytest.raises(ValueError, match=message):
        suite_of(table, columns=columns)
    with pytest.raises(ValueError, match="ETTh1 has a card that says how it is read; leave out"):
        Suite(datasets=("ETTh1",), columns=columns)


def test_every_model_of_the_catalogue_can_be_planned(table):
    grid = suite_of(table, models=tuple(MODELS), context=24, horizons=(3,), seeds=(5,))
    planned = {run.model: run for run in benchmark._runs(grid, benchmark._sources(grid, None)[0])}
    assert set(planned) == set(MODELS)
    assert planned["mlr"].settings["val_size"] == planned["mlr"].source.split.valid > 0
    for name in ("mlr", "rlinear", "ridge", "gbm", "deepar"):
        assert planned[name].settings["random_state"] == 5, name


@pytest.mark.parametrize(("model", "n_rows"), [("ridge", 72), ("nlinear", 96)])
def test_models_without_early_stopping_learn_from_training_rows_alone(
    table, monkeypatch, model, n_rows
):
    fitted_rows = []
    fit = Forecaster.fit

    def watched(forecaster, panel, **options):
        fitted_rows.append(int(panel.lengths.max()))
        return fit(forecaster, panel, **options)

    monkeypatch.setattr(Forecaster, "fit", watched)
    (record,) = run_suite(suite_of(table, models=(model,), context=24, horizons=(3,), max_epochs=1))
    assert fitted_rows == [n_rows]
    assert record["n_windows"] == 22


def test_a_group_shares_settings_and_single_models_stand_above(table):
    settings = {"linear": {"batch_size": 16, "loss": "huber"}, "dlinear": {"loss": "mae"}}
    grid = suite_of(
        table, models=("nlinear", "dlinear", "naive"), context=8, max_epochs=1, settings=settings
    )
    nlinear, dlinear, naive = run_suite(grid)
    assert (nlinear["config"]["batch_size"], nlinear["config"]["loss"]) == (16, "huber")
    assert (dlinear["config"]["batch_size"], dlinear["config"]["loss"]) == (16, "mae")
    assert "loss" not in naive["config"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_windows = 10", "no field 'n_windows'; known are datasets, .*every window is judged"),
        ("step = 24", "no field 'step'"),
        ("drop_last = true", "no field 'drop_last'"),
        ("horizons = 96", "horizons = 96 must be a list"),
        ("horizons = ['a']", "horizon must be a whole number"),
        ("models = ['prophet']", "'prophet' is unknown; use one such as"),
        ("models = [['naive']]", r"\['naive'\] is unknown; did you mean naive"),
        ("seeds = [-1]", "a seed must be a whole number of at least 0; got -1"),
        ("max_time = '15 parsecs'", "max_time must be seconds or a text such as '90s'"),
        ("context = 0", "context must be a whole number of at least 1; got 0"),
        ("settings = {mlr = 3}", "settings of mlr must be a table"),
        (
            "settings = {mlr = {horizon = 3}}",
            "horizon = 3, which the suite sets by horizons; leave",
        ),
        ("settings = {mlr = {val_size = 3}}", "val_size = 3, which the suite sets by split; leave"),
        ("settings = {mlr = {random_state = 3}}", "which the suite sets by seeds; leave it out"),
        (
            "table = 'a.csv'",
            "a suite file has no field 'table'; .*a table and its split are given",
        ),
        ("horizons = [", "is no TOML file"),
    ],
)
def test_bad_suites_are_refused(tmp_path, text, message):
    path = tmp_path / "suite.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Suite.from_toml(path, datasets=("ETTh1",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"table": None, "split": None}, "nothing to judge on; name a data set"),
        ({"datasets": ("own",)}, "no data set is called 'own'; .* by table='FILE.csv' and split="),
        ({"split": None}, "a table and its split go together"),
        ({"horizons": ()}, "no card that lists horizons"),
        ({"models": ()}, "at least one model"),
        ({"models": "naive"}, r"models must be a list; got 'naive'; write \['naive'\]"),
        ({"horizons": 6}, r"horizons must be a list; got 6; write \[6\]"),
        ({"split": "0.7,0.2"}, "three shares that sum to 1, such as 0.7,0.1,0.2; got '0.7,0.2'"),
        ({"horizons": (25,)}, "has 24 test rows, too few for horizon 25"),
        ({"models": ("nlinear",)}, "72 training rows; nlinear needs 341"),
        (
            {"models": ("nlinear",), "context": 8, "split": "0.7,0.02,0.28"},
            "validation rows, too few for horizon 5",
        ),
        ({"models": ("mlr",), "context": 8}, "at least mlr's patch_len = 16; got 8"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_run(
    table, tmp_path, counted, changes, message
):
    with pytest.raises(ValueError, match=message):
        run_suite(suite_of(table, **changes), out=tmp_path / "out")
    assert counted == []
    assert not (tmp_path / "out").exists()


def test_missing_values_are_filled_only_where_the_suite_says_so(table, tmp_path, counted):
    frame = pd.read_csv(table)
    frame.loc[20, "u"] = np.nan
    frame.to_csv(table, index=False)
    with pytest.raises(ValueError, match=r"column 'u' is missing .* missing='interpolate'"):
        run_suite(suite_of(table), out=tmp_path / "out")
    assert counted == []
    run_suite(suite_of(table, columns={"missing": "interpolate"}), out=tmp_path / "out")
    assert len(counted) == 2


def test_each_policy_for_missing_values_has_a_record_of_its_own(table, tmp_path, counted):
    frame = pd.read_csv(table)
    frame.loc[[20, 21, 22, 90], "u"] = np.nan
    frame.to_csv(table, index=False)
    scores = {}
    for missing in ("interpolate", "ffill"):
        suite = suite_of(table, columns={"missing": missing}, models=("seasonal_naive",))
        (alone,) = run_suite(suite)
        (record,) = run_suite(suite, out=tmp_path / "out")
        assert record["mse"] == alone["mse"]
        scores[missing] = record["mse"]
    assert scores["interpolate"] != scores["ffill"]
    n_runs = len(counted)
    run_suite(suite, out=tmp_path / "out")
    assert len(counted) == n_runs


def test_a_network_that_is_told_to_mask_has_a_record_of_its_own(table, tmp_path, counted):
    small = {"patch_len": 4, "patch_stride": 4, "d_model": 4, "n_layers": 1, "max_epochs": 1}
    for settings in (small, small | {"missing": "mask"}):
        suite = suite_of(table, models=("mlr",), context=8, settings={"mlr": settings})
        run_suite(suite, out=tmp_path / "out")
    assert len(counted) == 2


def test_a_card_that_would_leave_windows_out_is_refused(monkeypatch, table):
    read = benchmark.read_table(table)

    class Card:
        name = "x"
        file = "x.csv"
        seasonality = 7
        protocol = None

    class Loaded:
        card = Card
        panel = read
        split = benchmark.Split(72, 24, 24)

    @dataclasses.dataclass(frozen=True)
    class Protocol:
        step: int = 1
        drop_last: bool = False
        context_reach: bool = True
        context: int = 8
        horizons: tuple = (2,)

    monkeypatch.setattr(benchmark, "load_dataset", lambda name, data_dir: Loaded)
    Card.protocol = Protocol()
    assert run_suite(Suite(datasets=("ETTh1",), models=("naive",)))[0]["n_windows"] == 23
    for wrong in ({"step": 2}, {"drop_last": True}, {"context_reach": False}):
        Card.protocol = Protocol(**wrong)
        with pytest.raises(ValueError, match=r"card x asks for .* make scores comparable"):
            run_suite(Suite(datasets=("ETTh1",), models=("naive",)))


def test_a_judge_that_loses_windows_is_caught(monkeypatch, table):
    roll = benchmark.roll
    monkeypatch.setattr(
        benchmark, "roll", lambda model, panel, ends, **kw: roll(model, panel, ends[:-1], **kw)
    )
    with pytest.raises(
        ValueError, match="naive was judged on 39 of 40 windows; all of them must count"
    ):
        run_suite(suite_of(table, models=("naive",)))


def test_tables_that_are_none_are_refused(tmp_path):
    cases = {
        "empty.csv": b"",
        "ragged.csv": b"a,b\n1,2\n1,2,3,4\n",
        "binary.csv": b"\xff\xfe\x00\x81\x82",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is no readable CSV table"):
            read_table(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.csv; check the path"):
        read_table("nowhere.csv")


def test_the_commit_is_the_checkouts_own_and_nobody_elses(tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "tsattn"
    package.mkdir(parents=True)
    monkeypatch.setattr(benchmark, "__file__", str(package / "benchmark.py"))
    assert current_commit() is None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(package.parent)]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert current_commit() == head
    installed = package.parent / "venv" / "tsattn"
    installed.mkdir(parents=True)
    monkeypatch.setattr(benchmark, "__file__", str(installed / "benchmark.py"))
    assert current_commit() is None
    monkeypatch.setenv("PATH", "")
    assert current_commit() is None


def test_peak_memory_is_that_of_the_run_where_the_kernel_can_tell():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc")
    block = np.ones(40_000_000)  # 320 MB
    high = benchmark._peak_mb()
    del block
    benchmark._reset_peak()
    assert benchmark._peak_mb() < high - 200


# Test scores that need no parameters, at horizons 96, 192, 336 and 720: (MSE, MAE) to the four
# digits published.
NAIVE = {
    "ETTh1": [(1.2944, 0.7132), (1.3249, 0.7331), (1.3299, 0.7460), (1.3351, 0.7550)],
    "ETTh2": [(0.4317, 0.4216), (0.5337, 0.4725), (0.5973, 0.5109), (0.5945, 0.5190)],
    "ETTm1": [(1.2139, 0.6648), (1.2612, 0.6904), (1.2866, 0.7072), (1.3223, 0.7295)],
    "ETTm2": [(0.2665, 0.3278), (0.3400, 0.3707), (0.4121, 0.4099), (0.5216, 0.4656)],
    "weather": [(0.2591, 0.2542), (0.3092, 0.2917), (0.3764, 0.3377), (0.4652, 0.3935)],
}
SEASONAL = {
    "ETTh1": [(0.5122, 0.4333), (0.5808, 0.4692), (0.6499, 0.5008), (0.6554, 0.5141)],
    "ETTh2": [(0.3905, 0.3802), (0.4819, 0.4285), (0.5324, 0.4656), (0.5255, 0.4739)],
    "ETTm1": [(0.4227, 0.3865), (0.4631, 0.4057), (0.4961, 0.4258), (0.5739, 0.4645)],
    "ETTm2": [(0.2631, 0.3005), (0.3206, 0.3366), (0.3764, 0.3700), (0.4708, 0.4215)],
    "weather": [(0.3167, 0.2880), (0.3426, 0.3049), (0.3827, 0.3309), (0.4431, 0.3701)],
}
WINDOWS = {
    "ETTh": [2785, 2689, 2545, 2161],
    "ETTm": [11425, 11329, 11185, 10801],
    "weat": [10444, 10348, 10204, 9820],
}


def check_published(name, data_dir, horizons):
    """The horizons are the first ones of the card, or, where none is named, all of them."""
    models = ("naive", "seasonal_naive")
    suite = Suite(datasets=(name.upper(),), models=models, horizons=horizons)
    records = run_suite(suite, data_dir=data_dir)
    by_model = {model: [r for r in records if r["model"] == model] for model in models}
    stop = len(horizons) or None
    for model, expected in (("naive", NAIVE[name]), ("seasonal_naive", SEASONAL[name])):
        actual = by_model[model]
        assert [(round(r["mse"], 4), round(r["mae"], 4)) for r in actual] == expected[:stop]
        assert [r["n_windows"] for r in actual] == WINDOWS[name[:4]][:stop]
        assert {r["dataset"] for r in actual} == {name}


# All horizons of a table by the hour; those of the large tables take minutes.
@pytest.mark.parametrize(
    ("name", "horizons"),
    [("ETTh1", (96,)), ("ETTh2", ()), ("ETTm1", (96,)), ("ETTm2", (96,)), ("weather", (96,))],
)
def test_naive_models_score_what_is_published(name, horizons, data_dir):
    check_published(name, data_dir, horizons)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAIVE)
def test_naive_models_score_what_is_published_at_every_horizon(name, data_dir):
    check_published(name, data_dir, ())


def test_the_same_numbers_come_from_a_table_without_card(data_dir, tmp_path):
    """ETTh1 cut to its judged rows has the shares 0.6, 0.2, 0.2."""
    pd.read_csv(data_dir / "ETTh1.csv", nrows=14400).to_csv(tmp_path / "own.csv", index=False)
    suite = Suite(
        table=tmp_path / "own.csv",
        split="0.6,0.2,0.2",
        horizons=(96,),
        models=("naive", "seasonal_naive"),
        season_length=24,
    )
    naive, seasonal = run_suite(suite)
    assert (round(naive["mse"], 4), round(naive["mae"], 4), naive["n_windows"]) == (
        1.2944,
        0.7132,
        2785,
    )
    assert (round(seasonal["mse"], 4), round(seasonal["mae"], 4)) == (0.5122, 0.4333)


@pytest.mark.parametrize("name", ["headline", "variants"])
def test_committed_records_are_found_by_the_settings_of_today(name, data_dir):
    """The hash of a configuration must not move with the objects that hold it: recorded runs would
    be run again.
    """
    root = ROOT / "benchmarks"
    suite = Suite.from_toml(
        root / "suite" / f"{name}.toml", datasets=("ETTh1",), horizons=(96, 336)
    )
    rows = [
        row for row in read_rows(root / "results" / f"{name}.jsonl") if row["dataset"] == "ETTh1"
    ]
    runs = [
        run
        for source in benchmark._sources(suite, data_dir)
        for run in benchmark._runs(suite, source)
    ]
    lacking = [run.title for run in runs if benchmark.find_record(rows, run.key) is None]
    assert len(runs) >= 10
    assert lacking in ([], ["ETTh1 horizon 336 gbm seed 0"])  # which was never run
