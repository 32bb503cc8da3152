"""Layers for covariates: tokens of the context, and what the known ones of each step ahead add to
its forecast.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import linear
from tsattn.nn.patching import patchify


class CovariateTokens(nn.Module):
    """Covariates of the context as tokens to be added to those of the series.

    Past and known covariates are cut into the same patches as the series and mapped by one matrix;
    static ones give one vector, added to every token.

    Args:
        config: Sizes of patches and tokens, and how many covariates there are.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        moving = config.n_past + config.n_known
        width = config.d_model
        # No constants: the embedding of the series has one.
        self.project = (
            linear(moving * config.patch_len, width, bias=False, generator=generator)
            if moving
            else None
        )
        self.static = (
            linear(config.n_static, width, bias=False, generator=generator)
            if config.n_static
            else None
        )

    def forward(
        self,
        past: Float[Tensor, "B T P"] | None,
        known: Float[Tensor, "B TF K"] | None,
        static: Float[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B L D"]:
        """Tokens of each window; only the context of the known covariates is read."""
        config = self.config
        parts = []
        moving = [rows[:, : config.context] for rows in (past, known) if rows is not None]
        if self.project is not None:
            patches = patchify(
                torch.cat(moving, -1).transpose(1, 2), config.patch_len, config.patch_stride
            )
            parts.append(self.project(patches.transpose(1, 2).flatten(2)))
        if self.static is not None and static is not None:
            parts.append(self.static(static)[:, None].expand(-1, config.n_tokens, -1))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class StepNetwork(nn.Module):
    """What the known covariates of each step ahead add to its forecast, as in TiDE's temporal
    decoder.

    A residual network of one hidden layer, the same for all steps, that sees the covariates of the
    step beside the mean state of the encoder (Das et al., TMLR 2023). A step sees no other step's
    covariates.

    Args:
        n_known: Covariates of a step.
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
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        hidden = 2 * d_model
        self.widen_step = linear(n_known, hidden, generator=generator)
        self.widen_state = linear(d_model, hidden, bias=False, generator=generator)
        self.narrow = linear(hidden, n_parameters, generator=generator)
        self.skip = linear(n_known, n_parameters, bias=False, generator=generator)

    def forward(
        self, known: Float[Tensor, "B F K"], states: Float[Tensor, "B L D"]
    ) -> Float[Tensor, "B F P"]:
        """What to add to the head's output at each step."""
        hidden = self.widen_step(known) + self.widen_state(states.mean(1, keepdim=True))
        return self.narrow(nn.functional.gelu(hidden)) + self.skip(known)


def require(
    config: ModelConfig, past: Tensor | None, known: Tensor | None, static: Tensor | None
) -> None:
    """Refuse covariates that a network was not built for, and their absence.

    Raises:
        ValueError: Naming the first that does not fit.
    """
    rows = {"past": config.context, "known": config.context + config.horizon, "static": None}
    for (name, length), given in zip(rows.items(), (past, known, static), strict=True):
        n = getattr(config, f"n_{name}")
        wanted = None if not n else (n,) if length is None else (length, n)
        got = None if given is None else tuple(given.shape[1:])
        if got != wanted:
            kind = "no" if wanted is None else f"windows of shape {wanted} as"
            raise ValueError(
                f"the network reads {kind} {name} covariates; got {'none' if got is None else got}"
            )
