"""Measures time and memory of attention against torch's own, after a check of its numbers.

Every variant and way (backend) is first compared with the reference and with formulas in float64;
one that differs is named and never timed. Then it runs in turns with torch's
scaled_dot_product_attention, and the ratios of the turns are recorded. Run: PYTHONPATH=benchmarks
python benchmarks/speed/run.py [--case 224x8x42x64 ...] [--variant mlr4 ...] [--quick]
"""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from records import RESULTS, Record, Records, parse
from speed import gate as number_check
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
# Fields that identify a measurement.
KEY = ("kind", "case", "variant", "levels", "way", "causal", "mode", "threads")
MODES = ("forward", "step")
# Longest sequence for which every way is timed, not only "auto", and for which the reference is.
FORCED_LENGTH = 1024
REFERENCE_LENGTH = 512
# Shortest and longest sequence with a causal row, and shortest with a memory row.
CAUSAL_LENGTH = 1024
_LONGEST_CAUSAL = 8192
MEMORY_LENGTH = 4096
# Longest sequence for bilinear scores, whose keys are wider than their values.
BILINEAR_LENGTH = 1024
# Variants made of other variants' kernels: they have neither causal rows nor forced ways.
PLAIN = (*BILINEAR, "global_local")
# Rounds of a measurement at most.
_MOST_ROUNDS = 50
QUICK = ("896x4x42x4", "224x8x42x64", "2x8x1024x64")
# A function of queries, keys and values, and the inputs of one step.
Side = tuple[Callable[..., Tensor], list[Tensor]]
_SHORT = (Case(896, 4, 42, 4), Case(896, 16, 42, 8), Case(224, 8, 42, 64))
_MIDDLE = tuple(Case(2048 // length, 8, length, 64) for length in (128, 256, 512, 1024, 2048))
_LONG = tuple(Case(1, 8, length, 64) for length in (4096, 8192, 16384))
CASES = {case.name: case for case in (*_SHORT, *_MIDDLE, *_LONG)}


def candidates_of(case: Case, variants: Sequence[str], *, quick: bool = False) -> list[Candidate]:
    """The candidates of a case, in the order of the variants."""
    candidates = []
    for variant in variants:
        if not _is_measured(variant, case):
            continue
        candidates.append(Candidate(variant, "auto", False))
        if variant in PLAIN or quick:
            continue
        if CAUSAL_LENGTH <= case.length <= _LONGEST_CAUSAL:
            candidates.append(Candidate(variant, "auto", True))
        if case.length <= FORCED_LENGTH:
            candidates += [Candidate(variant, way, False) for way in _forced(variant, case)]
    return candidates


def _is_measured(variant: str, case: Case) -> bool:
    if variant in RANKS:
        return case.features == 64
    if variant in BILINEAR:
        return case.length <= BILINEAR_LENGTH
    # A turn takes long here, so only windows whose kernel is not L x L are measured at 8,192.
    has_window_kernel = variant == "sliding_window" and "windowed" in available_backends()
    return case.length < 8192 or (case.length == 8192 and has_window_kernel)


def _forced(variant: str, case: Case) -> list[str]:
    """Single ways to time; the gate finds out which of them can compute the variant."""
    # "dense" is the better of two others.
    left_out = {"auto", "dense"}
    if not variant.startswith("mlr"):
        left_out |= {"expanded", "masked", "bands"}
    if variant != "sliding_window":
        left_out.add("windowed")
    if case.length > REFERENCE_LENGTH:
        left_out.add("reference")
    return [way for way in available_backends() if way not in left_out]


def identity(kind: str, case: Case, candidate: Candidate, mode: str) -> Record:
    """The fields of a record that identify it, and its shape."""
    ranks = parts_of(candidate.variant, case)[0].ranks
    return {
        "kind": kind,
        "case": case.name,
        "shape": list(case),
        "variant": candidate.variant,
        "levels": None if ranks is None else list(ranks),
        "way": candidate.way,
        "causal": candidate.causal,
        "mode": mode,
        "threads": torch.get_num_threads(),
    }


def one_step(
    call: Callable[..., Tensor], inputs: Sequence[Tensor]
) -> dict[str, tuple[float, float]]:
    """Seconds of the forward pass and of the whole training step, by the clock and of the
    processor.
    """
    *tensors, grad = inputs
    for tensor in tensors:
        tensor.grad = None
    clock_start = time.perf_counter()
    cpu_start = time.process_time()
    out = call(*tensors)
    forward = (time.perf_counter() - clock_start, time.process_time() - cpu_start)
    out.backward(grad)
    step = (time.perf_counter() - clock_start, time.process_time() - cpu_start)
    return {"forward": forward, "step": step}


def time_rounds(
    case: Case, candidate: Candidate, *, repeats: int | None, budget: float
) -> list[list[Any]]:
    """Seconds by :func:`one_step` of the baseline and of the candidate in turns, round by round.

    There are ``repeats`` rounds; with ``None``, no round begins after ``budget`` seconds but for
    the least number of rounds.
    """
    baseline, side = _sides(case, candidate)
    # Both sides run once before the clock starts. Where a step takes seconds, the gate has run the
    # candidate, and a forward pass of the baseline is enough.
    if case.length < 4096:
        one_step(*baseline)
        one_step(*side)
    with torch.no_grad():
        call, inputs = baseline
        call(*inputs[:3])
    least_rounds = repeats or _least_rounds(case, candidate)
    rounds: list[list[Any]] = []
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()

        def has_time() -> bool:
            is_early = time.perf_counter() - started < budget
            return repeats is None and is_early and len(rounds) < _MOST_ROUNDS

        while len(rounds) < least_rounds or has_time():
            rounds.append([one_step(*baseline), one_step(*side)])
    finally:
        gc.enable()
    return rounds


def _sides(case: Case, candidate: Candidate) -> tuple[Side, Side]:
    """The baseline and the candidate; they share their inputs where these have the same width."""
    parts = parts_of(candidate.variant, case)
    width = sum(part.width for part in parts)
    baseline_inputs = make_inputs(case, case.features)
    inputs = baseline_inputs
    if width != case.features:
        inputs = make_inputs(case, width)
    baseline = partial(sdpa, is_causal=candidate.causal)
    return (baseline, baseline_inputs), (_call(parts, candidate), inputs)


def _least_rounds(case: Case, candidate: Candidate) -> int:
    """Rounds of a measurement at least: fewer where a step takes long."""
    if case.length > 8192:
        return 2
    if candidate.way == "auto" and case.length < 2048:
        return 5
    return 3


def _call(parts: Sequence[Part], candidate: Candidate) -> Callable[..., Tensor]:
    return partial(compute, parts, way=candidate.way, causal=candidate.causal)


def time_records(
    case: Case, candidate: Candidate, rounds: Sequence[Sequence[Any]]
) -> Iterator[Record]:
    """The records of a candidate's rounds: medians, and the middle three fifths of the ratios."""
    for mode in MODES:
        base_seconds, base_cpu = np.array([base[mode] for base, _ in rounds]).T
        seconds, cpu = np.array([side[mode] for _, side in rounds]).T
        low, middle, high = np.percentile(seconds / base_seconds, (20, 50, 80))
        cpu_ratio = np.median(cpu / base_cpu)
        yield {
            **identity("time", case, candidate, mode),
            "ratio": round(float(middle), 4),
            "ratio_low": round(float(low), 4),
            "ratio_high": round(float(high), 4),
            "cpu_ratio": round(float(cpu_ratio), 4),
            "ms": round(1e3 * float(np.median(seconds)), 3),
            "baseline_ms": round(1e3 * float(np.median(base_seconds)), 3),
            "rounds": len(rounds),
        }


def measure_memory(variant: str, case: Case) -> float:
    """MB by which one training step raises the peak of this process's resident memory.

    Inputs and the gradient of the result exist before the first reading, and a short step before
    it loads the code. On Linux the peak is then reset; elsewhere the peak of the process so far is
    the starting point.
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
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1])
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else peak


def memory_in_child(variant: str, case: Case) -> float:
    """:func:`measure_memory` in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_memory, (variant, case))


class File(NamedTuple):
    """The file of records, or None where nothing is recorded, and whether runs are repeated."""

    records: Records | None
    again: bool

    def lacks(self, kind: str, case: Case, candidate: Candidate) -> bool:
        """Whether a measurement of a candidate is to be made."""
        if self.records is None:
            return True
        modes = MODES if kind == "time" else ("step",)
        cells = (identity(kind, case, candidate, mode) for mode in modes)
        return any(self.records.missing(cells, again=self.again))

    def add(self, record: Record, gate_error: float) -> None:
        """Record a measurement with the error of the gate."""
        if self.records is not None:
            error = float(f"{gate_error:.2g}")
            self.records.add({**record, "gate_error": error}, again=True)


def run_case(case: Case, options: Any) -> int:
    """Gate, time and record what is not on file; the number of candidates that failed the gate."""
    file = File(Records(options.out, KEY) if options.out else None, options.again)
    candidates = candidates_of(case, options.variant, quick=options.quick)
    to_time = [candidate for candidate in candidates if file.lacks("time", case, candidate)]
    # A quick run measures no memory.
    to_weigh = []
    if not options.quick:
        weighable = [candidate for candidate in candidates if _has_memory_row(case, candidate)]
        to_weigh = [candidate for candidate in weighable if file.lacks("memory", case, candidate)]
    to_gate = [candidate for candidate in candidates if candidate in (*to_time, *to_weigh)]
    errors, n_failed = gate(case, to_gate)
    right_to_time = [candidate for candidate in to_time if candidate in errors]
    right_to_weigh = [candidate for candidate in to_weigh if candidate in errors]
    _time_all(case, right_to_time, errors, file, options)
    _weigh_all(case, right_to_weigh, errors, file)
    return n_failed


def _has_memory_row(case: Case, candidate: Candidate) -> bool:
    is_default = candidate.way == "auto" and not candidate.causal
    return candidate.variant in RANKS and is_default and case.length >= MEMORY_LENGTH


def _time_all(
    case: Case,
    candidates: Sequence[Candidate],
    errors: dict[Candidate, float],
    file: File,
    options: Any,
) -> None:
    """Time candidates, record and print the ratios."""
    for candidate in candidates:
        budget = options.budget if candidate.way == "auto" else options.budget / 3
        rounds = time_rounds(case, candidate, repeats=options.repeats or None, budget=budget)
        for record in time_records(case, candidate, rounds):
            file.add(record, errors[candidate])
            ratio = "{mode} {ratio:.2f} ({ratio_low:.2f} to {ratio_high:.2f})".format(**record)
            print(f"{_title(case, candidate)}: {ratio}", flush=True)


def _weigh_all(
    case: Case, candidates: Sequence[Candidate], errors: dict[Candidate, float], file: File
) -> None:
    """Measure, record and print the memory of a step of candidates."""
    baseline = memory_in_child("sdpa", case) if candidates else 0.0
    for candidate in candidates:
        increase = memory_in_child(candidate.variant, case)
        ratio = increase / baseline
        record = {
            **identity("memory", case, candidate, "step"),
            "ratio": round(ratio, 4),
            "increase_mb": round(increase, 1),
            "baseline_mb": round(baseline, 1),
        }
        file.add(record, errors[candidate])
        print(f"{_title(case, candidate)}: memory of a step {record['ratio']:.2f}", flush=True)


def gate(case: Case, candidates: Sequence[Candidate]) -> tuple[dict[Candidate, float], int]:
    """Errors of the candidates that may be timed, and the number of those with wrong numbers."""
    errors: dict[Candidate, float] = {}
    n_failed = 0
    for candidate in candidates:
        try:
            errors[candidate] = number_check.check(case, candidate)
        except number_check.WrongNumbersError as error:
            print(f"WRONG {_title(case, candidate)}: {error}; not timed", flush=True)
            n_failed += 1
        except ValueError as error:
            if candidate.way == "auto":
                raise
            print(f"left out {_title(case, candidate)}: {error}", flush=True)
    return errors, n_failed


def _title(case: Case, candidate: Candidate) -> str:
    suffix = ", causal" if candidate.causal else ""
    return f"{case.name} {candidate.variant}, {candidate.way}{suffix}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; 0 when all numbers were right, 1 when some were not (they have no times), 2 when a
    file is damaged.
    """
    # --quick takes three cases and the way "auto" alone, and records only with --out; --repeats is
    # the number of rounds.
    defaults = {
        "case": (),
        "variant": VARIANTS,
        "quick": False,
        "threads": 1,
        "repeats": 0,
        "again": False,
        "out": None,
    }
    options = parse(argv, __doc__, defaults, choices={"case": CASES, "variant": VARIANTS})
    if options.out:
        options.out = Path(options.out)
    elif not options.quick:
        options.out = RESULTS / FILE
    options.budget = 0.3 if options.quick else 1.5  # seconds
    all_names = QUICK if options.quick else CASES
    cases = [CASES[name] for name in options.case or all_names]
    try:
        with limit_threads(options.threads):
            n_failed = sum(run_case(case, options) for case in cases)
    except ValueError as error:
        print(f"speed: {error}", file=sys.stderr)
        return 2
    if n_failed:
        print(f"speed: {n_failed} with wrong numbers, for which no time is given", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
