"""The pretrained weights on the long-horizon tables: as they are, fine-tuned, and combined with
solved maps.

Forecasts are costly, so they are written once to a folder, some origins a file; what is there is
not made again. Standard attention is trained as in headline.toml where it is asked for
(``--model standard``), for its interval. Run: PYTHONPATH=benchmarks python
benchmarks/suite/pretrained.py --data DIR --cache DIR
"""

import re
import tomllib
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
from suite.page import COMBINED, KEY, MAP, MAPS, PRETRAINED, THEIRS, TUNED, ZERO

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
# How far weights may go to equal ones. On ETTh1 and ETTh2, those of the first half of the
# validation rows lose least on the second half where they stay as they are.
SHRINKS = (0.0, 0.25, 0.5, 0.75, 1.0)
SHRINK = 0.0


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
        if model not in (ZERO, TUNED):
            name, horizon = model.rsplit(maxsplit=1)
            how["context"] = MAPS.get(name, MAPS[MAP])
            if name == THEIRS:
                how |= tomllib.loads(SUITE.read_text())["settings"]["attention"]
                how["random_state"] = seed
            else:
                name = MAP
            return make_forecaster(name, int(horizon), **how).fit(rows)
        make = partial(make_forecaster, ZERO, max(HORIZONS), n_threads=1)
        if model == ZERO:
            return make().fit(rows)
        saved = self.file(model, seed, 0).with_name("model")
        if not saved.exists():
            make(fine_tune=True, random_state=seed, **how).fit(rows).save(saved)
        return load_forecaster(saved)

    def sources(self, horizon: int, seed: int) -> dict[str, tuple[str, int, int]]:
        """Members whose forecasts are whole: name, seed and steps of each."""
        most = max(HORIZONS)
        known = {name: (f"{name} {horizon}", 0, horizon) for name in MAPS}
        known[THEIRS] = (f"{THEIRS} {horizon}", seed, horizon)
        known |= {ZERO: (ZERO, 0, most), TUNED: (TUNED, seed, most)}
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


def best_weights(products: np.ndarray, members: Sequence[int], shrink: float) -> np.ndarray:
    """Weights ``[M]`` of the least error: not negative, summing to one, then moved to equal ones.

    Args:
        products: Mean products of the errors of all M members at each origin, ``[B, M, M]``.
        members: Which may have a weight.
        shrink: 0 leaves the weights, 1 makes them equal.
    """
    gram = products.mean(0)[np.ix_(members, members)]
    weights = np.zeros(products.shape[1])
    # Members may be the same forecasts.
    root = np.linalg.cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)))
    found = nnls(root.T, np.linalg.solve(root, np.ones(len(gram))))[0]
    weights[list(members)] = (1 - shrink) * found / found.sum() + shrink / len(gram)
    return weights


def score(table: Table, horizon: int, seed: int) -> list[Record]:
    """A row for each member and each combination whose forecasts are whole.

    Weights come from all validation origins. ``valid_mse`` is that of weights from the windows
    inside one half of the validation rows, on the windows inside the other; ``second_half`` the
    latter alone, by the shares of ``SHRINKS``; ``kept`` says that fine-tuning kept the weights.
    """
    sources, (train, valid, _) = table.sources(horizon, seed), table.split.bounds
    flat = (
        each.reshape(*each.shape[:2], -1) for each in table.errors(horizon, sources, test=False)
    )
    products = np.concatenate(
        [np.einsum("ibn,jbn->bij", each, each) / each.shape[2] for each in flat]
    )
    ends = table.origins(horizon, test=False)
    middle = (train + valid) / 2
    halves = products[ends + horizon <= middle], products[ends >= middle]
    places = [place for place, name in enumerate(sources) if name in (ZERO, TUNED)]
    kept = len(places) == 2 and np.allclose(*(products[:, place] for place in places), rtol=1e-9)
    rows = []
    weights = []
    for name in (*sources, *COMBINED):
        wanted = COMBINED.get(name, (name,))
        if {*wanted} <= {*sources}:
            pick = [list(sources).index(member) for member in wanted]

            def judge(
                learnt: np.ndarray, judged: np.ndarray, shrink: float, pick: list[int] = pick
            ) -> np.ndarray:
                mixed = best_weights(learnt, pick, shrink)
                return np.einsum("i,bij,j->b", mixed, judged, mixed)

            crossed = np.concatenate([judge(halves[k], halves[1 - k], SHRINK) for k in (0, 1)])
            weights.append(best_weights(products, pick, SHRINK))
            row = {
                "dataset": table.name,
                "horizon": horizon,
                "model": name,
                "seed": sources[wanted[-1]][1],
            }
            row |= {"kept": True} if kept and TUNED in wanted else {}
            if name in COMBINED:
                row["weights"] = dict(zip(wanted, weights[-1][pick].round(4).tolist(), strict=True))
                row["second_half"] = [
                    round(float(judge(*halves, shrink).mean()), 6) for shrink in SHRINKS
                ]
            rows.append(row | {"valid_mse": float(crossed.mean())})
    mixed = (np.tensordot(weights, each, 1) for each in table.errors(horizon, sources, test=True))
    scores = np.concatenate(
        [[np.square(each).mean((2, 3)), np.abs(each).mean((2, 3))] for each in mixed], axis=2
    )
    scores = scores[
        ..., np.argsort(table.origins(horizon, test=True))
    ]  # MSE and MAE, model, origin
    for row, mse, mae in zip(rows, *scores, strict=True):
        apart = mse - scores[0, list(sources).index(MAP)]
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
        argv, __doc__, defaults, choices={"table": TABLES, "model": (ZERO, TUNED, THEIRS)}
    )
    file = Records(options.out, KEY)
    with limit_threads(1):
        for name in options.table or TABLES:
            data = load_dataset(name.lower(), options.data)
            table = Table(
                name, data.panel.rows(0, data.split.bounds[2]), data.split, Path(options.cache)
            )
            wanted = options.model or (ZERO, TUNED)
            runs = [(f"{name} {h}", 0) for name, h in product(MAPS, HORIZONS)]
            runs += [(ZERO, 0)] * (ZERO in wanted)
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


def tables(folder: Path) -> str:
    """What each has beyond the solved map, what validation rows choose, and how that stands beside
    published scores.
    """
    rows = page.read_pretrained(folder)
    published = page.read_published(folder)
    if not rows:
        return render.NONE
    # Standard attention was stopped by the validation rows, so they cannot judge it.
    models = [
        name
        for name in (*MAPS, ZERO, TUNED, *COMBINED)
        if any(row["model"] == name for row in rows)
    ]
    shown = [name for name in models if name in COMBINED and name != "maps"]
    n_cells = 0
    apart = []
    spans = []
    lower = dict.fromkeys(("PatchTST/42", *page.BEST.values()), 0)
    for (dataset,), of in records.cells(rows, "dataset").items():
        found = records.by(of, "horizon", "model")
        horizons = sorted({row["horizon"] for row in of})
        others = page.beside(published, dataset, tuple(page.BEST))
        for h in horizons:
            cell = {name: found[h, name] for name in models if (h, name) in found}
            valid = {name: render.mean(some, "valid_mse") for name, some in cell.items()}
            chosen = min(valid, key=valid.__getitem__)
            for name, scores in others.items():
                lower[name] += render.mean(cell[chosen], "mse") < scores[str(h)][0]
            beyond = {name: _beyond(cell[name]) for name in shown if name in cell}
            spans += [span for _, span in beyond.values() if span]
            texts = {
                name: f"**{text}**" if name == chosen else text
                for name, (text, _) in beyond.items()
            }
            n_cells += 1
            if h in (horizons[0], horizons[-1]):
                apart.append([dataset, str(h), *(texts.get(name, "") for name in shown)])
    head = ["data set", "horizon", *shown]
    counts = ", ".join(f"{name} in {n}" for name, n in lower.items())
    sides = sum(high < 0 for _, high in spans), sum(low > 0 for low, _ in spans)
    text = (
        f"Of {len(spans)} intervals, {sides[0]} lie below zero and {sides[1]} above. In {n_cells}"
        " cells, what the"
    )
    text += f" validation rows choose has a lower MSE than {counts}."
    return f"{render.lines(head, apart)}\n\n{text} {records.commits(rows)}"


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
