"""What must be kept of the tokens seen so far, so that the next one costs one row of attention?"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.kernels import default_block_sizes
from tsattn.kernels.decode import Start, decode, heads_by_start


@dataclass(frozen=True, kw_only=True)
class CacheSizes:
    """What the buffers of any cache are made for.

    Args:
        batch: Sequences B, all of one length.
        n_key_heads: Heads Hk of the keys, which divide the H heads of the queries.
        n_value_heads: Heads Hv of the values, which divide H too, whatever Hk is.
        key_width: Features K of a key, those of all levels together.
        value_width: Features V of a value.
        max_length: Most tokens that are ever appended.
        dtype: Type of the buffers and of all that is appended.
        device: Where the buffers are; default torch's own.

    Raises:
        ValueError: If a number is below 1, or the type is no floating one.
    """

    batch: int
    n_key_heads: int
    n_value_heads: int
    key_width: int
    value_width: int
    max_length: int
    dtype: torch.dtype
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "n_key_heads", "n_value_heads", "key_width", "value_width", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}; make no cache for nothing")
        if not self.dtype.is_floating_point:
            raise ValueError(f"dtype must be a floating one; got {self.dtype}; take that of the keys")


class Cache(ABC):
    """What all caches share: buffers made once, tokens put in by :meth:`append`, the newest answered by :meth:`attend`.

    Decoding equals causal :func:`tsattn.kernels.attention` of the same options, at every length. The buffers are
    written in place without autograd, and no gradient flows through a cache. This base is not used by itself:
    :func:`make_cache` chooses one of its kinds.

    Args:
        sizes: What the buffers are made for.
        slots: Tokens and features of the keys kept at once, a pair for each level.
        value_slots: Tokens whose values are kept at once.
        scale: Factor of the scores, default ``K ** -0.5``.
    """

    def __init__(
        self, sizes: CacheSizes, *, slots: tuple[tuple[int, int], ...], value_slots: int, scale: float | None
    ) -> None:
        self.sizes = sizes
        self.scale = scale
        self._length = 0
        # Buffers made in inference mode could never be written outside it.
        with torch.inference_mode(mode=False):
            self.keys = tuple(_empty(sizes, sizes.n_key_heads, tokens, rank) for tokens, rank in slots)
            self.values = _empty(sizes, sizes.n_value_heads, value_slots, sizes.value_width)

    @property
    def length(self) -> int:
        """Tokens appended so far, those that a window has dropped included."""
        return self._length

    @property
    def max_length(self) -> int:
        """Most tokens that are ever appended."""
        return self.sizes.max_length

    @property
    def key_bytes(self) -> int:
        """Bytes allocated for keys."""
        return sum(level.nbytes for level in self.keys)

    @property
    def value_bytes(self) -> int:
        """Bytes allocated for values."""
        return self.values.nbytes

    @property
    def n_bytes(self) -> int:
        """Bytes allocated."""
        return self.key_bytes + self.value_bytes

    def reset(self) -> None:
        """Forget every token; the buffers stay."""
        self._length = 0

    @torch.no_grad()
    def append(self, k: Float[Tensor, "B Hk n K"], v: Float[Tensor, "B Hv n V"]) -> None:
        """Take in n tokens, a prompt or a single one: afterwards the cache is as if they had come one by one.

        Args:
            k: Keys with the features of all levels side by side.
            v: Values.

        Raises:
            ValueError: If the shapes, types or devices are not those of the cache, or it would hold more than
                ``max_length`` tokens.
        """
        self._check_tokens(k, v)
        self._store(k, v)
        self._length += k.shape[2]

    @torch.no_grad()
    def attend(self, q: Float[Tensor, "B H 1 K"]) -> Float[Tensor, "B H 1 V"]:
        """Attention of the newest token, the last one appended, over all that it may see.

        Args:
            q: Its query. The query head h uses the key head ``h // (H // Hk)`` and the value head ``h // (H // Hv)``.

        Returns:
            Attended values, as :func:`tsattn.kernels.decode.decode` computes them.

        Raises:
            ValueError: If nothing has been appended, or shapes or types do not fit the cache.
        """
        if self._length == 0:
            raise ValueError("an empty cache has nothing to attend to; got length = 0; append the token itself first")
        return self._attend(q)

    @abstractmethod
    def _store(self, k: Tensor, v: Tensor) -> None:
        """Put checked tokens into the buffers, before they count in ``length``."""

    @abstractmethod
    def _attend(self, q: Tensor) -> Tensor:
        """Attention over what is held, at least one token."""

    def _check_tokens(self, k: Tensor, v: Tensor) -> None:
        """Refuse what the buffers could take only by broadcasting or rounding."""
        sizes, buffer = self.sizes, self.values
        each = (("k", k, sizes.n_key_heads, sizes.key_width), ("v", v, sizes.n_value_heads, sizes.value_width))
        for name, given, n_heads, width in each:
            shape = (sizes.batch, n_heads, *k.shape[2:3], width)
            if given.shape != shape or 0 in shape:
                raise ValueError(
                    f"{name} must have the cache's (batch, heads, tokens, features), here {shape}, with a token at "
                    f"least; got {tuple(given.shape)}; make the cache for these shapes"
                )
            if given.dtype != buffer.dtype or given.device != buffer.device:
                raise ValueError(
                    f"{name} must have the cache's type and device, {buffer.dtype} on {buffer.device}; got "
                    f"{given.dtype} on {given.device}; convert it with .to()"
                )
        if self._length + k.shape[2] > self.max_length:
            raise ValueError(
                f"the cache is full: {k.shape[2]} more tokens do not fit behind length = {self._length} with "
                f"max_length = {self.max_length}; make it with a larger max_length, or reset() it"
            )


class KVCache(Cache):
    """All keys and all values, for ordinary causal attention.

    Args:
        sizes: What the buffers are made for.
        scale: Factor of the scores, default ``K ** -0.5``.
    """

    def __init__(self, sizes: CacheSizes, *, scale: float | None = None) -> None:
        n_slots = sizes.max_length
        super().__init__(sizes, slots=((n_slots, sizes.key_width),), value_slots=n_slots, scale=scale)

    def _store(self, k: Tensor, v: Tensor) -> None:
        stop = self._length + k.shape[2]
        self.keys[0][:, :, self._length : stop] = k
        self.values[:, :, self._length : stop] = v

    def _attend(self, q: Tensor) -> Tensor:
        keys, values = self.keys[0][:, :, : self._length], self.values[:, :, : self._length]
        return decode(q, (keys,), values, scale=self.scale)


class WindowCache(Cache):
    """The last ``window`` tokens in a ring, behind the ``n_global`` leading ones, which never leave.

    Args:
        sizes: What the buffers are made for. A large ``max_length`` costs nothing: the buffers hold
            ``min(window + n_global, max_length)`` tokens.
        window: Tokens seen, the newest included.
        n_global: Leading tokens that every later one sees.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If ``window`` is below 1 or ``n_global`` below 0.
    """

    def __init__(self, sizes: CacheSizes, *, window: int, n_global: int = 0, scale: float | None = None) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1, the token itself; got {window}; None keeps everything")
        if n_global < 0:
            raise ValueError(f"n_global must be at least 0; got {n_global}; 0 is no global token")
        n_slots = min(window + n_global, sizes.max_length)
        super().__init__(sizes, slots=((n_slots, sizes.key_width),), value_slots=n_slots, scale=scale)
        self.window = window
        self.n_global = n_global

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin, stop = self._length, self._length + k.shape[2]
        # Leading tokens have slots of their own; of the others only the last ``window`` outlive this call.
        ring = max(begin, self.n_global, stop - self.window)
        # The last lap of the ring begins here: what comes before goes to the ring's end, the rest to its start.
        lap = max(ring, stop - (stop - self.n_global) % self.window)
        for first, last in ((begin, min(stop, self.n_global)), (ring, lap), (lap, stop)):
            if first < last:
                slot = first if first < self.n_global else self.n_global + (first - self.n_global) % self.window
                self.keys[0][:, :, slot : slot + last - first] = k[:, :, first - begin : last - begin]
                self.values[:, :, slot : slot + last - first] = v[:, :, first - begin : last - begin]

    def _attend(self, q: Tensor) -> Tensor:
        # In the order of the ring, for a softmax has none.
        filled = min(self._length, self.n_global + self.window)
        return decode(q, (self.keys[0][:, :, :filled],), self.values[:, :, :filled], scale=self.scale)


class LevelCache(Cache):
    """Keys for distance-dependent levels: of a finer level only those of the block that is being filled.

    The newest token sees the features of level l > 1 in its own block alone (docs/mathematics.md, section 3), so the
    keys of that level are overwritten when a block begins. The first level's keys and all values stay.

    Args:
        sizes: What the buffers are made for.
        ranks: Features per level, coarse to fine, summing to K.
        block_sizes: Tokens per block at each level, non-increasing; the first covers ``max_length``. Default: halving
            sizes by :func:`tsattn.kernels.default_block_sizes` of ``max_length``.
        offset: Shift of the block grid in tokens, one number or one per query head, equal among the query heads that
            share a key head.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels that its pair shares.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If a number is out of its range, a level lacks a number, ranks do not sum to K, or query heads that
            share a key head differ in their offsets.
    """

    def __init__(
        self,
        sizes: CacheSizes,
        *,
        ranks: tuple[int, ...],
        block_sizes: tuple[int, ...] | None = None,
        offset: int | tuple[int, ...] = 0,
        level_scales: tuple[float, ...] | None = None,
        mean_levels: bool = False,
        scale: float | None = None,
    ) -> None:
        _check_levels(ranks, block_sizes, level_scales, sizes)
        self.block_sizes = default_block_sizes(sizes.max_length, len(ranks)) if block_sizes is None else block_sizes
        slots = tuple((min(size, sizes.max_length), rank) for size, rank in zip(self.block_sizes, ranks, strict=True))
        super().__init__(sizes, slots=slots, value_slots=sizes.max_length, scale=scale)
        self.offset = offset
        self.level_scales = level_scales
        self.mean_levels = mean_levels
        self._offsets = _key_offsets(offset, sizes.n_key_heads)

    def _starts(self, position: int) -> tuple[Start, ...]:
        """First token in the block of ``position``, level by level: one number, or one per key head."""
        starts: list[Start] = [0]
        for size in self.block_sizes[1:]:
            # The very first block is short by the offset.
            own = tuple(max((position + offset) // size * size - offset, 0) for offset in self._offsets)
            starts.append(own[0] if len(own) == 1 else own)
        return tuple(starts)

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin, stop = self._length, self._length + k.shape[2]
        self.values[:, :, begin:stop] = v
        parts = k.split([level.shape[3] for level in self.keys], dim=3)
        for buffer, part, starts in zip(self.keys, parts, self._starts(stop - 1), strict=True):
            for heads, start in heads_by_start(starts):
                # New tokens of earlier blocks are never looked at again.
                first = max(begin, start)
                buffer[:, heads, first - start : stop - start] = part[:, heads, first - begin :]

    def _attend(self, q: Tensor) -> Tensor:
        n_offsets = len(self.offset) if isinstance(self.offset, tuple) else 1
        if n_offsets not in {1, q.shape[1]}:
            raise ValueError(
                f"offset must be one number or one per head; got {n_offsets} for {q.shape[1]} heads; give one a head"
            )
        return decode(
            q,
            self.keys,
            self.values[:, :, : self._length],
            starts=self._starts(self._length - 1),
            level_scales=self.level_scales,
            mean_levels=self.mean_levels,
            scale=self.scale,
        )


def make_cache(
    *,
    batch: int,
    n_key_heads: int,
    n_value_heads: int,
    key_width: int,
    value_width: int,
    max_length: int,
    dtype: torch.dtype,
    device: torch.device | str | None = None,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    offset: int | tuple[int, ...] = 0,
    level_scales: tuple[float, ...] | None = None,
    mean_levels: bool = False,
    window: int | None = None,
    n_global: int = 0,
    scale: float | None = None,
) -> Cache:
    """The empty cache that serves causal :func:`tsattn.kernels.attention` of the same options.

    Args:
        batch: Sequences, as the next seven one of :class:`CacheSizes`.
        n_key_heads: Heads of the keys.
        n_value_heads: Heads of the values.
        key_width: Features of a key.
        value_width: Features of a value.
        max_length: Most tokens that are ever appended.
        dtype: Type of the buffers.
        device: Where they are; default torch's own.
        ranks: Features per level, summing to K: a :class:`LevelCache`.
        block_sizes: Tokens per block at each level; default halving from ``max_length``.
        offset: Shift of the block grid, one number or one per query head.
        level_scales: Factor per level, default ones.
        mean_levels: Divide each score by the number of levels that its pair shares.
        window: Tokens seen: a :class:`WindowCache`. Without ``ranks`` and ``window``: a :class:`KVCache`.
        n_global: Leading tokens exempt from the window.
        scale: Factor of the scores, default ``K ** -0.5``.

    Returns:
        A cache of one of the three kinds.

    Raises:
        ValueError: If levels and a window are asked for together, an option lacks the one that it belongs to, or a
            number is out of its range.

    Example:
        >>> sizes = dict(batch=1, n_key_heads=2, n_value_heads=2, key_width=4, value_width=4, max_length=8)
        >>> full = make_cache(dtype=torch.float32, **sizes)
        >>> make_cache(dtype=torch.float32, ranks=(2, 2), **sizes).key_bytes / full.key_bytes
        0.75
    """
    sizes = CacheSizes(
        batch=batch,
        n_key_heads=n_key_heads,
        n_value_heads=n_value_heads,
        key_width=key_width,
        value_width=value_width,
        max_length=max_length,
        dtype=dtype,
        device=device,
    )
    if ranks is not None:
        if window is not None or n_global:
            given = f"ranks = {ranks}, window = {window}, n_global = {n_global}"
            raise ValueError(f"no cache keeps levels in a window; got {given}; leave out either")
        return LevelCache(
            sizes,
            ranks=ranks,
            block_sizes=block_sizes,
            offset=offset,
            level_scales=level_scales,
            mean_levels=mean_levels,
            scale=scale,
        )
    _refuse_orphans("ranks", block_sizes=block_sizes, level_scales=level_scales, mean_levels=mean_levels, offset=offset)
    if window is not None:
        return WindowCache(sizes, window=window, n_global=n_global, scale=scale)
    _refuse_orphans("window", n_global=n_global)
    return KVCache(sizes, scale=scale)


def expected_bytes(
    sizes: CacheSizes,
    *,
    ranks: tuple[int, ...] | None = None,
    block_sizes: tuple[int, ...] | None = None,
    window: int | None = None,
    n_global: int = 0,
) -> tuple[int, int]:
    """Bytes that the keys and the values of a cache take, by formula, without making it.

    With T = ``max_length``, a head keeps ``sum over l of r_l min(b_l, T)`` numbers for keys of levels; K T without
    levels, or K min(window + n_global, T) in a window; and for values V T, or V min(window + n_global, T).

    Args:
        sizes: What the cache is made for.
        ranks: Features per level.
        block_sizes: Tokens per block at each level; default halving from ``max_length``.
        window: Tokens seen.
        n_global: Leading tokens exempt from the window.

    Returns:
        Bytes of the keys and bytes of the values, as ``key_bytes`` and ``value_bytes`` of the cache.

    Example:
        >>> sizes = CacheSizes(batch=1, n_key_heads=1, n_value_heads=1, key_width=4, value_width=3, max_length=8,
        ...                    dtype=torch.float32)
        >>> expected_bytes(sizes, ranks=(2, 1, 1)), expected_bytes(sizes)
        ((88, 96), (128, 96))
    """
    whole = sizes.max_length
    tokens = whole if window is None else min(window + n_global, whole)
    numbers = sizes.key_width * tokens
    if ranks is not None:
        blocks = default_block_sizes(whole, len(ranks)) if block_sizes is None else block_sizes
        numbers = sum(rank * min(block, whole) for rank, block in zip(ranks, blocks, strict=True))
    bytes_a_head = sizes.batch * sizes.dtype.itemsize
    return bytes_a_head * sizes.n_key_heads * numbers, bytes_a_head * sizes.n_value_heads * sizes.value_width * tokens


def _empty(sizes: CacheSizes, n_heads: int, n_tokens: int, width: int) -> Float[Tensor, "B heads tokens width"]:
    return torch.empty(sizes.batch, n_heads, n_tokens, width, dtype=sizes.dtype, device=sizes.device)


def _key_offsets(offset: int | tuple[int, ...], n_key_heads: int) -> tuple[int, ...]:
    """One offset for all key heads, or one a key head, from those of the query heads."""
    offsets = offset if isinstance(offset, tuple) else (offset,)
    if not offsets or min(offsets) < 0:
        raise ValueError(f"offset must be at least 0; got {offset}; add a multiple of every block size")
    if len(set(offsets)) == 1:
        return offsets[:1]
    if len(offsets) % n_key_heads:
        raise ValueError(
            f"offset must be one number or one per query head; got {len(offsets)} numbers, no multiple of the "
            f"{n_key_heads} key heads; give one a query head"
        )
    group = len(offsets) // n_key_heads
    groups = [offsets[head * group : (head + 1) * group] for head in range(n_key_heads)]
    if any(len(set(own)) > 1 for own in groups):
        raise ValueError(
            f"query heads that share a key head must have one offset; got {offsets} in groups of {group}; repeat one "
            "in each group, or give every query head its own keys"
        )
    return tuple(own[0] for own in groups)


def _check_levels(
    ranks: tuple[int, ...],
    block_sizes: tuple[int, ...] | None,
    level_scales: tuple[float, ...] | None,
    sizes: CacheSizes,
) -> None:
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks must hold at least one number, each at least 1; got {ranks}; leave out empty levels")
    if sum(ranks) != sizes.key_width:
        found = f"sum({ranks}) = {sum(ranks)} for {sizes.key_width}"
        raise ValueError(f"ranks must sum to key_width; got {found}; change either")
    for name, given in (("block_sizes", block_sizes), ("level_scales", level_scales)):
        if given is not None and len(given) != len(ranks):
            raise ValueError(
                f"{name} needs one number a level; got {given} for ranks {ranks}; add or drop some, or leave it out"
            )
    if block_sizes is None:
        return
    if min(block_sizes) < 1 or any(fine > coarse for coarse, fine in pairwise(block_sizes)):
        raise ValueError(
            f"block_sizes must be at least 1 and never grow from coarse to fine; got {block_sizes}; sort them downwards"
        )
    if block_sizes[0] < sizes.max_length:
        raise ValueError(
            f"the first of block_sizes must cover max_length; got {block_sizes[0]} for {sizes.max_length} tokens; "
            "raise it, or lower max_length"
        )


def _refuse_orphans(owner: str, **given: object) -> None:
    """Options that have no meaning without the one they belong to."""
    for name, value in given.items():
        if any(value) if isinstance(value, tuple) else value:
            raise ValueError(f"{name} has a meaning only with {owner}; got {value!r}; give {owner} or leave it out")
