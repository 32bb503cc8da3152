"""Pretraining on synthetic series: batches, loss, schedule, and a resumable run as a command."""

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsattn.limits import keep_memory
from tsattn.pretrained.network import ZeroConfig, ZeroNetwork
from tsattn.pretrained.period import Seasons
from tsattn.pretrained.synthetic import make
from tsattn.pretrained.weights import save_network
from tsattn.storage import write_atomic
from tsattn.terminal import in_words

# Steps that stand for a minute of one core: a run asked for in minutes must be the same run on any
# machine.
STEPS_A_MINUTE = 150
# Targets beyond this many deviations, in the space of the arcsinh, teach no more than those at it.
_FARTHEST = 3.5
# Changes smaller than about this, in the same space, make a window no more important.
_LEAST_CHANGE = 0.05
# Steps between two looks at the validation series.
_LOOK = 500
# Steps between two states on disk.
_SAVE = 250
# Steps in which the rates rise again after the optimizers have begun anew.
_RISE = 50
# Draws of validation series are no draws of training series.
_VALIDATION = 2**32 - 1


@dataclass(frozen=True)
class Shape:
    """One kind of batch.

    Args:
        n_tokens: Tokens of the context.
        horizon: Steps ahead.
        n_windows: Windows of a batch; all shapes cost about as much a step.
        share: Of the steps.
    """

    n_tokens: int
    horizon: int
    n_windows: int
    share: float

    @property
    def n_steps(self) -> int:
        """Steps of the context: enough to fill tokens of nine steps."""
        return 9 * self.n_tokens


SHAPES = (
    Shape(6, 18, 420, 0.12),
    Shape(12, 24, 256, 0.09),
    Shape(32, 48, 112, 0.12),
    Shape(64, 64, 64, 0.17),
    Shape(128, 128, 28, 0.14),
    Shape(256, 192, 14, 0.16),
    Shape(128, 720, 18, 0.09),
    Shape(256, 900, 10, 0.11),
)

# Networks that weights are shipped of: the usual one, and one that takes about a fifth of the time.
SIZES = {
    "base": ZeroConfig(encode=32),
    "small": ZeroConfig(80, 2, 2, 256, token_len=16, max_len=24, max_tokens=128, encode=16),
}


@dataclass(frozen=True)
class Recipe:
    """How the network learns: the rates rise, fall with the root of the steps, and decay to zero at
    the end.

    A run of many days is one of phases, each of which begins with fresh optimizers: then weights
    and their average are all that the next phase needs, and they are small enough to be kept. Runs
    of one recipe but for the number of steps are the same up to the decay of the shorter one.

    Args:
        n_steps: Steps in all.
        seed: Of the start values and of every series.
        rate: Of Muon, which moves the matrices inside the blocks.
        other_rate: Of AdamW, which moves the rest.
        warmup: Share of the steps in which the rates rise from zero, 1,000 steps at most.
        half: Steps after which the rates are ``2**-0.5`` of what they were, falling as
            ``(1 + step / half)**-0.5``.
        decay: Share of the steps, the last ones, in which the rates fall to zero.
        average: Share of the steps so far that the running average of weights looks back on.
        phase: Steps of a phase.
    """

    n_steps: int
    seed: int = 0
    rate: float = 0.02
    other_rate: float = 2e-3
    warmup: float = 0.05
    half: int = 4000
    decay: float = 0.2
    average: float = 0.05
    phase: int = 4000

    def factor(self, step: int) -> float:
        """What the rates of a step, counted from 0, are multiplied by."""
        rise = max(round(min(self.warmup * self.n_steps, 1000)), 1)
        left = (self.n_steps - step) / max(self.decay * self.n_steps, 1)
        fresh = (step % self.phase + 1) / _RISE if step >= self.phase else 1.0
        return (1 + step / self.half) ** -0.5 * min((step + 1) / rise, 1.0, left, fresh)


# What the shipped weights are made by, from nothing; a release before the end of a long recipe is a
# shorter one.
RECIPES = {
    "zero-5a": Recipe(40_000),
    "zero-5": Recipe(400_000),
}


def draw_batch(shape: Shape, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows of fresh synthetic series: contexts [B T] and futures [B F], NaN where missing.

    Three in ten contexts are shortened to a random length from 8 steps up, as short series come.
    """
    series = make(shape.n_windows, shape.n_steps + shape.horizon, seed=rng)
    x = series[:, : shape.n_steps].copy()
    y = series[:, shape.n_steps :]
    keep = np.exp(rng.uniform(math.log(8), math.log(shape.n_steps), len(x))).astype(int)
    first = np.where(rng.random(len(x)) < 0.3, shape.n_steps - keep, 0)
    x[np.arange(shape.n_steps) < first[:, None]] = np.nan
    return torch.from_numpy(x), torch.from_numpy(y.copy())


def pinball(
    network: ZeroNetwork,
    x: Tensor,
    y: Tensor,
    n_tokens: int | None = None,
    *,
    weighed: bool = False,
) -> Tensor:
    """Mean pinball loss of a batch, weighted as :func:`pinball_terms` says, and by :func:`weigh`
    where asked.
    """
    x, seasons = network.look(x, y.shape[1])
    losses, weight = pinball_terms(network, x, y, n_tokens, seasons)
    if weighed:
        importance = weigh(x, seasons.period)[:, None, None]
        losses = losses * importance
        weight = weight * importance
    return losses.sum() / weight.sum().clamp_min(1e-6)


def weigh(x: Tensor, period: Tensor) -> Tensor:
    """Importance of contexts [B T] of these seasons [B]: 1 / (c + .05), c the mean absolute change
    from one step to the next, or from one season to the next where that is less, in the space of
    the arcsinh.

    Errors are told in units of such changes (MASE). Without weights a series of small changes
    around a level that moved far would teach next to nothing.
    """
    known = x.isfinite().sum(1, keepdim=True).clamp_min(1)
    apart = x - x.nan_to_num(0.0).sum(1, keepdim=True) / known
    spread = (apart.nan_to_num(0.0).square().sum(1, keepdim=True) / known).sqrt()
    scaled = torch.asinh(apart / torch.where(spread > 0, spread, 1.0))
    before = torch.arange(x.shape[1], device=x.device) - period[:, None]
    season = (scaled - scaled.gather(1, before.clamp_min(0))).abs()
    season = torch.where((period[:, None] > 0) & (before >= 0), season, torch.nan).nanmean(1)
    change = torch.fmin(scaled.diff(dim=1).abs().nanmean(1), season)
    return 1 / (change.nan_to_num(1.0) + _LEAST_CHANGE)


def pinball_terms(
    network: ZeroNetwork,
    x: Tensor,
    y: Tensor,
    n_tokens: int | None = None,
    seasons: Seasons | None = None,
) -> tuple[Tensor, Tensor]:
    """Weighted pinball losses of a batch in the space of the arcsinh, and their weights,
    ``[B M P]`` each.

    A step h (from 0) weighs ``(1 + h / 16)^(-1/2)``. Windows of which fewer than three values are
    known, or whose context does not vary, teach nothing.
    """
    slots, tokens, level, spread = network(x, y.shape[1], n_tokens, seasons)
    target = network.squeeze(y, tokens, level, spread).clamp(-_FARTHEST, _FARTHEST)
    usable = (x.isfinite().sum(1) >= 3) & (spread[:, 0] > 0)
    weight = (1 + tokens.slots()[0].clamp_min(0) / 16).rsqrt()
    weight = weight * target.isfinite() * usable[:, None, None]
    levels = torch.tensor(network.quantile_levels, device=slots.device)
    error = target.nan_to_num(0.0)[..., None] - slots
    losses = 2 * torch.maximum(levels * error, (levels - 1) * error).mean(3)
    return losses * weight, weight


def make_optimizers(
    network: ZeroNetwork, rate: float, other_rate: float
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the blocks, AdamW for the rest, with their rates."""
    inside = [
        p
        for name, p in network.named_parameters()
        if p.ndim == 2 and name.startswith("stack.blocks.")
    ]
    others = [p for p in network.parameters() if all(p is not q for q in inside)]
    return (
        torch.optim.Muon(inside, lr=rate, weight_decay=0.0),
        torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0),
    )


class Pretraining:
    """A run that can be stopped after any step and goes on to the same weights.

    The windows of a step depend on the seed and the step alone, so the state is weights, their
    running average, the optimizers and a count; between two phases the optimizers do not count.

    Args:
        config: The network.
        recipe: How it learns.
        device: Where.
        start: A trained network of the same settings, whose weights are taken over.

    Raises:
        ValueError: If the settings of ``start`` are others.
    """

    def __init__(
        self,
        config: ZeroConfig,
        recipe: Recipe,
        *,
        device: str = "cpu",
        start: ZeroNetwork | None = None,
    ) -> None:
        self.config, self.recipe, self.device = config, recipe, torch.device(device)
        keep_memory()
        generator = torch.Generator().manual_seed(recipe.seed)
        self.network = self._make(generator).to(self.device)
        if start is not None:
            if start.config != config:
                raise ValueError(
                    f"a run starts from weights of its own settings; got {start.config} for"
                    f" {config}"
                )
            self.network.load_state_dict(start.state_dict())
        self.average = self._make(generator).to(self.device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizers = make_optimizers(self.network, recipe.rate, recipe.other_rate)
        self.rates = (recipe.rate, recipe.other_rate)
        self.step, self.windows, self.seconds = 0, 0, 0.0  # seconds of all cores

    def _make(self, generator: torch.Generator) -> ZeroNetwork:
        return ZeroNetwork(self.config, generator=generator)

    def advance(self) -> float:
        """One step; its loss."""
        if self.step % self.recipe.phase == 0:
            self.optimizers = make_optimizers(
                self.network, self.recipe.rate, self.recipe.other_rate
            )
        rng = np.random.default_rng([self.recipe.seed, self.step])
        shape = SHAPES[rng.choice(len(SHAPES), p=[shape.share for shape in SHAPES])]
        x, y = (part.to(self.device) for part in draw_batch(shape, rng))
        factor = self.recipe.factor(self.step)
        for optimizer, rate in zip(self.optimizers, self.rates, strict=True):
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        loss = pinball(self.network, x, y, shape.n_tokens, weighed=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self._follow()
        self.step += 1
        self.windows += len(x)
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the running average; at first it follows fast."""
        share = 1 / max(self.recipe.average * self.step, 10.0)
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, share)

    @torch.no_grad()
    def validate(self, n_batches: int = 2) -> float:
        """Loss of the average weights on series that are never trained on, the mean over shapes."""
        losses = []
        for number, shape in enumerate(SHAPES):
            for batch in range(n_batches):
                rng = np.random.default_rng([_VALIDATION, number, batch])
                x, y = (part.to(self.device) for part in draw_batch(shape, rng))
                losses.append(float(pinball(self.average, x, y, shape.n_tokens)))
        return float(np.mean(losses))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "config": self.config.to_dict(),
            "recipe": asdict(self.recipe),
            "step": self.step,
            "windows": self.windows,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it is of another network or another recipe, the number of steps and the
                decay aside.
        """
        mine = {**self.config.to_dict(), **asdict(self.recipe)}
        free = ("n_steps", "decay", "warmup")
        theirs = {**state["config"], **state["recipe"]}
        for name in mine:
            if name not in free and mine[name] != theirs.get(name):
                raise ValueError(
                    f"the state was trained with {name} = {theirs.get(name)!r}; got {mine[name]!r};"
                    " give the same, or another --state folder"
                )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.step, self.windows, self.seconds = state["step"], state["windows"], state["seconds"]

    def phase_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and facts from which the next phase goes on."""
        tensors = {
            f"network.{name}": tensor.contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        tensors |= {
            f"average.{name}": tensor.contiguous()
            for name, tensor in self.average.state_dict().items()
        }
        facts = {
            name: value
            for name, value in self.state().items()
            if name not in ("network", "average", "optimizers")
        }
        return tensors, facts

    def restore_phase(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go on from what :meth:`phase_state` gave.

        Raises:
            ValueError: As :meth:`restore`, or if the state is not one between two phases.
        """
        if facts["step"] % self.recipe.phase:
            raise ValueError(
                f"a kept state lies between two phases of {self.recipe.phase} steps; got step"
                f" {facts['step']}"
            )
        parts = {
            part: {
                name.removeprefix(f"{part}."): t
                for name, t in tensors.items()
                if name.startswith(f"{part}.")
            }
            for part in ("network", "average")
        }
        self.restore(
            {
                **facts,
                **parts,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
        )


def run(pretraining: Pretraining, folder: Path, *, until: int | None = None) -> None:
    """Train to the end of the recipe, or to step ``until``; state and curve lie in ``folder``.

    Progress is shown on a terminal only. Killed at any moment, the next call goes on from the last
    state to the same weights. The state after a phase is kept as ``phase.safetensors`` and
    ``phase.json``, from which a run goes on where there is no other state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _restore(pretraining, folder)
    curve = [
        point for point in _read_curve(folder / "curve.jsonl") if point["step"] <= pretraining.step
    ]
    stop = pretraining.recipe.n_steps if until is None else min(until, pretraining.recipe.n_steps)
    started = time.monotonic()
    spent = time.process_time()
    before = pretraining.seconds
    losses = []
    while pretraining.step < stop:
        losses.append(pretraining.advance())
        pretraining.seconds = before + time.process_time() - spent
        if pretraining.step % _LOOK == 0 or pretraining.step == stop:
            curve.append(
                {
                    "step": pretraining.step,
                    "windows": pretraining.windows,
                    "seconds": round(pretraining.seconds, 1),
                    "loss": float(np.mean(losses[-_LOOK:])),
                    "validation": pretraining.validate(),
                }
            )
        if pretraining.step % _SAVE == 0 or pretraining.step == stop:
            _keep(pretraining, curve, folder)
        if pretraining.step % pretraining.recipe.phase == 0:
            _keep_phase(pretraining, folder)
        _show(pretraining, stop, losses, curve, started)
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def _keep(pretraining: Pretraining, curve: list[dict[str, Any]], folder: Path) -> None:
    """Put the curve and the state on disk, each in one step; a curve that is ahead is cut when it
    is read.
    """

    def write_curve(path: Path) -> None:
        path.write_text("".join(json.dumps(point) + "\n" for point in curve))

    write_atomic(folder / "curve.jsonl", write_curve)
    write_atomic(folder / "state.pt", functools.partial(torch.save, pretraining.state()))


def _keep_phase(pretraining: Pretraining, folder: Path) -> None:
    """Put the state between two phases on disk."""
    tensors, facts = pretraining.phase_state()
    write_atomic(folder / "phase.safetensors", lambda path: save_file(tensors, path))
    write_atomic(
        folder / "phase.json", lambda path: path.write_text(json.dumps(facts, indent=2) + "\n")
    )


def _restore(pretraining: Pretraining, folder: Path) -> None:
    """Go on from the state of a folder, or from that of its last phase, or from nothing."""
    state = folder / "state.pt"
    phase = folder / "phase.safetensors"
    if state.exists():
        pretraining.restore(torch.load(state, map_location=pretraining.device, weights_only=True))
    elif phase.exists():
        facts = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
        pretraining.restore_phase(load_file(phase, device=str(pretraining.device)), facts)


def _read_curve(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        yield from (json.loads(line) for line in path.read_text().splitlines())


def _show(
    pretraining: Pretraining,
    stop: int,
    losses: list[float],
    curve: list[dict[str, Any]],
    started: float,
) -> None:
    """One line on a terminal: step of how many, losses, windows a second, time gone and left."""
    if not sys.stderr.isatty() or len(losses) % 10:
        return
    gone = time.monotonic() - started
    pace = gone / len(losses)
    left = pace * (stop - pretraining.step)
    validation = f"{curve[-1]['validation']:.4f}" if curve else "-"
    rate = pretraining.windows / max(pretraining.step * pace, 1e-9)
    sys.stderr.write(
        f"\rstep {pretraining.step} of {stop}  loss {np.mean(losses[-100:]):.4f}  validation"
        f" {validation}  {rate:.0f} windows/s  {in_words(int(gone))} gone  {in_words(left)} left  "
    )
    sys.stderr.flush()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tsattn.pretrained.pretraining", description=__doc__
    )
    parser.add_argument(
        "--state", type=Path, required=True, help="folder of the state and the curve"
    )
    parser.add_argument(
        "--recipe", choices=sorted(RECIPES), default="zero-5", help="how the network learns"
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="base", help="of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes",
        type=float,
        help=(
            f"stop after so many minutes in all, {STEPS_A_MINUTE} steps each; a later call goes on;"
            " default the whole recipe"
        ),
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--export", type=Path, help="write weights and card of the state into this folder and stop"
    )
    parser.add_argument("--name", default="zero-5", help="name of the exported weights")
    parser.add_argument(
        "--facts",
        type=Path,
        help="JSON file of what the card tells besides: commit, scores, bad_at",
    )
    parser.add_argument(
        "--picture", type=Path, help="draw the curve of the state into this file and stop"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    if options.picture is not None:
        draw_curve(options.state, options.picture)
        return
    if options.export is not None:
        export(options.state, options.export, options.name, json.loads(options.facts.read_text()))
        return
    recipe = replace(RECIPES[options.recipe], seed=options.seed)
    until = None if options.minutes is None else round(options.minutes * STEPS_A_MINUTE)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(
            Pretraining(SIZES[options.size], recipe, device=options.device),
            options.state,
            until=until,
        )
    finally:
        torch.set_num_threads(before)


def export(state: Path, folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Write the averaged weights of a run and their card.

    Args:
        state: Folder of the run.
        folder: Where ``NAME.safetensors`` and ``NAME.json`` go.
        name: Such as ``"zero-4"``.
        facts: What the card tells besides: ``commit``, ``scores``, ``bad_at``.
    """
    kept = torch.load(state / "state.pt", map_location="cpu", weights_only=True)
    network = ZeroNetwork(ZeroConfig.from_dict(kept["config"]))
    network.load_state_dict(kept["average"])
    known = {
        "learnt_from": "synthetic series of tsattn.pretrained.synthetic; no real series",
        "steps": kept["step"],
        "windows": kept["windows"],
        "core_hours": round(kept["seconds"] / 3600, 2),
        "recipe": kept["recipe"],
    }
    save_network(network, folder, name, {**known, **facts})


def draw_curve(folder: Path, file: Path) -> None:
    """A picture of the losses of a run against its windows."""
    from matplotlib.figure import Figure

    points = list(_read_curve(folder / "curve.jsonl"))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name in ("loss", "validation"):
        axes.plot([p["windows"] for p in points], [p[name] for p in points], label=name)
    axes.set(xscale="log", xlabel="windows", ylabel="pinball loss")
    axes.legend(frameon=False)
    figure.savefig(file)


if __name__ == "__main__":
    main()
