"""Does the page about intervals say what its record says, and does each way judge every window?"""

import json

import pytest
from scripts import load


@pytest.fixture(scope="module")
def intervals():
    return load("intervals")


def row(way, eighty=80.0, ninety_five=95.0):
    return {
        "way": way,
        "coverage": {"80": eighty, "95": ninety_five},
        "width": {"80": 1.25, "95": 2.5},
        "wql": 0.125,
        "mae": 0.4,
        "n_windows": 2785,
        "versions": {"torch": "9.9"},
        "commit": "c" * 40,
        "machine": "a machine",
        "finished": "2026-01-01T00:00:00+00:00",
    }


def write(path, rows):
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_the_page_shows_each_row_and_who_holds_the_levels(intervals, tmp_path):
    rows = [row("rlinear, split", 83.25, 95.1), row("mlr, own quantiles", 78.5, 96.9)]
    text = intervals.page(intervals.read_rows(write(tmp_path / "intervals.json", rows)))
    assert "| rlinear, split | 83.2% | 95.1% | 1.250 | 2.500 | 0.1250 | 0.4000 |" in text
    assert text.index("| mlr, own quantiles |") < text.index("| rlinear, split |")  # in the order of the ways
    assert "Within 2 points of both levels: mlr, own quantiles." in text
    assert "Further off: rlinear, split." in text
    assert f"Commit `{'c' * 12}`; torch 9.9; a machine." in text


def test_without_a_record_the_page_says_so(intervals, tmp_path):
    assert intervals.read_rows(tmp_path / "intervals.json") == []
    assert "No run is recorded yet." in intervals.page([])


@pytest.mark.parametrize("field", ["coverage", "wql", "commit", "machine"])
def test_rows_without_figures_or_origin_are_refused(intervals, tmp_path, field):
    broken = row("rlinear, split")
    del broken[field]
    with pytest.raises(ValueError, match="without its figures, its origin or a known way"):
        intervals.read_rows(write(tmp_path / "intervals.json", [broken]))


def test_damaged_and_unknown_rows_are_refused(intervals, tmp_path):
    path = tmp_path / "intervals.json"
    path.write_text('{"rows": [')
    with pytest.raises(ValueError, match=r"intervals\.json is damaged"):
        intervals.read_rows(path)
    with pytest.raises(ValueError, match="known way"):
        intervals.read_rows(write(path, [row("by guessing")]))


def test_a_way_is_judged_on_every_window_of_the_test_rows(intervals, data_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(intervals._SETTINGS, "max_epochs", 1)
    out = tmp_path / "intervals.json"
    arguments = ["--data-dir", str(data_dir), "--way", "rlinear, adaptive", "--out", str(out)]
    assert intervals.main(arguments) == 0
    (found,) = intervals.read_rows(out)
    assert found["n_windows"] == 2785
    assert found["width"]["80"] < found["width"]["95"]
    assert 70 < found["coverage"]["80"] < found["coverage"]["95"] < 100
    written = out.read_text()
    assert intervals.main(arguments) == 0  # on file, so not run again
    assert out.read_text() == written
