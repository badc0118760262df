"The life of a deployment: any order of commands, starts that fail and kills, with a crash between any two writes"
import asyncio
import itertools
import os
import tempfile
import threading
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlops_nb.files import lock
from mlops_nb.serving import host, state
from mlops_nb.serving.host import MOVES, Deployments, InferenceServer, Supervisor
from mlops_nb.serving.router import Bodies, Intake, Reader, Traffic
from mlops_nb.serving.specification import Spec
from mlops_nb.serving.state import EMPTY_STATE, EndpointFolder, HostLock

SPEC = Spec(name="blue", build="0", model="m", version="1", digest="d", script="score.py", workers=1, concurrency=1,
            timeout_ms=5000)


class Crash(BaseException):
    "The command dies here"


class Worker:
    "A process of which the test says when it is ready, cannot start, or dies"
    pid = 1

    def __init__(self): self.running, self.ready, self.told, self.ended = False, False, asyncio.Event(), asyncio.Event()

    async def start(self):
        self.kill()
        await asyncio.sleep(0)  # a process is not there at once
        self.running, self.ready, self.told, self.ended = True, False, asyncio.Event(), asyncio.Event()

    async def wait(self): await self.ended.wait()
    async def stop(self): self.kill()

    def kill(self):
        self.running = False
        self.told.set()
        self.ended.set()


class Server(InferenceServer):
    "An inference server without a process"
    def __init__(self, folder, spec):
        super().__init__(folder, spec, "", Intake(Reader(), Bodies()), 0)
        self.worker: Any = Worker()
        self.states = [self.state]

    async def is_healthy(self):
        await self.worker.told.wait()
        return self.worker.running and self.worker.ready

    async def wait(self): await self.worker.wait()

    def move(self, state, why=""):
        moved = super().move(state, why)
        if moved: self.states.append(state)
        return moved


class Host:
    "The part of a host that runs deployments; `kill` leaves nothing of it but the files"
    def __init__(self, folder):
        self.folder, self.servers, self.supervisor = folder, [], Supervisor()
        self.deployments = Deployments(folder, self, Traffic(None), self.supervisor, lambda: None,
                                       self.reload)

    def make(self, spec):
        self.servers.append(Server(self.folder, spec))
        return self.servers[-1]

    def reload(self): self.deployments.apply({**deepcopy(EMPTY_STATE), **self.folder.state})


async def in_this_thread(work, *given):
    "As `asyncio.to_thread`, in an order that hypothesis can repeat"
    await asyncio.sleep(0)
    return work(*given)


class Life(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.home, self.patch, self.loop = tempfile.TemporaryDirectory(), pytest.MonkeyPatch(), asyncio.new_event_loop()
        self.folder, self.numbers, self.left = EndpointFolder(self.home.name, "life"), itertools.count(1), None
        self.patch.setattr(host, "restart_delay", lambda restarts: 0.0)
        self.patch.setattr(host.asyncio, "to_thread", in_this_thread)
        write = state.write_whole
        def write_or_die(*given, **named):
            if self.left == 0: raise Crash
            write(*given, **named)
            if self.left == 1: raise Crash
        self.patch.setattr(state, "write_whole", write_or_die)
        self.host, self.heard = self.run(self.new_host()), False

    async def new_host(self): return Host(self.folder)

    def teardown(self):
        self.kill()
        self.loop.close()
        self.patch.undo()
        self.home.cleanup()

    def run(self, work): return self.loop.run_until_complete(work)

    def settle(self):
        "Let the host do what it can do by itself"
        async def pause():
            for _ in range(30): await asyncio.sleep(0)
        self.run(pause())

    def command(self, crash, change):
        "A command that changes the state, or dies before or after its write; the host may hear of it or not"
        self.left = crash
        with suppress(Crash), self.folder.change() as found: change(found)
        self.left, self.heard = None, False

    @rule(name=st.sampled_from(["blue", "green"]), crash=st.sampled_from([None, None, None, 0, 1]),
          traffic=st.booleans())
    def deploy(self, name, crash, traffic):
        spec = replace(SPEC, name=name, build=str(next(self.numbers)))
        (self.folder.path / "deployments" / name / spec.build).mkdir(parents=True)
        def change(found):
            found["deployments"][name] = asdict(spec)
            if traffic: found["traffic"] = {name: 100}
        self.command(crash, change)

    @rule(name=st.sampled_from(["blue", "green"]), crash=st.sampled_from([None, None, 0, 1]))
    def delete(self, name, crash):
        def change(found):
            found["deployments"].pop(name, None)
            found["traffic"].pop(name, None)
        self.command(crash, change)

    @rule()
    def signal(self):
        self.run(self.act(self.host.reload))
        self.heard = True

    async def act(self, work): work()

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), ready=st.booleans())
    def answer(self, data, ready):
        "A process that was started gets ready, or ends"
        server = data.draw(st.sampled_from(self.waiting()))
        def work():
            server.worker.ready = ready
            if ready: server.worker.told.set()
            else: server.worker.kill()
        self.run(self.act(work))

    @precondition(lambda self: self.host.servers)
    @rule(data=st.data())
    def die(self, data): self.run(self.act(data.draw(st.sampled_from(self.host.servers)).worker.kill))

    @rule()
    def step(self): self.settle()

    @rule()
    def kill_the_host(self):
        "kill -9, and a new one"
        self.kill()
        self.host = self.run(self.new_host())
        self.signal()

    def kill(self): self.run(self.host.supervisor.end())

    @rule()
    def rest(self):
        "The host hears of the state, and whatever is asked for can start: then it is what runs, and nothing else"
        if not self.heard: self.signal()
        for _ in range(20):
            self.settle()
            for server in self.waiting():
                server.worker.ready = True
                self.run(self.act(server.worker.told.set))
            self.settle()
            if not self.waiting() and not self.host.deployments.coming: break
        wanted = {name: spec["build"] for name, spec in self.folder.state.get("deployments", {}).items()}
        live = self.host.deployments.live
        assert {name: server.spec.build for name, server in live.items()} == wanted
        assert {name: server.state for name, server in live.items()} == dict.fromkeys(wanted, "Ready")
        others = [server for server in self.host.servers if server not in live.values()]
        assert not any(server.worker.running for server in others), "a process that nobody knows of"

    def waiting(self):
        return [server for server in self.host.servers if server.worker.running and not server.worker.told.is_set()]

    @invariant()
    def moves_are_those_of_the_table(self):
        for server in self.host.servers:
            assert all(after in MOVES[before] for before, after in itertools.pairwise(server.states))

    @invariant()
    def requests_go_to_what_is_live_and_wait_for_what_is_not_ready(self):
        deployments = self.host.deployments
        assert deployments.traffic.targets == {name: server.target for name, server in deployments.live.items()}
        for server in deployments.live.values(): assert server.target.ready.is_set() == (server.state == "Ready")
        assert not self.host.supervisor.failures


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None,
                                  suppress_health_check=[*HealthCheck])     # a busy machine is no finding
TestLife = Life.TestCase


def test_a_look_does_not_refuse_a_host_that_starts(tmp_path):
    "The file names a process id that somebody else got meanwhile, and a status query holds its lock just then"
    (tmp_path / "host.lock").write_text(str(os.getpid()))
    looker, held, enough = HostLock(tmp_path / "host.lock"), threading.Event(), threading.Event()
    def look():
        with lock(looker.alive, timeout=0):
            held.set()
            enough.wait()
    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    threading.Timer(0.1, enough.set).start()
    with HostLock(tmp_path / "host.lock").hold(0) as mine: assert mine and looker.pid == os.getpid()
    thread.join()
    assert looker.pid is None


def test_two_new_endpoints_of_one_process_share_nothing(tmp_path):
    "The second one was begun with the deployments of the first"
    for name in ("first", "second"):
        with EndpointFolder(tmp_path, name).change() as found: found["deployments"][f"of-{name}"] = asdict(SPEC)
    assert [*EndpointFolder(tmp_path, "second").state["deployments"]] == ["of-second"]
