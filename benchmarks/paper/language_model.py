"""A character-level language model: does structure over positions help at the same compute (Kuang
et al. 2025)?

Causal transformers that differ in nothing but their attention read a text and predict each next
character. Learning rates are chosen by validation loss with seed 0 at the smallest width, from one
grid for all, and serve the other widths by the maximal-update rule. What is recorded is not run
again. Run: PYTHONPATH=benchmarks python benchmarks/paper/language_model.py --text FILE [--width 64
...] [--variant ...] Without --text the English pages of Python's own help are read. --paper takes
the paper's sizes: days of a processor.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
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
# Features a level, coarse to fine, of heads of 64; other heads share theirs in the same
# proportions. Where pairs of features are turned, ranks have to be even: five levels, also in
# narrow heads.
SHARES = {"mlr_paper": (32, 8, 6, 4, 4, 4, 4, 2), "mlr_equal": (8,) * 8, "mlr_two": (32, 32)}
SHARES |= {"mlr_shifted": SHARES["mlr_paper"], "mlr_rotary": (32, 8, 8, 8, 8)}
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
}
DEFAULTS |= {"text": "", "rate": (1e-3, 3e-3, 1e-2), "seed": (0, 1, 2), "variant": VARIANTS}
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
_SEQUENCES = 32  # evaluated at once


@dataclass(frozen=True)
class Corpus:
    """A text as numbers, cut in order: nine tenths to learn from, half of the rest to choose by,
    half to report.
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
    """Cut a text into its parts; the vocabulary is what the training part holds."""
    cuts = [0, len(text) * 9 // 10, len(text) * 19 // 20, len(text)]
    parts = [text[start:stop] for start, stop in pairwise(cuts)]
    numbers = {symbol: number for number, symbol in enumerate(sorted(set(parts[0])))}
    coded = [torch.tensor([numbers.get(symbol, len(numbers)) for symbol in part]) for part in parts]
    return Corpus(name, hashlib.sha256(text.encode()).hexdigest(), len(numbers) + 1, *coded)


def pieces(part: Tensor, length: int) -> Tensor:
    """All whole sequences of a part, one after another, each with the token that follows its last.

    Raises:
        ValueError: If there is none.
    """
    count = (len(part) - 1) // length
    if count < 1:
        raise ValueError(
            f"a part of {len(part)} characters has no sequence of {length}; take a longer text"
        )
    return torch.stack([part[i * length : (i + 1) * length + 1] for i in range(count)])


@torch.no_grad()
def evaluate(model: Any, part: Tensor) -> float:
    """Mean cross-entropy, in nats a character, over all whole sequences of a part."""
    whole = pieces(part, model.network.length)
    total = sum(sequence_loss(model, some, "sum").item() for some in whole.split(_SEQUENCES))
    return total / whole[:, 1:].numel()


def sequence_loss(model: Any, sequences: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy of each next token."""
    written = model(sequences[:, :-1]).flatten(0, 1)
    return nn.functional.cross_entropy(written, sequences[:, 1:].flatten(), reduction=reduction)


def spread_ranks(shares: tuple[int, ...], n_features: int) -> tuple[int, ...]:
    """Features a level in given proportions, rounded down but never to none; what is left goes to
    the largest remainders, coarse levels first.

    Raises:
        ValueError: If a head has too few features.
    """
    exact = [share * n_features / sum(shares) for share in shares]
    ranks = [max(int(each), 1) for each in exact]
    left = n_features - sum(ranks)
    if left < 0:
        raise ValueError(
            f"{len(shares)} levels of shares {shares} need heads of more than {n_features} features"
        )
    for level in sorted(range(len(shares)), key=lambda level: ranks[level] - exact[level])[:left]:
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
    levels = {"ranks": spread_ranks(SHARES[variant], head)} if variant in SHARES else {}
    turned = {"rotary": variant == "mlr_rotary", "shifted": variant == "mlr_shifted"}
    sizes = (width, width // head, cell["layers"], cell["length"])
    return shared.Network(
        "mlr" if levels else variant, *sizes, **levels, **turned, base_features=head
    )


def make_model(network: shared.Network, n_symbols: int, generator: torch.Generator) -> Any:
    """Characters in, scores of the next character out."""
    table = shared.EMBEDDING_STD * torch.randn(n_symbols, network.width, generator=generator)
    read_in = nn.Embedding.from_pretrained(table, freeze=False)
    return shared.CausalTransformer(network, read_in, n_symbols, generator=generator)


def choose_rate(cell: Record, options: Any, corpus: Corpus, files: dict[str, Records]) -> float:
    """The rate with the least validation loss at the smallest width with seed 0, recorded with what
    it was among.

    Raises:
        ValueError: If no rate gave a finite loss.
    """
    fixed = {**cell, "width": min(options.width), "seed": 0}
    rates = sorted(set(options.rate))
    for wanted in files["run"].missing([{**fixed, "rate": rate} for rate in rates]):
        files["run"].add(run(wanted, corpus))
    found = [
        row
        for row in files["run"].rows()
        if all(row.get(name) == value for name, value in fixed.items())
    ]
    losses = {row["rate"]: row["validation"] for row in found if row["rate"] in rates}
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not finite:
        raise ValueError(
            f"{cell['variant']} learnt with none of the rates {rates}; try lower ones with --rate"
        )
    best = min(finite, key=lambda rate: finite[rate])
    for wanted in files["rate"].missing([{**fixed, "kind": "rate", "rates": rates}]):
        files["rate"].add({**wanted, "chosen": best, "losses": [losses[rate] for rate in rates]})
    return best


def run(cell: Record, corpus: Corpus) -> Record:
    """Train and score one network; the row to record, with ``None`` for losses that are
    no numbers.
    """
    network = network_of(cell)
    model = make_model(network, corpus.n_symbols, torch.Generator().manual_seed(cell["seed"]))
    losses = (
        partial(sequence_loss, model, piece) for piece in batches(corpus.train, cell, cell["seed"])
    )
    seconds = shared.train(model, losses, learning_rate=cell["rate"])
    found = {name: evaluate(model, getattr(corpus, name)) for name in ("validation", "test")}
    scores = {name: loss if math.isfinite(loss) else None for name, loss in found.items()}
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


def batches(part: Tensor, cell: Record, seed: int) -> Iterator[Tensor]:
    """Sequences of a step, one character longer than what is read; the same ones for all variants
    of a seed.
    """
    generator = torch.Generator().manual_seed(seed)
    inside = torch.arange(cell["length"] + 1)
    for _ in range(cell["steps"]):
        starts = torch.randint(len(part) - cell["length"], (cell["batch"], 1), generator=generator)
        yield part[starts + inside]


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not recorded yet."""
    more = {"paper": PAPER, "choices": {"variant": VARIANTS}}
    options = records.parse(argv, __doc__, {**DEFAULTS, "out": records.RESULTS / FILE}, **more)
    corpus = make_corpus(*read_text(Path(options.text) if options.text else None))
    files = {kind: Records(options.out, key) for kind, key in KEYS.items()}
    sizes = {size: getattr(options, size) for size in SIZES} | {"text_sha256": corpus.sha256}
    with limit_threads(1):
        cells = [{"kind": "run", "variant": variant, **sizes} for variant in options.variant]
        chosen = [{**cell, "rate": choose_rate(cell, options, corpus, files)} for cell in cells]
        grid = [
            {**c, "width": w, "seed": s}
            for s in options.seed
            for w in options.width
            for c in chosen
        ]
        for cell in files["run"].missing(grid):
            files["run"].add(run(cell, corpus))


if __name__ == "__main__":
    main()
