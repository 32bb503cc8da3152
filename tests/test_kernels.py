"""Do all ways of computing attention agree with the loops, with their gradients, and refuse what they cannot do?"""

import itertools
import threading

import jaxtyping
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tsattn.kernels as kernels
import tsattn.kernels.dense as dense
from tsattn.kernels import attention, attention_mask, attention_reference, default_block_sizes, mlr_attention

WAYS = ("reference", "expanded", "masked", "dense", "auto")
LENGTHS = (1, 7, 42, 63, 64, 65, 100, 257)
DOUBLE = torch.float64


def draw(batch, n_heads, n_queries, n_keys, width, n_values=3, *, dtype=DOUBLE, seed=0, grad=True):
    """q, k, v and a gradient of the result."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(n_queries, width), (n_keys, width), (n_keys, n_values), (n_queries, n_values)]
    q, k, v, g = (torch.randn(batch, n_heads, *s, generator=generator, dtype=DOUBLE).to(dtype) for s in shapes)
    return [x.requires_grad_(grad) for x in (q, k, v)] + [g]


def answers(function, q, k, v, g, **options):
    """Result and gradients of q, k, v."""
    out = function(q, k, v, **options)
    return (out, *torch.autograd.grad(out, (q, k, v), g))


def truth(q, k, v, g, **options):
    """The same from the loops."""
    mask = options.pop("key_mask", None)
    if mask is not None:
        options["key_mask"] = mask.tolist()
    lists = oracles.attention_loops(*(x.tolist() for x in (q, k, v, g)), **options)
    return [torch.tensor(x, dtype=DOUBLE) for x in lists]


def check_all_ways(assert_close, q, k, v, g, *, ways=WAYS, **options):
    expected = truth(q, k, v, g, **options)
    for way in ways:
        for actual, right in zip(answers(attention, q, k, v, g, backend=way, **options), expected, strict=True):
            assert_close(actual, right)


# --- against the loops


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("causal", [False, True])
def test_default_blocks_match_the_loops(length, causal, assert_close):
    check_all_ways(assert_close, *draw(1, 2, length, length, 4), ranks=(2, 1, 1), causal=causal)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("causal", [False, True])
def test_uneven_ranks_and_unrelated_blocks_match_the_loops(length, causal, assert_close):
    options = {"ranks": (1, 3, 2), "block_sizes": (length + 13, 13, 5), "level_scales": (0.5, 2.0, -1.5), "offset": 4}
    check_all_ways(assert_close, *draw(1, 1, length, length, 6), causal=causal, **options)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offset", [0, 1, 10, 11, 21, 1000, (0, 5), (7, 7)])
def test_offsets_match_the_loops(offset, causal, assert_close):
    q, k, v, g = draw(2, 2, 42, 42, 5)
    check_all_ways(assert_close, q, k, v, g, ranks=(2, 1, 1, 1), offset=offset, causal=causal)


@pytest.mark.parametrize("sizes", [(5, 17), (17, 5), (1, 9), (9, 1)])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": True, "window": 3}, {"offset": (2, 9)}])
def test_queries_stand_at_the_last_keys(sizes, options, assert_close):
    check_all_ways(assert_close, *draw(2, 2, *sizes, 4), ranks=(2, 1, 1), **options)


@pytest.mark.parametrize("ranks", [None, (4,), (1, 2, 1)])
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
    q, k, v, g = draw(3, 2, 14, 14, 4)
    mask = None
    if masked:
        mask = torch.rand(3, 14, generator=torch.Generator().manual_seed(1)) < 0.6
        mask[0] = False  # a sequence that sees nothing at all
        mask[1, :5] = False  # causal rows that see nothing
    ways = WAYS if ranks else ("reference", "auto")
    check_all_ways(assert_close, q, k, v, g, ways=ways, ranks=ranks, key_mask=mask, **options)


@pytest.mark.parametrize("ranks", [(4,), (2, 2), (1, 1, 2)])
@pytest.mark.parametrize("offset", [0, (1, 4)])
def test_mean_levels_match_the_loops(ranks, offset, assert_close):
    q, k, v, g = draw(2, 2, 23, 23, 4)
    options = {"mean_levels": True, "offset": offset, "level_scales": (1.0, 2.0, 3.0)[: len(ranks)]}
    check_all_ways(assert_close, q, k, v, g, ranks=ranks, **options)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_shape_matches_the_loops(data):
    ranks = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4), label="ranks"))
    n_heads, n_queries, n_keys = (data.draw(st.integers(1, top)) for top in (3, 20, 20))
    longer = max(n_queries, n_keys)
    sizes = sorted(data.draw(st.lists(st.integers(1, 30), min_size=len(ranks), max_size=len(ranks))), reverse=True)
    options = {
        "ranks": ranks,
        "block_sizes": (max(longer, sizes[0]), *sizes[1:]) if data.draw(st.booleans(), label="own blocks") else None,
        "offset": data.draw(st.integers(0, 40) | st.tuples(*[st.integers(0, 40)] * n_heads), label="offset"),
        "mean_levels": data.draw(st.booleans()),
        "causal": data.draw(st.booleans()),
        "window": data.draw(st.none() | st.integers(1, 22)),
        "n_global": data.draw(st.integers(0, 3)),
        "key_mask": data.draw(st.none() | st.just(torch.arange(2 * n_keys).view(2, n_keys) % 3 > 0)),
    }
    q, k, v, g = draw(2, n_heads, n_queries, n_keys, sum(ranks), seed=data.draw(st.integers(0, 99)))
    expected = truth(q, k, v, g, **options)
    for way in WAYS:
        for actual, right in zip(answers(attention, q, k, v, g, backend=way, **options), expected, strict=True):
            torch.testing.assert_close(actual.detach(), right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", [{}, {"causal": True, "offset": (3, 0)}, {"mean_levels": True, "window": 4}])
def test_gradients_by_finite_differences(way, options):
    q, k, v, _ = draw(2, 2, 9, 9, 4)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 6:] = False

    def function(*tensors):
        return attention(*tensors, ranks=(2, 1, 1), key_mask=mask, backend=way, **options)

    assert torch.autograd.gradcheck(function, (q, k, v))


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


@pytest.mark.parametrize("options", [{}, {"offset": (0, 3, 1)}, {"mean_levels": True, "offset": (0, 3, 1)}])
@pytest.mark.parametrize("pairs", [1, 2 * 10 * 10, 4 * 10 * 10])
@pytest.mark.parametrize("kept", [0, 2**20])
@pytest.mark.parametrize("way", ["expanded", "masked"])
def test_slices_change_nothing(way, kept, pairs, options, monkeypatch, assert_close):
    q, k, v, g = draw(5, 3, 10, 10, 4)
    options = {"ranks": (2, 1, 1), "causal": True, "key_mask": torch.arange(50).view(5, 10) % 4 > 0, **options}
    expected = truth(q, k, v, g, **options)
    monkeypatch.setattr(dense, "SLICE_BYTES", (pairs * 8, pairs * 8))
    monkeypatch.setattr(dense, "KEPT_BYTES", kept)
    for actual, right in zip(answers(attention, q, k, v, g, backend=way, **options), expected, strict=True):
        assert_close(actual, right)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("width", [4, 32])
def test_any_memory_layout_gives_the_same(way, width, assert_close):
    ranks = (width // 2, width // 4, width // 4)
    q, k, v, g = draw(6, 4, 11, 11, width, n_values=width)
    expected = answers(attention_reference, q, k, v, g, ranks=ranks)
    views = [x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_() for x in (q, k, v)]
    for actual, right in zip(answers(attention, *views, g, ranks=ranks, backend=way), expected, strict=True):
        assert_close(actual, right)
    wide = torch.stack([x.detach() for x in (q, k, v)], dim=4).requires_grad_()
    out = attention(*wide.unbind(4), ranks=ranks, backend=way)
    (gradient,) = torch.autograd.grad(out, wide, g)
    for actual, right in zip(gradient.unbind(4), expected[1:], strict=True):
        assert_close(actual, right)
    one = [x.detach()[:1].expand(6, -1, -1, -1) for x in (q, k, v)]
    assert_close(attention(*one, ranks=ranks, backend=way)[5], expected[0][0])


def test_a_result_in_the_layout_of_one_projection_needs_no_copy():
    x = torch.zeros(2, 6, 3, 32).transpose(1, 2)
    assert attention(x, x, x, ranks=(16, 16)).transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [42, 65])
def test_single_precision_matches_the_loops(way, length, assert_close):
    q, k, v, g = draw(1, 2, length, length, 8, dtype=torch.float32)
    options = {"ranks": (4, 2, 2), "causal": True}
    for actual, right in zip(
        answers(attention, q, k, v, g, backend=way, **options), truth(q, k, v, g, **options), strict=True
    ):
        assert actual.dtype == torch.float32
        assert_close(actual, right, "float32")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_plain_torch(way, dtype):
    q, k, v, g = draw(2, 2, 42, 42, 8, n_values=8, dtype=dtype)

    def plain(q, k, v):
        return (q * 8**-0.5 @ k.transpose(2, 3)).softmax(dim=-1) @ v

    # Blocks as long as the sequence make ordinary attention of any ranks.
    options = {"ranks": (4, 2, 2), "block_sizes": (42, 42, 42)}
    expected = truth(q, k, v, g)
    ours, theirs = answers(attention, q, k, v, g, backend=way, **options), answers(plain, q, k, v, g)
    for actual, other, right in zip(ours, theirs, expected, strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - right).abs().max() <= 2 * (other.double() - right).abs().max() + 1e-5
        assert (actual.double() - right).norm() <= 5e-3 * right.norm()


@pytest.mark.parametrize("way", WAYS)
def test_autocast_narrows_nothing(way):
    q, k, v, g = draw(2, 2, 12, 12, 4, dtype=torch.float32)
    for ranks in ((2, 2), (4,)):
        expected = answers(attention, q, k, v, g, ranks=ranks, backend=way)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = attention(q, k, v, ranks=ranks, backend=way)
        for ours, right in zip((out, *torch.autograd.grad(out, (q, k, v), g)), expected, strict=True):
            assert torch.equal(ours, right)


def test_a_mask_made_for_inference_serves_training():
    q, k, v, g = draw(1, 1, 37, 37, 4)
    with torch.inference_mode():
        attention(q, k, v, ranks=(2, 2), mean_levels=True, causal=True)
    assert all(x.isfinite().all() for x in answers(attention, q, k, v, g, ranks=(2, 2), mean_levels=True, causal=True))


def test_threads_do_not_disturb_one_another():
    calls = [(draw(2, 2, length, length, 4, seed=length), length) for length in (5, 9, 17, 33)]
    expected = [answers(attention, *tensors, ranks=(2, 1, 1), offset=length) for tensors, length in calls]
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


@pytest.mark.parametrize("way", ["expanded", "masked"])
def test_second_derivatives_are_refused_by_the_fast_ways(way):
    q, k, v, g = draw(1, 1, 5, 5, 4)
    out = attention(q, k, v, ranks=(2, 2), backend=way)
    (first,) = torch.autograd.grad(out, q, g, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives only .* backend='reference'"):
        torch.autograd.grad(first.sum() + q.sum(), q)


def test_the_reference_has_second_derivatives():
    q, k, v, _ = draw(1, 1, 4, 4, 4)
    assert torch.autograd.gradgradcheck(lambda *x: attention(*x, ranks=(2, 2), backend="reference"), (q, k, v))


# --- what the formulas promise


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ranks", [(4, 2, 2), (8,)])
def test_the_future_changes_nothing(way, ranks):
    q, k, v, _ = draw(2, 2, 42, 42, 8, grad=False)
    before = attention(q, k, v, ranks=ranks, causal=True, backend=way)
    for x in (q, k, v):
        x[:, :, 20:] += 5.0
    after = attention(q, k, v, ranks=ranks, causal=True, backend=way)
    assert torch.equal(before[:, :, :20], after[:, :, :20])
    assert not torch.allclose(before[:, :, 20:], after[:, :, 20:])


@pytest.mark.parametrize("way", WAYS)
def test_fine_features_of_a_far_key_change_nothing(way, assert_close):
    q, k, v, _ = draw(1, 2, 42, 42, 8, grad=False)
    options = {"ranks": (4, 2, 2), "backend": way}
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
    scores = kernels.level_scores(fine, fine, **options)[0, 0]
    assert scores[border - 1, border] == 1.0
    assert scores[border, border + 1] == 3.0
    assert scores[border + 10, border + 11] == 2.0  # same half, next quarter
    assert scores[0, 41] == 1.0


@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_that_many_keys(causal):
    for window in (1, 2, 5):
        seen = attention_mask(12, 12, causal=causal, window=window)
        inner = seen[6].nonzero().flatten().tolist()
        assert inner == list(range(7 - window, 7 if causal else 6 + window))
    weights = attention(
        torch.zeros(1, 1, 12, 2), torch.zeros(1, 1, 12, 2), torch.eye(12)[None, None], causal=True, window=4
    )
    assert (weights[0, 0, 11] > 0).sum() == 4
    assert torch.allclose(weights[0, 0, 11, 8:], torch.tensor(0.25))


def test_a_longer_window_than_the_sequence_is_none(assert_close):
    q, k, v, _ = draw(1, 2, 9, 9, 4, grad=False)
    assert_close(attention(q, k, v, window=9), attention(q, k, v))


@pytest.mark.parametrize("way", WAYS)
def test_rows_sum_to_one(way, assert_close):
    q, k, _, _ = draw(2, 2, 42, 42, 8, grad=False)
    ones = torch.ones(2, 2, 42, 1, dtype=DOUBLE)
    for options in ({}, {"causal": True, "window": 3}, {"mean_levels": True}):
        assert_close(attention(q, k, ones, ranks=(4, 2, 2), backend=way, **options), ones)


@pytest.mark.parametrize("length", [42, 600])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n_queries", [None, 5])
def test_one_level_and_no_level_are_torch_attention(length, causal, n_queries, assert_close):
    q, k, v, g = draw(2, 2, n_queries or length, length, 8)
    mask = torch.ones(q.shape[2], length, dtype=torch.bool).tril(length - q.shape[2]) if causal else None

    def theirs(q, k, v):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    expected = answers(theirs, q, k, v, g)
    for options in ({}, {"ranks": (8,)}, {"ranks": (8,), "backend": "masked"}, {"ranks": (8,), "backend": "expanded"}):
        for actual, right in zip(answers(attention, q, k, v, g, causal=causal, **options), expected, strict=True):
            assert_close(actual, right)


def test_mlr_attention_is_attention_with_ranks():
    q, k, v, _ = draw(1, 2, 20, 20, 4, grad=False)
    options = {"ranks": (2, 2), "offset": 3, "level_scales": (1.0, 2.0), "causal": True, "scale": 0.7}
    assert torch.equal(mlr_attention(q, k, v, **options), attention(q, k, v, **options))
    with pytest.raises(ValueError, match="mlr_attention needs ranks; got None"):
        without_hook(mlr_attention)(q, k, v, ranks=None)


@pytest.mark.parametrize("length", [1, 2, 5, 42, 64, 100, 1000])
@pytest.mark.parametrize("n_levels", [1, 2, 3, 8])
def test_default_blocks_cover_and_nest(length, n_levels):
    sizes = default_block_sizes(length, n_levels)
    assert list(sizes) == oracles.default_blocks(length, n_levels)
    assert sizes[0] >= length
    assert all(coarse == 2 * fine for coarse, fine in itertools.pairwise(sizes))
    with pytest.raises(ValueError, match="length and n_levels of at least 1; got length = 0"):
        default_block_sizes(0, n_levels)


def test_work_is_chosen_by_shape():
    def way(n_heads, length, ranks, **options):
        settings = {"offset": (0,), "level_scales": None, "mean_levels": False, "causal": False}
        settings |= {"block_sizes": None, "window": None, "n_global": 0, "scale": None, **options}
        x = torch.zeros(1, n_heads, length, sum(ranks) if ranks else 8)
        geometry = kernels.make_geometry(x, x, ranks=ranks, **settings)
        return kernels._choose(geometry, "auto", False, False)

    assert way(4, 42, None) == "plain"
    assert way(4, 4096, None) == "fused"
    assert way(4, 4096, None, window=8) == "windowed"
    assert way(4, 42, (2, 1, 1)) == "expanded"
    assert way(8, 42, (32, 16, 16)) == "masked"
    assert way(4, 4096, (2, 1, 1)) == way(4, 1000, (32, 16, 16)) == "bands"
    assert way(4, 4000, (2, 1, 1), window=8) == "expanded"
    with pytest.warns(UserWarning, match="pair by pair, for bands need nested blocks; got block sizes 3000 and 900"):
        assert way(4, 5001, (2, 1, 1), block_sizes=(5001, 3000, 900)) == "expanded"


# --- refusals
def without_hook(function):
    """The function itself: in the tests the shape checks would speak first."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


BAD_NUMBERS = [
    ({"ranks": (2, 1)}, r"ranks must sum to the features of q and k; got sum\(\(2, 1\)\) = 3 for 4; change"),
    ({"ranks": (4, 0)}, "ranks must hold at least one number, each at least 1"),
    ({"ranks": ()}, "ranks must hold at least one number"),
    ({"ranks": (2, 2), "block_sizes": (9,)}, r"block_sizes needs one number a level; got \(9,\) for ranks \(2, 2\)"),
    ({"ranks": (2, 2), "block_sizes": (9, 10)}, "never grow from coarse to fine; got .9, 10."),
    ({"ranks": (2, 2), "block_sizes": (9, 0)}, "block_sizes must be at least 1"),
    ({"ranks": (2, 2), "block_sizes": (8, 4)}, "first of block_sizes must cover the sequence; got 8 for 9 tokens"),
    ({"ranks": (2, 2), "level_scales": (1.0,)}, "level_scales needs one number a level"),
    ({"ranks": (2, 2), "offset": -1}, "offset must be at least 0; got -1"),
    ({"ranks": (2, 2), "offset": (1, 2, 3)}, "offset must be one number or one per head; got 3 numbers for 2 heads"),
    ({"window": 0}, "window must be at least 1, the token itself; got 0"),
    ({"n_global": -1}, "n_global must be at least 0; got -1"),
    ({"block_sizes": (9, 3)}, "block_sizes has a meaning only with ranks"),
    ({"level_scales": (1.0,)}, "level_scales has a meaning only with ranks"),
    ({"mean_levels": True}, "mean_levels has a meaning only with ranks"),
    ({"offset": 2}, r"offset has a meaning only with ranks; got \(2,\)"),
    (
        {"ranks": (2, 2), "backend": "bands", "window": 3},
        "bands do not serve window; got window = 3; use the reference",
    ),
    (
        {"backend": "flash"},
        "backend must be one of auto, reference, expanded, masked, dense, bands, windowed; got 'flash'",
    ),
    ({"backend": "dense"}, "backend 'dense' is for level scores and needs ranks"),
]


@pytest.mark.parametrize(("options", "message"), BAD_NUMBERS)
def test_bad_numbers_are_refused(options, message):
    q, k, v, _ = draw(2, 2, 9, 9, 4, grad=False)
    with pytest.raises(ValueError, match=message) as caught:
        attention(q, k, v, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ranks", "block_sizes", "offset", "window", "n_global"])
def test_fractions_are_no_counts(name, monkeypatch):
    q, k, v, _ = draw(2, 2, 9, 9, 4, grad=False)
    # As without the shape hook, which speaks first in the tests.
    for function in ("_check_backend", "make_geometry"):
        monkeypatch.setattr(kernels, function, without_hook(getattr(kernels, function)))
    value = 2.5 if name in {"offset", "window", "n_global"} else (9.0, 2.0)
    with pytest.raises(TypeError, match=f"{name} must be made of integers"):
        without_hook(attention)(q, k, v, **{"ranks": (2, 2), name: value})


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


BAD_TENSORS = [
    ((ones(2, 9, 4), ones(2, 9, 4), ones(2, 9, 4)), None, r"must have the axes \(batch, heads, tokens, features\)"),
    ((ones(2, 2, 9, 4), ones(1, 2, 9, 4), ones(2, 2, 9, 4)), None, "q, k and v must agree in batch; got q"),
    (
        (ones(2, 6, 9, 4), ones(2, 4, 9, 4), ones(2, 6, 9, 4)),
        None,
        r"heads of k must divide .* h // \(H // 4\); got",
    ),
    ((ones(2, 6, 9, 4), ones(2, 3, 9, 4), ones(2, 4, 9, 4)), None, r"heads of v must divide those of q.* change the"),
    ((ones(2, 2, 9, 4), ones(2, 4, 9, 4), ones(2, 2, 9, 4)), None, "heads of k must divide"),
    ((ones(2, 2, 9, 4), ones(2, 2, 9, 5), ones(2, 2, 9, 4)), None, "q and k must have as many features"),
    ((ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 8, 4)), None, "k and v must have as many tokens"),
    ((ones(2, 2, 0, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4)), None, "at least one head, token and feature"),
    ((ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4, dtype=DOUBLE)), None, "must share one floating dtype"),
    ((ones(2, 2, 9, 4).long(),) * 3, None, "must share one floating dtype; got torch.int64"),
    ((ones(2, 2, 9, 4), ones(2, 2, 9, 4), ones(2, 2, 9, 4, dtype=torch.float32).to("meta")), None, "on one device"),
    ((ones(2, 2, 9, 4),) * 3, ones(2, 9), "key_mask must be boolean"),
    ((ones(2, 2, 9, 4),) * 3, ones(1, 9) > 0, r"key_mask must have the shape \(batch, keys\) = \(2, 9\); got \(1, 9\)"),
]


@pytest.mark.parametrize(("tensors", "key_mask", "message"), BAD_TENSORS)
def test_bad_tensors_are_refused(tensors, key_mask, message, monkeypatch):
    monkeypatch.setattr(kernels, "_check_tensors", without_hook(kernels._check_tensors))
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(attention)(*tensors, key_mask=key_mask)
    assert "\n" not in str(caught.value)


def test_the_shape_hook_is_awake():
    """Must raise: if it does not, the annotations of the kernels are checked by nobody."""
    good, bad = torch.ones(1, 2, 8, 4), torch.ones(1, 2, 8, 5)
    attention(good, good, good)
    with pytest.raises(jaxtyping.TypeCheckError):
        attention(good, bad, good)
    with pytest.raises(jaxtyping.TypeCheckError):
        attention_reference(good, good, torch.ones(1, 2, 7, 4))


def test_backends_are_those_that_run():
    q, k, v, _ = draw(1, 1, 4, 4, 4, grad=False)
    assert set(kernels.available_backends()) == {*WAYS, "bands", "windowed"}  # these two have files of their own
    for backend in kernels.available_backends():
        options = {"window": 2} if backend == "windowed" else {"ranks": (2, 2)}
        assert attention(q, k, v, backend=backend, **options).shape == (1, 1, 4, 3)
