"""Which backend computes a call: tensors are checked here, once, and a backend is chosen by shape
or as asked.
"""

import functools
import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn.kernels.dense import attention_dense
from tsattn.kernels.geometry import EVERYBODY, Geometry, Levels, Pattern, make_geometry
from tsattn.kernels.reference import attention_reference, expand_heads, traced, weights_reference

# What can be forced.
BACKENDS = ("auto", "reference", "expanded", "masked", "dense", "bands", "windowed")
# Up to this many numbers in a row of wide features, the expanded backend costs less than block
# products.
EXPANDED_WIDTH = 32
# From this many keys on, torch's fused kernel beats three products over slices for ordinary
# attention.
FUSED_LENGTH = 96
# From this many keys on, fused kernels over bands beat products over slices for level scores.
BANDS_LENGTH = 768
# From this many keys on, chunks of a sliding window beat products over slices.
WINDOWED_LENGTH = 256
# From more keys than this on, level scores that bands cannot serve are worth a warning.
WARN_LENGTH = 4096


def attend(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    v: Float[Tensor, "B Hv Lk V"],
    *,
    levels: Levels | None = None,
    pattern: Pattern = EVERYBODY,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "B H Lq V"]:
    """:func:`tsattn.kernels.attention` for levels and a pattern that are made already; all else is
    as there.

    Args:
        levels: ``None`` is ordinary attention.
        pattern: Who sees whom.

    Raises:
        ValueError: As :func:`tsattn.kernels.attention`.
    """
    if torch.is_autocast_enabled(q.device.type):
        # Norms, rotary embeddings and learned scales leave queries and keys wide beside narrow
        # values.
        q = q.to(v.dtype)
        k = k.to(v.dtype)
    _check_tensors(q, k, v, key_mask)
    _check_backend(backend, levels)
    geometry = make_geometry(q, k, levels=levels, pattern=pattern, groups=groups, scale=scale)
    if backend == "auto" and traced() and not torch.compiler.is_compiling():
        backend = "reference"
    chosen = choose(geometry, backend, key_mask is not None, torch.compiler.is_compiling())
    # Whatever an autocast around the call would narrow, scores and softmax are not.
    with torch.autocast(q.device.type, enabled=False):
        if chosen == "reference":
            return attention_reference(q, k, v, geometry=geometry, key_mask=key_mask, groups=groups)
        if chosen == "fused":
            return _attend_fused(q, k, v, geometry)
        k = expand_heads(k, q.shape[1])
        v = expand_heads(v, q.shape[1])
        if chosen == "bands":
            from tsattn.kernels.bands import attention_bands

            return attention_bands(q, k, v, geometry=geometry, key_mask=key_mask)
        if chosen == "windowed":
            from tsattn.kernels.windowed import attention_windowed

            return attention_windowed(q, k, v, geometry=geometry, key_mask=key_mask)
        return attention_dense(
            q, k, v, geometry=geometry, backend=chosen, key_mask=key_mask, groups=groups
        )


def weigh(
    q: Float[Tensor, "B H Lq K"],
    k: Float[Tensor, "B Hk Lk K"],
    *,
    levels: Levels | None = None,
    pattern: Pattern = EVERYBODY,
    key_mask: Bool[Tensor, "B Lk"] | None = None,
    groups: tuple[Int[Tensor, "... Lk"], ...] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H Lq Lk"]:
    """:func:`tsattn.kernels.attention_weights` for levels and a pattern that are made already, as
    :func:`attend`.
    """
    if torch.is_autocast_enabled(q.device.type):
        narrow = min(q.dtype, k.dtype, key=lambda dtype: dtype.itemsize)
        q = q.to(narrow)
        k = k.to(narrow)
    _check_tensors(q, k, None, key_mask)
    geometry = make_geometry(q, k, levels=levels, pattern=pattern, groups=groups, scale=scale)
    with torch.autocast(q.device.type, enabled=False):
        return weights_reference(q, k, geometry=geometry, key_mask=key_mask, groups=groups).to(
            q.dtype
        )


def _attend_fused(q: Tensor, k: Tensor, v: Tensor, geometry: Geometry) -> Tensor:
    """Ordinary attention by torch's own function."""
    from tsattn.kernels.fused import pad

    # Torch's kernels for the CPU read shared heads where they lie; elsewhere only some do, and
    # slowly without.
    shared = q.device.type == "cpu" and k.shape[1] == v.shape[1] < q.shape[1]
    if not shared:
        k = expand_heads(k, q.shape[1])
        v = expand_heads(v, q.shape[1])
    width = v.shape[3]
    scale = geometry.factors[0]
    if scale <= 0:
        q, scale = (
            q * scale,
            1.0,
        )  # torch hides later keys before it multiplies: -inf times 0 or -1 shows them again
    if not torch.compiler.is_compiling():
        q, k, v = pad(q, k, v)  # with K != V torch would make all scores at once
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=geometry.pattern.causal, scale=scale, enable_gqa=shared
    )
    return out[..., :width]


@functools.lru_cache(maxsize=256)
def choose(geometry: Geometry, backend: str, masked_keys: bool, compiling: bool) -> str:
    """The backend of a call.

    Args:
        geometry: The call.
        backend: What was asked for.
        masked_keys: Whether a mask hides keys.
        compiling: Whether a compiler is at work.

    Returns:
        ``fused``, ``reference``, ``plain``, ``expanded``, ``masked``, ``bands`` or ``windowed``.

    Raises:
        ValueError: If the backend that was asked for cannot serve the call.
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

    why_no_bands = bands_refusal(geometry)
    why_no_window = window_refusal(geometry)
    if backend in {"bands", "windowed"}:
        reason = why_no_bands if backend == "bands" else why_no_window
        if reason is not None:
            raise ValueError(reason)
        return backend
    ordinary = geometry.one_level and not geometry.levels.mean
    whole = not masked_keys and geometry.pattern.beyond("causal") is None
    square = geometry.n_queries == geometry.n_keys or not geometry.pattern.causal
    # A fused kernel takes one scale; torch counts a causal mask from the first query, here it is
    # from the last.
    fusible = (
        backend == "auto" and ordinary and whole and square and len(set(geometry.factors)) == 1
    )
    if fusible and (compiling or geometry.n_keys >= FUSED_LENGTH):
        return "fused"
    if compiling and backend == "auto":
        return "reference"  # plain torch, which a compiler fuses by itself
    if backend == "auto" and why_no_window is None and geometry.n_keys >= WINDOWED_LENGTH:
        return "windowed"
    if ordinary:
        return "plain"
    if backend == "auto" and geometry.n_keys >= BANDS_LENGTH:
        if why_no_bands is None:
            return "bands"
        if geometry.n_keys > WARN_LENGTH:
            # Said once for a geometry: the choice is remembered.
            warnings.warn(
                f"{geometry.n_keys} keys are compared pair by pair, for {why_no_bands}",
                stacklevel=4,
            )
    return "expanded" if geometry.width <= EXPANDED_WIDTH else "masked"


def _check_tensors(q: Tensor, k: Tensor, v: Tensor | None, key_mask: Tensor | None) -> None:
    named = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    names = " and ".join(named) if v is None else "q, k and v"
    tensors = list(named.values())
    shapes = "got " + ", ".join(f"{name} {tuple(x.shape)}" for name, x in named.items())
    if any(x.ndim != 4 for x in tensors):
        raise ValueError(
            f"{names} must have the axes (batch, heads, tokens, features); {shapes}; add what is"
            " missing"
        )
    if any(x.shape[0] != q.shape[0] for x in tensors):
        raise ValueError(f"{names} must agree in batch; {shapes}; expand the smaller ones")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"q and k must have as many features; {shapes}; project both to one width")
    if v is not None and k.shape[2] != v.shape[2]:
        raise ValueError(f"k and v must have as many tokens; {shapes}; give one value a key")
    if any(0 in x.shape[1:] for x in tensors):
        raise ValueError(
            f"{names} must have at least one head, token and feature; {shapes}; drop the empty call"
        )
    for name, x in named.items():
        if q.shape[1] % x.shape[1]:
            raise ValueError(
                f"the heads of {name} must divide those of q, so that query head h uses {name}'s"
                f" head h // (H // {x.shape[1]}); {shapes}; change the number of heads of one"
            )
    if not (q.is_floating_point() and all(x.dtype == q.dtype for x in tensors)):
        types = ", ".join(str(x.dtype) for x in tensors)
        raise ValueError(
            f"{names} must share one floating dtype; got {types}; convert them with .to()"
        )
    if any(x.device != q.device for x in tensors):
        places = ", ".join(str(x.device) for x in tensors)
        raise ValueError(f"{names} must be on one device; got {places}; move them with .to()")
    if key_mask is None:
        return
    if key_mask.dtype != torch.bool:
        raise ValueError(
            f"key_mask must be boolean, True where a key may be seen; got {key_mask.dtype}; compare"
            " first"
        )
    if key_mask.shape != (k.shape[0], k.shape[2]):
        raise ValueError(
            f"key_mask must have the shape (batch, keys) = {(k.shape[0], k.shape[2])}; got"
            f" {tuple(key_mask.shape)}; give one row a sequence"
        )


def _check_backend(backend: str, levels: Levels | None) -> None:
    if backend not in BACKENDS:
        raise ValueError(
            f"backend must be one of {', '.join(BACKENDS)}; got {backend!r}; leave it out to have"
            " it chosen"
        )
    if backend in {"expanded", "masked", "dense", "bands"} and levels is None:
        raise ValueError(
            f"backend {backend!r} is for level scores and needs ranks; got None; use auto or"
            " reference"
        )
