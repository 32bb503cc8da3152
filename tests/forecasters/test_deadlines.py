"""Work under a time limit, measured by a clock that only the work moves."""

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import HistGradientBoostingRegressor
from tables import long_table

from tsattn.data.frames import to_panel
from tsattn.forecasters import deadlines
from tsattn.forecasters.deadlines import (
    OutOfTime,
    fit_boosted,
    fit_in_time,
    load_in_time,
    recent_rows,
    require_seconds,
    seconds_left,
    spread_order,
    time_limit,
    work_at_once,
    work_in_time,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock, the seconds of which are an attribute."""
    clock = SimpleNamespace(seconds=0.0, monotonic=lambda: clock.seconds)
    monkeypatch.setattr(deadlines, "time", clock)
    return clock


def panel_of(*lengths):
    return to_panel(long_table([np.arange(n, dtype=float) for n in lengths], freq="D"))


def fits(clock, seconds_of):
    """A fit that takes some seconds, and the rows of its calls."""
    rows = []

    def fit(panel):
        rows.append(len(panel.values))
        clock.seconds += seconds_of(len(panel.values))

    return fit, rows


@pytest.mark.parametrize("power", [1.0, 1.5])
@pytest.mark.parametrize("seconds", [3.0, 10.0, 60.0])
def test_fits_end_in_time_and_on_as_many_rows_as_time_allows(clock, power, seconds):
    fit, rows = fits(clock, lambda n: (n / 1000) ** power)
    fit_in_time(fit, panel_of(20_000), seconds, series_rows=256)
    # A cost that grows faster than rows is underestimated by its growth over one step.
    assert clock.seconds <= seconds * 4 ** (power - 1) + 1e-9
    assert rows == sorted(rows)
    if power == 1:
        assert rows[-1] == {3.0: 1000, 10.0: 4000, 60.0: 20_000}[seconds]


def test_a_table_that_is_fitted_quickly_is_fitted_whole(clock):
    fit, rows = fits(clock, lambda n: n / 1e6)
    fit_in_time(fit, panel_of(20_000), 5.0, series_rows=256)
    assert rows == [1000, 20_000]
    fit_in_time(fit, panel_of(1900), 5.0, series_rows=256)
    fit_in_time(fit, panel_of(20_000), np.inf, series_rows=256)
    assert rows[2:] == [1900, 20_000]


def test_a_cost_that_does_not_depend_on_rows_is_no_cost_of_more_rows(clock):
    """By its mean cost of a row, a fit on all rows would take 39 seconds instead of 15."""
    fit, rows = fits(clock, lambda n: 5.0 + n / 2000)
    fit_in_time(fit, panel_of(20_000), 40.0, series_rows=256)
    assert rows == [1000, 4000, 20_000]
    assert clock.seconds <= 40


def test_a_later_fit_begins_with_the_rows_of_an_earlier_one(clock):
    fit, rows = fits(clock, lambda n: n / 1000)
    earlier = fit_in_time(fit, panel_of(20_000), 10.0, series_rows=256)
    assert earlier == (4.0, 4000)
    later = fit_in_time(fit, panel_of(20_000), 10.0, series_rows=256, n_rows=earlier.n_rows)
    assert later == earlier
    assert rows == [1000, 4000, 4000]


def test_a_fit_whose_pace_is_unknown_ends_in_time(clock):
    """A fit that looks at the clock every second is stopped. The fit before it counts, if any."""
    rows = []
    steps = iter([100, 1, 100])

    def fit(panel):
        rows.append(len(panel.values))
        for _ in range(next(steps)):
            clock.seconds += 1.0
            require_seconds()

    with pytest.raises(OutOfTime):
        fit_in_time(fit, panel_of(20_000), 5.0, series_rows=256)
    assert clock.seconds == 5
    assert seconds_left() == np.inf
    assert fit_in_time(fit, panel_of(20_000), 12.0, series_rows=256) == (1.0, 1000)
    assert rows == [1000, 1000, 4000]
    assert clock.seconds == 5 + 12


def test_the_earliest_of_limits_inside_one_another_counts(clock):
    with time_limit(3.0):
        with time_limit(8.0):
            require_seconds(2.9)
            with pytest.raises(OutOfTime):
                require_seconds(3.0)
        with time_limit(1.0):
            assert seconds_left() == 1
        assert seconds_left() == 3
    require_seconds(1e9)


class SlowLearner(BaseEstimator):
    """1,000 rows take four seconds to prepare, and a fifth for each tree that is added."""

    def __init__(
        self,
        clock=None,
        slowed=1.0,
        max_iter=200,
        early_stopping=False,
        validation_fraction=0.1,
        scoring="loss",
        n_iter_no_change=10,
        tol=1e-7,
    ):
        self.clock = clock
        self.slowed = slowed
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.scoring = scoring
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol

    def fit(self, features, target):
        assert features[:, 0].tolist() == target.tolist()
        size = len(target) / 1000
        self.clock.seconds += 4 * size
        self.n_trees_ = 0
        self.target_ = target
        if self.early_stopping:
            assert (self.n_iter_no_change, self.tol, self.validation_fraction) == (1, 0.0, None)
            score = self.scoring(self, features, target)
        while self.n_trees_ < self.max_iter:
            # Those after the tenth one may take longer than was seen.
            slowed = self.slowed if self.n_trees_ >= 10 else 1.0
            self.clock.seconds += slowed * size / 5
            self.n_trees_ += 1
            if self.early_stopping:
                before, score = score, self.scoring(self, features, target)
                if score <= before:
                    break
        return self


ROWS = np.arange(1000.0)


@pytest.mark.parametrize(
    ("seconds", "n_rows"), [(12.0, 121), (20.0, 272), (44.5, 1000), (80.0, 1000), (np.inf, 1000)]
)
def test_boosting_learns_from_as_many_rows_as_the_time_allows(clock, seconds, n_rows):
    """All rows take 44 seconds, 52.8 with a margin. The first eight trees take 5.6."""
    learner = SlowLearner(clock)
    settings = learner.get_params()
    with time_limit(seconds):
        assert fit_boosted(learner, ROWS[:, None], ROWS) is learner
    assert learner.n_trees_ == 200
    assert learner.get_params() == settings
    assert len(learner.target_) == n_rows
    # Drawn ones are spread over all of them.
    assert abs(learner.target_.mean() - 499.5) < 60
    assert clock.seconds <= seconds


@pytest.mark.parametrize(("slowed", "n_trees"), [(1.1, 200), (1.5, 190), (2.2, 132)])
def test_boosting_that_takes_longer_than_expected_ends_with_fewer_trees(clock, slowed, n_trees):
    with time_limit(60.0):
        learner = fit_boosted(SlowLearner(clock, slowed), ROWS[:, None], ROWS)
    assert learner.n_trees_ == n_trees
    assert len(learner.target_) == 1000
    assert clock.seconds <= 60


@pytest.mark.parametrize(("seconds", "slowed"), [(6.0, 1.0), (60.0, 4.0), (20.0, 9.0)])
def test_boosting_that_would_not_end_in_time_is_given_up(clock, seconds, slowed):
    learner = SlowLearner(clock, slowed)
    settings = learner.get_params()
    with time_limit(seconds), pytest.raises(OutOfTime):
        fit_boosted(learner, ROWS[:, None], ROWS)
    assert clock.seconds <= seconds
    assert learner.get_params() == settings


def boosting(n_trees):
    return HistGradientBoostingRegressor(max_iter=n_trees, early_stopping=False, random_state=0)


def boosted_table():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(400, 3))
    target = features[:, 0] + generator.normal(size=400)
    return features, target


def test_boosting_in_time_learns_what_it_learns_without_a_limit():
    features, target = boosted_table()
    expected = boosting(30).fit(features, target).predict(features)
    with time_limit(1e6):
        learner = fit_boosted(boosting(30), features, target)
    np.testing.assert_array_equal(learner.predict(features), expected)


def test_boosting_prepares_the_features_once(monkeypatch):
    """It takes as long as many trees."""
    features, target = boosted_table()
    calls = []
    fit = HistGradientBoostingRegressor.fit

    def counted(self, *args):
        calls.append(self.max_iter)
        return fit(self, *args)

    monkeypatch.setattr(HistGradientBoostingRegressor, "fit", counted)
    with time_limit(1e6):
        fit_boosted(boosting(30), features, target)
    assert calls == [30]


def test_boosting_stops_with_the_trees_that_the_time_allowed(clock):
    """A look at the clock takes a tenth of a second, and a second when the pace has been judged."""
    looks = iter([0.1] * 22 + [1.0] * 100)

    def monotonic():
        clock.seconds += next(looks)
        return clock.seconds

    clock.monotonic = monotonic
    features, target = boosted_table()
    with time_limit(20.0):
        learner = fit_boosted(boosting(24), features, target)
    assert 12 <= learner.n_iter_ < 24
    expected = boosting(learner.n_iter_).fit(features, target).predict(features)
    np.testing.assert_array_equal(learner.predict(features), expected)


def test_the_time_of_loading_a_package_is_no_time_of_a_fit(clock):
    fit, rows = fits(clock, lambda n: 6.0 if not rows[1:] else n / 10_000)
    fit_in_time(fit, panel_of(20_000), 15.0, series_rows=256)
    assert rows == [1000, 1000, 20_000]


@pytest.mark.filterwarnings("ignore:series .* ends at")
def test_a_part_of_a_table_is_the_end_of_series_from_all_over_it():
    part = recent_rows(panel_of(*[500] * 40), 1000, 256)
    assert part.n_series == 3
    assert part.lengths.tolist() == [333] * 3
    assert (part.values.reshape(3, 333)[:, -1] == 499).all()
    names = panel_of(*[500] * 40).ids
    assert [part.ids[0], part.ids[-1]] == [names[0], names[-1]]
    assert recent_rows(panel_of(500, 900), 1000, 256).lengths.tolist() == [500, 500]


def test_every_beginning_of_the_order_is_spread_evenly():
    order = spread_order(100)
    assert sorted(order) == list(range(100))
    assert order[0] == 99
    for n in (8, 20, 50):
        gaps = np.diff(np.sort(order[:n]), prepend=-1, append=100)
        assert gaps.max() <= 3 * 100 / n


def items(clock, seconds, first=0.0):
    """Work that takes some seconds an item, and more on the first call; and its calls."""
    calls = []

    def work(places):
        clock.seconds += seconds * len(places) + (first if not calls else 0.0)
        calls.append(places)

    return work, calls


def test_slow_items_are_stopped_after_a_few(clock):
    work, calls = items(clock, 8.0)
    progress = work_in_time(work, 200, 20.0, n_later=1)
    assert clock.seconds <= 20
    assert sum(map(len, calls)) <= 2
    assert not progress.is_enough
    assert progress.needed_seconds > 1000


def test_as_many_items_as_time_allows_are_done(clock):
    work, calls = items(clock, 0.1, first=3.0)
    progress = work_in_time(work, 200, 10.0, n_later=20)
    assert 45 <= progress.done.sum() <= 50
    assert clock.seconds <= 8
    assert progress.is_enough
    assert progress.seconds_per_item == pytest.approx(0.1)
    np.testing.assert_array_equal(np.sort(np.concatenate(calls)), np.flatnonzero(progress.done))
    work, calls = items(clock, 0.001)
    assert work_in_time(work, 200, 10.0, n_later=20).done.all()
    assert len(calls) < 12


def test_items_that_are_done_together_are_fewer_where_time_is_short(clock):
    work, calls = items(clock, 0.1)
    progress = work_at_once(work, 200, 5.0)
    assert clock.seconds <= 5
    assert progress.done.sum() == 40
    work, calls = items(clock, 0.1)
    assert work_at_once(work, 200, 60.0).done.all()
    assert [len(places) for places in calls] == [8, 200]


def test_a_module_that_loads_slowly_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "loads_slowly.py").write_text("import time\ntime.sleep(1.0)\n")
    started = time.monotonic()
    assert not load_in_time("loads_slowly", 0.1)
    assert time.monotonic() - started < 0.9
    assert load_in_time("loads_slowly", 30.0)
    assert load_in_time("no_such_module_at_all", 30.0)  # the import there raises the error
    assert "loads_slowly" in sys.modules
