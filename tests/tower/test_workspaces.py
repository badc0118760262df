"Several workspaces on one page of the control tower: endpoints of each, the age of each figure, and what is stale"
import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mlops_nb.cli import events as commands
from mlops_nb.cli.main import main
from mlops_nb.errors import MlopsError
from mlops_nb.project import Project
from mlops_nb.retraining.events import Ledger
from mlops_nb.serving.endpoints import Deployment, Endpoint
from mlops_nb.times import now
from mlops_nb.tower.facts import collect_facts, read_snapshot, write_snapshot
from mlops_nb.tower.page import build_page

from tests.tower.test_export import make


class Workspace:
    "A stand-in for a workspace that may be out of reach"
    def __init__(self, name: str, root: Path, version: str):
        self.name, self.fault, self.asked = name, "", list[str | None]()
        blue = Deployment("blue", "flights", version, "Ready", None, 0)
        self.endpoint = Endpoint("flights", "https://there/score", {"blue": 100}, {}, {"blue": blue}, True)
        self.endpoints = SimpleNamespace(list=self.all, events=self.events)
        self.releases = SimpleNamespace(records=lambda: root / name)
        self.monitors = SimpleNamespace(ledger=lambda: nullcontext(Ledger(root / name)))

    def all(self) -> list[Endpoint]:
        if self.fault: raise MlopsError(self.fault)
        return [self.endpoint]

    def events(self, name: str, since: str | None) -> list[dict]:
        self.asked.append(since)
        minute = f"{len(self.asked):02}"
        return [dict(time=f"2026-11-30T08:{minute}:00+00:00", deployment="blue", version="", status=200, mirror=False,
                     milliseconds=7.0, cursor=f"2026-11-30T08:{minute}:00+00:00")]


@pytest.fixture
def there(tmp_path, monkeypatch) -> dict[str, Workspace]:
    "Two workspaces of a project that serves on this machine too"
    here = make(tmp_path / "here", "flights", hours=3)
    monkeypatch.chdir(here)
    found = {name: Workspace(name, tmp_path, version) for name, version in (("staging", "5"), ("production", "4"))}
    monkeypatch.setattr(commands, "find_remote", found.__getitem__)
    return found


def tower(*words: str) -> list[dict]:
    done = CliRunner().invoke(main, ["tower", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)["projects"]


def brought(name: str): return Project(Path(".mlops/tower/workspaces") / name)


def test_workspaces_and_this_machine_stand_on_one_page(there, tmp_path):
    found = tower("--on", "staging", "--on", "production", ".")
    assert [one["workspace"] for one in found] == ["staging", "production", None]
    assert [one["traffic"]["flights"]["requests"][0]["version"] for one in found[:2]] == ["5", "4"]
    shown = [collect_facts(brought(name).root) for name in there] + [collect_facts(".")]
    page = build_page(shown[0], tmp_path, shown[1:])
    table = page.partition('id="overview"')[2].partition("</table>")[0]
    for words in ("flights in staging", "flights in production", "version 5 100 %", "version 4 100 %", "as of "):
        assert words in table
    assert "stale: " not in table.partition(">flights</a>")[0], "what was read now is not stale"
    assert "3 places" in page and page.count('class="project"') == 3
    ids = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len({*ids})


def test_requests_are_counted_on_from_the_last_look(there):
    for _ in range(3): [found] = tower("--on", "production")
    assert found["traffic"]["flights"]["requests"][0]["requests"] == 3
    assert there["production"].asked == [None, "2026-11-30T08:01:00+00:00", "2026-11-30T08:02:00+00:00"]


def test_a_workspace_out_of_reach_is_shown_as_it_was_with_its_age_and_the_reason(there, tmp_path):
    tower("--on", "production")
    kept = read_snapshot(brought("production"))
    write_snapshot(brought("production"), replace(kept, read=(now() - timedelta(hours=5)).isoformat()))
    there["production"].fault = "production cannot be reached: no route"
    staging, production = tower("--on", "staging", "--on", "production")
    assert (staging["fault"], production["fault"]) == ("", "production cannot be reached: no route")
    assert production["endpoints"][0]["deployments"]["blue"]["version"] == "4"
    page = build_page(*(collect_facts(brought("staging").root), tmp_path), [collect_facts(brought("production").root)])
    assert "<b>Stale:</b> production as of" in page and "5 hours ago; production cannot be read now" in page
    assert "Not read again: flights in production." in page
    there["production"].fault = ""
    assert tower("--on", "production")[0]["fault"] == "", "what can be read again is not stale any more"


def test_a_workspace_that_was_never_read_fails_with_its_own_message(there):
    there["production"].fault = "production cannot be reached: no route"
    done = CliRunner().invoke(main, ["tower", "--on", "production"])
    assert done.exit_code == 1 and "no route" in done.output and "Traceback" not in done.output
    assert not brought("production").local.exists()
