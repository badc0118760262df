"Jobs of the unmodified SDK: they run, stream, and leave what Azure's leave"
import json
import re
from pathlib import Path

import pytest

from tests.support.azure.clients import run, sdk
from tests.support.azure.small import command, placed

pytestmark = pytest.mark.long


def test_a_pipeline_runs_streams_and_gives_back_its_outputs(azure, small):
    end = sdk(azure, """
job = client.jobs.create_or_update(load_job("pipeline.yml"))
client.jobs.stream(job.name)
first = next(one for one in client.jobs.list(parent_job_name=job.name) if one.display_name == "first")
client.jobs.download(first.name, download_path="first", all=True)
children = {one.display_name: one.status for one in client.jobs.list(parent_job_name=job.name)}
client.jobs.download(job.name, output_name="result", download_path="back")
client.jobs.download(job.name, all=True, download_path="whole")
asset = client.data.get("greeting", label="latest").path
tell({"status": client.jobs.get(job.name).status, "children": children, "asset": asset})
""", small)
    assert end["status"] == "Completed" and end["children"] == {"first": "Completed", "second": "Completed"}
    assert (small / "back/named-outputs/result/text.txt").read_text() == "hellohello"
    assert end["asset"].endswith("/out/")
    assert "said hello" in next((small / "first").rglob("std_log.txt")).read_text()


def test_a_job_of_a_workspace_is_drawn_as_it_ran(azure, small):
    project = placed(azure, small, {})
    job = json.loads(command(azure, project, "run", "pipeline.yml", "--on", "dev", "--json"))
    drawn = command(azure, project, "show", job["id"], "--on", "dev", "--graph", "--svg", "job.svg").splitlines()
    assert drawn[0].startswith(f"{job['id']}  Completed") and drawn[-1] == "job.svg"
    assert [re.sub(r" [\d.]+ s", "", " ".join(line.split())) for line in drawn[1:-1]] == [
        "first ✓", "second ✓ <- first"]
    for picture in (project / "job.svg", Path(job["folder"]) / "graph.svg"):
        text = picture.read_text()
        assert text.count('class="completed"') == 2 and text.count("marker-end") == 1


def test_a_binding_to_what_is_not_there_is_refused_when_the_job_is_submitted(azure, small):
    (small / "pipeline.yml").write_text((small / "pipeline.yml").read_text().replace("jobs.first.outputs.out",
                                                                                     "jobs.first.outputs.other"))
    done = run(azure, 'client.jobs.create_or_update(load_job("pipeline.yml"), skip_validation=True)', small)
    assert done.returncode and "has no output other" in done.stderr and not azure.executions


def test_a_file_that_was_not_uploaded_fails_its_step(azure, small):
    (small / "code/second.py").unlink()
    assert sdk(azure, 'tell(wait(client.jobs.create_or_update(load_job("pipeline.yml"))).status)', small) == "Failed"
    steps = azure.executions[0].steps
    assert (steps["first"]["status"], steps["second"]["status"]) == ("Completed", "Failed")


def test_a_sweep_and_a_step_that_tracks_through_azureml_mlflow(azure, small):
    azure.portable = True
    (small / "code/trial.py").write_text("import sys, mlflow\nwith mlflow.start_run(): mlflow.log_metric('loss', "
                                         "(float(sys.argv[1]) - 2) ** 2)\n")
    end = sdk(azure, """
from azure.ai.ml.entities import Environment
from azure.ai.ml.sweep import Choice
image = Environment(image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04")
step = command(code="code", command="python trial.py ${{inputs.x}}", inputs={"x": 1.0}, environment=image,
               compute="serverless")
sweep = step(x=Choice([1, 2])).sweep(primary_metric="loss", goal="minimize", sampling_algorithm="grid")
sweep.set_limits(max_total_trials=2, max_concurrent_trials=1)
job = wait(client.jobs.create_or_update(sweep, experiment_name="sweep"))
tell(job.status)
""", small)
    assert end == "Completed"
    assert any("/mlflow/v2.0/" in one.request.path and one.status == 200 for one in azure.calls)


def test_a_batch_endpoint_scores_a_folder(azure, small):
    end = sdk(azure, """
from azure.ai.ml import load_batch_endpoint
from azure.ai.ml.entities._load_functions import load_model_batch_deployment
from azure.ai.ml.entities import AmlCompute
client.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS3_v2", max_instances=1)).result()
client.batch_endpoints.begin_create_or_update(load_batch_endpoint("batch-endpoint.yml")).result()
client.batch_deployments.begin_create_or_update(load_model_batch_deployment("batch.yml")).result()
job = client.batch_endpoints.invoke("echo-batch", deployment_name="blue", input=Input(type="uri_folder", path="table"))
done = wait(client.jobs.get(job.name))
client.jobs.download(job.name, output_name="score", download_path="back")
tell(done.status)
""", small)
    assert end == "Completed"
    assert sorted(next((small / "back").rglob("predictions.jsonl")).read_text().split("\n")[:2]) == ["LATE", "ON TIME"]


def test_a_schedule_runs_the_newest_data_when_it_is_triggered_and_a_registry_hands_a_model_on(azure, small):
    said = sdk(azure, """
from azure.ai.ml.entities import JobSchedule, CronTrigger, Registry, Model
from azure.ai.ml.entities import RegistryRegionDetails
schedule = JobSchedule(name="weekly", trigger=CronTrigger(expression="0 6 * * 1"), create_job=load_job("pipeline.yml"))
made = client.schedules.begin_create_or_update(schedule).result()
started = client.schedules.trigger("weekly")
regions = [RegistryRegionDetails(location="eastus")]
client.registries.begin_create(Registry(name="shared", location="eastus", replication_locations=regions)).result()
model = client.models.create_or_update(Model(name="flight-delay", version="3", path="model", type="custom_model"))
client.models.share("flight-delay", "3", share_with_name="flight-delay", share_with_version="3", registry_name="shared")
registry = MLClient(EnvironmentCredential(), registry_name="shared")
registry.models.download("flight-delay", "3", download_path="there")
straight = registry.models.create_or_update(Model(name="straight", version="1", path="model", type="custom_model"))
tell([made.is_enabled, registry.models.get("flight-delay", "3").version, started.job_name, straight.version])
""", small)
    enabled, version, job, straight = said
    assert enabled and (version, straight) == ("3", "1")
    assert next((small / "there").rglob("MLmodel")).read_text() == "flavors: {}\n"
    assert job in [one["name"] for one in azure.state.all("workspaces/jobs")]
