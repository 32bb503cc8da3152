"""From raw windows to tokens: reversible normalisation, overlapping patches and their embedding."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tsattn.nn.layers import Dropout, linear

Shift = Literal["mean", "last", "none"]


class RevIN(nn.Module):
    """Reversible instance normalisation: a window is shifted and scaled by its own statistics, and
    back.

    After Kim et al., ICLR 2022, without learned factors and without a constant in the denominator,
    so that a network inside follows any shift and positive scale of its input exactly. A window
    that does not vary has scale 0: it enters as zeros and its forecast is the shift itself.

    Args:
        shift: What is taken off: the window's ``"mean"``, its ``"last"`` value, or ``"none"``.
        scale: Whether to divide by the window's population standard deviation.
    """

    def __init__(self, shift: Shift = "mean", *, scale: bool = True) -> None:
        super().__init__()
        self.shift: Shift = shift
        self.scale = scale

    def statistics(
        self, x: Float[Tensor, "*B T"], *, seen: Bool[Tensor, "*B T"] | None = None
    ) -> tuple[Float[Tensor, "*B 1"], Float[Tensor, "*B 1"]]:
        """Shift and scale of each window along its last axis.

        Args:
            seen: True where a value counts; the others may be NaN. For the shift ``"mean"`` only.
        """
        if seen is not None:
            return self._seen_statistics(x, seen)
        mean = x.mean(-1, keepdim=True)
        level = {"mean": mean, "last": x[..., -1:], "none": torch.zeros_like(mean)}[self.shift]
        return level, _root(
            x, (x - mean).square().mean(-1, keepdim=True)
        ) if self.scale else torch.ones_like(mean)

    @staticmethod
    def _seen_statistics(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        # NaN times zero is NaN: what is missing is replaced before it is summed.
        x = x.where(seen, 0.0)
        count = seen.sum(-1, keepdim=True).clamp(min=1)
        mean = x.sum(-1, keepdim=True) / count
        return mean, _root(x, (x - mean).where(seen, 0.0).square().sum(-1, keepdim=True) / count)

    def forward(
        self, x: Float[Tensor, "*B T"], level: Float[Tensor, "*B 1"], spread: Float[Tensor, "*B 1"]
    ) -> Float[Tensor, "*B T"]:
        """Normalise with the statistics given."""
        return (x - level) / torch.where(spread > 0, spread, torch.ones_like(spread))

    def inverse(
        self, y: Float[Tensor, "*B F"], level: Float[Tensor, "*B 1"], spread: Float[Tensor, "*B 1"]
    ) -> Float[Tensor, "*B F"]:
        """Undo :meth:`forward` on forecasts."""
        return y * spread + level

    def extra_repr(self) -> str:
        return f"shift={self.shift!r}, scale={self.scale}"


def _root(x: Tensor, variance: Tensor) -> Tensor:
    """Standard deviations of windows; below rounding dust a window counts as constant, with
    gradient zero.
    """
    constant = variance.sqrt() <= 4 * torch.finfo(x.dtype).eps * x.abs().amax(-1, keepdim=True)
    # The slope of a root is infinite at zero, and NaN times zero is NaN.
    return variance.masked_fill(constant, 1.0).sqrt().masked_fill(constant, 0.0)


def n_patches(context: int, patch_len: int, patch_stride: int) -> int:
    """Patches of a window that is padded at its end by one stride."""
    return (context + patch_stride - patch_len) // patch_stride + 1


def patchify(
    x: Shaped[Tensor, "*B T"], patch_len: int, patch_stride: int
) -> Shaped[Tensor, "*B L P"]:
    """Overlapping patches; the last value is repeated for one stride, so that no recent row is
    lost.

    The end padding is that of PatchTST (Nie et al., ICLR 2023): L = (T - P) // stride + 2 patches.
    """
    end = x[..., -1:].expand(*x.shape[:-1], patch_stride)
    return torch.cat((x, end), dim=-1).unfold(-1, patch_len, patch_stride)


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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.project = linear(patch_len, d_model, generator=generator)
        start = torch.empty(n_tokens, d_model, device="cpu").uniform_(
            -0.02, 0.02, generator=generator
        )
        self.positions = nn.Parameter(start)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        patches: Float[Tensor, "B L P"],
        *,
        start: int = 0,
        beside: Float[Tensor, "B L D"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """Embed and mark with positions.

        Args:
            start: Position of the first patch.
            beside: What is known beside each patch, as tokens to be added.
        """
        tokens = self.project(patches) + self.positions[start : start + patches.shape[1]]
        return self.dropout(tokens if beside is None else tokens + beside)
