"""The long-horizon tables of the pretrained weights: forecasts written once, scores of all windows,
honest weights.
"""

import json
import shutil
import tomllib

import numpy as np
import pandas as pd
import pytest
from checkout import ORIGIN
from side_by_side import ends_of_all
from suite import page, pretrained

from tsattn.data.cards import load_dataset
from tsattn.data.frames import from_wide
from tsattn.data.training_windows import Split
from tsattn.data.windows import make_scaler
from tsattn.evaluate.rolling import roll
from tsattn.forecasters.naive import Naive
from tsattn.forecasters.pretrained import PretrainedForecaster

SPLIT = Split(120, 40, 40)
HORIZONS = (2, 5)
MAPS = dict(zip(page.MAPS, (16, 24, 32), strict=True))


def make_panel(change=0.0):
    """Two channels of 210 rows; rows of the test span may be moved."""
    rng = np.random.default_rng(3)
    rows = np.arange(210)
    values = np.stack([np.sin(rows / 4), 5 + np.cos(rows / 6)], axis=1) + rng.normal(
        0, 0.2, (210, 2)
    )
    values[SPLIT.bounds[1] :] += change
    frame = pd.DataFrame(values, columns=["a", "b"])
    frame.insert(0, "ds", pd.date_range("2024-01-01", periods=210, freq="h"))
    return from_wide(frame).rows(0, SPLIT.bounds[2])


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Short horizons, few validation origins, small files."""
    for name, value in {"HORIZONS": HORIZONS, "MAPS": MAPS, "THIN": 3, "PART": 8}.items():
        monkeypatch.setattr(pretrained, name, value)


class Table(pretrained.Table):
    """A table whose fine-tuned model is the last value; it counts what is forecast."""

    fits = 0

    def fit(self, model, seed):
        type(self).fits += 1
        if model == page.TUNED:
            return Naive(max(HORIZONS)).fit(self.panel.rows(0, self.split.bounds[1]))
        return super().fit(model, seed)


MODELS = [(f"{name} {h}", 0) for name in page.MAPS for h in HORIZONS]
MODELS += [(page.ZERO, 0), (page.MEAN, 0), (page.TUNED, 1)]


def filled(cache, change=0.0):
    table = Table("tiny", make_panel(change), SPLIT, cache)
    for model, seed in MODELS:
        table.forecast(model, seed)
    return table


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HORIZONS": HORIZONS, "MAPS": MAPS, "THIN": 3, "PART": 8}.items():
            patch.setattr(pretrained, name, value)
        folder = tmp_path_factory.mktemp("forecasts")
        filled(folder)
    return folder


def test_forecasts_on_file_are_those_of_the_forecaster(cache):
    table = Table("tiny", make_panel(), SPLIT, cache)
    panel = make_panel()
    scaler = make_scaler(panel, SPLIT.train)
    assert list(table.ends[:2]) == [120, 123]
    assert list(table.ends[-2:]) == [197, 198], "every window of the shortest horizon is judged"
    for number in (0, 2):
        flat = np.fromfile(table.file(page.ZERO, 0, number), np.float32)
        ends = table.ends[table.parts[number]]
        for end, actual in zip(ends, flat.reshape(len(ends), max(HORIZONS), 2), strict=True):
            direct = PretrainedForecaster(max(HORIZONS)).fit(panel.rows(0, int(end))).predict()
            scaled = (direct.point - scaler.mean) / scaler.scale
            np.testing.assert_allclose(actual, scaled.T, rtol=1e-4, atol=1e-5)


def test_only_what_is_missing_is_forecast_again(cache):
    table = Table("tiny", make_panel(), SPLIT, cache)
    path = table.file(page.ZERO, 0, 3)
    before = Table.fits
    table.forecast(page.ZERO, 0)
    assert Table.fits == before, "a model with all its forecasts is not fitted"
    whole = path.read_bytes()
    other = table.file(page.ZERO, 0, 2)
    stamp = other.stat().st_mtime_ns
    path.unlink()
    assert list(table.sources(2, 1)) == [*page.MAPS, page.MEAN, page.TUNED]
    assert [row["model"] for row in pretrained.score(table, 2, 1)] == [
        *page.MAPS,
        page.MEAN,
        page.TUNED,
        "maps",
        "maps + mean",
        "maps + mean by column",
    ]
    table.forecast(page.ZERO, 0)
    assert path.read_bytes() == whole
    assert other.stat().st_mtime_ns == stamp
    assert list(table.sources(2, 1)) == [*page.MAPS, page.ZERO, page.MEAN, page.TUNED]


@pytest.mark.parametrize("horizon", HORIZONS)
def test_scores_are_those_of_a_backtest_of_every_test_window(cache, horizon):
    table = Table("tiny", make_panel(), SPLIT, cache)
    panel = make_panel()
    rows = {row["model"]: row for row in pretrained.score(table, horizon, 1)}
    assert list(rows) == [*page.MAPS, *page.WITH_ZERO]
    ends = np.arange(160, 200 - horizon + 1)
    known = panel.rows(0, 160)
    made = {
        **{
            name: pretrained.make_forecaster(page.MAP, horizon, context=n, val_size=40).fit(known)
            for name, n in MAPS.items()
        },
        page.ZERO: PretrainedForecaster(horizon).fit(known),
        page.MEAN: PretrainedForecaster(horizon, point="mean").fit(known),
        page.TUNED: Naive(horizon).fit(known),
    }
    points = {}
    every_end = ends_of_all(panel, ends)
    scale = np.repeat(make_scaler(panel, 120).scale, len(ends), axis=0)[:, None]
    for name, forecaster in made.items():
        rolled = roll(forecaster, panel, every_end, scaler=make_scaler(panel, 120))
        actual = rows[name]
        assert (actual["mse"], actual["mae"]) == pytest.approx((rolled.mse, rolled.mae), rel=1e-4)
        assert actual["n_windows"] == len(ends)
        points[name] = rolled.point
    for name, members in page.COMBINED.items():
        weights = rows[name]["weights"]
        assert tuple(weights) == members
        # Of each series in turn, the windows of one behind those of another.
        by_column = np.array([np.broadcast_to(weight, 2) for weight in weights.values()])
        assert by_column.sum(0) == pytest.approx(1, abs=1e-3)
        by_window = np.repeat(by_column, len(ends), axis=1)[..., None, None]
        mixed = sum(
            weight * points[member] for member, weight in zip(members, by_window, strict=True)
        )
        truth = np.stack([panel.values[end : end + horizon] for end in every_end])
        error = (mixed - truth) / scale
        assert rows[name]["mse"] == pytest.approx(np.square(error).mean(), rel=1e-3)
        assert rows[name]["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-3)
        of_map = (points[page.MAP] - truth) / scale
        apart = (np.square(error) - np.square(of_map)).mean(1).reshape(-1, len(ends)).mean(0)
        blocks = np.array_split(apart, len(ends) // horizon)
        expected = [block.mean() for block in blocks]
        assert rows[name]["beyond_map"] == pytest.approx(expected, abs=2e-3)
    assert [row["seed"] for row in rows.values()] == [0] * 5 + [1, 0, 0, 0, 1, 0, 0, 0], (
        "a seed belongs to what is fine-tuned"
    )


def test_weights_that_fine_tuning_kept_are_told(cache, tmp_path):
    folder = tmp_path / "forecasts"
    shutil.copytree(cache, folder)
    table = Table("tiny", make_panel(), SPLIT, folder)
    tuned, zero = (
        table.file(name, seed, 0).parent for name, seed in ((page.TUNED, 1), (page.ZERO, 0))
    )
    shutil.rmtree(tuned)
    shutil.copytree(zero, tuned)
    rows = {row["model"]: row for row in pretrained.score(table, 2, 1)}
    assert rows[page.TUNED] == rows[page.ZERO] | {"model": page.TUNED, "seed": 1, "kept": True}
    assert [name for name, row in rows.items() if "kept" in row] == [
        page.TUNED,
        "maps + zero + fine-tuned",
    ]
    assert rows["maps + zero + fine-tuned"]["mse"] == pytest.approx(rows["maps + zero"]["mse"])
    assert page.score_text([rows[page.TUNED]]) == "kept zero"
    assert page.score_text([rows[page.TUNED], {"mse": 3.0, "mae": 1.0}]) != "kept zero"


def test_standard_attention_is_trained_as_in_the_suite_and_no_member(cache, tmp_path, monkeypatch):
    made = []
    folder = tmp_path / "forecasts"
    shutil.copytree(cache, folder)

    def make(name, horizon, **how):
        made.append((name, horizon, how))
        return Naive(horizon)

    monkeypatch.setattr(pretrained, "make_forecaster", make)
    table = Table("tiny", make_panel(), SPLIT, folder)
    table.forecast("standard 2", 1)
    ((name, horizon, how),) = made
    suite = tomllib.loads(pretrained.SUITE.read_text())["settings"]["attention"]
    assert (name, horizon, how) == (
        "standard",
        2,
        suite | {"context": 16, "val_size": 40, "random_state": 1},
    )
    rows = {row["model"]: row for row in pretrained.score(table, 2, 1)}
    assert list(rows) == [*page.MAPS, page.STANDARD, *page.WITH_ZERO]
    assert rows[page.STANDARD]["mse"] == pytest.approx(rows[page.TUNED]["mse"], rel=1e-6), (
        "both are the last value"
    )
    assert (rows[page.STANDARD]["seed"], rows[page.ZERO]["seed"]) == (1, 0)
    assert list(rows["map + zero"]["weights"]) == [page.MAP, page.ZERO]


@pytest.mark.parametrize("horizon", HORIZONS)
def test_weights_are_those_of_all_validation_windows(cache, horizon):
    table = Table("tiny", make_panel(), SPLIT, cache)
    panel = make_panel()
    scaler = make_scaler(make_panel(), 120)
    rows = np.arange(120, 160 - horizon + 1, 3)
    ends = ends_of_all(panel, rows)
    solved, zero = (
        roll(forecaster.fit(panel.rows(0, 160)), panel, ends, scaler=scaler)
        for forecaster in (
            pretrained.make_forecaster(page.MAP, horizon, context=16, val_size=40),
            PretrainedForecaster(horizon),
        )
    )
    truth = np.stack([panel.values[end : end + horizon] for end in ends])
    scale = np.repeat(scaler.scale, len(rows), axis=0)[:, None]
    one, two = ((rolled.point - truth) / scale for rolled in (solved, zero))
    best = np.clip((two * (two - one)).mean() / np.square(one - two).mean(), 0, 1)
    (row,) = [row for row in pretrained.score(table, horizon, 1) if row["model"] == "map + zero"]
    assert row["weights"][page.MAP] == pytest.approx(best, abs=1e-3)
    assert 0.05 < best < 0.95


def test_weights_know_no_test_row(cache, tmp_path):
    here = pretrained.score(Table("tiny", make_panel(), SPLIT, cache), 2, 1)
    moved = pretrained.score(filled(tmp_path, change=9.0), 2, 1)
    for row, other in zip(here, moved, strict=True):
        assert row.get("weights") == other.get("weights")
        assert row["valid_mse"] == pytest.approx(other["valid_mse"], rel=1e-6)
        assert row["mse"] != pytest.approx(other["mse"], rel=0.1)


def test_weights_are_the_best_of_a_simplex():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(3, 50, 7)) * np.array([1.0, 1.2, 3.0])[:, None, None]
    gram = np.einsum("ibn,jbn->ij", errors, errors) / 350
    weights = pretrained.simplex_weights(gram)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    grid = [
        np.array([a, b, 1 - a - b])
        for a in np.linspace(0, 1, 41)
        for b in np.linspace(0, 1 - a, 41)
    ]
    assert weights @ gram @ weights <= min(w @ gram @ w for w in grid) + 1e-9
    alike = pretrained.simplex_weights(np.full((2, 2), gram[0, 0]))
    assert alike.sum() == pytest.approx(1), "a fine-tuned model may be the one that it began from"


def test_a_column_has_half_of_its_own_weights():
    rng = np.random.default_rng(0)
    sizes = np.array([[1.0, 1.2, 3.0], [4.0, 1.0, 2.0]])
    errors = rng.normal(size=(50, 2, 3, 7)) * sizes[:, :, None]
    products = np.einsum("bcmn,bckn->bcmk", errors, errors) / 7
    members = [0, 2]
    grams = products.mean(0)[:, members][:, :, members]
    shared = pretrained.simplex_weights(grams.sum(0))
    weights = pretrained.best_weights(products, members)
    np.testing.assert_allclose(weights, [[shared[0], 0, shared[1]]] * 2)
    by_column = pretrained.best_weights(products, members, by_column=True)
    for column, gram in zip(by_column, grams, strict=True):
        own = pretrained.simplex_weights(gram)
        np.testing.assert_allclose(column[members], (own + shared) / 2)
    assert not by_column[:, 1].any()
    whole = np.einsum("cm,bcmn->bcn", by_column, errors)
    squares = np.square(whole).mean((1, 2))
    np.testing.assert_allclose(pretrained.mean_squares(products, by_column), squares)


def test_the_script_forecasts_and_records_once(tmp_path, monkeypatch, capsys):
    class Carded:
        panel = make_panel()
        split = SPLIT

    requests = []
    monkeypatch.setattr(pretrained, "load_dataset", lambda *given: requests.append(given) or Carded)
    assert load_dataset is not pretrained.load_dataset
    out = tmp_path / "rows.jsonl"
    given = [
        "--table",
        "ETTh1",
        "--model",
        "zero",
        "--data",
        "somewhere",
        "--cache",
        str(tmp_path),
        "--out",
        str(out),
    ]
    pretrained.main(given)
    assert requests == [("etth1", "somewhere")]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    combined = ["map + zero", "maps", "maps + zero", "maps + zero by column"]
    names = [*page.MAPS, page.ZERO, *combined]
    assert [(row["horizon"], row["model"]) for row in rows] == [
        (h, name) for h in HORIZONS for name in names
    ]
    assert all(row["commit"] and row["machine"] and row["versions"] for row in rows)
    pretrained.main(given)
    assert [json.loads(line) for line in out.read_text().splitlines()] == rows
    assert "ETTh1, zero, seed 0: forecast" in capsys.readouterr().out


# --- the page -------------------------------------------------------------------------------------


def row(model, mse, *, horizon=96, seed=0, valid=None, blocks=None, **more):
    known = {
        "dataset": "ETTh1",
        "horizon": horizon,
        "model": model,
        "seed": seed,
        "n_windows": 9,
        **ORIGIN,
    }
    beyond = {} if blocks is None else {"beyond_map": blocks}
    return {
        **known,
        "mse": mse,
        "mae": mse / 2,
        "valid_mse": mse if valid is None else valid,
        **beyond,
        **more,
    }


BEST = [
    {
        "kind": "model",
        "model": page.RIVAL,
        "source": "logs",
        "scores": {"ETTh1": {"96": [0.40, 0.2]}},
    },
    {"kind": "best", "dataset": "ETTh1", "scores": {"96": {"mse": 0.354, "mae": 0.2}}},
    {"kind": "best_any", "dataset": "ETTh1", "scores": {"96": {"mse": 0.3, "mae": 0.1}}},
]


def write(folder, name, rows):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def cells_of(text):
    rows = (line.split("|") for line in text.splitlines() if line.startswith("|"))
    return {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in rows}


def test_a_page_tells_scores_differences_and_what_validation_rows_choose(tmp_path):
    assert pretrained.tables(tmp_path) == "No run is recorded yet."
    first = [-0.02, -0.03, -0.04]
    second = [-0.04, -0.03, -0.02]
    rows = [row(page.MAP, 0.38), row(page.ZERO, 0.39, valid=0.5, blocks=[0.0, 0.03, 0.0])]
    rows += [
        row("maps + zero", mse, seed=seed, valid=0.3, blocks=blocks)
        for seed, mse, blocks in ((0, 0.35, first), (1, 0.36, second))
    ]
    rows.append(row("map + zero", 0.37, blocks=[0.1]))
    rows.append(row(page.STANDARD, 0.2, valid=0.1, blocks=[-0.17, -0.18, -0.19]))
    write(tmp_path, page.PRETRAINED, rows)
    write(tmp_path, page.PUBLISHED, BEST)
    text = pretrained.tables(tmp_path)
    cells = cells_of(text)
    told = ["-0.030 (-0.030,-0.030)", "maps + zero", "-0.030 (-0.030,-0.030)"]
    assert cells["ETTh1"] == ["96", *told], (
        "validation rows stopped standard attention, so choose it not"
    )
    assert "Of 1 intervals of what is chosen, 1 lie below zero and 0 above. In 1 cells" in text
    assert "lower MSE than PatchTST/42 in 1, best published in 0, best of any kind in 0." in text
    rows.append(row("maps + zero + fine-tuned", 0.34, valid=0.2, blocks=[-0.04, -0.04, -0.04]))
    write(tmp_path, page.PRETRAINED, rows)
    text = pretrained.tables(tmp_path)
    assert cells_of(text)["ETTh1"][2] == "maps + zero + fine-tuned"
    assert "lower MSE than PatchTST/42 in 1, best published in 1, best of any kind in 0." in text
    assert "which alone have seeds: 1, 0, 0." in text
