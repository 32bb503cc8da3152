"""Does a score of low rank keep attention from learning linear regression inside its prompt, as Kuang et al. 2025 say?

A prompt holds points of one linear function, drawn anew each time; the network sees x and y of the points so far and
predicts the next y. Every variant is tuned alike: all rates with the first seed, and the rate with the smallest error
on validation prompts with the others. Runs that stand in the file are not made again.
Run: python benchmarks/in_context.py [--variant btt ...] [--width 64 ...] [--rate 0.003 ...] [--seed 0 ...] [--paper]
"""

import argparse
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tsattn.limits import limit_threads
from tsattn.nn.layers import linear


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


experiment, in_context_page = _neighbour("experiment"), _neighbour("in_context_page")

FILE = "in_context.jsonl"
# What tells one run from another.
SETTING = ("layout", "dim", "layers", "heads", "steps", "batch", "curriculum", "cooldown")
KEY = ("kind", *SETTING, "variant", "width", "rate", "seed")
_SAME = tuple(name for name in KEY if name not in ("rate", "seed"))
# Name of the score in experiment.Network; every variant has the heads asked for, but some have one.
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
# One head of all features, and one that compares no more features than each of many.
ONE_HEAD, ONE_NARROW_HEAD = "standard_1", "standard_1_of_8"
N_TEST = 1280
N_CURVE = 256  # of the validation prompts, for the errors during training
N_MARKS = 20  # errors during training
_FIRST_DIM = 4  # of the curriculum
# Seeds of the fixed prompts, and what is added to a run's seed for its training prompts.
_VALIDATION, _TEST, _DATA = 7_000_001, 7_000_002, 1_000_000
_PAPER = {
    "layout": "turns",
    "dim": 128,
    "width": [16, 32, 64, 128, 256, 512, 1024],
    "layers": 6,
    "steps": 500_000,
    "curriculum": 0.06,
    "cooldown": 0.0,
}


class Prompts(NamedTuple):
    """Points of linear functions: x is [B N d], y is [B N] and divided by d ** 0.5, so that its mean square is 1."""

    x: Tensor
    y: Tensor


def draw(
    n_prompts: int, dim: int, n_points: int, *, generator: torch.Generator, n_active: int | None = None
) -> Prompts:
    """Prompts of one linear function each, ``y = w x / dim ** 0.5`` with standard normal w and x, without noise.

    Args:
        n_prompts: Prompts B.
        dim: Length d of x.
        n_points: Points N of a prompt.
        generator: Source of the numbers.
        n_active: Leading coordinates that are used, the others are zero; default all.
    """
    used = dim if n_active is None else n_active
    x = torch.zeros(n_prompts, n_points, dim)
    x[..., :used] = torch.randn(n_prompts, n_points, used, generator=generator)
    w = torch.randn(n_prompts, dim, generator=generator)
    return Prompts(x, torch.einsum("bnd,bd->bn", x, w) / math.sqrt(dim))


def pairs(prompts: Prompts) -> Tensor:
    """One token a point: x, and x and y of the point before it (of none: zeros); ``2 d + 1`` numbers."""
    before = torch.cat((prompts.x, prompts.y.unsqueeze(2)), dim=2)[:, :-1]
    return torch.cat((prompts.x, nn.functional.pad(before, (0, 0, 1, 0))), dim=2)


def turns(prompts: Prompts) -> Tensor:
    """x_1, y_1, x_2, y_2, ... as vectors of d numbers, y in the first of them (Garg et al. 2022)."""
    value = torch.zeros_like(prompts.x)
    value[..., 0] = prompts.y
    return torch.stack((prompts.x, value), dim=2).flatten(1, 2)


class Layout(NamedTuple):
    """How a prompt becomes tokens.

    Args:
        tokens: Of prompts, [B n q]; each y is predicted where its x is read.
        per_point: Tokens a point, of which the first reads x.
    """

    tokens: Callable[[Prompts], Tensor]
    per_point: int


# In pairs the first layer can compare points at once; in turns it must first bring each x to its y.
LAYOUTS = {"pairs": Layout(pairs, 1), "turns": Layout(turns, 2)}


def squared_errors(model: nn.Module, prompts: Prompts, layout: str) -> Tensor:
    """Squared error of each y, [B N], as predicted where its x is read."""
    how = LAYOUTS[layout]
    return (model(how.tokens(prompts))[:, :: how.per_point, 0] - prompts.y).square()


@torch.no_grad()
def errors_by_point(model: nn.Module, prompts: Prompts, layout: str, batch: int = 64) -> list[float]:
    """Mean squared error after 0, 1, ... points of a prompt."""
    parts = zip(prompts.x.split(batch), prompts.y.split(batch), strict=True)
    summed = sum(squared_errors(model, Prompts(x, y), layout).double().sum(0) for x, y in parts)
    means: list[float] = (summed / len(prompts.y)).tolist()
    return means


def least_squares_by_point(prompts: Prompts) -> list[float]:
    """The same of the smallest weights that fit all points so far, the best that any method can do on average."""
    x, y = prompts.x.double(), prompts.y.double()
    errors = [y[:, 0].square().mean().item()]
    for n_seen in range(1, y.shape[1]):
        weights = torch.linalg.pinv(x[:, :n_seen]) @ y[:, :n_seen, None]
        errors.append((x[:, n_seen, None] @ weights).flatten().sub(y[:, n_seen]).square().mean().item())
    return errors


def stage(step: int, n_steps: int, dim: int, share: float) -> tuple[int, int]:
    """Coordinates and points of the prompts of a step: from 4 and 8 to all, one and two more at a time.

    Args:
        step: Steps done.
        n_steps: Steps in all.
        dim: All coordinates; there are twice as many points.
        share: Part of the training after which everything is in use.
    """
    first = min(_FIRST_DIM, dim)
    reached = 1.0 if share <= 0 else min(1.0, step / (share * n_steps))
    used = first + math.floor(reached * (dim - first) + 1e-9)
    return used, 2 * used


# --- a run ------------------------------------------------------------------------------------------------------


def make_model(cell: dict[str, Any]) -> Any:
    """The network of a run, its start values from the run's seed."""
    generator = torch.Generator().manual_seed(cell["seed"])
    dim, width, layout = cell["dim"], cell["width"], LAYOUTS[cell["layout"]]
    n_in = layout.tokens(Prompts(torch.zeros(1, 1, dim), torch.zeros(1, 1))).shape[2]
    n_heads = 1 if cell["variant"] in (ONE_HEAD, ONE_NARROW_HEAD) else cell["heads"]
    # One factor, 8 / n, for scores of n features, whatever the number of heads: a head that cannot regress then fails
    # for its rank, not because its scores are held to a narrower range.
    shape = {
        "n_heads": n_heads,
        "head_features": width // cell["heads"] if cell["variant"] == ONE_NARROW_HEAD else None,
        "n_layers": cell["layers"],
        "length": 2 * dim * layout.per_point,
        "base_features": experiment.BASE_WIDTH,
        "position_std": 0.02,
    }
    network = experiment.Network(VARIANTS[cell["variant"]], width, **shape)
    return experiment.CausalTransformer(network, linear(n_in, width, generator=generator), 1, generator=generator)


def losses(model: nn.Module, cell: dict[str, Any]) -> Iterator[Callable[[], Tensor]]:
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


def run(cell: dict[str, Any]) -> dict[str, Any]:
    """Train and measure; what is recorded of the run.

    Raises:
        ArithmeticError: If the training diverged to numbers that are none.
    """
    model = make_model(cell)
    validation, test = (fixed_prompts(cell["dim"], seed) for seed in (_VALIDATION, _TEST))
    few = Prompts(validation.x[:N_CURVE], validation.y[:N_CURVE])
    every, curve = max(1, cell["steps"] // N_MARKS), []

    def after(step: int) -> None:
        if step % every == 0:
            curve.append([step, errors_by_point(model, few, cell["layout"])[-1]])
            print(f"  step {step}: {curve[-1][1]:.4f}", flush=True)

    started = time.process_time()
    seconds = experiment.train(
        model,
        losses(model, cell),
        learning_rate=cell["rate"],
        n_warmup=max(1, min(100, cell["steps"] // 10)),
        cooldown=cooldown_of(cell["steps"], cell["cooldown"]),
        after=after,
    )
    by_point = errors_by_point(model, test, cell["layout"])
    if not math.isfinite(sum(by_point)):
        raise ArithmeticError(f"{_name(cell)} ended in numbers that are none; leave this rate out")
    return {
        "validation_error": errors_by_point(model, validation, cell["layout"])[-1],
        "error": by_point[-1],
        "by_point": by_point,
        "curve": curve,
        "head_features": model.stack.blocks[0].attention.score.d_key,
        "parameters": experiment.n_parameters(model),
        "multiply_adds": experiment.multiply_adds(model),
        "seconds": seconds,
        "cpu_seconds": time.process_time() - started,
    }


def reference_rows(cell: dict[str, Any]) -> list[dict[str, Any]]:
    """What needs no training, on the test prompts of all runs: predicting zero, and least squares."""
    prompts = fixed_prompts(cell["dim"], _TEST)
    found = {"zero": prompts.y.double().square().mean(0).tolist(), "least_squares": least_squares_by_point(prompts)}
    return [
        {**_reference(cell["dim"], name), "error": by_point[-1], "by_point": by_point}
        for name, by_point in found.items()
    ]


def _reference(dim: int, name: str) -> dict[str, Any]:
    return {**dict.fromkeys(KEY), "kind": "reference", "dim": dim, "variant": name}


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['variant']}, d {cell['dim']}, width {cell['width']}, rate {cell['rate']:g}, seed {cell['seed']}"


# --- all runs ---------------------------------------------------------------------------------------------------


def run_all(options: argparse.Namespace, records: Any) -> int:
    """Every run that is missing; the number of those that diverged."""
    setting = {name: getattr(options, name) for name in SETTING}
    references = (_reference(options.dim, name) for name in ("zero", "least_squares"))
    if list(records.missing(references)):
        known = {(row["kind"], row["dim"], row["variant"]) for row in records.rows()}
        for row in reference_rows(setting):
            if (row["kind"], row["dim"], row["variant"]) not in known:
                records.add(row)
    failed = 0
    # Seed by seed, so that an early stop leaves whole comparisons.
    for number, seed in enumerate(options.seed):
        for width in options.width:
            for variant in options.variant:
                cell = {"kind": "run", **setting, "variant": variant, "width": width, "seed": seed}
                rates = options.rate
                if number >= options.tuning_seeds:
                    like = [row for row in records.rows() if all(row[name] == cell[name] for name in _SAME)]
                    best = in_context_page.best_rate(like, options.rate, options.seed[: options.tuning_seeds])
                    rates = [] if best is None else [best]
                failed += _run_missing([{**cell, "rate": rate} for rate in rates], records, options.rate)
    return failed


def _run_missing(cells: list[dict[str, Any]], records: Any, rates: list[float]) -> int:
    failed = 0
    for cell in records.missing(cells):
        print(_name(cell), flush=True)
        try:
            found = run(cell)
        except ArithmeticError as error:
            print(f"in_context: {error}", file=sys.stderr)
            failed += 1
            continue
        records.add({**cell, **found, "rates_tried": rates})
        print(f"  error {found['error']:.4f}, {found['seconds']:.0f} s", flush=True)
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing; 0 when all is well, 1 when a run diverged."""
    options = _parse(argv)
    records = experiment.Records(options.out, KEY)
    with limit_threads(1):
        return 1 if run_all(options, records) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=16, help="length d of x; a prompt has 2 d points")
    parser.add_argument(
        "--layout", choices=list(LAYOUTS), default="pairs", help="x and y of a point in one token or two"
    )
    parser.add_argument("--width", type=int, action="append", help="token width; may be repeated (default 64)")
    parser.add_argument("--layers", type=int, default=3, help="blocks (the paper has 6)")
    parser.add_argument("--heads", type=int, default=8, help="heads of all variants but standard_1 and standard_1_of_8")
    parser.add_argument("--steps", type=int, default=3000, help="steps of training")
    parser.add_argument("--batch", type=int, default=64, help="prompts a step")
    parser.add_argument("--curriculum", type=float, default=0.2, help="part in which prompts grow (the paper: 0.06)")
    parser.add_argument("--cooldown", type=float, default=0.3, help="part at the end in which the rate falls to zero")
    parser.add_argument("--rate", type=float, action="append", help="learning rate at width 64; may be repeated")
    parser.add_argument("--tuning-seeds", type=int, default=1, help="seeds with which every rate is run; then the best")
    parser.add_argument("--seed", type=int, action="append", help="may be repeated (default 0, 1, 2)")
    parser.add_argument("--variant", choices=list(VARIANTS), action="append", help="may be repeated (default all)")
    parser.add_argument("--out", type=Path, default=experiment.RESULTS / FILE, help="file of the records")
    parser.add_argument("--paper", action="store_true", help="sizes of the paper: months on two cores")
    options = parser.parse_args(argv)
    if options.paper:
        vars(options).update({name: value for name, value in _PAPER.items() if name != "width" or not options.width})
    options.width = options.width or [64]
    options.rate = options.rate or [3e-3, 6e-3]
    options.seed = options.seed or [0, 1, 2]
    options.variant = options.variant or list(VARIANTS)
    return options


if __name__ == "__main__":
    sys.exit(main())
