"""Caches of the keys and values of earlier tokens, with which the next token costs one row of
attention.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.checks import check_whole
from tsattn.kernels import Levels, Pattern
from tsattn.kernels.decode import Start, decode, heads_by_start
from tsattn.kernels.geometry import Device, check_levels, check_scale

# Numbers of CacheSizes that are at least 1.
_SIZES = ("batch", "n_key_heads", "n_value_heads", "key_width", "value_width", "max_length")


@dataclass(frozen=True, kw_only=True)
class CacheSizes:
    """The sizes of the buffers of any cache.

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
    device: Device = None

    def __post_init__(self) -> None:
        for name in _SIZES:
            check_whole(name, getattr(self, name))
        is_dtype = isinstance(self.dtype, torch.dtype)
        if not is_dtype or not self.dtype.is_floating_point or self.dtype.itemsize < 2:
            raise ValueError(
                f"dtype must be a floating one of 16 bits or more; got {self.dtype!r}; take that of"
                " the keys"
            )


class Cache(ABC):
    """The base of all caches: buffers made once, tokens stored by :meth:`append`, attention of the
    newest token by :meth:`attend`.

    Decoding equals causal :func:`tsattn.kernels.attention` of the same options, at every length.
    The buffers are written in place without autograd, and no gradient flows through a cache.
    :func:`make_cache` chooses a subclass.

    Args:
        sizes: Sizes of the buffers.
        slots: Tokens and features of the keys that are stored at once, a pair for each level.
        value_slots: Tokens whose values are stored at once.
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
        self.scale = None if scale is None else check_scale(scale)
        self._length = 0
        # Buffers made in inference mode could not be written outside it.
        with torch.inference_mode(False):
            self.keys = tuple(
                _empty_buffer(sizes, sizes.n_key_heads, n_tokens, rank) for n_tokens, rank in slots
            )
            self.values = _empty_buffer(sizes, sizes.n_value_heads, value_slots, sizes.value_width)

    @property
    def length(self) -> int:
        """Tokens appended so far, including those that a window has dropped."""
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

    def append(self, k: Float[Tensor, "B Hk n K"], v: Float[Tensor, "B Hv n V"]) -> None:
        """Store n tokens, a prompt or a single one; the result is the same as one by one.

        Args:
            k: Keys with the features of all levels side by side.
            v: Values.

        Raises:
            ValueError: If the shapes, types or devices are not those of the cache, or it would hold
                more than ``max_length`` tokens.
        """
        self._check_tokens(k, v)
        # A compiler takes no method of a new object that a decorator has wrapped.
        with torch.no_grad():
            self._store(k, v)
        self._length += k.shape[2]

    def attend(self, q: Float[Tensor, "B H 1 K"]) -> Float[Tensor, "B H 1 V"]:
        """Attention of the newest token, the last one appended, over all tokens that it may see.

        Args:
            q: Its query. Query head h uses key head ``h // (H // Hk)`` and value head
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
        with torch.no_grad():
            return self._attend(q)

    @abstractmethod
    def _store(self, k: Tensor, v: Tensor) -> None:
        """Put checked tokens into the buffers, before ``length`` counts them."""

    @abstractmethod
    def _attend(self, q: Tensor) -> Tensor:
        """Attention over the stored tokens, at least one."""

    def _check_tokens(self, k: Tensor, v: Tensor) -> None:
        """Refuse tensors that would fit the buffers only by broadcasting or rounding."""
        sizes = self.sizes
        self._check_tensor("k", k, k.shape[2:3], sizes.n_key_heads, sizes.key_width)
        self._check_tensor("v", v, k.shape[2:3], sizes.n_value_heads, sizes.value_width)
        if self._length + k.shape[2] > self.max_length:
            raise ValueError(
                f"the cache is full: {k.shape[2]} more tokens do not fit behind length ="
                f" {self._length} with max_length = {self.max_length}; make it with a larger"
                " max_length, or reset() it"
            )

    def _check_tensor(
        self, name: str, tensor: Tensor, n_tokens: torch.Size, n_heads: int, width: int
    ) -> None:
        """Refuse another shape, type or device; ``n_tokens`` is empty where k lacks that axis."""
        buffer = self.values
        shape = (self.sizes.batch, n_heads, *n_tokens, width)
        if tensor.shape != shape or 0 in shape:
            raise ValueError(
                f"{name} must have the cache's (batch, heads, tokens, features), here {shape},"
                f" with a token at least; got {tuple(tensor.shape)}; make the cache for these"
                " shapes"
            )
        if tensor.dtype != buffer.dtype or tensor.device != buffer.device:
            raise ValueError(
                f"{name} must have the cache's type and device, {buffer.dtype} on"
                f" {buffer.device}; got {tensor.dtype} on {tensor.device}; convert it with .to()"
            )


class WindowCache(Cache):
    """All tokens, or the ``n_global`` leading tokens and the last ``window`` others in a ring
    buffer.

    The leading tokens have the first slots and are never overwritten. The ring is the slots behind
    them.

    Args:
        sizes: Sizes of the buffers. A large ``max_length`` needs no memory: the buffers have
            ``min(window + n_global, max_length)`` tokens.
        pattern: Window and global tokens.
        scale: Factor of the scores, default ``K ** -0.5``.
    """

    def __init__(self, sizes: CacheSizes, *, pattern: Pattern, scale: float | None = None) -> None:
        self.window = sizes.max_length if pattern.window is None else pattern.window
        self.n_global = pattern.n_global
        n_slots = min(self.window + self.n_global, sizes.max_length)
        slots = ((n_slots, sizes.key_width),)
        super().__init__(sizes, slots=slots, value_slots=n_slots, scale=scale)

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin = self._length
        stop = begin + k.shape[2]
        # Of the tokens behind the leading ones only the last ``window`` remain after this call.
        ring = max(begin, self.n_global, stop - self.window)
        # The first token of the last lap around the ring: earlier ones go to the ring's end, the
        # others to its start.
        lap = max(ring, stop - (stop - self.n_global) % self.window)
        for first, last in ((begin, min(stop, self.n_global)), (ring, lap), (lap, stop)):
            if first < last:
                slot = self._slot(first)
                slots = slice(slot, slot + last - first)
                tokens = slice(first - begin, last - begin)
                self.keys[0][:, :, slots] = k[:, :, tokens]
                self.values[:, :, slots] = v[:, :, tokens]

    def _slot(self, token: int) -> int:
        """The slot of a token."""
        if token < self.n_global:
            return token
        return self.n_global + (token - self.n_global) % self.window

    def _attend(self, q: Tensor) -> Tensor:
        # In the order of the ring: a softmax does not depend on the order of the keys.
        n_filled = min(self._length, self.n_global + self.window)
        keys = self.keys[0][:, :, :n_filled]
        values = self.values[:, :, :n_filled]
        return decode(q, (keys,), values, scale=self.scale)


class LevelCache(Cache):
    """Keys for distance-dependent levels: of a finer level only those of the current block.

    The newest token sees the features of level l > 1 only in its own block (docs/mathematics.md,
    section 3), so the keys of that level are overwritten when a block begins. The first level's
    keys and all values remain.

    Args:
        sizes: Sizes of the buffers.
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
        slots = tuple(
            (min(size, sizes.max_length), rank)
            for size, rank in zip(self.block_sizes, levels.ranks, strict=True)
        )
        super().__init__(sizes, slots=slots, value_slots=sizes.max_length, scale=scale)
        self._offsets = _key_offsets(levels, sizes.n_key_heads)

    def _starts(self, position: int) -> tuple[Start, ...]:
        """First token in the block of ``position``, level by level: one number, or one per key
        head.
        """
        starts: list[Start] = [0]
        for size in self.block_sizes[1:]:
            head_starts = []
            for offset in self._offsets:
                block = (position + offset) // size
                # The offset makes the very first block shorter.
                head_starts.append(max(block * size - offset, 0))
            starts.append(head_starts[0] if len(head_starts) == 1 else tuple(head_starts))
        return tuple(starts)

    def _store(self, k: Tensor, v: Tensor) -> None:
        begin = self._length
        stop = begin + k.shape[2]
        self.values[:, :, begin:stop] = v
        ranks = [level_keys.shape[3] for level_keys in self.keys]
        levels = zip(self.keys, k.split(ranks, dim=3), self._starts(stop - 1), strict=True)
        for buffer, level_keys, starts in levels:
            for heads, start in heads_by_start(starts):
                # New tokens of earlier blocks are never seen again.
                first = max(begin, start)
                slots = slice(first - start, stop - start)
                buffer[:, heads, slots] = level_keys[:, heads, first - begin :]

    def _attend(self, q: Tensor) -> Tensor:
        self.levels.check_heads(q.shape[1])
        values = self.values[:, :, : self._length]
        starts = self._starts(self._length - 1)
        return decode(q, self.keys, values, levels=self.levels, starts=starts, scale=self.scale)


class HalvesCache:
    """Two caches for an attention that is the sum of two, each over a part of the features.

    Args:
        far: The cache of the first features, which sees all tokens.
        near: The cache of the others, which sees a window and has its own copy of the values there.
    """

    def __init__(self, far: Cache, near: Cache) -> None:
        self.far = far
        self.near = near
        self._widths = [far.sizes.key_width, near.sizes.key_width]

    @property
    def length(self) -> int:
        """Tokens appended so far."""
        return self.far.length

    def reset(self) -> None:
        """Forget every token; the buffers stay."""
        self.far.reset()
        self.near.reset()

    def append(self, k: Float[Tensor, "B Hk n K"], v: Float[Tensor, "B Hv n V"]) -> None:
        """Store n tokens, as :meth:`Cache.append`."""
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
        sizes: Sizes of the buffers.
        levels: Levels give a :class:`LevelCache`; block sizes default to halving from
            ``max_length``.
        pattern: Default ``Pattern(causal=True)``. Without levels a :class:`WindowCache` serves it.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If the pattern is not causal, has a field that no cache serves, or has a window
            together with levels.

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
        check_levels(levels)
        if field := pattern.beyond("causal"):
            raise ValueError(
                f"a cache of levels serves no pattern but causal; got {field}; leave out either"
            )
        return LevelCache(sizes, levels=levels, scale=scale)
    if field := pattern.beyond("causal", "window", "n_global"):
        raise ValueError(
            f"no cache serves this pattern; got {field}; attend to whole sequences instead"
        )
    return WindowCache(sizes, pattern=pattern, scale=scale)


def _empty_buffer(
    sizes: CacheSizes, n_heads: int, n_tokens: int, width: int
) -> Float[Tensor, "B heads tokens width"]:
    shape = (sizes.batch, n_heads, n_tokens, width)
    return torch.empty(shape, dtype=sizes.dtype, device=sizes.device)


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
    group_size = len(offsets) // n_key_heads  # query heads of one key head
    key_offsets = offsets[::group_size]
    for head, offset in enumerate(offsets):
        if offset != key_offsets[head // group_size]:
            raise ValueError(
                f"query heads that share a key head must have one offset; got {offsets} in groups"
                f" of {group_size}; repeat one in each group, or give every query head its own keys"
            )
    return key_offsets
