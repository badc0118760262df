"The agent beside a deployment with a data collector: what the scoring script hands over becomes lines in the storage"
import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
        "Append a line to the file of the hour"
        when, (*_, endpoint, _, deployment) = self.bench.clock.now(), self.id.split("/")
        kind = about["ce-type"].rpartition(".")[2]
        path = self.folder / ".mlops/collected" / endpoint / deployment / kind / f"{when:%Y/%m/%d/%H}" / self.name
        event = {"specversion": "1.0", "id": about["trace-id"], "source": self.id, "type": about["ce-type"],
                 "datacontenttype": "application/json", "time": f"{when:%Y-%m-%dT%H:%M:%SZ}",
                 "data": json.loads(text), "correlationid": about["ce-x-request-id"],
                 "xrequestid": about["ce-x-request-id"], "modelversion": about["ce-model-version"],
                 "collectdatatype": about["ce-collect-data-type"], "agent": about["ce-agent"],
                 "contentrange": f"bytes 0-{len(text) - 1}/{len(text)}"}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.guard, path.open("a") as file: file.write(json.dumps(event) + "\n")

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Listener(ThreadingHTTPServer):
    "Where the records of one agent arrive"
    agent: Agent
