"Workspaces and registries, with their storage, datastores and computes"
import time
import uuid

from .arm import ML, SUBSCRIPTION, TENANT, Call, Refused, canonical, default_delete, listed, on, operation, store
from .proxy import REGION, Answer
from .storage import ACCOUNT, KEY


def make_workspace(bench, group: str, name: str, properties: dict | None = None) -> dict:
    "A workspace as if somebody had created it, with its container and default datastores"
    from .arm import read
    from .proxy import Request
    for kind, id in (("resourceGroups", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}"),):
        bench.state.resources.setdefault(id.lower(), {"id": id, "name": group, "type": f"Microsoft.Resources/{kind}",
                                                      "location": REGION,
                                                      "properties": {"provisioningState": "Succeeded"}})
    target = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{ML}/workspaces/{name}"
    return create(bench, read(Request("PUT", "management.azure.com", target, {})),
                  {"location": REGION, "properties": properties or {}})


def create(bench, call: Call, body: dict) -> dict:
    "Store a workspace and what comes with it"
    before = bench.state.get(call.id)
    guid = before["properties"]["workspaceId"] if before else str(uuid.uuid4())
    group = f"{call.scope}/providers"
    made = store(bench, call, {"location": REGION, **body}, workspaceId=guid, provisioningState="Succeeded",
                 tenantId=TENANT, friendlyName=body.get("properties", {}).get("friendlyName", call.name),
                 storageAccount=f"{group}/Microsoft.Storage/storageAccounts/{ACCOUNT}",
                 keyVault=f"{group}/Microsoft.KeyVault/vaults/loopback",
                 applicationInsights=f"{group}/Microsoft.Insights/components/loopback",
                 containerRegistry=f"{group}/Microsoft.ContainerRegistry/registries/loopback",
                 discoveryUrl=f"https://{REGION}.api.azureml.ms/discovery",
                 mlFlowTrackingUri=f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0{call.id}",
                 publicNetworkAccess="Enabled", hbiWorkspace=False, notebookInfo=None)
    made["properties"] = {name: value for name, value in made["properties"].items() if value is not None}
    made["identity"] = {"type": "SystemAssigned", "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, call.id)),
                        "tenantId": TENANT}
    made |= {"sku": {"name": "Basic", "tier": "Basic"}, "kind": "Default"}
    if not before:
        for store_name, container in (("workspaceblobstore", f"azureml-blobstore-{guid}"),
                                      ("workspaceartifactstore", f"azureml-{guid}")):
            bench.storage.container(container)
            make_datastore(bench, call, store_name, container)
    return made


def make_datastore(bench, workspace: Call, name: str, container: str):
    "A blob datastore of the workspace's own account"
    call = Call(workspace.request, workspace.scope, ML, [*workspace.segments[:2], "datastores", name])
    store(bench, call, {"properties": {"datastoreType": "AzureBlob", "accountName": ACCOUNT, "containerName": container,
                                       "endpoint": "core.windows.net", "protocol": "https",
                                       "credentials": {"credentialsType": "AccountKey",
                                                       "secrets": {"secretsType": "AccountKey"}},
                                       "isDefault": name == "workspaceblobstore",
                                       "serviceDataAccessAuthIdentity": "None",
                                       "resourceGroup": call.scope.rsplit("/", 1)[-1], "subscriptionId": SUBSCRIPTION,
                                       "tags": {}, "properties": {}}})


@on("GET", "workspaces")
def get_workspace(bench, call: Call) -> Answer:
    "One, or a list; that of a subscription has those that were deleted softly as well (azure-powershell 28286)"
    if call.single: return Answer(200, bench.state.need(call.id))
    found = [one for one in bench.state.all("workspaces") if one["id"].lower().startswith(f"{call.scope.lower()}/")]
    gone = [{**one, "properties": {**one["properties"], "provisioningState": "SoftDeleted"}}
            for one in bench.state.deleted.values()] if "/resourcegroups/" not in call.scope.lower() else []
    return Answer(200, {"value": found + gone})


@on("PUT", "workspaces")
def put_workspace(bench, call: Call) -> Answer:
    if call.id.lower() in bench.state.deleted:
        raise Refused(409, "Conflict",
                      "Soft-deleted workspace exists. Please purge or recover it. https://aka.ms/wsoftdelete "
                      f"(workspace {call.name})")
    bench.state.need(call.scope)
    made = create(bench, call, call.body)
    return Answer(202, None, operation(bench, call, 0.5, made))


@on("PATCH", "workspaces")
def patch_workspace(bench, call: Call) -> Answer:
    found = bench.state.need(call.id)
    found["properties"].update(call.body.get("properties") or {})
    found.update({name: value for name, value in canonical(call.body).items() if name != "properties"})
    return Answer(200, found)


@on("DELETE", "workspaces")
def delete_workspace(bench, call: Call) -> Answer:
    found = bench.state.get(call.id)
    purge = call.query.get("forceToPurge", "").lower() == "true"
    if purge: bench.state.deleted.pop(call.id.lower(), None)
    if not found: return Answer(204)
    if not purge: bench.state.deleted[call.id.lower()] = found
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call, 0.0))


@on("POST", "workspaces/listKeys")
def workspace_keys(bench, call: Call) -> Answer:
    found = bench.state.need(call.action_on)
    if bench.identities:
        bench.identities.refuse("listKeys", "AuthorizationFailed", "key based authentication is not permitted")
    return Answer(200, {"userStorageKey": KEY, "userStorageResourceId": found["properties"]["storageAccount"]})


@on("POST", "workspaces/datastores/listSecrets")
def secrets(bench, call: Call) -> Answer:
    found = bench.state.need(call.action_on)["properties"]
    if bench.identities:
        bench.identities.refuse("listSecrets", "AuthorizationFailed", "the datastore is identity-based: no credentials")
    if call.body.get("expirableSecret"):
        return Answer(200, {"secretsType": "Sas", "sasToken": bench.storage.sas(found["containerName"])})
    return Answer(200, {"secretsType": "AccountKey", "key": KEY})


@on("GET", "workspaces/datastores")
def datastores(bench, call: Call) -> Answer:
    if call.single: return Answer(200, bench.state.need(call.id))
    found = listed(bench, call)
    return Answer(200, {"value": [one for one in found if one["properties"]["isDefault"]]
                        if call.query.get("isDefault") == "true" else found})


@on("PUT", "workspaces/computes")
def put_compute(bench, call: Call) -> Answer:
    body = {"location": REGION, **call.body}
    made = store(bench, call, body, provisioningState="Succeeded",
                 createdOn=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    return Answer(201, made, {"Azure-AsyncOperation": operation(bench, call, 0.0, made)["Azure-AsyncOperation"]})


@on("DELETE", "workspaces/computes")
def delete_compute(bench, call: Call) -> Answer:
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


@on("GET", "")
def get_scope(bench, call: Call) -> Answer:
    "A subscription or a resource group"
    if call.scope.lower() == f"/subscriptions/{SUBSCRIPTION}".lower():
        return Answer(200, {"id": call.scope, "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
                            "displayName": "loopback", "state": "Enabled"})
    return Answer(200, bench.state.need(call.scope))
