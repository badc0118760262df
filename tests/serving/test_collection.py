"What is collected: in Azure's layout, before the reply, whatever is killed, and never silently not"
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.serving.collection import Journal, end_cursor, iter_served
from mlops_nb.serving.state import EndpointFolder

from tests.support.serving import Client, Load, records, until


@pytest.fixture
def call(serving):
    "A client of the endpoint `echo`"
    client = Client(serving, "echo")
    client([{}])
    return client


def kept(serving, id: str) -> tuple:
    "Inputs and outputs of one request"
    return tuple([e for e in records(serving.root, "echo", "blue", c) if e["xrequestid"] == id]
                 for c in ("model_inputs", "model_outputs"))


def test_a_reply_means_that_both_records_are_there(serving, call):
    assert call([{"p": 0.1}, {"p": 0.9}], x_request_id="pair")[0] == 200
    (asked,), (answered,) = kept(serving, "pair")
    assert asked["data"] == [{"p": 0.1},
                             {"p": 0.9}] and answered["data"] == [{"probability": 0.1}, {"probability": 0.9}]
    assert asked["correlationid"] == answered["correlationid"] and asked["id"] != answered["id"]
    assert (asked["type"], answered["type"]) == ("azureml.inference.inputs", "azureml.inference.outputs")
    assert asked["source"].endswith("/onlineEndpoints/echo/deployments/blue") and asked["modelversion"] == "1"
    assert {*asked} == {"specversion", "id", "source", "type", "datacontenttype", "time", "data", "correlationid",
                        "xrequestid", "modelversion",
                        "collectdatatype", "agent", "contentrange"}


def test_the_replay_clock_decides_time_and_folder(serving, call):
    assert call([{}], x_request_id="past", x_mlops_nb_time="2013-07-01T06:30:00+00:00")[0] == 200
    folder = serving.root / ".mlops/collected/echo/blue/model_inputs/2013/07/01/06"
    assert [json.loads(line)["time"] for path in folder.glob("*.jsonl")
            for line in path.open()] == ["2013-07-01T06:30:00.000000Z"]
    assert call([{}], x_mlops_nb_time="yesterday")[0] == 400


def test_personal_columns_are_hashed_or_dropped(serving, call):
    for id, name in (("ann", "Ann"), ("ann2", "Ann"), ("bob", "Bob")):
        call([{"passenger": name, "email": "x@y.org"}], x_request_id=id)
    data = {id: kept(serving, id)[0][0]["data"][0] for id in ("ann", "ann2", "bob")}
    assert data["ann"] == data["ann2"] != data["bob"] and [*data["ann"]] == ["passenger"]
    assert not any(b"x@y.org" in path.read_bytes() or b"Ann" in path.read_bytes()
                   for path in (serving.root / ".mlops/collected").rglob("*.jsonl"))
    assert (serving.root / ".mlops/collection.key").stat().st_mode & 0o777 == 0o600


def test_a_killed_host_loses_no_acknowledged_request(serving, call):
    acknowledged = []
    for _ in range(2):
        with Load(Client(serving, "echo")) as load:
            load.served(100)
            os.kill(EndpointFolder(serving.root, "echo").host.pid, signal.SIGKILL)
            until(lambda: load.errors)
        acknowledged += [id for status, id, _ in load.replies if status == 200]
        serving.start("echo")
    assert len(acknowledged) >= 200
    for collection in ("model_inputs", "model_outputs"):
        assert {*acknowledged} <= {e["xrequestid"] for e in records(serving.root, "echo", "blue", collection)}


def test_a_full_disk_is_a_503_and_leaves_no_half_line(serving, call):
    pid = EndpointFolder(serving.root, "echo").host.pid
    call([{}])
    newest = max((serving.root / ".mlops/collected/echo/blue").rglob("*.jsonl"),
                 key=lambda path: path.stat().st_mtime_ns)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (newest.stat().st_size + 2000, before[1]))
    try:
        replies = [call([{"text": "x" * 700}], x_request_id=f"full-{number}") for number in range(8)]
        assert replies[0][0] == 200 and replies[-1][0] == 503
        assert "cannot be recorded" in replies[-1][1]["error"]["message"] and "retry-after" in replies[-1][2]
    finally: resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    assert call([{}], x_request_id="room")[0] == 200
    asked, answered = kept(serving, "room")
    assert len(asked) == len(answered) == 1
    good = [f"full-{number}" for number, (status, _, _) in enumerate(replies) if status == 200]
    assert all(kept(serving, id)[0] and kept(serving, id)[1] for id in good)


def test_a_folder_that_cannot_be_written_is_a_503(serving, call):
    folder = serving.root / ".mlops/collected/echo/blue/model_outputs/2014"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")
    assert call([{}], x_mlops_nb_time="2014-01-01T00:00:00Z")[0] == 503
    folder.unlink()
    assert call([{}], x_mlops_nb_time="2014-01-01T00:00:00Z")[0] == 200


def test_a_folder_that_was_removed_is_made_again(serving, call):
    call([{}])
    shutil.rmtree(serving.root / ".mlops/collected/echo/blue")
    assert call([{}], x_request_id="again")[0] == 200
    assert [len(part) for part in kept(serving, "again")] == [1, 1]


def test_a_refused_request_is_an_event_and_no_data(serving, call):
    since = [*serving.events("echo")][-1]["cursor"]
    assert call([{"fail": True}], x_request_id="failed")[0] == 500
    assert kept(serving, "failed") == ([],
                                       []) and [e["request_id"] for e in serving.events("echo", since)] == ["failed"]


def test_events_from_a_moment_on(serving, call):
    call([{}], x_request_id="early")
    moment = datetime.now(UTC)
    call([{}], x_request_id="late", x_mlops_nb_time="2013-07-01T07:00:00Z")
    (event,) = serving.events("echo", moment)
    assert (event["request_id"], event["time"]) == ("late", "2013-07-01T07:00:00.000000Z")


def test_outcomes_join_by_request_id(serving, call):
    call([{"p": 0.2}, {"p": 0.7}], x_request_id="007")
    file = serving.root / "landed.csv"
    file.write_text("request_id,row,value,time\n007,0,0,2013-07-02T01:00:00Z\n007,1,1,2013-07-02T01:00:00Z\n")
    command = [Path(sys.executable).with_name("mlops-nb"), "outcomes", "echo", file]
    for _ in range(2):
        assert subprocess.run(command, cwd=serving.root, capture_output=True,
                              text=True).stdout == "2 outcomes recorded\n"
    first, second = [json.loads(line)
                     for path in (serving.root / ".mlops/collected/echo/outcomes/2013/07/02/01").glob("*.jsonl")
                     for line in path.open()]
    assert first["id"] == second["id"] and first["xrequestid"] == "007"
    assert first["data"] == [{"row": 0, "value": 0}, {"row": 1, "value": 1}]
    file.write_text("id,value\n007,1\n")
    refused = subprocess.run(command, cwd=serving.root, capture_output=True, text=True)
    assert refused.returncode == 2 and "no column request_id" in refused.stderr


# The journal: an order that needs no clock

NOON = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)
STEPS = [timedelta(minutes=-5), timedelta(hours=-1), timedelta(days=-365), timedelta(hours=1), timedelta(days=365)]


def serve(journal: Journal, time: datetime, name: str, generation: int = 1):
    line = {"served": time.isoformat(), "request_id": name, "generation": generation}
    journal.append(time, (json.dumps(line) + "\n").encode())


def ids(root, since=None) -> list[str]: return [event["request_id"] for event in iter_served(root, since)]


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("restart", [False, True])
def test_a_cursor_overlooks_nothing_when_the_clock_steps(tmp_path, step, restart):
    journal, time = Journal(tmp_path), NOON
    serve(journal, time, "first")
    cursor, seen = [*iter_served(tmp_path)][-1]["cursor"], []
    for number in range(6):     # there and back, three times
        time = NOON + step if number % 2 == 0 else NOON
        if restart:
            journal.close()
            journal = Journal(tmp_path)
        for part in "ab": serve(journal, time, f"{number}{part}")
        for event in iter_served(tmp_path, cursor):
            seen.append(event["request_id"])
            cursor = event["cursor"]
    journal.close()
    assert seen == [f"{number}{part}" for number in range(6) for part in "ab"] == ids(tmp_path)[1:]
    assert ids(tmp_path, cursor) == ids(tmp_path, end_cursor(tmp_path)) == []


def test_files_of_any_name_are_seen_after_a_cursor(tmp_path):
    def write(path, *names):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"served": NOON.isoformat(), "request_id": name}) + "\n" for name in names))
    write(tmp_path / "2026/11/28/10/20261128T101000-aaaa.jsonl", "r1")
    cursor = [*iter_served(tmp_path)][-1]["cursor"]
    write(tmp_path / "2026/11/28/10/20261128T100500-bbbb.jsonl", "r2")  # another process, its clock was put back
    write(tmp_path / "2026/11/28/09/20261128T101000-aaaa.jsonl", "r3")    # another folder
    write(tmp_path / "2025/11/28/10/x.jsonl", "r4")
    assert sorted(ids(tmp_path, cursor)) == ["r2", "r3", "r4"]
    serve(journal := Journal(tmp_path), NOON, "r5")
    journal.close()
    assert sorted(ids(tmp_path, cursor)) == ["r2", "r3", "r4", "r5"]


def test_what_older_shares_drew_is_passed_over_however_late_it_is_answered(tmp_path):
    journal = Journal(tmp_path)
    serve(journal, NOON, "before", 4)
    cursor = end_cursor(tmp_path, generation=5)
    for generation in (4, 5, 4, 6): serve(journal, NOON - timedelta(hours=1), f"of {generation}", generation)
    journal.close()
    assert ids(tmp_path, cursor) == ["of 5", "of 6"]


def test_a_torn_line_is_not_behind_the_cursor(tmp_path):
    journal = Journal(tmp_path)
    serve(journal, NOON, "whole")
    path = next(tmp_path.rglob("*.jsonl"))
    with open(path, "ab") as file: file.write(b'{"served": "2026')
    cursor = end_cursor(tmp_path)
    with open(path, "ab") as file: file.write(b'-11-28T12:00:00+00:00", "request_id": "late"}\n')
    assert ids(tmp_path, cursor) == ["late"]
    journal.close()


def test_runs_are_counted_even_when_their_files_and_the_counter_are_gone(tmp_path):
    names = []
    for spoil in (lambda: None, lambda: (tmp_path / "runs").unlink(), lambda: (tmp_path / "runs").write_text("?"),
                  lambda: [path.unlink() for path in tmp_path.rglob("*.jsonl")]):
        spoil()
        serve(journal := Journal(tmp_path), NOON, "x")
        journal.close()
        names.append(journal.name[:6])
    assert names == ["000001", "000002", "000003", "000004"]


def test_a_look_at_what_is_new_walks_through_no_folder(tmp_path, monkeypatch):
    from mlops_nb.serving import collection
    journal = Journal(tmp_path)
    for hour in range(30): serve(journal, NOON + timedelta(hours=hour), f"r{hour}")
    cursor = [*iter_served(tmp_path)][-2]["cursor"]
    walked, found, real = [], [], collection._find_file
    monkeypatch.setattr(collection, "_walk", lambda root: walked.append(root) or [])
    monkeypatch.setattr(collection, "_find_file", lambda root, name: found.append(name) or real(root, name))
    assert ids(tmp_path, cursor) == ["r29"] and len(found) == 2     # the file of the cursor, and the one after it
    assert ids(tmp_path, NOON + timedelta(hours=28)) == ["r28", "r29"] and len(found) == 4
    assert end_cursor(tmp_path) and len(found) == 5 and walked == []
    journal.close()


def test_files_that_were_compressed_deleted_or_never_begun_hide_no_other(tmp_path):
    import gzip
    journal = Journal(tmp_path)
    for hour in range(4): serve(journal, NOON + timedelta(hours=hour), f"r{hour}")
    journal.close()
    first, second, third, _ = sorted(tmp_path.rglob("*.jsonl"))
    first.with_name(first.name + ".gz").write_bytes(gzip.compress(first.read_bytes()))
    first.unlink()
    second.unlink()
    with open(tmp_path / "files", "a") as names: names.write("\n2026/11/28/1")     # the disk was full
    serve(again := Journal(tmp_path), NOON, "r4")
    again.close()
    assert ids(tmp_path) == ["r0", "r2", "r3", "r4"]
    (tmp_path / "files").unlink()
    assert ids(tmp_path) == ["r0", "r2", "r3", "r4"], "without the list the folders are walked through"
