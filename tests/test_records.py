"records: nine kinds of damage stop no reader, and each damaged line is kept once"
import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlops_nb.monitors.collected import Counts, database, read_events
from mlops_nb.records import count_damage, needs, read_damage, read_records
from mlops_nb.releases.shadow import read_predictions
from mlops_nb.serving.collection import iter_served

DAMAGE = [b"", b"{", b'{"a": ', b"\x00" * 64, b"\xff\xfe\xfd", b"[1, 2]", b"null", b'"text"',
          b"[" * 5000, b"1e999" * 50]
SERVED = dict(time="2013-07-01T06:00:00Z", served="2013-07-01T06:00:00Z", request_id="r", deployment="blue",
              mirror=False, status=200, milliseconds=3.5, valid=True)
WRONG = [dict(time=5), dict(served="yesterday"), dict(status="200"), dict(milliseconds=None), dict(mirror=None),
         dict(deployment=["blue"]), dict(request_id=None)]


def lines(*records) -> bytes:
    texts = (record if isinstance(record, bytes) else json.dumps(record).encode() for record in records)
    return b"".join(text + b"\n" for text in texts)


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
def test_what_can_be_read_is_read(tmp_path, damage):
    log = tmp_path/"x.jsonl"
    log.write_bytes(lines({"n": 1}, damage, {"n": 2}) + b'{"n": 3')     # the last line is not written to its end
    for _ in range(2): assert [record["n"] for _, record in read_records(log)] == [1, 2]
    assert len(read_damage(log)) == 1 and count_damage(tmp_path) == {"x.damaged": 1}
    assert read_damage(log)[0].position == len(lines({"n": 1}))


def test_a_reader_goes_on_where_it_stopped(tmp_path):
    log = tmp_path/"x.jsonl"
    log.write_bytes(lines({"n": 1}, b"{", {"n": 2}))
    first, _ = next(read_records(log))
    assert [record["n"] for _, record in read_records(log, first)] == [2] and len(read_damage(log)) == 1


def test_a_folder_that_may_not_be_written_is_still_read(tmp_path, monkeypatch):
    log = tmp_path/"x.jsonl"
    log.write_bytes(lines(b"{", {"n": 1}))
    def refuse(*_): raise OSError(28, "No space left on device")
    monkeypatch.setattr("mlops_nb.records.write_whole", refuse)
    assert [record["n"] for _, record in read_records(log)] == [1]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_request_that_a_release_cannot_count_is_set_aside(tmp_path, wrong):
    log = tmp_path/"2013"/"07"/"01"/"06"/"a.jsonl"
    log.parent.mkdir(parents=True)
    log.write_bytes(lines(SERVED, SERVED | wrong, SERVED | {"request_id": "s"}))
    events = [*iter_served(tmp_path)]
    assert [event["request_id"] for event in events] == ["r", "s"] and len(read_damage(log)) == 1
    assert [event["request_id"] for event in iter_served(tmp_path, events[0]["cursor"])] == ["s"]


def test_broken_lines_of_what_was_collected_stop_neither_monitor_nor_release(tmp_path):
    sound = {"time": "2026-01-01T00:00:00Z", "id": "1", "xrequestid": "r", "data": [{"a": 0.25}]}
    log = tmp_path/".mlops"/"collected"/"e"/"blue"/"model_outputs"/"x.jsonl"
    log.parent.mkdir(parents=True)
    bad = [damage for damage in DAMAGE if damage]
    log.write_bytes(lines(*bad, sound, {"xrequestid": 5, "data": 7}))
    assert read_predictions(tmp_path, "e", "blue", {"r"}, datetime(2000, 1, 1, tzinfo=UTC)) == {"r": [0.25]}
    counts = Counts()
    with database(tmp_path/"spill") as con:
        read_events(con, "events", [str(log)], counts)
        assert con.execute("SELECT request FROM events").fetchall() == [("r",)]
    assert counts.malformed and len(read_damage(log)) == len(bad) + 1


@pytest.mark.parametrize("name", ["o'brien", "a [1] b*", 'with "quotes"', "ünï"])
def test_a_monitor_reads_in_any_folder(tmp_path, name):
    folder: Path = tmp_path/name
    folder.mkdir()
    sound = {"time": "2026-01-01T00:00:00Z", "id": "1", "xrequestid": "r", "data": [{"a": 1}]}
    (folder/"x.jsonl").write_bytes(lines(sound))
    with database(folder/"spill") as con:
        read_events(con, "events", [str(folder/"x.jsonl")], Counts())
        assert con.execute("SELECT count(*) FROM events").fetchone() == (1,)
    assert stat.S_ISDIR((folder/"spill").stat().st_mode)


def test_needs_says_what_is_wrong():
    assert needs(status=int)({"status": "x" * 100}) == "status is '" + "x" * 40 + "'"


@pytest.mark.parametrize("lost", ["status", "milliseconds", "valid", "mirror", "deployment", "time"])
def test_a_request_whose_record_has_lost_a_field_stops_no_release(tmp_path, lost):
    from mlops_nb.project import Project
    from mlops_nb.serving.endpoints import Endpoints
    from mlops_nb.serving.state import EndpointFolder
    from mlops_nb.tower.facts import count_set_aside
    folder, now = EndpointFolder(tmp_path, "echo"), "2026-01-01T00:00:00+00:00"
    with folder.change(): pass
    whole = {"time": now, "served": now, "deployment": "blue", "mirror": False, "status": 200, "milliseconds": 1.0,
             "valid": True}
    log = folder.path/"served"/"2026"/"01"/"01"/"00"/"x.jsonl"
    log.parent.mkdir(parents=True)
    broken = {name: value for name, value in whole.items() if name != lost}
    log.write_bytes(lines(broken | {"request_id": "1"}, whole | {"request_id": "2"}))
    assert [event["request_id"] for event in Endpoints(tmp_path).events("echo")] == ["2"]
    assert [damage.reason for damage in read_damage(log)] == [f"it has lost {lost}"]
    assert count_set_aside(Project(tmp_path), []) == {"damaged lines": 1}, "and the tower says so"
