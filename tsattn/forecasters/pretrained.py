"""The pretrained forecaster, which forecasts any table without training by shipped weights."""

import copy
import statistics
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from tsattn.checks import (
    Argument,
    InputError,
    InputWarning,
    InPython,
    Piece,
    check_switch,
    check_whole,
    warn,
)
from tsattn.data.calendar import more, season_length
from tsattn.data.columns import TableLike
from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import to_panel
from tsattn.data.panel import Panel, skip_bad
from tsattn.data.schema import Schema
from tsattn.data.windows import (
    EqualRuns,
    History,
    Values,
    blocks_of,
    find_stuck_cells,
    last_of_ended,
    require_known,
)
from tsattn.forecaster import (
    FitContext,
    Fitted,
    Forecaster,
    learnt,
)
from tsattn.forecasts import Answer, Data
from tsattn.levels import check_point
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.weights import SHIPPED, build_network, load_network, read_network

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows
    from tsattn.forecasters.covariate_regression import CovariateRegression
    from tsattn.store import Facts, Saved

# Steps of a forecast, at most.
MAX_HORIZON = 1024

# Steps of one pass of the network, history and horizon together, at most. More need much memory.
_PASS_STEPS = 2**20
# Steps of one pass, at least, where there are so many. In large passes threads seldom wait for one
# another.
_LEAST_STEPS = 2**16
# Steps of a pass whose rows may differ much in length. Padding wastes work in a large pass; in a
# small one it costs less than another pass.
_MIXED_STEPS = 2**12
# Length of the shortest row of a larger pass, as a share of the longest.
_LEAST_SHARE = 0.75
# Fields of the network's settings that are sizes of tensors.
_SIZES = ("d_model", "d_ff", "n_heads", "n_layers", "max_len")
# Two probabilities are equal if they differ by less: decimal numbers are rounded.
_SAME_PROBABILITY = 1e-9
# Values that are searched for outliers at once when a table is read.
_SEARCHED_VALUES = 2**20
# Rows at the end of a window that are equal where it may no longer move.
_EQUAL_ROWS = 28


class GapForecaster(Forecaster):
    """A forecaster that leaves missing values out, and needs one value of each series."""

    masks = True
    context = 1

    covariate_columns = property(
        attrgetter("schema.columns"), doc="Covariates that the next fit reads."
    )

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value."""
        return self.max_context

    def sample(
        self,
        n_samples: int = 100,
        data: Data | None = None,
        *,
        random_state: Any = None,
        future: TableLike | None = None,
    ) -> np.ndarray:
        """Draw sample paths whose steps depend on one another as past forecast errors did
        (:meth:`tsattn.Forecast.sample`).

        Args:
            n_samples: Paths of each series.
            data: Series to continue; ``None`` continues those of ``fit``.
            random_state: Seed; ``None`` draws a new one from the operating system.
            future: As in :meth:`predict`.

        Returns:
            ``[series, horizon, n_samples]`` in the units of the data.

        Raises:
            ValueError: As :meth:`predict`, or if ``n_samples`` is not a whole number above 0.
        """
        forecast = self._forecast_table(data, future=future)
        return forecast.sample(n_samples, random_state=random_state)

    def read(self, data: Data, *, fitted: bool = False, later: bool = False) -> Panel:
        """A table as it is read; for a fitted forecaster every series must have a value, or is left
        out, unless its rows follow those of the fit.

        Raises:
            ValueError: If the table is faulty, or a series has no value among the rows that are
                read and may not be left out.
        """
        panel = super().read(data, fitted=fitted, later=later)
        if fitted and not later:
            bad = self.bad_policy(data)
            _, panel = skip_bad(panel, self.require_starts, bad)
        return panel

    def require_starts(self, panel: Panel) -> None:
        """Refuse a panel with a series that has no value among the rows that are read.

        Raises:
            BadSeriesError: Naming the series.
        """
        require_known(panel, self.least_context)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows; each channel must have a value."""
        self.check_fitted()
        return check_histories(x, self.max_context, self.least_context)


@dataclass(frozen=True, eq=False, kw_only=True)
class PretrainedFitted(Fitted):
    """A network that forecasts the table, and what covariates add to it.

    Args:
        network: The network.
        season: Rows of the season that the frequency usually has; 0 where it has none.
        covariate_regression: What covariates add; ``None`` where none are read.
        summary: How a fine-tuning went, empty without one.
    """

    network: ZeroNetwork
    season: int = 0
    covariate_regression: "CovariateRegression | None" = None
    summary: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The weights of the network and of the regressions."""
        from tsattn.forecasters.saving import regression_tensors

        weights = self.network.state_dict()
        tensors = {f"network.{name}": tensor for name, tensor in weights.items()}
        return tensors | regression_tensors(self.covariate_regression)

    def facts(self) -> "Facts":
        """Settings of the network, the season, and how a fine-tuning went."""
        from tsattn.forecasters.saving import regression_facts

        facts = {"learnt": {}, "network": self.network.config.to_dict(), "season": self.season}
        facts |= regression_facts(self.covariate_regression)
        if self.summary:
            facts["summary"] = dict(self.summary)
        return facts

    @classmethod
    def restored(cls, forecaster: "PretrainedForecaster", saved: "Saved", **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`; the weights become the forecaster's."""
        from tsattn.data.stored import require
        from tsattn.forecasters.saving import regression_from
        from tsattn.store import check_weights

        n_threads = forecaster.n_threads
        is_count = type(n_threads) is int and n_threads >= 1
        require(n_threads is None or is_count, f"n_threads = {n_threads!r:.40}")
        weights = saved.part("network.")
        settings = saved.facts["network"]
        check_weights(weights, {name: settings[name] for name in _SIZES if name in settings})
        network = build_network(settings, weights)
        forecaster.weights = network
        # Folders of earlier versions have none.
        season = saved.facts.get("season", 0)
        require(type(season) is int and season >= 0, f"season = {season!r:.40}")
        return cls(
            **common,
            network=network,
            season=season,
            covariate_regression=regression_from(saved, common["encoder"]),
            summary=dict(saved.facts.get("summary", {})),
        )


class PretrainedForecaster(GapForecaster):
    """A network trained on synthetic series, which forecasts any series without training.

    ``fit`` only stores the table, unless covariates or ``fine_tune`` are set. Each series is
    forecast by itself from its last ``max_context`` rows. Series may have different lengths, from
    one value up. Missing values are left out unless the schema says otherwise.

    The point is the median, which is 0 for rare sales. ``point="mean"`` gives the mean of the
    quantiles, with tails of a normal distribution beyond the outermost ones. Quantiles between two
    levels of the network are interpolated over the quantiles z of the normal distribution:
    ``v = v_k + (z(q) - z(p_k)) / (z(p_k+1) - z(p_k)) * (v_k+1 - v_k)``. ``save`` also writes the
    weights, so that later versions give the same forecasts.

    Three regressions read the covariates that the schema names: one inside each window, one pooled
    over the table, and boosted trees. ``fit`` chooses their weights by forecasts of the table's own
    past. The weights are 0 unless covariates clearly lower the error on held-out windows
    (:class:`tsattn.forecasters.covariate_regression.CovariateRegression`).

    ``fine_tune`` trains a copy of the network on windows of the table. Validation windows in the
    last ``val_size`` rows of each series decide which weights are kept: the shipped ones, unless
    others have a clearly smaller loss.

    Args:
        horizon: Rows forecast ahead, 1 to 1,024; ``predict(horizon=...)`` may differ from it.
        alias: Name of the columns; default ``"zero"``.
        nonnegative: Raise forecasts below 0 to 0 for series without a negative value in the rows
            that are read.
        point: ``"median"``, ``"mean"``, or ``"auto"``: the mean for intermittent series, at least
            half of whose values are 0, and the median for others.
        weights: Name of shipped weights (``"zero-5h-small"`` for very many series), a file or
            folder that :func:`tsattn.pretrained.weights.save_network` wrote, or a network.
        schema: How tables are read: columns, frequency, missing values, covariates.
        n_threads: Threads that share the series; ``None`` takes as many as torch has. Forecasts do
            not depend on the number, and the setting of torch does not change.
        fine_tune: Let ``fit`` train the network on the table.
        val_size: Rows (int) or share (float) held out at the end of every series by ``fine_tune``;
            a share is at least one horizon.
        random_state: Seed of ``fine_tune``: an int, a numpy generator, or ``None`` for a new one.

    Attributes:
        network_: The network that forecasts. Forecasters share it, so do not change it.
        season_: Rows of the usual season of the table's frequency, 24 for hours. The network needs
            less evidence for it than for other seasons. 1 if the frequency has none.
        covariate_regression_: The fitted regressions on covariates; ``None`` without covariates.
        summary_: Facts of ``fine_tune``, empty without it: ``parameters``, ``steps`` trained,
            ``best_step`` (0 if the shipped weights were kept), ``valid_windows``, and the loss on
            these before (``start_loss``) and after (``valid_loss``).

    Raises:
        ValueError: If ``horizon`` is not an integer from 1 to 1,024, ``point`` is another word, or
            ``fine_tune`` is neither True nor False.
    """

    name = "zero"
    fitted_class = PretrainedFitted
    unsaved = ("weights",)
    # The network knows the median.
    own_point = "median"

    network_: ZeroNetwork = learnt("network", "The network that forecasts.")
    season_: int = learnt("season", "Rows of the season that the frequency usually has.")
    covariate_regression_: "CovariateRegression | None" = learnt(
        "covariate_regression", "What covariates add to its forecasts."
    )
    summary_: Mapping[str, Any] = learnt("summary", "How a fine-tuning went.")

    def __init__(
        self,
        horizon: int,
        *,
        alias: str | None = None,
        nonnegative: bool = False,
        point: str = "median",
        weights: str | Path | ZeroNetwork = SHIPPED,
        schema: Schema = Schema(),
        n_threads: int | None = None,
        fine_tune: bool = False,
        val_size: int | float = 0.1,
        random_state: Any = 0,
    ) -> None:
        _check_steps(horizon)
        check_point(point)
        check_switch("fine_tune", fine_tune)
        check_switch("nonnegative", nonnegative)
        self.horizon = horizon
        self.alias = alias
        self.nonnegative = nonnegative
        self.point = point
        self.weights = weights
        self.schema = schema
        self.n_threads = n_threads
        self.fine_tune = fine_tune
        self.val_size = val_size
        self.random_state = random_state

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """Those of the network."""
        return self.network_.quantile_levels

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; 1 before ``fit``."""
        if self.state_ is None:
            return 1
        config = self.network_.config
        # A window with covariates is many times as wide, so only the rows of the tokens are read.
        return config.token_context if self.covariate_columns else config.max_context

    @property
    def least_context(self) -> int:
        """Rows at the end of a series among which it must have a value; earlier rows only show its
        seasons.
        """
        return self.network_.config.token_context

    def without_doubtful(self, panel: Panel, fitted: bool) -> Panel:
        """As in every forecaster; other values that are taken for wrong are told."""
        panel = super().without_doubtful(panel, fitted)
        network = network_of(self.weights) if self.state_ is None else self.network_
        n_rows = network.config.token_context
        regression = self.covariate_regression_ if fitted else None
        scattered = regression is not None and regression.leaves_out
        tell_outliers(panel, n_rows, self.covariate_columns.future, scattered=scattered)
        if self.covariate_columns:
            tell_stuck(panel, n_rows)
            tell_stuck_columns(panel)
        tell_unmoving(panel, network.config.max_context)
        return panel

    def _fit(self, panel: Panel, context: FitContext) -> PretrainedFitted:
        _check_steps(self.horizon)
        network = network_of(self.weights)
        require_known(panel, network.config.token_context)
        summary: dict[str, Any] = {}
        if self.fine_tune:
            from tsattn.forecasters.fine_tuning import fine_tune
            from tsattn.limits import plain_torch

            with torch.inference_mode(mode=False), plain_torch():
                network, summary = fine_tune(
                    network,
                    panel,
                    horizon=self.horizon,
                    val_size=self.val_size,
                    random_state=self.random_state,
                    title=self.alias_ if context.verbose else None,
                )
        season = season_length(panel.freq)
        fitted = PretrainedFitted(panel=panel, network=network, season=season, summary=summary)
        return self._with_covariates(fitted) if self.covariate_columns else fitted

    def _with_covariates(self, fitted: PretrainedFitted) -> PretrainedFitted:
        """The fit, and what covariates add to its forecasts."""
        from tsattn.forecasters.covariate_regression import make_encoder
        from tsattn.forecasters.covariate_weights import fit_covariate_regression

        panel = fitted.panel
        encoder = make_encoder(self.covariate_columns, panel)
        # The regressions would follow an outlier, and it would decide which weights seem best.
        n_rows = fitted.network.config.token_context
        future_cols = self.covariate_columns.future
        clean = clean_panel(panel, n_rows, future_cols)
        stricter = clean_panel(panel, n_rows, future_cols, scattered=True)
        differs = not np.array_equal(clean.values, stricter.values, equal_nan=True)
        plain = self.with_state(fitted)
        regression = fit_covariate_regression(
            plain._answer,
            plain.windows,
            clean,
            encoder,
            horizon=self.horizon,
            min_rows=1,
            without_doubtful=stricter if differs else None,
        )
        if regression.leaves_out:
            tell_outliers(panel, n_rows, future_cols, scattered=True)
        return replace(fitted, covariate_regression=regression, encoder=encoder)

    def with_network(self, network: ZeroNetwork, season: int = 0) -> Self:
        """A copy that forecasts windows by a network and was fitted on no table.

        Args:
            network: The network.
            season: Rows of the season that the frequency usually has; 0 where it has none.
        """
        empty_panel = to_panel([0.0], Schema())
        return self.with_state(PretrainedFitted(panel=empty_panel, network=network, season=season))

    def reaching(self, steps: int) -> Self:
        """Itself, or a copy that forecasts so many steps at once."""
        if _check_steps(steps) <= self.horizon:
            return self
        longer = copy.copy(self)
        longer.horizon = steps
        return longer

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        if self.covariate_regression_ is None or covariates is None:
            return self._answer(x, quantiles, self._values)
        columns = columns_beside(x, covariates, self.covariate_columns_.future)
        clean = without_wrong_values(x, columns, self.covariate_regression_.leaves_out)
        point, bounds = self.covariate_regression_.forecast(
            self._answer, clean, quantiles, covariates
        )
        values = self._values(x)
        return values.nearest(point), values.nearest(bounds)

    def _values(self, x: np.ndarray) -> Values:
        """The values that may follow windows ``[B, T, C]``."""
        # A sentinel would hide that a series has only whole numbers, and none below zero.
        values = Values.after(without_outliers(x[:, -self.least_context :]))
        return values.above_zero(values.origin >= 0) if self.nonnegative else values

    def _answer(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        values: Callable[[np.ndarray], Values] | None = None,
    ) -> Answer:
        """Points and quantiles of the network alone; with ``values``, moved to the nearest value
        that may follow.
        """
        n_windows, n_rows, n_channels = x.shape
        # Each channel is a series for itself, [B C, T].
        series = np.moveaxis(x, 2, 1).reshape(n_windows * n_channels, n_rows)
        lengths = n_rows - (~np.isnan(series)).argmax(axis=1)
        # The median is the point.
        between = _Between(self.network_.quantile_levels, (*quantiles, 0.5), self.alias_)
        bounds = np.empty((len(series), self.horizon, len(quantiles) + 1))
        least = self.least_context

        def forecast(rows: np.ndarray) -> None:
            longest = lengths[rows[0]]
            part = series[rows, n_rows - longest :]
            levels = self.network_.forecast(
                torch.from_numpy(part), int(self.horizon), likely=self.season_
            )
            part_bounds = _around_last(between(levels.numpy()), part, self.season_)
            if values is not None:
                allowed = values(part[:, -least:, None])
                part_bounds = allowed.nearest(part_bounds[:, :, None])[:, :, 0]
            bounds[rows] = part_bounds

        _in_threads(forecast, list(_passes(lengths, self.horizon)), self._threads())
        by_channel = bounds.reshape(n_windows, n_channels, *bounds.shape[1:])
        answer = np.moveaxis(by_channel, 1, 2)
        return answer[..., -1], answer[..., :-1]

    def _threads(self) -> int:
        if self.n_threads is None:
            return torch.get_num_threads()
        return check_whole("n_threads", self.n_threads)


class _Between:
    """Quantiles between the levels of a network.

    Args:
        levels: Probabilities of the network's K quantiles, ascending.
        quantiles: The Q probabilities to answer.
        name: The forecaster's name, for an error.

    Raises:
        ValueError: If a quantile lies outside the levels.
    """

    def __init__(self, levels: Sequence[float], quantiles: Sequence[float], name: str) -> None:
        low = levels[0]
        high = levels[-1]
        for q in quantiles:
            if not low - _SAME_PROBABILITY <= q <= high + _SAME_PROBABILITY:
                raise InputError(
                    f"{name} knows the quantiles from {low} to {high}, so levels up to"
                    f" {round(100 * (high - low), 6):g}; got the quantile {q}; ask for one within",
                    InPython(
                        ", or take calibrated ones around its points:"
                        " SplitConformal(PretrainedForecaster(...), n_windows=...)"
                    ),
                )
        trained = np.asarray(levels)
        last = len(trained) - 1
        highest_equal = np.asarray(quantiles) + _SAME_PROBABILITY
        beyond = np.searchsorted(trained, highest_equal, side="right")
        self.lower = np.clip(beyond - 1, 0, last)
        self.upper = np.minimum(self.lower + 1, last)
        self.share = np.zeros(len(quantiles))  # of the way from the lower to the upper level
        z = statistics.NormalDist().inv_cdf
        for place, (k, q) in enumerate(zip(self.lower, quantiles, strict=True)):
            # A quantile on a level takes the level's value to the bit.
            if abs(trained[k] - q) > _SAME_PROBABILITY and k < last:
                low_score = z(trained[k])
                width = z(trained[k + 1]) - low_score
                self.share[place] = (z(q) - low_score) / width

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``[..., Q]`` from values at the levels, ``[..., K]``, which ascend."""
        low = values[..., self.lower]
        high = values[..., self.upper]
        between = low + self.share * (high - low)
        # Rounding must not lift a value beyond the level above.
        return np.minimum(between, high)


def _around_last(bounds: np.ndarray, x: np.ndarray, season: int) -> np.ndarray:
    """Quantiles ``[B, F, Q]``, the median last, moved to the last value of the windows ``[B, T]``
    that no longer move: the network has seen few series that end.
    """
    last = _last_of_ended(x, season)
    ended = np.flatnonzero(~np.isnan(last))
    if not len(ended):
        return bounds
    bounds = bounds.copy()
    distance = last[ended, None, None] - bounds[ended][..., -1:]
    moved = bounds[ended] + distance
    # A move must not bring negative values to a series that has none.
    smallest = np.fmin.reduce(x[ended], axis=1)
    floor = np.where(smallest >= 0, 0.0, -np.inf)
    bounds[ended] = np.maximum(moved, floor[:, None, None])
    return bounds


def _last_of_ended(x: np.ndarray, season: int) -> np.ndarray:
    """The last value of windows ``[B, T]`` that no longer move, NaN of all others, ``[B]``."""
    last = np.full(len(x), np.nan)
    # Few windows end in equal values, and only these are looked at as a whole.
    tail = x[:, -_EQUAL_ROWS:]
    is_equal = np.fmax.reduce(tail, axis=1) == np.fmin.reduce(tail, axis=1)
    equal = np.flatnonzero(is_equal)
    if not len(equal):
        return last
    last[equal] = last_of_ended(x[equal][:, :, None], season)[:, 0]
    ended = equal[~np.isnan(last[equal])]
    # Where the last values stand for missing ones, the series may go on.
    read = without_outliers(x[ended][:, :, None])
    is_left_out = EqualRuns.of(read).last[:, 0] != last[ended]
    last[ended[is_left_out]] = np.nan
    return last


def _passes(lengths: np.ndarray, horizon: int) -> Iterator[np.ndarray]:
    """Rows that pass the network together, the longest first."""
    total = int((lengths + horizon).sum())
    if total > 4 * _LEAST_STEPS:
        # A multiple of four passes keeps two or four threads equally busy.
        n_passes = 4 * _ceil_div(total, 4 * _PASS_STEPS)
    else:
        n_passes = max(_ceil_div(total, _LEAST_STEPS), 1)
    order = np.argsort(-lengths, kind="stable")
    ordered = lengths[order]
    first = 0
    while first < len(order):
        longest = int(ordered[first])
        row_steps = longest + horizon
        n_similar = int(np.searchsorted(-ordered, -_LEAST_SHARE * longest, side="right")) - first
        n_mixed = _MIXED_STEPS // row_steps
        most = _ceil_div(total, n_passes * row_steps)
        count = min(max(n_similar, n_mixed, 1), most)
        yield order[first : first + count]
        first += count


def _ceil_div(total: int, size: int) -> int:
    """The quotient rounded up."""
    return -(-total // size)


def _in_threads(
    work: Callable[[np.ndarray], None], parts: Sequence[np.ndarray], n_threads: int
) -> None:
    """Do the work on each part, one thread a part.

    Torch would put all threads into one part, where they wait for one another at each step. That is
    slow where other processes run.
    """
    from tsattn.limits import IN_SINGLE, limit_threads, plain_torch, thread_pool

    with limit_threads(1), IN_SINGLE, plain_torch():
        if n_threads == 1 or len(parts) < 2:
            for part in parts:
                work(part)
            return
        with thread_pool(min(n_threads, len(parts))) as pool:
            for _ in pool.map(work, parts):
                pass


def _check_steps(horizon: object) -> int:
    steps = check_whole("horizon", horizon)
    if steps > MAX_HORIZON:
        raise ValueError(
            f"horizon must be at most {MAX_HORIZON} steps for a pretrained forecaster; got {steps};"
            " ask for fewer, or resample to longer steps"
        )
    return steps


def network_of(weights: object) -> ZeroNetwork:
    """The network that the setting ``weights`` stands for.

    Args:
        weights: A name, a path, or a network.

    Raises:
        ValueError: If the name or the files are not those of a network.
        TypeError: If it is anything else.
    """
    if isinstance(weights, ZeroNetwork):
        return weights
    if isinstance(weights, Path):
        return read_network(weights)
    if isinstance(weights, str):
        path = Path(weights)
        # A name has neither a separator nor an ending; a file or folder of the same name wins.
        is_name = path.name == weights and "." not in weights and not path.exists()
        return load_network(weights) if is_name else read_network(weights)
    raise TypeError(
        f"weights must be the name of shipped weights such as {SHIPPED!r}, a path, or a network;"
        f" got {type(weights).__name__}"
    )


def fit_without_columns(forecaster: Forecaster, panel: Panel) -> None:
    """Fit a pretrained forecaster without the regressions on columns, which take long.

    Args:
        forecaster: A :class:`PretrainedForecaster` whose schema names columns.
        panel: The series, with these columns.
    """
    from tsattn.forecasters.covariate_regression import CovariateRegression, make_encoder

    panel = panel.keep(forecaster.covariate_columns)
    encoder = make_encoder(forecaster.covariate_columns, panel)
    plain = PretrainedForecaster(forecaster.horizon, point=str(forecaster.point))
    plain.fit(panel.keep(CovariateColumns()))
    regression = CovariateRegression(encoder, forecaster.horizon)
    fitted = plain.revised(panel=panel, encoder=encoder, covariate_regression=regression)
    forecaster.state_ = fitted.state_


def _outliers_of(series: np.ndarray, *, scattered: bool) -> np.ndarray:
    """Whether each value of series ``[B, T]`` is an outlier, perhaps a scattered one.

    On one thread: work on several would let a process that is forked later wait for ever.
    """
    from tsattn.limits import limit_threads

    with limit_threads(1):
        tensor = torch.tensor(series, device="cpu")
        outliers = find_outliers(tensor, scattered=scattered)
    return outliers.numpy()


def without_outliers(
    x: np.ndarray, columns: np.ndarray | None = None, scattered: bool = False
) -> np.ndarray:
    """Windows ``[B, T, C]`` with NaN in place of outliers, which other models would follow, unless
    columns ``[B, T, K]`` explain them (:func:`tsattn.data.sensor_faults.explained`); beside columns
    ``scattered`` ones stay unless it is asked for.
    """
    n_windows, n_rows, n_channels = x.shape
    by_channel = np.ascontiguousarray(np.moveaxis(x, 2, 1))
    series = by_channel.reshape(-1, n_rows)
    has_columns = columns is not None and columns.shape[2] > 0
    outliers = _outliers_of(series, scattered=scattered or not has_columns)
    outliers = outliers.reshape(n_windows, n_channels, n_rows)
    is_outlier = np.moveaxis(outliers, 1, 2)
    if columns is not None and is_outlier.any():
        from tsattn.data.sensor_faults import explained

        is_outlier = is_outlier & ~explained(is_outlier, columns)
    return np.where(is_outlier, np.nan, x)


def without_stuck(x: np.ndarray) -> np.ndarray:
    """Windows ``[B, T, C]`` with NaN in place of the values of a sensor that hangs
    (:func:`tsattn.data.sensor_faults.find_stuck`).
    """
    from tsattn.data.sensor_faults import find_stuck

    return np.where(find_stuck(x), np.nan, x)


def without_wrong_values(
    x: np.ndarray, columns: np.ndarray | None = None, scattered: bool = False
) -> np.ndarray:
    """Windows ``[B, T, C]`` with NaN in place of outliers that no columns ``[B, T, K]`` explain,
    and of the values of a sensor that hangs.
    """
    return without_stuck(without_outliers(x, columns, scattered))


def columns_beside(
    x: np.ndarray, covariates: "CovariateWindows | None", future_cols: Sequence[Hashable]
) -> np.ndarray | None:
    """The future columns beside windows ``[B, T, C]``, ``[B, T, K]``; ``None`` without covariates.

    The calendar, which stands after them, is no reason for an outlier.
    """
    if covariates is None:
        return None
    return covariates.known[:, : x.shape[1], : len(future_cols)]


def _future_columns(panel: Panel, names: Sequence[Hashable]) -> np.ndarray:
    """Some columns of a panel, ``[rows, K]``."""
    if panel.covariates is None:
        return np.empty((len(panel.values), 0))
    places = [panel.covariates.columns.index(name) for name in names]
    return panel.covariates.values[:, places]


def clean_panel(
    panel: Panel, n_rows: int, future_cols: Sequence[Hashable], *, scattered: bool = False
) -> Panel:
    """A panel :func:`without_wrong_values`, in blocks of ``n_rows`` rows from the end of each
    series; columns that are known ahead may explain outliers.
    """
    columns = _future_columns(panel, future_cols)
    values = panel.values.copy()
    for rows in blocks_of(panel, n_rows):
        values[rows] = without_wrong_values(values[rows], columns[rows], scattered)
    return replace(panel, values=values)


def outlier_rows(
    panel: Panel, n_rows: int, future_cols: Sequence[Hashable], *, scattered: bool = False
) -> np.ndarray:
    """Outliers among the last ``n_rows`` rows of series that no columns known ahead explain; beside
    columns ``scattered`` ones are none unless it is asked for.
    """
    find = partial(_outliers_of, scattered=scattered or not future_cols)
    rows = _flagged_rows(panel, n_rows, find)
    return rows[~_explained_rows(panel, rows, future_cols)]


def tell_outliers(
    panel: Panel,
    n_rows: int,
    future_cols: Sequence[Hashable],
    *,
    scattered: bool = False,
    learns: bool = False,
) -> None:
    """Warn once of :func:`outlier_rows`, which are read as missing.

    A network that ``learns`` reads them as they are; then only those far outside the range of all
    other values are told.
    """
    rows = outlier_rows(panel, n_rows, future_cols, scattered=scattered)
    if learns:
        rows = rows[_lie_outside(panel, rows)]
    if not len(rows):
        return
    series = np.unique(panel.owners(rows + 1)).tolist()
    first_row = rows[0]
    remedy: list[Piece] = [
        "; such values are read as missing; correct them, or, if they are right, forecast with ",
        Argument("model", "ets"),
        ", which reads them",
    ]
    if learns:
        remedy = [
            "; a network learns from such values as from all others, and one may spoil all"
            " forecasts; correct them, or forecast with ",
            Argument("model", "zero"),
            ", which reads them as missing",
        ]
    warn(
        InputWarning(
            f"{panel.series_label(series[0])} has {panel.values[first_row, 0]:g} at"
            f" {panel.times[first_row]}, far from its neighbours"
            f"{more(len(rows), len(series))}",
            *remedy,
        )
    )


def _explained_rows(panel: Panel, rows: np.ndarray, future_cols: Sequence[Hashable]) -> np.ndarray:
    """Whether columns that are known ahead explain the outliers in some rows, ``[R]``."""
    from tsattn.data.sensor_faults import explained

    columns = _future_columns(panel, future_cols)
    is_outlier = np.zeros(panel.values.shape, dtype=bool)
    is_outlier[rows] = True
    is_explained = np.zeros_like(is_outlier)
    for n in np.unique(panel.owners(rows + 1)):
        part = slice(panel.starts[n], panel.starts[n + 1])
        is_explained[part] = explained(is_outlier[None, part], columns[None, part])[0]
    return is_explained[rows, 0]


def tell_stuck(panel: Panel, n_rows: int) -> None:
    """Warn once of values of a sensor that hangs among the last ``n_rows`` rows of series, which
    are read as missing.
    """
    rows = _flagged_rows(panel, n_rows, _stuck_of)
    if not len(rows):
        return
    series = np.unique(panel.owners(rows + 1)).tolist()
    first_row = rows[0]
    warn(
        InputWarning(
            f"{panel.series_label(series[0])} repeats {panel.values[first_row, 0]:g} at"
            f" {panel.times[first_row]}{more(len(rows), len(series))}, though it hardly ever does"
            " so else; such values are read as missing; if they are right, forecast with ",
            Argument("model", "ets"),
            ", which reads them",
        )
    )


def tell_unmoving(panel: Panel, n_rows: int) -> None:
    """Warn once of series that end in one value for longer than ever before in the last ``n_rows``
    rows, and whose forecasts stay near this value: medians are equal to it, means nearly so.
    """
    season = season_length(panel.freq)

    def find(series: np.ndarray) -> np.ndarray:
        is_last = np.zeros(series.shape, dtype=bool)
        is_last[:, -1] = ~np.isnan(_last_of_ended(series, season))
        return is_last

    last_rows = _flagged_rows(panel, n_rows, find)
    if not len(last_rows):
        return
    end = last_rows[:1] + 1
    series = panel.owners(end)[0]
    # Its last rows may lack a value.
    runs = EqualRuns.of(History(panel).reaching(end, n_rows))
    warn(
        f"{panel.series_label(series)} has {runs.last[0, 0]:g} in each of its last"
        f" {runs.n_last[0, 0]} rows with a value{more(len(last_rows))}, longer than ever before;"
        " its forecast stays near that; leave the series out if it has ended, or its cells empty if"
        " they stand for missing values"
    )


def tell_stuck_columns(panel: Panel) -> None:
    """Warn once of a column of numbers that hangs, whose effect is not learnt from its rows."""
    stuck = find_stuck_cells(panel)
    if panel.covariates is None or not stuck.any():
        return
    stuck_columns = np.flatnonzero(stuck.any(axis=0))
    place = int(stuck_columns[0])
    name = panel.covariates.columns[place]
    (rows,) = stuck[:, place].nonzero()
    value = panel.covariates.values[rows[0], place]
    others = f" (of {len(stuck_columns)} such columns)" if len(stuck_columns) > 1 else ""
    warn(
        f"column {name!r}{others} repeats {value:g} at {panel.column_places(rows)}, though it"
        " hardly ever does so else; its effect is not learnt from such rows; correct them, or leave"
        " the column out"
    )


def _stuck_of(series: np.ndarray) -> np.ndarray:
    """Whether each value of series ``[B, T]`` is one of a sensor that hangs."""
    from tsattn.data.sensor_faults import find_stuck

    return find_stuck(series[:, :, None])[:, :, 0]


def _flagged_rows(
    panel: Panel, n_rows: int, find: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Rows of a panel that are flagged among the last ``n_rows`` of each series.

    Args:
        panel: The series.
        n_rows: Rows of a series that are searched, from its end.
        find: Whether each value of series ``[B, T]`` is flagged.
    """
    history = History(panel)
    n_series = max(_SEARCHED_VALUES // min(n_rows, int(panel.lengths.max())), 1)
    row_parts = []
    for first in range(1, panel.n_series + 1, n_series):
        ends = panel.starts[first : first + n_series]
        windows = history.reaching(ends, n_rows)[:, :, 0]
        owners, steps = find(windows).nonzero()
        row_parts.append(ends[owners] - windows.shape[1] + steps)
    return np.concatenate(row_parts)


def _lie_outside(panel: Panel, rows: np.ndarray) -> np.ndarray:
    """Whether the values of rows ``[R]`` are farther from the range of all others of their series
    than that range is wide, ``[R]``.
    """
    others = panel.values[:, 0].copy()
    others[rows] = np.nan
    first_rows = panel.starts[:-1]
    smallest = np.fmin.reduceat(others, first_rows)
    largest = np.fmax.reduceat(others, first_rows)
    width = largest - smallest
    series = panel.owners(rows + 1)
    values = panel.values[rows, 0]
    is_low = values < (smallest - width)[series]
    is_high = values > (largest + width)[series]
    return is_low | is_high


def check_histories(x: np.ndarray, reach: int, least: int) -> np.ndarray:
    """The last ``reach`` rows of windows ``[B, T, C]`` that may miss values, as float64.

    Args:
        x: The windows.
        reach: Rows that are read.
        least: Rows among which a channel must have a value.

    Raises:
        ValueError: If the shape is another one, a value is infinite, or a channel of a window has
            none.
    """
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
        window, channel = np.argwhere(empty)[0].tolist()
        raise ValueError(
            f"windows must have a finite value in each channel, among the last {least} rows; got"
            f" none in window {window}, channel {channel}: give a longer history, or leave it out"
        )
    return x
