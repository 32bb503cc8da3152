"""Does the best learning rate stay put as a network grows wider? Trains each structure of score with and without the
maximal-update rule, at several widths and rates, on the characters of Python's own help texts.

Runs that stand in the record are not done again, so a sweep may stop and go on, in several processes.
Run: python benchmarks/width_sweep.py [--structure btt ...] [--rule with] [--width 32 ...] [--rate -8 ...] [--seed 0]
"""

import argparse
import hashlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tsattn.limits import limit_threads

FILE = "width_sweep.jsonl"
STRUCTURES = ("standard", "mlr", "mlr_matrix", "btt", "monarch", "butterfly", "kronecker", "mlbtc")
# A block tensor train of rank one, which `btt` is here, is a Monarch matrix: the same numbers need no second run.
_SAME = ("monarch",)
RULES = {"with": True, "without": False}
WIDTHS = (32, 64, 128)
# Powers of two; a grid of factor 2.
RATES = tuple(range(-10, -3))
# What a row is told from others by.
KEY = ("structure", "rule", "width", "log2_rate", "seed", "steps", "batch", "length", "n_layers", "n_heads", "text")
_LAST = 0.1  # share of the steps whose losses are the score


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


experiment = _neighbour("experiment")


class Text(NamedTuple):
    """Characters as numbers.

    Args:
        ids: One number a character.
        n_letters: How many different ones there are.
        name: A few digits of the text's checksum: Python's help changes from version to version.
    """

    ids: Tensor
    n_letters: int
    name: str


def read_text() -> Text:
    """The topics of Python's own help, one after another."""
    from pydoc_data.topics import topics

    whole = "".join(topics[name] for name in sorted(topics))
    place = {letter: number for number, letter in enumerate(sorted(set(whole)))}
    ids = torch.tensor([place[letter] for letter in whole])
    return Text(ids, len(place), hashlib.sha256(whole.encode()).hexdigest()[:12])


def make_model(cell: dict[str, Any], n_letters: int) -> Any:
    """The causal transformer of a run; what reads letters starts at one size at every width."""
    generator = torch.Generator().manual_seed(cell["seed"])
    sizes = {name: cell[name] for name in ("n_heads", "n_layers", "length")}
    network = experiment.Network(cell["structure"], cell["width"], maximal_update=RULES[cell["rule"]], **sizes)
    letters = experiment.EMBEDDING_STD * torch.randn(n_letters, cell["width"], generator=generator)
    read_in = nn.Embedding.from_pretrained(letters, freeze=False)
    return experiment.CausalTransformer(network, read_in, n_letters, generator=generator)


def batches(text: Text, cell: dict[str, Any]) -> Iterator[Tensor]:
    """Pieces of the text, one letter longer than what is read; the same ones for all runs of a seed."""
    generator = torch.Generator().manual_seed(10_000 + cell["seed"])
    window = torch.arange(cell["length"] + 1)
    for _ in range(cell["steps"]):
        starts = torch.randint(len(text.ids) - cell["length"], (cell["batch"], 1), generator=generator)
        yield text.ids[starts + window]


def run(cell: dict[str, Any], text: Text) -> dict[str, Any]:
    """Train one network.

    Args:
        cell: The fields of ``KEY``.
        text: What is learnt.

    Returns:
        The cell with its loss: nats a character, a mean over the last tenth of the steps, each on letters drawn
        anew; ``None`` where a loss was no number any more, and the run stopped there.
    """
    model = make_model(cell, text.n_letters)
    seen: list[float] = []

    def losses() -> Iterator[Callable[[], Tensor]]:
        for piece in batches(text, cell):
            if seen and not math.isfinite(seen[-1]):
                return

            def loss(piece: Tensor = piece) -> Tensor:
                found = nn.functional.cross_entropy(model(piece[:, :-1]).flatten(0, 1), piece[:, 1:].flatten())
                seen.append(found.item())
                return found

            yield loss

    warm_up, cpu = max(1, cell["steps"] // 10), time.process_time()
    seconds = experiment.train(model, losses(), learning_rate=2.0 ** cell["log2_rate"], n_warmup=warm_up)
    score = fmean(seen[-max(1, round(_LAST * cell["steps"])) :])
    return {
        "kind": "run",
        **cell,
        "loss": round(score, 6) if math.isfinite(score) and len(seen) == cell["steps"] else None,
        "steps_done": len(seen),
        "parameters": experiment.n_parameters(model),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
    }


def grid(options: argparse.Namespace, text: Text) -> Iterator[dict[str, Any]]:
    """The runs that are asked for, narrow networks first."""
    sizes = {name: getattr(options, name) for name in ("steps", "batch", "length", "n_layers", "n_heads")}
    for seed, width, structure, rule, rate in product(
        options.seed, options.width, options.structure, options.rule, options.rate
    ):
        told = {"structure": structure, "rule": rule, "width": width, "log2_rate": rate, "seed": seed}
        yield {**told, **sizes, "text": text.name}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and not recorded yet."""
    options = _options(argv)
    text = read_text()
    records = experiment.Records(options.out, KEY)
    with limit_threads(1):
        for cell in records.missing(grid(options, text)):
            row = records.add(run(cell, text))
            said = "no number" if row["loss"] is None else f"{row['loss']:.4f}"
            name = f"{row['structure']} {row['rule']} the rule, width {row['width']}, rate 2^{row['log2_rate']}"
            print(f"{name}, seed {row['seed']}: {said}, {row['seconds']:.1f} s", flush=True)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--structure", action="append", choices=STRUCTURES)
    parser.add_argument("--rule", action="append", choices=list(RULES))
    parser.add_argument("--width", action="append", type=int, help=f"default {', '.join(map(str, WIDTHS))}")
    parser.add_argument("--rate", action="append", type=int, metavar="LOG2", help="powers of two, such as -8")
    parser.add_argument("--seed", action="append", type=int, help="default 0")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=8, help="pieces of text a step")
    parser.add_argument("--length", type=int, default=64, help="letters a piece")
    parser.add_argument("--layers", type=int, default=2, dest="n_layers")
    parser.add_argument("--heads", type=int, default=4, dest="n_heads")
    parser.add_argument("--out", type=Path, default=experiment.RESULTS / FILE)
    options = parser.parse_args(argv)
    if min(options.steps, options.batch, options.length, options.n_layers, options.n_heads) < 1:
        parser.error("--steps, --batch, --length, --layers and --heads must be at least 1")
    structures = tuple(name for name in STRUCTURES if name not in _SAME)
    given = {"structure": structures, "rule": tuple(RULES), "width": WIDTHS, "rate": RATES, "seed": (0,)}
    for name, default in given.items():
        setattr(options, name, tuple(dict.fromkeys(getattr(options, name) or default)))
    if odd := [width for width in options.width if width < 1 or width % options.n_heads]:
        parser.error(f"--heads {options.n_heads} must divide every width; got {odd[0]}")
    return options


if __name__ == "__main__":
    sys.exit(main())
