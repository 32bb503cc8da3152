"""Compares attentions of the pretrained network, which are trained alike and judged on the
development tasks.

Each arm is trained for some steps from each seed, by the recipe of the shipped weights, and judged.
Recorded runs are not repeated, and a killed training goes on. Run: PYTHONPATH=benchmarks python
benchmarks/pretraining_study/run.py --pack DIR --folder DIR [--arm NAME ...] [--steps 200]
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
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
# Features of a head.
HEAD = 24
# Instances of a task that are judged, at most.
MOST_INSTANCES = 100
# Features of the levels of a head, by the number of levels after the first.
RANKS = {0: (24,), 1: (12, 12), 2: (12, 6, 6)}


class Arm(NamedTuple):
    """The attention of one network.

    ``levels`` are those after the first, which holds all pairs. ``cut`` cuts tokens by the season,
    ``copies`` adds values one season earlier to the inputs, ``score`` is dot, mlr or btt, and
    ``rotary`` turns half of the features by the phase. ``borrowed`` takes the season of another,
    synthetic series.
    """

    levels: tuple[str, ...] = ()
    cut: bool = True
    copies: bool = False
    score: str = "dot"
    rotary: bool = False
    borrowed: bool = False


# Added to numbers of parts, which must not be negative.
_FAR = 2**20
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
        q = self.rotary.turn(self.norm_query(q), places.angles)
        k = self.rotary.turn(self.norm_key(k), places.angles)
        if n_last is not None:
            q = q[:, :, q.shape[2] - n_last :]
        return q, k


class StudyNetwork(ZeroNetwork):
    """The network of an arm."""

    def __init__(
        self, arm: Arm, config: ZeroConfig, *, generator: torch.Generator | None = None
    ) -> None:
        self.arm = arm
        # Of the batch at hand: the second season in cycles, and the observed steps of each series.
        self.second = torch.zeros(0)
        self.n_steps = torch.zeros(0)
        self._n_slot_inputs += 2 * arm.copies
        super().__init__(config, generator=generator)
        # Periods of synthetic series, to borrow from.
        series = torch.zeros(0, 1)
        if arm.borrowed:
            series = torch.from_numpy(make(512, 512, seed=2**31))
        self.lent, _ = detect_period(series)

    def _block(self, generator: torch.Generator | None) -> Any:
        block = super()._block(generator)
        block.attention.score = self._make_score(generator)
        return block

    def _make_score(self, generator: torch.Generator | None) -> GroupLevelScore:
        ranks = RANKS[len(self.arm.levels)]
        width = self.config.d_model
        heads = self.config.n_heads
        if self.arm.score == "dot":
            return GroupLevelScore(
                width, heads, ranks=ranks, rotary_base=1000.0, norm=True, generator=generator
            )
        matrix: Any
        if self.arm.score == "mlr":
            matrix = MLR(
                width, width, ranks=(12, 6, 6), n_blocks=(1, 2, 4), heads=heads, generator=generator
            )
        else:
            matrix = BTT(width, width, tt_rank=2, heads=heads, generator=generator)
        return BilinearLevels(BilinearScore(matrix), ranks)

    def look(self, x: Tensor, horizon: int, likely: int = 0) -> tuple[Tensor, Seasons]:
        """The season alone; the shipped network also detects the cycle of a season, and reads no
        far past.
        """
        context = x[:, -self.config.max_context :]
        period, strength = detect_period(context)
        self.n_steps = context.shape[1] - context.isfinite().to(torch.int8).argmax(1)
        if self.arm.borrowed:
            # The series alone determines which season is borrowed.
            size = 1e3 * context.nan_to_num().abs().sum(1)
            place = size.round().long() % len(self.lent)
            period = self.lent[place]
        if "second" in self.arm.levels:
            self.second = detect_second(context, period)
        zeros = torch.zeros_like(strength)
        return x, Seasons(period, period, strength, zeros, zeros > 0)

    def _cut(self, seasons: Seasons, *sizes: int) -> Tokens:
        if not self.arm.cut:
            seasons = replace(seasons, period=torch.zeros_like(seasons.period))
        return super()._cut(seasons, *sizes)

    def _more(
        self, x: Tensor, period: Tensor, index: Tensor, level: Tensor, spread: Tensor
    ) -> list[Tensor]:
        """Values one season earlier (in the future the least number of seasons that reaches the
        past), and whether they are observed.
        """
        if not self.arm.copies:
            return []
        has_season = period > 0
        season = torch.where(has_season, period, 1)[:, None, None]
        n_seasons = torch.where(index >= 0, floor(index, season) + 1, 1)
        inside = has_season[:, None, None].expand_as(index)
        values, is_observed = read_slots(x, index - n_seasons * season, inside)
        return [scale(values, is_observed, level, spread), is_observed.float()]

    def _alike(self, seasons: Seasons, n_steps: Tensor, horizon: int) -> Any:
        # All rows are one batch: the attributes of a batch are those of all its rows.
        return [torch.arange(len(seasons.period))]

    def _places(self, tokens: Tokens, period: Tensor) -> Places:
        centre = tokens.starts() + tokens.lengths() / 2
        time = centre / self.config.token_len
        has_season = (period > 0)[:, None]
        span = tokens.steps[:, None]
        cycle = tokens.cycle()
        phase = tokens.phase()
        if not self.arm.cut:
            # Tokens of eight steps have phases of the season, too.
            span = period.clamp_min(1)[:, None]
            cycle = centre.div(span, rounding_mode="floor").long()
            n_phases = (span / 8).round().clamp_min(1)
            phase = ((centre - cycle * span) * n_phases / span).long()
        groups = self._blocks(tokens)
        wide = _centred_blocks(tokens.index, 32)
        groups["phase"] = torch.where(has_season, phase, wide)
        groups["cycle"] = torch.where(has_season, cycle + _FAR, wide)
        # Positions of the rotary embedding.
        turns = {"phase": torch.where(has_season, cycle.to(time), time)}
        if "second" in self.arm.levels:
            has_second = (self.second > 0)[:, None]
            n_cycles = self.second.clamp_min(1)[:, None]
            second_cycle = cycle.div(n_cycles, rounding_mode="floor")
            groups["second"] = torch.where(has_second, cycle.remainder(n_cycles), groups["near"])
            turns["second"] = torch.where(has_second, second_cycle.to(time), time)
        levels = self.arm.levels
        score = self.stack.blocks[0].attention.score
        cos, sin = score.rotary.angles([time, *(turns.get(name, time) for name in levels)])
        if self.arm.rotary:
            share = centre.remainder(span) / span
            cos, sin = _turned_by_phase(cos, sin, share, has_season)
        return Places(tuple(groups[name] for name in levels), (cos, sin))

    def _blocks(self, tokens: Tokens) -> dict[str, Tensor]:
        """Parts of the levels that do not depend on the season."""
        index = tokens.index
        # Tokens of a series' own past; the future belongs to the last block.
        n_past = -(-self.n_steps * tokens.count).div(tokens.steps, rounding_mode="floor")
        n_past = n_past.clamp(1, max(int((index < 0).sum()), 1))[:, None]
        near = _centred_blocks(index, 8)
        return {
            "all": torch.zeros_like(index),
            "half": (2 * (index + n_past)).div(n_past, rounding_mode="floor").clamp_max(1),
            "quarter": (4 * (index + n_past)).div(n_past, rounding_mode="floor").clamp_max(3),
            "near": near,
            "origin": near - _FAR,  # as in the shipped weights
        }


def _centred_blocks(index: Tensor, size: int) -> Tensor:
    """Numbers of blocks of tokens, one of which has the origin in its middle; none is negative, and
    they do not depend on other series.
    """
    return (index + size // 2 + _FAR * size) // size


def _turned_by_phase(
    cos: Tensor, sin: Tensor, share: Tensor, has_season: Tensor
) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, those of the second half of the features by the
    phase, a share of the season.
    """
    angle = 2 * math.pi * share[..., None] * torch.arange(1, HEAD // 4 + 1)
    angles = torch.cat([-angle, angle], dim=2)
    half = HEAD // 2
    turned = []
    for by_time, by_phase in ((cos, angles.cos()), (sin, angles.sin())):
        by_time = by_time.expand(*share.shape, HEAD)
        second_half = torch.where(has_season[..., None], by_phase, by_time[..., half:])
        turned.append(torch.cat([by_time[..., :half], second_half], dim=2))
    return turned[0], turned[1]


def detect_second(x: Tensor, period: Tensor) -> Tensor:
    """The season of the means of a series' cycles, in cycles, such as the week of the days of
    hours; 0 for none.
    """
    steps_back = torch.arange(x.shape[1] - 1, -1, -1)
    cycle = steps_back.div(period.clamp_min(2)[:, None], rounding_mode="floor")
    zeros = torch.zeros(len(x), int(cycle.max()) + 1, dtype=torch.float64)
    sums = zeros.scatter_add(1, cycle, x.nan_to_num().to(torch.float64))
    counts = zeros.scatter_add(1, cycle, x.isfinite().to(torch.float64))
    has_mean = (counts > 0) & (period > 0)[:, None]
    means = torch.where(has_mean, sums / counts.clamp_min(1), torch.nan)
    second, _ = detect_period(means.flip(1))
    return second


class Study(Pretraining):
    """A run of an arm."""

    def __init__(self, arm: Arm, config: ZeroConfig, recipe: Recipe) -> None:
        self.arm = arm
        super().__init__(config, recipe)

    def _make(self, config: ZeroConfig, generator: torch.Generator) -> ZeroNetwork:
        return StudyNetwork(self.arm, config, generator=generator)


def multiply_adds(network: ZeroNetwork) -> int:
    """Multiply-adds of one forecast of 64 steps from 512 hours."""
    hours = torch.arange(512.0)
    x = torch.sin(2 * math.pi / 24 * hours)[None] + hours / 500
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(x, 64)
    return counter.get_total_flops() // 2


def judge(network: ZeroNetwork, pack: Pack) -> Record:
    """Geometric means of relative MASE and WQL by column of development tasks, on evenly drawn
    instances.
    """
    ratios: dict[str, tuple[float, float]] = {}
    coverages = []
    for task in pack.tasks.values():
        if task.split != SPLITS[0]:
            continue
        instances: list[Instance] = pack.instances(task)
        stride = -(-len(instances) // MOST_INSTANCES)  # rounded up
        instances = instances[::stride]
        scores = score(task, instances, forecast("zero", task, instances, weights=network))
        base = score(task, instances, seasonal_naive(task, instances))
        ratios[task.name] = (scores["mase"] / base["mase"], scores["wql"] / base["wql"])
        coverages.append(scores["coverage80"])
    columns = []
    for column in JUDGED:
        tasks = pack.tasks.values()
        names = [task.name for task in tasks if column.holds(task.suite, task.split, task.horizon)]
        mase = geometric_mean([ratios[name][0] for name in names])
        wql = geometric_mean([ratios[name][1] for name in names])
        columns.append([round(mase, 5), round(wql, 5)])
    return {
        "columns": columns,
        "coverage80": round(fmean(coverages), 4),
        "tasks": {name: [round(mase, 4), round(wql, 4)] for name, (mase, wql) in ratios.items()},
    }


def execute(cell: Record, folder: Path, pack: Pack) -> Record:
    """Train and judge."""
    arm = ARMS[cell["arm"]]
    width = cell["d_model"]
    config = ZeroConfig(d_model=width, d_ff=4 * width, n_heads=width // HEAD)
    study = Study(arm, config, Recipe(cell["steps"], seed=cell["seed"]))
    arm_name = cell["arm"].replace(", ", "-").replace(" ", "_")
    run_folder = folder / f"{arm_name}-{width}-{cell['steps']}-{cell['seed']}"
    run(study, run_folder)
    network = study.average.eval()
    return {
        "kind": "arm",
        **cell,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "multiply_adds": multiply_adds(network),
        "windows": study.windows,
        "core_seconds": round(study.seconds, 1),
        "validation": last_validation(run_folder),
        **judge(network, pack),
    }


def last_validation(folder: Path) -> float:
    """The last validation loss of a run, from its folder."""
    lines = (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    return round(json.loads(lines[-1])["validation"], 5)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not on record."""
    defaults = {
        "pack": "",
        "folder": "",
        "arm": tuple(ARMS),
        "seed": (0, 1, 2),
        "steps": 200,
        "d_model": 96,
        "out": RESULTS / FILE,
    }
    options = parse(argv, __doc__, defaults, choices={"arm": ARMS})
    pack = Pack(options.pack)
    file = Records(options.out, KEY)
    cells = [
        {"arm": arm, "d_model": options.d_model, "steps": options.steps, "seed": seed}
        for seed, arm in product(options.seed, options.arm)
    ]
    shown = (*KEY, "validation", "columns", "multiply_adds", "core_seconds")
    with limit_threads(1):
        for cell in file.missing(cells):
            row = file.add(execute(cell, Path(options.folder), pack))
            print(*(row[name] for name in shown), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
