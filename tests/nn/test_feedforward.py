"""The feed-forward layer, computed a few tokens at a time, is the plain formula, masks and
gradients included.
"""

import pytest
import torch
from chance import seeded
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tsattn.nn import layers
from tsattn.nn.layers import FeedForward


def plain(layer, x):
    """The formula, with the mask that the layer draws."""
    hidden = nn.functional.gelu(layer.widen(x))
    if layer.training and layer.dropout.n_dropped:
        noise = layer.dropout.noise(hidden.shape, x.device)
        share = layer.dropout.n_dropped / 256
        hidden = torch.where(noise >= layer.dropout.n_dropped, hidden / (1 - share), 0.0)
    return layer.narrow(hidden)


def outcome(forward, layer, x):
    """Result and all gradients under one seed of the masks."""
    layer.dropout.generator = seeded(3)
    x = x.clone().requires_grad_()
    y = forward(layer, x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("tokens", [1, 7, 21, 64])
@pytest.mark.parametrize("room", [1, 100, 2**17])  # hidden numbers a step: one token, a few, all
def test_steps_are_the_formula(rate, tokens, room, monkeypatch):
    monkeypatch.setattr(layers, "_STEP_NUMBERS", room)
    layer = FeedForward(5, 20, dropout=rate, generator=seeded()).double()
    x = torch.randn(3, tokens, 5, dtype=torch.float64, generator=seeded(1))
    for ours, truth in zip(
        outcome(FeedForward.forward, layer, x), outcome(plain, layer, x), strict=True
    ):
        torch.testing.assert_close(ours, truth, rtol=1e-10, atol=1e-12)


def test_a_wrong_mask_would_be_seen():
    layer = FeedForward(5, 20, dropout=0.3, generator=seeded()).double()
    x = torch.randn(3, 9, 5, dtype=torch.float64, generator=seeded(1))
    layer.dropout.generator = seeded(3)
    ours = layer(x)
    layer.dropout.generator = seeded(4)
    assert not torch.allclose(ours, plain(layer, x))


def test_gradcheck_and_a_second_derivative_that_is_refused():
    layer = FeedForward(3, 6, generator=seeded()).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_evaluation_draws_nothing_and_tokens_may_lie_anywhere():
    layer = FeedForward(5, 20, dropout=0.3, generator=seeded()).eval()
    layer.dropout.generator = None
    state = torch.random.get_rng_state()
    x = torch.randn(4, 5, 6, generator=seeded(1)).transpose(1, 2)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))
    torch.testing.assert_close(layer(x), plain(layer, x))
    assert torch.equal(state, torch.random.get_rng_state())


def test_no_sequence_at_all_gives_nothing():
    layer = FeedForward(5, 20, dropout=0.3, generator=seeded())
    out, dx, *gradients = outcome(FeedForward.forward, layer, torch.empty(0, 7, 5))
    assert out.shape == dx.shape == (0, 7, 5)
    assert all(not gradient.any() for gradient in gradients)


def test_autocast_chooses_the_types():
    layer = FeedForward(5, 20, generator=seeded())
    x = torch.randn(2, 3, 5, generator=seeded(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x).dtype == torch.float32


@pytest.mark.skipif(not layers._HAS_ONEDNN, reason="torch without oneDNN")
def test_linear_maps_by_onednn_are_those_of_torch_up_to_the_second_derivative(monkeypatch):
    map_ = layers.linear(24, 40, generator=torch.Generator().manual_seed(0))
    x = torch.randn(7, 30, 24, requires_grad=True)

    def derivatives():
        out = map_(x)
        first = torch.autograd.grad(out.sin().sum(), (x, map_.weight, map_.bias), create_graph=True)
        second = torch.autograd.grad(sum(part.square().sum() for part in first), (x, map_.weight))
        return [out, *first, *second]

    calls = []
    product = layers._product
    monkeypatch.setattr(layers, "_product", lambda *args: (calls.append(1), product(*args))[1])
    gradients = derivatives()
    n_calls = len(calls)
    monkeypatch.setattr(layers, "_HAS_ONEDNN", False)
    for mine, theirs in zip(gradients, derivatives(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    assert n_calls > 2
    assert len(calls) == n_calls


@pytest.mark.skipif(not layers._HAS_ONEDNN, reason="torch without oneDNN")
def test_few_tokens_other_types_autocast_and_counters_get_torchs_product():
    many = torch.randn(64, 24)
    weight = torch.randn(8, 24)
    assert layers._by_onednn(many, weight)
    assert not layers._by_onednn(many[:63], weight)
    assert not layers._by_onednn(many.double(), weight.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not layers._by_onednn(many, weight)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layers.affine(many, weight)
    assert counter.get_total_flops() == 2 * 64 * 8 * 24
