"""Which settings are worth their cost? Trains each on one training span and records the validation loss.

The test span is never read: defaults and the configuration of the suite are chosen from these records alone
(docs/log.md). Rows that stand in the record are not run again. ``--span earlier`` is the published protocol one span
earlier: the training rows less as many as check, the rows that are left out check, and the validation rows judge.
Run: python benchmarks/levers.py --data-dir DIR [--dataset ETTh1 ...] [--horizon 96 ...] [--seed 0 ...]
     [--name NAME ...] [--span validation|earlier ...] [--out levers2.jsonl]
"""

import argparse
import json
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from tsattn.benchmark import provenance
from tsattn.limits import limit_threads

FIRST, SECOND, THIRD = "levers.jsonl", "levers2.jsonl", "levers3.jsonl"
# What stands between these marks of docs/log.md is rendered from the record of that name.
MARKS = {
    FIRST: ("<!-- levers:begin -->", "<!-- levers:end -->"),
    SECOND: ("<!-- levers2:begin -->", "<!-- levers2:end -->"),
    THIRD: ("<!-- levers3:begin -->", "<!-- levers3:end -->"),
}
SPANS = ("validation", "earlier")
_SHARED = "least squares"  # what the third table's ratios are to
RESULTS = Path(__file__).resolve().parent / "results"
# Where the second round starts; every other setting of it differs from this one in what its name says.
_BASE: dict[str, Any] = {"loss": "huber", "head_rank": 8, "n_layers": 1}
# Where the third starts: the linear map is solved, and the transformer learns slowly what it leaves over.
_SOLVED: dict[str, Any] = {
    "head_rank": 8,
    "n_layers": 1,
    "learning_rate": 1e-4,
    "dropout": 0.5,
    "linear_skip": "least_squares",
}
# A setting is what differs from the defaults of the forecaster; those of the first round stand in its record.
SETTINGS: dict[str, dict[str, Any]] = {
    "rlinear": {"kind": "rlinear"},
    "rlinear, Huber": {"kind": "rlinear", "loss": "huber"},
    "rlinear, Huber, 30 passes": {"kind": "rlinear", "loss": "huber", "max_epochs": 30, "patience": 10},
    "least squares": {"kind": "rlinear", "closed_form": True},
    "base": _BASE,
    "standard attention": {**_BASE, "attention": "standard"},
    "no rank": {**_BASE, "head_rank": None},
    "one rate for all": {**_BASE, "skip_rate": 1.0},
    "no linear skip": {**_BASE, "linear_skip": False},
    "MSE": {**_BASE, "loss": "mse"},
    "MAE": {**_BASE, "loss": "mae"},
    "patches of 4": {**_BASE, "patch_len": 4, "patch_stride": 4},
    "context 512": {**_BASE, "context": 512},
    "three layers": {**_BASE, "n_layers": 3},
    "width 32": {**_BASE, "d_model": 32, "n_heads": 4},
    "slower network": {**_BASE, "learning_rate": 3e-4, "skip_rate": 16.0},
    "dropout 0.5": {**_BASE, "dropout": 0.5},
    "solved": _SOLVED,
    "solved, rate 3e-4": {**_SOLVED, "learning_rate": 3e-4},
    "solved, rate 3e-5": {**_SOLVED, "learning_rate": 3e-5},
    "solved, dropout 0.3": {**_SOLVED, "dropout": 0.3},
    "solved, where clearly better": {**_SOLVED, "skip_level": 95},
    "solved, Huber": {**_SOLVED, "loss": "huber"},
    "solved, Huber, rate 3e-5": {**_SOLVED, "loss": "huber", "learning_rate": 3e-5},
    "solved, MAE": {**_SOLVED, "loss": "mae"},
    "solved, rank 4": {**_SOLVED, "head_rank": 4},
    "solved, standard attention": {**_SOLVED, "attention": "standard"},
    "calendar blocks": {**_BASE, "block_sizes": "calendar"},
    "shifted grids": {**_BASE, "offset": "layers", "n_layers": 2},
}


def run(
    name: str, *, dataset: str, horizon: int, seed: int, data_dir: str | None, span: str = "validation"
) -> dict[str, Any]:
    """Train one setting; the scores are those of the best epoch on all windows of the validation rows."""
    from tsattn.data.cards import load_dataset
    from tsattn.evaluate.rolling import roll
    from tsattn.forecasters.attention import AttentionForecaster, LinearForecaster

    data = load_dataset(dataset, data_dir=data_dir)
    split = data.split
    # What teaches ends at `train`; as many rows as there are for validation then check.
    train = split.train if span == "validation" else split.train - split.valid
    known = data.panel.rows(0, train + split.valid)
    settings = {"context": data.card.protocol.context, "val_size": split.valid, "random_state": seed, **SETTINGS[name]}
    model = (LinearForecaster if "kind" in settings else AttentionForecaster)(horizon, **settings).fit(known)
    ends = np.arange(split.train, split.train + split.valid - horizon + 1)
    judged = data.panel.rows(0, split.train + split.valid)
    rolled = roll(model, judged, ends, scaler=model.scaler_, keep=False)
    return {
        "setting": name,
        "span": span,
        "changes": SETTINGS[name],
        "dataset": data.card.name,
        "horizon": horizon,
        "seed": seed,
        "valid_mse": rolled.mse,
        "valid_mae": rolled.mae,
        "best_epoch": model.summary_["best_epoch"],
        "parameters": model.summary_["parameters"],
        "fit_seconds": model.summary_["fit_seconds"],
        **provenance(model),
    }


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a record, in the order in which they were run."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def table(name: str, rows: list[dict[str, Any]]) -> str:
    """The log's table of a record."""
    if name == THIRD:
        return _by_span(rows)
    return _one_by_one(rows) if name == FIRST else _by_task(rows)


def _one_by_one(rows: list[dict[str, Any]]) -> str:
    names = ("data set", "horizon", "setting", "validation MSE", "MAE", "best epoch", "parameters", "fit [s]")
    lines = [_line(*names), _line(*["---"] * 3, *["---:"] * 5)]
    for row in rows:
        scores = (f"{row['valid_mse']:.4f}", f"{row['valid_mae']:.4f}", str(row["best_epoch"]), str(row["parameters"]))
        lines.append(_line(row["dataset"], str(row["horizon"]), row["setting"], *scores, f"{row['fit_seconds']:.0f}"))
    return "\n".join(lines)


def _by_task(rows: list[dict[str, Any]]) -> str:
    """Settings by data set and horizon: validation MSE / MAE, means over seeds, the least MSE bold."""
    tasks = sorted({(row["dataset"], row["horizon"]) for row in rows})
    cells: dict[tuple[str, tuple[str, int]], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["setting"], (row["dataset"], row["horizon"])), []).append(row)
    scores = {
        at: [fmean(row[name] for row in found) for name in ("valid_mse", "valid_mae")] for at, found in cells.items()
    }
    best = {task: min(score[0] for (_, at), score in scores.items() if at == task) for task in tasks}
    lines = [_line("setting", *(f"{name} {horizon}" for name, horizon in tasks)), _line("---", *["---:"] * len(tasks))]
    known = [*SETTINGS, *(row["setting"] for row in rows)]
    names = [name for name in dict.fromkeys(known) if any(at[0] == name for at in cells)]
    lines += [_line(name, *(_cell(scores.get((name, task)), best[task]) for task in tasks)) for name in names]
    return "\n".join(lines)


def _by_span(rows: list[dict[str, Any]]) -> str:
    """Validation MSE by task and span, and the mean of its ratios to that of the least-squares map."""
    by_place: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for row in rows:
        place = by_place.setdefault((row["span"], row["dataset"], row["horizon"]), {})
        place.setdefault(row["setting"], []).append(row["valid_mse"])
    places = sorted(by_place, key=lambda at: (SPANS.index(at[0]), *at[1:]))
    if bare := [at for at in places if _SHARED not in by_place[at]]:
        raise ValueError(f"{THIRD} has no row of {_SHARED!r} for {bare[0]}; run it with --name {_SHARED!r}")
    head = _line("setting", *(f"{data} {horizon}, {span}" for span, data, horizon in places), "mean ratio")
    lines = [head, _line("---", *["---:"] * (len(places) + 1))]
    for name in [name for name in SETTINGS if any(name in scores for scores in by_place.values())]:
        cells = [fmean(by_place[at][name]) if name in by_place[at] else None for at in places]
        shares = [
            cell / fmean(by_place[at][_SHARED]) for cell, at in zip(cells, places, strict=True) if cell is not None
        ]
        ratio = f"{fmean(shares):.4f}" if len(shares) == len(places) else ""
        lines.append(_line(name, *("" if cell is None else f"{cell:.4f}" for cell in cells), ratio))
    return "\n".join(lines)


def _cell(score: list[float] | None, best: float) -> str:
    if score is None:
        return ""
    text = f"{score[0]:.4f} / {score[1]:.4f}"
    return f"**{text}**" if score[0] == best else text


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run what is asked for and not recorded yet; append each record as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--dataset", action="append")
    parser.add_argument("--horizon", action="append", type=int)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--name", action="append", choices=list(SETTINGS))
    parser.add_argument("--span", action="append", choices=SPANS)
    parser.add_argument("--out", type=Path, default=RESULTS / SECOND)
    chosen = parser.parse_args()
    fields = ("setting", "dataset", "horizon", "seed")
    done = {(*(row[name] for name in fields), row.get("span", SPANS[0])) for row in read_rows(chosen.out)}
    grid = product(
        *(chosen.name or SETTINGS, chosen.dataset or ["etth1", "etth2"], chosen.horizon or [96, 336]),
        *(chosen.seed or [0], chosen.span or SPANS[:1]),
    )
    with limit_threads(1):
        for name, dataset, horizon, seed, span in grid:
            if (name, dataset.lower(), horizon, seed, span) in done:
                continue
            where = {"dataset": dataset, "horizon": horizon, "seed": seed, "span": span}
            record = run(name, data_dir=chosen.data_dir, **where)
            with chosen.out.open("a") as file:
                file.write(json.dumps(record) + "\n")
            scores = f"{record['valid_mse']:.4f} / {record['valid_mae']:.4f}"
            print(f"{name}, {dataset} {horizon}, {span}: {scores}, {record['fit_seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
