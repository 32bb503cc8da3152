"""A panel in files: facts for JSON, arrays for tensors, and the checks that a panel out of a file
must pass.
"""

import re
from collections.abc import Mapping
from datetime import timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from tsattn.checks import InputError, InPython
from tsattn.data.calendar import locate, parse_freq, ticks
from tsattn.data.columns import MISSING, plain
from tsattn.data.frames import Dialect, Panel, Skipped

_ID_TYPES = re.compile(r"object|bool|u?int(8|16|32|64)|float(32|64)|datetime64\[(s|ms|us|ns)\]")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_OFFSET = re.compile(r"UTC([+-])(\d\d):(\d\d)(?::(\d\d))?")


def panel_facts(panel: Panel) -> dict[str, Any]:
    """What JSON holds of a panel: ids, names, frequency, how its times are to be read. Covariates
    are no part of it.

    Raises:
        ValueError: If ids, column names or a time zone are of a kind that files cannot hold.
    """
    dialect = panel.dialect
    ids = panel.ids
    categories = getattr(dialect.id_dtype, "categories", None)
    names = {
        name: exact(getattr(dialect, name), name)
        for name in ("id_col", "time_col", "target_col", "index_name")
    }
    return {
        "ids": [
            exact(value, "ids")
            for value in (ids.view(np.int64) if ids.dtype.kind == "M" else ids).tolist()
        ],
        "ids_dtype": str(ids.dtype),
        **time_facts(panel.times),
        "freq": panel.freq,
        "missing": panel.missing,
        "skipped": [
            [exact(plain(series.name), "ids"), series.last_tick, series.reason]
            for series in panel.skipped
        ],
        "dialect": {
            "kind": dialect.kind,
            **names,
            "id_dtype": None if dialect.id_dtype is None else str(dialect.id_dtype),
            "id_categories": (
                None if categories is None else [exact(v, "ids") for v in categories.tolist()]
            ),
            "id_categories_dtype": None if categories is None else str(categories.dtype),
            "id_ordered": bool(getattr(dialect.id_dtype, "ordered", False)),
            "columns": list(dialect.columns),
            "key_cols": [exact(name, "id_col") for name in dialect.key_cols],
            "key_dtypes": [str(dtype) for dtype in dialect.key_dtypes],
        },
    }


def panel_arrays(panel: Panel) -> dict[str, np.ndarray]:
    """The rest of it: ``values`` float64 [rows, 1], ``starts`` and ``times`` int64 [N + 1] and
    [rows].
    """
    return {"values": panel.values, "starts": panel.starts, "times": ticks(panel.times).copy()}


def panel_from(facts: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Panel:
    """Undo :func:`panel_facts` and :func:`panel_arrays`; :func:`check_panel` is to be called of the
    result.

    Raises:
        ValueError: If something is not what they gave; also LookupError or TypeError.
    """
    clock = arrays["times"]
    require(clock.dtype == np.int64 and clock.ndim == 1, f"times of {clock.dtype}")
    times: pd.Index = pd.Index(clock)
    if facts["times"] != "integer":
        stamps = pd.DatetimeIndex(clock.view("datetime64[ns]"))
        zone = facts["times"].removeprefix("stamps").removeprefix(" in ")
        if zone:
            stamps = stamps.tz_localize("UTC").tz_convert(_zone(zone, bool(facts.get("zoneinfo"))))
        times = stamps.as_unit(facts.get("unit") or "ns")
    require(bool(_ID_TYPES.fullmatch(facts["ids_dtype"])), f"ids of {facts['ids_dtype']!r:.40}")
    ids = np.array([exact(value, "ids") for value in facts["ids"]], dtype=facts["ids_dtype"])
    return Panel(
        values=arrays["values"],
        starts=arrays["starts"],
        ids=ids,
        times=times,
        freq=facts["freq"],
        dialect=_dialect(dict(facts["dialect"])),
        missing=facts["missing"],
        skipped=tuple(_skipped(entry) for entry in facts.get("skipped", ())),
    )


def _skipped(entry: list[Any]) -> Skipped:
    name, last_tick, reason = entry
    require(type(last_tick) is int and type(reason) is str, "series that are left out are no such")
    return Skipped(exact(name, "ids"), last_tick, reason)


def _dialect(told: dict[str, Any]) -> Dialect:
    categories = told.pop("id_categories")
    dtype = told.pop("id_categories_dtype", "object")
    ordered = told.pop("id_ordered", False)
    if categories is not None:
        told["id_dtype"] = pd.CategoricalDtype(pd.Index(categories, dtype=dtype), ordered=ordered)
    elif told["id_dtype"] is not None:
        told["id_dtype"] = pd.api.types.pandas_dtype(told["id_dtype"])
    for name in ("id_col", "time_col", "target_col", "index_name"):
        exact(told[name], name)
    names = {name: tuple(told.get(name, ())) for name in ("columns", "key_cols")}
    dtypes = tuple(map(_key_dtype, told.get("key_dtypes", ())))
    require(len(dtypes) == len(names["key_cols"]), "columns of keys do not fit their types")
    return Dialect(**told | names | {"key_dtypes": dtypes})


def _key_dtype(name: str) -> Any:
    """The dtype of a column of keys; categories come back as text."""
    if name in ("category", "str", "string"):
        return np.dtype(object)
    require(bool(_ID_TYPES.fullmatch(name)), f"keys of {name!r:.40}")
    return np.dtype(name)


def check_panel(panel: Panel) -> None:
    """Refuse a panel that no table could have become: loading skips the checks that reading a frame
    makes.

    Args:
        panel: As :func:`panel_from` gave it.

    Raises:
        ValueError: If it breaks a rule.
    """
    values = panel.values
    starts = panel.starts
    dialect = panel.dialect
    require(all(isinstance(name, str) for name in dialect.columns), "names of columns are no text")
    require(
        values.dtype == np.float64 and values.shape == (len(panel.times), 1), "values do not fit"
    )
    require(
        panel.missing in MISSING and not np.isinf(values).any(), "values or their policy are wrong"
    )
    require(panel.missing == "mask" or not np.isnan(values).any(), "values are missing")
    require(
        starts.dtype == np.int64 and starts.shape == (len(panel.ids) + 1,),
        "series do not fit the rows",
    )
    rows = np.diff(starts)
    whole = starts[0] == 0 and (rows > 0).all()
    require(
        bool(whole) and len(rows) > 0 and starts[-1] == len(values), "series do not fit the rows"
    )
    require(pd.Index(panel.ids).is_unique, "ids occur twice")
    grid = parse_freq(panel.freq)
    require(
        grid.alias == panel.freq
        and isinstance(panel.times, pd.DatetimeIndex) == (grid.unit != "integer"),
        "freq",
    )
    position, exact = locate(panel.times, np.repeat(starts[:-1], rows), grid)
    steps = np.arange(len(values)) - np.repeat(starts[:-1], rows)
    require(
        bool(exact.all()) and np.array_equal(position, steps),
        f"stamps are off frequency {panel.freq!r:.40}",
    )
    long = dialect.kind == "long" and None not in (dialect.time_col, dialect.target_col)
    # Rows that were appended may be of new columns.
    left_out = {series.name for series in panel.skipped}
    named = set(dialect.columns) == {*panel.ids} | left_out
    wide = dialect.kind == "wide" and dialect.id_col is None and named
    require(long or wide, f"a table of kind {dialect.kind!r:.40} does not look like this")
    if dialect.id_col is not None:
        require(not dialect.restore_ids(panel.ids).isna().any(), "ids do not fit their type")


def time_facts(times: pd.Index) -> dict[str, Any]:
    """How ticks are to be read: their unit, and their zone by a name or an offset that every
    machine knows.

    Raises:
        ValueError: If the zone has neither, such as a machine's own local time.
    """
    if not isinstance(times, pd.DatetimeIndex):
        return {"times": "integer"}
    if times.tz is None:
        return {"times": "stamps", "unit": times.unit}
    known = isinstance(times.tz, ZoneInfo)
    # A zone with summer time has no offset at no time.
    for name in (str(times.tz), _offset_name(times.tz.utcoffset(None))):
        try:
            same = (
                times.tz_convert(_zone(name, known))
                .tz_localize(None)
                .equals(times.tz_localize(None))
            )
        except ValueError:
            continue
        if same:
            return {"times": f"stamps in {name}", "zoneinfo": known, "unit": times.unit}
    raise InputError(
        f"the time zone {times.tz!r:.60} has no name that a file could hold; convert the stamps to"
        " one that has a name",
        InPython(", such as tz_convert('UTC'), before fit"),
    )


def _offset_name(offset: timedelta | None) -> str:
    if offset is None:
        return ""
    seconds = int(offset.total_seconds())
    hours, rest = divmod(abs(seconds), 3600)
    return f"UTC{'-' if seconds < 0 else '+'}{hours:02}:{rest // 60:02}:{rest % 60:02}"


def _zone(name: str, known: bool) -> str | tzinfo:
    """What pandas takes for a zone; only names and offsets, since it would also read any file as
    one.
    """
    if fixed := _OFFSET.fullmatch(name):
        sign = -1 if fixed[1] == "-" else 1
        return timezone(
            sign * timedelta(hours=int(fixed[2]), minutes=int(fixed[3]), seconds=int(fixed[4] or 0))
        )
    if not _ZONE.fullmatch(name) or name.startswith("dateutil/"):
        raise ValueError(f"{name!r:.60} names no time zone")
    try:
        return ZoneInfo(name) if known else str(pd.Timestamp(0, tz=name).tz)
    except LookupError:
        raise ValueError(f"{name!r:.60} names no time zone") from None


def exact(value: Any, what: str) -> Any:
    """A value that JSON gives back as it was.

    Raises:
        ValueError: If it is none.
    """
    value = (
        value.item()
        if isinstance(value, np.generic) and not isinstance(value, np.datetime64)
        else value
    )
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise ValueError(
        f"{what} of type {type(value).__name__} cannot be saved, only text and numbers; convert"
        " them to text before fit"
    )


def require(holds: bool, what: str) -> None:
    """Refuse what a file says if it does not hold."""
    if not holds:
        raise ValueError(what)
