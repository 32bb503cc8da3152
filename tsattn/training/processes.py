"""Processes that train one network together: their settings, their start and their sums."""

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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from tsattn.checks import check_choice, is_number, is_whole
from tsattn.storage import full_disk_names
from tsattn.training.parts import TrainerParts

_BACKENDS = ("gloo", "nccl")
# Environment variables that a launcher such as torchrun sets for each process.
_LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
# Errors that say something to the caller of fit; they come back from a started process as they are.
_RELAYED = (ValueError, TypeError, OSError, RuntimeError)
# Seconds in which a process may end by itself.
_GRACE = 10
_CPU = torch.device("cpu")
# Files in the folder that the processes share.
_JOB = "job.pt"
_ANSWER = "answer.pt"


@dataclass(frozen=True)
class DDPSettings:
    """Training in several processes by Lightning's DDP: ``Training(trainer=DDPSettings(2))``.

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
        if n is not None and (not is_whole(n) or n < 1):
            raise ValueError(
                "n_processes must be a whole number of at least 1, or None under torchrun; got"
                f" {n!r}; one a core or GPU is the most that helps"
            )
        check_choice("backend", self.backend, (None, *_BACKENDS))
        if not is_number(self.timeout) or not self.timeout > 0:
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
        if self.backend:
            return self.backend
        return "nccl" if device.type == "cuda" else "gloo"

    def check(self, device: torch.device) -> None:
        """Refuse what cannot work here, before anything is trained.

        Args:
            device: Where the network is to be trained.

        Raises:
            ValueError: If there are too few GPUs, nccl is to work without one, or a launcher is
                there or missing.
        """
        missing = [name for name in _LAUNCHER_VARIABLES if name not in os.environ]
        if self.joins_some and missing:
            raise ValueError(
                "DDPSettings() without n_processes needs a launcher such as torchrun, and"
                f" {missing[0]} is not set; start the script with torchrun, or give n_processes"
            )
        if self.starts_some and not missing:
            n_launched = os.environ["WORLD_SIZE"]
            raise ValueError(
                f"n_processes = {self.n_processes} would start processes in each of the"
                f" {n_launched} that a launcher started already; use DDPSettings()"
                " under torchrun"
            )
        if device.type != "cuda" and self.backend == "nccl":
            raise ValueError(
                "backend 'nccl' works between GPUs only; use device='cuda', or leave backend out"
            )
        n_local = int(self.n_processes or 1)
        if self.joins_some:
            n_local = int(os.environ["LOCAL_WORLD_SIZE"])
        if device.type != "cuda":
            return
        n_gpus = torch.cuda.device_count()
        if n_local > n_gpus:
            raise ValueError(
                f"{n_local} processes need as many GPUs, and this machine has"
                f" {n_gpus}; lower n_processes, or use device='cpu'"
            )

    def join(self, device: torch.device) -> "Team":
        """Become one of the processes that a launcher or :func:`run_processes` started."""
        if device.type == "cuda":
            local_rank = int(os.environ["LOCAL_RANK"])
            device = torch.device("cuda", local_rank)
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            timeout = timedelta(seconds=self.timeout)
            dist.init_process_group(self.backend_for(device), timeout=timeout)
        return Team(
            rank=int(os.environ["RANK"]),
            size=dist.get_world_size(),
            local_size=int(os.environ["LOCAL_WORLD_SIZE"]),
            device=device,
        )


def processes_for(trainer: Any, device: torch.device) -> tuple[DDPSettings | None, torch.device]:
    """Settings of the processes that train, and the device on which windows wait for them.

    Args:
        trainer: ``None`` or settings.
        device: Where the network is to be trained.

    Raises:
        TypeError: If it is anything else.
        ValueError: If the settings cannot work here.
    """
    if trainer is None or isinstance(trainer, TrainerParts):
        return None, device
    if not isinstance(trainer, DDPSettings):
        raise TypeError(
            f"trainer must be None, DDPSettings or TrainerParts; got {type(trainer).__name__};"
            " write TrainerParts(callbacks=lambda: [...]) of tsattn.training.parts for callbacks of"
            " Lightning"
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
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return all(other == value for other in values)

    def begin_alike(self, tensors: Mapping[str, Tensor], *generators: torch.Generator) -> None:
        """Give all processes the tensors and the states of the generators that process 0 has."""
        if self.size == 1:
            return
        for tensor in tensors.values():
            dist.broadcast(tensor, 0)
        states = [generator.get_state().numpy() for generator in generators]
        # One object, which the broadcast replaces in the list.
        message = [states]
        dist.broadcast_object_list(message, 0)
        for generator, state in zip(generators, message[0], strict=True):
            generator.set_state(torch.from_numpy(state.copy()))

    def own_seed(self, common: torch.Generator) -> int:
        """Draw a seed for this process alone.

        Args:
            common: A generator that all processes hold in the same state.
        """
        draw = torch.randint(2**62, (1,), generator=common, device=common.device)
        sequence = np.random.SeedSequence((int(draw), self.rank))
        (seed,) = sequence.generate_state(1, np.uint64)
        return int(seed)


# Lightning's strategy "ddp_spawn" is not used to start processes. Both ways were measured with two
# processes that raise a ValueError, on a busy machine. This one raised it after 23 s. Lightning
# raised a ProcessRaisedException after 38 s, whose message is a traceback, wrote lines to stderr,
# and left the progress of the module in the process that trained. It does not offer a rendezvous by
# file, windows that stand in memory once for all processes, or an end of the started processes when
# the one that started them is killed.
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
        OSError: If the folder of temporary files is full.
    """
    context = get_context("spawn")
    n = int(settings.n_processes or 1)
    threads = max(1, torch.get_num_threads() // n)
    with tempfile.TemporaryDirectory(prefix="tsattn-") as name:
        folder = Path(name)
        backend = settings.backend_for(device)
        group = (n, backend, settings.timeout, threads, folder)
        with full_disk_names(folder.parent), (folder / _JOB).open("wb") as file:
            try:
                torch.save((target, args), file)
            except RuntimeError as error:
                # Torch hides the error of the system behind one of its own.
                raise error.__context__ or error from None
        processes = []
        for rank in range(n):
            begin_args = (rank, *group)
            process = context.Process(target=_begin, args=begin_args, daemon=True)
            processes.append(process)
        try:
            for process in processes:
                process.start()
            code = _wait(processes)
        finally:
            _end(processes)
        if code:
            raise _failure(folder, n, code)
        return torch.load(folder / _ANSWER, weights_only=False)


def _failure(folder: Path, n: int, code: int) -> Exception:
    """The error to raise where one of n processes ended with an exit code."""
    if code < 0:
        return RuntimeError(
            f"one of {n} processes that train together was ended by signal {-code}; look whether"
            " memory ran out, and lower n_processes or batch_size if so"
        )
    paths = sorted(folder.glob("error-*"))
    errors = [pickle.loads(path.read_bytes()) for path in paths]
    if errors:
        # The error of a process that lost its partner says less than that of the partner.
        return min(errors, key=lambda error: isinstance(error, RuntimeError))
    return RuntimeError(
        f"one of {n} processes that train together ended with exit code {code}; if its words"
        " on stderr speak of bootstrapping, put what the script does under `if __name__ =="
        " '__main__':`"
    )


def _begin(rank: int, n: int, backend: str, timeout: float, threads: int, folder: Path) -> None:
    """Run the job in a started process."""
    watcher = threading.Thread(target=_leave_with_parent, args=(folder,), daemon=True)
    watcher.start()
    torch.set_num_threads(threads)
    launcher_values = (rank, rank, n, n)
    for name, value in zip(_LAUNCHER_VARIABLES, launcher_values, strict=True):
        os.environ[name] = str(value)
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
        error_file = folder / f"error-{rank}"
        error_file.write_bytes(pickle.dumps(error))
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(1) from None
    dist.destroy_process_group()


def _leave_with_parent(folder: Path) -> None:
    """End this process when the one that started it has ended, and remove the folder."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def _wait(processes: Sequence[BaseProcess]) -> int:
    """Wait until all processes have ended well, or one has not.

    Returns:
        0, or the exit code of one that failed; a signal's (below 0) before others.
    """
    waiting: dict[Any, BaseProcess] = {process.sentinel: process for process in processes}
    while waiting:
        for sentinel in connection.wait(list(waiting)):
            process = waiting.pop(sentinel)
            process.join()
        codes = [process.exitcode for process in processes if process.exitcode]
        if codes:
            return min(codes)
    return 0


def _end(processes: Sequence[BaseProcess]) -> None:
    """End those that are still alive: a process that lost its partner would wait for it."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        if process.is_alive():
            process.terminate()
    for process in started:
        process.join(_GRACE)
        if process.is_alive():
            process.kill()
            process.join()
