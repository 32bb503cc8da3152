"""Are comparisons, published numbers, pictures and peers computed and shown as the records have them?"""

import hashlib
import json
import re
from functools import partial

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, ttest_1samp
from scripts import ROOT
from test_report import ROWS, make_checkout, record, report, run, without, write

comparisons, published, pictures = report.suite_page.comparisons, report.published, report.suite_pictures
wanted = partial(report.drawings.wanted, pictures.PICTURES)
HORIZONS = (96, 192, 336, 720)


@pytest.fixture
def checkout(tmp_path):
    return make_checkout(tmp_path)


def page(root, name="benchmarks.md"):
    assert run(root) == 0
    return (root / "docs" / name).read_text()


def section(text, title):
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


# --- mlr against standard attention -----------------------------------------------------------------------------


def twins(differences, *, horizon=96, dataset="ETTh1", base=0.4):
    """Runs of standard and mlr, seed by seed, whose MSE differ by so much."""
    rows = [record("standard", seed=s, mse=base + s / 100, horizon=horizon, dataset=dataset) for s in range(9)]
    rows = rows[: len(differences)]
    ours = [
        record("mlr", seed=s, mse=r["mse"] + differences[s], horizon=horizon, dataset=dataset)
        for s, r in enumerate(rows)
    ]
    return [*rows, *ours]


def test_the_difference_is_paired_by_seed_with_students_interval(checkout):
    differences = [-0.010, 0.002, -0.004]
    write(checkout, twins(differences), [])
    text = section(page(checkout), "mlr against standard attention")
    low, high = ttest_1samp(differences, 0).confidence_interval(0.95)
    assert f"| ETTh1 | 96 | 3 | -0.0040 | -0.98 | {low:+.4f} to {high:+.4f} | -0.0020 |" in text
    assert "| all 1 cells |  | 3 | -0.0040 | -0.98 |" in text
    assert "- MSE: `mlr` is lower in 1 of 1 cells; of 1 intervals, 0 lie below zero and 0 above." in text


def test_runs_that_are_the_same_count_as_equal(checkout):
    other = [*twins([0.0, 0.0, 0.0], horizon=192), *twins([0.01, 0.02, 0.03])]
    write(checkout, other, [])
    text = section(page(checkout), "mlr against standard attention")
    assert "- MSE: `mlr` is lower in 0 of 2 cells, equal in 1; of 2 intervals, 0 lie below zero and 0 above." in text
    assert "| ETTh1 | 192 | 3 | +0.0000 | +0.00 | +0.0000 to +0.0000 |" in text


def test_runs_that_kept_their_best_pass_are_compared_apart(checkout):
    config = {"model": "mlr", "context": 336, "rate": 0.5, "skip_level": 95}
    kept = twins([0.0, 0.0, 0.0])
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
    write(checkout, [r if r["model"] != "mlr" else {**r, "config": config, "config_hash": digest} for r in kept], [])
    assert "best pass kept" not in page(checkout)
    folder = checkout / "benchmarks" / "results" / "best_pass"
    folder.mkdir()
    for number, row in enumerate(twins([0.01, 0.02, 0.03])):
        (folder / f"{number}.json").write_text(json.dumps(row))
    text = page(checkout)
    apart = text.split("### mlr against standard, the best pass kept")[1].split("\n## ")[0]
    assert "| ETTh1 | 96 | 3 | +0.0200 |" in apart
    assert "Settings that differ: `rate` is None in place of 0.5, `skip_level` is None in place of 95." in apart
    assert "| data set | horizon | mlr | standard |" in apart
    assert re.search(r"\n\| ETTh1 \| 96 \| 0\.\d{4} / 0\.\d{4} \| 0\.\d{4} / 0\.\d{4} \|\n", apart)
    assert "Commit `0123456789ab`" in apart
    assert "| ETTh1 | 96 | 3 | +0.0200 |" not in text.replace(apart, "")


def test_what_was_learnt_beyond_the_solved_map_is_set_against_the_map(checkout):
    def solved(model, horizon, seed, best_epoch, mse):
        config = {"model": model, "context": 336, "linear_skip": "least_squares"}
        return record(model, seed=seed, horizon=horizon, mse=mse, best_epoch=best_epoch, epochs=9, config=config)

    maps = [record("least_squares", horizon=horizon, mse=0.4) for horizon in (96, 192)]
    ours = [solved("mlr", 96, 0, 3, 0.36), solved("mlr", 96, 1, 0, 0.40)]
    write(checkout, [*maps, *ours, solved("standard", 96, 0, 0, 0.4), solved("mlr", 192, 0, 0, 0.4)], [])
    text = section(page(checkout), "Beyond the solved map")
    rows = [line for line in text.splitlines() if line.startswith("| ETTh1")]
    assert len(rows) == 1
    assert rows[0].startswith("| ETTh1 | 96 | mlr | 1 of 2 | -0.0200 | -5.00 | -0.0100 |")
    assert "Every seed keeps the map in 2 of 3 cells, each a model, a data set and a horizon." in text
    write(checkout, ours, [])
    assert "Beyond the solved map" not in page(checkout), "without the map there is nothing to compare with"


def test_the_pass_that_was_kept_stands_beside_its_scores_seed_by_seed(checkout):
    rows = [record("mlr", seed=seed, mse=0.3, epochs=5, best_epoch=kept) for seed, kept in ((1, 0), (0, 3))]
    write(checkout, [*rows, record("least_squares", mse=0.2, epochs=0, best_epoch=0)], [])
    text = section(page(checkout), "ETTh1")
    assert "| MAE | kept | parameters |" in text
    assert re.search(r"\| 96 \| mlr \| 336 \| 2 \| .* \| 3, 0 \| 0 \|", text)
    assert re.search(r"\| 96 \| least_squares \| 336 \| 1 \| [^|]* \| [^|]* \| [^|]* \|  \| 0 \|", text)


def test_a_model_that_is_another_one_shares_its_rank():
    found = comparisons.ranks(grid({"mlr": 0.1 + 1e-9, "standard": 0.1, "naive": 0.4}))
    assert found.models == {"mlr": 1.5, "standard": 1.5, "naive": 3.0}


@pytest.mark.parametrize(("seeds", "said"), [(1, "one seed: no interval"), (2, "two seeds: no interval")])
def test_few_seeds_get_no_interval_and_a_loss_is_told(checkout, seeds, said):
    write(checkout, twins([0.02] * seeds), [])
    text = section(page(checkout), "mlr against standard attention")
    assert re.search(rf"\| ETTh1 \| 96 \| {seeds} \| \+0\.0200 \| \+[45]\.\d\d \| {said} \|", text)
    assert " to " not in text.split("| ---")[1]
    assert "lower in 0 of 1 cells." in text


def test_only_runs_with_equal_settings_and_seeds_are_compared(checkout):
    rows = twins([-0.01, -0.01])
    wide = {"model": "mlr", "context": 512}
    others = [record("mlr", seed=r["seed"], mse=0.1, config=wide) for r in rows[2:]]
    assert [pair.seeds for pair in comparisons.pairs(rows[:3], "mlr", "standard")] == [[0]]
    assert [pair.seeds for pair in comparisons.pairs(rows[1:], "mlr", "standard")] == [[1]]
    assert comparisons.pairs([*rows[:2], *others], "mlr", "standard") == []
    asks_nothing = {"model": "mlr", "context": 336, "ranks": None}
    same = [record("mlr", seed=r["seed"], mse=r["mse"], config=asks_nothing) for r in rows[2:]]
    assert len(comparisons.pairs([*rows[:2], *same], "mlr", "standard")) == 1
    write(checkout, [*rows[:2], *others], [])
    assert "No two runs with equal settings are recorded." in page(checkout)


def test_the_last_row_averages_cells_and_takes_its_interval_over_common_seeds(checkout):
    write(checkout, [*twins([-0.01, -0.02, -0.03]), *twins([0.01, 0.02, 0.03, 0.9], horizon=192, base=0.8)], [])
    records = report.read_results(checkout / "benchmarks" / "results")
    found = comparisons.pairs(records, "mlr", "standard")
    by_seed = [50 * (-d / 0.41 + d / 0.815) for d in (0.01, 0.02, 0.03)]
    assert comparisons.overall(found, "mse") == pytest.approx(by_seed)
    (line,) = [line for line in page(checkout).splitlines() if "all 2 cells" in line]
    low, high = ttest_1samp(by_seed, 0).confidence_interval(0.95)
    assert f"| all 2 cells |  | 3 | {(-0.02 + 0.24) / 2:+.4f} |" in line
    assert f"{low:+.2f} to {high:+.2f} %" in line


# --- ranks ------------------------------------------------------------------------------------------------------


def grid(scores, *, horizons=HORIZONS, **changes):
    """One record for each model and horizon, by name and MSE."""
    return [record(name, horizon=h, mse=mse * h, **changes) for h in horizons for name, mse in scores.items()]


def test_mean_ranks_and_the_critical_difference_agree_with_the_literature(checkout):
    # Demšar (2006): q at 5% is 2.343, 2.569 and 3.164 for 3, 4 and 10 models; his example has 4 models, 14 data sets.
    assert comparisons.critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    for models, q in ((3, 2.343), (4, 2.569), (10, 3.164)):
        assert comparisons.critical_difference(models, 1) == pytest.approx(
            q * (models * (models + 1) / 6) ** 0.5, rel=1e-3
        )
    rows = grid({"mlr": 0.1, "standard": 0.2, "naive": 0.2})
    rows[0] = record("mlr", mse=99.0)  # last at the first horizon
    write(checkout, rows, [])
    text = section(page(checkout), "Ranks")
    assert "| mlr | 1.50 |" in text
    assert "| standard | 2.25 |" in text
    assert "| naive | 2.25 |" in text
    assert f"4 cells, 3 models, critical difference {comparisons.critical_difference(3, 4):.2f}." in text


def test_ranks_are_those_of_friedmans_test():
    chance = np.random.default_rng(0)
    rows = [
        record(name, horizon=h, mse=chance.random()) for h in range(1, 13) for name in ("mlr", "standard", "nlinear")
    ]
    found = comparisons.ranks(rows)
    errors = [[row["mse"] for row in rows if row["model"] == name] for name in found.models]
    statistic = 12 * 12 / (3 * 4) * (sum(rank**2 for rank in found.models.values()) - 3 * 16 / 4)
    assert statistic == pytest.approx(friedmanchisquare(*errors).statistic)


def test_models_and_cells_without_gaps_are_ranked_and_the_others_named(checkout):
    rows = [*grid({"mlr": 0.1, "standard": 0.2, "naive": 0.4}), record("mlbtc", mse=0.01)]
    write(checkout, rows, [])
    assert "Left out, since they were not run on all of these cells: mlbtc." in section(page(checkout), "Ranks")
    for too_few in (
        grid({"mlr": 0.1, "naive": 0.4}),
        grid({"mlr": 0.1, "standard": 0.2, "naive": 0.4}, horizons=HORIZONS[:3]),
    ):
        write(checkout, too_few, [])
        assert "## Ranks" not in page(checkout)


def test_a_model_with_few_cells_does_not_throw_out_most_of_the_others():
    rows = grid({"mlr": 0.1, "standard": 0.2, "naive": 0.4}, horizons=range(1, 9))
    few = grid({"mlbtc": 0.1}, horizons=range(1, 5))
    assert comparisons.block([*rows, *few], 3, 4) == (["mlr", "standard", "naive"], [("ETTh1", h) for h in range(1, 9)])
    many = grid({"mlbtc": 0.1}, horizons=range(1, 8))
    models, cells = comparisons.block([*rows, *many], 3, 4)
    assert ("mlbtc" in models, len(cells)) == (True, 7)


def test_groups_within_one_critical_difference_are_joined_once():
    found = comparisons.Ranks({"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0}, [], 1.0, [])
    assert comparisons.ties(found) == [("a", "b"), ("b", "c")]
    assert comparisons.ties(found._replace(critical=1.5)) == [("a", "c")]
    assert comparisons.ties(found._replace(critical=1.6)) == [("a", "c"), ("c", "d")]


# --- published numbers ------------------------------------------------------------------------------------------


KNOWN = {
    "rows": [
        {
            "model": published.RIVAL,
            "look_back": "336",
            "grade": "clean",
            "source": "logs",
            "note": "",
            "scores": {"Weather": {"96": [0.151, 0.2], "192": [0.19, 0.24]}},
        }
    ],
    "best": {
        "about": "these",
        "scores": {"Weather": {"96": {"mse": 0.14, "mse_from": "A", "mae": 0.15, "mae_from": "B"}}},
    },
}


def know(root, known):
    (root / "benchmarks" / "published.json").write_text(json.dumps(known))


def test_published_rows_stand_below_ours_with_grade_look_back_and_verdict(checkout):
    know(checkout, KNOWN)
    write(checkout, [record("mlr", dataset="weather", mse=0.1508 + d / 100, seed=s) for s, d in ((0, 1), (1, -1))], [])
    text = page(checkout)
    ours = section(text, "weather")
    assert ours.index("| 96 | mlr |") < ours.index("### weather elsewhere")
    assert f"| {published.RIVAL} | 336 | clean | 0.151 / 0.200 |" in ours
    assert "96: A / B." in ours
    assert (
        "| 96 | 2 | 0.1508 | 0.0754 | level (-0.0002) | below (-0.1246) | above (+0.0108) | below (-0.0746) |" in ours
    )
    told = section(text, "Published numbers")
    assert "- `mlr` and PatchTST/42, bug fixed: MSE below in 0, level in 1 and above in 0 of 1; MAE below in 1" in told
    assert "- `mlr` and C: MSE below in 0, level in 0 and above in 1 of 1" in told
    assert f"- `clean`: {published.GRADES['clean']}" in told
    assert "| logs |" in told
    write(checkout, ROWS, ROWS)
    assert "elsewhere" not in page(checkout), "nobody published scores for this data set"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grade": "fine"}, f"{published.RIVAL} has the grade 'fine'; use one of clean, drop_last, unknown"),
        ({"source": ""}, f"{published.RIVAL} does not say where its numbers come from"),
        ({"model": "PatchTST"}, f"published.json lacks {published.RIVAL}"),
    ],
)
def test_published_rows_without_grade_or_source_are_refused(checkout, capsys, change, message):
    know(checkout, {**KNOWN, "rows": [KNOWN["rows"][0] | change]})
    assert run(checkout) == 2
    assert message in capsys.readouterr().err
    know(checkout, {**KNOWN, "rows": [without(KNOWN["rows"][0], "look_back")]})
    assert run(checkout) == 2
    assert f"{published.RIVAL} lacks look_back" in capsys.readouterr().err
    know(checkout, [])
    assert run(checkout) == 2
    assert "no list of published scores" in capsys.readouterr().err


def test_what_is_committed_is_consistent():
    known = published.read(ROOT / "benchmarks" / "published.json")
    rows = {(row["model"], row["look_back"]): row for row in known["rows"]}
    for dataset, cells in known["best"]["scores"].items():
        assert set(cells) == {"96", "192", "336", "720"}
        for horizon, cell in cells.items():
            for place, score in enumerate(("mse", "mae")):
                rival = rows[published.RIVAL, "336"]["scores"][dataset][horizon][place]
                assert 0.1 < cell[score] <= rival < 1, "the best of several is no worse than one of them"
                name, _, look_back = cell[f"{score}_from"].partition(", look-back ")
                if (name, look_back) in rows:
                    assert rows[name, look_back]["scores"][dataset][horizon][place] == cell[score]


# --- pictures ---------------------------------------------------------------------------------------------------


def stepped(rows):
    return [{**row, "mse_by_step": [row["mse"]] * row["horizon"]} for row in rows]


def test_each_picture_is_drawn_linked_and_known_by_its_numbers(checkout, capsys):
    rows = [
        row for seed in (0, 1) for row in stepped(grid({"mlr": 0.1 + seed, "standard": 0.2, "nlinear": 0.3}, seed=seed))
    ]
    write(checkout, rows, [])
    assert run(checkout, "--check") == 1
    text, folder = page(checkout), checkout / "docs" / "pictures"
    assert {path.name for path in folder.iterdir()} == set(pictures.PICTURES)
    assert all(f"(pictures/{name})" in text for name in pictures.PICTURES)
    assert run(checkout, "--check") == 0
    for name in pictures.PICTURES:
        drawn = folder / name
        first = drawn.read_text()
        assert "mlr" in first
        drawn.write_text(first.replace("sha256 ", "sha256 0"))
        capsys.readouterr()
        assert run(checkout, "--check") == 1
        assert f"{name} differs from the records; run `make report`" in capsys.readouterr().err
        assert run(checkout) == 0
        assert drawn.read_text() == first, "the same numbers make the same bytes"


def test_pictures_follow_what_they_show_and_nothing_else(checkout):
    rows = stepped(grid({"mlr": 0.1, "standard": 0.2}, horizons=(96,)))
    due = {name: json.dumps(numbers) for name, numbers in wanted(rows).items()}
    assert set(due) == {"suite_cost.svg", "suite_steps.svg"}, "one seed, one cell"
    slower = [row | {"fit_seconds": 99.0} for row in rows]
    changed = {name for name, numbers in wanted(slower).items() if json.dumps(numbers) != due[name]}
    assert changed == {"suite_cost.svg"}
    write(checkout, rows, [])
    page(checkout)
    write(checkout, ROWS, ROWS)
    assert run(checkout, "--check") == 1, "pictures of what is no longer there"
    assert "suite_cost.svg" not in page(checkout)
    assert list((checkout / "docs" / "pictures").iterdir()) == []


def test_old_records_without_steps_and_models_without_training_are_not_drawn():
    rows = grid({"mlr": 0.1, "standard": 0.2, "naive": 0.9, "seasonal_naive": 0.8}, horizons=(96,))
    due = wanted(rows)
    assert set(due) == {"suite_cost.svg"}
    assert set(due["suite_cost.svg"]["ETTh1"]["models"]) == {"mlr", "standard"}
    steps = wanted(stepped(rows))["suite_steps.svg"]
    assert set(steps["ETTh1"]["models"]) == {"mlr", "standard"}


def test_costs_and_steps_are_means_over_what_all_models_share():
    rows = grid({"mlr": 0.1, "standard": 0.2}, horizons=(96, 192)) + grid({"mlr": 0.1}, horizons=(720,))
    of = wanted(rows)["suite_cost.svg"]["ETTh1"]
    assert of["horizons"] == [96, 192]
    assert of["models"]["mlr"] == pytest.approx([0.1 * 144, 61.23])
    rising = [row | {"mse_by_step": list(range(row["horizon"]))} for row in rows]
    steps = wanted(rising)["suite_steps.svg"]["ETTh1"]
    assert steps["horizon"] == 192
    assert steps["steps"][:2] == [2.5, 6.5], "means over four neighbours"
    assert steps["models"]["mlr"][:2] == [1.5, 5.5]
    assert len(steps["steps"]) == 48


def test_the_spread_of_seeds_is_in_percent_of_their_mean():
    rows = [record(name, seed=s, mse=mse) for name in ("mlr", "nlinear") for s, mse in enumerate((0.99, 1.0, 1.01))]
    assert wanted(rows)["suite_seeds.svg"]["ETTh1"]["mlr"] == {"96": pytest.approx([-1, 0, 1])}


def test_findings_are_linked_where_they_are_written(checkout):
    assert "findings.md" not in page(checkout)
    (checkout / "docs" / "findings.md").write_text("# What we found\n")
    assert "[What we found](findings.md)" in page(checkout)


# --- peers ------------------------------------------------------------------------------------------------------


def measured(kind, peer, **changes):
    row = {
        "kind": kind,
        "setting": "width16",
        "peer": peer,
        "peer_version": "3.3.0",
        "model": "mlr",
        "ratio": 1.5,
        "turns": 7,
        "threads": 1,
        "commit": "fedcba9876543210",
        "versions": {"torch": "2.6"},
        "machine": "a machine",
        "finished": "2026-01-01T00:00:00+00:00",
    }
    more = {
        "training": {
            "ratio_low": 1.4,
            "ratio_high": 1.625,
            "cpu_ratio": 1.75,
            "steps": 12,
            "windows_per_second": 1200.4,
            "peer_windows_per_second": 800.1,
            "parameters": 81760,
            "peer_parameters": 79520,
            "differs": "batch norm",
        },
        "rolling": {"windows": 19495, "seconds": 4.0, "peer_seconds": 6.0},
        "profile": {"steps": 12, "shares": {"copies": 0.25, "everything else": 0.75}},
    }
    return row | more[kind] | changes


PEERS = [
    measured("training", "neuralforecast"),
    measured("rolling", "bare", peer_version=None, ratio=0.66, peer_seconds=2.64),
    measured("rolling", "neuralforecast"),
]


PROFILE = {k: v for k, v in measured("profile", "").items() if k not in ("peer", "peer_version", "ratio", "turns")}


def write_peers(root, rows):
    path = root / "benchmarks" / "results" / "peers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_page_of_peers_holds_ratios_versions_and_what_differs(checkout):
    assert "No run is recorded yet." in page(checkout, "peers.md")
    write_peers(checkout, PEERS)
    assert run(checkout, "--check") == 1
    text = page(checkout, "peers.md")
    ratios = "| width16 | neuralforecast 3.3.0 | mlr | 1.50 (1.40 to 1.62) | 1.75 |"
    assert f"{ratios} 1200 | 800 | 81760 | 79520 | 7 | 12 | 1 |" in text
    assert "- neuralforecast: batch norm." in text
    assert "| one bare pass | width16 | mlr | 19495 | 4.00 | 2.64 | 0.66 | 7 | 1 |" in text
    assert "| neuralforecast 3.3.0, `cross_validation` | width16 | mlr | 19495 | 4.00 | 6.00 | 1.50 | 7 | 1 |" in text
    assert "can be more than 2.27 times as fast as neuralforecast 3.3.0, for the bare pass is no faster." in text
    assert text.endswith("Commit `fedcba987654`; torch 2.6; a machine.\n")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*PEERS, 7], "peers.jsonl, line 4: not a record of training or rolling or profile"),
        ([without(PEERS[0], "differs")], "peers.jsonl, line 1 lacks differs; remove it and run peers.py again"),
        ([PEERS[0] | {"commit": None}], "peers.jsonl, line 1 does not say where it comes from: commit is None"),
        ([*PEERS, measured("training", "gluonts", machine="b")], "peers.jsonl has rows of more than one machine"),
        ([PROFILE, PROFILE], "peers.jsonl says two things of ('profile', 'width16', 'mlr', 1)"),
        ([without(PROFILE, "shares")], "peers.jsonl, line 1 lacks shares"),
        ([*PEERS, PEERS[0]], "peers.jsonl says two things of ('training', 'width16', 'neuralforecast', 'mlr', 1)"),
    ],
)
def test_records_of_peers_that_do_not_compare_are_refused(checkout, capsys, rows, message):
    write_peers(checkout, rows)
    assert run(checkout) == 2
    assert message in capsys.readouterr().err


def test_the_page_of_peers_says_where_our_time_goes(checkout):
    write_peers(checkout, [*PEERS, PROFILE, PROFILE | {"setting": "width128", "shares": {"copies": 0.125}}])
    text = page(checkout, "peers.md")
    assert "| work | `width16`, mlr | `width128`, mlr |" in text
    assert "| copies | 25% | 12% |" in text
    assert "| everything else | 75% | 0% |" in text


def test_other_numbers_of_threads_may_come_from_a_run_of_their_own(checkout):
    write_peers(checkout, [*PEERS, measured("training", "neuralforecast", threads=2, machine="a machine, 2 threads")])
    assert "Commit `fedcba987654`; torch 2.6; a machine; a machine, 2 threads." in page(checkout, "peers.md")
