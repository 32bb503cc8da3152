"""The formulas of attention layers, pair by pair in float64, from the parameters alone.

Nothing here calls the package: scores are made for one pair of tokens after another, so that
gradients by autograd are independent of the kernels' own.
"""

import math

import torch
from oracles import visible


def head(vector, number, width):
    """The features of one head."""
    return vector[number * width : (number + 1) * width]


def normalised(vector, norm):
    """Layer norm, written out."""
    mean = vector.sum() / len(vector)
    variance = ((vector - mean) ** 2).sum() / len(vector)
    return (vector - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias


def turned(vector, position, ranks):
    """Rotary embedding: in each slice, the pair (i, i + r/2) is a complex number turned by position
    * 10000^(-2i/r).
    """
    out = []
    start = 0
    for rank in ranks:
        part = vector[start : start + rank]
        start += rank
        pairs = [(part[i], part[i + rank // 2]) for i in range(rank // 2)]
        angles = [position * 10000 ** (-2 * i / rank) for i in range(rank // 2)]
        out += [a * math.cos(t) - b * math.sin(t) for (a, b), t in zip(pairs, angles, strict=True)]
        out += [a * math.sin(t) + b * math.cos(t) for (a, b), t in zip(pairs, angles, strict=True)]
    return torch.stack(out)


def dot_features(score, tokens, rows, n_heads, *, first, norm=None, ranks=None):
    """Queries or keys [token][head] of a score with one linear map: output rows
    ``first`` and on.
    """
    width = rows // n_heads
    features = []
    for position, token in enumerate(tokens):
        whole = (
            score.project.weight[first : first + rows] @ token
            + score.project.bias[first : first + rows]
        )
        heads = [head(whole, h, width) for h in range(n_heads)]
        if norm is not None:
            heads = [normalised(each, norm) for each in heads]
        if ranks is not None:
            heads = [turned(each, position, ranks) for each in heads]
        features.append(heads)
    return features


def level_score(q, k, i, j, *, ranks, block_sizes, offset, scale, level_scales, mean_levels):
    """Sum over the levels that a pair shares."""
    total = 0.0
    shared = 0
    start = 0
    for level, (rank, size, factor) in enumerate(
        zip(ranks, block_sizes, level_scales, strict=True)
    ):
        if level == 0 or (i + offset) // size == (j + offset) // size:
            total = (
                total + scale * factor * (q[start : start + rank] * k[start : start + rank]).sum()
            )
            shared += 1
        start += rank
    return total / shared if mean_levels else total


def rows_of_weights(score_of, n_queries, n_keys, pattern):
    """Softmax weights [query][key] of a function that scores a pair; hidden pairs are 0."""
    weights = []
    for i in range(n_queries):
        seen = [j for j in range(n_keys) if visible(i, j, **pattern)]
        powers = [torch.exp(score_of(i, j)) for j in seen]
        total = sum(powers)
        row = [torch.zeros((), dtype=torch.float64) for _ in range(n_keys)]
        for j, power in zip(seen, powers, strict=True):
            row[j] = power / total
        weights.append(row)
    return weights


def layer_output(layer, tokens, weights_of_head, n_heads, n_value_heads):
    """Values of each head, weighted, side by side, through the last map; tokens are those looked
    at.
    """
    width = layer.value.weight.shape[0] // n_value_heads
    values = [layer.value.weight @ token + layer.value.bias for token in tokens]
    weights = [weights_of_head(h) for h in range(n_heads)]
    out = []
    for i in range(len(weights[0])):
        heads = []
        for h in range(n_heads):
            group = h // (n_heads // n_value_heads)
            heads.append(
                sum(w * head(v, group, width) for w, v in zip(weights[h][i], values, strict=True))
            )
        out.append(layer.out.weight @ torch.cat(heads) + layer.out.bias)
    return torch.stack(out), weights
