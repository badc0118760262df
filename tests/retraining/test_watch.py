"The watch: one process, ticks caught up once, kills, signals"
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.processes import end_marked
from mlops_nb.retraining.events import BREACH_EVENT, list_events, receive
from mlops_nb.retraining.watch import Ticks

PIPELINE = """type: pipeline
jobs:
  write:
    type: command
    component:
      type: command
      is_deterministic: false
      code: .
      environment: azureml:any@latest
      command: python work.py
"""
SCHEDULE = """name: hourly
trigger: {type: cron, expression: "0 * * * *"}
create_job: {type: pipeline, job: ./pipeline.yml}
"""
WORK = """import os, time
open(os.environ['LOG'], 'a').write(f'begun {os.getpid()}\\n')
time.sleep(float(open(os.environ['SLOW']).read()))
open(os.environ['LOG'], 'a').write('ended\\n')
"""


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    folder = tmp_path / "pipelines/training"
    folder.mkdir(parents=True)
    for name, text in (("pipeline.yml", PIPELINE), ("schedule.yml", SCHEDULE), ("work.py", WORK)):
        (folder / name).write_text(text)
    (tmp_path / "slow").write_text("0")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("SLOW", str(tmp_path / "slow"))
    return tmp_path


@pytest.fixture
def start(project):
    "Starts a watch; whatever is left at the end is killed"
    running = []
    def begin() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlops_nb", "watch", "--every", "0.1", "--no-tower"],
            cwd=project,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        assert "watching 1 schedule: hourly" in process.stdout.readline()
        return process
    yield begin
    for process in running:
        if process.poll() is None: os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for job in (project / ".mlops/jobs").glob("*/"):
        end_marked(f"MLOPS_NB_JOB={job.name}")  # a watch that was killed leaves its job at work


def until(what, process: subprocess.Popen):
    "Wait for something, as long as the watch lives"
    assert process.stdout is not None
    while not (found := what()):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)
    return found


def log(project: Path) -> list:
    return (project / "log").read_text().split("\n")[:-1] if (project / "log").exists() else []


def miss(project: Path, hours: int):
    "As if the watch had not run for some hours"
    with sqlite3.connect(project / ".mlops/watch.db", timeout=60) as db:
        db.execute("UPDATE fired SET tick = ?", ((datetime.now(UTC) - timedelta(hours=hours)).isoformat(),))


def fired(project: Path) -> tuple | None:
    with closing(Ticks(project)) as ticks: return ticks.db.execute("SELECT tick, ended, code FROM fired").fetchone()


def stop(process: subprocess.Popen, number=signal.SIGTERM) -> str:
    process.send_signal(number)
    said = process.communicate()[0]
    assert process.returncode == 0 and said.endswith("stopped\n")
    return said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_missed_ticks_are_caught_up_once(project, start, number):
    first = start()
    until(lambda: fired(project), first)
    stop(first, number)
    assert log(project) == []
    miss(project, 5)
    second = start()
    until(lambda: fired(project)[1], second)
    said = stop(second)
    assert "ticks at once" in said and log(project).count("ended") == 1
    assert fired(project)[2] == 0 and datetime.fromisoformat(fired(project)[0]) > datetime.now(UTC) - timedelta(
        hours=1, minutes=1
    )


def test_there_is_one(project, start):
    start()
    second = subprocess.run([sys.executable, "-m", "mlops_nb", "watch"], cwd=project, capture_output=True, text=True)
    assert second.returncode == 2 and "is watched already" in second.stderr


def test_a_signal_ends_the_work_and_leaves_no_process(project, start):
    first = start()
    until(lambda: fired(project), first)
    stop(first)
    miss(project, 2)
    (project / "slow").write_text("600")
    second = start()
    worker = int(until(lambda: log(project), second)[0].split()[1])
    stop(second)
    with pytest.raises(ProcessLookupError): os.kill(worker, 0)
    assert fired(project)[1] is None, "the tick is not done"


def test_a_kill_repeats_the_tick(project, start):
    first = start()
    until(lambda: fired(project), first)
    stop(first)
    miss(project, 2)
    (project / "slow").write_text("600")
    second = start()
    until(lambda: log(project), second)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
    (project / "slow").write_text("0")
    third = start()
    until(lambda: fired(project)[1], third)
    stop(third)
    assert fired(project)[2] == 0 and "ended" in log(project)


def test_pending_events_are_handled(project, start):
    signals = dict(inputs=dict(type="data_drift", verdict="breach", rows=[]))
    watch = start()
    receive(
        project,
        dict(
            id="b1",
            type=BREACH_EVENT,
            time="2013-07-01T00:00:00Z",
            data=dict(window=["2013-06-01", "2013-07-01"], signals=signals),
        ),
    )
    row = until(lambda: next((row for row in list_events(project) if row["status"] == "done"), None), watch)
    stop(watch)
    assert row["action"] == "none" and "without harm" in row["reason"]
