"""A description builds the attention it names, layer by layer, and refuses settings that mean
nothing there.
"""

import pytest
import torch
from chance import seeded

from tsattn.kernels import Pattern
from tsattn.nn.attention import Attention, GlobalLocalAttention
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig, Network, default_window
from tsattn.nn.models import build_model
from tsattn.nn.scores import BilinearScore, DotScore, LevelScore
from tsattn.nn.variants import make_attention, make_stack, shifted_offset


def config(backbone="mlr", **kwargs):
    return ModelConfig(
        **{
            "context": 80,
            "horizon": 6,
            "backbone": backbone,
            "patch_len": 8,
            "patch_stride": 4,
            **kwargs,
        }
    )


def patterns(**kwargs):
    described = config(**kwargs)
    return [make_attention(described, layer).pattern for layer in range(described.n_layers)]


def test_every_kind_has_its_score_and_pattern():
    made = {kind: make_attention(config(kind), 0, generator=seeded()) for kind in ATTENTION_KINDS}
    assert {kind: type(layer.score) for kind, layer in made.items()} == {
        "standard": DotScore,
        "sliding_window": DotScore,
        "global_local": DotScore,
        "mlr": LevelScore,
        "bilinear_mlr": BilinearScore,
        "bilinear_btt": BilinearScore,
        "mlbtc": BilinearScore,
    }
    assert [kind for kind, layer in made.items() if isinstance(layer, GlobalLocalAttention)] == [
        "global_local"
    ]
    assert made["sliding_window"].pattern == Pattern(window=5)
    assert made["standard"].pattern == made["mlr"].pattern == made["mlbtc"].pattern == Pattern()
    structures = {
        kind: type(made[kind].score.matrix).__name__
        for kind in ("bilinear_mlr", "bilinear_btt", "mlbtc")
    }
    assert structures == {"bilinear_mlr": "MLR", "bilinear_btt": "BTT", "mlbtc": "MLBTC"}
    # As many numbers as the two projections of an ordinary head, biases aside.
    assert made["bilinear_mlr"].score.matrix.n_parameters == 2 * 16 * 16


def test_patterns_take_turns_over_the_layers():
    assert patterns(layer_pattern="GWW", n_layers=5, window=4) == [
        Pattern(),
        Pattern(window=4),
        Pattern(window=4),
        Pattern(),
        Pattern(window=4),
    ]
    assert (
        patterns(backbone="sliding_window", n_global=2, n_layers=2)
        == [Pattern(window=5, n_global=2)] * 2
    )
    assert patterns(backbone="standard", n_layers=2) == [Pattern(), Pattern()]


def test_offsets_take_turns_over_layers_or_heads():
    def offsets(**kwargs):
        described = config(**kwargs)
        return [
            make_attention(described, layer).score.levels.offset
            for layer in range(described.n_layers)
        ]

    assert offsets(offset="layers", n_layers=3) == [0, 3, 0]
    assert offsets(offset="heads", n_layers=2) == [(0, 3), (0, 3)]
    assert offsets(offset="heads", n_layers=1, n_heads=4, n_kv_heads=2) == [(0, 0, 3, 3)]
    assert offsets(offset=3, n_layers=2) == [3, 3]
    assert offsets(offset=(0, 1), n_layers=1) == [(0, 1)]


@pytest.mark.parametrize("length", [20, 42, 64, 96, 257])
@pytest.mark.parametrize("n_levels", [2, 3, 4])
def test_a_shifted_grid_keeps_away_from_the_borders_of_the_other(length, n_levels):
    from tsattn.kernels import default_block_sizes

    sizes = default_block_sizes(length, n_levels)
    shift = shifted_offset(sizes)
    for size in sizes[1:]:
        distance = min(shift % size, -shift % size)
        assert distance + 1 >= size / 3 - 1, (sizes, shift)


def test_alternating_offsets_let_neighbours_across_a_border_meet():
    layer_maps = {}
    for offset in (0, "layers"):
        torch.manual_seed(0)
        described = config(offset=offset, n_layers=2, ranks=(1, 3, 4), context=80)
        layer = make_attention(described, 1, generator=seeded())
        x = torch.randn(1, described.n_tokens, 16, generator=seeded(1))
        changed = x.clone()
        layer_maps[offset] = layer.weights(x)
        levels = layer.score.levels
        blocks = [
            ((9 + levels.offset) // size, (10 + levels.offset) // size)
            for size in levels.block_sizes[1:]
        ]
        assert [a == b for a, b in blocks] == ([False, False] if offset == 0 else [True, True])
        assert torch.equal(layer.weights(changed), layer_maps[offset])
    assert not torch.allclose(layer_maps[0], layer_maps["layers"])


def test_grouped_queries_shrink_keys_and_values():
    few = make_attention(config("mlr", n_heads=4, n_kv_heads=2), 0, generator=seeded())
    assert (few.score.n_key_heads, few.n_value_heads) == (2, 2)
    assert few.value.out_features == 2 * 4
    assert few.score.project.out_features == (4 + 2) * 4


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_attention_maps_of_a_network(kind):
    described = config(kind, n_layers=2)
    model = build_model(described, generator=seeded()).eval()
    maps = model.attention_maps(torch.randn(3, 80, 2, generator=seeded(1)))
    length = described.n_tokens
    assert maps.shape == (2, 3, 2, 2, length, length)
    rows = 2.0 if kind == "global_local" else 1.0
    torch.testing.assert_close(maps.sum(-1), torch.full(maps.shape[:-1], rows))


def test_attention_maps_are_those_that_the_network_uses():
    model = build_model(config("mlr", n_layers=2), generator=seeded()).double().eval()
    x = torch.randn(1, 80, 1, generator=seeded(1), dtype=torch.float64)
    maps = model.attention_maps(x)
    seen = []
    for block in model.stack.blocks:
        block.attention.register_forward_hook(
            lambda module, args, _: seen.append(module.weights(args[0]))
        )
    model(x)
    torch.testing.assert_close(maps[:, 0, 0], torch.stack(seen)[:, 0])


def test_a_hidden_token_changes_nothing_elsewhere():
    stack = make_stack(config("mlr", n_layers=2), generator=seeded()).eval()
    x = torch.randn(2, 20, 16, generator=seeded(1))
    seen = torch.arange(20).expand(2, 20) != 7
    changed = x.where(seen[..., None], -x)
    torch.testing.assert_close(stack(changed, key_mask=seen)[seen], stack(x, key_mask=seen)[seen])
    assert not torch.allclose(stack(changed)[seen], stack(x)[seen])


def test_default_window_shows_half_of_the_tokens():
    assert [default_window(n) for n in (1, 4, 42, 100)] == [1, 1, 11, 25]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"backbone": "standard", "ranks": (4, 4)},
            "'standard' does not take ranks; got .4, 4.; .*mlr, bilinear_mlr",
        ),
        (
            {"backbone": "bilinear_btt", "block_sizes": (4, 2)},
            "does not take block_sizes; .* use one of mlr",
        ),
        (
            {"backbone": "mlr", "tt_rank": 2},
            "'mlr' does not take tt_rank; got 2; .* use one of bilinear_btt",
        ),
        ({"backbone": "mlbtc", "rotary": True}, "'mlbtc' does not take rotary; got True"),
        (
            {"backbone": "sliding_window", "layer_pattern": "G"},
            "'sliding_window' does not take layer_pattern",
        ),
        (
            {"backbone": "mlr", "window": 3},
            "window needs a layer with a window; got window = 3 without one",
        ),
        (
            {"backbone": "standard", "n_global": 3, "layer_pattern": "G"},
            "n_global needs a layer with a window",
        ),
        (
            {"layer_pattern": "GLW"},
            "layer_pattern must be made of G and W, such as 'GWW'; got 'GLW'",
        ),
        (
            {
                "layer_pattern": "GW",
                "architecture": "decoder",
                "patch_stride": 8,
                "linear_skip": False,
            },
            "a decoder with attention='mlr' keeps levels of all tokens, and no window; got",
        ),
        ({"layer_pattern": ""}, "layer_pattern must be made of G and W"),
        ({"scaling": "mup"}, "scaling must be one of default, paper; got 'mup'"),
        ({"offset": "rows"}, "offset must be whole numbers, 'layers' or 'heads'; got 'rows'"),
        ({"window": 0, "layer_pattern": "W"}, "window must be a whole number of at least 1; got 0"),
        ({"architecture": "both"}, "architecture must be one of encoder, decoder; got 'both'"),
        (
            {"architecture": "decoder"},
            "patches must not overlap; got patch_stride = 4 for patch_len = 8",
        ),
        (
            {"architecture": "decoder", "patch_stride": 8},
            "no map from the whole window .* linear_skip = True",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        config(**kwargs)


def unchecked(kind, **values):
    """Settings as they are outside of the tests, where nothing checks the types."""
    settings = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(settings, name, value)
    settings.__post_init__()
    return settings


@pytest.mark.parametrize("name", ["channel_mixing", "rotary"])
def test_a_switch_that_is_text_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be True or False; got 'no'"):
        unchecked(Network, **{name: "no"})


@pytest.mark.parametrize("made", [Network, config])
def test_strides_that_skip_rows_are_refused(made):
    message = "got patch_stride = 5 for patch_len = 4; set patch_stride = 4 or less"
    with pytest.raises(ValueError, match=message):
        made(patch_len=4, patch_stride=5)
    assert made(patch_len=4, patch_stride=4).patch_stride == 4
    # The map of all rows has no patches.
    assert config("nlinear", patch_len=4, patch_stride=5).patch_stride == 5


def test_a_single_block_size_is_refused_by_its_name():
    single = unchecked(ModelConfig, context=80, horizon=6, block_sizes=20)
    with pytest.raises(TypeError, match="block_sizes"):
        make_attention(single, 0)
    assert make_attention(config(block_sizes=(20,)), 0).score.levels.block_sizes == (20,)


def decoder(kind="mlr", **kwargs):
    sizes = {
        "context": 67,
        "horizon": 29,
        "patch_len": 8,
        "patch_stride": 8,
        "n_layers": 2,
        "linear_skip": False,
    }
    return ModelConfig(backbone=kind, architecture="decoder", **{**sizes, **kwargs})


VARIANTS = [
    *[(kind, {}) for kind in ATTENTION_KINDS],
    (
        "mlr",
        {
            "offset": "layers",
            "learn_scales": True,
            "rotary": True,
            "n_heads": 1,
            "ranks": (8, 4, 4),
        },
    ),
    ("mlr", {"scaling": "paper", "offset": "heads"}),
    ("mlr", {"n_heads": 4, "n_kv_heads": 2}),
    ("standard", {"layer_pattern": "GW", "window": 3, "n_global": 2, "rotary": True}),
    ("global_local", {"n_heads": 4, "n_kv_heads": 1}),
]


@pytest.mark.parametrize(("kind", "kwargs"), VARIANTS)
@pytest.mark.parametrize("horizon", [1, 8, 29])
def test_decoding_patch_by_patch_equals_full_passes(kind, kwargs, horizon):
    model = (
        build_model(decoder(kind, horizon=horizon, **kwargs), generator=seeded()).double().eval()
    )
    x = torch.randn(3, 67, 2, generator=seeded(1), dtype=torch.float64)
    full = model(x)
    assert full.requires_grad
    with torch.no_grad():
        cached = model(x)
    assert cached.shape == (3, horizon, 2)
    torch.testing.assert_close(cached, full.detach(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("kind", "kwargs"), VARIANTS)
def test_stepping_through_a_layer_equals_the_full_pass_at_every_length(kind, kwargs):
    described = decoder(kind, context=104, horizon=1, **kwargs)
    layer = make_attention(described, 1, generator=seeded()).double()
    x = torch.randn(2, described.n_tokens, 16, generator=seeded(1), dtype=torch.float64)
    full = layer(x).detach()
    for prompt in range(described.n_tokens + 1):
        cache = layer.make_cache(2, described.n_tokens, dtype=torch.float64)
        parts = [
            layer.step(part, cache)
            for part in x.split([prompt, described.n_tokens - prompt], 1)
            if part.shape[1]
        ]
        torch.testing.assert_close(torch.cat(parts, 1), full, rtol=1e-10, atol=1e-12)
        assert cache.length == described.n_tokens


def test_a_decoder_looks_at_no_later_patch_and_answers_for_each():
    model = build_model(decoder(), generator=seeded()).eval()
    patches = torch.randn(2, 8, 8, generator=seeded(1))
    changed = patches.clone()
    changed[:, 5:] += 3
    first = model.next_patches(patches)
    second = model.next_patches(changed)
    torch.testing.assert_close(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5], second[:, 5])


def test_a_decoder_feeds_on_its_own_forecast():
    model = build_model(decoder(horizon=16), generator=seeded()).double().eval()
    x = torch.randn(2, 67, 1, generator=seeded(1), dtype=torch.float64)
    mean = x.mean(1, keepdim=True)
    spread = x.std(1, keepdim=True, unbiased=False)
    patches = ((x - mean) / spread).squeeze(2)[:, 3:].unflatten(1, (8, 8))
    third = model.next_patches(patches)[:, -1:]
    fourth = model.next_patches(torch.cat((patches, third), 1))[:, -1:]
    expected = torch.cat((third, fourth), 1).flatten(1)[..., None] * spread + mean
    torch.testing.assert_close(model(x), expected)


def test_a_halved_cache_keeps_two_of_the_window():
    layer = GlobalLocalAttention(16, 2, window=3, causal=True, generator=seeded())
    cache = layer.make_cache(1, 12)
    assert [half.key_bytes + half.value_bytes for half in (cache.far, cache.near)] == [
        4 * 2 * tokens * (4 + 8) for tokens in (12, 3)
    ]
    layer.step(torch.randn(1, 5, 16, generator=seeded()), cache)
    assert cache.length == 5
    cache.reset()
    assert (cache.length, cache.near.length) == (0, 0)


def test_a_decoder_trains():
    model = build_model(decoder(), generator=seeded())
    x = torch.randn(4, 67, 1, generator=seeded(1))
    model(x).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_public_layer_needs_no_generator():
    layer = Attention(16, score=LevelScore(16, 2, length=9))
    assert layer(torch.zeros(1, 9, 16)).shape == (1, 9, 16)
