"""Levels whose parts are given by groups: against loops with gradients, as special cases, and
refused in words.
"""

import pytest
import torch
from calls import DOUBLE, answers, check, draw, lift_hook, without_hook
from conftest import assert_close as compare
from hypothesis import given, settings
from hypothesis import strategies as st

from tsattn.kernels import Levels, attention, attention_weights, geometry
from tsattn.nn.attention import Attention
from tsattn.nn.blocks import TransformerBlock
from tsattn.nn.layers import FeedForward
from tsattn.nn.scores import DotScore, GroupLevelScore, RotaryEmbedding

BACKENDS = ("reference", "masked", "auto")


def season(length, count):
    """Same phase and same cycle of a season of ``count`` tokens."""
    index = torch.arange(length)
    return index % count, index // count


@pytest.mark.parametrize(("length", "n_queries"), [(1, 1), (13, 13), (40, 40), (40, 7)])
@pytest.mark.parametrize(
    "options", [{}, {"causal": True}, {"mean_levels": True}, {"level_scales": (1.0, 0.5, 2.0)}]
)
def test_a_season_matches_the_loops(length, n_queries, options, assert_close):
    tensors = draw(2, 2, n_queries, length, 6)
    groups = season(length, 5)
    check(assert_close, tensors, BACKENDS, ranks=(2, 2, 2), groups=groups, **options)


def test_each_sequence_and_head_may_have_its_own_parts(assert_close):
    batch = 3
    heads = 2
    length = 11
    generator = torch.Generator().manual_seed(1)
    by_sequence = torch.randint(-1, 3, (batch, length), generator=generator)
    by_head = torch.randint(-1, 3, (batch, heads, length), generator=generator)
    mask = torch.rand(batch, length, generator=generator) > 0.3
    options = {
        "ranks": (2, 3, 1),
        "groups": (by_sequence, by_head),
        "key_mask": mask,
        "mean_levels": True,
    }
    check(assert_close, draw(batch, heads, length, length, 6), BACKENDS, **options)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_parts_match_the_loops(data):
    draws = {
        name: data.draw(st.integers(low, high), name)
        for name, low, high in (("B", 1, 3), ("H", 1, 2), ("L", 1, 9))
    }
    batch, heads, length = draws.values()
    n_queries = data.draw(st.integers(1, length), "Lq")
    ranks = tuple(data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4), "ranks"))
    shapes = [(length,), (batch, length), (batch, heads, length)]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99), "seed"))
    groups = tuple(
        torch.randint(-1, 4, data.draw(st.sampled_from(shapes), "shape"), generator=generator)
        for _ in ranks[1:]
    )
    check(
        compare,
        draw(batch, heads, n_queries, length, sum(ranks)),
        BACKENDS,
        ranks=ranks,
        groups=groups,
    )


@pytest.mark.parametrize(("length", "n_queries"), [(12, 12), (12, 7), (12, 2)])
@pytest.mark.parametrize("mean", [False, True])
def test_parts_may_begin_late(length, n_queries, mean, assert_close):
    index = torch.arange(length)
    late = torch.where(index < 8, -1, index // 3)
    by_sequence = torch.stack([late, torch.where(index < 6, -1, index % 2)])
    tensors = draw(2, 2, n_queries, length, 6)
    check(
        assert_close,
        tensors,
        BACKENDS,
        ranks=(2, 3, 1),
        groups=(late, by_sequence),
        mean_levels=mean,
    )


@pytest.mark.parametrize("pairs", [1, 8, 64])
def test_slices_change_nothing(pairs, monkeypatch, assert_close):
    q, k, v, g = draw(3, 2, 8, 8, 4)
    groups = (torch.arange(24).view(3, 8) % 3, torch.arange(8) // 2)
    whole = answers(attention, q, k, v, g, ranks=(2, 1, 1), groups=groups)
    monkeypatch.setattr("tsattn.kernels.dense.SLICE_BYTES", (8 * pairs, 8 * pairs))
    for actual, right in zip(
        answers(attention, q, k, v, g, ranks=(2, 1, 1), groups=groups), whole, strict=True
    ):
        assert_close(actual, right)


def test_contiguous_groups_are_blocks(assert_close):
    q, k, v, g = draw(2, 2, 12, 12, 6)
    index = torch.arange(12)
    by_groups = answers(attention, q, k, v, g, ranks=(2, 2, 2), groups=(index // 6, index // 3))
    by_blocks = answers(attention, q, k, v, g, ranks=(2, 2, 2), block_sizes=(12, 6, 3))
    for actual, right in zip(by_groups, by_blocks, strict=True):
        assert_close(actual, right)


def test_no_part_at_all_leaves_the_first_level(assert_close):
    q, k, v, _ = draw(2, 2, 9, 9, 6)
    alone = attention(q[..., :2], k[..., :2], v, scale=6**-0.5)
    nowhere = torch.full((9,), -1)
    assert_close(attention(q, k, v, ranks=(2, 2, 2), groups=(nowhere, nowhere)), alone)


def test_weights_know_groups(assert_close):
    q, k, v, _ = draw(2, 2, 5, 9, 4)
    groups = (torch.arange(18).view(2, 9) % 4,)
    weights = attention_weights(q, k, ranks=(2, 2), groups=groups)
    assert_close(weights @ v, attention(q, k, v, ranks=(2, 2), groups=groups))


def test_a_far_phase_is_not_seen_by_its_features():
    """Features of the phase level of a key in another phase change nothing."""
    q, k, v, _ = draw(1, 1, 8, 8, 4)
    groups = (torch.arange(8) % 4,)
    before = attention(q, k, v, ranks=(2, 2), groups=groups)
    changed = k.detach().clone()
    changed[:, :, 3, 2:] += 100
    after = attention(q, changed, v, ranks=(2, 2), groups=groups)
    same = (before - after).abs().amax((0, 1, 3)) == 0
    assert same.tolist() == [i % 4 != 3 for i in range(8)]


@pytest.mark.parametrize("backend", ["expanded", "bands", "windowed"])
def test_backends_for_contiguous_blocks_refuse(backend):
    q, k, v, _ = draw(1, 1, 8, 8, 4)
    with pytest.raises(ValueError, match="groups; use the reference or masked backend"):
        attention(q, k, v, ranks=(2, 2), groups=(torch.arange(8) % 4,), backend=backend)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ()}, r"one tensor for each level after the first; got 0 for ranks \(2, 2\)"),
        ({"groups": (torch.arange(8),), "ranks": None}, "got 1 for ranks None"),
        (
            {"groups": (torch.arange(8),), "block_sizes": (8, 4)},
            r"take the place of blocks; got block_sizes = \(8, 4\)",
        ),
        ({"groups": (torch.arange(8),), "offset": 1}, "offset = 1 beside them"),
        ({"groups": (torch.arange(7),)}, r"must have the shape .* got \(7,\)"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options, message, monkeypatch):
    lift_hook(monkeypatch)
    q, k, v, _ = draw(1, 1, 8, 8, 4)
    with pytest.raises(ValueError, match=message):
        without_hook(attention)(q, k, v, **{"ranks": (2, 2), **options})


def test_fractions_are_no_parts(monkeypatch):
    lift_hook(monkeypatch)
    q, k, v, _ = draw(1, 1, 8, 8, 4)
    with pytest.raises(
        ValueError, match=r"must hold integers; got torch.float32; convert them with .long\(\)"
    ):
        without_hook(attention)(q, k, v, ranks=(2, 2), groups=(torch.arange(8.0),))


def test_more_queries_than_keys_are_refused():
    q, k, v, _ = draw(1, 1, 9, 8, 4)
    with pytest.raises(ValueError, match="no more queries than keys; got 9 and 8"):
        attention(q, k, v, ranks=(2, 2), groups=(torch.arange(8),))


# --- in layers


def layer(ranks=(4, 2, 2), *, rotary_base=100.0, n_heads=2):
    generator = torch.Generator().manual_seed(0)
    width = n_heads * sum(ranks)
    score = GroupLevelScore(
        width, n_heads, ranks=ranks, rotary_base=rotary_base, norm=True, generator=generator
    )
    attention_layer = Attention(width, score=score, generator=generator)
    block = TransformerBlock(
        attention_layer, FeedForward(width, 2 * width, generator=generator), d_model=width
    )
    return block.double()


def test_a_layer_is_the_kernel_on_turned_features(assert_close):
    block = layer()
    x = torch.randn(2, 10, 16, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    phase, cycle = season(10, 3)
    places = block.attention.score.place(
        (phase, cycle), (torch.arange(10.0), cycle.double(), torch.arange(10.0))
    )
    q, k = block.attention.score.features_at(x, places)
    plain = block.attention.score.project(x).view(2, 10, 2, 2, 8).permute(2, 0, 3, 1, 4)
    for actual, before, norm in zip(
        (q, k),
        plain,
        (block.attention.score.norm_query, block.attention.score.norm_key),
        strict=True,
    ):
        normed = norm(before)
        for level, (start, rank) in enumerate(((0, 4), (4, 2), (6, 2))):
            turn = RotaryEmbedding((rank,), base=100.0).double()
            for i in range(10):
                own = normed[:, :, i : i + 1, start : start + rank]
                at = int(cycle[i]) if level == 1 else i
                assert_close(actual[:, :, i : i + 1, start : start + rank], turn(own, start=at))
    v = block.attention.value(x).view(2, 10, 2, 8).transpose(1, 2)
    seen = attention(q, k, v, ranks=(4, 2, 2), groups=(phase, cycle), backend="reference")
    assert_close(
        block.attention(x, places=places), block.attention.out(seen.transpose(1, 2).flatten(2))
    )


def test_the_last_tokens_alone_are_those_of_all(assert_close):
    block = layer()
    x = torch.randn(2, 10, 16, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    phase = torch.stack([torch.arange(10) % 3, torch.arange(10) % 4])
    time = torch.arange(10.0)
    places = block.attention.score.place(
        (phase, torch.arange(10) // 4), (time, phase.double(), time)
    )
    mask = torch.arange(10)[None] >= torch.tensor([[0], [4]])
    whole = block(x, key_mask=mask, places=places)
    assert_close(block(x, key_mask=mask, places=places, n_last=3), whole[:, -3:])


def test_one_rank_is_ordinary_attention(assert_close):
    block = layer((8,), rotary_base=10_000.0)
    ordinary = Attention(16, score=DotScore(16, 2, norm=True, rotary=True)).double()
    ordinary.load_state_dict(block.attention.state_dict())
    x = torch.randn(2, 10, 16, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    places = block.attention.score.place((), (torch.arange(10.0),))
    assert_close(block.attention(x, places=places), ordinary(x))


def test_places_that_do_not_fit_are_refused():
    score = layer().attention.score
    with pytest.raises(ValueError, match=r"one group each; got 1 for ranks \(4, 2, 2\)"):
        score.place((torch.arange(4),))
    with pytest.raises(ValueError, match="needs one tensor of positions a level"):
        score.place((torch.arange(4), torch.arange(4)))
    with pytest.raises(ValueError, match="call the layer with places="):
        layer()(torch.zeros(1, 4, 16, dtype=DOUBLE))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (torch.arange(8), r"groups must be a tuple .*; got Tensor; write \(groups,\) for one"),
        ((torch.arange(8).numpy(),), "groups must hold tensors; got ndarray; convert it with"),
    ],
)
def test_groups_that_are_no_tensors_in_a_tuple_are_refused(groups, message):
    x = torch.zeros(1, 2, 8, 4)
    with pytest.raises(TypeError, match=message):
        without_hook(geometry._check_groups)(groups, x, x, Levels((2, 2)))
