"""Caches of the keys and values of tokens seen so far, so that the next token costs one row of
attention.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.kernels import Levels, Pattern
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
        for name in (
            "batch",
            "n_key_heads",
            "n_value_heads",
            "key_width",
            "value_width",
            "max_length",
        ):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} must be at least 1; got {getattr(self, name)}; make no cache for"
                    " nothing"
                )
        if not self.dtype.is_floating_point:
            raise ValueError(
                f"dtype must be a floating one; got {self.dtype}; take that of the keys"
            )


class Cache(ABC):
    """What all caches share: buffers made once, tokens put in by :meth:`append`, the newest
    answered by :meth:`attend`.

    Decoding equals causal :func:`tsattn.kernels.attention` of the same options, at every length.
    The buffers are written in place without autograd, and no gradient flows through a cache. This
    base is not used by itself: :func:`make_cache` chooses one of its kinds.

    Args:
        sizes: What the buffers are made for.
        slots: Tokens and features of the keys kept at once, a pair for each level.
        value_slots: Tokens whose values are kept at once.
        scale: Factor of the scores, default ``K ** -0.5``.
    """

    def __init__(
        self,
        sizes: CacheSizes,
        *,
        slots: tuple[tuple[int, int], ...],
        value_slots: int,
        scale: float | None,
    ) -> None:
        self.sizes = sizes
        self.scale = scale
        self._length = 0
        # Buffers made in inference mode could never be written outside it.
        with torch.inference_mode(mode=False):
            self.keys = tuple(
                _empty(sizes, sizes.n_key_heads, tokens, rank) for tokens, rank in slots
            )
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

    def reset(self) -> None:
        """Forget every token; the buffers stay."""
        self._length = 0

    @torch.no_grad()
    def append(self, k: Float[Tensor, "B Hk n K"], v: Float[Tensor, "B Hv n V"]) -> None:
        """Take in n tokens, a prompt or a single one: afterwards the cache is as if they had come
        one by one.

        Args:
            k: Keys with the features of all levels side by side.
            v: Values.

        Raises:
            ValueError: If the shapes, types or devices are not those of the cache, or it would hold
                more than ``max_length`` tokens.
        """
        self._check_tokens(k, v)
        self._store(k, v)
        self._length += k.shape[2]

    @torch.no_grad()
    def attend(self, q: Float[Tensor, "B H 1 K"]) -> Float[Tensor, "B H 1 V"]:
        """Attention of the newest token, the last one appended, over all that it may see.

        Args:
            q: Its query. The query head h uses the key head ``h // (H // Hk)`` and the value head
                ``h // (H // Hv)``.

        Returns:
            Attended values, as :func:`tsattn.kernels.decode.decode` computes them.

        Raises:
            ValueError: If nothing has been appended, or shapes or types do not fit the cache.
        """
        if self._length == 0:
            raise ValueError(
                "an empty cache has nothing to attend to; got length = 0; append the token itself"
                " first"
            )
        return self._attend(q)

    @abstractmethod
    def _store(self, k: Tensor, v: Tensor) -> None:
        """Put checked tokens into the buffers, before they count in ``length``."""

    @abstractmethod
    def _attend(self, q: Tensor) -> Tensor:
        """Attention over what is held, at least one token."""

    def _check_tokens(self, k: Tensor, v: Tensor) -> None:
        """Refuse what the buffers could take only by broadcasting or rounding."""
        sizes = self.sizes
        buffer = self.values
        each = (
            ("k", k, sizes.n_key_heads, sizes.key_width),
            ("v", v, sizes.n_value_heads, sizes.value_width),
        )
        for name, given, n_heads, width in each:
            shape = (sizes.batch, n_heads, *k.shape[2:3], width)
            if given.shape != shape or 0 in shape:
                raise ValueError(
                    f"{name} must have the cache's (batch, heads, tokens, features), here {shape},"
                    f" with a token at least; got {tuple(given.shape)}; make the cache for these"
                    " shapes"
                )
            if given.dtype != buffer.dtype or given.device != buffer.device:
                raise ValueError(
                    f"{name} must have the cache's type and device, {buffer.dtype} on"
                    f" {buffer.device}; got {given.dtype} on {given.device}; convert it with .to()"
                )
        if self._length + k.shape[2] > self.max_length:
            raise ValueError(
                f"the cache is full: {k.shape[2]} more tokens do not fit behind length ="
                f" {self._length} with max_length = {self.max_length}; make it with a larger"
                " max_length, or reset() it"
            )


class WindowCache(Cache):
    """All tokens, or the last ``window`` of them in a ring behind the ``n_global`` leading ones,
    which never leave.

    Args:
        sizes: What the buffers are made for. A large ``max_length`` costs nothing: the buffers hold
            ``min(window + n_global, max_length)`` tokens.
        pattern: Window and global tokens.
        scale: Factor of the scores, default ``K ** -0.5``.
    """

    def __init__(self, sizes: CacheSizes, *, pattern: Pattern, scale: float | None = None) -> None:
        self.window = sizes.max_length if pattern.window is None else pattern.window
        self.n_global = pattern.n_global
        n_slots = min(self.window + self.n_global, sizes.max_length)
        super().__init__(
            sizes, slots=((n_slots, sizes.key_width),), value_slots=n_slots, scale=scale
        )

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin = self._length
        stop = self._length + k.shape[2]
        # Leading tokens have slots of their own; of the others only the last ``window`` outlive
        # this call.
        ring = max(begin, self.n_global, stop - self.window)
        # The last lap of the ring begins here: what comes before goes to the ring's end, the rest
        # to its start.
        lap = max(ring, stop - (stop - self.n_global) % self.window)
        for first, last in ((begin, min(stop, self.n_global)), (ring, lap), (lap, stop)):
            if first < last:
                slot = (
                    first
                    if first < self.n_global
                    else self.n_global + (first - self.n_global) % self.window
                )
                self.keys[0][:, :, slot : slot + last - first] = k[
                    :, :, first - begin : last - begin
                ]
                self.values[:, :, slot : slot + last - first] = v[
                    :, :, first - begin : last - begin
                ]

    def _attend(self, q: Tensor) -> Tensor:
        # In the order of the ring, for a softmax has none.
        filled = min(self._length, self.n_global + self.window)
        return decode(
            q, (self.keys[0][:, :, :filled],), self.values[:, :, :filled], scale=self.scale
        )


class LevelCache(Cache):
    """Keys for distance-dependent levels: of a finer level only those of the block that is being
    filled.

    The newest token sees the features of level l > 1 in its own block alone (docs/mathematics.md,
    section 3), so the keys of that level are overwritten when a block begins. The first level's
    keys and all values stay.

    Args:
        sizes: What the buffers are made for.
        levels: Ranks, blocks and scales. One offset per query head must be equal among the query
            heads that share a key head.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If ranks do not sum to K, the first block does not cover ``max_length``, or
            query heads that share a key head differ in their offsets.
    """

    def __init__(self, sizes: CacheSizes, *, levels: Levels, scale: float | None = None) -> None:
        self.levels = levels.fit(sizes.key_width, sizes.max_length)
        assert self.levels.block_sizes is not None
        self.block_sizes = self.levels.block_sizes
        pairs = zip(self.block_sizes, levels.ranks, strict=True)
        slots = tuple((min(size, sizes.max_length), rank) for size, rank in pairs)
        super().__init__(sizes, slots=slots, value_slots=sizes.max_length, scale=scale)
        self._offsets = _key_offsets(levels, sizes.n_key_heads)

    def _starts(self, position: int) -> tuple[Start, ...]:
        """First token in the block of ``position``, level by level: one number, or one per key
        head.
        """
        starts: list[Start] = [0]
        for size in self.block_sizes[1:]:
            # The very first block is short by the offset.
            own = tuple(
                max((position + offset) // size * size - offset, 0) for offset in self._offsets
            )
            starts.append(own[0] if len(own) == 1 else own)
        return tuple(starts)

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin = self._length
        stop = self._length + k.shape[2]
        self.values[:, :, begin:stop] = v
        parts = k.split([level.shape[3] for level in self.keys], dim=3)
        for buffer, part, starts in zip(self.keys, parts, self._starts(stop - 1), strict=True):
            for heads, start in heads_by_start(starts):
                # New tokens of earlier blocks are never looked at again.
                first = max(begin, start)
                buffer[:, heads, first - start : stop - start] = part[:, heads, first - begin :]

    def _attend(self, q: Tensor) -> Tensor:
        offset = self.levels.offset
        n_offsets = len(offset) if isinstance(offset, tuple) else 1
        if n_offsets not in {1, q.shape[1]}:
            raise ValueError(
                f"offset must be one number or one per head; got {n_offsets} for {q.shape[1]}"
                " heads; give one a head"
            )
        values = self.values[:, :, : self._length]
        starts = self._starts(self._length - 1)
        return decode(q, self.keys, values, levels=self.levels, starts=starts, scale=self.scale)


class HalvesCache:
    """Two caches for keys and queries whose features are split between two attentions, whose
    results add up.

    Args:
        far: Of the first features.
        near: Of the others; its values are a second copy of those that it still needs.
    """

    def __init__(self, far: Cache, near: Cache) -> None:
        self.far = far
        self.near = near
        self._widths = [sum(level.shape[3] for level in cache.keys) for cache in (far, near)]

    @property
    def length(self) -> int:
        """Tokens appended so far."""
        return self.far.length

    def reset(self) -> None:
        """Forget every token; the buffers stay."""
        self.far.reset()
        self.near.reset()

    def append(self, k: Float[Tensor, "B Hk n K"], v: Float[Tensor, "B Hv n V"]) -> None:
        """Take in n tokens, as :meth:`Cache.append`."""
        k_far, k_near = k.split(self._widths, dim=3)
        self.far.append(k_far, v)
        self.near.append(k_near, v)

    def attend(self, q: Float[Tensor, "B H 1 K"]) -> Float[Tensor, "B H 1 V"]:
        """The sum of both attentions of the newest token, as :meth:`Cache.attend`."""
        q_far, q_near = q.split(self._widths, dim=3)
        return self.far.attend(q_far) + self.near.attend(q_near)


def make_cache(
    sizes: CacheSizes,
    *,
    levels: Levels | None = None,
    pattern: Pattern | None = None,
    scale: float | None = None,
) -> Cache:
    """The empty cache that serves causal attention with these levels, or this pattern.

    Args:
        sizes: What the buffers are made for.
        levels: A :class:`LevelCache`; its block sizes default to halving from ``max_length``.
        pattern: Default ``Pattern(causal=True)``. Without levels a :class:`WindowCache` serves it.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If the pattern is not causal, is one that no cache knows, or has a window beside
            levels.

    Example:
        >>> widths = {"key_width": 4, "value_width": 4, "dtype": torch.float32}
        >>> sizes = CacheSizes(batch=1, n_key_heads=2, n_value_heads=2, max_length=8, **widths)
        >>> make_cache(sizes, levels=Levels((2, 2))).key_bytes / make_cache(sizes).key_bytes
        0.75
    """
    pattern = Pattern(causal=True) if pattern is None else pattern
    if not pattern.causal:
        raise ValueError(
            f"a cache is for causal attention; got {pattern}, which sees later tokens; use"
            " causal=True"
        )
    if levels is not None:
        if asked := pattern.beyond("causal"):
            raise ValueError(
                f"a cache of levels serves no pattern but causal; got {asked}; leave out either"
            )
        return LevelCache(sizes, levels=levels, scale=scale)
    if asked := pattern.beyond("causal", "window", "n_global"):
        raise ValueError(
            f"no cache serves this pattern; got {asked}; attend to whole sequences instead"
        )
    return WindowCache(sizes, pattern=pattern, scale=scale)


def _empty(
    sizes: CacheSizes, n_heads: int, n_tokens: int, width: int
) -> Float[Tensor, "B heads tokens width"]:
    return torch.empty(
        sizes.batch, n_heads, n_tokens, width, dtype=sizes.dtype, device=sizes.device
    )


def _key_offsets(levels: Levels, n_key_heads: int) -> tuple[int, ...]:
    """One offset for all key heads, or one a key head, from those of the query heads."""
    offsets = levels.offsets
    if len(offsets) == 1:
        return offsets
    if len(offsets) % n_key_heads:
        raise ValueError(
            f"offset must be one number or one per query head; got {len(offsets)} numbers, no"
            f" multiple of the {n_key_heads} key heads; give one a query head"
        )
    group = len(offsets) // n_key_heads
    groups = [offsets[head * group : (head + 1) * group] for head in range(n_key_heads)]
    if any(len(set(own)) > 1 for own in groups):
        raise ValueError(
            f"query heads that share a key head must have one offset; got {offsets} in groups of"
            f" {group}; repeat one in each group, or give every query head its own keys"
        )
    return tuple(own[0] for own in groups)
