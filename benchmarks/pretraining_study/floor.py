"""Compares the loss of the network with the least possible one: that of the true quantiles, for
series of a known law.

The true quantiles follow from the parameters of the law, which the network has to estimate from the
context: their loss is a bound that no forecaster reaches from a short context. Run:
PYTHONPATH=benchmarks python benchmarks/pretraining_study/floor.py [--weights NAME_OR_FILE ...]
"""

import sys
from collections.abc import Callable, Sequence
from itertools import product
from statistics import NormalDist

import numpy as np
import torch
from records import RESULTS, Record, Records, parse
from torch import Tensor

from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.limits import limit_threads
from tsattn.pretrained.network import QUANTILES, ZeroNetwork

FILE = "pretraining_floor.jsonl"
KEY = ("law", "n_steps", "horizon", "weights")
# Lengths of contexts and horizons: short, usual, long.
SIZES = ((36, 12), (256, 48), (1024, 192))
N_SERIES = 300
# Bound of targets in the space of the arcsinh, as in training.
FARTHEST = 3.5

# A law draws series [N, T + F], and the means and deviations [N, F] of the last F steps if those
# before are known.
Law = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray, np.ndarray]]


def white(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Independent normal numbers."""
    x = rng.standard_normal((N_SERIES, n_steps + horizon))
    return x, np.zeros((N_SERIES, horizon)), np.ones((N_SERIES, horizon))


def smoothing(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simple exponential smoothing, y = l + e, l += alpha e, alpha log-uniform from .02 to 1 (a
    random walk).
    """
    alpha = np.exp(rng.uniform(np.log(0.02), 0, (N_SERIES, 1)))
    errors = rng.standard_normal((N_SERIES, n_steps + horizon))
    levels = np.cumsum(alpha * errors, axis=1)
    first_level = np.zeros((N_SERIES, 1))
    previous_levels = np.concatenate([first_level, levels[:, :-1]], axis=1)
    steps_ahead = np.arange(horizon)
    mean = np.repeat(levels[:, n_steps - 1 : n_steps], horizon, axis=1)
    deviation = np.sqrt(1 + steps_ahead * alpha**2)
    return previous_levels + errors, mean, deviation


def autoregression(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x = a x + e, 1 - a log-uniform from .01 to 1."""
    a = 1 - np.exp(rng.uniform(np.log(0.01), 0, (N_SERIES, 1)))
    errors = rng.standard_normal((N_SERIES, n_steps + horizon))
    x = np.empty_like(errors)
    # The first value has the deviation of the stationary series.
    value = errors[:, 0] / np.sqrt(1 - a[:, 0] ** 2)
    x[:, 0] = value
    for step in range(1, x.shape[1]):
        value = a[:, 0] * value + errors[:, step]
        x[:, step] = value
    steps_ahead = np.arange(1, horizon + 1)
    mean = a**steps_ahead * x[:, n_steps - 1 : n_steps]
    variance = (1 - a ** (2 * steps_ahead)) / (1 - a**2)
    return x, mean, np.sqrt(variance)


def season(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random profile of 12 steps that repeats, and normal noise of .1 to 2 deviations."""
    profile = rng.standard_normal((N_SERIES, 12))
    noise = np.exp(rng.uniform(np.log(0.1), np.log(2), (N_SERIES, 1)))
    mean = profile[:, np.arange(n_steps + horizon) % 12]
    x = mean + noise * rng.standard_normal(mean.shape)
    return x, mean[:, n_steps:], np.repeat(noise, horizon, axis=1)


def walking_season(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random profile of 12 steps on a series of :func:`smoothing`."""
    x, mean, deviation = smoothing(rng, n_steps, horizon)
    profile = np.exp(rng.uniform(-1, 2, (N_SERIES, 1))) * rng.standard_normal((N_SERIES, 12))
    cycle = profile[:, np.arange(n_steps + horizon) % 12]
    return x + cycle, mean + cycle[:, n_steps:], deviation


LAWS: dict[str, Law] = {
    "white noise": white,
    "exponential smoothing": smoothing,
    "autoregression": autoregression,
    "season and noise": season,
    "season on a walking level": walking_season,
}


def loss(quantiles: Tensor, truth: Tensor, context: Tensor) -> float:
    """Mean pinball loss in the space of the arcsinh, weighted by the step ahead as in training."""
    level = context.mean(1, keepdim=True)
    spread = context.std(1, unbiased=False, keepdim=True)
    target = torch.asinh((truth - level) / spread).clamp(-FARTHEST, FARTHEST)[..., None]
    answer = torch.asinh((quantiles - level[..., None]) / spread[..., None])
    levels = torch.tensor(QUANTILES, dtype=answer.dtype)
    error = target - answer
    terms = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(2)
    weight = (1 + torch.arange(truth.shape[1]) / 16).rsqrt()
    return float((terms * weight).sum() / weight.sum() / len(truth))


def execute(cell: Record, network: ZeroNetwork) -> Record:
    """Losses of the network and of the true law."""
    n_steps = cell["n_steps"]
    horizon = cell["horizon"]
    rng = np.random.default_rng([7, n_steps])
    arrays = LAWS[cell["law"]](rng, n_steps, horizon)
    x, mean, deviation = (torch.from_numpy(array) for array in arrays)
    context = x[:, :n_steps]
    truth = x[:, n_steps:]
    z = torch.tensor([NormalDist().inv_cdf(level) for level in QUANTILES], dtype=torch.float64)
    true_quantiles = mean[..., None] + deviation[..., None] * z
    bound = loss(true_quantiles, truth, context)
    network_loss = loss(network.forecast(context, horizon), truth, context)
    return {
        "kind": "floor",
        **cell,
        "loss": round(network_loss, 5),
        "bound": round(bound, 5),
        "ratio": round(network_loss / bound, 4),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    options = parse(argv, __doc__, {"weights": ("zero-5h",), "out": RESULTS / FILE})
    file = Records(options.out, KEY)
    with limit_threads(1):
        for weights in options.weights:
            network = PretrainedForecaster(1, weights=weights).fit(np.zeros(8)).network_
            cells = []
            for law, (n_steps, horizon) in product(LAWS, SIZES):
                cell = {"law": law, "n_steps": n_steps, "horizon": horizon, "weights": weights}
                cells.append(cell)
            for cell in file.missing(cells):
                row = file.add(execute(cell, network))
                print(*(row[name] for name in (*KEY, "loss", "bound", "ratio")), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
