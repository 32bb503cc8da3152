"""The networks of GluonTS as forecasters."""

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import torch

from tsattn.checks import check_choice, check_whole, check_whole_or_none
from tsattn.data.calendar import season_length
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.forecaster import FitContext, Fitted, learnt
from tsattn.forecasters.pooled import (
    PooledForecaster,
    choose_context,
    standardise,
    training_windows,
)
from tsattn.forecasts import Answer
from tsattn.limits import IN_SINGLE, limit_threads, plain_torch
from tsattn.locks import forkable
from tsattn.random import seed_from
from tsattn.silence import LIGHTNING, ignored, interruptible, silenced
from tsattn.storage import full_disk_names
from tsattn.store import Tensors, check_weights

if TYPE_CHECKING:
    from tsattn.data.encoding import CovariateWindows
    from tsattn.store import Saved

# What GluonTS, Lightning and torch say of one another is no matter of the user's.
_THEIR_OWN = (
    (UserWarning, "Using `json`-module for json-handling"),
    (UserWarning, "Using a non-tuple sequence for multidimensional indexing"),
    (UserWarning, "The '.*_dataloader' does not have many workers"),
    (UserWarning, "You defined a `validation_step` but have no `val_dataloader`"),
    (UserWarning, "GPU available but not used"),
    (UserWarning, "dropout option adds dropout after all but last recurrent layer"),
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated"),
)
# GluonTS draws from the random state of the process: fits and forecasts of several threads take
# turns.
_LOCK = forkable()
# Arguments of the estimators that count layers.
_LAYERS = ("num_layers", "num_encoder_layers")
# Rows (windows x sample paths) in one pass of a network.
_PASS_ROWS = 2**15


class SharedNormal(torch.distributions.Normal):
    """A normal distribution whose rows are consecutive groups of ``n_paths``, each drawn with the
    same noise.

    So the paths of a window do not depend on the windows beside it.

    Args:
        loc: ``[B * S, ...]``, row ``b * S + s`` belonging to path s of window b.
        scale: Likewise.
        n_paths: S.
    """

    def __init__(self, loc: torch.Tensor, scale: torch.Tensor, *, n_paths: int) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.n_paths = n_paths

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """One draw a row; ``sample_shape`` must be empty."""
        if len(sample_shape):
            raise ValueError(
                f"SharedNormal draws one path a row; got sample_shape {tuple(sample_shape)}: repeat"
                " rows"
            )
        shape = (self.n_paths, *self.loc.shape[1:])
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        n_windows = len(self.loc) // self.n_paths
        other_axes = [1] * (self.loc.ndim - 1)
        return self.loc + self.scale * noise.repeat(n_windows, *other_axes)


# A class of GluonTS, and the settings of its own.
_Estimator = tuple[Any, dict[str, Any]]


def _deepar(context: int, season: int) -> _Estimator:
    from gluonts.torch.distributions import NormalOutput
    from gluonts.torch.model.deepar import DeepAREstimator

    longest_lag = max(context // 2, 1)
    lags = [lag for lag in sorted({1, 2, 3, 4, 5, 6, 7, season}) if lag <= longest_lag]
    return DeepAREstimator, {
        "freq": "D",  # of the stand-in stamps; no time features are read
        # The longest lag and this together reach back ``context`` rows.
        "context_length": context + 1 - lags[-1],
        "lags_seq": lags,
        "time_features": [],
        "scaling": False,
        "distr_output": NormalOutput(),
    }


def _patchtst(context: int, season: int) -> _Estimator:
    from gluonts.torch.distributions import StudentTOutput
    from gluonts.torch.model.patch_tst import PatchTSTEstimator

    patch_len = min(16, context)
    return PatchTSTEstimator, {
        "patch_len": patch_len,
        "stride": max(patch_len // 2, 1),
        "context_length": context,
        "scaling": None,
        "distr_output": StudentTOutput(),
    }


def _dlinear(context: int, season: int) -> _Estimator:
    from gluonts.torch.distributions import StudentTOutput
    from gluonts.torch.model.d_linear import DLinearEstimator

    return DLinearEstimator, {
        "context_length": context,
        "scaling": None,
        "distr_output": StudentTOutput(),
    }


_MODELS = MappingProxyType({"deepar": _deepar, "patchtst": _patchtst, "dlinear": _dlinear})


@dataclass(frozen=True, eq=False, kw_only=True)
class GluonTSFitted(Fitted):
    """A trained network of GluonTS.

    Args:
        context: Rows of history read.
        n_windows: Training windows used.
        network: The network, on the CPU, in float64.
        path_seed: Seed of the sample paths.
    """

    saved_counts = MappingProxyType(
        {"context": "context_", "n_windows": "n_windows_", "path_seed": "_path_seed"}
    )

    context: int
    n_windows: int
    network: Any
    path_seed: int

    def tensors(self) -> Tensors:
        """The weights."""
        return {f"learnt.{name}": tensor for name, tensor in self.network.state_dict().items()}

    @classmethod
    def restored(cls, forecaster: "GluonTSForecaster", saved: "Saved", **common: Any) -> Self:
        """As :meth:`tsattn.forecaster.Fitted.restored`."""
        tensors = saved.part("learnt.")
        context = saved.count("context_")
        args = forecaster.estimator_args or {}
        check_weights(tensors, {name: args.get(name, 1) for name in _LAYERS})
        with ignored(*_THEIR_OWN), silenced(*LIGHTNING):
            season = season_length(common["panel"].freq)
            estimator = forecaster._estimator(context, season, "", torch.device("cpu"))
            # Neither memory nor random numbers are taken for weights that are here.
            with torch.device("meta"):
                network = estimator.create_lightning_module().model
        network.load_state_dict(dict(tensors), assign=True)
        return cls(
            **common,
            context=context,
            n_windows=saved.count("n_windows_"),
            network=network.to(torch.float64).eval(),
            path_seed=saved.count("_path_seed"),
        )


class GluonTSForecaster(PooledForecaster):
    """A network of GluonTS, trained by its own estimator on windows of all series and channels.

    Each window is standardised by its own mean and standard deviation instead of the estimator's
    scaling, so that series of any size, seen or not, share the network and forecasts follow shifts
    and changes of scale; windows carry no stamps, so no time features are read. A constant window
    forecasts its value with no spread.

    - ``"deepar"`` (Salinas et al., 2020): points are the mean and quantiles those of ``n_paths``
      sample paths of a normal distribution. All windows are drawn with the same noise, so a
      forecast does not depend on its batch.
    - ``"patchtst"`` (Nie et al., 2023) and ``"dlinear"`` (Zeng et al., 2023): points and quantiles
      of the Student-t distribution at each step.

    Training is Lightning's, without its words and files. It keeps the weights of the epoch with the
    least training loss. The random state of the process is left as it was; threads that fit at the
    same time take turns. Forecasts are computed in float64.

    Args:
        horizon: Rows forecast ahead.
        model: ``"deepar"``, ``"patchtst"`` or ``"dlinear"``.
        context: Rows of history, for ``"deepar"`` its lags included, at least 2. ``None`` takes two
            horizons or one season, the longer, at most half of what the median series leaves beside
            one horizon. What a series lacks at the front is the mean of its window.
        max_epochs: Epochs of 50 batches of 32 windows each, unless ``estimator_args`` say
            otherwise.
        n_paths: Sample paths of ``"deepar"``.
        max_windows: Most training windows; where there are more, so many are drawn. It bounds
            memory.
        estimator_args: Further arguments of the GluonTS estimator, such as
            ``{"hidden_size": 64, "lr": 1e-4}``.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"cuda"``.
        random_state: Seed of the draw, the weights, the dropout and the paths: an int, a numpy
            generator, or None.
        alias: Name of the column; default ``model``, and ``"patchtst_gluonts"`` and
            ``"dlinear_gluonts"``.
        schema: How tables are read. Futures that miss a value are no training windows.

    Attributes:
        context_: Rows of history read, set by ``fit``.
        network_: The trained network, on the CPU, set by ``fit``.
        n_windows_: Training windows used, set by ``fit``.

    Raises:
        ValueError: If a setting is out of range; in ``fit``, if no series has room for one window
            or ``estimator_args`` name what the estimator does not know or this class decides.
    """

    fitted_class = GluonTSFitted
    bound = ("horizon", "model", "estimator_args")

    network_: Any = learnt("network", "The trained network, on the CPU.")
    _path_seed: int = learnt("path_seed", "Seed of the sample paths.")

    def __init__(
        self,
        horizon: int,
        model: str = "deepar",
        *,
        context: int | None = None,
        max_epochs: int = 20,
        n_paths: int = 100,
        max_windows: int = 20_000,
        estimator_args: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: Any = None,
        alias: str | None = None,
        schema: Schema = Schema(),
    ) -> None:
        check_choice("model", model, _MODELS)
        check_choice("device", device, ("auto", "cpu", "cuda"))
        check_whole("horizon", horizon)
        self.horizon = horizon
        self.alias = alias
        self.schema = schema
        self.model = model
        self.context = check_whole_or_none("context", context, 2)
        self.max_epochs = check_whole("max_epochs", max_epochs)
        self.n_paths = check_whole("n_paths", n_paths)
        self.max_windows = check_whole("max_windows", max_windows)
        self.estimator_args = estimator_args
        self.device = device
        self.random_state = random_state

    @property
    def name(self) -> str:
        """The model, ``_gluonts`` after it where this library has one of that name."""
        return self.model if self.model == "deepar" else f"{self.model}_gluonts"

    @plain_torch()
    @torch.inference_mode(mode=False)
    def _fit(self, panel: Panel, context: FitContext) -> GluonTSFitted:
        from tsattn.training.loop import at_error, at_start, one_process

        n_rows = choose_context(panel, self.horizon, self.context, min_rows=2)
        generator = np.random.default_rng(seed_from(self.random_state))
        x, y, _ = training_windows(
            panel,
            context=n_rows,
            horizon=self.horizon,
            max_windows=self.max_windows,
            generator=generator,
            centre="mean",
        )
        order = generator.permutation(len(x))
        windows = np.concatenate([x, y], axis=1).astype(np.float32)[order]
        device = self._device()
        seed = int(generator.integers(2**63))
        with (
            _seeded(seed, device),
            ignored(*_THEIR_OWN),
            silenced(*LIGHTNING),
            full_disk_names(Path(gettempdir())),
            TemporaryDirectory() as folder,
        ):
            estimator = self._estimator(n_rows, season_length(panel.freq), folder, device)
            # More threads make small networks no faster.
            with interruptible() as restore_handlers, limit_threads(1):
                errors: list[BaseException] = []
                callbacks = [at_start(restore_handlers), at_error(errors.append)]
                estimator.trainer_kwargs["callbacks"] = callbacks
                estimator.trainer_kwargs["plugins"] = one_process()
                try:
                    trained = estimator.train_model(_entries(windows)).trained_net
                except FileNotFoundError:
                    # GluonTS goes on from a checkpoint that a full disk did not take.
                    raise errors[0] from None
        return GluonTSFitted(
            panel=panel,
            context=n_rows,
            n_windows=len(x),
            network=trained.model.to("cpu", torch.float64).eval(),
            path_seed=int(generator.integers(2**63)),
        )

    def _estimator(self, context: int, season: int, folder: str, device: torch.device) -> Any:
        from gluonts.transform import ValidationSplitSampler

        estimator_class, model_args = _MODELS[self.model](context, season)
        fixed_args = {
            "prediction_length": self.horizon,
            # Every entry is one window; it is cut where its context ends, never elsewhere.
            "train_sampler": ValidationSplitSampler(min_future=self.horizon),
            "trainer_kwargs": {
                "accelerator": "gpu" if device.type == "cuda" else "cpu",
                "devices": 1,
                "max_epochs": self.max_epochs,
                "logger": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "default_root_dir": folder,
            },
        }
        parameters = set(inspect.signature(estimator_class).parameters)
        free_names = parameters - {"context_length", *fixed_args}
        extra_args = dict(self.estimator_args or {})
        for name in extra_args:
            if name not in free_names:
                names = ", ".join(sorted(free_names))
                raise ValueError(
                    f"estimator_args of {self.model!r} may hold {names}; got"
                    f" {name!r}: leave it out, or use this class's own argument"
                )
        return estimator_class(**{**model_args, **fixed_args, **extra_args})

    def _device(self) -> torch.device:
        from tsattn.forecasters.fitted import resolve_device

        return resolve_device(self.device, strict=True)

    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        answer = self._answer(x, quantiles)
        return answer[..., 0], answer[..., 1:]

    @plain_torch()
    def _answer(self, x: np.ndarray, quantiles: Sequence[float]) -> np.ndarray:
        """Point and quantiles, ``[B, F, C, 1 + Q]``."""
        n_windows, context, n_channels = x.shape
        n_answers = 1 + len(quantiles)
        if not x.size:
            return np.zeros((n_windows, self.horizon, n_channels, n_answers))
        z, location, spread = standardise(x, centre="mean")
        series = z.swapaxes(1, 2).reshape(n_windows * n_channels, context)
        n_paths = self.n_paths if self.model == "deepar" else 1
        n_rows = max(1, _PASS_ROWS // n_paths)
        device = self._device()
        network = self.network_
        if device.type != "cpu":
            network = copy.deepcopy(network).to(device)
        parts = []
        with _LOCK, torch.inference_mode(), ignored(*_THEIR_OWN), limit_threads(1):
            for part in torch.as_tensor(series).to(device).split(n_rows):
                # Seeded at each pass: the noise belongs to the step and the path, never to the
                # place in a batch.
                with _seeded(self._path_seed, device):
                    parts.append(self._pass(network, part, quantiles))
        answer = np.concatenate(parts).reshape(n_windows, n_channels, self.horizon, n_answers)
        return location[..., None] + spread[..., None] * answer.swapaxes(1, 2)

    def _pass(self, network: Any, x: torch.Tensor, quantiles: Sequence[float]) -> np.ndarray:
        observed = torch.ones_like(x)
        if self.model == "deepar":
            paths = self._paths(network, x, observed)
            columns = [paths.mean(axis=1)]
            if len(quantiles):
                columns += [*np.quantile(paths, quantiles, axis=1)]
            return np.stack(columns, axis=-1)
        args, loc, scale = network(x, observed)
        distribution = network.distr_output.distribution(args)
        mean = distribution.mean
        answers = [loc + scale * mean]
        for quantile in quantiles:
            probability = torch.full_like(mean, quantile)
            answers.append(loc + scale * distribution.icdf(probability))
        return torch.stack(answers, dim=-1).cpu().numpy()

    def _paths(self, network: Any, x: torch.Tensor, observed: torch.Tensor) -> np.ndarray:
        """Sample paths, ``[B, S, F]``."""
        n_windows, context = x.shape
        network.distr_output.distr_cls = partial(SharedNormal, n_paths=self.n_paths)
        # The age of a row, as the estimator's transformation counts it from the beginning of a
        # training window.
        age = torch.log10(
            2.0 + torch.arange(context + self.horizon, dtype=x.dtype, device=x.device)
        )
        age = age.expand(n_windows, -1)[..., None]
        paths = network(
            feat_static_cat=torch.zeros(n_windows, 1, dtype=torch.long, device=x.device),
            feat_static_real=torch.zeros(n_windows, 1, dtype=x.dtype, device=x.device),
            past_time_feat=age[:, :context],
            past_target=x,
            past_observed_values=observed,
            future_time_feat=age[:, context:],
            num_parallel_samples=self.n_paths,
        )
        return paths.cpu().numpy()


def _entries(windows: np.ndarray) -> list[dict[str, Any]]:
    start = pd.Period("2000-01-01", freq="D")  # GluonTS asks for a stamp; nothing reads it
    return [{"start": start, "target": window} for window in windows]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and set its precision to single inside a block; restore both afterwards."""
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with _LOCK, torch.random.fork_rng(devices=devices), IN_SINGLE:
        torch.manual_seed(seed)
        yield
