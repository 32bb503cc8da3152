"""Layers that act on each token separately: linear maps, dropout and feed-forward, with explicit
generators for their random numbers.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tsattn.kernels.dispatch import traced

# Where random numbers come from; None is torch's global generator.
RandomSource = torch.Generator | None
# States of the tokens of sequences.
States = Float[Tensor, "B L D"]
# Values of a byte. Masks are drawn one byte a number, so a dropout rate is rounded to a multiple of
# 1/256.
_BYTE_VALUES = 256
# Bytes of one 64-bit draw.
_DRAW_BYTES = 8
# Hidden numbers in one step of a feed-forward layer: with their masks and gradients they fit into
# the second-level cache of a core.
_STEP_NUMBERS = 2**17
# Whether this torch has oneDNN's product.
_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)
# Least tokens for oneDNN's product: a call of it costs more than one of MKL's.
_ONEDNN_TOKENS = 64


class Linear(nn.Linear):
    """torch's linear map with the product of :func:`affine`."""

    def forward(self, input: Tensor) -> Tensor:
        return affine(input, self.weight, self.bias)


def affine(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x W' + b``, by oneDNN where that is possible and faster."""
    if not _by_onednn(x, weight):
        return nn.functional.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _product(x, weight, bias)
    return _Affine.apply(x, weight, bias)


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad_rows = grad.flatten(0, -2)
        dx = None
        dweight = None
        dbias = None
        # An autocast around backward() must not narrow the products. They are differentiable, for
        # second derivatives.
        with torch.autocast("cpu", enabled=False):
            if needs_x:
                dx = affine(grad, weight.t())
            if needs_weight:
                rows = x.flatten(0, -2)
                dweight = affine(grad_rows.t(), rows.t())
            if needs_bias:
                dbias = grad_rows.sum(0)
        return dx, dweight, dbias


def _by_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes a product: on a CPU, in float32, for enough tokens, and without a
    tracer, a counter of operations or an autocast.

    torch gives float32 products to MKL, which is half as fast on processors of AMD.
    """
    return (
        _HAS_ONEDNN
        and not traced()
        and not torch._C._len_torch_dispatch_stack()
        and not torch.is_autocast_enabled("cpu")
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() >= _ONEDNN_TOKENS * x.shape[-1]
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """``x W' + b`` by oneDNN, or its GELU for the activation ``"gelu"``; without gradients."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")


def linear(
    n_in: int, n_out: int, *, bias: bool = True, generator: RandomSource = None
) -> nn.Linear:
    """A linear map with torch's usual start, U(-n_in^-1/2, n_in^-1/2), drawn from ``generator``.

    Args:
        n_in: Features in.
        n_out: Features out.
        bias: Whether a constant is added.
        generator: Source of the draws; ``None`` is torch's global one.
    """
    # A layer on the meta device draws nothing. torch.nn.utils.skip_init would do the same, but it
    # loads sympy.
    layer = Linear(n_in, n_out, bias=bias, device="meta")
    bound = 1 / math.sqrt(n_in)
    for name, meta in list(layer.named_parameters()):
        values = torch.empty(meta.shape, dtype=meta.dtype, device="cpu")
        values.uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(values))
    return layer


class Dropout(nn.Module):
    """Dropout whose masks are raw random bytes of an explicit generator.

    One 64-bit draw gives eight bytes. torch's own masks need a draw for each number, and are the
    largest part of a small model's step. The rate is rounded to a multiple of 1/256, at most
    255/256, and the factor is the one that preserves the mean exactly.

    Args:
        p: Share of numbers set to zero in training, at least 0 and below 1.

    Attributes:
        generator: Source of the masks; ``None`` is torch's global one. :func:`set_generator` sets
            it for a model.
        n_dropped: How many of 256 numbers are set to zero.

    Raises:
        ValueError: If ``p`` is not in [0, 1).
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {p}; 0 turns it off")
        self.p = p
        self.generator: RandomSource = None
        self.n_dropped = min(round(p * _BYTE_VALUES), _BYTE_VALUES - 1)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Mask in training, identity otherwise."""
        if not self.training or self.n_dropped == 0:
            return x
        keep = self.noise(x.shape, x.device) >= self.n_dropped
        factor = self.factor(self.n_dropped)
        # A float mask: the product of floats and booleans is ten times slower on a CPU.
        mask = keep.to(x.dtype).mul_(factor)
        return x * mask

    def noise(self, shape: tuple[int, ...], device: torch.device) -> Shaped[Tensor, "..."]:
        """Random bytes; a number remains where its byte is at least ``n_dropped``."""
        n_bytes = math.prod(shape)
        n_draws = math.ceil(n_bytes / _DRAW_BYTES)
        draws = torch.empty(n_draws, dtype=torch.int64, device=device)
        draws.random_(-(2**63), None, generator=self.generator)  # all 64-bit integers
        draw_bytes = draws.view(torch.uint8)
        return draw_bytes[:n_bytes].view(shape)

    @staticmethod
    def factor(n_dropped: int) -> float:
        """Factor that preserves the mean when ``n_dropped`` of 256 numbers are dropped."""
        n_remaining = _BYTE_VALUES - n_dropped
        return _BYTE_VALUES / n_remaining

    def extra_repr(self) -> str:
        return f"p={self.p}"


def set_generator(model: nn.Module, generator: RandomSource) -> None:
    """Set the generator (on the model's device) of every dropout of a model."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator


class FeedForward(nn.Module):
    """Two linear maps with a GELU between, for each token separately.

    The hidden features are the widest tensor of a block. On a CPU they are computed and used for a
    few tokens at a time and computed again for the gradient, because moving them through memory
    costs more. The numbers are those of the plain formula.

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
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        n_out = d_model if d_out is None else d_out
        self.widen = linear(d_model, d_ff, generator=generator)
        self.narrow = linear(d_ff, n_out, generator=generator)
        self.dropout = Dropout(dropout)

    def forward(self, x: States) -> Float[Tensor, "B L Do"]:
        """Transform each token."""
        # A compiler fuses by itself, and an autocast chooses the types of the products.
        if x.device.type != "cpu" or traced() or torch.is_autocast_enabled("cpu"):
            hidden = nn.functional.gelu(self.widen(x))
            return self.narrow(self.dropout(hidden))
        *leading_shape, width = x.shape
        tokens = x.reshape(-1, width)
        noise = None
        if self.training and self.dropout.n_dropped:
            hidden_shape = (len(tokens), self.widen.out_features)
            noise = self.dropout.noise(hidden_shape, x.device)
        out = _FeedForwardSteps.apply(
            tokens,
            self.widen.weight,
            self.widen.bias,
            self.narrow.weight,
            self.narrow.bias,
            noise,
            self.dropout.n_dropped,
        )
        n_out = out.shape[-1]
        return out.view(*leading_shape, n_out)


class _FeedForwardSteps(torch.autograd.Function):
    """``gelu(x W1' + b1) * mask W2' + b2``, step by step over the tokens.

    The factor of the dropout is multiplied into W2, so that a mask is ones and zeros.
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
        scaled_w2 = w2 * steps.factor
        by_onednn = _by_onednn(x, w1)
        for tokens in steps:
            if by_onednn:
                hidden = _product(x[tokens], w1, b1, "gelu")
                steps.drop(tokens, hidden)
                out[tokens] = _product(hidden, scaled_w2, b2)
            else:
                hidden = nn.functional.gelu(steps.widen(tokens))
                steps.drop(tokens, hidden)
                out[tokens] = torch.addmm(b2, hidden, scaled_w2.t())
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
        scaled_w2 = w2 * steps.factor
        # An autocast around the call of backward() must not narrow the products.
        with torch.autocast("cpu", enabled=False):
            for tokens in steps:
                x_rows = x[tokens]
                grad_rows = grad[tokens]
                before_gelu = steps.widen(tokens)
                hidden = nn.functional.gelu(before_gelu)
                dhidden = affine(grad_rows, scaled_w2.t())
                steps.drop(tokens, hidden, dhidden)
                dw2.add_(affine(grad_rows.t(), hidden.t()))
                dhidden = torch.ops.aten.gelu_backward(dhidden, before_gelu)
                dw1.add_(affine(dhidden.t(), x_rows.t()))
                db1.add_(dhidden.sum(0))
                dx[tokens] = affine(dhidden, w1.t())
        # The forward pass multiplied the factor into W2.
        dw2.mul_(steps.factor)
        db2 = grad.sum(0)
        return dx, dw1, db1, dw2, db2, None, None


class _Steps:
    """Slices of the tokens, and the buffers of their hidden features, which all steps share."""

    def __init__(
        self, x: Tensor, w1: Tensor, b1: Tensor, noise: Tensor | None, n_dropped: int
    ) -> None:
        self.x = x
        self.w1 = w1
        self.b1 = b1
        self.noise = noise
        self.n_dropped = n_dropped
        self.factor = 1.0 if noise is None else Dropout.factor(n_dropped)
        d_ff = len(w1)
        self.size = max(_STEP_NUMBERS // d_ff, 1)  # tokens of a step
        n_rows = min(self.size, len(x))
        self.buffer = x.new_empty(n_rows, d_ff)
        self.mask_buffer = self.buffer if noise is None else torch.empty_like(self.buffer)

    def __iter__(self) -> Iterator[slice]:
        n_tokens = len(self.x)
        for first in range(0, n_tokens, self.size):
            stop = min(first + self.size, n_tokens)
            yield slice(first, stop)

    def widen(self, tokens: slice) -> Tensor:
        """Hidden features of some tokens before the GELU."""
        if _by_onednn(self.x, self.w1):
            return _product(self.x[tokens], self.w1, self.b1)
        n_tokens = tokens.stop - tokens.start
        rows = self.buffer[:n_tokens]
        return torch.addmm(self.b1, self.x[tokens], self.w1.t(), out=rows)

    def drop(self, tokens: slice, *features: Tensor) -> None:
        """Set the dropped features of some tokens to zero, in place."""
        if self.noise is None:
            return
        n_tokens = tokens.stop - tokens.start
        rows = self.mask_buffer[:n_tokens]
        mask = torch.ge(self.noise[tokens], self.n_dropped, out=rows)
        for tensor in features:
            tensor.mul_(mask)
