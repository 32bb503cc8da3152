"""Compares sizes and numbers of encoded tokens of the pretrained network, trained for equal core
seconds and judged.

Each arm is trained from each seed by the recipe of the weights, for the number of steps that take
the core seconds of the options at its pace. Recorded runs are not repeated, and a killed training
goes on. Run: PYTHONPATH=benchmarks python benchmarks/pretraining_study/arms.py --pack DIR --folder
DIR [--arm NAME ...]
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from pretraining_study.run import judge, last_validation, multiply_adds
from records import RESULTS, Record, Records, parse
from zero_shot.pack import Pack

from tsattn.limits import limit_threads
from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.pretraining import Pretraining, Recipe, run

FILE = "pretraining_arms.jsonl"
KEY = ("arm", "seconds", "seed")


class Arm(NamedTuple):
    """A network, and its steps a core second, measured for all arms on the same hardware."""

    config: ZeroConfig
    pace: float


ARMS = {
    "all encoded": Arm(ZeroConfig(), 2.56),
    "32 encoded": Arm(ZeroConfig(encode=32), 3.3),
    "32 encoded, recent": Arm(ZeroConfig(encode=32, measure="recent"), 3.3),
    "32 encoded, width 128": Arm(ZeroConfig(128, 4, 4, 512, encode=32), 2.41),
    "32 encoded, width 192": Arm(ZeroConfig(192, 8, 4, 768, encode=32), 1.46),
}


def execute(cell: Record, folder: Path, pack: Pack) -> Record:
    """Train and judge."""
    arm = ARMS[cell["arm"]]
    n_steps = round(cell["seconds"] * arm.pace)
    training = Pretraining(arm.config, Recipe(n_steps, seed=cell["seed"]))
    arm_name = cell["arm"].replace(", ", "-").replace(" ", "_")
    run_folder = folder / f"{arm_name}-{cell['seconds']}-{cell['seed']}"
    run(training, run_folder)
    network = training.average.eval()
    return {
        "kind": "arm",
        **cell,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(network),
        "steps": n_steps,
        "windows": training.windows,
        "core_seconds": round(training.seconds, 1),
        "validation": last_validation(run_folder),
        **judge(network, pack),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    defaults = {"pack": "", "folder": "", "arm": tuple(ARMS), "seed": (0, 1, 2), "seconds": 420}
    options = parse(argv, __doc__, {**defaults, "out": RESULTS / FILE}, choices={"arm": ARMS})
    pack = Pack(options.pack)
    file = Records(options.out, KEY)
    cells = [
        {"arm": arm, "seconds": options.seconds, "seed": seed}
        for seed, arm in product(options.seed, options.arm)
    ]
    shown = (*KEY, "validation", "columns", "coverage80", "core_seconds")
    with limit_threads(1):
        for cell in file.missing(cells):
            row = file.add(execute(cell, Path(options.folder), pack))
            print(*(row[name] for name in shown), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
