"""What other processes are sent: small functions, and a forecaster that dies there. They stand in a
module of their own, since those processes find it by its name.
"""

import os
import secrets
import signal

from tsattn.forecasters.naive import Naive


def cube_root(x):
    if x < 0:
        raise ValueError(f"{x} is below 0")
    return x ** (1 / 3), os.getpid()


def leave_trace(folder, item):
    (folder / f"{item}-{secrets.token_hex(8)}").touch()


def die_at_first(folder, item):
    """The third item kills its process, unless it has done so before."""
    mark = folder / f"died-{item}"
    if item == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 3**item


class Mortal(Naive):
    """A forecaster that kills the process in which it first forecasts, if it is another one."""

    def _forecast(self, x, quantiles, covariates):
        mark = self.folder / "died"
        if os.getpid() != self.owner and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._forecast(x, quantiles, covariates)
