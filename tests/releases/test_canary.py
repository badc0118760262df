"The statistics of a canary: properties of e-process and bound, rollouts that are refused, the policy in a simulation"

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from mlops_nb.errors import UserError
from mlops_nb.releases.canary import (
    Mixture,
    is_bad,
    is_clients_fault,
    log_e,
    log_e_pairs,
    log_e_path,
    log_e_threshold,
    requests_needed,
    share_of_bad,
    upper_bound,
)
from mlops_nb.releases.judgement import is_counted
from mlops_nb.releases.rollout import load_rollout
from mlops_nb.releases.shadow import compare_pairs, pair_answers, pair_predictions

from tests.support import ROOT

FILE = ROOT / "pipelines/deployment/rollout.yml"
shares = st.floats(0.01, 0.99)
mixtures = st.builds(Mixture, ratio=st.floats(1.1, 20), weight=st.floats(1, 60))
tallies = st.integers(0, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(tallies, shares, mixtures)
def test_the_e_process_is_a_martingale_where_both_are_equal_and_falls_where_the_canary_is_better(tally, share, mixture):
    (k, n), now = tally, log_e(*tally, share, mixture)
    if now < -600: return   # the money is gone, beyond what a number can hold
    mine, other = (np.exp(log_e(k + x, n + 1, share, mixture) - now) for x in (1, 0))
    assert share * mine + (1 - share) * other == pytest.approx(1, abs=1e-6)
    better = share_of_bad(share, 0.5)
    assert better * mine + (1 - better) * other <= 1 + 1e-6


@given(tallies, shares)
def test_one_more_bad_event_of_the_canary_is_more_evidence_than_one_of_the_champion(tally, share):
    k, n = tally
    assert log_e(k + 1, n + 1, share) >= log_e(k, n + 1, share)


@given(st.integers(0, 30), st.integers(0, 30), st.floats(0.05, 0.95))
@settings(max_examples=30)
def test_the_closed_form_is_the_integral(k, others, share):
    a, b = Mixture().parameters(share)
    def likelihood(theta): return np.exp(k * np.log(theta / share) + others * np.log((1 - theta) / (1 - share)))

    expected = quad(
        lambda theta: likelihood(theta) * beta.pdf(theta, a, b) / beta.sf(share, a, b), share, 1, limit=200
    )[0]
    assert np.exp(log_e(k, k + others, share)) == pytest.approx(expected, rel=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=60), shares)
def test_a_walk_is_the_e_process_after_each_event(events, share):
    k = np.cumsum(events)
    assert log_e_path(np.array(events), share) == pytest.approx(
        [float(log_e(k[i], i + 1, share)) for i in range(len(events))]
    )


@given(st.integers(0, 50), st.integers(1, 3000), st.floats(0.6, 0.99))
def test_the_bound_is_above_what_was_seen_and_falls_with_requests_and_rises_with_bad_ones(bad, more, confidence):
    n = bad + more
    bound = upper_bound(bad, n, confidence)
    assert bad / n < bound <= 1
    assert (
        upper_bound(bad, n + 50, confidence) <= bound + 1e-9 and upper_bound(bad + 1, n + 1, confidence) >= bound - 1e-9
    )


@pytest.mark.parametrize("bad", [0, 1, 5])
def test_the_smallest_number_of_requests_is_the_smallest(bad):
    n = requests_needed(0.01, bad)
    assert upper_bound(bad, n) < 0.01 <= upper_bound(bad, n - 1)


def test_looking_at_all_times_passes_a_version_with_the_excluded_rate_as_seldom_as_was_promised():
    bad = (np.random.default_rng(0).random((1000, 2000)) < 0.05).cumsum(1)
    table = np.array([requests_needed(0.05, k) for k in range(120)] + [10**9])
    passed = (np.arange(1, 2001) >= table[np.minimum(bad, 120)]).any(1)
    assert 0 < passed.mean() <= 0.05


def test_nothing_to_compare_is_refused():
    for share in (0, 1):
        with pytest.raises(UserError, match="nothing to compare"): log_e(1, 2, share)


def test_equal_games_share_the_error_and_pairs_are_a_fair_coin():
    assert log_e_threshold(0.01, 4) == pytest.approx(np.log(400)) and log_e_pairs(3, 4) == pytest.approx(
        log_e(3, 7, 0.5)
    )


@pytest.mark.parametrize(
    "status, bad, client",
    [
        (200, False, False),
        (404, True, True),
        (408, True, False),
        (424, True, False),
        (429, True, False),
        (500, True, False),
        (503, True, False),
    ],
)
def test_who_is_to_blame(status, bad, client):
    assert (
        is_bad({"status": status, "milliseconds": 1, "valid": True}, 100) == bad and is_clients_fault(status) == client
    )


def test_pairs_need_both_answers_and_a_champion_that_understood():
    def event(id, deployment, status=200, mirror=False):
        return {
            "request_id": id,
            "deployment": deployment,
            "status": status,
            "mirror": mirror,
            "milliseconds": 1,
            "valid": True,
        }

    events = [
        event("a", "new", mirror=True),
        event("a", "old"),
        event("b", "old"),
        event("c", "old", 400),
        event("c", "new", 200, True),
        event("d", "old", 500),
        event("d", "new", 500, True),
        event("e", "new"),
        event("e", "old"),
    ]
    found = compare_pairs(pair_answers(events, "new", "old"), 100)
    assert (found.requests, found.canary_bad, found.only_canary_bad, found.only_champion_bad) == (2, 1, 0, 0)


def test_differences_pair_rows_and_leave_out_what_is_not_a_number():
    found = pair_predictions(
        {"a": [0.1, 0.2], "b": [0.5], "c": [1.0]}, {"a": [0.2, float("nan")], "b": [0.1], "c": [1.0, 2.0]}
    )
    assert (found.rows, round(found.mean, 3), round(found.largest, 3)) == (2, -0.15, 0.4)


def test_pairs_tell_what_distributions_hide():
    rng = np.random.default_rng(0)
    old = rng.beta(2, 6, 400)
    versions = {"successor": 0.5 * old + 0.3 + rng.normal(0, 0.02, 400), "other rows": rng.permutation(old)}
    found = {name: pair_predictions({"r": list(old)}, {"r": list(new)}) for name, new in versions.items()}
    assert found["successor"].agreement > 0.9 and found["successor"].ks > 0.3
    assert abs(found["other rows"].agreement) < 0.15 and found["other rows"].ks == 0


@pytest.mark.parametrize("old, new, agreement, rows", [
    ([0.1, 0.2, 0.3], [0.3, 0.2, 0.1], -1, 3),
    ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], 0, 3),       # a constant ranks nothing
    ([0.5, 0.5], [0.5, 0.5], 1, 2),
    (["UA", "AA", "UA", "B6"], ["UA", "AA", "B6", "B6"], 0.75, 4),
    (["UA", 0.5], [0.5, "UA"], 0, 0),
    ([], [], 0, 0)])
def test_agreement_of_numbers_is_of_ranks_and_of_classes_of_equals(old, new, agreement, rows):
    found = pair_predictions({"a": old}, {"a": new})
    assert (found.agreement, found.rows) == (pytest.approx(agreement), rows)


@pytest.mark.parametrize(
    "old, new, what",
    [
        ("min_agreement: 0.6", "min_agreement: 2", "min_agreement is 2"),
        ("min_agreement: 0.6", "max_ks: 0.3", "no key 'max_ks'"),
        ("alpha: 0.01", "alpha: 1", "alpha is 1"),
        ("alpha: 0.01", "alpha: true", "alpha is True"),
        ("alpha: 0.01 ", "#", "lacks alpha"),
        ("alpha: 0.01", "alhpa: 0.01", "no key 'alhpa'"),
        ("mirror: 50", "mirror: 51", "mirror is 51"),
        ("traffic: 5 ", "traffic: 5.5 ", "traffic is 5.5"),
        ("traffic: 25\n", "traffic: 5\n", "5 % of the traffic after 5 %"),
        ("traffic: 100", "traffic: 90\n    min_requests: 3", "the last step has 90 %"),
        ("max_bad_rate: 0.01", "max_bad_rate: 0", "max_bad_rate is 0"),
        ("p99_latency_ms: 250", "p99_latency_ms: measured", "cannot be shown"),
        ("confidence: 0.95", "confidence: .nan", "confidence is nan"),
        ("  - traffic: 25\n    min_requests: 300\n", "  - traffic: 25\n", "lacks min_requests"),
        ("  - traffic: 25\n", "  - mirror: 5\n", "is a shadow"),
        ("  - traffic: 25\n", "  - traffic: 25\n    mirror: 5\n", "both mirror and traffic"),
    ],
)
def test_a_mistake_in_the_rollout_is_named_with_its_line(tmp_path, old, new, what):
    text = FILE.read_text()
    assert old in text
    (tmp_path / "rollout.yml").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as error: load_rollout(tmp_path / "rollout.yml")
    assert what in str(error.value) and error.value.line and error.value.accepted


def test_the_policy_is_right_as_often_as_it_promises(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import bench_canary as canary
    busy = replace(load_rollout(FILE), max_bad_rate=0.04)
    good, bad = (
        canary.row("", busy, canary.simulate(busy, 0.02, rate, 400, 1, incident))
        for rate, incident in ((0.02, (100, 300)), (0.06, None))
    )
    assert (
        good["rolled back"] <= 0.02
        and bad["rolled back"] >= 0.98
        and bad["promoted without evidence"] == good["promoted without evidence"] == 0
    )
    assert bad["median canary requests until caught"] <= 300
    sys.modules.pop("bench_canary")


@pytest.mark.parametrize("status", [408, 503, 429])
def test_what_the_host_caused_counts_against_nobody(status):
    event = {"request_id": "r", "deployment": "green", "mirror": False, "served": "2026-11-28T12:00:00Z",
             "status": status, "milliseconds": 1.0, "valid": False, "cursor": "1"}
    assert is_counted(event) and not is_counted({**event, "cause": "host"})
    good = {**event, "deployment": "blue", "status": 200, "valid": True}
    assert compare_pairs([(good, {**event, "mirror": True, "cause": "host"})], 100).requests == 0
    assert compare_pairs([(good, {**event, "mirror": True})], 100).only_canary_bad == 1
