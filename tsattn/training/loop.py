"""Training of a network by Lightning, in one process or several."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Checkpoint as CheckpointCallback
from lightning.pytorch.callbacks import LambdaCallback, ModelSummary, ProgressBar
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from tsattn.data.training_windows import WindowBatches
from tsattn.limits import Shared
from tsattn.nn.heads import AnyHead, PointHead, point_loss
from tsattn.nn.layers import set_generator
from tsattn.random import Generators
from tsattn.silence import LIGHTNING, interruptible, silenced
from tsattn.terminal import NO_LINE, progress_line
from tsattn.training.evidence import block_losses, check_blocks, clearly_lower
from tsattn.training.parts import TrainerParts
from tsattn.training.processes import DDPSettings, Team, run_processes
from tsattn.training.settings import Training
from tsattn.training.state import Checkpoint, Progress

# Share of all steps in which the learning rate rises from zero; after them it falls by a half
# cosine.
_WARMUP = 0.1
# Learning rate where the settings name none.
_RATE = 1e-3
# Largest norm of the gradient of a step.
_GRADIENT_NORM = 1.0
# Parts of Lightning that are switched off. Its logger and checkpoints write files that nobody asked
# for, its progress bar wrote 3,700 characters in three epochs to a stdout that was no terminal, and
# the summary and the first validation batches print as well.
_SWITCHED_OFF: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
# Options that Lightning wants switched on beside callbacks of these kinds.
_NEEDS = {
    "enable_checkpointing": CheckpointCallback,
    "enable_progress_bar": ProgressBar,
    "enable_model_summary": ModelSummary,
}


class ForecastModule(lightning.LightningModule):
    """One network with its loss and AdamW; keeps the best weights on the validation windows.

    Args:
        model: The network.
        config: How it learns.
        steps_per_epoch: Steps of an epoch.
        team: The processes that train together; default this one alone.
        masks: Source of dropout masks.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Training,
        *,
        steps_per_epoch: int,
        team: Team | None = None,
        masks: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.progress = Progress()
        self.best = copy.deepcopy(model.state_dict())
        self.after_epoch: list[Callable[[ForecastModule], None]] = []
        self.line = NO_LINE
        self.team = Team() if team is None else team
        self._masks = masks
        self._loss = config.own_loss or config.loss
        head = getattr(model, "head", None)
        if not isinstance(head, AnyHead):
            head = None
        # In a list, so that torch does not register it a second time.
        self._head: list[AnyHead | None] = [head]
        model_config = getattr(model, "config", None)
        self.masked = bool(getattr(model_config, "masked", False))
        self.highest_rate = _RATE if config.learning_rate is None else config.learning_rate
        self._deadline = math.inf
        if config.max_seconds is not None:
            self._deadline = time.monotonic() + config.max_seconds
        self.n_steps = steps_per_epoch * config.n_epochs
        # Sum of losses and number of values of an epoch.
        self._train_sum = torch.zeros(2)
        self._valid_sum = torch.zeros(2, dtype=torch.float64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; vectors and scalars (norms, biases) are not decayed."""
        parameters: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            is_skip = name.startswith("skip.")
            is_vector = parameter.ndim <= 1
            group_parameters = parameters.setdefault((is_skip, is_vector), [])
            group_parameters.append(parameter)
        groups = []
        for is_skip, is_vector in sorted(parameters):
            group = {
                "params": parameters[is_skip, is_vector],
                "weight_decay": 0.0 if is_vector else self.config.weight_decay,
                "factor": self.config.skip_rate if is_skip else 1.0,
            }
            groups.append(group)
        return torch.optim.AdamW(groups, lr=self.highest_rate, fused=True)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        n_warmup = max(round(_WARMUP * self.n_steps), 1)
        if step < n_warmup:
            share = (step + 1) / n_warmup
            return self.highest_rate * share
        n_decay = max(self.n_steps - n_warmup, 1)
        angle = math.pi * (step - n_warmup) / n_decay
        share = 0.5 * (1 + math.cos(angle))
        return self.highest_rate * share

    def on_train_epoch_start(self) -> None:
        self._train_sum = torch.zeros(2, device=self.device)
        if self._masks is None:
            return
        is_elsewhere = self._masks.device.type != self.device.type
        if self.team.size > 1 or is_elsewhere:
            # Masks of its own for each process, anew at each pass, so that a resumed fit draws the
            # same ones; and for a single one that a launcher started, whose generator waits on the
            # CPU for a GPU's network.
            seed = self.team.own_seed(self._masks)
            generator = torch.Generator(self.device).manual_seed(seed)
            set_generator(self.model, generator)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        optimiser = self.trainer.optimizers[0]
        rate = self.rate(self.progress.step)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        """Loss of one batch ``(x [B, T, C], y [B, F, C])``, or of this process's share of it, B
        perhaps 0.

        A third part holds covariates by name, as the network takes them.
        """
        x, y, *covariates = batch
        if len(x):
            loss, count = self.judge(x, y, *covariates)
        else:
            loss, count = self._zero_loss(), 0
        total = loss.detach() * count
        self._train_sum += torch.stack((total, loss.new_tensor(count)))
        self.progress.step += 1
        late = time.monotonic() > self._deadline
        if self.team.size > 1:
            count_and_late = torch.tensor([count, late], dtype=torch.float64, device=self.device)
            total_count, total_late = self.team.total(count_and_late)
            # DDP takes the mean over processes: the sum over values, whoever has them, is what one
            # process gets.
            factor = count * self.team.size / total_count
            loss = loss * factor.to(loss.dtype)
            has_deadline = self._deadline < math.inf
            late = has_deadline and bool(total_late > 0)
        if late:
            self.progress.timed_out = True
            # Lightning validates and books the epoch that it ends early.
            self.trainer.should_stop = True
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        progress = self.progress
        if self.line.due:
            last_record = progress.history[-1] if progress.history else {}
            valid = last_record.get("valid_loss")
            total, count = self._train_sum
            loss = float(total / count)
            self.line.draw(progress.epoch + 1, progress.step, loss, valid)

    def _zero_loss(self) -> Tensor:
        """A loss of 0 that has a gradient for every weight: the other processes wait for it."""
        sums = [parameter.sum() for parameter in self.model.parameters()]
        return 0.0 * torch.stack(sums).sum()

    def judge(
        self, x: Tensor, y: Tensor, covariates: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, int]:
        """Mean loss of a batch and the number of values behind it, without missing ones."""
        forecast = self._network(x, covariates or {})
        head = self._head[0]
        if head is None:
            return point_loss(forecast, y, kind=self._loss), y.numel()
        kind = {"kind": self._loss} if isinstance(head, PointHead) else {}
        if not self.masked:
            return head.loss(forecast, y, None, **kind), y.numel()
        # A channel of which the context shows nothing has no forecast.
        has_context = x.isfinite().any(1, keepdim=True)
        usable = y.isfinite() & has_context
        n_usable = int(usable.sum())
        return head.loss(forecast, y, usable, **kind), n_usable

    def _network(self, x: Tensor, covariates: Mapping[str, Tensor]) -> Tensor:
        """Forecasts in the precision of the settings."""
        is_narrow = self.config.precision == "bf16"
        kind = x.device.type
        # Inside an autocast of the user a cache would hold the weights of the first step.
        with torch.autocast(kind, torch.bfloat16, enabled=is_narrow, cache_enabled=False):
            y = self.model(x, **covariates)
        return y.to(x.dtype)

    def on_validation_epoch_start(self) -> None:
        self._valid_sum = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> None:
        """Add up the loss so that every value counts the same, whatever the batch size."""
        x, y, *covariates = batch
        if len(x):
            loss, count = self.judge(x, y, *covariates)
            total = loss.double() * count
            n_values = self._valid_sum.new_tensor(count)
            self._valid_sum += torch.stack((total, n_values))

    def on_train_epoch_end(self) -> None:
        """Record the epoch, keep the best weights, stop when patience is over."""
        progress = self.progress
        score = None
        train_sum = self.team.total(self._train_sum)
        valid_sum = self.team.total(self._valid_sum.to(self.device))
        train_loss = float(train_sum[0] / train_sum[1])
        if valid_sum[1] > 0:
            score = float(valid_sum[0] / valid_sum[1])
        valid_loss = 0.0 if score is None else score
        if not math.isfinite(train_loss) or not math.isfinite(valid_loss):
            raise ValueError(
                f"the loss became {train_loss} in epoch {progress.epoch + 1}; lower learning_rate"
                f" ({self.highest_rate}) or look for extreme values in the data"
            )
        rate = self.rate(progress.step - 1)
        progress.epoch += 1
        record = {
            "epoch": progress.epoch,
            "train_loss": train_loss,
            "valid_loss": score,
            "learning_rate": rate,
        }
        progress.history.append(record)
        if isinstance(self.config.trainer, TrainerParts):
            # Lightning counts the epochs itself.
            metrics = {name: x for name, x in record.items() if name != "epoch" and x is not None}
            self.log_dict(metrics)
        self._keep_best(score)
        self.line.draw(progress.epoch, progress.step, train_loss, score)
        for action in self.after_epoch:
            action(self)

    # Lightning's EarlyStopping takes as long (40 epochs: .326 s with it, .329 s without). It would
    # make the comparison a second time, keeps no weights, ends on a loss of NaN without an error,
    # and has a state of its own, which a resumed fit would have to restore. ModelCheckpoint keeps
    # the best weights in files, which a fit writes only where it is asked to.
    def _keep_best(self, score: float | None) -> None:
        """Keep weights that are better than all before, and stop when patience is over."""
        progress = self.progress
        best_score = progress.best_score
        # Without scores to compare, the last weights count as the best.
        if score is None or best_score is None or score < best_score:
            progress.best_epoch = progress.epoch
            progress.best_score = score
            self.best = copy.deepcopy(self.model.state_dict())
        patience = self.config.patience
        if score is None or patience is None:
            return
        n_without_gain = progress.epoch - progress.best_epoch
        if n_without_gain >= patience:
            self.trainer.should_stop = True


def train(
    model: nn.Module,
    train_windows: WindowBatches,
    valid_windows: WindowBatches | None,
    config: Training,
    *,
    generators: Generators,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    title: str | None = None,
    processes: DDPSettings | None = None,
    after_epoch: Callable[[ForecastModule], None] | None = None,
) -> Progress:
    """Train ``model`` in place; it then holds the weights with the least validation loss.

    Args:
        model: Maps ``[B, T, C]`` to ``[B, F, C]``, or to the parameters of its head,
            ``[B, F, C, P]``.
        train_windows: What to learn from, on the standardised scale.
        valid_windows: What decides when to stop; ``None`` trains all epochs and keeps the last
            weights.
        config: How long and how fast.
        generators: Order and dropout masks.
        device: Where to compute.
        checkpoint: Write each epoch there and go on from what stands there.
        title: Name under which progress is shown on stderr where that is a terminal; ``None`` shows
            nothing.
        processes: Train in several processes, each on its share of every batch; ``None`` is this
            one alone.
        after_epoch: Called after each epoch; what it raises ends the training. In this process
            only.

    Returns:
        What happened, epoch by epoch.

    Raises:
        ValueError: If the loss stops being finite, a checkpoint is damaged, processes do not find
            the same one, or the validation windows are too few for ``skip_level``; nothing has been
            trained in the last case.
        RuntimeError: If one of several processes was lost.
    """
    if config.skip_level is not None:
        check_blocks(valid_windows, config.skip_level)
    if processes is not None and processes.starts_some:
        options = {
            "generators": generators,
            "device": device,
            "checkpoint": checkpoint,
            "title": title,
        }
        job = (model, (train_windows, valid_windows, config), options)
        weights, progress = run_processes(_train_here, job, processes, device)
        model.load_state_dict(weights)
        model.to(device).eval()
        return progress
    team = Team(device=device)
    if processes is not None and processes.joins_some:
        team = processes.join(device)
    n_passes = config.n_passes(len(train_windows))
    train_windows = train_windows.repeated(n_passes)
    train_windows = train_windows.share(team.rank, team.size).to(team.device)
    if valid_windows is not None:
        valid_windows = valid_windows.share(team.rank, team.size).to(team.device)
    module = _start_module(model, config, len(train_windows), team, generators)
    start = module.best
    done = checkpoint is not None and _resume(module, checkpoint)
    if after_epoch is not None:
        module.after_epoch.append(after_epoch)
    if not done and module.progress.epoch < config.n_epochs:
        _run(module, (train_windows, valid_windows), title, processes)
    set_generator(model, None)
    model.load_state_dict(module.best)
    # Lightning leaves the network on the CPU.
    model.to(team.device).eval()
    if config.skip_level is not None and valid_windows is not None:
        _keep_start_unless_better(module, start, valid_windows, config.skip_level)
    return module.progress


def _start_module(
    model: nn.Module,
    config: Training,
    steps_per_epoch: int,
    team: Team,
    generators: Generators,
) -> ForecastModule:
    """The module that trains a network on the device of its process, alike in all processes."""
    model.to(team.device)
    team.begin_alike(model.state_dict(), generators.order, generators.masks)
    set_generator(model, generators.masks)
    return ForecastModule(
        model, config, steps_per_epoch=steps_per_epoch, team=team, masks=generators.masks
    )


def _keep_start_unless_better(
    module: ForecastModule, start: Mapping[str, Tensor], windows: WindowBatches, level: float
) -> None:
    """Restore the weights of the start where the best ones are not clearly better.

    The network holds the best ones. Both are judged on validation windows, or one process's share
    of them: all processes come to the same end.
    """
    team = module.team
    progress = module.progress

    def losses() -> Tensor:
        shares = block_losses(module.judge, windows).to(team.device)
        return team.total(shares).cpu()

    best = losses()
    module.model.load_state_dict(start)
    first = losses()
    if clearly_lower(best, first, level):
        module.model.load_state_dict(module.best)
    else:
        total = first[0].sum()
        count = first[1].sum()
        progress.best_epoch = 0
        progress.best_score = float(total / count)


def _resume(module: ForecastModule, checkpoint: Checkpoint) -> bool:
    """Go on from a checkpoint, and write each epoch there.

    Returns:
        Whether training had already stopped.
    """
    optimiser = module.configure_optimizers()
    done = checkpoint.resume(module, optimiser)
    module.configure_optimizers = lambda: optimiser  # type: ignore[method-assign]
    if not module.team.agree((module.progress.step, done)):
        raise ValueError(
            f"processes that train together found different epochs in {checkpoint.folder};"
            " checkpoint_dir must be one folder that all of them see"
        )
    if module.team.rank == 0:
        module.after_epoch.append(checkpoint.write)
    return done


def _train_here(
    model: nn.Module, windows_and_config: tuple[Any, ...], options: dict[str, Any]
) -> tuple[dict[str, Tensor], Progress]:
    """Train as one of several processes."""
    progress = train(model, *windows_and_config, **options, processes=DDPSettings())
    return model.cpu().state_dict(), progress


def at_start(call: Callable[..., None]) -> LambdaCallback:
    """A Lightning callback that calls a function once training has begun."""
    return LambdaCallback(on_train_start=call)


def at_error(call: Callable[[BaseException], None]) -> LambdaCallback:
    """A Lightning callback that calls a function with the error that ends a training."""
    return LambdaCallback(on_exception=lambda trainer, module, error: call(error))


def one_process() -> LightningEnvironment:
    """The environment of a single process, without which Lightning refuses to train alone in a
    SLURM job of several tasks.
    """
    return LightningEnvironment()


def _run(
    module: ForecastModule,
    windows: tuple[WindowBatches, WindowBatches | None],
    title: str | None,
    processes: DDPSettings | None,
) -> None:
    """Train the epochs that are left, silently, and without Lightning's way to end the process."""
    config = module.config
    progress = module.progress
    train_windows, valid_windows = windows
    # One process shows the progress of all.
    shown_title = title if module.team.rank == 0 else None
    # Lightning warns of None.
    validation_batches: Any = [] if valid_windows is None else valid_windows
    shown = progress_line(
        shown_title,
        n_epochs=config.n_epochs,
        n_steps=module.n_steps,
        seconds=config.max_seconds,
    )
    n_epochs_left = config.n_epochs - progress.epoch
    parts = config.trainer if isinstance(config.trainer, TrainerParts) else TrainerParts()
    callbacks = parts.make_callbacks()
    with (
        silenced(*LIGHTNING),
        _ONE_WARNING,
        shown as module.line,
        interruptible() as restore_handlers,
    ):
        trainer = lightning.Trainer(
            **_places(module.team, processes),
            **_SWITCHED_OFF | _options(parts, callbacks),
            callbacks=[at_start(restore_handlers), *callbacks],
            max_epochs=n_epochs_left,
            gradient_clip_val=_GRADIENT_NORM,
            limit_val_batches=0 if valid_windows is None else 1.0,
        )
        trainer.fit(module, train_windows, validation_batches)
        module.line.finish(_ending(progress, config.n_epochs))


def _options(parts: TrainerParts, callbacks: Sequence[lightning.Callback]) -> dict[str, Any]:
    """Options of Lightning's trainer for what the user adds to it."""
    options: dict[str, Any] = {
        name: True
        for name, kind in _NEEDS.items()
        if any(isinstance(callback, kind) for callback in callbacks)
    }
    if logger := parts.make_logger():
        # An epoch may have fewer steps than Lightning leaves between two log lines.
        options |= {"logger": logger, "log_every_n_steps": 1}
    return options


def _ending(progress: Progress, n_epochs: int) -> str:
    """Words that end the progress line."""
    if progress.epoch == n_epochs:
        return "done"
    if progress.timed_out:
        return "stopped by max_time"
    return f"stopped, best was epoch {progress.best_epoch}"


def _places(team: Team, processes: DDPSettings | None) -> dict[str, Any]:
    """Device and processes on which Lightning computes."""
    device = team.device
    is_cuda = device.type == "cuda"
    places: dict[str, Any] = {"accelerator": "gpu" if is_cuda else device.type}
    if processes is None or not processes.joins_some:
        places["devices"] = [device.index or 0] if is_cuda else 1
        places["plugins"] = one_process()
        return places
    places["devices"] = team.local_size
    places["num_nodes"] = team.size // team.local_size
    places["strategy"] = DDPStrategy(
        cluster_environment=TorchElasticEnvironment(),
        process_group_backend=processes.backend_for(device),
    )
    # Batches are shared out before they get here.
    places["use_distributed_sampler"] = False
    return places


def _ignore_one_warning() -> Callable[[], None]:
    """Ignore one warning while any fit runs, in any thread.

    The filters of the user stay as they were. ``warnings.catch_warnings`` would restore a stale
    list when two threads leave it in another order.
    """
    before = list(warnings.filters)
    # Lightning up to 2.6 asks torch 2.9 and later for a class they call deprecated (its issue
    # 21326).
    message = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    first = warnings.filters[0]

    def restore() -> None:
        # A filter that the user had set stays when the last fit ends.
        if first not in before and first in warnings.filters:
            warnings.filters.remove(first)  # type: ignore[attr-defined]

    return restore


_ONE_WARNING = Shared(_ignore_one_warning)
