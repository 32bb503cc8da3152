"""The structured matrices that go through the tests, and their entries by the loops."""

import matrix_oracles as oracles
import torch
from chance import seeded

from tsattn.matrices import BTT, MLBTC, MLR, Butterfly, Dense, Kronecker, Level, LowRank, Monarch

DOUBLE = torch.float64
LEVELS = (Level(1, 1, 2, alpha=0.5), Level(3, 2, 2, shuffled=True, alpha=-2.0), Level(5, 5, 1))

# name: class, sizes, options
ROWS = {
    "dense": (Dense, (5, 7), {}),
    "low rank": (LowRank, (6, 9), {"rank": 3}),
    "mlr": (MLR, (12, 12), {"ranks": (3, 2, 2)}),
    "mlr, uneven blocks": (MLR, (10, 7), {"ranks": (2, 1, 2), "n_blocks": (1, 3, 5)}),
    "kronecker": (Kronecker, (12, 10), {"factors": (5, 2, 3, 4)}),
    "kronecker, other order": (Kronecker, (6, 12), {"factors": (2, 6, 3, 2)}),
    "monarch": (Monarch, (16, 16), {}),
    "monarch, rectangular": (Monarch, (15, 8), {}),
    "btt": (BTT, (12, 10), {"tt_rank": 2}),
    "btt, factors given": (BTT, (6, 12), {"tt_rank": 3, "factors": (3, 4, 2, 3)}),
    "butterfly": (Butterfly, (8, 8), {}),
    "butterfly of one factor": (Butterfly, (2, 2), {}),
    "mlbtc": (MLBTC, (10, 9), {"levels": LEVELS}),
}


def normal(*shape, seed=1):
    """Normal numbers."""
    return torch.randn(*shape, generator=seeded(seed), dtype=DOUBLE)


def build(row, heads=None, seed=0):
    """A random member of a row."""
    structure, sizes, options = ROWS[row]
    return structure(*sizes, heads=heads, generator=seeded(seed), dtype=DOUBLE, **options)


def lists(core):
    """Nested lists of scalars that still know their derivatives."""
    return [lists(row) for row in core] if core.dim() else core


def terms_of(matrix, read):
    """The oracle's terms of one head's matrix; ``read`` turns a core into nested lists."""
    match matrix:
        case Dense():
            return oracles.dense(read(matrix.weight))
        case LowRank():
            return oracles.low_rank(read(matrix.left[0]), read(matrix.right[0]))
        case MLR():
            sides = ([read(core) for core in side] for side in (matrix.left, matrix.right))
            return oracles.mlr(*sides, [level.left_blocks for level in matrix.levels])
        case Kronecker():
            return oracles.kronecker(read(matrix.a), read(matrix.b))[0]
        case Monarch():
            return oracles.monarch(read(matrix.left[0]), read(matrix.right[0]), matrix.factors)
        case BTT():
            return oracles.btt(
                read(matrix.left[0]), read(matrix.right[0]), matrix.factors, matrix.tt_rank
            )
        case Butterfly():
            return oracles.butterfly(read(matrix.twiddle))
        case MLBTC():
            levels = [
                (v.left_blocks, v.right_blocks, v.rank, v.shuffled, v.alpha) for v in matrix.levels
            ]
            return oracles.mlbtc(
                levels, *([read(core) for core in side] for side in (matrix.left, matrix.right))
            )


def truth(matrix, head=None):
    """All entries by the loops."""

    def read(core):
        return (core if head is None else core[head]).tolist()

    return torch.tensor(oracles.entries(terms_of(matrix, read), matrix.n_in), dtype=DOUBLE)
