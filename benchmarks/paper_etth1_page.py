"""What do levels do for the paper's forecasting experiment? Renders docs/paper_etth1.md and its picture from the
records of paper_etth1.py.
"""

import importlib.util
import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

Record = dict[str, Any]


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


comparisons, pictures, tables = (_neighbour(name) for name in ("comparisons", "suite_pictures", "tables"))
drawings = pictures.drawings

FILE = "paper_etth1.jsonl"
PICTURE = "paper_etth1.svg"
STANDARD = "standard"
VARIANTS = {STANDARD: "standard attention", "mlr2": "two levels", "mlr4": "four levels"}
# The seed whose runs choose the rate.
TUNING_SEED = 0
_FIELDS = {
    *("kind", "variant", "horizon", "seed", "learning_rate", "settings"),
    *("valid_mse", "valid_mae", "valid_windows", "test_mse", "test_mae", "test_windows"),
    *("epochs", "best_epoch", "parameters", "patches", "fit_seconds", "cpu_seconds"),
    *("commit", "versions", "machine", "finished"),
}
_COLOURS = {"mlr2": "#0072b2", "mlr4": "#d55e00"}
_HEAD = """\
<!-- written by benchmarks/report.py from benchmarks/results/paper_etth1.jsonl; change the records, not this page -->

# The paper's forecasting experiment

Does attention with levels forecast ETTh1 better than standard attention, and more so at long horizons? Kuang et al.
(2025, arXiv 2509.07963) take a two-layer encoder of width 512 with 8 heads, give it distance-dependent MLR attention of
two and of four levels, and report the relative improvement of the MAE over standard attention at horizons of 96, 192
and 336. In words, they find a gain that grows with the length. We know of no table of their errors and no code of this
experiment, so patches, loss, rates and epochs below are ours.

`python benchmarks/paper_etth1.py --data-dir DIR` runs what is not recorded yet, at a width that one core can train;
`--paper` takes width 512, `--patch-len 4` more tokens, and `--linear-skip` puts this library's linear map beside the
encoder, which is otherwise left out, so that all of a forecast comes through the encoder.

Every variant gets the same settings, training rows and seeds. Heads of K features are cut into K/2 and K/2 for two
levels, and K/2, K/4, K/8 and K/8 for four. Validation rows stop a training, and choose its rate for each variant and
horizon among the same ones, with the first seed. Scores are those of every test window, on the scale of the training
rows.
"""
_TABLE_NOTE = """\
Change is the MAE of the variant less that of standard attention, paired by seed, in percent of the latter's mean: below
zero is a gain. The interval is Student's at 95%, from three seeds on."""
_SIZES = {
    "d_model": "width {}",
    "n_heads": "{} heads",
    "n_layers": "{} layers",
    "d_ff": "feed-forward {}",
    "context": "context {}",
    "patch_len": "patches of {} rows",
    "patch_stride": "every {} rows",
    "head_rank": "head through {} numbers",
    "loss": "{} loss",
    "max_epochs": "at most {} epochs",
    "patience": "patience {}",
}


class Change(NamedTuple):
    """A variant beside standard attention at one horizon.

    Args:
        horizon: Steps ahead.
        percents: Change of the MAE by seed, in percent.
        interval: Of their mean; ``None`` below three seeds.
    """

    horizon: int
    percents: dict[int, float]
    interval: tuple[float, float] | None

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.percents.values())


def read_rows(path: Path) -> list[Record]:
    """The records of paper_etth1.py, each whole and known once.

    Raises:
        ValueError: If a line is damaged, says nothing of its origin, or is there twice.
    """
    rows: list[Record] = tables.read_kinds(path, {"run": _FIELDS}, "paper_etth1.py")
    if strange := {row["variant"] for row in rows} - set(VARIANTS):
        raise ValueError(f"{path.name} has rows of {min(strange)}; this page knows {', '.join(VARIANTS)}")
    for some in _by_settings(rows).values():
        tables.check_one(some, path.name, "torch", lambda row: row["versions"]["torch"])
        tables.check_once(some, path.name, "variant", "horizon", "seed", "learning_rate")
    return rows


# --- numbers ----------------------------------------------------------------------------------------------------


def _by_settings(rows: list[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for row in rows:
        groups.setdefault(json.dumps(row["settings"], sort_keys=True), []).append(row)
    return groups


def best_rate(rows: list[Record]) -> float:
    """The rate of the least validation MAE, among runs of one variant and horizon that differ in seed and rate.

    Only runs with the first seed count where there are any.
    """
    tuned = [row for row in rows if row["seed"] == TUNING_SEED] or rows
    return float(min(tuned, key=lambda row: row["valid_mae"])["learning_rate"])


def chosen(rows: list[Record]) -> dict[tuple[str, int], list[Record]]:
    """By variant and horizon, the runs at the rate that validation chose, one a seed; of rows with equal settings."""
    found = {}
    for variant in VARIANTS:
        for horizon in sorted({row["horizon"] for row in rows}):
            mine = [row for row in rows if (row["variant"], row["horizon"]) == (variant, horizon)]
            if mine:
                same = [row for row in mine if row["learning_rate"] == best_rate(mine)]
                found[variant, horizon] = sorted(same, key=lambda row: row["seed"])
    return found


def changes(rows: list[Record], variant: str) -> list[Change]:
    """A variant beside standard attention, horizon by horizon, over the seeds that both have."""
    runs, found = chosen(rows), []
    for horizon in sorted({row["horizon"] for row in rows}):
        ours = {row["seed"]: row["test_mae"] for row in runs.get((variant, horizon), [])}
        theirs = {row["seed"]: row["test_mae"] for row in runs.get((STANDARD, horizon), [])}
        seeds = sorted(set(ours) & set(theirs))
        if seeds:
            base = fmean(theirs[seed] for seed in seeds)
            percents = {seed: 100 * (ours[seed] - theirs[seed]) / base for seed in seeds}
            found.append(Change(horizon, percents, comparisons.interval(list(percents.values()))))
    return found


# --- the page ---------------------------------------------------------------------------------------------------


def page(rows: list[Record]) -> str:
    """docs/paper_etth1.md: for each group of settings what is seen, the tables and what they come from."""
    if not rows:
        return f"{_HEAD}\n{tables.NONE}\n"
    lines, groups = [_HEAD], _by_settings(rows)
    if numbers(rows) is not None:
        lines += ["![Change of the MAE against horizon, with intervals](pictures/paper_etth1.svg)", ""]
    for some in groups.values():
        lines += [f"## {_title(some[0]).capitalize()}", "", f"{_said(some[0])}.", ""]
        lines += [*_seen(some), ""]
        if told := _change_rows(some):
            names = ("horizon", "variant", "seeds", "change in %", "95% interval", "lowest", "highest")
            lines += [_TABLE_NOTE, "", *tables.head(2, *names), *told, ""]
        lines += [*_score_table(some), "", *_rates(some), "", tables.origin(some), ""]
    return "\n".join(lines)


def _title(row: Record) -> str:
    settings = row["settings"]
    beside = ", linear map beside" if settings["linear_skip"] else ""
    return f"width {settings['d_model']}, {row['patches']} tokens{beside}"


def _said(row: Record) -> str:
    given = {name: row["settings"][name] for name in _SIZES if row["settings"][name] is not None}
    text = ", ".join(_SIZES[name].format(value) for name, value in given.items())
    beside = "with" if row["settings"]["linear_skip"] else "without"
    return f"{text[0].upper()}{text[1:]}; {beside} a linear map beside the encoder; {row['parameters']} parameters at" \
           f" horizon {row['horizon']}"  # fmt: skip


def _seen(rows: list[Record]) -> list[str]:
    """What the paper says, held against the changes."""
    lines = []
    for variant, words in VARIANTS.items():
        found = changes(rows, variant) if variant != STANDARD else []
        if not found:
            continue
        gains = sum(change.mean < 0 for change in found)
        spans = [change.interval for change in found if change.interval is not None]
        text = (
            f"- {words.capitalize()}: the MAE is below that of standard attention at {gains} of {len(found)} horizons"
        )
        if spans:
            below, above = sum(high < 0 for _, high in spans), sum(low > 0 for low, _ in spans)
            text += f"; of {len(spans)} intervals, {below} lie below zero and {above} above"
        lines.append(f"{text}. {_growth(found)}")
    return lines or ["No two variants are recorded with the same settings and seeds."]


def _growth(found: list[Change]) -> str:
    """Does the gain grow with the horizon, as the paper says?"""
    if len(found) < 2:
        return "One horizon says nothing of growth."
    grows = all(later.mean < earlier.mean for earlier, later in pairwise(found))
    told = ", ".join(f"{change.mean:+.2f}% at {change.horizon}" for change in found)
    if grows and found[-1].mean < 0:
        return f"The gain grows with the horizon, as the paper says: {told}."
    return f"The paper's gain that grows with the horizon is not seen: {told}."


def _change_rows(rows: list[Record]) -> list[str]:
    lines = []
    for variant, words in VARIANTS.items():
        for change in changes(rows, variant) if variant != STANDARD else []:
            span = "no interval" if change.interval is None else "{:+.2f} to {:+.2f}".format(*change.interval)
            ends = (f"{pick(change.percents.values()):+.2f}" for pick in (min, max))
            first = (str(change.horizon), words, str(len(change.percents)), f"{change.mean:+.2f}")
            lines.append(tables.line(*first, span, *ends))
    return lines


def _score_table(rows: list[Record]) -> list[str]:
    names = ("horizon", "variant", "windows", "seeds", "rate", "test MAE", "test MSE", "validation MAE", "best epochs")
    lines = tables.head(2, *names, "processor [s]")
    for (variant, horizon), runs in sorted(
        chosen(rows).items(), key=lambda at: (at[0][1], list(VARIANTS).index(at[0][0]))
    ):
        first = (str(horizon), VARIANTS[variant], str(runs[0]["test_windows"]), str(len(runs)))
        scores = (tables.spread(runs, name) for name in ("test_mae", "test_mse", "valid_mae"))
        epochs = ", ".join(str(row["best_epoch"]) for row in runs)
        rate = f"{runs[0]['learning_rate']:g}"
        lines.append(tables.line(*first, rate, *scores, epochs, f"{tables.mean(runs, 'cpu_seconds'):.0f}"))
    return lines


def _rates(rows: list[Record]) -> list[str]:
    tried = sorted({row["learning_rate"] for row in rows})
    minutes = sum(row["cpu_seconds"] for row in rows) / 60
    return [f"Rates tried: {', '.join(f'{rate:g}' for rate in tried)}. All of these runs took {minutes:.0f} minutes of"
            " processor time."]  # fmt: skip


# --- the picture ------------------------------------------------------------------------------------------------


def numbers(rows: list[Record]) -> Any:
    """By settings and variant, horizon, mean change and interval; ``None`` where no two variants can be paired."""
    found: list[Any] = []
    for some in _by_settings(rows).values():
        by_variant = {}
        for variant in _COLOURS:
            told = [[c.horizon, round(c.mean, 6), *(round(end, 6) for end in c.interval or ())]
                    for c in changes(some, variant)]  # fmt: skip
            if told:
                by_variant[variant] = told
        if by_variant:
            found.append([_title(some[0]), by_variant])
    return found or None


def _draw(due: Any) -> Any:
    figure, panels = pictures.grid(len(due), 3.0)
    for (axes,), (title, by_variant) in zip(panels, due, strict=True):
        horizons = sorted({point[0] for points in by_variant.values() for point in points})
        for number, (variant, points) in enumerate(by_variant.items()):
            # A little aside, so that two intervals at one horizon can be told apart.
            places = [horizons.index(point[0]) + 0.12 * number - 0.06 for point in points]
            look = {"color": _COLOURS[variant]}
            axes.plot(places, [point[1] for point in points], "o-", ms=4, label=VARIANTS[variant], **look)
            for place, (_, _, *ends) in zip(places, points, strict=True):
                if ends:
                    axes.plot([place, place], ends, "-", lw=1.2, **look)
        axes.axhline(0, color="grey", lw=0.8, ls="--")
        axes.set_xticks(range(len(horizons)), [str(horizon) for horizon in horizons])
        axes.set(title=title, xlabel="horizon", ylabel="change of the MAE [%]")
        axes.grid(alpha=0.3)
    named: dict[str, Any] = {}
    for (axes,) in panels:
        handles, labels = axes.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(list(named.values()), list(named), loc="outside right center", frameon=False)
    return figure


PICTURES = {PICTURE: drawings.Drawing(numbers, _draw)}
