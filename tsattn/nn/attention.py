"""Attention layers: a score and a pattern around one kernel."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.kernels import Pattern, attend, weigh
from tsattn.nn.layers import linear
from tsattn.nn.scores import DotScore, GroupLevelScore, Places, Score, group_heads, head_width


@runtime_checkable
class TokenCache(Protocol):
    """What a layer needs of a cache (:mod:`tsattn.nn.cache`) to go on token by token."""

    @property
    def length(self) -> int:
        """Tokens in it."""
        ...

    def append(self, k: Tensor, v: Tensor) -> None:
        """Put in keys and values of the next tokens."""
        ...

    def attend(self, q: Tensor) -> Tensor:
        """Attended values of the newest token."""
        ...


class Attention(nn.Module):
    """Multi-head attention: ``score`` gives features, ``pattern`` says who sees whom, the kernel
    does the rest.

    Args:
        d_model: Token width.
        score: Maps tokens to queries and keys, and says what the kernel must know about them.
        pattern: Who sees whom; default everybody.
        n_value_heads: Heads of the values, a divisor of the score's heads; default as many.
        generator: Source of the start values; ``None`` is torch's global one.
    """

    def __init__(
        self,
        d_model: int,
        *,
        score: Score,
        pattern: Pattern | None = None,
        n_value_heads: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.score = score
        self.pattern = Pattern() if pattern is None else pattern
        self.n_value_heads = group_heads(score.n_heads, n_value_heads)
        self.d_value = head_width(d_model, score.n_heads)
        self.value = linear(d_model, self.n_value_heads * self.d_value, generator=generator)
        self.out = linear(score.n_heads * self.d_value, d_model, generator=generator)

    def forward(
        self,
        x: Float[Tensor, "B Lq D"],
        context: Float[Tensor, "B Lk D"] | None = None,
        *,
        key_mask: Bool[Tensor, "B Lk"] | None = None,
        places: Places | None = None,
        n_last: int | None = None,
    ) -> Float[Tensor, "B Lo D"]:
        """Attend within each sequence, or from ``x`` to ``context``.

        Args:
            context: Tokens of another sequence to look at (cross-attention).
            key_mask: True where a token may be looked at.
            places: Where the tokens stand, for a score by groups.
            n_last: With places: only so many last tokens look, and only they are answered.

        Raises:
            ValueError: If ``context`` is given and the score or the pattern has no meaning for two
                sequences.
        """
        if places is not None and isinstance(self.score, GroupLevelScore):
            q, k = self.score.features_at(x, places, n_last)
            return self._join(self._attend(q, k, self._values(x), key_mask, groups=places.groups))
        q, k = self._features(x, context)
        seen = self._attend(q, k, self._values(x if context is None else context), key_mask)
        return self._join(seen)

    def weights(
        self,
        x: Float[Tensor, "B Lq D"],
        context: Float[Tensor, "B Lk D"] | None = None,
        *,
        key_mask: Bool[Tensor, "B Lk"] | None = None,
    ) -> Float[Tensor, "B H Lq Lk"]:
        """How much each token looks at each other one; rows sum to one.

        Args:
            context, key_mask: As in :meth:`forward`.
        """
        q, k = self._features(x, context)
        return self._weigh(q, k, key_mask)

    def make_cache(
        self,
        n_sequences: int,
        max_length: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> TokenCache:
        """Room for the keys and values that later tokens need.

        Args:
            n_sequences: Batch size B.
            max_length: Tokens of the longest sequence.
            dtype: Type of the numbers kept.
            device: Where they are kept.

        Raises:
            ValueError: If the pattern is not causal.
        """
        return self._make_cache(
            batch=n_sequences, max_length=max_length, dtype=dtype, device=device
        )

    def _make_cache(self, **sizes: Any) -> TokenCache:
        cache: TokenCache = self._cache_for(self.pattern, self.score.d_key, **sizes)
        return cache

    @torch.no_grad()
    def step(self, x: Float[Tensor, "B n D"], cache: TokenCache) -> Float[Tensor, "B n D"]:
        """The next tokens of each sequence, given what the cache holds of those before; equals the
        causal full pass.

        Args:
            cache: From :meth:`make_cache`; the new tokens are added to it.
        """
        start = cache.length
        q, k = self.score.features(x, start=start)
        v = self._values(x)
        if start == 0 and x.shape[1] > 1:
            cache.append(k, v)
            return self._join(self._attend(q, k, v, None))
        rows = []
        for i in range(x.shape[1]):
            cache.append(k[:, :, i : i + 1], v[:, :, i : i + 1])
            rows.append(cache.attend(q[:, :, i : i + 1]))
        return self._join(torch.cat(rows, dim=2))

    def _features(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if context is not None:
            self._check_context()
        return self.score.features(x, context)

    def _check_context(self) -> None:
        self.score.check_context()
        if self.pattern != Pattern():
            raise ValueError(
                "causal and windowed patterns compare positions of one sequence, and queries and"
                f" keys here come from two; got {self.pattern}; use Pattern() for cross-attention"
            )

    def _values(self, x: Tensor) -> Tensor:
        return self.value(x).unflatten(2, (self.n_value_heads, self.d_value)).transpose(1, 2)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, **parts: Any
    ) -> Tensor:
        how: dict[str, Any] = {
            "levels": self.score.levels,
            "pattern": self.pattern,
            "scale": self.score.scale,
        }
        return attend(q, k, v, **how, key_mask=key_mask, **parts)

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        score = self.score
        return weigh(
            q, k, levels=score.levels, pattern=self.pattern, key_mask=key_mask, scale=score.scale
        )

    def _join(self, seen: Tensor) -> Tensor:
        return self.out(seen.transpose(1, 2).flatten(2))

    def _cache_for(self, pattern: Pattern, key_width: int, **sizes: Any) -> Any:
        from tsattn.nn.cache import CacheSizes, make_cache

        made = CacheSizes(
            n_key_heads=self.score.n_key_heads,
            n_value_heads=self.n_value_heads,
            key_width=key_width,
            value_width=self.d_value,
            **sizes,
        )
        return make_cache(made, levels=self.score.levels, pattern=pattern, scale=self.score.scale)


class GlobalLocalAttention(Attention):
    """Two softmaxes over the same values: half of each head's features sees everything, the other
    half a window.

    A baseline of Kuang et al. 2025: ``(softmax(S_global) + softmax(S_local)) V``. Rows of the
    weights sum to **two**. The layer's linear output map can undo the factor; the plain sum is kept
    because it is what the paper compares with.

    Args:
        d_model: Token width.
        n_heads: Heads.
        window: Keys that the local half sees, the token itself included.
        causal: A token sees itself and what came before.
        n_key_heads: Heads of keys and values; default ``n_heads``.
        norm: Normalise queries and keys over the features of each head.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If a head has fewer than two features.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        window: int,
        causal: bool = False,
        n_key_heads: int | None = None,
        norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        score = DotScore(d_model, n_heads, n_key_heads=n_key_heads, norm=norm, generator=generator)
        pattern = Pattern(causal=causal)
        super().__init__(
            d_model, score=score, pattern=pattern, n_value_heads=n_key_heads, generator=generator
        )
        if score.d_key < 2:
            raise ValueError(
                f"both halves of a head need features; got {score.d_key} a head; widen the heads"
            )
        self.d_global = (score.d_key + 1) // 2  # features of the global half
        self.local = Pattern(causal=causal, window=window)

    def _check_context(self) -> None:
        raise ValueError(
            "global+local attention has a window over one sequence, and queries and keys here come"
            " from two; use Attention with DotScore or BilinearScore for cross-attention"
        )

    def _halves(self, x: Tensor) -> list[Tensor]:
        return list(x.split([self.d_global, x.shape[3] - self.d_global], dim=3))

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, **parts: Any
    ) -> Tensor:
        (q_far, q_near), (k_far, k_near) = self._halves(q), self._halves(k)
        far = attend(q_far, k_far, v, pattern=self.pattern, key_mask=key_mask, **parts)
        return far + attend(q_near, k_near, v, pattern=self.local, key_mask=key_mask, **parts)

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        (q_far, q_near), (k_far, k_near) = self._halves(q), self._halves(k)
        far = weigh(q_far, k_far, pattern=self.pattern, key_mask=key_mask)
        return far + weigh(q_near, k_near, pattern=self.local, key_mask=key_mask)

    def _make_cache(self, **sizes: Any) -> TokenCache:
        """One cache a half; the values in the window are kept a second time."""
        from tsattn.nn.cache import HalvesCache

        far = self._cache_for(self.pattern, self.d_global, **sizes)
        return HalvesCache(
            far, self._cache_for(self.local, self.score.d_key - self.d_global, **sizes)
        )
