"""How much does the endpoint host cost? The same model behind four servers, eight connections, one machine, one run.

    .venv/bin/python bench/endpoint_throughput.py --seconds 10 --rounds 3

Each server has two processes that score, one row in a request. The endpoint host checks keys, routes, and collects
every request and answer before it replies; the others do none of that. The host and Azure's server are measured with
the scoring script of this project and with one that makes a table of pandas, as most scripts do. Rounds are
interleaved, so that a slower minute of the machine meets all of them.
"""
import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import PYTHON, Result, versions

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
BIN = Path(sys.executable).parent
FASTAPI = """
import os
import pandas as pd
from fastapi import FastAPI
from mlops_nb.models import saving as models
app, model = FastAPI(), models.load(os.environ["AZUREML_MODEL_DIR"])

@app.post("/score")
def score(rows: list[dict]):
    return [{"probability": p} for p in model.predict_proba(pd.DataFrame(rows))[:, 1].tolist()]
"""
TABLE = """
import json, os
from pathlib import Path
import pandas as pd
from mlops_nb.models import saving

def init():
    global model
    model = saving.load(next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("MLmodel")).parent)

def run(raw): return [{"probability": p} for p in model.predict_proba(pd.DataFrame(json.loads(raw)))[:, 1].tolist()]
"""
DEPLOYMENT = """
name: blue
endpoint_name: table
model: azureml:flight-delay:1
code_configuration: {code: table, scoring_script: score.py}
environment: azureml:mlops-nb:1
environment_variables: {WORKER_COUNT: "2", WORKER_PRELOAD: "true", OMP_NUM_THREADS: "1"}
instance_type: Standard_DS3_v2
request_settings: {request_timeout_ms: 10000, max_concurrent_requests_per_instance: 16}
data_collector: {collections: {model_inputs: {enabled: 'true'}, model_outputs: {enabled: 'true'}}}
"""
ENDPOINT = "name: table\nauth_mode: key\ntraffic: {blue: 100}\n"
ALONE, TABLE_ALONE = "inference server alone", "inference server alone, table of pandas"
HOST, TABLE_HOST = "endpoint host", "endpoint host, table of pandas"


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def commands(home: Path, model: Path) -> dict:
    "How each peer is started, by name; {port} is filled in"
    (home / "bare.py").write_text(FASTAPI)
    python = str(BIN / "python")
    azure = [str(BIN / "azmlinfsrv"), "--model_dir", str(model), "--port", "{port}", "--worker_count", "2"]
    return {
        ALONE: [*azure, "--entry_script", str(ROOT / "mlops_nb/deployment/score.py")],
        TABLE_ALONE: [*azure, "--entry_script", str(home / "project/table/score.py")],
        "mlflow models serve": [
            python,
            "-m",
            "mlflow",
            "models",
            "serve",
            "--model-uri",
            str(model),
            "--env-manager",
            "local",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
            "--workers",
            "2",
        ],
        "bare FastAPI": [
            python,
            "-m",
            "uvicorn",
            "bare:app",
            "--app-dir",
            str(home),
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
            "--workers",
            "2",
            "--log-level",
            "warning",
        ],
    }


class Peer:
    "A server of its own process group"
    def __init__(self, command: list, model: Path, log: Path):
        self.port = free()
        variables = {
            **os.environ,
            "AZUREML_MODEL_DIR": str(model),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
        self.process = subprocess.Popen(
            [part.format(port=self.port) for part in command],
            env=variables,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def stop(self):
        try: os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError: pass
        self.process.wait()


def wait_for(port: int, path: str, body: bytes, key: str = ""):
    "Until it answers"
    from load import measure
    end = time.monotonic() + 240
    while not measure(port, path, body, key, 0.5, 1)["p50_ms"]:
        if time.monotonic() > end: raise SystemExit(f"port {port} does not answer")
        time.sleep(0.5)


def main():
    from load import measure

    from tests.support.serving import FLIGHT, Endpoints, make_workspace
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    home = Path(tempfile.mkdtemp())
    root = make_workspace(home / "project")
    model, files = root / "model1", ROOT / "pipelines/deployment"
    (root / "table").mkdir()
    for name, text in (("table/score.py", TABLE), ("blue.yml", DEPLOYMENT), ("table.yml", ENDPOINT)):
        (root / name).write_text(text)
    rows = json.dumps([FLIGHT]).encode()
    bodies = {"mlflow models serve": ("/invocations", json.dumps({"dataframe_records": [FLIGHT]}).encode())}
    peers, endpoints = (
        {
            name: Peer(command, model, home / f"{place}.log")
            for place, (name, command) in enumerate(commands(home, model).items())
        },
        Endpoints(root),
    )
    try:
        endpoints.deploy(files / "endpoint.yml", files / "deployment.yml", model="flight-delay:1")
        endpoints.deploy(root / "table.yml", root / "blue.yml")
        def door(name: str) -> tuple[int, str, bytes, str]:
            port = int(endpoints.show(name).scoring_uri.split(":")[2].split("/")[0])
            return port, "/score", rows, endpoints.keys(name)["primary"]
        servers = {
            HOST: door("flight-delay"),
            TABLE_HOST: door("table"),
            **{name: (peer.port, *bodies.get(name, ("/score", rows)), "") for name, peer in peers.items()},
        }
        for one in servers.values(): wait_for(*one)
        found = {name: [] for name in servers}
        for _ in range(asked.rounds):
            for name, one in servers.items(): found[name].append(measure(*one, seconds=asked.seconds))
    finally:
        for name in ("flight-delay", "table"): endpoints.stop(name)
        for peer in peers.values(): peer.stop()
        shutil.rmtree(home, ignore_errors=True)
    units = {"per_second": "requests a second", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "failures": "failures"}
    result = Result(
        "endpoint_throughput",
        "One row a request, 8 connections",
        baseline=ALONE,
        units=units,
        versions=versions(
            PYTHON,
            "mlops-nb",
            "azureml-inference-server-http",
            "gunicorn",
            "mlflow",
            "fastapi",
            "uvicorn",
            "scikit-learn",
        ),
    )
    result.add(found)
    for host, alone in ((TABLE_HOST, TABLE_ALONE), (HOST, ALONE)):
        ratio = statistics.median(b["per_second"] / a["per_second"] for a, b in zip(found[host], found[alone]))
        result.target(f"requests a second of the {alone}, times those of the {host}", ratio, 1 / 0.95)
    result.write()


if __name__ == "__main__": main()
