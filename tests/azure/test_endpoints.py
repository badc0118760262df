"Online endpoints of the unmodified SDK, served by the local host behind Azure's addresses"
import json
import ssl
import urllib.request

import pytest

from tests.support.azure.clients import sdk
from tests.support.azure.small import SCHEMA, command, placed

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


SCRIPT = """
import os
from pathlib import Path
import pandas as pd
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init():
    global seen
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    seen = sorted(one.relative_to(folder).as_posix() for one in folder.rglob("*") if one.is_file())

@input_schema("data", PandasParameterType(pd.DataFrame({"p": [0.5]})))
@output_schema(StandardPythonParameterType({"files": ["a"], "rows": 1}))
def run(data): return {"files": seen, "rows": len(data)}
"""


def asked(azure, address: str, key: str, body: dict | None = None):
    "What a scoring address answers through the proxy"
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": azure.proxy.url}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=azure.authority.bundle)))
    request = urllib.request.Request(address, json.dumps(body).encode() if body else None,
                                     {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
    with opener.open(request, timeout=60) as reply: return json.loads(reply.read())


def test_a_script_meets_the_same_folder_and_swagger_there_as_on_this_machine(azure, small):
    "AZUREML_MODEL_DIR holds the model below its own name; the decorators make the swagger"
    endpoint = SCHEMA.format("managedOnlineEndpoint") + "name: echo\nauth_mode: key\ntraffic: {blue: 100}\n"
    inline = "model: {name: flight-delay, version: 1, path: model, type: custom_model}"
    served = (small / "deployment.yml").read_text().replace(inline, "model: azureml:flight-delay:1")
    model = SCHEMA.format("model") + "type: custom_model\nname: flight-delay\nversion: 1\npath: ./model\n"
    placed(azure, small, {"code/score.py": SCRIPT, "model/part/weights.txt": "1", "endpoint.yml": endpoint,
                          "model.yml": model, "deployment.yml": SCHEMA.format("managedOnlineDeployment") + served})
    told = []
    for on, more in ((("--on", "dev"), ()), ((), ("--trust-model",))):
        command(azure, small, "create", "model.yml", *on)
        command(azure, small, "deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml", *on, *more)
        status = json.loads(command(azure, small, "endpoint", "status", "echo", *on, "--json"))[0]
        key = json.loads(command(azure, small, "endpoint", "keys", "echo", *on, "--json"))["primary"]
        address = status["scoring_uri"]
        told.append((asked(azure, address, key, {"data": [{"p": 0.1}, {"p": 0.2}]}),
                     asked(azure, address.replace("/score", "/swagger.json"), key)))
    command(azure, small, "endpoint", "stop", "echo")
    there, here = told
    assert there[0] == here[0]
    assert here[0] == {"files": ["model/MLmodel", "model/SHA256SUMS", "model/part/weights.txt"], "rows": 2}  # A seal
    assert there[1]["definitions"] == here[1]["definitions"] and "ServiceInput" in here[1]["definitions"]
