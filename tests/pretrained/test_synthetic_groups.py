"""Synthetic groups for training: shares, what columns are, and that their effect is what is told of
it.
"""

import numpy as np
import pytest

from tsattn.pretrained.groups import COUPLINGS, MAX_COLUMNS, Groups, make_groups

LENGTH = 160
HORIZON = 24


@pytest.fixture(scope="module")
def groups() -> Groups:
    return make_groups(1500, LENGTH, HORIZON, seed=3)


def strengths(groups: Groups) -> np.ndarray:
    """Deviation of the effect over that of the rest of the target."""
    rest = groups.target - groups.effect
    return np.asarray(groups.effect.std(axis=1) / np.nanstd(rest, axis=1))


def test_shapes(groups: Groups) -> None:
    assert groups.target.shape == groups.effect.shape == (1500, LENGTH + HORIZON)
    assert groups.columns.shape == (1500, MAX_COLUMNS, LENGTH + HORIZON)
    assert groups.known_ahead.shape == (1500, MAX_COLUMNS)
    assert groups.target.dtype == groups.columns.dtype == groups.effect.dtype == np.float32


def test_shares_are_those_of_the_docstring(groups: Groups) -> None:
    alone = groups.coupling == "none"
    assert abs(alone.mean() - 0.3) < 0.04
    for name, share in COUPLINGS.items():
        assert abs((groups.coupling[~alone] == name).mean() - share) < 0.04, name
    counts = np.bincount(groups.n_columns[~alone], minlength=MAX_COLUMNS + 1)
    assert counts[0] == 0
    assert (np.diff(counts[1:]) < 0).sum() >= 4  # fewer columns more often
    assert counts[MAX_COLUMNS] > 0


def test_a_seed_fixes_all() -> None:
    first, again, other = (make_groups(40, 96, 12, seed=seed) for seed in (5, 5, 6))
    for name, values in vars(first).items():
        np.testing.assert_array_equal(values, vars(again)[name])
    assert not np.array_equal(first.target, other.target)


def test_a_generator_moves_on() -> None:
    rng = np.random.default_rng(0)
    assert not np.array_equal(
        make_groups(4, 96, 12, seed=rng).effect, make_groups(4, 96, 12, seed=rng).effect
    )


def test_only_groups_without_an_active_column_have_no_effect(groups: Groups) -> None:
    still = np.abs(groups.effect).max(axis=1) == 0
    np.testing.assert_array_equal(still, np.isin(groups.coupling, ["none", "decoys"]))


def test_strengths_spread_over_their_range(groups: Groups) -> None:
    strength = strengths(groups)[~np.isin(groups.coupling, ["none", "decoys"])]
    assert 0.14 < strength.min() < 0.2
    assert 4.5 < strength.max() < 6.1
    assert 0.6 < np.median(strength) < 1.4


def test_unknown_is_only_the_horizon_of_past_columns(groups: Groups) -> None:
    missing = np.isnan(groups.columns)
    assert not missing[..., :LENGTH].any()
    np.testing.assert_array_equal(missing[..., LENGTH:].all(axis=2), ~groups.known_ahead)
    np.testing.assert_array_equal(missing[..., LENGTH:].any(axis=2), ~groups.known_ahead)
    leading = np.flatnonzero(groups.coupling == "leading")
    for row in leading:
        assert not groups.known_ahead[row, : groups.n_columns[row]].any()
    assert np.isfinite(groups.effect).all()
    assert (np.isnan(groups.target).mean(axis=1) < 0.7).all()


def test_columns_vary_and_there_are_none_beyond_the_count(groups: Groups) -> None:
    there = np.arange(MAX_COLUMNS) < groups.n_columns[:, None]
    deviation = np.std(groups.columns[..., :LENGTH], axis=2)
    # Of a rare event there may be none in the past.
    assert (deviation[there] > 0).mean() > 0.98
    assert (groups.columns[~there] == 0).all()


def test_no_column_is_a_copy_of_the_target() -> None:
    groups = make_groups(600, LENGTH, HORIZON, seed=1, couplings={"linear": 1.0})
    for target, columns, n in zip(groups.target, groups.columns, groups.n_columns, strict=True):
        for column in columns[:n]:
            both = np.isfinite(target) & np.isfinite(column)
            assert abs(np.corrcoef(target[both], column[both])[0, 1]) < 0.9999


def test_a_linear_effect_is_a_sum_of_columns() -> None:
    groups = make_groups(60, LENGTH, HORIZON, seed=2, couplings={"linear": 1.0})
    for effect, columns, n in zip(groups.effect, groups.columns, groups.n_columns, strict=True):
        rows = np.column_stack([np.ones(LENGTH), columns[:n, :LENGTH].T.astype(float)])
        fit = np.linalg.lstsq(rows, effect[:LENGTH].astype(float), rcond=None)[0]
        np.testing.assert_allclose(
            rows @ fit, effect[:LENGTH], atol=1e-3 * max(np.abs(effect).max(), 1e-6)
        )


@pytest.mark.parametrize("coupling", sorted(set(COUPLINGS) - {"decoys", "linear", "all"}))
def test_a_complication_is_no_sum_of_columns(coupling: str) -> None:
    groups = make_groups(60, LENGTH, HORIZON, seed=2, couplings={coupling: 1.0})
    # An event may fall beyond the past.
    has_effect = groups.effect[:, :LENGTH].std(1) > 0
    with_columns = groups.rows(np.flatnonzero((groups.n_columns > 0) & has_effect))
    assert len(with_columns.effect) > 30
    missed = []
    for effect, columns, n in zip(
        with_columns.effect, with_columns.columns, with_columns.n_columns, strict=True
    ):
        rows = np.column_stack([np.ones(LENGTH), columns[:n, :LENGTH].T.astype(float)])
        fit = np.linalg.lstsq(rows, effect[:LENGTH].astype(float), rcond=None)[0]
        missed.append(np.std(rows @ fit - effect[:LENGTH]) / np.std(effect[:LENGTH]))
    assert np.median(missed) > 0.1


def test_the_rest_knows_no_column() -> None:
    groups = make_groups(800, LENGTH, HORIZON, seed=4, couplings={"linear": 1.0})
    strong = np.flatnonzero((strengths(groups) > 2) & (groups.n_columns == 1))
    assert len(strong) > 20

    def correlations(values: np.ndarray) -> np.ndarray:
        pairs = ((values[row], groups.columns[row, 0]) for row in strong)
        both = ((a[np.isfinite(a + b)], b[np.isfinite(a + b)]) for a, b in pairs)
        return np.array([abs(np.corrcoef(a, b)[0, 1]) for a, b in both])

    # A trend of both is a chance that says nothing, so medians.
    assert np.median(correlations(groups.target)) > 0.85
    assert np.median(correlations(groups.target - groups.effect)) < 0.35


def test_rows_are_a_part(groups: Groups) -> None:
    part = groups.rows(np.array([7, 3]))
    np.testing.assert_array_equal(part.target, groups.target[[7, 3]])
    assert part.coupling.tolist() == groups.coupling[[7, 3]].tolist()


def test_no_groups_are_possible() -> None:
    assert make_groups(0, 96, 12, seed=0).columns.shape == (0, MAX_COLUMNS, 108)


@pytest.mark.parametrize(("n", "length", "horizon"), [(-1, 96, 12), (2, 15, 12), (2, 96, 0)])
def test_numbers_out_of_range_are_refused(n: int, length: int, horizon: int) -> None:
    with pytest.raises(ValueError, match=f"got {n}, {length} and {horizon}"):
        make_groups(n, length, horizon, seed=0)


def test_an_unknown_coupling_is_refused() -> None:
    with pytest.raises(ValueError, match="no coupling 'cubic'; choose from decoys, linear"):
        make_groups(2, 96, 12, seed=0, couplings={"cubic": 1.0})
