"Ctrl-C ends every wait: exit code 130, one line, no traceback, and nothing is left behind"
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from mlops_nb.files import lock
from mlops_nb.processes import find_marked
from mlops_nb.project import Project
from mlops_nb.releases.record import list_releases, lock_endpoint
from mlops_nb.retraining.events import outbox
from mlops_nb.serving.state import EndpointFolder
from mlops_nb.workspace.workspace import Workspace

from tests.support.serving import until

pytest.importorskip("fcntl", reason="endpoints need a POSIX system")
pytestmark = pytest.mark.skipif(not Path("/proc/self/wchan").exists(),
                                reason="only Linux says, in /proc, what a process waits for")
MARK = "INTERRUPTED_BY"     # a variable of the command, which whatever it starts inherits


def hear_interrupts():
    "Undo what a shell does to what it starts in the background, this test included: it ignores Ctrl-C"
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    "`mlops-nb` in a session of its own"
    def __init__(self, root: Path, *words: str):
        self.mark = f"{MARK}={os.urandom(8).hex()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen([sys.executable, "-m", *words], cwd=root, text=True, start_new_session=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {name: value},
                                        preexec_fn=hear_interrupts)

    @property
    def sleeps(self) -> bool:
        "Is it between two tries? What waits for a lock or a database sleeps, and nothing else in these commands"
        assert self.process.poll() is None, self.process.communicate()
        return "nanosleep" in Path(f"/proc/{self.process.pid}/wchan").read_text()

    def interrupt(self, code: int = 130) -> str:
        "Press Ctrl-C once; what it says on standard error"
        self.process.send_signal(signal.SIGINT)
        out, said = self.process.communicate(timeout=30)
        assert self.process.returncode == code, out + said
        assert "Traceback" not in said and len(said.splitlines()) <= 1, said
        until(lambda: not find_marked(self.mark), seconds=20)
        return said


@contextmanager
def held(database: Path) -> Iterator[None]:
    "Write to a database, and do not come to an end"
    with closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


def hold_deploy(folder: EndpointFolder): return folder.lock("deploy")
def hold_state(folder: EndpointFolder): return folder.lock("state")
def hold_release(folder: EndpointFolder): return lock_endpoint(folder.root, folder.name)
def hold_gc(folder: EndpointFolder): return lock(Project(folder.root).lock("gc"))
def hold_events(folder: EndpointFolder): return held(Project(folder.root).events_db)
def hold_jobs(folder: EndpointFolder): return held(Project(folder.root).workspace_db)


RELEASE = ("release", "--version", "1", "--approve-as", "Ada", "--rollout", "waits/rollout.yml", "--endpoint-file",
           "waits/endpoint.yml", "--deployment-file", "waits/good.yml")
WAITS: dict[str, tuple[Callable, tuple[str, ...]]] = {      # what is held, and the command that waits for it
    "endpoint start": (hold_deploy, ("endpoint", "start", "echo")),
    "deploy": (hold_deploy, ("deploy", "--endpoint", "endpoint.yml", "--deployment", "deployment.yml")),
    "endpoint traffic": (hold_state, ("endpoint", "traffic", "echo", "blue=100")),
    "endpoint keys": (hold_state, ("endpoint", "keys", "echo", "--regenerate", "primary")),
    "endpoint delete": (hold_state, ("endpoint", "delete", "echo", "blue")),
    "release": (hold_release, RELEASE),
    "rollback": (hold_release, ("rollback", "echo")),
    "gc": (hold_gc, ("gc",)),
    "events handle": (hold_events, ("events", "handle", "event.json")),
    "run": (hold_jobs, ("run", "pipeline.yml")),
    "jobs": (hold_jobs, ("cancel", "waiting"))}
PIPELINE = """type: pipeline
jobs:
  wait: {type: command, component: {type: command, environment: "azureml:any@latest", command: sleep 600}}
"""


@pytest.fixture(scope="module")
def folder(serving) -> EndpointFolder:
    "The endpoint `echo`, and what the commands need"
    from tests.support.releasing import make_files
    make_files(serving.root / "waits")
    for name in ("endpoint", "good"):
        file = serving.root / f"waits/{name}.yml"
        file.write_text(file.read_text().replace("canary", "echo"))
    (serving.root / "pipeline.yml").write_text(PIPELINE)
    (serving.root / "event.json").write_text('{"type": "weather"}')
    with outbox(serving.root): pass
    workspace = Workspace(serving.root)
    workspace.db.execute("INSERT OR IGNORE INTO jobs (id, status, file) VALUES ('waiting', 'Completed', 'x.yml')")
    workspace.db.close()
    return EndpointFolder(serving.root, "echo")


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_a_command_that_waits_for_another_one(folder, name):
    hold, words = WAITS[name]
    before = folder.state, [build.name for build in sorted((folder.path / "deployments").glob("*/*"))]
    with hold(folder):
        command = Command(folder.root, "mlops_nb", *words)  # after the lock was taken, which changes its file too
        until(lambda: command.sleeps)
        said = command.interrupt()
    assert said == f"stopped by Ctrl-C{'; the same command goes on' if name == 'release' else ''}\n"
    assert (folder.state, [build.name for build in sorted((folder.path / "deployments").glob("*/*"))]) == before
    assert all(release.over or release.status == "Held" for release in list_releases(folder.root))


def is_pending(pid: int, number: int) -> bool:
    "Whether a process that is stopped will get a signal"
    waiting = re.search(r"ShdPnd:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(waiting and int(waiting[1], 16) >> (number - 1) & 1)


def test_ctrl_c_ends_the_wait_for_a_host_that_does_not_end(folder, serving):
    from tests.support.serving import Client
    os.kill(host := folder.host.pid, signal.SIGSTOP)
    try:
        command = Command(folder.root, "mlops_nb", "endpoint", "stop", "echo")
        until(lambda: is_pending(host, signal.SIGTERM))
        assert command.interrupt() == "stopped by Ctrl-C\n"
    finally: os.kill(host, signal.SIGCONT)
    until(lambda: not folder.host.pid)      # it was told to end, and does so when it can
    serving.start("echo")
    assert Client(serving, "echo")([{"p": 0.5}])[0] == 200


def test_ctrl_c_ends_a_run_and_who_follows_it(folder):
    workspace = Workspace(folder.root)
    def running() -> list: return workspace.rows("SELECT id FROM jobs WHERE status = 'Running'")
    run = Command(folder.root, "mlops_nb", "run", "pipeline.yml", "--json")
    (job,) = until(running)
    log = workspace.step_folder(job["id"], "wait") / "std_log.txt"
    until(log.exists)
    follower = Command(folder.root, "mlops_nb", "logs", job["id"], "wait", "--follow")
    until(lambda: follower.sleeps)
    assert follower.interrupt() == "stopped by Ctrl-C\n"
    run.interrupt()
    assert workspace.rows("SELECT status FROM jobs WHERE id = ?", job["id"]) == [{"status": "Canceled"}]


def test_ctrl_c_is_how_a_watch_and_a_host_end(folder, serving):
    "They have no end of their own: the code is 0, and whatever they started ends as well"
    serving.stop("echo")
    watch = Command(folder.root, "mlops_nb", "watch", "--every", "600", "--no-tower")
    until(lambda: "watching" in (watch.process.stdout.readline() if watch.process.stdout else ""))
    watch.interrupt(0)
    with ExitStack() as stack:
        stack.callback(serving.start, "echo")
        host = Command(folder.root, "mlops_nb.serving.host", str(folder.root), "echo")
        def blue() -> str: return folder.status["deployments"].get("blue", {}).get("state", "")
        until(lambda: folder.status.get("pid") == host.process.pid and blue() == "Ready")
        host.process.send_signal(signal.SIGINT)
        out, said = host.process.communicate(timeout=60)
        assert host.process.returncode == 0 and "Traceback" not in said, said
        until(lambda: not find_marked(host.mark))


def test_ctrl_c_ends_a_retraining_with_the_command_that_asked_for_it(folder):
    "The signal comes to the asking process alone, as from an editor or `kill`"
    (folder.root / "asking.py").write_text(
        "import sys\nfrom pathlib import Path\nfrom mlops_nb.retraining.retraining import run_job\n"
        "try: run_job(Path.cwd(), Path('pipeline.yml'), {})\n"
        "except KeyboardInterrupt: sys.exit(130)\n")
    workspace = Workspace(folder.root)
    def running() -> list: return workspace.rows("SELECT id FROM jobs WHERE status = 'Running'")
    asking = Command(folder.root, "asking")
    (job,) = until(running)
    until((workspace.step_folder(job["id"], "wait") / "std_log.txt").exists)
    asking.interrupt()
    assert workspace.rows("SELECT status FROM jobs WHERE id = ?", job["id"]) == [{"status": "Canceled"}]
