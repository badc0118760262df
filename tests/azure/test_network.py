"The manners of the real network: pages, changes that meet another change, dates to come again, tokens that end"
import json
import os

import pytest

from mlops_nb.azure import client

from tests.support.azure.small import SCHEMA, command, placed

slow = pytest.mark.long

CRON = "trigger: {type: cron, expression: '0 6 * * 1'}\n"


@pytest.fixture
def project(azure, small): return placed(azure, small, {
    f"{name}.yml": SCHEMA.format("schedule") + f"name: {name}\n{CRON}create_job: ./pipeline.yml\n"
    for name in ("s0", "s1", "s2", "s3")})


@slow
def test_lists_go_over_their_pages(azure, project):
    assert "s0" in command(azure, project, "schedule", "apply", "s0.yml", "--on", "dev")
    one = azure.state.all("workspaces/schedules")[0]
    for number in range(1, 8):
        id = one["id"].replace("/s0", f"/s{number}")
        azure.state.resources[id.lower()] = {**one, "id": id, "name": f"s{number}"}
    found = json.loads(command(azure, project, "schedule", "list", "--on", "dev", "--json"))
    assert sorted(row["name"] for row in found) == [f"s{number}" for number in range(8)]
    assert azure.paged >= 2


@slow
def test_a_change_waits_for_the_one_that_is_under_way(azure, project):
    busy = azure.fail("PUT management.azure.com/.*/schedules/", status=409, times=2, retry_after=0,
                      text="Another operation is in progress for the schedule.")
    assert "s1" in command(azure, project, "schedule", "apply", "s1.yml", "--on", "dev")
    assert busy.hits == 2 and len(azure.state.all("workspaces/schedules")) == 1


@slow
def test_a_name_that_is_taken_is_not_waited_for(azure, project):
    taken = azure.fail("PUT management.azure.com/.*/schedules/", status=409, times=99, retry_after=0,
                       text="The name is taken.")
    said = command(azure, project, "schedule", "apply", "s1.yml", "--on", "dev", code=2)
    assert "another name" in said and taken.hits == 1


@slow
def test_a_date_to_come_again_is_kept(azure, project):
    later = azure.fail("PUT management.azure.com/.*/schedules/", status=429, times=1, retry_after=2, dated=True)
    assert "s2" in command(azure, project, "schedule", "apply", "s2.yml", "--on", "dev") and later.hits == 1


@slow
def test_the_id_token_in_the_file_is_renewed_while_mlflow_is_spoken_to(tmp_path, monkeypatch):
    for name in client.OIDC: monkeypatch.setenv(name, "given")
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path))
    monkeypatch.delenv("AZURE_FEDERATED_TOKEN_FILE", raising=False)
    import threading
    given, third = [], threading.Event()
    def token() -> str:
        given.append(f"token-{len(given)}")
        if len(given) == 2: raise OSError("GitHub does not answer")
        if len(given) == 4: third.set()     # The one before is written by now
        return given[-1]
    monkeypatch.setattr(client, "id_token", token)
    with client.federated(every=0.01):
        assert third.wait(60)
        with open(os.environ["AZURE_FEDERATED_TOKEN_FILE"]) as file: assert file.read() in given[2:]
    count = len(given)
    assert not [one for one in threading.enumerate() if one.name.endswith("(renew)")] and len(given) == count


def test_a_signature_that_ends_in_the_middle_of_a_transfer_is_asked_for_anew(azure, tmp_path, monkeypatch):
    from azure.storage.blob import ContainerClient

    from mlops_nb.azure.sdk import Blobs
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    container = azure.storage.container()
    for number in range(12): azure.storage.put(container, f"log/{number:02d}.txt", str(number).encode())
    opened = []
    def reopen(hours: float = 1.0):
        opened.append(hours)
        account = f"https://{azure.storage.url(container).split('/')[2]}"
        return ContainerClient(account, container, credential=azure.storage.sas(container, hours), retry_total=0)
    blobs = Blobs(reopen(), reopen)
    names = blobs.names("log/")
    blobs.container = reopen(-1.0)      # Its time is over, and the list is read already
    blobs.read(names[0])
    assert opened == [1.0, -1.0, 1.0]
    blobs.container = reopen(-1.0)
    assert blobs.pull("log/", tmp_path / "log") == 12 and len([*(tmp_path / "log").iterdir()]) == 12
    assert opened == [1.0, -1.0, 1.0, -1.0, 1.0], "once, though eight downloads found out"
    with pytest.raises(Exception, match="failed to authenticate"):
        Blobs(reopen(-1.0), lambda: reopen(-1.0)).read(names[0])
