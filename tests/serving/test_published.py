"Deployments as Azure's samples write them: a model at a path, models that nobody sealed, no script, decorated scripts"
import json
import pickle
from pathlib import Path

import pytest

from mlops_nb.errors import UserError
from mlops_nb.serving.collection import find_sent
from mlops_nb.serving.endpoints import Endpoints
from mlops_nb.serving.models import use_registry

from tests.support.serving import Client, records, until

READ_WEIGHTS = """import json, os
def init():
    global known
    known = open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "weights", "w.txt")).read()
def run(raw):
    there = sorted(os.listdir(os.environ["AZUREML_MODEL_DIR"]))
    return {"w": known, "n": len(json.loads(raw)["data"]), "all": there}
"""

DECORATED = """from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema
def init(): pass
@input_schema(param_name="age", param_type=StandardPythonParameterType([7.2]))
@output_schema(output_type=StandardPythonParameterType({"late": [True]}))
def run(age): return {"late": [value > 7 for value in age]}
"""

RAW = """from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse
def init(): pass
@rawhttp
def run(request):
    if request.method == "GET": return AMLResponse(request.args.get("who", "nobody"), 200)
    reply = AMLResponse(request.get_data()[::-1], 201, {"x-own": request.headers.get("x-mine", "")})
    reply.mimetype = "image/jpg"
    return reply
"""


class Project:
    "A folder with the files of one deployment, and what serves them"
    def __init__(self, root: Path):
        self.root, self.endpoints = root, Endpoints(root)
        self.heard: list[str] = []
        (root / "endpoint.yml").write_text("name: tiny\nauth_mode: key\ntraffic: {blue: 100}\n")

    def deploy(self, model: str, script: str | None = None, **options) -> Client:
        "Serve; without a script there is no code_configuration"
        code = "" if script is None else "code_configuration: {code: code, scoring_script: score.py}\n"
        (self.root / "code").mkdir(exist_ok=True)
        (self.root / "code/score.py").write_text(script or "")
        (self.root / "deployment.yml").write_text(
            f"name: blue\nendpoint_name: tiny\nmodel: {model}\n{code}environment: azureml:AzureML-minimal@latest\n"
            "instance_type: Standard_DS3_v2\nrequest_settings: {request_timeout_ms: 30000}\n" + options.pop("more", ""))
        self.heard.clear()
        files = self.root / "endpoint.yml", self.root / "deployment.yml"
        self.endpoints.deploy(*files, say=self.heard.append, **options)
        return Client(self.endpoints, "tiny")


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    yield made
    if made.endpoints.list(): made.endpoints.stop("tiny")


def save_plain(folder: Path, **options) -> Path:
    "A model that plain MLflow saves: it doubles `age`"
    import mlflow
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LinearRegression
    X = pd.DataFrame({"age": np.arange(4.0)})
    mlflow.sklearn.save_model(LinearRegression(fit_intercept=False).fit(X, 2 * X.age), str(folder),
                              signature=mlflow.models.infer_signature(X, 2.0 * X.age.to_numpy()), **options)
    return folder


def test_a_model_at_a_path_lies_below_azureml_model_dir_and_its_digest_is_recorded(project):
    (project.root / "weights").mkdir()
    (project.root / "weights/w.txt").write_text("7")
    call = project.deploy("{path: weights}", READ_WEIGHTS)
    assert call({"data": [1, 2]})[:2] == (200, {"w": "7", "n": 2, "all": ["weights"]})
    digest = project.endpoints.folder("tiny").state["deployments"]["blue"]["digest"]
    assert len(digest) == 64 and [line for line in project.heard if digest in line] == [
        f"nobody sealed weights:{digest[:12]}; this deployment serves what has the sha256 {digest}"]


def test_a_model_that_create_registered_is_served_and_said_once_and_refused_when_it_was_changed(project):
    from mlops_nb.jobs.create import create
    from mlops_nb.workspace.workspace import Workspace
    (project.root / "weights").mkdir()
    (project.root / "weights/w.txt").write_text("7")
    (project.root / "model.yml").write_text("$schema: https://azuremlschemas.azureedge.net/latest/model.schema.json\n"
                                            "name: heavy\nversion: 4\ntype: custom_model\npath: weights\n")
    asset = create(Workspace(project.root), project.root / "model.yml")
    call = project.deploy("azureml:heavy@latest", READ_WEIGHTS)
    assert call({"data": []})[1]["w"] == "7" and project.endpoints.show("tiny").deployments["blue"].version == "4"
    assert any("nobody sealed heavy:4" in line for line in project.heard)
    project.deploy("azureml:heavy:4", READ_WEIGHTS)
    assert not any("nobody sealed" in line for line in project.heard)
    (Path(asset.path) / "w.txt").write_text("8")
    with pytest.raises(UserError, match="heavy:4 has changed since it was first deployed"):
        project.deploy("azureml:heavy:4", READ_WEIGHTS)
    assert call({"data": []})[1]["w"] == "7"
    with pytest.raises(UserError, match="(?s)azureml:heavy:9 is not registered here.*heavy:4"):
        project.deploy("azureml:heavy:9", READ_WEIGHTS)


def test_a_model_that_plain_mlflow_registered_answers_without_a_script(project, monkeypatch):
    import mlflow
    monkeypatch.chdir(project.root)     # where plain MLflow puts its files
    save_plain(project.root / "m")
    with use_registry(project.root), mlflow.start_run() as run:
        mlflow.log_artifacts(str(project.root / "m"), "model")
        client = mlflow.MlflowClient()
        client.create_registered_model("plain")
        client.create_model_version("plain", f"{run.info.artifact_uri}/model", run.info.run_id)
    call = project.deploy("azureml:plain@latest")
    ages = {"columns": ["age"], "index": [0, 1], "data": [[1.5], [4.0]]}
    status, answer, headers = call({"input_data": ages})
    assert (status, answer, headers["content-type"]) == (200, pytest.approx([3.0, 8.0]), "application/json")
    for body, said in (({"data": [[1]]}, "no input_data"), ({"input_data": {**ages, "columns": ["x"]}}, "age"),
                       ({"input_data": [{"age": 1.0}]}, "no table"), (b"{", "")):
        status, answer, _ = call(body)
        assert status == 400 and said in answer["error"]["message"], body
    swagger = call(None, path="/swagger.json", method="GET")[1]
    assert swagger["definitions"]["ServiceInput"]["required"] == ["input_data"]
    assert swagger["definitions"]["SplitTable"]["properties"]["columns"]["items"]["enum"] == ["age"]


def test_a_pickle_that_nobody_sealed_needs_the_flag_that_says_so(project):
    save_plain(project.root / "m", serialization_format="cloudpickle")
    with pytest.raises(UserError, match="(?s)the pickle model.pkl.*can do anything.*--trust-model"):
        project.deploy("{path: m, type: mlflow_model}")
    assert not [*(project.root / ".mlops/endpoints").rglob("model.pkl")]
    call = project.deploy("{path: m, type: mlflow_model}", trust=True)
    assert call({"input_data": {"columns": ["age"], "data": [[2.0]]}})[1] == pytest.approx([4.0])
    (project.root / "one").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match="the pickle one"): project.deploy("{path: ./one}", READ_WEIGHTS)


def test_what_cannot_be_served_is_said(project):
    (project.root / "weights").mkdir()
    with pytest.raises(UserError, match="no code_configuration, and the model is no MLflow model"):
        project.deploy("{path: weights}")
    with pytest.raises(UserError, match="nowhere.*does not exist"): project.deploy("{path: nowhere}", READ_WEIGHTS)
    with pytest.raises(UserError, match="is not known here"): project.deploy("{path: weights}", DECORATED, isolate=True)
    routes = ", ".join(f"{kind}_route: {{port: 80, path: /}}" for kind in ("scoring", "liveness", "readiness"))
    server = f"{{image: ubuntu, inference_config: {{{routes}}}}}"
    text = (project.root / "deployment.yml").read_text().replace("azureml:AzureML-minimal@latest", server)
    (project.root / "deployment.yml").write_text(text.replace("code_configuration", "#"))
    with pytest.raises(UserError, match="brings a server of its own"):
        project.endpoints.deploy(project.root / "endpoint.yml", project.root / "deployment.yml")
    assert project.endpoints.list() == []



def test_a_decorated_script_describes_itself_and_checks_what_it_is_asked(project):
    (project.root / "weights").mkdir()
    call = project.deploy("{path: weights}", DECORATED)
    assert call({"age": [7.5, 1.0]})[:2] == (200, {"late": [True, False]})
    assert call({"wrong": 1})[0] == 400
    def swagger(query): return call(None, path=f"/swagger.json{query}", method="GET")[:2]
    for query in ("", "?version=2"): assert "age" in swagger(query)[1]["definitions"]["ServiceInput"]["properties"]
    assert "age" in swagger("?version=3")[1]["components"]["schemas"]["ServiceInput"]["properties"]
    assert swagger("?version=9")[0] == 404


def test_a_raw_script_gets_the_request_as_it_came_and_answers_as_it_likes(project):
    (project.root / "weights").mkdir()
    call = project.deploy("{path: weights}", RAW)
    assert call(None, path="/score?who=me", method="GET")[:2] == (200, b"me")
    status, answer, headers = call(b"\x00\xff\x01", x_mine="here", Content_Type="application/octet-stream")
    assert (status, answer, headers["content-type"], headers["x-own"]) == (201, b"\x01\xff\x00", "image/jpg", "here")


COLLECTING = """import json, os
import pandas as pd
from azureml.ai.monitoring import Collector
from azureml.ai.monitoring.context import BasicCorrelationContext
def init():
    global inputs, outputs, joined, off
    inputs, outputs, joined = (Collector(name=name) for name in ("model_inputs", "model_outputs", "joined"))
    refused = []
    off = Collector(name="off", on_error=lambda error: refused.append(str(error)))
    assert len(refused) == 1 and "off is not enabled" in refused[0]
def run(raw):
    asked = pd.DataFrame(json.loads(raw)["data"])
    context = inputs.collect(asked)
    answers = pd.DataFrame({"double": 2 * asked.age, "mail": "x@y.org"})
    outputs.collect(answers, context)
    own = BasicCorrelationContext("mine-" + str(len(asked)), 1372658400, {"shop": "caf\\u00e9"})
    joined.collect(asked.join(answers), own)
    off.collect(asked)
    return {"id": str(context), "double": answers.double.tolist()}
"""
COLLECTIONS = ("data_collector:\n  collections:\n"
               "    model_inputs: {enabled: 'True'}\n    model_outputs: {enabled: 'True'}\n"
               "    Joined: {enabled: 'true'}\n"
               "    off: {enabled: 'false'}\n    response: {enabled: 'True'}\n"
               "    request: {enabled: 'True', data: {name: r, path: azureml://datastores/a/paths/b, version: 1}}\n")


def collected(project: Project, name: str, count: int = 1) -> list[dict]:
    "Events of a collection, once there are so many: what a script collects is sent beside its reply"
    until(lambda: len(records(project.root, "tiny", "blue", name)) >= count)
    return records(project.root, "tiny", "blue", name)


def test_a_script_collects_with_azures_own_package(project):
    (project.root / "weights").mkdir()
    call = project.deploy("{path: weights}", COLLECTING, more=COLLECTIONS)
    assert [line for line in project.heard if "collects" in line] == [
        "the scoring script collects model_inputs and model_outputs itself; what it sends is recorded"]
    asked = {"data": [{"age": 1.5}, {"age": 2.0}]}
    status, answer, _ = call(asked, path="/score?x=1", x_request_id="r1")
    assert (status, answer["double"]) == (200, [3.0, 4.0])
    names = ("joined", "model_inputs", "model_outputs")
    (joined,), (inputs,), (outputs,) = (collected(project, name) for name in names)
    assert joined["data"] == [{"age": age, "double": 2 * age, "mail": "x@y.org"} for age in (1.5, 2.0)]
    assert joined["xrequestid"] == joined["correlationid"] == "mine-2"
    assert joined["time"] == "2013-07-01T06:00:00.000000Z"
    assert joined["shop"] == "caf\u00e9" and joined["type"] == "azureml.inference.joined"
    assert (joined["agent"], joined["collectdatatype"]) == (
        "azureml-ai-monitoring/1.0.0", "pandas.core.frame.DataFrame")
    assert {*joined} == {"specversion", "id", "source", "type", "datacontenttype", "time", "data", "correlationid",
                         "shop", "xrequestid", "modelversion", "collectdatatype", "agent", "contentrange"}
    assert [*(project.root / ".mlops/collected/tiny/blue/joined/2013/07/01/06").glob("*.jsonl")]
    assert inputs["data"] == asked["data"] and inputs["correlationid"] == outputs["correlationid"] == answer["id"]
    assert not (project.root / ".mlops/collected/tiny/blue/off").exists()
    (request,), (response,) = (collected(project, name) for name in ("request", "response"))
    assert (request["data"], request["path"], request["method"]) == (asked, "/score?x=1", "POST")
    assert response["data"] == answer and request["xrequestid"] == response["xrequestid"] == "r1"
    size = len(json.dumps(asked, separators=(",", ":")))
    assert request["contentrange"] == f"bytes 0-{size - 1}/{size}"


def test_personal_columns_never_reach_what_a_script_collects_and_bodies_are_refused(project):
    settings = "[project]\nexperiment = e\nmodel = m\n[deployment]\ndrop_columns = mail\n"
    (project.root / "settings.ini").write_text(settings)
    (project.root / "weights").mkdir()
    with pytest.raises(UserError, match="response and request would keep whole bodies"):
        project.deploy("{path: weights}", COLLECTING, more=COLLECTIONS)
    without = COLLECTIONS[:COLLECTIONS.index("    response")]
    assert project.deploy("{path: weights}", COLLECTING, more=without)({"data": [{"age": 1.0}]})[0] == 200
    (joined,) = collected(project, "joined")
    assert joined["data"] == [{"age": 1.0, "double": 2.0}]
    assert not any(b"x@y.org" in path.read_bytes() for path in (project.root / ".mlops/collected").rglob("*.jsonl"))


def test_a_sampling_rate_holds_for_what_a_script_collects_and_for_bodies(project):
    (project.root / "weights").mkdir()
    call = project.deploy("{path: weights}", COLLECTING, more=COLLECTIONS + "  sampling_rate: 0.0\n")
    for _ in range(5): assert call({"data": [{"age": 1.0}]})[0] == 200
    project.endpoints.stop("tiny")
    assert not [*(project.root / ".mlops/collected").rglob("*.jsonl")]


def test_bodies_that_are_no_json_or_long_lie_beside_their_events(project):
    (project.root / "weights").mkdir()
    payloads = "data_collector: {collections: {request: {enabled: 'true'}, response: {enabled: 'true'}}}\n"
    call = project.deploy("{path: weights}", RAW, more=payloads)
    assert call(None, path="/score?who=me", method="GET")[:2] == (200, b"me")
    (request,), (response,) = (collected(project, name) for name in ("request", "response"))
    assert (request["data"], request["method"], request["path"]) == ("", "GET", "/score?who=me")
    folder = project.root / ".mlops/collected/tiny/blue"
    assert response["datainblob"] == "true" and (folder / response["data"]).read_bytes() == b"me"
    assert response["datacontenttype"] == "text/plain" and response["contentrange"] == "bytes 0-1/2"


@pytest.mark.parametrize(("enabled", "said"), [("request", []), ("response", [
    "capture_headers keeps nothing: the collection request is not enabled"])])
def test_headers_are_kept_with_the_body_of_a_request(project, enabled, said):
    (project.root / "weights").mkdir()
    payloads = ("data_collector: {request_logging: {capture_headers: [X-Tenant, x-shop]}, "
                f"collections: {{{enabled}: {{enabled: 'true'}}}}}}\n")
    call = project.deploy("{path: weights}", RAW, more=payloads)
    assert [line for line in project.heard if "capture_headers" in line] == said
    assert call(None, path="/score?who=me", method="GET", X_Tenant="n\u00f6rth", x_other="no")[0] == 200
    (event,) = collected(project, enabled)
    assert event.get("headers") == (None if said else {"x-tenant": "n\u00f6rth"})


def test_only_the_script_of_a_deployment_may_send_records(project):
    (project.root / "weights").mkdir()
    call = project.deploy("{path: weights}", COLLECTING, more=COLLECTIONS)
    record = dict(ce_type="azureml.inference.joined", ce_time="1372658400")
    assert call([{"age": 1}], path="/modeldata/log", **record)[0] == 401
    build = project.endpoints.folder("tiny").state["deployments"]["blue"]["build"]
    config = project.root / f".mlops/endpoints/tiny/deployments/blue/{build}/collector.json"
    rates = {name: one["sampleRatePercentage"] for name, one in json.loads(config.read_text())["collections"].items()}
    assert rates == dict.fromkeys(("model_inputs", "model_outputs", "joined", "response", "request"), 100.0)


@pytest.mark.parametrize("script, sent", [
    ("from azureml.ai.monitoring import Collector\nCollector(name='model_inputs')\n", ("model_inputs", "mine")),
    ("import os\nfrom azureml.ai.monitoring import Collector\n"
     "if not os.environ.get('MLOPS_NB_RECORDS'): Collector(name='model_inputs')\n", ("mine",))])
def test_a_script_that_leaves_the_tables_to_the_host_sends_none_whatever_else_its_folder_names(tmp_path, script, sent):
    (tmp_path / "score.py").write_text(script)
    (tmp_path / "other.py").write_text("PACKAGE, TABLE = 'azureml.ai.monitoring', 'model_inputs'\n")
    assert find_sent(tmp_path, ["model_inputs", "mine", "request"]) == sent
