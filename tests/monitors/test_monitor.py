"The monitor as its user runs it: files in, a verdict out, whatever the files are like"
import json
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import yaml

from mlops_nb.errors import UserError
from mlops_nb.monitors import history, monitor, profiles
from mlops_nb.monitors.collected import database
from mlops_nb.monitors.monitor import run_monitor
from mlops_nb.schemas.validation import validate

from tests.support import ROOT

START = datetime(2013, 7, 1, tzinfo=UTC)
COLLECTED = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/e/"
WINDOW = {"lookback_window_size": "P7D", "lookback_window_offset": "P0D"}


def sample(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    "Rows with features, an honest probability and what came true"
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"x": rng.normal(shift, 1, n), "z": rng.normal(0, 1, n), "who": rng.choice(["UA", "AA", "DL"], n)}
    )
    table["probability"] = 1 / (1 + np.exp(-table.x))
    return table.assign(late=(rng.random(n) < table.probability).astype(int))


def signals(**changed) -> dict:
    "All five signals"
    produced = {"input_data": {"type": "uri_folder", "path": COLLECTED + "blue/model_inputs"}, "data_window": WINDOW}
    reference = {"input_data": {"type": "uri_folder", "path": "../../reference"},
                 "data_column_names": {"target_column": "late", "timestamp": "day", "prediction": "probability"}}
    drift = {
        kind: {"jensen_shannon_distance": 0.1, "population_stability_index": 0.2}
        for kind in ("numerical", "categorical")
    }
    made = {
        "drift": dict(type="data_drift", production_data=produced, reference_data=reference, metric_thresholds=drift),
        "predictions": dict(
            type="prediction_drift",
            production_data={**produced, "data_column_names": {"prediction": "probability"}},
            reference_data=reference,
            metric_thresholds={"numerical": drift["numerical"]},
        ),
        "quality": dict(type="data_quality", production_data=produced, reference_data=reference),
        "attribution": dict(
            type="feature_attribution_drift",
            production_data=[{**produced, "data_column_names": {"prediction": "probability"}}],
            reference_data=reference,
        ),
        "performance": dict(
            type="model_performance",
            production_data={**produced, "data_column_names": {"prediction": "probability"}},
            reference_data={"input_data": {"type": "uri_folder", "path": COLLECTED + "outcomes"}},
            properties={"baseline": "../../baseline", "target": "late", "day": "day"},
            metric_thresholds={"classification": {"accuracy": 0.5}},
        ),
    }
    return {**made, **changed}


class Site:
    "A project whose endpoint `e` has served"
    def __init__(self, root):
        self.root, self.n, self.event = root, 0, 0
        (root/"settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
        for name, seed in (("reference", 1), ("baseline", 2)):
            (root/name).mkdir()
            sample(3000, seed).assign(day=np.arange(3000) // 100).to_parquet(root/name/"data.parquet")
        self.file(signals())

    def file(self, made: dict, name: str = "m", endpoint: str = "e"):
        "The monitor's file"
        path = self.root/f"pipelines/monitoring/{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            yaml.safe_dump(
                dict(
                    name=name,
                    trigger=dict(type="cron", expression="0 6 * * 1"),
                    create_monitor=dict(
                        compute=dict(instance_type="standard_e4s_v3", runtime_version="3.4"),
                        monitoring_target=dict(
                            ml_task="classification", endpoint_deployment_id=f"azureml:{endpoint}:blue"
                        ),
                        monitoring_signals=made,
                    ),
                )
            )
        )
        return path

    def line(self, place: str, time: datetime, request: str, data, **more):
        "Append an event where the host does"
        folder = self.root/".mlops/collected/e"/place/f"{time:%Y/%m/%d/%H}"
        folder.mkdir(parents=True, exist_ok=True)
        event = dict(
            specversion="1.0",
            id=f"{place}{self.event}",
            time=f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
            xrequestid=request,
            correlationid=request,
            data=data,
        )
        self.event += 1
        with open(folder/"0.jsonl", "a") as file: file.write(json.dumps(event | more) + "\n")

    def serve(
        self,
        table: pd.DataFrame,
        days: int = 7,
        outcomes: bool = True,
        late: timedelta = timedelta(hours=3),
        deployment: str = "blue",
    ):
        "Requests spread over days, of one row each"
        for i, row in enumerate(table.to_dict("records")):
            time, id = START + timedelta(days=days) * i / len(table), f"{deployment}-{self.n}"
            features = {k: v for k, v in row.items() if k not in ("probability", "late")}
            self.line(f"{deployment}/model_inputs", time, id, [features])
            self.line(f"{deployment}/model_outputs", time, id, [{"probability": row["probability"]}])
            if outcomes: self.line("outcomes", time + late, id, [{"row": 0, "value": row["late"]}])
            self.n += 1

    def run(self, at: datetime = START + timedelta(days=7), name: str = "m"):
        return asdict(run_monitor(self.root, f"pipelines/monitoring/{name}.yml", at))


@pytest.fixture
def site(tmp_path): return Site(tmp_path)


def verdicts(result: dict) -> dict: return {name: signal["verdict"] for name, signal in result["signals"].items()}


def numbers(result: dict) -> list: return [v for v in result["performance"].values() if isinstance(v, (int, float))]


def test_a_quiet_week_is_ok_and_kept(site):
    site.serve(sample(900, 3))
    result = site.run()
    assert verdicts(result) == dict.fromkeys(signals(), "ok") and result["breach"] is False
    kept = json.loads((site.root/".mlops/monitors/m/20130708T000000Z.json").read_text())
    assert kept == {**result, "path": kept["path"]} or kept["signals"] == result["signals"]
    assert (
        abs(result["performance"]["value"] - result["performance"]["baseline"]) < 0.05
        and result["performance"]["days"] == 7
    )
    assert result["counts"]["missing"] + result["counts"]["late"] < 40


def test_a_shift_is_found_where_it_is(site):
    site.serve(sample(900, 4, shift=1.0))
    result = site.run()
    found = {(name, r["feature"]) for name, signal in result["signals"].items() for r in signal["rows"] if r["breach"]}
    assert (
        ("drift", "x") in found
        and ("predictions", "probability") in found
        and not {("drift", "z"), ("drift", "who")} & found
    )
    assert (
        result["breach"] and result["estimate"]["change"] < 0
    )  # predictions are surer than before: less loss is expected
    assert result["performance"]["value"] < result["performance"]["baseline"]


def test_a_small_window_is_not_judged(site):
    site.serve(sample(37, 5, shift=3.0))
    result = site.run()
    assert verdicts(result)["drift"] == "not enough data: 37 rows, 200 needed" and verdicts(result)[
        "performance"
    ].startswith("not enough data: 37 outcomes")
    assert not result["breach"] and result["estimate"] is None and result["performance"] is None


def test_a_window_without_rows_has_no_numbers(site):
    site.serve(sample(300, 5))
    result = site.run(at=START + timedelta(days=60))
    assert set(verdicts(result).values()) == {
        "not enough data: 0 rows, 200 needed",
        "not enough data: 0 outcomes, 200 needed",
    }
    assert all(not signal["rows"] for signal in result["signals"].values()) and result["rows"] == 0


def test_an_endpoint_that_does_not_exist(site):
    site.serve(sample(3, 5))
    site.file(signals(), "n", endpoint="nobody")
    with pytest.raises(UserError, match="no endpoint 'nobody' that has collected anything here\n  accepted: e"):
        site.run(name="n")


@pytest.mark.parametrize("change, why", [(lambda t: t.drop(columns="z"), "vanished: none of 400 rows has a value"),
                                         (lambda t: t.assign(z="much"), "type changed: no value reads as DOUBLE")])
def test_a_feature_that_vanished_or_changed_its_type(site, change, why):
    site.serve(change(sample(400, 6)))
    result = site.run()
    for name in ("drift", "quality"):
        assert [(r["feature"], r["value"], r["note"]) for r in result["signals"][name]["rows"] if r["breach"]] == [
            ("z", None, why)
        ]
    assert {r["feature"] for r in result["signals"]["drift"]["rows"]} == {"x", "who", "z"}


def test_a_new_category_is_named(site):
    table = sample(600, 7)
    site.serve(table.assign(who=np.where(np.arange(600) % 3 == 0, "9E", table.who)))
    result = site.run()
    rows = {(r["feature"], r["metric"]): r for r in result["signals"]["drift"]["rows"]}
    assert (
        rows["who", "jensen_shannon_distance"]["note"] == "1 new category"
        and rows["who", "jensen_shannon_distance"]["breach"]
    )
    quality = {(r["feature"], r["metric"]): r for r in result["signals"]["quality"]["rows"]}
    assert (
        quality["who", "out_of_bounds_rate"]["value"] == round(200 / 600, 5)
        and quality["who", "out_of_bounds_rate"]["breach"]
    )


def test_dirty_records_are_counted_and_nothing_else_changes(site):
    site.serve(sample(500, 8))
    clean = site.run()
    folder = site.root/".mlops/collected/e/blue/model_inputs/2013/07/02/10"
    folder.mkdir(parents=True, exist_ok=True)
    torn = b'{"time": "2013-07-02T10:00:00Z", "xrequestid": "t\n\xff\xfe\n'
    torn += b'{"xrequestid": "no-time", "data": [{}]}\n[1, 2]\n'
    (folder / "torn.jsonl").write_bytes(torn)
    for i in range(20):
        site.line(
            "blue/model_inputs", START + timedelta(days=1), f"blue-{i}", [{"x": 99.0, "z": 99.0, "who": "UA"}]
        )  # sent again
    for i in range(10):
        site.line(
            "outcomes", START + timedelta(days=40), f"blue-{i}", [{"row": 0, "value": 1}]
        )  # too late for this run
    dirty = site.run()
    assert (
        dirty["counts"]["malformed"] == 4
        and dirty["counts"]["duplicate"] == 20
        and dirty["counts"]["late"] == clean["counts"]["late"] + 10
    )
    assert dirty["signals"]["drift"] == clean["signals"]["drift"] and list(numbers(dirty)) == pytest.approx(
        list(numbers(clean)), rel=1e-12
    )


def test_outcomes_out_of_order_doubled_or_corrected_give_the_same_performance(tmp_path):
    made, found = sample(400, 9), []
    for order in (None, 1):
        (tmp_path/str(order)).mkdir()
        site = Site(tmp_path/str(order))
        site.serve(made, outcomes=False)
        jobs = [(i, late) for i, late in enumerate(made.late)]
        if order: random.Random(order).shuffle(jobs)
        for i, late in jobs:
            time = START + timedelta(days=7) * i / len(made) + timedelta(hours=2)
            if order and i % 5 == 0:
                site.line(
                    "outcomes", time - timedelta(hours=1), f"blue-{i}", [{"row": 0, "value": 1 - late}]
                )  # corrected below
            site.line("outcomes", time, f"blue-{i}", [{"row": 0, "value": int(late)}])
        found.append(site.run())
    assert (
        list(numbers(found[0])) == pytest.approx(list(numbers(found[1])), rel=1e-12)
        and found[1]["counts"]["duplicate"] == 80
    )


def test_outcomes_that_have_not_come_are_missing_until_the_window_has_matured(site):
    site.serve(sample(700, 10), late=timedelta(days=2))
    made = signals()
    hasty, patient = site.run(), None
    made["performance"]["production_data"]["data_window"] = {
        "lookback_window_size": "P7D",
        "lookback_window_offset": "P3D",
    }
    site.file(made)
    patient = site.run(at=START + timedelta(days=10))
    assert hasty["counts"]["missing"] > 150 and patient["counts"]["missing"] == 0
    assert patient["performance"]["n"] == 700


def test_a_clock_that_was_set_back_is_noted(site):
    site.serve(sample(300, 11))
    for i in range(3):
        site.line(
            "blue/model_inputs",
            START + timedelta(hours=3, minutes=40 - 20 * i),
            f"jump-{i}",
            [{"x": 0.0, "z": 0.0, "who": "UA"}],
        )
    assert site.run()["counts"]["clock"] >= 2


def test_copies_for_a_deployment_that_only_listens_are_no_traffic(site):
    site.serve(sample(300, 12))
    site.serve(sample(150, 13, shift=4.0), deployment="green")
    plain = site.run()["rows"]
    folder = site.root/".mlops/endpoints/e/served/2013/07/08/00"
    folder.mkdir(parents=True)
    rows = [
        dict(
            time=f"{START + timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ}",
            request_id=f"green-{300 + i}",
            deployment="green",
            mirror=True,
            status=200,
            milliseconds=3.0,
        )
        for i in range(150)
    ]
    rows += [dict(rows[0], request_id="blue-0", deployment="blue", mirror=False, status=500, milliseconds=9.0)]
    (folder/"a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = site.run()
    assert (plain, result["rows"]) == (450, 300) and result["service"] == dict(
        requests=1, error_rate=1.0, p50_ms=9.0, p99_ms=9.0
    )


def test_azure_alarms_by_its_own_threshold(site):
    site.serve(sample(220, 14))
    made = signals(drift=signals()["drift"] | {"metric_thresholds": {"numerical": {"jensen_shannon_distance": 0.03}}})
    site.file(made)
    ours = site.run()
    (site.root/"settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n[monitoring]\nalarm = azure\n")
    azure = site.run()
    assert (verdicts(ours)["drift"], verdicts(azure)["drift"]) == ("ok", "breach")
    assert all(r["azure_breach"] and r["value"] < r["null_threshold"] for r in ours["signals"]["drift"]["rows"])


def test_a_folder_of_parquet_csv_or_json_lines_is_production_too(site):
    table = sample(400, 15, shift=1.0).assign(when=pd.date_range("2013-07-01", periods=400, freq="20min"))
    found = []
    for kind, write in (
        ("parquet", table.to_parquet),
        ("csv", lambda p: table.to_csv(p, index=False)),
        ("jsonl", lambda p: table.to_json(p, orient="records", lines=True, date_format="iso", double_precision=15)),
    ):
        (site.root/kind).mkdir()
        write(site.root/kind/f"part.{kind}")
        data = dict(
            input_data=dict(type="uri_folder", path=f"../../{kind}"),
            data_column_names={"timestamp": "when"},
            data_window=WINDOW,
        )
        site.file({"drift": signals()["drift"] | {"production_data": data}})
        found.append(site.run(at=START + timedelta(days=7))["signals"]["drift"]["rows"])
    assert [r["feature"] for r in found[0] if r["breach"]] == ["x", "x"]
    for other in found[1:]:
        assert [r["value"] for r in other] == pytest.approx([r["value"] for r in found[0]], abs=1e-9)


def test_the_earlier_window_is_the_reference_where_the_file_names_none(site):
    site.serve(pd.concat([sample(700, 16), sample(700, 17, shift=1.5)]), days=14, outcomes=False)
    site.file({"drift": {k: v for k, v in signals()["drift"].items() if k != "reference_data"}})
    result = site.run(at=START + timedelta(days=14))
    assert {r["feature"] for r in result["signals"]["drift"]["rows"] if r["breach"]} == {"x"}
    assert result["reference"] == "2013-06-24T00:00:00Z to 2013-07-08T00:00:00Z"    # twice as long, as on Azure


def test_the_same_reference_is_counted_once_and_a_changed_one_anew(site):
    site.serve(sample(300, 18))
    kept = site.root/".mlops/monitors/references"
    def folders(): return {p.name: (p/"profile.json").stat().st_mtime_ns for p in kept.iterdir()}
    site.run()
    first = folders()
    site.run(at=START + timedelta(days=6))
    assert folders() == first
    sample(3000, 19).assign(day=0).to_parquet(site.root/"reference"/"data.parquet")
    site.run()
    assert len(folders()) == 2 * len(first)


@pytest.mark.parametrize("limits", [{"COLUMNS": 1, "WIDE": 1, "CELLS": 1}, {"CELLS": 10, "WIDE": 2}, {"CELLS": 1000}])
def test_the_numbers_do_not_depend_on_how_many_columns_are_read_at_once(tmp_path, monkeypatch, limits):
    root = tmp_path / "a"
    root.mkdir()
    site = Site(root)
    table = sample(3000, 1).assign(day=np.arange(3000) // 100, n=np.arange(3000) % 700, k=np.arange(3000) % 7)
    table.loc[::50, "z"] = np.nan
    table.to_parquet(root / "reference/data.parquet")
    window = sample(900, 4, shift=0.4).assign(n=np.arange(900) % 650, k=np.arange(900) % 6)
    measures = {"jensen_shannon_distance": 0.1, "population_stability_index": 0.2}
    values = {"normalized_wasserstein_distance": 0.1, "two_sample_kolmogorov_smirnov_test": 0.05}
    declared = signals()
    declared["drift"]["metric_thresholds"] = {"numerical": measures | values, "categorical": measures}
    site.file({name: declared[name] for name in ("drift", "quality")})
    site.serve(window.assign(z=np.where(np.arange(900) % 40, window.z, None)))
    usual = site.run()["signals"]
    assert {row["feature"] for row in usual["drift"]["rows"]} >= {"x", "z", "who", "n", "k"}
    shutil.rmtree(root / ".mlops/monitors")
    for name, value in limits.items():
        for module in (profiles, history):
            if hasattr(module, name): monkeypatch.setattr(module, name, value)
    assert site.run()["signals"] == usual


def test_a_table_of_1200_columns_is_monitored(tmp_path):
    site, names = Site(tmp_path), [f"c{number}" for number in range(1200)]
    def rows(n: int, seed: int) -> pd.DataFrame:
        return pd.DataFrame(np.random.default_rng(seed).normal(size=(n, 1200)).round(3), columns=names)
    rows(300, 1).to_parquet(tmp_path / "reference/data.parquet")
    declared = signals()
    site.file({name: declared[name] | {"features": names} for name in ("drift", "quality")})
    site.serve(rows(250, 2).assign(probability=0.5, late=0))
    found = run_monitor(tmp_path, "pipelines/monitoring/m.yml", START + timedelta(days=7))
    assert found.rows == 250 and len(found.signals["drift"]["rows"]) == 2400 and not found.breach


def test_too_little_memory_is_one_message(site, monkeypatch):
    wide = pd.DataFrame(np.zeros((300, 300)), columns=[f"c{number}" for number in range(300)])
    wide.to_parquet(site.root / "reference/data.parquet")
    site.file({"drift": signals()["drift"] | {"features": [*wide]}})
    site.serve(wide.assign(probability=0.5, late=0))
    monkeypatch.setattr(monitor, "database", lambda folder: database(folder, "3MB"))
    with pytest.raises(UserError, match="needs more memory than it may use: Out of Memory Error") as raised: site.run()
    assert raised.value.file and "fewer `features`" in str(raised.value)
    assert not [*(site.root / ".mlops/monitors").glob("*/*.json")]


def test_two_runs_at_once_spill_into_folders_of_their_own_and_leave_none(site, monkeypatch):
    site.serve(sample(300, 20))
    used, both = [], threading.Barrier(2)
    def watched(folder, *more):
        con = database(folder, *more)
        used.append(con.execute("SELECT current_setting('temp_directory')").fetchone()[0])
        both.wait(60)                   # neither ends before the other has begun
        return con
    monkeypatch.setattr("mlops_nb.monitors.monitor.database", watched)
    with ThreadPoolExecutor(2) as pool: one, two = pool.map(lambda _: site.run(), range(2))
    assert verdicts(one) == verdicts(two) and one["counts"] == two["counts"] and len(set(used)) == 2
    values = [[r["value"] for signal in found["signals"].values() for r in signal["rows"]] for found in (one, two)]
    assert values[0] == pytest.approx(values[1], abs=1e-9)      # sums of two threads differ in the last digit
    assert not [*(site.root/".mlops/monitors/spill").iterdir()]


def regression(n: int, seed: int, shift: float = 0.0, error: float = 1.0) -> pd.DataFrame:
    "Rows with a feature, a prediction, and a target that is off by a normal error"
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1, n)
    return pd.DataFrame({"x": x, "minutes": 3 * x, "actual": 3 * x + rng.normal(0, error, n)})


@pytest.mark.parametrize(
    "shift, error, alarms", [(0.0, 1.0, set()), (0.0, 2.0, {"performance"}), (1.0, 1.0, {"drift"})]
)
def test_a_regression_is_monitored_too(site, shift, error, alarms):
    table = regression(700, 21, shift, error)
    regression(3000, 22).assign(day=np.arange(3000) // 100).to_parquet(site.root/"reference"/"data.parquet")
    for i, row in enumerate(table.to_dict("records")):
        time = START + timedelta(days=7) * i / len(table)
        site.line("blue/model_inputs", time, f"r{i}", [{"x": row["x"]}])
        site.line("blue/model_outputs", time, f"r{i}", [{"minutes": row["minutes"]}])
        site.line("outcomes", time, f"r{i}", [{"row": 0, "value": row["actual"]}])
    made = signals()
    performance = made["performance"] | dict(
        properties={"baseline": "../../reference", "target": "actual", "day": "day"},
        metric_thresholds={"regression": {"rmse": 1.5, "mae": 1.2}},
    )
    performance["production_data"] = performance["production_data"] | {"data_column_names": {"prediction": "minutes"}}
    path = site.file({"drift": made["drift"] | dict(features=["x"]), "performance": performance})
    path.write_text(path.read_text().replace("ml_task: classification", "ml_task: regression"))
    result = site.run()
    found = result["performance"]
    assert {name for name, verdict in verdicts(result).items() if verdict == "breach"} == alarms and {
        "ok",
        "breach",
    } >= {*verdicts(result).values()}
    assert (
        found["metric"] == "rmse"
        and found["value"] == pytest.approx(((table.minutes - table.actual) ** 2).mean() ** 0.5)
        and found["baseline"] == pytest.approx(1, abs=0.1)
    )
    rows = {r["metric"]: r for r in result["signals"]["performance"]["rows"]}
    assert rows["mae"]["value"] == pytest.approx((table.minutes - table.actual).abs().mean()) and rows["mae"][
        "azure_breach"
    ] == (error == 2.0)


def test_the_example_is_valid_here_and_for_azure():
    from azure.ai.ml.entities._load_functions import load_schedule
    file = ROOT/"pipelines/monitoring/monitor.yml"
    assert validate(file) == []
    made = load_schedule(str(file)).create_monitor.monitoring_signals
    assert {name: type(s).__name__ for name, s in made.items()} == {
        "data_drift": "DataDriftSignal",
        "prediction_drift": "PredictionDriftSignal",
        "data_quality": "DataQualitySignal",
        "feature_attribution_drift": "FeatureAttributionDriftSignal",
        "model_performance": "ModelPerformanceSignal",
    }
    assert made["data_drift"].metric_thresholds.numerical.population_stability_index == 0.2
    assert made["model_performance"].properties["target"] == "late"


@pytest.mark.parametrize(
    "old, new, told",
    [
        (
            "population_stability_index: 0.2}\n        categorical",
            "psi: 0.2}\n        categorical",
            "metric_thresholds.numerical has no key 'psi'",
        ),
        ("lookback_window_size: P28D", "lookback_window_size: 28 days", "lookback_window_size is '28 days'"),
        ("type: prediction_drift", "type: predicton_drift", "is 'predicton_drift'"),
        (
            "endpoint_deployment_id: azureml:flight-delay:blue",
            "endpoint_deployment_id: flight-delay",
            "endpoint_deployment_id is 'flight-delay'",
        ),
        ("week_days: [monday]", "week_days: [moonday]", "moonday"),
        ("time_zone: Eastern Standard Time", "time_zone: America/New_York", "America/New_York"),
    ],
)
def test_what_azure_would_drop_or_refuse_is_refused(tmp_path, old, new, told):
    text = (ROOT/"pipelines/monitoring/monitor.yml").read_text()
    assert old in text
    (tmp_path/"monitor.yml").write_text(text.replace(old, new, 1))
    found = validate(tmp_path/"monitor.yml")
    assert any(told in str(p) for p in found) and all(p.line for p in found)


def test_a_monitor_that_names_its_deployment_only_gets_what_azure_fills_in(tmp_path):
    site = Site(tmp_path)
    path = site.file({})
    spec = yaml.safe_load(path.read_text())
    del spec["create_monitor"]["monitoring_signals"]
    spec["trigger"] = dict(type="recurrence", frequency="day", interval=7, schedule=dict(hours=3, minutes=15))
    path.write_text(yaml.safe_dump(spec))
    assert validate(path) == []
    site.serve(sample(2000, 3), days=21)
    result = run_monitor(tmp_path, path, START + timedelta(days=21))
    assert {name: found["type"] for name, found in result.signals.items()} == {
        "data-drift-signal": "data_drift", "prediction-drift-signal": "prediction_drift",
        "data-quality-signal": "data_quality"}
    drift = result.signals["data-drift-signal"]
    assert drift["window"] == ["2013-07-15T00:00:00Z", "2013-07-22T00:00:00Z"]
    assert drift["reference"] == "2013-07-01T00:00:00Z to 2013-07-15T00:00:00Z" and drift["rows"]
    del spec["create_monitor"]["monitoring_target"]
    path.write_text(yaml.safe_dump(spec))
    assert [p.what for p in validate(path)] == ["create_monitor needs 'monitoring_signals', or a deployment"]


def test_attribution_without_production_data_watches_the_deployment(tmp_path):
    site = Site(tmp_path)
    declared = {"type": "feature_attribution_drift", "reference_data": signals()["attribution"]["reference_data"]}
    path = site.file({"attribution": declared})
    assert validate(path) == []
    site.serve(sample(1000, 4))
    found = run_monitor(tmp_path, path, START + timedelta(days=7)).signals["attribution"]
    assert found["verdict"] == "ok" and found["n"] == 1000
    spec = yaml.safe_load(path.read_text())
    del spec["create_monitor"]["monitoring_target"]
    path.write_text(yaml.safe_dump(spec))
    assert "needs 'production_data', or the monitor a deployment" in validate(path)[0].what
