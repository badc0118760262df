"The gate: what it lets through, and what it says"
import numpy as np
import pytest

from mlops_nb.errors import UserError
from mlops_nb.models.gate import judge, tightened, verdict_metrics, verdict_table, verdict_tags
from mlops_nb.models.intervals import clustered_mean
from mlops_nb.models.settings import GateSettings


def days(seed, mean, n=60, rows=40, spread=0.1):
    "Differences that are mostly a matter of the day"
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(n), rng.integers(rows // 2, rows * 2, n))
    return mean + rng.normal(0, spread, n)[day] + rng.normal(0, 0.2, len(day)), day


@pytest.fixture
def losses():
    "Losses of a champion, and their days"
    diff, day = days(4, 0.0)
    return np.abs(diff) + 0.3, day


def test_better_everywhere_is_accepted_and_says_so(losses):
    champion, day = losses
    verdict = judge(champion - 0.05, champion, day, slices={"half": day // 30},
                    limits=GateSettings(min_slice_rows=100))
    assert verdict.accepted and verdict.reason.startswith("Accepted: the challenger's loss is lower by 0.0500")
    assert "none of 2 slices" in verdict.reason
    assert list(verdict_table(verdict).passed) == ["yes"] * 5


@pytest.mark.parametrize("gain, wanted, accepted",
                         [(0.05, 0.04, True), (0.05, 0.05, False), (0.0, 0.0, False), (-0.01, 0.0, False)])
def test_improvement_must_exceed_what_was_asked_for(losses, gain, wanted, accepted):
    champion, day = losses
    assert judge(champion - gain, champion, day,
                 limits=GateSettings(min_improvement=wanted + 1e-9)).accepted is accepted


def test_a_slice_that_surely_loses_blocks_and_is_named(losses):
    champion, day = losses
    carrier = np.where(np.arange(len(day)) % 5 == 0, "HA", "UA")
    challenger, limits = champion - np.where(carrier == "HA", -0.05, 0.1), GateSettings(min_slice_rows=100)
    verdict = judge(challenger, champion, day, slices={"carrier": carrier}, limits=limits)
    assert not verdict.accepted and "carrier=HA surely got worse" in verdict.reason
    assert verdict.slices.index[0] == "carrier=HA" and not verdict.slices.passed.iloc[0]


def test_a_slice_that_loses_by_chance_does_not_block():
    rng = np.random.default_rng(9)
    day, champion = np.repeat(np.arange(50), 100), rng.exponential(0.5, 5000)
    carrier = rng.integers(0, 30, 5000)
    challenger = champion - 0.05 + rng.normal(0, 0.5, 5000)
    limits = GateSettings(min_slice_rows=100, max_slice_regression=0.0)
    verdict = judge(challenger, champion, day, slices={"carrier": carrier}, limits=limits)
    assert (verdict.slices["mean"] > 0).any(), "by their means, some of thirty slices look worse"
    assert verdict.accepted


def test_small_slices_are_not_judged(losses):
    champion, day = losses
    rare = np.where(np.arange(len(day)) < 20, "rare", "common")
    challenger = champion + np.where(rare == "rare", 0.2, -0.1)
    verdict = judge(challenger, champion, day, slices={"kind": rare}, limits=GateSettings(min_slice_rows=100))
    assert verdict.accepted and list(verdict.slices.index) == ["kind=common"]
    assert "not judged, too small: kind=rare (20 rows of 1 day)" in verdict.reason


def test_a_slice_of_few_days_is_not_judged_however_many_rows_it_has(losses):
    champion, day = losses
    kind = np.where(day < 9, "new", "old")
    verdict = judge(champion + np.where(kind == "new", 0.1, -0.3), champion, day, slices={"kind": kind},
                    limits=GateSettings(min_slice_rows=100, min_slice_days=10))
    assert "of 9 days)" in verdict.reason and list(verdict.slices.index) == ["kind=old"]


@pytest.mark.parametrize("days, passed, said", [
    (4, False, "4 days are too few to judge on, at least 5 are needed"),
    (7, True, "judged on 7 days in 5 blocks, so few that the bounds are rough"),
    (30, True, "judged on 30 days in 10 blocks")])
def test_few_days_are_told_and_very_few_refused(days, passed, said):
    day = np.repeat(np.arange(days), 50)
    champion = np.random.default_rng(0).exponential(0.5, len(day))
    verdict = judge(champion - 0.05, champion, day)
    assert verdict.accepted == passed and said in verdict.reason
    assert ("rough" in verdict.reason) == (5 <= days < 14)


def test_a_refusal_says_what_the_window_could_have_shown(losses):
    champion, day = losses
    noisy = champion + np.random.default_rng(1).normal(0, 0.1, len(day))
    verdict = judge(noisy, champion, day)
    assert f"this window could show an improvement of {verdict.interval.detectable():.3g} or more" in verdict.reason


@pytest.mark.parametrize(
    "gain, wanted, said",
    [
        (
            -0.005,
            0.0,
            "its loss is higher by 0.0050, with 95% confidence higher by at most 0.0050, and it must be lower.",
        ),
        (
            0.005,
            0.01,
            "its loss is lower by 0.0050, with 95% confidence lower by at least 0.0050, and it must be lower by more "
            "than 0.01.",
        ),
        (0.0, 0.0, "its loss is higher by 0.0000, with 95% confidence higher by at most 0.0000, and it must be lower."),
    ],
)
def test_a_refusal_says_which_way_and_how_much(losses, gain, wanted, said):
    champion, day = np.zeros(len(losses[1])), losses[1]
    assert judge(champion - gain, champion, day,
                 limits=GateSettings(min_improvement=wanted)).reason == f"Refused: it is not proven better: {said}"


@pytest.mark.parametrize(
    "time, limit, shown, said",
    [
        (3.21, 50, 4, "is 4 ms, within 50 ms"),
        (50.4, 50, 51, "is 51 ms, more than 50 ms"),
        (50.4, 50.5, 50.5, "within 50.5 ms"),
    ],
)
def test_latency_is_judged_exactly_and_told_in_whole_milliseconds(losses, time, limit, shown, said):
    verdict = judge(losses[0], losses[0], losses[1], latency_ms=time, limits=GateSettings(max_latency_ms=limit))
    check = verdict.checks[-1]
    assert (check.value, check.shown, check.passed) == (time, shown, time <= limit) and said in check.why
    assert verdict_metrics(verdict)["gate_latency_p99"] == time


@pytest.mark.parametrize("facts, said", [
    (dict(calibration_error=0.11), "calibration error is 0.11, more than 0.1"),
    (dict(latency_ms=[1.0] * 90 + [80.0] * 10), "latency p99 is 80 ms, more than 50 ms"),
    (dict(calibration_error=np.nan), "calibration error is nan")])
def test_a_challenger_must_be_honest_and_quick(losses, facts, said):
    champion, day = losses
    verdict = judge(champion - 0.05, champion, day, **facts)
    assert not verdict.accepted and said in verdict.reason and "lower" not in verdict.reason


def test_every_objection_is_named(losses):
    champion, day = losses
    reason = judge(champion, champion, day, calibration_error=0.5, latency_ms=99.0).reason
    assert all(text in reason for text in ("not proven better", "calibration error", "latency"))


def test_same_seed_same_verdict(losses):
    champion, day = losses
    noisy = champion + np.random.default_rng(1).normal(-0.01, 0.1, len(day))
    assert verdict_metrics(judge(noisy, champion, day)) == verdict_metrics(judge(noisy, champion, day))


def test_tags_are_text_and_metrics_are_numbers(losses):
    verdict = judge(*[losses[0]] * 2, losses[1])
    assert {type(v) for v in verdict_tags(verdict).values()} == {str} and verdict_tags(verdict)["gate"] == "refused"
    assert {type(v) for v in verdict_metrics(verdict).values()} == {float}


@pytest.mark.parametrize("change, message", [
    (lambda c, d: (c[:-1], c, d), "the challenger has"),
    (lambda c, d: (c, np.where(d == 3, np.inf, c), d), "the champion has .* not finite"),
    (lambda c, d: (c - 1, c, np.zeros_like(d)), r"belong to 1 cluster")])
def test_what_cannot_be_judged_is_refused(losses, change, message):
    with pytest.raises(UserError, match=message):
        judge(*change(*losses))


@pytest.mark.parametrize("skill, leaks, most, held", [
    (.995, (), .99, True), (.5, ("a + b give y as a sum",), .99, True), (.5, (), .99, False),
    (.995, ("a + b give y as a sum",), 1.0, False)])
def test_what_is_too_good_or_rests_on_a_leak_is_held_until_somebody_says_yes(losses, skill, leaks, most, held):
    champion, day = losses
    verdict = judge(champion - .05, champion, day, skill=skill, leaks=leaks, limits=GateSettings(max_skill=most))
    assert verdict.accepted is not held and ("suspiciously good" in verdict.reason) is held
    assert not held or "--set inputs.max_skill=1" in verdict.reason and all(leak in verdict.reason for leak in leaks)


def test_alpha_is_spent_once_however_often_a_window_is_looked_at():
    spent = [1 - tightened(0.95, look) for look in range(1, 2000)]
    assert spent[:3] == pytest.approx([.05, .05 / 6, .05 / 12]) and sum(spent) < 1.5 * .05


def test_a_later_look_needs_more_and_says_so(losses):
    champion, day = losses
    gain = np.random.default_rng(3).normal(0, 0.1, 60)[day]
    gain += 0.045 - gain.mean()
    verdicts = {look: judge(champion - gain, champion, day, look=look) for look in (1, 2, 20)}
    assert [one.accepted for one in verdicts.values()] == [True, True, False]
    assert "look" not in verdicts[1].reason and verdicts[1].look == 1
    assert "with 99.17% confidence" in verdicts[2].reason and "look 2 at this window" in verdicts[2].reason
    assert "look 20 at this window (judge on newer rows to start again)" in verdicts[20].reason
    assert verdicts[20].interval.high > verdicts[2].interval.high > verdicts[1].interval.high
    assert verdict_metrics(verdicts[20])["gate_look"] == 20


def test_twenty_equal_models_on_one_window_are_promoted_about_as_often_as_one():
    "Without the count, most windows promote one of them"
    rng, promoted, counts = np.random.default_rng(0), {"counted": 0, "uncounted": 0}, np.full(45, 300.0)
    for _ in range(60):
        windows = rng.standard_normal((20, 45)) * 300
        highs = [[clustered_mean(window, counts, 100, tightened(0.95, look) if counted else 0.95).high
                  for look, window in enumerate(windows, 1)] for counted in (True, False)]
        for name, found in zip(promoted, highs): promoted[name] += min(found) < 0
    assert promoted["counted"] <= 8 and promoted["uncounted"] >= 25


@pytest.mark.parametrize("excess, passed, said", [
    (0.05, True, "the calibration error is 0.0500 above the champion's"),
    (-0.05, True, "the calibration error is 0.0500 below the champion's"),
    (0.5, False, "the calibration error is 0.5000 above the champion's, with 95% confidence by more than 0.4")])
def test_calibration_is_judged_against_the_champion_with_its_interval(losses, excess, passed, said):
    champion, day = losses
    noise = np.random.default_rng(5).normal(0, 0.1, 60)[day]
    verdict = judge(champion - 0.05, champion, day, calibration_error=excess + noise - noise.mean())
    check = next(check for check in verdict.checks if check.name == "calibration error")
    assert verdict.accepted is passed is check.passed and check.why.startswith(said) and check.value < excess


def test_a_calibration_error_within_chance_does_not_refuse(losses):
    champion, day = losses
    noise = np.random.default_rng(5).normal(0.15, 1, 60)[day]
    assert judge(champion - 0.05, champion, day, calibration_error=noise).accepted


def test_customers_with_twenty_rows_each_are_customers_and_not_twenty_witnesses():
    "500 customers, correlation .2 within each: nominal 5 %; by rows an equal challenger gets in four times as often"
    rng, customer, runs = np.random.default_rng(3), np.repeat(np.arange(500), 20), 250
    accepted = {"rows": 0, "values of customer": 0}
    limits = GateSettings(bootstrap=100)
    for _ in range(runs):
        lost = 9 + rng.normal(0, 0.2**0.5, 500)[customer] + rng.normal(0, 0.8**0.5, len(customer))
        for unit, cluster in (("rows", rng.permutation(len(customer))), ("values of customer", customer)):
            accepted[unit] += judge(lost, np.full(len(lost), 9.0), cluster, unit=unit, limits=limits).accepted
    assert accepted["values of customer"] / runs < 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert accepted["rows"] / runs > 0.12


def test_what_is_drawn_is_named(losses):
    champion, day = losses
    verdict = judge(champion - 0.05, champion, day, unit="values of machine", slices={"half": day // 30},
                    limits=GateSettings(min_slice_rows=10**6))
    assert "; judged on 60 values of machine;" in verdict.reason
    assert "of 30 values of machine)" in verdict.reason
    assert "gate_clusters_judged" in verdict_metrics(verdict)


@pytest.mark.parametrize("change, refreshed, changed", [(-0.1, True, True), (-0.002, True, False), (0.0, True, False),
                                                        (0.01, True, False), (0.15, False, False)])
def test_an_unchanged_recipe_is_refused_only_if_surely_worse(losses, change, refreshed, changed):
    champion, day = losses
    challenger = champion + change + np.random.default_rng(0).normal(0, 0.1, 60)[day]
    refresh = judge(challenger, champion, day, refresh=True)
    assert (refresh.accepted, judge(challenger, champion, day).accepted) == (refreshed, changed)
    assert refresh.checks[0].name == "loss difference lower bound" and "the recipe is unchanged" in refresh.reason
    assert judge(challenger, champion, day, look=9, refresh=True).interval == refresh.interval


def test_a_refresh_is_still_judged_by_everything_else(losses):
    champion, day = losses
    assert "too few to judge on" in judge(champion[day < 4], champion[day < 4], day[day < 4], refresh=True).reason
    assert not judge(champion, champion, day, refresh=True, latency_ms=999.0).accepted
