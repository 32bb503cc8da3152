"""Chunks of a sliding window against the loops and the reference, in linear memory, each pair met
once.
"""

import functools
import itertools

import oracles
import pytest
import torch
from calls import (
    DOUBLE,
    answers,
    by_reference,
    check,
    draw_mask,
    draw_square,
    fit,
    geometry,
    peak_bytes,
)
from conftest import assert_close as compare
from hypothesis import given, settings
from hypothesis import strategies as st

from tsattn.kernels import Levels, Pattern, attention, dispatch, fused, windowed

by_windows = functools.partial(attention, backend="windowed")


@pytest.fixture(params=[(1, 1), (3, 8), (64, 256)], ids=lambda sizes: f"chunk{sizes[0]}")
def chunks(request, monkeypatch):
    """One query at a time, a few, and as usual."""
    monkeypatch.setattr(windowed, "CHUNKS", request.param)
    return request.param


@pytest.fixture(params=["fused", "plain"])
def kernel(request, monkeypatch):
    """With torch's private operators, and as if this torch had none, in more slices than one."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "serves", lambda *_: False)
        monkeypatch.setattr(fused, "SLICE_PAIRS", 100)
    return request.param


# --- against the loops


@pytest.mark.parametrize(
    ("length", "window", "causal", "n_global"),
    [
        (1, 1, 0, 0),
        (7, 2, 1, 3),
        (41, 16, 0, 3),
        (41, 16, 1, 0),
        (41, 60, 0, 0),
        (41, 1, 1, 3),
        (41, 1, 0, 0),
    ],
)
def test_lengths_and_windows_match_the_loops(
    length, window, causal, n_global, chunks, assert_close
):
    options = {"window": window, "causal": bool(causal), "n_global": n_global}
    check(assert_close, draw_square(1, 2, length, 4, 3), ["windowed"], **options)


@pytest.mark.parametrize(
    ("causal", "n_global", "mask_bytes"),
    [(0, 0, 1), (1, 1, 2**22), (0, 9, 2**22), (1, 9, 1), (0, 60, 1)],
)
def test_masked_keys_match_the_loops(
    causal, n_global, mask_bytes, chunks, kernel, monkeypatch, assert_close
):
    monkeypatch.setattr(windowed, "MASK_BYTES", mask_bytes)
    tensors = draw_square(3, 2, 37, 4, 5)
    options = {
        "window": 6,
        "causal": bool(causal),
        "n_global": n_global,
        "key_mask": draw_mask(3, 37),
        "scale": 0.7,
    }
    check(assert_close, tensors, ["windowed"], **options)
    assert not any(x[0].any() for x in answers(by_windows, *tensors, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"ranks": (4,)},
        {"ranks": (1, 3), "block_sizes": (90, 70), "level_scales": (0.7, -1.5), "offset": (3, 9)},
        {
            "ranks": (1, 3),
            "block_sizes": (90, 70),
            "level_scales": (0.0, -1.5),
            "mean_levels": True,
        },
        {"scale": -0.4},
        {"scale": 0.0},
    ],
)
def test_levels_that_all_pairs_share_match_the_loops(options, assert_close):
    check(
        assert_close,
        draw_square(2, 2, 30, 4),
        ["windowed"],
        window=7,
        causal=True,
        n_global=2,
        **options,
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_window_matches_the_loops(data):
    length = data.draw(st.integers(1, 30), label="length")
    options = {
        "window": data.draw(st.integers(1, 33), label="window"),
        "n_global": data.draw(st.integers(0, 33), label="n_global"),
        "causal": data.draw(st.booleans(), label="causal"),
        "key_mask": draw_mask(2, length) if data.draw(st.booleans(), label="masked") else None,
    }
    n_values = data.draw(st.integers(1, 5), label="V")
    by_token = data.draw(st.booleans(), label="by token")
    tensors = draw_square(
        2, 2, length, 3, n_values, by_token=by_token, seed=data.draw(st.integers(0, 99))
    )
    with pytest.MonkeyPatch.context() as patch:
        least = data.draw(st.integers(1, 9), label="least chunk")
        patch.setattr(
            windowed, "CHUNKS", (least, least + data.draw(st.integers(0, 9), label="more"))
        )
        if data.draw(st.booleans(), label="plain"):
            patch.setattr(fused, "serves", lambda *_: False)
        check(compare, tensors, ["windowed"], **options)


# --- against the reference


@pytest.mark.parametrize(
    ("length", "window", "causal", "n_global", "masked"),
    [
        (257, 1, 1, 0, 0),
        (257, 300, 0, 70, 1),
        (700, 50, 0, 70, 0),
        (700, 50, 1, 70, 1),
        (700, 300, 1, 0, 1),
    ],
)
def test_long_sequences_match_the_reference(length, window, causal, n_global, masked, assert_close):
    tensors = draw_square(2, 2, length, 6, 5, by_token=bool(masked))
    options = {"window": window, "causal": bool(causal), "n_global": n_global}
    options["key_mask"] = draw_mask(2, length) if masked else None
    expected = answers(by_reference, *tensors, **options)
    for actual, right in zip(answers(attention, *tensors, **options), expected, strict=True):
        assert_close(actual, right)


def test_float32_matches_the_reference(chunks, assert_close):
    tensors = draw_square(2, 2, 300, 16)
    options = {"window": 40, "n_global": 3, "key_mask": draw_mask(2, 300)}
    expected = answers(by_reference, *tensors, **options)
    narrow = [x.detach().float().requires_grad_(x.requires_grad) for x in tensors]
    for actual, right in zip(answers(by_windows, *narrow, **options), expected, strict=True):
        assert actual.dtype == torch.float32
        assert_close(actual, right, "float32")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_is_no_worse_than_plain_torch(dtype, masked):
    tensors = draw_square(2, 2, 200, 32, dtype=dtype)
    seen = Pattern(causal=True, window=40).mask(200, 200)
    mask = (
        torch.arange(400).view(2, 200) % 5 != 3 if masked else None
    )  # plain torch has NaN for a row without keys

    def plain(q, k, v):
        scores = (q * 32**-0.5 @ k.transpose(2, 3)).masked_fill(~seen, -torch.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
        return scores.softmax(dim=-1) @ v

    options = {"window": 40, "causal": True, "key_mask": mask}
    expected = answers(
        by_reference, *(x.detach().double().requires_grad_() for x in tensors), **options
    )
    ours = answers(by_windows, *tensors, **options)
    theirs = answers(plain, *tensors)
    for actual, other, right in zip(ours, theirs, expected, strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - right).abs().max() <= 2 * (
            other.double() - right
        ).abs().max() + 1e-5
        assert (actual.double() - right).norm() <= 5e-3 * right.norm()


# --- layouts and memory


def test_any_memory_layout_gives_the_same(chunks, assert_close):
    options = {"window": 9, "n_global": 2}
    tensors = draw_square(3, 2, 50, 4, 4)
    expected = answers(by_reference, *tensors, **options)
    by_token = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    one_row = [
        torch.stack([x.detach()] * 2, dim=4)[..., 0] for x in tensors
    ]  # features two apart in memory
    for views in (by_token, one_row):
        views = [x.requires_grad_() for x in views[:3]] + [views[3]]
        for actual, right in zip(answers(by_windows, *views, **options), expected, strict=True):
            assert_close(actual, right)
    wide = [x.detach()[:1].expand(3, -1, -1, -1).requires_grad_() for x in tensors[:3]]
    for function in (lambda out: out.sum(), lambda out: out[:, :, ::2].mean()):
        ours = torch.autograd.grad(function(by_windows(*wide, **options)), wide)
        right = torch.autograd.grad(function(by_reference(*wide, **options)), wide)
        for a, b in zip(ours, right, strict=True):
            assert_close(a, b)


def test_room_that_was_never_written_is_never_read(chunks, kernel, monkeypatch):
    def poisoned(make):
        def function(*args, **kwargs):
            x = make(*args, **kwargs)
            return x.fill_(torch.nan) if x.is_floating_point() else x

        return function

    tensors = draw_square(2, 2, 130, 6, 4)
    options = {"window": 11, "n_global": 4, "key_mask": draw_mask(2, 130), "causal": True}
    expected = answers(by_windows, *tensors, **options)
    for module, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(module, name, poisoned(getattr(module, name)))
    for actual, right in zip(answers(by_windows, *tensors, **options), expected, strict=True):
        assert actual.isfinite().all()
        assert torch.equal(actual, right)


def test_inputs_stay_as_they_are():
    tensors = draw_square(1, 2, 150, 6)
    copies = [x.detach().clone() for x in tensors]
    answers(by_windows, *tensors, window=20, n_global=3, key_mask=draw_mask(1, 150))
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def peak_of(function, length, **options):
    return peak_bytes(function, *draw_square(2, 2, length, 32, dtype=torch.float32), **options)


@pytest.mark.parametrize(("masked", "causal"), [(False, True), (True, False)])
def test_memory_is_linear(masked, causal):
    peaks = []
    for length in (512, 1024, 2048):
        mask = draw_mask(2, length) if masked else None
        peaks.append(
            peak_of(by_windows, length, window=64, causal=causal, n_global=2, key_mask=mask)
        )
    assert peaks[2] - peaks[1] <= 2.1 * (peaks[1] - peaks[0])
    assert peaks[1] < 0.4 * peak_of(by_reference, 1024, window=64, causal=causal)


# --- the chunks


@pytest.mark.parametrize(
    ("length", "window", "n_global"),
    [(1, 1, 0), (20, 6, 4), (20, 20, 60), (53, 1, 4), (53, 6, 0), (53, 20, 4)],
)
@pytest.mark.parametrize("causal", [False, True])
def test_every_pair_is_met_once(length, window, n_global, causal, chunks):
    call = geometry(
        length, length, Levels((4,), (length,)), window=window, n_global=n_global, causal=causal
    )
    met = torch.zeros(length, length, dtype=torch.long)
    rows = torch.zeros(length, dtype=torch.long)
    positions = torch.arange(length)[None, None, :, None]
    masks = windowed._Masks(call, window, torch.zeros(()))
    for chunk in windowed._chunks(call, window):
        rows[chunk.rows] += 1
        keys = chunk.keys(positions).flatten()
        bias = masks.bias(chunk, None)
        seen = torch.ones(1, len(keys), dtype=torch.bool) if bias is None else bias[0, 0] == 0
        if chunk.causal:
            seen = keys <= positions[0, 0, chunk.rows]
        for row, some in zip(
            range(length)[chunk.rows], seen.expand(len(rows[chunk.rows]), -1), strict=True
        ):
            met[row].index_add_(0, keys, some.long())
    assert (rows == 1).all()
    for i, j in itertools.product(range(length), repeat=2):
        assert met[i, j] == oracles.visible(i, j, causal=causal, window=window, n_global=n_global)


def test_chunks_follow_the_window():
    assert [windowed.chunk_length(window) for window in (1, 300, 600, 10**6)] == [64, 75, 150, 256]


# --- what the formulas promise


def test_the_future_and_what_is_far_change_nothing(chunks):
    tensors = [x.detach() for x in draw_square(2, 2, 300, 8)[:3]]
    before = by_windows(*tensors, window=20, causal=True)
    for x in tensors[1:]:
        x[:, :, 200] += 5.0
    after = by_windows(*tensors, window=20, causal=True)
    changed = (before != after).any(dim=3).any(dim=1).any(dim=0)
    assert changed.nonzero().flatten().tolist() == list(range(200, 220))


def test_autocast_narrows_nothing():
    q, k, v, g = draw_square(2, 2, 300, 8, dtype=torch.float32)
    expected = answers(by_windows, q, k, v, g, window=9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = by_windows(q, k, v, window=9)
        gradients = torch.autograd.grad(out, (q, k, v), g)
    assert all(torch.equal(a, b) for a, b in zip((out, *gradients), expected, strict=True))


def test_second_derivatives_are_refused():
    q, k, v, g = draw_square(1, 1, 20, 4)
    (first,) = torch.autograd.grad(by_windows(q, k, v, window=3), q, g, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives only; .* backend='reference'"):
        torch.autograd.grad(first.sum() + q.sum(), q)


def test_no_sequence_at_all_gives_nothing():
    q, k, v, g = draw_square(0, 2, 9, 4, 3)
    out, *gradients = answers(by_windows, q, k, v, g, window=3)
    assert out.shape == (0, 2, 9, 3)
    assert [x.shape for x in gradients] == [x.shape for x in (q, k, v)]
    assert by_windows(q.half(), k.half(), v.half(), window=3).dtype == torch.float16


# --- the choice, and refusals


def test_windows_of_long_sequences_are_chosen_by_shape():
    def chosen(n_queries, n_keys, backend="auto", **options):
        q, k = (torch.zeros(1, 2, length, 8) for length in (n_queries, n_keys))
        return dispatch.choose(fit(q, k, **options), backend, True, False)

    long = dispatch.WINDOWED_LENGTH
    assert chosen(long, long, window=5) == "windowed"
    assert chosen(long, long, window=5, ranks=(8,), mean=True) == "windowed"
    assert chosen(long - 1, long - 1, window=5) == "plain"
    assert chosen(long - 1, long - 1, "windowed", window=5) == "windowed"
    assert chosen(long - 1, long, window=5) == "plain"
    assert chosen(long, long, "dense", window=5, ranks=(8,)) == "plain"
    assert chosen(long, long) == "plain"
    assert chosen(long, long, window=5, ranks=(4, 4)) == "expanded"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a window; got None; give one"),
        (
            {"window": 3, "ranks": (2, 2)},
            r"one level that all pairs share; got ranks \(2, 2\) .*; use the reference",
        ),
    ],
)
def test_refusals_name_the_way_out(options, message):
    q, k, v, _ = draw_square(1, 2, 20, 4)
    with pytest.raises(ValueError, match=message) as error:
        by_windows(q, k, v, **options)
    assert "\n" not in str(error.value)


def test_unequal_lengths_are_refused():
    q, k, v, _ = draw_square(1, 2, 64, 6)
    with pytest.raises(ValueError, match=r"as many queries as keys; got 10 and 64; use auto"):
        by_windows(q[:, :, :10], k, v, window=3)


# --- other devices


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_gpu_gives_the_same(dtype, causal, masked):
    """Float32 may be multiplied in a narrower format there, so it is held to the rule of half
    precision.
    """
    tensors = draw_square(2, 2, 700, 32, dtype=dtype)
    mask = draw_mask(2, 700) if masked else None
    options = {"window": 90, "causal": causal, "n_global": 3}
    expected = answers(
        by_reference,
        *(x.detach().double().requires_grad_() for x in tensors),
        key_mask=mask,
        **options,
    )
    there = [x.detach().cuda().requires_grad_(x.requires_grad) for x in tensors]
    ours = answers(by_windows, *there, key_mask=None if mask is None else mask.cuda(), **options)
    for actual, right in zip(ours, expected, strict=True):
        assert (actual.double().cpu() - right).norm() <= (
            1e-10 if dtype == DOUBLE else 5e-3
        ) * right.norm()
