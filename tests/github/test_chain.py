"""The workflows against the loopback Azure: what they train, release and watch is really trained, released and watched

nektos/act runs the workflow files; their jobs sign in with an id token, and every command with --on talks to the
stand-in of Azure. What act cannot show: approvals of GitHub environments, concurrency, and that a workflow really
starts when another has ended; the test does what GitHub would do.
"""
import json
import time
from datetime import timedelta

import pytest

from tests.support.acting import Act, git
from tests.support.azure.declared import granted, make_push
from tests.support.chained import REPOSITORY, TODAY, Production, at, drift_is_found, places, repository, worse

pytest.importorskip("fcntl", reason="the workflows that run here are those of a POSIX system")
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def chain(azure_server, tmp_path_factory):
    "A repository on GitHub, with three workspaces in Azure and a registry between them"
    azure, folder = azure_server, tmp_path_factory.mktemp("chain")
    azure.reset()
    places(azure)
    keyless = azure.without_keys(granted("production"))
    act = Act(repository(azure, folder / "project"), folder / "github")
    at(azure, act, timedelta(days=2))
    act.variables = {"AZURE_TENANT_ID": azure.env["AZURE_TENANT_ID"], "AZURE_CLIENT_ID": azure.env["AZURE_CLIENT_ID"]}
    hidden = ("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")
    act.environment = {name: value for name, value in azure.env.items() if name not in hidden}
    yield azure, act
    azure.end_executions()
    assert not azure.proxy.refused and not azure.findings and not azure.storage.overwritten
    assert keyless.used["command job"] and keyless.used["online endpoint"] and keyless.used["monitor"]
    assert keyless.refusals.keys() <= {"listSecrets"}


def pushed(act) -> dict: return {"ref": "refs/heads/main", "after": git(act.root, "rev-parse", "HEAD").strip()}
def said(act, name: str, file: str) -> dict: return json.loads((act.artifacts / name / file).read_text())


def released(act, **how) -> list:
    "The deployment workflow after a training: staging, then production"
    act("workflow_run", "deployment", act.ended("training"), **how)
    return [said(act, name, "release.json") for name in ("evidence", "release")]


def test_a_merge_ends_with_a_promoted_model(chain):
    azure, act = chain
    act("push", "training", pushed(act))
    verdict = said(act, "verdict", "verdict.json")
    assert (verdict["release"], verdict["version"]) == (True, 1)
    staging, production = released(act)
    assert (staging["status"], production["status"], production["version"]) == ("Promoted", "Promoted", "1")
    link = f"actions/runs/{act.runs}"
    assert link in production["approved_by"], "the approval links the run, which names the reviewers"


def test_a_drift_in_production_is_pushed_and_ends_with_a_retrained_model(chain, monkeypatch):
    "No schedule of GitHub is involved: Azure's monitor, Event Grid, a Logic App, and three workflows"
    azure, act = chain
    with monkeypatch.context() as here:
        for name, value in azure.env.items(): here.setenv(name, value)
        make_push(azure, "logic_app", "production", dispatch_to=REPOSITORY)
    begun = time.monotonic()
    drift_is_found(azure, act)     # GitHub hears of each breach more than once
    to, breach = azure.logic.dispatched[0]
    assert to.endswith(f"/repos/{REPOSITORY}/dispatches") and len(azure.logic.dispatched) > 1
    for _ in range(2):
        pushed_on = {"action": breach["event_type"], "client_payload": breach["client_payload"]}
        act("repository_dispatch", "monitoring", pushed_on, "--job", "monitor")
    [event] = act.api.events  # Azure's monitor has found it, and ours: that is one retraining
    assert event["event_type"] == "drift" and f"inputs.test_end={TODAY}" in event["client_payload"]["inputs"]
    dispatched = {"action": event["event_type"], "client_payload": event["client_payload"]}
    log = act("repository_dispatch", "training", dispatched)
    assert "Judged against flight-delay version 1" in log
    with Production(azure) as callers: staging, production = released(act)
    assert (staging["status"], production["status"]) == ("Promoted", "Promoted")
    assert (production["version"], production["champion"]) == ("2", "1")
    assert production["stages"][0]["requests"] >= 20 and {*callers.statuses} == {200}
    print(f"{time.monotonic() - begun:.0f} s from the outcomes to the promotion")


def test_a_bad_model_ends_with_a_rollback(chain):
    azure, act = chain
    worse(act.root)
    act("push", "training", pushed(act))
    with Production(azure) as callers: staging, production = released(act, code=1)
    assert (staging["status"], production["status"], production["version"]) == ("Promoted", "RolledBack", "3")
    assert {*callers.statuses} == {200, 424} and Production(azure).traffic == {"version-2": 100}
    assert production["reason"] in (act.github / "runs/deployment-workflow_run.log").read_text()
