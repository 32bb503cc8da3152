"""Whether a trained network is better than what training started from, or chance made it look so.

Early stopping takes the epoch with the smallest validation loss, whose lead over the start may be
no more than luck: errors of neighbouring windows are alike, so a thousand windows of a long horizon
hold a few independent trials only. Blocks of windows as long as the horizon stand for such trials
here, and Student's t over their differences for the evidence.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsattn.data.windows import WindowBatches

# More blocks would add little to the evidence, and a pass of the network for each to the cost.
_MOST_BLOCKS = 64

Judge = Callable[..., tuple[Tensor, int]]


def block_of_windows(first: np.ndarray, horizon: int) -> np.ndarray:
    """Number of the block that each window belongs to, ``[W]``, from 0 without gaps.

    Windows of a series that begin one row apart are cut into blocks of ``horizon`` windows, longer
    ones where there would be more than 64; the earliest block takes what is left over. Blocks are
    counted from the end of each series, so that those of different series which end together lie
    side by side and count as one. Where the series are too short for two blocks, each series is a
    block.

    Args:
        first: Row at which each window begins, ``[W]``, ascending.
        horizon: Rows that a window forecasts.
    """
    new = np.diff(first, prepend=-2) != 1
    series = np.cumsum(new) - 1
    n_windows = np.bincount(series)
    longest = int(n_windows.max())
    length = max(horizon, -(-longest // _MOST_BLOCKS))
    n_blocks = longest // length
    if n_blocks < 2:
        return series
    last = np.cumsum(n_windows) - 1
    from_end: np.ndarray = (last[series] - np.arange(len(first))) // length
    return np.unique(np.minimum(from_end, n_blocks - 1), return_inverse=True)[1]


def check_blocks(windows: WindowBatches | None, level: float) -> None:
    """Refuse windows that can be no evidence.

    Raises:
        ValueError: If they are fewer than two blocks.
    """
    n = 0
    if windows is not None and len(windows.first):
        n = int(block_of_windows(windows.first, windows.spec.horizon).max()) + 1
    if n < 2:
        raise ValueError(
            f"skip_level = {level} compares errors over blocks of validation windows as long as the"
            f" horizon, two at least; got {n}; raise val_size to three horizons or leave"
            " skip_level out"
        )


@torch.no_grad()
def block_losses(judge: Judge, windows: WindowBatches) -> Tensor:
    """Sum of the losses of each block and the number of values behind it, ``[2, blocks]``, float64.

    Args:
        judge: Maps context, truth and perhaps covariates of some windows to their mean loss and its
            number of values.
        windows: In their order, perhaps the share of one process.
    """
    blocks = torch.as_tensor(block_of_windows(windows.first, windows.spec.horizon))
    found = torch.zeros(2, int(blocks.max()) + 1, dtype=torch.float64)
    for (x, y, *rest), mine in zip(windows.in_order(), windows.deal(blocks), strict=True):
        for block in mine.unique().tolist():
            chosen = (mine == block).to(x.device)
            loss, count = judge(x[chosen], y[chosen], *[_choose(beside, chosen) for beside in rest])
            if count:
                found[:, block] += torch.tensor([float(loss) * count, count], dtype=torch.float64)
    return found


def _choose(beside: Mapping[str, Any], chosen: Tensor) -> dict[str, Any]:
    return {name: values[chosen] for name, values in beside.items()}


def clearly_lower(losses: Tensor, others: Tensor, level: float) -> bool:
    """Whether the interval of the mean difference over blocks lies below zero.

    Student's t interval of ``level`` percent for the differences of the mean losses of each block.
    Blocks in which nothing is known have no part.

    Args:
        losses: What is to be lower, as of :func:`block_losses`.
        others: What it is compared with, of the same windows.
        level: Percent.
    """
    known = (losses[1] > 0) & (others[1] > 0)
    gap = (losses[0] / losses[1] - others[0] / others[1])[known].numpy()
    if len(gap) < 2:
        return False
    from scipy.special import stdtrit  # torch has no quantiles of Student's t

    reach = stdtrit(len(gap) - 1, (1 + level / 100) / 2) * gap.std(ddof=1) / len(gap) ** 0.5
    return bool(gap.mean() + reach < 0)
