"Resource groups, roles, quotas, budgets and schedules: what stands around the work"
import json
import re
import uuid
from datetime import UTC, datetime

from . import monitors
from .arm import ML, SUBSCRIPTION, Call, Refused, default_delete, on, operation, read, store
from .jobs import put_job
from .proxy import REGION, Answer, Request
from .rebuild import bad

ROLES = {"Owner": "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Contributor": "b24988ac-6180-42a0-ab88-20f7382dd24c",
         "Reader": "acdd72a7-3385-48ef-bd42-f606fba81ae7",
         "AzureML Data Scientist": "f6c7c914-8db3-469d-8ca1-694a8f32e121",
         "AzureML Compute Operator": "e503ece1-11d0-4e8e-8e2c-7a6c3bf38815",
         "AzureML Registry User": "1823dd4f-9b8c-4ab6-ab4e-7397a3684615",
         "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
         "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
         "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d", "AcrPush": "8311e382-0749-4cb8-b61a-304f252e45ec",
         "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
         "Monitoring Reader": "43d0d8ad-25c7-4714-9337-8ba259a9fe05",
         "User Access Administrator": "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
         "Role Based Access Control Administrator": "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
         "AzureML Metrics Writer (preview)": "635dd51f-9968-44d3-b7fb-6d9a6bd613ae"}


@on("PUT", "")
def put_group(bench, call: Call) -> Answer:
    "A resource group"
    name = call.scope.rsplit("/", 1)[-1]
    before = bench.state.get(call.id)
    made = {"id": call.id, "name": name, "type": "Microsoft.Resources/resourceGroups", **call.body,
            "properties": {"provisioningState": "Succeeded"}}
    bench.state.resources[call.id.lower()] = made
    return Answer(200 if before else 201, made)


@on("DELETE", "")
def delete_group(bench, call: Call) -> Answer:
    default_delete(bench, call)
    return Answer(202, None, {"Location": operation(bench, call)["Location"], "Retry-After": "1"})


@on("HEAD", "")
def head_group(bench, call: Call) -> Answer: return Answer(204 if bench.state.get(call.id) else 404)


def role(id: str, name: str, guid: str) -> dict:
    return {"id": f"{id}/{guid}", "name": guid, "type": "Microsoft.Authorization/roleDefinitions",
            "properties": {"roleName": name, "type": "BuiltInRole", "description": name, "assignableScopes": ["/"],
                           "permissions": [{"actions": ["*"], "notActions": []}]}}


@on("GET", "roleDefinitions")
def role_definitions(bench, call: Call) -> Answer:
    "Built-in roles, and those that somebody made"
    base = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
    found = [role(base, name, guid) for name, guid in ROLES.items()] + [
        one for one in bench.state.resources.values() if one.get("type") == "Microsoft.Authorization/roleDefinitions"
    ]
    if call.single:
        return Answer(200, next((one for one in found if one["name"] == call.name), None) or bench.state.need(call.id))
    wanted = re.search(r"roleName eq '([^']*)'", call.query.get("$filter", ""))
    return Answer(200, {"value": [one for one in found if not wanted or one["properties"]["roleName"] == wanted[1]]})


@on("PUT", "roleAssignments")
def assign(bench, call: Call) -> Answer:
    "One assignment of a role to a principal at a scope exists once"
    said = call.body["properties"]
    for one in bench.state.resources.values():
        if (
            one.get("type") == "Microsoft.Authorization/roleAssignments"
            and one["name"] != call.name
            and (
                one["properties"]["scope"].lower(),
                one["properties"]["principalId"],
                one["properties"]["roleDefinitionId"].lower(),
            )
            == (call.scope.lower(), said["principalId"], said["roleDefinitionId"].lower())
        ):
            raise Refused(409, "RoleAssignmentExists", f"The role assignment already exists: {one['name']}")
    return Answer(201, store(bench, call, call.body, scope=call.scope))


@on("GET", "roleAssignments")
def assignments(bench, call: Call) -> Answer:
    "Those at a scope and above it"
    if call.single: return Answer(200, bench.state.need(call.id))
    found = [one for one in bench.state.resources.values()
             if one.get("type") == "Microsoft.Authorization/roleAssignments"]
    wanted = re.search(r"(?:principalId|assignedTo)\W+(?:eq )?'?([0-9a-f-]{36})", call.query.get("$filter", ""))
    here = [one for one in found if call.scope.lower().startswith(one["properties"]["scope"].lower().rstrip("/"))]
    return Answer(200, {"value": [one for one in here if not wanted or one["properties"]["principalId"] == wanted[1]]})


@on("GET", "permissions")
def permissions(bench, call: Call) -> Answer:
    "What the caller may do: what its roles say, everything by default"
    return Answer(200, {"value": [bench.state.permissions]})


@on("GET", "locations/usages")
def usages(bench, call: Call) -> Answer:
    "Cores in use, by family"
    limit = bench.state.cores
    one = lambda name, text, used, most: {"id": f"{call.scope}/providers/{ML}/locations/{REGION}/usages/{name}",
                                          "type": f"{ML}/usages", "unit": "Count", "currentValue": used, "limit": most,
                                          "name": {"value": name, "localizedValue": text}}
    return Answer(200, {"value": [one("Total Cluster Dedicated Regional vCPUs",
                                      "Total Cluster Dedicated Regional vCPUs", 0, limit),
                                  one("standardDSv2Family", "Standard DSv2 Family Cluster Dedicated vCPUs", 0, limit),
                                  one("standardDASv4Family", "Standard DASv4 Family Cluster Dedicated vCPUs", 0,
                                      limit)]})


@on("GET", "locations/quotas")
def quotas(bench, call: Call) -> Answer:
    return Answer(200, {"value": [{"id": f"{call.scope}/providers/{ML}/locations/{REGION}/quotas/standardDSv2Family",
                                   "type": f"{ML}/quotas", "unit": "Count", "limit": bench.state.cores,
                                   "name": {"value": "standardDSv2Family", "localizedValue": "Standard DSv2 Family"}}]})


@on("GET", "locations/vmSizes")
def sizes(bench, call: Call) -> Answer:
    one = lambda name, cores, memory: {"name": name, "family": "standardDSv2Family", "vCPUs": cores, "gpus": 0,
                                       "memoryGB": memory, "osVhdSizeMB": 1047552, "maxResourceVolumeMB": 28672,
                                       "lowPriorityCapable": True, "premiumIO": True,
                                       "supportedComputeTypes": ["AmlCompute", "ComputeInstance"]}
    return Answer(200, {"value": [one("Standard_DS3_v2", 4, 14.0), one("Standard_DS11_v2", 2, 14.0),
                                  one("Standard_DS4_v2", 8, 28.0)]})


@on("PUT", "workspaces/schedules")
def put_schedule(bench, call: Call) -> Answer:
    "A schedule, for a job or a monitor"
    if call.body["properties"].get("isEnabled", True) and not (call.body["properties"].get("trigger")
                                                               or {}).get("triggerType"):
        raise bad("a schedule needs a trigger")
    before = bench.state.get(call.id)
    action = call.body["properties"].get("action") or {}
    if bench.identities and action.get("actionType") == "CreateMonitor":
        bench.identities.check_monitor(bench.state.need(call.workspace))
    made = store(bench, call, call.body, provisioningState="Succeeded",
                 isEnabled=call.body["properties"].get("isEnabled", True))
    return Answer(200 if before else 201, made, {"Azure-AsyncOperation": operation(bench, call, 0.0,
                                                                                   made)["Azure-AsyncOperation"],
                                                 "Retry-After": "1"})


@on("DELETE", "workspaces/schedules")
def delete_schedule(bench, call: Call) -> Answer:
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


@on("POST", "workspaces/schedules/trigger")
def trigger(bench, call: Call) -> Answer:
    "Run a schedule's job now, as its time would"
    found = bench.state.need(call.action_on)
    name = fire(
        bench,
        call,
        found,
        datetime.fromisoformat(call.body.get("scheduleTime", datetime.now(UTC).isoformat()).replace("Z", "+00:00")),
    )
    return Answer(200, {"submissionId": name, "scheduleActionType": found["properties"]["action"]["actionType"]})


def fire(bench, call: Call, schedule: dict, at: datetime) -> str:
    "Start what a schedule starts, as of a time; gives the name of the job"
    action, due = schedule["properties"]["action"], f"{schedule['name']}-{at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    if action["actionType"] == "CreateMonitor":
        return monitors.start(bench, call, schedule["name"], action["monitorDefinition"], due, at)
    name = f"{schedule['name']}-{uuid.uuid4().hex[:8]}"
    body = json.dumps({"properties": action["jobDefinition"] | {"displayName": due}}).encode()
    put_job(bench, read(Request("PUT", call.request.host,
                                f"{call.workspace}/jobs/{name}?api-version={call.request.version}",
                                call.request.headers, body)))
    return name
