"""Where structure pays: attentions of the pretrained network, trained alike, judged on the
development tasks.

Each arm is trained for so many steps from each seed, by the recipe of the weights, and judged; what
is on record is not repeated, and a killed training goes on. Run: PYTHONPATH=benchmarks python
benchmarks/pretraining_study/run.py --pack DIR --folder DIR [--arm NAME ...] [--steps 200]
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from records import RESULTS, Record, Records, parse
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from zero_shot.pack import COLUMNS, SPLITS, Instance, Pack, geometric_mean, score, seasonal_naive
from zero_shot.run import forecast

from tsattn.limits import limit_threads
from tsattn.matrices import BTT, MLR
from tsattn.nn.scores import BilinearScore, GroupLevelScore, Places
from tsattn.pretrained.contexts import floor, scale
from tsattn.pretrained.network import Tokens, ZeroConfig, ZeroNetwork, read_slots
from tsattn.pretrained.period import Seasons, detect_period
from tsattn.pretrained.pretraining import Pretraining, Recipe, run
from tsattn.pretrained.synthetic import make

FILE = "pretraining_study.jsonl"
KEY = ("arm", "d_model", "steps", "seed")
JUDGED = [column for column in COLUMNS if column.split == SPLITS[0]]
HEAD = 24  # features of a head
MOST = 100  # instances of a task
# Features of a head by the number of levels after the first.
RANKS = {0: (24,), 1: (12, 12), 2: (12, 6, 6)}


class Arm(NamedTuple):
    """What one network does; levels are those after the first, which holds all pairs.

    ``score`` is dot, mlr or btt; ``rotary`` turns half of the features by the phase; ``borrowed``
    takes the season of another, synthetic series.
    """

    levels: tuple[str, ...] = ()
    cut: bool = True
    copies: bool = False
    score: str = "dot"
    rotary: bool = False
    borrowed: bool = False


PHASE = ("phase", "near")
ARMS = {
    "standard, plain": Arm(cut=False),
    "standard": Arm(),
    "rotary by season": Arm(("all",), rotary=True),
    "halving blocks": Arm(("half", "quarter")),
    "phase, plain": Arm(PHASE, cut=False),
    "phase": Arm(PHASE),
    "phase, near from the origin": Arm(("phase", "origin")),
    "cycle": Arm(("cycle", "near")),
    "phase and cycle": Arm(("phase", "cycle")),
    "phase of two seasons, or near": Arm(("phase", "second")),
    "phase, bilinear MLR": Arm(PHASE, score="mlr"),
    "phase, bilinear BTT": Arm(PHASE, score="btt"),
    "phase, copies": Arm(PHASE, copies=True),
    "standard, copies": Arm(copies=True),
    "phase of a borrowed season": Arm(PHASE, borrowed=True),
}


class BilinearLevels(GroupLevelScore):
    """Levels by groups of the features of a bilinear score."""

    def __init__(self, inner: BilinearScore, ranks: tuple[int, ...]) -> None:
        width = inner.d_key // HEAD
        super().__init__(
            inner.d_key * inner.n_heads,
            inner.n_heads,
            ranks=tuple(width * r for r in ranks),
            rotary_base=1e3,
            norm=True,
        )
        del self.project
        self.inner = inner

    def features_at(
        self, x: Tensor, places: Places, n_last: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Queries of the last tokens and keys of all."""
        q, k = self.inner.features(x)
        cos, sin = places.angles
        q, k = (
            self.rotary.turn(each, (cos, sin)) for each in (self.norm_query(q), self.norm_key(k))
        )
        return (q if n_last is None else q[:, :, q.shape[2] - n_last :]), k


class StudyNetwork(ZeroNetwork):
    """The network of an arm."""

    def __init__(
        self, arm: Arm, config: ZeroConfig, *, generator: torch.Generator | None = None
    ) -> None:
        self.arm, self.second, self.n_steps = arm, torch.zeros(0), torch.zeros(0)
        self._n_slot_inputs += 2 * arm.copies
        super().__init__(config, generator=generator)
        # Periods of synthetic series, to borrow from.
        series = torch.from_numpy(make(512, 512, seed=2**31)) if arm.borrowed else torch.zeros(0, 1)
        self.lent = detect_period(series)[0]

    def _block(self, generator: torch.Generator | None) -> Any:
        block = super()._block(generator)
        config = self.config
        ranks = RANKS[len(self.arm.levels)]
        width = config.d_model
        heads = config.n_heads
        if self.arm.score == "dot":
            how: dict[str, Any] = {"rotary_base": 1000.0, "norm": True, "generator": generator}
            block.attention.score = GroupLevelScore(width, heads, ranks=ranks, **how)
        elif self.arm.score == "mlr":
            matrix = MLR(
                width, width, ranks=(12, 6, 6), n_blocks=(1, 2, 4), heads=heads, generator=generator
            )
            block.attention.score = BilinearLevels(BilinearScore(matrix), ranks)
        else:
            matrix = BTT(width, width, tt_rank=2, heads=heads, generator=generator)
            block.attention.score = BilinearLevels(BilinearScore(matrix), ranks)
        return block

    def look(self, x: Tensor, horizon: int, likely: int = 0) -> tuple[Tensor, Seasons]:
        """The season alone: the shipped network knows the cycle of a season, too, and does not read
        a far past.
        """
        seen = x[:, -self.config.max_context :]
        period, strength = detect_period(seen)
        self.n_steps = seen.shape[1] - seen.isfinite().to(torch.int8).argmax(1)
        if self.arm.borrowed:  # which one depends on the series alone
            at = (1e3 * seen.nan_to_num().abs().sum(1)).round().long() % len(self.lent)
            period = self.lent[at]
        if "second" in self.arm.levels:
            self.second = detect_second(seen, period)
        none = torch.zeros_like(strength)
        return x, Seasons(period, period, strength, none, none > 0)

    def _cut(self, seasons: Seasons, *how: Any) -> Tokens:
        if not self.arm.cut:
            seasons = replace(seasons, period=torch.zeros_like(seasons.period))
        return super()._cut(seasons, *how)

    def _more(
        self, x: Tensor, period: Tensor, index: Tensor, level: Tensor, spread: Tensor
    ) -> list[Tensor]:
        """Values one season earlier (in the future as many seasons as it takes), and whether they
        are known.
        """
        if not self.arm.copies:
            return []
        season = torch.where(period > 0, period, 1)[:, None, None]
        back = torch.where(index >= 0, floor(index, season) + 1, 1) * season
        values, known = read_slots(x, index - back, (period > 0)[:, None, None].expand_as(index))
        return [scale(values, known, level, spread), known.float()]

    def _alike(self, seasons: Seasons, n_steps: Tensor, horizon: int) -> Any:
        return [
            torch.arange(len(seasons.period))
        ]  # all rows, for what is kept of a batch is kept of all

    def _places(self, tokens: Tokens, period: Tensor) -> Places:
        centre = tokens.starts() + tokens.lengths() / 2
        index = tokens.index
        seasonal = (period > 0)[:, None]
        time = centre / self.config.token_len
        span = tokens.steps[:, None]
        cycle = tokens.cycle()
        phase = tokens.phase()
        if not self.arm.cut:  # tokens of eight steps have phases of the season, too
            span = period.clamp_min(1)[:, None]
            cycle = centre.div(span, rounding_mode="floor").long()
            phase = ((centre - cycle * span) * (span / 8).round().clamp_min(1) / span).long()
        far = 2**20  # parts have no negative numbers, and do not depend on other series
        near, wide = ((index + size // 2 + far * size) // size for size in (8, 32))
        # Tokens of a series' own past; the future belongs to the last block.
        own = -(-self.n_steps * tokens.count).div(tokens.steps, rounding_mode="floor")
        own = own.clamp(1, max(int((index < 0).sum()), 1))[:, None]
        groups = {
            "all": torch.zeros_like(index),
            "half": (2 * (index + own)).div(own, rounding_mode="floor").clamp_max(1),
            "quarter": (4 * (index + own)).div(own, rounding_mode="floor").clamp_max(3),
            "near": near,
            "origin": near - far,  # as in the shipped weights
            "phase": torch.where(seasonal, phase, wide),
            "cycle": torch.where(seasonal, cycle + far, wide),
        }
        turns = {"phase": torch.where(seasonal, cycle.to(time), time)}
        if "second" in self.arm.levels:
            twice = (self.second > 0)[:, None]
            span = self.second.clamp_min(1)[:, None]
            groups["second"] = torch.where(twice, cycle.remainder(span), near)
            turns["second"] = torch.where(
                twice, cycle.div(span, rounding_mode="floor").to(time), time
            )
        levels = self.arm.levels
        score = self.stack.blocks[0].attention.score
        cos, sin = score.rotary.angles([time, *(turns.get(name, time) for name in levels)])
        if self.arm.rotary:
            share = centre.remainder(span) / span
            angle = 2 * math.pi * share[..., None] * torch.arange(1, HEAD // 4 + 1)
            turned = torch.cat([-angle, angle], dim=2)
            half = HEAD // 2
            there = seasonal[..., None]
            cos, sin = (each.expand(*time.shape, HEAD) for each in (cos, sin))
            cos = torch.cat(
                [cos[..., :half], torch.where(there, turned.cos(), cos[..., half:])], dim=2
            )
            sin = torch.cat(
                [sin[..., :half], torch.where(there, turned.sin(), sin[..., half:])], dim=2
            )
        return Places(tuple(groups[name] for name in levels), (cos, sin))


def detect_second(x: Tensor, period: Tensor) -> Tensor:
    """The season of the means of a series' cycles, such as the week of days of hours, in cycles; 0
    for none.
    """
    back = torch.arange(x.shape[1] - 1, -1, -1)
    cycle = back.div(period.clamp_min(2)[:, None], rounding_mode="floor")
    sums, counts = (
        torch.zeros(len(x), int(cycle.max()) + 1, dtype=torch.float64).scatter_add(
            1, cycle, part.to(torch.float64)
        )
        for part in (x.nan_to_num(), x.isfinite())
    )
    means = torch.where((counts > 0) & (period > 0)[:, None], sums / counts.clamp_min(1), torch.nan)
    return detect_period(means.flip(1))[0]


class Study(Pretraining):
    """A run of an arm."""

    def __init__(self, arm: Arm, config: ZeroConfig, recipe: Recipe) -> None:
        self.arm = arm
        super().__init__(config, recipe)

    def _make(self, config: ZeroConfig, generator: torch.Generator) -> ZeroNetwork:
        return StudyNetwork(self.arm, config, generator=generator)


def multiply_adds(network: ZeroNetwork) -> int:
    """Of one forecast of 64 steps from 512 hours."""
    x = torch.sin(2 * math.pi / 24 * torch.arange(512.0))[None] + torch.arange(512.0) / 500
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, 64)
    return counter.get_total_flops() // 2


def judge(network: ZeroNetwork, pack: Pack) -> Record:
    """Geometric means of relative MASE and WQL by column of development tasks, on evenly drawn
    instances.
    """
    found: dict[str, dict[str, float]] = {}
    for task in (task for task in pack.tasks.values() if task.split == SPLITS[0]):
        instances: list[Instance] = pack.instances(task)
        instances = instances[:: -(-len(instances) // MOST)]
        scores = score(task, instances, forecast("zero", task, instances, weights=network))
        base = score(task, instances, seasonal_naive(task, instances))
        found[task.name] = {m: scores[m] / base[m] for m in ("mase", "wql")} | {
            "coverage": scores["coverage80"]
        }
    columns = []
    for column in JUDGED:
        names = [t.name for t in pack.tasks.values() if column.holds(t.suite, t.split, t.horizon)]
        columns.append(
            [round(geometric_mean([found[name][m] for name in names]), 5) for m in ("mase", "wql")]
        )
    tasks = {name: [round(each["mase"], 4), round(each["wql"], 4)] for name, each in found.items()}
    return {
        "columns": columns,
        "coverage80": round(fmean(f["coverage"] for f in found.values()), 4),
        "tasks": tasks,
    }


def execute(cell: Record, folder: Path, pack: Pack) -> Record:
    """Train and judge."""
    arm = ARMS[cell["arm"]]
    width = cell["d_model"]
    config = ZeroConfig(d_model=width, d_ff=4 * width, n_heads=width // HEAD)
    study = Study(arm, config, Recipe(cell["steps"], seed=cell["seed"]))
    arm_name = cell["arm"].replace(", ", "-").replace(" ", "_")
    place = folder / f"{arm_name}-{width}-{cell['steps']}-{cell['seed']}"
    run(study, place)
    last = json.loads((place / "curve.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    network = study.average.eval()
    sizes = {
        "params": sum(p.numel() for p in network.parameters()),
        "multiply_adds": multiply_adds(network),
    }
    told = {"windows": study.windows, "core_seconds": round(study.seconds, 1)}
    return {
        "kind": "arm",
        **cell,
        **sizes,
        **told,
        "validation": round(last["validation"], 5),
        **judge(network, pack),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    defaults = {
        "pack": "",
        "folder": "",
        "arm": tuple(ARMS),
        "seed": (0, 1, 2),
        "steps": 200,
        "d_model": 96,
    }
    options = parse(argv, __doc__, {**defaults, "out": RESULTS / FILE}, choices={"arm": ARMS})
    pack = Pack(options.pack)
    file = Records(options.out, KEY)
    with limit_threads(1):
        cells = (
            {"arm": arm, "d_model": options.d_model, "steps": options.steps, "seed": seed}
            for seed in options.seed
            for arm in options.arm
        )
        for cell in file.missing(cells):
            row = file.add(execute(cell, Path(options.folder), pack))
            print(
                *(
                    row[name]
                    for name in (*KEY, "validation", "columns", "multiply_adds", "core_seconds")
                ),
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
