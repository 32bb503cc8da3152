"""The dispatch of attention calls: the checks of their tensors and the choice of a backend.

All backends give the same numbers. :func:`choose` says which one has a call:

- ``reference`` has all scores at once, in plain torch. Compilers and torch.func follow it.
- ``fused`` is torch's own function. It knows one level, and no pattern but the causal one.
- ``plain``, ``expanded`` and ``masked`` compute all scores, in slices of the batch, by the plan of
  :mod:`tsattn.kernels.dense`. ``plain`` has one level. ``expanded`` makes one product of all
  levels, whose features stand once for each block. Where these would be many, ``masked`` has a
  product for each block of each level.
- ``bands`` parts a long call into stretches of queries and keys that share the same levels, by the
  plan of :mod:`tsattn.kernels.partition`, and has a fused kernel compute each.
- ``windowed`` goes through the chunks of a sliding window.

The last two keep no scores, so that memory grows with the length and not with its square.
"""

import functools
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from tsattn.checks import check_choice
from tsattn.kernels.dense import attention_dense
from tsattn.kernels.geometry import (
    EVERYBODY,
    Attended,
    Geometry,
    KeyGroups,
    KeyMask,
    Keys,
    Levels,
    Pattern,
    Queries,
    Values,
    Weights,
    expand_heads,
    make_geometry,
)

BACKENDS = ("auto", "reference", "expanded", "masked", "dense", "bands", "windowed")

# The thresholds of ``auto`` are measured on a CPU (docs/speed.md).
# Most numbers in a row of wide features; more of them cost more than block products.
EXPANDED_WIDTH = 32
# Least keys for torch's fused kernel; it beats three products over slices for ordinary attention.
FUSED_LENGTH = 96
# Least keys for bands; they beat products over slices for level scores.
BANDS_LENGTH = 768
# Least keys for chunks of a sliding window; they beat products over slices.
WINDOWED_LENGTH = 256
# Most keys without a warning where level scores cannot use bands: cost grows with their square.
WARN_LENGTH = 4096
# Hidden keys and values of a smaller norm leave all sums finite, so that their weights of zero hide
# them.
HARMLESS_NORM = 1e9


def traced() -> bool:
    """Whether a compiler, torch.func or torch.jit.trace is at work: these need plain torch without
    autograd functions of ours and without choices by the numbers of a tensor.
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch.jit.is_tracing()
    )


def _lacks_numbers(x: Tensor) -> bool:
    """Whether a tensor has a shape only: it is on the meta device, or made by FakeTensorMode."""
    # The class has no public name.
    return x.is_meta or type(x).__name__ == "FakeTensor"


def _no_autocast(device_type: str) -> AbstractContextManager[object]:
    """No autocast inside; scores and softmax must not be narrowed by one around the call."""
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _is_autocast(device_type: str) -> bool:
    """Whether an autocast is around the call."""
    is_available = torch.amp.is_autocast_available(device_type)
    return is_available and torch.is_autocast_enabled(device_type)


def attend(
    q: Queries,
    k: Keys,
    v: Values,
    *,
    levels: Levels | None = None,
    pattern: Pattern = EVERYBODY,
    key_mask: KeyMask | None = None,
    groups: KeyGroups | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Attended:
    """:func:`tsattn.kernels.attention` with the levels and the pattern as objects.

    Args:
        levels: ``None`` is ordinary attention.
        pattern: Who sees whom. The other arguments are those of :func:`tsattn.kernels.attention`.

    Raises:
        ValueError: As :func:`tsattn.kernels.attention`.
    """
    require_tensors(q=q, k=k, v=v, key_mask=key_mask)
    if _is_autocast(q.device.type):
        # Norms, rotary embeddings and learned scales return float32 queries and keys under an
        # autocast, while values are narrow.
        q = q.to(v.dtype)
        k = k.to(v.dtype)
    _check_tensors(q, k, v, key_mask)
    _check_backend(backend, levels)
    geometry = make_geometry(q, k, levels=levels, pattern=pattern, groups=groups, scale=scale)
    compiling = torch.compiler.is_compiling()
    if traced() and not compiling:
        if backend not in {"auto", "reference"}:
            raise ValueError(
                f"backend {backend!r} does not work inside torch.func and torch.jit.trace; use"
                " 'reference', which auto chooses there"
            )
        backend = "reference"
    elif _lacks_numbers(q) and not compiling:
        # No backend finds out from shapes alone whether a mask hides anything.
        backend = "reference"
    chosen = choose(geometry, backend, key_mask is not None, compiling)
    if key_mask is not None and (chosen == "reference" or not _are_harmless(k, v, key_mask)):
        k = _clear_hidden(k, key_mask)
        v = _clear_hidden(v, key_mask)
    with _no_autocast(q.device.type):
        if chosen == "reference":
            from tsattn.kernels.reference import attention_reference

            return attention_reference(q, k, v, geometry=geometry, key_mask=key_mask, groups=groups)
        if chosen == "fused":
            return _attend_fused(q, k, v, geometry)
        k = expand_heads(k, q.shape[1])
        v = expand_heads(v, q.shape[1])
        if chosen in {"bands", "windowed"}:
            from tsattn.kernels.bands import attention_bands
            from tsattn.kernels.windowed import attention_windowed

            attend_linear = attention_bands if chosen == "bands" else attention_windowed
            if compiling:
                # A compiler cannot follow views, loops and a choice of kernels at run time.
                attend_linear = torch.compiler.disable(attend_linear)
            return attend_linear(q, k, v, geometry=geometry, key_mask=key_mask)
        return attention_dense(
            q, k, v, geometry=geometry, backend=chosen, key_mask=key_mask, groups=groups
        )


def weigh(
    q: Queries,
    k: Keys,
    *,
    levels: Levels | None = None,
    pattern: Pattern = EVERYBODY,
    key_mask: KeyMask | None = None,
    groups: KeyGroups | None = None,
    scale: float | None = None,
) -> Weights:
    """:func:`tsattn.kernels.attention_weights` with the levels and the pattern as objects."""
    from tsattn.kernels.reference import weights_reference

    require_tensors(q=q, k=k, key_mask=key_mask)
    if _is_autocast(q.device.type):
        narrow_dtype = min(q.dtype, k.dtype, key=lambda dtype: dtype.itemsize)
        q = q.to(narrow_dtype)
        k = k.to(narrow_dtype)
    _check_tensors(q, k, None, key_mask)
    geometry = make_geometry(q, k, levels=levels, pattern=pattern, groups=groups, scale=scale)
    if key_mask is not None:
        k = _clear_hidden(k, key_mask)
    with _no_autocast(q.device.type):
        weights = weights_reference(q, k, geometry=geometry, key_mask=key_mask, groups=groups)
    return weights.to(q.dtype)


def _are_harmless(k: Tensor, v: Tensor, key_mask: Tensor) -> bool:
    """Whether the keys and values that the mask hides are finite and not huge.

    Only hidden tokens are read, which are few as a rule.
    """
    for x in (k, v):
        hidden_tokens = x.detach().transpose(1, 2)[~key_mask]  # [tokens Hx F]
        work = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(hidden_tokens, dtype=work)
        # A norm of NaN is not below it either.
        if not norm < HARMLESS_NORM:
            return False
    return True


def _clear_hidden(x: Tensor, key_mask: Tensor) -> Tensor:
    """Keys or values with zeros for hidden tokens: zero times NaN or infinity would be NaN."""
    is_hidden = ~key_mask[:, None, :, None]
    return x.masked_fill(is_hidden, 0.0)


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """Ordinary attention by torch's own function."""
    from tsattn.kernels.fused import pad

    # Torch's kernels for the CPU read shared heads in place. On other devices only some do, and
    # the rest is slow.
    shared = q.device.type == "cpu" and k.shape[1] == v.shape[1] < q.shape[1]
    if not shared:
        k = expand_heads(k, q.shape[1])
        v = expand_heads(v, q.shape[1])
    value_width = v.shape[3]
    scale = geometry.factors[0]
    if scale <= 0:
        # Torch hides later keys before it multiplies by the scale, and -inf times 0 or -1 would
        # show them again.
        q = q * scale
        scale = 1.0
    if not torch.compiler.is_compiling():
        # With K != V torch would materialise all scores.
        q, k, v = pad(q, k, v)
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=geometry.pattern.causal, scale=scale, enable_gqa=shared
    )
    return out[..., :value_width]


@functools.lru_cache(maxsize=256)
def choose(geometry: Geometry, backend: str, masked_keys: bool, compiling: bool) -> str:
    """The backend of a call.

    Args:
        geometry: The call.
        backend: The backend that the caller named.
        masked_keys: Whether a mask hides keys.
        compiling: Whether a compiler is at work.

    Returns:
        ``fused``, ``reference``, ``plain``, ``expanded``, ``masked``, ``bands`` or ``windowed``.

    Raises:
        ValueError: If the named backend cannot serve the call.
    """
    if geometry.grouped and backend == "expanded":
        raise ValueError(
            "the expanded backend needs contiguous blocks; got levels by groups; use the reference"
            " or masked backend"
        )
    if backend in {"reference", "expanded", "masked"}:
        return backend
    if geometry.grouped and backend not in {"bands", "windowed"}:
        return "reference" if compiling and backend == "auto" else "masked"
    from tsattn.kernels.partition import bands_refusal
    from tsattn.kernels.windowed import window_refusal

    refusals = {"bands": bands_refusal(geometry), "windowed": window_refusal(geometry)}
    if backend in refusals:
        refusal = refusals[backend]
        if refusal is not None:
            raise ValueError(refusal)
        return backend
    ordinary = geometry.one_level and not geometry.levels.mean
    if backend == "auto":
        fusible = ordinary and _is_fusible(geometry, masked_keys)
        if fusible and (compiling or geometry.n_keys >= FUSED_LENGTH):
            return "fused"
        if compiling:
            return "reference"  # plain torch, which a compiler fuses by itself
        if refusals["windowed"] is None and geometry.n_keys >= WINDOWED_LENGTH:
            return "windowed"
    if ordinary:
        return "plain"
    if backend == "auto" and geometry.n_keys >= BANDS_LENGTH:
        if refusals["bands"] is None:
            return "bands"
        if geometry.n_keys > WARN_LENGTH:
            # The cache of this function makes it one warning for each geometry.
            warnings.warn(
                f"{geometry.n_keys} keys are compared pair by pair, for {refusals['bands']}",
                stacklevel=4,
            )
    return "expanded" if geometry.width <= EXPANDED_WIDTH else "masked"


def _is_fusible(geometry: Geometry, masked_keys: bool) -> bool:
    """Whether torch's own attention can compute a call of one level."""
    whole = not masked_keys and geometry.pattern.beyond("causal") is None
    # Torch counts a causal mask from the first query, this library from the last.
    square = geometry.n_queries == geometry.n_keys or not geometry.pattern.causal
    one_factor = len(set(geometry.factors)) == 1
    return whole and square and one_factor


def require_tensors(**inputs: Tensor | None) -> None:
    """Refuse arrays and lists.

    Args:
        **inputs: Tensors by name; a ``key_mask`` may be ``None``.

    Raises:
        TypeError: Naming the first that is no tensor.
    """
    for name, x in inputs.items():
        may_lack = name == "key_mask" and x is None
        if not may_lack and not isinstance(x, Tensor):
            raise TypeError(
                f"{name} must be a tensor; got {type(x).__name__}; convert it with"
                " torch.as_tensor()"
            )


def _check_tensors(q: Tensor, k: Tensor, v: Tensor | None, key_mask: Tensor | None) -> None:
    tensors = {"q": q, "k": k}
    names = "q and k"
    if v is not None:
        tensors["v"] = v
        names = "q, k and v"
    if any(x.ndim != 4 for x in tensors.values()):
        raise ValueError(
            f"{names} must have the axes (batch, heads, tokens, features); {_shapes(tensors)}; add"
            " what is missing"
        )
    if any(x.shape[0] != q.shape[0] for x in tensors.values()):
        raise ValueError(
            f"{names} must agree in batch; {_shapes(tensors)}; expand the smaller ones"
        )
    if q.shape[3] != k.shape[3]:
        raise ValueError(
            f"q and k must have as many features; {_shapes(tensors)}; project both to one width"
        )
    if v is not None and k.shape[2] != v.shape[2]:
        raise ValueError(
            f"k and v must have as many tokens; {_shapes(tensors)}; give one value a key"
        )
    # An empty batch is allowed.
    if any(0 in x.shape[1:] for x in tensors.values()):
        raise ValueError(
            f"{names} must have at least one head, token and feature; {_shapes(tensors)}; drop the"
            " empty call"
        )
    for name, x in tensors.items():
        if q.shape[1] % x.shape[1]:
            raise ValueError(
                f"the heads of {name} must divide those of q, so that query head h uses {name}'s"
                f" head h // (H // {x.shape[1]}); {_shapes(tensors)}; change the number of heads of"
                " one"
            )
    # torch does not compute with floats of one byte.
    is_float = q.is_floating_point() and q.dtype.itemsize > 1
    if not is_float or any(x.dtype != q.dtype for x in tensors.values()):
        dtypes = ", ".join(str(x.dtype) for x in tensors.values())
        raise ValueError(
            f"{names} must share one floating dtype of 16 bits or more; got {dtypes}; convert them"
            " with .to()"
        )
    if any(x.device != q.device for x in tensors.values()):
        devices = ", ".join(str(x.device) for x in tensors.values())
        raise ValueError(f"{names} must be on one device; got {devices}; move them with .to()")
    if key_mask is not None:
        _check_key_mask(key_mask, k)


def _shapes(tensors: dict[str, Tensor]) -> str:
    """What an error says of the tensors; a compiler cannot write sizes that it does not know."""
    return "got " + ", ".join(f"{name} {tuple(x.shape)}" for name, x in tensors.items())


def _check_key_mask(key_mask: Tensor, k: Tensor) -> None:
    if key_mask.dtype != torch.bool:
        raise ValueError(
            f"key_mask must be boolean, True where a key may be seen; got {key_mask.dtype}; compare"
            " first"
        )
    shape = (k.shape[0], k.shape[2])
    if key_mask.shape != shape:
        raise ValueError(
            f"key_mask must have the shape (batch, keys) = {shape}; got {tuple(key_mask.shape)};"
            " give one row a sequence"
        )


def _check_backend(backend: str, levels: Levels | None) -> None:
    check_choice("backend", backend, BACKENDS, "; leave it out to have it chosen")
    if backend in {"expanded", "masked", "dense", "bands"} and levels is None:
        raise ValueError(
            f"backend {backend!r} is for level scores and needs ranks; got None; use auto or"
            " reference"
        )
