"""Where does a fit stand? Its progress and its sources of chance, on disk after each epoch and
found again there.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tsattn.random import Generators
from tsattn.storage import read_tensors, write_tensors


@dataclass
class Progress:
    """Where training stands and what came of it.

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
    """What is kept of a network that is being trained."""

    model: torch.nn.Module
    best: dict[str, Tensor]
    progress: Progress
    trainer: Any


@dataclass(frozen=True)
class Checkpoint:
    """Keeps the last finished epoch of one fit in a folder, one atomic file, and finds it again.

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
        """Write weights, best weights, optimiser, generators and position; then drop the epoch
        before.
        """
        tensors = {f"model.{k}": v for k, v in module.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in module.best.items()}
        for index, state in module.trainer.optimizers[0].state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
        tensors["generator.order"] = self.generators.order.get_state()
        tensors["generator.masks"] = self.generators.masks.get_state()
        older = self.files()
        facts = {
            "key": self.key,
            "stopped": module.trainer.should_stop,
            "progress": vars(module.progress),
        }
        write_tensors(self.path(module.progress.epoch), tensors, facts)
        for path in older:
            if path != self.path(module.progress.epoch):
                path.unlink(missing_ok=True)

    def resume(self, module: Learner, optimiser: torch.optim.Optimizer) -> bool:
        """Load the newest file, if there is one; True when training had ended there, other than by
        its time limit.
        """
        files = self.files()
        if not files:
            return False
        try:
            tensors, facts = read_tensors(files[-1])
        except ValueError as error:
            raise ValueError(
                str(error).replace("save the model", "remove the file to train")
            ) from None
        if facts.get("key") != self.key:
            raise ValueError(
                f"{files[-1]} belongs to other data or parameters; remove it or change"
                " checkpoint_dir"
            )
        module.progress = Progress(**facts["progress"] | {"timed_out": False})
        module.model.load_state_dict(_part(tensors, "model."))
        module.best = _part(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict(
            {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
        )
        self.generators.order.set_state(tensors["generator.order"])
        self.generators.masks.set_state(tensors["generator.masks"])
        return bool(facts["stopped"]) and not facts["progress"]["timed_out"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
