"""Do the paper's experiments count, train and record what they say?"""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from scripts import load
from torch import nn

from tsattn.matrices import BTT
from tsattn.nn.rates import maximal_update_groups

experiment = load("experiment")
SCORES = ("standard", "sliding_window", "global_local", "mlr", "mlr_matrix", "btt", "monarch", "butterfly", "kronecker")


def make(score, *, width=16, **options):
    options = {"n_heads": 2, "n_layers": 2, "length": 24, **options}
    network = experiment.Network(score, width, **options)
    generator = torch.Generator().manual_seed(0)
    return experiment.CausalTransformer(network, nn.Embedding(5, width), 5, generator=generator)


@pytest.mark.parametrize("score", [*SCORES, "mlbtc"])
def test_tokens_see_the_past_alone_and_steps_equal_the_pass(score):
    model = make(score)
    nn.init.normal_(model.read_out.weight)
    tokens = torch.randint(5, (3, 24))
    whole = model(tokens)
    changed = tokens.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 5
    torch.testing.assert_close(model(changed)[:, :10], whole[:, :10])
    assert (model(changed)[:, 10] - whole[:, 10]).abs().max() > 1e-3
    caches = model.stack.make_caches(3, 24)
    stepped = [model.step(tokens[:, :7], caches), *(model.step(tokens[:, i : i + 1], caches) for i in range(7, 24))]
    torch.testing.assert_close(torch.cat(stepped, dim=1), whole, rtol=1e-4, atol=1e-5)


def pairs(length, sees):
    return sum(sees(i, j) for i in range(length) for j in range(i + 1))


def test_multiply_adds_count_what_is_seen():
    maps = 2 * (4 * 16 * 16 + 2 * 16 * 64) * 24
    all_pairs = pairs(24, lambda i, j: True)
    assert experiment.multiply_adds(make("standard")) == maps + 2 * 2 * all_pairs * (8 + 8)
    near = pairs(24, lambda i, j: i - j < 5)
    assert experiment.multiply_adds(make("sliding_window", window=5)) == maps + 2 * 2 * near * (8 + 8)
    halves = all_pairs * (4 + 8) + near * (4 + 8)
    assert experiment.multiply_adds(make("global_local", window=5)) == maps + 2 * 2 * halves


@pytest.mark.parametrize("shifted", [False, True])
def test_multiply_adds_of_levels_are_those_inside_blocks(shifted):
    model = make("mlr", ranks=(4, 2, 2), shifted=shifted)
    first, second = (block.attention.score for block in model.stack.blocks)
    assert (second.offset > 0) == shifted
    expected = 2 * (4 * 16 * 16 + 2 * 16 * 64) * 24
    for score in (first, second):
        sizes = [(4, 10**6, 0), *((2, size, score.offset) for size in score.block_sizes[1:])]
        scores = sum(
            rank * pairs(24, lambda i, j, size=size, o=shift: (i + o) // size == (j + o) // size)
            for rank, size, shift in sizes
        )
        expected += 2 * (scores + 8 * pairs(24, lambda i, j: True))
    assert experiment.multiply_adds(model) == expected


def test_multiply_adds_of_bilinear_scores_are_the_matrix_and_its_features():
    matrix = BTT(16, 16, heads=2)
    maps = (2 * 16 * 16 + 2 * 16 * 64 + matrix.flops) * 24
    assert experiment.multiply_adds(make("btt", n_layers=1)) == maps + 2 * 300 * (16 + 8)


# --- rates ------------------------------------------------------------------------------------------------------


def rates(model, **options):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = maximal_update_groups(model, 1.0, base_width=8, **options)
    found = [(names[id(parameter)], group["lr"]) for group in groups for parameter in group["params"]]
    assert len(found) == len(names) == len(dict(found)), "every parameter has one rate"
    return dict(found)


def test_maximal_update_divides_by_the_fan_in_and_leaves_vectors():
    model = make("btt", width=16, n_layers=1)
    found = rates(model, inputs=(model.read_in,))
    assert found["stack.blocks.0.feed_forward.widen.weight"] == 8 / 16
    assert found["stack.blocks.0.feed_forward.narrow.weight"] == 8 / 64
    assert found["read_out.weight"] == 8 / 16
    assert found["stack.blocks.0.attention.score.matrix.left.0"] == 8 / 4
    vectors = ("positions", "read_in.weight", "stack.norm.weight", "read_out.bias")
    assert {found[name] for name in vectors} == {1.0}


def test_what_reads_data_keeps_the_rate():
    model = nn.Sequential(nn.Linear(3, 16), nn.Linear(16, 1))
    assert rates(model, inputs=(model[0],))["0.weight"] == 1
    assert rates(model)["0.weight"] == 8 / 3
    with pytest.raises(ValueError, match="inputs must be modules of the model; got Linear"):
        maximal_update_groups(model, 1.0, base_width=8, inputs=(nn.Linear(1, 1),))
    with pytest.raises(ValueError, match="base_width must be at least 1; got 0"):
        maximal_update_groups(model, 1.0, base_width=0)


class Slope(nn.Module):
    """A loss of one constant gradient, by which Adam moves the weight as far as the rate says."""

    def __init__(self):
        super().__init__()
        self.network = SimpleNamespace(maximal_update=False)
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))


def test_a_rate_rises_stays_and_falls():
    def moves(**options):
        model, at = Slope(), [0.0]
        options = {"learning_rate": 0.1, "n_warmup": 2, **options}
        experiment.train(model, [lambda: -model.weight] * 10, after=lambda _: at.append(model.weight.item()), **options)
        return [(after - before) / 0.1 for before, after in pairwise(at)]

    assert moves() == pytest.approx([0.5] + [1] * 9, abs=1e-6)
    assert moves(cooldown=(6, 10)) == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25], abs=1e-6)


def test_training_lowers_a_loss_with_and_without_the_rule():
    x = torch.randint(5, (8, 24), generator=torch.Generator().manual_seed(1))
    for rule in (True, False):
        model = make("mlr", maximal_update=rule)

        def loss(model=model):
            return nn.functional.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten())

        start, seen = loss().item(), []
        seconds = experiment.train(model, [loss] * 60, learning_rate=3e-3, n_warmup=5, after=seen.append)
        assert loss().item() < 0.9 * start
        assert seen == list(range(1, 61))
        assert seconds > 0


# --- records ----------------------------------------------------------------------------------------------------


def test_a_run_is_recorded_once_and_with_its_origin(tmp_path):
    records = experiment.Records(tmp_path / "runs.jsonl", ("width", "seed"))
    cells = [{"width": 8, "seed": seed} for seed in (0, 1)]
    for cell in records.missing(cells):
        records.add({**cell, "loss": 0.5})
    assert list(records.missing(cells)) == []
    rows = records.rows()
    assert [row["seed"] for row in rows] == [0, 1]
    assert all({"commit", "versions", "machine", "finished"} <= set(row) for row in rows)
    assert [cell["seed"] for cell in records.missing([*cells, {"width": 8, "seed": 2}])] == [2]
    assert records.add({"width": 8, "seed": 1, "loss": 0.9})["loss"] == 0.5, (
        "two processes at one run: the first counts"
    )
    assert records.rows() == rows
    with pytest.raises(ValueError, match=r"a row of runs\.jsonl needs seed"):
        records.add({"width": 8})


def test_a_write_that_fails_leaves_the_old_rows(tmp_path, monkeypatch):
    records = experiment.Records(tmp_path / "runs.jsonl", ("seed",))
    records.add({"seed": 0})
    before = records.path.read_text()

    def fail(*args):
        raise OSError("no room")

    monkeypatch.setattr(experiment.os, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        records.add({"seed": 1})
    assert records.path.read_text() == before
    assert json.loads(before)["seed"] == 0
