"Azure Resource Manager: resources by id, with the manners of ARM; what a type does beyond that is registered with `on`"
import copy
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import urlencode

from .proxy import Answer, Request

TENANT, SUBSCRIPTION, PRINCIPAL = ("00000000-0000-4000-8000-00000000000" + digit for digit in "123")
ML = "Microsoft.MachineLearningServices"
CANONICAL = {  # What ARM answers, whatever case a client used
    "jobType": ("AutoML", "Command", "Sweep", "Pipeline", "Spark"),
             "identityType": ("Managed", "AMLToken", "UserIdentity"),
    "referenceType": ("Id", "DataPath", "OutputPath"), "datastoreType": ("AzureBlob", "AzureDataLakeGen2", "AzureFile"),
    "mode": ("ReadOnlyMount", "ReadWriteMount", "Download", "Upload", "Direct", "EvalMount", "EvalDownload"),
    "authMode": ("Key", "AMLToken", "AADToken"), "endpointComputeType": ("Managed", "Kubernetes"),
             "osType": ("Linux", "Windows"),
    "computeType": ("AmlCompute", "ComputeInstance", "Kubernetes"), "triggerType": ("Cron", "Recurrence"),
    "samplingAlgorithmType": ("Random", "Grid", "Bayesian"), "goal": ("Minimize", "Maximize"),
             "policyType": ("Bandit", "MedianStopping", "TruncationSelection"),
    "frequency": ("Minute", "Hour", "Day", "Week", "Month"),
             "actionType": ("CreateJob", "InvokeBatchEndpoint", "ImportData", "CreateMonitor"),
    "scaleType": ("Default", "TargetUtilization"), "egressPublicNetworkAccess": ("Enabled", "Disabled"),
             "publicNetworkAccess": ("Enabled", "Disabled"),
    "dataCollectionMode": ("Enabled", "Disabled"), "keyType": ("Primary", "Secondary"),
             "jobTier": ("Null", "Spot", "Basic", "Standard", "Premium"),
}
HOOKS: dict[tuple[str, str], Callable[..., Answer]] = {}


def head(pattern: str, text: str, flags: int = 0) -> re.Match[str]:
    "How a text begins that has to begin so"
    found = re.match(pattern, text, flags)
    assert found, f"{text!r} does not begin with {pattern}"
    return found


def on(method: str, kind: str):
    """Register a function (bench, call) -> Answer for a method and a type such as `workspaces/jobs` or
    `workspaces/jobs/cancel`"""
    def keep(function):
        HOOKS[method, kind.lower()] = function
        return function
    return keep


class Refused(Exception):
    "An error in ARM's own form"
    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.answer = Answer(status, {"error": {"code": code, "message": message}}, {"x-ms-error-code": code})


@dataclass
class Call:
    "A request, with its path read as ARM does"
    request: Request
    scope: str  # Up to and without /providers/...
    provider: str
    segments: list[str]  # type, name, type, name ...

    @property
    def id(self) -> str:
        return "/".join([self.scope, "providers", self.provider, *self.segments]) if self.provider else self.scope
    @property
    def kind(self) -> str: return "/".join(self.segments[::2]).lower()
    @property
    def names(self) -> list[str]: return self.segments[1::2]
    @property
    def name(self) -> str: return self.segments[-1]
    @property
    def single(self) -> bool: return len(self.segments) % 2 == 0
    @property
    def parent(self) -> str: return self.id.rsplit("/", 2 if self.single else 1)[0]
    @property
    def action_on(self) -> str: return self.id.rsplit("/", 1)[0]
    @property
    def workspace(self) -> str: return head(r"(.*?/(?:workspaces|registries)/[^/]+)", self.id, re.I)[1]
    @property
    def body(self) -> dict: return self.request.json or {}
    @property
    def query(self) -> dict: return self.request.query


@dataclass
class State:
    "All that the stand-in remembers; a new one for every test"
    resources: dict[str, dict] = field(default_factory=dict)  # By id in lower case
    deleted: dict[str, dict] = field(default_factory=dict)  # Workspaces that were deleted softly
    # Running operations: when they are done, what they answer
    operations: dict[str, dict] = field(default_factory=dict)
    uploads: dict[str, str] = field(default_factory=dict)  # Container of each pending upload, by asset id
    requests: dict[str, dict] = field(default_factory=dict)  # Bodies as they were sent, by id
    cores: int = 100  # Quota of each family of machines
    permissions: dict = field(default_factory=lambda: {"actions": ["*"], "notActions": [], "dataActions": ["*"],
                                                       "notDataActions": []})

    def get(self, id: str) -> dict | None: return self.resources.get(id.lower())

    def need(self, id: str) -> dict:
        found = self.get(id)
        if found is None: raise Refused(404, "ResourceNotFound", f"The resource {id} was not found.")
        return found

    def below(self, collection: str) -> list[dict]:
        "What a collection holds, in the order of creation"
        prefix = f"{collection.lower()}/"
        return [one for id, one in self.resources.items() if id.startswith(prefix) and "/" not in id[len(prefix):]]

    def all(self, kind: str) -> list[dict]:
        "All resources of a type, such as workspaces/jobs"
        return [one for one in self.resources.values() if one.get("type", "").lower() == f"{ML}/{kind}".lower()]


def now() -> str: return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(value, key: str = ""):
    "Enum values in the case that ARM answers"
    if isinstance(value, dict): return {name: canonical(one, name) for name, one in value.items()}
    if isinstance(value, list): return [canonical(one, key) for one in value]
    if isinstance(value, str) and key in CANONICAL:
        return next((one for one in CANONICAL[key] if one.lower() == value.lower()), value)
    return value


def read(request: Request) -> Call:
    "A request to ARM"
    scope, _, rest = request.path.rpartition("/providers/") if "/providers/" in request.path else (request.path, "", "")
    provider, *segments = rest.split("/") if rest else ("",)
    return Call(request, scope.rstrip("/"), provider, [part for part in segments if part])


def store(bench, call: Call, body: dict, **properties) -> dict:
    "Write a resource; gives it as ARM answers it"
    before = bench.state.get(call.id)
    made = canonical(copy.deepcopy(body))
    stamp = {"createdAt": before["systemData"]["createdAt"] if before else now(), "createdBy": "loopback",
             "createdByType": "User",
             "lastModifiedAt": now(), "lastModifiedBy": "loopback", "lastModifiedByType": "User"}
    made |= {"id": call.id, "name": call.name, "type": f"{call.provider}/{'/'.join(call.segments[::2])}",
             "systemData": stamp}
    made["properties"] = {**(made.get("properties") or {}), **properties}
    bench.state.resources[call.id.lower()] = made
    bench.state.requests[call.id.lower()] = body
    return made


def later(seconds: float = 1) -> str:
    "When to ask again, as the date that RFC 9110 allows"
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


def operation(bench, call: Call, seconds: float = 0.0, result=None, status: str = "Succeeded",
              error: dict | None = None) -> dict:
    "Headers of an operation that is done after a while"
    id = uuid.uuid4().hex
    bench.state.operations[id] = {"done": time.monotonic() + seconds, "result": result, "status": status,
                                  "error": error}
    subscription = head(r"/subscriptions/[^/]+", call.scope)[0]
    base = f"https://management.azure.com{subscription}/providers/{ML}/locations/eastus"
    return {"Azure-AsyncOperation": f"{base}/mfeOperationsStatus/{id}?api-version={call.request.version}",
            "Location": f"{base}/mfeOperationResults/{id}?api-version={call.request.version}",
            "Retry-After": "1" if call.provider.lower() == ML.lower() else later()}     # Its specification: an integer


@on("GET", "locations/mfeOperationsStatus")
def operation_status(bench, call: Call) -> Answer:
    "How an operation is going"
    found = bench.state.operations.get(call.name) or {"done": 0, "status": "Failed",
                                                      "error": {"code": "NotFound", "message": "no such operation"}}
    running, failed = time.monotonic() < found["done"], None
    if hosting := found.get("hosting"): running, failed = hosting.running, hosting.error
    if failed: found |= {"status": "Failed", "error": {"code": "BadRequest", "message": failed}}
    body = {"id": call.id, "name": call.name, "status": "InProgress" if running else found["status"]}
    if not running and found.get("error"): body["error"] = found["error"]
    return Answer(200, body, {"Retry-After": "1"} if running else {})


@on("GET", "locations/mfeOperationResults")
def operation_result(bench, call: Call) -> Answer:
    "What an operation gave"
    found = bench.state.operations.get(call.name)
    if not found: raise Refused(404, "NotFound", "no such operation")
    if time.monotonic() < found["done"]:
        return Answer(202, None, {"Location": f"https://{call.request.host}{call.request.target}", "Retry-After": "1"})
    return Answer(200, found["result"]() if callable(found["result"])
                  else found["result"]) if found["result"] is not None else Answer(204)


def answer(bench, request: Request) -> Answer:
    "What ARM says to a request"
    call = read(request)
    try:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            raise Refused(401, "AuthenticationFailed", "the Authorization header is missing")
        bench.tokens.check(request.headers["authorization"].removeprefix("Bearer "))
        if bench.rights: bench.rights.check(request)
        hook = HOOKS.get((request.method, call.kind if call.single or request.method != "POST"
                          else f"{'/'.join(call.segments[::2])}".lower()))
        said = (hook or DEFAULTS[request.method])(bench, call)
        return paged(bench, request, said) if request.method == "GET" else said
    except Refused as refused: return refused.answer
    except KeyError as missing:
        return Answer(404, {"error": {"code": "NoSuchRoute",
                                      "message": f"the stand-in does not know {request.method} {request.path} "
                                                 f"({missing})"}})


PAGE, TOKEN = 3, "$skiptoken"    # Resources on a page of any list, and where the next one begins


def paged(bench, request: Request, said: Answer) -> Answer:
    "A list as Azure gives it: a few at a time, and the address of what follows"
    body = said.body
    if said.status != 200 or not isinstance(body, dict) or not isinstance(body.get("value"), list): return said
    if not bench.pages(request): return said
    start, rest = int(request.query.get(TOKEN, 0)), {name: one for name, one in body.items() if name != "value"}
    page = {**rest, "value": body["value"][start:start + PAGE]}
    if start + PAGE < len(body["value"]):
        query = {**request.query, TOKEN: start + PAGE}
        page["nextLink"] = f"https://{request.host}{request.path}?{urlencode(query)}"
        bench.paged += 1
    return Answer(200, page, said.headers)


def default_get(bench, call: Call) -> Answer:
    if call.single or not call.segments: return Answer(200, bench.state.need(call.id))
    return Answer(200, {"value": listed(bench, call)})


def listed(bench, call: Call) -> list[dict]:
    "A collection, filtered as its query says"
    found = bench.state.below(call.id)
    if (
        "createdtime" in call.query.get("$orderBy", call.query.get("orderBy", "")).lower()
        or "createdat" in call.query.get("$orderBy", "").lower()
    ):
        found = found[::-1]
    view = call.query.get("listViewType", "ActiveOnly")
    if view != "All":
        found = [one for one in found if bool((one.get("properties")
                                               or {}).get("isArchived")) == (view == "ArchivedOnly")]
    if tag := call.query.get("hash"): found = [one for one in found if tag in str(one)]
    return found[:int(call.query.get("$top", 10 ** 6))]


def default_put(bench, call: Call) -> Answer:
    created = bench.state.get(call.id) is None
    made = store(bench, call, call.body, provisioningState="Succeeded")
    if (made.get("identity") or {}).get("type") == "SystemAssigned":
        principal = str(uuid.uuid5(uuid.NAMESPACE_URL, call.id.lower()))
        made["identity"] = {"type": "SystemAssigned", "tenantId": TENANT, "principalId": principal}
    return Answer(201 if created else 200, made)


def merged(before, change):
    "JSON merge patch"
    if not isinstance(change, dict) or not isinstance(before, dict): return change
    return {name: value for name, value in {**before, **{name: merged(before.get(name), value)
                                                         for name, value in change.items()}}.items()
            if value is not None}


def default_patch(bench, call: Call) -> Answer:
    found = bench.state.need(call.id)
    found.update(merged(found, canonical(call.body)))
    return Answer(200, found)


def default_delete(bench, call: Call) -> Answer:
    if bench.state.resources.pop(call.id.lower(), None) is None: return Answer(204)
    for id in [id for id in bench.state.resources if id.startswith(f"{call.id.lower()}/")]:
        del bench.state.resources[id]
    return Answer(200)


DEFAULTS = {"GET": default_get, "PUT": default_put, "PATCH": default_patch, "DELETE": default_delete,
            "HEAD": default_get}
