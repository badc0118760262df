"""Monitors: one run of a schedule judges what is in the workspace's blobs, from the REST body alone, with the
project's own local monitor"""
import json
import os
import re
import subprocess
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .arm import Call, read, store
from .jobs import HERE, RUN, image, project, services
from .measures import collect
from .proxy import Request
from .rebuild import DATASTORE, Rebuild, bad, snake

TAG = "azureml_modelmonitor_threshold_breached"
# Azure knows no limits of chance
SETTINGS = "[project]\nexperiment = loopback\nmodel = loopback\n[monitoring]\nalarm = azure\nmin_rows = 1\n"
TYPES = {"DataDrift": "data_drift", "DataQuality": "data_quality", "PredictionDrift": "prediction_drift",
         "FeatureAttributionDrift": "feature_attribution_drift", "ModelPerformance": "model_performance"}
ERRORS = {"RootMeanSquaredError": "rmse", "MeanAbsoluteError": "mae", "MeanSquaredError": "mse"}
COLLECTED = re.compile(r"modelDataCollector/(?P<endpoint>[^/]+)/(?P<rest>.+)")


class Definition:
    "The file of a monitor, and the blobs that it names, from what a client sent"
    def __init__(self, bench, workspace: str, folder: Path):
        self.bench, self.workspace, self.folder = bench, workspace, folder
        self.endpoints: set[str] = set()
        self.made = Rebuild(bench, workspace, project(bench, bench.state.need(workspace)), folder)

    def collected(self, uri: str) -> str:
        "Bring the blobs below a path to where a local endpoint collects; only these can be read"
        named = DATASTORE.match(uri)
        place = named and COLLECTED.fullmatch(named["path"].rstrip("/"))
        if not named or not place: return self.made.data(uri)
        datastore = self.bench.state.need(f"{self.workspace}/datastores/{named['store']}")
        container = datastore["properties"]["containerName"]
        self.endpoints.add(place["endpoint"])
        (self.folder / ".mlops/collected" / place["endpoint"]).mkdir(parents=True, exist_ok=True)
        for name in self.bench.storage.names(container, named["path"].rstrip("/") + "/"):
            file = self.folder / ".mlops/collected" / name.removeprefix("modelDataCollector/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.bench.storage.read(container, name))
        return uri

    def data(self, said: dict) -> dict:
        "Production or reference data of a signal"
        made = {"input_data": {"type": said["jobInputType"], "path": self.collected(said["uri"])}}
        if said.get("dataContext"): made["data_context"] = said["dataContext"]
        if said.get("columns"): made["data_column_names"] = said["columns"]
        if said["inputDataType"] == "Trailing":
            made["data_window"] = {"lookback_window_size": said["windowSize"],
                                   "lookback_window_offset": said["windowOffset"]}
        return made

    def signal(self, said: dict) -> dict:
        "A signal as its file has it"
        kind = TYPES.get(said["signalType"])
        if not kind: raise bad(f"the stand-in does not compute {said['signalType']}")
        given = said["productionData"]
        made = {"type": kind, "production_data": [self.data(one) for one in given] if isinstance(given, list)
                else self.data(given), "reference_data": self.data(said["referenceData"])}
        if kind == "model_performance":
            first = self.data(given[0] if isinstance(given, list) else given)
            first.get("data_column_names", {}).pop("prediction_probability", None)     # Its component knows labels only
            made["production_data"] = first
        if features := said.get("features"):
            if features["filterType"] == "FeatureSubset": made["features"] = features["features"]
            if features["filterType"] == "TopNByAttribution":
                made["features"] = {"top_n_feature_importance": features["top"]}
        return made | ({"metric_thresholds": limits} if (limits := thresholds(kind, said)) else {})

    def file(self, name: str, said: dict) -> Path:
        "The file of a monitor"
        signals = {key: self.signal(one) for key, one in said["signals"].items()}
        if len(self.endpoints) > 1: raise bad(f"the signals read what {' and '.join(sorted(self.endpoints))} collected")
        target = said.get("monitoringTarget") or {}
        deployment = self.bench.state.need(target["deploymentId"]) if target.get("deploymentId") else None
        endpoint = next(iter(self.endpoints), None)
        if endpoint is None:
            assert deployment is not None, f"nothing says which endpoint {name} watches"
            endpoint = deployment["id"].split("/")[-3]
        spec = {
            "name": name,
            "trigger": {"type": "cron", "expression": "0 6 * * 1"},
            "create_monitor": {
                "compute": {
                    "instance_type": said["computeConfiguration"]["instanceType"].lower(),
                    "runtime_version": said["computeConfiguration"]["runtimeVersion"],
                },
                "monitoring_target": {
                    "ml_task": target.get("taskType", "classification").lower(),
                    "endpoint_deployment_id": f"azureml:{endpoint}:{deployment['name'] if deployment else 'blue'}",
                },
                "monitoring_signals": signals,
            },
        }
        (self.folder / "settings.ini").write_text(SETTINGS)
        return self.made.write("monitor.yml", spec)


def thresholds(kind: str, said: dict) -> dict:
    "Thresholds as a file has them"
    if kind == "model_performance":
        text = (said.get("properties") or {}).get("azureml.modelmonitor.model_performance_thresholds")
        given = json.loads(text) if text else [said["metricThreshold"]]
        return {said["metricThreshold"]["modelType"].lower(): {ERRORS.get(one["metric"], snake(one["metric"])):
                                                               one["threshold"]["value"]
                                                               for one in given if one.get("threshold")}}
    if kind == "feature_attribution_drift":
        return {snake(said["metricThreshold"]["metric"]): said["metricThreshold"]["threshold"]["value"]}
    made: dict[str, dict] = {}
    for one in said.get("metricThresholds") or []:
        if one.get("threshold"):
            made.setdefault(one["dataType"].lower(), {})[snake(one["metric"])] = one["threshold"]["value"]
    return made


class Watch:
    "One run of a monitor: a pipeline with a step for each signal"
    def __init__(self, bench, id: str, folder: Path, file: Path, at: str, experiment: str):
        self.bench, self.id, self.folder, self.experiment, self.created = bench, id, folder, experiment, time.time()
        self.name, self.workspace = id.rsplit("/", 1)[-1], id.split("/jobs/")[0]
        self.settled, self.canceled = True, False
        self.done: str | None = None
        self.stored: dict[str | tuple[str, ...], str] = {}
        self.names: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {}
        signals = json.loads(file.read_text())["create_monitor"]["monitoring_signals"]
        self.file = file.with_name("job.yml")
        self.file.write_text(json.dumps({"jobs": {name: {} for name in signals}}))
        self.steps: dict[str, dict[str, Any]] = {
            name: {"run_id": str(uuid.uuid4()), "reused": None, "status": "Running", "started": self.created,
                   "ended": None, "outputs": None, "error": None} for name in signals}
        self.local = {"id": self.name, "steps": [*signals]}
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("MLFLOW_", "PYTEST_", "AZURE", "MLOPS_NB"))
               and name.lower() not in ("https_proxy", "http_proxy", "pythonpath")}
        words = [str(image(bench.folder)), "-c", RUN, str(HERE.with_name("judge.py")), str(file), at]
        self.log = (folder / "execution.log").open("w")
        self.process = subprocess.Popen(words, cwd=project(bench, bench.state.need(self.workspace)), env=env,
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        start_new_session=True)
        self.thread = threading.Thread(target=self.finish, daemon=True)
        self.thread.start()

    def finish(self):
        "Tags, states and events, when the figures are there"
        self.process.wait()
        found = json.loads((self.folder / "result.json").read_text()) if self.process.returncode == 0 else None
        for name, row in self.steps.items():
            rows = [one for one in found["signals"][name]["rows"] if one["azure_breach"]] if found else []
            if rows: self.tags[name] = {TAG: sentence(name, rows)}
            row |= {"status": "Completed" if found else "Failed", "ended": time.time(),
                    "error": None if found else (self.folder / "execution.log").read_text()[-1000:]}
        self.done = "Completed" if found else "Failed"
        for name, row in self.steps.items():
            self.event(row["run_id"], "azureml.StepRun", row["status"], self.tags.get(name, {}))
        self.event(self.name, "azureml.PipelineRun", self.done, {})

    def event(self, run: str, kind: str, status: str, tags: dict):
        "What Event Grid delivers"
        data = {"experimentId": str(uuid.uuid5(uuid.NAMESPACE_URL, self.experiment)), "experimentName": self.experiment,
                "runId": run, "runType": kind, "runTags": tags, "runProperties": {}, "runStatus": status}
        self.bench.events.append({"topic": self.workspace, "subject": f"experiments/{data['experimentId']}/runs/{run}",
                                  "eventType": "Microsoft.MachineLearningServices.RunStatusChanged",
                                  "eventTime": datetime.now(UTC).isoformat(), "id": str(uuid.uuid4()), "data": data,
                                  "dataVersion": "1.0", "metadataVersion": "1"})

    @property
    def ended(self) -> bool: return self.done is not None
    @property
    def status(self) -> str: return "Canceled" if self.canceled and self.ended else self.done or "Running"
    @property
    def row(self) -> dict:
        return {"run_id": None, "status": self.status, "started": self.created,
                "ended": max(one["ended"] for one in self.steps.values()) if self.ended else None}

    def logs(self) -> dict: return {name: (self.folder / "execution.log").read_text() for name in self.steps}

    def cancel(self):
        self.canceled = True
        self.process.terminate()

    def stop(self):
        "End it whatever it does"
        self.process.kill()
        self.thread.join(30)
        self.log.close()


def sentence(signal: str, rows: list) -> str:
    "What Azure's component writes into the tag: model_monitor_evaluate_metrics_threshold, in Azure/azureml-assets"
    named = {short: name for name, short in ERRORS.items()}
    def metric(name: str) -> str: return named.get(name) or "".join(map(str.capitalize, name.split("_")))
    found = [json.dumps({"group": one["feature"], "metric_value": one["value"], "metric_name": metric(one["metric"]),
                         "threshold_value": one["azure_threshold"]}) for one in rows]
    return (f"The signal '{signal}' has failed due to one or more features violating metric thresholds.\nThe feature "
            "names and their corresponding computed metric values violating "
            f"the threshold are \n{found}\n")


def start(bench, call: Call, name: str, definition: dict, due: str, at: datetime) -> str:
    "Run the monitor of a schedule as of a time; gives the name of its job"
    job = read(Request("PUT", call.request.host, f"{call.workspace}/jobs/{uuid.uuid4()}", {}))
    folder = project(bench, bench.state.need(call.workspace)) / "submitted" / job.name
    collect(bench)
    file = Definition(bench, call.workspace, folder).file(name, definition)
    store(bench, job, {"properties": {"jobType": "Pipeline", "experimentName": name, "displayName": due, "tags": {},
                                      "properties": {}}}, status="NotStarted", services=services(job), isArchived=False)
    run = Watch(bench, job.id, folder, file, at.isoformat(), name)
    bench.executions.append(run)
    bench.runs[job.id.lower()] = run
    return job.name
