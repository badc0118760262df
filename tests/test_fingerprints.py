"fingerprints: a change that hides is seen, what is no file is named, and nothing hangs"
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlops_nb import fingerprints
from mlops_nb.errors import UserError
from mlops_nb.fingerprints import Memory, changed, files, fingerprint, snapshot

from tests.support.rights import bound_by_permissions


@pytest.fixture
def memory():
    memory = Memory(sqlite3.connect(":memory:"))
    memory.settled = -1     # trust what was just written: the stamp alone has to tell
    return memory


def rewrite(path: Path, text: str):
    "Change a file in place and put its time of change back, as `rsync --inplace --times` does"
    old = path.stat()
    with open(path, "r+") as file: file.write(text)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size and path.stat().st_mtime_ns == old.st_mtime_ns


def test_a_change_with_size_and_time_put_back_is_seen(tmp_path, memory):
    (tmp_path/"a").write_text("aaaa")
    first, before = fingerprint(tmp_path, memory), snapshot(tmp_path)
    rewrite(tmp_path/"a", "bbbb")
    assert fingerprint(tmp_path, memory) != first
    assert changed(before, snapshot(tmp_path)) == [str(tmp_path/"a")]


def test_what_is_unchanged_is_not_read_again(tmp_path, memory):
    for name in "abc": (tmp_path/name).write_text(name)
    first = fingerprint(tmp_path, memory)
    assert (fingerprint(tmp_path, memory), memory.reads) == (first, 3)


def test_a_fresh_file_is_not_trusted(tmp_path):
    memory = Memory(sqlite3.connect(":memory:"))
    (tmp_path/"a").write_text("aaaa")
    os.utime(tmp_path/"a", (0, 0))     # an old time of change proves nothing
    for _ in range(2): fingerprint(tmp_path, memory)
    assert memory.reads == 2


def test_a_file_that_changes_while_it_is_read_has_no_hash(tmp_path, memory, monkeypatch):
    path = tmp_path/"a"
    path.write_text("aaaa")
    real = fingerprints.hash_file

    def slowly(path):
        found = real(path)
        rewrite(path, "bbbb")
        return found
    monkeypatch.setattr(fingerprints, "hash_file", slowly)
    with pytest.raises(UserError, match="changes while it is read"): memory.hash(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to itself", "link to nowhere"])
def test_what_is_no_file_is_named(tmp_path, memory, kind):
    odd = tmp_path/"odd"
    if kind == "pipe": os.mkfifo(odd)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(tmp_path)     # a socket's path has 107 bytes at most
        try: socket.socket(socket.AF_UNIX).bind("odd")
        finally: os.chdir(here)
    else: odd.symlink_to(odd if kind == "link to itself" else tmp_path/"nowhere")
    with pytest.raises(UserError, match="odd (is no file but a|cannot be read|does not exist)"):
        fingerprint(tmp_path, memory)


def test_a_linked_folder_counts_and_its_removal_too(tmp_path, memory):
    shared, data = tmp_path/"shared", tmp_path/"data"
    (shared/"x").mkdir(parents=True)
    data.mkdir()
    (shared/"x"/"a").write_text("a")
    prints = [fingerprint(data, memory)]
    for name in ("one", "two"):
        (data/name).symlink_to(shared)
        prints.append(fingerprint(data, memory))
    (shared/"x"/"a").write_text("b")
    prints.append(fingerprint(data, memory))
    assert len({*prints}) == 4


def test_links_that_lead_up_end(tmp_path, memory):
    for name in "abcdef": (tmp_path/name).mkdir()
    for one in "abcdef":
        (tmp_path/one/"f").write_text(one)
        for other in "abcdef": (tmp_path/one/f"to-{other}").symlink_to(tmp_path/other)
    assert len([*files(tmp_path)]) == 6 + 36     # each folder once, and each link to it named
    assert fingerprint(tmp_path, memory) == fingerprint(tmp_path, memory)


def test_names_that_are_not_utf8(tmp_path, memory):
    for name in (b"caf\xe9", b"caf\xe8"): Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_text("x")
    first = fingerprint(tmp_path, memory)
    assert (fingerprint(tmp_path, memory), memory.reads) == (first, 2)


FINGERPRINT = """import pathlib, sqlite3, sys
from mlops_nb.fingerprints import Memory, fingerprint
fingerprint(pathlib.Path(sys.argv[1]), Memory(sqlite3.connect(":memory:")))
"""


@pytest.mark.skipif(
    os.geteuid() == 0 and sys.platform != "linux",
    reason="root lists every folder, and only Linux can take that from it: run the tests as another user",
)
def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path):
    (tmp_path/"closed").mkdir(mode=0)
    done = subprocess.run([sys.executable, "-c", FINGERPRINT, str(tmp_path)], capture_output=True, text=True,
                          preexec_fn=bound_by_permissions)
    assert done.returncode == 1 and "UserError" in done.stderr and "cannot be read" in done.stderr


def test_a_file_that_gets_shorter_while_it_is_hashed_kills_nobody(tmp_path):
    path, stop = tmp_path/"a", threading.Event()

    def shake():
        while not stop.is_set():
            with open(path, "r+b") as file:
                file.truncate(0)
                file.truncate(64 << 20)
    path.write_bytes(b"x")
    worker = threading.Thread(target=shake)
    worker.start()
    try:
        for _ in range(20): assert len(fingerprints.hash_file(path)) == 64
    finally:
        stop.set()
        worker.join()
