"""Data, code, models, environments and components: containers, versions that never change, and uploads that wait for
them"""
import re

from .arm import Call, Refused, listed, on, operation, store
from .proxy import Answer

KINDS = {"codes": "codes", "data": "data", "models": "models", "environments": "environments",
         "components": "components"}
UNCHANGING = {"codes": ("codeUri",), "data": ("dataUri", "dataType"), "models": ("modelUri", "modelType"),
              "environments": ("image", "condaFile", "build"), "components": ("componentSpec",)}


def container_of(call: Call) -> Call: return Call(call.request, call.scope, call.provider, call.segments[:4])


def numbers(bench, container: str) -> list[int]:
    return [int(one["name"]) for one in bench.state.below(f"{container}/versions") if one["name"].isdigit()]


def touch(bench, call: Call, data_type: str | None = None):
    "The container of a version, made if need be"
    holder = container_of(call)
    found = bench.state.get(holder.id)
    if not found:
        kind = {"dataType": data_type
                or call.body["properties"].get("dataType", "uri_folder")} if call.segments[2] == "data" else {}
        found = store(bench, holder, {"properties": {**kind, "isArchived": False, "tags": {}, "properties": {}}},
                      **({} if kind else {"provisioningState": "Succeeded"}))
    newest = max(numbers(bench, holder.id), default=0)
    found["properties"] |= {"latestVersion": call.name,
                            "nextVersion": str(max(newest, int(call.name) if call.name.isdigit() else 0) + 1)}


def put_version(bench, call: Call) -> Answer:
    "Make a version, or say again that it is there; its content never changes"
    kind, body = call.segments[2], call.body
    before, sent = bench.state.get(call.id), body.get("properties") or {}
    if kind == "environments": check_base(bench, sent)
    if before:
        for name in UNCHANGING[kind]:
            old = (bench.state.requests[call.id.lower()].get("properties") or {}).get(name)
            if old != sent.get(name):
                raise Refused(409, "UserError",
                              f"{name} of {call.segments[3]}:{call.name} cannot change: register a new version")
    else: touch(bench, call)
    extra = {"environments": {"environmentType": "UserCreated"},
             "data": {"dataType": sent.get("dataType", "uri_folder")},
             "models": {"flavors": sent.get("flavors") or {},
                        "modelType": sent.get("modelType", "custom_model")}}.get(kind, {})
    if kind == "data" and "/registries/" not in call.id: extra["dataUri"] = long_uri(call, sent.get("dataUri", ""))
    made = store(bench, call, body, isArchived=bool(sent.get("isArchived")), isAnonymous=bool(sent.get("isAnonymous")),
                 tags=sent.get("tags") or {}, properties=sent.get("properties") or {},
                 provisioningState="Succeeded", **extra)
    if kind == "data": made["properties"].pop("provisioningState", None)
    if "/registries/" in call.id:
        shared(made, call)
        return Answer(202, None, operation(bench, call, 0.0, made))
    return Answer(200 if before else 201, made)


def shared(made: dict, call: Call):
    "An asset of a registry has an address of its own kind"
    made["id"] = f"azureml://registries/{call.segments[1]}/{'/'.join(call.segments[2:])}"


def long_uri(call: Call, uri: str) -> str:
    "Azure answers datastore paths in their long form"
    if not uri.startswith("azureml://datastores/"): return uri
    _, subscription, _, group = call.scope.strip("/").split("/")[:4]
    return (f"azureml://subscriptions/{subscription}/resourcegroups/{group}/workspaces/{call.segments[1]}/"
            f"{uri.removeprefix('azureml://')}")


def pending_upload(bench, call: Call) -> Answer:
    "A container of its own for an asset that is about to be uploaded"
    asset = call.action_on
    name = bench.state.uploads.setdefault(asset.lower(), "") or bench.storage.container()
    bench.state.uploads[asset.lower()] = name
    uri = bench.storage.url(name)
    reference = {"blobUri": uri,
                 "storageAccountArmId": f"{call.scope}/providers/Microsoft.Storage/storageAccounts/loopbackstorage",
                 "credential": {"credentialType": "SAS", "sasUri": f"{uri}?{bench.storage.sas(name)}"}}
    return Answer(200, {"pendingUploadId": asset.rsplit("/", 3)[-1], "pendingUploadType": "TemporaryBlobReference",
                        "blobReferenceForConsumption": reference})


def get_version(bench, call: Call) -> Answer:
    if call.single: return Answer(200, bench.state.need(call.id))
    return Answer(200, {"value": listed(bench, call)})


for _place in ("workspaces", "registries"):
    for _kind in KINDS:
        on("PUT", f"{_place}/{_kind}/versions")(put_version)
        on("GET", f"{_place}/{_kind}/versions")(get_version)
        on("POST", f"{_place}/{_kind}/versions/startPendingUpload")(pending_upload)


def check_base(bench, said: dict):
    "The registry that builds an image pulls its base without a login, and Docker Hub's limit is used up"
    build = said.get("build") or {}
    uri, file = build.get("contextUri"), build.get("dockerfilePath", "Dockerfile")
    if not uri: return
    container, _, prefix = uri.partition(".blob.core.windows.net/")[2].partition("?")[0].partition("/")
    text = bench.storage.read(container, f"{prefix.rstrip('/')}/{file}").decode()
    base = re.search(r"(?m)^(?:ARG BASE=|FROM )(\S+)", text)
    host = base[1].partition("/")[0] if base and "/" in base[1] else ""
    if "." not in host or host == "docker.io":
        raise Refused(400, "ImageBuildFailure", "toomanyrequests: the unauthenticated pull rate limit is reached")
