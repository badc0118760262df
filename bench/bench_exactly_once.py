"""Is each breach acted on exactly once, when events come twice and in any order and the handler is killed again and
again?

    python bench/bench_exactly_once.py                 # 10,000 events, 20 % duplicates, 50 kills
    python bench/bench_exactly_once.py 1000 5          # events, kills

A sender delivers the events in batches, and delivers a batch again until it was acknowledged. The handler is the
one of production, in a process of its own that is killed with SIGKILL: half of the times at a random moment, half
of them in the middle of an action. The action enters a job under the name of its breach, as a workspace does, after
five milliseconds of work. Counted are breaches without a job, breaches with more than one, breaches with another
number of decisions than one, jobs without a breach, and actions that were begun again because a kill cut them off.
"""
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mlops_nb.retraining.events import AZURE_EVENT, AZURE_TAG, breach_event, handle, outbox
from mlops_nb.retraining.policy import Policy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(cooldown_days=0, daily_budget=10**9)
BATCH = 20


def event(number: int) -> dict:
    "A breach of ours, or every third time one of Azure's"
    end = (NOW + timedelta(hours=1 + number)).isoformat()
    if number % 3 == 0:
        tags = {AZURE_TAG: "Signal performance has failed due to one or more features violating metric thresholds"}
        return dict(
            id=f"azure-{number}",
            eventType=AZURE_EVENT,
            eventTime=end,
            subject="",
            data=dict(RunId=f"run-{number}", RunStatus="Failed", RunTags=tags),
        )
    worse = dict(
        type="model_performance", verdict="breach", rows=[dict(feature="", metric="log_loss", value=0.6, breach=True)]
    )
    return breach_event(
        dict(
            monitor="m",
            endpoint="e",
            window=[NOW.isoformat(), end],
            breach=True,
            signals=dict(performance=worse),
            performance=dict(
                metric="log_loss", value=0.6, low=0.58, high=0.62, baseline=0.5, worse=0.06, n=5000, days=30
            ),
        )
    )


def batches(events: int, seed: int) -> list:
    """Four fifths are different; of the rest, each repeats one of them; every tenth batch holds something unknown as
    well"""
    draw = random.Random(seed)
    different = [event(number) for number in range(events * 4 // 5)]
    all_of_them = different + draw.choices(different, k=events - len(different))
    draw.shuffle(all_of_them)
    cut = [all_of_them[k:k + BATCH] for k in range(0, len(all_of_them), BATCH)]
    return [batch + [dict(type="unknown", id=f"unknown-{k}")] * (k % 10 == 0) for k, batch in enumerate(cut)]


def jobs(root: Path):
    "Where the action enters its jobs; an entry twice under one name is refused, a second start is counted"
    db = sqlite3.connect(root / "jobs.db", isolation_level=None, timeout=60)
    db.execute("CREATE TABLE IF NOT EXISTS jobs (name TEXT PRIMARY KEY)")
    db.execute("CREATE TABLE IF NOT EXISTS starts (name TEXT)")
    return db


@dataclass
class Retrainer:
    "Enters a job under the name of its breach, after five milliseconds of work"
    root: Path
    db: sqlite3.Connection
    policy: Policy = POLICY

    def seen(self) -> None: return None
    def window(self, now: datetime) -> dict: return {}

    def keep(self): pass

    def retrain(self, breach: str, window: dict) -> dict:
        self.db.execute("INSERT INTO starts VALUES (?)", (breach,))
        (self.root / "acting").touch()
        time.sleep(0.005)
        (self.root / "acting").unlink()
        self.db.execute("INSERT OR IGNORE INTO jobs VALUES (?)", (breach,))
        return dict(accepted=False, reason="")


def deliver(root: Path, file: Path):
    "The sender and the handler: batches that are not acknowledged are delivered"
    with closing(jobs(root)) as db, open(root / "acknowledged", "a+") as log:
        retrainer = Retrainer(root, db)
        log.seek(0)
        done = {*log.read().split()}
        for number, batch in enumerate(json.loads(file.read_text())):
            if str(number) in done: continue
            handle(root, batch, retrainer, NOW)
            log.write(f"{number}\n")
            log.flush()


def trial(root: Path, events: int, kills: int, seed: int = 0) -> dict:
    "Kill the handler `kills` times, let it finish, and count"
    file, draw, began, killed = root / "batches.json", random.Random(seed + 1), time.time(), 0
    file.write_text(json.dumps(batches(events, seed)))
    command = [sys.executable, __file__, "--deliver", str(root), str(file)]
    while killed < kills:
        process, before = subprocess.Popen(command), acknowledged(root)
        while process.poll() is None and acknowledged(root) == before: time.sleep(0.005)
        if killed % 2: time.sleep(draw.uniform(0, 0.12))
        else: await_action(root, process)
        if process.poll() is not None: break
        process.kill()
        process.wait()
        killed += 1
    left = acknowledged(root)
    subprocess.run(command, check=True)
    return count(root) | dict(
        events=events,
        kills=killed,
        batches_after_the_last_kill=acknowledged(root) - left,
        seconds=round(time.time() - began, 1),
    )


def await_action(root: Path, process):
    "Wait until an action is under way"
    (root / "acting").unlink(missing_ok=True)
    while process.poll() is None and not (root / "acting").exists(): time.sleep(0.0005)


def acknowledged(root: Path) -> int:
    "How far the sender is"
    file = root / "acknowledged"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def count(root: Path) -> dict:
    "What went wrong, and how often work was begun again"
    with outbox(root) as db, closing(jobs(root)) as work:
        breaches = {row[0] for row in db.execute("SELECT DISTINCT breach FROM events WHERE breach IS NOT NULL")}
        decided = [
            row[0] for row in db.execute("SELECT breach FROM actions WHERE action = 'retrain' AND status = 'done'")
        ]
        deliveries = db.execute("SELECT sum(deliveries) FROM events WHERE breach IS NOT NULL").fetchone()[0]
        entered, starts = (
            [row[0] for row in work.execute("SELECT name FROM jobs")],
            work.execute("SELECT count(*) FROM starts").fetchone()[0],
        )
    return dict(
        breaches=len(breaches),
        deliveries=deliveries,
        without_job=len(breaches - {*entered}),
        jobs_twice=len(entered) - len({*entered}),
        decisions_off=len(breaches ^ {*decided}) + len(decided) - len({*decided}),
        jobs_without_breach=len({*entered} - breaches),
        begun_again=starts - len(entered),
    )


WRONG = {
    "without_job": "breaches without a job",
    "jobs_twice": "breaches with two jobs",
    "decisions_off": "breaches without exactly one decision",
    "jobs_without_breach": "jobs without a breach",
}


def main(events: int = 10_000, kills: int = 50):
    "Write the result"
    from harness import Result
    with tempfile.TemporaryDirectory() as folder: found = trial(Path(folder), events, kills)
    result = Result(
        "exactly_once",
        f"{events:,} events, a fifth of them twice, and {kills} kills of the handler",
        units={
            "breaches": "breaches",
            "deliveries": "deliveries",
            "kills": "kills",
            "begun_again": "actions cut off and begun again",
            "seconds": "wall s",
        },
    )
    result.rows["mlops-nb, events handle"] = {
        key: {"median": found[key], "min": found[key], "max": found[key]} for key in result.units
    }
    for key, words in WRONG.items(): result.target(words, found[key], 0)
    result.target("kills that were still to come when the events were done", kills - found["kills"], 0)
    result.notes.append(
        f"After the last kill {found['batches_after_the_last_kill']} of {events // BATCH} batches were still to be "
        f"delivered."
    )
    result.write()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--deliver"]: deliver(Path(sys.argv[2]), Path(sys.argv[3]))
    else: main(*map(int, sys.argv[1:]))
