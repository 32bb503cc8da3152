"""Compares attention with structure over positions and standard attention at the same compute, in a
character-level language model (Kuang et al. 2025).

Causal transformers that differ only in their attention read a text and predict each next character.
The learning rate of each is chosen from one grid by validation loss, with seed 0 at the smallest
width; the maximal-update rule turns it into the rates of the other widths. Recorded runs are not
repeated. Run: PYTHONPATH=benchmarks python benchmarks/paper/language_model.py --text FILE
[--width 64 ...] [--variant ...] Without --text it reads the English pages of Python's own help.
--paper takes the paper's sizes: days of a processor.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import records
import torch
from paper import shared
from records import Record, Records
from torch import Tensor, nn

from tsattn.limits import limit_threads

FILE = "language_model.jsonl"
SIZES = ("length", "layers", "steps", "batch", "head")
_PAPER_SHARES = (32, 8, 6, 4, 4, 4, 4, 2)
# Features a level, coarse to fine, of heads of 64; other heads share theirs in the same
# proportions. A rotary embedding needs even ranks: hence five levels, also in narrow heads.
SHARES = {
    "mlr_paper": _PAPER_SHARES,
    "mlr_equal": (8,) * 8,
    "mlr_two": (32, 32),
    "mlr_shifted": _PAPER_SHARES,
    "mlr_rotary": (32, 8, 8, 8, 8),
}
VARIANTS = (
    "standard",
    "standard_rotary",
    "sliding_window",
    "global_local",
    "global_local_one",
    *SHARES,
)
DEFAULTS: dict[str, Any] = {
    "length": 256,
    "layers": 2,
    "steps": 1500,
    "batch": 8,
    "head": 32,
    "width": (32, 64, 128),
    "text": "",
    "rate": (1e-3, 3e-3, 1e-2),
    "seed": (0, 1, 2),
    "variant": VARIANTS,
}
PAPER = {
    "length": 1024,
    "layers": 6,
    "steps": 100_000,
    "batch": 32,
    "head": 64,
    "width": (256, 384, 512, 768),
}
KEYS = {
    "run": ("kind", "variant", "width", *SIZES, "rate", "seed", "text_sha256"),
    "rate": ("kind", "variant", "width", *SIZES, "rates", "text_sha256"),
}
# Sequences that are evaluated at once.
_SEQUENCES = 32


@dataclass(frozen=True)
class Corpus:
    """A text as numbers, in order: nine tenths for training, one twentieth each for validation and
    for the test.
    """

    name: str
    sha256: str
    n_symbols: int  # characters of the training part, and one for any other
    train: Tensor
    validation: Tensor
    test: Tensor


def read_text(path: Path | None) -> tuple[str, str]:
    """A text and its name; ``None`` takes the help pages of the running Python."""
    if path is not None:
        return path.read_text(encoding="utf-8"), path.name
    return "\n".join(topics.values()), "pydoc_data.topics"


def make_corpus(text: str, name: str) -> Corpus:
    """Cut a text into its parts; the vocabulary holds the characters of the training part."""
    cuts = [0, len(text) * 9 // 10, len(text) * 19 // 20, len(text)]
    parts = [text[start:stop] for start, stop in pairwise(cuts)]
    numbers = {symbol: number for number, symbol in enumerate(sorted(set(parts[0])))}
    unknown = len(numbers)
    coded_parts = [[numbers.get(symbol, unknown) for symbol in part] for part in parts]
    tensors = [torch.tensor(coded) for coded in coded_parts]
    checksum = hashlib.sha256(text.encode()).hexdigest()
    return Corpus(name, checksum, unknown + 1, *tensors)


def pieces(part: Tensor, length: int) -> Tensor:
    """All whole sequences of a part, one after another, each with the token that follows its last.

    Raises:
        ValueError: If there is none.
    """
    n_sequences = (len(part) - 1) // length
    if n_sequences < 1:
        raise ValueError(
            f"a part of {len(part)} characters has no sequence of {length}; take a longer text"
        )
    starts = [number * length for number in range(n_sequences)]
    return torch.stack([part[start : start + length + 1] for start in starts])


@torch.no_grad()
def evaluate(model: Any, part: Tensor) -> float:
    """Mean cross-entropy, in nats a character, over all whole sequences of a part."""
    sequences = pieces(part, model.network.length)
    total = 0.0
    for batch in sequences.split(_SEQUENCES):
        total += sequence_loss(model, batch, "sum").item()
    n_predicted = sequences[:, 1:].numel()
    return total / n_predicted


def sequence_loss(model: Any, sequences: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of each next token."""
    scores = model(sequences[:, :-1]).flatten(0, 1)
    targets = sequences[:, 1:].flatten()
    return nn.functional.cross_entropy(scores, targets, reduction=reduction)


def spread_ranks(shares: tuple[int, ...], n_features: int) -> tuple[int, ...]:
    """Features a level in the proportions of ``shares``, rounded down but at least 1; the remaining
    features go to the largest remainders, coarse levels first.

    Raises:
        ValueError: If a head has too few features.
    """
    total = sum(shares)
    exact_ranks = [share * n_features / total for share in shares]
    ranks = [max(int(rank), 1) for rank in exact_ranks]
    n_left = n_features - sum(ranks)
    if n_left < 0:
        raise ValueError(
            f"{len(shares)} levels of shares {shares} need heads of more than {n_features} features"
        )
    by_remainder = sorted(range(len(shares)), key=lambda level: ranks[level] - exact_ranks[level])
    for level in by_remainder[:n_left]:
        ranks[level] += 1
    return tuple(ranks)


def network_of(cell: Record) -> shared.Network:
    """The network of a run.

    Raises:
        ValueError: If heads do not fill the width.
    """
    variant = cell["variant"]
    width = cell["width"]
    head = cell["head"]
    if width % head:
        raise ValueError(
            f"width must be a multiple of the heads' {head} features; got {width}; change one of"
            " them"
        )
    score = variant
    ranks = None
    if variant in SHARES:
        score = "mlr"
        ranks = spread_ranks(SHARES[variant], head)
    return shared.Network(
        score,
        width,
        n_heads=width // head,
        n_layers=cell["layers"],
        length=cell["length"],
        ranks=ranks,
        rotary=variant == "mlr_rotary",
        shifted=variant == "mlr_shifted",
        base_features=head,
    )


def make_model(network: shared.Network, n_symbols: int, generator: torch.Generator) -> Any:
    """Characters in, scores of the next character out."""
    table = shared.EMBEDDING_STD * torch.randn(n_symbols, network.width, generator=generator)
    read_in = nn.Embedding.from_pretrained(table, freeze=False)
    return shared.CausalTransformer(network, read_in, n_symbols, generator=generator)


def choose_rate(cell: Record, options: Any, corpus: Corpus, files: dict[str, Records]) -> float:
    """The rate with the least validation loss at the smallest width with seed 0; it is recorded
    with the losses of all rates.

    Raises:
        ValueError: If no rate gave a finite loss.
    """
    tuning = {**cell, "width": min(options.width), "seed": 0}
    rates = sorted(set(options.rate))
    for tuning_cell in files["run"].missing([{**tuning, "rate": rate} for rate in rates]):
        files["run"].add(run(tuning_cell, corpus))
    losses = {}
    for row in files["run"].rows():
        is_alike = all(row.get(name) == value for name, value in tuning.items())
        if is_alike and row["rate"] in rates:
            losses[row["rate"]] = row["validation"]
    finite_losses = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not finite_losses:
        raise ValueError(
            f"{cell['variant']} learnt with none of the rates {rates}; try lower ones with --rate"
        )
    best = min(finite_losses, key=lambda rate: finite_losses[rate])
    all_losses = [losses[rate] for rate in rates]
    for choice in files["rate"].missing([{**tuning, "kind": "rate", "rates": rates}]):
        files["rate"].add({**choice, "chosen": best, "losses": all_losses})
    return best


def run(cell: Record, corpus: Corpus) -> Record:
    """Train and score one network; the row to record, with ``None`` for a loss that is not
    finite.
    """
    network = network_of(cell)
    model = make_model(network, corpus.n_symbols, torch.Generator().manual_seed(cell["seed"]))
    train_batches = batches(corpus.train, cell, cell["seed"])
    losses = (partial(sequence_loss, model, batch) for batch in train_batches)
    seconds = shared.train(model, losses, learning_rate=cell["rate"])
    scores = {
        "validation": _finite_loss(model, corpus.validation),
        "test": _finite_loss(model, corpus.test),
    }
    work = {
        "parameters": shared.n_parameters(model),
        "multiply_adds": shared.multiply_adds(model),
        "seconds": seconds,
    }
    text = {"vocabulary": corpus.n_symbols, "text": corpus.name}
    text["characters"] = [len(part) for part in (corpus.train, corpus.validation, corpus.test)]
    print(
        f"{cell['variant']}, width {cell['width']}, rate {cell['rate']}, seed {cell['seed']}:"
        f" {scores}",
        flush=True,
    )
    return {**cell, "ranks": network.ranks, **scores, **work, **text}


def _finite_loss(model: Any, part: Tensor) -> float | None:
    loss = evaluate(model, part)
    return loss if math.isfinite(loss) else None


def batches(part: Tensor, cell: Record, seed: int) -> Iterator[Tensor]:
    """Sequences of each step, one character longer than the network reads; the same for all
    variants of a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    places = torch.arange(cell["length"] + 1)
    n_starts = len(part) - cell["length"]
    for _ in range(cell["steps"]):
        starts = torch.randint(n_starts, (cell["batch"], 1), generator=generator)
        yield part[starts + places]


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not recorded yet."""
    more = {"paper": PAPER, "choices": {"variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    text, name = read_text(Path(options.text) if options.text else None)
    corpus = make_corpus(text, name)
    # Each part is refused if it is too short, before any training.
    for part in (corpus.train, corpus.validation, corpus.test):
        pieces(part, options.length)
    files = {kind: Records(options.out, key) for kind, key in KEYS.items()}
    sizes = {size: getattr(options, size) for size in SIZES} | {"text_sha256": corpus.sha256}
    with limit_threads(1):
        tuned_cells = []
        for variant in options.variant:
            cell = {"kind": "run", "variant": variant, **sizes}
            tuned_cells.append({**cell, "rate": choose_rate(cell, options, corpus, files)})
        grid = []
        for seed, width in product(options.seed, options.width):
            grid += [{**cell, "width": width, "seed": seed} for cell in tuned_cells]
        for cell in files["run"].missing(grid):
            files["run"].add(run(cell, corpus))


if __name__ == "__main__":
    main()
