"""Does the best learning rate stay put as a network grows wider? Each structure of score, with and
without the rule.

The rule is the maximal update; the text is Python's own help. Runs that are recorded are not made
again. Run: PYTHONPATH=benchmarks python benchmarks/paper/width_sweep.py [--structure btt ...]
[--width 32] [--log2-rate=-8]
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
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
}
DEFAULTS |= {
    "width": (32, 64, 128),
    "log2_rate": tuple(range(-10, -3)),
    "steps": 250,
    "batch": 8,
    "length": 64,
}
DEFAULTS |= {"n_layers": 2, "n_heads": 4}
# What a row is told from others by.
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
_LAST = 0.1  # share of the steps whose losses are the score


class Text(NamedTuple):
    """Characters as numbers; ``name`` is a part of its checksum, since Python's help changes with
    its version.
    """

    ids: Tensor
    n_letters: int
    name: str


def read_text() -> Text:
    """The topics of Python's own help, one after another."""
    whole = "".join(topics[name] for name in sorted(topics))
    place = {letter: number for number, letter in enumerate(sorted(set(whole)))}
    ids = torch.tensor([place[letter] for letter in whole])
    return Text(ids, len(place), hashlib.sha256(whole.encode()).hexdigest()[:12])


def run(cell: Record, text: Text) -> Record:
    """Train one network; the cell with its loss in nats a character, a mean over the last tenth of
    the steps.

    Each step reads letters drawn anew. The loss is ``None`` where one was no number any more; the
    run stopped there.
    """
    sizes = {name: cell[name] for name in ("n_heads", "n_layers", "length")}
    network = shared.Network(
        cell["structure"], cell["width"], maximal_update=RULES[cell["rule"]], **sizes
    )
    model = make_model(network, text.n_letters, torch.Generator().manual_seed(cell["seed"]))
    seen: list[float] = []

    def losses() -> Iterator[Callable[[], Tensor]]:
        for piece in batches(text.ids, cell, 10_000 + cell["seed"]):
            if seen and not math.isfinite(seen[-1]):
                return

            def loss(piece: Tensor = piece) -> Tensor:
                found = sequence_loss(model, piece)
                seen.append(found.item())
                return found

            yield loss

    warm_up = max(1, cell["steps"] // 10)
    cpu = time.process_time()
    seconds = shared.train(
        model, losses(), learning_rate=2.0 ** cell["log2_rate"], n_warmup=warm_up
    )
    score = fmean(seen[-max(1, round(_LAST * cell["steps"])) :])
    loss = round(score, 6) if math.isfinite(score) and len(seen) == cell["steps"] else None
    told = {"loss": loss, "steps_done": len(seen), "parameters": shared.n_parameters(model)}
    spent = {"seconds": round(seconds, 3), "cpu_seconds": round(time.process_time() - cpu, 3)}
    return {"kind": "run", **cell, **told, **spent}


def grid(options: Any, text: Text) -> Iterator[Record]:
    """The runs that are asked for, narrow networks first."""
    sizes = {
        name: getattr(options, name) for name in ("steps", "batch", "length", "n_layers", "n_heads")
    }
    names = ("seed", "width", "structure", "rule", "log2_rate")
    for values in product(*(getattr(options, name) for name in names)):
        yield {**dict(zip(names, values, strict=True)), **sizes, "text": text.name}


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is asked for and not recorded yet.

    Raises:
        ValueError: If the heads do not divide a width.
    """
    more = {"choices": {"structure": STRUCTURES, "rule": RULES}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    if odd := [width for width in options.width if width % options.n_heads]:
        raise ValueError(f"--n-heads {options.n_heads} must divide every width; got {odd[0]}")
    text = read_text()
    found = Records(options.out, KEY)
    with limit_threads(1):
        for cell in found.missing(grid(options, text)):
            row = found.add(run(cell, text))
            said = "no number" if row["loss"] is None else f"{row['loss']:.4f}"
            name = (
                f"{row['structure']} {row['rule']} the rule, width {row['width']}, rate"
                f" 2^{row['log2_rate']}"
            )
            print(f"{name}, seed {row['seed']}: {said}, {row['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
