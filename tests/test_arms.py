"""Arms of the pretrained network: which arm a state is, and the table of their means and spreads."""

import json

import pytest
import torch
from scripts import ORIGIN
from zero_shot import arms

from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.pretraining import Pretraining, Recipe


def row(attention, seed, validation, mase, **changes):
    whole = {"kind": "arm", "attention": attention, "cut": True, "copies": False, "d_model": 96, "n_layers": 4}
    whole |= {"seed": seed, "steps": 1200, "windows": 9, "core_seconds": 400.0, "validation": validation}
    whole |= {"columns": [[mase, 0.7], [0.8, 0.5], [0.7, 0.6]], "coverage80": 0.8}
    return {**whole, **ORIGIN, **changes}


def write(folder, rows):
    (folder / arms.FILE).write_text("".join(json.dumps(each) + "\n" for each in rows))
    return folder


def test_the_table_has_means_and_spreads(tmp_path):
    rows = [row("season", 0, 0.30, 0.80), row("season", 1, 0.32, 0.90), row("standard", 0, 0.35, 0.95)]
    lines = arms.table(write(tmp_path, rows)).splitlines()
    season = next(line for line in lines if line.startswith("| season"))
    assert "0.3100 ± 0.0141" in season
    assert "0.850 ± 0.071 / 0.700 ± 0.000" in season
    standard = next(line for line in lines if line.startswith("| standard"))
    assert "0.3500 " in standard
    assert "±" not in standard
    assert lines.index(season) < lines.index(standard)


def test_a_damaged_or_repeated_record_is_refused(tmp_path):
    assert arms.table(tmp_path) == "No run is recorded yet."
    with pytest.raises(ValueError, match="season"):
        arms.table(write(tmp_path, 2 * [row("season", 0, 0.3, 0.8)]))


def test_a_state_tells_its_arm_and_must_be_whole(tmp_path):
    config = ZeroConfig(d_model=16, n_heads=2, n_layers=1, d_ff=32, attention="standard")
    work = Pretraining(config, Recipe(3, seed=5))
    work.step, work.windows = 3, 40
    torch.save(work.state(), tmp_path / "state.pt")
    (tmp_path / "curve.jsonl").write_text('{"step": 3, "validation": 0.5}\n')
    told = arms.describe(tmp_path)
    assert (told["attention"], told["seed"], told["steps"], told["validation"]) == ("standard", 5, 3, 0.5)
    work.step = 2
    torch.save(work.state(), tmp_path / "state.pt")
    with pytest.raises(ValueError, match="stopped at step 2 of 3; train it to its end"):
        arms.describe(tmp_path)
