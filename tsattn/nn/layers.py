"""What are the smallest parts made of? Linear maps and dropout whose every draw has an explicit generator."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

# Masks are drawn a byte a number, so a rate is rounded to a multiple of 1/256.
_LEVELS = 256


def linear(n_in: int, n_out: int, *, bias: bool = True, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear map with torch's usual start, U(-n_in^-1/2, n_in^-1/2), drawn from ``generator``.

    Args:
        n_in: Features in.
        n_out: Features out.
        bias: Whether a constant is added.
        generator: Source of the draws; ``None`` is torch's global one.
    """
    # What is made on the meta device draws nothing. torch.nn.utils.skip_init does the same, and loads sympy for it.
    layer = nn.Linear(n_in, n_out, bias=bias, device="meta")
    bound = 1 / math.sqrt(n_in)
    for name, empty in list(layer.named_parameters()):
        start = torch.empty(empty.shape, dtype=empty.dtype, device="cpu").uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(start))
    return layer


class Dropout(nn.Module):
    """Dropout whose masks are raw random bytes of an explicit generator.

    torch's own mask is drawn number by number, on CPU by one thread, and becomes the largest single part of a small
    model's training step (docs/log.md). Eight masks come from one 64-bit draw here. The rate is rounded to a multiple
    of 1/256 and the factor that keeps the mean is exact for the rounded rate.

    Args:
        p: Share of numbers set to zero in training, at least 0 and below 1.

    Attributes:
        generator: Source of the masks; ``None`` is torch's global one. :func:`set_generator` sets it for a model.
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
        self.n_dropped = round(p * _LEVELS)

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
        return _LEVELS / (_LEVELS - n_dropped)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def set_generator(model: nn.Module, generator: torch.Generator | None) -> None:
    """Let every dropout of ``model`` draw from ``generator`` (on the model's device)."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.generator = generator
