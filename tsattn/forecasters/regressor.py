"""How does the attention network look to scikit-learn? A regressor from windows to what follows them."""

from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from tsattn.data.windows import Scaler, WindowBatches, WindowSpec
from tsattn.forecasters.fitting import multiply_adds
from tsattn.limits import choose_threads, limit_threads
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig
from tsattn.nn.models import build_model
from tsattn.random import Generators, seed_from
from tsattn.training.loop import TrainConfig, train

# Sequences (windows x channels) in one forward pass.
_CHUNK = 4096


class AttentionRegressor(RegressorMixin, BaseEstimator):
    """Patch transformer with structured attention, from rows of past values to the values that follow.

    Each row of ``X`` is one window of a series, oldest value first; each row of ``y`` is what came next, in the same
    units. The network follows any shift and positive scale of a window, so no other feature can be explained by it:
    a column of ``X`` is a moment, not a variable. Use it where scikit-learn's tools (pipelines, searches,
    stacking) want two-dimensional arrays; :class:`tsattn.AttentionForecaster` works on frames.

    Args:
        n_channels: C channels that stand side by side at each moment: ``X`` is ``[n, T * C]`` as
            ``windows.reshape(n, -1)`` gives it for windows ``[n, T, C]``, and ``y`` is ``[n, F * C]`` likewise.
        attention: As in :class:`tsattn.AttentionForecaster`.
        ranks: Features per level, coarse to fine.
        block_sizes: Patches per block at each level. Default: halving from the whole window.
        d_model: Token width.
        n_heads: Attention heads.
        n_layers: Transformer blocks.
        d_ff: Hidden width of the feed-forward layers.
        patch_len: Moments in a patch, at most; a shorter window is one patch.
        patch_stride: Moments between patch starts, at most ``patch_len`` after that.
        dropout: Rate in [0, 1).
        loss: ``"mse"``, ``"mae"`` or ``"huber"``, on the standardised scale.
        learning_rate: Highest rate of AdamW.
        weight_decay: Decoupled decay of the matrices.
        batch_size: Windows a step.
        max_epochs: Passes over the training windows at most.
        patience: Passes without a better validation loss before stopping; ``None`` never stops early.
        val_size: Windows (int) or share (float) cut from the end of ``X`` to decide when to stop; 0 is none.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``.
        random_state: Seed; ``None`` draws a new one from the operating system.

    Attributes:
        n_features_in_: Columns of ``X``.
        n_iter_: Passes made.
        config_: Description of the network, its sizes clipped to the window.
        network_: The trained ``torch.nn.Module``.

    Example:
        >>> import numpy as np
        >>> waves = np.sin(np.arange(60)[:, None] + np.arange(27))
        >>> model = AttentionRegressor(max_epochs=2, random_state=0).fit(waves[:, :24], waves[:, 24:])
        >>> model.predict(waves[:2, :24]).shape
        (2, 3)
    """

    def __init__(
        self,
        *,
        n_channels: int = 1,
        attention: str = "mlr",
        ranks: tuple[int, ...] | None = None,
        block_sizes: tuple[int, ...] | None = None,
        d_model: int = 16,
        n_heads: int = 2,
        n_layers: int = 2,
        d_ff: int = 64,
        patch_len: int = 16,
        patch_stride: int = 8,
        dropout: float = 0.1,
        loss: str = "mse",
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 128,
        max_epochs: int = 10,
        patience: int | None = 3,
        val_size: int | float = 0.1,
        device: str = "auto",
        random_state: Any = None,
    ) -> None:
        self.n_channels = n_channels
        self.attention = attention
        self.ranks = ranks
        self.block_sizes = block_sizes
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.d_ff = d_ff
        self.patch_len = patch_len
        self.patch_stride = patch_stride
        self.dropout = dropout
        self.loss = loss
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.val_size = val_size
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Learn what follows a window; what was learnt before is forgotten.

        Args:
            X: Windows, ``[n, T * C]``, finite numbers.
            y: What follows them, ``[n]`` or ``[n, F * C]``, finite numbers.

        Returns:
            The fitted regressor.

        Raises:
            ValueError: If a parameter or an array is not usable; nothing has been trained then.
        """
        settings = self._train_config()
        given, future = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        x, y_rows = self._windows(given, "X"), self._windows(future.reshape(len(given), -1), "y")
        config = self._model_config(x.shape[1], y_rows.shape[1])
        n_learn = len(x) - self._n_valid(len(x))
        scaler = _scaler(x[:n_learn])
        device = _find_device(self.device)
        generators = Generators.from_seed(seed_from(self.random_state), device)
        network = build_model(config, generator=generators.init)
        values = torch.as_tensor(scaler.transform(np.concatenate([x, y_rows], axis=1)).astype(np.float32)).to(device)
        learn = self._batches(values, np.arange(n_learn), config, generators.order)
        check = self._batches(values, np.arange(n_learn, len(x)), config, None)
        with limit_threads(self._choose_threads(network, config, n_learn)):
            progress = train(
                network, learn, check if check.n_windows else None, settings, generators=generators, device=device
            )
        # In double precision the forecast of a window does not depend on the windows computed beside it.
        self.network_, self.config_, self.scaler_ = network.double(), config, scaler
        self.n_iter_, self._flat = progress.epoch, future.ndim == 1
        return self

    def predict(self, X: Any) -> np.ndarray:
        """What follows each window.

        Args:
            X: Windows, ``[n, T * C]``.

        Returns:
            ``[n]`` where ``fit`` was given a one-dimensional ``y``, otherwise ``[n, F * C]``, in float64.

        Raises:
            ValueError: If the shape differs from that of ``fit`` or a value is not finite.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        check_is_fitted(self, "network_")
        x = self.scaler_.transform(self._windows(validate_data(self, X, dtype=np.float64, reset=False), "X"))
        device = next(self.network_.parameters()).device
        rows = max(_CHUNK // x.shape[2], 1)
        n_threads = self._choose_threads(self.network_, self.config_, len(x))
        with limit_threads(n_threads), torch.inference_mode():
            parts = [self.network_(torch.as_tensor(part).to(device)).cpu().numpy() for part in _chunks(x, rows)]
        y = self.scaler_.inverse(np.concatenate(parts))
        return y.ravel() if self._flat else y.reshape(len(y), -1)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # Any columns will do to scikit-learn's checks; here they have to be one series' past.
        tags.regressor_tags.poor_score = True
        return tags

    def _choose_threads(self, network: torch.nn.Module, config: ModelConfig, n_windows: int) -> int:
        """Threads for windows that pass a network together: one for a small network."""
        sequences = min(n_windows, self.batch_size) * self.n_channels
        return choose_threads(None, sequences * multiply_adds(network, config))

    def _windows(self, rows: np.ndarray, name: str) -> np.ndarray:
        """``[n, T * C]`` as ``[n, T, C]``."""
        channels = self.n_channels
        if not isinstance(channels, int | np.integer) or isinstance(channels, bool) or channels < 1:
            raise ValueError(f"n_channels must be a whole number of at least 1; got {channels!r}")
        if rows.shape[1] % channels:
            raise ValueError(
                f"{name} must have a multiple of n_channels = {channels} columns, a moment's channels side by side;"
                f" got {rows.shape[1]}; flatten windows [n, T, C] by reshape(n, -1)"
            )
        return rows.reshape(len(rows), -1, int(channels))

    def _n_valid(self, n: int) -> int:
        size = self.val_size
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not (whole and size >= 0) and not (isinstance(size, float) and 0 <= size < 1):
            raise ValueError(f"val_size must be a number of windows or a share in [0, 1); got {size!r}")
        held = int(size) if whole else int(n * size)
        if held >= n:
            raise ValueError(f"val_size = {size} leaves none of {n} windows to learn from; lower it, or give more")
        return held

    def _train_config(self) -> TrainConfig:
        return TrainConfig(
            loss=self.loss,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
        )

    def _model_config(self, context: int, horizon: int) -> ModelConfig:
        if self.attention not in ATTENTION_KINDS:
            raise ValueError(f"attention must be one of {', '.join(ATTENTION_KINDS)}; got {self.attention!r}")
        patch_len = min(self.patch_len, context)
        return ModelConfig(
            context=context,
            horizon=horizon,
            backbone=self.attention,
            equivariant=True,
            d_model=self.d_model,
            n_heads=self.n_heads,
            n_layers=self.n_layers,
            d_ff=self.d_ff,
            patch_len=patch_len,
            patch_stride=min(self.patch_stride, patch_len),
            dropout=self.dropout,
            ranks=None if self.ranks is None else tuple(self.ranks),
            block_sizes=None if self.block_sizes is None else tuple(self.block_sizes),
        )

    def _batches(
        self, values: torch.Tensor, chosen: np.ndarray, config: ModelConfig, order: torch.Generator | None
    ) -> WindowBatches:
        """Batches of the windows ``chosen`` among ``values [n, T + F, C]``, laid end to end for the reader."""
        spec = WindowSpec(config.context, config.horizon)
        ends = chosen * spec.length + spec.context
        return WindowBatches(values.flatten(0, 1), ends, spec, batch_size=self.batch_size, generator=order)


def _scaler(x: np.ndarray) -> Scaler:
    """Mean and standard deviation of each channel over all windows ``[n, T, C]``; 1 where it is constant."""
    mean, scale = x.mean((0, 1)), x.std((0, 1))
    return Scaler(mean[None], np.where(scale <= 1e-12 * np.abs(mean), 1.0, scale)[None])


def _chunks(x: np.ndarray, rows: int) -> list[np.ndarray]:
    return [x[first : first + rows] for first in range(0, len(x), rows)]


def _find_device(name: str) -> torch.device:
    """The device asked for; a fit refuses one that is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:<n>; got {name!r}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r} is not available here; use device='auto' or 'cpu'")
    return device
