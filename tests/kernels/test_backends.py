"""All backends of attention against the loops, with their gradients, and what they refuse."""

import functools
import itertools
import math
import threading
from dataclasses import dataclass, fields

import jaxtyping
import oracles
import pytest
import torch
from calls import DOUBLE, answers, by_reference, check, draw, fit, lift_hook, truth, without_hook
from conftest import assert_close as compare
from fresh import in_fresh_process
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import tsattn.kernels as kernels
from tsattn.kernels import (
    Levels,
    Pattern,
    attend,
    attention,
    attention_weights,
    default_block_sizes,
    dense,
    dispatch,
    mlr_attention,
)
from tsattn.kernels.geometry import make_geometry
from tsattn.kernels.reference import attention_reference, level_scores
from tsattn.nn.attention import Attention
from tsattn.nn.scores import DotScore

# "dense" is one of the second and the third; bands and windows have files of their own.
BACKENDS = ("reference", "expanded", "masked", "auto")


# --- against the loops


@pytest.mark.parametrize("length", [1, 42, 65])
@pytest.mark.parametrize("causal", [False, True])
def test_default_blocks_match_the_loops(length, causal, assert_close):
    check(assert_close, draw(1, 2, length, length, 4), BACKENDS, ranks=(2, 1, 1), causal=causal)


@pytest.mark.parametrize(("length", "causal"), [(7, False), (64, True)])
def test_uneven_ranks_and_unrelated_blocks_match_the_loops(length, causal, assert_close):
    options = {
        "ranks": (1, 3, 2),
        "block_sizes": (length + 13, 13, 5),
        "level_scales": (0.5, 2.0, -1.5),
        "offset": 4,
    }
    check(assert_close, draw(1, 1, length, length, 6), BACKENDS, causal=causal, **options)


@pytest.mark.parametrize(
    ("offset", "causal"), [(11, False), (21, True), (1000, False), ((0, 5), True), ((7, 7), False)]
)
def test_offsets_match_the_loops(offset, causal, assert_close):
    check(
        assert_close,
        draw(2, 2, 42, 42, 5),
        BACKENDS,
        ranks=(2, 1, 1, 1),
        offset=offset,
        causal=causal,
    )


def test_a_level_whose_one_block_is_not_the_first_counts_everywhere(assert_close):
    # Positions 0 to 41 are 80 to 121 of the shifted grid, all in its second block of 70.
    options = {"ranks": (2, 2, 1), "block_sizes": (100, 70, 9), "offset": 80}
    check(assert_close, draw(1, 1, 42, 42, 5), BACKENDS, **options)


@pytest.mark.parametrize("sizes", [(5, 17), (17, 5), (9, 1)])
@pytest.mark.parametrize(
    "options", [{}, {"causal": True}, {"causal": True, "window": 3}, {"offset": (2, 9)}]
)
def test_queries_stand_at_the_last_keys(sizes, options, assert_close):
    check(assert_close, draw(2, 2, *sizes, 4), BACKENDS, ranks=(2, 1, 1), **options)


@pytest.mark.parametrize("ranks", [None, (1, 2, 1)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True},
        {"window": 3},
        {"window": 4, "causal": True},
        {"window": 2, "n_global": 3},
        {"window": 2, "n_global": 2, "causal": True},
        {"scale": 0.3},
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_patterns_and_key_masks_match_the_loops(ranks, options, masked, assert_close):
    mask = None
    if masked:
        mask = torch.rand(3, 14, generator=torch.Generator().manual_seed(1)) < 0.6
        mask[0] = False  # a sequence that sees nothing at all
        mask[1, :5] = False  # causal rows that see nothing
    backends = BACKENDS if ranks else ("reference", "auto")
    check(assert_close, draw(3, 2, 14, 14, 4), backends, ranks=ranks, key_mask=mask, **options)


HIDING = [
    *[("ranks", backend) for backend in (*BACKENDS, "bands")],
    *[("window", backend) for backend in ("reference", "windowed", "auto")],
]


@pytest.mark.parametrize(("kind", "backend"), HIDING)
@pytest.mark.parametrize("number", [math.nan, math.inf, 1e38])
def test_a_hidden_key_may_hold_any_number(kind, backend, number):
    options = {"ranks": (2, 1, 1)} if kind == "ranks" else {"window": 3, "n_global": 1}
    q, k, v, g = draw(2, 2, 9, 9, 4, dtype=torch.float32)
    mask = torch.arange(18).view(2, 9) % 4 > 0
    options |= {"key_mask": mask, "backend": backend}
    expected = answers(attention, q, k, v, g, **options)
    for name in ("k", "v"):
        tensors = {"k": k, "v": v}
        filled = tensors[name].detach().masked_fill(~mask[:, None, :, None], number)
        tensors[name] = filled.requires_grad_()
        results = answers(attention, q, tensors["k"], tensors["v"], g, **options)
        for actual, right in zip(results, expected, strict=True):
            torch.testing.assert_close(actual, right)


def test_the_weights_of_hidden_keys_have_no_gradient():
    q, k, _, _ = draw(1, 2, 5, 5, 4)
    mask = torch.tensor([[True, True, False, True, True]])
    with torch.no_grad():
        k[:, :, 2] = math.nan
    weights = attention_weights(q, k, ranks=(2, 2), key_mask=mask)
    for grad in torch.autograd.grad(weights.square().sum(), (q, k)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("ranks", [(4,), (2, 2), (1, 1, 2)])
@pytest.mark.parametrize("offset", [0, (1, 4)])
def test_mean_levels_match_the_loops(ranks, offset, assert_close):
    options = {"mean_levels": True, "offset": offset, "level_scales": (1.0, 2.0, 3.0)[: len(ranks)]}
    check(assert_close, draw(2, 2, 23, 23, 4), BACKENDS, ranks=ranks, **options)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape_matches_the_loops(data):
    ranks = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4), label="ranks"))
    n_heads, n_queries, n_keys = (data.draw(st.integers(1, top)) for top in (3, 20, 20))
    longer = max(n_queries, n_keys)
    window = data.draw(st.none() | st.integers(1, 22))
    sizes = sorted(
        data.draw(st.lists(st.integers(1, 30), min_size=len(ranks), max_size=len(ranks))),
        reverse=True,
    )
    options = {
        "block_sizes": (
            (max(longer, sizes[0]), *sizes[1:])
            if data.draw(st.booleans(), label="own blocks")
            else None
        ),
        "offset": data.draw(
            st.integers(0, 40) | st.tuples(*[st.integers(0, 40)] * n_heads), label="offset"
        ),
        "mean_levels": data.draw(st.booleans()),
        "causal": data.draw(st.booleans()),
        "window": window,
        "n_global": 0 if window is None else data.draw(st.integers(0, 3)),
        "key_mask": data.draw(
            st.none() | st.just(torch.arange(2 * n_keys).view(2, n_keys) % 3 > 0)
        ),
    }
    tensors = draw(2, n_heads, n_queries, n_keys, sum(ranks), seed=data.draw(st.integers(0, 99)))
    check(compare, tensors, BACKENDS, ranks=ranks, **options)


def test_the_loops_have_right_gradients():
    q, k, v, g = draw(1, 1, 6, 6, 3)
    options = {"ranks": (1, 2), "causal": True, "mean_levels": True}
    _, *gradients = truth(q, k, v, g, **options)
    step = 1e-6
    for position, gradient in enumerate(gradients):
        for index in range(0, gradient.numel(), 3):
            ends = []
            for sign in (1, -1):
                moved = [x.detach().clone() for x in (q, k, v)]
                moved[position].view(-1)[index] += sign * step
                ends.append((truth(*moved, g, **options)[0] * g).sum())
            assert abs((ends[0] - ends[1]) / (2 * step) - gradient.view(-1)[index]) < 1e-8


# --- slices, layouts and types


@pytest.mark.parametrize("pairs", [1, 2 * 10 * 10, 4 * 10 * 10])
@pytest.mark.parametrize("kept", [0, 2**20])
def test_slices_change_nothing(kept, pairs, monkeypatch, assert_close):
    options = {"ranks": (2, 1, 1), "causal": True, "key_mask": torch.arange(50).view(5, 10) % 4 > 0}
    monkeypatch.setattr(dense, "SLICE_BYTES", (pairs * 8, pairs * 8))
    monkeypatch.setattr(dense, "KEPT_BYTES", kept)
    for more in ({}, {"mean_levels": True, "offset": (0, 3, 1)}):
        check(assert_close, draw(5, 3, 10, 10, 4), ("expanded", "masked"), **options, **more)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [4, 32])
def test_any_memory_layout_gives_the_same(backend, width, assert_close):
    ranks = (width // 2, width // 4, width // 4)
    q, k, v, g = draw(6, 4, 11, 11, width, n_values=width)
    expected = answers(by_reference, q, k, v, g, ranks=ranks)
    views = [
        x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (q, k, v)
    ]
    for actual, right in zip(
        answers(attention, *views, g, ranks=ranks, backend=backend), expected, strict=True
    ):
        assert_close(actual, right)
    wide = torch.stack([x.detach() for x in (q, k, v)], dim=4).requires_grad_()
    out = attention(*wide.unbind(4), ranks=ranks, backend=backend)
    (gradient,) = torch.autograd.grad(out, wide, g)
    for actual, right in zip(gradient.unbind(4), expected[1:], strict=True):
        assert_close(actual, right)
    one = [x.detach()[:1].expand(6, -1, -1, -1) for x in (q, k, v)]
    assert_close(attention(*one, ranks=ranks, backend=backend)[5], expected[0][0])


def test_a_result_in_the_layout_of_one_projection_needs_no_copy():
    x = torch.zeros(2, 6, 3, 32).transpose(1, 2)
    assert attention(x, x, x, ranks=(16, 16)).transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_precision_matches_the_loops(backend, assert_close):
    q, k, v, g = draw(1, 2, 65, 65, 8, dtype=torch.float32)
    options = {"ranks": (4, 2, 2), "causal": True}
    for actual, right in zip(
        answers(attention, q, k, v, g, backend=backend, **options),
        truth(q, k, v, g, **options),
        strict=True,
    ):
        assert actual.dtype == torch.float32
        assert_close(actual, right, "float32")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_plain_torch(backend, dtype):
    q, k, v, g = draw(2, 2, 42, 42, 8, n_values=8, dtype=dtype)

    def plain(q, k, v):
        return (q * 8**-0.5 @ k.transpose(2, 3)).softmax(dim=-1) @ v

    # Blocks as long as the sequence make ordinary attention of any ranks.
    options = {"ranks": (4, 2, 2), "block_sizes": (42, 42, 42)}
    expected = truth(q, k, v, g)
    ours = answers(attention, q, k, v, g, backend=backend, **options)
    theirs = answers(plain, q, k, v, g)
    for actual, other, right in zip(ours, theirs, expected, strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - right).abs().max() <= 2 * (
            other.double() - right
        ).abs().max() + 1e-5
        assert (actual.double() - right).norm() <= 5e-3 * right.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_narrows_nothing(backend):
    q, k, v, g = draw(2, 2, 12, 12, 4, dtype=torch.float32)
    for ranks in ((2, 2), (4,)):
        expected = answers(attention, q, k, v, g, ranks=ranks, backend=backend)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = attention(q, k, v, ranks=ranks, backend=backend)
        for ours, right in zip(
            (out, *torch.autograd.grad(out, (q, k, v), g)), expected, strict=True
        ):
            assert torch.equal(ours, right)


def test_under_autocast_wide_queries_and_keys_are_narrowed_like_the_values():
    q, k, v, _ = draw(2, 2, 12, 12, 4, dtype=torch.float32, grad=False)
    narrow = [x.bfloat16() for x in (q, k, v)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention(q, narrow[1], narrow[2]), attention(*narrow))
        assert torch.equal(attention_weights(q, narrow[1]), attention_weights(*narrow[:2]))
        assert torch.equal(attention_weights(narrow[0], k), attention_weights(*narrow[:2]))
    with pytest.raises(ValueError, match="q, k and v must share one floating dtype"):
        attention(q, *narrow[1:])
    with pytest.raises(ValueError, match="q and k must share one floating dtype"):
        attention_weights(q, narrow[1])


def test_a_mask_made_for_inference_serves_training():
    q, k, v, g = draw(1, 1, 37, 37, 4)
    with torch.inference_mode():
        attention(q, k, v, ranks=(2, 2), mean_levels=True, causal=True)
    assert all(
        x.isfinite().all()
        for x in answers(attention, q, k, v, g, ranks=(2, 2), mean_levels=True, causal=True)
    )


@pytest.mark.parametrize("options", [{}, {"ranks": (2, 2)}, {"causal": True, "window": 3}])
def test_shapes_alone_disturb_no_later_call(options):
    q, k, v, _ = draw(2, 2, 19, 19, 4)
    with FakeTensorMode():
        fake = torch.zeros(2, 2, 19, 4, dtype=DOUBLE)
        assert attention(fake, fake, fake, **options).shape == (2, 2, 19, 4)
    meta = torch.zeros(2, 2, 19, 4, device="meta")
    assert attention(meta, meta, meta, **options).shape == (2, 2, 19, 4)
    assert attention_weights(meta, meta, **options).shape == (2, 2, 19, 19)
    # Plans are cached by shape, and one of fake masks would serve the real call.
    assert attention(q, k, v, **options).isfinite().all()


def trace_and_compare():
    """Attention traced with one mask and called with another."""
    q, k, v, _ = draw(2, 2, 9, 9, 4, grad=False)
    everything = torch.ones(2, 9, dtype=torch.bool)
    mask = torch.arange(18).view(2, 9) % 4 > 0
    mask[1] = False
    for options in ({}, {"ranks": (2, 2)}, {"causal": True, "window": 3}):
        call = functools.partial(attention, q, k, v, **options)
        traced = torch.jit.trace(lambda m, call=call: call(key_mask=m), everything)
        compare(traced(mask), call(key_mask=mask))


def test_a_trace_serves_any_key_mask():
    # Sizes are tensors in a trace, which the shape hook of the tests refuses.
    in_fresh_process(__file__, "trace_and_compare()")


def test_threads_do_not_disturb_one_another():
    calls = [(draw(2, 2, length, length, 4, seed=length), length) for length in (5, 9, 17, 33)]
    expected = [
        answers(attention, *tensors, ranks=(2, 1, 1), offset=length) for tensors, length in calls
    ]
    results = [[] for _ in calls]

    def work(slot):
        tensors, length = calls[slot]
        for _ in range(20):
            results[slot].append(answers(attention, *tensors, ranks=(2, 1, 1), offset=length))

    threads = [threading.Thread(target=work, args=(slot,)) for slot in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for right, many in zip(expected, results, strict=True):
        assert len(many) == 20
        assert all(torch.equal(a, b) for one in many for a, b in zip(one, right, strict=True))


@pytest.mark.parametrize("backend", ["expanded", "masked"])
def test_second_derivatives_are_refused_by_the_fast_backends(backend):
    q, k, v, g = draw(1, 1, 5, 5, 4)
    out = attention(q, k, v, ranks=(2, 2), backend=backend)
    (first,) = torch.autograd.grad(out, q, g, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives only; .* backend='reference'"):
        torch.autograd.grad(first.sum() + q.sum(), q)


# Torch's own forward mode compiles with what torch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["expanded", "masked", "dense", "bands"])
def test_functions_of_torch_are_refused_by_the_fast_backends(backend, assert_close):
    def loss(q, backend):
        return attention(q, q, q, ranks=(2, 2), block_sizes=(8, 4), backend=backend).square().sum()

    q = draw(1, 1, 8, 8, 4, grad=False)[0]
    message = f"backend '{backend}' does not work inside torch.func and torch.jit.trace; use 'ref"
    with pytest.raises(ValueError, match=message):
        torch.func.grad(loss)(q, backend)
    assert_close(torch.func.grad(loss)(q, "auto"), torch.func.grad(loss)(q, "reference"))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, q)
        with pytest.raises(RuntimeError, match=r"no forward-mode .* backend='reference'"):
            loss(dual, backend)
        assert torch.autograd.forward_ad.unpack_dual(loss(dual, "reference")).tangent is not None


def test_the_reference_has_second_derivatives():
    q, k, v, _ = draw(1, 1, 4, 4, 4)
    assert torch.autograd.gradgradcheck(
        lambda *x: attention(*x, ranks=(2, 2), backend="reference"), (q, k, v)
    )


# --- what the formulas promise


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ranks", [(4, 2, 2), (8,)])
def test_the_future_changes_nothing(backend, ranks):
    q, k, v, _ = draw(2, 2, 42, 42, 8, grad=False)
    before = attention(q, k, v, ranks=ranks, causal=True, backend=backend)
    for x in (q, k, v):
        x[:, :, 20:] += 5.0
    after = attention(q, k, v, ranks=ranks, causal=True, backend=backend)
    assert torch.equal(before[:, :, :20], after[:, :, :20])
    assert not torch.allclose(before[:, :, 20:], after[:, :, 20:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_fine_features_of_a_far_key_change_nothing(backend, assert_close):
    q, k, v, _ = draw(1, 2, 42, 42, 8, grad=False)
    options = {"ranks": (4, 2, 2), "backend": backend}
    before = attention(q, k, v, **options)
    moved = k.clone()
    moved[:, :, 41, 4:] += 3.0  # levels 2 and 3 of the last key: blocks of 22 and 11 tokens
    after = attention(q, moved, v, **options)
    assert_close(after[:, :, :22], before[:, :, :22])
    assert not torch.allclose(after[:, :, 22:33], before[:, :, 22:33])
    moved = k.clone()
    moved[:, :, 41, 6:] += 3.0  # level 3 alone
    after = attention(q, moved, v, **options)
    assert_close(after[:, :, :33], before[:, :, :33])
    assert not torch.allclose(after[:, :, 33:], before[:, :, 33:])


@pytest.mark.parametrize(("offset", "border"), [(0, 22), (5, 17), (10, 12)])
def test_neighbours_across_a_border_share_only_coarser_features(offset, border):
    q = torch.zeros(1, 1, 42, 3, dtype=DOUBLE)
    q[..., 0] = 1.0  # what level 1 contributes to any pair
    fine = q.clone()
    fine[..., 1:] = 1.0
    options = {"ranks": (1, 1, 1), "block_sizes": (44, 22, 11), "offset": offset, "scale": 1.0}
    scores = level_scores(fine, fine, geometry=fit(fine, fine, **options))[0, 0]
    assert scores[border - 1, border] == 1.0
    assert scores[border, border + 1] == 3.0
    assert scores[border + 10, border + 11] == 2.0  # same half, next quarter
    assert scores[0, 41] == 1.0


@pytest.mark.parametrize(
    "options", [{"scale": -1.0}, {"scale": 0.0}, {"ranks": (4,), "level_scales": (0.0,)}]
)
@pytest.mark.parametrize("causal", [False, True])
def test_factors_of_zero_or_below_are_factors(options, causal, assert_close):
    tensors = draw(1, 1, 100, 100, 4)
    assert (
        dispatch.choose(
            fit(*tensors[:2], causal=causal, scale=options.get("scale", 0.0)), "auto", False, False
        )
        == "fused"
    )
    check(assert_close, tensors, ("auto", "reference"), causal=causal, **options)


@pytest.mark.parametrize("causal", [False, True])
def test_a_query_before_the_first_key_is_no_global_token(causal, assert_close):
    options = {"window": 2, "n_global": 1, "causal": causal}
    assert Pattern(causal, 2, 1).mask(5, 3).int().tolist()[:2] == [[int(not causal), 0, 0]] * 2
    check(assert_close, draw(1, 2, 5, 3, 4), ("auto", "reference"), **options)


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_that_many_keys(causal):
    for window in (1, 2, 5):
        seen = Pattern(causal, window).mask(12, 12)
        inner = seen[6].nonzero().flatten().tolist()
        assert inner == list(range(7 - window, 7 if causal else 6 + window))
    weights = attention(
        torch.zeros(1, 1, 12, 2),
        torch.zeros(1, 1, 12, 2),
        torch.eye(12)[None, None],
        causal=True,
        window=4,
    )
    assert (weights[0, 0, 11] > 0).sum() == 4
    assert torch.allclose(weights[0, 0, 11, 8:], torch.tensor(0.25))


@dataclass(frozen=True)
class Dilated(Pattern):
    """Every k-th key, counted from the query: a pattern that no backend has heard of."""

    every: int = 1

    def mask(self, n_queries, n_keys, *, device=None):
        here = torch.arange(n_keys - n_queries, n_keys)[:, None]
        there = torch.arange(n_keys)
        return super().mask(n_queries, n_keys) & ((here - there) % self.every == 0)


def test_a_further_pattern_is_served_where_masks_are_and_refused_elsewhere(assert_close):
    q, k, v, g = draw(2, 2, 300, 300, 4)
    pattern = Dilated(causal=True, every=3)
    levels = Levels((2, 2))
    seen = torch.arange(300)[:, None] - torch.arange(300)
    seen = (seen >= 0) & (seen % 3 == 0)
    wide = (q * 0.5) @ k.transpose(2, 3)
    expected = wide.masked_fill(~seen, -torch.inf).softmax(dim=3) @ v
    for backend in ("auto", "reference"):
        assert_close(attend(q, k, v, pattern=pattern, backend=backend), expected)
        assert_close(
            attend(q, k, v, pattern=Dilated(causal=True, window=400, every=3), backend=backend),
            expected,
        )
    right = answers(attend, q, k, v, g, levels=levels, pattern=pattern, backend="reference")
    for backend in ("expanded", "masked", "auto"):
        found = answers(attend, q, k, v, g, levels=levels, pattern=pattern, backend=backend)
        for actual, wanted in zip(found, right, strict=True):
            assert_close(actual, wanted)
    with pytest.raises(
        ValueError, match="bands serve no pattern but causal; got every = 3; use the reference"
    ):
        attend(q, k, v, levels=levels, pattern=pattern, backend="bands")
    with pytest.raises(
        ValueError,
        match="windowed backend serves no other pattern; got every = 3; use the reference",
    ):
        attend(q, k, v, pattern=Dilated(window=5, every=3), backend="windowed")


def test_a_further_pattern_goes_through_a_layer_and_is_refused_by_caches():
    layer = Attention(8, score=DotScore(8, 2), pattern=Dilated(causal=True, every=2))
    maps = layer.weights(torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0)))[0, 0]
    assert (maps > 0).int().tolist() == [
        [int(j <= i and (i - j) % 2 == 0) for j in range(6)] for i in range(6)
    ]
    with pytest.raises(ValueError, match="no cache serves this pattern; got every = 2"):
        layer.make_cache(1, 6)


def test_a_longer_window_than_the_sequence_is_none(assert_close):
    q, k, v, _ = draw(1, 2, 9, 9, 4, grad=False)
    assert_close(attention(q, k, v, window=9), attention(q, k, v))


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_sum_to_one(backend, assert_close):
    q, k, _, _ = draw(2, 2, 42, 42, 8, grad=False)
    ones = torch.ones(2, 2, 42, 1, dtype=DOUBLE)
    for options in ({}, {"causal": True, "window": 3}, {"mean_levels": True}):
        assert_close(attention(q, k, ones, ranks=(4, 2, 2), backend=backend, **options), ones)


@pytest.mark.parametrize(
    ("length", "causal", "n_queries"),
    [(42, True, 5), (600, False, None), (600, True, None), (600, True, 5)],
)
def test_one_level_and_no_level_are_torch_attention(length, causal, n_queries, assert_close):
    q, k, v, g = draw(2, 2, n_queries or length, length, 8)
    mask = (
        torch.ones(q.shape[2], length, dtype=torch.bool).tril(length - q.shape[2])
        if causal
        else None
    )

    def theirs(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    expected = answers(theirs, q, k, v, g)
    for options in (
        {},
        {"ranks": (8,)},
        {"ranks": (8,), "backend": "masked"},
        {"ranks": (8,), "backend": "expanded"},
    ):
        for actual, right in zip(
            answers(attention, q, k, v, g, causal=causal, **options), expected, strict=True
        ):
            assert_close(actual, right)


def test_mlr_attention_is_attention_with_ranks():
    q, k, v, _ = draw(1, 2, 20, 20, 4, grad=False)
    options = {
        "ranks": (2, 2),
        "offset": 3,
        "level_scales": (1.0, 2.0),
        "causal": True,
        "scale": 0.7,
    }
    assert torch.equal(mlr_attention(q, k, v, **options), attention(q, k, v, **options))
    with pytest.raises(ValueError, match="mlr_attention needs ranks; got None"):
        without_hook(mlr_attention)(q, k, v, ranks=None)


def test_default_blocks_cover_and_nest():
    for length, n_levels in itertools.product((1, 2, 5, 42, 64, 1000), (1, 2, 3, 8)):
        sizes = default_block_sizes(length, n_levels)
        assert list(sizes) == oracles.default_blocks(length, n_levels)
        assert sizes[0] >= length
        assert all(coarse == 2 * fine for coarse, fine in itertools.pairwise(sizes))
    for name, numbers in {"length": (0, 2), "n_levels": (4, 0)}.items():
        with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1; got"):
            default_block_sizes(*numbers)


def test_a_backend_is_chosen_by_shape():
    def chosen(n_heads, length, ranks, backend="auto", **options):
        x = torch.zeros(1, n_heads, length, sum(ranks) if ranks else 8)
        return dispatch.choose(fit(x, x, ranks=ranks, **options), backend, False, False)

    assert chosen(4, 42, None) == "plain"
    assert chosen(4, 4096, None) == "fused"
    assert chosen(4, 4096, None, window=8) == "windowed"
    assert chosen(4, 42, (2, 1, 1)) == "expanded"
    assert chosen(8, 42, (32, 16, 16)) == "masked"
    assert chosen(4, 4096, (2, 1, 1)) == chosen(4, 1000, (32, 16, 16)) == "bands"
    assert chosen(4, 4096, (2, 1, 1), "dense") == "expanded"
    assert chosen(4, 4096, (32, 16, 16), "dense") == "masked"
    assert chosen(4, 4000, (2, 1, 1), window=8) == "expanded"
    with pytest.warns(
        UserWarning,
        match="pair by pair, for bands need nested blocks; got block sizes 3000 and 900",
    ):
        assert chosen(4, 5001, (2, 1, 1), block_sizes=(5001, 3000, 900)) == "expanded"


# --- refusals


BAD_NUMBERS = [
    (
        {"ranks": (2, 1)},
        r"ranks must sum to d_head; got sum\(\(2, 1\)\) = 3 for d_head = 4; change",
    ),
    ({"ranks": (4, 0)}, "ranks must hold at least one number, each at least 1"),
    ({"ranks": ()}, "ranks must hold at least one number"),
    (
        {"ranks": (2, 2), "block_sizes": (9,)},
        r"block_sizes needs one number a level; got \(9,\) for ranks \(2, 2\)",
    ),
    ({"ranks": (2, 2), "block_sizes": (9, 10)}, "never grow from coarse to fine; got .9, 10."),
    ({"ranks": (2, 2), "block_sizes": (9, 0)}, "block_sizes must be at least 1, .* raise the sma"),
    (
        {"ranks": (2, 2), "block_sizes": (8, 4)},
        "first of block_sizes must cover the sequence; got 8 for 9 tokens",
    ),
    ({"ranks": (2, 2), "level_scales": (1.0,)}, "level_scales needs one number a level"),
    ({"ranks": (2, 2), "level_scales": (1.0, math.nan)}, "several finite numbers; got .1.0, nan"),
    (
        {"ranks": (2, 2), "offset": ()},
        r"offset must be one number or one per head; got \(\); leave",
    ),
    ({"ranks": (2, 2), "offset": -1}, "offset must be at least 0; got -1"),
    (
        {"ranks": (2, 2), "offset": (1, 2, 3)},
        "offset must be one number or one per head; got 3 numbers for 2 heads",
    ),
    ({"window": 0}, "window must be at least 1, the token itself; got 0"),
    ({"window": 3, "n_global": -1}, "n_global must be at least 0; got -1"),
    ({"n_global": 2}, "n_global = 2 has no effect without a window; give one"),
    ({"offset": (0, 2)}, r"offset has a meaning only with ranks; got \(0, 2\)"),
    ({"block_sizes": (9, 3)}, "block_sizes has a meaning only with ranks"),
    ({"level_scales": (1.0,)}, "level_scales has a meaning only with ranks"),
    ({"mean_levels": True}, "mean_levels has a meaning only with ranks"),
    ({"offset": 2}, "offset has a meaning only with ranks; got 2"),
    (
        {"ranks": (2, 2), "backend": "bands", "window": 3},
        "bands serve no pattern but causal; got window = 3; use the reference",
    ),
    (
        {"backend": "flash"},
        (
            "backend must be one of auto, reference, expanded, masked, dense, bands, windowed; got"
            " 'flash'"
        ),
    ),
    ({"backend": "dense"}, "backend 'dense' is for level scores and needs ranks"),
    ({"scale": math.nan}, r"scale must be a finite number; got nan; leave it out for K \*\* -0.5"),
    ({"scale": -math.inf}, "scale must be a finite number; got -inf"),
]


@pytest.mark.parametrize(("options", "message"), BAD_NUMBERS)
def test_bad_numbers_are_refused(options, message):
    q, k, v, _ = draw(2, 2, 9, 9, 4, grad=False)
    with pytest.raises(ValueError, match=message) as caught:
        attention(q, k, v, **options)
    assert "\n" not in str(caught.value)


def unchecked(kind, **values):
    """A frozen object as it is made without the shape hook, which speaks first in the tests."""
    made = object.__new__(kind)
    for field in fields(kind):
        object.__setattr__(made, field.name, values.get(field.name, field.default))
    made.__post_init__()
    return made


@pytest.mark.parametrize("name", ["ranks", "block_sizes", "offset", "window", "n_global"])
def test_fractions_are_no_counts(name):
    kind, given = (
        (Levels, {"ranks": (2, 2)}) if name in {"ranks", "block_sizes", "offset"} else (Pattern, {})
    )
    value, rule = (2.5, "an integer")
    if name in {"ranks", "block_sizes"}:
        value, rule = ((9.0, 2.0), "made of integers")
    with pytest.raises(TypeError, match=f"{name} must be {rule}"):
        unchecked(kind, **{**given, name: value})


def test_counts_are_told_by_number():
    with pytest.raises(TypeError, match=r"ranks must be several integers; got 8; write \(8,\)"):
        unchecked(Levels, ranks=8)
    with pytest.raises(TypeError, match=r"window must be an integer; got \(2, 3\); give one"):
        unchecked(Pattern, window=(2, 3))
    with pytest.raises(ValueError, match=r"several finite numbers; got 1.0; give one factor"):
        unchecked(Levels, ranks=(2, 2), scales=1.0)


BAD_KINDS = [
    (Pattern, {"causal": "False"}, "causal must be True or False; got 'False'"),
    (Levels, {"ranks": (2, 2), "mean": "no"}, "mean_levels must be True or False; got 'no'"),
    (
        Levels,
        {"ranks": (2, 2), "scales": torch.nn.Parameter(torch.ones(2))},
        "level_scales must be fixed numbers, which are not trained; got a tensor .* slices of q",
    ),
    (
        Levels,
        {"ranks": (2, 2), "scales": [1.0, torch.ones((), requires_grad=True)]},
        "level_scales must be fixed numbers",
    ),
]


@pytest.mark.parametrize(("kind", "values", "message"), BAD_KINDS)
def test_values_of_another_kind_are_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        unchecked(kind, **values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_sizes", torch.tensor([9, 3])),
        ("level_scales", torch.ones(2)),
        ("offset", torch.tensor([0, 3])),
    ],
)
def test_arrays_of_levels_are_refused_without_ranks(name, value):
    options = {"block_sizes": None, "offset": 0, "level_scales": None, name: value}
    build = without_hook(kernels._levels)
    with pytest.raises(ValueError, match=rf"{name} has a meaning only with ranks; got tensor"):
        build(None, mean_levels=False, **options)


def test_a_tensor_is_no_scale_and_a_tuple_no_levels():
    x = torch.zeros(1, 2, 8, 4)
    build = without_hook(make_geometry)
    with pytest.raises(ValueError, match=r"got tensor\(0.5000\); multiply the queries by it"):
        build(x, x, scale=torch.tensor(0.5))
    with pytest.raises(TypeError, match=r"levels must be Levels; got \(2, 2\); write Levels"):
        build(x, x, levels=(2, 2))


def test_offsets_come_in_any_sequence():
    for offset in ([1, 2], torch.tensor([1, 2])):
        assert unchecked(Levels, ranks=(2, 2), offset=offset).offset == (1, 2)
    assert unchecked(Levels, ranks=(2, 2), offset=torch.tensor(3)).offset == 3
    build = without_hook(kernels._levels)
    assert build(None, None, [0, 0], None, False) is None


def test_levels_and_patterns_are_equal_by_their_numbers():
    """What is built for a call is remembered by them."""
    plain = Levels((2, 2), (8, 4), (1, 1), (1.0, 2.0))
    assert (
        unchecked(
            Levels, ranks=torch.tensor([2, 2]), block_sizes=[8, 4], offset=[1, 1], scales=[1, 2]
        )
        == plain
    )
    assert len({Pattern(True), Pattern(causal=True), Pattern(), Dilated(causal=True)}) == 3
    x = torch.zeros(1, 2, 8, 4)
    first, second = (make_geometry(x, x, levels=Levels((2, 2), offset=(3, 3))) for _ in range(2))
    assert first is second


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


BAD_TENSORS = [
    (
        (ones(2, 9, 4), ones(2, 9, 4), ones(2, 9, 4)),
        None,
        r"must have the axes \(batch, heads, tokens, features\)",
    ),
    (
        (ones(2, 2, 9, 4), ones(1, 2, 9, 4), ones(2, 2, 9, 4)),
        None,
        "q, k and v must agree in batch; got q",
    ),
    (
        (ones(2, 6, 9, 4), ones(2, 4, 9, 4), ones(2, 6, 9, 4)),
        None,
        r"heads of k must divide .* h // \(H // 4\); got",
    ),
    (
        (ones(2, 6, 9, 4), ones(2, 3, 9, 4), ones(2, 4, 9, 4)),
        None,
        r"heads of v must divide those of q.* change the",
    ),
    ((ones(2, 2, 9, 4), ones(2, 4, 9, 4), ones(2, 2, 9, 4)), None, "heads of k must divide"),
    (
        (ones(2, 2, 9, 4), ones(2, 2, 9, 5), ones(2, 2, 9, 4)),
        None,
        "q and k must have as many features",
    ),
    (
        (ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 8, 4)),
        None,
        "k and v must have as many tokens",
    ),
    (
        (ones(2, 2, 0, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4)),
        None,
        "at least one head, token and feature",
    ),
    (
        (ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4, dtype=DOUBLE)),
        None,
        "must share one floating dtype",
    ),
    (
        (ones(2, 2, 9, 4).long(),) * 3,
        None,
        "must share one floating dtype of 16 bits or more; got torch.int64",
    ),
    (
        (ones(2, 2, 9, 4).to(torch.float8_e4m3fn),) * 3,
        None,
        "16 bits or more; got torch.float8_e4m3fn, .*; convert them with",
    ),
    (
        (ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4, dtype=torch.float32).to("meta")),
        None,
        "on one device",
    ),
    ((ones(2, 2, 9, 4),) * 3, ones(2, 9), "key_mask must be boolean"),
    (
        (ones(2, 2, 9, 4),) * 3,
        ones(1, 9) > 0,
        r"key_mask must have the shape \(batch, keys\) = \(2, 9\); got \(1, 9\)",
    ),
]


@pytest.mark.parametrize(("tensors", "key_mask", "message"), BAD_TENSORS)
def test_bad_tensors_are_refused(tensors, key_mask, message, monkeypatch):
    lift_hook(monkeypatch)
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(attention)(*tensors, key_mask=key_mask)
    assert "\n" not in str(caught.value)


def test_arrays_and_lists_are_no_tensors(monkeypatch):
    lift_hook(monkeypatch)
    x = torch.zeros(1, 2, 4, 8)
    array = x.numpy()
    attend, weigh = without_hook(attention), without_hook(attention_weights)
    for call, message in (
        (lambda: attend(array, x, x), "q must be a tensor; got ndarray; convert it with torch"),
        (lambda: attend(x, x, array.tolist()), "v must be a tensor; got list"),
        (lambda: attend(x, x, x, key_mask=array[0, 0] > 0), "key_mask must be a tensor; got nd"),
        (lambda: weigh(x, array), "k must be a tensor; got ndarray"),
    ):
        with pytest.raises(TypeError, match=message):
            call()


def test_the_shape_hook_is_awake():
    """Must raise: if it does not, the annotations of the kernels are checked by nobody."""
    good = torch.ones(1, 2, 8, 4)
    bad = torch.ones(1, 2, 8, 5)
    attention(good, good, good)
    with pytest.raises(jaxtyping.TypeCheckError):
        attention(good, bad, good)
    with pytest.raises(jaxtyping.TypeCheckError):
        attention_reference(good, good, torch.ones(1, 2, 7, 4), geometry=make_geometry(good, good))


def test_backends_are_those_that_run():
    q, k, v, _ = draw(1, 1, 4, 4, 4, grad=False)
    assert set(kernels.available_backends()) == {*BACKENDS, "dense", "bands", "windowed"}
    for backend in kernels.available_backends():
        options = {"window": 2} if backend == "windowed" else {"ranks": (2, 2)}
        assert attention(q, k, v, backend=backend, **options).shape == (1, 1, 4, 3)
