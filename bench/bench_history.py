"""What a year of history costs at its end: the control tower, `mlops-nb jobs`, a week of collected data, a look at
what is new in the log of requests"""
import json
import shutil
import sqlite3
import subprocess
import sys
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from harness import HOME, PYTHON, ROOT, Result, rounds, spawn, versions

from mlops_nb.monitors.collected import files_between
from mlops_nb.serving.collection import Journal, iter_served
from mlops_nb.workspace.mlflow_store import create_store, tracking_uri
from mlops_nb.workspace.workspace import Workspace

COMMAND = PYTHON.with_name("mlops-nb")
START, YEAR = datetime(2025, 1, 1, tzinfo=UTC), 8760
COLLECTED = Path(".mlops/collected/flights/blue/model_inputs")
SERVED = Path(".mlops/endpoints/flights/served")
FEATURES = [f"feature_{number}" for number in range(20)]


def make_project(name: str) -> Path:
    "An empty project that has the example's notebooks"
    root = HOME/"work"/"history"/name
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for part in ("settings.ini", "nbs", "mlops_nb", "pipelines"): (root/part).symlink_to(ROOT/part)
    return root


def signal_rows(hour: int) -> list[dict]:
    "What a drift signal says of each feature"
    rows = []
    for number, feature in enumerate(FEATURES):
        value = (hour * 7 + number * 13) % 100 / 1000
        rows.append({"feature": feature, "metric": "jensen_shannon_distance", "value": value, "azure_threshold": 0.1,
                     "azure_breach": False, "null_threshold": 0.05, "breach": value > 0.095, "n_ref": 20_000,
                     "n_cur": 900})
    return rows


def make_results(root: Path, hours: int) -> None:
    "One result of an hourly monitor for each hour"
    folder = root/".mlops"/"monitors"/"hourly"
    folder.mkdir(parents=True)
    for hour in range(hours):
        end = START + timedelta(hours=hour + 1)
        window = [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (end - timedelta(hours=1), end)]
        measured = {"metric": "log_loss", "value": 0.5, "low": 0.48, "high": 0.52, "baseline": 0.47, "worse": 0.01,
                    "n": 900, "days": 1}
        signals = {"inputs": {"type": "data_drift", "verdict": "breach", "rows": signal_rows(hour)},
                   "performance": {"type": "model_performance", "verdict": "ok", "rows": []}}
        result = {"monitor": "hourly", "endpoint": "flights", "at": window[1], "window": window, "rows": 900,
                  "counts": {}, "breach": False, "signals": signals, "performance": measured, "service": {}}
        (folder/f"{end:%Y%m%dT%H%M%SZ}.json").write_text(json.dumps(result, indent=1))


def make_jobs(root: Path, count: int) -> None:
    "Completed jobs of five steps, each with its MLflow runs and summaries"
    workspace, uri = Workspace(root), tracking_uri(root)
    create_store(uri)
    with workspace.transaction() as db, closing(sqlite3.connect(root/".mlops"/"mlflow.db")) as store, store:
        for number in range(count):
            id, at = f"bench-{number:06d}", time.time() - 60 * (count - number)
            job = (id, "bench", "bench.yml", "pipeline", "s", "e", "Completed", 1, at, at + 9, uuid.uuid4().hex, None)
            db.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * 12)})", job)
            for position in range(5):
                run = uuid.uuid4().hex
                times = (at, at + 2)
                step = (id, f"step{position}", position, "Completed", None, None, *times, run, None, "{}", None, None)
                db.execute(f"INSERT INTO steps VALUES ({', '.join('?' * 13)})", step)
                store.execute("INSERT INTO runs (run_uuid, name, status, start_time, lifecycle_stage, experiment_id) "
                              "VALUES (?, ?, 'FINISHED', ?, 'active', 0)", (run, f"step{position}", int(at * 1000)))
                tags = ("mlops_nb.summary", "mlflow.runName", "mlops_nb.key")
                store.executemany("INSERT INTO tags VALUES (?, ?, ?)", [(key, f"{key} of {id}", run) for key in tags])


def make_collected(root: Path, hours: int) -> None:
    "One small file for each hour, as the collector lays them out"
    folder = root/COLLECTED
    for hour in range(hours):
        place = folder/f"{START + timedelta(hours=hour):%Y/%m/%d/%H}"
        place.mkdir(parents=True)
        (place/"one.jsonl").write_text("{}\n")


def make_served(root: Path, hours: int) -> None:
    "One request for each hour, as the host of an endpoint writes them down"
    journal = Journal(root/SERVED)
    for hour in range(hours):
        time = START + timedelta(hours=hour)
        line = {"served": f"{time:%Y-%m-%dT%H:%M:%SZ}", "request_id": str(hour)}
        journal.append(time, (json.dumps(line) + "\n").encode())
    journal.close()


MAKERS = {"results": make_results, "jobs": make_jobs, "collected": make_collected, "served": make_served}


def make(kind: str, size: int) -> Path:
    "Make a project with a history in another process: what that needs is not what is measured"
    root = make_project(f"{kind}-{size}")
    subprocess.run([PYTHON, __file__, kind, str(size), root], check=True)
    return root


def tower(root: Path) -> dict[str, float]:
    "Write the control tower"
    page = root/".mlops"/"tower"/"index.html"
    found = spawn([COMMAND, "tower"], root)
    return found | {"page": sum(file.stat().st_size for file in page.parent.rglob("*.html")) / 1e6}


def week(folder: Path, hours: int) -> dict[str, float]:
    "List the files of the last seven days, twenty times"
    end, began = START + timedelta(hours=hours), time.process_time()
    for _ in range(20): found = files_between(folder, end - timedelta(days=7), end)
    assert len(found) >= 168, "the week has its hours"
    return {"cpu": (time.process_time() - began) / 20}


def look(folder: Path, hours: int) -> dict[str, float]:
    "Read the requests since the last hour, by the cursor that the tower and a canary have, twenty times"
    *_, before, _ = [event["cursor"] for event in iter_served(folder, START + timedelta(hours=hours - 3))]
    cursor = f"{before.rpartition('=')[0]}={hours - 1}:{before.rpartition(':')[2]}"
    began = time.process_time()
    for _ in range(20): found = [*iter_served(folder, cursor)]
    assert [event["request_id"] for event in found] == [str(hours - 1)], "only the last hour is new"
    return {"cpu": (time.process_time() - began) / 20}


def main():
    result = Result("history", "What a year of history costs", versions=versions(PYTHON, "mlops-nb"),
                    units={"cpu": "CPU s", "rss": "largest process MB", "page": "pages, MB"})
    candidates, sizes = {}, (24, 720, YEAR)
    for hours in sizes:
        candidates[f"control tower, {hours:,} hourly results"] = partial(tower, make("results", hours))
    for count in (10, 1_000, 10_000):
        root = make("jobs", count)
        for limit in (20, 200):
            command = [COMMAND, "jobs", "--limit", limit]
            candidates[f"mlops-nb jobs --limit {limit}, {count:,} jobs"] = partial(spawn, command, root)
    for hours in (200, YEAR):
        folder = make("collected", hours)/COLLECTED
        candidates[f"files of seven days of {hours:,} hours"] = partial(week, folder, hours)
    for hours in (200, YEAR):
        folder = make("served", hours)/SERVED
        candidates[f"a look at new requests after {hours:,} hours"] = partial(look, folder, hours)
    result.add(rounds(candidates, count=3))
    year = result.rows[f"control tower, {YEAR:,} hourly results"]
    result.target("control tower after a year of hours, CPU", year["cpu"]["median"], 1, " s")
    result.target("control tower after a year of hours, memory", year["rss"]["median"], 200, " MB")
    result.target("control tower after a year of hours, pages", year["page"]["median"], 2, " MB")
    for limit in (20, 200):
        row = result.rows[f"mlops-nb jobs --limit {limit}, 10,000 jobs"]
        result.target(f"mlops-nb jobs --limit {limit} of 10,000 jobs, CPU", row["cpu"]["median"], 0.3, " s")
    few, many = (result.rows[f"files of seven days of {hours:,} hours"]["cpu"]["median"] for hours in (200, YEAR))
    result.target("files of seven days of a year, times those of 200 hours", many / few, 1.5)
    new = result.rows[f"a look at new requests after {YEAR:,} hours"]
    result.target("a look at new requests after a year, CPU", 1000 * new["cpu"]["median"], 30, " ms")
    result.write()


if __name__ == "__main__":
    if sys.argv[1:]: MAKERS[sys.argv[1]](Path(sys.argv[3]), int(sys.argv[2]))
    else: main()
