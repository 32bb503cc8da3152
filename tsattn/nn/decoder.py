"""A causal patch transformer that forecasts patch by patch from its own forecasts."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import linear
from tsattn.nn.patching import PatchEmbedding, RevIN
from tsattn.nn.variants import make_stack


class PatchDecoder(nn.Module):
    """Channel-independent causal transformer: each patch forecasts the next one, from itself and
    those before.

    A window is normalised by its own statistics and cut into patches that do not overlap and end
    with its last row (rows at its start that fill no patch are left out). Forecast patches are
    appended until the horizon is covered. Without gradients the keys and values of earlier patches
    come from caches, one a layer; with gradients, and under an autocast, every step is a full pass
    over the patches so far, which gives the same numbers.

    Args:
        config: Sizes and attention, ``architecture="decoder"``.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
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

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B F C"]:
        """Forecast every channel of every window."""
        patches, level, spread = self._patches(x)
        # A cache has one type, and under an autocast keys and values come in several.
        full = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type)
        roll = self._roll_full if full else self._roll_cached
        y = roll(patches, -(-self.config.horizon // self.config.patch_len)).flatten(1)
        y = self.revin.inverse(y[:, : self.config.horizon], level, spread)
        return y.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)

    def next_patches(self, patches: Float[Tensor, "B L P"]) -> Float[Tensor, "B L P"]:
        """For each of a row of normalised patches a forecast of the one after it."""
        return self.head(self.stack(self.embedding(patches)))

    @torch.no_grad()
    def attention_maps(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "N B C H L L"]:
        """How much each patch of a window looks at each earlier one, in every layer.

        Returns:
            Layers, windows, channels, heads, looking patch, patch looked at.
        """
        maps = torch.stack(self.stack.weights(self.embedding(self._patches(x)[0])))
        return maps.unflatten(1, (x.shape[0], x.shape[2]))

    def _patches(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length = self.config.patch_len
        series = x.transpose(1, 2).flatten(0, 1)
        level, spread = self.revin.statistics(series)
        series = self.revin(series[:, series.shape[1] % length :], level, spread)
        return series.unflatten(1, (-1, length)), level, spread

    def _roll_full(self, patches: Tensor, n_steps: int) -> Tensor:
        n_known = patches.shape[1]
        for _ in range(n_steps):
            patches = torch.cat((patches, self.next_patches(patches)[:, -1:]), dim=1)
        return patches[:, n_known:]

    @torch.no_grad()
    def _roll_cached(self, patches: Tensor, n_steps: int) -> Tensor:
        caches = self.stack.make_caches(
            len(patches), patches.shape[1] + n_steps - 1, dtype=patches.dtype, device=patches.device
        )
        done = 0
        forecast = []
        for _ in range(n_steps):
            states = self.stack.step(self.embedding(patches, start=done), caches)
            done += patches.shape[1]
            patches = self.head(states[:, -1:])
            forecast.append(patches)
        return torch.cat(forecast, dim=1)
