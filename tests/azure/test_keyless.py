"Storage without account keys: all runs with the identity of settings.ini and its roles of roles.yml, or is refused"
import json
import os
import subprocess
import sys

import pytest

from tests.support.azure.clients import sdk
from tests.support.azure.declared import granted
from tests.support.azure.small import command, placed
from tests.support.loopback.identities import PARALLEL, client_id, identity_id

PARALLEL_JOB = """
type: pipeline
display_name: lines
experiment_name: small
settings: {default_compute: serverless}
inputs: {table: {type: uri_folder, path: table}}
jobs:
  score:
    type: parallel
    inputs: {parts: {type: uri_folder, path: "${{parent.inputs.table}}"}}
    outputs: {scores: {type: uri_file}}
    input_data: ${{inputs.parts}}
    mini_batch_size: "1"
    resources: {instance_count: 1}
    task:
      type: run_function
      code: code
      entry_script: lines.py
      environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
      append_row_to: ${{outputs.scores}}
"""
SWEEP = """
type: sweep
display_name: search
experiment_name: small
compute: azureml:serverless
sampling_algorithm: grid
search_space: {text: {type: choice, values: [a, b]}}
objective: {goal: maximize, primary_metric: score}
limits: {max_total_trials: 2, max_concurrent_trials: 1, timeout: 600}
trial:
  code: code
  command: python first.py --text ${{search_space.text}} --out .
  environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
"""

def run_python(azure, folder, script: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", script], cwd=folder, env={**os.environ, **azure.env},
                          capture_output=True, text=True, timeout=300)


SCHEDULE = """
name: weekly
trigger: {type: cron, expression: "0 5 * * 1"}
create_job: {type: pipeline, job: ./pipeline.yml}
"""


def identified(azure, small, identity: str = "id-dev"):
    "The small project, with an identity for the jobs of dev"
    placed(azure, small, {"lines.yml": PARALLEL_JOB, "search.yml": SWEEP, "weekly.yml": SCHEDULE})
    settings = small / "settings.ini"
    settings.write_text(settings.read_text().replace("[dev]\n", f"[dev]\nidentity = {identity}\n", 1))
    return small


@pytest.mark.parametrize("file", ["pipeline.yml", "lines.yml", "search.yml"])
def test_jobs_carry_the_identity_and_are_refused_without(azure, small, file):
    seen = azure.without_keys(granted())
    identified(azure, small, "")
    refused = command(azure, small, "run", file, "--on", "dev", code=2)
    assert "no identity reaches the storage account" in refused and "Traceback" not in refused
    identified(azure, small)
    submitted = command(azure, small, "run", file, "--on", "dev", "--detach")
    [job] = azure.state.all("workspaces/jobs")
    assert job["name"] in submitted
    assert seen.refusals.keys() <= {"listSecrets", "command job", "parallel job", "sweep job"}
    said = job["properties"]
    nodes = [node for node in (said.get("jobs") or {}).values() if node["type"] != "parallel"]
    assert all(client_id(identity_id("loopback", "id-dev")) in str(part["identity"]) for part in (said, *nodes))


def test_a_parallel_step_needs_table_and_queue(azure, small):
    seen = azure.without_keys(granted() - {*PARALLEL})
    refused = command(azure, identified(azure, small), "run", "lines.yml", "--on", "dev", code=2)
    assert "lacks Storage Table Data Contributor, Storage Queue Data Contributor" in refused
    assert seen.refusals["parallel job"] == 1


def test_an_identity_that_is_not_attached_is_refused(azure, small):
    azure.without_keys(granted())
    refused = command(azure, identified(azure, small, "id-another"), "run", "pipeline.yml", "--on", "dev", code=2)
    assert "names the identity id-another, which is not there" in refused
    assert "mlops-nb environment apply --on dev makes it" in refused
    [workspace] = [one for one in azure.state.all("workspaces") if one["name"] == "dev"]
    workspace["identity"].pop("userAssignedIdentities")
    refused = command(azure, identified(azure, small), "run", "pipeline.yml", "--on", "dev", code=2)
    assert "id-dev is not attached to dev" in refused


def test_a_pipeline_runs_whole_and_brings_its_results(azure, small):
    seen = azure.without_keys(granted())
    identified(azure, small)
    done = json.loads(command(azure, small, "run", "pipeline.yml", "--on", "dev", "--json"))
    assert done["status"] == "Completed" and [step["status"] for step in done["steps"]] == ["Completed"] * 2
    assert "said hello" in command(azure, small, "logs", done["id"], "first", "--on", "dev")
    assert seen.used["command job"] == 2


def test_storage_is_read_and_written_with_a_token(azure, small):
    seen = azure.without_keys(granted())
    script = ("from mlops_nb.azure.workspace import AzureWorkspace as A; from mlops_nb.azure.sdk import Blobs\n"
              "blobs = Blobs.open(A('.', 'dev')); blobs.push('hello', b'there'); print(blobs.read('hello'))")
    done = run_python(azure, identified(azure, small), script)
    assert "b'there'" in done.stdout, done.stderr[-2000:]
    assert seen.used["storage by identity"] >= 2 and seen.refusals["storage by account key"] == 0


def test_an_endpoint_has_it(azure, small):
    seen = azure.without_keys(granted())
    for identity, says in (("", "online endpoint: no identity reaches the storage account"), ("id-dev", "")):
        identified(azure, small, identity)
        script = ("from pathlib import Path; from mlops_nb.azure.workspace import AzureWorkspace as A; "
                  "A('.', 'dev').endpoints.deployer.make_endpoint(Path('endpoint.yml'), 'echo')")
        done = run_python(azure, small, script)
        assert says in done.stderr and (done.returncode != 0) is bool(says), done.stderr[-2000:]
    [endpoint] = azure.state.all("workspaces/onlineEndpoints")
    assert [*endpoint["identity"]["userAssignedIdentities"]] == [identity_id("loopback", "id-dev")]
    assert (seen.refusals["online endpoint"], seen.used["online endpoint"]) == (1, 1)


def test_a_schedule_carries_it(azure, small):
    seen = azure.without_keys(granted())
    identified(azure, small)
    command(azure, small, "schedule", "apply", "weekly.yml", "--on", "dev")
    [schedule] = azure.state.all("workspaces/schedules")
    nodes = schedule["properties"]["action"]["jobDefinition"]["jobs"].values()
    assert [node["identity"]["client_id"] for node in nodes] == [client_id(identity_id("loopback", "id-dev"))] * 2
    assert seen.refusals.keys() <= {"listSecrets"}


@pytest.mark.long
def test_a_batch_endpoint_scores_with_the_identity_of_its_cluster(azure, small):
    seen = azure.without_keys(granted())
    identified(azure, small)
    told = sdk(azure, f"""
from azure.ai.ml import load_batch_endpoint
from azure.ai.ml.entities import AmlCompute, IdentityConfiguration, ManagedIdentityConfiguration
from azure.core.exceptions import HttpResponseError
from mlops_nb.azure.sdk import load_batch_deployment
own = ManagedIdentityConfiguration(resource_id="{identity_id('loopback', 'id-dev')}")
def cluster(**identity):
    made = AmlCompute(name="cpu", size="Standard_DS3_v2", max_instances=1, **identity)
    client.compute.begin_create_or_update(made).result()
def invoke():
    return client.batch_endpoints.invoke("echo-batch", input=Input(type="uri_folder", path="table"))
cluster()
client.batch_endpoints.begin_create_or_update(load_batch_endpoint("batch-endpoint.yml")).result()
client.batch_deployments.begin_create_or_update(load_batch_deployment("batch.yml")).result()
try: refused = str(invoke())
except HttpResponseError as error: refused = str(error)
cluster(identity=IdentityConfiguration(type="user_assigned", user_assigned_identities=[own]))
done = wait(client.jobs.get(invoke().name))
tell([refused, done.status])
""", small)
    assert "batch endpoint: no identity reaches the storage account" in told[0] and told[1] == "Completed"
    assert (seen.refusals["batch endpoint"], seen.used["batch endpoint"]) == (1, 1)
