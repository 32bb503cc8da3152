"""What the forecasters with a network of their own share: fit, windows, samples, rolling
evaluation, saved folders.
"""

import copy
import hashlib
import json
import random
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateWindows
from tsattn.data.frames import Panel, TableLike, require_length
from tsattn.data.future import read_future
from tsattn.data.windows import (
    History,
    Scaler,
    known_lengths,
    known_rows,
    least_rows,
    make_scaler,
    require_known,
)
from tsattn.forecaster import Forecaster
from tsattn.forecasters.fitted import UNSCALED_HEADS, FittedNetwork, resolve_device, tail_of
from tsattn.forecasters.naive import check_rows
from tsattn.limits import IN_SINGLE, limit_threads
from tsattn.nn.config import ATTENTION_KINDS, READS, ModelConfig
from tsattn.random import Generators, seed_from
from tsattn.training.settings import Training

if TYPE_CHECKING:  # what only a fit needs is imported by the fit
    from tsattn.data.windows import WindowBatches
    from tsattn.forecasters.fitting import FitPlan
    from tsattn.training.state import Checkpoint, Progress

_COURSE = ("epoch", "train_loss", "valid_loss", "learning_rate")


class NetworkForecaster(Forecaster):
    """A forecaster that trains a network of its own; the subclass carries the constructor and
    describes the network.

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
    # Called after each epoch; what it raises ends the fit.
    _after_epoch: Callable[[Any], None] | None = None

    fitted_: FittedNetwork
    score_scaler_: Scaler
    context_: int
    summary_: dict[str, Any]
    history_: pd.DataFrame

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

    # --- what was fitted --------------------------------------------------------------------------

    network_ = property(attrgetter("fitted_.network"), doc="The trained network.")
    config_ = property(attrgetter("fitted_.config"), doc="Its description.")

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
    def covariate_columns_(self) -> CovariateColumns:
        """What the fitted network reads beside the target, its calendar chosen."""
        return self.fitted_.columns if "fitted_" in vars(self) else self.covariate_columns

    @property
    def masks(self) -> bool:
        """Whether missing values are left out of account: of the fitted network, or of one that
        would be fitted.
        """
        return self.config_.masked if "fitted_" in vars(self) else self._kind == "encoder"

    @property
    def nonnegative(self) -> bool:  # type: ignore[override]
        """Whether forecasts are cut off at 0: with any ``target_transform``."""
        name = (
            self.fitted_.transform.name
            if "fitted_" in vars(self)
            else self.training.target_transform
        )
        return name is not None

    @property
    def min_context(self) -> int:
        """One row: a series with fewer than ``context_`` is padded, one too short for the network
        forecast without.
        """
        return 1

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
        if "fitted_" not in vars(self):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                f"{type(self).__name__} is not fitted; call fit(data) before predict"
            )
        if (asked := getattr(self, "attention", getattr(self, "kind", None))) != (
            known := self.config_.backbone
        ):
            raise ValueError(
                f"the network was fitted as {known!r}, not as {asked!r}; fit again, or set it back"
            )
        self._own_steps()

    def __sklearn_is_fitted__(self) -> bool:
        return "fitted_" in vars(self)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

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
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`tsattn.forecaster.Forecaster.predict_before`; intervals are scaled as for the
        series, if known.
        """
        self.check_fitted()
        if self.fitted_.sizes is None:
            return super().predict_before(history, ends, quantiles=quantiles, covariates=covariates)
        x = self.windows(history, ends)
        places = self.fitted_.sizes.places(history.panel, ends)
        given = covariates and covariates.cut(x.shape[1], self.horizon)
        return self._answer_windows(x, quantiles, given, places=places)

    def _forecast(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: CovariateWindows | None,
        places: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        enough = known_rows(x) >= least_rows(self.context_)
        if not enough.all():
            return self._with_simpler(x, quantiles, covariates, places, enough)
        with limit_threads(self._threads(self.fitted_, len(x), x.shape[2])):
            point, bounds = self.fitted_.answer(x, quantiles, covariates, places)
        return point[:, : self.horizon], bounds[:, : self.horizon]

    def _with_simpler(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: CovariateWindows | None,
        places: np.ndarray | None,
        enough: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same where only some windows show the network ``enough``; a simpler forecaster takes
        the others.
        """
        point = np.empty((len(x), self.horizon, x.shape[2]))
        bounds = np.empty((*point.shape, len(quantiles)))
        if enough.any():
            whose = None if places is None else places[enough]
            beside = covariates and covariates.of(enough)
            point[enough], bounds[enough] = self._forecast(x[enough], quantiles, beside, whose)
        point[~enough], bounds[~enough] = self._simpler().predict_windows(
            x[~enough], quantiles=quantiles
        )
        return point, bounds

    def _simpler(self) -> Forecaster:
        """The forecaster of series that are too short for the network."""
        from tsattn.forecasters.pretrained import PretrainedForecaster
        from tsattn.pretrained.weights import SHIPPED, load_network

        simpler = PretrainedForecaster(
            self.horizon, nonnegative=self.nonnegative, n_threads=self.training.n_threads
        )
        simpler.network_ = load_network(SHIPPED)
        return simpler

    def _tell_short(self, panel: Panel, context: int) -> None:
        """Say that series are too short for the network, and refuse a panel in which all are."""
        least = least_rows(context)
        short = known_lengths(panel.last(context)) < least
        if short.all():
            require_length(panel, least, f"the context of {self.alias_}")
        elif short.any():
            simpler = self._simpler()
            warnings.warn(
                f"{int(short.sum())} of {len(short)} series have fewer than {least} rows of"
                f" history, too few for {self.alias_}; they are forecast by the pretrained"
                f" {simpler.alias_!r}",
                stacklevel=4,
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
        if self.horizon > self.config_.horizon:
            raise ValueError(
                f"horizon = {self.horizon} is longer than the {self.config_.horizon} steps that"
                " were trained; fit again with the longer horizon"
            )
        return self.horizon

    def read(self, data: TableLike | Panel, *, fitted: bool = False) -> Panel:
        """A table that the network can read; see :meth:`tsattn.forecaster.Forecaster.read`.

        Raises:
            ValueError: If the table is faulty; for a fitted network also if channels, frequency or
                covariates are not those of the fit.
        """
        panel = super().read(data, fitted=fitted)
        if not fitted:
            return panel
        known = self.panel_
        if known.dialect.kind == "wide" and panel.channels != known.channels:
            raise ValueError(
                f"the model was fitted on the channels {', '.join(known.channels)}; got"
                f" {', '.join(panel.channels)}; give the same columns in the same order"
            )
        regression = self.fitted_.covariate_regression
        encoder = self.fitted_.encoder if regression is None else regression.encoder
        if encoder is not None:
            encoder.check(panel)
        return panel

    def series(self, data: TableLike | Panel | None = None) -> Panel:
        """The series that ``predict(data)`` continues.

        Raises:
            ValueError: If the table is faulty, not one that the fitted forecaster can read, or its
                series are all too short; if a series or channel has no value among the rows that
                are read.
        """
        panel = super().series(data)
        require_known(panel, self.context_)
        if data is not None:
            self._tell_short(panel, self.context_)
        return panel

    def sample(
        self,
        data: TableLike | Panel | None = None,
        *,
        n_samples: int = 100,
        random_state: Any = None,
        future: TableLike | None = None,
    ) -> np.ndarray:
        """Draws from the forecast of a distribution or quantile head, steps independent of one
        another.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            n_samples: Draws for each step.
            random_state: Seed; ``None`` draws a new one from the operating system.
            future: As in :meth:`predict`.

        Returns:
            ``[series, horizon, channels, n_samples]`` in original units.

        Raises:
            ValueError: If the head knows points only, a series is too short, or ``future`` is not
                complete.
        """
        self.check_fitted()
        check_rows("n_samples", n_samples, 1)
        if self.fitted_.head is None:
            raise ValueError(
                "samples need a head that knows a distribution; fit with head='student_t' or"
                " 'quantile'"
            )
        panel = self.series(data)
        steps = self._own_steps()
        require_length(panel, least_rows(self.context_), f"the context of {self.alias_}")
        source = self.covariate_history(
            panel, read_future(future, panel, self.covariate_columns_, steps)
        )
        x = self._checked(self.windows(History(panel), panel.starts[1:]))
        covariates = None if source is None else source.windows(panel.starts[1:], x.shape[1], steps)
        generator = Generators.from_seed(seed_from(random_state), torch.device("cpu")).masks
        with limit_threads(self._threads(self.fitted_, len(x), x.shape[2])):
            return self.fitted_.sample(x, covariates, n_samples, generator)[:, : self.horizon]

    # --- fit --------------------------------------------------------------------------------------

    def fit(
        self,
        data: TableLike | Panel,
        y: None = None,
        *,
        warm_start: bool = False,
        verbose: bool = False,
    ) -> Self:
        """Learn from every series of ``data``; what was learnt before is forgotten, unless
        ``warm_start`` is set.

        The last ``val_size`` rows of each series decide when to stop and calibrate the intervals;
        scalers and gradients see only the rows before them. Of several series none is cut because
        another is short: the windows of each begin at half of what it has, or at a whole context,
        and what they lack is padded at the front, with missing values where the network leaves them
        out, otherwise with the mean of the window. Series with fewer than 8 rows are forecast by
        the pretrained forecaster, which one warning says.

        Intervals are as wide as the errors on up to 500 validation windows, relative to the
        movements of each window. The series of a long table share these errors, each relative to
        the size of its own (:class:`tsattn.evaluate.intervals.SeriesScales`); a series without
        validation windows, and the windows of ``predict_windows``, which do not say whose they are,
        have the typical size.

        Args:
            data: A long or wide frame, or a panel.
            y: Ignored; scikit-learn passes it.
            warm_start: Go on from the weights of the fit before, if there was one.
            verbose: Show progress on stderr where that is a terminal.

        Raises:
            ValueError: If a parameter or the table is not usable; nothing has been trained then,
                and a fit that fails or is interrupted leaves the one before it.
        """
        fresh = copy.copy(self)
        vars(fresh).pop(
            "fitted_", None
        )  # whether missing values are left out is the next network's matter
        panel = Forecaster.read(fresh, data)
        with torch.inference_mode(mode=False):  # nothing is learnt in the caller's
            fitted, results = self._train(
                panel, warm=warm_start and "fitted_" in vars(self), verbose=verbose
            )
        for name in [
            name for name in vars(self) if name.endswith("_") and not name.startswith("_")
        ]:
            delattr(self, name)
        self.fitted_, self.context_ = fitted, fitted.config.context
        self.panel_, self.panel_in_ = tail_of(panel, self.context_), isinstance(data, Panel)
        for name, value in results.items():
            setattr(self, name, value)
        return self

    def _learn(self, panel: Panel) -> None:
        # fit does all itself: it changes nothing before the last step has succeeded
        raise NotImplementedError

    def _plan(self, panel: Panel) -> "tuple[FitPlan, FittedNetwork]":
        """All of a fit that can be refused before there is a network, and what it will fill."""
        from tsattn.data.transforms import TargetTransform
        from tsattn.forecasters.fitting import plan_fit

        transform = TargetTransform(self.training.target_transform)
        plan = plan_fit(
            transform.panel(panel),
            horizon=self.horizon,
            context=self.context,
            shortest_context=self._shortest_context(),
            val_size=self.val_size,
            scaled=self._head not in UNSCALED_HEADS,
            columns=None if self._kind == "linear" else self.covariate_columns,
        )
        wide = panel.dialect.kind == "wide"
        can_mask = self._kind == "encoder" and self._head not in UNSCALED_HEADS
        config = self._describe(
            plan.spec.context,
            panel.freq,
            equivariant=not wide,
            masked=panel.missing == "mask" or (can_mask and plan.padding > 0),
            mixed_channels=self._mixed_channels(panel),
            **plan.covariate_sizes,
        )
        n_channels = panel.n_channels if wide else None
        return plan, FittedNetwork(
            nn.Identity(), config, plan.scaler, transform, plan.encoder, None, n_channels
        )

    def _train(
        self, panel: Panel, *, warm: bool, verbose: bool
    ) -> tuple[FittedNetwork, dict[str, Any]]:
        """A fitted network and the other attributes of a fit."""
        from tsattn.forecasters.fitting import (
            check_same_covariates,
            hold_linear,
            solve_linear,
            start_from,
        )
        from tsattn.nn.models import build_model
        from tsattn.training.processes import processes_for

        plan, fitted = self._plan(panel)
        self._tell_short(panel, plan.spec.context)
        device = resolve_device(self.training.device, strict=True)
        processes, home = processes_for(self.training.trainer, device)
        seed = seed_from(self.random_state)
        generators = Generators.from_seed(seed, home)
        with IN_SINGLE:
            fitted.network = build_model(fitted.config, generator=generators.init)
        if fitted.head is not None:
            fitted.head.check_support(torch.as_tensor(plan.panel.values))
        if warm:
            start_from(fitted.network, fitted.config, self.network_, self.config_)
            check_same_covariates(plan.encoder, self.fitted_.encoder)
        learn, check = plan.batches(
            self.training.batch_size, generators.order, home, masked=fitted.config.masked
        )
        started = time.perf_counter()
        with limit_threads(self._threads(fitted, learn.n_windows, panel.n_channels)) as n_threads:
            # What the transformer of a warm start has learnt is what the map of the last fit left
            # over.
            if self._solved and not (warm and hold_linear(fitted.network.to(home))):
                solve_linear(fitted.network.to(home), learn)
            checkpoint = self._checkpoint(
                panel, generators, seed, fitted.network.state_dict() if warm else {}
            )
            how = {
                "generators": generators,
                "device": device,
                "checkpoint": checkpoint,
                "processes": processes,
            }
            progress = self._run(
                fitted.network, learn, check, title=self.alias_ if verbose else None, **how
            )
            if check is not None and fitted.head is None:
                fitted.calibrate(*plan.calibration())
        summary = self._summarise(
            fitted, panel, learn, check, progress, time.perf_counter() - started, n_threads
        )
        history = pd.DataFrame(progress.history, columns=list(_COURSE))
        return fitted, {
            "score_scaler_": make_scaler(panel, plan.stops),
            "summary_": summary,
            "history_": history,
        }

    def _run(
        self, network: nn.Module, learn: "WindowBatches", check: "WindowBatches | None", **how: Any
    ) -> "Progress":
        """Train; nothing is done where every weight is held."""
        from tsattn.training.state import Progress

        if not any(parameter.requires_grad for parameter in network.parameters()):
            network.eval()
            return Progress()
        chance = random.getstate()
        from tsattn.training.loop import train

        random.setstate(chance)  # Lightning loads rich, which draws while it is imported
        rate = self.rate if self.training.learning_rate is None else self.training.learning_rate
        training = self.training.changed(learning_rate=rate)
        return train(network, learn, check, training, **how, after_epoch=self._after_epoch)

    def _checkpoint(
        self, panel: Panel, generators: Generators, seed: int | None, start: dict[str, torch.Tensor]
    ) -> "Checkpoint | None":
        folder = self.training.checkpoint_dir
        if folder is None:
            return None
        from tsattn.training.state import Checkpoint

        beside = {
            "alias",
            *(f"training__{name}" for name in ("checkpoint_dir", "max_time", "n_threads")),
        }  # may change
        groups = {"network", "training", "schema"}
        facts = {
            name: value for name, value in self.get_params().items() if name not in beside | groups
        }
        facts["random_state"] = seed  # what was drawn of a generator, which has no words of its own
        text = json.dumps(facts, sort_keys=True, default=repr) + panel.fingerprint()
        key = hashlib.sha256(text.encode())
        for weights in start.values():  # a warm start is another fit than the one before
            key.update(weights.cpu().numpy().tobytes())
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
        facts: dict[str, Any] = {
            "model": self.alias_,
            "parameters": sum(p.numel() for p in fitted.network.parameters()),
            "context": config.context,
            "horizon": self.horizon,
            "series": panel.n_series,
            "channels": len(panel.channels),
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
        scores = [m for m in fitted.network.modules() if isinstance(m, LevelScore)]
        if scores:
            facts |= {"ranks": scores[0].levels.ranks, "block_sizes": scores[0].levels.block_sizes}
        return facts

    # --- afterwards -------------------------------------------------------------------------------

    def update(self, data: TableLike | Panel) -> Self:
        """Take in rows that have come since ``fit``, without refitting; later forecasts start after
        them.

        Args:
            data: The next rows of known series, as a frame or panel of the fitted kind, covariates
                included; rows that are known already count as they stand in ``data``, where they
                have a value. Series may be new.

        Raises:
            ValueError: If rows are missing in between or the channels differ. Nothing is changed
                then.
        """
        from tsattn.data.joining import continued_panel

        self.check_fitted()
        panel = continued_panel(self.panel_, self.read(data, fitted=True), self.context_)
        self._tell_short(panel, self.context_)
        places = pd.Index(self.panel_.ids).get_indexer(pd.Index(panel.ids))
        if not np.array_equal(places, np.arange(self.panel_.n_series)):
            own = make_scaler(panel)
            self.fitted_ = replace(self.fitted_, scaler=self.fitted_.scaler.at(places, own))
            self.score_scaler_ = self.score_scaler_.at(places, own)
        self.panel_ = tail_of(panel, self.context_)
        return self

    def cross_validation(
        self,
        df: TableLike | Panel,
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

        asked: dict[str, Any] = {"n_windows": n_windows, "step_size": step_size, "refit": refit}
        return backtest(self, df, **asked, level=level, quantiles=quantiles).frame

    def score(self, df: TableLike | Panel, y: None = None) -> float:
        """Minus the mean absolute error over every window of ``df``, on the training-standardised
        scale.

        Series that ``fit`` has not seen are standardised by their own statistics.
        """
        from tsattn.data.windows import WindowSpec
        from tsattn.evaluate.rolling import roll

        self.check_fitted()
        panel = self.read(df, fitted=True)
        whole = int(panel.lengths.min()) >= self.context_ + self.horizon
        spec = WindowSpec(self.context_, self.horizon, None if whole else least_rows(self.context_))
        ends = spec.ends(panel.starts, np.zeros(panel.n_series, dtype=np.int64), panel.lengths)
        if not len(ends):
            require_length(panel, spec.length, "score needs a context and a horizon")
        scaler = self.score_scaler_
        if panel.dialect.kind == "long":
            scaler = scaler.at(
                pd.Index(self.panel_.ids).get_indexer(pd.Index(panel.ids)), make_scaler(panel)
            )
        return -roll(self, panel, ends, scaler=scaler, keep=False).mae

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster into a folder: ``model.safetensors`` and ``config.json``, no
        pickle.

        Args:
            path: The folder; an older save there is replaced in one step.
        """
        from tsattn.forecasters.saving import fitted_files, plain_value, write_model

        self.check_fitted()
        tensors, facts = fitted_files(self.fitted_, self.panel_, self.score_scaler_)
        facts |= {
            "parameters": plain_value(self.get_params(deep=False)),
            "panel_in": self.panel_in_,
            "summary": plain_value(self.summary_),
            "history": self.history_.to_dict("list"),
        }
        write_model(Path(path), type(self).__name__, tensors, facts)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, on any machine; it runs no code from the files.

        Raises:
            ValueError: If files are missing, damaged or of another class.
        """
        from tsattn.forecasters.saving import (
            check_trained,
            fitted_from,
            made_of,
            read_model,
            require,
        )

        def rebuild(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
            forecaster = cls(**made_of(cls, facts["parameters"]))
            fitted, panel, score_scaler = fitted_from(facts, tensors)
            check_trained(forecaster.horizon, forecaster.alias, fitted.config)
            require(type(forecaster.name) is str, f"its own name is {forecaster.name!r:.40}")
            device = resolve_device(forecaster.training.device)
            forecaster.fitted_ = replace(fitted, network=fitted.network.to(device).eval())
            forecaster.score_scaler_, forecaster.context_ = score_scaler, fitted.config.context
            require(type(facts["panel_in"]) is bool, "panel_in")
            forecaster.panel_, forecaster.panel_in_ = panel, facts["panel_in"]
            forecaster.summary_ = {
                k: tuple(v) if isinstance(v, list) else v for k, v in facts["summary"].items()
            }
            forecaster.history_ = pd.DataFrame(facts["history"])
            return forecaster

        found: Self = read_model(Path(path), cls.__name__, rebuild)
        return found
