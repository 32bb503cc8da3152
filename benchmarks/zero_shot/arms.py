"""Arms of the pretrained network, trained alike: their scores on the development tasks, and their table.

`python benchmarks/zero_shot/arms.py --pack DIR STATE...` judges states of `python -m tsattn.pretrained.pretraining` and
records each once; what is on record is not judged again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import records
import render
import torch
from records import RESULTS, Record, Records
from zero_shot.pack import COLUMNS, SPLITS, Pack, geometric_mean, score
from zero_shot.run import forecast

from tsattn.limits import limit_threads
from tsattn.pretrained.pretraining import export

FILE = "pretraining_arms.jsonl"
KEY = ("attention", "cut", "copies", "d_model", "n_layers", "seed", "steps")
_JUDGED = [number for number, column in enumerate(COLUMNS) if column.split == SPLITS[0]]


def judge(state: Path, pack: Pack) -> Record:
    """Geometric means of relative MASE and WQL by column of development tasks, all instances."""
    found: dict[str, dict[str, float]] = {}
    with TemporaryDirectory() as folder:
        export(state, Path(folder), "arm", {"commit": None, "scores": None, "bad_at": None})
        for task in pack.tasks.values():
            if task.split == SPLITS[0]:
                instances = pack.instances(task)
                scores = score(task, instances, forecast("zero", task, instances, weights=folder))
                base = task.published["seasonal_naive"]
                found[task.name] = {m: scores[m] / base[m.upper()] for m in ("mase", "wql")}
                found[task.name]["coverage80"] = scores["coverage80"]
    columns = []
    for number in _JUDGED:
        names = [t.name for t in pack.tasks.values() if COLUMNS[number].holds(t.suite, t.split, t.horizon)]
        columns.append([round(geometric_mean([found[name][m] for name in names]), 5) for m in ("mase", "wql")])
    return {"columns": columns, "coverage80": round(fmean(each["coverage80"] for each in found.values()), 5)}


def describe(state: Path) -> Record:
    """Which arm a state is, and what its training took."""
    kept = torch.load(state / "state.pt", map_location="cpu", weights_only=True)
    last = json.loads((state / "curve.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    if kept["step"] != kept["recipe"]["n_steps"]:
        raise ValueError(f"{state} stopped at step {kept['step']} of {kept['recipe']['n_steps']}; train it to its end")
    told = {name: kept["config"][name] for name in ("attention", "cut", "copies", "d_model", "n_layers")}
    told |= {"seed": kept["recipe"]["seed"], "steps": kept["step"], "windows": kept["windows"]}
    return told | {"core_seconds": round(kept["seconds"], 1), "validation": round(last["validation"], 5)}


def table(folder: Path) -> str:
    """One line an arm: means over its seeds, with their spread."""
    rows = records.read(folder / FILE, KEY)
    if not rows:
        return render.NONE
    body = []
    arms = records.by(rows, *(name for name in KEY if name != "seed")).values()
    for each in sorted(arms, key=lambda each: (each[0]["steps"], render.mean(each, "validation"))):
        first = each[0]
        tokens = ("cut at the season" if first["cut"] else "8 steps") + (", copies" if first["copies"] else "")
        pairs = [[dict(enumerate(row["columns"][n])) for row in each] for n in range(len(_JUDGED))]
        scores = [" / ".join(render.spread(pair, metric, 3) for metric in (0, 1)) for pair in pairs]
        cost, loss = f"{render.mean(each, 'core_seconds'):.0f}", render.spread(each, "validation")
        body.append([first["attention"], tokens, f"{first['steps']:,}", str(len(each)), cost, loss, *scores])
    most = {n: f", at most {COLUMNS[n].most} ahead" if COLUMNS[n].most else "" for n in _JUDGED}
    titles = [COLUMNS[n].suite + most[n] for n in _JUDGED]
    head = ["attention", "tokens", "steps", "seeds", "core seconds", "validation loss", *titles]
    return f"{render.lines(head, body)}\n\nMean over seeds, with their standard deviation. {records.origin(rows)}"


def main(argv: Sequence[str] | None = None) -> int:
    """Judge what is not on record; 2 where a state is not whole."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("states", type=Path, nargs="+", help="folders of states")
    parser.add_argument("--pack", type=Path, required=True, help="folder of the zero-shot pack")
    parser.add_argument("--out", type=Path, default=RESULTS / FILE)
    options = parser.parse_args(argv)
    try:
        pack, found = Pack(options.pack), Records(options.out, KEY)
        with limit_threads(1):
            for state in options.states:
                arm = describe(state)
                if list(found.missing([arm])):
                    row = found.add({"kind": "arm", **arm, **judge(state, pack)})
                    print(f"{row['attention']} seed {row['seed']}: {row['columns']}", flush=True)
    except (ValueError, OSError) as error:
        print(f"arms: {error}", file=sys.stderr)
        return 2
    return 0


BLOCKS = {("docs/zero-shot.md", "arms"): table}

if __name__ == "__main__":
    sys.exit(main())
