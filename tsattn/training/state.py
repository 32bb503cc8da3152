"""The state of a fit: its progress, and checkpoints of it on disk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tsattn.random import Generators
from tsattn.storage import part_of, read_tensors, write_tensors


@dataclass
class Progress:
    """Epochs and steps of a training, and its losses.

    Attributes:
        epoch: Epochs done.
        step: Steps done.
        best_epoch: Epoch, counted from 1, whose weights were best on the validation span (the last
            without one); 0 if the start was kept.
        best_score: Its validation loss.
        timed_out: Whether the time limit ended it.
        history: One entry an epoch: ``epoch``, ``train_loss``, ``valid_loss`` (None without
            validation), ``learning_rate``.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    timed_out: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class Learner(Protocol):
    """The parts of a training that a checkpoint holds."""

    model: torch.nn.Module
    best: dict[str, Tensor]
    progress: Progress
    trainer: Any


# Lightning's ModelCheckpoint is not used. It took 6 ms an epoch where an epoch of a linear map took
# 8 ms, its files are pickles, and resuming to the same weights would need hooks for everything in
# `write` but the weights and the optimiser: generators, best weights in memory, history, and the
# hash of data and parameters that refuses the checkpoint of another fit.
@dataclass(frozen=True)
class Checkpoint:
    """Writes the last finished epoch of one fit into a folder, one atomic file, and reads it.

    Args:
        folder: Where to keep it.
        key: Hash of data and parameters; a file of another key is not resumed from.
        generators: Their states belong to the position.
    """

    folder: Path
    key: str
    generators: Generators

    def path(self, epoch: int) -> Path:
        """File of an epoch."""
        return self.folder / f"{self.key[:16]}-epoch-{epoch:05d}.safetensors"

    def files(self) -> list[Path]:
        """Files of this key, oldest first."""
        return sorted(self.folder.glob(f"{self.key[:16]}-epoch-*.safetensors"))

    def write(self, module: Learner) -> None:
        """Write one epoch; then remove the epoch before.

        The file holds weights, best weights, optimiser, generators and progress.
        """
        tensors = {}
        for name, tensor in module.model.state_dict().items():
            tensors[f"model.{name}"] = tensor
        for name, tensor in module.best.items():
            tensors[f"best.{name}"] = tensor
        optimiser = module.trainer.optimizers[0]
        states = optimiser.state_dict()["state"]
        for index, state in states.items():
            for name, tensor in state.items():
                tensors[f"optimiser.{index}.{name}"] = tensor
        tensors["generator.order"] = self.generators.order.get_state()
        tensors["generator.masks"] = self.generators.masks.get_state()
        facts = {
            "key": self.key,
            "stopped": module.trainer.should_stop,
            "progress": vars(module.progress),
        }
        older = self.files()
        path = self.path(module.progress.epoch)
        write_tensors(path, tensors, facts)
        for old_path in older:
            if old_path != path:
                old_path.unlink(missing_ok=True)

    def resume(self, module: Learner, optimiser: torch.optim.Optimizer) -> bool:
        """Load the newest file, if there is one.

        Returns:
            Whether training had ended there, other than by its time limit.

        Raises:
            ValueError: If the file is damaged, or belongs to another fit.
        """
        files = self.files()
        if not files:
            return False
        newest = files[-1]
        tensors, facts = self._read(newest)
        # The time limit begins anew.
        progress_values = facts["progress"] | {"timed_out": False}
        module.progress = Progress(**progress_values)
        weights = part_of(tensors, "model.")
        module.model.load_state_dict(weights)
        module.best = part_of(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part_of(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            parameter_state = state.setdefault(int(index), {})
            parameter_state[key] = tensor
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": state, "param_groups": groups})
        self.generators.order.set_state(tensors["generator.order"])
        self.generators.masks.set_state(tensors["generator.masks"])
        return bool(facts["stopped"]) and not facts["progress"]["timed_out"]

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a file of this fit."""
        try:
            tensors, facts = read_tensors(path)
        except ValueError as error:
            message = str(error).replace("save the model", "remove the file to train")
            raise ValueError(message) from None
        if facts.get("key") != self.key:
            raise ValueError(
                f"{path} belongs to other data or parameters; remove it or change checkpoint_dir"
            )
        return tensors, facts
