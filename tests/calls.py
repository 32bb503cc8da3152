"""Calls of attention for tests: random tensors, results with their gradients, and the same from the
loops.
"""

import functools
import itertools

import oracles
import torch

import tsattn.kernels as kernels
from tsattn.kernels import attention, dispatch
from tsattn.kernels.geometry import Geometry, Levels, Pattern, make_geometry

DOUBLE = torch.float64
by_reference = functools.partial(attention, backend="reference")


def draw(
    batch,
    heads,
    n_queries,
    n_keys,
    width,
    n_values=3,
    *,
    dtype=DOUBLE,
    seed=0,
    by_token=False,
    grad=True,
):
    """q, k, v and a gradient of the result; ``heads`` are one number, or those of q, k and v."""
    generator = torch.Generator().manual_seed(seed)
    n_heads, *shared = (heads,) * 3 if isinstance(heads, int) else heads
    sizes = [(n_heads, n_queries, width), (shared[0], n_keys, width)]
    sizes += [(shared[1], n_keys, n_values), (n_heads, n_queries, n_values)]
    drawn = []
    for n, length, features in sizes:
        shape = (batch, length, n, features) if by_token else (batch, n, length, features)
        x = torch.randn(shape, generator=generator, dtype=DOUBLE).to(dtype)
        drawn.append(x.transpose(1, 2) if by_token else x)
    return [x.requires_grad_(grad) for x in drawn[:3]] + drawn[3:]


def draw_mask(batch, length):
    """The first sequence sees nothing, the second no early key, the others most."""
    mask = torch.rand(batch, length, generator=torch.Generator().manual_seed(1)) < 0.7
    mask[0] = False
    mask[1:2, : length // 2] = False
    return mask


def answers(function, q, k, v, g, **options):
    """Result and gradients of q, k, v."""
    out = function(q, k, v, **options)
    return (out, *torch.autograd.grad(out, (q, k, v), g))


def truth(q, k, v, g, **options):
    """The same from the loops."""
    if options.get("key_mask") is not None:
        options["key_mask"] = options["key_mask"].tolist()
    if options.get("groups") is not None:
        options["groups"] = tuple(level.tolist() for level in options["groups"])
    lists = oracles.attention_loops(*(x.tolist() for x in (q, k, v, g)), **options)
    return [torch.tensor(x, dtype=DOUBLE) for x in lists]


def check(assert_close, tensors, backends, **options):
    """Backends with their gradients against the loops."""
    expected = truth(*tensors, **options)
    for backend in backends:
        for actual, right in zip(
            answers(attention, *tensors, backend=backend, **options), expected, strict=True
        ):
            assert_close(actual, right)


def geometry(n_queries, n_keys, levels, **pattern):
    """A call without tensors; scales are factors as they are."""
    return Geometry(n_queries, n_keys, levels, Pattern(**pattern))


def fit(q, k, *, ranks=None, scale=None, window=None, causal=False, n_global=0, **levels):
    """The geometry that the public function makes."""
    made = None if ranks is None else Levels(ranks, **levels)
    return make_geometry(q, k, levels=made, pattern=Pattern(causal, window, n_global), scale=scale)


def without_hook(function):
    """The function itself: in the tests the shape checks would speak first."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


def lift_hook(monkeypatch):
    """Let ``attention`` check what it is given by itself."""
    checks = ((dispatch, "require_tensors"), (dispatch, "_check_tensors"))
    for module, name in (*checks, (kernels, "attend"), (kernels, "weigh")):
        monkeypatch.setattr(module, name, without_hook(getattr(module, name)))


def draw_square(batch, n_heads, length, width, n_values=None, **options):
    """q, k, v and a gradient of the result, as many queries as keys."""
    return draw(batch, n_heads, length, length, width, n_values or width, **options)


def peak_bytes(function, *tensors, **options):
    """Most memory held at once by a training step, beyond its inputs, as the allocator reports
    it.
    """
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        answers(function, *tensors, **options)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    assert len(events) > 4
    return max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))
