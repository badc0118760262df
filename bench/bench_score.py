"""One row in a request: CPU of the scoring script, against the same script with a table for each request.

    .venv/bin/python bench/bench_score.py [--requests 2000] [--rounds 3]

Two models as training makes them, of two columns of text, three of numbers and one of booleans, behind `run` of
`mlops_nb/deployment/score.py`. The CPU of a request is that of a process that answers them all, less that of one
that answers a single one. The rows of the whole worker count gunicorn and Azure's server, too: the worker of the
endpoint host on a socket, one caller, and the CPU of its processes between the first request and the last.
"""
import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from harness import HOME, PYTHON, ROOT, Result, rounds, spawn, versions

FOLDER = HOME/"score"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # as the endpoint host starts a worker
MODEL = """
import sys
import numpy as np, pandas as pd
from mlops_nb.models.saving import save
from mlops_nb.training import train
rng, n = np.random.default_rng(0), 5_000
X = pd.DataFrame({"site": rng.choice(["a", "b", "c"], n).astype(object),
                  "tail": np.array([f"N{i}" for i in range(100)], object)[rng.integers(0, 100, n)],
                  "hour": rng.normal(12, 5, n), "size": rng.normal(size=n), "wind": rng.normal(size=n),
                  "wet": rng.choice(np.array([True, False], object), n)})
roles = {"task": "classification", "categorical": ["site", "tail"], "numeric": ["hour", "size", "wind"],
         "boolean": ["wet"]}
options = dict(learning_rate=0.1, max_iter=100, max_leaf_nodes=31, min_samples_leaf=20, l2_regularization=0.0, seed=0,
               C=1.0)
label = X["hour"] + 3 * (X["site"] == "a") + rng.normal(size=n) > 12
model = train.ESTIMATORS[sys.argv[1]](roles, **options).fit(X, label)
save(model, sys.argv[2], X_example=X)
"""
REQUESTS = """
import json, os, sys
folder, count, table = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "table"
os.environ["AZUREML_MODEL_DIR"] = folder
from mlops_nb.deployment import score
score.init()
if table: score.FEW = None
else: assert score.FEW
for i in range(count):
    row = {"site": "abc"[i % 3], "tail": f"N{i % 110}", "hour": i % 24 + 0.5, "size": 0.25, "wind": -0.5}
    row["wet"] = i % 2 == 0
    score.run(json.dumps([row]))
"""
ENTRY = """
from mlops_nb.deployment import score
run = score.run
def init():
    score.init()
    if {table}: score.FEW = None
    else: assert score.FEW
"""


def body(i: int) -> str:
    "A request of one row, as REQUESTS has it"
    row = {"site": "abc"[i % 3], "tail": f"N{i % 110}", "hour": i % 24 + 0.5, "size": 0.25, "wind": -0.5}
    return json.dumps([{**row, "wet": i % 2 == 0}])


def ask(path: str, data: str) -> None:
    "Put a request to a worker's socket"
    link = http.client.HTTPConnection("worker")
    link.sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(link):
        link.sock.connect(path)
        link.request("POST", "/score", data, {"Content-Type": "application/json"})
        answer = link.getresponse()
        said = answer.read()
        if answer.status != 200 or b"probability" not in said: raise SystemExit(f"{answer.status}: {said!r}")


@contextlib.contextmanager
def worker(folder: Path, way: str) -> Iterator[tuple[int, str]]:
    "A worker as the endpoint host starts it: its process and its socket, once it answers"
    (folder/"entry.py").write_text(ENTRY.format(table=way == "table"))
    variables = {"AML_APP_ROOT": str(folder), "AZUREML_ENTRY_SCRIPT": "entry.py", "AZUREML_MODEL_DIR": str(folder),
                 "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT), **ONE_THREAD}
    with tempfile.TemporaryDirectory() as place, open(folder/"worker.log", "w") as log:
        path, (reading, alive) = f"{place}/socket", os.pipe()
        process = subprocess.Popen([PYTHON, ROOT/"mlops_nb/serving/worker.py", "--socket", path, "--alive",
                                    str(reading)], pass_fds=(reading,), env={**os.environ, **variables}, stdout=log,
                                   stderr=log, cwd=folder)
        try:
            while True:
                try: ask(path, body(0))
                except OSError:
                    if process.poll() is not None: raise SystemExit((folder/"worker.log").read_text()) from None
                    time.sleep(0.1)
                else: break
            yield process.pid, path
        finally:
            for end in (reading, alive): os.close(end)  # which ends it
            process.wait()


def used(pid: int) -> float:
    "CPU seconds of a process and its children until now"
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in (pid, *children)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def measure_worker(folder: Path, way: str, requests: int) -> dict[str, float]:
    "CPU of a request in the whole worker"
    with worker(folder, way) as (pid, path):
        before = used(pid)
        for i in range(requests): ask(path, body(i))
        return {"ms": (used(pid) - before) / requests * 1000}


def contestants(requests: int) -> dict:
    "What is measured, by name"
    found = {}
    for name, estimator in (("trees", "hist_gradient_boosting"), ("linear", "logistic_regression")):
        folder = FOLDER/name/"model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        spawn([PYTHON, "-c", MODEL, estimator, folder])
        for way in ("table", "mlops-nb"):
            def measure(folder=folder, way=way):
                script = [PYTHON, "-c", REQUESTS, folder.parent]
                many, one = (spawn([*script, n, way], env=ONE_THREAD)["cpu"] for n in (requests, 1))
                return {"ms": (many - one) / (requests - 1) * 1000}
            found[f"{name}, {way}"] = measure
        for way in ("table", "mlops-nb"):
            found[f"{name}, {way}, whole worker"] = partial(measure_worker, folder.parent, way, requests)
    return found


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--requests", type=int, default=2000)
    given.add_argument("--rounds", type=int, default=3)
    asked = given.parse_args()
    result = Result("score", "One row in a request", units={"ms": "CPU ms a request"},
                    versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas"))
    result.add(rounds(contestants(asked.requests), count=asked.rounds, warm=False))
    for name in ("trees", "linear"):
        ours, table = (result.rows[f"{name}, {way}"]["ms"]["median"] for way in ("mlops-nb", "table"))
        result.target(f"CPU of a request, times that with a table: {name}", ours / table, 0.5)
        ours, table = (result.rows[f"{name}, {way}, whole worker"]["ms"]["median"] for way in ("mlops-nb", "table"))
        result.target(f"CPU of the whole worker a request, times that with a table: {name}", ours / table, 0.5)
    result.notes.append("tests/models/test_few_rows.py shows that the answers are those of the pipeline, to 1e-12.")
    result.write()


if __name__ == "__main__": main()
