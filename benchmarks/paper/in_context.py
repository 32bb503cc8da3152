"""In-context regression: tests the statement of Kuang et al. 2025 that a score of low rank keeps
attention from learning it.

A prompt holds points of one linear function, which is drawn anew for each prompt. The network reads
x and y of the points so far and predicts the next y. Every variant is tuned alike: the first seeds
are run with all rates, the others with the rate of the smallest error on validation prompts.
Recorded runs are not repeated. Run: PYTHONPATH=benchmarks python benchmarks/paper/in_context.py
[--variant btt ...] [--width 64 ...] [--rate 0.003 ...]
"""

import math
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
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
# Fields that describe the task, and fields that identify a run.
SETTING = ("layout", "dim", "layers", "heads", "steps", "batch", "curriculum", "cooldown")
KEY = ("kind", *SETTING, "variant", "width", "rate", "seed")
# Names of the scores in shared.Network. Two variants have a single head: one of all features, and
# one of as many features as each of eight heads has. The others have the heads of the options.
VARIANTS = {
    "standard_8": "standard",
    "standard_1": "standard",
    "standard_1_of_8": "standard",
    "mlr": "mlr_matrix",
    "btt": "btt",
    "monarch": "monarch",
    "butterfly": "butterfly",
    "kronecker": "kronecker",
    "mlbtc": "mlbtc",
}
# Prompts of the test, and of validation.
N_TEST = 1280
# Coordinates of the first prompts of the curriculum.
_FIRST_DIM = 4
# Seeds of the fixed prompts, and a number that is added to a run's seed for its training prompts.
_VALIDATION_SEED = 7_000_001
_TEST_SEED = 7_000_002
_DATA_SEED = 1_000_000
# A prompt has 2 dim points. "curriculum" is the first share of the steps, in which prompts grow;
# "cooldown" is the last share, in which the rate falls. Every rate is run with the first
# "tuning_seeds" seeds.
DEFAULTS: dict[str, Any] = {
    "layout": "pairs",
    "dim": 16,
    "layers": 3,
    "heads": 8,
    "steps": 3000,
    "batch": 64,
    "curriculum": 0.2,
    "cooldown": 0.3,
    "width": (64,),
    "rate": (3e-3, 6e-3),
    "tuning_seeds": 1,
    "seed": (0, 1, 2),
    "variant": tuple(VARIANTS),
}
PAPER = {
    "layout": "turns",
    "dim": 128,
    "width": (16, 32, 64, 128, 256, 512, 1024),
    "layers": 6,
    "steps": 500_000,
    "curriculum": 0.06,
    "cooldown": 0.0,
}


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
    if n_active is None:
        n_active = dim
    x = torch.zeros(n_prompts, n_points, dim)
    x[..., :n_active] = torch.randn(n_prompts, n_points, n_active, generator=generator)
    w = torch.randn(n_prompts, dim, generator=generator)
    y = torch.einsum("bnd,bd->bn", x, w) / math.sqrt(dim)
    return Prompts(x, y)


def pairs(prompts: Prompts) -> Tensor:
    """One token of ``2 d + 1`` numbers a point: x, and x and y of the point before it, zeros for
    the first.
    """
    points = torch.cat((prompts.x, prompts.y.unsqueeze(2)), dim=2)
    previous = nn.functional.pad(points[:, :-1], (0, 0, 1, 0))
    return torch.cat((prompts.x, previous), dim=2)


def turns(prompts: Prompts) -> Tensor:
    """x_1, y_1, x_2, y_2, ... as vectors of d numbers, y in the first of them (Garg et
    al. 2022).
    """
    value = torch.zeros_like(prompts.x)
    value[..., 0] = prompts.y
    return torch.stack((prompts.x, value), dim=2).flatten(1, 2)


# The function that makes tokens of prompts, and tokens of a point; the first of them reads x and
# writes the prediction. In pairs the first layer can compare points at once; in turns it must first
# bring each x to its y.
LAYOUTS: dict[str, tuple[Callable[[Prompts], Tensor], int]] = {
    "pairs": (pairs, 1),
    "turns": (turns, 2),
}


def squared_errors(model: nn.Module, prompts: Prompts, layout: str) -> Tensor:
    """Squared error of each y, [B N], as predicted at the token that reads its x."""
    make_tokens, n_tokens = LAYOUTS[layout]
    predictions = model(make_tokens(prompts))[:, ::n_tokens, 0]
    return (predictions - prompts.y).square()


@torch.no_grad()
def errors_by_point(
    model: nn.Module, prompts: Prompts, layout: str, batch: int = 64
) -> list[float]:
    """Mean squared error after 0, 1, ... points of a prompt."""
    total: Any = 0
    for x, y in zip(prompts.x.split(batch), prompts.y.split(batch), strict=True):
        errors = squared_errors(model, Prompts(x, y), layout)
        total = total + errors.double().sum(0)
    means: list[float] = (total / len(prompts.y)).tolist()
    return means


def stage(step: int, n_steps: int, dim: int, share: float) -> tuple[int, int]:
    """Coordinates and points of the prompts of a step: from 4 and 8 to all ``dim`` and twice as
    many.

    One coordinate and two points are added at a time. Prompts have full size after a ``share`` of
    the steps.
    """
    first_dim = min(_FIRST_DIM, dim)
    progress = 1.0
    if share > 0:
        progress = min(1.0, step / (share * n_steps))
    # The small number is for rounding errors.
    n_active = first_dim + math.floor(progress * (dim - first_dim) + 1e-9)
    return n_active, 2 * n_active


def make_model(cell: Record) -> Any:
    """The network of a run, its start values from the run's seed."""
    generator = torch.Generator().manual_seed(cell["seed"])
    dim = cell["dim"]
    width = cell["width"]
    variant = cell["variant"]
    make_tokens, n_tokens = LAYOUTS[cell["layout"]]
    empty_prompt = Prompts(torch.zeros(1, 1, dim), torch.zeros(1, 1))
    n_in = make_tokens(empty_prompt).shape[2]
    head_features = None
    if variant == "standard_1_of_8":
        head_features = width // cell["heads"]
    # Scores of n features have the factor 8 / n, whatever the number of heads: a head that cannot
    # regress then fails for its rank, not for a narrower range of its scores.
    network = shared.Network(
        VARIANTS[variant],
        width,
        n_heads=1 if variant.startswith("standard_1") else cell["heads"],
        head_features=head_features,
        n_layers=cell["layers"],
        length=2 * dim * n_tokens,
        base_features=shared.BASE_WIDTH,
        position_std=0.02,
    )
    read_in = linear(n_in, width, generator=generator)
    return shared.CausalTransformer(network, read_in, 1, generator=generator)


def losses(model: nn.Module, cell: Record) -> Iterator[Callable[[], Tensor]]:
    """The loss of each step as a function, over prompts of its own."""
    generator = torch.Generator().manual_seed(_DATA_SEED + cell["seed"])

    def loss(n_active: int, n_points: int) -> Tensor:
        prompts = draw(cell["batch"], cell["dim"], n_points, generator=generator, n_active=n_active)
        return squared_errors(model, prompts, cell["layout"]).mean()

    for step in range(cell["steps"]):
        n_active, n_points = stage(step, cell["steps"], cell["dim"], cell["curriculum"])
        yield partial(loss, n_active, n_points)


def cooldown_of(n_steps: int, share: float) -> tuple[int, int] | None:
    """First and last step of the cooldown, in which the rate falls; ``None`` where it is no whole
    step.
    """
    begin = n_steps - round(share * n_steps)
    return (begin, n_steps) if begin < n_steps else None


def fixed_prompts(dim: int, seed: int, n_prompts: int = N_TEST) -> Prompts:
    """Prompts of full size that are the same for every run."""
    return draw(n_prompts, dim, 2 * dim, generator=torch.Generator().manual_seed(seed))


def run(cell: Record) -> Record:
    """Train and measure; the fields to record.

    Raises:
        ArithmeticError: If the training diverged.
    """
    model = make_model(cell)
    validation = fixed_prompts(cell["dim"], _VALIDATION_SEED)
    test = fixed_prompts(cell["dim"], _TEST_SEED)
    started = time.process_time()
    seconds = shared.train(
        model,
        losses(model, cell),
        learning_rate=cell["rate"],
        n_warmup=max(1, min(100, cell["steps"] // 10)),
        cooldown=cooldown_of(cell["steps"], cell["cooldown"]),
    )
    test_errors = errors_by_point(model, test, cell["layout"])
    if not math.isfinite(sum(test_errors)):
        raise ArithmeticError("it ended in numbers that are none; leave this rate out")
    validation_errors = errors_by_point(model, validation, cell["layout"])
    return {
        "error": test_errors[-1],
        "by_point": test_errors,
        "validation_error": validation_errors[-1],
        "parameters": shared.n_parameters(model),
        "multiply_adds": shared.multiply_adds(model),
        "seconds": seconds,
        "head_features": model.stack.blocks[0].attention.score.d_key,
        "cpu_seconds": time.process_time() - started,
    }


def best_rate(
    runs: Iterable[Record], rates: Collection[float], seeds: Collection[int]
) -> float | None:
    """The rate with the smallest validation error, mean over seeds; ``None`` where there is no run.

    A rate is a candidate only if it has a run of each seed: the others diverged with one of them.
    """
    errors: dict[float, list[float]] = {}
    for row in runs:
        if row["rate"] in rates and row["seed"] in seeds:
            errors.setdefault(row["rate"], []).append(row["validation_error"])
    means = {}
    for rate, rate_errors in errors.items():
        if len(rate_errors) == len(seeds):
            means[rate] = fmean(rate_errors)
    return min(means, key=lambda rate: means[rate]) if means else None


def chosen(rows: Iterable[Record]) -> list[Record]:
    """Runs with the rate of the smallest mean validation error of their variant and width.

    Rates that were run with the first seed compete, over the seeds with which all of them were run.
    """
    best_runs: list[Record] = []
    all_runs = [row for row in rows if row["kind"] == "run"]
    groups = records.by(all_runs, *SETTING, "width", "variant")
    variants = list(VARIANTS)
    for key in sorted(groups, key=lambda key: (*key[:-1], variants.index(key[-1]))):
        runs = groups[key]
        first_seed = min(row["seed"] for row in runs)
        rates = [row["rate"] for row in runs if row["seed"] == first_seed]
        seeds_by_rate = [{row["seed"] for row in runs if row["rate"] == rate} for rate in rates]
        seeds = set.intersection(*seeds_by_rate)
        best = best_rate(runs, rates, seeds)
        runs_of_rate = [row for row in runs if row["rate"] == best]
        best_runs += sorted(runs_of_rate, key=lambda row: row["seed"])
    return best_runs


def grid(options: Any, file: Records) -> Iterator[Record]:
    """The runs of the options: all rates with the first seeds, then the best rate with the others.

    Seed by seed, so that an early stop leaves whole comparisons.
    """
    setting = {name: getattr(options, name) for name in SETTING}
    tuning_seeds = options.seed[: options.tuning_seeds]
    fields = [name for name in KEY if name not in ("rate", "seed")]
    for seed, width, variant in product(options.seed, options.width, options.variant):
        cell = {"kind": "run", **setting, "variant": variant, "width": width, "seed": seed}
        rates = options.rate
        if seed not in tuning_seeds:
            alike = [row for row in file.rows() if all(row[name] == cell[name] for name in fields)]
            best = best_rate(alike, options.rate, tuning_seeds)
            rates = () if best is None else (best,)
        for rate in rates:
            yield {**cell, "rate": rate}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when all is well, 1 when a run diverged."""
    more = {"paper": PAPER, "choices": {"layout": LAYOUTS, "variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    file = Records(options.out, KEY)
    exit_code = 0
    with limit_threads(1):
        for cell in file.missing(grid(options, file)):
            fields = ("variant", "dim", "width", "rate", "seed")
            name = ", ".join(f"{field} {cell[field]}" for field in fields)
            try:
                row = file.add({**cell, **run(cell), "rates_tried": options.rate})
                print(f"{name}: error {row['error']:.4f}, {row['seconds']:.0f} s", flush=True)
            except ArithmeticError as error:
                print(f"in_context: {name}: {error}", file=sys.stderr)
                exit_code = 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
