"""The pretrained forecaster: any table, any horizon and no training, with weights that are shipped."""

import copy
import inspect
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from tsattn.data.columns import plain
from tsattn.data.frames import Panel
from tsattn.forecaster import Forecast, alias_of, answer, check_horizon, check_request, continued, panel_for
from tsattn.limits import check_threads, limit_threads
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.weights import SHIPPED, load_network, read_network

MAX_HORIZON = 1024

# One pass of the network takes rows that fill about so many steps, history and horizon together, and may take that
# many of unlike length: a short row padded to a long one is wasted work, and so is a pass for a few short rows.
_PASS_STEPS, _MIXED_STEPS = 2**15, 2**12
# In a larger pass, no row is shorter than this share of the longest.
_LEAST_SHARE = 0.75
# Levels and quantiles are decimal numbers; two of them are one if they differ by less.
_SAME = 1e-9


class PretrainedForecaster:
    """A network that has learnt to forecast from synthetic series, and forecasts any series without training.

    ``fit`` remembers the table and nothing else. Each series, and each channel of a wide table, is forecast by itself
    from its last ``max_context`` values; series of any lengths, from one value up, stand in one table, and none is cut
    because another is short. Missing values are left out of account, wherever they are. The point is the median.
    Quantiles between two levels of the network lie on the line through them over the quantiles of the normal
    distribution: ``v = v_k + (z(q) - z(p_k)) / (z(p_k+1) - z(p_k)) * (v_k+1 - v_k)``.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024; ``predict`` may ask for another number of them.
        alias: Name of the columns; default ``"zero"``.
        nonnegative: Raise forecasts below 0 to 0 for series without a negative value in the rows that are read.
        weights: Name of shipped weights, a file or folder that :func:`tsattn.pretrained.weights.save_network` wrote,
            or a network.
        id_col: Column of ids, for frames.
        time_col: Column of stamps.
        target_col: Column of values.
        freq: Frequency; ``None`` infers it.
        missing: ``"mask"`` leaves missing values and absent rows out of account; ``"interpolate"`` and ``"ffill"``
            fill them in, ``"error"`` refuses them.
        n_threads: Threads that share the series; ``None`` takes as many as torch has. A number of them does not change
            a forecast, and torch's own number stays as it was.

    Attributes:
        panel_: The table of the last ``fit``.
        panel_in_: Whether it was given as a ``Panel``.
        network_: The network that forecasts, shared and not to be changed.

    Raises:
        ValueError: If ``horizon`` is not an integer from 1 to 1,024.
    """

    panel_: Panel
    panel_in_: bool
    network_: ZeroNetwork

    def __init__(
        self,
        horizon: int,
        *,
        alias: str | None = None,
        nonnegative: bool = False,
        weights: str | Path | ZeroNetwork = SHIPPED,
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        missing: str = "mask",
        n_threads: int | None = None,
    ) -> None:
        _check_steps(horizon)
        self.horizon = horizon
        self.alias = alias
        self.nonnegative = nonnegative
        self.weights = weights
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.freq = freq
        self.missing = missing
        self.n_threads = n_threads

    @property
    def alias_(self) -> str:
        """Name of the columns where no alias was given."""
        return "zero"

    @property
    def context(self) -> int:
        """Rows of history that it needs: one."""
        return 1

    @property
    def max_context(self) -> int | None:
        """Rows of history that it reads where there are so many, known once it is fitted."""
        network = getattr(self, "network_", None)
        return None if network is None else network.config.max_context

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor and their values.

        Args:
            deep: Without meaning here; scikit-learn passes it.
        """
        return {name: getattr(self, name) for name in _names()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; they count from the next ``fit`` or ``predict`` on.

        Args:
            **params: New values by name.

        Raises:
            ValueError: If a name is unknown or ``horizon`` out of range; nothing is changed then.
        """
        for name in params:
            if name not in _names():
                raise ValueError(f"PretrainedForecaster has no parameter {name!r}; it takes {', '.join(_names())}")
        _check_steps(params.get("horizon", self.horizon))
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, data: pd.DataFrame | Panel) -> Self:
        """Check the data, remember them for ``predict()`` and read the weights; nothing is learnt.

        Raises:
            ValueError: If the table is faulty, a series has no value, or the weights are missing or damaged.
        """
        _check_steps(self.horizon)
        panel, network = panel_for(self, data), _network(self.weights)
        _refuse_unknown(panel, network.config.max_context)
        self.panel_, self.panel_in_, self.network_ = panel, isinstance(data, Panel), network
        return self

    def predict(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        level: float | Iterable[float] | None = None,
        quantiles: float | Iterable[float] | None = None,
        horizon: int | None = None,
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after ``data``, or after the fitted data; series may be new.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            level: Central levels in percent, up to 98.
            quantiles: Quantiles from .01 to .99.
            horizon: Steps wanted; fewer than the forecaster's are the first of its steps, more are forecast as a
                forecaster of so many would. ``None`` takes its own.

        Returns:
            A frame in the dialect of ``data``, or a :class:`tsattn.Forecast` for a panel.

        Raises:
            ValueError: If not fitted, or if the table is faulty, a series has no value, or more is asked than the
                network knows.
        """
        fitted: Panel | None = getattr(self, "panel_", None)
        given, panel = continued(self, data, fitted, as_panel=getattr(self, "panel_in_", False))
        _refuse_unknown(panel, self.network_.config.max_context)
        steps = self.horizon if horizon is None else _check_steps(horizon)
        reader = self
        if steps > self.horizon:
            reader = copy.copy(self)
            reader.horizon = steps
        return answer(reader, given, panel, level=level, quantiles=quantiles, horizon=steps)

    def predict_windows(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> np.ndarray:
        """Forecast each channel of each window by itself.

        Args:
            x: Histories, ``[B, T, C]``, NaN where a value is missing or before a history begins; the last
                ``max_context`` rows are read.
            quantiles: Ascending, from .01 to .99.

        Returns:
            Points ``[B, F, C]`` in float64, or quantiles ``[B, F, C, Q]`` where some are asked.

        Raises:
            ValueError: If not fitted, the shape is wrong, a value is infinite, a channel has no value, or a quantile
                is out of range.
        """
        point, bounds = self.predict_both(x, quantiles=quantiles)
        return bounds if len(quantiles) else point

    def predict_both(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` in one pass; else as :meth:`predict_windows`."""
        if getattr(self, "network_", None) is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) before predict")
        x = _check_histories(x, self.network_.config.max_context)
        n_windows, n_rows, n_channels = x.shape
        rows = np.moveaxis(x, 2, 1).reshape(n_windows * n_channels, n_rows)
        point, bounds = self._pass(rows, self.horizon, check_request(None, quantiles)[2])
        steps = (n_windows, n_channels, self.horizon)
        return np.moveaxis(point.reshape(steps), 1, 2), np.moveaxis(bounds.reshape(*steps, bounds.shape[2]), 1, 2)

    def _pass(self, x: np.ndarray, horizon: int, quantiles: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[R, F]`` and quantiles ``[R, F, Q]`` of histories ``[R, T]``, alike long ones together."""
        network = self.network_
        wanted = _Between(network.quantile_levels, (*quantiles, 0.5), alias_of(self))
        found = np.empty((len(x), horizon, len(quantiles) + 1))
        known = ~np.isnan(x)
        lengths = x.shape[1] - known.argmax(axis=1)

        def forecast(rows: np.ndarray) -> None:
            part = torch.from_numpy(x[rows, x.shape[1] - lengths[rows[0]] :])
            found[rows] = wanted(network.forecast(part, horizon).numpy())

        _in_threads(forecast, list(_passes(lengths, horizon)), self._threads())
        if self.nonnegative:
            never = np.fmin.reduce(x, axis=1, initial=np.inf) >= 0
            found[never] = np.maximum(found[never], 0.0)
        return found[..., -1], found[..., :-1]

    def _threads(self) -> int:
        return torch.get_num_threads() if self.n_threads is None else check_threads(self.n_threads)

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster, weights and the end of each series included, into a folder; no pickle.

        Args:
            path: The folder; an older save there is replaced in one step.

        Raises:
            ValueError: If not fitted, the folder holds something else, or ids or names are of a kind that files cannot
                hold.
        """
        from tsattn.forecasters.stored import save_pretrained

        if getattr(self, "network_", None) is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) before save")
        save_pretrained(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, on any machine; it runs no code from the files.

        Raises:
            ValueError: If files are missing, damaged or of another class.
        """
        from tsattn.forecasters.stored import load_pretrained

        return load_pretrained(cls, Path(path))


class _Between:
    """Quantiles between the levels of a network.

    Args:
        levels: Of the network, ascending.
        wanted: The Q quantiles.
        name: Of the forecaster, for an error.

    Raises:
        ValueError: If a quantile lies outside the levels.
    """

    def __init__(self, levels: Sequence[float], wanted: Sequence[float], name: str) -> None:
        low, high, z = levels[0], levels[-1], statistics.NormalDist().inv_cdf
        for q in wanted:
            if not low - _SAME <= q <= high + _SAME:
                raise ValueError(
                    f"{name} knows the quantiles from {low} to {high}, so levels up to"
                    f" {round(100 * (high - low), 6):g}; got the quantile {q}; ask for one within, or take calibrated"
                    " ones around its points: SplitConformal(PretrainedForecaster(...), n_windows=...)"
                )
        at = np.asarray(levels)
        lower = np.clip(np.searchsorted(at, np.asarray(wanted) + _SAME, side="right") - 1, 0, len(at) - 1)
        self.lower, self.upper = lower, np.minimum(lower + 1, len(at) - 1)
        # On a level, its own value is taken to the bit.
        on = [abs(at[k] - q) <= _SAME or k == len(at) - 1 for k, q in zip(lower, wanted, strict=True)]
        self.share = np.array(
            [
                0.0 if same else (z(q) - z(at[k])) / (z(at[k + 1]) - z(at[k]))
                for k, q, same in zip(lower, wanted, on, strict=True)
            ]
        )

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``[..., Q]`` from values at the levels, ``[..., K]``, which ascend."""
        low, high = values[..., self.lower], values[..., self.upper]
        # Rounding must not lift one beyond the level above.
        return np.minimum(low + self.share * (high - low), high)


def _passes(lengths: np.ndarray, horizon: int) -> Iterator[np.ndarray]:
    """Rows that go through the network together, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    ordered, first = lengths[order], 0
    while first < len(order):
        longest = int(ordered[first])
        alike = int(np.searchsorted(-ordered, -_LEAST_SHARE * longest, side="right")) - first
        few = _MIXED_STEPS // (longest + horizon)
        most = max(1, _PASS_STEPS // (longest + horizon))
        count = min(max(alike, few, 1), most)
        yield order[first : first + count]
        first += count


def _in_threads(work: Callable[[np.ndarray], None], parts: Sequence[np.ndarray], n_threads: int) -> None:
    """Do the work on each part. Threads with parts of their own wait for none; those that torch would put into one part
    wait for one another at each of its steps, which is slow where something else is running.
    """
    with limit_threads(1):
        if n_threads == 1 or len(parts) < 2:
            for part in parts:
                work(part)
            return
        with ThreadPoolExecutor(min(n_threads, len(parts))) as pool:
            for _ in pool.map(work, parts):
                pass


def _names() -> list[str]:
    return [name for name in inspect.signature(PretrainedForecaster.__init__).parameters if name != "self"]


def _check_steps(horizon: object) -> int:
    steps = check_horizon(horizon)
    if steps > MAX_HORIZON:
        raise ValueError(
            f"horizon must be at most {MAX_HORIZON} steps for a pretrained forecaster; got {steps}; ask for fewer, or"
            " resample to longer steps"
        )
    return steps


def _network(weights: object) -> ZeroNetwork:
    if isinstance(weights, ZeroNetwork):
        return weights
    if isinstance(weights, Path):
        return read_network(weights)
    if isinstance(weights, str):
        # A bare word is a name; a path has a separator or an ending.
        return load_network(weights) if Path(weights).name == weights and "." not in weights else read_network(weights)
    raise TypeError(
        f"weights must be the name of shipped weights such as {SHIPPED!r}, a path, or a network; got"
        f" {type(weights).__name__}"
    )


def _check_histories(x: np.ndarray, reach: int) -> np.ndarray:
    """Windows ``[B, T, C]`` as float64, the last ``reach`` rows of them."""
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < 1:
        raise ValueError(f"windows must have shape [B, T, C] with T >= 1 rows of history; got {x.shape}: add some")
    x = x[:, -reach:]
    if np.isinf(x).any():
        raise ValueError("windows must be finite, or NaN where a value is missing; got inf: make it NaN, or correct it")
    empty = np.isnan(x).all(axis=1)
    if empty.any():
        window, channel = (int(i) for i in np.argwhere(empty)[0])
        raise ValueError(
            f"windows must have a finite value in each channel, among the last {reach} rows; got none in window"
            f" {window}, channel {channel}: give a longer history, or leave it out"
        )
    return x


def _refuse_unknown(panel: Panel, reach: int) -> None:
    """Refuse a panel with a series or channel that has no value among the rows that are read."""
    if not np.isnan(panel.values).any():
        return
    known = np.zeros((len(panel.values) + 1, panel.n_channels), dtype=np.int64)
    np.cumsum(~np.isnan(panel.values), axis=0, out=known[1:])
    stops = panel.starts[1:]
    empty = known[stops] == known[np.maximum(stops - reach, panel.starts[:-1])]
    if empty.any():
        n, channel = (int(i) for i in np.argwhere(empty)[0])
        name = panel.channels[channel] if panel.dialect.kind == "wide" else plain(panel.ids[n])
        others = f" (and {int(empty.sum()) - 1} more)" if empty.sum() > 1 else ""
        raise ValueError(
            f"series {name!r}{others} has no value among its last {min(reach, int(panel.lengths[n]))} rows, but a"
            " forecast needs one; leave it out"
        )
