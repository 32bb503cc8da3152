"""Do the pages say what the records say, and are records that do not compare refused?"""

import hashlib
import json

import pytest
from scripts import load

report = load("report")


def record(model, *, horizon=96, seed=0, mse=0.5, dataset="ETTh1", **changes):
    config = changes.pop("config", {"model": model, "context": 336})
    return {
        "dataset": dataset,
        "data_sha256": f"data of {dataset}",
        "split": [8640, 2880, 2880],
        "model": model,
        "horizon": horizon,
        "context": 336,
        "seed": seed,
        "n_windows": 2881 - horizon,
        "mse": mse,
        "mae": mse / 2,
        "params": 0,
        "fit_seconds": 61.23,
        "predict_seconds": 0.5,
        "peak_mb": 512.5,
        "versions": {"torch": "2.6"},
        "machine": "a machine",
        "config": config,
        "config_hash": hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest(),
        "commit": "0123456789abcdef",
        "finished": "2026-01-01T00:00:00+00:00",
        **changes,
    }


ROWS = [
    record("naive", mse=1.25),
    record("seasonal_naive", mse=0.75),
    record("mlr", mse=0.3, seed=0),
    record("mlr", mse=0.4, seed=1),
]


def make_checkout(root):
    """A checkout with a README and the records ``ROWS``, all of them in the headline."""
    (root / "benchmarks" / "results").mkdir(parents=True)
    marks = "{}\n{}\n".format(*report.conformance.MARKS)
    zero = "\n".join(report.zero_shot_page.README_MARKS)
    (root / "README.md").write_text(f"# Name\n\n{zero}\nbefore\n{report.BEGIN}\n{report.END}\nafter\n{marks}")
    (root / "docs").mkdir()
    (root / "docs" / "scale.md").write_text("# Scale\n\n{}\n{}\nwhat follows\n".format(*report.scale.MARKS))
    for name, page in report.experiments.items():
        if hasattr(page, "MARKS"):
            marks = [*page.MARKS, *(report.arms.MARKS if name == "zero-shot" else ())]
            (root / "docs" / f"{name}.md").write_text("\n".join(["# Experiment", "", *marks, ""]))
    marks = "\n".join(mark for pair in report.levers.MARKS.values() for mark in pair) + "\n"
    (root / "docs" / "log.md").write_text(f"# Log\n\n{marks}what follows\n")
    write(root, ROWS, ROWS)
    return root


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


def write(root, rows, headline):
    folder = root / "benchmarks" / "results"
    for old in folder.iterdir():
        old.unlink()
    for number, row in enumerate(rows):
        (folder / f"{number}.json").write_text(json.dumps(row))
    (folder / "headline.jsonl").write_text("".join(json.dumps(row) + "\n" for row in headline))


def run(root, *options):
    return report.main([*options, "--root", str(root)])


def test_the_table_holds_the_means_and_marks_the_best(checkout):
    assert run(checkout) == 0
    page = (checkout / "README.md").read_text()
    assert "before\n<!-- results:begin -->\n" in page
    assert f"{report.END}\nafter\n" in page
    assert "| data set | horizon | windows |               mlr |         naive | seasonal_naive |" in page
    assert "| -------- | ------- | ------- | ----------------: | ------------: | -------------: |" in page
    assert "| ETTh1    | 96      | 2785    | **0.350 / 0.175** | 1.250 / 0.625 |  0.750 / 0.375 |" in page
    assert "mean over up to 2 seeds" in page
    assert "Commit `0123456789ab`; torch 2.6; a machine." in page


def test_models_that_are_the_same_are_bold_together(checkout):
    rows = [*ROWS[:2], record("mlr", mse=0.3), record("standard", mse=0.3 + 1e-9), record("dlinear", mse=0.30002)]
    write(checkout, rows, rows)
    run(checkout)
    line = next(each for each in (checkout / "README.md").read_text().splitlines() if each.startswith("| ETTh1"))
    assert line.count("**0.300 / 0.150**") == 2


def test_the_page_holds_every_record(checkout):
    rows = [*ROWS, *(record("naive", horizon=h, mse=h / 100, dataset="Other") for h in (720, 96))]
    write(checkout, rows, ROWS)
    run(checkout)
    page = (checkout / "docs" / "benchmarks.md").read_text()
    assert "| 96 | mlr | 336 | 2 | 2785 | 0.3500 ± 0.0707 | 0.1750 ± 0.0354 |  | 0 | 61.2 | 0.5 | 512 |" in page
    assert page.index("## ETTh1") < page.index("## Other") < page.index("| 96 | naive | 336 | 1 | 2785 | 0.9600")
    assert page.index("0.9600") < page.index("7.2000"), "horizons in the order of numbers"
    assert "8640 training, 2880 validation and 2880 test rows." in page


def test_check_is_silent_on_rendered_pages_and_catches_a_typed_number(checkout, capsys):
    assert run(checkout, "--check") == 1, "nothing was rendered yet"
    run(checkout)
    capsys.readouterr()
    assert run(checkout, "--check") == 0
    assert capsys.readouterr() == ("", "")
    for name, number, typed in (("README.md", "0.350", "0.349"), ("docs/benchmarks.md", "0.7500", "0.7400")):
        path = checkout / name
        honest = path.read_text()
        path.write_text(honest.replace(number, typed))
        assert path.read_text() != honest
        assert run(checkout, "--check") == 1
        assert f"{name} differs from the records; run `make report`" in capsys.readouterr().err
        assert typed in path.read_text(), "a check mends nothing"
        path.write_text(honest)


def test_text_around_the_marks_may_change(checkout):
    run(checkout)
    readme = checkout / "README.md"
    readme.write_text(readme.read_text().replace("before", "other words"))
    assert run(checkout, "--check") == 0


def test_without_records_the_pages_say_so(checkout):
    write(checkout, [], [])
    assert run(checkout) == 0
    assert "No run is recorded yet." in (checkout / "README.md").read_text()
    assert "No run is recorded yet." in (checkout / "docs" / "benchmarks.md").read_text()


def without(row, field):
    return {name: value for name, value in row.items() if name != field}


def test_a_headline_may_leave_errors_by_step_out(checkout):
    rows = [row | {"mse_by_step": [row["mse"]] * row["horizon"]} for row in ROWS]
    write(checkout, rows, rows)
    assert run(checkout) == 0
    told = (checkout / "README.md").read_text()
    write(checkout, rows, ROWS)
    assert run(checkout, "--check") == 0
    assert (checkout / "README.md").read_text() == told


@pytest.mark.parametrize(
    ("rows", "headline", "message"),
    [
        ([*ROWS, record("mlr", horizon=192, config={"a": 1})], [], "model mlr has rows of more than one config_hash"),
        ([*ROWS, record("drift", config_hash="b")], [], "4.json: its config_hash is not that of its config"),
        ([*ROWS, record("drift") | {"config": {}}], [], "4.json: its config_hash is not that of its config"),
        ([*ROWS, record("drift", mse_by_step=[0.5] * 95)], [], "4.json: mse_by_step has 95 steps of 96"),
        ([*ROWS, record("drift", data_sha256="b")], [], "dataset ETTh1 has rows of more than one data_sha256"),
        ([*ROWS, record("drift", split=[1, 2, 3])], [], "dataset ETTh1 has rows of more than one split"),
        ([*ROWS, record("drift", commit=None)], [], "4.json does not say where it comes from: commit is None"),
        ([*ROWS, record("drift", versions={})], [], "4.json does not say where it comes from: versions is {}"),
        ([*ROWS, without(record("drift"), "commit")], [], "4.json is no whole record"),
        ([*ROWS, without(record("drift"), "config_hash")], [], "4.json is no whole record"),
        (ROWS, [*ROWS, record("drift")], "headline.jsonl, line 5: no record says this"),
        (ROWS, [ROWS[0] | {"mse": 0.1}, *ROWS[1:]], "headline.jsonl, line 1: no record says this"),
        (ROWS, [7, *ROWS], "headline.jsonl, line 1: not a JSON object"),
        (ROWS, ROWS[1:], "ETTh1, horizon 96 lacks naive; add its row"),
    ],
)
def test_rows_that_do_not_compare_are_refused(checkout, capsys, rows, headline, message):
    run(checkout)
    before = (checkout / "README.md").read_text()
    write(checkout, rows, headline)
    for options in ((), ("--check",)):
        assert run(checkout, *options) == 2
        said = capsys.readouterr()
        assert message in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""
    assert (checkout / "README.md").read_text() == before


def test_a_damaged_record_and_missing_marks_are_refused(checkout, capsys):
    (checkout / "benchmarks" / "results" / "0.json").write_text('{"dataset": "ETTh1", "mse"')
    assert run(checkout) == 2
    assert "0.json is no whole record (it needs dataset, " in capsys.readouterr().err
    write(checkout, ROWS, ROWS)
    (checkout / "README.md").write_text("# Name\n")
    assert run(checkout) == 2
    assert "README.md lacks the marks '<!-- zero:begin" in capsys.readouterr().err


def test_the_pages_of_this_checkout_are_rendered_from_its_records():
    assert report.main(["--check"]) == 0


def test_the_log_compares_levers_with_least_squares_over_both_spans(checkout):
    def lever(setting, span, mse):
        return record("mlr", setting=setting, span=span, valid_mse=mse, valid_mae=0.5)

    rows = [lever("least squares", "validation", 0.5), lever("least squares", "earlier", 2.0)]
    rows += [lever("solved", "earlier", 3.0), lever("solved", "validation", 0.4), lever("base", "earlier", 1.0)]
    path = checkout / "benchmarks" / "results" / report.levers.THIRD
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(checkout) == 0
    page = (checkout / "docs" / "log.md").read_text()
    assert "| setting | ETTh1 96, validation | ETTh1 96, earlier | mean ratio |" in page
    assert "| solved | 0.4000 | 3.0000 | 1.1500 |" in page
    assert "| base |  | 1.0000 |  |" in page
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    assert run(checkout) == 2


def test_the_log_shows_each_lever_with_its_origin(checkout):
    row = record("mlr", setting="four heads", valid_mse=0.61234, valid_mae=0.5, best_epoch=7, parameters=99)
    (checkout / "benchmarks" / "results" / "levers.jsonl").write_text(json.dumps(row) + "\n")
    assert run(checkout) == 0
    page = (checkout / "docs" / "log.md").read_text()
    assert "| ETTh1 | 96 | four heads | 0.6123 | 0.5000 | 7 | 99 | 61 |" in page
    assert page.endswith("\nwhat follows\n")
    assert run(checkout, "--check") == 0
    (checkout / "docs" / "log.md").write_text(page.replace("0.6123", "0.6000"))
    assert run(checkout, "--check") == 1


def test_the_log_shows_settings_by_task_with_means_over_seeds(checkout):
    def lever(setting, dataset, mse, seed=0):
        return record("mlr", dataset=dataset, setting=setting, valid_mse=mse, valid_mae=mse / 2, seed=seed)

    rows = [lever("Huber", "etth1", 0.5), lever("Huber", "etth1", 0.7, seed=1), lever("rlinear", "etth1", 0.62)]
    rows += [lever("Huber", "etth2", 0.25)]
    path = checkout / "benchmarks" / "results" / "levers2.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(checkout) == 0
    page = (checkout / "docs" / "log.md").read_text()
    assert "| setting | etth1 96 | etth2 96 |" in page
    assert "| rlinear | 0.6200 / 0.3100 |  |" in page
    assert "| Huber | **0.6000 / 0.3000** | **0.2500 / 0.1250** |" in page


def test_settings_that_ask_for_nothing_are_no_part_of_the_hash(checkout):
    row = record("mlr", seed=2)
    row["config"] = {**row["config"], "window": None, "rotary": False, "calendar": []}
    write(checkout, [*ROWS, row], ROWS)
    assert run(checkout) == 0
