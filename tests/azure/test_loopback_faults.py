"What goes wrong in a cloud, and what the unmodified SDK makes of it here"
import pytest

from tests.support.azure.clients import run, sdk

pytestmark = pytest.mark.long

SUBMIT = 'job = client.jobs.create_or_update(load_job("pipeline.yml"))\n'


def statuses(azure, status: int) -> int: return sum(one.status == status for one in azure.calls)


def test_storms_of_429_and_503_end_and_nothing_is_made_twice(azure, small):
    azure.fail("PUT management.azure.com/.*/jobs/", status=503, times=2)
    azure.fail("POST management.azure.com/.*/startPendingUpload", status=429, times=2)
    assert sdk(azure, SUBMIT + "tell(wait(job).status)", small) == "Completed"
    assert statuses(azure, 503) == 2 and statuses(azure, 429) == 2
    assert len(azure.state.all("workspaces/jobs")) == 1


def test_an_upload_that_breaks_off_is_repaired_by_the_next(azure, small):
    fault = azure.fail("PUT .*blob.core.windows.net/.*first.py", cut=10, times=1)
    assert sdk(azure, SUBMIT + "tell(wait(job).status)", small) == "Completed"
    assert fault.hits == 1


def test_an_expired_token_is_said_so(azure, small):
    azure.tokens.lifetime = -10
    done = run(azure, 'client.workspaces.get("dev")', small)
    assert done.returncode and "ExpiredAuthenticationToken" in done.stderr


def test_a_job_that_fails_is_canceled_or_never_starts_says_so(azure, small):
    azure.hold("waits")
    (small / "code/first.py").write_text("import sys; sys.exit('no flights today')")
    (small / "code/second.py").write_text("import time; time.sleep(600)")
    said = sdk(azure, SUBMIT + """
failed = wait(job)
try: client.jobs.stream(job.name)
except Exception as error: why = str(error)
job = load_job("pipeline.yml")
job.name = "waits"
held = client.jobs.create_or_update(job)
client.jobs.begin_cancel("waits").result()
image = "azureml://registries/azureml/environments/sklearn-1.5/labels/latest"
slow = command(name="slow", command="sleep 600", environment=image, compute="serverless")
slow = client.jobs.create_or_update(slow)
while client.jobs.get("slow").status != "Running": time.sleep(1)
client.jobs.begin_cancel("slow").result()
tell([failed.status, why, held.status, client.jobs.get("waits").status, wait(client.jobs.get("slow")).status])
""", small)
    status, why, held, waits, slow = said
    assert (status, held, waits, slow) == ("Failed", "NotStarted", "Canceled", "Canceled") and "first" in why


def test_a_deployment_that_stays_unhealthy_fails_and_gets_no_traffic(azure, small):
    azure.unhealthy("deployments/blue")
    done = run(azure, """
from azure.ai.ml import load_online_endpoint, load_online_deployment
client.online_endpoints.begin_create_or_update(load_online_endpoint("endpoint.yml")).result()
try: client.online_deployments.begin_create_or_update(load_online_deployment("deployment.yml")).result()
except Exception as error: print("why:", error)
endpoint = client.online_endpoints.get("echo")
endpoint.traffic = {"blue": 100}
client.online_endpoints.begin_create_or_update(endpoint).result()
""", small)
    assert done.returncode and "liveness probe failed" in done.stdout and "cannot have traffic" in done.stderr


def test_the_name_of_a_soft_deleted_workspace_is_taken_until_it_is_purged(azure, small):
    said = sdk(azure, """
from azure.core.exceptions import HttpResponseError
client.workspaces.begin_delete("dev", delete_dependent_resources=False).result()
tell([one.name for one in client.workspaces.list()])
""", small)
    assert said == ["production"]
    assert [one.rsplit("/", 1)[1] for one in azure.state.deleted] == ["dev"]
