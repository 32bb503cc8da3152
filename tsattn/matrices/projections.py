"""Which member of a structured family is nearest to a given matrix?"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.matrices.levels import Level, apply_level, block_starts, join_blocks, split_blocks

# Up to so many unknowns a problem is small: a Gauss-Newton step is solved by a dense factorisation.
_FEW = 512
# A small problem that ends below this relative error, but not at zero, is tried again from so many other starts.
_CLOSE = 0.05
_RESTARTS = 8


def truncated_svd(weight: Float[Tensor, "*B n m"], rank: int) -> tuple[Tensor, Tensor]:
    """Best approximation of a given rank, ``left @ right^T`` (Eckart and Young 1936), singular values shared evenly.

    Args:
        rank: Columns of both factors; those above the smaller side are zero.

    Returns:
        ``left`` [*B, n, rank] and ``right`` [*B, m, rank].
    """
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    kept = min(rank, s.shape[-1])
    root = s[..., None, :kept].sqrt()
    pad = (0, rank - kept)
    left, right = u[..., :kept] * root, vh[..., :kept, :].transpose(-1, -2) * root
    return torch.nn.functional.pad(left, pad), torch.nn.functional.pad(right, pad)


def project_level(level: Level, weight: Float[Tensor, "n m"]) -> tuple[Tensor, Tensor]:
    """Cores of the level nearest to ``weight`` in the Frobenius norm: one truncated SVD per (pair of) block(s).

    Blocks are disjoint, so the best level is made of the best blocks.
    """
    weight = weight / level.alpha
    if not level.shuffled:
        rows = split_blocks(split_blocks(weight, level.left_blocks, -2), level.right_blocks, -1)  # [p n/p p m/p]
        left, right = truncated_svd(rows.diagonal(dim1=0, dim2=2).movedim(-1, 0), level.rank)
        return join_blocks(left, weight.shape[0], -2), join_blocks(right, weight.shape[1], -2)
    blocks = weight.unflatten(1, (level.right_blocks, -1)).unflatten(0, (-1, level.left_blocks))  # [a b c d]
    left, right = truncated_svd(blocks.permute(1, 2, 0, 3), level.rank)  # [b c a s], [b c d s]
    return left.transpose(1, 2).flatten(2).flatten(0, 1), right.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)


def nearest_kronecker(weight: Float[Tensor, "n m"], factors: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Cores A [a c] and B [b d] whose Kronecker product is nearest (Van Loan and Pitsianis 1993).

    The entries are rearranged so that a Kronecker product becomes a matrix of rank one.
    """
    a, b, c, d = factors
    rearranged = weight.view(a, b, c, d).transpose(1, 2).reshape(a * c, b * d)
    left, right = truncated_svd(rearranged, 1)
    return left.view(a, c), right.view(b, d)


def peel_butterfly(weight: Float[Tensor, "n n"]) -> Float[Tensor, "stages pairs 2 2"]:
    """Butterfly factors of a matrix, exact for a butterfly: one factor after the other by SVDs of rank one.

    With the first factor F taken off, ``weight = X F``, column 2j + u of X lives on the rows of parity u only, so the
    rows of parity u and the columns (2j, 2j + 1) of ``weight`` are one column of X times row u of F's j-th block:
    rank one. What remains of X are two butterflies of half the size, one for each parity (the recursion of Le, Zheng,
    Riccietti and Gribonval 2022). Rows of F are kept at length one, so that the errors of all steps are orthogonal.
    """
    n = weight.shape[0]
    rest, stages = weight[None], []  # [parities of the bits peeled, size, size]
    while rest.shape[1] > 2:
        n_rest, size, _ = rest.shape
        tall = rest.view(n_rest, size // 2, 2, size // 2, 2).permute(0, 2, 3, 1, 4)  # [rest u j rows v]
        u, s, vh = torch.linalg.svd(tall, full_matrices=False)
        stages.append(vh[..., 0, :].permute(2, 0, 1, 3))  # [j rest u v]
        # The bit just peeled is the highest of the number of a rest, since positions are read from the lowest bit up.
        rest = (u[..., 0] * s[..., :1]).permute(1, 0, 3, 2).flatten(0, 1)  # [(u rest) rows j]
    stages.append(rest[None])
    factors = torch.stack([stage.reshape(n // 2, 2, 2) for stage in stages])
    # All the size sits in the last factor: share it.
    norms = factors.flatten(1).norm(dim=1)
    return factors if norms.min() == 0 else factors * (norms.log().mean().exp() / norms)[:, None, None, None]


@dataclass
class LevelFit:
    """Cores of each level, and the relative error after each step of the fit (never rising)."""

    lefts: list[Tensor]
    rights: list[Tensor]
    errors: list[float] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """Whether a Gauss-Newton step can be solved by a dense factorisation."""
        return sum(core.numel() for core in (*self.lefts, *self.rights)) <= _FEW


class _Problem:
    """Least squares in the cores of several levels, matrix-free."""

    def __init__(self, levels: Sequence[Level], weight: Tensor) -> None:
        self.levels, self.weight = levels, weight
        self.eye = torch.eye(weight.shape[1], dtype=weight.dtype)
        self.norm = float(weight.norm()) or 1.0

    def part(self, index: int, left: Tensor, right: Tensor) -> Tensor:
        return apply_level(self.levels[index], self.eye, left, right).T

    def dense(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Tensor:
        parts = [self.part(i, left, right) for i, (left, right) in enumerate(zip(lefts, rights, strict=True))]
        return torch.stack(parts).sum(dim=0)

    def error(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> float:
        return float((self.weight - self.dense(lefts, rights)).norm()) / self.norm

    def zeros(self) -> tuple[list[Tensor], list[Tensor]]:
        (n_out, n_in), new = self.weight.shape, self.weight.new_zeros
        return [new(n_out, v.left_features) for v in self.levels], [new(n_in, v.right_features) for v in self.levels]

    def transpose_map(self, lefts: Sequence[Tensor], rights: Sequence[Tensor]) -> Callable[[Tensor], list[Tensor]]:
        """The transpose of the derivative of ``dense`` at these cores, as a function."""
        with torch.enable_grad():
            cores = [core.detach().requires_grad_() for core in (*lefts, *rights)]
            out = self.dense(cores[: len(lefts)], cores[len(lefts) :])
        return lambda residual: list(torch.autograd.grad(out, cores, residual, retain_graph=True))


def _sweep(problem: _Problem, fit: LevelFit, n_sweeps: int) -> None:
    """Exact minimisation over one level at a time: its block SVDs of what the others leave. The error cannot rise."""
    parts = [problem.part(i, *cores) for i, cores in enumerate(zip(fit.lefts, fit.rights, strict=True))]
    for _ in range(n_sweeps):
        for i, level in enumerate(problem.levels):
            others = [part for j, part in enumerate(parts) if j != i]
            fit.lefts[i], fit.rights[i] = project_level(level, problem.weight - sum(others))
            parts[i] = problem.part(i, fit.lefts[i], fit.rights[i])
        fit.errors.append(problem.error(fit.lefts, fit.rights))


def _best_single(problem: _Problem) -> LevelFit:
    """The level that does best alone; the others are zero."""
    fits = []
    for i, level in enumerate(problem.levels):
        lefts, rights = problem.zeros()
        lefts[i], rights[i] = project_level(level, problem.weight)
        fits.append(LevelFit(lefts, rights, [problem.error(lefts, rights)]))
    return min(fits, key=lambda fit: fit.errors[-1])


def _completed(weight: Tensor, cuts: Sequence[tuple[slice, slice]], rank: int) -> Tensor:
    """Fill in blocks of a matrix of low rank that another level has covered, where the rest determines them.

    Outside the cuts only the one level speaks, and gives its column space U and row space V in every block. With
    complements P and Q the block W is ``U C V^T`` plus a matrix of lower rank, and that rank is least for the Schur
    complement ``C = U^T W V - (U^T W Q) (P^T W Q)^+ (P^T W V)``.
    """
    filled = weight.clone()
    for rows, columns in cuts:
        beside = torch.cat([weight[rows, : columns.start], weight[rows, columns.stop :]], dim=1)
        above = torch.cat([weight[: rows.start, columns], weight[rows.stop :, columns]], dim=0)
        u, p = torch.linalg.svd(beside)[0].tensor_split([rank], dim=1)
        v, q = torch.linalg.svd(above)[2].T.tensor_split([rank], dim=1)
        block = weight[rows, columns]
        inner = torch.linalg.pinv(p.T @ block @ q, rtol=1e-10)
        filled[rows, columns] = u @ (u.T @ block @ v - (u.T @ block @ q) @ inner @ (p.T @ block @ v)) @ v.T
    return filled


def _overlaps(start: int, stop: int, starts: Sequence[int]) -> list[slice]:
    """Which part of each block lies between two rows, counted from the first of them."""
    ends = itertools.pairwise(starts)
    return [slice(max(first, start) - start, max(min(last, stop), start, first) - start) for first, last in ends]


def _completion_start(problem: _Problem, first: int) -> LevelFit | None:
    """Start for two unshuffled levels: complete one where the other covers it, and give the other what is left.

    ``None`` where a block of the first level is covered whole, as it is when that is the finer one.
    """
    second = 1 - first
    starts = [[block_starts(size, level.left_blocks) for size in problem.weight.shape] for level in problem.levels]
    filled = torch.zeros_like(problem.weight)
    for (top, bottom), (begin, end) in zip(*(itertools.pairwise(each) for each in starts[first]), strict=True):
        covers = zip(_overlaps(top, bottom, starts[second][0]), _overlaps(begin, end, starts[second][1]), strict=True)
        cuts = [(r, c) for r, c in covers if r.stop > r.start and c.stop > c.start]
        if any((r.stop - r.start, c.stop - c.start) == (bottom - top, end - begin) for r, c in cuts):
            return None
        block = problem.weight[top:bottom, begin:end]
        filled[top:bottom, begin:end] = _completed(block, cuts, problem.levels[first].rank)
    lefts, rights = problem.zeros()
    lefts[first], rights[first] = project_level(problem.levels[first], filled)
    rest = problem.weight - problem.part(first, lefts[first], rights[first])
    lefts[second], rights[second] = project_level(problem.levels[second], rest)
    return LevelFit(lefts, rights, [problem.error(lefts, rights)])


def _completion_starts(problem: _Problem) -> list[LevelFit]:
    """The algebraic starts there are."""
    if len(problem.levels) != 2 or any(level.shuffled for level in problem.levels):
        return []
    return [fit for first in range(2) if (fit := _completion_start(problem, first)) is not None]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))


def _damped_step(problem: _Problem, fit: LevelFit, damping: float, tolerance: float) -> list[Tensor]:
    """Levenberg-Marquardt step in all cores, by conjugate gradients preconditioned with the diagonal."""
    n = len(fit.lefts)
    back = problem.transpose_map(fit.lefts, fit.rights)
    residual = back(problem.weight - problem.dense(fit.lefts, fit.rights))
    # The derivative's squared column lengths: the same map at the squared cores, applied to ones.
    squares = problem.transpose_map([x * x for x in fit.lefts], [x * x for x in fit.rights])
    diagonal = [x.abs() for x in squares(torch.ones_like(problem.weight))]
    floor = 1e-8 * max(float(x.max()) for x in diagonal) + 1e-300
    diagonal = [x + floor for x in diagonal]
    step = [torch.zeros_like(x) for x in residual]
    scaled = [r / d for r, d in zip(residual, diagonal, strict=True)]
    search, size = scaled, _dot(residual, scaled)
    start = size
    for _ in range(200):
        if size <= tolerance**2 * start:
            break
        forward = problem.dense(search[:n], fit.rights) + problem.dense(fit.lefts, search[n:])
        normal = [m + damping * d * s for m, d, s in zip(back(forward), diagonal, search, strict=True)]
        length = size / _dot(search, normal)
        step = [x + length * s for x, s in zip(step, search, strict=True)]
        residual = [r - length * m for r, m in zip(residual, normal, strict=True)]
        scaled = [r / d for r, d in zip(residual, diagonal, strict=True)]
        before, size = size, _dot(residual, scaled)
        search = [z + (size / before) * s for z, s in zip(scaled, search, strict=True)]
    return step


def _exact_step(problem: _Problem, fit: LevelFit, damping: float) -> list[Tensor]:
    """The same step for few unknowns, by the QR factors of the derivative, written out."""
    columns, cores = [], (*fit.lefts, *fit.rights)
    for i, core in enumerate(cores):
        units = torch.eye(core.numel(), dtype=core.dtype).view(-1, *core.shape)  # one direction a row
        level = i % len(fit.lefts)
        pair = (units, fit.rights[level]) if i < len(fit.lefts) else (fit.lefts[level], units)
        out = apply_level(problem.levels[level], problem.eye[:, None, :], *pair)  # [m unknowns n]
        columns.append(out.permute(2, 0, 1).flatten(0, 1))
    derivative = torch.cat(columns, dim=1)
    lengths = derivative.square().sum(dim=0)
    ridge = (damping * (lengths + 1e-8 * lengths.max() + 1e-300)).sqrt().diag()
    residual = (problem.weight - problem.dense(fit.lefts, fit.rights)).flatten()
    target = torch.cat([residual, residual.new_zeros(len(ridge))])[:, None]
    step = torch.linalg.lstsq(torch.cat([derivative, ridge]), target).solution[:, 0]
    pieces = step.split([core.numel() for core in cores])
    return [piece.view_as(core) for piece, core in zip(pieces, cores, strict=True)]


def _polish(problem: _Problem, fit: LevelFit, n_steps: int, tolerance: float) -> None:
    """Damped Gauss-Newton steps, each kept only when it lowers the error, each followed by one sweep.

    Sweeps alone converge linearly and stall; these steps are quadratic near a member. The sweep after a step also
    brings every level back to shared singular values, which is what makes the diagonal a good preconditioner.
    """
    n, damping, lately = len(fit.lefts), 1e-3, [fit.errors[-1]]
    for _ in range(n_steps):
        error = fit.errors[-1]
        if error <= tolerance:
            return
        if fit.small:
            step = _exact_step(problem, fit, damping)
        else:
            step = _damped_step(problem, fit, damping, min(1e-2, error))
        lefts = [x + s for x, s in zip(fit.lefts, step[:n], strict=True)]
        rights = [x + s for x, s in zip(fit.rights, step[n:], strict=True)]
        tried = problem.error(lefts, rights)
        if tried < error:
            damping = max(damping / (10 if tried < 0.5 * error else 3), 1e-14)
            fit.lefts, fit.rights = lefts, rights
            fit.errors.append(tried)
            _sweep(problem, fit, 1)
        else:
            damping *= 5
        lately = [*lately[-7:], fit.errors[-1]]
        if len(lately) == 8 and lately[-1] > lately[0] * (0.999 if fit.small else 0.99):
            return


def _restart(problem: _Problem, fit: LevelFit, n_steps: int, tolerance: float) -> LevelFit:
    """Try other starts where a small problem has come close without arriving, and keep the best.

    Where the levels' ranks together exceed a block, valleys that lead nowhere are common and a fresh draw avoids them.
    """
    generator = torch.Generator().manual_seed(0)
    scale = (problem.norm / sum(core.numel() for core in (*fit.lefts, *fit.rights))) ** 0.5
    for _ in range(_RESTARTS):
        if not tolerance < fit.errors[-1] < _CLOSE:
            break
        lefts, rights = (
            [torch.randn(core.shape, generator=generator, dtype=core.dtype) * scale for core in cores]
            for cores in (fit.lefts, fit.rights)
        )
        fresh = LevelFit(lefts, rights)
        _sweep(problem, fresh, 5)
        _polish(problem, fresh, n_steps, tolerance)
        if fresh.errors[-1] < fit.errors[-1]:
            fit = LevelFit(fresh.lefts, fresh.rights, [*fit.errors, fresh.errors[-1]])
    return fit


def fit_levels(
    levels: Sequence[Level],
    weight: Float[Tensor, "n m"],
    *,
    n_sweeps: int = 10,
    n_steps: int | None = None,
    tolerance: float = 1e-13,
) -> LevelFit:
    """Fit the sum of several levels to a matrix; no closed form is known for more than one.

    Starts from the level that does best alone, sweeps over the levels (each one the exact minimum given the others),
    takes the algebraic start of :func:`_completed` where there is one and it is better, and ends with damped
    Gauss-Newton steps in all cores. The error never rises; it is a local minimum that is found, and for members with
    two levels, as a rule, the member.

    Args:
        levels: The terms to be summed.
        weight: The matrix, in float64.
        n_sweeps: Sweeps over the levels at the start.
        n_steps: Gauss-Newton steps at most; ``None`` is 200 for a small problem and 50 for a larger one.
        tolerance: Relative error at which to stop.

    Returns:
        The cores and the trace of relative errors, which starts at that of the best single level.
    """
    with torch.no_grad():
        problem = _Problem(levels, weight)
        fit = _best_single(problem)
        if len(levels) == 1 or fit.errors[-1] <= tolerance:
            return fit
        _sweep(problem, fit, n_sweeps)
        for other in _completion_starts(problem):
            if other.errors[-1] < fit.errors[-1]:
                fit = LevelFit(other.lefts, other.rights, fit.errors + other.errors)
        n_steps = (200 if fit.small else 50) if n_steps is None else n_steps
        _polish(problem, fit, n_steps, tolerance)
        if fit.small:
            fit = _restart(problem, fit, n_steps, tolerance)
    return fit
