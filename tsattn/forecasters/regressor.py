"""The attention network as a regressor of scikit-learn: from windows to what follows them."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from tsattn.checks import check_choice, check_whole, is_whole
from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.data.windows import Scaler
from tsattn.forecasters.fitted import FittedNetwork, resolve_device
from tsattn.forecasters.fitting import check_val_size
from tsattn.limits import IN_SINGLE, limit_threads, plain_torch
from tsattn.nn.config import ATTENTION_KINDS, ModelConfig, Network
from tsattn.nn.models import build_model
from tsattn.random import Generators, seed_from
from tsattn.training.loop import train
from tsattn.training.settings import Training

# A deviation below this multiple of the mean is a rounding error.
_ROUNDING = 1e-12
_DEFAULTS = {
    "network": Network(n_layers=2, d_ff=64, dropout=0.1),
    "training": Training(skip_rate=1.0),
}


class AttentionRegressor(RegressorMixin, BaseEstimator):
    """Patch transformer with structured attention, from rows of past values to the values that
    follow.

    Each row of ``X`` is one window of a series, oldest value first; each row of ``y`` is what came
    next, in the same units. The network follows any shift and positive scale of a window, so no
    other feature can be explained by it: a column of ``X`` is a moment, not a variable. Use it
    where scikit-learn's tools (pipelines, searches, stacking) want two-dimensional arrays;
    :class:`tsattn.AttentionForecaster` works on frames.

    Args:
        n_channels: C channels that stand side by side at each moment: ``X`` is ``[n, T * C]`` as
            ``windows.reshape(n, -1)`` gives it for windows ``[n, T, C]``, and ``y`` is
            ``[n, F * C]`` likewise.
        attention: As in :class:`tsattn.AttentionForecaster`.
        network: How the network looks, a :class:`tsattn.Network`; ``None`` has two layers, ``d_ff``
            64 and dropout 0.1. A window shorter than ``patch_len`` is one patch.
        training: How it learns, a :class:`tsattn.Training`; ``None`` has a ``skip_rate`` of 1.
        val_size: Windows (int) or share (float) cut from the end of ``X`` to decide when to stop; 0
            is none.
        random_state: Seed; ``None`` draws a new one from the operating system.

    Attributes:
        n_features_in_: Columns of ``X``.
        n_iter_: Epochs made.
        fitted_: The network with its description and scale, a
            :class:`tsattn.forecasters.fitted.FittedNetwork`.

    Example:
        >>> import numpy as np
        >>> waves = np.sin(np.arange(60)[:, None] + np.arange(27))
        >>> model = AttentionRegressor(training=Training(max_epochs=2), random_state=0)
        >>> model = model.fit(waves[:, :24], waves[:, 24:])
        >>> model.predict(waves[:2, :24]).shape
        (2, 3)
    """

    def __init__(
        self,
        *,
        n_channels: int = 1,
        attention: str = "mlr",
        network: Network | None = None,
        training: Training | None = None,
        val_size: int | float = 0.1,
        random_state: Any = None,
    ) -> None:
        self.n_channels = n_channels
        self.attention = attention
        self.network = network
        self.training = training
        self.val_size = val_size
        self.random_state = random_state

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; ``network__d_model`` changes ``d_model`` inside of
        ``network``.

        Args:
            **params: New values by name.
        """
        inside = {name: value for name, value in params.items() if "__" in name}
        outside = {name: value for name, value in params.items() if "__" not in name}
        super().set_params(**outside)
        for name, value in inside.items():
            group, _, key = name.partition("__")
            if group not in _DEFAULTS:
                raise ValueError(
                    f"AttentionRegressor has no parameter {name!r}; it takes"
                    f" {', '.join(self.get_params())}"
                )
            setattr(self, group, self._settings(group).changed(**{key: value}))
        return self

    @plain_torch()
    @torch.inference_mode(mode=False)
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
        inputs, future = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, y_numeric=True
        )
        x = self._windows(inputs, "X")
        y_rows = self._windows(future.reshape(len(inputs), -1), "y")
        config = self._describe(x.shape[1], y_rows.shape[1])
        n_learn = len(x) - self._n_valid(len(x))
        scaler = _scaler(x[:n_learn])
        training = self._settings("training")
        device = resolve_device(training.device, strict=True)
        generators = Generators.from_seed(seed_from(self.random_state), device)
        with IN_SINGLE:
            network = build_model(config, generator=generators.init)
        fitted = FittedNetwork(network, config, scaler, by_place=True)
        rows = scaler.transform(np.concatenate([x, y_rows], axis=1))
        values = torch.as_tensor(rows.astype(np.float32)).to(device)
        learn = self._batches(values, np.arange(n_learn), config, generators.order)
        check = None
        if n_learn < len(x):
            check = self._batches(values, np.arange(n_learn, len(x)), config, None)
        with limit_threads(self._threads(fitted, n_learn)):
            progress = train(
                fitted.network, learn, check, training, generators=generators, device=device
            )
        # In double precision the forecast of a window does not depend on the windows computed
        # beside it.
        fitted = replace(fitted, network=fitted.network.double())
        self.fitted_ = fitted
        self.n_iter_ = progress.epoch
        self._flat = future.ndim == 1
        return self

    @plain_torch()
    def predict(self, X: Any) -> np.ndarray:
        """What follows each window.

        Args:
            X: Windows, ``[n, T * C]``.

        Returns:
            ``[n]`` where ``fit`` was given a one-dimensional ``y``, otherwise ``[n, F * C]``, in
            float64.

        Raises:
            ValueError: If the shape differs from that of ``fit`` or a value is not finite.
            sklearn.exceptions.NotFittedError: If :meth:`fit` has not run.
        """
        check_is_fitted(self, "fitted_")
        x = self._windows(validate_data(self, X, dtype=np.float64, reset=False), "X")
        with limit_threads(self._threads(self.fitted_, len(x))):
            y = self.fitted_.answer(x, ())[0]
        return y.ravel() if self._flat else y.reshape(len(y), -1)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        # Any columns will do to scikit-learn's checks; here they have to be one series' past.
        tags.regressor_tags.poor_score = True
        return tags

    def _threads(self, fitted: FittedNetwork, n_windows: int) -> int:
        training = self._settings("training")
        return fitted.choose_threads(
            training.n_threads, min(n_windows, training.batch_size), self.n_channels
        )

    def _settings(self, name: str) -> Any:
        """The network's or the training's; scikit-learn allows no object as the default of an
        argument.
        """
        settings = getattr(self, name)
        return _DEFAULTS[name] if settings is None else settings

    def _windows(self, rows: np.ndarray, name: str) -> np.ndarray:
        """``[n, T * C]`` as ``[n, T, C]``."""
        channels = check_whole("n_channels", self.n_channels)
        if rows.shape[1] % channels:
            raise ValueError(
                f"{name} must have a multiple of n_channels = {channels} columns, a moment's"
                f" channels side by side; got {rows.shape[1]}; flatten windows [n, T, C] by"
                " reshape(n, -1)"
            )
        return rows.reshape(len(rows), -1, channels)

    def _n_valid(self, n: int) -> int:
        size = self.val_size
        check_val_size(size, "windows")
        n_valid = int(size) if is_whole(size) else int(n * size)
        if n_valid >= n:
            raise ValueError(
                f"val_size = {size} leaves none of {n} windows to learn from; lower it, or give"
                " more"
            )
        return n_valid

    def _describe(self, context: int, horizon: int) -> ModelConfig:
        check_choice("attention", self.attention, ATTENTION_KINDS)
        network = self._settings("network")
        training = self._settings("training")
        _refuse_unread(network, training)
        patch_len = min(network.patch_len, context)
        return network.describe(
            context,
            horizon,
            backbone=self.attention,
            equivariant=True,
            patch_len=patch_len,
            patch_stride=min(network.patch_stride, patch_len),
            linear_skip=bool(training.linear_skip),
        )

    def _batches(
        self,
        values: torch.Tensor,
        chosen: np.ndarray,
        config: ModelConfig,
        order: torch.Generator | None,
    ) -> WindowBatches:
        """Batches of the windows ``chosen`` among ``values [n, T + F, C]``, laid end to end for the
        reader.
        """
        spec = WindowSpec(config.context, config.horizon)
        ends = chosen * spec.length + spec.context
        return WindowBatches(
            values.flatten(0, 1),
            ends,
            spec,
            batch_size=self._settings("training").batch_size,
            generator=order,
        )


def _refuse_unread(network: Network, training: Training) -> None:
    """Refuse settings that only a forecaster of tables follows."""
    unread = {
        "channel_mixing": network.channel_mixing,
        "block_sizes": isinstance(network.block_sizes, str),
        "target_transform": training.target_transform,
        "trainer": training.trainer,
        "checkpoint_dir": training.checkpoint_dir,
        "linear_skip": training.solved,
    }
    for name, is_set in unread.items():
        if is_set:
            value = getattr(network if hasattr(network, name) else training, name)
            raise ValueError(
                f"AttentionRegressor does not take {name} = {value!r}; leave it out, or use"
                " AttentionForecaster"
            )


def _scaler(x: np.ndarray) -> Scaler:
    """Mean and standard deviation of each channel over all windows ``[n, T, C]``; 1 where it is
    constant.
    """
    mean = x.mean((0, 1))
    scale = x.std((0, 1))
    is_constant = scale <= _ROUNDING * np.abs(mean)
    scale = np.where(is_constant, 1.0, scale)
    return Scaler(mean[None], scale[None])
