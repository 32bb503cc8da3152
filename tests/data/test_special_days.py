"""Holidays and listed dates in a calendar: read, refused, and used by every forecaster that reads a
calendar.
"""

import doctest
import io
import sys

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import H, attention, plant_few_trees, plant_small_gbm
from sklearn.ensemble import HistGradientBoostingRegressor

from tsattn import PretrainedForecaster, backtest, make_forecaster, special_days
from tsattn.catalogue import load_forecaster
from tsattn.data import cycles
from tsattn.data import special_days as module
from tsattn.data.cycles import calendar_slices, calendar_width, choose_cycles, cycle_features
from tsattn.data.schema import Schema
from tsattn.data.special_days import day_features
from tsattn.forecasters.regression import SklearnForecaster

# At irregular distances, the last one after the rows that are fitted.
FAIRS = [
    str(day.date())
    for day in pd.Timestamp("2023-01-01") + pd.to_timedelta(np.cumsum([15, 9, 22, 13, 18] * 7), "D")
]
LAST = FAIRS[-1]


def fair_table(n=550, dates=FAIRS, effect=(-1.0, 6.0, 2.0)):
    """Two daily series that fairs move, on the day before, on the day and on the day after."""
    days = pd.date_range("2023-01-01", periods=n)
    rng = np.random.default_rng(0)
    y = np.sin(2 * np.pi * np.arange(n) / 7)
    for shift, size in zip((-1, 0, 1), effect, strict=True):
        y = y + size * days.isin(pd.DatetimeIndex(dates) + pd.Timedelta(shift, "D"))
    parts = [
        pd.DataFrame({"unique_id": s, "ds": days, "y": y + 0.1 * rng.normal(size=n)})
        for s in ("a", "b")
    ]
    return pd.concat(parts, ignore_index=True)


# --- what the columns are -------------------------------------------------------------------------


def test_a_holiday_has_its_day_the_day_before_and_the_day_after():
    pytest.importorskip("holidays")
    days = pd.date_range("2023-12-30", periods=5)
    assert day_features(days, "holidays:DE").tolist() == [
        [0, 0, 0],
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]
    epiphany = pd.DatetimeIndex(["2024-01-06"])
    assert day_features(epiphany, "holidays:DE")[0, 0] == 0
    assert day_features(epiphany, "holidays:de-BY")[0, 0] == 1


def test_hours_of_a_day_are_those_of_the_clock_of_their_zone():
    pytest.importorskip("holidays")
    hours = pd.date_range("2024-12-23", periods=120, freq="h", tz="Australia/Melbourne")
    expected = [hour.day in (25, 26) for hour in hours]
    assert day_features(hours, "holidays:AU-VIC")[:, 0].astype(bool).tolist() == expected
    in_utc = day_features(hours.tz_convert("UTC"), "holidays:AU-VIC")[:, 0].astype(bool)
    assert in_utc.tolist() == [stamp.day in (25, 26) for stamp in hours.tz_convert("UTC")]


def test_entries_have_their_columns_side_by_side():
    entries = ("weekday", "days:2024-01-05", "month")
    assert calendar_slices(entries) == {
        "weekday": slice(0, 2),
        entries[1]: slice(2, 5),
        "month": slice(5, 7),
    }
    assert calendar_width(entries) == 7
    days = pd.date_range("2024-01-01", periods=9)
    parts = [cycle_features(days, [entry]) for entry in entries]
    np.testing.assert_array_equal(cycle_features(days, entries), np.concatenate(parts, axis=1))
    assert cycle_features(days[:0], entries).shape == (0, 7)


def test_auto_stands_among_other_entries():
    days = pd.date_range("2024-01-01", periods=100)
    fair = "days:fair=2024-02-01"
    assert choose_cycles(["auto", fair], "D", days) == ("weekday", "monthday", fair)
    assert choose_cycles([fair, "auto", "weekday"], "D", days) == (fair, "weekday", "monthday")
    assert choose_cycles(["auto", fair], "D", days[:3]) == (fair,)


FRAME = pd.DataFrame(
    {"name": ["fair", "race", "fair"], "date": ["2024-05-02", "2024-06-01", "2023-05-04"]}
)
ENTRIES = ("days:fair=2023-05-04,2024-05-02", "days:race=2024-06-01")


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (FRAME, ENTRIES),
        (FRAME.assign(date=pd.to_datetime(FRAME["date"]) + pd.Timedelta("5h")), ENTRIES),
        (dict(zip(FRAME["date"], FRAME["name"], strict=True)), ENTRIES),
        (FRAME[["date"]], ("days:2023-05-04,2024-05-02,2024-06-01",)),
        (pd.DatetimeIndex(FRAME["date"]), ("days:2023-05-04,2024-05-02,2024-06-01",)),
        (["2024-05-02", "2024-05-02"], ("days:2024-05-02",)),
        ("2024-05-02", ("days:2024-05-02",)),
        (pd.Timestamp("2024-05-02"), ("days:2024-05-02",)),
        (np.datetime64("2024-05-02"), ("days:2024-05-02",)),
    ],
    ids=["table", "stamps", "mapping", "column", "index", "list", "text", "stamp", "numpy"],
)
def test_dates_of_any_form_become_entries(days, expected):
    assert special_days(days) == expected


def test_the_examples_in_the_docstrings_are_true():
    for each in (module, cycles):
        outcome = doctest.testmod(each)
        assert outcome.attempted >= 3
        assert outcome.failed == 0


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "freq", "message"),
    [
        (
            "holidays:Germany",
            "D",
            "'holidays:Germany': no country 'GERMANY' is known; did you mean DE",
        ),
        (
            "holidays:AV",
            "D",
            r"no country 'AV' is known; did you mean .*\?.*two letters, such as 'holidays:DE'",
        ),
        (
            "holidays:DE-BV",
            "h",
            r"DE has no part 'BV'; did you mean .*BY.*its parts are BB, BE, BW",
        ),
        (
            "holidays:DE",
            "W-SUN",
            "'holidays:DE' marks days, but stamps of frequency 'W-SUN' are further apart; leave",
        ),
        (
            "holidays:DE",
            "MS",
            "frequency 'MS' are further apart.*the number of such days.*column of future_cols",
        ),
        ("days:2024-01-01", "2D", "frequency '2D' are further apart"),
        ("days:2024-01-01", "36h", "frequency '36h' are further apart"),
        ("holidays:DE", 1, "integer time has none"),
        ("days:fair=2024-02-30", "D", "holds '2024-02-30', but dates are written 2024-12-31"),
        ("days:", "D", "holds '', but dates are written"),
        ("feasts:DE", "D", "or special days such as 'holidays:DE'; got 'feasts:DE'"),
    ],
)
def test_entries_that_nobody_knows_are_refused(entry, freq, message):
    if entry.startswith("holidays:"):
        pytest.importorskip("holidays")
    times = pd.Index(np.arange(9)) if freq == 1 else pd.date_range("2020", periods=9, freq=freq)
    with pytest.raises(ValueError, match=message):
        choose_cycles([entry], freq, times)


@pytest.mark.parametrize(
    ("days", "kind", "message"),
    [
        ([1, 2], TypeError, "needs dates such as '2024-11-29'; got 1"),
        ([], ValueError, "at least one date"),
        (["2024-02-30"], ValueError, "'2024-02-30' in row 0, which cannot be read"),
        ({"2024-01-01": "a=b"}, ValueError, "without '='; got 'a=b'"),
        ({"2024-01-01": None}, ValueError, "must be text"),
        (FRAME.assign(place="x"), ValueError, r"\['name', 'place'\] could all hold the names"),
        (pd.DataFrame({"a": ["x"], "b": ["z"]}), ValueError, "finds no dates in the columns"),
    ],
)
def test_dates_that_cannot_be_read_are_refused(days, kind, message):
    with pytest.raises(kind, match=message):
        special_days(days)


@pytest.fixture
def without_package(monkeypatch):
    """The package of the holidays hidden, and what was read of it forgotten."""

    def hide():
        module._holiday_days.cache_clear()
        monkeypatch.setitem(sys.modules, "holidays", None)

    yield hide
    module._holiday_days.cache_clear()


def test_a_missing_package_is_named_with_the_remedy(without_package, tmp_path):
    pytest.importorskip("holidays")
    schema = Schema(calendar=["weekday", "holidays:DE"])
    make_forecaster("ridge", H, schema=schema).fit(fair_table(90)).save(tmp_path / "model")
    without_package()
    remedy = (
        r"'holidays:DE' needs the package holidays; install it with: pip install"
        r" 'tsattn\[holidays\]'"
    )
    with pytest.raises(ImportError, match=remedy):
        make_forecaster("ridge", H, schema=schema).fit(fair_table(90))
    with pytest.raises(ImportError, match=remedy):
        load_forecaster(tmp_path / "model")


# --- every forecaster that reads a calendar -------------------------------------------------------

GBM = HistGradientBoostingRegressor(max_iter=30, early_stopping=False)
MAKERS = {
    "zero": lambda schema: PretrainedForecaster(H, schema=schema),
    "ridge": lambda schema: make_forecaster("ridge", H, schema=schema, random_state=0),
    "gbm": lambda schema: make_forecaster("gbm", H, schema=schema, random_state=0),
    "least_squares": lambda schema: make_forecaster("least_squares", H, schema=schema),
    "mlr": lambda schema: attention(max_epochs=12, learning_rate=1e-2, calendar=schema.calendar),
}
CALENDAR = ("weekday", *special_days(FAIRS))


@pytest.fixture(scope="module")
def fitted():
    """Each forecaster fitted up to two days before a fair that the calendar names."""
    table = fair_table()
    before = table[table["ds"] < pd.Timestamp(LAST) - pd.Timedelta("1D")]
    with pytest.MonkeyPatch.context() as patch:
        plant_few_trees(patch)
        plant_small_gbm(patch)
        return {name: make(Schema(calendar=CALENDAR)).fit(before) for name, make in MAKERS.items()}


@pytest.mark.parametrize("name", MAKERS)
def test_a_fair_ahead_is_in_the_forecast(name, fitted):
    forecast = fitted[name].predict()
    point = forecast[forecast["unique_id"] == "a"].set_index("ds").iloc[:, 1]
    others = point.drop(pd.Timestamp(LAST))
    assert point[LAST] > others.max() + 1.0


@pytest.mark.parametrize("name", MAKERS)
def test_saved_models_know_their_special_days(name, fitted, tmp_path):
    fitted[name].save(tmp_path / name)
    loaded = load_forecaster(tmp_path / name)
    assert CALENDAR[1] in loaded.covariate_columns_.calendar
    pd.testing.assert_frame_equal(loaded.predict(), fitted[name].predict())


def test_a_backtest_gains_by_special_days():
    table = fair_table()
    calendars = {"with": CALENDAR, "without": ("weekday",)}
    rivals = {
        name: SklearnForecaster(H, GBM, schema=Schema(calendar=own), random_state=0)
        for name, own in calendars.items()
    }
    scores = backtest(rivals, table, n_windows=40, step_size=4).scores["mae"]
    assert scores["with"] < 0.9 * scores["without"]


def test_holidays_at_the_command_line(tmp_path, monkeypatch, run):
    pytest.importorskip("holidays")
    monkeypatch.chdir(tmp_path)
    table = fair_table(dates=["2023-05-01", "2023-10-03", "2024-05-01"])
    table[table["ds"] < "2024-04-30"].to_csv("table.csv", index=False)
    argv = ["forecast", "table.csv", "--horizon", H, "--model", "ridge", "--calendar", "weekday"]
    code, out, err = run(*argv, "--calendar", "holidays:DE")
    assert (code, err) == (0, "")
    own = make_forecaster(
        "ridge", H, schema=Schema(calendar=("weekday", "holidays:DE")), random_state=0
    )
    expected = own.fit(pd.read_csv("table.csv")).predict()
    np.testing.assert_allclose(pd.read_csv(io.StringIO(out))["ridge"], expected["ridge"], rtol=1e-6)
    code, _, err = run(*argv, "--calendar", "holidays:DX")
    assert code != 0
    assert "no country 'DX' is known" in err
    assert len(err.strip().splitlines()) == 1
