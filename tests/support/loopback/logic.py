"""Logic Apps (Consumption): a workflow that is called is carried out as its definition says, with the rights of its
identity, against a key vault and GitHub that look at who asks. Sources: learn.microsoft.com/azure/logic-apps,
logic-apps-workflow-definition-language, logic-apps-workflow-actions-triggers (Http, If, Request, Response);
learn.microsoft.com/azure/event-grid, end-point-validation-event-grid-events-schema."""
import re
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .arm import TENANT, Call, Refused, on, store
from .proxy import Answer
from .queues import may

SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
CALL = re.compile(r"(?P<function>triggerBody\(\)|body\('(?P<action>\w+)'\))(?P<path>(?:\??\[(?:\d+|'\w+')\])*)")


@dataclass
class Logic:
    "What workflows meet"
    signatures: dict[str, str] = field(default_factory=dict)        # Of each workflow's address, by its base
    hooks: dict[str, str] = field(default_factory=dict)             # Address that a subscription calls, by its id
    secrets: dict[tuple[str, str], str] = field(default_factory=dict)   # Value by vault and name
    token: str = ""                                                 # That GitHub takes
    dispatched: list[tuple[str, Any]] = field(default_factory=list) # Address and body of each call that was taken
    runs: list[dict[str, str]] = field(default_factory=list)        # Status of each action, by name


@on("PUT", "workflows")
def put_workflow(bench, call: Call) -> Answer:
    "A definition with a trigger, whose actions run after actions that are there"
    said, before = call.body.get("properties") or {}, bench.state.get(call.id)
    definition = said.get("definition") or {}
    if not call.body.get("location"): raise Refused(400, "LocationRequired", "The location property is required.")
    if before and before["location"] != call.body["location"]:
        raise Refused(409, "InvalidResourceLocation", "The location of a workflow never changes.")
    if not definition.get("$schema") or not definition.get("triggers"):
        raise Refused(400, "InvalidTemplate", "The definition has no $schema or no triggers.")
    check_order(definition["actions"])
    made = store(bench, call, call.body, provisioningState="Succeeded", version=uuid.uuid4().hex)
    base = (before or {"properties": {}})["properties"].get("accessEndpoint") or (
        f"https://prod-07.westeurope.logic.azure.com:443/workflows/{uuid.uuid4().hex}")
    made["properties"]["accessEndpoint"] = base
    bench.logic.signatures.setdefault(base, uuid.uuid4().hex)
    if (made.get("identity") or {}).get("type") == "SystemAssigned":
        principal = str(uuid.uuid5(uuid.NAMESPACE_URL, base))    # One that is made again is somebody else
        made["identity"] = {"type": "SystemAssigned", "tenantId": TENANT, "principalId": principal}
    return Answer(200 if before else 201, made)


def check_order(actions: dict):
    "Refuse an action that runs after one that is not there"
    for name, action in actions.items():
        if strange := action.get("runAfter", {}).keys() - actions.keys():
            raise Refused(400, "InvalidTemplate", f"{name} runs after {', '.join(sorted(strange))}")
        check_order(action.get("actions") or {})
        check_order((action.get("else") or {}).get("actions") or {})


@on("POST", "workflows/triggers/listCallbackUrl")
def callback(bench, call: Call) -> Answer:
    "The address with its signature"
    workflow = bench.state.need(call.id.rsplit("/triggers/", 1)[0])
    base, trigger = workflow["properties"]["accessEndpoint"], call.segments[3]
    if trigger not in workflow["properties"]["definition"]["triggers"]:
        raise Refused(404, "TriggerNotFound", f"There is no trigger {trigger}.")
    path = f"{base}/triggers/{trigger}/paths/invoke"
    return Answer(200, {"method": "POST", "basePath": path, "value": f"{path}?api-version=2016-10-01&"
                        f"sp=%2Ftriggers%2F{trigger}%2Frun&sv=1.0&sig={bench.logic.signatures[base]}"})


def subscribe(bench, id: str, body: dict) -> dict:
    "Validate the address of a subscription; gives the subscription as Event Grid shows it, without the signature"
    to = body["properties"]["destination"]["properties"]
    url, code = to.get("endpointUrl") or "", str(uuid.uuid4())
    event = {"eventType": VALIDATION, "data": {"validationCode": code}}
    status, said = post(bench, url, event)
    if status != 200 or not isinstance(said, dict) or said.get("validationResponse") != code:
        raise Refused(400, "InvalidRequest", f"Webhook validation handshake failed for {url.partition('?')[0]}.")
    bench.logic.hooks[id.lower()] = url
    kept = {key: value for key, value in to.items() if key != "endpointUrl"}
    kept["endpointBaseUrl"] = url.partition("?")[0]
    destination = {**body["properties"]["destination"], "properties": kept}
    return {**body, "properties": {**body["properties"], "destination": destination}}


@on("PUT", "systemtopics/eventsubscriptions")
def put_subscription(bench, call: Call) -> Answer:
    "To a queue, or to a Logic App that answers the validation"
    body = call.body
    if (body["properties"].get("destination") or {}).get("endpointType") == "WebHook":
        body = subscribe(bench, call.id, body)
    created = bench.state.get(call.id) is None
    return Answer(201 if created else 200, store(bench, call, body, provisioningState="Succeeded"))


def post(bench, url: str, event: dict) -> tuple[int, Any]:
    "What the address answers to an event"
    base = url.partition("/triggers/")[0]
    workflow = next((one for one in bench.state.resources.values()
                     if one.get("properties", {}).get("accessEndpoint") == base), None)
    if workflow is None: return 404, None
    if f"sig={bench.logic.signatures[base]}" not in url: return 401, None
    if workflow["properties"].get("state", "Enabled") != "Enabled": return 400, None
    run = Run(bench, (workflow.get("identity") or {}).get("principalId", ""), [event])
    run.carry_out(workflow["properties"]["definition"]["actions"])
    bench.logic.runs.append(run.statuses)
    return run.answer or (502, None)    # Nothing answered: NoResponse


@dataclass
class Run:
    "One run of a workflow"
    bench: Any
    principal: str  # Of its identity
    body: list      # Of its trigger
    statuses: dict[str, str] = field(default_factory=dict)
    bodies: dict[str, Any] = field(default_factory=dict)
    answer: tuple[int, Any] | None = None

    def carry_out(self, actions: dict):
        "Do the actions in the order of what they run after"
        left = dict(actions)
        while left:
            name = next(name for name, one in left.items() if {*one.get("runAfter", {})} <= self.statuses.keys())
            action = left.pop(name)
            due = all(self.statuses[before] in allowed for before, allowed in action.get("runAfter", {}).items())
            self.statuses[name] = self.do(name, action) if due else "Skipped"

    def do(self, name: str, action: dict) -> str:
        "Do one action; gives its status"
        inputs = action.get("inputs") or {}
        if action["type"] == "If":
            self.carry_out(action["actions"] if self.holds(action["expression"])
                           else (action.get("else") or {}).get("actions") or {})
        elif action["type"] == "Response": self.answer = inputs["statusCode"], self.value(inputs.get("body"))
        elif action["type"] == "Http":
            status, self.bodies[name] = self.request(self.value(inputs))
            return "Succeeded" if status < 400 else "Failed"
        else: raise AssertionError(f"the stand-in does not know the action {action['type']}")
        return "Succeeded"

    def holds(self, expression: dict) -> bool:
        (operator, parts), = expression.items()
        if operator == "and": return all(map(self.holds, parts))
        assert operator == "equals", f"the stand-in does not know {operator}"
        left, right = map(self.value, parts)
        return left == right

    def value(self, said: Any) -> Any:
        "A value with its expressions worked out"
        if isinstance(said, dict): return {key: self.value(one) for key, one in said.items()}
        if isinstance(said, list): return [*map(self.value, said)]
        if not isinstance(said, str): return said
        if said.startswith("@") and not said.startswith("@{"): return self.expression(said[1:])
        return re.sub(r"@\{([^}]*)\}", lambda found: str(self.expression(found[1])), said)

    def expression(self, text: str) -> Any:
        match = CALL.fullmatch(text)
        assert match, f"the stand-in does not know the expression {text}"
        found: Any = self.bodies.get(match["action"]) if match["action"] else self.body
        for number, key in re.findall(r"\[(?:(\d+)|'(\w+)')\]", match["path"]):
            try: found = found[int(number) if number else key]
            except (KeyError, IndexError, TypeError): return None
        return found

    def request(self, inputs: dict) -> tuple[int, Any]:
        "What a request of the workflow is answered"
        url, logic = urlsplit(inputs["uri"]), self.bench.logic
        if url.hostname and url.hostname.endswith(".vault.azure.net"):
            return self.secret(url.hostname.partition(".")[0], url.path.split("/")[2], inputs)
        if url.hostname == "api.github.com":
            sent = inputs.get("headers") or {}
            if sent.get("Authorization") != f"Bearer {logic.token}" or not logic.token: return 401, None
            if not sent.get("User-Agent"): return 403, None
            if not isinstance((inputs.get("body") or {}).get("event_type"), str): return 422, None
        elif url.hostname != "dev.azure.com": raise AssertionError(f"a workflow asks {url.hostname}")
        logic.dispatched.append((inputs["uri"], inputs.get("body")))
        return 204, None

    def secret(self, vault: str, name: str, inputs: dict) -> tuple[int, Any]:
        "A secret, for an identity that may read it"
        identity = inputs.get("authentication") or {}
        if (identity.get("type"), identity.get("audience")) != ("ManagedServiceIdentity", "https://vault.azure.net"):
            return 401, None
        scope = next((id for id in self.bench.state.resources if id.endswith(f"/vaults/{vault}/secrets/{name}")), "")
        if not scope or not may(self.bench, self.principal, SECRETS_USER, scope): return 403, None
        value = self.bench.logic.secrets.get((vault, name))
        return (200, {"value": value}) if value else (404, None)
