"""Local times without a zone: a change of clocks is told as such, with a call that works."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

from tsattn import forecast

AUTUMN = ("2024-10-23", "2024-10-30")
SPRING = ("2024-03-27", "2024-04-03")
YEAR = ("2024-01-01", "2024-12-31")
SHAPES = ("one", "long", "shuffled ids", "keys", "wide", "index", "text", "days first", "spans")
GERMAN = {3: "März", 4: "Apr.", 10: "Okt."}
FRENCH = {3: "mars", 4: "avr.", 10: "oct."}
NAMED = {"German": ("%d.", GERMAN), "French": ("%-d", FRENCH), "German index": ("%-d.", GERMAN)}


def local_times(span, freq="h", zone="Europe/Berlin"):
    return pd.date_range(*span, freq=freq, tz=zone).tz_localize(None)


def table(stamps, shape):
    y = np.sin(np.arange(len(stamps)) / 4)
    one_series = pd.DataFrame({"ds": stamps, "y": y})
    if shape == "one":
        return one_series, {}
    if shape == "text":
        return one_series.astype({"ds": str}), {}
    if shape == "days first":
        return one_series.assign(ds=stamps.strftime("%d.%m.%Y %H:%M")), {}
    if shape == "spans":
        ends = stamps + pd.Timedelta("30min")
        layout = "%d/%m/%Y %H:%M:%S"
        return one_series.assign(ds=stamps.strftime(layout) + " - " + ends.strftime(layout)), {}
    if shape in NAMED:
        day, months = NAMED[shape]
        days = [stamp.strftime(f"{day} {months[stamp.month]} %Y %H:%M") for stamp in stamps]
        named = one_series.assign(ds=days)
        return named.set_index("ds") if "index" in shape else named, {}
    if shape == "wide":
        return pd.DataFrame({"date": stamps, "a": y, "b": -y}), {}
    if shape == "index":
        return one_series.set_index("ds"), {}
    frame = pd.concat([one_series.assign(unique_id=name) for name in "ab"], ignore_index=True)
    if shape == "shuffled ids":
        return pd.concat(
            [frame[frame.index % len(one_series) == n] for n in range(len(one_series))]
        ), {}
    if shape == "keys":
        return frame.assign(item=1), {"id_col": ["unique_id", "item"]}
    return frame, {}


def followed(df, call):
    """The table after the advised call."""
    names = {"df": df.copy(), "pd": pd}
    exec(call, names)
    return names["df"]


def run(df, options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return forecast(df, 3, model="seasonal_naive", **options)


@pytest.mark.parametrize(
    ("span", "freq", "shape"),
    [
        *[(span, "30min", shape) for span in (AUTUMN, SPRING) for shape in (*SHAPES, *NAMED)],
        (YEAR, "h", "long"),
        (AUTUMN, "15min", "one"),
    ],
)
def test_the_advised_calls_work(span, freq, shape):
    df, options = table(local_times(span, freq), shape)
    # What is only warned of is an error here.
    expectation = pytest.raises((ValueError, UserWarning), match="zones such as Europe/Berlin")
    with expectation as refused:
        run(df, options)
    calls = re.findall(r": (df.*?)(?:; or|$)", str(refused.value))
    zoned = run(followed(df, calls[0]), options)
    stamps = zoned.index if "index" in shape else zoned["date" if shape == "wide" else "ds"]
    assert str(stamps.dtype) == "datetime64[ns, Europe/Berlin]"
    if span != SPRING:
        run(followed(df, calls[1]), options | {"missing": "interpolate"})


@pytest.mark.parametrize(
    ("zone", "span", "freq"),
    [
        ("Europe/London", AUTUMN, "h"),
        ("Europe/Athens", SPRING, "30min"),
        ("America/New_York", ("2024-03-07", "2024-03-12"), "h"),
        ("America/New_York", ("2024-11-01", "2024-11-05"), "h"),
        ("Australia/Sydney", ("2024-04-05", "2024-04-09"), "h"),
        ("Pacific/Auckland", ("2024-09-27", "2024-10-02"), "30min"),
    ],
)
def test_zones_are_told_apart(zone, span, freq):
    df, options = table(local_times(span, freq, zone), "one")
    with pytest.raises((ValueError, UserWarning), match=f"zones such as {zone}"):
        run(df, options)


def test_a_year_without_the_second_hour_of_autumn_gets_no_zone():
    df, options = table(local_times(YEAR).unique(), "one")
    message = "clocks skip .* their zone, and the hour counts as missing; if that is right"
    with pytest.raises(UserWarning, match=message):
        run(df, options)
    with pytest.raises(ValueError, match=r"clocks skip this hour .* their zone; have gaps filled"):
        run(df, options | {"missing": "error"})


def test_rows_in_a_skipped_hour_get_no_zone():
    # As by writers that leave the row of the hour in spring, and write that of autumn twice.
    stamps = local_times(YEAR)
    skipped = pd.DatetimeIndex(["2024-03-31 02:00"])
    df, options = table(stamps.append(skipped).sort_values(), "one")
    with pytest.raises(ValueError, match="their zone; keep one row of each such hour") as refused:
        run(df, options)
    run(followed(df, str(refused.value).split("hour: ")[1]), options)


def test_a_skipped_hour_that_is_masked_by_default_is_told_once():
    df, _ = table(local_times(SPRING), "one")
    message = (
        r"no row at 2024-03-31 02:00:00, an hour that clocks skip .* a policy by missing= says so"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        forecast(df, 3, model="zero")
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forecast(df, 3, model="zero", missing="mask")


def test_other_faults_are_no_changes_of_clocks():
    times = pd.Series(pd.date_range("2024-03-20", "2024-04-05", freq="h"))
    one_hour = times[times != "2024-03-30 02:00"]
    two_hours = times[(times != "2024-03-31 02:00") & (times != "2024-04-02 05:00")]
    twice = pd.concat([times, times[times.dt.hour == 1]])
    zoned = times[times != "2024-03-31 02:00"].dt.tz_localize("UTC")
    for stamps in (one_hour, two_hours, twice, zoned):
        df, _ = table(pd.DatetimeIndex(stamps.sort_values()), "one")
        with pytest.raises(ValueError, match=r"gap|duplicate") as refused:
            forecast(df, 3, model="seasonal_naive", gaps="missing", missing="error")
        assert "clocks" not in str(refused.value)
