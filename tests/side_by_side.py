"""Series of an aligned panel side by side, as a wide table has them."""

import numpy as np

from tsattn.data.frames import to_wide
from tsattn.data.panel import Panel


def columns_of(panel: Panel) -> np.ndarray:
    """Values ``[T, N]`` of a panel that was read from a wide table, in the order of its columns."""
    return to_wide(panel)[list(panel.dialect.columns)].to_numpy()


def ends_of_all(panel: Panel, rows: np.ndarray) -> np.ndarray:
    """The same ends, counted in rows of each series, for all series of a panel, ``[N * W]``."""
    return (panel.starts[:-1, None] + np.asarray(rows)).ravel()
