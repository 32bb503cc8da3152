"""Callbacks and a logger of Lightning, and a loss, that the user adds to a training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.loggers import Logger
    from torch import Tensor


# Name of each part, and what its function may return.
_EXAMPLES = (("callbacks", "[EarlyStopping('valid_loss')]"), ("logger", "CSVLogger('logs')"))


@dataclass(frozen=True, repr=False)
class TrainerParts:
    """Callbacks, a logger and a loss for a training: ``Training(trainer=TrainerParts(...))``.

    The first two are functions, which each fit calls once: copies of a forecaster, such as
    those of a backtest, then share neither the counts of a callback nor a log. After each epoch
    ``train_loss``, ``valid_loss`` (where there are validation windows) and ``learning_rate``
    are logged, and callbacks may monitor them. After the training the network has the weights
    with the least validation loss, whatever a callback has done to it. A saved forecaster is
    loaded without its parts: set them again before another fit. A forecaster with a lambda
    cannot be pickled; one with a function of a module can. A fit that goes on from
    ``checkpoint_dir`` has new callbacks; a loss that gives other values begins another fit.

    Args:
        callbacks: Makes the callbacks, such as ``lambda: [EarlyStopping("valid_loss")]``; ``None``
            adds none.
        logger: Makes the logger, such as ``lambda: CSVLogger("logs")``; ``None`` logs nothing.
        loss: The loss of each value, from points and truth of one shape on the standardised scale,
            in place of ``Training.loss``. With ``lambda point, truth: torch.maximum(truth - point,
            (point - truth) / 4)`` four fifths of the truth lie below the points. Missing values do
            not count.

    Raises:
        TypeError: If one of them is no function.

    Example:
        >>> def make_callbacks():
        ...     from lightning.pytorch.callbacks import EarlyStopping
        ...
        ...     return [EarlyStopping("valid_loss", patience=2)]
        >>> parts = TrainerParts(callbacks=make_callbacks)
        >>> [type(callback).__name__ for callback in parts.make_callbacks()]
        ['EarlyStopping']
    """

    callbacks: Callable[[], "Iterable[Callback]"] | None = None
    logger: Callable[[], "Logger"] | None = None
    loss: "Callable[[Tensor, Tensor], Tensor] | None" = None

    def __post_init__(self) -> None:
        for name, example in _EXAMPLES:
            make = getattr(self, name)
            if make is not None and not callable(make):
                raise TypeError(
                    f"{name} must be a function that makes them, so that each fit has its own; got"
                    f" {make!r}; write {name}=lambda: {example}"
                )
        if self.loss is not None and not callable(self.loss):
            raise TypeError(
                f"loss must be a function of points and truth; got {self.loss!r}; write"
                " loss=lambda point, truth: (truth - point) ** 4, or name a usual loss by"
                " Training(loss=...)"
            )

    def __repr__(self) -> str:
        # Without addresses in memory: a checkpoint belongs to a fit with the same parts.
        fields = ("callbacks", "logger", "loss")
        parts = [f"{name}={_name(getattr(self, name))}" for name in fields]
        return f"TrainerParts({', '.join(parts)})"

    def make_callbacks(self) -> "list[Callback]":
        """New callbacks for one fit.

        Raises:
            TypeError: If the function returns anything else.
        """
        from lightning.pytorch.callbacks import Callback

        made: Any = [] if self.callbacks is None else self.callbacks()
        listed = [*made] if isinstance(made, Iterable) else [made]
        for callback in listed:
            if not isinstance(callback, Callback):
                raise TypeError(
                    "callbacks must return Lightning callbacks in a list; got"
                    f" {type(callback).__name__}; derive the class from"
                    " lightning.pytorch.callbacks.Callback"
                )
        return listed

    def make_logger(self) -> "Logger | None":
        """A new logger for one fit.

        Raises:
            TypeError: If the function returns anything else.
        """
        from lightning.pytorch.loggers import Logger

        made = None if self.logger is None else self.logger()
        if self.logger is not None and not isinstance(made, Logger):
            raise TypeError(
                f"logger must return a Lightning logger; got {type(made).__name__}; return one such"
                " as lightning.pytorch.loggers.CSVLogger('logs')"
            )
        return made


def _name(make: Callable[..., Any] | None) -> str:
    """A function by its name and module."""
    name = getattr(make, "__qualname__", None)
    return repr(make) if name is None else f"{getattr(make, '__module__', '')}.{name}"
