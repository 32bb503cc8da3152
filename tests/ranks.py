"""What one of several processes does in test_distributed: it trains through many cases and writes
down what came out.
"""

import os
import sys
import warnings

import numpy as np
import torch

from tsattn.data.training_windows import WindowBatches, WindowSpec
from tsattn.nn.config import ModelConfig
from tsattn.nn.layers import Dropout
from tsattn.nn.models import build_model
from tsattn.random import Generators
from tsattn.training.loop import train
from tsattn.training.processes import DDPSettings
from tsattn.training.settings import Training
from tsattn.training.state import Checkpoint

CPU = torch.device("cpu")
SPEC = WindowSpec(24, 4)
LEARN = np.arange(24, 240)
CHECK = np.arange(244, 297)
SMALL = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 16, "patch_len": 6, "patch_stride": 3}
SETTINGS = {
    "mlr": SMALL,
    "standard": SMALL,
    "sliding_window": SMALL,
    "global_local": SMALL,
    "bilinear_mlr": SMALL,
    "bilinear_btt": SMALL,
    "mlbtc": SMALL,
    "learnt scales": {**SMALL, "backbone": "mlr", "learn_scales": True, "scaling": "paper"},
    "decoder": {
        **SMALL,
        "backbone": "standard",
        "architecture": "decoder",
        "patch_stride": 6,
        "linear_skip": False,
    },
    "quantile": {**SMALL, "backbone": "mlr", "head": "quantile"},
    "student_t": {**SMALL, "backbone": "mlr", "head": "student_t"},
    "nlinear": {},
    "dlinear": {},
    "rlinear": {},
}


class Killed(Exception):
    pass


def values(*, missing=False):
    t = torch.arange(300.0)
    noise = torch.randn(300, generator=torch.Generator().manual_seed(0)) * 0.1
    rows = (torch.sin(t * 2 * torch.pi / 12) + noise)[:, None]
    if missing:
        # Not spread evenly: the processes then hold different numbers of known values.
        rows[60:120:2] = torch.nan
    return rows


def fit(
    config,
    *,
    processes=None,
    seed=0,
    name="mlr",
    dropout=0.0,
    learn=LEARN,
    check=CHECK,
    missing=False,
    checkpoint=None,
    after_epoch=None,
):
    """Train one small network and say what came of it."""
    generators = Generators.from_seed(seed, CPU)
    given = {"backbone": name, "masked": missing, **SETTINGS[name]}
    if SETTINGS[name]:
        given["dropout"] = dropout
    model = build_model(ModelConfig(24, 4, **given), generator=generators.init)
    rows = values(missing=missing)
    progress = train(
        model,
        WindowBatches(rows, learn, SPEC, batch_size=32, generator=generators.order),
        WindowBatches(rows, check, SPEC, batch_size=2 if len(check) < 5 else 32)
        if len(check)
        else None,
        config,
        generators=generators,
        device=CPU,
        processes=processes,
        checkpoint=None if checkpoint is None else Checkpoint(checkpoint, "k" * 64, generators),
        after_epoch=after_epoch,
    )
    x = values()[None, -24:] if not missing else values(missing=True)[None, 100:124]
    with torch.inference_mode():
        forecast = model(x)
    return {
        "history": progress.history,
        "best_epoch": progress.best_epoch,
        "timed_out": progress.timed_out,
        "step": progress.step,
        "forecast": forecast,
        "weights": model.state_dict(),
    }


# Cases that one process does as well, to be compared; the thin ones are run by default.
THIN = ("long", "uneven", "missing", "patience", "better than the start")
LONG = Training(learning_rate=1e-2, max_epochs=3, patience=None)
SHORT = Training(learning_rate=1e-3, max_epochs=2, patience=None)
CASES = {
    "long": (LONG, {}),
    "uneven": (LONG, {"learn": np.arange(24, 89), "check": np.arange(244, 247)}),
    "one window": (LONG, {"learn": np.arange(24, 25), "check": np.arange(244, 245)}),
    "no validation": (SHORT, {"check": np.arange(0)}),
    "missing": (LONG, {"missing": True}),
    "patience": (Training(learning_rate=0.3, max_epochs=30, patience=2), {"seed": 1}),
    "no better than the start": (
        Training(learning_rate=1e-9, max_epochs=2, linear_skip="least_squares", skip_level=95),
        {},
    ),
    "better than the start": (
        Training(learning_rate=1e-2, max_epochs=5, linear_skip="least_squares", skip_level=95),
        {},
    ),
    "huber": (Training(loss="huber", max_epochs=2), {}),
    **{f"model {name}": (SHORT, {"name": name}) for name in SETTINGS},
}


def refusal(*args, **kwargs):
    try:
        fit(*args, **kwargs)
    except ValueError as error:
        return str(error)
    return None


def train_all(rank, port, folder, names):
    """Be one of two processes that a launcher has started on two machines, one each."""
    with (folder / f"said-{rank}").open("w") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    told = {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": 0, "WORLD_SIZE": 2}
    told |= {"LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    together = {"processes": DDPSettings()}
    results = {name: fit(CASES[name][0], **together, **CASES[name][1]) for name in names}
    dropped = {**together, "dropout": 0.3}
    seen = []
    writes = []
    results["dropout"] = fit(LONG, **dropped)

    def look(module):
        (seed,) = {m.generator.initial_seed() for m in module.modules() if isinstance(m, Dropout)}
        seen.append((float(module._train_sum[1]), float(module._valid_sum[1]), seed))

    write = Checkpoint.write
    Checkpoint.write = lambda self, module: (
        writes.append(module.progress.epoch) or write(self, module)
    )
    results["dropout again"] = fit(LONG, **dropped, checkpoint=folder / "again", after_epoch=look)
    results |= {"seen": seen, "writes": writes}
    Checkpoint.write = write
    results["own seeds"] = fit(LONG, **together, seed=rank)
    # Only the second process's clock runs out.
    late = Training(max_epochs=3, patience=None, max_time=1e-9 if rank else 1e9)
    results["late"] = fit(late, **together)

    def die(module):
        if module.progress.epoch == 2:
            raise Killed

    try:
        fit(LONG, **dropped, checkpoint=folder / "kept", after_epoch=die)
    except Killed:
        results["killed"] = True
    results["resumed"] = fit(LONG, **dropped, checkpoint=folder / "kept")
    if rank == 0:
        fit(SHORT, checkpoint=folder / "apart-0")
    results["apart"] = refusal(SHORT, **together, checkpoint=folder / f"apart-{rank}")
    results["explosion"] = refusal(Training(learning_rate=1e30, max_epochs=3), **together)
    torch.save(results, folder / f"found-{rank}.pt")
    torch.distributed.destroy_process_group()
