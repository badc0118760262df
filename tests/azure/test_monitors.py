"""Monitors and events of a workspace: Azure runs the monitor, a breach comes by Event Grid or is read back, and it is
acted on once"""
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlops_nb.retraining.events import AZURE_TAG

from tests.support.azure.small import MLOPS, command
from tests.support.azure.watched import NOW, SCRIPT, collect

pytestmark = pytest.mark.long

HANDLE = ("events", "handle", "-", "--on", "dev", "--no-release", "--json")


def due(azure, name: str = "watch"):
    "What Azure does when a schedule is due; waits until the run has ended"
    run = azure.trigger("dev", name, NOW)
    run.thread.join(120)
    assert run.status == "Completed", (run.folder / "execution.log").read_text()
    return run


def retrainings(azure) -> list:
    return [one["name"] for one in azure.state.all("workspaces/jobs") if one["name"].startswith("retrain-")]


def breaches(azure) -> list: return [event for event in azure.events if AZURE_TAG in event["data"]["runTags"]]


def test_a_breach_that_azure_finds_retrains_once_however_often_it_is_told(azure, watched):
    made = json.loads(command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev", "--json"))
    assert made["frozen"] == ["azureml:reference@latest"]
    assert made["left_out"] == ["drift.numerical.population_stability_index"]
    collect(azure, shift=2.0)
    due(azure)
    performance, drift = (next(one for one in breaches(azure) if f"'{name}'" in one["data"]["runTags"][AZURE_TAG])
                          for name in ("performance", "drift"))
    assert '"metric_name": "Accuracy", "threshold_value": 0.3' in performance["data"]["runTags"][AZURE_TAG]

    with ThreadPoolExecutor(2) as pool:  # Event Grid delivers at least once, and here twice at the same time
        said = [*pool.map(lambda _: subprocess.run([*MLOPS, *HANDLE], cwd=watched, env={**os.environ, **azure.env},
                                                   input=json.dumps([drift]), capture_output=True, text=True),
                          range(2))]
    assert 0 in {one.returncode for one in said} and all(one.returncode == 0
                                                         or "another handler has decided" in one.stderr
                                                         for one in said), [one.stderr[-2000:] for one in said]
    assert len(retrainings(azure)) == 1

    again, = json.loads(command(azure, watched, *HANDLE, stdin=json.dumps(drift)))
    assert (again["action"], again["status"]) == ("retrain", "done")
    assert again["outcome"]["job"] == retrainings(azure)[0] and "Refused: not better" in again["outcome"]["reason"]
    assert again["result"]["signals"]["drift"]["rows"][0]["metric"] == "jensen_shannon_distance"
    later, = json.loads(command(azure, watched, *HANDLE, stdin=json.dumps([performance])))
    assert (later["action"], later["status"]) == ("none", "done")  # Azure alarms: half of the answers are right
    assert "Azure alarms above the threshold of model_performance" in later["reason"]

    read = json.loads(command(azure, watched, "events", "pull", "--on", "dev", "--json"))
    assert {(one["breach"], one["action"]) for one in read} == {(again["breach"], "retrain"), (later["breach"], "none")}
    assert "no monitor of dev has found a breach" in command(azure, watched, "events", "pull", "--on", "dev")
    assert len(json.loads(command(azure, watched, "events", "--on", "dev", "--json"))) == 4
    assert len(retrainings(azure)) == 1


def test_a_handler_that_is_killed_while_azure_retrains_is_followed_by_one_that_finds_its_job(azure, watched):
    command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev")
    (watched / "code/judge.py").write_text(SCRIPT % 8)
    collect(azure, shift=2.0)
    due(azure)
    assert command(azure, watched, "events", "pull", "--on", "dev").count("pending") == 2
    handler = subprocess.Popen([*MLOPS, "events", "handle", "--on", "dev", "--no-release"], cwd=watched,
                               env={**os.environ, **azure.env}, start_new_session=True)
    while not retrainings(azure) and handler.poll() is None: time.sleep(0.2)
    os.killpg(handler.pid, signal.SIGKILL)
    handler.wait()
    command(azure, watched, "events", "handle", "--on", "dev", "--no-release")
    rows = json.loads(command(azure, watched, "events", "--on", "dev", "--json"))
    row, = (one for one in rows if one["action"] == "retrain")
    assert (row["status"], row["outcome"]["job"]) == ("done", retrainings(azure)[0]) and len(retrainings(azure)) == 1


def test_the_window_that_a_workspace_collected_is_judged_here_with_the_limits_of_chance(azure, watched):
    assert "echo has collected nothing in dev" in command(azure, watched, "monitor", "monitor.yml", "--on", "dev",
                                                          code=2)
    collect(azure, shift=2.0, wrong=0.05)
    at = ("monitor", "monitor.yml", "--on", "dev", "--at", f"{NOW:%Y-%m-%dT%H:00:00Z}", "--json")
    found = json.loads(command(azure, watched, *at))
    assert found["rows"] == 400 and found["breach"]
    assert {name: one["verdict"] for name, one in found["signals"].items()} == {"drift": "breach", "performance": "ok"}
    assert json.loads(command(azure, watched, *at))["signals"] == found["signals"]
    rows = json.loads(command(azure, watched, "events", "--on", "dev", "--json"))
    assert [(one["action"], one["deliveries"]) for one in rows] == [("pending", 2)]
    assert rows[0]["result"]["endpoint"] == "echo"
    assert not retrainings(azure), "a monitor judges; the handler acts"


def test_a_monitor_of_a_regression_is_applied_and_finds_errors_above_its_limits(azure, watched):
    text = (watched / "monitor.yml").read_text()
    text = text.replace("ml_task: classification", "ml_task: regression")
    text = text.replace("classification: {accuracy: 0.3}", "regression: {rmse: 0.2, mae: 0.9}")
    (watched / "monitor.yml").write_text(text)
    made = json.loads(command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev", "--json"))
    assert made["enabled"]
    collect(azure, wrong=0.5)
    due(azure)
    said, = (one["data"]["runTags"][AZURE_TAG] for one in breaches(azure))
    assert "\"RootMeanSquaredError\", \"threshold_value\": 0.2" in said and "MeanAbsoluteError" not in said


def test_probabilities_in_the_place_of_labels_fail_the_run_as_they_do_on_azure(azure, watched):
    text = (watched / "monitor.yml").read_text()
    text = text.replace("{prediction: prediction, prediction_", "{prediction: probability, prediction_")
    (watched / "monitor.yml").write_text(text)
    command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev")
    collect(azure)
    run = azure.trigger("dev", "watch", NOW)
    run.thread.join(120)
    assert run.status == "Failed"
    assert "mix of binary and continuous targets" in (run.folder / "execution.log").read_text()
