"""Evidence that a trained network is better than what training started from.

Early stopping takes the epoch with the smallest validation loss, whose lead over the start may be
no more than luck: errors of neighbouring windows are alike, so a thousand windows of a long horizon
hold a few independent trials only. Blocks of windows as long as the horizon count as such trials,
and Student's t over their differences as the evidence.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsattn.data.training_windows import WindowBatches

# More blocks would add little to the evidence, and a pass of the network for each to the cost.
_MOST_BLOCKS = 64

Judge = Callable[..., tuple[Tensor, int]]


def block_of_windows(first: np.ndarray, horizon: int) -> np.ndarray:
    """Give each window the number of its block, ``[W]``, from 0 without gaps.

    Windows of a series that begin one row apart are cut into blocks of ``horizon`` windows, longer
    ones where there would be more than 64; the earliest block takes what is left over. Blocks are
    counted from the end of each series, so that those of different series which end together lie
    side by side and count as one. Where the series are too short for two blocks, each series is a
    block.

    Args:
        first: Row at which each window begins, ``[W]``, ascending.
        horizon: Rows that a window forecasts.
    """
    is_new = np.diff(first, prepend=-2) != 1
    series = np.cumsum(is_new) - 1
    n_windows = np.bincount(series)
    longest = int(n_windows.max())
    least_length = -(-longest // _MOST_BLOCKS)  # rounded up
    length = max(horizon, least_length)
    n_blocks = longest // length
    if n_blocks < 2:
        return series
    last_windows = np.cumsum(n_windows) - 1  # of each series
    n_later = last_windows[series] - np.arange(len(first))
    from_end = n_later // length
    from_end = np.minimum(from_end, n_blocks - 1)
    _, blocks = np.unique(from_end, return_inverse=True)
    return blocks


def check_blocks(windows: WindowBatches | None, level: float) -> None:
    """Refuse windows that can be no evidence.

    Raises:
        ValueError: If they are fewer than two blocks.
    """
    n_blocks = 0
    if windows is not None and len(windows.first):
        blocks = block_of_windows(windows.first, windows.spec.horizon)
        n_blocks = int(blocks.max()) + 1
    if n_blocks < 2:
        raise ValueError(
            f"skip_level = {level} compares errors over blocks of validation windows as long as the"
            f" horizon, two at least; got {n_blocks}; raise val_size to three horizons or leave"
            " skip_level out"
        )


@torch.no_grad()
def block_losses(judge: Judge, windows: WindowBatches) -> Tensor:
    """Sums of the losses of each block, and the numbers of values behind them.

    Args:
        judge: Maps context, truth and perhaps covariates of some windows to their mean loss and its
            number of values.
        windows: In their order, perhaps the share of one process.

    Returns:
        ``[2, blocks]``, float64.
    """
    numbers = block_of_windows(windows.first, windows.spec.horizon)
    blocks = torch.as_tensor(numbers)
    n_blocks = int(blocks.max()) + 1
    sums = torch.zeros(2, n_blocks, dtype=torch.float64)
    batches = zip(windows.in_order(), windows.deal(blocks), strict=True)
    for (x, y, *covariates), batch_blocks in batches:
        # A batch may hold windows of several blocks, and a block be in several batches.
        for block in batch_blocks.unique().tolist():
            rows = (batch_blocks == block).to(x.device)
            block_covariates = [_choose(tables, rows) for tables in covariates]
            loss, count = judge(x[rows], y[rows], *block_covariates)
            if count:
                total = float(loss) * count
                sums[:, block] += torch.tensor([total, count], dtype=torch.float64)
    return sums


def _choose(covariates: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Covariates of some windows."""
    return {name: values[rows] for name, values in covariates.items()}


def clearly_lower(losses: Tensor, others: Tensor, level: float) -> bool:
    """Whether the interval of the mean difference over blocks lies below zero.

    It is Student's t interval of ``level`` percent for the differences of the mean losses of each
    block. Blocks without observed values do not count.

    Args:
        losses: What is to be lower, as of :func:`block_losses`.
        others: What it is compared with, of the same windows.
        level: Percent.
    """
    total, count = losses
    other_total, other_count = others
    usable = (count > 0) & (other_count > 0)
    differences = total / count - other_total / other_count
    gap = differences[usable].numpy()
    n_blocks = len(gap)
    if n_blocks < 2:
        return False
    # torch has no quantiles of Student's t.
    from scipy.special import stdtrit

    probability = (1 + level / 100) / 2  # of the upper bound
    quantile = stdtrit(n_blocks - 1, probability)
    deviation = gap.std(ddof=1)
    reach = quantile * deviation / n_blocks**0.5
    upper_bound = gap.mean() + reach
    return bool(upper_bound < 0)
