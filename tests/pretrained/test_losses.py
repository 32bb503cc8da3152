"""What the pretrained network learns by, against loops over windows and steps."""

import numpy as np
import pytest
import torch
from pretrained_networks import SMALL, recent_by_loops, shaken, some_series

from tsattn.pretrained import losses, pretraining
from tsattn.pretrained.faults import add_faults
from tsattn.pretrained.losses import Teachers, distance, expected_pinball, pinball, weigh
from tsattn.pretrained.network import QUANTILES, ZeroConfig
from tsattn.pretrained.period import detect_period
from tsattn.pretrained.pretraining import Pretraining, Recipe, Shape, draw_batch


@pytest.mark.parametrize(
    ("measure", "length", "farthest"), [("whole", 60, 3.5), ("recent", 200, 4.5)]
)
def test_the_loss_against_loops(measure, length, farthest):
    network = shaken(measure=measure)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.zero_()
        network.head.bias[:-1] = torch.linspace(-1, 1, len(QUANTILES)).repeat(12)
    x = some_series(3, length).float()
    x[0] += 0.1 * torch.arange(length)
    y = some_series(3, 20, seed=1).float()
    y[0, 4] = torch.nan  # a value that is not known teaches nothing
    y[1, 7] = 1e6  # and one far away no more than one at the bound
    x[2] = 1.0  # nor does a context that does not vary
    context, seasons = network.look(x.double(), 20)
    answer = network._forecast_read(context, seasons, 20).detach()
    total = weights = 0.0
    for row in (0, 1):
        part = x[row].double()[-72:] if measure == "recent" else x[row].double()
        level = part.mean()
        spread = part.std(correction=0)
        for step in range(20):
            if y[row, step].isnan():
                continue
            target = torch.asinh((y[row, step].double() - level) / spread)
            target = target.clamp(-farthest, farthest)
            given = torch.asinh((answer[row, step] - level) / spread)
            weight = (1 + step / 16) ** -0.5
            total += weight * np.mean(
                [
                    2 * max(q * float(target - g), (q - 1) * float(target - g))
                    for q, g in zip(QUANTILES, given, strict=True)
                ]
            )
            weights += weight
    assert float(pinball(network, x, y, 32).detach()) == pytest.approx(total / weights, rel=1e-5)


def test_importance_is_that_of_a_loop_over_steps():
    x = some_series(3, 60)
    x[0] = torch.arange(60.0).remainder(12) + 50 * (torch.arange(60.0) > 30)
    x[1, 5:9] = torch.nan
    x[2] = torch.randn(60, generator=torch.Generator().manual_seed(3)).cumsum(0)
    seasons = detect_period(x)[0]
    periods = seasons.tolist()
    assert periods[2] == 0 < periods[1]
    for row, period, actual in zip(x.numpy(), periods, weigh(x, seasons).tolist(), strict=True):
        scaled = np.arcsinh((row - np.nanmean(row)) / np.nanstd(row))
        by_lag = [
            np.mean(
                [
                    abs(scaled[t] - scaled[t - lag])
                    for t in range(lag, 60)
                    if np.isfinite(scaled[[t, t - lag]]).all()
                ]
            )
            for lag in {1, period or 1}
        ]
        assert actual == pytest.approx(1 / (min(by_lag) + 0.05), rel=1e-6)
    torch.testing.assert_close(weigh(1000 + 7 * x, seasons), weigh(x, seasons), rtol=1e-8, atol=0)
    assert weigh(torch.full((1, 20), 3.0), seasons[:1]).tolist() == pytest.approx([20.0])


def test_importance_by_the_recent_part_is_that_of_a_loop_over_its_steps():
    x = some_series(3, 300)
    x[0] += 0.2 * torch.arange(300)
    x[1, 250:260] = torch.nan
    x[2] = torch.randn(300, generator=torch.Generator().manual_seed(3)).cumsum(0)
    seasons = torch.tensor([12, 12, 0])
    weights = weigh(x, seasons, "recent").tolist()
    for row, period, weight in zip(x.numpy(), seasons.tolist(), weights, strict=True):
        mean, spread, *_ = recent_by_loops(row, period)
        scaled = np.arcsinh((row - mean) / spread)
        first = 300 - (72 if period else 64)
        by_lag = [
            np.nanmean([abs(scaled[t] - scaled[t - lag]) for t in range(first, 300)])
            for lag in {1, period or 1}
        ]
        assert weight == pytest.approx(1 / (min(by_lag) + 0.05), rel=1e-5)


def test_a_step_weighs_its_windows(monkeypatch):
    monkeypatch.setattr(pretraining, "SHAPES", (shape := Shape(32, 48, 12, 1.0),))
    made = Pretraining(ZeroConfig(**SMALL), Recipe(10, seed=3))
    rng = np.random.default_rng([3, 0])
    rng.choice(1, p=[1.0])
    x, y = draw_batch(shape, rng)
    weighed, plain = (
        float(pinball(made.network, x, y, shape.n_tokens, weighed=each).detach())
        for each in (True, False)
    )
    assert made.advance() == pytest.approx(weighed, rel=1e-6)
    assert abs(weighed / plain - 1) > 1e-3


def test_important_windows_count_more(monkeypatch):
    network = shaken()
    x = some_series(2, 90)
    y = torch.zeros(2, 8)
    monkeypatch.setattr(losses, "weigh", lambda x, period, measure: torch.tensor([3.0, 1.0]))
    x[1] += 5 * torch.randn(90, generator=torch.Generator().manual_seed(0))
    alone = [float(pinball(network, x[k : k + 1], y[k : k + 1]).detach()) for k in range(2)]
    both = float(pinball(network, x, y, weighed=True).detach())
    assert alone[0] != pytest.approx(alone[1], rel=0.01)
    assert both == pytest.approx((3 * alone[0] + alone[1]) / 4, rel=1e-5)


# --- teachers


def series_with_gaps():
    x = some_series(4, 90)
    x[1, 20:30] = torch.nan
    x[2] = 3.0  # does not vary, and teaches nothing
    x[3] = 1e4 * x[3] + 1e6
    return x


def test_teachers_forecast_the_mean_of_windows_and_their_mirror_images():
    networks = [shaken(), shaken(n_layers=1, measure="recent")]
    x = series_with_gaps()
    x, seasons = networks[0].look(x, 20)
    forecasts = Teachers(networks).forecast(x, 20, None, seasons)
    answers = []
    for network in networks:
        answers.append(network._forecast_read(x, seasons, 20))
        mirrored = -network._forecast_read(-x, seasons, 20)
        answers.append(mirrored.flip(2))
    torch.testing.assert_close(forecasts, torch.stack(answers).mean(0), rtol=1e-5, atol=1e-5)
    assert (forecasts.diff(dim=2) >= 0).all()
    swapped = -Teachers(networks).forecast(-x, 20, None, seasons).flip(2)
    torch.testing.assert_close(swapped, forecasts, rtol=1e-5, atol=1e-5)


def test_teachers_answer_the_same_quantiles():
    other = shaken(quantiles=(0.1, 0.5, 0.9))
    with pytest.raises(ValueError, match="the same quantiles; got 2 sets of 2 networks"):
        Teachers([shaken(), other])
    with pytest.raises(ValueError, match="the same quantiles; got 0 sets of 0 networks"):
        Teachers([])


def distance_of_loops(answer, target):
    """Of the quantiles [Q] of one step to those of the teachers."""
    width = max(target[QUANTILES.index(0.9)] - target[QUANTILES.index(0.1)], 1e-3)
    total = 0.0
    for place in range(len(QUANTILES)):
        ratio = (target[place] - answer[place]) / width
        total += nearest_of_loops(place) * width * (np.sqrt(1 + ratio**2) - 1)
    return total


def expected_pinball_of_loops(answer, target):
    """Of the quantiles [Q] of one step, if truths are distributed as the teachers say."""
    total = 0.0
    for level, quantile in zip(QUANTILES, answer, strict=True):
        for place, truth in enumerate(target):
            error = truth - quantile
            loss = 2 * (level * error if error > 0 else (level - 1) * error)
            total += nearest_of_loops(place) * loss / len(QUANTILES)
    return total


def nearest_of_loops(place):
    """Probability that is nearer to a quantile than to others."""
    level = QUANTILES[place]
    below = (QUANTILES[place - 1] + level) / 2 if place else 0.0
    above = (level + QUANTILES[place + 1]) / 2 if level < 0.99 else 1.0
    return above - below


@pytest.mark.parametrize(
    ("loss", "loss_of_loops"),
    [(distance, distance_of_loops), (expected_pinball, expected_pinball_of_loops)],
)
@pytest.mark.parametrize(("measure", "farthest"), [("whole", 3.5), ("recent", 4.5)])
@pytest.mark.parametrize("has_faults", [False, True])
def test_what_teachers_teach_against_loops(loss, loss_of_loops, measure, farthest, has_faults):
    network = shaken(measure=measure)
    teachers = Teachers([shaken(n_layers=1), shaken(n_layers=3)])
    x, seasons = network.look(series_with_gaps(), 20)
    target = teachers.forecast(x, 20, None, seasons).numpy()
    seen = series_with_gaps()
    if has_faults:
        seen[:, 40:60] = seen[:, 40:41]
        seen[3, 5::7] = 0.0
    seen_values, seen_seasons = network.look(seen, 20)
    slots, tokens, mean, spread = network(seen_values, 20, None, seen_seasons)
    slots = slots.detach().numpy()
    token, slot = (index.numpy() for index in tokens.find(20))
    importance = weigh(x, seasons.period, measure).numpy()
    total = weights = 0.0
    for row in (0, 1, 3):
        for step in range(20):
            weight = importance[row] * (1 + step / 16) ** -0.5
            squeezed = np.arcsinh((target[row, step] - float(mean[row])) / float(spread[row]))
            squeezed = np.clip(squeezed, -farthest, farthest)
            answer = slots[row, token[row, step], slot[row, step]]
            total += weight * loss_of_loops(answer, squeezed)
            weights += weight
    actual = loss(network, teachers, series_with_gaps(), 20, seen=seen if has_faults else None)
    assert float(actual.detach()) == pytest.approx(total / weights, rel=1e-4)


def test_a_network_that_cannot_tell_windows_apart_learns_their_mixture():
    """The mean of the quantiles of two distributions is narrower."""
    network = shaken()
    levels = torch.tensor(QUANTILES)
    lesson = losses._Lesson
    normal = torch.distributions.Normal(0.0, 1.0).icdf(levels)
    target = torch.stack([normal - 3, normal + 3])[:, None]
    x = torch.zeros(2, 30)
    answer = torch.zeros(len(QUANTILES), requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        weight = torch.ones(2, 1)
        patch.setattr(losses, "_lesson", lambda *_: lesson(answer.expand(2, 1, -1), target, weight))
        optimizer = torch.optim.Adam([answer], lr=0.05)
        for _ in range(500):
            optimizer.zero_grad()
            expected_pinball(network, Teachers([network]), x, 1).backward()
            optimizer.step()
    low, high = (float(answer[QUANTILES.index(level)].detach()) for level in (0.1, 0.9))
    # Eight tenths of the mixture lie between -3.84 and 3.84, of the mean between -1.28 and 1.28.
    assert low == pytest.approx(-3.84, abs=0.3)
    assert high == pytest.approx(3.84, abs=0.3)


@pytest.mark.parametrize("loss", [distance, expected_pinball])
def test_only_the_network_that_learns_has_gradients(loss):
    network = shaken(measure="recent")
    teacher = shaken()
    loss(network, Teachers([teacher]), some_series(), 20).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(
    ("name", "loss"), [(None, distance), ("expected_pinball", expected_pinball)]
)
def test_steps_of_a_taught_run_follow_its_loss(monkeypatch, name, loss):
    monkeypatch.setattr(pretraining, "SHAPES", (shape := Shape(32, 48, 12, 1.0),))
    work = Pretraining(ZeroConfig(**SMALL), Recipe(10, seed=3, loss=name))
    work.teachers = Teachers([shaken()])
    rng = np.random.default_rng([3, 0])
    rng.choice(1, p=[1.0])
    x, _ = draw_batch(shape, rng)
    expected = float(loss(work.network, work.teachers, x, 48, 32).detach())
    assert work.advance() == pytest.approx(expected, rel=1e-6)


def test_a_taught_network_sees_faults_that_its_teachers_do_not(monkeypatch):
    monkeypatch.setattr(pretraining, "SHAPES", (shape := Shape(32, 48, 12, 1.0),))
    work = Pretraining(ZeroConfig(**SMALL), Recipe(10, seed=3, faults=0.9))
    work.teachers = Teachers([shaken()])
    rng = np.random.default_rng([3, 0])
    rng.choice(1, p=[1.0])
    x, _ = draw_batch(shape, rng)
    seen = torch.from_numpy(add_faults(x.numpy(), rng, 0.9))
    expected = float(distance(work.network, work.teachers, x, 48, 32, seen).detach())
    without_faults = float(distance(work.network, work.teachers, x, 48, 32).detach())
    assert work.advance() == pytest.approx(expected, rel=1e-6)
    assert without_faults != pytest.approx(expected, rel=1e-2)
