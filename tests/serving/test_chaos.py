"Faults at random under load: afterwards everything serves again without a person, and every answer is written down"
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mlops_nb.serving.state import EndpointFolder

from tests.support.clock import STEPS, Clock
from tests.support.serving import Client, Load, until

SECONDS = int(os.environ.get("CHAOS_SECONDS", "1800"))  # of the long one

ANSWERS = {200, 408, 429, 502, 503}     # what a caller may get while something is broken


class Chaos:
    "An endpoint of its own, and what can be done to it"
    def __init__(self, serving, clock: Clock, monkeypatch):
        self.serving, self.folder, self.clock = serving, EndpointFolder(serving.root, "chaos"), clock
        for name, changes in (("endpoint", {"name: echo": "name: chaos"}),
                              ("deployment", {"endpoint_name: echo": "endpoint_name: chaos", "60000": "3000"})):
            text = (serving.root / f"{name}.yml").read_text()
            for old, new in changes.items(): text = text.replace(old, new)
            (serving.root / f"chaos-{name}.yml").write_text(text)
        with monkeypatch.context() as around:
            for name, value in clock.variables.items(): around.setenv(name, value)
            serving.deploy(serving.root / "chaos-endpoint.yml", serving.root / "chaos-deployment.yml")
        self.call, self.host = Client(serving, "chaos"), self.folder.host.pid
        self.load: Load | None = None

    @property
    def worker(self) -> int:
        "The process of the deployment, when there is one"
        return until(lambda: self.folder.status["deployments"]["blue"]["pid"])

    def limit(self, what: str, soft: object):
        "Set a soft limit of the host"
        subprocess.run(["prlimit", "--pid", str(self.host), f"--{what}={soft}:"], check=True)

    def replies(self, count: int):
        "Let callers get so many more answers, or refusals of a connection"
        assert self.load
        aim = len(self.load.replies) + len(self.load.errors) + count
        until(lambda: len(self.load.replies) + len(self.load.errors) >= aim)

    def kill(self): os.killpg(self.worker, signal.SIGKILL)

    def kill_one(self):
        "One process of the group, which its own supervisor replaces"
        children = Path(f"/proc/{self.worker}/task/{self.worker}/children").read_text().split()
        for pid in children[:1]: os.kill(int(pid), signal.SIGKILL)

    def stop(self):
        "The whole group, for good: the host has to find out"
        restarts = self.folder.status["deployments"]["blue"]["restarts"]
        os.killpg(self.worker, signal.SIGSTOP)
        until(lambda: self.folder.status["deployments"]["blue"]["restarts"] > restarts, seconds=120)

    def stop_host(self):
        os.kill(self.host, signal.SIGSTOP)
        try: assert not self.serving.show("chaos").answers
        finally: os.kill(self.host, signal.SIGCONT)

    def fill_disk(self):
        "Nothing can be written, and meanwhile the worker dies"
        self.limit("fsize", 1)
        try:
            self.kill()
            self.replies(20)
        finally: self.limit("fsize", "unlimited")

    def take_descriptors(self):
        "No file or connection can be opened, and meanwhile the worker dies"
        self.limit("nofile", len(os.listdir(f"/proc/{self.host}/fd")))
        try:
            self.kill()
            self.replies(20)
        finally: self.limit("nofile", 4096)

    def damage_state(self):
        "The state cannot be read when the host is asked to look"
        file, text = self.folder.path / "state.json", (self.folder.path / "state.json").read_text()
        file.write_text(text[: len(text) // 2])
        self.folder.host.signal()
        self.replies(20)
        file.write_text(text)

    def step_clock(self):
        "It is minutes, an hour or a year later or earlier, and meanwhile the worker dies"
        self.clock.step(random.choice(STEPS))
        self.kill()
        self.replies(20)

    def serves(self) -> bool:
        "Is all well, asked from outside?"
        try: return self.call(None, path="/health", method="GET")[0] == self.call([{"p": 0.5}])[0] == 200
        except OSError: return False


FAULTS: list[Callable[[Chaos], None]] = [Chaos.kill, Chaos.kill_one, Chaos.stop, Chaos.stop_host, Chaos.fill_disk,
                                         Chaos.take_descriptors, Chaos.damage_state, Chaos.step_clock]
WEIGHTS = (6, 6, 1, 3, 3, 3, 3, 3)


@pytest.fixture
def chaos(serving, tmp_path, monkeypatch) -> Iterator[Chaos]:
    yield Chaos(serving, Clock(tmp_path), monkeypatch)
    serving.stop("chaos")


def wreak(chaos: Chaos, faults: Iterable[Callable[[Chaos], None]]):
    "Inject faults under load, one after the other, and wait after each until the endpoint serves again"
    injected = Counter[str]()
    with Load(chaos.call, threads=4) as chaos.load:
        for fault in faults:
            chaos.replies(20)
            fault(chaos)
            until(chaos.serves, seconds=120)
            injected[fault.__name__] += 1
    assert {status for status, _, _ in chaos.load.replies} <= ANSWERS
    written = {event["request_id"] for event in chaos.serving.events("chaos") if event["status"] == 200}
    assert {id for status, id, _ in chaos.load.replies if status == 200} <= written
    assert chaos.folder.host.pid == chaos.host, "the same host has lived through all of it"
    shown = chaos.serving.show("chaos")
    assert shown.answers and shown.deployments["blue"].state == "Ready"
    print(f"{injected.total()} faults, {len(chaos.load.replies)} answers: {dict(injected)}")  # shown by pytest -s


def test_an_endpoint_comes_back_after_every_kind_of_fault(chaos):
    wreak(chaos, random.Random(0).sample(FAULTS, len(FAULTS)))


def at_random(seconds: float) -> Iterator[Callable[[Chaos], None]]:
    "Faults until so much time has passed"
    end = time.monotonic() + seconds
    while time.monotonic() < end: yield from random.choices(FAULTS, WEIGHTS)


@pytest.mark.long
def test_an_endpoint_comes_back_after_half_an_hour_of_faults(chaos): wreak(chaos, at_random(SECONDS))
