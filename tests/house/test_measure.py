"""The bounds of ``measure_house.py`` hold, and are seen where they do not."""

from dataclasses import replace

import measure_house
from small_forecasters import attention, fitted


def test_house_keeps_its_bounds():
    rows = measure_house.measure(trained=False)
    assert [
        f"{row.subject}: {row.now} for {row.asked} ({row.detail})" for row in rows if not row.holds
    ] == []
    assert sum(isinstance(row.asked, int) for row in rows) >= 10


def test_points_and_bounds_of_a_trained_network_share_its_passes():
    model = fitted(attention)
    passes = []
    hook = model.network_.register_forward_hook(lambda *_: passes.append(1))
    model.predict(level=80)
    hook.remove()
    assert len(passes) == 1


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
