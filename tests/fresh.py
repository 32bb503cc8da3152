"""Calls in a process of their own, and what they take of time and memory."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).parent


def in_fresh_process(module, call, *, limit=280, variables=None):
    """Run a call in a process of its own, with one torch thread and one of the test modules at
    hand.

    Args:
        module: The ``__file__`` of a test module; all of its names may be used.
        call: Python source.
        limit: Seconds.
        variables: Further environment variables.

    Returns:
        What it wrote on stdout.
    """
    name = Path(module).stem
    folders = [str(Path(module).parent), str(TESTS)]
    code = (
        f"import sys, torch; sys.path[:0] = {folders!r}; torch.set_num_threads(1)\n"
        f"import {name}\nfrom {name} import *\n{call}"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})},
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def resident(which="VmRSS"):
    """Resident memory of this process in MB: now, or its peak since it was reset (VmHWM)."""
    (line,) = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(which)
    ]
    return int(line.split()[1]) / 1024


def measured(call):
    """The answer of a call, its seconds, those of the processor, and the growth of peak resident
    memory in MB.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    began = time.perf_counter()
    busy = time.process_time()
    answer = call()
    seconds = time.perf_counter() - began
    busy = time.process_time() - busy
    return answer, seconds, busy, resident("VmHWM") - before
