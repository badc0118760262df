"""Workflows as GitHub would run them: nektos/act on this machine, a folder for GitHub's storage

The pull request trains for real. Where a workflow works in the cloud, what the cloud says is written down here, and
the wiring is looked at: what does not run after a refusal, and which command has which rights. test_chain.py has the
same workflows work against a stand-in of the cloud itself. What act cannot show: approvals of GitHub environments,
concurrency, and other systems than this one.
"""
import json
import re

import pytest

from tests.support import ROOT
from tests.support.acting import Act, copy_of, git

pytestmark = pytest.mark.long

pytest.importorskip("fcntl", reason="the workflows that run here are those of a POSIX system")


def small(root):
    "The training pipeline on a fortieth of the flights, with time to answer, for this machine may be busy"
    file = root / "pipelines/training/pipeline.yml"
    text = file.read_text()
    assert "  every: 1\n" in text and "  max_latency_ms: 50.0\n" in text
    text = text.replace("  every: 1\n", "  every: 40\n")
    file.write_text(text.replace("  max_latency_ms: 50.0\n", "  max_latency_ms: 60000.0\n"))
    git(root, "commit", "-qam", "A small training")
    return root


def pull_request(root, base: str) -> dict:
    "What GitHub says of a pull request from a branch of the repository"
    repository = {"full_name": "team/flights"}
    head = {"ref": "change", "sha": git(root, "rev-parse", "HEAD").strip(), "repo": repository}
    return {"action": "synchronize", "number": 7, "repository": repository,
            "pull_request": {"number": 7, "user": {"login": "ada"}, "base": {"ref": "main", "sha": base}, "head": head}}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    "main trained a champion; then a branch changed a stage, and opened a pull request"
    folder = tmp_path_factory.mktemp("ci")
    root = small(copy_of(folder / "project"))
    act, base = Act(root, folder / "github"), git(root, "rev-parse", "HEAD").strip()
    act("push", "ci", {"ref": "refs/heads/main", "after": base}, "--job", "model")
    git(root, "checkout", "-qb", "change")
    changes = (("nbs/training/04_train.ipynb", "Range(0.001, 1)] = 0.05", "Range(0.001, 1)] = 0.06"),
               ("pipelines/training/components/train.yml", "default: 0.05\n", "default: 0.06\n"))
    for name, old, new in changes:
        assert (text := (root / name).read_text()).count(old) == 1
        (root / name).write_text(text.replace(old, new))
    git(root, "commit", "-qam", "Learn faster")
    log = act("pull_request", "ci", pull_request(root, base), "--job", "comment")
    return act, root, base, log


def test_a_pull_request_is_compared_with_the_champion_of_main(compared):
    act, *_ = compared
    [comment] = [one["body"] for one in act.api.comments]
    assert "Judged against flight-delay version 1" in comment
    challenger_and_champion = r"\| log_loss \| 0\.\d+ \| 0\.\d+ \| 0\.\d+ \| 0\.\d+ \|"
    assert re.search(challenger_and_champion, comment), "the challenger with its bounds, then the champion"


def test_a_pull_request_shows_what_changed_in_notebooks(compared):
    act, *_ = compared
    comment = act.api.comments[0]["body"]
    assert "-learning_rate: Annotated[float, Range(0.001, 1)] = 0.05" in comment
    assert "+learning_rate: Annotated[float, Range(0.001, 1)] = 0.06" in comment
    assert "nbs/training/04_train.ipynb: 11 lines" in comment and "ingest | Completed |  | yes" in comment


def test_executed_notebooks_are_kept(compared):
    act, *_ = compared
    names = {path.name for path in (act.artifacts / "notebooks").rglob("*.html")}
    assert {"04_train.html", "06_register.html"} <= names


def test_a_fork_gets_no_comment_and_no_rights(compared):
    act, root, base, _ = compared
    event = pull_request(root, base)
    event["pull_request"]["head"]["repo"]["full_name"] = "mallory/flights"
    log = act("pull_request", "environment", event, "--job", "plan")
    assert "mlops-nb" not in log
    assert len(act.api.comments) == 1


def verdict(folder, accepted: bool, version: int | None) -> dict:
    "What `run --json` says of a training whose gate decided so"
    decision = {"accepted": accepted, "reason": "as the test says", "model": "flight-delay", "version": version,
                "opponent": "flight-delay version 3", "checks": []}
    (folder / "decision").mkdir(exist_ok=True)
    (folder / "decision/verdict.json").write_text(json.dumps(decision))
    step = {"name": "register", "status": "Completed", "seconds": 1, "reused_from": None, "error": None,
            "outputs": {"decision": str(folder / "decision")}}
    return {"id": "training-1", "status": "Completed", "steps": [step]}


def release(status: str, code: int = 0) -> dict:
    "What `release --json` says, and the code that it ends with"
    says = {"status": status, "model": "flight-delay", "version": "4", "reason": "as the test says", "stages": []}
    return {"code": code, "says": says}


@pytest.fixture
def scripted(tmp_path):
    "Workflows with a cloud whose answers are written down: a training that is accepted as version 4"
    act = Act(copy_of(tmp_path / "project"), tmp_path / "github")
    act.command((ROOT / "tests/support/actions/scripted.py").read_text())
    act.variables = {"AZURE_TENANT_ID": "a-tenant", "AZURE_CLIENT_ID": "a-client"}
    act.answers = {"run dev": {"says": verdict(act.github, True, 4)}, "rollback production": release("RolledBack")}
    def run(*words, **how):
        (act.github / "answers.json").write_text(json.dumps(act.answers))
        act(*words, **how)
        calls = act.github / "calls.jsonl"
        found = [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []
        calls.unlink(missing_ok=True)
        return found
    act.run = run
    return act


def handed(act) -> dict: return json.loads((act.artifacts / "verdict/verdict.json").read_text())


def test_a_model_that_the_gate_refuses_is_not_released(scripted):
    scripted.answers["run dev"]["says"] = verdict(scripted.github, False, None)
    calls = scripted.run("schedule", "training", {})
    assert [call["words"][:2] for call in calls] == [["run", "pipelines/training/pipeline.yml"]]
    assert not handed(scripted)["release"]
    assert scripted.run("workflow_run", "deployment", scripted.ended("training")) == []


def test_a_training_by_hand_may_end_without_a_release(scripted):
    [call] = scripted.run("workflow_dispatch", "training", {"inputs": {"inputs": "inputs.every=2", "release": "false"}})
    assert call["set"] == "inputs.every=2" and not call["token"]
    assert (handed(scripted)["release"], handed(scripted)["version"]) == (False, 4)


def test_only_trainings_of_main_that_ended_well_are_followed(scripted):
    fork = {"head_repository": {"full_name": "mallory/flights"}}
    for other in ({"conclusion": "failure"}, {"head_branch": "change"}, fork):
        event = scripted.ended("training")
        event["workflow_run"] |= other
        assert scripted.run("workflow_run", "deployment", event) == []


def test_a_model_that_fails_in_staging_does_not_come_to_production(scripted):
    scripted.answers["release staging"] = release("Refused", 3)
    calls = scripted.run("workflow_dispatch", "deployment", {"inputs": {"action": "release", "version": "4"}}, code=1)
    assert [call["words"][:5] for call in calls] == [["release", "--on", "staging", "--version", "4"]]
    assert json.loads((scripted.artifacts / "evidence/release.json").read_text())["status"] == "Refused"


def test_a_rollback_by_hand(scripted):
    inputs = {"action": "rollback", "reason": "callers; complain `now`"}
    [call] = scripted.run("workflow_dispatch", "deployment", {"inputs": inputs})
    assert call["words"] == ["rollback", "--on", "production", "--reason", "callers; complain `now`", "--json"]


def test_monitoring_hands_its_token_to_the_dispatch_only(scripted):
    signals = {"monitor": "flights", "window": ["2013-07-01", "2013-08-01"], "rows": 900, "breach": True,
               "signals": {"drift": {"verdict": "breach", "rows": []}}}
    retrained = [{"time": "2013-08-01", "action": "retrain", "reason": "harm"}]
    scripted.answers |= {"monitor production": {"says": signals}, "events production": {"says": []},
                         "dispatch production": {"says": retrained}, "tower production": {"says": "tower/index.html"}}
    calls = scripted.run("schedule", "monitoring", {}, "--job", "monitor")
    tokens = [(call["words"][0], call["token"]) for call in calls]
    assert tokens == [("monitor", False), ("events", False), ("dispatch", True), ("tower", False)]


def test_an_environment_is_planned_for_a_branch_and_applied_on_main(scripted):
    cluster = {"action": "create", "kind": "compute", "name": "cpu", "details": []}
    change = {"command": "environment plan", "on": "dev", "changes": [cluster]}
    scripted.answers |= {f"environment {on}": {"says": change} for on in ("dev", "staging", "production")}
    base = git(scripted.root, "rev-parse", "HEAD").strip()
    planned = scripted.run("pull_request", "environment", pull_request(scripted.root, base), "--job", "plan")
    applied = scripted.run("push", "environment", {"ref": "refs/heads/main"}, "--job", "apply")
    environments = ("dev", "staging", "production")
    assert {(call["words"][1], call["words"][3]) for call in planned} == {("plan", on) for on in environments}
    assert {(call["words"][1], call["words"][3]) for call in applied} == {("apply", on) for on in environments}
