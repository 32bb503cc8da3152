"""A causal patch transformer that forecasts patch by patch from its own forecasts."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import RandomSource, linear
from tsattn.nn.patching import PatchEmbedding, RevIN, Windows, check_windows
from tsattn.nn.variants import make_stack


class PatchDecoder(nn.Module):
    """Channel-independent causal transformer: the state of each patch forecasts the next patch from
    this one and those before.

    A window is normalised by its own statistics and cut into patches that do not overlap and end
    with its last row; rows at its start that fill no patch are dropped. Forecast patches are
    appended until the horizon is covered. Without gradients the keys and values of earlier patches
    come from caches, one a layer. With gradients, and under an autocast, every step is a full pass
    over the patches so far, which gives the same numbers.

    Args:
        config: Sizes and attention, ``architecture="decoder"``.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: RandomSource = None) -> None:
        super().__init__()
        self.config = config
        self.revin = RevIN("mean")
        length = config.patch_len
        width = config.d_model
        self.embedding = PatchEmbedding(
            config.n_tokens, length, width, dropout=config.dropout, generator=generator
        )
        self.stack = make_stack(config, generator=generator)
        self.head = linear(width, length, generator=generator)

    def forward(self, x: Windows) -> Float[Tensor, "B F C"]:
        """Forecast every channel of every window."""
        check_windows(x)
        config = self.config
        batch, _, n_channels = x.shape
        patches, location, spread = self._patches(x)
        n_steps = math.ceil(config.horizon / config.patch_len)
        # A cache has one type, and under an autocast keys and values have several.
        if torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type):
            forecast = self._roll_full(patches, n_steps)
        else:
            forecast = self._roll_cached(patches, n_steps)
        forecast = forecast.flatten(1)  # [BC steps*P]
        # The last patch may reach beyond the horizon.
        forecast = forecast[:, : config.horizon]  # [BC F]
        forecast = self.revin.inverse(forecast, location, spread)
        forecast = forecast.unflatten(0, (batch, n_channels))
        return forecast.transpose(1, 2)

    def next_patches(self, patches: Float[Tensor, "B L P"]) -> Float[Tensor, "B L P"]:
        """For each normalised patch the forecast of the patch after it."""
        states = self.stack(self.embedding(patches))
        return self.head(states)

    @torch.no_grad()
    def attention_maps(self, x: Windows) -> Float[Tensor, "N B C H L L"]:
        """Attention weights of every layer between the patches of a window.

        Returns:
            Layers, windows, channels, heads, looking patch, patch looked at.
        """
        check_windows(x)
        batch, _, n_channels = x.shape
        patches, _, _ = self._patches(x)
        tokens = self.embedding(patches)
        maps = torch.stack(self.stack.weights(tokens))
        return maps.unflatten(1, (batch, n_channels))

    def _patches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised patches [BC L P], and location and spread of each series [BC 1]."""
        length = self.config.patch_len
        series = x.transpose(1, 2).flatten(0, 1)  # [BC T]
        location, spread = self.revin.statistics(series)
        # Rows at the start that fill no patch count for the statistics only.
        n_dropped = series.shape[1] % length
        series = self.revin(series[:, n_dropped:], location, spread)
        patches = series.unflatten(1, (-1, length))
        return patches, location, spread

    def _roll_full(self, patches: Tensor, n_steps: int) -> Tensor:
        """Forecast patches [BC steps P], each step a full pass."""
        n_observed = patches.shape[1]
        for _ in range(n_steps):
            # Only the forecast after the last patch is new.
            next_patch = self.next_patches(patches)[:, -1:]
            patches = torch.cat((patches, next_patch), dim=1)
        return patches[:, n_observed:]

    @torch.no_grad()
    def _roll_cached(self, patches: Tensor, n_steps: int) -> Tensor:
        """Forecast patches [BC steps P], each step with the caches of the earlier ones."""
        n_sequences, n_patches, _ = patches.shape
        # The last forecast patch is not fed back.
        max_length = n_patches + n_steps - 1
        caches = self.stack.make_caches(
            n_sequences, max_length, dtype=patches.dtype, device=patches.device
        )
        position = 0
        forecast = []
        for _ in range(n_steps):
            tokens = self.embedding(patches, start=position)
            states = self.stack.step(tokens, caches)
            position += patches.shape[1]
            patches = self.head(states[:, -1:])
            forecast.append(patches)
        return torch.cat(forecast, dim=1)
