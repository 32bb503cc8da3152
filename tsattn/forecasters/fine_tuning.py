"""A pretrained network that goes on learning from a table, and is kept where held-out rows show
that it is better.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tsattn.data.frames import Panel
from tsattn.data.windows import History
from tsattn.forecasters.fitting import validation_rows
from tsattn.limits import IN_SINGLE, limit_threads
from tsattn.pretrained.network import ZeroNetwork
from tsattn.pretrained.pretraining import make_optimizers, pinball, pinball_terms
from tsattn.random import seed_from
from tsattn.terminal import progress_line
from tsattn.training.evidence import clearly_lower

# Steps of the training: one for so many known values, within bounds; a judgement after each of so
# many parts.
_VALUES_A_STEP = 100
_LEAST_STEPS = 40
_MOST_STEPS = 400
_LOOKS = 10
# A training step takes windows that fill about so many rows, history and horizon together.
_ROWS = 18_000
# Rates of Muon, which moves the matrices inside the blocks, and of AdamW, which moves the rest; the
# share of the steps in which they rise from zero.
_RATES = (1e-3, 1e-4)
_WARMUP = 0.1
# Windows that judge, and the percent of confidence with which they must show that the loss is
# lower.
_JUDGES = 256
_LEVEL = 80.0
# Rows that stand before any window at least.
_LEAST_ROWS = 8
# The golden ratio: its multiples, without what is before the point, are spread evenly.
_SPREAD = 0.618034


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
        val_size: Rows, or share (at least one horizon), at the end of each series that judge and do
            not teach.
        random_state: Seed of the windows that are drawn.
        title: Of a line on the terminal that tells how far it is; ``None`` shows nothing.

    Returns:
        The weights with the smallest loss on windows of the rows held out, or those given where
        Student's t over blocks of windows a horizon apart does not show that the loss is lower; and
        what there is to tell: ``parameters``, ``steps`` trained, ``best_step`` (0: those given),
        ``valid_windows``, and the loss on these before (``start_loss``) and after (``valid_loss``).
        One warning says where there are no two blocks, and no steps.

    Raises:
        ValueError: If ``val_size`` or ``random_state`` is not usable.
    """
    rng = np.random.default_rng(seed_from(random_state))
    valid = validation_rows(panel, horizon=horizon, context=None, val_size=val_size)
    if not val_size:
        raise ValueError(
            f"fine_tune compares losses on held-out rows; got val_size = {val_size}; set it above 0"
        )
    windows = _Windows(panel, panel.lengths - valid, horizon, network.config.token_context)
    facts: dict[str, Any] = {"parameters": sum(each.numel() for each in network.parameters())}
    facts |= {"steps": 0, "best_step": 0, "valid_windows": len(windows.judges)}
    if not windows.enough:
        warnings.warn(
            "fine_tune compares losses on windows that are held out, a horizon apart, and there are"
            " too few of them, or of rows before them; the weights stay as they were: bring more"
            " rows, shorten horizon, or set val_size to three horizons",
            stacklevel=5,
        )
        return network, facts
    tuned = copy.deepcopy(network).train().requires_grad_(True)
    n_steps = windows.n_steps
    optimizers = make_optimizers(tuned, *_RATES)
    looks = set(np.linspace(0, n_steps, _LOOKS + 1).astype(int)[1:].tolist())
    with limit_threads(1), IN_SINGLE, progress_line(title, n_steps=n_steps) as line:
        first = least = _losses(network, windows)
        best = network
        best_step = 0
        for step in range(1, n_steps + 1):
            factor = min(step / (_WARMUP * n_steps), 1.0, (n_steps + 1 - step) / n_steps)
            for optimizer in optimizers:
                optimizer.zero_grad(set_to_none=True)
            pinball(tuned, *windows.draw(rng)).backward()
            torch.nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
            for optimizer, rate in zip(optimizers, _RATES, strict=True):
                for group in optimizer.param_groups:
                    group["lr"] = rate * factor
                optimizer.step()
            if step in looks and _mean(found := _losses(tuned, windows)) < _mean(least):
                best = copy.deepcopy(tuned).eval().requires_grad_(False)
                least = found
                best_step = step
            if line is not None:
                line.advance(1, f"step {step} of {n_steps}, validation {_mean(least):.4f}")
    if not clearly_lower(least, first, _LEVEL):
        best = network
        least = first
        best_step = 0
    facts |= {
        "steps": n_steps,
        "best_step": best_step,
        "start_loss": _mean(first),
        "valid_loss": _mean(least),
    }
    return best, facts


def _mean(losses: torch.Tensor) -> float:
    return float(losses[0].sum() / losses[1].sum().clamp_min(1e-6))


@torch.no_grad()
def _losses(network: ZeroNetwork, windows: "_Windows") -> torch.Tensor:
    """Sum of the losses of each block of windows that judge, and of their weights, ``[2, blocks]``,
    float64.
    """
    terms = [torch.stack(pinball_terms(network, x, y)).sum((2, 3)) for x, y in windows.judging()]
    blocks = torch.from_numpy(windows.blocks)
    found = torch.zeros(2, int(blocks.max()) + 1, dtype=torch.float64)
    return found.index_add_(1, blocks, torch.cat(terms, dim=1).double())


class _Windows:
    """Windows of single channels: of the first ``stops [N]`` rows of each series to teach, and of
    the rest to judge.
    """

    def __init__(self, panel: Panel, stops: np.ndarray, horizon: int, reach: int) -> None:
        # A series without rows to spare teaches with all that it has.
        stops = np.where(stops <= _LEAST_ROWS, panel.lengths, stops)
        panel, stops = _one_channel(panel), np.repeat(stops, panel.n_channels)
        self.horizon = horizon
        self.reach = reach
        self.teachers, self.judged = History(panel.until(stops)), History(panel)
        # A window that teaches has a row to answer for at least.
        self.counts = np.cumsum(np.maximum(stops - _LEAST_ROWS, 0))
        first = np.maximum(stops, _LEAST_ROWS)
        last = panel.lengths - horizon
        series = np.flatnonzero(last >= first)
        series = series[
            np.unique(np.linspace(0, len(series) - 1, min(len(series), _JUDGES)).astype(int))
        ]
        each = max(_JUDGES // max(len(series), 1), 1)
        # Evenly spread, and not at the same rows in each series.
        shares = (np.arange(each) + (np.arange(len(series)) * _SPREAD % 1)[:, None]) / each
        back = np.floor(shares * (last - first + 1)[series, None]).astype(np.int64)
        owners = np.repeat(series, each)
        ends = (panel.starts[series] + last[series])[:, None] - back
        self.judges, chosen = np.unique(ends, return_index=True)
        # Windows that end together, or less than a horizon apart, tell the same.
        blocks = back.ravel()[chosen] // horizon
        blocks = blocks if blocks.any() else owners[chosen]
        self.blocks = np.unique(blocks, return_inverse=True)[1]

    @property
    def enough(self) -> bool:
        """Whether there are windows that teach, and two blocks at least of windows that judge."""
        return bool(self.counts[-1] and len(self.blocks) and self.blocks.max())

    @property
    def n_steps(self) -> int:
        """Steps of a training."""
        known = int(np.isfinite(self.teachers.panel.values).sum())
        return int(np.clip(known // _VALUES_A_STEP, _LEAST_STEPS, _MOST_STEPS))

    def draw(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Contexts ``[B, T]`` and futures ``[B, F]`` that teach, NaN where there is no value."""
        panel = self.teachers.panel
        longest = min(self.reach, int(panel.lengths.max()))
        place = rng.integers(self.counts[-1], size=max(_ROWS // (longest + self.horizon), 1))
        owner = np.searchsorted(self.counts, place, side="right")
        ends = panel.starts[owner + 1] - self.counts[owner] + place
        return self._cut(self.teachers, ends, panel.starts[owner + 1])

    def judging(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Contexts and futures that judge, a few at a time."""
        for ends in np.array_split(self.judges, -(-len(self.judges) // 32)):
            yield self._cut(self.judged, ends, ends + self.horizon)

    def _cut(
        self, history: History, ends: np.ndarray, stops: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = ends[:, None] + np.arange(self.horizon)
        future = history.panel.values[np.minimum(rows, stops[:, None] - 1), 0]
        future[rows >= stops[:, None]] = np.nan
        return torch.from_numpy(history.reaching(ends, self.reach)[..., 0]), torch.from_numpy(
            future
        )


def _one_channel(panel: Panel) -> Panel:
    """Every channel of a wide table as a series of its own."""
    n_rows, n_channels = panel.values.shape
    if n_channels == 1:
        return panel
    return replace(
        panel,
        values=panel.values.T.reshape(-1, 1),
        starts=n_rows * np.arange(n_channels + 1),
        ids=np.array(panel.channels, dtype=object),
        times=panel.times[np.tile(np.arange(n_rows), n_channels)],
        channels=panel.channels[:1],
        covariates=None,
    )
