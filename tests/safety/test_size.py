"""Very many series and very many windows: what they take, in time and in memory."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from fresh import in_fresh_process, measured

from tsattn.data.frames import to_panel
from tsattn.data.windows import _CHUNK_WINDOWS
from tsattn.evaluate.backtest import backtest
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.naive import SeasonalNaive

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and /proc")


def forecast_very_many(context=None, turns=7, n_series=10_000, n_rows=500, horizon=24):
    """Forecast very many series beside one bare pass of the network over the same windows; facts on
    stdout.
    """
    t = np.arange(n_rows)
    rng = np.random.default_rng(0)
    y = 10 * np.sin(2 * np.pi * t / 24)[None] + rng.normal(size=(n_series, n_rows))
    times = pd.date_range("2024-01-01", periods=n_rows, freq="h")
    ids = np.repeat(np.arange(n_series), n_rows)
    frame = pd.DataFrame({"unique_id": ids, "ds": np.tile(times, n_series), "y": y.ravel()})
    longer = pd.DataFrame(
        {"ds": pd.date_range("2020-01-01", periods=3 * n_rows, freq="h"), "y": np.tile(y[0], 3)}
    )
    model = AttentionForecaster.from_settings(
        horizon=horizon, context=context, max_epochs=1, random_state=0
    ).fit(longer.assign(unique_id=0))
    x = y[:, -model.context_ :, None]
    level = x.mean(axis=1, keepdims=True)
    spread = x.std(axis=1, keepdims=True)
    standard = torch.as_tensor((x - level) / spread).float()
    panel = to_panel(frame)

    def bare():
        with torch.inference_mode():
            return torch.cat(
                [model.network_(part) for part in standard.split(_CHUNK_WINDOWS)]
            ).numpy()

    ways = {
        "bare": bare,
        "frame": lambda: model.predict(frame),
        "panel": lambda: model.predict(panel).point,
    }
    runs = [{name: measured(way) for name, way in ways.items()} for _ in range(turns)]
    expected = (runs[0]["bare"][0] * spread + level)[..., 0]
    np.testing.assert_allclose(runs[0]["panel"][0], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(runs[0]["frame"][0]["mlr"], runs[0]["panel"][0].ravel())
    # Processor seconds of neighbouring runs: other processes on the machine have little part in
    # them.
    facts = {
        name: sorted(run[name][2] / run["bare"][2] for run in runs) for name in ("frame", "panel")
    }
    facts["seconds"] = sorted(run["frame"][1] for run in runs)
    facts["grown"] = max(run["frame"][3] for run in runs)
    facts["raw"] = y.nbytes / 2**20
    facts["context"] = model.context_
    sys.stdout.write(json.dumps(facts))


def roll_over_much(n_windows, n_rows=26_304, n_channels=321, horizon=96):
    """Judge every window of a wide table of the size of the ECL data; the growth of peak memory."""
    raw = np.random.default_rng(0).random((n_rows, n_channels), dtype=np.float32)
    index = pd.date_range("2016-07-01", periods=n_rows, freq="h")
    frame = pd.DataFrame(raw, index=index, columns=[f"c{i}" for i in range(n_channels)], copy=False)
    model = SeasonalNaive(horizon, 24)
    backtest(model, frame.head(200), keep=False)
    result, seconds, _, grown = measured(
        lambda: backtest(model, frame, n_windows=n_windows, keep=False)
    )
    (rolled,) = result.rolled.values()
    assert rolled.n_windows == n_windows * n_channels
    first = len(raw) - horizon - n_windows + 1
    some = np.abs(raw[first : first + horizon] - np.tile(raw[first - 24 : first], (4, 1))).mean()
    assert rolled.mae_original == pytest.approx(some, rel=0.05)
    facts = {"windows": n_windows, "raw": raw.nbytes / 2**20, "grown": grown, "seconds": seconds}
    sys.stdout.write(json.dumps(facts))


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize(
    ("context", "most"),
    [(None, {"frame": 2.6, "panel": 1.5}), (500, {"frame": 1.6, "panel": 1.2})],
)
def test_very_many_series_are_forecast_in_little_more_than_a_bare_pass(
    context, most, record_testsuite_property
):
    """Reading a table of five million rows is in it; where the network reads but the last fifth of
    them, it shows.
    """
    facts = json.loads(
        in_fresh_process(__file__, f"forecast_very_many({context}, {3 if context else 7})")
    )
    for way in ("frame", "panel"):
        name = f"predict of a {way}, times a bare pass over {facts['context']} of the 500 steps"
        median = facts[way][len(facts[way]) // 2]
        record_testsuite_property(name, f"{median:.2f} in the median, {facts[way][0]:.2f} at best")
        # A bare pass over a fifth of the rows is so fast that reading and looking at all of them
        # takes as long.
        assert facts[way][0] < most[way], facts
    record_testsuite_property(
        f"its seconds with {facts['context']} steps, the slowest run", f"{facts['seconds'][-1]:.1f}"
    )
    assert facts["seconds"][-1] < 30, facts
    assert facts["grown"] < 10 * facts["raw"] + 100, facts


@LINUX
@pytest.mark.slow
def test_rolling_evaluation_takes_memory_for_the_table_and_not_for_the_windows(
    record_testsuite_property,
):
    few, many = (
        json.loads(in_fresh_process(__file__, f"roll_over_much({n})")) for n in (500, 2000)
    )
    for record in (few, many):
        name = f"growth of peak memory over {record['windows']} windows of 321 x 26,304 values"
        record_testsuite_property(
            name, f"{record['grown']:.0f} MB for a float32 table of {record['raw']:.0f} MB"
        )
        # The panel has a value and a stamp of eight bytes each for every float32; a fit reads a
        # copy of the rows before the first cutoff, whose numbers take half a panel.
        panel = 4 * record["raw"]
        assert record["grown"] < 2.5 * panel + 50
    assert many["grown"] < few["grown"] + 10
