"""The bounds of ``measure_house.py`` hold, and are seen where they do not."""

from dataclasses import replace

import measure_house


def test_house_keeps_its_bounds():
    rows = measure_house.measure()
    assert [
        f"{row.subject}: {row.now} for {row.asked} ({row.detail})" for row in rows if not row.holds
    ] == []
    assert sum(isinstance(row.asked, int) for row in rows) >= 10


def test_rows_beyond_a_bound_are_seen():
    row = measure_house.Row("pages", "25", 14, 14)
    assert row.holds
    assert not replace(row, now=15).holds
    assert replace(row, now=15, kept=15).holds
    assert replace(row, now=99, asked="").holds


def test_circles_and_wide_signatures_are_seen(tmp_path, monkeypatch):
    package = tmp_path / "tsattn"
    package.mkdir()
    (package / "a.py").write_text("from tsattn import b\n")
    body = "def wide(a, b, *, c): ...\n\n\nclass Wide:\n    def __init__(self, x): ...\n"
    (package / "b.py").write_text(f"if False:\n    import tsattn.a\n\n\n{body}")
    monkeypatch.setattr(measure_house, "PACKAGE", package)
    assert measure_house.circles() == [["tsattn.a", "tsattn.b"]]
    assert set(measure_house.signatures()) == {("function", "b.wide", 3), ("class", "b.Wide", 1)}
