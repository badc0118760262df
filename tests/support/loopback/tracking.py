"""MLflow as Azure ML serves it: a real MLflow server on the workspace's store, without the routes that Azure does not
have"""
import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from .outcomes import models, registered
from .proxy import REGION, Answer, Request
from .storage import free_port

MISSING = ("/api/3.0/", "/logged-models", "/runs/outputs", "/registered-models/alias",
           "/model-versions/transition-stage")
ROUTE = re.compile(r"/mlflow/v[12]\.0(?P<workspace>/subscriptions/.+?/workspaces/[^/]+)(?P<rest>/api/.*)", re.I)
SERVER = """
import os, sys, threading
# It ends with the process that started it
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from mlops_nb.workspace.mlflow_store import create_store
os.environ["_MLFLOW_SERVER_FILE_STORE"], os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = sys.argv[1], sys.argv[2]
create_store(sys.argv[1])
from mlflow.server import app
from werkzeug.serving import make_server
make_server("127.0.0.1", int(sys.argv[3]), app, threaded=True).serve_forever()
"""


class Tracking:
    "The MLflow server of one workspace"
    def __init__(self, folder: Path, workspace: str):
        self.folder, self.workspace, self.port = folder, workspace, free_port()
        self.root = (folder / ".mlops" / "mlartifacts").as_uri()
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("MLFLOW_", "PYTEST_"))} | {"MLFLOW_DISABLE_TELEMETRY": "true",
                                                                  "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.log = (folder / "mlflow.log").open("w")
        words = [sys.executable, "-c", SERVER, f"sqlite:///{folder}/.mlops/mlflow.db", self.root, str(self.port)]
        self.process = subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=self.log,
                                        stderr=self.log, start_new_session=True)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("GET", "/health", {}, b"")[0] == 200: return
            except OSError: time.sleep(0.2)
        raise RuntimeError(f"mlflow did not start; exit code {self.process.poll()}")

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.log.close()

    def ask(self, method: str, target: str, headers: dict, body: bytes) -> tuple[int, bytes, str]:
        upstream = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            upstream.request(method, target, body or None, headers)
            reply = upstream.getresponse()
            return reply.status, reply.read(), reply.getheader("Content-Type", "application/json")
        finally: upstream.close()

    @property
    def remote(self) -> str: return f"azureml://{REGION}.api.azureml.ms/mlflow/v2.0{self.workspace}/experiments"

    def out(self, text: str) -> str:
        "Places on this machine as Azure's addresses"
        return re.sub(re.escape(self.root) + r"(?:/(\d+))?/([0-9a-f]{32})/artifacts",
                      lambda m: f"{self.remote}/{m[1] or 'job'}/runs/{m[2]}/artifacts", text)

    def back(self, text: str) -> str:
        "Azure's addresses as places on this machine"
        return re.sub(r"azureml://[^\"]*?/experiments/(\w+)/runs/([0-9a-f]{32})/artifacts",
                      lambda m: f"{self.root}{'' if m[1] == 'job' else '/' + m[1]}/{m[2]}/artifacts", text)


def answer(bench, request: Request) -> Answer | None:
    "What MLflow says; None where the request is for somebody else"
    match = ROUTE.fullmatch(request.path)
    if not match: return None
    if any(part in match["rest"] for part in MISSING):
        return Answer(404, {"error": {"code": "UserError",
                                      "message": f"The requested resource {match['rest']} does not exist."}})
    server, alias = bench.tracking(match["workspace"]), bench.run_ids(match["workspace"])
    text, target = server.back(request.body.decode()), match["rest"] + (f"?{request.target.partition('?')[2]}"
                                                                        if "?" in request.target else "")
    for name, run_id in alias.items():
        text, target = text.replace(f'"{name}"', f'"{run_id}"'), re.sub(rf"=({re.escape(name)})(&|$)", rf"={run_id}\2",
                                                                        target)
    if "/model-versions/" in match["rest"] or "/registered-models/" in match["rest"]:
        with bench.guard: registered(bench, match["workspace"], server.folder)
    status, data, kind = server.ask(request.method, target,
                                    {"Content-Type": request.headers.get("content-type", "application/json")},
                                    text.encode())
    if request.method != "GET" and "/model-versions/" in match["rest"]:
        with bench.guard: models(bench, match["workspace"], server.folder)
    said = server.out(data.decode())
    for name, run_id in alias.items():
        said = said.replace(f'"{run_id}"', f'"{name}"').replace(f"/runs/{run_id}/", f"/runs/{name}/")
    return Answer(status, json.loads(said) if "json" in kind else said.encode())
