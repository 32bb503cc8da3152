"""Query heads that share keys and values, and the weights of attention, against the loops."""

import oracles
import pytest
import torch
from calls import DOUBLE, answers, by_reference, check, draw_mask, lift_hook, without_hook
from calls import draw as draw_call
from conftest import assert_close as compare
from hypothesis import given, settings
from hypothesis import strategies as st

from tsattn.kernels import attention, attention_weights, available_backends, mlr_attention
from tsattn.kernels.geometry import expand_heads

# Heads of q, k and v.
GROUPS = [(4, 2, 2), (6, 3, 2), (6, 1, 6), (4, 4, 1)]
# All that changes the weights, one or a few at a time.
OPTIONS = [
    {},
    {"ranks": (2, 1, 1)},
    {"causal": True, "scale": 0.3},
    {"window": 3, "n_global": 2},
    {"ranks": (1, 3), "block_sizes": (13, 5), "offset": 4, "level_scales": (0.5, -1.5)},
    {"ranks": (2, 2), "mean_levels": True, "causal": True},
    {"ranks": (1, 1, 2), "offset": (3, 0, 1, 1, 7, 0), "window": 5, "causal": True},
    {"ranks": (1, 1, 2), "offset": (3, 0, 1, 1, 7, 0), "mean_levels": True},
]


def draw(heads, n_queries=12, n_keys=12, *, batch=2, **options):
    """q, k, v and a gradient of the result, four features."""
    return draw_call(batch, heads, n_queries, n_keys, 4, **options)


def for_heads(options, n_heads):
    """Options with as many offsets as there are heads."""
    offset = options.get("offset")
    return options | {"offset": offset[:n_heads]} if isinstance(offset, tuple) else options


def serving(options):
    """Backends that serve these options."""
    for backend in available_backends():
        level = backend in {"expanded", "masked", "dense", "bands"}
        windowed = options.get("window") is not None
        if level and "ranks" not in options:
            continue
        if (backend == "bands" and windowed) or (
            backend == "windowed" and ("ranks" in options or not windowed)
        ):
            continue
        yield backend


# --- shared keys and values


@pytest.mark.parametrize("heads", GROUPS)
@pytest.mark.parametrize("options", OPTIONS)
def test_shared_heads_match_the_loops(heads, options, assert_close):
    options = for_heads(options, heads[0]) | {
        "key_mask": draw_mask(2, 12) if heads[0] == 6 else None
    }
    backends = list(serving(options))
    assert {"auto", "reference"} < set(backends) or "ranks" not in options
    check(assert_close, draw(heads), backends, **options)


@pytest.mark.parametrize("heads", [(4, 1, 1), (6, 3, 2)])
@pytest.mark.parametrize(("length", "ranks"), [(100, None), (800, (2, 1, 1))])
def test_long_sequences_are_shared_too(heads, length, ranks, assert_close):
    tensors = draw(heads, length, length, n_values=4, batch=1)
    expected = answers(by_reference, *tensors, ranks=ranks, causal=True)
    for actual, right in zip(
        answers(attention, *tensors, ranks=ranks, causal=True), expected, strict=True
    ):
        assert_close(actual, right)


def test_kernels_read_shared_heads_where_they_lie(monkeypatch):
    """Ordinary attention of many keys has no copy of them; unequal sharing is left to the copy that
    always serves.
    """
    seen = []
    right = torch.nn.functional.scaled_dot_product_attention

    def spy(q, k, v, **options):
        seen.append((k.shape[1], v.shape[1], options["enable_gqa"]))
        return right(q, k, v, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    for heads in ((6, 2, 2), (6, 6, 6), (6, 2, 3)):
        q, k, v, _ = draw(heads, 200, 200)
        attention(q, k, v)
    assert seen == [(2, 2, True), (6, 6, False), (6, 6, False)]


def test_one_head_for_all_is_a_view():
    x = torch.randn(2, 1, 5, 3)
    assert expand_heads(x, 4).data_ptr() == x.data_ptr()
    assert expand_heads(x, 1) is x


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_sharing_matches_the_loops(data):
    heads = data.draw(
        st.sampled_from([(1, 1, 1), (4, 2, 4), (4, 4, 2), (6, 2, 3), (5, 1, 5)]), label="heads"
    )
    n_queries, n_keys = (data.draw(st.integers(1, 15)) for _ in range(2))
    window = data.draw(st.none() | st.integers(1, 16), label="window")
    options = {
        "ranks": data.draw(st.sampled_from([None, (4,), (2, 2), (1, 2, 1)]), label="ranks"),
        "causal": data.draw(st.booleans(), label="causal"),
        "window": window,
        "n_global": 0 if window is None else data.draw(st.integers(0, 3), label="n_global"),
        "key_mask": draw_mask(2, n_keys) if data.draw(st.booleans(), label="masked") else None,
    }
    tensors = draw(heads, n_queries, n_keys, seed=data.draw(st.integers(0, 99)))
    check(compare, tensors, ("reference", "auto"), **options)


def test_mlr_attention_shares_too(assert_close):
    q, k, v, _ = draw((6, 2, 3))
    assert_close(mlr_attention(q, k, v, ranks=(2, 2)), by_reference(q, k, v, ranks=(2, 2)))


# --- the weights themselves


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(("n_queries", "masked"), [(12, True), (5, False), (15, False)])
def test_weights_match_the_loops(options, n_queries, masked, assert_close):
    heads = (6, 3, 2)
    q, k, v, _ = draw(heads, n_queries)
    options = for_heads(options, heads[0]) | {"key_mask": draw_mask(2, 12) if masked else None}
    if "block_sizes" in options:
        options["block_sizes"] = (max(n_queries, 13), 5)
    weights = attention_weights(q, k, **options)
    for_loops = options | {"key_mask": options["key_mask"].tolist() if masked else None}
    right = torch.tensor(oracles.weights_loops(q.tolist(), k.tolist(), **for_loops), dtype=DOUBLE)
    assert_close(weights, right)
    sums = weights.sum(dim=3)
    assert_close(sums, (right.sum(dim=3) > 0).to(DOUBLE))
    assert not masked or not sums[0].any()
    assert_close(
        weights @ v.repeat_interleave(heads[0] // heads[2], dim=1), attention(q, k, v, **options)
    )


@pytest.mark.parametrize("options", [{}, {"ranks": (2, 2), "mean_levels": True, "causal": True}])
def test_weights_have_derivatives(options):
    q, k, _, _ = draw((4, 2, 2), 4, 4, batch=1)
    assert torch.autograd.gradcheck(lambda *x: attention_weights(*x, **options), (q, k))
    assert torch.autograd.gradgradcheck(lambda *x: attention_weights(*x, **options), (q, k))


def test_weights_of_a_row_that_sees_nothing_have_no_gradient():
    q, k, _, _ = draw((2, 2, 2))
    (gradient,) = torch.autograd.grad(
        attention_weights(q, k, key_mask=draw_mask(2, 12)).square().sum(), q
    )
    assert not gradient[0].any()
    assert gradient[1].isfinite().all()
    assert gradient[1].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_computed_in_single_precision(dtype):
    q, k, _, _ = draw((2, 1, 1), dtype=dtype)
    weights = attention_weights(q, k, ranks=(2, 2))
    assert weights.dtype == dtype
    right = attention_weights(q.double(), k.double(), ranks=(2, 2))
    assert torch.allclose(weights.double(), right, rtol=torch.finfo(dtype).eps, atol=1e-7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention_weights(q, k, ranks=(2, 2)), weights)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (
            ((2, 2, 9, 4), (2, 2, 9, 5)),
            {},
            r"q and k must have as many features; got q \(2, 2, 9, 4\), k",
        ),
        (((2, 4, 9, 4), (2, 3, 9, 4)), {}, "the heads of k must divide those of q"),
        (((2, 4, 9, 4), (1, 4, 9, 4)), {}, "q and k must agree in batch"),
        (((4, 9, 4), (4, 9, 4)), {}, "q and k must have the axes"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"ranks": (2, 3)}, "ranks must sum to d_head"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"window": 0}, "window must be at least 1"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"offset": 1}, "offset has a meaning only with ranks"),
        (
            ((2, 4, 9, 4), (2, 4, 9, 4)),
            {"key_mask": torch.ones(2, 8) > 0},
            "key_mask must have the shape",
        ),
    ],
)
def test_weights_refuse_what_attention_refuses(shapes, options, message, monkeypatch):
    lift_hook(monkeypatch)
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(attention_weights)(*(torch.ones(shape) for shape in shapes), **options)
    assert "\n" not in str(caught.value)
