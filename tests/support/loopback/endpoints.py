"""Online endpoints: a deployment is rebuilt from what was uploaded and served by the local endpoint host; the scoring
address leads there"""
import http.client
import re
import shutil
import threading
import time
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from .arm import Call, Refused, default_delete, head, on, operation, store
from .collector import Agent
from .jobs import project
from .proxy import REGION, Answer, Request
from .rebuild import Rebuild, bad, seconds

PROBE = {"failureThreshold": 30, "successThreshold": 1, "timeout": "PT2S", "period": "PT10S", "initialDelay": "PT10S"}
USUAL = {"scaleSettings": {"scaleType": "Default"}, "livenessProbe": PROBE, "readinessProbe": PROBE,
         "appInsightsEnabled": False, "egressPublicNetworkAccess": "Enabled",
         "requestSettings": {"maxConcurrentRequestsPerInstance": 1, "requestTimeout": "PT5S"},
         "environmentVariables": {}, "properties": {}}
FRONT = (401, 404, 405, 408, 413, 429, 502, 503)  # What the front says by itself; all else comes from the script
SCORING = re.compile(r"(?P<name>[\w-]+)\.\w+\.inference\.ml\.azure\.com")


UPLOADED: ContextVar = ContextVar("uploaded")    # The model that this thread deploys, and what a deployment says of it


def fetch_uploaded(fetch_registered, root: Path, reference: str, to: Path) -> dict:
    "Give the local host the model that this thread has uploaded; other threads of this process get those of a registry"
    if (uploaded := UPLOADED.get(None)) is None: return fetch_registered(root, reference, to)
    model, about = uploaded
    to.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if model.is_dir() else shutil.copy)(model, to / model.name)
    return {**about, "digest": ""}


def serve(folder: Path, model: Path, about: dict, endpoint: Path, deployment: Path):
    "Deploy with the local host"
    from mlops_nb.serving import endpoints as local_endpoints
    if not isinstance(local_endpoints.fetch_model, partial):
        local_endpoints.fetch_model = partial(fetch_uploaded, local_endpoints.fetch_model)
    UPLOADED.set((model, about))
    return local_endpoints.Endpoints(folder).deploy(endpoint, deployment, trust=True)


class Hosting:
    "One deployment on its way"
    def __init__(self, bench, call: Call, arguments: tuple):
        self.id = call.id.lower()
        self.error: str | None = None
        self.thread = threading.Thread(target=self.run, args=(bench, call, arguments), daemon=True)
        self.thread.start()

    def run(self, bench, call: Call, arguments: tuple):
        fault = bench.faults.unhealthy_like(call.id)
        try:
            if fault: raise RuntimeError(fault)
            serve(*arguments)
        except Exception as error: self.error = str(error)
        if made := bench.state.get(call.id):
            made["properties"]["provisioningState"] = "Failed" if self.error else "Succeeded"

    @property
    def running(self) -> bool: return self.thread.is_alive()


def endpoints(bench, id: str):
    "The local endpoints of the workspace that an id lies in"
    from mlops_nb.serving.endpoints import Endpoints
    workspace = head(r".*?/workspaces/[^/]+", id, re.I)[0]
    return Endpoints(project(bench, bench.state.need(workspace)))


def local(bench, id: str, name: str):
    "The local endpoint, or None before its first deployment"
    found = endpoints(bench, id)
    return found if (found.root / ".mlops/endpoints" / name / "state.json").exists() else None


@on("PUT", "workspaces/onlineEndpoints")
def put_endpoint(bench, call: Call) -> Answer:
    "Make an endpoint, or move its traffic"
    before, said = bench.state.get(call.id), call.body["properties"]
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]", call.name):
        raise bad(f"the endpoint name {call.name} is invalid")
    if any(one["name"].lower() == call.name.lower() and one["id"].lower() != call.id.lower()
           for one in bench.state.all("workspaces/onlineEndpoints")):
        raise bad(f"an endpoint with the name {call.name} already exists in {REGION}")
    if bench.identities and not before: bench.identities.check_endpoint(bench.state.need(call.workspace), call.body)
    traffic, mirror = said.get("traffic") or {}, said.get("mirrorTraffic") or {}
    move(bench, call, traffic, mirror)
    made = store(bench, call, call.body, provisioningState="Succeeded",
                 scoringUri=f"https://{call.name}.{REGION}.inference.ml.azure.com/score",
                 swaggerUri=f"https://{call.name}.{REGION}.inference.ml.azure.com/swagger.json", traffic=traffic,
                 mirrorTraffic=mirror, publicNetworkAccess=said.get("publicNetworkAccess", "Enabled"))
    made["properties"].pop("keys", None)
    made.setdefault("location", REGION)
    return Answer(200 if before else 201, made, operation(bench, call, 0.0, made))


def move(bench, call: Call, traffic: dict, mirror: dict):
    "Traffic goes only to deployments that serve"
    from mlops_nb.errors import UserError
    known = {one["name"]: one["properties"]["provisioningState"] for one in bench.state.below(f"{call.id}/deployments")}
    for name, share in (*traffic.items(), *mirror.items()):
        if share and known.get(name) != "Succeeded":
            raise bad(f"deployment {name} is {known.get(name, 'not there')}: it cannot have traffic")
    if sum(traffic.values()) not in (0, 100):
        raise bad(f"the traffic adds up to {sum(traffic.values())}, not to 100 or 0")
    if found := local(bench, call.id, call.name):
        try: found.set_traffic(call.name, traffic, mirror)
        except UserError as error: raise bad(str(error)) from None


@on("DELETE", "workspaces/onlineEndpoints")
def delete_endpoint(bench, call: Call) -> Answer:
    if found := local(bench, call.id, call.name): found.stop(call.name)
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


@on("PUT", "workspaces/onlineEndpoints/deployments")
def put_deployment(bench, call: Call) -> Answer:
    "Deploy; the operation ends when the deployment serves, or cannot"
    bench.state.need(call.parent.rsplit("/", 1)[0] if call.parent.endswith("/deployments") else call.parent)
    before = bench.state.get(call.id)
    if any(one.running and one.id == call.id.lower() for _, _, one in bench.hostings):
        raise Refused(409, "Conflict", f"There is already an operation in progress on deployment {call.name}")
    arguments = rebuilt(bench, call)
    usual = {name: value for name, value in USUAL.items() if call.body["properties"].get(name) is None}
    made = store(bench, call, {"location": REGION, "sku": {"name": "Default", "capacity": 1}, "tags": {}, **call.body},
                 provisioningState="Updating" if before else "Creating", **usual)
    hosting = Hosting(bench, call, arguments)
    bench.hostings.append((endpoints(bench, call.id), call.segments[3], hosting))
    headers = operation(bench, call, 0.0, made)
    bench.state.operations[headers["Location"].split("/")[-1].split("?")[0]] |= {"hosting": hosting}
    return Answer(200 if before else 201, made, headers)


def rebuilt(bench, call: Call) -> tuple:
    "The files of a deployment, from its body and uploads"
    workspace, said = call.workspace, call.body["properties"]
    root = project(bench, bench.state.need(workspace))
    made = Rebuild(bench, workspace, root, root / "submitted" / f"{call.segments[3]}-{call.name}")
    model = made.asset(said["model"], ("models",))
    code = said.get("codeConfiguration")
    if not code and model["properties"].get("modelType") != "mlflow_model":
        raise bad("a deployment without a scoring script needs a model of the type mlflow_model")
    settings, collector = said.get("requestSettings") or {}, said.get("dataCollector")
    spec = {
        "name": call.name,
        "endpoint_name": call.segments[3],
        "model": f"azureml:{model['id'].split('/')[-3]}:{model['name']}",
        **({"code_configuration": {"code": made.code(code["codeId"]), "scoring_script": code["scoringScript"]},
            "environment": made.environment(said.get("environmentId"))} if code else {}),
        "environment_variables": said.get("environmentVariables") or {},
        "instance_type": said.get("instanceType", "Standard_DS3_v2"),
        "instance_count": (call.body.get("sku") or {}).get("capacity", 1),
        "request_settings": {
            "request_timeout_ms": int(seconds(settings.get("requestTimeout", "PT5S")) * 1000),
            "max_concurrent_requests_per_instance": settings.get("maxConcurrentRequestsPerInstance", 1),
        },
    }
    # The script collects, or nobody does
    if collector:
        spec["environment_variables"] = {**spec["environment_variables"],
                                         **agent(bench, call.id, root, collector).variables}
    about = {"model": model["id"].split("/")[-3], "version": model["name"]}
    return (root, Path(made.data(model["properties"]["modelUri"])), about,
            made.write("endpoint.yml", {"name": call.segments[3], "auth_mode": "key"}),
            made.write("deployment.yml", spec))


def agent(bench, id: str, root: Path, said: dict) -> Agent:
    "The agent of a deployment; a new one when the deployment changes"
    if before := bench.agents.pop(id.lower(), None): before.close()
    bench.agents[id.lower()] = Agent(bench, id, root, said)
    return bench.agents[id.lower()]


@on("GET", "workspaces/onlineEndpoints/deployments")
def get_deployment(bench, call: Call) -> Answer:
    "A deployment, or all of an endpoint, as the api-version knows it"
    found = [bench.state.need(call.id)] if call.single else bench.state.below(call.id)
    old = {"dataCollector"} if call.request.version < "2023-04-01" else set()
    seen = [{**one, "properties": {name: value for name, value in one["properties"].items() if name not in old}}
            for one in found]
    return Answer(200, seen[0] if call.single else {"value": seen})


@on("DELETE", "workspaces/onlineEndpoints/deployments")
def delete_deployment(bench, call: Call) -> Answer:
    from mlops_nb.errors import UserError
    if not bench.state.get(call.id): return Answer(204)
    shares = bench.state.need(call.id.rsplit("/", 2)[0])["properties"]
    if (shares.get("traffic") or {}).get(call.name): raise bad(f"deployment {call.name} has traffic")
    if found := local(bench, call.id, call.segments[3]):
        try: found.delete(call.segments[3], call.name)
        except UserError: pass  # It never became one
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


@on("POST", "workspaces/onlineEndpoints/deployments/getLogs")
def deployment_logs(bench, call: Call) -> Answer:
    found = endpoints(bench, call.id)
    folder = found.root / ".mlops/endpoints" / call.segments[3] / "deployments" / call.segments[5]
    files = sorted(folder.glob("*/worker.log"))
    tail = int(call.body.get("tail") or 100)
    return Answer(200, {"content": "\n".join(files[-1].read_text(errors="replace").splitlines()[-tail:]) if files
                        else ""})


@on("POST", "workspaces/onlineEndpoints/listKeys")
def list_keys(bench, call: Call) -> Answer:
    return Answer(200, {f"{name}Key": key for name, key in key_pair(bench, call.action_on).items()})


def key_pair(bench, id: str, regenerate: str | None = None) -> dict:
    "The keys of an endpoint"
    from mlops_nb.serving.state import EndpointFolder, read_keys
    bench.state.need(id)
    name = id.rsplit("/", 1)[-1]
    if found := local(bench, id, name): return found.keys(name, regenerate)
    return read_keys(EndpointFolder(endpoints(bench, id).root, name), regenerate)


@on("POST", "workspaces/onlineEndpoints/regenerateKeys")
def regenerate_keys(bench, call: Call) -> Answer:
    key_pair(bench, call.action_on, call.body["keyType"].lower())
    return Answer(202, None, operation(bench, call))


@on("POST", "workspaces/onlineEndpoints/token")
def endpoint_token(bench, call: Call) -> Answer:
    key, end = key_pair(bench, call.action_on)["primary"], int(time.time()) + 3600
    return Answer(200, {"accessToken": key, "expiryTimeUtc": end, "refreshAfterTimeUtc": end - 600,
                        "tokenType": "Bearer"})


def scored(bench, request: Request) -> Answer:
    "A request to a scoring address"
    name = SCORING.fullmatch(request.host)
    found = next((one for one in bench.state.all("workspaces/onlineEndpoints") if name and one["name"] == name["name"]),
                 None)
    served = found and local(bench, found["id"], found["name"])
    if not found or not served:
        return Answer(404, {"error": {"code": "NotFound", "message": f"no endpoint at {request.host}"}})
    upstream = http.client.HTTPConnection("127.0.0.1", urlsplit(served.show(found["name"]).scoring_uri).port,
                                          timeout=120)
    try:
        upstream.request(request.method, request.target, request.body or None,
                         {name: value for name, value in request.headers.items()
                          if name not in ("connection", "host", "transfer-encoding")})
        reply = upstream.getresponse()
        # As Azure says it when the script does not answer 200
        status = reply.status if reply.status in (200, *FRONT) else 424
        return Answer(status, reply.read(), {**({} if status == reply.status
                                                else {"ms-azureml-model-error-statuscode": reply.status,
                                                      "ms-azureml-model-error-reason": "model_error"}),
                                             **{name: value for name, value in reply.getheaders()
                                                if name.lower() not in ("connection", "content-length",
                                                                        "transfer-encoding", "date", "server")
                                                and not name.lower().startswith("ms-azureml-model")}})
    finally: upstream.close()
