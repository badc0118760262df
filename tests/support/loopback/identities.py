"""Identities instead of account keys: storage that takes no keys, datastores without credentials, and identities that
may do what their roles say. `Bench.without_keys` turns this on; every refusal is counted by its kind.

Sources: learn.microsoft.com/azure/machine-learning, how-to-disable-local-auth-storage (what each feature needs),
how-to-use-serverless-compute (no system-assigned identity), how-to-identity-based-service-authentication
(system-assigned and user-assigned identities of a workspace side by side)."""
import re
import uuid
from collections import Counter

from .arm import SUBSCRIPTION, Refused
from .proxy import REGION, Answer, Request

BLOBS, PULL = "Storage Blob Data Contributor", "AcrPull"
PARALLEL = ("Storage Table Data Contributor", "Storage Queue Data Contributor")


def identity_id(group: str, name: str) -> str:
    return (f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity"
            f"/userAssignedIdentities/{name}")


def uuid_of(text: str) -> str: return str(uuid.uuid5(uuid.NAMESPACE_URL, text.lower()))


def client_id(id: str) -> str:
    "The client id of an identity"
    return uuid_of(f"{id}/client")


class Identities:
    "Who may do what in the workspaces of a bench that takes no keys"
    def __init__(self, bench, roles: set[str]):
        self.bench, self.roles = bench, roles   # What roles.yml gives to the identity, wherever
        self.clients: dict[str, str] = {}       # Ids by client id
        self.refusals: Counter = Counter()
        self.used: Counter = Counter()          # What ran with an identity, by kind
        for one in bench.state.all("workspaces"):
            group, name = one["id"].split("/")[4], f"id-{one['name']}"
            id = identity_id(group, name)
            bench.state.resources[id.lower()] = {
                "id": id, "name": name, "type": "Microsoft.ManagedIdentity/userAssignedIdentities", "location": REGION,
                "properties": {"principalId": uuid_of(f"{id}/principal"), "clientId": client_id(id)}}
            self.clients[client_id(id)] = id
            one["identity"] = {**one["identity"], "type": "SystemAssigned,UserAssigned",
                               "userAssignedIdentities": {id: {}}}
            one["properties"] |= {"systemDatastoresAuthMode": "identity"}
            for store in bench.state.below(f"{one['id']}/datastores"):
                store["properties"]["credentials"] = {"credentialsType": "None"}

    def refuse(self, kind: str, code: str, text: str, status: int = 403):
        "Count a refusal, and make it"
        self.refusals[kind] += 1
        raise Refused(status, code, text)

    def check(self, kind: str, workspace: dict, id: str | None, *roles: str):
        "Refuse what has no identity of the workspace, or one without these roles"
        attached = {one.lower() for one in (workspace.get("identity") or {}).get("userAssignedIdentities") or {}}
        if not id:
            self.refuse(kind, "UserError", f"{kind}: no identity reaches the storage account, which takes no keys; "
                        "serverless compute supports no system-assigned identity", 400)
        if str(id).lower() not in attached:
            self.refuse(kind, "UserError", f"{kind}: {id} is not attached to {workspace['name']}", 400)
        if lacking := [role for role in roles if role not in self.roles]:
            self.refuse(kind, "AuthorizationPermissionMismatch", f"{kind}: {id} lacks {', '.join(lacking)}")
        self.used[kind] += 1

    def check_job(self, workspace: dict, properties: dict):
        "Each step of a job, or the job itself, has an identity; a person's is refused to a service principal"
        for name, node in ((properties.get("jobs") or {"job": properties}) or {}).items():
            kind = str(node.get("type") or properties.get("jobType")).lower()
            if kind not in ("command", "sweep", "parallel", "spark"): continue
            identity = node.get("identity") or properties.get("identity") or {}
            if "user" in str(identity.get("type") or identity.get("identityType")).lower():
                self.refuse("user identity of a service principal", "UserError",
                            f"{name}: user_identity needs a person, and a service principal submits", 400)
            client = identity.get("clientId") or identity.get("client_id")
            id = self.clients.get(str(client), client)
            self.check(f"{kind} job", workspace, id, BLOBS, PULL, *(PARALLEL if kind == "parallel" else ()))

    def check_endpoint(self, workspace: dict, endpoint: dict):
        "An endpoint pulls its image, reads its model and writes what it collects with its identity"
        ids = (endpoint.get("identity") or {}).get("userAssignedIdentities") or {}
        self.check("online endpoint", workspace, next(iter(ids), None), BLOBS, PULL)

    def check_batch(self, workspace: dict, compute: str | None):
        "Scoring in batches reads and writes with the identity of its cluster"
        cluster = self.bench.state.get(f"{workspace['id']}/computes/{str(compute).rpartition('/')[2]}") or {}
        ids = (cluster.get("identity") or {}).get("userAssignedIdentities") or {}
        self.check("batch endpoint", workspace, next(iter(ids), None), BLOBS, PULL, *PARALLEL)

    def check_monitor(self, workspace: dict):
        "A monitor takes the user-assigned identity of its workspace; its file names none"
        ids = (workspace.get("identity") or {}).get("userAssignedIdentities") or {}
        if workspace["properties"].get("systemDatastoresAuthMode") != "identity":
            self.refuse("monitor", "UserError", "the workspace's systemDatastoresAuthMode is not identity", 400)
        self.check("monitor", workspace, next(iter(ids), None), BLOBS)

    def blob(self, request: Request) -> Answer | None:
        "Refuse a request that is signed with the account key; one of an identity is signed for Azurite"
        authorization = request.headers.get("authorization", "")
        if authorization.lower().startswith("sharedkey"):
            self.refusals["storage by account key"] += 1
            text = "Key based authentication is not permitted on this storage account."
            return Answer(403, {"error": {"code": "KeyBasedAuthenticationNotPermitted", "message": text}},
                          {"x-ms-error-code": "KeyBasedAuthenticationNotPermitted"})
        if not authorization: return None
        claims = self.bench.tokens.check(authorization.removeprefix("Bearer "))
        if "storage.azure.com" not in claims["aud"]:
            return Answer(401, {"error": {"code": "InvalidAuthenticationInfo", "message": "Audience is wrong."}},
                          {"x-ms-error-code": "InvalidAuthenticationInfo"})
        container = re.match(r"/([^/?]+)", request.path)
        assert container, request.path
        self.used["storage by identity"] += 1
        del request.headers["authorization"]
        request.target += ("&" if "?" in request.target else "?") + self.bench.storage.sas(container[1])
        return None
