"""One part of attention, its log-sum-exp and its gradients by torch's fused kernels, or by plain
torch without them.

This is the one place that calls private operators of torch. They serve only if they exist with the
arguments known here and give the right numbers for a small example; otherwise the same is computed
in plain torch, slice by slice, so that memory stays linear in the number of tokens either way.
"""

import functools
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# What a hidden key adds to its scores: enough to weigh nothing, and finite so that a part that sees
# nothing has no NaN.
HIDDEN = -1e30
# Pairs of one slice of plain torch.
SLICE_PAIRS = 2**20
# Narrow and very wide heads have no CUDA kernel.
DEVICE_WIDTHS = range(8, 257, 8)
HALVES = (torch.float16, torch.bfloat16)

_QKV = ("Tensor query", "Tensor key", "Tensor value")
_SEEDS = ("Tensor philox_seed", "Tensor philox_offset")
# kind -> (name, arguments relied on, number of results) of the operators forward and backward.
# Further arguments are welcome as long as they have defaults.
_OPERATORS = {
    "cpu": (
        (
            "_scaled_dot_product_flash_attention_for_cpu",
            (
                *_QKV,
                "float dropout_p",
                "bool is_causal",
                "Optional[Tensor] attn_mask",
                "Optional[float] scale",
            ),
            2,
        ),
        (
            "_scaled_dot_product_flash_attention_for_cpu_backward",
            (
                *(
                    "Tensor grad_out",
                    *_QKV,
                    "Tensor out",
                    "Tensor logsumexp",
                    "float dropout_p",
                    "bool is_causal",
                ),
                *("Optional[Tensor] attn_mask", "Optional[float] scale"),
            ),
            3,
        ),
    ),
    "flash": (
        (
            "_scaled_dot_product_flash_attention",
            (
                *_QKV,
                "float dropout_p",
                "bool is_causal",
                "bool return_debug_mask",
                "Optional[float] scale",
            ),
            9,
        ),
        (
            "_scaled_dot_product_flash_attention_backward",
            (
                *(
                    "Tensor grad_out",
                    *_QKV,
                    "Tensor out",
                    "Tensor logsumexp",
                    "Tensor cum_seq_q",
                    "Tensor cum_seq_k",
                ),
                *(
                    "int max_q",
                    "int max_k",
                    "float dropout_p",
                    "bool is_causal",
                    *_SEEDS,
                    "Optional[float] scale",
                ),
            ),
            3,
        ),
    ),
    "efficient": (
        (
            "_scaled_dot_product_efficient_attention",
            (
                *(
                    *_QKV,
                    "Optional[Tensor] attn_bias",
                    "bool compute_log_sumexp",
                    "float dropout_p",
                    "bool is_causal",
                ),
                "Optional[float] scale",
            ),
            4,
        ),
        (
            "_scaled_dot_product_efficient_attention_backward",
            (
                *(
                    "Tensor grad_out_",
                    *_QKV,
                    "Tensor attn_bias",
                    "Tensor out",
                    "Tensor logsumexp",
                    *_SEEDS,
                ),
                *(
                    "float dropout_p",
                    "List[bool] grad_input_mask",
                    "bool is_causal",
                    "Optional[float] scale",
                ),
            ),
            4,
        ),
    ),
}


@functools.lru_cache(maxsize=16)
def operators(kind: str) -> tuple[Any, Any] | None:
    """Forward and backward operator of a kind, or nothing where this torch lacks one or calls it
    differently.

    Args:
        kind: ``"cpu"``, ``"flash"`` or ``"efficient"``.

    Returns:
        The two operators, or ``None``.
    """
    found = []
    for name, wanted, n_results in _OPERATORS[kind]:
        operator = getattr(getattr(torch.ops.aten, name, None), "default", None)
        if operator is None or not _fits(operator._schema, wanted, n_results):
            return None
        found.append(operator)
    return found[0], found[1]


def _fits(schema: Any, wanted: tuple[str, ...], n_results: int) -> bool:
    """Does an operator take exactly these arguments in this order, beside others that may be left
    out?
    """
    needed = [f"{x.type} {x.name}" for x in schema.arguments if f"{x.type} {x.name}" in wanted]
    optional = all(
        x.has_default_value() for x in schema.arguments if f"{x.type} {x.name}" not in wanted
    )
    return needed == list(wanted) and optional and len(schema.returns) == n_results


@functools.lru_cache(maxsize=64)
def serves(kind: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Do a kind's operators exist, and are they right for a small example?

    The example has the gradient taken with a result and a log-sum-exp that are not those of the
    forward pass, for that is what parts of an attention rely on and no interface promises.

    Args:
        kind: ``"cpu"``, ``"flash"`` or ``"efficient"``.
        device: Where the operators would run.
        dtype: Type of the inputs.

    Returns:
        Whether the operators can be used.
    """
    if operators(kind) is None:
        return False
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        # [1 2 16 8] of fixed numbers: no generator is touched.
        q, k, v, out, grad = (
            torch.linspace(0, 300, 5 * 256, dtype=torch.float64, device="cpu")
            .sin()
            .view(5, 1, 2, 16, 8)
        )
        right: tuple[Tensor, ...] = _plain_forward(q, k, v, 0.5, True, None)
        lse = right[1] + 0.5
        right += _plain_backward(grad, q, k, v, out, lse, scale=0.5, causal=True, bias=None)
        q, k, v, out, grad = (x.to(device, dtype) for x in (q, k, v, out, grad))
        lse = lse.to(device, torch.promote_types(dtype, torch.float32))
        try:
            got: tuple[Tensor, ...] = forward(q, k, v, scale=0.5, causal=True, kind=kind)
            got += backward(grad, q, k, v, out, lse, scale=0.5, causal=True, kind=kind)
        except (NotImplementedError, RuntimeError, TypeError):
            return False  # no such kernel in this build or for this device
    # Other devices may be allowed to multiply float32 in a narrower format.
    near = 0.1 if dtype in HALVES else 1e-4 if device.type == "cpu" else 1e-2
    return all(
        torch.allclose(a.double().cpu(), b, near, near) for a, b in zip(got, right, strict=True)
    )


def choose(
    q: Float[Tensor, "b h Lq K"],
    v: Float[Tensor, "b hv Lk V"],
    bias: Float[Tensor, "#b #h #Lq Lk"] | None = None,
) -> str:
    """Which operators compute this: ``cpu``, ``flash``, ``efficient``, or ``plain`` torch.

    Args:
        bias: What is added to the scores.

    Returns:
        The kind.
    """
    kind = "plain"
    if q.device.type == "cpu":
        kind = "cpu"
    elif (
        q.device.type == "cuda" and bias is None and {q.shape[3], v.shape[3]} <= set(DEVICE_WIDTHS)
    ):
        kind = "flash" if q.dtype in HALVES and q.shape[3] == v.shape[3] else "efficient"
    return kind if kind != "plain" and serves(kind, q.device, q.dtype) else "plain"


def pad(
    q: Float[Tensor, "b h Lq K"], k: Float[Tensor, "b hk Lk K"], v: Float[Tensor, "b hv Lk V"]
) -> tuple[Tensor, Tensor, Tensor]:
    """Zeros after the narrower features where the fused kernel wants K = V; the same tensors where
    it does not.

    Differentiable. Zeros in q and k leave the scores as they are, zeros in v come back as zeros at
    the end.

    Returns:
        q, k and v.
    """
    more = v.shape[3] - q.shape[3]
    if more == 0 or choose(q, v) != "cpu":
        return q, k, v
    if more < 0:
        return q, k, torch.nn.functional.pad(v, (0, -more))
    return torch.nn.functional.pad(q, (0, more)), torch.nn.functional.pad(k, (0, more)), v


def dense_rows(*tensors: Tensor) -> list[Tensor]:
    """The same tensors with the features of a token side by side, as kernels read them."""
    return [x if x.stride(3) == 1 else x.contiguous() for x in tensors]


def clear_hidden(out: Float[Tensor, "b h Lq V"], lse: Float[Tensor, "b h Lq 1"]) -> None:
    """For rows that have met hidden keys only: nothing comes out, and in their gradient no key
    weighs anything.
    """
    empty = lse < HIDDEN / 2
    out.masked_fill_(empty, 0.0)
    lse.masked_fill_(empty, -HIDDEN)


def forward(
    q: Float[Tensor, "b h Lq K"],
    k: Float[Tensor, "b h Lk K"],
    v: Float[Tensor, "b h Lk V"],
    *,
    scale: float,
    causal: bool = False,
    bias: Float[Tensor, "#b #h #Lq Lk"] | None = None,
    kind: str | None = None,
) -> tuple[Float[Tensor, "b h Lq V"], Float[Tensor, "b h Lq"]]:
    """``softmax(scale * q @ k^T + bias) @ v`` and the logarithm of the sum that the softmax divides
    by.

    Not differentiable: :func:`backward` is the other half.

    Args:
        scale: Factor of the scores, above 0.
        causal: Query i sees keys 0 to i; wants Lq = Lk.
        bias: Added to the scores, in the type of q; :data:`HIDDEN` for a key that cannot be seen. A
            row that sees none has a log-sum-exp near it and a result without meaning.
        kind: Which operators compute it; default :func:`choose`.

    Returns:
        The result in the type of q, and the log-sum-exp in float32 at least.

    Cost:
        b h Lq Lk (K + V) multiply-adds, half of that when causal; memory linear in the tokens.
    """
    kind = choose(q, v, bias) if kind is None else kind
    if kind == "plain":
        return _plain_forward(q, k, v, scale, causal, bias)
    pair = operators(kind)
    assert pair is not None
    width = v.shape[3]
    q, k, v = dense_rows(*pad(q, k, v))
    if kind == "cpu":
        out, lse = pair[0](q, k, v, 0.0, causal, attn_mask=bias, scale=scale)
    elif kind == "flash":
        out, lse = pair[0](q, k, v, 0.0, causal, False, scale=scale)[:2]
    else:
        out, lse = pair[0](q, k, v, None, True, 0.0, causal, scale=scale)[:2]
        lse = lse[:, :, : q.shape[2]]  # rounded up to whole tiles
    return out[..., :width], lse


def backward(
    grad: Float[Tensor, "b h Lq V"],
    q: Float[Tensor, "b h Lq K"],
    k: Float[Tensor, "b h Lk K"],
    v: Float[Tensor, "b h Lk V"],
    out: Float[Tensor, "b h Lq V"],
    lse: Float[Tensor, "b h Lq"],
    *,
    scale: float,
    causal: bool = False,
    bias: Float[Tensor, "#b #h #Lq Lk"] | None = None,
    kind: str | None = None,
) -> tuple[Float[Tensor, "b h Lq K"], Float[Tensor, "b h Lk K"], Float[Tensor, "b h Lk V"]]:
    """Gradients of q, k and v for that of the result.

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
    pair = operators(kind)
    assert pair is not None
    widths = (q.shape[3], v.shape[3])
    q, k, v = pad(q, k, v)
    if v.shape[3] > widths[1]:
        grad, out = (torch.nn.functional.pad(x, (0, v.shape[3] - widths[1])) for x in (grad, out))
    grad, q, k, v, out = dense_rows(grad, q, k, v, out)
    if kind == "cpu":
        dq, dk, dv = pair[1](grad, q, k, v, out, lse, 0.0, causal, attn_mask=bias, scale=scale)
    elif kind == "flash":
        seed = torch.zeros(
            2, dtype=torch.uint64, device=q.device
        )  # without dropout no number is drawn
        sizes = (None, None, q.shape[2], k.shape[2])
        lse = lse.contiguous()
        dq, dk, dv = pair[1](
            grad, q, k, v, out, lse, *sizes, 0.0, causal, seed, seed[:0], scale=scale
        )
    else:
        # The kernel wants whole tiles of 32 rows; a row that is not there weighs exp(-inf).
        lse = torch.nn.functional.pad(lse, (0, -lse.shape[2] % 32), value=torch.inf).contiguous()
        seed = torch.zeros((), dtype=torch.int64, device=q.device)
        wanted = [True, True, True, False]
        dq, dk, dv, _ = pair[1](
            grad, q, k, v, None, out, lse, seed, seed, 0.0, wanted, causal, scale=scale
        )
    return dq[..., : widths[0]], dk[..., : widths[0]], dv[..., : widths[1]]


# Rows of the first axis, rows of queries, keys that count.
_Slice = tuple[slice, slice, slice]


def _slices(q: Tensor, k: Tensor, causal: bool) -> Iterator[_Slice]:
    """Slices of a call whose scores are few."""
    batch, n_heads, n_queries, _ = q.shape
    pairs = n_heads * k.shape[2]
    n_rows = max(1, min(n_queries, SLICE_PAIRS // pairs))
    n_batch = max(1, SLICE_PAIRS // (pairs * n_queries))
    for first in range(0, batch, n_batch):
        for row in range(0, n_queries, n_rows):
            last = min(row + n_rows, n_queries)
            yield (
                slice(first, first + n_batch),
                slice(row, last),
                slice(0, last if causal else k.shape[2]),
            )


def _scores(
    q: Tensor,
    k: Tensor,
    scale: float,
    causal: bool,
    bias: Tensor | None,
    here: _Slice,
    dtype: torch.dtype,
) -> Tensor:
    some, rows, keys = here
    scores = (q[some, :, rows].to(dtype) * scale) @ k[some, :, keys].to(dtype).transpose(2, 3)
    if bias is not None:
        bias = bias.expand(q.shape[0], -1, q.shape[2], -1)
        scores.add_(bias[some, :, rows, keys])
    if causal:
        positions = torch.arange(keys.stop, device=q.device)
        scores.masked_fill_(positions > positions[rows, None], -torch.inf)
    return scores


def _plain_forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    work = torch.promote_types(q.dtype, torch.float32)
    out = q.new_empty(*q.shape[:3], v.shape[3])
    lse = q.new_empty(q.shape[:3], dtype=work)
    for here in _slices(q, k, causal):
        some, rows, keys = here
        scores = _scores(q, k, scale, causal, bias, here, work)
        lse[some, :, rows] = scores.logsumexp(dim=3)
        out[some, :, rows] = (torch.softmax(scores, dim=3) @ v[some, :, keys].to(work)).to(q.dtype)
    return out, lse


def _plain_backward(
    *tensors: Tensor, scale: float, causal: bool, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    grad, q, k, v, out, lse = tensors
    work = torch.promote_types(q.dtype, torch.float32)
    dq, dk, dv = (torch.zeros(x.shape, dtype=work, device=x.device) for x in (q, k, v))
    for here in _slices(q, k, causal):
        some, rows, keys = here
        weights = (
            _scores(q, k, scale, causal, bias, here, work).sub_(lse[some, :, rows, None]).exp_()
        )
        g = grad[some, :, rows].to(work)
        mean = (g * out[some, :, rows].to(work)).sum(dim=3, keepdim=True)
        dv[some, :, keys] += weights.transpose(2, 3) @ g
        ds = (g @ v[some, :, keys].to(work).transpose(2, 3)).sub_(mean).mul_(weights).mul_(scale)
        dq[some, :, rows] = ds @ k[some, :, keys].to(work)
        dk[some, :, keys] += ds.transpose(2, 3) @ q[some, :, rows].to(work)
    return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype)
