"""What is the same for every sequence of a call: lengths, levels, blocks and masks by position?"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Everything about a call that is the same for every sequence of a batch, hashable so that it can be remembered.

    Args:
        n_queries: Lq; the last query is level with the last key.
        n_keys: Lk.
        ranks: Features per level, coarse to fine.
        block_sizes: Tokens per block at each level.
        offsets: Shift of the block grid: one for all heads, or one per head.
        factors: What each level's scores are multiplied by, softmax scale included.
        mean_levels: Divide each score by the number of levels its pair shares.
        causal: See no later position.
        window: Keys seen.
        n_global: Leading tokens exempt from the window.
    """

    n_queries: int
    n_keys: int
    ranks: tuple[int, ...]
    block_sizes: tuple[int, ...]
    offsets: tuple[int, ...] = (0,)
    factors: tuple[float, ...] = (1.0,)
    mean_levels: bool = False
    causal: bool = False
    window: int | None = None
    n_global: int = 0

    @property
    def n_global_levels(self) -> int:
        """Leading levels that every pair shares: the first, and those whose only block covers all positions."""
        first, last = min(0, self.n_keys - self.n_queries), self.n_keys - 1
        for level in range(1, len(self.ranks)):
            size = self.block_sizes[level]
            if any((first + offset) // size != (last + offset) // size for offset in self.offsets):
                return level
        return len(self.ranks)

    def touched(self, level: int, offset: int) -> tuple[int, int]:
        """First and last block of a level that holds a key."""
        if level < self.n_global_levels:
            return 0, 0
        size = self.block_sizes[level]
        return offset // size, (self.n_keys - 1 + offset) // size

    @property
    def n_slots(self) -> tuple[int, ...]:
        """Blocks per level, the most over the heads."""
        levels = range(len(self.ranks))
        spans = [[self.touched(level, offset) for offset in self.offsets] for level in levels]
        return tuple(max(last - first + 1 for first, last in span) for span in spans)

    @property
    def width(self) -> int:
        """Features of the expanded way: one slot of r_l features for every block of every level."""
        return sum(rank * slots for rank, slots in zip(self.ranks, self.n_slots, strict=True))
