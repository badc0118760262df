"A command that needs a project says so outside of one, and leaves nothing there"
import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main

COMMANDS = [
    "jobs", "show last", "cancel last", "logs last train", "ui", "export", "sample", "docs", "lab", "upgrade", "repair",
    "events", "events refresh", "events pull --on dev", "tower", "gc", "gc --dry-run", "releases", "release",
    "rollback", "loop --yes", "watch", "deploy", "summary", "stage new clean --pipeline training --after ingest",
    "version", "check", "monitor", "environment plan --on dev", "rehearse --on dev", "schedule list --on dev",
    "image model:1"]


@pytest.mark.parametrize("words", COMMANDS)
def test_it_is_said_and_nothing_is_left(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, words.split())
    assert done.exit_code == 2 and f"{tmp_path} is in no project" in done.stderr, done.output
    assert "mlops-nb new PATH" in done.stderr and not [*tmp_path.iterdir()]


def test_an_endpoint_needs_no_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no endpoint yet" in CliRunner().invoke(main, ["endpoint", "status"]).output
