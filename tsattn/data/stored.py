"""A panel in files: facts for JSON, arrays for tensors, and the checks that a panel out of a file
must pass.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone, tzinfo
from typing import Any, cast
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from tsattn.checks import InputError, InPython
from tsattn.data.calendar import locate, parse_freq, ticks
from tsattn.data.columns import MISSING, Dialect, plain
from tsattn.data.grid import owners_of
from tsattn.data.panel import Panel, Skipped

# Fields of a dialect that hold the name of a column.
_COLUMN_NAMES = ("id_col", "time_col", "target_col", "index_name")
_ID_TYPES = re.compile(r"object|bool|u?int(8|16|32|64)|float(32|64)|datetime64\[(s|ms|us|ns)\]")
_ARROW_TEXT = "string[pyarrow]"
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_OFFSET = re.compile(r"UTC[+-]\d\d:\d\d(:\d\d)?")


def panel_facts(panel: Panel) -> dict[str, Any]:
    """What JSON holds of a panel: ids, names, frequency, how its times are to be read. Covariates
    are no part of it.

    Raises:
        ValueError: If ids, column names or a time zone are of a kind that files cannot hold.
    """
    ids = panel.ids
    if ids.dtype.kind == "M":
        # JSON holds no stamps, but their ticks.
        ids = ids.view(np.int64)
    skipped = [
        [exact(plain(series.name), "ids"), series.last_tick, series.reason]
        for series in panel.skipped
    ]
    id_values = [exact(value, "ids") for value in ids.tolist()]
    return {
        "ids": id_values,
        "ids_dtype": str(panel.ids.dtype),
        **time_facts(panel.times),
        "freq": panel.freq,
        "missing": panel.missing,
        "skipped": skipped,
        "dialect": _dialect_facts(panel.dialect),
    }


def _dialect_facts(dialect: Dialect) -> dict[str, Any]:
    """What JSON holds of a dialect; :func:`_dialect` undoes it."""
    dtype = dialect.id_dtype
    column_names = {name: exact(getattr(dialect, name), name) for name in _COLUMN_NAMES}
    key_cols = [exact(name, "id_col") for name in dialect.key_cols]
    return {
        "kind": dialect.kind,
        **column_names,
        "id_dtype": None if dtype is None else _dtype_facts(dtype),
        "columns": list(dialect.columns),
        "left_out": list(dialect.left_out),
        "key_cols": key_cols,
        "key_dtypes": [_dtype_facts(dtype) for dtype in dialect.key_dtypes],
        "key_values": _exact_values(dialect.key_values),
        "day_first": dialect.day_first,
        "period": None if dialect.period is None else str(dialect.period),
    }


def _exact_values(values_by_text: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The values of each key by their texts, as JSON gives them back."""
    return [
        {text: exact(value, "ids") for text, value in dict(by_text).items()}
        for by_text in values_by_text
    ]


def _dtype_facts(dtype: Any) -> str | dict[str, Any]:
    """The name of a dtype of ids, or what makes one of categories; :func:`_dtype` undoes it."""
    if isinstance(dtype, pd.CategoricalDtype):
        categories = dtype.categories
        return {
            "categories": [exact(value, "ids") for value in categories.tolist()],
            "dtype": _dtype_facts(categories.dtype),
            "ordered": bool(dtype.ordered),
        }
    name = str(dtype)
    try:
        same = _dtype(name)
    except (TypeError, ValueError, NotImplementedError):
        # Dictionaries of Arrow have no name that pandas reads.
        return "object"
    is_same = type(same) is type(dtype) and str(same) == name
    return name if is_same else "object"


def _dtype(facts: str | Mapping[str, Any]) -> Any:
    """The dtype of a column of ids."""
    if isinstance(facts, str):
        if facts == _ARROW_TEXT:
            # pandas reads this name as that of its own strings.
            import pyarrow

            return pd.ArrowDtype(pyarrow.string())
        dtype = pd.api.types.pandas_dtype(facts)
        require(dtype.kind != "V", f"ids of {facts!r:.40}")
        return dtype
    categories = pd.Index(facts["categories"], dtype=_dtype(facts["dtype"]))
    return pd.CategoricalDtype(categories, ordered=bool(facts["ordered"]))


def panel_arrays(panel: Panel) -> dict[str, np.ndarray]:
    """The rest of it: ``values`` float64 [rows, 1], ``starts`` and ``times`` int64 [N + 1] and
    [rows].
    """
    return {
        "values": panel.values,
        "starts": panel.starts,
        "times": ticks(panel.times).copy(),
    }


def panel_from(facts: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> Panel:
    """Undo :func:`panel_facts` and :func:`panel_arrays`; :func:`check_panel` is to be called of the
    result.

    Raises:
        ValueError: If something is not what they gave; also LookupError or TypeError.
    """
    clock = arrays["times"]
    fits = clock.dtype == np.int64 and clock.ndim == 1
    require(fits, f"times of {clock.dtype}")
    times: pd.Index = pd.Index(clock)
    if facts["times"] != "integer":
        times = _stamps(clock, facts)
    dtype = facts["ids_dtype"]
    require(bool(_ID_TYPES.fullmatch(dtype)), f"ids of {dtype!r:.40}")
    id_values = [exact(value, "ids") for value in facts["ids"]]
    ids = np.array(id_values, dtype=dtype)
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


def _stamps(clock: np.ndarray, facts: dict[str, Any]) -> pd.DatetimeIndex:
    """Stamps from their ticks, in the zone and the unit of the table."""
    stamps = pd.DatetimeIndex(clock.view("datetime64[ns]"))
    zone_name = facts["times"].removeprefix("stamps").removeprefix(" in ")
    if zone_name:
        in_zoneinfo = bool(facts.get("zoneinfo"))
        zone = _zone(zone_name, in_zoneinfo)
        stamps = stamps.tz_localize("UTC").tz_convert(zone)
    # Files of earlier versions have no unit.
    return stamps.as_unit(facts.get("unit") or "ns")


def _skipped(entry: list[Any]) -> Skipped:
    name, last_tick, reason = entry
    has_types = type(last_tick) is int and type(reason) is str
    require(has_types, "series that are left out are no such")
    return Skipped(exact(name, "ids"), last_tick, reason)


def _dialect(facts: dict[str, Any]) -> Dialect:
    # Files of earlier versions have the categories beside the dtype.
    categories = facts.pop("id_categories", None)
    dtype = facts.pop("id_categories_dtype", "object")
    ordered = facts.pop("id_ordered", False)
    id_dtype = facts["id_dtype"]
    if categories is not None:
        id_dtype = {"categories": categories, "dtype": dtype, "ordered": ordered}
    if id_dtype is not None:
        facts["id_dtype"] = _dtype(id_dtype)
    for name in _COLUMN_NAMES:
        exact(facts[name], name)
    # Files of earlier versions have no keys.
    key_dtypes = facts.get("key_dtypes", ())
    for name in ("columns", "left_out", "key_cols"):
        facts[name] = tuple(facts.get(name, ()))
    require(all(type(name) is str for name in facts["left_out"]), "a column is no text")
    # There categories have nothing but their name.
    own_names = ["object" if name == "category" else name for name in key_dtypes]
    facts["key_dtypes"] = tuple(map(_dtype, own_names))
    n_keys = len(facts["key_cols"])
    require(len(facts["key_dtypes"]) == n_keys, "columns of keys do not fit their types")
    # Nor have those of 0.1 before keys of several types their values.
    facts["key_values"] = tuple(_exact_values(facts.get("key_values", [{}] * n_keys)))
    require(len(facts["key_values"]) == n_keys, "columns of keys do not fit their values")
    # Files of earlier versions do not say how stamps were written.
    day_first = facts.get("day_first")
    is_order = day_first is None or type(day_first) is bool
    require(is_order, "the order of day and month is none")
    # Nor whether they were periods.
    period = facts.get("period")
    if period is not None:
        facts["period"] = pd.PeriodDtype.construct_from_string(period)
    return Dialect(**facts)


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
    has_plain_names = all(type(name) in (str, int) for name in dialect.columns)
    require(has_plain_names, "names of columns are neither text nor whole numbers")
    n_rows = len(panel.times)
    fits_rows = values.dtype == np.float64 and values.shape == (n_rows, 1)
    require(fits_rows, "values do not fit")
    has_infinite = bool(np.isinf(values).any())
    has_missing = bool(np.isnan(values).any())
    has_policy = panel.missing in MISSING
    require(has_policy and not has_infinite, "values or their policy are wrong")
    require(panel.missing == "mask" or not has_missing, "values are missing")
    n_starts = len(panel.ids) + 1
    has_starts = starts.dtype == np.int64 and starts.shape == (n_starts,)
    require(has_starts, "series do not fit the rows")
    lengths = np.diff(starts)
    covers_rows = starts[0] == 0 and starts[-1] == len(values)
    has_rows = len(lengths) > 0 and bool((lengths > 0).all())
    require(bool(covers_rows) and has_rows, "series do not fit the rows")
    require(pd.Index(panel.ids).is_unique, "ids occur twice")
    _check_stamps(panel)
    _check_dialect(panel)


def _check_stamps(panel: Panel) -> None:
    """Refuse stamps that do not follow one another at the frequency, in each series."""
    grid = parse_freq(panel.freq)
    has_stamps = isinstance(panel.times, pd.DatetimeIndex)
    needs_stamps = grid.unit != "integer"
    fits_times = has_stamps == needs_stamps
    require(grid.alias == panel.freq and fits_times, "freq")
    first_rows = panel.starts[owners_of(panel.starts)]
    position, on_grid = locate(panel.times, first_rows, grid)
    n_rows = len(panel.values)
    steps = np.arange(n_rows) - first_rows
    is_regular = bool(on_grid.all()) and np.array_equal(position, steps)
    require(is_regular, f"stamps are off frequency {panel.freq!r:.40}")


def _check_dialect(panel: Panel) -> None:
    """Refuse names and ids that a table of this kind does not have."""
    dialect = panel.dialect
    has_columns = dialect.time_col is not None and dialect.target_col is not None
    is_long = dialect.kind == "long" and has_columns
    # Rows that were appended may be of new columns.
    left_out = {series.name for series in panel.skipped}
    all_names = {*panel.ids} | left_out
    has_all_names = set(dialect.columns) == all_names
    is_wide = dialect.kind == "wide" and dialect.id_col is None and has_all_names
    require(is_long or is_wide, f"a table of kind {dialect.kind!r:.40} does not look like this")
    if dialect.id_col is not None:
        is_foreign = dialect.restore_ids(panel.ids).isna()
        require(not is_foreign.any(), "ids do not fit their type")


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
    in_zoneinfo = isinstance(times.tz, ZoneInfo)
    local_times = times.tz_localize(None)
    # A zone with summer time has no offset at no time.
    offset = times.tz.utcoffset(None)
    offset_name = "" if offset is None else str(timezone(offset))
    for name in (str(times.tz), offset_name):
        try:
            zone = _zone(name, in_zoneinfo)
            converted = times.tz_convert(zone)
        except ValueError:
            continue
        # A name of another zone would give other wall times.
        wall_times = converted.tz_localize(None)
        if wall_times.equals(local_times):
            return {"times": f"stamps in {name}", "zoneinfo": in_zoneinfo, "unit": times.unit}
    raise InputError(
        f"the time zone {times.tz!r:.60} has no name that a file could hold; convert the stamps to"
        " one that has a name",
        InPython(", such as tz_convert('UTC'), before fit"),
    )


def _zone(name: str, in_zoneinfo: bool) -> str | tzinfo:
    """What pandas takes for a zone; only names and offsets, since it would also read any file as
    one.
    """
    if _OFFSET.fullmatch(name):
        return cast(tzinfo, datetime.strptime(name, "UTC%z").tzinfo)
    if not _ZONE.fullmatch(name) or name.startswith("dateutil/"):
        raise ValueError(f"{name!r:.60} names no time zone")
    try:
        if in_zoneinfo:
            return ZoneInfo(name)
        # A stamp in the zone shows what pandas calls it.
        stamp = pd.Timestamp(0, tz=name)
        return str(stamp.tz)
    except LookupError:
        raise ValueError(f"{name!r:.60} names no time zone") from None


def exact(value: Any, what: str) -> Any:
    """A value that JSON gives back as it was.

    Raises:
        ValueError: If it is none.
    """
    # The item of a stamp is a number without its unit.
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    if value is None or type(value) in (str, int, float, bool):
        return value
    type_name = type(value).__name__
    raise ValueError(
        f"{what} of type {type_name} cannot be saved, only text and numbers; convert"
        " them to text before fit"
    )


def require(holds: bool, what: str) -> None:
    """Refuse a file if a condition on its content does not hold."""
    if not holds:
        raise ValueError(what)
