"""How do two attentions over split features share one stream of tokens? A cache for each half."""

from jaxtyping import Float
from torch import Tensor

from tsattn.nn.cache import Cache


class HalvesCache:
    """Two caches for keys and queries whose features are split between two attentions, whose results add up.

    Args:
        far: Of the first features.
        near: Of the others; its values are a second copy of those that it still needs.
    """

    def __init__(self, far: Cache, near: Cache) -> None:
        self.far, self.near = far, near
        self._widths = [sum(level.shape[3] for level in cache.keys) for cache in (far, near)]

    @property
    def length(self) -> int:
        """Tokens appended so far."""
        return self.far.length

    @property
    def n_bytes(self) -> int:
        """Bytes allocated."""
        return self.far.n_bytes + self.near.n_bytes

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


AnyCache = Cache | HalvesCache
