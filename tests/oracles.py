"""What is the right answer? Loops over single numbers in float64, written from the formulas and sharing no code."""

import math


def default_blocks(length, n_levels):
    """Halving blocks: the finest is the length divided by 2^(n-1), rounded up; each coarser one is twice as long."""
    sizes = [math.ceil(length / 2 ** (n_levels - 1))]
    while len(sizes) < n_levels:
        sizes.insert(0, 2 * sizes[0])
    return sizes


def visible(i, j, *, causal=False, window=None, n_global=0):
    """May the query at position i see the key at position j?"""
    if causal and j > i:
        return False
    if window is None or i < n_global or j < n_global:
        return True
    return abs(i - j) <= window - 1


def level_factors(i, j, *, ranks, block_sizes, offset, level_scales, mean_levels, scale):
    """What each level's dot product is multiplied by for one pair of positions: zero where no block is shared."""
    shared = []
    for level in range(len(ranks)):
        here, there = math.floor((i + offset) / block_sizes[level]), math.floor((j + offset) / block_sizes[level])
        shared.append(level == 0 or here == there)
    divisor = sum(shared) if mean_levels else 1
    return [scale * s / divisor if yes else 0.0 for s, yes in zip(level_scales, shared, strict=True)]


def feature_factors(ranks, factors):
    """The same, one number a feature."""
    return [factor for rank, factor in zip(ranks, factors, strict=True) for _ in range(rank)]


def softmax(scores):
    """Weights of a list of scores."""
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


def attend_one_head(q, k, v, grad, *, offset, seen_keys, pattern, levels):
    """Result and gradients of one head of one sequence; everything is a list of lists of floats.

    Gradients by the chain rule on paper: with weights p, result o and its gradient g, the score of a pair has the
    gradient p_j (g . v_j - sum over m of p_m g . v_m).
    """
    n_queries, n_keys = len(q), len(k)
    out = [[0.0] * len(v[0]) for _ in q]
    dq, dk, dv = ([[0.0] * len(x[0]) for _ in x] for x in (q, k, v))
    for row in range(n_queries):
        i = row + n_keys - n_queries
        keys = [j for j in range(n_keys) if seen_keys[j] and visible(i, j, **pattern)]
        if not keys:
            continue
        factors = [feature_factors(levels["ranks"], level_factors(i, j, offset=offset, **levels)) for j in keys]
        weights = softmax(
            [
                sum(f * a * b for f, a, b in zip(fs, q[row], k[j], strict=True))
                for fs, j in zip(factors, keys, strict=True)
            ]
        )
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


def attention_loops(
    q,
    k,
    v,
    grad,
    *,
    ranks=None,
    block_sizes=None,
    offset=0,
    level_scales=None,
    mean_levels=False,
    causal=False,
    window=None,
    n_global=0,
    key_mask=None,
    scale=None,
):
    """Attention of nested lists [B][H][L][...]: the result, and for its gradient ``grad`` those of q, k and v.

    A query that sees no key gets zeros. The last query stands at the last key.
    """
    n_queries, n_keys, width = len(q[0][0]), len(k[0][0]), len(q[0][0][0])
    ranks = ranks or (width,)
    levels = {
        "ranks": ranks,
        "block_sizes": block_sizes or default_blocks(max(n_queries, n_keys), len(ranks)),
        "level_scales": level_scales or [1.0] * len(ranks),
        "mean_levels": mean_levels,
        "scale": 1 / math.sqrt(width) if scale is None else scale,
    }
    pattern = {"causal": causal, "window": window, "n_global": n_global}
    answers = []
    for b in range(len(q)):
        seen_keys = [True] * n_keys if key_mask is None else key_mask[b]
        heads = []
        for h in range(len(q[b])):
            shift = offset[h] if isinstance(offset, tuple) else offset
            heads.append(
                attend_one_head(
                    q[b][h],
                    k[b][h],
                    v[b][h],
                    grad[b][h],
                    offset=shift,
                    seen_keys=seen_keys,
                    pattern=pattern,
                    levels=levels,
                )
            )
        answers.append(heads)
    return tuple([[head[part] for head in heads] for heads in answers] for part in range(4))
