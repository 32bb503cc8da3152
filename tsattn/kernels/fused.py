"""Attention with its log-sum-exp, and its gradients, by torch's fused kernels or by plain torch.

This is the one place that calls private operators of torch. They are used only if they exist, take
the arguments of the calls here, and give the right numbers for a small example. Otherwise plain
torch computes the same slice by slice, so that memory stays linear in the number of tokens either
way.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tsattn.kernels.geometry import Gradients

# Queries, keys, values and result of a part of a call, and what is added to its scores.
Queries = Float[Tensor, "b h Lq K"]
Keys = Float[Tensor, "b h Lk K"]
Values = Float[Tensor, "b h Lk V"]
Attended = Float[Tensor, "b h Lq V"]
Bias = Float[Tensor, "#b #h #Lq Lk"]
# Added to the scores of a hidden key: its weight is exactly zero, and a row that sees no key has no
# NaN because the number is finite.
HIDDEN = -1e30
# Pairs of query and key in one slice of plain torch.
SLICE_PAIRS = 2**20
# Features of a head for which CUDA kernels exist; narrower and wider heads have none.
DEVICE_WIDTHS = range(8, 257, 8)
HALVES = (torch.float16, torch.bfloat16)
# Share of the weights that the kernels drop: none.
_DROPOUT = 0.0


# The operators forward and backward of each kind.
_OPERATORS = {
    "cpu": (
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "flash": (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_backward",
    ),
    "efficient": (
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_efficient_attention_backward",
    ),
}


def operators(kind: str) -> list[Any]:
    """Forward and backward operator of a kind.

    Args:
        kind: ``"cpu"``, ``"flash"`` or ``"efficient"``.

    Raises:
        AttributeError: If this version of torch lacks one.
    """
    return [getattr(torch.ops.aten, name).default for name in _OPERATORS[kind]]


@functools.lru_cache(maxsize=64)
def serves(kind: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a kind's operators exist and are right for a small example.

    The example takes the gradient with a result and a log-sum-exp that are not those of the forward
    pass. Parts of an attention rely on that, and no interface of torch promises it.

    Args:
        kind: ``"cpu"``, ``"flash"`` or ``"efficient"``.
        device: Where the operators would run.
        dtype: Type of the inputs.

    Returns:
        Whether the operators can be used.
    """
    options: dict[str, Any] = {"scale": 0.5, "causal": True}
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        # Five tensors [1 2 16 8] of fixed numbers: no generator is touched.
        numbers = torch.linspace(0, 300, 5 * 256, dtype=torch.float64, device="cpu").sin()
        q, k, v, out, grad = numbers.view(5, 1, 2, 16, 8)
        right_out, right_lse = _plain_forward(q, k, v, **options, bias=None)
        # The gradients are functions of any results, not only of those that fit.
        lse = right_lse + 0.5
        right_gradients = _plain_backward(grad, q, k, v, out, lse, **options, bias=None)
        q, k, v, out, grad = (x.to(device, dtype) for x in (q, k, v, out, grad))
        lse_dtype = torch.promote_types(dtype, torch.float32)
        lse = lse.to(device, lse_dtype)
        try:
            results = forward(q, k, v, **options, kind=kind)
            gradients = backward(grad, q, k, v, out, lse, **options, kind=kind)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
            # No such kernel in this build or for this device, or other arguments or results.
            return False
    if dtype in HALVES:
        tolerance = 0.1
    elif device.type == "cpu":
        tolerance = 1e-4
    else:
        tolerance = 1e-2  # a device may multiply float32 in a narrower format
    right_results = (right_out, right_lse, *right_gradients)
    for result, right in zip((*results, *gradients), right_results, strict=True):
        number = result.double().cpu()
        if not torch.allclose(number, right, tolerance, tolerance):
            return False
    return True


def choose(
    q: Queries,
    v: Float[Tensor, "b hv Lk V"],
    bias: Bias | None = None,
) -> str:
    """The operators that compute a call: ``cpu``, ``flash``, ``efficient``, or ``plain`` torch.

    Args:
        bias: Added to the scores.

    Returns:
        The kind.
    """
    kind = "plain"
    widths = {q.shape[3], v.shape[3]}
    if q.device.type == "cpu":
        kind = "cpu"
    elif q.device.type == "cuda" and bias is None and widths <= set(DEVICE_WIDTHS):
        flash = q.dtype in HALVES and len(widths) == 1
        kind = "flash" if flash else "efficient"
    if kind != "plain" and not serves(kind, q.device, q.dtype):
        kind = "plain"
    return kind


def pad(
    q: Queries, k: Float[Tensor, "b hk Lk K"], v: Float[Tensor, "b hv Lk V"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros appended to the narrower features where the fused kernel needs K = V; the same tensors
    where it does not.

    Differentiable. Zeros in q and k leave the scores unchanged, zeros in v give zeros at the end of
    the result.

    Returns:
        q, k and v.
    """
    key_width = q.shape[3]
    value_width = v.shape[3]
    if key_width == value_width or choose(q, v) != "cpu":
        return q, k, v
    width = max(key_width, value_width)
    return _widen(q, width), _widen(k, width), _widen(v, width)


def _widen(x: Tensor, width: int) -> Tensor:
    """Zeros appended to the features up to a width; x itself where it has that width."""
    n_missing = width - x.shape[3]
    if not n_missing:
        return x
    return torch.nn.functional.pad(x, (0, n_missing))


def dense_rows(*tensors: Tensor) -> list[Tensor]:
    """The same tensors with the features of a token side by side, as kernels read them."""
    return [x if x.stride(3) == 1 else x.contiguous() for x in tensors]


def empty_results(
    q: Queries, v: Values, dtype: torch.dtype
) -> tuple[Attended, Float[Tensor, "b h Lq 1"]]:
    """Uninitialised tensors for a result of some type and its log-sum-exp.

    Returns:
        The result, and the log-sum-exp in float32 at least.
    """
    work = torch.promote_types(q.dtype, torch.float32)
    rows = q.shape[:3]
    out = q.new_empty(*rows, v.shape[3], dtype=dtype)
    lse = q.new_empty(*rows, 1, dtype=work)
    return out, lse


def clear_hidden(out: Attended, lse: Float[Tensor, "b h Lq 1"]) -> None:
    """Set rows that see no key to zero, and their log-sum-exp so high that in their gradient all
    weights are zero.
    """
    empty_rows = lse < HIDDEN / 2
    out.masked_fill_(empty_rows, 0.0)
    lse.masked_fill_(empty_rows, -HIDDEN)


def forward(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    scale: float,
    causal: bool = False,
    bias: Bias | None = None,
    kind: str | None = None,
) -> tuple[Attended, Float[Tensor, "b h Lq"]]:
    """``softmax(scale * q @ k^T + bias) @ v`` and the logarithm of the sum that the softmax divides
    by.

    Not differentiable: :func:`backward` is the other half.

    Args:
        scale: Factor of the scores, above 0.
        causal: Query i sees keys 0 to i; needs Lq = Lk.
        bias: Added to the scores, in the type of q; :data:`HIDDEN` for a key that cannot be seen. A
            row that sees no key has a log-sum-exp near :data:`HIDDEN` and a result without meaning.
        kind: The operators; default :func:`choose`.

    Returns:
        The result in the type of q, and the log-sum-exp in float32 at least.

    Cost:
        b h Lq Lk (K + V) multiply-adds, half of that when causal; memory linear in the tokens.
    """
    kind = choose(q, v, bias) if kind is None else kind
    if kind == "plain":
        return _plain_forward(q, k, v, scale=scale, causal=causal, bias=bias)
    operator, _ = operators(kind)
    value_width = v.shape[3]
    q, k, v = pad(q, k, v)
    q, k, v = dense_rows(q, k, v)
    if kind == "cpu":
        out, lse = operator(q, k, v, _DROPOUT, causal, attn_mask=bias, scale=scale)
    elif kind == "flash":
        out, lse, *_ = operator(q, k, v, _DROPOUT, causal, False, scale=scale)
    else:
        out, lse, *_ = operator(q, k, v, None, True, _DROPOUT, causal, scale=scale)
        # The kernel rounds the rows up to whole tiles.
        n_queries = q.shape[2]
        lse = lse[:, :, :n_queries]
    return out[..., :value_width], lse


def backward(
    grad: Attended,
    q: Queries,
    k: Keys,
    v: Values,
    out: Attended,
    lse: Float[Tensor, "b h Lq"],
    *,
    scale: float,
    causal: bool = False,
    bias: Bias | None = None,
    kind: str | None = None,
) -> tuple[Queries, Keys, Values]:
    """Gradients of q, k and v from that of the result.

    The weights are ``exp(scale * q @ k^T + bias - lse)``. With ``out`` and ``lse`` of a whole
    attention and the keys of a part of it, this is the part's share of the gradients
    (docs/mathematics.md, section 4).

    Args:
        grad: Gradient of the result.
        out: The result.
        lse: Its log-sum-exp, in float32 at least.
        scale, causal, bias, kind: As in :func:`forward`.

    Returns:
        The three gradients, in the type of q.
    """
    kind = choose(q, v, bias) if kind is None else kind
    if kind == "plain":
        return _plain_backward(grad, q, k, v, out, lse, scale=scale, causal=causal, bias=bias)
    key_width = q.shape[3]
    value_width = v.shape[3]
    q, k, v = pad(q, k, v)
    width = v.shape[3]
    grad = _widen(grad, width)
    out = _widen(out, width)
    rows = dense_rows(grad, q, k, v, out)
    tensors = (*rows, lse)
    _, operator = operators(kind)
    if kind == "cpu":
        dq, dk, dv = operator(*tensors, _DROPOUT, causal, attn_mask=bias, scale=scale)
    elif kind == "flash":
        dq, dk, dv = _flash_backward(operator, tensors, scale, causal)
    else:
        dq, dk, dv = _efficient_backward(operator, tensors, scale, causal)
    return dq[..., :key_width], dk[..., :key_width], dv[..., :value_width]


def _flash_backward(
    operator: Any, tensors: tuple[Tensor, ...], scale: float, causal: bool
) -> Gradients:
    """Gradients of q, k and v by the kernel for narrow formats on devices, from
    ``(grad, q, k, v, out, lse)``.
    """
    grad, q, k, v, out, lse = tensors
    # Without dropout no number is drawn, so any seed serves.
    seed = torch.zeros(2, dtype=torch.uint64, device=q.device)
    lengths = (None, None, q.shape[2], k.shape[2])
    lse = lse.contiguous()
    dq, dk, dv = operator(
        *(grad, q, k, v, out, lse),
        *lengths,
        _DROPOUT,
        causal,
        seed,
        seed[:0],
        scale=scale,
    )
    return dq, dk, dv


def _efficient_backward(
    operator: Any, tensors: tuple[Tensor, ...], scale: float, causal: bool
) -> Gradients:
    """The same by the kernel for all formats on devices."""
    grad, q, k, v, out, lse = tensors
    # The kernel needs whole tiles of 32 rows; the weights of an added row are exp(-inf).
    n_missing = -lse.shape[2] % 32
    lse = torch.nn.functional.pad(lse, (0, n_missing), value=torch.inf)
    lse = lse.contiguous()
    seed = torch.zeros((), dtype=torch.int64, device=q.device)
    needs_gradients = [True, True, True, False]  # of q, k, v and the bias
    dq, dk, dv, _ = operator(
        *(grad, q, k, v, None, out, lse),
        seed,
        seed,
        _DROPOUT,
        needs_gradients,
        causal,
        scale=scale,
    )
    return dq, dk, dv


# Rows of the first axis, rows of queries, keys that count.
_Slice = tuple[slice, slice, slice]


def _slices(q: Tensor, k: Tensor, causal: bool) -> Iterator[_Slice]:
    """Slices of a call with at most :data:`SLICE_PAIRS` scores, and at least one row."""
    batch, n_heads, n_queries, _ = q.shape
    n_keys = k.shape[2]
    row_pairs = n_heads * n_keys
    n_rows = max(1, min(n_queries, SLICE_PAIRS // row_pairs))
    n_batch = max(1, SLICE_PAIRS // (row_pairs * n_queries))
    for first in range(0, batch, n_batch):
        sequences = slice(first, first + n_batch)
        for row in range(0, n_queries, n_rows):
            stop_row = min(row + n_rows, n_queries)
            # Under a causal mask no query of the slice sees a key after its last row.
            stop_key = stop_row if causal else n_keys
            yield sequences, slice(row, stop_row), slice(0, stop_key)


def _slice_scores(
    q: Tensor, k: Tensor, index: _Slice, *, scale: float, causal: bool, bias: Tensor | None
) -> Tensor:
    """Scores of a slice in float32 at least."""
    work = torch.promote_types(q.dtype, torch.float32)
    batch, rows, keys = index
    # Scaled before the product: queries are fewer numbers than scores.
    queries = q[batch, :, rows].to(work)
    queries = queries * scale
    slice_k = k[batch, :, keys].to(work)
    scores = queries @ slice_k.transpose(2, 3)
    if bias is not None:
        bias = bias.expand(q.shape[0], -1, q.shape[2], -1)
        scores.add_(bias[batch, :, rows, keys])
    if causal:
        positions = torch.arange(keys.stop, device=q.device)
        later = positions > positions[rows, None]
        scores.masked_fill_(later, -torch.inf)
    return scores


def _plain_forward(
    q: Tensor, k: Tensor, v: Tensor, *, scale: float, causal: bool, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    work = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(*q.shape[:3], v.shape[3])
    lse = q.new_empty(q.shape[:3], dtype=work)
    for index in _slices(q, k, causal):
        batch, rows, keys = index
        scores = _slice_scores(q, k, index, scale=scale, causal=causal, bias=bias)
        weights = torch.softmax(scores, dim=3)
        slice_v = v[batch, :, keys].to(work)
        attended = weights @ slice_v
        lse[batch, :, rows] = scores.logsumexp(dim=3)
        out[batch, :, rows] = attended.to(q.dtype)
    return out, lse


def _plain_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    *,
    scale: float,
    causal: bool,
    bias: Tensor | None,
) -> Gradients:
    work = torch.promote_types(q.dtype, torch.float32)
    dq, dk, dv = (x.new_zeros(x.shape, dtype=work) for x in (q, k, v))
    for index in _slices(q, k, causal):
        batch, rows, keys = index
        scores = _slice_scores(q, k, index, scale=scale, causal=causal, bias=bias)
        slice_lse = lse[batch, :, rows, None]
        weights = scores.sub_(slice_lse).exp_()
        slice_q, slice_grad, slice_out = (x[batch, :, rows].to(work) for x in (q, grad, out))
        slice_k, slice_v = (x[batch, :, keys].to(work) for x in (k, v))
        means = (slice_grad * slice_out).sum(dim=3, keepdim=True)
        dv[batch, :, keys] += weights.transpose(2, 3) @ slice_grad
        dw = slice_grad @ slice_v.transpose(2, 3)
        ds = dw.sub_(means).mul_(weights).mul_(scale)
        dq[batch, :, rows] = ds @ slice_k
        dk[batch, :, keys] += ds.transpose(2, 3) @ slice_q
    return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)
