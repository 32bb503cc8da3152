"""What do all trained forecasters do alike? Fit, predict, cross-validate, score, save and load."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import Panel, require_length
from tsattn.data.future import future_frame, missing_frame
from tsattn.data.joining import continued_panel
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import Scaler, WindowBatches, WindowSpec, make_scaler
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import StepIntervals
from tsattn.evaluate.rolling import roll
from tsattn.forecaster import Forecast, answer, check_horizon, panel_for
from tsattn.forecasters.fitting import FitPlan, check_same_covariates, plan_fit, solve_linear, start_from, tail_of
from tsattn.forecasters.inference import WindowForecaster
from tsattn.forecasters.saving import load_forecaster, save_forecaster
from tsattn.limits import check_threads, limit_threads, seconds_from
from tsattn.nn.config import ATTENTION_KINDS, READS, ModelConfig
from tsattn.nn.heads import DistributionHead
from tsattn.nn.models import LinearModel, PatchEncoder, build_model
from tsattn.random import Generators, seed_from
from tsattn.training.loop import TrainConfig, train
from tsattn.training.processes import processes_for
from tsattn.training.state import Checkpoint, Progress

_COURSE = ("epoch", "train_loss", "valid_loss", "learning_rate")


class TrainedForecaster(WindowForecaster):
    """What the trained forecasters share; the subclass says which network and carries the constructor."""

    horizon: int
    context: int | None
    loss: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_epochs: int
    patience: int | None
    val_size: int | float
    missing: str
    id_col: str
    time_col: str
    target_col: str
    freq: str | int | None
    device: str
    random_state: Any
    alias: str | None
    checkpoint_dir: str | Path | None
    verbose: bool
    target_transform: str | None
    max_time: str | float | None
    warm_start: bool
    precision: str | None
    trainer: Any

    @property
    def covariate_columns(self) -> CovariateColumns:
        """What the next fit reads beside the target, as the constructor was told; nothing where it takes no columns.

        Raises:
            ValueError: If they are no lists of names, or the network cannot read what they name.
        """
        names = ("past_cols", "future_cols", "static_cols", "calendar")
        columns = CovariateColumns.checked(*(getattr(self, name, ()) for name in names))
        kind = getattr(self, "architecture", "linear")
        for name in names:
            what = name.removesuffix("_cols")
            if getattr(columns, what) and what not in READS.get(kind, READS["encoder"]):
                raise ValueError(
                    f"a {kind} network reads no covariates; got {name} = {getattr(self, name)!r}; use"
                    " architecture='encoder', or leave them out"
                )
        return columns

    def _model_config(self, context: int, *, equivariant: bool, freq: str | int) -> ModelConfig:
        raise NotImplementedError

    def _shortest_context(self) -> int:
        raise NotImplementedError

    def _plan(self, panel: Panel) -> tuple[TrainConfig, TargetTransform, FitPlan, ModelConfig]:
        """All of a fit that can be refused before there is a network."""
        config = self._train_config()
        if self.n_threads is not None:
            check_threads(self.n_threads)
        transform = TargetTransform(self.target_transform)
        plan = plan_fit(
            transform.panel(panel),
            horizon=self.horizon,
            context=self.context,
            shortest_context=self._shortest_context(),
            val_size=self.val_size,
            scaled=self._scaled,
            columns=self.covariate_columns,
        )
        long = panel.dialect.kind == "long"
        model_config = self._model_config(plan.spec.context, equivariant=long, freq=panel.freq)
        sizes: dict[str, Any] = plan.covariate_sizes | {"mixed_channels": self._mixed_channels(panel)}
        return config, transform, plan, replace(model_config, **sizes)

    def fit(self, data: pd.DataFrame | Panel, y: None = None) -> Self:
        """Learn from every series of ``data``; what was learnt before is forgotten, unless ``warm_start`` is set.

        The last ``val_size`` rows of each series decide when to stop and calibrate the intervals; scalers and
        gradients see only the rows before them.

        Args:
            data: A long or wide frame, or a panel.
            y: Ignored; scikit-learn passes it.

        Returns:
            The fitted forecaster.

        Raises:
            ValueError: If a parameter or the table is not usable; nothing has been trained then.
        """
        panel = panel_for(self, data)
        config, transform, plan, model_config = self._plan(panel)
        device = self.resolve_device(strict=True)
        processes, home = processes_for(self.trainer, device)
        generators = Generators.from_seed(seed_from(self.random_state), home)
        network = build_model(model_config, generator=generators.init)
        self._check_support(network, plan)
        warm = self.warm_start and hasattr(self, "network_")
        if warm:
            start_from(network, model_config, self.network_, self.config_)
            check_same_covariates(plan.encoder, self.covariates_)
        learn, check = plan.batches(self.batch_size, generators.order, home)
        started = time.perf_counter()
        with limit_threads(self._choose_threads(network, model_config, learn.n_windows, panel.n_channels)) as n_threads:
            if self._solved:
                self._solve(network.to(home), learn, warm=warm)
            progress = self._nothing_to_train(network) or train(
                network,
                learn,
                check,
                config,
                generators=generators,
                device=device,
                checkpoint=self._checkpoint(panel, generators),
                title=str(self.alias_) if self.verbose else None,
                processes=processes,
                after_epoch=getattr(self, "_after_epoch", None),  # tuning looks on, and may end a hopeless fit
            )
        # Only now: a fit that fails or is interrupted leaves the one before it.
        self._forget()
        self.config_, self.network_, self.scaler_ = model_config, network, plan.scaler
        self.covariates_ = plan.encoder
        self.transform_, self.score_scaler_ = transform, make_scaler(panel, plan.stops)
        self.context_, self.panel_in_ = plan.spec.context, isinstance(data, Panel)
        self.panel_ = tail_of(panel, self.context_)
        self.history_ = pd.DataFrame(progress.history, columns=list(_COURSE))
        calibrated = check is not None and self._head is None
        with limit_threads(n_threads):
            self.intervals_ = self._calibrate(plan) if calibrated else None
        self.summary_ = self._summarise(learn, check, progress, time.perf_counter() - started, n_threads)
        return self

    def update(self, data: pd.DataFrame | Panel) -> Self:
        """Take in rows that have come since ``fit``, without refitting; later forecasts start after them.

        Args:
            data: The next rows of known series, as a frame or panel of the fitted kind, covariates included; rows that
                are known already count as they stand in ``data``. Series that ``fit`` has not seen need a whole
                context.

        Raises:
            ValueError: If rows are missing in between, the channels differ, or a new series is too short. Nothing is
                changed then.
        """
        check_is_fitted(self, "network_")
        panel = continued_panel(self.panel_, self._read(data))
        require_length(panel, self.context_, f"the context of {self.alias_}")
        self.panel_ = tail_of(panel, self.context_)
        return self

    def predict(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        level: float | Sequence[float] | None = None,
        quantiles: float | Sequence[float] | None = None,
        horizon: int | None = None,
        future: pd.DataFrame | None = None,
        recursive: bool = False,
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after the end of each series, without refitting.

        Args:
            data: Series to continue, known or unseen; ``None`` continues those of ``fit``.
            level: Central intervals in percent, such as 80 or ``[80, 95]``.
            quantiles: The same numbers by probability, such as ``[0.1, 0.9]``.
            horizon: Steps to give: up to the trained horizon (the default) a prefix of the whole forecast.
            future: Id, time and future columns of the rows after each series' end (:meth:`make_future_frame`), in any
                order; for a model with future columns, all steps of them. A wide table's has no ids.
            recursive: For more steps than were trained, take the forecast for the history and go on, again and again.
                Errors add up and nobody measured them, so there are points only.

        Returns:
            A frame in the dialect of ``data``, or a :class:`tsattn.Forecast` for a panel.

        Raises:
            ValueError: If a series is shorter than the context, the channels differ from the fitted ones, ``future``
                is not complete, or ``horizon`` exceeds the trained one without ``recursive``.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        check_is_fitted(self, "network_")
        self._steps()
        panel = self._series(data)
        given = panel if data is None and self.panel_in_ else data
        asked: dict[str, Any] = {"level": level, "quantiles": quantiles, "horizon": horizon}
        return answer(self, given, panel, **asked, future=future, recursive=recursive)

    def make_future_frame(
        self, data: pd.DataFrame | Panel | None = None, *, horizon: int | None = None
    ) -> pd.DataFrame:
        """The rows that ``predict`` needs as ``future``, with the future columns empty, to be filled in.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            horizon: Steps; default the trained horizon.

        Returns:
            Id, time and future columns, in the dialect of the table.
        """
        check_is_fitted(self, "network_")
        return future_frame(self._series(data), self.covariate_columns_, self._ahead(horizon))

    def missing_future(
        self, future: pd.DataFrame, data: pd.DataFrame | Panel | None = None, *, horizon: int | None = None
    ) -> pd.DataFrame:
        """What ``future`` still lacks for ``predict``.

        Args:
            future: The frame.
            data: As in :meth:`make_future_frame`.
            horizon: As in :meth:`make_future_frame`.

        Returns:
            Id, time and ``column`` of every missing value; no rows where nothing is missing.
        """
        check_is_fitted(self, "network_")
        return missing_frame(future, self._series(data), self.covariate_columns_, self._ahead(horizon))

    def _ahead(self, horizon: int | None) -> int:
        return self._steps() if horizon is None else check_horizon(horizon)

    def cross_validation(
        self,
        df: pd.DataFrame | Panel,
        *,
        n_windows: int = 1,
        step_size: int = 1,
        refit: bool | int = False,
        level: float | Sequence[float] | None = None,
        quantiles: float | Sequence[float] | None = None,
    ) -> pd.DataFrame:
        """Forecast from several cutoffs, each on the rows before it; this estimator itself stays as it is.

        Args:
            df: A long or wide frame, or a panel.
            n_windows: Cutoffs; the last forecast ends at the last row.
            step_size: Rows between cutoffs.
            refit: ``False`` fits once before the first cutoff, ``True`` before each, an int k before every k-th.
            level: Central intervals in percent.
            quantiles: The same by probability.

        Returns:
            Long frame with id, time, ``cutoff`` (last row used), target, and the forecast columns.
        """
        result = backtest(
            self,
            panel_for(self, df),
            n_windows=n_windows,
            step_size=step_size,
            refit=refit,
            level=level,
            quantiles=quantiles,
        )
        return result.frame

    def score(self, df: pd.DataFrame | Panel, y: None = None) -> float:
        """Minus the mean absolute error over every window of ``df``, on the training-standardised scale.

        Series that ``fit`` has not seen are standardised by their own statistics.
        """
        check_is_fitted(self, "network_")
        panel = self._read(df)
        require_length(panel, self.context_ + self.horizon, "score needs a context and a horizon")
        ends = WindowSpec(self.context_, self.horizon).ends(
            panel.starts, np.zeros(panel.n_series, dtype=np.int64), panel.lengths
        )
        rolled = roll(self, panel, ends, scaler=self._scaler_for(panel), keep=False)
        return -rolled.mae

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster into a folder: ``model.safetensors`` and ``config.json``, no pickle.

        Args:
            path: The folder; an older save there is replaced in one step.
        """
        check_is_fitted(self, "network_")
        save_forecaster(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, on any machine; it runs no code from the files.

        Raises:
            ValueError: If files are missing, damaged or of another class.
        """
        return load_forecaster(cls, Path(path))

    @property
    def _solved(self) -> bool:
        """Whether the linear map is solved instead of learnt."""
        return False

    @staticmethod
    def _solve(network: nn.Module, learn: WindowBatches, *, warm: bool) -> None:
        if warm and isinstance(network, PatchEncoder):
            # What the transformer has learnt is what the map of the last fit left over.
            cast(nn.Module, network.skip).requires_grad_(False)
            return
        solve_linear(cast(PatchEncoder | LinearModel, network), learn)

    @staticmethod
    def _nothing_to_train(network: nn.Module) -> Progress | None:
        """An empty course where every weight is held; ``None`` where there is something to learn."""
        if any(parameter.requires_grad for parameter in network.parameters()):
            return None
        network.eval()
        return Progress()

    def _train_config(self) -> TrainConfig:
        return TrainConfig(
            loss=self.loss,
            learning_rate=self.learning_rate,
            skip_rate=getattr(self, "skip_rate", 1.0),
            skip_level=getattr(self, "skip_level", None),
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            max_seconds=seconds_from(self.max_time),
            precision=self.precision,
        )

    def _calibrate(self, plan: FitPlan) -> StepIntervals:
        x, y, covariates = plan.calibration()
        encoded = {} if covariates is None or plan.encoder is None else plan.encoder.encode(covariates, y.shape[1])
        return StepIntervals(np.abs(y - self._points(x, encoded)) / self._interval_scale(x)[:, None])

    def _checkpoint(self, panel: Panel, generators: Generators) -> Checkpoint | None:
        if self.checkpoint_dir is None:
            return None
        beside = {"checkpoint_dir", "verbose", "alias", "n_threads"}  # a fit with another of these may go on
        facts = {name: value for name, value in self.get_params().items() if name not in beside}
        text = json.dumps(facts, sort_keys=True, default=repr) + panel.fingerprint()
        return Checkpoint(Path(self.checkpoint_dir), hashlib.sha256(text.encode()).hexdigest(), generators)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def _summarise(
        self, learn: WindowBatches, check: WindowBatches | None, progress: Progress, seconds: float, n_threads: int
    ) -> dict[str, Any]:
        config, panel = self.config_, self.panel_
        facts: dict[str, Any] = {
            "model": self.alias_,
            "parameters": sum(p.numel() for p in self.network_.parameters()),
            "context": self.context_,
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
            "device": str(self.resolve_device()),
            "threads": n_threads,
        }
        if config.backbone in ATTENTION_KINDS:
            facts["patches"] = config.n_tokens
        scores = [m for m in self.network_.modules() if hasattr(m, "block_sizes")]
        if scores:
            facts |= {"ranks": scores[0].ranks, "block_sizes": scores[0].block_sizes}
        return facts

    def _mixed_channels(self, panel: Panel) -> int:
        """Channels that look at one another, 0 if they are independent."""
        if not getattr(self, "channel_mixing", False):
            return 0
        if panel.dialect.kind != "wide" or panel.n_channels < 2:
            kind = "a long one" if panel.dialect.kind == "long" else "one channel"
            raise ValueError(
                f"channel_mixing needs a wide table with several channels, which share their stamps; got {kind};"
                " pivot it into one column a series, or set channel_mixing=False"
            )
        return panel.n_channels

    def _check_support(self, network: nn.Module, plan: FitPlan) -> None:
        head = getattr(network, "head", None)
        if isinstance(head, DistributionHead):
            head.check_support(torch.as_tensor(plan.panel.values))

    def _scaler_for(self, panel: Panel) -> Scaler:
        own = make_scaler(panel)
        if panel.dialect.kind == "wide":
            return self.score_scaler_
        index = pd.Index(self.panel_.ids).get_indexer(pd.Index(panel.ids))
        seen = (index >= 0)[:, None]
        return Scaler(
            np.where(seen, self.score_scaler_.mean[index], own.mean),
            np.where(seen, self.score_scaler_.scale[index], own.scale),
        )
