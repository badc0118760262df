"The launcher: more to say than a socket holds, and what stays between two runs"
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.files import own_folder
from mlops_nb.jobs.launcher import LauncherClient, begin_ahead, choose_stay, idle_launchers, idle_seconds
from mlops_nb.processes import is_alive

from tests.support.jobs import wait_for
from tests.support.notebooks import stage_cells, write_notebook


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the launcher forks, which Windows cannot")
@pytest.mark.timeout(300)   # Each once waited for the other to read, without end
def test_more_requests_and_answers_than_two_sockets_hold(tmp_path: Path):
    client, env = LauncherClient(), {"PATH": os.environ["PATH"], "LONG": "x" * 8000}
    try:
        wanted = {client.start("exit 3", tmp_path, env, tmp_path / "log", fork=False) for _ in range(400)}
        codes: dict[int, int | None] = {}
        pids: dict[int, int | None] = {}
        while codes.keys() != wanted:
            for message in client.messages(10):
                (codes if "exit" in message else pids)[message["id"]] = message.get("exit", message.get("pid"))
    finally: client.close()
    assert {*codes.values()} == {3} and pids.keys() == wanted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the launcher forks, which Windows cannot")
def test_who_asks_to_stop_does_not_wait_for_all_that_is_to_be_imported(tmp_path: Path, monkeypatch):
    "Two packages that a notebook imports: the second one would take all day"
    wait = "import os, time\nopen('seen', 'w')\nwhile not os.path.exists({!r}): time.sleep(.01)\n"
    for name, text in {"pandera": wait.format("go"), "skops": wait.format("over")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    client = LauncherClient()
    client.preload({"pandera", "skops"})
    step = client.start("touch started", tmp_path, dict(os.environ), tmp_path / "log", fork=False)
    client.stop(step)
    wait_for((tmp_path / "seen").exists)
    (tmp_path / "go").touch()
    messages: list[dict] = []
    while not any("exit" in message for message in messages): messages += client.messages(60)
    (tmp_path / "over").touch()
    client.close()
    assert messages == [{"id": step, "exit": -15}] and not (tmp_path / "started").exists()


# A launcher that stays

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forks, so only there one stays")
STEP = "import os\nopen('parent', 'w').write(str(os.getppid()))"


@pytest.fixture
def staying(tmp_path: Path, monkeypatch):
    "Launchers stay for a minute, in a folder of the test's own with a short path; those that are left are killed"
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        variables = {"MLOPS_NB_LAUNCHER_IDLE": "60", "TMPDIR": short}
        for name, value in variables.items(): monkeypatch.setenv(name, value)
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.chdir(tmp_path)
        yield tmp_path
        for pid in idle(): os.kill(pid, signal.SIGKILL)


def idle() -> list[int]:
    "The launchers that wait for a run"
    return [*idle_launchers()]


def living(name: str) -> list[Path]:
    "The processes of the launchers that were begun under a name, idle or not"
    def words(process: Path) -> str:
        try: return (process / "cmdline").read_text()
        except OSError: return ""       # It has just ended
    return [process for process in Path("/proc").glob("[0-9]*") if name in words(process)]


def begin_with_package(folder: Path, monkeypatch) -> tuple[int, Path]:
    "A launcher that is idle and has imported a package of the test's own, and a file of that"
    package = folder / "lib/skops/__init__.py"      # One of those that a launcher imports
    package.parent.mkdir(parents=True)
    package.write_text("SIDE = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parents[1]))
    wait_for(lambda: run_once(folder, "skops") and idle())      # Files of the second before are too young to stay
    return idle()[0], package


def run_once(folder: Path, *preload: str) -> int:
    "Run a notebook as a run does; the launcher from which it was forked"
    notebook = write_notebook(folder / "stage.ipynb", *stage_cells("rows: int = 3  # how many", STEP))
    (folder / "parent").unlink(missing_ok=True)
    with closing(LauncherClient("job")) as client:
        client.preload({*preload})
        client.start(f"python -m mlops_nb.step {notebook}", folder, dict(os.environ), folder / "log")
        while not any("exit" in message for message in client.messages(60)): pass
    return int((folder / "parent").read_text())


@linux
def test_the_next_run_takes_over_the_launcher_and_what_it_has_imported(staying: Path):
    first = run_once(staying)
    assert idle() == [first]
    assert run_once(staying) == run_once(staying) == first


@linux
@pytest.mark.parametrize("change", ["variable", "folder", "package", "deleted", "limit", "umask"])
def test_a_launcher_that_would_give_a_step_another_world_is_not_taken(staying: Path, monkeypatch, change: str):
    import resource
    first, package = begin_with_package(staying, monkeypatch)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    mask = os.umask(0o22)
    if change == "variable": monkeypatch.setenv("LANG", "tlh")
    if change == "folder": monkeypatch.chdir(package.parent)
    if change == "package": package.write_text("SIDE = 2\n")
    if change == "deleted": package.unlink()
    if change == "limit": resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
    if change == "umask": os.umask(0o77)
    try: assert run_once(staying, "skops") != first
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.umask(mask)


@linux
def test_two_runs_at_once_have_a_launcher_each_and_one_of_them_stays(staying: Path):
    with closing(LauncherClient()) as one, closing(LauncherClient()) as two:
        pids = {client.process.pid for client in (one, two) if client.process}
        assert len(pids) == 2
    with closing(LauncherClient()) as claimed, closing(LauncherClient()) as new:
        assert claimed.process is None and new.process is not None
    assert len(idle()) == 1


@linux
def test_a_launcher_that_was_begun_ahead_and_got_no_job_ends_and_one_that_was_idle_is_idle_again(staying: Path):
    with begin_ahead() as begun: assert begun and begun.process
    assert begun.process.wait(60) == 0
    wait_for(lambda: idle() or not living(begun.stay[1]))
    assert not idle() and not living(begun.stay[1])
    first = run_once(staying)
    with begin_ahead() as claimed: assert claimed and claimed.process is None
    wait_for(lambda: idle() == [first])
    assert run_once(staying) == first and idle() == [first]
    with begin_ahead(wanted=False) as nothing: assert nothing is None


@linux
def test_a_file_that_changes_between_claim_and_first_use_leads_to_a_new_launcher(staying: Path, monkeypatch):
    launcher, package = begin_with_package(staying, monkeypatch)
    os.kill(launcher, signal.SIGSTOP)
    with closing(LauncherClient()) as client:
        package.write_text("SIDE = 2\n")
        os.kill(launcher, signal.SIGCONT)
        client.belong_to("job")
        assert client.process is not None


@linux
def test_three_launchers_of_a_user_stay_at_most(staying: Path, monkeypatch):
    for number in range(5):
        monkeypatch.setenv("LANG", f"language {number}")    # Each run is one of another world
        LauncherClient().close()
    wait_for(lambda: len(idle()) == 3)


@linux
def test_a_launcher_that_was_killed_while_idle_hinders_nobody(staying: Path):
    first = run_once(staying)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: not is_alive(first) or "Z" in Path(f"/proc/{first}/stat").read_text().rpartition(")")[2])
    assert run_once(staying) != first
    assert idle() and first not in idle()


@linux
def test_a_launcher_ends_by_itself_and_one_that_ends_with_its_run_leaves_nothing(staying: Path, monkeypatch):
    monkeypatch.setenv("MLOPS_NB_LAUNCHER_IDLE", "0.2")
    first = run_once(staying)
    wait_for(lambda: not is_alive(first))
    monkeypatch.setenv("MLOPS_NB_LAUNCHER_IDLE", "0")
    second = run_once(staying)
    assert not is_alive(second) and not idle()


@linux
def test_who_waits_at_the_end_of_a_pipe_does_not_wait_for_an_idle_launcher(staying: Path):
    words = "from mlops_nb.jobs.launcher import LauncherClient; LauncherClient().close(); print('done')"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    assert done.stdout == "done\n" and done.stderr == ""
    assert is_alive(idle()[0])     # It holds neither of both pipes, or this line would come a minute later


@linux
def test_the_steps_of_a_killed_run_end_whose_launcher_was_taken_over(staying: Path):
    run_once(staying)
    words = ("import os, sys, time; from mlops_nb.jobs.launcher import LauncherClient; client = LauncherClient('job');"
             "client.start('sleep 300', '/tmp', dict(os.environ), '/dev/null');"
             "print(client.messages(60)[0]['pid'], flush=True); time.sleep(300)")
    with subprocess.Popen([sys.executable, "-c", words], stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout
        step = int(runner.stdout.readline())
        runner.kill()
    wait_for(lambda: not is_alive(step))
    wait_for(idle)


@linux
@pytest.mark.parametrize("odd", ["no folder", "open to others"])
def test_where_no_folder_is_ones_own_a_run_goes_on_and_nothing_stays(staying: Path, monkeypatch, odd: str):
    folder = own_folder()
    if odd == "open to others": folder.chmod(0o755)
    else:
        folder.rmdir()
        folder.write_text("a file")
    assert choose_stay() == (0, "")
    first = run_once(staying)
    assert not is_alive(first)
    if odd == "no folder": folder.unlink()
    else: folder.chmod(0o700)


def test_nothing_stays_in_ci_within_a_step_where_forking_is_off_or_where_you_say_so(monkeypatch):
    variables = {"MLOPS_NB_LAUNCHER_IDLE": "0", "CI": "true", "MLOPS_NB_FORK": "0", "MLOPS_NB_JOB": "night-1"}
    for name in variables: monkeypatch.delenv(name, raising=False)
    assert idle_seconds() == 300
    for name, value in variables.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert idle_seconds() == 0
    monkeypatch.setenv("MLOPS_NB_LAUNCHER_IDLE", "soon")
    with pytest.raises(UserError, match="MLOPS_NB_LAUNCHER_IDLE is 'soon'"): idle_seconds()
