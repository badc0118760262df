"`mlops-nb dispatch`: a breach in the ledger becomes one event at GitHub, also when GitHub does not take it at first"
import json
import shutil
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer

import pytest

from mlops_nb.retraining.events import breach_event, emit

from tests.retraining.test_events import result
from tests.support import ROOT
from tests.support.acting import GitHub


@pytest.fixture
def ledger(tmp_path):
    "A project in which a monitor found harm"
    shutil.copy(ROOT / "settings.ini", tmp_path)
    (tmp_path / "pipelines/training").mkdir(parents=True)
    shutil.copy(ROOT / "pipelines/training/pipeline.yml", tmp_path / "pipelines/training")
    emit(tmp_path, breach_event(result()))
    return tmp_path


@pytest.fixture
def github():
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Api", (GitHub,), {"events": []}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def dispatch(root, code: int = 0, **env: str) -> subprocess.CompletedProcess:
    "The command, at the time of the breach"
    command = [sys.executable, "-m", "mlops_nb", "dispatch", "--at", "2013-07-01", "--json"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_breach_is_handed_on_once(ledger, github):
    env = {"GITHUB_API_URL": f"http://127.0.0.1:{github.server_port}", "GITHUB_REPOSITORY": "team/flights",
           "GITHUB_TOKEN": "a-token"}
    assert "GITHUB_TOKEN" in dispatch(ledger, code=2).stderr
    [row] = json.loads(dispatch(ledger, **env).stdout)
    dispatch(ledger, **env)
    [event] = github.RequestHandlerClass.events
    assert (row["action"], row["status"], row["outcome"]["status"]) == ("retrain", "done", "Dispatched")
    assert event["event_type"] == "drift" and event["client_payload"]["breach"] == row["breach"]
    assert "inputs.test_end=2013-07-01" in event["client_payload"]["inputs"].split()
