"""How does a user forecast with a network? The attention forecaster and the linear ones."""

from pathlib import Path
from typing import Any

from tsattn.nn.models import ATTENTION_KINDS, LINEAR_KINDS, ModelConfig, check_backbone
from tsattn.trained import TrainedForecaster


class AttentionForecaster(TrainedForecaster):
    """Patch transformer with structured attention, from a frame to a forecast.

    Every channel or series is a sequence of its own under shared weights. The defaults are fixed by validation
    on ETTh1 (docs/log.md), not by its test rows.

    Args:
        horizon: Future steps to forecast.
        context: Rows of history read for each forecast. Default: 3.5 horizons, at least 96, at most 512, and not
            more than half of what the shortest series has.
        attention: ``"mlr"`` (distance-dependent multi-level low rank) or ``"standard"``.
        ranks: Features per level, coarse to fine, summing to ``d_model // n_heads``. Default: half, a quarter,
            the rest.
        block_sizes: Patches per block at each level. Default: halving from the whole context.
        offset: Shift of the block grid in patches.
        d_model: Token width.
        n_heads: Attention heads.
        n_layers: Transformer blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Rows in a patch.
        patch_stride: Rows between patch starts.
        dropout: Rate in [0, 1), rounded to a multiple of 1/256.
        linear_skip: Add a linear map from window to horizon.
        loss: ``"mse"``, ``"mae"`` or ``"huber"``, on the standardised scale.
        learning_rate: Highest rate of AdamW; it rises over the first tenth of the steps and falls by a cosine.
        weight_decay: Decoupled decay of the matrices.
        batch_size: Windows a step.
        max_epochs: Passes over the training windows at most.
        patience: Passes without a better validation loss before stopping; ``None`` never stops early.
        val_size: Rows (int) or share (float) cut from the end of every series for early stopping and
            calibration; a share gives at least one horizon.
        missing: ``"error"``, ``"interpolate"`` or ``"ffill"``.
        id_col: Name of the series column of long frames.
        time_col: Name of the time column.
        target_col: Name of the value column of long frames.
        freq: Frequency such as ``"h"`` or ``"W-SAT"``; default: inferred over all series.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        random_state: Seed; ``None`` draws a new one from the operating system.
        alias: Name of the forecast column; default the attention's name.
        checkpoint_dir: Folder in which each epoch is kept, to resume after an interruption; ``None`` writes nothing.
        verbose: Show progress on stderr when that is a terminal.

    Attributes:
        context_: Rows of history a forecast needs.
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
        block_sizes: tuple[int, ...] | None = None,
        offset: int | tuple[int, ...] = 0,
        d_model: int = 16,
        n_heads: int = 2,
        n_layers: int = 3,
        d_ff: int = 128,
        patch_len: int = 16,
        patch_stride: int = 8,
        dropout: float = 0.3,
        linear_skip: bool = True,
        loss: str = "mse",
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
        alias: str | None = None,
        checkpoint_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.horizon = horizon
        self.context = context
        self.attention = attention
        self.ranks = ranks
        self.block_sizes = block_sizes
        self.offset = offset
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.d_ff = d_ff
        self.patch_len = patch_len
        self.patch_stride = patch_stride
        self.dropout = dropout
        self.linear_skip = linear_skip
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
        self.checkpoint_dir = checkpoint_dir
        self.verbose = verbose

    @property
    def alias_(self) -> str:
        """Name of the forecast column."""
        return self.attention if self.alias is None else self.alias

    def _shortest_context(self) -> int:
        return int(self.patch_len)

    def _model_config(self, context: int, *, equivariant: bool) -> ModelConfig:
        check_backbone(self.attention)
        if self.attention not in ATTENTION_KINDS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTION_KINDS)}; got {self.attention!r}")
        if self.attention == "standard" and (self.ranks is not None or self.block_sizes is not None):
            raise ValueError("ranks and block_sizes belong to attention='mlr'; got them for 'standard'")
        return ModelConfig(
            context=context,
            horizon=int(self.horizon),
            backbone=self.attention,
            equivariant=equivariant,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            d_ff=self.d_ff,
            patch_len=self.patch_len,
            patch_stride=self.patch_stride,
            dropout=self.dropout,
            ranks=None if self.ranks is None else tuple(self.ranks),
            block_sizes=None if self.block_sizes is None else tuple(self.block_sizes),
            offset=self.offset,
            linear_skip=self.linear_skip,
        )


class LinearForecaster(TrainedForecaster):
    """One linear map from window to horizon, trained like the attention models: the baseline to beat.

    Args:
        horizon: Future steps to forecast.
        kind: ``"nlinear"``, ``"dlinear"`` (Zeng et al., AAAI 2023) or ``"rlinear"`` (Li et al. 2023).
        context: Rows of history read for each forecast; default as in :class:`AttentionForecaster`.

    The other arguments, the attributes and the methods are those of :class:`AttentionForecaster`.
    """

    def __init__(
        self,
        horizon: int,
        kind: str = "nlinear",
        *,
        context: int | None = None,
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
        checkpoint_dir: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.horizon = horizon
        self.kind = kind
        self.context = context
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
        self.checkpoint_dir = checkpoint_dir
        self.verbose = verbose

    @property
    def alias_(self) -> str:
        """Name of the forecast column."""
        return self.kind if self.alias is None else self.alias

    def _shortest_context(self) -> int:
        return 2

    def _model_config(self, context: int, *, equivariant: bool) -> ModelConfig:
        if self.kind not in LINEAR_KINDS:
            raise ValueError(f"kind must be one of {', '.join(LINEAR_KINDS)}; got {self.kind!r}")
        return ModelConfig(context=context, horizon=int(self.horizon), backbone=self.kind, equivariant=equivariant)
