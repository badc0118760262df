"What the platform files make in the loopback Azure: the push of one workspace, the roles of the identities"
from mlops_nb.azure.client import credential
from mlops_nb.infrastructure.arm import ArmClient, pipeline_client
from mlops_nb.infrastructure.declared import Declaration
from mlops_nb.infrastructure.dispatch import TOKEN, dispatch_resources, token_path
from mlops_nb.infrastructure.push import push_resources
from mlops_nb.infrastructure.roles import roles_file
from mlops_nb.schemas.documents import load
from mlops_nb.settings import WorkspaceSettings

from tests.support import ROOT
from tests.support.loopback.arm import SUBSCRIPTION

BELOW = {"location": "eastus", "storage": {"name": "loopbackstorage"},
         **{kind: {} for kind in ("key_vault", "container_registry", "logs")}}


def granted(on: str = "dev") -> set[str]:
    "What roles.yml gives to the identity of a workspace"
    return {role for roles in load(roles_file(ROOT))[on]["identity"].values() for role in roles}


def make_push(azure, push: str, on: str = "dev", **more) -> list:
    "Make what `push` of settings.ini declares, twice: the second time nothing is different; gives the resources"
    made = Declaration(on, WorkspaceSettings(**azure.workspace(on), push=push, **more), BELOW, {}, {}, {}, None)
    arm = ArmClient(pipeline_client(credential()), SUBSCRIPTION)
    if push == "logic_app":     # What a person does, once there is a key vault
        secret = token_path(made)
        azure.state.resources[secret.lower()] = {"id": secret, "properties": {"attributes": {"enabled": True}}}
        azure.logic.secrets[secret.split("/")[-3], TOKEN], azure.logic.token = "github_pat_1", "github_pat_1"
    resources = [*push_resources(made, arm), *dispatch_resources(made, arm)]
    for resource in resources: resource.write(resource.read())
    again = {resource.name: resource.read() for resource in resources}
    assert all(again.values()) and not any(resource.changes(again[resource.name]) for resource in resources)
    return resources
