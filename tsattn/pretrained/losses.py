"""What the pretrained network learns by: pinball loss of truths, or forecasts of teachers."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from tsattn.pretrained.contexts import (
    RecentMeasure,
    changes_since,
    in_deviations,
    measure_recent,
)
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.period import Seasons

# Targets beyond this many deviations, in the space of the arcsinh, count as those at it. Deviations
# of a recent part are smaller.
_FARTHEST = {"whole": 3.5, "recent": 4.5}
# Changes smaller than about this, in the same space, make a window no more important.
_LEAST_CHANGE = 0.05
# Observed values of a context that training needs at least.
_LEAST_VALUES = 3
# Steps ahead after which a step weighs 2^(-1/2) of the first one.
_HALF_WEIGHT_STEPS = 16
# Weights of a loss that sum to less are no divisor.
_LEAST_WEIGHT = 1e-6
# Probabilities between which most of a distribution lies, and its least width, in deviations.
_MOST = (0.1, 0.9)
_LEAST_WIDTH = 1e-3


def pinball(
    network: ZeroNetwork,
    x: Tensor,
    y: Tensor,
    n_tokens: int | None = None,
    *,
    weighed: bool = False,
) -> Tensor:
    """Mean pinball loss of a batch, weighted as :func:`pinball_terms` says.

    Args:
        network: What forecasts.
        x: Contexts, ``[B, T]``.
        y: Futures, ``[B, F]``.
        n_tokens: Tokens of the context at most; default that of the network.
        weighed: Whether windows also weigh as :func:`weigh` says.
    """
    x, seasons = network.look(x, y.shape[1])
    losses, weight = pinball_terms(network, x, y, n_tokens, seasons)
    if weighed:
        importance = weigh(x, seasons.period, network.config.measure)
        importance = importance[:, None, None]
        losses = losses * importance
        weight = weight * importance
    total_weight = weight.sum().clamp_min(_LEAST_WEIGHT)
    return losses.sum() / total_weight


def weigh(x: Tensor, period: Tensor, measure: str = "whole") -> Tensor:
    """Importance of contexts [B T] of these seasons [B].

    It is 1 / (c + .05), c the mean absolute change from one step to the next, or from one season to
    the next where that is less, in the space of the arcsinh. Errors are judged in units of such
    changes (MASE). Without weights a series of small changes around a level that moved far would
    hardly count.

    Args:
        x: Contexts; NaN is missing.
        period: Season of each.
        measure: As in :class:`ZeroConfig`. ``"recent"`` looks at the changes of the recent part.
    """
    is_recent = torch.ones_like(x, dtype=torch.bool)
    if measure == "recent":
        n_steps = x.shape[1]
        age = torch.arange(n_steps, 0, -1, device=x.device)
        n_recent = RecentMeasure().length(period)
        is_recent = age <= n_recent[:, None]
        scaled = _in_recent_deviations(x, is_recent)
    else:
        scaled = _in_deviations(x)
    step_changes = scaled.diff(dim=1).abs()
    step_changes = torch.where(is_recent[:, 1:], step_changes, torch.nan)
    step_change = step_changes.nanmean(1)
    season_changes = changes_since(scaled, period).abs()
    is_seasonal = (period > 0)[:, None]
    season_changes = torch.where(is_seasonal & is_recent, season_changes, torch.nan)
    season_change = season_changes.nanmean(1)
    # A missing change gives way to the other one.
    change = torch.fmin(step_change, season_change)
    change = change.nan_to_num(1.0)
    return 1 / (change + _LEAST_CHANGE)


def _in_recent_deviations(x: Tensor, is_recent: Tensor) -> Tensor:
    """Contexts in deviations of their recent parts, in the space of the arcsinh."""
    observed = x.isfinite()
    # One token that holds all steps.
    values = x.nan_to_num(0.0)[:, None]
    measured, *_ = measure_recent(values, observed[:, None], is_recent[:, None])
    scaled = measured[:, 0]
    return torch.where(observed, scaled, torch.nan)


def _in_deviations(x: Tensor) -> Tensor:
    """Contexts in deviations of all their values, in the space of the arcsinh."""
    n_observed = x.isfinite().sum(1, keepdim=True).clamp_min(1)
    total = x.nan_to_num(0.0).sum(1, keepdim=True)
    mean = total / n_observed
    centred = x - mean
    squares = centred.nan_to_num(0.0).square()
    variance = squares.sum(1, keepdim=True) / n_observed
    spread = variance.sqrt()
    unit = torch.where(spread > 0, spread, 1.0)
    return torch.asinh(centred / unit)


def pinball_terms(
    network: ZeroNetwork,
    x: Tensor,
    y: Tensor,
    n_tokens: int | None = None,
    seasons: Seasons | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted pinball losses of a batch in the space of the arcsinh, and their weights.

    A step h (from 0) weighs ``(1 + h / 16)^(-1/2)``. Windows of which fewer than three values are
    observed, or whose context does not vary, weigh nothing.

    Returns:
        Losses and weights of the slots of M future tokens, ``[B, M, P]`` each.
    """
    slots, tokens, mean, spread = network(x, y.shape[1], n_tokens, seasons)
    farthest = _FARTHEST[network.config.measure]
    target = network.squeeze(y, tokens, mean, spread)
    target = target.clamp(-farthest, farthest)
    usable = _is_usable(x, spread)
    step = tokens.slots()[0].clamp_min(0)
    weight = _step_weight(step)
    weight = weight * target.isfinite() * usable[:, None, None]
    levels = torch.tensor(network.quantile_levels, device=slots.device)
    truth = target.nan_to_num(0.0)[..., None]
    error = truth - slots
    # Twice, so that the loss of a median is the absolute error.
    losses = 2 * _pinball(error, levels).mean(3)
    return losses * weight, weight


def _step_weight(step: Tensor) -> Tensor:
    """Weight of steps ahead, from 0 on."""
    return (1 + step / _HALF_WEIGHT_STEPS).rsqrt()


def _pinball(error: Tensor, levels: Tensor) -> Tensor:
    """Pinball losses of truths less quantiles, at the probabilities of these."""
    above = levels * error
    below = (levels - 1) * error
    return torch.maximum(above, below)


class Teachers:
    """Trained networks whose mean forecast another one learns.

    Each forecasts a window and its mirror image, in which every value has the other sign. It
    answers the two differently, and the mean of both is better than either.

    Args:
        networks: Of any sizes, with equal quantiles.

    Raises:
        ValueError: If there is none, or their quantiles differ.
    """

    def __init__(self, networks: Sequence[ZeroNetwork]) -> None:
        levels = {network.quantile_levels for network in networks}
        if len(levels) != 1:
            raise ValueError(
                f"teachers must answer the same quantiles; got {len(levels)} sets of"
                f" {len(networks)} networks"
            )
        self.networks = tuple(networks)
        (self.quantile_levels,) = levels

    @torch.no_grad()
    def forecast(
        self, x: Float[Tensor, "B T"], horizon: int, n_tokens: int | None, seasons: Seasons
    ) -> Float[Tensor, "B F Q"]:
        """Mean quantiles in the units of the series, float64.

        Args:
            x: Contexts that are read as they are.
            horizon: Steps ahead.
            n_tokens: Tokens of the context at most; default that of each network.
            seasons: Those of each series; a mirror image has the same.
        """
        n_windows = len(x)
        row = torch.arange(n_windows, device=x.device)
        both = torch.cat([x, -x])
        rows_of_both = torch.cat([row, row])
        seasons = seasons.rows(rows_of_both)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        for network in self.networks:
            slots, tokens, mean, spread = network(both, horizon, n_tokens, seasons)
            quantiles = network.by_step(slots, tokens, mean, spread, horizon)
            # The largest quantile of a mirror image is the smallest one, with the other sign.
            mirrored = quantiles[n_windows:].flip(2)
            total = total + quantiles[:n_windows] - mirrored
        n_forecasts = 2 * len(self.networks)
        return total / n_forecasts


def expected_pinball(
    network: ZeroNetwork,
    teachers: Teachers,
    x: Float[Tensor, "B T"],
    horizon: int,
    n_tokens: int | None = None,
    seen: Float[Tensor, "B T"] | None = None,
) -> Tensor:
    """Mean pinball loss of a network, expected if truths are as its teachers forecast.

    A truth is one of the teachers' quantiles, each as probable as what is nearer to it than to
    others. A network that cannot tell windows apart learns the mixture of their distributions by
    this loss, and the mean of their quantiles, which is narrower, by :func:`distance`.

    Args:
        network: What learns.
        teachers: What it learns from, with the same quantiles.
        x: Contexts.
        horizon: Steps ahead.
        n_tokens: Tokens of the context at most; default that of each network.
        seen: What the network sees of the contexts; default all.
    """
    lesson = _lesson(network, teachers, x, horizon, n_tokens, seen)
    levels = torch.tensor(network.quantile_levels, device=x.device)[:, None]
    # [B F Q Q]: quantiles of the network down, truths that are quantiles of the teachers across.
    error = lesson.target[..., None, :] - lesson.quantiles[..., None]
    losses = 2 * _pinball(error, levels)
    probabilities = _nearest(network)
    expected = (losses @ probabilities).mean(2)
    return lesson.mean(expected)


def distance(
    network: ZeroNetwork,
    teachers: Teachers,
    x: Float[Tensor, "B T"],
    horizon: int,
    n_tokens: int | None = None,
    seen: Float[Tensor, "B T"] | None = None,
) -> Tensor:
    """Mean distance of the quantiles of a network to those of its teachers.

    In the space of the arcsinh of the network, a quantile at distance d is ``w (sqrt(1 + (d / w)^2)
    - 1)`` away, w the distance of the teachers' quantiles .1 and .9: about ``d^2 / 2w``, as an
    expected pinball loss grows, and ``|d|`` far away. A quantile weighs as the probability that is
    nearer to it than to others, steps and windows as in :func:`pinball`.

    Args:
        network: What learns.
        teachers: What it learns from, with the same quantiles.
        x: Contexts.
        horizon: Steps ahead.
        n_tokens: Tokens of the context at most; default that of each network.
        seen: What the network sees of the contexts; default all.
    """
    lesson = _lesson(network, teachers, x, horizon, n_tokens, seen)
    low, high = (network.quantile_levels.index(level) for level in _MOST)
    spread = lesson.target[..., high] - lesson.target[..., low]
    width = spread.clamp_min(_LEAST_WIDTH)[..., None]
    difference = lesson.target - lesson.quantiles
    offset = difference / width
    root = (1 + offset.square()).sqrt()
    distances = width * (root - 1)
    weighted = distances * _nearest(network)
    return lesson.mean(weighted.sum(2))


class _Lesson(NamedTuple):
    """What a network forecasts and what its teachers do, in the space of its arcsinh."""

    quantiles: Float[Tensor, "B F Q"]
    target: Float[Tensor, "B F Q"]
    weight: Float[Tensor, "B F"]  # of windows and steps, as in :func:`pinball`

    def mean(self, losses: Float[Tensor, "B F"]) -> Tensor:
        """Weighted mean."""
        weighted = losses * self.weight
        total_weight = self.weight.sum().clamp_min(_LEAST_WEIGHT)
        return weighted.sum() / total_weight


def _lesson(
    network: ZeroNetwork,
    teachers: Teachers,
    x: Tensor,
    horizon: int,
    n_tokens: int | None,
    seen: Tensor | None,
) -> _Lesson:
    """Forecasts of a network from what it sees, and of its teachers from the contexts [B T]."""
    x, seasons = network.look(x, horizon)
    seen, seen_seasons = (x, seasons) if seen is None else network.look(seen, horizon)
    slots, tokens, mean, spread = network(seen, horizon, n_tokens, seen_seasons)
    quantiles = network.squeezed_by_step(slots, tokens, horizon)
    taught = teachers.forecast(x, horizon, n_tokens, seasons)
    scaled = in_deviations(taught, mean, spread)
    measure = network.config.measure
    farthest = _FARTHEST[measure]
    target = scaled.asinh().clamp(-farthest, farthest)
    target = target.to(quantiles.dtype)
    step = torch.arange(horizon, device=x.device)
    usable = _is_usable(x, spread)
    weight = _step_weight(step) * usable[:, None]
    weight = weight * weigh(x, seasons.period, measure)[:, None]
    return _Lesson(quantiles, target, weight)


def _nearest(network: ZeroNetwork) -> Float[Tensor, " Q"]:
    """Probability that is nearer to each quantile of a network than to others."""
    first_parameter = next(network.parameters())
    levels = torch.tensor(network.quantile_levels, device=first_parameter.device)
    middles = (levels[1:] + levels[:-1]) / 2
    # From 0 over the middles to 1.
    edges = pad(middles, (1, 0))
    edges = pad(edges, (0, 1), value=1.0)
    return edges.diff()


def _is_usable(x: Tensor, spread: Tensor) -> Tensor:
    """Whether enough values of each context are observed, and they vary."""
    n_observed = x.isfinite().sum(1)
    is_varying = spread[:, 0] > 0
    return (n_observed >= _LEAST_VALUES) & is_varying
