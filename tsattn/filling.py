"""Missing values inside series, filled by forecasts from both sides of each gap."""

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tsattn.checks import InputWarning, check_whole, listed, warn
from tsattn.data.calendar import more_of
from tsattn.data.columns import TableLike, as_frame, plain
from tsattn.data.covariates import label
from tsattn.data.frames import to_long, to_target_panel, to_wide, with_fields
from tsattn.data.grid import rows_of
from tsattn.data.panel import Panel, tell_sentinels, tell_skipped, tell_usual_sentinels
from tsattn.data.schema import Schema
from tsattn.data.windows import Values, counts_before, spread_places
from tsattn.forecasters.pretrained import MAX_HORIZON, outlier_rows
from tsattn.pretrained.weights import SHIPPED
from tsattn.two_sides import Stretches, TwoSides

__all__ = ["fill"]

# Rows of a gap at most: a forecast reaches one row beyond it.
LONGEST_GAP = MAX_HORIZON - 1
# Last lengths of the classes of gaps; each class has weights of its own.
_CLASS_ENDS = (1, 4, 16, 64, 256, LONGEST_GAP)
# Observed stretches that are filled for the choice of weights, at most, and at least.
_MOST_TRIALS = 96
_LEAST_TRIALS = 8
# All weights of three opinions in steps of a quarter that add up to 1, [M, 3].
_QUARTERS = itertools.product(range(5), repeat=3)
_MIXTURES = np.array([quarters for quarters in _QUARTERS if sum(quarters) == 4]) / 4
# Weights of the lines, the forecasts and the joined forecasts where the table has too few observed
# stretches: a line is as good as anything for one value, and far behind over a season.
_SHORT_WEIGHTS = np.array([0.5, 0.25, 0.25])
_LONG_WEIGHTS = np.array([0.0, 0.5, 0.5])
# Gaps that a warning names.
_NAMED_GAPS = 3
# What becomes of wrong values.
_KEPT = "which fill keeps, but does not read"


def fill(
    data: TableLike | Panel,
    *,
    schema: Schema = Schema(),
    max_gap: int | None = None,
    weights: str | Path = SHIPPED,
    n_threads: int | None = None,
    **fields: Any,
) -> pd.DataFrame:
    """Fill the missing values between the first and the last value of each series.

    Missing are empty cells, and rows that the frequency wants and the table lacks. A gap of L rows
    is forecast from the rows before it, and from those after it in the opposite direction of time,
    by the pretrained network. The value at step i of the gap is a weighted mean of

    - the straight line between the values on either side,
    - both forecasts, the earlier one with the weight ``1 - i / (L + 1)``,
    - the same after each forecast has been moved to meet the value on the other side.

    The three weights are those with the smallest absolute error on observed stretches of the same
    table, for gaps of similar length. Numbers such as -9999 and outliers stay, with a warning, but
    are not read; those beside a gap count as rows of it.

    Args:
        data: A table, as :func:`tsattn.forecast` takes it. Covariates that the schema names stay
            as they are; other columns are left out.
        schema: How the table is read.
        max_gap: Rows of a gap at most; longer ones stay empty. Default 1,023, the most that can be
            filled.
        weights: Name or file of pretrained weights.
        n_threads: Threads, as for :class:`tsattn.PretrainedForecaster`.
        **fields: Fields of the schema, which they override, such as ``id_col`` or ``freq``.

    Returns:
        The table in its own form, wide or long, sorted by series and time, with a row for each
        stamp from the first to the last of a series. Columns keep their types where all of their
        cells allow it, and periods stay periods. Values before the first and after the last
        observed one stay missing. Series without a value are left out, with a warning; a wide table
        keeps their columns, which stay empty.

    Raises:
        TypeError: If ``data`` is no table.
        ValueError: If the table is faulty, or ``max_gap`` is not from 1 to 1,023.

    Example:
        >>> fill([1.0, 2.0, None, 4.0, 5.0])["y"].round(1).tolist()
        [1.0, 2.0, 3.0, 4.0, 5.0]
    """
    longest = LONGEST_GAP
    if max_gap is not None:
        longest = check_whole("max_gap", max_gap)
    if longest > LONGEST_GAP:
        raise ValueError(f"max_gap must be at most {LONGEST_GAP} rows; got {longest}")
    data, schema = with_fields(data, schema, fields)
    panel = to_target_panel(data, schema)
    is_wide = panel.dialect.kind == "wide"
    left = "their columns stay empty" if is_wide else "they have no rows in the answer"
    tell_skipped(panel, left)
    readable = _without_wrong_values(panel, schema.columns.future)
    tell_usual_sentinels(panel)
    all_gaps = _missing_gaps(panel, readable)
    is_filled = all_gaps.length <= longest
    if max_gap is None and not is_filled.all():
        _warn_of_long(panel, all_gaps.take(~is_filled))
    sides = TwoSides(readable, weights, n_threads)
    values = _filled_values(sides, all_gaps.take(is_filled))
    is_missing = np.isnan(panel.values)
    filled = replace(panel, values=np.where(is_missing, values, panel.values))
    answer = to_wide(filled) if is_wide else to_long(filled)
    # A panel holds numbers only, so that it has no other types to give back.
    if isinstance(data, Panel):
        return answer
    return _with_types(answer, as_frame(data), panel)


def _without_wrong_values(panel: Panel, future_cols: Sequence[Hashable]) -> Panel:
    """The panel with NaN in place of numbers such as -9999 and of outliers that its columns do not
    explain, which are told.
    """
    sentinel_rows = tell_sentinels(panel, _KEPT)
    values = panel.values.copy()
    values[sentinel_rows] = np.nan
    columns = () if panel.covariates is None else panel.covariates.columns
    own_cols = [name for name in future_cols if name in columns]
    longest = int(panel.lengths.max())
    rows = outlier_rows(replace(panel, values=values), longest, own_cols)
    if len(rows):
        owners = panel.owners(rows + 1)
        warn(
            f"{panel.series_label(int(owners[0]))} has {panel.values[rows[0], 0]:g} at"
            f" {panel.times[rows[0]]}, far from its neighbours{more_of(owners)}, {_KEPT}; correct"
            " such values, or leave their cells empty",
            InputWarning,
        )
    values[rows] = np.nan
    return replace(panel, values=values)


def _missing_gaps(panel: Panel, readable: Panel) -> Stretches:
    """The gaps of a panel :func:`_without_wrong_values` that hold a missing value of the panel."""
    gaps = find_gaps(readable)
    n_missing = counts_before(np.isnan(panel.values[:, 0]))
    holds_missing = n_missing[gaps.first + gaps.length] > n_missing[gaps.first]
    return gaps.take(holds_missing)


def _filled_values(sides: TwoSides, gaps: Stretches) -> np.ndarray:
    """The values of a panel with its gaps filled, ``[rows, 1]``."""
    values = sides.panel.values.copy()
    filler = GapFiller(sides)
    classes = np.searchsorted(_CLASS_ENDS, gaps.length)
    for number in np.unique(classes):
        members = gaps.take(classes == number)
        # The gap in the middle stands for all of its class.
        usual_length = int(np.median(members.length))
        shares = filler.choose_weights(usual_length)
        for alike in members.by_length():
            for batch in alike.batches():
                values[batch.rows(), 0] = filler.fill(batch, shares)
    return values


def _with_types(filled: pd.DataFrame, table: pd.DataFrame, panel: Panel) -> pd.DataFrame:
    """A filled table with the types that its values and covariates had; a column of which a filled
    value is not of its type, or an added row has no value, keeps the one that it has.
    """
    columns: list[Any] = [*panel.dialect.columns, panel.dialect.target_col]
    if panel.covariates is not None:
        columns += [*panel.covariates.columns, *panel.covariates.statics]
    for column in filled.columns.intersection(columns).intersection(table.columns):
        dtype = table[column].dtype
        cells = filled[column]
        # Objects are of any type.
        if dtype == np.dtype(object):
            continue
        if isinstance(dtype, pd.CategoricalDtype):
            cells = _as_categories(cells, dtype.categories)
        try:
            typed = cells.astype(dtype)
        except (ValueError, TypeError):
            continue
        is_alike = (typed == cells) | cells.isna() & typed.isna()
        if is_alike.all():
            filled[column] = typed
    return filled


def _as_categories(cells: pd.Series, categories: pd.Index) -> pd.Series:
    """Cells of a panel, which holds categories as text, as the categories that they stand for."""
    by_label = {label(plain(value)): value for value in categories}
    return cells.map(lambda cell: by_label.get(label(cell), cell))


def find_gaps(panel: Panel) -> Stretches:
    """The runs of missing values between two observed ones of the same series."""
    observed = np.flatnonzero(~np.isnan(panel.values[:, 0]))
    owner = panel.owners(observed + 1)
    n_between = np.diff(observed) - 1
    is_gap = (n_between > 0) & (np.diff(owner) == 0)
    first_row = observed[:-1][is_gap] + 1
    return Stretches(first_row, n_between[is_gap], owner[1:][is_gap])


class GapFiller:
    """Fills stretches of a panel from the rows around them.

    Args:
        sides: Forecasts of the panel from both sides.
    """

    def __init__(self, sides: TwoSides) -> None:
        self.panel = sides.panel
        self.sides = sides

    def fill(self, stretches: Stretches, shares: np.ndarray) -> np.ndarray:
        """Values for stretches of one length L, ``[S, L]``; those that are there are not read.

        Args:
            stretches: The stretches.
            shares: Weights of the three opinions.
        """
        before = self.sides.before(stretches)
        after = self.sides.after(stretches)
        opinions = self._opinions(stretches, before, after)
        answer = np.tensordot(shares, opinions, axes=1)
        around = np.concatenate([before, after], axis=1)
        # A filled value keeps the bounds and the grid of the values around the gap.
        possible = Values.after(around[..., None])
        nearest = possible.nearest(answer[..., None])
        return nearest[..., 0]

    def choose_weights(self, length: int) -> np.ndarray:
        """Weights of the opinions with the smallest error on observed stretches of this length.

        The errors are shares of the mean absolute difference between neighbours in each series, so
        that large series do not decide alone.
        """
        trials = self._trials(length)
        if len(trials) < _LEAST_TRIALS:
            return _SHORT_WEIGHTS if length == 1 else _LONG_WEIGHTS
        before = self.sides.before(trials)
        after = self.sides.after(trials)
        opinions = self._opinions(trials, before, after)
        truth = self.panel.values[trials.rows(), 0]
        scale = self._mean_changes(np.unique(trials.owner))[trials.owner]
        mixed = np.tensordot(_MIXTURES, opinions, axes=1)
        errors = np.abs(mixed - truth) / scale[:, None]
        mean_errors = errors.mean(axis=(1, 2))
        return _MIXTURES[mean_errors.argmin()]

    def _opinions(self, stretches: Stretches, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Lines, forecasts and joined forecasts of stretches of one length L, ``[3, S, L]``."""
        values = self.panel.values[:, 0]
        n_rows = int(stretches.length[0])
        # The values on either side, [S, 1].
        row_before = stretches.first - 1
        row_after = stretches.first + n_rows
        value_before = values[row_before][:, None]
        value_after = values[row_after][:, None]
        # Weight of what lies to the right, at each step.
        n_steps = n_rows + 1
        later = np.arange(1, n_steps) / n_steps
        earlier = 1 - later
        # Both forecasts reach the value on the other side.
        forwards, _ = self.sides.forecast(before, n_steps)
        backwards, _ = self.sides.forecast(after, n_steps)
        missed_right = value_after - forwards[:, -1:]
        missed_left = value_before - backwards[:, -1:]
        # What a forecast misses of the value on the other side is spread over its steps.
        joined_ahead = forwards[:, :-1] + later * missed_right
        joined_back = backwards[:, :-1] + later * missed_left
        lines = value_before + later * (value_after - value_before)
        # The first step back is the last row of the stretch.
        averaged = earlier * forwards[:, :-1] + later * backwards[:, -2::-1]
        joined = earlier * joined_ahead + later * joined_back[:, ::-1]
        return np.stack([lines, averaged, joined])

    def _trials(self, length: int) -> Stretches:
        """Observed stretches with observed neighbours, evenly spread over the panel."""
        starts = self.panel.starts
        observed_mask = ~np.isnan(self.panel.values[:, 0])
        # Differences of these counts tell how many values some rows have.
        n_observed = counts_before(observed_mask)
        # A stretch and its two neighbours.
        span = length + 2
        n_places = max(len(observed_mask) - span + 1, 0)
        begins = np.arange(n_places)
        ends = begins + span
        n_values = n_observed[ends] - n_observed[begins]
        is_observed = n_values == span
        owner = self.panel.owners(begins + 1)
        is_inside = ends <= starts[owner + 1]
        # One side alone should show what comes next.
        n_past = begins - starts[owner]
        has_past = n_past >= length
        is_candidate = is_observed & is_inside & has_past
        candidates = begins[is_candidate] + 1
        # Stretches that overlap would say the same.
        n_apart = len(candidates) // max(length, 1)
        places = spread_places(len(candidates), min(_MOST_TRIALS, n_apart))
        chosen = candidates[places]
        lengths = np.full(len(chosen), length)
        return Stretches(chosen, lengths, self.panel.owners(chosen + 1))

    def _mean_changes(self, series: np.ndarray) -> np.ndarray:
        """Mean absolute change from row to row of some series of two values or more, ``[N]``; 1 for
        the others, and for constant ones.
        """
        changes = np.ones(self.panel.n_series)
        for n in series.tolist():
            values = self.panel.values[rows_of(self.panel.starts, n), 0]
            observed = values[~np.isnan(values)]
            mean_step = np.abs(np.diff(observed)).mean()
            if mean_step > 0:
                changes[n] = mean_step
        return changes


def _warn_of_long(panel: Panel, gaps: Stretches) -> None:
    names = []
    for n, first, length in zip(gaps.owner, gaps.first, gaps.length, strict=True):
        label = panel.series_label(n)
        begin = panel.times[first]
        names.append(f"{label} from {begin} ({length} rows)")
    warn(
        f"gaps of more than {LONGEST_GAP} rows stay empty: {listed(names, _NAMED_GAPS)};"
        " resample the table to longer steps, or cut it there",
        InputWarning,
    )
