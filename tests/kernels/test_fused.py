"""Torch's private attention operators are called only where they are known and right, and plain
torch is the same.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from calls import DOUBLE, answers, by_reference, draw

from tsattn.kernels import attention, fused

CPU = torch.device("cpu")


@pytest.fixture
def fresh():
    """Forget what is known about the operators, before and after."""
    fused.serves.cache_clear()
    yield
    fused.serves.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_operators_serve_here(dtype, fresh):
    state = torch.get_rng_state()
    assert fused.serves("cpu", CPU, dtype)
    assert torch.equal(state, torch.get_rng_state())


def test_the_operators_are_really_called(monkeypatch):
    calls = []
    pair = fused.operators("cpu")

    def spy(number):
        def function(*args, **kwargs):
            calls.append(number)
            return pair[number](*args, **kwargs)

        return function

    tensors = draw(1, 2, 512, 512, 8, 8, dtype=torch.float32)
    answers(attention, *tensors, ranks=(4, 4), backend="bands")
    monkeypatch.setattr(fused, "operators", lambda _: (spy(0), spy(1)))
    answers(attention, *tensors, ranks=(4, 4), backend="bands")
    assert calls == [0, 0, 0, 1, 1, 1]  # the base, and either half on the other


@pytest.mark.parametrize("kind", ["cpu", "flash", "efficient"])
@pytest.mark.parametrize("position", [0, 1])
def test_a_missing_operator_is_noticed(kind, position, fresh, monkeypatch):
    pair = [operator.name() for operator in fused.operators(kind)]
    assert pair == [f"aten::{name}" for name in fused._OPERATORS[kind]]
    names = list(fused._OPERATORS[kind])
    names[position] = "_no_such_operator"
    monkeypatch.setitem(fused._OPERATORS, kind, names)
    assert not fused.serves(kind, CPU, torch.float32)


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("fault", ["wrong", "refuses", "argument", "order", "results"])
def test_an_operator_with_other_numbers_is_not_used(
    position, fault, fresh, monkeypatch, assert_close
):
    pair = list(fused.operators("cpu"))
    right = pair[position]

    def faulty(*args, **kwargs):
        if fault == "refuses":
            raise RuntimeError("no kernel for this device")
        if fault == "argument":
            kwargs["more"] = 1
        if fault == "order":
            args = (*args[1::-1], *args[2:])
        first, *others = right(*args, **kwargs)
        if fault == "results":
            others.append(first)
        return (first if fault == "results" else first * 1.01, *others)

    pair[position] = faulty
    monkeypatch.setattr(fused, "operators", lambda _: tuple(pair))
    fused.serves.cache_clear()
    assert not fused.serves("cpu", CPU, DOUBLE)
    tensors = draw(1, 1, 150, 150, 4, 4)
    assert fused.choose(*tensors[:2]) == "plain"
    expected = answers(by_reference, *tensors, ranks=(2, 2))
    for actual, value in zip(
        answers(attention, *tensors, ranks=(2, 2), backend="bands"), expected, strict=True
    ):
        assert_close(actual, value)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_values", [3, 4, 6])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("serves", [False, True])
def test_kernels_and_plain_torch_agree_on_a_part(
    causal, n_values, masked, serves, monkeypatch, assert_close
):
    """The gradients of a part, taken with the result and the log-sum-exp of a whole."""
    monkeypatch.setattr(fused, "serves", lambda *_: serves)
    q, k, v, grad = (x.detach() for x in draw(2, 2, 40, 40, 4, n_values))
    out = grad.flip(2)
    lse = torch.linspace(3, 4, 160, dtype=DOUBLE).view(2, 40, 2).transpose(1, 2)
    bias = None
    if masked:
        hidden = torch.arange(80).view(2, 40) % 3 == 1
        hidden[1, :20] = True  # early rows see nothing when causal
        hidden[0] |= not causal  # and one sequence nothing at all when not
        bias = torch.zeros(2, 1, 1, 40, dtype=DOUBLE).masked_fill(
            hidden[:, None, None], fused.HIDDEN
        )
        bias = bias.expand(-1, 2, -1, -1)
    options = {"scale": 0.4, "causal": causal, "bias": bias}
    scores = 0.4 * q @ k.transpose(2, 3) + (0.0 if bias is None else bias)
    if causal:
        scores = scores.masked_fill(torch.ones(40, 40, dtype=torch.bool).triu(1), -torch.inf)
    seen = scores.amax(dim=3) > fused.HIDDEN / 2
    ours = fused.forward(q, k, v, **options)
    assert_close(ours[0][seen], (scores.softmax(dim=3) @ v)[seen])
    assert_close(ours[1][seen], scores.logsumexp(dim=3)[seen])
    assert (ours[1][~seen] < fused.HIDDEN / 2).all()
    assert ours[0].isfinite().all()
    assert masked != seen.all()
    weights = (scores - lse[..., None]).exp()
    ds = 0.4 * weights * (grad @ v.transpose(2, 3) - (grad * out).sum(dim=3, keepdim=True))
    expected = (ds @ k, ds.transpose(2, 3) @ q, weights.transpose(2, 3) @ grad)
    for actual, right in zip(
        fused.backward(grad, q, k, v, out, lse, **options), expected, strict=True
    ):
        assert_close(actual, right)


def test_padding_is_only_for_kernels_that_need_it(monkeypatch):
    q, k, v, _ = draw(1, 1, 5, 5, 4, 6)
    assert [x.shape[3] for x in fused.pad(q, k, v)] == [6, 6, 6]
    assert [x.shape[3] for x in fused.pad(v, v, q)] == [6, 6, 6]
    monkeypatch.setattr(fused, "serves", lambda *_: False)
    assert [x.shape[3] for x in fused.pad(q, k, v)] == [4, 4, 6]


@pytest.mark.parametrize(
    ("dtype", "widths", "masked", "kind"),
    [
        (torch.bfloat16, (64, 64), False, "flash"),
        (torch.float16, (64, 32), False, "efficient"),
        (torch.float32, (64, 64), False, "efficient"),
        (torch.float32, (64, 64), True, "plain"),
        (torch.float32, (4, 64), False, "plain"),
        (torch.float32, (64, 512), False, "plain"),
    ],
)
def test_kernels_of_a_gpu_are_chosen_by_type_and_width(dtype, widths, masked, kind, monkeypatch):
    monkeypatch.setattr(fused, "serves", lambda *_: True)
    device = SimpleNamespace(type="cuda")
    q, v = (SimpleNamespace(dtype=dtype, shape=(1, 1, 9, width), device=device) for width in widths)
    unhooked = getattr(fused.choose, "__wrapped__", fused.choose)  # these are no tensors
    assert unhooked(q, v, torch.zeros(1) if masked else None) == kind


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("kind", "dtype"), [("flash", torch.bfloat16), ("efficient", torch.float32)]
)
def test_a_gpu_has_the_kernels(kind, dtype):
    assert fused.serves(kind, torch.device("cuda", 0), dtype)


def test_the_hidden_weigh_nothing_in_any_type_it_is_used_with():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        hidden = torch.tensor(fused.HIDDEN, dtype=dtype)
        assert math.isfinite(hidden)
        assert (hidden - torch.tensor(-1e4, dtype=dtype)).exp() == 0
