"From one login to pipelines that sign in: commands go to programs that refuse what `az` and Azure DevOps refuse"
import json

import pytest
from click.testing import CliRunner

from mlops_nb.bootstrap.parts import examine_azure_devops
from mlops_nb.bootstrap.pipelines import Use, list_uses, list_validations
from mlops_nb.cli.main import main
from mlops_nb.schemas.documents import load
from mlops_nb.settings import load_settings

from tests.support import ROOT
from tests.support.clouds import EMPTY, ENVIRONMENTS, Clouds, entered
from tests.support.devops_cli import ADA, BEN, SCOPE

HOME = ("--azure-devops", "--organization", "team", "--project", "flights")
NAMES = ("plan", *ENVIRONMENTS)
WRITES = {"create", "register", "delete", "post", "patch", "push", "add"}


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    "A project after `mlops-nb bootstrap --azure-devops`"
    with pytest.MonkeyPatch.context() as patch:
        made = entered(Clouds(tmp_path_factory.mktemp("once")), patch)
        found = made.run(*HOME, "--yes", "--reviewer", "ben@example.com")
        assert found.exit_code == 0, found.output
        return made


def devops(state: dict) -> dict: return state["devops"]
def change(clouds, **more): clouds.set(devops={**devops(clouds.state), **more})


def writes(clouds) -> list:
    "The calls that change something, but for checks that ask with POST"
    return [call for call in clouds.calls if WRITES & {*call}]


def test_everything_is_shown_before_anything_is_run(clouds):
    found = clouds.run(*HOME, "--dry-run")
    assert found.exit_code == 0 and clouds.state == EMPTY and not writes(clouds), found.output
    assert "az devops project create --name flights" in found.output and "'<dev.app>'" in found.output
    assert "project flights, which is made" in found.output and "production and rollback wait for" in found.output
    assert clouds.run(*HOME, input="n\n").exit_code in (1, 130) and clouds.state == EMPTY


def test_one_login_is_enough(once):
    state, made = once.state, devops(once.state)
    connections = {one["name"]: one for one in made["endpoints"]}
    assert {*connections} == {"breach", *(f"azure-{name}" for name in NAMES)}
    for app in state["apps"].values():
        one = connections[f"azure-{app['displayName'].rpartition('-')[2]}"]
        given = one["authorization"]["parameters"]
        assert given["serviceprincipalid"] == app["appId"] and "key" not in "".join(given)
        [trusted] = app["credentials"]
        assert trusted["issuer"] == given["workloadIdentityFederationIssuer"]
        assert trusted["subject"] == given["workloadIdentityFederationSubject"]
    assert len(state["roles"]) == 9 and made["branches"] == ["main"]
    assert made["remotes"] == {"azure": "https://dev.azure.com/team/flights/_git/flights"}
    assert [one["name"] for one in made["pipelines"]] == [path.stem for path in
                                                          sorted((ROOT/".azure-pipelines").glob("*.yml"))]


def checks(made: dict, kind: str, name: str) -> dict:
    "The checks on something by their types"
    return {one["type"]["name"]: one["settings"] for one in made["checks"]
            if (one["resource"]["type"], one["resource"]["name"]) == (kind, name)}


def test_people_approve_production_and_one_run_goes_at_a_time(once):
    made = devops(once.state)
    found = {name: {*checks(made, "environment", name)} for name in ("dev", "staging", "production", "rollback")}
    assert found == {"dev": {"ExclusiveLock"}, "staging": {"ExclusiveLock"}, "rollback": {"Approval"},
                     "production": {"Approval", "ExclusiveLock"}}
    assert checks(made, "environment", "production")["Approval"]["approvers"] == [{"id": BEN["id"]}]
    controlled = {name: checks(made, "endpoint", f"azure-{name}") for name in NAMES}
    assert not controlled["plan"]
    assert {one["Task Check"]["inputs"]["allowedBranches"] for name, one in controlled.items() if name != "plan"} == {
        "refs/heads/main"}


def test_a_pipeline_may_use_what_its_file_names_and_no_more(once):
    made = devops(once.state)
    pipelines = {one["id"]: one["name"] for one in made["pipelines"]}
    ids = {(kind, str(one["id"])): one["name"] for kind, kept in (("endpoint", "endpoints"), (
        "environment", "environments")) for one in made[kept]}
    found = {ids[tuple(key.split("/"))]: {pipelines[id] for id in kept} for key, kept in made["permitted"].items()}
    assert found["azure-plan"] == {"environment"} and found["breach"] == {"monitoring"}
    assert found["azure-production"] == {"deployment", "environment", "monitoring"}
    assert found["rollback"] == {"deployment"}
    assert made["aces"] and {bit for kept in made["aces"].values() for bit in kept.values()} == {128, 16384}


def test_the_branch_takes_reviewed_and_tested_pull_requests(once):
    made = devops(once.state)
    names = {one["id"]: one["name"] for one in made["pipelines"]}
    tested = {names[one["settings"]["buildDefinitionId"]]: one["settings"].get("filenamePatterns")
              for one in made["policies"] if "buildDefinitionId" in one["settings"]}
    assert {*tested} == {"ci", "docs", "environment"} and "/pipelines/environment/*" in tested["environment"]
    assert any(one["settings"].get("requiredReviewerIds") == [BEN["id"]] for one in made["policies"])
    assert any(one["settings"].get("creatorVoteCounts") is False for one in made["policies"])
    assert all(one["isBlocking"] and one["isEnabled"] for one in made["policies"])


def test_the_files_of_the_repository_are_filled_in(once):
    settings, ids = load_settings(once.root), load(once.root/"pipelines/environment/roles.yml")["groups"]
    assert settings.staging.workspace == "mlw-flight-delay-staging"
    assert settings.production.dispatch_to == (
        "https://dev.azure.com/team/_apis/public/distributedtask/webhooks/breach?api-version=6.0-preview")
    assert {ids["plan-workflow"]["id"], *ids["workflows"]["id"].values()} == {*once.state["principals"]}


@pytest.mark.parametrize("words", [HOME, ("--azure-devops",)], ids=["said", "read from the remote"])
def test_a_second_time_there_is_nothing_to_do(done, words):
    before = done.state
    found = done.run(*words, "--yes")
    assert "nothing to do" in found.output and done.state == before, found.output


@pytest.mark.parametrize("at", ["serviceendpoint/endpoints?api-version=7.1 --output json --body", "pipelines create",
                                "policy build create", "remote add"])
def test_what_was_interrupted_goes_on(clouds, once, at):
    clouds.set(**{"break": at})
    broken = clouds.run(*HOME, "--yes")
    assert broken.exit_code == 1 and "run the same command again" in broken.output, broken.output
    clouds.set(**{"break": ""})
    assert clouds.run(*HOME, "--yes").exit_code == 0
    found, wanted = devops(clouds.state), devops(once.state)
    kinds = ("projects", "endpoints", "environments", "checks", "pipelines", "policies", "permitted")
    assert {kind: len(found[kind]) for kind in kinds} == {kind: len(wanted[kind]) for kind in kinds}
    assert "nothing to do" in clouds.run(*HOME, "--yes").output


def test_what_somebody_changed_is_put_back(done):
    made = devops(done.state)
    for one in made["checks"]:
        if one["resource"]["name"] == "rollback": one["settings"]["approvers"] = [{"id": ADA["id"]}]
    made["permitted"] = {key: [] if key.startswith("environment") else kept for key, kept in made["permitted"].items()}
    made["policies"] = made["policies"][1:]
    change(done, **made)
    done.run(*HOME, "--yes", "--reviewer", "ben@example.com")
    assert checks(devops(done.state), "environment", "rollback")["Approval"]["approvers"] == [{"id": BEN["id"]}]
    assert "nothing to do" in done.run(*HOME, "--yes", "--reviewer", "ben@example.com").output


def test_undo_takes_back_all_but_what_may_hold_work(done):
    mine = {"id": 99, "name": "sandbox", "description": "mine"}
    change(done, environments=[*devops(done.state)["environments"], mine])
    assert "az devops service-endpoint delete" in done.run(*HOME, "--undo", "--dry-run").output
    found = done.run(*HOME, "--undo", "--yes")
    made = devops(done.state)
    assert found.exit_code == 0 and "project and repository are left" in found.output, found.output
    assert made["environments"] == [mine] and made["projects"] and made["branches"] == ["main"]
    assert not any(made[kind] for kind in ("endpoints", "pipelines", "policies"))
    assert not any(bit for kept in made["aces"].values() for bit in kept.values() if bit == 16384)
    assert not done.state["apps"] and not done.state["roles"] and len(done.state["groups"]) == 3
    assert "nothing to undo" in done.run(*HOME, "--undo", "--yes").output
    assert done.run(*HOME, "--yes").exit_code == 0


def test_undo_leaves_what_somebody_else_has_made(done):
    made = devops(done.state)
    for one in made["environments"]: one["description"] = ""
    for one in made["endpoints"]: one["description"] = "of the team"
    made["pipelines"][0]["process"]["yamlFilename"] = "build.yml"
    change(done, **made)
    assert done.run(*HOME, "--undo", "--yes").exit_code == 0
    left = devops(done.state)
    assert len(left["environments"]) == 4 and len(left["endpoints"]) == 5 and len(left["pipelines"]) == 1


# Bad input: one message each, and nothing was changed

@pytest.mark.parametrize("what, says, fix", [
    ({"extension": ""}, "az has no extension azure-devops", "az extension add --name azure-devops"),
    ({"expired": True}, "the login of az has expired: AADSTS70043", SCOPE),
    ({"member": False}, "this login may not enter the organization team", "az login --tenant"),
])
def test_extension_and_login_are_looked_at_first(clouds, what, says, fix):
    change(clouds, **what)
    found = clouds.run(*HOME, "--yes")
    assert found.exit_code == 2 and says in found.output and fix in found.output, found.output
    assert not writes(clouds) and clouds.state["apps"] == {}


def test_without_the_right_to_make_connections_nothing_is_made(done):
    change(done, may=[], endpoints=[])
    before = done.state
    found = done.run(*HOME, "--yes")
    assert found.exit_code == 2 and done.state == before
    assert "ada@example.com may not create service connections in the project flights" in found.output
    assert "az devops security group membership add" in found.output and "Endpoint Creators" in found.output


def test_without_the_right_to_make_projects_it_is_said_who_may(clouds):
    change(clouds, may=["connections"])
    found = clouds.run(*HOME, "--yes")
    assert found.exit_code == 2 and "you may not make projects in team" in found.output
    assert "az devops project create --name flights" in found.output and clouds.state["apps"] == {}


def test_a_project_that_one_cannot_see_has_the_name(clouds):
    change(clouds, hidden=["flights"])
    found = clouds.run(*HOME, "--yes")
    assert found.exit_code == 2 and "the name flights is taken in team" in found.output
    assert "--project NAME" in found.output and clouds.state["apps"] == {}


def taken_connection(made: dict):
    one = next(one for one in made["endpoints"] if one["name"] == "azure-dev")
    one["authorization"] = {"scheme": "ServicePrincipal", "parameters": {"serviceprincipalid": "x"}}


def other_application(made: dict):
    one = next(one for one in made["endpoints"] if one["name"] == "azure-dev")
    one["authorization"]["parameters"]["serviceprincipalid"] = "00-07"


def taken_webhook(made: dict): next(one for one in made["endpoints"] if one["name"] == "breach")["type"] = "generic"
def taken_pipeline(made: dict): made["pipelines"][0]["process"]["yamlFilename"] = "build.yml"


@pytest.mark.parametrize("take, says, fix", [
    (taken_connection, "azure-dev is taken by a service connection that signs in with a secret", "delete --id"),
    (other_application, "azure-dev is taken by a service connection that signs in as another application", "00-07"),
    (taken_webhook, "breach is taken by a service connection that is of the type generic", "delete --id"),
    (taken_pipeline, "the name ci is taken by a pipeline that runs build.yml", "--new-name NAME"),
])
def test_a_name_that_is_taken_is_left_alone(done, take, says, fix):
    made = devops(done.state)
    take(made)
    change(done, **made)
    before = done.state
    found = done.run(*HOME, "--yes")
    assert found.exit_code == 2 and says in found.output and fix in found.output, found.output
    assert done.state == before


def test_a_connection_that_one_cannot_see_has_the_name(done):
    made = devops(done.state)
    kept = [one for one in made["endpoints"] if one["name"] != "azure-dev"]
    change(done, endpoints=kept, hidden=["azure-dev"])
    found = done.run(*HOME, "--yes")
    assert found.exit_code == 2 and "azure-dev is taken by a service connection that you cannot see" in found.output


@pytest.mark.parametrize("words, says", [
    (("--azure-devops",), "--organization NAME --project NAME"),
    ((*HOME, "--pages"), "--pages is about GitHub"),
    ((*HOME, "--github-plan", "team"), "--github-plan is about GitHub"),
    (("--organization", "team"), "--organization is about Azure DevOps"),
    ((*HOME, "--reviewer", "zoe@example.com"), "nobody in the organization team is named zoe@example.com"),
])
def test_a_wrong_option_is_named(clouds, words, says):
    found = clouds.run(*words, "--dry-run")
    assert found.exit_code == 2 and says in found.output, found.output


# Both in one project

def test_what_github_vouches_for_azure_devops_vouches_for_as_well(clouds):
    for words in ((), HOME):
        found = clouds.run(*words, "--yes")
        assert found.exit_code == 0, found.output
    apps = [*clouds.state["apps"].values()]
    assert len(apps) == 4 and all(len(app["credentials"]) == 2 for app in apps)
    assert "nothing to do" in clouds.run("--yes").output and "nothing to do" in clouds.run(*HOME, "--yes").output
    assert clouds.run(*HOME, "--undo", "--yes").exit_code == 0
    assert [[one["name"] for one in app["credentials"]] for app in clouds.state["apps"].values()] == [
        [f"github-{name}"] for name in NAMES]
    assert "nothing to do" in clouds.run("--yes").output


# Doctor

def test_doctor_says_what_there_is(done):
    found = {one.name: one for one in examine_azure_devops(done.root)}
    assert all(one.ok for one in found.values()), [one for one in found.values() if not one.ok]
    assert {"az", "login", "project", "azure-dev", "environments", "pipelines", "policies"} <= found.keys()
    assert "1.0.2" in found["az"].found and "Ada in team" in found["login"].found


def without_approval(made: dict): made["checks"] = [one for one in made["checks"] if one["type"]["name"] != "Approval"]
def without_policies(made: dict): made["policies"] = []
def without_webhook(made: dict): made["endpoints"] = [one for one in made["endpoints"] if one["name"] != "breach"]
def without_rights(made: dict): made["aces"] = {}
def without_permissions(made: dict): made["permitted"] = {}


def without_control(made: dict):
    made["checks"] = [one for one in made["checks"] if one["type"]["name"] != "Task Check"]


def without_docs(made: dict):
    made["policies"] = [one for one in made["policies"] if one["settings"].get("displayName") != "docs"]
    made["pipelines"] = [one for one in made["pipelines"] if one["name"] != "docs"]


@pytest.mark.parametrize("lose, name, says", [
    (without_approval, "environments", "production: the approval of Ada"),
    (without_control, "branch control", "azure-dev: jobs of main only"),
    (without_policies, "policies", "main takes what ci has passed"),
    (without_webhook, "webhook", "the service connection breach"),
    (without_rights, "Build Service", "jobs may start the pipeline training"),
    (without_permissions, "permissions", "may be used by"),
    (without_docs, "pipelines", "the pipeline docs"),
    (taken_connection, "azure-dev", "signs in with a secret"),
])
def test_doctor_says_what_is_missing_and_what_mends_it(done, lose, name, says):
    made = devops(done.state)
    lose(made)
    change(done, **made)
    found = CliRunner().invoke(main, ["doctor", "--azure-devops", "--json"])
    [one] = [one for one in json.loads(found.output) if one["name"] == name]
    assert found.exit_code == 1 and not one["ok"] and says in one["found"], one
    assert one["fix"] == "mlops-nb bootstrap --azure-devops" or "az devops service-endpoint delete" in one["fix"]


@pytest.mark.parametrize("what, says", [({"extension": ""}, "az extension add --name azure-devops"), (
    {"expired": True}, SCOPE)])
def test_doctor_without_extension_or_login_says_that(done, what, says):
    change(done, **what)
    [one] = examine_azure_devops(done.root)
    assert not one.ok and one.fix == says


# What the files say

def test_a_pipeline_of_yours_is_permitted_what_it_uses(clouds):
    (clouds.root/".azure-pipelines/score-batch.yml").write_text("""\
trigger: none
pr: {branches: {include: [main]}, paths: {include: [batch/**]}}
jobs:
  - template: templates/plan.yml
    parameters: {environment: dev}
  - deployment: run
    environment: {name: night}
    strategy:
      runOnce:
        deploy:
          steps:
            - template: templates/azure.yml
              parameters: {connection: azure-dev, run: ls}
""")
    uses = list_uses(clouds.root)
    assert uses[Use("connection", "azure-dev")] == ["environment", "score-batch", "training"]
    assert uses[Use("connection", "azure-plan")] == ["environment", "score-batch"]
    assert uses[Use("environment", "night")] == ["score-batch"]
    assert list_validations(clouds.root)["score-batch"] == "/batch/*"
    assert clouds.run(*HOME, "--yes").exit_code == 0
    assert "nothing to do" in clouds.run(*HOME, "--yes").output
