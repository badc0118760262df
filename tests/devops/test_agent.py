"""Pipelines as Azure DevOps would run them: the agent of this machine, a cloud whose answers are written down

What is looked at is the wiring: what does not run after a refusal, who is asked, which command has which rights.
test_chain.py has the same pipelines work against a stand-in of the cloud itself.
"""
import json
import re

import pytest

from tests.github.test_act import release, verdict
from tests.support import ROOT
from tests.support.acting import copy_of, git
from tests.support.agent import FAILED, SKIPPED, Organisation
from tests.support.devops import organisation, signed_in

pytest.importorskip("fcntl", reason="the pipelines that run here are those of a POSIX system")
pytestmark = pytest.mark.long

CONNECTIONS = ("azure-plan", "azure-dev", "azure-staging", "azure-production")


def left_out(name: str) -> bool: return name.startswith(("nbs/", "tests/", "bench/"))


@pytest.fixture
def devops(tmp_path):
    "Pipelines with a cloud whose answers are written down: a training that is accepted as version 4"
    with organisation() as (_, job):
        home = Organisation(copy_of(tmp_path / "project", left_out), tmp_path / "devops", job)
        home.connections = {name: signed_in("a-tenant", name) for name in CONNECTIONS}
        home.command((ROOT / "tests/support/actions/scripted.py").read_text())
        home.environment = {"STANDIN_FOLDER": str(home.folder), "MAKEFLAGS": "READY="}
        home.answers = {"run dev": {"says": verdict(home.folder, True, 4)},
                        "release staging": release("Promoted"), "release production": release("Promoted"),
                        "rollback production": release("RolledBack")}
        yield home


def run(home, *words, **how):
    "A run, and the commands that reached the cloud"
    (home.folder / "answers.json").write_text(json.dumps(home.answers))
    calls = home.folder / "calls.jsonl"
    calls.unlink(missing_ok=True)
    done = home.run(*words, **how)
    return done, [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def test_a_version_goes_through_staging_and_the_approvers_to_production(devops):
    training, [call] = run(devops, "training", "IndividualCI")
    assert call["words"][:2] == ["run", "pipelines/training/pipeline.yml"] and call["token"]
    assert devops.following(training) == ["deployment"]
    deployment, calls = run(devops, "deployment", "ResourceTrigger", follows=training)
    assert [call["words"][:5] for call in calls] == [
        ["release", "--on", "staging", "--version", "4"], ["release", "--on", "production", "--version", "4"]]
    link = re.escape(f"{devops.job['SYSTEM_COLLECTIONURI']}p-1/_build/results?buildId={deployment.id}")
    assert re.fullmatch(f"approvers of {link}", calls[1]["words"][calls[1]["words"].index("--approve-as") + 1])
    assert deployment.approvals == [("production", 2)], "with the pages of version and staging before them"
    assert deployment.succeeded and deployment.results["rollback"] == SKIPPED and len(deployment.pages) == 3
    assert (deployment.artifacts / "evidence/release.json").is_file()


def test_a_model_that_the_gate_refuses_is_not_released(devops):
    devops.answers["run dev"]["says"] = verdict(devops.folder, False, None)
    training, _ = run(devops, "training", "Schedule")
    assert not json.loads((training.artifacts / "verdict/verdict.json").read_text())["release"]
    deployment, calls = run(devops, "deployment", "ResourceTrigger", follows=training)
    assert calls == [] and deployment.results["staging"] == deployment.results["production"] == SKIPPED


def test_a_training_by_hand_may_end_without_a_release(devops):
    parameters = {"inputs": "inputs.every=2", "release": "false"}
    training, [call] = run(devops, "training", parameters=parameters)
    handed = json.loads((training.artifacts / "verdict/verdict.json").read_text())
    assert call["set"] == "inputs.every=2" and (handed["release"], handed["version"]) == (False, 4)


def test_a_training_that_fails_is_not_followed(devops):
    devops.answers["run dev"]["code"] = 1
    training, _ = run(devops, "training", "IndividualCI")
    assert training.results["training"] == FAILED and devops.following(training) == []
    assert len(training.pages) == 1 and (training.artifacts / "notebooks/training.json").is_file()
    assert not (training.artifacts / "verdict").exists()


def test_a_model_that_fails_in_staging_does_not_come_to_production(devops):
    devops.answers["release staging"] = release("Refused", 3)
    deployment, calls = run(devops, "deployment", parameters={"version": "4"})
    assert [call["words"][:5] for call in calls] == [["release", "--on", "staging", "--version", "4"]]
    assert deployment.results["production"] == SKIPPED and deployment.approvals == []
    assert json.loads((deployment.artifacts / "evidence/release.json").read_text())["status"] == "Refused"


def test_what_the_approvers_refuse_does_not_run(devops):
    devops.refused = {"production"}
    deployment, calls = run(devops, "deployment", parameters={"version": "4"})
    assert [call["words"][2] for call in calls] == ["staging"] and deployment.results["production"] == FAILED


def test_a_rollback_by_hand_does_not_release(devops):
    reason = "callers; complain `now`"
    deployment, [call] = run(devops, "deployment", parameters={"action": "rollback", "reason": reason})
    assert call["words"] == ["rollback", "--on", "production", "--reason", reason, "--json"]
    assert [name for name, _ in deployment.approvals] == ["rollback"] and deployment.results["staging"] == SKIPPED


def test_no_branch_but_main_signs_in(devops):
    git(devops.root, "branch", "change")
    for pipeline, parameters in (("training", {}), ("monitoring", {}), ("deployment", {"version": "4"}),
                                 ("deployment", {"action": "rollback"})):
        done, calls = run(devops, pipeline, parameters=parameters, branch="change")
        assert calls == [] and {*done.results.values()} == {SKIPPED}


def test_the_environment_is_planned_for_a_branch_and_applied_on_main(devops):
    cluster = {"action": "create", "kind": "compute", "name": "cpu", "details": []}
    change = {"command": "environment plan", "on": "dev", "changes": [cluster]}
    devops.answers |= {f"environment {on}": {"says": change} for on in ("dev", "staging", "production")}
    program = devops.folder / "bin/mlops-nb"
    image = 'if words[1:2] == ["image"]: sys.exit()\n'   # Nobody is to look for weaknesses here
    program.write_text(program.read_text().replace('if "--on" not in words:', f'{image}if "--on" not in words:'))
    git(devops.root, "branch", "change")
    _, planned = run(devops, "environment", "PullRequest", branch="change")
    _, applied = run(devops, "environment", "IndividualCI")
    _, weekly = run(devops, "environment", "Schedule")
    for calls, word in ((planned, "plan"), (applied, "apply")):
        assert [call["words"][1:4] for call in calls] == [[word, "--on", on] for on in ("dev", "staging", "production")]
    assert weekly == []


def test_an_environment_that_cannot_be_made_ends_the_others(devops):
    devops.answers |= {"environment dev": {"says": {"command": "environment apply", "on": "dev", "changes": []}},
                       "environment staging": {"says": {}, "code": 1}}
    done, applied = run(devops, "environment", "IndividualCI")
    assert [call["words"][3] for call in applied] == ["dev", "staging"]
    assert done.results["apply_production"] == SKIPPED


def test_a_push_starts_what_watches_its_files(devops):
    (devops.root / "pipelines/training/pipeline.yml").open("a").write("# another\n")
    git(devops.root, "commit", "-qam", "Change the training")
    assert devops.pushed() == ["ci", "docs", "training"]
    (devops.root / "requirements.lock").open("a").write("# another\n")
    git(devops.root, "commit", "-qam", "Change the image")
    assert devops.pushed() == ["ci", "docs", "environment"]
    assert devops.receiving({"event_type": "breach", "on": "production"}) == ["monitoring"]
    assert devops.receiving({"event_type": "breach", "on": "dev"}) == []
