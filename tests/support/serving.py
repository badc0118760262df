"Endpoints for tests: a workspace with two registered models, a scoring script that does as it is told, a client"
import http.client
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from mlops_nb.serving.endpoints import Endpoints

FLIGHT = {"carrier": "UA", "hour": 17.5, "gust": None}

ECHO = '''"Answers with the probability that it is given"
import json, os, time

def init(): pass

def run(raw):
    found = json.loads(raw)
    for row in found:
        if row.get("sleep"): time.sleep(row["sleep"])   # a sleep of 0 s takes a turn of the scheduler for each row
        if row.get("die"): os._exit(1)
        if row.get("fail"): raise RuntimeError("told to fail")
    return [{"probability": row.get("p", 0.5)} for row in found]
'''

FILES = {"endpoint.yml": """\
name: echo
auth_mode: key
traffic: {blue: 100}
""", "deployment.yml": """\
name: blue
endpoint_name: echo
model: azureml:flight-delay:1
code_configuration: {code: code, scoring_script: score.py}
environment: azureml:mlops-nb:1
environment_variables: {WORKER_COUNT: "2", WORKER_PRELOAD: "true"}
instance_type: Standard_DS3_v2
request_settings: {request_timeout_ms: 60000, max_concurrent_requests_per_instance: 8}
data_collector: {collections: {model_inputs: {enabled: 'true'}, model_outputs: {enabled: 'true'}}}
"""}


def flights():
    "Features and label of 400 made-up flights; `gust` has holes"
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"carrier": rng.choice(["AA", "UA"], 400), "hour": rng.uniform(0, 24, 400),
                      "gust": rng.uniform(0, 30, 400)})
    X.loc[::3, "gust"] = np.nan
    return X, (X.hour > 14).astype(int)


def register_models(root: Path):
    "Version 1 answers unknown carriers, version 2 refuses them"
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    from mlops_nb.models import registry, saving, tracking
    from mlops_nb.serving.models import use_registry
    X, y = flights()
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    trees = make_pipeline(make_column_transformer((codes, ["carrier"]), remainder="passthrough"),
                          HistGradientBoostingClassifier(max_iter=10))
    linear = make_pipeline(make_column_transformer((OneHotEncoder(handle_unknown="error"), ["carrier"]),
                                                   remainder=SimpleImputer()), LogisticRegression())
    for number, model in enumerate((trees, linear), 1):
        saving.save(model.fit(X, y), root / f"model{number}", X_example=X)
        with use_registry(root), tracking.run():
            assert registry.register(root / f"model{number}", "flight-delay") == number


def make_workspace(root: Path) -> Path:
    "A project with registered models and the files of the endpoint `echo`"
    (root / "code").mkdir(parents=True)
    (root / "code/score.py").write_text(ECHO)
    for name, text in FILES.items(): (root / name).write_text(text)
    (root / "settings.ini").write_text(
        "[project]\nexperiment = flights\nmodel = flight-delay\n[deployment]\nhash_columns = passenger\ndrop_columns = "
        "email\n"
    )
    register_models(root)
    return root


class Client:
    "Calls an endpoint over one connection for each thread"
    def __init__(self, endpoints: Endpoints, name: str):
        self.endpoints, self.name, self.local = endpoints, name, threading.local()
        self.address, self.key = urlsplit(endpoints.show(name).scoring_uri), endpoints.keys(name)["primary"]

    def __call__(self, body, *, path="/score", method="POST", key=None, **headers):
        "Status, what the body means, headers"
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        names = {"Content-Type": "application/json",
                 "Authorization": f"Bearer {key or self.key}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        names = {k: v for k, v in names.items() if v is not None}
        link = getattr(self.local, "link",
                       None) or http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=120)
        self.local.link = link
        try:
            link.request(method, path, data, names)
            reply = link.getresponse()
            text = reply.read()
        except Exception:
            link.close()
            self.local.link = None
            raise
        with suppress(ValueError): text = json.loads(text)
        return reply.status, text, {k.lower(): v for k, v in reply.headers.items()}


class Load:
    "Threads that call without a pause; `with Load(call) as load:`, then `load.replies`"
    def __init__(self, call: Client, threads: int = 4, body=None, **headers):
        self.call, self.body, self.headers, self.going = call, body or [{"p": 0.25}], headers, True
        self.replies: list[tuple[int, str, str | None]] = []  # Status, request, deployment
        self.errors: list[Exception] = []
        self.threads = [threading.Thread(target=self.work, args=(number,)) for number in range(threads)]

    def work(self, number):
        count = 0
        while self.going:
            count += 1
            id = f"load-{id_of(self)}-{number}-{count}"
            try: status, _, headers = self.call(self.body, x_request_id=id, **self.headers)
            except Exception as error:
                self.errors.append(error)
                time.sleep(0.05)
            else: self.replies.append((status, id, headers.get("azureml-model-deployment")))

    def served(self, count: int):
        "Wait for so many more replies"
        aim, end = len(self.replies) + count, time.monotonic() + 120
        while len(self.replies) < aim and time.monotonic() < end: time.sleep(0.01)
        assert len(self.replies) >= aim

    def __enter__(self):
        for thread in self.threads: thread.start()
        return self

    def __exit__(self, *error):
        self.going = False
        for thread in self.threads: thread.join()


def id_of(thing) -> str: return f"{id(thing):x}"


class Receiver:
    "A small receiver of OTLP over HTTP, which keeps what it gets"
    def __init__(self):
        self.got = {"/v1/traces": [], "/v1/metrics": []}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    import gzip
                    body = gzip.decompress(body)
                receiver.got[self.path].append(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_): return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}"


def records(root: Path, endpoint: str, deployment: str, collection: str) -> list[dict]:
    "All that was collected"
    folder = root / ".mlops/collected" / endpoint / deployment / collection
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


def until(check, seconds: float = 60):
    "Wait until something is so"
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
