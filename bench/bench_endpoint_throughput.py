"""How much does the endpoint host cost? The same model behind four servers, eight connections, one machine, one run.

    .venv/bin/python bench/endpoint_throughput.py --seconds 10 --rounds 3

Each server has two processes that score, one row in a request. The endpoint host checks keys, routes, and collects
every request and answer before it replies; the others do none of that. Rounds are interleaved, so that a slower
minute of the machine meets all of them.
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


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def commands(home: Path, model: Path) -> dict:
    "How each peer is started, by name; {port} is filled in"
    (home / "bare.py").write_text(FASTAPI)
    python = str(BIN / "python")
    return {
        "inference server alone": [
            str(BIN / "azmlinfsrv"),
            "--entry_script",
            str(ROOT / "mlops_nb/deployment/score.py"),
            "--model_dir",
            str(model),
            "--port",
            "{port}",
            "--worker_count",
            "2",
        ],
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
        port, key = (
            int(endpoints.show("flight-delay").scoring_uri.split(":")[2].split("/")[0]),
            endpoints.keys("flight-delay")["primary"],
        )
        servers = {
            "endpoint host": (port, "/score", rows, key),
            **{name: (peer.port, *bodies.get(name, ("/score", rows)), "") for name, peer in peers.items()},
        }
        for one in servers.values(): wait_for(*one)
        found = {name: [] for name in servers}
        for _ in range(asked.rounds):
            for name, one in servers.items(): found[name].append(measure(*one, seconds=asked.seconds))
    finally:
        endpoints.stop("flight-delay")
        for peer in peers.values(): peer.stop()
        shutil.rmtree(home, ignore_errors=True)
    alone, units = (
        "inference server alone",
        {"per_second": "requests a second", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "failures": "failures"},
    )
    result = Result(
        "endpoint_throughput",
        "One row a request, 8 connections",
        baseline=alone,
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
    result.target(
        f"requests a second of the {alone}, times those of the endpoint host with collection",
        statistics.median(b["per_second"] / a["per_second"] for a, b in zip(found["endpoint host"], found[alone])),
        1 / 0.8,
    )
    result.write()


if __name__ == "__main__": main()
