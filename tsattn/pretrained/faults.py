"""Faults of loggers and tables, which hide what a series would have been.

A network that learns from teachers may see contexts with faults of which the teachers see the right
values (:class:`tsattn.pretrained.recipes.Recipe`).
"""

import numpy as np

from tsattn.pretrained.draws import Array, Rng, Source, changes, hold

# Shares of the steps that are faulty.
_LEAST_SHARE = 0.01
_MOST_SHARE = 0.15
# Distances of wrong values to the mean of a series, in deviations.
_NEAREST = 2.0
_FARTHEST = 30.0
# Blocks of faults are so many steps long on average, at most a sixteenth of the series.
_SHORTEST_BLOCK = 3
_BLOCKS_A_SERIES = 16
# Share of the steps, the last ones, that have no block: a new level looks alike.
_CLEAN_SHARE = 0.1


def add_faults(x: Array, rng: Rng, share: float) -> Array:
    """Series with faults in some of them.

    A series gets one of four kinds, on 1 to 15% of its steps: one number again and again, as a
    logger writes 0 where it has nothing, at single steps or in blocks; other values at single
    steps, on both sides of the series; or blocks of the value before them, as a sensor that hangs
    gives. Wrong values lie 2 to 30 deviations from the mean. The last tenth has no block.

    Args:
        x: Series ``[N, T]``; NaN is missing, and stays so.
        rng: Source of randomness.
        share: Of the series that get faults.

    Returns:
        Series of the same shape.
    """
    source = Source(rng, *x.shape)
    mean, spread = _moments(x)
    faulty_share = source.log_uniform(_LEAST_SHARE, _MOST_SHARE)
    single = source.random() < faulty_share
    is_change = changes(source, _SHORTEST_BLOCK, source.length / _BLOCKS_A_SERIES)
    draws = hold(source.random(), is_change)
    is_early = source.steps < (1 - _CLEAN_SHARE) * source.length
    blocks = (draws < faulty_share) & is_early

    distance = source.log_uniform(_NEAREST, _FARTHEST)
    one_number = mean + source.signs() * distance * spread
    one_number = np.broadcast_to(one_number, source.shape)
    side = np.where(source.random() < 0.5, 1, -1)
    nearness = source.random()
    scattered = mean + side * (_NEAREST + nearness * distance) * spread
    held = hold(x, ~blocks)

    kind = source.integers(0, 4)
    values = np.choose(kind, [one_number, one_number, scattered, held])
    places = np.choose(kind, [single, blocks, single, blocks])
    is_observed = ~np.isnan(x) & ~np.isnan(values)
    is_faulty = places & source.chance(share) & is_observed
    faulty = np.where(is_faulty, values, x)
    return faulty.astype(x.dtype)


def _moments(x: Array) -> tuple[Array, Array]:
    """Mean and deviation [N, 1] of the observed values, 0 where there is none."""
    observed = ~np.isnan(x)
    count = observed.sum(1, keepdims=True).clip(1)
    mean = np.where(observed, x, 0).sum(1, keepdims=True) / count
    centred = np.where(observed, x - mean, 0)
    variance = np.square(centred).sum(1, keepdims=True) / count
    return mean, np.sqrt(variance)
