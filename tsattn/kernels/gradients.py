"""The autograd function of every backend whose backward pass is written by hand."""

from abc import ABC, abstractmethod
from typing import Any, NoReturn

import torch
from torch import Tensor


class Passes(ABC):
    """Forward and backward pass of one call, on tensors without a graph."""

    @abstractmethod
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The result, and what the backward pass needs beside it: weights, log-sum-exps or nothing."""

    @abstractmethod
    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, kept: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v for that of the result."""


def differentiable(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes) -> Tensor:
    """The result of the forward pass, with the backward pass as its gradient.

    Args:
        q, k, v: As in :func:`tsattn.kernels.attention`, with one number of heads.
        mask: What the passes know about keys, not differentiated.
        passes: How both are computed.

    Raises:
        RuntimeError: If a second derivative is asked for.
    """
    result: Tensor = _Attention.apply(q, k, v, mask, passes)
    return result


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, passes: Passes) -> Tensor:
        out, kept = passes.forward(q, k, v, mask)
        ctx.save_for_backward(q, k, v, mask, out, kept)
        ctx.passes = passes
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_Gradients.apply(ctx.passes, grad, *ctx.saved_tensors), None, None


class _Gradients(torch.autograd.Function):
    """A function of its own, so that asking for its derivative is an error and not a silent zero."""

    @staticmethod
    def forward(ctx: Any, passes: Passes, grad: Tensor, *saved: Any) -> tuple[Tensor, Tensor, Tensor]:
        # Nothing here may be narrowed by an autocast around the call of backward().
        with torch.autocast(grad.device.type, enabled=False):
            return passes.backward(grad, *saved)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError(
            "this backend has first derivatives only; for second ones call attention with backend='reference'"
        )
