"""Features of windows and steps in pairs, beside those of a loop."""

import numpy as np
import pytest

from tsattn.forecasters.step_features import StepFeatures

LAYOUTS = {
    "everything": StepFeatures(15, 9, (7, 3), n_future=2, n_calendar=2, n_past=1, n_static=2),
    "no season": StepFeatures(5, 3, n_future=1),
    "a context of one row": StepFeatures(1, 4, (1,), n_calendar=3, n_past=2),
    "a season as long as the context": StepFeatures(6, 8, (6,), n_future=1, n_static=1),
    "values alone": StepFeatures(20, 2, (7,)),
}


def drawn(layout, n=5, seed=0):
    rng = np.random.default_rng(seed)
    known = rng.normal(
        size=(n, layout.context + layout.horizon, layout.n_future + layout.n_calendar)
    )
    past = rng.normal(size=(n, layout.context, layout.n_past))
    static = rng.normal(size=(n, layout.n_static))
    parts = {"known": known, "past": past, "static": static}
    z = rng.normal(size=(n, layout.context))
    steps = rng.permuted(np.tile(np.arange(layout.horizon), (n, 1)), axis=1)[:, :2]
    return z, parts, steps


def by_hand(layout, z, known, past, static, step):
    """Features of one window and one step."""
    t = layout.context
    f = layout.horizon
    cycles = layout.cycles
    before = max(t + step - f, 0)
    phase = {}
    for cycle in cycles:
        row = t + step
        while row >= t:
            row -= cycle
        phase[cycle] = row
    features = [step + 1, *z[::-1][:8], z[before], z.mean()]
    for cycle in cycles:
        features.append(z[t - cycle :].mean())
        if t >= 2 * cycle:
            features.append(z[t - 2 * cycle : t - cycle].mean())
        if t > cycle:
            features.append(z[t - 1] - z[t - 1 - cycle])
    for cycle in cycles:
        seasons = [z[phase[cycle] - k * cycle] for k in range(t // cycle)]
        features += seasons[:3]
        if len(seasons) > 1:
            features.append(np.mean(seasons))
        features += [z[max(phase[cycle] - 1, 0)], z[min(phase[cycle] + 1, t - 1)]]
    features += known[t + step].tolist()
    for k in range(layout.n_future):
        column = known[:, k]
        features += [column[phase[cycle]] for cycle in cycles]
        spans = {3, cycles[-1]} if cycles else {3}
        features += [
            column[t + step + 1 - span : t + step + 1].mean() for span in sorted(spans) if span <= t
        ]
        features.append(column[:t].mean())
    for k in range(layout.n_past):
        column = past[:, k]
        features += [
            column[-1],
            column.mean(),
            column[before],
            *(column[phase[cycle]] for cycle in cycles),
        ]
    return [*features, *static]


@pytest.mark.parametrize("name", LAYOUTS)
def test_features_are_those_of_a_loop(name):
    layout = LAYOUTS[name]
    z, parts, steps = drawn(layout)
    rows = layout.rows(z, parts, steps)
    assert rows.dtype == np.float32
    assert rows.shape == (steps.size, layout.width)
    expected = [
        by_hand(layout, z[n], *(parts[part][n] for part in ("known", "past", "static")), step)
        for n in range(len(z))
        for step in steps[n]
    ]
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


def test_nothing_after_the_step_is_read():
    layout = LAYOUTS["everything"]
    z, parts, _ = drawn(layout)
    steps = np.full((len(z), 1), 4)
    later = parts["known"].copy()
    later[:, layout.context + 5 :] = np.nan
    unlike = layout.rows(z, {**parts, "known": later}, steps)
    np.testing.assert_array_equal(unlike, layout.rows(z, parts, steps))
    own = parts["known"].copy()
    own[:, layout.context + 4] += 1
    assert not np.array_equal(layout.rows(z, {**parts, "known": own}, steps), unlike)
