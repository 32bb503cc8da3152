"""The page of a forecast and the pictures of notebooks: parts, data, injected names, scripts."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from tables import long_table, wide_table
from tiny_network import tiny_network

from tsattn import AutoForecaster, PretrainedForecaster, make_forecaster
from tsattn.checks import InputWarning
from tsattn.cli import main
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema
from tsattn.forecaster import forecast_panel
from tsattn.report import report_page, write_report

# Names that would end a script, open a tag, or stand for a mark of the template.
EVIL = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "@DATA@ & @TITLE@"]
H = 4


class Parts(HTMLParser):
    """Tags of a page, and the text of each script."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.attributes = []
        self.scripts = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


def table(ids=("a", "b", "c"), n_rows=60):
    rng = np.random.default_rng(0)
    return long_table(rng.normal(size=(len(ids), n_rows)).cumsum(axis=1) + 20, list(ids))


def page_of(frame, forecaster=None, *, level=80, schema=None, **options):
    forecaster = forecaster or PretrainedForecaster(H, weights=tiny_network())
    panel = to_panel(frame, schema or Schema())
    forecaster.fit(panel)
    forecast = forecast_panel(forecaster, panel, level=level)
    return report_page(forecaster, panel, forecast, **options), forecast


def data_of(page):
    return json.loads(Parts(page).scripts[0])


def test_page_holds_the_series_and_their_forecasts():
    frame = table()
    page, forecast = page_of(frame)
    data = data_of(page)
    assert data["ids"] == ["a", "b", "c"]
    np.testing.assert_allclose(data["point"], forecast.point, rtol=1e-5)
    np.testing.assert_allclose(data["bands"][1][0], forecast.quantiles[0.1][1], rtol=1e-5)
    np.testing.assert_allclose(data["bands"][1][1], forecast.quantiles[0.9][1], rtol=1e-5)
    last = frame[frame["unique_id"] == "b"]["y"].to_numpy()[-24:]
    np.testing.assert_allclose(data["past"][1], last, rtol=1e-5)
    assert data["stampsOf"] == [0, 0, 0]
    assert data["stamps"][0][-H:] == [str(day.date()) for day in forecast.times[:H]]
    assert [column["name"] for column in data["columns"]] == [
        "rows",
        "last row",
        "last value",
        "mean forecast",
        "MAE",
        "MASE",
    ]


def test_page_shows_scores_and_what_was_chosen():
    page, _ = page_of(table())
    assert "<h2>Backtest</h2>" in page
    assert "seasonal naive" in page
    assert "PretrainedForecaster(horizon=4" in page
    assert "The points are medians." in page
    board, _ = page_of(table(["a"]), AutoForecaster(H, max_time=5), judge=False)
    assert "<td>auto_ets</td>" in board
    assert "<h2>Backtest</h2>" not in board
    data = data_of(board)
    assert [column["name"] for column in data["columns"]][-1] == "mean forecast"


def test_page_of_series_too_short_to_judge_says_so():
    page, _ = page_of(long_table([[1.0, 2.0, 3.0]]))
    assert "The forecaster was not judged: " in page
    assert "<h2>Backtest</h2>" not in page


def test_a_short_series_does_not_stop_the_judgement_of_the_others():
    frame = table(["b", "c"])
    short = frame[:3].assign(unique_id="a")
    with pytest.warns(InputWarning, match="'a' has too few rows; they are not judged"):
        page, _ = page_of(pd.concat([short, frame]))
    assert "fitted on those before. 1 of 3 series are too short for that." in page
    assert "<h2>Backtest</h2>" in page
    data = data_of(page)
    assert data["ids"] == ["a", "b", "c"]
    errors = {column["name"]: column["values"] for column in data["columns"]}["MAE"]
    alone, _ = page_of(frame)
    expected = {column["name"]: column["values"] for column in data_of(alone)["columns"]}["MAE"]
    assert errors == [None, *expected]


@pytest.mark.parametrize("judge", [True, False])
def test_names_cannot_leave_the_data(judge):
    page, _ = page_of(table(EVIL), judge=judge, title=EVIL[0])
    parts = Parts(page)
    assert data_of(page)["ids"] == sorted(EVIL)
    assert len(parts.scripts) == 2
    assert "img" not in parts.tags
    assert [name for name, _ in parts.attributes if name.startswith("on")] == []
    assert "alert(1)</script>" not in page
    # Text that looks like a mark stays text.
    assert page.count("@DATA@") == 1


def test_page_asks_for_nothing_beyond_itself():
    page, _ = page_of(table())
    parts = Parts(page)
    assert not {"link", "img", "iframe", "object", "embed"} & {*parts.tags}
    assert [name for name, _ in parts.attributes if name in ("src", "href", "action")] == []
    assert "default-src 'none'" in page
    assert "innerHTML" not in page
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []


def test_missing_values_are_gaps():
    frame = table(["a"])
    frame.loc[55, "y"] = np.nan
    page, _ = page_of(frame)
    past = data_of(page)["past"][0]
    assert [place for place, value in enumerate(past) if value is None] == [len(past) - 5]
    assert "seasonal naive" in page


def test_page_of_wide_tables_and_of_series_that_end_apart():
    wide = wide_table(np.random.default_rng(0).normal(size=(50, 2)), ["b", "a"])
    assert data_of(page_of(wide)[0])["ids"] == ["a", "b"]
    apart = long_table([np.arange(40.0), np.arange(50.0)])
    data = data_of(page_of(apart)[0])
    assert data["stampsOf"] == [0, 1]
    assert [len(stamps) for stamps in data["stamps"]] == [24 + H, 24 + H]


def test_page_shows_periods_as_the_table_does():
    months = pd.period_range("2019-01", periods=40, freq="M")
    frame = pd.DataFrame({"ds": months, "y": np.arange(40.0)})
    page, _ = page_of(frame, make_forecaster("naive", H), level=None)
    assert "frequency MS, last row 2022-04." in page
    data = data_of(page)
    assert data["stamps"][0][-H - 1 :] == ["2022-04", "2022-05", "2022-06", "2022-07", "2022-08"]
    assert data["columns"][1]["values"] == ["2022-04"]


def test_bands_are_added_where_the_forecast_has_none():
    data = data_of(page_of(table(), level=None)[0])
    assert [len(bands) for bands in data["bands"]] == [2, 2, 2]
    points = data_of(page_of(table(), make_forecaster("naive", H), level=None)[0])
    assert points["bands"] == [[], [], []]


def test_page_is_written_whole_and_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    panel = to_panel(long_table(rng.poisson(20, size=(2000, 80)).astype(float)), Schema())
    forecaster = make_forecaster("naive", 12).fit(panel)
    path = tmp_path / "pages" / "page.html"
    write_report(path, forecaster, panel)
    assert path.stat().st_size < 3_000_000
    assert [child.name for child in path.parent.iterdir()] == ["page.html"]
    data = data_of(path.read_text(encoding="utf-8"))
    assert len(data["ids"]) == len(data["past"]) == 2000
    assert len(data["stamps"]) == 1


def test_values_of_a_page_can_be_told_apart():
    steps = np.random.default_rng(0).integers(1, 30, size=60)
    meter = 10_012_345.6 + np.cumsum(steps) / 10
    level = np.full(60, 10_012_345.6)
    frame = long_table([meter, level, level / 3])
    page, forecast = page_of(frame, make_forecaster("drift", H), level=None, judge=False)
    data = data_of(page)
    np.testing.assert_allclose(data["past"][0], meter[-24:], rtol=0, atol=1e-3)
    np.testing.assert_allclose(data["point"][0], forecast.point[0], rtol=0, atol=1e-3)
    columns = {column["name"]: column["values"] for column in data["columns"]}
    assert columns["last value"][:2] == [round(meter[-1], 1), 10_012_345.6]
    assert "e+0" not in page


def test_a_notebook_shows_large_values_whole():
    panel = to_panel(long_table([[10_012_345.61, 10_012_345.72], [0.123456, 20.5]]), Schema())
    text = forecast_panel(make_forecaster("naive", H).fit(panel), panel)._repr_html_()
    assert "<td>10012345.7</td>" in text
    assert "<td>20.5</td>" in text


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize(
    ("value", "span", "text"),
    [
        (10_012_345.6, 12.25, "10,012,345.6"),
        (10_012_345.678901, 12.25, "10,012,345.68"),
        (10_012_345.6, 0, "10,012,345.6"),
        (123_456, 99_000, "123,456"),
        (123_456.789, 99_000, "123,457"),
        (1 / 3, 0, "0.3333"),
        (0.0001234567, 0.002, "0.0001235"),
        (0.5, 40, "0.5"),
        (None, 1, ""),
    ],
)
def test_the_page_shows_as_many_digits_as_tell_values_apart(tmp_path, value, span, text):
    function = re.search(r"function shown.*?\n}\n", page_of(table())[0], re.DOTALL)[0]
    script = tmp_path / "shown.js"
    script.write_text(f"{function}console.log(shown({json.dumps(value)}, {span}))")
    done = subprocess.run(["node", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{text}\n"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_script_of_the_page_is_sound(tmp_path):
    page, _ = page_of(table())
    script = tmp_path / "page.js"
    script.write_text(Parts(page).scripts[1], encoding="utf-8")
    done = subprocess.run(["node", "--check", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_command_writes_a_page(tmp_path, capsys):
    source = tmp_path / "table.csv"
    table().to_csv(source, index=False)
    page = tmp_path / "page.html"
    words = ["forecast", str(source), "--horizon", "4", "--model", "naive", "--quiet"]
    assert main([*words, "--report", str(page)]) == 0
    capsys.readouterr()
    assert data_of(page.read_text(encoding="utf-8"))["ids"] == ["a", "b", "c"]
    for name in ("table.csv", "-", "page"):
        assert main([*words, "--report", name]) == 2
        assert f"--report writes an HTML page; got {name}" in capsys.readouterr().err
    folder = tmp_path / "folder.html"
    folder.mkdir()
    assert main([*words, "--report", str(folder)]) == 2
    assert "is a folder" in capsys.readouterr().err


# --- notebooks


def test_forecast_shows_itself_as_html():
    panel = to_panel(table(EVIL), Schema())
    forecast = forecast_panel(make_forecaster("naive", H).fit(panel), panel)
    text = forecast._repr_html_()
    parts = Parts(text)
    assert "Forecast by naive: 3 series, 4 rows ahead" in text
    assert "10 of 12 rows" in text
    assert parts.tags.count("tr") == 11
    assert not {"script", "img"} & {*parts.tags}
    assert "&lt;/script&gt;" in text


def test_a_wide_forecast_shows_its_outer_columns():
    values = np.arange(30.0)[:, None] + np.arange(500)
    frame = pd.DataFrame(values, index=pd.date_range("2024-01-01", periods=30))
    panel = to_panel(frame.add_prefix("shop"), Schema())
    forecast = forecast_panel(make_forecaster("naive", H).fit(panel), panel)
    text = forecast._repr_html_()
    assert "<p>20 of 500 columns; .to_frame() has all</p>" in text
    assert Parts(text).tags.count("td") < 30 * H
    assert "<th>shop0</th>" in text
    assert "<th>shop499</th>" in text


def test_forecaster_shows_itself_as_html():
    forecaster = make_forecaster("naive", H, alias="<b>bold</b>")
    assert "not fitted" in forecaster._repr_html_()
    text = forecaster.fit(table())._repr_html_()
    assert "fitted to 3 series, frequency D" in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "<b>" not in text


def test_every_setting_stands_in_the_html_of_a_forecaster():
    forecaster = PretrainedForecaster(H, weights=tiny_network(), schema=Schema(freq="D"))
    text = forecaster._repr_html_()
    for name in forecaster.get_params(deep=False):
        assert f"<th>{name}</th>" in text
    assert len(text) < 3000


def test_index_of_a_series_is_shown():
    days = pd.date_range("2024-01-01", periods=30)
    panel = to_panel(pd.Series(np.arange(30.0), index=days), Schema())
    forecast = forecast_panel(make_forecaster("naive", H).fit(panel), panel)
    assert "2024-01-31" in forecast._repr_html_()
