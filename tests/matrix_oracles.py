"""Entries of structured matrices: sparse factors written out from the formulas, multiplied by
loops.

A matrix is a list of terms that are added, a term a list of factors that are multiplied, a factor a
list of rows. An entry that the structure forbids is ``None``, so that the entries which are not can
be counted. Numbers may be floats or scalars that remember their derivatives.
"""


def empty(n_rows, n_columns):
    return [[None for _ in range(n_columns)] for _ in range(n_rows)]


def block_of(row, size, n_blocks):
    """The block k with k size / p <= row < (k + 1) size / p, borders rounded down, found by trying
    each.
    """
    for k in range(n_blocks):
        if (k * size) // n_blocks <= row < ((k + 1) * size) // n_blocks:
            return k
    raise AssertionError("every row has a block")


def block_column(core, n_blocks):
    """Block-diagonal matrix of n rows: row i carries its numbers in the columns of its block."""
    size = len(core)
    width = len(core[0])
    factor = empty(size, n_blocks * width)
    for i in range(size):
        k = block_of(i, size, n_blocks)
        for f in range(width):
            factor[i][k * width + f] = core[i][f]
    return factor


def transpose(factor):
    return [[factor[i][j] for i in range(len(factor))] for j in range(len(factor[0]))]


class Permutation:
    """Output number i is input number ``order[i]``; costs no multiplication."""

    def __init__(self, order):
        assert sorted(order) == list(range(len(order)))
        self.order = order


def dense(weight):
    return [[weight]]


def low_rank(left, right):
    return [[left, transpose(right)]]


def mlr(lefts, rights, n_blocks):
    return [
        [block_column(left, p), transpose(block_column(right, p))]
        for left, right, p in zip(lefts, rights, n_blocks, strict=True)
    ]


def kronecker(a, b):
    """(A kron I)(I kron B), and the other order: the same matrix at two costs."""
    n_a = len(a)
    n_c = len(a[0])
    n_b = len(b)
    n_d = len(b[0])
    first = empty(n_a * n_b, n_c * n_b)
    second = empty(n_c * n_b, n_c * n_d)
    third = empty(n_a * n_b, n_a * n_d)
    fourth = empty(n_a * n_d, n_c * n_d)
    for i in range(n_a):
        for k in range(n_c):
            for j in range(n_b):
                first[i * n_b + j][k * n_b + j] = a[i][k]
            for m in range(n_d):
                fourth[i * n_d + m][k * n_d + m] = a[i][k]
    for j in range(n_b):
        for m in range(n_d):
            for k in range(n_c):
                second[k * n_b + j][k * n_d + m] = b[j][m]
            for i in range(n_a):
                third[i * n_b + j][i * n_d + m] = b[j][m]
    return [[first, second]], [[third, fourth]]


def btt(left, right, factors, rank):
    """Entry (i b + j, k d + m) is the sum over s of L_j[i, (k, s)] R_k[m, (j, s)]; the middle is
    ordered (j, k, s).
    """
    a, b, c, d = factors
    outer = empty(a * b, b * c * rank)
    inner = empty(b * c * rank, c * d)
    for j in range(b):
        for k in range(c):
            for s in range(rank):
                middle = (j * c + k) * rank + s
                for i in range(a):
                    outer[i * b + j][middle] = left[j * a + i][k * rank + s]
                for m in range(d):
                    inner[middle][k * d + m] = right[k * d + m][j * rank + s]
    return [[outer, inner]]


def shuffle(n_slow, n_fast):
    """The transposition of n_slow groups of n_fast numbers into n_fast groups of n_slow."""
    return Permutation([slow * n_fast + fast for fast in range(n_fast) for slow in range(n_slow)])


def monarch(left, right, factors):
    """P blockdiag(L) P' blockdiag(R^T)."""
    a, b, c, _ = factors
    return [
        [shuffle(b, a), block_column(left, b), shuffle(c, b), transpose(block_column(right, c))]
    ]


def mlbtc(levels, lefts, rights):
    """Terms of (left blocks, right blocks, rank, shuffled, alpha)."""
    terms = []
    for (n_left, n_right, rank, shuffled, alpha), left, right in zip(
        levels, lefts, rights, strict=True
    ):
        factors = [block_column(left, n_left), transpose(block_column(right, n_right))]
        if shuffled:
            middle = [(k, j, s) for j in range(n_left) for k in range(n_right) for s in range(rank)]
            order = [(k * n_left + j) * rank + s for k, j, s in middle]
            factors.insert(1, Permutation(order))
            factors.insert(0, shuffle(n_left, len(left) // n_left))
        terms.append([*factors, alpha])
    return terms


def butterfly(twiddle):
    """One factor a bit: positions that differ in that bit alone form a pair, in the order of their
    lower members.
    """
    n = 2 * len(twiddle[0])
    factors = []
    for bit, blocks in enumerate(twiddle):
        factor = empty(n, n)
        lowers = [position for position in range(n) if not (position >> bit) & 1]
        for block, lower in zip(blocks, lowers, strict=True):
            pair = (lower, lower + (1 << bit))
            for u in range(2):
                for v in range(2):
                    factor[pair[u]][pair[v]] = block[u][v]
        factors.insert(0, factor)
    return [factors]


def apply_factor(factor, vector):
    """One factor on one vector, and how many multiplications it took."""
    if isinstance(factor, Permutation):
        return [vector[source] for source in factor.order], 0
    if isinstance(factor, float):
        return [factor * number for number in vector], 0
    count = 0
    result = []
    for row in factor:
        total = 0.0
        for entry, number in zip(row, vector, strict=True):
            if entry is not None:
                total = total + entry * number
                count += 1
        result.append(total)
    return result, count


def apply(terms, vector):
    """The matrix on one vector, and the number of multiply-adds."""
    total = None
    count = 0
    for factors in terms:
        y = list(vector)
        for factor in reversed(factors):
            y, n = apply_factor(factor, y)
            count += n
        total = y if total is None else [p + q for p, q in zip(total, y, strict=True)]
    return total, count


def entries(terms, n_in):
    """All entries: the matrix on every unit vector, column by column."""
    columns = [apply(terms, [1.0 if i == j else 0.0 for i in range(n_in)])[0] for j in range(n_in)]
    return transpose(columns)
