"The push: a breach becomes an event, Event Grid puts it into the queue, and it leads to one retraining; nobody polls"
import json
import time

import pytest

from mlops_nb.infrastructure.dispatch import TOKEN
from mlops_nb.retraining.events import AZURE_TAG

from tests.support.azure.declared import make_push
from tests.support.azure.small import command, placed
from tests.support.azure.watched import NOW, collect

slow = pytest.mark.long

def declared(azure, project, push: str, **more) -> list:
    "Write settings.ini, and make what it declares; gives the resources"
    settings = project / "settings.ini"
    settings.write_text(settings.read_text().replace("[dev]\n", f"[dev]\npush = {push}\n"))
    return make_push(azure, push, **more)


@pytest.fixture
def pushed(azure, watched, monkeypatch):
    "The project with `push = queue` in dev, and what that makes"
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    declared(azure, watched, "queue")
    command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev")
    return watched


def breach(azure, project) -> int:
    "Let Azure's monitor find a drift; how many signals breached"
    collect(azure, shift=2.0)
    run = azure.trigger("dev", "watch", NOW)
    run.thread.join(120)
    assert run.status == "Completed", (run.folder / "execution.log").read_text()
    return len([event for event in azure.events if AZURE_TAG in event["data"]["runTags"]])


def waiting(azure) -> int: return sum(map(len, azure.queues.messages.values()))


def retrainings(azure) -> list:
    return [one["name"] for one in azure.state.all("workspaces/jobs") if one["name"].startswith("retrain-")]


@slow
def test_a_breach_that_is_pushed_leads_to_one_retraining_however_it_is_delivered(azure, pushed):
    signals, begun = breach(azure, pushed), time.monotonic()
    azure.deliver(times=3, seed=4)
    assert waiting(azure) == 3 * signals, "only breaches pass the filter"
    read = json.loads(command(azure, pushed, "events", "pull", "--on", "dev", "--json"))
    assert waiting(azure) == 0 and {row["source"].rpartition(".")[2] for row in read} == {"RunStatusChanged"}
    delivered = {event["id"] for event in azure.events if AZURE_TAG in event["data"]["runTags"]}
    assert delivered <= {row["id"] for row in read} and len({row["breach"] for row in read}) == signals
    command(azure, pushed, "events", "handle", "--on", "dev", "--no-release")
    rows = json.loads(command(azure, pushed, "events", "--on", "dev", "--json"))
    done, = {row["breach"]: row for row in rows if row["action"] == "retrain"}.values()
    assert done["status"] == "done" and "Refused: not better" in done["outcome"]["reason"]
    assert len(retrainings(azure)) == 1
    print(f"from the breach to the gate's verdict: {time.monotonic() - begun:.0f} s")

    azure.queues.told = 0   # Event Grid delivers all of it once more, late
    azure.deliver(times=1, seed=5)
    assert waiting(azure) == signals
    command(azure, pushed, "events", "pull", "--on", "dev")
    command(azure, pushed, "events", "handle", "--on", "dev", "--no-release")
    assert waiting(azure) == 0 and len(retrainings(azure)) == 1
    assert "no monitor of dev has found a breach" in command(azure, pushed, "events", "pull", "--on", "dev")


@slow
def test_a_message_that_is_no_event_is_kept_and_leads_to_nothing(azure, pushed):
    from tests.support.loopback.queues import Waiting
    azure.queues.messages["mlops-nb-breaches"] = [Waiting("torn {"), Waiting("")]
    read = json.loads(command(azure, pushed, "events", "pull", "--on", "dev", "--json"))
    assert [row["action"] for row in read] == ["none", "none"] and waiting(azure) == 0


@slow
def test_without_its_role_the_topic_delivers_nothing_and_keeps_what_it_has(azure, pushed):
    gone = [id for id, one in azure.state.resources.items() if "roleassignments" in id
            and one["properties"]["roleDefinitionId"].endswith("c6a89b2d-59bc-44d0-9896-0f6e12d7b80a")]
    for id in gone: del azure.state.resources[id]
    signals = breach(azure, pushed)
    azure.deliver(times=1)
    assert gone and waiting(azure) == 0 and len(azure.queues.undelivered) == signals


@slow
def test_a_queue_that_nobody_has_made_is_named(azure, watched):
    settings = watched / "settings.ini"
    settings.write_text(settings.read_text().replace("[dev]\n", "[dev]\npush = queue\n"))
    said = command(azure, watched, "events", "pull", "--on", "dev", code=2)
    assert "has no queue mlops-nb-breaches" in said and "mlops-nb environment apply --on dev" in said


def breached(azure, workspace: str = "dev") -> dict:
    "An event as Azure's monitor makes it"
    found = next(one for one in azure.state.all("workspaces") if one["name"] == workspace)
    tag = "The signal 'drift' has failed due to one or more features violating metric thresholds."
    return {"topic": found["id"], "subject": "experiments/1/runs/2", "id": "e-1", "dataVersion": "1.0",
            "metadataVersion": "1", "eventType": "Microsoft.MachineLearningServices.RunStatusChanged",
            "eventTime": "2026-11-29T06:00:00Z",
            "data": {"runId": "2", "runStatus": "Completed", "runTags": {AZURE_TAG: tag}}}


def test_a_logic_app_calls_github_with_the_token_and_the_queue_keeps_the_event(azure, small, monkeypatch):
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    declared(azure, placed(azure, small, {}), "logic_app", dispatch_to="owner/flights")
    other = {**breached(azure), "id": "e-2"}
    other["data"] = {**other["data"], "runTags": {}}
    azure.events += [breached(azure), other]
    azure.deliver(times=2, seed=3)
    to, body = azure.logic.dispatched[0]
    assert to == "https://api.github.com/repos/owner/flights/dispatches" and len(azure.logic.dispatched) == 2
    assert body == {"event_type": "breach", "client_payload": {"on": "dev"}} and waiting(azure) == 2
    read = json.loads(command(azure, small, "events", "pull", "--on", "dev", "--json"))
    assert [row["id"] for row in read] == ["e-1"] and waiting(azure) == 0


@pytest.mark.parametrize("hurt", ["token", "role", "expired"])
def test_a_call_that_github_does_not_take_is_repeated_by_event_grid_and_the_queue_has_the_event(
        azure, small, monkeypatch, hurt):
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    declared(azure, placed(azure, small, {}), "logic_app", dispatch_to="owner/flights")
    if hurt == "token": azure.logic.secrets.clear()
    if hurt == "expired": azure.logic.token = "github_pat_2"
    if hurt == "role":
        for id in [id for id, one in azure.state.resources.items() if "roleassignments" in id
                   and one["properties"]["scope"].endswith(TOKEN)]: del azure.state.resources[id]
    azure.events.append(breached(azure))
    azure.deliver(times=1)
    run = azure.logic.runs[-1]
    assert (run["token"], run["call"]) == {"expired": ("Succeeded", "Failed")}.get(hurt, ("Failed", "Skipped"))
    assert run["refused"] == "Succeeded" and run["taken"] == "Skipped"
    assert azure.logic.dispatched == [] and len(azure.queues.undelivered) == 1 and waiting(azure) == 1


def test_azure_devops_is_called_without_a_token(azure, small, monkeypatch):
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    to = "https://dev.azure.com/airline/_apis/public/distributedtask/webhooks/breach?api-version=6.0-preview"
    declared(azure, placed(azure, small, {}), "logic_app", dispatch_to=to)
    azure.events.append(breached(azure))
    azure.deliver(times=1)
    assert azure.logic.dispatched == [(to, {"event_type": "breach", "on": "dev"})]
