"""Tables and pictures of the benchmark suite: README's, those of docs/benchmarks.md and of
docs/log.md.
"""

import hashlib
import json
from math import inf
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import records
import render
from records import Record

from tsattn.benchmark import REQUIRED, chosen_settings
from tsattn.catalogue import MODELS

HEADLINE = "headline.jsonl"
VARIANTS = "variants.jsonl"
PUBLISHED = "published.jsonl"
# Rows of pretrained.py; no two of them share all of these fields.
PRETRAINED = "pretrained_tables.jsonl"
KEY = ("dataset", "horizon", "model", "seed")
STANDARD = "standard"
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
# Combinations with weights of their own for each column.
BY_COLUMN = ("maps + zero by column", "maps + mean by column")
# Texts in place of scores where training returned to its start.
KEPT_MAP = "kept the map"
KEPT_WEIGHTS = "kept zero"
# Published rows beneath ours: PatchTST as run again by others, who corrected its evaluation, and
# the best scores of any source.
RIVAL = "PatchTST/42 re-run, bug fixed"
_RIVAL_NAME = "PatchTST/42"
BEST = {"best": "best published", "best_any": "best of any kind"}
_NAIVE = {"naive", "seasonal_naive"}
# Models that no table shows, because one of their kind is better everywhere, and solved maps that
# are shown in combinations with the pretrained weights.
_LEFT_OUT = {"dlinear", "nlinear", "ridge", "gbm", "naive", MEAN, "maps + mean", *BY_COLUMN}
_LEFT_OUT |= {"maps", *MAPS} - {MAP}
# Models of README's table.
README = ("mlr", MAP, ZERO, "map + zero", "maps + zero", "seasonal_naive")
_HEADLINE_NOTE = (
    "MSE/MAE on the scale of the training rows, mean over the horizons 96, 192, 336 and 720, all"
    " test windows. The lowest MSE is bold."
)
# Points of a curve: more would make a large file and look the same.
_CURVE_POINTS = 48
CONFIDENCE = 0.95
ENOUGH_SEEDS = 3  # an interval from two numbers would say nothing


class Result(NamedTuple):
    """What the headline shows of a model on one data set.

    ``mse`` is ``None`` where training returned to the start.
    """

    mse: float | None
    text: str


def interval(values: list[float]) -> tuple[float, float] | None:
    """Student's interval of a mean; ``None`` below three values."""
    if len(values) < ENOUGH_SEEDS:
        return None
    from scipy.stats import t

    standard_error = stdev(values) / len(values) ** 0.5
    half_width = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * standard_error
    return float(fmean(values) - half_width), float(fmean(values) + half_width)


def rounded_mse(rows: list[Record]) -> float:
    """Mean MSE to five decimals: equal models under two names differ in the last bits."""
    return round(render.mean(rows, "mse"), 5)


def read_suite(folder: Path, *files: str) -> list[Record]:
    """The records of files of the suite, sorted, after checking that rows of one model or data set
    compare.

    Raises:
        ValueError: If a record is not whole, was changed by hand, or does not belong with the
            others.
    """
    rows: list[Record] = []
    for file in files:
        file_rows = records.read(folder / file, ("dataset", "model", "horizon", "seed"))
        for number, row in enumerate(file_rows, start=1):
            _check_whole(row, f"{file}, line {number}")
        rows += file_rows
    _check_alike(rows, "config_hash", "model")
    _check_alike(rows, "data_sha256", "dataset")
    _check_alike(rows, "split", "dataset")
    return sorted(rows, key=records.place)


def _check_whole(row: Record, place: str) -> None:
    """Refuse a row that lacks a field, or whose configuration was changed by hand."""
    absent = set(REQUIRED) - set(row)
    if absent:
        raise ValueError(f"{place} lacks {', '.join(sorted(absent))}; remove it and run again")
    config = json.dumps(chosen_settings(row["config"]), sort_keys=True)
    digest = hashlib.sha256(config.encode()).hexdigest()
    if digest != row["config_hash"]:
        raise ValueError(
            f"{place}: config_hash is not that of its config; it was changed by hand, so run it"
            " again"
        )


def _check_alike(rows: list[Record], field: str, owner: str) -> None:
    """Refuse rows of one owner (a model or a data set) that differ in a field."""
    for (name,), owner_rows in records.by(rows, owner).items():
        values = {json.dumps(row[field]) for row in owner_rows}
        if len(values) > 1:
            raise ValueError(
                f"{owner} {name} has rows of more than one {field}; run all of them anew"
            )


def summary(folder: Path) -> str:
    """README's table: a few models of the headline."""
    return headline(folder, README)


def headline(folder: Path, shown: tuple[str, ...] = ()) -> str:
    """Models by data set: MSE and MAE averaged over horizons, or that training returned to the
    start.

    Args:
        folder: Of the records.
        shown: Models of the table; all of them where it is empty.

    Raises:
        ValueError: If the naive models are absent, or a model lacks a horizon of a data set.
    """
    rows = read_suite(folder, HEADLINE)
    pretrained_rows = read_pretrained(folder, MAP, STANDARD)
    if not rows:
        return render.NONE
    results: dict[tuple[str, str], Result] = {}
    for (dataset,), dataset_rows in records.cells(rows, "dataset").items():
        alike = [row for row in pretrained_rows if row["dataset"] == dataset]
        for model, result in _results(dataset, dataset_rows, alike).items():
            if not shown or model in shown:
                results[model, dataset] = result
    datasets = list(dict.fromkeys(dataset for _, dataset in results))
    models = sorted({model for model, _ in results}, key=_rank)
    best = {dataset: _lowest_mse(results, dataset) for dataset in datasets}
    lines = []
    for model in models:
        cells = [_headline_cell(results.get((model, name)), best[name]) for name in datasets]
        lines.append([model, *cells])
    table = render.lines(["model", *datasets], lines)
    return f"{table}\n\n{_HEADLINE_NOTE}"


def _results(dataset: str, rows: list[Record], pretrained_rows: list[Record]) -> dict[str, Result]:
    """The results of one data set by model.

    Args:
        dataset: Its name.
        rows: Its rows of the headline.
        pretrained_rows: Its rows of pretrained.py; a model that lacks a horizon is left out.

    Raises:
        ValueError: If the naive models are absent, or a model of the headline lacks a horizon.
    """
    absent = _NAIVE - {row["model"] for row in rows}
    if absent:
        raise ValueError(f"{HEADLINE}: {dataset} lacks {min(absent)}; add its rows")
    horizons = {row["horizon"] for row in rows}
    results = {}
    for (model,), model_rows in records.cells(rows, "model").items():
        if {row["horizon"] for row in model_rows} < horizons:
            raise ValueError(
                f"{HEADLINE}: {dataset}, {model} lacks a horizon of {sorted(horizons)}; add its"
                " rows"
            )
        results[model] = _mean_result(model_rows)
    for (model,), model_rows in records.by(pretrained_rows, "model").items():
        if {row["horizon"] for row in model_rows} == horizons:
            results[model] = _mean_result(model_rows)
    return results


def _mean_result(rows: list[Record]) -> Result:
    """MSE and MAE of a model, averaged over seeds, then over horizons."""
    if kept_map(rows):
        return Result(None, KEPT_MAP)
    if kept_weights(rows):
        return Result(None, KEPT_WEIGHTS)
    by_horizon = records.by(rows, "horizon").values()
    mse = fmean(render.mean(horizon_rows, "mse") for horizon_rows in by_horizon)
    mae = fmean(render.mean(horizon_rows, "mae") for horizon_rows in by_horizon)
    return Result(mse, f"{mse:.3f}/{mae:.3f}")


def _lowest_mse(results: dict[tuple[str, str], Result], dataset: str) -> float:
    """The lowest MSE on a data set, to five decimals."""
    errors = []
    for (_, name), result in results.items():
        if name == dataset and result.mse is not None:
            errors.append(round(result.mse, 5))
    return min(errors)


def _headline_cell(result: Result | None, lowest_mse: float) -> str:
    if result is None:
        return ""
    if result.mse is not None and round(result.mse, 5) == lowest_mse:
        return f"**{result.text}**"
    return result.text


def read_pretrained(folder: Path, *left_out: str) -> list[Record]:
    """The records of the pretrained weights but for some models.

    A combination is left out where fine-tuning kept the weights for every seed: it equals the one
    without fine-tuned weights.
    """
    all_rows = records.read(folder / PRETRAINED, KEY)
    rows = [row for row in all_rows if row["model"] not in left_out]
    repeated = set()
    for (dataset, model), model_rows in records.by(rows, "dataset", "model").items():
        if model in COMBINED and kept_weights(model_rows):
            repeated.add((dataset, model))
    return [row for row in rows if (row["dataset"], row["model"]) not in repeated]


def kept_map(rows: list[Record]) -> bool:
    """Whether there are runs, and all of them began at the solved map and returned to it."""
    return bool(rows) and all(
        "config" in row and row["config"].get("linear_skip") == MAP and row["best_epoch"] == 0
        for row in rows
    )


def kept_weights(rows: list[Record]) -> bool:
    """Whether there are runs, and all of them fine-tuned the pretrained weights in vain."""
    return bool(rows) and all(row.get("kept", False) for row in rows)


def _rank(model: str) -> tuple[int | str, ...]:
    """The place of a model in a table: as in the catalogue. Models that contain the pretrained one
    follow it.
    """
    if model in MAPS:
        return (*records.rank(MAP), list(MAPS).index(model))
    if model in WITH_ZERO:
        return (*records.rank(ZERO), WITH_ZERO.index(model))
    return records.rank(model)


def score_text(rows: list[Record]) -> str:
    """MSE and MAE of runs, or the start to which they returned; empty where there is no run."""
    if kept_map(rows):
        return KEPT_MAP
    if kept_weights(rows):
        return KEPT_WEIGHTS
    return render.pair(rows, "mse", "mae")


def datasets(folder: Path) -> str:
    """A table for each data set: models by horizon, equal ones in one line, then published
    scores.
    """
    rows = read_suite(folder, HEADLINE, VARIANTS)
    published = read_published(folder)
    pretrained_rows = read_pretrained(folder, MAP, STANDARD)
    if not rows:
        return render.NONE
    headline_models = {row["model"] for row in read_suite(folder, HEADLINE)}
    always_shown = headline_models | {*MAPS, *WITH_ZERO}
    parts = []
    for (dataset,), suite_rows in records.cells(rows, "dataset").items():
        horizons = sorted({row["horizon"] for row in suite_rows})
        of_dataset = [row for row in pretrained_rows if row["dataset"] == dataset]
        table_rows = [row for row in (*suite_rows, *of_dataset) if row["model"] not in _LEFT_OUT]
        lines = _model_lines(table_rows, horizons, always_shown)
        lines += _published_lines(published, dataset, horizons)
        head = ["model", *map(str, horizons)]
        table = render.lines(head, _merged(lines))
        parts.append(f"{_dataset_title(dataset, table_rows)}\n\n{table}")
    return "\n\n".join([*parts, records.commits([*rows, *pretrained_rows])])


def _dataset_title(dataset: str, rows: list[Record]) -> str:
    """The heading of a data set, the sizes of its split, and how much seeds differ at most."""
    train, valid, test = rows[0]["split"]
    title = f"### {dataset}\n\n{train:,} training, {valid:,} validation and {test:,} test rows."
    groups = records.by(rows, "horizon", "model").values()
    learnt = [group for group in groups if len(group) > 1 and _learnt(group)]
    spreads = [stdev(row["mse"] for row in group) for group in learnt]
    if spreads:
        title += f" Seeds differ by at most {max(spreads):.3f}."
    return title


def _learnt(rows: list[Record]) -> bool:
    """Whether there are runs, and training did not return to the start in all of them."""
    return bool(rows) and not kept_map(rows) and not kept_weights(rows)


def _model_lines(
    rows: list[Record], horizons: list[int], always_shown: set[str]
) -> list[list[str]]:
    """A line for each model of a data set, the lowest MSE of each horizon in bold.

    A model that returned to the solved map has a line only if it is one of ``always_shown``.
    """
    best = dict.fromkeys(horizons, inf)
    for (horizon, _), cell_rows in records.by(rows, "horizon", "model").items():
        if horizon in best:
            best[horizon] = min(best[horizon], rounded_mse(cell_rows))
    by_model = {model: model_rows for (model,), model_rows in records.by(rows, "model").items()}
    lines = []
    for model in sorted(by_model, key=_rank):
        if model not in always_shown and kept_map(by_model[model]):
            continue
        by_horizon = records.by(by_model[model], "horizon")
        line = [model]
        for horizon in horizons:
            cell_rows = by_horizon.get((horizon,), [])
            text = score_text(cell_rows)
            if _learnt(cell_rows) and rounded_mse(cell_rows) == best[horizon]:
                text = f"**{text}**"
            line.append(text)
        lines.append(line)
    return lines


def _published_lines(published: list[Record], dataset: str, horizons: list[int]) -> list[list[str]]:
    """A line for each published row of a data set."""
    lines = []
    for name, scores in published_scores(published, dataset, tuple(BEST)).items():
        line = [f"*{name}*"]
        for horizon in horizons:
            score = scores.get(str(horizon))
            line.append(f"{score[0]:.3f}/{score[1]:.3f}" if score else "")
        lines.append(line)
    return lines


def _merged(lines: list[list[str]]) -> list[list[str]]:
    """One line for all models with the same cells."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, *cells in lines:
        names.setdefault(tuple(cells), []).append(name)
    return [[", ".join(alike), *cells] for cells, alike in names.items()]


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


def published_scores(
    published: list[Record], dataset: str, kinds: tuple[str, ...] = ("best",)
) -> dict[str, dict[str, Any]]:
    """Published ``[MSE, MAE]`` of a data set by model and horizon; models without any are left
    out.
    """
    scores: dict[str, dict[str, Any]] = {}
    for row in published:
        if row["kind"] == "model" and row["model"] == RIVAL:
            by_dataset = {name.lower(): by_horizon for name, by_horizon in row["scores"].items()}
            scores[_RIVAL_NAME] = by_dataset.get(dataset.lower(), {})
    for row in published:
        if row["kind"] in kinds and row["dataset"].lower() == dataset.lower():
            scores[BEST[row["kind"]]] = {
                horizon: [cell["mse"], cell["mae"]] for horizon, cell in row["scores"].items()
            }
    return {name: by_horizon for name, by_horizon in scores.items() if by_horizon}


def cost(folder: Path) -> list[render.Panel]:
    """By data set: MSE of the trained models against seconds of training, means over the horizons
    of each.
    """
    panels = []
    for (dataset,), dataset_rows in records.cells(_trained(folder), "dataset").items():
        n_horizons = len({row["horizon"] for row in dataset_rows})
        lines = {}
        for (model,), model_rows in records.cells(dataset_rows, "model").items():
            by_horizon = records.by(model_rows, "horizon").values()
            if len(by_horizon) == n_horizons:
                seconds = fmean(render.mean(rows, "fit_seconds") for rows in by_horizon)
                mse = fmean(render.mean(rows, "mse") for rows in by_horizon)
                lines[model] = [[seconds, mse]]
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
    for (dataset,), dataset_rows in records.cells(_trained(folder), "dataset").items():
        horizon = max(row["horizon"] for row in dataset_rows)
        longest = [row for row in dataset_rows if row["horizon"] == horizon]
        lines = {}
        for (model,), model_rows in records.cells(longest, "model").items():
            lines[model] = _error_curve(model_rows, horizon)
        labels = {"title": f"{dataset}, horizon {horizon}", "x": "step ahead", "y": "MSE"}
        panels.append({**labels, "lines": lines})
    return panels


def _error_curve(rows: list[Record], horizon: int) -> list[list[float]]:
    """Points of step and MSE, each the mean of neighbouring steps and of all runs."""
    by_step = zip(*(row["mse_by_step"] for row in rows), strict=True)
    errors = [fmean(step_errors) for step_errors in by_step]
    n_steps = -(-horizon // _CURVE_POINTS)  # rounded up
    points = []
    for start in range(0, horizon, n_steps):
        part = errors[start : start + n_steps]
        # Steps count from 1.
        middle = start + (len(part) + 1) / 2
        points.append([middle, fmean(part)])
    return points


def _trained(folder: Path) -> list[Record]:
    """Rows of the headline whose model is trained."""
    trained = {name for name, entry in MODELS.items() if entry.trained}
    return [row for row in read_suite(folder, HEADLINE) if row["model"] in trained]


BLOCKS = {
    ("README.md", "results"): summary,
    ("docs/benchmarks.md", "suite"): datasets,
}
PICTURES = {"suite_cost.svg": cost, "suite_steps.svg": steps}
