"""A team's repository that works in the loopback Azure: its workflows are the real ones, its pipeline is one small
step, its days are made up"""
import json
import os
import random
import subprocess
import sys
from datetime import date, timedelta
from http.client import HTTPSConnection
from pathlib import Path

import pandas as pd

from tests.support.acting import copy_of, git
from tests.support.azure import released
from tests.support.loopback import registries, workspaces
from tests.support.loopback.arm import ML, SUBSCRIPTION, read
from tests.support.loopback.bench import GROUP
from tests.support.loopback.endpoints import key_pair
from tests.support.loopback.proxy import Request

TODAY = date.today()
DRIFT = TODAY - timedelta(days=40)  # From then on the other carrier is the one that is late
FIRST, JUDGED, LAST = (f"{TODAY - timedelta(days=n)}" for n in (120, 80, 45))  # The windows of the first training
# What no job here needs, but for QA and the tower
LEFT_OUT, NEEDED = ("nbs/", "tests/", "bench/"), ("nbs/deployment/02", "nbs/monitoring/01")
PLACES = ("dev", "staging", "production")
REPOSITORY = "team/flights"
SETTINGS = released.SETTINGS + """\
[monitoring]
min_outcomes = 200
train_days = 20
test_days = 10
"""
TRAIN = '''"Fits on the days of a window, judges on the days after it, and registers what is better"
import json, sys, tempfile
from pathlib import Path
import numpy as np, pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, PowerTransformer
from mlops_nb.models import saving, tracking
from mlops_nb.models.champion import (judge_and_promote, judge_challenger, measure_latencies, pack_rows,
                                      read_champion_rows, register_judged, write_decision, write_rows)
from mlops_nb.models.gate import verdict_tags
from mlops_nb.models.settings import GateSettings

train_start, train_end, test_end = sys.argv[1:4]
decision, prepared, reference, baseline = map(Path, sys.argv[4:8])
table, names = pd.read_csv("days.csv", parse_dates=["day"]), ["carrier", "hour"]
windows = (train_start, train_end), (train_end, test_end)
train, test = (table[(table.day >= start) & (table.day < end)].reset_index(drop=True) for start, end in windows)
carriers = OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"]
encode = make_column_transformer(carriers, remainder="passthrough")
limits = GateSettings(bootstrap=200, max_calibration_error=1.0, max_latency_ms=60000)
made = make_pipeline(encode, LogisticRegression(max_iter=1000)).fit(train[names], train.late)
prepared.mkdir(parents=True, exist_ok=True)
test.to_parquet(prepared / "test.parquet", index=False)
(prepared / "columns.json").write_text(json.dumps({"label": "late", "day": "day"}))


def losses(p): return -np.log(np.clip(np.where(test.late, p, 1 - p), 1e-15, 1))
def said(pipeline, rows): return pipeline.predict_proba(rows[names])[:, 1]
def meet():
    return judge_challenger("flight-delay", losses(said(made, test)),
                            lambda champion, version: losses(said(champion, test)),
                            losses(np.full(len(test), train.late.mean())), test.day, {}, limits=limits,
                            calibration_error=0.0,
                            latency_ms=measure_latencies(made.predict_proba, test[names], 5, 1))
def rows():
    scored = {"reference": train, "baseline": test}
    return pack_rows(**{name: part.assign(probability=said(made, part)) for name, part in scored.items()})
def opponent(judged): return judged.opponent("the share of late flights")
def register(judged, folder, digest):
    tags = verdict_tags(judged.verdict) | {"train_end": train_end, "opponent": opponent(judged)}
    return register_judged(f"{folder}/model", digest, "flight-delay", judged.verdict.reason, tags,
                           judged.champion and judged.champion.version, rows=rows())


with tracking.run(), tempfile.TemporaryDirectory() as folder:
    digest = saving.save(made, f"{folder}/model", X_example=train[names])
    judged, new = judge_and_promote(meet, lambda judged: register(judged, folder, digest))
    write_decision(decision, judged.verdict, judged.verdict.reason, model="flight-delay", version=new,
                   opponent=opponent(judged))
    write_rows(read_champion_rows("flight-delay") or rows(), reference=reference, baseline=baseline)
'''
COMMAND = """\
import sys
if "--on" in sys.argv and sys.argv[1] in ("release", "releases", "rollback", "deploy", "endpoint", "qa"):
    from mlops_nb import times
    times.now = now     # what waits for hours; which days to train on is a matter of today
    if sys.argv[1] == "release": sys.argv += ["--poll", "0.2"]
from mlops_nb.cli.main import main
main()
"""
PIPELINE = f"""\
$schema: https://azuremlschemas.azureedge.net/latest/pipelineJob.schema.json
type: pipeline
display_name: training
experiment_name: flights
settings: {{default_compute: serverless}}
inputs: {{train_start: "{FIRST}", train_end: "{JUDGED}", test_end: "{LAST}"}}
outputs:
  decision: {{type: uri_folder}}
  reference: {{type: mltable, name: flights-reference}}
  baseline: {{type: mltable, name: flights-baseline}}
jobs:
  train:
    type: command
    component: train.yml
    inputs:
      train_start: ${{{{parent.inputs.train_start}}}}
      train_end: ${{{{parent.inputs.train_end}}}}
      test_end: ${{{{parent.inputs.test_end}}}}
    outputs:
      decision: ${{{{parent.outputs.decision}}}}
      reference: ${{{{parent.outputs.reference}}}}
      baseline: ${{{{parent.outputs.baseline}}}}
"""
COMPONENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json
type: command
name: train
version: "1"
inputs: {train_start: {type: string}, train_end: {type: string}, test_end: {type: string}}
outputs:
  decision: {type: uri_folder}
  prepared: {type: uri_folder}
  reference: {type: mltable}
  baseline: {type: mltable}
code: ../..
environment: file:../environment/environment.yml
command: >-
  python train.py ${{inputs.train_start}} ${{inputs.train_end}} ${{inputs.test_end}}
  ${{outputs.decision}} ${{outputs.prepared}} ${{outputs.reference}} ${{outputs.baseline}}
"""
ROLLOUT = """\
alpha: 0.01
p99_latency_ms: 60000
promotion: {max_bad_rate: 0.2, confidence: 0.9}
stages:
"""


def places(azure):
    "Three workspaces, and the registry through which models go from one to the next"
    workspaces.make_workspace(azure, GROUP, "staging")
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/{ML}/registries/shared"
    registries.put_registry(azure, read(Request("PUT", "management.azure.com", path, {}, b"{}")))


MONITOR = """\
$schema: https://azuremlschemas.azureedge.net/latest/monitorSchedule.schema.json
name: flight-delay-monitor
trigger: {type: cron, expression: "0 6 * * 1"}
create_monitor:
  compute: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
  monitoring_target: {ml_task: classification, endpoint_deployment_id: "azureml:flight-delay:version-1"}
  monitoring_signals:
    drift:
      type: data_drift
      alert_enabled: true
      production_data:
        input_data: {type: uri_folder, path: COLLECTED/version-1/model_inputs}
        data_context: model_inputs
        data_window: &window {lookback_window_size: P7D, lookback_window_offset: P0D}
      reference_data:
        input_data: {type: mltable, path: "azureml:flights-reference@latest"}
        data_context: training
        data_column_names: {target_column: late}
      features: [hour, carrier]
      metric_thresholds:
        numerical: {jensen_shannon_distance: 0.3}
        categorical: {jensen_shannon_distance: 0.3}
    performance:
      type: model_performance
      alert_enabled: true
      production_data:
        input_data: {type: uri_folder, path: COLLECTED/version-1/model_outputs}
        data_context: model_outputs
        data_column_names: {prediction: prediction, prediction_probability: probability}
        data_window: *window
      reference_data:
        input_data: {type: uri_folder, path: COLLECTED/outcomes}
        data_context: ground_truth
      properties: {baseline: "azureml:flights-baseline@latest", target: late, day: day}
      metric_thresholds:
        classification: {accuracy: 0.6}
""".replace("COLLECTED", "azureml://datastores/workspaceblobstore/paths/modelDataCollector/flight-delay")


def late(row: dict, day: date) -> float:
    "How likely a flight is late: its carrier counts, until the drift and after it, and the rush hours do"
    return 0.05 + 0.45 * (row["carrier"] == ("AA" if day < DRIFT
                                             else "UA")) + 0.45 * (6 <= row["hour"] < 9 or 16 <= row["hour"] < 20)


def flights(draw: random.Random, day: date, n: int, first: float = 5) -> list[dict]:
    "Flights of a day from an hour on, and whether they were late"
    rows = [{"carrier": draw.choice(("AA", "UA")), "hour": round(draw.uniform(first, 23), 2)} for _ in range(n)]
    return [{**row, "late": int(draw.random() < late(row, day))} for row in rows]


def days() -> pd.DataFrame:
    "Twenty flights a day, up to yesterday"
    draw, every = random.Random(0), [TODAY - timedelta(days=n) for n in range(120, 0, -1)]
    return pd.DataFrame([{"day": day.isoformat(), **row} for day in every for row in flights(draw, day, 20)])


def repository(azure, folder: Path, dispatch_to: str = REPOSITORY) -> Path:
    "This repository, with the small pipeline in the place of its own"
    root = copy_of(folder, lambda name: name.startswith(LEFT_OUT) and not name.startswith(NEEDED))
    sections = "".join(
        f"[{on}]\n"
        + "".join(f"{key} = {value}\n" for key, value in azure.workspace(on).items())
        + f"registry = shared\nidentity = id-{on}\nendpoint_suffix = {'' if on == 'production' else f'-{on}'}\n"
        + (f"push = logic_app\ndispatch_to = {dispatch_to}\n" if on == "production" else "")
        for on in PLACES
    )
    days().to_csv(root / "days.csv", index=False)
    deployment = (
        (root / "pipelines/deployment/deployment.yml").read_text().replace('WORKER_COUNT: "2"', 'WORKER_COUNT: "1"')
    )
    files = {"settings.ini": SETTINGS + sections, "pipelines/training/pipeline.yml": PIPELINE,
             "pipelines/training/train.yml": COMPONENT, "train.py": TRAIN, "pipelines/monitoring/monitor.yml": MONITOR,
             "pipelines/deployment/deployment.yml": deployment,
             "pipelines/deployment/staging.yml": ROLLOUT + "  - {traffic: 100}\n",
             "pipelines/deployment/rollout.yml": ROLLOUT + "  - {traffic: 50, min_requests: 20}\n  - {traffic: 100}\n"}
    for name, text in files.items(): (root / name).write_text(text)
    (root / "pipelines/monitoring/retrain.yml").unlink()
    git(root, "add", "--all")
    git(root, "commit", "-qm", "A small training")
    return root


class Production(released.Callers):
    """The endpoint in production, and those who call it; some of them fly at midnight, as nobody did on the days of
    training"""
    def __init__(self, azure):
        found = next(one for one in azure.state.all("workspaces/onlineEndpoints")
                     if "/workspaces/production/" in one["id"])
        self.traffic = found["properties"]["traffic"]
        super().__init__(azure, found["properties"]["scoringUri"], key_pair(azure, found["id"])["primary"], pause=0.1)

    def row(self) -> dict:
        return {"carrier": self.draw.choice(["AA", "UA"]),
                "hour": self.draw.choice([0.0, round(self.draw.uniform(5, 23), 2)])}


def served(azure, day: str, requests: int = 6, rows: int = 30) -> list[str]:
    "Ask production for the flights of a day, and wait for them to land: lines that say which was late"
    to, draw, landed = Production(azure), random.Random(day), []
    assert to.address.hostname is not None
    link = HTTPSConnection(to.proxy.hostname, to.proxy.port, context=to.trust, timeout=60)
    link.set_tunnel(to.address.hostname, 443)
    for number in range(requests):
        found = flights(draw, TODAY, rows, first=17)   # Evenings alone are flown: a drift of the hours
        link.request("POST", to.address.path,
                     json.dumps([{name: row[name] for name in ("carrier", "hour")} for row in found]),
                     {"Authorization": f"Bearer {to.key}", "Content-Type": "application/json",
                      "x-request-id": f"{day}-{number}"})
        reply = link.getresponse()
        assert reply.status == 200, reply.read()
        assert len(json.loads(reply.read())) == rows
        landed += [f"{day}-{number},{place},{row['late']}" for place, row in enumerate(found)]
    link.close()
    return landed


def worse(root: Path):
    "Commit a model that is better on all days, but fails at midnight, when no flight of these days leaves"
    bins = 'KBinsDiscretizer(18, encode="onehot-dense", strategy="uniform")'
    hours = f'remainder=make_pipeline(PowerTransformer(method="box-cox"), {bins})'
    changes = {"train.py": (('remainder="passthrough"', hours),),
               "pipelines/training/pipeline.yml": tuple((old, f"{TODAY - timedelta(days=n)}") for old,
                                                        n in ((FIRST, 30), (JUDGED, 10), (LAST, 0)))}
    for name, pairs in changes.items():
        text = (root / name).read_text()
        for old, new in pairs:
            assert text.count(old) == 1
            text = text.replace(old, new)
        (root / name).write_text(text)
    git(root, "commit", "-qam", "Learn the rush hours")


def at(azure, home, ago: timedelta):
    "What time it is, for the cloud and for workflows: a minute takes half a second, which makes the canary quick"
    azure.clock.hurry(120, ago)
    home.command(azure.clock.code + COMMAND)


def mlops(azure, folder, *words):
    "A command that a person gives"
    command = [sys.executable, "-c", azure.clock.code + COMMAND, *words]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **azure.env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def drift_is_found(azure, home):
    "The outcomes of two days have landed, Azure's monitor finds them worse, and Event Grid says so at least once"
    landed = ["request_id,row,value", *served(azure, "yesterday")]
    at(azure, home, timedelta(days=1))
    (home.root / "outcomes.csv").write_text("\n".join([*landed, *served(azure, "today")]) + "\n")
    mlops(azure, home.root, "outcomes", "flight-delay", "outcomes.csv", "--on", "production")
    mlops(azure, home.root, "schedule", "apply", "pipelines/monitoring/monitor.yml", "--on", "production")
    run = azure.trigger("production", "flight-delay-monitor")
    run.thread.join(120)
    assert run.status == "Completed", (run.folder / "execution.log").read_text()
    azure.deliver(times=2, seed=1)
