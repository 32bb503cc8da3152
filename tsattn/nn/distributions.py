"""Distributions of the heads, named and parametrised as in gluonts, on torch.distributions."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, distributions, nn

Args = tuple[Tensor, ...]

# From here on whole numbers are no longer told apart in float64.
_LAST_WHOLE = 2.0**53


class DistributionOutput(ABC):
    """What a family of distributions must say about itself; a family has no state.

    Attributes:
        name: What users call it.
        args_dim: Its arguments in order, each with the count of raw numbers it takes, as in
            gluonts.
        location: The argument that a linear skip connection adds to, before :meth:`domain_map`.
        shifts: Whether the family is closed under any shift. A family that is not lives on a
            support that begins at zero and follows a change of scale only.
        inside: A value of the support; it stands in for missing ones.
    """

    name: ClassVar[str]
    args_dim: ClassVar[dict[str, int]]
    location: ClassVar[str] = "loc"
    shifts: ClassVar[bool] = True
    inside: ClassVar[float] = 0.0

    @abstractmethod
    def domain_map(self, *raw: Tensor) -> Args:
        """Any real numbers to valid arguments, elementwise."""

    @abstractmethod
    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        """Arguments after the variable is multiplied by ``scale``, then moved by ``loc``."""

    @abstractmethod
    def base(self, args: Args) -> distributions.Distribution:
        """The distribution of valid arguments."""

    @abstractmethod
    def icdf(self, args: Args, q: Float[Tensor, " Q"]) -> Float[Tensor, "*N Q"]:
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
        """Which of ``y`` the family gives no probability; missing values are not among them."""
        return y.isinf()

    def _refuse_shift(self, loc: Tensor | None) -> None:
        if loc is not None:
            raise ValueError(
                f"{self.name} begins at zero and cannot be moved by a level; got one; pass"
                " level=None and normalise windows by MeanScale"
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

    def icdf(self, args: Args, q: Float[Tensor, " Q"]) -> Float[Tensor, "*N Q"]:
        loc, scale = args
        return loc[..., None] + scale[..., None] * torch.special.ndtri(q)

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        loc, scale = args
        return loc + scale * _standard_normal(loc, generator)


class StudentT(distributions.StudentT):
    """torch's, but its inner chi-square too heeds ``validate_args``: no check, no wait for the
    device, NaN passes.
    """

    def __init__(
        self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None
    ) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        self._chi2 = distributions.Chi2(self.df, validate_args=validate_args)
        distributions.Distribution.__init__(self, self.df.size(), validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "StudentT":
        df, loc, scale = (each.expand(batch_shape) for each in (self.df, self.loc, self.scale))
        return StudentT(df, loc, scale, validate_args=self._validate_args)


class StudentTOutput(DistributionOutput):
    """Student's t with more than two degrees of freedom, so that mean and variance exist."""

    name = "student_t"
    args_dim: ClassVar[dict[str, int]] = {"df": 1, "loc": 1, "scale": 1}

    def domain_map(self, *raw: Tensor) -> Args:
        df, loc, scale = raw
        return 2 + nn.functional.softplus(df), loc, _positive(scale)

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        return args[0], *_move(args[1:], loc, scale)

    def base(self, args: Args) -> distributions.Distribution:
        df, loc, scale = args
        return StudentT(df, loc, scale, validate_args=False)

    def icdf(self, args: Args, q: Float[Tensor, " Q"]) -> Float[Tensor, "*N Q"]:
        from scipy.special import stdtrit  # torch has no quantiles of Student's t

        df, loc, scale = args
        unit = torch.as_tensor(stdtrit(df[..., None].numpy(), q.numpy()))
        return loc[..., None] + scale[..., None] * unit

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        df, loc, scale = args
        # A normal over the root of an independent chi-square (twice a gamma of half the degrees)
        # per degree.
        chi_square = 2 * torch._standard_gamma(df / 2, generator=generator)
        return loc + scale * _standard_normal(loc, generator) * (df / chi_square).sqrt()


class NegativeBinomialOutput(DistributionOutput):
    """Counts: failures with odds ``exp(logits)`` before ``total_count`` successes; mean total_count
    * exp(logits).

    Counts have no exact change of scale. As in gluonts the scale multiplies the odds, which
    multiplies the mean and keeps ``total_count``, hence the part of the squared coefficient of
    variation that does not fade for large means.
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
        return total_count, logits if scale is None else logits + scale.log()

    def base(self, args: Args) -> distributions.Distribution:
        total_count, logits = args
        return distributions.NegativeBinomial(total_count, logits=logits, validate_args=False)

    def icdf(self, args: Args, q: Float[Tensor, " Q"]) -> Float[Tensor, "*N Q"]:
        total_count, logits = args
        odds = logits.exp().clamp(max=torch.finfo(logits.dtype).max)
        count, odds_, q_ = np.broadcast_arrays(
            total_count[..., None].numpy(), odds[..., None].numpy(), q.numpy()
        )
        return torch.as_tensor(count_quantiles(q_, count, odds_))

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        total_count, logits = args
        # Poisson counts whose rate is gamma distributed.
        rate = torch._standard_gamma(total_count, generator=generator) * logits.exp().clamp(
            max=_LAST_WHOLE
        )
        return torch.poisson(rate.clamp(max=_LAST_WHOLE), generator=generator)

    def outside(self, y: Tensor) -> Tensor:
        return (y < 0) | ((y != y.round()) & ~y.isnan()) | y.isinf()


class LogNormalOutput(NormalOutput):
    """Positive values whose logarithm is normal with mean ``loc`` and standard deviation
    ``scale``.
    """

    name = "log_normal"
    shifts = False
    inside = 1.0

    def affine(self, args: Args, loc: Tensor | None = None, scale: Tensor | None = None) -> Args:
        self._refuse_shift(loc)
        return args if scale is None else (args[0] + scale.log(), args[1])

    def base(self, args: Args) -> distributions.Distribution:
        loc, scale = args
        return distributions.LogNormal(loc, scale, validate_args=False)

    def icdf(self, args: Args, q: Float[Tensor, " Q"]) -> Float[Tensor, "*N Q"]:
        return super().icdf(args, q).exp()

    def draw(self, args: Args, generator: torch.Generator) -> Tensor:
        return super().draw(args, generator).exp()

    def outside(self, y: Tensor) -> Tensor:
        return (y <= 0) | y.isinf()


class MeanScale(nn.Module):
    """A window over its mean absolute value: what networks see whose forecasts begin at zero.

    Takes the place of :class:`tsattn.nn.patching.RevIN` for families that no shift maps to
    themselves, like the mean scaler of gluonts; heads undo it. Values keep their sign and zeros
    stay zeros. A window of zeros alone has scale 1 / T, the least that T counts with one event
    could have, whatever else is in the batch.
    """

    def statistics(self, x: Float[Tensor, "*B T"]) -> tuple[None, Float[Tensor, "*B 1"]]:
        """No shift, and the scale of each window along its last axis."""
        mean = x.abs().mean(-1, keepdim=True)
        return None, torch.where(mean == 0, torch.full_like(mean, 1 / x.shape[-1]), mean)

    def forward(
        self, x: Float[Tensor, "*B T"], level: None, spread: Float[Tensor, "*B 1"]
    ) -> Float[Tensor, "*B T"]:
        """Divide by the scale given."""
        return x / spread


FAMILIES: dict[str, DistributionOutput] = {
    family.name: family
    for family in (StudentTOutput(), NormalOutput(), NegativeBinomialOutput(), LogNormalOutput())
}


def count_quantiles(q: np.ndarray, total_count: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Least whole numbers that a negative binomial variable does not exceed with probability ``q``
    or more.

    P(X <= k) is the regularised incomplete beta function I(total_count, k + 1) at 1 / (1 + odds).
    The search starts at a gamma variable of the same mean and variance, widens until it has passed
    the number, and halves. Beyond 2^53, where neighbours are no longer told apart, the limit for
    large odds answers: odds times a gamma variable.

    Args:
        q: Probabilities in (0, 1).
        total_count: Successes, above 0; same shape.
        odds: Of a failure, at least 0 and finite; same shape.

    Returns:
        Whole numbers in float64, same shape.
    """
    from scipy.special import gammaincinv  # torch has no inverse of the incomplete gamma function

    shape = q.shape
    q, total_count, odds = (np.ravel(part).astype(np.float64) for part in (q, total_count, odds))
    with np.errstate(over="ignore"):  # what is beyond all numbers is beyond the last whole one, too
        start = gammaincinv(total_count * (odds / (1 + odds)), q) * (1 + odds) - 0.5
        limit = gammaincinv(total_count, q) * odds
    high = np.clip(np.ceil(np.nan_to_num(start, nan=0.0)), 0, _LAST_WHOLE)
    _search(q, total_count, odds, high)
    return np.where(high < _LAST_WHOLE, high, limit).reshape(shape)


def _search(q: np.ndarray, total_count: np.ndarray, odds: np.ndarray, high: np.ndarray) -> None:
    """Move ``high`` to the quantiles, in place; those beyond the last whole number stop there."""

    def reached(index: np.ndarray, k: np.ndarray) -> np.ndarray:
        return _at_most(k, total_count[index], odds[index], q[index])

    low = np.full(high.size, -1.0)
    width = 1.0
    everything = np.arange(high.size)
    first = reached(everything, high)
    up = everything[~first & (high < _LAST_WHOLE)]
    down = everything[first]
    while up.size or down.size:
        low[up] = high[up]
        high[up] = np.minimum(high[up] + width, _LAST_WHOLE)
        up = up[(high[up] < _LAST_WHOLE) & ~reached(up, high[up])]
        down = down[high[down] >= width]
        below = high[down] - width
        yes = reached(down, below)
        high[down[yes]], low[down[~yes]] = below[yes], below[~yes]
        down = down[yes]
        width = 2 * width
    between = everything[(high - low > 1) & (high < _LAST_WHOLE)]
    while between.size:
        middle = np.floor((low[between] + high[between]) / 2)
        yes = reached(between, middle)
        high[between[yes]], low[between[~yes]] = middle[yes], middle[~yes]
        between = between[high[between] - low[between] > 1]


def _at_most(k: np.ndarray, total_count: np.ndarray, odds: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Whether P(X <= k) >= q. Of two spellings the one whose small probability keeps its digits."""
    from scipy.special import betainc  # torch has no incomplete beta function

    yes = np.empty(k.size, dtype=bool)
    many = odds > 1
    few = ~many
    yes[many] = betainc(total_count[many], k[many] + 1, 1 / (1 + odds[many])) >= q[many]
    yes[few] = 1 - betainc(k[few] + 1, total_count[few], odds[few] / (1 + odds[few])) >= q[few]
    return yes


def _positive(x: Tensor) -> Tensor:
    """Softplus, held at the machine epsilon from below so that no division or logarithm
    meets zero.
    """
    return nn.functional.softplus(x).clamp_min(torch.finfo(x.dtype).eps)


def _move(args: Args, loc: Tensor | None, scale: Tensor | None) -> Args:
    """Location and scale of a location-scale family after an affine map."""
    centre, width = args
    if scale is not None:
        centre = centre * scale
        width = width * scale
    return centre if loc is None else centre + loc, width


def _standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


def check_quantiles(q: Sequence[float] | Tensor) -> Tensor:
    """One axis of float64 on the CPU, each between 0 and 1."""
    try:
        asked = torch.as_tensor(q, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError):
        raise ValueError(f"quantiles must be numbers; got {shown(q)}; write [0.1, 0.9]") from None
    if asked.ndim != 1 or not len(asked):
        raise ValueError(
            f"quantiles must be a list of at least one number; got {shown(q)}; write [0.5]"
        )
    wrong = asked[~((asked > 0) & (asked < 1))]
    if len(wrong):
        raise ValueError(
            f"quantiles must lie between 0 and 1; got {float(wrong[0]):g}; write 0.9 for 90%"
        )
    return asked


def shown(q: Sequence[float] | Tensor) -> str:
    """Quantiles as an error message writes them."""
    return str(q.tolist() if isinstance(q, Tensor) else list(q) if isinstance(q, Sequence) else q)
