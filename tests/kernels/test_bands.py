"""Bands through fused kernels against the loops and the reference, in linear memory, with and
without kernels.
"""

import functools
import itertools
import subprocess
import sys

import pytest
import torch
from calls import (
    DOUBLE,
    answers,
    by_reference,
    check,
    draw_mask,
    draw_square,
    geometry,
    peak_bytes,
)
from conftest import assert_close as compare
from hypothesis import given, settings
from hypothesis import strategies as st

from tsattn.kernels import Levels, attention, bands, fused
from tsattn.kernels.partition import StretchRun, bands_refusal, make_band_plan, split_heads

# Calendar-like: a week of hours over days over quarters of a day, ragged at both ends.
CALENDAR = {"ranks": (2, 1, 2, 1), "block_sizes": (1000, 168, 24, 6), "offset": 29}
HALVING = {"ranks": (3, 1, 1, 1)}
# Grids that differ by head: alternating ones go together, others one by one.
SHIFTED = {
    "ranks": (2, 1, 2, 1),
    "block_sizes": (1000, 120, 24, 6),
    "level_scales": (1.0, 0.5, 2.0, 1.5),
}
SHIFTS = [(0, 11, 0, 11), (5, 0, 0, 5), (7, 1, 30, 119), (3, 3, 3, 9)]
by_bands = functools.partial(attention, backend="bands")


@pytest.fixture(params=[0, 16, 128], ids=lambda size: f"dense{size}")
def dense_block(request, monkeypatch):
    """Everything by fused kernels, small blocks by products, most by products."""
    monkeypatch.setattr(bands, "DENSE_BLOCK", request.param)
    return request.param


@pytest.fixture(params=["fused", "plain"])
def kernel(request, monkeypatch):
    """With torch's private operators, and as if this torch had none."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "serves", lambda *_: False)
    return request.param


# --- against the loops


@pytest.mark.parametrize("length", [2, 65])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [HALVING, CALENDAR], ids=["halving", "calendar"])
def test_lengths_match_the_loops(length, causal, options, dense_block, assert_close):
    check(assert_close, draw_square(1, 2, length, 6), ["bands"], causal=causal, **options)


@pytest.mark.parametrize(
    ("n_values", "causal", "masked"), [(2, False, True), (4, True, False), (7, True, True)]
)
def test_masks_scales_and_widths_match_the_loops(
    n_values, causal, masked, dense_block, kernel, assert_close
):
    options = {
        "ranks": (1, 2, 1),
        "block_sizes": (50, 20, 4),
        "level_scales": (0.7, -1.5, 0.0),
        "scale": 0.3,
    }
    options |= {"causal": causal, "offset": 13, "key_mask": draw_mask(3, 45) if masked else None}
    check(assert_close, draw_square(3, 2, 45, 4, n_values), ["bands"], **options)
    if masked:
        assert not any(
            x[0].any() for x in answers(by_bands, *draw_square(3, 2, 45, 4, n_values), **options)
        )


@pytest.mark.parametrize(
    ("offset", "causal", "mean_levels"), [*zip(SHIFTS, [0, 1, 1, 0], [0, 0, 1, 1], strict=True)]
)
def test_an_offset_per_head_matches_the_loops(
    offset, causal, mean_levels, dense_block, assert_close
):
    options = {"offset": offset, "causal": bool(causal), "mean_levels": bool(mean_levels)}
    check(
        assert_close,
        draw_square(2, 4, 41, 6, 3),
        ["bands"],
        key_mask=draw_mask(2, 41),
        **SHIFTED,
        **options,
    )


@pytest.mark.parametrize(
    ("length", "causal", "options"),
    [(1, True, HALVING), (149, True, HALVING), (149, False, CALENDAR), (23, False, {})],
)
def test_mean_levels_match_the_loops(length, causal, options, dense_block, assert_close):
    # Levels that every pair shares count too, and so do those of one size.
    sizes = {"block_sizes": (1000, 168, 168, 12)} if "block_sizes" in options else {}
    options = {"ranks": (6,), **options, **sizes, "mean_levels": True, "causal": causal}
    check(assert_close, draw_square(1, 1, length, 6), ["bands"], **options)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_nested_blocks_match_the_loops(data):
    factors = data.draw(
        st.lists(st.integers(1, 5), min_size=0, max_size=3),
        label="children of a block, fine to coarse",
    )
    sizes = [data.draw(st.integers(1, 6), label="finest")]
    for factor in factors:
        sizes.insert(0, sizes[0] * factor)
    length = data.draw(st.integers(1, 40), label="length")
    # The first level is one block whatever its size, so it need not be a multiple of anything.
    sizes.insert(0, max(length, sizes[0]))
    ranks = tuple(
        data.draw(
            st.lists(st.integers(1, 2), min_size=len(sizes), max_size=len(sizes)), label="ranks"
        )
    )
    options = {
        "ranks": ranks,
        "block_sizes": tuple(sizes),
        "offset": data.draw(
            st.integers(0, 100) | st.tuples(*[st.integers(0, 20)] * 3), label="offset"
        ),
        "mean_levels": data.draw(st.booleans(), label="mean levels"),
        "causal": data.draw(st.booleans(), label="causal"),
        "key_mask": draw_mask(2, length) if data.draw(st.booleans(), label="masked") else None,
    }
    n_values = data.draw(st.integers(1, 5), label="V")
    by_token = data.draw(st.booleans(), label="by token")
    tensors = draw_square(
        2, 3, length, sum(ranks), n_values, by_token=by_token, seed=data.draw(st.integers(0, 99))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            bands, "DENSE_BLOCK", data.draw(st.sampled_from([0, 4, 16, 128]), label="dense block")
        )
        check(compare, tensors, ["bands"], **options)


# --- against the reference


@pytest.mark.parametrize(
    ("length", "causal", "masked", "options"),
    [
        (257, False, True, {"ranks": (2, 1, 1, 1, 1)}),
        (700, True, False, CALENDAR),
        (700, True, True, CALENDAR),
    ],
)
def test_long_sequences_match_the_reference(
    length, causal, masked, options, dense_block, kernel, assert_close
):
    tensors = draw_square(2, 2, length, 6, 5)
    options = options | {"causal": causal, "key_mask": draw_mask(2, length) if masked else None}
    expected = answers(by_reference, *tensors, **options)
    for actual, right in zip(answers(by_bands, *tensors, **options), expected, strict=True):
        assert_close(actual, right)


@pytest.mark.parametrize("causal", [False, True])
def test_heads_of_long_sequences_match_the_reference(causal, assert_close):
    tensors = draw_square(2, 4, 770, 6, 5)
    options = CALENDAR | {
        "offset": (0, 84, 0, 84),
        "mean_levels": True,
        "key_mask": draw_mask(2, 770),
    }
    expected = answers(by_reference, *tensors, causal=causal, **options)
    for actual, right in zip(
        answers(attention, *tensors, causal=causal, **options), expected, strict=True
    ):
        assert_close(actual, right)


@pytest.mark.parametrize("masked", [False, True])
def test_float32_matches_the_reference(masked, dense_block, assert_close):
    tensors = draw_square(2, 2, 500, 16)
    options = {
        "ranks": (8, 4, 2, 2),
        "causal": masked,
        "key_mask": draw_mask(2, 500) if masked else None,
    }
    expected = answers(by_reference, *tensors, **options)
    narrow = [x.detach().float().requires_grad_(x.requires_grad) for x in tensors]
    for actual, right in zip(answers(by_bands, *narrow, **options), expected, strict=True):
        assert actual.dtype == torch.float32
        assert_close(actual, right, "float32")


def plain(q, k, v, *, ranks, block_sizes, causal, key_mask=None, **_):
    """The formula in the type of its inputs, as anybody would write it."""
    length = q.shape[2]
    scores = 0.0
    start = 0
    block = torch.arange(length)
    for level, (rank, size) in enumerate(zip(ranks, block_sizes, strict=True)):
        part = (q[..., start : start + rank] * q.shape[3] ** -0.5) @ k[
            ..., start : start + rank
        ].transpose(2, 3)
        scores = scores + part * ((block[:, None] // size == block // size) | (level == 0))
        start += rank
    if causal:
        scores = scores.masked_fill(block > block[:, None], -torch.inf)
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[:, None, None], -torch.inf)
    return scores.softmax(dim=3) @ v


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("masked", [False, True])
def test_half_precision_is_no_worse_than_plain_torch(dtype, masked, dense_block):
    tensors = draw_square(2, 2, 256, 32, dtype=dtype)
    options = {"ranks": (16, 8, 4, 4), "block_sizes": (256, 128, 64, 32), "causal": not masked}
    if masked:
        options["key_mask"] = (
            torch.arange(512).view(2, 256) % 5 != 3
        )  # plain torch has NaN for a row that sees nothing
    expected = answers(
        by_reference, *(x.detach().double().requires_grad_() for x in tensors), **options
    )
    ours = answers(by_bands, *tensors, **options)
    theirs = answers(plain, *tensors, **options)
    for actual, other, right in zip(ours, theirs, expected, strict=True):
        assert actual.dtype == dtype
        assert (actual.double() - right).abs().max() <= 2 * (
            other.double() - right
        ).abs().max() + 1e-5
        assert (actual.double() - right).norm() <= 5e-3 * right.norm()


# --- layouts, pieces, memory


@pytest.mark.parametrize(("batch", "room"), [(1, 2**12), (2, 2**22), (7, 2**12), (3, 1)])
def test_layouts_and_pieces_change_nothing(batch, room, dense_block, monkeypatch, assert_close):
    options = {"ranks": (2, 1, 1), "block_sizes": (120, 24, 8), "offset": 5, "causal": batch == 2}
    tensors = draw_square(batch, 3, 101, 4)
    expected = answers(by_reference, *tensors, **options)
    monkeypatch.setattr(bands, "SLICE_BYTES", room)
    monkeypatch.setattr(bands, "PIECE_BYTES", room)
    monkeypatch.setattr(fused, "SLICE_PAIRS", room)
    by_token = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    one_row = [
        torch.stack([x.detach()] * 2, dim=4)[..., 0] for x in tensors
    ]  # features two apart in memory
    for views in (tensors, by_token, one_row):
        views = [x.requires_grad_() for x in views[:3]] + [views[3]]
        for actual, right in zip(answers(by_bands, *views, **options), expected, strict=True):
            assert_close(actual, right)
    with monkeypatch.context() as patch:
        patch.setattr(fused, "serves", lambda *_: False)
        for actual, right in zip(answers(by_bands, *by_token, **options), expected, strict=True):
            assert_close(actual, right)


def test_expanded_inputs_and_gradients_are_read_right(assert_close):
    q, k, v, _ = draw_square(1, 2, 60, 4)
    wide = [x.detach().expand(3, -1, -1, -1).requires_grad_() for x in (q, k, v)]
    for function in (lambda out: out.sum(), lambda out: out[:, :, ::2].mean()):
        ours = torch.autograd.grad(function(by_bands(*wide, ranks=(2, 2))), wide)
        right = torch.autograd.grad(function(by_reference(*wide, ranks=(2, 2))), wide)
        for a, b in zip(ours, right, strict=True):
            assert_close(a, b)


def test_room_that_was_never_written_is_never_read(dense_block, kernel, monkeypatch):
    def poisoned(make):
        def function(*args, **kwargs):
            x = make(*args, **kwargs)
            return x.fill_(torch.nan) if x.is_floating_point() else x

        return function

    tensors = draw_square(2, 2, 130, 6, 4)
    options = CALENDAR | {"key_mask": draw_mask(2, 130), "causal": True}
    expected = answers(by_bands, *tensors, **options)
    for module, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(module, name, poisoned(getattr(module, name)))
    for actual, right in zip(answers(by_bands, *tensors, **options), expected, strict=True):
        assert actual.isfinite().all()
        assert torch.equal(actual, right)


def peak_of(function, length, **options):
    return peak_bytes(function, *draw_square(1, 4, length, 32, dtype=torch.float32), **options)


@pytest.mark.parametrize(
    ("kernel", "masked"), [("fused", False), ("fused", True), ("plain", False)], indirect=["kernel"]
)
def test_memory_is_linear(masked, kernel, monkeypatch):
    monkeypatch.setattr(bands, "DENSE_BLOCK", 128 * masked)  # blocks by kernels, and by products
    for name in ("SLICE_BYTES", "PIECE_BYTES"):
        monkeypatch.setattr(bands, name, 2**16)
    monkeypatch.setattr(fused, "SLICE_PAIRS", 2**16)
    peaks = []
    for length in (512, 1024):
        options = {"ranks": (8,) * 4, "block_sizes": (length, 256, 128, 64)}
        options["key_mask"] = draw_mask(1, length) if masked else None
        peaks.append(peak_of(by_bands, length, **options))
    assert peaks[1] <= 2.1 * peaks[0]
    assert peaks[1] < 0.5 * peak_of(by_reference, 1024, ranks=(8,) * 4)
    if kernel == "fused" and not masked:
        assert peaks[1] <= 1.6 * peak_of(torch.nn.functional.scaled_dot_product_attention, 1024)


# --- the plan


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("offset", [0, 77])
@pytest.mark.parametrize("dense", [0, 30])
def test_every_pair_is_met_once_with_the_features_it_shares(causal, offset, dense):
    sizes = (100, 48, 12, 12, 4)
    ranks = (1, 2, 3, 4, 5)
    plan = make_band_plan(geometry(90, 90, Levels(ranks, sizes, (offset,)), causal=causal), dense)
    widths = torch.zeros(
        90, 90, dtype=torch.long
    )  # features counted for a pair; 0 for a pair not met
    everything = [(inside.run, 0) for inside in plan.dense]
    everything += [
        (run, band.width) for band in (plan.base, *plan.bands) if band for run in band.runs
    ]
    for run, width in everything:
        for number in range(run.count):
            row = run.query + number * run.step
            column = run.key + number * run.step
            rows = torch.arange(row, row + run.n_queries)
            columns = torch.arange(column, column + run.n_keys)
            assert (widths[rows[:, None], columns] == 0).all()
            widths[rows[:, None], columns] = (
                width or -1
            )  # -1: block products, whose features are tested by numbers
    met = widths.tolist()
    for i, j in itertools.product(range(90), repeat=2):
        shared = [
            level == 0 or (i + offset) // size == (j + offset) // size
            for level, size in enumerate(sizes)
        ]
        right = sum(itertools.compress(ranks, shared))
        assert met[i][j] in {right, -1} or (causal and j > i and met[i][j] in {0, 15})
        assert met[i][j] or (causal and j > i)


def test_equal_stretches_are_one_call():
    plan = make_band_plan(
        geometry(4096, 4096, Levels((32, 16, 8, 8), (4096, 2048, 1024, 512), scales=(0.125,) * 4)),
        128,
    )
    assert plan.base is not None
    assert plan.base.runs == (StretchRun(0, 512, 0, 512, 512, 8),)
    assert [band.width for band in plan.bands] == [56, 48, 32]
    assert plan.bands[0].runs == (
        StretchRun(0, 512, 512, 512, 1024, 4),
        StretchRun(512, 512, 0, 512, 1024, 4),
    )
    assert not plan.dense
    assert plan.relative is None
    assert {band.scale for band in (plan.base, *plan.bands)} == {0.125}


def test_the_mean_over_levels_is_in_the_scale_of_a_band():
    levels = Levels((32, 16, 8, 8), (4096, 4096, 1024, 512), mean=True)
    plan = make_band_plan(geometry(4096, 4096, levels), 128)
    assert plan.base is not None
    assert [band.scale for band in (plan.base, *plan.bands)] == [1 / 4, 1 / 3, 1 / 2]


def test_heads_at_regular_distances_go_together():
    def groups(*offsets):
        call = geometry(64, 64, Levels((1, 1), (64, 32), offsets))
        split = [(list(range(8))[heads], part.levels.offsets) for heads, part in split_heads(call)]
        assert all(len(own) == 1 for _, own in split)
        return [(heads, own[0]) for heads, own in split]

    assert groups(0, 5, 0, 5, 0, 5, 0, 5) == [([0, 2, 4, 6], 0), ([1, 3, 5, 7], 5)]
    assert groups(1, 1, 2, 2) == [([0, 1], 1), ([2, 3], 2)]
    assert groups(1, 2, 1, 1) == [([0], 1), ([2], 1), ([3], 1), ([1], 2)]
    assert split_heads(geometry(64, 64, Levels((1, 1), (64, 32), (3,))))[0][0] == slice(None)


def test_one_level_is_one_call():
    plan = make_band_plan(geometry(4096, 4096, Levels((64,), (4096,)), causal=True), 128)
    assert (plan.bands, plan.dense) == ((), ())
    assert plan.base is not None
    assert plan.base.runs == (StretchRun(0, 4096, 0, 4096),)
    assert plan.base.causal


# --- what the formulas promise


def test_fine_features_of_a_far_key_change_nothing(dense_block):
    q, k, v, _ = draw_square(1, 2, 300, 8)
    options = {"ranks": (4, 2, 2), "block_sizes": (300, 150, 75)}
    before = by_bands(q, k, v, **options)
    moved = k.detach().clone()
    moved[:, :, 299, 4:] += 3.0
    after = by_bands(q, moved, v, **options)
    assert torch.equal(after[:, :, :150], before[:, :, :150])
    assert not torch.allclose(after[:, :, 150:225], before[:, :, 150:225])


def test_the_future_changes_nothing(dense_block):
    tensors = [x.detach() for x in draw_square(2, 2, 300, 8)[:3]]
    options = {"ranks": (4, 2, 2), "causal": True, "offset": 7}
    before = by_bands(*tensors, **options)
    for x in tensors:
        x[:, :, 200:] += 5.0
    after = by_bands(*tensors, **options)
    assert torch.equal(before[:, :, :200], after[:, :, :200])
    assert not torch.allclose(before[:, :, 200:], after[:, :, 200:])


def test_inputs_stay_as_they_are(dense_block, kernel):
    tensors = draw_square(1, 2, 150, 6)
    copies = [x.detach().clone() for x in tensors]
    for options in ({"ranks": (6,)}, CALENDAR, HALVING):
        answers(by_bands, *tensors, **options)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def test_autocast_narrows_nothing():
    q, k, v, g = draw_square(2, 2, 300, 8, dtype=torch.float32)
    expected = answers(by_bands, q, k, v, g, ranks=(4, 2, 1, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = by_bands(q, k, v, ranks=(4, 2, 1, 1))
        gradients = torch.autograd.grad(out, (q, k, v), g)
    assert all(torch.equal(a, b) for a, b in zip((out, *gradients), expected, strict=True))


def test_second_derivatives_are_refused():
    q, k, v, g = draw_square(1, 1, 200, 4)
    (first,) = torch.autograd.grad(by_bands(q, k, v, ranks=(2, 2)), q, g, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first derivatives only; .* backend='reference'"):
        torch.autograd.grad(first.sum() + q.sum(), q)


def test_no_sequence_at_all_gives_nothing():
    q, k, v, g = draw_square(0, 2, 9, 4, 3)
    out, *gradients = answers(by_bands, q, k, v, g, ranks=(2, 2))
    assert out.shape == (0, 2, 9, 3)
    assert [x.shape for x in gradients] == [x.shape for x in (q, k, v)]
    assert by_bands(q.half(), k.half(), v.half(), ranks=(2, 2)).dtype == torch.float16


_COMPILED = """
import torch
from tsattn.kernels import Levels, Pattern, attend

two, near = Levels((4, 4), (300, 150), (0, 7)), Pattern(causal=True, window=20)
q, k, v = (torch.randn(1, 2, 300, 8, generator=torch.Generator().manual_seed(i)).requires_grad_() for i in range(3))
for options in ({"levels": two, "pattern": Pattern(causal=True), "backend": "bands"},
                {"pattern": near, "backend": "windowed"}):
    function = lambda q, k, v: attend(2 * q, k, v, **options) + 1
    results = [(out, *torch.autograd.grad(out.sum(), (q, k, v)))
               for out in (function(q, k, v), torch.compile(function, backend="eager")(q, k, v))]
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)
    assert torch._dynamo.utils.counters.pop("graph_break"), "nothing was compiled"
function = lambda q, k, v: attend(2 * q, k, v, levels=two, pattern=near)
torch.testing.assert_close(function(q, k, v), torch.compile(function, backend="eager", fullgraph=True)(q, k, v))
"""


def test_a_compiler_goes_around_the_long_backends_and_through_the_reference():
    done = subprocess.run(
        [sys.executable, "-c", _COMPILED], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


# --- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"block_sizes": (64, 30, 7)},
            r"nested blocks; got block sizes 30 and 7, .* use the reference, expanded or masked",
        ),
        ({"window": 5, "n_global": 2}, r"serve no pattern but causal; got window = 5; use"),
    ],
)
def test_refusals_name_the_way_out(options, message):
    q, k, v, _ = draw_square(1, 2, 64, 6)
    with pytest.raises(ValueError, match=message) as error:
        by_bands(q, k, v, **({"ranks": (2, 2, 2)} | options))
    assert "\n" not in str(error.value)


def test_unequal_lengths_are_refused():
    q, k, v, _ = draw_square(1, 2, 64, 6)
    with pytest.raises(
        ValueError, match=r"as many queries as keys; got 10 and 64; use the reference"
    ):
        by_bands(q[:, :, :10], k, v, ranks=(2, 2, 2))


def test_bands_of_heads_with_offsets_of_their_own():
    q, k, v, g = draw_square(1, 2, 64, 4)
    good = {"ranks": (2, 2), "block_sizes": (64, 16), "offset": (0, 3)}
    expected = answers(by_reference, q, k, v, g, **good)
    assert all(map(torch.allclose, answers(by_bands, q, k, v, g, **good), expected))
    # Blocks that need no nesting for one head may need it for another.
    crossing = {"ranks": (1, 1, 2), "block_sizes": (100, 100, 64), "offset": (0, 40)}
    for bad in ({**good, "window": 3}, crossing):
        with pytest.raises(
            ValueError,
            match=r"bands (serve no pattern but causal|need nested blocks); got .*; use the",
        ):
            by_bands(q, k, v, **bad)


def test_what_can_be_computed_is_not_refused(assert_close):
    # Sizes of levels that every pair shares have no part in the nesting, and equal offsets are one.
    assert bands_refusal(geometry(20, 20, Levels((1, 1, 1), (33, 25, 7)))) is None
    options = {"ranks": (1, 1, 1), "block_sizes": (33, 25, 7), "offset": (4, 4)}
    check(assert_close, draw_square(1, 2, 20, 3), ["bands"], **options)


# --- other devices


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("n_values", [32, 64])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_gpu_gives_the_same(dtype, n_values, causal, masked):
    """Float32 may be multiplied in a narrower format there, so it is held to the rule of half
    precision.
    """
    tensors = draw_square(2, 2, 700, 32, n_values, dtype=dtype)
    options = {"ranks": (16, 8, 4, 4), "causal": causal, "offset": 3}
    mask = draw_mask(2, 700) if masked else None
    expected = answers(
        by_reference,
        *(x.detach().double().requires_grad_() for x in tensors),
        key_mask=mask,
        **options,
    )
    there = [x.detach().cuda().requires_grad_(x.requires_grad) for x in tensors]
    ours = answers(by_bands, *there, key_mask=None if mask is None else mask.cuda(), **options)
    for actual, right in zip(ours, expected, strict=True):
        assert (actual.double().cpu() - right).norm() <= (
            1e-10 if dtype == DOUBLE else 5e-3
        ) * right.norm()
