"""Releases in the loopback Azure: the commands of a release, real traffic through its scoring address, Azure Monitor
and collected data"""
import json
import shutil
import time

import pytest

from tests.support.azure.released import Callers, Console, make_project, make_registry

pytestmark = pytest.mark.long

OPTIONS = ("--approve-as", "Ada", "--json", "--poll", "1", "--timeout", "300")


class Place:
    "The loopback Azure, a command line, and an endpoint of `dev` on which version 1 serves"
    def __init__(self, azure, folder):
        self.azure, self.folder, self.console = azure, folder, Console(azure, folder)

    def told(self, *words: str, code: int = 0): return json.loads(self.console(*words, "--json", code=code))
    def release(self, *words: str, code: int = 0):
        return json.loads(self.console("release", *words, *OPTIONS, code=code))
    def endpoint(self, on: str = "dev") -> dict: return self.told("endpoint", "status", "flight-delay", "--on", on)[0]
    def callers(self) -> Callers:
        return Callers(self.azure, self.endpoint()["scoring_uri"],
                       self.told("endpoint", "keys", "flight-delay", "--on", "dev")["primary"])

    def tags(self, version: int, on: str = "dev") -> dict:
        "Of a version, as the resource manager has them"
        return next(one for one in self.azure.state.all("workspaces/models/versions")
                    if one["id"].endswith(f"/{on}/models/flight-delay/versions/{version}"))["properties"]["tags"]

    def collected(self, deployment: str, collection: str) -> list[dict]:
        "What lies in the workspace's storage"
        container = next(one for one in self.azure.state.all("workspaces/datastores")
                         if one["id"].endswith("/dev/datastores/workspaceblobstore"))["properties"]["containerName"]
        names = self.azure.storage.names(container, f"modelDataCollector/flight-delay-dev/{deployment}/{collection}/")
        return [json.loads(line) for name in names for line in self.azure.storage.read(container, name).splitlines()]


@pytest.fixture(scope="module")
def place(azure_server, tmp_path_factory):
    "A job has registered three versions, and the first one is deployed"
    azure_server.reset()
    azure_server.clock.hurry(120)
    made = Place(azure_server, make_project(azure_server, tmp_path_factory.mktemp("release") / "project"))
    assert made.told("run", "train.yml", "--on", "dev")["status"] == "Completed"
    assert made.told("deploy", "--model", "flight-delay:1", "--on", "dev")["traffic"] == {"blue": 100}
    yield made
    made.console.close()
    azure_server.end_executions()
    assert not azure_server.proxy.refused and not azure_server.findings and not azure_server.storage.overwritten


def test_qa_asks_a_deployment_of_a_workspace(place):
    found = place.told("qa", "flight-delay", "--deployment", "blue", "--on", "dev")
    assert found["passed"] and len(found["checks"]) > 20


def test_a_release_outlives_an_unhealthy_machine_and_a_kill_is_promoted_under_traffic_and_taken_back_by_hand(place):
    azure, version = place.azure, ("--version", "2", "--on", "dev")
    azure.unhealthy("deployments/version-2")
    said = place.console("release", *version, *OPTIONS, code=1)
    assert "version-2 cannot start: the container did not become ready: liveness probe failed" in said
    assert "deploying again repairs it" in said
    held = place.told("releases", "--on", "dev")[0]
    assert place.endpoint()["deployments"]["version-2"]["state"] == "Failed" and held["status"] == "Held"
    assert "liveness probe failed" in held["reason"]

    azure.faults.unhealthy.clear()
    before = len(azure.calls)
    place.console.begin("release", *version, *OPTIONS)
    while not any(one.request.method == "PUT" and one.request.path.endswith("/deployments/version-2")
                  for one in azure.calls[before:]):
        time.sleep(0.05)
    place.console.kill()
    shutil.rmtree(place.folder / ".mlops/azure")  # The next one is another machine
    place.console = Console(azure, place.folder)
    with place.callers() as callers: found = place.release(*version)
    assert found["status"] == "Promoted" and {*callers.statuses} == {200}
    assert (found["champion"], found["champion_deployment"]) == ("1", "blue")
    shadow, live, last = found["stages"]
    assert shadow["rows"] >= 20 and 0 < shadow["largest_difference"] < 0.1 and live["requests"] >= 20
    assert live["champion_requests"] >= 10 and last["decision"] == "promoted"
    assert place.endpoint()["traffic"] == {"version-2": 100} and place.tags(2)["status"] == "champion"
    assert place.tags(1)["status"] == "retired"
    assert len(place.told("releases", "--on", "dev")) == 1
    assert {*place.endpoint()["deployments"]} == {"blue", "version-2"}
    kinds = ("workspaces/onlineEndpoints", "workspaces/environments/versions")
    assert [len(azure.state.all(kind)) for kind in kinds] == [1, 1]

    asked, answered = (place.collected("version-2", name) for name in ("model_inputs", "model_outputs"))
    ids = [{row["x_request_id"] for one in found for row in one["data"]} for found in (asked, answered)]
    assert ids[0] == ids[1]
    agents = [*azure.agents.values()]
    assert sum(one.lines.total() for one in agents) < sum(one.requests.total() for one in agents), "nothing was batched"
    assert [*answered[-1]["data"][0]] == ["probability", "prediction", "x_request_id"]
    assert {*asked[-1]["data"][0]} == {"carrier", "hour", "x_request_id"}, "the passenger is personal"

    back = place.told("rollback", "--on", "dev", "--reason", "callers complain")
    assert (back["status"], back["reason"], place.endpoint()["traffic"]) == ("RolledBack", "callers complain",
                                                                             {"blue": 100})
    assert place.tags(1)["status"] == "champion"
    assert (place.tags(2)["status"], place.tags(2)["reason"]) == ("withdrawn", "callers complain")


def test_a_version_that_fails_its_callers_is_rolled_back_by_what_azure_monitor_tells(place):
    with place.callers() as callers:
        found = place.release("--version", "3", "--on", "dev", "--rollout", "pipelines/deployment/live.yml",
                              "--deployment-file", "pipelines/deployment/bad.yml", code=3)
    live, = found["stages"]
    assert found["status"] == "RolledBack" and "version-3 is worse than blue" in found["reason"] and live["bad"] > 5
    assert live["champion_bad"] == 0
    assert {*callers.statuses} == {200, 424}, "Azure tells 424 where a script fails"
    assert place.endpoint()["traffic"] == {"blue": 100} and place.tags(1)["status"] == "champion"
    assert place.tags(3)["status"] == "withdrawn"
    assert "was withdrawn" in place.console("release", "--version", "3", "--on", "dev", *OPTIONS, code=2)


def test_production_takes_the_version_of_dev_through_the_registry(place):
    make_registry(place.azure, "shared")
    found = place.release("--version", "1", "--on", "production", "--rollout", "pipelines/deployment/at-once.yml")
    assert (found["status"], found["champion"]) == ("Promoted", None) and all(one["passed"] for one in found["checks"])
    there = place.endpoint("production")
    assert there["traffic"] == {"version-1": 100} and "flight-delay.eastus" in there["scoring_uri"]
    assert "flight-delay-dev.eastus" in place.endpoint()["scoring_uri"]
    assert place.tags(1, "production")["sha256"] == place.tags(1)["sha256"]
    assert place.tags(1, "production")["status"] == "champion"
