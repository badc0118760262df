"The outbox and its handler: duplicates, disorder, strangers, kills"
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_nb.cli.events import format_event
from mlops_nb.errors import UserError
from mlops_nb.files import lock
from mlops_nb.project import Project
from mlops_nb.retraining.events import (
    AZURE_EVENT,
    AZURE_TAG,
    act,
    breach_event,
    handle,
    list_events,
    read_payload,
    receive,
    refresh_event,
    settle,
)
from mlops_nb.retraining.policy import Policy
from mlops_nb.tower.parts import events_part
from mlops_nb.workspace.mlflow_store import create_store, speak_to, tracking_uri

from tests.support import ROOT
from tests.support.retraining import StandIn

NOW = datetime(2013, 7, 1, tzinfo=UTC)


def result(month: int = 6, **changes) -> dict:
    worse = dict(
        type="model_performance", verdict="breach", rows=[dict(feature="", metric="log_loss", value=0.6, breach=True)]
    )
    return (
        dict(
            monitor="m",
            endpoint="e",
            window=[f"2013-{month:02d}-01T00:00:00Z", f"2013-{month + 1:02d}-01T00:00:00Z"],
            breach=True,
            signals=dict(performance=worse),
            performance=dict(
                metric="log_loss", value=0.6, low=0.58, high=0.62, baseline=0.5, worse=0.06, n=5000, days=30
            ),
        )
        | changes
    )


def azure(status="Failed", id="1", key="RunTags", **envelope) -> dict:
    data = {
        "RunId": "r7",
        "RunStatus": status,
        key: {
            AZURE_TAG: "Signal flights_performance has failed due to one or more features violating metric thresholds"
        },
    }
    return dict(id=id, eventType=AZURE_EVENT, eventTime="2013-07-01T06:00:00Z", data=data) | envelope


def test_the_same_breach_has_the_same_id_and_another_one_has_not():
    again, other = breach_event(result()), breach_event(result(5))
    assert breach_event(result())["id"] == again["id"] != other["id"]
    assert breach_event(result(breach=False)) is None


def test_azure_repeats_a_breach_in_many_events_and_schemas(tmp_path):
    cloud = dict(
        id="9",
        type=AZURE_EVENT,
        time="2013-07-01T06:00:09Z",
        specversion="1.0",
        source="/subscriptions/1",
        data=azure()["data"],
    )
    retrainer = StandIn()
    handle(tmp_path, [azure(), azure("Completed", "2"), azure(key="runTags", id="3")], retrainer, NOW)
    handle(tmp_path, json.dumps(cloud), retrainer, NOW)
    assert len(retrainer.asked) == 1 and len(list_events(tmp_path)) == 4
    assert {row["action"] for row in list_events(tmp_path)} == {"retrain"}


def test_azures_data_drift_is_noted(tmp_path):
    event, retrainer = azure(), StandIn()
    event["data"]["RunTags"][AZURE_TAG] = (
        "Signal flights_data_drift has failed due to one or more features violating metric thresholds"
    )
    row = handle(tmp_path, event, retrainer, NOW)[0]
    assert retrainer.asked == [] and "without harm" in row["reason"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["id", "type", "eventType", "data", "RunTags", "RunId", "time", "window", "signals", AZURE_TAG]
                )
                | st.text(max_size=3),
                inside | st.sampled_from([AZURE_EVENT, "mlops_nb.monitor.breach"]),
                max_size=5,
            )
        ),
    )
)
@settings(max_examples=300)
def test_whatever_arrives_is_read(payload):
    for event in read_payload(payload if isinstance(payload, (list, dict)) else [payload]):
        assert event["id"] and (event["breach"] is None) == (event["result"] is None)


def test_strangers_are_kept_and_lead_to_nothing(tmp_path):
    retrainer, validation = StandIn(), "Microsoft.EventGrid.SubscriptionValidationEvent"
    rows = handle(
        tmp_path, [None, dict(type="weather", id="w"), dict(eventType=validation, data={}, id="v")], retrainer, NOW
    )
    assert retrainer.asked == [] and [row["action"] for row in rows] == ["none"] * 3 and len(list_events(tmp_path)) == 3
    with pytest.raises(UserError, match="not JSON"): handle(tmp_path, "{", retrainer)


def test_an_older_breach_that_comes_late_is_answered_already(tmp_path):
    retrainer = StandIn(Policy(cooldown_days=0))
    handle(tmp_path, [breach_event(result(4)), breach_event(result(6)), breach_event(result(5))], retrainer, NOW)
    assert len(retrainer.asked) == 1
    rows = list_events(tmp_path)
    decided = [("2013-06", "none"), ("2013-07", "retrain"), ("2013-05", "none")]
    assert [(row["time"][:7], row["action"]) for row in rows] == decided
    assert all("has seen this window" in row["reason"] for row in (rows[0], rows[2]))


@pytest.mark.parametrize("step", [timedelta(minutes=-7), timedelta(hours=1), timedelta(days=-366), timedelta(days=366)])
def test_a_clock_that_steps_changes_no_order(tmp_path, monkeypatch, step):
    "Events and decisions are in the order in which they were written, whatever clocks say, ours or a sender's"
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    retrainer = StandIn(Policy(cooldown_days=0, daily_budget=9))
    events = [breach_event(result(month)) for month in (4, 5, 6)]
    for number, event in enumerate(events):
        receive(tmp_path, dict(event, time=f"{2013 - number}-01-01T00:00:00Z"))
        settle(tmp_path, retrainer, NOW + (number % 2) * step)
        clock[0] += step.total_seconds() * (-1) ** number
    ids = [event["id"] for event in events]
    assert [row["id"] for row in list_events(tmp_path)] == ids[::-1]
    assert [row["id"] for row in list_events(tmp_path, 1)] == ids[-1:]
    decided = [row["id"] for row in list_events(tmp_path) if row["action"] == "retrain"][::-1]
    assert act(tmp_path, retrainer) == decided and decided[0] == ids[0]


def test_a_decision_of_a_clock_that_was_ahead_forbids_nothing(tmp_path):
    "Once it is put right, harm leads to a retraining again; the cool-down counts from a time that can be"
    retrainer = StandIn()
    handle(tmp_path, breach_event(result(5)), retrainer, NOW.replace(year=2014))
    first = handle(tmp_path, breach_event(result(6)), retrainer, NOW)[0]
    again = handle(tmp_path, breach_event(result(7)), retrainer, NOW + timedelta(days=2))[0]
    assert first["action"] == "retrain" and "cool-down until 2013-07-21" in again["reason"]


def test_of_two_events_about_one_breach_the_first_counts(tmp_path):
    retrainer = StandIn()
    handle(tmp_path, [azure(id="2"), azure(id="1", eventTime="2012-07-01T06:00:00Z")], retrainer, NOW)
    assert len(retrainer.asked) == 1 and {row["action"] for row in list_events(tmp_path)} == {"retrain"}


def test_a_time_that_is_none_is_left_out_and_the_event_kept(tmp_path):
    "The control tower could not be written any more"
    from mlops_nb.tower.parts import events_part
    handle(tmp_path, dict(breach_event(result()), time="2013-08-01T00:00cccc:00Z"), StandIn(), NOW)
    row, = list_events(tmp_path)
    assert (row["time"], row["action"]) == ("", "retrain")
    assert events_part({"events": [row]}, tmp_path)[0].day == "-"


def test_the_window_is_that_of_the_decision(tmp_path):
    receive(tmp_path, breach_event(result()))
    settle(tmp_path, StandIn(days=lambda now: dict(test_end=f"{now:%Y-%m-%d}")), NOW)
    later = StandIn(outcome=lambda breach, window: {}, days=lambda now: dict(test_end="later"))
    handle(tmp_path, [], later, NOW.replace(year=2014))
    assert later.windows == [dict(test_end="2013-07-01")]


def test_an_error_of_the_action_leaves_it_to_be_done(tmp_path):
    def broken(breach, window): raise OSError("no space")
    with pytest.raises(OSError): handle(tmp_path, breach_event(result()), StandIn(outcome=broken), NOW)
    retrainer = StandIn()
    assert act(tmp_path, retrainer) == retrainer.asked and len(retrainer.asked) == 1
    assert act(tmp_path, retrainer) == []


def test_handlers_at_once_act_once(tmp_path):
    retrainer = StandIn(Policy(cooldown_days=0))
    with ThreadPoolExecutor(8) as pool:
        [*pool.map(lambda k: handle(tmp_path, [breach_event(result(3 + k % 4))], retrainer, NOW), range(32))]
    act(tmp_path, retrainer)
    assert len(retrainer.asked) == len({*retrainer.asked})
    assert {row["status"] for row in list_events(tmp_path)} == {"done"}


def test_the_lock_is_one_for_all_processes(tmp_path):
    retrainer, handler = StandIn(), Project(tmp_path).lock("handler")
    with lock(handler, timeout=0) as mine, lock(handler, timeout=0) as second: assert mine and not second
    with lock(handler): handle(tmp_path, breach_event(result()), retrainer, NOW)
    assert retrainer.asked == [], "another handler is at work"


def bench(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"bench/bench_{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kills_lose_nothing_and_double_nothing(tmp_path):
    found = bench("exactly_once").trial(tmp_path, events=1000, kills=6)
    assert found["kills"] == 6 and found["batches_after_the_last_kill"] > 0
    assert found["breaches"] == 800 and found["deliveries"] >= 1000
    assert {
        name: found[name] for name in ("without_job", "jobs_twice", "decisions_off", "jobs_without_breach")
    } == dict.fromkeys(("without_job", "jobs_twice", "decisions_off", "jobs_without_breach"), 0)


def command(root: Path, *given: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mlops_nb", "events", *given], cwd=root, capture_output=True, text=True, **options
    )


JUDGE = """import sys, json, os
from pathlib import Path
out = Path(sys.argv[1])
out.mkdir(exist_ok=True, parents=True)
open(os.environ['STARTS'], 'a').write(sys.argv[2] + '\\n')
verdict = dict(accepted=False, reason='Refused: not proven better, until ' + sys.argv[2])
(out / 'verdict.json').write_text(json.dumps(verdict))
"""
WAIT = """import time, os
from pathlib import Path
open(os.environ['STARTS'], 'a').write('begun\\n')
while not Path(os.environ['GO']).exists(): time.sleep(0.05)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    "A project whose training pipeline writes a verdict"
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = flights\nmodel = flight-delay\n")
    folder = tmp_path / "pipelines/training"
    folder.mkdir(parents=True)
    (folder / "judge.py").write_text(JUDGE)
    (folder / "pipeline.yml").write_text("""type: pipeline
inputs: {train_start: "2013-01-01", train_end: "2013-06-01", test_end: "2013-07-01"}
jobs:
  register:
    type: command
    component:
      type: command
      inputs: {start: {type: string}, end: {type: string}, test: {type: string}}
      outputs: {decision: {type: uri_folder}}
      code: .
      environment: azureml:any@latest
      command: python judge.py ${{outputs.decision}} ${{inputs.test}} ${{inputs.start}} ${{inputs.end}}
    inputs:
      start: "${{parent.inputs.train_start}}"
      end: "${{parent.inputs.train_end}}"
      test: "${{parent.inputs.test_end}}"
""")
    return tmp_path


def test_the_command_retrains_by_the_pipelines_file_and_says_why_the_champion_stays(project):
    (project / "breach.json").write_text(json.dumps(breach_event(result())))
    environment = os.environ | {"STARTS": str(project / "starts")}
    for _ in range(2):
        done = command(project, "handle", "breach.json", "--at", "2013-07-01T00:00:00Z", "--json", env=environment)
        assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)[0]
    assert row["window"] == dict(train_start="2013-01-01", train_end="2013-06-01", test_end="2013-07-01")
    assert row["outcome"]["reason"] == "Refused: not proven better, until 2013-07-01" and row["deliveries"] == 2
    assert (project / "starts").read_text().split() == ["2013-07-01"]
    assert "Refused: not proven better" in command(project, "list").stdout


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["with its training", "alone"])
def test_a_handler_that_is_killed_while_it_trains_goes_on(project, kill):
    file = project / "pipelines/training/judge.py"
    file.write_text(WAIT + file.read_text())
    (project / "breach.json").write_text(json.dumps(breach_event(result())))
    environment = os.environ | {"STARTS": str(project / "starts"), "GO": str(project / "go")}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_nb", "events", "handle", "breach.json"],
        cwd=project,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (project / "starts").exists(): time.sleep(0.05)
    kill(process.pid, signal.SIGKILL)
    process.wait()
    if kill is os.kill:
        with pytest.raises(subprocess.TimeoutExpired):
            command(project, "handle", env=environment, timeout=4)  # it waits for the training that lives on
    (project / "go").touch()
    done = command(project, "handle", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    rows = json.loads(command(project, "list", "--json").stdout)
    assert [(row["status"], row["outcome"]["accepted"]) for row in rows] == [("done", False)]
    jobs = [one for one in (project / ".mlops/jobs").iterdir() if one.is_dir()]
    starts = (project / "starts").read_text().split()
    assert len(jobs) == 1 and starts.count("begun") == (1 if kill is os.kill else 2)


def test_mistakes_are_said(project):
    assert command(project, "handle", "nothing.json").returncode == 2
    (project / "broken.json").write_text("{")
    done = command(project, "handle", "broken.json")
    assert done.returncode == 2 and "not JSON" in done.stderr


def poisoned(**changes) -> dict:
    "An event of ours whose result is not what it should be"
    return dict(id="x", type="mlops_nb.monitor.breach", time="2013-07-01T00:00:00Z", data=result() | changes)


POISON = [
    poisoned(performance=5), poisoned(performance=dict(n=1000, worse=1.0)), poisoned(performance=dict(n="many")),
    poisoned(signals=dict(s=dict(type="data_drift", verdict="breach", rows=5))),
    poisoned(signals=dict(s=dict(type=None, verdict="breach"))), poisoned(signals=dict(s=dict(type="data_drift"))),
    poisoned(signals=dict(s=dict(type="data_drift", verdict="breach", rows=[5]))),
    poisoned(performance=None, estimate=dict(harm=True),
             signals=dict(s=dict(type="data_drift", verdict="breach", rows=[]))),
    poisoned(window=["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]), poisoned(window=[5, 6]), poisoned(signals=[]),
    dict(id="\ud800", type="mlops_nb.monitor.breach", time="\udfff", data=5), [[]], 5, None,
]


@pytest.mark.parametrize("event", POISON, ids=range(len(POISON)))
def test_a_malformed_event_blocks_no_other(tmp_path, event):
    retrainer = StandIn()
    for payload in (event, json.dumps(event)): handle(tmp_path, payload, retrainer, NOW)
    good = breach_event(result())
    handle(tmp_path, good, retrainer, NOW)
    assert retrainer.asked == [good["id"]]
    assert all(row["action"] != "pending" for row in list_events(tmp_path, -1))


def test_a_malformed_event_of_an_older_version_is_settled(tmp_path):
    "It was entered as a breach before anybody looked at its result"
    receive(tmp_path, poisoned(performance=5))
    from mlops_nb.retraining.events import outbox
    with outbox(tmp_path) as db: db.execute("UPDATE events SET breach = id")
    retrainer = StandIn()
    handle(tmp_path, breach_event(result()), retrainer, NOW)
    reasons = {row["id"]: row["reason"] for row in list_events(tmp_path)}
    assert len(retrainer.asked) == 1 and "malformed" in reasons["x"]


def test_an_id_that_comes_again_with_another_body_is_kept(tmp_path):
    first, second = (dict(id="1", type="weather", data=text) for text in ("rain", "sun"))
    for event in (first, first, second, second): receive(tmp_path, event)
    row, = list_events(tmp_path)
    assert (row["deliveries"], row["conflicts"]) == (4, 1)


def test_an_action_that_fails_holds_up_no_other(tmp_path):
    def outcome(breach, window):
        if breach == first: raise OSError("no disk")
        return dict(accepted=True)
    retrainer = StandIn(Policy(cooldown_days=0, daily_budget=9), outcome)
    events = [breach_event(result(month)) for month in (4, 5)]
    first = events[0]["id"]
    for event, at in zip(events, (datetime(2013, 5, 2, tzinfo=UTC), datetime(2013, 6, 2, tzinfo=UTC))):
        receive(tmp_path, event)
        settle(tmp_path, retrainer, at)
    with pytest.raises(OSError, match="no disk"): act(tmp_path, retrainer)
    assert retrainer.asked == [event["id"] for event in events]
    assert {row["id"]: row["status"] for row in list_events(tmp_path)} == {first: "decided", events[1]["id"]: "done"}
    for _ in range(2):
        with pytest.raises(OSError, match="no disk"): act(tmp_path, retrainer)
    good, failing = list_events(tmp_path)
    assert (failing["failures"], failing["failure"], good["failures"]) == (3, "OSError: no disk", 0)
    assert "failed 3x, tried again: OSError: no disk" in format_event(failing)
    (shown,) = [one for one in events_part(dict(events=[failing]), tmp_path)]
    assert ("Failed", "3 times, and is tried again; the last: OSError: no disk", "no") in [
        (step.name, step.text, step.look) for step in shown.chain]


def test_a_decision_that_fails_holds_up_no_other_and_is_counted(tmp_path):
    class Broken(StandIn):
        "Cannot say the days of a retraining"
        fails = True
        def window(self, now):
            if self.fails: raise OSError("no days")
            return {}
    retrainer = Broken(Policy(cooldown_days=0, daily_budget=9))
    drift = dict(type="data_drift", verdict="breach", rows=[])
    harmful, quiet = breach_event(result(6)), breach_event(result(5, signals=dict(drift=drift), performance=None))
    for event in (harmful, quiet): receive(tmp_path, event)
    with pytest.raises(OSError, match="no days"): handle(tmp_path, [], retrainer, NOW)
    rows = {row["id"]: (row["status"], row["failures"], row["failure"]) for row in list_events(tmp_path)}
    assert rows == {harmful["id"]: ("pending", 1, "OSError: no days"), quiet["id"]: ("done", 0, "")}
    retrainer.fails = False
    handle(tmp_path, [], retrainer, NOW)
    assert retrainer.asked == [harmful["id"]] and {row["status"] for row in list_events(tmp_path)} == {"done"}


@pytest.mark.parametrize("outcome, second", [
    (dict(status="Completed", accepted=False, reason="not better"), "retrain"),
    (dict(status="Completed", accepted=True, reason="better"), "none"),
    (dict(status="Failed", accepted=False, reason="the training pipeline failed"), "none"),
])
def test_only_a_refused_challenger_leaves_the_cool_down_unused(tmp_path, outcome, second):
    retrainer = StandIn(outcome=lambda breach, window: outcome)
    handle(tmp_path, [breach_event(result(6))], retrainer, NOW)
    later, = handle(tmp_path, [breach_event(result(7))], retrainer, NOW + timedelta(days=10))
    assert later["action"] == second and ("cool-down until" in later["reason"]) == (second == "none")


def test_a_refresh_is_due_by_the_calendar_and_done_once(tmp_path):
    seen = datetime(2013, 6, 20, tzinfo=UTC)
    retrainer, days = StandIn(knows=seen), lambda n: refresh_event("m", seen, Policy(), seen + timedelta(days=n))
    assert days(6) is None and days(7) == days(13) != days(14)
    assert refresh_event("m", None, Policy(), NOW) is None
    assert refresh_event("m", seen, Policy(refresh_days=0), NOW) is None
    for n in (7, 8, 13):
        row, = handle(tmp_path, [days(n)], retrainer, seen + timedelta(days=n))
    assert (row["action"], row["conflicts"], row["deliveries"]) == ("retrain", 0, 3) and len(retrainer.asked) == 1
    later, = handle(tmp_path, [days(14)], retrainer, seen + timedelta(days=14))
    assert later["action"] == "retrain" and "14 days before" in later["reason"], "it was refused: next week again"


@pytest.mark.parametrize("refresh", [dict(seen="yesterday", days=7), dict(days=7), "soon", dict(seen="2013-06-01")])
def test_a_malformed_refresh_leads_to_nothing(tmp_path, refresh):
    event = refresh_event("m", datetime(2013, 6, 1, tzinfo=UTC), Policy(), NOW)
    event["data"]["refresh"] = refresh
    retrainer = StandIn()
    row, = handle(tmp_path, [event], retrainer, NOW)
    assert row["action"] == "none" and not retrainer.asked


def test_the_command_asks_the_registry_how_old_the_champion_is(project):
    import mlflow
    assert "no champion knows any days" in command(project, "refresh").stdout
    with speak_to(tracking_uri(project)):
        create_store(tracking_uri(project))
        client = mlflow.MlflowClient()
        client.create_registered_model("flight-delay")
        tags = {"status": "champion", "train_end": "2013-06-01"}
        client.create_model_version("flight-delay", "file:///nowhere", tags=tags)
    assert "up to 2013-06-01, refresh_days = 7" in command(project, "refresh", "--at", "2013-06-05").stdout
    environment = os.environ | {"STARTS": str(project / "starts")}
    assert command(project, "refresh", "--at", "2013-06-09", env=environment).returncode == 0
    done = command(project, "handle", "--at", "2013-06-10", env=environment)
    assert done.returncode == 0, done.stderr
    row = list_events(project)[0]
    assert row["reason"].startswith("refresh: the champion knows the days up to 2013-06-01")
    assert row["window"] == dict(train_start="2013-01-01", train_end="2013-06-01", test_end="2013-06-10")
    assert "not proven better, until 2013-06-10" in row["outcome"]["reason"]
