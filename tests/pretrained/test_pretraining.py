"""The pretrained network and its training: cuts, invariances, and runs that repeat to the bit."""

import io
import json
import shutil
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from checkout import ROOT
from pretrained_networks import SMALL, recent_by_loops, shaken, some_series
from safetensors.torch import load_file

from tsattn.pretrained import pretraining
from tsattn.pretrained.contexts import RecentMeasure, measure_recent, read_recent
from tsattn.pretrained.losses import Teachers, distance, pinball
from tsattn.pretrained.network import (
    MEASURES,
    QUANTILES,
    Tokens,
    ZeroConfig,
    ZeroNetwork,
)
from tsattn.pretrained.period import MAX_PERIOD, Seasons, between_blocks, block_means
from tsattn.pretrained.pretraining import (
    RECIPES,
    SHAPES,
    SIZES,
    Pretraining,
    Recipe,
    Shape,
    draw_batch,
    main,
    run,
)
from tsattn.pretrained.weights import (
    FACTS,
    load_card,
    load_network,
    read_network,
    save_network,
)

DOUBLE = torch.float64


# --- tokens


@pytest.mark.parametrize(("steps", "count"), [(7, 1), (12, 2), (24, 3), (365, 46), (8, 1)])
def test_cuts_are_whole_and_repeat_with_the_cycle(steps, count):
    index = torch.arange(-3 * count - 2, 2 * count + 3)
    tokens, cycles = (
        Tokens(torch.tensor([steps]), torch.tensor([count]), torch.tensor([n]), index, 12)
        for n in (1, 3)
    )
    starts = tokens.starts()[0]
    lengths = tokens.lengths()[0]
    assert (starts[1:] == starts[:-1] + lengths[:-1]).all()
    assert starts[index == 0] == 0
    assert lengths.max() <= 12
    where = {
        (int(c), int(p)): int(s)
        for c, p, s in zip(tokens.cycle()[0], tokens.phase()[0], starts, strict=True)
    }
    for (cycle, phase), start in where.items():
        if (0, phase) in where:
            assert start == where[0, phase] + cycle * steps
        assert 0 <= phase < count
    # A cycle of three seasons has the tokens of three.
    assert torch.equal(cycles.starts(), tokens.starts())
    assert torch.equal(cycles.cycle(), tokens.cycle().div(3, rounding_mode="floor"))
    assert torch.equal(cycles.phase(), tokens.cycle().remainder(3) * count + tokens.phase())


@pytest.mark.parametrize("size", SIZES)
def test_tokens_of_every_season_are_about_as_long_as_asked_for(size):
    network = ZeroNetwork(SIZES[size])
    config = SIZES[size]
    seasons = torch.tensor([0, *range(2, MAX_PERIOD + 1)])
    zeros = torch.zeros(len(seasons))
    whole = Seasons(seasons, seasons, zeros, zeros, zeros > 0)
    tokens = network._cut(whole, 2048, 48, 16)
    lengths = tokens.lengths()
    assert lengths.max() <= config.max_len
    assert lengths.min() >= config.token_len // 2
    # A season is a whole number of tokens, or a token a whole number of seasons.
    assert ((tokens.steps % seasons.clamp_min(1) == 0) | (seasons == 0)).all()
    weekly = tokens.lengths()[seasons == 7].unique()
    assert weekly.tolist() == [{"base": 7, "small": 14}[size]]


def test_seasons_are_the_same_whatever_is_searched_with_a_series(monkeypatch):
    network = shaken()
    x = some_series().double()
    whole = network._seasons(x)
    monkeypatch.setattr("tsattn.pretrained.network._PART_STEPS", 1)
    for one, each in zip(network._seasons(x).fields(), whole.fields(), strict=True):
        assert torch.equal(one, each)


def seasons_of(period, cycle=None, clear=True):
    """Seasons by their lengths alone."""
    period = torch.tensor(period)
    cycle = period if cycle is None else torch.tensor(cycle)
    strength = torch.full((len(period),), 0.5)
    return Seasons(period, cycle, strength, strength, torch.full((len(period),), clear))


def test_every_step_is_found_in_its_token():
    steps = torch.tensor([7, 12, 30, 365])
    count = torch.tensor([1, 2, 4, 46])
    tokens = Tokens(steps, count, torch.ones(4, dtype=torch.long), torch.arange(0, 120), 12)
    token, slot = tokens.find(200)
    index, inside = tokens.slots()
    for row in range(4):
        for step in range(200):
            assert index[row, token[row, step], slot[row, step]] == step
            assert inside[row, token[row, step], slot[row, step]]


# --- answers


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_padding_and_order_change_nothing(measure):
    network = shaken(measure=measure)
    x = some_series()
    x[1, :100] = torch.nan
    x[3, ::4] = torch.nan
    whole = network.forecast(x, 30)
    alone = torch.cat([network.forecast(row[None], 30) for row in x])
    padded = network.forecast(torch.cat([torch.full((6, 70), torch.nan, dtype=DOUBLE), x], 1), 30)
    turned = network.forecast(x.flip(0), 30).flip(0)
    for other in (alone, padded, turned):
        assert (whole - other).abs().max() < 1e-5
    assert whole.std() > 0.1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("scale", "level"), [(1e-12, 0.0), (1e12, 0.0), (3.0, -200.0), (1e-3, 5.0)]
)
def test_forecasts_follow_scale_and_level(scale, level, measure):
    network = shaken(measure=measure)
    x = some_series()
    before = network.forecast(x, 20)
    after = network.forecast(scale * x + level, 20)
    assert (after - (scale * before + level)).abs().max() < 1e-4 * scale


def test_quantiles_ascend_for_any_horizon_and_length():
    network = shaken()
    for length, horizon in ((1, 1), (2, 5), (9, 100), (400, 1024)):
        q = network.forecast(some_series(3, length), horizon)
        assert q.shape == (3, horizon, len(QUANTILES))
        assert (q.diff(dim=2) >= 0).all()
        assert q.isfinite().all()


@pytest.mark.parametrize("measure", MEASURES)
def test_a_constant_is_continued(measure):
    x = torch.tensor([[3.0] * 50, [0.0] * 50, [1e12] * 50, [0.1] * 50], dtype=DOUBLE)
    x[3, :49] = torch.nan
    q = shaken(measure=measure).forecast(x, 7)
    assert torch.allclose(q, x[:, -1][:, None, None].expand_as(q), rtol=1e-12, atol=0)


def far_series():
    """Series of 1,200 steps whose recent changes are small beside how far they came, or not, and
    their seasons.
    """
    generator = torch.Generator().manual_seed(1)
    step = torch.arange(1200, dtype=DOUBLE)
    noise = torch.randn(9, 1200, generator=generator, dtype=DOUBLE)
    x = torch.stack(
        [
            noise[0],
            0.05 * noise[1].cumsum(0) + 0.3 * step,  # a slope: few changes, far
            noise[2].cumsum(0).cumsum(0),  # ever farther
            torch.where(step < 600, 40.0 * step, 0.0) + noise[3],  # far only in what is old
            torch.sin(2 * torch.pi * step / 250),  # smooth: four seasons stay
            torch.where(step < 1100, noise[5].cumsum(0), 7.0),  # nothing varies at the end
            noise[6] + 0.4 * step,
            torch.full_like(step, 3.0),
            0.2 * noise[8] + 0.02 * step,
        ]
    )
    x[6, ::2] = torch.nan  # no two known steps are neighbours
    x[8, :500] = torch.nan
    x[3, 700:740] = torch.nan
    return x, torch.tensor([0, 0, 12, 0, 250, 0, 0, 0, 300])


@pytest.mark.parametrize("horizon", [5, 17, 64])
def test_the_recent_part_is_that_of_loops(horizon):
    x, periods = far_series()
    actual, fewer = read_recent(x, periods, horizon)
    kept = []
    for row, period in zip(x.numpy(), periods.tolist(), strict=True):
        keep = None
        for length in (1200, 1024, 512, 256):
            part = row[-length:]
            known = [k for k in range(1, length) if np.isfinite(part[[k - 1, k]]).all()]
            change = np.mean([abs(part[k] - part[k - 1]) for k in known]) if known else np.inf
            if np.nanstd(part) == 0 or (length < 1200 and max(4 * period, 16 * horizon) > length):
                continue
            keep = length
            if np.nanstd(part) <= 24 * change:
                break
        kept.append(1200 if keep is None else keep)
    assert (
        set(kept) == {5: {1200, 1024, 512, 256}, 17: {1200, 1024, 512}, 64: {1200, 1024}}[horizon]
    )
    steps = torch.arange(1200, 0, -1)
    right = torch.where(steps > torch.tensor(kept)[:, None], torch.nan, x)
    torch.testing.assert_close(actual, right, rtol=0, atol=0, equal_nan=True)
    assert fewer.tolist() == [bool(lost.any()) for lost in (right.isnan() & ~x.isnan())]
    torch.testing.assert_close(
        read_recent(actual, periods, horizon)[0], actual, rtol=0, atol=0, equal_nan=True
    )
    scaled, _ = read_recent(1e9 - 1e-3 * x, periods, horizon)
    assert (scaled.isnan() == actual.isnan()).all()


def test_what_is_not_recent_is_as_if_it_were_not_there():
    """A far past changes neither season nor forecast, alone or beside others, in the loss as in a
    forecast.
    """
    network, (x, _) = shaken(max_tokens=256), far_series()
    turn = 2 * torch.pi * torch.arange(1200)
    x[1] += torch.where(turn < 900 * 2 * torch.pi, 60 * torch.sin(turn / 50), torch.sin(turn / 24))
    assert [int(actual.period[1]) for actual in (network._seasons(x), network.look(x, 16)[1])] == [
        50,
        24,
    ]
    q = network.forecast(x, 16)
    for row, length in ((1, 256), (2, 256), (3, 512)):
        alone = network.forecast(x[row : row + 1, -length:], 16)[0]
        torch.testing.assert_close(q[row], alone, rtol=1e-5, atol=1e-4)
        assert (network.forecast(x[row : row + 1, 200:], 16)[0] - alone).abs().max() < 1e-3
    y = torch.zeros(len(x), 16)
    rows = [1, 2]
    whole, part = (
        float(pinball(network, each[rows], y[rows], weighed=True).detach())
        for each in (x, x[:, -256:])
    )
    assert whole == pytest.approx(part, rel=1e-4)


@pytest.mark.parametrize("encode", [0, 3])
def test_tokens_before_those_that_are_encoded_stay_as_they_were_embedded(monkeypatch, encode):
    network = shaken(encode=encode, n_layers=3)
    given = []
    mix = network._mix
    monkeypatch.setattr(network, "_mix", lambda *args: given.append(args) or mix(*args))
    slots = network(some_series(), 20)[0]
    states, places, key_mask, n_future = given[0]
    kept = states.shape[1] - n_future - encode
    for block in network.stack.blocks:
        last = block(states, key_mask=key_mask, places=places)[:, kept:]
        states = torch.cat([states[:, :kept], last], dim=1)
    torch.testing.assert_close(mix(*given[0]), network.stack.norm(states[:, -n_future:]))
    whole = shaken(n_layers=3)
    more = shaken(encode=1000, n_layers=3)
    for other in (whole, more):
        other.load_state_dict(network.state_dict())
    assert (whole(some_series(), 20)[0] - slots).abs().max() > 0.01
    torch.testing.assert_close(more(some_series(), 20)[0], whole(some_series(), 20)[0])


@pytest.mark.parametrize("period", [0, 7, 12, 50])
def test_the_recent_part_measures_a_window_as_loops_do(period):
    x = some_series(5, 300)
    x[0] += 0.1 * torch.arange(300)
    x[1, -40:] = x[1, -41]
    x[1, -64:] = x[1, -64]  # does not vary
    x[2, -90:-3] = torch.nan
    x[3, ::3] = torch.nan
    n_steps = RecentMeasure().length(torch.tensor([period]))
    is_recent = torch.arange(300, 0, -1)[None] <= n_steps
    observed = x.isfinite()[:, None]
    values = x.nan_to_num(0.0)[:, None]
    is_recent = is_recent[:, None].expand_as(values)
    scaled, mean, spread, facts = measure_recent(values, observed, is_recent)
    expected = torch.tensor([recent_by_loops(row, period) for row in x.numpy()])
    torch.testing.assert_close(torch.cat([mean, spread], dim=1), expected[:, :2], rtol=1e-9, atol=0)
    torch.testing.assert_close(facts, expected[:, 2:].float(), rtol=1e-5, atol=1e-6)
    inside = torch.asinh((x - mean) / spread).nan_to_num(0.0)
    torch.testing.assert_close(scaled[:, 0], inside.float(), rtol=1e-5, atol=1e-5)


def test_a_rise_long_ago_does_not_squeeze_the_season_of_today():
    """The steps of the season have the same size beside a long rise as without it."""
    flat = torch.sin(2 * torch.pi * torch.arange(600, dtype=DOUBLE) / 12)[None]
    rise = torch.minimum(0.05 * torch.arange(600.0), torch.tensor(20.0))
    observed = torch.ones(1, 1, 600, dtype=torch.bool)
    is_recent = torch.arange(600, 0, -1)[None, None] <= 72
    sizes = [
        measure_recent(x[:, None], observed, is_recent)[0][0, 0, -72:].diff().abs().mean()
        for x in (flat, flat + rise)
    ]
    assert sizes[1] == pytest.approx(float(sizes[0]), rel=1e-6)


def test_tokens_beyond_the_limit_are_not_read():
    network = shaken(max_tokens=8)
    x = some_series(2, 400)
    changed = x.clone()
    changed[:, : 400 - 8 * 12] = torch.nan
    seasons = seasons_of([12, 12])
    before, after = (
        network._cut(seasons, each.shape[1], 12, 8).starts().min() for each in (x, changed)
    )
    assert before == after >= -8 * 12


def test_seasonal_levels_look_at_the_same_phase():
    """A far token of the same phase changes a future token through the phase level."""
    network = shaken(n_layers=1)
    seasons = seasons_of([24])
    tokens = network._cut(seasons, 240, 24, 32)
    places = network._places(tokens, seasons.period)
    phase = places.groups[0]
    assert (phase[0] == (tokens.index % 3)).all()
    assert network._places(tokens, torch.tensor([0])).groups[0].unique().numel() < len(tokens.index)


def test_tokens_of_a_season_repeat_with_its_cycle():
    network = shaken(n_layers=1)
    seasons = seasons_of([7, 24, 4, 5], [364, 168, 28, 260])
    tokens = network._cut(seasons, 2048, 100, 256)
    # Two seasons of four steps are one token, and seven of them are no number of tokens.
    assert list(
        zip(tokens.steps.tolist(), tokens.count.tolist(), tokens.n_seasons.tolist(), strict=True)
    ) == [
        (7, 1, 52),
        (24, 3, 7),
        (8, 1, 1),
        (10, 1, 26),
    ]
    plain = network._cut(seasons_of([7, 24, 4, 5]), 2048, 100, 256)
    assert torch.equal(tokens.starts(), plain.starts())
    assert torch.equal(tokens.lengths(), plain.lengths())
    phase = network._places(tokens, seasons.period).groups[0]
    assert (phase[0] == tokens.index % 52).all()
    assert (phase[1] == tokens.index % 21).all()
    # A cycle counts where it is clear.
    vague = network._cut(seasons_of([24], [168], clear=False), 2048, 100, 256)
    assert vague.n_seasons.tolist() == [1]


def test_lines_between_blocks_go_through_their_middles():
    means = torch.tensor([[0.0, 4.0, 2.0]])
    lines = between_blocks(means, 4)[0]
    assert lines[:2].tolist() == [0.0, 0.0]
    assert lines[2:6].tolist() == [0.5, 1.5, 2.5, 3.5]
    assert lines[-2:].tolist() == [2.0, 2.0]
    x = torch.arange(10.0)[None]
    assert block_means(x, 4)[0].tolist() == [0.5, 3.5, 7.5]


def days_of_288(n=4, weeks=4, seed=0):
    """Days of five minutes, lower at the weekend; a horizon of one Monday."""
    rng = np.random.default_rng(seed)
    step = np.arange(288)
    day = 2 - np.cos(2 * np.pi * step / 288) + 0.5 * np.sin(4 * np.pi * step / 288)
    days = [0.3 * day if d % 7 >= 5 else day for d in range(7 * weeks + 1)]
    x = torch.from_numpy(10 * np.concatenate(days) + rng.normal(0, 1, (n, 288 * len(days))))
    return x[:, :-288], x[:, -288:]


def test_the_monday_after_a_weekend_of_five_minutes_is_forecast():
    """The week lies beyond the tokens; last week repeated is what it is measured by."""
    x, y = days_of_288()
    network = load_network()
    middle = network.quantile_levels.index(0.5)
    repeated = (y - x[:, -2016:-1728]).abs().mean()
    forecast = network.forecast(x, 288)
    # The network that reads single steps alone is worse than last week repeated.
    assert (forecast[..., middle] - y).abs().mean() < 0.9 * repeated
    recent = network.forecast(x[:, -2048:], 288)[..., middle]
    assert (recent - y).abs().mean() > 3 * repeated
    assert (forecast.diff(dim=2) >= 0).all()
    low, high = (network.quantile_levels.index(q) for q in (0.1, 0.9))
    inside = ((y >= forecast[..., low]) & (y <= forecast[..., high])).double().mean()
    assert 0.6 < inside < 0.97


def test_distances_of_a_sum_are_those_of_independent_parts():
    """A quantile lies as far from the point as the root of the sum of squares says."""
    network = shaken()
    offset = torch.tensor(QUANTILES, dtype=DOUBLE) - 0.5
    line = torch.tensor([100.0, 200.0], dtype=DOUBLE)[None, :, None]
    coarse = (7 + 3 * offset).expand(1, 2, -1)
    fine = (10 + 4 * offset).expand(1, 2, -1)
    torch.testing.assert_close(network.added(line, coarse, fine), line + 10 + 5 * offset)
    # What the line leaves may be certain.
    certain = torch.full_like(fine, 10.0)
    torch.testing.assert_close(network.added(line, coarse, certain), line + 10 + 3 * offset)


@pytest.mark.parametrize("encode", [None, 3])
def test_long_pasts_padding_and_order_change_nothing(encode):
    network = shaken(encode=encode)
    x = torch.cat([some_series(3, 700), days_of_288(1)[0][:, -700:], some_series(2, 700, seed=1)])
    x = torch.cat([x.new_full((6, 4000), torch.nan), x], dim=1)
    x[3] = days_of_288(1, weeks=3)[0][0, -4700:]
    x[1, :500] = torch.nan
    x[2, 100:130] = torch.nan
    x[4, 300] = 1e6
    whole = network.forecast(x, 30)
    alone = torch.cat([network.forecast(row[None], 30) for row in x])
    padded = network.forecast(torch.cat([torch.full((6, 70), torch.nan, dtype=DOUBLE), x], 1), 30)
    torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.forecast(x.flip(0), 30).flip(0), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(padded, whole, rtol=1e-4, atol=1e-4)


def test_a_year_of_weeks_is_forecast_by_the_year_before():
    """Weights that were never told of cycles use them: the last year's week comes back."""
    step = torch.arange(1500)
    generator = torch.Generator().manual_seed(0)
    week, year = (torch.randn(n, generator=generator, dtype=DOUBLE) for n in (7, 52))
    x = (
        week[step % 7]
        + year[step // 7 % 52]
        + 0.1 * torch.randn(1500, generator=generator, dtype=DOUBLE)
    )
    network = load_network("zero-5h")
    truth = x[-60:]
    context = x[None, :-60]
    seasons = network._seasons(context)
    assert (int(seasons.period), int(seasons.cycle), bool(seasons.clear)) == (7, 364, True)
    middle = network.quantile_levels.index(0.5)
    network._seasons = lambda x, likely: replace(seasons, cycle=seasons.period)
    without = (network.forecast(context, 60)[0, :, middle] - truth).abs().mean()
    del network._seasons
    assert (network.forecast(context, 60)[0, :, middle] - truth).abs().mean() < 0.9 * without


def test_settings_travel_as_json():
    config = ZeroConfig(**SMALL)
    assert ZeroConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="no setting 'width'"):
        ZeroConfig.from_dict({"width": 3})
    with pytest.raises(ValueError, match="multiple of 8"):
        ZeroConfig(d_model=20, n_heads=2)
    with pytest.raises(ValueError, match="encode must be a whole number of at least 0; got -1"):
        ZeroConfig(encode=-1)
    with pytest.raises(ValueError, match=r"quantiles must ascend and hold 0\.5"):
        ZeroConfig(quantiles=(0.1, 0.9))
    with pytest.raises(ValueError, match="measure must be one of whole, recent; got 'half'"):
        ZeroConfig(measure="half")


# --- batches and runs


def test_shares_are_whole_and_batches_have_their_shapes():
    assert sum(shape.share for shape in SHAPES) == pytest.approx(1)
    shape = Shape(12, 24, 40, 1.0)
    x, y = draw_batch(shape, np.random.default_rng(0))
    assert x.shape == (40, 108)
    assert y.shape == (40, 24)
    short = x[:, :50].isnan().all(1)
    assert 0 < int(short.sum()) < 20
    again = draw_batch(shape, np.random.default_rng(0))
    assert torch.equal(x.nan_to_num(9), again[0].nan_to_num(9))


def test_the_rate_rises_falls_with_the_root_and_to_zero():
    recipe = Recipe(1000, half=100, phase=600)
    factors = [recipe.factor(step) * (1 + step / 100) ** 0.5 for step in range(1000)]
    assert factors[0] == pytest.approx(1 / 50)
    assert factors[50:600] == pytest.approx([1.0] * 550)
    # Fresh optimizers begin with small steps.
    assert factors[600] == pytest.approx(1 / 50)
    assert factors[650:800] == pytest.approx([1.0] * 150)
    assert factors[999] == pytest.approx(1 / 200)


def test_a_shorter_recipe_is_the_same_up_to_its_decay():
    short = Recipe(40_000)
    long = Recipe(400_000)
    assert [short.factor(step) for step in range(0, 32_000, 500)] == [
        long.factor(s) for s in range(0, 32_000, 500)
    ]
    assert short.factor(39_000) < long.factor(39_000)


DRAWN = {}


def drawn_once(shape, rng):
    """The batch of a shape and a state of the generator, which many runs here draw alike."""
    key = (shape, str(rng.bit_generator.state))
    if key not in DRAWN:
        DRAWN[key] = draw_batch(shape, rng)
    return tuple(each.clone() for each in DRAWN[key])


@pytest.fixture
def tiny(monkeypatch):
    """Batches and intervals so small that a run takes seconds."""
    monkeypatch.setattr(pretraining, "draw_batch", drawn_once)
    monkeypatch.setattr(pretraining, "SHAPES", (Shape(8, 12, 4, 0.5), Shape(16, 24, 2, 0.5)))
    monkeypatch.setattr(pretraining, "_STEPS_A_STATE", 4)
    monkeypatch.setattr(pretraining, "_STEPS_A_VALIDATION", 5)


def trained(folder, *, until=None, n_steps=8):
    work = Pretraining(ZeroConfig(**SMALL), Recipe(n_steps, seed=3))
    run(work, folder, until=until)
    return work


def weights_of(work):
    return {
        **work.network.state_dict(),
        **{f"mean.{k}": v for k, v in work.average.state_dict().items()},
    }


def equal(a, b):
    return all(torch.equal(x, weights_of(b)[name]) for name, x in weights_of(a).items())


def test_a_terminal_shows_the_time_gone_and_that_of_the_steps_to_come(monkeypatch):
    screen = io.StringIO()
    work = Pretraining(ZeroConfig(**SMALL), Recipe(40, seed=0))
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(time, "monotonic", lambda: 130.0)
    work.step = 20
    pretraining._show(work, 50, [0.5] * 20, [], 100.0)
    assert screen.getvalue().endswith(" windows/s  30 s gone  45 s left  ")


@pytest.mark.usefixtures("tiny")
def test_a_run_repeats_to_the_bit_and_goes_on_to_the_same_weights(tmp_path):
    whole = trained(tmp_path / "a")
    again = trained(tmp_path / "b")
    assert equal(whole, again)
    trained(tmp_path / "c", until=5)
    # A kill between two states: the folder holds the state of step 5, and a curve that is ahead of
    # it.
    with (tmp_path / "c" / "curve.jsonl").open("a") as file:
        file.write('{"step": 99}\n')
    resumed = trained(tmp_path / "c")
    assert equal(whole, resumed)
    assert resumed.step == 8
    curves = [(tmp_path / name / "curve.jsonl").read_text().splitlines() for name in ("a", "c")]
    for left, right in zip(*(map(json.loads, lines) for lines in curves), strict=True):
        assert left["validation"] == right["validation"]


@pytest.mark.usefixtures("tiny")
def test_a_run_goes_on_from_the_weights_that_a_phase_leaves(tmp_path):
    """They are all that is kept between days, and give the weights of a run that never stopped."""

    def phased(folder, until=None):
        work = Pretraining(ZeroConfig(**SMALL), Recipe(8, seed=3, phase=4))
        run(work, folder, until=until)
        return work

    whole = phased(tmp_path / "a")
    phased(tmp_path / "b", until=6)
    assert json.loads((tmp_path / "b" / "phase.json").read_text())["step"] == 4
    (tmp_path / "b" / "state.pt").unlink()
    resumed = phased(tmp_path / "b")
    assert equal(whole, resumed)
    assert (resumed.step, resumed.windows) == (whole.step, whole.windows)
    facts = json.loads((tmp_path / "a" / "phase.json").read_text())
    with pytest.raises(ValueError, match="between two phases of 4 steps; got step 7"):
        resumed.restore_phase({}, {**facts, "step": 7})


@pytest.mark.usefixtures("tiny")
def test_a_run_measures_by_the_recent_part_from_a_step_on(tmp_path):
    """It begins as a run without it, and killed before, at or after that step it ends alike."""
    config = ZeroConfig(**SMALL, measure="recent")
    recipe = Recipe(9, seed=3, phase=3, recent_from=6)

    def trained_until(folder, until=None):
        work = Pretraining(config, recipe)
        run(work, folder, until=until)
        return work

    whole = trained_until(tmp_path / "whole")
    assert whole.network.config == whole.average.config == config
    assert whole.network.embed.weight[:, -2:].abs().max() > 0
    first = Pretraining(replace(config, measure="whole"), replace(recipe, recent_from=0))
    run(first, tmp_path / "first", until=6)
    before = trained_until(tmp_path / "6", until=6)
    assert equal(first, before)
    average = before.average.embed.weight.clone()
    before._measure_recent()
    assert torch.equal(before.average.embed.weight[:, :-2], average)
    assert not torch.equal(before.network.embed.weight[:, :-2], average)
    trained_until(tmp_path / "5", until=5)
    trained_until(tmp_path / "8", until=8)
    # And from the state after a phase alone.
    shutil.copytree(tmp_path / "8", tmp_path / "phase")
    (tmp_path / "phase" / "state.pt").unlink()
    for folder in ("5", "6", "8", "phase"):
        assert equal(whole, trained_until(tmp_path / folder))
    facts = json.loads((tmp_path / "6" / "phase.json").read_text())
    tensors = load_file(tmp_path / "6" / "phase.safetensors")
    assert (facts["config"]["measure"], facts["step"]) == ("recent", 9)
    work = Pretraining(config, replace(recipe, n_steps=12))
    work.restore_phase(tensors, facts)
    assert equal(work, whole)


def test_a_network_with_more_inputs_answers_alike_until_it_learns():
    network = shaken()
    work = Pretraining(replace(network.config, measure="recent"), Recipe(10))
    wider = work._with_settings(network)
    assert wider.embed.weight.shape[1] == network.embed.weight.shape[1] + 2
    x = some_series(3, 60)  # shorter than the recent part
    torch.testing.assert_close(wider.forecast(x, 20), network.forecast(x, 20))


def test_the_measure_changes_between_two_phases():
    with pytest.raises(ValueError, match="recent_from must be a multiple of phase = 4; got 6"):
        Recipe(12, phase=4, recent_from=6)


@pytest.mark.usefixtures("tiny")
def test_another_seed_gives_other_weights_and_training_helps(tmp_path):
    work = Pretraining(ZeroConfig(**SMALL), Recipe(30, seed=0))
    before = work.validate()
    run(work, tmp_path)
    assert work.validate() < 0.9 * before
    other = Pretraining(ZeroConfig(**SMALL), Recipe(30, seed=1))
    assert not torch.equal(other.network.embed.weight, work.network.embed.weight)


@pytest.mark.usefixtures("tiny")
def test_the_averaged_weights_are_validated():
    work = Pretraining(ZeroConfig(**SMALL), Recipe(30, seed=0))
    loss = work.validate(1)
    work.network.load_state_dict(shaken().state_dict())
    assert work.validate(1) == loss
    work.average.load_state_dict(shaken().state_dict())
    assert work.validate(1) != loss


@pytest.mark.usefixtures("tiny")
def test_a_state_of_another_network_is_refused(tmp_path):
    trained(tmp_path, until=4)
    with pytest.raises(ValueError, match="trained with d_ff = 32; got 64"):
        run(Pretraining(ZeroConfig(**{**SMALL, "d_ff": 64}), Recipe(12, seed=3)), tmp_path)


def kept(folder, **networks):
    """A folder of weights under these names."""
    facts = dict.fromkeys(FACTS, "a test")
    for name, network in networks.items():
        save_network(network, folder, name, facts)
    return folder


@pytest.mark.usefixtures("tiny")
def test_a_run_starts_from_the_answers_of_trained_weights(tmp_path):
    start = shaken()
    x = some_series()
    weights = kept(tmp_path / "weights", first=start)
    recipe = Recipe(6, start="first")
    work = Pretraining(ZeroConfig(**SMALL), recipe, weights=weights)
    for network in (work.network, work.average):
        assert torch.equal(network.forecast(x, 20), start.forecast(x, 20))
    run(work, tmp_path / "run")
    assert not torch.equal(work.network.forecast(x, 20), start.forecast(x, 20))
    with pytest.raises(
        ValueError, match=r"weights of its own settings; got .*d_ff=32.* for .*d_ff=64"
    ):
        Pretraining(ZeroConfig(**{**SMALL, "d_ff": 64}), recipe, weights=weights)
    with pytest.raises(ValueError, match="needs the weights first; name their folder by --weights"):
        Pretraining(ZeroConfig(**SMALL), recipe)
    with pytest.raises(ValueError, match=r"other\.json is missing"):
        Pretraining(ZeroConfig(**SMALL), replace(recipe, start="other"), weights=weights)


@pytest.mark.usefixtures("tiny")
def test_a_taught_run_comes_nearer_and_goes_on_to_the_same_weights(tmp_path):
    """Killed inside a phase, or with nothing left but the state after one."""
    teachers = [shaken(), shaken(n_layers=1)]
    weights = kept(tmp_path / "weights", a=teachers[0], b=teachers[1])
    recipe = Recipe(8, seed=3, rate=0.02, phase=3, teachers=("a", "b"))

    def taught(folder, until=None):
        work = Pretraining(ZeroConfig(**SMALL), recipe, weights=weights)
        run(work, folder, until=until)
        return work

    whole = taught(tmp_path / "whole")
    taught(tmp_path / "killed", until=5)
    (tmp_path / "phase").mkdir()
    for name in ("phase.json", "phase.safetensors"):
        shutil.copy(tmp_path / "killed" / name, tmp_path / "phase" / name)
    for folder in ("killed", "phase"):
        assert equal(whole, taught(tmp_path / folder))
    x = some_series()
    before = Pretraining(ZeroConfig(**SMALL), replace(recipe, teachers=None))
    first, last = (
        float(distance(work.network, Teachers(teachers), x, 12).detach())
        for work in (before, whole)
    )
    assert last < 0.9 * first
    with pytest.raises(ValueError, match=r"teachers = \['a', 'b'\]; got None"):
        run(before, tmp_path / "killed")


@pytest.mark.usefixtures("tiny")
def test_a_stable_run_can_decay_later(tmp_path):
    trained(tmp_path, until=5, n_steps=1000)
    ended = trained(tmp_path, n_steps=8)
    assert ended.step == 8


@pytest.mark.usefixtures("tiny")
def test_the_command_prints_nothing_without_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pretraining, "STEPS_A_MINUTE", 6)
    before = torch.get_num_threads()
    main(["--state", str(tmp_path), "--minutes", "1", "--size", "small"])
    assert torch.get_num_threads() == before
    assert capsys.readouterr() == ("", "")
    assert json.loads((tmp_path / "curve.jsonl").read_text().splitlines()[-1])["step"] == 6
    config = ZeroConfig.from_dict(torch.load(tmp_path / "state.pt", weights_only=True)["config"])
    assert replace(config, measure="recent") == SIZES["small"]
    main(["--state", str(tmp_path), "--picture", str(tmp_path / "curve.svg")])
    with pytest.raises(SystemExit):
        main(["--state", str(tmp_path / "b"), "--recipe", "zero-9"])
    assert (tmp_path / "curve.svg").stat().st_size > 1000


@pytest.mark.usefixtures("tiny")
def test_exported_weights_are_the_average_and_their_card_tells_the_run(tmp_path):
    work = trained(tmp_path / "run")
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"commit": "abc", "scores": {}, "bad_at": "everything"}))
    main(
        [
            "--state",
            str(tmp_path / "run"),
            "--export",
            str(tmp_path / "out"),
            "--name",
            "tiny",
            "--facts",
            str(facts),
        ]
    )
    network = read_network(tmp_path / "out")
    for name, value in work.average.state_dict().items():
        assert torch.equal(network.state_dict()[name], value)
    card = json.loads((tmp_path / "out" / "tiny.json").read_text())
    assert (card["steps"], card["windows"], card["commit"]) == (8, work.windows, "abc")
    assert card["licence"] == "Apache-2.0"


def test_the_networks_that_the_shipped_ones_have_learnt_from_are_kept():
    weights = ROOT / "benchmarks" / "pretraining_state" / "weights"
    teacher = read_network(weights / "zero-5b.safetensors")
    work = Pretraining(SIZES["base"], RECIPES["zero-5h"], weights=weights)
    start = read_network(weights / "zero-5g.safetensors")
    assert torch.equal(work.network.head.weight, start.head.weight)
    (only,) = work.teachers.networks
    assert torch.equal(only.head.weight, teacher.head.weight)
    assert load_card()["recipe"] == work.recipe.to_dict()
    small = Pretraining(SIZES["small"], RECIPES["zero-5h-small"], weights=weights)
    start = read_network(weights / "zero-5g-small.safetensors")
    assert torch.equal(small.network.head.weight, start.head.weight)
    first, *others = small.teachers.networks
    assert len(others) == 3
    assert torch.equal(first.head.weight, teacher.head.weight)
    assert load_card("zero-5h-small")["recipe"] == small.recipe.to_dict()
