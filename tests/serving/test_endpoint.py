"The endpoint host, with real processes, real HTTP and real kills"
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_nb.errors import MlopsError, UserError
from mlops_nb.serving.router import BACK_OFF
from mlops_nb.serving.state import EndpointFolder

from tests.support import ROOT
from tests.support.searching import files_with
from tests.support.serving import FLIGHT, Client, Load, Receiver, flights, until

FILES = ROOT / "pipelines/deployment"


@pytest.fixture(scope="module")
def flight(serving):
    "The project's own endpoint: blue has the model that answers unknown carriers, green the one that does not"
    serving.deploy(FILES / "endpoint.yml", FILES / "deployment.yml", model="flight-delay:1")
    serving.deploy(FILES / "endpoint.yml", FILES / "deployment.yml", model="flight-delay:2", name="green")
    yield Client(serving, "flight-delay")
    serving.stop("flight-delay")


@pytest.fixture
def echo(serving):
    "A client of the endpoint `echo`, with all traffic on blue"
    client = Client(serving, "echo")
    client([{}])
    yield client
    serving.set_traffic("echo", {"blue": 100}, {})


@pytest.fixture(scope="module")
def green(serving):
    "A second deployment of `echo`"
    yield serving.deploy(serving.root / "endpoint.yml", serving.root / "deployment.yml", name="green")
    serving.delete("echo", "green")


def command(root, *words):
    "A command of the command line in the workspace"
    return subprocess.run([Path(sys.executable).with_name("mlops-nb"), *words], cwd=root, text=True,
                          capture_output=True)


# The model and its signature


def test_answers_equal_the_models_own(serving, flight):
    from mlops_nb.models import saving
    X, _ = flights()
    expected = saving.load(serving.root / "model1").predict_proba(X)[:, 1]
    body = [{k: None if v != v else v for k, v in row.items()} for row in X.to_dict("records")]
    split = {"input_data": {"columns": [*X], "index": [*range(len(X))], "data": [[*row.values()] for row in body]}}
    for form in (body, split, {"input_data": body}):
        status, answer, _ = flight(form, azureml_model_deployment="blue")
        assert status == 200 and [row["probability"] for row in answer] == pytest.approx(expected, abs=1e-9)


MISTAKES = {
    "not JSON": (b"{", 400, "not JSON"), "empty body": (b"", 400, "not JSON"),
            "empty batch": ([], 400, "batch is empty"),
    "NaN": (b'[{"carrier": "UA", "hour": NaN, "gust": 1}]', 400, "NaN is not JSON"),
    "Infinity": (b'[{"carrier": "UA", "hour": Infinity, "gust": 1}]', 400, "Infinity is not JSON"),
    "overflow": (b'[{"carrier": "UA", "hour": 1e999, "gust": 1}]', 400, "hour is Infinity"),
    "missing": ([{"carrier": "UA", "gust": 1}], 400, "row 0 lacks hour"),
    "extra": ([FLIGHT, {**FLIGHT, "gate": 1}], 400, "row 1 has 'gate'"),
    "wrong type": ([{**FLIGHT, "hour": "late"}], 400, 'hour is "late"'),
            "true": ([{**FLIGHT, "hour": True}], 400, "hour is true"),
    "null": ([{**FLIGHT, "hour": None}], 400, "hour is null"),
            "number as text": ([{**FLIGHT, "carrier": 7}], 400, "carrier is 7"),
    "a record": (FLIGHT, 400, "no table"), "rows of lists": ([[1, 2, 3]], 400, "row 0 is not a record"),
    "too deep": (b"[" * 50_000, 400, "nested too deeply"), "not UTF-8": (b'[{"carrier": "\xff"}]', 400, ""),
    "ragged": ({"input_data": {"columns": ["carrier", "hour"], "data": [["UA"]]}}, 400, "data[0]"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_of_the_caller_is_named(flight, name):
    body, status, message = MISTAKES[name]
    got, answer, headers = flight(body, azureml_model_deployment="blue")
    assert got == status and message in json.dumps(answer, ensure_ascii=False).replace('\\"', '"')
    assert headers["content-type"].startswith("application/json")


def test_an_unknown_category_is_answered_or_refused_as_the_model_can(flight):
    unknown = [{**FLIGHT, "carrier": "ZZ"}]
    assert flight(unknown, azureml_model_deployment="blue")[0] == 200
    status, answer, _ = flight(unknown, azureml_model_deployment="green")
    assert status == 400 and "unknown categories" in answer["error"]["message"]


def test_another_content_type_is_415_and_a_large_body_413(flight):
    assert flight([FLIGHT], Content_Type="text/csv")[0] == 415
    status, answer, _ = flight(b" " * (10 * 1024**2 + 1))
    assert status == 413 and "10485760" in answer["error"]["accepted"]
    assert flight(b" " * (10 * 1024**2 - 200) + json.dumps([FLIGHT]).encode())[0] == 200


def test_swagger_shows_the_models_columns(flight):
    status, found, headers = flight(None, path="/swagger.json", method="GET")
    row = found["definitions"]["ServiceInput"]["items"]
    assert (status, headers["azureml-model-deployment"], found["info"]["version"]) == (200, "blue", "1")
    assert [*row["properties"]] == ["carrier", "hour", "gust"] and row["required"] == ["carrier", "hour"]
    assert flight(None, path="/swagger.json", method="GET", key="wrong")[0] == 401


def test_a_model_with_another_checksum_does_not_start_and_the_old_one_serves_on(serving, flight, monkeypatch):
    from mlops_nb.serving import endpoints
    fetch = endpoints.fetch_model

    def spoilt(root, reference, to):
        found = fetch(root, reference, to)
        next(to.glob("*/requirements.txt")).write_text("something-else")
        return found

    monkeypatch.setattr(endpoints, "fetch_model", spoilt)
    before = serving.show("flight-delay").deployments["blue"]
    with pytest.raises(MlopsError, match="requirements.txt was changed"):
        serving.deploy(FILES / "endpoint.yml", FILES / "deployment.yml", model="flight-delay:2")
    assert serving.show("flight-delay").deployments["blue"] == before
    assert flight([FLIGHT], azureml_model_deployment="blue")[0] == 200


@pytest.mark.filterwarnings("ignore")
def test_the_files_are_azures():
    from azure.ai.ml import load_online_deployment, load_online_endpoint
    endpoint, deployment = (
        load_online_endpoint(FILES / "endpoint.yml"),
        load_online_deployment(FILES / "deployment.yml"),
    )
    assert (endpoint.name, deployment.endpoint_name,
            deployment.model) == ("flight-delay", "flight-delay", "flight-delay@latest")
    assert {*deployment.data_collector.collections} == {"model_inputs", "model_outputs"}


# Keys, ids, routes


def test_only_a_key_opens(serving, echo):
    for key in (None, "", "Bearer", "wrong"): assert echo([{}], Authorization=key)[0] == 401
    for key in serving.keys("echo").values(): assert echo([{}], key=key)[0] == 200
    assert echo(None, path="/", method="GET", Authorization=None)[:2] == (200, b"Healthy")
    assert [echo(None, method=method)[0] for method in ("PUT", "DELETE")] == [405, 405]
    assert echo(None, path="/nothing", method="GET")[0] == 404


def test_a_key_is_rotated_while_the_other_one_works(serving, echo):
    old = serving.keys("echo")
    new = serving.keys("echo", regenerate="primary")
    assert (old["secondary"], old["primary"] == new["primary"]) == (new["secondary"], False)
    assert [echo([{}], key=key)[0] for key in (old["primary"], new["primary"], new["secondary"])] == [401, 200, 200]


def test_no_key_is_written_anywhere_but_to_its_file(serving, echo):
    echo([{}], key="not-a-key")
    home, names = serving.root / ".mlops", [*serving.keys("echo").values()]
    holding = files_with(home, names)
    assert holding == [home / "endpoints/echo/keys.json"] and holding[0].stat().st_mode & 0o777 == 0o600
    pids = [EndpointFolder(serving.root, "echo").host.pid,
            *(one.pid for one in serving.show("echo").deployments.values())]
    assert not any(key.encode() in Path(f"/proc/{pid}/{part}").read_bytes() for key in names for pid in pids
                   for part in ("cmdline", "environ"))


def test_ids_are_echoed(echo):
    _, _, headers = echo([{}], x_request_id="r-1", x_ms_client_request_id="c-1")
    assert (headers["x-request-id"], headers["x-ms-client-request-id"]) == ("r-1", "c-1")
    assert echo([{}])[2]["x-request-id"] != echo([{}])[2]["x-request-id"]
    assert echo([{}], x_request_id="x" * 101)[0] == 431


def test_everything_listens_on_loopback_only(serving, echo):
    def listening(table):
        return [line.split()[1] for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
                if line.split()[3] == "0A"]
    port = f"{echo.address.port:04X}"
    assert [one for one in listening("tcp")
            if one.endswith(port)] == [f"0100007F:{port}"] and not [one for one in listening("tcp6")
                                                                    if one.endswith(port)]
    sockets = Path(EndpointFolder(serving.root, "echo").status["sockets"])
    assert sockets.stat().st_mode & 0o777 == 0o700


# Traffic


def test_traffic_moves_under_load_without_a_failed_request(serving, echo, green):
    with Load(echo) as load:
        for shares in ({"blue": 50, "green": 50}, {"green": 100}, {"blue": 90, "green": 10}, {"blue": 100}) * 3:
            serving.set_traffic("echo", shares)
            load.served(20)
        serving.set_traffic("echo", {"green": 100})
        begin = len(load.replies)
        load.served(50)
    assert not load.errors and {status for status, _, _ in load.replies} == {200}
    late = [name for _, _, name in load.replies[begin:]]
    # only what was under way when the traffic moved
    assert late.count("blue") <= len(load.threads) < late.count("green")
    assert {name for _, _, name in load.replies} == {"blue", "green"}


def test_a_header_pins_a_deployment(echo, green):
    assert {echo([{}], azureml_model_deployment="green")[2]["azureml-model-deployment"] for _ in range(10)} == {"green"}
    status, answer, _ = echo([{}], azureml_model_deployment="red")
    assert status == 404 and answer["error"]["accepted"] == "blue, green"


def test_a_mirror_gets_copies_and_never_answers(serving, echo, green):
    serving.set_traffic("echo", {"blue": 100}, {"green": 50})
    since = [*serving.events("echo")][-1]["cursor"]
    replies = [echo([{"sleep": 0.01}], x_request_id=f"mirror-{number}") for number in range(60)]
    copies = until(lambda: (found := [e for e in serving.events("echo", since) if e["mirror"]]) and len(found) > 10
                   and found)
    assert {headers["azureml-model-deployment"] for _, _, headers in replies} == {"blue"}
    assert {e["deployment"] for e in copies} == {"green"} and {e["request_id"]
                                                               for e in copies} <= {f"mirror-{n}" for n in range(60)}
    assert 10 < len(copies) < 50


def test_shares_that_azure_refuses_are_refused(serving, echo):
    for traffic, mirror in (({"blue": 99}, {}), ({"red": 100}, {}), ({"blue": 100}, {"blue": 10})):
        with pytest.raises(UserError): serving.set_traffic("echo", traffic, mirror)
    with pytest.raises(UserError, match="blue has traffic"): serving.delete("echo", "blue")
    assert serving.show("echo").traffic == {"blue": 100}


def test_a_new_build_takes_over_under_load(serving, echo):
    before = serving.show("echo").deployments["blue"].pid
    with Load(echo) as load:
        load.served(20)
        serving.deploy(serving.root / "endpoint.yml", serving.root / "deployment.yml", replay=True)
        load.served(20)
    assert not load.errors and {status for status, _, _ in load.replies} == {200}
    until(lambda: not Path(f"/proc/{before}").exists())
    assert serving.show("echo").deployments["blue"].pid != before


# Limits


def deploy_limited(serving, name: str, limits: str):
    "Deploy the echo under another name, with other request settings"
    given, others = f"request_settings: {{{limits}}}", (serving.root / "deployment.yml").read_text().splitlines()
    text = "\n".join(given if line.startswith("request_settings") else line for line in others)
    (serving.root / f"{name}.yml").write_text(text.replace("blue", name))
    serving.deploy(serving.root / "endpoint.yml", serving.root / f"{name}.yml")


def test_time_and_places_are_limited(serving, echo):
    deploy_limited(serving, "tight", "request_timeout_ms: 700, max_concurrent_requests_per_instance: 1")
    assert echo([{"sleep": 5}], azureml_model_deployment="tight")[0] == 408
    until(lambda: echo([{}], azureml_model_deployment="tight")[0] == 200)
    with Load(echo, threads=4, body=[{"sleep": 0.2}], azureml_model_deployment="tight") as load: load.served(20)
    assert {200, 429} <= {status for status, _, _ in load.replies} <= {200, 429, 408}
    serving.delete("echo", "tight")


def test_refused_callers_leave_time_for_the_others(serving, echo):
    deploy_limited(serving, "single", "max_concurrent_requests_per_instance: 1")
    threads, began = 20, time.monotonic()
    with Load(echo, threads=threads, body=[{"sleep": 0.1}], azureml_model_deployment="single") as load: load.served(100)
    refused = [status for status, _, _ in load.replies].count(429)
    assert refused, "more callers than places"
    assert refused <= threads * ((time.monotonic() - began) / BACK_OFF + 1), "each waits before it asks again"
    assert not load.errors
    serving.delete("echo", "single")


def test_what_goes_wrong_is_in_the_events(serving, echo):
    since = [*serving.events("echo")][-1]["cursor"]
    for body, status in (([{"p": 0.3}], 200), ([{"p": 7}], 200), ([{"fail": True}], 500)):
        assert echo(body)[0] == status
    found = [*serving.events("echo", since)]
    assert [(e["status"], e["valid"]) for e in found] == [(200, True), (200, False), (500, False)]
    assert [*serving.events("echo", found[-1]["cursor"])] == [] and all(e["milliseconds"] > 0 for e in found)


# Crashes


def test_a_killed_deployment_comes_back_and_its_traffic_is_held(serving, echo):
    with Load(echo) as load:
        load.served(20)
        os.kill(serving.show("echo").deployments["blue"].pid, signal.SIGKILL)
        until(lambda: serving.show("echo").deployments["blue"].restarts == 1
              and serving.show("echo").deployments["blue"].state == "Ready")
        load.served(20)
    assert not load.errors and {status for status, _, _ in load.replies} == {200}


def test_a_request_that_kills_its_worker_is_given_up_and_others_go_on(echo):
    assert echo([{"die": True}])[0] == 502
    assert until(lambda: echo([{}])[0] == 200)


def test_a_killed_host_leaves_nothing_behind_and_comes_back_as_it_was(serving, echo):
    before, keys = serving.show("echo"), serving.keys("echo")
    children = [one.pid for one in before.deployments.values()]
    os.kill(EndpointFolder(serving.root, "echo").host.pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    shown = command(serving.root, "endpoint", "status", "echo")
    assert "NOT running" in shown.stdout and "Stopped" in shown.stdout and not serving.show("echo").running
    with pytest.raises(UserError, match="does not run"): serving.set_traffic("echo", {"blue": 100})
    assert command(serving.root, "endpoint", "start", "echo").returncode == 0
    after = serving.show("echo")
    assert (after.scoring_uri, after.traffic, after.running) == (before.scoring_uri, before.traffic, True)
    assert serving.keys("echo") == keys and Client(serving, "echo")([{}])[0] == 200


def test_a_deployment_without_traffic_is_not_lost_when_it_cannot_start_at_once(serving, echo, green):
    script = next((serving.root / ".mlops/endpoints/echo/deployments/green").glob("*/code/score.py"))
    serving.stop("echo")
    script.rename(script.with_suffix(".aside"))
    serving.start("echo")
    until(lambda: serving.show("echo").deployments["green"].restarts >= 1)
    script.with_suffix(".aside").rename(script)
    until(lambda: serving.show("echo").deployments["green"].state == "Ready")
    serving.stop("echo")
    serving.start("echo")    # waits for blue alone
    serving.stop("echo")
    serving.start("echo")
    until(lambda: serving.show("echo").deployments["green"].state == "Ready")


def test_the_host_outlives_the_shell_and_stops_when_told(serving, tmp_path):
    pid, children = EndpointFolder(serving.root,
                                   "echo").host.pid, [one.pid for one in serving.show("echo").deployments.values()]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert command(serving.root, "endpoint", "stop", "echo").returncode == 0
    assert not serving.show("echo").running
    until(lambda: not any(Path(f"/proc/{one}").exists() for one in (pid, *children)))
    serving.start("echo")


# Commands and telemetry


def test_commands_speak_json(serving, echo):
    found = json.loads(command(serving.root, "endpoint", "status", "--json").stdout)
    assert {one["name"] for one in found} >= {"echo"} and found[0]["deployments"]
    assert command(serving.root, "endpoint", "traffic", "echo").stdout == "blue=100\n"
    assert json.loads(command(serving.root, "endpoint", "keys", "echo", "--json").stdout) == serving.keys("echo")
    refused = command(serving.root, "endpoint", "traffic", "echo", "blue=120")
    assert refused.returncode == 2 and "whole numbers from 0 to 100" in refused.stderr


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="only Linux says, in /proc, how much memory a process takes")
def test_the_log_says_how_much_memory_the_processes_take(serving, flight):
    flight([FLIGHT])
    *_, last = serving.events("flight-delay")
    assert 20 < last["memory"] < 4000, "MB of the workers, which hold a model"


def test_telemetry_goes_to_files(serving, flight):
    flight([FLIGHT], x_request_id="traced")
    def lines():
        return [line for path in (serving.root / ".mlops/telemetry/flight-delay").glob("traces-*.jsonl")
                for line in path.read_text().splitlines() if "traced" in line]
    span = json.loads(until(lines)[0])
    assert (
        span["attributes"]["mlops.deployment"] == "blue"
        and span["resource"]["attributes"]["service.name"] == "flight-delay"
    )


def test_telemetry_goes_to_a_receiver_that_the_environment_names(serving, monkeypatch):
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    receiver = Receiver()
    for name, value in {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.address,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }.items():
        monkeypatch.setenv(name, value)
    serving.stop("echo")
    serving.start("echo")
    Client(serving, "echo")([{}], traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    def spans():
        return [s for body in [*receiver.got["/v1/traces"]]
                for r in ExportTraceServiceRequest.FromString(body).resource_spans for c in r.scope_spans
                for s in c.spans]
    span = until(lambda: next((s for s in spans() if s.trace_id.hex() == "0af7651916cd43dd8448eb211c80319c"), None))
    attributes = {a.key: a.value for a in span.attributes}
    assert (attributes["mlops.deployment"].string_value,
            attributes["http.response.status_code"].int_value) == ("blue", 200)
    def names():
        return {m.name for body in [*receiver.got["/v1/metrics"]]
                for r in ExportMetricsServiceRequest.FromString(body).resource_metrics for c in r.scope_metrics
                for m in c.metrics}
    assert until(lambda: {"http.server.request.duration", "http.server.active_requests"} <= names())
