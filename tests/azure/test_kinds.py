"""Every kind of work through `--on`: sweeps, parallel steps, batch endpoints, schedules; and the same files through
Azure's own client"""
import json
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.azure.clients import sdk, training
from tests.support.azure.small import SCHEMA, command, placed

pytestmark = pytest.mark.long

ENVIRONMENT = '{image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}'
TRIAL = "import sys, mlflow\nwith mlflow.start_run(): mlflow.log_metric('loss', (float(sys.argv[1]) - 2) ** 2)\n"
WORK = (
    SCHEMA.format("pipelineJob")
    + f"""
type: pipeline
display_name: work
experiment_name: small
settings: {{default_compute: serverless}}
inputs: {{table: {{type: uri_folder, path: ./table}}}}
outputs: {{lines: {{type: uri_file}}}}
jobs:
  search:
    type: sweep
    trial: trial.yml
    search_space: {{x: {{type: choice, values: [1, 2, 3]}}}}
    sampling_algorithm: grid
    objective: {{goal: minimize, primary_metric: loss}}
    limits: {{max_total_trials: 3, max_concurrent_trials: 3}}
  shout:
    type: parallel
    inputs: {{data: "${{{{parent.inputs.table}}}}"}}
    outputs: {{lines: "${{{{parent.outputs.lines}}}}"}}
    input_data: "${{{{inputs.data}}}}"
    mini_batch_size: "1"
    max_concurrency_per_instance: 1
    resources: {{instance_count: 1}}
    task: {{type: run_function, code: ./code, entry_script: lines.py, environment: {ENVIRONMENT}, append_row_to: "${{{{outputs.lines}}}}"}}
"""
)
FILES = {
    "code/trial.py": TRIAL, "work.yml": WORK,
    "trial.yml": f"type: command\nname: trial\nversion: '1'\ninputs: {{x: {{type: number}}}}\ncode: ./code\n"
                 f"environment: {ENVIRONMENT}\ncommand: python trial.py ${{{{inputs.x}}}}\n",
    "sweep.yml": SCHEMA.format("sweepJob") + "type: sweep\nexperiment_name: small\ncompute: azureml:serverless\n"
                                             f"trial: {{code: ./code, environment: {ENVIRONMENT}, command: 'python "
                                             f"trial.py ${{{{search_space.x}}}}'}}\n"
                 "search_space: {x: {type: choice, values: [1, 2]}}\nsampling_algorithm: grid\nobjective: {goal: "
                 "minimize, primary_metric: loss}\nlimits: {max_total_trials: 2, max_concurrent_trials: 2}\n",
    "latest.yml": SCHEMA.format("pipelineJob") + 'type: pipeline\ndisplay_name: latest\nexperiment_name: small\n'
                                                 'settings: {default_compute: serverless}\ninputs: {greeting: {type: '
                                                 'uri_folder, path: "azureml:greeting@latest"}}\n'
                  'outputs: {copy: {type: uri_folder}}\njobs:\n  second: {type: command, component: second.yml, '
                  'inputs: {data: "${{parent.inputs.greeting}}"}, outputs: {out: "${{parent.outputs.copy}}"}}\n',
    "schedule.yml": SCHEMA.format("schedule") + 'name: weekly\ntrigger: {type: cron, expression: "0 6 * * 1"}\n'
                                                'create_job: {type: pipeline, job: ./latest.yml}\n',
    "data.yml": SCHEMA.format("data") + "type: uri_folder\nname: greeting\npath: ./greeting\n",
         "greeting/text.txt": "first",
    "model.yml": SCHEMA.format("model") + "type: custom_model\nname: flight-delay\npath: ./model\n"}


@pytest.fixture
def project(azure, small):
    "The small project with more kinds of work"
    return placed(azure, small, FILES)


def test_sweeps_and_parallel_steps_run_and_come_back(azure, project):
    told = json.loads(command(azure, project, "run", "work.yml", "--on", "dev", "--json"))
    steps = {step["name"]: step for step in told["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == {"search": "Completed", "shout": "Completed"}
    text = Path(steps["shout"]["outputs"]["lines"])
    found = text if text.is_file() else next(one for one in text.rglob("*") if one.is_file())
    assert sorted(found.read_text().split("\n")[:2]) == ["LATE", "ON TIME"]
    alone = json.loads(command(azure, project, "run", "sweep.yml", "--on", "dev", "--json"))
    assert alone["status"] == "Completed" and [step["name"] for step in alone["steps"]] == ["trial"]


def test_a_batch_endpoint_is_made_twice_without_harm_and_scores(azure, project):
    sdk(azure, 'from azure.ai.ml.entities import AmlCompute\n'
               'client.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS3_v2", '
               'max_instances=1)).result()', project)
    command(azure, project, "create", "model.yml", "--on", "dev")
    inline = "model: {name: flight-delay, version: 1, path: model, type: custom_model}"
    batch = (project / "batch.yml").read_text().replace(inline, "model: azureml:flight-delay@latest")
    (project / "batch.yml").write_text(SCHEMA.format("modelBatchDeployment") + batch)
    endpoint = (project / "batch-endpoint.yml").read_text()
    (project / "batch-endpoint.yml").write_text(SCHEMA.format("batchEndpoint") + endpoint)
    for name in ("batch-endpoint.yml", "batch.yml", "batch-endpoint.yml", "batch.yml"):
        command(azure, project, "create", name, "--on", "dev")
    assert [one["name"] for kind in ("batchEndpoints", "batchEndpoints/deployments")
            for one in azure.state.all(f"workspaces/{kind}")] == ["echo-batch", "blue"]
    end = sdk(azure, """
job = client.batch_endpoints.invoke("echo-batch", input=Input(type="uri_folder", path="table"))
done = wait(client.jobs.get(job.name))
client.jobs.download(job.name, output_name="score", download_path="back")
tell(done.status)
""", project)
    assert end == "Completed"
    predictions = next((project / "back").rglob("predictions.jsonl")).read_text()
    assert sorted(predictions.split("\n")[:2]) == ["LATE", "ON TIME"]


def test_a_schedule_reads_what_is_newest_when_it_is_due(azure, project):
    command(azure, project, "create", "data.yml", "--on", "dev")
    assert json.loads(command(azure, project, "schedule", "apply", "schedule.yml", "--on", "dev",
                              "--json"))["frozen"] == []
    (project / "greeting/text.txt").write_text("second")
    command(azure, project, "create", "data.yml", "--on", "dev")
    run = azure.trigger("dev", "weekly")
    run.process.wait(200)
    told = json.loads(command(azure, project, "show", run.name, "--on", "dev", "--json"))
    assert told["status"] == "Completed" and told["name"].startswith("weekly-20")
    assert Path(told["steps"][0]["outputs"]["copy"], "text.txt").read_text() == "second"
    assert "weekly" in command(azure, project, "schedule", "list", "--on", "dev")
    assert "weekly is disabled" in command(azure, project, "schedule", "stop", "weekly", "--on", "dev")


def test_azures_own_client_takes_our_files_as_they_are(azure, tmp_path):
    """`az ml job create -f FILE` is load_job and create_or_update; here it is done to each file of the repository,
    which stays as it is"""
    project = training(tmp_path / "project")
    azure.hold(".*")
    said = sdk(azure, """
from azure.ai.ml import load_batch_endpoint
from azure.ai.ml.entities._load_functions import load_schedule
from azure.ai.ml.entities import Model
os.makedirs(".mlops/sample/prepared"); open(".mlops/sample/prepared/test.parquet", "w").write("rows")
client.models.create_or_update(Model(name="flight-delay", path="pipelines/training", type="mlflow_model"))
made = {}
for name in ("training/pipeline", "training/sweep", "deployment/batch"):
    made[name] = client.create_or_update(load_job(f"pipelines/{name}.yml")).status
schedule = load_schedule("pipelines/training/schedule.yml")
made["training/schedule"] = str(client.schedules.begin_create_or_update(schedule).result().is_enabled)
endpoint = load_batch_endpoint("pipelines/deployment/batch-endpoint.yml")
endpoint = client.batch_endpoints.begin_create_or_update(endpoint).result()
made["deployment/batch-endpoint"] = endpoint.provisioning_state
tell(made)
""", project)
    assert said == {name: "NotStarted" for name in ("training/pipeline", "training/sweep", "deployment/batch")} | {
        "training/schedule": "True", "deployment/batch-endpoint": "Succeeded"}
    root = ROOT
    assert all((project / file).read_bytes() == (root / file).read_bytes()
               for file in ("pipelines/training/pipeline.yml", "pipelines/training/sweep.yml",
                            "pipelines/deployment/batch.yml"))
