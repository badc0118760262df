"""What the policy of a sweep costs as trials become many: no processes, real MLflow runs, a tick after each report"""
import random
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from harness import HOME, PYTHON, Result, rounds, versions

from mlops_nb.jobs.executors import StepContext, SweepRun
from mlops_nb.jobs.graph import Step
from mlops_nb.jobs.preparation import Prepared
from mlops_nb.schemas.components import Component
from mlops_nb.workspace.mlflow_store import database
from mlops_nb.workspace.runs import Tracker
from mlops_nb.workspace.workspace import Workspace

POLICY = {"type": "median_stopping", "evaluation_interval": 1, "delay_evaluation": 5}
REPORTS, WIDTH = 10, 4


def report(tracker: Tracker, runs: list[str], moment: int) -> None:
    "What the processes of the trials would log"
    chance = random.Random(moment)
    columns = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan)"
    with database(tracker.uri) as db:
        db.executemany(f"{columns} VALUES ('loss', ?, ?, ?, ?, 0)",
                       [(chance.random(), moment, run, moment) for run in runs])


def sweep(trials: int, policy: bool) -> None:
    "Run a sweep whose trials end after ten reports, or when they are stopped"
    folder = HOME/"work"/"sweep"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tracker = Tracker(Workspace(folder), "sweep")
    spec = {"search_space": {"rate": {"type": "uniform", "min_value": 0, "max_value": 1}},
            "sampling_algorithm": "random", "objective": {"goal": "minimize", "primary_metric": "loss"},
            "early_termination": POLICY if policy else None,
            "limits": {"max_total_trials": trials, "max_concurrent_trials": WIDTH}}
    step = Step("tune", Component("command", {"command": "true"}, folder), {}, {}, sweep=spec)
    def prepare(place: Path, run: str, values: dict) -> Prepared: return Prepared(place, "true", {}, {}, place/"log")
    run = SweepRun(StepContext(step, folder/"tune", tracker.open("tune"), prepare, tracker, slots=WIDTH), spec)
    seen: dict[int, int] = {}
    while not run.finished:
        while run.next(): pass
        going = run.trials.running
        report(tracker, [trial.run_id for trial in going], sum(seen.values()))
        stopped = run.tick()
        for trial in going:
            seen[trial.number] = seen.get(trial.number, 0) + 1
            if seen[trial.number] >= REPORTS or trial.task in stopped: run.ended(trial.task, 0)


def measure(trials: int, policy: bool) -> dict[str, float]:
    "CPU of a trial, in a process of its own"
    words = [PYTHON, __file__, str(trials), str(int(policy))]
    return {"cpu": 1000 * float(subprocess.run(words, capture_output=True, text=True, check=True).stdout) / trials}


def main():
    result = Result("sweep", "A sweep with early termination, by its number of trials", units={"cpu": "CPU ms a trial"},
                    versions=versions(PYTHON, "mlops-nb", "optuna", "mlflow-skinny"))
    names = {True: "early termination", False: "no policy"}
    result.add(rounds({f"{trials} trials, {names[policy]}": partial(measure, trials, policy)
                       for trials in (100, 300, 1000) for policy in (True, False)}, count=3, warm=False))
    few, many = (result.rows[f"{trials} trials, early termination"]["cpu"]["median"] for trials in (100, 1000))
    result.target("CPU of a trial among 1,000, times that among 100", many / few, 1.5)
    result.write()


if __name__ == "__main__":
    if sys.argv[1:]:
        began = time.process_time()
        sweep(int(sys.argv[1]), bool(int(sys.argv[2])))
        print(time.process_time() - began)
    else: main()
