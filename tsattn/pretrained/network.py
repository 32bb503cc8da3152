"""The network of the pretrained forecaster, whose tokens and levels follow the season."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsattn.checks import check_choice, check_whole
from tsattn.nn.attention import Attention
from tsattn.nn.blocks import TransformerBlock, TransformerStack
from tsattn.nn.layers import FeedForward, linear
from tsattn.nn.scores import GroupLevelScore, Places
from tsattn.pretrained.contexts import (
    RecentMeasure,
    RecentPart,
    SteadyChanges,
    changes_since,
    filled_by_changes,
    floor,
    in_deviations,
    measure_recent,
    measure_whole,
    read_recent,
    share_of_changes,
    sum_by_lag,
)
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.period import (
    Seasons,
    between_blocks,
    block_means,
    coarse_steps,
    detect_long_seasons,
    detect_seasons,
    first_known,
)

QUANTILES = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.25,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.75,
    0.8,
    0.9,
    0.95,
    0.975,
    0.99,
)
# Values beyond this many deviations, in the space of the arcsinh, are no longer told apart.
_FARTHEST = 9.0
# Numbers about a whole series that every token gets, and further ones where windows are measured by
# their recent part.
_N_FACTS = 4
_N_RECENT_FACTS = 2
# Logarithms of lengths are divided by this, so that facts are about as large as other inputs.
_LOG_SCALE = 8
# Steps of the past that are searched for seasons, in steps that tokens of the usual length hold.
_LONG_PAST = 8
# Base of the rotary angles.
_ROTARY_BASE = 1000.0
# Sizes of a network above this one come from a damaged file.
_LARGEST_SIZE = 2**20
_SIZES = (
    "d_model",
    "n_heads",
    "n_layers",
    "d_ff",
    "token_len",
    "max_len",
    "max_tokens",
    "near",
)
# Steps that are searched for a season together, about. What is computed of them stays in the
# caches, and threads seldom wait for one another.
_PART_STEPS = 2**18
# Numbers of tokens that go through the blocks together, about, for the same reasons.
_PART_NUMBERS = 2**20


# Parts of a window by which it is measured.
MEASURES = ("whole", "recent")


@dataclass(frozen=True)
class ZeroConfig:
    """What fixes the network; JSON goes in and out through ``to_dict`` and ``from_dict``.

    Args:
        d_model: Token width.
        n_heads: Heads.
        n_layers: Blocks.
        d_ff: Hidden width of the feed-forward layers.
        token_len: Steps of a token, about.
        max_len: Steps of the longest token.
        max_tokens: Tokens of the context at most.
        near: Tokens of a near block.
        measure: Part of a window by whose mean and deviation it is measured: ``"whole"``, or
            ``"recent"`` (:class:`tsattn.pretrained.contexts.RecentMeasure`), with which a series
            that grows is not squeezed.
        encode: Last tokens of the context that pass through the blocks. Earlier tokens are used as
            keys without encoding. Default all.
        quantiles: Probabilities of the answer, ascending, 0.5 among them.

    Raises:
        ValueError: If a value is out of its range.
    """

    d_model: int = 96
    n_heads: int = 4
    n_layers: int = 4
    d_ff: int = 384
    token_len: int = 8
    max_len: int = 12
    max_tokens: int = 256
    near: int = 8
    measure: str = "whole"
    encode: int | None = None
    quantiles: tuple[float, ...] = QUANTILES

    def __post_init__(self) -> None:
        for name in _SIZES:
            size = check_whole(name, getattr(self, name))
            if size > _LARGEST_SIZE:
                raise ValueError(f"{name} must be at most {_LARGEST_SIZE}; got {size}")
        if self.d_model % self.n_heads or self.d_model // self.n_heads % 8:
            raise ValueError(
                "a head's width must be a multiple of 8, for half and two quarters in pairs; got"
                f" d_model = {self.d_model} for {self.n_heads} heads; change one of them"
            )
        if not 1.5 * self.token_len <= self.max_len:
            raise ValueError(
                f"max_len must be at least 1.5 token_len; got {self.max_len} for {self.token_len}"
            )
        check_choice("measure", self.measure, MEASURES)
        if self.encode is not None:
            check_whole("encode", self.encode, 0)
        if not all(type(p) is float and 0 < p < 1 for p in self.quantiles):
            raise ValueError(f"quantiles must lie between 0 and 1; got {self.quantiles!r:.80}")
        if 0.5 not in self.quantiles or tuple(sorted(set(self.quantiles))) != self.quantiles:
            raise ValueError(f"quantiles must ascend and hold 0.5; got {self.quantiles!r:.80}")

    @property
    def median(self) -> int:
        """Place of the median among the quantiles."""
        return self.quantiles.index(0.5)

    @property
    def token_context(self) -> int:
        """Steps of the context that have tokens at most, where tokens have their usual length."""
        return self.max_tokens * self.token_len

    @property
    def max_context(self) -> int:
        """Steps of the past that are read at most, those beyond the tokens for seasons alone."""
        return _LONG_PAST * self.token_context

    @property
    def n_facts(self) -> int:
        """Numbers about a whole series that every token gets."""
        return _N_FACTS + (_N_RECENT_FACTS if self.measure == "recent" else 0)

    @property
    def n_block_weights(self) -> int:
        """Weights of the large matrices in the blocks: all others together are fewer."""
        width = self.d_model
        return self.n_layers * width * (4 * width + 2 * self.d_ff) + self.max_len * width

    @property
    def ranks(self) -> tuple[int, ...]:
        """Features of a head by level: for all pairs, for tokens of one phase, for near tokens."""
        width = self.d_model // self.n_heads
        return width // 2, width // 4, width // 4

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "quantiles": list(self.quantiles)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ZeroConfig":
        """Undo :meth:`to_dict`.

        Raises:
            ValueError: If a name is unknown.
        """
        names = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise ValueError(
                f"the network has no setting {unknown[0]!r}; known are {', '.join(sorted(names))}"
            )
        quantiles = tuple(values.get("quantiles", QUANTILES))
        return cls(**{**values, "quantiles": quantiles})


@dataclass(frozen=True, eq=False)
class Tokens:
    """How the steps around an origin are cut into tokens.

    Step 0 is the first of the future, step -1 the last of the context. A season of ``steps`` steps
    has ``count`` tokens, token j starts at step ``floor(j steps / count)``, so cuts repeat with the
    season.

    Args:
        steps: Steps of a season of each series.
        count: Tokens of a season.
        n_seasons: Seasons of a cycle, 1 where there is none.
        index: Number j of each token, the same for all series, consecutive; those below 0 are the
            context.
        max_len: Steps of the longest token.
    """

    steps: Int[Tensor, " B"]
    count: Int[Tensor, " B"]
    n_seasons: Int[Tensor, " B"]
    index: Int[Tensor, " L"]
    max_len: int

    def starts(self) -> Int[Tensor, "B L"]:
        """First step of each token."""
        return self._start(self.index)

    def lengths(self) -> Int[Tensor, "B L"]:
        """Steps of each token."""
        ends = self._start(self.index + 1)
        return ends - self.starts()

    def slots(self) -> tuple[Int[Tensor, "B L P"], Bool[Tensor, "B L P"]]:
        """Step of each slot of each token, and whether the token is long enough to have it."""
        slot = torch.arange(self.max_len, device=self.index.device)
        step = self.starts()[..., None] + slot
        return step, slot < self.lengths()[..., None]

    def cycle(self) -> Int[Tensor, "B L"]:
        """Number of the cycle that a token is in, counted from the origin."""
        return floor(self.index[None], self._cycle_tokens())

    def phase(self) -> Int[Tensor, "B L"]:
        """Number of a token in its cycle."""
        return self.index[None] - self.cycle() * self._cycle_tokens()

    def find(self, n_steps: int) -> tuple[Int[Tensor, "B F"], Int[Tensor, "B F"]]:
        """Token number and slot of each of the first steps of the future."""
        step = torch.arange(n_steps, device=self.index.device)[None]
        steps = self.steps[:, None]
        count = self.count[:, None]
        token = -floor(-(step + 1) * count, steps) - 1
        return token, step - floor(token * steps, count)

    def count_tokens(self, n_steps: Tensor | int) -> Int[Tensor, " B"]:
        """Tokens that hold so many steps before or after the origin."""
        return -floor(-n_steps * self.count, self.steps)

    def _cycle_tokens(self) -> Int[Tensor, "B 1"]:
        """Tokens of a cycle."""
        return (self.n_seasons * self.count)[:, None]

    def _start(self, index: Tensor) -> Tensor:
        return floor(index[None] * self.steps[:, None], self.count[:, None])


class ZeroNetwork(nn.Module):
    """An encoder of tokens that answers quantiles of every future step at once.

    It reads the tokens of a context and of the future. Of a past that moved far in small steps the
    recent part is read (:func:`tsattn.pretrained.contexts.read_recent`). A window is measured by
    the mean and deviation of its observed values, or of the recent ones, and squeezed by the
    arcsinh. Tokens of about ``token_len`` steps are cut at the season that
    :func:`tsattn.pretrained.period.detect_period` finds, so that tokens of one phase are alike; the
    future has tokens without values. Attention has three levels of features: for all pairs, for
    tokens of one phase, for near tokens (docs/mathematics.md, section 3). The last block answers
    future tokens only.

    Args:
        config: Sizes and kinds.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    # Inputs of each slot of a token: value, whether it is observed, whether the token is so long.
    _n_slot_inputs = 3

    def __init__(self, config: ZeroConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        n_inputs = self._n_slot_inputs * config.max_len + config.n_facts
        self.embed = linear(n_inputs, width, generator=generator)
        self.refine = FeedForward(n_inputs, 2 * width, d_out=width, generator=generator)
        self.future = nn.Parameter(torch.zeros(width))
        self.stack = TransformerStack(
            [self._block(generator) for _ in range(config.n_layers)], d_model=width
        )
        # The last output is the share of the last observed value.
        n_outputs = config.max_len * len(config.quantiles) + 1
        self.head = linear(width, n_outputs, generator=generator)
        _set_to_zero(self.head, self.refine.narrow)

    def _block(self, generator: torch.Generator | None) -> TransformerBlock:
        config = self.config
        score = GroupLevelScore(
            config.d_model,
            config.n_heads,
            ranks=config.ranks,
            rotary_base=_ROTARY_BASE,
            norm=True,
            generator=generator,
        )
        attention = Attention(config.d_model, score=score, generator=generator)
        feed_forward = FeedForward(config.d_model, config.d_ff, generator=generator)
        # A block begins as the identity.
        _set_to_zero(attention.out, feed_forward.narrow)
        return TransformerBlock(attention, feed_forward, d_model=config.d_model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config})"

    @property
    def quantile_levels(self) -> tuple[float, ...]:
        """Probabilities of the quantiles that are answered, ascending."""
        return self.config.quantiles

    def forward(
        self,
        x: Float[Tensor, "B T"],
        horizon: int,
        max_tokens: int | None = None,
        seasons: Seasons | None = None,
    ) -> tuple[Float[Tensor, "B M P Q"], Tokens, Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        """Quantiles of the future in the space of the arcsinh, slot by slot.

        Args:
            x: Contexts; NaN is missing, at the left also a history that begins later. A series is
                cut to its recent part, and to what fits into the context's tokens.
            horizon: Steps ahead, at least 1.
            max_tokens: Tokens of the context at most; default that of the settings.
            seasons: Those of each series, whose contexts are then read as they are; default what is
                detected.

        Returns:
            Quantiles of the slots of M future tokens; those tokens; mean and deviation that the
            windows were measured by, float64.
        """
        if seasons is None:
            x, seasons = self.look(x, horizon)
        tokens = self._cut(seasons, x.shape[1], horizon, max_tokens or self.config.max_tokens)
        is_future = tokens.index >= 0
        n_future = int(is_future.sum())
        slots, mean, spread = self.read(x, seasons, tokens, n_future, horizon)
        future_tokens = replace(tokens, index=tokens.index[is_future])
        return slots, future_tokens, mean, spread

    def read(
        self,
        x: Float[Tensor, "B T"],
        seasons: Seasons,
        tokens: Tokens,
        n_future: int,
        horizon: Tensor | int,
    ) -> tuple[Float[Tensor, "B M P Q"], Float[Tensor, "B 1"], Float[Tensor, "B 1"]]:
        """Quantiles of the last ``n_future`` tokens, as :meth:`forward` says.

        Args:
            x: Contexts that are read as they are.
            seasons: Those of each series.
            tokens: Tokens of the context and of the future.
            n_future: Tokens of the future, M.
            horizon: Steps ahead, one number or ``[B, 1]``.

        Returns:
            Quantiles of the slots; mean and deviation that the windows were measured by, float64.
        """
        step, inside = tokens.slots()
        values, observed = read_slots(x, step, inside)
        facts = self._facts(seasons, x)
        if self.config.measure == "recent":
            n_recent = RecentMeasure().length(seasons.clear_cycle())
            is_recent = step >= -n_recent[:, None, None]
            scaled, mean, spread, more_facts = measure_recent(values, observed, is_recent)
            facts = torch.cat([facts.to(more_facts), more_facts], dim=1)
        else:
            scaled, mean, spread = measure_whole(values, observed)
        flags = observed.to(scaled.dtype)
        inputs = [scaled, flags, inside.to(scaled.dtype)]
        inputs += self._more(x, seasons.period, step, mean, spread)
        facts = facts[:, None].to(scaled.dtype)
        inputs.append(facts.expand(-1, step.shape[1], -1))
        states = self._embed(torch.cat(inputs, dim=2), tokens)
        is_future = tokens.index >= 0
        # Tokens beyond the horizon are there because other series of the batch have shorter ones.
        key_mask = observed.any(2) | (is_future & (tokens.starts() < horizon))
        places = self._places(tokens, seasons.period)
        states = self._mix(states, places, key_mask, n_future)
        return self._answer(states, last_value(scaled, flags)), mean, spread

    @torch.inference_mode()
    def forecast(
        self, x: Float[Tensor, "B T"], horizon: int, *, likely: int = 0
    ) -> Float[Tensor, "B F Q"]:
        """Quantiles of the next steps in the units of the series.

        Args:
            x: Contexts in any units; NaN is missing, at the left also a history that begins later.
                Every row must hold a value.
            horizon: Steps ahead, at least 1.
            likely: The season that the frequency of the series usually has, which needs less
                evidence than others; 0 for none.

        Returns:
            Ascending quantiles, float64; the constant itself for a constant series.
        """
        x, seasons = self.look(x.to(torch.float64), horizon, likely)
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        context = self.config.token_context
        steps = coarse_steps(x)
        long = (seasons.longest() > context // 2) & (steps > 1)
        if long.any():
            answer[long] = self._forecast_long(x[long], steps[long], horizon)
        if not long.all():
            answer[~long] = self._forecast_short(
                x[~long, -context:], seasons.rows(~long), horizon, likely
            )
        return answer

    def _forecast_short(
        self, x: Tensor, seasons: Seasons, horizon: int, likely: int
    ) -> Float[Tensor, "B F Q"]:
        """Quantiles of contexts that fit into the tokens; steady changes count as
        :class:`SteadyChanges` says.
        """
        answer = self._forecast_read(x, seasons, horizon)
        lag = seasons.clear_cycle().clamp_min(1)
        share = share_of_changes(x, lag, horizon)
        rows = share > 0
        if rows.any():
            x = x[rows]
            lag = lag[rows]
            changes, seasons = self.look(changes_since(x, lag), horizon, likely)
            ahead = self._forecast_read(changes, seasons, horizon)
            added = self.added_up(x, ahead, lag, horizon)
            answer[rows] = answer[rows].lerp(added, share[rows, None, None])
        return answer

    def added_up(
        self, x: Tensor, ahead: Float[Tensor, "B F Q"], lag: Tensor, most: int
    ) -> Float[Tensor, "B F Q"]:
        """Quantiles of values from those of changes, as :class:`SteadyChanges` says.

        Args:
            x: Contexts, whose last ``lag`` values are observed or observed ``lag`` steps before.
            ahead: Quantiles of changes.
            lag: Steps between the two values of a change, ``[B]``.
            most: Steps ahead at most.
        """
        n_steps = ahead.shape[1]
        median = self.config.median
        step = torch.arange(n_steps, device=x.device)
        place = x.shape[1] - lag[:, None] + step % lag[:, None]
        point = filled_by_changes(x, lag).gather(1, place)[..., None]
        change = ahead[..., median, None]
        point = point + sum_by_lag(change, lag, most)
        distance = ahead - change
        power = SteadyChanges().power
        size = sum_by_lag(distance.abs() ** power, lag, most) ** (1 / power)
        return point + distance.sign() * size

    def _forecast_read(self, x: Tensor, seasons: Seasons, horizon: int) -> Tensor:
        """Quantiles [B F Q] of contexts that are read as they are, in passes of alike rows."""
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        n_steps = x.shape[1] - first_known(~x.isnan())
        for rows in self._alike(seasons, n_steps, horizon):
            recent = x[rows, -int(n_steps[rows].max()) :]
            slots, tokens, mean, spread = self(recent, horizon, seasons=seasons.rows(rows))
            answer[rows] = self.by_step(slots, tokens, mean, spread, horizon)
        return answer

    def by_step(
        self, slots: Tensor, tokens: Tokens, mean: Tensor, spread: Tensor, horizon: int
    ) -> Float[Tensor, "B F Q"]:
        """Ascending quantiles of each step ahead in the units of the series, from :meth:`read`."""
        by_step = self.squeezed_by_step(slots, tokens, horizon)
        # Sorted, so that quantiles ascend.
        squeezed = by_step.clamp(-_FARTHEST, _FARTHEST).sort(dim=2).values.to(torch.float64)
        if torch.compiler.is_exporting():
            # Runtimes of programs have no sinh of float64.
            return mean[..., None] + spread[..., None] * (squeezed.exp() - (-squeezed).exp()) / 2
        return mean[..., None] + spread[..., None] * squeezed.sinh()

    def squeezed_by_step(
        self, slots: Float[Tensor, "B M P Q"], tokens: Tokens, horizon: int
    ) -> Float[Tensor, "B F Q"]:
        """Quantiles of each step ahead in the space of the arcsinh, from those of slots."""
        token, slot = tokens.find(horizon)
        place = token * self.config.max_len + slot
        flat = slots.flatten(1, 2)
        return flat.gather(1, place[..., None].expand(-1, -1, flat.shape[2]))

    def _forecast_long(self, x: Tensor, steps: Tensor, horizon: int) -> Tensor:
        """Quantiles [B F Q] of series whose longest cycle is not twice among the tokens.

        Means of ``steps [B]`` steps are forecast, which show the cycle. What the straight lines
        between the middles of these means leave of the series is forecast by itself. The point is
        the sum of both, and the distance of a quantile to it the root of the sum of squares, as if
        the two were independent.
        """
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        for step in steps.unique().tolist():
            rows = steps == step
            answer[rows] = self._forecast_by_means(x[rows], step, horizon)
        return answer

    def _forecast_by_means(self, x: Tensor, step: int, horizon: int) -> Tensor:
        """Quantiles [B F Q] as the sum of a forecast of means of so many steps, and of the rest."""
        context = self.config.token_context
        median = self.config.median
        means = block_means(x, step)
        coarse = self.forecast(means, -(-horizon // step))
        past = means[:, -context:]
        n_past = past.shape[1] * step
        lines = between_blocks(torch.cat([past, coarse[..., median]], dim=1), step)
        # The first block may begin before the series.
        first = max(n_past - x.shape[1], 0)
        residual = x[:, -n_past:] - lines[:, first:n_past]
        residual, seasons = self.look(residual, horizon, 0)
        fine = self._forecast_read(residual[:, -context:], seasons, horizon)
        repeated = coarse.repeat_interleave(step, dim=1)[:, :horizon]
        line = lines[:, n_past : n_past + horizon, None]
        return self.added(line, repeated, fine)

    def added(self, line: Tensor, coarse: Tensor, fine: Tensor) -> Float[Tensor, "B F Q"]:
        """Quantiles of a sum, from those of means and of what the line ``[B, F, 1]`` leaves."""
        median = self.config.median
        coarse_distance = coarse - coarse[..., median, None]
        fine_distance = fine - fine[..., median, None]
        distance = (coarse_distance.square() + fine_distance.square()).sqrt()
        sign = fine_distance.sign().where(fine_distance != 0, coarse_distance.sign())
        point = line + fine[..., median, None]
        return point + distance * sign

    def squeeze(
        self,
        y: Float[Tensor, "B F"],
        tokens: Tokens,
        mean: Float[Tensor, "B 1"],
        spread: Float[Tensor, "B 1"],
    ) -> Float[Tensor, "B M P"]:
        """Future values slot by slot in the space of the arcsinh, which training compares with.

        Slots without a value are NaN.
        """
        step, inside = tokens.slots()
        n_steps = y.shape[1]
        place = step.clamp(0, n_steps - 1)
        values = y.gather(1, place.flatten(1)).view(place.shape).to(torch.float64)
        scaled = torch.asinh(in_deviations(values, mean, spread))
        usable = inside & (step < n_steps)
        return torch.where(usable, scaled, torch.nan).to(torch.float32)

    def _seasons(self, x: Tensor, likely: int = 0) -> Seasons:
        """Seasons of contexts, a part of the rows at a time."""
        size = max(_PART_STEPS // max(x.shape[1], 1), 1)
        return Seasons.joined([detect_seasons(part, likely) for part in x.split(size)])

    def look(
        self, x: Float[Tensor, "B T"], horizon: int, likely: int = 0
    ) -> tuple[Float[Tensor, "B T"], Seasons]:
        """Contexts as they are read, and their seasons.

        Contexts are NaN where a value is taken for wrong, and before the part that is read.
        """
        recent = x[:, -self.config.token_context :]
        recent = torch.where(find_outliers(recent), torch.nan, recent)
        seasons = self._seasons(recent, likely)
        recent, is_cut = read_recent(recent, seasons.period, horizon)
        if is_cut.any():
            longest = max(RecentPart().lengths)
            seasons = seasons.where(is_cut, self._seasons(recent[is_cut, -longest:], likely))
        n_before = x.shape[1] - recent.shape[1]
        if not n_before:
            return recent, seasons
        early_part = x[:, :n_before]
        is_unread = find_outliers(early_part) | is_cut[:, None]
        early_part = torch.where(is_unread, torch.nan, early_part)
        x = torch.cat([early_part, recent], dim=1)
        is_long = early_part.isfinite().any(1)
        if is_long.any():
            long_seasons = detect_long_seasons(x[is_long], seasons.rows(is_long))
            seasons = seasons.where(is_long, long_seasons)
        return x, seasons

    def _alike(self, seasons: Seasons, n_steps: Tensor, horizon: int) -> Iterator[Tensor]:
        """Rows that go through the network together.

        They have about as many tokens, and no more than the caches hold.
        """
        max_tokens = self.config.max_tokens
        cut = self._cut(seasons, int(n_steps.max()), horizon, max_tokens)
        n_context = cut.count_tokens(n_steps).clamp_max(max_tokens)
        n_tokens = n_context + cut.count_tokens(horizon)
        order = n_tokens.argsort(descending=True, stable=True)
        while len(order):
            n_numbers = self.config.d_model * int(n_tokens[order[0]])
            size = max(_PART_NUMBERS // n_numbers, 1)
            yield order[:size]
            order = order[size:]

    def _cut(self, seasons: Seasons, n_steps: int, horizon: int, max_tokens: int) -> Tokens:
        """Tokens of a context of so many steps and of the horizon."""
        tokens = self.season_tokens(seasons)
        n_context = min(int(tokens.count_tokens(n_steps).max()), max_tokens)
        n_future = int(tokens.count_tokens(horizon).max())
        index = torch.arange(-n_context, n_future, device=seasons.period.device)
        return replace(tokens, index=index)

    def season_tokens(self, seasons: Seasons) -> Tokens:
        """How tokens are cut at the seasons, without numbers of tokens."""
        token_len = self.config.token_len
        period = seasons.period
        steps = torch.where(period >= 2, period, token_len)
        # Seasons of less than three quarters of a token are taken together until they fill one.
        several_seasons = steps * floor(token_len + steps // 2, steps)
        steps = torch.where(4 * steps < 3 * token_len, several_seasons, steps)
        # Tokens of a season: its length in tokens, rounded.
        count = floor(2 * steps + token_len, 2 * token_len).clamp_min(1)
        cycle = seasons.clear_cycle()
        has_cycle = (cycle > period) & (cycle % steps == 0)
        n_seasons = torch.where(has_cycle, floor(cycle, steps), 1)
        empty = torch.arange(0, device=period.device)
        return Tokens(steps, count, n_seasons, empty, self.config.max_len)

    def _facts(self, seasons: Seasons, x: Tensor) -> Tensor:
        """Four numbers about a series, [B 4].

        They are whether it has a season, the length of its cycle, how well the season repeats, and
        how many values are observed.
        """
        observed = ~x[:, -self.config.token_context :].isnan()
        amount = observed.sum(1).clamp_min(1).log() / _LOG_SCALE
        length = seasons.clear_cycle().clamp_min(1).log() / _LOG_SCALE
        has_season = (seasons.period > 0).to(amount)
        strength = seasons.strength.to(amount)
        return torch.stack([has_season, length, strength, amount], 1)

    def _more(
        self, x: Tensor, period: Tensor, step: Tensor, mean: Tensor, spread: Tensor
    ) -> list[Tensor]:
        """Further inputs of each slot, for networks that have some."""
        return []

    def _embed(self, inputs: Tensor, tokens: Tokens) -> Tensor:
        """States of tokens from their inputs."""
        states = self.embed(inputs) + self.refine(inputs)
        is_future = (tokens.index >= 0).to(states.dtype)
        return states + is_future[:, None] * self.future

    def _places(self, tokens: Tokens, period: Tensor) -> Places:
        """Parts and positions of the tokens for the levels: all pairs, one phase, near."""
        near_tokens = self.config.near
        time = (tokens.starts() + tokens.lengths() / 2) / self.config.token_len
        # A block lies across the origin, so that the first future token has near ones before it.
        # Those of the past have negative numbers, which are no parts: the weights learnt so, and a
        # study saw no difference.
        near = floor(tokens.index + near_tokens // 2, near_tokens)
        # Where there is no season, blocks four times as long take the place of its phases.
        long_block = floor(tokens.index + 2 * near_tokens, 4 * near_tokens)
        seasonal = (period > 0)[:, None]
        phase = torch.where(seasonal, tokens.phase(), long_block - long_block.min())
        turn = torch.where(seasonal, tokens.cycle().to(time), time)
        block = cast(TransformerBlock, self.stack.blocks[0])
        score = cast(GroupLevelScore, block.attention.score)
        return score.place((phase, near), (time, turn, time))

    def _mix(self, states: Tensor, places: Places, key_mask: Tensor, n_future: int) -> Tensor:
        """States of the future tokens after all blocks."""
        *first_blocks, last_block = self.stack.blocks
        n_tokens = states.shape[1]
        n_encoded = None
        if self.config.encode is not None:
            n_encoded = n_future + min(self.config.encode, n_tokens - n_future)
        for block in first_blocks:
            encoded = block(states, key_mask=key_mask, places=places, n_last=n_encoded)
            if n_encoded is not None:
                encoded = torch.cat([states[:, : n_tokens - n_encoded], encoded], dim=1)
            states = encoded
        states = last_block(states, key_mask=key_mask, places=places, n_last=n_future)
        return self.stack.norm(states)

    def _answer(self, states: Tensor, last: Tensor) -> Tensor:
        """Quantiles of future slots: the head's output and a learned share of the last value."""
        answer = self.head(states)
        slots = answer[..., :-1].unflatten(2, (self.config.max_len, -1))
        shared = answer[..., -1] * last[:, None]
        return slots + shared[..., None, None]


def _set_to_zero(*layers: nn.Linear) -> None:
    """Set weights and biases to 0."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def last_value(
    scaled: Float[Tensor, "B L P"], observed: Float[Tensor, "B L P"]
) -> Float[Tensor, " B"]:
    """The last observed value of each window; 0 where there is none."""
    values = scaled.flatten(1)
    place = torch.arange(values.shape[1], device=values.device)
    last = (observed.flatten(1) * (place + 1)).argmax(1, keepdim=True)
    return values.gather(1, last)[:, 0]


def read_slots(x: Tensor, step: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Values of slots of the context, and whether each has one.

    Args:
        x: Contexts, ``[B, T]``.
        step: Steps of the slots, ``[B, L, P]``; -1 is the last of the context.
        inside: Whether a token is long enough to have the slot.

    Returns:
        Values, 0 where there is none, and whether one is observed, ``[B, L, P]`` each.
    """
    n_steps = x.shape[1]
    place = step + n_steps
    in_context = inside & (place >= 0) & (place < n_steps)
    nearest = place.clamp(0, n_steps - 1).flatten(1)
    values = x.gather(1, nearest).view(step.shape)
    observed = in_context & ~values.isnan()
    return torch.where(observed, values, 0.0), observed
