"""How does a user forecast with a network? The attention forecaster and the linear ones."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from tsattn.data.calendar import calendar_cycles
from tsattn.data.encoding import CovariateHistory
from tsattn.data.frames import Panel, require_length
from tsattn.data.windows import History
from tsattn.forecasters.trained import TrainedForecaster
from tsattn.limits import limit_threads
from tsattn.nn.config import ATTENTION_KINDS, LINEAR_KINDS, ModelConfig
from tsattn.nn.decoder import PatchDecoder
from tsattn.nn.models import PatchEncoder


class AttentionForecaster(TrainedForecaster):
    """Patch transformer with structured attention, from a frame to a forecast.

    Every channel or series is a sequence of its own under shared weights. The defaults are fixed by validation
    on ETTh1 (docs/log.md), not by its test rows.

    Args:
        horizon: Future steps to forecast.
        context: Rows of history read for each forecast. Default: 3.5 horizons, at least 96, at most 512, and not
            more than half of what the shortest series has.
        attention: ``"mlr"`` (distance-dependent multi-level low rank), ``"standard"``, ``"sliding_window"``,
            ``"global_local"`` (two softmaxes over split features), or a bilinear score whose matrix is structured:
            ``"bilinear_mlr"``, ``"bilinear_btt"``, ``"mlbtc"``. Settings that an attention does not have are refused.
        ranks: Features per level, coarse to fine: for ``"mlr"`` summing to ``d_model // n_heads``, for
            ``"bilinear_mlr"`` those of the matrix. Default: half of a head's features, a quarter, the rest.
        block_sizes: Patches per block at each level. Default: halving from the whole context. ``"calendar"``: the
            whole context, then a week and a day as far as the frequency has them and the context is longer.
        offset: Shift of the block grid in patches, one number or one a head; ``"layers"`` or ``"heads"`` shifts
            every second layer or head, so that borders of one grid lie inside blocks of the other.
        scaling: ``"default"``: one factor for all levels. ``"paper"``: normalised queries and keys, each level
            divided by its rank, each score by the number of levels that its pair shares.
        learn_scales: Train a factor for each head and level of ``"mlr"``.
        tt_rank: Rank of the block tensor train of ``"bilinear_btt"``, at least 1 (the default).
        window: Patches seen in layers with a window, the patch itself included. Default: a quarter of all, so that
            half of them are in view.
        n_global: Leading patches exempt from the window.
        layer_pattern: Layers in turn, ``"G"`` sees everything and ``"W"`` a window, such as ``"GWW"``.
        rotary: Turn queries and keys by their positions (needs even ranks).
        n_kv_heads: Heads of keys and values, a divisor of ``n_heads``. Default: as many.
        architecture: ``"encoder"`` maps all patches to the horizon at once. ``"decoder"`` forecasts patch by patch
            and feeds on its forecasts; it needs ``patch_stride == patch_len`` and ``linear_skip=False``.
        d_model: Token width.
        n_heads: Attention heads.
        n_layers: Transformer blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Rows in a patch.
        patch_stride: Rows between patch starts.
        dropout: Rate in [0, 1), rounded to a multiple of 1/256.
        linear_skip: Add a linear map from window to horizon, learnt with the rest. ``"least_squares"`` solves it once
            on the training windows and holds it, so that the transformer learns what it leaves over; for points,
            quantiles, ``"student_t"`` and ``"normal"``.
        skip_rate: Factor of the learning rate for a map that is learnt, which is slower to learn than the rest.
        skip_level: Percent of confidence, such as 95, with which the validation windows must show that the transformer
            improves on the map of ``linear_skip="least_squares"``, by Student's t over blocks of windows as long as the
            horizon; where they do not, ``fit`` keeps the map alone (``summary_["best_epoch"]`` is 0). Default: the pass
            with the smallest validation loss is kept, however small its lead, and also one behind the map. With
            ``warm_start`` it is the fit before that has to be improved on.
        head_rank: Numbers through which the transformer's states reach the horizon, fewer to learn on short series.
            Default: all states reach every step by themselves.
        loss: ``"mse"``, ``"mae"`` or ``"huber"``, on the standardised scale, for points; the other heads are trained by
            the pinball loss or the likelihood.
        head: What is forecast. ``None``: points, with intervals calibrated on the validation rows. ``"quantile"``,
            ``"student_t"``, ``"normal"``, ``"negative_binomial"`` (counts) or ``"log_normal"`` (positive values):
            quantiles and samples of its own, and the median or the mean as point.
        quantiles: Those that ``head="quantile"`` trains; default thirteen from 0.025 to 0.975.
        learning_rate: Highest rate of AdamW; it rises over the first tenth of the steps and falls by a cosine.
        weight_decay: Decoupled decay of the matrices.
        batch_size: Windows a step.
        max_epochs: Passes over the training windows at most.
        patience: Passes without a better validation loss before stopping; ``None`` never stops early.
        val_size: Rows (int) or share (float) cut from the end of every series for early stopping and
            calibration; a share gives at least one horizon.
        missing: ``"error"`` refuses missing values, ``"interpolate"`` and ``"ffill"`` fill them with what was known at
            each cutoff, ``"mask"`` leaves them out of context, attention and loss (encoders only).
        id_col: Name of the series column of long frames.
        time_col: Name of the time column.
        target_col: Name of the value column of long frames.
        freq: Frequency such as ``"h"`` or ``"W-SAT"``; default: inferred over all series.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        random_state: Seed; ``None`` draws a new one from the operating system.
        past_cols: Columns beside the target that are known up to the cutoff, such as measurements.
        future_cols: Columns that are known through the horizon as well, such as prices, promotions or weather
            forecasts; ``predict`` takes their values as ``future=``. In a wide frame these and the past columns are no
            channels, but belong to all of them.
        static_cols: Columns with one value in a series of a long frame: numbers, or text and categories, which are told
            apart by those seen in ``fit``.
        calendar: Cycles read off the stamps, known for ever: ``"hour"``, ``"weekday"``, ``"monthday"``, ``"month"``,
            ``"yearday"``; ``"auto"`` takes those that fit the frequency and that the training rows show whole.
        channel_mixing: Let the channels of a wide frame look at one another: an attention over channels at each token,
            after each block. Covariates and mixing are for encoders.
        alias: Name of the forecast column; default the attention's name.
        target_transform: ``"log1p"`` or ``"sqrt"`` learn on that scale and answer on the original one;
            ``"nonnegative"`` cuts forecasts off at 0. All three refuse negative values.
        max_time: Time limit of ``fit``, such as ``"10m"`` or seconds; the best weights until then are kept. How far
            it gets depends on the machine, so results under a limit are not reproducible.
        warm_start: Whether ``fit`` goes on from the weights of the fit before it.
        precision: ``"bf16"`` multiplies matrices in bfloat16 while training; ``None`` is float32.
        n_threads: Threads of torch in ``fit`` and forecasts, after which torch's own number is set again; processes of
            ``trainer`` share them. Default: one for a small network, which more threads make hardly faster, and much
            slower where other programs want the cores; all of torch's for a large one.
        trainer: Several processes that train together, from :func:`tsattn.distributed.ddp_settings`; ``None`` trains
            in this one. Where a fit ran is not saved with the model.
        checkpoint_dir: Folder in which each epoch is kept, to resume after an interruption; ``None`` writes nothing.
        verbose: Show progress on stderr when that is a terminal.

    Attributes:
        context_: Rows of history a forecast needs.
        covariate_columns_: What is read beside the target, the cycles of the calendar chosen.
        summary_: What was fitted: parameters, context, patches, ranks, blocks, epochs, validation loss.
        history_: Losses and learning rate, one row an epoch.
        network_: The trained ``torch.nn.Module``.

    Example:
        >>> import numpy as np, pandas as pd
        >>> days = pd.date_range("2024-01-01", periods=120, freq="D")
        >>> df = pd.DataFrame({"unique_id": "a", "ds": days, "y": np.sin(np.arange(120))})
        >>> model = AttentionForecaster(7, context=28, patch_len=7, patch_stride=7, max_epochs=1, random_state=0)
        >>> model.fit(df).predict(level=80).columns.tolist()
        ['unique_id', 'ds', 'mlr', 'mlr-lo-80', 'mlr-hi-80']
    """

    def __init__(
        self,
        horizon: int,
        *,
        context: int | None = None,
        attention: str = "mlr",
        ranks: tuple[int, ...] | None = None,
        block_sizes: tuple[int, ...] | str | None = None,
        offset: int | tuple[int, ...] | str = 0,
        scaling: str = "default",
        learn_scales: bool = False,
        tt_rank: int | None = None,
        window: int | None = None,
        n_global: int = 0,
        layer_pattern: str | None = None,
        rotary: bool = False,
        n_kv_heads: int | None = None,
        architecture: str = "encoder",
        d_model: int = 16,
        n_heads: int = 2,
        n_layers: int = 3,
        d_ff: int = 128,
        patch_len: int = 16,
        patch_stride: int = 8,
        dropout: float = 0.3,
        linear_skip: bool | str = True,
        skip_rate: float = 5.0,
        skip_level: float | None = None,
        head_rank: int | None = None,
        loss: str = "mse",
        head: str | None = None,
        quantiles: tuple[float, ...] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 128,
        max_epochs: int = 10,
        patience: int | None = 3,
        val_size: int | float = 0.1,
        missing: str = "error",
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        device: str = "auto",
        random_state: Any = None,
        past_cols: Sequence[Any] = (),
        future_cols: Sequence[Any] = (),
        static_cols: Sequence[Any] = (),
        calendar: Sequence[str] | str = (),
        channel_mixing: bool = False,
        alias: str | None = None,
        target_transform: str | None = None,
        max_time: str | float | None = None,
        warm_start: bool = False,
        precision: str | None = None,
        n_threads: int | None = None,
        trainer: Any = None,
        checkpoint_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.horizon = horizon
        self.context = context
        self.attention = attention
        self.ranks = ranks
        self.block_sizes = block_sizes
        self.offset = offset
        self.scaling = scaling
        self.learn_scales = learn_scales
        self.tt_rank = tt_rank
        self.window = window
        self.n_global = n_global
        self.layer_pattern = layer_pattern
        self.rotary = rotary
        self.n_kv_heads = n_kv_heads
        self.architecture = architecture
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.d_ff = d_ff
        self.patch_len = patch_len
        self.patch_stride = patch_stride
        self.dropout = dropout
        self.linear_skip = linear_skip
        self.skip_rate = skip_rate
        self.skip_level = skip_level
        self.head_rank = head_rank
        self.loss = loss
        self.head = head
        self.quantiles = quantiles
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.val_size = val_size
        self.missing = missing
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.freq = freq
        self.device = device
        self.random_state = random_state
        self.past_cols = past_cols
        self.future_cols = future_cols
        self.static_cols = static_cols
        self.calendar = calendar
        self.channel_mixing = channel_mixing
        self.alias = alias
        self.target_transform = target_transform
        self.max_time = max_time
        self.warm_start = warm_start
        self.precision = precision
        self.n_threads = n_threads
        self.trainer = trainer
        self.checkpoint_dir = checkpoint_dir
        self.verbose = verbose

    @property
    def alias_(self) -> str:
        """Name of the forecast column."""
        return self.attention if self.alias is None else self.alias

    def attention_maps(self, data: pd.DataFrame | Panel | None = None) -> np.ndarray:
        """How much each patch of the last context of every series looks at each other one.

        Args:
            data: A long or wide frame, or a panel; ``None`` takes the series of ``fit``.

        Returns:
            ``[layers, series, channels, heads, looking patch, patch looked at]``. Rows sum to one, and to two for
            ``"global_local"``, which adds two softmaxes. :func:`tsattn.plotting.plot_attention` draws one map.

        Raises:
            ValueError: If a series is shorter than the context, or the channels differ from the fitted ones.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        check_is_fitted(self, "network_")
        panel = self._series(data)
        require_length(panel, self.context_, "one context")
        contexts = History(panel).contexts(panel.starts[1:], self.context_)
        encoded: dict[str, np.ndarray] = {}
        if self.covariates_ is not None:
            windows = CovariateHistory(panel, self.covariate_columns_).windows(panel.starts[1:], self.context_, 0)
            encoded = self.covariates_.encode(windows, self.config_.horizon)
        network = cast(PatchEncoder | PatchDecoder, self.network_)
        device = next(network.parameters()).device
        beside = {name: torch.as_tensor(values).to(device) for name, values in encoded.items()}
        x = torch.as_tensor(self._standardise(contexts)[0]).to(device)
        with limit_threads(self._choose_threads(network, self.config_, *contexts.shape[::2])):
            maps: np.ndarray = network.attention_maps(x, **beside).cpu().numpy()
        return maps

    def _shortest_context(self) -> int:
        return int(self.patch_len)

    @property
    def _solved(self) -> bool:
        return self.linear_skip == "least_squares"

    def _check_skip(self) -> None:
        if self.linear_skip not in (True, False, "least_squares"):
            raise ValueError(f"linear_skip must be True, False or 'least_squares'; got {self.linear_skip!r}")
        if self.skip_level is not None and not self._solved:
            raise ValueError(
                f"skip_level = {self.skip_level} asks whether the transformer improves on a solved map, and linear_skip"
                f" is {self.linear_skip!r}; take linear_skip='least_squares' or leave skip_level out"
            )
        if self._solved and self.head in ("negative_binomial", "log_normal"):
            raise ValueError(
                f"linear_skip='least_squares' forecasts values, and the map of head = {self.head!r} moves a logarithm;"
                " take linear_skip=True"
            )

    def _model_config(self, context: int, *, equivariant: bool, freq: str | int) -> ModelConfig:
        if self.attention not in ATTENTION_KINDS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTION_KINDS)}; got {self.attention!r}")
        self._check_skip()
        config = ModelConfig(
            context=context,
            horizon=int(self.horizon),
            backbone=self.attention,
            equivariant=equivariant,
            architecture=self.architecture,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_kv_heads=self.n_kv_heads,
            n_layers=self.n_layers,
            d_ff=self.d_ff,
            patch_len=self.patch_len,
            patch_stride=self.patch_stride,
            dropout=self.dropout,
            ranks=_as_tuple(self.ranks),
            offset=tuple(self.offset) if isinstance(self.offset, list) else self.offset,
            scaling=self.scaling,
            learn_scales=self.learn_scales,
            tt_rank=self.tt_rank,
            window=self.window,
            n_global=self.n_global,
            layer_pattern=self.layer_pattern,
            rotary=self.rotary,
            linear_skip=bool(self.linear_skip),
            head_rank=self.head_rank,
            masked=self.missing == "mask",
            head="point" if self.head is None else self.head,
            quantiles=None if self.quantiles is None else tuple(self.quantiles),
        )
        if self.head not in (None, "point") and self.loss != "mse":
            raise ValueError(
                f"loss is for points; got loss = {self.loss!r} with head = {self.head!r}; leave out either"
            )
        if self.block_sizes is None:
            return config
        if isinstance(self.block_sizes, str):
            return replace(config, block_sizes=_calendar_blocks(self.block_sizes, config, freq))
        return replace(config, block_sizes=_as_tuple(self.block_sizes))


def _as_tuple(values: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)


def _calendar_blocks(name: str, config: ModelConfig, freq: str | int) -> tuple[int, ...]:
    """The whole context, a week and a day in patches, as far as they are shorter than the context.

    Raises:
        ValueError: If the name is another, the frequency has neither, or they are no whole number of patches.
    """
    if name != "calendar":
        raise ValueError(f"block_sizes must be numbers or 'calendar'; got {name!r}")
    cycles = calendar_cycles(freq)
    if not cycles:
        raise ValueError(
            f"block_sizes='calendar' needs a frequency with whole days or weeks; got {freq!r}; give sizes in patches"
        )
    sizes = [config.n_tokens]
    for rows in cycles:
        patches, rest = divmod(rows, config.patch_stride)
        if rest:
            raise ValueError(
                f"block_sizes='calendar' needs a patch_stride that divides a cycle of {rows} rows; got patch_stride ="
                f" {config.patch_stride}; take a divisor"
            )
        if 1 < patches < sizes[-1]:
            sizes.append(patches)
    if len(sizes) == 1:
        raise ValueError(
            f"block_sizes='calendar' finds no cycle between one patch and the context of {config.n_tokens} patches for"
            f" frequency {freq!r}; lengthen the context or shorten patch_stride"
        )
    return tuple(sizes)


class LinearForecaster(TrainedForecaster):
    """One linear map from window to horizon, trained like the attention models: the baseline to beat.

    Args:
        horizon: Future steps to forecast.
        kind: ``"nlinear"``, ``"dlinear"`` (Zeng et al., AAAI 2023) or ``"rlinear"`` (Li et al. 2023).
        context: Rows of history read for each forecast; default as in :class:`AttentionForecaster`.
        closed_form: Solve the map of ``"nlinear"`` or ``"rlinear"`` by least squares (with a small ridge penalty)
            instead of learning it by steps: the least squared error on the training windows, in seconds, and the same
            at every seed. What concerns learning then has no effect.

    The other arguments, the attributes and the methods are those of :class:`AttentionForecaster`.
    """

    def __init__(
        self,
        horizon: int,
        kind: str = "nlinear",
        *,
        context: int | None = None,
        closed_form: bool = False,
        loss: str = "mse",
        learning_rate: float = 5e-3,
        weight_decay: float = 0.0,
        batch_size: int = 128,
        max_epochs: int = 10,
        patience: int | None = 3,
        val_size: int | float = 0.1,
        missing: str = "error",
        id_col: str = "unique_id",
        time_col: str = "ds",
        target_col: str = "y",
        freq: str | int | None = None,
        device: str = "auto",
        random_state: Any = None,
        alias: str | None = None,
        target_transform: str | None = None,
        max_time: str | float | None = None,
        warm_start: bool = False,
        precision: str | None = None,
        n_threads: int | None = None,
        trainer: Any = None,
        checkpoint_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.horizon = horizon
        self.kind = kind
        self.context = context
        self.closed_form = closed_form
        self.loss = loss
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.val_size = val_size
        self.missing = missing
        self.id_col = id_col
        self.time_col = time_col
        self.target_col = target_col
        self.freq = freq
        self.device = device
        self.random_state = random_state
        self.alias = alias
        self.target_transform = target_transform
        self.max_time = max_time
        self.warm_start = warm_start
        self.precision = precision
        self.n_threads = n_threads
        self.trainer = trainer
        self.checkpoint_dir = checkpoint_dir
        self.verbose = verbose

    @property
    def alias_(self) -> str:
        """Name of the forecast column."""
        return self.kind if self.alias is None else self.alias

    def _shortest_context(self) -> int:
        return 2

    @property
    def _solved(self) -> bool:
        return bool(self.closed_form)

    def _model_config(self, context: int, *, equivariant: bool, freq: str | int) -> ModelConfig:
        if self.kind not in LINEAR_KINDS:
            raise ValueError(f"kind must be one of {', '.join(LINEAR_KINDS)}; got {self.kind!r}")
        if self.closed_form and (self.kind == "dlinear" or self.loss != "mse"):
            raise ValueError(
                "closed_form solves one map for the squared error; got kind ="
                f" {self.kind!r} and loss = {self.loss!r}; take 'rlinear' or 'nlinear' and 'mse', or closed_form=False"
            )
        return ModelConfig(
            context=context,
            horizon=int(self.horizon),
            backbone=self.kind,
            equivariant=equivariant,
            masked=self.missing == "mask",
        )
