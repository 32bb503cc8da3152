"""The network of the pretrained forecaster: tokens cut at the season, levels by season, quantiles
of the future.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsattn.nn.attention import Attention
from tsattn.nn.blocks import TransformerBlock, TransformerStack
from tsattn.nn.layers import FeedForward, linear
from tsattn.nn.scores import GroupLevelScore, Places
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.period import (
    Seasons,
    block_means,
    coarse_steps,
    detect_long_seasons,
    detect_seasons,
    first_known,
)
from tsattn.settings import check_whole

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
_FAR = 9.0
# Numbers about a whole series that every token gets.
_N_FACTS = 4
# Steps of the past that are searched for seasons, eight times those that tokens of the usual length
# hold.
_LONG_PAST = 8
# Steps that are searched for a season, and numbers of tokens that go through the blocks, together,
# about: what is computed of them stays in the caches, and threads seldom wait for one another.
_PART_STEPS = 2**18
_PART_NUMBERS = 2**20
# What is read of a long past has a deviation of so many mean changes from step to step at most, or
# is its last part of the fewest of these steps that holds so many seasons, and so many times the
# horizon.
_MOST_CHANGES = 24.0
_PARTS = (1024, 512, 256)
_SEASONS = 4
_HORIZONS = 16


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
        encode: Tokens of the context, the last ones, that pass through the blocks; the blocks show
            those before as they were embedded. Default all.
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
    encode: int | None = None
    quantiles: tuple[float, ...] = QUANTILES

    def __post_init__(self) -> None:
        if self.d_model % self.n_heads or self.d_model // self.n_heads % 8:
            raise ValueError(
                "a head's width must be a multiple of 8, for half and two quarters in pairs; got"
                f" d_model = {self.d_model} for {self.n_heads} heads; change one of them"
            )
        if not 1.5 * self.token_len <= self.max_len:
            raise ValueError(
                f"max_len must be at least 1.5 token_len; got {self.max_len} for {self.token_len}"
            )
        if self.encode is not None:
            check_whole("encode", self.encode, 0)
        if 0.5 not in self.quantiles or tuple(sorted(self.quantiles)) != self.quantiles:
            raise ValueError(f"quantiles must ascend and hold 0.5; got {self.quantiles}")

    @property
    def token_context(self) -> int:
        """Steps of the context that have tokens at most, where tokens have their usual length."""
        return self.max_tokens * self.token_len

    @property
    def max_context(self) -> int:
        """Steps of the past that are read at most, those beyond the tokens for seasons alone."""
        return _LONG_PAST * self.token_context

    @property
    def ranks(self) -> tuple[int, ...]:
        """Features of a head by level: for all pairs, for tokens of one phase, for near tokens from
        the origin on.
        """
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
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(
                f"the network has no setting {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        return cls(**{**values, "quantiles": tuple(values.get("quantiles", QUANTILES))})


@dataclass(frozen=True, eq=False)
class Tokens:
    """How the steps around an origin are cut into tokens; step 0 is the first of the future, -1 the
    last known one.

    A season of ``steps`` steps has ``count`` tokens, token j starts at step
    ``floor(j steps / count)``, so cuts repeat with the season.

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
        return self._start(self.index + 1) - self._start(self.index)

    def slots(self) -> tuple[Int[Tensor, "B L P"], Bool[Tensor, "B L P"]]:
        """Step of each slot of each token, and whether the token is long enough to have it."""
        slot = torch.arange(self.max_len, device=self.index.device)
        return self.starts()[..., None] + slot, slot < self.lengths()[..., None]

    def cycle(self) -> Int[Tensor, "B L"]:
        """Which cycle a token is in, counted from the origin."""
        return floor(self.index[None], (self.n_seasons * self.count)[:, None])

    def phase(self) -> Int[Tensor, "B L"]:
        """Which token of its cycle it is."""
        return self.index[None] - self.cycle() * (self.n_seasons * self.count)[:, None]

    def find(self, n_steps: int) -> tuple[Int[Tensor, "B F"], Int[Tensor, "B F"]]:
        """Token number and slot of each of the first steps of the future."""
        step = torch.arange(n_steps, device=self.index.device)[None]
        steps = self.steps[:, None]
        count = self.count[:, None]
        token = -floor(-(step + 1) * count, steps) - 1
        return token, step - floor(token * steps, count)

    def _start(self, index: Tensor) -> Tensor:
        return floor(index[None] * self.steps[:, None], self.count[:, None])


class ZeroNetwork(nn.Module):
    """An encoder over the tokens of a context and of the future, which answers quantiles of every
    future step at once.

    Of a past that moved far in small steps the recent part is read (:func:`read_recent`). A window
    is measured by the mean and deviation of what is known of it and squeezed by the arcsinh. Tokens
    of about ``token_len`` steps are cut at the season that
    :func:`tsattn.pretrained.period.detect_period` finds, so that tokens of one phase are alike; the
    future has tokens without values. Attention has three levels of features: for all pairs, for
    tokens of one phase, for near tokens (docs/mathematics.md, section 3). The last block answers
    future tokens only.

    Args:
        config: Sizes and kinds.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    # What the network is told of each slot of a token: value, whether it is known, whether the
    # token is so long.
    _n_slot_inputs = 3

    def __init__(self, config: ZeroConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        n_inputs = self._n_slot_inputs * config.max_len + _N_FACTS
        self.embed = linear(n_inputs, width, generator=generator)
        self.refine = FeedForward(n_inputs, 2 * width, d_out=width, generator=generator)
        self.future = nn.Parameter(torch.zeros(width))
        self.stack = TransformerStack(
            [self._block(generator) for _ in range(config.n_layers)], d_model=width
        )
        # Beside the quantiles, the share of the last known value.
        self.head = linear(width, config.max_len * len(config.quantiles) + 1, generator=generator)
        with torch.no_grad():
            for layer in (self.head, self.refine.narrow):
                layer.weight.zero_()
                layer.bias.zero_()

    def _block(self, generator: torch.Generator | None) -> TransformerBlock:
        config = self.config
        score = GroupLevelScore(
            config.d_model,
            config.n_heads,
            ranks=config.ranks,
            rotary_base=1000.0,
            norm=True,
            generator=generator,
        )
        attention = Attention(config.d_model, score=score, generator=generator)
        feed_forward = FeedForward(config.d_model, config.d_ff, generator=generator)
        with torch.no_grad():
            for layer in (attention.out, feed_forward.narrow):
                layer.weight.zero_()
                layer.bias.zero_()
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
            Quantiles of the slots of M future tokens; those tokens; level and deviation that the
            windows were measured by, float64.
        """
        x, seasons = self.look(x, horizon) if seasons is None else (x, seasons)
        tokens = self._cut(seasons, x.shape[1], horizon, max_tokens or self.config.max_tokens)
        index, inside = tokens.slots()
        values, known = read_slots(x, index, inside)
        scaled, level, spread = _measure(values, known)
        known = known.to(scaled.dtype)
        inputs = [
            scaled,
            known,
            inside.to(scaled.dtype),
            *self._more(x, seasons.period, index, level, spread),
        ]
        facts = self._facts(seasons, x)[:, None].expand(-1, index.shape[1], -1).to(scaled.dtype)
        states = self._embed(torch.cat([*inputs, facts], dim=2), tokens)
        n_future = int((tokens.index >= 0).sum())
        # Tokens beyond the horizon are there because other series of the batch have shorter ones.
        key_mask = (known.sum(2) > 0) | ((tokens.index >= 0) & (tokens.starts() < horizon))
        states = self._mix(states, self._places(tokens, seasons.period), key_mask, n_future)
        future = replace(tokens, index=tokens.index[tokens.index >= 0])
        return self._answer(states, last_value(scaled, known)), future, level, spread

    @torch.inference_mode()
    def forecast(
        self, x: Float[Tensor, "B T"], horizon: int, *, likely: int = 0
    ) -> Float[Tensor, "B F Q"]:
        """Quantiles of the next steps in the units of the series.

        Args:
            x: Contexts in any units; NaN is missing, at the left also a history that begins later.
                Every row must hold a value.
            horizon: Steps ahead, at least 1.
            likely: The season that the frequency of the series usually has, which is then taken on
                less evidence; 0 where nothing is known of it.

        Returns:
            Ascending quantiles, float64; the constant itself for a constant series.
        """
        x = x.to(torch.float64)
        x, seasons = self.look(x, horizon, likely)
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        steps = coarse_steps(x)
        long = (seasons.longest() > self.config.token_context // 2) & (steps > 1)
        if long.any():
            answer[long] = self._forecast_long(x[long], steps[long], horizon)
        if not long.all():
            answer[~long] = self._forecast_read(
                x[~long, -self.config.token_context :], seasons.rows(~long), horizon
            )
        return answer

    def _forecast_read(self, x: Tensor, seasons: Seasons, horizon: int) -> Tensor:
        """Quantiles [B F Q] of contexts that are read as they are, in passes of alike rows."""
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        n_steps = x.shape[1] - first_known(~x.isnan())
        for rows in self._alike(seasons, n_steps, horizon):
            part = seasons.rows(rows)
            slots, tokens, level, spread = self(
                x[rows, -int(n_steps[rows].max()) :], horizon, seasons=part
            )
            token, slot = tokens.find(horizon)
            flat = slots.flatten(1, 2)
            at = (token * self.config.max_len + slot)[..., None].expand(-1, -1, flat.shape[2])
            squeezed = flat.gather(1, at).clamp(-_FAR, _FAR).sort(dim=2).values.to(torch.float64)
            answer[rows] = level[..., None] + spread[..., None] * squeezed.sinh()
        return answer

    def _forecast_long(self, x: Tensor, steps: Tensor, horizon: int) -> Tensor:
        """Quantiles [B F Q] of series whose longest cycle is not twice among the tokens.

        Means of ``steps [B]`` steps are forecast, which show the cycle, and beside them what these
        means, on straight lines between their middles, leave of the series. The point is the sum of
        both, and the distance of a quantile to it the root of the sum of squares, as if the two
        were independent.
        """
        answer = x.new_empty(len(x), horizon, len(self.config.quantiles))
        middle = self.config.quantiles.index(0.5)
        for step in steps.unique().tolist():
            rows = steps == step
            means = block_means(x[rows], step)
            coarse = self.forecast(means, -(-horizon // step))
            past = means[:, -self.config.token_context :]
            lines = between_blocks(torch.cat([past, coarse[..., middle]], dim=1), step)
            n_past = past.shape[1] * step
            recent = x[rows][:, -n_past:] - lines[:, max(n_past - x.shape[1], 0) : n_past]
            rest, rest_seasons = self.look(recent, horizon, 0)
            fine = self._forecast_read(rest[:, -self.config.token_context :], rest_seasons, horizon)
            repeated = coarse.repeat_interleave(step, dim=1)[:, :horizon]
            far = repeated - repeated[..., middle, None]
            near = fine - fine[..., middle, None]
            distance = (far.square() + near.square()).sqrt() * near.sign().where(
                near != 0, far.sign()
            )
            point = lines[:, n_past : n_past + horizon, None] + fine[..., middle, None]
            answer[rows] = point + distance
        return answer

    def squeeze(
        self,
        y: Float[Tensor, "B F"],
        tokens: Tokens,
        level: Float[Tensor, "B 1"],
        spread: Float[Tensor, "B 1"],
    ) -> Float[Tensor, "B M P"]:
        """Future values slot by slot in the space of the arcsinh, what training compares with; NaN
        where none is.
        """
        index, inside = tokens.slots()
        at = index.clamp(0, y.shape[1] - 1)
        values = y.gather(1, at.flatten(1)).view(at.shape).to(torch.float64)
        unit = torch.where(spread > 0, spread, 1.0)[..., None]
        scaled = torch.asinh((values - level[..., None]) / unit)
        return torch.where(inside & (index < y.shape[1]), scaled, torch.nan).to(torch.float32)

    def _seasons(self, x: Tensor, likely: int = 0) -> Seasons:
        size = max(_PART_STEPS // max(x.shape[1], 1), 1)
        return Seasons.joined([detect_seasons(part, likely) for part in x.split(size)])

    def look(
        self, x: Float[Tensor, "B T"], horizon: int, likely: int = 0
    ) -> tuple[Float[Tensor, "B T"], Seasons]:
        """Contexts, NaN where a value is taken for wrong and before what is read of them, and their
        seasons.
        """
        recent = x[:, -self.config.token_context :]
        recent = torch.where(find_outliers(recent), torch.nan, recent)
        seasons = self._seasons(recent, likely)
        recent, cut = read_recent(recent, seasons.period, horizon)
        if cut.any():
            seasons = seasons.where(cut, self._seasons(recent[cut, -max(_PARTS) :], likely))
        before = x[:, : x.shape[1] - recent.shape[1]]
        if not before.shape[1]:
            return recent, seasons
        before = torch.where(find_outliers(before) | cut[:, None], torch.nan, before)
        long = before.isfinite().any(1)
        x = torch.cat([before, recent], dim=1)
        if long.any():
            seasons = seasons.where(long, detect_long_seasons(x[long], seasons.rows(long)))
        return x, seasons

    def _alike(self, seasons: Seasons, n_steps: Tensor, horizon: int) -> Iterator[Tensor]:
        """Rows that go through the network together: as many tokens, about, and no more than the
        caches hold.
        """
        cut = self._cut(seasons, int(n_steps.max()), horizon, self.config.max_tokens)
        n_context = (-floor(-n_steps * cut.count, cut.steps)).clamp_max(self.config.max_tokens)
        n_tokens = n_context - floor(-horizon * cut.count, cut.steps)
        order = n_tokens.argsort(descending=True, stable=True)
        while len(order):
            size = max(_PART_NUMBERS // self.config.d_model // int(n_tokens[order[0]]), 1)
            yield order[:size]
            order = order[size:]

    def _cut(self, seasons: Seasons, n_steps: int, horizon: int, max_tokens: int) -> Tokens:
        config = self.config
        period = seasons.period
        steps = torch.where(period >= 2, period, config.token_len)
        # Short seasons are taken together until they fill a token.
        together = steps * floor(config.token_len + steps // 2, steps)
        steps = torch.where(4 * steps < 3 * config.token_len, together, steps)
        count = floor(2 * steps + config.token_len, 2 * config.token_len).clamp_min(1)
        cycle = seasons.clear_cycle()
        n_seasons = torch.where((cycle > period) & (cycle % steps == 0), floor(cycle, steps), 1)
        n_context = min(int((-floor(-n_steps * count, steps)).max()), max_tokens)
        n_future = int((-floor(-horizon * count, steps)).max())
        index = torch.arange(-n_context, n_future, device=period.device)
        return Tokens(steps, count, n_seasons, index, config.max_len)

    def _facts(self, seasons: Seasons, x: Tensor) -> Tensor:
        """Season or none, the length of its cycle, how well it repeats, and how much is known of a
        series, [B 4].
        """
        known = (~x[:, -self.config.token_context :].isnan()).sum(1).clamp_min(1).log() / 8
        length = seasons.clear_cycle().clamp_min(1).log() / 8
        return torch.stack(
            [(seasons.period > 0).to(known), length, seasons.strength.to(known), known], 1
        )

    def _more(
        self, x: Tensor, period: Tensor, index: Tensor, level: Tensor, spread: Tensor
    ) -> list[Tensor]:
        """Further inputs of each slot, for networks that have some."""
        return []

    def _embed(self, inputs: Tensor, tokens: Tokens) -> Tensor:
        states = self.embed(inputs) + self.refine(inputs)
        return states + (tokens.index >= 0).to(states.dtype)[:, None] * self.future

    def _places(self, tokens: Tokens, period: Tensor) -> Places:
        """Parts and positions of the tokens for the levels: all pairs, one phase, near."""
        config = self.config
        time = (tokens.starts() + tokens.lengths() / 2) / config.token_len
        score = cast(GroupLevelScore, cast(TransformerBlock, self.stack.blocks[0]).attention.score)
        # A block lies across the origin, so that the first future token has near ones before it.
        # Those of the past have negative numbers, which are no parts: the weights learnt so, and a
        # study saw no difference.
        near = floor(tokens.index + config.near // 2, config.near)
        wide = floor(tokens.index + 2 * config.near, 4 * config.near)
        seasonal = (period > 0)[:, None]
        phase = torch.where(seasonal, tokens.phase(), wide - wide.min())
        turn = torch.where(seasonal, tokens.cycle().to(time), time)
        return score.place((phase, near), (time, turn, time))

    def _mix(self, states: Tensor, places: Places, key_mask: Tensor, n_future: int) -> Tensor:
        blocks = list(self.stack.blocks)
        held = self.config.encode
        for layer, block in enumerate(blocks, 1):
            final = layer == len(blocks)
            n_tokens = states.shape[1]
            last = n_future if final else None if held is None else min(n_future + held, n_tokens)
            seen = block(states, key_mask=key_mask, places=places, n_last=last)
            states = (
                seen
                if final or last is None
                else torch.cat([states[:, : n_tokens - last], seen], dim=1)
            )
        mixed: Tensor = self.stack.norm(states)
        return mixed

    def _answer(self, states: Tensor, last: Tensor) -> Tensor:
        """Quantiles of future slots: the head's own, and a learned share of the last
        known value.
        """
        answer = self.head(states)
        slots = answer[..., :-1].unflatten(2, (self.config.max_len, -1))
        return slots + (answer[..., -1] * last[:, None])[..., None, None]


def between_blocks(means: Float[Tensor, "B N"], step: int) -> Float[Tensor, "B S"]:
    """Values of every step on straight lines between the middles of blocks of so many steps."""
    return torch.nn.functional.interpolate(
        means[:, None], scale_factor=step, mode="linear", align_corners=False
    )[:, 0]


def last_value(
    scaled: Float[Tensor, "B L P"], known: Float[Tensor, "B L P"]
) -> Float[Tensor, " B"]:
    """The last known value of each window; 0 where none is known."""
    values = scaled.flatten(1)
    flags = known.flatten(1)
    where = torch.arange(values.shape[1], device=values.device)
    return values.gather(1, (flags * (where + 1)).argmax(1, keepdim=True))[:, 0]


def read_recent(
    x: Float[Tensor, "B T"], period: Int[Tensor, " B"], horizon: int
) -> tuple[Float[Tensor, "B T"], Bool[Tensor, " B"]]:
    """Contexts without what makes their recent changes too small to be seen, and which of them lost
    something.

    A context is kept whole where its deviation is at most 24 times the mean absolute change from
    one known step to the next. Of others the last 1,024, 512 or 256 steps are kept, the most of
    which that holds, else the fewest of which something varies; a part holds four seasons and
    sixteen horizons at least. A window is measured by its deviation, beside which the last steps of
    a price, or of a concentration that rises for decades, would hardly be seen.

    Args:
        x: Contexts; NaN is missing, at the left also a history that begins later.
        period: The season of each in steps, 0 for none.
        horizon: Steps ahead.

    Returns:
        Contexts, NaN before the part that is kept; whether there is less of one than before.

    Example:
        >>> walk = torch.arange(2048.0)[None]
        >>> read_recent(walk, torch.tensor([0]), 12)[0].isfinite().sum()
        tensor(256)
    """
    values = x - x.nanmean(1, keepdim=True)
    n_steps = x.shape[1]
    values = values / values.abs().nan_to_num(0.0).amax(1, keepdim=True).clamp_min(1e-300)
    changes = values.diff(dim=1).abs()
    least = (_SEASONS * period).clamp_min(_HORIZONS * horizon)
    keep = torch.full_like(period, n_steps)
    settled = torch.zeros_like(period, dtype=torch.bool)
    for length in (n_steps, *(part for part in _PARTS if part < n_steps)):
        part = values[:, -length:]
        change = changes[:, n_steps - length :].nanmean(1).nan_to_num(torch.inf)
        spread = (part - part.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()
        usable = (spread > 0) & ((least <= length) | (length == n_steps))
        keep = torch.where(usable & ~settled, length, keep)
        settled |= usable & (spread <= _MOST_CHANGES * change)
    old = torch.arange(n_steps, 0, -1, device=x.device) > keep[:, None]
    return torch.where(old, torch.nan, x), (old & ~x.isnan()).any(1)


def floor(numerator: Tensor, denominator: Tensor | int) -> Tensor:
    """Whole quotients, rounded down."""
    return torch.div(numerator, denominator, rounding_mode="floor")


def read_slots(x: Tensor, index: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Values of slots of the context [B L P], 0 where there is none, and whether there is one."""
    n_steps = x.shape[1]
    place = index + n_steps
    held = inside & (place >= 0) & (place < n_steps)
    values = x.gather(1, place.clamp(0, n_steps - 1).flatten(1)).view(index.shape)
    known = held & ~values.isnan()
    return torch.where(known, values, 0.0), known


def _measure(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of a window in the space of the arcsinh, and the level and deviation [B 1] they were
    measured by.
    """
    values = values.to(torch.float64)
    count = known.sum((1, 2)).clamp_min(1)
    size = values.abs().amax((1, 2))
    size = torch.where(
        size > 0, size, 1.0
    )  # squares of what is very large or small leave the numbers
    part = values / size[:, None, None]
    level = part.sum((1, 2)) / count
    spread = (
        torch.where(known, part - level[:, None, None], 0.0).square().sum((1, 2)).div(count).sqrt()
    )
    # A constant series has a deviation of rounding errors.
    spread = torch.where(spread > 1e-14, spread, 0.0)
    level = (size * level)[:, None]
    spread = (size * spread)[:, None]
    return scale(values, known, level, spread), level, spread


def scale(values: Tensor, known: Tensor, level: Tensor, spread: Tensor) -> Tensor:
    """Values in the space of the arcsinh, 0 where none is known, float32."""
    unit = torch.where(spread > 0, spread, 1.0)[..., None]
    scaled = ((values - level[..., None]) / unit).to(torch.float32).asinh_()
    return torch.where(known, scaled, 0.0)
