"Batch deployments of every form, workspaces and connections: ours and azure-ai-ml say the same of each file"

import pytest

from mlops_nb.errors import UserError
from mlops_nb.jobs.create import create
from mlops_nb.schemas.validation import validate

from tests.schemas.test_validation import azure

ARM = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers/Microsoft.KeyVault/vaults/v"
BATCH, CALLED = "name: nightly, endpoint_name: flights, model: 'azureml:m:1'", "name: nightly, type: pipeline"
GIT = "name: n, type: git, target: x"
FILES = [
    ("batchDeployment", BATCH, True),
    ("batchDeployment", f"{BATCH}, compute: cluster, mini_batch_size: 10, output_action: append_row", True),
    ("batchDeployment", f"{BATCH}, resources: {{instance_count: 2}}, retry_settings: {{max_retries: 3}}", True),
    ("batchDeployment", "name: nightly", False),
    ("batchDeployment", f"{BATCH}, settings: {{}}", False),
    ("batchDeployment", f"{BATCH}, mini_batch_size: ten", False),
    ("batchDeployment", f"{BATCH}, output_action: none", False),
    ("batchDeployment", f"{BATCH}, type: other", False),
    ("batchDeployment", f"{BATCH}, component: 'azureml:c:1'", False),
    ("batchDeployment", f"{CALLED}, component: 'azureml:c:1'", True),
    ("pipelineComponentBatchDeployment", f"{CALLED}, endpoint_name: flights, component: 'azureml:c@latest'", True),
    ("pipelineComponentBatchDeployment", f"{CALLED}, job_definition: 'azureml:j', settings: {{any: 1}}", True),
    ("pipelineComponentBatchDeployment", f"{CALLED}, component: ./missing.yml", False),
    ("pipelineComponentBatchDeployment", f"{CALLED}, component: 'azureml:c:1', compute: x", False),
    ("pipelineComponentBatchDeployment", "type: pipeline, component: 'azureml:c:1'", False),
    ("workspace", "name: flights, location: westeurope, public_network_access: Enabled", True),
    ("workspace", f"name: flights, key_vault: {ARM}, identity: {{type: SystemAssigned}}", True),
    ("workspace", "name: flights, managed_network: {isolation_mode: allow_internet_outbound}", True),
    ("workspace", "location: westeurope", False),
    ("workspace", "name: flights, region: westeurope", False),
    ("workspace", "name: flights, key_vault: vault", False),
    ("workspace", "name: flights, tags: {a: 3}", False),
    ("workspace", "name: flights, identity: {}", False),
    ("workspace", "name: flights, customer_managed_key: {key_uri: abc}", False),
    ("workspace", "name: flights, managed_network: {isolation_mode: open}", False),
    ("workspaceConnection", GIT, True),
    ("workspaceConnection", f"{GIT}, credentials: {{type: pat, pat: x}}", True),
    ("connection", f"{GIT}, credentials: {{type: AccountKey, account_key: x}}", True),
    ("connection", "name: n, type: AzureOpenAI, azure_endpoint: x", True),
    ("connection", "name: n, type: serp, api_key: x", True),
    ("connection", "name: n, type: git", False),
    ("connection", "type: git, target: x", False),
    ("connection", "name: n, target: x", False),
    ("connection", "name: n, type: pythonfeed, target: x", False),
    ("connection", f"{GIT}, credentials: {{type: pat}}", False),
    ("connection", f"{GIT}, credentials: {{type: aad, x: 1}}", False),
    ("connection", "name: n, type: azure_open_ai, api_key: y", False),
    ("connection", "name: n, type: azure_blob, account_name: a, container_name: b, url: c, "
                   "credentials: {type: pat, pat: x}", False),
]


def write(folder, schema, text):
    path = folder / "file.yml"
    said = f"$schema: 'https://azuremlschemas.azureedge.net/latest/{schema}.schema.json', " if schema else ""
    path.write_text(f"{{{said}{text}}}\n")
    return path


@pytest.mark.parametrize("schema, text, accepted", FILES)
def test_both_say_the_same(tmp_path, schema, text, accepted):
    path = write(tmp_path, schema, text)
    found = [str(p) for p in validate(path)]
    assert (not found, azure(path) is None) == (accepted, accepted), (found, azure(path))


@pytest.mark.parametrize("schema, text, command", [
    ("batchDeployment", BATCH, "az ml batch-deployment create"),
    ("pipelineComponentBatchDeployment", f"{CALLED}, component: 'azureml:c:1'", "az ml batch-deployment create"),
    ("workspace", "name: flights", "az ml workspace create"),
    ("connection", GIT, "az ml connection create"),
    ("managedOnlineEndpoint", "name: flights", "az ml online-endpoint create"),
    ("amlCompute", "name: c, type: amlcompute", "az ml compute create"),
    ("azureBlob", "name: d, type: azure_blob", "az ml datastore create"),
    ("registry", "name: r", "az ml registry create"),
    ("workspaceConnection", GIT, "az ml connection create"),
    ("AzureOpenAIConnection", "name: a", "az ml connection create"),
    ("hub", "name: h, kind: hub", "az ml workspace create"),
    ("featureStoreEntity", "name: f", "az ml feature-store-entity create"),
    ("serverlessEndpoint", "name: s", "az ml serverless-endpoint create"),
    ("schedule", "name: s, trigger: {}, import_data: {}", "az ml schedule create"),
    ("sparkComponent", "name: s, type: spark", "az ml component create"),
    ("autoMLJob", "type: automl", "mlops-nb run .* --on dev"),
    (None, "name: c, type: computeinstance", "az ml compute create"),
    (None, "name: d, type: azure_data_lake_gen2", "az ml datastore create"),
    (None, "name: s, type: spark, version: 1", "az ml component create"),
    (None, "type: automl", "mlops-nb run .* --on dev"),
])
def test_create_names_the_command(tmp_path, schema, text, command):
    path = write(tmp_path, schema, text)
    with pytest.raises(UserError, match=command) as refused: create(None, path)
    assert str(path) in str(refused.value)
