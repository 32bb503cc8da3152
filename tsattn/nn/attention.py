"""Attention layers, which combine a score, a pattern and a kernel."""

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.checks import check_whole
from tsattn.kernels import Pattern, attend, weigh
from tsattn.kernels.dispatch import require_tensors
from tsattn.kernels.geometry import Device, KeyMask, Weights, check_pattern
from tsattn.nn.layers import RandomSource, linear
from tsattn.nn.scores import (
    ContextTokens,
    DotScore,
    GroupLevelScore,
    Places,
    Score,
    Tokens,
    group_heads,
    head_width,
)

# The next tokens of sequences.
NewTokens = Float[Tensor, "B n D"]


@runtime_checkable
class TokenCache(Protocol):
    """The methods of a cache (:mod:`tsattn.nn.cache`) that a layer calls token by token."""

    @property
    def length(self) -> int:
        """Tokens in it."""
        ...

    def append(self, k: Tensor, v: Tensor) -> None:
        """Store keys and values of the next tokens."""
        ...

    def attend(self, q: Tensor) -> Tensor:
        """Attended values of the newest token."""
        ...


def _check_tokens(tokens: Tensor) -> None:
    """Refuse tokens [B L D] that are no tensor or have other axes."""
    require_tensors(tokens=tokens)
    if tokens.dim() != 3:
        raise ValueError(
            "tokens must have the axes (batch, tokens, features); got shape"
            f" {tuple(tokens.shape)}; x.unsqueeze(0) makes a batch of one sequence"
        )


class Attention(nn.Module):
    """Multi-head attention: ``score`` makes queries and keys, ``pattern`` defines which keys a
    query sees, and a kernel averages the values.

    Args:
        d_model: Token width.
        score: Maps tokens to queries and keys, and has their levels and scale.
        pattern: Who sees whom; default everybody.
        n_value_heads: Heads of the values, a divisor of the score's heads; default as many.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        TypeError: If ``score`` or ``pattern`` is no such object.
        ValueError: If the heads of the score do not divide ``d_model``.
    """

    def __init__(
        self,
        d_model: int,
        *,
        score: Score,
        pattern: Pattern | None = None,
        n_value_heads: int | None = None,
        generator: RandomSource = None,
    ) -> None:
        super().__init__()
        if not isinstance(score, Score):
            raise TypeError(
                f"score must be a Score; got {score!r}; write DotScore(d_model, n_heads)"
            )
        self.score = score
        self.pattern = Pattern() if pattern is None else pattern
        check_pattern(self.pattern)
        self.n_value_heads = group_heads(score.n_heads, n_value_heads)
        self.d_value = head_width(d_model, score.n_heads)
        # Names of the maps stand in saved files.
        n_values = self.n_value_heads * self.d_value
        n_attended = score.n_heads * self.d_value
        self.value = linear(d_model, n_values, generator=generator)
        self.out = linear(n_attended, d_model, generator=generator)

    def forward(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        key_mask: KeyMask | None = None,
        places: Places | None = None,
        n_last: int | None = None,
    ) -> Float[Tensor, "B Lo D"]:
        """Attend within each sequence, or from ``x`` to ``context``.

        Args:
            context: Tokens of another sequence that give keys and values (cross-attention).
            key_mask: True where a token may be seen.
            places: Groups and positions of the tokens, for a score by groups; others read none.
            n_last: With places: compute only the results of this many last tokens.

        Raises:
            TypeError: If tokens are no tensor.
            ValueError: If ``context`` is given and the score or the pattern has no meaning for two
                sequences.
        """
        if places is not None and isinstance(self.score, GroupLevelScore):
            _check_tokens(x)
            q, k = self.score.features_at(x, places, n_last)
            v = self._values(x)
            attended = self._attend(q, k, v, key_mask, groups=places.groups)
        else:
            q, k = self._features(x, context)
            source = x if context is None else context
            v = self._values(source)
            attended = self._attend(q, k, v, key_mask)
        return self._join_heads(attended)

    def weights(
        self,
        x: Tokens,
        context: ContextTokens | None = None,
        *,
        key_mask: KeyMask | None = None,
    ) -> Weights:
        """Weight of each key for each query; rows sum to one.

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
        device: Device = None,
    ) -> TokenCache:
        """Room for the keys and values that later tokens need.

        Args:
            n_sequences: Batch size B.
            max_length: Tokens of the longest sequence.
            dtype: Type of the stored numbers.
            device: Where they are stored.

        Raises:
            ValueError: If the pattern is not causal.
        """
        return self._make_cache(
            batch=n_sequences, max_length=max_length, dtype=dtype, device=device
        )

    def _make_cache(self, **sizes: Any) -> TokenCache:
        return self._make_pattern_cache(self.pattern, self.score.d_key, **sizes)

    @torch.no_grad()
    def step(self, x: NewTokens, cache: TokenCache) -> NewTokens:
        """Results for the next tokens of each sequence; they equal those of the causal full pass.

        Args:
            cache: From :meth:`make_cache`, with the keys and values of earlier tokens; the new
                tokens are added to it.
        """
        _check_tokens(x)
        # Queries and keys depend on positions, values do not.
        start = cache.length
        q, k = self.score.features(x, start=start)
        v = self._values(x)
        if start == 0 and x.shape[1] > 1:
            # Nothing is cached yet, so one full pass is faster than single tokens.
            cache.append(k, v)
            attended = self._attend(q, k, v, None)
            return self._join_heads(attended)
        rows = []
        for i in range(x.shape[1]):
            token = slice(i, i + 1)
            token_k = k[:, :, token]
            token_v = v[:, :, token]
            token_q = q[:, :, token]
            cache.append(token_k, token_v)
            row = cache.attend(token_q)
            rows.append(row)
        attended = torch.cat(rows, dim=2)
        return self._join_heads(attended)

    def _features(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        _check_tokens(x)
        if context is not None:
            _check_tokens(context)
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
        """[B L D] -> [B Hv L V]."""
        values = self.value(x)
        values = values.unflatten(2, (self.n_value_heads, self.d_value))
        return values.transpose(1, 2)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, **groups: Any
    ) -> Tensor:
        return attend(
            q,
            k,
            v,
            levels=self.score.levels,
            pattern=self.pattern,
            scale=self.score.scale,
            key_mask=key_mask,
            **groups,
        )

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        return weigh(
            q,
            k,
            levels=self.score.levels,
            pattern=self.pattern,
            scale=self.score.scale,
            key_mask=key_mask,
        )

    def _join_heads(self, attended: Tensor) -> Tensor:
        """[B H L V] -> [B L D]."""
        tokens = attended.transpose(1, 2).flatten(2)
        return self.out(tokens)

    def _make_pattern_cache(self, pattern: Pattern, key_width: int, **sizes: Any) -> Any:
        """The cache of one pattern over keys of this width."""
        from tsattn.nn.cache import CacheSizes, make_cache  # only decoders need caches

        cache_sizes = CacheSizes(
            n_key_heads=self.score.n_key_heads,
            n_value_heads=self.n_value_heads,
            key_width=key_width,
            value_width=self.d_value,
            **sizes,
        )
        score = self.score
        return make_cache(cache_sizes, levels=score.levels, pattern=pattern, scale=score.scale)


class GlobalLocalAttention(Attention):
    """Two softmaxes over the same values: half of each head's features sees everything, the other
    half sees a window.

    A baseline of Kuang et al. 2025: ``(softmax(S_global) + softmax(S_local)) V``. Rows of the
    weights sum to **two**. The layer's linear output map can undo the factor; the sum is not halved
    because the paper compares with the plain sum.

    Args:
        d_model: Token width.
        n_heads: Heads.
        window: Keys that the local half sees, the token itself included.
        causal: A token sees itself and what came before.
        n_key_heads: Heads of keys and values; default ``n_heads``.
        norm: Normalise queries and keys over the features of each head.
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If a head has fewer than two features, or ``window`` is no whole number of at
            least 1.
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
        generator: RandomSource = None,
    ) -> None:
        check_whole("window", window)
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

    def _halves(self, x: Tensor) -> tuple[Tensor, ...]:
        """The features of the global and those of the local half."""
        d_local = x.shape[3] - self.d_global
        return x.split([self.d_global, d_local], dim=3)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, **groups: Any
    ) -> Tensor:
        q_global, q_local = self._halves(q)
        k_global, k_local = self._halves(k)
        options = {"key_mask": key_mask, **groups}
        from_all = attend(q_global, k_global, v, pattern=self.pattern, **options)
        from_window = attend(q_local, k_local, v, pattern=self.local, **options)
        return from_all + from_window

    def _weigh(self, q: Tensor, k: Tensor, key_mask: Tensor | None) -> Tensor:
        q_global, q_local = self._halves(q)
        k_global, k_local = self._halves(k)
        of_all = weigh(q_global, k_global, pattern=self.pattern, key_mask=key_mask)
        of_window = weigh(q_local, k_local, pattern=self.local, key_mask=key_mask)
        return of_all + of_window

    def _make_cache(self, **sizes: Any) -> TokenCache:
        """One cache a half; the values in the window are stored twice."""
        from tsattn.nn.cache import HalvesCache

        d_local = self.score.d_key - self.d_global
        global_cache = self._make_pattern_cache(self.pattern, self.d_global, **sizes)
        local_cache = self._make_pattern_cache(self.local, d_local, **sizes)
        return HalvesCache(global_cache, local_cache)
