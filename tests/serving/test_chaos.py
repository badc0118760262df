"Faults at random under load: afterwards everything serves again without a person, and every answer is written down"
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_nb.serving.state import EndpointFolder

from tests.support.serving import Client, Load, until

ANSWERS = {200, 408, 429, 502, 503}     # what a caller may get while something is broken


class Chaos:
    "An endpoint of its own, and what can be done to it"
    def __init__(self, serving):
        self.serving, self.folder = serving, EndpointFolder(serving.root, "chaos")
        for name, changes in (("endpoint", {"name: echo": "name: chaos"}),
                              ("deployment", {"endpoint_name: echo": "endpoint_name: chaos", "60000": "3000"})):
            text = (serving.root / f"{name}.yml").read_text()
            for old, new in changes.items(): text = text.replace(old, new)
            (serving.root / f"chaos-{name}.yml").write_text(text)
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

    def serves(self) -> bool:
        "Is all well, asked from outside?"
        try: return self.call(None, path="/health", method="GET")[0] == self.call([{"p": 0.5}])[0] == 200
        except OSError: return False


FAULTS: list[Callable[[Chaos], None]] = [Chaos.kill, Chaos.kill_one, Chaos.stop, Chaos.stop_host, Chaos.fill_disk,
                                         Chaos.take_descriptors, Chaos.damage_state]


def wreak(serving, faults: list[Callable[[Chaos], None]]):
    "Inject faults under load, one after the other, and wait after each until the endpoint serves again"
    chaos = Chaos(serving)
    try:
        with Load(chaos.call, threads=4) as chaos.load:
            for fault in faults:
                chaos.replies(20)
                fault(chaos)
                until(chaos.serves, seconds=120)
        assert {status for status, _, _ in chaos.load.replies} <= ANSWERS
        written = {event["request_id"] for event in serving.events("chaos") if event["status"] == 200}
        assert {id for status, id, _ in chaos.load.replies if status == 200} <= written
        assert chaos.folder.host.pid == chaos.host, "the same host has lived through all of it"
        shown = serving.show("chaos")
        assert shown.answers and shown.deployments["blue"].state == "Ready"
    finally: serving.stop("chaos")


def test_an_endpoint_comes_back_after_every_kind_of_fault(serving):
    wreak(serving, random.Random(0).sample(FAULTS, len(FAULTS)))


@pytest.mark.long
def test_an_endpoint_comes_back_after_hundreds_of_faults(serving):
    wreak(serving, random.Random().choices(FAULTS, [6, 6, 1, 3, 3, 3, 3], k=400))
