"""Pages and pictures say what the records say; records that do not compare are refused."""

import hashlib
import json
import shutil
from itertools import combinations

import pytest
import render
import report
from checkout import ORIGIN, ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from scipy.stats import ttest_1samp
from suite import page as suite_page

HORIZONS = (96, 192)


def record(model, *, horizon=96, seed=0, mse=0.5, dataset="ETTh1", **changes):
    config = changes.pop("config", {"model": model, "context": 336})
    facts = {
        "dataset": dataset,
        "data_sha256": f"data of {dataset}",
        "split": [8640, 2880, 2880],
        "model": model,
    }
    facts |= {
        "horizon": horizon,
        "context": 336,
        "seed": seed,
        "n_windows": 2881 - horizon,
        "mse": mse,
        "mae": mse / 2,
    }
    facts |= {
        "mse_by_step": [mse] * horizon,
        "params": 0,
        "fit_seconds": 61.0,
        "predict_seconds": 0.5,
        "peak_mb": 512.5,
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    return {**facts, **ORIGIN, "config": config, "config_hash": digest, **changes}


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


ROWS = [
    *(record("naive", mse=1.25, horizon=h) for h in HORIZONS),
    *(record("seasonal_naive", mse=0.75, horizon=h) for h in HORIZONS),
    *(
        record("mlr", mse=mse, seed=seed, horizon=h)
        for h in HORIZONS
        for seed, mse in enumerate((0.3, 0.4))
    ),
    *(record("standard", mse=0.35 + 1e-9, horizon=h) for h in HORIZONS),
    *(record("ridge", mse=mse, horizon=h) for h, mse in zip(HORIZONS, (0.2, 0.6), strict=True)),
]


@pytest.fixture
def results(tmp_path):
    write(tmp_path, suite_page.HEADLINE, ROWS)
    return tmp_path


# --- the whole checkout ---------------------------------------------------------------------------


def test_the_pages_of_this_checkout_are_rendered_from_its_records(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().err


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkout")
    for name in ("README.md", "docs", "benchmarks/results"):
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        copy(source, root / name)
    return root


def test_a_typed_number_is_caught_on_every_page(checkout, capsys):
    """On all of them in one check, which renders every page."""
    pages = sorted({name for page in report.PAGES for name, _ in page.BLOCKS})
    assert len(pages) > 5
    honest = {page: (checkout / page).read_text() for page in pages}
    for page, text in honest.items():
        mark = next(mark for each in report.PAGES for name, mark in each.BLOCKS if name == page)
        before, _, after = text.partition(f"<!-- {mark}:begin -->")
        row = next(line for line in after.splitlines() if any(c.isdigit() for c in line))
        digit = next(c for c in reversed(row) if c.isdigit())
        typed = after.replace(row, row.replace(digit, "x"), 1)
        (checkout / page).write_text(f"{before}<!-- {mark}:begin -->{typed}")
    assert report.main(["--check", "--root", str(checkout)]) == 1
    told = capsys.readouterr().err.splitlines()
    for page in pages:
        line = f"report: {checkout / page} differs from the records; run `make report`"
        assert told.count(line) == 1
    for page, text in honest.items():
        (checkout / page).write_text(text + "\nother words\n")
    assert report.main(["--check", "--root", str(checkout)]) == 0, "prose may change"
    for page, text in honest.items():
        (checkout / page).write_text(text)


def test_a_picture_of_other_numbers_is_caught_and_drawn_anew(checkout, capsys):
    path = checkout / "docs" / "pictures" / "language_model.svg"
    honest = path.read_text()
    path.write_text(honest.replace("sha256 ", "sha256 0"))
    assert report.main(["--check", "--root", str(checkout)]) == 1
    assert "language_model.svg differs from the records" in capsys.readouterr().err
    assert report.main(["--root", str(checkout)]) == 0
    assert path.read_text() == honest, "the same numbers make the same bytes"


def test_damaged_records_and_missing_marks_end_in_one_line(checkout, capsys):
    path = checkout / "benchmarks" / "results" / "pretraining_study.jsonl"
    honest = path.read_text()
    page = checkout / "docs" / "speed.md"
    lines = honest.splitlines()
    for text, message in (
        ("\n".join(['{"way"', *lines]) + "\n", "pretraining_study.jsonl, line 1 is no JSON object"),
        (
            "\n".join([*lines, lines[0]]) + "\n",
            f"pretraining_study.jsonl, line {len(lines) + 1} is a second row of",
        ),
        (honest.replace('"validation"', '"other"'), "a record lacks the field 'validation'"),
    ):
        path.write_text(text)
        assert report.main(["--root", str(checkout)]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    path.write_text(honest)
    text = page.read_text()
    page.write_text(text.replace("<!-- step:end -->", ""))
    assert report.main(["--root", str(checkout)]) == 2
    assert (
        "speed.md lacks the marks '<!-- step:begin -->' and '<!-- step:end -->'"
        in capsys.readouterr().err
    )
    page.write_text(text)


# --- tables and pictures --------------------------------------------------------------------------


def test_a_table_has_columns_of_one_width():
    rows = [{"a": "x", "b": 1.0}, {"a": "longer", "b": 22.0}]
    text = render.table(
        rows, {"name": lambda row: row["a"], "score": lambda row: f"{row['b']:.1f}"}
    )
    assert text.splitlines() == [
        *("| name   | score |", "| ------ | ----: |", "| x      |   1.0 |", "| longer |  22.0 |")
    ]
    assert render.spread([{"b": 1.0}, {"b": 3.0}], "b", 2) == "2.00 ± 1.41"
    assert render.spread([{"b": 1.0}], "b", 2) == "1.00"
    assert (render.pair(rows, "b", "b", digits=1), render.pair([], "b")) == ("11.5/11.5", "")


def test_a_picture_is_known_by_its_numbers_and_goes_with_them(tmp_path):
    def panels(y):
        lines = {"mlr": [[1, y, y - 1, y + 1], [2, 3.0, 2.0, 4.0]], "naive": [[1, 5.0], [2, 6.0]]}
        return [{"title": "one", "x": "step", "y": "MSE", "log": "x", "lines": lines}]

    path = tmp_path / "some.svg"
    assert render.is_fresh(path, [])
    assert not render.is_fresh(path, panels(2.0))
    render.draw(path, panels(2.0))
    drawn = path.read_bytes()
    assert all(word in drawn for word in (b"mlr", b"naive", b"MSE", b"one"))
    assert render.is_fresh(path, panels(2.0))
    assert render.is_fresh(path, panels(2.0 + 1e-15)), "as another processor computes it"
    assert not render.is_fresh(path, panels(2.5))
    path.unlink()
    render.draw(path, panels(2.0))
    assert path.read_bytes() == drawn
    named = [
        {
            "title": "",
            "x": "x",
            "y": "y",
            "ours": ["mlr"],
            "lines": {"mlr": [[1, 2]], "other": [[2, 3]]},
        }
    ]
    render.draw(path, named)
    assert b"other" in path.read_bytes()
    render.draw(path, [])
    assert not path.exists()


def test_names_of_near_points_do_not_overlap():
    points = {f"model_{number}": [[10 + number, 1 + number / 100]] for number in range(3)}
    points["far"] = [[200, 3.0]]
    panel = {"title": "", "x": "x", "y": "y", "ours": ["model_0"], "lines": points}
    figure = render._figure([panel])
    renderer = FigureCanvasAgg(figure).get_renderer()
    names = figure.axes[0].texts
    boxes = [Text.get_window_extent(name, renderer) for name in names]
    assert len(boxes) == 4
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    for name in names:
        name.xyann = (3, 3)
        name.set(ha="left", va="bottom")
    crowded = [Text.get_window_extent(name, renderer) for name in names]
    assert any(one.overlaps(other) for one, other in combinations(crowded, 2)), (
        "where they stood at first"
    )


# --- the suite ------------------------------------------------------------------------------------


def test_the_headline_holds_means_over_horizons_and_marks_the_least(results):
    lines = suite_page.headline(results).splitlines()
    assert lines[0].split("|")[1:3] == [" model          ", "           ETTh1 "]
    told = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines[2:7]}
    assert told["ridge"] == "0.400/0.200"
    assert told["mlr"] == told["standard"] == "**0.350/0.175**", (
        "what is the same to five decimals is bold together"
    )
    assert list(told) == ["mlr", "standard", "naive", "seasonal_naive", "ridge"], (
        "as in the catalogue"
    )
    few = suite_page.summary(results).splitlines()
    assert [line.split("|")[1].strip() for line in few[2:4]] == ["mlr", "seasonal_naive"], (
        "README has some of them"
    )


def test_what_kept_the_map_is_named_so_and_the_pretrained_weights_stand_beside_the_map(results):
    solved = [record("least_squares", mse=0.33, horizon=h, best_epoch=0) for h in HORIZONS]
    alike, apart = (
        [
            record(
                name,
                mse=mse,
                horizon=h,
                best_epoch=epoch,
                config={"model": name, "linear_skip": "least_squares"},
            )
            for h, mse, epoch in zip(HORIZONS, scores, epochs, strict=True)
        ]
        for name, scores, epochs in (
            ("standard", (0.33, 0.33), (0, 0)),
            ("mlr", (0.3, 0.33), (4, 0)),
        )
    )
    write(results, suite_page.HEADLINE, [*ROWS[:4], *solved, *alike, *apart, *ROWS[-2:]])
    ours = [
        {
            "dataset": "ETTh1",
            "horizon": h,
            "model": name,
            "seed": seed,
            "mse": mse + seed / 100,
            "mae": 0.25,
            **ORIGIN,
        }
        for name, mse in (("map + zero", 0.31), ("zero", 0.34), ("least_squares", 0.33))
        for seed in range(1 + (name == "zero"))
        for h in HORIZONS
    ]
    ours.append({**ours[0], "model": "zero, fine-tuned"})  # lacks a horizon
    write(results, suite_page.PRETRAINED, ours)
    lines = suite_page.headline(results).splitlines()
    told = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines[2:10]}
    assert list(told) == [
        *(
            "mlr",
            "standard",
            "least_squares",
            "zero",
            "map + zero",
            "naive",
            "seasonal_naive",
            "ridge",
        )
    ]
    assert told["standard"] == "kept the map"
    assert told["mlr"] == "0.315/0.158"
    assert told["zero"] == "0.345/0.250"
    assert told["map + zero"] == "**0.310/0.250**"
    lines = [line.split("|") for line in suite_page.datasets(results).splitlines() if "|" in line]
    cells = {tuple(cell.strip() for cell in line[1:4]) for line in lines}
    assert ("standard", "kept the map", "kept the map") in cells
    assert ("mlr", "**0.300/0.150**", "kept the map") in cells
    assert {cell[0] for cell in cells} >= {"zero", "map + zero", "zero, fine-tuned"}
    whole = "maps + zero + fine-tuned"
    kept = [
        {**row, "model": name, "kept": True}
        for row in ours[:-1]
        for name in ("zero, fine-tuned", whole)
        if row["model"] == "zero"
    ]
    write(results, suite_page.PRETRAINED, [*ours[:-1], *kept])
    for page in (suite_page.headline(results), suite_page.datasets(results)):
        (line,) = [line for line in page.splitlines() if "fine-tuned" in line]
        assert {cell.strip() for cell in line.split("|")[2:-1]} <= {"kept zero", ""}
        assert "kept zero" in line
    write(results, suite_page.PRETRAINED, [*ours[:-1], *kept[:-1], {**kept[-1], "kept": False}])
    assert whole in suite_page.headline(results), "one seed learnt"


def test_tables_hold_every_horizon_the_spread_of_seeds_and_published_rows(results):
    scores = {"ETTh1": {"96": [0.151, 0.2]}}
    known = [{"kind": "model", "model": suite_page.RIVAL, "source": "logs", "scores": scores}]
    known += [{"kind": "best", "dataset": "etth1", "scores": {"192": {"mse": 0.14, "mae": 0.15}}}]
    write(results, suite_page.PUBLISHED, known)
    alike = [record("drift", mse=0.75, horizon=h) for h in HORIZONS]
    write(results, suite_page.VARIANTS, [record("mlbtc", mse=0.1), *alike])
    text = suite_page.datasets(results)
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]]
        for cells in (x.split("|") for x in text.splitlines())
        if len(cells) > 3
    }
    assert rows["mlr, standard"] == ["0.350/0.175", "**0.350/0.175**"], (
        "one line for models with the same scores"
    )
    assert "ridge" not in rows, "least_squares is better everywhere"
    assert rows["mlbtc"] == ["**0.100/0.050**", ""]
    assert rows["seasonal_naive, drift"] == ["0.750/0.375", "0.750/0.375"]
    assert rows["*PatchTST/42*"] == ["0.151/0.200", ""]
    assert rows["*best published*"] == ["", "0.140/0.150"]
    assert (
        "8,640 training, 2,880 validation and 2,880 test rows. Seeds differ by at most 0.071."
        in text
    )
    write(results, suite_page.PUBLISHED, [known[0] | {"source": ""}])
    with pytest.raises(ValueError, match="does not say where its numbers come from"):
        suite_page.datasets(results)


def test_intervals_are_students():
    differences = [-0.010, 0.002, -0.004]
    span = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert suite_page.interval(differences) == pytest.approx(tuple(span))
    assert suite_page.interval(differences[:2]) is None


def test_pictures_of_the_suite_are_means_over_what_all_horizons_have(results):
    (cost,) = suite_page.cost(results)
    assert {name: points for name, (points,) in cost["lines"].items()}["mlr"] == pytest.approx(
        [61.0, 0.35]
    )
    assert "naive" not in cost["lines"], "it is not trained"
    (steps,) = suite_page.steps(results)
    assert steps["title"] == "ETTh1, horizon 192"
    assert steps["lines"]["ridge"][:2] == [[2.5, pytest.approx(0.6)], [6.5, pytest.approx(0.6)]]
    assert len(steps["lines"]["ridge"]) == 48


def without(row, field):
    return {name: value for name, value in row.items() if name != field}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [*ROWS, record("mlr", seed=2, config={"a": 1})],
            "model mlr has rows of more than one config_hash",
        ),
        (
            [*ROWS, record("drift", config_hash="b")],
            "line 13: config_hash is not that of its config",
        ),
        (
            [*ROWS, record("drift", data_sha256="b")],
            "dataset ETTh1 has rows of more than one data_sha256",
        ),
        (
            [*ROWS, record("drift", split=[1, 2, 3])],
            "dataset ETTh1 has rows of more than one split",
        ),
        (
            [*ROWS, without(record("drift"), "params")],
            "line 13 lacks params; remove it and run again",
        ),
        ([*ROWS, record("drift")], "ETTh1, drift lacks a horizon of [96, 192]; add its rows"),
        (ROWS[2:], "ETTh1 lacks naive; add its rows"),
    ],
)
def test_rows_of_the_suite_that_do_not_compare_are_refused(results, rows, message):
    write(results, suite_page.HEADLINE, rows)
    with pytest.raises(ValueError) as caught:
        suite_page.headline(results)
    assert message in str(caught.value)


def test_settings_that_ask_for_nothing_are_no_part_of_the_hash(results):
    row = record("mlr", seed=2)
    row["config"] = {**row["config"], "window": None, "rotary": False, "calendar": []}
    write(results, suite_page.HEADLINE, [*ROWS, row])
    assert "mlr" in suite_page.headline(results)
