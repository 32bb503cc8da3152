"""Networks in plain values: the settings of a user, the whole description, and what each attention
takes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import cycle, islice
from numbers import Real
from typing import Any

import numpy as np

from tsattn.nn.heads import HEADS
from tsattn.nn.patching import n_patches
from tsattn.nn.scores import SCALINGS
from tsattn.settings import Settings, check_whole

LINEAR_KINDS = ("nlinear", "dlinear", "rlinear")
# Settings that mean something to some attentions only; asking another for them is an error.
_EVERYWHERE = ("window", "n_global", "layer_pattern")
_DOT = (*_EVERYWHERE, "n_kv_heads", "rotary")
_TAKES = {
    "standard": _DOT,
    "sliding_window": ("window", "n_global", "n_kv_heads", "rotary"),
    "global_local": ("window", "n_kv_heads"),
    "mlr": (*_DOT, "ranks", "block_sizes", "offset", "scaling", "learn_scales"),
    "bilinear_mlr": (*_EVERYWHERE, "ranks"),
    "bilinear_btt": (*_EVERYWHERE, "tt_rank"),
    "mlbtc": _EVERYWHERE,
}
ATTENTION_KINDS = tuple(_TAKES)
ARCHITECTURES = ("encoder", "decoder")
# What each kind of network can read beside the window itself; asking another for it is an error.
READS: dict[str, tuple[str, ...]] = {
    "encoder": ("past", "future", "static", "calendar", "mixing"),
    "decoder": (),
    "linear": (),
}
# Settings that older versions wrote; no forecaster ever gave them another value than the default.
_GONE = {"head_dropout"}
_SIZES = (
    "context",
    "horizon",
    "d_model",
    "n_heads",
    "n_layers",
    "d_ff",
    "patch_len",
    "patch_stride",
)


@dataclass(frozen=True, repr=False)
class Network(Settings):
    """How a patch transformer looks: what :class:`ModelConfig` holds, but for what ``fit`` derives
    from the data.

    Args:
        d_model: Token width.
        n_heads: Attention heads.
        n_layers: Transformer blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Rows in a patch.
        patch_stride: Rows between patch starts.
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
        window: Patches seen in layers with a window, the patch itself included. Default: a quarter
            of all, so that half of them are in view.
        layer_pattern: Layers in turn, ``"G"`` sees everything and ``"W"`` a window, such as
            ``"GWW"``.
        rotary: Turn queries and keys by their positions (needs even ranks).
        head_rank: Numbers through which the states reach the horizon, fewer to learn on short
            series. Default: all states reach every step by themselves.
        channel_mixing: Let the channels of a wide frame look at one another: an attention over
            channels at each token, after each block.

    Settings that an attention does not have are refused when a network is made of them.

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
        for name in ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride"):
            check_whole(name, getattr(self, name))
        if not isinstance(self.dropout, Real) or not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; got {self.dropout!r}")

    def describe(self, context: int, horizon: int, **derived: Any) -> "ModelConfig":
        """The network for windows of some length.

        Args:
            context: Rows a window reads.
            horizon: Rows it answers for.
            **derived: Other fields of :class:`ModelConfig`, which count before these settings.

        Raises:
            ValueError: As :class:`ModelConfig`.
        """
        left_out = ("channel_mixing", *derived)
        own = {
            name: _plain(value) for name, value in self.get_params().items() if name not in left_out
        }
        return ModelConfig(context=context, horizon=horizon, **own, **derived)


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes a network's shape; JSON goes in and out through :meth:`to_dict`.

    Args:
        context: Rows a window reads.
        horizon: Rows it answers for.
        backbone: The attention of a patch transformer (``"standard"``, ``"sliding_window"``,
            ``"global_local"``, ``"mlr"``, ``"bilinear_mlr"``, ``"bilinear_btt"``, ``"mlbtc"``), or
            a linear model (``"nlinear"``, ``"dlinear"``, ``"rlinear"``).
        equivariant: The forecast follows any shift and positive scale of the window, so that series
            of different size need no scaler at prediction time. Patch transformers and
            ``"rlinear"`` always do.
        architecture: ``"encoder"`` maps all patches to the horizon at once; ``"decoder"`` forecasts
            the next patch from those before, again and again.
        n_kv_heads: Heads of keys and values, a divisor of ``n_heads``; default as many.
        learn_scales: Train a factor for each head and level.
        tt_rank: Rank of the block tensor train of ``"bilinear_btt"``; default 1.
        n_global: Leading tokens exempt from the window.
        linear_skip: Add a linear map of the normalised window to the forecast.
        masked: Missing values may come in as NaN; for encoders.
        head: What an encoder forecasts: ``"point"``, ``"quantile"``, ``"student_t"``, ``"normal"``,
            ``"negative_binomial"`` or ``"log_normal"`` (:mod:`tsattn.nn.heads`).
        quantiles: Those that a quantile head trains.
        n_past: Covariates that are known up to the cutoff.
        n_known: Covariates that are known through the horizon, those of the calendar among them.
        n_static: Covariates with one value in a series.
        mixed_channels: Channels that look at one another; 0 keeps them independent.
        Others: As in :class:`Network`; a token is a patch, and the patches of a decoder do not
            overlap.

    Raises:
        ValueError: If a value is out of its range, the backbone is unknown, or it does not take a
            setting or cannot read covariates (:data:`READS`).
    """

    context: int
    horizon: int
    backbone: str = "mlr"
    equivariant: bool = False
    architecture: str = "encoder"
    d_model: int = 16
    n_heads: int = 2
    n_kv_heads: int | None = None
    n_layers: int = 3
    d_ff: int = 128
    patch_len: int = 16
    patch_stride: int = 8
    dropout: float = 0.3
    head_rank: int | None = None
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
    linear_skip: bool = True
    masked: bool = False
    head: str = "point"
    quantiles: tuple[float, ...] | None = None
    n_past: int = 0
    n_known: int = 0
    n_static: int = 0
    mixed_channels: int = 0

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_whole(name, getattr(self, name))
        for name in ("n_kv_heads", "tt_rank", "window", "head_rank"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        check_backbone(self.backbone)
        self._check_reads()
        self._check_head()
        if self.masked and self.kind != "encoder":
            kind = self.backbone if self.backbone in LINEAR_KINDS else self.architecture
            raise ValueError(
                "missing='mask' is for attention encoders, which can look past missing values; got"
                f" {kind!r}; use missing='interpolate' or 'ffill'"
            )
        if self.backbone in LINEAR_KINDS:
            return
        if self.patch_len > self.context:
            raise ValueError(
                f"patch_len must be at most context; got patch_len = {self.patch_len} for context ="
                f" {self.context}; shorten the patches or lengthen the context"
            )
        self._check_architecture()
        self._check_options()
        self._check_pattern()

    @property
    def kind(self) -> str:
        """``"linear"``, or the architecture: what :data:`READS` is told by."""
        return "linear" if self.backbone in LINEAR_KINDS else self.architecture

    def _check_reads(self) -> None:
        counts = {
            "n_past": "past",
            "n_known": "future",
            "n_static": "static",
            "mixed_channels": "mixing",
        }
        for name, what in counts.items():
            value = getattr(self, name)
            if check_whole(name, value, 0) and what not in READS.get(self.kind, ()):
                raise ValueError(
                    f"a {self.kind} network reads no covariates and mixes no channels; got {name} ="
                    f" {value}; use an attention encoder, or leave them out"
                )
        if self.mixed_channels == 1:
            raise ValueError(
                "mixed_channels must be at least 2, or 0 for independent channels; got 1"
            )

    def _check_head(self) -> None:
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}; got {self.head!r}")
        if self.head_rank is not None and self.kind != "encoder":
            raise ValueError(
                f"head_rank is for attention encoders; got {self.head_rank} for a {self.kind}"
                " network; drop it"
            )
        if self.head != "point" and self.kind != "encoder":
            raise ValueError(
                "a decoder feeds on points and a linear model gives points; got head ="
                f" {self.head!r}; use an attention encoder, or calibrate intervals around the"
                " forecaster"
            )
        if self.masked and self.head in ("negative_binomial", "log_normal"):
            raise ValueError(
                f"missing='mask' and head={self.head!r} need windows measured in two ways; fill"
                " missing values, or use another head"
            )

    def _check_architecture(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"architecture must be one of {', '.join(ARCHITECTURES)}; got {self.architecture!r}"
            )
        if self.architecture == "decoder" and self.patch_stride != self.patch_len:
            raise ValueError(
                "a decoder's patches must not overlap; got patch_stride ="
                f" {self.patch_stride} for patch_len = {self.patch_len}; make them equal"
            )
        if self.architecture == "decoder" and self.linear_skip:
            raise ValueError(
                "a decoder has no map from the whole window to the horizon; got linear_skip = True;"
                " set False"
            )

    def _check_options(self) -> None:
        neutral = {field.name: field.default for field in fields(self)}
        for name in dict.fromkeys(option for options in _TAKES.values() for option in options):
            if getattr(self, name) != neutral[name] and name not in _TAKES[self.backbone]:
                takers = ", ".join(kind for kind, options in _TAKES.items() if name in options)
                raise ValueError(
                    f"attention {self.backbone!r} does not take {name}; got"
                    f" {getattr(self, name)!r}; leave it out, or use one of {takers}"
                )
        if self.scaling not in SCALINGS:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}; got {self.scaling!r}")
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
        windowed = self.backbone in ("sliding_window", "global_local") or "W" in (pattern or "")
        for name in ("window", "n_global"):
            if getattr(self, name) and not windowed:
                raise ValueError(
                    f"{name} needs a layer with a window; got {name} = {getattr(self, name)}"
                    " without one; add layer_pattern='W' or leave it out"
                )

    @property
    def n_tokens(self) -> int:
        """Patches that the network sees at once."""
        if self.architecture == "decoder":
            return self.context // self.patch_len + -(-self.horizon // self.patch_len) - 1
        return n_patches(self.context, self.patch_len, self.patch_stride)

    @property
    def layers(self) -> str:
        """``"G"`` or ``"W"`` for each layer."""
        pattern = "W" if self.backbone == "sliding_window" else self.layer_pattern or "G"
        return "".join(islice(cycle(pattern), self.n_layers))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Undo :meth:`to_dict`, of older versions too; JSON's lists become tuples.

        Raises:
            ValueError: If a name is unknown.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known - _GONE):
            raise ValueError(
                f"a model has no setting {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        return cls(**{name: _plain(value) for name, value in values.items() if name not in _GONE})


def check_backbone(name: str) -> None:
    """Refuse a backbone that does not exist.

    Raises:
        ValueError: Naming those that can be built.
    """
    built = (*ATTENTION_KINDS, *LINEAR_KINDS)
    if name not in built:
        raise ValueError(f"no backbone is called {name!r}; use one of {', '.join(built)}")


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's own, rows of numbers as tuples."""
    if not isinstance(value, np.generic | np.ndarray | list | tuple):
        return value
    found = np.asarray(value).tolist()
    return tuple(found) if isinstance(found, list) else found
