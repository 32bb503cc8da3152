"""The demo: forecasts of weekly CO2 at Mauna Loa, and the scores of several models on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tsattn.catalogue import make_forecaster
from tsattn.data.frames import to_panel
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.evaluate.backtest import backtest
from tsattn.plotting import plot_forecast, save_plot
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HORIZON = 52  # weeks, a year
_N_CUTOFFS = 20  # five years of them
_STEP_WEEKS = 13  # between two cutoffs, a quarter
_HISTORY_WEEKS = 4 * _HORIZON  # in the picture
_MODELS = ("auto", "zero", "mlr", "naive", "seasonal_naive")
_LEVELS = (80, 95)
_SEED = 0
# Settings of the trained model. Its context is three years of weeks. Two thousand weeks make few
# batches of the default size; smaller batches give the optimiser enough steps.
_TRAINING: dict[str, Any] = {"context": 156, "batch_size": 32, "random_state": _SEED}


@dataclass(frozen=True, eq=False)
class Demo:
    """The results of the demo.

    Args:
        scores: Scores on rolling windows, one row a model.
        forecast: A year ahead by the combination, with intervals.
        backtest: All rolling forecasts and their truth.
        picture: History, forecast and intervals.
        seconds: Wall time of the demo.
    """

    scores: pd.DataFrame
    forecast: pd.DataFrame
    backtest: pd.DataFrame
    picture: Axes
    seconds: float

    def write(self, folder: Path) -> None:
        """Write ``forecast.csv``, ``backtest.csv`` and ``forecast.png``."""
        _write_csv(self.forecast, folder / "forecast.csv")
        _write_csv(self.backtest, folder / "backtest.csv")
        save_plot(self.picture, folder / "forecast.png")

    def report(self, folder: Path) -> str:
        """A table of the scores, with a line on the task above and one on the files below."""
        titles = {"mae_original": "MAE [ppm]", "rmse_original": "RMSE [ppm]", "mase": "MASE"}
        table = self.scores[[*titles]]
        table = table.set_axis([*titles.values()], axis=1)
        table = table.rename_axis(None)
        n_cutoffs = self.backtest["cutoff"].nunique()
        n_weeks = self.backtest["ds"].nunique()
        task = (
            "Weekly CO2 at Mauna Loa (statsmodels.datasets.co2): a year ahead from"
            f" {n_cutoffs} cutoffs, {n_weeks} weeks judged, no refit between them."
        )
        scores = table.to_string(float_format="{:.3f}".format)
        files = f"{folder}: forecast.csv, backtest.csv, forecast.png, after {self.seconds:.0f} s"
        return f"{task}\n\n{scores}\n\n{files}"


def run_demo(*, progress: Callable[[str], None] | None = None) -> Demo:
    """Forecast a year ahead with intervals, and judge models and baselines on rolling windows.

    Args:
        progress: Called with a line before each step. If it is set, a training also shows its
            progress on stderr where that is a terminal.
    """
    started = time.perf_counter()
    say = progress or (lambda line: None)
    panel = load_co2()
    models = {name: _make(name) for name in _MODELS}
    model_names = ", ".join(_MODELS)
    say(f"judging {model_names} on {_N_CUTOFFS} cutoffs")
    result = backtest(
        models, panel, n_windows=_N_CUTOFFS, step_size=_STEP_WEEKS, verbose=progress is not None
    )
    say("forecasting the year after the series by the combination")
    combination = _make("auto").fit(panel)
    forecast = combination.predict(panel, level=list(_LEVELS))
    title = "CO2 at Mauna Loa, weekly, ppm: a year ahead"
    picture = plot_forecast(panel, forecast, n_history=_HISTORY_WEEKS, title=title)
    seconds = time.perf_counter() - started
    return Demo(result.scores, forecast.to_frame(), result.frame, picture, seconds)


def load_co2() -> Panel:
    """Weekly CO2 in ppm, 1958 to 2001, from statsmodels; missing weeks are interpolated."""
    from statsmodels.datasets import co2

    weeks = co2.load_pandas().data["co2"]
    frame = pd.DataFrame({"unique_id": "co2", "ds": weeks.index, "y": weeks.to_numpy()})
    return to_panel(frame, Schema(freq="W-SAT", missing="interpolate"))


def _make(name: str) -> Any:
    settings = _TRAINING if name == "mlr" else {}
    return make_forecaster(name, _HORIZON, **settings)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    write_atomic(path, lambda temporary: frame.to_csv(temporary, index=False))
