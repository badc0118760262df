"YAML as other people write it"

import pytest

from mlops_nb.errors import UserError
from mlops_nb.schemas.validation import check_file, validate

COMPONENT = """
name: c
type: command
inputs: {x: {type: TYPE}}
command: echo ${{inputs.x}}
environment: azureml:e:1
"""
PIPELINE = """
type: pipeline
inputs:
  d: VALUE
jobs:
  one: {type: command, component: ./c.yml, inputs: {x: "${{parent.inputs.d}}"}}
"""


def problems(folder, type_, value, pipeline=PIPELINE):
    (folder / "c.yml").write_text(COMPONENT.replace("TYPE", type_))
    (folder / "p.yml").write_text(pipeline.replace("VALUE", value))
    return [(p.kind, p.what) for p in validate(folder / "p.yml")]


@pytest.mark.parametrize("type_", ["uri_file", "uri_folder", "mltable", "mlflow_model", "custom_model"])
@pytest.mark.parametrize("value", ["./a.csv", "azureml:abc@latest", "azureml://datastores/a/paths/b", "3", "true"])
def test_plain_text_is_no_data(tmp_path, type_, value):
    assert any(
        f"that jobs.one.inputs.x binds to an input of type {type_}" in what
        for _, what in problems(tmp_path, type_, value)
    )


def test_an_inline_step_that_names_a_type_is_asked_too(tmp_path):
    inline = """
type: pipeline
inputs: {d: ./a.csv}
jobs:
  one:
    command: cat ${{inputs.x}}
    environment: azureml:e:1
    inputs: {x: {type: uri_file, path: "${{parent.inputs.d}}"}}
"""
    assert any("of type uri_file" in what for _, what in problems(tmp_path, "string", "", inline))


def test_a_path_that_is_not_there(tmp_path):
    here = "type: pipeline\njobs:\n  one: {type: command, component: ./c.yml, inputs: {x: VALUE}}\n"
    assert problems(tmp_path, "uri_file", "./nope.csv", here) == [
        ("error", "jobs.one.inputs.x: ./nope.csv does not exist")
    ]
    (tmp_path / "nope.csv").touch()
    assert not problems(tmp_path, "uri_file", "./nope.csv", here)


def test_text_with_a_binding_in_it_is_no_number(tmp_path):
    mixed = PIPELINE.replace('"${{parent.inputs.d}}"', '"1${{parent.inputs.d}}"')
    assert [kind for kind, _ in problems(tmp_path, "number", "3", mixed)] == ["error"]
    assert not problems(tmp_path, "string", "3", mixed)


@pytest.mark.parametrize(
    "type_, value, kind",
    [
        ("string", "12:30", "error"),
        ("string", "010", "error"),
        ("string", "1.10", "error"),
        ("string", "0x1F", "error"),
        ("string", "1_000", "error"),
        ("string", "yes", "changed"),
        ("string", "1.5", None),
        ("string", "'12:30'", None),
        ("string", "2013-04", None),
        ("integer", "010", "error"),
        ("integer", "12:30", "error"),
        ("integer", "0x1F", None),
        ("integer", "1_000", None),
        ("number", "1.10", None),
        ("number", "-1:30.5", "error"),
        ("string", "{value: 12:30}", "error"),
    ],
)
def test_what_arrives_is_what_stands_in_the_file(tmp_path, type_, value, kind):
    assert {k for k, _ in problems(tmp_path, type_, value)} == ({kind} if kind else set())
    default = {p.kind for p in validate(write(tmp_path, COMPONENT.replace("TYPE}", f"{type_}, default: {value}}}")))}
    assert value[0] == "{" or default == ({kind} if kind else set())


def write(folder, text, name="own.yml"):
    (folder / name).write_text(text)
    return folder / name


def test_a_truth_value_as_text_is_noted(tmp_path, capsys):
    check_file(write(tmp_path, COMPONENT.replace("TYPE}", "string, default: true}")))
    assert "YAML reads as True" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["echo ${inputs.x}", "echo {{inputs.x}}", "echo {{ outputs.x }}"])
def test_braces_that_bind_nothing(tmp_path, command):
    with pytest.raises(UserError, match="binds nothing"):
        check_file(write(tmp_path, f"command: '{command}'\nenvironment: azureml:e:1\ninputs: {{x: 3}}\n"))


def test_an_input_that_the_component_lacks_is_noted(tmp_path):
    spare = PIPELINE.replace('inputs.d}}"}', 'inputs.d}}", spare: 1}')
    assert problems(tmp_path, "string", "a", spare) == [
        ("ignored", "jobs.one.inputs: the component 'c' has no 'spare'")
    ]


@pytest.mark.parametrize("word", ["name", "output_name", "default_datastore"])
def test_built_in_expressions_of_output_paths(tmp_path, word):
    path = f"azureml://datastores/a/paths/${{{{{word}}}}}/x"
    job = "command: ls > ${{outputs.o}}\nenvironment: azureml:e:1\n"
    job += f"outputs: {{o: {{type: uri_folder, path: '{path}'}}}}\n"
    assert not validate(write(tmp_path, job))
    assert not validate(write(tmp_path, "type: pipeline\njobs:\n  one:\n    " + job.replace("\n", "\n    ")))


def test_an_inline_azure_step_is_read_in_its_own_scope(tmp_path):
    spark = """
type: pipeline
inputs: {rows: {type: uri_file, path: ./c.yml}}
jobs:
  go:
    {type: spark, code: ., entry: {file: go.py}, inputs: {rows: "${{parent.inputs.rows}}"}, args: "${{inputs.ROWS}}"}
"""
    assert {kind for kind, _ in problems(tmp_path, "string", "", spark.replace("ROWS", "rows"))} == {"azure_only"}
    assert {kind for kind, _ in problems(tmp_path, "string", "", spark.replace("ROWS", "raws"))} == {
        "azure_only",
        "error",
    }


def test_a_control_output(tmp_path):
    out = "\noutputs: {go: {type: boolean, is_control: true}}\n"
    assert not validate(write(tmp_path, COMPONENT.replace("TYPE", "string") + out.strip() + "\n"))


def test_a_batch_deployment_under_its_common_schema(tmp_path):
    schema = "https://azuremlschemas.azureedge.net/latest/batchDeployment.schema.json"
    head = f"$schema: {schema}\ntype: model\nname: nightly\n"
    assert [p.what for p in validate(write(tmp_path, head + "compute: azureml:c\n"))] == [
        "the file: model batch deployment needs 'endpoint_name'"
    ]


SWEPT = """
type: pipeline
outputs: {made: {mode: rw_mount}}
jobs:
  prepare: {command: "echo > ${{outputs.d}}/a", environment: azureml:e:1, outputs: {d: "${{parent.outputs.made}}"}}
  one: {type: command, component: ./c.yml, inputs: {x: "${{parent.jobs.prepare.outputs.d}}"}}
"""


def test_an_output_that_is_bound_to_the_pipelines_is_no_text(tmp_path):
    assert not problems(tmp_path, "uri_folder", "", SWEPT)


PARALLEL = """
name: score
type: parallel
version: 1
mini_batch_size: "1"
inputs: {d: {type: uri_folder}}
outputs: {o: {type: uri_file}}
input_data: ${{inputs.d}}
task: {type: run_function, code: ./src, entry_script: ENTRY, environment: azureml:e:1, append_row_to: "${{outputs.o}}"}
"""


@pytest.mark.parametrize("entry, found", [("scoring/main.py", True), ("scoring.main", True), ("scoring.other", False),
                                          ("main", False), ("main.py", False)])
def test_an_entry_script_is_a_file_or_a_module(tmp_path, entry, found):
    (tmp_path/"src/scoring").mkdir(parents=True)
    (tmp_path/"src/scoring/main.py").touch()
    (tmp_path/"c.yml").write_text(PARALLEL.replace("ENTRY", entry))
    whats = [p.what for p in validate(tmp_path/"c.yml")]
    assert whats == ([] if found else [f"task.entry_script: {entry} is not in ./src"])


FLOWS = """
type: pipeline
inputs: {d: {type: uri_file, path: azureml:d:1}}
jobs:
  asked:
    type: parallel
    component: ./FILE
    inputs: {data: "${{parent.inputs.d}}", text: "${data.text}"}
    outputs: {flow_outputs: {type: uri_folder}}
    environment_variables: {KEY: k}
  after:
    command: ls ${{inputs.x}}
    environment: azureml:e:1
    inputs: {x: {type: uri_folder, path: "${{parent.jobs.asked.outputs.flow_outputs}}"}}
"""
PROMPTFLOW = "$schema: https://azuremlschemas.azureedge.net/promptflow/latest/"


@pytest.mark.parametrize("file, text", [("flow.dag.yaml", f"{PROMPTFLOW}Flow.schema.json\nnodes: []\n"),
                                        ("run.yml", f"{PROMPTFLOW}Run.schema.json\nflow: ./basic\n")])
def test_a_flow_is_a_component_of_azures(tmp_path, file, text):
    (tmp_path/file).write_text(text)
    (tmp_path/"p.yml").write_text(FLOWS.replace("FILE", file))
    assert [(p.kind, p.what) for p in validate(tmp_path/"p.yml")] == [
        ("azure_only", "a flow as a component runs on Azure only")]
    with pytest.raises(UserError, match="runs on Azure only"): check_file(tmp_path/"p.yml")
