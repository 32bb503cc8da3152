"""How a table is read: what its columns are, how its stamps go on, what is done about missing
values.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from tsattn.checks import InputError, Name
from tsattn.data.calendar import parse_freq
from tsattn.data.columns import BAD, GAPS, MISSING, plain
from tsattn.data.covariates import CovariateColumns
from tsattn.settings import Settings

# Fields that name covariates.
COVARIATE_FIELDS = ("past_cols", "future_cols", "static_cols", "calendar")


@dataclass(frozen=True, repr=False)
class Schema(Settings):
    """What the columns of a table are; every forecaster, ``backtest`` and the command line read
    tables by one.

    The default recognises long tables with the columns ``unique_id, ds, y`` or
    ``item_id, timestamp, target``, long tables of one series without a column of ids, and wide
    tables with one column a series and their stamps in the index or in a column. A time column of
    another name is found by its values.

    Args:
        id_col: Column of the series' names in a long table, or a list of columns that name them
            together, such as ``["store", "item"]``; ``None`` for a table of one series. Where
            several series have the same stamps, or stand below one another, and no column is
            called ``unique_id``, columns that tell them apart are found.
        time_col: Column of stamps, of periods, of text that reads as stamps (days, months,
            ``"2000Q1"``, weeks), or of integers: such as 20240131, 202401 or seconds and finer
            units since 1970 are read as stamps, years and all others count steps.
        target_col: Column of values in a long table.
        freq: Frequency such as ``"h"``, ``"15min"``, ``"W-SAT"``, ``"h[Mon-Fri 07:00-21:00]"``,
            ``"M[1 15]"`` (days of the month), or the step of integer stamps; ``None`` infers it
            over all series.
        missing: ``"error"`` refuses missing values and absent rows; ``"interpolate"`` and
            ``"ffill"`` fill them at each cutoff with what was known there; ``"mask"`` leaves them
            out of account, for forecasters that can. ``None`` is ``"mask"`` for such forecasters,
            and ``"interpolate"`` for others, with a warning; rows before the first value of a
            series are left out. Numbers such as -9999, far from all other values, and in columns
            also single values far outside the range of all others count as missing, but not under
            ``"error"``. A warning names them.
        gaps: What absent rows are. ``"closed"``: nobody counted then, as in a shop on Sundays or in
            an office at night; rows are continued on the days and hours of the week that the past
            has. ``"missing"``: values are unknown then, and ``missing`` says what is done. ``None``
            takes those for closed that come again week after week, with a warning that names them.
        bad: What is done about single series that cannot be forecast, since they have no value or
            too few rows: ``"skip"`` warns of them once, forecasts the others and gives NaN for
            them; ``"error"`` refuses the table. ``None`` skips them where others are left.
        past_cols: Columns beside the target that are known up to the cutoff, such as measurements.
        future_cols: Columns that are known through the horizon as well, such as prices or weather
            forecasts; ``predict`` takes their values as ``future=``.
        static_cols: Columns with one value in a series of a long table: numbers, or text and
            categories.
        calendar: Cycles read off the stamps, known for ever: ``"hour"``, ``"weekday"``,
            ``"monthday"``, ``"month"``, ``"yearday"``; ``"auto"`` takes those that fit the
            frequency and that the training rows show whole. Beside them the holidays of a country
            or of a part of it, ``"holidays:DE"``, ``"holidays:DE-BY"`` (needs
            ``pip install 'tsattn[holidays]'``), and dates of your own by
            :func:`tsattn.special_days`; both for steps of a day or less, with the days before and
            after.

    The past and future columns of a wide table are no series; all series share them.
    A forecaster that reads no covariates leaves these columns and the calendar unread.

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
