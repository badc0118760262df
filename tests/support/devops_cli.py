"""`az devops`, `az repos`, `az pipelines` and `az rest` for tests: an organization of Azure DevOps that takes the
bodies and versions that Microsoft documents, and refuses what the real one refuses

The state is a part of that of cloud_clis.py, which runs this.
"""
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.support.cli_words import Wrong, need, new_id, options

RESOURCE, TENANT = "499b84ac-1321-427f-aa17-267ca6975798", "00000000-0000-4000-8000-000000000001"
URL, HOST_ID = "https://dev.azure.com/team", "00000000-0000-4000-8000-0000000000aa"
ADA = {"id": "00000000-0000-4000-8000-0000000000a1", "providerDisplayName": "Ada", "isActive": True,
       "properties": {"Account": {"$type": "System.String", "$value": "ada@example.com"}}}
BEN = {**ADA, "id": "00000000-0000-4000-8000-0000000000b2", "providerDisplayName": "Ben",
       "properties": {"Account": {"$type": "System.String", "$value": "ben@example.com"}}}
EMPTY: dict[str, Any] = {
    "extension": "1.0.2", "expired": False, "member": True, "may": ["connections", "projects"], "hidden": [],
    "projects": {}, "repositories": {}, "branches": [], "endpoints": [], "environments": [], "checks": [],
    "permitted": {}, "pipelines": [], "policies": [], "aces": {}, "people": [ADA, BEN], "remotes": {}, "last": 0}
SCOPE = "az login --scope 499b84ac-1321-427f-aa17-267ca6975798/.default"
POLICIES = {"build": ("0609b952-1397-4640-95ec-e00a01b2c241", {
                "--build-definition-id": "buildDefinitionId", "--display-name": "displayName",
                "--manual-queue-only": "manualQueueOnly", "--queue-on-source-update-only": "queueOnSourceUpdateOnly",
                "--valid-duration": "validDuration"}),
            "approver-count": ("fa4e907d-c16b-4a4c-9dfa-4906e5d171dd", {
                "--minimum-approver-count": "minimumApproverCount", "--creator-vote-counts": "creatorVoteCounts",
                "--allow-downvotes": "allowDownvotes", "--reset-on-source-push": "resetOnSourcePush"}),
            "required-reviewer": ("fd2167ab-b0be-447a-8ec8-39368250530e", {
                "--required-reviewer-ids": "requiredReviewerIds", "--message": "message"})}
COMMON = {"--organization": 1, "--detect": 1, "--output": 1}


def enter(state: dict):
    "Whether this login may ask at all"
    if state["expired"]:
        raise Wrong(f"ERROR: AADSTS70043: The refresh token has expired or is invalid.\nPlease run:\n{SCOPE}")


def extension_command(words: list, state: dict, known: dict, positional: int = 0, project: bool = True) -> dict:
    "Read the options of a command of the extension, which names organization and project"
    if not state["extension"]:
        raise Wrong("ERROR: The command requires the extension azure-devops. Unable to prompt for extension install "
                    "confirmation as no tty available.", 2)
    enter(state)
    given = options(words, {**COMMON, **({"--project": 1} if project else {}), **known}, positional)
    need(given, "--organization", *(["--project"] if project else []))
    if given["--organization"] != URL: raise Wrong(f"The requested resource requires user authentication: {URL}")
    if not state["member"]: raise Wrong("ERROR: TF400813: The user '' is not authorized to access this resource.")
    if given.get("--detect") != "false": raise Wrong("the folder may be another project's: --detect false")
    if project and given["--project"] not in state["projects"]: absent(given["--project"])
    return given


def absent(name: str) -> NoReturn:
    raise Wrong(f"ERROR: TF200016: The following project does not exist: {name}. Verify that the name of the project "
                "is correct and that the project exists on the specified Azure DevOps Server.")


def number(state: dict) -> int:
    state["last"] += 1
    return state["last"]


def show_extension(words: list, state: dict):
    name = options(words, {"--name": 1, "--output": 1})["--name"]
    if not state["extension"]: raise Wrong(f"ERROR: The extension {name} is not installed.", 3)
    return {"name": name, "version": state["extension"]}


def show_project(words: list, state: dict):
    given = extension_command(words, state, {"--project": 1}, project=False)
    return state["projects"].get(given["--project"]) or absent(given["--project"])


def create_project(words: list, state: dict):
    given = extension_command(words, state, {"--name": 1, "--source-control": 1, "--visibility": 1}, project=False)
    name = given["--name"]
    if "projects" not in state["may"]:
        raise Wrong("TF50309: The following account does not have sufficient permissions to complete the operation: "
                    "Ada. The following permissions are needed to perform this operation: Create new projects.")
    if name in state["projects"] or name in state["hidden"]:
        raise Wrong("TF200019: The following project already exists on the Azure DevOps Server: "
                    f"{name}. You cannot create a new project with the same name as an existing project.")
    if given["--source-control"] != "git" or given["--visibility"] not in ("private", "public"): raise Wrong("no", 2)
    state["projects"][name] = {"id": new_id(), "name": name, "state": "wellFormed"}
    state["repositories"][name] = {"id": new_id(), "name": name, "defaultBranch": None}
    return state["projects"][name]


def find_repository(state: dict, name: str) -> dict:
    if name in state["repositories"]: return state["repositories"][name]
    raise Wrong(f"ERROR: TF401019: The Git repository with name or identifier {name} does not exist or you do not have "
                "permissions for the operation you are attempting.")


def show_repository(words: list, state: dict):
    return find_repository(state, extension_command(words, state, {"--repository": 1})["--repository"])


def create_repository(words: list, state: dict):
    name = extension_command(words, state, {"--name": 1})["--name"]
    if name in state["repositories"]: raise Wrong(f"TF400948: A Git repository with the name {name} already exists.")
    state["repositories"][name] = {"id": new_id(), "name": name, "defaultBranch": None}
    return state["repositories"][name]


def list_branches(words: list, state: dict):
    given = extension_command(words, state, {"--repository": 1, "--filter": 1})
    find_repository(state, given["--repository"])
    start = given["--filter"].removeprefix("heads/")
    return [{"name": f"refs/heads/{name}"} for name in state["branches"] if name.startswith(start)]


def create_pipeline(words: list, state: dict):
    given = extension_command(words, state, {name: 1 for name in ("--name", "--yml-path", "--repository", "--branch",
                                                                 "--repository-type", "--skip-first-run")})
    need(given, "--name", "--repository", "--repository-type", "--branch")
    if given["--repository-type"] != "tfsgit": raise Wrong("argument --repository-type: invalid choice", 2)
    if given["--branch"] not in state["branches"]: raise Wrong(f"The branch {given['--branch']} is not there.")
    if any(one["name"] == given["--name"] for one in state["pipelines"]):
        raise Wrong(f"Pipeline with name {given['--name']} already exists.")
    repository = find_repository(state, given["--repository"])
    made = {"id": number(state), "name": given["--name"], "path": "\\", "process": {
        "type": 2, "yamlFilename": given["--yml-path"]}, "repository": {**repository, "type": "TfsGit"}}
    state["pipelines"].append(made)
    return made if given.get("--skip-first-run") == "true" else {"id": 1, "definition": made}


def take_out(kept: list, id: str) -> None:
    found = [one for one in kept if str(one["id"]) == id]
    if not found: raise Wrong(f"{id} does not exist")
    kept.remove(found[0])


def deletion(kind: str) -> Callable[[list, dict], None]:
    "A command that deletes by id, and asks where --yes is missing"
    def delete(words: list, state: dict) -> None:
        given = extension_command(words, state, {"--id": 1, "--yes": 0})
        if "--yes" not in given: raise Wrong("Unable to prompt for confirmation as no tty available. Use --yes.")
        take_out(state[kind], given["--id"])
    return delete


def list_policies(words: list, state: dict):
    given = extension_command(words, state, {"--repository-id": 1, "--branch": 1})
    need(given, "--repository-id")
    return state["policies"]


def as_setting(name: str, text: str) -> Any:
    "What the extension makes of an option's text"
    if text in ("true", "false"): return text == "true"
    return text.split(";") if name == "requiredReviewerIds" else int(text) if text.isdigit() else text


def policy(kind: str) -> Callable[[list, dict], dict]:
    "The command that makes a policy of one type"
    type_id, names = POLICIES[kind]
    def create(words: list, state: dict) -> dict:
        more = {} if kind == "approver-count" else {"--path-filter": 1}
        always = ("--branch", "--repository-id", "--blocking", "--enabled")
        given = extension_command(words, state, {**dict.fromkeys((*always, *names), 1), **more})
        need(given, *always, *names)
        settings = {name: as_setting(name, given[option]) for option, name in names.items()}
        people = {one["id"] for one in state["people"]}
        if not {*settings.get("requiredReviewerIds", [])} <= people: raise Wrong("a required reviewer is not known")
        pipelines = {one["id"] for one in state["pipelines"]}
        if settings.get("buildDefinitionId", next(iter(pipelines), 0)) not in pipelines | {0}:
            raise Wrong("TF402451: the build definition does not exist")
        if given["--repository-id"] not in [one["id"] for one in state["repositories"].values()]:
            raise Wrong("TF401019: The Git repository does not exist")
        if "--path-filter" in given: settings["filenamePatterns"] = given["--path-filter"].split(";")
        made = {"id": number(state), "type": {"id": type_id}, "settings": settings,
                "isEnabled": given["--enabled"] == "true", "isBlocking": given["--blocking"] == "true"}
        state["policies"].append(made)
        return made
    return create


COMMANDS: dict[str, Callable[[list, dict], Any]] = {
    "extension show": show_extension, "devops project show": show_project, "devops project create": create_project,
    "repos show": show_repository, "repos create": create_repository, "repos ref list": list_branches,
    "pipelines create": create_pipeline, "pipelines delete": deletion("pipelines"),
    "devops service-endpoint delete": deletion("endpoints"), "repos policy list": list_policies,
    "repos policy delete": deletion("policies"), **{f"repos policy {kind} create": policy(kind) for kind in POLICIES}}


# az rest

def refuse(reason: str, message: str, key: str = "") -> NoReturn:
    "As `az rest` prints what a service answers"
    raise Wrong(f"ERROR: {reason}({json.dumps({'$id': '1', 'message': message, 'typeKey': key, 'errorCode': 0})})")


def shaped(body: Any, shape: Any, where: str = "body"):
    "Refuse a body that has not this shape: a dict's keys (those with ? may lack), a list of one, or a type"
    if isinstance(shape, dict):
        if not isinstance(body, dict): refuse("Bad Request", f"{where} is no object")
        lacking = [key for key in shape if not key.endswith("?") and key not in body]
        strange = body.keys() - {key.rstrip("?") for key in shape}
        if lacking or strange: refuse("Bad Request", f"{where} lacks {lacking}, and does not take {sorted(strange)}")
        for key, value in body.items(): shaped(value, shape.get(key, shape.get(f"{key}?")), f"{where}.{key}")
    elif isinstance(shape, list):
        if not isinstance(body, list): refuse("Bad Request", f"{where} is no list")
        for one in body: shaped(one, shape[0], where)
    elif not isinstance(body, shape) or isinstance(body, bool) and shape is int:
        refuse("Bad Request", f"{where} is {body!r}, which is no {shape.__name__}")


def the_project(state: dict, name: str) -> dict:
    if name not in state["projects"]: refuse("Not Found", f"TF200016: The following project does not exist: {name}.")
    return state["projects"][name]


REFERENCE = {"name": str, "projectReference": {"id": str, "name": str}, "description?": str}
ENDPOINT = {"name": str, "description?": str, "type": str, "url": str, "data?": dict, "isShared": bool, "isReady": bool,
            "authorization": {"scheme": str, "parameters": dict}, "serviceEndpointProjectReferences": [REFERENCE]}
ARM = {"tenantid": str, "serviceprincipalid": str}
DATA = {"subscriptionId": str, "subscriptionName": str, "environment": str, "scopeLevel": str, "creationMode": str}


def create_endpoint(state: dict, body: Any, query: dict):
    shaped(body, ENDPOINT)
    if "connections" not in state["may"]:
        refuse("Forbidden", "You do not have permission to create a service connection. You need to be a Creator for "
               "service connections in this project.", "ServiceEndpointException")
    if any(one["name"] == body["name"] for one in state["endpoints"]) or body["name"] in state["hidden"]:
        refuse("Conflict", f"Service connection with name {body['name']} already exists. Only a user having "
               f"Administrator/User role permissions on service connection {body['name']} can see it.")
    ids = [one["id"] for one in state["projects"].values()]
    if any(one["projectReference"]["id"] not in ids for one in body["serviceEndpointProjectReferences"]):
        refuse("Bad Request", "the project of the reference does not exist")
    made, given = {**body, "id": new_id()}, body["authorization"]["parameters"]
    if body["type"] == "azurerm":
        shaped(given, ARM)
        shaped(body.get("data"), DATA)
        if body["authorization"]["scheme"] != "WorkloadIdentityFederation": refuse("Bad Request", "another scheme")
        if body["data"]["creationMode"] != "Manual": refuse("Bad Request", "makes an application of its own")
        made["authorization"] = {**body["authorization"], "parameters": {
            **given, "workloadIdentityFederationIssuer": f"https://login.microsoftonline.com/{TENANT}/v2.0",
            "workloadIdentityFederationSubject": f"/eid1/c/pub/t/{TENANT[-4:]}/a/ado/sc/{HOST_ID}/{made['id']}"}}
    elif body["type"] == "incomingwebhook":
        shaped(given, {"webhookname": str, "secret": str, "header": str})
        if body["authorization"]["scheme"] != "None": refuse("Bad Request", "another scheme")
    else: refuse("Bad Request", f"the type {body['type']} is not known")
    state["endpoints"].append(made)
    return made


def create_environment(state: dict, body: Any, query: dict, project: str):
    shaped(body, {"name": str, "description": str})
    the_project(state, project)
    if any(one["name"] == body["name"] for one in state["environments"]):
        refuse("Conflict", f"Environment {body['name']} already exists in current project.")
    state["environments"].append({**body, "id": number(state)})
    return state["environments"][-1]


def resource(state: dict, kind: str, id: str) -> dict:
    kept = state["environments"] if kind == "environment" else state["endpoints"] if kind == "endpoint" else []
    found = next((one for one in kept if str(one["id"]) == id), None)
    return found or refuse("Not Found", f"no {kind} {id}")


SETTINGS: dict[str, Any] = {
    "8c6f20a7-a545-4486-9777-f762fafe0d4d": {
        "approvers": [{"id": str}], "executionOrder": str, "minRequiredApprovers": int, "instructions": str,
        "blockedApprovers": [{"id": str}], "requesterCannotBeApprover": bool},
    "2ef31ad6-baa0-403a-8b45-2cbc9b4e5563": {},
    "fe1de3ee-a436-41b4-bb20-f6eb4cb879a7": {
        "displayName": str, "definitionRef": {"id": str, "name": str, "version": str},
        "inputs": {"allowedBranches": str, "ensureProtectionOfBranch": str, "allowUnknownStatusBranch?": str}}}
CHECK = {"id?": int, "type": {"id": str, "name": str}, "settings": dict, "timeout": int,
         "resource": {"type": str, "id": str, "name": str}}


def put_check(state: dict, body: Any, query: dict, project: str, id: str = ""):
    shaped(body, CHECK)
    shaped(body["settings"], SETTINGS[body["type"]["id"]], "settings")
    on = resource(state, body["resource"]["type"], body["resource"]["id"])
    if on["name"] != body["resource"]["name"]: refuse("Bad Request", f"{on['name']} is another resource")
    people = {one["id"] for one in state["people"]}
    asked = body["settings"].get("approvers")
    if asked is not None and (not asked or not {one["id"] for one in asked} <= people):
        refuse("Bad Request", "an approver is not known")
    same = [one for one in state["checks"] if one["resource"] == body["resource"] and one["type"] == body["type"]]
    if id:
        if str(body.get("id")) != id or id not in [str(one["id"]) for one in same]: refuse("Not Found", "no such check")
        same[0].update(body)
        return same[0]
    if same: refuse("Conflict", "there is one of this type on the resource already")
    state["checks"].append({**body, "id": number(state)})
    return state["checks"][-1]


def list_checks(state: dict, body: Any, query: dict, project: str):
    found = [one for one in state["checks"]
             if (one["resource"]["type"], one["resource"]["id"]) == (query["resourceType"], query["resourceId"])]
    full = query.get("$expand") == "settings"
    return [one if full else {key: value for key, value in one.items() if key != "settings"} for one in found]


def permitted(state: dict, body: Any, query: dict, project: str, kind: str, id: str):
    resource(state, kind, id)
    kept = state["permitted"].setdefault(f"{kind}/{id}", [])
    if body is not None:
        shaped(body, {"pipelines": [{"id": int, "authorized": bool}]})
        known = [one["id"] for one in state["pipelines"]]
        if any(one["id"] not in known for one in body["pipelines"]): refuse("Not Found", "no such pipeline")
        kept += [one["id"] for one in body["pipelines"] if one["authorized"] and one["id"] not in kept]
    return {"resource": {"type": kind, "id": id}, "pipelines": [{"id": one, "authorized": True} for one in kept]}


def list_definitions(state: dict, body: Any, query: dict, project: str):
    full = query.get("includeAllProperties") == "true"
    return [one if full else {"id": one["id"], "name": one["name"]} for one in state["pipelines"]]


def has_permission(state: dict, body: Any, query: dict, namespace: str, bit: str):
    ids = [f"endpoints/{one['id']}" for one in state["projects"].values()]
    if (namespace, bit) != ("49b48001-ca20-4adc-8111-5b60c903a50c", "4") or query["tokens"] not in ids:
        refuse("Bad Request", f"{namespace} has no {bit} on {query.get('tokens')}")
    return ["connections" in state["may"]]


def known_token(state: dict, namespace: str, token: str):
    [project], [repository] = state["projects"].values(), state["repositories"].values()
    pipelines = {f"{project['id']}/{one['id']}" for one in state["pipelines"]}
    tokens = {"33344d9c-fc72-4d6f-aba5-fa317101a7e9": pipelines,
              "2e9eb7ed-3c0a-47d4-87c1-0ffdd275fd87": {f"repoV2/{project['id']}/{repository['id']}"}}
    if token not in tokens.get(namespace, ()): refuse("Bad Request", f"the namespace {namespace} has no {token}")


def known_who(state: dict, descriptor: str):
    start = f"Microsoft.TeamFoundation.ServiceIdentity;{HOST_ID}:Build:"
    known = [f"{start}{one['id']}" for one in state["projects"].values()]
    if descriptor not in known: refuse("Not Found", f"no identity {descriptor}")


def give_right(state: dict, body: Any, query: dict, namespace: str):
    entries = [{"descriptor": str, "allow": int, "deny": int}]
    shaped(body, {"token": str, "merge": bool, "accessControlEntries": entries})
    if not body["merge"]: refuse("Bad Request", "takes away what the others have")
    known_token(state, namespace, body["token"])
    for entry in body["accessControlEntries"]:
        known_who(state, entry["descriptor"])
        kept = state["aces"].setdefault(f"{namespace} {body['token']}", {})
        kept[entry["descriptor"]] = kept.get(entry["descriptor"], 0) | entry["allow"]
    return body["accessControlEntries"]


def take_right(state: dict, body: Any, query: dict, namespace: str, bit: str):
    known_token(state, namespace, query["token"])
    kept = state["aces"].get(f"{namespace} {query['token']}", {})
    kept[query["descriptor"]] = kept.get(query["descriptor"], 0) & ~int(bit)
    return {"descriptor": query["descriptor"], "allow": kept[query["descriptor"]], "deny": 0}


def list_rights(state: dict, body: Any, query: dict, namespace: str):
    known_token(state, namespace, query["token"])
    kept = state["aces"].get(f"{namespace} {query['token']}", {})
    aces = {who: {"descriptor": who, "allow": allow, "deny": 0} for who, allow in kept.items()
            if who == query["descriptors"]}
    return [{"token": query["token"], "inheritPermissions": True, "acesDictionary": aces}] if aces else []


def list_identities(state: dict, body: Any, query: dict):
    if query.get("searchFilter") != "General": refuse("Bad Request", "searchFilter is required")
    asked = query["filterValue"].lower()
    return [one for one in state["people"] if asked in (one["properties"]["Account"]["$value"],
                                                        one["providerDisplayName"].lower())]


def list_endpoints(state: dict, body: Any, query: dict, project: str): return state["endpoints"]
def list_environments(state: dict, body: Any, query: dict, project: str): return state["environments"]


def delete_environment(state: dict, body: Any, query: dict, project: str, id: str):
    take_out(state["environments"], id)
    state["checks"] = [one for one in state["checks"] if one["resource"] != {
        "type": "environment", "id": id, "name": one["resource"]["name"]}]


ME = {"instanceId": HOST_ID, "authenticatedUser": ADA}
PROJECT, NAMESPACE = r"/team/(?P<project>[^/]+)/_apis", r"(?P<namespace>[0-9a-f-]{36})"
STABLE, PREVIEW = "7.1", "7.1-preview.1"
ROUTES: Iterable[tuple[str, str, str, Callable[..., Any]]] = (   # Method, path, version
    ("get", "/team/_apis/connectionData", PREVIEW, lambda state, body, query: ME),
    ("post", "/team/_apis/serviceendpoint/endpoints", STABLE, create_endpoint),
    ("get", f"{PROJECT}/serviceendpoint/endpoints", STABLE, list_endpoints),
    ("get", f"{PROJECT}/distributedtask/environments", STABLE, list_environments),
    ("post", f"{PROJECT}/distributedtask/environments", STABLE, create_environment),
    ("delete", rf"{PROJECT}/distributedtask/environments/(?P<id>\d+)", STABLE, delete_environment),
    ("get", f"{PROJECT}/pipelines/checks/configurations", PREVIEW, list_checks),
    ("post", f"{PROJECT}/pipelines/checks/configurations", PREVIEW, put_check),
    ("patch", rf"{PROJECT}/pipelines/checks/configurations/(?P<id>\d+)", PREVIEW, put_check),
    ("get", f"{PROJECT}/pipelines/pipelinepermissions/(?P<kind>[a-z]+)/(?P<id>[^/]+)", PREVIEW, permitted),
    ("patch", f"{PROJECT}/pipelines/pipelinepermissions/(?P<kind>[a-z]+)/(?P<id>[^/]+)", PREVIEW, permitted),
    ("get", f"{PROJECT}/build/definitions", STABLE, list_definitions),
    ("get", rf"/team/_apis/permissions/{NAMESPACE}/(?P<bit>\d+)", STABLE, has_permission),
    ("delete", rf"/team/_apis/permissions/{NAMESPACE}/(?P<bit>\d+)", STABLE, take_right),
    ("post", f"/team/_apis/accesscontrolentries/{NAMESPACE}", STABLE, give_right),
    ("get", f"/team/_apis/accesscontrollists/{NAMESPACE}", STABLE, list_rights),
    ("get", "/team/_apis/identities", STABLE, list_identities))


def rest(words: list, state: dict, stdin: Callable[[], str]):
    "One call of the REST interface"
    given = options(words, {"--method": 1, "--resource": 1, "--uri": 1, "--body": 1, "--output": 1})
    need(given, "--method", "--uri")
    enter(state)
    address = urlsplit(given["--uri"])
    if given.get("--resource") != RESOURCE: refuse("Unauthorized", "the token is for another service")
    if not state["member"]: refuse("Unauthorized", "TF400813: The user '' is not authorized to access this resource.")
    vssps = address.path == "/team/_apis/identities"
    if address.netloc != ("vssps.dev.azure.com" if vssps else "dev.azure.com"): refuse("Not Found", given["--uri"])
    body = None
    if "--body" in given:
        if given["--body"] != "@-": raise Wrong("the body is on the command line")
        body = json.loads(stdin())
    query, path = dict(parse_qsl(address.query)), unquote(address.path)
    for method, pattern, version, answer in ROUTES:
        match = re.fullmatch(pattern, path)
        if method != given["--method"] or not match: continue
        asked = query.pop("api-version", "")
        if asked != version: refuse("Bad Request", f"The requested REST API version of {asked!r} is not {version}.")
        if (body is None) != (method in ("get", "delete")): refuse("Bad Request", "a body is required, or not taken")
        if "project" in match.groupdict(): the_project(state, match["project"])
        found = answer(state, body, query, **match.groupdict())
        return {"count": len(found), "value": found} if isinstance(found, list) else found
    refuse("Not Found", f"The controller for path '{path}' was not found.")


# git

def git(words: list, state: dict):
    "The commands of git that bootstrap gives"
    if words[:1] != ["-C"]: raise Wrong("fatal: not in the project", 128)
    command, rest = words[2], words[3:]
    if (command, rest) == ("remote", ["-v"]):
        return "".join(f"{name}\t{url} (fetch)\n{name}\t{url} (push)\n" for name, url in state["remotes"].items())
    if command == "remote" and rest[:1] == ["add"]:
        if rest[1] in state["remotes"]: raise Wrong(f"error: remote {rest[1]} already exists.", 3)
        state["remotes"][rest[1]] = rest[2]
        return ""
    if command != "push": raise Wrong(f"git: '{command}' is not a git command.")
    names = [name for name in state["repositories"] for project in state["projects"]
             if rest[0] == f"{URL}/{project}/_git/{name}"]
    if not names: raise Wrong(f"fatal: repository '{rest[0]}' not found", 128)
    if state["policies"]: raise Wrong("TF402455: Pushes to this branch are not permitted; use a pull request", 1)
    state["branches"].append(rest[1])
    return ""
