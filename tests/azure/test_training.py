"The training pipeline, sent by the unmodified SDK and run from what was sent"
from clients import sdk, training


def test_the_pipeline_of_this_project_runs_from_its_upload_alone(azure, tmp_path):
    project = training(tmp_path / "project")
    said = sdk(azure, """
job = load_job("pipelines/training/pipeline.yml")
job.inputs.every, job.inputs.bootstrap = 40, 100
job = wait(client.jobs.create_or_update(job))
tell(job.status)
""", project)
    assert said == "Completed"
    assert list(azure.executions[0].steps) == ["ingest", "explore", "prepare", "train", "evaluate", "register"]


def test_a_module_that_was_not_uploaded_fails_the_job(azure, tmp_path):
    project = training(tmp_path / "project")
    (project / "mlops_nb/training/train.py").unlink()
    said = sdk(azure, """
job = load_job("pipelines/training/pipeline.yml")
job.inputs.every = 40
tell(wait(client.jobs.create_or_update(job)).status)
""", project)
    assert said == "Failed"
    assert azure.executions[0].steps["prepare"]["status"] == "Completed"
    assert azure.executions[0].steps["train"]["status"] == "Failed"
