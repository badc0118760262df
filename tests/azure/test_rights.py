"Whoever works in a workspace has the roles of roles.yml on its group, and nothing at the subscription"
import json

import pytest

from mlops_nb.infrastructure.roles import roles_file
from mlops_nb.schemas.documents import load

from tests.support import ROOT
from tests.support.azure.small import command, placed
from tests.support.loopback.bench import WORKFLOWS
from tests.support.loopback.rights import has


def test_the_loopback_gives_what_the_file_gives_to_the_workflows():
    given = load(roles_file(ROOT))
    assert all([*given[on]["workflows"]["resource_group"]] == [*WORKFLOWS] for on in ("dev", "staging", "production"))


@pytest.mark.parametrize("pattern, action, matches", [
    ("*/read", "Microsoft.MachineLearningServices/workspaces/jobs/read", True),
    ("*/read", "Microsoft.MachineLearningServices/workspaces/listKeys/action", False),
    ("Microsoft.Authorization/*/Write", "microsoft.authorization/roleAssignments/write", True)])
def test_actions_are_matched_as_azure_does(pattern, action, matches):
    assert has([pattern], action) is matches


def test_a_job_needs_nothing_at_the_subscription(azure, small):
    placed(azure, small, {})
    rights = azure.limit(*WORKFLOWS)
    done = json.loads(command(azure, small, "run", "pipeline.yml", "--on", "dev", "--json"))
    assert done["status"] == "Completed"
    assert not rights.refusals and len(rights.checked) > 8
    print(f"{rights.checked.total()} requests, {len(rights.checked)} actions: each by a role")


def test_whoever_may_only_read_is_told_which_right_is_missing(azure, small):
    placed(azure, small, {})
    rights = azure.limit("Reader")
    said = command(azure, small, "run", "pipeline.yml", "--on", "dev", code=2)
    refused = {action for action in rights.refusals if not action.endswith("/read")}
    assert refused and "Traceback" not in said and "does not have authorization to perform action" in said
