"A small project to send: two steps, an endpoint, a batch endpoint"
import os
import subprocess
import sys

import pytest

MLOPS = [sys.executable, "-c", "from mlops_nb.cli.main import main; main()"]
SCHEMA = "$schema: https://azuremlschemas.azureedge.net/latest/{}.schema.json\n"
COMPONENT = """
type: command
name: %s
version: "1"
inputs: {%s}
outputs: {out: {type: uri_folder}}
code: ./code
environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
command: >-
  python %s.py %s --out ${{outputs.out}}
"""
WRITE = """
import argparse, pathlib
p = argparse.ArgumentParser()
for name in ("times", "text", "data", "out"): p.add_argument("--" + name)
given = p.parse_args()
print("said", given.text)
body = (pathlib.Path(given.data) / "text.txt").read_text() if given.data else given.text
(pathlib.Path(given.out) / "text.txt").write_text(body * int(given.times or 1))
"""
PIPELINE = """
type: pipeline
display_name: small
experiment_name: small
settings: {default_compute: serverless}
inputs: {text: hello}
outputs: {result: {type: uri_folder, name: greeting}}
jobs:
  first:
    type: command
    component: first.yml
    inputs: {text: "${{parent.inputs.text}}", times: 2}
  second:
    type: command
    component: second.yml
    inputs: {data: "${{parent.jobs.first.outputs.out}}"}
    outputs: {out: "${{parent.outputs.result}}"}
"""
SCORE = "import json\ndef init(): pass\ndef run(raw): return [{'probability': row['p']} for row in json.loads(raw)]\n"
DEPLOYMENT = """
name: blue
endpoint_name: echo
model: {name: flight-delay, version: 1, path: model, type: custom_model}
code_configuration: {code: code, scoring_script: score.py}
environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
instance_type: Standard_DS3_v2
instance_count: 1
data_collector: {collections: {model_inputs: {enabled: 'true'}, model_outputs: {enabled: 'true'}}}
"""
BATCH = """
type: model
name: blue
endpoint_name: echo-batch
model: {name: flight-delay, version: 1, path: model, type: custom_model}
code_configuration: {code: code, scoring_script: lines.py}
environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}
compute: azureml:cpu
resources: {instance_count: 1}
settings: {mini_batch_size: 1, output_action: append_row, output_file_name: predictions.jsonl}
"""
LINES = ("from pathlib import Path\ndef init(): pass\ndef run(files): return [Path(one).read_text().strip().upper() "
         "for one in files]\n")


def placed(azure, folder, files: dict):
    "Settings that name the two workspaces of the loopback Azure, and further files"
    sections = "".join(f"[{on}]\n" + "".join(f"{key} = {value}\n"
                                             for key, value in azure.workspace(on).items()) + "registry = shared\n"
                       for on in ("dev", "production"))
    for name, text in {"settings.ini": f"[project]\nexperiment = small\nmodel = flight-delay\n{sections}",
                       **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def command(azure, folder, *words: str, code: int = 0, stdin: str = "", **more) -> str:
    "What a command prints"
    done = subprocess.run([*MLOPS, *words], cwd=folder, env={**os.environ, **azure.env, **more}, input=stdin,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout if code == 0 else done.stdout + done.stderr


@pytest.fixture
def small(tmp_path):
    "The project's folder"
    folder = tmp_path / "small"
    files = {"code/first.py": WRITE, "code/second.py": WRITE, "code/score.py": SCORE, "code/lines.py": LINES,
             "model/MLmodel": "flavors: {}\n", "pipeline.yml": PIPELINE, "deployment.yml": DEPLOYMENT,
             "batch.yml": BATCH,
             "first.yml": COMPONENT % ("first", "text: {type: string}, times: {type: integer, default: 3, min: 1}",
                                       "first", "--text ${{inputs.text}} --times ${{inputs.times}}"),
             "second.yml": COMPONENT % ("second", "data: {type: uri_folder}", "second", "--data ${{inputs.data}}"),
             "endpoint.yml": "name: echo\nauth_mode: key\n",
             "batch-endpoint.yml": "name: echo-batch\nauth_mode: aad_token\n", "table/a.txt": "late",
             "table/b.txt": "on time"}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
