"`--on dev`: what the commands do in a workspace, through the unmodified SDK, against the loopback Azure"
import json
import os
import re
import signal
import subprocess

import pytest

from tests.support.azure.small import MLOPS, SCHEMA, command, placed

FILES = {
    "model.yml": SCHEMA.format("model") + "type: custom_model\nname: flight-delay\npath: ./model\n",
    "endpoint.yml": SCHEMA.format("managedOnlineEndpoint") + "name: echo\nauth_mode: key\ntraffic: {blue: 100}\n",
    "serve.yml": SCHEMA.format("managedOnlineDeployment") + "name: blue\nendpoint_name: echo\nmodel: "
                                                            "azureml:flight-delay@latest\ncode_configuration: {code: "
                                                            "code, scoring_script: score.py}\n"
                 'environment: {image: "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"}\ninstance_type: '
                 'Standard_DS3_v2\ninstance_count: 1\n'}


@pytest.fixture
def project(azure, small):
    "The small project, whose settings name the two workspaces of the loopback Azure"
    return placed(azure, small, FILES)


def uploads(azure) -> int:
    return sum(call.request.method == "PUT" and call.request.kind == "blob" for call in azure.calls)


def test_a_job_runs_is_shown_and_the_same_job_again_uploads_nothing(azure, project):
    told = json.loads(command(azure, project, "run", "pipeline.yml", "--on", "dev", "--json"))
    assert told["status"] == "Completed"
    assert {step["name"]: step["status"] for step in told["steps"]} == {"first": "Completed", "second": "Completed"}
    assert command(azure, project, "logs", "last", "first", "--on", "dev") == "said hello\n"
    assert [one["id"] for one in json.loads(command(azure, project, "jobs", "--on", "dev", "--json"))] == [told["id"]]
    assert {"id", "name", "file", "status", "attempt", "error", "created", "seconds", "experiment", "run_id", "folder",
            "steps"} <= told.keys()
    assert told["file"] == "pipeline.yml"
    before, named = uploads(azure), len(azure.state.all("workspaces/components/versions"))
    said = command(azure, project, "run", "pipeline.yml", "--on", "dev", "--detach")
    assert uploads(azure) == before and len(azure.state.all("workspaces/components/versions")) == named == 2
    assert "mlops-nb cancel" in said and "made" not in said


@pytest.mark.long
def test_a_changed_file_makes_only_its_own_component_anew(azure, project):
    first = command(azure, project, "run", "pipeline.yml", "--on", "dev", "--dry-run")
    assert not azure.calls, "--dry-run asks nobody"
    (project / "code/second.py").write_text((project / "code/second.py").read_text() + "# changed\n")
    second = command(azure, project, "run", "pipeline.yml", "--on", "dev", "--dry-run")
    assert re.findall(r"\S+:\S+,", first) != re.findall(r"\S+:\S+,", second)


@pytest.mark.long
def test_ctrl_c_leaves_the_job_and_cancel_ends_it(azure, project):
    (project / "code/first.py").write_text("import time\nprint('began', flush=True)\ntime.sleep(300)\n")
    process = subprocess.Popen([*MLOPS, "run", "pipeline.yml", "--on", "dev"], cwd=project,
                               env={**os.environ, **azure.env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True)
    for line in process.stdout:
        if "Running" in line: break
    process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    assert process.wait(120) == 130, said
    assert "goes on" in said and "mlops-nb cancel" in said
    assert "asked" in command(azure, project, "cancel", "last", "--on", "dev")
    for one in azure.executions: one.process.wait(60)
    assert json.loads(command(azure, project, "show", "last", "--on", "dev", "--json"))["status"] == "Canceled"
    assert "has ended: Canceled" in command(azure, project, "cancel", "last", "--on", "dev", code=2)


@pytest.mark.long
def test_a_step_that_fails_says_why(azure, project):
    (project / "code/first.py").write_text("raise SystemExit('the table is empty')\n")
    said = command(azure, project, "run", "pipeline.yml", "--on", "dev", code=1)
    assert "first failed" in said and "the table is empty" in said


def test_what_cannot_be_asked_is_said_before_anything_is_sent(azure, project):
    said = command(azure, project, "jobs", "--on", "staging", code=2)
    assert "[staging] names no workspace: subscription_id, resource_group, workspace are empty" in said
    for words, what in ((("show", "nothing"), "job 'nothing'"), (("endpoint", "status", "ehco"), "endpoint 'ehco'"),
                        (("endpoint", "keys", "ehco"), "endpoint 'ehco'"),
                        (("schedule", "stop", "weekyl"), "schedule 'weekyl'")):
        said = command(azure, project, *words, "--on", "dev", code=2)
        assert f"error: there is no {what} in dev\n  accepted: there is none yet\n  fix: mlops-nb " in said
    azure.fail("GET management.azure.com.*/workspaces/dev/jobs", status=403, times=20)
    assert "az role assignment create" in command(azure, project, "jobs", "--on", "dev", code=2)


def test_doctor_tells_what_is_there_and_what_is_missing(azure, project):
    found = {one["name"]: one for one in json.loads(command(azure, project, "doctor", "--on", "dev", "--json",
                                                            code=1).partition("\nerror")[0])}
    assert all(found[name]["ok"] for name in ("login", "dev", "run jobs", "deploy", "storage", "compute")), found
    assert not found["registry"]["ok"] and "az ml registry create" in found["registry"]["fix"]
    text = (project / "settings.ini").read_text()
    (project / "settings.ini").write_text(text.replace("workspace = dev", "workspace = gone"))
    found = {one["name"]: one for one in json.loads(command(azure, project, "doctor", "--on", "dev", "--json",
                                                            code=1).partition("\nerror")[0])}
    assert not found["dev"]["ok"] and "mlops-nb environment apply --on dev" in found["dev"]["fix"]


@pytest.mark.long
def test_an_endpoint_begins_with_its_traffic_and_moves_it(azure, project):
    command(azure, project, "create", "model.yml", "--on", "dev")
    words = ("deploy", "--endpoint", "endpoint.yml", "--deployment", "serve.yml", "--on", "dev")
    assert json.loads(command(azure, project, *words, "--json"))["traffic"] == {"blue": 100}
    command(azure, project, *words, "--name", "green")
    assert command(azure, project, "endpoint", "traffic", "echo", "blue=90", "green=10", "--on",
                   "dev") == "blue=90\ngreen=10\n"
    assert "green has traffic" in command(azure, project, "endpoint", "delete", "echo", "green", "--on", "dev", code=2)
    assert "add up to 50" in command(azure, project, "endpoint", "traffic", "echo", "blue=50", "--on", "dev", code=2)
    old, new = (json.loads(command(azure, project, "endpoint", "keys", "echo", *more, "--on", "dev", "--json"))
                for more in ((), ("--regenerate", "primary")))
    assert old["primary"] != new["primary"] and old["secondary"] == new["secondary"]
    assert "3 to 32 letters" in command(azure, project, *words, "--name", "v1", code=2)
