"Locked, unwritable, full and damaged are told apart, and no advice gives up what is sound"
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import click
import pytest
from click.testing import CliRunner

from mlops_nb.cli import options
from mlops_nb.cli.main import main
from mlops_nb.cli.options import explain_error, printable, root_cause
from mlops_nb.jobs.run import check_project
from mlops_nb.processes import show_place


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path/".mlops").mkdir()
    (tmp_path/"settings.ini").write_text("[project]\nexperiment = t\n")
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect(tmp_path/".mlops"/"workspace.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE jobs (id TEXT)")
        db.executemany("INSERT INTO jobs VALUES (?)", [("x" * 500,)] * 50)
    return tmp_path


def error_of(work) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as caught: work()
    return caught.value


def test_locked(project):
    path = project/".mlops"/"workspace.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(path, timeout=0)) as db: error = error_of(lambda: db.execute("DELETE FROM jobs"))
        text, code = explain_error(error)
    assert "another process" in text and str(path) in text and "Nothing is lost" in text and code == 1
    assert "damaged" not in text and "mv " not in text


def test_damaged(project):
    path = project/".mlops"/"workspace.db"
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(bytes(4096))
    def read():
        with closing(sqlite3.connect(path)) as db: db.execute("SELECT * FROM jobs").fetchall()
    text, code = explain_error(error_of(read))
    assert f"{path} is damaged" in text and "mlops-nb repair" in text and "lost" not in text


def test_full(project):
    "The limit of pages is what SQLite calls full; the system's own full disk is an OSError"
    with closing(sqlite3.connect(project/".mlops"/"workspace.db", isolation_level=None)) as db:
        db.execute("PRAGMA max_page_count = 1")
        error = error_of(lambda: db.executemany("INSERT INTO jobs VALUES (?)", [("x" * 4000,)] * 500))
    text, _ = explain_error(error)
    assert "nothing more can be written" in text and "damaged" not in text


NO_MOUNT = os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0


@pytest.mark.skipif(NO_MOUNT, reason="only root may mount a read-only disk: run the tests as root, on Linux")
def test_a_disk_that_is_read_only(project):
    command = 'mount --bind . . && mount -o remount,ro,bind . && cd "$PWD" && exec "$0" -m mlops_nb jobs'
    words = ["unshare", "-m", "sh", "-c", command, sys.executable]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "damaged" not in done.stderr
    assert "cannot be opened" in done.stderr or "may not be written" in done.stderr


def test_an_error_that_mlflow_wraps_is_found():
    inner = sqlite3.OperationalError("database is locked")
    middle = type("DBAPIError", (Exception,), {"__module__": "sqlalchemy.exc"})("locked")
    outer = type("MlflowException", (Exception,), {"__module__": "mlflow.exceptions"})("locked")
    middle.__context__, outer.__context__ = inner, middle
    assert root_cause(outer) is inner


def test_a_bug_is_not_explained_away():
    "A KeyError that was raised while a missing file was handled is a bug, not a missing file"
    error = KeyError("x")
    error.__context__ = FileNotFoundError(2, "No such file")
    assert root_cause(error) is error and explain_error(error) is None


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "a\rb", "\x9b31m", "abc\u202etxt.exe", "\x00"])
def test_a_terminal_is_not_moved(text):
    assert printable(text).isprintable()
    assert printable("line\n\tline") == "line\n\tline"


def test_results_are_printed_as_text(capsys):
    options.print_result(None, "\x1b[31mred", as_json=False)
    options.echo_to(False)("\x1b[31mred")
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False])
def test_a_check_says_what_it_is_at_on_a_terminal_only(project, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    check_project(json=False)
    said = capsys.readouterr().err
    left = [line.rpartition("\x1b[K")[2] for line in said.split("\n")]    # what stays on the screen
    phases = ["checking 0 YAML files", "comparing what is generated, and checking the stages"]
    assert left == [*phases, ""] if terminal else said == ""


def test_a_command_that_is_stopped_wipes_the_name_of_the_file_that_it_was_at(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    context = click.Context(main)
    with pytest.raises(click.exceptions.Exit) as left, options.errors_as_messages(context):
        show_place("12 of 279 notebooks")
        raise KeyboardInterrupt
    assert left.value.exit_code == 130
    assert capsys.readouterr().err.endswith("12 of 279 notebooks\r\x1b[Kstopped by Ctrl-C\n")


def test_a_new_project_and_gc_say_what_they_are_at(tmp_path, monkeypatch):
    said = list[str]()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mlops_nb.processes.show_phase", said.append)
    (tmp_path / "settings.ini").write_text("[project]\nexperiment = t\nmodel = m\n")
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n % 7},{n * n % 5}\n" for n in range(200)))
    for words in (["new", "five", "--data", "t.csv", "--target", "y"], ["gc", "--dry-run"]):
        found = CliRunner().invoke(main, words)
        assert found.exit_code == 0, found.output
    assert said == ["reading t.csv, and writing the project", "finding what is old, and what still needs it",
                    "measuring what the local workspace takes on disk"]
