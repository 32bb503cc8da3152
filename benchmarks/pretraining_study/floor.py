"""How near the network is to the least possible loss: series of known law, and the loss of their
true quantiles.

The true law knows its parameters, which the network has to estimate from the context: its loss is a
bound that no forecaster reaches from a short context. Run: PYTHONPATH=benchmarks python
benchmarks/pretraining_study/floor.py [--weights NAME_OR_FILE ...]
"""

import sys
from collections.abc import Callable, Sequence
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
# Contexts and horizons: short, usual, long.
SIZES = ((36, 12), (256, 48), (1024, 192))
N_SERIES = 300
# Targets beyond this, in the space of the arcsinh, count as those at it, as in training.
FARTHEST = 3.5

# A law gives series [N, T + F] and the means and deviations [N, F] of its last F steps, given those
# before.
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
    before = np.concatenate([np.zeros((N_SERIES, 1)), levels[:, :-1]], axis=1)
    ahead = np.arange(horizon)
    mean = np.repeat(levels[:, n_steps - 1 : n_steps], horizon, axis=1)
    return before + errors, mean, np.sqrt(1 + ahead * alpha**2)


def autoregression(
    rng: np.random.Generator, n_steps: int, horizon: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x = a x + e, 1 - a log-uniform from .01 to 1."""
    a = 1 - np.exp(rng.uniform(np.log(0.01), 0, (N_SERIES, 1)))
    errors = rng.standard_normal((N_SERIES, n_steps + horizon))
    x = np.empty_like(errors)
    last = errors[:, 0] / np.sqrt(1 - a[:, 0] ** 2)
    x[:, 0] = last
    for step in range(1, x.shape[1]):
        last = a[:, 0] * last + errors[:, step]
        x[:, step] = last
    ahead = np.arange(1, horizon + 1)
    return x, a**ahead * x[:, n_steps - 1 : n_steps], np.sqrt((1 - a ** (2 * ahead)) / (1 - a**2))


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
    """A random profile of 12 steps on a level that is smoothed as :func:`smoothing` says."""
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
    """Mean pinball loss in the space of the arcsinh, weighed by the step ahead as in training."""
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
    rng = np.random.default_rng([7, cell["n_steps"]])
    x, mean, deviation = (
        torch.from_numpy(v) for v in LAWS[cell["law"]](rng, cell["n_steps"], cell["horizon"])
    )
    context = x[:, : cell["n_steps"]]
    truth = x[:, cell["n_steps"] :]
    z = torch.tensor([NormalDist().inv_cdf(q) for q in QUANTILES], dtype=torch.float64)
    bound = loss(mean[..., None] + deviation[..., None] * z, truth, context)
    own = loss(network.forecast(context, cell["horizon"]), truth, context)
    return {
        "kind": "floor",
        **cell,
        "loss": round(own, 5),
        "bound": round(bound, 5),
        "ratio": round(own / bound, 4),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    options = parse(argv, __doc__, {"weights": ("zero-5b",), "out": RESULTS / FILE})
    file = Records(options.out, KEY)
    with limit_threads(1):
        for weights in options.weights:
            network = PretrainedForecaster(1, weights=weights).fit(np.zeros(8)).network_
            sizes = [{"n_steps": n_steps, "horizon": horizon} for n_steps, horizon in SIZES]
            for cell in file.missing(
                {"law": law, **size, "weights": weights} for law in LAWS for size in sizes
            ):
                row = file.add(execute(cell, network))
                print(*(row[name] for name in (*KEY, "loss", "bound", "ratio")), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
