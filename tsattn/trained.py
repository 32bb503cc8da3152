"""What do all trained forecasters do alike? Fit, predict, cross-validate, score, save and load."""

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tsattn.data.frames import Panel, continued_panel, require_length
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import History, Scaler, WindowBatches, WindowSpec, make_scaler
from tsattn.evaluate.backtest import backtest
from tsattn.evaluate.conformal import StepIntervals, scale_of
from tsattn.evaluate.rolling import roll
from tsattn.fitting import FitPlan, plan_fit, seconds_from, seed_from, start_from, tail_of
from tsattn.forecast import Forecast, answer, check_windows, panel_for
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig
from tsattn.nn.heads import DistributionHead, QuantileHead
from tsattn.nn.models import build_model
from tsattn.saving import load_forecaster, save_forecaster
from tsattn.training import Checkpoint, Generators, Progress, TrainConfig, train

# Sequences (windows x channels) in one forward pass: large enough to be fast, small enough for any laptop.
_CHUNK = 4096


class TrainedForecaster(BaseEstimator):
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
    compile: bool
    network_: nn.Module
    config_: ModelConfig

    def _model_config(self, context: int, *, equivariant: bool, freq: str | int) -> ModelConfig:
        raise NotImplementedError

    def _shortest_context(self) -> int:
        raise NotImplementedError

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
        config = self._train_config()
        panel = panel_for(self, data)
        transform = TargetTransform(self.target_transform)
        plan = plan_fit(
            transform.panel(panel),
            horizon=self.horizon,
            context=self.context,
            shortest_context=self._shortest_context(),
            val_size=self.val_size,
            scaled=self._scaled,
        )
        long = panel.dialect.kind == "long"
        model_config = self._model_config(plan.spec.context, equivariant=long, freq=panel.freq)
        device = self.resolve_device(strict=True)
        generators = Generators.from_seed(seed_from(self.random_state), device)
        network = build_model(model_config, generator=generators.init)
        self._check_support(network, plan)
        if self.warm_start and hasattr(self, "network_"):
            start_from(network, model_config, self.network_, self.config_)
        learn, check = plan.batches(self.batch_size, generators.order, device)
        started = time.perf_counter()
        progress = train(
            network,
            learn,
            check,
            config,
            generators=generators,
            device=device,
            checkpoint=self._checkpoint(panel, generators),
            verbose=self.verbose,
        )
        # Only now: a fit that fails or is interrupted leaves the one before it.
        self._forget()
        self.config_, self.network_, self.scaler_ = model_config, network, plan.scaler
        self.transform_, self.score_scaler_ = transform, make_scaler(panel, plan.stops)
        self.context_, self.panel_in_ = plan.spec.context, isinstance(data, Panel)
        self.panel_ = tail_of(panel, self.context_)
        self.history_ = pd.DataFrame(progress.history)
        calibrated = check is not None and self._head is None
        self.intervals_ = self._calibrate(plan) if calibrated else None
        self.summary_ = self._summarise(learn, check, progress, time.perf_counter() - started)
        return self

    def update(self, data: pd.DataFrame | Panel) -> Self:
        """Take in rows that have come since ``fit``, without refitting; later forecasts start after them.

        Args:
            data: The next rows of known series, as a frame or panel of the fitted kind; rows that are known already
                count as they stand in ``data``. Series that ``fit`` has not seen need a whole context.

        Raises:
            ValueError: If rows are missing in between, the channels differ, or a new series is too short. Nothing is
                changed then.
        """
        check_is_fitted(self, "network_")
        new = self._known(panel_for(self, data, self.panel_.freq))
        panel = continued_panel(self.panel_, new)
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
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after the end of each series, without refitting.

        Args:
            data: Series to continue, known or unseen; ``None`` continues those of ``fit``.
            level: Central intervals in percent, such as 80 or ``[80, 95]``.
            quantiles: The same numbers by probability, such as ``[0.1, 0.9]``.
            horizon: Steps to give, at most the trained horizon (the default): a prefix of the whole forecast.

        Returns:
            A frame in the dialect of ``data``, or a :class:`tsattn.Forecast` for a panel.

        Raises:
            ValueError: If a series is shorter than the context, the channels differ from the fitted ones, or
                ``horizon`` exceeds the trained one.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        check_is_fitted(self, "network_")
        self._steps()
        panel = self.panel_ if data is None else self._known(panel_for(self, data, self.panel_.freq))
        given = panel if data is None and self.panel_in_ else data
        return answer(self, given, panel, level=level, quantiles=quantiles, horizon=horizon)

    def predict_windows(self, x: np.ndarray, *, quantiles: Sequence[float] = ()) -> np.ndarray:
        """Forecast each window by itself; stateless, in a few batched passes.

        Args:
            x: Histories in original units, ``[B, T, C]`` with T at least ``context_``; only the last
                ``context_`` rows are read.
            quantiles: Probabilities; empty gives points.

        Returns:
            Points ``[B, F, C]``, or quantiles ``[B, F, C, Q]``.

        Raises:
            ValueError: If the shape does not fit, or intervals are asked of a model without validation span.
        """
        check_is_fitted(self, "network_")
        x = self.transform_.windows(self._contexts(x))
        steps = self._steps()
        if self._head is not None:
            return self.transform_.inverse(self._read_head(x, quantiles)[:, :steps])
        point = self._points(x)
        if not len(quantiles):
            return self.transform_.inverse(point[:, :steps])
        if self.intervals_ is None:
            raise ValueError("val_size = 0 leaves nothing to calibrate intervals on; fit with val_size > 0")
        bounds = self.intervals_.apply(point, quantiles, scale=self._interval_scale(x))
        return self.transform_.inverse(bounds[:, :steps])

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
        panel = self._known(panel_for(self, df, self.panel_.freq))
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

    def _train_config(self) -> TrainConfig:
        return TrainConfig(
            loss=self.loss,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            max_seconds=seconds_from(self.max_time),
            precision=self.precision,
            compile=self.compile,
        )

    def _calibrate(self, plan: FitPlan) -> StepIntervals:
        x, y = plan.calibration()
        return StepIntervals(np.abs(y - self._points(x)) / self._interval_scale(x)[:, None])

    def _checkpoint(self, panel: Panel, generators: Generators) -> Checkpoint | None:
        if self.checkpoint_dir is None:
            return None
        facts = {k: v for k, v in self.get_params().items() if k not in {"checkpoint_dir", "verbose", "alias"}}
        text = json.dumps(facts, sort_keys=True, default=repr) + panel.fingerprint()
        return Checkpoint(Path(self.checkpoint_dir), hashlib.sha256(text.encode()).hexdigest(), generators)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]:
            delattr(self, name)

    def _summarise(
        self, learn: WindowBatches, check: WindowBatches | None, progress: Progress, seconds: float
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
        }
        if config.backbone in ATTENTION_KINDS:
            facts["patches"] = config.n_tokens
        scores = [m for m in self.network_.modules() if hasattr(m, "block_sizes")]
        if scores:
            facts |= {"ranks": scores[0].ranks, "block_sizes": scores[0].block_sizes}
        return facts

    @property
    def alias_(self) -> str:
        """Name of the forecast column: the alias, or the network's own name."""
        raise NotImplementedError

    def _known(self, panel: Panel) -> Panel:
        """Refuse channels that the network was not fitted on."""
        fitted = self.panel_
        if fitted.dialect.kind == "wide" and panel.channels != fitted.channels:
            raise ValueError(
                f"the model was fitted on the channels {', '.join(fitted.channels)}; got"
                f" {', '.join(panel.channels)}; give the same columns in the same order"
            )
        if panel.freq != fitted.freq:
            raise ValueError(
                f"the model was fitted on frequency {fitted.freq!r}; got {panel.freq!r}; resample, or fit anew"
            )
        return panel

    def _steps(self) -> int:
        """Steps to answer with: ``horizon`` may have been lowered since the fit, not raised."""
        if self.horizon > self.config_.horizon:
            raise ValueError(
                f"horizon = {self.horizon} is longer than the {self.config_.horizon} steps that were trained; fit"
                " again with the longer horizon"
            )
        return self.horizon

    def _contexts(self, x: np.ndarray) -> np.ndarray:
        x = self._check_known(x) if self.config_.masked else check_windows(x, self.context_)
        if self.panel_.dialect.kind == "wide" and x.shape[2] != self.panel_.n_channels:
            raise ValueError(f"windows must have the {self.panel_.n_channels} fitted channels; got {x.shape[2]}")
        return x[:, -self.context_ :]

    @property
    def _head(self) -> QuantileHead | DistributionHead | None:
        """The fitted network's head, if it knows more than points."""
        head = getattr(self.network_, "head", None)
        return head if isinstance(head, QuantileHead | DistributionHead) else None

    @property
    def _scaled(self) -> bool:
        """Whether data are standardised; heads for counts and positive values see them as they are."""
        return getattr(self, "head", None) not in ("negative_binomial", "log_normal")

    def _check_support(self, network: nn.Module, plan: FitPlan) -> None:
        head = getattr(network, "head", None)
        if isinstance(head, DistributionHead):
            head.check_support(torch.as_tensor(plan.panel.values))

    def _read_head(self, x: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
        """Points ``[B, F, C]`` or quantiles ``[B, F, C, Q]`` of contexts, from the head's parameters."""
        head = self._head
        assert head is not None
        scaled, level, spread = self._standardise(x)
        parameters = torch.as_tensor(self._forward(scaled))
        if not len(quantiles):
            return head.point(parameters).numpy() * spread + level
        bounds: np.ndarray = head.quantiles(parameters, list(quantiles)).numpy()
        return bounds * spread[..., None] + level[..., None]

    def sample(
        self, data: pd.DataFrame | Panel | None = None, *, n_samples: int = 100, random_state: Any = None
    ) -> np.ndarray:
        """Draws from the forecast of a distribution or quantile head, steps independent of one another.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            n_samples: Draws for each step.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Returns:
            ``[series, horizon, channels, n_samples]`` in original units.

        Raises:
            ValueError: If the head knows points only, or a series is too short.
        """
        check_is_fitted(self, "network_")
        if self._head is None:
            raise ValueError("samples need a head that knows a distribution; fit with head='student_t' or 'quantile'")
        panel = self.panel_ if data is None else self._known(panel_for(self, data, self.panel_.freq))
        require_length(panel, self.context_, f"the context of {self.alias_}")
        x = self.transform_.windows(self._contexts(History(panel).contexts(panel.starts[1:], self.context_)))
        scaled, level, spread = self._standardise(x)
        generator = Generators.from_seed(seed_from(random_state), torch.device("cpu")).masks
        draws = self._head.sample(torch.as_tensor(self._forward(scaled)), n_samples, generator).numpy()
        return self.transform_.inverse(draws * spread[..., None] + level[..., None])[:, : self._steps()]

    def _points(self, x: np.ndarray) -> np.ndarray:
        """Forecasts of contexts, both on the scale of learning, ``[B, F, C]``."""
        scaled, level, spread = self._standardise(x)
        return self._forward(scaled) * spread + level

    def _standardise(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Windows as the network reads them, and the level and spread that were taken off."""
        level, spread = self._level_and_spread(x)
        return ((x - level) / np.where(spread > 0, spread, 1.0)).astype(np.float32), level, spread

    def _check_known(self, x: np.ndarray) -> np.ndarray:
        """Windows that may miss values, but not all of a channel's."""
        x = np.asarray(x, dtype=np.float64)
        gone = np.isnan(x)
        check_windows(np.where(gone, 0.0, x), self.context_)
        if (empty := gone[:, -self.context_ :].all(axis=1)).any():
            window, channel = np.argwhere(empty)[0]
            raise ValueError(
                f"the last {self.context_} rows of window {window}, channel {channel} hold no value to forecast from;"
                " give a longer history or leave the series out"
            )
        return x

    def _level_and_spread(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What windows are standardised by, ``[B, 1, C]`` each.

        Channels of a wide frame are known by their place and have a fitted scale. Series of a long frame may be new,
        so each window is its own measure; the network is then equivariant and no series needs a stored scale.
        """
        if not self._scaled:
            shape = (len(x), 1, x.shape[2])
            return np.zeros(shape), np.ones(shape)
        if self.config_.equivariant:
            known = np.isfinite(x)
            level = x.mean(1, keepdims=True, where=known)
            spread, size = x.std(1, keepdims=True, where=known), np.abs(x).max(1, keepdims=True, where=known, initial=0)
            return level, np.where(spread <= 1e-12 * size, 0.0, spread)
        shape = (len(x), 1, x.shape[2])
        return np.broadcast_to(self.scaler_.mean, shape), np.broadcast_to(self.scaler_.scale, shape)

    def _interval_scale(self, x: np.ndarray) -> np.ndarray:
        """Unit in which errors are pooled over windows, ``[B, C]``."""
        if self.config_.equivariant:
            return scale_of(x)
        return np.broadcast_to(self.scaler_.scale, (len(x), x.shape[2]))

    def _forward(self, x: np.ndarray) -> np.ndarray:
        device = next(self.network_.parameters()).device
        rows = max(_CHUNK // max(x.shape[2], 1), 1)
        extra = () if self._head is None else (self._head.n_parameters,)
        parts = [np.zeros((0, self.config_.horizon, x.shape[2], *extra))]
        with torch.inference_mode():
            for first in range(0, len(x), rows):
                y = self.network_(torch.as_tensor(x[first : first + rows]).to(device))
                parts.append(y.cpu().numpy().astype(np.float64))
        return np.concatenate(parts)

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

    def resolve_device(self, *, strict: bool = False) -> torch.device:
        """The device asked for; a loaded model falls back to the CPU where it is missing, a fit refuses."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError:
            raise ValueError(f"device must be auto, cpu, cuda or cuda:<n>; got {self.device!r}") from None
        if device.type == "cuda" and not torch.cuda.is_available():
            if strict:
                raise ValueError(f"device {self.device!r} is not available here; use device='auto' or 'cpu'")
            return torch.device("cpu")
        return device
