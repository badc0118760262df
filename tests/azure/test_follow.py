"Monitors of a workspace follow what serves: deployment, collected folders, and the reference data of its model"
import json

import pytest

from mlops_nb.azure.client import Connection
from mlops_nb.azure.schedules import Followers

from tests.support.azure.small import command

pytestmark = pytest.mark.long


def test_a_monitor_is_moved_to_what_serves_and_back(azure, watched, monkeypatch):
    command(azure, watched, "schedule", "apply", "monitor.yml", "--on", "dev")
    command(azure, watched, "create", "data.yml", "--on", "dev")    # The reference of the next champion: version 2
    newest = max(int(one["name"]) for one in azure.state.all("workspaces/data/versions"))
    monitor, = azure.state.all("workspaces/schedules")
    before = json.dumps(monitor["properties"])
    assert newest > 1 and "/blue/" in before and "/deployments/blue" in before
    for name, value in azure.env.items(): monkeypatch.setenv(name, value)
    followers = Followers(Connection(watched, "dev"))
    assert followers.follow("echo", "green", ["reference", "baseline"]) == [monitor["name"]]
    text = json.dumps(azure.state.all("workspaces/schedules")[0]["properties"])
    assert "/deployments/green" in text and "/blue" not in text and "/outcomes" in text
    assert text.count("/versions/1") == 0 and text.count(":1\"") == 0 and str(newest) in text
    writes = len([one for one in azure.calls if one.request.method == "PUT"])
    assert followers.follow("echo", "green", ["reference", "baseline"]) == []
    assert followers.follow("somebody", "green", ["reference"]) == []
    assert len([one for one in azure.calls if one.request.method == "PUT"]) == writes
    assert followers.follow("echo", "blue", ["reference"]) == [monitor["name"]]
    assert "/deployments/blue" in json.dumps(azure.state.all("workspaces/schedules")[0]["properties"])
