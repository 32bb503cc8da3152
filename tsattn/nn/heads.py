"""Point, quantile and distribution heads, which turn token states into a forecast.

A head's ``forward`` gives raw numbers on the scale of the normalised window. ``denormalise`` turns
them into the parameters of the forecast on the scale of the data. ``point``, ``quantiles``,
``sample`` and ``loss`` take these parameters. Parameters have the shape of the target and one more
axis, the last; those of a point head have no further axis. The leading axes are up to the model.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, distributions, nn

from tsattn.checks import check_choice
from tsattn.nn.distributions import (
    FAMILIES,
    MeanScale,
    Probabilities,
    Quantiles,
    check_quantiles,
    shown,
)
from tsattn.nn.layers import RandomSource, States, linear
from tsattn.nn.patching import RevIN

# Parameters of a forecast, one number for each of its elements, which of these count, draws, and
# the mean loss.
Parameters = Float[Tensor, "*N P"]
Numbers = Float[Tensor, "*N"]
Mask = Bool[Tensor, "*N"]
Samples = Float[Tensor, "*N n"]
Loss = Float[Tensor, ""]

HEADS = ("point", "quantile", *FAMILIES)
QUANTILES = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
POINT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}
# The name of a loss of points, or a function of points and truth.
PointLoss = str | Callable[[Tensor, Tensor], Tensor]
# Quantiles that differ by at most this are the same: 1 - 0.9 is not exactly 0.1.
_QUANTILE_TOLERANCE = 1e-6


class Head(nn.Module):
    """All token states side by side, then one linear map to the parameters of every future step.

    Args:
        n_tokens: Tokens a window has.
        d_model: Token width.
        horizon: Future steps.
        n_parameters: Numbers a step's forecast has.
        generator: Source of the start values; ``None`` is torch's global one.

    Attributes:
        shifts: Whether its forecasts follow a shift of the window; otherwise windows are normalised
            without a shift.
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        n_parameters: int = 1,
        *,
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        self.n_parameters = n_parameters
        self.shifts = True
        n_inputs = n_tokens * d_model
        n_outputs = horizon * n_parameters
        self.project: nn.Module = linear(n_inputs, n_outputs, generator=generator)

    def forward(self, states: States) -> Float[Tensor, "B F P"]:
        """Raw numbers, any real values, for each future step."""
        features = states.flatten(1)
        raw = self.project(features)
        return raw.unflatten(1, (-1, self.n_parameters))

    def narrow(self, rank: int, *, generator: RandomSource = None) -> None:
        """Replace the map by two maps with ``rank`` numbers between them."""
        wide = cast(nn.Linear, self.project)
        down = linear(wide.in_features, rank, bias=False, generator=generator)
        up = linear(rank, wide.out_features, generator=generator)
        self.project = nn.Sequential(down, up)

    def start_at_zero(self) -> None:
        """Set the last map to zero, so that the states have no effect before training."""
        last_map = self.project
        if isinstance(last_map, nn.Sequential):
            last_map = last_map[-1]
        for parameter in last_map.parameters():
            nn.init.zeros_(parameter)

    def normaliser(self) -> nn.Module:
        """The normalisation of windows for this head: by mean and deviation, or by the mean
        absolute value.
        """
        return RevIN("mean") if self.shifts else MeanScale()

    def check_support(self, y: Tensor) -> None:
        """Refuse values that the head cannot forecast; missing values (NaN) pass.

        Raises:
            ValueError: Naming the first such value.
        """


class PointHead(Head):
    """One value for each future step; arguments as in :class:`Head`, without ``n_parameters``."""

    def forward(self, states: States) -> Float[Tensor, "B F"]:
        """One value for each future step."""
        return self.project(states.flatten(1))

    def shift(self, raw: Numbers, skip: Numbers) -> Numbers:
        """Add another forecast."""
        return raw + skip

    def denormalise(
        self, raw: Numbers, location: Tensor | None = None, spread: Tensor | None = None
    ) -> Numbers:
        """The forecast after y = x * spread + location.

        Args:
            raw: Result of :meth:`forward`; that of other heads has one more axis, the last.
            location: Shift of each window, ``[*B, 1]`` or any shape that broadcasts with ``raw``;
                ``None`` is no shift.
            spread: Scale of each window, at least 0; ``None`` is 1.
        """
        return _scale_and_shift(raw, location, spread)

    def point(self, parameters: Numbers) -> Numbers:
        """The forecast itself."""
        return parameters

    def quantiles(self, parameters: Tensor, q: Sequence[float] | Tensor) -> Tensor:
        """Refused, always.

        Raises:
            ValueError: A point head has none.
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
        parameters: Numbers,
        y: Numbers,
        mask: Mask | None = None,
        *,
        kind: PointLoss = "mse",
    ) -> Loss:
        """Mean error of the observed values.

        Args:
            parameters: The forecast.
            y: Truth; values where ``mask`` is False have no effect, and may be NaN.
            mask: True where ``y`` counts; all of it by default. The loss is 0 where nothing counts.
            kind: ``"mse"``, ``"mae"``, ``"huber"`` (threshold 1), or a function of points and truth
                that gives the loss of each value.

        Raises:
            TypeError: If a function gives no tensor.
            ValueError: If ``kind`` is another, or does not give the loss of each value.
        """
        return point_loss(parameters, y, mask, kind=kind)


def point_loss(
    points: Numbers, y: Numbers, mask: Mask | None = None, *, kind: PointLoss = "mse"
) -> Loss:
    """Mean error of the observed values, as :meth:`PointHead.loss` gives it."""
    if mask is not None:
        # Values that do not count are replaced by valid ones: NaN times zero is NaN in gradients.
        y = torch.where(mask, y, torch.zeros_like(y))
    if callable(kind):
        terms = kind(points, y)
        if not isinstance(terms, Tensor):
            raise TypeError(
                "loss must give a tensor, the loss of each value; got"
                f" {type(terms).__name__}; compute it from points and truth by torch"
            )
        if terms.shape != y.shape:
            raise ValueError(
                f"loss must give the loss of each value, of shape {tuple(y.shape)}; got"
                f" {tuple(terms.shape)}; take no mean, as reduction='none' of torch's losses says"
            )
    else:
        check_choice("loss", kind, POINT_LOSSES)
        loss = POINT_LOSSES[kind]
        if mask is None:
            return loss(points, y)
        terms = loss(points, y, reduction="none")
    return terms.mean() if mask is None else _masked_mean(terms, mask)


class QuantileHead(Head):
    """Quantiles that cannot cross: the median, and steps up and down from it that are at least 0.

    A step is the softplus of a raw number, scaled so that raw zeros give the quantiles of the
    standard normal distribution. The loss is the mean pinball loss. Quantiles between trained ones
    are interpolated linearly in the probability; those beyond the outermost ones are refused.
    Arguments as in :class:`Head`, and:

    Args:
        quantiles: The trained quantiles, between 0 and 1, rising; 0.5 is added where it is missing.

    Raises:
        ValueError: If a quantile is not between 0 and 1, or they do not rise.
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        *,
        quantiles: Sequence[float] = QUANTILES,
        generator: RandomSource = None,
    ) -> None:
        trained = [float(q) for q in check_quantiles(quantiles)]
        steps = [upper - lower for lower, upper in pairwise(trained)]
        if any(step <= _QUANTILE_TOLERANCE for step in steps):
            raise ValueError(
                f"quantiles must rise; got {shown(trained)}; sort them and drop repeated ones"
            )
        # The median is the point forecast, so it is always trained.
        if all(abs(q - 0.5) > _QUANTILE_TOLERANCE for q in trained):
            trained = sorted([*trained, 0.5])
        super().__init__(n_tokens, d_model, horizon, len(trained), generator=generator)
        self.trained = tuple(trained)
        self._median = min(range(len(trained)), key=lambda place: abs(trained[place] - 0.5))
        probabilities = torch.tensor(trained, dtype=torch.float64, device="cpu")
        normal = torch.special.ndtri(probabilities)
        # Softplus of zero is log 2: a step starts as long as that of the standard normal.
        first_step = math.log(2)
        self._gaps = [float(gap) / first_step for gap in normal.diff()]

    def shift(self, raw: Parameters, skip: Numbers) -> Parameters:
        """Move the median and with it every quantile."""
        return _add_at(raw, self._median, skip)

    def denormalise(
        self, raw: Parameters, location: Tensor | None = None, spread: Tensor | None = None
    ) -> Parameters:
        """The trained quantiles, lowest first, scaled and shifted."""
        raw = _at_least_float32(raw)
        median = self._median
        # The median itself has no gap to another quantile.
        all_gaps = [*self._gaps[:median], 0.0, *self._gaps[median:]]
        gaps = raw.new_tensor(all_gaps)
        all_steps = nn.functional.softplus(raw) * gaps
        steps = all_steps.unbind(-1)
        # One addition after another: a parallel scan may round so that neighbours cross.
        values = [raw[..., median]]
        for step in steps[median + 1 :]:
            values.append(values[-1] + step)
        for step in reversed(steps[:median]):
            values.insert(0, values[0] - step)
        stacked = torch.stack(values, -1)
        location = None if location is None else location[..., None]
        spread = None if spread is None else spread[..., None]
        return _scale_and_shift(stacked, location, spread)

    def point(self, parameters: Parameters) -> Numbers:
        """The median."""
        return parameters[..., self._median]

    def quantiles(self, parameters: Parameters, q: Sequence[float] | Probabilities) -> Quantiles:
        """Trained quantiles as they are, others between their neighbours, linearly in the
        probability.

        Raises:
            ValueError: If one is outside the trained range.
        """
        probabilities = check_quantiles(q)
        low = self.trained[0]
        high = self.trained[-1]
        is_below = probabilities < low - _QUANTILE_TOLERANCE
        is_above = probabilities > high + _QUANTILE_TOLERANCE
        outside = is_below | is_above
        if outside.any():
            first = float(probabilities[outside][0])
            raise ValueError(
                f"this head was trained for quantiles from {low:g} to {high:g}; got"
                f" {first:g}; ask for one between, or train with quantiles="
                " that reach it"
            )
        leading_axes = (None,) * (parameters.ndim - 1)
        probabilities = probabilities.to(parameters.device)
        return self._interpolate(parameters, probabilities[leading_axes])

    @torch.no_grad()
    def sample(self, parameters: Parameters, n: int, generator: torch.Generator) -> Samples:
        """Draws by inversion, steps independent of one another; arguments as in
        :meth:`DistributionHead.sample`.

        Draws beyond the outermost trained quantiles are set to them: inside the range the draws
        have the quantiles of the forecast, outside it nothing was trained.
        """
        # A sample is the quantile at a uniform number, within the trained quantiles.
        shape = (*parameters.shape[:-1], n)
        u = torch.rand(shape, dtype=torch.float64, device=generator.device, generator=generator)
        u = u.to(parameters.device)
        low = self.trained[0]
        high = self.trained[-1]
        u = u.clamp(low, high)
        return self._interpolate(parameters, u)

    def loss(
        self,
        parameters: Parameters,
        y: Numbers,
        mask: Mask | None = None,
    ) -> Loss:
        """Mean over values and quantiles of max(q (y - f), (q - 1) (y - f)), without a factor 2.

        Arguments as in :meth:`PointHead.loss`.
        """
        if mask is not None:
            y = torch.where(mask, y, torch.zeros_like(y))
        error = y[..., None] - parameters  # [*N P]
        probabilities = parameters.new_tensor(self.trained)
        is_below = (error < 0).to(error.dtype)  # truth below the forecast
        # Pinball loss: a value above the forecast costs q of the error, one below 1 - q.
        slope = probabilities - is_below
        terms = (error * slope).mean(-1)
        if mask is None:
            return terms.mean()
        return _masked_mean(terms, mask)

    def _interpolate(self, parameters: Tensor, q: Tensor) -> Tensor:
        """Quantiles, piecewise linear in q (float64, in the trained range); rounding cannot change
        their order.
        """
        probabilities = torch.tensor(self.trained, dtype=torch.float64, device=q.device)
        middles = (probabilities[1:] + probabilities[:-1]) / 2
        nearest = probabilities[torch.bucketize(q, middles)]
        is_equal = (q - nearest).abs() <= _QUANTILE_TOLERANCE
        q = torch.where(is_equal, nearest, q)
        n_quantiles = q.shape[-1]
        shape = (*parameters.shape[:-1], n_quantiles)
        n_trained = len(self.trained)
        if n_trained == 1:
            return parameters.expand(shape)
        # The trained quantile at or below q, and the next one above.
        left = torch.bucketize(q, probabilities, right=True) - 1
        left = left.clamp(0, n_trained - 2)
        low = probabilities[left]
        width = probabilities[left + 1] - low
        share = (q - low) / width
        share = share.to(parameters.dtype)
        index = left.expand(shape)
        below = parameters.gather(-1, index)
        above = parameters.gather(-1, index + 1)
        # A share is 1 or clearly less, so that rounding cannot carry a value past the next
        # quantile.
        between = below + share * (above - below)
        return torch.where(share >= 1, above, between)


class DistributionHead(Head):
    """The arguments of a parametric distribution for each future step, trained by its negative
    log-likelihood.

    Names, order and domains of the arguments are those of gluonts (:mod:`tsattn.nn.distributions`).
    The families ``"student_t"`` and ``"normal"`` follow any shift and scale of the window.
    ``"negative_binomial"`` (counts) and ``"log_normal"`` (positive values) begin at zero: the
    network must read windows divided by their mean absolute value
    (:class:`tsattn.nn.distributions.MeanScale`). The data must not have been shifted before, and
    counts must not have been scaled. Arguments as in :class:`Head`, and:

    Args:
        family: ``"student_t"``, ``"normal"``, ``"negative_binomial"`` or ``"log_normal"``.

    Raises:
        ValueError: If the family is unknown.
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        horizon: int,
        *,
        family: str,
        generator: RandomSource = None,
    ) -> None:
        check_choice("family", family, FAMILIES)
        output = FAMILIES[family]
        n_parameters = sum(output.args_dim.values())
        super().__init__(n_tokens, d_model, horizon, n_parameters, generator=generator)
        self.family = output
        self.shifts = output.shifts
        parameter_names = list(output.args_dim)
        self._location = parameter_names.index(output.location)

    def shift(self, raw: Parameters, skip: Numbers) -> Parameters:
        """Add to the location; for counts to the logarithm of the odds, hence of the mean."""
        return _add_at(raw, self._location, skip)

    def denormalise(
        self, raw: Parameters, location: Tensor | None = None, spread: Tensor | None = None
    ) -> Parameters:
        """The arguments of the distribution on the scale of the data.

        Exact for all families but counts, whose mean is scaled and whose ``total_count`` does not
        change. A spread of zero (a constant window) gives a distribution at one point: quantiles
        and draws are the location.

        Raises:
            ValueError: If a location is given to a family that cannot be shifted.
        """
        raw = _at_least_float32(raw)
        args = self.family.domain_map(*raw.unbind(-1))
        args = self.family.affine(args, location, spread)
        return torch.stack(args, -1)

    def distribution(self, parameters: Parameters) -> distributions.Distribution:
        """The forecast as a distribution of torch; a scale of zero is not checked."""
        args = tuple(parameters.unbind(-1))
        return self.family.base(args)

    def point(self, parameters: Parameters) -> Numbers:
        """The mean."""
        return self.distribution(parameters).mean

    @torch.no_grad()
    def quantiles(self, parameters: Parameters, q: Sequence[float] | Probabilities) -> Quantiles:
        """Any quantiles, computed in float64; whole numbers for counts. They carry no gradients.

        Raises:
            ValueError: If one is not between 0 and 1.
        """
        # Half precision and float32 are too coarse for extreme quantiles.
        parameters_64 = parameters.detach().cpu().double()
        args = tuple(parameters_64.unbind(-1))
        quantiles = self.family.icdf(args, check_quantiles(q))
        return quantiles.to(parameters)

    @torch.no_grad()
    def sample(self, parameters: Parameters, n: int, generator: torch.Generator) -> Samples:
        """Draws, steps independent of one another.

        Args:
            parameters: The forecast.
            n: Draws for each element.
            generator: Source of the draws; they are made on its device, in float64.
        """
        parameters_64 = parameters.to(generator.device, torch.float64)
        # One copy of the arguments for each draw.
        shape = (*parameters.shape[:-1], n, -1)
        copies = parameters_64[..., None, :].expand(shape)
        args = tuple(arg.contiguous() for arg in copies.unbind(-1))
        draws = self.family.draw(args, generator)
        return draws.to(parameters)

    def loss(
        self,
        parameters: Parameters,
        y: Numbers,
        mask: Mask | None = None,
    ) -> Loss:
        """Mean negative log-likelihood, in nats.

        A scale of exactly zero (a constant window) has no density; such values are left out.
        Log-gamma terms of large counts and many degrees of freedom cancel, so the sum is in
        float64.

        Arguments as in :meth:`PointHead.loss`.
        """
        args = tuple(parameters.double().unbind(-1))
        if mask is None:
            mask = torch.ones_like(y, dtype=torch.bool)
        degenerate = self.family.without_density(args)
        if degenerate is not None:
            mask = mask & ~degenerate
        # Values that do not count are replaced by valid ones: NaN times zero is NaN in gradients.
        args = tuple(torch.where(mask, arg, torch.ones_like(arg)) for arg in args)
        inside = torch.full_like(y, self.family.inside, dtype=torch.float64)
        y = torch.where(mask, y.double(), inside)
        log_density = self.family.base(args).log_prob(y)
        mean = _masked_mean(-log_density, mask)
        return mean.to(parameters.dtype)

    def check_support(self, y: Tensor) -> None:
        outside = self.family.outside(y)
        if not outside.any():
            return
        supports = {
            "negative_binomial": "whole numbers of at least 0",
            "log_normal": "numbers above 0",
        }
        support = supports.get(self.family.name, "finite numbers")
        first = float(y[outside][0])
        raise ValueError(
            f"{self.family.name} needs {support}; got {first:g}, which may be a"
            " transformed target; use another head, such as 'normal'"
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
    generator: RandomSource = None,
) -> AnyHead:
    """The head called ``kind``, one of :data:`HEADS`; arguments as in :class:`Head`, and:

    Args:
        kind: ``"point"``, ``"quantile"`` or the name of a distribution.
        quantiles: The quantiles that a quantile head trains; default :data:`QUANTILES`. No other
            head takes them.

    Raises:
        ValueError: If the head is unknown or does not train quantiles.
    """
    check_choice("head", kind, HEADS)
    if kind == "quantile":
        quantiles = QUANTILES if quantiles is None else quantiles
        return QuantileHead(n_tokens, d_model, horizon, quantiles=quantiles, generator=generator)
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
    before, parameter, after = raw.tensor_split((index, index + 1), -1)
    moved = parameter + skip[..., None]
    return torch.cat((before, moved, after), -1)


def _scale_and_shift(raw: Tensor, location: Tensor | None, spread: Tensor | None) -> Tensor:
    """``raw * spread + location``; ``None`` is no scale or no shift."""
    if spread is not None:
        raw = raw * spread
    if location is None:
        return raw
    return raw + location


def _at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32: scales and sums need more digits."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.to(dtype)


def _masked_mean(terms: Tensor, mask: Tensor) -> Tensor:
    """Mean where ``mask`` is True; 0 where it is nowhere True."""
    counted = torch.where(mask, terms, torch.zeros_like(terms))
    n_counted = mask.sum().clamp(min=1)
    return counted.sum() / n_counted
