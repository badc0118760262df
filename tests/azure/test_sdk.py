"The private parts of azure-ai-ml: each is where `mlops_nb.azure.sdk` expects it, and no other module knows one"
import inspect
import json
import re
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from tests.support import ROOT

PRIVATE = re.compile(r"azure\.ai\.ml[\w.]*\._|\._(runs_operations|load_functions|artifacts|restclient|to_rest_object|"
                     r"from_rest_object)\b"
                     r"|\"_(data|component)\"")


def test_only_one_module_names_private_parts():
    files = [file for file in sorted((ROOT / "mlops_nb").rglob("*.py")) if file.name != "_modidx.py"
             and "templates" not in file.parts]
    found = {file.relative_to(ROOT).as_posix() for file in files if PRIVATE.search(file.read_text(encoding="utf-8"))}
    assert found == {"mlops_nb/azure/sdk.py"}


def test_run_history_answers_for_a_run_and_for_what_is_below_it():
    from azure.ai.ml.operations import JobOperations
    from azure.ai.ml.operations._run_operations import RunOperations
    assert isinstance(inspect.getattr_static(JobOperations, "_runs_operations"), property)
    for name in ("get_run_details", "get_run_children"):
        assert [*inspect.signature(getattr(RunOperations, name)).parameters][:2] == ["self", "run_id"], name


def test_an_output_of_a_node_knows_where_it_goes():
    from azure.ai.ml import load_job

    from mlops_nb.azure.sdk import output_binding
    job = load_job(ROOT / "pipelines/training/pipeline.yml")
    bindings = {output_binding(output) for node in job.jobs.values() for output in node.outputs.values()}
    assert {f"${{{{parent.outputs.{name}}}}}" for name in job.outputs} <= bindings


@pytest.mark.parametrize("loader, name", [("load_schedule", "JobSchedule"),
                                          ("load_batch_deployment", "ModelBatchDeployment")])
def test_files_are_loaded_that_no_public_loader_reads(loader, name, tmp_path):
    from mlops_nb.azure import sdk
    texts = {"load_schedule": 'name: weekly\ntrigger: {type: cron, expression: "0 6 * * 1"}\ncreate_job: '
                              'azureml:train:1\n',
             "load_batch_deployment": "type: model\nname: blue\nendpoint_name: echo\nmodel: azureml:flight-delay:1\n"
                                      "compute: azureml:cpu\n"}
    (tmp_path / "file.yml").write_text(texts[loader])
    assert type(getattr(sdk, loader)(tmp_path / "file.yml")).__name__ == name


def test_a_monitor_of_a_regression_is_loaded_and_sent_with_its_own_limits(tmp_path):
    from mlops_nb.azure.sdk import load_schedule

    from tests.support.azure.watched import MONITOR
    text = MONITOR.replace("ml_task: classification", "ml_task: regression")
    text = text.replace("classification: {accuracy: 0.3}", "regression: {rmse: 12.5, mae: 8}")
    (tmp_path / "monitor.yml").write_text(text)
    sent = load_schedule(tmp_path / "monitor.yml")._to_rest_object().as_dict()["properties"]["action"]
    signal = sent["monitorDefinition"]["signals"]["performance"]
    assert signal["metricThreshold"] == {"modelType": "Regression", "metric": "RootMeanSquaredError",
                                         "threshold": {"value": 12.5}}
    all_of_it = json.loads(signal["properties"]["azureml.modelmonitor.model_performance_thresholds"])
    assert {one["metric"]: one["threshold"]["value"] for one in all_of_it} == {"RootMeanSquaredError": 12.5,
                                                                               "MeanAbsoluteError": 8}


def test_datastores_are_opened_and_read_by_the_functions_that_the_sdk_itself_uses():
    from azure.ai.ml._artifacts._artifact_utilities import download_artifact_from_aml_uri, get_datastore_info
    assert [*inspect.signature(get_datastore_info).parameters][:2] == ["operations", "name"]
    assert [*inspect.signature(download_artifact_from_aml_uri).parameters] == ["uri", "destination",
                                                                               "datastore_operation"]


def test_another_minor_version_of_the_sdk_is_not_taken_by_itself():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    range = next(asked for line in extras["azure"] if (asked := Requirement(line)).name == "azure-ai-ml").specifier
    major, minor, *_ = map(int, version("azure-ai-ml").split("."))
    assert version("azure-ai-ml") in range
    assert f"{major}.{minor + 1}.0" not in range and f"{major}.{minor - 1}.9" not in range
