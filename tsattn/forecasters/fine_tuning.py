"""Fine-tuning of a pretrained network on the rows of a table."""

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from tsattn.checks import warn
from tsattn.data.panel import Panel
from tsattn.data.windows import History, spread_places
from tsattn.forecasters.fitting import validation_rows
from tsattn.limits import IN_SINGLE, limit_threads
from tsattn.pretrained.losses import pinball, pinball_terms
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.pretraining import make_optimizers, take_step
from tsattn.random import seed_from
from tsattn.terminal import ProgressLine, progress_line
from tsattn.training.evidence import clearly_lower

# One step is taken for so many observed values, ...
_VALUES_A_STEP = 100
# ... within these bounds.
_LEAST_STEPS = 40
_MOST_STEPS = 400
# Times that the weights are judged, evenly spread over the steps.
_N_JUDGEMENTS = 10
# A training step takes windows that fill about so many rows, history and horizon together.
_ROWS_A_STEP = 18_000
# Rate of Muon, which moves the matrices inside the blocks.
_RATE = 1e-3
# Rate of AdamW, which moves the other weights.
_OTHER_RATE = 1e-4
# Share of the steps in which the rates rise from zero.
_WARMUP = 0.1
# Windows that judge.
_JUDGES = 256
# Windows that judge at once.
_JUDGES_A_PASS = 32
# Percent of confidence with which the judges must show that the loss is lower.
_CONFIDENCE = 80.0
# Rows that stand before any window at least.
_LEAST_ROWS = 8
# The golden ratio: the fractional parts of its multiples are spread evenly.
_GOLDEN_RATIO = 0.618034


def fine_tune(
    network: ZeroNetwork,
    panel: Panel,
    *,
    horizon: int,
    val_size: int | float,
    random_state: Any,
    title: str | None = None,
) -> tuple[ZeroNetwork, dict[str, Any]]:
    """Go on training a copy of a network on a table's own rows.

    Args:
        network: What training starts from; it stays as it is.
        panel: The series.
        horizon: Steps ahead F.
        val_size: Rows, or share (at least one horizon), at the end of each series that are held
            out.
        random_state: Seed of the windows that are drawn.
        title: Name of the progress line on the terminal; ``None`` shows nothing.

    Returns:
        The weights with the smallest loss on windows of the rows held out, or the weights of the
        start where Student's t over blocks of windows a horizon apart does not show that the loss
        is lower; and facts: ``parameters``, ``steps`` trained, ``best_step`` (0: the start),
        ``valid_windows``, and the loss on these before (``start_loss``) and after (``valid_loss``).
        Where there are fewer than two blocks, nothing is trained, with a warning.

    Raises:
        ValueError: If ``val_size`` or ``random_state`` is not usable.
    """
    rng = np.random.default_rng(seed_from(random_state))
    valid = validation_rows(panel, horizon=horizon, context=None, val_size=val_size)
    if not val_size:
        raise ValueError(
            f"fine_tune compares losses on held-out rows; got val_size = {val_size}; set it above 0"
        )
    stops = panel.lengths - valid
    windows = _Windows(panel, stops, horizon, network.config.token_context)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    facts: dict[str, Any] = {
        "parameters": n_parameters,
        "steps": 0,
        "best_step": 0,
        "valid_windows": len(windows.judges),
    }
    if not windows.is_enough:
        warn(
            "fine_tune compares losses on windows that are held out, a horizon apart, and there are"
            " too few of them, or of rows before them; the weights stay as they were: bring more"
            " rows, shorten horizon, or set val_size to three horizons"
        )
        return network, facts
    with limit_threads(1), IN_SINGLE, progress_line(title, n_steps=windows.n_steps) as line:
        start_losses = _losses(network, windows)
        start = _Judged(network, 0, start_losses)
        best = _train(start, windows, rng, line)
    if not clearly_lower(best.losses, start.losses, _CONFIDENCE):
        best = start
    facts |= {
        "steps": windows.n_steps,
        "best_step": best.step,
        "start_loss": start.mean,
        "valid_loss": best.mean,
    }
    return best.network, facts


class _Judged(NamedTuple):
    """A network after some steps.

    Attributes:
        network: Its weights are not changed any more.
        step: Steps that it was trained.
        losses: Of the windows that judge, as :func:`_losses` gives them.
    """

    network: ZeroNetwork
    step: int
    losses: torch.Tensor

    @property
    def mean(self) -> float:
        """Mean loss."""
        loss_sums, weight_sums = self.losses
        total_weight = weight_sums.sum().clamp_min(1e-6)
        return float(loss_sums.sum() / total_weight)


def _train(
    start: _Judged, windows: "_Windows", rng: np.random.Generator, line: ProgressLine
) -> _Judged:
    """Train a copy of a network; the start or the later weights with the smallest mean loss."""
    best = start
    network = copy.deepcopy(start.network).train().requires_grad_(True)
    optimizers = make_optimizers(network, _RATE, _OTHER_RATE)
    n_steps = windows.n_steps
    # The start is judged already.
    judgements = np.linspace(0, n_steps, _N_JUDGEMENTS + 1).astype(int)[1:]
    for step in range(1, n_steps + 1):
        # The rates rise to their most, and then fall to almost nothing.
        warmup = step / (_WARMUP * n_steps)
        decay = (n_steps + 1 - step) / n_steps
        factor = min(warmup, 1.0, decay)
        rates = (_RATE * factor, _OTHER_RATE * factor)
        context, future = windows.draw(rng)
        loss = pinball(network, context, future)
        take_step(network, optimizers, loss, rates)
        if step in judgements:
            losses = _losses(network, windows)
            judged = _Judged(network, step, losses)
            if judged.mean < best.mean:
                # The training goes on with the network itself.
                weights = copy.deepcopy(network)
                frozen = weights.eval().requires_grad_(False)
                best = judged._replace(network=frozen)
        line.advance(1, f"step {step} of {n_steps}, validation {best.mean:.4f}")
    return best


@torch.no_grad()
def _losses(network: ZeroNetwork, windows: "_Windows") -> torch.Tensor:
    """Sums of the losses of each block of windows that judge, and of their weights.

    Returns:
        ``[2, blocks]``, float64.
    """
    terms = []
    for x, y in windows.judging():
        totals_and_counts = torch.stack(pinball_terms(network, x, y))
        window_sums = totals_and_counts.sum((2, 3))
        terms.append(window_sums)
    blocks = torch.from_numpy(windows.blocks)
    n_blocks = int(blocks.max()) + 1
    sums = torch.zeros(2, n_blocks, dtype=torch.float64)
    all_terms = torch.cat(terms, dim=1).double()
    return sums.index_add_(1, blocks, all_terms)


class _Windows:
    """Windows of single channels, some to train on and some to judge.

    Args:
        panel: The series.
        stops: Rows of each series that training may read, ``[N]``; later ones judge.
        horizon: Steps ahead.
        reach: Rows of a context at most.
    """

    def __init__(self, panel: Panel, stops: np.ndarray, horizon: int, reach: int) -> None:
        # A series without rows to spare trains with all its rows.
        stops = np.where(stops <= _LEAST_ROWS, panel.lengths, stops)
        self.horizon = horizon
        self.reach = reach
        self.training_history = History(panel.until(stops))
        self.judging_history = History(panel)
        # A window that trains has at least one row of its future.
        n_windows = np.maximum(stops - _LEAST_ROWS, 0)
        self.counts = np.cumsum(n_windows)
        first_judges = np.maximum(stops, _LEAST_ROWS)
        self._choose_judges(panel, first_judges)

    def _choose_judges(self, panel: Panel, first: np.ndarray) -> None:
        """Choose windows that judge, which end at row ``first`` of their series or later."""
        last = panel.lengths - self.horizon
        long_series = np.flatnonzero(last >= first)
        series = long_series[spread_places(len(long_series), _JUDGES)]
        n_series = len(series)
        n_windows = max(_JUDGES // max(n_series, 1), 1)
        # Evenly spread, and not at the same rows in each series.
        offsets = np.arange(n_series) * _GOLDEN_RATIO % 1
        shares = (np.arange(n_windows) + offsets[:, None]) / n_windows
        n_ends = (last - first + 1)[series, None]
        rows_back = np.floor(shares * n_ends).astype(np.int64)
        owners = np.repeat(series, n_windows)
        last_ends = panel.starts[series] + last[series]
        ends = last_ends[:, None] - rows_back
        self.judges, chosen = np.unique(ends, return_index=True)
        # Windows that end together, or less than a horizon apart, say the same.
        blocks = rows_back.ravel()[chosen] // self.horizon
        if not blocks.any():
            blocks = owners[chosen]
        self.blocks = np.unique(blocks, return_inverse=True)[1]

    @property
    def is_enough(self) -> bool:
        """Whether there are windows that train, and at least two blocks of windows that judge."""
        return bool(self.counts[-1] and len(self.blocks) and self.blocks.max())

    @property
    def n_steps(self) -> int:
        """Steps of a training."""
        is_observed = np.isfinite(self.training_history.panel.values)
        n_observed = int(is_observed.sum())
        n_steps = n_observed // _VALUES_A_STEP
        return int(np.clip(n_steps, _LEAST_STEPS, _MOST_STEPS))

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw contexts ``[B, T]`` and futures ``[B, F]`` that train; NaN where there is none."""
        panel = self.training_history.panel
        longest = min(self.reach, int(panel.lengths.max()))
        n_window_rows = longest + self.horizon
        n_windows = max(_ROWS_A_STEP // n_window_rows, 1)
        # Each window of all series is as likely as any other.
        n_all_windows = self.counts[-1]
        place = rng.integers(n_all_windows, size=n_windows)
        owner = np.searchsorted(self.counts, place, side="right")
        stops = panel.starts[owner + 1]
        ends = stops - self.counts[owner] + place
        return self._cut(self.training_history, ends, stops)

    def judging(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Contexts and futures that judge, a few at a time."""
        n_parts = -(-len(self.judges) // _JUDGES_A_PASS)
        for ends in np.array_split(self.judges, n_parts):
            yield self._cut(self.judging_history, ends, ends + self.horizon)

    def _cut(
        self, history: History, ends: np.ndarray, stops: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts before ends and futures after them, NaN from ``stops`` on."""
        rows = ends[:, None] + np.arange(self.horizon)
        stops = stops[:, None]
        rows_inside = np.minimum(rows, stops - 1)
        future = history.panel.values[rows_inside, 0]
        future[rows >= stops] = np.nan
        context = history.reaching(ends, self.reach)[..., 0]
        return torch.from_numpy(context), torch.from_numpy(future)
