"""The progress line of a training or a backtest: a bar, the state, the time gone and left."""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_BAR_COLUMNS = 16  # at most; a narrow terminal gets a shorter bar
_DEFAULT_COLUMNS = 80  # of a terminal that does not know its width
# Between two drawings: a step may take a millisecond, and nobody reads faster.
_PAUSE_SECONDS = 0.1
# From these numbers on, the next larger unit is shown.
_MOST_SECONDS = 100
_MOST_MINUTES = 100


class ProgressLine:
    """A line that each drawing overwrites; :func:`progress_line` makes and ends it.

    Args:
        stream: A terminal; ``None`` shows nothing.
        title: Name of what is trained or judged, at the head of the line.
        n_steps: Number of all steps.
        n_epochs: Largest number of epochs of a training.
        seconds: Time limit of this run; ``None`` is no limit.
    """

    def __init__(
        self,
        stream: TextIO | None,
        title: str,
        *,
        n_steps: int,
        n_epochs: int = 0,
        seconds: float | None = None,
    ) -> None:
        self._stream = stream
        self._title = title
        self._n_epochs = n_epochs
        self._n_steps = n_steps
        self._limit_seconds = seconds
        self._started_at = time.monotonic()
        self._step = 0
        self._first_step: int | None = None  # of the first drawing
        self._first_drawn_at = math.nan
        self._last_drawn_at = -math.inf
        self._text = ""
        # The first drawing covers a whole line, since other text may be on it.
        self._length = _DEFAULT_COLUMNS

    @property
    def due(self) -> bool:
        """Whether the last drawing is long enough ago for another one."""
        return self._stream is not None and time.monotonic() - self._last_drawn_at >= _PAUSE_SECONDS

    def draw(self, epoch: int, step: int, loss: float, valid: float | None) -> None:
        """Draw the state of a training.

        Args:
            epoch: The current or the last epoch, from 1.
            step: Number of steps made, with those of an interrupted run before.
            loss: Mean training loss of this epoch so far.
            valid: The last validation loss; ``None`` where there is none.
        """
        text = f"epoch {epoch} of {self._n_epochs}, loss {loss:.4f}"
        if valid is not None:
            text += f", validation {valid:.4f}"
        self.show(step, text)

    def advance(self, n_steps: int, text: str) -> None:
        """Count steps, and draw the line where that is due."""
        self._step += n_steps
        if self.due:
            self.show(self._step, text)

    def show(self, step: int | None, text: str) -> None:
        """Draw the line.

        Args:
            step: Number of steps made; ``None`` keeps the last number.
            text: The state.
        """
        if step is not None:
            self._step = step
        self._text = text
        seconds_gone = int(time.monotonic() - self._started_at)
        line = f"{text}, {in_words(seconds_gone)} gone"
        seconds_left = self._seconds_left()
        if seconds_left is not None:
            line += f", {in_words(seconds_left)} left"
        self._write(line)

    def finish(self, ending: str) -> None:
        """Draw the line for the last time, with its ending in the place of the times."""
        seconds_gone = time.monotonic() - self._started_at
        self._write(f"{self._text}, {ending} after {in_words(seconds_gone)}")

    def close(self) -> None:
        """End the line, so that later text begins a new one."""
        if self._stream is not None and self._last_drawn_at > -math.inf:
            self._stream.write("\n")
            self._stream.flush()

    def _seconds_left(self) -> float | None:
        """Seconds to the last step, at the pace since the first drawing; ``None`` at that drawing.

        The first step of a training is left out, because it also starts the libraries. Validation
        between the steps counts.
        """
        clock = time.monotonic()
        if self._first_step is None:
            self._first_step = self._step
            self._first_drawn_at = clock
        n_made = self._step - self._first_step
        n_left = self._n_steps - self._step
        if n_made == 0 and n_left > 0:
            return None
        seconds_a_step = (clock - self._first_drawn_at) / max(n_made, 1)
        seconds_left = seconds_a_step * n_left
        if self._limit_seconds is None:
            return seconds_left
        seconds_to_limit = self._limit_seconds - (clock - self._started_at)
        return max(min(seconds_left, seconds_to_limit), 0.0)

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        # A character in the last column would begin a new line.
        room = _columns(self._stream) - 1
        frame = len(f"{self._title} [] ")
        bar_columns = max(min(_BAR_COLUMNS, room - frame - len(text)), 0)
        n_filled = bar_columns * self._step // self._n_steps
        bar = "#" * n_filled + "." * (bar_columns - n_filled)
        line = f"{self._title} [{bar}] {text}"[:room]
        # Spaces cover what a longer line leaves.
        self._stream.write("\r" + line.ljust(min(self._length, room)))
        self._stream.flush()
        self._length = len(line)
        self._last_drawn_at = time.monotonic()


# A line that shows nothing, for what may be called without one.
NO_LINE = ProgressLine(None, "", n_steps=1)


@contextmanager
def progress_line(
    title: str | None, *, n_steps: int, n_epochs: int = 0, seconds: float | None = None
) -> Iterator[ProgressLine]:
    """Show a progress line on stderr during a block.

    Args:
        title: Name of what is trained or judged; ``None`` shows nothing.
        n_steps: Number of all steps.
        n_epochs: Largest number of epochs of a training.
        seconds: Time limit; ``None`` is no limit.

    Yields:
        The line; it shows nothing where stderr is no terminal.
    """
    shown = title is not None and sys.stderr is not None and sys.stderr.isatty()
    stream = sys.stderr if shown else None
    line = ProgressLine(stream, title or "", n_steps=n_steps, n_epochs=n_epochs, seconds=seconds)
    try:
        yield line
    finally:
        line.close()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_COLUMNS
    except (OSError, ValueError):  # a stream that calls itself a terminal and has no descriptor
        return _DEFAULT_COLUMNS


def in_words(seconds: float) -> str:
    """Whole seconds, minutes or hours. They are rounded up, so that time left is never zero."""
    if seconds <= _MOST_SECONDS:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    if minutes <= _MOST_MINUTES:
        return f"{minutes} min"
    return f"{math.ceil(minutes / 60)} h"
