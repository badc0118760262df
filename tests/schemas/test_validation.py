"Validation refuses every mutation in a table and accepts only what azure-ai-ml accepts; its tables are azure-ai-ml's"
import copy
import importlib
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mlops_nb.schemas.assets as assets
import mlops_nb.schemas.jobs as ref
from mlops_nb.errors import UserError
from mlops_nb.schemas.components import Files, kind_of
from mlops_nb.schemas.documents import load, parse
from mlops_nb.schemas.triggers import TIME_ZONES, Cron
from mlops_nb.schemas.validation import check_file, validate
from mlops_nb.schemas.values import Position, anything

HERE = Path(__file__).parent
YAML = HERE/"yaml"
FILES = sorted(YAML.glob("*.yml"))
PROJECT = sorted((HERE.parents[1]/"pipelines").rglob("*.yml"))


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def azure(path):
    "What azure-ai-ml says of a file: None where it accepts it"
    import azure.ai.ml as ml
    from azure.ai.ml.entities._load_functions import (
        load_model_batch_deployment,
        load_pipeline_component_batch_deployment,
        load_schedule,
    )
    kind = kind_of(load(path)) or ""
    loaders = {"data": ml.load_data, "environment": ml.load_environment, "model": ml.load_model,
               "schedule": load_schedule,
               "monitor schedule": load_schedule,
               "online endpoint": ml.load_online_endpoint, "online deployment": ml.load_online_deployment,
               "batch endpoint": ml.load_batch_endpoint, "model batch deployment": load_model_batch_deployment,
               "batch deployment": ml.load_batch_deployment,
               "pipeline batch deployment": load_pipeline_component_batch_deployment,
               "workspace": ml.load_workspace, "connection": ml.load_connection}
    read = ml.load_component if kind.endswith("component") else loaders.get(kind, ml.load_job)
    try: loaded = read(path)
    except Exception as e: return f"{type(e).__name__}: {e}"
    if kind in ("pipeline job", "pipeline component"):
        wrong = {k: v for k, v in loaded._validate().error_messages.items() if v != "Compute not set"}
        return str(wrong) if wrong else None


def errors(path, *args):
    return [p for p in validate(path, *args) if p.kind == "error"]


@pytest.mark.parametrize("path", [p for p in FILES + PROJECT if kind_of(load(p)) not in ("other", "azure")],
                         ids=lambda p: p.name)
def test_both_accept_every_good_file(path):
    assert [str(p) for p in validate(path) if p.kind != "azure_only"] == []
    assert azure(path) is None


# Each row: file, text in it, what replaces the text, words of the message, and the line where it is reported, counted
# from the replaced text
MUTATIONS = [
    # unknown keys
    ("command.yml", "compute: azureml:cluster", "computee: azureml:cluster", "did you mean 'compute'?", 0),
    ("command.yml", "limits: {timeout: 600}", "limits: {timeot: 600}", "did you mean 'timeout'?", 0),
    ("command.yml", "instance_count: 2", "instance_cout: 2", "did you mean 'instance_count'?", 0),
    ("command.yml", "mode: download", "moode: download", "did you mean 'mode'?", 0),
    ("command.yml", "{type: uri_file, mode: rw_mount}", "{type: uri_file, modus: rw_mount}",
     "output has no key 'modus'", 0),
    ("command.yml", "queue_settings: {job_tier", "queue_settings: {tier", "has no key 'tier'", 0),
    ("train.yml", "is_deterministic: true", "deterministic: true", "did you mean 'is_deterministic'?", 0),
    ("train.yml", "min: 0, max: 1}", "minimum: 0, max: 1}", "has no key 'minimum'", 0),
    ("train.yml", "report: {type: uri_file}", "report: {type: uri_file, path: x}", "output has no key 'path'", 0),
    ("pipeline.yml", "force_rerun: true", "force_run: true", "did you mean 'force_rerun'?", 0),
    ("pipeline.yml", "limits: {timeout: 100}", "limit: {timeout: 100}", "did you mean 'limits'?", 0),
    ("pipeline.yml", "    resources: {instance_count: 1}", "    resource: {instance_count: 1}",
     "did you mean 'resources'?", 0),
    ("pipeline.yml", "max_total_trials: 4", "max_total_trials: 4, max_trials: 3", "has no key 'max_trials'", 0),
    ("pipeline.yml", "comment", "comment", "", None),
    ("sweep.yml", "max_value: -1}", "max_value: -1, step: 2}", "loguniform has no key 'step'", 0),
    ("sweep.yml", "slack_factor: 0.1", "slack: 0.1", "bandit has no key 'slack'", 0),
    ("score.yml", "mini_batch_size:", "minibatch_size:", "did you mean 'mini_batch_size'?", 0),
    ("score.yml", "max_retries: 2", "retries: 2", "has no key 'retries'", 0),
    ("data.yml", "path: data/flights.csv", "paths: data/flights.csv", "did you mean 'path'?", 0),
    ("environment.yml", "conda_file: conda.yml", "conda: conda.yml", "did you mean 'conda_file'?", 0),
    ("cron.yml", "expression:", "cron:", "has no key 'cron'", 0),
    ("recurrence.yml", "minutes: 30", "minute: 30", "did you mean 'minutes'?", 0),
    ("endpoint.yml", "mirror_traffic", "mirror", "has no key 'mirror'", 0),
    ("deployment.yml", "instance_count: 1", "instances: 1", "has no key 'instances'", 0),
    # missing keys
    ("command.yml", "command: python", "display_nam: python", "needs 'command'", None),
    ("sweep.yml", "objective: {goal: minimize, primary_metric: log_loss}\n", "", "needs 'objective'", None),
    ("sweep.yml", "max_total_trials: 8, max_concurrent_trials: 2, ", "", "needs 'max_total_trials'", 0),
    ("train.yml", "name: train\n", "", "needs 'name'", None),
    ("score.yml", "  type: run_function\n", "", "needs 'type'", None),
    ("data.yml", "name: flights\n", "", "needs 'name'", None),
    ("model.yml", "path: source\n", "", "needs 'path'", None),
    ("environment.yml", "image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04\n", "", "neither image nor build",
     None),
    ("recurrence.yml", "  interval: 1\n", "", "needs 'interval'", None),
    ("pipeline.yml", "type: pipeline\ndisplay", "display", "needs 'type'", None),
    ("pipeline.yml", "    trial: train.yml\n", "", "needs", None),
    ("pipeline.yml", "    limits: {max_total_trials: 4}\n", "", "needs 'limits'", None),
    ("deployment.yml", "instance_type: Standard_DS3_v2\n", "", "needs 'instance_type'", None),
    # wrong values
    ("command.yml", "timeout: 600", "timeout: soon", "a whole number", 0),
    ("command.yml", "description: prints", "description: 5", 'put it in quotes: "5"', 0),
    ("command.yml", "tags: {team: flights", "tags: {team: 3", 'put it in quotes: "3"', 0),
    ("command.yml", "rate: 0.5", "rate: 2013-01-01", 'put it in quotes: "2013-01-01"', 0),
    ("command.yml", "job_tier: spot", "job_tier: spott", "did you mean 'spot'?", 0),
    ("command.yml", "type: mpi", "type: mpl", "did you mean 'mpi'?", 0),
    ("command.yml", "name: job-1", 'name: "job 1"', "1 to 255 letters", 0),
    ("command.yml", "mode: download", "mode: eval_mount", "one of ro_mount, download, direct", 0),
    ("train.yml", "name: train", "name: Train", "1 to 255 lower-case letters", 0),
    ("train.yml", "name: train", "name: " + "t" * 256, "1 to 255 lower-case letters", 0),
    ("train.yml", "{type: number, default: 0.1", "{type: numbr, default: 0.1", "did you mean 'number'?", 0),
    ("sweep.yml", "goal: minimize", "goal: minimise", "did you mean 'minimize'?", 0),
    ("sweep.yml", "values: [10, 20, 50]", "values: []", "at least 1", 0),
    ("sweep.yml", "min_value: -6", "min_value: 6", "min_value 6 is not below max_value -1", 0),
    ("sweep.yml", "sigma: 1", "sigma: 0", "a number above 0", 0),
    ("sweep.yml", "max_concurrent_trials: 2", "max_concurrent_trials: 20", "more than max_total_trials 8", 0),
    ("pipeline.yml", "  prepare:\n", "  Prepare:\n", "lower-case letters", 0),
    ("pipeline.yml", "default_compute: azureml:cluster", "default_compute: cluster", 'azureml:NAME, or serverless', 0),
    ("score.yml", 'mini_batch_size: "2"', "mini_batch_size: 2", "put it in quotes", 0),
    ("endpoint.yml", "name: flights-endpoint", "name: fl", "3 to 32 letters", 0),
    ("sweep.yml", "type: random, seed: 1, rule: sobol", "type: grid", "grid sampling cannot draw rate from loguniform",
     2),
    ("pipeline.yml", "{type: uniform, min_value: 0.1", "{type: loguniform, min_value: 0.1",
     "bayesian sampling cannot draw rate", 0),
    # literals and declarations
    ("train.yml", "default: 0.1, min: 0", "default: 1.5, min: 0", "above the maximum 1", 0),
    ("train.yml", "default: 10, min: 1", "default: 0, min: 1", "below the minimum 1", 0),
    ("train.yml", "default: log_loss", "default: hinge", "one of log_loss, exponential", 0),
    ("train.yml", "default: false", "default: maybe", "true or false", 0),
    ("train.yml", "default: 10", "default: ten", "a whole number", 0),
    ("train.yml", "min: 1, max: 500", "min: 501, max: 500", "min 501 is above max 500", 0),
    ("train.yml", "default: log_loss,", "default: log_loss, min: 1,", "min and max with integer or number", 0),
    ("pipeline.yml", "trees: 20", "trees: 20.5", "a whole number", 0),
    ("pipeline.yml", "trees: 20", "trees: 900", "above the maximum 500", 0),
    ("pipeline.yml", "loss: exponential", "loss: hinge", "one of log_loss, exponential", 0),
    ("pipeline.yml", "shuffle: true", "shuffle: 1.5", "true or false", 0),
    ("pipeline.yml", "rate: 0.3", "rate: 3", "above the maximum 1", 0),
    ("pipeline.yml", "rate: 0.3", "rate: high", "a number", 0),
    ("pipeline.yml", "values: [10, 100]", "values: [10, 1000]", "above the maximum 500", 0),
    ("pipeline.yml", "min_value: 0.1, max_value: 0.9", "min_value: 0.1, max_value: 1.9", "above the maximum 1", 0),
    # bindings
    ("pipeline.yml", "rate: ${{parent.inputs.rate}}", "rate: ${{parent.inputs.rte}}", "did you mean 'rate'?", 0),
    ("pipeline.yml", "      flights: ${{parent.jobs.prepare.outputs.prepared}}\n      rate",
     "      flights: ${{parent.jobs.prepar.outputs.prepared}}\n      rate",
     "did you mean 'prepare'?", 0),
    ("pipeline.yml", "      flights: ${{parent.jobs.prepare.outputs.prepared}}\n      rate",
     "      flights: ${{parent.jobs.prepare.outputs.prepard}}\n      rate",
     "did you mean 'prepared'?", 0),
    ("pipeline.yml", "rate: ${{parent.inputs.rate}}", "rate: ${{inputs.rate}}", "write ${{parent.inputs.rate}}", 0),
    ("pipeline.yml", "rate: ${{parent.inputs.rate}}", "rate: ${{parent.inputs.flights}}",
     "binds uri_folder (inputs.flights) to an input of type number", 0),
    ("pipeline.yml", "model: ${{parent.outputs.model}}", "model: ${{parent.outputs.modl}}", "did you mean 'model'?", 0),
    ("pipeline.yml", "compute: ${{parent.inputs.node}}", "compute: ${{parent.inputs.nod}}", "did you mean 'node'?", 0),
    ("pipeline.yml", "cp -r ${{inputs.flights}}", "cp -r ${{inputs.flight}}", "did you mean 'flights'?", 0),
    ("pipeline.yml", "${{outputs.prepared}}", "${{output.prepared}}", "did you mean 'outputs'?", 0),
    ("pipeline.yml", "--to ${{outputs.scores}}", "--to ${{outputs.score}}", "did you mean 'scores'?", 0),
    ("pipeline.yml", '{RATE: "${{inputs.rate}}"}', '{RATE: "${{inputs.rat}}"}', "did you mean 'rate'?", 0),
    ("pipeline.yml", "    outputs: {text: {type: uri_file}}\n", "", "the type of 'text' is not known", None),
    ("command.yml", "${{inputs.rows}}", "${{inputs.row}}", "did you mean 'rows'?", 0),
    ("command.yml", "${{inputs.rows}}", "${{inputs.rows", "${{ without }}", 0),
    ("sweep.yml", "${{search_space.depth}}", "${{search_space.deep}}", "names nothing", 0),
    ("sweep.yml", "${{search_space.depth}}", "${{search_spice.depth}}", "did you mean 'search_space'?", 0),
    ("train.yml", "$[[--champion ${{inputs.champion}}]]", "--champion ${{inputs.champion}}",
     "an optional input between $[[ and ]]", None),
    ("train.yml", "${{inputs.champion}}]]", "${{inputs.champion}}", "$[[ without ]]", None),
    ("train.yml", "${{inputs.trees}}", "${{inputs.tree}}", "did you mean 'trees'?", None),
    ("score.yml", "--model ${{inputs.model}}", "--model ${{inputs.mdl}}", "did you mean 'model'?", 0),
    ("nested.yml", "rate: ${{parent.inputs.rate}}", "rate: ${{parent.inputs.champion}}", "binds mlflow_model", 0),
    ("nested.yml", "flights: {type: uri_folder}", "flights: {type: uri_folder, optional: true}",
     "is optional, to a required input", 10),
    # calls
    ("pipeline.yml", "      trees: 20", "      tres: 20", "did you mean 'trees'?", 0),
    ("pipeline.yml", "      model: ${{parent.outputs.model}}\n", "      modl: ${{parent.outputs.model}}\n",
     "did you mean 'model'?", 0),
    ("pipeline.yml", "      flights: ${{parent.jobs.prepare.outputs.prepared}}\n      rate", "      rate",
     "the input 'flights' of the component 'train' is not given", None),
    ("pipeline.yml", "      rate: {type: uniform", "      rat: {type: uniform", "did you mean 'rate'?", 0),
    ("called.yml", "  flights: {type: uri_folder, path: data}\n", "",
     "the input 'flights' of the component 'nested' is not given", None),
    ("cron.yml", "inputs: {rate: 0.4}", "inputs: {rte: 0.4}", "has no input 'rte'", 0),
    ("pipeline.yml", "    type: parallel\n    component", "    type: command\n    component",
     "its component is a parallel component", 0),
    ("pipeline.yml", "    type: parallel\n    component", "    type: paralel\n    component",
     "did you mean 'parallel'?", 0),
    ("nested.yml", "    type: command", "    type: sweep", "needs 'trial'", None),
    # files
    ("command.yml", "code: source", "code: sorce", "did you mean 'source'?", 0),
    ("command.yml", "path: data/flights.csv", "path: data/flihts.csv", "did you mean 'flights.csv'?", 0),
    ("command.yml", "type: uri_file, path: data/flights.csv", "type: uri_folder, path: data/flights.csv",
     "write `type: uri_file`", 0),
    ("pipeline.yml", "flights: {type: uri_folder, path: data}\n  file", "flights: {type: uri_file, path: data}\n  file",
     "data is a folder", 0),
    ("pipeline.yml", "component: train.yml", "component: trian.yml", "did you mean 'train.yml'?", 0),
    ("pipeline.yml", "trial: train.yml", "trial: trial.yml", "did you mean 'train.yml'?", 0),
    ("pipeline.yml", "entry_script: score.py", "entry_script: scor.py", "did you mean 'score.py'?", 0),
    ("train.yml", "file:environment.yml", "file:enviroment.yml", "did you mean 'environment.yml'?", 0),
    ("train.yml", "file:environment.yml", "environment.yml", "azureml:name:version, file:PATH", 0),
    ("environment.yml", "conda.yml", "konda.yml", "did you mean 'conda.yml'?", 0),
    ("environment.yml", "conda.yml", "data.yml", "no list of dependencies", None),
    ("environment.yml", "conda.yml", "azureml:conda:1", "a conda file", 0),
    ("cron.yml", "job: pipeline.yml", "job: pipline.yml", "did you mean 'pipeline.yml'?", 0),
    ("recurrence.yml", "create_job: pipeline.yml", "create_job: pipline.yml", "did you mean 'pipeline.yml'?", 0),
    ("data.yml", "path: data/flights.csv", "path: data/nothing.csv", "does not exist", 0),
    ("data.yml", "type: uri_file", "type: uri_folder", "write `type: uri_file`", 1),
    # schedules, endpoints
    ("cron.yml", "15 6 * * mon", "15 6 * *", "five fields", 0),
    ("cron.yml", "15 6 * * mon", "75 6 * * mon", "'75' for minutes", 0),
    ("cron.yml", "15 6 * * mon", "15 6 * * 9", "'9' for days of the week", 0),
    ("cron.yml", "15 6 * * mon", "15 6 1 * *", "Azure ML ignores", 0),
    ("cron.yml", "W. Europe Standard Time", "Europe/Paris", "Azure takes Windows names", 0),
    ("cron.yml", "W. Europe Standard Time", "W Europe Standard Time", "did you mean 'W. Europe Standard Time'?", 0),
    ("cron.yml", "2027-03-01T06:00:00", "2025-03-01T06:00:00", "is not after start_time", 0),
    ("cron.yml", "2026-03-01T06:00:00", "next week", "a time such as", 0),
    ("recurrence.yml", "frequency: month", "frequency: monthly", "did you mean 'month'?", 0),
    ("recurrence.yml", "frequency: month", "frequency: day", "frequency: month", 2),
    ("recurrence.yml", "hours: [4, 16]", "hours: [4, 24]", "from 0 to 23", 0),
    ("recurrence.yml", "month_days: [1, 15]", "month_days: [1, 32]", "from 1 to 31", 0),
    ("recurrence.yml", "month_days: [1, 15]", "week_days: [mon]", "did you mean 'monday'?", 0),
    ("endpoint.yml", "green: 10}\nmirror", "green: 20}\nmirror", "adds up to 110 %", 0),
    ("endpoint.yml", "mirror_traffic: {green: 10}", "mirror_traffic: {green: 51}", "at most 50 %", 0),
    ("endpoint.yml", "mirror_traffic: {green: 10}", "mirror_traffic: {green: 10, red: 5}", "one deployment", 0),
]
MUTATIONS = [row for row in MUTATIONS if row[3]]


@pytest.fixture
def files(tmp_path):
    return shutil.copytree(YAML, tmp_path/"yaml")


@pytest.mark.parametrize("name, old, new, words, line", MUTATIONS, ids=lambda v: str(v)[:40] if v else "-")
def test_every_mutation_is_caught_where_it_is(files, name, old, new, words, line):
    text = (files/name).read_text()
    assert old in text, "the mutation has nothing to change"
    (files/name).write_text(text.replace(old, new, 1))
    found = [p for p in validate(files/name) if words in str(p)]
    assert found, "\n".join(map(str, validate(files/name))) or "nothing was found"
    assert all(p.line and p.file for p in found)
    if line is not None: assert found[0].line == text[:text.index(old)].count("\n") + 1 + line


def test_a_cycle_names_its_path(files):
    (files/"pipeline.yml").write_text("""type: pipeline
jobs:
  first: {command: "true", environment: "azureml:e:1", inputs: {x: "${{parent.jobs.third.outputs.x}}"}, outputs: {x: }}
  second: {command: "true", environment: "azureml:e:1", inputs: {x: "${{parent.jobs.first.outputs.x}}"}, outputs: {x: }}
  third: {command: "true", environment: "azureml:e:1", inputs: {x: "${{parent.jobs.second.outputs.x}}"}, outputs: {x: }}
  self: {command: "true", environment: "azureml:e:1", inputs: {x: "${{parent.jobs.self.outputs.x}}"}, outputs: {x: }}
""")
    found = errors(files/"pipeline.yml")
    assert [(p.line, p.what.split(": ")[1]) for p in found] == [(3, "first -> third -> second -> first"),
                                                                (6, "self -> self")]


def test_a_pipeline_component_that_contains_itself_ends(files):
    nested = (files/"nested.yml").read_text()
    (files/"nested.yml").write_text(nested.replace("component: train.yml",
                                                   "component: nested.yml").replace("type: command", "type: pipeline"))
    assert any("contains itself" in p.what for p in errors(files/"nested.yml"))


def test_two_files_with_one_component_name(files):
    (files/"other.yml").write_text((files/"train.yml").read_text())
    again = "  again:\n    component: other.yml\n    inputs: {flights: '${{parent.inputs.flights}}'}\n"
    (files/"nested.yml").write_text((files/"nested.yml").read_text() + again)
    found = errors(files/"nested.yml")
    assert len(found) == 1 and "'train' is declared in" in found[0].what
    assert (found[0].file.name, found[0].line) == ("other.yml", 3)


@pytest.mark.parametrize("kind", ref.AZURE_ONLY)
def test_what_only_azure_runs_is_said_and_not_refused(files, kind):
    (files/"pipeline.yml").write_text(f"""type: pipeline
jobs:
  one: {{type: {kind}, outputs: {{x: }}}}
""" + """  two:
    command: 'cat ${{inputs.x}}'
    environment: 'azureml:e:1'
    inputs: {x: '${{parent.jobs.one.outputs.x}}'}
""")
    found = validate(files/"pipeline.yml")
    assert [(p.kind, p.line) for p in found] == [("azure_only", 3)]
    with pytest.raises(UserError, match="runs on Azure only"): check_file(files/"pipeline.yml")


def test_a_registered_component_is_looked_up(files):
    text = (files/"pipeline.yml").read_text()
    report = (files/"train.yml").read_text().replace("name: train", "name: report")
    report = report.replace("  model: {type", "  text: {type", 1).replace("${{outputs.model}}", "${{outputs.text}}")
    (files/"report.yml").write_text(report)
    assert errors(files/"pipeline.yml") == []
    found = [p for p in validate(files/"pipeline.yml", None,
                                 Files({"azureml:report@latest": files/"report.yml"}.get)) if p.kind != "azure_only"]
    assert {p.line for p in found} <= set(range(text[:text.index("registered:")].count("\n") + 1,
                                                len(text.splitlines()) + 1))
    assert any("has no 'title'" in p.what
               for p in found) and any("'flights' of the component 'report' is not given" in p.what for p in found)


def test_broken_yaml_in_a_component_is_one_problem(files):
    (files/"train.yml").write_text("name: train\n\tcommand: x\n")
    found = errors(files/"nested.yml")
    assert [(p.file.name, p.line) for p in found] == [("train.yml", 2)] and "a tab" in found[0].what


def test_new_values_for_inputs(files):
    path = files/"pipeline.yml"
    assert check_file(path, {"rate": "0.5", "node": "007", "flights": "source"}) == {"rate": 0.5, "node": "007",
                                                                                     "flights": "source"}
    for inputs, words in [({"rate": "2"}, "above the maximum 1"), ({"rte": "1"}, "did you mean 'rate'"),
                          ({"flights": "nowhere"}, "does not exist"),
                          ({"rate": "much"}, "a number")]:
        with pytest.raises(UserError, match=words): check_file(path, inputs)


def test_keys_that_azure_ignores_are_said(files):
    path, heard = files/"pipeline.yml", []
    path.write_text(path.read_text().replace("force_rerun: true", "force_run: true"))
    assert [p.kind for p in validate(path)] == ["ignored"]
    check_file(path, say=heard.append)
    assert len(heard) == 1 and "force_run" in heard[0]


def test_all_problems_come_in_one_error(files):
    path = files/"command.yml"
    path.write_text(path.read_text().replace("timeout: 600", "timeout: soon").replace("rate: 0.5", "rat: 0.5"))
    with pytest.raises(UserError) as e: check_file(path)
    assert "2 problems" in str(e.value) and str(e.value).count("command.yml:") == 2 and e.value.exit_code == 2


@pytest.mark.parametrize("text", ["a: 1\n", "name: x\nvalue: 2\n"])
def test_a_file_that_says_nothing_of_itself(tmp_path, text):
    (tmp_path/"x.yml").write_text(text)
    assert "nothing says what this file describes" in validate(tmp_path/"x.yml")[0].what
    for written, fix in (("pipelin", "did you mean 'pipeline'?"), ("flow", "correct it, or add `$schema:`")):
        (tmp_path/"x.yml").write_text(f"type: {written}\njobs: {{}}\n")
        (found,) = validate(tmp_path/"x.yml")
        assert (found.what, found.line, found.fix) == (f"type is {written!r}", 1, fix)


@given(st.sampled_from([0, 1, 4]), st.text("0123456789*/,-monsatJ", max_size=8))
@settings(max_examples=300)
def test_cron_never_crashes(position, field):
    parts = ["*"] * 5
    parts[position] = field
    list(Cron().check(" ".join(parts), Position({})))


def test_time_zones_are_azures():
    from azure.ai.ml.constants import TimeZone
    assert set(TIME_ZONES) == {zone.value for zone in TimeZone}


# Our table, the schema class in azure-ai-ml, keys that we take besides, keys of theirs that we leave out
REFERENCE = [
    (ref.command_job, "job.command_job.CommandJobSchema", (), ()),
    (ref.sweep_job, "_sweep.sweep_job.SweepJobSchema", (), ()),
    (ref.pipeline_job, "pipeline.pipeline_job.PipelineJobSchema", (), ()),
    (ref.settings, "pipeline.settings.PipelineJobSettingsSchema", (), ()),
    (ref.component_node, "pipeline.component_job.CommandSchema", (), ()),
    (ref.command_node, "pipeline.pipeline_command_job.PipelineCommandJobSchema", ("comment",), ()),
    (ref.sweep_node, "pipeline.component_job.SweepSchema", (), ()),
    (ref.parallel_component_node, "pipeline.component_job.ParallelSchema", (), ()),
    (ref.parallel_node, "pipeline.pipeline_parallel_job.PipelineParallelJobSchema", (), ()),
    (ref.pipeline_node, "pipeline.pipeline_component.PipelineSchema", (), ()),
    (ref.command_component, "component.command_component.CommandComponentSchema", (), ()),
    (ref.inline_component, "component.command_component.AnonymousCommandComponentSchema", (), ()),
    (ref.parallel_component, "component.parallel_component.ParallelComponentSchema", ("environment_variables",), ()),
    (ref.inline_parallel_component, "component.parallel_component.AnonymousParallelComponentSchema",
     ("environment_variables",), ()),
    (ref.pipeline_component, "pipeline.pipeline_component.PipelineComponentSchema", (), ()),
    (ref.inline_pipeline_component, "pipeline.pipeline_component._AnonymousPipelineComponentSchema", (), ()),
    (ref.environment, "assets.environment.EnvironmentSchema", (), ()),
    (ref.inline_environment, "assets.environment.AnonymousEnvironmentSchema", (), ()),
    (ref.job_output, "job.input_output_entry.OutputSchema", (), ("$schema",)),
    (ref.command_job.keys["limits"], "job.job_limits.CommandJobLimitsSchema", (), ()),
    (ref.command_job.keys["resources"], "job_resource_configuration.JobResourceConfigurationSchema", (), ()),
    (ref.command_job.keys["queue_settings"], "queue_settings.QueueSettingsSchema", (), ()),
    (ref.command_job.keys["distribution"].tables["ray"], "job.distribution.RayDistributionSchema", (), ()),
    (ref.command_job.keys["distribution"].tables["tensorflow"], "job.distribution.TensorFlowDistributionSchema", (),
     ()),
    (ref.service.tables["tensor_board"], "job.services.TensorBoardJobServiceSchema", (), ()),
    (ref.service.tables["ssh"], "job.services.SshJobServiceSchema", (), ()),
    (ref.identity.tables["managed"], "job.identity.ManagedIdentitySchema", (), ()),
    (ref.sweep_job.keys["limits"], "job.job_limits.SweepJobLimitsSchema", (), ()),
    (ref.sweep_job.keys["objective"], "_sweep.sweep_objective.SweepObjectiveSchema", (), ()),
    (ref.sweep_job.keys["early_termination"].tables["bandit"], "_sweep.sweep_termination.BanditPolicySchema", (), ()),
    (ref.sweep_job.keys["early_termination"].tables["truncation_selection"],
     "_sweep.sweep_termination.TruncationSelectionPolicySchema", (), ()),
    (ref.search_space.tables["uniform"], "_sweep.search_space.uniform.UniformSchema", (), ()),
    (ref.search_space.tables["quniform"], "_sweep.search_space.uniform.QUniformSchema", (), ()),
    (ref.search_space.tables["normal"], "_sweep.search_space.normal.NormalSchema", (), ()),
    (ref.search_space.tables["qlognormal"], "_sweep.search_space.normal.QNormalSchema", (), ()),
    (ref.search_space.tables["randint"], "_sweep.search_space.randint.RandintSchema", (), ()),
    (ref.search_space.tables["choice"], "_sweep.search_space.choice.ChoiceSchema", (), ()),
    (ref.score_task, "component.parallel_task.ComponentParallelTaskSchema", (), ()),
    (ref.component_input.tables["number"], "component.input_output.ParameterSchema", (), ()),
    (ref.component_input.tables["uri_file"], "component.input_output.InputPortSchema", (), ("default",)),
    (ref.job_input.kinds[-1].tables["uri_file"], "job.input_output_entry.DataInputSchema", (), ()),
    (ref.job_input.kinds[-1].tables["mltable"], "job.input_output_entry.MLTableInputSchema", (), ()),
    (assets.data, "assets.data.DataSchema", (), ()),
    (assets.model, "assets.model.ModelSchema", ("auto_delete_setting",), ()),
    (assets.schedule, "schedule.schedule.JobScheduleSchema", (), ()),
    (assets.trigger.tables["cron"], "schedule.trigger.CronTriggerSchema", (), ()),
    (assets.trigger.tables["recurrence"], "schedule.trigger.RecurrenceTriggerSchema", (), ()),
    (assets.create_job.tables["pipeline"], "schedule.create_job.PipelineCreateJobSchema", (), ()),
    (assets.create_job.tables["command"], "schedule.create_job.CommandCreateJobSchema", (), ()),
    (assets.create_job.tables["spark"], "schedule.create_job.SparkCreateJobSchema", ("inputs", "outputs"), ()),
    (assets.endpoint, "_endpoint.online.online_endpoint.ManagedOnlineEndpointSchema", ("compute", "creation_context"),
     ()),
    (assets.deployment, "_deployment.online.online_deployment.ManagedOnlineDeploymentSchema", ("resources",), ()),
    (assets.batch_endpoint, "_endpoint.batch.batch_endpoint.BatchEndpointSchema", ("creation_context",), ()),
    (assets.batch_deployment, "_deployment.batch.model_batch_deployment.ModelBatchDeploymentSchema",
     ("creation_context", "provisioning_state"), ()),
    (assets.batch_deployment.keys["settings"],
     "_deployment.batch.model_batch_deployment_settings.ModelBatchDeploymentSettingsSchema", (), ()),
    (assets.batch_deployment.keys["resources"], "job_resource_configuration.JobResourceConfigurationSchema", (), ()),
]


@pytest.mark.parametrize("table, path, more, fewer", REFERENCE,
                         ids=lambda v: v.rpartition(".")[2] if isinstance(v, str) else "")
def test_a_table_has_the_keys_of_azures_schema(table, path, more, fewer):
    module, _, name = path.rpartition(".")
    schema = getattr(importlib.import_module(f"azure.ai.ml._schema.{module}"), name)
    try: fields = schema(context={"base_path": "."}).fields
    except TypeError: fields = schema().fields
    theirs = {field.data_key or key: field for key, field in fields.items()}
    assert set(table.keys) - set(more) == set(theirs) - set(fewer)
    assert set(table.required) >= {key for key, field in theirs.items() if field.required} - {"type", "instance_type"}
    looked_at = {key for key, field in theirs.items() if field.dump_only and table.keys.get(key) not in (None,
                                                                                                         anything)}
    assert looked_at <= {"name", "version"}


VALUES = st.sampled_from([None, "", 5, 1.5, True, "text", "${{parent.inputs.rate}}", "${{inputs.flights}}", [], {}, [1],
                          {"a": 1}, "azureml:x:1", "azureml:x",
                          "5", "-3", "data/flights.csv", "data", "nope", {"type": "uri_file"}, {"type": "number"}, -1])


def places(value, path=()):
    "The path of everything in a document"
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(item, (*path, key))


@given(st.data())
@settings(max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)
def test_azure_accepts_what_we_accept(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("mutated")/"yaml"
    shutil.copytree(YAML, folder)
    name = data.draw(st.sampled_from([p.name for p in FILES if p.name != "conda.yml"]))
    doc = yaml.safe_load((YAML/name).read_text())
    *path, key = data.draw(st.sampled_from([p for p in places(doc) if p[0] != "$schema"]))
    holder = doc
    for part in path: holder = holder[part]
    change = data.draw(st.sampled_from(["set", "delete", "rename"]))
    if change == "delete": del holder[key]
    elif change == "rename" and isinstance(holder, dict): holder[f"{key}x"] = holder.pop(key)
    else: holder[key] = copy.deepcopy(data.draw(VALUES))
    (folder/name).write_text(yaml.safe_dump(doc, sort_keys=False))
    if not errors(folder/name): assert azure(folder/name) is None


def test_it_leaves_what_is_slow_to_import_alone():
    code = ("import sys; from pathlib import Path; from mlops_nb.schemas.validation import validate; "
            f"validate(Path({str(YAML / 'pipeline.yml')!r})); "
            "assert not {'azure', 'pandas', 'mlflow', 'optuna', 'numpy'} & {m.split('.')[0] for m in sys.modules}")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_positions_survive_in_text_given_by_programs():
    doc = parse("type: command\ncommand: x\n", "job.yml")
    assert [p.line for p in ref.command_job.check(doc, Position(doc))] == [1]


# What no process can be told, and what is no job

ENV = "environment: {image: python}\n"

@pytest.mark.parametrize("text, words, line", [
    ("type: pipeline\njobs: {}\n", "jobs is empty", 2),
    ("type: pipeline\n", "no jobs", 1),
    (f"command: x\ninputs: [a]\n{ENV}", "inputs is ['a']", 2),
    (f'command: "a\\0b"\n{ENV}', "command is", 1),
    (f'command: x\ninputs: {{x: "a\\0b"}}\n{ENV}', "inputs.x is", 2),
    (f'command: x\ninputs: {{"a\\0": 1}}\n{ENV}', "the key", 2),
    (f"command: x\nenvironment_variables: {{'A=B': x}}\n{ENV}", "'A=B'", 2),
    (f"command: x\nenvironment_variables: {{'': x}}\n{ENV}", "''", 2),
    ("command: x\nenvironment: {image: p, conda_file: {dependencies: [{pip: numpy}]}}\n", "pip is 'numpy'", 2),
])
def test_a_job_that_could_only_crash_is_refused(tmp_path, text, words, line):
    (tmp_path/"job.yml").write_text(text)
    assert [(words in p.what, p.line) for p in validate(tmp_path/"job.yml")] == [(True, line)]


def test_only_jobs_run(tmp_path):
    from mlops_nb.schemas.validation import check_job
    for text, fix in ((f"type: command\ncommand: x\nversion: 1\n{ENV}", "mlops-nb create"),
                      ("trigger: {}\ncreate_job: a.yml\n", "mlops-nb schedule apply .* --on dev"),
                      ("path: a\ntype: mlflow_model\n", "mlops-nb create"), ("path: a\n", "mlops-nb create"),
                      ("image: a\n", "mlops-nb create")):
        (tmp_path/"file.yml").write_text(text)
        with pytest.raises(UserError, match=fix) as e: check_job(tmp_path/"file.yml")
        assert e.value.exit_code == 2
    (tmp_path/"file.yml").write_text(f"command: x ${{{{inputs.n}}}}\ninputs: {{n: 1}}\n{ENV}")
    assert check_job(tmp_path/"file.yml", {"n": "2"}) == {"n": 2}
    for value in ("[1", "'", "!!x y", "2013-13-45"):
        with pytest.raises(UserError, match="inputs.n is .* cannot read"): check_job(tmp_path/"file.yml", {"n": value})


def test_data_that_is_still_to_be_made(tmp_path):
    (tmp_path/"data.yml").write_text("name: d\ntype: uri_folder\npath: ../.mlops/sample/d\n")
    assert [(p.kind, p.fix) for p in validate(tmp_path/"data.yml")] == [("not_made_yet", "make sample")]
    with pytest.raises(UserError, match="does not exist"): check_file(tmp_path/"data.yml")
