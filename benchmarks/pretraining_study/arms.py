"""What the next network is: sizes and encoded tokens, trained for equal core seconds and judged.

Each arm is trained from each seed by the recipe of the weights, for the steps that fit into the
asked core seconds at the pace of the arm. What is on record is not repeated, and a killed training
goes on. Run: PYTHONPATH=benchmarks python benchmarks/pretraining_study/arms.py --pack DIR --folder
DIR [--arm NAME ...]
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pretraining_study.run import judge, multiply_adds
from records import RESULTS, Record, Records, parse
from zero_shot.pack import Pack

from tsattn.limits import limit_threads
from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.pretraining import Pretraining, Recipe, run

FILE = "pretraining_arms.jsonl"
KEY = ("arm", "seconds", "seed")


class Arm(NamedTuple):
    """A network, and its steps a core second where they were first measured: all arms have the same
    hardware.
    """

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
    place = (
        folder
        / f"{cell['arm'].replace(', ', '-').replace(' ', '_')}-{cell['seconds']}-{cell['seed']}"
    )
    run(training, place)
    last = json.loads((place / "curve.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    network = training.average.eval()
    sizes = {
        "params": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network),
    }
    cost = {
        "steps": n_steps,
        "windows": training.windows,
        "core_seconds": round(training.seconds, 1),
    }
    return {
        "kind": "arm",
        **cell,
        **sizes,
        **cost,
        "validation": round(last["validation"], 5),
        **judge(network, pack),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    defaults = {"pack": "", "folder": "", "arm": tuple(ARMS), "seed": (0, 1, 2), "seconds": 420}
    options = parse(argv, __doc__, {**defaults, "out": RESULTS / FILE}, choices={"arm": ARMS})
    pack = Pack(options.pack)
    file = Records(options.out, KEY)
    with limit_threads(1):
        cells = (
            {"arm": arm, "seconds": options.seconds, "seed": seed}
            for seed in options.seed
            for arm in options.arm
        )
        for cell in file.missing(cells):
            row = file.add(execute(cell, Path(options.folder), pack))
            print(
                *(
                    row[name]
                    for name in (*KEY, "validation", "columns", "coverage80", "core_seconds")
                ),
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
