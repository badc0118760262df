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
from mlops_nb.retraining.watch import CommandRunner, Round, Schedule, Ticks, Work

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


# Clocks, failures, and work that never ends

NOON = datetime(2026, 11, 28, 12, 5, tzinfo=UTC)


@pytest.mark.parametrize("ahead", [timedelta(minutes=30), timedelta(hours=1), timedelta(days=365)])
def test_a_schedule_goes_on_after_the_clock_was_ahead(project, ahead):
    hourly = Schedule("m", Path("m.yml"), "monitor", {"type": "cron", "expression": "0 * * * *"})
    with closing(Ticks(project)) as ticks:
        ticks.due(hourly, NOON + ahead)
        assert ticks.due(hourly, NOON) is None and f"it is {NOON.isoformat()}" in ticks.doubted[0]
        tick, missed = ticks.due(hourly, NOON + timedelta(hours=2))
        assert (tick.hour, missed) == (14, 2)


def test_a_small_step_back_repeats_nothing(project):
    hourly = Schedule("m", Path("m.yml"), "monitor", {"type": "cron", "expression": "0 * * * *"})
    with closing(Ticks(project)) as ticks:
        ticks.due(hourly, NOON - timedelta(hours=1))
        ticks.record(hourly, ticks.due(hourly, NOON)[0], 1, 0)
        assert ticks.due(hourly, NOON - timedelta(minutes=9)) is None and not ticks.doubted
        assert ticks.due(hourly, NOON + timedelta(minutes=50)) is None
        assert ticks.due(hourly, NOON + timedelta(minutes=55))[1] == 1


def test_a_stored_tick_that_is_no_time_is_not_believed(project):
    hourly = Schedule("m", Path("m.yml"), "monitor", {"type": "cron", "expression": "0 * * * *"})
    with closing(Ticks(project)) as ticks:
        ticks.due(hourly, NOON)
        ticks.db.execute("UPDATE fired SET tick = 'soon'")
        assert ticks.due(hourly, NOON) is None and "soon" in ticks.doubted[0]
        assert ticks.due(hourly, NOON + timedelta(hours=1))


class Sleeper(CommandRunner):
    "A job never ends, whatever it is told; monitors end at once"
    def start(self, lane, command, done):
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
        words = [sys.executable, "-c", code if command[0] == "run" else "print()"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        process.stdout.readline()
        self.works[lane] = Work(process, done, self.seconds, grace=0.5)


def test_a_job_that_never_ends_stops_no_monitor_and_is_ended(project):
    said: list[str] = []
    trigger = {"type": "cron", "expression": "* * * * *"}
    job = Schedule("retrain", project / "pipelines/training/schedule.yml", "job", trigger)
    monitor = Schedule("watcher", project / "m.yml", "monitor", job.trigger)
    runner = Sleeper(project, seconds=3600)
    with closing(Ticks(project)) as ticks:
        one_round = Round(runner, ticks, [job, monitor], said.append)
        def rounds(is_done):
            "Rounds, with an hour between them for the schedules"
            while not is_done():
                ticks.db.execute("UPDATE fired SET tick = ?", ((datetime.now(UTC) - timedelta(hours=1)).isoformat(),))
                one_round.run()
                time.sleep(0.01)
        one_round.run()
        rounds(lambda: sum("watcher: done" in text for text in said) >= 3)
        stuck = runner.works["job retrain"]
        assert stuck.process.poll() is None and not any("retrain" in text for text in said)
        stuck.seconds = runner.seconds = 0.0
        rounds(lambda: any("retrain" in text for text in said))
        assert "retrain: ended, for it took longer than work_hours" in " ".join(said) and stuck.process.poll() == -9
        runner.stop()
        runner.finish()


def test_nothing_that_fails_ends_a_round(project, monkeypatch):
    said: list[str] = []
    broken = Schedule("broken", project / "gone.yml", "job", {"type": "cron", "expression": "0 * * * *"})
    runner = CommandRunner(project)
    with closing(Ticks(project)) as ticks:
        one_round = Round(runner, ticks, [broken], said.append)
        one_round.run()
        miss(project, 3)
        monkeypatch.setattr("mlops_nb.retraining.watch.has_work", lambda root: 1 / 0)
        for _ in range(5): one_round.run()      # the pauses keep the others from being tried
    assert len(said) == 2
    assert "ZeroDivisionError" in " ".join(said) and "gone.yml" in " ".join(said)
    assert one_round.lanes["broken"].failures == one_round.lanes["events"].failures == 1
