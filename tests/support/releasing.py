"A project whose versions behave as a test wants, and a controller that can be killed at any point"
import json
import os
import random
import signal
import traceback
from pathlib import Path
from typing import Any

from mlops_nb.releases.controller import Candidate, Driver, LocalRegistry, Tools, release
from mlops_nb.serving.endpoints import Endpoints

from tests.support.serving import ECHO, FILES, Client

ROLLOUT = """\
alpha: 0.01
p99_latency_ms: 5000
burst_seconds: 0
promotion: {max_bad_rate: 0.2, confidence: 0.9}
stages:
  - {name: shadow, mirror: 50, min_requests: 40, min_agreement: 0.5}
  - {traffic: 25, min_requests: 10}
  - {traffic: 50, min_requests: 10}
  - {traffic: 100}
"""
BEHAVIOUR = {  # What a version does with its rows
    "good": "pass",
    "failing": 'if row.get("n", 0) % 2 == 0: raise RuntimeError("made to fail")',
    "slow": 'if row.get("n", 0) % 2 == 0: time.sleep(1.0)',
    "strange": 'row["p"] = 1 - row["p"]'}


def make_files(root: Path) -> Path:
    "The files of an endpoint, and a deployment file for each behaviour"
    root.mkdir()
    for name, line in BEHAVIOUR.items():
        code = root / f"code-{name}"
        code.mkdir()
        (code / "score.py").write_text(
            ECHO.replace("    for row in found:\n", f"    for row in found:\n        {line}\n")
        )
        text = (
            FILES["deployment.yml"]
            .replace("code: code,", f"code: code-{name},")
            .replace("echo", "canary")
            .replace('"2"', '"1"')
        )
        (root / f"{name}.yml").write_text(text)
    (root / "endpoint.yml").write_text(FILES["endpoint.yml"].replace("echo", "canary"))
    (root / "rollout.yml").write_text(ROLLOUT)
    return root


def reset(tools: Tools):
    "Version 1 serves alone, version 2 is the champion and waits to be released"
    shown = tools.control.show("canary")
    tools.control.set_traffic("canary", {"blue": 100}, {})
    for name in shown.deployments:
        if name != "blue": tools.control.delete("canary", name)
    for path in (tools.root / ".mlops/releases").glob("*/release.json"): path.unlink()
    tools.registry.promote("flight-delay", 2)


def quick_qa(root: Path, found) -> tuple:
    "QA that takes no time"
    evidence = root / ".mlops/releases" / found.id / "qa.json"
    evidence.write_text(json.dumps({"passed": True}))
    return [{"name": "contract", "passed": True, "detail": "as asked"}], evidence


def tools_for(root: Path) -> Tools: return Tools(root, Endpoints(root), quick_qa, LocalRegistry(root))


def files(tools: Tools, version: str = "good") -> dict:
    "The endpoint, and a deployment that behaves so"
    return {"endpoint_file": tools.root / "release/endpoint.yml",
            "deployment_file": tools.root / f"release/{version}.yml"}


class Traffic:
    "Calls the endpoint when a release waits; counts what callers saw"
    def __init__(self, tools: Tools, each: int = 20):
        self.tools, self.each, self.count, self.draw = tools, each, 0, random.Random(0)
        self.statuses: list[int] = []

    def __call__(self, seconds: float = 0):
        control: Any = self.tools.control  # It has keys too, which a release does not need
        call = Client(control, "canary")
        for _ in range(self.each):
            self.count += 1
            status, _, _ = call([{"p": round(self.draw.random(), 3), "n": self.count}])
            self.statuses.append(status)


class Mortal:
    "Anything that a release works with; kills the process at its n-th call that changes something"
    CHANGES = ("deploy", "set_traffic", "delete", "promote", "tag_version")

    def __init__(self, thing, left: list, before: bool = False):
        self.thing, self.left, self.before = thing, left, before

    def __getattr__(self, name):
        found = getattr(self.thing, name)
        if name not in self.CHANGES: return found
        def call(*given, **named):
            self.left[0] -= 1
            if self.left[0] == 0 and self.before: os.kill(os.getpid(), signal.SIGKILL)
            answer = found(*given, **named)
            if self.left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
            return answer
        return call


def released(tools: Tools, version: str = "good", number: str | None = None, **options):
    "Release what is in charge, with traffic"
    rollout = options.pop("rollout", "release/rollout.yml")
    candidate = Candidate("flight-delay", number, "release/endpoint.yml", f"release/{version}.yml", rollout)
    patience: dict[str, Any] = dict(approve_as="Ada", poll=0.1, wait=Traffic(tools), timeout=60, say=lambda text: None)
    return release(tools, candidate, Driver(**patience | options))


def in_child(work) -> int:
    "Do something in a process of its own; its exit code, negative for a signal"
    pid = os.fork()
    if not pid:
        code = 70
        try: code = work() or 0
        except Exception: traceback.print_exc()  # pytest shows it when the test fails
        finally: os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
