"""How do token states become a forecast? Point, quantile and distribution heads behind one
interface.

A head's ``forward`` gives raw numbers on the scale of the normalised window. ``denormalise`` turns
them into the parameters of the forecast on the scale of the data, and everything else works on
those: ``point``, ``quantiles``, ``sample``, ``loss``. Parameters have the shape of the target and
one more axis, the last; a point head has none. What stands before is up to the model.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributions, nn

from tsattn.nn.distributions import FAMILIES, MeanScale, check_quantiles, shown
from tsattn.nn.layers import linear
from tsattn.nn.patching import RevIN

HEADS = ("point", "quantile", *FAMILIES)
QUANTILES = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
POINT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}
_SAME = 1e-6  # nearer than this a quantile is a trained one: 1 - 0.9 means 0.1


class Head(nn.Module):
    """All token states side by side, then one linear map to the parameters of every future step.

    Args:
        n_tokens: Tokens a window has.
        d_model: Token width.
        horizon: Future steps.
        n_parameters: Numbers a step's forecast has.
        generator: Source of the start values; ``None`` is torch's global one.

    Attributes:
        losses: What the head can be trained by; the first is the default.
        shifts: Whether its forecasts follow a shift of the window; otherwise windows are normalised
            without one.
    """

    losses: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        n_parameters: int = 1,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.n_parameters = n_parameters
        self.shifts = True
        self.project: nn.Module = linear(
            n_tokens * d_model, horizon * n_parameters, generator=generator
        )

    def forward(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B F P"]:
        """Raw numbers, any real values, for each future step."""
        return self.project(states.flatten(1)).unflatten(1, (-1, self.n_parameters))

    def narrow(self, rank: int, *, generator: torch.Generator | None = None) -> None:
        """Let the states speak to the future through ``rank`` numbers only: two thin maps for the
        wide one.
        """
        wide = cast(nn.Linear, self.project)
        thin = linear(wide.in_features, rank, bias=False, generator=generator)
        self.project = nn.Sequential(thin, linear(rank, wide.out_features, generator=generator))

    def start_at_zero(self) -> None:
        """Let the states say nothing at first."""
        last = self.project[-1] if isinstance(self.project, nn.Sequential) else self.project
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def normaliser(self) -> nn.Module:
        """How windows should be normalised for this head: by mean and deviation, or by the mean
        absolute value.
        """
        return RevIN("mean") if self.shifts else MeanScale()

    def check_support(self, y: Tensor) -> None:
        """Refuse values the head could never forecast; missing ones (NaN) pass.

        Raises:
            ValueError: Naming the first such value.
        """

    def _check_kind(self, kind: str | None) -> str:
        if kind not in (None, *self.losses):
            raise ValueError(
                f"loss must be one of {', '.join(self.losses)} for this head; got {kind!r}"
            )
        return kind or self.losses[0]


class PointHead(Head):
    """One value for each future step; arguments as in :class:`Head`, without ``n_parameters``."""

    losses: ClassVar[tuple[str, ...]] = tuple(POINT_LOSSES)

    def forward(self, states: Float[Tensor, "B L D"]) -> Float[Tensor, "B F"]:
        """One value for each future step."""
        return self.project(states.flatten(1))

    def shift(self, raw: Float[Tensor, "*N"], skip: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """Add another forecast."""
        return raw + skip

    def denormalise(
        self, raw: Float[Tensor, "*N"], level: Tensor | None = None, spread: Tensor | None = None
    ) -> Float[Tensor, "*N"]:
        """The forecast after y = x * spread + level.

        Args:
            raw: What the head gave; the other heads' has one more axis, the last.
            level: Shift of each window, ``[*B, 1]`` or anything that fits ``raw``; ``None`` is no
                shift.
            spread: Scale of each window, at least 0; ``None`` is 1.
        """
        y = raw if spread is None else raw * spread
        return y if level is None else y + level

    def point(self, parameters: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """The forecast itself."""
        return parameters

    def quantiles(self, parameters: Tensor, q: Sequence[float] | Tensor) -> Tensor:
        """Refused, always.

        Raises:
            ValueError: A point head knows none.
        """
        raise ValueError(
            f"a point head has no quantiles; got {shown(q)}; train head='quantile' or 'student_t',"
            " or calibrate intervals around the forecaster"
        )

    def sample(self, parameters: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Refused, always.

        Raises:
            ValueError: A point head has no distribution.
        """
        raise ValueError(
            f"a point head has no distribution; got n = {n} samples to draw; train head='quantile'"
            " or 'student_t'"
        )

    def loss(
        self,
        parameters: Float[Tensor, "*N"],
        y: Float[Tensor, "*N"],
        mask: Bool[Tensor, "*N"] | None = None,
        *,
        kind: str | None = None,
    ) -> Float[Tensor, ""]:
        """Mean error of the values that are there.

        Args:
            parameters: The forecast.
            y: Truth; whatever stands where ``mask`` is False, NaN too, changes nothing.
            mask: True where ``y`` counts; all of it by default. With nothing to count the loss is
                0.
            kind: ``"mse"`` (default), ``"mae"`` or ``"huber"`` (threshold 1).

        Raises:
            ValueError: If ``kind`` is another.
        """
        error = POINT_LOSSES[self._check_kind(kind)]
        if mask is None:
            return error(parameters, y)
        y = torch.where(mask, y, torch.zeros_like(y))
        return _masked_mean(error(parameters, y, reduction="none"), mask)


class QuantileHead(Head):
    """Quantiles that cannot cross: the median, and steps up and down from it that are never
    negative.

    A step is the softplus of a raw number, scaled so that raw zeros give the quantiles of the
    standard normal distribution. Trained by the mean pinball loss. Between trained quantiles the
    forecast is interpolated linearly in the probability; beyond the outermost ones nothing is
    known, and asking is an error. Arguments as in :class:`Head`, and:

    Args:
        quantiles: Those to train, between 0 and 1, rising; 0.5 is put among them where it is
            missing.

    Raises:
        ValueError: If a quantile is not between 0 and 1, or they do not rise.
    """

    losses: ClassVar[tuple[str, ...]] = ("pinball",)

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        *,
        quantiles: Sequence[float] = QUANTILES,
        generator: torch.Generator | None = None,
    ) -> None:
        given = [float(q) for q in check_quantiles(quantiles)]
        if any(b - a <= _SAME for a, b in pairwise(given)):
            raise ValueError(
                f"quantiles must rise; got {shown(given)}; sort them and drop repeated ones"
            )
        trained = given if any(abs(q - 0.5) <= _SAME for q in given) else sorted([*given, 0.5])
        super().__init__(n_tokens, d_model, horizon, len(trained), generator=generator)
        self.trained = tuple(trained)
        self._median = min(range(len(trained)), key=lambda i: abs(trained[i] - 0.5))
        normal = torch.special.ndtri(torch.tensor(trained, dtype=torch.float64, device="cpu"))
        # Softplus of zero is log 2: a step starts as long as the standard normal's.
        self._gaps = [float(gap) / math.log(2) for gap in normal.diff()]

    def shift(self, raw: Float[Tensor, "*N P"], skip: Float[Tensor, "*N"]) -> Float[Tensor, "*N P"]:
        """Move the median, and with it every quantile."""
        return _add_at(raw, self._median, skip)

    def denormalise(
        self, raw: Float[Tensor, "*N P"], level: Tensor | None = None, spread: Tensor | None = None
    ) -> Float[Tensor, "*N P"]:
        """The trained quantiles, lowest first, scaled and shifted."""
        raw = _at_least_float32(raw)
        middle = self._median
        gaps = raw.new_tensor([*self._gaps[:middle], 0.0, *self._gaps[middle:]])
        steps = (nn.functional.softplus(raw) * gaps).unbind(-1)
        # One addition after another: sums of a parallel scan may round so that neighbours cross.
        values = [raw[..., middle]]
        for step in steps[middle + 1 :]:
            values.append(values[-1] + step)
        for step in reversed(steps[:middle]):
            values.insert(0, values[0] - step)
        y = torch.stack(values, -1)
        y = y if spread is None else y * spread[..., None]
        return y if level is None else y + level[..., None]

    def point(self, parameters: Float[Tensor, "*N P"]) -> Float[Tensor, "*N"]:
        """The median."""
        return parameters[..., self._median]

    def quantiles(
        self, parameters: Float[Tensor, "*N P"], q: Sequence[float] | Float[Tensor, " Q"]
    ) -> Float[Tensor, "*N Q"]:
        """Trained quantiles as they are, others between their neighbours, linearly in the
        probability.

        Raises:
            ValueError: If one is outside the trained range.
        """
        asked = check_quantiles(q)
        low = self.trained[0]
        high = self.trained[-1]
        beyond = (asked < low - _SAME) | (asked > high + _SAME)
        if beyond.any():
            raise ValueError(
                f"this head was trained for quantiles from {low:g} to {high:g}; got"
                f" {float(asked[beyond][0]):g}; ask for one between, or train with quantiles= that"
                " reach it"
            )
        return self._interpolate(
            parameters, asked.to(parameters.device)[(None,) * (parameters.ndim - 1)]
        )

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*N P"], n: int, generator: torch.Generator
    ) -> Float[Tensor, "*N n"]:
        """Draws by inversion, steps independent of one another; arguments as in
        :meth:`DistributionHead.sample`.

        What would fall beyond the outermost trained quantiles is set to them: inside the range the
        draws have the quantiles of the forecast, outside it nothing was learnt.
        """
        shape = (*parameters.shape[:-1], n)
        u = torch.rand(shape, dtype=torch.float64, device=generator.device, generator=generator)
        return self._interpolate(
            parameters, u.to(parameters.device).clamp(self.trained[0], self.trained[-1])
        )

    def loss(
        self,
        parameters: Float[Tensor, "*N P"],
        y: Float[Tensor, "*N"],
        mask: Bool[Tensor, "*N"] | None = None,
        *,
        kind: str | None = None,
    ) -> Float[Tensor, ""]:
        """Mean over values and quantiles of max(q (y - f), (q - 1) (y - f)), without a factor 2.

        Arguments as in :meth:`PointHead.loss`; ``kind`` can only be ``"pinball"``.
        """
        self._check_kind(kind)
        y = y if mask is None else torch.where(mask, y, torch.zeros_like(y))
        error = y[..., None] - parameters
        levels = parameters.new_tensor(self.trained)
        terms = (error * (levels - (error < 0).to(error.dtype))).mean(-1)
        return terms.mean() if mask is None else _masked_mean(terms, mask)

    def _interpolate(self, parameters: Tensor, q: Tensor) -> Tensor:
        """Piecewise linear in q (float64, already in range); rounding cannot break the order."""
        levels = torch.tensor(self.trained, dtype=torch.float64, device=q.device)
        near = torch.bucketize(q, (levels[1:] + levels[:-1]) / 2)
        q = torch.where((q - levels[near]).abs() <= _SAME, levels[near], q)
        if len(self.trained) == 1:
            return parameters.expand(*parameters.shape[:-1], q.shape[-1])
        left = (torch.bucketize(q, levels, right=True) - 1).clamp(0, len(self.trained) - 2)
        share = ((q - levels[left]) / (levels[left + 1] - levels[left])).to(parameters.dtype)
        index = left.expand(*parameters.shape[:-1], q.shape[-1])
        below = parameters.gather(-1, index)
        above = parameters.gather(-1, index + 1)
        # A share is 1 or clearly below, so that rounding cannot carry a value past the next
        # quantile.
        return torch.where(share >= 1, above, below + share * (above - below))


class DistributionHead(Head):
    """The arguments of a parametric distribution for each future step, trained by its negative
    log-likelihood.

    Names, order and domains of the arguments are those of gluonts (:mod:`tsattn.nn.distributions`).
    The families ``"student_t"`` and ``"normal"`` follow any shift and scale of the window.
    ``"negative_binomial"`` (counts) and ``"log_normal"`` (positive values) begin at zero: the
    network must see windows over their mean absolute value
    (:class:`tsattn.nn.distributions.MeanScale`), data that were not shifted before, and, for
    counts, not scaled. Arguments as in :class:`Head`, and:

    Args:
        family: ``"student_t"``, ``"normal"``, ``"negative_binomial"`` or ``"log_normal"``.

    Raises:
        ValueError: If the family is unknown.
    """

    losses: ClassVar[tuple[str, ...]] = ("nll",)

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        *,
        family: str,
        generator: torch.Generator | None = None,
    ) -> None:
        if family not in FAMILIES:
            raise ValueError(
                f"no distribution is called {family!r}; use one of {', '.join(FAMILIES)}"
            )
        n_parameters = sum(FAMILIES[family].args_dim.values())
        super().__init__(n_tokens, d_model, horizon, n_parameters, generator=generator)
        self.family = FAMILIES[family]
        self.shifts = self.family.shifts
        self._location = list(self.family.args_dim).index(self.family.location)

    def shift(self, raw: Float[Tensor, "*N P"], skip: Float[Tensor, "*N"]) -> Float[Tensor, "*N P"]:
        """Add to the location; for counts to the logarithm of the odds, hence of the mean."""
        return _add_at(raw, self._location, skip)

    def denormalise(
        self, raw: Float[Tensor, "*N P"], level: Tensor | None = None, spread: Tensor | None = None
    ) -> Float[Tensor, "*N P"]:
        """The arguments of the distribution on the scale of the data.

        Exact for all families but counts, whose mean is scaled and whose ``total_count`` stays. A
        spread of zero (a constant window) gives a distribution at one point: quantiles and draws
        are the level.

        Raises:
            ValueError: If a level is given to a family that cannot be shifted.
        """
        args = self.family.domain_map(*_at_least_float32(raw).unbind(-1))
        return torch.stack(self.family.affine(args, level, spread), -1)

    def distribution(self, parameters: Float[Tensor, "*N P"]) -> distributions.Distribution:
        """The forecast as torch knows it; a scale of zero is not checked."""
        return self.family.base(tuple(parameters.unbind(-1)))

    def point(self, parameters: Float[Tensor, "*N P"]) -> Float[Tensor, "*N"]:
        """The mean."""
        return self.distribution(parameters).mean

    @torch.no_grad()
    def quantiles(
        self, parameters: Float[Tensor, "*N P"], q: Sequence[float] | Float[Tensor, " Q"]
    ) -> Float[Tensor, "*N Q"]:
        """Any quantiles, computed in float64; whole numbers for counts. They carry no gradients.

        Raises:
            ValueError: If one is not between 0 and 1.
        """
        args = tuple(parameters.detach().cpu().double().unbind(-1))
        return self.family.icdf(args, check_quantiles(q)).to(parameters)

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*N P"], n: int, generator: torch.Generator
    ) -> Float[Tensor, "*N n"]:
        """Draws, steps independent of one another.

        Args:
            parameters: The forecast.
            n: Draws for each element.
            generator: Source of the draws; they are made on its device, in float64.
        """
        wide = parameters.to(generator.device, torch.float64)[..., None, :]
        args = tuple(part.contiguous() for part in wide.expand(*wide.shape[:-2], n, -1).unbind(-1))
        return self.family.draw(args, generator).to(parameters)

    def loss(
        self,
        parameters: Float[Tensor, "*N P"],
        y: Float[Tensor, "*N"],
        mask: Bool[Tensor, "*N"] | None = None,
        *,
        kind: str | None = None,
    ) -> Float[Tensor, ""]:
        """Mean negative log-likelihood, in nats.

        Where the scale is exactly zero (a constant window) there is no density; such values are
        left out. Log-gamma terms of large counts and many degrees of freedom cancel, so the sum is
        in float64.

        Arguments as in :meth:`PointHead.loss`; ``kind`` can only be ``"nll"``.
        """
        self._check_kind(kind)
        args = tuple(parameters.double().unbind(-1))
        seen = torch.ones_like(y, dtype=torch.bool) if mask is None else mask
        degenerate = self.family.without_density(args)
        if degenerate is not None:
            seen = seen & ~degenerate
        args = tuple(torch.where(seen, part, torch.ones_like(part)) for part in args)
        y = torch.where(
            seen, y.double(), torch.full_like(y, self.family.inside, dtype=torch.float64)
        )
        return _masked_mean(-self.family.base(args).log_prob(y), seen).to(parameters.dtype)

    def check_support(self, y: Tensor) -> None:
        outside = self.family.outside(y)
        if outside.any():
            need = {
                "negative_binomial": "whole numbers of at least 0",
                "log_normal": "numbers above 0",
            }
            raise ValueError(
                f"{self.family.name} needs {need.get(self.family.name, 'finite numbers')}; got"
                f" {float(y[outside][0]):g}; use another head or transform the target"
            )

    def extra_repr(self) -> str:
        return f"family={self.family.name!r}"


AnyHead = PointHead | QuantileHead | DistributionHead


def make_head(
    kind: str,
    n_tokens: int,
    d_model: int,
    horizon: int,
    *,
    quantiles: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> AnyHead:
    """The head called ``kind``, one of :data:`HEADS`; arguments as in :class:`Head`, and:

    Args:
        kind: ``"point"``, ``"quantile"`` or the name of a distribution.
        quantiles: Those a quantile head trains; default :data:`QUANTILES`. No other head takes
            them.

    Raises:
        ValueError: If the head is unknown or does not train quantiles.
    """
    if kind not in HEADS:
        raise ValueError(f"no head is called {kind!r}; use one of {', '.join(HEADS)}")
    if kind == "quantile":
        chosen = QUANTILES if quantiles is None else quantiles
        return QuantileHead(n_tokens, d_model, horizon, quantiles=chosen, generator=generator)
    if quantiles is not None:
        raise ValueError(
            f"head {kind!r} trains no quantiles; got {shown(quantiles)}; leave them out or use"
            " 'quantile'"
        )
    if kind == "point":
        return PointHead(n_tokens, d_model, horizon, generator=generator)
    return DistributionHead(n_tokens, d_model, horizon, family=kind, generator=generator)


def _add_at(raw: Tensor, index: int, skip: Tensor) -> Tensor:
    """``raw`` with ``skip`` added to one number of its last axis."""
    return torch.cat(
        (raw[..., :index], raw[..., index, None] + skip[..., None], raw[..., index + 1 :]), -1
    )


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision ends where scales and sums begin."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _masked_mean(terms: Tensor, mask: Tensor) -> Tensor:
    """Mean where ``mask`` holds; 0 where it never does."""
    return torch.where(mask, terms, torch.zeros_like(terms)).sum() / mask.sum().clamp(min=1)
