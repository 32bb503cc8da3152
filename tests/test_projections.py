"""Is the nearest member found: exactly where it can be, and by a fit that only gets better where it cannot?"""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix_rows import DOUBLE, EXACT, ROWS, build, normal, relative, seeded

from tsattn.matrices import BTT, MLBTC, MLR, Butterfly, Kronecker, Level, LowRank, Monarch, default_factors
from tsattn.matrices.projections import fit_levels


@pytest.mark.parametrize("row", EXACT)
@pytest.mark.parametrize("heads", [None, 1, 3])
def test_a_member_is_found_exactly(row, heads):
    matrix = build(row, heads)
    structure, _, options = ROWS[row]
    weight = matrix.to_dense().detach()
    found = structure.from_dense(weight, **options)
    assert (found.heads, found.n_in, found.n_out) == (heads, matrix.n_in, matrix.n_out)
    assert relative(found.to_dense(), weight) < 1e-10
    assert all(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize("n", [2, 4, 8, 16, 64])
def test_butterflies_of_any_size_are_found_exactly(n):
    weight = Butterfly(n, n, generator=seeded(n), dtype=DOUBLE).to_dense().detach()
    found = Butterfly.from_dense(weight)
    assert relative(found.to_dense(), weight) < 1e-10
    norms = found.twiddle.detach().flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, norms[:1].expand_as(norms))


def test_known_transforms_are_butterflies():
    """The Hadamard matrix is one, and so is a diagonal matrix, whose blocks of zeros have no direction."""
    hadamard = torch.ones(1, 1, dtype=DOUBLE)
    for _ in range(4):
        hadamard = torch.kron(hadamard, torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=DOUBLE))
    for weight in (hadamard, normal(16).diag(), torch.zeros(16, 16, dtype=DOUBLE)):
        gap = (Butterfly.from_dense(weight).to_dense().detach() - weight).norm()
        assert float(gap) <= 1e-12 * max(1.0, float(weight.norm()))


def test_the_nearest_matrix_leaves_the_smallest_singular_values(assert_close):
    weight = normal(9, 12)
    tail = torch.linalg.svdvals(weight)[4:].norm()
    assert_close((LowRank.from_dense(weight, rank=4).to_dense() - weight).norm(), tail)
    a, b, c, d = factors = default_factors(12, 9)
    blocks = weight.view(a, b, c, d).permute(1, 2, 0, 3)
    for tt_rank in (1, 2):
        tail = torch.linalg.svdvals(blocks)[..., tt_rank:].norm()
        assert_close((BTT.from_dense(weight, tt_rank=tt_rank).to_dense() - weight).norm(), tail)
    tail = torch.linalg.svdvals(blocks)[..., 1:].norm()
    assert_close((Monarch.from_dense(weight).to_dense() - weight).norm(), tail)
    tail = torch.linalg.svdvals(weight.view(a, b, c, d).transpose(1, 2).reshape(a * c, b * d))[1:].norm()
    assert_close((Kronecker.from_dense(weight, factors=factors).to_dense() - weight).norm(), tail)
    alone = MLR.from_dense(weight, ranks=(2,), n_blocks=(3,)).to_dense()
    kept = torch.block_diag(*(weight[3 * k : 3 * k + 3, 4 * k : 4 * k + 4] for k in range(3)))
    lost = [torch.linalg.svdvals(weight[3 * k : 3 * k + 3, 4 * k : 4 * k + 4])[2:] for k in range(3)]
    assert_close((alone - weight).norm(), ((weight - kept).norm() ** 2 + torch.cat(lost).norm() ** 2).sqrt())


def test_a_butterfly_for_any_matrix_is_no_worse_than_zero():
    for seed in range(5):
        weight = normal(16, 16, seed=seed)
        assert relative(Butterfly.from_dense(weight).to_dense(), weight) < 1


def test_enough_rank_reproduces_any_matrix():
    weight = normal(8, 6)
    assert relative(LowRank.from_dense(weight, rank=9).to_dense(), weight) < 1e-10
    assert relative(BTT.from_dense(weight, tt_rank=4).to_dense(), weight) < 1e-10


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((16, 16), {"ranks": (2, 2)}),
        ((16, 16), {"ranks": (4, 4)}),
        ((32, 32), {"ranks": (6, 3)}),
        ((64, 64), {"ranks": (8, 8)}),
        ((64, 64), {"ranks": (2, 16)}),
        ((64, 64), {"ranks": (16, 2)}),
        ((17, 13), {"ranks": (2, 2)}),
        ((24, 30), {"ranks": (3, 2), "n_blocks": (1, 3)}),
        ((24, 24), {"ranks": (2, 3), "n_blocks": (4, 1)}),
        ((32, 32), {"ranks": (2, 2), "n_blocks": (2, 4)}),
        ((24, 24), {"ranks": (2, 2), "n_blocks": (2, 3)}),
        ((10, 10), {"ranks": (3, 3)}),
        ((16, 16), {"ranks": (3, 2), "n_blocks": (1, 8)}),
    ],
)
def test_members_with_two_levels_are_found(sizes, options):
    """Also where ranks add up to a block or more, where blocks do not nest, and where the coarse level comes second."""
    for seed in range(2):
        weight = MLR(*sizes, **options, generator=seeded(seed), dtype=DOUBLE).to_dense().detach()
        assert relative(MLR.from_dense(weight, **options).to_dense(), weight) < 1e-8


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_member_with_two_nested_levels_is_found(data):
    """Ranks that together stay below the smallest block, so that the other blocks determine each one."""
    n_coarse, ratio = data.draw(st.integers(1, 2)), data.draw(st.integers(2, 3))
    ranks = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), label="ranks")
    least = (sum(ranks) + 1) * n_coarse * ratio
    n_in, n_out = (data.draw(st.integers(least, least + 9), label="size") for _ in range(2))
    blocks = (n_coarse, n_coarse * ratio)
    matrix = MLR(
        n_in, n_out, ranks=ranks, n_blocks=blocks, generator=seeded(data.draw(st.integers(0, 99))), dtype=DOUBLE
    )
    weight = matrix.to_dense().detach()
    assert relative(MLR.from_dense(weight, ranks=ranks, n_blocks=blocks).to_dense(), weight) < 1e-8


@pytest.mark.parametrize(
    "levels",
    [
        (Level(1, 1, 3), Level(2, 2, 2), Level(4, 4, 1)),
        (Level(1, 1, 2), Level(4, 4, 1, True)),
        (Level(4, 4, 1, True, 0.3), Level(2, 8, 1, True, -2.0)),
        (Level(3, 3, 2), Level(5, 5, 1)),
        (Level(1, 1, 1), Level(1, 1, 2)),
    ],
)
@pytest.mark.parametrize("kind", ["any", "low rank", "zero", "one entry"])
def test_the_error_of_a_fit_never_rises_and_beats_every_single_level(levels, kind):
    weight = normal(16, 16)
    if kind == "low rank":
        weight = normal(16, 2) @ normal(2, 16, seed=2)
    elif kind != "any":
        weight = torch.zeros_like(weight)
        weight[3, 5] = float(kind == "one entry")
    fit = fit_levels(levels, weight)
    assert all(after <= before * (1 + 1e-9) + 1e-13 for before, after in itertools.pairwise(fit.errors))
    singles = [MLBTC.from_dense(weight, levels=(level,)).to_dense().detach() for level in levels]
    found = MLBTC.from_dense(weight, levels=levels)
    error = float((found.to_dense().detach() - weight).norm())
    assert error <= min(float((single - weight).norm()) for single in singles) * (1 + 1e-9) + 1e-13
    assert error == pytest.approx(fit.errors[-1] * float(weight.norm()), abs=1e-12)


@pytest.mark.parametrize(
    "levels",
    [
        (Level(1, 1, 3), Level(2, 2, 2), Level(4, 4, 1)),
        (Level(1, 1, 2), Level(4, 4, 1, True, 0.5)),
        (Level(4, 4, 1, True), Level(2, 8, 1, True)),
    ],
)
def test_members_with_other_levels_are_found_too(levels):
    weight = MLBTC(32, 32, levels=levels, generator=seeded(), dtype=DOUBLE).to_dense().detach()
    assert relative(MLBTC.from_dense(weight, levels=levels).to_dense(), weight) < 1e-8


def test_a_fit_of_several_heads_keeps_its_type(assert_close):
    weight = MLR(16, 16, ranks=(2, 2), heads=3, generator=seeded()).to_dense().detach()
    found = MLR.from_dense(weight, ranks=(2, 2))
    assert found.to_dense().dtype == torch.float32
    assert_close(found.to_dense(), weight, kind="float32")
