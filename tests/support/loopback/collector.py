"""The agent beside a deployment with a data collector: what the scoring script hands over becomes lines in the storage.
Requests that come close in time share a line, and the id of the first of them, as Azure's documentation says
(how-to-collect-production-data)"""
import json
import threading
import time
import uuid
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CLOSE = 0.5     # Seconds: what comes within them shares a line
TAKEN = ("azureml.inference.model_inputs", "azureml.inference.model_outputs")


class Handler(BaseHTTPRequestHandler):
    "One record is one request, with what describes it in headers that begin with `ce-`"
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        good = self.path == "/modeldata/log" and self.headers.get("ce-type") in TAKEN and isinstance(json.loads(body),
                                                                                                     list)
        if good: self.server.agent.keep({name.lower(): value for name, value in self.headers.items()}, body.decode())
        self.send_response(200 if good else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_): return


class Agent:
    "Takes the records of one deployment"
    def __init__(self, bench, id: str, folder: Path, said: dict):
        self.bench, self.id, self.guard, self.folder = bench, id, threading.Lock(), folder
        self.name = f"{uuid.uuid4().hex[:12]}.jsonl"
        self.waiting: dict[str, dict] = {}                      # Not written yet, by kind
        self.requests, self.lines = Counter[str](), Counter[str]()     # What came, and what was written of it
        self.config = folder / ".mlops/agents" / f"{uuid.uuid4().hex[:12]}.json"
        self.config.parent.mkdir(parents=True, exist_ok=True)
        collections = {name: {"enabled": str(one.get("dataCollectionMode")).lower() == "enabled",
                              "sampleRatePercentage": 100 * (one.get("samplingRate") or 1.0)}
                       for name, one in said["collections"].items()}
        self.config.write_text(json.dumps({"runMode": "cloud", "collections": collections}))
        self.server = Listener(("127.0.0.1", 0), Handler)
        self.server.agent = self
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def variables(self) -> dict[str, str]:
        "What Azure's library reads in the container"
        return {"AZUREML_MDC_CONFIG_PATH": str(self.config), "AZUREML_MDC_HOST": "127.0.0.1",
                "AZUREML_MDC_PORT": str(self.server.server_port)}

    def keep(self, about: dict, text: str):
        "Take a record; it joins those of the same kind that came shortly before"
        with self.guard:
            first = self.waiting.get(about["ce-type"])
            if first and time.monotonic() - first["since"] > CLOSE: self.write(about["ce-type"])
            record = {"about": about, "rows": [], "when": self.bench.clock.now(), "since": time.monotonic()}
            record = self.waiting.setdefault(about["ce-type"], record)
            record["rows"] += json.loads(text)
            self.requests[about["ce-type"]] += 1

    def flush(self):
        "Write what waits: somebody looks"
        with self.guard:
            for kind in [*self.waiting]: self.write(kind)

    def write(self, type: str):
        "Append a line to the file of the hour"
        record, (*_, endpoint, _, deployment) = self.waiting.pop(type), self.id.split("/")
        about, when, text = record["about"], record["when"], json.dumps(record["rows"])
        kind = type.rpartition(".")[2]
        path = self.folder / ".mlops/collected" / endpoint / deployment / kind / f"{when:%Y/%m/%d/%H}" / self.name
        event = {"specversion": "1.0", "id": about["trace-id"], "source": self.id, "type": type,
                 "datacontenttype": "application/json", "time": f"{when:%Y-%m-%dT%H:%M:%SZ}",
                 "data": record["rows"], "correlationid": about["ce-x-request-id"],
                 "xrequestid": about["ce-x-request-id"], "modelversion": about["ce-model-version"],
                 "collectdatatype": about["ce-collect-data-type"], "agent": about["ce-agent"],
                 "contentrange": f"bytes 0-{len(text) - 1}/{len(text)}"}
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file: file.write(json.dumps(event) + "\n")
        self.lines[type] += 1

    def close(self):
        self.flush()
        self.server.shutdown()
        self.server.server_close()


class Listener(ThreadingHTTPServer):
    "Where the records of one agent arrive"
    agent: Agent
