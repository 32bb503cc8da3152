"""What a fit learns from: training and validation rows, their windows and scale, a solved linear
map.
"""

import dataclasses
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
from tsattn.data.frames import Panel, require_length
from tsattn.data.windows import History, Scaler, WindowBatches, WindowSpec, least_rows, make_scaler
from tsattn.forecasters.ridge import ridge
from tsattn.nn.config import ModelConfig
from tsattn.nn.models import LinearModel, PatchEncoder
from tsattn.nn.patching import RevIN
from tsattn.settings import check_whole

# Windows kept to calibrate intervals: neighbours overlap and say nearly the same.
_CALIBRATION_WINDOWS = 500
# Penalty of a least-squares map, as a share of the mean square of what it reads. It settles
# directions in which no window moves, and hardly touches the others.
_RIDGE = 1e-3


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """Rows, windows and scale of one fit.

    Args:
        panel: All rows given to ``fit``.
        stops: Rows of each series that teach; the rest checks. ``[N]``
        spec: Lengths of a window.
        scaler: Statistics of the rows that teach.
        encoder: How covariates are read, learnt from the rows that teach; ``None`` where there are
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
        """Rows that the shortest context of a window lacks."""
        ends = np.concatenate([self._learn_ends(), self._check_ends()])
        return max(
            self.spec.context - int((ends - self._first_rows(ends)).min(initial=self.spec.context)),
            0,
        )

    def batches(
        self, batch_size: int, order: torch.Generator, device: torch.device, *, masked: bool
    ) -> tuple[WindowBatches, WindowBatches | None]:
        """Shuffled windows to learn from and ordered ones to check on (None without validation
        rows).

        The rows live on ``device`` once; batches are gathered there.

        Args:
            batch_size: Windows a batch.
            order: Shuffles.
            device: Where they are gathered.
            masked: Whether the network leaves missing values out; otherwise those that pad short
                contexts at the front are given the mean of the context.
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
            rows, before = self._behind(front)
            values = np.where(before[:, None], np.float32(np.nan), values[rows])
            encoded = {
                name: each if name == "static" else each[rows] for name, each in encoded.items()
            }
            starts = starts + front * np.arange(len(starts))
        beside: dict[str, Any] = {
            "batch_size": batch_size,
            "covariates": {
                name: torch.as_tensor(each).to(device) for name, each in encoded.items()
            },
            "starts": starts,
            "fill": front > 0 and not masked,
        }

        def batches(ends: np.ndarray, **how: Any) -> WindowBatches:
            moved = ends + front * (self._owners(ends) + 1)
            return WindowBatches(resident, moved, self.spec, **beside, **how)

        resident = torch.as_tensor(values).to(device)
        return batches(learn, generator=order), batches(check) if len(check) else None

    def _behind(self, front: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the table when ``front`` rows stand before each series, and which those are; its
        first is theirs.
        """
        lengths = self.panel.lengths + front
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return (
            np.repeat(self.panel.starts[:-1], lengths) + np.maximum(within - front, 0),
            within < front,
        )

    def calibration(
        self,
    ) -> tuple[np.ndarray, np.ndarray, CovariateWindows | None, pd.Index, float]:
        """Evenly spread windows that check.

        Returns:
            Contexts ``[n, T, C]``, true futures ``[n, F, C]``, covariates, ids ``[n]``, and the
            share of a window that its neighbours do not judge as well.
        """
        ends = self._check_ends()
        chosen = ends[
            np.unique(np.linspace(0, len(ends) - 1, _CALIBRATION_WINDOWS).round().astype(np.int64))
        ]
        history = History(self.panel)
        context = self.spec.context
        horizon = self.spec.horizon
        covariates = None
        if self.encoder is not None:
            reach = min(context, int((chosen - self._first_rows(chosen)).max()))
            covariates = CovariateHistory(self.panel, self.encoder.columns).windows(
                chosen, reach, horizon
            )
        ids = pd.Index(self.panel.ids)[self._owners(chosen)]
        overlap = min(1.0, len(ends) / len(chosen) / horizon)
        return (
            history.reaching(chosen, context),
            history.futures(chosen, horizon),
            covariates,
            ids,
            overlap,
        )

    def _learn_ends(self) -> np.ndarray:
        return self._usable(
            self.spec.ends(self.panel.starts, np.zeros_like(self.stops), self.stops)
        )

    def _check_ends(self) -> np.ndarray:
        return self._usable(self.spec.ends(self.panel.starts, self.stops, self.panel.lengths))

    def _owners(self, ends: np.ndarray) -> np.ndarray:
        """Series of each window."""
        return np.searchsorted(self.panel.starts, ends - 1, side="right") - 1

    def _first_rows(self, ends: np.ndarray) -> np.ndarray:
        """First row of the series of each window."""
        return self.panel.starts[self._owners(ends)]

    def _usable(self, ends: np.ndarray) -> np.ndarray:
        """Windows that show a value in the context and one in the horizon of the same channel."""
        if self.panel.missing != "mask":
            return ends
        known = np.zeros((len(self.panel.values) + 1, self.panel.n_channels), dtype=np.int64)
        np.cumsum(~np.isnan(self.panel.values), axis=0, out=known[1:])
        before = known[ends] - known[np.maximum(ends - self.spec.context, self._first_rows(ends))]
        after = known[ends + self.spec.horizon] - known[ends]
        return ends[((before > 0) & (after > 0)).any(axis=1)]

    def _standardised(self) -> np.ndarray:
        """All rows on the standardised scale in float32; teaching rows are filled without a look
        past their end.
        """
        panel = self.panel
        values = History(panel).filled
        if np.isnan(panel.values).any() and panel.missing != "mask":
            within = np.arange(len(values)) - np.repeat(panel.starts[:-1], panel.lengths)
            values = values.copy()
            values[within < np.repeat(self.stops, panel.lengths)] = History(
                panel.until(self.stops)
            ).filled
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
            f" {ours[name]!r} now; set {name} to that, or warm_start=False to begin anew"
        )
    network.load_state_dict(old.state_dict())


def hold_linear(network: nn.Module) -> bool:
    """Hold the map beside a transformer as it is; False where there is no transformer."""
    if isinstance(network, PatchEncoder):
        cast(nn.Module, network.skip).requires_grad_(False)
    return isinstance(network, PatchEncoder)


@torch.no_grad()
def solve_linear(network: nn.Module, windows: WindowBatches) -> None:
    """Give the linear map of a network its least-squares solution over all windows, and hold it
    there.

    The sum of squared errors on the standardised scale is least, up to a small penalty (ridge
    regression). Dividing a window and its forecast by the same number changes nothing in a linear
    map, so windows are only shifted here. A transformer beside the map starts by adding nothing to
    it. What pads a short context counts as its mean, as in the network; other windows with a
    missing value are left out.

    Args:
        network: A patch encoder with a map beside it, or a linear model of one map; changed in
            place.
        windows: What to learn from; their order is not drawn.

    Raises:
        ValueError: If every window misses a value.
    """
    model = cast(PatchEncoder | LinearModel, network)
    layer = cast(nn.Linear, model.map if isinstance(model, LinearModel) else model.skip)
    length = layer.in_features
    device = layer.weight.device
    products = torch.zeros(length, length + layer.out_features, dtype=torch.float64, device=device)
    count = 0
    for x, y, *_ in windows.in_order():
        rows = torch.cat((x, y), dim=1).transpose(1, 2).flatten(0, 1)
        # Only the front may be missing: once something is known, all is.
        rows = rows[
            rows[:, [length - 1, -1]].isfinite().all(1) & (rows.isfinite().diff(dim=1).sum(1) < 2)
        ]
        seen = rows[:, :length].isfinite()
        level = cast(RevIN, model.revin).statistics(
            rows[:, :length], **({} if seen.all() else {"seen": seen})
        )[0]
        rows = (rows - level).nan_to_num(0.0).double()
        products += rows[:, :length].T @ rows
        count += len(rows)
    if not count:
        raise ValueError(
            "a least-squares map needs windows without missing values, and every window has one;"
            " fill them (missing='interpolate'), or learn the map (linear_skip=True)"
        )
    scatter = products[:, :length]
    targets = products[:, length:]
    # A table of constants has no scatter: any penalty then gives the map that forecasts the shift
    # itself.
    penalty = _RIDGE * scatter.trace() / length
    layer.weight.copy_(ridge(scatter, targets, penalty if penalty > 0 else 1.0).T)
    layer.bias.zero_()
    layer.requires_grad_(False)
    if isinstance(network, PatchEncoder):
        network.head.start_at_zero()


def check_same_covariates(ours: CovariateEncoder | None, theirs: CovariateEncoder | None) -> None:
    """Refuse a warm start under which weights would be given other covariates.

    Raises:
        ValueError: If columns, cycles or categories are not those of the last fit.
    """
    now, before = (
        None if each is None else (each.columns, each.categories) for each in (ours, theirs)
    )
    if now != before:
        raise ValueError(
            f"warm_start needs the covariates of the last fit; they were {before} and are {now}"
            " now; set warm_start=False to begin anew"
        )


def plan_fit(
    panel: Panel,
    *,
    horizon: int,
    context: int | None,
    shortest_context: int,
    val_size: int | float,
    scaled: bool = True,
    columns: CovariateColumns | None = None,
) -> FitPlan:
    """Decide what teaches and what checks, before anything is trained.

    Args:
        panel: All rows.
        horizon: Future steps.
        context: Rows of history; ``None`` takes 3.5 horizons, at least 96 and at most 512, and not
            more than the median series leaves beside a horizon and the rows that check, half of it
            where there is one series alone.
        shortest_context: Rows the network reads at least.
        val_size: Rows, or share of each series (at least one horizon), that check.
        scaled: Whether values are standardised; otherwise they are learnt as they are.
        columns: Covariates to read, all of them in the panel.

    Raises:
        ValueError: If a size is out of its range, every series is too short for one whole window,
            or a calendar does not fit.
    """
    valid = validation_rows(panel, horizon=horizon, context=context, val_size=val_size)
    require_length(panel, 1, "a fit")
    least = shortest_context if context is None else context
    reason = (
        f"one window to learn from takes {least} rows of context and {horizon} of horizon beside"
        f" {int(valid.max())} for validation (shorten context, horizon or val_size)"
    )
    stops = panel.lengths - valid
    rooms = stops - horizon
    if rooms.max() < least:
        require_length(panel, least + horizon + int(valid.max()), reason)
    whole = context is not None and int(rooms.min()) >= context
    if context is None:
        typical = int(np.median(rooms[rooms >= least_rows(int(rooms.max()))]))
        wish = min(max(7 * horizon // 2, 96), 512)
        context = max(min(wish, typical if panel.n_series > 1 else typical // 2), shortest_context)
    # A series without rows to spare for checks teaches with all that it has.
    stops = np.where(stops < least_rows(context), panel.lengths, stops)
    scaler = make_scaler(panel, stops)
    if not scaled:
        scaler = Scaler(np.zeros_like(scaler.mean), np.ones_like(scaler.scale))
    encoder = CovariateEncoder.fit(columns, panel, stops) if columns else None
    return FitPlan(
        panel,
        stops,
        WindowSpec(int(context), int(horizon), None if whole else least_rows(context)),
        scaler,
        encoder,
    )


def validation_rows(
    panel: Panel, *, horizon: int, context: int | None, val_size: int | float
) -> np.ndarray:
    """Rows at the end of each series that check, ``[N]``; the arguments are those of
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
    for name, value in {
        "horizon": horizon,
        **({} if context is None else {"context": context}),
    }.items():
        if check_whole(name, value) >= 2**31:
            raise ValueError(f"{name} must be below 2**31 rows; got {value!r}")
    if _is_whole(val_size) and 0 < val_size < horizon:
        raise ValueError(
            f"val_size must hold at least one horizon; got {val_size} rows for horizon = {horizon};"
            " enlarge it, or use 0 for none"
        )
    if not (_is_whole(val_size) and val_size >= 0) and not (
        isinstance(val_size, float) and 0 <= val_size < 1
    ):
        raise ValueError(
            f"val_size must be a number of rows or a share in [0, 1); got {val_size!r}"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
