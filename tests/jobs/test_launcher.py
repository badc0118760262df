"The launcher and the runner, when there is more to say than a socket holds"
import os
from pathlib import Path

import pytest

from mlops_nb.jobs.launcher import LauncherClient


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
