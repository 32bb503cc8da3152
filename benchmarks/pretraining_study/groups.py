"""Levels across series: networks that read the columns of a group as well as its target, trained
alike on synthetic groups.

Each arm starts from the same trained weights and learns for the number of steps that take the core
seconds of the options at its pace. The first record is of these weights themselves. An opinion is
an estimate of the columns' effect on the target, by a
:class:`tsattn.forecasters.local_regression.LocalRegression` of a longer or a shorter memory. The
arm "levels" reads columns and opinions as further series, by one attention whose levels are parts
of all series' tokens; "alternating" reads them by attention over time and over series in turn;
"slots" reads the opinions as further inputs of the target's tokens; "none" reads nothing. All arms
but "none" add a learned share of each opinion to their forecast. The way "residual" takes the first
opinion off the target and adds it to the forecast. Recorded runs are not repeated, and a killed run
goes on. Run: PYTHONPATH=benchmarks
python benchmarks/pretraining_study/groups.py --folder DIR --start FILE [--arm NAME ...]
[--rate RATE ...]
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from records import RESULTS, Record, Records, parse
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tsattn.forecasters.local_regression import LocalRegression
from tsattn.kernels import attend
from tsattn.kernels.geometry import Levels
from tsattn.limits import keep_memory, limit_threads
from tsattn.nn.attention import Attention
from tsattn.nn.layers import linear
from tsattn.nn.scores import DotScore, Places
from tsattn.pretrained.contexts import measure_whole
from tsattn.pretrained.groups import COUPLINGS, UNIVARIATE, Groups, make_groups
from tsattn.pretrained.network import Tokens, ZeroConfig, ZeroNetwork, last_value, read_slots
from tsattn.pretrained.period import Seasons
from tsattn.pretrained.pretraining import SIZES, make_optimizers
from tsattn.storage import write_atomic

FILE = "groups_study.jsonl"
# The weights of the start measure a window by all that it holds.
CONFIG = replace(SIZES["base"], measure="whole")
KEY = ("arm", "way", "rate", "seconds", "seed")
N_TOKENS = 48
LENGTH = 432
HORIZON = 32
# What is subtracted from the target: nothing, the first opinion, or the true effect, which is known
# for synthetic groups only.
WAYS = ("plain", "residual", "truth")
# Rows that the opinions are regressions of.
MEMORIES = (432, 144)
N_VALIDATION = 512
VALIDATION_SEED = 2**32 - 1
# Rate of parameters that are no matrices over that of matrices.
OTHER_RATE = 0.1
# Rate of an arm's new parameters, which begin at zero, over that of the trained weights.
NEW_RATE = 5.0
# Share of the steps in which the rate rises.
WARMUP = 0.05
# Steps between two states that are saved; a killed run goes on from the last one.
STEPS_OF_STATE = 500
# Bounds of targets in the loss, and of forecasts, in the space of the arcsinh.
FARTHEST = 3.5
FAR = 9.0
# Windows of a validation batch.
_VALIDATION_BATCH = 32
# Features of a level across series: one that is constant, and learnt ones.
LEVEL = 6
# Score of pairs of one series, and of pairs of one time, at the start; others have 0. So at first
# the target attends to itself, and to other series at the same time.
WITHIN = 6.0
AT_ONCE = 6.0
# Bound of the numbers of one series' parts.
PARTS = 2**20


class Arm(NamedTuple):
    """Windows of a step, and steps a core second, measured for all arms on the same hardware."""

    n_windows: int
    pace: float


# The weights of the start, which read no columns, and are not trained.
START = {"arm": "none", "way": "plain", "rate": 0.0, "seconds": 0, "seed": 0}
ARMS = {
    "none": Arm(32, 9.0),
    "slots": Arm(32, 9.0),
    "levels": Arm(12, 3.9),
    "alternating": Arm(12, 4.9),
}


@dataclass(frozen=True)
class GroupPlaces(Places):
    """Places of the tokens of all series, and a mask of the target's tokens, [N]."""

    is_target: Tensor | None = None


class SeriesAttention(Attention):
    """The attention of a trained block over the tokens of several series, with two more levels.

    Scores within one series are those of the trained block plus a constant; pairs of one series and
    pairs of one time have further features. The values of other series are multiplied by a learned
    factor of each head, which is 0 at the start.
    """

    def __init__(self, old: Attention, d_model: int, generator: torch.Generator | None) -> None:
        super().__init__(d_model, score=old.score, generator=generator)
        n_heads = old.score.n_heads
        self.width = 2 * (LEVEL - 1)
        self.more = linear(d_model, 2 * n_heads * self.width, generator=generator)
        with torch.no_grad():
            self.more.weight[: n_heads * self.width] = 0.0
            for layer in (self.out, self.more):
                layer.bias.zero_()
            self.out.weight.zero_()
        self.within = nn.Parameter(torch.full((n_heads,), WITHIN))
        self.at_once = nn.Parameter(torch.full((n_heads,), AT_ONCE))
        self.gate = nn.Parameter(torch.zeros(n_heads))

    def forward(self, x: Tensor, *, key_mask: Tensor, places: GroupPlaces, n_last: int) -> Tensor:
        """Outputs of the last tokens."""
        n_heads = self.score.n_heads
        d_key = self.score.d_key
        is_target = places.is_target
        old_q, old_k = self.score.features_at(x, places, n_last)
        # [2 B H L 2 (LEVEL - 1)]: of queries and of keys, for each of the two levels.
        new_features = self.more(x).unflatten(2, (2, n_heads, 2, LEVEL - 1))
        new_q, new_k = new_features.permute(2, 0, 3, 1, 4, 5)
        new_q = new_q[:, :, x.shape[1] - n_last :]
        constant_q = torch.stack([self.within, self.at_once], dim=1)[:, None] * d_key**0.5
        # A token of the target shares both its series and its time with itself; without the zero it
        # would attend to itself too much.
        constant_k = torch.stack([torch.ones_like(is_target), ~is_target], dim=1).to(old_k.dtype)
        q = _with_levels(old_q, constant_q, new_q)
        k = _with_levels(old_k, constant_k, new_k)
        v = self.value(x).unflatten(2, (n_heads, -1)).transpose(1, 2)
        v = v * torch.where(is_target[:, None], 1.0, self.gate).T[None, :, :, None]
        levels = Levels((*self.score.levels.ranks, LEVEL, LEVEL))
        mixed = attend(
            q, k, v, levels=levels, groups=places.groups, key_mask=key_mask, scale=d_key**-0.5
        )
        return self.out(mixed.transpose(1, 2).flatten(2))


def _with_levels(features: Tensor, constant: Tensor, new: Tensor) -> Tensor:
    """Features followed by those of further levels, each a constant one and the new ones."""
    constants = constant.expand(*new.shape[:4])[..., None]
    of_levels = torch.cat([constants, new], dim=4).flatten(3)
    return torch.cat([features, of_levels], dim=3)


class AcrossSeries(nn.Module):
    """Attention of each token to the tokens of all series at its time, added to its state; zero at
    the start.
    """

    def __init__(self, config: ZeroConfig, generator: torch.Generator | None) -> None:
        super().__init__()
        score = DotScore(config.d_model, config.n_heads, norm=True, generator=generator)
        self.attention = Attention(config.d_model, score=score, generator=generator)
        self.norm = nn.LayerNorm(config.d_model)
        with torch.no_grad():
            self.attention.out.weight.zero_()
            self.attention.out.bias.zero_()

    def forward(self, x: Tensor, key_mask: Tensor) -> Tensor:
        """States ``[B, L, S, D]``; a token may be attended to where the mask ``[B, L, S]`` is
        true.
        """
        mixed = self.attention(self.norm(x).flatten(0, 1), key_mask=key_mask.flatten(0, 1))
        return x + mixed.unflatten(0, x.shape[:2])


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows: contexts, futures, seasons, opinions and columns ``[B, S, T + F]``; unknown values
    are NaN.
    """

    x: Tensor
    y: Tensor
    seasons: Seasons
    opinions: Tensor
    columns: Tensor


class GroupNetwork(ZeroNetwork):
    """The network of an arm."""

    def __init__(
        self, arm: str, config: ZeroConfig, *, generator: torch.Generator | None = None
    ) -> None:
        self.arm = arm
        super().__init__(config, generator=generator)
        width = config.d_model
        n_opinions = len(MEMORIES)
        self.reader = linear(2 * n_opinions * config.max_len, width, generator=generator)
        self.share = linear(width, n_opinions, generator=generator)
        # Added to tokens of further series: one vector for each opinion, and one for all columns.
        self.kinds = nn.Parameter(torch.randn(n_opinions + 1, width, generator=generator))
        with torch.no_grad():
            for layer in (self.reader, self.share):
                layer.weight.zero_()
                layer.bias.zero_()

    def _block(self, generator: torch.Generator | None) -> Any:
        block = super()._block(generator)
        if self.arm == "levels":
            block.attention = SeriesAttention(block.attention, self.config.d_model, generator)
        if self.arm == "alternating":
            block.across = AcrossSeries(self.config, generator)
        return block

    def forward(
        self, batch: Batch, horizon: int, n_tokens: int = N_TOKENS
    ) -> tuple[Tensor, Tokens, Tensor, Tensor]:
        """As :meth:`ZeroNetwork.forward`, of windows with opinions and columns."""
        x = batch.x
        seasons = batch.seasons
        tokens = self._cut(seasons, x.shape[1], horizon, n_tokens)
        index, inside = tokens.slots()
        values, is_observed = read_slots(x, index, inside)
        scaled, level, spread = measure_whole(values, is_observed)
        observed = is_observed.to(scaled.dtype)
        facts = self._facts(seasons, x)[:, None].expand(-1, index.shape[1], -1).to(scaled.dtype)
        inputs = [scaled, observed, inside.to(scaled.dtype), facts]
        states = self._embed(torch.cat(inputs, dim=2), tokens)
        is_future = tokens.index >= 0
        n_future = int(is_future.sum())
        key_mask = (observed.sum(2) > 0) | (is_future & (tokens.starts() < horizon))
        opinions, has_opinion = read_series(batch.opinions, x.shape[1], index, inside)
        opinions = self._squeeze_opinions(opinions, spread).to(scaled.dtype)
        has_columns = opinions.shape[1] > 0
        if self.arm == "slots" and has_columns:
            inputs = [opinions, has_opinion.to(scaled.dtype)]
            states = states + self.reader(torch.cat(inputs, dim=1).transpose(1, 2).flatten(2))
        places = self._places(tokens, seasons.period)
        if self.arm in ("levels", "alternating") and has_columns:
            columns, has_value = read_series(batch.columns, x.shape[1], index, inside)
            series = torch.cat([opinions, scale_columns(columns, has_value)], dim=1)
            series_mask = torch.cat([has_opinion, has_value], dim=1)
            further = self._embed_series(series, series_mask, inside, facts, tokens)
            states = torch.cat([further, states[:, None]], dim=1)
            key_mask = torch.cat([series_mask.any(3), key_mask[:, None]], dim=1)
            states = self._mix_series(states, tokens, places, key_mask, n_future)
        elif self.arm == "levels":
            states = self._mix_series(states[:, None], tokens, places, key_mask[:, None], n_future)
        else:
            states = self._mix(states, places, key_mask, n_future)
        answer = self._answer(states, last_value(scaled, observed))
        if self.arm != "none" and has_columns:
            shares = self.share(states)
            answer = answer + self._weighted(shares, opinions[:, :, -n_future:])
        return answer, replace(tokens, index=tokens.index[is_future]), level, spread

    @staticmethod
    def _squeeze_opinions(opinions: Tensor, spread: Tensor) -> Tensor:
        """Opinions in the space of the arcsinh of the target."""
        positive_spread = torch.where(spread > 0, spread, 1.0)
        return torch.asinh(opinions / positive_spread[:, None, :, None])

    @staticmethod
    def _weighted(shares: Tensor, opinions: Tensor) -> Tensor:
        """Opinions ``[B, O, M, P]`` of the future weighted by shares ``[B, M, O]``, alike for all
        quantiles.
        """
        return torch.einsum("bmo,bomp->bmp", shares, opinions)[..., None]

    def _embed_series(
        self, values: Tensor, is_observed: Tensor, inside: Tensor, facts: Tensor, tokens: Tokens
    ) -> Tensor:
        """Tokens of further series ``[B, S, L, D]``, embedded as those of the target, plus a vector
        of their kind.
        """
        n_series = values.shape[1]
        dtype = values.dtype
        parts = [
            values,
            is_observed.to(dtype),
            inside.to(dtype)[:, None].expand_as(values),
            facts[:, None].expand(-1, n_series, -1, -1),
        ]
        kind = torch.arange(n_series).clamp_max(len(MEMORIES))
        embedded = self._embed(torch.cat(parts, dim=3).flatten(0, 1), tokens)
        return embedded.unflatten(0, (-1, n_series)) + self.kinds[kind][:, None]

    def _mix_series(
        self, states: Tensor, tokens: Tokens, places: Places, key_mask: Tensor, n_future: int
    ) -> Tensor:
        """States of the target's future from those of all series ``[B, S, L, D]``, the
        target last.
        """
        n_tokens = states.shape[2]
        n_encoded = self.config.encode or n_tokens
        if self.arm == "levels":
            mix = self._mix_levels(tokens, places, key_mask)
        else:
            mix = self._mix_in_turn(places, key_mask)
        last_layer = self.config.n_layers - 1
        for layer in range(self.config.n_layers):
            # Only the future is needed in the end.
            n_mixed = min(n_future + n_encoded, n_tokens)
            if layer == last_layer:
                n_mixed = n_future
            mixed = mix(layer, states, n_mixed)
            states = torch.cat([states[:, :, : n_tokens - n_mixed], mixed], dim=2)
        target: Tensor = self.stack.norm(states[:, -1, -n_future:])
        return target

    def _mix_levels(self, tokens: Tokens, places: Places, key_mask: Tensor) -> Any:
        """One attention over the tokens of all series, in the order of time, the target last at
        each time.
        """
        n_series = key_mask.shape[1]
        series = torch.arange(n_series)
        n_tokens = len(tokens.index)
        groups = []
        for parts in places.groups:
            # Parts of each series have numbers of their own; a negative number is no part.
            of_series = parts[..., None] % PARTS + PARTS * series
            numbers = torch.where(parts[..., None] < 0, -1, of_series)
            groups.append(numbers.flatten(-2))
        times = (tokens.index - tokens.index[0])[:, None].expand(-1, n_series).flatten()
        groups += [series.repeat(n_tokens), times]
        angles = tuple(part.repeat_interleave(n_series, dim=-2) for part in places.angles or ())
        is_target = (series == n_series - 1).repeat(n_tokens)
        flat_places = GroupPlaces(tuple(groups), (angles[0], angles[1]), is_target)
        mask = key_mask.transpose(1, 2).flatten(1)

        def mix(layer: int, states: Tensor, n_mixed: int) -> Tensor:
            flat = states.transpose(1, 2).flatten(1, 2)
            mixed = self.stack.blocks[layer](
                flat, key_mask=mask, places=flat_places, n_last=n_mixed * n_series
            )
            return mixed.unflatten(1, (n_mixed, n_series)).transpose(1, 2)

        return mix

    def _mix_in_turn(self, places: Places, key_mask: Tensor) -> Any:
        """Attention over the time of each series, then over the series of each time, then
        feed-forward.
        """
        n_series = key_mask.shape[1]

        def repeat(parts: Tensor) -> Tensor:
            return parts if parts.ndim == 1 else parts.repeat_interleave(n_series, dim=0)

        angles = tuple(part if part.ndim == 2 else repeat(part) for part in places.angles or ())
        groups = tuple(repeat(parts) for parts in places.groups)
        repeated_places = Places(groups, (angles[0], angles[1]))

        def mix(layer: int, states: Tensor, n_mixed: int) -> Tensor:
            block: Any = self.stack.blocks[layer]
            flat = states.flatten(0, 1)
            over_time = block.attention(
                block.norm_attention(flat),
                key_mask=key_mask.flatten(0, 1),
                places=repeated_places,
                n_last=n_mixed,
            )
            mixed = (flat[:, -n_mixed:] + over_time).unflatten(0, states.shape[:2])
            last_mask = key_mask[:, :, -n_mixed:].transpose(1, 2)
            mixed = block.across(mixed.transpose(1, 2), last_mask).transpose(1, 2)
            flat = mixed.flatten(0, 1)
            flat = flat + block.feed_forward(block.norm_feed_forward(flat))
            return flat.unflatten(0, states.shape[:2])

        return mix


def read_series(
    series: Tensor, n_past: int, index: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor]:
    """Slots ``[B, S, L, P]`` of series that go on over the horizon, 0 where a value is missing, and
    a mask of the values.
    """
    n_rows = series.shape[2]
    place = (index + n_past)[:, None].expand(-1, series.shape[1], -1, -1)
    is_row = inside[:, None] & (place >= 0) & (place < n_rows)
    flat_place = place.clamp(0, n_rows - 1).flatten(2)
    values = series.gather(2, flat_place).view(place.shape)
    is_observed = is_row & ~values.isnan()
    return torch.where(is_observed, values, 0.0), is_observed


def scale_columns(values: Tensor, is_observed: Tensor) -> Tensor:
    """Columns in units of their own, in the space of the arcsinh."""
    scaled, _, _ = measure_whole(values.flatten(0, 1), is_observed.flatten(0, 1))
    return scaled.view(values.shape)


@dataclass(frozen=True, eq=False)
class Pool:
    """Groups with opinions ``[N, O, T + F]``, and by way the contexts without outliers and their
    seasons: as they are ("plain"), less the first opinion ("residual"), or less the true effect
    ("truth").
    """

    groups: Groups
    opinions: Tensor
    contexts: dict[str, tuple[Tensor, Seasons]]

    def away(self, way: str, rows: Tensor | slice = slice(None)) -> Tensor:
        """The series that a way subtracts from the target of some groups, ``[N, T + F]``."""
        if way == "residual":
            return self.opinions[rows, 0]
        effect = torch.from_numpy(self.groups.effect)[rows].double()
        return effect if way == "truth" else torch.zeros_like(effect)

    @cached_property
    def simple(self) -> np.ndarray:
        """A mask of the groups whose coupling is a sum, or none."""
        return np.isin(self.groups.coupling, ["linear", "decoys", UNIVARIATE])

    def batch(self, rows: np.ndarray, way: str) -> Batch:
        """Groups that all have the same number of columns."""
        row_tensor = torch.from_numpy(rows)
        n_columns = int(self.groups.n_columns[rows[0]])
        x, seasons = self.contexts[way]
        target = torch.from_numpy(self.groups.target[rows, LENGTH:]).double()
        y = target - self.away(way, row_tensor)[:, LENGTH:]
        columns = torch.from_numpy(self.groups.columns[rows, :n_columns]).double()
        opinions = self.opinions[row_tensor]
        if not n_columns:
            opinions = opinions[:, :0]
        return Batch(x[row_tensor], y, seasons.rows(row_tensor), opinions, columns)

    def weights(self) -> Tensor:
        """Weights of the windows: deviation of each target without the effect over that with it."""
        past = self.groups.target[:, :LENGTH]
        rest = past - self.groups.effect[:, :LENGTH]
        share = np.nanstd(rest, axis=1, dtype=float) / np.nanstd(past, axis=1, dtype=float)
        return torch.from_numpy(np.clip(np.nan_to_num(share, nan=1.0), 0.05, 1.5))


def make_pool(n: int, seed: int, network: ZeroNetwork) -> Pool:
    """Draw groups, and estimate their opinions."""
    groups = make_groups(n, LENGTH, HORIZON, seed=seed)
    target = torch.from_numpy(groups.target).double()
    past = target[:, :LENGTH]
    x, seasons = network.look(past, HORIZON)
    opinions = torch.from_numpy(give_opinions(x.numpy(), groups, seasons))
    pool = Pool(groups, opinions, {"plain": (x, seasons)})
    for way in WAYS[1:]:
        # Outliers, which are missing in x, stay missing.
        rest = torch.where(x.isnan(), torch.nan, past - pool.away(way)[:, :LENGTH])
        pool.contexts[way] = network.look(rest, HORIZON)
    return pool


def give_opinions(x: np.ndarray, groups: Groups, seasons: Seasons) -> np.ndarray:
    """Effects ``[N, O, T + F]`` by regressions of each memory; 0 for a target without columns."""
    opinions = np.zeros((len(x), len(MEMORIES), LENGTH + HORIZON))
    periods = seasons.period.numpy()
    cycles = seasons.cycle.numpy()
    cycles = np.where(cycles > periods, cycles, 0)
    # Groups of one season share a regression.
    for season, cycle in sorted(set(zip(periods.tolist(), cycles.tolist(), strict=True))):
        rows = np.flatnonzero((periods == season) & (cycles == cycle) & (groups.n_columns > 0))
        if not rows.size:
            continue
        columns = groups.columns[rows].swapaxes(1, 2).astype(float)
        is_future = groups.known_ahead[rows][:, None]
        future_cols = _nonzero_columns(np.where(is_future, columns, 0.0))
        past_cols = _nonzero_columns(np.where(is_future, 0.0, columns)[:, :LENGTH])
        for number, memory in enumerate(MEMORIES):
            model = LocalRegression(HORIZON, season=max(season, 1), cycle=cycle, memories=(memory,))
            opinions[rows, number] = model.effects(x[rows], future_cols, past_cols)
    return opinions


def _nonzero_columns(columns: np.ndarray) -> np.ndarray:
    """The columns ``[N, T, C]`` that are not zero everywhere."""
    is_used = np.any(columns != 0, axis=(0, 1))
    return columns[..., is_used]


def draw_rows(rng: np.random.Generator, pool: Pool, progress: float, n: int) -> np.ndarray:
    """Groups of a step, all with the same number of columns.

    At first they have one column that acts linearly, then sums of effects. Later half of the steps
    have those, and half have all couplings.
    """
    groups = pool.groups
    allowed = np.ones_like(pool.simple)
    if progress < 0.1:
        allowed = (groups.coupling == "linear") & (groups.n_columns == 1)
    elif progress < 0.25 or rng.random() < 0.5:
        allowed = pool.simple
    rows = np.flatnonzero(allowed)
    n_columns = groups.n_columns[rng.choice(rows)]
    rows = rows[groups.n_columns[rows] == n_columns]
    return rng.choice(rows, min(n, len(rows)), replace=False)


def pinball(network: GroupNetwork, batch: Batch, weight: Tensor) -> Tensor:
    """Mean pinball loss of a batch in the space of the arcsinh, as in pretraining, with weights of
    the windows.
    """
    slots, tokens, level, spread = network(batch, batch.y.shape[1])
    target = network.squeeze(batch.y, tokens, level, spread).clamp(-FARTHEST, FARTHEST)
    usable = (batch.x.isfinite().sum(1) >= 3) & (spread[:, 0] > 0)
    steps_ahead = tokens.slots()[0].clamp_min(0)
    step_weight = (1 + steps_ahead / 16).rsqrt()
    share = step_weight * target.isfinite() * (usable * weight)[:, None, None]
    losses = _pinball_losses(target.nan_to_num(0.0), slots, torch.tensor(network.quantile_levels))
    return ((losses * share).sum() / share.sum().clamp_min(1e-6)).float()


def _pinball_losses(target: Tensor, quantiles: Tensor, levels: Tensor) -> Tensor:
    """Twice the pinball loss of quantiles ``[..., Q]``, mean over levels."""
    error = target[..., None] - quantiles
    return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)


@torch.no_grad()
def forecast(network: GroupNetwork, batch: Batch, horizon: int, n_tokens: int = N_TOKENS) -> Tensor:
    """Ascending quantiles ``[B, F, Q]`` in the units of the batch."""
    slots, tokens, level, spread = network(batch, horizon, n_tokens)
    token, slot = tokens.find(horizon)
    flat = slots.flatten(1, 2)
    places = token * network.config.max_len + slot
    index = places[..., None].expand(-1, -1, flat.shape[2])
    squeezed = flat.gather(1, index).clamp(-FAR, FAR).sort(dim=2).values.double()
    return level[..., None] + spread[..., None] * squeezed.sinh()


def validate(network: GroupNetwork, pool: Pool, way: str) -> Tensor:
    """Loss of each window in the space of the arcsinh of the target; NaN without any truth."""
    groups = pool.groups
    x = pool.contexts["plain"][0]
    level = x.nanmean(1, keepdim=True)
    spread = torch.from_numpy(np.nanstd(x.numpy(), axis=1))[:, None]
    future = torch.from_numpy(groups.target[:, LENGTH:]).double()
    truth = torch.asinh((future - level) / spread).clamp(-FARTHEST, FARTHEST)
    losses = torch.zeros(len(x), dtype=torch.float64)
    levels = torch.tensor(network.quantile_levels, dtype=torch.float64)
    for n_columns in np.unique(groups.n_columns):
        alike = np.flatnonzero(groups.n_columns == n_columns)
        n_batches = -(-len(alike) // _VALIDATION_BATCH)  # rounded up
        for rows in np.array_split(alike, n_batches):
            batch = pool.batch(rows, way)
            row_tensor = torch.from_numpy(rows)
            away = pool.away(way, row_tensor)[:, LENGTH:]
            quantiles = forecast(network, batch, HORIZON) + away[..., None]
            row_level = level[row_tensor, :, None]
            row_spread = spread[row_tensor, :, None]
            squeezed = torch.asinh((quantiles - row_level) / row_spread)
            step_losses = _pinball_losses(truth[row_tensor], squeezed, levels)
            losses[row_tensor] = step_losses.nanmean(1)
    return torch.where(spread[:, 0] > 0, losses, torch.nan)


def by_coupling(losses: Tensor, pool: Pool) -> dict[str, float]:
    """Weighted means of the losses by coupling, and of all groups with columns."""
    groups = pool.groups
    weight = pool.weights()
    masks = {name: groups.coupling == name for name in (UNIVARIATE, *COUPLINGS)}
    masks["columns"] = groups.n_columns > 0
    means = {}
    for name, mask in masks.items():
        counted = losses.isfinite() & torch.from_numpy(mask)
        if counted.any():
            mean = (losses * weight)[counted].sum() / weight[counted].sum()
            means[name] = round(float(mean), 5)
    return means


def load_start(file: str, network: GroupNetwork) -> None:
    """Load the average weights of a run between two phases.

    Raises:
        ValueError: If they are not of a network of the same sizes.
    """
    prefix = "average."
    state = load_file(file)
    tensors = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    expected = ZeroNetwork(network.config).state_dict()
    if tensors.keys() != expected.keys():
        raise ValueError(
            f"--start must hold weights of the network of {network.config}; {file} lacks or adds"
            " some"
        )
    # The new parameters of an arm keep their start values.
    network.load_state_dict(tensors, strict=False)


def multiply_adds(network: GroupNetwork) -> int:
    """Multiply-adds of one forecast of a group with two columns."""
    hours = torch.arange(float(LENGTH + HORIZON), dtype=torch.float64)
    wave = torch.sin(2 * torch.pi / 24 * hours)
    x, seasons = network.look(wave[None, :LENGTH], HORIZON)
    opinions = wave.expand(1, len(MEMORIES), -1)
    columns = wave.expand(1, 2, -1)
    batch = Batch(x, x, seasons, opinions, columns)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch, HORIZON)
    return counter.get_total_flops() // 2


def split_optimizers(network: GroupNetwork, rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of pretraining, in which the new parameters of an arm have their own rate."""
    trained_names = ZeroNetwork(network.config).state_dict().keys()
    named = network.named_parameters()
    new_parameters = {parameter for name, parameter in named if name not in trained_names}
    optimizers = make_optimizers(network, rate, OTHER_RATE * rate)
    for optimizer in optimizers:
        (group,) = optimizer.param_groups
        parameters = group["params"]
        new_group = [parameter for parameter in parameters if parameter in new_parameters]
        if new_group:
            group["params"] = [
                parameter for parameter in parameters if parameter not in new_parameters
            ]
            optimizer.add_param_group({"params": new_group, "lr": NEW_RATE * group["lr"]})
    return optimizers


def train(
    network: GroupNetwork, pool: Pool, way: str, rate: float, n_steps: int, seed: int, state: Path
) -> float:
    """Train, or go on from a saved state; the core seconds of all steps."""
    optimizers = split_optimizers(network, rate)
    base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    weight = pool.weights()
    first_step = 0
    seconds_before = 0.0
    if state.exists():
        saved = torch.load(state)
        network.load_state_dict(saved["network"])
        for optimizer, values in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        first_step = saved["step"]
        seconds_before = saved["seconds"]
    started = time.process_time()
    for step in range(first_step, n_steps):
        if step % STEPS_OF_STATE == 0 and step > first_step:
            new_state = {
                "network": network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step,
                "seconds": seconds_before + time.process_time() - started,
            }
            write_atomic(state, partial(torch.save, new_state))
        rng = np.random.default_rng([seed, step])
        rows = draw_rows(rng, pool, step / n_steps, ARMS[network.arm].n_windows)
        factor = _rate_factor(step, n_steps)
        for optimizer, group_rates in zip(optimizers, base_rates, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group, group_rate in zip(optimizer.param_groups, group_rates, strict=True):
                group["lr"] = group_rate * factor
        loss = pinball(network, pool.batch(rows, way), weight[torch.from_numpy(rows)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return seconds_before + time.process_time() - started


def _rate_factor(step: int, n_steps: int) -> float:
    """Share of the rate at a step: it rises over the first steps, and falls to the end."""
    rising = (step + 1) / max(WARMUP * n_steps, 1)
    falling = (n_steps - step) / n_steps
    return min(rising, falling)


def execute(cell: Record, options: Any, pools: tuple[Pool, Pool]) -> Record:
    """Train and validate."""
    arm = cell["arm"]
    way = cell["way"]
    network = GroupNetwork(arm, CONFIG, generator=torch.Generator().manual_seed(cell["seed"]))
    load_start(options.start, network)
    n_steps = round(cell["seconds"] * ARMS[arm].pace)
    name = "-".join(str(cell[field]) for field in KEY)
    state = Path(options.folder) / f"{name}.state"
    train_pool, validation_pool = pools
    seconds = train(network, train_pool, way, cell["rate"], n_steps, cell["seed"], state)
    network.eval()
    # Untrained weights are validated in all ways.
    ways = (way,) if n_steps else WAYS
    losses = {way_name: validate(network, validation_pool, way_name) for way_name in ways}
    file = Path(options.folder) / f"{name}.pt"
    torch.save({"network": network.state_dict(), "losses": losses}, file)
    state.unlink(missing_ok=True)
    means = {}
    for way_name, way_losses in losses.items():
        means[way_name] = by_coupling(way_losses, validation_pool)
    return {
        "kind": "groups",
        **cell,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(network),
        "groups": options.groups,
        "steps": n_steps,
        "core_seconds": round(seconds, 1),
        "losses": means,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    defaults = {
        "folder": "",
        "start": "",
        "arm": tuple(ARMS),
        "way": WAYS[:2],
        "rate": (0.002,),
        "seed": (0, 1, 2),
        "seconds": 100,
        "groups": 12288,
        "out": RESULTS / FILE,
    }
    options = parse(argv, __doc__, defaults, choices={"arm": ARMS, "way": WAYS[:2]})
    keep_memory()
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    with limit_threads(1):
        network = ZeroNetwork(CONFIG)
        train_pool = make_pool(options.groups, 0, network)
        validation_pool = make_pool(N_VALIDATION, VALIDATION_SEED, network)
        cells = [START]
        choices = product(options.seed, options.rate, options.way, options.arm)
        for seed, rate, way, arm in choices:
            cell = {"arm": arm, "way": way, "rate": rate, "seconds": options.seconds, "seed": seed}
            cells.append(cell)
        file = Records(options.out, KEY)
        for cell in file.missing(cells):
            row = file.add(execute(cell, options, (train_pool, validation_pool)))
            facts = [row[name] for name in (*KEY, "core_seconds", "multiply_adds")]
            losses = {way: means["columns"] for way, means in row["losses"].items()}
            print(*facts, losses, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
