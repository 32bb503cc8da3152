"""Layers that treat each token by itself: linear maps, dropout and feed-forward, drawn from
explicit generators.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tsattn.kernels.reference import traced

# Masks are drawn a byte a number, so a rate is rounded to a multiple of 1/256.
_BYTES = 256
# Hidden numbers of one step of a feed-forward layer: with their masks and gradients they fit into
# the second cache of a core.
_HIDDEN = 2**17
# Whether torch has oneDNN's product, and from how many tokens on it costs less than MKL's, its call
# included.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_ONEDNN_TOKENS = 64


class Linear(nn.Linear):
    """torch's linear map with the product of :func:`affine`."""

    def forward(self, input: Tensor) -> Tensor:
        return affine(input, self.weight, self.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W' + b``, by oneDNN where that is possible and pays."""
    if not _by_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    made: Tensor = _Affine.apply(x, weight, bias)
    return made


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = grad.flatten(0, -2)
        # Themselves differentiable, for second derivatives. An autocast around backward() must not
        # narrow them.
        with torch.autocast("cpu", enabled=False):
            return (
                affine(grad, weight.t()) if needs_x else None,
                affine(rows.t(), x.flatten(0, -2).t()) if needs_weight else None,
                rows.sum(0) if needs_bias else None,
            )


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN can and should: on a CPU, in float32, for some tokens, where nobody traces,
    counts or narrows.

    torch gives float32 products to MKL, which is half as fast on processors of AMD.
    """
    return (
        _ONEDNN
        and not traced()
        and not torch._C._len_torch_dispatch_stack()
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= _ONEDNN_TOKENS * x.shape[-1]
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    """``x W' + b`` by oneDNN, and its GELU where ``then`` is ``"gelu"``; knows no gradient."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "none")
    return made


def linear(
    n_in: int, n_out: int, *, bias: bool = True, generator: torch.Generator | None = None
) -> nn.Linear:
    """A linear map with torch's usual start, U(-n_in^-1/2, n_in^-1/2), drawn from ``generator``.

    Args:
        n_in: Features in.
        n_out: Features out.
        bias: Whether a constant is added.
        generator: Source of the draws; ``None`` is torch's global one.
    """
    # What is made on the meta device draws nothing. torch.nn.utils.skip_init does the same, and
    # loads sympy for it.
    layer = Linear(n_in, n_out, bias=bias, device="meta")
    bound = 1 / math.sqrt(n_in)
    for name, empty in list(layer.named_parameters()):
        start = torch.empty(empty.shape, dtype=empty.dtype, device="cpu").uniform_(
            -bound, bound, generator=generator
        )
        setattr(layer, name, nn.Parameter(start))
    return layer


class Dropout(nn.Module):
    """Dropout whose masks are raw random bytes of an explicit generator.

    Eight bytes come from one 64-bit draw: torch's own masks, a draw a number, are the largest part
    of a small model's step. The rate is rounded to a multiple of 1/256, at most 255/256, with the
    factor that keeps the mean exactly.

    Args:
        p: Share of numbers set to zero in training, at least 0 and below 1.

    Attributes:
        generator: Source of the masks; ``None`` is torch's global one. :func:`set_generator` sets
            it for a model.
        n_dropped: Numbers of 256 that are set to zero.

    Raises:
        ValueError: If ``p`` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {p}; 0 turns it off")
        self.p = p
        self.generator: torch.Generator | None = None
        self.n_dropped = min(round(p * _BYTES), _BYTES - 1)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Mask in training, identity otherwise."""
        if not self.training or self.n_dropped == 0:
            return x
        keep = self.noise(x.shape, x.device) >= self.n_dropped
        # A float mask: multiplying floats by booleans is ten times slower on CPU.
        return x * keep.to(x.dtype).mul_(self.factor(self.n_dropped))

    def noise(self, shape: tuple[int, ...], device: torch.device) -> Shaped[Tensor, "..."]:
        """Random bytes; a number is kept where its byte is at least ``n_dropped``."""
        size = math.prod(shape)
        words = torch.empty(-(-size // 8), dtype=torch.int64, device=device)
        words.random_(-(2**63), None, generator=self.generator)
        return words.view(torch.uint8)[:size].view(shape)

    @staticmethod
    def factor(n_dropped: int) -> float:
        """What keeps the mean when ``n_dropped`` of 256 numbers are dropped."""
        return _BYTES / (_BYTES - n_dropped)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def set_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every dropout of ``model`` draw from ``generator`` (on the model's device)."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, for each token by itself.

    On a CPU the hidden features, the widest tensor of a block, are made, used and forgotten a few
    tokens at a time and made again for the gradient: carrying them through memory costs more. The
    numbers are those of the plain formula.

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
        if x.device.type != "cpu" or traced() or torch.is_autocast_enabled("cpu"):
            return self.narrow(self.dropout(nn.functional.gelu(self.widen(x))))
        noise = None
        tokens = x.reshape(-1, x.shape[-1])
        if self.training and self.dropout.n_dropped:
            noise = self.dropout.noise((len(tokens), self.widen.out_features), x.device)
        widen = self.widen
        narrow = self.narrow
        n_dropped = self.dropout.n_dropped
        out: Tensor = _InSteps.apply(
            tokens, widen.weight, widen.bias, narrow.weight, narrow.bias, noise, n_dropped
        )
        return out.view(*x.shape[:-1], out.shape[-1])


class _InSteps(torch.autograd.Function):
    """``gelu(x W1' + b1) * mask W2' + b2``; the factor of the mask is in W2, so that a mask is ones
    and zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w1: Tensor,
        b1: Tensor,
        w2: Tensor,
        b2: Tensor,
        noise: Tensor | None,
        n_dropped: int,
    ) -> Tensor:
        steps = _Steps(x, w1, b1, noise, n_dropped)
        out = x.new_empty(len(x), len(w2))
        scaled = w2 * steps.factor
        fast = _by_onednn(x, w1)
        for here in steps:
            hidden = (
                _product(x[here], w1, b1, "gelu") if fast else nn.functional.gelu(steps.widen(here))
            )
            steps.drop(here, hidden)
            out[here] = (
                _product(hidden, scaled, b2) if fast else torch.addmm(b2, hidden, scaled.t())
            )
        ctx.save_for_backward(x, w1, b1, w2, noise)
        ctx.n_dropped = n_dropped
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w1, b1, w2, noise = ctx.saved_tensors
        steps = _Steps(x, w1, b1, noise, ctx.n_dropped)
        dx = torch.empty_like(x)
        dw1 = torch.zeros_like(w1)
        db1 = torch.zeros_like(b1)
        dw2 = torch.zeros_like(w2)
        scaled = w2 * steps.factor
        # The products must not be narrowed by an autocast around the call of backward().
        with torch.autocast("cpu", enabled=False):
            for here in steps:
                before = steps.widen(here)
                hidden = nn.functional.gelu(before)
                slope = affine(grad[here], scaled.t())
                steps.drop(here, hidden, slope)
                dw2.add_(affine(grad[here].t(), hidden.t()))
                slope = torch.ops.aten.gelu_backward(slope, before)
                dw1.add_(affine(slope.t(), x[here].t()))
                db1.add_(slope.sum(0))
                dx[here] = affine(slope, w1.t())
        return dx, dw1, db1, dw2.mul_(steps.factor), grad.sum(0), None, None


class _Steps:
    """Slices of the tokens, and the room for their hidden features, which every step uses again."""

    def __init__(
        self, x: Tensor, w1: Tensor, b1: Tensor, noise: Tensor | None, n_dropped: int
    ) -> None:
        self.x, self.w1, self.b1, self.noise, self.n_dropped = x, w1.t(), b1, noise, n_dropped
        self.factor = 1.0 if noise is None else Dropout.factor(n_dropped)
        self.size = max(_HIDDEN // len(w1), 1)
        self.room = x.new_empty(min(self.size, len(x)), len(w1))
        self.mask_room = self.room if noise is None else torch.empty_like(self.room)

    def __iter__(self) -> Iterator[slice]:
        return (
            slice(first, min(first + self.size, len(self.x)))
            for first in range(0, len(self.x), self.size)
        )

    def widen(self, here: slice) -> Tensor:
        """Hidden features of some tokens before the GELU."""
        if _by_onednn(self.x, self.w1):
            return _product(self.x[here], self.w1.t(), self.b1)
        return torch.addmm(self.b1, self.x[here], self.w1, out=self.room[: here.stop - here.start])

    def drop(self, here: slice, *hidden: Tensor) -> None:
        """Set to zero, in place, what the mask of some tokens drops."""
        if self.noise is None:
            return
        keep = torch.ge(
            self.noise[here], self.n_dropped, out=self.mask_room[: here.stop - here.start]
        )
        for each in hidden:
            each.mul_(keep)
