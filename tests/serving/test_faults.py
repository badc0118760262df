"What callers get wrong, what a machine does to an endpoint, and that it comes back by itself"
import gzip
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.files import lock
from mlops_nb.serving.host import Supervisor, restart_delay
from mlops_nb.serving.state import EndpointFolder

from tests.support.serving import Client, until

GOOD = b'[{"p": 0.5}]'


@pytest.fixture
def echo(serving):
    "A client of the endpoint `echo`, with all traffic on blue"
    client = Client(serving, "echo")
    assert client([{}])[0] == 200
    return client


def host_of(serving) -> EndpointFolder: return EndpointFolder(serving.root, "echo")


def talk(client: Client, data: bytes, half: bool = False, wait: float = 60) -> bytes:
    "Send bytes as they are, and return all that comes back"
    with socket.create_connection(("127.0.0.1", client.address.port), timeout=wait) as link:
        link.sendall(data)
        if half: link.shutdown(socket.SHUT_WR)
        answer = b""
        while part := link.recv(65536): answer += part
        return answer


def post(client: Client, body: bytes, *headers: bytes, length: int | None = None, host: bytes = b"localhost",
         key: bytes | None = None) -> bytes:
    "A request as bytes, after which the connection closes"
    key = client.key.encode() if key is None else key
    lines = [b"POST /score HTTP/1.1", b"Host: " + host, b"Connection: close", b"Content-Type: application/json",
             b"Authorization: Bearer " + key, *headers]
    if not any(line.startswith(b"Transfer-Encoding") for line in headers):
        lines.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def split(index) -> bytes:
    return json.dumps({"input_data": {"columns": ["p"], "index": index, "data": [[0.5]]}}).encode()


PACKED = gzip.compress(GOOD)
MISTAKES = {
    "an index that is a number": (400, dict(body=split(5))),
    "an index that is null": (400, dict(body=split(None))),
    "an index that is a record": (400, dict(body=split({"a": 1}))),
    "key bytes that are no UTF-8": (401, dict(body=GOOD, key=b"\xff\xfe")),
    "id bytes that are no UTF-8": (400, dict(body=GOOD, headers=[b"x-request-id: \xff"])),
    "broken gzip": (400, dict(body=b"no gzip", headers=[b"Content-Encoding: gzip"])),
    "gzip that breaks off": (400, dict(body=PACKED[:-9], headers=[b"Content-Encoding: gzip"])),
    "broken deflate": (400, dict(body=PACKED, headers=[b"Content-Encoding: deflate"])),
    "a compression that is not known": (415, dict(body=GOOD, headers=[b"Content-Encoding: br"])),
    "a bomb": (413, dict(body=gzip.compress(b" " * 2**25), headers=[b"Content-Encoding: gzip"])),
    "half a surrogate": (400, dict(body=rb'[{"p": 0.5, "name": "\ud800"}]')),
    "half a surrogate in a name": (400, dict(body=rb'[{"p": 0.5, "\uDC00": 1}]')),
    "a body that is cut short": (400, dict(body=GOOD, length=99)),
    "a chunk that is none": (400, dict(body=b"zz\r\n", headers=[b"Transfer-Encoding: chunked"])),
    "a name of a stranger without a key": (421, dict(body=GOOD, host=b"evil.example", key=b"")),
    "too deep and large": (400, dict(body=b"[" * 200_000 + b"]" * 200_000)),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_callers_mistake_is_a_4xx_without_a_traceback(serving, echo, name):
    status, made = MISTAKES[name]
    log = host_of(serving).path / "host.log"
    before = log.read_text().count("Traceback")
    answer = talk(echo, post(echo, made.pop("body"), *made.pop("headers", []), **made), half="cut" in name)
    assert answer[:13] in (b"HTTP/1.1 %d " % status, b"HTTP/1.0 %d " % status), answer[:300]
    assert log.read_text().count("Traceback") == before and echo([{}])[0] == 200


@pytest.mark.parametrize("body", [PACKED, gzip.compress(GOOD, 0)], ids=["packed", "stored"])
def test_what_is_well_compressed_is_answered(echo, body):
    assert talk(echo, post(echo, body, b"Content-Encoding: gzip")).startswith(b"HTTP/1.1 200 ")


def test_a_whole_pair_of_surrogates_is_text(echo):
    assert echo(rb'[{"p": 0.5, "name": "\ud83d\udeeb"}]')[0] == 200


def test_who_closes_its_side_gets_the_answer_and_a_key_opens_under_any_name(serving, echo):
    ask = post(echo, GOOD, b"x-request-id: half", host=b"proxy.example").replace(b"Connection: close\r\n", b"")
    assert talk(echo, ask, half=True).startswith(b"HTTP/1.1 200 ")
    assert [e["status"] for e in serving.events("echo") if e["request_id"] == "half"] == [200]
    assert talk(echo, b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 421")
    assert echo(None, path="/health", method="GET", Authorization=None)[0] == 200


def test_a_held_lock_of_the_state_stops_no_request(serving, echo):
    folder = host_of(serving)
    with lock(folder.path / "state.lock"):
        folder.host.signal()
        assert [echo([{}])[0] for _ in range(20)] == [200] * 20
        assert echo(None, path="/", method="GET")[0] == 200
    with lock(folder.path / "state.lock"), pytest.raises(UserError, match="state.lock is held by another command"):
        with folder.change(timeout=0): pass


def test_a_large_body_is_read_beside_the_host_which_outlives_its_reader(serving, echo):
    body = b"[" + b"[[[[[[[[]]]]]]]]," * (2**21 // 17) + b"[]]"
    assert echo(body)[0] in (400, 500)      # the script takes no lists
    host = host_of(serving).host.pid
    def readers():
        children = Path(f"/proc/{host}/task/{host}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    for pid in readers(): os.kill(pid, signal.SIGKILL)
    rows = [{"p": 0.5, "filler": "x" * 100}] * 2000
    assert echo(rows)[0] == 200 and readers()
    assert multiprocessing.active_children() == []


def test_a_stopped_process_is_told_by_who_asks(serving, echo):
    pid = serving.show("echo").deployments["blue"].pid
    os.killpg(pid, signal.SIGSTOP)
    try:
        shown = serving.show("echo").deployments["blue"]
        assert shown.state == "Unresponsive" and "no answer within 2 s" in shown.why
        assert echo(None, path="/health", method="GET")[0] == 503
    finally: os.killpg(pid, signal.SIGCONT)
    assert until(lambda: serving.show("echo").deployments["blue"].state == "Ready")


def test_a_stopped_host_is_told_by_who_asks(serving, echo):
    pid = host_of(serving).host.pid
    os.kill(pid, signal.SIGSTOP)
    try: assert not serving.show("echo").answers and serving.show("echo").running
    finally: os.kill(pid, signal.SIGCONT)
    assert until(lambda: serving.show("echo").answers)


def test_a_worker_that_dies_on_a_full_disk_comes_back(serving, echo):
    host, before = host_of(serving).host.pid, serving.show("echo").deployments["blue"]
    def limit(soft): subprocess.run(["prlimit", "--pid", str(host), f"--fsize={soft}:unlimited"], check=True)
    limit(1)                            # every write of the host fails, as on a full disk
    try:
        os.kill(before.pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{before.pid}").exists() and echo([{}])[0] == 503)
    finally: limit("unlimited")
    until(lambda: echo([{}])[0] == 200)
    def back(now): return now.pid != before.pid and now.state == "Ready" and now    # The host tells it after the answer
    after = until(lambda: back(serving.show("echo").deployments["blue"]))
    assert after.restarts > before.restarts
    assert until(lambda: host_of(serving).status["failures"]["the status"]["count"])


def test_a_damaged_state_stops_nothing_and_is_followed_again_when_it_is_whole(serving, echo):
    folder = host_of(serving)
    file, text = folder.path / "state.json", (folder.path / "state.json").read_text()
    file.write_text(text[:-20])
    try:
        folder.host.signal()
        failures = until(lambda: folder.status.get("failures", {}).get("the state"))
        assert "is damaged" in failures["last"] and echo([{}])[0] == 200
        with pytest.raises(UserError, match="the file is damaged"): serving.list()
    finally: file.write_text(text)
    serving.keys("echo", regenerate="secondary")    # waits until the host has followed


def test_places_are_limited_while_a_deployment_starts_again(serving, echo):
    from concurrent.futures import ThreadPoolExecutor
    folder = host_of(serving)
    script = next(folder.path.glob("deployments/blue/*/code/score.py"))
    text = script.read_text()
    script.write_text("raise RuntimeError('not yet')")
    try:
        os.kill(serving.show("echo").deployments["blue"].pid, signal.SIGKILL)
        until(lambda: folder.status["deployments"]["blue"]["state"] != "Ready")
        with ThreadPoolExecutor(40) as pool:
            waiting = [pool.submit(Client(serving, "echo"), [{}]) for _ in range(40)]
            until(lambda: sum(one.done() for one in waiting) >= 24)     # 8 at a time, and as many again may wait
            assert {one.result()[0] for one in waiting if one.done()} == {429}
            script.write_text(text)
            assert sorted(one.result()[0] for one in waiting) == [200] * 16 + [429] * 24
    finally: script.write_text(text)


def test_pauses_grow_after_a_long_good_life(serving, echo):
    from mlops_nb.serving.host import InferenceServer
    from mlops_nb.serving.router import Bodies, Intake, Reader
    from mlops_nb.serving.specification import Spec

    class Broken(InferenceServer):
        "Served for an hour, and cannot start any more"
        async def wait(self): return
        async def up(self):
            self.move("Failed")
            return False

    import asyncio
    pauses: list[float] = []
    server = Broken(host_of(serving), Spec("blue", "m", "1", "", "none", "score.py"), "", Intake(Reader(), Bodies()), 0)
    assert server.move("Ready")
    server.since = time.monotonic() - 3600
    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 9: server.state = "Deleting"
    real, asyncio.sleep = asyncio.sleep, sleep
    try: asyncio.run(server.stay_up(lambda: None))
    finally: asyncio.sleep = real
    assert pauses == [restart_delay(number) for number in range(1, 10)] and pauses[-1] == 30


def test_a_supervisor_counts_and_goes_on(caplog):
    import asyncio

    from mlops_nb.serving import host
    tries: list[int] = []
    async def work():
        tries.append(len(tries))
        if len(tries) < 4: raise [OSError(24, "Too many open files"), RuntimeError("?"), KeyError("x")][len(tries) - 1]
    async def main():
        supervisor = Supervisor()
        supervisor.start("the work", work)
        while supervisor.tasks: await asyncio.sleep(0.01)
        return supervisor.failures["the work"]
    real, host.restart_delay = host.restart_delay, lambda tries: 0.0
    try: found = asyncio.run(main())
    finally: host.restart_delay = real
    assert (found.count, found.last) == (3, "KeyError: 'x'") and len(tries) == 4
