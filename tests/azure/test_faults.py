"""What goes wrong in a cloud, and what the commands make of it: a clear message, a second run that repairs, nothing
twice"""
import json
import os
import signal
import subprocess
import time

import pytest

from tests.support.azure.small import MLOPS, SCHEMA, command, placed

pytestmark = pytest.mark.long

FILES = {"model.yml": SCHEMA.format("model") + "type: custom_model\nname: flight-delay\npath: ./model\n",
         "endpoint.yml": SCHEMA.format("managedOnlineEndpoint") + "name: echo\nauth_mode: key\ntraffic: {blue: 100}\n"}


@pytest.fixture
def project(azure, small):
    serve = (small / "deployment.yml").read_text().replace("model: {name: flight-delay, version: 1, path: model, "
                                                           "type: custom_model}", "model: azureml:flight-delay@latest")
    return placed(azure, small, FILES | {"deployment.yml": SCHEMA.format("managedOnlineDeployment") + serve})


def count(azure, *kinds: str) -> list: return [len(azure.state.all(f"workspaces/{kind}")) for kind in kinds]


def completed(azure, project) -> bool:
    return json.loads(command(azure, project, "run", "pipeline.yml", "--on", "dev", "--json"))["status"] == "Completed"


def test_a_storm_that_passes_is_not_noticed_and_one_that_lasts_is_named(azure, project):
    lasting = azure.fail("PUT management.azure.com/.*/components/second", status=503, times=1000)
    said = command(azure, project, "run", "pipeline.yml", "--on", "dev", code=1)
    assert "Azure answered 503 again and again" in said and "run the same command again later" in said
    assert "Traceback" not in said
    assert count(azure, "jobs", "components/versions") == [0, 1]
    lasting.times = 0
    passing = [azure.fail("PUT management.azure.com/.*/jobs/", status=503, times=2),
               azure.fail("POST .*/startPendingUpload", status=429, times=2),
               azure.fail("GET management.azure.com/.*/jobs/", status=503, times=2),
               azure.fail("PUT .*blob.core.windows.net/.*second.py", cut=10)]
    assert completed(azure, project) and [fault.hits for fault in passing] == [2, 2, 2, 1]
    assert count(azure, "jobs", "components/versions", "environments/versions") == [1, 2, 1]


def test_a_client_that_is_killed_in_an_upload_is_followed_by_one_that_repairs(azure, project):
    azure.fail("PUT .*blob.core.windows.net/.*first.py", status=503, times=1000)
    client = subprocess.Popen([*MLOPS, "run", "pipeline.yml", "--on", "dev"], cwd=project,
                              env={**os.environ, **azure.env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    while not azure.faults.active[0].hits and client.poll() is None: time.sleep(0.1)
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    azure.faults.active.clear()
    assert completed(azure, project)
    assert count(azure, "jobs", "components/versions", "environments/versions") == [1, 2, 1]


def test_a_token_that_has_expired_is_named(azure, project):
    azure.tokens.lifetime = -10
    said = command(azure, project, "run", "pipeline.yml", "--on", "dev", code=2)
    assert "Azure does not know who asks" in said and "expiry" in said and "az login" in said
    azure.tokens.lifetime = 3600
    assert count(azure, "jobs") == [0] and command(azure, project, "run", "pipeline.yml", "--on", "dev", "--detach")
    assert count(azure, "jobs", "components/versions") == [1, 2]


def test_a_job_that_never_starts_says_so_and_is_canceled(azure, project):
    azure.hold(".*")
    waits = json.loads(command(azure, project, "run", "pipeline.yml", "--on", "dev", "--name", "nightly", "--detach",
                               "--json"))
    assert waits["status"] == "NotStarted"
    assert "nightly is there already" in command(azure, project, "run", "pipeline.yml", "--on", "dev", "--name",
                                                 "nightly", "--detach")
    command(azure, project, "cancel", "nightly", "--on", "dev")
    assert json.loads(command(azure, project, "show", "nightly", "--on", "dev", "--json"))["status"] == "Canceled"
    azure.faults.held.clear()
    assert completed(azure, project) and count(azure, "jobs", "components/versions") == [2, 2]


def test_a_deployment_that_stays_unhealthy_gets_no_traffic_and_the_next_try_takes_its_place(azure, project):
    azure.unhealthy("deployments/blue")
    command(azure, project, "create", "model.yml", "--on", "dev")
    words = ("deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml", "--on", "dev")
    said = command(azure, project, *words, code=1)
    assert "liveness probe failed" in said and "Traceback" not in said, said
    assert azure.state.all("workspaces/onlineEndpoints")[0]["properties"]["traffic"] == {}
    azure.faults.unhealthy.clear()
    assert "100 %" in command(azure, project, *words)
    assert count(azure, "onlineEndpoints", "onlineEndpoints/deployments") == [1, 1]
