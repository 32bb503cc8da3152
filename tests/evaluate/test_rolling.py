"""Rolling evaluation: every window once, in few calls and bounded memory, and no bad answer."""

import doctest
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from side_by_side import ends_of_all

from tsattn.data.frames import to_panel
from tsattn.data.windows import make_scaler
from tsattn.evaluate import rolling
from tsattn.evaluate.conformal import SplitConformal
from tsattn.evaluate.rolling import roll, rolling_origins
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.naive import Drift, Naive
from tsattn.nn.config import Network
from tsattn.training.settings import Training


def wide_panel(n_rows=60):
    values = np.random.default_rng(0).normal(size=(n_rows, 3)) * [1, 10, 100]
    stamps = pd.date_range("2024-01-01", periods=n_rows, freq="h")
    return to_panel(pd.DataFrame(values, index=stamps, columns=["load", "heat", "cold"]))


def long_panel(lengths):
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "unique_id": f"s{i}",
                "ds": pd.date_range("2024-01-01", periods=n, freq="D"),
                "y": rng.normal(size=n),
            }
        )
        for i, n in enumerate(lengths)
    ]
    return to_panel(pd.concat(frames, ignore_index=True))


class Counting(Naive):
    """Writes down how many windows each call brings."""

    def __init__(self, horizon):
        super().__init__(horizon)
        self.calls = []

    def _points(self, x):
        self.calls.append(len(x))
        return super()._points(x)


def test_the_last_window_ends_with_its_series():
    by_windows = rolling_origins([20, 35], 4, n_windows=3, step_size=2)
    np.testing.assert_array_equal(by_windows, [[12, 14, 16], [27, 29, 31]])
    np.testing.assert_array_equal(rolling_origins([20], 4), [[16]])
    assert by_windows.dtype == np.int64


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"n_windows": 0}, "n_windows must be a whole number of at least 1; got 0"),
        ({"n_windows": True}, "n_windows must be a whole number"),
        ({"step_size": 1.5}, "step_size must be a whole number"),
    ],
)
def test_origins_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        rolling_origins([20], 4, **kwargs)


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_holds_a_window_at_least(chunk):
    panel = wide_panel()
    forecaster = Naive(2)
    with pytest.raises(
        ValueError, match=f"chunk must be a whole number of at least 1; got {chunk}"
    ):
        roll(forecaster.fit(panel), panel, [10], chunk=chunk)


def test_scores_do_not_depend_on_the_chunk():
    panel = wide_panel(400)
    ends = np.arange(30, 397)
    scaler = make_scaler(panel, 200)
    fitted = SplitConformal(Drift(4), n_windows=12).fit(panel.until(200))
    ask = {"scaler": scaler, "quantiles": (0.1, 0.5, 0.9)}
    reference = roll(fitted, panel, ends, chunk=None, **ask)
    for chunk in (1, 7, 32, 10_000):
        rolled = roll(fitted, panel, ends, chunk=chunk, **ask)
        for name in ("mse", "mae", "mse_original", "smape", "wql"):
            assert getattr(rolled, name) == pytest.approx(getattr(reference, name), rel=1e-6), (
                name,
                chunk,
            )
        assert rolled.coverage == pytest.approx(reference.coverage, rel=1e-6)
        np.testing.assert_allclose(rolled.point, reference.point, rtol=1e-12)
        np.testing.assert_allclose(rolled.by_step["mse"].mean(), reference.mse, rtol=1e-6)
        for by in ("by_step", "by_series"):
            for name, scores in getattr(reference, by).items():
                np.testing.assert_allclose(
                    getattr(rolled, by)[name], scores, rtol=1e-12, err_msg=name
                )


def test_windows_may_be_asked_in_any_order():
    panel = long_panel((50, 60))
    ends = np.array([100, 20, 70, 25, 20])
    rolled = roll(Drift(3), panel, ends, scaler=make_scaler(panel))
    for i, end in enumerate(ends):
        one = roll(Drift(3), panel, np.array([end]))
        np.testing.assert_array_equal(rolled.point[i], one.point[0])
    assert rolled.mae == pytest.approx(
        roll(Drift(3), panel, np.sort(ends), scaler=make_scaler(panel)).mae
    )


def test_memory_does_not_grow_with_the_windows():
    panel = wide_panel(9000)
    forecaster = Naive(96)

    def peak(n_windows, keep):
        tracemalloc.start()
        roll(forecaster, panel, np.arange(100, 100 + n_windows), chunk=64, keep=keep)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(1000, False)
    many = peak(8000, False)
    index = 8000 * 8 * 8  # the windows' own row numbers and owners
    assert many < few + index
    assert peak(8000, True) > many + 8000 * 96 * 8 * 0.9, (
        "kept forecasts must show, or this test sees nothing"
    )


def test_many_windows_are_few_calls():
    forecaster = Counting(96)
    roll(forecaster, wide_panel(3000), np.arange(100, 2885), keep=False)
    assert sum(forecaster.calls) == 2785
    assert len(forecaster.calls) <= 6


class Bad(Naive):
    def __init__(self, returned):
        super().__init__(2)
        self.returned = returned

    def _points(self, x):
        return self.returned(super()._points(x))


def test_bad_forecasts_are_refused():
    panel = wide_panel()
    with pytest.raises(
        ValueError, match=r"must answer windows, steps, channels as \(3, 2, 1\); got \(3, 1, 2\)"
    ):
        roll(Bad(lambda y: y.swapaxes(1, 2)), panel, np.array([5, 6, 7]))

    def spoil(y):
        y[1, 1, 0] = np.nan
        return y

    with pytest.raises(ValueError, match=r"not finite for series .* after 2024-01-01 05:00:00"):
        roll(Bad(spoil), panel, np.array([5, 6, 7]))


@pytest.mark.parametrize("end", [2, 59, 60, 0, -3])
def test_windows_that_leave_the_series_are_refused(end):
    with pytest.raises(ValueError, match=f"within one series; got end row {end}"):
        roll(Drift(2, 3), wide_panel(), np.array([30, end]))


def test_windows_may_not_straddle_two_series():
    panel = long_panel((20, 20))
    for end in (19, 20, 21, 22):
        with pytest.raises(ValueError, match="within one series"):
            roll(Drift(2, 3), panel, np.array([end]))
    assert roll(Drift(2, 3), panel, np.array([18, 23])).n_windows == 2


def test_rolling_is_the_bare_passes():
    """Each window goes through the network once, in few passes, and no other row does."""
    panel = wide_panel(1500)
    network = Network(d_model=4, n_heads=2, n_layers=1, d_ff=4)
    model = AttentionForecaster(
        8, context=24, network=network, training=Training(max_epochs=1), random_state=0
    )
    model.fit(panel.rows(0, 100))
    ends = ends_of_all(panel, np.arange(200, 1400))
    passed = []
    hook = model.network_.register_forward_pre_hook(
        lambda _, inputs: passed.append(inputs[0].shape[0] * inputs[0].shape[2])
    )
    roll(model, panel, ends, keep=False)
    hook.remove()
    assert sum(passed) == len(ends) == 3 * 1200
    assert len(passed) <= 10


def test_the_examples_in_the_docstrings_are_true():
    outcome = doctest.testmod(rolling)
    assert outcome.attempted >= 1
    assert outcome.failed == 0
