"""Time and memory of attention beside torch's own, measured once its numbers have been found right.

Every variant and way is first compared with the reference and with formulas in float64; what
differs is named and never timed. Then it runs in turns with torch's scaled_dot_product_attention,
and the ratios of the turns are recorded, once. Run: PYTHONPATH=benchmarks python
benchmarks/speed/run.py [--case 224x8x42x64 ...] [--variant mlr4 ...] [--quick]
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from records import RESULTS, Record, Records, parse
from speed import gate as gated
from speed.gate import (
    BILINEAR,
    RANKS,
    VARIANTS,
    Candidate,
    Case,
    Part,
    compute,
    make_inputs,
    parts_of,
)
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from tsattn.benchmark import _reset_peak
from tsattn.kernels import available_backends
from tsattn.limits import limit_threads

FILE = "speed.jsonl"
# What tells one measurement from another; commit and date do not.
KEY = ("kind", "case", "variant", "levels", "way", "causal", "mode", "threads")
MODES = ("forward", "step")
FORCED_LENGTH = 1024  # longest for which every way is timed, not only the one that is chosen
REFERENCE_LENGTH = 512  # longest for which the reference is
CAUSAL_LENGTH = 1024  # shortest with a causal row
MEMORY_LENGTH = 4096  # shortest with a memory row
BILINEAR_LENGTH = 1024  # longest for bilinear scores, whose keys are wider than their values
PLAIN = (
    *BILINEAR,
    "global_local",
)  # made of other variants' kernels: neither causal rows nor forced ways
QUICK = ("896x4x42x4", "224x8x42x64", "2x8x1024x64")
_SHORT = (Case(896, 4, 42, 4), Case(896, 16, 42, 8), Case(224, 8, 42, 64))
_MIDDLE = tuple(Case(2048 // length, 8, length, 64) for length in (128, 256, 512, 1024, 2048))
CASES = {
    case.name: case
    for case in (*_SHORT, *_MIDDLE, *(Case(1, 8, length, 64) for length in (4096, 8192, 16384)))
}


def candidates_of(case: Case, variants: Sequence[str], *, quick: bool = False) -> list[Candidate]:
    """What is measured at a case, in the order of the variants."""
    found = []
    for variant in variants:
        if not _is_measured(variant, case):
            continue
        found.append(Candidate(variant, "auto", False))
        if variant in PLAIN or quick:
            continue
        if CAUSAL_LENGTH <= case.length <= 8192:
            found.append(Candidate(variant, "auto", True))
        if case.length <= FORCED_LENGTH:
            found += [Candidate(variant, way, False) for way in _forced(variant, case)]
    return found


def _is_measured(variant: str, case: Case) -> bool:
    if variant in RANKS:
        return case.features == 64
    if variant in BILINEAR:
        return case.length <= BILINEAR_LENGTH
    # From here on a turn takes long: what is asked for is bands, and windows if they are not L x L.
    windows = variant == "sliding_window" and "windowed" in available_backends()
    return case.length < 8192 or (case.length == 8192 and windows)


def _forced(variant: str, case: Case) -> list[str]:
    """Single ways that can be asked for; the gate finds out which of them serve."""
    leave = {"auto", "dense"}  # dense is the better of two that are here
    leave |= set() if variant.startswith("mlr") else {"expanded", "masked", "bands"}
    leave |= set() if variant == "sliding_window" else {"windowed"}
    leave |= {"reference"} if case.length > REFERENCE_LENGTH else set()
    return [way for way in available_backends() if way not in leave]


def identity(kind: str, case: Case, candidate: Candidate, mode: str) -> Record:
    """What a record is of."""
    ranks = parts_of(candidate.variant, case)[0].ranks
    told = {"kind": kind, "case": case.name, "shape": list(case), "variant": candidate.variant}
    told |= {
        "levels": None if ranks is None else list(ranks),
        "way": candidate.way,
        "causal": candidate.causal,
    }
    return {**told, "mode": mode, "threads": torch.get_num_threads()}


def one_step(
    call: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    """Seconds of the forward pass and of the whole training step, by the clock and of the
    processor.
    """
    *tensors, grad = inputs
    for tensor in tensors:
        tensor.grad = None
    marks = [(time.perf_counter(), time.process_time())]
    out = call(*tensors)
    marks.append((time.perf_counter(), time.process_time()))
    out.backward(grad)
    marks.append((time.perf_counter(), time.process_time()))
    (wall, cpu), *ends = marks
    return {mode: (end[0] - wall, end[1] - cpu) for mode, end in zip(MODES, ends, strict=True)}


def time_rounds(
    case: Case, candidate: Candidate, *, repeats: int | None, budget: float
) -> list[list[Any]]:
    """Baseline, candidate, baseline, candidate, ...: what :func:`one_step` says of both, round by
    round.

    There are ``repeats`` rounds; ``None`` begins none after ``budget`` seconds.
    """
    parts = parts_of(candidate.variant, case)
    baseline = make_inputs(case, case.features)
    width = sum(part.width for part in parts)
    sides: list[tuple[Callable[..., Tensor], list[Tensor]]] = [
        (partial(sdpa, is_causal=candidate.causal), baseline),
        (_call(parts, candidate), baseline if width == case.features else make_inputs(case, width)),
    ]
    # Where a step takes seconds, the gate has run the candidate, and the baseline gets a forward
    # pass.
    for call, inputs in sides if case.length < 4096 else ():
        one_step(call, inputs)
    with torch.no_grad():
        sides[0][0](*baseline[:3])
    chosen = candidate.way == "auto"
    least = repeats or (2 if case.length > 8192 else 5 if chosen and case.length < 2048 else 3)
    rounds: list[list[Any]] = []
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        while len(rounds) < least or (
            repeats is None and time.perf_counter() - started < budget and len(rounds) < 50
        ):
            rounds.append([one_step(call, inputs) for call, inputs in sides])
    finally:
        gc.enable()
    return rounds


def _call(parts: Sequence[Part], candidate: Candidate) -> Callable[..., Tensor]:
    return partial(compute, parts, way=candidate.way, causal=candidate.causal)


def time_records(
    case: Case, candidate: Candidate, rounds: Sequence[Sequence[Any]]
) -> Iterator[Record]:
    """What is said of a candidate: medians, and the middle three fifths of the rounds."""
    for mode in MODES:
        (base, base_cpu), (ours, ours_cpu) = (
            np.array([row[side][mode] for row in rounds]).T for side in (0, 1)
        )
        low, middle, high = np.percentile(ours / base, (20, 50, 80))
        row = {
            "ratio": middle,
            "ratio_low": low,
            "ratio_high": high,
            "cpu_ratio": np.median(ours_cpu / base_cpu),
        }
        row = {name: round(float(value), 4) for name, value in row.items()}
        row |= {
            "ms": round(1e3 * float(np.median(ours)), 3),
            "baseline_ms": round(1e3 * float(np.median(base)), 3),
        }
        yield {**identity("time", case, candidate, mode), **row, "rounds": len(rounds)}


def measure_memory(variant: str, case: Case) -> float:
    """By how many MB one training step raises the peak of this process's resident memory.

    Inputs and the gradient of the result stand before the first reading; a short step before it
    loads the code. Linux forgets its peak at that point; elsewhere the peak of the process so far
    is what counts as the beginning.
    """
    candidate = Candidate("standard" if variant == "sdpa" else variant, "auto", False)
    torch.set_num_threads(1)
    for size in (Case(1, 1, 1024, case.features), case):
        parts = parts_of(candidate.variant, size)
        call = sdpa if variant == "sdpa" else _call(parts, candidate)
        inputs = make_inputs(size, sum(part.width for part in parts))
        gc.collect()
        _reset_peak()
        before = _peak_kb()
        one_step(call, inputs)
        after = _peak_kb()
    return (after - before) / 1024


def _peak_kb() -> float:
    """Peak of resident memory; not getrusage's on Linux, where a child begins with the peak of its
    parent.
    """
    status = Path("/proc/self/status")
    for line in (
        status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else ()
    ):
        if line.startswith("VmHWM:"):
            return float(line.split()[1])
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak


def memory_in_child(variant: str, case: Case) -> float:
    """The same in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_memory, (variant, case))


def run_case(case: Case, options: Any) -> int:
    """Gate, time and record what is not on file; the number of candidates that failed the gate."""
    known = Records(options.out, KEY) if options.out else None

    def missing(kind: str, candidate: Candidate) -> bool:
        modes = MODES if kind == "time" else ("step",)
        asked = (identity(kind, case, candidate, mode) for mode in modes)
        return known is None or any(known.missing(asked, again=options.again))

    def keep(record: Record, candidate: Candidate) -> None:
        if known is not None:
            known.add({**record, "gate_error": float(f"{errors[candidate]:.2g}")}, again=True)

    chosen = candidates_of(case, options.variant, quick=options.quick)
    to_time = [candidate for candidate in chosen if missing("time", candidate)]
    weighable = [
        c
        for c in chosen
        if c.variant in RANKS and c.way == "auto" and not c.causal and not options.quick
    ]
    to_weigh = [c for c in weighable if case.length >= MEMORY_LENGTH and missing("memory", c)]
    errors, failed = gate(case, [c for c in chosen if c in to_time or c in to_weigh])
    for candidate in (c for c in to_time if c in errors):
        budget = options.budget if candidate.way == "auto" else options.budget / 3
        rounds = time_rounds(case, candidate, repeats=options.repeats or None, budget=budget)
        for record in time_records(case, candidate, rounds):
            keep(record, candidate)
            ratio = "{mode} {ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(**record)
            print(f"{_title(case, candidate)}: {ratio}", flush=True)
    weighed = [c for c in to_weigh if c in errors]
    baseline = memory_in_child("sdpa", case) if weighed else 0.0
    for candidate in weighed:
        increase = memory_in_child(candidate.variant, case)
        sizes = {"ratio": round(increase / baseline, 4), "increase_mb": round(increase, 1)}
        keep(
            {
                **identity("memory", case, candidate, "step"),
                **sizes,
                "baseline_mb": round(baseline, 1),
            },
            candidate,
        )
        print(f"{_title(case, candidate)}: memory of a step {sizes['ratio']:.2f}", flush=True)
    return failed


def gate(case: Case, candidates: Sequence[Candidate]) -> tuple[dict[Candidate, float], int]:
    """Errors of the candidates that may be timed, and how many may not because their numbers are
    wrong.
    """
    errors: dict[Candidate, float] = {}
    failed = 0
    for candidate in candidates:
        try:
            errors[candidate] = gated.check(case, candidate)
        except gated.WrongNumbersError as error:
            print(f"WRONG {_title(case, candidate)}: {error}; not timed", flush=True)
            failed += 1
        except ValueError as error:
            if candidate.way == "auto":
                raise
            print(f"left out {_title(case, candidate)}: {error}", flush=True)
    return errors, failed


def _title(case: Case, candidate: Candidate) -> str:
    return (
        f"{case.name} {candidate.variant}, {candidate.way}{', causal' if candidate.causal else ''}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when all numbers were right, 1 when some were not (they have no times), 2 when a
    file is damaged.
    """
    # --quick takes three cases and chosen ways, and records only with --out; a turn is a round of
    # --repeats.
    defaults = {
        "case": (),
        "variant": VARIANTS,
        "quick": False,
        "threads": 1,
        "repeats": 0,
        "again": False,
    }
    options = parse(
        argv, __doc__, {**defaults, "out": None}, choices={"case": CASES, "variant": VARIANTS}
    )
    options.out = Path(options.out) if options.out else None if options.quick else RESULTS / FILE
    options.budget = 0.3 if options.quick else 1.5
    cases = [CASES[name] for name in options.case or (QUICK if options.quick else CASES)]
    try:
        with limit_threads(options.threads):
            failed = sum(run_case(case, options) for case in cases)
    except ValueError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"speed: {failed} with wrong numbers, for which no time is given", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
