"Online endpoints of the unmodified SDK, served by the local host behind Azure's addresses"
import json

import pytest

from tests.support.azure.clients import sdk

pytestmark = pytest.mark.long


def test_an_endpoint_serves_moves_traffic_and_changes_keys(azure, small):
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
logs = client.online_deployments.get_logs("blue", "echo", lines=5)
tell([answer, old != new, logs is not None, client.online_deployments.get("blue", "echo").provisioning_state])
client.online_endpoints.begin_delete("echo").result()
""", small)
    answer, changed, logs, state = said
    assert json.loads(answer) == [{"probability": 0.25}] and changed and logs and state == "Succeeded"
