"""The right answers: loops over single numbers in float64, written from the formulas and sharing no
code.
"""

import math


def default_blocks(length, n_levels):
    """Halving blocks: the finest is the length divided by 2^(n-1), rounded up; each coarser one is
    twice as long.
    """
    sizes = [math.ceil(length / 2 ** (n_levels - 1))]
    while len(sizes) < n_levels:
        sizes.insert(0, 2 * sizes[0])
    return sizes


def visible(i, j, *, causal=False, window=None, n_global=0):
    """May the query at position i see the key at position j?"""
    if causal and j > i:
        return False
    if window is None or 0 <= i < n_global or j < n_global:
        return True
    return abs(i - j) <= window - 1


def level_factors(
    i, j, *, ranks, block_sizes, offset, level_scales, mean_levels, scale, parts=None
):
    """What each level's dot product is multiplied by for one pair of positions: zero where no block
    is shared.

    ``parts`` [levels after the first][positions] take the place of blocks; negative numbers share
    nothing.
    """
    shared = []
    for level in range(len(ranks)):
        if level > 0 and parts is not None:
            shared.append(parts[level - 1][i] == parts[level - 1][j] >= 0)
            continue
        here = math.floor((i + offset) / block_sizes[level])
        there = math.floor((j + offset) / block_sizes[level])
        shared.append(level == 0 or here == there)
    divisor = sum(shared) if mean_levels else 1
    return [
        scale * s / divisor if yes else 0.0 for s, yes in zip(level_scales, shared, strict=True)
    ]


def feature_factors(ranks, factors):
    """The same, one number a feature."""
    return [factor for rank, factor in zip(ranks, factors, strict=True) for _ in range(rank)]


def softmax(scores):
    """Weights of a list of scores."""
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def weigh_row(row, q, k, *, offset, seen_keys, pattern, levels, parts=None):
    """Keys that one query sees, what each of their features is multiplied by, and their weights."""
    i = row + len(k) - len(q)
    keys = [j for j in range(len(k)) if seen_keys[j] and visible(i, j, **pattern)]
    shared = {"offset": offset, "parts": parts, **levels}
    factors = [feature_factors(levels["ranks"], level_factors(i, j, **shared)) for j in keys]
    scores = [
        sum(f * a * b for f, a, b in zip(fs, q[row], k[j], strict=True))
        for fs, j in zip(factors, keys, strict=True)
    ]
    return keys, factors, softmax(scores) if keys else []


def attend_one_head(q, k, v, grad, **head):
    """Result and gradients of one head of one sequence; everything is a list of lists of floats.

    Gradients by the chain rule on paper: with weights p, result o and its gradient g, the score of
    a pair has the gradient p_j (g . v_j - sum over m of p_m g . v_m).
    """
    out = [[0.0] * len(v[0]) for _ in q]
    dq, dk, dv = ([[0.0] * len(x[0]) for _ in x] for x in (q, k, v))
    for row in range(len(q)):
        keys, factors, weights = weigh_row(row, q, k, **head)
        for p, j in zip(weights, keys, strict=True):
            for c, value in enumerate(v[j]):
                out[row][c] += p * value
        along = [sum(g * value for g, value in zip(grad[row], v[j], strict=True)) for j in keys]
        mean = sum(p * a for p, a in zip(weights, along, strict=True))
        for p, a, fs, j in zip(weights, along, factors, keys, strict=True):
            ds = p * (a - mean)
            for c, f in enumerate(fs):
                dq[row][c] += ds * f * k[j][c]
                dk[j][c] += ds * f * q[row][c]
            for c, g in enumerate(grad[row]):
                dv[j][c] += p * g
    return out, dq, dk, dv


def heads_of(
    q,
    k,
    *,
    ranks=None,
    block_sizes=None,
    offset=0,
    groups=None,
    level_scales=None,
    mean_levels=False,
    causal=False,
    window=None,
    n_global=0,
    key_mask=None,
    scale=None,
):
    """What :func:`weigh_row` needs to know, for each sequence and each head of nested lists
    [B][H][L][K].
    """
    n_queries = len(q[0][0])
    n_keys = len(k[0][0])
    width = len(q[0][0][0])
    ranks = ranks or (width,)
    levels = {
        "ranks": ranks,
        "block_sizes": block_sizes or default_blocks(max(n_queries, n_keys), len(ranks)),
        "level_scales": level_scales or [1.0] * len(ranks),
        "mean_levels": mean_levels,
        "scale": 1 / math.sqrt(width) if scale is None else scale,
    }
    pattern = {"causal": causal, "window": window, "n_global": n_global}
    for b in range(len(q)):
        for h in range(len(q[b])):
            yield (
                b,
                h,
                {
                    "offset": offset[h] if isinstance(offset, tuple) else offset,
                    "seen_keys": [True] * n_keys if key_mask is None else key_mask[b],
                    "pattern": pattern,
                    "levels": levels,
                    "parts": None
                    if groups is None
                    else [_of_head(level, b, h) for level in groups],
                },
            )


def _of_head(parts, b, h):
    """Parts of the positions of one head, where they are given as [L], [B][L] or [B][H][L]."""
    if not isinstance(parts[0], list):
        return parts
    return parts[b][h] if isinstance(parts[0][0], list) else parts[b]


def attention_loops(q, k, v, grad, **options):
    """Attention of nested lists [B][H][L][...]: the result, and for its gradient ``grad`` those of
    q, k and v.

    A query that sees no key gets zeros. The last query stands at the last key. Where k or v have
    fewer heads, as many neighbouring heads of q share each, whose gradients add up.
    """
    dv = [[[[0.0] * len(row) for row in head] for head in sequence] for sequence in v]
    out = [[None] * len(sequence) for sequence in q]
    dq = [[None] * len(sequence) for sequence in q]
    dk = [[[[0.0] * len(row) for row in head] for head in sequence] for sequence in k]
    for b, h, head in heads_of(q, k, **options):
        to_k, to_v = (math.floor(h * len(x[b]) / len(q[b])) for x in (k, v))
        out[b][h], dq[b][h], part_k, part_v = attend_one_head(
            q[b][h], k[b][to_k], v[b][to_v], grad[b][h], **head
        )
        for target, part in ((dk[b][to_k], part_k), (dv[b][to_v], part_v)):
            for target_row, part_row in zip(target, part, strict=True):
                for c, number in enumerate(part_row):
                    target_row[c] += number
    return out, dq, dk, dv


def weights_loops(q, k, **options):
    """Weights of attention, nested lists [B][H][Lq][Lk]; zero where nothing is seen."""
    answer = [[[[0.0] * len(k[0][0]) for _ in head] for head in sequence] for sequence in q]
    for b, h, head in heads_of(q, k, **options):
        for row, weights in enumerate(answer[b][h]):
            keys, _, seen = weigh_row(
                row, q[b][h], k[b][math.floor(h * len(k[b]) / len(q[b]))], **head
            )
            for j, weight in zip(keys, seen, strict=True):
                weights[j] = weight
    return answer
