"""Settings that decide how a network learns."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsattn.checks import (
    InputError,
    Name,
    check_choice,
    check_whole,
    check_whole_or_none,
    is_number,
)
from tsattn.limits import seconds_from
from tsattn.settings import Settings
from tsattn.training.parts import TrainerParts

LOSSES = ("mse", "mae", "huber")
SCALES = ("window", "series")
SKIPS = (True, False, "least_squares")
# Epochs where max_epochs is None.
_EPOCHS = 10
# Steps of each of these epochs at least.
_LEAST_STEPS = 30


@dataclass(frozen=True, repr=False)
class Training(Settings):
    """How long, how fast and on what a network learns.

    Args:
        loss: ``"mse"``, ``"mae"`` or ``"huber"`` (threshold 1), on the standardised scale, for
            points; the other heads are trained by the pinball loss or the likelihood.
        learning_rate: Highest rate of AdamW; it rises over the first tenth of the steps and falls
            by a cosine. ``None`` is 0.001, and 0.005 for linear models.
        weight_decay: Decoupled decay, of matrices only.
        scale: What a window is measured by: ``"window"``, its own mean and deviation, so that a
            forecast follows any shift and scale; or ``"series"``, those of the training rows of its
            series, which show linear models how a window differs from the usual. Encoders and
            ``"rlinear"`` measure each window anew, so only their intervals differ.
        batch_size: Windows a step; a window of series that look at one another brings all of them.
        max_epochs: Epochs at most, each one pass over the training windows. ``None`` is ten, and as
            what counts is the number of steps, each of as many passes as make up 30 of them.
        patience: Epochs without a better validation loss before stopping; ``None`` never stops
            early.
        linear_skip: Add a linear map from window to horizon to a transformer, learnt with the rest.
            ``"least_squares"`` solves it once on the training windows and holds it, so that the
            transformer learns the rest; for points, quantiles, ``"student_t"`` and
            ``"normal"``.
        skip_rate: Factor of the learning rate for a map that is learnt.
        skip_level: Percent of confidence, such as 95, with which the validation windows must show
            that the transformer improves on the solved map, by Student's t over blocks of windows
            as long as the horizon; where they do not, ``fit`` keeps the map alone
            (``summary_["best_epoch"]`` is 0). ``None`` keeps the epoch with the smallest validation
            loss, also one behind the map. With ``warm_start`` the fit before has to be improved on.
        target_transform: ``"log1p"`` or ``"sqrt"`` learn on that scale and answer on the original
            one; ``"nonnegative"`` cuts forecasts off at 0. All three refuse negative values.
        max_time: Time limit of ``fit``, such as ``"10m"`` or seconds; the best weights until then
            are kept. How far it gets depends on the machine, so results under a limit are not
            reproducible.
        precision: ``"bf16"`` multiplies matrices in bfloat16; ``None`` is float32.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:<n>"``; where a fitted network
            forecasts, too.
        n_threads: Threads of torch in ``fit`` and forecasts, after which torch's own number is set
            again. ``None`` is one for a small network, which more threads make hardly faster, and
            all of torch's for a large one.
        trainer: Several processes that train together
            (:class:`tsattn.training.processes.DDPSettings`), or callbacks, a logger and a loss of
            your own (:class:`tsattn.training.parts.TrainerParts`); ``None`` trains in this process.
        checkpoint_dir: Folder in which each epoch is kept, so that an unfinished fit goes on, and a
            finished one is not repeated, not even with ``random_state=None``; ``None`` writes
            nothing.

    Raises:
        ValueError: If a value is out of its range.
    """

    loss: str = "mse"
    scale: str = "window"
    learning_rate: float | None = None
    weight_decay: float = 0.0
    batch_size: int = 128
    max_epochs: int | None = None
    patience: int | None = 3
    linear_skip: bool | str = True
    skip_rate: float = 5.0
    skip_level: float | None = None
    target_transform: str | None = None
    max_time: str | float | None = None
    precision: str | None = None
    device: str = "auto"
    n_threads: int | None = None
    trainer: Any = None
    checkpoint_dir: str | Path | None = None

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, LOSSES)
        if self.own_loss is not None and self.loss != "mse":
            raise ValueError(
                f"there are two losses, {self.loss!r} and that of TrainerParts; leave out loss"
            )
        check_choice("scale", self.scale, SCALES)
        check_choice("linear_skip", self.linear_skip, SKIPS)
        check_whole("batch_size", self.batch_size)
        for name in ("max_epochs", "patience", "n_threads"):
            check_whole_or_none(name, getattr(self, name))
        check_choice("precision", self.precision, (None, "bf16"))
        seconds = self.max_seconds
        if seconds is not None and not seconds > 0:
            raise InputError(
                Name("max_time"),
                f" must be above 0; got {seconds!r} seconds; leave it out for no limit",
            )
        folder = self.checkpoint_dir
        # An empty text, such as that of a variable that is not set, would be the current folder.
        is_name = isinstance(folder, str | Path | None) and folder != ""
        if not is_name or (folder is not None and Path(folder).is_file()):
            raise ValueError(
                f"checkpoint_dir must be a folder, or a name for one; got {folder!r}; choose"
                " another"
            )
        self._check_rates()

    def _check_rates(self) -> None:
        level = self.skip_level
        if level is not None:
            is_percent = isinstance(level, int | float) and 0 < level < 100
            if not is_percent:
                raise ValueError(f"skip_level must be None or lie between 0 and 100; got {level!r}")
        if level is not None and self.linear_skip != "least_squares":
            raise ValueError(
                f"skip_level = {level} asks whether the transformer improves on a solved map, and"
                f" linear_skip is {self.linear_skip!r}; take linear_skip='least_squares' or leave"
                " skip_level out"
            )
        rates = {"skip_rate": self.skip_rate, "weight_decay": self.weight_decay}
        if self.learning_rate is not None:
            rates["learning_rate"] = self.learning_rate
        for name, value in rates.items():
            # Nothing is learnt at a rate of 0.
            is_rate = name.endswith("_rate")
            if not is_number(value) or not 0 <= value < math.inf or (is_rate and value == 0):
                least = "above 0" if is_rate else "at least 0"
                raise ValueError(f"{name} must be a finite number {least}; got {value!r}")

    @property
    def n_epochs(self) -> int:
        """Epochs at most."""
        return _EPOCHS if self.max_epochs is None else int(self.max_epochs)

    def n_passes(self, steps: int) -> int:
        """Passes over the training windows in an epoch, where one pass has so many steps."""
        if self.max_epochs is not None:
            return 1
        steps = max(steps, 1)
        return -(-_LEAST_STEPS // steps)  # rounded up

    @property
    def own_loss(self) -> Callable[..., Any] | None:
        """The loss of the user, in place of ``loss``."""
        return self.trainer.loss if isinstance(self.trainer, TrainerParts) else None

    @property
    def max_seconds(self) -> float | None:
        """The time limit in seconds."""
        return seconds_from(self.max_time)

    @property
    def solved(self) -> bool:
        """Whether the linear map beside a transformer is solved instead of learnt."""
        return self.linear_skip == "least_squares"
