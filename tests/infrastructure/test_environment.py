"""The environment pipeline against the loopback Azure: real SDKs, real HTTPS, and a state that is looked into"""
import copy
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError
from click.testing import CliRunner

from mlops_nb.bootstrap.identities import set_group, set_setting
from mlops_nb.cli.main import main
from mlops_nb.errors import UserError
from mlops_nb.infrastructure import declared, image, roles
from mlops_nb.infrastructure import plan as planning
from mlops_nb.infrastructure.declared import load_declaration, resource_names
from mlops_nb.infrastructure.resources import resource_ids
from mlops_nb.schemas.documents import load

from tests.support import ROOT
from tests.support.azure.ground import NAMESPACES, Ground
from tests.support.loopback.arm import SUBSCRIPTION

ENVIRONMENTS = ("dev", "staging", "production")
GROUPS = ("data-scientists", "ml-engineers", "release-managers", "readers", "plan-workflow")
PEOPLE = {name: f"1111111{number}-1111-1111-1111-111111111111" for number, name in enumerate(GROUPS)}
ML = "Microsoft.MachineLearningServices/workspaces"


def project(folder: Path, **settings) -> Path:
    "A copy of what an environment is declared in, with workspaces and people"
    shutil.copytree(ROOT/"pipelines", folder/"pipelines")
    shutil.copyfile(ROOT/"settings.ini", folder/"settings.ini")
    for on in ("dev", "staging", "production"):
        named = {"subscription_id": SUBSCRIPTION, "resource_group": f"rg-flights-{on}",
                 "workspace": f"mlw-flights-{on}", "registry": "mlr-flights",
                 "identity": f"id-flights-{on}"} | settings
        for key, value in named.items(): set_setting(folder/"settings.ini", on, key, value)
    for name, id in PEOPLE.items(): set_group(folder/"pipelines/environment/roles.yml", name, None, id)
    roles_yml = folder/"pipelines/environment/roles.yml"
    for number, on in enumerate(ENVIRONMENTS):
        set_group(roles_yml, "workflows", on, f"2222222{number}-2222-2222-2222-222222222222")
    return folder


def rewrite(root: Path, name: str, old: str, new: str):
    "Change a file of pipelines/environment"
    path = root/"pipelines/environment"/name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def root(tmp_path): return project(tmp_path/"project")


class Loopback:
    "The loopback Azure with what lies under workspaces, and an environment in it that was applied once"
    def __init__(self, bench, folder: Path):
        bench.reset()
        bench.state.resources.clear()
        self.bench, self.ground, self.root = bench, Ground(bench), project(folder/"project")

    def apply(self, root: Path, on: str = "dev", **options) -> list:
        return planning.apply_environment(root, on, azure=self.azure(root, on), say=lambda text: None, **options)

    def plan(self, root: Path, on: str = "dev", **options) -> planning.EnvironmentPlan:
        return planning.plan_environment(root, on, azure=self.azure(root, on), **options)

    def azure(self, root: Path, on: str = "dev") -> planning.Clients:
        found = planning.Clients(planning.load_valid_declaration(root, on).where)
        found.arm.pause = 0.02
        return found

    def save(self): self.saved = copy.deepcopy((self.bench.state.resources, self.ground.roles))

    def restore(self):
        self.bench.faults.__init__()
        self.bench.state.resources, self.ground.roles = copy.deepcopy(self.saved)
        self.bench.state.deleted.clear()
        self.ground.__dict__.update(
            turns={}, lists=0, delay=0, taken=set(), vaults={}, registered={*NAMESPACES},
            permissions=[{"actions": ["*"], "notActions": []}], limits={}, metrics={}, writes=[], refused="")

    def at(self, kind: str, name: str, group: str = "rg-flights-dev") -> dict:
        "A live resource"
        return self.bench.state.need(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{kind}/{name}")


@pytest.fixture(scope="module")
def world(azure_server, tmp_path_factory):
    "What the first apply made of an empty Azure, kept for all tests here"
    world = Loopback(azure_server, tmp_path_factory.mktemp("loopback"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in world.bench.env.items(): patch.setenv(name, value)
        world.ground.delay = 2
        world.planned, world.first = world.plan(world.root), world.apply(world.root)
        world.asked = world.ground.lists
        world.save()
        yield world
    world.ground.close()


@pytest.fixture
def azure(world, monkeypatch):
    world.restore()
    monkeypatch.chdir(world.root)
    before = len(world.bench.calls)
    yield world
    assert not world.bench.proxy.refused
    assert not [f"{call.request.method} {call.request.path}: {finding}"
                for call in world.bench.calls[before:] for finding in call.findings]


def kinds(changes): return sorted((c.action, c.kind, c.name) for c in changes)


# Plan and apply

def test_the_first_apply_makes_what_the_plan_said(azure):
    made = {(c.kind, c.name) for c in azure.first}
    assert {(c.kind, c.name) for c in azure.planned.todo} <= made
    assert [c.kind for c in azure.first][:3] == ["resource group", "identity", "storage account"]
    assert {c.name for c in azure.first if c.kind == "compute cluster"} == {"cpu", "sweep"}
    account = next(c.name for c in azure.first if c.kind == "storage account")
    storage, workspace = azure.at("Microsoft.Storage/storageAccounts", account), azure.at(ML, "mlw-flights-dev")
    assert storage["properties"]["allowSharedKeyAccess"] is False
    assert storage["tags"] == {"project": "flight-delay", "environment": "dev", "managed-by": "mlops-nb"}
    assert workspace["properties"]["storageAccount"].endswith(storage["name"])
    sweep = azure.at(ML, "mlw-flights-dev/computes/sweep")["properties"]["properties"]
    assert sweep["vmPriority"].lower() == "lowpriority"
    assert (sweep["scaleSettings"]["minNodeCount"], sweep["scaleSettings"]["maxNodeCount"]) == (0, 8)
    assert len(azure.at("Microsoft.Consumption/budgets", "budget-mlw-flights-dev")["properties"]["notifications"]) == 4


def test_the_second_apply_changes_nothing(azure):
    before = len(azure.bench.calls)
    assert azure.apply(azure.root) == []
    calls = azure.bench.calls[before:]
    assert azure.ground.writes == []
    assert {c.request.method for c in calls if c.request.kind == "arm"} == {"GET"}
    assert all(c.status in (200, 404) for c in calls)


def test_roles_are_waited_for_and_clusters_have_theirs(azure):
    assert azure.asked > azure.ground.delay
    given = {c.name for c in azure.first if c.kind == "role"}
    identity = {name.partition(" on ")[0] for name in given if name.startswith("identity")}
    assert identity == {f"identity: {role}" for role in (
        "Storage Blob Data Contributor", "Storage Table Data Contributor", "Storage Queue Data Contributor", "AcrPull",
        "AzureML Metrics Writer (preview)")}
    assert "data-scientists: AzureML Data Scientist on mlw-flights-dev" in given
    assert not any("mlr-flights" in name for name in given)     # the registry is production's


def test_only_what_differs_is_changed(azure, root):
    azure.at("Microsoft.Consumption/budgets", "budget-mlw-flights-dev")["properties"]["amount"] = 5000
    cpu = azure.at(ML, "mlw-flights-dev/computes/cpu")
    cpu["properties"]["properties"]["scaleSettings"]["maxNodeCount"] = 50
    group = azure.bench.state.need(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-flights-dev")
    group["tags"] = {**group["tags"], "cost-centre": "42", "project": "other"}
    planned = azure.plan(root)
    assert kinds(planned.todo) == [("change", "budget", "budget-mlw-flights-dev"), ("change", "compute cluster", "cpu"),
                                   ("change", "resource group", "rg-flights-dev")]
    assert "max_instances: 50 -> 2" in str(planned) and "properties.amount: 5000 -> 200" in str(planned)
    azure.apply(root)
    assert len(azure.ground.writes) == 3 and azure.apply(root) == []
    tags = azure.bench.state.need(group["id"])["tags"]
    assert tags == {"cost-centre": "42", "project": "flight-delay", "environment": "dev", "managed-by": "mlops-nb"}


def lost(azure, root) -> str:
    "Take the storage account and the clusters away; gives the account's name"
    for name in ("cpu", "sweep"):
        azure.bench.state.resources.pop(azure.at(ML, f"mlw-flights-dev/computes/{name}")["id"].lower())
    account = declared.resource_names(planning.load_valid_declaration(root, "dev"))["storage"]
    azure.bench.state.resources = {id: one for id, one in azure.bench.state.resources.items()
                                   if f"storageaccounts/{account}" not in id}
    return account


def test_an_apply_that_failed_is_finished_by_the_next(azure, root):
    account = lost(azure, root)
    azure.ground.refused = r"PUT .*/computes/sweep"
    with pytest.raises(HttpResponseError, match="authorization"): azure.apply(root)
    azure.ground.refused = ""
    assert [c.name for c in azure.apply(root) if c.kind != "role"] == ["sweep"]
    assert azure.at("Microsoft.Storage/storageAccounts", account)
    assert azure.apply(root) == []


APPLY = """
from mlops_nb.infrastructure import plan
azure = plan.Clients(plan.load_valid_declaration(".", "dev").where)
azure.arm.pause = 0.02
plan.apply_environment(".", "dev", azure=azure)
"""


@pytest.mark.long
def test_two_applies_at_once_finish_what_a_third_was_killed_over(azure, root):
    whole = {id for id in azure.bench.state.resources if "/deployments/" not in id}, {*azure.ground.roles}
    azure.bench.state.resources.clear()
    azure.ground.roles.clear()
    def start():
        return subprocess.Popen([sys.executable, "-c", APPLY], cwd=root, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
    killed = start()
    while len(azure.ground.writes) < 8: assert killed.poll() is None, killed.stdout.read()
    killed.kill()
    killed.communicate()
    both = [start(), start()]
    for one in both:
        said = one.communicate(timeout=300)[0]
        assert one.returncode == 0, said
    assert ({id for id in azure.bench.state.resources if "/deployments/" not in id}, {*azure.ground.roles}) == whole
    assert azure.apply(root) == []


def test_a_name_that_is_taken_is_found_before_work_begins(azure, root):
    account = lost(azure, root)
    azure.ground.taken.add(account)
    says = f"nothing was begun[^$]*storage {account}: [^$]*give it a `name:` in foundation.yml"
    with pytest.raises(UserError, match=says): azure.apply(root)
    assert {method for method, path in azure.ground.writes if "checkNameAvailability" not in path} == set()


def test_soft_deleted_names_are_found_before_work_begins(azure, root, monkeypatch):
    monkeypatch.chdir(root)
    vault = declared.resource_names(planning.load_valid_declaration(root, "dev"))["key_vault"]
    workspace = azure.at("Microsoft.MachineLearningServices/workspaces", "mlw-flights-dev")["id"].lower()
    azure.bench.state.deleted[workspace] = azure.bench.state.resources[workspace]
    dates = {"deletionDate": "2026-11-25T01:00:00Z", "scheduledPurgeDate": "2026-12-02T01:00:00Z"}
    azure.ground.vaults[vault] = {"properties": dates}
    azure.bench.state.resources = {id: one for id, one in azure.bench.state.resources.items()
                                   if not id.startswith(workspace) and f"vaults/{vault}" not in id}
    for command in ("plan", "doctor", "apply"):
        found = run("environment", command, "--on", "dev")
        assert found.exit_code == (2 if command == "apply" else 1)
        assert f"az keyvault recover --name {vault} --location westeurope, or az keyvault purge" in found.output
        assert "workspace mlw-flights-dev was deleted" in found.output
        assert f"{workspace.rpartition('/')[2]}?api-version=2024-04-01&forceToPurge=true" in found.output
    assert not [path for _, path in azure.ground.writes if "checkNameAvailability" not in path]
    azure.bench.state.deleted.clear()
    azure.ground.vaults.clear()
    assert {c.kind for c in azure.apply(root)} >= {"workspace", "key vault"} and azure.apply(root) == []


def test_what_is_not_ready_is_waited_for_and_what_failed_is_made_again(azure, root):
    names = declared.resource_names(planning.load_valid_declaration(root, "dev"))
    account = azure.at("Microsoft.Storage/storageAccounts", names["storage"])
    azure.ground.turns[account["id"].lower()] = 3
    azure.at(ML, "mlw-flights-dev/computes/cpu")["properties"]["provisioningState"] = "Failed"
    planned = azure.plan(root)
    assert kinds(planned.todo) == [("change", "compute cluster", "cpu"), ("change", "storage account", account["name"])]
    assert "state: Creating -> Succeeded" in str(planned) and "state: Failed -> Succeeded" in str(planned)
    azure.apply(root)
    assert azure.apply(root) == []


def test_a_budget_alert_that_is_taken_out_of_the_file_is_taken_out_of_azure(azure, root):
    rewrite(root, "foundation.yml", "alerts: [50, 80, 100]", "alerts: [80, 100]")
    planned = azure.plan(root)
    assert kinds(planned.todo) == [("change", "budget", "budget-mlw-flights-dev")]
    assert "notifications.Actual50:" in str(planned) and "-> none" in str(planned)
    azure.apply(root)
    budget = azure.at("Microsoft.Consumption/budgets", "budget-mlw-flights-dev")
    assert {*budget["properties"]["notifications"]} == {"Actual80", "Actual100", "Forecasted100"}
    assert azure.apply(root) == []


def test_push_comes_and_goes_with_one_setting(azure, root):
    set_setting(root/"settings.ini", "dev", "push", "queue")
    azure.ground.registered.discard("Microsoft.EventGrid")
    assert "az provider register --wait --namespace Microsoft.EventGrid" in str(azure.plan(root))
    azure.ground.registered.add("Microsoft.EventGrid")
    made = ["queue", "container", "event topic", *["role of the event topic"] * 2, "event subscription"]
    assert [(change.action, change.kind) for change in azure.plan(root).todo] == [("create", kind) for kind in made]
    assert [change.kind for change in azure.apply(root)] == made
    azure.ground.writes.clear()
    assert azure.apply(root) == [] and azure.ground.writes == []
    topic = azure.at("Microsoft.EventGrid/systemTopics", "evgt-mlw-flights-dev")
    given = [one["properties"] for one in azure.ground.roles.values()
             if one["properties"]["principalId"] == topic["identity"]["principalId"]]
    assert {one["roleDefinitionId"].rpartition("/")[2] for one in given} == {
        "c6a89b2d-59bc-44d0-9896-0f6e12d7b80a", "ba92f5b4-2d11-453d-a403-e96b0029c9fe"}

    subscription = azure.at("Microsoft.EventGrid/systemTopics", "evgt-mlw-flights-dev/eventSubscriptions/breaches")
    subscription["properties"]["filter"]["advancedFilters"][0]["values"] = ["everything"]
    assert kinds(azure.plan(root).todo) == [("change", "event subscription", "breaches")]
    azure.apply(root)
    assert "has failed due to" in subscription_filter(azure)

    set_setting(root/"settings.ini", "dev", "push", "none")
    left = [change for change in azure.plan(root).changes if change.action == "undeclared"]
    assert [change.name for change in left if change.kind != "role"] == ["evgt-mlw-flights-dev"]
    azure.apply(root, prune=True)
    assert not [one for one in azure.bench.state.resources if "systemtopics" in one] and azure.apply(root) == []
    set_setting(root/"settings.ini", "dev", "push", "phone")
    with pytest.raises(UserError, match="push is 'phone'"): azure.plan(root)


def test_a_logic_app_calls_with_a_token_that_a_person_stores(azure, root):
    for key, value in (("push", "logic_app"), ("dispatch_to", "owner/flights")):
        set_setting(root/"settings.ini", "dev", key, value)
    azure.ground.registered.discard("Microsoft.Logic")
    said = str(azure.plan(root))
    assert "az provider register --wait --namespace Microsoft.Logic" in said
    vault = resource_names(load_declaration(root, "dev"))["key_vault"]
    assert f"az keyvault secret set --vault-name {vault} --name mlops-nb-github-token" in said
    azure.ground.registered.add("Microsoft.Logic")
    made = [change.kind for change in azure.apply(root)]
    assert made[-2:] == ["dispatcher", "event subscription"] and made.count("event subscription") == 2
    azure.ground.writes.clear()
    assert azure.apply(root) == [] and azure.ground.writes == []

    secret = f"{resource_ids(load_declaration(root, 'dev'))['key_vault']}/secrets/mlops-nb-github-token"
    azure.bench.state.resources[secret.lower()] = {"id": secret, "properties": {"attributes": {"enabled": True}}}
    assert [change.kind for change in azure.apply(root)] == ["role of the dispatcher"]
    assert azure.apply(root) == [] and "expires" in str(planning.check_environment(
        load_declaration(root, "dev"), azure.azure(root))[-1])
    given, = [one["properties"] for one in azure.ground.roles.values() if one["properties"]["scope"] == secret]
    assert given["roleDefinitionId"].endswith("4633458b-17de-408a-b874-0445c86b69e6")

    app = azure.at("Microsoft.Logic/workflows", "logic-mlw-flights-dev")
    call = app["properties"]["definition"]["actions"]["choice"]["else"]["actions"]["call"]
    call["inputs"]["uri"] = "https://example.com/elsewhere"
    assert kinds(azure.plan(root).todo) == [("change", "dispatcher", "logic-mlw-flights-dev")]
    azure.apply(root)
    del azure.bench.state.resources[app["id"].lower()]      # deleted by hand: its address and identity die with it
    again = [change.kind for change in azure.apply(root)]
    assert again == ["dispatcher", "role of the dispatcher", "event subscription"]
    assert azure.apply(root) == []

    set_setting(root/"settings.ini", "dev", "push", "queue")
    todo = azure.plan(root, prune=True).todo
    assert sum(change.kind == "role" for change in todo) == 2, "that of the app, and that of the first one"
    assert {change.name for change in todo if change.kind != "role"} == {"logic-mlw-flights-dev", "dispatch"}
    azure.apply(root, prune=True)
    assert not [one for one in azure.ground.roles.values() if one["properties"]["scope"] == secret]
    assert not [one for one in azure.bench.state.resources if "/workflows/" in one or one.endswith("/dispatch")]
    assert azure.apply(root) == []
    set_setting(root/"settings.ini", "dev", "push", "logic_app")
    set_setting(root/"settings.ini", "dev", "dispatch_to", "flights")
    with pytest.raises(UserError, match="dispatch_to is 'flights'"): azure.plan(root)


def subscription_filter(azure) -> str:
    found = azure.at("Microsoft.EventGrid/systemTopics", "evgt-mlw-flights-dev/eventSubscriptions/breaches")
    return str(found["properties"]["filter"])


def test_a_cluster_of_another_size_is_replaced_and_a_region_is_refused(azure, root):
    rewrite(root, "compute/cpu.yml", "Standard_D4s_v5", "Standard_D8s_v5")
    assert kinds(azure.plan(root).todo) == [("replace", "compute cluster", "cpu")]
    azure.apply(root)
    writes = [(method, path.rpartition("/")[2]) for method, path in azure.ground.writes if "computes" in path]
    assert writes == [("DELETE", "cpu"), ("PUT", "cpu")]
    azure.ground.writes.clear()
    rewrite(root, "foundation.yml", "location: westeurope", "location: northeurope")
    with pytest.raises(UserError, match="location: 'westeurope' -> 'northeurope'"): azure.apply(root)
    assert azure.ground.writes == []


def test_a_file_that_is_deleted_is_pruned_only_when_asked(azure, root):
    (root/"pipelines/environment/compute/sweep.yml").unlink()
    rewrite(root, "dev.yml", "compute:\n  sweep: {max_instances: 8}\n", "")
    cluster = copy.deepcopy(azure.at("Microsoft.MachineLearningServices/workspaces", "mlw-flights-dev/computes/cpu"))
    mine = cluster | {"id": cluster["id"].replace("/cpu", "/mine"), "name": "mine", "tags": {}}
    azure.bench.state.resources[mine["id"].lower()] = mine
    others = kinds(c for c in azure.plan(root).changes if c.kind.endswith("compute"))
    assert others == [("undeclared", "amlcompute compute", "mine"), ("undeclared", "amlcompute compute", "sweep")]
    assert azure.apply(root) == [] or all(c.kind == "role" for c in azure.apply(root))
    assert ("delete", "amlcompute compute", "sweep") in kinds(azure.apply(root, prune=True))
    assert "mine" in {one["name"] for one in azure.bench.state.all("workspaces/computes")}


# Roles

def test_roles_given_by_hand_are_reported_and_taken_only_with_prune(azure, root):
    workspace = azure.at("Microsoft.MachineLearningServices/workspaces", "mlw-flights-dev")
    def give(principal, number):
        authorization, role = "providers/Microsoft.Authorization", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
        id = f"{workspace['id']}/{authorization}/roleAssignments/{number * 8}-1111-1111-1111-111111111111"
        properties = {"principalId": principal, "principalType": "User", "scope": workspace["id"],
                      "roleDefinitionId": f"/subscriptions/{SUBSCRIPTION}/{authorization}/roleDefinitions/{role}"}
        azure.ground.roles[id.lower()] = {"id": id, "name": id[-36:], "properties": properties,
                                          "type": "Microsoft.Authorization/roleAssignments"}
    give("33333333-3333-3333-3333-333333333333", "3")
    give(workspace["identity"]["principalId"], "4")
    count = len(azure.ground.roles)
    others = [c for c in azure.plan(root).changes if c.action == "undeclared"]
    principal, role = "33333333-3333-3333-3333-333333333333", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    assert [c.name for c in others] == [f"User {principal}: {role} on mlw-flights-dev"]
    assert azure.apply(root) == [] and len(azure.ground.roles) == count
    assert [c.action for c in azure.apply(root, prune=True)] == ["delete"] and len(azure.ground.roles) == count - 1


def test_a_role_taken_out_of_the_file_is_one_given_by_hand(azure, root):
    rewrite(root, "roles.yml", "    storage: [Storage Blob Data Contributor]\n  ml-engineers:", "  ml-engineers:")
    account = declared.resource_names(planning.load_valid_declaration(root, "dev"))["storage"]
    given = f"Group {PEOPLE['data-scientists']}: Storage Blob Data Contributor on {account}"
    assert [c.name for c in azure.plan(root).changes if c.action == "undeclared"] == [given]


def test_production_makes_the_registry_and_gives_everybodys_roles_there(azure, root):
    done = azure.apply(root, "production")
    on_registry = {c.name for c in done if c.kind == "role" and c.name.endswith("mlr-flights")}
    assert "data-scientists: AzureML Registry User on mlr-flights" in on_registry
    assert any(c.kind == "registry" for c in done)
    names = declared.resource_names(planning.load_valid_declaration(root, "production"))
    vault = azure.at("Microsoft.KeyVault/vaults", names["key_vault"], "rg-flights-production")
    assert vault["properties"]["enablePurgeProtection"] is True
    azure.ground.writes.clear()
    assert azure.apply(root, "production") == [] and azure.ground.writes == []


# Commands

def run(*words, input=None): return CliRunner().invoke(main, words, input=input, catch_exceptions=False)


def test_plan_and_apply_as_commands(azure):
    found = run("environment", "plan", "--on", "dev", "--json")
    said = json.loads(found.stdout)
    assert found.exit_code == 0 and said["to_do"] == 0 and {c["action"] for c in said["changes"]} == {"keep"}
    assert "nothing to do" in run("environment", "apply", "--on", "dev").output


def test_destroy_wants_the_name_and_takes_only_what_is_ours(azure):
    for typed in ("rg-flights-prod\n", "\n\n"):
        refused = run("environment", "destroy", "--on", "dev", input=typed)
        assert refused.exit_code in (2, 130) and azure.ground.writes == []
    assert "that is not its name" in run("environment", "destroy", "--on", "dev", input="rg-flights-prod\n").output
    group = azure.bench.state.need(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-flights-dev")
    ours, group["tags"] = group["tags"], {"owner": "somebody"}
    theirs = run("environment", "destroy", "--on", "dev", "--confirm", "rg-flights-dev")
    assert theirs.exit_code == 2 and "was not made from these files" in theirs.output and azure.ground.writes == []
    group["tags"] = ours
    assert run("environment", "destroy", "--on", "dev", input="rg-flights-dev\n").exit_code == 0
    assert not [id for id in azure.bench.state.resources if "rg-flights-dev" in id] and not azure.bench.state.deleted
    assert "nothing to delete" in run("environment", "destroy", "--on", "dev").output
    again = run("environment", "doctor", "--on", "dev")
    assert again.exit_code == 1 and "az keyvault recover --name kv-mlwflightsdev-" in again.output


def test_doctor_is_content_with_what_was_applied(azure):
    found = run("environment", "doctor", "--on", "dev")
    assert found.exit_code == 0, found.output
    notes = [line for line in found.output.splitlines() if line.startswith("note")]
    assert "fails" not in found.output and "idle" not in found.output
    assert [note for note in notes if "of GitHub's jobs is not looked at: az is not installed" not in note] == []


def test_less_quota_than_was_declared_is_told_and_fails_nothing(azure):
    azure.ground.limits.update(standardDSv5Family=4)
    found = run("environment", "doctor", "--on", "dev")
    assert found.exit_code == 0 and "lower max_instances to 1" in found.output
    assert re.search(r"note +quota +cpu: 8 cores of standardDSv5Family at most, 4 allowed", found.output)


def test_whoever_sees_only_the_group_can_plan_and_apply(azure, root, monkeypatch):
    monkeypatch.chdir(root)
    lost(azure, root)
    paths = r"[^/]+/(checkName.*|workspaces|locations/\w+/(deletedVaults/.*|vmSizes|usages))"
    azure.ground.refused = rf" /subscriptions/{SUBSCRIPTION}/providers(/{paths})?$"
    found = run("environment", "plan", "--on", "dev")
    assert found.exit_code == 0
    unasked = "providers and region, free names, soft-deleted names, quota"
    assert f"Azure does not tell you about {unasked}" in found.output
    assert "storage account" in {c.kind for c in azure.apply(root)} and azure.apply(root) == []


@pytest.mark.parametrize("hurt, says", [
    (lambda g: g.registered.discard("Microsoft.KeyVault"),
     "az provider register --wait --namespace Microsoft.KeyVault"),
    (lambda g: g.limits.update(standardDSv5Family=3), "choose a smaller size, or ask for more cores"),
    (lambda g: g.permissions[0].update(notActions=["Microsoft.Authorization/*/Write"]),
     "lacking: Microsoft.Authorization/roleAssignments/write"),
], ids=["provider", "quota", "rights"])
def test_doctor_finds(azure, hurt, says):
    hurt(azure.ground)
    found = run("environment", "doctor", "--on", "dev")
    assert found.exit_code == 1 and says in found.output


def test_doctor_finds_a_taken_name_and_a_region_without_azure_ml(azure, root, monkeypatch):
    monkeypatch.chdir(root)
    rewrite(root, "foundation.yml", "location: westeurope", "location: antarctica")
    rewrite(root, "foundation.yml", "  sku: Basic ", "  name: everybodys\n  sku: Basic ")
    azure.ground.taken.add("everybodys")
    found = run("environment", "doctor", "--on", "dev").output
    assert "Azure ML is not offered in antarctica" in found
    assert "container registry everybodys: The name everybodys is already taken." in found


def test_doctor_lists_what_runs_for_nothing(azure):
    workspace = azure.at("Microsoft.MachineLearningServices/workspaces", "mlw-flights-dev")["id"]
    def put(path, properties, **more):
        id = f"{workspace}/{path}"
        azure.bench.state.resources[id.lower()] = {"id": id, "name": path.rpartition("/")[2], "type": "t",
                                                   "location": "westeurope", "properties": properties, **more}
    for name in ("busy", "sleepy", "empty"):
        put(f"onlineEndpoints/{name}", {"authMode": "Key", "provisioningState": "Succeeded"})
    for name in ("busy", "sleepy"): put(f"onlineEndpoints/{name}/deployments/blue", {"endpointComputeType": "Managed"})
    instance = {"vmSize": "Standard_D4s_v5", "state": "Running", "createdBy": {"userName": "Anna"}}
    put("computes/anna", {"computeType": "ComputeInstance", "provisioningState": "Succeeded", "properties": instance})
    azure.ground.metrics |= {"busy": [0, 3], "sleepy": [0, 0]}
    lines = [line for line in run("environment", "doctor", "--on", "dev").output.splitlines()]
    said = "\n".join(lines)
    assert "endpoint sleepy with blue: no request in 7 days" in said
    assert ("az ml online-endpoint delete --yes --name sleepy "
            "--workspace-name mlw-flights-dev --resource-group rg-flights-dev") in said
    assert "az ml compute stop --name anna" in said and "endpoint busy" not in said and "endpoint empty" not in said


def test_an_environment_of_somebody_else_is_only_verified(azure, tmp_path, monkeypatch):
    root = project(tmp_path/"theirs", managed="false", compute="gpu")
    monkeypatch.chdir(root)
    found = run("environment", "plan", "--on", "dev")
    assert found.exit_code == 1 and "1 missing" not in found.output
    assert re.search(r"missing\s+compute cluster\s+gpu", found.output)
    assert re.search(r"missing\s+registry\s+mlr-flights", found.output)
    assert "resource group" not in found.output
    told = run("environment", "doctor", "--on", "dev")
    assert told.exit_code == 1 and "there is no gpu" in told.output and "is in no file" not in told.output
    assert "name" not in told.output.partition("gpu")[0]
    for command in ("apply", "destroy"):
        refused = run("environment", command, "--on", "dev")
        assert refused.exit_code == 2 and "managed = false" in refused.output and azure.ground.writes == []


# Trouble

def test_azure_that_is_busy_is_asked_again(azure, root):
    azure.at("Microsoft.Consumption/budgets", "budget-mlw-flights-dev")["properties"]["amount"] = 5000
    azure.bench.fail(r"PUT .*/budgets/", status=429, times=2)
    azure.bench.fail(r"GET .*/computes/cpu", status=503, times=1)
    assert kinds(azure.apply(root)) == [("change", "budget", "budget-mlw-flights-dev")]
    assert azure.apply(root) == []


@pytest.mark.parametrize("refused", [r"PUT .*/budgets/", r"PUT .*/computes/cpu"])
def test_a_refusal_of_azure_says_what_helps(azure, root, monkeypatch, refused):
    monkeypatch.chdir(root)
    azure.at("Microsoft.Consumption/budgets", "budget-mlw-flights-dev")["properties"]["amount"] = 5000
    cpu = azure.at(ML, "mlw-flights-dev/computes/cpu")
    cpu["properties"]["properties"]["scaleSettings"]["maxNodeCount"] = 3
    azure.ground.refused = refused
    found = run("environment", "apply", "--on", "dev")
    assert found.exit_code == 1, found.output
    assert "AuthorizationFailed" in found.output and "ask for the role Contributor" in found.output
    assert "Traceback" not in found.output
    azure.ground.refused = ""
    assert run("environment", "apply", "--on", "dev").exit_code == 0


# Image

def test_files_of_the_image_that_storage_refuses_end_with_what_helps(azure, root, monkeypatch):
    monkeypatch.chdir(root)
    rewrite(root, "requirements.txt", "# This file was", "# This file is")
    azure.bench.fail(r"PUT .*blob\.core\.windows\.net.*LocalUpload", status=403, times=99)
    found = run("environment", "apply", "--on", "dev")
    assert found.exit_code == 1 and "create     image" in found.output and "Traceback" not in found.output, found.output
    assert "AuthorizationFailed" in found.output and "fix:" in found.output
    azure.bench.faults.__init__()
    assert run("environment", "apply", "--on", "dev").exit_code == 0


def test_a_base_of_docker_hub_meets_its_limit_and_doctor_says_so_before(azure, root, monkeypatch):
    monkeypatch.chdir(root)
    assert [one.ok for one in image.check_base(root)] == [True]
    rewrite(root, "Dockerfile", "mcr.microsoft.com/devcontainers/python:3.12-bookworm", "python:3.12-slim-bookworm")
    [found] = image.check_base(root)
    assert not found.ok and "python:3.12-slim-bookworm of Docker Hub, which limits pulls" in found.found
    assert "base image" in run("environment", "doctor", "--on", "dev").output
    refused = run("environment", "apply", "--on", "dev")
    assert refused.exit_code == 1 and "toomanyrequests" in refused.output, refused.output


def test_the_build_context_is_small_and_shown(root, monkeypatch):
    monkeypatch.chdir(root)
    assert {*image.build_context(root)} == {"Dockerfile", "requirements.txt"}
    assert sum(image.build_context(root).values()) < 1_000_000
    assert re.search(r"a build in Azure is sent: Dockerfile \d+ kB, requirements.txt \d+ kB",
                     run("environment", "image").output)


def test_the_identity_of_jobs_is_made_attached_and_given_its_roles(azure):
    workspace = azure.at(ML, "mlw-flights-dev")
    [id] = workspace["identity"]["userAssignedIdentities"]
    assert id.endswith("userAssignedIdentities/id-flights-dev")
    assert {*workspace["identity"]["type"].lower().split(",")} == {"systemassigned", "userassigned"}
    for name in ("cpu", "sweep"):
        cluster = azure.at(ML, f"mlw-flights-dev/computes/{name}")
        assert [*map(str.lower, cluster["identity"]["userAssignedIdentities"])] == [id.lower()]
    principal = azure.bench.state.need(id)["properties"]["principalId"]
    given = {one["properties"]["roleDefinitionId"].rpartition("/")[2] for one in azure.ground.roles.values()
             if one["properties"]["principalId"] == principal}
    wanted = {role for named in load(roles.roles_file(azure.root))["dev"]["identity"].values() for role in named}
    assert given == {roles.ROLES[role] for role in wanted}


def test_an_identity_that_somebody_took_off_is_attached_again(azure):
    workspace = azure.at(ML, "mlw-flights-dev")
    workspace["identity"] = {**workspace["identity"], "type": "SystemAssigned", "userAssignedIdentities": {}}
    planned = azure.plan(azure.root)
    assert kinds(planned.todo) == [("change", "workspace", "mlw-flights-dev")]
    assert "identity: none -> id-flights-dev" in str(planned)
    azure.apply(azure.root)
    assert azure.at(ML, "mlw-flights-dev")["identity"]["userAssignedIdentities"] and azure.apply(azure.root) == []


def test_only_a_new_lock_builds_a_new_image(azure, root):
    before = image.image_reference(root)
    rewrite(root, "roles.yml", "# Who may do what.", "# Who may do what!")
    assert image.image_reference(root) == before and azure.plan(root).todo == []
    rewrite(root, "requirements.txt", "# This file was", "# This file is")
    assert image.image_reference(root) != before
    assert kinds(azure.plan(root).todo) == [("create", "image", image.image_reference(root))]


def test_a_run_and_azure_call_the_image_by_one_name(tmp_path):
    from mlops_nb.azure.staging import StagingFolder
    from mlops_nb.jobs.environments import image_tag
    file = ROOT/"pipelines/environment/environment.yml"
    sent = StagingFolder(tmp_path).environment("file:environment.yml", file.parent)
    tag = image_tag("file:environment.yml", file.parent)
    assert tag == {"mlops_nb.image": sent.removeprefix("azureml:")} == {"mlops_nb.image": image.image_reference(ROOT)}


def test_every_run_is_tagged_with_its_image(tmp_path, monkeypatch):
    for name in ("Dockerfile", "requirements.txt", "environment.yml"):
        shutil.copyfile(ROOT/"pipelines/environment"/name, tmp_path/name)
    (tmp_path/"settings.ini").write_text("[project]\nexperiment = e\nmodel = m\nenvironment = environment.yml\n")
    job = "type: command\ncommand: echo done\nenvironment: file:environment.yml\ncompute: azureml:cpu\n"
    (tmp_path/"job.yml").write_text(job)
    monkeypatch.chdir(tmp_path)
    ran = run("run", "job.yml")
    assert ran.exit_code == 0, ran.output
    with closing(sqlite3.connect(tmp_path/".mlops/mlflow.db")) as db:
        found = db.execute("SELECT value FROM tags WHERE key = 'mlops_nb.image'").fetchall()
    assert found == [(image.image_reference(tmp_path),)]


# Files

@pytest.mark.parametrize("name, old, new, says", [
    ("dev.yml", "budget: {amount: 200}", "budgt: {amount: 200}", "dev.yml:4: environment has no key 'budgt'"),
    ("dev.yml", "  sweep: {max_instances: 8}", "  sweap: {max_instances: 8}",
     "dev.yml:6: no file in .*compute is named sweap"),
    ("dev.yml", "{max_instances: 8}", "{max_instances: many}", "dev.yml:6: compute.sweep.max_instances is 'many'"),
    ("foundation.yml", "location: westeurope ", "location: West Europe ",
     "foundation.yml:5: location is 'West Europe'"),
    ("foundation.yml", "retention_days: 7 ", "retention_days: 3 ", "foundation.yml:14: key_vault.retention_days is 3"),
    ("foundation.yml", "sku: Basic ", "sku: Cheap ", "foundation.yml:22: container_registry.sku is 'Cheap'"),
    ("compute/cpu.yml", "tier: dedicated", "tier: cheap", "cpu.yml:7: tier is 'cheap'"),
    ("compute/cpu.yml", "min_instances: 0", "min_instances: 0\nvnet: x",
     "cpu.yml:9: compute cluster has no key 'vnet'"),
    ("workspace.yml", "public_network_access: enabled", "public_network_access: on",
     "workspace.yml:6: public_network_access is True"),
    ("datastore/data.yml", "type: azure_blob", "type: azure_blub", "data.yml:5: type is 'azure_blub'"),
    ("registry.yml", "location: westeurope\nrepl", "repl", "registry needs 'location'"),
])
def test_mistakes_are_found_without_azure(root, name, old, new, says):
    rewrite(root, name, old, new)
    if name == "registry.yml": rewrite(root, "production.yml", "tags:", "tags:")
    on = "production" if name == "registry.yml" else "dev"
    with pytest.raises(UserError, match=says): declared.load_declaration(root, on)


@pytest.mark.parametrize("old, new, says", [
    ("workspace: [AzureML Data Scientist]", "workspace: [AzureML Data Scientst]",
     "roles.yml:22: dev.data-scientists.workspace.0 is 'AzureML Data Scientst'"),
    ("  readers: {workspace: [Reader]}", "  reader: {workspace: [Reader]}", "dev: no group reader"),
    ("    workspace: [AzureML", "    workspce: [AzureML", "scopes has no key 'workspce'"),
    (PEOPLE["readers"], "readers@example.com", "groups.readers.id is 'readers@example.com'"),
])
def test_mistakes_in_roles_are_found_without_azure(root, old, new, says):
    rewrite(root, "roles.yml", old, new)
    with pytest.raises(UserError, match=re.escape(says)):
        roles.load_grants(root, declared.load_declaration(root, "dev"))


def test_azures_own_sdk_loads_every_file():
    from azure.ai.ml import load_compute, load_environment, load_registry, load_workspace
    folder = ROOT/"pipelines/environment"
    assert [load_compute(path).name for path in sorted((folder/"compute").glob("*.yml"))] == ["cpu", "sweep"]
    assert load_workspace(folder/"workspace.yml").name and load_registry(folder/"registry.yml").location == "westeurope"
    assert load_environment(folder/"environment.yml").inference_config["scoringRoute"]["path"] == "/score"


def test_the_three_differ_in_few_lines():
    for on in declared.ENVIRONMENTS:
        text = (ROOT/f"pipelines/environment/{on}.yml").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith(("#", "$"))]
        assert len(lines) <= 10


# Audit

class Advisories(BaseHTTPRequestHandler):
    "OSV's query interface, which knows one weakness"
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked["package"]["name"])
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
        affected = [{"package": {"name": "pandas", "ecosystem": "PyPI"}, "ranges": ranges}]
        bad = {"vulns": [{"id": "PYSEC-2026-1", "summary": "reads too much", "affected": affected}]}
        said = json.dumps(bad if asked["package"]["name"] == self.server.weak else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_): pass


@pytest.fixture
def advisories():
    server = HTTPServer(("127.0.0.1", 0), Advisories)
    server.asked, server.weak = [], ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def small(root):
    "A lock of two packages"
    pins = (("pandas==2.3.3", "a"), ("numpy==2.4.6", "b"))
    lock = "\n".join(f"{name} \\\n    --hash=sha256:{digit * 64}" for name, digit in pins)
    (root/"pipelines/environment/requirements.txt").write_text(lock + "\n")
    return root


def test_an_audit_asks_about_every_package(small, advisories):
    address = f"http://127.0.0.1:{advisories.server_port}/v1/query"
    assert image.audit(small, address=address).clean and sorted(advisories.asked) == ["numpy", "pandas"]
    advisories.weak = "pandas"
    found = image.audit(small, address=address)
    weak = found.found[0]
    assert not found.clean and (weak.package, weak.id, weak.fixed) == ("pandas 2.3.3", "PYSEC-2026-1", ("99.0",))


def test_a_database_that_is_out_of_reach_is_no_good_news(small, monkeypatch):
    monkeypatch.chdir(small)
    found = run("environment", "image", "--audit", "--osv-url", "http://127.0.0.1:9/v1/query")
    assert found.exit_code == 1 and "cannot be reached, so nothing was audited" in found.output


def test_the_bill_of_materials_is_valid(small, monkeypatch, tmp_path):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    monkeypatch.chdir(small)
    assert run("environment", "image", "--sbom", str(tmp_path/"sbom.json")).exit_code == 0
    text = (tmp_path/"sbom.json").read_text()
    hashes = {c["purl"]: c["hashes"][0]["content"][0] for c in json.loads(text)["components"]}
    assert hashes == {"pkg:pypi/numpy@2.4.6": "b", "pkg:pypi/pandas@2.3.3": "a"}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
