"""Every structured matrix against its formula: products, gradients and counts, with and without
heads.
"""

import ast
import copy
import itertools
import math

import matrix_oracles as oracles
import numpy as np
import pytest
import torch
from chance import seeded
from fresh import in_fresh_process
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_rows import DOUBLE, LEVELS, ROWS, build, lists, normal, terms_of, truth
from torch.utils.flop_counter import FlopCounterMode

from tsattn.matrices import (
    BTT,
    MLBTC,
    MLR,
    STRUCTURES,
    Butterfly,
    Dense,
    Kronecker,
    Level,
    LowRank,
    Monarch,
    StructuredMatrix,
    default_factors,
    make_matrix,
)
from tsattn.matrices.levels import block_starts

every = pytest.mark.parametrize("row", ROWS)
with_heads = pytest.mark.parametrize("heads", [None, 3])


# --- the matrix, its products and its derivatives


@every
@with_heads
def test_the_dense_form_is_the_formula(row, heads, assert_close):
    matrix = build(row, heads)
    expected = (
        truth(matrix)
        if heads is None
        else torch.stack([truth(matrix, head) for head in range(heads)])
    )
    assert_close(matrix.to_dense(), expected)


@every
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_products_are_those_of_the_dense_form(row, batch, assert_close):
    matrix = build(row)
    weight = truth(matrix)
    x = normal(*batch, matrix.n_in)
    y = normal(*batch, matrix.n_out, seed=2)
    assert_close(matrix(x), x @ weight.T)
    assert_close(matrix.rmatmul(y), y @ weight)
    assert_close(matrix.bilinear(y, x), ((y @ weight) * x).sum(-1))
    assert_close(
        (matrix.query_features(y) * matrix.key_features(x)).sum(-1), ((y @ weight) * x).sum(-1)
    )


@every
@pytest.mark.parametrize(("given", "batch"), [(1, ()), (3, (2, 4))])
def test_each_head_has_its_own_matrix(row, given, batch, assert_close):
    """A head axis of one is given to all heads; nothing mixes."""
    matrix = build(row, heads=3)
    weights = torch.stack([truth(matrix, head) for head in range(3)])
    x = normal(*batch, given, matrix.n_in)
    y = normal(*batch, given, matrix.n_out, seed=2)
    whole_x = x.expand(*batch, 3, -1)
    whole_y = y.expand(*batch, 3, -1)
    assert_close(matrix(x), torch.stack([whole_x[..., h, :] @ weights[h].T for h in range(3)], -2))
    assert_close(
        matrix.rmatmul(y), torch.stack([whole_y[..., h, :] @ weights[h] for h in range(3)], -2)
    )
    forms = torch.stack(
        [((whole_y[..., h, :] @ weights[h]) * whole_x[..., h, :]).sum(-1) for h in range(3)], -1
    )
    assert_close(matrix.bilinear(y, x), forms)


def test_scores_of_all_pairs_are_dot_products_of_features(assert_close):
    matrix = build("mlr", heads=2)
    x = normal(7, 1, 12)
    scores = torch.einsum("ihf,jhf->hij", matrix.query_features(x), matrix.key_features(x))
    assert matrix.query_features(x).shape == (7, 2, 3 + 2 * 2 + 4 * 2)
    assert_close(scores, torch.einsum("iao,hok,jak->hij", x, matrix.to_dense(), x))


@every
def test_gradients_are_those_of_the_loops(row, assert_close):
    """The oracle's scalars carry their own graph, so the two derivatives share nothing but
    autograd.
    """
    matrix = build(row)
    x = normal(matrix.n_in).requires_grad_()
    g = normal(matrix.n_out, seed=2)
    cores = list(matrix.parameters())
    expected, _ = oracles.apply(terms_of(matrix, lists), list(x))
    right = torch.autograd.grad(torch.stack(expected) @ g, [x, *cores])
    for actual, wanted in zip(torch.autograd.grad(matrix(x) @ g, [x, *cores]), right, strict=True):
        assert_close(actual, wanted)
    for actual, wanted in zip(
        torch.autograd.grad(matrix.rmatmul(g) @ x, [x, *cores]), right, strict=True
    ):
        assert_close(actual, wanted)
    for actual, wanted in zip(
        torch.autograd.grad(matrix.bilinear(g, x), [x, *cores]), right, strict=True
    ):
        assert_close(actual, wanted)


@every
def test_gradients_of_heads_are_those_through_the_dense_form(row, assert_close):
    matrix = build(row, 3)
    x = normal(4, 3, matrix.n_in).requires_grad_()
    y = normal(4, 3, matrix.n_out, seed=2).requires_grad_()
    cores = list(matrix.parameters())
    dense = torch.einsum("...o,...oi,...i->", y, matrix.to_dense(), x)
    right = torch.autograd.grad(dense, [x, y, *cores])
    for form in ((matrix(x) * y).sum(), (matrix.rmatmul(y) * x).sum()):
        for actual, expected in zip(torch.autograd.grad(form, [x, y, *cores]), right, strict=True):
            assert_close(actual, expected)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_mlr_is_the_formula(data):
    n_in = data.draw(st.integers(1, 14), label="n_in")
    n_out = data.draw(st.integers(1, 14), label="n_out")
    n_levels = data.draw(st.integers(1, 4))
    blocks = data.draw(
        st.lists(st.integers(1, min(n_in, n_out)), min_size=n_levels, max_size=n_levels),
        label="blocks",
    )
    ranks = data.draw(
        st.lists(st.integers(1, 3), min_size=n_levels, max_size=n_levels), label="ranks"
    )
    heads = data.draw(st.none() | st.integers(1, 2))
    matrix = MLR(
        n_in, n_out, ranks=ranks, n_blocks=blocks, heads=heads, generator=seeded(), dtype=DOUBLE
    )
    check_drawn(matrix, heads)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_block_tensor_train_and_kronecker_product_is_the_formula(data):
    a, b, c, d = factors = tuple(data.draw(st.tuples(*[st.integers(1, 4)] * 4), label="factors"))
    heads = data.draw(st.none() | st.integers(1, 2))
    common = {"factors": factors, "heads": heads, "generator": seeded(), "dtype": DOUBLE}
    check_drawn(BTT(c * d, a * b, tt_rank=data.draw(st.integers(1, 3)), **common), heads)
    check_drawn(Kronecker(c * d, a * b, **common), heads)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_sum_of_levels_is_the_formula(data):
    a, b, c, d = (data.draw(st.integers(1, 4)) for _ in range(4))
    smaller = min(a * b, c * d)
    plain = st.builds(
        lambda p, r, alpha: Level(p, p, r, alpha=alpha),
        st.integers(1, smaller),
        st.integers(1, 2),
        st.floats(0.1, 3),
    )
    mixed = st.builds(
        lambda s, alpha: Level(b, c, s, True, alpha), st.integers(1, 2), st.floats(-3, -0.1)
    )
    levels = data.draw(st.lists(plain | mixed, min_size=1, max_size=3), label="levels")
    check_drawn(MLBTC(c * d, a * b, levels=levels, generator=seeded(), dtype=DOUBLE), None)


def check_drawn(matrix, heads):
    expected = (
        truth(matrix)
        if heads is None
        else torch.stack([truth(matrix, head) for head in range(heads)])
    )
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(matrix.to_dense().detach(), expected, **close)
    y = normal(*(() if heads is None else (heads,)), matrix.n_out)
    torch.testing.assert_close(
        matrix.rmatmul(y).detach(), torch.einsum("...o,...oi->...i", y, expected), **close
    )
    x = normal(*(() if heads is None else (heads,)), matrix.n_in, seed=2)
    form = torch.einsum("...o,...oi,...i->...", y, expected, x)
    torch.testing.assert_close(matrix.bilinear(y, x).detach(), form, **close)
    assert matrix.n_parameters == sum(parameter.numel() for parameter in matrix.parameters())


# --- counts


@every
@with_heads
def test_counts_are_those_of_the_formula(row, heads):
    """Parameters are counted in the module, multiply-adds by the loops that walk over the sparse
    factors.
    """
    matrix = build(row, heads)
    assert matrix.n_parameters == sum(parameter.numel() for parameter in matrix.parameters())

    def read(core):
        return (core if heads is None else core[0]).tolist()

    vector = [1.0] * matrix.n_in
    count = oracles.apply(terms_of(matrix, read), vector)[1]
    if isinstance(matrix, Kronecker):
        count = min(
            oracles.apply(terms, vector)[1]
            for terms in oracles.kronecker(read(matrix.a), read(matrix.b))
        )
    assert matrix.flops == count * (heads or 1)


@pytest.mark.parametrize(
    "row", [name for name in ROWS if "butterfly" not in name and "uneven" not in name]
)
def test_torch_counts_the_same_multiply_adds(row):
    """Even blocks only: padding is work as well, and a butterfly's products are not those of
    matrices.
    """
    matrix = build(row, 3)
    if isinstance(matrix, MLBTC):
        matrix = MLBTC(
            12,
            9,
            levels=(Level(3, 3, 2), Level(3, 2, 2, True)),
            heads=3,
            dtype=DOUBLE,
            generator=seeded(),
        )
    with FlopCounterMode(display=False) as counter:
        matrix(normal(5, 1, matrix.n_in))
    assert counter.get_total_flops() == 2 * 5 * matrix.flops


def test_counts_of_the_table():
    n = 64
    r = 6
    s = 2
    assert LowRank(n, n, rank=r).n_parameters == 2 * n * r
    assert MLR(n, n, ranks=(4, 2)).n_parameters == 2 * n * 6
    assert BTT(n, n, tt_rank=s).n_parameters == 2 * n**1.5 * s
    assert Monarch(n, n).n_parameters == 2 * n**1.5
    assert Butterfly(n, n).n_parameters == 2 * n * math.log2(n)
    assert Kronecker(n, n).n_parameters == 2 * n
    assert Dense(n, n).flops == n * n


# --- one family


def test_mlr_with_one_level_is_low_rank():
    mlr = MLR(9, 6, ranks=(3,), generator=seeded())
    low = LowRank(9, 6, rank=3, generator=seeded())
    assert torch.equal(mlr.to_dense(), low.to_dense())
    low = LowRank(9, 6, rank=3, generator=seeded(1))
    mlr.load_state_dict(low.state_dict())
    x = torch.randn(5, 9, generator=seeded())
    assert torch.equal(mlr(x), low(x))


@pytest.mark.parametrize("n", [4, 9, 16, 25])
def test_btt_of_rank_one_on_square_factors_is_monarch(n, assert_close):
    btt = BTT(n, n, generator=seeded(), dtype=DOUBLE)
    monarch = Monarch(n, n, generator=seeded(1), dtype=DOUBLE)
    root = math.isqrt(n)
    assert btt.factors == monarch.factors == (root,) * 4
    monarch.load_state_dict(btt.state_dict())
    expected = oracles.btt(btt.left[0].tolist(), btt.right[0].tolist(), (root,) * 4, 1)
    assert_close(monarch.to_dense(), torch.tensor(oracles.entries(expected, n), dtype=DOUBLE))


# --- beginnings


def wide(name, n):
    """The structure at width n, ranks growing with it."""
    return {
        "low_rank": {"rank": n // 8},
        "mlr": {"ranks": (n // 8, n // 16, n // 16)},
        "btt": {"tt_rank": 2},
    }.get(name, {})


@pytest.mark.parametrize("name", STRUCTURES)
def test_outputs_begin_with_a_variance_that_no_width_changes(name):
    for n in (64, 256, 1024):
        matrix = make_matrix(name, n, n, heads=8, generator=seeded(n), **wide(name, n))
        y = matrix(torch.randn(32, 8, n, generator=seeded(n + 1)))
        assert float(y.detach().square().mean()) == pytest.approx(1.0, rel=0.25)


@pytest.mark.parametrize("rank", [1, 4])
def test_the_variance_holds_at_a_fixed_rank_and_in_uneven_blocks(rank):
    for n in (63, 255, 1023):
        matrix = MLR(n, n + 2, ranks=(rank, rank), n_blocks=(1, 20), heads=64, generator=seeded(n))
        y = matrix(torch.randn(32, 64, n, generator=seeded(n + 1))).detach()
        assert float(y.square().mean()) == pytest.approx(1.0, rel=0.25)
        starts = block_starts(n, 20)
        stds = [
            float(matrix.right[1][:, i:j].detach().std()) * (j - i) ** 0.5
            for i, j in itertools.pairwise(starts)
        ]
        assert stds == pytest.approx([1.0] * 20, rel=0.25)


def aligned(name, n, seed):
    """Vectors for eight heads. The maps that share a Kronecker core get one input, or their
    gradients would cancel.
    """
    if name != "kronecker":
        return torch.randn(1, 8, n, generator=seeded(seed))
    root = math.isqrt(n)
    slow, fast = torch.randn(2, 1, 8, root, generator=seeded(seed))
    return torch.einsum("bhc,bhd->bhcd", slow, fast).flatten(2)


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_step_moves_outputs_by_an_amount_that_no_width_changes(name):
    """The coordinate check of the maximal-update rule, with the signs of the gradient for Adam's
    first step.
    """
    moves = []
    for n in (64, 256, 1024):
        matrix = make_matrix(name, n, n, heads=8, generator=seeded(n), **wide(name, n))
        x, g = (aligned(name, n, seed=n + k) for k in (1, 2))
        before = matrix(x)
        names, cores = zip(*matrix.named_parameters(), strict=True)
        slopes = torch.autograd.grad((before * g).sum(), cores)
        factors = matrix.lr_multipliers(64)
        with torch.no_grad():
            for core_name, core, slope in zip(names, cores, slopes, strict=True):
                core -= 1e-4 * factors[core_name] * slope.sign()
            moves.append(float((matrix(x) - before).square().mean().sqrt()))
    # A butterfly of n has log2 n factors, each of which moves: its depth, not its width, adds up.
    spread = 3.0 if name == "butterfly" else 1.35
    assert max(moves) <= spread * min(moves)


def test_learning_rates_follow_the_fan_in_of_each_core():
    assert Dense(256, 64).lr_multipliers(64) == {"weight": 0.25}
    assert LowRank(256, 64, rank=8).lr_multipliers(64) == {"left.0": 8.0, "right.0": 0.25}
    assert MLR(256, 64, ranks=(8, 4, 4)).lr_multipliers(64) == {
        **dict.fromkeys(["left.0", "left.1", "left.2"], 4.0),
        "right.0": 0.25,
        "right.1": 0.5,
        "right.2": 1.0,
    }
    assert BTT(256, 64, tt_rank=2).lr_multipliers(64) == {"left.0": 2.0, "right.0": 4.0}
    assert Monarch(256, 256).lr_multipliers(256) == {"left.0": 16.0, "right.0": 16.0}
    assert Kronecker(24, 6, factors=(3, 2, 6, 4)).lr_multipliers(24) == {"a": 4.0, "b": 6.0}
    assert Butterfly(8, 8).lr_multipliers(8) == {"twiddle": 4.0}
    for row in ROWS:
        matrix = build(row)
        assert set(matrix.lr_multipliers(1)) == {name for name, _ in matrix.named_parameters()}
    with pytest.raises(ValueError, match="base_width must be at least 1; got 0"):
        Dense(2, 2).lr_multipliers(0)


@every
def test_chance_comes_from_the_given_generator_alone(row):
    state = torch.random.get_rng_state()
    matrix = build(row)
    again = build(row)
    other = build(row, seed=1)
    weight = matrix.to_dense().detach()
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(weight, again.to_dense())
    assert not torch.equal(weight, other.to_dense())
    again.reset_parameters(seeded(1))
    assert torch.equal(again.to_dense(), other.to_dense())


@every
@pytest.mark.parametrize("heads", [None, 2])
def test_a_state_dict_holds_the_matrix(row, heads):
    matrix = build(row, heads)
    other = build(row, heads, seed=1)
    other.load_state_dict(copy.deepcopy(matrix.state_dict()))
    assert torch.equal(matrix.to_dense(), other.to_dense())
    assert torch.equal(copy.deepcopy(matrix).to_dense(), matrix.to_dense())
    half = matrix.to(torch.float32)
    assert half(torch.ones(2, matrix.n_in)).dtype == torch.float32


def test_nothing_travels_between_uneven_blocks():
    matrix = MLR(10, 10, ranks=(1,), n_blocks=(4,), generator=seeded(), dtype=DOUBLE)
    x = normal(10)
    x[2] = torch.nan  # the second block is rows 2 to 4
    assert matrix(x).isnan().tolist() == [2 <= row < 5 for row in range(10)]
    assert matrix.rmatmul(x).isnan().tolist() == [2 <= row < 5 for row in range(10)]


class _Shift(StructuredMatrix):
    """The least a structure must have: everything else is inherited."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.size = torch.nn.Parameter(torch.full((), 2.0, dtype=DOUBLE))

    def forward(self, x):
        return self.size * x.roll(1, dims=-1)

    def fan_in(self):
        return {"size": 1.0}


def test_slow_defaults_serve_a_structure_that_has_the_least(assert_close):
    matrix = _Shift(4, 4)
    weight = 2 * torch.eye(4, dtype=DOUBLE).roll(1, dims=0)
    x = normal(3, 4)
    y = normal(3, 4, seed=2)
    assert_close(matrix.to_dense(), weight)
    assert_close(matrix.rmatmul(x), x @ weight)
    assert_close(matrix.bilinear(x, y), ((x @ weight) * y).sum(-1))
    assert (matrix.n_parameters, matrix.flops) == (1, 16)


# --- names and refusals


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_name_builds_with_defaults(name):
    matrix = make_matrix(name, 16, 16, heads=2, generator=seeded(), dtype=DOUBLE)
    assert type(matrix) is STRUCTURES[name]
    assert matrix(normal(3, 2, 16)).shape == (3, 2, 16)
    assert repr(matrix).startswith(f"{type(matrix).__name__}(")
    assert "n_in=16, n_out=16, heads=2" in repr(matrix)


def test_options_reach_the_structure():
    assert make_matrix("low_rank", 8, 6, rank=2).n_parameters == 28
    assert make_matrix("mlr", 8, 8, ranks=(2, 1), n_blocks=(1, 4)).levels == (
        Level(1, 1, 2),
        Level(4, 4, 1),
    )
    assert make_matrix("btt", 8, 8, tt_rank=3, factors=(2, 4, 2, 4)).factors == (2, 4, 2, 4)
    assert make_matrix("mlbtc", 10, 9, levels=LEVELS).levels == LEVELS
    assert MLR(64, 64).levels == (Level(1, 1, 8), Level(2, 2, 4), Level(4, 4, 4))
    assert MLR(4, 4).levels == (Level(1, 1, 1),)
    assert MLR(9, 9, n_blocks=(1, 3)).levels == (Level(1, 1, 1), Level(3, 3, 1))
    assert default_factors(7, 36) == (6, 6, 7, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: make_matrix("toeplitz", 4, 4),
            "name must be one of dense, .*; got 'toeplitz'; choose",
        ),
        (
            lambda: make_matrix("dense", 4, 4, rank=2),
            "rank is no option of 'dense', which has none; got 2; leave it",
        ),
        (
            lambda: make_matrix("btt", 4, 4, ranks=(2,)),
            "ranks is no option of 'btt', which has tt_rank, factors",
        ),
        (
            lambda: Dense(0, 4),
            "n_in must be a whole number of at least 1; got 0",
        ),
        (
            lambda: Dense(4, 4, heads=0),
            "heads must be a whole number of at least 1; got 0",
        ),
        (
            lambda: LowRank(4, 4, rank=0),
            "rank must be a whole number of at least 1; got 0",
        ),
        (
            lambda: MLR(4, 4, ranks=(2, 1), n_blocks=(1,)),
            "one number a level; got 2 and 1; leave n_blocks out",
        ),
        (
            lambda: MLR(4, 3, ranks=(1, 1, 1)),
            "at most n_out blocks; got 4 for n_out = 3; take fewer",
        ),
        (lambda: MLR(4, 4, ranks=()), "at least one level; got none; give"),
        (
            lambda: BTT(12, 12, factors=(3, 4, 5, 2)),
            r"a b = n_out and c d = n_in; got \(3, 4, 5, 2\).*leave them out",
        ),
        (
            lambda: Kronecker(4, 4, factors=(2, 2)),
            r"factors must be four positive numbers.*got \(2, 2\)",
        ),
        (lambda: BTT(4, 4, tt_rank=0), "tt_rank must be a whole number of at least 1; got 0"),
        (
            lambda: Butterfly(12, 12),
            "square and a power of two, at least 2; got n_out = 12, n_in = 12; pad",
        ),
        (lambda: Butterfly(8, 4), "got n_out = 4, n_in = 8"),
        (lambda: Butterfly(1, 1), "at least 2; got n_out = 1"),
        (
            lambda: MLBTC(6, 6, levels=(Level(4, 3, 1, True),)),
            "divide n_out; got 4 for n_out = 6; .* such as 2",
        ),
        (
            lambda: Level(2, 3),
            "as many left as right blocks; got 2 and 3; make them equal or set shuffled=True",
        ),
        (lambda: Level(alpha=0.0), "alpha of a level must be a finite number and not 0; got 0.0"),
        (lambda: Level(alpha=math.nan), "must be a finite number and not 0; got nan"),
        (
            lambda: Dense(4, 3)(torch.ones(2, 3)),
            r"last axis must have n_in = 4 features; got shape \(2, 3\)",
        ),
        (
            lambda: MLR(4, 3).rmatmul(torch.ones(2, 4)),
            r"n_out = 3 features; got shape \(2, 4\); transpose",
        ),
        (
            lambda: Dense(4, 3, heads=3)(torch.ones(2, 4)),
            r"heads = 3 or 1; got shape \(2, 4\); x.unsqueeze",
        ),
        (lambda: Dense(4, 3, heads=3)(torch.ones(4)), r"heads = 3 or 1; got shape \(4,\)"),
        (
            lambda: MLR(4, 3).bilinear(torch.ones(4), torch.ones(4)),
            r"n_out = 3 features; got shape \(4,\)",
        ),
        (
            lambda: MLR(4, 3).bilinear(torch.ones(3), torch.ones(3)),
            r"n_in = 4 features; got shape \(3,\)",
        ),
        (
            lambda: MLR(4, 3)(torch.ones(4, dtype=torch.float64)),
            r"dtype of the matrix, torch.float32; got torch.float64; call .to\(torch.float32\)",
        ),
        (
            lambda: make_matrix("butterfly", 4, 4).rmatmul(torch.ones(4, dtype=torch.float16)),
            r"dtype of the matrix, torch.float32; got torch.float16",
        ),
        *[
            (lambda name=name: make_matrix(name, 0, 4), "n_in must be a .* at least 1; got 0")
            for name in STRUCTURES
        ],
    ],
)
def test_refusals_name_value_rule_and_remedy_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# name, options -> what is refused
NO_NUMBERS = {
    ("low_rank", "rank", 2.5): "rank must be a whole number of at least 1; got 2.5",
    ("low_rank", "rank", "2"): "rank must be a whole number of at least 1; got '2'",
    ("low_rank", "rank", True): "rank must be a whole number of at least 1; got True",
    ("mlr", "ranks", 3): "ranks must be a list of numbers, one a level; got 3; write one",
    ("mlr", "ranks", "12"): "ranks must be a list of numbers, one a level; got '12'; write one",
    ("low_rank", "dtype", "float32"): "dtype of a structured matrix must be a floating one of",
    ("btt", "factors", (2.0, 4.0, 4.0, 2.0)): "factors must be four positive numbers",
    ("monarch", "factors", 8): "factors must be four positive numbers",
    (
        "dense",
        "heads",
        2.5,
    ): "heads must be a whole number of at least 1; got 2.5",
}


def refusals():
    messages = {}
    for name, option, value in NO_NUMBERS:
        with pytest.raises(ValueError, match=" got ") as caught:
            make_matrix(name, 8, 8, **{option: value})
        messages[name, option, value] = str(caught.value)
    with pytest.raises(
        TypeError, match=r"vectors must be a tensor; got \[1.0, 2.0\]; call torch.as_"
    ):
        make_matrix("mlr", 2, 2)([1.0, 2.0])
    with pytest.raises(ValueError, match=r"got torch.int64; call .to\(torch.float32\)"):
        make_matrix("dense", 2, 2)(torch.arange(2))
    with pytest.raises(ValueError, match="base_width must be at least 1; got nan"):
        make_matrix("dense", 2, 2).lr_multipliers(float("nan"))
    for name in STRUCTURES:
        with pytest.raises(ValueError, match=r"(n_in|butterfly|factors) .*; got .*8"):
            make_matrix(name, "8", 8)
    with pytest.raises(ValueError, match="base_width must be at least 1; got '8'"):
        make_matrix("dense", 2, 2).lr_multipliers("8")
    with pytest.raises(ValueError, match="must be a finite number and not 0; got 'a'"):
        Level(alpha="a")
    for shuffled in ("no", 1):
        with pytest.raises(ValueError, match=f"shuffled must be True or False; got {shuffled!r}"):
            Level(2, 2, shuffled=shuffled)
    for levels in ((1, 2), Level()):
        with pytest.raises(TypeError, match="must be a list of Level; got "):
            make_matrix("mlbtc", 2, 2, levels=levels)
    return messages


@pytest.mark.parametrize("name", STRUCTURES)
def test_cores_of_whole_numbers_are_refused(name):
    for dtype in (torch.int64, torch.float8_e4m3fn):
        with pytest.raises(ValueError, match=f"16 bits or more; got {dtype}; leave it out"):
            make_matrix(name, 4, 4, dtype=dtype)


@pytest.mark.parametrize("name", STRUCTURES)
def test_an_autocast_converts_vectors(name):
    matrix = make_matrix(name, 16, 16)
    x = torch.randn(3, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = matrix(x.bfloat16())
    torch.testing.assert_close(narrow.float(), matrix(x), rtol=0.05, atol=0.1)


def outputs():
    sizes = np.arange(17)
    return {
        name: make_matrix(name, sizes[16], sizes[16])(torch.ones(sizes[16])).shape[0]
        for name in STRUCTURES
    }


@pytest.fixture(scope="module")
def elsewhere():
    """Refusals and outputs of a process of its own: here the checks of types would speak first."""
    return ast.literal_eval(in_fresh_process(__file__, "print((refusals(), outputs()))"))


def test_what_is_no_whole_number_is_refused_before_torch_sees_it(elsewhere):
    told, _ = elsewhere
    for asked, beginning in NO_NUMBERS.items():
        assert told[asked].startswith(beginning), asked


def test_sizes_may_be_numbers_of_numpy(elsewhere):
    _, widths = elsewhere
    assert widths == dict.fromkeys(STRUCTURES, 16)
