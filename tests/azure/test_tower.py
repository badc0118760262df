"Silences and the control tower of workspaces: what one machine has said holds for the monitors of the workspace"
import json
import shutil

import pytest

from mlops_nb.retraining.events import AZURE_TAG

from tests.azure.test_monitors import HANDLE, breaches, due, retrainings
from tests.support.azure.small import command
from tests.support.azure.watched import NOW, collect

pytestmark = pytest.mark.long

WHY = ("--by", "Ann", "--reason", "the sensor is repaired", "--on", "dev", "--json",
       "--at", f"{NOW:%Y-%m-%dT%H:00:00Z}")


def test_a_silence_of_one_machine_holds_for_monitors_elsewhere_and_the_tower_shows_it(azure, watched, tmp_path):
    command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev")
    other = tmp_path / "other machine"
    shutil.copytree(watched, other, ignore=shutil.ignore_patterns(".mlops"))
    shutil.copy(watched / "monitor.yml", other / "pipelines/monitoring")   # where a project has its monitors
    silence = ("silence", "watch", "--signal", "drift", "--until", "2099-01-01", *WHY)
    made = json.loads(command(azure, other, *silence))
    assert (made["monitor"], made["signal"], made["feature"]) == ("watch", "drift", None)

    collect(azure, shift=2.0, wrong=0.05)   # the inputs have moved, and the answers are right
    at = ("monitor", "monitor.yml", "--on", "dev", "--at", f"{NOW:%Y-%m-%dT%H:00:00Z}", "--json")
    found = json.loads(command(azure, watched, *at))
    words = "silenced until 2099-01-01 by Ann: the sensor is repaired"
    assert not found["breach"] and found["signals"]["drift"]["verdict"] == words
    assert found["signals"]["drift"]["rows"][0]["azure_breach"], "it still measures"

    due(azure)                              # Azure's own monitor knows of no silence; whoever handles its event does
    drift = next(one for one in breaches(azure) if "'drift'" in one["data"]["runTags"][AZURE_TAG])
    event, = json.loads(command(azure, watched, *HANDLE, stdin=json.dumps([drift])))
    assert (event["action"], event["reason"]) == ("none", words) and not retrainings(azure)

    shown, here = json.loads(command(azure, watched, "tower", "--on", "dev", ".", "--json"))["projects"]
    assert (shown["workspace"], here["workspace"]) == ("dev", None)
    assert [one["name"] for one in shown["endpoints"]] == ["echo"] and shown["read"] and not shown["fault"]
    assert [one["id"] for one in shown["silences"]] == [made["id"]] and here["silences"] == []
    assert shown["results"][-1]["signals"]["drift"]["verdict"] == words
    ended = json.loads(command(azure, other, "unsilence", made["id"][:8], *WHY))
    assert ended["ended"]["by"] == "Ann"
    assert json.loads(command(azure, watched, *at))["breach"], "the silence is over everywhere"


def test_two_workspaces_of_azure_stand_on_one_page(azure, watched):
    settings = watched / "settings.ini"     # names of endpoints are unique in a region
    settings.write_text(settings.read_text().replace("[production]\n", "[production]\nendpoint_suffix = -prod\n"))
    for name in ("data.yml", "model.yml"): command(azure, watched, "create", name, "--on", "production")
    deploy = ("deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml", "--on", "production")
    command(azure, watched, *deploy)
    both = ("--on", "dev", "--on", "production")
    found = json.loads(command(azure, watched, "tower", *both, "--json"))["projects"]
    served = [(one["workspace"], one["endpoints"][0]["name"]) for one in found]
    assert served == [("dev", "echo"), ("production", "echo")]
    assert {one["fault"] for one in found} == {""}
