"""Attention with distance-dependent levels in models of Hugging Face transformers."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from tsattn.kernels import Pattern, attention, attention_weights, default_block_sizes
from tsattn.nn.scores import default_ranks

NAME = "tsattn_mlr"
# Arguments of some models that change the scores in ways that the kernel does not have.
_FOREIGN = ("softcap", "position_bias", "s_aux", "head_mask")


def register_transformers(name: str = NAME) -> str:
    """Make MLR attention known to transformers, for ``attn_implementation="tsattn_mlr"``.

    The attention of section 3 of docs/mathematics.md takes the place of the model's own; weights
    and all else stay. Its settings are attributes of the model's config, each optional:

    ========================
    ========================================================================== ``tsattn_ranks``
    Features of a head per level, coarse to fine. Default: half, a quarter, the rest.
    ``tsattn_block_sizes``    Tokens per block at each level. Default: halving from
    ``max_position_embeddings``; where a
                              config has none, from the number of keys, which only attention to both
                              sides may use.
    ``tsattn_offset``         Shift of the block grid in tokens, one number or one per head. Default
    0. ``tsattn_level_scales``   Factor per level. Default ones. ``tsattn_mean_levels``    Divide
    each score by the number of levels that its pair shares. Default False. ========================
    ==========================================================================

    Grouped keys and values, caches that keep every key, padding masks and sliding windows are
    honoured. Blocks count columns, padding included: pad on the right if a sequence shall not feel
    what it was padded with. Refused, by a ValueError: dropout inside the attention, additive
    biases, soft caps, packed or chunked sequences, caches that drop keys, and attention between two
    sequences, where distance has no meaning.

    A model that turns queries and keys by their positions turns the whole head, so the two features
    of a pair may lie in different levels; the scores of a level then depend on positions, not on
    distances alone.

    Args:
        name: What to pass as ``attn_implementation``.

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
    **given: Any,
) -> Tensor | None:
    """The mask that transformers hands to :func:`mlr_forward`: True where a key is seen, None for a
    plain triangle.

    Args:
        q_length: Queries.
        kv_length: Keys.
        kv_offset: Keys that a cache has dropped before these.
        allow_is_causal_skip: Whether None may stand for a triangle.
        **given: What else transformers tells its own mask function.

    Raises:
        ValueError: If keys were dropped: blocks are counted from the first.
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
        **given,
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
    """What a layer of transformers calls in the place of its attention.

    Args:
        module: The layer; its ``config`` has the settings, its ``is_causal`` the direction.
        query: ``[B, H, Lq, K]``.
        key: ``[B, Hk, Lk, K]``.
        value: ``[B, Hk, Lk, V]``.
        attention_mask: As :func:`mlr_mask` makes it, or ``[B, Lk]``, or additive with nothing but 0
            and -infinity.
        dropout: Must be 0.
        scaling: Factor of the scores; default ``K ** -0.5``.
        is_causal: Overrules the layer's own.
        sliding_window: Keys seen, where the mask has a window.
        **kwargs: Further arguments of models; those that change the scores are refused.

    Returns:
        Attended values ``[B, Lq, H, V]``, and the weights if ``output_attentions`` asks for them.

    Raises:
        ValueError: If the layer asks for what the kernel does not have.
    """
    _refuse(dropout, kwargs)
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    n_queries = query.shape[2]
    n_keys = key.shape[2]
    window = None
    keys = None
    if attention_mask is not None and attention_mask.ndim == 2:
        keys = attention_mask.bool()
    elif attention_mask is not None:
        seen = _visible(attention_mask, len(query), n_queries, n_keys)
        n_keys, keys, causal, window = _pattern(seen, causal, sliding_window)
    if not causal and n_queries != n_keys:
        raise ValueError(
            f"{NAME} needs queries and keys of one sequence; got {n_queries} queries and {n_keys}"
            " keys without a direction; give attention between two sequences another"
            " implementation"
        )
    key = key[:, :, :n_keys]
    value = value[:, :, :n_keys]
    settings = {
        **_levels(module.config, query.shape[3], n_keys, causal),
        "causal": causal,
        "window": window,
        "key_mask": None if keys is None or bool(keys.all()) else keys,
        "scale": scaling,
    }
    attended = attention(query, key, value, **settings).transpose(1, 2).contiguous()
    weights = attention_weights(query, key, **settings) if kwargs.get("output_attentions") else None
    return attended, weights


def _refuse(dropout: float, kwargs: dict[str, Any]) -> None:
    if dropout:
        raise ValueError(
            f"{NAME} has no dropout inside the attention; got {dropout}; set"
            " config.attention_dropout=0"
        )
    for name in _FOREIGN:
        if kwargs.get(name) is not None:
            raise ValueError(
                f"{NAME} has no {name}; use another attn_implementation for this model"
            )


def _levels(config: Any, n_features: int, n_keys: int, causal: bool) -> dict[str, Any]:
    """The config's settings in the kernel's words."""
    given = {
        name: getattr(config, f"tsattn_{name}", None)
        for name in ("ranks", "block_sizes", "level_scales")
    }
    found = {name: None if value is None else tuple(value) for name, value in given.items()}
    offset = getattr(config, "tsattn_offset", 0)
    ranks = found["ranks"]
    sizes = found["block_sizes"]
    if ranks is None:
        ranks = (
            default_ranks(n_features) if sizes is None else default_ranks(n_features, len(sizes))
        )
    if sizes is None:
        length = getattr(config, "max_position_embeddings", None)
        if length is None and causal:
            raise ValueError(
                "the config says nothing of its longest sequence; set config.tsattn_block_sizes"
                f" for ranks {ranks}"
            )
        sizes = default_block_sizes(n_keys if length is None else int(length), len(ranks))
    return {
        **found,
        "ranks": ranks,
        "block_sizes": sizes,
        "offset": tuple(offset) if isinstance(offset, list | tuple) else offset,
        "mean_levels": bool(getattr(config, "tsattn_mean_levels", False)),
    }


def _visible(mask: Tensor, n_batch: int, n_queries: int, n_keys: int) -> Tensor:
    """Which query sees which key, ``[B, Lq, Lk]``, from a mask ``[B or 1, heads or 1, Lq, Lk]``."""
    if mask.ndim != 4 or tuple(mask.shape[2:]) != (n_queries, n_keys):
        raise ValueError(
            f"a mask must be [B, Lk] or [B, 1, {n_queries}, {n_keys}]; got {tuple(mask.shape)}; cut"
            " it to the keys"
        )
    if mask.dtype != torch.bool:
        hidden = mask <= torch.finfo(mask.dtype).min / 2
        if not bool((hidden | (mask == 0)).all()):
            raise ValueError(
                f"{NAME} adds no bias to scores; got a mask with values between 0 and -infinity;"
                " drop it"
            )
        mask = ~hidden
    if mask.shape[1] > 1 and not bool((mask == mask[:, :1]).all()):
        raise ValueError(
            f"{NAME} takes one mask for all heads; got one a head; drop the heads' own"
        )
    return mask[:, 0].expand(n_batch, -1, -1)


def _pattern(
    seen: Tensor, causal: bool, window: int | None
) -> tuple[int, Tensor, bool, int | None]:
    """A triangle, window or whole square in the kernel's words: keys that count, which are seen,
    direction, window.
    """
    _, n_queries, n_keys = seen.shape
    columns = seen.any(0).any(0).nonzero()
    # A cache made in advance has room for keys to come, which nobody sees yet.
    used = max(int(columns[-1]) + 1 if len(columns) else n_keys, n_queries)
    for length in dict.fromkeys((used, n_keys)):
        part = seen[:, :, :length]
        keys = part.any(1)
        for forward, width in _candidates(causal, n_queries, window):
            allowed = Pattern(forward, width).mask(n_queries, length, device=seen.device)
            if torch.equal(part, allowed & keys[:, None]):
                return length, keys, forward, width
    raise ValueError(
        f"{NAME} knows triangles, windows and hidden keys; got another mask, as of packed or"
        " chunked sequences; give each sequence a row of its own"
    )


def _candidates(
    causal: bool, n_queries: int, window: int | None
) -> Iterator[tuple[bool, int | None]]:
    """Directions and windows that a mask may have; a single query has the layer's direction."""
    directions = (causal,) if n_queries == 1 else (True, False)
    for forward in directions:
        yield forward, None
    if window is not None:
        for forward in directions:
            # Windows to both sides are counted there without the token itself.
            yield forward, window if forward else window + 1
