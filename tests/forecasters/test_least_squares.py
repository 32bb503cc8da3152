"""Linear maps that are solved: the least-squares one, held, and a transformer that learns what is
left.
"""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from side_by_side import columns_of
from tables import wide_table

from tsattn import AttentionForecaster, LinearForecaster, make_forecaster
from tsattn.data.frames import to_panel

CONTEXT = 12
HORIZON = 4
VALID = 20
SMALL = {
    "context": CONTEXT,
    "val_size": VALID,
    "random_state": 0,
    "batch_size": 16,
    "max_epochs": 2,
}
TINY = {
    **SMALL,
    "d_model": 8,
    "n_heads": 1,
    "n_layers": 1,
    "d_ff": 8,
    "patch_len": 4,
    "patch_stride": 4,
    "dropout": 0.0,
}


def solving(**settings):
    return AttentionForecaster.from_settings(
        horizon=HORIZON, **{**TINY, "linear_skip": "least_squares", **settings}
    )


def linear(kind="rlinear", **settings):
    return LinearForecaster.from_settings(
        horizon=HORIZON, kind=kind, closed_form=True, **{**SMALL, **settings}
    )


def table(rows=140, seed=0):
    """Two channels of different size that a linear map of their past explains in part."""
    noise = np.random.default_rng(seed).normal(size=(rows, 2))
    t = np.arange(rows)[:, None]
    values = (
        np.array([3.0, 50.0])
        * (np.sin(2 * np.pi * t / np.array([6, 9])) + 0.3 * noise.cumsum(0) / 4)
        + 7
    )
    return wide_table(values, ["a", "b"], name="ds")


def solved(df, centre):
    """Weights of the ridge regression, window by window in float64."""
    rows = df.to_numpy()[: len(df) - VALID]
    z = (rows - rows.mean(0)) / rows.std(0)
    windows = sliding_window_view(z, CONTEXT + HORIZON, axis=0).reshape(-1, CONTEXT + HORIZON)
    x = windows[:, :CONTEXT]
    y = windows[:, CONTEXT:]
    level = x.mean(1, keepdims=True) if centre == "mean" else x[:, -1:]
    x = x - level
    y = y - level
    penalty = 1e-3 * (x**2).sum() / CONTEXT
    return np.linalg.solve(x.T @ x + penalty * np.eye(CONTEXT), x.T @ y).T


@pytest.mark.parametrize(("kind", "centre"), [("rlinear", "mean"), ("nlinear", "last")])
def test_closed_form_is_the_ridge_regression_of_all_windows(kind, centre):
    df = table()
    model = linear(kind).fit(df)
    weight = model.network_.map.weight.detach().double().numpy()
    np.testing.assert_allclose(weight, solved(df, centre), rtol=1e-4, atol=1e-5)
    assert model.summary_["epochs"] == 0
    assert model.history_.columns.tolist() == ["epoch", "train_loss", "valid_loss", "learning_rate"]
    other = linear(kind, random_state=5).fit(df)
    pd.testing.assert_frame_equal(other.predict(level=80), model.predict(level=80))


def test_the_catalogue_has_it_by_name():
    df = table()
    model = make_forecaster("least_squares", HORIZON, **SMALL).fit(df)
    known = linear(alias="least_squares").fit(df)
    np.testing.assert_array_equal(model.predict(df).iloc[:, -1], known.predict(df).iloc[:, -1])


def test_the_map_is_held_and_the_transformer_starts_with_nothing():
    df = table()
    model = solving().fit(df)
    np.testing.assert_allclose(
        model.network_.skip.weight.detach().numpy(), solved(df, "mean"), rtol=1e-4, atol=1e-5
    )
    assert not model.network_.skip.bias.any()
    assert model.network_.head.project.weight.abs().max() > 0
    still = solving(learning_rate=1e-12).fit(df)
    solved_map = linear().fit(df).predict().iloc[:, -1]
    np.testing.assert_allclose(still.predict().iloc[:, -1], solved_map, rtol=1e-5)
    assert np.abs(model.predict().iloc[:, -1] - solved_map).max() > 1e-3


@pytest.mark.parametrize(
    "settings", [{"head": "quantile"}, {"head": "student_t"}, {"head": "normal"}, {"head_rank": 2}]
)
def test_heads_that_move_values_take_a_solved_map(settings):
    df = table()
    model = solving(**settings).fit(df)
    np.testing.assert_allclose(
        model.network_.skip.weight.detach().numpy(), solved(df, "mean"), rtol=1e-4, atol=1e-5
    )
    assert np.isfinite(model.predict(level=80).iloc[:, 1:].to_numpy(dtype=float)).all()


def test_windows_with_a_hole_teach_nothing_and_their_front_counts_as_their_mean():
    df = table()
    holed = df.copy()
    holed.iloc[40:43, 0] = np.nan
    model = solving(missing="mask").fit(holed)
    values = columns_of(to_panel(holed))[: len(df) - VALID]
    z = (values - np.nanmean(values, 0)) / np.nanstd(values, 0)
    windows = sliding_window_view(z, CONTEXT + HORIZON, axis=0).reshape(-1, CONTEXT + HORIZON)
    observed = np.isfinite(windows)
    used = windows[
        observed[:, CONTEXT - 1] & (np.diff(observed, axis=1).sum(1) < 2) & observed[:, -1]
    ]
    assert np.isfinite(windows).all(1).sum() < len(used) < len(windows)
    mean = np.nanmean(used[:, :CONTEXT], 1, keepdims=True)
    x = np.nan_to_num(used[:, :CONTEXT] - mean)
    y = used[:, CONTEXT:] - mean
    expected = np.linalg.solve(x.T @ x + 1e-3 * (x**2).sum() / CONTEXT * np.eye(CONTEXT), x.T @ y).T
    np.testing.assert_allclose(
        model.network_.skip.weight.detach().numpy(), expected, rtol=1e-3, atol=1e-4
    )
    sparse = df.copy()
    sparse.iloc[::10] = np.nan
    with pytest.raises(
        ValueError, match="a least-squares map needs windows without missing values"
    ):
        solving(missing="mask").fit(sparse)


def test_constants_and_two_fits_and_a_saved_model(tmp_path):
    flat = table() * 0 + 5
    model = solving().fit(flat)
    np.testing.assert_allclose(model.predict().iloc[:, 1:].to_numpy(dtype=float), 5, rtol=1e-6)
    df = table()
    model = solving().fit(df)
    model.save(tmp_path / "model")
    loaded = AttentionForecaster.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(df), model.predict(df))
    assert loaded.training.linear_skip == "least_squares"
    refitted = solving().fit(df)
    pd.testing.assert_frame_equal(refitted.predict(), model.predict())


def test_a_warm_start_keeps_the_map_that_the_transformer_completes():
    model = solving().fit(table())
    before = model.network_.skip.weight.detach().clone()
    head = model.network_.head.project.weight.detach().clone()
    model.fit(table(seed=1), warm_start=True)
    torch.testing.assert_close(model.network_.skip.weight.detach(), before, rtol=0, atol=0)
    assert (model.network_.head.project.weight - head).abs().max() > 0


def test_gaps_in_every_window_are_interpolated_unless_a_mask_is_asked_for():
    full = table()
    holed = full.copy()
    holed.iloc[3::7] = np.nan
    with pytest.warns(UserWarning, match="such values are interpolated for mlr"):
        model = solving().fit(holed)
    known = solving(missing="interpolate").fit(holed)
    pd.testing.assert_frame_equal(model.predict(), known.predict())
    assert not model.masks_
    with pytest.raises(ValueError, match="every window has one"):
        solving(missing="mask").fit(holed)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: solving(linear_skip="ridge"),
            "one of True, False, least_squares; got 'ridge'",
        ),
        (
            lambda: solving(head="negative_binomial"),
            "moves a logarithm",
        ),
        (
            lambda: linear("dlinear"),
            "got kind = 'dlinear'",
        ),
        (
            lambda: linear(loss="huber"),
            "loss = 'huber'",
        ),
        (
            lambda: solving(architecture="decoder"),
            "a decoder has no map",
        ),
    ],
)
def test_what_cannot_be_solved_is_refused(make, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        make().fit(table())
