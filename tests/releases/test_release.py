"Releases on a real endpoint: good and bad versions, kills at each change, two at once, approval, too little traffic"
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_nb.errors import MlopsError, UserError
from mlops_nb.releases.controller import Candidate, advance, begin, hold, rollback
from mlops_nb.releases.record import approve, find_unfinished, list_releases, read_release

from tests.support.releasing import Mortal, Traffic, files, in_child, make_files, quick_qa, released, reset, tools_for


@pytest.fixture(scope="module")
def project(serving):
    "Version 1 serves as `blue`"
    make_files(serving.root / "release")
    tools = tools_for(serving.root)
    serving.deploy(*files(tools).values(), model="flight-delay:1")
    yield tools
    serving.stop("canary")


@pytest.fixture
def tools(project):
    reset(project)
    return project


def state(tools) -> tuple:
    "Traffic, and which version the registry has in charge"
    return tools.control.show("canary").traffic, tools.registry.find_champion("flight-delay").version


def summed(tools) -> bool: return sum(tools.control.show("canary").traffic.values()) == 100


def begun(tools, version="good"):
    "A release at its first step"
    rollout = tools.root / "release/rollout.yml"
    return begin(tools, Candidate("flight-delay", **files(tools, version), rollout=rollout))


# The whole way


def test_a_good_version_is_promoted_and_rolled_back_by_hand_as_often_as_one_likes(tools):
    traffic = Traffic(tools)
    found = released(tools, wait=traffic)
    assert (found.status, found.exit_code) == ("Promoted", 0) and {*traffic.statuses} == {200}
    assert state(tools) == ({"version-2": 100}, 2) and "blue" in tools.control.show("canary").deployments
    assert [(r["name"], r["decision"]) for r in found.stages] == [
        ("shadow", "go"),
        ("25 %", "go"),
        ("50 %", "go"),
        ("100 %", "promoted"),
    ]
    assert (
        all(r["requests"] >= 10 for r in found.stages[:-1])
        and found.stages[0]["rows"] >= 10
        and found.stages[0]["agreement"] == 1
    )
    assert found.approved_by == "Ada" and len(found.evidence_sha256) == 64
    page = Path(found.report).read_text()
    assert page.count("data:image/png") == 4 and "http" not in page.replace("http-equiv", "") and "Ada" in page
    assert released(tools) is None
    for _ in range(2): assert rollback(tools, "canary", "callers complain").reason == "callers complain"
    assert (
        state(tools) == ({"blue": 100}, 1)
        and tools.registry.list_versions("flight-delay")[0].tags["status"] == "withdrawn"
    )
    with pytest.raises(UserError, match="version 2 of flight-delay was withdrawn: callers complain"):
        released(tools, number="2")


@pytest.mark.parametrize(
    "version, stage",
    [("failing", "shadow"), ("slow", "shadow"), ("strange", "shadow"), ("failing", "live"), ("slow", "live")],
)
def test_a_bad_version_goes_back_and_is_kept_without_traffic(tools, version, stage):
    text = (tools.root / "release/rollout.yml").read_text().replace("5000", "700")
    (tools.root / "release/bad.yml").write_text(
        "\n".join(line for line in text.splitlines() if stage == "shadow" or "shadow" not in line))
    traffic = Traffic(tools, each=40)
    found = released(tools, version, rollout="release/bad.yml", wait=traffic)
    assert (found.status, found.exit_code, state(tools)) == ("RolledBack", 3, ({"blue": 100}, 1))
    assert ("out of proportion" if version == "strange" else "is worse than blue") in found.reason
    assert tools.control.show("canary").deployments["version-2"].state == "Ready"
    assert (stage == "live" and version == "failing") == (500 in traffic.statuses)
    assert tools.registry.list_versions("flight-delay")[0].tags["reason"] == found.reason
    assert found.reason.split(":")[0] in Path(found.report).read_text()


# Approval


def test_nothing_gets_traffic_without_an_approval_of_this_evidence(tools):
    found = released(tools, approve_as=None)
    assert (found.status, found.exit_code, found.stage) == (
        "Held",
        4,
        "approval",
    ) and "waits for an approval of" in found.reason
    shown = tools.control.show("canary")
    assert (shown.traffic, shown.mirror_traffic, shown.deployments["version-2"].state) == ({"blue": 100}, {}, "Ready")
    with pytest.raises(UserError, match="without a name"): approve(tools.root, found.id, " ")
    approve(tools.root, found.id, "Ada")
    Path(found.evidence).write_text("something else")
    with pytest.raises(MlopsError, match="is not what Ada approved"): advance(tools, found.id)
    assert tools.control.show("canary").mirror_traffic == {}


def test_a_person_at_the_terminal_is_asked_and_may_say_nothing(tools):
    asked = []
    assert released(tools, approve_as=None, ask=asked.append).status == "Held" and [r.stage for r in asked] == [
        "approval"
    ]
    assert released(tools, approve_as=None, ask=lambda r: "Grace").approved_by == "Grace"


def test_a_listed_person_approves_with_a_command(tools):
    found = released(tools, approve_as=None)
    settings = tools.root / "settings.ini"
    before = settings.read_text()
    def approving(actor: str, approvers: str, *words: str):
        settings.write_text(before.replace("[deployment]\n", f"[deployment]\napprovers = {approvers}\n"))
        env = {**os.environ, "GITHUB_ACTIONS": "true", "GITHUB_TRIGGERING_ACTOR": actor}
        words = (str(Path(sys.executable).with_name("mlops-nb")), "release", "approve", *words)
        return subprocess.run(words, cwd=tools.root, text=True, capture_output=True, env=env)

    try:
        for actor, approvers, says in (("ada", "", "approvers is empty"),
                                       ("mallory", "ada, grace", "mallory may not approve a release")):
            refused = approving(actor, approvers)
            assert refused.returncode == 2 and says in refused.stderr
        unknown = approving("ada", "ada", "another")
        assert unknown.returncode == 2
        assert f"no release 'another' that waits for an approval\n  accepted: {found.id}\n" in unknown.stderr
        assert read_release(tools.root, found.id).waits_for_approval
        done = approving("ada", "ada, grace", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["approved_by"] == "ada", done.stderr
    finally: settings.write_text(before)
    assert released(tools, approve_as=None).stage != "approval"


def test_qa_that_fails_refuses_the_version(tools):
    def failing(root, found): return [{"name": "parity", "passed": False, "detail": "0.1"}], quick_qa(root, found)[1]
    found = released(replace(tools, qa=failing))
    assert (found.status, found.exit_code, found.reason, state(tools)) == (
        "Refused",
        3,
        "QA failed: parity",
        ({"blue": 100}, 1),
    )


# Too little traffic, and other hands


def test_too_little_traffic_holds_with_the_champion_and_goes_on_later(tools):
    found = released(tools, wait=Traffic(tools, each=0), timeout=1)
    assert (found.status, found.exit_code, found.stage) == ("Held", 4, "shadow") and "0 of 40 requests" in found.reason
    assert tools.control.show("canary").mirror_traffic == {} and state(tools) == ({"blue": 100}, 2)
    live = begun(tools)
    while live.stage != "25 %" or not live.stages[-1]["applied"]:
        live = advance(tools, live.id)
        Traffic(tools)() if live.stage == "shadow" else None
    Traffic(tools, each=8)()
    seen = advance(tools, live.id).stages[-1]["requests"]
    live = hold(tools, live.id, "no more traffic")
    assert (live.status, live.exit_code, tools.control.show("canary").traffic) == ("Held", 4, {"blue": 100})
    Traffic(tools)()
    assert advance(tools, live.id).stages[-1]["requests"] == seen
    assert released(tools).status == "Promoted" and len(list_releases(tools.root)) == 1


def test_a_release_does_not_fight_with_who_moves_the_traffic(tools):
    found = begun(tools)
    while found.stage != "shadow" or not found.stages[-1]["applied"]:
        found = advance(tools, found.id)
        if found.stage == "approval" and found.status == "Held": found = approve(tools.root, found.id, "Ada")
    tools.control.set_traffic("canary", {"blue": 100}, {})
    found = advance(tools, found.id)
    assert (
        found.status == "Held"
        and "moved by somebody else" in found.reason
        and tools.control.show("canary").mirror_traffic == {}
    )
    assert released(tools).status == "Promoted"


def test_one_release_of_an_endpoint_at_a_time(tools):
    found = begun(tools)
    assert begun(tools).id == found.id
    with pytest.raises(UserError, match="is under way on canary: Running, at deploy"): released(tools, number="1")
    other, known = Candidate("fligth-delay", **files(tools)), rf"\(flight-delay {found.version}\) is under way"
    with pytest.raises(UserError, match=known): begin(tools, replace(other, rollout=tools.root / "release/rollout.yml"))


def test_pinned_requests_and_the_mistakes_of_clients_say_nothing_of_a_version(tools):
    from tests.support.releasing import Client
    call, live = Client(tools.control, "canary"), begun(tools)
    while live.stage != "25 %" or not live.stages[-1]["applied"]:
        live = advance(tools, live.id)
        if live.status == "Held": live = approve(tools.root, live.id, "Ada")
        Traffic(tools)() if live.stage == "shadow" else None
    for _ in range(20): assert call([{"p": 0.5}], azureml_model_deployment="version-2")[0] == 200
    record = advance(tools, live.id).stages[-1]
    assert (record["requests"], record["champion_requests"]) == (0, 0)


# Kills


@pytest.mark.parametrize("version", ["good", "failing"])
def test_a_controller_killed_at_every_change_ends_as_one_that_lives(tools, version):
    "The first die before and after their first change, the next at their second, ...; each goes on where one died"
    deaths = 0
    for attempt in range(40):
        left, before = [1 + attempt // 2], attempt % 2 == 0
        mortal = replace(
            tools, control=Mortal(tools.control, left, before), registry=Mortal(tools.registry, left, before)
        )
        def release_once(mortal=mortal): return released(mortal, version, wait=Traffic(tools, each=30)) and 0
        code = in_child(release_once)
        assert summed(tools) and code in (0, -9)
        if code == 0: break
        deaths += 1
    found = list_releases(tools.root)
    assert deaths >= 4 and len(found) == 1
    assert (found[0].status, state(tools)) == (
        ("Promoted", ({"version-2": 100}, 2)) if version == "good" else ("RolledBack", ({"blue": 100}, 1))
    )


def test_a_breach_that_nobody_watched_is_found_before_anything_else(tools):
    live = begun(tools, "failing")
    text = (tools.root / "release/rollout.yml").read_text().splitlines()
    (tools.root / "release/live.yml").write_text("\n".join(line for line in text if "shadow" not in line))
    rollback(tools, "canary", "start anew")
    tools.registry.promote("flight-delay", 2)
    def until_live():
        traffic = Traffic(tools, each=0)
        def die(seconds): raise SystemExit

        try:
            released(
                replace(tools, control=Mortal(tools.control, [2])), "failing", rollout="release/live.yml", wait=die
            )
        finally: assert traffic.count == 0
    assert in_child(until_live) == -9
    assert tools.control.show("canary").traffic == {"blue": 75, "version-2": 25}
    Traffic(tools, each=10)()
    found = find_unfinished(tools.root, "canary")
    assert found.id != live.id and advance(tools, found.id).stages[-1]["applied"]
    Traffic(
        tools, each=200
    )()  # a quarter of them, by chance, and half of those fail: six are enough, and were missed in one run of 23
    assert advance(tools, found.id).status == "RolledBack" and state(tools) == ({"blue": 100}, 1)


def test_ending_a_controller_gives_the_traffic_back(tools):
    def interrupted(seconds): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): released(tools, wait=interrupted)
    found = find_unfinished(tools.root, "canary")
    assert (found.status, tools.control.show("canary").mirror_traffic) == (
        "Held",
        {},
    ) and "it was stopped; " in found.reason


def test_two_controllers_at_once_make_one_release(tools):
    import os
    def both():
        other = os.fork()
        if not other: os._exit(released(tools, wait=Traffic(tools, each=10)).exit_code)
        mine = released(tools, wait=Traffic(tools, each=10)).exit_code
        return mine + os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
    assert in_child(both) == 0
    found = list_releases(tools.root)
    assert (
        [r.status for r in found] == ["Promoted"]
        and len(found[0].stages) == 4
        and state(tools) == ({"version-2": 100}, 2)
    )


def test_of_two_approvals_the_first_counts_and_the_second_stops_nothing(tools):
    def ask(found):
        approve(tools.root, found.id, "Ada", tools.lock)
        advance(tools, found.id)
        return "Grace"
    found = released(tools, approve_as=None, ask=ask)
    assert (found.status, found.approved_by, state(tools)) == ("Promoted", "Ada", ({"version-2": 100}, 2))


def test_a_rollback_in_another_process_ends_a_release_that_runs(tools):
    def wait(seconds):
        Traffic(tools, each=2)()
        if find_unfinished(tools.root, "canary").stage == "shadow":
            in_child(lambda: rollback(tools, "canary", "stop") and 0)

    found = released(tools, wait=wait)
    assert (found.status, found.reason, state(tools)) == ("RolledBack", "stop", ({"blue": 100}, 1))


# Commands


def test_a_retraining_that_is_told_again_does_not_release_the_same_version_twice(tools):
    from mlops_nb.retraining.retraining import release_version
    ended = released(tools, "failing")
    before = state(tools)
    assert release_version(tools.root, "flight-delay", 2, "Ada") == {
        "id": ended.id,
        "status": "RolledBack",
        "reason": ended.reason,
    }
    assert state(tools) == before and [one.id for one in list_releases(tools.root)] == [ended.id]


def test_commands_list_and_roll_back(tools):
    def command(*words):
        return subprocess.run(
            [Path(sys.executable).with_name("mlops-nb"), *words], cwd=tools.root, text=True, capture_output=True
        )

    assert "no releases yet" in command("releases").stdout
    found = released(tools, approve_as=None)
    assert json.loads(command("releases", "--json").stdout)[0]["id"] == found.id
    done = command("rollback", "canary", "--reason", "not today")
    assert (
        done.returncode == 0
        and done.stdout.startswith("RolledBack")
        and read_release(tools.root, found.id).reason == "not today"
    )
    wrong = command(
        "release",
        "--rollout",
        "release/endpoint.yml",
        "--endpoint-file",
        "release/endpoint.yml",
        "--deployment-file",
        "release/good.yml",
    )
    assert wrong.returncode == 2 and "the file has no key 'name'" in wrong.stderr and "endpoint.yml:1" in wrong.stderr
