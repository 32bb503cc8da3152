"""Searches for settings by Optuna, which compare validation losses."""

import copy
import itertools
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from tsattn.checks import check_installed, check_switch, check_whole, is_number, warn
from tsattn.data.panel import Panel, tell_skipped
from tsattn.data.schema import Schema
from tsattn.forecaster import FitContext
from tsattn.forecasters.network import NetworkForecaster
from tsattn.forecasts import Data
from tsattn.nn.models import build_model
from tsattn.random import seed_from
from tsattn.settings import Settings
from tsattn.silence import silenced
from tsattn.training.processes import DDPSettings

if TYPE_CHECKING:
    import optuna

    from tsattn.training.loop import ForecastModule

# Why some settings cannot be tuned.
_OTHER_LOSS = "losses under different values do not compare"
_OTHER_TABLE = "it says how the table is read"
_OTHER_RUN = "it says how a fit is run, not what is learnt"
_NOT_TUNED = MappingProxyType(
    {
        "horizon": _OTHER_LOSS,
        "val_size": _OTHER_LOSS,
        "loss": _OTHER_LOSS,
        "head": _OTHER_LOSS,
        "quantiles": _OTHER_LOSS,
        "target_transform": _OTHER_LOSS,
        **dict.fromkeys(Schema().get_params(), _OTHER_TABLE),
        "alias": _OTHER_RUN,
        "checkpoint_dir": _OTHER_RUN,
        "device": _OTHER_RUN,
        "max_time": _OTHER_RUN,
        "n_threads": _OTHER_RUN,
        "trainer": _OTHER_RUN,
        "random_state": "the best of several seeds is luck",
    }
)
# Combinations of bounds and choices that are checked before the first trial.
_MOST_CHECKED = 256
_LOGGERS = (
    "optuna.storages._in_memory",
    "optuna.study.study",
    "optuna.study._optimize",
    "optuna.study._tell",
)
# A fit is pruned where its loss is above the median of the others at the same epoch. The first
# trials and the first epochs are never pruned.
_UNPRUNED_TRIALS = 4
_UNPRUNED_EPOCHS = 1
# Draws of a combination that was not fitted yet, where there are some.
_MOST_DRAWS = 100


# Name of a setting -> what may be tried.
Space = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Tuned:
    """The result of a search.

    Attributes:
        forecaster: The best forecaster, as its trial fitted it: on the training rows, stopped by
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
    data: Data,
    space: Space,
    *,
    n_trials: int = 20,
    test_size: int = 0,
    prune: bool = False,
    random_state: Any = None,
) -> Tuned:
    """Search settings by Optuna, and judge each combination by the validation loss of its fit.

    The first trial takes the forecaster's own settings where the space holds them. Each trial fits
    a copy, and the forecaster stays as it is. The validation loss of the best combination is too
    low, because it was chosen by that loss. Judge it once on rows that the search did not read
    (``test_size``).

    Args:
        forecaster: A forecaster with ``val_size`` above 0. Trials have its settings, but for those
            that the space names.
        data: A long or wide frame, or a panel.
        space: Name of a setting, such as ``"network__d_model"`` -> a list of choices; or
            ``(low, high)``, two whole numbers or two others, or ``(low, high, "log")`` by orders of
            magnitude; or a function of an Optuna trial.
        n_trials: Number of fits. Choices and whole numbers are not tried twice while others are
            left.
        test_size: Rows at the end of every series that the search does not read.
        prune: Whether to end a fit whose validation loss is above the median of the earlier trials
            at the same epoch.
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
    check_installed("tune", ("optuna",), "'tsattn[tune]'")
    _check_arguments(forecaster, space, n_trials, test_size, prune, random_state)
    table = forecaster.read(data)
    tell_skipped(table, "the search reads nothing of them, and the winner does not forecast them")
    panel = _without_test_rows(replace(table, skipped=()), test_size)
    sequence = np.random.SeedSequence(seed_from(random_state))
    search_seed, spare_fit_seed = sequence.generate_state(2)
    fit_seed = seed_from(forecaster.random_state)
    if fit_seed is None:
        fit_seed = int(spare_fit_seed)
    base = _copy(forecaster, random_state=fit_seed)
    _check_corners(base, panel, space)
    best = None  # the only trial whose forecaster stays in memory
    rows = []
    with silenced(*_LOGGERS):
        study = _make_study(int(search_seed), prune)
        first_choice = _first_choice(base, space)
        study.enqueue_trial(first_choice)
        for _ in range(n_trials):
            trial = _run_trial(study, base, panel, space, prune)
            rows.append(trial.row())
            is_better = best is None or trial.valid_loss < best.valid_loss
            if trial.state == "done" and is_better:
                best = trial
    if best is None:
        first_error = rows[0]["error"]
        raise ValueError(
            f"none of {n_trials} trials could be fitted; the first said: {first_error}"
        )
    forecaster = best.forecaster.revised(from_panel=isinstance(data, Panel))
    trials = pd.DataFrame(rows).rename_axis("trial")
    return Tuned(forecaster, MappingProxyType(best.params), best.valid_loss, trials)


def _make_study(seed: int, prune: bool) -> "optuna.Study":
    import optuna

    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS
        )
    sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(sampler=sampler, pruner=pruner)


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
    check_switch("prune", prune)
    if not forecaster.val_size:
        raise ValueError(
            "tune compares validation losses, and val_size = 0 leaves none; set val_size above 0"
        )
    trainer = forecaster.training.trainer
    processes = trainer if isinstance(trainer, DDPSettings) else None
    if prune and processes is not None and processes.starts_some:
        raise ValueError(
            "prune=True looks at each epoch, which processes that fit starts keep to themselves;"
            " set one"
        )
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"space must map names of settings to what may be tried; got {space!r}")
    if processes is not None and processes.joins_some and random_state is None:
        raise ValueError("processes of a launcher must search alike; give random_state")
    names = _tunable_names(forecaster)
    for name, range_ in space.items():
        reason = _NOT_TUNED.get(_bare(str(name)))
        if reason is not None:
            raise ValueError(f"{name} cannot be tuned: {reason}; set it on the forecaster")
        if name not in names:
            kind = type(forecaster).__name__
            all_names = ", ".join(names)
            raise ValueError(f"{kind} has no setting {name!r}; it has {all_names}")
        _check_range(name, range_)


def _tunable_names(forecaster: NetworkForecaster) -> list[str]:
    """Settings that a space may name, but for those objects that are groups of settings."""
    return [
        name
        for name, value in forecaster.get_params().items()
        if not isinstance(value, Settings) and _bare(name) not in _NOT_TUNED
    ]


def _bare(name: str) -> str:
    """``network__d_model`` without its group: ``d_model``."""
    return name.split("__")[-1]


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
    bounds = range_[:2]
    options = range_[2:]
    has_form = len(bounds) == 2 and options in ((), ("log",))
    if not has_form or not all(is_number(bound) and math.isfinite(bound) for bound in bounds):
        raise ValueError(
            f"{name} as a tuple must be (low, high) or (low, high, 'log') with two numbers; got"
            f" {range_!r}: put choices into a list"
        )
    low, high = bounds
    is_log = len(range_) == 3
    has_no_logarithm = is_log and low <= 0
    if not low < high or has_no_logarithm:
        above = " and, with 'log', above 0" if is_log else ""
        raise ValueError(f"{name} must have low below high{above}; got {range_!r}")


def _without_test_rows(panel: Panel, test_size: int) -> Panel:
    """The rows before the test rows, copied, so that no fit can reach the test rows."""
    if not test_size:
        return panel
    is_short = panel.lengths <= test_size
    if is_short.any():
        n = int(np.argmax(is_short))
        raise ValueError(
            f"test_size = {test_size} leaves nothing of {panel.series_label(n)}, which has"
            f" {panel.lengths[n]} rows; lower it, or leave the series out"
        )
    stops = panel.lengths - test_size
    return copy.deepcopy(panel.until(stops))


def _corners(space: Space) -> list[dict[str, Any]]:
    """Combinations of choices and bounds: all, or a sample where they are too many.

    Settings that a function draws are left out.
    """
    values = {}
    for name, range_ in space.items():
        if not callable(range_):
            values[name] = range_ if isinstance(range_, list) else range_[:2]
    total = math.prod(len(choices) for choices in values.values())
    if total <= _MOST_CHECKED:
        combinations = itertools.product(*values.values())
        return [dict(zip(values, combination, strict=True)) for combination in combinations]
    # Each column of the sample has every choice or bound at least once, in a random order.
    generator = np.random.default_rng(0)
    longest = max(len(choices) for choices in values.values())
    n = max(_MOST_CHECKED, longest)
    columns = []
    for choices in values.values():
        places = generator.permutation(n) % len(choices)
        columns.append([choices[place] for place in places])
    return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]


def _check_corners(base: NetworkForecaster, panel: Panel, space: Space) -> None:
    """Refuse a space with combinations that a fit would refuse, and tell where they are judged by
    other windows.
    """
    built = set()
    # Number of validation windows -> settings, by the channels of a window.
    judged: dict[int, dict[int, str]] = {}
    for params in _corners(space):
        try:
            candidate = _copy(base, **params)
            plan, fitted = candidate._plan(candidate.read(panel))
            config = fitted.config
            # Some settings, such as the rate, make no other network.
            if config not in built:
                generator = torch.Generator().manual_seed(0)
                build_model(config, generator=generator)
            built.add(config)
        except (ValueError, TypeError) as error:
            values = _listed(params)
            raise ValueError(f"the space allows what a fit refuses ({values}): {error}") from None
        window_counts = judged.setdefault(plan.panel.n_channels, {})
        window_counts.setdefault(plan.n_valid_windows, _listed(params))
    for window_counts in judged.values():
        if len(window_counts) > 1:
            _tell_other_windows(window_counts)


def _listed(params: Mapping[str, Any]) -> str:
    settings = [f"{name} = {value!r}" for name, value in params.items()]
    return ", ".join(settings)


def _tell_other_windows(window_counts: Mapping[int, str]) -> None:
    """Warn that some combinations are judged by fewer windows than others."""
    fewest = min(window_counts)
    most = max(window_counts)
    warn(
        f"tune compares losses on {most} validation windows ({window_counts[most]}) with losses on"
        f" {fewest} ({window_counts[fewest]}), since long contexts leave out windows of series with"
        " few rows or values before them; narrow the range of context, or set val_size to a share"
        " such as 0.1"
    )


def _first_choice(base: NetworkForecaster, space: Space) -> dict[str, Any]:
    """The forecaster's own settings that the space holds, for the first trial.

    Optuna names a choice by its index in the list, and draws the settings that are left out.
    """
    own_values = base.get_params()
    choice: dict[str, Any] = {}
    for name, range_ in space.items():
        value = own_values[name]
        if isinstance(range_, list) and value in range_:
            choice[name] = range_.index(value)
        elif isinstance(range_, tuple) and isinstance(value, Real) and _holds(range_, value):
            choice[name] = value
    return choice


def _holds(range_: tuple[Any, ...], number: Any) -> bool:
    low, high, *_ = range_
    if _are_whole(low, high) and number % 1:
        return False
    return bool(low <= number <= high)


def _are_whole(*bounds: Any) -> bool:
    return all(isinstance(bound, Integral) for bound in bounds)


# --- trials ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Trial:
    """One combination and the result of its fit; ``forecaster`` only where ``state`` is done."""

    params: dict[str, Any]
    state: str
    valid_loss: float
    epochs: int
    seconds: float
    error: str | None
    forecaster: Any

    def row(self) -> dict[str, Any]:
        """The row of the table of trials."""
        return {
            "valid_loss": self.valid_loss,
            "state": self.state,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "error": self.error,
            **self.params,
        }


def _copy(forecaster: NetworkForecaster, **params: Any) -> NetworkForecaster:
    """A forecaster that is not fitted, with the same settings but for ``params``."""
    own_params = copy.deepcopy(forecaster.get_params(deep=False))
    fresh = type(forecaster)(**own_params)
    return fresh.set_params(**params)


def _run_trial(
    study: "optuna.Study",
    base: NetworkForecaster,
    panel: Panel,
    space: Space,
    prune: bool,
) -> _Trial:
    """Draw the next combination, fit it, and tell Optuna its loss."""
    import optuna
    from optuna.trial import TrialState

    states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    optuna_trial, params = _draw_new(study, space)
    candidate = _copy(base)
    losses = list[float]()
    started = time.perf_counter()
    after_epoch = partial(_after_epoch, optuna_trial, losses, prune)
    context = FitContext(after_epoch=after_epoch)
    state = "failed"
    valid_loss = math.nan
    message = None
    try:
        candidate.set_params(**params).fit_within(panel, context)
        if candidate.summary_["valid_loss"] is None:
            raise ValueError(
                "a solved map leaves no validation loss to compare; set closed_form=False"
            )
    except optuna.TrialPruned:
        state = "pruned"
        valid_loss = min(losses)
    except ValueError as error:
        # A loss that explodes, or a combination that only a function could draw.
        message = str(error)
    else:
        state = "done"
        valid_loss = float(candidate.summary_["valid_loss"])
    seconds = time.perf_counter() - started
    is_done = state == "done"
    study.tell(optuna_trial, valid_loss if is_done else None, state=states[state])
    # A finished fit has the count: other processes report no epochs, nor does a checkpoint.
    n_epochs = candidate.summary_["epochs"] if is_done else len(losses)
    forecaster = candidate if is_done else None
    return _Trial(params, state, valid_loss, n_epochs, seconds, message, forecaster)


def _draw_new(study: "optuna.Study", space: Space) -> tuple["optuna.Trial", dict[str, Any]]:
    """A trial and its settings, other ones than before as long as the space has some."""
    from optuna.trial import TrialState

    earlier = {tuple(trial.params.items()) for trial in study.get_trials(deepcopy=False)}
    # A queued trial, the first, has no settings yet.
    earlier.discard(())
    is_exhausted = len(earlier) >= _n_combinations(space)
    n_draws = 0
    while True:
        optuna_trial = study.ask()
        params = {name: _draw(optuna_trial, name, range_) for name, range_ in space.items()}
        n_draws += 1
        is_new = tuple(optuna_trial.params.items()) not in earlier
        if is_new or is_exhausted or n_draws == _MOST_DRAWS:
            return optuna_trial, params
        # Optuna learns nothing from a failed trial.
        study.tell(optuna_trial, state=TrialState.FAIL)


def _n_combinations(space: Space) -> float:
    """Number of combinations; 0 where a function draws, which may give new values for ever."""
    n_combinations: float = 1
    for range_ in space.values():
        if callable(range_):
            return 0
        if isinstance(range_, list):
            n_combinations *= len(range_)
        elif _are_whole(*range_[:2]):
            n_combinations *= range_[1] - range_[0] + 1
        else:
            return math.inf
    return n_combinations


def _draw(optuna_trial: "optuna.Trial", name: str, range_: Any) -> Any:
    if callable(range_):
        return range_(optuna_trial)
    if isinstance(range_, list):
        # By index: Optuna stores numbers and text only, and choices may be tuples.
        indices = list(range(len(range_)))
        index = optuna_trial.suggest_categorical(name, indices)
        return range_[index]
    low, high, *_ = range_
    log = len(range_) == 3
    if _are_whole(low, high):
        return optuna_trial.suggest_int(name, int(low), int(high), log=log)
    return optuna_trial.suggest_float(name, float(low), float(high), log=log)


def _after_epoch(
    optuna_trial: "optuna.Trial", losses: list[float], prune: bool, module: "ForecastModule"
) -> None:
    """Report the validation loss of an epoch, and end a fit that is pruned."""
    import optuna

    entry = module.progress.history[-1]
    loss = entry["valid_loss"]
    if loss is None:
        raise ValueError(
            "the validation rows hold no value, and so no loss to compare; raise val_size or cut"
            " them off"
        )
    losses.append(loss)
    optuna_trial.report(loss, entry["epoch"])
    if prune and optuna_trial.should_prune():
        raise optuna.TrialPruned
