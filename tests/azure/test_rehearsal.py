"The checklist of a first contact runs whole against the loopback without keys, and says what differs"
import json

from mlops_nb.infrastructure.rehearsal import CHECKLIST

from tests.azure.test_keyless import identified
from tests.support.azure.declared import granted
from tests.support.azure.small import command


def ready(azure, small, identity: str = "id-dev"):
    "The small project with an image of its own"
    root = identified(azure, small, identity)
    (root / "environment.yml").write_text("name: small\nimage: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04\n")
    settings = root / "settings.ini"
    settings.write_text(settings.read_text().replace("[project]\n", "[project]\nenvironment = environment.yml\n"))
    return root


def test_it_runs_whole_and_removes_what_it_made(azure, small):
    seen = azure.without_keys(granted())
    azure.clock.hurry(60)
    told = json.loads(command(azure, ready(azure, small), "rehearse", "--on", "dev", "--json", "--patience", "120"))
    assert [(line["name"], line["status"]) for line in told["lines"]] == [(name, "ok") for name in CHECKLIST], told
    assert not azure.state.all("workspaces/onlineEndpoints") and not azure.state.all("workspaces/schedules")
    for kind in ("command job", "online endpoint", "monitor", "storage by identity"): assert seen.used[kind], kind
    report = (small / "rehearsal.md").read_text()
    assert "0 of 9 lines differ" in report and azure.workspace("dev")["subscription_id"] not in report


def test_what_differs_is_said_and_the_rest_goes_on(azure, small):
    azure.without_keys(granted() - {"AcrPull"})
    said = command(azure, ready(azure, small), "rehearse", "--on", "dev", "--patience", "60", code=1)
    assert "differs   job: " in said and "lacks AcrPull" in said
    assert "refutes: serverless compute builds the image and runs a step with the workspace's identity" in said
    assert "skipped   row: needs endpoint" in said and "ok        tear_down" in said
