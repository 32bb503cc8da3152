"""Reversible normalisation of windows, overlapping patches and their embedding as tokens."""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tsattn.checks import check_choice, check_switch
from tsattn.kernels.dispatch import require_tensors
from tsattn.nn.layers import Dropout, RandomSource, States, linear

Shift = Literal["mean", "last", "none"]

# Windows of one series each, futures of theirs, one number for each, and windows with channels.
Series = Float[Tensor, "*B T"]
Future = Float[Tensor, "*B F"]
PerSeries = Float[Tensor, "*B 1"]
Windows = Float[Tensor, "B T C"]

# A window is constant if its deviation is at most so many machine epsilons of its largest value:
# the rounding error of a mean is of that size.
CONSTANT_EPSILONS = 4
# Position vectors start uniformly within this distance of zero, as in PatchTST.
POSITION_BOUND = 0.02


def check_windows(x: Windows, context: int | None = None) -> None:
    """Refuse windows that are no tensor, or have other axes or rows than a network reads.

    Args:
        x: The windows.
        context: Rows of each; ``None`` allows any number.

    Raises:
        TypeError: If they are no tensor.
        ValueError: If they have another shape.
    """
    require_tensors(windows=x)
    if x.dim() != 3:
        raise ValueError(
            "windows must have the axes (batch, rows, channels); got shape"
            f" {tuple(x.shape)}; x.unsqueeze(-1) makes one channel"
        )
    if context is not None and x.shape[1] != context:
        raise ValueError(
            f"windows must have the shape (batch, {context}, channels), as the context says;"
            f" got {tuple(x.shape)}; cut them, or build the network for another context"
        )


class RevIN(nn.Module):
    """Reversible instance normalisation: shift and scale a window by its own statistics, and undo
    that on the forecast.

    After Kim et al., ICLR 2022, without learned factors and without a constant in the denominator,
    so that the forecast of a network follows any shift and positive scale of its input exactly. A
    constant window has scale 0: it becomes zeros and its forecast is the shift itself.

    Args:
        shift: The number that is subtracted: the window's ``"mean"``, its ``"last"`` value, or
            ``"none"``.
        scale: Whether to divide by the window's population standard deviation.

    Raises:
        ValueError: If ``shift`` is unknown, or ``scale`` neither True nor False.
    """

    def __init__(self, shift: Shift = "mean", *, scale: bool = True) -> None:
        super().__init__()
        check_choice("shift", shift, get_args(Shift))
        check_switch("scale", scale)
        self.shift: Shift = shift
        self.scale = scale

    def statistics(
        self, x: Series, *, observed: Bool[Tensor, "*B T"] | None = None
    ) -> tuple[PerSeries, PerSeries]:
        """Location (what is subtracted) and spread (what is divided by) of each window along its
        last axis.

        Args:
            observed: True where a value counts; the others may be NaN. For the shift ``"mean"``
                only, and always with a scale.
        """
        if observed is not None:
            return self._masked_statistics(x, observed)
        mean = x.mean(-1, keepdim=True)
        if self.shift == "mean":
            location = mean
        elif self.shift == "last":
            location = x[..., -1:]
        else:
            location = torch.zeros_like(mean)
        if not self.scale:
            return location, torch.ones_like(mean)
        variance = (x - mean).square().mean(-1, keepdim=True)
        return location, _deviation(x, variance)

    @staticmethod
    def _masked_statistics(x: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        # NaN times zero is NaN, so missing values are replaced before the sums.
        x = x.where(observed, 0.0)
        count = observed.sum(-1, keepdim=True).clamp(min=1)
        mean = x.sum(-1, keepdim=True) / count
        errors = (x - mean).where(observed, 0.0)
        variance = errors.square().sum(-1, keepdim=True) / count
        return mean, _deviation(x, variance)

    def forward(self, x: Series, location: PerSeries, spread: PerSeries) -> Series:
        """Normalise with the statistics of :meth:`statistics`."""
        # A constant window becomes zeros over one.
        divisor = torch.where(spread > 0, spread, torch.ones_like(spread))
        return (x - location) / divisor

    def inverse(self, y: Future, location: PerSeries, spread: PerSeries) -> Future:
        """Undo :meth:`forward` on forecasts."""
        return y * spread + location

    def extra_repr(self) -> str:
        return f"shift={self.shift!r}, scale={self.scale}"


def _deviation(x: Tensor, variance: Tensor) -> Tensor:
    """Standard deviations of windows; 0, with gradient zero, for a window that is constant up to
    rounding.
    """
    largest = x.abs().amax(-1, keepdim=True)
    epsilon = torch.finfo(x.dtype).eps
    rounding_error = CONSTANT_EPSILONS * epsilon * largest
    constant = variance.sqrt() <= rounding_error
    # The slope of a root is infinite at zero, and infinity times zero is NaN. So the root of a
    # constant window is taken of 1.
    return variance.masked_fill(constant, 1.0).sqrt().masked_fill(constant, 0.0)


def n_patches(context: int, patch_len: int, patch_stride: int) -> int:
    """Patches of a window that is padded at its end by one stride."""
    padded_length = context + patch_stride
    return (padded_length - patch_len) // patch_stride + 1


def patchify(
    x: Shaped[Tensor, "*B T"], patch_len: int, patch_stride: int
) -> Shaped[Tensor, "*B L P"]:
    """Overlapping patches; the last value is repeated for one stride, so that no recent row is
    lost.

    The end padding is that of PatchTST (Nie et al., ICLR 2023): L = (T - P) // stride + 2 patches.
    """
    last_value = x[..., -1:]
    padding = last_value.expand(*x.shape[:-1], patch_stride)
    padded = torch.cat((x, padding), dim=-1)
    return padded.unfold(-1, patch_len, patch_stride)


class PatchEmbedding(nn.Module):
    """Patches to tokens: a linear map, a learned vector for each position, dropout.

    Args:
        n_tokens: Patches a window has.
        patch_len: Rows in a patch.
        d_model: Token width.
        dropout: Rate after the sum.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        n_tokens: int,
        patch_len: int,
        d_model: int,
        *,
        dropout: float = 0.0,
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        self.project = linear(patch_len, d_model, generator=generator)
        positions = torch.empty(n_tokens, d_model, device="cpu")
        positions.uniform_(-POSITION_BOUND, POSITION_BOUND, generator=generator)
        self.positions = nn.Parameter(positions)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        patches: Float[Tensor, "B L P"],
        *,
        start: int = 0,
        extra_tokens: States | None = None,
    ) -> States:
        """Tokens of patches, with the vectors of their positions added.

        Args:
            start: Position of the first patch.
            extra_tokens: Further tokens to add, such as those of covariates.
        """
        stop = start + patches.shape[1]
        positions = self.positions[start:stop]
        tokens = self.project(patches) + positions
        if extra_tokens is not None:
            tokens = tokens + extra_tokens
        return self.dropout(tokens)
