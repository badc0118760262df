"""The pipelines of Azure DevOps against the loopback Azure: what they train, release and watch is really trained,
released and watched

The agent of tests/support/agent.py runs the files; their steps sign in with an id token of their service connection,
and every command with --on talks to the stand-in of Azure.
"""
import json
from datetime import timedelta

import pytest

from tests.support.agent import Organisation, Run
from tests.support.azure.declared import granted, make_push
from tests.support.chained import TODAY, Production, at, drift_is_found, places, repository, worse
from tests.support.devops import organisation, signed_in

pytest.importorskip("fcntl", reason="the pipelines that run here are those of a POSIX system")
pytestmark = pytest.mark.long

WEBHOOK = "https://dev.azure.com/team/_apis/public/distributedtask/webhooks/breach?api-version=6.0-preview"


@pytest.fixture(scope="module")
def chain(azure_server, tmp_path_factory):
    "A repository in Azure Repos, with three workspaces in Azure and a registry between them"
    azure, folder = azure_server, tmp_path_factory.mktemp("chain")
    azure.reset()
    places(azure)
    keyless = azure.without_keys(granted("production"))
    with organisation() as (state, job):
        home = Organisation(repository(azure, folder / "project", WEBHOOK), folder / "devops", job)
        at(azure, home, timedelta(days=2))
        who = signed_in(azure.env["AZURE_TENANT_ID"], azure.env["AZURE_CLIENT_ID"])
        home.connections = {f"azure-{on}": who for on in ("dev", "staging", "production")}
        hidden = ("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")
        home.environment = {"MAKEFLAGS": "READY=", "OMP_NUM_THREADS": "1",
                            **{name: value for name, value in azure.env.items() if name not in hidden}}
        yield azure, home, state
    azure.end_executions()
    assert not azure.proxy.refused and not azure.findings and not azure.storage.overwritten and not state.refused
    assert keyless.used["command job"] and keyless.used["online endpoint"] and keyless.used["monitor"]


def said(run: Run, name: str, file: str) -> dict: return json.loads((run.artifacts / name / file).read_text())


def released(home: Organisation, training: Run) -> tuple[Run, dict, dict]:
    "What follows a training: staging, the approvers, production"
    [pipeline] = home.following(training)
    run = home.run(pipeline, "ResourceTrigger", follows=training)
    return run, said(run, "evidence", "release.json"), said(run, "release", "release.json")


def test_a_merge_ends_with_a_promoted_model(chain):
    _, home, _ = chain
    assert "training" in home.pushed()
    training = home.run("training", "IndividualCI")
    assert training.succeeded, training.log[-8000:]
    verdict = said(training, "verdict", "verdict.json")
    assert (verdict["release"], verdict["version"]) == (True, 1)
    run, staging, production = released(home, training)
    assert (staging["status"], production["status"], production["version"]) == ("Promoted", "Promoted", "1")
    assert run.approvals == [("production", 2)] and f"buildId={run.id}" in production["approved_by"]
    assert any("Promoted: flight-delay version 1" in page for page in run.pages)


def test_a_drift_in_production_ends_with_a_retrained_model(chain, monkeypatch):
    "Azure's monitor, Event Grid, a Logic App, the incoming webhook, and three pipelines"
    azure, home, state = chain
    with monkeypatch.context() as here:
        for name, value in azure.env.items(): here.setenv(name, value)
        make_push(azure, "logic_app", "production", dispatch_to=WEBHOOK)
    drift_is_found(azure, home)
    address, message = azure.logic.dispatched[0]
    assert address == WEBHOOK and len(azure.logic.dispatched) > 1
    for _ in range(2):
        [pipeline] = home.receiving(message)
        monitoring = home.run(pipeline, "ResourceTrigger")
        assert monitoring.succeeded, monitoring.log[-8000:]
        assert (monitoring.artifacts / "tower/tower/index.html").is_file()
    [asked] = state.runs    # Azure's monitor has found it, and ours: that is one retraining
    assert f"inputs.test_end={TODAY}" in asked["templateParameters"]["inputs"]
    training = home.run("training", "Manual", asked["templateParameters"])
    assert any("Judged against flight-delay version 1" in page for page in training.pages), training.log[-8000:]
    with Production(azure) as callers: _, staging, production = released(home, training)
    assert (staging["status"], production["status"]) == ("Promoted", "Promoted")
    assert (production["version"], production["champion"]) == ("2", "1") and {*callers.statuses} == {200}


def test_a_bad_model_ends_with_a_rollback(chain):
    azure, home, _ = chain
    worse(home.root)
    assert "training" in home.pushed()
    with Production(azure) as callers: run, staging, production = released(home, home.run("training", "IndividualCI"))
    assert (staging["status"], production["status"], production["version"]) == ("Promoted", "RolledBack", "3")
    assert not run.succeeded and production["reason"] in run.pages[-1].replace("\\", "")
    assert {*callers.statuses} == {200, 424} and Production(azure).traffic == {"version-2": 100}
