"Clients for the tests: the unmodified SDK in a process of its own, and a small project to send"
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

HEAD = """
import os, sys, time, json
from azure.ai.ml import Input, MLClient, Output, command
from azure.ai.ml import load_component, load_data, load_environment, load_job, load_model
from azure.identity import EnvironmentCredential
client = MLClient(EnvironmentCredential(), os.environ["AZURE_SUBSCRIPTION_ID"], "loopback", "dev")
def tell(value): print("\\ntold " + json.dumps(value))
def wait(job, seconds=300):
    end = time.monotonic() + seconds
    while job.status not in ("Completed", "Failed", "Canceled") and time.monotonic() < end:
        time.sleep(1)
        job = client.jobs.get(job.name)
    return job
"""


def run(azure, code: str, cwd: Path, timeout: float = 400) -> subprocess.CompletedProcess:
    "Run a script that has `client`, `wait` and `tell`"
    return subprocess.run([sys.executable, "-c", HEAD + code], cwd=cwd, env={**os.environ, **azure.env},
                          capture_output=True, text=True, timeout=timeout)


def sdk(azure, code: str, cwd: Path):
    "What a script tells; it must end well"
    done = run(azure, code, cwd)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    told = [line.removeprefix("told ") for line in done.stdout.splitlines() if line.startswith("told ")]
    return json.loads(told[-1]) if told else None


def training(target: Path) -> Path:
    "What the training pipeline needs of this project, and no more"
    skip = shutil.ignore_patterns("__pycache__", "*.pyc", "site", "scaffold", "tower")
    for name in ("mlops_nb", "nbs/training", "pipelines"):
        shutil.copytree(ROOT / name, target / name, ignore=skip)
    for name in (".amlignore", "pyproject.toml", "settings.ini"):
        shutil.copy(ROOT / name, target / name)
    return target
