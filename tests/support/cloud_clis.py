"""`az`, `gh` and `git` for tests: programs that keep a state, take what the real ones take, and refuse anything else

MLOPS_NB_FAKE names its folder. Calls are kept in calls.jsonl.
"""
import json
import os
import re
import sys
from pathlib import Path

from tests.support import devops_cli
from tests.support.cli_words import Wrong, need, new_id, options

SUBSCRIPTION, TENANT = "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000001"
BUILT_IN = ("Reader", "Contributor", "Role Based Access Control Administrator")


# az

def az(words: list, state: dict):
    "The commands of Azure's that are used here"
    if not state["az_login"]: raise Wrong("ERROR: Please run 'az login' to setup account.")
    if words[0] == "rest": return devops_cli.rest(words[1:], state["devops"], sys.stdin.read)
    for size in (4, 3, 2):
        known = devops_cli.COMMANDS.get(" ".join(words[:size]))
        if known: return known(words[size:], state["devops"])
    for size in (4, 3, 2):
        command = " ".join(words[:size])
        if command in AZ: return AZ[command](words[size:], state)
    raise Wrong(f"'{' '.join(words[:3])}' is misspelled or not recognized by the system.", 2)


def account(words, state):
    options(words, {"--output": 1})
    user = {"name": "me@example.com", "type": "user"}
    return {"id": SUBSCRIPTION, "tenantId": TENANT, "name": "loopback", "user": user}


def app_list(words, state):
    given = options(words, {"--display-name": 1, "--output": 1})
    start = given["--display-name"]     # the real one takes a beginning, too
    return [one for one in state["apps"].values() if one["displayName"].startswith(start)]


def app_create(words, state):
    given = options(words, {"--display-name": 1, "--output": 1})
    need(given, "--display-name")
    made = {"appId": new_id(), "id": new_id(), "displayName": given["--display-name"], "credentials": []}
    state["apps"][made["appId"]] = made
    return made


def app_delete(words, state):
    given = options(words, {"--id": 1})
    if state["apps"].pop(given["--id"], None) is None: raise Wrong(f"Resource '{given['--id']}' does not exist")
    state["principals"] = {key: one for key, one in state["principals"].items() if one["appId"] != given["--id"]}


def sp_list(words, state):
    given = options(words, {"--filter": 1, "--output": 1})
    app = re.fullmatch(r"appId eq '([0-9a-f-]+)'", given["--filter"])
    if not app: raise Wrong("Invalid filter clause")
    return [one for one in state["principals"].values() if one["appId"] == app[1]]


def sp_show(words, state):
    id = options(words, {"--id": 1, "--output": 1})["--id"]
    if id not in state["principals"]: raise Wrong(f"Resource '{id}' does not exist or one of its queried references")
    return state["principals"][id]


def sp_create(words, state):
    given = options(words, {"--id": 1, "--output": 1})
    if given["--id"] not in state["apps"]: raise Wrong(f"Resource '{given['--id']}' does not exist")
    made = {"id": new_id(), "appId": given["--id"]}
    state["principals"][made["id"]] = made
    return made


def credential_list(words, state):
    return state["apps"][options(words, {"--id": 1, "--output": 1})["--id"]]["credentials"]


def credential_create(words, state):
    given = options(words, {"--id": 1, "--parameters": 1, "--output": 1})
    said = json.loads(given["--parameters"])
    if said.keys() - {"name", "issuer", "subject", "audiences", "description"}: raise Wrong("Invalid property")
    kept = state["apps"][given["--id"]]["credentials"]
    if any(said["name"] == one["name"] for one in kept):
        raise Wrong("FederatedIdentityCredential with name already exists.")
    checked_credential(said, kept, state)
    kept.append(said)
    return said


def checked_credential(said, others, state):
    if any(one["subject"] == said["subject"] for one in others):
        raise Wrong("FederatedIdentityCredential with this issuer and subject already exists.")
    connections = [one["authorization"]["parameters"] for one in state["devops"]["endpoints"]]
    subjects = {one.get("workloadIdentityFederationSubject") for one in connections}
    github = said["issuer"] == "https://token.actions.githubusercontent.com"
    if said["audiences"] != ["api://AzureADTokenExchange"]: raise Wrong("not the audience of Azure")
    if not github and said["subject"] not in subjects: raise Wrong("the issuer of nobody who is known")


def credential_delete(words, state):
    given = options(words, {"--id": 1, "--federated-credential-id": 1})
    kept = state["apps"][given["--id"]]["credentials"]
    left = [one for one in kept if one["name"] != given["--federated-credential-id"]]
    if len(left) == len(kept): raise Wrong(f"Resource '{given['--federated-credential-id']}' does not exist")
    kept[:] = left


def credential_update(words, state):
    given = options(words, {"--id": 1, "--federated-credential-id": 1, "--parameters": 1})
    said, kept = json.loads(given["--parameters"]), state["apps"][given["--id"]]["credentials"]
    found = [one for one in kept if one["name"] == given["--federated-credential-id"]]
    if not found: raise Wrong(f"Resource '{given['--federated-credential-id']}' does not exist")
    if said["name"] != found[0]["name"]: raise Wrong("Property name is immutable")
    checked_credential(said, [one for one in kept if one is not found[0]], state)
    found[0].update(said)


def provider_list(words, state):
    options(words, {"--output": 1})
    names = ("Microsoft.Storage", "Microsoft.Compute", *state["providers"])
    return [{"namespace": name.replace("Microsoft.Insights", "microsoft.insights"),
             "registrationState": state["providers"].get(name, "NotRegistered")} for name in names]


def provider_register(words, state):
    state["providers"][options(words, {"--namespace": 1, "--wait": 0})["--namespace"]] = "Registered"


def group_show(words, state):
    name = options(words, {"--name": 1, "--output": 1})["--name"]
    if name not in state["groups"]:
        raise Wrong(f"(ResourceGroupNotFound) Resource group '{name}' could not be found.", 3)
    return state["groups"][name]


def group_create(words, state):
    given = options(words, {"--name": 1, "--location": 1, "--tags": 2, "--output": 1})
    need(given, "--name", "--location")
    tags = dict(one.split("=") for one in given.get("--tags", []))
    state["groups"][given["--name"]] = {"name": given["--name"], "location": given["--location"], "tags": tags}
    return state["groups"][given["--name"]]


def scoped(given, state):
    group = given["--scope"].rpartition("/resourceGroups/")[2]
    if group not in state["groups"]:
        raise Wrong(f"(ResourceGroupNotFound) Resource group '{group}' could not be found.")


def role_list(words, state):
    given = options(words, {"--assignee": 1, "--scope": 1, "--role": 1, "--output": 1})
    scoped(given, state)
    asked = (given["--assignee"], given["--scope"])
    there = [one for one in state["roles"] if (one["principalId"], one["scope"]) == asked]
    return [one for one in there if given.get("--role", one["role"]) == one["role"]]


def role_create(words, state):
    given = options(words, {"--assignee-object-id": 1, "--assignee-principal-type": 1, "--role": 1, "--scope": 1,
                            "--condition": 1, "--condition-version": 1, "--output": 1})
    need(given, "--assignee-object-id", "--role", "--scope")
    scoped(given, state)
    if given["--assignee-object-id"] not in state["principals"]:
        raise Wrong("(PrincipalNotFound) Principal does not exist in the directory.")
    if given["--role"] not in BUILT_IN: raise Wrong(f"Role '{given['--role']}' doesn't exist.")
    if "--condition" in given and given.get("--condition-version") != "2.0":
        raise Wrong("--condition-version must be 2.0")
    made = {"principalId": given["--assignee-object-id"], "role": given["--role"], "scope": given["--scope"],
            "condition": given.get("--condition")}
    state["roles"].append(made)
    return made


def role_delete(words, state):
    given = options(words, {"--assignee": 1, "--scope": 1})
    lost = (given["--assignee"], given["--scope"])
    left = [one for one in state["roles"] if (one["principalId"], one["scope"]) != lost]
    if len(left) == len(state["roles"]): raise Wrong("No matched assignments were found to delete")
    state["roles"] = left


AZ = {"account show": account, "ad app list": app_list, "ad app create": app_create, "ad app delete": app_delete,
      "ad sp list": sp_list, "ad sp create": sp_create, "ad app federated-credential list": credential_list,
      "ad app federated-credential create": credential_create,
      "ad app federated-credential update": credential_update, "ad app federated-credential delete": credential_delete,
      "ad sp show": sp_show, "provider list": provider_list,
      "provider register": provider_register, "group show": group_show, "group create": group_create,
      "role assignment list": role_list,
      "role assignment create": role_create, "role assignment delete": role_delete}


# gh

def gh(words: list, state: dict):
    "The commands of GitHub's that are used here"
    if not state["gh_login"]: raise Wrong("To get started with GitHub CLI, please run:  gh auth login", 4)
    if words[:2] == ["repo", "view"]:
        options(words[2:], {"--json": 1})
        return {"nameWithOwner": "octo/flights", "defaultBranchRef": {"name": "main"}}
    if words[:2] in (["variable", "set"], ["variable", "delete"]): return variable(words[1], words[2:], state)
    if words[:1] == ["api"]: return api(words[1:], state)
    raise Wrong(f'unknown command "{words[0]}" for "gh"')


def variable(verb, words, state):
    given = options(words, {"--repo": 1, "--env": 1, **({"--body": 1} if verb == "set" else {})}, 1)
    need(given, "--repo")
    name, environment = given["free"][0], given.get("--env", "")
    if environment and environment not in state["environments"]:
        raise Wrong(f"failed to set variable: HTTP 404: Not Found (environments/{environment})")
    kept = state["variables"].setdefault(environment, {})
    if verb == "set": kept[name] = given["--body"]
    elif kept.pop(name, None) is None: raise Wrong("HTTP 404: Not Found")


def api(words, state):
    method, words = ("GET", words) if words[0] != "--method" else (words[1], words[2:])
    path, rest = words[0], options(words[1:], {"--input": 1})
    body = json.load(sys.stdin) if rest.get("--input") == "-" else None
    if match := re.fullmatch(r"user|users/(\w+)|orgs/(\w+)/teams/(\w+)(/members)?", path):
        if match[4]: return [{"login": "ada"}, {"login": "octocat"}]
        login = {"user": "me"}.get(path, match[1])
        return {"id": {None: 1, "octocat": 583231}.get(match[1] if not match[2] else None, 7), "login": login}
    if path == "orgs/octo":     # the plan is told to owners
        told = {"plan": {"name": state["plan"]}} if state["plan"] and state["tells_plan"] else {}
        return {"login": "octo", "id": 123456, **told}
    if path == "orgs/octo/actions/oidc/customization/sub": return {"include_claim_keys": ["repository_id", "context"]}
    if path == "repos/octo/flights":
        return {"id": 456789, "name": "flights", "full_name": "octo/flights", "owner": {"login": "octo", "id": 123456},
                "private": state["visibility"] != "public", "visibility": state["visibility"]}
    if path == "repos/octo/flights/actions/oidc/customization/sub": return subject_template(state)
    if path == "repos/octo/flights/pages": return pages(method, body, state)
    environments = r"environments/(?P<env>\w+)(?:/variables/(?P<envvar>\w+))?"
    others = r"actions/variables/(?P<var>\w+)|branches/main/(?P<protection>protection)"
    match = re.fullmatch(rf"repos/octo/flights/(?:{environments}|{others})", path)
    if not match: raise Wrong("gh: Not Found (HTTP 404)")
    if match["envvar"] or match["var"]:
        value = state["variables"].get(match["env"] or "", {}).get(match["envvar"] or match["var"])
        if value is None: raise Wrong("gh: Not Found (HTTP 404)")
        return {"name": match["envvar"] or match["var"], "value": value}
    return protection(method, body, state) if match["protection"] else environment(method, match["env"], body, state)


def subject_template(state):
    "What GitHub says of the subjects of tokens: since July 2026 with a prefix"
    if state["subject"] == "custom": return {"use_default": False, "include_claim_keys": ["repository_id", "context"]}
    if state["subject"] == "organisation": return {"use_default": False}
    if state["subject"] == "old": return {"use_default": True}
    return {"use_default": True, "use_immutable_subject": True, "sub_claim_prefix": "repo:octo@123456/flights@456789"}


def paid(state) -> bool: return state["visibility"] == "public" or state["plan"] in ("pro", "team", "enterprise")
def enterprise(state) -> bool: return state["visibility"] == "public" or state["plan"] == "enterprise"


def pages(method, body, state):
    if method == "POST":
        if not paid(state): raise Wrong("gh: Your current plan does not support GitHub Pages. (HTTP 422)")
        if state["pages"]: raise Wrong("gh: GitHub Pages is already enabled. (HTTP 409)")
        if body != {"build_type": "workflow"}: raise Wrong("gh: Invalid request. (HTTP 422)")
        state["pages"] = body
    if not state["pages"]: raise Wrong("gh: Not Found (HTTP 404)")
    if method == "DELETE": state["pages"] = None
    return state["pages"]


def environment(method, name, body, state):
    kept = state["environments"]
    if method == "PUT":
        if not paid(state): raise Wrong("gh: Not Found (HTTP 404)")
        if body.get("reviewers") and not enterprise(state):
            raise Wrong("gh: Failed to create the environment protection rule. Please ensure the billing plan supports "
                        "the required reviewers protection rule. (HTTP 422)")
        if body.keys() - {"wait_timer", "prevent_self_review", "reviewers", "deployment_branch_policy"}:
            raise Wrong("gh: Invalid request (HTTP 422)")
        policy = body.get("deployment_branch_policy")
        if policy and policy["protected_branches"] == policy["custom_branch_policies"]:
            raise Wrong("gh: protected_branches and custom_branch_policies cannot have the same value (HTTP 422)")
        if policy and policy["protected_branches"] and not state["protection"]:
            raise Wrong("gh: no protected branches (HTTP 422)")
        people = [{"type": one["type"], "reviewer": {"id": one["id"]}} for one in body.get("reviewers") or []]
        rules = [{"type": "required_reviewers", "reviewers": people}] if people else []
        if policy: rules.append({"type": "branch_policy"})
        kept[name] = {"name": name, "protection_rules": rules, "deployment_branch_policy": policy}
    if name not in kept: raise Wrong("gh: Not Found (HTTP 404)")
    if method == "DELETE":
        state["variables"].pop(name, None)
        return kept.pop(name) and None
    return kept[name]


def protection(method, body, state):
    if not paid(state):
        raise Wrong("gh: Upgrade to GitHub Pro or make this repository public to enable this feature. (HTTP 403)")
    if method == "PUT":
        if {"required_status_checks", "enforce_admins", "required_pull_request_reviews", "restrictions"} - body.keys():
            raise Wrong("gh: Invalid request. (HTTP 422)")
        state["protection"] = {**body, "enforce_admins": {"enabled": body["enforce_admins"]}}
    if not state["protection"]: raise Wrong("gh: Branch not protected (HTTP 404)")
    if method == "DELETE":
        state["protection"] = None
        return None
    return state["protection"]


def main(name: str, words: list) -> int:
    folder = Path(os.environ["MLOPS_NB_FAKE"])
    state = json.loads((folder/"state.json").read_text())
    with (folder/"calls.jsonl").open("a") as calls: calls.write(json.dumps([name, *words]) + "\n")
    if state.get("break") and state["break"] in " ".join(words):
        print("ERROR: the connection was lost", file=sys.stderr)
        return 1
    try: found = devops_cli.git(words, state["devops"]) if name == "git" else {"az": az, "gh": gh}[name](words, state)
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return wrong.code
    (folder/"state.json").write_text(json.dumps(state, indent=1))
    if name == "git": print(found, end="")
    elif found is not None: print(json.dumps(found))
    return 0
