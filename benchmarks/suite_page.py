"""What do the records of the suite say? Renders docs/benchmarks.md: tables, comparisons, and links to the pictures."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


comparisons, pictures, published, tables = (
    _neighbour(name) for name in ("comparisons", "suite_pictures", "published", "tables")
)

OURS, THEIRS = "mlr", "standard"
BEST_PASS = "best_pass"  # folder of records, beside those of the suite
_HEAD = """\
<!-- written by benchmarks/report.py from benchmarks/results; change the records, not this page -->

# Benchmarks

Protocol: fitted on the published training rows, stopped early on the validation rows, judged on every
window of the test rows, one step apart. Scores are on the scale of the training rows. Several seeds are
given as mean ± standard deviation. "kept" is the pass over the training windows whose weights were kept, seed by
seed; 0 is what training started from, for attention models the solved linear map alone.
"""
_PAIRED_NOTE = f"""\
Runs of `{OURS}` and `{THEIRS}` whose data, horizon, seed and settings are equal, so that nothing differs but the
attention: MSE and MAE of `{OURS}` minus those of `{THEIRS}`; below zero, `{OURS}` is better. The interval (95%,
Student's t over seeds) says how sure the mean is over seeds on these very test rows, nothing about other data; where
there is no difference at all, one interval in twenty leaves out zero by chance.
"""
_RANKS_NOTE = """\
Models ranked by MSE (means over seeds) in every cell, a data set and a horizon, that all of them were run on; 1 is
best, and models whose MSE is the same to five decimals share a rank. Mean ranks that differ by less than the critical
difference (Nemenyi, 5%) are not told apart by it. The test takes the cells for independent; those of one data set are
not, so it is surer of itself than it should be.
"""
_PUBLISHED_NOTE = """\
MSE / MAE that others published for the same data and horizons, with other settings and often another look-back: nothing
here was run by us. Grades and sources stand under [published numbers](#published-numbers)."""

_MAP = "least_squares"
_BEYOND_NOTE = f"""\
An attention model starts from the solved map of `{_MAP}` and keeps it, unless validation windows clearly show that what
it learnt is better. Where some did: their scores less those of the map, on test rows that had no say.
"""
_BEST_NOTE = f"""\
Where a fit keeps the solved map in both runs there is no difference to see. So these are runs of the same two models
that keep the pass with the smallest validation loss, however small its lead, and even where it is behind the map; they
stand in benchmarks/results/{BEST_PASS}."""


def page(
    records: list[Record],
    known: Record | None = None,
    *,
    best_pass: Sequence[Record] = (),
    findings: bool = False,
) -> str:
    """docs/benchmarks.md: comparisons, pictures, and every record, a table for each data set.

    Args:
        records: Those of the suite.
        known: What :func:`published.read` gave.
        best_pass: Records of runs that kept their best pass in any case, for a second comparison.
        findings: Is there a page that says in words what was found?
    """
    lines = [_HEAD]
    if findings:
        lines += ["[What we found](findings.md) says in words what these tables say in numbers.", ""]
    if not records:
        return "\n".join([*lines, tables.NONE, ""])
    lines += [*_paired(records), *_best_pass(best_pass, records), *_beyond(records)]
    lines += [*_ranked(records), *_shown(records)]
    for (dataset,), rows in tables.cells(records, "dataset"):
        lines += [*_dataset(dataset, rows), *_published(known, dataset, rows)]
    if known:
        said = published.tally(known, records)
        lines += ["## Published numbers", "", *([*said, ""] if said else []), *published.sources(known), ""]
    return "\n".join(lines)


_HEADER = (
    *("horizon", "model", "context", "seeds", "windows", "MSE", "MAE"),
    *("kept", "parameters", "fit [s]", "predict [s]", "peak [MB]"),
)


def _dataset(dataset: str, rows: list[Record]) -> list[str]:
    train, valid, test = rows[0]["split"]
    lines = [f"## {dataset}", "", f"{train} training, {valid} validation and {test} test rows.", ""]
    lines += tables.head(2, *_HEADER)
    lines += [tables.line(*_full(cell)) for _, cell in tables.cells(rows, "horizon", "model")]
    return [*lines, "", tables.origin(rows), ""]


def _full(rows: list[Record]) -> list[str]:
    first = rows[0]
    peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
    return [
        *(str(first[name]) for name in ("horizon", "model", "context")),
        *(str(len(rows)), str(first["n_windows"])),
        *(tables.spread(rows, name) for name in ("mse", "mae")),
        ", ".join(str(row["best_epoch"]) for row in sorted(rows, key=lambda row: row["seed"]) if row.get("epochs")),
        str(first["params"]),
        *(f"{tables.mean(rows, name):.1f}" for name in ("fit_seconds", "predict_seconds")),
        f"{fmean(peaks):.0f}" if peaks else "",
    ]


def _published(known: Record | None, dataset: str, rows: list[Record]) -> list[str]:
    table = published.table(known, dataset) if known else []
    if not table:
        return []
    lines = [f"### {dataset} elsewhere", "", _PUBLISHED_NOTE, "", *table, ""]
    if beside := published.beside(known, rows):
        about = "`mlr` above beside two of these rows; level is what differs by less than 0.0005:"
        lines += [about, "", *beside, ""]
    return lines


# --- mlr against standard attention -----------------------------------------------------------------------------


def _paired(records: list[Record]) -> list[str]:
    if not {OURS, THEIRS} <= {row["model"] for row in records}:
        return []
    return [f"## {OURS} against {THEIRS} attention", "", _PAIRED_NOTE, *_pair_table(records), ""]


def _best_pass(records: Sequence[Record], chosen: list[Record]) -> list[str]:
    if not records:
        return []
    title = [f"### {OURS} against {THEIRS}, the best pass kept", "", f"{_BEST_NOTE} {_settings(records, chosen)}", ""]
    return [*title, *_pair_table(list(records)), "", *_errors(list(records)), "", tables.origin(list(records)), ""]


def _beyond(records: list[Record]) -> list[str]:
    """What attention models that went beyond their solved map gained or lost by it."""
    cells, rows = 0, []
    for (dataset, horizon), cell in tables.cells(records, "dataset", "horizon"):
        solved = [row for row in cell if row["model"] == _MAP]
        learnt = [row for row in cell if row["config"].get("linear_skip") == _MAP] if solved else []
        for (name,), runs in tables.cells(learnt, "model"):
            cells += 1
            beyond = sum(row["best_epoch"] > 0 for row in runs)
            if beyond:
                changes = [text for score in ("mse", "mae") for text in _change(runs, solved, score)]
                rows.append(tables.line(dataset, str(horizon), name, f"{beyond} of {len(runs)}", *changes))
    if not cells:
        return []
    said = f"Every seed keeps the map in {cells - len(rows)} of {cells} cells, each a model, a data set and a horizon."
    names = [f"{score}{what}" for score in ("MSE", "MAE") for what in ("", " in %")]
    table = [*tables.head(3, "data set", "horizon", "model", "seeds beyond", *names), *rows, ""] if rows else []
    return ["## Beyond the solved map", "", _BEYOND_NOTE, *table, said, ""]


def _change(runs: list[Record], others: list[Record], score: str) -> list[str]:
    theirs = tables.mean(others, score)
    change = tables.mean(runs, score) - theirs
    return [f"{change:+z.4f}", f"{100 * change / theirs:+z.2f}"]


def _errors(records: list[Record]) -> list[str]:
    """MSE / MAE of every model, a line for each data set and horizon."""
    models = sorted({row["model"] for row in records}, key=tables.rank)
    lines = ["MSE / MAE of these runs, means over seeds:", "", *tables.head(1, "data set", "horizon", *models)]
    for (dataset, horizon), cell in tables.cells(records, "dataset", "horizon"):
        by_model = {name: rows for (name,), rows in tables.cells(cell, "model")}
        scores = [_both(by_model.get(name, [])) for name in models]
        lines.append(tables.line(dataset, str(horizon), *scores))
    return lines


def _both(rows: list[Record]) -> str:
    return f"{tables.mean(rows, 'mse'):.4f} / {tables.mean(rows, 'mae'):.4f}" if rows else ""


def _settings(records: Sequence[Record], others: list[Record]) -> str:
    """What differs in the settings of our model."""
    mine, theirs = ([row["config"] for row in rows if row["model"] == OURS] for rows in (records, others))
    if not theirs:
        return ""
    names = sorted(name for name in mine[0].keys() | theirs[0].keys() if mine[0].get(name) != theirs[0].get(name))
    told = (f"`{name}` is {mine[0].get(name)} in place of {theirs[0].get(name)}" for name in names)
    return f"Settings that differ: {', '.join(told)}."


def _pair_table(records: list[Record]) -> list[str]:
    found = comparisons.pairs(records, OURS, THEIRS)
    if not found:
        return ["No two runs with equal settings are recorded."]
    names = [f"{score}{what}" for score in ("MSE", "MAE") for what in (" difference", " in %", ", 95% interval")]
    lines = tables.head(1, "data set", "horizon", "seeds", *names)
    for pair in found:
        cells = [text for score in ("mse", "mae") for text in _difference(pair, score)]
        lines.append(tables.line(pair.cell[0], str(pair.cell[1]), str(len(pair.seeds)), *cells))
    lines.append(tables.line(*_over_all(found)))
    return [*lines, "", *_tallied(found)]


def _difference(pair: Any, score: str) -> list[str]:
    values = list(pair.differences[score].values())
    return [f"{pair.mean(score):+z.4f}", f"{pair.percent(score):+z.2f}", _interval(values, ".4f")]


def _over_all(found: list[Any]) -> list[str]:
    """The last row: means over cells, the interval over seeds that all cells have."""
    n_seeds = len(comparisons.overall(found, "mse"))
    texts = [f"all {len(found)} cells", "", str(n_seeds) if n_seeds else "none in common"]
    for score in ("mse", "mae"):
        mean = fmean(pair.mean(score) for pair in found)
        share = fmean(pair.percent(score) for pair in found)
        texts += [f"{mean:+z.4f}", f"{share:+z.2f}", _interval(comparisons.overall(found, score), ".2f", " %")]
    return texts


def _interval(values: list[float], form: str, unit: str = "") -> str:
    sure = comparisons.interval(values)
    if sure is not None:
        return f"{sure[0]:+z{form}} to {sure[1]:+z{form}}{unit}"
    return {0: "no seed in common", 1: "one seed: no interval"}.get(len(values), "two seeds: no interval")


def _tallied(found: list[Any]) -> list[str]:
    lines = []
    for score in ("mse", "mae"):
        below = sum(pair.mean(score) < 0 for pair in found)
        sure = [comparisons.interval(list(pair.differences[score].values())) for pair in found]
        with_interval = [each for each in sure if each is not None]
        same = sum(pair.mean(score) == 0 for pair in found)
        text = f"- {score.upper()}: `{OURS}` is lower in {below} of {len(found)} cells"
        if same:
            text += f", equal in {same}"
        if with_interval:
            lower, higher = sum(high < 0 for _, high in with_interval), sum(low > 0 for low, _ in with_interval)
            text += f"; of {len(with_interval)} intervals, {lower} lie below zero and {higher} above"
        lines.append(f"{text}.")
    return lines


# --- ranks and pictures -----------------------------------------------------------------------------------------


def _ranked(records: list[Record]) -> list[str]:
    found = comparisons.ranks(records)
    if found is None:
        return []
    lines = ["## Ranks", "", _RANKS_NOTE, *tables.head(1, "model", "mean rank")]
    lines += [tables.line(name, f"{rank:.2f}") for name, rank in found.models.items()]
    about = f"{len(found.cells)} cells, {len(found.models)} models, critical difference {found.critical:.2f}."
    if found.left_out:
        about += f" Left out, since they were not run on all of these cells: {', '.join(found.left_out)}."
    return [*lines, "", about, ""]


def _shown(records: list[Record]) -> list[str]:
    wanted = pictures.drawings.wanted(pictures.PICTURES, records)
    lines = ["## Pictures", ""] if wanted else []
    for name in wanted:
        picture = pictures.PICTURES[name]
        lines += [f"![{picture.title}](pictures/{name})", "", picture.about, ""]
    return lines
