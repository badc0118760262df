"A refresh of the control tower costs the windows that it shows, not the history behind them"
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_nb.project import Project
from mlops_nb.tower import facts
from mlops_nb.tower.facts import collect_facts, list_results, read_results, read_traffic
from mlops_nb.tower.page import build_page

START = datetime(2025, 1, 1, tzinfo=UTC)


def stamp(time: datetime) -> str: return f"{time:%Y-%m-%dT%H:%M:%SZ}"


def add_result(root: Path, monitor: str, hour: int, value: float = 0.05) -> None:
    end = START + timedelta(hours=hour + 1)
    window = [stamp(end - timedelta(hours=1)), stamp(end)]
    row = dict(feature="temp", metric="psi", value=value, azure_threshold=0.1, null_threshold=0.02, breach=False)
    signals = dict(inputs=dict(type="data_drift", verdict="ok", rows=[row]))
    file = root / f".mlops/monitors/{monitor}/{end:%Y%m%dT%H%M%SZ}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(dict(monitor=monitor, window=window, breach=False, signals=signals, performance=None)))


@pytest.fixture
def root(tmp_path) -> Path:
    "A project that shows the latest ten windows of each monitor"
    settings = "[project]\nexperiment = flights\nmodel = flights\n[monitoring]\ntower_windows = 10\n"
    (tmp_path / "settings.ini").write_text(settings)
    for hour in range(50): add_result(tmp_path, "hourly", hour, value=hour / 1000)
    for month in range(3): add_result(tmp_path, "monthly", 720 * month)
    return tmp_path


def test_each_monitor_shows_its_latest_windows_and_no_other_is_read(root, monkeypatch):
    read, real = [], facts._read_result
    monkeypatch.setattr(facts, "_read_result", lambda file: read.append(file) or real(file))
    found = collect_facts(root)
    shown = [(result["monitor"], result["window"][1]) for result in found["results"]]
    latest = [START + timedelta(hours=hour + 1) for hour in range(40, 50)]
    assert [end for name, end in shown if name == "hourly"] == [*map(stamp, latest)]
    assert sum(name == "monthly" for name, _ in shown) == 3 and len(read) == 13
    assert [end for _, end in shown] == sorted(end for _, end in shown)
    assert found["earlier"] == 40
    assert "40 earlier windows are not shown" in build_page(found, root)


def test_an_older_window_takes_the_place_of_a_damaged_one(root):
    newest = Path(list_results(Project(root))["hourly"][0])
    newest.write_text('{"monitor"')
    found = read_results(list_results(Project(root)), 10)
    assert sum(result["monitor"] == "hourly" for result in found) == 10
    assert stamp(START + timedelta(hours=50)) not in {result["window"][1] for result in found}


def test_a_page_is_as_large_after_a_year_as_after_a_week(root):
    before = len(build_page(collect_facts(root), root))
    for hour in range(50, 250): add_result(root, "hourly", hour, value=hour / 1000)
    assert len(build_page(collect_facts(root), root)) < 1.1 * before


def serve(root: Path, number: int, **fields) -> None:
    "Write down a served request, as the host does"
    time = f"2025-01-01T00:00:{number % 60:02}Z"
    event = dict(time=time, served=time, request_id=f"r{number}", deployment="blue", version="1", mirror=False,
                 status=200, milliseconds=3.0, valid=True, generation=0, load=0.5)
    file = root / ".mlops/endpoints/flights/served/2025/01/01/00/000001-abcd.000001.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "a") as lines: lines.write(json.dumps(event | fields) + "\n")


def test_requests_are_counted_once_each_however_often_the_tower_is_written(tmp_path, monkeypatch):
    root, project = tmp_path, Project(tmp_path)
    (root / ".mlops/endpoints/flights").mkdir(parents=True)
    (root / ".mlops/endpoints/flights/state.json").write_text('{"name": "flights", "generation": 0}')
    (root / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flights\n")
    for number in range(20): serve(root, number, status=502 if number == 3 else 200, mirror=number == 4)
    first = read_traffic(project, "flights")
    service = first["service"]
    counted = {name: value for name, value in first.items() if name != "service"}
    assert counted == dict(requests={("2025-01-01", "1"): 19}, errors={("2025-01-01", "1"): 1}, mirrored=1)
    [hour] = service.hours.values()
    assert (hour.requests, hour.errors, hour.refused, hour.load) == (20, 1, 0, 0.5)
    assert hour.percentile(0.99) == pytest.approx(4.98, abs=0.05)      # 3 ms lies in the bucket from 2.5 to 5
    added, real = [], facts.TrafficCount.add
    monkeypatch.setattr(facts.TrafficCount, "add", lambda self, event: added.append(event) or real(self, event))
    assert read_traffic(project, "flights") == first and not added
    for number in range(20, 25): serve(root, number, version="2", time="2025-01-02T00:00:00Z")
    serve(root, 25, pinned=True, time="2030-01-01T00:00:00Z")   # of QA: today, while a replay's requests are years old
    again = read_traffic(project, "flights")
    assert len(added) == 6 and max(again["service"].days)[0] == "2025-01-02"
    assert again["requests"] == {("2025-01-01", "1"): 19, ("2025-01-02", "2"): 5}
    kept = root / ".mlops/endpoints/flights/traffic.json"
    for text in ("{", '{"cursor": "no cursor", "mirrored": 0, "days": []}', '{"cursor": null}', "[]"):
        kept.write_text(text)
        assert read_traffic(project, "flights") == again
