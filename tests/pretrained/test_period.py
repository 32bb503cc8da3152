"""Detection of a season: known periods, noise, trends, missing values, short series, and no season
as an answer.
"""

import numpy as np
import pytest
import torch
from zero_shot.pack import Pack

from tsattn.pretrained.period import (
    MAX_PERIOD,
    Seasons,
    _likeness,
    coarse_steps,
    detect_cycle,
    detect_long_seasons,
    detect_period,
    detect_seasons,
)

DOUBLE = torch.float64


def seasonal(period, length, *, noise=0.3, n=48, seed=0):
    """Random profiles of a period, repeated, with white noise; [n, length]."""
    generator = torch.Generator().manual_seed(seed)
    profile = torch.randn(n, period, generator=generator, dtype=DOUBLE)
    time = torch.arange(length)
    return profile[:, time % period] + noise * torch.randn(
        n, length, generator=generator, dtype=DOUBLE
    )


def found(x, period):
    """Share of series whose answer is the period or a multiple of it, and share with the period
    itself.
    """
    answer = detect_period(x)[0]
    return float(((answer % period == 0) & (answer > 0)).double().mean()), float(
        (answer == period).double().mean()
    )


@pytest.mark.parametrize(
    ("period", "length"), [(4, 48), (7, 140), (12, 120), (24, 400), (96, 960), (365, 2000)]
)
def test_known_periods_are_found(period, length):
    whole, exact = found(seasonal(period, length), period)
    assert whole > 0.95
    assert exact > 0.7


def test_a_sine_with_noise_and_drift_is_found():
    time = torch.arange(480, dtype=DOUBLE)
    x = torch.sin(2 * torch.pi * time / 24) + 0.3 * seasonal(1, 480, noise=1.0) + 0.02 * time
    answer = detect_period(x)[0]
    assert ((answer % 24 <= 1) | (answer % 24 == 23)).double().mean() > 0.9


@pytest.mark.parametrize("slope", [0.0, 0.5, -3.0])
def test_a_trend_does_not_hide_the_period(slope):
    x = seasonal(12, 144) + slope * torch.arange(144)
    assert found(x, 12)[0] > 0.95


def test_missing_values_are_no_values():
    x = seasonal(24, 480)
    generator = torch.Generator().manual_seed(5)
    x[torch.rand(x.shape, generator=generator) < 0.3] = torch.nan
    x[:, 200:240] = torch.nan
    assert found(x, 24)[0] > 0.95


def test_no_season_is_an_answer():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 300, generator=generator, dtype=DOUBLE)
    assert float((detect_period(noise)[0] > 0).double().mean()) < 0.15
    assert float((detect_period(noise.cumsum(1))[0] > 0).double().mean()) < 0.15
    line = torch.arange(60.0, dtype=DOUBLE)[None]
    period, ratio = detect_period(torch.cat([line, line * 0 + 3]))
    assert period.tolist() == [0, 0]
    assert torch.isfinite(ratio).all()


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_short_series_have_no_season(length):
    period, ratio = detect_period(torch.arange(float(length), dtype=DOUBLE)[None].sin())
    assert period.tolist() == [0]
    assert torch.isfinite(ratio).all()


def test_two_cycles_are_enough_where_they_repeat():
    assert found(seasonal(12, 24, noise=0.05), 12)[0] > 0.9


def test_an_all_missing_series_has_none():
    assert detect_period(torch.full((2, 50), torch.nan, dtype=DOUBLE))[0].tolist() == [0, 0]


def test_the_season_follows_scale_and_level():
    x = seasonal(7, 90)
    before = detect_period(x)[0]
    assert detect_period(1e9 * x - 5e11)[0].tolist() == before.tolist()
    assert detect_period(1e-9 * x)[0].tolist() == before.tolist()


@pytest.mark.parametrize("length", [90, 11, 12])
def test_a_history_that_begins_later_is_a_shorter_one(length):
    """Also at the shortest lengths that show a week."""
    x = seasonal(7, length)
    padded = torch.cat([torch.full((len(x), 400), torch.nan, dtype=DOUBLE), x], 1)
    for alone, beside in zip(detect_period(x), detect_period(padded), strict=True):
        assert torch.allclose(alone.double(), beside.double())


def test_less_than_one_and_a_half_cycles_are_none():
    """Also where the rows before a later beginning make room for them."""
    x = seasonal(24, 34, noise=0.0)
    padded = torch.cat([torch.full((len(x), 100), torch.nan, dtype=DOUBLE), x], 1)
    assert (detect_period(padded)[0] < 24).all()
    longer = torch.cat([padded, seasonal(24, 58, noise=0.0)[:, 34:]], 1)
    assert (detect_period(longer)[0] == 24).double().mean() > 0.7


def test_rows_do_not_disturb_one_another():
    x = torch.cat([seasonal(7, 90, n=3), seasonal(12, 90, n=3), seasonal(1, 90, n=3)])
    together = detect_period(x)[0]
    assert [int(detect_period(row[None])[0]) for row in x] == together.tolist()


def by_loops(values):
    """Score of every lag that can be judged, number by number from the formula: correlation, and
    less chance.
    """
    known = ~np.isnan(values)
    n_steps = len(values)
    time = np.arange(len(values))
    rest = values - np.polyval(np.polyfit(time[known], values[known], 1), time)
    likeness = {}
    score = {}
    for lag in range(1, int((n_steps - 1) / 1.5) + 1):
        window = 4
        while window < lag:
            window *= 2
        fast = np.full(n_steps, np.nan)
        for t in range(n_steps):
            around = [
                rest[s]
                for s in range(max(t - window // 2, 0), min(t + window // 2, n_steps))
                if known[s]
            ]
            if known[t]:
                fast[t] = rest[t] - np.mean(around)
        fast = np.clip(fast / np.sqrt(np.nanmean(fast**2)), -3, 3)

        def alike(m, fast=fast):
            pairs = [fast[t] * fast[t - m] for t in range(m, n_steps) if known[t] and known[t - m]]
            return np.mean(pairs) / np.nanmean(fast**2), len(pairs)

        half = window // 2 + 1 if window > 4 else 1
        extent = 1 + 2 * sum(min(max(alike(m)[0], -1), 1) ** 2 for m in range(1, half // 2 + 1))
        value, n_pairs = alike(lag)
        charge = 1.2 if lag in (4, 7, 12, 24) else 2.0
        likeness[lag] = min(max(value, -1), 1)
        score[lag] = likeness[lag] - charge * np.sqrt(extent / n_pairs)
    return likeness, score


@pytest.mark.parametrize("period", [5, 7, 11])
def test_the_formula_against_loops(period):
    x = seasonal(period, 40, n=1, noise=0.3, seed=2)
    x[0, 11] = torch.nan
    likeness, score = by_loops(x[0].numpy())
    peaks = [
        m
        for m in range(2, max(likeness) + 1)
        if likeness[m] >= max(likeness[m - 1], likeness.get(m + 1, -1))
        and score[m] >= 0.1
        and likeness[m] - min(likeness[k] for k in range(1, m)) >= 0.2
    ]
    best = max(score[m] for m in peaks)
    chosen = min(m for m in peaks if score[m] >= best - 0.05)
    answer, strength = detect_period(x)
    assert int(answer) == chosen == period
    assert float(strength) == pytest.approx(score[chosen], rel=1e-6)


def test_a_season_of_the_calendar_is_preferred_to_its_neighbour():
    time = torch.arange(24 * 30, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    wander = torch.randn(40, 24 * 30, generator=generator, dtype=DOUBLE).cumsum(1)
    x = 4 * torch.sin(2 * torch.pi * time / 24) + wander
    assert float((detect_period(x)[0] == 24).double().mean()) > 0.9


@pytest.mark.parametrize("season", [336, 360, 365, 720])
def test_seasons_of_the_calendar_are_not_taken_for_one_another(season):
    generator = torch.Generator().manual_seed(season)
    time = torch.arange(2048, dtype=DOUBLE)
    phase = 2 * torch.pi * torch.rand(40, 2, 1, generator=generator, dtype=DOUBLE)
    x = torch.sin(2 * torch.pi * time / season + phase[:, 0]) + torch.sin(
        4 * torch.pi * time / season + phase[:, 1]
    )
    x = x + 0.1 * torch.randn(40, 2048, generator=generator, dtype=DOUBLE)
    assert float((detect_period(x)[0] == season).double().mean()) > 0.7


def test_the_usual_season_is_taken_on_less_evidence():
    """A weak day that is found in few series is found in more where the stamps are hours; noise
    stays noise.
    """
    step = torch.arange(24 * 6, dtype=DOUBLE)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, len(step), generator=generator, dtype=DOUBLE)
    weak = noise + 0.75 * torch.sin(2 * torch.pi * step / 24)
    share = [float((detect_period(weak, likely)[0] == 24).double().mean()) for likely in (0, 24)]
    assert share[1] > share[0] + 0.05
    assert float((detect_period(noise, 24)[0] == 24).double().mean()) < 0.2
    # A season that is clear stays what it is, and one longer than the series cannot be judged.
    clear = seasonal(7, 90)
    assert detect_period(clear, 24)[0].tolist() == detect_period(clear)[0].tolist()
    assert detect_period(clear, 1440)[0].tolist() == detect_period(clear)[0].tolist()


def test_the_longest_lag_is_bounded():
    x = seasonal(1000, 2 * MAX_PERIOD, n=4)
    assert detect_period(x)[0].tolist() == [1000] * 4


def test_the_seasons_of_real_series_are_found(pack_dir):
    """On development tasks: the day of hourly and quarter-hourly load, the week of births, the year
    of births.
    """
    pack = Pack(pack_dir)
    births = torch.tensor(
        np.stack([each.past[-2048:] for each in pack.instances(pack.tasks["us_births/D/short"])])
    )
    assert set(detect_seasons(births).clear_cycle().tolist()) == {364}
    for name, season, share in (
        ("ett1/H/short", 24, 0.95),
        ("ett1/15T/short", 96, 0.95),
        ("us_births/D/short", 7, 1.0),
        ("us_births/W/short", 52, 1.0),
        ("us_births/M/short", 12, 1.0),
    ):
        pasts = [torch.tensor(each.past[-2048:]) for each in pack.instances(pack.tasks[name])]
        answers = torch.cat([detect_period(past[None])[0] for past in pasts])
        assert float((answers == season).double().mean()) >= share, name


# --- the cycle of a season


def with_cycle(season, times, length, *, size=1.0, n=40):
    """A season of random profiles, each changed by its place in a cycle of so many seasons, and
    noise; [n, length].
    """
    generator = torch.Generator().manual_seed(times)
    change = size * torch.randn(n, times, generator=generator, dtype=DOUBLE)
    change -= change.mean(1, keepdim=True)
    return seasonal(season, length, n=n) + change[:, torch.arange(length) // season % times]


def clear_cycle(x, period):
    """The cycle where it is clear, else the season."""
    cycle, strength, clear = detect_cycle(x, period)
    return Seasons(period, cycle, strength, strength, clear).clear_cycle()


@pytest.mark.parametrize(
    ("season", "times", "length"), [(24, 7, 700), (7, 52, 1200), (48, 7, 2048), (12, 7, 400)]
)
def test_cycles_of_a_season_are_found(season, times, length):
    x = with_cycle(season, times, length)
    period = torch.full((len(x),), season)
    assert float((clear_cycle(x, period) == season * times).double().mean()) > 0.9
    x[:, length // 2 : length // 2 + season] = torch.nan
    assert float((clear_cycle(x, period) == season * times).double().mean()) > 0.85


def test_a_season_without_a_cycle_keeps_its_length():
    plain = seasonal(24, 1000, n=200)
    walking = seasonal(24, 1000, n=200, noise=0.1)
    generator = torch.Generator().manual_seed(1)
    walking += 0.1 * torch.randn(walking.shape, generator=generator, dtype=DOUBLE).cumsum(1)
    for x in (plain, walking):
        assert float((clear_cycle(x, torch.full((200,), 24)) == 24).double().mean()) > 0.98
    assert clear_cycle(plain, torch.zeros(200, dtype=torch.long)).tolist() == [0] * 200
    short = with_cycle(24, 7, 2 * 168 - 1)
    assert clear_cycle(short, torch.full((40,), 24)).tolist() == [24] * 40
    # Neither is a year that is not there twice, nor another number of seasons.
    year = with_cycle(7, 52, 2 * 364 - 1)
    assert 364 not in clear_cycle(year, torch.full((40,), 7)).tolist()
    other = with_cycle(24, 5, 1000)
    assert float((clear_cycle(other, torch.full((40,), 24)) == 24).double().mean()) > 0.9
    for times in (6, 8):
        wave = torch.sin(2 * torch.pi * (torch.arange(4000, dtype=DOUBLE) // 4) / times)
        assert (
            clear_cycle(seasonal(4, 4000, noise=0.1) + wave, torch.full((48,), 4)).tolist()
            == [4] * 48
        )


def test_a_cycle_against_loops():
    x = with_cycle(6, 7, 150, size=0.7, n=12)
    x[0, 30:40] = torch.nan
    clear = []
    for row in x:
        time = np.arange(150)
        known = row.isfinite().numpy()
        y = row.numpy()
        y = y - np.polyval(np.polyfit(time[known], y[known], 1), time)
        means = [np.nanmean(y[time % 6 == phase]) for phase in range(6)]
        rest = np.array([value - means[step % 6] for step, value in enumerate(y)])
        likeness = [
            float(detail[0, 41]) for detail in _likeness(torch.from_numpy(rest)[None], 99)[:2]
        ]
        clear.append(likeness[0] - likeness[1])
    answer = clear_cycle(x, torch.full((12,), 6))
    assert (answer == 42).sum() > 3
    for cycle, value in zip(answer.tolist(), clear, strict=True):
        assert cycle == 6 or value >= 0.3
        assert cycle == 42 or value < 0.5


def test_a_cycle_depends_on_its_own_series_alone():
    x = torch.cat([with_cycle(24, 7, 700, n=5), seasonal(24, 700, n=5)])
    period = torch.full((10,), 24)
    together = clear_cycle(x, period)
    assert [int(clear_cycle(row[None], period[:1])) for row in x] == together.tolist()
    padded = torch.nn.functional.pad(x, (50, 0), value=torch.nan)
    assert clear_cycle(padded, period).tolist() == together.tolist()
    assert together.tolist() == [168] * 5 + [24] * 5


def test_a_history_that_begins_later_has_no_longer_cycle():
    """Nearly two weeks show no week clearly, and one and a quarter cannot show it, whatever number
    of empty steps stand before them.
    """
    x = with_cycle(24, 7, 2 * 168 - 1)
    period = torch.full((len(x),), 24)
    padded = torch.nn.functional.pad(x, (200, 0), value=torch.nan)
    assert clear_cycle(padded, period).tolist() == [24] * len(x)
    shorter = torch.nn.functional.pad(x[:, -210:], (500, 0), value=torch.nan)
    assert detect_cycle(shorter, period)[0].tolist() == [24] * len(x)


def test_a_cycle_that_is_not_clear_is_told_with_its_strength():
    plain = seasonal(24, 1000, n=40)
    changed = with_cycle(24, 7, 1000)
    period = torch.full((len(plain),), 24)
    cycle, weak, clear = detect_cycle(plain, period)
    assert cycle.tolist() == [168] * len(plain)
    assert not clear.any()
    assert weak.max() < 0.3
    assert detect_cycle(changed, period)[1].min() > 0.3
    # One and a half weeks are enough to be judged, one and a quarter are not.
    assert detect_cycle(plain[:, :260], period)[0].tolist() == [168] * len(plain)
    assert detect_cycle(plain[:, :210], period)[0].tolist() == [24] * len(plain)


def test_the_day_goes_before_the_week():
    """A week of which the day is a season too; a week of unlike days stays the season."""
    week = with_cycle(24, 7, 1000, size=1.4)
    seasons = detect_seasons(week)
    assert float((seasons.period == 24).double().mean()) > 0.8
    assert seasons.clear_cycle()[seasons.period == 24].unique().tolist() == [168]
    unlike = seasonal(168, 1000)
    assert float((detect_period(unlike)[0] == 168).double().mean()) > 0.9


def test_seasons_of_a_long_past_are_found_in_its_means():
    """Days of 288 steps: the week lies beyond 2,048 steps, and so does a day of 1,440 steps."""
    days = with_cycle(288, 7, 6000, size=0.35, n=3)
    recent = detect_seasons(days[:, -2048:])
    assert recent.period.tolist() == [288] * 3
    assert recent.cycle.tolist() == [288] * 3
    long = detect_long_seasons(days, recent)
    assert long.period.tolist() == [288] * 3
    assert long.clear_cycle().tolist() == [2016] * 3
    padded = torch.nn.functional.pad(days, (5000, 0), value=torch.nan)
    for one, other in zip(long.fields(), detect_long_seasons(padded, recent).fields(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    minutes = seasonal(1440, 9000, n=6, noise=0.2)
    nothing = torch.zeros(6)
    none = Seasons(nothing.long(), nothing.long(), nothing, nothing, nothing > 0)
    assert detect_long_seasons(minutes, none).period.tolist() == [1440] * 6
    # A season whose steps are no multiple of those of the means keeps what the recent part said.
    odd = with_cycle(25, 7, 6000, n=3)
    before = detect_seasons(odd[:, -2048:])
    for kept, now in zip(before.fields(), detect_long_seasons(odd, before).fields(), strict=True):
        assert torch.equal(kept, now)


def test_a_short_series_beside_a_long_one_is_read_step_by_step():
    short = seasonal(24, 700, n=3)
    padded = torch.nn.functional.pad(short, (5300, 0), value=torch.nan)
    together = torch.cat([with_cycle(288, 7, 6000, size=0.35, n=1), padded])
    assert coarse_steps(together).tolist() == [4, 1, 1, 1]
    assert coarse_steps(short[:, :9]).tolist() == [1, 1, 1]
    recent = detect_seasons(together[:, -2048:])
    answer = detect_long_seasons(together, recent)
    assert answer.rows(torch.arange(1, 4)).period.tolist() == [24] * 3


def test_seasons_of_some_series_are_replaced():
    first = detect_seasons(seasonal(7, 90, n=4))
    second = detect_seasons(seasonal(12, 90, n=2))
    mixed = first.where(torch.tensor([False, True, False, True]), second)
    assert mixed.period.tolist() == [7, 12, 7, 12]
    assert mixed.rows(torch.tensor([1, 0])).period.tolist() == [12, 7]
    assert Seasons.joined([first, second]).period.tolist() == [7] * 4 + [12] * 2


def test_missing_values_of_other_series_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 120, generator=generator) + 2 * torch.sin(torch.arange(120) * torch.pi / 6)
    x[1, torch.randperm(120, generator=generator)[:70]] = torch.nan
    x[2, :80] = torch.nan
    together = detect_period(x)
    for n in range(3):
        alone = detect_period(x[n : n + 1])
        assert together[0][n] == alone[0][0]
        assert together[1][n] == pytest.approx(float(alone[1][0]), abs=1e-6)
