"""Every score with every pattern against its formula, gradients included, and what has
no meaning.
"""

import ast
import math

import numpy as np
import pytest
import torch
from chance import seeded
from fresh import in_fresh_process
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_oracles import dot_features, layer_output, level_score, rows_of_weights

from tsattn.kernels import Levels, Pattern, attend
from tsattn.matrices import make_matrix
from tsattn.nn.attention import Attention, GlobalLocalAttention
from tsattn.nn.patching import RevIN
from tsattn.nn.scores import (
    BilinearScore,
    DotScore,
    GroupLevelScore,
    LevelScore,
    Places,
    RotaryEmbedding,
    default_ranks,
)

PATTERNS = [
    Pattern(),
    Pattern(causal=True),
    Pattern(window=3),
    Pattern(causal=True, window=2, n_global=1),
]
WIDTH = 8
HEADS = 2
LENGTH = 7


def tokens(seed=0, length=LENGTH, batch=2):
    return torch.randn(batch, length, WIDTH, generator=seeded(seed), dtype=torch.float64)


def as_dict(pattern):
    return {"causal": pattern.causal, "window": pattern.window, "n_global": pattern.n_global}


def perturbed(layer):
    """No parameter at a value that hides a mistake, such as a bias of 0 or a factor of 1."""
    generator = seeded(9)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=parameter.dtype
            )
    return layer


def check(layer, x, weights_of, *, n_value_heads=HEADS, context=None, rows=1.0):
    """Result, weights and all gradients against the loops; ``weights_of(x_b, context_b, head)`` is
    the oracle.
    """
    layer = perturbed(layer.double())
    x = x.clone().requires_grad_()
    y = context if context is None else context.clone().requires_grad_()
    grad = torch.randn(x.shape, generator=seeded(5), dtype=torch.float64)
    inputs = [x, *([] if y is None else [y]), *layer.parameters()]
    out = layer(x) if y is None else layer(x, y)
    maps = layer.weights(x) if y is None else layer.weights(x, y)
    truth = []
    for b in range(len(x)):
        seen = x[b] if y is None else y[b]
        result, weights = layer_output(
            layer, seen, lambda h, b=b, s=seen: weights_of(x[b], s, h), HEADS, n_value_heads
        )
        truth.append(result)
        stacked = torch.stack([torch.stack([torch.stack(row) for row in head]) for head in weights])
        torch.testing.assert_close(maps[b], stacked, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(maps.sum(-1), torch.full_like(maps.sum(-1), rows))
    truth = torch.stack(truth)
    torch.testing.assert_close(out, truth, rtol=1e-10, atol=1e-12)
    gradients = torch.autograd.grad(out, inputs, grad)
    expected = torch.autograd.grad(truth, inputs, grad)
    for a, b in zip(gradients, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("norm", "rotary", "n_key_heads"), [(False, False, None), (True, False, 1), (False, True, 1)]
)
def test_dot_score(pattern, norm, rotary, n_key_heads):
    score = DotScore(
        WIDTH, HEADS, norm=norm, rotary=rotary, n_key_heads=n_key_heads, generator=seeded(1)
    )
    layer = Attention(
        WIDTH, score=score, pattern=pattern, n_value_heads=n_key_heads, generator=seeded(2)
    )
    groups = n_key_heads or HEADS
    ranks = (4,) if rotary else None

    def weights_of(x, _, h):
        q = dot_features(score, x, 8, HEADS, first=0, norm=score.norm_query, ranks=ranks)
        k = dot_features(score, x, 4 * groups, groups, first=8, norm=score.norm_key, ranks=ranks)
        group = h // (HEADS // groups)
        return rows_of_weights(
            lambda i, j: (q[i][h] * k[j][group]).sum() / 2, len(x), len(x), as_dict(pattern)
        )

    check(layer, tokens(), weights_of, n_value_heads=groups)


@pytest.mark.parametrize("scaling", ["default", "paper"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("ranks", "sizes", "offset", "learn", "rotary"),
    [
        ((2, 1, 1), (8, 4, 2), 0, False, False),
        ((2, 2), (7, 3), 2, True, True),
        ((1, 3), (7, 4), (0, 1), True, False),
    ],
)
def test_level_score(scaling, pattern, ranks, sizes, offset, learn, rotary):
    score = LevelScore(
        WIDTH,
        HEADS,
        length=LENGTH,
        levels=Levels(ranks, sizes, offset),
        scaling=scaling,
        learn_scales=learn,
        rotary=rotary,
        generator=seeded(1),
    )
    layer = Attention(WIDTH, score=score, pattern=pattern, generator=seeded(2))
    paper = scaling == "paper"

    def weights_of(x, _, h):
        turn = ranks if rotary else None
        q = dot_features(score, x, 8, HEADS, first=0, norm=score.norm_query, ranks=turn)
        k = dot_features(score, x, 8, HEADS, first=8, norm=score.norm_key, ranks=turn)
        factors = [1 / rank if paper else 1.0 for rank in ranks]
        if learn:
            factors = [factor * score.scales[h, level] for level, factor in enumerate(factors)]
        levels = {
            "ranks": ranks,
            "block_sizes": sizes,
            "offset": offset[h] if isinstance(offset, tuple) else offset,
            "scale": 1.0 if paper else 0.5,
            "level_scales": factors,
            "mean_levels": paper,
        }
        return rows_of_weights(
            lambda i, j: level_score(q[i][h], k[j][h], i, j, **levels),
            len(x),
            len(x),
            as_dict(pattern),
        )

    check(layer, tokens(), weights_of)


STRUCTURES = {
    "dense": {},
    "low_rank": {"rank": 2},
    "mlr": {"ranks": (2, 1)},
    "kronecker": {},
    "monarch": {},
    "btt": {"tt_rank": 2},
    "butterfly": {},
    "mlbtc": {},
}
SIDES = [(name, side) for name in STRUCTURES for side in ("key", "query", "split")]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("name", "side"), [x for x in SIDES if x[1] != "split" or x[0] in ("mlr", "low_rank")]
)
def test_bilinear_score(name, side, norm):
    pattern = Pattern(causal=True) if norm else Pattern()
    matrix = make_matrix(name, WIDTH, WIDTH, heads=HEADS, generator=seeded(1), **STRUCTURES[name])
    score = BilinearScore(matrix, side=side, norm=norm)
    layer = Attention(WIDTH, score=score, pattern=pattern, generator=seeded(2))

    def weights_of(x, y, h):
        dense = matrix.to_dense()[h]
        if side == "key":
            keys = [dense @ token for token in y]
            keys = [_norm(token, score.norm_key) for token in keys] if norm else keys
            score_of = lambda i, j: (x[i] * keys[j]).sum() / WIDTH**0.5  # noqa: E731
        elif side == "query":
            queries = [dense.T @ token for token in x]
            queries = [_norm(token, score.norm_query) for token in queries] if norm else queries
            score_of = lambda i, j: (queries[i] * y[j]).sum() / WIDTH**0.5  # noqa: E731
        elif norm:
            q = [_norm(matrix.query_features(token[None])[h], score.norm_query) for token in x]
            k = [_norm(matrix.key_features(token[None])[h], score.norm_key) for token in y]
            score_of = lambda i, j: (q[i] * k[j]).sum() / len(q[i]) ** 0.5  # noqa: E731
        else:
            score_of = lambda i, j: x[i] @ dense @ y[j] / WIDTH**0.5  # noqa: E731
        return rows_of_weights(score_of, len(x), len(y), as_dict(pattern))

    check(layer, tokens(), weights_of)
    if not norm:
        check(layer, tokens(), weights_of, context=tokens(3, length=5))


def _norm(vector, norm):
    mean = vector.sum() / len(vector)
    variance = ((vector - mean) ** 2).sum() / len(vector)
    return (vector - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


@pytest.mark.parametrize(
    ("name", "side"), [x for x in SIDES if x[1] != "split" and x[0] not in ("mlr", "low_rank")]
)
def test_many_tokens_meet_the_entries_and_few_the_cores(monkeypatch, name, side):
    score = BilinearScore(
        make_matrix(name, WIDTH, WIDTH, heads=HEADS, generator=seeded()), side=side, norm=True
    )
    x = tokens(batch=5).requires_grad_()  # 35 tokens, more than 4 a column
    perturbed(score.double())
    inputs = [x, *score.parameters()]
    actual = []
    seen = []
    product = "rmatmul" if side == "query" else "forward"
    plain = getattr(score.matrix, product)
    monkeypatch.setattr(
        score.matrix, product, lambda rows: (seen.append(rows.shape), plain(rows))[1]
    )
    for width in (WIDTH, WIDTH - 1):
        monkeypatch.setattr("tsattn.nn.scores.DENSE_WIDTH", width)
        q, k = score.features(x)
        actual.append([q, k, *torch.autograd.grad((q[:, :, :1] * k).sin().sum(), inputs)])
    monkeypatch.setattr("tsattn.nn.scores.DENSE_WIDTH", WIDTH)
    score.features(tokens(batch=4))  # 28 tokens
    assert seen == [(WIDTH, 1, WIDTH), (5, LENGTH, 1, WIDTH), (4, LENGTH, 1, WIDTH)]
    for fast, slow in zip(*actual, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("causal", "groups", "cut"), [(False, None, 2), (True, 1, 1)])
def test_global_local_sums_two_softmaxes(causal, groups, cut):
    layer = GlobalLocalAttention(
        WIDTH, HEADS, window=2, causal=causal, n_key_heads=groups, generator=seeded(1)
    )
    assert layer.d_global == 2
    layer.d_global = cut  # halves need not be equal: heads of an odd width have others
    n_groups = groups or HEADS

    def weights_of(x, _, h):
        q = dot_features(layer.score, x, 8, HEADS, first=0)
        k = dot_features(layer.score, x, 4 * n_groups, n_groups, first=8)
        group = h // (HEADS // n_groups)
        far = rows_of_weights(
            lambda i, j: (q[i][h][:cut] * k[j][group][:cut]).sum() / cut**0.5,
            len(x),
            len(x),
            {"causal": causal},
        )
        near = rows_of_weights(
            lambda i, j: (q[i][h][cut:] * k[j][group][cut:]).sum() / (4 - cut) ** 0.5,
            len(x),
            len(x),
            {"causal": causal, "window": 2},
        )
        return [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(far, near, strict=True)]

    check(layer, tokens(), weights_of, n_value_heads=n_groups, rows=2.0)


def test_dot_score_across_sequences_and_a_key_mask():
    score = DotScore(WIDTH, HEADS, n_key_heads=1, generator=seeded(1))
    layer = Attention(WIDTH, score=score, generator=seeded(2))

    def weights_of(x, y, h):
        q = dot_features(score, x, 8, HEADS, first=0)
        k = dot_features(score, y, 4, 1, first=8)
        return rows_of_weights(lambda i, j: (q[i][h] * k[j][0]).sum() / 2, len(x), len(y), {})

    check(layer, tokens(), weights_of, context=tokens(3, length=5))
    x = tokens()
    context = tokens(3, length=5)
    seen = torch.tensor([[True] * 3 + [False] * 2] * 2)
    torch.testing.assert_close(layer(x, context, key_mask=seen), layer(x, context[:, :3]))


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_drawn_levels_and_patterns(data):
    length = data.draw(st.integers(1, 9))
    n_levels = data.draw(st.integers(1, 3))
    ranks = tuple(data.draw(st.lists(st.integers(1, 3), min_size=n_levels, max_size=n_levels)))
    sizes = tuple(
        sorted(
            data.draw(st.lists(st.integers(1, 9), min_size=n_levels, max_size=n_levels)),
            reverse=True,
        )
    )
    sizes = (max(length, sizes[0]), *sizes[1:])
    window = data.draw(st.none() | st.integers(1, 10))
    pattern = Pattern(
        data.draw(st.booleans()), window, 0 if window is None else data.draw(st.integers(0, 3))
    )
    offset = data.draw(st.integers(0, 11))
    score = LevelScore(
        WIDTH,
        HEADS,
        d_head=sum(ranks),
        length=length,
        levels=Levels(ranks, sizes, offset),
        generator=seeded(1),
    )
    layer = Attention(WIDTH, score=score, pattern=pattern, generator=seeded(2))
    width = sum(ranks)

    def weights_of(x, _, h):
        q = dot_features(score, x, HEADS * width, HEADS, first=0)
        k = dot_features(score, x, HEADS * width, HEADS, first=HEADS * width)
        levels = {
            "ranks": ranks,
            "block_sizes": sizes,
            "offset": offset,
            "scale": width**-0.5,
            "level_scales": [1.0] * n_levels,
            "mean_levels": False,
        }
        return rows_of_weights(
            lambda i, j: level_score(q[i][h], k[j][h], i, j, **levels),
            len(x),
            len(x),
            as_dict(pattern),
        )

    check(layer, tokens(length=length, batch=1), weights_of)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_network_keeps_the_digits_of_the_rotary_rates(dtype):
    rotary = RotaryEmbedding((64,))
    x = torch.randn(1, 1, 4, 64, generator=seeded())
    truth = rotary(x, start=5000)
    rates = rotary.rates
    narrow = rotary.to(dtype)
    # An angle of thousands with the digits of a half is off by whole turns.
    torch.testing.assert_close(narrow(x.to(dtype), start=5000).float(), truth, rtol=0, atol=0.05)
    assert torch.equal(narrow.float().rates, rates)
    assert narrow.to("meta").rates.device.type == "meta"


def test_rotary_scores_depend_on_distance_alone_and_levels_stay_apart():
    rotary = RotaryEmbedding((4, 2)).double()
    q = tokens(length=1)[:1, None, :, :6]
    k = tokens(1, length=1)[:1, None, :, :6]
    first = (rotary(q, start=3) * rotary(k, start=1))[..., :4].sum()
    second = (rotary(q, start=1003) * rotary(k, start=1001))[..., :4].sum()
    torch.testing.assert_close(first, second)
    changed = q.clone()
    changed[..., 4:] += 1
    torch.testing.assert_close(
        rotary(changed, start=5)[..., :4], rotary(q, start=5)[..., :4], rtol=0, atol=0
    )


def test_a_side_decides_what_a_cache_holds():
    def cached(name, side, **options):
        matrix = make_matrix(name, 16, 16, heads=4, generator=seeded(), **options)
        layer = Attention(
            16,
            score=BilinearScore(matrix, side=side),
            pattern=Pattern(causal=True),
            generator=seeded(),
        )
        return layer.make_cache(1, 10).key_bytes // (4 * 10)

    assert cached("btt", "key") == 4 * 16
    assert cached("btt", "query") == 16
    assert cached("mlr", "split", ranks=(2, 1)) == 4 * (2 + 2 * 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RotaryEmbedding((2, 3)), r"every rank must be even; got 3 in \(2, 3\)"),
        (lambda: DotScore(8, 2, n_key_heads=3), "must divide n_heads; got 3 for n_heads = 2"),
        (lambda: DotScore(8, 2, d_head=-1), "d_head must be a whole number of at least 1; got -1"),
        (lambda: DotScore(8, 2, scale=math.nan), "scale must be a finite number; got nan"),
        (
            lambda: LevelScore(
                8, 2, length=4, levels=Levels((2, 2), scales=(3.0, 4.0)), scaling="paper"
            ),
            r"takes no other factors; got scales \(3.0, 4.0\); leave them out, or the scaling",
        ),
        (
            lambda: LevelScore(8, 2, length=4, scaling="mup"),
            "scaling must be one of default, paper; got 'mup'",
        ),
        (
            lambda: BilinearScore(make_matrix("btt", 16, 16)),
            "one square matrix a head; got 16 x 16 with heads = None",
        ),
        (
            lambda: BilinearScore(make_matrix("dense", 8, 16, heads=2)),
            "one square matrix a head; got 16 x 8",
        ),
        (
            lambda: BilinearScore(make_matrix("btt", 16, 16, heads=2), side="split"),
            "needs levels without shuffle; BTT",
        ),
        (
            lambda: BilinearScore(make_matrix("btt", 16, 16, heads=2), side="left"),
            "side must be one of None, key, query, split",
        ),
        (lambda: Pattern(window=0), "window must be at least 1, the token itself; got 0"),
        (lambda: Pattern(n_global=2), "n_global = 2 has no effect without a window"),
        (
            lambda: GlobalLocalAttention(4, 4, window=2),
            "both halves of a head need features; got 1 a head; widen",
        ),
        (lambda: RotaryEmbedding(()), "ranks must hold at least one number"),
        (lambda: RotaryEmbedding((0,)), "ranks must hold at least one number, each at least 1"),
        (lambda: RotaryEmbedding((4,), base=0.0), "must be a positive number; got 0.0; leave it"),
        (lambda: default_ranks(0), "d_head must be a whole number of at least 1; got 0"),
        (lambda: default_ranks(8, 0), "n_levels must be a whole number of at least 1; got 0"),
        (
            lambda: Attention(0, score=DotScore(8, 2)),
            "d_model must be a whole number of at least 1; got 0",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (
            Attention(8, score=LevelScore(8, 2, length=7)),
            "level scores compare blocks of one sequence",
        ),
        (
            Attention(8, score=DotScore(8, 2, rotary=True)),
            "rotary embedding compares positions of one sequence",
        ),
        (
            Attention(8, score=DotScore(8, 2), pattern=Pattern(causal=True)),
            "use Pattern.. for cross-attention",
        ),
        (GlobalLocalAttention(8, 2, window=2), "has a window over one sequence"),
    ],
)
def test_cross_attention_is_refused_where_it_has_no_meaning(layer, message):
    x = tokens().float()
    with pytest.raises(ValueError, match=message):
        layer(x, x)
    with pytest.raises(ValueError, match=message):
        layer.weights(x, x)


# message -> what is refused with it
OTHER_TYPES = {
    "window must be a whole number of at least 1; got None": lambda: GlobalLocalAttention(
        8, 2, window=None
    ),
    "base of a rotary embedding must be a positive number; got '9'": lambda: RotaryEmbedding(
        (4,), base="9"
    ),
    "length must be an integer; got '7'; give": lambda: LevelScore(8, 2, length="7"),
    "d_model must be a whole number of at least 1; got '8'": lambda: DotScore("8", 2),
    "ranks must be made of integers; got '24'": lambda: RotaryEmbedding("24"),
    "ranks must be made of integers; got (2.0,)": lambda: RotaryEmbedding((2.0,)),
    "matrix of a bilinear score must be a structured one; got Linear": lambda: BilinearScore(
        torch.nn.Linear(8, 8)
    ),
    "score must be a Score; got None; write DotScore": lambda: Attention(8, score=None),
    "pattern must be a Pattern; got 'causal'; write Pattern(causal=True)": lambda: Attention(
        8, score=DotScore(8, 2), pattern="causal"
    ),
    "pattern must be a Pattern; got None": lambda: attend(
        *[torch.ones(1, 1, 2, 4)] * 3, pattern=None
    ),
    "norm must be True or False; got 'no'": lambda: DotScore(8, 2, norm="no"),
    "rotary must be True or False; got 'no'": lambda: DotScore(8, 2, rotary="no"),
    "learn_scales must be True or False; got 1": lambda: LevelScore(8, 2, length=4, learn_scales=1),
    "rotary must be True or False; got 1": lambda: LevelScore(8, 2, length=4, rotary=1),
    "norm must be True or False; got 'off'": lambda: BilinearScore(
        make_matrix("mlr", 8, 8, heads=2), norm="off"
    ),
    "norm must be True or False; got None": lambda: GroupLevelScore(8, 2, ranks=(2, 2), norm=None),
    "norm must be True or False; got 0": lambda: GlobalLocalAttention(8, 2, window=2, norm=0),
    "scale must be True or False; got 'no'": lambda: RevIN(scale="no"),
    "shift must be one of mean, last, none; got 'first'": lambda: RevIN("first"),
    "tokens must be a tensor; got ndarray; convert it with torch.as_tensor()": lambda: Attention(
        8, score=DotScore(8, 2)
    )(np.ones((1, 5, 8))),
    "tokens must be a tensor; got list; convert": lambda: Attention(8, score=DotScore(8, 2))(
        torch.ones(1, 5, 8), [[[1.0] * 8]]
    ),
    "tokens must be a tensor; got int; convert": lambda: Attention(
        8, score=GroupLevelScore(8, 2, ranks=(4,))
    )(0, places=Places((), None)),
    "tokens must be a tensor; got tuple; convert": lambda: Attention(
        8, score=DotScore(8, 2)
    ).weights((1.0,)),
    "tokens must be a tensor; got NoneType; convert": lambda: Attention(
        8, score=DotScore(8, 2), pattern=Pattern(causal=True)
    ).step(None, None),
    "(batch, tokens, features); got shape (5, 8); x.unsqueeze(0)": lambda: Attention(
        8, score=DotScore(8, 2)
    )(torch.ones(5, 8)),
    "(batch, tokens, features); got shape (3, 8); x.unsqueeze(0)": lambda: Attention(
        8, score=DotScore(8, 2)
    ).weights(torch.ones(1, 5, 8), torch.ones(3, 8)),
}


def refusals():
    messages = []
    for build in OTHER_TYPES.values():
        with pytest.raises((TypeError, ValueError)) as caught:
            build()
        messages.append(str(caught.value))
    return messages


def test_what_has_another_type_is_refused_before_torch_sees_it():
    # In a process of its own: here the checks of types would speak first.
    told = ast.literal_eval(in_fresh_process(__file__, "print(refusals())"))
    for message, beginning in zip(told, OTHER_TYPES, strict=True):
        assert beginning in message


def test_a_cache_is_for_causal_layers():
    layer = Attention(8, score=DotScore(8, 2))
    with pytest.raises(ValueError, match="a cache is for causal attention"):
        layer.make_cache(1, 4)


@pytest.mark.parametrize(
    ("d_head", "n_levels", "ranks"),
    [
        (1, 3, (1,)),
        (2, 3, (1, 1)),
        (3, 3, (1, 2)),
        (4, 3, (2, 1, 1)),
        (64, 3, (32, 16, 16)),
        (64, 1, (64,)),
        (64, 4, (32, 16, 8, 8)),
        (6, 2, (3, 3)),
    ],
)
def test_default_ranks_leave_no_level_empty(d_head, n_levels, ranks):
    assert default_ranks(d_head, n_levels) == ranks
    assert sum(ranks) == d_head
