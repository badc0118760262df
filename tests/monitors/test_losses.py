"Whether the loss has risen since the release: its error rate over a year of looks, its power, and the monitor"
import shutil
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from mlops_nb.monitors import losses

from tests.monitors.test_monitor import START, Site, signals

LOOKS = range(1, 53)


def history(draw, correlation: float, rise: float = 0.0, since: int = 0) -> np.ndarray:
    "A day's loss for 30 days that judged the model and a year, in standard deviations of a day"
    noise = draw.standard_normal(30 + 364)
    for day in range(1, len(noise)):
        noise[day] = correlation * noise[day - 1] + np.sqrt(1 - correlation**2) * noise[day]
    noise[30 + since:] += rise
    return noise


def disasters(draw, days: np.ndarray) -> np.ndarray:
    "The same days with one in twenty far worse, as one that a storm closed"
    return days + 8 * (draw.random(len(days)) < 0.05)


def first_alarm(days: np.ndarray, weeks=LOOKS) -> int | None:
    "The week of the first alarm"
    judged = losses.judged_blocks(np.ones(30), days[:30])
    served = losses.served_blocks({day: (100.0, 100 * loss, 0.0) for day, loss in enumerate(days[30:])})
    for week in weeks:
        rise = losses.find_rise(judged, served.loss[:week * 7 // losses.BLOCK_DAYS])
        if rise and rise.least > 0: return week
    return None


@pytest.mark.parametrize("correlation", [0, 0.37])
def test_a_year_of_weekly_looks_has_one_chance_of_a_false_alarm(correlation):
    "Nominal 5 %, and three standard errors of 300 years; each look by itself would be wrong in most of them"
    draw = np.random.default_rng(1)
    alarms = [first_alarm(history(draw, correlation)) is not None for _ in range(300)]
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_days_that_correlate_and_are_sometimes_far_worse_have_that_chance_too():
    draw = np.random.default_rng(5)
    alarms = [first_alarm(disasters(draw, history(draw, 0.37))) is not None for _ in range(300)]
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize("correlation, rise, since, share, weeks", [
    (0, 2, 0, 0.95, 3), (0.37, 2, 0, 0.95, 4), (0, 1, 0, 0.9, 8), (0, 2, 182, 0.9, 4)])
def test_a_rise_is_found_and_the_day_of_it_is_about_right(correlation, rise, since, share, weeks):
    draw = np.random.default_rng(2)
    found = [first_alarm(history(draw, correlation, rise, since)) for _ in range(60)]
    later = [week - since // 7 for week in found if week and week > since // 7]
    assert len(later) / 60 >= share and np.median(later) <= weeks


def test_the_bound_is_what_was_added_at_most():
    "The increase that the rule proves is below the true one in 95 % of rises, at the look that finds them too"
    draw, over = np.random.default_rng(3), []
    for _ in range(100):
        days = history(draw, 0, 2.0)
        judged = losses.judged_blocks(np.ones(30), days[:30])
        served = losses.served_blocks({day: (100.0, 100 * loss, 0.0) for day, loss in enumerate(days[30:])})
        rises = [losses.find_rise(judged, served.loss[:week * 7 // losses.BLOCK_DAYS]) for week in LOOKS]
        over.append(any(rise and rise.least > 2.0 for rise in rises))
    assert np.mean(over) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100)


def test_the_answer_does_not_depend_on_the_unit_or_the_level_of_the_loss():
    days = history(np.random.default_rng(4), 0, 2.0)[:90]
    judged, served = days[:28].reshape(7, 4).mean(1), days[30:90].reshape(15, 4).mean(1)
    plain, other = (losses.find_rise(scale * judged + 7, scale * served + 7) for scale in (1, 1000))
    assert other.least == pytest.approx(1000 * plain.least) and other.first == plain.first


def rows(n: int, seed: int, wrong: float = 0.0) -> pd.DataFrame:
    "Rows whose outcome the probability foretells, but for a share of them"
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({"x": draw.normal(0, 1, n), "z": draw.normal(0, 1, n), "who": draw.choice(["UA", "DL"], n)})
    table["probability"] = 1 / (1 + np.exp(-table.x))
    late = (draw.random(n) < table.probability) ^ (draw.random(n) < wrong)
    return table.assign(late=late.astype(int))


def serve(site: Site, days: range, per_day: int = 60, wrong: float = 0.0):
    "Requests of these days after the start"
    for day in days:
        for i, row in enumerate(rows(per_day, 100 + day, wrong).to_dict("records")):
            time, id = START + timedelta(days=day, minutes=20 * i), f"{day}-{i}"
            site.line("blue/model_outputs", time, id, [{"probability": row["probability"]}])
            site.line("outcomes", time, id, [{"row": 0, "value": row["late"]}])


@pytest.fixture
def site(tmp_path):
    "A model that was judged on the 30 days before the start"
    site = Site(tmp_path)
    dates = pd.date_range(end=START.replace(tzinfo=None) - timedelta(days=1), periods=30).repeat(100)
    rows(3000, 2).assign(day=dates.strftime("%Y-%m-%d")).to_parquet(tmp_path / "baseline/data.parquet")
    site.file({"performance": signals()["performance"]})
    return site


def look(site: Site, day: int) -> dict: return site.run(START + timedelta(days=day))["performance"]


def test_each_look_uses_all_days_since_the_release_on_any_machine(site, tmp_path_factory):
    serve(site, range(0, 14))
    serve(site, range(14, 35), wrong=0.5)
    weekly = [look(site, day) for day in range(7, 36, 7)]
    assert [bool(one["since"]) for one in weekly[:2]] == [False, False] and weekly[-1]["since"]
    assert "2013-07-11" <= weekly[-1]["since"] <= "2013-07-19" and weekly[-1]["worse"] > 0
    elsewhere = Site(tmp_path_factory.mktemp("elsewhere"))
    for name in ("baseline", "pipelines", ".mlops/collected"):
        shutil.copytree(site.root / name, elsewhere.root / name, dirs_exist_ok=True)
    assert look(elsewhere, 35) == weekly[-1]


def test_days_whose_records_were_deleted_still_count_and_a_later_look_changes_no_earlier_one(site):
    serve(site, range(0, 28))
    weekly = [look(site, day) for day in range(7, 29, 7)]
    assert look(site, 21) == weekly[2]
    shutil.rmtree(site.root / ".mlops/collected/e/blue/model_outputs/2013/07/03")
    assert look(site, 28) == weekly[3]


def test_a_new_baseline_begins_anew(site):
    serve(site, range(0, 21), wrong=0.5)
    assert look(site, 21)["since"]
    dates = pd.date_range(end=START.replace(tzinfo=None) + timedelta(days=20), periods=30).repeat(100)
    rows(3000, 2, wrong=0.5).assign(day=dates.strftime("%Y-%m-%d")).to_parquet(site.root / "baseline/data.parquet")
    serve(site, range(21, 35), wrong=0.5)
    found = look(site, 35)
    assert found["since"] is None and found["worse"] is not None and found["worse"] < 0


def test_an_alarm_says_since_when(site):
    serve(site, range(0, 28), wrong=0.5)
    result = site.run(START + timedelta(days=28))
    row = next(row for row in result["signals"]["performance"]["rows"] if row["metric"] == "log_loss")
    assert row["breach"] and result["breach"] and f"since {result['performance']['since']}" in row["note"]
    assert row["null_threshold"] == pytest.approx(row["value"] - result["performance"]["worse"])


def test_too_few_days_tell_nothing(site):
    serve(site, range(0, 4), wrong=0.5)
    found = look(site, 4)
    assert found["worse"] is None and found["since"] is None and found["value"] > found["baseline"]


# What to expect without outcomes

def entropy(p: np.ndarray) -> float: return float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).mean())


def test_without_outcomes_the_probabilities_say_what_loss_to_expect(site):
    "The week's predictions are less decided than those that judged the model; no outcome of the week is known"
    draw = np.random.default_rng(5)
    undecided = draw.uniform(0.4, 0.6, 600)
    for i, p in enumerate(undecided):
        site.line("blue/model_outputs", START + timedelta(minutes=16 * i), f"r{i}", [{"probability": float(p)}])
    result = site.run()
    expected = result["estimate"]
    assert result["performance"] is None and result["unexpected"] == ""
    assert expected["value"] == pytest.approx(entropy(undecided)) and expected["n"] == 600
    judged = pd.read_parquet(site.root / "baseline/data.parquet")
    lost = -np.log(np.where(judged.late > 0, judged.probability, 1 - judged.probability))
    assert expected["change"] == pytest.approx(entropy(undecided) - lost.mean())
    assert expected["low"] < expected["change"] < expected["high"] and expected["harm"] == (expected["low"] > 0)


def test_the_band_is_what_the_estimate_has_missed_by_before(site):
    serve(site, range(0, 21))
    calm = site.run(START + timedelta(days=21))["estimate"]
    shutil.rmtree(site.root / ".mlops/monitors")
    serve(site, range(21, 42), wrong=0.5)
    wild = site.run(START + timedelta(days=42))["estimate"]
    assert wild["high"] - wild["change"] > 3 * (calm["high"] - calm["change"])
    assert abs(wild["change"]) < 0.1 and not wild["harm"], "the predictions are the same; what came true is not"


def test_a_model_that_is_too_sure_gets_no_estimate(site):
    baseline = site.root / "baseline/data.parquet"
    table = pd.read_parquet(baseline)
    odds = (table.probability / (1 - table.probability)) ** 6
    table.assign(probability=odds / (1 + odds)).to_parquet(baseline)
    serve(site, range(0, 7))
    result = site.run()
    assert result["estimate"] is None
    assert "does not follow what the probabilities promise" in result["unexpected"] and "slope" in result["unexpected"]
