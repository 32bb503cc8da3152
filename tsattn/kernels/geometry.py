"""The levels and the pattern of an attention, the geometry of one call, which is the same for every
sequence of a batch, and the groups and heads that are shared.
"""

import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from numbers import Real
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn.checks import check_switch, check_whole

# Queries, keys, values and results of a call, the weights of its keys, and which are visible.
Queries = Float[Tensor, "B H Lq K"]
Keys = Float[Tensor, "B Hk Lk K"]
Values = Float[Tensor, "B Hv Lk V"]
Attended = Float[Tensor, "B H Lq V"]
Weights = Float[Tensor, "B H Lq Lk"]
KeyMask = Bool[Tensor, "B Lk"]
# Keys and values that each head has for itself.
HeadKeys = Float[Tensor, "B H Lk K"]
HeadValues = Float[Tensor, "B H Lk V"]
# For each level after the first, the group of each key.
KeyGroups = tuple[Int[Tensor, "... Lk"], ...]
# One whole number, or one factor, for each level; an offset for all heads or one a head.
Sizes = tuple[int, ...]
Factors = tuple[float, ...]
Offset = int | Sizes
# Where tensors are made; None is torch's own choice.
Device = torch.device | str | None
# Gradients of queries, keys and values.
Gradients = tuple[Tensor, Tensor, Tensor]


def default_block_sizes(length: int, n_levels: int) -> Sizes:
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
        TypeError: If the length is no integer.

    Example:
        >>> default_block_sizes(42, 3)
        (44, 22, 11)
    """
    # A trace gives a tensor for the length.
    length = check_whole("length", _to_integer(length, "length"))
    n_levels = check_whole("n_levels", n_levels)
    n_finest_blocks = 2 ** (n_levels - 1)
    finest_size = math.ceil(length / n_finest_blocks)
    doublings = reversed(range(n_levels))
    return tuple(finest_size * 2**n_doublings for n_doublings in doublings)


def token_positions(
    n_queries: int, n_keys: int, *, device: Device = None
) -> tuple[Int[Tensor, " Lq"], Int[Tensor, " Lk"]]:
    """Positions of queries and keys; the last query stands at the position of the last key.

    Args:
        n_queries: Number of queries Lq.
        n_keys: Number of keys Lk.
        device: Where the positions are made.
    """
    queries = torch.arange(n_keys - n_queries, n_keys, device=device)
    keys = torch.arange(n_keys, device=device)
    return queries, keys


def shared_groups(groups: Int[Tensor, "... Lk"], n_queries: int) -> Bool[Tensor, "Bx Hx Lq Lk"]:
    """Which query and key lie in the same group of one level.

    Args:
        groups: Group of each position, [Lk] for all sequences, [B Lk] or [B H Lk]; a negative
            number is no group.
        n_queries: Number of queries Lq, at most Lk; they are the last positions.

    Returns:
        True where both positions are in one group; the leading axes are 1 where the groups have
        none.

    Example:
        >>> shared_groups(torch.tensor([0, 1, 0, -1]), 2).int().tolist()
        [[[[1, 0, 1, 0], [0, 0, 0, 0]]]]
    """
    if groups.ndim == 2:
        key_groups = groups[:, None]  # [B 1 Lk]
    else:
        new_axes = (1,) * (3 - groups.ndim)
        key_groups = groups.reshape(new_axes + groups.shape)  # [1|B 1|H Lk]
    n_keys = key_groups.shape[2]
    first_query = n_keys - n_queries
    query_groups = key_groups[:, :, first_query:, None]  # [1|B 1|H Lq 1]
    same_group = query_groups == key_groups[:, :, None, :]
    in_a_group = query_groups >= 0
    return same_group & in_a_group


def expand_heads(x: Float[Tensor, "B Hx L F"], n_heads: int) -> Float[Tensor, "B H L F"]:
    """Repeat each head of keys or values for the group of query heads that shares it.

    Args:
        n_heads: Number of query heads H, a multiple of the heads of x.

    Returns:
        Head h is head ``h // (H // Hx)`` of x: x itself where nothing is shared, a view where one
        head serves all.
    """
    batch, n_shared_heads, length, width = x.shape
    if n_shared_heads == n_heads:
        return x
    n_copies = n_heads // n_shared_heads
    copies = x[:, :, None].expand(batch, n_shared_heads, n_copies, length, width)
    return copies.reshape(batch, n_heads, length, width)


def _set_field(instance: object, name: str, value: object) -> None:
    """Set a field of a frozen dataclass from its own ``__post_init__``."""
    object.__setattr__(instance, name, value)


def is_listed(numbers: Any) -> TypeGuard[Iterable[Any]]:
    """Whether a value holds several numbers, as lists and arrays do and an array of no axes does
    not.
    """
    return isinstance(numbers, Iterable) and getattr(numbers, "ndim", 1) > 0


def _to_integer(number: Any, name: str) -> int:
    """An integer of any type, such as NumPy's, as Python's own."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(
            f"{name} must be an integer; got {number!r}; give one whole number"
        ) from None


def _to_integers(numbers: Any, name: str) -> Sizes:
    """Several of them."""
    if not isinstance(numbers, Iterable):
        raise TypeError(f"{name} must be several integers; got {numbers!r}; write ({numbers!r},)")
    try:
        return tuple(operator.index(number) for number in numbers)
    except TypeError:
        raise TypeError(f"{name} must be made of integers; got {numbers!r}; round first") from None


def _to_factors(numbers: Any, name: str) -> Factors:
    """Several finite numbers of any type as Python's own."""
    candidates = [numbers, *numbers] if is_listed(numbers) else [numbers]
    if any(isinstance(one, Tensor) and one.requires_grad for one in candidates):
        raise ValueError(
            f"{name} must be fixed numbers, which are not trained; got a tensor that requires a"
            " gradient; multiply the slices of q by its numbers, or detach() it"
        )
    try:
        factors = tuple(float(number) for number in numbers)
    except (TypeError, ValueError):
        factors = (math.nan,)
    if not all(-math.inf < factor < math.inf for factor in factors):
        raise ValueError(
            f"{name} must be several finite numbers; got {numbers!r}; give one factor a level"
        )
    return factors


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

    ranks: Sizes
    block_sizes: Sizes | None = None
    offset: Offset = 0
    scales: Factors | None = None
    mean: bool = False

    def __post_init__(self) -> None:
        _set_field(self, "ranks", _to_integers(self.ranks, "ranks"))
        if self.block_sizes is not None:
            _set_field(self, "block_sizes", _to_integers(self.block_sizes, "block_sizes"))
        if is_listed(self.offset):
            _set_field(self, "offset", _to_integers(self.offset, "offset"))
        else:
            _set_field(self, "offset", _to_integer(self.offset, "offset"))
        if self.scales is not None:
            _set_field(self, "scales", _to_factors(self.scales, "level_scales"))
        check_switch("mean_levels", self.mean)
        _set_field(self, "mean", bool(self.mean))
        self._check_numbers()

    def _check_numbers(self) -> None:
        if not self.ranks or min(self.ranks) < 1:
            raise ValueError(
                f"ranks must hold at least one number, each at least 1; got {self.ranks}; leave out"
                " empty levels"
            )
        n_levels = len(self.ranks)
        for name, numbers in (("block_sizes", self.block_sizes), ("level_scales", self.scales)):
            if numbers is not None and len(numbers) != n_levels:
                raise ValueError(
                    f"{name} needs one number a level; got {numbers} for ranks {self.ranks}; add or"
                    " drop some, or leave it out"
                )
        if not self.offsets:
            raise ValueError(
                f"offset must be one number or one per head; got {self.offset}; leave it out for 0"
            )
        if min(self.offsets) < 0:
            raise ValueError(
                f"offset must be at least 0; got {self.offset}; add a multiple of every block size"
            )
        if self.block_sizes is None:
            return
        grows = any(fine > coarse for coarse, fine in pairwise(self.block_sizes))
        if grows:
            raise ValueError(
                f"block_sizes must never grow from coarse to fine; got {self.block_sizes}; sort"
                " them downwards"
            )
        if min(self.block_sizes) < 1:
            raise ValueError(
                f"block_sizes must be at least 1, a token of its own; got {self.block_sizes}; raise"
                " the smallest"
            )

    @property
    def offsets(self) -> Sizes:
        """One offset for all heads, or one per query head where they differ."""
        if not isinstance(self.offset, tuple):
            return (self.offset,)
        all_equal = len(set(self.offset)) == 1
        return self.offset[:1] if all_equal else self.offset

    @property
    def factors(self) -> Factors:
        """Factor per level, ones where there are no scales."""
        return self.scales or (1.0,) * len(self.ranks)

    def check_heads(self, n_heads: int) -> None:
        """Refuse offsets of another number of query heads.

        Raises:
            ValueError: If there are several offsets, and not one a head.
        """
        n_offsets = len(self.offset) if isinstance(self.offset, tuple) else 1
        if n_offsets not in {1, n_heads}:
            raise ValueError(
                f"offset must be one number or one per head; got {n_offsets} numbers for"
                f" {n_heads} heads; give one a head"
            )

    def fit(self, n_features: int, length: int) -> "Levels":
        """The same levels with block sizes, checked against the width of a head and the length of
        the sequences.

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
        sizes = self.block_sizes
        if sizes is None:
            sizes = default_block_sizes(length, len(self.ranks))
        if sizes[0] < length:
            raise ValueError(
                f"the first of block_sizes must cover the sequence; got {sizes[0]} for {length}"
                " tokens; raise it, or leave block_sizes out"
            )
        return replace(self, block_sizes=sizes)

    def shared(
        self, level: int, n_queries: int, n_keys: int, *, device: Device = None
    ) -> Bool[Tensor, "heads Lq Lk"]:
        """Which query and key lie in the same block of one level after the first, one mask for
        each of ``offsets``.

        Args:
            level: Number of the level, from 0.
            n_queries: Number of queries Lq.
            n_keys: Number of keys Lk.
            device: Where the mask is made.
        """
        assert self.block_sizes is not None
        size = self.block_sizes[level]
        shifts = torch.tensor(self.offsets, device=device)[:, None]  # [heads 1]
        queries, keys = token_positions(n_queries, n_keys, device=device)
        # Queries before the first key have negative positions, so division must round down.
        query_blocks = torch.div(queries + shifts, size, rounding_mode="floor")  # [heads Lq]
        key_blocks = torch.div(keys + shifts, size, rounding_mode="floor")  # [heads Lk]
        return query_blocks[:, :, None] == key_blocks[:, None, :]


@dataclass(frozen=True)
class Pattern:
    """Who sees whom by positions alone, whatever the score.

    A new pattern is one more field, here or in a subclass, that :meth:`mask` applies. The reference
    and the masked backend then serve it. Faster backends and caches list the fields that they
    serve and refuse all others by :meth:`beyond`.

    Args:
        causal: A token sees itself and what came before.
        window: Number of keys seen, itself included: ``i - window < j <= i`` when causal, otherwise
            ``|i - j| < window``. ``None`` is unlimited.
        n_global: Leading tokens that see, and are seen by, every token in spite of the window (not
            of time). A query before the first key is none of them.

    Raises:
        ValueError: If a number is out of its range, or there are global tokens without a window.
        TypeError: If ``window`` or ``n_global`` is no integer.

    Example:
        >>> Pattern(causal=True, window=2).mask(3, 3).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """

    causal: bool = False
    window: int | None = None
    n_global: int = 0

    def __post_init__(self) -> None:
        check_switch("causal", self.causal)
        _set_field(self, "causal", bool(self.causal))
        if self.window is not None:
            _set_field(self, "window", _to_integer(self.window, "window"))
        _set_field(self, "n_global", _to_integer(self.n_global, "n_global"))
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

    def mask(self, n_queries: int, n_keys: int, *, device: Device = None) -> Bool[Tensor, "Lq Lk"]:
        """True where the key may be seen.

        Args:
            n_queries: Number of queries Lq; query i stands at position ``i + n_keys - n_queries``,
                so that the last query stands at the position of the last key.
            n_keys: Number of keys Lk.
            device: Where the mask is made.
        """
        queries, keys = token_positions(n_queries, n_keys, device=device)
        queries = queries[:, None]  # [Lq 1]
        keys = keys[None, :]  # [1 Lk]
        visible = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
        if self.window is not None:
            near = (queries - keys).abs() < self.window
            # A query before the first key has a negative position and is no global token.
            global_query = (queries >= 0) & (queries < self.n_global)
            global_key = keys < self.n_global
            visible = near | global_query | global_key
        if self.causal:
            visible = visible & (keys <= queries)
        return visible

    def beyond(self, *served_fields: str) -> str | None:
        """The first field that is set and not among those served, such as ``"window = 3"``.

        Args:
            *served_fields: Names of the fields that a backend or cache serves.

        Returns:
            Name and value of the field, or ``None`` where all set fields are served.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in served_fields and value != field.default:
                return f"{field.name} = {value}"
        return None


EVERYBODY = Pattern()


@dataclass(frozen=True)
class Geometry:
    """One call without its tensors; hashable, so that what is built for it can be cached.

    Args:
        n_queries: Number of queries Lq; the last query stands at the position of the last key.
        n_keys: Number of keys Lk.
        levels: With block sizes, and with the softmax scale in the scales.
        pattern: Who sees whom.
        grouped: The call brings groups for the levels from the second on; block sizes then have no
            meaning.
    """

    n_queries: int
    n_keys: int
    levels: Levels
    pattern: Pattern = EVERYBODY
    grouped: bool = False

    @property
    def block_sizes(self) -> Sizes:
        """Tokens per block at each level."""
        assert self.levels.block_sizes is not None
        return self.levels.block_sizes

    @property
    def factors(self) -> Factors:
        """Factor of each level's scores, softmax scale included."""
        return self.levels.factors

    @property
    def positive_factor(self) -> float:
        """The first factor above 0, else 1: the scale of a fused kernel, which takes one only."""
        return next((factor for factor in self.factors if factor > 0), 1.0)

    @property
    def relative_factors(self) -> Factors | None:
        """Factor of each feature over :attr:`positive_factor`, or ``None`` where all are 1."""
        unit = self.positive_factor
        relative = []
        for rank, factor in zip(self.levels.ranks, self.factors, strict=True):
            # All features of a level have its factor.
            relative += [factor / unit] * rank
        return None if set(relative) == {1.0} else tuple(relative)

    @property
    def n_global_levels(self) -> int:
        """Leading levels that every pair shares: the first, and those whose only block covers all
        positions.
        """
        if self.grouped:
            return 1
        first_position = min(0, self.n_keys - self.n_queries)
        last_position = self.n_keys - 1
        for level, size in enumerate(self.block_sizes[1:], 1):
            for offset in self.levels.offsets:
                first_block = (first_position + offset) // size
                last_block = (last_position + offset) // size
                if first_block != last_block:
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
        first_block = offset // size
        last_block = (self.n_keys - 1 + offset) // size
        return first_block, last_block

    @property
    def n_slots(self) -> Sizes:
        """Blocks per level, the most over the heads."""
        counts = []
        for level in range(len(self.levels.ranks)):
            ends = [self.touched(level, offset) for offset in self.levels.offsets]
            counts.append(max(last - first + 1 for first, last in ends))
        return tuple(counts)

    @property
    def width(self) -> int:
        """Features of the expanded backend: one slot of r_l features for every block of every
        level.
        """
        return sum(map(operator.mul, self.levels.ranks, self.n_slots))

    def shares(
        self, dtype: torch.dtype, device: torch.device, *, n_common: int = 1
    ) -> Float[Tensor, "heads Lq Lk"]:
        """One divided by the number of levels that each pair shares, one matrix for each offset.

        Args:
            dtype: Type of the result.
            device: Where the result is made.
            n_common: How many levels the first one stands for.
        """
        sizes = (self.n_queries, self.n_keys)
        n_offsets = len(self.levels.offsets)
        count = torch.full((), n_common, dtype=dtype, device=device)
        for level in range(1, len(self.levels.ranks)):
            same_block = self.levels.shared(level, *sizes, device=device)
            count = count + same_block.to(dtype)
        return count.reciprocal().expand(n_offsets, *sizes)


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
        q: Queries [B H Lq K], of which only the shape is used.
        k: Keys [B Hk Lk K], of which only the shape is used.
        levels: ``None`` is ordinary attention.
        pattern: Who sees whom.
        groups: Groups of each level after the first, instead of blocks.
        scale: Factor of the scores, default ``K ** -0.5``.

    Raises:
        ValueError: If levels or groups do not fit the tensors.
    """
    if levels is not None:
        check_levels(levels)
    check_pattern(pattern)
    if groups is not None:
        _check_groups(groups, q, k, levels)
    _, n_heads, n_queries, n_features = q.shape
    n_keys = k.shape[2]
    sizes = (n_heads, n_queries, n_keys, n_features)
    if scale is not None:
        scale = check_scale(scale)
    is_grouped = groups is not None
    return _fit_levels(sizes, levels, pattern, scale, is_grouped)


def check_levels(levels: Any) -> None:
    """Refuse ranks without their object.

    Raises:
        TypeError: If these are no :class:`Levels`.
    """
    if not isinstance(levels, Levels):
        raise TypeError(f"levels must be Levels; got {levels!r}; write Levels(ranks)")


def check_pattern(pattern: Any) -> None:
    """Refuse the name of a pattern.

    Raises:
        TypeError: If it is no :class:`Pattern`.
    """
    if not isinstance(pattern, Pattern):
        raise TypeError(
            f"pattern must be a Pattern; got {pattern!r}; write Pattern(causal=True) or leave it"
            " out"
        )


def check_scale(scale: Any) -> float:
    """The factor of the scores.

    Raises:
        ValueError: If it is no finite number.
    """
    if isinstance(scale, Tensor):
        raise ValueError(
            f"scale must be a finite number; got {scale!r}; multiply the queries by it and set"
            " scale=1.0"
        )
    # A compiler can compare a number that it does not know, but not ask whether it is finite.
    if not isinstance(scale, Real) or not -math.inf < float(scale) < math.inf:
        raise ValueError(
            f"scale must be a finite number; got {scale!r}; leave it out for K ** -0.5"
        )
    return float(scale)


@functools.lru_cache(maxsize=256)
def _fit_levels(
    sizes: tuple[int, int, int, int],
    levels: Levels | None,
    pattern: Pattern,
    scale: float | None,
    grouped: bool,
) -> Geometry:
    """The geometry of a call with sizes (H, Lq, Lk, K)."""
    n_heads, n_queries, n_keys, n_features = sizes
    if levels is None:
        levels = Levels((n_features,))
    length = max(n_queries, n_keys)
    levels = levels.fit(n_features, length)
    levels.check_heads(n_heads)
    scale = n_features**-0.5 if scale is None else scale
    factors = tuple(scale * factor for factor in levels.factors)
    levels = replace(levels, offset=levels.offsets, scales=factors)
    return Geometry(n_queries, n_keys, levels, pattern, grouped)


def _check_groups(groups: tuple[Tensor, ...], q: Tensor, k: Tensor, levels: Levels | None) -> None:
    """Refuse groups that do not fit the levels or the tensors."""
    if not isinstance(groups, tuple | list):
        raise TypeError(
            "groups must be a tuple with one tensor for each level after the first; got"
            f" {type(groups).__name__}; write (groups,) for one such level"
        )
    for tensor in groups:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"groups must hold tensors; got {type(tensor).__name__}; convert it with"
                " torch.as_tensor()"
            )
    if levels is None or len(groups) != len(levels.ranks) - 1:
        ranks = None if levels is None else levels.ranks
        raise ValueError(
            f"groups needs one tensor for each level after the first; got {len(groups)} for ranks"
            f" {ranks}; give ranks, and as many tensors as they have numbers, less one"
        )
    if levels.block_sizes is not None or any(levels.offsets):
        raise ValueError(
            f"groups take the place of blocks; got block_sizes = {levels.block_sizes}, offset ="
            f" {levels.offset} beside them; leave those out, and give contiguous parts as"
            " groups too"
        )
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[2]
    if n_queries > n_keys:
        raise ValueError(
            "groups are of the keys' positions, so there may be no more queries than keys; got"
            f" {n_queries} and {n_keys}; leave out the queries before the first key"
        )
    shapes = ((n_keys,), (batch, n_keys), (batch, n_heads, n_keys))
    for tensor in groups:
        dtype = tensor.dtype
        if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
            raise ValueError(
                f"groups must hold integers; got {tensor.dtype}; convert them with .long()"
            )
        shape = tuple(tensor.shape)
        if shape not in shapes:
            shape_names = ", ".join(map(str, shapes))
            raise ValueError(
                "groups must have the shape (keys), (batch, keys) or (batch, heads, keys), here"
                f" one of {shape_names}; got {shape}; give one number"
                " a position"
            )
        if tensor.device != k.device:
            raise ValueError(
                f"groups must be where k is; got {tensor.device} and {k.device}; move them with"
                " .to()"
            )
