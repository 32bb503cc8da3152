"""How much time and memory does attention take beside torch's own, once its numbers have been found right?

Every variant and way is first compared with the reference and with formulas in float64, outputs and gradients; what
differs is named and never timed. Then it runs in turns with torch's scaled_dot_product_attention, one process, and
the ratios of the turns are recorded. Records that stand in the file are not measured again.
Run: python benchmarks/speed.py [--case 224x8x42x64 ...] [--variant mlr4 ...] [--quick] [--plot]
"""

import argparse
import functools
import gc
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from tsattn.benchmark import provenance
from tsattn.kernels import attention, available_backends
from tsattn.storage import write_atomic

RESULTS = Path(__file__).resolve().parent / "results"
# What tells one measurement from another; commit and date do not.
KEY = ("kind", "case", "variant", "levels", "way", "causal", "mode", "threads")
# Of float32 against the reference and against float64 (relative, absolute), as in the tests.
TOLERANCE = (1e-4, 1e-5)
GATE_LENGTH = 2048  # longest sequence for which the reference may fill a matrix of scores
GRADIENT_LENGTH = 4096  # longest for which gradients are checked at the full size
FORCED_LENGTH = 1024  # longest for which every way is timed, not only the one that is chosen
REFERENCE_LENGTH = 512  # longest for which the reference is
CAUSAL_LENGTH = 1024  # shortest with a causal row
MEMORY_LENGTH = 4096  # shortest with a memory row
BILINEAR_LENGTH = 1024  # longest for bilinear scores, whose keys are wider than their values
ROWS = 16  # queries checked one by one at the full length


class Case(NamedTuple):
    """Sizes of the standard attention that is the baseline: as many features for keys as for values."""

    batch: int
    heads: int
    length: int
    features: int

    @property
    def name(self) -> str:
        return "x".join(map(str, self))


_SHORT = (Case(896, 4, 42, 4), Case(896, 16, 42, 8), Case(224, 8, 42, 64))
_MIDDLE = tuple(Case(2048 // length, 8, length, 64) for length in (128, 256, 512, 1024, 2048))
_LONG = tuple(Case(1, 8, length, 64) for length in (4096, 8192, 16384))
CASES = {case.name: case for case in (*_SHORT, *_MIDDLE, *_LONG)}
QUICK = ("896x4x42x4", "224x8x42x64", "2x8x1024x64")
# Variants that need 64 features have their ranks here.
RANKS = {"mlr4": (32, 16, 8, 8), "mlr8": (32, 8, 6, 4, 4, 4, 4, 2)}
BILINEAR = ("bilinear_mlr", "bilinear_btt")
PLAIN = (*BILINEAR, "global_local")  # made of other variants' kernels: neither causal rows nor forced ways
VARIANTS = ("standard", "sliding_window", "global_local", "mlr3", "mlr4", "mlr8", *BILINEAR)


class Part(NamedTuple):
    """One softmax over a slice of the features; a variant is the sum of its parts."""

    width: int
    ranks: tuple[int, ...] | None = None
    window: int | None = None
    block_sizes: tuple[int, ...] | None = None


class Candidate(NamedTuple):
    """What is compared with the baseline of a case."""

    variant: str
    way: str
    causal: bool


class WrongNumbersError(Exception):
    """Outputs or gradients differ from what they should be."""


def parts_of(variant: str, case: Case) -> tuple[Part, ...]:
    """The softmaxes of a variant at the sizes of a case; windows are an eighth of the sequence."""
    features, model_width = case.features, case.heads * case.features
    window = max(1, case.length // 8)
    half, quarter = features // 2, features // 4
    if variant == "sliding_window":
        return (Part(features, window=window),)
    if variant == "global_local":
        return Part(half), Part(features - half, window=window)
    if variant == "mlr3":
        return (Part(features, ranks=(half, quarter, features - half - quarter)),)
    if variant in RANKS:
        return (Part(features, ranks=RANKS[variant]),)
    # A bilinear form x M x' reaches the kernel as a dot product of more features: for MLR over the model's width the
    # sum of r_l p_l (here of half, a quarter and a quarter of K with 1, 2 and 4 blocks), for BTT x itself against M x'.
    widths = {"standard": features, "bilinear_mlr": half + 2 * quarter + 4 * quarter, "bilinear_btt": model_width}
    return (Part(widths[variant]),)


def levels_of(variant: str, case: Case) -> list[int] | None:
    """Ranks as a record has them."""
    ranks = parts_of(variant, case)[0].ranks
    return None if ranks is None else list(ranks)


def compute(parts: Sequence[Part], q: Tensor, k: Tensor, v: Tensor, *, way: str, causal: bool) -> Tensor:
    """A variant by the library's door."""
    widths = [part.width for part in parts]
    sides = [(q, k)] if len(parts) == 1 else list(zip(q.split(widths, 3), k.split(widths, 3), strict=True))
    results = []
    for part, (q_part, k_part) in zip(parts, sides, strict=True):
        settings = {"ranks": part.ranks, "block_sizes": part.block_sizes, "window": part.window}
        results.append(attention(q_part, k_part, v, causal=causal, backend=way, **settings))
    return sum(results[1:], start=results[0])


def make_inputs(case: Case, width: int, seed: int = 0) -> list[Tensor]:
    """Queries, keys, values and the gradient of the result, standard normal."""
    generator = torch.Generator().manual_seed(seed)
    shape = (case.batch, case.heads, case.length)
    sizes = (width, width, case.features, case.features)
    q, k, v, grad = (torch.randn(*shape, size, generator=generator) for size in sizes)
    return [q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), grad]


# --- the gate ---------------------------------------------------------------------------------------------------


def check(case: Case, candidate: Candidate) -> float:
    """Compare with the reference where its matrix of scores is small enough, and with formulas at the full sizes.

    Returns:
        The largest error, as a share of the largest number of its tensor where that is above 1.

    Raises:
        WrongNumbersError: If an output or gradient is off by more than the tolerance.
        ValueError: If the way does not serve the variant.
    """
    errors = []
    for small, parts in _small_versions(case, candidate.variant):
        inputs = make_inputs(small, sum(part.width for part in parts), seed=1)
        found = _results(parts, inputs, way=candidate.way, causal=candidate.causal)
        wanted = _results(parts, inputs, way="reference", causal=candidate.causal)
        errors += _compare(found, wanted, f"the reference at {small.name}")
    return max([*errors, *_check_rows(case, candidate)])


def _small_versions(case: Case, variant: str) -> Iterator[tuple[Case, tuple[Part, ...]]]:
    """One sequence of two heads. One too long is cut twice: with the blocks cut in proportion, and at their sizes."""
    length = min(case.length, GATE_LENGTH)
    small = Case(1, min(2, case.heads), length, case.features)
    width = sum(part.width for part in parts_of(variant, case))
    scaled = parts_of(variant, small)
    if sum(part.width for part in scaled) != width:  # bilinear features come from all heads of the case
        scaled = parts_of(variant, case)
    yield small, scaled
    if length < case.length:
        cut = [part._replace(block_sizes=_cut(part, case.length, length)) for part in parts_of(variant, case)]
        yield small._replace(heads=1), tuple(cut)


def _cut(part: Part, length: int, shorter: int) -> tuple[int, ...] | None:
    return None if part.ranks is None else tuple(min(b, shorter) for b in _blocks(part, length))


def _results(parts: Sequence[Part], inputs: Sequence[Tensor], *, way: str, causal: bool) -> list[Tensor]:
    *tensors, grad = inputs
    out = compute(parts, *tensors, way=way, causal=causal)
    return [out.detach(), *torch.autograd.grad(out, tensors, grad)]


def _compare(found: Iterable[Tensor], wanted: Iterable[Tensor], truth: str) -> list[float]:
    """Errors of output and gradients; the absolute tolerance of a gradient grows with its largest number."""
    relative, absolute = TOLERANCE
    names = ("the output", "the gradient of q", "the gradient of k", "the gradient of v")
    errors = []
    for name, ours, theirs in zip(names, found, wanted, strict=False):
        size = theirs.abs()
        largest = max(1.0, size.max().item())
        gap = (ours.to(theirs.dtype) - theirs).abs()
        slack = absolute * (1.0 if name == "the output" else largest)
        if not bool((gap <= relative * size + slack).all()):  # no number passes for NaN
            raise WrongNumbersError(f"{name} is off by {gap.max().item():.1e} from {truth}")
        errors.append(gap.max().item() / largest)
    return errors


def _check_rows(case: Case, candidate: Candidate) -> list[float]:
    """A few queries of one head at the full sizes; gradients too, of a loss that reads only these queries.

    Beyond GRADIENT_LENGTH a backward pass takes longer than all else, and gradients are checked at smaller sizes only.
    """
    parts = parts_of(candidate.variant, case)
    *tensors, grad = make_inputs(case, sum(part.width for part in parts), seed=2)
    generator = np.random.default_rng(case.length)
    b, h = generator.integers(case.batch), generator.integers(case.heads)
    rows = torch.from_numpy(np.sort(generator.choice(case.length, size=min(ROWS, case.length), replace=False)))
    q, k, v = (x[b, h].detach().double() for x in tensors)
    wanted = row_truth(parts, q, k, v, rows=rows, grad=grad[b, h, rows].double(), causal=candidate.causal)
    truth = f"float64 at {case.name}"
    if case.length > GRADIENT_LENGTH:
        with torch.no_grad():
            out = compute(parts, *tensors, way=candidate.way, causal=candidate.causal)
        return _compare([out[b, h, rows]], wanted, truth)
    sparse = torch.zeros_like(grad)
    sparse[b, h, rows] = grad[b, h, rows]
    out, *grads = _results(parts, [*tensors, sparse], way=candidate.way, causal=candidate.causal)
    return _compare([out[b, h, rows], *(x[b, h] for x in grads)], wanted, truth)


def row_truth(
    parts: Sequence[Part], q: Tensor, k: Tensor, v: Tensor, *, rows: Tensor, grad: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs of some queries of one head, and the gradients when only they count, from docs/mathematics.md.

    Args:
        parts: The softmaxes to be summed.
        q: Queries of the head, [L, width].
        k: Keys, [L, width].
        v: Values, [L, V].
        rows: Positions of the queries.
        grad: Gradient of their outputs, [rows, V].
        causal: See no later position.
    """
    i, j = rows[:, None], torch.arange(len(k))[None, :]
    out = torch.zeros_like(grad)
    dq, dk, dv = (torch.zeros_like(x) for x in (q, k, v))
    start = 0
    for part in parts:
        seen = (j <= i) if causal else torch.ones(len(rows), len(k), dtype=torch.bool)
        if part.window is not None:
            seen = seen & ((i - j).abs() < part.window)
        slices, masks = [], []
        for rank, block in zip(part.ranks or (part.width,), _blocks(part, len(k)), strict=True):
            slices.append(slice(start, start + rank))
            masks.append((i // block == j // block).to(q.dtype) * part.width**-0.5)
            start += rank
        scores = sum(mask * (q[rows, s] @ k[:, s].T) for s, mask in zip(slices, masks, strict=True))
        weights = torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=1)
        out += weights @ v
        along = grad @ v.T
        dscores = weights * (along - (weights * along).sum(1, keepdim=True))
        dv += weights.T @ grad
        for s, mask in zip(slices, masks, strict=True):
            dq[rows, s] += (dscores * mask) @ k[:, s]
            dk[:, s] += (dscores * mask).T @ q[rows, s]
    return out, dq, dk, dv


def _blocks(part: Part, length: int) -> tuple[int, ...]:
    """Tokens per block and level: those given, or halving ones, the finest rounded up."""
    n_levels = len(part.ranks or (part.width,))
    finest = -(-length // 2 ** (n_levels - 1))
    return part.block_sizes or tuple(finest * 2**level for level in reversed(range(n_levels)))


# --- time -------------------------------------------------------------------------------------------------------


class Marks(NamedTuple):
    """Seconds of a forward pass and of the whole training step, by the clock and of the processor."""

    forward: float
    step: float
    cpu_forward: float
    cpu_step: float


def one_step(call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> Marks:
    """Time one training step and the forward pass in it."""
    *tensors, grad = inputs
    for tensor in tensors:
        tensor.grad = None
    wall, cpu = [time.perf_counter()], [time.process_time()]
    out = call(*tensors)
    wall.append(time.perf_counter())
    cpu.append(time.process_time())
    out.backward(grad)
    wall.append(time.perf_counter())
    cpu.append(time.process_time())
    return Marks(wall[1] - wall[0], wall[2] - wall[0], cpu[1] - cpu[0], cpu[2] - cpu[0])


def time_rounds(
    case: Case, candidates: Sequence[Candidate], *, repeats: int | None, budget: float
) -> list[list[tuple[Marks, Marks]]]:
    """Baseline, candidate, candidate, ..., baseline, candidate, ...: for each candidate the pairs of its rounds.

    Args:
        case: The sizes.
        candidates: All causal, or none.
        repeats: Rounds; ``None`` fills the budget.
        budget: Seconds after which no further round begins.
    """
    causal = candidates[0].causal
    sides: list[tuple[Callable[..., Tensor], list[Tensor]]] = [
        (lambda q, k, v: sdpa(q, k, v, is_causal=causal), make_inputs(case, case.features))
    ]
    for candidate in candidates:
        parts = parts_of(candidate.variant, case)
        width = sum(part.width for part in parts)
        inputs = sides[0][1] if width == case.features else make_inputs(case, width)
        sides.append((_call(parts, candidate), inputs))
    _warm_up(case, sides)
    chosen = all(candidate.way == "auto" for candidate in candidates)
    least = repeats or (2 if case.length > 8192 else 5 if chosen and case.length < 2048 else 3)
    rounds: list[list[Marks]] = []
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        while len(rounds) < least or (repeats is None and time.perf_counter() - started < budget and len(rounds) < 50):
            rounds.append([one_step(call, inputs) for call, inputs in sides])
    finally:
        gc.enable()
    return [[(row[0], row[number]) for row in rounds] for number in range(1, len(sides))]


def _call(parts: Sequence[Part], candidate: Candidate) -> Callable[..., Tensor]:
    return lambda q, k, v: compute(parts, q, k, v, way=candidate.way, causal=candidate.causal)


def _warm_up(case: Case, sides: Sequence[tuple[Callable[..., Tensor], list[Tensor]]]) -> None:
    """One step; where it takes seconds, the gate has run the candidates, and the baseline gets a forward pass."""
    if case.length < 4096:
        for call, inputs in sides:
            one_step(call, inputs)
        return
    call, (q, k, v, _) = sides[0]
    with torch.no_grad():
        call(q, k, v)


def time_records(case: Case, candidate: Candidate, pairs: Sequence[tuple[Marks, Marks]]) -> Iterator[dict[str, Any]]:
    """What is said of a candidate: medians, and the middle three fifths of the rounds."""
    for mode in ("forward", "step"):
        walls = [(getattr(base, mode), getattr(ours, mode)) for base, ours in pairs]
        ratios = [ours / base for base, ours in walls]
        low, high = np.percentile(ratios, (20, 80))
        cpu = [getattr(ours, f"cpu_{mode}") / getattr(base, f"cpu_{mode}") for base, ours in pairs]
        yield {
            **_identity("time", case, candidate, mode),
            "ratio": round(median(ratios), 4),
            "ratio_low": round(float(low), 4),
            "ratio_high": round(float(high), 4),
            "cpu_ratio": round(median(cpu), 4),
            "ms": round(1e3 * median(ours for _, ours in walls), 3),
            "baseline_ms": round(1e3 * median(base for base, _ in walls), 3),
            "rounds": len(pairs),
        }


def _identity(kind: str, case: Case, candidate: Candidate, mode: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "case": case.name,
        "shape": list(case),
        "variant": candidate.variant,
        "levels": levels_of(candidate.variant, case),
        "way": candidate.way,
        "causal": candidate.causal,
        "mode": mode,
        "threads": torch.get_num_threads(),
    }


# --- memory -----------------------------------------------------------------------------------------------------


def measure_memory(variant: str, case: Case) -> float:
    """By how many MB one training step raises the peak of this process's resident memory.

    Inputs and the gradient of the result stand before the first reading; a short step before it loads the code.
    Linux forgets its peak at that point; elsewhere the peak of the process so far is what counts as the beginning.
    """
    candidate = Candidate(variant, "auto", False)
    for size in (Case(1, 1, 1024, case.features), case):
        parts = parts_of("standard" if variant == "sdpa" else variant, size)
        call = sdpa if variant == "sdpa" else _call(parts, candidate)
        inputs = make_inputs(size, sum(part.width for part in parts))
        gc.collect()
        _forget_peak()
        before = _peak_kb()
        one_step(call, inputs)
        after = _peak_kb()
    return (after - before) / 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_kb() -> float:
    """Peak of resident memory; not getrusage's on Linux, where a child begins with the peak of its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1])
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak


def memory_in_child(variant: str, case: Case) -> float:
    """The same in a fresh process."""
    arguments = ["--measure-memory", variant, "--case", case.name, "--threads", str(torch.get_num_threads())]
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"measuring the memory of {variant} at {case.name} failed: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout)["increase_mb"])


# --- records ----------------------------------------------------------------------------------------------------


def read_records(path: Path) -> list[dict[str, Any]]:
    """All records of a file, none when there is no file.

    Raises:
        ValueError: If a line is no record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict) or any(name not in record for name in KEY):
            raise ValueError(f"{path.name}, line {number} is no whole record; remove the line and run again")
        records.append(record)
    return records


def key_of(record: dict[str, Any]) -> str:
    """What a record is known by."""
    return json.dumps([record[name] for name in KEY])


def add_records(path: Path, new: Sequence[dict[str, Any]]) -> None:
    """Put records into the file in one step, in the place of older ones of the same key."""
    keys = {key_of(record) for record in new}
    kept = [record for record in read_records(path) if key_of(record) not in keys]
    text = "".join(json.dumps(record) + "\n" for record in (*kept, *new))
    write_atomic(path, lambda aside: aside.write_text(text, encoding="utf-8") and None)


# --- the run ----------------------------------------------------------------------------------------------------


def candidates_of(case: Case, variants: Sequence[str], *, quick: bool = False) -> list[Candidate]:
    """What is measured at a case, in the order of the variants."""
    found = []
    for variant in variants:
        if not _is_measured(variant, case):
            continue
        found.append(Candidate(variant, "auto", False))
        if CAUSAL_LENGTH <= case.length <= 8192 and variant not in PLAIN and not quick:
            found.append(Candidate(variant, "auto", True))
        if case.length <= FORCED_LENGTH and variant not in PLAIN and not quick:
            found += [Candidate(variant, way, False) for way in _forced(variant, case)]
    return found


def _is_measured(variant: str, case: Case) -> bool:
    if variant in RANKS:
        return case.features == 64
    if variant in BILINEAR:
        return case.length <= BILINEAR_LENGTH
    # From here on a turn takes long: what is asked for is bands, and windows if they are not L x L.
    return case.length < 8192 or (case.length == 8192 and variant == "sliding_window" and _has_windows())


def _has_windows() -> bool:
    return "windowed" in available_backends()


def _forced(variant: str, case: Case) -> list[str]:
    """Single ways that can be asked for; the gate finds out which of them serve."""
    leave = {"auto", "dense"}  # dense is the better of two that are here
    if not variant.startswith("mlr"):
        leave |= {"expanded", "masked", "bands"}
    if variant != "sliding_window":
        leave |= {"windowed"}
    if case.length > REFERENCE_LENGTH:
        leave |= {"reference"}
    return [way for way in available_backends() if way not in leave]


def run_case(case: Case, options: argparse.Namespace) -> int:
    """Gate, time and record what is not on file; the number of candidates that failed the gate."""
    on_file = set() if options.again or options.out is None else {key_of(r) for r in read_records(options.out)}

    def missing(kind: str, candidate: Candidate) -> bool:
        modes = ("forward", "step") if kind == "time" else ("step",)
        return any(key_of(_identity(kind, case, candidate, mode)) not in on_file for mode in modes)

    chosen = candidates_of(case, options.variant or VARIANTS, quick=options.quick)
    to_time = [candidate for candidate in chosen if missing("time", candidate)]
    weighable = [c for c in chosen if c.variant in RANKS and c.way == "auto" and not c.causal]
    to_weigh = [c for c in weighable if case.length >= MEMORY_LENGTH and not options.quick and missing("memory", c)]
    errors, failed = _gate(case, [c for c in chosen if c in to_time or c in to_weigh])
    for group in _groups(case, [c for c in to_time if c in errors]):
        budget = options.budget if group[0].way == "auto" else options.budget / 3
        rounds = time_rounds(case, group, repeats=options.repeats, budget=budget)
        for candidate, pairs in zip(group, rounds, strict=True):
            records = list(time_records(case, candidate, pairs))
            _keep(options.out, records, errors[candidate])
            forward, step = ("{ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(**r) for r in records)
            print(f"{_title(case, candidate)}: forward {forward}, step {step}", flush=True)
    weighed = [c for c in to_weigh if c in errors]
    baseline = memory_in_child("sdpa", case) if weighed else 0.0
    for candidate in weighed:
        increase = memory_in_child(candidate.variant, case)
        sizes = {"increase_mb": round(increase, 1), "baseline_mb": round(baseline, 1)}
        record = {**_identity("memory", case, candidate, "step"), "ratio": round(increase / baseline, 4), **sizes}
        _keep(options.out, [record], errors[candidate])
        print(f"{_title(case, candidate)}: memory of a step {record['ratio']:.2f}", flush=True)
    return failed


def _gate(case: Case, candidates: Sequence[Candidate]) -> tuple[dict[Candidate, float], int]:
    """Errors of the candidates that may be timed, and how many may not because their numbers are wrong."""
    errors: dict[Candidate, float] = {}
    failed = 0
    for candidate in candidates:
        try:
            errors[candidate] = check(case, candidate)
        except WrongNumbersError as error:
            print(f"WRONG {_title(case, candidate)}: {error}; not timed", flush=True)
            failed += 1
        except ValueError as error:
            if candidate.way == "auto":
                raise
            print(f"left out {_title(case, candidate)}: {error}", flush=True)
    return errors, failed


def _groups(case: Case, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """What shares a baseline: nothing where turns are short and count, otherwise three of a kind."""
    for causal in (False, True):
        for chosen in (True, False):
            kind = [c for c in candidates if c.causal == causal and (c.way == "auto") == chosen]
            size = 1 if chosen and case.length < 4096 else 3
            yield from (kind[start : start + size] for start in range(0, len(kind), size))


def _keep(path: Path | None, records: Sequence[dict[str, Any]], error: float) -> None:
    if path is not None:
        where = {**_origin(torch.get_num_threads()), "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        add_records(path, [{**record, "gate_error": float(f"{error:.2g}"), **where} for record in records])


@functools.cache
def _origin(threads: int) -> dict[str, Any]:
    """Asked once: the code that runs is the code of the commit at the beginning."""
    return provenance(None)  # there is no forecaster; the device is the processor


def _title(case: Case, candidate: Candidate) -> str:
    return f"{case.name} {candidate.variant}, {candidate.way}{', causal' if candidate.causal else ''}"


# --- the plot ---------------------------------------------------------------------------------------------------

_COLOURS = ("#000000", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#0072b2", "#999999")


def draw(records: Path, path: Path) -> None:
    """Ratio of a training step against length, heads of 64 features, the way that is chosen; an SVG file.

    The file carries the checksum of the records, so that `report.py` can tell when it is out of date.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [r for r in read_records(records) if r["kind"] == "time" and r["way"] == "auto" and r["mode"] == "step"]
    with mpl.rc_context({"svg.hashsalt": "tsattn", "svg.fonttype": "none"}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, causal in zip(figure.subplots(1, 2, sharey=True), (False, True), strict=True):
            for variant, colour in zip(VARIANTS, _COLOURS, strict=True):
                mine = [r for r in rows if (r["variant"], r["causal"], r["shape"][3]) == (variant, causal, 64)]
                mine.sort(key=lambda r: r["shape"][2])
                lengths = [r["shape"][2] for r in mine]
                axes.plot(lengths, [r["ratio"] for r in mine], "o-", ms=3, lw=1.2, color=colour, label=variant)
                spread = ([r["ratio_low"] for r in mine], [r["ratio_high"] for r in mine])
                axes.fill_between(lengths, *spread, color=colour, alpha=0.15, lw=0)
            axes.axhline(1, color="grey", lw=0.8, ls="--")
            axes.set(xscale="log", yscale="log", xlabel="length", title="causal" if causal else "not causal")
            shown = sorted({r["shape"][2] for r in rows if r["causal"] == causal})
            axes.set_xticks(shown, [str(length) for length in shown], rotation=60, fontsize=7)
            axes.minorticks_off()
            axes.set_yticks([0.25, 0.5, 1, 2, 4, 8], ["0.25", "0.5", "1", "2", "4", "8"])
        figure.axes[0].set_ylabel("training step / torch's attention")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", fontsize=7, frameon=False)
        about = f"records sha256 {hashlib.sha256(records.read_bytes()).hexdigest()}"
        metadata = {"Date": None, "Creator": None, "Description": about}
        write_atomic(path, lambda aside: figure.savefig(aside, format="svg", metadata=metadata))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when all numbers were right, 1 when some were not (they have no times), 2 when a file is damaged."""
    options = _options(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        cases = [CASES[name] for name in options.case or (QUICK if options.quick else CASES)]
        if options.measure_memory:
            print(json.dumps({"increase_mb": measure_memory(options.measure_memory, cases[0])}))
            return 0
        failed = sum(run_case(case, options) for case in cases)
        if options.plot and options.out.exists():
            draw(options.out, options.out.with_suffix(".svg"))
    except ValueError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    finally:
        torch.set_num_threads(threads)
    if failed:
        print(f"speed: {failed} with wrong numbers, for which no time is given", file=sys.stderr)
    return 1 if failed else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", action="append", choices=list(CASES), help="batch x heads x length x features")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--quick", action="store_true", help="three cases, chosen ways; records only with --out")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of both sides")
    parser.add_argument("--repeats", type=int, help="turns; default as many as a time budget allows, 2 to 50")
    parser.add_argument("--again", action="store_true", help="measure what is on file, too")
    parser.add_argument("--out", type=Path, help="records, default results/speed.jsonl beside this file")
    parser.add_argument("--plot", action="store_true", help="draw the records into an SVG file beside them")
    parser.add_argument("--measure-memory", choices=("sdpa", *RANKS), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.threads < 1 or (options.repeats is not None and options.repeats < 1):
        parser.error("--threads and --repeats must be at least 1")
    if options.out is None and not options.quick:
        options.out = RESULTS / "speed.jsonl"
    if options.plot and options.out is None:
        parser.error("--plot needs the records of --out")
    options.budget = 0.3 if options.quick else 1.5
    return options


if __name__ == "__main__":
    sys.exit(main())
