"Online endpoints of the unmodified SDK, served by the local host behind Azure's addresses"
import json

import pytest
from clients import sdk

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


@pytest.fixture
def project(tmp_path):
    "An endpoint whose model is a word"
    (tmp_path / "code").mkdir()
    (tmp_path / "code/score.py").write_text(SCORE)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/MLmodel").write_text("flavors: {}\n")
    (tmp_path / "endpoint.yml").write_text("name: echo\nauth_mode: key\n")
    (tmp_path / "deployment.yml").write_text(DEPLOYMENT)
    return tmp_path


def test_an_endpoint_serves_moves_traffic_and_changes_keys(azure, project):
    said = sdk(azure, """
from azure.ai.ml import load_online_endpoint, load_online_deployment
client.online_endpoints.begin_create_or_update(load_online_endpoint("endpoint.yml")).result()
client.online_deployments.begin_create_or_update(load_online_deployment("deployment.yml")).result()
endpoint = client.online_endpoints.get("echo")
endpoint.traffic = {"blue": 100}
client.online_endpoints.begin_create_or_update(endpoint).result()
old = client.online_endpoints.get_keys("echo").primary_key
client.online_endpoints.begin_regenerate_keys("echo", key_type="primary").result()
new = client.online_endpoints.get_keys("echo").primary_key
open("rows.json", "w").write('[{"p": 0.25}]')
answer = client.online_endpoints.invoke("echo", request_file="rows.json")
tell([answer, old != new, client.online_deployments.get_logs("blue", "echo", lines=5) is not None, client.online_deployments.get("blue", "echo").provisioning_state])
client.online_endpoints.begin_delete("echo").result()
""", project)
    answer, changed, logs, state = said
    assert json.loads(answer) == [{"probability": 0.25}] and changed and logs and state == "Succeeded"
