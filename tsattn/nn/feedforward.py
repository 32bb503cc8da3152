"""How does each token change by itself? Two linear maps with a GELU between, in steps that stay in a core's cache."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tsattn.nn.layers import Dropout, linear

# Hidden numbers of one step: with their masks and gradients they fit into the second cache of a core.
_HIDDEN = 2**17


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, for each token by itself.

    On a CPU the hidden features are never whole in memory: they are made, used and forgotten a few tokens at a time,
    and made again for the gradient. They are the widest tensor of a block, so carrying them through memory costs more
    than the extra product (docs/log.md). The numbers are those of the plain formula, to rounding.

    Args:
        d_model: Token width.
        d_ff: Hidden width.
        dropout: Rate on the hidden features.
        d_out: Width of the result; default ``d_model``.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        d_out: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.widen = linear(d_model, d_ff, generator=generator)
        self.narrow = linear(d_ff, d_model if d_out is None else d_out, generator=generator)
        self.dropout = Dropout(dropout)

    def forward(self, x: Float[Tensor, "B L D"]) -> Float[Tensor, "B L Do"]:
        """Transform each token."""
        # A compiler fuses by itself, and an autocast wants to choose the types of the products.
        if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
            return self.narrow(self.dropout(nn.functional.gelu(self.widen(x))))
        noise, tokens = None, x.reshape(-1, x.shape[-1])
        if self.training and self.dropout.n_dropped:
            noise = self.dropout.noise((len(tokens), self.widen.out_features), x.device)
        widen, narrow, n_dropped = self.widen, self.narrow, self.dropout.n_dropped
        out: Tensor = _InSteps.apply(tokens, widen.weight, widen.bias, narrow.weight, narrow.bias, noise, n_dropped)
        return out.view(*x.shape[:-1], -1)


class _InSteps(torch.autograd.Function):
    """``gelu(x W1' + b1) * mask W2' + b2``; the factor of the mask is in W2, so that a mask is ones and zeros."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, noise: Tensor | None, n_dropped: int
    ) -> Tensor:
        steps = _Steps(x, w1, b1, noise, n_dropped)
        out, scaled = torch.empty(len(x), len(w2), dtype=x.dtype), (w2 * steps.factor).t().contiguous()
        for here in steps:
            hidden = nn.functional.gelu(steps.widen(here))
            steps.drop(here, hidden)
            torch.addmm(b2, hidden, scaled, out=out[here])
        ctx.save_for_backward(x, w1, b1, w2, noise)
        ctx.n_dropped = n_dropped
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, b1, w2, noise = ctx.saved_tensors
        steps = _Steps(x, w1, b1, noise, ctx.n_dropped)
        dx, dw1, db1, dw2 = torch.empty_like(x), torch.zeros_like(w1), torch.zeros_like(b1), torch.zeros_like(w2)
        scaled = w2 * steps.factor
        # The products must not be narrowed by an autocast around the call of backward().
        with torch.autocast("cpu", enabled=False):
            for here in steps:
                before = steps.widen(here)
                hidden, slope = nn.functional.gelu(before), grad[here] @ scaled
                steps.drop(here, hidden, slope)
                dw2.addmm_(grad[here].t(), hidden)
                slope = torch.ops.aten.gelu_backward(slope, before)
                dw1.addmm_(slope.t(), x[here])
                db1.add_(slope.sum(0))
                torch.mm(slope, w1, out=dx[here])
        return dx, dw1, db1, dw2.mul_(steps.factor), grad.sum(0), None, None


class _Steps:
    """Slices of the tokens, and the room for their hidden features, which every step uses again."""

    def __init__(self, x: Tensor, w1: Tensor, b1: Tensor, noise: Tensor | None, n_dropped: int) -> None:
        self.x, self.w1, self.b1, self.noise, self.n_dropped = x, w1.t(), b1, noise, n_dropped
        self.factor = 1.0 if noise is None else Dropout.factor(n_dropped)
        self.size = max(_HIDDEN // len(w1), 1)
        self.room = x.new_empty(min(self.size, len(x)), len(w1))
        self.mask_room = self.room if noise is None else torch.empty_like(self.room)

    def __iter__(self) -> Iterator[slice]:
        return (slice(first, min(first + self.size, len(self.x))) for first in range(0, len(self.x), self.size))

    def widen(self, here: slice) -> Tensor:
        """Hidden features of some tokens before the GELU."""
        return torch.addmm(self.b1, self.x[here], self.w1, out=self.room[: here.stop - here.start])

    def drop(self, here: slice, *hidden: Tensor) -> None:
        """Set to zero, in place, what the mask of some tokens drops."""
        if self.noise is None:
            return
        keep = torch.ge(self.noise[here], self.n_dropped, out=self.mask_room[: here.stop - here.start])
        for each in hidden:
            each.mul_(keep)
