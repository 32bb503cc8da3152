"""The variants that are timed, and the check of their numbers that comes before any time."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tsattn.kernels import attention

# Relative and absolute tolerance of float32 against the reference and against float64, as in the
# tests.
TOLERANCE = (1e-4, 1e-5)
# Longest sequence for which the reference may fill a matrix of scores.
GATE_LENGTH = 2048
# Longest sequence for which gradients are checked at the full size.
GRADIENT_LENGTH = 4096
# Queries that are checked at the full length.
ROWS = 16
# Ranks of the variants that need 64 features.
RANKS = {"mlr4": (32, 16, 8, 8), "mlr8": (32, 8, 6, 4, 4, 4, 4, 2)}
BILINEAR = ("bilinear_mlr", "bilinear_btt")
VARIANTS = ("standard", "sliding_window", "global_local", "mlr3", "mlr4", "mlr8", *BILINEAR)


class Case(NamedTuple):
    """Sizes of the standard attention that is the baseline: as many features for keys as for
    values.
    """

    batch: int
    heads: int
    length: int
    features: int

    @property
    def name(self) -> str:
        return "x".join(map(str, self))


class Part(NamedTuple):
    """One softmax over a slice of the features; a variant is the sum of its parts."""

    width: int
    ranks: tuple[int, ...] | None = None
    window: int | None = None


class Candidate(NamedTuple):
    """A variant that is compared with the baseline of a case; ``way`` is a backend of the
    kernels.
    """

    variant: str
    way: str
    causal: bool


class WrongNumbersError(Exception):
    """Outputs or gradients differ from the correct ones."""


def parts_of(variant: str, case: Case) -> tuple[Part, ...]:
    """The softmaxes of a variant at the sizes of a case; windows are an eighth of the sequence."""
    features = case.features
    window = max(1, case.length // 8)
    half = features // 2
    quarter = features // 4
    if variant == "sliding_window":
        return (Part(features, window=window),)
    if variant == "global_local":
        return Part(half), Part(features - half, window=window)
    if variant == "mlr3":
        return (Part(features, ranks=(half, quarter, features - half - quarter)),)
    if variant in RANKS:
        return (Part(features, ranks=RANKS[variant]),)
    # A bilinear form x M x' reaches the kernel as a dot product of more features: for MLR over the
    # model's width the sum of r_l p_l (here of half, a quarter and a quarter of K with 1, 2 and 4
    # blocks), for BTT x itself against M x'.
    widths = {
        "standard": features,
        "bilinear_mlr": half + 6 * quarter,
        "bilinear_btt": case.heads * features,
    }
    return (Part(widths[variant]),)


def compute(
    parts: Sequence[Part], q: Tensor, k: Tensor, v: Tensor, *, way: str, causal: bool
) -> Tensor:
    """A variant by the library's public function."""
    widths = [part.width for part in parts]
    results = []
    for part, q_part, k_part in zip(parts, q.split(widths, 3), k.split(widths, 3), strict=True):
        settings = {"ranks": part.ranks, "window": part.window}
        results.append(attention(q_part, k_part, v, causal=causal, backend=way, **settings))
    return sum(results[1:], start=results[0])


def make_inputs(case: Case, width: int, seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and the gradient of the result, standard normal."""
    generator = torch.Generator().manual_seed(seed)
    shape = (case.batch, case.heads, case.length)
    sizes = (width, width, case.features, case.features)
    q, k, v, grad = (torch.randn(*shape, size, generator=generator) for size in sizes)
    return [q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), grad]


def check(case: Case, candidate: Candidate) -> float:
    """Compare a candidate with the reference: a small version whole, and the last queries at the
    full sizes in float64.

    Gradients are compared too, up to GRADIENT_LENGTH.

    Returns:
        The largest error, as a share of its tensor's largest number where that is above 1.

    Raises:
        WrongNumbersError: If an error is beyond the tolerance.
        ValueError: If the backend cannot compute the variant.
    """
    small = Case(1, min(2, case.heads), min(case.length, GATE_LENGTH), case.features)
    # Bilinear features come from all heads of the case.
    parts = parts_of(candidate.variant, case if candidate.variant in BILINEAR else small)
    inputs = make_inputs(small, _width(parts), seed=1)
    results = _results(parts, inputs, candidate.way, candidate.causal)
    references = _results(parts, inputs, "reference", candidate.causal)
    errors = _compare(results, references, f"the reference at {small.name}")
    errors += _check_last(case, candidate)
    return max(errors)


def _width(parts: Sequence[Part]) -> int:
    """Features of queries and keys of all parts."""
    return sum(part.width for part in parts)


def _results(
    parts: Sequence[Part], inputs: Sequence[Tensor], way: str, causal: bool
) -> list[Tensor]:
    """The output, and the gradients of queries, keys and values."""
    *tensors, grad = inputs
    out = compute(parts, *tensors, way=way, causal=causal)
    return [out.detach(), *torch.autograd.grad(out, tensors, grad)]


def _compare(
    results: Iterable[Tensor], references: Iterable[Tensor], reference_name: str
) -> list[float]:
    """Errors of output and gradients; the absolute tolerance of a gradient grows with its largest
    number.
    """
    relative, absolute = TOLERANCE
    names = ("the output", "the gradient of q", "the gradient of k", "the gradient of v")
    errors = []
    # Results without gradients are compared by their output alone.
    for name, result, reference in zip(names, results, references, strict=False):
        largest = max(1.0, reference.abs().max().item())
        gap = (result.to(reference.dtype) - reference).abs()
        absolute_part = absolute if name == "the output" else absolute * largest
        within = gap <= relative * reference.abs() + absolute_part
        # NaN is not within the tolerance.
        if not bool(within.all()):
            raise WrongNumbersError(
                f"{name} is off by {gap.max().item():.1e} from {reference_name}"
            )
        errors.append(gap.max().item() / largest)
    return errors


def _check_last(case: Case, candidate: Candidate) -> list[float]:
    """Errors of the last queries of one head; without gradients beyond GRADIENT_LENGTH, where a
    backward pass would take longer than everything else.
    """
    parts = parts_of(candidate.variant, case)
    *tensors, grad = make_inputs(case, _width(parts), seed=2)
    generator = np.random.default_rng(case.length)
    sequence = generator.integers(case.batch)
    head = generator.integers(case.heads)
    rows = slice(max(case.length - ROWS, 0), case.length)
    q, k, v = (x[sequence, head][None, None].detach().double() for x in tensors)
    reference_inputs = [
        q[..., rows, :].requires_grad_(),
        k.requires_grad_(),
        v.requires_grad_(),
        grad[sequence, head, rows][None, None].double(),
    ]
    reference_results = _results(parts, reference_inputs, "reference", candidate.causal)
    references = [result[0, 0] for result in reference_results]
    reference_name = f"float64 at {case.name}"
    if case.length > GRADIENT_LENGTH:
        with torch.no_grad():
            out = compute(parts, *tensors, way=candidate.way, causal=candidate.causal)
        return _compare([out[sequence, head, rows]], references, reference_name)
    # Only the last queries of the head have a gradient.
    sparse_grad = torch.zeros_like(grad)
    sparse_grad[sequence, head, rows] = grad[sequence, head, rows]
    results = _results(parts, [*tensors, sparse_grad], candidate.way, candidate.causal)
    out, q_grad, k_grad, v_grad = (result[sequence, head] for result in results)
    return _compare([out[rows], q_grad[rows], k_grad, v_grad], references, reference_name)
