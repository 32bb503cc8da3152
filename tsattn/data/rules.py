"""Rules that the rows of a table follow, and the rows of a fit that later ones may correct."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

import numpy as np
import pandas as pd

from tsattn.data.calendar import index_of_ticks, parse_freq, ticks
from tsattn.data.panel import Panel, names_alike, places_of


@dataclass(frozen=True)
class KnownRows:
    """The series of a fit, which later rows continue and correct.

    Args:
        panel: The series, or their ends.
        context: Rows that are read: where so many of a series are known, rows before them do not
            count.
    """

    panel: Panel
    context: float

    def spans(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ticks between which rows of each series may be absent, int64: the first known one,
        the lowest number where earlier rows do not count, and the last known one. The last one lies
        before the first one where a series is new.

        Args:
            ids: Series of later rows, as their table names them.
        """
        is_complete = self.panel.lengths >= self.context
        firsts = np.where(is_complete, np.iinfo(np.int64).min, self._firsts())
        lasts = ticks(self.panel.last_times())
        dialect = self.panel.dialect
        if dialect.kind == "wide" or dialect.id_col is None:
            # Series side by side share their rows.
            return np.full(len(ids), firsts.min()), np.full(len(ids), lasts.max())
        places = places_of(self.panel.ids, names_alike(self.panel.ids, ids))
        is_new = places < 0
        return np.where(is_new, 1, firsts[places]), np.where(is_new, 0, lasts[places])

    def _firsts(self) -> np.ndarray:
        """The first tick that is known of each series."""
        return ticks(self.panel.times[self.panel.starts[:-1]])

    def last_stamps(self, ids: np.ndarray, times: pd.Index) -> pd.Index:
        """The last stamps that are known of series, of the kind of some others.

        Args:
            ids: As :meth:`spans` takes them.
            times: Stamps of later rows.
        """
        _, lasts = self.spans(ids)
        return index_of_ticks(lasts, times)

    def contain(self, ids: np.ndarray, codes: np.ndarray, times: pd.Index) -> np.ndarray:
        """Whether rows lie between the first and the last known one of their series, bool [rows].

        Args:
            ids: As :meth:`spans` takes them.
            codes: Which series, [rows].
            times: Their stamps, [rows].
        """
        firsts, lasts = self.spans(ids)
        clock = ticks(times)
        return (firsts[codes] <= clock) & (clock <= lasts[codes])

    def judged(self, panel: Panel, judge: Callable[[Panel], Panel]) -> Panel:
        """Later rows that count, without doubtful values, judged among the known ones.

        Args:
            panel: Later rows, with the names of the known series.
            judge: Function of a panel that leaves values out.
        """
        panel = self._without_early(panel)
        values = panel.values
        is_absent = np.isnan(values[:, 0])
        if not is_absent.any():
            return judge(panel)
        known = pd.Series(self.panel.values[:, 0], index=_keys(self.panel))
        completed = np.where(is_absent, known.reindex(_keys(panel)), values[:, 0])
        rest = judge(replace(panel, values=completed[:, None]))
        # Without a value a row leaves that of the fit as it is.
        return replace(rest, values=np.where(is_absent[:, None], np.nan, rest.values))

    def _without_early(self, panel: Panel) -> Panel:
        """Later rows without those before the rows that are read of their series, but for the last
        row of each series.
        """
        places = places_of(self.panel.ids, panel.ids)
        is_complete = (places >= 0) & (self.panel.lengths[places] >= self.context)
        firsts = np.where(is_complete, self._firsts()[places], np.iinfo(np.int64).min)
        is_early = ticks(panel.times) < np.repeat(firsts, panel.lengths)
        if not is_early.any():
            return panel
        n_early = np.add.reduceat(is_early, panel.starts[:-1])
        return panel.last(np.maximum(panel.lengths - n_early, 1))


def _keys(panel: Panel) -> pd.MultiIndex:
    """The series and the tick of each row."""
    return pd.MultiIndex.from_arrays([np.repeat(panel.ids, panel.lengths), ticks(panel.times)])


@dataclass(frozen=True)
class Rules:
    """What stamps must follow, and what is done about rows and values that are absent.

    Attributes:
        freq: Frequency for :func:`tsattn.data.calendar.parse_freq`, or None to infer it.
        missing: Policy for missing values and absent rows.
        gaps: What absent rows are, ``"closed"`` or ``"missing"``; None decides by the table.
        fitted: Whether the frequency is that of a fit, which is followed as it is.
        tells: Whether warnings name doubtful rows, and missing covariates that take the value
            before them, since nobody chose the policy.
        fills_covariates: Whether missing covariates are filled or refused; else they stay missing,
            for a reader of the target alone.
        known: Rows of a fit that the rows continue: their first values need not stand, and rows
            that are known may be absent. Both stay missing until all are joined.
        zone: Time zone of a fit, to which stamps with another one are converted; None keeps theirs.
        day_first: Whether the day comes first in stamps of text that leave it open; None refuses
            them.
    """

    freq: Any
    missing: str
    gaps: str | None = None
    fitted: bool = False
    tells: bool = False
    fills_covariates: bool = True
    known: KnownRows | None = None
    zone: tzinfo | None = None
    day_first: bool | None = None

    @property
    def unit(self) -> str | None:
        """Unit of the frequency (see :class:`tsattn.data.grid.Grid`), if it is known."""
        return None if self.freq is None else parse_freq(self.freq).unit

    @property
    def later(self) -> bool:
        """Whether the rows follow known ones."""
        return self.known is not None
