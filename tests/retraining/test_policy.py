"The policy: what leads to a retraining, and what does not"
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_nb.errors import UserError
from mlops_nb.retraining.policy import CAUSES, Policy, decide, find_fault, training_window

NOW = datetime(2013, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LOSS = dict(metric="log_loss", value=.56, low=.54, high=.58, baseline=.48, worse=.04, n=5000, days=30)


def result(*kinds: str, performance=None, estimate=None, end: datetime = NOW) -> dict:
    signals = {kind: dict(type=kind, verdict="breach", rows=[dict(feature="temp", breach=True)]) for kind in kinds}
    return dict(
        window=[(end - 30 * DAY).isoformat(), end.isoformat()],
        signals=signals,
        performance=performance,
        estimate=estimate,
    )


@pytest.mark.parametrize(
    "retrain_on, expected", [("performance", "none"), ("harm", "none"), ("any", "retrain"), ("never", "none")]
)
def test_data_drift_alone_retrains_only_if_asked(retrain_on, expected):
    held = LOSS | dict(low=.46, high=.50, worse=-.04)
    assert decide(result("data_drift", performance=held), [], Policy(retrain_on=retrain_on), NOW).action == expected


@pytest.mark.parametrize(
    "retrain_on, expected", [("performance", "retrain"), ("harm", "retrain"), ("any", "retrain"), ("never", "none")]
)
def test_measured_harm_retrains_unless_a_person_decides(retrain_on, expected):
    assert (
        decide(result("model_performance", performance=LOSS), [], Policy(retrain_on=retrain_on), NOW).action == expected
    )


@pytest.mark.parametrize(
    "estimate, n, expected",
    [
        (dict(metric="log_loss", change=0.03, harm=True), 0, "retrain"),
        (dict(metric="log_loss", change=0.03, harm=False), 0, "none"),
        (dict(metric="log_loss", change=0.03, harm=True), 5000, "none"),
    ],
)
def test_estimated_harm_counts_until_outcomes_are_in(estimate, n, expected):
    held = LOSS | dict(low=.46, high=.50, worse=-.04, n=n)
    breach, policy = result("data_drift", performance=held, estimate=estimate), Policy(retrain_on="harm")
    assert decide(breach, [], policy, NOW).action == expected
    assert decide(breach, [], Policy(), NOW).action == "none", "by default an estimate alerts a person"


def test_a_small_sample_says_so():
    action = decide(result("data_drift", performance=LOSS | dict(n=37)), [], Policy(), NOW)
    assert action.action == "none" and "37 outcomes are in, 500 needed" in action.reason


def test_a_performance_without_a_baseline_is_no_harm():
    assert (
        decide(result("data_drift", performance=LOSS | dict(baseline=None, worse=None)), [], Policy(), NOW).action
        == "none"
    )


@pytest.mark.parametrize("n, said", [
    (1000, "performance is past its threshold, but not surely worse than before"),
    (20, "20 outcomes are in, 500 needed")])
def test_a_performance_past_its_threshold_that_is_no_harm_is_told_as_that(n, said):
    performance = dict(metric="log_loss", n=n, value=0.5, low=0.4, high=0.6, baseline=0.45, worse=None)
    action = decide(result("data_drift", "model_performance", performance=performance), [], Policy(), NOW)
    assert action.action == "none" and action.reason == f"breach of data_drift, model_performance without harm: {said}"


@pytest.mark.parametrize("least, expected", [(.03, "retrain"), (.05, "none")])
def test_harm_may_have_to_be_larger(least, expected):
    assert decide(result("model_performance", performance=LOSS), [], Policy(min_harm=least), NOW).action == expected


def test_reasons_against():
    harmed, policy = result("model_performance", performance=LOSS), Policy(cooldown_days=20)
    assert (
        "cool-down until 2013-07-11" in decide(harmed, [dict(at=NOW - 10 * DAY, action="retrain")], policy, NOW).reason
    )
    assert (
        "has seen this window"
        in decide(harmed, [dict(at=NOW + 40 * DAY, action="retrain")], policy, NOW + 80 * DAY).reason
    )
    assert decide(harmed, [dict(at=NOW - 10 * DAY, action="none")], policy, NOW).action == "retrain"
    spent = [dict(at=NOW - timedelta(hours=1), action="retrain")]
    assert decide(harmed, spent, Policy(cooldown_days=0), NOW).action == "retrain", "yesterday's does not count"
    later = NOW + timedelta(hours=5)
    again = result("model_performance", performance=LOSS, end=NOW + timedelta(hours=4))
    assert (
        "daily budget of 1"
        in decide(again, [dict(at=NOW + timedelta(hours=1), action="retrain")], Policy(cooldown_days=0), later).reason
    )


def test_a_refused_retraining_does_not_use_up_the_cool_down():
    harmed, policy = result("model_performance", performance=LOSS), Policy(cooldown_days=20)
    refused = dict(at=NOW - 10 * DAY, action="retrain", refused=True)
    assert decide(harmed, [refused], policy, NOW).action == "retrain"
    accepted = dict(at=NOW - 12 * DAY, action="retrain", refused=False)
    assert "cool-down until 2013-07-09" in decide(harmed, [refused, accepted], policy, NOW).reason
    seen = result("model_performance", performance=LOSS, end=NOW - 11 * DAY)
    assert "has seen this window" in decide(seen, [refused], policy, NOW).reason


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from(["data_drift", "model_performance"])), min_size=1, max_size=40
    ),
    st.integers(0, 40),
    st.integers(0, 3),
    st.sampled_from(CAUSES),
)
@settings(max_examples=200)
def test_no_sequence_of_breaches_gets_around_cool_down_and_budget(breaches, cooldown, budget, retrain_on):
    policy, history = Policy(retrain_on=retrain_on, cooldown_days=cooldown, daily_budget=budget), []
    for days, kind in sorted(breaches):
        now = NOW + days * DAY
        action = decide(
            result(kind, performance=LOSS if kind == "model_performance" else None, end=now), history, policy, now
        )
        if action.action == "retrain": history.append(dict(at=now, action="retrain"))
    times = [entry["at"] for entry in history]
    assert all(b - a >= cooldown * DAY for a, b in zip(times, times[1:]))
    assert all(times.count(time) <= budget for time in times)


def test_the_window_to_train_on():
    assert training_window(NOW, Policy(), "2013-01-01") == dict(
        train_start="2013-01-01", train_end="2013-06-01", test_end="2013-07-01"
    )
    assert training_window(NOW, Policy(train_days=400), "2013-01-01")["train_start"] == "2013-01-01"
    assert training_window(NOW, Policy(train_days=90, test_days=14), "2013-01-01") == dict(
        train_start="2013-03-19", train_end="2013-06-17", test_end="2013-07-01"
    )


def test_an_unknown_cause_is_refused():
    with pytest.raises(UserError, match="performance, harm, any, never"): Policy(retrain_on="drift")


def test_nothing_starts_without_days_that_the_champion_has_not_seen():
    harmed, policy = result("model_performance", performance=LOSS), Policy(min_new_days=7)
    lacking = decide(harmed, [], policy, NOW, seen=NOW - 3 * DAY)
    assert lacking.action == "none"
    assert "the champion knows the days up to 2013-06-28: 3 newer ones, 7 needed" in lacking.reason
    assert "0 newer ones" in decide(harmed, [], policy, NOW, seen=NOW + DAY).reason
    assert decide(harmed, [], policy, NOW, seen=NOW - 7 * DAY).action == "retrain"
    assert decide(harmed, [], policy, NOW).action == "retrain", "of a champion without days nothing is known"


def test_the_challenger_is_trained_on_what_the_champion_knows_at_least():
    def window(days): return training_window(NOW, Policy(), "2013-01-01", NOW - days * DAY)
    assert window(10) == dict(train_start="2013-01-01", train_end="2013-06-21", test_end="2013-07-01")
    assert window(40)["train_end"] == "2013-06-01", "an older champion leaves the whole window to judge on"
    assert window(2)["train_end"] == "2013-06-24", "some days are always left to judge on"


def test_a_refresh_needs_no_harm_and_has_no_cool_down_but_a_budget():
    due = dict(window=["2013-06-24", "2013-07-01"], signals={}, refresh=dict(seen="2013-06-24T00:00:00Z", days=7))
    seen, week = NOW - 7 * DAY, [dict(at=NOW - 7 * DAY, action="retrain")]
    found = decide(due, week, Policy(cooldown_days=20), NOW, seen)
    assert found.action == "retrain"
    assert found.reason == "refresh: the champion knows the days up to 2013-06-24, 7 days before"
    today = [dict(at=NOW + timedelta(hours=1), action="retrain")]
    assert "daily budget" in decide(due | dict(window=["2013-06-24", "2013-07-01T02:00:00Z"]), today, Policy(),
                                    NOW + timedelta(hours=3), seen).reason
    assert "newer ones" in decide(due, [], Policy(), NOW, NOW - DAY).reason, "somebody retrained in between"


def test_a_breach_of_a_monitor_without_a_baseline_is_no_malformed_event():
    "Such a monitor judges by the thresholds of its file alone: neither the baseline nor a rise is known"
    seen = LOSS | dict(baseline=None, worse=None, since=None)
    found = result("data_drift", performance=seen)
    assert find_fault(found) == "" and decide(found, [], Policy(retrain_on="any"), NOW).action == "retrain"
