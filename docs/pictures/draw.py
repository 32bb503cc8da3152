"""Draws the pictures of README and the guide, from weekly CO2 at Mauna Loa, and synthetic series.

Run: python docs/pictures/draw.py [--out docs/pictures], about a minute.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from tsattn import backtest, make_forecaster
from tsattn.demo import load_co2
from tsattn.limits import limit_threads
from tsattn.plotting import plot_attention, plot_backtest, plot_forecast, plot_scores, save_plot
from tsattn.pretrained.synthetic import make

PICTURES = Path(__file__).resolve().parent
HORIZON = 52
CONTEXT = 156
TRAINING = {"context": CONTEXT, "batch_size": 32, "random_state": 0}


def draw(folder: Path) -> None:
    """A forecast, a backtest, its scores and an attention map."""
    panel = load_co2()
    model = make_forecaster("mlr", HORIZON, missing="interpolate", **TRAINING)
    models = [model, make_forecaster("nlinear", HORIZON, missing="interpolate", **TRAINING)]
    models += [make_forecaster(name, HORIZON) for name in ("seasonal_naive", "naive")]
    result = backtest(models, panel, n_windows=20, step_size=13)
    known = panel.rows(0, -HORIZON)
    model.fit(known)
    forecast = (
        make_forecaster("zero", HORIZON, missing="interpolate").fit(known).predict(level=[80, 95])
    )
    title = "CO2 at Mauna Loa, weekly, ppm"
    picture = plot_forecast(
        known,
        forecast,
        n_history=3 * HORIZON,
        truth=panel,
        title=f"{title}: a year without training",
    )
    save_plot(picture, folder / "forecast.png")
    shown = plot_backtest(
        result, models=["mlr", "seasonal_naive"], n_cutoffs=3, title=f"{title}: three of 20 cutoffs"
    )
    save_plot(shown, folder / "backtest.png")
    save_plot(
        plot_scores(result, title="MAE over all cutoffs, standardised"), folder / "scores.png"
    )
    weights = model.attention_maps(known)[0, 0, 0]
    summary = model.summary_
    title = f"first layer, first head: ranks {summary['ranks']}, blocks {summary['block_sizes']}"
    save_plot(
        plot_attention(weights, block_sizes=summary["block_sizes"], title=title),
        folder / "attention.png",
    )


def draw_synthetic(folder: Path) -> None:
    """Fifty synthetic series, missing values as gaps."""
    panels = Figure(figsize=(8, 6), layout="constrained").subplots(10, 5)
    for panel, series in zip(panels.ravel(), make(50, 384, seed=0), strict=True):
        panel.plot(series, linewidth=0.6)
        panel.set(xticks=[], yticks=[])
    save_plot(panels[0, 0], folder / "synthetic.png")


def main() -> None:
    """Draw into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PICTURES)
    options = parser.parse_args()
    with limit_threads(1):
        draw_synthetic(options.out)
        draw(options.out)


if __name__ == "__main__":
    main()
