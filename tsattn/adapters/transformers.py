"""Attention with distance-dependent levels in models of Hugging Face transformers."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tsattn.checks import check_switch
from tsattn.kernels import Pattern, attention, attention_weights, default_block_sizes
from tsattn.nn.scores import default_ranks

NAME = "tsattn_mlr"
# Arguments by which some models change the scores; the kernel has none of these changes.
_UNSUPPORTED = ("softcap", "position_bias", "s_aux", "head_mask")
# What a config says to the kernel.
_SETTINGS = (
    "tsattn_ranks",
    "tsattn_block_sizes",
    "tsattn_offset",
    "tsattn_level_scales",
    "tsattn_mean_levels",
)

# A direction (whether causal) and a window.
_Candidate = tuple[bool, int | None]


def register_transformers(name: str = NAME) -> str:
    """Register MLR attention with transformers, for ``attn_implementation="tsattn_mlr"``.

    The attention of section 3 of docs/mathematics.md replaces the model's own; the weights stay.
    Its settings are attributes of the model's config, each optional:

    - ``tsattn_ranks``: features of a head per level, coarse to fine. Default: half, a quarter, the
      rest.
    - ``tsattn_block_sizes``: tokens per block at each level. Default: halving from
      ``max_position_embeddings``. A config without it halves the number of keys, which only
      attention to both sides may do.
    - ``tsattn_offset``: shift of the block grid in tokens, one number or one per head. Default 0.
    - ``tsattn_level_scales``: factor per level. Default ones.
    - ``tsattn_mean_levels``: whether each score is divided by the number of levels that its pair
      shares. Default False.

    ``save_pretrained`` writes these settings, but transformers does not write the implementation:
    pass ``attn_implementation`` to ``from_pretrained``, too.

    Grouped keys and values, caches that keep every key, padding masks and sliding windows work.
    Blocks count padding too, so pad on the right if padding must not change a sequence's blocks. A
    ValueError refuses dropout inside the attention, additive biases, soft caps, packed or chunked
    sequences, caches that drop keys, and attention between two sequences, where distance has no
    meaning.

    A model with rotary embeddings turns the whole head by positions, so the two features of a pair
    may belong to different levels. The scores of a level then depend on positions, not on distances
    alone.

    Args:
        name: Value of ``attn_implementation``.

    Returns:
        The name.

    Example:
        >>> register_transformers()
        'tsattn_mlr'
    """
    AttentionInterface.register(name, mlr_forward)
    AttentionMaskInterface.register(name, mlr_mask)
    return name


def mlr_mask(
    *,
    q_length: int,
    kv_length: int,
    kv_offset: int = 0,
    allow_is_causal_skip: bool = True,
    **options: Any,
) -> Tensor | None:
    """The mask that transformers passes to :func:`mlr_forward`.

    True is a visible key. None is a plain triangle.

    Args:
        q_length: Number of queries.
        kv_length: Number of keys.
        kv_offset: Number of keys before these that a cache has dropped.
        allow_is_causal_skip: Whether None may stand for a triangle.
        **options: Other arguments of transformers' own mask function.

    Raises:
        ValueError: If keys were dropped, since blocks are counted from the first key.
    """
    if kv_offset:
        raise ValueError(
            f"{NAME} counts blocks from the first key; got a cache that dropped {int(kv_offset)};"
            " use one that keeps all keys, or use_cache=False"
        )
    skip = allow_is_causal_skip and q_length == kv_length
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        kv_offset=kv_offset,
        allow_is_causal_skip=skip,
        **options,
    )


def mlr_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention that a layer of transformers calls.

    Args:
        module: The layer. Its ``config`` has the settings, its ``is_causal`` the direction.
        query: ``[B, H, Lq, K]``.
        key: ``[B, Hk, Lk, K]``.
        value: ``[B, Hk, Lk, V]``.
        attention_mask: As :func:`mlr_mask` makes it, or ``[B, Lk]``, or additive with nothing but 0
            and -infinity.
        dropout: Must be 0.
        scaling: Factor of the scores; default ``K ** -0.5``.
        is_causal: Overrules the layer's own.
        sliding_window: Number of visible keys, where the mask has a window.
        **kwargs: Other arguments of models; those that change the scores are refused.

    Returns:
        Attended values ``[B, Lq, H, V]``, and the weights if ``output_attentions`` is set.

    Raises:
        ValueError: If the layer needs something that the kernel does not have.
    """
    _refuse(dropout, kwargs)
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    causal = bool(is_causal)
    n_queries = query.shape[2]
    n_keys = key.shape[2]
    window = None
    key_mask = None
    if attention_mask is not None and attention_mask.ndim == 2:
        key_mask = attention_mask.bool()
    elif attention_mask is not None:
        visible = _visible(attention_mask, len(query), n_queries, n_keys)
        n_keys, key_mask, (causal, window) = _pattern(visible, causal, sliding_window)
    if not causal and n_queries != n_keys:
        raise ValueError(
            f"{NAME} needs queries and keys of one sequence; got {n_queries} queries and {n_keys}"
            " keys without a direction; give attention between two sequences another"
            " implementation"
        )
    # Without a mask the kernel has faster backends.
    if key_mask is not None and bool(key_mask.all()):
        key_mask = None
    key = key[:, :, :n_keys]
    value = value[:, :, :n_keys]
    settings = {
        **_levels(module.config, query.shape[3], n_keys, causal),
        "causal": causal,
        "window": window,
        "key_mask": key_mask,
        "scale": scaling,
    }
    attended = attention(query, key, value, **settings)
    attended = attended.transpose(1, 2).contiguous()  # [B L H V], as Transformers joins heads
    weights = None
    if kwargs.get("output_attentions"):
        weights = attention_weights(query, key, **settings)
    return attended, weights


def _refuse(dropout: float, kwargs: dict[str, Any]) -> None:
    if dropout:
        raise ValueError(
            f"{NAME} has no dropout inside the attention; got {dropout}; set"
            " config.attention_dropout=0"
        )
    for name in _UNSUPPORTED:
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{NAME} has no {name}; use another attn_implementation for this model"
            )


def _levels(config: Any, n_features: int, n_keys: int, causal: bool) -> dict[str, Any]:
    """The settings of a config as arguments of the kernel."""
    for name in vars(config):
        if name.startswith("tsattn_") and name not in _SETTINGS:
            raise ValueError(
                f"{NAME} has no setting {name}; it has {', '.join(_SETTINGS)}; drop it from the"
                " config"
            )
    mean_levels = getattr(config, "tsattn_mean_levels", False)
    check_switch("tsattn_mean_levels", mean_levels)
    ranks = _tuple_of(config, "tsattn_ranks")
    block_sizes = _tuple_of(config, "tsattn_block_sizes")
    if ranks is None:
        n_levels = [] if block_sizes is None else [len(block_sizes)]
        ranks = default_ranks(n_features, *n_levels)
    if block_sizes is None:
        length = getattr(config, "max_position_embeddings", None)
        if length is None and causal:
            raise ValueError(
                "the config says nothing of its longest sequence; set config.tsattn_block_sizes"
                f" for ranks {ranks}"
            )
        longest = n_keys if length is None else int(length)
        block_sizes = default_block_sizes(longest, len(ranks))
    offset = getattr(config, "tsattn_offset", 0)
    return {
        "ranks": ranks,
        "block_sizes": block_sizes,
        "level_scales": _tuple_of(config, "tsattn_level_scales"),
        "offset": tuple(offset) if isinstance(offset, list | tuple) else offset,
        "mean_levels": mean_levels,
    }


def _tuple_of(config: Any, name: str) -> tuple[Any, ...] | None:
    value = getattr(config, name, None)
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError(
            f"{name} must be a list of numbers, one a level; got {value!r}; write [{value!r}]"
        )
    return tuple(value)


def _visible(mask: Tensor, n_batch: int, n_queries: int, n_keys: int) -> Tensor:
    """Visible keys of each query, ``[B, Lq, Lk]``, from a mask ``[B or 1, heads or 1, Lq, Lk]``."""
    pair_shape = tuple(mask.shape[2:])
    if mask.ndim != 4 or pair_shape != (n_queries, n_keys):
        raise ValueError(
            f"a mask must be [B, Lk] or [B, 1, {n_queries}, {n_keys}]; got {tuple(mask.shape)}; cut"
            " it to the keys"
        )
    if mask.dtype != torch.bool:
        lowest = torch.finfo(mask.dtype).min
        hidden = mask <= lowest / 2
        is_plain = hidden | (mask == 0)
        if not bool(is_plain.all()):
            raise ValueError(
                f"{NAME} adds no bias to scores; got a mask with values between 0 and -infinity;"
                " drop it"
            )
        mask = ~hidden
    first_head = mask[:, :1]
    if mask.shape[1] > 1 and not bool((mask == first_head).all()):
        raise ValueError(
            f"{NAME} takes one mask for all heads; got one a head; drop the heads' own"
        )
    return mask[:, 0].expand(n_batch, -1, -1)


def _pattern(visible: Tensor, causal: bool, window: int | None) -> tuple[int, Tensor, _Candidate]:
    """Read a mask as a triangle, a window or a whole square.

    Returns:
        The number of keys that count, a mask of these keys, and the direction and window.
    """
    _, n_queries, n_keys = visible.shape
    # A cache made in advance has room for later keys, which no query sees yet.
    visible_columns = visible.any(0).any(0).nonzero()
    n_visible = n_keys
    if len(visible_columns):
        n_visible = int(visible_columns[-1]) + 1
    shortest = max(n_visible, n_queries)
    for length in dict.fromkeys((shortest, n_keys)):
        part = visible[:, :, :length]
        key_mask = part.any(1)
        for candidate in _candidates(causal, n_queries, window):
            allowed = Pattern(*candidate).mask(n_queries, length, device=visible.device)
            if torch.equal(part, allowed & key_mask[:, None]):
                return length, key_mask, candidate
    raise ValueError(
        f"{NAME} knows triangles, windows and hidden keys; got another mask, as of packed or"
        " chunked sequences; give each sequence a row of its own"
    )


def _candidates(causal: bool, n_queries: int, window: int | None) -> Iterator[_Candidate]:
    """Directions and windows that a mask may have; a single query has the layer's direction."""
    directions = (causal,) if n_queries == 1 else (True, False)
    for is_causal in directions:
        yield is_causal, None
    if window is None:
        return
    for is_causal in directions:
        # A window to both sides does not count the token itself in transformers; ours does.
        yield is_causal, window if is_causal else window + 1
