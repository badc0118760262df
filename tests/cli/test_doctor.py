"`mlops-nb doctor`, and what scripts may rely on: exit codes, `--json`, help"
import json
import os
import shutil
import socket
import subprocess
from importlib.metadata import version

import click
import pytest

from mlops_nb.cli.doctor import check_port, examine_machine
from mlops_nb.cli.main import main
from mlops_nb.cli.options import FINDING_KEYS, JSON_KEYS, STEP_KEYS
from mlops_nb.project import Project

from tests.support import ROOT
from tests.support.projects import BIN, command


@pytest.fixture
def project(tmp_path):
    "What the doctor looks at"
    for name in ("settings.ini", "requirements.lock"): shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def found(project, on=None) -> dict:
    return {one.name: one for one in examine_machine(project, on)}


def az(project, monkeypatch, *lines):
    "An Azure command line that answers as these lines of a shell script say, and writes down what it was asked"
    (project / "bin").mkdir()
    script = project / "bin/az"
    script.write_text("\n".join(["#!/bin/sh", f'echo "$@" >> {project}/asked', *lines]))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}")
    settings = (project / "settings.ini").read_text()
    filled = settings.replace("[dev]\nsubscription_id =\nresource_group =\nworkspace =",
                              "[dev]\nsubscription_id = s\nresource_group = g\nworkspace = w")
    (project / "settings.ini").write_text(filled)


def test_a_package_that_differs_from_the_lock_is_missing_with_the_command_that_mends_it(project):
    assert found(project)["packages"].ok
    lock = "click==0.1 \\\n    --hash=sha256:00\nnot-there==1.0\nnot-needed==1.0 ; sys_platform == 'none'\n"
    (project / "requirements.lock").write_text(lock)
    one = found(project)["packages"]
    assert one.mark == "fails" and "2 differ" in one.found and "not-there not installed instead of 1.0" in one.found
    assert one.fix.endswith("make setup")


def test_the_packages_of_the_loop_alone_are_enough_until_something_else_is_installed(project):
    click = f"click=={version('click')}\n"
    (project / "requirements.loop.lock").write_text(click)
    (project / "requirements.lock").write_text(f"{click}not-there==1.0\npip==0.1\n")   # An environment brings its pip
    assert found(project)["packages"].found == "1 as in requirements.loop.lock"
    (project / "requirements.lock").write_text(f"{click}not-there==1.0\nrich==0.1\n")
    one = found(project)["packages"]
    assert one.mark == "fails" and "2 differ from requirements.lock" in one.found
    (project / "requirements.loop.lock").write_text("click==0.1\n")
    (project / "requirements.lock").write_text("click==0.1\nnot-there==1.0\n")
    one = found(project)["packages"]
    assert "1 differ from requirements.loop.lock: click" in one.found
    assert one.fix == "touch requirements.loop.lock && make loop"


def test_a_damaged_database_and_broken_settings_are_missing(project):
    (project / ".mlops").mkdir()
    (project / ".mlops/workspace.db").write_bytes(b"not a database, but long enough to look like one" * 100)
    (project / "settings.ini").write_text("[project]\nexperiment = e\nmodle = m\n")
    seen = found(project)
    assert seen["workspace"].found == "damaged: .mlops/workspace.db"
    assert seen["workspace"].fix == "mlops-nb repair"
    assert seen["settings"].mark == "fails" and seen["settings"].found.startswith("settings.ini:3: unknown")
    assert seen["settings"].fix == "did you mean model?"


def test_outside_of_a_project_the_machine_is_looked_at_and_nothing_wrong_is_advised(tmp_path):
    seen = found(tmp_path)
    assert seen["project"].mark == "fails" and "mlops-nb new PATH" in seen["project"].fix and seen["disk"].ok
    assert not seen.keys() & {"packages", "settings", "workspace", "git", "jupyter"}


def test_a_port_that_is_taken_is_told_and_not_needed(project):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        one = check_port(Project(project), taken.getsockname()[1])
    assert one.mark == "note" and one.fix.startswith("mlops-nb ui --port")


def test_git_without_the_hooks_is_told(project):
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    assert found(project)["git"].fix == "nbdev-install-hooks"
    subprocess.run(["git", "config", "merge.nbdev-merge.driver", "nbdev-merge"], cwd=project, check=True)
    assert found(project)["git"].ok


def test_azure_is_not_asked_without_on(project, monkeypatch):
    az(project, monkeypatch, "exit 1")
    assert found(project)["dev"].ok and found(project)["staging"].mark == "note"
    assert not (project / "asked").exists()


def test_with_on_a_workspace_is_needed(project):
    one = found(project, "staging")["staging"]
    assert "names no workspace" in one.found and "[staging]" in one.fix


def test_nobody_logged_in(project, monkeypatch):
    az(project, monkeypatch, "exit 1")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET"): monkeypatch.delenv(name, raising=False)
    seen = found(project, "dev")
    assert seen["login"].fix == "az login" and seen["login"].mark == "fails" and "run jobs" not in seen


def test_the_exit_code_says_whether_something_needed_is_missing(project):
    command("doctor", cwd=project)
    (project / "requirements.lock").write_text("not-there==1.0\n")
    said = command("doctor", "--json", cwd=project, code=1).stdout
    assert {key for one in json.loads(said) for key in one} == FINDING_KEYS.keys()


def test_the_keys_of_json_are_those_that_are_documented(tmp_path):
    for name in ("settings.ini", "pyproject.toml"): shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "table.csv").write_text("a\n1\n")
    (tmp_path / "data.yml").write_text("name: table\ntype: uri_file\npath: table.csv\n")
    (tmp_path / "job.yml").write_text("type: command\ncommand: echo hello\nenvironment: azureml:none@latest\n")
    said = {name: json.loads(command(*words, "--json", cwd=tmp_path).stdout) for name, words in {
        "create": ["create", "data.yml"], "run": ["run", "job.yml"], "show": ["show", "last"],
        "jobs": ["jobs"]}.items()}
    for name, value in said.items():
        one = value[0] if isinstance(value, list) else value
        assert one.keys() == JSON_KEYS[name].keys(), name
    assert said["show"]["steps"][0].keys() == STEP_KEYS.keys()
    made = json.loads(command("new", "p", "--package", "plain", "--json", cwd=tmp_path).stdout)
    assert made.keys() == JSON_KEYS["new"].keys()
    added = json.loads(command("stage", "new", "b", "--json", cwd=tmp_path / "p").stdout)
    assert {key for one in added for key in one} == JSON_KEYS["stage new"].keys()


def commands(group=main, above=("mlops-nb",)):
    "Every command with its words"
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group): yield from commands(found, (*above, name))
        else: yield " ".join([*above, name]), found


OURS = [(words, one) for words, one in commands() if one.callback.__module__.startswith("mlops_nb.")]


@pytest.mark.parametrize("words, found", OURS)
def test_every_command_has_an_example_of_itself(words, found):
    assert f"\n{words}" in (found.help or "").replace("    ", ""), f"{words} --help has no example"
    assert all(p.help for p in found.params if isinstance(p, click.Option))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_and_works(shell):
    assert "_MLOPS_NB_COMPLETE" in command("completion", shell, cwd=ROOT).stdout
    env = os.environ | {"_MLOPS_NB_COMPLETE": "bash_complete", "COMP_WORDS": "mlops-nb st", "COMP_CWORD": "1"}
    done = subprocess.run([BIN / "mlops-nb"], env=env, capture_output=True, text=True)
    assert "plain,stage" in done.stdout.split()
