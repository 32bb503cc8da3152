"""Does the sweep over widths train what it says, and does its page say what was recorded?"""

import json
import math

import pytest
import torch
from scripts import ORIGIN, ROOT, Pictures, load

sweep, page = load("width_sweep"), load("width_sweep_page")
pictures = Pictures(page)


def cell(**changes):
    told = {"structure": "standard", "rule": "with", "width": 16, "log2_rate": -6, "seed": 0, "text": "t"}
    return {**told, "steps": 6, "batch": 2, "length": 8, "n_layers": 1, "n_heads": 2, **changes}


def text(n_letters=5, length=200):
    return sweep.Text(torch.arange(length) % n_letters, n_letters, "t")


# --- runs -------------------------------------------------------------------------------------------------------


def test_the_text_is_letters_of_pythons_help():
    found = sweep.read_text()
    assert len(found.ids) > 10**5
    assert found.ids.unique().tolist() == list(range(found.n_letters))
    assert found == sweep.read_text()._replace(ids=found.ids)


def test_runs_of_a_seed_see_the_same_pieces_of_the_text():
    ids = torch.arange(200)
    told = sweep.Text(ids, 200, "t")
    first, again = (list(sweep.batches(told, cell(structure=name))) for name in ("standard", "btt"))
    other = list(sweep.batches(told, cell(seed=1)))
    assert len(first) == 6
    for piece, same in zip(first, again, strict=True):
        assert piece.shape == (2, 9)
        assert (piece.diff(dim=1) == 1).all(), "neighbours of the text"
        assert torch.equal(piece, same)
    assert not torch.equal(torch.stack(first), torch.stack(other))
    last = sweep.Text(ids[:9], 200, "t")
    assert [piece.tolist() for piece in sweep.batches(last, cell(steps=1, batch=1))] == [[list(range(9))]]


@pytest.mark.parametrize("structure", sweep.STRUCTURES)
def test_rule_and_seed_matter_and_nothing_else_does(structure):
    losses = {}
    for rule, seed in (("with", 0), ("without", 0), ("with", 1)):
        losses[rule, seed] = sweep.run(cell(structure=structure, rule=rule, seed=seed, steps=3), text())["loss"]
    assert len(set(losses.values())) == 3
    torch.manual_seed(5)
    assert sweep.run(cell(structure=structure, steps=3), text())["loss"] == losses["with", 0]


def test_a_block_tensor_train_of_rank_one_needs_no_second_run_as_monarch():
    ours, same = (sweep.run(cell(structure=name), text()) for name in ("btt", "monarch"))
    assert ours["loss"] == same["loss"]
    assert ours["parameters"] == same["parameters"]
    assert "monarch" not in sweep._options(["--out", "x"]).structure


def test_the_score_is_the_mean_of_the_last_tenth(monkeypatch):
    seen = []
    right = sweep.nn.functional.cross_entropy

    def entropy(*args):
        seen.append(right(*args))
        return seen[-1]

    monkeypatch.setattr(sweep.nn.functional, "cross_entropy", entropy)
    row = sweep.run(cell(steps=30), text())
    assert seen[0].item() == pytest.approx(math.log(5)), "the last map starts at zero"
    assert row["loss"] == pytest.approx(torch.stack(seen[-3:]).mean().item(), abs=1e-6)
    assert row["loss"] < 0.9 * math.log(5)
    assert row["steps_done"] == 30


def test_a_run_that_ends_in_no_number_stops_and_says_so(monkeypatch):
    row = sweep.run(cell(log2_rate=200), text())
    assert row["loss"] is None
    assert 1 < row["steps_done"] < 6


def test_a_sweep_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    out = tmp_path / "sweep.jsonl"
    sizes = ["--steps", "2", "--batch", "2", "--length", "8", "--layers", "1", "--heads", "2", "--out", str(out)]
    asked = [*sizes, "--structure", "mlr", "--width", "16", "--rate", "-7", "--rate", "-6"]
    assert sweep.main([*asked, "--rule", "with"]) == 0
    assert len(out.read_text().splitlines()) == 2
    before, right = out.read_text(), sweep.run
    done = []
    monkeypatch.setattr(sweep, "run", lambda told, *rest: done.append(told["rule"]) or right(told, *rest))
    assert sweep.main(asked) == 0
    assert done == ["without"] * 2
    assert out.read_text().startswith(before)
    assert "mlr without the rule, width 16, rate 2^-6, seed 0" in capsys.readouterr().out
    rows = page.read_rows(out)
    assert {(row["rule"], row["log2_rate"]) for row in rows} == {(r, k) for r in sweep.RULES for k in (-7, -6)}
    assert "| mlr | without |" in page.page(rows)


def test_heads_that_do_not_divide_a_width_are_refused(capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--width", "30"])
    assert "--heads 4 must divide every width; got 30" in capsys.readouterr().err


# --- the page ---------------------------------------------------------------------------------------------------


def row(structure, rule, width, rate, loss, seed=0):
    sizes = {"steps": 6, "batch": 2, "length": 8, "n_layers": 1, "n_heads": 2, "text": "t"}
    told = {"structure": structure, "rule": rule, "width": width, "log2_rate": rate, "seed": seed, "loss": loss}
    counts = {"steps_done": 6, "parameters": 9, "seconds": 1.0, "cpu_seconds": 30.0}
    return {"kind": "run", **told, **sizes, **counts, **ORIGIN}


def valley(structure, rule, width, best, *, low=2.0, rates=range(-10, -3)):
    return [row(structure, rule, width, rate, low + 0.1 * (rate - best) ** 2) for rate in rates]


def swept():
    return [
        *valley("standard", "with", 32, -6.8),
        *valley("standard", "with", 128, -6.7, low=1.5),
        *valley("standard", "without", 32, -5.9),
        *valley("standard", "without", 128, -8.1, low=1.5),
        *valley("btt", "with", 32, -7.0),
        *valley("btt", "with", 128, -5.1),
        *valley("btt", "without", 32, -7.0),
        *valley("btt", "without", 128, -8.0),
    ]


def test_best_rates_are_those_of_the_parabola_and_the_price_is_what_the_narrow_rate_loses():
    text = page.page(swept())
    assert "| standard | with | -6.8 (2.004) | -6.7 (1.509) | +0.1 | 0.000 |" in text
    # At 2^-6 the wide network is 0.1 * 2.1^2 above its valley, on the grid at best 0.1 * 0.1^2.
    assert "| standard | without | -5.9 (2.001) | -8.1 (1.501) | -2.2 | 0.440 |" in text
    assert (
        "- With the rule, from width 32 to 128 the best rate moves by +0.1 to +1.9 powers of two, median +1.0" in text
    )
    assert "- Without the rule, from width 32 to 128 the best rate moves by -2.2 to -1.0 powers of two" in text
    assert "less with the rule than without for 1 of 2 structures, not for `btt`." in text
    assert "All of 56 runs ended in a number." in text
    assert "All runs took 28 minutes of processor time." in text


def test_a_best_rate_at_the_end_of_the_grid_is_starred():
    rows = [*valley("mlr", "with", 32, -4.0), *valley("mlr", "with", 64, -4.6), *valley("mlr", "with", 128, -10.9)]
    assert "| mlr | with | -4.0* (2.000) | -4.6 (2.016) | -10.0* (2.081) |" in page.page(rows)


def test_runs_without_a_number_are_counted_named_and_have_no_curve():
    rows = [*valley("mlr", "with", 32, -7.0), *valley("mlr", "with", 128, -7.0)]
    rows = [{**r, "loss": None} if r["log2_rate"] >= -6 and r["width"] == 128 else r for r in rows]
    text = page.page(rows)
    assert "3 of 14 runs ended in no number: `mlr` with the rule, width 128, rates -6, -5, -4." in text
    assert "| mlr | with | -7.0 (2.000) | -7.0 (2.000) | +0.0 | 0.000 |" in text
    lost = [{**r, "loss": None} if r["width"] == 128 else r for r in rows]
    assert "| mlr | with | -7.0 (2.000) | no number |  |  |" in page.page(lost)
    one = [row("mlr", "with", 32, -7, 2.0), row("mlr", "with", 32, -7, None, seed=1)]
    assert page.curve(one, "mlr", "with", 32) == {-7: None}, "a mean over the others would hide the seed that was lost"


def test_only_rates_that_all_seeds_have_make_a_curve():
    rows = [row("mlr", "with", 32, rate, 2.0 + seed, seed=seed) for seed in (0, 1) for rate in (-7, -6)]
    assert page.curve(rows[:-1], "mlr", "with", 32) == {-7: 2.5}


def test_without_runs_nothing_is_said_or_drawn(tmp_path):
    assert page.read_rows(tmp_path / "none.jsonl") == []
    assert page.page([]).rstrip().endswith("No run is recorded yet.")
    assert pictures.outdated(tmp_path, []) == []
    (tmp_path / page.PICTURE).write_text("old")
    assert pictures.outdated(tmp_path, []) == [page.PICTURE]
    pictures.update(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_the_picture_shows_these_numbers_and_is_drawn_the_same_again(tmp_path):
    rows = [*swept(), row("btt", "without", 128, -3, None)]
    assert pictures.outdated(tmp_path, rows) == [page.PICTURE]
    pictures.update(tmp_path, rows)
    drawn = (tmp_path / page.PICTURE).read_bytes()
    assert pictures.outdated(tmp_path, rows) == []
    assert b"btt, without" in drawn
    (tmp_path / page.PICTURE).unlink()
    pictures.update(tmp_path, rows)
    assert (tmp_path / page.PICTURE).read_bytes() == drawn
    assert pictures.outdated(tmp_path, rows[1:]) == [page.PICTURE]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "says two things of"),
        ({"seed": 1, "steps": 7}, "more than one steps"),
        ({"seed": 1, "text": "u"}, "more than one text"),
        ({"seed": 1, "commit": ""}, "does not say where it comes from"),
        ({"seed": 1, "kind": "other"}, "not a record of run"),
    ],
)
def test_rows_that_do_not_belong_together_are_refused(tmp_path, changes, message):
    path = tmp_path / "sweep.jsonl"
    first = row("mlr", "with", 32, -7, 2.0)
    path.write_text(f"{json.dumps(first)}\n{json.dumps({**first, **changes})}\n")
    with pytest.raises(ValueError, match=message):
        page.read_rows(path)


def test_the_page_in_docs_is_the_page_of_the_records():
    rows = page.read_rows(ROOT / "benchmarks" / "results" / page.FILE)
    assert (ROOT / "docs" / "width_sweep.md").read_text(encoding="utf-8") == page.page(rows)
    assert pictures.outdated(ROOT / "docs" / "pictures", rows) == []
