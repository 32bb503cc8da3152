"""The bases of all structured matrices: products, counts, start values and learning rates."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tsattn.matrices.levels import (
    Level,
    apply_level,
    apply_transpose,
    block_starts,
    left_features,
    right_features,
)


class StructuredMatrix(nn.Module, ABC):
    """A matrix of ``n_out`` rows and ``n_in`` columns, or one a head, known by its cores.

    ``forward`` acts on the last axis like ``nn.Linear`` without bias. With ``heads`` every core has
    a leading axis of that length, and so has the axis before the last of every vector: ``x`` is
    [..., H, n_in], or [..., 1, n_in] to give all heads the same vector (``x.unsqueeze(-2)``);
    results are [..., H, n_out]. Nothing is guessed from sizes.

    A subclass must have ``forward`` and ``fan_in``; the other methods have defaults, slow ones.

    Args:
        n_in: Columns, at least 1.
        n_out: Rows, at least 1.
        heads: Number of matrices, or ``None`` for one without a head axis.

    Raises:
        ValueError: If a number is below 1.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, n_in: int, n_out: int, *, heads: int | None = None) -> None:
        super().__init__()
        for name, value in (("n_in", n_in), ("n_out", n_out), ("heads", heads)):
            if value is not None and (not isinstance(value, Integral) or value < 1):
                raise ValueError(
                    f"{name} of a structured matrix must be a whole number, at least 1; got"
                    f" {value!r}; give one"
                )
        self.n_in, self.n_out, self.heads = (
            int(n_in),
            int(n_out),
            None if heads is None else int(heads),
        )

    @abstractmethod
    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        """The product ``M x``."""

    @abstractmethod
    def fan_in(self) -> dict[str, float]:
        """Numbers that each entry of a core's product sums over, by the name of the parameter."""

    def to_dense(self) -> Float[Tensor, "*H n_out n_in"]:
        """All entries, differentiable: the product with every unit vector."""
        parameter = next(self.parameters())
        eye = torch.eye(self.n_in, dtype=parameter.dtype, device=parameter.device)
        if self.heads is None:
            return self(eye).T
        return self(eye[:, None, :]).permute(1, 2, 0)

    def rmatmul(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... n_in"]:
        """The transpose product ``M^T x``."""
        self.check_input(x, "n_out")
        return torch.einsum("...o,...oi->...i", x, self.to_dense())

    @property
    def splits(self) -> bool:
        """Whether both sides of a bilinear form become features; otherwise x meets ``M y``."""
        return False

    @property
    def n_features(self) -> int:
        """Length of :meth:`query_features` and :meth:`key_features`."""
        return self.n_out

    def query_features(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... features"]:
        """What ``x`` becomes so that its dot product with :meth:`key_features` of y is
        ``x^T M y``.
        """
        self.check_input(x, "n_out")
        return x

    def key_features(self, y: Float[Tensor, "... n_in"]) -> Float[Tensor, "... features"]:
        """The other side of :meth:`query_features`."""
        return self(y)

    def bilinear(
        self, x: Float[Tensor, "... n_out"], y: Float[Tensor, "... n_in"]
    ) -> Float[Tensor, "..."]:
        """The form ``x^T M y``, one number a pair of vectors (and a head)."""
        return (self.query_features(x) * self.key_features(y)).sum(dim=-1)

    @property
    def n_parameters(self) -> int:
        """Numbers that are stored, all heads together."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def flops(self) -> int:
        """Multiply-adds of one product, by formula, all heads together; fixed factors alpha are not
        counted.
        """
        return (self.heads or 1) * self.n_in * self.n_out

    def lr_multipliers(self, base_width: int) -> dict[str, float]:
        """Factor on the learning rate of each parameter, for Adam and its kin:
        ``base_width / fan_in``.

        The maximal-update rule for a dense map starts its entries with variance 1 / fan-in and
        moves them at a rate proportional to 1 / fan-in (Yang et al. 2022, Tensor Programs V, table
        3). Qiu et al. 2024 (Compute Better Spent, section 3) apply it to structured layers: each
        core is a batch of dense maps, with a fan-in of its own. So a rate found for a dense layer
        of ``base_width`` inputs serves the core after multiplication with this factor, at any
        width. Levels that add up share one left map, whose fan-in is the sum of their features.

        Args:
            base_width: Inputs of the dense layer at which the rate was found, at least 1.

        Returns:
            One factor per name of ``named_parameters()``.

        Raises:
            ValueError: If ``base_width`` is below 1.
        """
        if base_width < 1:
            raise ValueError(
                f"base_width must be at least 1; got {base_width}; give the width the rate was"
                " found at"
            )
        return {name: base_width / fan for name, fan in self.fan_in().items()}

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw every core anew, normal with variance 1 / fan-in: independent inputs of variance 1
        give such outputs.

        Args:
            generator: Source of the draws; ``None`` is torch's global one.
        """
        fans = self.fan_in()
        for name, parameter in self.named_parameters():
            parameter.normal_(0.0, fans[name] ** -0.5, generator=generator)

    def extra_repr(self) -> str:
        heads = "" if self.heads is None else f", heads={self.heads}"
        return f"n_in={self.n_in}, n_out={self.n_out}{heads}"

    def _core(self, *shape: int, dtype: torch.dtype | None) -> nn.Parameter:
        lead = () if self.heads is None else (self.heads,)
        return nn.Parameter(torch.empty(*lead, *shape, dtype=dtype, device="cpu"))

    def check_input(self, x: Tensor, side: str) -> None:
        """Refuse a vector that does not fit ``side``, "n_in" or "n_out".

        Raises:
            ValueError: If the last axis, or with heads the one before it, has another length.
        """
        size = getattr(self, side)
        if x.shape[-1:] != (size,):
            raise ValueError(
                f"the last axis must have {side} = {size} features; got shape {tuple(x.shape)}; "
                "transpose it or build the matrix for that size"
            )
        if self.heads is not None and (x.dim() < 2 or x.shape[-2] not in (1, self.heads)):
            raise ValueError(
                f"the axis before the last must be heads = {self.heads} or 1; got shape"
                f" {tuple(x.shape)}; x.unsqueeze(-2) gives every head the same vector"
            )


class Dense(StructuredMatrix):
    """A matrix without structure: the yardstick.

    Args:
        n_in: Columns.
        n_out: Rows.
        heads: Number of matrices; ``None`` is one without a head axis.
        generator: Source of the first values; ``None`` is torch's global one.
        dtype: Of the parameters; ``None`` is torch's default.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        heads: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        self.weight = self._core(n_out, n_in, dtype=dtype)
        self.reset_parameters(generator)

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        self.check_input(x, "n_in")
        return torch.einsum("...i,...oi->...o", x, self.weight)

    def to_dense(self) -> Float[Tensor, "*H n_out n_in"]:
        return self.weight

    def fan_in(self) -> dict[str, float]:
        return {"weight": float(self.n_in)}


class LeveledMatrix(StructuredMatrix):
    """A sum of levels, cores in ``left`` and ``right``; see :class:`tsattn.matrices.MLBTC`.

    Args:
        n_in: Columns.
        n_out: Rows.
        levels: The terms, at least one.
        heads, generator, dtype: As in :class:`tsattn.matrices.Dense`.

    Raises:
        ValueError: If there is no level, or one does not fit the sizes.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        levels: Sequence[Level],
        *,
        heads: int | None,
        generator: torch.Generator | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(n_in, n_out, heads=heads)
        if not levels:
            raise ValueError(
                "a multi-level matrix needs at least one level; got none; give a Level or a rank"
            )
        for level in levels:
            level.check(n_out, n_in)
        self.levels = tuple(levels)
        self.left = nn.ParameterList(
            [self._core(n_out, each.left_features, dtype=dtype) for each in levels]
        )
        self.right = nn.ParameterList(
            [self._core(n_in, each.right_features, dtype=dtype) for each in levels]
        )
        self.reset_parameters(generator)

    @property
    def _parts(self) -> list[tuple[Level, Tensor, Tensor]]:
        return list(zip(self.levels, self.left, self.right, strict=True))

    def forward(self, x: Float[Tensor, "... n_in"]) -> Float[Tensor, "... n_out"]:
        self.check_input(x, "n_in")
        first, *others = (apply_level(level, x, left, right) for level, left, right in self._parts)
        return sum(others, start=first)

    def rmatmul(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... n_in"]:
        self.check_input(x, "n_out")
        first, *others = (
            apply_transpose(level, x, left, right) for level, left, right in self._parts
        )
        return sum(others, start=first)

    @property
    def splits(self) -> bool:
        """Whether no level is shuffled: then each side has its own projections, side by side."""
        return not any(level.shuffled for level in self.levels)

    @property
    def n_features(self) -> int:
        """``sum(r_l p_l)`` where the form splits, otherwise ``n_out``."""
        return sum(level.n_features for level in self.levels) if self.splits else self.n_out

    def query_features(self, x: Float[Tensor, "... n_out"]) -> Float[Tensor, "... features"]:
        """Per-level projections side by side, or ``x`` itself where a shuffled level would make
        them wide.
        """
        self.check_input(x, "n_out")
        if not self.splits:
            return x
        return torch.cat(
            [
                left_features(level, x, left).flatten(-2) * level.alpha
                for level, left, _ in self._parts
            ],
            -1,
        )

    def key_features(self, y: Float[Tensor, "... n_in"]) -> Float[Tensor, "... features"]:
        """The other side of :meth:`query_features`."""
        if not self.splits:
            return self(y)
        self.check_input(y, "n_in")
        return torch.cat(
            [right_features(level, y, right).flatten(-2) for level, _, right in self._parts], -1
        )

    @property
    def flops(self) -> int:
        # Every stored number meets one number of the vector.
        return self.n_parameters

    def fan_in(self) -> dict[str, float]:
        fans: dict[str, float] = {}
        total = float(sum(level.left_features for level in self.levels))
        for i, level in enumerate(self.levels):
            fans |= {f"left.{i}": total, f"right.{i}": self.n_in / level.right_blocks}
        return fans

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw as the base class does, with each right block's own number of rows where blocks are
        uneven.
        """
        super().reset_parameters(generator)
        for level, right in zip(self.levels, self.right, strict=True):
            starts = block_starts(self.n_in, level.right_blocks)
            for start, stop in itertools.pairwise(starts):
                right[..., start:stop, :] *= (
                    self.n_in / level.right_blocks / (stop - start)
                ) ** 0.5
