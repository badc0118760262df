"The statistics of a canary: properties of e-process and bound, rollouts that are refused, the policy in a simulation"

import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta

from mlops_nb.errors import UserError
from mlops_nb.releases.canary import (
    Bet,
    Mixture,
    is_bad,
    is_clients_fault,
    log_e,
    log_e_accounts,
    log_e_path,
    log_e_threshold,
    requests_needed,
    share_of_bad,
    share_to_play,
    upper_bound,
)
from mlops_nb.releases.judgement import (
    advise_on_rate,
    bet_on,
    count_requests,
    find_breach,
    is_counted,
    judge_promotion,
    judge_share,
    judge_watch,
    played_share,
)
from mlops_nb.releases.record import Release, new_stage
from mlops_nb.releases.rollout import Phase, Rollout, load_rollout
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


@given(st.lists(st.tuples(tallies, shares), min_size=1, max_size=4), st.integers(0, 3))
def test_accounts_are_a_fair_game_over_all_stages(stages, waiting):
    *before, ((k, n), share) = stages
    won = [float(log_e(*tally, share)) for tally, share in before]
    if min(won, default=0) < -300 or max(won, default=0) > 300: return
    def held(own, all): return np.exp(log_e_accounts([*won, float(log_e(own, all, share))], len(stages) + waiting))

    now, mine, other = held(k, n), held(k + 1, n + 1), held(k, n + 1)
    if not np.isfinite([now, mine, other]).all(): return
    assert share * mine + (1 - share) * other == pytest.approx(now, rel=1e-6)
    entered = log_e_accounts([*won, 0.0], len(stages) + waiting)
    if won: assert entered == pytest.approx(log_e_accounts(won, len(stages) + waiting), abs=1e-9), "it costs nothing"


def test_what_was_lost_while_a_version_was_fine_is_not_won_back_first_and_what_was_won_is_kept():
    assert np.exp(log_e_accounts(np.log([1e-9, 1e-9, 900.0]), 3)) == pytest.approx(300)
    assert np.exp(log_e_accounts(np.log([12.0, 12.0]), 2)) == pytest.approx((12 * 12 + 12) / 2)


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


def test_equal_games_share_the_error():
    assert log_e_threshold(0.01, 4) == pytest.approx(np.log(400))


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
            "served": "2026-11-28T12:00:00Z",
            "cursor": id,
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
    assert all(game["all"] == 0 for game in found.games.values())


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
        ("100            # promotion\n    watch: 30", "90\n    min_requests: 3 #", "the last step has 90 %"),
        ("traffic: 100", "traffic: 90\n    min_requests: 3", "90 % of the traffic has a watch"),
        ("watch: 30", "watch: -1", "watch is -1"),
        ("watch: 30", "watch: half an hour", "watch is 'half an hour'"),
        ("burst_seconds: 3", "burst_seconds: .inf", "burst_seconds is inf"),
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


@pytest.fixture
def bench(monkeypatch):
    "The simulation of `make bench`"
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import bench_canary
    yield bench_canary
    sys.modules.pop("bench_canary")


def test_the_policy_goes_on_with_a_good_version_and_back_with_a_bad_one(bench):
    busy = replace(load_rollout(FILE), max_bad_rate=0.04)
    worlds = (bench.World({"errors": 0.02}, {"errors": rate}) for rate in (0.02, 0.1))
    good, bad = (bench.releases("", busy, world, 8, 1) for world in worlds)
    assert good["promoted"] == 1 and bad["back"] == 1 and good["early"] == bad["early"] == 0


@pytest.mark.long
def test_the_policy_is_right_as_often_as_it_promises(bench):
    "Bounds: nominal, and three standard errors of so many runs"
    shipped = load_rollout(FILE)
    rows = {row["name"]: row for row in bench.dependent(shipped, 100, sizes=(4, 30))}
    assert len(rows) == 9 and all(row["back"] <= shipped.alpha + 3 * row["error"] for row in rows.values())
    assert rows["equal versions, 7.5 % of the traffic, 5 % declared"]["hold"] >= 0.95
    assert rows["equal versions, 5 % of the traffic, 5 % declared"]["hold"] <= 0.03
    assert bench.counted_each(shipped, 5, 30, 200, 1) > 0.3, "a burst no longer does harm where each error counts"
    kinds = {name: (plan, world) for name, plan, world in bench.kinds(shipped)}
    found = {name: bench.releases(name, *kinds[name], 100, 1) for name in (
        "as good, 2 % bad", "three times as bad, 2 % base", "three times as bad from 50 % of the traffic on",
        "2 % slow, and 1 % errors more")}
    assert found["as good, 2 % bad"]["back"] <= 0.01 + 3 * found["as good, 2 % bad"]["error"]
    assert found["as good, 2 % bad"]["promoted"] >= 0.95
    assert found["three times as bad, 2 % base"]["back"] >= 0.98
    assert found["three times as bad, 2 % base"]["caught"] <= 480
    assert found["three times as bad from 50 % of the traffic on"]["back"] >= 0.7
    assert found["2 % slow, and 1 % errors more"]["back"] >= 0.5
    assert not any(one["early"] for one in found.values())
    for rate in (30, 60, 120): assert bench.azure(rate, 0.015, shipped, 20, rate) <= 0.15


@pytest.mark.parametrize("status", [408, 503, 429])
def test_what_the_host_caused_counts_against_nobody(status):
    event = {"request_id": "r", "deployment": "green", "mirror": False, "served": "2026-11-28T12:00:00Z",
             "status": status, "milliseconds": 1.0, "valid": False, "cursor": "1"}
    assert is_counted(event) and not is_counted({**event, "cause": "host"})
    good = {**event, "deployment": "blue", "status": 200, "valid": True}
    assert compare_pairs([(good, {**event, "mirror": True, "cause": "host"})], 100).requests == 0
    assert compare_pairs([(good, {**event, "mirror": True})], 100).only_canary_bad == 1


# What counts in a game

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(second: float, deployment: str = "new", **change) -> Any:
    when = (START + timedelta(seconds=second)).isoformat()
    return {"served": when, "cursor": when, "deployment": deployment, "mirror": False, "status": 500,
            "milliseconds": 9.0, "valid": True, **change}


def release_of(*stages: Phase, **more) -> tuple[Release, Any]:
    "A release at its first stage"
    plan = Rollout((*stages, Phase("100 %", 100)), 0.01, 0.02, 0.95, 250.0, **more)
    made = Release("r", "endpoint", "model", "2", "new", "1", "old", asdict(plan),
                   {"endpoint": "", "deployment": "", "replay": False}, p99_latency_ms=250.0)
    made.stages = [{**new_stage(stages[0]), "begin": "0"}]
    return made, made.stages[0]


HALF = Phase("50 %", 50, min_requests=300)


@pytest.mark.parametrize("seconds, sides, own, all", [
    ((0, 1, 2, 9.9), "nnnn", 1, 1),
    ((0, 1, 2, 9.9), "onnn", 0, 1),             # the first of both versions decides
    ((0, 1, 10, 19, 21), "onnon", 2, 3),        # a burst has an end, so a failure that lasts counts more than once
    ((0, 11, 22, 33), "nono", 2, 4)])
def test_a_burst_counts_once_and_its_first_bad_event_says_for_whom(seconds, sides, own, all):
    release, record = release_of(HALF, burst_seconds=10)
    events = [at(second, {"n": "new", "o": "old"}[side]) for second, side in zip(seconds, sides)]
    for event in events: count_requests(record, [event], release)      # a look at each
    assert (record["games"]["errors"]["own"], record["games"]["errors"]["all"]) == (own, all)
    assert (record["bad"], record["champion_bad"]) == (sides.count("n"), sides.count("o")), "for promotion all count"
    at_once = release_of(HALF)[1]
    count_requests(at_once, events, release)
    assert at_once["games"] == record["games"]


def test_of_one_moment_chance_draws_and_every_controller_draws_alike():
    release, _ = release_of(HALF)
    drawn = []
    for minute in range(400):
        moment = [at(60 * minute, side, cursor=str(minute)) for side in ["old"] * 3 + ["new"]]
        games = [new_stage(HALF)["games"] for _ in range(2)]
        for game in games:
            record: Any = {**new_stage(HALF), "begin": "0", "games": game}
            count_requests(record, moment, release)
            assert record["games"]["errors"]["all"] == 1
        assert games[0] == games[1]
        drawn.append(games[0]["errors"]["own"])
    assert 60 < sum(drawn) < 140      # a quarter of 400, within four and a half standard errors


def test_errors_and_slow_answers_are_games_of_their_own():
    release, record = release_of(HALF, burst_seconds=0)
    record.update({"requests": 1000, "champion_requests": 1000})
    slow = dict(status=200, milliseconds=900.0)
    count_requests(record, [at(n, side, **slow) for n, side in enumerate(["old", "new"] * 40)], release)
    count_requests(record, [at(100 + n) for n in range(13)], release)
    assert [(game["own"], game["all"]) for game in record["games"].values()] == [(13, 13), (40, 80)]
    decision = judge_share(release, record, HALF, False)
    assert decision.act == "back" and "13 of 13 errors were its own" in decision.why


def test_a_stage_goes_on_with_what_the_stages_before_have_won():
    release, first = release_of(Phase("5 %", 5, min_requests=300), HALF, burst_seconds=0)
    first["champion_requests"] = 76
    count_requests(first, [at(n) for n in range(4)], release)
    second: Any = {**new_stage(HALF), "begin": "0", "requests": 100, "champion_requests": 100}
    release.stages.append(second)
    assert bet_on(release, first, "errors").before == ()
    assert bet_on(release, second, "errors") == Bet(0.5, (float(log_e(4, 4, 0.05)),), 2)
    count_requests(second, [at(100 + n) for n in range(5)], release)
    assert find_breach(release, second) == "errors"
    assert "with the stages before)" in judge_share(release, second, HALF, False).why
    alone = float(log_e(5, 5, played_share(second)))
    assert log_e_accounts([alone], 2) < log_e_threshold(release.plan.alpha, release.plan.games)


def test_slow_pairs_and_failing_pairs_are_games_of_their_own_and_bursts_count_once():
    good = dict(status=200, milliseconds=9.0)
    pairs = [(at(n, "old", **good), at(n, mirror=True)) for n in range(20)]
    pairs += [(at(n, "old", status=200, milliseconds=900.0), at(n, mirror=True, **good)) for n in range(20)]
    def played(seconds):
        return [(game["own"], game["all"]) for game in compare_pairs(pairs, 250, seconds).games.values()]

    assert (played(0), played(10)) == ([(20, 20), (0, 20)], [(2, 2), (0, 2)])


@pytest.mark.parametrize("mine, others, act", [
    (250, 250, "wait"), (280, 220, "wait"), (400, 200, "hold"), (200, 400, "hold")])
def test_a_share_that_is_not_the_declared_one_holds(mine, others, act):
    release, record = release_of(Phase("50 %", 50, min_requests=9999))
    good = dict(status=200, milliseconds=9.0)
    count_requests(record, [at(n, "new", **good) for n in range(mine)], release)
    count_requests(record, [at(n, "old", **good) for n in range(others)], release)
    decision = judge_share(release, record, release.plan.stages[0], False)
    assert decision.act == act and (act == "wait" or f"{mine / (mine + others):.1%} of 600 requests" in decision.why)


def test_the_games_are_played_with_the_larger_share():
    release, record = release_of(Phase("5 %", 5, min_requests=9999), burst_seconds=0)
    record.update({"requests": 3000, "champion_requests": 7000})
    count_requests(record, [at(n) for n in range(12)] + [at(20 + n, "old") for n in range(28)], release)
    assert record["log_e"] == max(float(log_e(n, n, share_to_play(3000 + n, 10000 + n, 0.05))) for n in range(13))


def test_what_was_perhaps_slow_counts_for_the_promotion_and_against_nobody():
    release, record = release_of(HALF)
    moment = [at(0, "new", status=200, milliseconds=9.0, at_most=900.0)] * 40
    count_requests(record, moment, release)
    assert (record["bad"], record["doubtful"], record["games"]["slow answers"]["all"]) == (0, 40, 0)
    record.update({"requests": 1000, "champion_requests": 1000})
    waits = judge_promotion(release)
    assert waits.act == "wait" and "40 perhaps slow" in waits.why and "max_bad_rate" in waits.why
    record["doubtful"] = 0
    assert judge_promotion(release).act == "go"


@pytest.mark.parametrize("bad, act", [(0, "go"), (1, "go"), (4, "back")])
def test_a_version_with_all_the_traffic_is_held_to_its_promise_one_draw_in_a_burst(bad, act):
    last = Phase("100 %", 100, watch=5)
    release, _ = release_of(HALF, burst_seconds=10)
    record: Any = {**new_stage(last), "begin": "0", "since": START.isoformat()}
    for second in range(0, 300, 2):
        count_requests(record, [at(second, status=503 if second < 10 * bad else 200)], release)
    assert record["games"]["watch"] == {**record["games"]["watch"], "own": bad, "all": 30}
    during, after = (judge_watch(release, record, last, START + timedelta(minutes=minutes)) for minutes in (4, 5))
    assert after.act == act and during.act == ("back" if act == "back" else "wait")


@pytest.mark.parametrize("bad, of, says", [
    (0, 5000, ""), (4, 200, ""), (20, 20000, ""), (50, 5000, "to 0.02"), (200, 4000, "to 0.1"),
    (2400, 4000, "mend the endpoint first")])
def test_an_endpoint_that_lives_with_bad_answers_is_told_which_rate_suits(bad, of, says):
    events = [at(0, "old", status=500 if n < bad else 200) for n in range(of)] + [at(0, "other")] * 99
    advice = advise_on_rate(events, "old", replace(load_rollout(FILE), max_bad_rate=0.01))
    assert says in advice and bool(says) == bool(advice)
