"""MLR scores over parts that each sequence brings along, such as the phases of its season."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tsattn.nn.rotary import RotaryEmbedding
from tsattn.nn.scores import DotScore, level_ranks


@dataclass(frozen=True, eq=False)
class Places:
    """Where the tokens of each sequence of a batch stand, the same for all layers (:meth:`GroupLevelScore.place`).

    Args:
        groups: Parts of the levels after the first, [L] or [B L] each.
        angles: By which queries and keys are turned, or nothing.
    """

    groups: tuple[Int[Tensor, "... L"], ...]
    angles: tuple[Float[Tensor, "... L K"], Float[Tensor, "... L K"]] | None = None


class GroupLevelScore(DotScore):
    """MLR score over parts that each sequence brings along: feature slice l counts where two tokens share a part.

    Parts may be near tokens, tokens of one cycle of a season, or tokens of one phase (docs/mathematics.md, section
    3). With one rank it is the ordinary score, turned by the given positions.

    Args:
        d_model: Token width.
        n_heads: Heads.
        ranks: Features per level, summing to ``d_model // n_heads``; the first counts everywhere.
        rotary_base: Longest wave length of the rotary embedding over 2 pi, in tokens; ``None`` turns nothing.
        norm: Normalise queries and keys over the features of each head (layer norm).
        generator: Source of the start values; ``None`` is torch's global one.

    Raises:
        ValueError: If ranks do not sum to the width of a head, or one is odd where there is a rotary embedding.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        ranks: tuple[int, ...],
        rotary_base: float | None = 10_000.0,
        norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(d_model, n_heads, norm=norm, generator=generator)
        self.ranks = level_ranks(self.d_key, ranks, None)
        self.rotary = None if rotary_base is None else RotaryEmbedding(self.ranks, base=rotary_base)

    def place(
        self, groups: Sequence[Int[Tensor, "... L"]], positions: Sequence[Float[Tensor, "... L"]] | None = None
    ) -> Places:
        """What every layer of these ranks needs to know about the tokens.

        Args:
            groups: Parts of the levels after the first, [L] or [B L] each; a negative number is in no part.
            positions: Where each level's features turn to, one tensor a level; not read without rotary embedding.

        Raises:
            ValueError: If there are not as many groups or positions as the levels need.
        """
        if len(groups) != len(self.ranks) - 1:
            raise ValueError(
                f"levels after the first need one group each; got {len(groups)} for ranks {self.ranks}; give each one"
            )
        if self.rotary is None:
            return Places(tuple(groups))
        if positions is None or len(positions) != len(self.ranks):
            raise ValueError(f"a rotary embedding of ranks {self.ranks} needs one tensor of positions a level")
        return Places(tuple(groups), self.rotary.angles(positions, dtype=self.project.weight.dtype))

    @property
    def kernel_arguments(self) -> dict[str, Any]:
        """Ranks and scale for the kernel; the groups come with each call."""
        return {**super().kernel_arguments, "ranks": self.ranks}

    def check_context(self) -> None:
        """Refuse keys of another sequence.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "level scores compare parts of one sequence, and queries and keys here come from two; use DotScore or"
            " BilinearScore for cross-attention"
        )

    def features_at(
        self, x: Float[Tensor, "B L D"], places: Places, n_last: int | None = None
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk L K"]]:
        """Queries of the last tokens (default: of all) and keys of all."""
        width = self.n_heads * self.d_key
        if n_last is None:
            q, k = self.project(x).split([width, self.n_key_heads * self.d_key], dim=2)
        else:
            weight, bias = self.project.weight, self.project.bias
            q = nn.functional.linear(x[:, x.shape[1] - n_last :], weight[:width], bias[:width])
            k = nn.functional.linear(x, weight[width:], bias[width:])
        q, k = self.by_head(q, k)
        if self.rotary is not None and places.angles is not None:
            here = tuple(part[..., part.shape[-2] - q.shape[2] :, :] for part in places.angles)
            q, k = self.rotary.turn(q, (here[0], here[1])), self.rotary.turn(k, places.angles)
        return q, k

    def features(
        self, x: Float[Tensor, "B Lq D"], context: Float[Tensor, "B Lk D"] | None = None, *, start: int = 0
    ) -> tuple[Float[Tensor, "B H Lq K"], Float[Tensor, "B Hk Lk K"]]:
        """Refused: the parts of the tokens have to be told.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a score by groups needs to know the parts of its tokens; call the layer with places=")

    def extra_repr(self) -> str:
        return f"ranks={self.ranks}"
