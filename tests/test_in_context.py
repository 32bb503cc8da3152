"""Are prompts of in-context regression what they should be, runs recorded once, and pages made from records alone?"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scripts import ROOT, Pictures, load
from torch import nn

in_context, in_context_page = load("in_context"), load("in_context_page")
pictures = Pictures(in_context_page)
TINY = ["--dim", "4", "--width", "16", "--layers", "1", "--heads", "2", "--steps", "10", "--batch", "4"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def few(monkeypatch):
    """Fewer fixed prompts."""
    fixed = in_context.fixed_prompts
    monkeypatch.setattr(in_context, "fixed_prompts", lambda dim, seed: fixed(dim, seed, 16))


# --- the task ---------------------------------------------------------------------------------------------------


def test_prompts_hold_one_linear_function_each_of_mean_square_one():
    x, y = in_context.draw(4000, 6, 12, generator=seeded())
    assert (x.shape, y.shape) == ((4000, 12, 6), (4000, 12))
    assert y.square().mean().item() == pytest.approx(1, abs=0.05)
    weights = torch.linalg.lstsq(x[:, :6].double(), y[:, :6, None].double()).solution
    torch.testing.assert_close((x.double() @ weights).squeeze(2)[:50], y[:50].double(), rtol=1e-2, atol=1e-2)
    assert weights.std().item() > 0.3, "each prompt has weights of its own"


def test_unused_coordinates_are_zero_and_draws_repeat():
    prompts = in_context.draw(3, 6, 5, generator=seeded(), n_active=4)
    assert (prompts.x[..., 4:] == 0).all()
    assert (prompts.x[..., :4] != 0).all()
    again = in_context.draw(3, 6, 5, generator=seeded(), n_active=4)
    assert torch.equal(prompts.x, again.x)
    assert torch.equal(prompts.y, again.y)


def test_tokens_take_turns():
    x = torch.arange(12.0).reshape(1, 3, 4)
    prompts = in_context.Prompts(x, torch.tensor([[7.0, 8.0, 9.0]]))
    tokens = in_context.turns(prompts)
    assert tokens.shape == (1, 6, 4)
    assert torch.equal(tokens[0, ::2], x[0])
    assert tokens[0, 1::2].tolist() == [[7, 0, 0, 0], [8, 0, 0, 0], [9, 0, 0, 0]]
    tokens = in_context.pairs(prompts)
    assert tokens.shape == (1, 3, 9)
    assert torch.equal(tokens[0, :, :4], x[0])
    assert torch.equal(tokens[0, 1:, 4:8], x[0, :2])
    assert tokens[0, 0, 4:].tolist() == [0] * 5
    assert tokens[0, :, 8].tolist() == [0, 7, 8]


class Echo(nn.Module):
    """Writes at each token the first number of that token."""

    def forward(self, tokens):
        return tokens[..., :1]


@pytest.mark.parametrize("layout", in_context.LAYOUTS)
def test_predictions_are_read_where_x_stands(layout):
    prompts = in_context.draw(5, 3, 4, generator=seeded())
    errors = in_context.squared_errors(Echo(), prompts, layout)
    torch.testing.assert_close(errors, (prompts.x[..., 0] - prompts.y).square())
    by_point = in_context.errors_by_point(Echo(), prompts, layout, batch=2)
    np.testing.assert_allclose(by_point, errors.double().mean(0).numpy(), rtol=1e-6)


@pytest.mark.parametrize("layout", in_context.LAYOUTS)
def test_a_network_does_not_see_the_answer(layout):
    cell = {"layout": layout, "seed": 0, "dim": 4, "width": 16, "variant": "btt", "heads": 2, "layers": 1}
    model = in_context.make_model(cell)
    nn.init.normal_(model.read_out.weight, generator=seeded())
    x, y = in_context.draw(2, 4, 8, generator=seeded())
    other = y.clone()
    other[:, 5] += 1

    def predict(answers):
        how = in_context.LAYOUTS[layout]
        return model(how.tokens(in_context.Prompts(x, answers)))[:, :: how.per_point, 0]

    torch.testing.assert_close(predict(other)[:, :6], predict(y)[:, :6])
    assert (predict(other) - predict(y))[:, 6:].abs().min() > 0


def test_least_squares_needs_as_many_points_as_coordinates():
    found = in_context.least_squares_by_point(in_context.draw(3000, 4, 8, generator=seeded()))
    np.testing.assert_allclose(found[:4], [1, 0.75, 0.5, 0.25], atol=0.08)
    assert max(found[4:]) < 1e-6


def test_one_gradient_step_leaves_what_its_formula_says():
    x, y = in_context.draw(20_000, 4, 8, generator=seeded())
    dim, n_points = 4, 7
    weights = torch.einsum("bnd,bn->bd", x[:, :n_points], y[:, :n_points]) / (n_points + dim + 1)
    error = ((x[:, n_points] * weights).sum(1) - y[:, n_points]).square().mean().item()
    assert error == pytest.approx(in_context_page.one_step(dim, n_points), abs=0.02)


def test_prompts_grow_in_equal_steps_and_are_whole_after_their_share():
    stages = [in_context.stage(step, 1000, 10, 0.06) for step in range(1000)]
    assert stages[0] == (4, 8)
    assert sorted(set(stages)) == [(n, 2 * n) for n in range(4, 11)]
    assert stages == sorted(stages)
    assert stages.index((10, 20)) == 60
    assert [stages.count((n, 2 * n)) for n in range(4, 10)] == [10] * 6
    assert in_context.stage(0, 1000, 10, 0.0) == (10, 20)
    assert in_context.stage(0, 1000, 3, 0.5) == (3, 6)


def test_a_rate_falls_in_the_last_part():
    assert in_context.cooldown_of(3000, 0.3) == (2100, 3000)
    assert in_context.cooldown_of(3000, 0.0) is None
    assert in_context.cooldown_of(4, 0.1) is None


# --- runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", in_context.VARIANTS)
def test_every_variant_is_built_as_named(variant):
    cell = {"layout": "turns", "seed": 0, "dim": 4, "width": 32, "variant": variant, "heads": 8, "layers": 2}
    model = in_context.make_model(cell)
    score = model.stack.blocks[1].attention.score
    assert score.n_heads == (1 if variant.startswith("standard_1") else 8)
    matrix = type(score.matrix).__name__.lower() if hasattr(score, "matrix") else variant
    assert matrix == variant
    # The paper's question: only heads of standard_8 and its single twin have fewer features than x coordinates.
    assert score.d_key == {"standard_8": 4, "standard_1_of_8": 4, "mlr": 16}.get(variant, 32)
    assert in_context.squared_errors(model, in_context.draw(2, 4, 8, generator=seeded()), "turns").shape == (2, 8)


def test_training_learns_and_is_the_same_again(few):
    cell = {"seed": 1, "dim": 1, "width": 16, "variant": "btt", "heads": 2, "layers": 2, "steps": 150, "batch": 32}
    cell |= {"layout": "turns", "rate": 1e-2, "curriculum": 0.1, "cooldown": 0.2}
    found = in_context.run(cell)
    assert found["error"] == found["by_point"][-1]
    assert found["error"] < 0.7
    assert [step for step, _ in found["curve"]] == list(range(7, 148, 7))
    again = in_context.run(cell)
    assert [found[name] for name in ("by_point", "curve")] == [again[name] for name in ("by_point", "curve")]


def test_the_best_rate_of_the_first_seed_serves_the_others(few, monkeypatch, tmp_path):
    ran = []

    def run(cell):
        ran.append((cell["variant"], cell["seed"], cell["rate"]))
        best = {"btt": 0.1, "mlr": 0.2}[cell["variant"]]
        return {"validation_error": abs(cell["rate"] - best), "error": 0.5, "seconds": 1.0}

    monkeypatch.setattr(in_context, "run", run)
    options = [*TINY, "--out", str(tmp_path / "runs.jsonl"), "--variant", "btt", "--variant", "mlr"]
    options += ["--rate", "0.1", "--rate", "0.2", "--seed", "3", "--seed", "4"]
    assert in_context.main(options) == 0
    tuning = [(variant, 3, rate) for variant in ("btt", "mlr") for rate in (0.1, 0.2)]
    assert ran == [*tuning, ("btt", 4, 0.1), ("mlr", 4, 0.2)]
    assert in_context.main(options) == 0
    assert len(ran) == 6, "nothing is run twice"


def test_rates_may_be_tried_with_more_seeds_than_one(few, monkeypatch, tmp_path):
    ran = []
    # The best with the first seed fails with the second.
    errors = {(0, 0.1): 0.1, (0, 0.2): 0.2, (1, 0.1): 0.9, (1, 0.2): 0.3, (2, 0.2): 0.25}

    def run(cell):
        ran.append((cell["seed"], cell["rate"]))
        return {"validation_error": errors[ran[-1]], "error": 0.5, "seconds": 1.0}

    monkeypatch.setattr(in_context, "run", run)
    options = [*TINY, "--out", str(tmp_path / "runs.jsonl"), "--variant", "btt", "--tuning-seeds", "2"]
    assert in_context.main([*options, "--rate", "0.1", "--rate", "0.2"]) == 0
    assert ran == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2), (2, 0.2)]


def test_a_rate_that_diverged_with_a_seed_is_no_candidate(few, monkeypatch, tmp_path):
    def run(cell):
        if (cell["seed"], cell["rate"]) == (1, 0.1):
            raise ArithmeticError("no number")
        return {"validation_error": cell["rate"], "error": 0.5, "seconds": 1.0}

    monkeypatch.setattr(in_context, "run", run)
    options = [*TINY, "--out", str(tmp_path / "runs.jsonl"), "--variant", "btt", "--tuning-seeds", "2"]
    assert in_context.main([*options, "--rate", "0.1", "--rate", "0.2"]) == 1
    rows = in_context.experiment.Records(tmp_path / "runs.jsonl", in_context.KEY).rows()
    assert [(row["seed"], row["rate"]) for row in rows if row["kind"] == "run"] == [
        (0, 0.1),
        (0, 0.2),
        (1, 0.2),
        (2, 0.2),
    ]


def test_the_page_takes_the_rate_that_is_best_over_the_seeds_that_all_rates_have():
    def row(seed, rate, error):
        told = dict.fromkeys(in_context_page._KEY) | {"kind": "run", "variant": "btt", "width": 16, "dim": 4}
        return told | {"seed": seed, "rate": rate, "validation_error": error}

    both = [row(0, 0.1, 0.1), row(0, 0.2, 0.2), row(1, 0.1, 0.9), row(1, 0.2, 0.3), row(2, 0.2, 0.8)]
    assert [(r["seed"], r["rate"]) for r in in_context_page.chosen(both)] == [(0, 0.2), (1, 0.2), (2, 0.2)]
    first = [each for each in both if (each["seed"], each["rate"]) != (1, 0.2)]
    assert [(r["seed"], r["rate"]) for r in in_context_page.chosen(first)] == [(0, 0.1), (1, 0.1)]


def test_a_run_that_diverges_is_named_and_not_recorded(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(in_context, "errors_by_point", lambda *_: [float("nan")])
    options = [*TINY, "--out", str(tmp_path / "runs.jsonl"), "--variant", "btt", "--rate", "0.1"]
    assert in_context.main(options) == 1
    assert "btt, d 4, width 16, rate 0.1, seed 0 ended in numbers that are none" in capsys.readouterr().err
    rows = in_context.experiment.Records(tmp_path / "runs.jsonl", in_context.KEY).rows()
    assert [row["kind"] for row in rows] == ["reference", "reference"]


def test_the_papers_sizes():
    options = in_context._parse(["--paper"])
    assert (options.dim, options.layers, options.steps, options.curriculum) == (128, 6, 500_000, 0.06)
    assert options.layout == "turns"
    assert options.width == [16, 32, 64, 128, 256, 512, 1024]
    assert options.variant == list(in_context.VARIANTS)


# --- pages ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp("records") / "runs.jsonl"
    fixed = in_context.fixed_prompts
    in_context.fixed_prompts = lambda dim, seed: fixed(dim, seed, 16)
    try:
        options = ["--variant", "standard_8", "--variant", "btt", "--rate", "0.003", "--seed", "0", "--seed", "1"]
        assert in_context.main([*TINY, "--out", str(out), "--width", "8", *options]) == 0
    finally:
        in_context.fixed_prompts = fixed
    return out


def test_records_are_whole_and_read_back(recorded, tmp_path):
    rows = in_context_page.read_rows(recorded)
    assert [row["variant"] for row in rows if row["kind"] == "reference"] == ["zero", "least_squares"]
    runs = [row for row in rows if row["kind"] == "run"]
    assert len(runs) == 8
    assert all(len(row["by_point"]) == 8 for row in rows)
    assert all(len(row["curve"]) == 10 for row in runs)
    assert in_context_page.read_rows(tmp_path / "none.jsonl") == []
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text(json.dumps({name: value for name, value in runs[0].items() if name != "curve"}) + "\n")
    with pytest.raises(ValueError, match=r"damaged\.jsonl, line 1 lacks curve"):
        in_context_page.read_rows(damaged)
    damaged.write_text(2 * (json.dumps(runs[0]) + "\n"))
    with pytest.raises(ValueError, match=r"damaged\.jsonl says two things of"):
        in_context_page.read_rows(damaged)


def change(rows, errors, **fields):
    """The rows with other errors by (variant, seed)."""
    changed = []
    for row in rows:
        error = errors.get((row["variant"], row["seed"]))
        changed.append(row if error is None else row | {"error": error, "validation_error": error} | fields)
    return changed


def test_the_table_shows_the_chosen_rate_and_the_errors_of_all(recorded):
    rows = [row for row in in_context_page.read_rows(recorded) if row["width"] in (None, 8)]
    rows = change(rows, {("btt", 0): 0.04, ("btt", 1): 0.06, ("standard_8", 0): 0.9, ("standard_8", 1): 0.7})
    worse = [row | {"rate": 0.1, "validation_error": 0.05, "error": 0.0} for row in rows if row["variant"] == "btt"]
    text = in_context_page.table([*rows, *worse])
    row, chosen, other = [line for line in text.splitlines() if line.startswith("| `btt`")]
    assert "| 0.003 (0.003, 0.1) | 0.050 ± 0.014 |" in row
    assert (chosen, other) == ("| `btt` | 8 | 0.003 | 0.040 | 0.060 |", "| `btt` | 8 | 0.1 | 0.000 | 0.000 |")
    assert "All rates" not in in_context_page.table(rows), "one rate has no choice to show"
    assert {row["rate_chosen"] for row in in_context_page.chosen([*rows, *worse])} == {0.003}
    assert "fewer than d = 4 at width" not in text, "four features a head are as many as d"
    assert "`btt`: smaller mean error than `standard_8` at every width (0.050 against 0.800, 16.0 times)" in text
    assert "Learned (error below 0.1): `btt` at width 8." in text
    assert "| least squares |" in text


def test_statements_follow_the_numbers(recorded):
    rows = [row | {"heads": 8} if row["kind"] == "run" else row for row in in_context_page.read_rows(recorded)]
    good = change(rows, {("btt", seed): 0.05 for seed in (0, 1)} | {("standard_8", seed): 0.9 for seed in (0, 1)})
    bad = change(rows, {("btt", seed): 0.6 for seed in (0, 1)} | {("standard_8", seed): 0.3 for seed in (0, 1)})
    told, untold = in_context_page.table(good), in_context_page.table(bad)
    assert "D / 8 features: fewer than d = 4 at widths 8, 16." in told
    assert "`standard_8` stays above 0.5, as the paper says, at widths 8, 16." in told
    assert "here it does not stay above 0.5" in untold
    assert "`btt`: no smaller mean error than `standard_8` at any width" in untold
    assert "Learned (error below 0.1): nobody." in untold


def test_without_records_the_page_says_so_and_no_picture_is_due(tmp_path):
    assert in_context_page.table([]) == "No run is recorded yet."
    assert pictures.outdated(tmp_path, []) == []
    (tmp_path / "in_context_cost.svg").write_text("old")
    assert pictures.outdated(tmp_path, []) == ["in_context_cost.svg"]
    pictures.update(tmp_path, [])
    assert list(tmp_path.iterdir()) == []


def test_pictures_are_the_same_for_the_same_records_and_tell_others(recorded, tmp_path):
    rows = in_context_page.read_rows(recorded)
    pictures.update(tmp_path, rows)
    names = ["in_context_cost.svg", "in_context_points.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    first = {name: (tmp_path / name).read_bytes() for name in names}
    assert b">btt<" in first[names[0]]
    assert b">least squares<" in first[names[1]]
    assert pictures.outdated(tmp_path, rows) == []
    other = change(rows, {("btt", 0): 0.123})
    assert pictures.outdated(tmp_path, other) == ["in_context_cost.svg"]
    for name in names:
        (tmp_path / name).unlink()
    pictures.update(tmp_path, rows)
    assert {name: (tmp_path / name).read_bytes() for name in names} == first


def test_the_page_has_the_marks():
    text = (ROOT / "docs" / "in_context.md").read_text(encoding="utf-8")
    tables = in_context_page.tables
    rendered = tables.between_marks(Path("in_context.md"), text, "new", *in_context_page.MARKS)
    assert "\nnew\n" in rendered
