"A project that is released in the loopback Azure: a job that registers models, a command line that stays, callers"
import http.client
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.azure.clients import ROOT
from tests.support.loopback import arm, registries
from tests.support.loopback.proxy import Request

SETTINGS = """\
[project]
experiment = flights
model = flight-delay
[deployment]
qa_golden_rows = 20
qa_requests = 20
qa_concurrency = 2
qa_max_p99_ms = 60000
qa_rows = 100
qa_limit = 5
"""
TRAIN = """"Registers versions: the first is the champion of the beginning"
import json, sys
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from mlops_nb.models import saving as models, registry, tracking

rng = np.random.default_rng(0)
X = pd.DataFrame({"carrier": rng.choice(["AA", "UA"], 400), "hour": rng.uniform(0, 24, 400),
                  "passenger": rng.choice(["Ann", "Bob"], 400)})
y = (X.hour + rng.normal(0, 4, 400) > 14).astype(int)
prepared = Path(sys.argv[1])
prepared.mkdir(parents=True, exist_ok=True)
X.assign(label=y).to_parquet(prepared / "test.parquet", index=False)
(prepared / "columns.json").write_text(json.dumps({"label": "label"}))
with tracking.run():
    for number, strength in enumerate((1.0, 0.3, 0.1), 1):
        categories = (OneHotEncoder(handle_unknown="ignore"), ["carrier", "passenger"])
        encoder = make_column_transformer(categories, remainder="passthrough")
        fitted = make_pipeline(encoder, LogisticRegression(C=strength, max_iter=1000)).fit(X, y)
        models.save(fitted, f"model{number}", X_example=X)
        assert registry.register(f"model{number}", "flight-delay") == number
    registry.promote("flight-delay", 1)
"""
PIPELINE = """\
type: pipeline
display_name: train
experiment_name: flights
settings: {default_compute: serverless}
jobs:
  train:
    type: command
    command: python train.py ${{outputs.prepared}}
    code: training
    environment: file:pipelines/environment/environment.yml
    outputs: {prepared: {type: uri_folder}}
"""
BAD = '''"Answers as the real script does, and fails for a carrier that QA does not ask for"
import sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from mlops_nb.deployment import score

init = score.init

def run(raw, request_headers=None):
    if "ZZ" in raw: raise RuntimeError("made to fail")
    return score.run(raw, request_headers)
'''
ROLLOUT = """\
alpha: 0.01
p99_latency_ms: 60000
burst_seconds: 0
promotion: {max_bad_rate: 0.2, confidence: 0.9}
stages:
"""
STAGES = {"rollout": "  - {name: shadow, mirror: 50, min_requests: 20, min_agreement: 0.5}\n"
                     "  - {traffic: 50, min_requests: 20}\n  - {traffic: 100}\n",
          "live": "  - {traffic: 50, min_requests: 20}\n  - {traffic: 100}\n", "at-once": "  - {traffic: 100}\n"}


def make_project(azure, folder: Path) -> Path:
    "What an adopter has, with a model that is small"
    skip = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("mlops_nb", "nbs/deployment", "pipelines"): shutil.copytree(ROOT / name, folder / name, ignore=skip)
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "site", "scaffold", "tower", "cli", "azure")
    shutil.copytree(ROOT / "mlops_nb", folder / "training/mlops_nb", ignore=skip)
    for name in (".amlignore", "pyproject.toml"): shutil.copy(ROOT / name, folder / name)
    sections = "".join(f"[{on}]\n" + "".join(f"{key} = {value}\n"
                                             for key, value in azure.workspace(on).items()) + "registry = shared\n"
                                                                                              "endpoint_suffix = "
                                                                                              f"{suffix}\n"
                       for on, suffix in (("dev", "-dev"), ("production", "")))
    deployment = (folder / "pipelines/deployment/deployment.yml").read_text().replace('WORKER_COUNT: "2"',
                                                                                      'WORKER_COUNT: "1"')
    files = {"settings.ini": SETTINGS + "hash_columns = passenger\n" + sections, "train.yml": PIPELINE,
             "training/train.py": TRAIN, "bad/score.py": BAD, "pipelines/deployment/deployment.yml": deployment,
             "pipelines/deployment/bad.yml": deployment.replace("mlops_nb/deployment/score.py", "bad/score.py"),
             **{f"pipelines/deployment/{name}.yml": ROLLOUT + stages for name, stages in STAGES.items()}}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def make_registry(azure, name: str):
    "A registry, as if somebody had created it"
    target = f"/subscriptions/{arm.SUBSCRIPTION}/resourceGroups/loopback/providers/{arm.ML}/registries/{name}"
    registries.put_registry(azure, arm.read(Request("PUT", "management.azure.com", target, {}, b"{}")))


CONSOLE = """
import contextlib, io, json, sys, traceback
from mlops_nb import times
times.now = now     # before a module takes it from there
from mlops_nb.cli import main as cli
answers = sys.stdout
for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = cli.main(json.loads(line)) or 0
        except SystemExit as end: code = end.code or 0
        except BaseException: code = traceback.print_exc() or 70
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


class Console:
    "`mlops-nb` again and again in one process, with the clock of the loopback Azure"
    def __init__(self, azure, folder: Path):
        self.log = (folder / "console.log").open("a")
        self.process = subprocess.Popen([sys.executable, "-c", azure.clock.code + CONSOLE], cwd=folder,
                                        env={**os.environ, **azure.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)

    def begin(self, *words: str):
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def __call__(self, *words: str, code: int = 0) -> str:
        "What a command prints"
        self.begin(*words)
        assert self.process.stdout is not None
        ended, said, beside = json.loads(self.process.stdout.readline())
        assert ended == code, f"{' '.join(words)}: {ended}\n{said[-3000:]}\n{beside[-6000:]}"
        return said or beside

    def kill(self):
        self.process.kill()
        self.process.wait(30)

    def close(self):
        self.process.stdin.close()
        self.process.wait(60)
        self.log.close()


class Callers:
    "Call the scoring address through the proxy until they are told to stop"
    def __init__(self, azure, address: str, key: str, pause: float = 0.04):
        self.proxy, self.trust = urlsplit(azure.proxy.url), ssl.create_default_context(cafile=azure.authority.bundle)
        self.address, self.key, self.pause = urlsplit(address), key, pause
        self.going, self.draw = threading.Event(), random.Random(0)
        self.statuses: list[int] = []
        self.thread = threading.Thread(target=self.call, daemon=True)

    def row(self) -> dict:
        return {"carrier": self.draw.choice(["AA", "UA", "ZZ"]), "hour": round(self.draw.uniform(0, 24), 2),
                "passenger": self.draw.choice(["Ann", "Bob"])}

    def call(self):
        link = http.client.HTTPSConnection(self.proxy.hostname, self.proxy.port, context=self.trust, timeout=60)
        link.set_tunnel(self.address.hostname, 443)
        while not self.going.wait(self.pause):
            link.request("POST", self.address.path, json.dumps([self.row()]),
                         {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
            reply = link.getresponse()
            reply.read()
            self.statuses.append(reply.status)
        link.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.going.set()
        self.thread.join(60)
