"Registries: assets that workspaces share, and the way of a model from one workspace to another"
import re
import uuid

from .arm import SUBSCRIPTION, TENANT, Call, Refused, default_delete, on, operation, read, store
from .assets import shared, touch
from .proxy import REGION, Answer, Request
from .rebuild import Rebuild, bad

SOURCE = re.compile(r"azureml://locations/\w+/workspaces/(?P<guid>[0-9a-f-]{36})/(?P<kind>\w+)/(?P<name>[^/]+)/"
                    r"versions/(?P<version>[^/]+)")


@on("PUT", "registries")
def put_registry(bench, call: Call) -> Answer:
    "A registry"
    base = f"https://{REGION}.api.azureml.ms"
    made = store(bench, call, {"location": REGION, **call.body},
                 discoveryUrl=f"{base}/registrymanagement/v1.0/registries/{call.name}/discovery",
                 mlFlowRegistryUri=f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0/registries/{call.name}",
                 regionDetails=(call.body.get("properties") or {}).get("regionDetails") or [{"location": REGION}],
                 publicNetworkAccess="Enabled")
    made["identity"] = {"type": "SystemAssigned", "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, call.id)),
                        "tenantId": TENANT}
    return Answer(200, made, {"Azure-AsyncOperation": operation(bench, call, 0.0, made)["Azure-AsyncOperation"],
                              "Retry-After": "1"})


@on("DELETE", "registries")
def delete_registry(bench, call: Call) -> Answer:
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


def discovery(bench, name: str) -> Answer:
    "Where a registry is"
    found = next((one for one in bench.state.all("registries") if one["name"] == name), None)
    if not found: return Answer(404, {"error": {"code": "UserError", "message": f"registry {name} was not found"}})
    return Answer(200, {"registryName": name, "tenantId": TENANT, "primaryRegion": REGION,
                        "primaryRegionResourceProviderUri": f"https://{REGION}.api.azureml.ms/",
                        "resourceGroup": found["id"].split("/")[4], "subscriptionId": SUBSCRIPTION})


@on("POST", "registries/import")
def bring(bench, call: Call) -> Answer:
    "Copy an asset of a workspace, with its files, into the registry"
    asked = call.body["properties"]
    source = SOURCE.fullmatch(asked["sourceAssetId"])
    workspace = next((one for one in bench.state.all("workspaces")
                      if source and one["properties"]["workspaceId"] == source["guid"]), None)
    if not source or not workspace: raise bad(f"{asked['sourceAssetId']} is in no workspace that the registry can read")
    found = bench.state.need(f"{workspace['id']}/{source['kind']}/{source['name']}/versions/{source['version']}")
    target = read(Request("PUT", call.request.host,
                          f"{call.action_on}/{source['kind']}/{asked['destinationName']}/versions/"
                          f"{asked['destinationVersion']}", {}))
    if bench.state.get(target.id):
        raise Refused(409, "UserError",
                      f"{asked['destinationName']}:{asked['destinationVersion']} exists in the registry")
    files = Rebuild(bench, workspace["id"], bench.folder, bench.folder / "shared")
    said = dict(found["properties"])
    address = files.address(said.get("modelUri") or said["dataUri"])
    here, container = files.fetched(address), bench.storage.container()
    bench.storage.store(here, container, here.name)
    said["modelUri" if "modelUri" in said else "dataUri"] = bench.storage.url(container, here.name)
    touch(bench, target, said.get("dataType"))
    shared(store(bench, target, {"properties": said}, provisioningState="Succeeded"), target)
    bench.state.uploads[target.id.lower()] = container
    return Answer(202, None, operation(bench, call))


@on("POST", "registries/datarefs/versions")
def reference(bench, call: Call) -> Answer:
    "An address and a signature for the files of an asset"
    asked = re.fullmatch(r"azureml://registries/([^/]+)/(\w+)/([^/]+)/versions/([^/]+)", call.body["assetId"])
    found = (bench.state.need(f"{call.workspace}/{asked[2]}/{asked[3]}/versions/{asked[4]}")["properties"] if asked
             else {})
    uri = found.get("modelUri") or found.get("dataUri") or found.get("codeUri")
    if not uri: raise bad(f"{call.body['assetId']} has no files")
    container = uri.split("/")[3]
    return Answer(
        200,
        {
            "blobReferenceForConsumption": {
                "blobUri": uri,
                "storageAccountArmId": "",
                "credential": {
                    "credentialType": "SAS",
                    "sasUri": f"{bench.storage.url(container)}?{bench.storage.sas(container)}",
                },
            }
        },
    )


@on("PUT", "registries/tempdatarefs/versions")
def upload(bench, call: Call) -> Answer:
    "A container of its own for an asset that goes straight into the registry"
    asset = call.body["assetId"]
    if bench.state.get(f"{call.workspace}/{asset.split('/', 4)[4]}"):
        raise Refused(409, "UserError", f"{asset} exists already")
    container = bench.state.uploads.setdefault(asset.lower(), "") or bench.storage.container()
    bench.state.uploads[asset.lower()] = container
    uri = bench.storage.url(container)
    return Answer(
        200,
        {
            "blobReferenceForConsumption": {
                "blobUri": uri,
                "storageAccountArmId": "",
                "credential": {"credentialType": "SAS", "sasUri": f"{uri}?{bench.storage.sas(container)}"},
            }
        },
    )
