"""The study of attentions of the pretrained network: its arms and what they look at."""

import dataclasses

import pytest
import torch

pytest.importorskip("records")
from pretraining_study.run import ARMS, RANKS, StudyNetwork, multiply_adds

from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.synthetic import make

HOURS = torch.arange(24.0 * 21)


def network_of(name, **config):
    arm = ARMS[name]
    sizes = {"d_model": 48, "n_heads": 2, "n_layers": 2, "d_ff": 32, **config}
    attention = "season" if arm.levels else "standard"
    network = StudyNetwork(
        arm,
        ZeroConfig(attention=attention, cut=arm.cut, copies=arm.copies, **sizes),
        generator=torch.Generator().manual_seed(0),
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


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


def test_arms_differ_in_what_they_look_at():
    x = (torch.sin(2 * torch.pi * HOURS / 24) + torch.sin(2 * torch.pi * HOURS / 168))[None].double()
    answers = [network_of(name).forecast(x, 24) for name in ("phase", "cycle", "phase and cycle", "halving blocks")]
    for i, one in enumerate(answers):
        assert all((one - other).abs().max() > 1e-4 for other in answers[:i])


def test_groups_of_the_levels():
    network = network_of("phase of two seasons, or near")
    tokens = network._cut(torch.tensor([24]), 24 * 21, 24, 64)
    network.second = torch.tensor([7])
    network.n_steps = torch.tensor([24 * 21])
    phase, second = network._places(tokens, torch.tensor([24])).groups
    assert (phase[0] == tokens.index % 3).all()
    assert (second[0] == tokens.cycle()[0] % 7).all()
    network.second = torch.tensor([0])
    near = network._places(tokens, torch.tensor([24])).groups[1][0]
    assert near.min() >= 0
    assert near.diff().count_nonzero() == (len(near) + 4) // 8
    halving = network_of("halving blocks")
    halving.n_steps = torch.tensor([24 * 21])
    halves = halving._places(tokens, torch.tensor([24])).groups
    assert [each.unique().tolist() for each in halves] == [[0, 1], [0, 1, 2, 3]]


def test_borrowed_season_depends_on_the_series_alone_and_is_another_one():
    own, lent = network_of("phase"), network_of("phase of a borrowed season")
    x = torch.from_numpy(make(64, 300, seed=5)).double()
    mine, theirs = own._season(x)[0], lent._season(x)[0]
    assert (lent._season(x.flip(0))[0] == theirs.flip(0)).all()
    assert (mine != theirs).float().mean() > 0.5


def test_multiply_adds_count_the_products():
    counts = {name: multiply_adds(network_of(name)) for name in ("standard", "phase", "phase, bilinear BTT")}
    assert counts["standard"] < counts["phase"] < counts["phase, bilinear BTT"] < 2 * counts["standard"]
    assert all(sum(ranks) == 24 for ranks in RANKS.values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        network_of("phase").config.d_model = 3
