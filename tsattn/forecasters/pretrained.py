"""The pretrained forecaster: any table, any horizon and no training, with weights that
are shipped.
"""

import copy
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from tsattn.data.calendar import season_length
from tsattn.data.frames import Panel, TableLike
from tsattn.data.schema import Schema
from tsattn.data.windows import Values, require_known
from tsattn.forecaster import check_horizon
from tsattn.forecasters.stored import StoredForecaster
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.weights import SHIPPED, build_network, load_network, read_network

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows
    from tsattn.forecasters.covariate_regression import CovariateRegression

MAX_HORIZON = 1024

# Steps of a pass of the network, history and horizon together, at most and at least, where there
# are so many: in large passes threads seldom wait for one another. So many may be of rows of unlike
# length: a short row padded to a long one is wasted work, and so is a pass for a few short rows.
_PASS_STEPS = 2**19
_LEAST_STEPS = 2**16
_MIXED_STEPS = 2**12
# In a larger pass, no row is shorter than this share of the longest.
_LEAST_SHARE = 0.75
# Fields of the network's settings that are sizes of tensors.
_SIZES = ("d_model", "d_ff", "n_heads", "n_layers", "max_len")
# Levels and quantiles are decimal numbers; two of them are one if they differ by less.
_SAME = 1e-9


class GapForecaster(StoredForecaster):
    """A forecaster that leaves missing values out of account, and needs one value of
    each series.
    """

    default_missing = "mask"
    masks = True
    context = 1

    covariate_columns = property(
        attrgetter("schema.columns"), doc="What the next fit reads beside the target."
    )

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value."""
        return self.max_context

    def read(self, data: TableLike | Panel, *, fitted: bool = False) -> Panel:
        """A table as it is read; for a fitted forecaster every series must have a value.

        Raises:
            ValueError: If the table is faulty, or a series has no value among the rows that are
                read.
        """
        panel = super().read(data, fitted=fitted)
        if fitted:
            require_known(panel, self.least_context)
        return panel


class PretrainedForecaster(GapForecaster):
    """A network that has learnt to forecast from synthetic series, and forecasts any series without
    training.

    ``fit`` only remembers the table. Each series, and each channel of a wide table, is forecast by
    itself from its last ``max_context`` values; series of any lengths, from one value up, stand in
    one table, and none is cut because another is short. Missing values are left out of account,
    wherever they are, unless the schema says otherwise. The point is the median. Quantiles between
    two levels of the network lie on the line through them over the quantiles of the normal
    distribution: ``v = v_k + (z(q) - z(p_k)) / (z(p_k+1) - z(p_k)) * (v_k+1 - v_k)``. ``save``
    writes the weights too, so that it forecasts alike under every later version.

    Columns that the schema names are read by regressions before and after the network: inside each
    window, pooled over the table, and by boosted trees. Their weights come from forecasts of the
    panel's own past, and are 0 where windows held out do not clearly show a smaller error
    (:class:`tsattn.forecasters.covariate_regression.CovariateRegression`).

    With ``fine_tune`` a copy of the network goes on learning from windows of the table's own rows.
    Windows of the last ``val_size`` rows of each series, which teach nothing, choose among its
    weights, and those it began with are kept where these windows do not clearly show a smaller
    loss.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024; ``predict`` may ask for another number of them.
        alias: Name of the columns; default ``"zero"``.
        nonnegative: Raise forecasts below 0 to 0 for series without a negative value in the rows
            that are read.
        weights: Name of shipped weights (``"zero-small-2"`` for very many series), a file or folder
            that :func:`tsattn.pretrained.weights.save_network` wrote, or a network.
        schema: How tables are read: columns, frequency, missing values, covariates.
        n_threads: Threads that share the series; ``None`` takes as many as torch has. A number of
            them does not change a forecast, and torch's own number stays as it was.
        fine_tune: Let ``fit`` train the network on the table.
        val_size: Rows (int) or share (float) held out at the end of every series by ``fine_tune``;
            a share is at least one horizon.
        random_state: Seed of ``fine_tune``: an int, a numpy generator, or ``None`` for a new one.

    Attributes:
        network_: The network that forecasts, shared and not to be changed.
        season_: Rows of the season that the frequency of the table usually has; the network takes
            it on less evidence than others. 0 where the frequency has none.
        covariate_regression_: What covariates add to its forecasts; ``None`` where none are read.
        summary_: How ``fine_tune`` went, empty without it: ``parameters``, ``steps`` trained,
            ``best_step`` (0 where the weights stayed as they were), ``valid_windows``, and the loss
            on these before (``start_loss``) and after (``valid_loss``).

    Raises:
        ValueError: If ``horizon`` is not an integer from 1 to 1,024, or ``fine_tune`` is neither
            True nor False.
    """

    name = "zero"

    network_: ZeroNetwork
    season_: int = 0
    covariate_regression_: "CovariateRegression | None" = None
    summary_: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        horizon: int,
        *,
        alias: str | None = None,
        nonnegative: bool = False,
        weights: str | Path | ZeroNetwork = SHIPPED,
        schema: Schema = Schema(),
        n_threads: int | None = None,
        fine_tune: bool = False,
        val_size: int | float = 0.1,
        random_state: Any = 0,
    ) -> None:
        _check_steps(horizon)
        if not isinstance(fine_tune, bool):
            raise ValueError(f"fine_tune must be True or False; got {fine_tune!r}")
        self.horizon = horizon
        self.alias = alias
        self.nonnegative = nonnegative
        self.weights = weights
        self.schema = schema
        self.n_threads = n_threads
        self.fine_tune = fine_tune
        self.val_size = val_size
        self.random_state = random_state

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; known once it is fitted, one
        before.

        Beside columns only those that tokens hold are read: a window of columns is many times as
        wide.
        """
        network = vars(self).get("network_")
        if network is None:
            return 1
        return (
            network.config.token_context if self.covariate_columns else network.config.max_context
        )

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value; those before count for its
        seasons alone.
        """
        return self.network_.config.token_context

    def fit(self, data: TableLike | Panel, y: None = None, *, verbose: bool = False) -> Self:
        """Remember a table, and learn from it where ``fine_tune`` says so.

        Args:
            data: A long or wide frame or a series, as :func:`tsattn.forecast` takes them, or a
                panel.
            y: Ignored; scikit-learn passes it.
            verbose: Show how the training goes on stderr where that is a terminal.

        Raises:
            ValueError: If the table is faulty, a series has no value, or a setting is not usable;
                nothing is changed then.
        """
        self._title = self.alias_ if verbose else None
        try:
            return super().fit(data)
        finally:
            del self._title

    def _learn(self, panel: Panel) -> None:
        _check_steps(self.horizon)
        network = _network(self.weights)
        require_known(panel, network.config.token_context)
        season = season_length(panel.freq)
        summary: dict[str, Any] = {}
        regression = None
        if self.fine_tune:
            from tsattn.forecasters.fine_tuning import fine_tune

            how: dict[str, Any] = {
                "horizon": self.horizon,
                "val_size": self.val_size,
                "random_state": self.random_state,
                "title": vars(self).get("_title"),
            }
            with torch.inference_mode(mode=False):
                network, summary = fine_tune(network, panel, **how)
        if columns := self.covariate_columns:
            from tsattn.forecasters.covariate_regression import make_encoder
            from tsattn.forecasters.covariate_weights import fit_covariate_regression

            encoder = make_encoder(columns, panel)
            fresh = copy.copy(self)
            fresh.network_ = network
            fresh.season_ = season
            own: dict[str, Any] = {"horizon": self.horizon, "least": 1}
            # A wrong value would be followed by the regressions, and decide what is held to be the
            # better one.
            clean = replace(panel, values=_clean_values(panel, network.config.token_context))
            regression = fit_covariate_regression(
                fresh._answer, fresh.windows, clean, encoder, **own
            )
        self.network_ = network
        self.covariate_regression_ = regression
        self.summary_ = summary
        self.season_ = season
        self.encoder_ = None if regression is None else regression.encoder

    def reaching(self, steps: int) -> Self:
        """Itself, or a copy that forecasts so many steps at once."""
        if _check_steps(steps) <= self.horizon:
            return self
        longer = copy.copy(self)
        longer.horizon = steps
        return longer

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows that may miss values, but not all of a channel's."""
        if "network_" not in vars(self):
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) before predict")
        return check_histories(x, self.max_context, self.least_context)

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.covariate_regression_ is None or covariates is None:
            return self._answer(x, quantiles, self._values)
        clean = without_outliers(x)
        point, bounds = self.covariate_regression_.forecast(
            self._answer, clean, quantiles, covariates
        )
        values = self._values(x)
        return values.nearest(point), values.nearest(bounds)

    def _values(self, x: np.ndarray) -> Values:
        """What may follow windows."""
        values = Values.after(x[:, -self.least_context :])
        return values.above_zero(values.origin >= 0) if self.nonnegative else values

    def _answer(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        values: Callable[[np.ndarray], Values] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points and quantiles of the network alone, moved to the nearest of the values that may
        follow, if given.
        """
        n_windows, n_rows, n_channels = x.shape
        series = np.moveaxis(x, 2, 1).reshape(n_windows * n_channels, n_rows)
        lengths = n_rows - (~np.isnan(series)).argmax(axis=1)
        wanted = _Between(self.network_.quantile_levels, (*quantiles, 0.5), self.alias_)
        found = np.empty((len(series), self.horizon, len(quantiles) + 1))

        least = self.least_context

        def forecast(rows: np.ndarray) -> None:
            part = series[rows, n_rows - lengths[rows[0]] :]
            levels = self.network_.forecast(
                torch.from_numpy(part), self.horizon, likely=self.season_
            )
            made = wanted(levels.numpy())[:, :, None]
            found[rows] = (
                made if values is None else values(part[:, -least:, None]).nearest(made)
            )[:, :, 0]

        _in_threads(forecast, list(_passes(lengths, self.horizon)), self._threads())
        made = np.moveaxis(found.reshape(n_windows, n_channels, *found.shape[1:]), 1, 2)
        return made[..., -1], made[..., :-1]

    def _threads(self) -> int:
        from tsattn.limits import check_threads

        return torch.get_num_threads() if self.n_threads is None else check_threads(self.n_threads)

    # --- saved folders ----------------------------------------------------------------------------

    prefix = ""

    def _learnt_tensors(self) -> dict[str, torch.Tensor]:
        arrays = {} if self.covariate_regression_ is None else self.covariate_regression_.arrays()
        tensors = {f"network.{name}": tensor for name, tensor in self.network_.state_dict().items()}
        return tensors | {name: torch.as_tensor(array) for name, array in arrays.items()}

    def _inside(self) -> tuple[dict[str, Any], dict[str, Any]]:
        regression = self.covariate_regression_
        facts = {} if regression is None else {"covariate_regression": regression.facts()}
        facts |= {"summary": dict(self.summary_)} if self.summary_ else {}
        return {"network": self.network_.config.to_dict(), "season": self.season_, **facts}, {}

    def _take(
        self, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], folder: Path
    ) -> None:
        from tsattn.data.stored import require
        from tsattn.forecasters.covariate_regression import OUTDATED, PREFIX, CovariateRegression

        require(type(self.nonnegative) is bool, f"nonnegative = {self.nonnegative!r:.40}")
        n_threads = self.n_threads
        require(
            n_threads is None or (type(n_threads) is int and n_threads >= 1),
            f"n_threads = {n_threads!r:.40}",
        )
        weights = {
            name.removeprefix("network."): v
            for name, v in tensors.items()
            if name.startswith("network.")
        }
        _check_weights(weights, facts["network"])
        self.network_ = self.weights = build_network(facts["network"], weights)
        self.summary_ = dict(facts.get("summary", {}))
        # Folders of earlier versions have none.
        self.season_ = facts.get("season", 0)
        require(type(self.season_) is int and self.season_ >= 0, f"season = {self.season_!r:.40}")
        require("leftovers" not in facts, OUTDATED)
        regression = facts.get("covariate_regression")
        require((regression is None) == (self.encoder_ is None), "covariates that are not read")
        if regression is not None and self.encoder_ is not None:
            arrays = {
                name: tensor.numpy() for name, tensor in tensors.items() if name.startswith(PREFIX)
            }
            self.covariate_regression_ = CovariateRegression.rebuilt(
                self.encoder_, regression, arrays
            )


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
        low = levels[0]
        high = levels[-1]
        z = statistics.NormalDist().inv_cdf
        for q in wanted:
            if not low - _SAME <= q <= high + _SAME:
                raise ValueError(
                    f"{name} knows the quantiles from {low} to {high}, so levels up to"
                    f" {round(100 * (high - low), 6):g}; got the quantile {q}; ask for one within,"
                    " or take calibrated ones around its points:"
                    " SplitConformal(PretrainedForecaster(...), n_windows=...)"
                )
        at = np.asarray(levels)
        lower = np.clip(
            np.searchsorted(at, np.asarray(wanted) + _SAME, side="right") - 1, 0, len(at) - 1
        )
        self.lower, self.upper = lower, np.minimum(lower + 1, len(at) - 1)
        # On a level, its own value is taken to the bit.
        on = [
            abs(at[k] - q) <= _SAME or k == len(at) - 1 for k, q in zip(lower, wanted, strict=True)
        ]
        self.share = np.array(
            [
                0.0 if same else (z(q) - z(at[k])) / (z(at[k + 1]) - z(at[k]))
                for k, q, same in zip(lower, wanted, on, strict=True)
            ]
        )

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``[..., Q]`` from values at the levels, ``[..., K]``, which ascend."""
        low = values[..., self.lower]
        high = values[..., self.upper]
        # Rounding must not lift one beyond the level above.
        return np.minimum(low + self.share * (high - low), high)


def _passes(lengths: np.ndarray, horizon: int) -> Iterator[np.ndarray]:
    """Rows that go through the network together, the longest first; fours of passes, that all
    threads have as many.
    """
    total = int((lengths + horizon).sum())
    number = (
        4 * -(-total // (4 * _PASS_STEPS))
        if total > 4 * _LEAST_STEPS
        else max(-(-total // _LEAST_STEPS), 1)
    )
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    first = 0
    while first < len(order):
        longest = int(ordered[first])
        alike = int(np.searchsorted(-ordered, -_LEAST_SHARE * longest, side="right")) - first
        few = _MIXED_STEPS // (longest + horizon)
        most = -(-total // (number * (longest + horizon)))
        count = min(max(alike, few, 1), most)
        yield order[first : first + count]
        first += count


def _in_threads(
    work: Callable[[np.ndarray], None], parts: Sequence[np.ndarray], n_threads: int
) -> None:
    """Do the work on each part. Threads with parts of their own wait for none; those that torch
    would put into one part wait for one another at each of its steps, which is slow where something
    else is running.
    """
    from tsattn.limits import IN_SINGLE, limit_threads

    with limit_threads(1), IN_SINGLE:
        if n_threads == 1 or len(parts) < 2:
            for part in parts:
                work(part)
            return
        with ThreadPoolExecutor(min(n_threads, len(parts))) as pool:
            for _ in pool.map(work, parts):
                pass


def _check_steps(horizon: object) -> int:
    steps = check_horizon(horizon)
    if steps > MAX_HORIZON:
        raise ValueError(
            f"horizon must be at most {MAX_HORIZON} steps for a pretrained forecaster; got {steps};"
            " ask for fewer, or resample to longer steps"
        )
    return steps


def _network(weights: object) -> ZeroNetwork:
    if isinstance(weights, ZeroNetwork):
        return weights
    if isinstance(weights, Path):
        return read_network(weights)
    if isinstance(weights, str):
        # A bare word is a name where it is none of a file or folder; a path has a separator or an
        # ending.
        named = Path(weights).name == weights and "." not in weights and not Path(weights).exists()
        return load_network(weights) if named else read_network(weights)
    raise TypeError(
        f"weights must be the name of shipped weights such as {SHIPPED!r}, a path, or a network;"
        f" got {type(weights).__name__}"
    )


def without_outliers(x: np.ndarray) -> np.ndarray:
    """Windows ``[B, T, C]``, NaN where a value is taken for wrong: a regression would follow it."""
    series = np.ascontiguousarray(np.moveaxis(x, 2, 1)).reshape(-1, x.shape[1])
    wrong = find_outliers(torch.from_numpy(series)).numpy()
    return np.where(np.moveaxis(wrong.reshape(len(x), x.shape[2], -1), 1, 2), np.nan, x)


def _clean_values(panel: Panel, n_rows: int) -> np.ndarray:
    """Values of a panel ``[rows, C]``, NaN where one is taken for wrong among so many rows of its
    series.
    """
    values = panel.values.copy()
    for start, stop in itertools.pairwise(panel.starts):
        for last in range(stop, start, -n_rows):
            rows = slice(max(last - n_rows, start), last)
            values[rows] = without_outliers(values[None, rows])[0]
    return values


def check_histories(x: np.ndarray, reach: int, least: int | None = None) -> np.ndarray:
    """The last ``reach`` rows of windows ``[B, T, C]`` that may miss values, as float64.

    Args:
        x: The windows.
        reach: Rows that are read.
        least: Rows among which a channel must have a value; default ``reach``.

    Raises:
        ValueError: If the shape is another one, a value is infinite, or a channel of a window has
            none.
    """
    least = reach if least is None else least
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 3 or x.shape[1] < 1:
        raise ValueError(
            f"windows must have shape [B, T, C] with T >= 1 rows of history; got {x.shape}: add"
            " some"
        )
    x = x[:, -reach:]
    if np.isinf(x).any():
        raise ValueError(
            "windows must be finite, or NaN where a value is missing; got inf: make it NaN, or"
            " correct it"
        )
    empty = np.isnan(x[:, -least:]).all(axis=1)
    if empty.any():
        window, channel = (int(i) for i in np.argwhere(empty)[0])
        raise ValueError(
            f"windows must have a finite value in each channel, among the last {least} rows; got"
            f" none in window {window}, channel {channel}: give a longer history, or leave it out"
        )
    return x


def _check_weights(weights: dict[str, torch.Tensor], settings: dict[str, Any]) -> None:
    """Refuse weights that are no numbers, and sizes that no tensor has, before memory is taken for
    them.
    """
    from tsattn.data.stored import require

    for name, tensor in weights.items():
        require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    largest = max((len(weights), *(n for tensor in weights.values() for n in tensor.shape)))
    for name in _SIZES:
        require(settings.get(name, 1) <= largest, f"{name} = {settings.get(name)} fits no tensor")
