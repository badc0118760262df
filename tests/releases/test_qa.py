"QA of staged deployments: real endpoints, one that is right, one that is not, and a regression"
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mlops_nb.errors import UserError
from mlops_nb.jobs.progress import QuietView
from mlops_nb.notebooks.cells import read_notebook
from mlops_nb.notebooks.interface import read_parameters
from mlops_nb.releases import checks
from mlops_nb.releases.client import KEY_VARIABLE, Client, Response, read_key
from mlops_nb.releases.probes import Probe
from mlops_nb.releases.qa import choose_limits, read_limits, run_qa
from mlops_nb.releases.record import Release
from mlops_nb.releases.rollout import load_rollout
from mlops_nb.serving import kinds
from mlops_nb.serving.settings import DeploymentSettings
from mlops_nb.settings import load_settings
from mlops_nb.workspace.workspace import Workspace

from tests.support import ROOT
from tests.support.searching import files_with
from tests.support.serving import ECHO, Endpoints, flights, register_models

QA = ROOT / "pipelines/deployment/qa.yml"
SETTINGS = """\
[project]
experiment = flights
model = flight-delay
[deployment]
qa_golden_rows = 50
qa_requests = 60
qa_concurrency = 3
qa_max_p99_ms = 20000
qa_rows = 300
qa_metric = {metric}
qa_limit = {limit}
"""


def labelled(folder: Path, X, y) -> Path:
    "Recent rows with labels, as `prepare` leaves them; nothing says on which day they were"
    folder.mkdir()
    X.assign(label=y).to_parquet(folder / "test.parquet", index=False)
    (folder / "columns.json").write_text(json.dumps({"label": "label"}))
    return folder


def register_rent(root: Path):
    "A regression: no text column, no classes"
    from sklearn.linear_model import LinearRegression

    from mlops_nb.models import registry, saving, tracking
    from mlops_nb.serving.models import use_registry
    X = pd.DataFrame({"rooms": np.arange(200.0) % 7, "floor": np.arange(200.0) % 11})
    y = 100 * X.rooms + 7 * X.floor
    saving.save(LinearRegression().fit(X, y), root / "rent", X_example=X)
    with use_registry(root), tracking.run(): registry.register(root / "rent", "rent")
    labelled(root / "rents", X, y)


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory):
    "An endpoint with all traffic on `blue`; staged are `green`, `rent`, and `wrong`, whose script does as it likes"
    pytest.importorskip("fcntl", reason="endpoints need a POSIX system")
    root = tmp_path_factory.mktemp("qa") / "project"
    (root / "code").mkdir(parents=True)
    (root / "code/score.py").write_text(ECHO)
    (root / "settings.ini").write_text(SETTINGS.format(metric="log_loss", limit=0.65))
    (root / "endpoint.yml").write_text("name: judged\nauth_mode: key\ntraffic: {blue: 100}\n")
    good = yaml.safe_load((ROOT / "pipelines/deployment/deployment.yml").read_text()) | {
        "endpoint_name": "judged",
        "environment": "azureml:mlops-nb:1",
    }
    good["code_configuration"]["code"], good["environment_variables"]["WORKER_COUNT"] = str(ROOT), "1"
    (root / "deployment.yml").write_text(yaml.safe_dump(good))
    (root / "wrong.yml").write_text(
        yaml.safe_dump(good | {"name": "wrong", "code_configuration": {"code": "code", "scoring_script": "score.py"}})
    )
    register_models(root)
    register_rent(root)
    labelled(root / "flights", *flights())
    found = Endpoints(root)
    for name, model, file in (
        ("blue", "flight-delay:1", "deployment.yml"),
        ("green", "flight-delay:2", "deployment.yml"),
        ("rent", "rent:1", "deployment.yml"),
        ("wrong", "flight-delay:1", "wrong.yml"),
    ):
        found.deploy(root / "endpoint.yml", root / file, name=name, model=model)
    yield found
    found.stop("judged")


@pytest.fixture(scope="module")
def green(endpoints): return run_qa(endpoints.root, "judged", "green", labelled=endpoints.root / "flights", file=QA)


def failed(evidence) -> dict:
    return {check["name"]: check["detail"] for check in evidence.checks if not check["passed"]}


def test_a_good_deployment_passes_without_having_traffic(endpoints, green):
    assert green.passed, failed(green)
    assert endpoints.show("judged").traffic == {"blue": 100} and len(green.checks) >= 28
    names = {check["name"] for check in green.checks}
    assert {
        "parity",
        "latency: p99",
        "quality: log_loss",
        "contract: the named deployment answers",
        "contract: more than 10 MB",
        "contract: unknown category in carrier",
    } <= names
    assert json.loads(green.file.read_text())["passed"] is True
    assert "QA passed" in green.page.read_text() and green.notebook.suffix == ".ipynb"


class Impatient(QuietView):
    "Presses Ctrl-C when a step begins"
    def show(self, step, status, note=""):
        if status == "Running": os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_qa_and_is_no_failure(endpoints):
    with pytest.raises(KeyboardInterrupt):
        run_qa(endpoints.root, "judged", "green", labelled=endpoints.root / "flights", file=QA, view=Impatient)
    (job,) = Workspace(endpoints.root).rows("SELECT status FROM jobs ORDER BY rowid DESC LIMIT 1")
    assert job["status"] == "Canceled"


def test_a_category_that_the_model_refuses_is_the_callers_mistake(green):
    detail = next(check["detail"] for check in green.checks if check["name"] == "contract: unknown category in carrier")
    assert detail.startswith("400") and "unknown categories" in detail


def test_the_key_is_nowhere_in_the_job(endpoints, green):
    "Neither in the notebook, its page, the log, the step's description, nor in a database of the workspace"
    home, keys = endpoints.root / ".mlops", endpoints.keys("judged").values()
    assert [*home.rglob("*.html")]
    assert {path.relative_to(home).parts[0] for path in files_with(home, keys)} == {"endpoints"}


def test_a_wrong_deployment_fails_and_leaves_its_evidence(endpoints):
    "It answers 0.5 to everything: mistakes are no mistakes to it, and its answers are not the model's"
    words = ("qa", "judged", "--deployment", "wrong", "--data", "flights")
    (endpoints.root / "pipelines").symlink_to(ROOT / "pipelines")
    done = subprocess.run(
        [Path(sys.executable).with_name("mlops-nb"), *words], cwd=endpoints.root, text=True, capture_output=True
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        "QA failed" in done.stdout
        and "✗ contract: a field is missing: status" in done.stdout
        and "✗ quality" in done.stdout
    )
    shown = subprocess.run(
        [Path(sys.executable).with_name("mlops-nb"), "show", "last"], cwd=endpoints.root, text=True, capture_output=True
    ).stdout
    assert "Completed" in shown and "02_qa.html" in shown


def test_a_regression_passes(endpoints):
    settings = endpoints.root / "settings.ini"
    settings.write_text(SETTINGS.format(metric="mae", limit=0.01))
    try: found = run_qa(endpoints.root, "judged", "rent", labelled=endpoints.root / "rents", file=QA)
    finally: settings.write_text(SETTINGS.format(metric="log_loss", limit=0.65))
    assert found.passed, failed(found)
    assert not any("unknown category" in check["name"] for check in found.checks)


def test_what_cannot_be_asked_is_refused(endpoints, monkeypatch):
    with pytest.raises(UserError, match="there is no deployment 'red' of judged"):
        run_qa(endpoints.root, "judged", "red")
    with pytest.raises(UserError, match="no job is known that judged flight-delay:2"):
        run_qa(endpoints.root, "judged", "green", file=QA)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    with pytest.raises(UserError, match="key is not in the environment"): read_key()


def test_a_refusal_without_a_reason_is_no_refusal():
    probe = Probe("a field is missing", b"", word="hour")
    reply = lambda status, body, kind="application/json": checks.judge_refusal(
        probe, Response(status, {"content-type": kind}, body, 1.0)
    )
    assert (
        reply(400, b'{"error": {"message": "row 0 lacks hour"}}').passed and reply(422, b'{"message": "hour?"}').passed
    )
    wrong = {
        b'{"error": {"message": "row 0 lacks something"}}': "does not name hour",
        b'{"error": {"code": "BadRequest"}}': "no reason",
        b"hour": "no reason",
    }
    assert all(not reply(400, body).passed and words in reply(400, body).detail for body, words in wrong.items())
    assert "not JSON" in reply(400, b"hour", "text/plain").detail and "status 200" in reply(200, b"[]").detail


def test_an_endpoint_that_breaks_off_fails_every_check_and_no_cell():
    client, X = Client("http://127.0.0.1:9/score", "key", "green"), pd.DataFrame({"rooms": [1.0, 2.0]})
    times = checks.send_load(client, X, 5, 2)
    assert [check.passed for check in checks.check_latency(times, 1000)][0] is False and set(times.status) == {0}
    assert not checks.check_parity(client, np.array([[1.0], [2.0]]), X, 1e-9)[0].passed


def test_the_limits_are_those_of_the_settings():
    "The defaults, the notebook and qa.yml say the same; the example's settings.ini agrees on its quality alone"
    settings, document = (
        load_settings(ROOT / "settings.ini").section(DeploymentSettings),
        yaml.safe_load(QA.read_text())["inputs"],
    )
    parameters = {p.name: p.default for p in read_parameters(read_notebook(ROOT / "nbs/deployment/02_qa.ipynb"))}
    defaults = vars(DeploymentSettings())
    own = {name: value for name, value in vars(settings).items() if value != defaults[name]}
    assert own == {"qa_metric": "log_loss", "qa_limit": 0.65}
    for name, text in read_limits(ROOT).items():
        assert str(document[name]) == str(parameters[name]), name
        if name not in ("metric", "limit"): assert text == str(document[name]), name
    assert (parameters["metric"], parameters["limit"]) == (defaults["qa_metric"], defaults["qa_limit"])


@pytest.mark.parametrize("replay, allowed", [(True, "2000.0"), (False, "250.0")])
def test_a_replay_lets_an_answer_take_as_long_as_its_rollout(replay, allowed):
    rollout = asdict(load_rollout(ROOT / "pipelines/monitoring/rollout.yml"))
    release = Release("r", "rent", "rent", "1", "green", None, None, rollout, {"replay": replay})
    assert choose_limits(ROOT, release) == read_limits(ROOT) | {"max_p99_ms": allowed}


@pytest.mark.filterwarnings("ignore")
def test_azure_accepts_both_kinds_and_they_describe_the_same_service(tmp_path):
    from azure.ai.ml import load_online_deployment, load_online_endpoint
    text = (ROOT / "settings.ini").read_text()
    assert kinds.endpoint_files(ROOT) == (
        ROOT / "pipelines/deployment/endpoint.yml",
        ROOT / "pipelines/deployment/deployment.yml",
    )
    (tmp_path / "settings.ini").write_text(
        text.replace("kind = managed", "kind = kubernetes").replace(
            "production_cluster =", "production_cluster = aks-eu"
        )
    )
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    found = kinds.workspace_files(tmp_path, "production")
    endpoint, deployment = (
        load_online_endpoint(found.endpoint, params_override=found.overrides),
        load_online_deployment(found.deployment),
    )
    assert (type(endpoint).__name__, type(deployment).__name__) == (
        "KubernetesOnlineEndpoint",
        "KubernetesOnlineDeployment",
    )
    assert endpoint.compute.endswith("aks-eu")
    managed, cluster = (yaml.safe_load(path.read_text()) for path in (kinds.endpoint_files(ROOT)[1], found.deployment))
    for key in ("name", "endpoint_name", "model", "environment_variables", "request_settings", "data_collector"):
        assert managed[key] == cluster[key], key
    assert managed["code_configuration"]["scoring_script"] == cluster["code_configuration"]["scoring_script"]
