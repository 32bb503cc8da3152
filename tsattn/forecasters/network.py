"""What the forecasters with a network of their own share: fit, windows, samples, rolling
evaluation.
"""

import hashlib
import json
import random
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.checks import check_whole, warn
from tsattn.data.columns import TableLike
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateWindows
from tsattn.data.future import read_future
from tsattn.data.panel import Panel, places_of, require_length
from tsattn.data.stored import require
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import (
    History,
    TrainingScales,
    known_lengths,
    known_rows,
    least_rows,
    make_scaler,
    require_known,
    tail_of,
)
from tsattn.forecaster import FitContext, Fitted, Forecaster, learnt
from tsattn.forecasters.fitted import UNSCALED_HEADS, FittedNetwork, resolve_device
from tsattn.forecasters.saving import network_from, network_tensors, regression_facts
from tsattn.forecasts import Answer, Data
from tsattn.limits import IN_SINGLE, limit_threads, plain_torch
from tsattn.nn.config import ATTENTION_KINDS, READS, ModelConfig
from tsattn.nn.heads import QUANTILES, QuantileHead, point_loss
from tsattn.random import Generators, seed_from
from tsattn.store import Facts, Saved, Tensors, plain_value
from tsattn.training.settings import Training

if TYPE_CHECKING:  # what only a fit needs is imported by the fit
    from tsattn.data.training_windows import WindowBatches
    from tsattn.forecasters.fitting import FitPlan
    from tsattn.training.state import Checkpoint, Progress

_COURSE = ("epoch", "train_loss", "valid_loss", "learning_rate")
# Windows for which a loss of the user is computed.
_N_LOSS_SAMPLES = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkFitted(Fitted):
    """What a fit of a network of one's own learnt.

    Args:
        model: The network with all that its answers need.
        summary: What was fitted.
        history: Losses and learning rate, one row an epoch.
    """

    model: FittedNetwork
    summary: dict[str, Any]
    history: pd.DataFrame

    @property
    def columns(self) -> CovariateColumns:
        """What the network reads beside the target, the calendar chosen."""
        return self.model.columns

    def tensors(self) -> Tensors:
        """Weights, scales and intervals."""
        return network_tensors(self.model, self.panel)

    def facts(self) -> Facts:
        """The description of the network, and the summary of its training."""
        model = self.model
        return {
            "network": model.config.to_dict(),
            "transform": model.transform.name,
            **regression_facts(model.covariate_regression),
            "summary": plain_value(self.summary),
            "history": self.history.to_dict("list"),
        }

    @classmethod
    def restored(cls, forecaster: "NetworkForecaster", saved: Saved, **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`, on the device of the settings."""
        model = network_from(saved, common["panel"], common["encoder"])
        horizon = forecaster.horizon
        in_range = type(horizon) is int and 1 <= horizon <= model.config.horizon
        require(in_range, f"horizon = {horizon!r:.40}")
        require(type(forecaster.name) is str, f"its own name is {forecaster.name!r:.40}")
        device = resolve_device(forecaster.training.device)
        network = model.network.to(device).eval()
        summary = {}
        for name, value in saved.facts["summary"].items():
            # JSON knows lists only, and ranks and block sizes are tuples.
            summary[name] = tuple(value) if isinstance(value, list) else value
        history = pd.DataFrame(saved.facts["history"])
        return cls(
            **common,
            context=model.config.context,
            model=replace(model, network=network),
            summary=summary,
            history=history,
        )


class NetworkForecaster(Forecaster):
    """A forecaster that trains a network of its own; the subclass carries the constructor and
    describes the network.

    The last ``val_size`` rows of each series decide when to stop and calibrate the intervals;
    scalers and gradients see only the rows before them. Of several series none is cut because
    another is short: the windows of each begin at half of what it has, or at a whole context, and
    what they lack is padded at the front, with missing values where the network leaves them out,
    otherwise with the mean of the window. Series with fewer than 8 rows are forecast by the
    pretrained forecaster, which one warning says.

    Intervals are as wide as the errors on up to 500 validation windows, relative to the movements
    of each window. The series of a table share these errors, each relative to the size of its own
    (:class:`tsattn.evaluate.intervals.SeriesScales`); a series without validation windows, and the
    windows of ``predict_windows``, which do not say whose they are, have the typical size.

    Attributes:
        fitted_: The network with all that its answers need.
        context_: Rows of history a forecast reads; what a shorter series lacks is padded at the
            front.
        summary_: What was fitted: parameters, context, patches, ranks, blocks, epochs, validation
            loss.
        history_: Losses and learning rate, one row an epoch.
    """

    training: Training
    val_size: int | float
    random_state: Any
    # The learning rate where the training names none.
    rate: float
    fitted_class = NetworkFitted
    warm_starts = True
    # A series with fewer rows than ``context_`` is padded, one too short for the network forecast
    # without.
    min_context = 1
    state_: NetworkFitted | None = None

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def _describe(self, context: int, freq: str | int, **derived: Any) -> ModelConfig:
        """The network for a context; ``derived`` are fields that follow from the data."""

    @abstractmethod
    def _shortest_context(self) -> int:
        """Rows that the network reads at least."""

    @property
    def _solved(self) -> bool:
        """Whether a linear map is solved instead of learnt."""
        return False

    @property
    def _kind(self) -> str:
        """What :data:`tsattn.nn.config.READS` calls such a network."""
        return "linear"

    @property
    def _head(self) -> str:
        return "point"

    def _mixed_channels(self, panel: Panel) -> int:
        """Channels that look at one another, 0 if they are independent."""
        return 0

    @property
    def gives_quantiles(self) -> bool:
        """Whether the head gives quantiles, or validation rows were held back for intervals. Before
        a fit this is assumed.
        """
        if self.state_ is None:
            return True
        return self.fitted_.head is not None or self.fitted_.intervals is not None

    @property
    def own_point(self) -> str:
        """A head of quantiles and absolute errors give the median, all others the mean: on a bent
        scale, where the distribution is symmetric, it is the median of the target.
        """
        transform = TargetTransform(self.training.target_transform)
        learns_median = self._head == "quantile" or self.training.loss == "mae"
        return "median" if learns_median or transform.bends else "mean"

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """Those that a head of quantiles trained; many for a distribution; of points those that the
        validation errors support.
        """
        head = self.fitted_.head
        if head is None:
            intervals = self.fitted_.intervals
            usual = super().sampled_quantiles
            return usual if intervals is None else intervals.supported(usual)
        return head.trained if isinstance(head, QuantileHead) else QUANTILES

    # --- what was fitted --------------------------------------------------------------------------

    fitted_: FittedNetwork = learnt("model", "The network with all that its answers need.")
    context_: int = learnt("context", "Rows of history a forecast reads.")
    summary_: dict[str, Any] = learnt("summary", "What was fitted.")
    history_: pd.DataFrame = learnt("history", "Losses and learning rate, one row an epoch.")
    network_ = property(attrgetter("fitted_.network"), doc="The trained network.")
    config_ = property(attrgetter("fitted_.config"), doc="Its description.")

    @property
    def _can_mask(self) -> bool:
        """Whether its network can be told which values are missing."""
        return self._kind == "encoder" and self._head not in UNSCALED_HEADS

    @property
    def covariate_columns(self) -> CovariateColumns:
        """What the next fit reads beside the target; nothing where the network cannot read any.

        Raises:
            ValueError: If the network cannot read what the schema names.
        """
        columns = self.schema.columns
        if self._kind == "linear":
            return columns
        for name in ("past", "future", "static", "calendar"):
            if getattr(columns, name) and name not in READS[self._kind]:
                parameter = name if name == "calendar" else f"{name}_cols"
                raise ValueError(
                    f"a {self._kind} network reads no covariates; got {parameter} ="
                    f" {getattr(columns, name)!r}; use architecture='encoder', or leave them out"
                )
        return columns

    @property
    def masks(self) -> bool:
        """Whether a network that is fitted on a table with missing values leaves them out; one with
        a solved map only where the schema asks for it, since every window may miss a value.
        """
        is_asked = self.schema.missing == "mask"
        return self._can_mask and (is_asked or not self._solved)

    @property
    def masks_(self) -> bool:
        """Whether the fitted network leaves missing values out."""
        return self.config_.masked

    @property
    def nonnegative(self) -> bool:  # type: ignore[override]
        """Whether forecasts are cut off at 0: with any ``target_transform``."""
        if self.state_ is None:
            return self.training.target_transform is not None
        return self.fitted_.transform.name is not None

    @property
    def max_context(self) -> int:
        """``context_`` once fitted, otherwise ``context``; what a shorter window lacks is padded at
        the front.
        """
        return super().min_context

    def check_fitted(self) -> None:
        """Refuse to go on before ``fit``.

        Raises:
            sklearn.exceptions.NotFittedError: If it has not run.
        """
        if self.state_ is None:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit(data) first")
        fitted_kind = self.config_.backbone
        if self.name != fitted_kind:
            raise ValueError(
                f"the network was fitted as {fitted_kind!r}, not as {self.name!r}; fit again, or"
                " set it back"
            )
        self._own_steps()

    # --- answers ----------------------------------------------------------------------------------

    def _checked(self, x: np.ndarray) -> np.ndarray:
        self.check_fitted()
        return self.fitted_.check(x)

    def predict_before(
        self,
        history: History,
        ends: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: CovariateWindows | None = None,
    ) -> Answer:
        """As :meth:`tsattn.forecaster.Forecaster.predict_before`; intervals are scaled as for the
        series, if known.
        """
        panel = history.panel
        owners = panel.owners(ends)
        if not self.looks_across:
            x = self.windows(history, ends)
            cut = covariates and covariates.cut(x.shape[1], self.horizon)
            ids = pd.Index(panel.ids[owners])
            return self._answer_windows(x, quantiles, cut, ids=ids)
        # One window shows all series at a moment, and serves all ends that fall on it.
        rows = ends - panel.starts[owners]
        moments, first, window = np.unique(rows, return_index=True, return_inverse=True)
        x = self.windows(history, panel.starts[0] + moments)
        if covariates is not None:
            covariates = covariates.of(first)
            covariates = covariates.cut(x.shape[1], self.horizon)
        point, bounds = self._answer_windows(x, quantiles, covariates)
        names = pd.Index(panel.ids[owners])
        channel = self.fitted_.ids.get_indexer(names)
        point = point[window, :, channel]
        bounds = bounds[window, :, channel]
        return point[:, :, None], bounds[:, :, None]

    @property
    def looks_across(self) -> bool:
        """Whether the series of a table pass the network together and look at one another."""
        self.check_fitted()
        return self.config_.mixed_channels > 0

    def windows(self, history: History, ends: np.ndarray) -> np.ndarray:
        """As :meth:`tsattn.forecaster.Forecaster.windows`; of series that look at one another, each
        window shows all of them, ``[B, T, N]``.
        """
        if not self.looks_across:
            return super().windows(history, ends)
        panel = history.panel
        owners = panel.owners(ends)
        names = pd.Index(panel.ids)
        places = names.get_indexer(self.fitted_.ids)
        # The rows of the group are counted from its first one.
        group_ends = ends - panel.starts[owners]
        windows = super().windows(history.group, group_ends)
        return windows[:, :, places]

    def own_series(self, point: np.ndarray, panel: Panel) -> np.ndarray:
        """Points ``[N, F, 1, ...]`` of the series of a panel from those of :meth:`windows` at their
        ends, ``[N, F, C, ...]``.
        """
        if not self.looks_across:
            return point
        names = pd.Index(panel.ids)
        channel = self.fitted_.ids.get_indexer(names)
        series = np.arange(panel.n_series)
        own_point = point[series, :, channel]
        return own_point[:, :, None]

    @plain_torch()
    def _forecast(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: CovariateWindows | None,
        ids: pd.Index | None = None,
    ) -> Answer:
        enough = known_rows(x) >= least_rows(self.context_)
        if not enough.all():
            return self._with_simpler(x, quantiles, covariates, ids, enough)
        n_threads = self._threads(self.fitted_, len(x), x.shape[2])
        with limit_threads(n_threads):
            point, bounds = self.fitted_.answer(x, quantiles, covariates, ids)
        # The horizon may have been lowered since the fit.
        point = point[:, : self.horizon]
        bounds = bounds[:, : self.horizon]
        return point, bounds

    def _with_simpler(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: CovariateWindows | None,
        ids: pd.Index | None,
        enough: np.ndarray,
    ) -> Answer:
        """The same answer where only some windows have ``enough`` rows for the network. A simpler
        forecaster answers the others.
        """
        n_windows, _, n_channels = x.shape
        point = np.empty((n_windows, self.horizon, n_channels))
        bounds = np.empty((*point.shape, len(quantiles)))
        if enough.any():
            long_covariates = None if covariates is None else covariates.of(enough)
            long_ids = None if ids is None else ids[enough]
            long_answer = self._forecast(x[enough], quantiles, long_covariates, long_ids)
            point[enough], bounds[enough] = long_answer
        is_short = ~enough
        short_answer = self._simpler().predict_windows(x[is_short], quantiles=quantiles)
        point[is_short], bounds[is_short] = short_answer
        return point, bounds

    def _simpler(self) -> Forecaster:
        """The forecaster of series that are too short for the network."""
        from tsattn.forecasters.pretrained import PretrainedForecaster
        from tsattn.pretrained.weights import SHIPPED, load_network

        simpler = PretrainedForecaster(
            self.horizon, nonnegative=self.nonnegative, n_threads=self.training.n_threads
        )
        network = load_network(SHIPPED)
        return simpler.with_network(network)

    def _tell_short(self, panel: Panel, context: int) -> None:
        """Say that series are too short for the network, and refuse a panel in which all are."""
        least = least_rows(context)
        lengths = known_lengths(panel.last(context))
        too_short = lengths < least
        short = too_short & (lengths > 0)
        if too_short.all():
            require_length(panel, least, f"the context of {self.alias_}")
        elif short.any():
            simpler = self._simpler()
            n_short = int(short.sum())
            warn(
                f"{n_short} of {len(short)} series have fewer than {least} rows of"
                f" history, too few for {self.alias_}; they are forecast by the pretrained"
                f" {simpler.alias_!r}"
            )

    def _threads(self, fitted: FittedNetwork, n_windows: int, n_channels: int) -> int:
        """Threads for windows that pass a network together.

        A small network stays on one thread however many windows it is to forecast: its operations
        stay short ones.
        """
        n_windows = min(n_windows, self.training.batch_size)
        return fitted.choose_threads(self.training.n_threads, n_windows, n_channels)

    def _own_steps(self) -> int:
        """Steps to answer with: ``horizon`` may have been lowered since the fit, not raised."""
        n_trained = self.config_.horizon
        if self.horizon > n_trained:
            raise ValueError(
                f"horizon = {self.horizon} is longer than the {n_trained} steps that"
                " were trained; fit again with the longer horizon"
            )
        return self.horizon

    def read(self, data: Data, *, fitted: bool = False, later: bool = False) -> Panel:
        """A table that the network can read; see :meth:`tsattn.forecaster.Forecaster.read`.

        Raises:
            ValueError: If the table is faulty; for a fitted network also if channels, frequency or
                covariates are not those of the fit.
        """
        panel = super().read(data, fitted=fitted, later=later)
        if not fitted:
            return panel
        fitted_ids = self.fitted_.ids
        if self.looks_across and set(panel.ids) != set(fitted_ids):
            fitted_names = ", ".join(map(str, fitted_ids))
            names = ", ".join(map(str, panel.ids))
            raise ValueError(
                f"the model was fitted on the series {fitted_names}, which"
                f" look at one another; got {names}; give the same series"
            )
        if self.encoder_ is not None:
            self.encoder_.check(panel)
        return panel

    def series(self, data: Data | None = None) -> Panel:
        """The series that ``predict(data)`` continues.

        Raises:
            ValueError: If the table is faulty, not one that the fitted forecaster can read, or its
                series are all too short; if a series or channel has no value among the rows that
                are read.
        """
        panel = super().series(data)
        if data is not None:
            self._tell_short(panel, self.context_)
        return panel

    def require_starts(self, panel: Panel) -> None:
        """Refuse a panel with a series that has no value among the rows that are read.

        Raises:
            BadSeriesError: Naming the series.
        """
        require_known(panel, self.context_)

    @plain_torch()
    def sample(
        self,
        n_samples: int = 100,
        data: Data | None = None,
        *,
        random_state: Any = None,
        future: TableLike | None = None,
    ) -> np.ndarray:
        """Draw from the forecast distribution of a head, each step independently of the others.

        Sums over steps are those of ``total``, whose sample paths have dependent steps.

        Args:
            n_samples: Draws for each step.
            data: Series to continue; ``None`` continues those of ``fit``.
            random_state: Seed; ``None`` draws a new one from the operating system.
            future: As in :meth:`predict`.

        Returns:
            ``[series, horizon, n_samples]`` in the units of the data, in the order of
            :meth:`predict`. Series that are left out come last, with NaN.

        Raises:
            ValueError: If the network has no head, a series is too short, or ``future`` is not
                complete.
        """
        self.check_fitted()
        check_whole("n_samples", n_samples)
        if self.fitted_.head is None:
            raise ValueError(
                "samples need a head that knows a distribution; fit with head='student_t' or"
                " 'quantile'"
            )
        panel = self.series(data)
        steps = self._own_steps()
        least = least_rows(self.context_)
        require_length(panel, least, f"the context of {self.alias_}")
        ends = panel.starts[1:]
        columns = self.covariate_columns_
        future_values = read_future(future, panel, columns, steps, is_new=data is not None)
        covariate_history = self.covariate_history(panel, future_values)
        windows = self.windows(History(panel), ends)
        x = self._checked(windows)
        covariates = None
        if covariate_history is not None:
            covariates = covariate_history.windows(ends, x.shape[1], steps)
        seed = seed_from(random_state)
        generators = Generators.from_seed(seed, torch.device("cpu"))
        ids = pd.Index(panel.ids)
        n_threads = self._threads(self.fitted_, len(x), x.shape[2])
        with limit_threads(n_threads):
            draws = self.fitted_.sample(x, covariates, n_samples, generators.masks, ids)
        own_draws = self.own_series(draws[:, :steps], panel)
        nothing = np.full((len(panel.skipped), steps, n_samples), np.nan)
        return np.concatenate([own_draws[:, :, 0], nothing])  # a series has one channel

    # --- fit --------------------------------------------------------------------------------------

    def _fit(self, panel: Panel, context: FitContext) -> NetworkFitted:
        # Nothing is learnt in the caller's inference mode.
        with torch.inference_mode(mode=False), plain_torch():
            return self._train(panel, context)

    def _plan(self, panel: Panel) -> "tuple[FitPlan, FittedNetwork]":
        """Plan a fit and its network; refuse all that can be refused before there is one."""
        from tsattn.forecasters.fitting import plan_fit

        transform = TargetTransform(self.training.target_transform)
        learning = transform.panel(panel)
        n_mixed = self._mixed_channels(panel)
        plan = plan_fit(
            learning.grouped() if n_mixed else learning,
            horizon=self.horizon,
            context=self.context,
            shortest_context=self._shortest_context(),
            val_size=self.val_size,
            scaled=self._head not in UNSCALED_HEADS,
            columns=None if self._kind == "linear" else self.covariate_columns,
        )
        # A mask costs time, so that a complete table has none, unless the user asks for it. Padding
        # at the front of short series is masked where the network can do so.
        is_asked = self.schema.missing == "mask"
        has_gaps = panel.missing == "mask" and bool(np.isnan(panel.values).any())
        needs_mask = self._can_mask and (has_gaps or plan.padding > 0)
        config = self._describe(
            plan.spec.context,
            panel.freq,
            equivariant=self.training.scale == "window",
            masked=is_asked or needs_mask,
            mixed_channels=n_mixed,
            **plan.covariate_sizes,
        )
        fitted = FittedNetwork(
            nn.Identity(),
            config,
            plan.scaler,
            transform,
            plan.encoder,
            ids=pd.Index(panel.ids),
            by_place=n_mixed > 0,
        )
        return plan, fitted

    def _train(self, panel: Panel, context: FitContext) -> NetworkFitted:
        """A network, fitted from the start or from the weights of the fit before."""
        from tsattn.forecasters.pretrained import tell_outliers
        from tsattn.training.processes import processes_for

        plan, fitted = self._plan(panel)
        self._tell_short(panel, plan.spec.context)
        future_cols = self.covariate_columns.future
        tell_outliers(panel, int(panel.lengths.max()), future_cols, learns=True)
        device = resolve_device(self.training.device, strict=True)
        processes, home = processes_for(self.training.trainer, device)
        seed = seed_from(self.random_state)
        generators = Generators.from_seed(seed, home)
        is_warm = isinstance(context.previous, NetworkFitted)
        fitted = self._start(plan, fitted, generators, context.previous)
        learn, check = plan.batches(
            self.training.batch_size, generators.order, home, masked=fitted.config.masked
        )
        started = time.perf_counter()
        n_channels = plan.panel.n_channels
        with limit_threads(self._threads(fitted, learn.n_windows, n_channels)) as n_threads:
            if self._solved:
                _solve_map(fitted.network.to(home), learn, is_warm=is_warm)
            start_weights = fitted.network.state_dict() if is_warm else {}
            loss_sample = self._loss_sample(fitted.config, home)
            checkpoint = self._checkpoint(panel, generators, seed, start_weights, loss_sample)
            progress = self._run(
                fitted.network,
                learn,
                check,
                title=self.alias_ if context.verbose else None,
                generators=generators,
                device=device,
                checkpoint=checkpoint,
                processes=processes,
                after_epoch=context.after_epoch,
            )
            # A head has quantiles of its own.
            if check is not None and fitted.head is None:
                calibration = plan.calibration()
                fitted = fitted.calibrated(*calibration)
        seconds = time.perf_counter() - started
        summary = self._summarise(fitted, panel, learn, check, progress, seconds, n_threads)
        # Series that look at one another have the same training rows.
        stops = int(plan.stops[0]) if fitted.by_place else plan.stops
        return NetworkFitted(
            panel=tail_of(panel, fitted.config.context),
            context=fitted.config.context,
            encoder=fitted.encoder,
            model=fitted,
            training_scales=TrainingScales.of(panel, stops),
            summary=summary,
            history=pd.DataFrame(progress.history, columns=list(_COURSE)),
        )

    def _start(
        self,
        plan: "FitPlan",
        fitted: FittedNetwork,
        generators: Generators,
        previous: Fitted | None,
    ) -> FittedNetwork:
        """The untrained network, of a warm start with the weights of the fit before."""
        from tsattn.forecasters.fitting import check_same_covariates, start_from
        from tsattn.nn.models import build_model

        with IN_SINGLE:
            network = build_model(fitted.config, generator=generators.init)
        fitted = replace(fitted, network=network)
        if fitted.head is not None:
            fitted.head.check_support(torch.as_tensor(plan.panel.values))
        if isinstance(previous, NetworkFitted):
            start = previous.model
            start_from(fitted.network, fitted.config, start.network, start.config)
            check_same_covariates(plan.encoder, start.encoder)
        return fitted

    def _run(
        self, network: nn.Module, learn: "WindowBatches", check: "WindowBatches | None", **how: Any
    ) -> "Progress":
        """Train; nothing is done where every weight is held."""
        from tsattn.training.state import Progress

        is_learning = any(parameter.requires_grad for parameter in network.parameters())
        if not is_learning:
            network.eval()
            return Progress()
        chance = random.getstate()
        from tsattn.training.loop import train

        random.setstate(chance)  # Lightning loads rich, which draws while it is imported
        rate = self.training.learning_rate
        if rate is None:
            rate = self.rate
        training = self.training.changed(learning_rate=rate)
        return train(network, learn, check, training, **how)

    def _loss_sample(self, config: ModelConfig, device: torch.device) -> str:
        """What a loss of the user gives for drawn values, since its name does not identify it."""
        loss = self.training.own_loss
        if loss is None or self.training.checkpoint_dir is None:
            return ""
        shape = (2, _N_LOSS_SAMPLES, config.horizon, config.mixed_channels or 1)
        generator = torch.Generator().manual_seed(0)
        points, truth = torch.randn(shape, generator=generator, dtype=torch.float32).to(device)
        with torch.no_grad():
            mean = point_loss(points, truth, kind=loss)
        # Devices differ in the last digits.
        return f"{float(mean):.5g}"

    def _checkpoint(
        self,
        panel: Panel,
        generators: Generators,
        seed: int | None,
        start: Tensors,
        loss_sample: str,
    ) -> "Checkpoint | None":
        folder = self.training.checkpoint_dir
        if folder is None:
            return None
        from tsattn.training.state import Checkpoint

        facts = self.get_params()
        # The fields of the groups stand beside them, and these may change while a fit goes on.
        groups = ("network", "training", "schema")
        changeable = ("training__checkpoint_dir", "training__max_time", "training__n_threads")
        for name in ("alias", *groups, *changeable):
            facts.pop(name, None)
        # What was drawn of a generator, which has no words of its own.
        facts["random_state"] = seed
        facts_text = json.dumps(facts, sort_keys=True, default=repr)
        text = facts_text + loss_sample + panel.fingerprint()
        key = hashlib.sha256(text.encode())
        # A warm start is another fit than the one before.
        for weights in start.values():
            array = weights.cpu().numpy()
            key.update(array.tobytes())
        return Checkpoint(Path(folder), key.hexdigest(), generators)

    def _summarise(
        self,
        fitted: FittedNetwork,
        panel: Panel,
        learn: "WindowBatches",
        check: "WindowBatches | None",
        progress: "Progress",
        seconds: float,
        n_threads: int,
    ) -> dict[str, Any]:
        from tsattn.nn.scores import LevelScore

        config = fitted.config
        n_parameters = sum(parameter.numel() for parameter in fitted.network.parameters())
        facts = {
            "model": self.alias_,
            "parameters": n_parameters,
            "context": config.context,
            "horizon": self.horizon,
            "series": panel.n_series,
            "frequency": panel.freq,
            "train_windows": learn.n_windows,
            "valid_windows": 0 if check is None else check.n_windows,
            "epochs": progress.epoch,
            "best_epoch": progress.best_epoch,
            "valid_loss": progress.best_score,
            "timed_out": progress.timed_out,
            "fit_seconds": seconds,
            "device": str(resolve_device(self.training.device)),
            "threads": n_threads,
        }
        if config.backbone in ATTENTION_KINDS:
            facts["patches"] = config.n_tokens
        modules = fitted.network.modules()
        scores = [module for module in modules if isinstance(module, LevelScore)]
        if scores:
            # All layers have the same levels.
            levels = scores[0].levels
            facts |= {"ranks": levels.ranks, "block_sizes": levels.block_sizes}
        return facts

    # --- afterwards -------------------------------------------------------------------------------

    def _continued(self, panel: Panel) -> Self:
        """As in every forecaster; a series that the network cannot read is told."""
        self._tell_short(panel, self.context_)
        places = places_of(self.panel_.ids, panel.ids)
        model = self.fitted_
        same_series = np.array_equal(places, np.arange(self.panel_.n_series))
        if not same_series and not model.by_place:
            scaler = model.scaler.at(places, make_scaler(panel))
            model = replace(model, scaler=scaler, ids=pd.Index(panel.ids))
        tail = tail_of(panel, self.context_)
        return self.revised(panel=tail, model=model)

    def cross_validation(
        self,
        df: Data,
        *,
        n_windows: int = 1,
        step_size: int = 1,
        refit: bool | int = False,
        level: float | Sequence[float] | None = None,
        quantiles: float | Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast from several cutoffs, each on the rows before it; this estimator itself stays as
        it is.

        Args:
            df: A long or wide frame, or a panel.
            n_windows, step_size, refit, level, quantiles: As in
                :func:`tsattn.evaluate.backtest.backtest`.

        Returns:
            Long frame with id, time, ``cutoff`` (last row used), target, and the forecast columns.
        """
        from tsattn.evaluate.backtest import backtest

        result = backtest(
            self,
            df,
            n_windows=n_windows,
            step_size=step_size,
            refit=refit,
            level=level,
            quantiles=quantiles,
        )
        return result.frame


def _solve_map(network: nn.Module, learn: "WindowBatches", *, is_warm: bool) -> None:
    """Solve the linear map of a network.

    A warm start keeps its map: what its transformer has learnt is what that map left over.
    """
    from tsattn.forecasters.fitting import hold_linear, solve_linear

    has_map = is_warm and hold_linear(network)
    if not has_map:
        solve_linear(network, learn)
