"""Files of records: rows added once by any number of processes, none lost, none half read, each of
known origin.
"""

import json
import subprocess
import sys

import pytest
import records
from checkout import ORIGIN, ROOT

from tsattn.storage import add_row, read_rows


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_row_is_added_once_or_exchanged(tmp_path):
    path = tmp_path / "new" / "runs.jsonl"
    first = add_row(path, {"model": "a", "sizes": (1, 2), "score": 0.1}, ("model", "sizes"))
    assert first == {"model": "a", "sizes": [1, 2], "score": 0.1}
    assert add_row(path, {"model": "a", "sizes": (1, 2), "score": 0.9}, ("model", "sizes")) == first
    add_row(path, {"model": "b", "sizes": (), "score": 0.3}, ("model", "sizes"))
    assert [row["score"] for row in read_rows(path)] == [0.1, 0.3]
    add_row(path, {"model": "a", "sizes": [1, 2], "score": 0.9}, ("model", "sizes"), again=True)
    assert [row["score"] for row in read_rows(path)] == [0.3, 0.9]
    with pytest.raises(ValueError, match=r"a row of runs\.jsonl needs sizes; got \['model'\]"):
        add_row(path, {"model": "a"}, ("model", "sizes"))


@pytest.mark.parametrize("cut", [1, 9, 30])
def test_a_line_that_a_killed_writer_left_is_no_row_and_makes_room(tmp_path, cut):
    path = tmp_path / "runs.jsonl"
    write(path, {"seed": 0}, {"seed": 1, "scores": [0.5] * 4})
    path.write_text(path.read_text()[:-cut])
    # Without the line feed alone, the last row is whole.
    kept = [0, 1] if cut == 1 else [0]
    assert [row["seed"] for row in read_rows(path)] == kept
    add_row(path, {"seed": 2}, ("seed",))
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [*kept, 2]


@pytest.mark.parametrize(
    "text", ['{"a": 1}\n{"a"\n{"a": 2}\n', "[1]\n", "\xff\xfe\n", '{"a": 1}\n\n']
)
def test_what_is_no_file_of_rows_is_refused_and_kept(tmp_path, text):
    path = tmp_path / "runs.jsonl"
    path.write_bytes(text.encode("latin-1"))
    for call in (lambda: read_rows(path), lambda: add_row(path, {"a": 3}, ("a",))):
        with pytest.raises(
            ValueError, match=r"runs\.jsonl(, line [12] is no JSON object| is no text)"
        ):
            call()
    assert path.read_bytes() == text.encode("latin-1")


def test_a_write_that_fails_leaves_the_old_rows(tmp_path, monkeypatch):
    path = tmp_path / "runs.jsonl"
    add_row(path, {"seed": 0}, ("seed",))

    def fail(*args):
        raise OSError("no room")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="no room"):
        add_row(path, {"seed": 1}, ("seed",))
    assert read_rows(path) == [{"seed": 0}]


def test_processes_that_add_at_once_lose_no_line(tmp_path):
    path = tmp_path / "runs.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom tsattn.storage import add_row\n"
        "print('ready', flush=True)\nsys.stdin.readline()\nfor seed in range(40):\n"
        "    add_row(Path(sys.argv[1]), {'who': sys.argv[2], 'seed': seed}, ('who', 'seed'))\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    jobs = [
        subprocess.Popen([sys.executable, "-c", code, str(path), who], cwd=ROOT, **pipes)
        for who in "ab"
    ]
    # Neither is done before the other has begun.
    for job in jobs:
        assert job.stdout.readline() == "ready\n"
    for job in jobs:
        job.stdin.write("go\n")
        job.stdin.flush()
    for job in jobs:
        job.communicate()
    assert [job.returncode for job in jobs] == [0, 0]
    rows = read_rows(path)
    assert [row["seed"] for row in rows if row["who"] == "a"] == list(range(40))
    assert len(rows) == 80


def test_runs_are_recorded_with_their_origin_and_not_asked_again(tmp_path):
    found = records.Records(tmp_path / "runs.jsonl", ("width", "seed"))
    cells = [{"width": (8, 8), "seed": seed} for seed in (0, 1)]
    for cell in found.missing(cells):
        found.add({**cell, "loss": 0.5})
    assert list(found.missing(cells)) == []
    assert len(list(found.missing(cells, again=True))) == 2
    rows = records.read(found.path, found.key)
    assert [row["seed"] for row in rows] == [0, 1]
    assert all({"commit", "versions", "machine", "finished"} <= set(row) for row in rows)
    assert found.add({"width": (8, 8), "seed": 1, "loss": 0.9})["loss"] == 0.5, (
        "the first of two processes counts"
    )
    own = found.add({"width": (8, 8), "seed": 1, "loss": 0.9, "machine": "another"}, again=True)
    assert (own["machine"], own["loss"], len(found.rows())) == ("another", 0.9, 2)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"seed": 0}, {"seed": 0}],
            r"runs\.jsonl, line 2 is a second row of \[0, null\]; remove one of them",
        ),
        (
            [{"seed": 0, "commit": None}],
            r"runs\.jsonl, line 1: commit is None, so its origin is unknown",
        ),
        ([{"seed": 0, "versions": {}}], r"line 1: versions is \{\}"),
        (
            [{"seed": 0}, {"seed": 1, "machine": "b"}],
            r"has rows of more than one machine \(\"b\", \"one\"\)",
        ),
        (
            [{"seed": 0}, {"seed": 1, "versions": {"torch": "3"}}],
            r"has rows of more than one torch",
        ),
    ],
)
def test_rows_that_do_not_compare_are_refused(tmp_path, rows, message):
    write(tmp_path / "runs.jsonl", *({**ORIGIN, **row} for row in rows))
    with pytest.raises(ValueError, match=message):
        records.read(tmp_path / "runs.jsonl", ("seed", "rate"), alike=("machine", "torch"))


def test_rows_are_grouped_in_the_order_of_the_tables():
    def row(dataset, horizon, model):
        return {"dataset": dataset, "horizon": horizon, "model": model, "seed": 0}

    rows = [
        row("b", 720, "naive"),
        row("b", 96, "naive"),
        row("a", 96, "naive"),
        row("b", 96, "mlr"),
    ]
    assert list(records.cells(rows, "dataset", "horizon", "model")) == [
        *(("a", 96, "naive"), ("b", 96, "mlr"), ("b", 96, "naive"), ("b", 720, "naive"))
    ]
    assert list(records.by(rows, "dataset")) == [("b",), ("a",)]
    assert (
        records.origin([{**ORIGIN, "uncommitted": True}, ORIGIN | {"machine": "two"}])
        == "Commit `cccccccccccc`, `cccccccccccc` with uncommitted changes; torch 2; one, two."
    )


def test_the_committed_records_are_few_lines_of_one_run_each():
    files = list((ROOT / "benchmarks" / "results").iterdir())
    assert {path.suffix for path in files if not path.name.startswith(".")} == {".jsonl"}
    lines = [
        line for path in files if path.suffix == ".jsonl" for line in path.read_text().splitlines()
    ]
    assert len(lines) <= 3000
    assert all(line.startswith("{") for line in lines)


def test_options_are_those_of_the_defaults_and_the_paper():
    def parsed(*argv):
        defaults = {
            "steps": 3,
            "width": (8, 16),
            "name": ("a",),
            "case": (),
            "data_dir": None,
            "fast": False,
        }
        more = {"paper": {"steps": 9, "width": (64,)}, "choices": {"name": ("a", "b")}}
        return records.parse(argv, "What.\n", defaults, **more)

    options = parsed()
    assert (options.steps, options.width, options.case, options.data_dir, options.fast) == (
        3,
        (8, 16),
        (),
        None,
        False,
    )
    options = parsed(
        "--width", "4", "--width", "4", "--name", "b", "--fast", "--data-dir", "d", "--paper"
    )
    values = (options.steps, options.width, options.name, options.fast, options.data_dir)
    assert values == (9, (4,), ("b",), True, "d")
    assert parsed("--width", "4", "8", "--name", "b", "a").width == (4, 8)
    with pytest.raises(SystemExit):
        parsed("--name", "c")


@pytest.mark.parametrize("number", ["0", "-5", "x"])
@pytest.mark.parametrize("option", ["--steps", "--width"])
def test_numbers_that_count_are_positive(option, number, capsys):
    with pytest.raises(SystemExit):
        records.parse([option, number], "What.\n", {"steps": 3, "width": (8,), "seed": (0, 1)})
    assert f"must be a whole number of at least 1; got {number!r}" in capsys.readouterr().err
    assert records.parse(["--seed", "0"], "What.\n", {"seed": (0, 1)}).seed == (0,)
