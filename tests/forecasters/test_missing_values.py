"""Missing values under missing="mask": left out of normalisation, attention, loss and scores, never
guessed.
"""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn.catalogue import make_forecaster
from tsattn.data.frames import from_long
from tsattn.data.schema import Schema
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.naive import Naive
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig
from tsattn.nn.models import build_model
from tsattn.nn.patching import RevIN
from tsattn.training.loop import ForecastModule
from tsattn.training.settings import Training

pytestmark = pytest.mark.filterwarnings("ignore:no series has a value in the last")


def holes(df, share=0.15, seed=0):
    df = df.copy()
    gone = np.random.default_rng(seed).random(len(df)) < share
    if "y" in df:
        df.loc[gone, "y"] = np.nan
    else:
        df.iloc[gone, 0] = np.nan
    return df


def masked(**kwargs):
    return attention(missing="mask", **kwargs)


def network(kind="mlr", **kwargs):
    sizes = {
        "d_model": 8,
        "d_ff": 16,
        "n_layers": 2,
        "patch_len": 6,
        "patch_stride": 3,
        "dropout": 0.0,
    }
    config = ModelConfig(context=24, horizon=4, backbone=kind, masked=True, **sizes, **kwargs)
    return build_model(config, generator=torch.Generator().manual_seed(0)).double().eval()


def windows(seed=1):
    return torch.randn(3, 24, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_without_holes_a_masked_network_is_the_plain_one(kind):
    config = ModelConfig(
        context=24,
        horizon=4,
        backbone=kind,
        d_model=8,
        d_ff=16,
        n_layers=2,
        patch_len=6,
        patch_stride=3,
    )
    plain = build_model(config, generator=torch.Generator().manual_seed(0)).double().eval()
    torch.testing.assert_close(network(kind)(windows()), plain(windows()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_what_stands_under_a_hole_cannot_matter(kind):
    x = windows()
    gone = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.3
    gone[0, 3:15] = True
    first, second = (x.clone() for _ in range(2))
    first[gone], second[gone] = float("nan"), float("inf")
    y = network(kind)(first)
    assert bool(y.isfinite().all())
    torch.testing.assert_close(network(kind)(second), y)
    maps = network(kind).attention_maps(first)
    # A window may show holes only; its softmax is nothing then.
    rows = maps.sum(-1)
    most = 2.0 if kind == "global_local" else 1.0
    torch.testing.assert_close(rows, rows.round())
    assert float(rows.max()) == pytest.approx(most)
    assert kind in ("sliding_window", "global_local") or float(rows.min()) == pytest.approx(most)
    # Patches 1 to 3 (rows 3 to 8, 6 to 11, 9 to 14) of the first window hold nothing.
    assert float(maps[:, 0, :, :, :, 1:4].abs().max()) == 0
    assert float(maps[:, 0, :, :, :, 4].abs().max()) > 0


def test_statistics_of_what_is_known_are_those_of_a_loop():
    x = torch.tensor(
        [[1.0, float("nan"), 4.0, 7.0], [float("nan")] * 4, [5.0, 5.0, float("nan"), 5.0]]
    ).double()
    location, spread = RevIN("mean").statistics(x, observed=x.isfinite())
    assert location.squeeze(1).tolist() == [4.0, 0.0, 5.0]
    assert spread.squeeze(1).tolist() == pytest.approx([6**0.5, 0.0, 0.0])


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_the_loss_is_the_mean_over_what_is_known(loss):
    model = network()
    module = ForecastModule(model, Training(loss=loss), steps_per_epoch=1)
    x = windows()
    y = windows(3)[:, :4]
    y[0, 1, 0], y[2, :, 1] = float("nan"), float("nan")
    x[1, :, 0] = float("nan")
    value, count = module.judge(x, y)
    forecast = model(x).detach()
    terms = []
    for b in range(3):
        for t in range(4):
            for c in range(2):
                if (b, c) == (1, 0) or bool(y[b, t, c].isnan()):
                    continue
                error = float(y[b, t, c] - forecast[b, t, c])
                huber = error**2 / 2 if abs(error) < 1 else abs(error) - 0.5
                terms.append({"mse": error**2, "mae": abs(error), "huber": huber}[loss])
    assert count == len(terms) == 24 - 1 - 4 - 4
    assert float(value.detach()) == pytest.approx(np.mean(terms), rel=1e-12)
    value.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("frame", [long_frame, wide_frame])
def test_tables_with_holes_are_fitted_and_forecast(frame):
    df = holes(frame())
    model = masked().fit(df)
    answer = model.predict(level=80)
    assert np.isfinite(answer.select_dtypes("number").to_numpy()).all()
    assert np.isfinite(model.score(df))
    assert model.history_["valid_loss"].notna().all()
    folds = model.cross_validation(df, n_windows=3, level=80)
    assert np.isfinite(folds[model.alias_]).all()
    assert folds["y"].isna().any() == df.tail(6).isna().any(axis=None) or frame is long_frame


def test_holes_in_the_context_are_not_filled_in():
    df = long_frame()
    model = masked(max_epochs=1).fit(holes(df))
    last = df["ds"].max()
    gapped = df[(df["ds"] != last - pd.Timedelta(days=5))]
    marked = df.assign(y=df["y"].where(df["ds"] != last - pd.Timedelta(days=5)))
    pd.testing.assert_frame_equal(model.predict(gapped), model.predict(marked))
    filled = df.assign(y=marked.groupby("unique_id")["y"].ffill())
    assert not np.allclose(model.predict(filled)["mlr"], model.predict(marked)["mlr"])


def test_a_hole_that_nobody_looks_into_changes_no_weight():
    df = holes(long_frame())
    first = masked().fit(df)
    second = masked().fit(df)
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.network_.parameters(), second.network_.parameters(), strict=True)
    )


def test_windows_without_anything_known_do_not_teach():
    df = long_frame(1)
    df.loc[10:80, "y"] = np.nan
    model = masked(val_size=20).fit(df)
    values = df["y"].to_numpy()[:140]
    usable = [
        end
        for end in range(24, 137)
        if np.isfinite(values[end - 24 : end]).any() and np.isfinite(values[end : end + 4]).any()
    ]
    assert model.summary_["train_windows"] == len(usable)


def test_saved_models_keep_the_holes(tmp_path):
    df = holes(long_frame())
    df.loc[df["ds"] == df["ds"].max(), "y"] = np.nan
    model = masked().fit(df)
    model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(
        AttentionForecaster.load(tmp_path / "m").predict(level=80), model.predict(level=80)
    )


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (
            lambda df: linear(missing="mask").fit(df),
            "nlinear cannot leave missing values out .missing='mask'.; fill them in by",
        ),
        (
            lambda df: masked(architecture="decoder", patch_stride=6, linear_skip=False).fit(df),
            "mlr cannot leave missing values out .missing='mask'.; fill them in by",
        ),
        (
            lambda df: Naive(4, schema=Schema(missing="mask")).fit(df),
            "naive cannot leave missing values out",
        ),
        (
            lambda df: masked(bad="error").fit(df.assign(y=df["y"].where(df["unique_id"] != "s1"))),
            "'s1': column 'y' has no value at all .* each series needs a value; leave the series out",
        ),
        (
            lambda df: masked().fit(
                df.assign(
                    y=df["y"].where(df["ds"].dt.day == 99, df["y"]).where(df.index % 160 < 20)
                )
            ),
            "no training window shows a value both in its context and in its horizon",
        ),
    ],
)
def test_what_cannot_look_past_holes_is_refused(fit, message):
    df = long_frame()
    with pytest.raises(ValueError, match=message):
        fit(holes(df))


def test_gaps_that_the_fit_had_not_are_interpolated_unless_a_mask_was_asked_for():
    complete = long_frame()
    holed = holes(complete)
    plain = attention().fit(complete)
    assert not plain.masks_
    with pytest.warns(UserWarning, match="are interpolated for mlr"):
        answer = plain.predict(holed)
    filling = attention(missing="interpolate").fit(complete)
    pd.testing.assert_frame_equal(answer, filling.predict(holed))
    asked = masked().fit(complete)
    assert asked.masks_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asked.predict(holed)["mlr"].notna().all()


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_rows_before_the_first_value_teach_nothing(layout):
    late = pd.DataFrame({"late": np.sin(np.arange(90) / 3), "whole": np.cos(np.arange(90) / 3)})
    late.index = pd.date_range("2024-01-01", periods=90, name="ds")
    late.loc[late.index[:40], "late"] = np.nan
    rows = late.melt(ignore_index=False, var_name="unique_id", value_name="y").reset_index()
    table = rows if layout == "long" else late
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = make_forecaster("ridge", 3, context=9).fit(table).predict()
    expected = make_forecaster("ridge", 3, context=9).fit(rows.dropna()).predict()
    points = answer["ridge"] if layout == "long" else answer[["late", "whole"]].to_numpy().T
    np.testing.assert_array_equal(np.ravel(points), expected["ridge"])


def test_a_series_that_ends_before_the_others_is_told_of():
    rows = np.arange(90.0)
    wide = pd.DataFrame(
        {"ended": rows, "whole": rows}, index=pd.date_range("2024-01-01", periods=90)
    )
    wide.loc[wide.index[60:], "ended"] = np.nan
    message = (
        r"'ended' has no value at 2024-03-01 .* \(and 29 more\); .* the last value is repeated at"
    )
    with pytest.warns(UserWarning, match=message):
        answer = make_forecaster("naive", 2).fit(wide).predict()
    assert answer["ended"].tolist() == [59, 59]


def test_a_context_without_a_value_is_refused():
    model = masked().fit(holes(long_frame()))
    x = np.ones((2, 24, 1))
    x[1] = np.nan
    with pytest.raises(
        ValueError,
        match="rows of window 1, channel 0 hold no value to forecast from; give a longer",
    ):
        model.predict_windows(x)


def test_policies_of_panels():
    df = holes(long_frame(1), share=0.0)
    df.loc[0, "y"] = np.nan
    assert np.isnan(from_long(df).values[0, 0])
    with pytest.raises(ValueError, match=r"missing \(NaN\) at its first stamp"):
        from_long(df, Schema(missing="ffill"))
