"Batch endpoints: each call is a job that scores files in mini-batches with the deployment's own script"
import json
import uuid
from pathlib import Path

from .arm import Call, default_delete, on, operation, read, store
from .jobs import Execution, project, seen, services
from .proxy import REGION, Answer, Request
from .rebuild import Rebuild, bad


@on("PUT", "workspaces/batchEndpoints")
def put_endpoint(bench, call: Call) -> Answer:
    before = bench.state.get(call.id)
    uri = (f"https://{REGION}.api.azureml.ms/mferp/managementfrontend{call.id}/"
           "jobs?api-version=2020-09-01-dataplanepreview")
    made = store(bench, call, {"location": REGION, **call.body}, provisioningState="Succeeded", scoringUri=uri,
                 swaggerUri=uri.replace("/jobs?", "/swagger.json?"))
    return Answer(200 if before else 201, made, operation(bench, call, 0.0, made))


@on("PUT", "workspaces/batchEndpoints/deployments")
def put_deployment(bench, call: Call) -> Answer:
    "A deployment is rebuilt at once, so that what was not uploaded is missed now"
    before, endpoint = bench.state.get(call.id), bench.state.need(call.id.rsplit("/", 2)[0])
    rebuilt(bench, call.workspace, call.body["properties"], call.name)
    made = store(bench, call, {"location": REGION, **call.body}, provisioningState="Succeeded")
    endpoint["properties"].setdefault("defaults", {}).setdefault("deploymentName", call.name)
    return Answer(200 if before else 201, made, operation(bench, call, 0.0, made))


def delete(bench, call: Call) -> Answer:
    default_delete(bench, call)
    return Answer(202, None, operation(bench, call))


on("DELETE", "workspaces/batchEndpoints")(delete)
on("DELETE", "workspaces/batchEndpoints/deployments")(delete)


def rebuilt(bench, workspace: str, said: dict, name: str) -> tuple[Rebuild, dict]:
    "The parallel step that a deployment amounts to"
    root = project(bench, bench.state.need(workspace))
    made, code = Rebuild(bench, workspace, root, root / "submitted" / name), said.get("codeConfiguration")
    if not code: raise bad("the stand-in scores with deployments that bring a scoring script")
    model = said["model"]["assetId"] if isinstance(said["model"], dict) else said["model"]
    task = {"type": "run_function", "code": made.code(code["codeId"]), "entry_script": code["scoringScript"],
            "environment": made.environment(said.get("environmentId")),
            "program_arguments": "--model ${{inputs.model}}", "append_row_to": "${{outputs.score}}"}
    retry = said.get("retrySettings") or {}
    return made, {"type": "parallel", "input_data": "${{inputs.data}}",
                  "mini_batch_size": str(said.get("miniBatchSize", 10)),
                  "max_concurrency_per_instance": said.get("maxConcurrencyPerInstance", 1), "task": task,
                  "retry_settings": {"max_retries": retry.get("maxRetries", 3), "timeout": 60},
                  "outputs": {"score": {"type": "uri_file"}}, "inputs": {"data": None,
                                                                         "model": {"type": "custom_model",
                                                                                   "path": made.data(model)}},
                  "environment_variables": {"AZUREML_MODEL_DIR": "${{inputs.model}}",
                                            **(said.get("environmentVariables") or {})},
                  "resources": {"instance_count": 1}}


@on("POST", "workspaces/batchEndpoints/jobs")
def invoke(bench, call: Call) -> Answer:
    "Score what the request names"
    endpoint = bench.state.need(call.action_on)
    chosen = call.request.headers.get("azureml-model-deployment") or (endpoint["properties"].get("defaults")
                                                                      or {}).get("deploymentName")
    said = bench.state.need(f"{endpoint['id']}/deployments/{chosen}")["properties"]
    asked, name = call.body.get("properties") or {}, call.body.get("name") or f"batchjob-{uuid.uuid4()}"
    if bench.identities: bench.identities.check_batch(bench.state.need(call.workspace), said.get("compute"))
    made, step = rebuilt(bench, call.workspace, said, name)
    given = next(iter((asked.get("inputData") or asked.get("dataset") or {}).values()), None)
    if not given: raise bad("the request names no input data")
    uri = given.get("uri") or given.get("path") or given.get("datasetId")
    step["inputs"]["data"] = {"type": "uri_folder" if "folder" in str(given.get("jobInputType", "folder")).lower()
                              else "uri_file", "path": made.data(uri)}
    file = made.write("job.yml", {"type": "pipeline", "display_name": endpoint["name"],
                                  "experiment_name": asked.get("experimentName") or endpoint["name"],
                                  "jobs": {"batchscoring": step}})
    job = read(Request("PUT", call.request.host, f"{call.workspace}/jobs/{name}", {}))
    resource = store(bench, job, {"properties": {"jobType": "Pipeline", "experimentName": endpoint["name"],
                                                 "displayName": endpoint["name"],
                                                 "properties": {"azureml.endpointName": endpoint["name"],
                                                                "azureml.deploymentName": chosen}, "tags": {}}},
                     status="NotStarted", services=services(job), isArchived=False)
    run = Execution(bench, job.id, project(bench, bench.state.need(call.workspace)), Path(file))
    run.names["score"] = said.get("outputFileName") or "predictions.csv"
    bench.executions.append(run)
    bench.runs[job.id.lower()] = run
    return Answer(201, seen(bench, json.loads(json.dumps(resource))))


@on("GET", "workspaces/batchEndpoints/jobs")
def invoked(bench, call: Call) -> Answer:
    "Jobs of an endpoint"
    name = call.segments[3]
    return Answer(200, {"value": [seen(bench, one) for one in bench.state.all("workspaces/jobs")
                                  if (one["properties"].get("properties") or {}).get("azureml.endpointName") == name]})
