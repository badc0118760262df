"Drift of real flights: weeks dealt at random are no news, a feature that is stuck is; a part of `make bench`"
import sys

import numpy as np
import pytest

from tests.support import ROOT


@pytest.fixture(scope="module")
def bench():
    "The simulation of `make bench`"
    sys.path.insert(0, str(ROOT / "bench"))
    import bench_drift_alarms
    yield bench_drift_alarms
    sys.path.remove(str(ROOT / "bench"))
    sys.modules.pop("bench_drift_alarms")


@pytest.fixture(scope="module")
def weeks(bench):
    return bench.flights()


@pytest.mark.long
def test_weeks_that_were_dealt_at_random_are_no_news(bench, weeks):
    """An alarm needs the threshold of the file as well: it comes in 1 % of windows at most. The weeks alone are
    passed more often than their level says, for the F test is approximate so far out: 3.5 % of windows when measured"""
    found = bench.rates(bench.windows(200, np.random.default_rng(0), weeks, 12, 4))
    assert len(weeks) >= 15 and found["alarm"] <= found["chance"] <= 7 and found["alarm"] <= 1


@pytest.mark.long
@pytest.mark.parametrize("days", [
    {"correlation": 0, "size": 0}, {"correlation": 0.37, "size": 0.4},
    {"correlation": 0.37, "size": 0.4, "season": 0.3},
    {"correlation": 0.37, "size": 0.4, "season": 0.7, "year": True}],
    ids=["independent", "correlated", "season", "strong season, the year before known"])
def test_days_that_go_on_from_each_other_are_no_news(bench, days):
    found = bench.rates(bench.simulated(200, np.random.default_rng(1), **days))
    assert found["alarm"] <= 1 + 2 * found["error"]


@pytest.mark.long
def test_the_months_of_the_flights_are_seasons_and_no_news(bench, weeks):
    found = bench.months(weeks)
    assert len(found) == 9 and sum(month["features"] for month in found.values()) <= 8


@pytest.mark.long
def test_a_feature_that_is_stuck_is_news(bench, weeks):
    some = [one for one in weeks if one.name in ("carrier", "origin", "dest", "temp", "departure_minute")]
    found = bench.stuck(some, 40)
    assert len(found) == 10 and all(row["found"] >= 80 for row in found.values())
