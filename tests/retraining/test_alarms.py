"Silences and acknowledgements: what they change, what they leave alone, and bad input"
import json
import sqlite3
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main
from mlops_nb.monitors.monitor import run_monitor
from mlops_nb.monitors.silences import Silence
from mlops_nb.retraining.events import Ledger, breach_event, emit, handle, list_events, list_silences, receive
from mlops_nb.retraining.notes import SILENCED, note_event
from mlops_nb.retraining.policy import Policy

from tests.support.retraining import StandIn

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def breach(day: int, features: tuple[str, ...] = ("temp",), monitor: str = "delay") -> dict:
    rows = [dict(feature=name, metric="psi", value=0.3, azure_threshold=0.2, null_threshold=0.1, breach=True)
            for name in features]
    window = [f"2026-11-{day:02}T00:00:00Z", f"2026-11-{day + 1:02}T00:00:00Z"]
    signals = dict(inputs=dict(type="data_drift", alert=True, verdict="breach", rows=rows))
    return dict(monitor=monitor, endpoint="delay", window=window, breach=True, signals=signals, performance=None)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    "A project with one breach that nobody has decided about"
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    monkeypatch.chdir(tmp_path)
    emit(tmp_path, breach_event(breach(1)) or {})
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, [*words])
    return done.exit_code, done.output


def ask(*words: str) -> dict:
    code, text = run(*words, "--json")
    assert code == 0, text
    return json.loads(text)


WHY = ("--by", "Ann", "--reason", "the sensor is repaired")


def retrainer(policy: Policy | None = None) -> StandIn:
    days = lambda now: dict(train_start="2026-01-01", train_end=f"{now:%Y-%m-%d}", test_end=f"{now:%Y-%m-%d}")
    return StandIn(policy or Policy(retrain_on="any"), lambda breach, window: dict(status="Completed"), days)


@pytest.mark.parametrize("words", [("--feature", "temp"), (), ("--signal", "inputs"), ("--metric", "psi"),
                                   ("--signal", "inputs", "--feature", "temp", "--metric", "psi")])
def test_what_is_silenced_retrains_nothing_until_its_end(root, words):
    made = ask("silence", "delay", *words, "--until", "2026-12-10", "--at", "2026-12-01", *WHY)
    assert (made["monitor"], made["until"], made["by"]) == ("delay", "2026-12-10T00:00:00+00:00", "Ann")
    [event] = handle(root, breach_event(breach(2)), retrainer(), NOW)
    assert event["action"] == "none"
    assert event["reason"] == "silenced until 2026-12-10 by Ann: the sensor is repaired"
    [event] = handle(root, breach_event(breach(3)), retrainer(), datetime(2026, 12, 10, tzinfo=UTC))
    assert event["action"] == "retrain" and event["reason"] == "breach of data_drift"


def test_another_feature_and_another_monitor_are_heard(root):
    ask("silence", "delay", "--feature", "temp", "--until", "2026-12-10", "--at", "2026-12-01", *WHY)
    [event] = handle(root, breach_event(breach(2, ("temp", "humid"))), retrainer(), NOW)
    assert event["action"] == "retrain"
    [event] = handle(root, breach_event(breach(4, monitor="other")), retrainer(Policy(retrain_on="any", cooldown_days=0,
                                                                                    daily_budget=9)), NOW)
    assert event["reason"].startswith("breach of data_drift")


def test_one_signal_of_a_feature_is_silenced_and_the_other_is_heard(root):
    both = breach(2)
    both["signals"]["quality"] = dict(type="data_quality", alert=True, verdict="breach", rows=[
        dict(feature="temp", metric="null_value_rate", value=0.3, azure_threshold=0.2, breach=True)])
    emit(root, breach_event(both))
    days = ("--until", "2026-12-10", "--at", "2026-12-01")
    ask("silence", "delay", "--signal", "quality", "--feature", "temp", *days, *WHY)
    assert "delay quality temp" in run("silences", "--all")[1]
    [event] = handle(root, breach_event(both), retrainer(), NOW)
    assert event["action"] == "retrain" and event["reason"] == "breach of data_drift"
    del both["signals"]["inputs"]
    often = Policy(retrain_on="any", cooldown_days=0, daily_budget=9)
    [event] = handle(root, breach_event(both), retrainer(often), NOW)
    assert event["action"] == "none" and event["reason"].startswith("silenced until 2026-12-10 by Ann")


def test_a_silence_that_is_ended_early_is_over(root):
    made = ask("silence", "delay", "--until", "2026-12-10", "--at", "2026-12-01", *WHY)
    ended = ask("unsilence", made["id"][:8], "--at", "2026-12-02", "--by", "Ben", "--reason", "it works again")
    assert ended["ended"] == dict(at="2026-12-02T00:00:00+00:00", by="Ben", reason="it works again")
    [event] = handle(root, breach_event(breach(2)), retrainer(), datetime(2026, 12, 3, tzinfo=UTC))
    assert event["action"] == "retrain"
    code, text = run("unsilence", made["id"], "--at", "2026-12-04", *WHY)
    assert code == 2 and "no silence that holds" in text


MEANT = "there is no {0}\n  accepted: {1}\n  fix: did you mean {1}?"


def test_the_list_says_what_holds_who_asked_and_until_when(root):
    ask("silence", "delay", "--feature", "temp", "--until", "2099-12-10", *WHY)
    ask("silence", "delay", "--until", "2026-11-20", "--at", "2026-11-10", *WHY)
    code, text = run("silences")
    assert code == 0 and len(text.splitlines()) == 1
    assert "delay temp" in text and "until 2099-12-10 by Ann: the sensor is repaired" in text and "(holds)" in text
    assert [row["active"] for row in ask("silences", "--all")] == [True, False]


@pytest.mark.parametrize("words, said", [
    (("dely", "--until", "2099-01-01", *WHY), MEANT.format("monitor 'dely'", "delay")),
    (("delay", "--feature", "tmp", "--until", "2099-01-01", *WHY), MEANT.format("feature of delay 'tmp'", "temp")),
    (("delay", "--signal", "input", "--until", "2099-01-01", *WHY), MEANT.format("signal of delay 'input'", "inputs")),
    (("delay", "--metric", "pis", "--until", "2099-01-01", *WHY), MEANT.format("metric of delay 'pis'", "psi")),
    (("delay", "--until", "2020-01-01", *WHY), "which is in the past"),
    (("delay", "--until", "soon", *WHY), "'soon' is not a time"),
    (("delay", "--until", "2099-01-01", "--by", "Ann", "--reason", " "), "--reason is empty"),
    (("delay", "--until", "2099-01-01", "--by", "", "--reason", "x"), "--by is empty"),
    (("delay", "--until", "2099-01-01", "--reason", "x"), "Missing option '--by'"),
    (("delay", *WHY), "Missing option '--until'"),
])
def test_bad_input_silences_nothing(root, words, said):
    code, text = run("silence", *words)
    assert code == 2 and said in text and "Traceback" not in text
    assert list_silences(root) == []


def test_an_acknowledgement_is_shown_and_changes_no_decision(root):
    [event] = list_events(root)
    made = ask("acknowledge", event["id"][:10], "--by", "Ann", "--reason", "a storm")
    assert made["id"] == event["id"] and made["acknowledged"]["by"] == "Ann"
    assert "acknowledged by Ann: a storm" in run("events")[1]
    handle(root, [], retrainer(), NOW)
    assert next(row for row in list_events(root) if row["id"] == event["id"])["action"] == "retrain"
    code, text = run("acknowledge", "nothing", *WHY)
    assert code == 2 and "there is no event of a breach 'nothing'" in text


def test_an_event_that_only_looks_like_a_silence_silences_nothing(root):
    whole = note_event(SILENCED, "monitors/delay", NOW, monitor="delay", feature=None, until="2099-01-01", by="A",
                       reason="b")
    for key, value in (("until", 7), ("monitor", None), ("by", "  "), ("until", "noon"), ("signal", 3)):
        receive(root, whole | dict(id=f"{key}{value}", data=whole["data"] | {key: value}))
    receive(root, whole | dict(id="x", data=[1]))
    assert list_silences(root) == [] and len(list_events(root)) == 7
    [event] = handle(root, breach_event(breach(2)), retrainer(), NOW)
    assert event["action"] == "retrain"


def test_a_ledger_that_is_only_read_is_left_as_it_is(tmp_path):
    assert list_silences(tmp_path) == [] and not (tmp_path / ".mlops").exists()


def monitored(root: Path) -> tuple[dict, dict]:
    "A monitor of a table whose one column has moved, and what it finds when its alarms are silenced"
    import duckdb
    (root / "data").mkdir()
    columns = "{shift} + (i * 7919 % 1000) / 100.0 AS temp, (i * 31 % 100) / 10.0 AS humid"
    table = f"COPY (SELECT {columns} FROM range(2000) t(i))"
    for name, shift in (("reference", 0), ("now", 8)):
        duckdb.sql(f"{table.format(shift=shift)} TO '{root}/data/{name}.parquet'")
    data = "{{type: uri_folder, path: ../../data/{name}.parquet}}"
    (root / "pipelines/monitoring").mkdir(parents=True)
    (root / "pipelines/monitoring/m.yml").write_text(f"""
name: delay
trigger: {{type: recurrence, frequency: day, interval: 1}}
create_monitor:
  compute: {{instance_type: standard_e4s_v3, runtime_version: "3.4"}}
  monitoring_target: {{ml_task: regression}}
  monitoring_signals:
    inputs:
      type: data_drift
      production_data: {{input_data: {data.format(name="now")}, data_context: model_inputs}}
      reference_data: {{input_data: {data.format(name="reference")}, data_context: training}}
      features: [temp, humid]
      metric_thresholds: {{numerical: {{normalized_wasserstein_distance: 0.1}}}}
""")
    silence = Silence("1", "delay", "temp", "2026-11-01", "2026-12-10", "Ann", "the sensor is repaired")
    loud = asdict(run_monitor(root, "pipelines/monitoring/m.yml", NOW))
    return loud, asdict(run_monitor(root, "pipelines/monitoring/m.yml", NOW, [silence]))


def test_a_monitor_records_what_it_found_and_that_it_is_silenced(root):
    loud, quiet = monitored(root)
    assert loud["breach"] and loud["silences"] == [] and breach_event(loud)
    assert not quiet["breach"] and breach_event(quiet) is None
    before, after = (one["signals"]["inputs"]["rows"] for one in (loud, quiet))
    assert [row["value"] for row in before] == [row["value"] for row in after]
    words = "silenced until 2026-12-10 by Ann: the sensor is repaired"
    assert [row.get("silenced") for row in after if row["feature"] == "temp"] == [words]
    assert quiet["signals"]["inputs"]["verdict"] == words and quiet["silences"][0]["by"] == "Ann"
    assert json.loads(Path(quiet["path"]).read_text())["silences"] == quiet["silences"]


def test_the_command_takes_the_silences_of_the_ledger(root):
    loud, _ = monitored(root)
    assert loud["breach"]
    ask("silence", "delay", "--until", "2099-12-10", *WHY)
    code, text = run("monitor", "pipelines/monitoring/m.yml")
    assert code == 0 and "silenced until 2099-12-10 by Ann" in text and "ALARM" not in text
    with sqlite3.connect(root / ".mlops/events.db") as db:
        assert db.execute("SELECT count(*) FROM events WHERE breach IS NOT NULL").fetchone() == (1,)


class Blobs:
    "A container of blobs, as two machines see it: a name is written once"
    def __init__(self): self.kept: dict[str, bytes] = {}
    def names(self, prefix: str) -> list[str]: return sorted(name for name in self.kept if name.startswith(prefix))
    def read(self, name: str) -> bytes: return self.kept[name]
    def push(self, name: str, data: bytes) -> None:
        from azure.core.exceptions import ResourceExistsError
        if name in self.kept: raise ResourceExistsError(name)
        self.kept[name] = data


@pytest.fixture
def workspace(monkeypatch):
    "A workspace whose ledger is kept as on Azure; what a monitor reads lies on the machine that runs it"
    from mlops_nb.azure.collected import LedgerCopy
    from mlops_nb.cli import monitor, options
    blobs, connection = Blobs(), SimpleNamespace(attempt=lambda what: nullcontext(),
                                                 settings=SimpleNamespace(workspace="dev"))

    @contextmanager
    def ledger():
        with tempfile.TemporaryDirectory() as folder:
            copy = LedgerCopy(connection, blobs, Path(folder))
            try: yield Ledger(copy.folder, copy.keep)
            finally: copy.keep()
    there = SimpleNamespace(monitors=SimpleNamespace(ledger=ledger, bring_data=lambda file, at: Path.cwd()))
    for module in (options, monitor): monkeypatch.setattr(module, "find_remote", lambda on, project=None: there)
    return blobs


def test_a_silence_of_one_machine_holds_for_the_monitor_of_a_workspace_on_another(root, workspace, monkeypatch):
    other = root / "another machine"
    other.mkdir()
    (other / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    for machine in (root, other): monitored(machine)
    at = ("monitor", "pipelines/monitoring/m.yml", "--on", "dev")
    monkeypatch.chdir(other)
    assert ask(*at)["breach"], "nothing is silenced yet"
    monkeypatch.chdir(root)
    made = ask("silence", "delay", "--signal", "inputs", "--until", "2099-12-10", "--on", "dev", *WHY)
    assert list_silences(root) == [], "it is the workspace's, not this machine's"
    monkeypatch.chdir(other)
    found = ask(*at)
    words = "silenced until 2099-12-10 by Ann: the sensor is repaired"
    assert not found["breach"] and found["signals"]["inputs"]["verdict"] == words
    assert [one["id"] for one in ask("silences", "--on", "dev")] == [made["id"]] and ask("silences") == []
    assert len([event for event in ask("events", "list", "--on", "dev") if event["breach"]]) == 1, "no second breach"
    ask("unsilence", made["id"][:8], "--on", "dev", *WHY)
    monkeypatch.chdir(root)
    assert ask(*at)["breach"] and len(workspace.kept) == 4    # a breach, a silence, its end, and a breach told again
