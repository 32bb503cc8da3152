"""Do query heads that share keys and values get the right ones, and are the weights those that attention uses?"""

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tsattn.kernels as kernels
from tsattn.kernels import attention, attention_reference, attention_weights, available_backends, mlr_attention

DOUBLE = torch.float64
# Heads of q, k and v.
GROUPS = [(4, 2, 2), (4, 1, 1), (6, 3, 2), (6, 1, 6), (4, 4, 1)]
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


def draw(heads, n_queries=12, n_keys=12, width=4, n_values=3, *, batch=2, dtype=DOUBLE, seed=0):
    """q, k, v and a gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (heads[0], n_queries, width),
        (heads[1], n_keys, width),
        (heads[2], n_keys, n_values),
        (heads[0], n_queries, n_values),
    ]
    drawn = [torch.randn(batch, *shape, generator=generator, dtype=DOUBLE).to(dtype) for shape in shapes]
    return [x.requires_grad_() for x in drawn[:3]] + [drawn[3]]


def draw_mask(batch, n_keys):
    """The first sequence sees nothing, the second no early key."""
    mask = torch.rand(batch, n_keys, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0] = False
    mask[1:2, : n_keys // 2] = False
    return mask


def answers(function, q, k, v, g, **options):
    """Result and gradients of q, k, v."""
    out = function(q, k, v, **options)
    return (out, *torch.autograd.grad(out, (q, k, v), g))


def truth(q, k, v, g, **options):
    """The same from the loops."""
    if options.get("key_mask") is not None:
        options["key_mask"] = options["key_mask"].tolist()
    lists = oracles.attention_loops(*(x.tolist() for x in (q, k, v, g)), **options)
    return [torch.tensor(x, dtype=DOUBLE) for x in lists]


def for_heads(options, n_heads):
    """Options with as many offsets as there are heads."""
    offset = options.get("offset")
    return options | {"offset": offset[:n_heads]} if isinstance(offset, tuple) else options


def serving(options):
    """Ways that serve these options."""
    for way in available_backends():
        level = way in {"expanded", "masked", "dense", "bands"}
        windowed = options.get("window") is not None
        if level and "ranks" not in options:
            continue
        if (way == "bands" and windowed) or (way == "windowed" and ("ranks" in options or not windowed)):
            continue
        yield way


# --- shared keys and values


@pytest.mark.parametrize("heads", GROUPS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_shared_heads_match_the_loops(heads, options, masked, assert_close):
    tensors = draw(heads)
    options = for_heads(options, heads[0]) | {"key_mask": draw_mask(2, 12) if masked else None}
    expected = truth(*tensors, **options)
    ways = list(serving(options))
    assert {"auto", "reference"} < set(ways) or "ranks" not in options
    for way in ways:
        for actual, right in zip(answers(attention, *tensors, backend=way, **options), expected, strict=True):
            assert_close(actual, right)
    for actual, right in zip(answers(attention_reference, *tensors, **options), expected, strict=True):
        assert_close(actual, right)


@pytest.mark.parametrize("heads", GROUPS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [100, 800])
@pytest.mark.parametrize("ranks", [None, (2, 1, 1)])
def test_long_sequences_are_shared_too(heads, causal, length, ranks, assert_close):
    tensors = draw(heads, length, length, n_values=4, batch=1)
    expected = answers(attention_reference, *tensors, ranks=ranks, causal=causal)
    for actual, right in zip(answers(attention, *tensors, ranks=ranks, causal=causal), expected, strict=True):
        assert_close(actual, right)


def test_kernels_read_shared_heads_where_they_lie(monkeypatch):
    """Ordinary attention of many keys has no copy of them; unequal sharing is left to the copy that always serves."""
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
    assert kernels.expand_heads(x, 4).data_ptr() == x.data_ptr()
    assert kernels.expand_heads(x, 1) is x


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_sharing_matches_the_loops(data):
    heads = data.draw(st.sampled_from([(1, 1, 1), (4, 2, 4), (4, 4, 2), (6, 2, 3), (5, 1, 5)]), label="heads")
    n_queries, n_keys = (data.draw(st.integers(1, 15)) for _ in range(2))
    options = {
        "ranks": data.draw(st.sampled_from([None, (4,), (2, 2), (1, 2, 1)]), label="ranks"),
        "causal": data.draw(st.booleans(), label="causal"),
        "window": data.draw(st.none() | st.integers(1, 16), label="window"),
        "n_global": data.draw(st.integers(0, 3), label="n_global"),
        "key_mask": draw_mask(2, n_keys) if data.draw(st.booleans(), label="masked") else None,
    }
    tensors = draw(heads, n_queries, n_keys, seed=data.draw(st.integers(0, 99)))
    expected = truth(*tensors, **options)
    for way in ("reference", "auto"):
        for actual, right in zip(answers(attention, *tensors, backend=way, **options), expected, strict=True):
            torch.testing.assert_close(actual.detach(), right, rtol=1e-10, atol=1e-12)


def test_the_door_with_ranks_shares_too(assert_close):
    q, k, v, _ = draw((6, 2, 3))
    assert_close(mlr_attention(q, k, v, ranks=(2, 2)), attention_reference(q, k, v, ranks=(2, 2)))


# --- the weights themselves


@pytest.mark.parametrize("heads", [(2, 2, 2), (6, 3, 2)])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_queries", [12, 5, 15])
def test_weights_match_the_loops(heads, options, masked, n_queries, assert_close):
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
    assert_close(weights @ v.repeat_interleave(heads[0] // heads[2], dim=1), attention(q, k, v, **options))


@pytest.mark.parametrize("options", [{}, {"ranks": (2, 2), "mean_levels": True, "causal": True}])
def test_weights_have_derivatives(options):
    q, k, _, _ = draw((4, 2, 2), 4, 4, batch=1)
    assert torch.autograd.gradcheck(lambda *x: attention_weights(*x, **options), (q, k))
    assert torch.autograd.gradgradcheck(lambda *x: attention_weights(*x, **options), (q, k))


def test_weights_of_a_row_that_sees_nothing_have_no_gradient():
    q, k, _, _ = draw((2, 2, 2))
    (gradient,) = torch.autograd.grad(attention_weights(q, k, key_mask=draw_mask(2, 12)).square().sum(), q)
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


def without_hook(function):
    """The function itself: in the tests the shape checks would speak first."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


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
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"ranks": (2, 3)}, "ranks must sum to the features"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"window": 0}, "window must be at least 1"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"offset": 1}, "offset has a meaning only with ranks"),
        (((2, 4, 9, 4), (2, 4, 9, 4)), {"key_mask": torch.ones(2, 8) > 0}, "key_mask must have the shape"),
    ],
)
def test_weights_refuse_what_attention_refuses(shapes, options, message, monkeypatch):
    monkeypatch.setattr(kernels, "_check_tensors", without_hook(kernels._check_tensors))
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(attention_weights)(*(torch.ones(shape) for shape in shapes), **options)
    assert "\n" not in str(caught.value)
