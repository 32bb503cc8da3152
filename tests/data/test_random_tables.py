"""Tables drawn at random end in a whole forecast or in one clear refusal."""

import tempfile
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta, timezone
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tsattn
from tsattn.checks import InputError
from tsattn.data.calendar import future_times
from tsattn.data.panel import BadSeriesError
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster

PACKAGE = str(Path(tsattn.__file__).parent)
NET = {"d_model": 4, "n_heads": 1, "n_layers": 1, "d_ff": 4, "patch_len": 4, "patch_stride": 2}

FREQS = ["15min", "h", "6h", "D", "B", "W-MON", "W-SAT", "MS", "ME", "QS-JAN", "YS-JAN", 1, 7]
ZONES = [
    None,
    None,
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    timezone(timedelta(hours=5, minutes=30)),
]
# Around clock changes, at the epoch, before it, and where nanoseconds end.
BEGINS = [
    "2024-01-01",
    "2024-03-25",
    "2023-10-26",
    "1969-12-20",
    "1900-06-04",
    "2024-02-26",
    "2021-02-08",
    "2030-10-20",
]
DTYPES = ["float64", "float32", "int64", "int8", "bool", "Int64", "Float32", "object", "decimal"]
IDS = ["text", "int", "category", "ordered", "string", "float", "date", "none"]
SHAPES = [
    "wave",
    "walk",
    "constant",
    "zero",
    "tiny",
    "subnormal",
    "huge",
    "vast",
    "spike",
    "step",
    "unlike",
]
FAULTS = [
    *["none"] * 8,
    "nan",
    "nan",
    "gap",
    "leading nan",
    "empty series",
    "infinite",
    "gap",
    "duplicate",
    "text",
]


@dataclass(frozen=True)
class Case:
    """One table and how it is to be read."""

    table: pd.DataFrame
    future: dict
    wide: bool
    policy: str
    model: type
    settings: dict
    level: float | None
    benign: bool


def series_values(shape, n, i, rng):
    t = np.arange(n)
    wave = np.sin(2 * np.pi * t / 7 + i) + 0.1 * rng.normal(size=n)
    return {
        "wave": wave + 2,
        "walk": np.cumsum(rng.normal(size=n)),
        "constant": np.full(n, 3.7),
        "zero": np.zeros(n),
        "tiny": wave * 1e-200,
        "subnormal": wave * 1e-320,
        "huge": wave * 1e30,
        "vast": wave * 1e307,
        "spike": np.where(t == n - 2, 1e12, wave),
        "step": np.where(t < n - 3, 0.0, 5.0 + i),
        "unlike": wave * 10.0 ** (12 * i - 12),
    }[shape]


def stamps(freq, begin, n, zone, unit, offset):
    """n stamps by pandas alone, the first ``offset`` steps after the beginning."""
    if isinstance(freq, int):
        return pd.Index(np.arange(offset, offset + n) * freq - 20)
    times = pd.date_range(
        pd.Timestamp(begin).as_unit("s"), periods=offset + n, freq=freq, unit="s"
    )[offset:]
    if times[-1].year > 2261:
        raise OverflowError
    if zone is not None:
        fine = freq in ("15min", "h", "6h")
        times = (
            times.tz_localize("UTC").tz_convert(zone)
            if fine
            else (times + timedelta(hours=12)).tz_localize(zone)
        )
    return times.as_unit(unit)


def ids_of(kind, n):
    names = [f"s{i}" for i in range(n)][::-1]
    return {
        "text": names,
        "int": list(range(10, 10 + n)),
        "category": pd.Categorical(names, categories=["unused", *names]),
        "ordered": pd.Categorical(names, categories=names, ordered=True),
        "string": pd.array(names, dtype="string"),
        "float": [0.5 + i for i in range(n)],
        "date": list(pd.date_range("2020-01-01", periods=n)),
        "none": names,
    }[kind]


def as_dtype(values, dtype):
    """The values in the dtype, and whether it can hold them at all."""
    if dtype in ("float64", "float32", "Float32"):
        with np.errstate(over="ignore", under="ignore"):
            return pd.Series(values).astype(dtype)
    if dtype in ("object", "decimal"):
        return pd.Series(
            [Decimal(repr(float(v))) if dtype == "decimal" else v for v in values], dtype=object
        )
    top = {"int64": 2**62, "Int64": 2**62, "int8": 127, "bool": 1}[dtype]
    whole = pd.Series(np.clip(np.round(values * (1 if dtype == "bool" else 10)), -top, top)).astype(
        "int64"
    )
    return whole.astype(dtype)


def with_fault(fault, y, rng):
    """The column with a fault, and rows to leave out."""
    n = len(y)
    y = y.copy()
    inner = np.sort(rng.choice(np.arange(1, n - 1), size=max(1, n // 12), replace=False))
    if fault in ("nan", "leading nan", "empty series", "infinite"):
        y = y.astype(object if y.dtype == object else "float64")
        where = {
            "nan": inner,
            "leading nan": [0],
            "empty series": np.arange(n),
            "infinite": inner[:1],
        }[fault]
        y.iloc[where] = np.inf if fault == "infinite" else np.nan
    if fault == "text":
        y = y.astype(object)
        y.iloc[int(inner[0])] = "n/a"
    return y, inner if fault == "gap" else []


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    freq = draw(st.sampled_from(FREQS))
    fault = draw(st.sampled_from(FAULTS))
    zone = draw(st.sampled_from(ZONES))
    unit = draw(st.sampled_from(["ns", "ns", "us", "s"]))
    begin = "2261-06-01" if draw(st.integers(0, 19)) == 0 else draw(st.sampled_from(BEGINS))
    begin = begin if freq not in ("QS-JAN", "YS-JAN") else "2000-01-01"
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.sampled_from(SHAPES))
    n_series = draw(st.integers(1, 3))
    wide = draw(st.booleans())
    kind = draw(st.sampled_from(IDS)) if n_series == 1 else draw(st.sampled_from(IDS[:-1]))
    policy = draw(st.sampled_from(["error", "error", "interpolate", "ffill", "mask"]))
    attention = policy == "mask" or draw(st.integers(0, 5)) == 0
    horizon = draw(st.integers(1, 4))
    shortest = 5 if draw(st.integers(0, 7)) == 0 else 34
    lengths = [draw(st.integers(shortest, 60)) for _ in range(n_series)]
    lengths = lengths[:1] * n_series if wide else lengths
    offsets = [0] * n_series if wide else [draw(st.integers(0, 20)) for _ in range(n_series)]
    names = ids_of(kind, n_series)
    parts = []
    future = {}
    try:
        for i, (n, offset) in enumerate(zip(lengths, offsets, strict=True)):
            times = stamps(freq, begin, n + horizon, zone, unit, offset)
            y, absent = with_fault(
                fault if i == 0 else "none", as_dtype(series_values(shape, n, i, rng), dtype), rng
            )
            part = pd.DataFrame({"ds": times[:n], "y": y})
            if fault == "duplicate" and i == 0:
                part = pd.concat([part, part.iloc[[2]]], ignore_index=True)
            parts.append(part.drop(index=absent))
            future[names[i]] = times[n:]
    except OverflowError:
        # The data or their future lie where nanoseconds end: only that it is refused counts.
        times = pd.date_range("2262-03-03", periods=40, freq="D")
        parts = [pd.DataFrame({"ds": times, "y": np.arange(40.0)})]
        future = {names[0]: times[:0]}
        names = names[:1]
        lengths = [40]
        wide = False
        fault = "end of time"
    if wide:
        table = parts[0].set_index("ds")[["y"]].set_axis(["c0"], axis=1)
        for i, part in enumerate(parts[1:], 1):
            column = part.drop_duplicates("ds").set_index("ds")["y"]
            table[f"c{i}"] = (
                column.reindex(table.index) if fault in ("gap", "duplicate") else column
            )
    else:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # of pandas, about columns without any value
            table = pd.concat(parts, ignore_index=True)
        if kind != "none":
            owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
            table.insert(0, "unique_id", pd.Series(names).iloc[owner].reset_index(drop=True))
    if draw(st.booleans()):
        table = table.sample(frac=1, random_state=int(rng.integers(2**31)))
    given_freq = freq if draw(st.booleans()) else None
    val_size = draw(st.sampled_from([0, 0.1, 0.2, horizon]))
    transform = draw(st.sampled_from([None] * 9 + ["log1p"]))
    options = {
        "horizon": horizon,
        "context": draw(st.sampled_from([None, 8, 12])),
        "max_epochs": 1,
        "random_state": 0,
    }
    options |= {
        "val_size": val_size,
        "missing": policy,
        "freq": given_freq,
        "target_transform": transform,
    }
    benign = (
        min(lengths) >= 34
        and (fault == "none" or (fault in ("nan", "gap") and policy != "error"))
        and shape in ("wave", "constant", "zero", "unlike", "step")
        and (transform is None or shape == "zero")
        and (fault != "gap" or given_freq is not None)
    )
    enough = val_size == 0.2 and fault == "none"
    return Case(
        table=table,
        future=future,
        wide=wide,
        policy=policy,
        model=AttentionForecaster if attention else LinearForecaster,
        settings=options | (NET if attention else {}),
        # A safe table with six rows to calibrate on has three errors a step, enough for 50 but not
        # for 80.
        level=draw(st.sampled_from([None, 50] if benign else [None, 50, 80]))
        if enough or not benign
        else None,
        benign=benign,
    )


def assert_whole(case, answer):
    """Every value finite, every stamp the one that pandas would have given."""
    steps = case.settings["horizon"]
    numbers = answer.select_dtypes("number").drop(columns=["unique_id", "ds"], errors="ignore")
    assert np.isfinite(numbers.to_numpy(dtype=np.float64)).all()
    if case.wide:
        expected = next(iter(case.future.values()))
        assert len(answer) == steps
        pd.testing.assert_index_equal(answer.index, expected, check_names=False, exact=False)
        return
    assert len(answer) == steps * len(case.future)
    assert answer["ds"].dtype == case.table["ds"].dtype
    if "unique_id" not in answer:
        assert answer["ds"].tolist() == list(next(iter(case.future.values())))
        return
    assert answer["unique_id"].dtype == case.table["unique_id"].dtype
    for name, expected in case.future.items():
        rows = answer[answer["unique_id"] == name]
        assert rows["ds"].tolist() == expected.tolist(), name


def assert_clear(error, case):
    """One line by the package itself, with something to read in it, where there was a reason to
    refuse.
    """
    assert not case.benign, f"refused without need: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert last.filename.startswith(PACKAGE), (
        f"{type(error).__name__} came out of {last.filename}: {error}"
    )
    assert type(error) in (ValueError, InputError, BadSeriesError)
    assert 30 < len(str(error)) < 900
    assert "\n" not in str(error)


def outcome(case):
    before = case.table.copy()
    try:
        model = case.model.from_settings(**case.settings, bad="error").fit(case.table)
        answer = model.predict(level=case.level)
    except ValueError as error:
        assert_clear(error, case)
        return "refused"
    finally:
        pd.testing.assert_frame_equal(case.table, before)
    assert_whole(case, answer)
    pd.testing.assert_frame_equal(model.predict(case.table, level=case.level), answer)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model")
        pd.testing.assert_frame_equal(
            case.model.load(Path(folder) / "model").predict(level=case.level), answer
        )
    return "answered"


def run(n_examples):
    """How often tables were answered and refused."""
    seen: Counter[str] = Counter()

    @settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(cases())
    def every(case):
        seen[outcome(case)] += 1

    every()
    return seen


ODD_SERIES_ARE_TOLD = pytest.mark.filterwarnings(
    "ignore:.* series have fewer than", "ignore:.* far from its neighbours"
)


@ODD_SERIES_ARE_TOLD
def test_tables_are_answered_or_refused():
    seen = run(20)
    assert min(seen["answered"], seen["refused"]) >= 4, seen


@pytest.mark.slow
@ODD_SERIES_ARE_TOLD
def test_very_many_tables_are_answered_or_refused(record_testsuite_property):
    seen = run(400)
    for outcome in ("answered", "refused"):
        record_testsuite_property(f"random tables {outcome}", str(seen[outcome]))
    assert min(seen["answered"], seen["refused"]) >= 80, seen


def test_a_wrong_answer_and_an_unclear_refusal_are_seen():
    frame = pd.DataFrame(
        {"ds": pd.date_range("2024-01-01", periods=40, freq="D"), "y": np.arange(40.0)}
    )
    future = pd.date_range("2024-02-10", periods=2, freq="D")
    case = Case(frame, {"a": future}, False, "error", LinearForecaster, {"horizon": 2}, None, True)
    good = pd.DataFrame({"ds": future, "nlinear": [1.0, 2.0]})
    assert_whole(case, good)
    for bad in (
        good.assign(nlinear=[1.0, np.nan]),
        good.assign(ds=future + timedelta(days=1)),
        good.head(1),
    ):
        with pytest.raises(AssertionError):
            assert_whole(case, bad)
    with pytest.raises(ValueError) as deep:
        np.zeros(3).reshape(2)
    with pytest.raises(AssertionError, match="ValueError came out of"):
        assert_clear(deep.value, replace(case, benign=False))


def test_stamps_do_not_run_over_their_end():
    """2262-04-11 is where nanoseconds end: sums beyond it are stamps of the year 1677."""
    for freq in ("D", "h", "MS", "B"):
        times = pd.date_range(
            end=pd.Timestamp("2262-04-11 23:00").as_unit("s"), periods=70, freq=freq, unit="s"
        )
        fine = times[times < pd.Timestamp("2262-04-11")].as_unit("ns")
        table = pd.DataFrame({"ds": fine[:-1], "y": 1.0})
        model = LinearForecaster.from_settings(
            horizon=6, context=6, max_epochs=1, val_size=0, random_state=0
        ).fit(table)
        assert model.predict(horizon=1)["ds"].tolist() == [fine[-1]]
        with pytest.raises(
            ValueError,
            match="reach beyond 2262-04-10, where stamps in nanoseconds must end; shorten",
        ):
            model.predict()
    near = pd.DataFrame({"ds": np.arange(40) * 2**55, "y": 1.0})
    model = LinearForecaster.from_settings(
        horizon=4, context=6, max_epochs=1, val_size=0, random_state=0
    ).fit(near)
    assert model.predict()["ds"].tolist() == [n * 2**55 for n in range(40, 44)]
    with pytest.raises(ValueError, match=r"reach beyond \d+, where integer time must end"):
        future_times(pd.Index([2**61]), 2**61, 4)


def test_values_beyond_their_squares_are_refused_by_name():
    table = pd.DataFrame({"ds": np.arange(40), "y": np.linspace(-1e200, 1e200, 40)}).assign(
        unique_id=7
    )
    with pytest.raises(
        ValueError, match=r"^series 7: values must have squares within float64; got up to 1e\+200;"
    ):
        LinearForecaster(2).fit(table)


def test_ids_are_named_as_people_typed_them():
    table = pd.DataFrame({"unique_id": pd.Timestamp("2020-01-01"), "ds": np.arange(40), "y": -1.0})
    for ids, name in ((table["unique_id"], "'2020-01-01 00:00:00'"), (0.5, "0.5")):
        with pytest.raises(ValueError, match=f"series {name} has -1 at 0; shift"):
            LinearForecaster.from_settings(horizon=2, target_transform="sqrt").fit(
                table.assign(unique_id=ids)
            )
