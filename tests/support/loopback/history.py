"Run history: how jobs and their steps are going, their logs, their outputs, their artifacts"
import json
import re
from datetime import UTC

from .arm import Refused, now, paged
from .jobs import Execution, seen
from .outcomes import FILES, child_name, container
from .proxy import REGION, Answer, Request

BASE = re.compile(r"/(?P<area>history|metric|data|modelregistry|artifact|mlflow|rp|execution|pipelines)/[^/]+(?:/"
                  r"private)?(?P<workspace>/subscriptions/[^/]+/resourceGroups/[^/]+/providers/[^/]+/(?:workspaces|"
                  r"registries)/[^/]+)(?P<rest>/.*|$)", re.I)
ASSET_TYPES = {"mlflow_model": "MLFlowModel", "custom_model": "CustomModel", "triton_model": "TritonModel"}


def find(bench, workspace: str, name: str) -> tuple[Execution, str | None]:
    "The job that a run id means, or a job and its step"
    for run in bench.runs.values():
        if run.workspace.lower() != workspace.lower(): continue
        if name in (run.name, run.row.get("run_id")): return run, None
        for step, row in run.steps.items():
            if name == child_name(run, step, row): return run, step
    raise Refused(404, "UserError", f"Run {name} was not found")


def log_url(run, step: str) -> str: return f"https://{REGION}.api.azureml.ms/loopback/logs/{run.name}/{step}"


def details(bench, run, step: str | None) -> dict:
    "A run as run history describes it"
    job = seen(bench, bench.state.get(run.id))
    row = run.steps[step] if step else run.row
    status = row.get("status", "NotStarted") if step else job["properties"]["status"]
    spec = job["properties"]
    name = child_name(run, step, row) if step else run.name
    said = {"runId": name, "status": status, "startTimeUtc": stamp(row.get("started") or run.created),
            "endTimeUtc": stamp(row.get("ended")), "createdUtc": stamp(run.created), "runUuid": name,
            "rootRunId": run.name, "parentRunId": run.name if step else None, "experimentId": "0",
            "displayName": step or spec.get("displayName"), "description": spec.get("description"),
            "runType": "azureml.StepRun" if step else "azureml.PipelineRun" if spec["jobType"] == "Pipeline"
            else "azureml.scriptrun", "tags": run.tags.get(step, {}) if step else spec.get("tags") or {},
            "properties": {"azureml.nodeName": step, "azureml.isreused": str(bool(row.get("reused")))} if step
            else spec.get("properties") or {}, "dataContainerId": f"dcid.{name}",
            "createdBy": {"userName": "loopback"}, "createdFrom": "User",
            "compute": {"target": "serverless", "targetType": "amlcompute"}, "inputs": {},
            "outputs": outputs(run, step), "target": "serverless",
            "runTypeV2": {"orchestrator": "Execution", "traits": []}, "warnings": []}
    if status == "Failed": said["error"] = {"error": {"code": "UserError", "message": row.get("error") or failure(run)}}
    return {key: value for key, value in said.items() if value is not None}


def waiting(bench, workspace: str, name: str) -> dict | None:
    "A job that has not been started, as run history describes it; None where it is none"
    made = bench.state.get(f"{workspace}/jobs/{name}")
    if not made or made["id"].lower() in bench.runs: return None
    said = made["properties"]
    return {"runId": name, "status": said["status"], "createdUtc": made["systemData"]["createdAt"], "runUuid": name,
            "rootRunId": name, "experimentId": "0", "displayName": said.get("displayName"),
            "tags": said.get("tags") or {},
            "runType": "azureml.PipelineRun" if said["jobType"] == "Pipeline" else "azureml.scriptrun",
            "properties": said.get("properties") or {}, "dataContainerId": f"dcid.{name}", "inputs": {}, "outputs": {},
            "target": "serverless",
            "runTypeV2": {"orchestrator": "Execution", "traits": []}, "warnings": []}


def failure(run) -> str:
    "Why a job failed, in a line"
    failed = [f"{step}: {row['error']}" for step, row in run.steps.items() if row["status"] == "Failed"]
    return "; ".join(failed) or (run.file.parent / "execution.log").read_text()[-2000:] or "the job failed"


def outputs(run, step: str | None) -> dict:
    "Outputs by name, as references to assets"
    spec = json.loads(run.file.read_text())
    declared = spec.get("outputs") or {}
    if not step and "jobs" in spec:
        return {name: reference(f"{run.name}/{name}", given.get("type", "uri_folder"))
                for name, given in declared.items() if run.ended and isinstance(given, dict)}
    made = json.loads(run.steps[step or next(iter(run.steps))]["outputs"] or "{}") if run.steps else {}
    return {port: reference(f"{run.name}/{step or next(iter(run.steps))}/{port}", "uri_folder")
            for port in made} if run.settled else {}


def reference(place: str, kind: str) -> dict:
    return {"assetId": f"azureml://locations/{REGION}/outputs/{place}", "type": ASSET_TYPES.get(kind, kind)}


def resolve(bench, workspace: str, id: str) -> str | None:
    "Where an output is"
    name, *port = id.split("/outputs/")[-1].split("/")
    run = find(bench, workspace, name)[0]
    if len(port) == 2: return run.stored.get(tuple(port))
    return (bench.state.get(run.id)["properties"]["outputs"].get(port[0]) or {}).get("uri")


def stamp(seconds: float | None) -> str | None:
    from datetime import datetime
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if seconds else None


def answer(bench, request: Request) -> Answer | None:
    "What run history says; None where the request is for somebody else"
    if match := re.fullmatch(r"/loopback/logs/([^/]+)/([^/]+)", request.path):
        run = next((run for run in bench.runs.values() if run.name == match[1]), None)
        return Answer(200, (run.logs().get(match[2], "") if run else "").encode())
    match = BASE.fullmatch(request.path)
    if not match or match["area"].lower() not in ("history", "data", "modelregistry"): return None
    workspace, rest = match["workspace"], match["rest"]
    bench.state.need(workspace)
    if rest.endswith("/batchGetResolvedUris"):
        places = {id: resolve(bench, workspace, id) for id in request.json["values"]}
        return Answer(200, {"values": {id: {"uri": uri, "type": "uri_folder", "path": uri}
                                       for id, uri in places.items() if uri}})
    if rest == "/rundata":
        return Answer(200, {"runMetadata": details(bench, *find(bench, workspace, request.json["runId"]))})
    if run := re.fullmatch(r"(?:/experiment(?:s|ids)/[^/]+)?/runs/([^/]+)(?:/(details|children|artifacts.*))?", rest):
        name, what = run.groups()
        if what and what.startswith("artifacts"): return artifacts(bench, workspace, name, what, request)
        if held := waiting(bench, workspace, name): return Answer(200, {"value": []} if what == "children" else held)
        found, step = find(bench, workspace, name)
        if what == "children":
            steps = ([] if step or "jobs" not in json.loads(found.file.read_text())
                     else [one for one, row in found.steps.items() if child_name(found, one, row)])
            return paged(bench, request, Answer(200, {"value": [details(bench, found, one) for one in steps]}))
        said = details(bench, found, step)
        if what == "details": said["logFiles"] = log_files(found, step)
        return Answer(200, said)
    return None


def log_files(run, step: str | None) -> dict:
    "Logs by name; those of a pipeline are its step list"
    spec = json.loads(run.file.read_text())
    if step or "jobs" not in spec:
        return {"user_logs/std_log.txt": log_url(run, step or next(iter(run.steps), ""))} if run.steps else {}
    return {"logs/azureml/executionlogs.txt": log_url(run, "executionlogs")}


def artifacts(bench, workspace: str, name: str, what: str, request: Request) -> Answer:
    "Files of a run: written once, read by address"
    store = container(bench, workspace, FILES)
    try:
        run, step = find(bench, workspace, name)
        own = child_name(run, step, run.steps[step]) if step else run.name
        assert own is not None, f"{name} was found by a name that it has not"
        name = own
    except Refused: pass  # A run that no job of this workspace made, but an MLflow client
    prefix = f"ExperimentRun/dcid.{name}/"
    about = lambda path: {"artifactId": f"ExperimentRun/dcid.{name}/{path}", "origin": "ExperimentRun",
                          "container": f"dcid.{name}", "path": path, "createdTime": now()}
    address = lambda path: f"{bench.storage.url(store, prefix + path)}?{bench.storage.sas(store)}"
    content = lambda path: {"origin": "ExperimentRun", "container": f"dcid.{name}", "path": path,
                            "contentUri": address(path)}
    if what == "artifacts":
        return Answer(200, {"value": [about(path.removeprefix(prefix)) for path in bench.storage.names(store, prefix)]})
    if what == "artifacts/contentinfo":
        path = request.query["path"]
        return (Answer(200, content(path)) if prefix + path in bench.storage.names(store, prefix + path)
                else Answer(404, {"error": {"code": "UserError", "message": f"no artifact {path}"}}))
    if what == "artifacts/batch/metadata":
        known, wanted = set(bench.storage.names(store, prefix)), [one["path"] for one in request.json["paths"]]
        twice = [path for path in wanted if prefix + path in known]
        errors = {path: {"error": {"code": "UserError",
                                   "message": f"Resource Conflict: ArtifactId {prefix}{path} already exists."}}
                  for path in twice}
        fresh = [path for path in wanted if path not in twice]
        return Answer(200, {"artifacts": {path: about(path) for path in fresh},
                            "artifactContentInformation": {path: content(path) for path in fresh}, "errors": errors})
    return Answer(404, {"error": {"code": "NoSuchRoute", "message": f"the stand-in does not know {what}"}})
