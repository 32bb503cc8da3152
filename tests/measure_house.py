"""The size of the house: what is measured, what is asked, and what it was before;
``python tests/measure_house.py``.
"""

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tsattn"
# Kernels as the equation has them, with plain arguments as torch's own attention.
EXEMPT = ("kernels.attention", "kernels.attention_weights", "kernels.mlr_attention")

# What the names of the package load, and what their work passes through; one process does it all, as
# pandas, torch and Lightning take seconds to load.
_WATCH = """
import json, os, sys
import numpy as np, pandas as pd, torch
sys.path.insert(0, {root!r})
def loaded(name):
    # In a fork, of which the others see nothing.
    reader, writer = os.pipe()
    if os.fork() == 0:
        exec(f"from tsattn import {{name}}")
        found = [m for m in sys.modules if m.split(".")[0] in ("tsattn", "lightning", "sklearn")]
        with os.fdopen(writer, "w") as answer:
            json.dump(sorted(found), answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.wait()
    return json.loads(text)
modules = {{name: loaded(name) for name in ("PretrainedForecaster", "AttentionForecaster")}}
from tsattn import AttentionForecaster, PretrainedForecaster, Training
torch.set_num_threads(1)
days = pd.date_range("2024-01-01", periods=160, freq="D")
df = pd.DataFrame({{"unique_id": "a", "ds": days, "y": np.sin(np.arange(160.0))}})
made = {{"zero": PretrainedForecaster(7)}}
if {trained}:
    training = Training(max_epochs=1)
    made["mlr"] = AttentionForecaster(7, context=28, training=training, random_state=0)
found = {{}}
def watch(action):
    seen = set()
    def look(frame, event, arg):
        if event == "call":
            name = frame.f_globals.get("__name__", "")
            # What runs while a module is imported is no part of the work.
            if name.startswith("tsattn") and frame.f_code.co_name != "<module>":
                seen.add(name)
    action()  # whatever is imported on first use is there from now on
    sys.setprofile(look)
    try:
        action()
    finally:
        sys.setprofile(None)
    return sorted(seen)
for name, model in made.items():
    fit = watch(lambda: model.fit(df))
    network, calls = model.network_, []
    hook = network.register_forward_hook(lambda *_: calls.append(1))
    predict = watch(lambda: model.predict(level=80))
    hook.remove()
    found[name] = {{"fit": fit, "predict": predict, "passes": len(calls) // 2}}
print(json.dumps([modules, found]))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        subject: What is counted.
        before: In the first house.
        asked: At most, or as text where it is no bound.
        now: Measured.
        detail: Which ones, for a reader.
        kept: What a row that misses its mark must not exceed from here on.
    """

    subject: str
    before: str
    asked: int | str
    now: int
    detail: str = ""
    kept: int = 0

    @property
    def holds(self) -> bool:
        """Whether the bound is kept; a row without one always holds."""
        return isinstance(self.asked, str) or self.now <= max(self.asked, self.kept)


def python(code: str, **values: object) -> list[dict[str, Any]]:
    """What a fresh interpreter prints, from JSON."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
    program = code.format(root=str(ROOT), **values)
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def sources(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def lines(files: list[Path]) -> int:
    return sum(len(file.read_text().splitlines()) for file in files)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(each) for each in node.decorator_list)


def _count(function: ast.FunctionDef) -> int:
    args = function.args
    names = [a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def signatures() -> Iterator[tuple[str, str, int]]:
    """Kind (``"function"`` or ``"class"``), place and number of parameters of everything public."""
    for file in sources(PACKAGE):
        place = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        for node in parsed(file).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield "function", f"{place}.{node.name}", _count(node)
            if not isinstance(node, ast.ClassDef) or node.name.startswith("_"):
                continue
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            made = [_count(each) for each in methods if each.name == "__init__"]
            if not made and _is_dataclass(node):
                made = [sum(isinstance(each, ast.AnnAssign) for each in node.body)]
            yield "class", f"{place}.{node.name}", max(made, default=0)
            for each in methods:
                if not each.name.startswith("_"):
                    yield "function", f"{place}.{node.name}.{each.name}", _count(each)


def imports() -> dict[str, set[str]]:
    """Modules of the package that each one imports, annotations and imports inside of functions
    counted.
    """
    names = {}
    for file in sources(PACKAGE):
        parts = ("tsattn", *file.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = file
    found: dict[str, set[str]] = {}
    for name, file in names.items():
        told = set()
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Import):
                told |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                told |= {each if each in names else node.module for each in inner}
        found[name] = {each for each in told if each in names and each != name}
    return found


def circles() -> list[list[str]]:
    """Groups of modules that import one another."""
    graph = imports()

    def reached(start: str) -> set[str]:
        seen = set()
        queue = [start]
        while queue:
            for each in graph[queue.pop()] - seen:
                seen.add(each)
                queue.append(each)
        return seen

    reach = {name: reached(name) for name in graph}
    groups = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in graph
        if name in reach[name]
    }
    return sorted(sorted(group) for group in groups)


def measure(*, trained: bool = True) -> list[Row]:
    """All rows of the table.

    Args:
        trained: Train a network, too, for which Lightning is loaded.
    """
    told = [each for each in signatures() if each[1] not in EXEMPT]
    functions = sorted((n, place) for kind, place, n in told if kind == "function")
    classes = sorted(
        (n, place) for kind, place, n in told if kind == "class" and not place.startswith(_INNER)
    )
    loaded, traced = python(_WATCH, trained=trained)
    ours = {name: [m for m in found if m.startswith("tsattn")] for name, found in loaded.items()}
    heavy = [m for found in loaded.values() for m in found if m in ("lightning", "sklearn")]
    round_trips = circles()
    pages = [file for file in (ROOT / "docs").glob("*.md") if file.name != "api.md"]
    records = sorted((ROOT / "benchmarks" / "results").glob("*.json*"))
    passed = {
        name: {work: len(found[work]) for work in ("fit", "predict")}
        for name, found in traced.items()
    }
    of_trained = [
        Row(f"modules passed by {work}, mlr", before, "", passed["mlr"][name])
        for work, name, before in (("predict(level=80)", "predict", "27"), ("fit", "fit", "34"))
        if trained
    ]
    return [
        Row("parameters of the widest public function", "56", 12, *functions[-1]),
        Row("parameters of the widest class", "56", 17, *classes[-1]),
        Row(
            "modules loaded by PretrainedForecaster",
            "62",
            30,
            len(ours["PretrainedForecaster"]),
            kept=36,
        ),
        Row("modules loaded by AttentionForecaster", "62", "", len(ours["AttentionForecaster"])),
        Row("Lightning and scikit-learn loaded by them", "2", 0, len(heavy)),
        Row(
            "modules passed by predict(level=80), zero", "", 14, passed["zero"]["predict"], kept=26
        ),
        *of_trained,
        # The pretrained network forecasts values and their changes; points and bounds share both.
        Row(
            "network passes of predict(level=80)",
            "2",
            2,
            max(found["passes"] for found in traced.values()),
        ),
        Row(
            "import circles, annotations counted", "2", 0, len(round_trips), str(round_trips or "")
        ),
        # A cap on lines bought density: what counts is how much a line holds and what a reader has
        # to pass.
        Row("lines of tsattn/", "21,800", "", lines(sources(PACKAGE))),
        Row("lines of Python in benchmarks/", "6,700", "", lines(sources(ROOT / "benchmarks"))),
        Row("lines of records", "198,507", 3_000, lines(records), f"{len(records)} files"),
        Row("pages of docs beside the API", "25", 15, len(pages)),
        # Tables count.
        Row(
            "words of docs", "44,000", 18_000, sum(len(file.read_text().split()) for file in pages)
        ),
    ]


# Frozen descriptions that no caller writes: results, plans and what follows from the data.
_INNER = ("nn.config.ModelConfig", "data.cards.Card")


def main() -> None:
    """Print the table."""
    rows = [
        ("", "before", "asked", "now", ""),
        *((r.subject, r.before, str(r.asked), str(r.now), r.detail) for r in measure()),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        sys.stdout.write(
            "  ".join(
                text.ljust(width) for text, width in zip(row, (*widths, 0), strict=True)
            ).rstrip()
            + "\n"
        )


if __name__ == "__main__":
    main()
