"""The training pipeline of this project, sent by the unmodified SDK and run from what was sent: the same numbers as on
this machine"""
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.azure.clients import sdk, training

pytestmark = pytest.mark.long

TIMES = ("seconds", "latency", "_ms", "time", "duration")


def results(root: Path, job: str) -> tuple[dict, dict]:
    "Metrics of the steps, times left out, and fingerprints of the outputs"
    db, tracked = sqlite3.connect(root / ".mlops/workspace.db"), sqlite3.connect(root / ".mlops/mlflow.db")
    steps = db.execute("SELECT name, run_id, outputs FROM steps WHERE job = ?", (job,)).fetchall()
    metrics = {(name, key): value for name, run, _ in steps
               for key, value in tracked.execute("SELECT key, value FROM latest_metrics WHERE run_uuid = ?", (run,))
               if not any(word in key for word in TIMES)}
    return metrics, {(name, port): made["fingerprint"] for name, _, outputs in steps
                     for port, made in json.loads(outputs or "{}").items()}


def test_the_pipeline_of_this_project_runs_from_its_upload_alone_and_ends_as_on_this_machine(azure, tmp_path):
    project = training(tmp_path / "project")
    words = [Path(sys.executable).parent / "mlops-nb", "run", "pipelines/training/pipeline.yml", "--set",
             "inputs.every=40", "--set", "inputs.bootstrap=100", "--set", "inputs.max_latency_ms=60000", "--json"]
    local = subprocess.run(words, cwd=project, capture_output=True, text=True,
                           env=os.environ | {"PYTHONPATH": str(project)}, timeout=600)
    assert local.returncode == 0, local.stderr[-3000:]
    assert sdk(azure, """
job = load_job("pipelines/training/pipeline.yml")
job.inputs.every, job.inputs.bootstrap, job.inputs.max_latency_ms = 40, 100, 60000
tell(wait(client.jobs.create_or_update(job), 600).status)
""", project) == "Completed"
    run = azure.executions[0]
    here, there = results(project, json.loads(local.stdout)["id"]), results(run.folder, run.local["id"])
    assert len(here[0]) > 20 and here[0] == there[0]
    same = [place for place in here[1] if here[1][place] == there[1][place]]
    assert {("ingest", "flights"), ("prepare", "prepared"),
            ("train", "model")} <= {*same}, f"these differ: {[place for place in here[1] if place not in same]}"
    version = azure.state.get(f"{run.workspace}/models/flight-delay/versions/1")
    assert version["properties"]["modelType"] == "mlflow_model"
