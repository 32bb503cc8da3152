"""Hours that clocks skip or repeat, where local times have no time zone."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from tsattn.checks import InPython, Piece
from tsattn.data.calendar import ticks
from tsattn.data.columns import Dialect

# A zone for each hour and day at which clocks change.
_ZONES = (
    "Europe/Berlin",
    "Europe/London",
    "Europe/Athens",
    "America/New_York",
    "Australia/Sydney",
    "Pacific/Auckland",
)


def zone_where(
    are_marked: Callable[[pd.DatetimeIndex, str], np.ndarray], stamps: pd.Index
) -> str | None:
    """A time zone whose clocks skip or repeat all of some local times; None if there is none.

    Args:
        are_marked: :func:`skipped` or :func:`repeated`.
        stamps: The times. Those with a zone, and integers, are no local times.
    """
    if not isinstance(stamps, pd.DatetimeIndex) or stamps.tz is not None:
        return None
    return next((zone for zone in _ZONES if are_marked(stamps, zone).all()), None)


def advice_on_zone(
    times: pd.Index, codes: np.ndarray, dialect: Dialect, zone: str, read: str
) -> tuple[Piece, ...]:
    """Advice on how to give local times the zone whose clock changes explain their gaps and
    repetitions; empty if pandas cannot tell which of two equal times comes first.

    Args:
        times: [rows] stamps without a zone, in the order of the table.
        codes: [rows] which series.
        dialect: Names of the columns.
        zone: The zone.
        read: The expression of pandas that makes stamps of the time column.
    """
    if not _fits(pd.DatetimeIndex(times), codes, zone):
        return ()
    call = f"tz_localize({zone!r}, ambiguous='infer')"
    keys = [f"df[{key!r}]" for key in dialect.id_cols]
    if keys:
        # pandas tells the two hours of a series apart by their order.
        groups = keys[0] if len(keys) == 1 else f"[{', '.join(keys)}]"
        call = f"groupby({groups}).transform(lambda times: times.dt.{call})"
    elif dialect.time_col is not None:
        call = f"dt.{call}"
    advice = InPython(f": {dialect.time_place} = {read}.{call}")
    return ("give all stamps their zone or UTC offset", advice, "; or ")


def skipped(local: pd.DatetimeIndex, zone: str) -> np.ndarray:
    """Which local times the clocks of a zone never show, bool [rows]."""
    first = np.ones(len(local), dtype=bool)
    return np.asarray(local.tz_localize(zone, ambiguous=first, nonexistent="NaT").isna())


def repeated(local: pd.DatetimeIndex, zone: str) -> np.ndarray:
    """Which local times the clocks of a zone show twice, bool [rows]."""
    zoned = local.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
    return np.asarray(zoned.isna())


def _fits(local: pd.DatetimeIndex, codes: np.ndarray, zone: str) -> bool:
    """Whether each series is in the order of time, has hours that clocks repeat twice, all others
    once, and none that clocks skip.
    """
    if skipped(local, zone).any():
        return False
    rows = pd.DataFrame({"series": codes, "time": local})
    groups = rows.groupby(["series", "time"])["time"]
    if (groups.transform("size") != 1 + repeated(local, zone)).any():
        return False
    is_first = (groups.cumcount() == 0).to_numpy()
    clock = ticks(local.tz_localize(zone, ambiguous=is_first))
    order = np.argsort(codes, kind="stable")
    same_series = np.diff(codes[order]) == 0
    return bool((np.diff(clock[order])[same_series] > 0).all())
