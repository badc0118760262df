"A project, and an `az`, a `gh` and a `git` that keep what Azure, GitHub and Azure DevOps know in a file"
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlops_nb.cli.main import main

from tests.support import ROOT, cloud_clis, devops_cli, write_program

NAMES, REAL = ("az", "gh", "git"), subprocess.run

PROGRAM = """import sys
sys.path.insert(0, {!r})
from tests.support.cloud_clis import main
sys.exit(main({!r}, sys.argv[1:]))
"""
EMPTY = {"az_login": True, "gh_login": True, "apps": {}, "principals": {}, "roles": [], "groups": {}, "providers": {},
         "environments": {}, "variables": {}, "protection": None, "pages": None, "visibility": "private",
         "plan": "enterprise", "tells_plan": True, "subject": "immutable", "devops": devops_cli.EMPTY}
ENVIRONMENTS = ("dev", "staging", "production")


class Clouds:
    "A project, and what Azure and GitHub know"
    def __init__(self, folder: Path):
        self.folder, self.root = folder/"fake", folder/"project"
        for name in NAMES: write_program(self.folder/"bin"/name, PROGRAM.format(str(ROOT), name), "-IS")
        folders = ("pipelines/environment", ".github/workflows", ".azure-pipelines")
        for name in folders: shutil.copytree(ROOT/name, self.root/name)
        shutil.copyfile(ROOT/"settings.ini", self.root/"settings.ini")
        self.set(**EMPTY)

    def set(self, **more):
        file = self.folder/"state.json"
        file.write_text(json.dumps((self.state if file.exists() else {}) | more))

    def copy(self, other: "Clouds"):
        "Take over what another one knows, and what its project has been told"
        self.set(**other.state)
        written = ("settings.ini", "pipelines/environment/roles.yml")
        for name in written: shutil.copyfile(other.root/name, self.root/name)

    @property
    def state(self) -> dict: return json.loads((self.folder/"state.json").read_text())
    @property
    def calls(self) -> list: return [json.loads(line) for line in (self.folder/"calls.jsonl").read_text().splitlines()]
    def run(self, *words, input=None):
        return CliRunner().invoke(main, ["bootstrap", *words], input=input, catch_exceptions=False)


def run_here(words, input: str | None = None, **how):
    "As `subprocess.run` for az, gh and git, without a process for each; any other program is one"
    name = Path(words[0]).name
    if name not in NAMES: return REAL(words, input=input, **how)
    if not shutil.which(name): raise FileNotFoundError(name)
    out, error = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(error), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(input or ""))
        code = cloud_clis.main(name, [*words[1:]])
    return subprocess.CompletedProcess(words, code, out.getvalue(), error.getvalue())


def entered(made, patch, processes: bool = False):
    "Work in a project, with its programs first on the PATH; they are started only if a test wants processes"
    if not processes: patch.setattr(subprocess, "run", run_here)
    patch.setenv("PATH", f"{made.folder/'bin'}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("MLOPS_NB_FAKE", str(made.folder))
    patch.chdir(made.root)
    return made
