"""Does structure over positions help a character-level language model, at the same compute?

After Kuang et al. 2025 (arXiv 2509.07963): causal transformers that differ in nothing but their attention read a text
and predict each next character. Learning rates are chosen by validation loss with seed 0 at the smallest width, from
one grid for all, and serve the other widths by the maximal-update rule. Runs are appended to
results/language_model.jsonl; what is there is not run again. docs/language_model.md shows the records.
Run: python benchmarks/language_model.py --text FILE [--width 64 ...] [--variant mlr_paper ...] [--generate 200]
Without --text the English pages of Python's own help are read. --paper takes those of the paper: days of a processor.
"""

import argparse
import hashlib
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from tsattn.limits import limit_threads


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # data classes look their module up
    spec.loader.exec_module(module)
    return module


experiment = sys.modules.get("experiment") or _neighbour("experiment")

FILE = "language_model.jsonl"
# Sizes of a run; where the paper trains, and what two cores can do.
SIZES = ("length", "layers", "steps", "batch", "head")
DEFAULTS = {"length": 256, "layers": 2, "steps": 1500, "batch": 8, "head": 32, "width": [32, 64, 128]}
PAPER = {"length": 1024, "layers": 6, "steps": 100_000, "batch": 32, "head": 64, "width": [256, 384, 512, 768]}
RATES = (1e-3, 3e-3, 1e-2)
SEEDS = (0, 1, 2)
# Features a level, coarse to fine, of heads of 64; other heads share theirs in the same proportions.
SHARES = {"mlr_paper": (32, 8, 6, 4, 4, 4, 4, 2), "mlr_equal": (8,) * 8, "mlr_two": (32, 32)}
SHARES["mlr_shifted"] = SHARES["mlr_paper"]
# Pairs of features are turned, so ranks have to be even: five levels, also in narrow heads.
SHARES["mlr_rotary"] = (32, 8, 8, 8, 8)
VARIANTS = ("standard", "standard_rotary", "sliding_window", "global_local", "global_local_one", *SHARES)
_KEYS = {
    "run": ("kind", "variant", "width", *SIZES, "rate", "seed", "text_sha256"),
    "rate": ("kind", "variant", "width", *SIZES, "rates", "text_sha256"),
    "cache": ("kind", "variant", "width", "layers", "length", "head"),
}
_POINTS = 10  # of a curve
_SEQUENCES = 32  # evaluated at once
_PROMPT = 32  # characters of the validation part that a generated text begins with


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not recorded yet; 0 when all is done."""
    options = _options(argv)
    text, name = read_text(options.text)
    corpus = make_corpus(text, name)
    sizes = {size: getattr(options, size) for size in SIZES}
    print(f"{name}: {len(text)} characters, vocabulary {corpus.n_symbols}; {sizes}", flush=True)
    records = {kind: experiment.Records(options.out, key) for kind, key in _KEYS.items()}
    with limit_threads(1):
        for cell in records["cache"].missing(cache_cells()):
            records["cache"].add({**cell, **cache_bytes(cell)})
        cells = [{"kind": "run", "variant": v, **sizes, "text_sha256": corpus.sha256} for v in options.variant]
        chosen = [{**cell, "rate": choose_rate(cell, options, corpus, records)} for cell in cells]
        grid = [{**c, "width": w, "seed": s} for s in options.seed for w in options.width for c in chosen]
        for cell in records["run"].missing(grid):
            records["run"].add(run(cell, corpus, options.generate))
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file; default the help pages of Python")
    parser.add_argument("--paper", action="store_true", help="sizes of the paper where none are given")
    for size in SIZES:
        parser.add_argument(f"--{size}", type=int, help=f"default {DEFAULTS[size]}, of the paper {PAPER[size]}")
    parser.add_argument("--width", type=int, action="append", help="multiples of --head; repeatable")
    parser.add_argument("--rate", type=float, action="append", help=f"to choose from; repeatable; default {RATES}")
    parser.add_argument("--seed", type=int, action="append", help=f"repeatable; default {SEEDS}")
    parser.add_argument("--variant", choices=VARIANTS, action="append", help="repeatable; default all")
    parser.add_argument("--generate", type=int, default=0, help="characters to print after each run made now")
    parser.add_argument("--out", type=Path, default=experiment.RESULTS / FILE, help="the records")
    options = parser.parse_args(argv)
    fallbacks = PAPER if options.paper else DEFAULTS
    for name, value in {**fallbacks, "rate": RATES, "seed": SEEDS, "variant": VARIANTS}.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.generate and options.generate > options.length - _PROMPT:
        parser.error(f"--generate must leave {_PROMPT} of --length {options.length} for the prompt; ask for fewer")
    return options


# --- the text ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corpus:
    """A text as numbers, cut in order: nine tenths to learn from, half of the rest to choose by, half to report."""

    name: str
    sha256: str
    symbols: str
    train: Tensor
    validation: Tensor
    test: Tensor

    @property
    def n_symbols(self) -> int:
        """Characters of the training part, and one for any other."""
        return len(self.symbols) + 1

    def decode(self, tokens: Tensor) -> str:
        """The text of some tokens."""
        return "".join((self.symbols + "\N{REPLACEMENT CHARACTER}")[token] for token in tokens.tolist())


def read_text(path: Path | None) -> tuple[str, str]:
    """A text and its name.

    Args:
        path: A file; ``None`` takes the help pages of the running Python.
    """
    if path is not None:
        return path.read_text(encoding="utf-8"), path.name
    from pydoc_data.topics import topics

    return "\n".join(topics.values()), "pydoc_data.topics"


def make_corpus(text: str, name: str) -> Corpus:
    """Cut a text into its parts; the vocabulary is what the training part holds."""
    cuts = [0, len(text) * 9 // 10, len(text) * 19 // 20, len(text)]
    parts = [text[start:stop] for start, stop in pairwise(cuts)]
    symbols = "".join(sorted(set(parts[0])))
    numbers = {symbol: number for number, symbol in enumerate(symbols)}
    coded = [torch.tensor([numbers.get(symbol, len(symbols)) for symbol in part]) for part in parts]
    return Corpus(name, hashlib.sha256(text.encode()).hexdigest(), symbols, *coded)


def pieces(part: Tensor, length: int) -> Tensor:
    """All whole sequences of a part, one after another, each with the token that follows its last.

    Raises:
        ValueError: If there is none.
    """
    count = (len(part) - 1) // length
    if count < 1:
        raise ValueError(f"a part of {len(part)} characters has no sequence of {length}; take a longer text")
    return torch.stack([part[i * length : (i + 1) * length + 1] for i in range(count)])


@torch.no_grad()
def evaluate(model: Any, part: Tensor) -> float:
    """Mean cross-entropy, in nats a character, over all whole sequences of a part."""
    total, whole = 0.0, pieces(part, model.network.length)
    for some in whole.split(_SEQUENCES):
        total += _loss(model, some, "sum").item()
    return total / whole[:, 1:].numel()


def _loss(model: Any, sequences: Tensor, reduction: str = "mean") -> Tensor:
    written = model(sequences[:, :-1]).flatten(0, 1)
    return nn.functional.cross_entropy(written, sequences[:, 1:].flatten(), reduction=reduction)


# --- variants ---------------------------------------------------------------------------------------------------


def spread_ranks(shares: tuple[int, ...], n_features: int) -> tuple[int, ...]:
    """Features a level in given proportions, rounded down but never to none; what is left goes to the largest
    remainders, coarse levels first.

    Raises:
        ValueError: If a head has too few features.

    Example:
        >>> spread_ranks((32, 8, 6, 4, 4, 4, 4, 2), 32)
        (16, 4, 3, 2, 2, 2, 2, 1)
    """
    exact = [share * n_features / sum(shares) for share in shares]
    ranks = [max(int(each), 1) for each in exact]
    left = n_features - sum(ranks)
    if left < 0:
        raise ValueError(f"{len(shares)} levels of shares {shares} need heads of more than {n_features} features")
    for level in sorted(range(len(shares)), key=lambda level: ranks[level] - exact[level])[:left]:
        ranks[level] += 1
    return tuple(ranks)


def network_of(cell: dict[str, Any]) -> Any:
    """The network of a run.

    Raises:
        ValueError: If heads do not fill the width.
    """
    variant, width, head = cell["variant"], cell["width"], cell["head"]
    if width % head:
        raise ValueError(f"width must be a multiple of the heads' {head} features; got {width}; change one of them")
    return experiment.Network(
        "mlr" if variant in SHARES else variant,
        width,
        width // head,
        cell["layers"],
        cell["length"],
        ranks=spread_ranks(SHARES[variant], head) if variant in SHARES else None,
        rotary=variant == "mlr_rotary",
        shifted=variant == "mlr_shifted",
        base_features=head,
    )


def make_model(network: Any, n_symbols: int, generator: torch.Generator) -> Any:
    """Characters in, scores of the next character out."""
    table = experiment.EMBEDDING_STD * torch.randn(n_symbols, network.width, generator=generator)
    read_in = nn.Embedding.from_pretrained(table, freeze=False)
    return experiment.CausalTransformer(network, read_in, n_symbols, generator=generator)


# --- runs -------------------------------------------------------------------------------------------------------


def choose_rate(cell: dict[str, Any], options: argparse.Namespace, corpus: Corpus, records: dict[str, Any]) -> float:
    """The rate with the least validation loss at the smallest width with seed 0, recorded with what it was among.

    Raises:
        ValueError: If no rate gave a finite loss.
    """
    fixed = {**cell, "width": min(options.width), "seed": 0}
    rates = sorted(set(options.rate))
    asked = {**fixed, "kind": "rate", "rates": rates}
    for wanted in records["run"].missing([{**fixed, "rate": rate} for rate in rates]):
        records["run"].add(run(wanted, corpus, options.generate))
    found = [row for row in records["run"].rows() if all(row.get(name) == value for name, value in fixed.items())]
    losses = {row["rate"]: row["validation"] for row in found if row["rate"] in rates}
    finite = {rate: loss for rate, loss in losses.items() if loss is not None}
    if not finite:
        raise ValueError(f"{cell['variant']} learnt with none of the rates {rates}; try lower ones with --rate")
    best = min(finite, key=lambda rate: finite[rate])
    for wanted in records["rate"].missing([asked]):
        records["rate"].add({**wanted, "chosen": best, "losses": [losses[rate] for rate in rates]})
    return best


def run(cell: dict[str, Any], corpus: Corpus, n_generated: int = 0) -> dict[str, Any]:
    """Train and score one network; the row to record."""
    network = network_of(cell)
    model = make_model(network, corpus.n_symbols, torch.Generator().manual_seed(cell["seed"]))
    curve: list[list[float | None]] = []
    recent: list[float] = []
    every = max(cell["steps"] // _POINTS, 1)

    def after(step: int) -> None:
        if step % every == 0:
            curve.append([step, _finite(fmean(recent)), _finite(evaluate(model, corpus.validation))])
            recent.clear()

    losses = _batches(model, corpus.train, cell, recent)
    seconds = experiment.train(model, losses, learning_rate=cell["rate"], after=after)
    row = {
        **cell,
        "ranks": network.ranks,
        "validation": _finite(evaluate(model, corpus.validation)),
        "test": _finite(evaluate(model, corpus.test)),
        "curve": curve,
        "parameters": experiment.n_parameters(model),
        "multiply_adds": experiment.multiply_adds(model),
        "seconds": seconds,
        "vocabulary": corpus.n_symbols,
        "text": corpus.name,
        "characters": [len(part) for part in (corpus.train, corpus.validation, corpus.test)],
    }
    told = ", ".join(f"{name} {row[name]}" for name in ("variant", "width", "rate", "seed", "validation", "test"))
    print(f"{told}, {seconds:.0f} s", flush=True)
    if n_generated:
        _show(model, corpus, n_generated, cell["seed"])
    return row


def _batches(model: Any, part: Tensor, cell: dict[str, Any], seen: list[float]) -> Iterator[Callable[[], Tensor]]:
    # A source of its own: with one seed all variants read the same sequences.
    generator = torch.Generator().manual_seed(cell["seed"])
    inside = torch.arange(cell["length"] + 1)
    for _ in range(cell["steps"]):
        starts = torch.randint(len(part) - cell["length"], (cell["batch"], 1), generator=generator)

        def loss(sequences: Tensor = part[starts + inside]) -> Tensor:
            value = _loss(model, sequences)
            seen.append(value.item())
            return value

        yield loss


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


# --- generation and its cache -----------------------------------------------------------------------------------


@torch.no_grad()
def generate(
    model: Any,
    prompt: Tensor,
    n: int,
    generator: torch.Generator | None = None,
    *,
    cached: bool = True,
) -> Tensor:
    """Tokens drawn one after another, each given all before it.

    Args:
        model: A model of :func:`make_model`.
        prompt: What comes first, ``[B L]``, at least one token.
        n: Tokens to draw.
        generator: Source of the draws; ``None`` takes the likeliest token.
        cached: Keep keys and values of each layer; otherwise pass over the whole text for each token. Both give the
            same tokens.

    Returns:
        The prompt and the new tokens, ``[B L + n]``.

    Raises:
        ValueError: If there is no prompt, or the text would be longer than the model's positions.
    """
    length = prompt.shape[1] + n
    if prompt.shape[1] < 1 or n < 0:
        raise ValueError(f"a text needs a first token and a number to draw; got {prompt.shape[1]} tokens and n = {n}")
    if length > model.network.length:
        raise ValueError(
            f"the text must fit the model's length of {model.network.length}; got {prompt.shape[1]} + {n} tokens;"
            " shorten the prompt, or draw fewer"
        )
    caches = model.stack.make_caches(len(prompt), length, dtype=model.positions.dtype) if cached else None
    text, new = prompt, prompt
    for _ in range(n):
        written = model(text) if caches is None else model.step(new, caches)
        new = _draw(written[:, -1], generator)
        text = torch.cat([text, new], dim=1)
    return text


def _draw(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    logits = logits.double()
    if generator is not None:
        # The largest of logits less logarithms of exponential draws is a draw from their softmax; unlike a search in
        # sums of probabilities it hardly ever turns on a last digit.
        logits = logits - torch.empty_like(logits).exponential_(generator=generator).log()
    return logits.argmax(dim=1, keepdim=True)


def _show(model: Any, corpus: Corpus, n: int, seed: int) -> None:
    texts, seconds = [], []
    for cached in (True, False):
        started = time.perf_counter()
        prompt = corpus.validation[None, :_PROMPT]
        texts.append(generate(model, prompt, n, torch.Generator().manual_seed(seed), cached=cached))
        seconds.append(time.perf_counter() - started)
    print(f"{corpus.decode(texts[0][0])}\n[{seconds[0]:.2f} s with the cache, {seconds[1]:.2f} s by whole passes,"
          f" {'the same' if torch.equal(*texts) else 'another'} text]", flush=True)  # fmt: skip


def cache_cells() -> list[dict[str, Any]]:
    """Every variant at the smallest of the paper's sizes."""
    sizes = {"width": min(PAPER["width"]), **{name: PAPER[name] for name in ("layers", "length", "head")}}
    return [{"kind": "cache", "variant": variant, **sizes} for variant in VARIANTS]


def cache_bytes(cell: dict[str, Any]) -> dict[str, Any]:
    """Bytes of keys and of values that one full sequence needs, as allocated, and those of standard attention."""
    found: dict[str, Any] = {"ranks": network_of(cell).ranks}
    for name, variant in (("", cell["variant"]), ("full_", "standard")):
        network, generator = network_of({**cell, "variant": variant}), torch.Generator().manual_seed(0)
        layers = [experiment.make_attention(network, i, generator=generator) for i in range(network.n_layers)]
        caches = [layer.make_cache(1, network.length) for layer in layers]
        # A layer of two softmaxes has a cache for each half.
        halves = [half for cache in caches for half in ([cache.far, cache.near] if hasattr(cache, "far") else [cache])]
        found[f"{name}key_bytes"] = sum(half.key_bytes for half in halves)
        found[f"{name}value_bytes"] = sum(half.value_bytes for half in halves)
    return found


if __name__ == "__main__":
    sys.exit(main())
