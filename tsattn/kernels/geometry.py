"""Levels and patterns, and what they are for one call: the numbers that are the same for every
sequence of a batch.
"""

import functools
import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def default_block_sizes(length: int, n_levels: int) -> tuple[int, ...]:
    """Halving block sizes that are nested whatever the length.

    Level l of n has blocks of ``2^(n-l) * ceil(length / 2^(n-1))`` tokens: ``length``, a half, a
    quarter and so on where those are whole numbers, and rounded up together otherwise
    (docs/mathematics.md, section 3).

    Args:
        length: Tokens of the longest sequence the blocks have to serve, at least 1.
        n_levels: Number of levels, at least 1.

    Returns:
        One size a level, coarse to fine; the first covers ``length``.

    Raises:
        ValueError: If either number is below 1.

    Example:
        >>> default_block_sizes(42, 3)
        (44, 22, 11)
    """
    if length < 1 or n_levels < 1:
        raise ValueError(
            f"default_block_sizes needs length and n_levels of at least 1; got length = {length}, "
            f"n_levels = {n_levels}; give the number of tokens and of ranks"
        )
    finest = -(-length // 2 ** (n_levels - 1))
    return tuple(finest * 2 ** (n_levels - 1 - level) for level in range(n_levels))


def _set(made: object, name: str, value: object) -> None:
    """Give a frozen object a value while it is being made."""
    object.__setattr__(made, name, value)


def _whole(numbers: Iterable[Any], name: str) -> tuple[int, ...]:
    """Integers of any make as Python's own."""
    try:
        return tuple(operator.index(number) for number in numbers)
    except TypeError:
        raise TypeError(f"{name} must be made of integers; got {numbers!r}; round first") from None


@dataclass(frozen=True)
class Levels:
    """How features are split into levels, and which pairs each level counts for
    (docs/mathematics.md, section 3).

    Args:
        ranks: Features per level, coarse to fine.
        block_sizes: Tokens per block at each level, non-increasing. The first level counts for all
            pairs, the others inside their blocks. ``None`` is :func:`default_block_sizes` of the
            longest sequence.
        offset: Shift of the block grid in tokens, at least 0, for all heads or one per query head.
        scales: Factor per level, default ones.
        mean: Divide each score by the number of levels that its pair shares.

    Raises:
        ValueError: If a number is out of its range, or a level lacks one.
        TypeError: If ``ranks``, ``block_sizes`` or ``offset`` hold anything but integers.

    Example:
        >>> Levels((4, 2, 2), offset=3).fit(n_features=8, length=42).block_sizes
        (44, 22, 11)
    """

    ranks: tuple[int, ...]
    block_sizes: tuple[int, ...] | None = None
    offset: int | tuple[int, ...] = 0
    scales: tuple[float, ...] | None = None
    mean: bool = False

    def __post_init__(self) -> None:
        several = isinstance(self.offset, tuple | list)
        given: Any = self.offset if several else (self.offset,)
        offsets = _whole(given, "offset")
        _set(self, "ranks", _whole(self.ranks, "ranks"))
        _set(
            self,
            "block_sizes",
            None if self.block_sizes is None else _whole(self.block_sizes, "block_sizes"),
        )
        _set(self, "offset", offsets if several else offsets[0])
        _set(self, "scales", None if self.scales is None else tuple(float(x) for x in self.scales))
        _set(self, "mean", bool(self.mean))
        if not self.ranks or min(self.ranks) < 1:
            raise ValueError(
                f"ranks must hold at least one number, each at least 1; got {self.ranks}; leave out"
                " empty levels"
            )
        for name, given in (("block_sizes", self.block_sizes), ("level_scales", self.scales)):
            if given is not None and len(given) != len(self.ranks):
                raise ValueError(
                    f"{name} needs one number a level; got {given} for ranks {self.ranks}; add or"
                    " drop some, or leave it out"
                )
        if not offsets or min(offsets) < 0:
            raise ValueError(
                f"offset must be at least 0; got {self.offset}; add a multiple of every block size"
            )
        sizes = self.block_sizes
        if sizes is not None and (
            min(sizes) < 1 or any(fine > coarse for coarse, fine in pairwise(sizes))
        ):
            raise ValueError(
                f"block_sizes must be at least 1 and never grow from coarse to fine; got {sizes};"
                " sort them downwards"
            )

    @property
    def offsets(self) -> tuple[int, ...]:
        """One offset for all heads, or one per query head where they differ."""
        offsets = self.offset if isinstance(self.offset, tuple) else (self.offset,)
        return offsets[:1] if len(set(offsets)) == 1 else offsets

    def fit(self, n_features: int, length: int) -> "Levels":
        """The same levels with block sizes, for so many features and for sequences of at most
        ``length`` tokens.

        Args:
            n_features: Features K of a query and a key.
            length: Tokens of the longest sequence.

        Raises:
            ValueError: If ranks do not sum to ``n_features``, or the first block does not cover
                ``length``.
        """
        if sum(self.ranks) != n_features:
            raise ValueError(
                f"ranks must sum to d_head; got sum({self.ranks}) = {sum(self.ranks)} for d_head ="
                f" {n_features}; change ranks or the width of a head's queries and keys"
            )
        sizes = (
            default_block_sizes(length, len(self.ranks))
            if self.block_sizes is None
            else self.block_sizes
        )
        if sizes[0] < length:
            raise ValueError(
                f"the first of block_sizes must cover the sequence; got {sizes[0]} for {length}"
                " tokens; raise it, or leave block_sizes out"
            )
        return replace(self, block_sizes=sizes)

    def shared(
        self, level: int, n_queries: int, n_keys: int, *, device: torch.device | str | None = None
    ) -> Bool[Tensor, "heads Lq Lk"]:
        """Which query and key lie in the same block of a level after the first, one mask for each
        of ``offsets``.

        Args:
            level: Number of the level, from 0.
            n_queries: Number of queries Lq; the last one is level with the last key.
            n_keys: Number of keys Lk.
            device: Where the mask is made.
        """
        assert self.block_sizes is not None
        shift = torch.tensor(self.offsets, device=device)[:, None]
        here = torch.arange(n_keys - n_queries, n_keys, device=device) + shift
        there = torch.arange(n_keys, device=device) + shift
        rows = torch.div(here, self.block_sizes[level], rounding_mode="floor")[:, :, None]
        columns = torch.div(there, self.block_sizes[level], rounding_mode="floor")[:, None, :]
        return rows == columns


@dataclass(frozen=True)
class Pattern:
    """Who sees whom by positions alone, whatever the score.

    A further pattern is a field here, or in a subclass, that :meth:`mask` heeds. The reference and
    the masked backend then serve it; faster backends and caches name the fields that they know and
    refuse the others by :meth:`beyond`.

    Args:
        causal: A token sees itself and what came before.
        window: Number of keys seen, itself included: ``i - window < j <= i`` when causal, otherwise
            ``|i - j| < window``. ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token in spite of the window (not
            of time). A query before the first key is none of them.

    Raises:
        ValueError: If a number is out of its range, or global tokens are asked for without a
            window.
        TypeError: If ``window`` or ``n_global`` is no integer.

    Example:
        >>> Pattern(causal=True, window=2).mask(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    causal: bool = False
    window: int | None = None
    n_global: int = 0

    def __post_init__(self) -> None:
        _set(self, "causal", bool(self.causal))
        _set(self, "window", None if self.window is None else _whole((self.window,), "window")[0])
        _set(self, "n_global", _whole((self.n_global,), "n_global")[0])
        if self.window is not None and self.window < 1:
            raise ValueError(
                f"window must be at least 1, the token itself; got {self.window}; None sees"
                " everything"
            )
        if self.n_global < 0:
            raise ValueError(
                f"n_global must be at least 0; got {self.n_global}; 0 is no global token"
            )
        if self.n_global and self.window is None:
            raise ValueError(
                f"n_global = {self.n_global} has no effect without a window; give one or leave"
                " it out"
            )

    def mask(
        self, n_queries: int, n_keys: int, *, device: torch.device | str | None = None
    ) -> Bool[Tensor, "Lq Lk"]:
        """True where the key may be seen.

        Args:
            n_queries: Number of queries Lq; query i stands at position ``i + n_keys - n_queries``,
                so that the last one is level with the last key.
            n_keys: Number of keys Lk.
            device: Where the mask is made.
        """
        here = torch.arange(n_keys - n_queries, n_keys, device=device)[:, None]
        there = torch.arange(n_keys, device=device)[None, :]
        visible = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
        if self.window is not None:
            near = (here - there).abs() < self.window
            visible = near | ((here >= 0) & (here < self.n_global)) | (there < self.n_global)
        if self.causal:
            visible = visible & (there <= here)
        return visible

    def beyond(self, *known: str) -> str | None:
        """What the pattern asks for beside the fields that are known, such as ``"window = 3"``, or
        nothing.

        Args:
            *known: Names of fields.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in known and value != field.default:
                return f"{field.name} = {value}"
        return None


EVERYBODY = Pattern()


@dataclass(frozen=True)
class Geometry:
    """A call without its tensors, hashable so that what is built for it can be remembered.

    Args:
        n_queries: Lq; the last query is level with the last key.
        n_keys: Lk.
        levels: With block sizes, and with the softmax scale in the scales.
        pattern: Who sees whom.
        grouped: Levels from the second on have parts of their own, given beside this; block sizes
            mean nothing then.
    """

    n_queries: int
    n_keys: int
    levels: Levels
    pattern: Pattern = EVERYBODY
    grouped: bool = False

    @property
    def block_sizes(self) -> tuple[int, ...]:
        """Tokens per block at each level."""
        assert self.levels.block_sizes is not None
        return self.levels.block_sizes

    @property
    def factors(self) -> tuple[float, ...]:
        """What each level's scores are multiplied by, softmax scale included."""
        return self.levels.scales or (1.0,) * len(self.levels.ranks)

    @property
    def n_global_levels(self) -> int:
        """Leading levels that every pair shares: the first, and those whose only block covers all
        positions.
        """
        if self.grouped:
            return 1
        first = min(0, self.n_keys - self.n_queries)
        last = self.n_keys - 1
        for level, size in enumerate(self.block_sizes[1:], 1):
            if any(
                (first + offset) // size != (last + offset) // size
                for offset in self.levels.offsets
            ):
                return level
        return len(self.levels.ranks)

    @property
    def one_level(self) -> bool:
        """Whether every pair shares all levels."""
        return self.n_global_levels == len(self.levels.ranks)

    def touched(self, level: int, offset: int) -> tuple[int, int]:
        """First and last block of a level that holds a key."""
        if level < self.n_global_levels:
            return 0, 0
        size = self.block_sizes[level]
        return offset // size, (self.n_keys - 1 + offset) // size

    @property
    def n_slots(self) -> tuple[int, ...]:
        """Blocks per level, the most over the heads."""
        spans = [
            [self.touched(level, o) for o in self.levels.offsets]
            for level in range(len(self.levels.ranks))
        ]
        return tuple(max(last - first + 1 for first, last in span) for span in spans)

    @property
    def width(self) -> int:
        """Features of the expanded backend: one slot of r_l features for every block of every
        level.
        """
        return sum(
            rank * slots for rank, slots in zip(self.levels.ranks, self.n_slots, strict=True)
        )

    def shares(
        self, dtype: torch.dtype, device: torch.device, *, n_common: int = 1
    ) -> Float[Tensor, "heads Lq Lk"]:
        """One divided by the number of levels that each pair shares, one matrix for each offset.

        Args:
            dtype: Type of the result.
            device: Its place.
            n_common: How many levels the first one stands for.
        """
        sizes = (self.n_queries, self.n_keys)
        count = torch.full((), n_common, dtype=dtype, device=device)
        for level in range(1, len(self.levels.ranks)):
            count = count + self.levels.shared(level, *sizes, device=device).to(dtype)
        return count.reciprocal().expand(len(self.levels.offsets), *sizes)


def make_geometry(
    q: Tensor,
    k: Tensor,
    *,
    levels: Levels | None = None,
    pattern: Pattern = EVERYBODY,
    groups: tuple[Tensor, ...] | None = None,
    scale: float | None = None,
) -> Geometry:
    """Check levels and pattern against the tensors of a call.

    Args:
        q: Queries [B H Lq K], of which only the shape counts.
        k: Keys [B Hk Lk K], likewise.
        levels: ``None`` is ordinary attention.
        pattern: Who sees whom.
        groups: Parts of each level after the first, instead of blocks.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If levels or groups do not fit the tensors.
    """
    if groups is not None:
        _check_groups(groups, q, k, levels)
    sizes = (q.shape[1], q.shape[2], k.shape[2], q.shape[3])
    return _fit(sizes, levels, pattern, None if scale is None else float(scale), groups is not None)


@functools.lru_cache(maxsize=256)
def _fit(
    sizes: tuple[int, int, int, int],
    levels: Levels | None,
    pattern: Pattern,
    scale: float | None,
    grouped: bool,
) -> Geometry:
    n_heads, n_queries, n_keys, n_features = sizes
    levels = (Levels((n_features,)) if levels is None else levels).fit(
        n_features, max(n_queries, n_keys)
    )
    if isinstance(levels.offset, tuple) and len(levels.offset) not in {1, n_heads}:
        raise ValueError(
            f"offset must be one number or one per head; got {len(levels.offset)} numbers for"
            f" {n_heads} heads; give one a head"
        )
    scale = n_features**-0.5 if scale is None else scale
    scales = tuple(scale * factor for factor in levels.scales or (1.0,) * len(levels.ranks))
    return Geometry(
        n_queries, n_keys, replace(levels, offset=levels.offsets, scales=scales), pattern, grouped
    )


def _check_groups(groups: tuple[Tensor, ...], q: Tensor, k: Tensor, levels: Levels | None) -> None:
    """Refuse parts that do not fit the levels or the tensors."""
    if levels is None or len(groups) != len(levels.ranks) - 1:
        raise ValueError(
            f"groups needs one tensor for each level after the first; got {len(groups)} for ranks"
            f" {None if levels is None else levels.ranks}; give ranks, and as many tensors as they"
            " have numbers, less one"
        )
    if levels.block_sizes is not None or any(levels.offsets):
        raise ValueError(
            f"groups take the place of blocks; got block_sizes = {levels.block_sizes}, offset ="
            f" {levels.offset} beside them; leave those out, and give contiguous parts as"
            " groups too"
        )
    if q.shape[2] > k.shape[2]:
        raise ValueError(
            "groups are of the keys' positions, so there may be no more queries than keys; got"
            f" {q.shape[2]} and {k.shape[2]}; leave out the queries before the first key"
        )
    shapes = ((k.shape[2],), (k.shape[0], k.shape[2]), (q.shape[0], q.shape[1], k.shape[2]))
    for tensor in groups:
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
            raise ValueError(
                f"groups must hold integers; got {tensor.dtype}; convert them with .long()"
            )
        if tuple(tensor.shape) not in shapes:
            raise ValueError(
                "groups must have the shape (keys), (batch, keys) or (batch, heads, keys), here"
                f" one of {', '.join(map(str, shapes))}; got {tuple(tensor.shape)}; give one number"
                " a position"
            )
        if tensor.device != k.device:
            raise ValueError(
                f"groups must be where k is; got {tensor.device} and {k.device}; move them with"
                " .to()"
            )
