"""How do several processes train one network together? Who they are, how they start, what they
agree on.
"""

import os
import pickle
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

_BACKENDS = ("gloo", "nccl")
# What a launcher such as torchrun tells each process.
_TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
# Errors that say something to the caller of fit; they come back from a started process as they are.
_RELAYED = (ValueError, TypeError, OSError, RuntimeError)
_GRACE = 10  # seconds in which a process may leave by itself
_CPU = torch.device("cpu")
_JOB = "job.pt"
_ANSWER = "answer.pt"


@dataclass(frozen=True)
class DDPSettings:
    """Training in several processes by Lightning's DDP: ``Training(trainer=DDPSettings(2))``; it
    starts nothing itself.

    Each process takes its share of every batch and of every validation batch, and the gradients are
    those of the whole batch: windows and steps are those of one process, and so is the result, but
    for the rounding of sums, as long as nothing is drawn in a step. With ``dropout`` above 0 each
    process draws masks of its own; a fit then repeats itself under the same seed and number of
    processes, and differs from one process as another seed would. ``batch_size`` stays the size of
    the whole batch. Early stopping, time limits and best weights are decided together; checkpoints
    are written by the first process alone.

    Args:
        n_processes: Processes that each fit starts on this machine, one a GPU or core; 1 is
            training as usual. ``None``: the script runs under a launcher such as torchrun, on one
            machine or several; every process calls ``fit`` with the same data, and each has the
            fitted model afterwards. Scripts that let ``fit`` start processes need the guard
            ``if __name__ == "__main__":``.
        backend: ``"gloo"`` or ``"nccl"``; ``None`` is gloo on CPUs and nccl on GPUs.
        timeout: Seconds after which a process that waits for another one gives up.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> DDPSettings(2)
        DDPSettings(n_processes=2, backend=None, timeout=1800.0)
    """

    n_processes: int | None = None
    backend: str | None = None
    timeout: float = 1800.0

    def __post_init__(self) -> None:
        n = self.n_processes
        if n is not None and (isinstance(n, bool) or not isinstance(n, Integral) or n < 1):
            raise ValueError(
                "n_processes must be a whole number of at least 1, or None under torchrun; got"
                f" {n!r}; one a core or GPU is the most that helps"
            )
        if self.backend not in (None, *_BACKENDS):
            raise ValueError(
                f"backend must be None, {' or '.join(map(repr, _BACKENDS))}; got {self.backend!r}"
            )
        if (
            isinstance(self.timeout, bool)
            or not isinstance(self.timeout, int | float)
            or not self.timeout > 0
        ):
            raise ValueError(f"timeout must be seconds above 0; got {self.timeout!r}")

    @property
    def starts_some(self) -> bool:
        """Whether a fit starts processes of its own."""
        return self.n_processes not in (None, 1)

    @property
    def joins_some(self) -> bool:
        """Whether a fit runs in processes that are there already."""
        return self.n_processes is None

    def backend_for(self, device: torch.device) -> str:
        """What carries messages between processes that compute on such devices."""
        return self.backend or ("nccl" if device.type == "cuda" else "gloo")

    def check(self, device: torch.device) -> None:
        """Refuse what cannot work here, before anything is trained.

        Args:
            device: Where the network is to be trained.

        Raises:
            ValueError: If there are too few GPUs, nccl is to work without one, or a launcher is
                there or missing.
        """
        told = [name for name in _TOLD if name in os.environ]
        if self.joins_some and len(told) < len(_TOLD):
            missing = next(name for name in _TOLD if name not in told)
            raise ValueError(
                "DDPSettings() without n_processes needs a launcher such as torchrun, and"
                f" {missing} is not set; start the script with torchrun, or give n_processes"
            )
        if self.starts_some and len(told) == len(_TOLD):
            raise ValueError(
                f"n_processes = {self.n_processes} would start processes in each of the"
                f" {os.environ['WORLD_SIZE']} that a launcher started already; use DDPSettings()"
                " under torchrun"
            )
        if device.type != "cuda" and self.backend == "nccl":
            raise ValueError(
                "backend 'nccl' works between GPUs only; use device='cuda', or leave backend out"
            )
        here = (
            int(os.environ["LOCAL_WORLD_SIZE"]) if self.joins_some else int(self.n_processes or 1)
        )
        if device.type == "cuda" and here > torch.cuda.device_count():
            raise ValueError(
                f"{here} processes need as many GPUs, and this machine has"
                f" {torch.cuda.device_count()}; lower n_processes, or use device='cpu'"
            )

    def join(self, device: torch.device) -> "Team":
        """Become one of the processes that a launcher or :func:`run_processes` started."""
        rank = int(os.environ["RANK"])
        local = int(os.environ["LOCAL_RANK"])
        if device.type == "cuda":
            device = torch.device("cuda", local)
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            dist.init_process_group(
                self.backend_for(device), timeout=timedelta(seconds=self.timeout)
            )
        return Team(rank, dist.get_world_size(), int(os.environ["LOCAL_WORLD_SIZE"]), device)


def processes_for(trainer: Any, device: torch.device) -> tuple[DDPSettings | None, torch.device]:
    """Who trains, from a forecaster's ``trainer``, and where windows wait until a process takes its
    share.

    Args:
        trainer: ``None`` or settings.
        device: Where the network is to be trained.

    Raises:
        TypeError: If it is anything else.
        ValueError: If the settings cannot work here.
    """
    if trainer is None:
        return None, device
    if not isinstance(trainer, DDPSettings):
        raise TypeError(
            "trainer must be None or a tsattn.distributed.DDPSettings; got"
            f" {type(trainer).__name__}"
        )
    trainer.check(device)
    alone = not trainer.starts_some and not trainer.joins_some
    return trainer, device if alone else _CPU


@dataclass(frozen=True)
class Team:
    """This process among those that train one network; ``Team()`` is a process by itself.

    Args:
        rank: Its number, from 0.
        size: How many there are.
        local_size: How many of them are on this machine.
        device: Where this one computes.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = _CPU

    def total(self, values: Tensor) -> Tensor:
        """Sums over all processes, element by element, with the same bits on each."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
            # The order of a sum may differ between processes, and decisions hang on it.
            dist.broadcast(values, 0)
        return values

    def agree(self, value: Any) -> bool:
        """Whether all processes hold the same value."""
        if self.size == 1:
            return True
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value)
        return all(each == value for each in held)

    def begin_alike(self, tensors: Mapping[str, Tensor], *generators: torch.Generator) -> None:
        """Give all processes the tensors and the states of the generators that process 0 has."""
        if self.size == 1:
            return
        for tensor in tensors.values():
            dist.broadcast(tensor, 0)
        states = [[each.get_state().numpy() for each in generators]]
        dist.broadcast_object_list(states, 0)
        for each, state in zip(generators, states[0], strict=True):
            each.set_state(torch.from_numpy(state.copy()))

    def own_seed(self, common: torch.Generator) -> int:
        """A seed for this process alone, drawn from a generator that all processes hold in the same
        state.
        """
        drawn = int(torch.randint(2**62, (1,), generator=common, device=common.device))
        return int(np.random.SeedSequence((drawn, self.rank)).generate_state(1, np.uint64)[0])


def run_processes(
    target: Callable[..., Any], args: tuple[Any, ...], settings: DDPSettings, device: torch.device
) -> Any:
    """Run ``target(*args)`` in fresh processes that know one another, and wait for all of them.

    The arguments reach them through a file whose tensors are mapped into memory: what they only
    read, such as the values of windows, stands there once for all of them.

    Args:
        target: A function of a module, by whose name the processes find it.
        args: Whatever pickles.
        settings: How many processes there are and how they talk.
        device: What they compute on.

    Returns:
        What it returned in process 0.

    Raises:
        ValueError: What a process raised; TypeError and OSError come back likewise.
        RuntimeError: If a process ended in another way.
    """
    context = get_context("spawn")
    n = int(settings.n_processes or 1)
    threads = max(1, torch.get_num_threads() // n)
    with tempfile.TemporaryDirectory(prefix="tsattn-") as folder:
        group = (n, settings.backend_for(device), settings.timeout, threads, Path(folder))
        torch.save((target, args), Path(folder) / _JOB)
        processes = [
            context.Process(target=_begin, args=(rank, *group), daemon=True) for rank in range(n)
        ]
        try:
            for each in processes:
                each.start()
            failed = _wait({each.sentinel: each for each in processes})
        finally:
            _end(processes)
        errors = [pickle.loads(path.read_bytes()) for path in sorted(Path(folder).glob("error-*"))]
        answer = None if failed else torch.load(Path(folder) / _ANSWER, weights_only=False)
    if failed < 0:
        raise RuntimeError(
            f"one of {n} processes that train together was ended by signal {-failed}; look whether"
            " memory ran out, and lower n_processes or batch_size if so"
        )
    if errors:
        # One that lost its partner says less than the one that knows why.
        raise min(errors, key=lambda error: isinstance(error, RuntimeError))
    if failed:
        raise RuntimeError(
            f"one of {n} processes that train together ended with exit code {failed}; if its words"
            " on stderr speak of bootstrapping, put what the script does under `if __name__ =="
            " '__main__':`"
        )
    return answer


def _begin(rank: int, n: int, backend: str, timeout: float, threads: int, folder: Path) -> None:
    """What a started process does."""
    threading.Thread(target=_leave_with_parent, args=(folder,), daemon=True).start()
    torch.set_num_threads(threads)
    os.environ.update(
        {name: str(value) for name, value in zip(_TOLD, (rank, rank, n, n), strict=True)}
    )
    # They meet through a file: a port that is free now may be taken a moment later.
    meeting = (folder / "meeting").as_uri()
    try:
        dist.init_process_group(
            backend,
            init_method=meeting,
            rank=rank,
            world_size=n,
            timeout=timedelta(seconds=timeout),
        )
        # Our own processes wrote it, into a folder that only we may write to.
        target, args = torch.load(folder / _JOB, mmap=True, weights_only=False)
        answer = target(*args)
        if rank == 0:
            torch.save(answer, folder / _ANSWER)
    except _RELAYED as error:
        (folder / f"error-{rank}").write_bytes(pickle.dumps(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(1) from None
    dist.destroy_process_group()


def _leave_with_parent(folder: Path) -> None:
    """End this process when the one that started it has ended, however that came, and clean up for
    it.
    """
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def _wait(processes: Mapping[Any, BaseProcess]) -> int:
    """Wait until all have ended well (0) or one has not: its exit code, a signal's (below 0) before
    others.
    """
    waiting = dict(processes)
    while waiting:
        for sentinel in connection.wait(list(waiting)):
            waiting.pop(sentinel).join()
        codes = [each.exitcode for each in processes.values() if each.exitcode]
        if codes:
            return min(codes)
    return 0


def _end(processes: Sequence[BaseProcess]) -> None:
    """End those that are still there: a process that lost its partner would wait for it."""
    started = [each for each in processes if each.pid is not None]
    for each in started:
        if each.is_alive():
            each.terminate()
    for each in started:
        each.join(_GRACE)
        if each.is_alive():
            each.kill()
            each.join()
