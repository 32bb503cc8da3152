"""Splits, windows, filling and scaling against slow, obvious versions."""

import numpy as np
import pandas as pd
import pytest
import torch
from tables import long_table, wide_table

from tsattn.data.frames import from_long, from_wide
from tsattn.data.schema import Schema
from tsattn.data.training_windows import Split, WindowBatches, WindowSpec
from tsattn.data.windows import History, Scaler, Values, make_scaler


def wide(values, **kwargs):
    values = np.asarray(values, dtype=float).reshape(len(values), -1)
    return from_wide(
        wide_table(values, [f"c{i}" for i in range(values.shape[1])]), Schema(**kwargs)
    )


def long(*series, **kwargs):
    return from_long(long_table(series, range(len(series))), Schema(**kwargs))


def test_split_of_published_shares():
    split = Split.from_shares(52696, "0.7,0.1,0.2")
    assert (split.train, split.valid, split.test) == (36887, 5270, 10539)
    assert split.bounds == (36887, 42157, 52696)
    assert Split.from_shares(26304, (0.7, 0.1, 0.2)) == Split(18412, 2632, 5260)


@pytest.mark.parametrize("shares", ["0.7,0.3", "a,b,c", "0.7,0.2,0.2", (1.0, 0.0, 0.0), None, 5])
def test_bad_shares_are_named(shares):
    with pytest.raises(ValueError, match="split needs three shares"):
        Split.from_shares(100, shares)


def test_empty_test_span_is_refused():
    with pytest.raises(ValueError, match="train >= 1"):
        Split(10, 5, 0)


def test_window_ends_equal_a_loop():
    panel = long(np.arange(30.0), np.arange(17.0), np.arange(9.0))
    spec = WindowSpec(context=5, horizon=3)
    first = np.array([0, 8, 4])
    stop = np.array([20, 17, 9])
    expected = [
        panel.starts[n] + end
        for n in range(3)
        for end in range(5, panel.lengths[n] + 1)
        if end >= first[n] and end + 3 <= stop[n]
    ]
    assert spec.ends(panel.starts, first, stop).tolist() == expected


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batches_equal_slices_and_drop_nothing(batch_size):
    values = torch.arange(60.0).view(30, 2)
    spec = WindowSpec(context=6, horizon=2)
    ends = np.array([6, 9, 10, 28])
    batches = WindowBatches(values, ends, spec, batch_size=batch_size)
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(batches) == -(-4 // batch_size)
    for i, end in enumerate(ends):
        assert torch.equal(x[i], values[end - 6 : end])
        assert torch.equal(y[i], values[end : end + 2])


def test_shuffling_is_the_generators_alone():
    values = torch.arange(40.0).view(40, 1)
    spec = WindowSpec(2, 1)
    ends = np.arange(2, 40)
    passes = []
    for _ in range(2):
        state = torch.random.get_rng_state()
        batches = WindowBatches(
            values, ends, spec, batch_size=5, generator=torch.Generator().manual_seed(3)
        )
        passes.append(torch.cat([y for _, y in batches]).flatten())
        again = torch.cat([y for _, y in batches]).flatten()
        assert torch.equal(state, torch.random.get_rng_state())
        assert not torch.equal(passes[-1], again)
    assert torch.equal(*passes)
    assert sorted(passes[0].tolist()) == ends.tolist()


def test_repeated_windows_are_as_many_passes_each_in_an_order_of_its_own():
    spec = WindowSpec(3, 2)
    values = torch.arange(12.0)[:, None]
    plain = WindowBatches(values, np.arange(3, 11), spec, batch_size=3)
    thrice = [x[:, 0, 0].tolist() for x, _ in plain.repeated(3)]
    assert thrice == 3 * [x[:, 0, 0].tolist() for x, _ in plain]
    assert len(plain.repeated(3)) == len(thrice) == 9
    shuffled = WindowBatches(
        values, np.arange(3, 11), spec, batch_size=8, generator=torch.Generator().manual_seed(0)
    ).repeated(2)
    first, second = (x[:, 0, 0].tolist() for x, _ in shuffled)
    assert first != second
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize(
    ("ends", "batch_size", "message"),
    [
        ([2, 5], 2, "ends must lie in rows 3 to 8.*; got 2"),
        ([5, 9], 2, "ends must lie in rows 3 to 8.*; got 9"),
        ([5], 0, "batch_size must be a whole number of at least 1; got 0"),
    ],
)
def test_batches_of_rows_that_are_not_there_are_refused(ends, batch_size, message):
    """Numbers below 0 would be rows at the end of the table."""
    values = torch.arange(10.0)[:, None]
    with pytest.raises(ValueError, match=message):
        WindowBatches(values, np.array(ends), WindowSpec(3, 2), batch_size=batch_size)


def test_windows_are_views_of_the_resident_tensor():
    values = torch.zeros(1000, 4)
    batches = WindowBatches(values, np.arange(100, 900), WindowSpec(100, 24), batch_size=8)
    assert batches._values.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_of_a_batch_make_the_batch(size):
    values = torch.arange(40.0)[:, None]
    ends = np.arange(5, 22)
    spec = WindowSpec(4, 2)

    def batches():
        return WindowBatches(
            values, ends, spec, batch_size=6, generator=torch.Generator().manual_seed(0)
        )

    shares = [list(batches().share(rank, size)) for rank in range(size)]
    for number, (x, y) in enumerate(batches()):
        mine = [share[number] for share in shares]
        assert [len(part[0]) for part in mine] == [
            len(range(rank, len(x), size)) for rank in range(size)
        ]
        for whole, parts in ((x, [part[0] for part in mine]), (y, [part[1] for part in mine])):
            assert torch.cat(parts).flatten(1).sort(0)[0].equal(whole.flatten(1).sort(0)[0])
    assert {len(share) for share in shares} == {len(batches())}


def brute_fill(values, end, policy):
    """Fill one column up to ``end`` with nothing but what stands before ``end``."""
    known = pd.Series(values[:end])
    return (known.interpolate() if policy == "interpolate" else known.ffill()).to_numpy()


@pytest.mark.parametrize("policy", ["interpolate", "ffill"])
def test_filling_uses_only_what_was_known_at_the_cutoff(policy):
    rng = np.random.default_rng(0)
    columns = [np.where(rng.random(40) < 0.4, np.nan, rng.normal(size=40)) for _ in range(3)]
    for column in columns:
        column[0] = 1.0
    panel = wide(np.stack(columns, axis=1), missing=policy)
    history = History(panel)
    for end in range(5, 41):
        x = history.contexts(panel.starts[:-1] + end, 5)
        for c, column in enumerate(columns):
            np.testing.assert_allclose(
                x[c, :, 0], brute_fill(column, end, policy)[-5:], rtol=1e-12, err_msg=f"{end} {c}"
            )


def test_a_later_value_changes_no_earlier_context():
    values = np.array([1.0, 2, np.nan, np.nan, 5, 6, np.nan, 8])
    other = values.copy()
    other[4] = 500.0
    before = History(wide(values, missing="interpolate")).contexts(np.array([4]), 4)
    after = History(wide(other, missing="interpolate")).contexts(np.array([4]), 4)
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before[0, :, 0], [1, 2, 2, 2])


def test_futures_keep_what_is_missing():
    panel = wide([1.0, 2, np.nan, 4], missing="ffill")
    assert np.isnan(History(panel).futures(np.array([2]), 2)[0, 0, 0])


def test_scaler_is_population_and_sees_only_the_first_rows():
    rng = np.random.default_rng(1)
    panel = wide(rng.normal(5, 3, size=(50, 2)))
    scaler = make_scaler(panel, 30)
    np.testing.assert_allclose(scaler.mean[0], panel.values[:30].mean(0), rtol=1e-13)
    np.testing.assert_allclose(scaler.scale[0], panel.values[:30].std(0), rtol=1e-13)


def test_scaler_per_series_with_gaps_and_constants():
    panel = long([1.0, np.nan, 3.0, 99.0], [7.0] * 5, [0.1, 0.1, 0.1, 0.2], missing="ffill")
    scaler = make_scaler(panel, np.array([3, 5, 3]))
    np.testing.assert_allclose(scaler.mean[:, 0], [2.0, 7.0, 0.1])
    np.testing.assert_allclose(scaler.scale[:, 0], [1.0, 1.0, 1.0])


def bounded_series():
    """Rows with bounds, without, and with values that only look like bounds."""
    rng = np.random.default_rng(3)
    t = np.arange(120.0)
    free = rng.normal(size=120)
    counts = rng.poisson(1.5, 120).astype(float)
    rows = [
        counts,
        -counts,
        free,
        np.clip(free, -1, 1),
        np.clip(free, -3, 0.5) + 7e5,
        np.full(120, 3.0),
    ]
    rows += [np.maximum(0, t - 40), np.maximum(0, 80 - t), np.where(t % 30 == 0, 0.0, 1 + free**2)]
    holes = counts.copy()
    seldom = np.maximum(np.sort(free)[3], free)
    holes[rng.random(120) < 0.4] = np.nan
    short, just, none = np.full((3, 120), np.nan)
    short[-31:], just[-32:] = counts[-31:], counts[-32:]
    return np.array([*rows, holes, seldom, short, just, none])


def test_bounds_are_those_of_loops():
    x = bounded_series()
    right = []
    for row in x:
        known = row[np.isfinite(row)]
        parts = [
            [v for k, v in enumerate(known) if 4 * k // len(known) == part] for part in range(4)
        ]

        def often(end, known=known, parts=parts):
            return len(known) >= 32 and all(
                sum(v == end for v in part) >= len(known) / 80 for part in parts
            )

        low, high = (known.min(), known.max()) if len(known) else (0, 0)
        right.append([low if often(low) else -np.inf, high if often(high) else np.inf])
    # Two channels, of windows that nobody may write to.
    windows = np.stack([x, x[::-1]], axis=2)
    windows.flags.writeable = False
    lower, upper, *_ = Values.after(windows)
    bounds = np.concatenate([lower[..., 0], upper[..., 0]], axis=1)
    np.testing.assert_array_equal(bounds, right)
    np.testing.assert_array_equal(lower[::-1, :, 1], lower[..., 0])
    np.testing.assert_array_equal(upper[::-1, :, 1], upper[..., 0])
    # Counts, counts with holes, and 32 of them have a floor; what is touched only early, late, or
    # seldom has none.
    assert np.isfinite(bounds).tolist() == [
        *(
            [
                [True, False],
                [False, True],
                [False, False],
                [True, True],
                [False, True],
                [True, True],
            ]
        ),
        *([[False, False]] * 3),
        *([[True, False], [False, False], [False, False], [True, False], [False, False]]),
    ]


def test_zero_is_a_bound_after_a_fall_to_it():
    rng = np.random.default_rng(7)
    steady = 50 + rng.normal(size=60)
    slow = np.maximum(0.0, 57.0 - np.arange(60))
    few = np.full(60, np.nan)
    few[-4:] = [9.0, 8.0, 0.0, 0.0]
    rows = {
        "closed": (np.append(steady, [0, 0]), True),
        "closed for long": (np.append(steady, np.zeros(20)), True),
        "closed, with gaps before": (
            np.append(np.where(steady > 50, steady, np.nan), [0, 0]),
            True,
        ),
        "one zero": (np.append(steady, 0), False),
        "zeros before the end": (np.append(steady, [0, 0, 48]), False),
        "negative": (np.append(steady - 60, [0, 0]), False),
        "a slow fall": (slow, False),
        "wild": (np.append(20 * rng.random(60), [0, 0]), False),
        "few values": (few, True),
        "no pair of values": (few[-3:], False),
    }
    for name, (row, is_bound) in rows.items():
        lower = Values.after(row[None, :, None]).lower.item()
        assert lower == (0 if is_bound else -np.inf), name


def test_counts_stop_at_zero_and_temperatures_do_not():
    rng = np.random.default_rng(11)
    counts = rng.poisson(3.0, 100).astype(float)
    zeros = np.flatnonzero(counts == 0)
    # Too few, in two quarters, to be touched often.
    counts[zeros] = 1.0
    counts[[3, 60]] = 0.0
    cooling = np.linspace(30, 0, 100).round()
    rows = {
        "counts": (counts, True),
        "sizes by half a step": (0.5 * counts, True),
        "no whole steps": (counts + 0.3 * (counts > 2), False),
        "zeros of one quarter": (np.where(np.arange(100) == 3, 1.0, counts), False),
        "cooling": (cooling, False),
        "from one on": (counts + 1, False),
        "with a negative value": (np.where(np.arange(100) == 9, -1.0, counts), False),
    }
    for name, (row, is_bound) in rows.items():
        lower = Values.after(row[None, :, None]).lower.item()
        assert lower == (0 if is_bound else -np.inf), name


def test_a_glance_misses_no_bound_and_no_grid():
    rng = np.random.default_rng(3)
    touching = rng.normal(size=(4, 80))
    touching[:2, ::20] = touching[:2].min(axis=1, keepdims=True) - 1
    touching[2:, ::20] = touching[2:].max(axis=1, keepdims=True) + 1
    grids = np.tile(np.arange(66.0), (4, 4))
    grids[:2] = 10 + np.where(grids[:2] > 64, 64, grids[:2])
    bounded = [True] * 4 + [False] * 4
    gridded = [False] * 4 + [True, True, False, False]
    for x, bounds, steps in (
        (touching, bounded[:4], gridded[:4]),
        (grids, bounded[4:], gridded[4:]),
    ):
        windows = x[:, :, None]
        ends = windows.min(axis=1, keepdims=True), windows.max(axis=1, keepdims=True)
        actual = Values.after(windows)
        for one, slow in zip(actual, Values._among(windows, *ends), strict=True):
            np.testing.assert_array_equal(one, slow)
        assert (np.isfinite(actual.lower) | np.isfinite(actual.upper)).ravel().tolist() == bounds
        assert (actual.step > 0).ravel().tolist() == steps


def gridded_series():
    """Rows on a grid, and rows that only look like it; their steps, 0 for none."""
    rng = np.random.default_rng(5)
    counts = rng.poisson(2.0, 100).astype(float)
    steps = rng.choice([-1.0, 1.0], 100)
    holes = np.where(rng.random(100) < 0.5, np.nan, counts)
    twenty = counts.copy()
    wide = counts.copy()
    odd = counts.copy()
    twenty[20:], wide[7], odd[7] = np.nan, 65 + counts.min(), 2.3517
    many = np.concatenate([np.arange(50.0), np.full(50, np.nan)])
    rows = [
        (counts, 1),
        (0.1 * counts - 7, 0.1),
        (1e300 * counts, 1e300),
        (1e5 + 1e-3 * counts, 1e-3),
        (np.cumsum(steps), 1),
        (holes, 1),
        *[(each, 0) for each in (twenty, wide, odd, many, rng.normal(size=100), np.full(100, 4.0))],
        (np.where(np.arange(100) % 3, 1e308, -1e308), 0),
        (np.full(100, np.nan), 0),
    ]
    return np.array([row for row, _ in rows]), np.array([float(step) for _, step in rows])


def test_grids_are_found_and_forecasts_move_onto_them():
    x, steps = gridded_series()
    values = Values.after(x[:, :, None])
    np.testing.assert_allclose(values.step.ravel(), steps, rtol=1e-6)
    forecast = (
        np.nan_to_num(x[:, 1])[:, None, None, None]
        + np.linspace(-1, 1, 9) * 0.9 * np.where(steps > 0, steps, 1)[:, None, None, None]
    )
    moved = values.nearest(forecast)
    assert moved.shape == forecast.shape
    assert (np.diff(moved, axis=3) >= 0).all()
    for row, (step, before, after) in enumerate(zip(steps, forecast, moved, strict=True)):
        if step == 0:
            free = np.clip(before, values.lower[row, 0, 0], values.upper[row, 0, 0])
            np.testing.assert_array_equal(after, free)
            continue
        place = (after - np.nanmin(x[row])) / step
        np.testing.assert_allclose(place, np.rint(place), rtol=0, atol=1e-6)
        within = np.clip(before, values.lower[row, 0, 0], values.upper[row, 0, 0])
        assert np.abs(after - within).max() <= step * (0.5 + 1e-6)
    np.testing.assert_array_equal(values.nearest(forecast[..., 4]), moved[..., 4])


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_series_without_rows_leaves_the_statistics_of_others(empty):
    stops = np.full(3, 4)
    stops[empty] = 0
    scaler = make_scaler(long(*[[0.0, 2.0, 4.0, 6.0, 50.0]] * 3), stops)
    expected = np.where(stops, np.sqrt(5.0), 1.0)
    np.testing.assert_allclose(scaler.scale[:, 0], expected)
    np.testing.assert_array_equal(scaler.mean[:, 0], np.where(stops, 3.0, 0.0))


def test_a_scaler_takes_the_statistics_of_series_without_a_place_from_another():
    known = Scaler(np.array([[1.0], [2.0]]), np.array([[3.0], [4.0]]))
    others = Scaler(np.array([[5.0], [6.0]]), np.array([[7.0], [8.0]]))
    chosen = known.at(np.array([1, -1]), others)
    assert chosen.mean.tolist() == [[2.0], [6.0]]
    assert chosen.scale.tolist() == [[4.0], [8.0]]
