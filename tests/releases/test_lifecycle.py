"The life of a release: any order of steps, holds, approvals and rollbacks, with a crash between any two writes"
import json
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlops_nb.errors import MlopsError, UserError
from mlops_nb.models.registry import Version
from mlops_nb.releases import controller, record
from mlops_nb.releases.controller import MAX_FAILURES, Candidate, Driver, Tools, advance, begin, hold, release, rollback
from mlops_nb.releases.judgement import Decision
from mlops_nb.releases.record import MOVES, STATUSES, ReleaseFiles, approve, list_releases, read_release

from tests.support.releasing import ROLLOUT

FILES = ReleaseFiles(endpoint="endpoint.yml", deployment="deployment.yml", replay=False)


class Crash(BaseException):
    "The controller dies here"


class World:
    "An endpoint and a registry in memory, each of whose changes is one act, before which a controller may die"
    def __init__(self):
        self.left: int | None = None    # changes before the controller dies
        self.deployments: dict[str, str] = {"blue": "1"}    # version by name
        self.traffic, self.mirror, self.champion, self.tags = {"blue": 100}, {}, "1", {}
        self.passes, self.decision = True, "go"

    def change(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0: raise Crash

    def list(self): return [SimpleNamespace(name="e")]
    def cursor(self, endpoint): return "here"
    def events(self, endpoint, since): return []

    def show(self, endpoint):
        shown = {name: SimpleNamespace(name=name, model="m", version=version, state="Ready")
                 for name, version in self.deployments.items()}
        return SimpleNamespace(traffic=self.traffic, mirror_traffic=self.mirror, deployments=shown, running=True)

    def deploy(self, endpoint_file, deployment_file, *, name, model, replay):
        self.change()
        assert not self.traffic.get(name), "nothing that has traffic is replaced"
        self.deployments[name] = model.partition(":")[2]

    def set_traffic(self, endpoint, traffic, mirror=None):
        self.change()
        assert {*traffic, *(mirror or {})} <= {*self.deployments}
        self.traffic, self.mirror = dict(traffic), dict(mirror or {})

    def delete(self, endpoint, name):
        self.change()
        assert not self.traffic.get(name)
        del self.deployments[name]

    def list_versions(self, model): return [self.version(number) for number in "123"]
    def find_champion(self, model): return self.version(self.champion)
    def version(self, number): return Version("m", int(number), self.tags.get(number, {}), "", "", datetime.now(UTC))

    def promote(self, model, version):
        self.change()
        self.champion = str(version)

    def tag_version(self, model, version, tags):
        self.change()
        self.tags[str(version)] = tags

    def qa(self, root, release):
        evidence = root / f"{release.id}.json"
        evidence.write_text(json.dumps(self.passes))
        return [{"name": "contract", "passed": self.passes, "detail": ""}], evidence


def make_tools(root: Path, world: World, patch: pytest.MonkeyPatch) -> Tools:
    "A project whose releases are judged as the world says"
    for name, text in (("endpoint", "name: e\n"), ("deployment", "name: d\n"), ("rollout", ROLLOUT)):
        (root / f"{name}.yml").write_text(text)
    patch.setattr(controller, "_write_report", lambda tools, release: release)
    patch.setattr(controller.Look, "judge", lambda watch, events: Decision(world.decision, "so it is"))
    control: Any = world
    return Tools(root, control, world.qa, control)


def candidate(root: Path, version: str | None, again: bool = False) -> Candidate:
    return Candidate("m", version, root / "endpoint.yml", root / "deployment.yml", root / "rollout.yml", again=again)


def reachable(before: str) -> set[str]:
    found = {before}
    while more := {after for state in found for after in MOVES[state]} - found: found |= more
    return found


WRITES = st.one_of(st.none(), st.none(), st.integers(0, 9))     # before which the controller dies; none: it lives


class Releases(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.patch, self.folder = pytest.MonkeyPatch(), tempfile.TemporaryDirectory()
        self.world = World()
        self.tools = make_tools(Path(self.folder.name), self.world, self.patch)
        self.seen: dict[str, str] = {}
        write = record.write_whole
        def write_or_die(*given, **named):
            self.world.change()
            return write(*given, **named)
        self.patch.setattr(record, "write_whole", write_or_die)

    def teardown(self):
        self.patch.undo()
        self.folder.cleanup()

    @property
    def root(self) -> Path: return self.tools.root

    def unfinished(self): return next((one for one in list_releases(self.root, "e") if not one.over), None)

    def do(self, writes, work, *given, **named):
        "Let a controller work, which dies before its n-th write; what it refuses changes nothing"
        self.world.left = writes
        before = {one.id: one.status for one in list_releases(self.root, "e")}
        try: work(*given, **named)
        except Crash: pass
        except UserError: assert before == {one.id: one.status for one in list_releases(self.root, "e")}
        finally: self.world.left = None

    @rule(writes=WRITES, number=st.sampled_from([None, "2", "3"]), again=st.booleans())
    def begin(self, writes, number, again):
        self.do(writes, begin, self.tools, candidate(self.root, number, again))

    @precondition(lambda self: self.unfinished())
    @rule(writes=WRITES, decision=st.sampled_from(["go", "go", "back", "wait"]),
          passes=st.sampled_from([True, True, False]))
    def advance(self, writes, decision, passes):
        self.world.decision, self.world.passes = decision, passes
        self.do(writes, advance, self.tools, self.unfinished().id)

    @precondition(lambda self: self.unfinished())
    @rule(writes=WRITES)
    def hold(self, writes): self.do(writes, hold, self.tools, self.unfinished().id, "not now")

    @precondition(lambda self: self.unfinished())
    @rule(writes=WRITES)
    def approve(self, writes): self.do(writes, approve, self.root, self.unfinished().id, "Ada")

    @rule(writes=WRITES)
    def rollback(self, writes): self.do(writes, rollback, self.tools, "e", "callers complain")

    @precondition(lambda self: "blue" in self.world.deployments)    # an endpoint refuses what is not there
    @rule()
    def somebody_else_moves_the_traffic(self): self.world.traffic, self.world.mirror = {"blue": 100}, {}

    @precondition(lambda self: self.unfinished())
    @rule(decision=st.sampled_from(["go", "back"]))
    def finish(self, decision):
        "A controller that lives brings to its end whatever another one left"
        self.world.decision, self.world.passes, id = decision, True, self.unfinished().id
        for _ in range(30):
            release = read_release(self.root, id)
            if release.over: break
            if release.waits_for_approval: approve(self.root, id, "Ada")
            elif release.status == "Held": self.begin(None, release.version, True)
            else: advance(self.tools, id)
        assert release.over and release.ended
        serves = release.deployment if release.status == "Promoted" else release.champion_deployment
        if release.stages: assert (self.world.traffic, self.world.mirror) == ({serves: 100}, {})
        if release.status != "Promoted": assert self.world.tags[release.version]["status"] == "withdrawn"

    @invariant()
    def moves_are_those_of_the_table(self):
        states = {one.id: one.status for one in list_releases(self.root, "e")}
        assert self.seen.keys() <= states.keys()
        for id, status in states.items(): assert status in reachable(self.seen.get(id, "Running"))
        self.seen = states

    @invariant()
    def one_at_a_time_and_all_traffic_somewhere(self):
        releases = list_releases(self.root, "e")
        assert sum(not one.over for one in releases) <= 1
        assert [one.sequence for one in releases] == [*range(len(releases), 0, -1)]
        assert sum(self.world.traffic.values()) == 100 and {*self.world.traffic} <= {*self.world.deployments}

    @invariant()
    def nothing_has_traffic_that_nobody_approved(self):
        release = next(iter(list_releases(self.root, "e")), None)
        if release and not release.approved_by and release.champion_deployment != release.deployment:
            assert not self.world.traffic.get(release.deployment) and not self.world.mirror.get(release.deployment)


Releases.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None,
                                      suppress_health_check=[*HealthCheck])     # a busy machine is no finding
TestReleases = Releases.TestCase


@pytest.mark.parametrize("before", STATUSES)
@pytest.mark.parametrize("after", STATUSES)
def test_what_may_not_follow_is_refused_and_changes_nothing(before, after):
    release = record.Release("i", "e", "m", "2", "d", "1", "blue", {}, FILES, status=before, reason="as it was")
    allowed = after in MOVES[before] or after == before and not release.over
    with nullcontext() if allowed else pytest.raises(MlopsError, match=f"is {before} and cannot become {after}"):
        release.move(after, "new")
    assert (release.status, release.reason) == ((after, "new") if allowed else (before, "as it was"))


def test_the_last_release_is_the_last_whatever_the_clock_says(tmp_path):
    "A clock that was set back by a year made a rollback undo the release before"
    for number, year in enumerate((2026, 2025), 1):
        started = f"{year}-01-01T00:00:00.000+00:00"
        record.save_release(tmp_path, record.Release(
            f"e-v{number}", "e", "m", str(number), "d", None, None, {}, FILES, started=started, sequence=number))
    assert [one.version for one in list_releases(tmp_path)] == ["2", "1"]


class Broken(World):
    "A world in which a change of the traffic fails for so many times"
    def __init__(self, times: int):
        super().__init__()
        self.times = times

    def set_traffic(self, endpoint, traffic, mirror=None):
        self.times -= 1
        if self.times >= 0: raise OSError(28, "No space left on device")
        super().set_traffic(endpoint, traffic, mirror)


def driven() -> tuple[Driver, list[float], list[str]]:
    "A driver whose pauses take no time, those pauses, and what it says"
    pauses: list[float] = []
    said: list[str] = []
    return Driver("Ada", poll=0.5, wait=pauses.append, say=said.append), pauses, said


def test_a_step_that_fails_is_counted_said_and_tried_again(tmp_path, monkeypatch):
    tools = make_tools(tmp_path, Broken(3), monkeypatch)
    driver, pauses, said = driven()
    found = release(tools, candidate(tmp_path, "2"), driver)
    assert found and (found.status, found.failures) == ("Promoted", 3) and "No space left" in found.failure
    assert [pause for pause in pauses if pause != driver.poll] == [1.0, 2.0], "each pause is longer than the one before"
    assert sum("is tried again: [Errno 28]" in line for line in said) == 3


def test_a_release_that_fails_on_and_on_is_held_with_all_traffic_on_the_champion(tmp_path, monkeypatch):
    world = World()
    tools = make_tools(tmp_path, world, monkeypatch)
    def fail(endpoint, since): raise OSError(5, "Input/output error")
    monkeypatch.setattr(world, "events", fail)
    with pytest.raises(OSError, match="Input/output"): release(tools, candidate(tmp_path, "2"), driven()[0])
    found, = list_releases(tmp_path)
    assert (found.status, found.failures, found.stage) == ("Held", MAX_FAILURES, "shadow")
    assert (world.traffic, world.mirror) == ({"blue": 100}, {})


def test_going_back_is_tried_until_it_works(tmp_path, monkeypatch):
    world = Broken(0)
    tools = make_tools(tmp_path, world, monkeypatch)
    def judge(watch, events):
        world.times = 2 * MAX_FAILURES
        return Decision("back", "it is worse")
    monkeypatch.setattr(controller.Look, "judge", judge)
    found = release(tools, candidate(tmp_path, "2"), driven()[0])
    assert found and (found.status, found.failures) == ("RolledBack", 2 * MAX_FAILURES)
    assert (world.traffic, world.mirror) == ({"blue": 100}, {})


def test_what_a_person_has_to_mend_is_not_tried_again(tmp_path, monkeypatch):
    world = World()
    tools = make_tools(tmp_path, world, monkeypatch)
    def refuse(*given, **named): raise MlopsError("version-2 cannot start: no module named flights")
    monkeypatch.setattr(world, "deploy", refuse)
    driver, pauses, _ = driven()
    with pytest.raises(MlopsError, match="cannot start"): release(tools, candidate(tmp_path, "2"), driver)
    found, = list_releases(tmp_path)
    assert (found.status, found.failures, pauses) == ("Held", 1, []) and "no module named flights" in found.reason
