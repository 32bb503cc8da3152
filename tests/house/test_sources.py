"""Rules of the sources: light imports, one-way layers, the public list, plain code; each is shown
to fail.
"""

import ast
import functools
import importlib
import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from check_wheel import CheckFailed, check_contents, check_weights
from checkout import ROOT

import tsattn

PACKAGE = ROOT / "tsattn"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))

HEAVY = ("lightning", "sklearn", "gluonts", "statsmodels", "statsforecast", "matplotlib")
NETWORKS = ("tsattn.nn", "tsattn.kernels", "tsattn.training.loop", "tsattn.forecasters.attention")
# modules, imported together -> what must be absent from sys.modules then
WALLS = {
    "tsattn": ("torch", "numpy", "pandas", *HEAVY),
    "tsattn.storage": ("pandas", *HEAVY, "tsattn.data"),
    "tsattn.kernels": ("pandas", *HEAVY, "tsattn.nn", "tsattn.data"),
    "tsattn.nn.models": ("pandas", *HEAVY, "tsattn.data", "tsattn.training.loop"),
    "tsattn.data.frames": ("torch", *HEAVY, *NETWORKS),
    "tsattn.data.cards": ("torch", "pooch", *HEAVY, *NETWORKS, "tsattn.evaluate"),
    "tsattn.forecaster": ("torch", *HEAVY, *NETWORKS, "tsattn.evaluate"),
    "tsattn.evaluate.metrics": ("torch", "pandas", *HEAVY, *NETWORKS, "tsattn.data"),
    "tsattn.forecasters.naive tsattn.evaluate.conformal tsattn.evaluate.backtest": (
        *HEAVY,
        *NETWORKS,
    ),
    "tsattn.forecasters.classical tsattn.forecasters.statsforecast": (*HEAVY, *NETWORKS),
    "tsattn.forecasters.regression tsattn.forecasters.gluonts": (*HEAVY, *NETWORKS),
    "tsattn.training.loop": (
        "gluonts",
        "statsmodels",
        "sklearn",
        "tsattn.forecasters.attention",
        "tsattn.evaluate",
    ),
    "tsattn.training.processes tsattn.training.state": (
        "pandas",
        *HEAVY,
        "tsattn.data",
        "tsattn.nn",
    ),
    "tsattn.distributed": (*HEAVY, *NETWORKS, "joblib", "fugue"),
    "tsattn.tuning": ("optuna", "gluonts", "statsmodels", "tsattn.catalogue"),
    "tsattn.forecasters.attention": ("gluonts", "statsmodels", "tsattn.catalogue"),
    "tsattn.adapters": ("torch", "numpy", "pandas", *HEAVY, "sktime", "transformers"),
    "tsattn.catalogue": ("torch", *HEAVY),
    "tsattn.catalogue tsattn.plotting tsattn.demo tsattn.benchmark": (*HEAVY, *NETWORKS),
    "tsattn.forecasters.pretrained": (
        *HEAVY,
        "tsattn.training.loop",
        "tsattn.forecasters.attention",
        "tsattn.evaluate",
    ),
    "tsattn.cli tsattn.console tsattn.__main__": ("torch", "numpy", "pandas", *HEAVY),
}


# --- what an import loads -------------------------------------------------------------------------


def run_python(code: str, *flags: str, cwd: Path | None = None, told: str = "") -> str:
    """What a fresh interpreter prints that is told something on stdin."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    call = [sys.executable, *flags, "-c", code]
    done = subprocess.run(call, env=env, cwd=cwd, input=told, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Answers each job, [modules, names, folder of the package], in a fork of a process that has loaded
# nothing but those of pandas and torch that the job does not name.
_FORKS = """
import importlib, json, os, sys

def forked(act):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(writer, "w") as answer:
            json.dump(act(), answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text)

def loaded(modules, names, folder):
    sys.path.insert(0, folder)
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception as error:
        return [repr(error)]
    found = [name for name in names if name in sys.modules]
    return found if sys.modules["tsattn"].__file__.startswith(folder) else ["another tsattn"]

def answers(base, jobs):
    for name in base:
        importlib.import_module(name)
    return [forked(lambda: loaded(*job)) for job in jobs]

jobs, found = json.load(sys.stdin), {}
for base in ((), ("pandas",), ("torch",), ("pandas", "torch")):
    own = [i for i, job in enumerate(jobs) if base == tuple(name for name in ("pandas", "torch") if name not in job[1])]
    found |= dict(zip(own, forked(lambda: answers(base, [jobs[i] for i in own]))))
print(json.dumps([found[i] for i in range(len(jobs))]))
"""


def loaded(jobs: list[tuple[str, tuple[str, ...], Path]]) -> list[list[str]]:
    """Of each job, those of the names that importing its modules from its folder loads."""
    told = json.dumps([(modules.split(), names, str(folder)) for modules, names, folder in jobs])
    return json.loads(run_python(_FORKS, told=told))


def with_holes(folder: Path) -> list[tuple[str, tuple[str, ...], Path]]:
    """Jobs as those of the walls, of empty modules, of which the last one imports all that is
    forbidden.
    """
    jobs = []
    for i, (modules, names) in enumerate(WALLS.items()):
        root = folder / f"wall{i}"
        root.mkdir()
        for name in sorted({*modules.split(), *names}, key=len):
            home = root.joinpath(*name.split("."))
            for package in (*home.relative_to(root).parents[:-1], home.relative_to(root)):
                (root / package).mkdir(exist_ok=True)
                (root / package / "__init__.py").touch()
        last = root.joinpath(*modules.split()[-1].split("."), "__init__.py")
        last.write_text("".join(f"import {name}\n" for name in names))
        jobs.append((modules, names, root))
    return jobs


@pytest.fixture(scope="module")
def let_through(tmp_path_factory):
    """What each wall lets through, and what each wall with a hole does.

    Both are found in forks of the same processes, which take seconds to load pandas and torch.
    """
    walls = [(modules, names, ROOT) for modules, names in WALLS.items()]
    leaks = loaded(walls + with_holes(tmp_path_factory.mktemp("holes")))
    n_walls = len(walls)
    by_walls, by_holes = leaks[:n_walls], leaks[n_walls:]
    return dict(zip(WALLS, zip(by_walls, by_holes, strict=True), strict=True))


@pytest.mark.parametrize("modules", WALLS)
def test_wall_stands(modules, let_through):
    leaks, _ = let_through[modules]
    assert leaks == []


@pytest.mark.parametrize("modules", WALLS)
def test_hole_in_a_wall_is_seen(modules, let_through):
    _, leaks = let_through[modules]
    assert leaks == list(WALLS[modules])


def test_walls_name_modules_that_exist():
    for name in {*" ".join(WALLS).split(), *(name for names in WALLS.values() for name in names)}:
        assert importlib.util.find_spec(name) is not None, (
            f"{name} is gone: a wall against nothing stands for ever"
        )


def test_import_takes_less_than_a_second():
    code = "import time; t = time.perf_counter(); import tsattn; print(time.perf_counter() - t)"
    assert float(run_python(code)) < 1


# --- the public names -----------------------------------------------------------------------------


def documented_names(text: str) -> list[str]:
    """First column of the table below "Public names" in the reference."""
    section = text.split("## Public names")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)


def test_public_names_are_the_documented_ones():
    names = documented_names((ROOT / "docs" / "api.md").read_text())
    assert len(names) == len(set(names)) > 10
    assert sorted(names) == sorted(tsattn.__all__)


def definition(module, name):
    """The class or function of a name in the sources, also where a package passes it on."""
    home = PACKAGE.joinpath(*module.split(".")[1:])
    for node in ast.parse(
        (home / "__init__.py" if home.is_dir() else home.with_suffix(".py")).read_text()
    ).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return definition(node.module, name)
    return None


@pytest.mark.parametrize("name", tsattn.__all__)
def test_public_name_is_defined_where_the_facade_looks(name):
    assert ast.get_docstring(definition(tsattn._HOMES[name], name))


def test_facade_lists_and_refuses():
    assert set(tsattn.__all__) == set(tsattn._HOMES)
    assert set(tsattn.__all__) <= set(dir(tsattn))
    assert tsattn.Schema is importlib.import_module(tsattn._HOMES["Schema"]).Schema
    assert re.match(r"\d+\.\d+\.\d+", tsattn.__version__)
    with pytest.raises(AttributeError, match="module 'tsattn' has no attribute 'Atention'"):
        tsattn.Atention  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Atention'"):
        from tsattn import Atention  # noqa: F401


VERSION = """
import sys, tsattn
# A start that is interrupted ends the more quietly the sooner the command handles it.
was_loaded = "importlib.metadata" in sys.modules
print(was_loaded, "__version__" in dir(tsattn), bool(tsattn.__version__))
"""


def test_the_version_is_looked_up_on_first_use():
    # Without the site, whose finders of packages may load what reads the version.
    command = [sys.executable, "-S", "-c", VERSION]
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(ROOT)}
    )
    assert process.stderr == ""
    assert process.stdout.split() == ["False", "True", "True"]


ROOMS = """
import json, sys, tsattn
loaded = [f"tsattn.{room}" in sys.modules for room in tsattn._ROOMS]
names = []
for room in tsattn._ROOMS:
    # One that an earlier room has imported would be found without being looked for.
    vars(tsattn).pop(room, None)
    names.append(getattr(tsattn, room).__name__)
print(json.dumps(dict(zip(tsattn._ROOMS, zip(loaded, names)))))
"""


@pytest.fixture(scope="module")
def rooms():
    """Of each room, whether a fresh process loads it with the package, and which module it is."""
    process = subprocess.run(
        [sys.executable, "-c", ROOMS], capture_output=True, text=True, check=False
    )
    assert process.stderr == ""
    return json.loads(process.stdout)


@pytest.mark.parametrize("room", tsattn._ROOMS)
def test_rooms_that_the_guide_names_need_no_import(room, rooms):
    assert rooms[room] == [False, f"tsattn.{room}"]
    assert room in dir(tsattn)


def test_no_public_name_is_a_room():
    """Importing ``tsattn.x`` sets the attribute x of tsattn: a public name x would be overwritten
    by a module.
    """
    rooms = {name for _, name, _ in pkgutil.iter_modules(tsattn.__path__)}
    assert {"data", "nn", "kernels", "forecaster"} <= rooms
    assert not rooms & set(tsattn.__all__)


# --- layers ---------------------------------------------------------------------------------------

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
    "contracts"
]
# contract -> (file, line that breaks it)
BREACHES = {
    "One-way layers": ("data/frames.py", "import tsattn.forecaster"),
    "The judge does not know the defendant": ("evaluate/metrics.py", "import tsattn.nn"),
    "Data and forecasts know no network": ("forecaster.py", "import tsattn.kernels"),
    "Networks know torch only": ("nn/layers.py", "import pandas"),
    "Lightning stays in training": ("forecasters/attention.py", "import lightning"),
    "Pretraining needs no table": ("pretrained/period.py", "import pandas"),
    "pandas stays at the borders": ("evaluate/metrics.py", "import pandas"),
    "scikit-learn stays in the forecasters": ("evaluate/backtest.py", "import sklearn"),
    "No circles": ("forecasters/network.py", "import tsattn.forecasters.attention"),
}


def lint_imports(folder: Path) -> tuple[int, str]:
    """Exit status and report of import-linter on the package in ``folder``."""
    code = (
        "import sys; from importlinter.cli import lint_imports;"
        " sys.exit(lint_imports(no_cache=True))"
    )
    env = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copied_house(tmp_path):
    """A copy of what import-linter reads, to break."""
    shutil.copytree(PACKAGE, tmp_path / "tsattn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_layers_are_kept(copied_house):
    code, report = lint_imports(copied_house)
    assert code == 0, report
    assert f"{len(CONTRACTS)} kept, 0 broken" in report


def test_every_contract_has_a_breach():
    assert {contract["name"] for contract in CONTRACTS} == set(BREACHES)


@pytest.mark.parametrize("contract", BREACHES)
def test_breach_of_a_contract_is_seen(contract, copied_house):
    name, line = BREACHES[contract]
    file = copied_house / "tsattn" / name
    file.write_text(f"{file.read_text()}\n{line}\n")
    code, report = lint_imports(copied_house)
    assert code == 1, report
    assert re.search(rf"^{re.escape(contract)} .*BROKEN$", report, flags=re.MULTILINE), report


def test_module_without_a_layer_is_seen(copied_house):
    (copied_house / "tsattn" / "attic.py").write_text('"""What nobody is told about."""\n')
    code, report = lint_imports(copied_house)
    assert code == 1, report
    assert "attic" in report


# --- the folder datasets is no package ------------------------------------------------------------

_WHERE = (
    "from importlib.util import find_spec; spec = find_spec('datasets');"
    "print(list(spec.submodule_search_locations or []) if spec else [])"
)


def points_into_checkout(locations: str) -> bool:
    return str(ROOT / "datasets") in locations


def test_datasets_folder_is_not_importable():
    assert not list((ROOT / "datasets").rglob("*.py"))
    assert not points_into_checkout(run_python(_WHERE, "-P", cwd=ROOT))
    spec = importlib.util.find_spec("datasets")
    assert spec is None or not points_into_checkout(
        str(list(spec.submodule_search_locations or []))
    )


def test_importable_datasets_folder_is_seen():
    # Without -P the working directory leads the search; -S leaves out installed packages that bear
    # the name.
    code = f"import sys; sys.path.insert(0, ''); {_WHERE}"
    assert points_into_checkout(run_python(code, "-S", cwd=ROOT))


@pytest.mark.parametrize("file", ["Makefile", ".ci/run"])
def test_python_is_run_safely_from_the_root(file):
    assert re.search(
        r"^export PYTHONSAFEPATH ?:?= ?1$", (ROOT / file).read_text(), flags=re.MULTILINE
    )


# --- what is shipped (the rest is in check_wheel.py) ----------------------------------------------

_SHIPPED = {"tsattn/__init__.py", "tsattn/py.typed", "tsattn/_datasets/a.toml"}
_SOURCES = {
    "tsattn/__init__.py",
    "tsattn/py.typed",
    "datasets/a.toml",
    "LICENSE",
    "README.md",
    "pyproject.toml",
}


@pytest.fixture
def small_sources(tmp_path):
    """A package of one module and one card."""
    for name in ("tsattn/__init__.py", "datasets/a.toml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    return tmp_path


def test_complete_archives_pass(small_sources):
    check_contents(small_sources, _SHIPPED | {"tsattn-1.dist-info/METADATA"}, _SOURCES)


@pytest.mark.parametrize("name", sorted(_SHIPPED))
def test_gap_in_the_wheel_is_seen(name, small_sources):
    with pytest.raises(CheckFailed, match=f"the wheel lacks {name}"):
        check_contents(small_sources, _SHIPPED - {name}, _SOURCES)


@pytest.mark.parametrize("name", sorted(_SOURCES))
def test_gap_in_the_sdist_is_seen(name, small_sources):
    with pytest.raises(CheckFailed, match=f"the sdist lacks {name}"):
        check_contents(small_sources, _SHIPPED, _SOURCES - {name})


def test_stray_file_in_the_wheel_is_seen(small_sources):
    with pytest.raises(CheckFailed, match=r"the wheel also holds tests/test_x\.py"):
        check_contents(small_sources, _SHIPPED | {"tests/test_x.py"}, _SOURCES)


def test_weights_too_large_or_other_forecasts_are_seen(tmp_path):
    folder = tmp_path / "tsattn" / "pretrained" / "weights"
    folder.mkdir(parents=True)
    with pytest.raises(CheckFailed, match="at most 5000000 bytes; got 0"):
        check_weights(tmp_path, "[[1.0]]", "[[1.0]]")
    (folder / "zero-5h.json").write_text("{}")
    check_weights(tmp_path, "[[1.0]]", "[[1.0000001]]")
    with pytest.raises(CheckFailed, match="forecasts other numbers"):
        check_weights(tmp_path, "[[1.0]]", "[[1.00001]]")


# --- rules of the code ----------------------------------------------------------------------------

_FILE_LINES = 1100
_BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}


def broad_excepts(tree: ast.Module, text: str) -> list[str]:
    """Handlers that catch everything."""
    broad = {"Exception", "BaseException"}
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            if any(
                each is None or (isinstance(each, ast.Name) and each.id in broad) for each in caught
            ):
                faults.append(f"line {node.lineno} catches everything")
    return faults


def prints(tree: ast.Module, text: str) -> list[str]:
    """Calls of print."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [
        f"line {c.lineno} prints"
        for c in calls
        if isinstance(c.func, ast.Name) and c.func.id == "print"
    ]


def asserted_arguments(tree: ast.Module, text: str) -> list[str]:
    """Asserts about an argument of a public function: they vanish under ``python -O`` and name no
    remedy.
    """
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    places = [tree.body, *(node.body for node in classes)]
    faults = []
    for function in (
        node for place in places for node in place if isinstance(node, ast.FunctionDef)
    ):
        if function.name.startswith("_") and not function.name.startswith("__"):
            continue
        args = function.args
        given = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)} - {"self", "cls"}
        asserts = [node for node in ast.walk(function) if isinstance(node, ast.Assert)]
        names = [
            {each.id for each in ast.walk(node.test) if isinstance(each, ast.Name)}
            for node in asserts
        ]
        about = [node for node, used in zip(asserts, names, strict=True) if given & used]
        faults += [f"line {node.lineno} asserts what a caller passed" for node in about]
    return faults


def long_files(tree: ast.Module, text: str) -> list[str]:
    """Files beyond the size that one can read at a sitting."""
    n = len(text.splitlines())
    return [f"{n} lines, at most {_FILE_LINES}"] if n > _FILE_LINES else []


def missing_openings(tree: ast.Module, text: str) -> list[str]:
    """Files that do not open with a sentence on one line or two."""
    lines = (ast.get_docstring(tree) or "").split("\n\n")[0].splitlines()
    opens = len(lines) in (1, 2) and re.search(r"\w.*\.$", " ".join(lines))
    return [] if opens else ["the file does not open with a statement"]


def relative_imports(tree: ast.Module, text: str) -> list[str]:
    """Imports with dots."""
    return [
        f"line {n.lineno}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level > 0
    ]


def undocumented(tree: ast.Module, text: str) -> list[str]:
    """Public functions and classes at the top of a file without a docstring."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    return [f"{node.name} has no docstring" for node in top if not ast.get_docstring(node)]


# rule -> (rule, a source that breaks it)
RULES = {
    "broad except": (broad_excepts, "try:\n    f()\nexcept (ValueError, Exception):\n    pass\n"),
    "bare except": (broad_excepts, "try:\n    f()\nexcept:\n    pass\n"),
    "print": (prints, "def f():\n    print(1)\n"),
    "assert": (asserted_arguments, "def f(x):\n    assert x > 0\n"),
    "assert in a method": (
        asserted_arguments,
        "class A:\n    def f(self, *, x=1):\n        assert isinstance(x, int)\n",
    ),
    "size": (long_files, "\n" * (_FILE_LINES + 1)),
    "opening": (missing_openings, '"""Parts and pieces"""\n'),
    "no opening": (missing_openings, "x = 1\n"),
    "opening question": (missing_openings, '"""Which parts are there?"""\n'),
    "relative import": (relative_imports, "from . import x\n"),
    "docstring": (undocumented, "def f():\n    return 1\n"),
}


@functools.cache
def parsed():
    """Tree and text of each source by its path."""
    texts = {str(file.relative_to(ROOT)): file.read_text() for file in SOURCES}
    return {name: (ast.parse(text), text) for name, text in texts.items()}


@pytest.mark.parametrize("rule", RULES)
def test_code_keeps_the_rule(rule):
    check, _ = RULES[rule]
    assert len(SOURCES) > 20
    faults = {
        name: findings for name, (tree, text) in parsed().items() if (findings := check(tree, text))
    }
    assert faults == {}


@pytest.mark.parametrize("rule", RULES)
def test_breach_of_a_rule_is_seen(rule):
    check, planted = RULES[rule]
    assert len(check(ast.parse(planted), planted)) == 1


# Names that do not say what they are of: "found" might be rows, scores or a model.
_NAMES_WITHOUT_NOUN = {
    *("asked", "at", "beside", "each", "found", "given", "held", "here", "kept", "known", "mine"),
    *("now", "of", "one", "ours", "own", "said", "seen", "some", "theirs", "told", "wanted"),
}


def bound_names(tree: ast.Module) -> list[tuple[str, int]]:
    """Names that a source binds, and their lines: variables, arguments, attributes, functions,
    classes and imports.
    """
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.append((node.id, node.lineno))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.append((node.attr, node.lineno))
        elif isinstance(node, ast.arg):
            names.append((node.arg, node.lineno))
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append((node.name, node.lineno))
        elif isinstance(node, ast.alias) and node.asname:
            names.append((node.asname, node.lineno))
    return names


def names_without_noun(text: str) -> list[str]:
    """Names of a source that do not say what they are of."""
    return [
        f"line {line} binds {name}"
        for name, line in bound_names(ast.parse(text))
        if name.strip("_").lower() in _NAMES_WITHOUT_NOUN
    ]


def test_names_of_the_scripts_have_a_noun():
    assert len(SCRIPTS) > 30
    breaches = {
        str(file.relative_to(ROOT)): names_without_noun(file.read_text()) for file in SCRIPTS
    }
    assert {name: lines for name, lines in breaches.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "found = 1\n",
        "rows = [row for each in rows for row in each]\n",
        "for of in rows:\n    pass\n",
        "if (some := f()):\n    pass\n",
        "def f(known):\n    pass\n",
        "lambda at: 1\n",
        "def told():\n    pass\n",
        "self.held = 1\n",
        "import numpy as ours\n",
        "_KEPT = 1\n",
    ],
)
def test_a_name_without_a_noun_is_seen(source):
    assert len(names_without_noun(source)) == 1


def test_no_drawer_for_odds_and_ends():
    assert not {file.stem for file in SOURCES} & _BANNED_NAMES
    assert not {folder.name for folder in PACKAGE.rglob("*") if folder.is_dir()} & _BANNED_NAMES


def test_shapes_are_not_postponed():
    """Shape checks read annotations; postponed ones would be strings."""
    hooked = [file for room in ("nn", "kernels") for file in (PACKAGE / room).glob("*.py")]
    assert len(hooked) > 8
    assert [
        file.name for file in hooked if "from __future__ import annotations" in file.read_text()
    ] == []


# --- what is tracked ------------------------------------------------------------------------------

# An absolute path of two parts or more after a blank, quote or bracket. Devices and /usr/bin/env
# are everywhere, and /some/... stands for any place.
_MACHINE_PATH = re.compile(
    r"""(?<![^\s"'`(\[=:,])/(?!usr/bin/env\b|dev/|proc/|some/)[A-Za-z_][\w.-]*/[\w.-]+"""
)
_DRIVE_PATH = re.compile(r"\b[A-Z]:\\\w")
_REGISTRY = re.compile(
    r"(?:index|find-links|trusted-host)[-_]?(?:url)?[\s=]+\S*https?:|pypi\.org|pythonhosted\.org"
)


def local_traces(text: str) -> list[str]:
    """Marks of the machine that a text was written on."""
    patterns = (_MACHINE_PATH, _DRIVE_PATH, _REGISTRY)
    return [match.group() for pattern in patterns for match in pattern.finditer(text)]


def tracked_files() -> list[Path]:
    """Text files under version control; without git, those in the places where such files live."""
    git = shutil.which("git")
    if git is not None and (ROOT / ".git").exists():
        done = subprocess.run(
            [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    else:
        folders = ("tsattn", "tests", "docs", "datasets", "benchmarks", ".ci")
        files = [
            *ROOT.glob("*.*"),
            ROOT / "Makefile",
            *(f for folder in folders for f in (ROOT / folder).rglob("*")),
        ]
    text = {
        ".py",
        ".md",
        ".toml",
        ".jsonl",
        ".json",
        ".yaml",
        ".yml",
        ".cff",
        ".cfg",
        ".txt",
        ".csv",
        ".in",
        "",
    }
    files = [
        file
        for file in files
        if file.is_file() and file.suffix in text and "_build" not in file.parts
    ]
    return [file for file in files if file.stat().st_size < 2**20]


def test_tracked_files_are_at_home_anywhere():
    files = tracked_files()
    assert ROOT / "Makefile" in files
    faults = {
        str(f.relative_to(ROOT)): t
        for f in files
        if f != Path(__file__) and (t := local_traces(f.read_text()))
    }
    assert faults == {}


@pytest.mark.parametrize(
    "trace",
    [
        'open("/home/someone/ETTh1.csv")',
        "DATA_DIR=/opt/data/x",
        "see /srv/results/run.json",
        r"read C:\Users\someone",
        "pip install --index-url https://mirror.example/simple tsattn",
        "https://pypi" + ".org/simple",
    ],
)
def test_local_trace_is_seen(trace):
    assert local_traces(trace)


@pytest.mark.parametrize(
    "text",
    [
        "#!/usr/bin/env bash",
        "https://github.com/zhouhaoyi/ETDataset",
        "a/b/c and/or x",
        "/some/x.csv",
        "../shared/data",
        "1 / 2 / 3",
    ],
)
def test_ordinary_text_is_no_trace(text):
    assert local_traces(text) == []
