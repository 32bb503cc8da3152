"""Descriptions of networks in plain values: the settings of a user, the complete configuration, and
the table of attentions with their settings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import cycle, islice
from typing import Any

import numpy as np

from tsattn.checks import (
    Argument,
    InputError,
    check_choice,
    check_switch,
    check_whole,
    check_whole_or_none,
    is_number,
)
from tsattn.kernels import Pattern
from tsattn.nn.heads import HEADS
from tsattn.nn.patching import n_patches
from tsattn.nn.scores import SCALINGS
from tsattn.settings import Settings

LINEAR_KINDS = ("nlinear", "dlinear", "rlinear")

# Each attention with the settings that it has besides the sizes; other settings are refused.
_PATTERN_OPTIONS = ("window", "n_global", "layer_pattern")
_DOT_OPTIONS = (*_PATTERN_OPTIONS, "n_kv_heads", "rotary")
_ATTENTION_OPTIONS = {
    "standard": _DOT_OPTIONS,
    "sliding_window": ("window", "n_global", "n_kv_heads", "rotary"),
    "global_local": ("window", "n_kv_heads"),
    "mlr": (*_DOT_OPTIONS, "ranks", "block_sizes", "offset", "scaling", "learn_scales"),
    "bilinear_mlr": (*_PATTERN_OPTIONS, "ranks"),
    "bilinear_btt": (*_PATTERN_OPTIONS, "tt_rank"),
    "mlbtc": _PATTERN_OPTIONS,
}
ATTENTION_KINDS = tuple(_ATTENTION_OPTIONS)
ARCHITECTURES = ("encoder", "decoder")
# The inputs besides the window that each kind of network reads; other inputs are refused.
READS: dict[str, tuple[str, ...]] = {
    "encoder": ("past", "future", "static", "calendar", "mixing"),
    "decoder": (),
    "linear": (),
}
# Settings in files of older versions. They always had their default there, so they are ignored.
_OLD_SETTINGS = {"head_dropout"}
_TRANSFORMER_SIZES = ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride")
_SWITCHES = ("equivariant", "learn_scales", "rotary", "linear_skip", "masked")


@dataclass(frozen=True, repr=False)
class Network(Settings):
    """Settings of a patch transformer: the fields of :class:`ModelConfig` that ``fit`` does not
    derive from the data.

    Args:
        d_model: Token width.
        n_heads: Attention heads.
        n_layers: Transformer blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Rows in a patch.
        patch_stride: Rows between patch starts, at most ``patch_len``.
        dropout: Rate in [0, 1), rounded to a multiple of 1/256.
        ranks: Features per level, coarse to fine: for ``"mlr"`` summing to ``d_model // n_heads``,
            for ``"bilinear_mlr"`` those of the matrix. Default: half of a head's features, a
            quarter, the rest.
        block_sizes: Patches per block at each level. Default: halving from the whole context.
            ``"calendar"``: the whole context, then a week and a day as far as the frequency has
            them and the context is longer.
        offset: Shift of the block grid in patches, one number or one a head; ``"layers"`` or
            ``"heads"`` shifts every second layer or head by a third of the second level's block,
            rounded down, so that borders of one grid lie inside blocks of the other.
        scaling: ``"default"``: one factor for all levels. ``"paper"``: normalised queries and keys,
            each level divided by its rank, each score by the number of levels that its pair shares.
        window: Patches that layers with a window see, the patch itself included. Default: a quarter
            of all, so that a window to either side shows half of them.
        layer_pattern: Layers in turn, ``"G"`` sees everything and ``"W"`` a window, such as
            ``"GWW"``.
        rotary: Turn queries and keys by their positions (needs even ranks).
        head_rank: Numbers between the states and the horizon; a small rank has fewer weights to
            learn on short series. Default: one map from all states to every step.
        channel_mixing: An attention over the channels of a wide frame at each token, after each
            block.

    Settings that an attention does not have are refused when a network is built.

    Raises:
        ValueError: If a value is out of its range.
    """

    d_model: int = 16
    n_heads: int = 2
    n_layers: int = 3
    d_ff: int = 128
    patch_len: int = 16
    patch_stride: int = 8
    dropout: float = 0.3
    ranks: Sequence[int] | None = None
    block_sizes: Sequence[int] | str | None = None
    offset: int | Sequence[int] | str = 0
    scaling: str = "default"
    window: int | None = None
    layer_pattern: str | None = None
    rotary: bool = False
    head_rank: int | None = None
    channel_mixing: bool = False

    def __post_init__(self) -> None:
        for name in _TRANSFORMER_SIZES:
            check_whole(name, getattr(self, name))
        _check_patches(self.patch_len, self.patch_stride)
        _check_dropout(self.dropout)
        for name in ("rotary", "channel_mixing"):
            check_switch(name, getattr(self, name))

    def describe(self, context: int, horizon: int, **derived: Any) -> "ModelConfig":
        """The configuration for a context and a horizon.

        Args:
            context: Rows of a window.
            horizon: Rows of a forecast.
            **derived: Other fields of :class:`ModelConfig`, which override these settings.

        Raises:
            ValueError: As :class:`ModelConfig`.
        """
        settings = self.get_params()
        del settings["channel_mixing"]  # fit derives mixed_channels from it
        settings = {name: _to_plain(value) for name, value in settings.items()}
        return ModelConfig(**{"context": context, "horizon": horizon, **settings, **derived})


@dataclass(frozen=True)
class ModelConfig:
    """The complete configuration of a network; :meth:`to_dict` and :meth:`from_dict` convert it for
    JSON.

    Args:
        context: Rows of a window.
        horizon: Rows of a forecast.
        backbone: The attention of a patch transformer (``"standard"``, ``"sliding_window"``,
            ``"global_local"``, ``"mlr"``, ``"bilinear_mlr"``, ``"bilinear_btt"``, ``"mlbtc"``), or
            a linear model (``"nlinear"``, ``"dlinear"``, ``"rlinear"``).
        equivariant: The forecast follows any shift and positive scale of the window, so that series
            of different size need no scaler at prediction time. Those of patch transformers and
            ``"rlinear"`` always do.
        architecture: ``"encoder"`` maps all patches to the horizon at once; ``"decoder"`` forecasts
            the next patch from those before, again and again.
        n_kv_heads: Heads of keys and values, a divisor of ``n_heads``; default as many.
        learn_scales: Train a factor for each head and level.
        tt_rank: Rank of the block tensor train of ``"bilinear_btt"``; default 1.
        n_global: Leading tokens exempt from the window.
        linear_skip: Add a linear map of the normalised window to the forecast.
        masked: Missing values may be NaN in the window; for encoders.
        head: Kind of forecast of an encoder: ``"point"``, ``"quantile"``, ``"student_t"``,
            ``"normal"``, ``"negative_binomial"`` or ``"log_normal"`` (:mod:`tsattn.nn.heads`).
        quantiles: The quantiles that a quantile head trains.
        n_past: Covariates whose values end at the cutoff.
        n_known: Covariates whose future values are given, those of the calendar included.
        n_static: Covariates with one value in a series.
        mixed_channels: Channels of the attention over channels; 0 keeps them independent.
        Others: As in :class:`Network`; a token is a patch, and the patches of a decoder do not
            overlap.

    Raises:
        ValueError: If a value is out of its range, the backbone is unknown, or it does not take a
            setting or cannot read covariates (:data:`READS`).
    """

    # The whole network.
    context: int
    horizon: int
    backbone: str = "mlr"
    equivariant: bool = False
    architecture: str = "encoder"
    # Sizes.
    d_model: int = 16
    n_heads: int = 2
    n_kv_heads: int | None = None
    n_layers: int = 3
    d_ff: int = 128
    patch_len: int = 16
    patch_stride: int = 8
    dropout: float = 0.3
    head_rank: int | None = None
    # The attention; which of these a backbone has is in the table above.
    ranks: tuple[int, ...] | None = None
    block_sizes: tuple[int, ...] | None = None
    offset: int | tuple[int, ...] | str = 0
    scaling: str = "default"
    learn_scales: bool = False
    tt_rank: int | None = None
    window: int | None = None
    n_global: int = 0
    layer_pattern: str | None = None
    rotary: bool = False
    # Inputs and outputs.
    linear_skip: bool = True
    masked: bool = False
    head: str = "point"
    quantiles: tuple[float, ...] | None = None
    n_past: int = 0
    n_known: int = 0
    n_static: int = 0
    mixed_channels: int = 0

    def __post_init__(self) -> None:
        for name in ("context", "horizon", *_TRANSFORMER_SIZES):
            check_whole(name, getattr(self, name))
        for name in ("n_kv_heads", "tt_rank", "window", "head_rank"):
            check_whole_or_none(name, getattr(self, name))
        check_whole("n_global", self.n_global, 0)
        _check_dropout(self.dropout)
        for name in _SWITCHES:
            check_switch(name, getattr(self, name))
        check_choice("backbone", self.backbone, (*ATTENTION_KINDS, *LINEAR_KINDS))
        self._check_inputs()
        self._check_head()
        # A linear model has no patches and no attention; those settings are ignored.
        if self.kind == "linear":
            return
        if self.patch_len > self.context:
            raise ValueError(
                f"patch_len must be at most context; got patch_len = {self.patch_len} for context ="
                f" {self.context}; shorten the patches or lengthen the context"
            )
        _check_patches(self.patch_len, self.patch_stride)
        self._check_architecture()
        self._check_options()
        self._check_pattern()

    @property
    def kind(self) -> str:
        """``"linear"``, or the architecture; the keys of :data:`READS`."""
        return "linear" if self.backbone in LINEAR_KINDS else self.architecture

    def _check_inputs(self) -> None:
        inputs = {
            "n_past": "past",
            "n_known": "future",
            "n_static": "static",
            "mixed_channels": "mixing",
        }
        for name, kind_of_input in inputs.items():
            count = check_whole(name, getattr(self, name), 0)
            if count and kind_of_input not in READS.get(self.kind, ()):
                raise ValueError(
                    f"a {self.kind} network reads no covariates and mixes no channels; got {name} ="
                    f" {count}; use an attention encoder, or leave them out"
                )
        if self.mixed_channels == 1:
            raise ValueError(
                "mixed_channels must be at least 2, or 0 for independent channels; got 1"
            )

    def _check_head(self) -> None:
        check_choice("head", self.head, HEADS)
        if self.kind != "encoder":
            self._check_plain_head()
        elif self.masked and self.head in ("negative_binomial", "log_normal"):
            raise InputError(
                Argument("missing", "mask"),
                f" and head={self.head!r} need windows measured in two ways; fill missing values,"
                " or use another head",
            )

    def _check_plain_head(self) -> None:
        """Refuse the options of an encoder's head."""
        if self.head_rank is not None:
            raise ValueError(
                f"head_rank is for attention encoders; got {self.head_rank} for a {self.kind}"
                " network; drop it"
            )
        if self.head != "point":
            raise ValueError(
                "a decoder feeds on points and a linear model gives points; got head ="
                f" {self.head!r}; use an attention encoder, or calibrate intervals around the"
                " forecaster"
            )
        if self.masked:
            network = self.backbone if self.kind == "linear" else self.architecture
            raise InputError(
                Argument("missing", "mask"),
                " is for attention encoders, which can look past missing values; got"
                f" {network!r}; use ",
                Argument("missing", "interpolate"),
                " or 'ffill'",
            )

    def _check_architecture(self) -> None:
        check_choice("architecture", self.architecture, ARCHITECTURES)
        if not self.causal:
            return
        if self.patch_stride != self.patch_len:
            raise ValueError(
                "a decoder's patches must not overlap; got patch_stride ="
                f" {self.patch_stride} for patch_len = {self.patch_len}; make them equal"
            )
        if self.linear_skip:
            raise ValueError(
                "a decoder has no map from the whole window to the horizon; got linear_skip = True;"
                " set False"
            )

    def _check_options(self) -> None:
        """Refuse settings that the attention does not have."""
        defaults = {field.name: field.default for field in fields(self)}
        for options in _ATTENTION_OPTIONS.values():
            for name in options:
                value = getattr(self, name)
                # A setting at its default was not chosen by the user.
                if value != defaults[name] and name not in _ATTENTION_OPTIONS[self.backbone]:
                    kinds = [kind for kind, names in _ATTENTION_OPTIONS.items() if name in names]
                    raise ValueError(
                        f"attention {self.backbone!r} does not take {name}; got {value!r}; leave it"
                        f" out, or use one of {', '.join(kinds)}"
                    )
        check_choice("scaling", self.scaling, SCALINGS)
        if isinstance(self.offset, str) and self.offset not in ("layers", "heads"):
            raise ValueError(
                f"offset must be whole numbers, 'layers' or 'heads'; got {self.offset!r}"
            )

    def _check_pattern(self) -> None:
        pattern = self.layer_pattern
        if pattern is not None and (not pattern or set(pattern) - set("GW")):
            raise ValueError(
                f"layer_pattern must be made of G and W, such as 'GWW'; got {pattern!r}"
            )
        if self.causal and self.backbone == "mlr" and "W" in (pattern or ""):
            raise ValueError(
                f"a decoder with attention='mlr' keeps levels of all tokens, and no window; got"
                f" layer_pattern = {pattern!r}; leave it out, or take an encoder"
            )
        has_window = self.backbone in ("sliding_window", "global_local") or "W" in (pattern or "")
        for name in ("window", "n_global"):
            value = getattr(self, name)
            if value and not has_window:
                raise ValueError(
                    f"{name} needs a layer with a window; got {name} = {value} without one; add"
                    " layer_pattern='W' or leave it out"
                )

    @property
    def n_tokens(self) -> int:
        """Tokens of the longest sequence in an attention layer."""
        if self.causal:
            n_observed = self.context // self.patch_len
            n_forecast = math.ceil(self.horizon / self.patch_len)
            return n_observed + n_forecast - 1  # the last forecast patch is not fed back
        return n_patches(self.context, self.patch_len, self.patch_stride)

    @property
    def causal(self) -> bool:
        """Whether a token sees only itself and earlier tokens."""
        return self.architecture == "decoder"

    @property
    def window_size(self) -> int:
        """Tokens that a layer with a window sees."""
        return default_window(self.n_tokens) if self.window is None else self.window

    @property
    def layers(self) -> str:
        """``"G"`` or ``"W"`` for each layer."""
        pattern = "W" if self.backbone == "sliding_window" else self.layer_pattern or "G"
        return "".join(islice(cycle(pattern), self.n_layers))

    def pattern(self, layer: int) -> Pattern:
        """Who sees whom in a layer; a new pattern is made here.

        Args:
            layer: Number of the layer, from 0.
        """
        if self.layers[layer] == "W":
            return Pattern(self.causal, self.window_size, self.n_global)
        return Pattern(self.causal)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Undo :meth:`to_dict`, of older versions too; JSON's lists become tuples.

        Raises:
            ValueError: If a name is unknown.
        """
        names = {field.name for field in fields(cls)}
        settings = {name: _to_plain(value) for name, value in values.items() if name in names}
        unknown_names = sorted(values.keys() - names - _OLD_SETTINGS)
        if unknown_names:
            raise ValueError(
                f"a model has no setting {unknown_names[0]!r}; known are {', '.join(sorted(names))}"
            )
        return cls(**settings)


def _check_patches(patch_len: int, patch_stride: int) -> None:
    if patch_stride > patch_len:
        raise ValueError(
            "patch_stride must be at most patch_len, since the rows between patches would be lost;"
            f" got patch_stride = {patch_stride} for patch_len = {patch_len}; set patch_stride ="
            f" {patch_len} or less"
        )


def _check_dropout(rate: Any) -> None:
    if not is_number(rate) or not 0 <= rate < 1:
        raise ValueError(f"dropout must be at least 0 and below 1; got {rate!r}")


def default_window(n_tokens: int) -> int:
    """A quarter of the tokens: a window to either side then shows half of the sequence.

    Example:
        >>> default_window(42)
        11
    """
    return math.ceil(n_tokens / 4)


def _to_plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, lists and arrays of numbers as tuples."""
    if not isinstance(value, np.generic | np.ndarray | list | tuple):
        return value
    numbers = np.asarray(value).tolist()
    return tuple(numbers) if isinstance(numbers, list) else numbers
