"""Which model is better, and by how much? Differences paired by seed, and mean ranks over data sets and horizons."""

import importlib.util
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from tsattn.benchmark import asked

Record = dict[str, Any]
Cell = tuple[str, int]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = _neighbour("tables")

CONFIDENCE = 0.95
ENOUGH_SEEDS = 3  # an interval from two numbers would say nothing
ENOUGH_CELLS, ENOUGH_MODELS = 4, 3  # to rank by


class Pair(NamedTuple):
    """Two models on one data set and horizon, seed by seed; ours minus theirs.

    Args:
        cell: Data set and horizon.
        differences: By score and seed.
        theirs: By score, the mean of the other model over these seeds.
    """

    cell: Cell
    differences: dict[str, dict[int, float]]
    theirs: dict[str, float]

    @property
    def seeds(self) -> list[int]:
        """Those that both models were run with."""
        return sorted(self.differences["mse"])

    def mean(self, score: str) -> float:
        """Mean difference over seeds."""
        return fmean(self.differences[score].values())

    def percent(self, score: str) -> float:
        """The mean difference as a share of the other model's score."""
        return 100 * self.mean(score) / self.theirs[score]


def pairs(records: list[Record], ours: str, theirs: str) -> list[Pair]:
    """Runs of two models that differ in nothing but the model: data, horizon, seed and every setting are equal."""
    found = []
    for (dataset, horizon), rows in tables.cells(records, "dataset", "horizon"):
        of = {(row["model"], row["seed"]): row for row in rows}
        both = [(row, of[theirs, seed]) for (model, seed), row in of.items() if model == ours and (theirs, seed) in of]
        both = [(a, b) for a, b in both if _settings(a) == _settings(b)]
        if both:
            scores = ("mse", "mae")
            differences = {name: {a["seed"]: a[name] - b[name] for a, b in both} for name in scores}
            means = {name: fmean(b[name] for _, b in both) for name in scores}
            found.append(Pair((dataset, horizon), differences, means))
    return found


def _settings(row: Record) -> Record:
    return {name: value for name, value in asked(row["config"]).items() if name != "model"}


def overall(found: list[Pair], score: str) -> list[float]:
    """The difference in percent, a mean over cells for each seed that every cell has."""
    common = set.intersection(*(set(pair.seeds) for pair in found))
    return [
        fmean(100 * pair.differences[score][seed] / pair.theirs[score] for pair in found) for seed in sorted(common)
    ]


def interval(values: list[float]) -> tuple[float, float] | None:
    """Student's interval of a mean; ``None`` below three values."""
    if len(values) < ENOUGH_SEEDS:
        return None
    from scipy.stats import t

    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return float(fmean(values) - half), float(fmean(values) + half)


# --- ranks ------------------------------------------------------------------------------------------------------


class Ranks(NamedTuple):
    """Mean ranks, 1 for the least error.

    Args:
        models: By name, the mean rank, best first.
        cells: Data sets and horizons ranked over.
        critical: Nemenyi's critical difference at 5%.
        left_out: Models without a record in some of these cells.
    """

    models: dict[str, float]
    cells: list[Cell]
    critical: float
    left_out: list[str]


def block(records: list[Record], n_models: int, n_cells: int) -> tuple[list[str], list[Cell]]:
    """The models and cells with no gap in between that hold most records; two empty lists where none is as large.

    Models with many cells come first, so a model that was run once does not throw out all the others' cells.
    """
    has: dict[str, set[Cell]] = {}
    for row in records:
        has.setdefault(row["model"], set()).add((row["dataset"], row["horizon"]))
    models = sorted(has, key=lambda name: (-len(has[name]), tables.rank(name)))
    best: tuple[list[str], set[Cell]] = ([], set())
    for count in range(n_models, len(models) + 1):
        shared = set.intersection(*(has[name] for name in models[:count]))
        if len(shared) >= n_cells and count * len(shared) >= len(best[0]) * len(best[1]):
            best = (models[:count], shared)
    return sorted(best[0], key=tables.rank), sorted(best[1], key=lambda cell: (cell[0].lower(), *cell))


def ranks(records: list[Record]) -> Ranks | None:
    """Models ranked by MSE, means over seeds; ``None`` below four cells or three models."""
    models, shared = block(records, ENOUGH_MODELS, ENOUGH_CELLS)
    if not models:
        return None
    from scipy.stats import rankdata

    rows = dict(tables.cells(records, "dataset", "horizon", "model"))
    errors = [[tables.level(rows[(*cell, name)]) for name in models] for cell in shared]
    means = dict(zip(models, rankdata(errors, axis=1).mean(axis=0).tolist(), strict=True))
    absent = sorted({row["model"] for row in records} - set(models), key=tables.rank)
    ordered = dict(sorted(means.items(), key=lambda item: item[1]))
    return Ranks(ordered, shared, critical_difference(len(models), len(shared)), absent)


def critical_difference(n_models: int, n_cells: int) -> float:
    """By how much mean ranks must differ, by Nemenyi's test at 5% (Demšar, JMLR 7, 2006)."""
    from scipy.stats import studentized_range

    studentized = studentized_range.ppf(CONFIDENCE, n_models, float("inf")) / 2**0.5
    return float(studentized * (n_models * (n_models + 1) / (6 * n_cells)) ** 0.5)


def ties(found: Ranks) -> list[tuple[str, str]]:
    """First and last of each group within one critical difference; groups inside a larger one are left out."""
    names = list(found.models)
    groups: list[tuple[int, int]] = []
    for first, name in enumerate(names):
        near = [n for n, other in enumerate(names) if found.models[other] - found.models[name] <= found.critical]
        last = max(near)
        if last > first and all(last > end for _, end in groups):
            groups.append((first, last))
    return [(names[first], names[last]) for first, last in groups]
