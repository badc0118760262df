"What long commands say on a terminal, and what a terminal without colours or a cursor gets"

import io

import click
import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main
from mlops_nb.cli.options import errors_as_messages, is_interrupt
from mlops_nb.cli.release import print_release
from mlops_nb.errors import UserError
from mlops_nb.monitoring.replay import TableView
from mlops_nb.notebooks.lab import missing_notebook
from mlops_nb.processes import hand_phases, show_phase, show_place
from mlops_nb.releases.record import Release
from mlops_nb.retraining.retraining import run_job

from tests.support.terminal import run_in_terminal

pytest.importorskip("pty", reason="terminals need a POSIX system")
FILES = ("--endpoint", "endpoint.yml", "--deployment", "deployment.yml")
PIPELINE = """type: pipeline
jobs:
  wait: {type: command, component: {type: command, environment: "azureml:any@latest", command: echo done}}
"""


def test_deploy_stop_and_start_say_what_they_are_at(serving):
    code, said = run_in_terminal(serving.root, "deploy", *FILES, "--replay")
    assert code == 0, said
    lines = [line.rpartition("\x1b[K")[2] for line in said.strip().split("\n")]
    assert lines[:3] == ["reading the files of the endpoint and its deployment",
                         "blue: copying its model, and checking the seal",
                         "blue: starting flight-delay:1, and waiting until it answers"]
    assert ": blue serves " in lines[-1]
    code, said = run_in_terminal(serving.root, "endpoint", "stop", "echo")
    assert code == 0 and "echo: waiting until what it works on is done" in said
    code, said = run_in_terminal(serving.root, "endpoint", "start", "echo")
    assert code == 0 and said.index("echo: starting its host") < said.index("echo: waiting until what has traffic")


@pytest.mark.parametrize("words, phase", [
    (("release", "--approve-as", "Ada"), "reading what the registry has"),
    (("rollback", "echo"), "looking for the version before"),
    (("qa", "echo", "--deployment", "none"), "looking at none, and for the rows"),
    (("tower",), "reading what was served")])
def test_a_command_says_what_it_is_at_before_it_loads_what_it_needs(serving, words, phase):
    assert phase in run_in_terminal(serving.root, *words)[1]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}, {"NO_COLOR": "1", "TERM": "dumb"}])
def test_an_error_has_no_colour_where_none_is_wanted(serving, variables):
    code, said = run_in_terminal(serving.root, "rollback", "none", **variables)
    assert code == 2 and "error: " in said and "looking for the version before" in said
    assert "\x1b[31m" not in said
    if variables.get("TERM") == "dumb": assert "\x1b" not in said


def test_an_error_is_red_on_a_terminal(serving):
    assert "\x1b[31m" in run_in_terminal(serving.root, "rollback", "none")[1]


def test_a_terminal_without_a_cursor_gets_a_line_for_each_change_of_a_job(serving):
    (serving.root / "echo.yml").write_text(PIPELINE)
    code, said = run_in_terminal(serving.root, "run", "echo.yml", TERM="dumb")
    assert code == 0, said
    assert "wait Running" in said and "wait Completed" in said and "\x1b" not in said


def test_a_misspelt_notebook_is_answered_with_the_one_that_is_meant(tmp_path):
    for name in ("04_train.ipynb", "04_train.txt"): (tmp_path / name).touch()
    error = missing_notebook(tmp_path / "04_trian.ipynb")
    assert isinstance(error, UserError) and f"did you mean {tmp_path / '04_train.ipynb'}?" in str(error)
    assert "choose one of 04_train.ipynb" in str(missing_notebook(tmp_path / "unlike.ipynb"))


@pytest.mark.parametrize("name, words", [
    ("flights.csv", ("new", "five", "--data", "data/flihgts.csv", "--target", "y")),
    ("breach.json", ("events", "handle", "data/braech.json")),
    ("job.json", ("summary", "data/jbo.json")),
    ("outcomes.csv", ("outcomes", "echo", "data/outcome.csv")),
    ("pipeline.yml", ("show", "data/pipelin.yml", "--graph")),
    ("pipeline.yml", ("run", "dato/pipeline.yml")),
    ("monitor.yml", ("monitor", "data/monitr.yml"))])
def test_a_misspelt_file_is_answered_with_the_one_that_is_meant(serving, monkeypatch, name, words):
    (serving.root / "data").mkdir(exist_ok=True)
    (serving.root / "data" / name).touch()
    monkeypatch.chdir(serving.root)
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 2 and f"  fix: did you mean data/{name}?\n" in found.stderr


@pytest.fixture
def table(tmp_path):
    "A table, in a folder where a project may be made"
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{n % 7},{n * n % 5}\n" for n in range(200)))
    return tmp_path


def test_a_new_project_names_each_part_of_its_work(table):
    code, said = run_in_terminal(table, "new", "five", "--data", "t.csv", "--target", "y")
    assert code == 0, said
    parts = ["reading a sample of the rows", "1 of 2 columns: x", "2 of 2 columns: y", "reading y of all rows",
             "looking for ids, copies and leaks", "\x1b[Kwriting the project", "completing five", "made "]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)
    assert said[:places[-1]].endswith("\x1b[K")


def test_ctrl_c_while_a_table_is_read_is_no_traceback(table, monkeypatch):
    "DuckDB says it with a RuntimeError; another one is a bug"
    def interrupted(*words, **more): raise RuntimeError("Query interrupted")
    monkeypatch.chdir(table)
    monkeypatch.setattr("mlops_nb.scaffold.inspection.find_reading", interrupted)
    stopped = CliRunner().invoke(main, ["new", "five", "--data", "t.csv", "--target", "y"])
    assert (stopped.exit_code, stopped.stderr) == (130, "stopped by Ctrl-C\n")
    assert sorted(path.name for path in table.iterdir()) == ["t.csv"]
    assert not is_interrupt(RuntimeError("another")) and not is_interrupt(ValueError("Query interrupted"))


GOES_ON = "stopped by Ctrl-C; the same command goes on\n"

@pytest.mark.parametrize("name, said", [("loop", GOES_ON), ("release", GOES_ON), ("new", "stopped by Ctrl-C\n")])
def test_ctrl_c_says_which_commands_go_on(capsys, name, said):
    context = click.Context(main)
    context.invoked_subcommand = name
    with pytest.raises(click.exceptions.Exit), errors_as_messages(context): raise KeyboardInterrupt
    assert capsys.readouterr().err == said


def test_a_sample_says_which_stage_it_is_at(table):
    made = run_in_terminal(table, "new", "five", "--data", "t.csv", "--target", "y")
    assert made[0] == 0, made[1]
    code, said = run_in_terminal(table / "five", "sample", "ingest", PYTHONPATH=str(table / "five"))
    assert code == 0, said
    assert said.index("loading what the stages import") < said.index("1 of 1 stages: ingest") < said.index("ingest: ")


def test_jupyterlab_that_is_stopped_while_it_starts_is_one_line(table):
    pytest.importorskip("jupyterlab")
    (table / "nbs" / "training").mkdir(parents=True)
    (table / "nbs" / "training" / "01_ingest.ipynb").touch()
    (table / "settings.ini").write_text("[project]\nexperiment = t\nmodel = m\n")
    words = ("lab", "--no-browser", "--port", "0")
    code, said = run_in_terminal(table, *words, stop_at="starting JupyterLab\r\n", JUPYTER_DATA_DIR=str(table / "data"))
    assert code == 130 and said.endswith("stopped by Ctrl-C\n") and "Traceback" not in said


@pytest.mark.parametrize("status, serving", [("Promoted", "m 2"), ("RolledBack", "m 1"), ("Refused", "m 1")])
def test_a_release_says_once_why_it_ended_and_what_serves(capsys, status, serving):
    names = dict(id="r", endpoint="e", model="m", version="2", deployment="version-2", champion="1")
    names |= dict(champion_deployment="version-1", rollout={}, files={}, status=status)
    release = Release(**names, reason="it is well")
    print_release(release, as_json=False)
    assert capsys.readouterr().out == f"{status}: r\n  it is well\n  serves now: {serving}\n"
    print_release(release, as_json=False, said="  50 %: it is well")
    assert capsys.readouterr().out == f"{status}: r\n  serves now: {serving}\n"


class Terminal(io.StringIO):
    def isatty(self): return True


def test_the_table_of_a_loop_shows_what_its_work_is_at_and_is_not_torn(monkeypatch):
    from rich.console import Console
    monkeypatch.setattr("sys.stderr", errors := Terminal())
    screen = Console(file=(drawn := io.StringIO()), width=60)
    with TableView() as view:
        view("2013-04", "releasing", "version 2: QA, shadow, canary")
        show_phase("version-2: starting flight-delay:2")
        screen.print(view.live.renderable)
        show_place("")
        screen.print(view.live.renderable)
        view("2013-04", "done", "log loss 0.5; " * 9)
        screen.print(view.live.renderable)
    said = drawn.getvalue()
    places = [said.index(words) for words in ("version-2: starting", "version 2: QA", "log loss")]
    assert places == sorted(places) and max(map(len, said.splitlines())) <= 57
    assert errors.getvalue() == ""


def test_a_job_of_a_retraining_is_named_before_it_runs(serving, capsys):
    (serving.root / "echo.yml").write_text(PIPELINE)
    with hand_phases(print):
        assert run_job(serving.root, serving.root / "echo.yml", {})["status"] == "Completed"
    assert capsys.readouterr().out == "running echo.yml: mlops-nb show last says how far it is\n"
