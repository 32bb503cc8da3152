"""A fitted network, and its points, quantiles and samples for windows."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Self, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import Scaler, check_windows, pad_front
from tsattn.evaluate.intervals import KnownScales, SeriesScales, StepIntervals, scale_of
from tsattn.forecasters.covariate_regression import CovariateRegression
from tsattn.forecasts import Answer, unbounded
from tsattn.limits import choose_threads
from tsattn.nn.config import ModelConfig
from tsattn.nn.decoder import PatchDecoder
from tsattn.nn.heads import DistributionHead, QuantileHead
from tsattn.nn.models import PatchEncoder, multiply_adds

# Sequences (windows times channels) in one forward pass, at most. More would need much memory and
# be no faster.
_PASS_SEQUENCES = 4096
# Deviation of a window, in units of its largest value, that counts as none.
_ROUNDING_DEVIATION = 1e-12
# Heads for counts and positive values, whose distributions have no shift.
UNSCALED_HEADS = ("negative_binomial", "log_normal")


@dataclass(frozen=True, eq=False)
class FittedNetwork:
    """A trained network with everything that its forecasts need; estimators, saved models and
    exports have one.

    Args:
        network: In evaluation mode.
        config: Its description.
        scaler: Statistics of the training rows on the scale of learning, one a series and channel.
        transform: Map of the target before anything is learnt.
        encoder: How covariates are read; ``None`` where there are none.
        intervals: Errors on the validation rows, for intervals around points; ``None`` where there
            are none.
        ids: Series of the scaler, ``[N]``; of a group, its channels.
        by_place: Whether channels are known by their place and have a fitted scale: those of a
            group, whose series look at one another, and of a regressor.
        covariate_regression: What covariates add to a network that reads none; ``None`` where there
            are none.
        sizes: Size of the errors of each series, relative to the movements of a window, where
            several series share the intervals.
    """

    network: nn.Module
    config: ModelConfig
    scaler: Scaler
    transform: TargetTransform = TargetTransform()  # noqa: RUF009  (frozen)
    encoder: CovariateEncoder | None = None
    intervals: StepIntervals | None = None
    ids: pd.Index = field(default_factory=lambda: pd.Index([]))
    by_place: bool = False
    covariate_regression: CovariateRegression | None = None
    sizes: KnownScales | None = None

    @property
    def columns(self) -> CovariateColumns:
        """The covariates that are read, with the chosen calendar."""
        encoder = self.encoder
        if self.covariate_regression is not None:
            encoder = self.covariate_regression.encoder
        if encoder is None:
            return CovariateColumns()
        return encoder.columns

    @property
    def head(self) -> QuantileHead | DistributionHead | None:
        """The network's head, if it gives more than points."""
        head = getattr(self.network, "head", None)
        return head if isinstance(head, QuantileHead | DistributionHead) else None

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return next(self.network.parameters()).device

    def choose_threads(self, n_threads: int | None, n_windows: int, n_channels: int) -> int:
        """Threads for windows that pass the network together: the user's number, or by their
        work.
        """
        n_sequences = n_windows * n_channels
        work = n_sequences * multiply_adds(self.network, self.config)
        return choose_threads(n_threads, work)

    def check(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows ``[B, T, C]``, as many as the network reads where there are so
        many.

        Missing rows at the front of a window stand for a shorter history.

        Raises:
            ValueError: If shape, channels or values are unfit.
        """
        x = np.asarray(x, dtype=np.float64)
        missing = np.isnan(x)
        checked = x
        if self.config.masked:
            # A masked network leaves missing values out, so they need no check.
            checked = np.where(missing, 0.0, x)
        check_windows(checked, 1, padded=True)
        n_channels = self.scaler.mean.shape[1]
        if self.by_place and x.shape[2] != n_channels:
            raise ValueError(
                f"windows must have the {n_channels} fitted channels; got {x.shape[2]}"
            )
        context = self.config.context
        recent_missing = missing[:, -context:]
        empty = recent_missing.all(axis=1)
        if empty.any():
            window, channel = np.argwhere(empty)[0]
            raise ValueError(
                f"the last {context} rows of window {window}, channel {channel} hold no value to"
                " forecast from; give a longer history or leave the series out"
            )
        return x[:, -context:]

    def answer(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: CovariateWindows | None = None,
        ids: pd.Index | None = None,
    ) -> Answer:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of checked contexts in original
        units, from one pass.

        Steps whose known covariates are NaN are NaN. ``ids [B]`` name the series of the contexts,
        where they are known.

        Raises:
            ValueError: If quantiles are asked and no rows were held back to calibrate them on.
        """
        has_quantiles = self.head is not None or self.intervals is not None
        if len(quantiles) and not has_quantiles:
            raise ValueError(
                "val_size = 0 leaves nothing to calibrate intervals on; fit with val_size > 0"
            )
        x = self.transform.windows(x)
        encoded = self.encode(covariates)
        learnt = partial(self.learnt, encoded=encoded, ids=ids)
        if self.covariate_regression is not None and covariates is not None:
            point, bounds = self.covariate_regression.forecast(learnt, x, quantiles, covariates)
        else:
            point, bounds = learnt(x, quantiles)
        point = self.transform.inverse(point)
        bounds = self.transform.inverse(bounds)
        if covariates is not None and covariates.known.shape[2]:
            n_rows = x.shape[1]
            future = covariates.known[:, n_rows:]
            incomplete = np.isnan(future).any(axis=2)
            n_steps = future.shape[1]
            # Views of the steps that have a row of covariates.
            point_ahead = point[:, :n_steps]
            bounds_ahead = bounds[:, :n_steps]
            point_ahead[incomplete] = np.nan
            bounds_ahead[incomplete] = np.nan
        return point, bounds

    # Where numbers leave float64, a forecast is not finite, which is refused.
    @np.errstate(over="ignore", invalid="ignore")
    def learnt(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        encoded: Mapping[str, np.ndarray] = MappingProxyType({}),
        ids: pd.Index | None = None,
    ) -> Answer:
        """The same on the scale of learning.

        A network that reads no missing values has lines in place of those that a regression on
        columns leaves.
        """
        head = self.head
        if not self.config.masked:
            x = interpolated(x)
        scaled, location, spread = self.standardise(x, ids)
        passed = self.forward(scaled, encoded)
        if head is None:
            point = passed * spread + location
            if self.intervals is None or not len(quantiles):
                return unbounded(point)
            unit = self.interval_scale(x, ids)
            bounds = self.intervals.apply(point, quantiles, scale=unit)
            return point, bounds
        parameters = torch.as_tensor(passed)
        scaled_point = head.point(parameters).numpy()
        point = scaled_point * spread + location
        if not len(quantiles):
            return unbounded(point)
        scaled_bounds = head.quantiles(parameters, list(quantiles)).numpy()
        bounds = scaled_bounds * spread[..., None] + location[..., None]
        return point, bounds

    def sample(
        self,
        x: np.ndarray,
        covariates: CovariateWindows | None,
        n_samples: int,
        generator: torch.Generator,
        ids: pd.Index | None = None,
    ) -> np.ndarray:
        """Draws ``[B, F, C, S]`` from the head's distribution, steps independent of one another."""
        head = cast(QuantileHead | DistributionHead, self.head)
        transformed = self.transform.windows(x)
        scaled, location, spread = self.standardise(transformed, ids)
        encoded = self.encode(covariates)
        parameters = torch.as_tensor(self.forward(scaled, encoded))
        scaled_draws = head.sample(parameters, n_samples, generator).numpy()
        draws = scaled_draws * spread[..., None] + location[..., None]
        return self.transform.inverse(draws)

    def attention_maps(self, x: np.ndarray, covariates: CovariateWindows | None) -> np.ndarray:
        """Weights ``[layers, B, C, H, L, L]`` with which the patches of contexts look at one
        another.
        """
        network = cast(PatchEncoder | PatchDecoder, self.network)
        encoded = self._tensors(self.encode(covariates))
        transformed = self.transform.windows(x)
        scaled, _, _ = self.standardise(transformed)
        scaled_tensor = torch.as_tensor(scaled).to(self.device)
        maps = network.attention_maps(scaled_tensor, **encoded)
        return maps.cpu().numpy()

    def _tensors(
        self, encoded: Mapping[str, np.ndarray], part: slice = slice(None)
    ) -> dict[str, torch.Tensor]:
        """Encoded covariates of some windows as tensors on the device of the network."""
        tensors = {}
        for name, values in encoded.items():
            tensor = torch.as_tensor(values[part])
            tensors[name] = tensor.to(self.device)
        return tensors

    def encode(self, covariates: CovariateWindows | None) -> dict[str, np.ndarray]:
        """Covariates of contexts as the network reads them."""
        if self.encoder is None or covariates is None:
            return {}
        lengthened = covariates.lengthened(self.config.context)
        return self.encoder.encode(lengthened, self.config.horizon)

    def standardise(
        self, x: np.ndarray, ids: pd.Index | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Contexts as the network reads them, and their location and spread ``[B, 1, C]``.

        A short context is padded at the front: with missing values for a network that leaves them
        out, with the mean of the context for another one.
        """
        location, spread = self._scale(x, ids)
        unit = np.where(spread > 0, spread, 1.0)
        scaled = (x - location) / unit
        fills = not self.config.masked
        padded = pad_front(scaled, self.config.context, fill=fills)
        first_parameter = next(self.network.parameters())
        dtype = np.float64 if first_parameter.dtype == torch.float64 else np.float32
        return padded.astype(dtype), location, spread

    def _scale(self, x: np.ndarray, ids: pd.Index | None) -> tuple[np.ndarray, np.ndarray]:
        """Level and spread of contexts, ``[B, 1, C]`` each.

        Under ``Training(scale="window")`` each window has its own scale. The network is then
        equivariant, and no series needs a stored scale. Under ``"series"`` the scale is that of the
        training rows of the series that ``ids [B]`` name; a new series has that of its window. The
        channels of a group are known by their place.
        """
        shape = (len(x), 1, x.shape[2])
        if self.config.head in UNSCALED_HEADS:
            return np.zeros(shape), np.ones(shape)
        if self.by_place:
            location = np.broadcast_to(self.scaler.mean, shape)
            spread = np.broadcast_to(self.scaler.scale, shape)
            return location, spread
        location, spread = _window_scale(x)
        if self.config.equivariant:
            return location, spread
        scaler = self._scaler_at(ids, Scaler(location[:, 0], spread[:, 0]))
        return scaler.mean[:, None], scaler.scale[:, None]

    def _scaler_at(self, ids: pd.Index | None, others: Scaler) -> Scaler:
        """Fitted statistics of the series ``ids [B]``; those of ``others`` where one is unknown."""
        return others if ids is None else self.scaler.at(self.ids.get_indexer(ids), others)

    def interval_scale(self, x: np.ndarray, ids: pd.Index | None) -> np.ndarray:
        """Unit in which errors are pooled over windows, ``[B, C]``; ``ids`` as in
        :meth:`answer`.
        """
        if self.by_place:
            shape = (len(x), x.shape[2])
            return np.broadcast_to(self.scaler.scale, shape)
        unit = scale_of(x)
        if not self.config.equivariant:
            unit = self._scaler_at(ids, Scaler(unit, unit)).scale
        if self.sizes is None:
            return unit
        return unit * self.sizes.of(ids, len(x))

    def calibrated(
        self,
        x: np.ndarray,
        y: np.ndarray,
        covariates: CovariateWindows | None,
        ids: pd.Index,
        overlap: float,
    ) -> Self:
        """The same network with intervals from the errors on contexts and their futures, on the
        scale of learning.

        Args:
            x, y: Contexts, ``[n, T, C]``, series by series, and their futures, ``[n, F, C]``.
            covariates, ids: Of the same windows; the ids of their series are ``[n]``.
            overlap: As in :meth:`tsattn.evaluate.intervals.SeriesScales.of`.
        """
        encoded = self.encode(covariates)
        point, _ = self.learnt(x, (), encoded, ids)
        scale = self.interval_scale(x, ids)
        errors = np.abs(y - point) / scale[:, None]
        sizes = self.sizes
        if len(self.scaler.mean) > 1:
            series, _ = ids.factorize()
            is_first = np.diff(series, prepend=-1)
            first = np.flatnonzero(is_first)
            n_series = len(first)
            window = np.arange(len(series)) - first[series]
            n_most = int(window.max()) + 1
            _, horizon, n_channels = errors.shape
            # NaN where a series has fewer windows.
            series_errors = np.full((n_series, n_most, horizon, n_channels), np.nan)
            series_errors[series, window] = errors
            units = np.ones((n_series, n_channels))
            scales = SeriesScales.of(series_errors, units, overlap)
            sizes = KnownScales(ids[first], scales.scales, scales.per_step)
            # A window is measured by the other windows of its series.
            errors /= scales.left_out[series, window][:, None]
        return replace(self, intervals=StepIntervals(errors), sizes=sizes)

    def forward(self, x: np.ndarray, encoded: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's output ``[B, F, C]``, or parameters of its head, for windows and encoded
        covariates on its own scale.
        """
        n_channels = x.shape[2]
        most_windows = _PASS_SEQUENCES // max(n_channels, 1)
        size = max(most_windows, 1)
        shape: tuple[int, ...] = (0, self.config.horizon, n_channels)
        if self.head is not None:
            shape = (*shape, self.head.n_parameters)
        # An empty part, so that no windows have an output of the right shape.
        outputs = [np.zeros(shape)]
        with torch.inference_mode():
            for first in range(0, len(x), size):
                part = slice(first, first + size)
                windows = torch.as_tensor(x[part]).to(self.device)
                covariates = self._tensors(encoded, part)
                output = self.network(windows, **covariates)
                values = output.cpu().numpy()
                outputs.append(values.astype(np.float64))
        return np.concatenate(outputs)


def _window_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the observed values of windows ``[B, T, C]``, ``[B, 1, C]``
    each; the deviation of a constant window is 0.
    """
    observed = np.isfinite(x)
    location = x.mean(1, keepdims=True, where=observed)
    deviation = x.std(1, keepdims=True, where=observed)
    largest = np.abs(x).max(1, keepdims=True, where=observed, initial=0)
    # Rounding leaves a tiny deviation of a constant window.
    constant = deviation <= _ROUNDING_DEVIATION * largest
    deviation = np.where(constant, 0.0, deviation)
    return location, deviation


def resolve_device(name: str, *, strict: bool = False) -> torch.device:
    """The device of a name.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        strict: Refuse a missing device, as a fit does; otherwise the CPU takes its place, as for a
            loaded model.

    Raises:
        ValueError: If there is no device of the name.
    """
    if name == "auto":
        best = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(best)
    device = None
    with suppress(RuntimeError, TypeError):
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<n>; got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        if strict:
            raise ValueError(f"device {name!r} is not available here; use device='auto' or 'cpu'")
        return torch.device("cpu")
    return device


def interpolated(x: np.ndarray) -> np.ndarray:
    """Windows ``[B, T, C]`` without gaps: a line between the values at both sides, and the last
    value up to the end. Rows before the first value stay missing.
    """
    missing = np.isnan(x)
    # Rows before the first value are no gap.
    begins_gap = missing[:, 1:] > missing[:, :-1]
    if not begins_gap.any():
        return x
    n_windows, n_rows, n_channels = x.shape
    # Down the rows, as pandas interpolates.
    by_row = np.moveaxis(x, 1, 0).reshape(n_rows, n_windows * n_channels)
    filled = pd.DataFrame(by_row).interpolate(limit_direction="forward").to_numpy()
    return np.moveaxis(filled.reshape(n_rows, n_windows, n_channels), 0, 1)
