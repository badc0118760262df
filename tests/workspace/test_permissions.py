"What the local workspace keeps is its owner's alone, as a second user of the machine finds it"
import os
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from mlops_nb.files import inheritable_lock, lock
from mlops_nb.project import Project
from mlops_nb.retraining.events import outbox
from mlops_nb.retraining.watch import Ticks
from mlops_nb.serving.state import EndpointFolder, read_keys
from mlops_nb.workspace.workspace import Workspace


@pytest.fixture
def open_folder():
    "A folder that every user of the machine may enter"
    folder = Path(tempfile.mkdtemp(prefix="mlops-nb-open-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def begin_workspace(root: Path): Workspace(root).db.close()


def begin_outbox(root: Path):
    with outbox(root): pass


def begin_watch(root: Path): closing(Ticks(root)).__exit__()


def begin_endpoint(root: Path):
    with EndpointFolder(root, "echo").change(): pass


@pytest.mark.parametrize("begin", [begin_workspace, begin_outbox, begin_watch, begin_endpoint])
@pytest.mark.parametrize("before", [None, 0o755])
def test_whoever_begins_it_makes_it_the_owners(open_folder, begin, before):
    local = Project(open_folder).local
    if before: local.mkdir(before)
    begin(open_folder)
    assert local.stat().st_mode & 0o777 == 0o700


def test_locks_are_the_owners(open_folder):
    with lock(open_folder / "a.lock"), inheritable_lock(open_folder / "b.lock"):
        assert [(open_folder / name).stat().st_mode & 0o777 for name in ("a.lock", "b.lock")] == [0o600] * 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0 or not shutil.which("setpriv"),
                    reason="to become a second user takes root, and setpriv of util-linux")
def test_a_second_user_reads_and_locks_nothing(open_folder):
    folder = EndpointFolder(open_folder, "echo")
    read_keys(folder)
    with folder.change(): pass
    def as_nobody(*words) -> int:
        return subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *words],
                              capture_output=True).returncode
    assert as_nobody("ls", str(open_folder)) == 0
    folder.root.joinpath(".mlops").chmod(0o755)     # even where somebody has opened the folder
    for name in ("keys.json", "state.lock"): assert as_nobody("cat", str(folder.path / name)) != 0
    folder.root.joinpath(".mlops").chmod(0o700)
    assert as_nobody("ls", str(folder.path)) != 0
