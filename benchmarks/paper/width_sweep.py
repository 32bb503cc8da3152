"""Searches the best learning rates of networks of several widths, for each structure of the scores,
with and without the maximal-update rule.

Under the rule the best rate should not depend on the width. The text is Python's own help. Recorded
runs are not repeated. Run: PYTHONPATH=benchmarks python benchmarks/paper/width_sweep.py
[--structure btt ...] [--width 32] [--log2-rate=-8]
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pydoc_data.topics import topics
from statistics import fmean
from typing import Any, NamedTuple

import records
import torch
from paper import shared
from paper.language_model import batches, make_model, sequence_loss
from records import Record, Records
from torch import Tensor

from tsattn.limits import limit_threads

FILE = "width_sweep.jsonl"
STRUCTURES = ("standard", "mlr", "mlr_matrix", "btt", "monarch", "butterfly", "kronecker", "mlbtc")
RULES = {"with": True, "without": False}
# A block tensor train of rank one, which `btt` is here, is a Monarch matrix: the same numbers need
# no second run.
DEFAULTS = {
    "structure": tuple(name for name in STRUCTURES if name != "monarch"),
    "rule": tuple(RULES),
    "seed": (0,),
    "width": (32, 64, 128),
    "log2_rate": tuple(range(-10, -3)),
    "steps": 250,
    "batch": 8,
    "length": 64,
    "n_layers": 2,
    "n_heads": 4,
}
# Fields that identify a run.
KEY = (
    "structure",
    "rule",
    "width",
    "log2_rate",
    "seed",
    "steps",
    "batch",
    "length",
    "n_layers",
    "n_heads",
    "text",
)
# Last share of the steps, whose mean loss is the score.
_SCORED_SHARE = 0.1
# Added to a run's seed for its batches.
_DATA_SEED = 10_000


class Text(NamedTuple):
    """Characters as numbers; ``name`` is a part of the text's checksum, since Python's help changes
    with its version.
    """

    ids: Tensor
    n_letters: int
    name: str


def read_text() -> Text:
    """The topics of Python's own help, one after another."""
    text = "".join(topics[name] for name in sorted(topics))
    numbers = {letter: number for number, letter in enumerate(sorted(set(text)))}
    ids = torch.tensor([numbers[letter] for letter in text])
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return Text(ids, len(numbers), checksum[:12])


def run(cell: Record, text: Text) -> Record:
    """Train one network; the cell with its loss in nats a character, a mean over the last tenth of
    the steps.

    Each step reads other letters. A run stops at a loss that is not finite; the recorded loss is
    then ``None``.
    """
    network = shared.Network(
        cell["structure"],
        cell["width"],
        n_heads=cell["n_heads"],
        n_layers=cell["n_layers"],
        length=cell["length"],
        maximal_update=RULES[cell["rule"]],
    )
    model = make_model(network, text.n_letters, torch.Generator().manual_seed(cell["seed"]))
    n_steps = cell["steps"]
    step_losses: list[float] = []

    def loss(batch: Tensor) -> Tensor:
        value = sequence_loss(model, batch)
        step_losses.append(value.item())
        return value

    def losses() -> Iterator[Callable[[], Tensor]]:
        for batch in batches(text.ids, cell, _DATA_SEED + cell["seed"]):
            if step_losses and not math.isfinite(step_losses[-1]):
                return
            yield partial(loss, batch)

    cpu_start = time.process_time()
    seconds = shared.train(
        model,
        losses(),
        learning_rate=2.0 ** cell["log2_rate"],
        n_warmup=max(1, n_steps // 10),
    )
    cpu_seconds = time.process_time() - cpu_start
    return {
        "kind": "run",
        **cell,
        "loss": _score(step_losses, n_steps),
        "steps_done": len(step_losses),
        "parameters": shared.n_parameters(model),
        "seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
    }


def _score(losses: list[float], n_steps: int) -> float | None:
    """Mean loss of the last steps; ``None`` where a loss was not finite."""
    n_scored = max(1, round(_SCORED_SHARE * n_steps))
    score = fmean(losses[-n_scored:])
    if not math.isfinite(score) or len(losses) < n_steps:
        return None
    return round(score, 6)


def grid(options: Any, text: Text) -> Iterator[Record]:
    """The runs of the options, narrow networks first."""
    sizes = ("steps", "batch", "length", "n_layers", "n_heads")
    fixed = {name: getattr(options, name) for name in sizes}
    names = ("seed", "width", "structure", "rule", "log2_rate")
    for values in product(*(getattr(options, name) for name in names)):
        yield {**dict(zip(names, values, strict=True)), **fixed, "text": text.name}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not recorded yet.

    Raises:
        ValueError: If the heads do not divide a width.
    """
    more = {"choices": {"structure": STRUCTURES, "rule": RULES}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    for width in options.width:
        if width % options.n_heads:
            raise ValueError(f"--n-heads {options.n_heads} must divide every width; got {width}")
    text = read_text()
    file = Records(options.out, KEY)
    with limit_threads(1):
        for cell in file.missing(grid(options, text)):
            row = file.add(run(cell, text))
            loss = "no number" if row["loss"] is None else f"{row['loss']:.4f}"
            name = (
                f"{row['structure']} {row['rule']} the rule, width {row['width']}, rate"
                f" 2^{row['log2_rate']}"
            )
            print(f"{name}, seed {row['seed']}: {loss}, {row['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
