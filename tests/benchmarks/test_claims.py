"""What the pages say in words about records: each figure is computed here and looked for on the
page.
"""

import re
from math import exp, log
from statistics import fmean, median

import pytest
import records
from checkout import ROOT
from covariates import page as covariates
from paper import in_context, language_model, width_sweep
from paper import page as paper
from pretraining_study import page as study
from speed import service as load
from suite import page as suite
from suite import pretrained

RESULTS = ROOT / "benchmarks" / "results"


def said(page):
    """A page as one line, without list marks."""
    return " ".join(
        (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\n- ", "\n").split()
    )


def headline():
    return suite.read_suite(RESULTS, suite.HEADLINE, suite.VARIANTS)


def pairs_of_the_suite():
    gains = []
    for (dataset, _), cell in records.cells(headline(), "dataset", "horizon").items():
        of = records.by(cell, "model")
        if ("mlr",) in of and ("standard",) in of:
            means = [
                [fmean(row[score] for row in of[name,]) for score in ("mse", "mae")]
                for name in ("mlr", "standard")
            ]
            gains.append((dataset, *(ours - theirs for ours, theirs in zip(*means, strict=True))))
    apart = [gain for gain in gains if any(gain[1:])]
    assert {each[0] for each in apart} == {"weather"}
    lower = [sum(gain[score] < 0 for gain in gains) for score in (1, 2)]
    yield f"In {len(gains) - len(apart)} of {len(gains)} cells `mlr` and `standard` have the same scores"
    yield f"`mlr` has the lower MSE in {lower[0]} and the lower MAE in {lower[1]}."


def beyond_the_map():
    cells = 0
    beyond = {}
    for (dataset, horizon), cell in records.cells(headline(), "dataset", "horizon").items():
        by_model = records.by(cell, "model")
        for (name,), runs in by_model.items():
            if runs[0]["config"].get("linear_skip") == "least_squares":
                cells += 1
                if any(row["best_epoch"] for row in runs):
                    solved = fmean(row["mse"] for row in by_model["least_squares",])
                    change = f"{100 * (fmean(row['mse'] for row in runs) / solved - 1):.1f}%"
                    beyond.setdefault(name, {})[dataset, horizon] = change
    assert {place for of in beyond.values() for place in of} == {
        ("weather", h) for h in (96, 192, 336)
    }
    kept = cells - sum(len(of) for of in beyond.values())
    yield f"Every seed keeps the map in {kept} of {cells} cells"
    yield "`mlr` changes the MSE of the map by {}, {} and {}".format(*beyond["mlr"].values())
    yield "`standard` by {}, {} and {}".format(*beyond["standard"].values())


def beside_published():
    known = suite.read_published(RESULTS)
    counts = {}
    for (dataset, horizon), cell in records.cells(headline(), "dataset", "horizon").items():
        ours = [
            fmean(row[score] for row in cell if row["model"] == "mlr") for score in ("mse", "mae")
        ]
        for who, scores in suite.published_scores(known, dataset).items():
            for score, mine, theirs in zip(("MSE", "MAE"), ours, scores[str(horizon)], strict=True):
                word = (
                    "level"
                    if abs(mine - theirs) < 0.0005
                    else "lower"
                    if mine < theirs
                    else "higher"
                )
                counts_of_model = counts.setdefault(who, {}).setdefault(
                    score, dict.fromkeys(("lower", "level", "higher"), 0)
                )
                counts_of_model[word] += 1
    rival = counts["PatchTST/42"]
    best = counts["best published"]
    assert {sum(of.values()) for each in counts.values() for of in each.values()} == {20}
    told = "lower in {lower} of 20 cells and higher in {higher}".format
    yield (
        f"The MSE of `mlr` is {told(**rival['MSE'])} than that of PatchTST/42, its MAE lower in"
        f" {rival['MAE']['lower']} and higher in {rival['MAE']['higher']}."
    )
    yield (
        f"Against *best published*, its MSE is {told(**best['MSE'])}, its MAE lower in"
        f" {best['MAE']['lower']} and higher in {best['MAE']['higher']}."
    )


def regression():
    runs = paper.read_in_context(RESULTS)
    errors = {}
    for key, some in records.by(runs, *in_context.SETTING, "width", "variant").items():
        errors.setdefault(key[:-1], {})[key[-1]] = fmean(row["error"] for row in some)
    assert min(error for of in errors.values() for error in of.values()) >= 0.1
    behind = [
        key[:2]
        for key, of in errors.items()
        if any(of[n] >= of.get("standard_8", 9) for n in of if n[0] != "s")
    ]
    assert behind == [("turns", 16)]
    (last,) = [of for key, of in errors.items() if key[:2] == ("turns", 16) and "standard_8" in of]
    told = tuple(f"{last[name]:.3f}" for name in ("standard_8", "btt", "mlr"))
    yield "`standard_8` ends with {}, `btt` with {} and `mlr` with {}.".format(*told)
    stuck = [(key[1], key[-1]) for key, of in errors.items() if of.get("standard_8", 0) > 1]
    assert stuck == [(8, 16)]
    rows = [
        r
        for r in records.read_rows(RESULTS / in_context.FILE)
        if r["variant"] == "standard_8" and r["dim"] == 8
    ]
    high = [
        row["error"] > 1
        for row in rows
        if row["width"] == 32 and row["steps"] == 3000 and row["rate"] == 0.003
    ]
    low = [
        row["error"] > 1
        for row in rows
        if row["width"] == 32 and row["steps"] == 3000 and row["rate"] == 0.0015
    ]
    assert (sum(high), len(high), sum(low), len(low)) == (2, 3, 0, 3)
    step = {dim: (dim + 1) / (2 * dim - 1 + dim + 1) for dim in (8, 16, 32)}
    yield f"at best {step[8]:.3f} at d = 8, {step[16]:.3f} at d = 16 and {step[32]:.3f} at d = 32"


def text():
    rows = paper.read_language_model(RESULTS)
    cells = paper.settled(rows)
    test = {
        (w, name, row["seed"]): row["test"] for (w, name), some in cells.items() for row in some
    }

    def apart(ours, theirs):
        return [
            test[at] - test[at[0], theirs, at[2]]
            for at in test
            if at[1] == ours and (at[0], theirs, at[2]) in test
        ]

    for name in language_model.VARIANTS[1:]:
        differences = apart(name, "standard")
        yield f"`{name}` {sum(each < 0 for each in differences)} of {len(differences)}"
    turned = apart("mlr_rotary", "standard_rotary")
    lower = f"`mlr_rotary` is lower than it in {sum(d < 0 for d in turned)} of {len(turned)} pairs"
    yield f"{lower}, by {-fmean(turned):.4f} in the mean"
    choices = [row for row in rows if row["kind"] == "rate"]
    ends = sum(row["chosen"] in (min(row["rates"]), max(row["rates"])) for row in choices)
    yield f"in {ends} of {len(choices)} choices it is the lowest or the highest of the three tried"
    seeds = {at: len(some) for at, some in cells.items()}
    assert {n for (w, name), n in seeds.items() if w < 128} == {3}
    assert {name for (w, name), n in seeds.items() if w == 128 and n != 2} == {"mlr_rotary"}


def rates():
    rows = paper.read_width_sweep(RESULTS)
    moved = {}
    cost = {}
    for name in dict.fromkeys(row["structure"] for row in rows):
        for rule in width_sweep.RULES:
            narrow, wide = (paper.curve(rows, name, rule, width) for width in (32, 128))
            moved.setdefault(rule, {})[name] = paper.optimum(wide)[0] - paper.optimum(narrow)[0]
            cost.setdefault(rule, []).append(paper.price(narrow, wide))
    told = {
        r: (
            *(f"{pick(moved[r].values()):+.1f}" for pick in (min, max, median)),
            f"{median(cost[r]):.3f}",
        )
        for r in cost
    }
    moves = "the best rate moves by {} to {} powers of two, median {}; the median price is {} nats."
    yield "With the rule, from width 32 to 128 " + moves.format(*told["with"])
    yield "Without it, by {} to {}, median {}; the median price is {} nats.".format(
        *told["without"]
    )
    steadier = sum(abs(moved["with"][name]) < abs(moved["without"][name]) for name in moved["with"])
    yield f"It moves less with the rule for {steadier} of {len(moved['with'])} structures."


def forecasting():
    cells = paper.chosen(records.read_rows(RESULTS / "paper_etth1.jsonl"))
    differences = {
        name: [paper.change(cells, (h, name)) for h in (96, 192, 336)] for name in ("mlr2", "mlr4")
    }
    below = {name: sum(fmean(each) < 0 for each in of) for name, of in differences.items()}
    spans = [suite.interval(each) for of in differences.values() for each in of]
    yield f"at {below['mlr2']} of 3 horizons with two levels and at {below['mlr4']} of 3 with four"
    yield f"but {sum(high < 0 for _, high in spans)} of {len(spans)} intervals lie below zero"
    assert all(fmean(of[2]) > fmean(of[0]) for of in differences.values()), (
        "no gain that grows with the horizon"
    )


def across_series():
    rows = study.compared(records.read_rows(RESULTS / study.groups.FILE))
    trained = records.by([row for row in rows if row["seconds"] > 0], "arm")
    assert all(row["way"] == "residual" for row in rows if row["seconds"] > 0)
    means = {arm: fmean(row["columns"] for row in of) for (arm,), of in trained.items()}
    apart = max(abs(mean / means["none"] - 1) for mean in means.values())
    seconds = {row["seconds"] for row in rows} - {0}
    yield (
        f"After {seconds.pop()} core seconds of training, no: all arms are within"
        f" {f'{100 * apart:.1f}'.removeprefix('0')}% of one that reads nothing"
    )
    costs = {arm: of[0]["multiply_adds"] for (arm,), of in trained.items()}
    assert all(5.5 < costs[arm] / costs["none"] < 6.5 for arm in ("levels", "alternating"))
    yield "at equal cost, six times that of the network"
    (start,) = (row for row in rows if (row["seconds"], row["way"]) == (0, "residual"))
    assert start["drift"] > 1.01
    yield "Where coefficients drift, the regression harms."


def means_of_the_map_and_zero():
    rows = suite.read_pretrained(RESULTS)
    of = {}
    for (dataset, model), some in records.by(rows, "dataset", "model").items():
        of.setdefault(dataset, {})[model] = fmean(row["mse"] for row in some)
    lower = [
        name
        for name, mse in of.items()
        if mse["map + zero"] < min(mse["least_squares"], mse["zero"])
    ]
    assert len(lower) == len(of) == 5
    yield "mean of `zero` and the map has a lower MSE than both on all five tables."


def maps_of_several_lengths():
    rows = suite.read_pretrained(RESULTS)
    lower = {"map + zero": set(), "maps + zero": set()}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        scores = suite.published_scores(suite.read_published(RESULTS), dataset, tuple(suite.BEST))
        for horizon, (mse, _) in scores["best of any kind"].items():
            for model, cells in lower.items():
                cell = [
                    row["mse"]
                    for row in rows
                    if (row["dataset"], row["horizon"], row["model"])
                    == (dataset, int(horizon), model)
                ]
                if fmean(cell) < mse:
                    cells.add((dataset, horizon))
    one, several = (len(cells) for cells in lower.values())
    assert lower["map + zero"] <= lower["maps + zero"]
    text = pretrained.tables(RESULTS)
    (of_all,) = re.findall(r"best of any kind in (\d+)\.", text)
    (untuned,) = re.findall(r"seeds: \d+, \d+, (\d+)\.", text)
    assert of_all == untuned
    yield f"MSE is below the best published of any kind in {several} of 20 cells, with one map in {one}."
    models = []
    for cell in records.by(rows, "dataset", "horizon").values():
        judged = [row for row in cell if row["model"] != suite.STANDARD]
        best = min(judged, key=lambda row: row["valid_mse"])
        models.append(best["model"])
    n_means = sum("mean" in model for model in models)
    n_by_column = sum(model in suite.BY_COLUMN for model in models)
    yield (
        f"What validation rows choose is below it in {of_all}: it has the mean of `zero`, not its"
        f" median, in {n_means} cells, weights by column in {n_by_column}."
    )
    alone = records.by([row for row in rows if row["dataset"] == "weather"], "model")
    zero, mean = (fmean(row["mse"] for row in alone[name,]) for name in ("zero", "zero, mean"))
    assert mean > zero
    yield "Without a map, the mean is worse than the median on Weather."


def long_training():
    """How much higher the scores of standard attention are at the last steps that were judged."""
    ours, standard = study.long.curves().values()
    steps = sorted(step for step in ours.keys() & standard.keys() if step >= 1_000)
    ratios = [standard[step] / ours[step] for step in steps]
    assert ratios[0] > ratios[-1]
    rows = records.read(RESULTS / study.long.FILE, study.long.KEY)
    last = max(row["step"] for row in rows)
    loss = 100 * (standard[last] / ours[last] - 1)
    judged = {row["attention"]: row["tasks"] for row in rows if row["step"] == last}
    logs = [
        log(judged["standard"][task][1] / judged["levels"][task][1]) for task in judged["levels"]
    ]
    wql = 100 * (exp(fmean(logs)) - 1)
    least, most = suite.interval(logs)
    assert 0 < least < wql / 100 < most
    return last, loss, wql


def long_training_in_findings():
    step, loss, wql = long_training()
    yield (
        f"In longer training levels gain less. After {step:,} steps of the recipe of `zero-5`"
        f" standard attention has a loss {loss:.1f}% higher; on development tasks its WQL is"
        f" {wql:.1f}% higher, beyond chance"
    )


def long_training_in_readme():
    _, loss, wql = long_training()
    lower = [100 * (1 - 1 / (1 + change / 100)) for change in (loss, wql)]
    yield (
        f"Seasonal levels lower the pretraining loss by {lower[0]:.0f}%, and the WQL on real"
        f" series by [about {lower[1]:.0f}%]"
    )


def speed_of_the_small_size():
    rows = records.read_rows(RESULTS / "peers.jsonl")
    ratios = [
        row["ratio"]
        for row in rows
        if row["kind"] == "pretrained"
        and row["peer"] == "Chronos-Bolt tiny"
        and row["model"].endswith("-small")
    ]
    words = {4: "four", 9: "nine", 10: "ten"}
    least, most = (words[round(ratio)] for ratio in (min(ratios), max(ratios)))
    yield f"forecasts {least} to {most} times as many series a second as Chronos-Bolt tiny"


def gains_of_covariates():
    """Share of the error of the pretrained network that covariates take away: mean, and by task."""
    table = covariates.gains(RESULTS)
    ratios = re.findall(r"^\| (\S.*?) *\| *([\d.]+)/", table, re.MULTILINE)
    gains = {task: 1 - float(ratio) for task, ratio in ratios}
    (mean,) = (task for task in gains if task.startswith("geometric mean"))
    return gains.pop(mean), gains


def covariates_in_readme():
    _, gains = gains_of_covariates()
    prices = [gain for task, gain in gains.items() if task.startswith("epf_")]
    assert len(prices) == 5
    yield (
        f"On electricity prices they cut the error by {100 * min(prices):.0f}% to"
        f" {100 * max(prices):.0f}%"
    )


def covariates_on_their_page():
    mean, gains = gains_of_covariates()
    yield f"[by {100 * mean:.0f}%](#with-covariates-over-without) on average"
    yield f"and by {100 * min(gains.values()):.0f} to {100 * max(gains.values()):.0f}% on single tasks"


def the_service():
    row = records.read(RESULTS / load.FILE, load.KEY)[-1]
    assert row["lost_requests"] == row["misjudged_requests"] == row["exit_status"] == 0
    assert row["wrong_requests"] > 0
    assert row["answered_after_stop"] > 0
    assert row["largest_difference"] <= 1e-5
    yield (
        f"With {row['clients']} clients on two cores it answered"
        f" {row['requests_a_second']:.0f} requests a second, 99% within"
        f" {row['p99_ms']:.0f} ms, and lost none when stopped"
    )


CLAIMS = {
    "../README.md": (
        means_of_the_map_and_zero,
        speed_of_the_small_size,
        long_training_in_readme,
        covariates_in_readme,
    ),
    "covariates.md": (covariates_on_their_page,),
    "findings.md": (across_series, maps_of_several_lengths, long_training_in_findings),
    "benchmarks.md": (pairs_of_the_suite, beyond_the_map, beside_published),
    "serving.md": (the_service,),
    "paper.md": (regression, text, rates, forecasting),
}


@pytest.mark.parametrize(
    ("page", "claims"), [(page, each) for page, of in CLAIMS.items() for each in of]
)
def test_the_page_says_what_the_records_say(page, claims):
    text = said(page)
    all_claims = list(claims())
    assert all_claims
    assert [claim for claim in all_claims if claim not in text] == []


def test_a_claim_that_no_record_bears_out_is_seen():
    claim = next(pairs_of_the_suite())
    assert re.sub(r"\d+", "18", claim, count=1) not in said("benchmarks.md")
