"""One line on a terminal that says how far a training or a backtest is: a bar, what is done,
seconds gone and left.
"""

import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_BAR = 16  # characters; fewer where the terminal is narrow
_COLUMNS = 80  # of a terminal that does not know its width
_PAUSE = 0.1  # seconds between two drawings: a step may take a millisecond, and nobody reads faster


class ProgressLine:
    """A line that is written over again and again; :func:`progress_line` makes and ends it.

    Args:
        stream: A terminal.
        title: What is being trained or judged, at the head of the line.
        n_steps: Steps altogether.
        n_epochs: Epochs of a training at most.
        seconds: Time limit of this run; ``None`` is none.
    """

    def __init__(
        self,
        stream: TextIO,
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
        self._seconds = seconds
        self._started = time.monotonic()
        self._first: tuple[int, float] | None = None  # step and time of the first drawing
        self._step = 0
        self._text = ""
        self._drawn, self._length = -math.inf, _COLUMNS  # another line may stand here

    @property
    def due(self) -> bool:
        """Whether the last drawing is long enough ago for another one."""
        return time.monotonic() - self._drawn >= _PAUSE

    def draw(self, epoch: int, step: int, loss: float, valid: float | None) -> None:
        """Write the line anew.

        Args:
            epoch: The epoch under way or just ended, from 1.
            step: Steps made, those of an earlier, interrupted run among them.
            loss: Mean training loss of this epoch so far.
            valid: The last validation loss; ``None`` where there is none.
        """
        checked = "" if valid is None else f", validation {valid:.4f}"
        self.show(step, f"epoch {epoch} of {self._n_epochs}, loss {loss:.4f}{checked}")

    def advance(self, n_steps: int, text: str) -> None:
        """Count steps, and write the line anew where that is due."""
        self._step += n_steps
        if self.due:
            self.show(self._step, text)

    def show(self, step: int | None, text: str) -> None:
        """Write the line anew.

        Args:
            step: Steps made; ``None`` are those made before.
            text: What is done.
        """
        self._step = self._step if step is None else step
        self._text = text
        left = self._left()
        gone = f"{in_words(int(time.monotonic() - self._started))} gone"
        self._write(f"{text}, {gone}" if left is None else f"{text}, {gone}, {in_words(left)} left")

    def finish(self, ending: str) -> None:
        """Write the line for the last time, with how it ended in the place of the times."""
        self._write(f"{self._text}, {ending} after {in_words(time.monotonic() - self._started)}")

    def close(self) -> None:
        """End the line as it stands, so that what comes next begins a new one."""
        if self._drawn > -math.inf:
            self._stream.write("\n")
            self._stream.flush()

    def _left(self) -> float | None:
        """Seconds to the last step if steps go on taking what they took since the first drawing.

        The first step of a training is left out, for it also starts the libraries; validation
        between them counts.
        """
        now = time.monotonic()
        if self._first is None:
            self._first = (self._step, now)
        made = self._step - self._first[0]
        left = self._n_steps - self._step
        if made == 0 and left > 0:
            return None
        seconds = (now - self._first[1]) / max(made, 1) * left
        return (
            seconds
            if self._seconds is None
            else max(min(seconds, self._seconds - (now - self._started)), 0.0)
        )

    def _write(self, text: str) -> None:
        room = _columns(self._stream) - 1  # a character in the last column would begin a new line
        size = max(min(_BAR, room - len(self._title) - len(text) - 4), 0)
        filled = size * self._step // self._n_steps
        line = f"{self._title} [{'#' * filled}{'.' * (size - filled)}] {text}"[:room]
        self._stream.write("\r" + line.ljust(min(self._length, room)))
        self._stream.flush()
        self._length, self._drawn = len(line), time.monotonic()


@contextmanager
def progress_line(
    title: str | None, *, n_steps: int, n_epochs: int = 0, seconds: float | None = None
) -> Iterator[ProgressLine | None]:
    """A line on stderr for the length of a block, ended whatever ends the block.

    Args:
        title: What is being trained or judged; ``None`` shows nothing.
        n_steps: Steps altogether.
        n_epochs: Epochs of a training at most.
        seconds: Time limit; ``None`` is none.

    Yields:
        The line; ``None`` where stderr is no terminal, or there is no title.
    """
    stream = sys.stderr
    if title is None or stream is None or not stream.isatty():
        yield None
        return
    line = ProgressLine(stream, title, n_steps=n_steps, n_epochs=n_epochs, seconds=seconds)
    try:
        yield line
    finally:
        line.close()


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS
    except (OSError, ValueError):  # a stream that calls itself a terminal and has no descriptor
        return _COLUMNS


def in_words(seconds: float) -> str:
    """Whole seconds, minutes or hours, rounded up: what is left is never told as nothing."""
    if seconds <= 100:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes <= 100 else f"{math.ceil(minutes / 60)} h"
