"""Tables and pictures of the benchmark suite: README's, those of docs/benchmarks.md and of
docs/log.md.
"""

import hashlib
import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import records
import render
from records import Record

from tsattn.benchmark import REQUIRED, chosen_settings
from tsattn.catalogue import MODELS

HEADLINE = "headline.jsonl"
VARIANTS = "variants.jsonl"
PUBLISHED = "published.jsonl"
# Rows of pretrained.py, told apart by these fields.
PRETRAINED = "pretrained_tables.jsonl"
KEY = ("dataset", "horizon", "model", "seed")
THEIRS = "standard"
MAP = "least_squares"
# Solved maps, and the rows that each reads. Published look-backs go up to 720 rows, a week of which
# has 672 rows of a quarter of an hour.
MAPS = {MAP: 336, "least_squares, 720 rows": 720, "least_squares, 1440 rows": 1440}
ZERO = "zero"
MEAN = "zero, mean"  # its point is the mean, which squared errors ask for, not the median
TUNED = "zero, fine-tuned"
COMBINED = {
    "map + zero": (MAP, ZERO),
    "maps": tuple(MAPS),
    "maps + zero": (*MAPS, ZERO),
    "maps + zero + fine-tuned": (*MAPS, ZERO, TUNED),
    "maps + mean": (*MAPS, MEAN),
    "maps + zero by column": (*MAPS, ZERO),
    "maps + mean by column": (*MAPS, MEAN),
}
WITH_ZERO = (ZERO, MEAN, TUNED, *COMBINED)
# Their columns have weights of their own.
BY_COLUMN = ("maps + zero by column", "maps + mean by column")
KEPT = "kept the map"
KEPT_WEIGHTS = "kept zero"
# Published rows shown beside ours: PatchTST as re-run by others with its evaluation mended, and the
# best known.
RIVAL = "PatchTST/42 re-run, bug fixed"
BEST = {"best": "best published", "best_any": "best of any kind"}
_NAIVE = {"naive", "seasonal_naive"}
# Models that every table leaves out, as one of their kind is better everywhere, and solved maps
# that are shown in combinations with the pretrained weights.
_LEFT_OUT = {"dlinear", "nlinear", "ridge", "gbm", "naive", MEAN, "maps + mean", *BY_COLUMN}
_LEFT_OUT |= {"maps", *MAPS} - {MAP}
# Models of README's table.
README = ("mlr", MAP, ZERO, "map + zero", "maps + zero", "seasonal_naive")
_POINTS = 48  # of a curve: more would be a large file and look the same
CONFIDENCE = 0.95
ENOUGH_SEEDS = 3  # an interval from two numbers would say nothing


def interval(values: list[float]) -> tuple[float, float] | None:
    """Student's interval of a mean; ``None`` below three values."""
    if len(values) < ENOUGH_SEEDS:
        return None
    from scipy.stats import t

    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return float(fmean(values) - half), float(fmean(values) + half)


def level(rows: list[Record]) -> float:
    """Mean MSE to five decimals: a model that is another one under its own name differs from it in
    the last bits.
    """
    return round(render.mean(rows, "mse"), 5)


def read_suite(folder: Path, *names: str) -> list[Record]:
    """The records of files of the suite, sorted, after checking that rows of one model or data set
    compare.

    Raises:
        ValueError: If a record is not whole, was changed by hand, or does not belong with the
            others.
    """
    rows: list[Record] = []
    for name in names:
        found = records.read(folder / name, ("dataset", "model", "horizon", "seed"))
        for number, row in enumerate(found, start=1):
            where = f"{name}, line {number}"
            if absent := set(REQUIRED) - set(row):
                raise ValueError(
                    f"{where} lacks {', '.join(sorted(absent))}; remove it and run again"
                )
            config = json.dumps(chosen_settings(row["config"]), sort_keys=True)
            if hashlib.sha256(config.encode()).hexdigest() != row["config_hash"]:
                raise ValueError(
                    f"{where}: config_hash is not that of its config; it was changed by hand, so"
                    " run it again"
                )
        rows += found
    for field, owner in (
        ("config_hash", "model"),
        ("data_sha256", "dataset"),
        ("split", "dataset"),
    ):
        for (of,), some in records.by(rows, owner).items():
            if len({json.dumps(row[field]) for row in some}) > 1:
                raise ValueError(
                    f"{owner} {of} has rows of more than one {field}; run all of them anew"
                )
    return sorted(rows, key=records.place)


def summary(folder: Path) -> str:
    """README's table: a few models of the headline."""
    return headline(folder, README)


def headline(folder: Path, shown: tuple[str, ...] = ()) -> str:
    """Models by data set, MSE and MAE averaged over horizons; fits that kept the map are named so.

    Args:
        folder: Of the records.
        shown: Models of the table; all of them where it is empty.

    Raises:
        ValueError: If the naive models are absent, or a model lacks a horizon of a data set.
    """
    rows = read_suite(folder, HEADLINE)
    pretrained = read_pretrained(folder, MAP, THEIRS)
    if not rows:
        return render.NONE
    found: dict[tuple[str, str], tuple[float, float] | None] = {}
    for (dataset,), of in records.cells(rows, "dataset").items():
        if absent := _NAIVE - {row["model"] for row in of}:
            raise ValueError(f"{HEADLINE}: {dataset} lacks {min(absent)}; add its rows")
        horizons = {row["horizon"] for row in of}
        for (model,), mine in records.cells(of, "model").items():
            if {row["horizon"] for row in mine} < horizons:
                raise ValueError(
                    f"{HEADLINE}: {dataset}, {model} lacks a horizon of {sorted(horizons)}; add its"
                    " rows"
                )
            found[model, dataset] = None if kept(mine) else _mean(mine)
        for (model,), mine in records.by(
            [row for row in pretrained if row["dataset"] == dataset], "model"
        ).items():
            if {row["horizon"] for row in mine} == horizons:
                found[model, dataset] = None if kept_weights(mine) else _mean(mine)
    if shown:
        found = {key: scores for key, scores in found.items() if key[0] in shown}
    datasets = list(dict.fromkeys(dataset for _, dataset in found))
    best = {
        name: min(round(of[0], 5) for (_, at), of in found.items() if at == name and of)
        for name in datasets
    }

    def cell(model: str, dataset: str) -> str:
        scores = found.get((model, dataset))
        if scores is None:
            return (KEPT_WEIGHTS if model == TUNED else KEPT) if (model, dataset) in found else ""
        text = f"{scores[0]:.3f}/{scores[1]:.3f}"
        return f"**{text}**" if round(scores[0], 5) == best[dataset] else text

    models = sorted({model for model, _ in found}, key=_rank)
    text = render.lines(
        ["model", *datasets],
        ([model, *(cell(model, name) for name in datasets)] for model in models),
    )
    told = (
        "MSE/MAE on the scale of the training rows, mean over the horizons 96, 192, 336 and 720,"
        " all test windows."
    )
    return f"{text}\n\n{told} The lowest MSE is bold."


def read_pretrained(folder: Path, *without: str) -> list[Record]:
    """What is recorded of the pretrained weights; combinations are left out where every seed kept
    the weights.
    """
    rows = [row for row in records.read(folder / PRETRAINED, KEY) if row["model"] not in without]
    groups = records.by(rows, "dataset", "model").items()
    gone = {key for key, mine in groups if key[1] in COMBINED and kept_weights(mine)}
    return [row for row in rows if (row["dataset"], row["model"]) not in gone]


def kept(rows: list[Record]) -> bool:
    """Whether each of some runs began from the solved map and came back to it."""
    return all(
        "config" in row and row["config"].get("linear_skip") == MAP and row["best_epoch"] == 0
        for row in rows
    )


def _rank(model: str) -> tuple[int | str, ...]:
    """Where a model stands: as in the catalogue, and what is made of the pretrained one
    behind it.
    """
    if model in MAPS:
        return (*records.rank(MAP), list(MAPS).index(model))
    places = {name: place for place, name in enumerate(WITH_ZERO)}
    return (*records.rank(ZERO), places[model]) if model in places else records.rank(model)


def told(rows: list[Record]) -> str:
    """Scores of runs, or what they kept; nothing where there are none."""
    return (
        KEPT
        if rows and kept(rows)
        else KEPT_WEIGHTS
        if kept_weights(rows)
        else render.pair(rows, "mse", "mae")
    )


def kept_weights(rows: list[Record]) -> bool:
    """Whether there are runs, and all of them fine-tuned the pretrained weights in vain."""
    return bool(rows) and all(row.get("kept", False) for row in rows)


def _mean(rows: list[Record]) -> tuple[float, float]:
    """MSE and MAE, averaged over seeds, then over horizons."""
    mse, mae = (
        fmean(render.mean(cell, score) for cell in records.by(rows, "horizon").values())
        for score in ("mse", "mae")
    )
    return mse, mae


def datasets(folder: Path) -> str:
    """A table for each data set: models by horizon, one line for those alike, and published rows
    beside them.
    """
    rows = read_suite(folder, HEADLINE, VARIANTS)
    published = read_published(folder)
    pretrained = read_pretrained(folder, MAP, THEIRS)
    if not rows:
        return render.NONE
    parts = []
    known = {row["model"] for row in read_suite(folder, HEADLINE)} | {*MAPS, *WITH_ZERO}
    for (dataset,), of in records.cells(rows, "dataset").items():
        horizons = sorted({row["horizon"] for row in of})
        of = [*of, *(row for row in pretrained if row["dataset"] == dataset)]
        of = [row for row in of if row["model"] not in _LEFT_OUT]
        groups = records.by(of, "horizon", "model").items()
        best = {h: min(level(some) for (at, _), some in groups if at == h) for h in horizons}
        body = []
        spreads = []
        for (model,), mine in sorted(
            records.by(of, "model").items(), key=lambda item: _rank(item[0][0])
        ):
            # Further attentions that kept the map say nothing new.
            if model not in known and kept(mine):
                continue
            by_horizon = records.by(mine, "horizon")
            learnt = [
                some for some in by_horizon.values() if not kept(some) and not kept_weights(some)
            ]
            spreads += [stdev(row["mse"] for row in some) for some in learnt if len(some) > 1]
            texts = []
            for h in horizons:
                some = by_horizon.get((h,), [])
                texts.append(
                    f"**{told(some)}**" if some in learnt and level(some) == best[h] else told(some)
                )
            body.append([model, *texts])
        for name, scores in beside(published, dataset, tuple(BEST)).items():
            pairs = [scores.get(str(h)) for h in horizons]
            body.append(
                [f"*{name}*", *(f"{each[0]:.3f}/{each[1]:.3f}" if each else "" for each in pairs)]
            )
        train, valid, test = of[0]["split"]
        same: dict[tuple[str, ...], list[str]] = {}
        for name, *cells in body:
            same.setdefault(tuple(cells), []).append(name)
        body = [[", ".join(names), *cells] for cells, names in same.items()]
        title = f"### {dataset}\n\n{train:,} training, {valid:,} validation and {test:,} test rows."
        if spreads:
            title += f" Seeds differ by at most {max(spreads):.3f}."
        parts.append(f"{title}\n\n{render.lines(['model', *map(str, horizons)], body)}")
    return "\n\n".join([*parts, records.commits([*rows, *pretrained])])


def read_published(folder: Path) -> list[Record]:
    """Published scores; each row names its source.

    Raises:
        ValueError: If a row does not.
    """
    rows = records.read_rows(folder / PUBLISHED)
    for row in rows:
        if row["kind"] == "model" and not row["source"]:
            raise ValueError(
                f"{PUBLISHED}: {row['model']} does not say where its numbers come from; name the"
                " source"
            )
    return rows


def beside(
    published: list[Record], dataset: str, kinds: tuple[str, ...] = ("best",)
) -> dict[str, dict[str, Any]]:
    """The published rows of a data set, ``[MSE, MAE]`` by horizon; those that are known."""
    found: dict[str, dict[str, Any]] = {}
    for row in published:
        if row["kind"] == "model" and row["model"] == RIVAL:
            same = (
                scores for name, scores in row["scores"].items() if name.lower() == dataset.lower()
            )
            found["PatchTST/42"] = next(same, {})
    for row in published:
        if row["kind"] in kinds and row["dataset"].lower() == dataset.lower():
            found[BEST[row["kind"]]] = {
                h: [cell["mse"], cell["mae"]] for h, cell in row["scores"].items()
            }
    return {name: scores for name, scores in found.items() if scores}


def cost(folder: Path) -> list[render.Panel]:
    """By data set: MSE of the trained models against seconds of training, means over the horizons
    of each.
    """
    panels = []
    for (dataset,), of in records.cells(_trained(folder), "dataset").items():
        horizons = sorted({row["horizon"] for row in of})
        lines = {}
        for (model,), mine in records.cells(of, "model").items():
            by_horizon = list(records.by(mine, "horizon").values())
            if len(by_horizon) == len(horizons):
                means = (
                    fmean(render.mean(cell, name) for cell in by_horizon)
                    for name in ("fit_seconds", "mse")
                )
                lines[model] = [list(means)]
        labels = {
            "title": dataset,
            "x": "seconds of training",
            "y": "MSE",
            "log": "x",
            "points": True,
        }
        panels.append({**labels, "lines": lines})
    return panels


def steps(folder: Path) -> list[render.Panel]:
    """By data set: MSE of the trained models by step ahead, at the longest horizon."""
    panels = []
    for (dataset,), of in records.cells(_trained(folder), "dataset").items():
        horizon = max(row["horizon"] for row in of)
        lines = {}
        for (model,), mine in records.cells(
            [row for row in of if row["horizon"] == horizon], "model"
        ).items():
            curve = [fmean(at) for at in zip(*(row["mse_by_step"] for row in mine), strict=True)]
            width = -(-horizon // _POINTS)
            parts = [(start, curve[start : start + width]) for start in range(0, horizon, width)]
            lines[model] = [[start + (len(part) + 1) / 2, fmean(part)] for start, part in parts]
        panels.append(
            {
                "title": f"{dataset}, horizon {horizon}",
                "x": "step ahead",
                "y": "MSE",
                "lines": lines,
            }
        )
    return panels


def _trained(folder: Path) -> list[Record]:
    return [
        row
        for row in read_suite(folder, HEADLINE)
        if row["model"] in MODELS and MODELS[row["model"]].trained
    ]


BLOCKS = {
    ("README.md", "results"): summary,
    ("docs/benchmarks.md", "suite"): datasets,
}
PICTURES = {"suite_cost.svg": cost, "suite_steps.svg": steps}
