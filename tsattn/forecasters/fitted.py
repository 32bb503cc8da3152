"""A fitted network and how it answers windows: on its own scale, in few passes, as points,
quantiles and samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import cast

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateWindows
from tsattn.data.frames import Panel
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import History, Scaler, check_windows, pad_front
from tsattn.evaluate.intervals import KnownScales, SeriesScales, StepIntervals, scale_of
from tsattn.forecasters.covariate_regression import CovariateRegression
from tsattn.limits import choose_threads
from tsattn.nn.config import ModelConfig
from tsattn.nn.decoder import PatchDecoder
from tsattn.nn.heads import DistributionHead, QuantileHead
from tsattn.nn.models import PatchEncoder, multiply_adds

# Sequences (windows x channels) in one forward pass: large enough to be fast, small enough for any
# laptop.
_CHUNK = 4096
# Heads for counts and positive values see them as they are.
UNSCALED_HEADS = ("negative_binomial", "log_normal")


@dataclass(eq=False)
class FittedNetwork:
    """A trained network with everything that its answers need; estimators, saved models and exports
    have one.

    Args:
        network: In evaluation mode.
        config: Its description.
        scaler: Statistics of the training rows on the scale of learning, one a series and channel.
        transform: Map of the target before anything is learnt.
        encoder: How covariates are read; ``None`` where there are none.
        intervals: Errors on the validation rows, for intervals around points; ``None`` where there
            are none.
        n_channels: Channels of a wide table, which are known by their place; ``None`` for long
            tables, whose series may be new.
        covariate_regression: What covariates add to a network that reads none; ``None`` where there
            are none.
        sizes: Size of the errors of each series beside the movements of a window, where several
            share the intervals.
    """

    network: nn.Module
    config: ModelConfig
    scaler: Scaler
    transform: TargetTransform = TargetTransform()  # noqa: RUF009  (frozen)
    encoder: CovariateEncoder | None = None
    intervals: StepIntervals | None = None
    n_channels: int | None = None
    covariate_regression: CovariateRegression | None = None
    sizes: KnownScales | None = None

    @property
    def columns(self) -> CovariateColumns:
        """What is read beside the target, the calendar chosen."""
        encoder = (
            self.encoder if self.covariate_regression is None else self.covariate_regression.encoder
        )
        return CovariateColumns() if encoder is None else encoder.columns

    @property
    def head(self) -> QuantileHead | DistributionHead | None:
        """The network's head, if it knows more than points."""
        head = getattr(self.network, "head", None)
        return head if isinstance(head, QuantileHead | DistributionHead) else None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def choose_threads(self, asked: int | None, n_windows: int, n_channels: int) -> int:
        """Threads for windows that pass the network together: as many as asked for, or by their
        work.
        """
        return choose_threads(
            asked, n_windows * n_channels * multiply_adds(self.network, self.config)
        )

    def check(self, x: np.ndarray) -> np.ndarray:
        """The last rows of windows ``[B, T, C]``, as many as the network reads where there are so
        many.

        Rows without a value at the front of a window stand for a history that is shorter.

        Raises:
            ValueError: If shape, channels or values are unfit.
        """
        x = np.asarray(x, dtype=np.float64)
        gone = np.isnan(x)
        check_windows(np.where(gone, 0.0, x) if self.config.masked else x, 1, padded=True)
        if self.n_channels is not None and x.shape[2] != self.n_channels:
            raise ValueError(
                f"windows must have the {self.n_channels} fitted channels; got {x.shape[2]}"
            )
        context = self.config.context
        if (empty := gone[:, -context:].all(axis=1)).any():
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
        places: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of checked contexts in original
        units, from one pass.

        Steps whose known covariates are NaN are NaN. ``places [B]`` says which series of ``sizes``
        the contexts are of.

        Raises:
            ValueError: If quantiles are asked and no rows were held back to calibrate them on.
        """
        if len(quantiles) and self.head is None and self.intervals is None:
            raise ValueError(
                "val_size = 0 leaves nothing to calibrate intervals on; fit with val_size > 0"
            )
        x = self.transform.windows(x)
        learnt = partial(self.learnt, beside=self.encode(covariates), places=places)
        if self.covariate_regression is not None and covariates is not None:
            point, bounds = self.covariate_regression.forecast(learnt, x, quantiles, covariates)
        else:
            point, bounds = learnt(x, quantiles)
        point = self.transform.inverse(point)
        bounds = self.transform.inverse(bounds)
        if covariates is not None and covariates.known.shape[2]:
            unknown = np.isnan(covariates.known[:, x.shape[1] :]).any(axis=2)
            steps = unknown.shape[1]
            point[:, :steps][unknown], bounds[:, :steps][unknown] = np.nan, np.nan
        return point, bounds

    def learnt(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        beside: Mapping[str, np.ndarray] = MappingProxyType({}),
        places: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same on the scale of learning."""
        head = self.head
        scaled, level, spread = self.standardise(x)
        passed = self.forward(scaled, beside)
        if head is None:
            point = passed * spread + level
            if self.intervals is None or not len(quantiles):
                return point, np.empty((*point.shape, 0))
            return point, self.intervals.apply(
                point, quantiles, scale=self.interval_scale(x, places)
            )
        parameters = torch.as_tensor(passed)
        point = head.point(parameters).numpy() * spread + level
        if not len(quantiles):
            return point, np.empty((*point.shape, 0))
        bounds = head.quantiles(parameters, list(quantiles)).numpy()
        return point, bounds * spread[..., None] + level[..., None]

    def sample(
        self,
        x: np.ndarray,
        covariates: CovariateWindows | None,
        n_samples: int,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Draws ``[B, F, C, S]`` from the head's distribution, steps independent of one another."""
        head = cast(QuantileHead | DistributionHead, self.head)
        scaled, level, spread = self.standardise(self.transform.windows(x))
        passed = torch.as_tensor(self.forward(scaled, self.encode(covariates)))
        draws = head.sample(passed, n_samples, generator).numpy()
        return self.transform.inverse(draws * spread[..., None] + level[..., None])

    def attention_maps(self, x: np.ndarray, covariates: CovariateWindows | None) -> np.ndarray:
        """Weights ``[layers, B, C, H, L, L]`` with which the patches of contexts look at one
        another.
        """
        network = cast(PatchEncoder | PatchDecoder, self.network)
        beside = {
            name: torch.as_tensor(rows).to(self.device)
            for name, rows in self.encode(covariates).items()
        }
        scaled = torch.as_tensor(self.standardise(self.transform.windows(x))[0]).to(self.device)
        maps: np.ndarray = network.attention_maps(scaled, **beside).cpu().numpy()
        return maps

    def encode(self, covariates: CovariateWindows | None) -> dict[str, np.ndarray]:
        """Covariates of contexts as the network reads them."""
        if self.encoder is None or covariates is None:
            return {}
        return self.encoder.encode(covariates.lengthened(self.config.context), self.config.horizon)

    def standardise(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Contexts as the network reads them, and the level and spread ``[B, 1, C]`` that were
        taken off.

        A context with fewer rows than the network reads is padded at the front: with missing values
        for a network that leaves them out, with the mean of the context for another one.

        Channels of a wide frame are known by their place and have a fitted scale. Series of a long
        frame may be new, so each window is its own measure; the network is then equivariant and no
        series needs a stored scale.
        """
        shape = (len(x), 1, x.shape[2])
        if self.config.head in UNSCALED_HEADS:
            level = np.zeros(shape)
            spread = np.ones(shape)
        elif self.n_channels is None:
            known = np.isfinite(x)
            level = x.mean(1, keepdims=True, where=known)
            spread = x.std(1, keepdims=True, where=known)
            size = np.abs(x).max(1, keepdims=True, where=known, initial=0)
            spread = np.where(spread <= 1e-12 * size, 0.0, spread)
        else:
            level = np.broadcast_to(self.scaler.mean, shape)
            spread = np.broadcast_to(self.scaler.scale, shape)
        dtype = np.float64 if next(self.network.parameters()).dtype == torch.float64 else np.float32
        scaled = (x - level) / np.where(spread > 0, spread, 1.0)
        return (
            pad_front(scaled, self.config.context, fill=not self.config.masked).astype(dtype),
            level,
            spread,
        )

    def interval_scale(self, x: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Unit in which errors are pooled over windows, ``[B, C]``; ``places`` as in
        :meth:`answer`.
        """
        if self.n_channels is not None:
            return np.broadcast_to(self.scaler.scale, (len(x), x.shape[2]))
        if self.sizes is None:
            return scale_of(x)
        typical = self.sizes.per_step
        return scale_of(x) * (typical if places is None else self.sizes.at(places, typical))

    def calibrate(
        self,
        x: np.ndarray,
        y: np.ndarray,
        covariates: CovariateWindows | None,
        ids: pd.Index,
        overlap: float,
    ) -> None:
        """Take intervals from the errors on contexts and their futures, on the scale of learning.

        Args:
            x, y: Contexts, ``[n, T, C]``, series by series, and their futures, ``[n, F, C]``.
            covariates, ids: Of the same windows; the ids of their series are ``[n]``.
            overlap: As in :meth:`tsattn.evaluate.intervals.SeriesScales.of`.
        """
        point = self.learnt(x, (), self.encode(covariates))[0]
        errors = np.abs(y - point) / self.interval_scale(x)[:, None]
        if len(self.scaler.mean) > 1:
            series = ids.factorize()[0]
            first = np.flatnonzero(np.diff(series, prepend=-1))
            at = series, np.arange(len(series)) - first[series]
            own = np.full((len(first), int(at[1].max()) + 1, *errors.shape[1:]), np.nan)
            own[at] = errors
            found = SeriesScales.of(own, np.ones((len(first), x.shape[2])), overlap)
            self.sizes = KnownScales(ids[first], found.scales, found.per_step)
            errors /= found.left_out[at][:, None]
        self.intervals = StepIntervals(errors)

    def forward(self, x: np.ndarray, beside: Mapping[str, np.ndarray]) -> np.ndarray:
        """The network's answer ``[B, F, C]``, or parameters of its head, to windows and covariates
        on its own scale.
        """
        rows = max(_CHUNK // max(x.shape[2], 1), 1)
        extra = () if self.head is None else (self.head.n_parameters,)
        parts = [np.zeros((0, self.config.horizon, x.shape[2], *extra))]
        with torch.inference_mode():
            for first in range(0, len(x), rows):
                part = slice(first, first + rows)
                given = {
                    name: torch.as_tensor(values[part]).to(self.device)
                    for name, values in beside.items()
                }
                y = self.network(torch.as_tensor(x[part]).to(self.device), **given)
                parts.append(y.cpu().numpy().astype(np.float64))
        return np.concatenate(parts)


def resolve_device(name: str, *, strict: bool = False) -> torch.device:
    """The device asked for.

    Args:
        name: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        strict: Refuse one that is missing, as a fit does; otherwise the CPU takes its place, as for
            a loaded model.

    Raises:
        ValueError: If it is none, or missing.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<n>; got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        if strict:
            raise ValueError(f"device {name!r} is not available here; use device='auto' or 'cpu'")
        return torch.device("cpu")
    return device


def tail_of(panel: Panel, context: int) -> Panel:
    """The last ``context`` rows of every series, or all; but for the first, gaps stay: a later row
    may tell them.
    """
    filled = replace(panel, values=History(panel).filled).last(context)
    tail = panel.last(context)
    first = np.isin(np.arange(len(tail.values)), tail.starts)[:, None]
    return replace(tail, values=np.where(first, filled.values, tail.values))
