"""Searches for settings by Optuna, which see validation losses and nothing else."""

import copy
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from tsattn.data.frames import Panel, TableLike
from tsattn.data.schema import Schema
from tsattn.forecasters.network import NetworkForecaster
from tsattn.nn.config import ModelConfig
from tsattn.nn.models import build_model
from tsattn.random import seed_from
from tsattn.settings import Settings, check_whole
from tsattn.silence import silenced

if TYPE_CHECKING:
    import optuna

    from tsattn.training.loop import ForecastModule

# Settings that change what the validation loss is a loss of, or say where and from what a fit is
# made.
_NOT_TUNED = MappingProxyType(
    {
        **dict.fromkeys(
            ("horizon", "val_size", "loss", "head", "quantiles", "target_transform", "missing"),
            "losses under different values do not compare",
        ),
        **dict.fromkeys(Schema().get_params(), "it says how the table is read"),
        **dict.fromkeys(
            ("alias", "checkpoint_dir", "device", "max_time", "n_threads", "trainer"),
            "it says how a fit is run, not what is learnt",
        ),
        "random_state": "the best of several seeds is luck",
    }
)
# Combinations of bounds and choices that are tried out before anything is trained.
_MOST_CHECKED = 256
_LOGGERS = (
    "optuna.storages._in_memory",
    "optuna.study.study",
    "optuna.study._optimize",
    "optuna.study._tell",
)
# A fit is hopeless where its loss is above the median of the others at the same epoch; not before
# the first few.
_PATIENT_TRIALS = 4
_PATIENT_EPOCHS = 1


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search found.

    Attributes:
        forecaster: The best one, as it was fitted in its trial: on the training rows, stopped by
            the validation rows.
        params: Its settings from the space.
        valid_loss: Its validation loss.
        trials: One row a trial, in order: ``valid_loss``, ``state`` (``"done"``, ``"pruned"`` or
            ``"failed"``), ``epochs``, ``seconds``, ``error``, and a column for each name of the
            space.
    """

    forecaster: Any
    params: Mapping[str, Any]
    valid_loss: float
    trials: pd.DataFrame


def tune(
    forecaster: NetworkForecaster,
    data: TableLike | Panel,
    space: Mapping[str, Any],
    *,
    n_trials: int = 20,
    test_size: int = 0,
    prune: bool = False,
    random_state: Any = None,
) -> Tuned:
    """Search settings by Optuna, each judged by the validation loss that its own fit computed.

    The first trial takes the forecaster's own settings where the space holds them. Each trial fits
    a copy; the forecaster given stays as it is. The validation rows choose, so that their loss
    flatters the chosen one: judge it on rows that were put aside (``test_size``), once.

    Args:
        forecaster: Its settings are those of all trials where the space names no others;
            ``val_size`` must be above 0.
        data: A long or wide frame, or a panel.
        space: Name of a setting, such as ``"network__d_model"`` -> a list of choices; or
            ``(low, high)``, two whole numbers or two others, or ``(low, high, "log")`` by orders of
            magnitude; or a function of an Optuna trial.
        n_trials: Fits.
        test_size: Rows at the end of every series that are cut off first; nothing here reads them.
        prune: End a fit early whose validation loss is above the median of the trials before at the
            same epoch.
        random_state: Seed of the search, and of the fits where the forecaster has none; ``None``
            draws a new one.

    Returns:
        The best forecaster, fitted, its settings, and a table of all trials.

    Raises:
        TypeError: If the forecaster is not one that is trained with a validation loss.
        ValueError: If a name or value of the space or another argument is not usable, before
            anything is trained; or if no trial could be fitted.
        ImportError: If Optuna is not installed.

    Example:
        >>> from tsattn import LinearForecaster, Training
        >>> days = pd.date_range("2024-01-01", periods=120, freq="D")
        >>> df = pd.DataFrame({"ds": days, "y": np.sin(np.arange(120.0))})
        >>> model = LinearForecaster(7, context=14, training=Training(max_epochs=2))
        >>> space = {"training__learning_rate": (1e-4, 1e-1, "log")}
        >>> found = tune(model, df, space, n_trials=3, test_size=14, random_state=0)
        >>> found.trials["state"].tolist(), found.forecaster.context_
        (['done', 'done', 'done'], 14)
    """
    study_of = _study_maker()
    from optuna.trial import TrialState

    states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    _check_arguments(forecaster, space, n_trials, test_size, prune, random_state)
    panel = _kept(forecaster.read(data), test_size)
    seeds = np.random.SeedSequence(seed_from(random_state)).generate_state(2)
    own = seed_from(forecaster.random_state)
    base = _copy(forecaster, random_state=int(seeds[1]) if own is None else own)
    _check_corners(base, panel, space)
    study = study_of(int(seeds[0]), prune, _first(base, space))
    rows = []
    best = None
    with silenced(*_LOGGERS):
        for _ in range(n_trials):
            trial = study.ask()
            params, row, fitted = _try(trial, base, panel, space, prune)
            study.tell(
                trial,
                row["valid_loss"] if row["state"] == "done" else None,
                state=states[row["state"]],
            )
            rows.append({**row, **params})
            if fitted is not None and (best is None or row["valid_loss"] < best[1]):
                best = fitted, row["valid_loss"], params
    if best is None:
        raise ValueError(
            f"none of {n_trials} trials could be fitted; the first said: {rows[0]['error']}"
        )
    best[0].panel_in_ = isinstance(data, Panel)
    names = ["valid_loss", "state", "epochs", "seconds", "error", *space]
    table = pd.DataFrame(rows, columns=names).rename_axis("trial")
    return Tuned(best[0], MappingProxyType(best[2]), best[1], table)


def _study_maker() -> Callable[[int, bool, dict[str, Any]], "optuna.Study"]:
    """Optuna is asked for before anything else, so that its absence costs nobody a wait."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ImportError(
            "tune needs optuna; install it with: pip install 'tsattn[tune]'"
        ) from error

    def study_of(seed: int, prune: bool, first: dict[str, Any]) -> "optuna.Study":
        pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
        if prune:
            pruner = optuna.pruners.MedianPruner(
                n_startup_trials=_PATIENT_TRIALS, n_warmup_steps=_PATIENT_EPOCHS
            )
        with silenced(*_LOGGERS):
            study = optuna.create_study(
                sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner
            )
            study.enqueue_trial(first)
        return study

    return study_of


# --- before the first trial -----------------------------------------------------------------------


def _check_arguments(
    forecaster: Any, space: Any, n_trials: Any, test_size: Any, prune: bool, random_state: Any
) -> None:
    if not isinstance(forecaster, NetworkForecaster):
        raise TypeError(
            "tune needs a forecaster with a validation loss, such as AttentionForecaster or"
            f" LinearForecaster; got {type(forecaster).__name__}"
        )
    check_whole("n_trials", n_trials)
    check_whole("test_size", test_size, 0)
    if not forecaster.val_size:
        raise ValueError(
            "tune compares validation losses, and val_size = 0 leaves none; set val_size above 0"
        )
    trainer = forecaster.training.trainer
    if prune and trainer is not None and trainer.starts_some:
        raise ValueError(
            "prune=True looks at each epoch, which processes that fit starts keep to themselves;"
            " set one"
        )
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"space must map names of settings to what may be tried; got {space!r}")
    if trainer is not None and trainer.joins_some and random_state is None:
        raise ValueError("processes of a launcher must search alike; give random_state")
    groups = [
        name
        for name, value in forecaster.get_params(deep=False).items()
        if isinstance(value, Settings)
    ]
    known = [
        n
        for n in forecaster.get_params()
        if n not in groups and n.split("__")[-1] not in _NOT_TUNED
    ]
    for name, range_ in space.items():
        if (why := _NOT_TUNED.get(name.split("__")[-1])) is not None:
            raise ValueError(f"{name} cannot be tuned: {why}; set it on the forecaster")
        if name not in known:
            raise ValueError(
                f"{type(forecaster).__name__} has no setting {name!r}; it has {', '.join(known)}"
            )
        _check_range(name, range_)


def _check_range(name: str, range_: Any) -> None:
    if callable(range_):
        return
    if isinstance(range_, list):
        if not range_:
            raise ValueError(f"{name} has no choices; list at least one")
        return
    if not isinstance(range_, tuple):
        raise ValueError(
            f"{name} must be a list of choices, a tuple (low, high) or (low, high, 'log'), or a"
            f" function of a trial; got {range_!r}"
        )
    numbers = range_[:2]
    if (
        len(numbers) < 2
        or range_[2:] not in ((), ("log",))
        or any(
            isinstance(n, bool) or not isinstance(n, Real) or not math.isfinite(n) for n in numbers
        )
    ):
        raise ValueError(
            f"{name} as a tuple must be (low, high) or (low, high, 'log') with two numbers; got"
            f" {range_!r}: put choices into a list"
        )
    low, high = numbers
    if not low < high or (len(range_) == 3 and low <= 0):
        above = " and, with 'log', above 0" if len(range_) == 3 else ""
        raise ValueError(f"{name} must have low below high{above}; got {range_!r}")


def _kept(panel: Panel, test_size: int) -> Panel:
    """The rows that may be seen, in arrays of their own: what was cut off cannot be reached."""
    if not test_size:
        return panel
    short = panel.lengths <= test_size
    if short.any():
        n = int(np.argmax(short))
        raise ValueError(
            f"test_size = {test_size} leaves nothing of series {panel.ids[n]!r}, which has"
            f" {panel.lengths[n]} rows; lower it, or leave the series out"
        )
    return copy.deepcopy(panel.until(panel.lengths - test_size))


def _corners(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Combinations of all choices and bounds, so many as can be looked at; functions are
    left out.
    """
    values = {
        name: range_ if isinstance(range_, list) else range_[:2]
        for name, range_ in space.items()
        if not callable(range_)
    }
    total = math.prod(len(each) for each in values.values())
    if total <= _MOST_CHECKED:
        return [
            dict(zip(values, each, strict=True)) for each in itertools.product(*values.values())
        ]
    # Each choice and bound at least once, the others drawn.
    generator = np.random.default_rng(0)
    longest = max(len(each) for each in values.values())
    n = max(_MOST_CHECKED, longest)
    drawn = {
        name: [each[i % len(each)] for i in generator.permutation(n)]
        for name, each in values.items()
    }
    return [{name: drawn[name][i] for name in values} for i in range(n)]


def _check_corners(base: NetworkForecaster, panel: Panel, space: Mapping[str, Any]) -> None:
    """Refuse a space with combinations that a fit would refuse."""
    built: set[ModelConfig] = set()
    for params in _corners(space):
        try:
            config = _copy(base, **params)._plan(panel)[1].config
            if config not in built:
                build_model(config, generator=torch.Generator().manual_seed(0))
            built.add(config)
        except (ValueError, TypeError) as error:
            told = ", ".join(f"{name} = {value!r}" for name, value in params.items())
            raise ValueError(f"the space allows what a fit refuses ({told}): {error}") from None


def _first(base: NetworkForecaster, space: Mapping[str, Any]) -> dict[str, Any]:
    """What the first trial takes of the forecaster's own, as Optuna names it; it draws the rest."""
    taken: dict[str, Any] = {}
    for name, range_ in space.items():
        own = base.get_params()[name]
        if isinstance(range_, list) and own in range_:
            taken[name] = range_.index(own)
        elif isinstance(range_, tuple) and isinstance(own, Real) and _holds(range_, own):
            taken[name] = own
    return taken


def _holds(range_: tuple[Any, ...], number: Any) -> bool:
    whole = all(isinstance(bound, Integral) for bound in range_[:2])
    return bool(range_[0] <= number <= range_[1] and not (whole and number % 1))


# --- one trial ------------------------------------------------------------------------------------


def _copy(forecaster: NetworkForecaster, **params: Any) -> NetworkForecaster:
    """A forecaster with the same settings but for ``params``, not fitted."""
    fresh = type(forecaster)(**copy.deepcopy(forecaster.get_params(deep=False)))
    return fresh.set_params(**params)


def _try(
    trial: "optuna.Trial",
    base: NetworkForecaster,
    panel: Panel,
    space: Mapping[str, Any],
    prune: bool,
) -> tuple[dict[str, Any], dict[str, Any], NetworkForecaster | None]:
    """Fit one combination: its settings, what came of it, and the fitted forecaster."""
    import optuna

    params = {name: _draw(trial, name, range_) for name, range_ in space.items()}
    candidate = _copy(base)
    epochs = list[float]()
    started = time.perf_counter()
    candidate._after_epoch = partial(_look_on, trial, epochs, prune)
    row: dict[str, Any] = {"valid_loss": math.nan, "state": "failed", "error": None}
    try:
        candidate.set_params(**params).fit(panel)
        if candidate.summary_["valid_loss"] is None:
            raise ValueError(
                "a solved map leaves no validation loss to compare; set closed_form=False"
            )
    except optuna.TrialPruned:
        row |= {"state": "pruned", "valid_loss": min(epochs)}
    except (
        ValueError
    ) as error:  # a loss that explodes, or a combination that only a function could draw
        row["error"] = str(error)
    else:
        row |= {"state": "done", "valid_loss": float(candidate.summary_["valid_loss"])}
    finally:
        del candidate._after_epoch
    fitted = candidate if row["state"] == "done" else None
    # Other processes keep their epochs to themselves, and those that a checkpoint holds are not run
    # again.
    row["epochs"] = len(epochs) if fitted is None else fitted.summary_["epochs"]
    return params, {**row, "seconds": time.perf_counter() - started}, fitted


def _draw(trial: "optuna.Trial", name: str, range_: Any) -> Any:
    if callable(range_):
        return range_(trial)
    if isinstance(range_, list):
        # By place: Optuna keeps numbers and text only, and choices may be tuples.
        return range_[trial.suggest_categorical(name, list(range(len(range_))))]
    low = range_[0]
    high = range_[1]
    log = len(range_) == 3
    if isinstance(low, Integral) and isinstance(high, Integral):
        return trial.suggest_int(name, int(low), int(high), log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _look_on(
    trial: "optuna.Trial", epochs: list[float], prune: bool, module: "ForecastModule"
) -> None:
    """Book the validation loss of an epoch, and end a hopeless fit."""
    import optuna

    entry = module.progress.history[-1]
    if entry["valid_loss"] is None:
        raise ValueError(
            "the validation rows hold no value, and so no loss to compare; raise val_size or cut"
            " them off"
        )
    epochs.append(entry["valid_loss"])
    trial.report(entry["valid_loss"], entry["epoch"])
    if prune and trial.should_prune():
        raise optuna.TrialPruned
