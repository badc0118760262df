"A sweep with a policy: one query a tick, of the trials that go on, and the same are stopped as by looking at all"
import random
import sqlite3
from contextlib import closing
from statistics import mean, median

import pytest

from mlops_nb.jobs.executors import StepContext, SweepRun
from mlops_nb.jobs.graph import Step
from mlops_nb.jobs.preparation import Prepared
from mlops_nb.jobs.sweep import EarlyTermination
from mlops_nb.schemas.components import Component
from mlops_nb.workspace import mlflow_store
from mlops_nb.workspace.runs import Tracker
from mlops_nb.workspace.workspace import Workspace

POLICIES = [{"type": "bandit", "slack_factor": 0.2, "evaluation_interval": 2, "delay_evaluation": 2},
            {"type": "median_stopping", "evaluation_interval": 1, "delay_evaluation": 3},
            {"type": "truncation_selection", "truncation_percentage": 30, "evaluation_interval": 2}]


class Store:
    "Runs that report when they are told to, and counts what is asked"
    def __init__(self): self.values, self.asked = dict[str, list[float]](), list[int]()

    def open(self, name, parent):
        self.values[name] = []
        return name

    def close(self, run, status): pass

    def metrics(self, runs, name):
        self.asked.append(len(runs))
        return {run: list(self.values[run]) for run in runs}


def begin(folder, policy: dict, trials: int, store) -> SweepRun:
    sweep = {"search_space": {"rate": {"type": "uniform", "min_value": 0, "max_value": 1}},
             "objective": {"goal": "minimize", "primary_metric": "loss"}, "sampling_algorithm": "random",
             "limits": {"max_total_trials": trials, "max_concurrent_trials": 4}, "early_termination": policy}
    step = Step("tune", Component("command", {"command": "true"}, folder), {}, {}, sweep=sweep)
    def prepare(place, run_id, values): return Prepared(place, "true", {}, {}, place / "log")
    return SweepRun(StepContext(step, folder / "tune", "", prepare, store, slots=4), sweep)


def brute_force(run: SweepRun, store: Store) -> list[int]:
    "Which running trials the policy stops, by all that has ever been reported"
    assert run.trials.policy
    stopped, policy = [], run.trials.policy.policy
    for trial in run.trials.running:
        own = store.values[trial.run_id]
        last = len(own) // policy["evaluation_interval"] * policy["evaluation_interval"]
        if last < max(1, policy.get("delay_evaluation", 0)): continue
        best = min(own[:last])
        others = [store.values[other.run_id][:last] for other in run.trials.items
                  if other is not trial and len(store.values[other.run_id]) >= last]
        lowest = min([best, *map(min, others)])
        share = policy.get("truncation_percentage", 0) / 100
        hopeless = {"bandit": best > lowest * (1 + policy.get("slack_factor", 0)),
                    "median_stopping": bool(others) and best > median(mean(values) for values in others or [[0]]),
                    "truncation_selection": sum(min(other) > best for other in others) < int(share * (len(others) + 1))}
        if hopeless[policy["type"]]: stopped.append(trial.number)
    return stopped


@pytest.mark.parametrize("policy", POLICIES, ids=[str(policy["type"]) for policy in POLICIES])
def test_the_same_trials_are_stopped_as_by_looking_at_all_of_them(tmp_path, policy):
    store, chance, stopped = Store(), random.Random(7), 0
    run = begin(tmp_path, policy, 60, store)
    while not run.finished:
        while run.next(): pass
        for trial in run.trials.running:
            if chance.random() < 0.8: store.values[trial.run_id].append(chance.random() + trial.number % 5)
        expected, tasks = brute_force(run, store), run.tick()
        assert [trial.number for trial in run.trials.items if any(trial.task is task for task in tasks)] == expected
        stopped += len(expected)
        for trial in run.trials.items:
            if trial.state == "Stopping": run.ended(trial.task, -15)
            elif trial.state == "Running" and len(store.values[trial.run_id]) >= 6: run.ended(trial.task, 0)
    assert stopped >= 5 and run.trials.best


@pytest.mark.parametrize("policy", POLICIES, ids=[str(policy["type"]) for policy in POLICIES])
def test_a_value_that_is_no_number_is_the_worst_and_hides_no_other(policy):
    rules = EarlyTermination(policy, minimize=True)
    for loss in (0.2, float("nan"), 0.9, 0.5): rules.add([loss] * 4)
    assert rules.ended[4] == [-float("inf"), -0.9, -0.5, -0.2]
    assert rules.should_stop([float("nan")] * 4, []) and not rules.should_stop([0.1] * 4, [])


def test_a_tick_asks_once_and_only_of_trials_that_go_on(tmp_path):
    store = Store()
    run = begin(tmp_path, POLICIES[1], 40, store)
    while not run.finished:
        while run.next(): pass
        for trial in run.trials.running: store.values[trial.run_id].append(1.0)
        store.asked.clear()
        run.tick()
        assert store.asked == [len(run.trials.running)]
        for trial in run.trials.running[:2]: run.ended(trial.task, 0)


def test_values_are_those_of_mlflow_and_are_found_by_the_run(tmp_path):
    workspace = Workspace(tmp_path)
    tracker = Tracker(workspace, "sweep")
    runs = [tracker.open(f"trial {number}") for number in range(4)]
    client = mlflow_store.make_client(tracker.uri)
    for number, run in enumerate(runs):
        for step in range(number): client.log_metric(run, "loss", 1 / (step + 1), timestamp=1000 - step, step=step)
    client.log_metric(runs[3], "loss", float("nan"), timestamp=2000, step=9)
    client.log_metric(runs[3], "other", 7.0)
    found = tracker.metrics([*runs[1:], "absent"], "loss")
    assert found[runs[1]] == [1.0] and found[runs[2]] == [0.5, 1.0] and found["absent"] == []
    assert found[runs[3]][:3] == [1 / 3, 0.5, 1.0] and found[runs[3]][3] != found[runs[3]][3]
    with closing(sqlite3.connect(tmp_path / ".mlops/mlflow.db")) as db:
        plan = db.execute(f"EXPLAIN QUERY PLAN {mlflow_store._HISTORY}", ("[]", "loss")).fetchall()
    assert any("index_metrics_run_uuid" in row[3] and "run_uuid=?" in row[3] for row in plan)
    tracker.connection.close()
