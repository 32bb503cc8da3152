"""The plan of a fit: training and validation rows, their windows and scale, and a solved map."""

import dataclasses
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.checks import Argument, InputError, InPython, check_whole, is_whole
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.panel import Panel, require_length
from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.data.windows import History, Scaler, counts_before, least_rows, make_scaler
from tsattn.forecasters.ridge import ridge
from tsattn.nn.config import ModelConfig
from tsattn.nn.models import LinearModel, PatchEncoder
from tsattn.nn.patching import RevIN

# Windows that calibrate intervals, at most. Neighbours overlap, so more add little.
_CALIBRATION_WINDOWS = 500
# Penalty of a least-squares map, as a share of the mean square of its inputs. It settles directions
# in which no window moves, and hardly changes the others.
_RIDGE = 1e-3
# Rows of history by default, at least and at most.
_MIN_CONTEXT = 96
_MAX_CONTEXT = 512


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """Rows, windows and scale of one fit.

    Args:
        panel: All rows given to ``fit``.
        stops: Training rows of each series, ``[N]``; the validation rows follow them.
        spec: Lengths of a window.
        scaler: Statistics of the training rows.
        encoder: How covariates are read, fitted on the training rows; ``None`` where there are
            none.
    """

    panel: Panel
    stops: np.ndarray
    spec: WindowSpec
    scaler: Scaler
    encoder: CovariateEncoder | None = None

    @property
    def covariate_sizes(self) -> dict[str, int]:
        """Features of covariates that the network reads, as its configuration names them."""
        return {} if self.encoder is None else self.encoder.sizes

    @property
    def padding(self) -> int:
        """Rows that are missing in the shortest context."""
        learn = self._learn_ends()
        check = self._check_ends()
        ends = np.concatenate([learn, check])
        histories = ends - self._first_rows(ends)
        shortest = int(histories.min(initial=self.spec.context))
        return self.spec.context - shortest

    @property
    def n_valid_windows(self) -> int:
        """Windows that answer for validation rows."""
        return len(self._check_ends())

    def batches(
        self, batch_size: int, order: torch.Generator, device: torch.device, *, masked: bool
    ) -> tuple[WindowBatches, WindowBatches | None]:
        """Shuffled training windows and ordered validation windows (``None`` without validation
        rows).

        The rows are on ``device`` once; batches are gathered there.

        Args:
            batch_size: Windows a batch.
            order: Shuffles the training windows.
            device: Where batches are gathered.
            masked: Whether the network leaves missing values out; otherwise the mean of the context
                stands for the missing rows of a short one.
        """
        learn = self._learn_ends()
        check = self._check_ends()
        if not len(learn):
            raise ValueError(
                "no training window shows a value both in its context and in its horizon; bring"
                " more known values, or shorten context or horizon"
            )
        values = self._standardised()
        front = self.padding
        encoded = {} if self.encoder is None else self.encoder.rows(self.panel)
        starts = self.panel.starts
        if front:
            rows, before = self._padded_rows(front)
            missing = np.float32(np.nan)
            values = np.where(before[:, None], missing, values[rows])
            for name, columns in encoded.items():
                # Static columns have one row a series.
                encoded[name] = columns if name == "static" else columns[rows]
            n_series_before = np.arange(len(starts))
            starts = starts + front * n_series_before
        resident = torch.as_tensor(values).to(device)
        covariates = {name: torch.as_tensor(rows).to(device) for name, rows in encoded.items()}

        def batches(ends: np.ndarray, generator: torch.Generator | None) -> WindowBatches:
            # The padding of its own series and of those before it.
            n_padded_series = self.panel.owners(ends) + 1
            padded_ends = ends + front * n_padded_series
            return WindowBatches(
                resident,
                padded_ends,
                self.spec,
                batch_size=batch_size,
                generator=generator,
                covariates=covariates,
                starts=starts,
                fill=front > 0 and not masked,
            )

        check_batches = batches(check, None) if len(check) else None
        return batches(learn, order), check_batches

    def _padded_rows(self, front: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers of the table with ``front`` more rows before each series, and a mask of these
        rows, which repeat the number of the first row.
        """
        lengths = self.panel.lengths + front
        first = np.cumsum(lengths) - lengths
        n_rows = lengths.sum()
        place_in_series = np.arange(n_rows) - np.repeat(first, lengths)
        series_start = np.repeat(self.panel.starts[:-1], lengths)
        rows_of_series = np.maximum(place_in_series - front, 0)
        rows = series_start + rows_of_series
        return rows, place_in_series < front

    def calibration(
        self,
    ) -> tuple[np.ndarray, np.ndarray, CovariateWindows | None, pd.Index, float]:
        """Evenly spread validation windows.

        Returns:
            Contexts ``[n, T, C]``, true futures ``[n, F, C]``, covariates, ids ``[n]``, and the
            share of a window that its neighbours do not contain.
        """
        ends = self._check_ends()
        last_place = len(ends) - 1
        spread = np.linspace(0, last_place, _CALIBRATION_WINDOWS).round()
        places = np.unique(spread.astype(np.int64))
        chosen = ends[places]
        history = History(self.panel)
        context = self.spec.context
        horizon = self.spec.horizon
        covariates = None
        if self.encoder is not None:
            histories = chosen - self._first_rows(chosen)
            longest = int(histories.max())
            n_read = min(context, longest)
            columns = CovariateHistory(self.panel, self.encoder.columns)
            covariates = columns.windows(chosen, n_read, horizon)
        all_ids = pd.Index(self.panel.ids)
        ids = all_ids[self.panel.owners(chosen)]
        # Rows from one window to the next, as a share of a horizon.
        distance = len(ends) / len(chosen)
        overlap = min(1.0, distance / horizon)
        contexts = history.reaching(chosen, context)
        futures = history.futures(chosen, horizon)
        return contexts, futures, covariates, ids, overlap

    def _learn_ends(self) -> np.ndarray:
        ends = self.spec.ends(self.panel.starts, np.zeros_like(self.stops), self.stops)
        return self._usable(ends)

    def _check_ends(self) -> np.ndarray:
        ends = self.spec.ends(self.panel.starts, self.stops, self.panel.lengths)
        return self._usable(ends)

    def _first_rows(self, ends: np.ndarray) -> np.ndarray:
        """First row of the series of each window."""
        owners = self.panel.owners(ends)
        return self.panel.starts[owners]

    def _usable(self, ends: np.ndarray) -> np.ndarray:
        """Windows that show a value in the context and one in the horizon of the same channel."""
        if self.panel.missing != "mask":
            return ends
        observed = ~np.isnan(self.panel.values)
        counts = counts_before(observed)
        first_rows = self._first_rows(ends)
        read_from = np.maximum(ends - self.spec.context, first_rows)
        forecast_to = ends + self.spec.horizon
        counts_at_end = counts[ends]
        has_past = counts_at_end > counts[read_from]
        has_future = counts[forecast_to] > counts_at_end
        usable = (has_past & has_future).any(axis=1)
        return ends[usable]

    def _standardised(self) -> np.ndarray:
        """All rows on the standardised scale in float32."""
        panel = self.panel
        values = History(panel).filled
        if np.isnan(panel.values).any() and panel.missing != "mask":
            # Validation rows must not decide how gaps in the training rows are filled.
            place_in_series = np.arange(len(values)) - np.repeat(panel.starts[:-1], panel.lengths)
            training_values = History(panel.until(self.stops)).filled
            values = values.copy()
            values[place_in_series < np.repeat(self.stops, panel.lengths)] = training_values
        mean = np.repeat(self.scaler.mean, panel.lengths, axis=0)
        scale = np.repeat(self.scaler.scale, panel.lengths, axis=0)
        return ((values - mean) / scale).astype(np.float32)


def start_from(
    network: nn.Module, config: ModelConfig, old: nn.Module, old_config: ModelConfig
) -> None:
    """Give a new network the weights of an old one.

    Raises:
        ValueError: If the old one had another shape.
    """
    if config != old_config:
        ours = config.to_dict()
        theirs = old_config.to_dict()
        name = next(name for name in ours if ours[name] != theirs[name])
        raise ValueError(
            f"warm_start needs the network of the last fit; {name} was {theirs[name]!r} and is"
            f" {ours[name]!r} now; undo the change of settings behind it, or begin anew by"
            " warm_start=False"
        )
    network.load_state_dict(old.state_dict())


def hold_linear(network: nn.Module) -> bool:
    """Freeze the linear map of a transformer; False where there is no transformer."""
    if not isinstance(network, PatchEncoder):
        return False
    cast(nn.Module, network.skip).requires_grad_(False)
    return True


@torch.no_grad()
def solve_linear(network: nn.Module, windows: WindowBatches) -> None:
    """Give the linear map of a network its least-squares solution over all windows, and freeze it.

    The solution has the least sum of squared errors on the standardised scale, up to a small
    penalty (ridge regression). A linear map does not depend on the scale of a window, so windows
    are only shifted. A transformer adds nothing to the map before its training. The rows that pad a
    short context count as its mean, as in the network; other windows with a missing value are left
    out.

    Args:
        network: A patch encoder with a linear map, or a linear model of one map; changed in place.
        windows: Training windows; their order is not drawn.

    Raises:
        ValueError: If every window misses a value.
    """
    model = cast(PatchEncoder | LinearModel, network)
    layer = cast(nn.Linear, model.map if isinstance(model, LinearModel) else model.skip)
    length = layer.in_features
    device = layer.weight.device
    products = torch.zeros(length, length + layer.out_features, dtype=torch.float64, device=device)
    count = 0
    revin = cast(RevIN, model.revin)
    for x, y, *_ in windows.in_order():
        rows = _centred_rows(x, y, revin)
        products += rows[:, :length].T @ rows
        count += len(rows)
    if not count:
        raise InputError(
            "a least-squares map needs windows without missing values, and every window has one;"
            " fill them (",
            Argument("missing", "interpolate"),
            ")",
            InPython(", or learn the map (linear_skip=True)"),
        )
    scatter = products[:, :length]
    targets = products[:, length:]
    # As a share of the mean square of an input.
    penalty = float(_RIDGE * scatter.trace() / length)
    if not penalty > 0:
        # The table is constant. Any penalty then gives the map that forecasts the level.
        penalty = 1.0
    solution = ridge(scatter, targets, penalty)
    layer.weight.copy_(solution.T)
    layer.bias.zero_()
    layer.requires_grad_(False)
    if isinstance(network, PatchEncoder):
        network.head.start_at_zero()


def _centred_rows(x: torch.Tensor, y: torch.Tensor, revin: RevIN) -> torch.Tensor:
    """Contexts ``[B, T, C]`` and futures ``[B, F, C]`` of a batch as rows ``[n, T + F]`` around the
    levels of the contexts, without those in which a value is missing that does not pad them.
    """
    length = x.shape[1]
    rows = torch.cat((x, y), dim=1).transpose(1, 2).flatten(0, 1)
    # Missing values are allowed at the front only: the last rows of context and horizon are
    # finite, and missing changes to finite once at most.
    is_finite = rows.isfinite()
    ends_finite = is_finite[:, [length - 1, -1]].all(1)
    n_changes = is_finite.diff(dim=1).sum(1)
    rows = rows[ends_finite & (n_changes < 2)]
    context = rows[:, :length]
    observed = context.isfinite()
    options = {} if observed.all() else {"observed": observed}
    location, _ = revin.statistics(context, **options)
    return (rows - location).nan_to_num(0.0).double()


def check_same_covariates(ours: CovariateEncoder | None, theirs: CovariateEncoder | None) -> None:
    """Refuse a warm start with other covariates than those of the weights.

    Raises:
        ValueError: If columns, cycles or categories are not those of the last fit.
    """
    current = None if ours is None else (ours.columns, ours.categories)
    previous = None if theirs is None else (theirs.columns, theirs.categories)
    if current != previous:
        raise ValueError(
            f"warm_start needs the covariates of the last fit; they were {previous} and are"
            f" {current} now; set warm_start=False to begin anew"
        )


def plan_fit(
    panel: Panel,
    *,
    horizon: int,
    context: int | None,
    shortest_context: int,
    val_size: int | float,
    scaled: bool,
    columns: CovariateColumns | None,
) -> FitPlan:
    """Choose training and validation rows, before anything is trained.

    Args:
        panel: All rows.
        horizon: Future steps.
        context: Rows of history; ``None`` takes 3.5 horizons, at least 96 and at most 512, and not
            more than the median series has without a horizon and the validation rows, half of it
            where there is only one series.
        shortest_context: Rows the network reads at least.
        val_size: Validation rows, or their share of each series (at least one horizon).
        scaled: Whether values are standardised.
        columns: Covariates to read, all of them in the panel.

    Raises:
        ValueError: If a size is out of its range, every series is too short for one whole window,
            or a calendar does not fit.
    """
    valid = validation_rows(panel, horizon=horizon, context=context, val_size=val_size)
    require_length(panel, 1, "a fit")
    least = shortest_context if context is None else context
    most_valid = int(valid.max())
    reason = (
        f"one window to learn from takes {least} rows of context and {horizon} of horizon beside"
        f" {most_valid} for validation (shorten context, horizon or val_size)"
    )
    stops = panel.lengths - valid
    rooms = stops - horizon
    if rooms.max() < least:
        n_needed = least + horizon + most_valid
        require_length(panel, n_needed, reason)
    smallest_room = int(rooms.min())
    whole = context is not None and smallest_room >= context
    if context is None:
        usual_context = _default_context(rooms, horizon)
        context = max(usual_context, shortest_context)
    # A series that is too short for validation rows has training rows only.
    stops = np.where(stops < least_rows(context), panel.lengths, stops)
    scaler = make_scaler(panel, stops)
    if not scaled:
        scaler = Scaler(np.zeros_like(scaler.mean), np.ones_like(scaler.scale))
    encoder = CovariateEncoder.fit(columns, panel, stops) if columns else None
    least_context = None if whole else least_rows(context)
    spec = WindowSpec(int(context), int(horizon), least_context)
    return FitPlan(panel, stops, spec, scaler, encoder)


def _default_context(rooms: np.ndarray, horizon: int) -> int:
    """Rows of history, where the series have ``rooms`` rows for them."""
    largest_room = int(rooms.max())
    long_enough = rooms >= least_rows(largest_room)
    median_room = int(np.median(rooms[long_enough]))
    if len(rooms) == 1:
        median_room //= 2  # one series would have too few windows otherwise
    by_horizon = 7 * horizon // 2
    wished_context = min(max(by_horizon, _MIN_CONTEXT), _MAX_CONTEXT)
    return min(wished_context, median_room)


def validation_rows(
    panel: Panel, *, horizon: int, context: int | None, val_size: int | float
) -> np.ndarray:
    """Number of validation rows of each series, ``[N]``; the arguments are those of
    :func:`plan_fit`.

    Raises:
        ValueError: If a size is out of its range.
    """
    _check_sizes(horizon, context, val_size)
    if isinstance(val_size, float):
        rows = (panel.lengths * val_size).astype(np.int64)
        return np.maximum(rows, horizon) if val_size > 0 else rows
    return np.full(panel.n_series, int(val_size), dtype=np.int64)


def _check_sizes(horizon: Any, context: Any, val_size: Any) -> None:
    """Refuse sizes that are no whole numbers, or out of their range."""
    sizes = {"horizon": horizon}
    if context is not None:
        sizes["context"] = context
    for name, value in sizes.items():
        if check_whole(name, value) >= 2**31:
            raise ValueError(f"{name} must be below 2**31 rows; got {value!r}")
    if is_whole(val_size) and 0 < val_size < horizon:
        raise ValueError(
            f"val_size must hold at least one horizon; got {val_size} rows for horizon = {horizon};"
            " enlarge it, or use 0 for none"
        )
    check_val_size(val_size, "rows")


def check_val_size(val_size: Any, unit: str) -> None:
    """Refuse a size of validation that is neither a number of rows or windows nor a share.

    Args:
        val_size: What the user gave.
        unit: What is counted, for the message.

    Raises:
        ValueError: If it is out of its range.
    """
    is_count = is_whole(val_size) and val_size >= 0
    is_share = isinstance(val_size, float) and 0 <= val_size < 1
    if not (is_count or is_share):
        raise ValueError(
            f"val_size must be a number of {unit} or a share in [0, 1); got {val_size!r}"
        )
