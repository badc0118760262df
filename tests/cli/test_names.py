"A name that is not there, or not given: what there is, and what was probably meant"
import shutil

import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main

from tests.support import ROOT
from tests.support.projects import command
from tests.support.serving import make_workspace

HELLO = """type: pipeline
name: hello
jobs:
  greet: {type: command, command: echo hello, environment: "azureml:mlops-nb:1"}
"""
MONITOR = "name: delay\ncreate_monitor: {monitoring_signals: {inputs: {metric_thresholds: {}}}}\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    "A project with a model of two versions, a job, an endpoint that serves, and a monitor"
    root = make_workspace(tmp_path_factory.mktemp("names") / "my project")
    (root / "hello.yml").write_text(HELLO)
    (root / "pipelines/monitoring").mkdir(parents=True)
    (root / "pipelines/monitoring/monitor.yml").write_text(MONITOR)
    shutil.copy(ROOT / "pipelines/deployment/rollout.yml", root)
    command("run", "hello.yml", cwd=root)
    command("deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml", cwd=root)
    yield root
    command("endpoint", "stop", "echo", cwd=root)


@pytest.fixture
def said(root, monkeypatch):
    "What a command says on standard error; it is refused"
    monkeypatch.chdir(root)
    def run(*words: str) -> str:
        found = CliRunner().invoke(main, [*words])
        assert found.exit_code == 2 and found.stdout == "" and "Traceback" not in found.stderr, found.output
        return found.stderr
    return run


FILES = ("--endpoint-file", "endpoint.yml", "--deployment-file", "deployment.yml", "--rollout", "rollout.yml")
SERVE = ("--endpoint", "endpoint.yml", "--deployment", "deployment.yml", "--name", "green")
WHY = ("--until", "2099-01-01", "--by", "Ann", "--reason", "a storm")


@pytest.mark.parametrize("words, what, accepted, meant", [
    (("show", "lst"), "there is no job 'lst' in ", "last, hello-", "last"),
    (("logs", "lats", "hello"), "there is no job 'lats' in ", "last, hello-", "last"),
    (("logs", "last", "gret"), "there is no step 'gret' in job hello-", "greet", "greet"),
    (("cancel", "lastt"), "there is no job 'lastt' in ", "last, hello-", "last"),
    (("run", "hello.yml", "--from", "gret"), "hello.yml: there is no step 'gret'", "greet", "greet"),
    (("deploy", *SERVE, "--model", "flight-dealy:1"), "there is no model 'flight-dealy' registered here",
     "flight-delay", "flight-delay"),
    (("release", "--model", "flight-dealy", *FILES), "there is no model 'flight-dealy' with a version", "flight-delay",
     "flight-delay"),
    (("endpoint", "status", "ehco"), "there is no endpoint 'ehco' in ", "echo", "echo"),
    (("endpoint", "stop", "Echoo"), "there is no endpoint 'Echoo' in ", "echo", "echo"),
    (("endpoint", "start", "ecko"), "there is no endpoint 'ecko' in ", "echo", "echo"),
    (("endpoint", "keys", "echo2"), "there is no endpoint 'echo2' in ", "echo", "echo"),
    (("endpoint", "delete", "ehco", "blue"), "there is no endpoint 'ehco' in ", "echo", "echo"),
    (("endpoint", "delete", "echo", "bleu"), "there is no deployment 'bleu' of echo", "blue", "blue"),
    (("endpoint", "traffic", "echo", "bleu=100"), "there is no deployment 'bleu' of echo", "blue", "blue"),
    (("qa", "echo", "--deployment", "bleu"), "there is no deployment 'bleu' of echo", "blue", "blue"),
    (("outcomes", "ehco", "x.csv"), "there is no endpoint 'ehco' in ", "echo", "echo"),
    (("silence", "dely", *WHY), "there is no monitor 'dely'", "delay", "delay"),
    (("sample", "hello"), "there is no stage 'hello'", "there is none yet", None),
])
def test_an_unknown_name_is_answered_with_those_that_there_are(said, words, what, accepted, meant):
    first, second, *rest = said(*words).splitlines()
    assert first.startswith(f"error: {what}") and second.startswith(f"  accepted: {accepted}")
    assert rest == ([f"  fix: did you mean {meant}?"] if meant else [])


@pytest.mark.parametrize("words, what", [
    (("show",), "'JOB'. Choose from: last, hello-"),
    (("cancel",), "'JOB'. Choose from: last, hello-"),
    (("logs", "last"), "'STEP'. Choose from: greet\n"),
    (("endpoint", "stop"), "'NAME'. Choose from: echo\n"),
    (("endpoint", "start"), "'NAME'. Choose from: echo\n"),
    (("endpoint", "keys"), "'NAME'. Choose from: echo\n"),
    (("endpoint", "traffic"), "'NAME'. Choose from: echo\n"),
    (("endpoint", "delete"), "'NAME'. Choose from: echo\n"),
    (("endpoint", "delete", "echo"), "'DEPLOYMENT'. Choose from: blue\n"),
    (("endpoint", "delete", "ehco"), "'DEPLOYMENT'. there is no endpoint 'ehco' in "),
    (("endpoint", "stop", "--on", "staging"), "'NAME'. mlops-nb endpoint status --on staging lists them\n"),
    (("qa",), "'ENDPOINT'. Choose from: echo\n"),
    (("qa", "echo"), "'--deployment'. Choose from: blue\n"),
    (("outcomes",), "'ENDPOINT'. Choose from: echo\n"),
    (("image",), "'NAME:VERSION'. Choose from: flight-delay:2\n"),
    (("silence",), "'MONITOR'. Choose from: delay\n"),
    (("unsilence",), "'ID'. There is none yet: mlops-nb silence makes it\n"),
    (("acknowledge",), "'EVENT'. There is none yet: a monitor writes it"),
    (("schedule", "stop"), "'NAME'. mlops-nb schedule list --on dev lists them\n"),
    (("run",), "'FILE'. There is none yet: mlops-nb new PATH makes a project that has some\n"),
])
def test_a_name_that_is_left_out_is_asked_for_with_those_that_there_are(said, words, what):
    assert f"Error: Missing {'option' if '--' in what[:4] else 'argument'} {what}" in said(*words)


def test_outside_of_a_project_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, ["show"])
    assert found.exit_code == 2 and f"'JOB'. {tmp_path} is in no project\n" in found.stderr
    assert [*tmp_path.iterdir()] == []
