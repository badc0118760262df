"Jobs of the unmodified SDK: they run, stream, fail, stop, and leave what Azure's leave"
import pytest
from clients import sdk

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
import argparse, pathlib, time
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


@pytest.fixture
def project(tmp_path):
    "A pipeline of two small steps"
    folder = tmp_path / "small"
    (folder / "code").mkdir(parents=True)
    for name in ("first", "second"): (folder / "code" / f"{name}.py").write_text(WRITE)
    (folder / "first.yml").write_text(COMPONENT % ("first", "text: {type: string}, times: {type: integer, default: 3, min: 1}", "first", "--text ${{inputs.text}} --times ${{inputs.times}}"))
    (folder / "second.yml").write_text(COMPONENT % ("second", "data: {type: uri_folder}", "second", "--data ${{inputs.data}}"))
    (folder / "pipeline.yml").write_text(PIPELINE)
    return folder


def test_a_pipeline_runs_streams_and_gives_back_its_outputs(azure, project):
    end = sdk(azure, """
job = client.jobs.create_or_update(load_job("pipeline.yml"))
client.jobs.stream(job.name)
children = {one.display_name: one.status for one in client.jobs.list(parent_job_name=job.name)}
client.jobs.download(job.name, output_name="result", download_path="back")
client.jobs.download(job.name, all=True, download_path="whole")
tell({"status": client.jobs.get(job.name).status, "children": children, "asset": client.data.get("greeting", label="latest").path})
""", project)
    assert end["status"] == "Completed" and end["children"] == {"first": "Completed", "second": "Completed"}
    assert (project / "back/named-outputs/result/text.txt").read_text() == "hellohello"
    assert end["asset"].endswith("/out/")
