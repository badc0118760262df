"The checker of the contract: it passes what the SDK sends, and sees what is wrong"
import json
from collections import Counter
from dataclasses import replace

import pytest

from tests.support.azure.clients import sdk
from tests.support.azure.mutations import dropped, mutated

CREATE = """
from azure.ai.ml import load_online_endpoint
from azure.ai.ml.entities import AmlCompute, CronTrigger, Data, Environment, JobSchedule, Model
client.models.create_or_update(Model(name="flight-delay", version="1", path="model", type="custom_model",
                                     tags={"status": "champion"}))
client.data.create_or_update(Data(name="flights", version="1", path="table", type="uri_folder"))
client.environments.create_or_update(Environment(
    name="mlops-nb", version="1", image="mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04",
    conda_file={"name": "e", "dependencies": ["python=3.11"]}))
client.compute.begin_create_or_update(AmlCompute(name="cpu", size="Standard_DS3_v2", max_instances=1)).result()
client.jobs.create_or_update(load_job("pipeline.yml"))
table = Input(type="uri_folder", path="azureml:flights:1")
client.jobs.create_or_update(command(name="one", command="echo 1", environment="mlops-nb:1", inputs={"table": table},
                                     compute="cpu"))
weekly = JobSchedule(name="weekly", trigger=CronTrigger(expression="0 6 * * 1"), create_job=load_job("pipeline.yml"))
client.schedules.begin_create_or_update(weekly).result()
client.online_endpoints.begin_create_or_update(load_online_endpoint("endpoint.yml")).result()
"""


@pytest.fixture
def contract(azure_server):
    if not azure_server.contract: pytest.skip("AZURE_REST_API_SPECS names no checkout of Azure's specifications")
    return azure_server.contract


@pytest.mark.long
def test_mutated_requests_are_caught(contract, azure, small):
    "Of requests that the SDK sent, with one field of a wrong type, renamed, or dropped though required"
    sdk(azure, CREATE, small)
    sent = [one.request for one in azure.calls if one.request.method == "PUT" and one.request.kind == "arm"
            and one.against]
    kinds, tried, caught, missed = set(), Counter(), Counter(), []
    for request in sent:
        found, _ = contract.find(request)
        kind = (found.name, str(request.json.get("properties", {}).get("jobType")))
        if kind in kinds: continue
        kinds.add(kind)
        usual = {str(one) for one in contract.body(found, request)}
        for what, at, body in [*mutated(request.json), *dropped(request.json, found.name)]:
            said = {str(one) for one in contract.body(found, replace(request, body=json.dumps(body).encode()))}
            tried[what] += 1
            caught[what] += bool(said - usual)
            if not said - usual: missed.append(f"{found.name}: {what} {'/'.join(map(str, at))}")
    share = sum(caught.values()) / sum(tried.values())
    print(f"caught {sum(caught.values())} of {sum(tried.values())} mutations of {len(kinds)} kinds of request: "
          f"{dict(tried)}\nmissed:", *missed, sep="\n  ")
    assert len(kinds) >= 10 and min(tried.values()) >= 20 and share > 0.95, missed


def test_an_answer_that_the_specification_does_not_allow_is_a_finding(contract, azure):
    from tests.support.loopback.proxy import Answer, Request
    request = Request("GET", "management.azure.com", f"{azure.state.all('workspaces')[0]['id']}?api-version=2024-04-01",
                      {})
    findings = contract.check(request, Answer(200, {"location": 3})).findings
    assert [str(one) for one in findings] == ["answer 200 /location: 3 is not of type 'string'"]


def test_what_no_specification_has_is_not_called_checked(contract):
    from tests.support.loopback.proxy import Request
    assert contract.check(Request("GET", "management.azure.com",
                                  "/subscriptions/1/providers/Microsoft.Consumption/budgets?api-version=2023-11-01",
                                  {})).against == ""
