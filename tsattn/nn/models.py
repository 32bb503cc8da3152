"""Whole networks: the patch encoder, the linear models, and the builder that makes one of a
description.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ATTENTION_KINDS, LINEAR_KINDS, ModelConfig
from tsattn.nn.covariates import CovariateTokens, StepNetwork, require
from tsattn.nn.decoder import PatchDecoder
from tsattn.nn.heads import make_head
from tsattn.nn.layers import linear
from tsattn.nn.patching import PatchEmbedding, RevIN, patchify
from tsattn.nn.variants import make_stack


class PatchEncoder(nn.Module):
    """Channel-independent transformer over patches: every channel is a sequence of its own, weights
    are shared.

    Window -> reversible normalisation -> overlapping patches -> blocks -> all states to the horizon
    -> back to the window's level and scale. After PatchTST (Nie et al., ICLR 2023), with pre-norm
    blocks. With ``config.masked`` missing values (NaN) are left out of the normalisation and count
    as its mean after it, and no patch looks at one that holds nothing else.

    Covariates of the context are added to the tokens, those of the horizon to the output of the
    head, step by step (:mod:`tsattn.nn.covariates`); all channels of a window share them. With
    ``config.mixed_channels`` the channels look at one another
    (:class:`tsattn.nn.blocks.ChannelMixer`).

    Args:
        config: Sizes and attention.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        length = config.n_tokens
        width = config.d_model
        self.embedding = PatchEmbedding(
            length, config.patch_len, width, dropout=config.dropout, generator=generator
        )
        self.stack = make_stack(config, generator=generator)
        sizes = (length, width, config.horizon)
        self.head = make_head(config.head, *sizes, quantiles=config.quantiles, generator=generator)
        if config.head_rank is not None:
            self.head.narrow(config.head_rank, generator=generator)
        self.revin: nn.Module = self.head.normaliser()
        self.skip = (
            linear(config.context, config.horizon, generator=generator)
            if config.linear_skip
            else None
        )
        # Drawn last, so that the rest starts as it would without covariates.
        reads = config.n_past or config.n_known or config.n_static
        self.beside = CovariateTokens(config, generator=generator) if reads else None
        parameters = self.head.n_parameters
        self.ahead = (
            StepNetwork(config.n_known, width, parameters, generator=generator)
            if config.n_known
            else None
        )

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        *,
        past: Float[Tensor, "B T P"] | None = None,
        known: Float[Tensor, "B TF K"] | None = None,
        static: Float[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B F C *Q"]:
        """Forecast every channel of every window: a point a step, or what the head's parameters
        are.

        Args:
            past: Covariates over the context.
            known: Covariates over context and horizon.
            static: Covariates with one value a window.

        Raises:
            ValueError: If covariates are not those that the network was built for.
        """
        series, seen = self._series(x)
        level, spread = self._statistics(series, seen)
        series = self._normal(series, seen, level, spread)
        tokens = self._embed(series, self._beside(x.shape[2], past, known, static))
        states = self.stack(tokens, key_mask=self._key_mask(seen))
        y = self.head(states)
        if self.ahead is not None and known is not None:
            steps = self.ahead(
                known[:, self.config.context :].repeat_interleave(x.shape[2], 0), states
            )
            y = y + steps.reshape(y.shape)
        if self.skip is not None:
            y = self.head.shift(y, self.skip(series))
        return (
            self.head.denormalise(y, level, spread)
            .unflatten(0, (x.shape[0], x.shape[2]))
            .transpose(1, 2)
        )

    @torch.no_grad()
    def attention_maps(
        self, x: Float[Tensor, "B T C"], **beside: Tensor
    ) -> Float[Tensor, "N B C H L L"]:
        """How much each patch looks at each other one, in every layer; covariates ``beside`` as in
        :meth:`forward`.

        Returns:
            Layers, windows, channels, heads, looking patch, patch looked at. Rows sum to one, and
            to two for ``"global_local"`` (:class:`tsattn.nn.attention.GlobalLocalAttention`).
        """
        series, seen = self._series(x)
        series = self._normal(series, seen, *self._statistics(series, seen))
        tokens = self._embed(series, self._beside(x.shape[2], **beside))
        maps = torch.stack(self.stack.weights(tokens, key_mask=self._key_mask(seen)))
        return maps.unflatten(1, (x.shape[0], x.shape[2]))

    def _beside(
        self,
        n_channels: int,
        past: Tensor | None = None,
        known: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tensor | None:
        """What the covariates add to the tokens of each channel."""
        require(self.config, past, known, static)
        if self.beside is None:
            return None
        return self.beside(past, known, static).repeat_interleave(n_channels, 0)

    def _series(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Channels as sequences of their own, and where they are known."""
        series = x.transpose(1, 2).flatten(0, 1)
        return series, series.isfinite() if self.config.masked else None

    def _statistics(self, series: Tensor, seen: Tensor | None) -> tuple[Tensor | None, Tensor]:
        if seen is None:
            return cast(RevIN, self.revin).statistics(series)
        return cast(RevIN, self.revin).statistics(series, seen=seen)

    def _normal(
        self, series: Tensor, seen: Tensor | None, level: Tensor | None, spread: Tensor
    ) -> Tensor:
        normal = self.revin(series, level, spread)
        return normal if seen is None else normal.where(seen, 0.0)

    def _key_mask(self, seen: Tensor | None) -> Tensor | None:
        """Patches that hold a known value."""
        if seen is None:
            return None
        return patchify(seen, self.config.patch_len, self.config.patch_stride).any(-1)

    def _embed(self, series: Tensor, beside: Tensor | None) -> Tensor:
        return self.embedding(
            patchify(series, self.config.patch_len, self.config.patch_stride), beside=beside
        )


class LinearModel(nn.Module):
    """One linear map from window to horizon, shared by the channels, in three classic dresses.

    ``nlinear`` takes the last value off and adds it back; ``dlinear`` maps a moving average and its
    remainder by a matrix each (both Zeng et al., AAAI 2023); ``rlinear`` normalises reversibly (Li
    et al. 2023).

    Args:
        config: Context, horizon, kind.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    KERNEL = 25  # rows of DLinear's moving average, as published

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        local = config.equivariant
        self.revin = {
            "nlinear": RevIN("last", scale=local),
            "dlinear": RevIN("mean" if local else "none", scale=local),
            "rlinear": RevIN("mean"),
        }[config.backbone]
        sizes = (config.context, config.horizon)
        dlinear = config.backbone == "dlinear"
        self.map = linear(*sizes, generator=generator)
        self.trend = linear(*sizes, generator=generator) if dlinear else None

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B F C"]:
        """Forecast every channel of every window."""
        series = x.transpose(1, 2)
        level, spread = self.revin.statistics(series)
        series = self.revin(series, level, spread)
        if self.trend is None:
            y = self.map(series)
        else:
            smooth = moving_average(series, self.KERNEL)
            y = self.map(series - smooth) + self.trend(smooth)
        return self.revin.inverse(y, level, spread).transpose(1, 2)


def moving_average(x: Float[Tensor, "B C T"], width: int) -> Float[Tensor, "B C T"]:
    """Centred mean of ``width`` (odd) rows; the ends are repeated so that the length stays."""
    reach = width // 2
    padded = torch.cat(
        (x[..., :1].expand(*x.shape[:-1], reach), x, x[..., -1:].expand(*x.shape[:-1], reach)), -1
    )
    return nn.functional.avg_pool1d(padded, width, stride=1)


def build_model(config: ModelConfig, *, generator: torch.Generator | None = None) -> nn.Module:
    """The network that ``config`` describes; it maps windows ``[B, T, C]`` to forecasts
    ``[B, F, C]``.

    Args:
        config: Sizes and backbone.
        generator: Source of the start values; ``None`` is torch's global one.
    """
    if config.backbone in LINEAR_KINDS:
        return LinearModel(config, generator=generator)
    network = PatchDecoder if config.architecture == "decoder" else PatchEncoder
    return network(config, generator=generator)


def multiply_adds(network: nn.Module, config: ModelConfig) -> int:
    """Multiply-adds of one sequence that passes forward, in matrix products: what one window of one
    channel costs.

    Args:
        network: Built by ``config``.
        config: Says how many tokens pass the blocks.
    """
    if config.backbone not in ATTENTION_KINDS:
        return sum(p.numel() for p in network.parameters() if p.ndim > 1)
    tokens = config.n_tokens
    total = 2 * config.n_layers * config.n_tokens**2 * config.d_model
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and name != "embedding.positions":
            # An encoder's head reads all tokens at once, and the map beside it the window.
            once = config.architecture == "encoder" and name.startswith(("head.", "skip."))
            total += parameter.numel() * (1 if once else tokens)
    return total
