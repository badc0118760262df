"A copy of this repository, and nektos/act that runs its workflows there as GitHub would"
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support import BIN, ROOT, write_program

RIGHT = "asks-for-id-tokens"
PIN = re.compile(r"uses: ((actions/[\w-]+)[\w/-]*@[0-9a-f]{40})")


def git(root: Path, *words: str) -> str:
    "What git prints"
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *words]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


def copy_of(to: Path, without=lambda name: False) -> Path:
    "A repository with what is here, committed; some files may be left out"
    names = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(lambda name: name and (ROOT / name).is_file() and not without(name), names):
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    git(to, "init", "-qb", "main")
    git(to, "remote", "add", "origin", "https://github.com/team/flights")
    git(to, "add", "--all")
    git(to, "commit", "-qm", "the beginning")
    return to


def part(value: dict) -> str: return urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def id_token(audience: str) -> str:
    "What GitHub says of a job to whoever it signs in at; nobody checks the signature here"
    now = int(time.time())
    claims = {"iss": "https://token.actions.githubusercontent.com", "aud": audience, "repository": "team/flights",
              "sub": "repo:team/flights:ref:refs/heads/main", "iat": now, "exp": now + 300}
    return f"{part({'typ': 'JWT', 'alg': 'none'})}.{part(claims)}.{part({})}"


class GitHub(BaseHTTPRequestHandler):
    "GitHub's API, as far as workflows use it: comments of pull requests, events, and tokens that say which job asks"
    comments: list[dict] = []
    events: list[dict] = []

    def answer(self, code: int, value=None):
        self.send_response(code)
        self.end_headers()
        if value is not None: self.wfile.write(json.dumps(value).encode())

    def body(self) -> dict: return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self):
        asked = urlsplit(self.path)
        if asked.path != "/id-token": return self.answer(200, self.comments)
        if self.headers["Authorization"] != f"Bearer {RIGHT}": return self.answer(401)
        self.answer(200, {"value": id_token(parse_qs(asked.query)["audience"][0])})

    def do_POST(self):
        if self.path.endswith("/dispatches"): return self.events.append(self.body()) or self.answer(204)
        self.comments.append({"id": len(self.comments), "user": {"login": "github-actions[bot]"}, **self.body()})
        self.answer(201, self.comments[-1])

    def do_PATCH(self):
        self.comments[int(self.path.rpartition("/")[2])] |= self.body()
        self.answer(200, self.comments[-1])

    def log_message(self, *_): pass


class Act:
    "Runs workflows of a repository; `github` is the folder with artifacts and caches"
    def __init__(self, root: Path, github: Path):
        self.root, self.github, self.runs = root, github, 0
        self.variables: dict[str, str] = {}
        self.environment: dict[str, str] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Api", (GitHub,), {"comments": [], "events": []}))
        self.api = self.server.RequestHandlerClass
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str: return f"http://127.0.0.1:{self.server.server_port}"

    @property
    def artifacts(self) -> Path:
        "Those of the last run"
        return self.github / "artifacts" / str(self.runs)

    def ended(self, workflow: str) -> dict:
        "What GitHub says to workflows that wait for this one: the last run has ended well"
        head = {"head_branch": "main", "head_sha": git(self.root, "rev-parse", "main").strip(),
                "head_repository": {"full_name": "team/flights"}}
        run = {"id": self.runs, "name": workflow, "conclusion": "success", "event": "push", **head}
        return {"action": "completed", "workflow_run": run}

    def command(self, text: str):
        "Let `mlops-nb` be another program in workflows: Python as text"
        write_program(self.github / "bin/mlops-nb", text)

    def pins(self) -> set:
        "The actions that the workflows use"
        texts = [file.read_text() for file in (self.root / ".github").rglob("*.yml")]
        return {(use[2], use[1].rpartition("@")[2]) for text in texts for use in PIN.finditer(text)}

    def __call__(self, event: str, workflow: str, payload: dict, *words: str, code: int = 0) -> str:
        "Run a workflow for an event, and return its log"
        self.runs += 1
        (self.github / "runs").mkdir(parents=True, exist_ok=True)
        file = self.github / "runs" / f"{event}.json"
        file.write_text(json.dumps(payload))
        workflows = [yaml.safe_load(path.read_text()) for path in (self.root / ".github/workflows").glob("*.yml")]
        systems = {str(job["runs-on"]) for one in workflows for job in one["jobs"].values() if "runs-on" in job}
        systems = {system for system in systems if "{" not in system}
        actions = ROOT / "tests/support/actions"
        given = {"STANDINS": actions, "STANDIN_FOLDER": self.github, "GITHUB_RUN_ID": self.runs,
                 "STANDIN_PYTHON": sys.executable, "STANDIN_PROJECT": self.root, "MAKEFLAGS": "READY=",
                 "OMP_NUM_THREADS": 1, "GITHUB_API_URL": self.url,
                 "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/id-token?api-version=2.0",
                 "ACTIONS_ID_TOKEN_REQUEST_TOKEN": RIGHT, **self.environment}
        local = {f"{name}@{pin}": actions / name.partition("/")[2] for name, pin in sorted(self.pins())}
        command = [BIN / "act", event, "--no-skip-checkout", "--workflows", f".github/workflows/{workflow}.yml",
                   "--eventpath", file, "--defaultbranch", "main", "--no-cache-server",
                   "--action-cache-path", self.github / "act", "--secret", "GITHUB_TOKEN=a-token",
                   "--concurrent-jobs", "1",
                   *(part for system in systems for part in ("--platform", f"{system}=-self-hosted")),
                   *(part for name, value in given.items() for part in ("--env", f"{name}={value}")),
                   *(part for name, value in self.variables.items() for part in ("--var", f"{name}={value}")),
                   *(part for pin, path in local.items() for part in ("--local-repository", f"{pin}={path}")), *words]
        hidden = ("GITHUB_", "ACTIONS_", "MLOPS_NB_", "PYTEST", "AZURE_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        clean |= {"HOME": str(self.github), "XDG_CONFIG_HOME": str(self.github)}
        done = subprocess.run(list(map(str, command)), cwd=self.root, capture_output=True, text=True, timeout=2400,
                              env=clean)
        log = done.stdout + done.stderr
        (self.github / "runs" / f"{workflow}-{event}.log").write_text(log)
        assert (done.returncode == 0) == (code == 0), log[-8000:]
        return log
