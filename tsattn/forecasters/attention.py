"""The forecaster that trains a patch transformer with structured attention on a table."""

from typing import Any

import numpy as np

from tsattn.checks import check_choice
from tsattn.data.calendar import calendar_cycles
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import History
from tsattn.forecasters.network import NetworkForecaster
from tsattn.forecasts import Data
from tsattn.levels import check_point
from tsattn.limits import limit_threads, plain_torch
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig, Network
from tsattn.training.settings import Training


class AttentionForecaster(NetworkForecaster):
    """A patch transformer with structured attention, trained on the table of ``fit``.

    All series share the weights, and each is forecast by itself unless ``channel_mixing`` is set in
    ``network``. The defaults were chosen on validation rows of ETTh1 (docs/log.md).

    Args:
        horizon: Future steps to forecast.
        context: Rows of history read for each forecast; shorter series are padded in front. The
            default is 3.5 horizons, at least 96 and at most 512, and at most the rows of the median
            series less a horizon and ``val_size`` (half of them in a table of one series).
        attention: ``"mlr"`` (distance-dependent multi-level low rank), ``"standard"``,
            ``"sliding_window"``, ``"global_local"`` (two softmaxes over split features), or a
            bilinear score whose matrix is structured: ``"bilinear_mlr"``, ``"bilinear_btt"``,
            ``"mlbtc"``.
        network: Settings of the network: width, layers, patches, ranks and blocks.
        architecture: ``"encoder"`` maps all patches to the horizon at once. ``"decoder"`` forecasts
            patch by patch from its own forecasts; it needs ``patch_stride == patch_len`` and
            ``linear_skip=False``.
        head: ``None`` forecasts points, with intervals from errors on the validation rows. The
            heads ``"quantile"``, ``"student_t"``, ``"normal"``, ``"negative_binomial"`` (counts)
            and ``"log_normal"`` (positive values) forecast quantiles and samples. Their point is
            the median of ``"quantile"`` and the mean of the others.
        point: ``"median"``, ``"mean"``, or ``"auto"`` (the mean for intermittent series, the median
            for others), computed from the quantiles; ``None`` is the point of the head. Without a
            head ``loss="mae"`` gives medians, and other losses give means.
        quantiles: Quantiles that ``head="quantile"`` trains; default thirteen from 0.025 to 0.975.
        training: Settings of the training: loss, learning rate, epochs, the linear map beside the
            transformer, device, threads.
        schema: How tables are read: columns, frequency, missing values, covariates.
        val_size: Rows (int) or share (float) cut from the end of every series for early stopping
            and calibration; a share gives at least one horizon.
        alias: Name of the forecast column; default the attention's name.
        random_state: Seed; ``None`` draws a new one from the operating system.

    Attributes:
        fitted_: The network with all that a forecast needs, a
            :class:`tsattn.forecasters.fitted.FittedNetwork`.
        network_: The trained ``torch.nn.Module``.
        context_: Rows of history that a forecast reads.
        covariate_columns_: The covariates that are read, with the cycles that ``"auto"`` chose.
        summary_: Facts of the fit: parameters, context, patches, ranks, blocks, epochs, validation
            loss.
        history_: Losses and learning rate, one row for each epoch.

    Example:
        >>> import numpy as np, pandas as pd
        >>> days = pd.date_range("2024-01-01", periods=120, freq="D")
        >>> df = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(120))})
        >>> weekly = Network(patch_len=7, patch_stride=7)
        >>> short = Training(max_epochs=1)
        >>> model = AttentionForecaster(
        ...     7, context=28, network=weekly, training=short, random_state=0
        ... )
        >>> model.fit(df).predict(level=80).columns.tolist()
        ['unique_id', 'ds', 'mlr', 'mlr-lo-80', 'mlr-hi-80']
    """

    rate = 1e-3

    def __init__(
        self,
        horizon: int,
        *,
        context: int | None = None,
        attention: str = "mlr",
        network: Network = Network(),
        architecture: str = "encoder",
        head: str | None = None,
        point: str | None = None,
        quantiles: tuple[float, ...] | None = None,
        training: Training = Training(),
        schema: Schema = Schema(),
        val_size: int | float = 0.1,
        alias: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.horizon = horizon
        self.context = context
        if point is not None:
            check_point(point)
        self.attention = attention
        self.network = network
        self.architecture = architecture
        self.head = head
        self.point = point
        self.quantiles = quantiles
        self.training = training
        self.schema = schema
        self.val_size = val_size
        self.alias = alias
        self.random_state = random_state

    @property
    def name(self) -> str:
        """The attention's name."""
        return self.attention

    @plain_torch()
    def attention_maps(self, data: Data | None = None) -> np.ndarray:
        """Attention weights between the patches of the last context of every series.

        Args:
            data: A long or wide frame, or a panel; ``None`` takes the series of ``fit``.

        Returns:
            ``[layers, series, heads, query patches, key patches]``. Rows sum to one, or to two for
            ``"global_local"``, which adds two softmaxes.
            :func:`tsattn.plotting.plot_attention` draws one map.

        Raises:
            ValueError: If ``data`` cannot be read as the table of the fit was.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        self.check_fitted()
        panel = self.series(data)
        x = self.windows(History(panel), panel.starts[1:])
        covariates = None
        covariate_history = self.covariate_history(panel)
        if covariate_history is not None:
            covariates = covariate_history.windows(panel.starts[1:], x.shape[1], 0)
        with limit_threads(self._threads(self.fitted_, len(x), x.shape[2])):
            maps = self.fitted_.attention_maps(x, covariates)
        # The channels of a window stand third, as the steps of a forecast stand second.
        maps = self.own_series(np.moveaxis(maps, 0, 1), panel)
        return maps[:, :, 0].swapaxes(0, 1)

    def _shortest_context(self) -> int:
        return int(self.network.patch_len)

    @property
    def _solved(self) -> bool:
        return self.training.solved

    @property
    def _kind(self) -> str:
        return self.architecture

    @property
    def _head(self) -> str:
        return "point" if self.head is None else self.head

    @property
    def shares_stamps(self) -> bool:
        """Whether the series are to look at one another."""
        return self.network.channel_mixing

    def _mixed_channels(self, panel: Panel) -> int:
        if not self.network.channel_mixing:
            return 0
        if panel.n_series < 2:
            raise ValueError(
                "channel_mixing needs several series, which share their stamps; got one; set"
                " channel_mixing=False"
            )
        return panel.n_series

    def _describe(self, context: int, freq: str | int, **derived: Any) -> ModelConfig:
        check_choice("attention", self.attention, ATTENTION_KINDS)
        transform = self.training.target_transform
        if self.head == "log_normal" and TargetTransform(transform).bends:
            raise ValueError(
                f"head='log_normal' has a scale of its own; got target_transform = {transform!r},"
                " after which its point is neither a mean nor a median; take head='normal', or"
                " leave the transform out"
            )
        if self.training.solved and self.head in ("negative_binomial", "log_normal"):
            raise ValueError(
                f"linear_skip='least_squares' forecasts values, and the map of head = {self.head!r}"
                " moves a logarithm; take linear_skip=True"
            )
        loss = self.training.own_loss or self.training.loss
        if self._head != "point" and loss != "mse":
            raise ValueError(
                f"loss is for points; got loss = {loss!r} with head = {self.head!r}; leave out"
                " either"
            )
        if self.training.own_loss is not None and self.point is not None:
            raise ValueError(
                "point must be None with a loss of your own, which decides what the points are; got"
                f" {self.point!r}; leave it out"
            )
        # Intervals from validation errors are symmetric: their mean is their median.
        has_one_point = self._head == "point" and not TargetTransform(transform).bends
        if has_one_point and self.point not in (None, self.own_point):
            raise ValueError(
                f"point must be {self.own_point!r} for a network without a head and with loss ="
                f" {self.training.loss!r}; got {self.point!r}; leave it out, or take"
                " head='quantile'"
            )
        derived |= {
            "backbone": self.attention,
            "architecture": self.architecture,
            "linear_skip": bool(self.training.linear_skip),
            "head": self._head,
            "quantiles": (
                None if self.quantiles is None else tuple(np.atleast_1d(self.quantiles).tolist())
            ),
        }
        horizon = int(self.horizon)
        blocks = self.network.block_sizes
        if isinstance(blocks, str):
            config = self.network.describe(context, horizon, **derived, block_sizes=None)
            derived["block_sizes"] = _calendar_blocks(blocks, config, freq)
        return self.network.describe(context, horizon, **derived)


def _calendar_blocks(name: str, config: ModelConfig, freq: str | int) -> tuple[int, ...]:
    """The whole context, a week and a day in whole patches, those that are shorter than the
    context: one at least.
    """
    if name != "calendar":
        raise ValueError(f"block_sizes must be numbers or 'calendar'; got {name!r}")
    cycles = calendar_cycles(freq)
    if not cycles:
        raise ValueError(
            f"block_sizes='calendar' needs a frequency with whole days or weeks; got {freq!r}; give"
            " sizes in patches"
        )
    sizes = [config.n_tokens]
    for rows in cycles:
        patches, remainder = divmod(rows, config.patch_stride)
        if remainder:
            raise ValueError(
                f"block_sizes='calendar' needs a patch_stride that divides a cycle of {rows} rows;"
                f" got patch_stride = {config.patch_stride}; take a divisor"
            )
        if 1 < patches < sizes[-1]:
            sizes.append(patches)
    if len(sizes) == 1:
        raise ValueError(
            "block_sizes='calendar' finds no cycle between one patch and the context of"
            f" {config.n_tokens} patches for frequency {freq!r}; lengthen the context or shorten"
            " patch_stride"
        )
    return tuple(sizes)
