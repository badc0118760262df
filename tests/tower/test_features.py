"What the control tower says of one feature, and how it stays small with a thousand of them"
import json
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from mlops_nb.monitors.monitor import run_monitor
from mlops_nb.project import Project
from mlops_nb.tower.facts import collect_facts
from mlops_nb.tower.page import build_page
from mlops_nb.tower.parts import slices_part
from mlops_nb.workspace.workspace import Workspace

NOW = datetime(2026, 12, 1, tzinfo=UTC)
MONITOR = """
name: delay
trigger: {type: recurrence, frequency: day, interval: 1}
create_monitor:
  compute: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
  monitoring_target: {ml_task: regression}
  monitoring_signals:
    inputs:
      type: data_drift
      production_data: {input_data: {type: uri_folder, path: ../../data/now.parquet}, data_context: model_inputs}
      reference_data: {input_data: {type: uri_folder, path: ../../data/before.parquet}, data_context: training}
      metric_thresholds:
        numerical: {jensen_shannon_distance: 0.1}
        categorical: {jensen_shannon_distance: 0.1}
"""


@pytest.fixture
def root(tmp_path) -> Path:
    "A project whose temperature has risen, and where most flights are now of one carrier"
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "pipelines/monitoring").mkdir(parents=True)
    (tmp_path / "pipelines/monitoring/m.yml").write_text(MONITOR)
    for name, shift, kinds in (("before", 0, 20), ("now", 4, 1)):
        columns = f"{shift} + (i % 100) / 10.0 AS temp, 'c' || (i * i % {kinds})::VARCHAR AS carrier"
        duckdb.sql(f"COPY (SELECT {columns} FROM range(4000) t(i)) TO '{tmp_path}/data/{name}.parquet'")
    return tmp_path


def test_a_monitor_keeps_how_each_feature_has_moved(root):
    result = run_monitor(root, "pipelines/monitoring/m.yml", NOW)
    kept = json.loads(Project(root).histograms("delay").read_text())
    assert kept["window"] == result.window and {*kept["features"]} == {"temp", "carrier"}
    temp, carrier = kept["features"]["temp"], kept["features"]["carrier"]
    for shares in (temp["reference"], temp["window"], carrier["reference"], carrier["window"]):
        assert len(shares) <= 12 and sum(shares) == pytest.approx(1, abs=0.002)
    assert temp["bars"][0].startswith("0 to") and temp["window"][0] == 0 < temp["reference"][0]
    assert carrier["window"][carrier["bars"].index("c0")] == 1
    assert "all others" not in carrier["bars"] or len(carrier["bars"]) == 12


def test_the_newest_window_stays_when_an_older_one_is_judged_again(root):
    run_monitor(root, "pipelines/monitoring/m.yml", NOW)
    before = Project(root).histograms("delay").read_text()
    run_monitor(root, "pipelines/monitoring/m.yml", NOW - timedelta(days=3))
    assert Project(root).histograms("delay").read_text() == before


def test_the_page_shows_both_distributions_and_what_each_signal_says(root):
    run_monitor(root, "pipelines/monitoring/m.yml", NOW)
    page = build_page(collect_facts(root), root)
    assert "Numbers<span class=\"unseen\"> of temp in the reference and in the last window" in page
    assert 'href="#feature-0"' in page and 'id="feature-0"' in page and "<script" not in page
    kept = Project(root).histograms("delay")
    for damaged in ("{", "[]", '{"features": {"temp": {"bars": ["a"], "reference": [], "window": [1]}}}'):
        kept.write_text(damaged)
        assert "in the reference and in the last window" not in build_page(collect_facts(root), root)


def write_results(root: Path, features: int, windows: int) -> None:
    folder = root / ".mlops/monitors/wide"
    folder.mkdir(parents=True)
    for number in range(windows):
        end = NOW + timedelta(hours=number)
        same = dict(metric="jensen_shannon_distance", azure_threshold=0.1, null_threshold=0.05, azure_breach=False)
        rows = [same | dict(feature=f"feature_{each}", value=abs(math.sin(number + each)) / 8, breach=each == 700)
                for each in range(features)]
        signals = dict(inputs=dict(type="data_drift", verdict="breach", rows=rows))
        window = [f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (end - timedelta(hours=1), end)]
        result = dict(monitor="wide", window=window, breach=True, signals=signals, performance=None)
        (folder / f"{end:%Y%m%dT%H%M%SZ}.json").write_text(json.dumps(result))


def test_a_thousand_features_make_a_page_of_less_than_two_megabytes(root):
    write_results(root, features=1000, windows=60)
    page = build_page(collect_facts(root), root)
    assert len(page.encode()) < 2_000_000
    first = re.search(r"feature_\d+", page)
    assert first and first[0] == "feature_700" and "970 more features moved less: none of them" in page
    assert "1 Dec 00:00" in page and ">16:00<" in page      # hours have the names of hours


def test_the_slices_of_the_newest_evaluation_are_listed(root):
    workspace, folders = Workspace(root), [root / "old", root / "new"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        rows = [f"carrier,U<A,900,0.4{number},0.39,0.43", "carrier,EV,7,0.52,,"]
        lines = ["slice,label,rows,loss,loss_low,loss_high", *rows]
        (folder / "slices.csv").write_text("\n".join(lines))
        outputs = json.dumps(dict(evaluated=dict(path=str(folder))))
        workspace.db.execute("INSERT INTO jobs (id, name, file, status, created) VALUES (?, 'j', 'f', 'Completed', 0)",
                             (f"job{number}",))
        workspace.db.execute("INSERT INTO steps (job, name, status, outputs) VALUES (?, 'evaluate', 'Completed', ?)",
                             (f"job{number}", outputs))
    found = collect_facts(root)
    assert found["evaluation"] and found["evaluation"]["job"] == "job1"
    assert [one.loss for one in slices_part(found)] == ["0.52", "0.41 [0.39, 0.43]"]
    page = build_page(found, root)
    assert "carrier U&lt;A" in page and "2 slices, evaluated by job1" in page
