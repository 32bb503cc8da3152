"""In-context regression: does a score of low rank keep attention from learning it, as Kuang et al.
2025 say?

A prompt holds points of one linear function, drawn anew each time; the network sees x and y of the
points so far and predicts the next y. Every variant is tuned alike: all rates with the first seeds,
and the rate with the smallest error on validation prompts with the others. Runs that are recorded
are not made again. Run: PYTHONPATH=benchmarks python benchmarks/paper/in_context.py [--variant btt
...] [--width 64 ...] [--rate 0.003 ...]
"""

import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

import records
import torch
from paper import shared
from records import Record, Records
from torch import Tensor, nn

from tsattn.limits import limit_threads
from tsattn.nn.layers import linear

FILE = "in_context.jsonl"
# What tells one run from another.
SETTING = ("layout", "dim", "layers", "heads", "steps", "batch", "curriculum", "cooldown")
KEY = ("kind", *SETTING, "variant", "width", "rate", "seed")
# Name of the score in shared.Network; every variant has the heads asked for, but two have one: a
# head of all features, and one that compares no more features than each of many.
VARIANTS = {
    **dict.fromkeys(("standard_8", "standard_1", "standard_1_of_8"), "standard"),
    "mlr": "mlr_matrix",
}
VARIANTS |= {name: name for name in ("btt", "monarch", "butterfly", "kronecker", "mlbtc")}
N_TEST = 1280
_FIRST_DIM = 4  # of the curriculum
# Seeds of the fixed prompts, and what is added to a run's seed for its training prompts.
_VALIDATION = 7_000_001
_TEST = 7_000_002
_DATA = 1_000_000
# A prompt has 2 dim points; prompts grow for the part curriculum, the rate falls for the last part,
# cooldown; every rate is run with the first tuning_seeds seeds.
DEFAULTS: dict[str, Any] = {
    "layout": "pairs",
    "dim": 16,
    "layers": 3,
    "heads": 8,
    "steps": 3000,
    "batch": 64,
}
DEFAULTS |= {
    "curriculum": 0.2,
    "cooldown": 0.3,
    "width": (64,),
    "rate": (3e-3, 6e-3),
    "tuning_seeds": 1,
}
DEFAULTS |= {"seed": (0, 1, 2), "variant": tuple(VARIANTS)}
PAPER = {
    "layout": "turns",
    "dim": 128,
    "width": (16, 32, 64, 128, 256, 512, 1024),
    "layers": 6,
    "steps": 500_000,
}
PAPER |= {"curriculum": 0.06, "cooldown": 0.0}


class Prompts(NamedTuple):
    """Points of linear functions: x is [B N d], y is [B N] and divided by d ** 0.5, so that its
    mean square is 1.
    """

    x: Tensor
    y: Tensor


def draw(
    n_prompts: int, dim: int, n_points: int, *, generator: Any, n_active: int | None = None
) -> Prompts:
    """Prompts of one linear function each, ``y = w x / dim ** 0.5`` with standard normal w and x,
    without noise.

    Only the leading ``n_active`` coordinates of x are used, the others are zero; default all.
    """
    used = dim if n_active is None else n_active
    x = torch.zeros(n_prompts, n_points, dim)
    x[..., :used] = torch.randn(n_prompts, n_points, used, generator=generator)
    w = torch.randn(n_prompts, dim, generator=generator)
    return Prompts(x, torch.einsum("bnd,bd->bn", x, w) / math.sqrt(dim))


def pairs(prompts: Prompts) -> Tensor:
    """One token a point: x, and x and y of the point before it (of none: zeros); ``2 d + 1``
    numbers.
    """
    before = torch.cat((prompts.x, prompts.y.unsqueeze(2)), dim=2)[:, :-1]
    return torch.cat((prompts.x, nn.functional.pad(before, (0, 0, 1, 0))), dim=2)


def turns(prompts: Prompts) -> Tensor:
    """x_1, y_1, x_2, y_2, ... as vectors of d numbers, y in the first of them (Garg et
    al. 2022).
    """
    value = torch.zeros_like(prompts.x)
    value[..., 0] = prompts.y
    return torch.stack((prompts.x, value), dim=2).flatten(1, 2)


# How a prompt becomes tokens, and how many tokens a point has, of which the first reads x and
# writes the prediction. In pairs the first layer can compare points at once; in turns it must first
# bring each x to its y.
LAYOUTS: dict[str, tuple[Callable[[Prompts], Tensor], int]] = {
    "pairs": (pairs, 1),
    "turns": (turns, 2),
}


def squared_errors(model: nn.Module, prompts: Prompts, layout: str) -> Tensor:
    """Squared error of each y, [B N], as predicted where its x is read."""
    tokens, per_point = LAYOUTS[layout]
    return (model(tokens(prompts))[:, ::per_point, 0] - prompts.y).square()


@torch.no_grad()
def errors_by_point(
    model: nn.Module, prompts: Prompts, layout: str, batch: int = 64
) -> list[float]:
    """Mean squared error after 0, 1, ... points of a prompt."""
    parts = zip(prompts.x.split(batch), prompts.y.split(batch), strict=True)
    summed = sum(squared_errors(model, Prompts(x, y), layout).double().sum(0) for x, y in parts)
    means: list[float] = (summed / len(prompts.y)).tolist()
    return means


def stage(step: int, n_steps: int, dim: int, share: float) -> tuple[int, int]:
    """Coordinates and points of the prompts of a step: from 4 and 8 to all ``dim`` and twice as
    many.

    One coordinate and two points are added at a time, and everything is in use after the part
    ``share`` of the steps.
    """
    first = min(_FIRST_DIM, dim)
    reached = 1.0 if share <= 0 else min(1.0, step / (share * n_steps))
    used = first + math.floor(reached * (dim - first) + 1e-9)
    return used, 2 * used


def make_model(cell: Record) -> Any:
    """The network of a run, its start values from the run's seed."""
    generator = torch.Generator().manual_seed(cell["seed"])
    dim = cell["dim"]
    width = cell["width"]
    variant = cell["variant"]
    tokens, per_point = LAYOUTS[cell["layout"]]
    n_in = tokens(Prompts(torch.zeros(1, 1, dim), torch.zeros(1, 1))).shape[2]
    # One factor, 8 / n, for scores of n features, whatever the number of heads: a head that cannot
    # regress then fails for its rank, not because its scores are held to a narrower range.
    network = shared.Network(
        VARIANTS[variant],
        width,
        n_heads=1 if variant.startswith("standard_1") else cell["heads"],
        head_features=width // cell["heads"] if variant == "standard_1_of_8" else None,
        n_layers=cell["layers"],
        length=2 * dim * per_point,
        base_features=shared.BASE_WIDTH,
        position_std=0.02,
    )
    return shared.CausalTransformer(
        network, linear(n_in, width, generator=generator), 1, generator=generator
    )


def losses(model: nn.Module, cell: Record) -> Iterator[Callable[[], Tensor]]:
    """The loss of each step, over prompts that no other step sees."""
    generator = torch.Generator().manual_seed(_DATA + cell["seed"])
    for step in range(cell["steps"]):
        used, n_points = stage(step, cell["steps"], cell["dim"], cell["curriculum"])

        def loss(used: int = used, n_points: int = n_points) -> Tensor:
            prompts = draw(cell["batch"], cell["dim"], n_points, generator=generator, n_active=used)
            return squared_errors(model, prompts, cell["layout"]).mean()

        yield loss


def cooldown_of(n_steps: int, share: float) -> tuple[int, int] | None:
    """The last part of a training, in which the rate falls; none where that is no whole step."""
    begin = n_steps - round(share * n_steps)
    return (begin, n_steps) if begin < n_steps else None


def fixed_prompts(dim: int, seed: int, n_prompts: int = N_TEST) -> Prompts:
    """Prompts of full size that are the same for every run."""
    return draw(n_prompts, dim, 2 * dim, generator=torch.Generator().manual_seed(seed))


def run(cell: Record) -> Record:
    """Train and measure; what is recorded of the run.

    Raises:
        ArithmeticError: If the training diverged to numbers that are none.
    """
    model = make_model(cell)
    validation, test = (fixed_prompts(cell["dim"], seed) for seed in (_VALIDATION, _TEST))
    started = time.process_time()
    n_warmup = max(1, min(100, cell["steps"] // 10))
    cooldown = cooldown_of(cell["steps"], cell["cooldown"])
    how = {"learning_rate": cell["rate"], "n_warmup": n_warmup, "cooldown": cooldown}
    seconds = shared.train(model, losses(model, cell), **how)
    by_point = errors_by_point(model, test, cell["layout"])
    if not math.isfinite(sum(by_point)):
        raise ArithmeticError("it ended in numbers that are none; leave this rate out")
    work = {
        "parameters": shared.n_parameters(model),
        "multiply_adds": shared.multiply_adds(model),
        "seconds": seconds,
    }
    errors = {"error": by_point[-1], "by_point": by_point}
    errors["validation_error"] = errors_by_point(model, validation, cell["layout"])[-1]
    head_features = model.stack.blocks[0].attention.score.d_key
    return {
        **errors,
        **work,
        "head_features": head_features,
        "cpu_seconds": time.process_time() - started,
    }


def best_rate(
    runs: Iterable[Record], rates: Collection[float], seeds: Collection[int]
) -> float | None:
    """Of some rates the one with the smallest validation error, mean over some seeds; none where
    nothing was run.

    A rate without a run of each of the seeds, since one of them diverged, is no candidate.
    """
    errors: dict[float, list[float]] = {}
    for row in runs:
        if row["rate"] in rates and row["seed"] in seeds:
            errors.setdefault(row["rate"], []).append(row["validation_error"])
    means = {rate: fmean(found) for rate, found in errors.items() if len(found) == len(seeds)}
    return min(means, key=lambda rate: means[rate]) if means else None


def chosen(rows: Iterable[Record]) -> list[Record]:
    """Runs with the rate that their variant and width chose by validation error: the smallest mean.

    It is taken over the seeds with which all rates were run that were run with the first seed.
    """
    kept: list[Record] = []
    groups = records.by((row for row in rows if row["kind"] == "run"), *SETTING, "width", "variant")
    for key in sorted(groups, key=lambda key: (*key[:-1], list(VARIANTS).index(key[-1]))):
        runs = groups[key]
        first = min(row["seed"] for row in runs)
        rates = [row["rate"] for row in runs if row["seed"] == first]
        seeds = set.intersection(
            *({row["seed"] for row in runs if row["rate"] == rate} for rate in rates)
        )
        best = best_rate(runs, rates, seeds)
        kept += sorted((row for row in runs if row["rate"] == best), key=lambda row: row["seed"])
    return kept


def grid(options: Any, found: Records) -> Iterator[Record]:
    """The runs that are asked for: all rates with the first seeds, then the rate that was best.

    Seed by seed, so that an early stop leaves whole comparisons.
    """
    setting = {name: getattr(options, name) for name in SETTING}
    for number, (seed, width, variant) in enumerate(
        product(options.seed, options.width, options.variant)
    ):
        cell = {"kind": "run", **setting, "variant": variant, "width": width, "seed": seed}
        rates = options.rate
        if number >= options.tuning_seeds * len(options.width) * len(options.variant):
            alike = [name for name in KEY if name not in ("rate", "seed")]
            like = [row for row in found.rows() if all(row[name] == cell[name] for name in alike)]
            best = best_rate(like, options.rate, options.seed[: options.tuning_seeds])
            rates = () if best is None else (best,)
        yield from ({**cell, "rate": rate} for rate in rates)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when all is well, 1 when a run diverged."""
    more = {"paper": PAPER, "choices": {"layout": LAYOUTS, "variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    found = Records(options.out, KEY)
    failed = 0
    with limit_threads(1):
        for cell in found.missing(grid(options, found)):
            name = ", ".join(
                f"{key} {cell[key]}" for key in ("variant", "dim", "width", "rate", "seed")
            )
            try:
                row = found.add({**cell, **run(cell), "rates_tried": options.rate})
                print(f"{name}: error {row['error']:.4f}, {row['seconds']:.0f} s", flush=True)
            except ArithmeticError as error:
                print(f"in_context: {name}: {error}", file=sys.stderr)
                failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
