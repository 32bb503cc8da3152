"""Which network is it? A frozen description, the patch encoder, the linear models, and their builder."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.nn.attention import Attention, DotScore, LevelScore, Pattern
from tsattn.nn.blocks import FeedForward, TransformerBlock, TransformerStack
from tsattn.nn.heads import PointHead
from tsattn.nn.layers import linear
from tsattn.nn.patching import PatchEmbedding, RevIN, n_patches, patchify

ATTENTION_KINDS = ("standard", "mlr")
PLANNED_ATTENTION_KINDS = ("sliding_window", "global_local", "bilinear_mlr", "bilinear_btt", "mlbtc")
LINEAR_KINDS = ("nlinear", "dlinear", "rlinear")


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a network's shape; JSON goes in and out through :meth:`to_dict`.

    Args:
        context: Rows a window reads.
        horizon: Rows it answers for.
        backbone: ``"standard"`` or ``"mlr"`` (patch encoders by their attention), ``"nlinear"``, ``"dlinear"``
            or ``"rlinear"``.
        equivariant: The forecast follows any shift and positive scale of the window, so that series of
            different size need no scaler at prediction time. Patch encoders and ``"rlinear"`` always do.
        d_model: Token width.
        n_heads: Heads.
        n_layers: Blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Rows in a patch.
        patch_stride: Rows between patch starts.
        dropout: Rate in embedding, blocks and feed-forward layers.
        head_dropout: Rate before the head.
        ranks: Features per level of MLR attention; default half, a quarter, the rest.
        block_sizes: Tokens per block at each level; default halving.
        offset: Shift of the block grid in tokens.
        linear_skip: Add a linear map of the normalised window to the forecast.

    Raises:
        ValueError: If a value is out of its range or the backbone is unknown.
    """

    context: int
    horizon: int
    backbone: str = "mlr"
    equivariant: bool = False
    d_model: int = 16
    n_heads: int = 2
    n_layers: int = 3
    d_ff: int = 128
    patch_len: int = 16
    patch_stride: int = 8
    dropout: float = 0.3
    head_dropout: float = 0.0
    ranks: tuple[int, ...] | None = None
    block_sizes: tuple[int, ...] | None = None
    offset: int | tuple[int, ...] = 0
    linear_skip: bool = True

    def __post_init__(self) -> None:
        for name in (
            "context",
            "horizon",
            "d_model",
            "n_heads",
            "n_layers",
            "d_ff",
            "patch_len",
            "patch_stride",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
        check_backbone(self.backbone)
        if self.backbone in ATTENTION_KINDS and self.patch_len > self.context:
            raise ValueError(
                f"patch_len must be at most context; got patch_len = {self.patch_len} for context ="
                f" {self.context}; shorten the patches or lengthen the context"
            )

    @property
    def n_tokens(self) -> int:
        """Patches a window has."""
        return n_patches(self.context, self.patch_len, self.patch_stride)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Undo :meth:`to_dict`; JSON's lists become tuples.

        Raises:
            ValueError: If a name is unknown.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"a model has no setting {unknown[0]!r}; known are {', '.join(sorted(known))}")
        known_values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**known_values)


def check_backbone(name: str) -> None:
    """Refuse a backbone that does not exist, or not yet, by name.

    Raises:
        ValueError: Naming those that can be built.
    """
    built = (*ATTENTION_KINDS, *LINEAR_KINDS)
    if name in PLANNED_ATTENTION_KINDS:
        raise ValueError(f"attention {name!r} is not built yet; use one of {', '.join(ATTENTION_KINDS)}")
    if name not in built:
        raise ValueError(f"no backbone is called {name!r}; use one of {', '.join(built)}")


class PatchEncoder(nn.Module):
    """Channel-independent transformer over patches: every channel is a sequence of its own, weights are shared.

    Window -> reversible normalisation -> overlapping patches -> blocks -> all states to the horizon -> back
    to the window's level and scale. After PatchTST (Nie et al., ICLR 2023), with pre-norm blocks.

    Args:
        config: Sizes and attention.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        length, width = config.n_tokens, config.d_model
        self.revin = RevIN("mean")
        self.embedding = PatchEmbedding(length, config.patch_len, width, dropout=config.dropout, generator=generator)
        blocks = [_make_block(config, generator) for _ in range(config.n_layers)]
        self.stack = TransformerStack(blocks, d_model=width)
        self.head = PointHead(length, width, config.horizon, dropout=config.head_dropout, generator=generator)
        self.skip = linear(config.context, config.horizon, generator=generator) if config.linear_skip else None

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B F C"]:
        """Forecast every channel of every window."""
        series = x.transpose(1, 2).flatten(0, 1)
        level, spread = self.revin.statistics(series)
        series = self.revin(series, level, spread)
        patches = patchify(series, self.config.patch_len, self.config.patch_stride)
        y = self.head(self.stack(self.embedding(patches)))
        if self.skip is not None:
            y = y + self.skip(series)
        return self.revin.inverse(y, level, spread).unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class LinearModel(nn.Module):
    """One linear map from window to horizon, shared by the channels, in three classic dresses.

    ``nlinear`` takes the last value off and adds it back; ``dlinear`` maps a moving average and its remainder
    by a matrix each (both Zeng et al., AAAI 2023); ``rlinear`` normalises reversibly (Li et al. 2023).

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
        self.map = linear(config.context, config.horizon, generator=generator)
        self.trend = (
            linear(config.context, config.horizon, generator=generator) if config.backbone == "dlinear" else None
        )

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
    padded = torch.cat((x[..., :1].expand(*x.shape[:-1], reach), x, x[..., -1:].expand(*x.shape[:-1], reach)), -1)
    return nn.functional.avg_pool1d(padded, width, stride=1)


def build_model(config: ModelConfig, *, generator: torch.Generator | None = None) -> nn.Module:
    """The network that ``config`` describes; it maps windows ``[B, T, C]`` to forecasts ``[B, F, C]``.

    Args:
        config: Sizes and backbone.
        generator: Source of the start values; ``None`` is torch's global one.
    """
    kind = LinearModel if config.backbone in LINEAR_KINDS else PatchEncoder
    return kind(config, generator=generator)


def _make_block(config: ModelConfig, generator: torch.Generator | None) -> TransformerBlock:
    width, heads = config.d_model, config.n_heads
    score = (
        DotScore(width, heads, generator=generator)
        if config.backbone == "standard"
        else LevelScore(
            width,
            heads,
            length=config.n_tokens,
            ranks=config.ranks,
            block_sizes=config.block_sizes,
            offset=config.offset,
            generator=generator,
        )
    )
    layer = Attention(width, score=score, pattern=Pattern(), generator=generator)
    feed_forward = FeedForward(width, config.d_ff, dropout=config.dropout, generator=generator)
    return TransformerBlock(layer, feed_forward, d_model=width, dropout=config.dropout)
