"""Whole networks: the patch encoder, the linear models, and the builder that makes a network from
its configuration.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ATTENTION_KINDS, LINEAR_KINDS, ModelConfig
from tsattn.nn.covariates import CovariateTokens, StepNetwork, check_covariates
from tsattn.nn.decoder import PatchDecoder
from tsattn.nn.heads import make_head
from tsattn.nn.layers import RandomSource, linear
from tsattn.nn.patching import PatchEmbedding, RevIN, Windows, check_windows, patchify
from tsattn.nn.variants import make_stack


class PatchEncoder(nn.Module):
    """Channel-independent transformer over patches: every channel is a sequence of its own, and all
    share the weights.

    Window -> reversible normalisation -> overlapping patches -> blocks -> all states to the horizon
    -> back to the window's location and spread. After PatchTST (Nie et al., ICLR 2023), with
    pre-norm blocks. With ``config.masked`` missing values (NaN) are left out of the statistics and
    are the mean after normalisation, and no patch attends to one that holds only missing values.

    Covariates of the context are added to the tokens. Future columns are added to the output of the
    head, step by step (:mod:`tsattn.nn.covariates`). All channels of a window share them. With
    ``config.mixed_channels`` there is an attention over channels
    (:class:`tsattn.nn.blocks.ChannelMixer`).

    Args:
        config: Sizes and attention.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: RandomSource = None) -> None:
        super().__init__()
        self.config = config
        length = config.n_tokens
        width = config.d_model
        self.embedding = PatchEmbedding(
            length, config.patch_len, width, dropout=config.dropout, generator=generator
        )
        self.stack = make_stack(config, generator=generator)
        self.head = make_head(
            config.head,
            length,
            width,
            config.horizon,
            quantiles=config.quantiles,
            generator=generator,
        )
        if config.head_rank is not None:
            self.head.narrow(config.head_rank, generator=generator)
        self.revin: nn.Module = self.head.normaliser()
        self.skip: nn.Module | None = None
        if config.linear_skip:
            self.skip = linear(config.context, config.horizon, generator=generator)
        # The layers of covariates are drawn last, so that the others start as without covariates.
        # The names ``beside`` and ``ahead`` stand in saved files.
        self.beside: CovariateTokens | None = None
        self.ahead: StepNetwork | None = None
        if config.n_past or config.n_known or config.n_static:
            self.beside = CovariateTokens(config, generator=generator)
        if config.n_known:
            n_parameters = self.head.n_parameters
            self.ahead = StepNetwork(config.n_known, width, n_parameters, generator=generator)

    def forward(
        self,
        x: Windows,
        *,
        past: Float[Tensor, "B T P"] | None = None,
        known: Float[Tensor, "B TF K"] | None = None,
        static: Float[Tensor, "B S"] | None = None,
    ) -> Float[Tensor, "B F C *Q"]:
        """Forecast every channel of every window: a point a step, or the parameters of the head.

        Args:
            past: Covariates over the context.
            known: Covariates over context and horizon.
            static: Covariates with one value a window.

        Raises:
            ValueError: If the rows of the windows or the covariates are not those that the network
                was built for.
        """
        check_windows(x, self.config.context)
        batch, _, n_channels = x.shape
        tokens, series, location, spread = self._embed(x, past, known, static)
        states = self.stack(tokens, key_mask=self._key_mask(x))
        forecast = self.head(states)
        if self.ahead is not None and known is not None:
            future = known[:, self.config.context :]  # [B F K]
            future = future.repeat_interleave(n_channels, 0)  # [BC F K]
            effect = self.ahead(future, states)
            forecast = forecast + effect.reshape(forecast.shape)
        if self.skip is not None:
            linear_part = self.skip(series)
            forecast = self.head.shift(forecast, linear_part)
        forecast = self.head.denormalise(forecast, location, spread)
        forecast = forecast.unflatten(0, (batch, n_channels))
        return forecast.transpose(1, 2)

    @torch.no_grad()
    def attention_maps(self, x: Windows, **covariates: Tensor) -> Float[Tensor, "N B C H L L"]:
        """Attention weights of every layer between the patches; covariates as in :meth:`forward`.

        Returns:
            Layers, windows, channels, heads, looking patch, patch looked at. Rows sum to one, and
            to two for ``"global_local"`` (:class:`tsattn.nn.attention.GlobalLocalAttention`).
        """
        check_windows(x, self.config.context)
        batch, _, n_channels = x.shape
        tokens, _, _, _ = self._embed(x, **covariates)
        key_mask = self._key_mask(x)
        maps = torch.stack(self.stack.weights(tokens, key_mask=key_mask))
        return maps.unflatten(1, (batch, n_channels))

    def _embed(
        self,
        x: Tensor,
        past: Tensor | None = None,
        known: Tensor | None = None,
        static: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Tokens [BC L D], the normalised series [BC T], and its location and spread [BC 1]."""
        check_covariates(self.config, past, known, static)
        n_channels = x.shape[2]
        series = x.transpose(1, 2).flatten(0, 1)  # [BC T]
        revin = cast(RevIN, self.revin)
        if self.config.masked:
            observed = series.isfinite()
            location, spread = revin.statistics(series, observed=observed)
            series = revin(series, location, spread).where(observed, 0.0)
        else:
            location, spread = revin.statistics(series)
            series = revin(series, location, spread)
        covariate_tokens = None
        if self.beside is not None:
            window_tokens = self.beside(past, known, static)  # [B L D]
            covariate_tokens = window_tokens.repeat_interleave(n_channels, 0)  # [BC L D]
        patches = patchify(series, self.config.patch_len, self.config.patch_stride)
        tokens = self.embedding(patches, extra_tokens=covariate_tokens)
        return tokens, series, location, spread

    def _key_mask(self, x: Tensor) -> Tensor | None:
        """Patches [BC L] that hold an observed value, or ``None`` if values cannot be missing."""
        if not self.config.masked:
            return None
        series = x.transpose(1, 2).flatten(0, 1)  # [BC T]
        observed = series.isfinite()
        patches = patchify(observed, self.config.patch_len, self.config.patch_stride)
        return patches.any(-1)


class LinearModel(nn.Module):
    """One linear map from window to horizon, shared by the channels, in three published variants.

    ``nlinear`` subtracts the last value and adds it back; ``dlinear`` maps a moving average and its
    remainder by one matrix each (both Zeng et al., AAAI 2023); ``rlinear`` normalises reversibly
    (Li et al. 2023).

    Args:
        config: Context, horizon, kind.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    KERNEL = 25  # rows of DLinear's moving average, as published

    def __init__(self, config: ModelConfig, *, generator: RandomSource = None) -> None:
        super().__init__()
        self.config = config
        if config.backbone == "nlinear":
            self.revin = RevIN("last", scale=config.equivariant)
        elif config.backbone == "dlinear" and not config.equivariant:
            self.revin = RevIN("none", scale=False)
        else:
            self.revin = RevIN("mean")
        # The names ``map`` and ``trend`` stand in saved files.
        self.map = linear(config.context, config.horizon, generator=generator)
        self.trend: nn.Module | None = None
        if config.backbone == "dlinear":
            self.trend = linear(config.context, config.horizon, generator=generator)

    def forward(self, x: Windows) -> Float[Tensor, "B F C"]:
        """Forecast every channel of every window."""
        check_windows(x, self.config.context)
        series = x.transpose(1, 2)
        location, spread = self.revin.statistics(series)
        series = self.revin(series, location, spread)
        if self.trend is None:
            y = self.map(series)
        else:
            smooth = moving_average(series, self.KERNEL)
            remainder = series - smooth
            y = self.map(remainder) + self.trend(smooth)
        forecast = self.revin.inverse(y, location, spread)
        return forecast.transpose(1, 2)


def moving_average(x: Float[Tensor, "B C T"], width: int) -> Float[Tensor, "B C T"]:
    """Centred mean of ``width`` (odd) rows; the ends are repeated so that the length stays."""
    # Half of the width on either side, so that as many rows come out as go in.
    n_repeats = width // 2
    batch, n_channels, _ = x.shape
    first_rows = x[..., :1].expand(batch, n_channels, n_repeats)
    last_rows = x[..., -1:].expand(batch, n_channels, n_repeats)
    padded = torch.cat((first_rows, x, last_rows), -1)
    return nn.functional.avg_pool1d(padded, width, stride=1)


def build_model(config: ModelConfig, *, generator: RandomSource = None) -> nn.Module:
    """The network of a configuration; it maps windows ``[B, T, C]`` to forecasts ``[B, F, C]``.

    Args:
        config: Sizes and backbone.
        generator: Source of the start values; ``None`` is torch's global one.
    """
    if config.backbone in LINEAR_KINDS:
        return LinearModel(config, generator=generator)
    network = PatchDecoder if config.architecture == "decoder" else PatchEncoder
    return network(config, generator=generator)


def multiply_adds(network: nn.Module, config: ModelConfig) -> int:
    """Multiply-adds of one forward pass of one sequence, in matrix products: the cost of one window
    of one channel.

    Args:
        network: Built by ``config``.
        config: Gives the number of tokens.
    """
    matrices = {
        name: parameter for name, parameter in network.named_parameters() if parameter.ndim > 1
    }
    if config.backbone not in ATTENTION_KINDS:
        # Each matrix is multiplied once a window.
        return sum(matrix.numel() for matrix in matrices.values())
    n_tokens = config.n_tokens
    n_pairs = n_tokens**2
    # Scores and weighted values of every layer.
    total = 2 * config.n_layers * n_pairs * config.d_model
    # An encoder's head reads all tokens at once, and the linear map reads the window.
    once = ("head.", "skip.") if config.architecture == "encoder" else ()
    for name, matrix in matrices.items():
        if name == "embedding.positions":
            continue  # added, not multiplied
        n_products = 1 if name.startswith(once) else n_tokens
        total += matrix.numel() * n_products
    return total
