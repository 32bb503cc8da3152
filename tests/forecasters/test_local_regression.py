"""What the columns contribute inside a window, against a regression written row by row."""

import numpy as np
import pytest
import torch

from tsattn.forecasters.local_regression import LocalRegression

H = 6


def windows(n=3, rows=160, n_columns=2, n_past=1, seed=0):
    """A day of eight hours, noise, and columns that matter; gaps, and one window that
    begins late.
    """
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(n, rows + H, n_columns)).cumsum(axis=1) * 0.3
    past = rng.normal(size=(n, rows, n_past))
    day = np.sin(2 * np.pi * np.arange(rows) / 8) * rng.uniform(0.5, 2, (n, 1))
    y = 50 + 9 * (day + 2 * columns[:, :rows, 0] + 0.3 * rng.normal(size=(n, rows)))
    y[0, 20:24] = np.nan
    y[-1, :30] = np.nan
    return y, columns, past


# --- the same, row by row -------------------------------------------------------------------------


def moments(values, rows):
    chosen = [values[t] for t in rows]
    mean = sum(chosen) / len(chosen)
    return mean, np.sqrt(sum((v - mean) ** 2 for v in chosen) / len(chosen))


def features_by_hand(own, columns, past, begun, memory):
    """A list of features for each row of one window."""
    n_rows = len(past)
    features = []
    scaled = [
        [(v - m) / s for v in column] for column in columns.T for m, s in [moments(column, begun)]
    ]
    earlier = [
        [(v - m) / s for v in column] for column in past.T for m, s in [moments(column, begun)]
    ]
    for t in range(len(columns)):
        values = [z[t] for z in scaled]
        bounded = [
            min(max(z[t], min(z[i] for i in memory)), max(z[i] for i in memory)) for z in scaled
        ]
        row = values + [0.4 * (b * b - 1) for b in bounded]
        row += [0.4 * max(b - 0.7, 0) for b in bounded] + [0.4 * max(-b - 0.7, 0) for b in bounded]
        for lag in (1, 3):
            row += [z[max(t - lag, 0)] for z in scaled]
        row += [z[min(max(t - own.horizon, 0), n_rows - 1)] for z in earlier]
        features.append(row)
    return np.array(features)


def penalised(rows, targets, penalty, n_waves):
    penalties = [1e-4] * n_waves + [penalty] * (len(rows[0]) - n_waves)
    matrix = sum(np.outer(r, r) for r in rows) / len(rows) + np.diag(penalties)
    return np.linalg.solve(
        matrix, sum(r * y for r, y in zip(rows, targets, strict=True)) / len(rows)
    )


def factors_by_hand(weights, column, n_waves):
    """A column whose squared weights are a fifth of the largest column's or more counts whole."""
    parts = dict.fromkeys(column, 0.0)
    for weight, own in zip(weights[n_waves:], column, strict=True):
        parts[own] += weight**2
    clear = 0.2 * max(parts.values())
    factors = [min(max(parts[own] / clear, 0.05), 1.0) for own in column]
    return np.array([1.0] * n_waves + factors)


def out_of_fold(rows, targets, usable, fold, n_waves, column):
    """Weights without each fold, and of all rows at the penalty that misses least."""
    ones = [np.ones(len(rows[0]))] * 9

    def fitted(penalty, factors):
        width = n_waves if penalty is None else len(rows[0])
        weights = []
        error = 0.0
        for k, factor in zip((*range(8), None), factors, strict=True):
            learn = [t for t in usable if fold[t] != k]
            w = np.zeros(len(rows[0]))
            if width:
                w[:width] = penalised(
                    [(rows[t] * factor)[:width] for t in learn],
                    [targets[t] for t in learn],
                    penalty,
                    n_waves,
                )
            w = w * factor
            error += sum((targets[t] - rows[t] @ w) ** 2 for t in usable if fold[t] == k)
            weights.append(w)
        return error, weights

    def least(results):
        return min(results, key=lambda each: each[0])[1]

    penalties = (0.003, 0.03, 0.3, 3.0)
    first = [fitted(penalty, ones) for penalty in penalties]
    factors = [factors_by_hand(w, column, n_waves) for w in least(first)]
    second = [fitted(penalty, factors) for penalty in penalties]
    return [w[n_waves:] for w in least([*first, fitted(None, ones), *second])]


def effect_by_hand(own, y, columns, past, reach):
    n_rows = len(y)
    memory = range(n_rows - reach, n_rows)
    usable = [t for t in memory if not np.isnan(y[t])]
    begun = [t for t in memory if t >= usable[0]]
    level, spread = moments(y, usable)
    target = [0.0 if np.isnan(v) else (v - level) / spread for v in y]
    features = features_by_hand(own, columns, past, begun, memory)
    features = features - np.mean([features[t] for t in usable], axis=0)
    block = max(min(24, len(begun) // 16), 1)
    fold = [(n_rows - 1 - t) // block % 8 if t in memory else -1 for t in range(n_rows)]
    waves = []
    for t in range(n_rows):
        angles = [2 * np.pi * k * t / own.season for k in range(1, min(4, own.season // 2) + 1)]
        waves.append([1.0] + [f(a) for a in angles for f in (np.sin, np.cos)])
    n_waves = len(waves[0])
    beside = [np.array([*w, *f]) for w, f in zip(waves, features, strict=False)]
    # Values, a square, two hinges and two lags of each column, and earlier values of the past ones.
    n_columns = columns.shape[1]
    column = [*range(n_columns)] * 6 + [n_columns + k for k in range(past.shape[1])]
    levels = out_of_fold(beside, target, usable, fold, n_waves, column)
    lag = own.season
    pairs = [t for t in usable if t - lag in usable]
    changes = {t: features[t] - features[t - lag] for t in pairs}
    differences = {t: target[t] - target[t - lag] for t in pairs}
    steps = out_of_fold(
        [changes.get(t, features[0]) for t in range(n_rows)],
        [differences.get(t, 0.0) for t in range(n_rows)],
        pairs,
        fold,
        0,
        column,
    )
    effect = []
    for t in range(len(columns)):
        k = fold[t] if t < n_rows and fold[t] >= 0 else 8
        effect.append((features[t] @ levels[k] + features[t] @ steps[k]) / 2)
    moved = [effect[t] - effect[t - lag] for t in pairs]
    slope = sum(m * differences[t] for m, t in zip(moved, pairs, strict=True)) / sum(
        m * m for m in moved
    )
    missed = sum((differences[t] - slope * m) ** 2 for m, t in zip(moved, pairs, strict=True))
    doubt = missed / (len(pairs) / 24 * slope**2 * sum(m * m for m in moved))
    return np.array(effect) * min(max(slope, 0), 1) * max(1 - doubt, 0) * spread


@pytest.mark.parametrize("memories", [(1024,), (120, 1024)])
def test_effects_are_those_of_a_loop(memories):
    own = LocalRegression(horizon=H, season=8, memories=memories)
    y, columns, past = windows()
    effect = own.effects(y, columns, past)
    for b in range(len(y)):
        expected = [
            effect_by_hand(own, y[b], columns[b], past[b], min(m, y.shape[1])) for m in memories
        ]
        np.testing.assert_allclose(effect[b], np.mean(expected, axis=0), rtol=1e-6, atol=1e-8)
        assert np.abs(effect[b]).max() > 1


# --- what it promises -----------------------------------------------------------------------------


def test_columns_that_matter_are_recovered_and_their_scale_does_not_matter():
    own = LocalRegression(horizon=H, season=8)
    y, columns, past = windows(rows=400)
    effect = own.effects(y, columns, past)
    truth = 18 * columns[..., 0]
    for b in range(len(y)):
        assert np.corrcoef(effect[b], truth[b])[0, 1] > 0.97
    moved = own.effects(3 * y - 7, 5 * columns + 2, 0.1 * past)
    np.testing.assert_allclose(moved, 3 * effect, rtol=1e-6, atol=1e-6)


def test_torchs_default_device_moves_nothing():
    """On ``meta`` a tensor without a device of its own would have no numbers."""
    own = LocalRegression(horizon=H, season=8)
    effect = own.effects(*windows())
    with torch.device("meta"):
        np.testing.assert_array_equal(own.effects(*windows()), effect)


def test_a_window_does_not_depend_on_the_others():
    own = LocalRegression(horizon=H, season=8)
    y, columns, past = windows(n=5)
    together = own.effects(y, columns, past)
    for b in range(5):
        np.testing.assert_allclose(
            own.effects(y[[b]], columns[[b]], past[[b]])[0], together[b], rtol=1e-9, atol=1e-9
        )


@pytest.mark.parametrize("rows", [15, 40, 111, 300])
def test_rows_before_the_first_value_tell_nothing(rows):
    own = LocalRegression(horizon=H, season=8, cycle=56)
    y, columns, past = windows(rows=rows)
    y[-1] = np.where(np.isnan(y[-1]), 50.0, y[-1])
    alone = own.effects(y, columns, past)
    front = 2000 - rows
    # As a short series stands among longer ones: its first row is repeated.
    longer = own.effects(
        np.concatenate([np.full((len(y), front), np.nan), y], axis=1),
        np.concatenate([np.repeat(columns[:, :1], front, axis=1), columns], axis=1),
        np.concatenate([np.repeat(past[:, :1], front, axis=1), past], axis=1),
    )
    np.testing.assert_allclose(longer[:, front:], alone, rtol=1e-9, atol=1e-9)
    # Windows that begin at different rows, in one call.
    y[1, : rows // 3] = np.nan
    own_effects = [own.effects(y[[b]], columns[[b]], past[[b]])[0] for b in range(len(y))]
    np.testing.assert_allclose(own.effects(y, columns, past), own_effects, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["noise", "walks", "season"])
def test_columns_that_do_not_matter_contribute_nearly_nothing(kind):
    rng = np.random.default_rng(3)
    rows = 300
    n = 40
    y = np.sin(2 * np.pi * np.arange(rows) / 8) + rng.normal(size=(n, rows))
    columns = rng.normal(size=(n, rows + H, 4))
    if kind == "walks":
        columns = columns.cumsum(axis=1)
    if kind == "season":
        columns = columns / 5 + np.sin(2 * np.pi * np.arange(rows + H) / 8)[:, None]
    effect = LocalRegression(horizon=H, season=8).effects(y, columns, np.empty((n, rows, 0)))
    assert np.sqrt((effect[:, rows:] ** 2).mean()) < 0.06
    # In-sample effects would follow the noise.
    assert (effect[:, :rows] * (y - y.mean(axis=1, keepdims=True))).mean() < 0.02


def test_columns_that_do_not_matter_hardly_disturb_one_that_does():
    rng = np.random.default_rng(5)
    n, rows = 30, 300
    columns = rng.normal(size=(n, rows + H, 10)).cumsum(axis=1)
    truth = 2 * columns[..., 0]
    y = truth[:, :rows] + rng.normal(size=(n, rows))
    no_past = np.empty((n, rows, 0))

    def error(own, n_columns):
        effect = own.effects(y, columns[..., :n_columns], no_past)
        moved = np.diff(effect[:, rows - 1 :] - truth[:, rows - 1 :])
        return np.abs(moved).mean()

    own = LocalRegression(horizon=H)
    without_factors = LocalRegression(horizon=H, least_factor=1.0)
    alone = error(own, 1)
    assert error(without_factors, 10) > 1.5 * alone
    assert error(own, 10) < 1.2 * alone


def test_what_a_column_was_before_is_read_among_a_dozen():
    rng = np.random.default_rng(6)
    n, rows = 8, 300
    columns = rng.normal(size=(n, rows + H, 13))
    truth = 2 * np.concatenate([columns[:, :1, 0], columns[:, :-1, 0]], axis=1)
    y = truth[:, :rows] + 0.3 * rng.normal(size=(n, rows))
    effect = LocalRegression(horizon=H).effects(y, columns, np.empty((n, rows, 0)))
    missed = effect[:, rows:] - truth[:, rows:]
    assert np.abs(missed).mean() < 0.2


def test_steps_that_are_not_known_are_missing_and_the_others_stay():
    own = LocalRegression(horizon=H, season=8)
    y, columns, past = windows()
    effect = own.effects(y, columns, past)
    columns[1, -2] = np.nan
    lacking = own.effects(y, columns, past)
    assert np.isnan(lacking[1, -2])
    np.testing.assert_array_equal(lacking[1, :-2], effect[1, :-2])
    np.testing.assert_array_equal(lacking[[0, 2]], effect[[0, 2]])


@pytest.mark.parametrize("scale", [0.0, 1e-150, 1e150])
def test_windows_of_any_size_and_constants(scale):
    own = LocalRegression(horizon=H, season=8)
    y, columns, past = windows(rows=100)
    effect = own.effects(scale * y, columns, past)
    if scale:
        np.testing.assert_allclose(effect / scale, own.effects(y, columns, past), rtol=1e-6)
    else:
        np.testing.assert_array_equal(effect, 0)


def test_a_column_without_a_past_contributes_nothing():
    y, columns, past = windows()
    columns[:] = 1.0
    columns[:, -3:, 0] = 2.0  # its first holiday lies ahead
    effect = LocalRegression(horizon=H, season=8).effects(y, columns, past[..., :0])
    np.testing.assert_array_equal(effect, 0)


def test_many_columns_have_fewer_features():
    y, columns, past = windows(n_columns=18)
    own = LocalRegression(horizon=H, season=8)
    plain = LocalRegression(horizon=H, season=8, lags=())
    np.testing.assert_array_equal(own.effects(y, columns, past), plain.effects(y, columns, past))
    assert not np.array_equal(
        own.effects(y, columns, past), own.effects(y, columns, past, numeric=np.arange(1))
    )
