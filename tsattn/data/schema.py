"""How a table is read: its columns, its frequency, rows known from a fit, and missing values."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputError, Name
from tsattn.data.calendar import index_of_ticks, parse_freq, ticks
from tsattn.data.columns import BAD, GAPS, MISSING, plain
from tsattn.data.covariates import CovariateColumns
from tsattn.data.panel import Panel, names_alike, places_of
from tsattn.settings import Settings

# Fields that name covariates.
COVARIATE_FIELDS = ("past_cols", "future_cols", "static_cols", "calendar")


@dataclass(frozen=True, repr=False)
class Schema(Settings):
    """The roles of the columns of a table, and how its rows are read.

    Forecasters, ``backtest`` and the command line take a schema. The default recognises long
    tables with the columns ``unique_id, ds, y`` or ``item_id, timestamp, target``, long tables of
    one series without an id column, and wide tables with one column for each series and stamps in
    the index or in a column. A time column with another name is found by its values.

    Args:
        id_col: Column with the names of the series in a long table, or a list of columns that name
            them together, such as ``["store", "item"]``; ``None`` for a table of one series. If no
            column is called ``unique_id`` and a table holds several series, which repeat stamps,
            the columns that tell the series apart are found.
        time_col: Column of stamps, of periods, of text that reads as stamps (days, months,
            ``"2000Q1"``, weeks), or of integers. Integers such as 20240131, 202401, and seconds or
            finer units since 1970 are read as stamps; years and other integers count steps.
        target_col: Column of values in a long table.
        freq: Frequency such as ``"h"``, ``"15min"``, ``"W-SAT"``, ``"h[Mon-Fri 07:00-21:00]"``,
            ``"M[1 15]"`` (days of the month), or the step of integer stamps. ``None`` infers it
            over all series.
        missing: Policy for missing values and absent rows. ``"error"`` raises an error.
            ``"interpolate"`` and ``"ffill"`` fill them, at each cutoff from earlier values only.
            ``"mask"`` leaves them out, in forecasters that can. ``None`` is ``"mask"`` in such
            forecasters, and ``"interpolate"`` with a warning in others; rows before the first
            value of a series are then left out. Unless the policy is ``"error"``, numbers such as
            -9999, far from all other values, count as missing, and so do single values of a
            covariate far outside the range of its others. A warning names them.
        gaps: What absent rows are. ``"closed"``: times without values, such as Sundays in a shop or
            nights in an office; forecasts have rows on the days and hours of the week that the
            past has. ``"missing"``: unknown values, for which ``missing`` is the policy. ``None``
            takes absent rows that recur every week for closed, with a warning that names the
            frequency, and others for missing.
        bad: Policy for single series without a value, or with too few rows for the model.
            ``"skip"`` warns once, forecasts the other series and gives NaN for these; ``"error"``
            raises an error. ``None`` skips them if other series are left.
        past_cols: Covariates that are known up to the cutoff, such as measurements.
        future_cols: Covariates that are also known through the horizon, such as prices or weather
            forecasts; ``predict`` takes their values as ``future=``.
        static_cols: Columns with one value for each series of a long table: numbers, text or
            categories.
        calendar: Cycles of the stamps: ``"hour"``, ``"weekday"``, ``"monthday"``, ``"month"``,
            ``"yearday"``; ``"auto"`` takes those that fit the frequency and of which the training
            rows hold at least one whole cycle. Also holidays of a country or of a part of it,
            ``"holidays:DE"``, ``"holidays:DE-BY"`` (``pip install 'tsattn[holidays]'``), and dates
            of your own (:func:`tsattn.special_days`), both with the days before and after, for
            steps of at most a day.

    Past and future columns of a wide table are not series; all series share them. A forecaster
    that reads no covariates ignores these columns and the calendar.

    Raises:
        ValueError: If a policy or frequency is unknown, or a column is named twice.

    Example:
        >>> Schema(time_col="date", target_col="sales", id_col=None)
        Schema(id_col=None, time_col='date', target_col='sales')
    """

    id_col: Hashable | Sequence[Hashable] | None = "unique_id"
    time_col: Hashable = "ds"
    target_col: Hashable = "y"
    freq: str | int | None = None
    missing: str | None = None
    gaps: str | None = None
    bad: str | None = None
    past_cols: Sequence[Hashable] = ()
    future_cols: Sequence[Hashable] = ()
    static_cols: Sequence[Hashable] = ()
    calendar: Sequence[str] | str = ()

    def __post_init__(self) -> None:
        for name, policies in (("missing", MISSING), ("gaps", GAPS), ("bad", BAD)):
            policy = getattr(self, name)
            if policy not in (None, *policies):
                raise InputError(
                    Name(name), f" must be one of {', '.join(policies)}; got {policy!r}"
                )
        if self.freq is not None:
            alias = parse_freq(self.freq).alias
            if not isinstance(self.freq, str | int):
                object.__setattr__(self, "freq", alias)
        if isinstance(self.id_col, list | tuple):
            names = tuple(map(plain, self.id_col))
            # scikit-learn's clone wants back the very object that it passed.
            if names != self.id_col or len(names) < 2:
                id_col = names[0] if len(names) == 1 else names or None
                object.__setattr__(self, "id_col", id_col)
        for name in ("past_cols", "future_cols", "static_cols", "calendar"):
            value = getattr(self, name)
            if isinstance(value, Iterable) and not isinstance(
                value, str | list | tuple
            ):  # walked once, or no JSON
                object.__setattr__(self, name, list(map(plain, value)))
        _ = self.columns

    @property
    def id_cols(self) -> tuple[Hashable, ...]:
        """The columns that name the series, one or several."""
        return self.id_col if isinstance(self.id_col, tuple) else (self.id_col,)

    @property
    def columns(self) -> CovariateColumns:
        """What may be read beside the target.

        Raises:
            ValueError: If something is no list of names, or a name occurs twice.
        """
        return CovariateColumns.checked(
            self.past_cols, self.future_cols, self.static_cols, self.calendar
        )


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
        """Unit of the frequency as a grid of stamps has it, if it is known."""
        return None if self.freq is None else parse_freq(self.freq).unit

    @property
    def later(self) -> bool:
        """Whether the rows follow known ones."""
        return self.known is not None
