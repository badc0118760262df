"Jobs: what is submitted runs, here, in a process of its own, and its state is what the client sees"
import json
import os
import signal
import sqlite3
import subprocess
import time
import venv
from pathlib import Path

from .arm import Call, Refused, listed, on, operation, store
from .outcomes import child_name, settle
from .proxy import Answer
from .rebuild import Rebuild

HERE = Path(__file__).resolve()
PACKAGE = HERE.parents[3] / "mlops_nb"
RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
DONE = ("Completed", "Failed", "Canceled")


def image(folder: Path) -> Path:
    "A Python that has this one's packages but not the project, which is what a job's image is"
    python = folder / "image" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "image", symlinks=True)
        import mlflow
        here = next((folder / "image").glob("lib/python*/site-packages"))
        # A path, so that its own .pth files do not count
        (here / "packages.pth").write_text(f"{Path(mlflow.__file__).parents[1]}\n")
    return python


def project(bench, workspace: dict) -> Path:
    "The folder in which the stand-in keeps what a workspace ran"
    folder = bench.folder / "workspaces" / workspace["properties"]["workspaceId"]
    if not folder.exists():
        (folder / ".mlops").mkdir(parents=True)
        (folder / "mlops_nb").symlink_to(PACKAGE)
    return folder


class Execution:
    "A job that was submitted"
    def __init__(self, bench, id: str, folder: Path, file: Path):
        self.bench, self.id, self.folder, self.file = bench, id, folder, file
        self.created, self.canceled, self.settled = time.time(), False, False
        self.stored: dict[str | tuple[str, ...], str] = {}
        self.names: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.name, self.workspace = id.rsplit("/", 1)[-1], id.split("/jobs/")[0]
        self.log = (file.parent / "execution.log").open("w")
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("MLFLOW_", "PYTEST_", "AZURE", "MLOPS_NB"))
               and name.lower() not in ("https_proxy", "http_proxy", "pythonpath")}
        if bench.portable:
            tracking = bench.state.need(self.workspace)["properties"]["mlFlowTrackingUri"]
            env |= bench.env | {"LOOPBACK_TRACKING": tracking}
        words = [str(image(bench.folder)), "-c", RUN, str(HERE.with_name("execute.py")), str(file)]
        self.process = subprocess.Popen(words, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, start_new_session=True)

    @property
    def local(self) -> dict:
        try: return json.loads((self.file.parent / "local.json").read_text())
        except FileNotFoundError: return {}

    def rows(self, query: str, *values) -> list[dict]:
        "From the database of the local workspace"
        db = sqlite3.connect(self.folder / ".mlops" / "workspace.db", timeout=60)
        db.row_factory = sqlite3.Row
        try: return [dict(row) for row in db.execute(query, values)]
        finally: db.close()

    @property
    def long(self) -> str:
        "The workspace in the long form of a datastore path"
        _, subscription, _, group, *_, name = self.workspace.strip("/").split("/")
        return f"subscriptions/{subscription}/resourcegroups/{group}/workspaces/{name}"

    @property
    def row(self) -> dict:
        return (self.rows("SELECT * FROM jobs WHERE id = ?", self.local["id"]) or [{}])[0] if self.local else {}

    @property
    def steps(self) -> dict[str, dict]:
        return {row["name"]: row for row in self.rows("SELECT * FROM steps WHERE job = ? ORDER BY position",
                                                      self.local["id"])} if self.local else {}

    @property
    def ended(self) -> bool: return self.process.poll() is not None

    @property
    def status(self) -> str:
        if self.canceled: return "Canceled" if self.ended else "CancelRequested"
        if self.ended:
            found = self.row.get("status")
            return found if found in DONE else "Failed"
        return "Running" if self.local else "Preparing"

    def cancel(self):
        self.canceled = True
        if not self.ended: self.process.send_signal(signal.SIGTERM)

    def stop(self):
        "End it whatever it does"
        if not self.ended:
            try: os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError: pass
            self.process.wait(30)
        self.log.close()

    def logs(self) -> dict[str, str]:
        "Step -> its standard output so far"
        base = self.folder / ".mlops" / "jobs" / self.local["id"] if self.local else None
        own = {"executionlogs": "".join(f"{name} {row['status']}\n"
                                        for name, row in self.steps.items() if row["status"] != "NotStarted")}
        return own | {name: text_of(base / name / "std_log.txt")
                      for name in self.local.get("steps", ())} if base else {}


def text_of(path: Path) -> str: return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


@on("PUT", "workspaces/jobs")
def put_job(bench, call: Call) -> Answer:
    "Submit a job; a name is used once"
    workspace = bench.state.need(call.workspace)
    if found := bench.state.get(call.id):
        if bench.state.requests[call.id.lower()].get("properties",
                                                     {}).get("jobs") != call.body["properties"].get("jobs"):
            raise Refused(409, "UserError", f"A job with the name {call.name} exists already")
        found["properties"].update({key: call.body["properties"][key]
                                    for key in ("tags", "displayName", "description", "isArchived")
                                    if key in call.body["properties"]})
        return Answer(200, seen(bench, found))
    if bench.identities: bench.identities.check_job(workspace, call.body["properties"])
    made = store(bench, call, call.body, status="NotStarted", services=services(call), isArchived=False)
    try: submit(bench, workspace, call, made)
    except Refused:
        del bench.state.resources[call.id.lower()]
        raise
    return Answer(201, seen(bench, made))


def submit(bench, workspace: dict, call: Call, made: dict):
    "Rebuild the job from what was uploaded, and start it"
    folder = project(bench, workspace)
    rebuilt = Rebuild(bench, workspace["id"], folder, folder / "submitted" / call.name)
    file = rebuilt.job(made["properties"])
    if bench.held(call.name): return
    run = Execution(bench, call.id, folder, file)
    bench.executions.append(run)
    bench.runs[call.id.lower()] = run


def services(call: Call) -> dict:
    "Where a person would look at the job"
    studio = f"https://ml.azure.com/runs/{call.name}?wsid={call.workspace}"
    tracking = f"azureml://eastus.api.azureml.ms/mlflow/v1.0{call.workspace}?"
    return {"Tracking": {"jobServiceType": "Tracking", "endpoint": tracking, "status": None, "port": None,
                         "errorMessage": None, "properties": None, "nodes": None},
            "Studio": {"jobServiceType": "Studio", "endpoint": studio, "status": None, "port": None,
                       "errorMessage": None, "properties": None, "nodes": None}}


def seen(bench, made: dict) -> dict:
    "The job as it is now"
    run = bench.runs.get(made["id"].lower())
    if run: made["properties"]["status"] = run.status
    if run and run.ended and run.local and not run.settled: settle(bench, run)
    return made


@on("GET", "workspaces/jobs")
def get_job(bench, call: Call) -> Answer:
    if call.single:
        return Answer(200, seen(bench, found) if (found := bench.state.get(call.id)) else child(bench, call))
    found = [seen(bench, one) for one in listed(bench, call)][::-1]
    return Answer(
        200,
        {
            "value": [
                one
                for one in found
                if call.query.get("jobType", one["properties"]["jobType"]).lower()
                == one["properties"]["jobType"].lower()
            ]
        },
    )


def child(bench, call: Call) -> dict:
    "A step of a pipeline, which is a job of its own"
    for run in bench.runs.values():
        for step, row in run.steps.items():
            if child_name(run, step, row) != call.name: continue
            made = seen(bench, bench.state.need(run.id))
            store = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{call.name}"
            said = {"jobType": "Command", "displayName": step,
                    "experimentName": made["properties"].get("experimentName", "Default"), "status": row["status"],
                    "services": services(call), "isArchived": False,
                    "tags": {}, "properties": {"azureml.parentrunid": run.name}, "inputs": {},
                    "outputs": {"default": {"jobOutputType": "uri_folder", "mode": "ReadWriteMount", "uri": store}}}
            said |= commanded((json.loads(run.file.read_text()).get("jobs") or {}).get(step) or {})
            return {**made, "id": call.id, "name": call.name, "properties": said}
    raise Refused(404, "ResourceNotFound", f"The resource {call.id} was not found.")


def commanded(node: dict) -> dict:
    "What a step runs, and in which environment"
    file = str(node.get("component") or node.get("trial") or "").removeprefix("file:")
    component = json.loads(Path(file).read_text()) if file else {}
    return {"command": component.get("command") or "run",
            "environmentId": component.get("environment") or "environment"}


@on("POST", "workspaces/jobs/cancel")
def cancel_job(bench, call: Call) -> Answer:
    "Ask a job to stop"
    made = bench.state.need(call.action_on)
    if run := bench.runs.get(made["id"].lower()): run.cancel()
    elif made["properties"]["status"] not in DONE: made["properties"]["status"] = "Canceled"
    return Answer(202, None, {"Location": operation(bench, call, 0.0)["Location"], "Retry-After": "1"})


@on("DELETE", "workspaces/jobs")
def delete_job(bench, call: Call) -> Answer:
    run = bench.runs.pop(call.id.lower(), None)
    if run: run.stop()
    return Answer(202, None, operation(bench, call)) if bench.state.resources.pop(call.id.lower(),
                                                                                  None) else Answer(204)
