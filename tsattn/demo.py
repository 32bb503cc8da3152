"""The demo: weekly CO2 at Mauna Loa, forecast by a combination that is judged beside its members
and baselines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tsattn.catalogue import make_forecaster
from tsattn.data.frames import Panel, to_panel
from tsattn.evaluate.backtest import backtest
from tsattn.plotting import plot_forecast, save_plot
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HORIZON = 52  # a year of weeks
_WINDOWS, _STEP = 20, 13  # five years of cutoffs, a quarter apart
_MODELS = ("auto", "zero", "mlr", "naive", "seasonal_naive")
_LEVELS = (80, 95)
_SEED = 0
# Two thousand weeks make few batches of the usual size; smaller ones give the optimiser enough
# steps.
_TRAINING: dict[str, Any] = {"context": 156, "batch_size": 32, "random_state": _SEED}


@dataclass(frozen=True, eq=False)
class Demo:
    """What the demo found.

    Args:
        scores: One row a model, rolling windows.
        forecast: A year ahead by the combination, with bands.
        backtest: Every rolling forecast beside its truth.
        picture: History, forecast and bands.
        seconds: Wall time of it all.
    """

    scores: pd.DataFrame
    forecast: pd.DataFrame
    backtest: pd.DataFrame
    picture: Axes
    seconds: float

    def write(self, folder: Path) -> None:
        """Write ``forecast.csv``, ``backtest.csv`` and ``forecast.png``."""
        write_atomic(
            folder / "forecast.csv", lambda aside: self.forecast.to_csv(aside, index=False)
        )
        write_atomic(
            folder / "backtest.csv", lambda aside: self.backtest.to_csv(aside, index=False)
        )
        save_plot(self.picture, folder / "forecast.png")

    def report(self, folder: Path) -> str:
        """The scores as a table, with what was done above it and what was written below it."""
        table = self.scores[["mae_original", "rmse_original", "mase"]]
        table = table.set_axis(["MAE [ppm]", "RMSE [ppm]", "MASE"], axis=1).rename_axis(None)
        weeks = self.backtest["ds"].nunique()
        return "\n".join(
            (
                (
                    "Weekly CO2 at Mauna Loa (statsmodels.datasets.co2): a year ahead from"
                    f" {self.backtest['cutoff'].nunique()} cutoffs, {weeks} weeks judged, no refit"
                    " between them."
                ),
                "",
                table.to_string(float_format="{:.3f}".format),
                "",
                f"{folder}: forecast.csv, backtest.csv, forecast.png, after {self.seconds:.0f} s",
            )
        )


def run_demo(*, progress: Callable[[str], None] | None = None) -> Demo:
    """Forecast a year ahead with intervals, and judge models beside baselines on rolling windows.

    Args:
        progress: Called with a line before each step; where it is given, a training also shows its
            progress on stderr if that is a terminal.
    """
    started = time.perf_counter()
    say = progress or (lambda line: None)
    panel = load_co2()
    models = {name: _make(name) for name in _MODELS}
    say(f"judging {', '.join(_MODELS)} on {_WINDOWS} cutoffs")
    judged = backtest(
        models, panel, n_windows=_WINDOWS, step_size=_STEP, verbose=progress is not None
    )
    say("forecasting the year after the series by the combination")
    forecast = _make("auto").fit(panel).predict(panel, level=list(_LEVELS))
    title = "CO2 at Mauna Loa, weekly, ppm: a year ahead"
    picture = plot_forecast(panel, forecast, n_history=4 * _HORIZON, title=title)
    seconds = time.perf_counter() - started
    return Demo(judged.scores, forecast.to_frame(), judged.frame, picture, seconds)


def load_co2() -> Panel:
    """Weekly CO2 in ppm, 1958 to 2001, as statsmodels ships it; its missing weeks are interpolated
    when used.
    """
    from statsmodels.datasets import co2

    weeks = co2.load_pandas().data["co2"]
    frame = pd.DataFrame({"unique_id": "co2", "ds": weeks.index, "y": weeks.to_numpy()})
    return to_panel(frame, freq="W-SAT", missing="interpolate")


def _make(name: str) -> Any:
    return make_forecaster(name, _HORIZON, **(_TRAINING if name == "mlr" else {}))
