"""Trains standard attention as long as the shipped network, whose levels follow the season, and
compares both.

Standard attention learns by the recipe of ``zero-5``, from the same start values and the same
series. Its state lies in the folder of that of the recipe, and a killed run goes on. Run:
PYTHONPATH=benchmarks python benchmarks/pretraining_study/long.py --minutes 600

With --pack two states after the same number of steps are judged on the development tasks and
recorded: that of --state, and that of the recipe in the folder --levels.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import records
import torch
from pretraining_study.run import judge
from records import RESULTS, Records
from safetensors.torch import load_file
from torch import Tensor
from zero_shot.pack import Pack

from tsattn.limits import limit_threads
from tsattn.nn.blocks import TransformerBlock
from tsattn.nn.scores import GroupLevelScore, Places
from tsattn.pretrained.network import Tokens, ZeroConfig, ZeroNetwork
from tsattn.pretrained.pretraining import (
    RECIPES,
    SIZES,
    STEPS_A_MINUTE,
    Pretraining,
    run,
)

FILE = "pretraining_long.jsonl"
KEY = ("attention", "step")
STATES = Path(__file__).parents[1] / "pretraining_state"
# Folders of the states of both runs: levels by the season, and standard attention.
SEASONAL = "zero-5-base"
STANDARD = "zero-5-standard"
RECIPE = "zero-5"
SIZE = "base"
# Steps at which the curves are compared.
SHOWN = (5_000, 320_000)


class StandardNetwork(ZeroNetwork):
    """The network of the recipe, but each level holds all pairs at their positions in time."""

    def _places(self, tokens: Tokens, period: Tensor) -> Places:
        time = (tokens.starts() + tokens.lengths() / 2) / self.config.token_len
        whole = torch.zeros_like(tokens.index)
        block = cast(TransformerBlock, self.stack.blocks[0])
        score = cast(GroupLevelScore, block.attention.score)
        return score.place((whole, whole), (time, time, time))


class StandardPretraining(Pretraining):
    """A run of standard attention."""

    def _make(self, config: ZeroConfig, generator: torch.Generator) -> ZeroNetwork:
        return StandardNetwork(config, generator=generator)


def curves() -> dict[str, dict[int, float]]:
    """Validation loss by step of both runs; empty for a run without a state."""
    losses: dict[str, dict[int, float]] = {}
    for name in (SEASONAL, STANDARD):
        path = STATES / name / "curve.jsonl"
        lines = []
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
        points = [json.loads(line) for line in lines]
        losses[name] = {point["step"]: point["validation"] for point in points}
    return losses


def read_state(kind: type[Pretraining], folder: Path) -> Pretraining:
    """A run of the recipe at the state in its folder."""
    training = kind(SIZES[SIZE], RECIPES[RECIPE])
    facts = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
    training.restore_phase(load_file(folder / "phase.safetensors"), facts)
    return training


def judge_states(levels: Path, standard: Path, pack: Pack, out: Path) -> None:
    """Record the scores of the averaged weights of two states on development tasks.

    Raises:
        ValueError: If one was trained for more steps than the other.
    """
    runs = {
        "levels": read_state(Pretraining, levels),
        "standard": read_state(StandardPretraining, standard),
    }
    steps = {attention: training.step for attention, training in runs.items()}
    if len(set(steps.values())) > 1:
        raise ValueError(f"both states must lie after as many steps; got {steps}")
    cells = [{"attention": attention, "step": step} for attention, step in steps.items()]
    for cell in Records(out, KEY).missing(cells):
        network = runs[cell["attention"]].average.eval()
        row = {"kind": "long", **cell, **judge(network, pack)}
        Records(out, KEY).add(row)
        print(*cell.values(), row["columns"], flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Train standard attention further, or judge its state."""
    defaults = {"minutes": 600, "state": str(STATES / STANDARD), "levels": "", "pack": ""}
    options = records.parse(argv, __doc__, {**defaults, "out": RESULTS / FILE})
    state = Path(options.state)
    with limit_threads(1):
        if options.pack:
            judge_states(Path(options.levels), state, Pack(options.pack), options.out)
        else:
            training = StandardPretraining(SIZES[SIZE], RECIPES[RECIPE])
            run(training, state, until=options.minutes * STEPS_A_MINUTE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
