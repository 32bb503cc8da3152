"""Decoding from a cache equals the full pass at every length, and each cache keeps what its formula
says.
"""

import itertools

import jaxtyping
import oracles
import pytest
import torch
from calls import DOUBLE, by_reference, without_hook
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tsattn.kernels import Levels, Pattern
from tsattn.kernels.decode import decode
from tsattn.nn.cache import Cache, CacheSizes, LevelCache, WindowCache, make_cache

PAPER_RANKS = (32, 8, 6, 4, 4, 4, 4, 2)
PAPER = {"batch": 2, "key_width": 64, "value_width": 64, "max_length": 1024, "dtype": torch.float32}

# name -> heads of queries, keys and values, and options of a width of six features
CASES = {
    "full": ((2, 2, 2), {}),
    "full, grouped": ((12, 4, 6), {"scale": 0.3}),
    "window of one": ((2, 2, 2), {"window": 1}),
    "window": ((2, 2, 2), {"window": 8}),
    "window, grouped": ((6, 3, 1), {"window": 8, "n_global": 3}),
    "one global token": ((2, 2, 2), {"window": 5, "n_global": 1}),
    "long window": ((2, 2, 2), {"window": 90, "n_global": 4}),
    "default blocks": ((2, 2, 2), {"ranks": (2, 1, 2, 1)}),
    "one level": ((2, 2, 2), {"ranks": (6,), "offset": 3}),
    "unrelated blocks": ((2, 2, 2), {"ranks": (2, 1, 2, 1), "block_sizes": (128, 37, 11, 7)}),
    "calendar": ((2, 2, 2), {"ranks": (1, 2, 2, 1), "block_sizes": (128, 70, 21, 3)}),
    "nested calendar": (
        (2, 2, 2),
        {"ranks": (2, 1, 2, 1), "block_sizes": (500, 84, 12, 4), "offset": 29},
    ),
    "equal blocks": ((2, 2, 2), {"ranks": (2, 2, 2), "block_sizes": (128, 16, 16), "offset": 7}),
    "whole blocks": ((2, 2, 2), {"ranks": (2, 2, 2), "block_sizes": (128, 128, 128)}),
    "blocks of one": ((2, 2, 2), {"ranks": (3, 3), "block_sizes": (128, 1), "offset": 1}),
    "offset beyond all": ((2, 2, 2), {"ranks": (3, 3), "block_sizes": (128, 10), "offset": 1234}),
    "scales": ((2, 2, 2), {"ranks": (3, 2, 1), "level_scales": (0.7, -1.5, 0.0), "scale": 0.3}),
    "mean": ((2, 2, 2), {"ranks": (3, 2, 1), "block_sizes": (128, 21, 10), "mean_levels": True}),
    "offset a head": (
        (4, 4, 4),
        {"ranks": (2, 2, 2), "block_sizes": (128, 20, 9), "offset": (0, 5, 0, 13)},
    ),
    "grouped": ((12, 4, 6), {"ranks": (3, 2, 1), "block_sizes": (128, 30, 8), "offset": 11}),
    "grouped, offset a head": (
        (6, 3, 2),
        {
            "ranks": (2, 2, 2),
            "block_sizes": (128, 20, 9),
            "offset": (4, 4, 0, 0, 17, 17),
            "level_scales": (1.0, 2.0, 0.5),
            "mean_levels": True,
        },
    ),
}


def draw(heads, length, *, width=6, n_values=3, batch=2, dtype=DOUBLE, seed=0):
    """q, k and v with heads of their own."""
    generator = torch.Generator().manual_seed(seed)
    widths = (width, width, n_values)
    shapes = [(batch, h, length, w) for h, w in zip(heads, widths, strict=True)]
    return [torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype) for shape in shapes]


def expand(x, n_heads):
    """Keys or values written out for every query head."""
    return x.repeat_interleave(n_heads // x.shape[1], dim=1)


def full_pass(q, k, v, **options):
    """All rows of causal attention."""
    return by_reference(q, expand(k, q.shape[1]), expand(v, q.shape[1]), causal=True, **options)


def cache_from(
    sizes,
    *,
    window=None,
    n_global=0,
    scale=None,
    ranks=None,
    level_scales=None,
    mean_levels=False,
    **grid,
):
    """The cache for the same options as those of attention."""
    levels = None if ranks is None else Levels(ranks, scales=level_scales, mean=mean_levels, **grid)
    return make_cache(
        CacheSizes(**sizes), levels=levels, pattern=Pattern(True, window, n_global), scale=scale
    )


def cache_for(k, v, *, max_length=None, **options):
    """A cache for these tensors, every entry NaN."""
    sizes = {
        "batch": k.shape[0],
        "n_key_heads": k.shape[1],
        "n_value_heads": v.shape[1],
        "key_width": k.shape[3],
        "value_width": v.shape[3],
        "max_length": max_length or k.shape[2],
        "dtype": k.dtype,
    }
    cache = cache_from(sizes, **options)
    for buffer in (*cache.keys, cache.values):
        buffer.fill_(torch.nan)
    return cache


def live_slots(cache, level, head):
    """How many slots of a key head hold what the newest token may see, counted token by token."""
    if not isinstance(cache, LevelCache):
        return min(cache.length, cache.keys[level].shape[2])
    offset = cache.levels.offset
    if isinstance(offset, tuple):
        offset = offset[head * (len(offset) // cache.keys[level].shape[1])]
    size = cache.block_sizes[level]
    newest = cache.length - 1
    return sum(
        level == 0 or (j + offset) // size == (newest + offset) // size for j in range(cache.length)
    )


def poison(cache):
    """NaN over every entry that the newest token may not see."""
    for level, buffer in enumerate(cache.keys):
        for head in range(buffer.shape[1]):
            buffer[:, head, live_slots(cache, level, head) :] = torch.nan
    cache.values[:, :, cache.length :] = torch.nan


def decode_in_chunks(cache, q, k, v, chunks):
    """Result at the last token of each chunk, whatever must not be seen being NaN."""
    results = []
    stop = 0
    for n in chunks:
        begin = stop
        stop = stop + n
        cache.append(k[:, :, begin:stop], v[:, :, begin:stop])
        assert cache.length == stop
        poison(cache)
        results.append(cache.attend(q[:, :, stop - 1 : stop]))
    return torch.cat(results, dim=2)


# --- decoding equals the full pass


@pytest.mark.parametrize("length", [7, 100])
@pytest.mark.parametrize("case", CASES)
def test_decoding_equals_the_full_pass_at_every_length(case, length, assert_close):
    heads, options = CASES[case]
    q, k, v = draw(heads, length)
    cache = cache_for(k, v, **options)
    assert_close(decode_in_chunks(cache, q, k, v, [1] * length), full_pass(q, k, v, **options))
    assert cache.length == cache.max_length == length


@pytest.mark.parametrize("case", ["unrelated blocks", "mean", "grouped, offset a head"])
def test_levels_match_the_loops(case, assert_close):
    heads, options = CASES[case]
    q, k, v = draw(heads, 43, batch=1)
    lists = (q.tolist(), expand(k, heads[0]).tolist(), expand(v, heads[0]).tolist())
    expected = oracles.attention_loops(
        *lists, torch.zeros(1, heads[0], 43, 3).tolist(), causal=True, **options
    )[0]
    assert_close(
        decode_in_chunks(cache_for(k, v, **options), q, k, v, [1] * 43),
        torch.tensor(expected, dtype=DOUBLE),
    )


def test_a_level_of_two_numbers_by_hand():
    """Three tokens, blocks of two: the third begins a block, so the second is compared by its first
    feature alone.
    """
    sizes = CacheSizes(
        batch=1,
        n_key_heads=1,
        n_value_heads=1,
        key_width=2,
        value_width=1,
        max_length=3,
        dtype=DOUBLE,
    )
    cache = make_cache(sizes, levels=Levels((1, 1), (3, 2)), scale=1.0)
    k = torch.tensor([[[[0.0, 9.0], [1.0, 7.0], [0.0, 2.0]]]], dtype=DOUBLE)
    cache.append(k, torch.tensor([[[[0.0], [6.0], [12.0]]]], dtype=DOUBLE))
    log = torch.tensor([2.0, 1.5], dtype=DOUBLE).log()
    # Scores 0, log 2 and 2 log 1.5: weights 1, 2 and 9/4 of 21/4.
    out = cache.attend(log.view(1, 1, 1, 2))
    torch.testing.assert_close(
        out.flatten(), torch.tensor([(2 * 6 + 9 / 4 * 12) / (21 / 4)], dtype=DOUBLE)
    )
    assert cache.keys[1].flatten().tolist()[0] == 2.0


@st.composite
def decodings(draw_one):
    """Heads, options and chunks of a random decoding."""
    length = draw_one(st.integers(1, 40), label="max_length")
    n_keys = draw_one(st.integers(1, 3), label="key heads")
    group = draw_one(st.integers(1, 2), label="group")
    heads = (
        n_keys * group,
        n_keys,
        draw_one(st.sampled_from([n_keys * group, 1]), label="value heads"),
    )
    kind = draw_one(st.sampled_from(["full", "window", "levels"]), label="kind")
    options = {}
    if kind == "window":
        options = {"window": draw_one(st.integers(1, 45)), "n_global": draw_one(st.integers(0, 12))}
    if kind == "levels":
        n_levels = draw_one(st.integers(1, 4), label="levels")
        sizes = sorted((draw_one(st.integers(1, 45)) for _ in range(n_levels - 1)), reverse=True)
        offsets = [draw_one(st.integers(0, 60), label="offset") for _ in range(n_keys)]
        options = {
            "ranks": (6 - n_levels + 1,) + (1,) * (n_levels - 1),
            "block_sizes": (
                (max(length, *sizes, 1), *sizes)
                if draw_one(st.booleans(), label="own blocks")
                else None
            ),
            "offset": (
                tuple(o for o in offsets for _ in range(group))
                if draw_one(st.booleans())
                else offsets[0]
            ),
            "mean_levels": draw_one(st.booleans(), label="mean"),
        }
    chunks = []
    while sum(chunks) < length:
        longest = length - sum(chunks)
        chunks.append(draw_one(st.one_of(st.just(1), st.integers(1, longest)), label="chunk"))
    return heads, options, chunks


@settings(max_examples=40, deadline=None)
@given(drawn=decodings(), seed=st.integers(0, 99))
def test_prompts_leave_the_cache_as_single_tokens_do(drawn, seed):
    heads, options, chunks = drawn
    length = sum(chunks)
    q, k, v = draw(heads, length, seed=seed)
    by_chunk = cache_for(k, v, **options)
    by_token = cache_for(k, v, **options)
    ends = [end - 1 for end in itertools.accumulate(chunks)]
    actual = decode_in_chunks(by_chunk, q, k, v, chunks)
    single = decode_in_chunks(by_token, q, k, v, [1] * length)
    assert torch.equal(actual, single[:, :, ends])
    for mine, other in zip(
        (*by_chunk.keys, by_chunk.values), (*by_token.keys, by_token.values), strict=True
    ):
        assert torch.equal(mine.nan_to_num(123.0), other.nan_to_num(123.0))
    torch.testing.assert_close(single, full_pass(q, k, v, **options), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["window, grouped", "scales", "grouped, offset a head"])
def test_single_precision_holds_to_a_hundred_thousandth(case):
    heads, options = CASES[case]
    q, k, v = draw(heads, 100, dtype=torch.float32)
    actual = decode_in_chunks(cache_for(k, v, **options), q, k, v, [1] * 100)
    assert actual.dtype == torch.float32
    expected = full_pass(q.double(), k.double(), v.double(), **options)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["full, grouped", "grouped, offset a head"])
def test_half_precision_loses_only_the_rounding_of_the_result(case, dtype):
    heads, options = CASES[case]
    q, k, v = draw(heads, 100, dtype=dtype)
    actual = decode_in_chunks(cache_for(k, v, **options), q, k, v, [1] * 100)
    assert actual.dtype == dtype
    expected = full_pass(q.double(), k.double(), v.double(), **options)
    torch.testing.assert_close(
        actual.double(), expected, rtol=0.51 * torch.finfo(dtype).eps, atol=1e-6
    )


def test_bfloat16_is_within_twice_the_error_of_plain_torch():
    q, k, v = draw((8, 2, 4), 300, width=64, n_values=64, dtype=torch.bfloat16)
    expected = full_pass(q.double(), k.double(), v.double())
    plain = torch.nn.functional.scaled_dot_product_attention(
        q, expand(k, 8), expand(v, 8), is_causal=True
    )
    actual = decode_in_chunks(cache_for(k, v), q, k, v, [1] * 300)
    error, allowed = ((x.double() - expected).square().mean().sqrt() for x in (actual, plain))
    assert 0 < error <= 2 * allowed


# --- bytes


def sizes_of(**changes):
    return CacheSizes(
        **{"n_key_heads": 4, "n_value_heads": 4, "device": "meta", **PAPER, **changes}
    )


def test_key_bytes_of_the_paper():
    full = make_cache(sizes_of())
    levels = LevelCache(sizes_of(), levels=Levels(PAPER_RANKS))
    assert levels.block_sizes == (1024, 512, 256, 128, 64, 32, 16, 8)
    # 32 + 8/2 + 6/4 + 4/8 + 4/16 + 4/32 + 4/64 + 2/128 features of 64.
    assert levels.key_bytes / full.key_bytes == 38.453125 / 64
    assert round(levels.key_bytes / full.key_bytes, 2) == 0.60
    assert levels.value_bytes == full.value_bytes == full.key_bytes
    assert round((levels.key_bytes + levels.value_bytes) / (2 * full.key_bytes), 2) == 0.80
    equal = LevelCache(sizes_of(), levels=Levels((8,) * 8))
    assert equal.key_bytes / full.key_bytes == (2 - 2**-7) / 8
    assert round(equal.key_bytes / full.key_bytes, 3) == 0.249


# options, then numbers a head of keys of six features and of values of three, for at most 100
# tokens
BYTES = [
    ({}, 6 * 100, 3 * 100),
    ({"window": 8}, 6 * 8, 3 * 8),
    ({"window": 8, "n_global": 3}, 6 * 11, 3 * 11),
    ({"window": 98, "n_global": 3}, 6 * 100, 3 * 100),
    ({"window": 500}, 6 * 100, 3 * 100),
    ({"ranks": (6,)}, 6 * 100, 3 * 100),
    ({"ranks": (3, 2, 1)}, 3 * 100 + 2 * 50 + 1 * 25, 3 * 100),
    (
        {"ranks": (3, 2, 1), "block_sizes": (700, 70, 21), "offset": 5},
        3 * 100 + 2 * 70 + 1 * 21,
        3 * 100,
    ),
    ({"ranks": (3, 2, 1), "block_sizes": (700, 300, 1)}, 3 * 100 + 2 * 100 + 1, 3 * 100),
]


@pytest.mark.parametrize(("options", "keys", "values"), BYTES)
def test_bytes_are_those_of_the_formula(options, keys, values):
    sizes = {
        "batch": 5,
        "n_key_heads": 2,
        "n_value_heads": 4,
        "key_width": 6,
        "value_width": 3,
        "max_length": 100,
    }
    for dtype, item in ((torch.bfloat16, 2), (DOUBLE, 8)):
        cache = cache_from({"dtype": dtype, **sizes}, **options)
        assert (cache.key_bytes, cache.value_bytes) == (item * 5 * 2 * keys, item * 5 * 4 * values)
        assert cache.key_bytes == sum(x.untyped_storage().nbytes() for x in cache.keys)
        assert cache.value_bytes == cache.values.untyped_storage().nbytes()


def test_kinds_follow_the_options():
    sizes = sizes_of()
    assert type(make_cache(sizes)) is WindowCache
    assert type(make_cache(sizes, pattern=Pattern(True, window=3, n_global=1))) is WindowCache
    assert type(make_cache(sizes, levels=Levels(PAPER_RANKS))) is LevelCache
    assert make_cache(sizes).values.device.type == "meta"
    with pytest.raises(TypeError, match="abstract"):
        Cache(sizes, slots=((1, 64),), value_slots=1, scale=None)


# --- cost


def test_multiply_adds_are_those_of_the_formula():
    ranks = (4, 2, 2)
    blocks = (200, 60, 16)
    offset = 7
    length = 150
    q, k, v = draw((6, 2, 3), length, width=8, n_values=5)
    cache = cache_for(k, v, max_length=200, ranks=ranks, block_sizes=blocks, offset=offset)
    cache.append(k, v)
    with FlopCounterMode(display=False) as counter:
        cache.attend(q[:, :, -1:])
    # Of blocks of 60 tokens shifted by 7, the third begins at 113; of blocks of 16, the tenth at
    # 137.
    scores = 4 * 150 + 2 * (150 - 113) + 2 * (150 - 137)
    assert counter.get_total_flops() == 2 * 2 * 6 * (scores + 150 * 5)
    assert scores < sum(r * b for r, b in zip(ranks, blocks, strict=True)) < length * 8


class LargestAllocation(TorchDispatchMode):
    """Bytes of the largest storage that an operation makes, those named being known before."""

    def __init__(self, *known):
        super().__init__()
        self.known = {x.untyped_storage().data_ptr() for x in known}
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in self.known:
                self.largest = max(self.largest, x.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(
    "options", [{}, {"window": 400}, {"ranks": (4, 4)}, {"ranks": (4, 4), "offset": (0, 0, 3, 3)}]
)
def test_grouped_keys_and_values_are_never_copied(options):
    q, k, v = draw((4, 2, 1), 500, width=8, n_values=8)
    cache = cache_for(k, v, max_length=600, **options)
    cache.append(k, v)
    with LargestAllocation(*cache.keys, cache.values, q) as seen:
        cache.attend(q[:, :, -1:])
    assert (
        0 < seen.largest <= 2 * 4 * 500 * 8
    )  # the scores: batch, heads, tokens, bytes of a number
    with LargestAllocation(*cache.keys, cache.values, q) as seen:
        expand(cache.values, 4)
    assert seen.largest > 2 * 4 * 500 * 8, "a copy is not seen"


# --- state


@pytest.mark.parametrize("case", ["full", "window, grouped", "grouped, offset a head"])
def test_reset_forgets_everything(case, assert_close):
    heads, options = CASES[case]
    q, k, v = draw(heads, 30)
    cache = cache_for(k, v, **options)
    buffers = (*cache.keys, cache.values)
    cache.append(-k, -v)
    cache.reset()
    assert cache.length == 0
    assert all(a is b for a, b in zip((*cache.keys, cache.values), buffers, strict=True))
    with pytest.raises(
        ValueError, match="an empty cache has nothing to attend to; got length = 0; append"
    ):
        cache.attend(q[:, :, :1])
    assert_close(decode_in_chunks(cache, q, k, v, [1] * 30), full_pass(q, k, v, **options))


@pytest.mark.parametrize("case", ["full", "window, grouped", "grouped, offset a head"])
def test_nothing_is_recorded_and_the_input_is_copied(case):
    heads, options = CASES[case]
    q, k, v = draw(heads, 12)
    cache = cache_for(k, v, **options)
    cache.append(k.requires_grad_(), v.requires_grad_())
    before = cache.attend(q[:, :, -1:].requires_grad_())
    assert not any(x.requires_grad for x in (before, *cache.keys, cache.values))
    with torch.no_grad():
        k.zero_()
        v.zero_()
    assert torch.equal(cache.attend(q[:, :, -1:]), before)


@pytest.mark.parametrize("first", [True, False])
def test_inference_mode_may_come_and_go(first):
    q, k, v = draw((2, 2, 2), 3)
    with torch.inference_mode(first):
        cache = cache_for(k, v)
        cache.append(k[:, :, :2], v[:, :, :2])
    with torch.inference_mode(not first):
        cache.append(k[:, :, 2:], v[:, :, 2:])
        actual = cache.attend(q[:, :, 2:])
    torch.testing.assert_close(actual, full_pass(q, k, v)[:, :, 2:])


def test_autocast_does_not_narrow():
    q, k, v = draw((2, 2, 2), 40, dtype=torch.float32)
    cache = cache_for(k, v, ranks=(3, 3))
    cache.append(k, v)
    expected = cache.attend(q[:, :, -1:])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(cache.attend(q[:, :, -1:]), expected)


def test_full_cache_is_refused_and_stays_as_it_was(assert_close):
    q, k, v = draw((2, 2, 2), 9)
    cache = cache_for(k, v, window=4, max_length=8)
    cache.append(k[:, :, :7], v[:, :, :7])
    message = (
        "2 more tokens do not fit behind length = 7 with max_length = 8; make it with a larger"
        " max_length, or"
    )
    with pytest.raises(ValueError, match=message) as caught:
        cache.append(k[:, :, 7:], v[:, :, 7:])
    assert "\n" not in str(caught.value)
    cache.append(k[:, :, 7:8], v[:, :, 7:8])
    assert_close(cache.attend(q[:, :, 7:8]), full_pass(q, k, v, window=4)[:, :, 7:8])


# --- refusals


BAD_OPTIONS = [
    (
        {"ranks": (3, 3), "window": 4},
        "levels serves no pattern but causal; got window = 4; leave out either",
    ),
    (
        {"ranks": (3, 2)},
        r"ranks must sum to d_head; got sum\(\(3, 2\)\) = 5 for d_head = 6; change",
    ),
    (
        {"ranks": (3, 3), "block_sizes": (8, 4)},
        "block_sizes must cover the sequence; got 8 for 9 tokens; raise",
    ),
    (
        {"ranks": (3, 3), "offset": (1, 2, 3)},
        "got 3 numbers, no multiple of the 2 key heads; give one a query head",
    ),
    (
        {"ranks": (3, 3), "offset": (1, 2, 3, 3)},
        r"share a key head must have one offset; got \(1, 2, 3, 3\) in gr",
    ),
    ({"batch": 0}, "batch must be a whole number of at least 1; got 0"),
    ({"n_key_heads": 0}, "n_key_heads must be a whole number of at least 1; got 0"),
    ({"n_value_heads": -1}, "n_value_heads must be a whole number of at least 1; got -1"),
    ({"key_width": 0}, "key_width must be a whole number of at least 1"),
    ({"value_width": 0}, "value_width must be a whole number of at least 1"),
    ({"max_length": 0}, "max_length must be a whole number of at least 1; got 0"),
    ({"dtype": torch.int64}, "dtype must be a floating one of 16 bits or more; got torch.int64"),
    ({"dtype": torch.float8_e4m3fn}, "16 bits or more; got torch.float8_e4m3fn; take that of"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options_are_refused(options, message):
    sizes = {
        "batch": 1,
        "n_key_heads": 2,
        "n_value_heads": 2,
        "key_width": 6,
        "value_width": 3,
        "max_length": 9,
    }
    sizes["dtype"] = DOUBLE
    own = {name: options[name] for name in options if name in sizes}
    others = {name: options[name] for name in options if name not in sizes}
    with pytest.raises(ValueError, match=message) as caught:
        cache_from(sizes | own, **others)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_sees_later_tokens_is_refused():
    with pytest.raises(
        ValueError,
        match=r"a cache is for causal attention; got Pattern\(causal=False, .*use causal",
    ):
        make_cache(sizes_of(), pattern=Pattern(window=3))


def zeros(*shape, dtype=DOUBLE, device=None):
    return torch.zeros(shape, dtype=dtype, device=device)


BAD_TOKENS = [
    (
        zeros(1, 2, 1, 6),
        zeros(2, 2, 1, 3),
        r"k must have the cache's .* here \(2, 2, 1, 6\), .*; got \(1, 2, 1, 6\)",
    ),
    (zeros(2, 1, 1, 6), zeros(2, 2, 1, 3), "k must have the cache's"),
    (zeros(2, 2, 1, 1), zeros(2, 2, 1, 3), "k must have the cache's"),
    (zeros(2, 2, 6), zeros(2, 2, 1, 3), "k must have the cache's"),
    (zeros(2, 2, 0, 6), zeros(2, 2, 0, 3), "with a token at least; got"),
    (
        zeros(2, 2, 2, 6),
        zeros(2, 2, 1, 3),
        r"v must have the cache's .* here \(2, 2, 2, 3\), .*; got \(2, 2, 1, 3\)",
    ),
    (zeros(2, 2, 1, 6), zeros(2, 2, 1, 1), "v must have the cache's"),
    (
        zeros(2, 2, 1, 6).float(),
        zeros(2, 2, 1, 3),
        "k must have the cache's type and device, torch.float64 on cpu",
    ),
    (
        zeros(2, 2, 1, 6),
        zeros(2, 2, 1, 3, device="meta"),
        "v must have .*; got torch.float64 on meta; convert it with",
    ),
]


@pytest.mark.parametrize(("k", "v", "message"), BAD_TOKENS)
def test_bad_tokens_are_refused(k, v, message):
    cache = cache_for(zeros(2, 2, 9, 6), zeros(2, 2, 9, 3))
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(Cache.append)(cache, k, v)
    assert "\n" not in str(caught.value)
    assert cache.length == 0


@pytest.mark.parametrize(
    ("q", "message"),
    [
        (
            zeros(2, 6, 1, 6),
            "offset must be one number or one per head; got 4 numbers for 6 heads; give one a head",
        ),
        (zeros(1, 4, 1, 6), r"must agree in batch, .*; got q \(1, 4, 1, 6\)"),
        (zeros(2, 4, 1, 5), r"must be as wide as q; got sum\(\(3, 3\)\) = 6 for 5"),
        (zeros(2, 4, 2, 6), "decode answers one query; got 2; take attention for a whole sequence"),
        (
            zeros(2, 4, 1, 6).float(),
            "share one type and device; got torch.float32 on cpu and torch.float64 on cpu",
        ),
    ],
)
def test_bad_queries_are_refused(q, message, monkeypatch):
    monkeypatch.setattr("tsattn.nn.cache.decode", without_hook(decode))
    k = zeros(2, 2, 9, 6)
    v = zeros(2, 4, 9, 3)
    cache = cache_for(k, v, ranks=(3, 3), offset=(1, 1, 2, 2))
    cache.append(k, v)
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(Cache.attend)(cache, q)
    assert "\n" not in str(caught.value)


BAD_DECODES = [
    ((), zeros(1, 2, 3, 4), "the keys of at least one level and values must have the axes"),
    ((zeros(1, 2, 3, 4),), zeros(2, 3, 4), r"must have the axes .*; got 4, \[4\] and 3 axes"),
    ((zeros(1, 2, 3, 3), zeros(1, 1, 3, 1)), zeros(1, 2, 3, 4), "and the levels in heads; got q"),
    (
        (zeros(1, 3, 3, 4),),
        zeros(1, 2, 3, 4),
        "the heads of keys must divide those of q; got 3 for 4",
    ),
    (
        (zeros(1, 2, 3, 4),),
        zeros(1, 8, 3, 4),
        "the heads of values must divide those of q; got 8 for 4",
    ),
]


@pytest.mark.parametrize(("keys", "values", "message"), BAD_DECODES)
def test_bad_calls_of_decode_are_refused(keys, values, message):
    with pytest.raises(ValueError, match=message) as caught:
        without_hook(decode)(zeros(1, 4, 1, 4), keys, values)
    assert "\n" not in str(caught.value)


def test_levels_of_another_number_than_the_keys_are_refused():
    call = without_hook(decode)
    q = zeros(1, 4, 1, 4)
    keys = (zeros(1, 2, 3, 2), zeros(1, 2, 3, 2))
    values = zeros(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"one number a level; got \(0,\) for the keys of 2 lev"):
        call(q, keys, values, starts=(0,))
    with pytest.raises(ValueError, match=r"got ranks \(4,\) for 2 tensors; cut the keys by"):
        call(q, keys, values, levels=Levels((4,)))
    with pytest.raises(TypeError, match=r"keys must be a tuple .* got a tensor; write \(keys,\)"):
        call(q, zeros(1, 2, 3, 4), values)


def test_the_shape_hook_is_awake():
    """Must raise: if it does not, the annotations of the caches are checked by nobody."""
    k = zeros(2, 2, 9, 6)
    v = zeros(2, 2, 9, 3)
    cache = cache_for(k, v)
    with pytest.raises(jaxtyping.TypeCheckError):
        cache.append(k, v[:, :, 1:])
    with pytest.raises(jaxtyping.TypeCheckError):
        decode(zeros(2, 2, 2, 6), (k,), v)
    cache.append(k, v)
    with pytest.raises(jaxtyping.TypeCheckError):
        cache.attend(zeros(2, 2, 2, 6))
