"""Channels that learn from one another when they are asked to, and from nobody when they
are not.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from chance import seeded
from covariate_forecasters import attention
from tables import covariate_frame, fill_future, wide_covariate_frame

from tsattn.adapters.export import export_program
from tsattn.data.frames import from_wide, to_panel
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.rolling import roll
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.nn.blocks import ChannelMixer
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig
from tsattn.nn.heads import HEADS
from tsattn.nn.models import build_model

SIZES = {
    "context": 20,
    "horizon": 5,
    "d_model": 8,
    "d_ff": 8,
    "n_layers": 2,
    "patch_len": 8,
    "patch_stride": 4,
}


def network(channels=3, **kwargs):
    config = ModelConfig(**{**SIZES, "dropout": 0.0, "mixed_channels": channels, **kwargs})
    return build_model(config, generator=seeded()).double().eval()


def windows(channels=3, seed=1):
    return torch.randn(4, 20, channels, generator=seeded(seed), dtype=torch.float64)


def three(n=70):
    """Three channels, no covariates."""
    frame = wide_covariate_frame(n)
    return frame.assign(s2=np.cos(np.arange(n) / 3)).drop(columns=["temp", "promo"])


def mixing(**kwargs):
    return attention(channel_mixing=True, **kwargs)


# --- the layer ------------------------------------------------------------------------------------


def mixed_by_loops(mixer, x, seen):
    """One channel, one token, one head at a time."""
    n = mixer.n_channels
    attention = mixer.attention
    score = attention.score
    out = x.clone()
    for window in range(x.shape[0] // n):
        rows = range(window * n, window * n + n)
        for token in range(x.shape[1]):
            read = [mixer.norm(x[row, token]) + mixer.places[c] for c, row in enumerate(rows)]
            parts = [score.project(each).split([score.n_heads * score.d_key] * 2) for each in read]
            values = [attention.value(each) for each in read]
            for c, row in enumerate(rows):
                heads = []
                for h in range(score.n_heads):
                    of = slice(h * score.d_key, (h + 1) * score.d_key)
                    scores = torch.stack(
                        [parts[c][0][of] @ parts[k][1][of] * score.d_key**-0.5 for k in range(n)]
                    )
                    scores = scores.masked_fill(
                        ~torch.stack([seen[r, token] for r in rows]), -torch.inf
                    )
                    weights = scores.softmax(0).nan_to_num()
                    heads.append(sum(weights[k] * values[k][of] for k in range(n)))
                out[row, token] = x[row, token] + attention.out(torch.cat(heads))
    return out


@pytest.mark.parametrize("masked", [False, True])
def test_the_mixer_equals_loops(masked):
    mixer = ChannelMixer(3, 8, 2, generator=seeded()).double()
    x = torch.randn(6, 5, 8, generator=seeded(1), dtype=torch.float64)
    seen = torch.rand(6, 5, generator=seeded(2)) > (0.4 if masked else -1)
    seen[:3, 2] = not masked
    mixed = mixer(x, key_mask=seen) if masked else mixer(x)
    torch.testing.assert_close(mixed, mixed_by_loops(mixer, x, seen), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_channels_mix_only_when_asked(kind):
    x = windows()
    apart = network(0, backbone=kind)
    together = network(backbone=kind)
    changed = x.clone()
    changed[:, :, 0] = windows(seed=7)[:, :, 0]
    assert torch.equal(apart(changed)[:, :, 1:], apart(x)[:, :, 1:])
    moved = (together(changed) - together(x)).abs().amax((0, 1))
    assert (moved > 1e-4).all()
    torch.testing.assert_close(together(x * 1e3 - 5), together(x) * 1e3 - 5)


def test_windows_do_not_mix():
    model = network()
    x = windows()
    changed = x.clone()
    changed[0] += windows(seed=8)[0]
    moved = (model(changed) - model(x)).abs().amax((1, 2))
    assert (moved > 1e-4).tolist() == [True, False, False, False]
    torch.testing.assert_close(model(x[2:3]), model(x)[2:3])


def test_channels_are_known_by_their_place():
    model = network()
    x = windows()
    assert not torch.allclose(model(x.flip(2)).flip(2), model(x))
    with torch.no_grad():
        for mixer in model.stack.mixers:
            mixer.places.zero_()
    torch.testing.assert_close(model(x.flip(2)).flip(2), model(x))


@pytest.mark.parametrize("head", HEADS)
def test_without_mixing_a_network_is_what_it_was(head):
    """Names, draws and, where mixers add nothing, the numbers of the plain network, bit for bit."""
    plain = network(0, head=head)
    mixed = network(head=head)
    extra = {name for name in mixed.state_dict() if ".mixers." in name}
    assert set(mixed.state_dict()) - extra == set(plain.state_dict())
    blocks = [
        name for name in plain.state_dict() if name.startswith(("embedding.", "stack.blocks."))
    ]
    assert all(torch.equal(plain.state_dict()[name], mixed.state_dict()[name]) for name in blocks)
    mixed.load_state_dict({**mixed.state_dict(), **plain.state_dict()})
    with torch.no_grad():
        for mixer in mixed.stack.mixers:
            mixer.attention.out.weight.zero_()
            mixer.attention.out.bias.zero_()
    x = windows().abs() + 1
    assert torch.equal(mixed(x), plain(x))


def test_missing_values_are_not_listened_to():
    model = network(masked=True)
    x = windows()
    x[0, :, 1] = torch.nan
    other = x.clone()
    other[0, :, 1] = torch.inf
    kept = [0, 2]
    assert model(x)[:, :, kept].isfinite().all()
    torch.testing.assert_close(model(other)[:, :, kept], model(x)[:, :, kept])
    two = model(x)[0, :, kept]
    whole = windows()
    assert not torch.allclose(model(whole)[0, :, kept], two)
    assert model.attention_maps(x).shape == (2, 4, 3, 2, 5, 5)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"channels": 1},
            "mixed_channels must be at least 2, or 0 for independent channels; got 1",
        ),
        ({"channels": -2}, "mixed_channels must be a whole number of at least 0; got -2"),
        (
            {"backbone": "rlinear"},
            "a linear network reads no covariates and mixes no channels; got mixed_channels = 3",
        ),
        (
            {"architecture": "decoder", "patch_stride": 8, "linear_skip": False},
            "a decoder network reads no covariates and mixes no channels; got mixed_channels = 3",
        ),
    ],
)
def test_networks_that_cannot_mix_refuse(kwargs, message):
    with pytest.raises(ValueError, match=message):
        network(**kwargs)


# --- the forecaster -------------------------------------------------------------------------------


def test_a_channel_that_follows_another_one_is_forecast_by_it():
    """The second channel is the first one, four steps later; by itself each of them is noise."""
    rng = np.random.default_rng(0)
    n = 500
    steps = 4
    lead = rng.normal(size=n)
    follow = np.concatenate([rng.normal(size=steps), lead[:-steps]]) + 0.05 * rng.normal(size=n)
    frame = pd.DataFrame(
        {"lead": lead, "follow": follow}, index=pd.date_range("2024-01-01", periods=n, freq="D")
    )
    learn = {
        "context": 16,
        "d_model": 16,
        "d_ff": 32,
        "patch_stride": 4,
        "dropout": 0.0,
        "learning_rate": 3e-2,
    }
    errors = {}
    for mixed in (False, True):
        model = attention(
            steps,
            channel_mixing=mixed,
            batch_size=32,
            max_epochs=8 if mixed else 2,
            patience=None,
            **learn,
        )
        model.fit(frame[:420])
        # Series stand in the order of their names.
        rolled = roll(model, from_wide(frame), np.arange(420, n - steps + 1))
        truth = np.stack([follow[end : end + steps] for end in rolled.ends])
        errors[mixed] = np.abs(rolled.point[:, :, 0] - truth).mean()
    # What nobody can know: noise, whose mean is the best forecast.
    noise = np.abs(truth).mean()
    assert errors[True] < noise / 3
    assert errors[False] > 0.9 * noise


def test_mixing_forecasters_live_as_others_do(tmp_path):
    frame = three()
    model = mixing(alias="mixed").fit(frame)
    expected = model.predict(level=50)
    pd.testing.assert_frame_equal(model.predict(frame, level=50), expected)
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(
        AttentionForecaster.load(tmp_path / "m").predict(level=50), expected
    )
    assert model.attention_maps().shape == (1, 3, 2, 6, 6)
    later = mixing(alias="mixed").fit(frame[:-6])
    expected = later.predict(frame)
    pd.testing.assert_frame_equal(later.update(frame[-6:]).predict(), expected)
    assert np.isfinite(model.score(frame))
    both = backtest([mixing(alias="mixed"), attention()], frame, n_windows=3).frame
    assert not np.allclose(both["mixed"], both["mlr"])
    changed = frame.assign(s2=frame["s2"][::-1].to_numpy())
    assert (model.predict(changed)["s0"] != model.predict()["s0"]).all()
    with pytest.raises(
        ValueError, match="fitted on the series s0, s1, s2, which look at one another; got s0, s1;"
    ):
        model.predict(frame[["s0", "s1"]])
    with pytest.raises(ValueError, match="which look at one another; got other, s0, s1;"):
        model.predict(frame.rename(columns={"s2": "other"}))
    with pytest.raises(ValueError, match="windows must have the 3 fitted channels; got 2"):
        model.predict_windows(np.zeros((1, 12, 2)))[0]


def test_windows_are_answered_alike_in_any_chunk(monkeypatch):
    model = mixing().fit(three())
    panel = to_panel(three())
    x = np.stack([panel.grouped().values[end - 12 : end] for end in range(12, 60)])
    whole_forecast = model.predict_windows(x)[0]
    monkeypatch.setattr("tsattn.forecasters.fitted._PASS_SEQUENCES", 7)
    # Products are rounded by the size of a chunk.
    np.testing.assert_allclose(
        model.predict_windows(x)[0],
        whole_forecast,
        rtol=1e-5,
        atol=1e-5 * np.abs(whole_forecast).max(),
    )


def test_mixing_goes_with_covariates_and_missing_values():
    model = mixing(past_cols=["temp"], future_cols=["promo"], calendar=["weekday"]).fit(
        wide_covariate_frame()
    )
    future = fill_future(model.make_future_frame())
    moved = model.predict(future=future.assign(promo=1 - future["promo"]))
    assert (model.predict(future=future) != moved).all(axis=None)
    holed = three()
    holed.iloc[30:40, 0] = np.nan
    assert np.isfinite(mixing(missing="mask").fit(holed).predict()).all(axis=None)


def test_series_that_begin_later_keep_their_stamps():
    frame = three()
    frame.iloc[:9, 1] = np.nan
    judged = backtest(mixing(), frame, n_windows=1).frame
    known = mixing().fit(frame.iloc[:-4]).predict()
    for name in frame.columns:
        own = judged.loc[judged["unique_id"] == name, "mlr"]
        np.testing.assert_allclose(own, known[name], rtol=1e-6)


def test_a_mixing_network_is_exported():
    model = mixing(max_epochs=1).fit(three())
    x = np.random.default_rng(0).normal(size=(5, 12, 3)).astype(np.float32)
    points = export_program(model).module()(torch.as_tensor(x)).numpy()
    np.testing.assert_allclose(points, model.predict_windows(x)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: mixing().fit(covariate_frame()),
            "series that look at one another must share their stamps; cut the table",
        ),
        (
            lambda: mixing().fit(three()[["s0"]]),
            "channel_mixing needs several series, which share their stamps; got one; set",
        ),
        (
            lambda: mixing(architecture="decoder", patch_stride=4, linear_skip=False).fit(three()),
            "a decoder network reads no covariates and mixes no channels",
        ),
    ],
)
def test_tables_that_cannot_be_mixed_are_refused_before_training(make, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        make()
