"""Training: a thin Lightning module, its data and early stopping, in one process or several."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from tsattn.data.windows import WindowBatches
from tsattn.nn.heads import POINT_LOSSES, AnyHead, PointHead
from tsattn.nn.layers import set_generator
from tsattn.random import Generators
from tsattn.silence import LIGHTNING, interruptible, silenced
from tsattn.terminal import ProgressLine, progress_line
from tsattn.training.evidence import block_losses, check_blocks, clearly_lower
from tsattn.training.processes import DDPSettings, Team, run_processes
from tsattn.training.settings import Training
from tsattn.training.state import Checkpoint, Progress

# Share of all steps in which the learning rate rises from zero; after them it falls by a half
# cosine.
_WARMUP = 0.1
_RATE = 1e-3


class ForecastModule(lightning.LightningModule):
    """One network, one loss, AdamW with warm-up and decay; remembers the best weights on the
    validation span.
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
        self.line: ProgressLine | None = None
        self.team = Team() if team is None else team
        self._masks = masks
        self._loss = POINT_LOSSES[config.loss]
        head = getattr(model, "head", None)
        self._head: list[AnyHead | None] = [head if isinstance(head, AnyHead) else None]
        self.masked = bool(getattr(getattr(model, "config", None), "masked", False))
        self.highest_rate = _RATE if config.learning_rate is None else config.learning_rate
        self._deadline = (
            None if config.max_seconds is None else time.monotonic() + config.max_seconds
        )
        self.n_steps = steps_per_epoch * config.n_epochs
        self._train_sum, self._valid_sum = torch.zeros(2), torch.zeros(2, dtype=torch.float64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; vectors and scalars (norms, biases) are not decayed."""
        decay = self.config.weight_decay
        skip = self.config.skip_rate
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            groups.setdefault((name.startswith("skip."), parameter.ndim > 1), []).append(parameter)
        described = [
            {
                "params": group,
                "weight_decay": decay if matrices else 0.0,
                "factor": skip if beside else 1.0,
            }
            for (beside, matrices), group in sorted(
                groups.items(), key=lambda each: (each[0][0], not each[0][1])
            )
        ]
        return torch.optim.AdamW(described, lr=self.highest_rate, fused=True)

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rise = max(round(_WARMUP * self.n_steps), 1)
        if step < rise:
            share = (step + 1) / rise
        else:
            share = 0.5 * (1 + math.cos(math.pi * (step - rise) / max(self.n_steps - rise, 1)))
        return self.highest_rate * share

    def on_train_epoch_start(self) -> None:
        self._train_sum = torch.zeros(2, device=self.device)
        if self._masks is not None and (
            self.team.size > 1 or self._masks.device.type != self.device.type
        ):
            # Masks of its own for each process, anew at each pass, so that a resumed fit draws the
            # same ones; and for a single one that a launcher started, whose generator waits on the
            # CPU for a GPU's network.
            own = torch.Generator(self.device).manual_seed(self.team.own_seed(self._masks))
            set_generator(self.model, own)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.rate(self.progress.step) * group["factor"]

    def training_step(self, batch: tuple[Any, ...], batch_idx: int) -> Tensor:
        """Loss of one batch ``(x [B, T, C], y [B, F, C])``, or of this process's share of it, B
        perhaps 0.

        A third part holds covariates by name, as the network takes them.
        """
        x, y, *rest = batch
        loss, count = self.judge(x, y, *rest) if len(x) else (self._nothing(), 0)
        self._train_sum += torch.stack((loss.detach() * count, loss.new_tensor(count)))
        self.progress.step += 1
        late = self._deadline is not None and time.monotonic() > self._deadline
        if self.team.size > 1:
            whole = self.team.total(
                torch.tensor([count, late], dtype=torch.float64, device=self.device)
            )
            # DDP takes the mean over processes: the sum over values, whoever has them, is what one
            # process gets.
            loss = loss * (count * self.team.size / whole[0]).to(loss.dtype)
            late = self._deadline is not None and bool(whole[1] > 0)
        if late:
            # Lightning validates and books the epoch that it ends early.
            self.progress.timed_out = self.trainer.should_stop = True
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        progress = self.progress
        if self.line is not None and self.line.due:
            valid = progress.history[-1]["valid_loss"] if progress.history else None
            self.line.draw(
                progress.epoch + 1,
                progress.step,
                float(self._train_sum[0] / self._train_sum[1]),
                valid,
            )

    def _nothing(self) -> Tensor:
        """A loss of 0 that still has a gradient for every weight: the other processes
        wait for it.
        """
        return 0.0 * torch.stack([p.sum() for p in self.model.parameters()]).sum()

    def judge(
        self, x: Tensor, y: Tensor, covariates: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, int]:
        """Mean loss of a batch and the number of values behind it; missing ones have no part in
        either.
        """
        forecast = self._network(x, covariates or {})
        head = self._head[0]
        if head is None:
            return self._loss(forecast, y), y.numel()
        # A channel of which the context shows nothing has no forecast.
        known = y.isfinite() & x.isfinite().any(1, keepdim=True) if self.masked else None
        kind = self.config.loss if isinstance(head, PointHead) else None
        return head.loss(forecast, y, known, kind=kind), (
            y.numel() if known is None else int(known.sum())
        )

    def _network(self, x: Tensor, covariates: Mapping[str, Tensor]) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            y: Tensor = self.model(x, **covariates)
        return y.to(x.dtype)

    def on_validation_epoch_start(self) -> None:
        self._valid_sum = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: tuple[Any, ...], batch_idx: int) -> None:
        """Add up the loss so that every known value counts the same, whatever the batch size."""
        x, y, *rest = batch
        if len(x):
            loss, count = self.judge(x, y, *rest)
            self._valid_sum += torch.stack(
                (loss.double() * count, self._valid_sum.new_tensor(count))
            )

    def on_train_epoch_end(self) -> None:
        """Book the epoch, keep the best weights, stop when patience is over."""
        progress = self.progress
        score = None
        train_sum = self.team.total(self._train_sum)
        valid_sum = self.team.total(self._valid_sum.to(self.device))
        train_loss = float(train_sum[0] / train_sum[1])
        if valid_sum[1] > 0:
            score = float(valid_sum[0] / valid_sum[1])
        if not math.isfinite(train_loss) or not math.isfinite(0.0 if score is None else score):
            raise ValueError(
                f"the loss became {train_loss} in epoch {progress.epoch + 1}; lower learning_rate"
                f" ({self.highest_rate}) or look for extreme values in the data"
            )
        rate = self.rate(progress.step - 1)
        progress.epoch += 1
        progress.history.append(
            {
                "epoch": progress.epoch,
                "train_loss": train_loss,
                "valid_loss": score,
                "learning_rate": rate,
            }
        )
        if score is None or progress.best_score is None or score < progress.best_score:
            progress.best_epoch = progress.epoch
            progress.best_score = score
            self.best = copy.deepcopy(self.model.state_dict())
        patience = self.config.patience
        if (
            score is not None
            and patience is not None
            and progress.epoch - progress.best_epoch >= patience
        ):
            self.trainer.should_stop = True
        if self.line is not None:
            self.line.draw(progress.epoch, progress.step, train_loss, score)
        for action in self.after_epoch:
            action(self)


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
    """Train ``model`` in place and leave the weights that were best on the validation windows in
    it.

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
        told = {
            "generators": generators,
            "device": device,
            "checkpoint": checkpoint,
            "title": title,
        }
        job = (model, (train_windows, valid_windows, config), told)
        weights, progress = run_processes(_train_here, job, processes, device)
        model.load_state_dict(weights)
        model.to(device).eval()
        return cast(Progress, progress)
    team = (
        Team(device=device)
        if processes is None or not processes.joins_some
        else processes.join(device)
    )
    train_windows = train_windows.repeated(config.n_passes(len(train_windows)))
    train_windows = train_windows.share(team.rank, team.size).to(team.device)
    if valid_windows is not None:
        valid_windows = valid_windows.share(team.rank, team.size).to(team.device)
    model.to(team.device)
    team.begin_alike(model.state_dict(), generators.order, generators.masks)
    set_generator(model, generators.masks)
    module = ForecastModule(
        model, config, steps_per_epoch=len(train_windows), team=team, masks=generators.masks
    )
    start = module.best
    done = checkpoint is not None and _resume(module, checkpoint)
    if after_epoch is not None:
        module.after_epoch.append(after_epoch)
    if not done and module.progress.epoch < config.n_epochs:
        _run(module, (train_windows, valid_windows), title, processes)
    set_generator(model, None)
    model.load_state_dict(module.best)
    model.to(team.device).eval()  # Lightning leaves the network on the CPU
    if config.skip_level is not None and valid_windows is not None:
        _keep_start_unless_better(module, start, valid_windows, config.skip_level)
    return module.progress


def _keep_start_unless_better(
    module: ForecastModule, start: Mapping[str, Tensor], windows: WindowBatches, level: float
) -> None:
    """Put the weights of the start back where the best ones, which the network holds, are not
    clearly better.

    They are judged on validation windows, or one process's share of them: all processes come to the
    same end.
    """
    team = module.team
    progress = module.progress

    def losses() -> Tensor:
        return team.total(block_losses(module.judge, windows).to(team.device)).cpu()

    best = losses()
    module.model.load_state_dict(start)
    first = losses()
    if clearly_lower(best, first, level):
        module.model.load_state_dict(module.best)
    else:
        progress.best_epoch, progress.best_score = 0, float(first[0].sum() / first[1].sum())


def _resume(module: ForecastModule, checkpoint: Checkpoint) -> bool:
    """Go on from where a checkpoint stands, and keep it; True when training had already stopped
    there.
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
    model: nn.Module, given: tuple[Any, ...], told: dict[str, Any]
) -> tuple[dict[str, Tensor], Progress]:
    """What each process of a training in several does."""
    progress = train(model, *given, **told, processes=DDPSettings())
    return model.cpu().state_dict(), progress


def _run(
    module: ForecastModule,
    windows: tuple[WindowBatches, WindowBatches | None],
    title: str | None,
    processes: DDPSettings | None,
) -> None:
    """Hand the epochs that are left to Lightning, without its words and without its way to end the
    process.
    """
    config, progress, (train, valid) = module.config, module.progress, windows
    shown = progress_line(
        title if module.team.rank == 0 else None,
        n_epochs=config.n_epochs,
        n_steps=module.n_steps,
        seconds=config.max_seconds,
    )
    with silenced(*LIGHTNING), _ONE_WARNING, shown as module.line:
        trainer = lightning.Trainer(
            **_places(module.team, processes),
            max_epochs=config.n_epochs - progress.epoch,
            gradient_clip_val=1.0,
            limit_val_batches=0 if valid is None else 1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        with interruptible():
            trainer.fit(module, train, [] if valid is None else valid)  # Lightning warns of None
        if module.line is not None:
            early = (
                "stopped by max_time"
                if progress.timed_out
                else f"stopped, best was epoch {progress.best_epoch}"
            )
            module.line.finish("done" if progress.epoch == config.n_epochs else early)


def _places(team: Team, processes: DDPSettings | None) -> dict[str, Any]:
    """Where Lightning computes: on this process's device, beside the other processes if there are
    some.
    """
    device = team.device
    accelerator = "gpu" if device.type == "cuda" else device.type
    if processes is None or not processes.joins_some:
        return {
            "accelerator": accelerator,
            "devices": [device.index or 0] if device.type == "cuda" else 1,
        }
    return {
        "accelerator": accelerator,
        "devices": team.local_size,
        "num_nodes": team.size // team.local_size,
        "strategy": DDPStrategy(
            cluster_environment=TorchElasticEnvironment(),
            process_group_backend=processes.backend_for(device),
        ),
        "use_distributed_sampler": False,  # batches are shared out before they get here
    }


class _OneWarning:
    """Ignores one known warning while any fit runs, in any thread, and leaves the user's filters as
    they were.

    ``warnings.catch_warnings`` would restore a stale list when two threads leave it in another
    order.
    """

    # Lightning up to 2.6 asks torch 2.9 and later for a class they call deprecated (its issue
    # 21326).
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
