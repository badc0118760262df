"Bounds for means of dependent days: against a slow reference, and their error rates on data as it is"
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mlops_nb.errors import UserError
from mlops_nb.models.intervals import block_starts, clustered_mean, count_blocks, paired_bootstrap

from tests.support.dependent import dependent_days, false_alarms


def rows(seed, mean, n=60, size=40, spread=0.1):
    "Differences that are mostly a matter of the day"
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(n), rng.integers(size // 2, size * 2, n))
    return mean + rng.normal(0, spread, n)[day] + rng.normal(0, 0.2, len(day)), day


def mean_and_error(parts):
    "Of blocks of rows: a ratio of two sums, and its standard error"
    together = np.concatenate(parts)
    left_over = [(part - together.mean()).sum() for part in parts]
    error = np.sqrt(len(parts) / (len(parts) - 1) * np.sum(np.square(left_over))) / len(together)
    return together.mean(), error


def test_bounds_equal_those_of_a_bootstrap_that_really_copies_rows():
    diff, day = rows(1, -0.03, n=12)
    blocks = [diff[np.isin(day, days)] for days in np.split(np.arange(12), [2, 4, 7, 9])]
    mean, error = mean_and_error(blocks)
    drawn = np.random.default_rng(5).multinomial(5, np.full(5, 1 / 5), size=400)
    resamples = [mean_and_error([block for block, k in zip(blocks, copies) for _ in range(k)]) for copies in drawn
                 if copies.max() < 5]
    values = [(one - mean) / its_error for one, its_error in resamples]
    (least, most), student = np.quantile(values, [.1, .9]), stats.t.ppf(.9, 4)
    below, above = np.clip([most, -least], student, 2 * student)
    expected = mean, mean - below * error, mean + above * error
    found = paired_bootstrap(diff, day, n_boot=400, confidence=0.9, seed=5)
    assert (found.mean, found.low, found.high) == pytest.approx(expected)
    assert (found.blocks, found.error) == (5, pytest.approx(error))


@given(st.integers(2, 3000), st.integers(1, 31))
def test_blocks_cover_every_cluster_once_and_are_nearly_equal(clusters, length):
    starts = block_starts(clusters, length)
    sizes = np.diff([*starts, clusters])
    assert starts[0] == 0 and len(starts) == count_blocks(clusters, length) <= 500
    assert sizes.min() >= 1 and sizes.max() - sizes.min() <= 1
    assert len(starts) >= min(clusters, 5)


@pytest.mark.parametrize("correlation, days, most", [(0.0, 30, .075), (0.37, 30, .10), (0.37, 90, .11)])
def test_equal_models_are_promoted_about_as_often_as_was_asked_for(correlation, days, most):
    rate, error = false_alarms(correlation, days, runs=1000)
    assert rate - 2 * error < most, f"{rate:.3f} of equal challengers are accepted"


def test_independent_days_would_promote_twice_as_often():
    blocked, _ = false_alarms(0.37, 30, runs=1000)
    alone, _ = false_alarms(0.37, 30, runs=1000, block_days=1)
    assert alone > 1.5 * blocked


def test_a_gain_of_the_promised_size_is_proven_four_times_of_five():
    sums, counts = dependent_days(0.0, 60, 400, seed=3)
    gain = np.median([clustered_mean(s, counts, 300).detectable() for s in sums])
    proven = np.mean([clustered_mean(s - gain * counts, counts, 300).high < 0 for s in sums])
    assert 0.7 < proven < 0.9


def test_order_of_rows_and_names_of_days_do_not_matter():
    diff, day = rows(2, -0.02)
    order = np.random.default_rng(0).permutation(len(diff))
    names = np.array([f"2013-{d:03}" for d in day])
    assert paired_bootstrap(diff, day).high == pytest.approx(paired_bootstrap(diff[order], names[order]).high)


@given(st.integers(0, 1000), st.floats(-5, 5), st.floats(0.1, 10))
def test_bounds_move_and_stretch_with_the_numbers(seed, shift, scale):
    sums, counts = np.random.default_rng(seed).normal(0, 1, 20), np.full(20, 3)
    one = clustered_mean(sums, counts, 200)
    two = clustered_mean(scale * (sums + shift * counts), counts, 200)
    assert (two.mean, two.low, two.high) == pytest.approx(tuple(scale * (v + shift)
                                                               for v in (one.mean, one.low, one.high)), abs=1e-8)


def test_a_constant_has_no_width_and_empty_days_do_not_count():
    found = clustered_mean(np.array([2.0, 0, 4, 6, 2, 2, 4]), np.array([1, 0, 2, 3, 1, 1, 2]))
    assert (found.mean, found.low, found.high, found.blocks) == (2.0, 2.0, 2.0, 5)


def test_a_million_clusters_need_no_more_memory_than_five_hundred():
    found = clustered_mean(np.random.default_rng(0).normal(0.1, 1, 1_000_000), np.ones(1_000_000))
    assert found.blocks == 500 and found.low < 0.1 < found.high


def test_one_outlying_day_does_not_make_the_bound_endless():
    sums = np.where(np.arange(60) == 7, 10.0, np.random.default_rng(0).normal(-0.1, 0.01, 60))
    found = clustered_mean(sums, np.ones(60))
    student = stats.t.ppf(.95, found.blocks - 1) * found.error
    assert found.high == pytest.approx(found.mean + 2 * student)


def test_one_day_has_no_interval():
    with pytest.raises(UserError, match="belong to 1 cluster"): paired_bootstrap(np.ones(9), np.zeros(9))
