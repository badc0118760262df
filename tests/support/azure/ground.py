"""What lies under a workspace, for the loopback Azure: groups, storage, vaults, logs, budgets, roles, deployments

No published specification of these is at hand, so each type says here which keys it takes and needs, and how a new
one behaves:
it is not ready at once, some things never change in place, names are taken, and a role is seen only after a while.
"""
import copy
import re
import uuid
from dataclasses import dataclass
from typing import Any

from tests.support.loopback import arm, logic, workspaces
from tests.support.loopback.arm import ML, SUBSCRIPTION, TENANT, Call, Refused, store
from tests.support.loopback.proxy import Answer

REGIONS = ["West Europe", "East US", "North Europe"]
NAMESPACES = (ML, "Microsoft.Storage", "Microsoft.KeyVault", "Microsoft.ContainerRegistry", "Microsoft.Insights",
              "Microsoft.OperationalInsights", "Microsoft.Consumption", "Microsoft.ManagedIdentity",
              "Microsoft.EventGrid", "Microsoft.Logic")


@dataclass(frozen=True)
class Kind:
    "What a type takes"
    needs: tuple = ()           # Keys of a new one, with points
    takes: tuple = ()           # Keys that may be there besides
    fixed: tuple = ()           # Keys that never change
    turns: int = 1              # Questions until a new one is ready


DELIVERY, DEAD = "properties.deliveryWithResourceIdentity", "properties.deadLetterWithResourceIdentity"
KINDS = {
    "microsoft.storage/storageaccounts": Kind(("location", "sku.name", "kind"),
                                              ("tags", "properties.allowBlobPublicAccess",
                                               "properties.allowSharedKeyAccess",
        "properties.minimumTlsVersion", "properties.supportsHttpsTrafficOnly"), ("location", "kind"), 2),
    "microsoft.storage/storageaccounts/blobservices/containers": Kind((), ("properties.publicAccess",)),
    "microsoft.keyvault/vaults": Kind(("location", "properties.tenantId", "properties.sku.family",
                                       "properties.sku.name"), ("tags", "properties.enableRbacAuthorization",
        "properties.softDeleteRetentionInDays", "properties.enablePurgeProtection"),
                                      ("location", "properties.tenantId", "properties.softDeleteRetentionInDays"), 2),
    "microsoft.keyvault/vaults/secrets": Kind(("properties.value",)),
    "microsoft.operationalinsights/workspaces": Kind(("location",),
                                                     ("tags", "properties.sku.name", "properties.retentionInDays",
                                                      "properties.workspaceCapping.dailyQuotaGb"), ("location",), 2),
    "microsoft.insights/components": Kind(("location", "kind", "properties.Application_Type"),
                                          ("tags", "properties.WorkspaceResourceId"), ("location",)),
    "microsoft.containerregistry/registries": Kind(("location", "sku.name"), ("tags", "properties.adminUserEnabled"),
                                                   ("location",), 2),
    "microsoft.managedidentity/userassignedidentities": Kind(("location",), ("tags",), ("location",)),
    "microsoft.consumption/budgets": Kind(("properties.category", "properties.amount", "properties.timeGrain",
                                           "properties.timePeriod.startDate"), ("eTag", "properties.notifications"),
        ("properties.timePeriod.startDate",)),
    "microsoft.storage/storageaccounts/queueservices/queues": Kind((), ("properties.metadata",)),
    "microsoft.eventgrid/systemtopics": Kind(("location", "properties.source", "properties.topicType"),
                                             ("tags", "identity.type"),
                                             ("location", "properties.source", "properties.topicType"), 2),
    "microsoft.eventgrid/systemtopics/eventsubscriptions": Kind(
        ("properties.filter.includedEventTypes",),
        (f"{DELIVERY}.identity.type", f"{DELIVERY}.destination.endpointType",
         f"{DELIVERY}.destination.properties.resourceId", f"{DELIVERY}.destination.properties.queueName",
         "properties.destination.endpointType", "properties.destination.properties.endpointUrl",
         "properties.destination.properties.maxEventsPerBatch",
         f"{DELIVERY}.destination.properties.queueMessageTimeToLiveInSeconds", f"{DEAD}.identity.type",
         f"{DEAD}.deadLetterDestination.endpointType", f"{DEAD}.deadLetterDestination.properties.resourceId",
         f"{DEAD}.deadLetterDestination.properties.blobContainerName", "properties.filter.advancedFilters",
         "properties.eventDeliverySchema", "properties.retryPolicy.maxDeliveryAttempts",
         "properties.retryPolicy.eventTimeToLiveInMinutes"), (), 2),
}


def flat(value, at: str = "") -> dict:
    "Keys with points, down to what is no mapping; tags and notifications stay whole"
    if not isinstance(value, dict) or at.rpartition(".")[2] in ("tags", "notifications"): return {at: value}
    return {key: one for name, inner in value.items() for key, one in flat(inner, f"{at}.{name}" if at
                                                                           else name).items()}


class Ground:
    "Puts itself between the loopback Azure and its hooks"
    def __init__(self, bench):
        self.bench, self.turns, self.roles = bench, {}, {}
        bench.own()     # Whoever makes a group and its first roles has rights at the subscription
        self.lists, self.delay, self.taken, self.vaults = 0, 0, set(), {}
        self.registered, self.permissions, self.limits, self.metrics, self.writes = (
            set(NAMESPACES),
            [{"actions": ["*"], "notActions": []}],
            {},
            {},
            [],
        )
        # Pattern of `METHOD path` that the caller may not do; unlike a fault it names no time to come back
        self.refused = ""
        self.answers = arm.answer
        bench_answer = bench.answer

        def answer(request):
            if request.kind == "arm" and request.method != "GET": self.writes.append((request.method, request.path))
            return bench_answer(request)
        bench.proxy.answer = answer
        arm.answer = self.answer

    def close(self): arm.answer, self.bench.proxy.answer = self.answers, self.bench.answer

    def answer(self, bench, request) -> Answer:
        "What is ours; the rest goes on to the bench"
        call = arm.read(request)
        if self.refused and re.search(self.refused, f"{request.method} {request.path}"):
            return Refused(403, "AuthorizationFailed", "The client does not have authorization.").answer
        mine = self.part(call)
        if mine is None: return self.identified(call, self.answers(bench, request))
        try:
            bench.tokens.check(request.headers.get("authorization", "").removeprefix("Bearer "))
            return mine(call)
        except Refused as refused: return refused.answer

    def identified(self, call: Call, said: Answer) -> Answer:
        """A cluster that asks for an identity has one, a datastore has no state, and an old interface knows no new
        properties"""
        made = self.bench.state.get(call.id) if call.request.method == "PUT" else None
        body: Any = said.body
        if made and call.kind == "workspaces/computes" and (made.get("identity")
                                                            or {}).get("type", "").lower() == "systemassigned":
            made["identity"] = {"type": "SystemAssigned", "tenantId": TENANT,
                                "principalId": str(uuid.uuid5(uuid.NAMESPACE_URL, call.id))}
        if made and call.kind == "workspaces/datastores": made["properties"].pop("provisioningState", None)
        for one in (made, body) if made and call.kind == "registries" else ():
            (one or {"properties": {}})["properties"].pop("managedResourceGroupTags", None)
        if (
            (call.request.method, call.kind) == ("GET", "workspaces")
            and said.status == 200
            and (not call.single or call.request.version == "2024-04-01")
        ):
            dated = lambda one: {**one, "properties": {key: value for key, value in one["properties"].items()
                                                       if key != "systemDatastoresAuthMode"}}
            said = Answer(200, dated(body) if call.single
                          else {"value": [dated(one) for one in body["value"]]})
        return said

    def part(self, call: Call):
        "Which of the methods below answers; none for what is Azure ML's"
        provider, beside = call.provider.lower(), ("checknameavailability", "locations/deletedvaults",
                                                   "locations/vmsizes", "locations/usages", "metrics")
        if not provider: return self.scopes
        if not call.segments or call.kind in beside: return self.providers
        return {"microsoft.authorization": self.authorization, "microsoft.resources": self.deployments,
                ML.lower(): None, "microsoft.logic": None}.get(provider, self.plain)

    # Groups and subscriptions

    def scopes(self, call: Call) -> Answer:
        "A subscription, its providers, a resource group, what is in it"
        path, method = call.scope, call.request.method
        if path.lower() == f"/subscriptions/{SUBSCRIPTION}":
            return Answer(200, {"id": path, "subscriptionId": SUBSCRIPTION, "tenantId": TENANT,
                                "displayName": "loopback", "state": "Enabled"})
        if path.lower().endswith("/providers"):
            return Answer(200, {"value": [self.provider(name) for name in NAMESPACES]})
        if path.lower().endswith("/resources"): return Answer(200, {"value": self.inside(path[:-len("/resources")])})
        if re.fullmatch(r".*/deployments/[^/]+/operations", path): return Answer(200, {"value": []})
        found = self.bench.state.get(path)
        if method == "GET": return Answer(200, self.bench.state.need(path))
        if method == "DELETE": return self.delete_group(path)
        if "location" not in call.body:
            raise Refused(400, "LocationRequired", "The location property is required for this definition.")
        if found and found["location"] != call.body["location"]:
            raise Refused(409, "InvalidResourceGroupLocation", "The resource group already exists in another location.")
        made = {"id": path, "name": path.rpartition("/")[2], "type": "Microsoft.Resources/resourceGroups", **call.body,
                "properties": {"provisioningState": "Succeeded"}}
        self.bench.state.resources[path.lower()] = made
        return Answer(200 if found else 201, made)

    def inside(self, group: str) -> list[dict]:
        "The top-level resources of a group"
        prefix = f"{group.lower()}/providers/"
        found = [one for id, one in self.bench.state.resources.items() if id.startswith(prefix)
                 and id[len(prefix):].count("/") == 2 and not id[len(prefix):].startswith(("microsoft.consumption/",
                                                                                           "microsoft.resources/"))]
        return [{key: one.get(key) for key in ("id", "name", "type", "location", "tags")} for one in found]

    def delete_group(self, path: str) -> Answer:
        "A group with everything in it; vaults keep their names"
        self.bench.state.need(path)
        for id in [id for id in self.bench.state.resources if id == path.lower() or id.startswith(f"{path.lower()}/")]:
            gone = self.bench.state.resources.pop(id)
            if gone.get("type", "").lower() == "microsoft.keyvault/vaults":
                self.vaults[gone["name"]] = {
                    "properties": {
                        "location": gone["location"],
                        "deletionDate": "2026-11-25T01:00:00Z",
                        "scheduledPurgeDate": "2026-12-02T01:00:00Z",
                        "purgeProtectionEnabled": gone["properties"].get("enablePurgeProtection", False),
                    }
                }
            if gone.get("type", "") == f"{ML}/workspaces": self.bench.state.deleted[id] = gone
        self.roles = {id: one for id, one in self.roles.items() if not id.startswith(path.lower())}
        return Answer(202, None, {"Retry-After": "1"})

    # Providers

    def provider(self, name: str) -> dict:
        kinds = {ML: ["workspaces", "registries"], "Microsoft.Storage": ["storageAccounts"],
                 "Microsoft.ContainerRegistry": ["registries"], "Microsoft.EventGrid": ["systemTopics"],
                 "Microsoft.Logic": ["workflows"]}.get(name, [])
        return {"namespace": name, "registrationState": "Registered" if name in self.registered else "NotRegistered",
                "resourceTypes": [{"resourceType": kind, "locations": REGIONS,
                                   "apiVersions": ["2024-04-01", "2023-07-01-preview"]} for kind in kinds]}

    def providers(self, call: Call) -> Answer:
        "What a provider answers beside its resources"
        if not call.segments:
            return Answer(200, self.provider(next(name for name in NAMESPACES
                                                  if name.lower() == call.provider.lower())))
        if call.kind == "checknameavailability":
            taken = call.body["name"] in self.taken or any(one["name"] == call.body["name"]
                                                           for one in self.bench.state.resources.values())
            return Answer(200, {"nameAvailable": not taken, **({"reason": "AlreadyExists",
                                                                "message": f"The name {call.body['name']} is already "
                                                                           "taken."} if taken else {})})
        if call.kind == "locations/deletedvaults":
            if call.name not in self.vaults:
                raise Refused(404, "DeletedVaultNotFound", "The specified deleted vault does not exist.")
            return Answer(200, {"name": call.name, **self.vaults[call.name]})
        if call.kind == "locations/vmsizes":
            return Answer(200, {"value": [{"name": "Standard_D4s_v5", "family": "standardDSv5Family", "vCPUs": 4,
                                           "lowPriorityCapable": True},
                                                                        {"name": "Standard_D8s_v5",
                                                                         "family": "standardDSv5Family", "vCPUs": 8,
                                                                         "lowPriorityCapable": True}]})
        if call.kind == "locations/usages":
            return Answer(200, {"value": [{"unit": "Count", "currentValue": 0, "limit": self.limits.get(name, 100),
                                           "name": {"value": name, "localizedValue": name}}
                                                                       for name in ("standardDSv5Family",
                                                                                    "TotalLowPriorityCores")]})
        points = self.metrics.get(call.scope.rpartition("/")[2].lower())
        return Answer(200, {"timespan": call.query["timespan"],
                            "value": [{"id": call.id, "type": "Microsoft.Insights/metrics",
                                       "name": {"value": "RequestsPerMinute"}, "unit": "Count",
                                        "timeseries": [{"data": [{"timeStamp": "2026-11-24T00:00:00Z", "average": one}
                                                                 for one in points]}] if points else []}]})

    # Roles

    def authorization(self, call: Call) -> Answer:
        "Role assignments, seen only when they were asked for `delay` times; and what the caller may do"
        method, id = call.request.method, call.id.lower()
        if call.kind == "permissions": return Answer(200, {"value": self.permissions})
        if method == "PUT":
            asked = call.body["properties"]
            if asked.keys() - {"roleDefinitionId", "principalId", "principalType"}:
                raise Refused(400, "InvalidRequest", "unknown property")
            if call.scope.lower() != f"/subscriptions/{SUBSCRIPTION}": self.bench.state.need(call.scope)
            same = next((key for key, one in self.roles.items()
                         if key.rpartition("/providers/")[0] == call.scope.lower()
                         and (one["properties"]["principalId"], one["properties"]["roleDefinitionId"]) ==
                         (asked["principalId"], asked["roleDefinitionId"])), None)
            if same and same != id: raise Refused(409, "RoleAssignmentExists", "The role assignment already exists.")
            uuid.UUID(call.name)
            self.lists = 0
            self.roles[id] = {"id": call.id, "name": call.name, "type": "Microsoft.Authorization/roleAssignments",
                              "properties": {**asked, "scope": call.scope}}
            return Answer(201, self.roles[id])
        if method == "DELETE":
            gone = self.roles.pop(id, None)
            return Answer(200, gone) if gone else Answer(204)
        if call.scope.lower() != f"/subscriptions/{SUBSCRIPTION}": self.bench.state.need(call.scope)
        if call.single:
            if id in self.roles: return Answer(200, self.roles[id])
            raise Refused(404, "RoleAssignmentNotFound", f"The role assignment {call.name} is not found.")
        self.lists += 1
        seen = [one for one in self.roles.values() if call.scope.lower().startswith(one["properties"]["scope"].lower())]
        return Answer(200, {"value": seen if self.lists > self.delay else []})

    # Deployments: what azure-ai-ml sends to make a workspace

    def deployments(self, call: Call) -> Answer:
        "A template deployment with one workspace in it"
        if call.request.method == "GET": return Answer(200, self.bench.state.need(call.id))
        template, given = (
            call.body["properties"]["template"],
            {name: one["value"] for name, one in call.body["properties"]["parameters"].items() if "value" in one},
        )
        lacking = [name for name, one in template["parameters"].items() if name not in given
                   and "defaultValue" not in one]
        strange = given.keys() - template["parameters"].keys()
        if lacking or strange:
            raise Refused(400, "InvalidTemplate", f"parameters: lacking {lacking}, unknown {sorted(strange)}")
        group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{given['resourceGroupName']}"
        self.bench.state.need(group)
        under = {"storageAccount": ("Microsoft.Storage/storageAccounts", given["storageAccountName"]),
                 "keyVault": ("Microsoft.KeyVault/vaults", given["keyVaultName"]),
                 "applicationInsights": ("microsoft.insights/components", given["applicationInsightsName"]),
                 "containerRegistry": ("Microsoft.ContainerRegistry/registries", given["containerRegistryName"])}
        ids = {key: f"{group}/providers/{kind}/{name}" for key, (kind, name) in under.items()}
        for id in ids.values(): self.bench.state.need(id)
        target = Call(call.request, group, ML, ["workspaces", given["workspaceName"]])
        if target.id.lower() in self.bench.state.deleted and given.get("allow_recover_softdeleted_workspace") != "true":
            raise Refused(409, "Conflict",
                          "Soft-deleted workspace exists. Please purge or recover it. https://aka.ms/wsoftdelete")
        made = workspaces.create(self.bench, target, {"location": given["location"], "tags": given["tagValues"],
                                                      "properties": {"friendlyName": given["friendlyName"],
                                                                     "description": given["description"]}})
        wanted = given.get("identity") or {}
        for id in wanted.get("userAssignedIdentities") or {}: self.bench.state.need(id)
        made["identity"] |= wanted
        made["properties"] |= ids | {"publicNetworkAccess": given["publicNetworkAccess"],
                                     "systemDatastoresAuthMode": given["systemDatastoresAuthMode"]}
        done = {"id": call.id, "name": call.name, "type": "Microsoft.Resources/deployments",
                "properties": {"provisioningState": "Succeeded", "duration": "PT1S", "mode": "Incremental"}}
        self.bench.state.resources[call.id.lower()] = done
        return Answer(201, done)

    # Everything else

    def plain(self, call: Call) -> Answer:
        "A resource that is only kept"
        method, kind = call.request.method, KINDS.get(f"{call.provider}/{call.kind}".lower())
        if kind is None:
            raise Refused(404, "InvalidResourceType", f"the stand-in does not know {call.provider}/{call.kind}")
        if method == "PUT": return self.put(call, kind)
        if method == "DELETE": return arm.default_delete(self.bench, call)
        if not call.single: return Answer(200, {"value": self.bench.state.below(call.id)})
        found, left = copy.deepcopy(self.bench.state.need(call.id)), self.turns.get(call.id.lower(), 0)
        if left: self.turns[call.id.lower()] = left - 1
        if left: found["properties"]["provisioningState"] = "Creating"
        return Answer(200, found)

    def delivers(self, call: Call):
        "A subscription needs an identity of its topic, and a queue that is there, or an address that answers"
        said = call.body["properties"]
        if not self.bench.state.need(call.parent).get("identity"):
            raise Refused(400, "InvalidRequest", "The identity SystemAssigned is not enabled on the topic.")
        to = said.get("deliveryWithResourceIdentity", {}).get("destination", {}).get("properties")
        if to: self.bench.state.need(f"{to['resourceId']}/queueServices/default/queues/{to['queueName']}")
        source = self.bench.state.need(call.parent)["properties"]["source"]
        self.bench.state.need(source)

    def put(self, call: Call, kind: Kind) -> Answer:
        "Keys that are missing, unknown or never change are refused"
        given, before = flat(call.body), self.bench.state.get(call.id)
        self.bench.state.need(call.scope)
        if len(call.segments) > 2: self.bench.state.need("/".join(call.id.split("/")[:9]))
        if self.turns.get(call.id.lower()) and before:
            raise Refused(409, f"{call.name}OperationInProgress", "Another operation is in progress.")
        if lacking := [key for key in kind.needs if given.get(key) in (None, "")]:
            raise Refused(400, "InvalidRequestContent", f"missing: {', '.join(lacking)}")
        if strange := given.keys() - {*kind.needs, *kind.takes}:
            raise Refused(400, "InvalidRequestContent", f"Could not find member {', '.join(sorted(strange))}")
        if call.name in self.vaults:
            raise Refused(409, "ConflictError",
                          f"A vault with the same name {call.name} already exists in deleted state.")
        if call.name in self.taken:
            raise Refused(409, "StorageAccountAlreadyTaken", f"The storage account named {call.name} is already taken.")
        old = flat({key: value for key, value in (before or {}).items()})
        if moved := [key for key in kind.fixed if before and key in given and old.get(key) != given[key]]:
            raise Refused(409, "PropertyChangeNotAllowed", f"Changing property {', '.join(moved)} is not allowed.")
        if call.kind == "budgets" and len(call.body["properties"].get("notifications", {})) > 5:
            raise Refused(400, "BadRequest", "at most 5 notifications")
        if call.kind == "systemtopics/eventsubscriptions": self.delivers(call)
        body = logic.subscribe(self.bench, call.id, call.body) if "destination" in (
            call.body.get("properties") or {}) else call.body
        made = store(self.bench, call, body, provisioningState="Succeeded")
        if call.kind == "userassignedidentities":
            made["properties"] = {kind: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{call.id}/{kind}"))
                                  for kind in ("principalId", "clientId")} | {"tenantId": TENANT}
        if (made.get("identity") or {}).get("type") == "SystemAssigned":
            principal = str(uuid.uuid5(uuid.NAMESPACE_URL, call.id))
            made["identity"] = {"type": "SystemAssigned", "tenantId": TENANT, "principalId": principal}
        if call.kind == "budgets": made["eTag"] = f'"{uuid.uuid4().hex}"'
        if before is None: self.turns[call.id.lower()] = kind.turns
        return Answer(200 if before else 201, made)
