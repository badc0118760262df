"Releases in the loopback Azure: the commands of a release, real traffic through its scoring address, Azure Monitor and collected data"
import json

import pytest
from released import Callers, Console, make_project


@pytest.fixture(scope="module")
def place(azure_server, tmp_path_factory):
    "A project, a command line, and a job that has registered four versions"
    azure_server.reset()
    azure_server.clock.hurry(60)
    folder = make_project(azure_server, tmp_path_factory.mktemp("release") / "project")
    console = Console(azure_server, folder)
    assert json.loads(console("run", "train.yml", "--on", "dev", "--json"))["status"] == "Completed"
    yield azure_server, console, folder
    console.close()
    azure_server.end_executions()
    assert not azure_server.proxy.refused and not azure_server.findings and not azure_server.storage.overwritten


def test_a_version_is_released_beside_the_champion_under_real_traffic(place):
    azure, console, folder = place
    options = ("--on", "dev", "--approve-as", "Ada", "--json", "--poll", "1", "--timeout", "120")
    first = json.loads(console("release", "--version", "1", *options))
    assert (first["status"], first["champion"], len(first["stages"])) == ("Promoted", None, 1) and all(one["passed"] for one in first["checks"])
    address = json.loads(console("endpoint", "status", "flight-delay", "--on", "dev", "--json"))[0]["scoring_uri"]
    with Callers(azure, address, json.loads(console("endpoint", "keys", "flight-delay", "--on", "dev", "--json"))["primary"]) as callers:
        found = json.loads(console("release", "--version", "2", *options))
    assert found["status"] == "Promoted" and {*callers.statuses} == {200}
    shadow, live, last = found["stages"]
    assert shadow["rows"] >= 20 and shadow["ks"] < 0.5 and live["requests"] >= 20 and last["decision"] == "promoted"
