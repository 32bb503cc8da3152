"""Distributions of the heads on torch.distributions, with the names and arguments of gluonts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn

Probabilities = Float[Tensor, " Q"]
Quantiles = Float[Tensor, "*N Q"]
Args = tuple[Tensor, ...]

# The largest count: float64 cannot represent every whole number above it.
_LARGEST_COUNT = 2.0**53


class DistributionOutput(ABC):
    """The base of a family of distributions; a family has no state.

    Attributes:
        name: The name for users.
        args_dim: Its arguments in order, each with the count of raw numbers it takes, as in
            gluonts.
        location: The argument that a linear skip connection adds to, before :meth:`domain_map`.
        shifts: Whether the family is closed under any shift. The support of another family begins
            at zero, and it follows a change of scale only.
        inside: A value of the support, the substitute for missing values.
    """

    name: ClassVar[str]
    args_dim: ClassVar[dict[str, int]]
    location: ClassVar[str] = "loc"
    shifts: ClassVar[bool] = True
    inside: ClassVar[float] = 0.0

    @abstractmethod
    def domain_map(self, *raw: Tensor) -> Args:
        """Map any real numbers to valid arguments, elementwise."""

    @abstractmethod
    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        """Arguments after the variable is multiplied by ``scale``, then moved by ``loc``."""

    @abstractmethod
    def base(self, args: Args) -> distributions.Distribution:
        """The distribution of valid arguments."""

    @abstractmethod
    def icdf(self, args: Args, q: Probabilities) -> Quantiles:
        """Quantiles, from float64 arguments on the CPU; no gradients."""

    @abstractmethod
    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        """One draw for each element of the arguments, which are on the generator's device."""

    def without_density(self, args: Args) -> Tensor | None:
        """Where the distribution is a single point (scale zero), or ``None`` where that cannot
        happen.
        """
        return args[-1] == 0 if self.shifts else None

    def outside(self, y: Tensor) -> Tensor:
        """Values outside the support; missing values are not among them."""
        return y.isinf()

    def _refuse_shift(self, loc: Tensor | None) -> None:
        if loc is not None:
            raise ValueError(
                f"{self.name} begins at zero and cannot be moved; got a location; pass"
                " location=None and normalise windows by MeanScale"
            )


class NormalOutput(DistributionOutput):
    """Normal; the mean is any number, the standard deviation a softplus that stays above the
    machine epsilon.
    """

    name = "normal"
    args_dim: ClassVar[dict[str, int]] = {"loc": 1, "scale": 1}

    def domain_map(self, *raw: Tensor) -> Args:
        loc, scale = raw
        return loc, _positive(scale)

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        return _move(args, loc, scale)

    def base(self, args: Args) -> distributions.Distribution:
        loc, scale = args
        return distributions.Normal(loc, scale, validate_args=False)

    def icdf(self, args: Args, q: Probabilities) -> Quantiles:
        loc, scale = args
        standard = torch.special.ndtri(q)
        return loc[..., None] + scale[..., None] * standard

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        loc, scale = args
        normal = _standard_normal(loc, generator)
        return loc + scale * normal


class StudentT(distributions.StudentT):
    """torch's Student's t, but ``validate_args`` applies to its inner chi-square as well: without
    checks there is no wait for the device, and NaN passes.
    """

    def __init__(
        self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        self._chi2 = distributions.Chi2(self.df, validate_args=validate_args)
        # Not that of the parent, which would broadcast again.
        distributions.Distribution.__init__(self, self.df.size(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "StudentT":
        arguments = (self.df, self.loc, self.scale)
        df, loc, scale = (argument.expand(batch_shape) for argument in arguments)
        return StudentT(df, loc, scale, validate_args=self._validate_args)


class StudentTOutput(DistributionOutput):
    """Student's t with more than two degrees of freedom, so that mean and variance exist."""

    name = "student_t"
    args_dim: ClassVar[dict[str, int]] = {"df": 1, "loc": 1, "scale": 1}

    def domain_map(self, *raw: Tensor) -> Args:
        df, loc, scale = raw
        # With more than two degrees of freedom the variance is finite.
        degrees = 2 + nn.functional.softplus(df)
        return degrees, loc, _positive(scale)

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        df, centre, width = args
        return df, *_move((centre, width), loc, scale)

    def base(self, args: Args) -> distributions.Distribution:
        df, loc, scale = args
        return StudentT(df, loc, scale, validate_args=False)

    def icdf(self, args: Args, q: Probabilities) -> Quantiles:
        from scipy.special import stdtrit  # torch has no quantiles of Student's t

        df, loc, scale = args
        quantiles = stdtrit(df[..., None].numpy(), q.numpy())
        standard = torch.as_tensor(quantiles)
        return loc[..., None] + scale[..., None] * standard

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        df, loc, scale = args
        # Student's t is a normal divided by the root of an independent chi-square per degree of
        # freedom. A chi-square is twice a gamma of half the degrees.
        gamma = torch._standard_gamma(df / 2, generator=generator)
        chi_square = 2 * gamma
        normal = _standard_normal(loc, generator)
        shrinkage = (df / chi_square).sqrt()
        return loc + scale * normal * shrinkage


class NegativeBinomialOutput(DistributionOutput):
    """Counts: failures with odds ``exp(logits)`` before ``total_count`` successes; mean
    ``total_count * exp(logits)``.

    Counts have no exact change of scale. As in gluonts the scale multiplies the odds. That
    multiplies the mean and leaves ``total_count`` unchanged, and with it the limit of the squared
    coefficient of variation for large means.
    """

    name = "negative_binomial"
    args_dim: ClassVar[dict[str, int]] = {"total_count": 1, "logits": 1}
    location = "logits"
    shifts = False

    def domain_map(self, *raw: Tensor) -> Args:
        total_count, logits = raw
        return _positive(total_count), logits

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        self._refuse_shift(loc)
        total_count, logits = args
        # The logarithm of the odds times the scale.
        if scale is not None:
            logits = logits + scale.log()
        return total_count, logits

    def base(self, args: Args) -> distributions.Distribution:
        total_count, logits = args
        return distributions.NegativeBinomial(total_count, logits=logits, validate_args=False)

    def icdf(self, args: Args, q: Probabilities) -> Quantiles:
        total_count, logits = args
        largest = torch.finfo(logits.dtype).max
        odds = logits.exp().clamp(max=largest)
        # One more axis, for the quantiles.
        total_count = total_count[..., None]
        odds = odds[..., None]
        broadcast = np.broadcast_arrays(q.numpy(), total_count.numpy(), odds.numpy())
        return torch.as_tensor(count_quantiles(*broadcast))

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        total_count, logits = args
        # Negative binomial counts are Poisson counts whose rate has a gamma distribution.
        gamma = torch._standard_gamma(total_count, generator=generator)
        odds = logits.exp().clamp(max=_LARGEST_COUNT)
        rate = (gamma * odds).clamp(max=_LARGEST_COUNT)
        return torch.poisson(rate, generator=generator)

    def outside(self, y: Tensor) -> Tensor:
        is_whole = y == y.round()
        fractional = ~is_whole & ~y.isnan()
        return (y < 0) | fractional | y.isinf()


class LogNormalOutput(NormalOutput):
    """Positive values whose logarithm is normal with mean ``loc`` and standard deviation
    ``scale``.
    """

    name = "log_normal"
    shifts = False
    inside = 1.0

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        self._refuse_shift(loc)
        loc, width = args
        # A scaled variable has a shifted logarithm of the same deviation.
        if scale is None:
            return args
        return loc + scale.log(), width

    def base(self, args: Args) -> distributions.Distribution:
        loc, scale = args
        return distributions.LogNormal(loc, scale, validate_args=False)

    def icdf(self, args: Args, q: Probabilities) -> Quantiles:
        exponents = super().icdf(args, q)
        return exponents.exp()

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        exponents = super().draw(args, generator)
        return exponents.exp()

    def outside(self, y: Tensor) -> Tensor:
        return (y <= 0) | y.isinf()


class MeanScale(nn.Module):
    """Divides a window by its mean absolute value, for distributions whose support begins at zero.

    Replaces :class:`tsattn.nn.patching.RevIN` for families that are not closed under shifts, like
    the mean scaler of gluonts; heads undo it. Values keep their sign and zeros stay zeros. The
    scale of a window of zeros alone is 1 / T, the smallest scale of T counts with one event. It
    does not depend on the rest of the batch.
    """

    def statistics(self, x: Float[Tensor, "*B T"]) -> tuple[None, Float[Tensor, "*B 1"]]:
        """No location, and the spread of each window along its last axis."""
        mean = x.abs().mean(-1, keepdim=True)
        # The scale of T counts with one event, for a window without any.
        length = x.shape[-1]
        smallest = torch.full_like(mean, 1 / length)
        spread = torch.where(mean == 0, smallest, mean)
        return None, spread

    def forward(
        self, x: Float[Tensor, "*B T"], location: None, spread: Float[Tensor, "*B 1"]
    ) -> Float[Tensor, "*B T"]:
        """Divide by the scale of :meth:`statistics`."""
        return x / spread


FAMILIES: dict[str, DistributionOutput] = {
    family.name: family
    for family in (StudentTOutput(), NormalOutput(), NegativeBinomialOutput(), LogNormalOutput())
}


def count_quantiles(q: np.ndarray, total_count: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Quantiles of negative binomial variables: the least whole numbers k with
    ``P(X <= k) >= q``.

    P(X <= k) is the regularised incomplete beta function I(total_count, k + 1) at 1 / (1 + odds).
    A search starts at the quantile of a gamma variable of the same mean and variance, widens an
    interval around it until that holds the number, and halves the interval. Above 2^53, where
    float64 does not represent every whole number, the limit for large odds is used: odds times a
    gamma variable.

    Args:
        q: Probabilities in (0, 1).
        total_count: Successes, above 0; same shape.
        odds: Of a failure, at least 0 and finite; same shape.

    Returns:
        Whole numbers in float64, same shape.
    """
    from scipy.special import gammaincinv  # torch has no inverse of the incomplete gamma function

    shape = q.shape
    q = np.ravel(q).astype(np.float64)
    total_count = np.ravel(total_count).astype(np.float64)
    odds = np.ravel(odds).astype(np.float64)
    # A product that overflows is above the largest count as well.
    with np.errstate(over="ignore"):
        shape_of_start = total_count * (odds / (1 + odds))
        gamma = gammaincinv(shape_of_start, q)
        start = gamma * (1 + odds) - 0.5
        limit = gammaincinv(total_count, q) * odds
    start = np.ceil(np.nan_to_num(start, nan=0.0))
    start = np.clip(start, 0, _LARGEST_COUNT)
    counts = _search(q, total_count, odds, start)
    quantiles = np.where(counts < _LARGEST_COUNT, counts, limit)
    return quantiles.reshape(shape)


def _search(
    q: np.ndarray, total_count: np.ndarray, odds: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Quantiles, searched from ``start``; at most :data:`_LARGEST_COUNT`."""

    def reaches(elements: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return _reaches(counts, total_count[elements], odds[elements], q[elements])

    # The quantile is above ``low`` and at most ``high``, in the end.
    low = np.empty_like(start)
    high = np.empty_like(start)
    elements = np.arange(start.size)
    width = 1.0
    while elements.size:
        centre = start[elements]
        lower = np.maximum(centre - width, -1.0)
        upper = np.minimum(centre + width, _LARGEST_COUNT)
        low[elements] = lower
        high[elements] = upper
        is_too_high = (lower >= 0) & reaches(elements, lower)
        is_too_low = (upper < _LARGEST_COUNT) & ~reaches(elements, upper)
        elements = elements[is_too_high | is_too_low]
        width *= 2
    elements = np.flatnonzero(high - low > 1)
    while elements.size:
        ends_sum = low[elements] + high[elements]
        middle = np.floor(ends_sum / 2)
        is_upper = reaches(elements, middle)
        high[elements] = np.where(is_upper, middle, high[elements])
        low[elements] = np.where(is_upper, low[elements], middle)
        is_wide = high[elements] - low[elements] > 1
        elements = elements[is_wide]
    return high


def _reaches(
    counts: np.ndarray, total_count: np.ndarray, odds: np.ndarray, q: np.ndarray
) -> np.ndarray:
    """Whether P(X <= count) >= q, by the formula that is accurate for these odds."""
    from scipy.special import betainc  # torch has no incomplete beta function

    # P(X <= k) is I(total_count, k + 1) at the probability of a success, 1 / (1 + odds), and one
    # minus I(k + 1, total_count) at that of a failure.
    probability = np.empty(counts.size)
    # The smaller of 1 / (1 + odds) and odds / (1 + odds) keeps its digits; the other rounds to 1.
    large = odds > 1
    success = 1 / (1 + odds[large])
    probability[large] = betainc(total_count[large], counts[large] + 1, success)
    small = ~large
    failure = odds[small] / (1 + odds[small])
    complement = betainc(counts[small] + 1, total_count[small], failure)
    probability[small] = 1 - complement
    return probability >= q


def _positive(x: Tensor) -> Tensor:
    """Softplus, but at least the machine epsilon, so that no division or logarithm is of zero."""
    smallest = torch.finfo(x.dtype).eps
    return nn.functional.softplus(x).clamp_min(smallest)


def _move(args: Args, loc: Tensor | None, scale: Tensor | None) -> Args:
    """Location and scale of a location-scale family after an affine map."""
    centre, width = args
    if scale is not None:
        centre = centre * scale
        width = width * scale
    if loc is not None:
        centre = centre + loc
    return centre, width


def _standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


def check_quantiles(q: Sequence[float] | Tensor) -> Tensor:
    """Quantiles as one axis of float64 on the CPU, each between 0 and 1."""
    try:
        quantiles = torch.as_tensor(q, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError):
        raise ValueError(f"quantiles must be numbers; got {shown(q)}; write [0.1, 0.9]") from None
    if quantiles.ndim != 1 or not len(quantiles):
        raise ValueError(
            f"quantiles must be a list of at least one number; got {shown(q)}; write [0.5]"
        )
    # Negated, so that NaN lies outside too.
    inside = (quantiles > 0) & (quantiles < 1)
    outside = quantiles[~inside]
    if len(outside):
        raise ValueError(
            f"quantiles must lie between 0 and 1; got {float(outside[0]):g}; write 0.9 for 90%"
        )
    return quantiles


def shown(q: Sequence[float] | Tensor) -> str:
    """Quantiles as an error message writes them."""
    if isinstance(q, Tensor):
        return str(q.tolist())
    if isinstance(q, Sequence):
        q = list(q)
    return str(q)
