"What `mlops-nb gc` makes smaller, deletes and leaves alone"
import gzip
import json
import os
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops_nb.monitors.collected import Counts, database, fetch_value, files_between, read_events
from mlops_nb.project import Project
from mlops_nb.serving.collection import Collector, Journal, end_cursor, iter_served
from mlops_nb.workspace.retention import DAY, InUse, Limits, Retention, apply, compress

SETTINGS = "[project]\nexperiment = e\nmodel = m\n[deployment]\ncompress_days = 2\nkeep_days = {keep}\n"
HOUR = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROWS = 400


@pytest.fixture
def project(tmp_path) -> Project:
    "400 requests, served and collected ten days ago"
    (tmp_path / "settings.ini").write_text(SETTINGS.format(keep=0))
    project = Project(tmp_path)
    journal = Journal(project.endpoints / "echo/served")
    collector = Collector(project.collected, "echo", "blue", "1", "first")
    for number in range(ROWS):
        line = {"served": HOUR.isoformat(), "request_id": f"r{number}", "status": 200, "milliseconds": 7.1}
        journal.append(HOUR, (json.dumps(line) + "\n").encode())
        asked, answered = {"carrier": "UA", "hour": number / 10}, {"probability": number / ROWS}
        collector.collect(HOUR, f"r{number}", [asked], [answered])
    journal.close()
    collector.close()
    age(project, 10)
    return project


def files(project: Project, end: str = "") -> list[Path]:
    return sorted(path for path in project.local.rglob(f"*.jsonl{end}"))


def age(project: Project, days: float):
    for path in [*files(project), *files(project, ".gz")]: os.utime(path, 2 * (time.time() - days * DAY,))


def ids(project: Project, since=None) -> list[str]:
    return [event["request_id"] for event in iter_served(project.endpoints / "echo/served", since)]


def count_collected(project: Project) -> tuple[int, int]:
    "What a monitor finds: events, and lines that are none"
    folder, counts = project.collected / "echo/blue/model_inputs", Counts()
    with database(project.monitors / "spill") as con:
        read_events(con, "events", files_between(folder, HOUR, HOUR), counts)
        return fetch_value(con, "SELECT count(*) FROM events"), counts.malformed


def gc(project: Project, *options: str) -> dict:
    "Run the command"
    done = subprocess.run([sys.executable, "-m", "mlops_nb", "gc", "--json", *options], cwd=project.root, text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_dry_run_changes_nothing_and_says_what_would_be(project):
    before = {path: path.read_bytes() for path in files(project)}
    found = gc(project, "--dry-run")
    assert [(row["action"], row["part"], row["files"]) for row in found["changes"]] == [
        ("compress", "collected", 2), ("compress", "served", 1)]
    assert {path: path.read_bytes() for path in files(project)} == before and found["disk"]["collected"] > 100_000


def test_what_is_compressed_is_read_as_before(project):
    all_ids, cursors = ids(project), [event["cursor"] for event in iter_served(project.endpoints / "echo/served")]
    end, seen = end_cursor(project.endpoints / "echo/served"), count_collected(project)
    before, after = gc(project, "--dry-run"), gc(project)
    assert not files(project) and len(files(project, ".gz")) == 3
    assert ids(project) == all_ids == [f"r{number}" for number in range(ROWS)]
    assert ids(project, cursors[99]) == all_ids[100:] and ids(project, end) == []
    assert end_cursor(project.endpoints / "echo/served") == end
    assert count_collected(project) == seen == (ROWS, 0)
    used, freed = (sum(row[key] for row in after["changes"]) for key in ("bytes", "freed"))
    assert freed > 0.7 * used == 0.7 * sum(row["bytes"] for row in before["changes"])
    assert {path.stat().st_mode & 0o777 for path in files(project, ".gz")} == {0o600}
    assert gc(project)["changes"] == [], "the second time there is nothing to do"


def test_old_records_are_deleted_but_not_those_that_monitors_need(project):
    (project.root / "settings.ini").write_text(SETTINGS.format(keep=7))
    gc(project)
    assert len(files(project, ".gz")) == 3, "reference_days of monitors are longer"
    age(project, 300)
    found = gc(project)
    assert {(row["action"], row["files"]) for row in found["changes"]} == {("delete", 2), ("delete", 1)}
    assert not files(project, ".gz") and ids(project) == []


def test_what_a_release_reads_or_a_host_writes_stays(project):
    now, served = time.time(), Limits(compress_days=2, keep_days=5)
    assert {change.action for change in Retention(project, now, served).plan()} == {"delete"}
    assert Retention(project, now, served, InUse(since=now - 11 * DAY)).plan() == []
    live = Retention(project, now, served, InUse(runs=frozenset({"first"}))).plan()
    assert {change.part for change in live} == {"served"}
    age(project, -365)
    assert Retention(project, now, served).plan() == [], "a time in the future is not believed"


def test_a_file_that_grows_meanwhile_is_left(project, monkeypatch):
    path, real = files(project)[0], gzip.GzipFile.close
    def close(self):
        real(self)
        with open(path, "ab") as file: file.write(b"{}\n")
    monkeypatch.setattr(gzip.GzipFile, "close", close)
    assert not compress(path) and path.read_bytes().endswith(b"{}\n") and not files(project, ".gz")


def test_a_kill_between_both_files_doubles_nothing(project):
    path = next(path for path in files(project) if "served" in path.parts)
    with gzip.open(f"{path}.gz", "wb") as file: file.write(path.read_bytes())
    assert ids(project) == [f"r{number}" for number in range(ROWS)]
    for change in Retention(project, time.time(), Limits()).plan(): apply(change)
    assert ids(project) == [f"r{number}" for number in range(ROWS)] and not files(project)


def test_caches_go_unless_jobs_run(project):
    from mlops_nb.workspace.workspace import open_database
    for name in ("downloads/a/part.csv", "environments/abc-1/env/bin/python", "environments/abc.python"):
        path = project.local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * 5000)
    for path in (project.downloads / "a", project.local / "environments/abc.python"):
        os.utime(path, 2 * (time.time() - 40 * DAY,))
    db: sqlite3.Connection = open_database(project.workspace_db)
    db.execute("INSERT INTO jobs (id, status) VALUES ('j', 'Running')")
    assert {row["part"] for row in gc(project, "--dry-run")["changes"]} == {"collected", "served"}
    db.execute("UPDATE jobs SET status = 'Completed'")
    db.close()
    gc(project)
    assert not (project.downloads / "a").exists()
    assert {path.name for path in (project.local / "environments").iterdir()} <= {"abc.lock"}


PIPELINE = """type: pipeline
inputs: {word: first}
jobs:
  write:
    type: command
    component:
      type: command
      inputs: {word: {type: string}}
      outputs: {text: {type: uri_file}}
      environment: azureml:any@latest
      command: echo ${{inputs.word}} > ${{outputs.text}}
    inputs: {word: "${{parent.inputs.word}}"}
"""


def run(root: Path, word: str) -> str:
    "Run the pipeline with a word; the job's id"
    words = [sys.executable, "-m", "mlops_nb", "run", "pipeline.yml", "--set", f"inputs.word={word}", "--json"]
    done = subprocess.run(words, cwd=root, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["id"]


def test_what_old_jobs_made_goes_unless_it_is_needed_and_is_made_again(tmp_path):
    from mlops_nb.workspace.workspace import Workspace, find_job
    (tmp_path / "settings.ini").write_text(SETTINGS.format(keep=0))
    (tmp_path / "pipeline.yml").write_text(PIPELINE)
    project, jobs = Project(tmp_path), [run(tmp_path, word) for word in ("released", "old", "young", "last")]
    released, old, young, last = jobs
    workspace = Workspace(tmp_path)
    workspace.db.execute("UPDATE jobs SET ended = ended - ? WHERE id != ?", (200 * DAY, young))
    (project.releases / "r").mkdir(parents=True)
    (project.releases / "r/release.json").write_text(json.dumps({"evidence": f".mlops/jobs/{released}/write/x.ipynb"}))
    (changed,) = gc(project, "--dry-run")["changes"]
    assert (changed["action"], changed["part"], changed["files"]) == ("delete", "jobs", 1)
    assert workspace.job_folder(old).is_dir(), "a dry run deletes nothing"
    gc(project)
    assert [id for id in jobs if workspace.job_folder(id).is_dir()] == [released, young, last]
    assert find_job(workspace, old)["status"] == "Completed" and gc(project)["changes"] == []
    words = [sys.executable, "-m", "mlops_nb", "logs", old, "write"]
    log = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True)
    assert log.returncode == 2 and f"the files of {old} are gone" in log.stderr
    again = run(tmp_path, "old")
    assert again != old and (workspace.job_folder(again) / "write/outputs/text").read_text() == "old\n"


def test_a_job_whose_step_another_one_has_taken_over_stays(tmp_path):
    from mlops_nb.workspace.references import list_unneeded_jobs
    from mlops_nb.workspace.workspace import Workspace, add_job
    (tmp_path / "settings.ini").write_text(SETTINGS.format(keep=0))
    workspace = Workspace(tmp_path)
    row = {"kind": "pipeline", "signature": "", "experiment": "e"}
    ids = [add_job(workspace, row | {"name": f"j{n}", "file": "a.yml"}, ["s"]) for n in range(5)]
    workspace.db.execute("UPDATE jobs SET status = 'Completed', ended = 1000.0 + rowid")
    for later, earlier in ((3, 2), (2, 0)):     # the last one (4) stays; 3 is young and needs 2, which needs 0
        workspace.db.execute("UPDATE steps SET reused = ? WHERE job = ?", (ids[earlier], ids[later]))
    workspace.db.execute("UPDATE jobs SET ended = 9e9 WHERE id = ?", (ids[3],))
    assert list_unneeded_jobs(workspace, 2000.0, set()) == [ids[1]]
    workspace.db.execute("UPDATE jobs SET status = 'Running' WHERE id = ?", (ids[1],))
    assert list_unneeded_jobs(workspace, 2000.0, set()) == []


def test_builds_that_nothing_serves_go_unless_a_command_deploys(tmp_path):
    from mlops_nb.serving.state import EndpointFolder
    (tmp_path / "settings.ini").write_text(SETTINGS.format(keep=0))
    project, folder = Project(tmp_path), EndpointFolder(tmp_path, "echo")
    with folder.change() as state: state["deployments"]["blue"] = {"build": "now"}
    builds = [folder.path / "deployments/blue" / name for name in ("left", "now", "young")]
    for build in builds:
        (build / "model").mkdir(parents=True)
        (build / "model/weights").write_bytes(b"x" * 10_000)
        if build.name != "young": os.utime(build, 2 * (time.time() - 200 * DAY,))
    with folder.lock("deploy"): assert gc(project)["changes"] == []
    assert [row["part"] for row in gc(project)["changes"]] == ["builds"]
    assert [build.name for build in builds if build.is_dir()] == ["now", "young"]


def test_a_long_log_keeps_its_end(project):
    log = project.endpoints / "echo/host.log"
    with open(log, "ab") as file:
        for number in range(120_000): file.write(b"line %d %s\n" % (number, b"." * 90))
        file.flush()
        assert {row["part"] for row in gc(project)["changes"]} >= {"logs"}
        file.write(b"after\n")
    lines = log.read_bytes().splitlines()
    assert log.stat().st_size < 2**20 + 100 and lines[-2].startswith(b"line 119999") and lines[-1] == b"after"
    assert lines[0].startswith(b"line ")
