"A project with a workspace of its own, whose jobs run as a user runs them"
import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from mlops_nb.workspace.workspace import Workspace

CLI = [sys.executable, "-m", "mlops_nb"]


class Project:
    "A project folder with a workspace of its own"
    def __init__(self, root: Path, store: Path):
        self.root = root
        (root/".mlops").mkdir(parents=True)
        shutil.copy(store, root/".mlops"/"mlflow.db")

    def write(self, name: str, text: str) -> Path:
        path = self.root/name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def start(self, *words: str, **env) -> subprocess.Popen:
        return subprocess.Popen([*CLI, *words], cwd=self.root, env={**os.environ, **env}, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                start_new_session=True)

    def call(self, *words: str, **env) -> subprocess.CompletedProcess:
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def run(self, *words: str, code: int = 0, **env) -> dict:
        done = self.call("run", *words, "--json", **env)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def workspace(self) -> Workspace: return Workspace(self.root)


def steps(job: dict) -> dict[str, dict]:
    "The steps of a job as `--json` shows it, by name"
    return {step["name"]: step for step in job["steps"]}


def wait_for(condition, seconds: float = 30):
    "Wait until something holds"
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
