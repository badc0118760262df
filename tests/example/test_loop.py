"The whole story on a thirtieth of the flights: two months, killed once, told to the end"
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.monitoring.replay import (
    LineView,
    TrafficEnded,
    choose_windows,
    count_needed,
    cut_windows,
    describe_answers,
    format_summary,
    wait_with_traffic,
)
from mlops_nb.monitors.settings import ReplaySettings
from mlops_nb.releases.rollout import load_rollout
from mlops_nb.retraining.events import list_events
from mlops_nb.serving.endpoints import Endpoints
from mlops_nb.tower.facts import collect_facts

from tests.support import ROOT

COMMAND = [
    sys.executable,
    "-m",
    "mlops_nb",
    "loop",
    "--windows",
    "2",
    "--sample",
    "20",
    "--rows",
    "5",
    "--every",
    "20",
    "--json",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Path]:
    "A copy of the repository"
    root = tmp_path_factory.mktemp("loop") / "my project"
    for name in ("nbs", "mlops_nb", "pipelines"): shutil.copytree(ROOT / name, root / name)
    for name in ("pyproject.toml", ".amlignore"): shutil.copy(ROOT / name, root / name)
    settings = (
        (ROOT / "settings.ini").read_text().replace("qa_max_p99_ms = 250.0", "qa_max_p99_ms = 30000.0")
    )  # the machine of a test may be busy
    (root / "settings.ini").write_text(settings)
    yield root
    for one in Endpoints(root).list(): Endpoints(root).stop(one.name)


def begin(project: Path) -> subprocess.Popen:
    return subprocess.Popen(
        COMMAND, cwd=project, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def state(project: Path) -> dict:
    file = project / ".mlops/loop/state.json"
    return json.loads(file.read_text()) if file.exists() else {}


@pytest.fixture(scope="module")
def summary(project) -> dict:
    "What it comes to, after a kill in the traffic of the first month"
    first = begin(project)
    while not state(project).get("sent", {}).get("2013-04"):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = begin(project)
    said, errors = second.communicate()
    assert second.returncode == 0, errors
    return json.loads(said)


def test_it_comes_to_an_end_with_what_was_measured(summary):
    assert list(summary["windows"]) == ["2013-04", "2013-05"]
    assert all(one["performance"]["n"] > 500 and one["requests"] > 200 for one in summary["windows"].values())
    assert summary["releases"] >= 1 and summary["retrained"] >= summary["refused"]
    april, may = summary["windows"].values()
    assert april["answer"].startswith("retrained") and may["answer"].startswith("the replay ends")
    text = format_summary(summary)
    assert text[-1].startswith("control tower: ") and Path(text[-1].partition(": ")[2]).is_file()


def test_nothing_was_done_twice(summary, project):
    found = collect_facts(project)
    trained = [job for job in found["jobs"] if job["name"] == "retraining"]
    assert len(trained) == 1 + summary["retrained"]
    assert len({row["breach"] for row in list_events(project)}) == len(list_events(project)) <= 3
    assert [one["status"] for one in found["releases"]].count("Promoted") == summary["releases"]


def test_a_small_sample_has_requests_enough_for_a_canary(summary, project):
    needed = count_needed(load_rollout(project / "pipelines/monitoring/rollout.yml"))
    assert all(rows == 1 for rows in summary["rows_of_a_request"])      # 1,300 rows in a month, of 5 for each at most
    assert all(one["requests"] >= needed for one in summary["windows"].values())
    assert not any("too few requests" in (one["reason"] or "") for one in collect_facts(project)["releases"])


def test_the_champion_was_refreshed_by_the_calendar_of_the_replay(project, summary):
    row = next(row for row in list_events(project) if row["action"] == "retrain")
    assert row["reason"] == "refresh: the champion knows the days up to 2013-04-01, 30 days before"
    assert row["outcome"]["reason"].startswith("Accepted") == row["outcome"]["accepted"]


def test_every_request_was_answered_and_its_outcome_found(summary, project):
    served = {
        event["request_id"]
        for event in Endpoints(project).events("flight-delay", None)
        if not event["mirror"] and not event["pinned"]
    }
    assert len(served) == summary["requests"]
    results = collect_facts(project)["results"]
    assert len(results) == 2 and all(one["counts"]["missing"] <= one["counts"]["late"] <= 5 for one in results)


def test_the_tower_tells_it(summary, project):
    page = Path(summary["tower"]).read_text()
    assert "Version 1 of flight-delay" in page or "Version 2 of flight-delay" in page
    assert page.count('class="badge Promoted"') == summary["releases"] and "1 Apr 2013" in page


def test_the_same_command_again_says_the_same_and_leaves_no_process(summary, project):
    again = begin(project)
    said, _ = again.communicate()
    assert json.loads(said) == summary
    assert not any(one.running for one in Endpoints(project).list())


def test_another_plan_does_not_mix_with_it(summary, project):
    done = subprocess.run([*COMMAND, "--seed", "3"], cwd=project, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "another replay was begun here, with seed = 0" in done.stderr
        and "--fresh" in done.stderr
    )


def test_a_release_without_traffic_ends():
    wait = wait_with_traffic(lambda: False, looks=2)
    wait(0), wait(0)
    with pytest.raises(TrafficEnded): wait(0)


YEAR = ReplaySettings(start="2013-04-01", end="2014-01-01")


@pytest.mark.parametrize("wrong, message", [
    (replace(YEAR, window="year"), "month, or a number of days"),
    (replace(YEAR, window="0"), "month, or a number of days"),
    (replace(YEAR, start="spring"), "start = 2013-04-01")])
def test_impossible_windows(wrong, message):
    with pytest.raises(UserError, match=message): cut_windows(wrong)


def test_windows_are_months_or_days_and_the_last_one_may_be_shorter():
    assert [one.name for one in cut_windows(YEAR)] == [f"2013-{month:02d}" for month in range(4, 13)]
    tens = cut_windows(replace(YEAR, end="2013-04-26", window="10"))
    assert [one.name for one in tens] == ["2013-04-01", "2013-04-11", "2013-04-21"]
    assert tens[-1].ends - tens[-1].begins == timedelta(days=5)


def test_what_a_champion_has_seen_is_not_replayed():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert [one.name for one in choose_windows(YEAR, "2013-10-15", None, now)] == ["2013-11", "2013-12"]
    assert [one.name for one in choose_windows(YEAR, None, 2, now)] == ["2013-04", "2013-05"]
    sample, = choose_windows(YEAR, "2014-01-01", None, now)
    assert (sample.name, sample.ends) == ("sample", now)


def test_lines_say_each_step_once():
    said = []
    view = LineView(said.append)
    for count in range(3): view("2013-04", "serving", str(count))
    view("2013-04", "done", "")
    assert len(said) == 2 and said[1].endswith("2013-04: done")


def test_words_for_what_was_decided():
    assert describe_answers([]) == "no breach"
    assert describe_answers([dict(action="none", reason="cool-down", outcome=None)]) == "no retraining: cool-down"
    undecided = dict(accepted=True, version=2, release=dict(status="RolledBack", reason="too few requests"))
    answer = describe_answers([dict(action="retrain", outcome=undecided)])
    assert answer == "retrained: version 2 accepted, RolledBack: too few requests"
    assert (
        describe_answers([dict(action="retrain", reason="", outcome=dict(accepted=False, reason="Refused: worse."))])
        == "retrained, and kept the champion. Refused: worse."
    )
