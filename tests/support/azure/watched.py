"A project whose endpoint in the loopback Azure collects, with a monitor and a pipeline that retrains"
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.azure.small import SCHEMA, command, placed

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
PLACE = "azureml://datastores/workspaceblobstore/paths/modelDataCollector/echo/"
MONITOR = """
name: watch
trigger: {type: cron, expression: "0 6 * * 1"}
create_monitor:
  compute: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
  monitoring_target: {ml_task: classification, endpoint_deployment_id: azureml:echo:blue}
  monitoring_signals:
    drift:
      type: data_drift
      alert_enabled: true
      production_data:
        input_data: {type: uri_folder, path: %(place)sblue/model_inputs}
        data_context: model_inputs
        data_window: {lookback_window_size: P7D, lookback_window_offset: P0D}
      reference_data:
        input_data: {type: uri_folder, path: "azureml:reference@latest"}
        data_context: training
      features: [p]
      metric_thresholds:
        numerical: {jensen_shannon_distance: 0.3, population_stability_index: 0.2}
    performance:
      type: model_performance
      alert_enabled: true
      production_data:
        input_data: {type: uri_folder, path: %(place)sblue/model_outputs}
        data_context: model_outputs
        data_column_names: {prediction: prediction, prediction_probability: probability}
        data_window: {lookback_window_size: P7D, lookback_window_offset: P0D}
      reference_data:
        input_data: {type: uri_folder, path: %(place)soutcomes}
        data_context: ground_truth
      metric_thresholds:
        classification: {accuracy: 0.3}
""" % {"place": PLACE}  # noqa: UP031
RETRAIN = """
type: pipeline
display_name: retraining
experiment_name: small
settings: {default_compute: serverless}
inputs: {train_start: "2013-01-01", train_end: "2013-10-01", test_end: "2014-01-01"}
outputs: {decision: {type: uri_folder}}
jobs:
  judge:
    type: command
    component: ../../judge.yml
    inputs: {test_end: "${{parent.inputs.test_end}}"}
    outputs: {out: "${{parent.outputs.decision}}"}
"""
JUDGE = """
type: command
name: judge
version: "1"
inputs: {test_end: {type: string}}
outputs: {out: {type: uri_folder}}
code: ./code
environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
command: python judge.py ${{inputs.test_end}} ${{outputs.out}}
"""
SCRIPT = """
import json, pathlib, sys, time
time.sleep(%s)
reason = "Refused: not better on the days to " + sys.argv[1]
said = dict(accepted=False, reason=reason, model="flight-delay", version=None)
pathlib.Path(sys.argv[2], "verdict.json").write_text(json.dumps(said))
"""


def lines(records, kind: str, days: int = 7) -> dict:
    """Collected events by the folder of their hour, at two hours of each of the last days; Azure writes requests that
    come close in time as one event, under the id of the first"""
    found: dict[str, list[dict]] = {}
    for number, record in enumerate(records):
        half_days = number * 2 * days // len(records)
        time = NOW - timedelta(days=days) + half_days * timedelta(hours=12) + timedelta(seconds=number)
        event = {"specversion": "1.0", "id": f"{kind}{number}", "source": "/onlineEndpoints/echo/deployments/blue",
                 "type": kind, "datacontenttype": "application/json", "time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
                 "data": [record], "correlationid": f"r{number}", "xrequestid": f"r{number}"}
        events = found.setdefault(f"{time:%Y/%m/%d/%H}", [])
        if kind.startswith("blue/"): event["data"] = [{**record, "x_request_id": f"r{number}"}]
        if kind.startswith("blue/") and events and len(events[-1]["data"]) < 7: events[-1]["data"] += event["data"]
        else: events.append(event)
    return {hour: [json.dumps(event) for event in events] for hour, events in found.items()}


def collect(azure, shift: float = 0.0, wrong: float = 0.5, n: int = 400, workspace: str = "dev"):
    "What Azure's collector would have written: `shift` moves the inputs, `wrong` is the share of wrong answers"
    found = next(one for one in azure.state.all("workspaces") if one["name"] == workspace)
    container = azure.state.need(f"{found['id']}/datastores/workspaceblobstore")["properties"]["containerName"]
    p = [(number * 37 % n) / n for number in range(n)]
    rows = {"blue/model_inputs": [{"p": one + shift} for one in p],
            "blue/model_outputs": [{"probability": one, "prediction": int(one >= 0.5)} for one in p],
            "outcomes": [{"row": 0, "value": int((one > 0.5) != (number % 100 < 100 * wrong))}
                         for number, one in enumerate(p)]}
    for place, records in rows.items():
        for hour, texts in lines(records, place).items():
            azure.storage.put(container, f"modelDataCollector/echo/{place}/{hour}/0.jsonl",
                              ("\n".join(texts) + "\n").encode())


@pytest.fixture
def watched(azure, small):
    "The project, with its endpoint deployed and its reference registered in `dev`"
    files = {
        "monitor.yml": SCHEMA.format("monitorSchedule") + MONITOR,
        "pipelines/monitoring/retrain.yml": SCHEMA.format("pipelineJob") + RETRAIN,
        "judge.yml": JUDGE,
        "code/judge.py": SCRIPT % 0,
        "reference/rows.csv": "p\n" + "\n".join(str(number / 400) for number in range(400)) + "\n",
        "data.yml": SCHEMA.format("data") + "type: uri_folder\nname: reference\npath: ./reference\n",
        "model.yml": SCHEMA.format("model") + "type: custom_model\nname: flight-delay\npath: ./model\n",
        "endpoint.yml": SCHEMA.format("managedOnlineEndpoint") + "name: echo\nauth_mode: key\ntraffic: {blue: 100}\n",
    }
    placed(azure, small, files)
    with (small / "settings.ini").open("a") as settings: settings.write("[monitoring]\nretrain_on = any\n")
    inline = "model: {name: flight-delay, version: 1, path: model, type: custom_model}"
    serve = (small / "deployment.yml").read_text().replace(inline, "model: azureml:flight-delay@latest")
    (small / "deployment.yml").write_text(SCHEMA.format("managedOnlineDeployment") + serve)
    for name in ("data.yml", "model.yml"): command(azure, small, "create", name, "--on", "dev")
    command(azure, small, "deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml", "--on", "dev")
    return small
