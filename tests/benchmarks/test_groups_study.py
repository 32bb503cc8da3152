"""The study of levels across series: what its networks read, and what they do not change."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("records")
from checkout import ORIGIN
from pretraining_study import groups as study
from pretraining_study import page
from pretraining_study.groups import (
    ARMS,
    HORIZON,
    LENGTH,
    GroupNetwork,
    Pool,
    draw_rows,
    forecast,
    load_start,
    make_pool,
)

from tsattn.pretrained.groups import MAX_COLUMNS
from tsattn.pretrained.network import ZeroConfig, ZeroNetwork

CONFIG = ZeroConfig(48, 2, 2, 32, encode=8)
READERS = [arm for arm in ARMS if arm != "none"]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return make_pool(48, 0, network_of("none"))


def network_of(arm: str, *, noise: float = 0.0) -> GroupNetwork:
    """A network whose old parts are random; the new ones are as at the start, or random, too."""
    old = ZeroNetwork(CONFIG, generator=torch.Generator().manual_seed(0))
    network = GroupNetwork(arm, CONFIG, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in old.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
        network.load_state_dict(old.state_dict(), strict=False)
        for name, p in network.named_parameters():
            if name not in old.state_dict():
                p.add_(noise * torch.randn(p.shape, generator=generator))
    return network.eval()


def rows_with(pool: Pool, n_columns: int) -> np.ndarray:
    rows = np.flatnonzero(pool.groups.n_columns == n_columns)[:4]
    assert len(rows) > 1
    return rows


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_arm_starts_from_average_weights_of_a_run(tmp_path: Path, arm: str) -> None:
    old = ZeroNetwork(CONFIG, generator=torch.Generator().manual_seed(3)).state_dict()
    file = tmp_path / "phase.safetensors"
    save_file({f"average.{name}": tensor for name, tensor in old.items()}, file)
    network = GroupNetwork(arm, CONFIG, generator=torch.Generator().manual_seed(0))
    load_start(str(file), network)
    loaded = network.state_dict()
    for name, tensor in old.items():
        assert torch.equal(loaded[name], tensor), name
    name, tensor = next(iter(old.items()))
    save_file({f"average.{name}": tensor}, file)
    with pytest.raises(ValueError, match="lacks or adds"):
        load_start(str(file), network)


@pytest.mark.parametrize("arm", READERS)
def test_a_target_alone_is_forecast_as_by_the_network_that_reads_no_columns(
    pool: Pool, arm: str
) -> None:
    batch = pool.batch(rows_with(pool, 0), "plain")
    expected = forecast(network_of("none"), batch, HORIZON)
    torch.testing.assert_close(
        forecast(network_of(arm), batch, HORIZON), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("arm", ["slots", "alternating"])
def test_new_parts_are_zero_at_the_start(pool: Pool, arm: str) -> None:
    batch = pool.batch(rows_with(pool, 2), "plain")
    expected = forecast(network_of("none"), batch, HORIZON)
    torch.testing.assert_close(
        forecast(network_of(arm), batch, HORIZON), expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("arm", READERS)
def test_each_arm_reads_what_stands_beside_the_target(pool: Pool, arm: str) -> None:
    network = network_of(arm, noise=0.3)
    batch = pool.batch(rows_with(pool, 2), "plain")
    answer = forecast(network, batch, HORIZON)
    other = forecast(network, replace(batch, opinions=-batch.opinions + 1), HORIZON)
    assert (answer - other).abs().max() > 1e-4
    other = forecast(network, replace(batch, columns=batch.columns.flip(2)), HORIZON)
    assert ((answer - other).abs().max() > 1e-4) == (arm != "slots")


@pytest.mark.parametrize("arm", ["levels", "alternating"])
def test_the_order_of_columns_changes_nothing(pool: Pool, arm: str) -> None:
    network = network_of(arm, noise=0.3)
    batch = pool.batch(rows_with(pool, 3), "plain")
    turned = replace(batch, columns=batch.columns[:, [2, 0, 1]])
    torch.testing.assert_close(
        forecast(network, turned, HORIZON), forecast(network, batch, HORIZON), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("arm", ["levels", "alternating"])
def test_a_column_of_which_nothing_is_known_changes_nothing(pool: Pool, arm: str) -> None:
    network = network_of(arm, noise=0.3)
    batch = pool.batch(rows_with(pool, 1), "plain")
    more = torch.cat([batch.columns, torch.full_like(batch.columns, torch.nan)], dim=1)
    torch.testing.assert_close(
        forecast(network, replace(batch, columns=more), HORIZON),
        forecast(network, batch, HORIZON),
        rtol=1e-3,
        atol=1e-3,
    )


@pytest.mark.parametrize("arm", READERS)
def test_windows_do_not_depend_on_one_another(pool: Pool, arm: str) -> None:
    network = network_of(arm, noise=0.3)
    rows = rows_with(pool, 1)
    together = forecast(network, pool.batch(rows, "residual"), HORIZON)
    alone = torch.cat(
        [
            forecast(network, pool.batch(rows[i : i + 1], "residual"), HORIZON)
            for i in range(len(rows))
        ]
    )
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arm", READERS)
def test_all_that_is_new_learns(pool: Pool, arm: str) -> None:
    network = network_of(arm, noise=0.3).train()
    rows = rows_with(pool, 2)
    study.pinball(network, pool.batch(rows, "plain"), torch.ones(len(rows))).backward()
    idle = {"slots": ["kinds"]}.get(arm, ["reader.weight", "reader.bias"])
    still = [
        name
        for name, p in network.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert sorted(still) == sorted(idle)


@pytest.mark.parametrize("arm", list(ARMS))
def test_what_an_arm_adds_has_a_rate_of_its_own(arm: str) -> None:
    network = network_of(arm)
    trained = ZeroNetwork(CONFIG).state_dict()
    rates = {
        parameter: group["lr"]
        for optimizer in study.split_optimizers(network, 0.01)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert len(rates) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim == 2 and name.startswith("stack.blocks.")
        usual = 0.01 if is_matrix else 0.001
        factor = 1 if name in trained else study.NEW_RATE
        assert rates[parameter] == pytest.approx(factor * usual), name


def test_a_pool_has_opinions_where_there_are_columns(pool: Pool) -> None:
    assert pool.opinions.shape == (48, len(study.MEMORIES), LENGTH + HORIZON)
    assert pool.opinions.isfinite().all()
    alone = torch.from_numpy(pool.groups.n_columns == 0)
    assert pool.opinions[alone].abs().max() == 0
    assert (pool.opinions[~alone].abs().amax((1, 2)) > 0).double().mean() > 0.4


def test_what_is_taken_off_is_added_again(pool: Pool) -> None:
    rows = rows_with(pool, 2)
    target = torch.from_numpy(pool.groups.target).double()
    for way in study.WAYS:
        batch = pool.batch(rows, way)
        away = pool.away(way)
        torch.testing.assert_close(pool.away(way, torch.from_numpy(rows)), away[rows])
        whole = torch.cat([batch.x, batch.y], dim=1) + away[rows]
        known = whole.isfinite()
        torch.testing.assert_close(whole[known], target[rows][known], rtol=1e-5, atol=1e-5)


def test_an_opinion_that_is_the_truth_lowers_the_loss(pool: Pool) -> None:
    network = network_of("none")
    losses = {
        way: study.by_coupling(study.validate(network, pool, way), pool)
        for way in ("plain", "truth")
    }
    assert losses["truth"]["columns"] < losses["plain"]["columns"]
    assert losses["truth"]["none"] == pytest.approx(losses["plain"]["none"])


def test_a_step_draws_as_many_columns_each(pool: Pool) -> None:
    for step in range(40):
        rows = draw_rows(np.random.default_rng(step), pool, step / 40, 5)
        assert len(set(pool.groups.n_columns[rows].tolist())) == 1
        assert pool.groups.n_columns[rows].max() <= MAX_COLUMNS
        if step / 40 < 0.1:
            assert set(pool.groups.coupling[rows].tolist()) == {"linear"}


class KilledError(Exception):
    """What ends a run in the middle."""


def test_a_killed_run_goes_on(pool: Pool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(study, "STEPS_OF_STATE", 2)
    settings = {"way": "residual", "rate": 0.01, "n_steps": 7, "seed": 0}
    whole = network_of("slots").train()
    study.train(whole, pool, **settings, state=tmp_path / "whole")
    steps = []

    def kill_at_the_sixth(*given):
        steps.append(given)
        if len(steps) == 6:
            raise KilledError
        return pinball(*given)

    pinball = study.pinball
    monkeypatch.setattr(study, "pinball", kill_at_the_sixth)
    with pytest.raises(KilledError):
        study.train(network_of("slots").train(), pool, **settings, state=tmp_path / "killed")
    seconds_before = torch.load(tmp_path / "killed")["seconds"]
    again = network_of("slots").train()
    seconds = study.train(again, pool, **settings, state=tmp_path / "killed")
    # From the state after four steps: steps 4 to 6.
    assert len(steps) == 6 + 3
    assert seconds > seconds_before > 0
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_weights_of_another_network_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file({"average.unknown": torch.zeros(1)}, tmp_path / "phase.safetensors")
    with pytest.raises(ValueError, match="lacks or adds some"):
        study.load_start(str(tmp_path / "phase.safetensors"), network_of("levels"))


def record(arm, way, seed, factor, *, seconds=100, **losses):
    base = dict.fromkeys(page.COUPLED, 0.2)
    cost = {"multiply_adds": 10**7, "core_seconds": 0.996 * seconds, "seconds": seconds}
    return {
        "kind": "groups",
        "arm": arm,
        "way": way,
        "rate": 0.002 if seconds else 0.0,
        "seed": seed,
        "losses": {way: {name: factor * loss for name, loss in base.items()}, **losses},
        **cost,
        **ORIGIN,
    }


def test_the_table_compares_with_the_weights_of_the_start(tmp_path) -> None:
    assert page.across(tmp_path) == "No run is recorded yet."
    truth = dict.fromkeys(page.COUPLED, 0.05)
    rows = [record("levels", "residual", seed, 0.8 + 0.1 * seed) for seed in range(2)]
    rows.append(record("none", "plain", 0, 1.0, seconds=0, truth=truth))
    (tmp_path / page.groups.FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = [
        [cell.strip() for cell in x.split("|")[1:-1]]
        for x in page.across(tmp_path).splitlines()
        if "10.0" in x
    ]
    plain, known, levels = table
    assert plain[:5] == ["untrained", "plain", "10.0", "0", "1.000"]
    assert known[:5] == ["untrained", "truth", "10.0", "0", "0.250"]
    assert levels[:5] == ["levels", "residual", "10.0", "100", "0.850 (0.800,0.900)"]
    assert levels[5:] == ["0.850"] * (len(page.COUPLED) - 1)
