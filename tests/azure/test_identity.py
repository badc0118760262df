"OIDC in CI: the identity of a job outlives its tokens, because GitHub or Azure DevOps is asked again"
import json
import os
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.azure.small import MLOPS, placed
from tests.support.devops import SUBJECT as PIPELINE
from tests.support.devops import organisation, signed_in
from tests.support.loopback.tokens import encoded

pytestmark = pytest.mark.long

SUBJECT = "repo:team/flights:environment:production"


class GitHub(BaseHTTPRequestHandler):
    """The endpoint that a job with `id-token: write` may ask: each answer is a new token, which is good for a few
    seconds"""
    asked: list[float] = []
    broken = 0

    def do_GET(self):
        if self.headers["Authorization"] != "Bearer of-this-job": return self.send_error(401)
        self.asked.append(time.time())
        if len(self.asked) == GitHub.broken: return self.send_error(503)
        audience = parse_qs(urlsplit(self.path).query)["audience"][0]
        claims = {"iss": "https://token.actions.githubusercontent.com", "sub": SUBJECT, "aud": audience,
                  "jti": str(len(self.asked)), "exp": int(time.time()) + 8}
        body = json.dumps({"count": 1, "value": f"{encoded({'typ': 'JWT'})}.{encoded(claims)}.{encoded({})}"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): pass


@pytest.fixture
def runner(azure, tmp_path):
    "What a step of a workflow has in its environment, and no secret"
    server = ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    GitHub.asked.clear()
    GitHub.broken = 0
    azure.tokens.subject = SUBJECT
    env = {name: value for name, value in {**os.environ, **azure.env}.items()
           if name not in ("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS")}
    yield env | {"ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_port}/token?api-version=2.0",
                 "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-this-job", "RUNNER_TEMP": str(tmp_path)}
    server.shutdown()
    server.server_close()


def outlive(azure, small, env: dict) -> None:
    "A run of which each id token is good for 8 seconds and each access token for 10 takes more than 20"
    placed(azure, small, {})
    (small / "code/first.py").write_text("import time\ntime.sleep(25)\n" + (small / "code/first.py").read_text())
    azure.tokens.lifetime = 10
    done = subprocess.run([*MLOPS, "run", "pipeline.yml", "--on", "dev", "--json"], cwd=small, env=env,
                          capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["status"] == "Completed" and (small / f".mlops/azure/dev/jobs/{told['id']}").is_dir()
    assert azure.tokens.given >= 3 and len(azure.state.all("workspaces/jobs")) == 1


def test_a_run_that_outlives_its_tokens_asks_github_again(azure, small, runner):
    GitHub.broken = 2
    outlive(azure, small, runner)
    assert len(GitHub.asked) >= 4 and GitHub.asked[-1] - GitHub.asked[0] > 20


def test_a_run_that_outlives_its_tokens_asks_azure_devops_again(azure, small, tmp_path):
    azure.tokens.subject = PIPELINE
    hidden = ("AZURE_CLIENT_SECRET", "AZURE_TOKEN_CREDENTIALS", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")
    env = {name: value for name, value in {**os.environ, **azure.env}.items() if name not in hidden}
    who = signed_in(azure.env["AZURE_TENANT_ID"], azure.env["AZURE_CLIENT_ID"])
    with organisation() as (state, job):
        state.lifetime, state.broken = 8, 2
        outlive(azure, small, env | job | who | {"AGENT_TEMPDIRECTORY": str(tmp_path)})
    assert len(state.asked) >= 4 and state.asked[-1] - state.asked[0] > 20
    assert [*state.refused] == [one for one in state.refused if "unavailable" in one] != []


def test_a_workflow_that_azure_does_not_trust_is_told_what_azure_said(azure, small, runner):
    placed(azure, small, {})
    azure.tokens.subject = "repo:team/another:ref:refs/heads/main"
    done = subprocess.run([*MLOPS, "jobs", "--on", "dev"], cwd=small, env=runner, capture_output=True, text=True,
                          timeout=200)
    assert done.returncode == 2 and "AADSTS700213" in done.stderr and SUBJECT in done.stderr, done.stderr
