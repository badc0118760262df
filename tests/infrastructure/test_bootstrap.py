"""From two logins to workflows that sign in: commands go to programs that refuse what `az` and `gh` would refuse"""
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main
from mlops_nb.infrastructure.roles import ROLES
from mlops_nb.schemas.documents import load
from mlops_nb.settings import load_settings

from tests.support import ROOT

EMPTY = {"az_login": True, "gh_login": True, "apps": {}, "principals": {}, "roles": [], "groups": {}, "providers": {},
         "environments": {}, "variables": {}, "protection": None}
ENVIRONMENTS = ("dev", "staging", "production")
GRANTOR = "Role Based Access Control Administrator"


class Clouds:
    "A project, and what Azure and GitHub know"
    def __init__(self, folder: Path):
        self.folder, self.root = folder/"fake", folder/"project"
        for name in ("az", "gh"):
            (self.folder/"bin").mkdir(parents=True, exist_ok=True)
            program = (ROOT/"tests/support/cloud_clis.py").read_text()
            (self.folder/"bin"/name).write_text(f"#!{sys.executable} -IS\n{program}")
            (self.folder/"bin"/name).chmod(0o755)
        for name in ("pipelines/environment", ".github/workflows"): shutil.copytree(ROOT/name, self.root/name)
        shutil.copyfile(ROOT/"settings.ini", self.root/"settings.ini")
        self.set(**EMPTY)

    def set(self, **more):
        file = self.folder/"state.json"
        file.write_text(json.dumps((self.state if file.exists() else {}) | more))

    @property
    def state(self) -> dict: return json.loads((self.folder/"state.json").read_text())
    @property
    def calls(self) -> list: return [json.loads(line) for line in (self.folder/"calls.jsonl").read_text().splitlines()]
    def run(self, *words, input=None):
        return CliRunner().invoke(main, ["bootstrap", *words], input=input, catch_exceptions=False)


def entered(made, patch):
    "Work in a project, with its programs first on the PATH"
    patch.setenv("PATH", f"{made.folder/'bin'}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("MLOPS_NB_FAKE", str(made.folder))
    patch.chdir(made.root)
    return made


@pytest.fixture
def clouds(tmp_path, monkeypatch): return entered(Clouds(tmp_path), monkeypatch)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    "A project after `mlops-nb bootstrap`"
    with pytest.MonkeyPatch.context() as patch:
        made = entered(Clouds(tmp_path_factory.mktemp("once")), patch)
        assert made.run("--yes", "--reviewer", "octocat").exit_code == 0
        return made


@pytest.fixture
def done(once, clouds):
    "A copy of it"
    clouds.set(**once.state)
    for name in ("settings.ini", "pipelines/environment/roles.yml"): shutil.copyfile(once.root/name, clouds.root/name)
    return clouds


def test_everything_is_shown_before_anything_is_run(clouds):
    found = clouds.run("--dry-run")
    assert found.exit_code == 0 and clouds.state == EMPTY
    assert "az ad app create --display-name octo/flights-dev" in found.output and "'<dev.app>'" in found.output
    assert clouds.run(input="n\n").exit_code in (1, 130) and clouds.state == EMPTY
    assert not [call for call in clouds.calls if {"create", "set", "PUT", "register", "delete", "DELETE"} & {*call}]


def test_two_logins_are_enough(once):
    clouds = once
    state, settings = clouds.state, load_settings(clouds.root)
    subjects = {app["displayName"]: [one["subject"] for one in app["credentials"]] for app in state["apps"].values()}
    names = ("plan", *ENVIRONMENTS)
    assert subjects == {f"octo/flights-{name}": [f"repo:octo/flights:environment:{name}"] for name in names}
    clients = {name: state["variables"][name]["AZURE_CLIENT_ID"] for name in names}
    assert clients == {app["displayName"].rpartition("-")[2]: id for id, app in state["apps"].items()}
    assert state["variables"][""] == {"AZURE_TENANT_ID": "00000000-0000-4000-8000-000000000001",
                                      "AZURE_SUBSCRIPTION_ID": "00000000-0000-4000-8000-000000000002"}
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
    assert broken.exit_code == 1 and "give the same command again" in broken.output
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


@pytest.mark.parametrize("missing, says", [({"az_login": False}, "az login"), ({"gh_login": False}, "gh auth login")])
def test_a_missing_login_is_named(clouds, missing, says):
    clouds.set(**missing)
    found = clouds.run("--dry-run")
    assert found.exit_code == 2 and f"fix: {says}" in found.output


def test_a_missing_program_is_named(clouds, monkeypatch):
    monkeypatch.setenv("PATH", str(clouds.folder))
    found = clouds.run("--dry-run")
    assert found.exit_code == 2 and "az is not installed" in found.output
