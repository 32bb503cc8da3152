"""How does a fitted network answer windows? On its own scale, in few passes, as points, quantiles and samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateWindows, check_windows_of
from tsattn.data.frames import Panel, require_length
from tsattn.data.future import read_future
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import History, Scaler
from tsattn.evaluate.conformal import StepIntervals, scale_of
from tsattn.forecaster import Forecaster, alias_of, check_windows, columns_of, covariate_history, panel_for
from tsattn.forecasters.fitting import multiply_adds
from tsattn.limits import choose_threads, limit_threads
from tsattn.nn.config import ModelConfig
from tsattn.nn.heads import DistributionHead, QuantileHead
from tsattn.random import Generators, seed_from

# Sequences (windows x channels) in one forward pass: large enough to be fast, small enough for any laptop.
_CHUNK = 4096


class WindowForecaster(BaseEstimator):
    """What a fitted forecaster needs to answer windows; the subclass fits it."""

    horizon: int
    batch_size: int
    device: str
    n_threads: int | None
    network_: nn.Module
    config_: ModelConfig
    context_: int
    panel_: Panel
    scaler_: Scaler
    transform_: TargetTransform
    intervals_: StepIntervals | None
    covariates_: CovariateEncoder | None

    @property
    def alias_(self) -> str:
        """Name of the forecast column: the alias, or the network's own name."""
        raise NotImplementedError

    @property
    def covariate_columns_(self) -> CovariateColumns:
        """What the fitted network reads beside the target, its calendar chosen."""
        return CovariateColumns() if self.covariates_ is None else self.covariates_.columns

    def predict_windows(
        self, x: np.ndarray, *, quantiles: Sequence[float] = (), covariates: CovariateWindows | None = None
    ) -> np.ndarray:
        """Forecast each window by itself; stateless, in a few batched passes.

        Args:
            x: Histories in original units, ``[B, T, C]`` with T at least ``context_``; only the last
                ``context_`` rows are read.
            quantiles: Probabilities; empty gives points.
            covariates: Those of the same windows, in original units: T rows of history and ``horizon`` steps ahead, as
                :class:`tsattn.data.encoding.CovariateHistory` cuts them. For a model that reads some.

        Returns:
            Points ``[B, F, C]``, or quantiles ``[B, F, C, Q]``; NaN at steps whose known covariates are NaN.

        Raises:
            ValueError: If the shape does not fit, covariates are missing or nobody reads them, or intervals are asked
                of a model without validation span.
        """
        check_is_fitted(self, "network_")
        contexts, steps = self._contexts(x), self._steps()
        beside, unknown = self._beside(covariates, np.shape(x))
        with limit_threads(self._choose_threads(self.network_, self.config_, *contexts.shape[::2])):
            y = self._answer(self.transform_.windows(contexts), quantiles, beside)
        y = self.transform_.inverse(y[:, :steps])
        if unknown is not None and unknown.any():
            y[unknown] = np.nan
        return y

    def _choose_threads(self, network: nn.Module, config: ModelConfig, n_windows: int, n_channels: int) -> int:
        """Threads for windows that pass a network together.

        A small network stays on one thread however many windows it is to forecast: its operations stay short ones.
        """
        sequences = min(n_windows, self.batch_size) * n_channels
        return choose_threads(self.n_threads, sequences * multiply_adds(network, config))

    def _answer(self, x: np.ndarray, quantiles: Sequence[float], beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """Points ``[B, F, C]`` or quantiles ``[B, F, C, Q]`` of checked contexts, on the scale of learning."""
        if self._head is not None:
            return self._read_head(x, quantiles, beside)
        point = self._points(x, beside)
        if not len(quantiles):
            return point
        if self.intervals_ is None:
            raise ValueError("val_size = 0 leaves nothing to calibrate intervals on; fit with val_size > 0")
        return self.intervals_.apply(point, quantiles, scale=self._interval_scale(x))

    def _beside(
        self, covariates: CovariateWindows | None, shape: tuple[int, ...]
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Covariates of contexts of that shape as the network reads them, and steps ``[B, F]`` without known ones."""
        if self.covariates_ is None:
            if covariates is not None:
                raise ValueError(f"covariates= was given, but {self.alias_} reads none; leave it out, or fit with some")
            return {}, None
        steps = self._steps()
        windows = check_windows_of(covariates, self.covariate_columns_, shape, steps).cut(self.context_, steps)
        unknown = np.isnan(windows.known[:, self.context_ :]).any(axis=2)
        return self.covariates_.encode(windows, self.config_.horizon), unknown

    def sample(
        self,
        data: pd.DataFrame | Panel | None = None,
        *,
        n_samples: int = 100,
        random_state: Any = None,
        future: pd.DataFrame | None = None,
    ) -> np.ndarray:
        """Draws from the forecast of a distribution or quantile head, steps independent of one another.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            n_samples: Draws for each step.
            random_state: Seed; ``None`` draws a new one from the operating system.
            future: As in :meth:`predict`.

        Returns:
            ``[series, horizon, channels, n_samples]`` in original units.

        Raises:
            ValueError: If the head knows points only, a series is too short, or ``future`` is not complete.
        """
        check_is_fitted(self, "network_")
        if self._head is None:
            raise ValueError("samples need a head that knows a distribution; fit with head='student_t' or 'quantile'")
        panel, steps = self._series(data), self._steps()
        require_length(panel, self.context_, f"the context of {self.alias_}")
        source = covariate_history(self, panel, read_future(future, panel, self.covariate_columns_, steps))
        given = None if source is None else source.windows(panel.starts[1:], self.context_, steps)
        x = History(panel).contexts(panel.starts[1:], self.context_)
        beside, _ = self._beside(given, x.shape)
        scaled, level, spread = self._standardise(self.transform_.windows(self._contexts(x)))
        generator = Generators.from_seed(seed_from(random_state), torch.device("cpu")).masks
        with limit_threads(self._choose_threads(self.network_, self.config_, *x.shape[::2])):
            draws = self._head.sample(torch.as_tensor(self._forward(scaled, beside)), n_samples, generator).numpy()
        return self.transform_.inverse(draws * spread[..., None] + level[..., None])[:, :steps]

    def _series(self, data: pd.DataFrame | Panel | None) -> Panel:
        """The series to continue: those of ``fit``, or others that the network can read.

        Raises:
            ValueError: If channels, frequency or covariates are not those of the fit.
        """
        return self.panel_ if data is None else self._read(data)

    def _read(self, data: pd.DataFrame | Panel) -> Panel:
        """A table that the fitted network can read; errors as in :meth:`_series`."""
        panel, fitted = panel_for(self, data, self.panel_.freq, fitted=True), self.panel_
        if fitted.dialect.kind == "wide" and panel.channels != fitted.channels:
            raise ValueError(
                f"the model was fitted on the channels {', '.join(fitted.channels)}; got"
                f" {', '.join(panel.channels)}; give the same columns in the same order"
            )
        if panel.freq != fitted.freq:
            raise ValueError(
                f"the model was fitted on frequency {fitted.freq!r}; got {panel.freq!r}; resample, or fit anew"
            )
        if self.covariates_ is not None:
            self.covariates_.check_static(panel)
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

    def _read_head(self, x: np.ndarray, quantiles: Sequence[float], beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """Points ``[B, F, C]`` or quantiles ``[B, F, C, Q]`` of contexts, from the head's parameters."""
        head = self._head
        assert head is not None
        scaled, level, spread = self._standardise(x)
        parameters = torch.as_tensor(self._forward(scaled, beside))
        if not len(quantiles):
            return head.point(parameters).numpy() * spread + level
        bounds: np.ndarray = head.quantiles(parameters, list(quantiles)).numpy()
        return bounds * spread[..., None] + level[..., None]

    def _points(self, x: np.ndarray, beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """Forecasts of contexts, both on the scale of learning, ``[B, F, C]``."""
        scaled, level, spread = self._standardise(x)
        return self._forward(scaled, beside) * spread + level

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

    def _forward(self, x: np.ndarray, beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's answer to windows and covariates on its own scale."""
        device = next(self.network_.parameters()).device
        rows = max(_CHUNK // max(x.shape[2], 1), 1)
        extra = () if self._head is None else (self._head.n_parameters,)
        parts = [np.zeros((0, self.config_.horizon, x.shape[2], *extra))]
        with torch.inference_mode():
            for first in range(0, len(x), rows):
                part = slice(first, first + rows)
                given = {name: torch.as_tensor(values[part]).to(device) for name, values in beside.items()}
                y = self.network_(torch.as_tensor(x[part]).to(device), **given)
                parts.append(y.cpu().numpy().astype(np.float64))
        return np.concatenate(parts)

    @property
    def _scaled(self) -> bool:
        """Whether data are standardised; heads for counts and positive values see them as they are."""
        return getattr(self, "head", None) not in ("negative_binomial", "log_normal")

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


def refuse_covariates(forecaster: Forecaster, where: str) -> None:
    """Refuse a forecaster that reads covariates where none can be handed to it.

    Args:
        forecaster: Any.
        where: The place, as the subject of a sentence.

    Raises:
        ValueError: Naming what it reads.
    """
    for each in (columns_of(forecaster, fitted=False), columns_of(forecaster)):
        if each:
            reads = [f"{name} {getattr(each, name)!r}" for name in ("past", "future", "static", "calendar")]
            told = ", ".join(text for text in reads if not text.endswith(" ()"))
            raise ValueError(
                f"{where} has no place for covariates, and {alias_of(forecaster)} reads some ({told}); use one that was"
                " made without, or call it directly"
            )
