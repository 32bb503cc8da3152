"""Levels across series: networks that read the columns beside a target, trained alike on synthetic
groups.

Each arm starts from the same trained weights and learns for the steps that fit into the asked core
seconds at its pace. The first record is of these weights themselves. Columns, and opinions about
their effect (:class:`tsattn.forecasters.local_regression.LocalRegression` of a longer and a shorter
memory), are further series, which are read by one attention whose levels are parts of all series'
tokens ("levels") or by attention over time and over series in turn ("alternating"); or the opinions
are further inputs of the target's own slots ("slots"); "none" reads nothing. Every arm that reads
gives a learned share of each opinion in the answer. The way "residual" takes the first opinion off
the target and adds it to the answer. What is on record is not repeated, and a killed run goes on.
Run: PYTHONPATH=benchmarks
python benchmarks/pretraining_study/groups.py --folder DIR --start FILE [--arm NAME ...]
[--rate RATE ...]
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
# What is taken off the target: nothing, the first opinion, or the true effect, which nobody can
# know.
WAYS = ("plain", "residual", "truth")
# Rows that the opinions are regressions of.
MEMORIES = (432, 144)
N_VALIDATION = 512
VALIDATION_SEED = 2**32 - 1
# Rate of all that is no matrix, as a share of that of matrices.
OTHER_RATE = 0.1
# Rate of what an arm adds, which begins with nothing, over that of the trained weights.
NEW_RATE = 5.0
WARMUP = 0.05
# Steps after which the state of a run is kept, with which a killed one goes on.
STEPS_OF_STATE = 500
# Targets beyond this, in the space of the arcsinh, teach no more; forecasts beyond the other are
# cut.
FARTHEST = 3.5
FAR = 9.0
# Features of a level across series: one that is constant, and learnt ones.
LEVEL = 6
# Score of pairs of one series, and of pairs of one time, at the start; others have 0. So the target
# goes on to look at itself, and at what other series do at the same time.
WITHIN = 6.0
AT_ONCE = 6.0
# Numbers of parts of one series lie below this.
PARTS = 2**20


class Arm(NamedTuple):
    """Windows of a step, and steps a core second where they were first measured: all arms have the
    same hardware.
    """

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
    """Places of the tokens of all series, and which of them are the target's, [N]."""

    own: Tensor | None = None


class SeriesAttention(Attention):
    """The attention of a trained block over the tokens of several series, with two more levels.

    Scores of one series are what they were, but for a constant; pairs of one series and of one time
    have further features. The values of other series are multiplied by a learned factor of each
    head, which is 0 at the start.
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
        """Answers of the last tokens."""
        n_heads = self.score.n_heads
        d_key = self.score.d_key
        own = places.own
        q, k = self.score.features_at(x, places, n_last)
        more = self.more(x).unflatten(2, (2, n_heads, 2, LEVEL - 1)).permute(2, 0, 3, 1, 4, 5)
        more_q = more[0][:, :, x.shape[1] - n_last :]
        more_k = more[1]
        constant_q = torch.stack([self.within, self.at_once], dim=1)[:, None] * d_key**0.5
        # A token of the target is in both parts of itself, and would look at itself too much.
        constant_k = torch.stack([torch.ones_like(own), ~own], dim=1).to(k.dtype)
        q, k = (
            torch.cat(
                [
                    part,
                    torch.cat([constant.expand(*new.shape[:4])[..., None], new], dim=4).flatten(3),
                ],
                dim=3,
            )
            for part, constant, new in ((q, constant_q, more_q), (k, constant_k, more_k))
        )
        v = self.value(x).unflatten(2, (n_heads, -1)).transpose(1, 2)
        v = v * torch.where(own[:, None], 1.0, self.gate).T[None, :, :, None]
        levels = Levels((*self.score.levels.ranks, LEVEL, LEVEL))
        seen = attend(
            q, k, v, levels=levels, groups=places.groups, key_mask=key_mask, scale=d_key**-0.5
        )
        return self.out(seen.transpose(1, 2).flatten(2))


class AcrossSeries(nn.Module):
    """Each token looks at the tokens of all series at its time, and adds what it sees; nothing at
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
        """States ``[B, L, S, D]``, of which tokens ``[B, L, S]`` may be looked at."""
        seen = self.attention(self.norm(x).flatten(0, 1), key_mask=key_mask.flatten(0, 1))
        return x + seen.unflatten(0, x.shape[:2])


@dataclass(frozen=True, eq=False)
class Batch:
    """B windows: contexts, futures, seasons, opinions and columns ``[B, S, T + F]``, NaN where
    unknown.
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
        # What a token is: of an opinion, each by itself, or of a column.
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
        """As :meth:`ZeroNetwork.forward`, of windows with what stands beside them."""
        x = batch.x
        seasons = batch.seasons
        tokens = self._cut(seasons, x.shape[1], horizon, n_tokens)
        index, inside = tokens.slots()
        values, known = read_slots(x, index, inside)
        scaled, level, spread = measure_whole(values, known)
        known = known.to(scaled.dtype)
        facts = self._facts(seasons, x)[:, None].expand(-1, index.shape[1], -1).to(scaled.dtype)
        inputs = [scaled, known, inside.to(scaled.dtype), facts]
        states = self._embed(torch.cat(inputs, dim=2), tokens)
        opinions, told = read_beside(batch.opinions, x.shape[1], index, inside)
        opinions = torch.asinh(
            opinions / torch.where(spread > 0, spread, 1.0)[:, None, :, None]
        ).to(scaled.dtype)
        key_mask = (known.sum(2) > 0) | ((tokens.index >= 0) & (tokens.starts() < horizon))
        n_future = int((tokens.index >= 0).sum())
        if self.arm == "slots" and opinions.shape[1]:
            read = torch.cat([opinions, told.to(scaled.dtype)], dim=1).transpose(1, 2).flatten(2)
            states = states + self.reader(read)
        places = self._places(tokens, seasons.period)
        if self.arm in ("levels", "alternating") and opinions.shape[1]:
            columns = read_beside(batch.columns, x.shape[1], index, inside)
            beside = [(opinions, told), (scale_beside(*columns), columns[1])]
            beside, seen = (torch.cat(parts, dim=1) for parts in zip(*beside, strict=True))
            more = self._embed_beside(beside, seen, inside, facts, tokens)
            states = torch.cat([more, states[:, None]], dim=1)
            key_mask = torch.cat([seen.any(3), key_mask[:, None]], dim=1)
            states = self._mix_series(states, tokens, places, key_mask, n_future)
        elif self.arm == "levels":
            states = self._mix_series(states[:, None], tokens, places, key_mask[:, None], n_future)
        else:
            states = self._mix(states, places, key_mask, n_future)
        answer = self._answer(states, last_value(scaled, known))
        if self.arm != "none" and opinions.shape[1]:
            answer = (
                answer
                + torch.einsum("bmo,bomp->bmp", self.share(states), opinions[:, :, -n_future:])[
                    ..., None
                ]
            )
        return answer, replace(tokens, index=tokens.index[tokens.index >= 0]), level, spread

    def _embed_beside(
        self, values: Tensor, known: Tensor, inside: Tensor, facts: Tensor, tokens: Tokens
    ) -> Tensor:
        """Tokens of further series ``[B, S, L, D]``, embedded as those of the target, and told
        apart.
        """
        n_series = values.shape[1]
        parts = [values, known.to(values.dtype), inside.to(values.dtype)[:, None].expand_as(values)]
        parts += [facts[:, None].expand(-1, n_series, -1, -1)]
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
        n_last = self.config.encode or states.shape[2]
        flat = self.arm == "levels"
        mix = (
            self._mix_levels(tokens, places, key_mask)
            if flat
            else self._mix_in_turn(places, key_mask)
        )
        for layer in range(self.config.n_layers):
            last = (
                n_future if layer == self.config.n_layers - 1 else min(n_future + n_last, n_tokens)
            )
            seen = mix(layer, states, last)
            states = torch.cat([states[:, :, : n_tokens - last], seen], dim=2)
        mixed: Tensor = self.stack.norm(states[:, -1, -n_future:])
        return mixed

    def _mix_levels(self, tokens: Tokens, places: Places, key_mask: Tensor) -> Any:
        """One attention over the tokens of all series, in the order of time, the target last at
        each time.
        """
        n_series = key_mask.shape[1]
        series = torch.arange(n_series)
        groups = []
        for parts in places.groups:
            flat = torch.where(parts[..., None] < 0, -1, parts[..., None] % PARTS + PARTS * series)
            groups.append(flat.flatten(-2))
        when = (tokens.index - tokens.index[0])[:, None].expand(-1, n_series).flatten()
        groups += [series.repeat(len(tokens.index)), when]
        angles = tuple(part.repeat_interleave(n_series, dim=-2) for part in places.angles or ())
        own = (series == n_series - 1).repeat(len(tokens.index))
        flat_places = GroupPlaces(tuple(groups), (angles[0], angles[1]), own)
        mask = key_mask.transpose(1, 2).flatten(1)

        def mix(layer: int, states: Tensor, last: int) -> Tensor:
            flat = states.transpose(1, 2).flatten(1, 2)
            seen = self.stack.blocks[layer](
                flat, key_mask=mask, places=flat_places, n_last=last * n_series
            )
            return seen.unflatten(1, (last, n_series)).transpose(1, 2)

        return mix

    def _mix_in_turn(self, places: Places, key_mask: Tensor) -> Any:
        """Attention over the time of each series, then over the series of each time, then
        feed-forward.
        """
        n_series = key_mask.shape[1]

        def repeat(parts: Tensor) -> Tensor:
            return parts if parts.ndim == 1 else parts.repeat_interleave(n_series, dim=0)

        angles = tuple(part if part.ndim == 2 else repeat(part) for part in places.angles or ())
        each = Places(tuple(repeat(parts) for parts in places.groups), (angles[0], angles[1]))

        def mix(layer: int, states: Tensor, last: int) -> Tensor:
            block: Any = self.stack.blocks[layer]
            flat = states.flatten(0, 1)
            seen = block.attention(
                block.norm_attention(flat),
                key_mask=key_mask.flatten(0, 1),
                places=each,
                n_last=last,
            )
            now = (flat[:, -last:] + seen).unflatten(0, states.shape[:2])
            now = block.across(
                now.transpose(1, 2), key_mask[:, :, -last:].transpose(1, 2)
            ).transpose(1, 2)
            flat = now.flatten(0, 1)
            return (flat + block.feed_forward(block.norm_feed_forward(flat))).unflatten(
                0, states.shape[:2]
            )

        return mix


def read_beside(
    series: Tensor, n_past: int, index: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor]:
    """Slots ``[B, S, L, P]`` of series that go on over the horizon, 0 where unknown, and which are
    known.
    """
    place = (index + n_past)[:, None].expand(-1, series.shape[1], -1, -1)
    held = inside[:, None] & (place >= 0) & (place < series.shape[2])
    values = series.gather(2, place.clamp(0, series.shape[2] - 1).flatten(2)).view(place.shape)
    known = held & ~values.isnan()
    return torch.where(known, values, 0.0), known


def scale_beside(values: Tensor, known: Tensor) -> Tensor:
    """Columns in units of their own, in the space of the arcsinh."""
    return measure_whole(values.flatten(0, 1), known.flatten(0, 1))[0].view(values.shape)


@dataclass(frozen=True, eq=False)
class Pool:
    """Groups with opinions ``[N, O, T + F]``; contexts without outliers and their seasons, as they
    are ("plain"), less the first opinion ("residual"), and less the true effect ("truth").
    """

    groups: Groups
    opinions: Tensor
    contexts: dict[str, tuple[Tensor, Seasons]]

    def away(self, way: str, at: Tensor | slice = slice(None)) -> Tensor:
        """What is taken off the target of some groups, ``[N, T + F]``."""
        if way == "residual":
            return self.opinions[at, 0]
        true = torch.from_numpy(self.groups.effect)[at].double()
        return true if way == "truth" else torch.zeros_like(true)

    @cached_property
    def simple(self) -> np.ndarray:
        """Which groups have a coupling that is a sum, or none."""
        return np.isin(self.groups.coupling, ["linear", "decoys", UNIVARIATE])

    def batch(self, rows: np.ndarray, way: str) -> Batch:
        """Groups with as many columns each."""
        at = torch.from_numpy(rows)
        n_columns = int(self.groups.n_columns[rows[0]])
        x, seasons = self.contexts[way]
        target = torch.from_numpy(self.groups.target[rows, LENGTH:]).double()
        y = target - self.away(way, at)[:, LENGTH:]
        columns = torch.from_numpy(self.groups.columns[rows, :n_columns]).double()
        opinions = self.opinions[at] if n_columns else self.opinions[at, :0]
        return Batch(x[at], y, seasons.rows(at), opinions, columns)

    def weights(self) -> Tensor:
        """Deviation of the rest of each target over that of the target."""
        past = self.groups.target[:, :LENGTH]
        rest = past - self.groups.effect[:, :LENGTH]
        deviations = (np.nanstd(part, axis=1, dtype=float) for part in (rest, past))
        share = np.divide(*deviations)
        return torch.from_numpy(np.clip(np.nan_to_num(share, nan=1.0), 0.05, 1.5))


def make_pool(n: int, seed: int, network: ZeroNetwork) -> Pool:
    """Draw groups, and ask for opinions."""
    groups = make_groups(n, LENGTH, HORIZON, seed=seed)
    target = torch.from_numpy(groups.target).double()
    x, seasons = network.look(target[:, :LENGTH], HORIZON)
    opinions = torch.from_numpy(give_opinions(x.numpy(), groups, seasons))
    pool = Pool(groups, opinions, {"plain": (x, seasons)})
    for way in WAYS[1:]:
        rest = torch.where(x.isnan(), torch.nan, target[:, :LENGTH] - pool.away(way)[:, :LENGTH])
        pool.contexts[way] = network.look(rest, HORIZON)
    return pool


def give_opinions(x: np.ndarray, groups: Groups, seasons: Seasons) -> np.ndarray:
    """Effects ``[N, O, T + F]`` by regressions of each memory; 0 of a target alone."""
    opinions = np.zeros((len(x), len(MEMORIES), LENGTH + HORIZON))
    period = seasons.period.numpy()
    cycle = seasons.cycle.numpy()
    cycle = np.where(cycle > period, cycle, 0)
    for season, longer in sorted(set(zip(period.tolist(), cycle.tolist(), strict=True))):
        rows = np.flatnonzero((period == season) & (cycle == longer) & (groups.n_columns > 0))
        columns = groups.columns[rows].swapaxes(1, 2).astype(float)
        ahead = groups.known_ahead[rows][:, None]
        known = np.where(ahead, columns, 0.0)
        past = np.where(ahead, 0.0, columns)[:, :LENGTH]
        known, past = (each[..., np.any(each != 0, axis=(0, 1))] for each in (known, past))
        for number, memory in enumerate(MEMORIES if rows.size else ()):
            model = LocalRegression(
                HORIZON, season=max(season, 1), cycle=longer, memories=(memory,)
            )
            opinions[rows, number] = model.effects(x[rows], known, past)
    return opinions


def draw_rows(rng: np.random.Generator, pool: Pool, progress: float, n: int) -> np.ndarray:
    """Groups of a step, as many columns each: at first one column that acts linearly, then sums;
    later half of the steps have those, half all couplings.
    """
    groups = pool.groups
    allowed = np.ones_like(pool.simple)
    if progress < 0.1:
        allowed = (groups.coupling == "linear") & (groups.n_columns == 1)
    elif progress < 0.25 or rng.random() < 0.5:
        allowed = pool.simple
    rows = np.flatnonzero(allowed)
    rows = rows[groups.n_columns[rows] == groups.n_columns[rng.choice(rows)]]
    return rng.choice(rows, min(n, len(rows)), replace=False)


def pinball(network: GroupNetwork, batch: Batch, weight: Tensor) -> Tensor:
    """Mean pinball loss of a batch in the space of the arcsinh, as in pretraining,
    windows weighed.
    """
    slots, tokens, level, spread = network(batch, batch.y.shape[1])
    target = network.squeeze(batch.y, tokens, level, spread).clamp(-FARTHEST, FARTHEST)
    usable = (batch.x.isfinite().sum(1) >= 3) & (spread[:, 0] > 0)
    share = (
        (1 + tokens.slots()[0].clamp_min(0) / 16).rsqrt()
        * target.isfinite()
        * (usable * weight)[:, None, None]
    )
    error = target.nan_to_num(0.0)[..., None] - slots
    levels = torch.tensor(network.quantile_levels)
    losses = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(3)
    return ((losses * share).sum() / share.sum().clamp_min(1e-6)).float()


@torch.no_grad()
def forecast(network: GroupNetwork, batch: Batch, horizon: int, n_tokens: int = N_TOKENS) -> Tensor:
    """Ascending quantiles ``[B, F, Q]`` in the units of the batch."""
    slots, tokens, level, spread = network(batch, horizon, n_tokens)
    token, slot = tokens.find(horizon)
    flat = slots.flatten(1, 2)
    at = (token * network.config.max_len + slot)[..., None].expand(-1, -1, flat.shape[2])
    squeezed = flat.gather(1, at).clamp(-FAR, FAR).sort(dim=2).values.double()
    return level[..., None] + spread[..., None] * squeezed.sinh()


def validate(network: GroupNetwork, pool: Pool, way: str) -> Tensor:
    """Loss of each window in the space of the arcsinh of the target; NaN where nothing is known of
    its future.
    """
    groups = pool.groups
    x = pool.contexts["plain"][0]
    level = x.nanmean(1, keepdim=True)
    spread = torch.from_numpy(np.nanstd(x.numpy(), axis=1))[:, None]
    truth = torch.asinh((torch.from_numpy(groups.target[:, LENGTH:]).double() - level) / spread)
    losses = torch.zeros(len(x), dtype=torch.float64)
    levels = torch.tensor(network.quantile_levels, dtype=torch.float64)
    for n_columns in np.unique(groups.n_columns):
        alike = np.flatnonzero(groups.n_columns == n_columns)
        for rows in np.array_split(alike, -(-len(alike) // 32)):
            batch = pool.batch(rows, way)
            at = torch.from_numpy(rows)
            quantiles = forecast(network, batch, HORIZON) + pool.away(way, at)[:, LENGTH:, None]
            squeezed = torch.asinh((quantiles - level[at, :, None]) / spread[at, :, None])
            error = truth[at].clamp(-FARTHEST, FARTHEST)[..., None] - squeezed
            losses[at] = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(2).nanmean(1)
    return torch.where(spread[:, 0] > 0, losses, torch.nan)


def by_coupling(losses: Tensor, pool: Pool) -> dict[str, float]:
    """Means by coupling and of all groups with columns, windows weighed."""
    groups = pool.groups
    weight = pool.weights()
    parts = {name: groups.coupling == name for name in (UNIVARIATE, *COUPLINGS)} | {
        "columns": groups.n_columns > 0
    }
    means = {}
    for name, rows in parts.items():
        some = losses.isfinite() & torch.from_numpy(rows)
        if some.any():
            means[name] = round(float((losses * weight)[some].sum() / weight[some].sum()), 5)
    return means


def load_start(file: str, network: GroupNetwork) -> None:
    """Take over the average weights of a run between two phases."""
    tensors = {
        name.removeprefix("average."): t
        for name, t in load_file(file).items()
        if name.startswith("average.")
    }
    expected = ZeroNetwork(network.config).state_dict()
    if tensors.keys() != expected.keys():
        raise ValueError(
            f"--start must hold weights of the network of {network.config}; {file} lacks or adds"
            " some"
        )
    # What an arm adds keeps its values of the start.
    network.load_state_dict(tensors, strict=False)


def multiply_adds(network: GroupNetwork) -> int:
    """Of one forecast of a group with two columns."""
    hours = torch.sin(
        2 * torch.pi / 24 * torch.arange(float(LENGTH + HORIZON), dtype=torch.float64)
    )
    x, seasons = network.look(hours[None, :LENGTH], HORIZON)
    batch = Batch(x, x, seasons, hours.expand(1, len(MEMORIES), -1), hours.expand(1, 2, -1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(batch, HORIZON)
    return counter.get_total_flops() // 2


def split_optimizers(network: GroupNetwork, rate: float) -> tuple[torch.optim.Optimizer, ...]:
    """The optimizers of pretraining, in which what an arm adds has a rate of its own."""
    trained = ZeroNetwork(network.config).state_dict().keys()
    new = {parameter for name, parameter in network.named_parameters() if name not in trained}
    optimizers = make_optimizers(network, rate, OTHER_RATE * rate)
    for optimizer in optimizers:
        (group,) = optimizer.param_groups
        added = [parameter for parameter in group["params"] if parameter in new]
        if added:
            group["params"] = [parameter for parameter in group["params"] if parameter not in new]
            optimizer.add_param_group({"params": added, "lr": NEW_RATE * group["lr"]})
    return optimizers


def train(
    network: GroupNetwork, pool: Pool, way: str, rate: float, n_steps: int, seed: int, state: Path
) -> float:
    """Learn, or go on where a state was kept; the core seconds it took."""
    optimizers = split_optimizers(network, rate)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    weight = pool.weights()
    first_step = 0
    seconds_before = 0.0
    if state.exists():
        kept = torch.load(state)
        network.load_state_dict(kept["network"])
        for optimizer, values in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        first_step = kept["step"]
        seconds_before = kept["seconds"]
    started = time.process_time()
    for step in range(first_step, n_steps):
        if step % STEPS_OF_STATE == 0 and step > first_step:
            seconds = seconds_before + time.process_time() - started
            optimizer_states = [optimizer.state_dict() for optimizer in optimizers]
            kept = {"network": network.state_dict(), "optimizers": optimizer_states}
            write_atomic(state, partial(torch.save, {**kept, "step": step, "seconds": seconds}))
        rng = np.random.default_rng([seed, step])
        rows = draw_rows(rng, pool, step / n_steps, ARMS[network.arm].n_windows)
        factor = min((step + 1) / max(WARMUP * n_steps, 1), (n_steps - step) / n_steps)
        for optimizer, its_rates in zip(optimizers, rates, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group, its_rate in zip(optimizer.param_groups, its_rates, strict=True):
                group["lr"] = its_rate * factor
        loss = pinball(network, pool.batch(rows, way), weight[torch.from_numpy(rows)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
    return seconds_before + time.process_time() - started


def execute(cell: Record, options: Any, pools: tuple[Pool, Pool]) -> Record:
    """Train and validate."""
    arm = cell["arm"]
    way = cell["way"]
    network = GroupNetwork(arm, CONFIG, generator=torch.Generator().manual_seed(cell["seed"]))
    load_start(options.start, network)
    n_steps = round(cell["seconds"] * ARMS[arm].pace)
    name = "-".join(str(cell[part]) for part in KEY)
    state = Path(options.folder) / f"{name}.state"
    seconds = train(network, pools[0], way, cell["rate"], n_steps, cell["seed"], state)
    ways = (way,) if n_steps else WAYS
    losses = {each: validate(network.eval(), pools[1], each) for each in ways}
    file = Path(options.folder) / f"{name}.pt"
    torch.save({"network": network.state_dict(), "losses": losses}, file)
    state.unlink(missing_ok=True)
    sizes = {
        "params": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network),
    }
    cost = {"groups": options.groups, "steps": n_steps, "core_seconds": round(seconds, 1)}
    means = {each: by_coupling(of, pools[1]) for each, of in losses.items()}
    return {"kind": "groups", **cell, **sizes, **cost, "losses": means}


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
    }
    more = {"groups": 12288, "out": RESULTS / FILE}
    options = parse(argv, __doc__, {**defaults, **more}, choices={"arm": ARMS, "way": WAYS[:2]})
    keep_memory()
    Path(options.folder).mkdir(parents=True, exist_ok=True)
    with limit_threads(1):
        plain = ZeroNetwork(CONFIG)
        pools = make_pool(options.groups, 0, plain), make_pool(N_VALIDATION, VALIDATION_SEED, plain)
        cells = [START]
        cells += [
            {"arm": arm, "way": way, "rate": rate, "seconds": options.seconds, "seed": seed}
            for seed in options.seed
            for rate in options.rate
            for way in options.way
            for arm in options.arm
        ]
        file = Records(options.out, KEY)
        for cell in file.missing(cells):
            row = file.add(execute(cell, options, pools))
            told = {way: losses["columns"] for way, losses in row["losses"].items()}
            print(
                *(row[name] for name in (*KEY, "core_seconds", "multiply_adds")), told, flush=True
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
