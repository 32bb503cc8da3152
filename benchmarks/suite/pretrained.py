"""The pretrained weights on the long-horizon tables: as they are, fine-tuned, and combined with
solved maps.

Forecasts are costly, so they are written once to a folder, some origins a file; existing files
are not made again. ``--model standard`` trains standard attention as in headline.toml, for its
interval. Run: PYTHONPATH=benchmarks python
benchmarks/suite/pretrained.py --data DIR --cache DIR
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import records
import render
from records import RESULTS, Record, Records
from scipy.optimize import nnls
from suite import page
from suite.page import (
    BY_COLUMN,
    COMBINED,
    KEY,
    MAP,
    MAPS,
    MEAN,
    PRETRAINED,
    STANDARD,
    TUNED,
    ZERO,
)

from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.panel import Panel
from tsattn.data.training_windows import Split
from tsattn.data.windows import History, make_scaler
from tsattn.forecaster import Forecaster
from tsattn.limits import limit_threads
from tsattn.storage import write_atomic

SUITE = Path(__file__).with_name("headline.toml")
TABLES = ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather")
HORIZONS = (96, 192, 336, 720)
# Rows from one validation origin to the next. These origins only choose weights; 25 has no divisor
# in common with a season of these tables.
THIN = 25
# Origins in one file of forecasts.
PART = 64
# Weights of a column are the mean of its own best ones and of those of all columns. Where weights
# of one half of the validation rows are judged on the other, that is ahead of both in the mean.
OWN_SHARE = 0.5


class Source(NamedTuple):
    """Where the forecasts of a member are: its name and seed, and the steps of each forecast."""

    model: str
    seed: int
    n_steps: int


class Table:
    """A table of the suite, its origins, and forecasts from them: one folder a model, some origins
    a file.

    Args:
        name: Of the records.
        panel: Its rows up to the last one that is judged.
        split: Its rows.
        cache: Folder of forecasts.
    """

    def __init__(self, name: str, panel: Panel, split: Split, cache: Path) -> None:
        self.name = name
        self.panel = panel
        self.split = split
        self.folder = cache / name
        train, valid, stop = split.bounds
        shortest = min(HORIZONS)
        validation_ends = np.arange(train, valid - shortest + 1, THIN)
        test_ends = np.arange(valid, stop - shortest + 1)
        self.ends = np.concatenate([validation_ends, test_ends])
        # Every forecast is of all series together.
        group = panel.grouped()
        self.history = History(group)
        self.scaler = make_scaler(group, train)
        self.truth = self.scaler.transform(group.values)
        n_parts = -(-len(self.ends) // PART)  # rounded up
        # Each file has origins from the whole span, so that the first files already show about
        # where the scores will lie.
        self.parts = [slice(first, None, n_parts) for first in range(n_parts)]

    def file(self, model: str, seed: int, part: int) -> Path:
        """The file of a part of a model's forecasts."""
        folder = re.sub(r"\W+", "-", f"{model} {seed}")
        return self.folder / folder / f"{part:04d}"

    def forecast(self, model: str, seed: int) -> None:
        """Write the missing files: points on the scale of the training rows, float32
        ``[B, F, C]`` a file.
        """
        numbers = range(len(self.parts))
        missing = [part for part in numbers if not self.file(model, seed, part).exists()]
        if not missing:
            return
        forecaster = self.fit(model, seed)
        for part in missing:
            point, _ = forecaster.predict_before(self.history, self.ends[self.parts[part]])
            scaled = self.scaler.transform(point).astype(np.float32)
            write_atomic(self.file(model, seed, part), scaled.tofile)

    def fit(self, model: str, seed: int) -> Forecaster:
        """A model fitted on the training rows, and stopped by the validation rows; a fine-tuned one
        is saved.
        """
        rows = self.panel.rows(0, self.split.bounds[1])
        make_pretrained = partial(make_forecaster, ZERO, max(HORIZONS), n_threads=1)
        if model in (ZERO, MEAN):
            point = "mean" if model == MEAN else "median"
            return make_pretrained(point=point).fit(rows)
        if model == TUNED:
            folder = self.file(model, seed, 0).with_name("model")
            if not folder.exists():
                forecaster = make_pretrained(
                    fine_tune=True, random_state=seed, val_size=self.split.valid
                )
                forecaster.fit(rows).save(folder)
            return load_forecaster(folder)
        # Other models are fitted for one horizon, which stands behind their name.
        name, horizon = model.rsplit(maxsplit=1)
        settings = {"val_size": self.split.valid, "context": MAPS.get(name, MAPS[MAP])}
        if name == STANDARD:
            settings |= tomllib.loads(SUITE.read_text())["settings"]["attention"]
            settings["random_state"] = seed
        else:
            name = MAP
        return make_forecaster(name, int(horizon), **settings).fit(rows)

    def sources(self, horizon: int, seed: int) -> dict[str, Source]:
        """The members all of whose forecasts are written."""
        most_steps = max(HORIZONS)
        sources = {name: Source(f"{name} {horizon}", 0, horizon) for name in MAPS}
        sources[STANDARD] = Source(f"{STANDARD} {horizon}", seed, horizon)
        sources[ZERO] = Source(ZERO, 0, most_steps)
        sources[MEAN] = Source(MEAN, 0, most_steps)
        sources[TUNED] = Source(TUNED, seed, most_steps)
        return {name: source for name, source in sources.items() if self._is_whole(source)}

    def _is_whole(self, source: Source) -> bool:
        """Whether every file of a member's forecasts exists."""
        numbers = range(len(self.parts))
        return all(self.file(source.model, source.seed, part).exists() for part in numbers)

    def inside(self, horizon: int, *, test: bool) -> np.ndarray:
        """Whether an origin is one of the test or of the validation rows, and its horizon ends
        within them.
        """
        _, valid, stop = self.split.bounds
        if test:
            begins_inside = self.ends >= valid
        else:
            begins_inside = self.ends < valid
            stop = valid
        ends_inside = self.ends + horizon <= stop
        return begins_inside & ends_inside

    def errors(
        self, horizon: int, sources: Mapping[str, Source], *, test: bool
    ) -> Iterator[np.ndarray]:
        """Forecast minus truth by member from the origins :meth:`inside`, ``[M, B, horizon, C]`` a
        file.
        """
        inside = self.inside(horizon, test=test)
        steps = np.arange(horizon)
        for number, part in enumerate(self.parts):
            ends = self.ends[part]
            judged = inside[part]
            truth = self.truth[ends[judged, None] + steps]
            errors = []
            for source in sources.values():
                flat = np.fromfile(self.file(source.model, source.seed, number), np.float32)
                values = flat.reshape(len(ends), source.n_steps, -1)
                errors.append(values[judged, :horizon] - truth)
            yield np.stack(errors)

    def origins(self, horizon: int, *, test: bool) -> np.ndarray:
        """Origins in the order of the errors."""
        inside = self.inside(horizon, test=test)
        return np.concatenate([self.ends[part][inside[part]] for part in self.parts])


def simplex_weights(gram: np.ndarray) -> np.ndarray:
    """Weights ``[M]`` of the least error: not negative, summing to one.

    Args:
        gram: Mean products of the errors of M members, ``[M, M]``.
    """
    # Members may be the same forecasts.
    root = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    unscaled, _ = nnls(root.T, np.linalg.solve(root, np.ones(len(gram))))
    return unscaled / unscaled.sum()


def best_weights(
    products: np.ndarray, members: Sequence[int], *, by_column: bool = False
) -> np.ndarray:
    """Weights ``[C, M]`` of the members in each column.

    Args:
        products: Mean products of the errors of all M members at each origin, ``[B, C, M, M]``.
        members: Which may have a weight.
        by_column: Whether columns have weights of their own, by ``OWN_SHARE``.
    """
    grams = products.mean(0)[:, members][:, :, members]
    weights = np.zeros(products.shape[1:3])
    weights[:, members] = simplex_weights(grams.mean(0))
    if by_column:
        own_weights = np.stack([simplex_weights(gram) for gram in grams])
        weights[:, members] = OWN_SHARE * own_weights + (1 - OWN_SHARE) * weights[:, members]
    return weights


def mean_squares(products: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared error ``[B]`` of members with weights ``[C, M]``, from their products."""
    return np.einsum("cm,bcmn,cn->bc", weights, products, weights).mean(1)


def score(table: Table, horizon: int, seed: int) -> list[Record]:
    """A row for each member and each combination whose forecasts are whole.

    Weights come from all validation origins. ``valid_mse`` is that of weights from the windows
    inside one half of the validation rows, on the windows inside the other; ``kept`` says that
    fine-tuning kept the weights.
    """
    sources = table.sources(horizon, seed)
    names = list(sources)
    products = _validation_products(table, horizon, sources)
    halves = _halves(table, horizon, products)
    tuned_equals_zero = _are_alike(products, names, ZERO, TUNED)
    rows = []
    weights = []
    for model in (*names, *COMBINED):
        member_names = COMBINED.get(model, (model,))
        if not {*member_names} <= {*names}:
            continue
        members = [names.index(name) for name in member_names]
        weigh = partial(best_weights, members=members, by_column=model in BY_COLUMN)
        weights.append(weigh(products))
        seed_of_model = sources[member_names[-1]].seed
        row = {"dataset": table.name, "horizon": horizon, "model": model, "seed": seed_of_model}
        if tuned_equals_zero and TUNED in member_names:
            row["kept"] = True
        if model in COMBINED:
            row["weights"] = _weights_by_name(model, weights[-1][:, members])
        row["valid_mse"] = _crossed_error(*halves, weigh)
        rows.append(row)
    squares, absolutes = _test_scores(table, horizon, sources, np.stack(weights))
    map_squares = squares[names.index(MAP)]
    for row, mse, mae in zip(rows, squares, absolutes, strict=True):
        row |= {"n_windows": len(mse), "mse": float(mse.mean()), "mae": float(mae.mean())}
        if row["model"] != MAP:
            row["beyond_map"] = _block_means(mse - map_squares, horizon)
    return rows


def _validation_products(table: Table, horizon: int, sources: Mapping[str, Source]) -> np.ndarray:
    """Mean products of the errors of all members at each validation origin, ``[B, C, M, M]``."""
    files = table.errors(horizon, sources, test=False)
    products = [np.einsum("mbhc,nbhc->bcmn", errors, errors) for errors in files]
    return np.concatenate(products) / horizon


def _halves(table: Table, horizon: int, products: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products at the validation origins whose windows lie in the first, and in the second half of
    the validation rows.
    """
    ends = table.origins(horizon, test=False)
    train, valid, _ = table.split.bounds
    middle = (train + valid) / 2
    return products[ends + horizon <= middle], products[ends >= middle]


def _crossed_error(
    first_half: np.ndarray,
    second_half: np.ndarray,
    weigh: Callable[[np.ndarray], np.ndarray],
) -> float:
    """Mean squared error of the weights of one half on the other half, for both halves."""
    second_squares = mean_squares(second_half, weigh(first_half))
    first_squares = mean_squares(first_half, weigh(second_half))
    return float(np.concatenate([second_squares, first_squares]).mean())


def _are_alike(products: np.ndarray, names: list[str], first: str, second: str) -> bool:
    """Whether two members are there, and have the same errors."""
    if first not in names or second not in names:
        return False
    first_products = products[:, :, names.index(first)]
    second_products = products[:, :, names.index(second)]
    return np.allclose(first_products, second_products, rtol=1e-9)


def _weights_by_name(model: str, weights: np.ndarray) -> dict[str, Any]:
    """Rounded weights of a combination by member: one number, or one a column; from ``[C, M]``."""
    rounded = weights.round(4)
    if model not in BY_COLUMN:
        rounded = rounded[0]
    return dict(zip(COMBINED[model], rounded.T.tolist(), strict=True))


def _test_scores(
    table: Table, horizon: int, sources: Mapping[str, Source], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared and mean absolute errors ``[K, B]`` at all test origins in the order of time,
    for K sets of weights ``[K, C, M]``.
    """
    squares = []
    absolutes = []
    for errors in table.errors(horizon, sources, test=True):
        combined = np.einsum("kcm,mbhc->kbhc", weights, errors)
        squares.append(np.square(combined).mean((2, 3)))
        absolutes.append(np.abs(combined).mean((2, 3)))
    order = np.argsort(table.origins(horizon, test=True))
    all_squares = np.concatenate(squares, axis=1)
    all_absolutes = np.concatenate(absolutes, axis=1)
    return all_squares[:, order], all_absolutes[:, order]


def _block_means(values: np.ndarray, n_rows: int) -> list[float]:
    """Means over blocks of about ``n_rows`` neighbouring origins."""
    n_blocks = max(1, len(values) // n_rows)
    return [round(float(block.mean()), 6) for block in np.array_split(values, n_blocks)]


def main(argv: list[str] | None = None) -> None:
    """Forecast what is missing, and record what is not on file."""
    defaults = {
        "data": "data",
        "cache": "cache",
        "table": (),
        "model": (),
        "seed": (0,),
        "out": RESULTS / PRETRAINED,
    }
    choices = {"table": TABLES, "model": (ZERO, MEAN, TUNED, STANDARD)}
    options = records.parse(argv, __doc__, defaults, choices=choices)
    models = options.model or (ZERO, MEAN, TUNED)
    file = Records(options.out, KEY)
    with limit_threads(1):
        for name in options.table or TABLES:
            data = load_dataset(name.lower(), options.data)
            panel = data.panel.rows(0, data.split.bounds[2])
            table = Table(name, panel, data.split, Path(options.cache))
            for model, seed in _runs(models, options.seed):
                table.forecast(model, seed)
                print(f"{name}, {model}, seed {seed}: forecast", flush=True)
            for horizon, seed in product(HORIZONS, options.seed):
                for row in score(table, horizon, seed):
                    file.add(row)


def _runs(models: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Names and seeds of the forecasts to make: of the solved maps, and of the models."""
    runs = [(f"{name} {horizon}", 0) for name, horizon in product(MAPS, HORIZONS)]
    runs += [(name, 0) for name in (ZERO, MEAN) if name in models]
    if TUNED in models:
        runs += [(TUNED, seed) for seed in seeds]
    if STANDARD in models:
        runs += [(f"{STANDARD} {horizon}", seed) for seed, horizon in product(seeds, HORIZONS)]
    return runs


_SHOWN = "maps + zero"
_CANDIDATES = (*MAPS, *page.WITH_ZERO)
_RIVALS = ("PatchTST/42", *page.BEST.values())
# Runs by model, of one data set and horizon.
Cell = dict[str, list[Record]]


def tables(folder: Path) -> str:
    """Changes of the MSE from the solved map: of one combination, and of the model that validation
    rows choose; and how often that model is ahead of published scores.
    """
    rows = page.read_pretrained(folder)
    published = page.read_published(folder)
    if not rows:
        return render.NONE
    horizons = {row["horizon"] for row in rows}
    lines = []
    spans = []
    n_lower: Counter[str] = Counter()
    n_lower_untuned: Counter[str] = Counter()
    groups = records.cells(rows, "dataset", "horizon")
    for (dataset, horizon), cell_rows in groups.items():
        rivals = _rival_errors(published, dataset, horizon)
        cell = _candidates(cell_rows)
        chosen = _chosen(cell)
        n_lower.update(_lower(cell[chosen], rivals))
        untuned = {name: runs for name, runs in cell.items() if not _is_tuned(name)}
        n_lower_untuned.update(_lower(untuned[_chosen(untuned)], rivals))
        change = Change("", None)
        if chosen != MAP:
            change = _beyond(cell[chosen])
        if change.span is not None:
            spans.append(change.span)
        if horizon in (min(horizons), max(horizons)):
            combination = _beyond(cell[_SHOWN]).text if _SHOWN in cell else ""
            lines.append([dataset, str(horizon), combination, chosen, change.text])
    head = ["data set", "horizon", _SHOWN, "chosen", "its change"]
    below = sum(high < 0 for _, high in spans)
    above = sum(low > 0 for low, _ in spans)
    counts = ", ".join(f"{name} in {n_lower[name]}" for name in _RIVALS)
    counts_untuned = ", ".join(str(n_lower_untuned[name]) for name in _RIVALS)
    text = (
        f"Of {len(spans)} intervals of what is chosen, {below} lie below zero and {above} above. In"
        f" {len(groups)} cells it has a lower MSE than {counts}. Without fine-tuned weights, which"
        f" alone have seeds: {counts_untuned}."
    )
    return f"{render.lines(head, lines)}\n\n{text} {records.commits(rows)}"


def _rival_errors(published: list[Record], dataset: str, horizon: int) -> dict[str, float]:
    """Published MSE of a data set and horizon by model."""
    scores = page.published_scores(published, dataset, tuple(page.BEST))
    return {name: by_horizon[str(horizon)][0] for name, by_horizon in scores.items()}


def _candidates(rows: list[Record]) -> Cell:
    """The runs of the models among which validation rows choose.

    Standard attention was stopped by the validation rows, so they cannot judge it.
    """
    by_model = records.by(rows, "model")
    return {name: by_model[name,] for name in _CANDIDATES if (name,) in by_model}


def _is_tuned(model: str) -> bool:
    """Whether a model contains fine-tuned weights, which alone depend on a seed."""
    return TUNED in page.COMBINED.get(model, (model,))


def _chosen(cell: Cell) -> str:
    """The model with the lowest error on validation rows."""
    return min(cell, key=lambda name: render.mean(cell[name], "valid_mse"))


def _lower(runs: list[Record], rivals: dict[str, float]) -> list[str]:
    """The rivals whose MSE is above that of a model."""
    mse = render.mean(runs, "mse")
    return [name for name, rival in rivals.items() if mse < rival]


class Change(NamedTuple):
    """The MSE of a model minus that of the map: text, and Student's interval if there is one."""

    text: str
    span: tuple[float, float] | None


def _beyond(rows: list[Record]) -> Change:
    """The change of a model, mean over seeds, with an interval over blocks of origins."""
    if page.kept_weights(rows):
        return Change(page.KEPT_WEIGHTS, None)
    by_block = zip(*(row["beyond_map"] for row in rows), strict=True)
    blocks = [fmean(block) for block in by_block]
    span = page.interval(blocks)
    text = f"{fmean(blocks):+z.3f}"
    if span is not None:
        text += f" ({span[0]:+z.3f},{span[1]:+z.3f})"
    return Change(text, span)


BLOCKS = {("docs/benchmarks.md", "pretrained"): tables}

if __name__ == "__main__":
    main()
