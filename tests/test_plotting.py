"""Pictures show the numbers that they are given and change nothing else."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from tsattn.data.frames import future_times, to_panel
from tsattn.evaluate.backtest import backtest
from tsattn.forecaster import Forecast
from tsattn.forecasters.naive import Drift, Naive
from tsattn.levels import level_to_quantiles
from tsattn.plotting import check_format, plot_attention, plot_backtest, plot_forecast, plot_scores, save_plot

STEPS = 6


def panel_of(kind, *, tz=None, integer=False):
    stamps = np.arange(40) if integer else pd.date_range("2024-01-01", periods=40, freq="D", tz=tz)
    values = np.sin(np.arange(40)) + 3
    if kind == "wide":
        return to_panel(pd.DataFrame({"a": values, "b": 10 * values}, index=stamps))
    frame = pd.DataFrame({"unique_id": np.repeat(["a", "b"], 40), "ds": [*stamps, *stamps]})
    return to_panel(frame.assign(y=np.concatenate([values, 10 * values])))


def forecast_of(panel, levels=(80, 95)):
    shape = (panel.n_series, STEPS, panel.n_channels)
    point = np.arange(np.prod(shape), dtype=float).reshape(shape)
    quantiles = {q: point + 20 * (q - 0.5) for q in level_to_quantiles(levels)}
    return Forecast(
        point=point,
        ids=panel.ids,
        channels=panel.channels,
        times=future_times(panel.last_times(), panel.freq, STEPS),
        cutoffs=panel.last_times(),
        alias="model",
        dialect=panel.dialect,
        quantiles=quantiles,
        levels=levels,
    )


def line(ax, label):
    (found,) = [each for each in ax.get_lines() if each.get_label() == label]
    return found


def bands(ax):
    """Lowest and highest y of each band, by label."""
    found = [each for each in ax.collections if isinstance(each, PolyCollection)]
    return {each.get_label(): each.get_paths()[0].vertices[:, 1] for each in found}


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_lines_and_bands_are_the_numbers_of_the_series_that_was_asked_for(kind):
    panel = panel_of(kind)
    forecast = forecast_of(panel)
    ax = plot_forecast(panel, forecast, series="b", n_history=10)
    at = (1, slice(None), 0) if kind == "long" else (0, slice(None), 1)
    np.testing.assert_array_equal(line(ax, "model").get_ydata(), forecast.point[at])
    np.testing.assert_allclose(line(ax, "history").get_ydata(), 10 * (np.sin(np.arange(30, 40)) + 3))
    found = bands(ax)
    assert list(found) == ["95% interval", "80% interval"]  # the wide one below the narrow one
    for level in (80, 95):
        lower, upper = (forecast.quantiles[q][at] for q in level_to_quantiles(level))
        vertices = found[f"{level}% interval"]
        assert set(vertices) == {*lower, *upper}
    assert ax.get_title() == "b"


def test_the_first_series_and_five_horizons_are_the_default():
    panel = panel_of("long")
    ax = plot_forecast(panel, forecast_of(panel, levels=()))
    assert ax.get_title() == "a"
    assert len(line(ax, "history").get_ydata()) == 5 * STEPS
    assert bands(ax) == {}


def test_forecasts_stand_after_the_history_at_their_own_stamps():
    panel = panel_of("wide")
    ax = plot_forecast(panel, forecast_of(panel))
    past, future = line(ax, "history").get_xdata(), line(ax, "model").get_xdata()
    assert past[-1] == np.datetime64("2024-02-09")
    assert list(future) == list(pd.date_range("2024-02-10", periods=STEPS).to_numpy())


def test_time_zones_show_local_time_and_integers_stay_integers():
    zoned = panel_of("wide", tz="Europe/Berlin")
    ax = plot_forecast(zoned, forecast_of(zoned))
    assert line(ax, "model").get_xdata()[0] == np.datetime64("2024-02-10T00:00")
    assert ax.get_xlabel() == "time (Europe/Berlin)"
    counted = panel_of("wide", integer=True)
    assert list(line(plot_forecast(counted, forecast_of(counted)), "model").get_xdata()) == [*range(40, 46)]


def test_truth_is_drawn_beside_the_forecast_where_it_is_known():
    panel = panel_of("long")
    past = panel.rows(0, 36)
    forecast = forecast_of(past)
    ax = plot_forecast(past, forecast, truth=panel)
    np.testing.assert_allclose(line(ax, "truth").get_ydata(), np.sin(np.arange(36, 40)) + 3)
    with pytest.raises(ValueError, match="truth has no row after 2024-02-05"):
        plot_forecast(past, forecast, truth=past)


def test_axes_that_are_given_are_drawn_into():
    axes = Figure().subplots(2)
    panel = panel_of("long")
    assert plot_forecast(panel, forecast_of(panel), ax=axes[1], title="mine") is axes[1]
    assert axes[1].get_title() == "mine"
    assert not axes[0].has_data()


def test_mistakes_name_what_exists():
    panel = panel_of("wide")
    with pytest.raises(ValueError, match="no series 'c'; it has a, b"):
        plot_forecast(panel, forecast_of(panel), series="c")
    with pytest.raises(ValueError, match="n_history must be at least 1 row; got 0"):
        plot_forecast(panel, forecast_of(panel), n_history=0)


def test_files_are_written_in_the_format_of_their_name_and_nothing_else_is(tmp_path):
    panel = panel_of("wide")
    ax = plot_forecast(panel, forecast_of(panel))
    for name, start in {"a.png": b"\x89PNG", "b.pdf": b"%PDF", "c.SVG": b"<?xml"}.items():
        save_plot(ax, tmp_path / "new" / name)
        assert (tmp_path / "new" / name).read_bytes().startswith(start)
    with pytest.raises(ValueError, match=r"d\.xyz names no picture format; end it in one of .*png"):
        save_plot(ax, tmp_path / "new" / "d.xyz")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.png", "b.pdf", "c.SVG"]
    assert check_format("x.png") == "png"


def test_pyplot_stays_out_of_it():
    code = """
import sys
import numpy as np, pandas as pd
from tsattn import plotting
assert "matplotlib" not in sys.modules, "importing the room must not import matplotlib"
from tsattn.data.frames import to_panel
from tsattn.forecasters.naive import Naive
panel = to_panel(pd.DataFrame({"a": np.arange(9.0)}, index=pd.date_range("2024", periods=9, freq="D")))
plotting.plot_forecast(panel, Naive(2).fit(panel).predict(panel))
assert "matplotlib.figure" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_attention_map_shows_its_weights_and_the_blocks_of_each_level(tmp_path):
    weights = np.random.default_rng(0).dirichlet(np.ones(10), size=10)
    ax = plot_attention(weights, block_sizes=(12, 6, 3), offset=1, title="layer 1")
    assert np.array_equal(ax.images[0].get_array(), weights)
    outlines = [(each.get_xdata().min() + 0.5, each.get_xdata().max() + 0.5) for each in ax.get_lines()]
    # Blocks of (i + 1) // 6 and of (i + 1) // 3, cut to the ten patches.
    assert outlines == [(0, 5), (5, 10), (0, 2), (2, 5), (5, 8), (8, 10)]
    widths = [each.get_linewidth() for each in ax.get_lines()]
    assert widths[0] == widths[1] > widths[2] == widths[5]
    save_plot(ax, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"one map has the shape .patches, patches.; got \(2, 10, 10\)"):
        plot_attention(np.stack([weights, weights]))


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_backtest_shows_truth_and_forecasts_from_the_cutoffs_asked_for(kind, tmp_path):
    panel = panel_of(kind)
    result = backtest([Naive(STEPS), Drift(STEPS)], panel, n_windows=9, step_size=2)
    ax = plot_backtest(result, series="b", models=["drift"], n_cutoffs=3)
    rows = np.sin(np.arange(40)) * 10 + 30
    np.testing.assert_allclose(line(ax, "truth").get_ydata(), rows[18 - STEPS : 40])
    drawn = [each for each in ax.get_lines() if len(each.get_ydata()) == STEPS]
    at = (1, 0) if kind == "long" else (0, 1)
    points = result.rolled["drift"].point.reshape(panel.n_series, 9, STEPS, panel.n_channels)[
        at[0], [0, 4, 8], :, at[1]
    ]
    np.testing.assert_array_equal([each.get_ydata() for each in drawn], points)
    assert [each.get_xdata()[0] for each in drawn] == [
        *panel.times[panel.starts[0] + np.array([18, 26, 34])].to_numpy()
    ]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["truth", "drift"]
    assert ax.get_title() == "b"
    save_plot(ax, tmp_path / "backtest.png")


def test_scores_are_bars_with_the_best_on_top_or_lines_by_step():
    result = backtest([Naive(STEPS), Drift(STEPS)], panel_of("long"), n_windows=4)
    ax = plot_scores(result, metric="mse")
    order = result.scores["mse"].sort_values(ascending=False)
    assert [text.get_text() for text in ax.get_yticklabels()] == list(order.index)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], order.to_numpy())
    ax = plot_scores(result, by_step=True)
    np.testing.assert_array_equal(line(ax, "naive").get_ydata(), result.by_step.loc["naive", "mae"])
    assert list(line(ax, "drift").get_xdata()) == [*range(1, STEPS + 1)]


def test_mistakes_about_a_backtest_name_what_exists():
    panel = panel_of("long")
    result = backtest(Naive(STEPS), panel, n_windows=2)
    with pytest.raises(ValueError, match="no model 'best'; it has naive"):
        plot_backtest(result, models=["best"])
    with pytest.raises(ValueError, match="no series 'c'; it has a, b"):
        plot_backtest(result, series="c")
    with pytest.raises(ValueError, match="n_cutoffs must be at least 1; got 0"):
        plot_backtest(result, n_cutoffs=0)
    with pytest.raises(ValueError, match="keep=True"):
        plot_backtest(backtest(Naive(STEPS), panel, keep=False))
    with pytest.raises(ValueError, match=r"metric must be one of mse, mae, .*got 'accuracy'"):
        plot_scores(result, metric="accuracy")
    with pytest.raises(ValueError, match="metric must be one of mae; got 'mse'"):
        plot_scores(result, metric="mse", by_step=True)
