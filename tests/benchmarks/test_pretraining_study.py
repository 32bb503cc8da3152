"""The study of attentions of the pretrained network: its arms and what they look at."""

import dataclasses
import json
from statistics import NormalDist

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("records")
from checkout import ORIGIN
from pretraining_study import floor, long, page
from pretraining_study.run import ARMS, RANKS, Study, StudyNetwork, detect_second, multiply_adds

from tsattn.pretrained import pretraining
from tsattn.pretrained.network import QUANTILES, ZeroConfig, ZeroNetwork
from tsattn.pretrained.period import Seasons
from tsattn.pretrained.pretraining import Recipe, Shape
from tsattn.pretrained.synthetic import make

HOURS = torch.arange(24.0 * 21)


def network_of(name, **config):
    sizes = {"d_model": 48, "n_heads": 2, "n_layers": 2, "d_ff": 32, **config}
    network = StudyNetwork(
        ARMS[name], ZeroConfig(**sizes), generator=torch.Generator().manual_seed(0)
    )
    return shaken(network)


def shaken(network):
    """With weights that forecast something else than the start values do."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def seasons_of(period):
    """Seasons by their length alone, without a cycle."""
    period = torch.tensor([period])
    strength = torch.ones(1)
    return Seasons(period, period, strength, strength, strength < 0)


@pytest.mark.parametrize("name", ARMS)
def test_each_arm_reads_each_series_by_itself_and_learns(name):
    network = network_of(name)
    x = torch.from_numpy(make(6, 500, seed=3)).double()
    x[1, :100] = torch.nan
    together = network.forecast(x, 30)
    assert together.isfinite().all()
    alone = torch.cat([network.forecast(x[i : i + 1], 30) for i in range(6)])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4)
    network.train()
    network(x, 30)[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_a_run_of_an_arm_trains_the_network_of_the_arm():
    config = ZeroConfig(d_model=48, n_heads=2, n_layers=1, d_ff=32)
    study = Study(ARMS["standard"], config, Recipe(10))
    assert isinstance(study.network, StudyNetwork)
    assert isinstance(study.average, StudyNetwork)
    assert study.network.arm == ARMS["standard"]


def test_each_level_of_standard_attention_holds_all_pairs():
    config = ZeroConfig(d_model=48, n_heads=2, n_layers=1, d_ff=32)
    ours, standard = (
        shaken(kind(config, generator=torch.Generator().manual_seed(0)))
        for kind in (ZeroNetwork, long.StandardNetwork)
    )
    x = torch.sin(2 * torch.pi * HOURS / 24)[None].double()
    seen = []
    place = standard.stack.blocks[0].attention.score.place

    def placed(groups, times):
        seen.append((groups, times))
        return place(groups, times)

    standard.stack.blocks[0].attention.score.place = placed
    answer = standard.forecast(x, 24)
    assert seen
    for groups, times in seen:
        assert all((group == group[..., :1]).all() for group in groups)
        assert all((time.diff() > 0).all() for time in times)
        assert all(torch.equal(time, times[0]) for time in times)
    assert not torch.allclose(answer, ours.forecast(x, 24))


@pytest.fixture
def short_runs(tmp_path, monkeypatch):
    """The folder of states of runs of eight steps of a small network on small batches."""
    monkeypatch.setattr(pretraining, "SHAPES", (Shape(8, 12, 8, 0.5), Shape(16, 24, 4, 0.5)))
    config = ZeroConfig(d_model=48, n_heads=2, n_layers=1, d_ff=32, measure="recent")
    monkeypatch.setattr(long, "SIZES", {long.SIZE: config})
    monkeypatch.setattr(long, "RECIPES", {long.RECIPE: Recipe(8, phase=4, recent_from=4)})
    monkeypatch.setattr(long, "STEPS_A_MINUTE", 2)
    states = tmp_path / "states"
    monkeypatch.setattr(long, "STATES", states)
    return states


def cells_of(line):
    return [cell.strip() for cell in line.split("|")]


def test_standard_attention_learns_by_the_recipe_and_stands_beside_it(
    short_runs, tmp_path, monkeypatch
):
    assert page.long_run(tmp_path) == "No run is recorded yet."
    standard = short_runs / long.STANDARD
    given = ["--state", str(standard)]
    assert long.main([*given, "--minutes", "1"]) == 0
    assert long.main([*given, "--minutes", "4"]) == 0
    curve = [json.loads(line) for line in (standard / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [2, 8]
    saved = torch.load(standard / "state.pt", weights_only=True)
    network = long.StandardNetwork(long.SIZES[long.SIZE])
    network.load_state_dict(saved["average"])
    (short_runs / long.SEASONAL).mkdir()
    # The other curve lacks a point.
    points = [{**curve[0], "step": 1}]
    points += [{**point, "validation": point["validation"] / 1.05} for point in curve]
    text = "".join(json.dumps(point) + "\n" for point in points)
    (short_runs / long.SEASONAL / "curve.jsonl").write_text(text)
    monkeypatch.setattr(long, "SHOWN", (1, 2, 5000))
    *_, first, last = page.long_run(tmp_path).splitlines()
    assert cells_of(first)[1::3] == ["2", "+5.0", ""]
    assert cells_of(last)[1::3] == ["8", "+5.0", ""]


def keep_state(kind, folder, step):
    """The state and the curve of a run that has made so many steps."""
    work = kind(long.SIZES[long.SIZE], long.RECIPES[long.RECIPE])
    work.step = step
    tensors, facts = work.phase_state()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "phase.safetensors")
    (folder / "phase.json").write_text(json.dumps(facts))
    (folder / "curve.jsonl").write_text(json.dumps({"step": step, "validation": 0.5}))


def test_states_after_as_many_steps_are_judged_and_shown(short_runs, tmp_path, monkeypatch):
    def judge(network, pack):
        assert pack == "the pack"
        scores = [1.1, 1.2] if isinstance(network, long.StandardNetwork) else [1.0, 1.0]
        return {"columns": [scores], "tasks": dict.fromkeys("abc", scores)}

    monkeypatch.setattr(long, "judge", judge)
    monkeypatch.setattr(long, "Pack", lambda folder: f"the {folder}")
    monkeypatch.setattr(long, "RECIPES", {long.RECIPE: Recipe(8, phase=4)})
    ours = short_runs / long.SEASONAL
    standard = short_runs / long.STANDARD
    keep_state(long.Pretraining, ours, 8)
    keep_state(long.StandardPretraining, standard, 4)
    out = tmp_path / long.FILE
    given = ["--pack", "pack", "--levels", str(ours), "--state", str(standard), "--out", str(out)]
    with pytest.raises(ValueError, match=r"as many steps; got \{'levels': 8, 'standard': 4\}"):
        long.main(given)
    assert not out.exists()
    keep_state(long.StandardPretraining, standard, 8)
    assert long.main(given) == 0
    assert long.main(given) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["attention"], row["step"]) for row in rows] == [("levels", 8), ("standard", 8)]
    *_, last, _, _ = page.long_run(tmp_path).splitlines()
    assert cells_of(last)[1::2] == ["8", "0.5000", "+10.0 (+10.0,+10.0)", ""]
    assert cells_of(last)[4:7:2] == ["+0.0", "+20.0 (+20.0,+20.0)"]


def test_the_kept_state_of_standard_attention_goes_on():
    kept = long.STATES / long.STANDARD
    facts = json.loads((kept / "phase.json").read_text())
    curve = [json.loads(line) for line in (kept / "curve.jsonl").read_text().splitlines()]
    assert curve[-1]["step"] >= facts["step"] > 0
    work = long.StandardPretraining(long.SIZES[long.SIZE], long.RECIPES[long.RECIPE])
    work.restore_phase(load_file(kept / "phase.safetensors"), facts)
    assert work.step == facts["step"]
    x = torch.sin(2 * torch.pi * torch.arange(174.0) / 12)[None].double()
    answer = work.average.forecast(x[:, :150], 24)[0]
    middle = work.average.quantile_levels.index(0.5)
    assert (answer[:, middle] - x[0, 150:]).abs().mean() < 0.3


def test_arms_differ_in_what_they_look_at():
    x = (torch.sin(2 * torch.pi * HOURS / 24) + torch.sin(2 * torch.pi * HOURS / 168))[
        None
    ].double()
    answers = [
        network_of(name).forecast(x, 24)
        for name in ("phase", "cycle", "phase and cycle", "halving blocks")
    ]
    for i, one in enumerate(answers):
        assert all((one - other).abs().max() > 1e-4 for other in answers[:i])


def test_groups_of_the_levels():
    network = network_of("phase of two seasons, or near")
    tokens = network._cut(seasons_of(24), 24 * 21, 24, 64)
    network.second = torch.tensor([7])
    network.n_steps = torch.tensor([24 * 21])
    phase, second = network._places(tokens, torch.tensor([24])).groups
    assert (phase[0] == tokens.index % 3).all()
    assert (second[0] == tokens.cycle()[0] % 7).all()
    network.second = torch.tensor([0])
    near = network._places(tokens, torch.tensor([24])).groups[1][0]
    assert near.min() >= 0
    assert near.diff().count_nonzero() == (len(near) + 4) // 8
    for name, whole in (("phase", True), ("phase, near from the origin", False)):
        again = network_of(name)
        again.n_steps = torch.tensor([24 * 21])
        mine = again._places(tokens, torch.tensor([24])).groups[1]
        assert (mine.diff() == near.diff()).all()
        assert bool(mine.min() >= 0) == whole, (
            "only those of the shipped weights have negative parts"
        )
    halving = network_of("halving blocks")
    halving.n_steps = torch.tensor([24 * 21])
    halves = halving._places(tokens, torch.tensor([24])).groups
    assert [halve.unique().tolist() for halve in halves] == [[0, 1], [0, 1, 2, 3]]


def test_second_season_is_that_of_the_cycles():
    day = torch.arange(24 * 70) // 24
    weekly = torch.sin(2 * torch.pi * torch.arange(24.0 * 70) / 24) + 2.0 * (day % 7 > 4)
    noise = torch.randn(24 * 70, generator=torch.Generator().manual_seed(0))
    x = torch.stack([weekly, noise + weekly, noise]).double()
    x[0, 30:90] = torch.nan
    assert detect_second(x, torch.tensor([24, 24, 0])).tolist() == [7, 7, 0]


def test_tokens_of_eight_steps_have_phases_too():
    network = network_of("phase, plain")
    seasons = seasons_of(20)
    network.n_steps = torch.tensor([200])
    tokens = network._cut(seasons, 200, 24, 64)
    phase = network._places(tokens, seasons.period).groups[0][0]
    centre = 8 * tokens.index + 4
    assert phase.unique().tolist() == [0, 1]
    assert (phase == (centre % 20 >= 10)).all()


def test_borrowed_season_depends_on_the_series_alone_and_is_another_one():
    own = network_of("phase")
    lent = network_of("phase of a borrowed season")
    x = torch.from_numpy(make(64, 300, seed=5)).double()
    mine = own.look(x, 9)[1].period
    theirs = lent.look(x, 9)[1].period
    assert (lent.look(x.flip(0), 9)[1].period == theirs.flip(0)).all()
    assert (mine != theirs).float().mean() > 0.5


def test_multiply_adds_count_the_products():
    counts = {
        name: multiply_adds(network_of(name))
        for name in ("standard", "phase", "phase, bilinear BTT")
    }
    assert (
        counts["standard"]
        < counts["phase"]
        < counts["phase, bilinear BTT"]
        < 2 * counts["standard"]
    )
    assert all(sum(ranks) == 24 for ranks in RANKS.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        network_of("phase").config.d_model = 3


# --- the page


def row(arm, seed, validation, mase, **changes):
    whole = {
        "kind": "arm",
        "arm": arm,
        "d_model": 96,
        "steps": 200,
        "seed": seed,
        "multiply_adds": 29_000_000,
    }
    whole |= {
        "core_seconds": 50.0,
        "validation": validation,
        "columns": [[mase, 0.7], [0.8, 0.5], [0.7, 0.6]],
    }
    tasks = {
        name: [factor * mase, 0.5] for name, factor in (("one", 1.0), ("two", 1.1), ("three", 0.9))
    }
    return {**whole, "tasks": tasks, **ORIGIN, **changes}


def write(folder, rows):
    (folder / page.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_table_compares_with_standard_attention_seed_by_seed(tmp_path):
    assert page.study(tmp_path) == "No run is recorded yet."
    rows = [row("standard", seed, 0.40 + 0.01 * seed, 1.0) for seed in range(3)]
    rows += [row("phase", seed, 0.9 * (0.40 + 0.01 * seed), 0.8) for seed in range(3)]
    rows += [
        row("cycle", 5, 0.5, 1.0),
        row("phase", 0, 0.3, 0.7, steps=2000),
        row("phase", 0, 0.2, 0.7, d_model=48),
    ]
    small, large = page.study(write(tmp_path, rows)).split("2,000 steps")
    lines = small.splitlines()
    phase, standard, cycle = (
        next(x for x in lines if x.startswith(f"| {arm} "))
        for arm in ("phase", "standard", "cycle")
    )
    assert lines.index(phase) < lines.index(standard) < lines.index(cycle)
    assert "0.3690 | -10.0 (-10.0,-10.0) | -20.0 (-20.0,-20.0) | +0.0 (+0.0,+0.0) |" in phase
    assert "0.4100" in standard
    assert "%" not in standard
    assert "(" not in cycle  # no seed of its own to compare with
    assert "0.3000" in large


def test_the_picture_shows_widths_where_both_arms_have_them(tmp_path):
    rows = [
        row(arm, 0, 0.4, 1.0, d_model=d, multiply_adds=d * 10**6)
        for arm in page.SCALED
        for d in (96, 48)
    ]
    (panel,) = page.scaling(write(tmp_path, [*rows, row("phase", 0, 0.4, 1.0, steps=2000)]))
    assert [point[0] for point in panel["lines"]["standard"]] == [48, 96]


def test_a_repeated_record_is_refused(tmp_path):
    with pytest.raises(ValueError, match="phase"):
        page.study(write(tmp_path, 2 * [row("phase", 0, 0.3, 0.8)]))


# --- the floor of the loss


@pytest.mark.parametrize("law", floor.LAWS)
def test_the_true_quantiles_hold_what_they_promise_and_no_others_lose_less(law):
    x, mean, deviation = floor.LAWS[law](np.random.default_rng(0), 200, 24)
    assert x.shape == (floor.N_SERIES, 224)
    assert mean.shape == deviation.shape == (floor.N_SERIES, 24)
    errors = (x[:, 200:] - mean) / deviation
    assert np.abs(errors.mean(0)).max() < 0.25
    assert errors.std() == pytest.approx(1, abs=0.05)
    z = torch.tensor([NormalDist().inv_cdf(q) for q in QUANTILES], dtype=torch.float64)
    context = torch.from_numpy(x[:, :200])
    truth = torch.from_numpy(x[:, 200:])
    middle, spread = (
        torch.from_numpy(np.ascontiguousarray(v))[..., None] for v in (mean, deviation)
    )
    least = floor.loss(middle + spread * z, truth, context)
    for other in (
        middle + 1.3 * spread * z,
        middle + 0.7 * spread * z,
        middle + 0.4 * spread + spread * z,
    ):
        assert floor.loss(other, truth, context) > least


def test_the_floor_is_recorded_once_and_shown(tmp_path):
    path = tmp_path / floor.FILE
    assert page.bounds(tmp_path) == "No run is recorded yet."
    sizes = {
        "kind": "floor",
        "n_steps": 36,
        "horizon": 12,
        "weights": "w",
        "loss": 0.4,
        "bound": 0.32,
        "ratio": 1.25,
    }
    rows = [
        {**sizes, "law": "a", **ORIGIN},
        {**sizes, "law": "a", "n_steps": 256, "ratio": 1.014, **ORIGIN},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    cells = [cell.strip() for cell in page.bounds(tmp_path).splitlines()[2].split("|")]
    assert cells == ["", "a", "+25.0%", "+1.4%", ""]
