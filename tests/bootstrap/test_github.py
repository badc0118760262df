"""From two logins to workflows that sign in: commands go to programs that refuse what `az` and `gh` would refuse"""
import re

import pytest

from mlops_nb.bootstrap.github import check_sign_in
from mlops_nb.infrastructure.roles import ROLES
from mlops_nb.schemas.documents import load
from mlops_nb.serving.settings import DeploymentSettings
from mlops_nb.settings import load_settings

from tests.support import ROOT
from tests.support.clouds import EMPTY, ENVIRONMENTS, Clouds, entered

GRANTOR = "Role Based Access Control Administrator"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    "A project after `mlops-nb bootstrap`"
    with pytest.MonkeyPatch.context() as patch:
        made = entered(Clouds(tmp_path_factory.mktemp("once")), patch)
        assert made.run("--yes", "--reviewer", "octocat").exit_code == 0
        return made


def test_everything_is_shown_before_anything_is_run(tmp_path, monkeypatch):
    clouds = entered(Clouds(tmp_path), monkeypatch, processes=True)
    found = clouds.run("--dry-run")
    assert found.exit_code == 0 and clouds.state == EMPTY, found.output
    assert "az ad app create --display-name octo/flights-dev" in found.output and "'<dev.app>'" in found.output
    assert clouds.run(input="n\n").exit_code in (1, 130) and clouds.state == EMPTY
    assert not [call for call in clouds.calls if {"create", "set", "PUT", "register", "delete", "DELETE"} & {*call}]


def test_two_logins_are_enough(once):
    clouds = once
    state, settings = clouds.state, load_settings(clouds.root)
    subjects = {app["displayName"]: [one["subject"] for one in app["credentials"]] for app in state["apps"].values()}
    names = ("plan", *ENVIRONMENTS)
    assert subjects == {f"octo/flights-{name}": [f"repo:octo@123456/flights@456789:environment:{name}"]
                        for name in names}
    clients = {name: state["variables"][name]["AZURE_CLIENT_ID"] for name in names}
    assert clients == {app["displayName"].rpartition("-")[2]: id for id, app in state["apps"].items()}
    assert state["variables"][""] == {"AZURE_TENANT_ID": "00000000-0000-4000-8000-000000000001",
                                      "AZURE_SUBSCRIPTION_ID": "00000000-0000-4000-8000-000000000002",
                                      "RELEASE_APPROVAL": "environment", "PAGES": "false"}
    rules = state["environments"]["production"]["protection_rules"]
    reviewers = [rule["reviewers"] for rule in rules if rule["type"] == "required_reviewers"]
    assert reviewers == [[{"type": "User", "reviewer": {"id": 583231}}]]
    assert settings.dev.configured and settings.production.workspace == "mlw-flight-delay-production"
    assert settings.staging.registry == "mlr-flight-delay"
    ids = load(clouds.root/"pipelines/environment/roles.yml")["groups"]
    assert {ids["plan-workflow"]["id"], *ids["workflows"]["id"].values()} == {*state["principals"]}


def test_an_identity_reaches_its_own_group_only(once):
    state = once.state
    name = {principal["id"]: state["apps"][principal["appId"]]["displayName"].rpartition("-")[2]
            for principal in state["principals"].values()}
    given = sorted((name[one["principalId"]], one["role"], one["scope"].rpartition("-")[2]) for one in state["roles"])
    assert given == sorted([("plan", "Reader", on) for on in ENVIRONMENTS]
                           + [(on, role, on) for on in ENVIRONMENTS for role in ("Contributor", GRANTOR)])
    bound = [one["condition"] for one in state["roles"] if one["role"].startswith("Role Based")]
    allowed = {*ROLES.values()} - {ROLES[GRANTOR]}
    assert len(bound) == 3 and all({*re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", text)} == allowed for text in bound)


def test_a_second_time_there_is_nothing_to_do(done):
    names = ("settings.ini", "pipelines/environment/roles.yml")
    before, files = done.state, [(done.root/name).read_text() for name in names]
    found = done.run("--yes", "--reviewer", "octocat")
    assert "nothing to do" in found.output and done.state == before
    assert files == [(done.root/name).read_text() for name in ("settings.ini", "pipelines/environment/roles.yml")]


def test_the_identity_of_a_repository_with_a_longer_name_is_another(clouds):
    theirs = {"appId": "1", "id": "2", "displayName": "octo/flights-plan-dev", "credentials": []}
    clouds.set(apps={"1": theirs})
    assert clouds.run("--yes").exit_code == 0 and len(clouds.state["apps"]) == 5
    assert clouds.run("--undo", "--yes").exit_code == 0 and clouds.state["apps"] == {"1": theirs}


@pytest.mark.parametrize("at", ["federated-credential create", "environments/staging --input"])
def test_what_was_interrupted_goes_on(clouds, at):
    clouds.set(**{"break": at})
    broken = clouds.run("--yes")
    assert broken.exit_code == 1 and "run the same command again" in broken.output
    clouds.set(**{"break": ""})
    assert clouds.run("--yes").exit_code == 0
    assert len(clouds.state["apps"]) == 4 and len(clouds.state["roles"]) == 9
    assert "nothing to do" in clouds.run("--yes").output


def test_what_somebody_changed_is_put_back(done):
    clouds, state = done, done.state
    state["environments"]["production"]["protection_rules"] = []
    state["variables"]["dev"]["AZURE_CLIENT_ID"] = "somebody else"
    clouds.set(**state)
    found = clouds.run("--yes", "--reviewer", "octocat")
    assert "2 commands" in found.output and clouds.state["environments"]["production"]["protection_rules"]
    assert clouds.state["variables"]["dev"]["AZURE_CLIENT_ID"] in clouds.state["apps"]


def test_undo_takes_back_all_but_the_groups(done):
    clouds, roles = done, (ROOT/"pipelines/environment/roles.yml").read_text()
    shown = clouds.run("--undo", "--dry-run")
    assert clouds.state["apps"] and "az ad app delete" in shown.output
    assert clouds.run("--undo", "--yes").exit_code == 0
    state = clouds.state
    keys = ("apps", "principals", "roles", "environments", "protection")
    assert {key: state[key] for key in keys} == {key: EMPTY[key] for key in keys}
    assert not any(state["variables"].values()) and len(state["groups"]) == 3
    left = (clouds.root/"pipelines/environment/roles.yml").read_text()
    assert [*map(str.rstrip, left.splitlines())] == [*map(str.rstrip, roles.splitlines())]
    assert "nothing to undo" in clouds.run("--undo", "--yes").output


def subjects(state: dict) -> dict:
    return {app["displayName"].rpartition("-")[2]: [one["subject"] for one in app["credentials"]]
            for app in state["apps"].values()}


@pytest.mark.parametrize("subject, starts", [
    ("old", "repo:octo/flights"), ("immutable", "repo:octo@123456/flights@456789"), ("custom", "repository_id:456789"),
    ("organisation", "repository_id:456789"),
])
def test_the_subject_that_github_sends_is_registered(clouds, subject, starts):
    clouds.set(subject=subject)
    assert clouds.run("--yes").exit_code == 0
    assert subjects(clouds.state) == {name: [f"{starts}:environment:{name}"] for name in ("plan", *ENVIRONMENTS)}
    assert "nothing to do" in clouds.run("--yes").output


def test_a_subject_of_before_is_replaced(clouds):
    clouds.set(subject="old")
    clouds.run("--yes")
    clouds.set(subject="immutable")
    found = clouds.run("--yes")
    assert found.exit_code == 0 and "4 commands" in found.output and "AADSTS700213" in found.output
    assert subjects(clouds.state)["dev"] == ["repo:octo@123456/flights@456789:environment:dev"]
    assert "nothing to do" in clouds.run("--yes").output


def test_doctor_compares_what_is_registered_with_what_github_sends(done):
    assert [one.ok for one in check_sign_in(done.root, "dev")] == [True]
    done.set(subject="old")
    [found] = check_sign_in(done.root, "dev")
    assert not found.ok and found.needed and found.fix == "mlops-nb bootstrap"
    sent, registered = "repo:octo/flights:environment:dev", "repo:octo@123456/flights@456789"
    assert f"GitHub sends {sent}, registered is {registered}" in found.found
    assert "AADSTS700213" in found.found
    done.set(gh_login=False)
    [found] = check_sign_in(done.root, "dev")
    assert not found.needed and "gh is not logged in" in found.found


def workflow_identities(state: dict) -> dict:
    "The client ids of the environments, wherever they are kept"
    apart = {name: state["variables"].get(name, {}).get("AZURE_CLIENT_ID") for name in ("plan", *ENVIRONMENTS)}
    together = state["variables"].get("", {})
    return {name: id or together.get(f"AZURE_CLIENT_ID_{name.upper()}") for name, id in apart.items()}


@pytest.mark.parametrize("visibility, plan, environments, approval, pages, says", [
    ("public", "", True, "environment", "true", "a public repository on plan unknown has environments, required"),
    ("private", "enterprise", True, "environment", "false", "everybody could read it; --pages publishes it anyway"),
    ("private", "team", True, "command", "false", "waits for `mlops-nb release approve` by one of: ada, octocat"),
    ("private", "free", False, "command", "false", "jobs of any branch can sign in as any environment"),
    ("private", "", False, "command", "false", "GitHub does not say which plan it is: --github-plan NAME does"),
])
def test_what_a_plan_does_not_allow_is_done_otherwise(clouds, visibility, plan, environments, approval, pages, says):
    clouds.set(visibility=visibility, plan=plan)
    found = clouds.run("--yes", "--reviewer", "octo/releasers")
    state, approvers = clouds.state, load_settings(clouds.root).section(DeploymentSettings).approvers
    assert found.exit_code == 0 and says in found.output, found.output
    assert bool(state["environments"]) is environments is bool(state["protection"])
    assert {*workflow_identities(state).values()} == {*state["apps"]}
    assert (state["variables"][""]["RELEASE_APPROVAL"], state["variables"][""]["PAGES"]) == (approval, pages)
    assert bool(state["pages"]) is (pages == "true")
    assert approvers == ("ada, octocat" if approval == "command" else "")
    assert "nothing to do" in clouds.run("--yes", "--reviewer", "octo/releasers").output
    assert clouds.run("--undo", "--yes").exit_code == 0
    assert not any(clouds.state["variables"].values()) and not clouds.state["pages"]


def test_a_plan_that_github_does_not_tell_can_be_said(clouds):
    clouds.set(plan="team", tells_plan=False)
    told = clouds.run("--dry-run", "--github-plan", "team")
    assert "on plan team has environments, protected branches, Pages; not required reviewers" in told.output
    assert "environments/production --input" in told.output


@pytest.mark.parametrize("missing, says", [({"az_login": False}, "az login"), ({"gh_login": False}, "gh auth login")])
def test_a_missing_login_is_named(clouds, missing, says):
    clouds.set(**missing)
    found = clouds.run("--dry-run")
    assert found.exit_code == 2 and f"fix: {says}" in found.output


def test_a_missing_program_is_named(clouds, monkeypatch):
    monkeypatch.setenv("PATH", str(clouds.folder))
    found = clouds.run("--dry-run")
    assert found.exit_code == 2 and "az is not installed" in found.output
