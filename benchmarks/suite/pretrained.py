"""The pretrained weights on the long-horizon tables: as they are, fine-tuned, and combined with
solved maps.

Forecasts are costly, so they are written once to a folder, some origins a file; what is there is
not made again. Standard attention is trained as in headline.toml where it is asked for
(``--model standard``), for its interval. Run: PYTHONPATH=benchmarks python
benchmarks/suite/pretrained.py --data DIR --cache DIR
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean

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
    THEIRS,
    TUNED,
    ZERO,
)

from tsattn.catalogue import load_forecaster, make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.panel import Panel
from tsattn.data.windows import History, Split, make_scaler
from tsattn.forecaster import Forecaster
from tsattn.limits import limit_threads
from tsattn.storage import write_atomic

SUITE = Path(__file__).with_name("headline.toml")
TABLES = ("ETTh1", "ETTh2", "ETTm1", "ETTm2", "weather")
HORIZONS = (96, 192, 336, 720)
THIN = (
    25  # validation origins only choose; 25 has no divisor in common with a season of these tables
)
PART = 64  # origins a file
# Weights of a column are the mean of its own best ones and of those of all columns. Where weights
# of one half of the validation rows are judged on the other, that is ahead of both in the mean.
OWN_SHARE = 0.5


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
        chosen, judged = (
            np.arange(first, last - min(HORIZONS) + 1)
            for first, last in ((train, valid), (valid, stop))
        )
        self.ends = np.concatenate([chosen[::THIN], judged])
        # The series side by side: every forecast is of all of them.
        group = panel.grouped()
        self.history = History(group)
        self.scaler = make_scaler(group, train)
        self.truth = self.scaler.transform(group.values)
        n_parts = -(-len(self.ends) // PART)
        # Each file has origins of the whole span, so that the first ones tell where scores will
        # lie.
        self.parts = [slice(first, None, n_parts) for first in range(n_parts)]

    def file(self, model: str, seed: int, part: int) -> Path:
        """Where forecasts of a model are."""
        return self.folder / re.sub(r"\W+", "-", f"{model} {seed}") / f"{part:04d}"

    def forecast(self, model: str, seed: int) -> None:
        """Write what is missing: points on the scale of the training rows, float32 ``[B, F, C]`` a
        file.
        """
        missing = [
            part for part in range(len(self.parts)) if not self.file(model, seed, part).exists()
        ]
        fitted = self.fit(model, seed) if missing else None
        for part in missing if fitted is not None else ():
            point, _ = fitted.predict_before(self.history, self.ends[self.parts[part]])
            scaled = self.scaler.transform(point).astype(np.float32)
            write_atomic(self.file(model, seed, part), scaled.tofile)

    def fit(self, model: str, seed: int) -> Forecaster:
        """A model that knows the training rows, and the validation rows to stop by; a fine-tuned
        one is kept.
        """
        rows = self.panel.rows(0, self.split.bounds[1])
        how = {"val_size": self.split.valid}
        if model not in (ZERO, MEAN, TUNED):
            name, horizon = model.rsplit(maxsplit=1)
            how["context"] = MAPS.get(name, MAPS[MAP])
            if name == THEIRS:
                how |= tomllib.loads(SUITE.read_text())["settings"]["attention"]
                how["random_state"] = seed
            else:
                name = MAP
            return make_forecaster(name, int(horizon), **how).fit(rows)
        make = partial(make_forecaster, ZERO, max(HORIZONS), n_threads=1)
        if model in (ZERO, MEAN):
            return make(point="mean" if model == MEAN else "median").fit(rows)
        saved = self.file(model, seed, 0).with_name("model")
        if not saved.exists():
            make(fine_tune=True, random_state=seed, **how).fit(rows).save(saved)
        return load_forecaster(saved)

    def sources(self, horizon: int, seed: int) -> dict[str, tuple[str, int, int]]:
        """Members whose forecasts are whole: name, seed and steps of each."""
        most = max(HORIZONS)
        known = {name: (f"{name} {horizon}", 0, horizon) for name in MAPS}
        known[THEIRS] = (f"{THEIRS} {horizon}", seed, horizon)
        known |= {name: (name, 0, most) for name in (ZERO, MEAN)}
        known[TUNED] = (TUNED, seed, most)
        whole = (
            all(self.file(*of[:2], part).exists() for part in range(len(self.parts)))
            for of in known.values()
        )
        return {name: known[name] for name, there in zip(known, whole, strict=True) if there}

    def inside(self, horizon: int, *, test: bool) -> np.ndarray:
        """Whether an origin is one of the test or of the validation rows, and its horizon ends
        within them.
        """
        _, valid, stop = self.split.bounds
        return (self.ends >= valid if test else self.ends < valid) & (
            self.ends + horizon <= (stop if test else valid)
        )

    def errors(
        self, horizon: int, sources: Mapping[str, tuple[str, int, int]], *, test: bool
    ) -> Iterator[np.ndarray]:
        """Forecast minus truth by member from the origins :meth:`inside`, ``[M, B, horizon, C]`` a
        file.
        """
        inside = self.inside(horizon, test=test)
        for number, part in enumerate(self.parts):
            ends = self.ends[part]
            found = []
            truth = self.truth[ends[inside[part], None] + np.arange(horizon)]
            for model, seed, steps in sources.values():
                values = np.fromfile(self.file(model, seed, number), np.float32).reshape(
                    len(ends), steps, -1
                )
                found.append(values[inside[part], :horizon] - truth)
            yield np.stack(found)

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
    train, valid, _ = table.split.bounds
    products = np.concatenate(
        [
            np.einsum("mbhc,nbhc->bcmn", errors, errors) / horizon
            for errors in table.errors(horizon, sources, test=False)
        ]
    )
    ends = table.origins(horizon, test=False)
    middle = (train + valid) / 2
    first_half = products[ends + horizon <= middle]
    second_half = products[ends >= middle]
    is_kept = {ZERO, TUNED} <= {*names} and np.allclose(
        products[:, :, names.index(ZERO)], products[:, :, names.index(TUNED)], rtol=1e-9
    )
    rows = []
    weights = []
    for name in (*names, *COMBINED):
        wanted = COMBINED.get(name, (name,))
        if not {*wanted} <= {*names}:
            continue
        members = [names.index(member) for member in wanted]
        weigh = partial(best_weights, members=members, by_column=name in BY_COLUMN)
        crossed = [
            mean_squares(second_half, weigh(first_half)),
            mean_squares(first_half, weigh(second_half)),
        ]
        weights.append(weigh(products))
        row = {
            "dataset": table.name,
            "horizon": horizon,
            "model": name,
            "seed": sources[wanted[-1]][1],
        }
        if is_kept and TUNED in wanted:
            row["kept"] = True
        if name in COMBINED:
            of_members = weights[-1][:, members].round(4)
            if name not in BY_COLUMN:
                of_members = of_members[0]
            row["weights"] = dict(zip(wanted, of_members.T.tolist(), strict=True))
        rows.append(row | {"valid_mse": float(np.concatenate(crossed).mean())})
    scores = []
    for errors in table.errors(horizon, sources, test=True):
        mixed = np.einsum("kcm,mbhc->kbhc", np.stack(weights), errors)
        scores.append([np.square(mixed).mean((2, 3)), np.abs(mixed).mean((2, 3))])
    in_time = np.argsort(table.origins(horizon, test=True))
    squares, absolutes = np.concatenate(scores, axis=2)[..., in_time]
    of_map = squares[names.index(MAP)]
    for row, mse, mae in zip(rows, squares, absolutes, strict=True):
        apart = mse - of_map
        blocks = np.array_split(apart, max(1, len(apart) // horizon))
        row |= {"n_windows": len(apart), "mse": float(mse.mean()), "mae": float(mae.mean())}
        if row["model"] != MAP:
            row["beyond_map"] = [round(float(block.mean()), 6) for block in blocks]
    return rows


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
    options = records.parse(
        argv, __doc__, defaults, choices={"table": TABLES, "model": (ZERO, MEAN, TUNED, THEIRS)}
    )
    file = Records(options.out, KEY)
    with limit_threads(1):
        for name in options.table or TABLES:
            data = load_dataset(name.lower(), options.data)
            table = Table(
                name, data.panel.rows(0, data.split.bounds[2]), data.split, Path(options.cache)
            )
            wanted = options.model or (ZERO, MEAN, TUNED)
            runs = [(f"{name} {h}", 0) for name, h in product(MAPS, HORIZONS)]
            runs += [(name, 0) for name in (ZERO, MEAN) if name in wanted]
            runs += [(TUNED, seed) for seed in options.seed if TUNED in wanted]
            runs += [
                (f"{THEIRS} {h}", seed)
                for seed, h in product(options.seed, HORIZONS)
                if THEIRS in wanted
            ]
            for model, seed in runs:
                table.forecast(model, seed)
                print(f"{name}, {model}, seed {seed}: forecast", flush=True)
            for horizon, seed in product(HORIZONS, options.seed):
                for row in score(table, horizon, seed):
                    file.add(row)


_SHOWN = "maps + zero"
_CANDIDATES = (*MAPS, *page.WITH_ZERO)
_RIVALS = ("PatchTST/42", *page.BEST.values())


def tables(folder: Path) -> str:
    """What combinations have beyond the solved map, what validation rows choose, and how that
    stands beside published scores.
    """
    rows = page.read_pretrained(folder)
    published = page.read_published(folder)
    if not rows:
        return render.NONE
    # Standard attention was stopped by the validation rows, so they cannot judge it.
    models = [name for name in _CANDIDATES if any(row["model"] == name for row in rows)]
    # These alone depend on a seed.
    tuned = {name for name in models if TUNED in page.COMBINED.get(name, (name,))}
    body = []
    spans = []
    n_lower: Counter[str] = Counter()
    n_lower_untuned: Counter[str] = Counter()
    horizons = {row["horizon"] for row in rows}
    judged = records.cells(rows, "dataset", "horizon")
    for (dataset, horizon), mine in judged.items():
        scores = page.beside(published, dataset, tuple(page.BEST))
        rivals = {name: of[str(horizon)][0] for name, of in scores.items()}
        by_model = records.by(mine, "model")
        cell = {name: by_model[name,] for name in models if (name,) in by_model}
        chosen = _chosen(cell)
        n_lower.update(_lower(cell[chosen], rivals))
        untuned = {name: runs for name, runs in cell.items() if name not in tuned}
        n_lower_untuned.update(_lower(untuned[_chosen(untuned)], rivals))
        change, span = _beyond(cell[chosen]) if chosen != MAP else ("", None)
        spans += [span] if span else []
        if horizon in (min(horizons), max(horizons)):
            plain = _beyond(cell[_SHOWN])[0] if _SHOWN in cell else ""
            body.append([dataset, str(horizon), plain, chosen, change])
    head = ["data set", "horizon", _SHOWN, "chosen", "its change"]
    below = sum(high < 0 for _, high in spans)
    above = sum(low > 0 for low, _ in spans)
    counts = ", ".join(f"{name} in {n_lower[name]}" for name in _RIVALS)
    counts_untuned = ", ".join(str(n_lower_untuned[name]) for name in _RIVALS)
    text = (
        f"Of {len(spans)} intervals of what is chosen, {below} lie below zero and {above} above. In"
        f" {len(judged)} cells it has a lower MSE than {counts}. Without fine-tuned weights, which"
        f" alone have seeds: {counts_untuned}."
    )
    return f"{render.lines(head, body)}\n\n{text} {records.commits(rows)}"


def _chosen(cell: dict[str, list[Record]]) -> str:
    """The model with the lowest error on validation rows."""
    return min(cell, key=lambda name: render.mean(cell[name], "valid_mse"))


def _lower(runs: list[Record], rivals: dict[str, float]) -> list[str]:
    """The rivals whose MSE is above that of a model."""
    mse = render.mean(runs, "mse")
    return [name for name, rival in rivals.items() if mse < rival]


def _beyond(rows: list[Record]) -> tuple[str, tuple[float, float] | None]:
    """What a model has in MSE beyond the map, mean over seeds, with Student's interval over blocks
    of origins.
    """
    if page.kept_weights(rows):
        return page.KEPT_WEIGHTS, None
    blocks = [fmean(block) for block in zip(*(row["beyond_map"] for row in rows), strict=True)]
    span = page.interval(blocks)
    return f"{fmean(blocks):+z.3f}" + (f" ({span[0]:+z.3f},{span[1]:+z.3f})" if span else ""), span


BLOCKS = {("docs/benchmarks.md", "pretrained"): tables}

if __name__ == "__main__":
    main()
