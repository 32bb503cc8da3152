"""Pictures show the numbers that they are given and change nothing else."""

import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from side_by_side import columns_of

from tsattn.catalogue import forecast as call_forecast
from tsattn.checks import InputWarning
from tsattn.data.calendar import future_times
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import SplitConformal
from tsattn.forecasters.naive import Drift, Naive
from tsattn.forecasts import Forecast
from tsattn.levels import level_to_quantiles
from tsattn.plotting import (
    check_format,
    plot_attention,
    plot_backtest,
    plot_forecast,
    plot_scores,
    save_plot,
)

STEPS = 6


def panel_of(kind, *, tz=None, integer=False):
    stamps = np.arange(40) if integer else pd.date_range("2024-01-01", periods=40, freq="D", tz=tz)
    values = np.sin(np.arange(40)) + 3
    if kind == "wide":
        return to_panel(pd.DataFrame({"a": values, "b": 10 * values}, index=stamps))
    frame = pd.DataFrame({"unique_id": np.repeat(["a", "b"], 40), "ds": [*stamps, *stamps]})
    return to_panel(frame.assign(y=np.concatenate([values, 10 * values])))


def forecast_of(panel, levels=(80, 95)):
    shape = (panel.n_series, STEPS)
    point = np.arange(np.prod(shape), dtype=float).reshape(shape) + 10
    quantiles = {q: point + 20 * (q - 0.5) for q in level_to_quantiles(levels)}
    return Forecast(
        point=point,
        ids=panel.ids,
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
    collections = [each for each in ax.collections if isinstance(each, PolyCollection)]
    return {each.get_label(): each.get_paths()[0].vertices[:, 1] for each in collections}


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_lines_and_bands_are_the_numbers_of_the_series_that_was_asked_for(kind):
    panel = panel_of(kind)
    forecast = forecast_of(panel)
    ax = plot_forecast(panel, forecast, series="b", n_history=10)
    last = 10 * (np.sin(39) + 3)
    np.testing.assert_allclose(line(ax, "model").get_ydata(), [last, *forecast.point[1]])
    np.testing.assert_allclose(
        line(ax, "history").get_ydata(), 10 * (np.sin(np.arange(30, 40)) + 3)
    )
    drawn_bands = bands(ax)
    assert list(drawn_bands) == [
        "95% interval",
        "80% interval",
    ]  # the wide one below the narrow one
    for level in (80, 95):
        lower, upper = (forecast.quantiles[q][1] for q in level_to_quantiles(level))
        vertices = drawn_bands[f"{level}% interval"]
        assert set(vertices) == {*lower, *upper, line(ax, "history").get_ydata()[-1]}
    assert ax.get_title() == "b"


def test_all_series_and_five_horizons_are_the_default():
    panel = panel_of("long")
    ax = plot_forecast(panel, forecast_of(panel, levels=()))
    assert [each.get_title() for each in ax.figure.axes] == ["a", "b"]
    assert len(line(ax, "history").get_ydata()) == 5 * STEPS
    assert bands(ax) == {}


def test_forecasts_go_on_from_the_history_at_their_own_stamps():
    panel = panel_of("wide")
    ax = plot_forecast(panel, forecast_of(panel))
    past = line(ax, "history").get_xdata()
    future = line(ax, "model").get_xdata()
    assert past[-1] == np.datetime64("2024-02-09")
    assert list(future) == list(pd.date_range("2024-02-09", periods=1 + STEPS).to_numpy())


def test_time_zones_show_local_time_and_integers_stay_integers():
    zoned = panel_of("wide", tz="Europe/Berlin")
    ax = plot_forecast(zoned, forecast_of(zoned))
    assert line(ax, "model").get_xdata()[1] == np.datetime64("2024-02-10T00:00")
    assert ax.get_xlabel() == "time (Europe/Berlin)"
    counted = panel_of("wide", integer=True)
    assert list(line(plot_forecast(counted, forecast_of(counted)), "model").get_xdata()) == [
        *range(39, 46)
    ]


def test_truth_is_drawn_beside_the_forecast_where_it_is_known():
    panel = panel_of("long")
    past = panel.rows(0, 36)
    forecast = forecast_of(past)
    ax = plot_forecast(past, forecast, truth=panel)
    np.testing.assert_allclose(line(ax, "truth").get_ydata(), np.sin(np.arange(35, 40)) + 3)
    with pytest.raises(ValueError, match="truth has no row from 2024-02-06 00:00:00 on"):
        plot_forecast(past, forecast, truth=past)
    # A history that goes on after the cutoff holds the truth itself.
    whole = plot_forecast(panel, forecast)
    for label in ("history", "truth", "model"):
        np.testing.assert_array_equal(line(whole, label).get_xydata(), line(ax, label).get_xydata())


def frames_of(kind, names, *, n_series=2, n_rows=40):
    """A table under some names, and the frame that a forecaster with intervals answers."""
    panel = panel_of("long")
    values = np.column_stack([(n + 1) * panel.values[:40, 0] for n in range(n_series)])[:n_rows]
    ids = [f"s{n:02}" for n in range(n_series)]
    stamps = pd.date_range("2024-01-01", periods=n_rows, freq="D")
    rule = SplitConformal(Naive(STEPS, schema=SCHEMAS[names]), n_windows=20)
    if kind == "long":
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat(ids, n_rows),
                "ds": np.tile(stamps, n_series),
                "y": values.T.ravel(),
            }
        )
        frame = frame.rename(columns=dict(zip(frame.columns, names, strict=True)))
    else:
        frame = pd.DataFrame(values, index=stamps, columns=ids)
        frame = frame.reset_index(names=names[1]) if names[1] != "ds" else frame
    return frame, rule.fit(frame).predict(level=80, quantiles=[0.05, 0.95])


SCHEMAS = {
    ("unique_id", "ds", "y"): Schema(),
    ("shop", "day", "sold"): Schema(id_col="shop", time_col="day", target_col="sold"),
    (0, 1, 2): Schema(id_col=0, time_col=1, target_col=2),
    (2, 0, 1): Schema(id_col=2, time_col=0, target_col=1),
}


@pytest.mark.parametrize("names", list(SCHEMAS))
@pytest.mark.parametrize("kind", ["long", "wide"])
def test_frames_are_drawn_as_the_panel_and_the_forecast_behind_them(kind, names):
    schema = Schema(time_col=names[1]) if kind == "wide" else SCHEMAS[names]
    frame, answer = (
        frames_of(kind, names)
        if kind == "long"
        else frames_of(kind, ("unique_id", names[1], "y")[:3])
    )
    ax = plot_forecast(frame, answer, schema=schema)
    assert [each.get_title() for each in ax.figure.axes] == ["s00", "s01"]
    for n, each in enumerate(ax.figure.axes):
        rows = answer.iloc[n * STEPS : (n + 1) * STEPS] if kind == "long" else answer
        name, label = ("naive", "naive") if kind == "long" else (f"s{n:02}", "forecast")
        history = (n + 1) * (np.sin(np.arange(10, 40)) + 3)
        np.testing.assert_allclose(line(each, "history").get_ydata(), history)
        np.testing.assert_allclose(line(each, label).get_ydata(), [history[-1], *rows[name]])
        for band, lower, upper in (("80%", "lo-80", "hi-80"), ("90%", "q0.05", "q0.95")):
            vertices = bands(each)[f"{band} interval"]
            assert set(vertices) == {
                history[-1],
                *rows[f"{name}-{lower}"],
                *rows[f"{name}-{upper}"],
            }
    shuffled = answer.sample(frac=1, random_state=0)
    other = plot_forecast(
        frame.sample(frac=1, random_state=1), shuffled, schema=schema, series="s01"
    )
    np.testing.assert_array_equal(
        line(other, label).get_xydata(), line(ax.figure.axes[1], label).get_xydata()
    )


SCHEMAS |= {("unique_id", name, "y"): Schema(time_col=name) for name in ("day", 0, 1)}


def test_names_that_end_like_a_bound_are_drawn():
    wide = pd.DataFrame(columns_of(panel_of("wide")), columns=["sales", "sales-q0.4"]).assign(
        ds=pd.date_range("2024", periods=40)
    )
    axes = plot_forecast(wide, call_forecast(wide, STEPS, level=80)).figure.axes
    assert [each.get_title() for each in axes] == ["sales", "sales-q0.4"]
    assert [list(bands(each)) for each in axes] == [["80% interval"]] * 2
    frame = wide[["ds", "sales"]]
    ax = plot_forecast(
        frame,
        SplitConformal(Naive(STEPS, alias="sales-q1"), n_windows=9).fit(frame).predict(level=80),
    )
    assert list(bands(ax)) == ["80% interval"]


def test_a_wide_table_whose_columns_are_numbers_is_drawn():
    wide = pd.DataFrame(columns_of(panel_of("wide")), columns=[7, 8])
    axes = plot_forecast(wide, call_forecast(wide, STEPS, level=80)).figure.axes
    assert [each.get_title() for each in axes] == ["7", "8"]
    assert [list(bands(each)) for each in axes] == [["80% interval"]] * 2


def test_one_step_is_drawn():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"))
    ax = plot_forecast(frame, answer.groupby("unique_id").head(1), series="s01")
    assert len(line(ax, "naive").get_ydata()) == 2


@pytest.mark.parametrize("n_series", [1, 2, 5, 12, 14, 30])
def test_up_to_twelve_series_are_small_pictures_and_the_title_tells_what_is_left_out(n_series):
    frame, answer = frames_of("long", ("unique_id", "ds", "y"), n_series=n_series)
    figure = plot_forecast(frame, answer, title="sales").figure
    assert len(figure.axes) == min(n_series, 12)
    if n_series == 1:
        assert figure.axes[0].get_title() == "sales"
        return
    assert [each.get_title() for each in figure.axes] == [
        f"s{n:02}" for n in range(min(n_series, 12))
    ]
    told = {
        14: "sales; 12 of 14 series, without s12, s13",
        30: "sales; 12 of 30 series, without s12, s13, s14, s15, s16 and 13 more",
    }
    assert figure.get_suptitle() == told.get(n_series, "sales")
    few = plot_forecast(frame, answer, series=["s01", "s00"]).figure
    assert [each.get_title() for each in few.axes] == ["s01", "s00"]
    assert few.get_suptitle() == ""


@pytest.mark.parametrize("kind", ["long", "wide"])
@pytest.mark.parametrize("level", [None, 80])
def test_the_title_names_series_that_were_left_out_of_the_forecast(kind, level):
    table = pd.DataFrame({"z": np.sin(np.arange(40.0)), "dead": np.nan, "a": np.arange(40.0)})
    table.index = pd.date_range("2024", periods=40, name="ds")
    if kind == "long":
        table = table.reset_index().melt("ds", var_name="unique_id", value_name="y")
    with pytest.warns(InputWarning, match="left out: series 'dead'"):
        answer = call_forecast(table, STEPS, level=level)
    figure = plot_forecast(table, answer).figure
    shown = ["a", "z"] if kind == "long" else ["z", "a"]
    assert [each.get_title() for each in figure.axes] == shown
    assert figure.get_suptitle() == "2 of 3 series, without dead"
    for each in figure.axes:
        name = each.get_title()
        points = answer[answer["unique_id"] == name] if kind == "long" else answer
        column = "zero" if kind == "long" else name
        label = "zero" if kind == "long" else "forecast"
        np.testing.assert_allclose(line(each, label).get_ydata()[1:], points[column])
    with pytest.raises(ValueError, match="series 'dead' has no value and was left out"):
        plot_forecast(table, answer, series=["a", "dead"])
    if kind == "wide":
        fewer = answer.loc[:, ~answer.columns.str.startswith("dead")]
        axes = plot_forecast(table, fewer).figure.axes
        assert [each.get_title() for each in axes] == shown


def test_a_series_that_only_the_model_left_out_is_named_too():
    table = pd.DataFrame({"a": np.arange(40.0) ** 2, "b": [np.nan] * 39 + [1.0]})
    answer = pd.DataFrame({"a": [1600.0, 1681.0], "b": np.nan}, index=[40, 41])
    figure = plot_forecast(table, answer).figure
    assert [each.get_title() for each in figure.axes] == ["a"]
    assert figure.get_suptitle() == "1 of 2 series, without b"
    with pytest.raises(ValueError, match="series 'b' has no value in the forecast and was left"):
        plot_forecast(table, answer, series="b")


def test_names_with_dollars_and_a_leading_underscore_are_drawn_as_they_are():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"))
    names = {"s00": "${shop}_${item}", "s01": "US$ a_b $"}
    frame, answer = (
        each.assign(unique_id=each["unique_id"].map(names)) for each in (frame, answer)
    )
    answer.columns = [column.replace("naive", "_a $^$") for column in answer.columns]
    result = backtest(
        [Naive(STEPS, alias="_a $^$"), Drift(STEPS, alias="b $^$")], frame, n_windows=2
    )
    figures = [plot_forecast(frame, answer).figure, plot_backtest(result).figure]
    figures += [plot_scores(result).figure, plot_scores(result, by_step=True).figure]
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        ax = figure.axes[0]
        for text in [
            *ax.get_yticklabels(),
            ax.title,
            *(t for legend in figure.legends for t in legend.get_texts()),
        ]:
            assert not text._preprocess_math(text.get_text())[1], "is no mathematics"
    legends = [
        [text.get_text().strip() for text in figure.legends[0].get_texts()]
        for figure in figures
        if figure.legends
    ]
    assert [r"_a \$^\$" in legend for legend in legends] == [True] * 3
    title = figures[0].axes[0].title
    assert title._preprocess_math(title.get_text()) == ("${shop}_${item}", False)


@pytest.mark.parametrize(
    ("n_series", "freq"), [(1, "D"), (1, "YS"), (4, "min"), (4, "h"), (4, "MS"), (12, "MS")]
)
def test_dates_and_legend_do_not_collide(n_series, freq):
    frame, _ = frames_of("long", ("unique_id", "ds", "y"), n_series=n_series)
    frame["ds"] = np.tile(pd.date_range("2023-11-28", periods=40, freq=freq), n_series)
    answer = SplitConformal(Naive(STEPS), n_windows=20).fit(frame).predict(level=[50, 80])
    figure = plot_forecast(frame, answer).figure
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "history",
        "80% interval",
        "50% interval",
        "naive",
    ]
    renderer = canvas.get_renderer()
    boxes = [each.get_tightbbox(renderer) for each in figure.axes]
    for n, (ax, box) in enumerate(zip(figure.axes, boxes, strict=True)):
        assert not box.overlaps(legend.get_window_extent(renderer))
        assert not any(box.overlaps(other) for other in boxes[:n])
        labels = [
            text.get_window_extent(renderer) for text in ax.get_xticklabels() if text.get_text()
        ]
        assert len(labels) >= 2
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(labels))


def test_bands_stop_at_zero_where_the_history_is_never_negative():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"), n_series=1)
    answer["naive-lo-80"] = -1.0
    assert bands(plot_forecast(frame, answer))["80% interval"].min() == 0
    answer["naive"] = -0.5  # the forecaster says that it may be
    assert bands(plot_forecast(frame, answer))["80% interval"].min() == -0.5
    frame.loc[0, "y"] = -2.0
    assert bands(plot_forecast(frame, answer))["80% interval"].min() == -1


def test_a_tuple_names_a_series_of_several_columns():
    frame, _ = frames_of("long", ("unique_id", "ds", "y"))
    frame["item"] = frame["unique_id"].map({"s00": 7, "s01": 8})
    frame = frame.assign(store="00/2").drop(columns="unique_id")
    schema = Schema(id_col=["store", "item"])
    answer = call_forecast(frame, 5, schema=schema)
    for chosen in (("00/2", 8), [("00/2", 8)]):
        ax = plot_forecast(frame, answer, schema=schema, series=chosen)
        values = frame.loc[frame["item"] == 8, "y"]
        np.testing.assert_array_equal(line(ax, "history").get_ydata(), values.iloc[-25:])
    result = backtest(Naive(5, schema=schema), frame, n_windows=2)
    assert plot_backtest(result, series=("00/2", 8)).get_title() == r"00\/2/8"
    with pytest.raises(ValueError, match="has no series"):
        plot_forecast(frame, answer, schema=schema, series=("00/2", 9))


@pytest.mark.filterwarnings("ignore:the table has -9999:tsattn.checks.InputWarning")
def test_numbers_that_stand_for_missing_values_are_not_drawn():
    values = np.random.default_rng(0).poisson(2.0, 80).astype(float)
    values[::9] = -9999.0
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=80), "y": values})
    ax = plot_forecast(frame, call_forecast(frame, 5, level=80))
    assert ax.get_ylim()[0] > -1
    assert bands(ax)["80% interval"].min() >= 0
    kept = Schema(missing="error")
    ax = plot_forecast(frame, call_forecast(frame, 5, schema=kept), schema=kept)
    assert ax.get_ylim()[0] < -9999


def test_values_below_zero_after_the_history_leave_the_bands_alone():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"), n_series=1)
    answer["naive-lo-80"] = -1.0
    later = answer[["unique_id", "ds"]].assign(y=-2.0)
    ax = plot_forecast(pd.concat([frame, later]), answer)
    assert line(ax, "truth").get_ydata().min() == -2
    assert bands(ax)["80% interval"].min() == 0


def test_a_history_with_holes_is_drawn_with_holes_and_goes_on_from_what_is_known():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"), n_series=1)
    frame.loc[[20, 38, 39], "y"] = np.nan
    ax = plot_forecast(frame, answer)
    assert np.isnan(line(ax, "history").get_ydata()).sum() == 3
    assert line(ax, "naive").get_xdata()[0] == np.datetime64("2024-02-07")
    frame.loc[5:, "y"] = np.nan
    assert len(line(plot_forecast(frame, answer), "naive").get_ydata()) == STEPS


def test_frames_that_do_not_fit_are_refused():
    frame, answer = frames_of("long", ("unique_id", "ds", "y"))
    wide, theirs = frames_of("wide", ("unique_id", "ds", "y"))
    wrong = [
        (
            frame[frame["unique_id"] == "s00"],
            answer,
            "the history has no series 's01', which the forecast has",
        ),
        (frame, answer.assign(mlr=1.0), "one column of points beside .*; got naive, mlr"),
        (frame, answer[["unique_id", "ds"]], "one column of points beside .*; got none"),
        (
            frame,
            answer.iloc[:-1],
            "as many rows for every series; got 6 for series 's00' and 5 for series 's01'",
        ),
        (frame, answer.drop(columns="ds"), "'ds'"),
        (
            frame[frame["ds"] > "2024-02-08"].assign(ds=pd.Timestamp("2025-01-01")).iloc[[0, 1]],
            answer,
            "s0|freq",
        ),
        (wide, theirs.drop(columns="s01"), "no column 's01', which the history has"),
        (frame, forecast_of(to_panel(wide)), "the history has no series 's00'"),
        (frame[frame["ds"] > "2024-02-09"], answer, "empty"),
        (
            frame.assign(ds=frame["ds"] + pd.Timedelta("60D")),
            answer,
            "no row before 2024-02-10 00:00:00, where the forecast",
        ),
        (
            frame.assign(ds=frame["ds"].dt.tz_localize("UTC")),
            answer,
            "has stamps without a time zone, .* stamps in a time zone; pass",
        ),
    ]
    counted = frame.assign(ds=(frame["ds"] - frame["ds"].min()).dt.days)
    with pytest.raises(
        ValueError,
        match="the forecast has stamps without a time zone, and what is to be drawn with it int",
    ):
        plot_forecast(frame, answer, truth=counted)
    for history, forecast, message in wrong:
        with pytest.raises(ValueError, match=message):
            plot_forecast(history, forecast)
    with pytest.raises(ValueError, match=r"series must name one for one ax; got \['s00', 's01'\]"):
        plot_forecast(frame, answer, series=["s00", "s01"], ax=Figure().subplots())
    with pytest.raises(ValueError, match=r"series must name at least one; got \[\]"):
        plot_forecast(frame, answer, series=[])
    for history, forecast in ((frame, 3), (3, answer)):
        with pytest.raises(TypeError, match="int"):
            plot_forecast(history, forecast)


@pytest.mark.parametrize(
    "data",
    [
        np.arange(40.0) % 7,
        [*range(40)],
        pd.Series(
            np.arange(40.0), index=pd.period_range("2024", periods=40, freq="M"), name="sold"
        ),
        pd.DataFrame({"year": np.arange(1980, 2020), "y": np.arange(40.0)}),
        pd.DataFrame({"ds": np.arange(40), "y": np.arange(40.0)}),
    ],
    ids=["array", "list", "periods", "years", "no id"],
)
def test_whatever_is_forecast_in_one_call_is_drawn(data):
    answer = call_forecast(data, 5, model="naive")
    ax = plot_forecast(data, answer)
    history, ahead = ax.get_lines()
    assert (len(history.get_ydata()), len(ahead.get_ydata())) == (25, 6)
    assert ahead.get_xdata()[0] == history.get_xdata()[-1]


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
    for odd in (0, 2.5, "3"):
        with pytest.raises(
            ValueError, match=f"n_history must be a whole number of at least 1; got {odd!r}"
        ):
            plot_forecast(panel, forecast_of(panel), n_history=odd)


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


def test_plots_do_not_use_pyplot():
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
    outlines = [
        (each.get_xdata().min() + 0.5, each.get_xdata().max() + 0.5) for each in ax.get_lines()
    ]
    # Blocks of (i + 1) // 6 and of (i + 1) // 3, cut to the ten patches.
    assert outlines == [(0, 5), (5, 10), (0, 2), (2, 5), (5, 8), (8, 10)]
    widths = [each.get_linewidth() for each in ax.get_lines()]
    assert widths[0] == widths[1] > widths[2] == widths[5]
    save_plot(ax, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 1000
    with pytest.raises(
        ValueError, match=r"one map has the shape .patches, patches.; got \(2, 10, 10\)"
    ):
        plot_attention(np.stack([weights, weights]))
    listed = plot_attention(weights.tolist(), block_sizes=np.array([12, 6, 3]), offset=np.int64(1))
    assert len(listed.get_lines()) == len(outlines)
    for odd in (None, (12, 0), (12, 2.5)):
        with pytest.raises(
            ValueError, match="a size of block_sizes must be a whole number of at least 1; got"
        ):
            plot_attention(weights, block_sizes=odd)
    with pytest.raises(ValueError, match=r"offset must be a whole number of at least 0; got 1.5"):
        plot_attention(weights, offset=1.5)


@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_backtest_shows_truth_and_forecasts_from_the_cutoffs_asked_for(kind, tmp_path):
    panel = panel_of(kind)
    result = backtest([Naive(STEPS), Drift(STEPS)], panel, n_windows=9, step_size=2)
    ax = plot_backtest(result, series="b", models=["drift"], n_cutoffs=3)
    rows = np.sin(np.arange(40)) * 10 + 30
    np.testing.assert_allclose(line(ax, "truth").get_ydata(), rows[18 - STEPS : 40])
    drawn = [each for each in ax.get_lines() if len(each.get_ydata()) == STEPS]
    points = result.rolled["drift"].point.reshape(2, 9, STEPS)[1, [0, 4, 8]]
    np.testing.assert_array_equal([each.get_ydata() for each in drawn], points)
    assert [each.get_xdata()[0] for each in drawn] == [
        *panel.times[panel.starts[0] + np.array([18, 26, 34])].to_numpy()
    ]
    (legend,) = ax.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["truth", "drift"]
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
    with pytest.raises(ValueError, match="no model 'best'; it has naive"):
        plot_backtest(result, models="best")
    for several in (result.scores.index, ["naive"], "naive"):
        assert plot_backtest(result, models=several, series="a") is not None
    with pytest.raises(ValueError, match="no series 'c'; it has a, b"):
        plot_backtest(result, series="c")
    for odd in (0, 2.5, "3"):
        with pytest.raises(
            ValueError, match=f"n_cutoffs must be a whole number of at least 1; got {odd!r}"
        ):
            plot_backtest(result, n_cutoffs=odd)
    with pytest.raises(ValueError, match="keep=True"):
        plot_backtest(backtest(Naive(STEPS), panel, keep=False))
    with pytest.raises(ValueError, match=r"metric must be one of mse, mae, .*got 'accuracy'"):
        plot_scores(result, metric="accuracy")
    with pytest.raises(ValueError, match="metric must be one of mae; got 'mse'"):
        plot_scores(result, metric="mse", by_step=True)
