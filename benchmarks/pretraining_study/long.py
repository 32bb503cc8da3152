"""Does the season in the attention pay at the end of a long training?

Standard attention learns by the recipe of ``zero-5``, from the same start values and the same
series. Its state lies beside that of the recipe, and a killed run goes on. Run:
PYTHONPATH=benchmarks python benchmarks/pretraining_study/long.py --minutes 600
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import records
import render
import torch
from torch import Tensor

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

STATES = Path(__file__).parents[1] / "pretraining_state"
OURS = "zero-5-base"
STANDARD = "zero-5-standard"
RECIPE = "zero-5"
SIZE = "base"
# Steps at which the curves are compared.
SHOWN = (1_000, 5_000, 320_000)


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
    """Validation loss by step of both runs; nothing of a run that has no state."""
    losses: dict[str, dict[int, float]] = {}
    for name in (OURS, STANDARD):
        path = STATES / name / "curve.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        points = [json.loads(line) for line in lines]
        losses[name] = {point["step"]: point["validation"] for point in points}
    return losses


def table(_: Path) -> str:
    """A line for each step shown that both runs have reached, and the last one: their curves are
    the records.
    """
    ours, standard = curves().values()
    if not standard:
        return render.NONE
    # The curve of the recipe lacks some points.
    last = max(ours.keys() & standard.keys())
    body = []
    for step in (*(step for step in SHOWN if step < last), last):
        change = 100 * (standard[step] / ours[step] - 1)
        body.append([f"{step:,}", f"{ours[step]:.4f}", f"{standard[step]:.4f}", f"{change:+.1f}"])
    return render.lines(["steps", "levels", "standard", "loss, %"], body)


def main(argv: Sequence[str] | None = None) -> int:
    """Go on with standard attention."""
    options = records.parse(argv, __doc__, {"minutes": 600, "state": str(STATES / STANDARD)})
    with limit_threads(1):
        training = StandardPretraining(SIZES[SIZE], RECIPES[RECIPE])
        run(training, Path(options.state), until=options.minutes * STEPS_A_MINUTE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
