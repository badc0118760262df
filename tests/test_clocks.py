"""The clock steps back and forth by minutes, an hour and a year while a host, a watch, a release and a handler run:
requests are answered, everything keeps its order, and nothing waits for the clock to be right again"""
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from mlops_nb.project import Project
from mlops_nb.releases.record import list_releases
from mlops_nb.retraining.events import list_events, receive
from mlops_nb.serving.state import EndpointFolder
from mlops_nb.workspace.workspace import Workspace, find_job

from tests.support import ROOT
from tests.support.clock import HOUR, STEPS, YEAR, Clock
from tests.support.serving import Client, Load, until

ANSWERS = {200, 429, 502, 503}      # what a caller may get while a deployment starts again


@pytest.fixture
def clock(tmp_path) -> Clock: return Clock(tmp_path)


def drop_first(replies: list) -> list:
    "Leave out the first reply of each thread, which may have been recorded before"
    threads = [id.rpartition("-")[0] for _, id, _ in replies]
    return [reply for place, reply in enumerate(replies) if threads[place] in threads[:place]]


def numbers_by_thread(events: list[dict]) -> list[list[int]]:
    "The numbers of the requests of each thread of a load, in the order of the events"
    found: dict[str, list[int]] = {}
    for event in events:
        thread, _, number = event["request_id"].rpartition("-")
        if thread.startswith("load-"): found.setdefault(thread, []).append(int(number))
    return [*found.values()]


def test_an_endpoint_answers_and_keeps_the_order_of_its_requests(serving, clock, monkeypatch):
    for name in ("endpoint", "deployment"):
        text = (serving.root / f"{name}.yml").read_text().replace("name: echo", "name: stepped")
        (serving.root / f"stepped-{name}.yml").write_text(text)
    for name, value in clock.variables.items(): monkeypatch.setenv(name, value)
    serving.deploy(serving.root / "stepped-endpoint.yml", serving.root / "stepped-deployment.yml")
    for name in clock.variables: monkeypatch.delenv(name)
    folder, call = EndpointFolder(serving.root, "stepped"), Client(serving, "stepped")
    host, cursors = folder.host.pid, []
    def blue() -> dict: return folder.status["deployments"]["blue"]
    try:
        with Load(call, threads=2) as load:
            for seconds in STEPS:
                cursors.append((serving.cursor("stepped"), len(load.replies)))
                clock.step(seconds)
                load.served(20)
                if abs(seconds) not in (0, YEAR): continue
                restarts = blue()["restarts"]
                os.killpg(until(lambda: blue()["pid"]), signal.SIGKILL)
                until(lambda: blue()["restarts"] > restarts and blue()["state"] == "Ready")  # noqa: B023  # at once
                load.served(20)
        assert {status for status, _, _ in load.replies} <= ANSWERS and not load.errors
        events = [*serving.events("stepped")]
        years = {event["served"][:4] for event in events}
        assert len(years) == 3, "the host has lived in three years"
        assert all(numbers == sorted(numbers) for numbers in numbers_by_thread(events)), "in the order of asking"
        good = {id for status, id, _ in load.replies if status == 200}
        assert good <= {event["request_id"] for event in events if event["status"] == 200}
        for cursor, seen in cursors:
            later = {event["request_id"] for event in serving.events("stepped", cursor)}
            after = {id for status, id, _ in drop_first(load.replies[seen:]) if status == 200}
            assert after <= later, "a cursor needs no clock"
        pauses = re.findall(r"restart \d+ in ([\d.]+) s", (folder.path / "host.log").read_text())
        assert len(pauses) >= 3 and all(float(pause) <= 30 for pause in pauses)
        assert folder.host.pid == host and not folder.status["failures"]
    finally: serving.stop("stepped")


PIPELINE = """type: pipeline
jobs:
  write:
    type: command
    component: {type: command, is_deterministic: false, code: ., environment: "azureml:any@latest", command: echo done}
"""
SCHEDULE = """name: hourly
trigger: {type: cron, expression: "0 * * * *"}
create_job: {type: pipeline, job: ./pipeline.yml}
"""


def breach(number: int) -> dict:
    "An event that a handler has nothing to do about"
    window = ["2013-06-01T00:00:00Z", "2013-07-01T00:00:00Z"]
    return {"id": f"b{number}", "type": "mlops_nb.monitor.breach", "time": window[1], "data": {
        "monitor": "m", "endpoint": "e", "window": window, "breach": True,
        "signals": {"s": {"type": "data_drift", "verdict": "breach", "rows": []}}}}


def test_a_watch_fires_and_handles_events(tmp_path, clock):
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    folder = tmp_path / "pipelines/training"
    folder.mkdir(parents=True)
    for name, text in (("pipeline.yml", PIPELINE), ("schedule.yml", SCHEDULE)): (folder / name).write_text(text)
    words, steps = [sys.executable, "-m", "mlops_nb", "watch", "--every", "0.1", "--no-tower"], STEPS[2:]
    watch = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ | clock.variables)
    def fired() -> str | None:
        with closing(sqlite3.connect(Project(tmp_path).watch_db)) as db:
            return next((ended for ended, in db.execute("SELECT ended FROM fired")), None)
    def handled() -> int: return sum(row["status"] == "done" for row in list_events(tmp_path))
    try:
        until(lambda: Project(tmp_path).watch_db.is_file() and b"hourly" in Project(tmp_path).watch_db.read_bytes())
        for number, seconds in enumerate(steps, 1):
            clock.step(seconds)
            receive(tmp_path, breach(number))
            until(lambda: handled() == number)  # noqa: B023  # it is asked for at once
            before = fired()
            clock.step(seconds + 2 * HOUR)
            until(lambda: fired() != before)    # noqa: B023
        assert watch.poll() is None
    finally:
        watch.send_signal(signal.SIGTERM)
        said = watch.communicate()[0]
    assert watch.returncode == 0 and "the clock was wrong, it goes on from now" in said
    assert [row["id"] for row in list_events(tmp_path)] == [f"b{number}" for number in range(len(steps), 0, -1)]
    workspace = Workspace(tmp_path)
    jobs = workspace.rows("SELECT id, status FROM jobs ORDER BY rowid")
    assert len(jobs) == len(steps) and {job["status"] for job in jobs} == {"Completed"}
    assert find_job(workspace, "last")["id"] == jobs[-1]["id"], "the last one is the one that began last"


RELEASE = """
import json, sys
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from tests.support.clock import STEPS, Clock
from tests.support.releasing import Traffic, files, make_files, released, reset, tools_for
root, clock, steps = Path(sys.argv[1]), Clock.of_this_process(), cycle(STEPS)
make_files(root / "release")
tools = tools_for(root)
tools.control.deploy(*files(tools).values(), model="flight-delay:1")
class Stepping(Traffic):
    def __call__(self, seconds=0):
        clock.step(next(steps))
        super().__call__(seconds)
def state(version):
    reset(tools)
    traffic = Stepping(tools, each=10)
    found = released(tools, version, wait=traffic)
    print(json.dumps(asdict(found) | {"looks": traffic.count // 10, "statuses": sorted({*traffic.statuses})}))
try:
    for version in ("good", "failing"): state(version)
finally: tools.control.stop("canary")
"""


def test_a_canary_counts_on_and_ends_as_without_steps(serving, clock, tmp_path):
    from tests.support.serving import make_workspace
    root = make_workspace(tmp_path / "project")
    variables = os.environ | clock.variables | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RELEASE, root], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    good, failing = map(json.loads, done.stdout.splitlines()[-2:])
    assert (good["status"], failing["status"]) == ("Promoted", "RolledBack"), done.stdout
    assert all(stage["requests"] >= 10 for stage in good["stages"][:-1]) and good["looks"] >= len(STEPS)
    assert good["statuses"] == [200] and "is worse than blue" in failing["reason"]
    (release,) = list_releases(root)
    assert release.id == failing["id"] and not release.failures


RETRAIN = """
import sys
from tests.support.clock import STEPS, Clock
from tests.support.retraining import StandIn
from tests.test_clocks import breach
from mlops_nb.retraining.events import handle
from mlops_nb.retraining.policy import Policy
clock, retrainer = Clock.of_this_process(), StandIn(Policy(retrain_on="any", cooldown_days=0, daily_budget=1000))
for number, seconds in enumerate(STEPS, 1):
    clock.step(seconds)
    event = breach(number)
    event["data"]["window"] = event["data"]["window"][:1] + ["2099-01-01T00:00:00Z"]
    handle(sys.argv[1], event, retrainer)
print(len(retrainer.asked))
"""


def test_a_handler_retrains_whatever_the_clock_was(clock, tmp_path):
    variables = os.environ | clock.variables | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", RETRAIN, tmp_path], capture_output=True, text=True, env=variables)
    assert (done.stdout, done.returncode) == (f"{len(STEPS)}\n", 0), done.stderr
    assert [row["id"] for row in list_events(tmp_path)] == [f"b{number}" for number in range(len(STEPS), 0, -1)]
