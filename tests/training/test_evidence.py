"""Fits that go beyond the map they start from only where the validation windows clearly speak for
it.
"""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_1samp

from tsattn import AttentionForecaster, make_forecaster
from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.forecaster import FitContext
from tsattn.training.evidence import block_losses, block_of_windows, check_blocks, clearly_lower
from tsattn.training.settings import Training

HORIZON = 4
SMALL = {"context": 16, "random_state": 0, "val_size": 120}
TINY = {
    **SMALL,
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "d_ff": 16,
    "patch_len": 4,
    "patch_stride": 4,
    "max_epochs": 4,
}


def model_of(**settings):
    return AttentionForecaster.from_settings(
        horizon=HORIZON, **{**TINY, "linear_skip": "least_squares", "skip_level": 95, **settings}
    )


def table(values):
    return pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=len(values), freq="h"), "y": values}
    )


def noise(n=500):
    return table(np.random.default_rng(1).normal(size=n))


def bent(n=900):
    """A series whose next value is no linear function of those before it."""
    chance = np.random.default_rng(0)
    x = [0.3]
    for _ in range(n - 1):
        x.append(1 - 1.7 * x[-1] ** 2 + 0.01 * chance.normal())
    return table(np.array(x))


def blocks_by_hand(lengths, horizon, most=64):
    """Blocks of each series' windows, counted from its end, by loops."""
    size = horizon
    while -(-max(lengths) // size) > most:
        size += 1
    count = max(lengths) // size
    if count < 2:
        return [i for i, n in enumerate(lengths) for _ in range(n)]
    blocks = [min((n - 1 - w) // size, count - 1) for n in lengths for w in range(n)]
    names = sorted(set(blocks))
    return [names.index(block) for block in blocks]


# --- blocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lengths", "horizon"),
    [([10], 3), ([9], 3), ([6], 3), ([5], 3), ([10, 7, 1], 3), ([2, 2], 4), ([700], 1), ([65], 1)],
)
def test_blocks_are_counted_from_the_end_of_each_series(lengths, horizon):
    first = np.concatenate([100 * i * 10 + np.arange(n) for i, n in enumerate(lengths)])
    assert block_of_windows(first, horizon).tolist() == blocks_by_hand(lengths, horizon)


def test_a_block_is_no_shorter_than_the_horizon_and_there_are_no_more_than_64():
    for n in (12, 13, 200, 256, 257, 1000):
        sizes = np.bincount(block_of_windows(np.arange(n), 4))
        assert sizes.min() >= 4
        assert 2 <= len(sizes) <= 64
        assert sizes.sum() == n


@pytest.mark.parametrize("n_processes", [1, 3])
def test_losses_of_blocks_are_those_of_their_windows_one_by_one(n_processes):
    rows = torch.randn(80, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows[30:34, 1] = torch.nan
    first = np.concatenate([np.arange(5, 18), np.arange(40, 49)])
    spec = WindowSpec(6, 4)
    windows = WindowBatches(rows, first + spec.context, spec, batch_size=5)

    def judge(x, y):
        gap = (y - x[:, -1:]).square()
        known = gap.isfinite()
        return gap[known].mean(), int(known.sum())

    shares = [block_losses(judge, windows.share(rank, n_processes)) for rank in range(n_processes)]
    expected = np.zeros((2, 3))
    for block, row in zip(blocks_by_hand([13, 9], 4), first, strict=True):
        for step in range(4):
            for channel in range(2):
                error = float((rows[row + 6 + step, channel] - rows[row + 5, channel]) ** 2)
                if np.isfinite(error):
                    expected[:, block] += error, 1
    np.testing.assert_allclose(torch.stack(shares).sum(0).numpy(), expected, rtol=1e-12)


def test_what_comes_beside_a_window_is_judged_with_it():
    rows = torch.arange(40.0, dtype=torch.float64)[:, None]
    beside = {"known": 2 * rows}
    windows = WindowBatches(
        rows, np.arange(6, 31), WindowSpec(6, 4), batch_size=7, covariates=beside
    )

    def judge(x, y, covariates):
        return (covariates["known"][:, 6:] - 2 * y).abs().sum() + (
            covariates["known"][:, :6] - 2 * x
        ).abs().sum(), 1

    assert block_losses(judge, windows)[0].tolist() == [0.0] * 6


# --- evidence -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [50, 90, 99])
def test_evidence_is_a_t_test_over_blocks(level):
    chance = np.random.default_rng(level)
    answers = []
    for _ in range(200):
        counts = chance.integers(1, 9, 12)
        lower = chance.normal(0, 1, 12)
        others = chance.normal(0.3, 1, 12)
        is_lower = clearly_lower(
            *(torch.as_tensor(np.stack([m * counts, counts])) for m in (lower, others)), level
        )
        # Two-sided intervals of a level leave half of the rest on either side.
        p = ttest_1samp(lower - others, 0, alternative="less").pvalue
        assert is_lower == (p < (1 - level / 100) / 2)
        answers.append(is_lower)
    assert 0 < sum(answers) < 200


def test_blocks_of_which_nothing_is_known_have_no_part():
    lower = torch.tensor([[1.0, 0.0, 1.1], [1, 0, 1]])
    others = torch.tensor([[2.0, 0.0, 2.2], [1, 0, 1]])
    assert clearly_lower(lower, others, 90)
    assert not clearly_lower(lower[:, :2], others[:, :2], 90)  # one block is no evidence


def test_a_lead_that_is_the_same_everywhere_is_clear_and_none_is_not():
    ones = torch.ones(2, 3, dtype=torch.float64)
    assert clearly_lower(0.5 * ones * torch.tensor([[1.0], [2.0]]), ones, 99)
    assert not clearly_lower(ones, ones, 50)


# --- fits -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_noise():
    """A model of which the map alone is kept."""
    torch.set_num_threads(1)
    return model_of().fit(noise())


@pytest.fixture(scope="module")
def of_bent():
    """A model that goes beyond its map."""
    torch.set_num_threads(1)
    return model_of(learning_rate=1e-2).fit(bent())


def test_where_nothing_is_to_be_learnt_the_solved_map_stays_alone(of_noise):
    df = noise()
    model = of_noise
    map_alone = make_forecaster("least_squares", HORIZON, **SMALL).fit(df)
    assert model.summary_["best_epoch"] == 0
    assert model.summary_["epochs"] > 0
    x = np.random.default_rng(2).normal(size=(5, 16, 1))
    np.testing.assert_allclose(
        model.predict_windows(x)[0], map_alone.predict_windows(x)[0], rtol=1e-5, atol=1e-6
    )
    without = model_of(skip_level=None).fit(df)
    assert without.summary_["best_epoch"] > 0
    # The loss told, and the intervals, are those of what is kept.
    assert model.summary_["valid_loss"] not in list(model.history_["valid_loss"])
    pd.testing.assert_frame_equal(
        model.predict(level=80).rename(columns=lambda name: name.replace("mlr", "least_squares")),
        map_alone.predict(level=80),
        rtol=1e-5,
        atol=1e-6,
    )


def test_where_much_is_to_be_learnt_the_fit_is_that_of_the_best_pass(of_bent):
    df = bent()
    model = of_bent
    plain = model_of(learning_rate=1e-2, skip_level=None).fit(df)
    still = model_of(learning_rate=1e-12).fit(df)
    assert still.summary_["best_epoch"] == 0
    assert model.summary_["best_epoch"] == plain.summary_["best_epoch"] > 0
    pd.testing.assert_frame_equal(model.predict(level=80), plain.predict(level=80))
    assert (
        model.summary_["valid_loss"]
        == plain.summary_["valid_loss"]
        < 0.95 * still.summary_["valid_loss"]
    )


def test_an_interrupted_fit_comes_to_the_same_end(of_noise, tmp_path):
    df = noise()
    whole = of_noise
    cut = model_of(checkpoint_dir=tmp_path)

    class Cut(Exception):
        pass

    def stop(module):
        if module.progress.epoch == 2:
            raise Cut

    with pytest.raises(Cut):
        cut.fit_within(df, FitContext(after_epoch=stop))
    resumed = cut.fit(df)
    assert resumed.summary_["epochs"] == whole.summary_["epochs"]
    assert resumed.summary_["best_epoch"] == whole.summary_["best_epoch"] == 0
    pd.testing.assert_frame_equal(resumed.predict(level=80), whole.predict(level=80))
    pd.testing.assert_frame_equal(
        cut.fit(df).predict(), whole.predict()
    )  # nothing was left to train


def test_a_fit_that_goes_on_has_to_improve_on_the_one_before(of_bent):
    df = bent()
    model = copy.deepcopy(of_bent)
    assert model.summary_["best_epoch"] > 0
    before = model.predict()
    loss = model.summary_["valid_loss"]
    model.set_params(training__learning_rate=1e-12).fit(df, warm_start=True)
    assert model.summary_["best_epoch"] == 0
    assert model.summary_["valid_loss"] == pytest.approx(loss, rel=1e-6)
    pd.testing.assert_frame_equal(model.predict(), before, rtol=1e-6)


def test_missing_values_covariates_and_other_heads_are_judged_by_their_own_loss():
    df = noise().assign(price=np.arange(500.0) % 7)
    df.loc[df.index[::60], "y"] = np.nan
    for head in (None, "quantile", "student_t"):
        model = model_of(head=head, missing="mask", past_cols=["price"]).fit(df)
        kept = model.history_["valid_loss"].iloc[model.summary_["best_epoch"] - 1]
        assert np.isfinite(model.summary_["valid_loss"])
        assert (model.summary_["best_epoch"] == 0) == (kept != model.summary_["valid_loss"])


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear_skip": True}, "skip_level = 95 asks whether .* and linear_skip is True; take"),
        ({"skip_level": 100}, "skip_level must be None or lie between 0 and 100; got 100"),
        ({"skip_level": "95"}, "skip_level must be None or lie between 0 and 100; got '95'"),
        ({"skip_level": 0}, "skip_level must be None or lie between 0 and 100; got 0"),
        (
            {"val_size": 10},
            "skip_level = 95 compares .* two at least; got 1; raise val_size to three horizons",
        ),
        ({"val_size": 0}, "got 0; raise val_size"),
    ],
)
def test_what_cannot_be_tested_is_refused_before_training(changes, message, monkeypatch):
    monkeypatch.setattr("tsattn.training.loop._run", lambda *_: pytest.fail("training began"))
    with pytest.raises(ValueError, match=message):
        model_of(**changes).fit(noise())


def test_the_settings_of_a_training_are_checked_alone_too():
    with pytest.raises(ValueError, match="skip_level"):
        replace(Training(), skip_level=-1)
    spec = WindowSpec(3, 2)
    for nothing in (None, SimpleNamespace(first=np.arange(0), spec=spec)):
        with pytest.raises(ValueError, match="got 0"):
            check_blocks(nothing, 95)
    check_blocks(SimpleNamespace(first=np.arange(4), spec=spec), 95)
    with pytest.raises(ValueError, match="got 1"):
        check_blocks(SimpleNamespace(first=np.arange(3), spec=spec), 95)
