"Roles, quotas, budgets and groups of the loopback Azure, through Azure's own clients"
import pytest

from tests.support.azure.clients import sdk

pytestmark = pytest.mark.long


def test_roles_quotas_and_budgets(azure, tmp_path):
    azure.own()
    said = sdk(azure, """
import uuid
from azure.core.exceptions import ResourceExistsError
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.rest import HttpRequest
from azure.core import PipelineClient
from azure.mgmt.authorization import AuthorizationManagementClient
credential = EnvironmentCredential()
roles = AuthorizationManagementClient(credential, os.environ["AZURE_SUBSCRIPTION_ID"])
scope = client.workspaces.get("dev").id
role = next(roles.role_definitions.list(scope, filter="roleName eq 'AzureML Data Scientist'"))
given = {"properties": {"roleDefinitionId": role.id, "principalId": os.environ["AZURE_CLIENT_ID"]}}
roles.role_assignments.create(scope, str(uuid.uuid4()), given)
try: roles.role_assignments.create(scope, str(uuid.uuid4()), given)
except ResourceExistsError as error: twice = error.error.code
arm = "https://management.azure.com"
rest = PipelineClient(arm, policies=[BearerTokenCredentialPolicy(credential, f"{arm}/.default")])
group = scope.split("/providers/")[0]
period = {"startDate": "2026-11-01T00:00:00Z"}
budget = {"properties": {"category": "Cost", "amount": 100, "timeGrain": "Monthly", "timePeriod": period}}
address = f"{arm}{group}/providers/Microsoft.Consumption/budgets/monthly?api-version=2023-11-01"
made = rest.send_request(HttpRequest("PUT", address, json=budget))
tell({"assigned": len(list(roles.role_assignments.list_for_scope(scope))), "twice": twice,
      "budget": made.json()["properties"]["amount"],
      "limits": [one.limit for one in client.compute.list_usage(location="eastus")],
      "sizes": [one.name for one in client.compute.list_sizes(location="eastus")]})
""", tmp_path)
    assert said["assigned"] == 1 and said["twice"] == "RoleAssignmentExists" and said["budget"] == 100
    assert set(said["limits"]) == {100} and "Standard_DS3_v2" in said["sizes"]


def test_another_host_is_refused_and_noticed(azure, tmp_path):
    said = sdk(azure, """
import requests
try: requests.get("https://example.com", timeout=20)
except requests.exceptions.ProxyError as error: tell(str(error))
""", tmp_path)
    assert "403" in said and azure.proxy.refused == ["example.com"]
    azure.proxy.refused.clear()
