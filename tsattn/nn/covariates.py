"""Layers for covariates: tokens of the context, and the effect of the future columns on each step
of the forecast.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import RandomSource, States, linear
from tsattn.nn.patching import patchify


class CovariateTokens(nn.Module):
    """Covariates of the context as tokens that are added to those of the series.

    Past and future columns are cut into the same patches as the series and mapped by one matrix.
    Static columns give one vector, which is added to every token.

    Args:
        config: Sizes of patches and tokens, and how many covariates there are.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: RandomSource = None) -> None:
        super().__init__()
        self.config = config
        n_moving = config.n_past + config.n_known
        width = config.d_model
        self.project: nn.Module | None = None
        self.static: nn.Module | None = None
        # No constants: the embedding of the series has one.
        if n_moving:
            n_inputs = n_moving * config.patch_len
            self.project = linear(n_inputs, width, bias=False, generator=generator)
        if config.n_static:
            self.static = linear(config.n_static, width, bias=False, generator=generator)

    def forward(
        self,
        past: Float[Tensor, "B T P"] | None,
        known: Float[Tensor, "B TF K"] | None,
        static: Float[Tensor, "B S"] | None,
    ) -> States:
        """Tokens of each window; only the context of the future columns is read."""
        config = self.config
        tokens = []
        if self.project is not None:
            tables = [table for table in (past, known) if table is not None]
            moving = [table[:, : config.context] for table in tables]
            columns = torch.cat(moving, -1).transpose(1, 2)  # [B columns T]
            patches = patchify(columns, config.patch_len, config.patch_stride)
            patches = patches.transpose(1, 2).flatten(2)  # [B L columns*P]
            tokens.append(self.project(patches))
        if self.static is not None and static is not None:
            vector = self.static(static)[:, None]  # [B 1 D]
            tokens.append(vector.expand(-1, config.n_tokens, -1))
        first, *others = tokens
        return sum(others, start=first)


class StepNetwork(nn.Module):
    """The effect of the future columns of each step on its forecast, as in TiDE's temporal decoder.

    A residual network of one hidden layer, the same for all steps. It reads the future columns of a
    step and the mean state of the encoder (Das et al., TMLR 2023), and no other step's columns.

    Args:
        n_known: Future columns.
        d_model: Width of the states.
        n_parameters: Numbers that the head gives for a step.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        n_known: int,
        d_model: int,
        n_parameters: int,
        *,
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        hidden = 2 * d_model
        self.widen_step = linear(n_known, hidden, generator=generator)
        self.widen_state = linear(d_model, hidden, bias=False, generator=generator)
        self.narrow = linear(hidden, n_parameters, generator=generator)
        self.skip = linear(n_known, n_parameters, bias=False, generator=generator)

    def forward(self, known: Float[Tensor, "B F K"], states: States) -> Float[Tensor, "B F P"]:
        """The numbers to add to the head's output at each step."""
        mean_state = states.mean(1, keepdim=True)  # [B 1 D]
        hidden = self.widen_step(known) + self.widen_state(mean_state)
        hidden = nn.functional.gelu(hidden)
        return self.narrow(hidden) + self.skip(known)


def check_covariates(
    config: ModelConfig, past: Tensor | None, known: Tensor | None, static: Tensor | None
) -> None:
    """Refuse covariates that a network was not built for, and missing ones.

    Raises:
        ValueError: Naming the first that does not fit.
    """
    n_rows = config.context + config.horizon
    _require_shape("past", past, (config.context, config.n_past))
    _require_shape("known", known, (n_rows, config.n_known))
    _require_shape("static", static, (config.n_static,))


def _require_shape(name: str, covariates: Tensor | None, shape: tuple[int, ...]) -> None:
    """Refuse covariates of another shape than [B *shape], or any where the network has none."""
    expected = shape if shape[-1] else None
    actual = None if covariates is None else tuple(covariates.shape[1:])
    if actual != expected:
        kind = "no" if expected is None else f"windows of shape {expected} as"
        actual_name = actual or "none"
        raise ValueError(f"the network reads {kind} {name} covariates; got {actual_name}")
