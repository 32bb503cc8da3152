"""Pretraining on synthetic series: batches, steps, and a resumable run as a command."""

import argparse
import copy
import functools
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tsattn.limits import keep_memory
from tsattn.pretrained.faults import add_faults
from tsattn.pretrained.losses import Teachers, distance, expected_pinball, pinball
from tsattn.pretrained.network import ZeroConfig, ZeroNetwork
from tsattn.pretrained.recipes import RECIPES, SHAPES, SIZES, Recipe, Shape
from tsattn.pretrained.synthetic import make
from tsattn.pretrained.weights import SHIPPED, load_network, read_network, save_network
from tsattn.storage import part_of, write_atomic, write_bytes, write_json
from tsattn.terminal import in_words

# Steps that stand for a minute of one core: a run asked for in minutes must be the same run on any
# machine.
STEPS_A_MINUTE = 150
# Largest norm of the gradient of a step.
_GRADIENT_NORM = 1.0
# Steps that the running average looks back on at least.
_LEAST_AVERAGE_STEPS = 10.0
# Steps between two losses on the validation series.
_STEPS_A_VALIDATION = 500
# Steps between two states on disk.
_STEPS_A_STATE = 250
# Steps between two lines on a terminal.
_STEPS_A_LINE = 10
# Steps whose mean loss is shown.
_STEPS_A_SHOWN_LOSS = 100
# Seed of validation series, which no run has as its own: their draws are no draws of training.
_VALIDATION_SEED = 2**32 - 1
# Share of the contexts that are shortened, and the fewest steps that they keep.
_SHORTENED_SHARE = 0.3
_SHORTEST_CONTEXT = 8
# Losses of a network that learns from teachers, by the names that recipes give them.
_COMPARISONS = {None: distance, "expected_pinball": expected_pinball}


def draw_batch(shape: Shape, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Windows of fresh synthetic series: contexts [B T] and futures [B F], NaN where missing.

    Three in ten contexts are shortened to a random length from 8 steps up, as short series come.
    """
    n_steps = shape.n_steps
    n_rows = n_steps + shape.horizon
    series = make(shape.n_windows, n_rows, seed=rng)
    x = series[:, :n_steps].copy()
    y = series[:, n_steps:].copy()
    n_windows = len(x)
    # Every order of magnitude of a length is as likely.
    shortest = math.log(_SHORTEST_CONTEXT)
    longest = math.log(n_steps)
    logarithm = rng.uniform(shortest, longest, n_windows)
    length = np.exp(logarithm).astype(int)
    is_short = rng.random(n_windows) < _SHORTENED_SHARE
    first = np.where(is_short, n_steps - length, 0)
    is_cut = np.arange(n_steps) < first[:, None]
    x[is_cut] = np.nan
    return torch.from_numpy(x), torch.from_numpy(y)


def make_optimizers(
    network: ZeroNetwork, rate: float, other_rate: float
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the blocks, AdamW for the rest, with their rates."""
    matrices = []
    others = []
    for name, parameter in network.named_parameters():
        is_inside = name.startswith("stack.blocks.")
        if parameter.ndim == 2 and is_inside:
            matrices.append(parameter)
        else:
            others.append(parameter)
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=0.0)
    adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return muon, adam


def take_step(
    network: ZeroNetwork,
    optimizers: Sequence[torch.optim.Optimizer],
    loss: Tensor,
    rates: Sequence[float],
) -> None:
    """Move the weights of a network once, by the gradient of a loss.

    Args:
        network: What the loss was computed with.
        optimizers: As of :func:`make_optimizers`.
        loss: One number.
        rates: Learning rate of each optimizer in this step.
    """
    for optimizer, rate in zip(optimizers, rates, strict=True):
        optimizer.zero_grad(set_to_none=True)
        for group in optimizer.param_groups:
            group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
    for optimizer in optimizers:
        optimizer.step()


# Lightning's trainer takes the same steps to the same weights, neither slower nor faster (100 steps
# of 30 ms: 3.0 to 3.2 s here, 3.1 to 3.3 s there), after 3.7 s of import. It has no part for what
# a run of days consists of: phases that begin with fresh optimizers, an average of weights with a
# window that grows, and a state after any step that later versions read.
class Pretraining:
    """A run that can be stopped after any step and goes on to the same weights.

    The windows of a step depend on the seed and the step alone, so the state is weights, their
    running average, the optimizers and a count; between two phases the optimizers do not count.

    Args:
        config: The network.
        recipe: How it learns.
        device: Where.
        weights: Folder of the weights that the recipe names; needed where it names others than the
            shipped ones.

    Raises:
        ValueError: If there is no such folder, weights are missing, or those to start from have
            other settings.
    """

    def __init__(
        self,
        config: ZeroConfig,
        recipe: Recipe,
        *,
        device: str = "cpu",
        weights: Path | None = None,
    ) -> None:
        self.config = config
        self.recipe = recipe
        self.device = torch.device(device)
        keep_memory()
        generator = torch.Generator().manual_seed(recipe.seed)
        first = replace(config, measure="whole") if recipe.recent_from else config
        self.network = self._make(first, generator).to(self.device)
        self.teachers = None
        if recipe.start is not None:
            start = _read_weights(recipe.start, weights)
            if start.config != self.network.config:
                raise ValueError(
                    f"a run starts from weights of its own settings; got {start.config} for"
                    f" {self.network.config}"
                )
            self.network.load_state_dict(start.state_dict())
        if recipe.teachers is not None:
            teachers = []
            for name in recipe.teachers:
                teacher = _read_weights(name, weights)
                teachers.append(teacher.to(self.device))
            self.teachers = Teachers(teachers)
        average = copy.deepcopy(self.network)
        self.average = average.requires_grad_(False)
        self._begin_phase()
        self.step = 0
        self.windows = 0
        # Seconds of all cores.
        self.seconds = 0.0

    def _make(self, config: ZeroConfig, generator: torch.Generator) -> ZeroNetwork:
        """A network that has learnt nothing yet; a study trains another one."""
        return ZeroNetwork(config, generator=generator)

    def _begin_phase(self) -> None:
        """Make fresh optimizers."""
        recipe = self.recipe
        self.optimizers = make_optimizers(self.network, recipe.rate, recipe.other_rate)

    def _measure_recent(self) -> None:
        """Let windows be measured as the settings say; new inputs have weights of zero."""
        self.network = self._with_settings(self.network)
        average = self._with_settings(self.average)
        self.average = average.requires_grad_(False)

    def _with_settings(self, network: ZeroNetwork) -> ZeroNetwork:
        """A network of the settings of this run that has the weights of another one, and weights of
        zero for further inputs.
        """
        wider = self._make(self.config, torch.Generator()).to(self.device)
        weights = network.state_dict()
        for name, wider_weight in wider.state_dict().items():
            weight = weights[name]
            if wider_weight.shape != weight.shape:
                n_more = wider_weight.shape[1] - weight.shape[1]
                weights[name] = torch.nn.functional.pad(weight, (0, n_more))
        wider.load_state_dict(weights)
        return wider

    def advance(self) -> float:
        """Take one step.

        Returns:
            The loss before it.
        """
        recipe = self.recipe
        is_first_network = self.network.config != self.config
        if self.step == recipe.recent_from and is_first_network:
            self._measure_recent()
        if self.step % recipe.phase == 0:
            self._begin_phase()
        rng = np.random.default_rng([recipe.seed, self.step])
        shares = [shape.share for shape in SHAPES]
        number = rng.choice(len(SHAPES), p=shares)
        shape = SHAPES[number]
        x, y = self._draw(shape, rng)
        factor = recipe.factor(self.step)
        rates = (recipe.rate * factor, recipe.other_rate * factor)
        if self.teachers is None:
            loss = pinball(self.network, x, y, shape.n_tokens, weighed=True)
        else:
            compare = _COMPARISONS[recipe.loss]
            seen = self._seen(x, rng)
            loss = compare(self.network, self.teachers, x, shape.horizon, shape.n_tokens, seen)
        take_step(self.network, self.optimizers, loss, rates)
        self._move_average()
        self.step += 1
        self.windows += len(x)
        return float(loss.detach())

    def _draw(self, shape: Shape, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A batch on the device of the run."""
        x, y = draw_batch(shape, rng)
        return x.to(self.device), y.to(self.device)

    def _seen(self, x: Tensor, rng: np.random.Generator) -> Tensor | None:
        """What the network sees of the contexts of its teachers; None if it is all."""
        if self.recipe.faults is None:
            return None
        faulty = add_faults(x.cpu().numpy(), rng, self.recipe.faults)
        return torch.from_numpy(faulty).to(self.device)

    @torch.no_grad()
    def _move_average(self) -> None:
        """Move the running average; at first it follows fast."""
        n_averaged = max(self.recipe.average * self.step, _LEAST_AVERAGE_STEPS)
        share = 1 / n_averaged
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for mean, weights in pairs:
            mean.lerp_(weights, share)

    @torch.no_grad()
    def validate(self, n_batches: int = 2) -> float:
        """Loss of the average weights on the validation series, the mean over shapes."""
        losses = []
        for number, shape in enumerate(SHAPES):
            for batch in range(n_batches):
                rng = np.random.default_rng([_VALIDATION_SEED, number, batch])
                x, y = self._draw(shape, rng)
                loss = pinball(self.average, x, y, shape.n_tokens)
                losses.append(float(loss))
        return float(np.mean(losses))

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        optimizer_states = [optimizer.state_dict() for optimizer in self.optimizers]
        return {
            **self._facts(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": optimizer_states,
        }

    def _facts(self) -> dict[str, Any]:
        """Settings and counts, without tensors."""
        return {
            "config": self.network.config.to_dict(),
            "recipe": self.recipe.to_dict(),
            "step": self.step,
            "windows": self.windows,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: If it is of another network or another recipe, the number of steps and the
                decay aside.
        """
        self._check_settings(state)
        step = state["step"]
        is_first_network = self.network.config != self.config
        if step > self.recipe.recent_from and is_first_network:
            self._measure_recent()
            self._begin_phase()
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, values in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(values)
        self.step = step
        self.windows = state["windows"]
        self.seconds = state["seconds"]

    def _check_settings(self, state: dict[str, Any]) -> None:
        """Refuse a state whose settings are not those of this run."""
        is_first = self.recipe.recent_from and state["step"] <= self.recipe.recent_from
        config = replace(self.config, measure="whole") if is_first else self.config
        settings = {**config.to_dict(), **self.recipe.to_dict()}
        state_settings = {**state["config"], **state["recipe"]}
        for name in {**settings, **state_settings}:
            value = settings.get(name)
            state_value = state_settings.get(name)
            if name not in _MAY_DIFFER and value != state_value:
                raise ValueError(
                    f"the state was trained with {name} = {state_value!r}; got"
                    f" {value!r}; give the same, or another --state folder"
                )

    def phase_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and facts from which the next phase goes on."""
        tensors = {}
        networks = {"network": self.network, "average": self.average}
        for part, network in networks.items():
            for name, tensor in network.state_dict().items():
                tensors[f"{part}.{name}"] = tensor.contiguous()
        return tensors, self._facts()

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
        # Between two phases the optimizers are fresh, as those of this run are.
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {**facts, "optimizers": optimizers, "network": {}, "average": {}}
        for name, tensor in tensors.items():
            part, _, parameter = name.partition(".")
            state[part][parameter] = tensor
        self.restore(state)


def _read_weights(name: str, folder: Path | None) -> ZeroNetwork:
    """The network of a name that a recipe gives: the shipped one, or one of a folder."""
    if name == SHIPPED:
        # The network that is loaded is shared, and this one may move to another device.
        return copy.deepcopy(load_network(name))
    if folder is None:
        raise ValueError(f"the recipe needs the weights {name}; name their folder by --weights")
    return read_network(folder / f"{name}.safetensors")


# Settings of a recipe that may be others when a run goes on: they change the decay and the warm-up.
_MAY_DIFFER = ("n_steps", "decay", "warmup")


def run(pretraining: Pretraining, folder: Path, *, until: int | None = None) -> None:
    """Train to the end of the recipe, or to step ``until``; state and curve lie in ``folder``.

    Progress is shown on a terminal only. Killed at any moment, the next call goes on from the last
    state to the same weights. The state after a phase is kept as ``phase.safetensors`` and
    ``phase.json``, from which a run goes on where there is no other state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _restore(pretraining, folder)
    points = _read_curve(folder / "curve.jsonl")
    curve = [point for point in points if point["step"] <= pretraining.step]
    recipe = pretraining.recipe
    stop = recipe.n_steps if until is None else min(until, recipe.n_steps)
    started = time.monotonic()
    seconds_before = pretraining.seconds - time.process_time()
    losses = []
    while pretraining.step < stop:
        loss = pretraining.advance()
        losses.append(loss)
        pretraining.seconds = seconds_before + time.process_time()
        step = pretraining.step
        is_last = step == stop
        if is_last or step % _STEPS_A_VALIDATION == 0:
            point = _point(pretraining, losses)
            curve.append(point)
        if is_last or step % _STEPS_A_STATE == 0:
            _keep(pretraining, curve, folder)
        if step % recipe.phase == 0:
            _keep_phase(pretraining, folder)
        _show(pretraining, stop, losses, curve, started)
    if sys.stderr.isatty():
        sys.stderr.write("\n")


def _point(pretraining: Pretraining, losses: list[float]) -> dict[str, Any]:
    """One point of the curve of a run."""
    recent_losses = losses[-_STEPS_A_VALIDATION:]
    mean_loss = float(np.mean(recent_losses))
    return {
        "step": pretraining.step,
        "windows": pretraining.windows,
        "seconds": round(pretraining.seconds, 1),
        "loss": mean_loss,
        "validation": pretraining.validate(),
    }


def _keep(pretraining: Pretraining, curve: list[dict[str, Any]], folder: Path) -> None:
    """Write the curve and the state, each in one step.

    A curve that is ahead of the state is cut when it is read.
    """
    lines = [json.dumps(point) + "\n" for point in curve]
    write_bytes(folder / "curve.jsonl", "".join(lines).encode())
    write_state = functools.partial(torch.save, pretraining.state())
    write_atomic(folder / "state.pt", write_state)


def _keep_phase(pretraining: Pretraining, folder: Path) -> None:
    """Write the state between two phases."""
    tensors, facts = pretraining.phase_state()
    write_atomic(folder / "phase.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "phase.json", facts)


def _restore(pretraining: Pretraining, folder: Path) -> None:
    """Go on from the state of a folder, or from that of its last phase, or from nothing."""
    state_file = folder / "state.pt"
    phase_file = folder / "phase.safetensors"
    device = pretraining.device
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        pretraining.restore(state)
    elif phase_file.exists():
        text = (folder / "phase.json").read_text(encoding="utf-8")
        facts = json.loads(text)
        tensors = load_file(phase_file, device=str(device))
        pretraining.restore_phase(tensors, facts)


def _read_curve(path: Path) -> Iterator[dict[str, Any]]:
    """Points of a curve; none where there is no file."""
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        yield json.loads(line)


def _show(
    pretraining: Pretraining,
    stop: int,
    losses: list[float],
    curve: list[dict[str, Any]],
    started: float,
) -> None:
    """Draw one line on a terminal: steps, losses, windows a second, time gone and left."""
    if not sys.stderr.isatty() or len(losses) % _STEPS_A_LINE:
        return
    step = pretraining.step
    gone = time.monotonic() - started
    seconds_a_step = gone / len(losses)
    n_left = stop - step
    left = seconds_a_step * n_left
    recent_losses = losses[-_STEPS_A_SHOWN_LOSS:]
    loss = np.mean(recent_losses)
    validation = "-"
    if curve:
        last_point = curve[-1]
        validation = f"{last_point['validation']:.4f}"
    # As if all steps had been as fast as those of this call.
    seconds = max(step * seconds_a_step, 1e-9)
    windows_a_second = pretraining.windows / seconds
    sys.stderr.write(
        f"\rstep {step} of {stop}  loss {loss:.4f}  validation {validation} "
        f" {windows_a_second:.0f} windows/s  {in_words(int(gone))} gone  {in_words(left)} left  "
    )
    sys.stderr.flush()


def _parse(argv: list[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tsattn.pretrained.pretraining",
        description=__doc__,
    )
    parser.add_argument(
        "--state",
        type=Path,
        required=True,
        help="folder of the state and the curve",
    )
    parser.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default="zero-5",
        help="how the network learns",
    )
    parser.add_argument("--size", choices=sorted(SIZES), default="base", help="of the network")
    parser.add_argument("--seed", type=int, help="default that of the recipe")
    parser.add_argument(
        "--weights", type=Path, help="folder of the weights that the recipe starts or learns from"
    )
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
        "--export",
        type=Path,
        help="write weights and card of the state into this folder and stop",
    )
    parser.add_argument("--name", default="zero-5", help="name of the exported weights")
    parser.add_argument(
        "--facts",
        type=Path,
        help="JSON file of what the card tells besides: commit, scores, bad_at",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        help="draw the curve of the state into this file and stop",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    if options.picture is not None:
        draw_curve(options.state, options.picture)
        return
    if options.export is not None:
        facts_text = options.facts.read_text()
        facts = json.loads(facts_text)
        export(options.state, options.export, options.name, facts)
        return
    until = None
    if options.minutes is not None:
        until = round(options.minutes * STEPS_A_MINUTE)
    recipe = RECIPES[options.recipe]
    if options.seed is not None:
        recipe = replace(recipe, seed=options.seed)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pretraining = Pretraining(
            SIZES[options.size], recipe, device=options.device, weights=options.weights
        )
        run(pretraining, options.state, until=until)
    finally:
        torch.set_num_threads(n_threads)


def export(state: Path, folder: Path, name: str, facts: dict[str, Any]) -> None:
    """Write the averaged weights of a run and their card.

    Args:
        state: Folder of the run, or what is kept of it after a phase.
        folder: Where ``NAME.safetensors`` and ``NAME.json`` go.
        name: Such as ``"zero-5h"``.
        facts: What the card tells besides: ``commit``, ``scores``, ``bad_at``.
    """
    if (state / "state.pt").exists():
        content = torch.load(state / "state.pt", map_location="cpu", weights_only=True)
        average = content["average"]
    else:
        text = (state / "phase.json").read_text(encoding="utf-8")
        content = json.loads(text)
        tensors = load_file(state / "phase.safetensors")
        average = part_of(tensors, "average.")
    config = ZeroConfig.from_dict(content["config"])
    network = ZeroNetwork(config)
    network.load_state_dict(average)
    core_hours = content["seconds"] / 3600
    run_facts = {
        "learnt_from": "synthetic series of tsattn.pretrained.synthetic; no real series",
        "steps": content["step"],
        "windows": content["windows"],
        "core_hours": round(core_hours, 2),
        "recipe": content["recipe"],
    }
    save_network(network, folder, name, {**run_facts, **facts})


def draw_curve(folder: Path, file: Path) -> None:
    """Draw the losses of a run against its windows."""
    from matplotlib.figure import Figure

    points = list(_read_curve(folder / "curve.jsonl"))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    windows = [point["windows"] for point in points]
    for name in ("loss", "validation"):
        losses = [point[name] for point in points]
        axes.plot(windows, losses, label=name)
    axes.set(xscale="log", xlabel="windows", ylabel="pinball loss")
    axes.legend(frameon=False)
    figure.savefig(file)


if __name__ == "__main__":
    main()
