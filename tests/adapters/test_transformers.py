"""Models of Hugging Face transformers on our kernel."""

import doctest
import inspect
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tsattn.kernels import attention, default_block_sizes

TINY = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}


@pytest.fixture(scope="module")
def hf():
    """transformers with our attention registered, and two more: one that listens, one that is an
    oracle of loops.
    """
    transformers = pytest.importorskip("transformers")
    from tsattn.adapters import register_transformers
    from tsattn.adapters import transformers as adapter

    assert register_transformers() == "tsattn_mlr"
    heard = []

    def listen(module, query, key, value, mask, **kwargs):
        answer = adapter.mlr_forward(module, query, key, value, mask, **kwargs)
        heard.append(
            SimpleNamespace(
                q=query, k=key, v=value, mask=mask, answer=answer[0], scaling=kwargs["scaling"]
            )
        )
        return answer

    def loops(module, query, key, value, mask, scaling=None, is_causal=None, **kwargs):
        causal = module.is_causal if is_causal is None else is_causal
        return slow_levels(query, key, value, mask, scaling, module.config, causal), None

    for name, way in {"listens": listen, "loops": loops}.items():
        transformers.AttentionInterface.register(name, way)
        transformers.AttentionMaskInterface.register(name, adapter.mlr_mask)
    return SimpleNamespace(lib=transformers, module=adapter, heard=heard)


def slow_levels(query, key, value, mask, scaling, config, causal):
    """The definition, pair by pair in float64: levels share features of pairs in one block of
    absolute positions.
    """
    q, k, v = (x.detach().double().numpy() for x in (query, key, value))
    groups = q.shape[1] // k.shape[1]
    last = k.shape[2] - q.shape[2]
    cuts = np.cumsum([0, *config.tsattn_ranks])
    out = np.zeros((*q.shape[:3], v.shape[3]))
    for b, h, i in np.ndindex(*q.shape[:3]):
        scores = np.full(k.shape[2], -np.inf)
        for j in range(k.shape[2]):
            hidden = j > i + last and causal if mask is None else not mask[b, 0, i, j]
            if hidden:
                continue
            shared = [(i + last) // size == j // size for size in config.tsattn_block_sizes]
            scores[j] = scaling * sum(
                q[b, h, i, lo:hi] @ k[b, h // groups, j, lo:hi]
                for level, (lo, hi) in enumerate(pairwise(cuts))
                if level == 0 or shared[level]
            )
        if np.isfinite(scores).any():
            weights = np.exp(scores - scores.max())
            out[b, h, i] = weights / weights.sum() @ v[b, h // groups]
    return torch.as_tensor(out).to(query.dtype).transpose(1, 2).contiguous()


def language_model(hf, way, *, kind="Llama", head=False, **config):
    """A small model with weights large enough for the attention to matter, the same for
    every way.
    """
    lib = hf.lib
    made = getattr(lib, f"{kind}Config")(**{**TINY, **config}, attn_implementation=way)
    model = getattr(lib, f"{kind}ForCausalLM" if head else f"{kind}Model")(made).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
                )
    return model


def tokens(n_rows=3, length=17):
    return torch.randint(1, 50, (n_rows, length), generator=torch.Generator().manual_seed(1))


def padding(side):
    mask = torch.ones(3, 17, dtype=torch.long)
    if side == "right":
        mask[0, 12:] = 0
        mask[1, 15:] = 0
    if side == "left":
        mask[0, :5] = 0
        mask[2, :1] = 0
    return mask


LEVELS = {"tsattn_ranks": (4, 2, 2), "tsattn_block_sizes": (40, 8, 3)}


@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_one_level_is_the_attention_of_transformers(hf, kind, side):
    """With one level it is ordinary attention: transformers' own layers are the oracle, masks and
    windows included.
    """
    extra = {"sliding_window": 5} if kind == "Mistral" else {}
    x = tokens()
    mask = padding(side)
    states = [
        language_model(hf, way, kind=kind, tsattn_ranks=(8,), **extra)(
            x, attention_mask=mask, use_cache=False
        )
        for way in ("sdpa", "tsattn_mlr")
    ]
    seen = mask.bool()
    gap = (states[0].last_hidden_state - states[1].last_hidden_state)[seen].abs().max()
    assert gap < 1e-5
    other = language_model(hf, "tsattn_mlr", kind=kind, **LEVELS, **extra)(
        x, attention_mask=mask, use_cache=False
    )
    assert (other.last_hidden_state - states[0].last_hidden_state)[seen].abs().max() > 0.05


@pytest.mark.parametrize("side", ["none", "right", "left"])
@pytest.mark.parametrize("kind", ["Llama", "Mistral"])
def test_levels_are_the_definition(hf, kind, side):
    extra = {"sliding_window": 5} if kind == "Mistral" else {}
    x = tokens()
    mask = padding(side)
    states = [
        language_model(hf, way, kind=kind, **LEVELS, **extra)(
            x, attention_mask=mask, use_cache=False
        )
        for way in ("loops", "tsattn_mlr")
    ]
    gap = (states[0].last_hidden_state - states[1].last_hidden_state)[mask.bool()].abs().max()
    assert gap < 2e-5


@pytest.mark.parametrize("n_kv_heads", [1, 2, 4])
def test_layers_get_what_our_kernel_gives(hf, n_kv_heads):
    hf.heard.clear()
    config = {
        "tsattn_offset": [1, 0, 2, 1],
        "tsattn_level_scales": [1.0, 0.5, 2.0],
        "tsattn_mean_levels": True,
    }
    language_model(hf, "listens", num_key_value_heads=n_kv_heads, **LEVELS, **config)(tokens())
    assert len(hf.heard) == 2
    for call in hf.heard:
        assert call.k.shape[1] == n_kv_heads
        expected = attention(
            call.q,
            call.k,
            call.v,
            ranks=(4, 2, 2),
            block_sizes=(40, 8, 3),
            offset=(1, 0, 2, 1),
            level_scales=(1.0, 0.5, 2.0),
            mean_levels=True,
            causal=True,
            scale=call.scaling,
        )
        assert torch.equal(call.answer, expected.transpose(1, 2))


def test_default_levels_come_from_the_config(hf):
    hf.heard.clear()
    language_model(hf, "listens")(tokens())
    call = hf.heard[0]
    expected = attention(
        call.q, call.k, call.v, ranks=(4, 2, 2), block_sizes=default_block_sizes(40, 3), causal=True
    )
    torch.testing.assert_close(call.answer, expected.transpose(1, 2))


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("side", ["none", "left"])
def test_generation_step_by_step_is_the_whole_pass(hf, cache, side):
    model = language_model(hf, "tsattn_mlr", head=True, **LEVELS)
    x = tokens()
    mask = padding(side)
    given = {"max_new_tokens": 9, "do_sample": False, "attention_mask": mask}
    given |= {"output_logits": True, "return_dict_in_generate": True}
    steps = model.generate(x, cache_implementation=cache, **given)
    whole = model.generate(x, use_cache=False, **given)
    assert torch.equal(steps.sequences, whole.sequences)
    for a, b in zip(steps.logits, whole.logits, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    other = language_model(hf, "tsattn_mlr", head=True, tsattn_ranks=(8,)).generate(
        x, use_cache=False, **given
    )
    assert (other.logits[-1] - whole.logits[-1]).abs().max() > 0.05


@pytest.mark.parametrize("static", [False, True])
def test_cached_rows_in_several_pieces(hf, static):
    """Two rows, then one, then the rest: queries stand at the end of what is in the cache, however
    long that is.
    """
    model = language_model(hf, "tsattn_mlr", **LEVELS)
    x = tokens()
    whole = model(x, use_cache=False).last_hidden_state
    cache = hf.lib.StaticCache(config=model.config, max_cache_len=30) if static else None
    parts = []
    # transformers renames the argument.
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    for piece in x.split([2, 1, 4, 10], dim=1):
        out = model(piece, **{name: cache}, use_cache=True)
        cache = out.past_key_values
        parts.append(out.last_hidden_state)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_gradients_flow(hf):
    grads = []
    for way in ("sdpa", "tsattn_mlr"):
        model = language_model(hf, way, tsattn_ranks=(8,)).train()
        model(tokens()).last_hidden_state.square().sum().backward()
        grads.append(model.layers[0].self_attn.k_proj.weight.grad)
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-3)


def test_an_autocast_narrows_what_the_rotary_embedding_leaves_wide(hf):
    model = language_model(hf, "tsattn_mlr")
    whole = model(tokens()).last_hidden_state
    with torch.autocast("cpu", torch.bfloat16):
        narrow = model(tokens()).last_hidden_state
    torch.testing.assert_close(narrow.float(), whole, rtol=0.05, atol=0.1)


def forecaster(hf, way, **config):
    made = hf.lib.PatchTSTConfig(
        num_input_channels=2,
        context_length=44,
        patch_length=4,
        patch_stride=4,
        prediction_length=6,
        d_model=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        ffn_dim=16,
        attention_dropout=0.0,
        attn_implementation=way,
        **config,
    )
    model = hf.lib.PatchTSTForPrediction(made).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(
                    torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5
                )
    return model


def test_a_forecaster_of_transformers_runs_with_levels(hf):
    x = torch.randn(3, 44, 2, generator=torch.Generator().manual_seed(2))
    levels = {"tsattn_ranks": (4, 2, 2), "tsattn_block_sizes": (11, 4, 2)}
    answers = {
        name: forecaster(hf, way, **config)(past_values=x).prediction_outputs
        for name, way, config in (
            ("theirs", "sdpa", {}),
            ("one level", "tsattn_mlr", {"tsattn_ranks": (8,)}),
            ("loops", "loops", levels),
            ("ours", "tsattn_mlr", levels),
        )
    }
    torch.testing.assert_close(answers["one level"], answers["theirs"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(answers["ours"], answers["loops"], rtol=1e-4, atol=1e-4)
    assert (answers["ours"] - answers["theirs"]).abs().max() > 0.05


def test_default_blocks_of_a_model_without_longest_sequence(hf):
    hf.heard.clear()
    x = torch.randn(3, 44, 2, generator=torch.Generator().manual_seed(2))
    forecaster(hf, "listens")(past_values=x)
    call = hf.heard[0]
    assert call.k.shape[2] == 11
    expected = attention(call.q, call.k, call.v, ranks=(4, 2, 2), block_sizes=(12, 6, 3))
    torch.testing.assert_close(call.answer, expected.transpose(1, 2))


def test_weights_are_given_on_request(hf):
    x = torch.randn(1, 44, 2, generator=torch.Generator().manual_seed(2))
    maps = forecaster(hf, "tsattn_mlr", tsattn_ranks=(8,))(
        past_values=x, output_attentions=True
    ).attentions
    theirs = forecaster(hf, "eager")(past_values=x, output_attentions=True).attentions
    assert len(maps) == 2
    for a, b in zip(maps, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def layer(*, causal=True, **config):
    settings = {"max_position_embeddings": 40, **config}
    return SimpleNamespace(is_causal=causal, config=SimpleNamespace(**settings))


BOTH_SIDES = layer(causal=False)


def call(hf, mask=None, *, n_queries=6, n_keys=6, module=None, **kwargs):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, 8, generator=generator) for n in (n_queries, n_keys, n_keys))
    return hf.module.mlr_forward(layer() if module is None else module, q, k, v, mask, **kwargs)[0]


def test_masks_are_read_in_every_form(hf):
    """Additive, two-dimensional and with heads: all say the same."""
    keys = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    square = torch.ones(6, 6, dtype=torch.bool).tril() & keys[:, None]
    base = call(hf, square[:, None])
    least = torch.finfo(torch.float32).min
    assert torch.equal(call(hf, torch.where(square[:, None], 0.0, least)), base)
    assert torch.equal(call(hf, torch.where(square[:, None], 0.0, -torch.inf)), base)
    assert torch.equal(call(hf, square[:, None].expand(-1, 2, -1, -1)), base)
    assert torch.equal(call(hf, keys.long()), base)
    assert not torch.equal(call(hf), base)
    # The mask's direction counts, not the layer's.
    both = call(hf, keys[:, None, None].expand(-1, 1, 6, -1))
    assert torch.equal(call(hf, keys, module=BOTH_SIDES), both)
    assert not torch.equal(both, base)


def test_the_scale_is_the_models(hf):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 8, generator=generator) for _ in range(3))
    settings = {"ranks": (4, 2, 2), "block_sizes": default_block_sizes(40, 3), "causal": True}
    expected = attention(q, k, v, scale=0.7, **settings)
    torch.testing.assert_close(call(hf, scaling=0.7), expected.transpose(1, 2))
    torch.testing.assert_close(call(hf), attention(q, k, v, **settings).transpose(1, 2))


def test_windows_to_both_sides_are_counted_as_there(hf):
    """A window of 2 there is two keys on either side; in the kernel's words it is 3, the token
    itself included.
    """
    far = (torch.arange(6)[:, None] - torch.arange(6)).abs() <= 2
    answer = call(hf, far.expand(2, 1, 6, 6), module=BOTH_SIDES, sliding_window=2)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 6, 8, generator=generator) for _ in range(3))
    expected = attention(q, k, v, ranks=(4, 2, 2), block_sizes=default_block_sizes(40, 3), window=3)
    torch.testing.assert_close(answer, expected.transpose(1, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"dropout": 0.1},
            "no dropout inside the attention; got 0.1; set config.attention_dropout=0",
        ),
        ({"softcap": 30.0}, "has no softcap"),
        ({"position_bias": torch.zeros(1, 2, 6, 6)}, "has no position_bias"),
        ({"mask": torch.full((2, 1, 6, 6), -1.5)}, "adds no bias"),
        ({"mask": torch.eye(6, dtype=torch.bool).expand(2, 1, 6, 6)}, "packed or chunked"),
        ({"mask": torch.ones(2, 1, 6, 5, dtype=torch.bool)}, r"got \(2, 1, 6, 5\)"),
        ({"n_queries": 1, "module": BOTH_SIDES}, "queries and keys of one sequence"),
        ({"n_queries": 4, "module": BOTH_SIDES}, "got 4 queries and 6 keys"),
        (
            {
                "n_queries": 1,
                "mask": torch.ones(2, 1, 1, 6, dtype=torch.bool),
                "module": BOTH_SIDES,
            },
            "queries and keys of one sequence",
        ),
        (
            {"module": layer(tsattn_block_sizes=40)},
            r"tsattn_block_sizes must be a list of numbers, one a level; got 40; write \[40\]",
        ),
        (
            {"module": layer(tsattn_mean_levels="no")},
            "tsattn_mean_levels must be True or False; got 'no'",
        ),
        (
            {"module": layer(tsattn_rank=[4, 4])},
            "no setting tsattn_rank; it has tsattn_ranks, .*; drop it from the config",
        ),
        (
            {"module": layer(max_position_embeddings=None)},
            r"set config.tsattn_block_sizes for ranks \(4, 2, 2\)",
        ),
        (
            {
                "module": SimpleNamespace(
                    is_causal=True,
                    config=SimpleNamespace(tsattn_ranks=[4, 2], max_position_embeddings=9),
                )
            },
            r"ranks must sum to d_head; got sum\(\(4, 2\)\) = 6 for d_head = 8",
        ),
    ],
)
def test_what_the_kernel_does_not_have_is_refused(hf, change, message):
    with pytest.raises(ValueError, match=message):
        call(hf, **change)


def test_mask_of_one_head_only_is_refused(hf):
    mask = torch.ones(6, 6, dtype=torch.bool).tril().expand(2, 2, 6, 6).clone()
    mask[0, 1, 5, 0] = False
    with pytest.raises(ValueError, match="one mask for all heads"):
        call(hf, mask)


def test_packed_sequences_and_dropping_caches_are_refused(hf):
    model = language_model(hf, "tsattn_mlr", **LEVELS)
    positions = torch.cat([torch.arange(9), torch.arange(8)])[None]
    with pytest.raises(ValueError, match="packed or chunked sequences"):
        model(tokens(1), position_ids=positions, use_cache=False)
    model = language_model(hf, "tsattn_mlr", kind="Mistral", head=True, sliding_window=5, **LEVELS)
    with pytest.raises(ValueError, match="got a cache that dropped"):
        model.generate(tokens(1), max_new_tokens=3, do_sample=False)
    answer = model.generate(tokens(1), max_new_tokens=3, do_sample=False, use_cache=False)
    assert answer.shape == (1, 20)


def test_examples_of_the_transformers_adapter(hf):
    outcome = doctest.testmod(hf.module)
    assert outcome.attempted == 1
    assert outcome.failed == 0
