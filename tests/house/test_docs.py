"""Tests of the documentation: its code runs, its examples hold, its commands, options and links
exist, it is short.
"""

import ast
import doctest
import importlib
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from check_wheel import CheckFailed, check_metadata
from checkout import ROOT
from pages import FENCE, blocks

import tsattn
from tsattn.store import FORMAT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "datasets" / "README.md"]
_SHELL = ("guide", "serving", "contributing")
SHELL_PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in _SHELL)]
BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
# What the pages beside the reference may be, README and data cards not counted.
# Tables count.
MOST_PAGES = 15
MOST_WORDS = 18_000

# --- blocks that run ------------------------------------------------------------------------------


def run_blocks(
    path: Path, language: str = "python", swaps: tuple[str, str] = ("", "")
) -> dict[str, object]:
    """Run the blocks of a page one after the other in one namespace; tracebacks name the line of
    the page.

    The first of ``swaps``, which the page must have, is exchanged by the second.
    """
    names: dict[str, object] = {"__name__": path.stem}
    code_blocks = blocks(path.read_text(encoding="utf-8"), language)
    assert code_blocks, f"{path.name} has no {language} block any more"
    assert any(swaps[0] in source for _, source in code_blocks), f"{path.name} has no {swaps[0]}"
    for line, source in code_blocks:
        code = source.replace(*swaps)
        exec(compile("\n" * (line - 1) + code, str(path), "exec"), names)
    return names


def check_shown_table(page: Path, printed: str) -> None:
    """The first text of a page is what its first block printed, up to the rounding of another
    machine.
    """
    shown = blocks(page.read_text(encoding="utf-8"), "text")[0][1].splitlines()
    assert len(shown) > 3
    for line, printed_line in zip(shown, printed.splitlines(), strict=False):
        for word, other in zip(line.split(), printed_line.split(), strict=True):
            assert word == other or float(word) == pytest.approx(float(other), abs=0.02)


def test_front_page_shows_its_forecast(capsys):
    page = ROOT / "docs" / "index.md"
    run_blocks(page)
    check_shown_table(page, capsys.readouterr().out)


def test_readme_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # One epoch instead of three: how well it learns is not the point.
    names = run_blocks(ROOT / "README.md", swaps=("max_epochs=3", "max_epochs=1"))
    shown = capsys.readouterr().out
    columns = ["unique_id", "ds", "mlr", "mlr-lo-80", "mlr-hi-80"]
    assert names["model"].predict(level=80).columns.tolist() == columns
    assert all(column in shown for column in (*columns, "mae", "seasonal_naive"))
    check_shown_table(ROOT / "README.md", shown)
    assert list(tmp_path.iterdir()) == []


def test_guide_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "docs" / "guide.md")
    scores = names["result"].scores
    assert list(scores.index) == ["zero", "least_squares", "seasonal_naive"]
    assert scores["mae"].notna().all()
    assert len(names["found"].trials) == 4
    # The page shows errors by printing them: they must be those that the text speaks of.
    shown = capsys.readouterr().out
    assert "series 'shop0': column 'y' is missing (NaN) at 2023-04-11" in shown
    assert "series 'shop1': column 'promo' of future= is missing at 2023-09-10" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["shops"]


def test_guide_reads_published_data(tmp_path, monkeypatch, data_dir):
    (tmp_path / "data").symlink_to(data_dir.resolve(), target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    names = run_blocks(ROOT / "docs" / "guide.md", "{code-block} python")
    assert names["scores"]["n_windows"].item() == names["etth1"].split.test - 96 + 1


# --- how to contribute ----------------------------------------------------------------------------

CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")


def layers(page: str) -> list[list[str]]:
    """Modules of each row of the table of layers, from top to bottom."""
    table = page.split("## Layers")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    return [sorted(re.findall(r"`(\w+)`", row)) for row in rows]


def test_page_shows_the_layers_that_are_checked():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]
    (checked,) = [
        contract["layers"] for contract in settings["contracts"] if contract["type"] == "layers"
    ]
    assert layers(CONTRIBUTING) == [sorted(row.split(" | ")) for row in checked]


def test_rows_of_layers_are_told_apart():
    assert layers(
        "## Layers\n\n| modules |\n|---|\n| `b`, `a` | `x` |\n| `c` | y |\n\n## More\n"
    ) == [
        ["a", "b"],
        ["c"],
    ]


def test_files_named_on_the_page_exist():
    files = re.findall(r"`((?:tsattn|benchmarks|tests|docs)/[\w./]+)`", CONTRIBUTING)
    assert len(files) > 12
    assert [file for file in files if not (ROOT / file).exists()] == []


_CHANGE = re.compile(
    r"^`([\w./]+)`, (before|after|instead of) `([^`]+)`:\n\n```python\n(.*?)^```$", re.M | re.S
)

# A line of its own, indented as the one before it.
_NEW_LINE = re.compile(r"^`([\w./]+)`, after `([^`]+)`: `([^`]+)`\.$", re.MULTILINE)


def walk(title: str) -> str:
    """The section of a walk, without its title."""
    (section,) = re.findall(
        rf"^### {title}\n(.*?)(?=^##)", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL
    )
    return section


def take_walk(section: str, root: Path) -> set[str]:
    """Make the changes of a walk in a copy of the library; the files that it changed."""
    changed = set()
    for file, place, start, block in _CHANGE.findall(section):
        lines = (root / file).read_text(encoding="utf-8").splitlines(keepends=True)
        (at,) = (number for number, line in enumerate(lines) if line.lstrip().startswith(start))
        gap = "\n\n" if block.startswith(("class ", "def ", "@")) else ""
        lines[at + (place == "after") : at + (place != "before")] = [block + gap]
        (root / file).write_text("".join(lines), encoding="utf-8")
        changed.add(file)
    for file, start, new in _NEW_LINE.findall(section):
        text = (root / file).read_text(encoding="utf-8")
        (line,) = re.findall(rf"^ *{re.escape(start)}.*\n", text, re.MULTILINE)
        indent = " " * (len(line) - len(line.lstrip()))
        (root / file).write_text(text.replace(line, f"{line}{indent}{new}\n"), encoding="utf-8")
        changed.add(file)
    return changed


def named_tests(section: str) -> tuple[list[str], str]:
    """Files and names of the tests that a walk says to run."""
    (command,) = re.findall(r"Run\s`([^`]+)`", section)
    *files, option, names = shlex.split(command)
    assert option == "-k"
    return files, names


def run_tests(files: list[str], names: str, root: Path) -> subprocess.CompletedProcess:
    """What tests of a copy of the library say."""
    run = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-rA",
        "-p",
        "no:cacheprovider",
        # The one plugin that pyproject.toml names options of; the others take seconds to load.
        "-p",
        "jaxtyping._pytest_plugin",
        *files,
        "-k",
        names,
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        run, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


WALKS = {"A new forecaster": 3, "A new attention pattern": 3, "A new metric": 2}


@pytest.fixture(scope="module")
def copied_house(tmp_path_factory):
    """A copy of the library to change."""
    root = tmp_path_factory.mktemp("house")
    for folder in ("tsattn", "tests", "datasets"):
        # With what is compiled: a copied file keeps its time, so that it is not compiled anew.
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("golden"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


@pytest.fixture(scope="module")
def walked(copied_house):
    """Files that each walk changed, and what the tests of all walks say after them."""
    changed = {title: take_walk(walk(title), copied_house) for title in WALKS}
    asked = [named_tests(walk(title)) for title in WALKS]
    files = [file for files, _ in asked for file in files]
    return changed, run_tests(files, " or ".join(names for _, names in asked), copied_house)


@pytest.mark.parametrize("title", WALKS)
def test_walk_leads_where_the_page_says(title, walked, copied_house):
    changed, said = walked
    assert said.returncode == 0, said.stdout[-3000:]
    files, names = named_tests(walk(title))
    for file in files:
        passed = re.findall(rf"^PASSED {re.escape(file)}::(.*)$", said.stdout, re.MULTILINE)
        assert [test for test in passed if re.search(names.replace(" or ", "|"), test)], file
    assert 0 < len(changed[title]) <= WALKS[title]
    for style in (["check"], ["format", "--check"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *style, *sorted(changed[title])],
            cwd=copied_house,
            check=True,
        )


def test_walk_that_goes_wrong_is_seen(walked, copied_house):
    file = copied_house / "tests" / "loops.py"
    right = file.read_text(encoding="utf-8")
    wrong = right.replace("else e - 0.5", "else e")
    assert wrong != right
    file.write_text(wrong, encoding="utf-8")
    said = run_tests(*named_tests(walk("A new metric")), copied_house)
    file.write_text(right, encoding="utf-8")
    assert said.returncode == 1
    assert "test_point_scores_equal_their_loops[huber" in said.stdout


def test_broken_block_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        run_blocks(page)
    page.write_text("# Page\n\n```sh\nmake\n```\n")
    with pytest.raises(AssertionError, match="no python block"):
        run_blocks(page)


# --- examples in docstrings -----------------------------------------------------------------------


def examples() -> list[tuple[str, str, int, str]]:
    """Module, name, line and text of each docstring with an example.

    They are read from the sources: a finder that looks at functions would pass over those that
    shape checks wrap.
    """
    found_examples = []
    for file in sorted((ROOT / "tsattn").rglob("*.py")):
        source = file.read_text()
        # Each process of the tests reads all sources before it begins.
        if ">>>" not in source:
            continue
        parts = file.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in definitions(ast.parse(source)):
            if ">>>" in (ast.get_docstring(node, clean=False) or ""):
                text = ast.get_docstring(node)
                found_examples.append(
                    (module, getattr(node, "name", "module"), node.body[0].lineno, text)
                )
    return found_examples


def definitions(
    tree: ast.Module | ast.ClassDef,
) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef]:
    """A module or class, and the classes and functions in it, but those in functions."""
    yield tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from definitions(node)
        elif isinstance(node, ast.FunctionDef):
            yield node


EXAMPLES = examples()


def run_example(text: str, names: dict[str, object], name: str, line: int = 0) -> str:
    """What is wrong with the examples in a docstring, empty when all of them hold."""
    test = doctest.DocTestParser().get_doctest(text, dict(names), name, name, line)
    assert test.examples
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize(
    ("module", "name", "line", "text"), EXAMPLES, ids=[f"{m}:{n}" for m, n, _, _ in EXAMPLES]
)
def test_example_holds(module, name, line, text):
    said = run_example(text, vars(importlib.import_module(module)), f"{module}:{name}", line)
    assert not said, said


def test_wrong_example_is_seen():
    assert "Expected" in run_example("Half of it:\n\n    >>> 1 + 1\n    1\n", {}, "wrong")


def test_formulas_are_followed_by_examples():
    """Every metric has its example, and so has the door to attention."""
    from tsattn.evaluate.metrics import METRICS

    having = {(module, name) for module, name, _, _ in EXAMPLES}
    assert {("tsattn.evaluate.metrics", name) for name in METRICS} <= having
    assert ("tsattn.kernels", "attention") in having


# --- commands -------------------------------------------------------------------------------------


def make_targets() -> set[str]:
    """Targets of the Makefile that do not make a file."""
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(line.split()) == defined
    return defined


def commands(text: str) -> list[list[str]]:
    """Words of each command line in the shell blocks of a page."""
    lines = [line for _, block in blocks(text, "sh") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def unknown_words(words: list[str]) -> list[str]:
    """What a command line names that does not exist: a target, a command, an option."""
    if words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        return [target for target in targets if target not in make_targets()]
    if words[0] == "tsattn":
        from tsattn.cli import app

        command = typer.main.get_command(app)
        rest = words[1:]
        while rest and hasattr(command, "commands"):
            if rest[0] not in command.commands:
                return [rest[0]]
            command = command.commands[rest[0]]
            rest = rest[1:]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        return [
            word for word in rest if word.startswith("-") and word.partition("=")[0] not in known
        ]
    return [] if words[:2] == ["pip", "install"] else words[:1]


@pytest.mark.parametrize("page", SHELL_PAGES, ids=lambda page: page.name)
def test_commands_exist(page):
    lines = commands(page.read_text(encoding="utf-8"))
    assert lines
    assert {" ".join(words): unknown for words in lines if (unknown := unknown_words(words))} == {}


def test_readme_begins_with_the_two_commands():
    assert [
        words for words in commands((ROOT / "README.md").read_text()) if words[0] == "make"
    ] == [
        ["make", "demo"],
        ["make", "test"],
    ]


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("make tests", ["tests"]),
        ("tsattn predict DATA.csv", ["predict"]),
        ("tsattn forecast DATA.csv --horizons 3", ["--horizons"]),
        ("tsattn datasets get ETTh1", ["get"]),
        ("curl there", ["curl"]),
    ],
)
def test_unknown_command_is_seen(line, unknown):
    assert [unknown_words(words) for words in commands(f"```sh\n{line}\n```\n")] == [unknown]


# --- links and the results table ------------------------------------------------------------------


def dead_links(path: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    text = FENCE.sub("", text)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    return [target for target in local if not (path.parent / target).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


def test_dead_link_is_seen():
    page = ROOT / "README.md"
    assert dead_links(
        page, "[there](docs/guide.md#x) [web](https://example.org) [gone](docs/gone.md)"
    ) == ["docs/gone.md"]


def pages_of_contents(index: str) -> list[str]:
    """Pages in the tables of contents of the front page, in their order."""
    lines = [line for _, toctree in blocks(index, "{toctree}") for line in toctree.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def test_every_page_is_in_the_table_of_contents():
    listed = pages_of_contents((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(
        page.stem for page in (ROOT / "docs").glob("*.md") if page.stem != "index"
    )


def reached(start: Path) -> set[str]:
    """Pages of a folder that links in sentences lead to from a page, directly or through others."""
    pages = {start.name}
    waiting = [start]
    while waiting:
        text = FENCE.sub("", waiting.pop().read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([\w-]+\.md)(?:#[\w-]*)?\)", text):
            if target not in pages and (start.parent / target).exists():
                pages.add(target)
                waiting.append(start.parent / target)
    return pages


def test_every_page_is_reached_by_links_in_sentences():
    assert reached(ROOT / "docs" / "index.md") == {
        page.name for page in (ROOT / "docs").glob("*.md")
    }


def test_page_that_nobody_links_is_seen(tmp_path):
    (tmp_path / "index.md").write_text("[a](a.md)\n\n```{toctree}\na\nlost\n```\n")
    (tmp_path / "a.md").write_text("[back](index.md#x) and [b](b.md#y)\n")
    (tmp_path / "b.md").write_text("[gone](gone.md)\n")
    (tmp_path / "lost.md").write_text("[a](a.md)\n")
    assert reached(tmp_path / "index.md") == {"index.md", "a.md", "b.md"}
    assert pages_of_contents((tmp_path / "index.md").read_text()) == ["a", "lost"]


def test_readme_has_a_place_for_the_results():
    """Numbers outside it would have been typed."""
    text = (ROOT / "README.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    before = text.split(BEGIN)[0]
    after = text.split(END)[1]
    suites, rest = after.split("<!-- conformance:end -->")
    after = suites.split("<!-- conformance:begin -->")[0] + rest
    before = before.split("<!-- zero:begin -->")[0] + before.split("<!-- zero:end -->")[1]
    assert not re.search(r"\d\.\d{3}", FENCE.sub("", before + after).replace("2509.07963", ""))


def fetched(html: str) -> list[str]:
    """What a browser that shows a page would load from another host; links to click are
    not loaded.
    """
    tags = re.findall(r"<(?:script|img|link|iframe|source)\b[^>]*>", html)
    return [
        url
        for tag in tags
        for url in re.findall(r"""\b(?:src|href)=["']((?:https?:)?//[^"']*)""", tag)
    ]


def test_mathematics_is_shown_without_the_network(tmp_path):
    (tmp_path / "pages").mkdir()
    shutil.copy(ROOT / "docs" / "mathematics.md", tmp_path / "pages" / "index.md")
    build = [
        *(sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", "-c"),
        *(ROOT / "docs", "pages", "html"),
    ]
    subprocess.run(build, cwd=tmp_path, check=True)
    html = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    assert fetched(html) == []
    assert html.count("<math") > 200
    # The weight of a pair, with which the page begins.
    assert re.search(r"<mi>P</mi>\s*<mrow>\s*<mi>i</mi>\s*<mi>j</mi>", html)
    assert "\\frac" not in html
    styles = [
        path.read_text(encoding="utf-8") for path in (tmp_path / "html" / "_static").rglob("*.css")
    ]
    assert styles
    assert not [
        url
        for style in styles
        for url in re.findall(r"""(?:url\(|@import )["']?(?:https?:)?//""", style)
    ]


@pytest.mark.parametrize(
    "tag", ['<script async src="https://cdn.org/m.js">', "<link rel=icon href='//cdn.org/i.png'>"]
)
def test_page_that_loads_from_another_host_is_seen(tag):
    assert len(fetched(f'<a href="https://arxiv.org">paper</a><img src="_static/a.png">{tag}')) == 1


def test_documentation_is_built_without_the_network():
    settings = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert "sphinx.ext.intersphinx" not in settings["extensions"]
    assert "sphinx.ext.autodoc" in settings["extensions"]
    assert settings["nitpicky"]


def excess(folder: Path) -> list[str]:
    """What the pages beside the reference have too much of."""
    words = {
        page.name: len(page.read_text(encoding="utf-8").split()) for page in folder.glob("*.md")
    }
    words.pop("api.md", None)
    pages = [f"{len(words)} pages, at most {MOST_PAGES}"] if len(words) > MOST_PAGES else []
    return pages + (
        [f"{sum(words.values())} words, at most {MOST_WORDS}"]
        if sum(words.values()) > MOST_WORDS
        else []
    )


def test_documentation_is_short():
    assert excess(ROOT / "docs") == []


def test_long_documentation_is_seen(tmp_path):
    (tmp_path / "api.md").write_text("word " * (MOST_WORDS + 1))
    for number in range(MOST_PAGES):
        (tmp_path / f"{number}.md").write_text("word " * (MOST_WORDS // MOST_PAGES))
    assert excess(tmp_path) == []
    (tmp_path / "more.md").write_text("word " * MOST_PAGES)
    pages, words = excess(tmp_path)
    assert pages == f"{MOST_PAGES + 1} pages, at most {MOST_PAGES}"
    assert re.fullmatch(rf"\d+ words, at most {MOST_WORDS}", words)


# --- versions, deprecations, citation -------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")


def test_policy_names_the_ranges_of_versions():
    told = dict(re.findall(r"^\| (\w+) \| `([^`]+)` \|$", POLICY, flags=re.MULTILINE))
    needs = dict(re.fullmatch(r"([\w-]+)(.*)", each).groups() for each in PROJECT["dependencies"])
    needs["Python"] = PROJECT["requires-python"]
    assert {"Python", "torch"} <= set(told)
    assert told == {name: needs[name] for name in told}


def test_policy_names_the_format_of_saved_models():
    assert re.findall(r"today's is (\d+)", POLICY) == [str(FORMAT)]
    kept = ROOT / "tests" / "golden" / f"model_v{FORMAT}"
    assert json.loads((kept / "config.json").read_text())["format"] == FORMAT
    # The same model was saved in each format.
    expected = pd.read_csv(kept.parent / "model_v1_forecast.csv")
    forecast = tsattn.AttentionForecaster.load(kept).predict(level=80)
    np.testing.assert_allclose(
        forecast[expected.columns[2:]], expected[expected.columns[2:]], rtol=1e-5
    )


def test_policy_knows_whether_something_is_deprecated():
    warned = [
        file for file in (ROOT / "tsattn").rglob("*.py") if "DeprecationWarning" in file.read_text()
    ]
    assert ("No name is deprecated at present." in POLICY) == (not warned)


def test_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    assert str(cited["version"]) == PROJECT["version"] == tsattn.__version__
    assert (cited["title"], cited["license"]) == (PROJECT["name"], PROJECT["license"])
    assert cited["authors"] == PROJECT["authors"]
    assert cited["keywords"] == PROJECT["keywords"]
    (paper,) = cited["references"]
    assert [author["family-names"] for author in paper["authors"]] == [
        *("Kuang", "Amsel", "Lotfi", "Qiu", "Potapczynski", "Wilson")
    ]
    assert (paper["year"], paper["identifiers"][0]["value"]) == (
        2025,
        "https://arxiv.org/abs/2509.07963",
    )


def test_package_without_a_description_is_seen(tmp_path):
    def packed(name, description):
        wheel = tmp_path / name / "small-1.0-py3-none-any.whl"
        wheel.parent.mkdir()
        facts = f"Metadata-Version: 2.4\nName: small\nVersion: 1.0\nDescription-Content-Type: text/markdown\n{description}"
        with zipfile.ZipFile(wheel, "w") as opened:
            opened.writestr("small-1.0.dist-info/METADATA", facts)
            opened.writestr("small-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            opened.writestr("small-1.0.dist-info/RECORD", "")
        return wheel

    check_metadata(packed("whole", "\nWhat it is.\n"))
    with pytest.raises(CheckFailed, match="long_description"):
        check_metadata(packed("empty", ""))
