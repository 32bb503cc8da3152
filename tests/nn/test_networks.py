"""Networks: shapes, equivariance, explicit chance, and what the layers promise."""

import ast
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from chance import seeded
from fresh import in_fresh_process
from jaxtyping import TypeCheckError
from torch import nn

from tsattn.kernels import Levels, Pattern
from tsattn.nn.attention import Attention
from tsattn.nn.config import ATTENTION_KINDS, LINEAR_KINDS, ModelConfig, Network
from tsattn.nn.layers import Dropout, linear, set_generator
from tsattn.nn.models import build_model, moving_average
from tsattn.nn.patching import RevIN, n_patches, patchify
from tsattn.nn.scores import DotScore, LevelScore

BACKBONES = [*ATTENTION_KINDS, *LINEAR_KINDS]


def small(backbone, **kwargs):
    return ModelConfig(
        context=40,
        horizon=6,
        backbone=backbone,
        d_model=8,
        n_heads=2,
        d_ff=16,
        n_layers=2,
        patch_len=8,
        patch_stride=4,
        **kwargs,
    )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_shapes_channel_independence_and_float64(backbone):
    model = build_model(small(backbone), generator=seeded()).eval()
    x = torch.randn(3, 40, 2, generator=seeded(1))
    y = model(x)
    assert y.shape == (3, 6, 2)
    torch.testing.assert_close(model(x[:, :, 1:]), y[:, :, 1:])
    assert model.double()(x.double()).dtype == torch.float64


def window_refusals():
    decoder = ModelConfig(
        40, 6, backbone="standard", architecture="decoder", patch_stride=16, linear_skip=False
    )
    networks = [build_model(small("mlr")), build_model(small("nlinear")), build_model(decoder)]
    calls = [*networks, networks[0].attention_maps, networks[2].attention_maps]
    messages = []
    for call in calls:
        for windows in (np.ones((2, 40, 1)), torch.ones(2, 40)):
            with pytest.raises((TypeError, ValueError)) as caught:
                call(windows)
            messages.append(str(caught.value))
    return messages


def test_windows_of_another_kind_are_refused_before_torch_sees_them():
    # In a process of its own: here the checks of types would speak first.
    told = ast.literal_eval(in_fresh_process(__file__, "print(window_refusals())"))
    assert len(told) == 10
    for no_tensor, no_channels in zip(told[::2], told[1::2], strict=True):
        assert no_tensor == (
            "windows must be a tensor; got ndarray; convert it with torch.as_tensor()"
        )
        assert no_channels == (
            "windows must have the axes (batch, rows, channels); got shape (2, 40);"
            " x.unsqueeze(-1) makes one channel"
        )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_building_draws_from_the_given_generator_alone(backbone):
    state = torch.random.get_rng_state()
    first = build_model(small(backbone), generator=seeded()).state_dict()
    torch.rand(3)
    second = build_model(small(backbone), generator=seeded()).state_dict()
    other = build_model(small(backbone), generator=seeded(1)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    torch.random.set_rng_state(state)
    build_model(small(backbone), generator=seeded())
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_equivariant_models_follow_shift_and_scale(backbone):
    model = build_model(small(backbone, equivariant=True), generator=seeded()).double().eval()
    x = torch.randn(3, 40, 2, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(model(x * 1e3 - 70), model(x) * 1e3 - 70, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(x * 1e-9), model(x) * 1e-9, rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("backbone", [*ATTENTION_KINDS, "rlinear"])
def test_a_constant_window_gives_a_constant_forecast(backbone):
    model = build_model(small(backbone), generator=seeded()).eval()
    y = model(torch.full((1, 40, 1), 0.1))
    torch.testing.assert_close(y, torch.full((1, 6, 1), 0.1))


def test_revin_undoes_itself():
    revin = RevIN("mean")
    x = torch.randn(4, 30, generator=seeded(), dtype=torch.float64) * 7 + 3
    location, spread = revin.statistics(x)
    normal = revin(x, location, spread)
    torch.testing.assert_close(
        normal.mean(-1), torch.zeros(4, dtype=torch.float64), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(normal.std(-1, unbiased=False), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(revin.inverse(normal, location, spread), x)


@pytest.mark.parametrize(
    ("backbone", "masked"), [("standard", False), ("standard", True), ("rlinear", False)]
)
def test_a_constant_window_has_a_gradient(backbone, masked):
    model = build_model(small(backbone, masked=masked), generator=seeded()).eval()
    x = torch.stack([torch.full((40,), 7.0), torch.randn(40, generator=seeded(1))], 1)[
        None
    ].requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x)
    # The forecast of a constant window is its location, hence the mean of its rows.
    torch.testing.assert_close(slope[0, :, 0], torch.full((40,), 6 / 40))
    assert slope.isfinite().all()


def test_patches_cover_the_newest_row_and_match_a_loop():
    x = torch.arange(336.0)[None]
    patches = patchify(x, 16, 8)
    assert patches.shape == (1, n_patches(336, 16, 8), 16) == (1, 42, 16)
    padded = [*range(336), *[335] * 8]
    for i in range(42):
        assert patches[0, i].tolist() == padded[8 * i : 8 * i + 16]


def test_moving_average_matches_a_loop():
    x = torch.randn(1, 1, 9, generator=seeded())
    smooth = moving_average(x, 5)
    for t in range(9):
        rows = [min(max(i, 0), 8) for i in range(t - 2, t + 3)]
        torch.testing.assert_close(smooth[0, 0, t], x[0, 0, rows].mean())


def test_mlr_with_one_level_is_standard_attention():
    x = torch.randn(2, 11, 8, generator=seeded())
    plain = Attention(8, score=DotScore(8, 2, generator=seeded(1)), generator=seeded(2))
    level = LevelScore(8, 2, length=11, levels=Levels((4,)), generator=seeded(1))
    torch.testing.assert_close(
        Attention(8, score=level, generator=seeded(2))(x), plain(x), rtol=1e-4, atol=1e-6
    )


def test_causal_pattern_hides_the_future():
    layer = Attention(
        8,
        score=LevelScore(8, 2, length=11, generator=seeded()),
        pattern=Pattern(causal=True),
        generator=seeded(1),
    )
    x = torch.randn(1, 11, 8, generator=seeded())
    changed = x.clone()
    changed[:, 7:] += 5
    torch.testing.assert_close(layer(x)[:, :7], layer(changed)[:, :7])
    assert not torch.allclose(layer(x)[:, 7:], layer(changed)[:, 7:])


def test_dropout_keeps_the_mean_and_its_rate():
    layer = Dropout(0.3)
    layer.generator = seeded()
    y = layer(torch.ones(1000, 1001))
    assert abs(float((y == 0).float().mean()) - 77 / 256) < 2e-3
    assert abs(float(y.mean()) - 1) < 2e-3
    assert torch.equal(layer.eval()(y), y)


@pytest.mark.parametrize("rate", [0.9981, 0.9999])
def test_a_dropout_of_almost_all_keeps_one_number_of_256(rate):
    layer = Dropout(rate).train()
    layer.generator = seeded()
    y = layer(torch.ones(100_000))
    assert layer.n_dropped == 255
    assert set(y.unique().tolist()) == {0.0, 256.0}


def test_dropout_draws_from_its_generator_and_masks_the_gradient():
    state = torch.random.get_rng_state()
    outs = []
    for _ in range(2):
        model = nn.Sequential(Dropout(0.5))
        set_generator(model, seeded(4))
        x = torch.randn(33, 7, generator=seeded(), requires_grad=True)
        y = model(x)
        y.sum().backward()
        assert torch.equal((y == 0), (x.grad == 0))
        outs.append(y)
    assert torch.equal(*outs)
    assert torch.equal(state, torch.random.get_rng_state())


def test_linear_starts_like_torch():
    weight = linear(100, 50, generator=seeded()).weight.detach()
    assert float(weight.abs().max()) <= 0.1
    assert float(weight.std()) == pytest.approx(0.1 / 3**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"patch_len": 50},
            "patch_len must be at most context; got patch_len = 50 for context = 40",
        ),
        ({"backbone": "nonsense"}, "backbone must be one of standard, .*; got 'nonsense'"),
        ({"d_ff": 0}, "d_ff must be a whole number of at least 1; got 0"),
    ],
)
def test_bad_settings_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig(**{"context": 40, "horizon": 6, **kwargs})


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_heads": 3}, "n_heads must divide d_model; got n_heads = 3 for d_model = 16"),
        ({"ranks": (2, 1)}, r"ranks must sum to d_head; got sum\(\(2, 1\)\) = 3 for d_head = 8"),
        ({"ranks": (4, 2, 2), "block_sizes": (42, 21)}, "block_sizes needs one number a level"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1; got 1\.0"),
    ],
)
def test_bad_sizes_are_named_when_the_network_is_built(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build_model(ModelConfig(context=40, horizon=6, **kwargs))


@pytest.mark.parametrize("share", [None, "0.1", 1, -0.1])
def test_dropout_is_a_share(share):
    network = Network()
    object.__setattr__(
        network, "dropout", share
    )  # what checks types in these tests does not look there
    with pytest.raises(ValueError, match=f"dropout must be at least 0 and below 1; got {share!r}"):
        network.__post_init__()


def test_config_goes_through_plain_values():
    config = small("mlr", ranks=(2, 1, 1), block_sizes=(10, 5, 3))
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in config.to_dict().items()}
    assert ModelConfig.from_dict(values) == config
    assert (
        ModelConfig.from_dict({**values, "head_dropout": 0.0}) == config
    )  # as older versions wrote it
    with pytest.raises(ValueError, match="no setting 'colour'"):
        ModelConfig.from_dict({**values, "colour": 1})


@pytest.mark.parametrize("head", ["point", "quantile", "student_t"])
@pytest.mark.parametrize("backbone", ATTENTION_KINDS)
def test_no_window_at_all_gives_no_forecast(backbone, head):
    model = build_model(small(backbone, head=head), generator=seeded())
    y = model(torch.empty(0, 40, 2))
    assert y.shape[:3] == (0, 6, 2)
    y.sum().backward()
    assert not any(
        parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None
    )


# Of encoders and of decoders, which keep caches. The scale of a bilinear score is a number that the
# compiler does not know.
COMPILED = [
    ("mlr", "encoder"),
    ("bilinear_mlr", "encoder"),
    ("mlr", "decoder"),
    ("sliding_window", "decoder"),
    ("bilinear_mlr", "decoder"),
]


def gaps_of_a_compiler():
    """Largest difference of each whole compiled graph for two sizes of batches."""
    gaps = {}
    for backbone, architecture in COMPILED:
        torch._dynamo.reset()
        config = small(backbone)
        if architecture == "decoder":
            config = replace(config, architecture="decoder", patch_stride=8, linear_skip=False)
        network = build_model(config, generator=seeded()).eval()
        compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
        for n_windows in (1, 7):
            x = torch.randn(n_windows, 40, 1, generator=seeded(n_windows))
            with torch.no_grad():
                gap = (compiled(x) - network(x)).abs().max().item()
            gaps[f"{backbone} {architecture} {n_windows}"] = gap
    return gaps


def test_a_compiler_takes_whole_networks_for_batches_of_any_size():
    # In a process of its own: the checks of types cannot be compiled.
    source = """
import json
import warnings

warnings.simplefilter("ignore")
print(json.dumps(gaps_of_a_compiler()))
"""
    gaps = json.loads(in_fresh_process(__file__, source))
    assert len(gaps) == 2 * len(COMPILED)
    assert max(gaps.values()) < 1e-5, gaps


SETTINGS = [
    *((backbone, {}) for backbone in ATTENTION_KINDS),
    ("mlr", {"scaling": "paper", "learn_scales": True}),
    ("mlr", {"rotary": True, "ranks": (2, 2)}),
    ("standard", {"rotary": True, "n_kv_heads": 1}),
]


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:`torch.jit.script` is deprecated"
)
@pytest.mark.parametrize(
    ("backbone", "length"), [*((kind, 24) for kind in ATTENTION_KINDS), ("standard", 400)]
)
def test_transforms_of_torch_func_go_through_networks(backbone, length):
    config = Network(n_layers=1, d_model=8, n_heads=2, patch_len=4, patch_stride=4).describe(
        length, 2, backbone=backbone
    )
    model = build_model(config, generator=seeded()).eval()
    x = torch.randn(2, length, 1, generator=seeded(1))
    weights = dict(model.named_parameters())

    def loss(weights, row):
        return torch.func.functional_call(model, weights, (row[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, x)
    model(x).square().sum().backward()
    for name, weight in weights.items():
        torch.testing.assert_close(each[name].sum(0), weight.grad, rtol=1e-3, atol=1e-4)
    backward = torch.func.jacrev(model)(x[:1])[0, :, 0, 0, :, 0]
    forward = torch.func.jvp(model, (x[:1],), (x[1:],))[1][0, :, 0]
    torch.testing.assert_close(backward @ x[1, :, 0], forward, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop", "ignore:`torch.jit.script` is deprecated"
)
def test_a_network_has_second_derivatives_by_torch_func():
    model = build_model(small("mlr"), generator=seeded()).double().eval()
    x = torch.randn(1, 40, 1, generator=seeded(1), dtype=torch.float64)
    gradient = torch.func.grad(lambda x: model(x).square().sum())
    curved = torch.func.hessian(lambda x: model(x).square().sum())(x)[0, :, 0, 0, :, 0]
    step = 1e-6 * torch.nn.functional.one_hot(torch.tensor(7), 40).double()[None, :, None]
    measured = (gradient(x + step) - gradient(x - step))[0, :, 0] / 2e-6
    torch.testing.assert_close(curved[7], measured, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
@pytest.mark.parametrize(("backbone", "changes"), SETTINGS)
def test_an_autocast_changes_roundings_only(backbone, changes, architecture):
    if architecture == "decoder":
        changes = {**changes, "architecture": architecture, "linear_skip": False, "patch_stride": 8}
    config = ModelConfig.from_dict({**small(backbone).to_dict(), **changes})
    model = build_model(config, generator=seeded()).eval()
    x = torch.randn(2, 40, 1, generator=seeded(1))
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            y = model(x)
            with torch.autocast("cpu", torch.bfloat16):
                narrow = model(x)
        torch.testing.assert_close(narrow.float(), y, rtol=0.05, atol=0.1)
        if gradients:
            narrow.float().sum().backward()
    maps = model.attention_maps(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.attention_maps(x).float(), maps, rtol=0.05, atol=0.05)


ELSEWHERE = """
import itertools
from tsattn.kernels import attention
torch.set_default_device("meta")
seed = torch.Generator("cpu").manual_seed(0)
q = torch.randn(1, 2, 40, 8, device="cpu", generator=seed).requires_grad_()
mask = torch.rand(1, 40, device="cpu", generator=seed) < 0.9
levels = {"ranks": (4, 2, 2), "offset": (0, 3)}
calls = [("auto", {}), ("reference", {"window": 5}), ("windowed", {"window": 5, "n_global": 1}),
         ("windowed", {"window": 5, "ranks": (4, 4), "block_sizes": (40, 40), "level_scales": (1.0, 2.0)})]
calls += [(backend, levels) for backend in ("reference", "expanded", "masked", "bands")]
calls += [("bands", {**levels, "level_scales": (1.0, 2.0, 3.0)})]
for (backend, options), key_mask in itertools.product(calls, (None, mask)):
    attention(q, q, q, backend=backend, key_mask=key_mask, **options).sum().backward()
settings = [*((kind, {}) for kind in BACKBONES), ("mlr", {"learn_scales": True, "scaling": "paper"}),
            ("standard", {"rotary": True, "head": "quantile"}), ("standard", {"mixed_channels": 2})]
for backbone, changes in settings:
    model = build_model(small(backbone, **changes), generator=seed)
    places = {x.device.type for x in (*model.parameters(), *model.buffers())}
    assert places == {"cpu"}, (backbone, changes, places)
    y = model(torch.randn(3, 40, 2, device="cpu", generator=seed))
    y.sum().backward()
print("all", y.device)
"""


def test_torchs_default_device_moves_nothing():
    """On ``meta`` a tensor without a device of its own would have no numbers."""
    assert in_fresh_process(__file__, ELSEWHERE) == "all cpu\n"


def test_a_wrong_shape_is_caught_by_the_annotations():
    model = build_model(small("mlr"), generator=seeded())
    with pytest.raises(TypeCheckError, match="Type-check error"):
        model(torch.randn(40, 2))


@pytest.mark.parametrize("backbone", ["mlr", "nlinear"])
def test_windows_of_another_length_are_refused(backbone):
    model = build_model(small(backbone), generator=seeded())
    calls = [model]
    if backbone == "mlr":
        calls.append(model.attention_maps)
    for call in calls:
        for rows in (39, 41):
            with pytest.raises(ValueError, match=rf"\(batch, 40, channels\).*got \(2, {rows}, 1\)"):
                call(torch.zeros(2, rows, 1))


def test_a_head_of_low_rank_is_two_thin_maps():
    full, thin = (
        build_model(small("mlr", head_rank=rank), generator=seeded()) for rank in (None, 3)
    )
    x = torch.randn(4, 40, 2, generator=seeded(1))
    assert thin(x).shape == full(x).shape
    states = full.config.n_tokens * 8
    assert full.head.project.weight.numel() == states * 6
    assert [p.numel() for p in thin.head.project.parameters()] == [3 * states, 6 * 3, 6]
    # What reaches the horizon has three dimensions, whatever the windows.
    wide = torch.randn(50, states, generator=seeded(2))
    assert torch.linalg.matrix_rank(thin.head.project(wide) - thin.head.project(0 * wide)) == 3
    quantiles = build_model(
        small("mlr", head_rank=3, head="quantile", quantiles=(0.1, 0.5)), generator=seeded()
    )
    assert quantiles(x).shape == (4, 6, 2, 2)


@pytest.mark.parametrize("changes", [{"backbone": "nlinear"}, {"architecture": "decoder"}])
def test_networks_without_states_to_narrow_refuse_a_rank(changes):
    backbone = changes.pop("backbone", "mlr")
    with pytest.raises(ValueError, match="head_rank is for attention encoders; got 3"):
        small(backbone, head_rank=3, **changes)
    with pytest.raises(ValueError, match="head_rank must be a whole number of at least 1; got 0"):
        small("mlr", head_rank=0)
