"""How does a network learn? A thin Lightning module, its data, early stopping, checkpoints and resumption."""

import copy
import math
import secrets
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import LogRecord, getLogger
from pathlib import Path
from threading import Lock, get_ident
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from tsattn.data.windows import WindowBatches
from tsattn.nn.heads import AnyHead, PointHead
from tsattn.nn.layers import set_generator
from tsattn.storage import read_tensors, write_tensors

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to learn.

    Args:
        loss: ``"mse"``, ``"mae"`` or ``"huber"`` (threshold 1), on the standardised scale; heads other than the point
            head bring their own.
        learning_rate: Highest rate of AdamW.
        weight_decay: Decoupled decay, on matrices only.
        batch_size: Windows a step; every window brings all its channels.
        max_epochs: Passes over the training windows at most.
        patience: Passes without a better validation loss before training stops; ``None`` never stops early.
        warmup: Share of all steps in which the rate rises from zero; after them it falls by a half cosine.
        max_seconds: Time after which training stops at the next step and the best weights so far are kept; ``None``
            is no limit. Counted from this call, also when it goes on from a checkpoint.
        precision: ``"bf16"`` multiplies matrices in bfloat16; ``None`` is float32 throughout.
        compile: Run the network through ``torch.compile`` while training.

    Raises:
        ValueError: If a value is out of its range.
    """

    loss: str = "mse"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    batch_size: int = 128
    max_epochs: int = 10
    patience: int | None = 3
    warmup: float = 0.1
    max_seconds: float | None = None
    precision: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}")
        for name in ("batch_size", "max_epochs", *(["patience"] if self.patience is not None else [])):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
        if self.precision not in (None, "bf16"):
            raise ValueError(f"precision must be None or 'bf16'; got {self.precision!r}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_time must be above 0; got {self.max_seconds!r} seconds; leave it out for no limit")
        for name, low, high in (
            ("learning_rate", 0.0, math.inf),
            ("weight_decay", 0.0, math.inf),
            ("warmup", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value < high or (name == "learning_rate" and value == 0):
                raise ValueError(f"{name} must be at least {low} and below {high}; got {value!r}")


@dataclass(frozen=True)
class Generators:
    """Three independent sources of chance: start values, order of windows, dropout masks."""

    init: torch.Generator
    order: torch.Generator
    masks: torch.Generator

    @classmethod
    def from_seed(cls, seed: int | None, device: torch.device) -> "Generators":
        """Make them from one seed; ``None`` asks the operating system, never a global generator."""
        entropy = secrets.randbits(63) if seed is None else seed
        init, order, masks = (int(s.generate_state(1, np.uint64)[0]) for s in np.random.SeedSequence(entropy).spawn(3))
        return cls(
            torch.Generator().manual_seed(init),
            torch.Generator().manual_seed(order),
            torch.Generator(device=device).manual_seed(masks),
        )


@dataclass
class Progress:
    """Where training stands and what came of it.

    Attributes:
        epoch: Passes done.
        step: Steps done.
        best_epoch: Pass, counted from 1, whose weights were best on the validation span (the last without one).
        best_score: Its validation loss.
        timed_out: Whether the time limit ended it.
        history: One entry a pass: ``epoch``, ``train_loss``, ``valid_loss`` (None without validation),
            ``learning_rate``.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_score: float | None = None
    timed_out: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


class ForecastDataModule(lightning.LightningDataModule):
    """Hands the resident windows to Lightning as they are; no loader, no workers, no samples."""

    def __init__(self, train: WindowBatches, valid: WindowBatches | None) -> None:
        super().__init__()
        self._train, self._valid = train, valid

    @property
    def has_validation(self) -> bool:
        """Whether there are windows to check on."""
        return self._valid is not None

    def train_dataloader(self) -> WindowBatches:
        return self._train

    def val_dataloader(self) -> WindowBatches | list[Any]:
        return [] if self._valid is None else self._valid


class ForecastModule(lightning.LightningModule):
    """One network, one loss, AdamW with warm-up and decay; remembers the best weights on the validation span."""

    def __init__(self, model: nn.Module, config: TrainConfig, *, steps_per_epoch: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.progress = Progress()
        self.best = copy.deepcopy(model.state_dict())
        self.after_epoch: list[Callable[[ForecastModule], None]] = []
        self._loss = LOSSES[config.loss]
        head = getattr(model, "head", None)
        self._head: list[AnyHead | None] = [head if isinstance(head, AnyHead) else None]
        self.masked = bool(getattr(getattr(model, "config", None), "masked", False))
        # Not a submodule: names of weights stay those of the plain network.
        self._forward = [torch.compile(model) if config.compile else model]
        self._deadline = None if config.max_seconds is None else time.monotonic() + config.max_seconds
        self._n_steps = steps_per_epoch * config.max_epochs
        self._train_sum, self._valid_sum = torch.zeros(2), torch.zeros(2, dtype=torch.float64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; vectors and scalars (norms, biases) are not decayed."""
        named = list(self.model.named_parameters())
        groups = [
            {"params": [p for _, p in named if p.ndim > 1], "weight_decay": self.config.weight_decay},
            {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=self.config.learning_rate, fused=True)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = max(round(self.config.warmup * self._n_steps), 1)
        if step < rise:
            share = (step + 1) / rise
        else:
            share = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(self._n_steps - rise, 1)))
        return self.config.learning_rate * share

    def on_train_epoch_start(self) -> None:
        self._train_sum = torch.zeros(2, device=self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate(self.progress.step)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch ``(x [B, T, C], y [B, F, C])``."""
        x, y = batch
        loss, count = self._judge(x, y)
        self._train_sum += torch.stack((loss.detach() * count, loss.new_tensor(count)))
        self.progress.step += 1
        if self._deadline is not None and time.monotonic() > self._deadline:
            # Lightning validates and books the pass that it ends early.
            self.progress.timed_out = self.trainer.should_stop = True
        return loss

    def _judge(self, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """Mean loss of a batch and the number of values behind it; missing ones have no part in either."""
        forecast, head = self._network(x), self._head[0]
        if head is None:
            return self._loss(forecast, y), y.numel()
        # A channel of which the context shows nothing has no forecast.
        known = y.isfinite() & x.isfinite().any(1, keepdim=True) if self.masked else None
        kind = self.config.loss if isinstance(head, PointHead) else None
        return head.loss(forecast, y, known, kind=kind), y.numel() if known is None else int(known.sum())

    def _network(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            y: Tensor = self._forward[0](x)
        return y.to(x.dtype)

    def on_validation_epoch_start(self) -> None:
        self._valid_sum = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add up the loss so that every known value counts the same, whatever the batch size."""
        x, y = batch
        loss, count = self._judge(x, y)
        self._valid_sum += torch.stack((loss.double() * count, self._valid_sum.new_tensor(count)))

    def on_train_epoch_end(self) -> None:
        """Book the pass, keep the best weights, stop when patience is over."""
        progress, score = self.progress, None
        train_loss = float(self._train_sum[0] / self._train_sum[1])
        if self._valid_sum[1] > 0:
            score = float(self._valid_sum[0] / self._valid_sum[1])
        if not math.isfinite(train_loss) or not math.isfinite(0.0 if score is None else score):
            raise ValueError(
                f"the loss became {train_loss} in epoch {progress.epoch + 1}; lower learning_rate"
                f" ({self.config.learning_rate}) or look for extreme values in the data"
            )
        rate = self.rate(progress.step - 1)
        progress.epoch += 1
        progress.history.append(
            {"epoch": progress.epoch, "train_loss": train_loss, "valid_loss": score, "learning_rate": rate}
        )
        if score is None or progress.best_score is None or score < progress.best_score:
            progress.best_epoch, progress.best_score = progress.epoch, score
            self.best = copy.deepcopy(self.model.state_dict())
        patience = self.config.patience
        if score is not None and patience is not None and progress.epoch - progress.best_epoch >= patience:
            self.trainer.should_stop = True
        for action in self.after_epoch:
            action(self)


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

    def write(self, module: ForecastModule) -> None:
        """Write weights, best weights, optimiser, generators and position; then drop the epoch before."""
        tensors = {f"model.{k}": v for k, v in module.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in module.best.items()}
        for index, state in module.trainer.optimizers[0].state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in state.items()}
        tensors["generator.order"] = self.generators.order.get_state()
        tensors["generator.masks"] = self.generators.masks.get_state()
        older = self.files()
        facts = {"key": self.key, "stopped": module.trainer.should_stop, "progress": vars(module.progress)}
        write_tensors(self.path(module.progress.epoch), tensors, facts)
        for path in older:
            if path != self.path(module.progress.epoch):
                path.unlink(missing_ok=True)

    def resume(self, module: ForecastModule, optimiser: torch.optim.Optimizer) -> bool:
        """Load the newest file, if there is one; True when training had already stopped there."""
        files = self.files()
        if not files:
            return False
        tensors, facts = read_tensors(files[-1])
        if facts.get("key") != self.key:
            raise ValueError(f"{files[-1]} belongs to other data or parameters; remove it or change checkpoint_dir")
        module.progress = Progress(**facts["progress"])
        module.model.load_state_dict(_part(tensors, "model."))
        module.best = _part(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
        self.generators.order.set_state(tensors["generator.order"])
        self.generators.masks.set_state(tensors["generator.masks"])
        return bool(facts["stopped"])


def train(
    model: nn.Module,
    train_windows: WindowBatches,
    valid_windows: WindowBatches | None,
    config: TrainConfig,
    *,
    generators: Generators,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    verbose: bool = False,
) -> Progress:
    """Train ``model`` in place and leave the weights that were best on the validation windows in it.

    Args:
        model: Maps ``[B, T, C]`` to ``[B, F, C]``, or to the parameters of its head, ``[B, F, C, P]``.
        train_windows: What to learn from, on the standardised scale.
        valid_windows: What decides when to stop; ``None`` trains all epochs and keeps the last weights.
        config: How long and how fast.
        generators: Order and dropout masks.
        device: Where to compute.
        checkpoint: Write each epoch there and go on from what stands there.
        verbose: Show progress on stderr when that is a terminal.

    Returns:
        What happened, epoch by epoch.

    Raises:
        ValueError: If the loss stops being finite, or a checkpoint is damaged.
    """
    model.to(device)
    set_generator(model, generators.masks)
    module = ForecastModule(model, config, steps_per_epoch=len(train_windows))
    done = False
    if checkpoint is not None:
        optimiser = module.configure_optimizers()
        done = checkpoint.resume(module, optimiser)
        module.configure_optimizers = lambda: optimiser  # type: ignore[method-assign]
        module.after_epoch.append(checkpoint.write)
    if not done and module.progress.epoch < config.max_epochs:
        _run(module, ForecastDataModule(train_windows, valid_windows), device, verbose)
    set_generator(model, None)
    model.load_state_dict(module.best)
    model.eval()
    return module.progress


def _run(module: ForecastModule, data: ForecastDataModule, device: torch.device, verbose: bool) -> None:
    """Hand the epochs that are left to Lightning, without its words and without its way to end the process."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    with _quiet():
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_epochs=module.config.max_epochs - module.progress.epoch,
            gradient_clip_val=1.0,
            limit_val_batches=1.0 if data.has_validation else 0,
            callbacks=[_ProgressLine()] if verbose and sys.stderr.isatty() else [],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, datamodule=data)
        except SystemExit as left:
            # Lightning answers an interrupt by turning the signal off and leaving; both are the caller's to decide.
            if isinstance(left.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, on_interrupt)
                raise KeyboardInterrupt from None
            raise


class _ProgressLine(lightning.Callback):
    """One line on stderr that is written over after each epoch."""

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, ForecastModule)
        last = pl_module.progress.history[-1]
        valid = "" if last["valid_loss"] is None else f", validation {last['valid_loss']:.4f}"
        sys.stderr.write(f"\repoch {last['epoch']}: training {last['train_loss']:.4f}{valid}  ")
        sys.stderr.flush()

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        sys.stderr.write("\n")


class _OneWarning:
    """Ignores one known warning while any fit runs, in any thread, and leaves the user's filters as they were.

    ``warnings.catch_warnings`` would restore a stale list when two threads leave it in another order.
    """

    # Lightning up to 2.6 asks torch 2.9 and later for a class they call deprecated (its issue 21326).
    message = r"`isinstance\(treespec, LeafSpec\)` is deprecated"

    def __init__(self) -> None:
        self._lock = Lock()
        self._users = 0
        self._mine: Any = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                before = list(warnings.filters)
                warnings.filterwarnings("ignore", message=self.message, category=FutureWarning)
                self._mine = None if warnings.filters[0] in before else warnings.filters[0]

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._mine in warnings.filters:
                warnings.filters.remove(self._mine)  # type: ignore[attr-defined]


_ONE_WARNING = _OneWarning()


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what Lightning's loggers say to this thread, and one warning that is no matter of the user's."""
    mine = get_ident()

    def keep(record: LogRecord) -> bool:
        return record.thread != mine

    loggers = [getLogger(name) for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch")]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        with _ONE_WARNING:
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(keep)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
