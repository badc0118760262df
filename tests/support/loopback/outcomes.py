"""What a job left, where Azure would leave it: outputs and logs in the workspace's storage, named outputs and models
as assets"""
import json
import sqlite3
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from .arm import Call, store
from .assets import touch
from .rebuild import BINDING

DATA, FILES = "workspaceblobstore", "workspaceartifactstore"


def child_name(run, step: str, row: dict) -> str | None:
    "A step's own job name: its MLflow run; a reused step has none of its own"
    return row["run_id"] if row["run_id"] and not row["reused"] else f"{run.name}-{step}" if row["reused"] else None


def settle(bench, run):
    "Once, when the job has ended"
    run.settled, run.stored = True, {}
    for step, row in run.steps.items():
        name = child_name(run, step, row)
        if not name: continue
        logs(bench, run, step, name)
        # a batch job's is its own
        for port, made in json.loads(row["outputs"] or "{}").items():
            keep(bench, run, Path(made["path"]), f"azureml/{run.name if run.names else name}/{port}", (step, port))
    files(bench, run)
    pipeline_outputs(bench, run)
    named(bench, run)
    models(bench, run.workspace, run.folder)


def container(bench, workspace: str, datastore: str) -> str:
    return bench.state.need(f"{workspace}/datastores/{datastore}")["properties"]["containerName"]


def keep(bench, run, path: Path, prefix: str, port: tuple):
    "Upload one output"
    prefix += f"/{run.names.get(port[1], path.name)}" if path.is_file() else ""
    if path.exists(): bench.storage.store(path, container(bench, run.workspace, DATA), prefix)
    run.stored[port] = run.stored[str(path)] = (f"azureml://datastores/{DATA}/paths/"
                                                f"{prefix}{'' if path.is_file() else '/'}")


def logs(bench, run, step: str, name: str):
    "A step's log and what it wrote to outputs/"
    folder = run.folder / ".mlops" / "jobs" / run.local["id"] / step
    target = container(bench, run.workspace, FILES)
    if (folder / "std_log.txt").exists():
        bench.storage.put(target, f"ExperimentRun/dcid.{name}/user_logs/std_log.txt",
                          (folder / "std_log.txt").read_bytes())


def files(bench, run):
    "Artifacts of the job's MLflow runs"
    root, target = run.folder / ".mlops" / "mlartifacts", container(bench, run.workspace, FILES)
    for name, run_id in [(run.name, run.row.get("run_id"))] + [(child_name(run, step, row), row["run_id"])
                                                               for step, row in run.steps.items() if not row["reused"]]:
        for place in root.glob(f"**/{run_id}/artifacts") if run_id else ():
            for file in sorted(path for path in place.rglob("*") if path.is_file()):
                bench.storage.put(target, f"ExperimentRun/dcid.{name}/{file.relative_to(place).as_posix()}",
                                  file.read_bytes())


def pipeline_outputs(bench, run):
    "The outputs of the job itself"
    made = bench.state.get(run.id)["properties"]
    made.setdefault("outputs", {})
    spec = json.loads(run.file.read_text())
    bound = {}
    for step, node in (spec.get("jobs") or {}).items():
        for port, given in (node.get("outputs") or {}).items():
            match = BINDING.fullmatch(given) if isinstance(given, str) else None
            if match and match["output"]: bound[match["output"]] = (step, port)
    for name in spec.get("outputs") or {}:
        place = run.stored.get(bound.get(name)) or next((uri for key, uri in run.stored.items()
                                                         if isinstance(key, tuple) and key[1] == name
                                                         and "jobs" not in spec), None)
        if place and made["outputs"].get(name): made["outputs"][name]["uri"] = place
    made["outputs"]["default"] = {"jobOutputType": "uri_folder", "mode": "ReadWriteMount",
                                  "uri": f"azureml://datastores/{FILES}/ExperimentRun/dcid.{run.name}"}
    if (
        name := run.steps
        and len(run.steps) == 1
        and "jobs" not in spec
        and child_name(run, *next(iter(run.steps.items())))
    ):
        made["outputs"]["default"]["uri"] = f"azureml://datastores/{FILES}/ExperimentRun/dcid.{name}"


def asset(bench, workspace: str, kind: str, name: str, version: str, properties: dict):
    "A version of an asset that a job made"
    scope, _, rest = workspace.partition("/providers/")
    provider, *segments = rest.split("/")
    call = Call(bench.own_request, scope, provider, [*segments, kind, name, "versions", version])
    if bench.state.get(call.id): return
    touch(bench, call, properties.get("dataType"))
    store(bench, call, {"properties": {"isAnonymous": False, "isArchived": False, "tags": {}, "properties": {},
                                       **properties}})


def named(bench, run):
    "Outputs that the job file gives a name"
    for row in run.rows("SELECT * FROM assets"):
        uri = run.stored.get(row["path"])
        if not uri or json.loads(row["info"]).get("job") != run.local["id"]: continue
        if row["kind"] == "data":
            asset(bench, run.workspace, "data", row["name"], row["version"],
                  {"dataType": row["type"], "dataUri": f"azureml://{run.long}/{uri.removeprefix('azureml://')}"})
        else:
            asset(bench, run.workspace, "models", row["name"], row["version"],
                  {"modelType": row["type"], "modelUri": uri, "jobName": run.name, "flavors": {}})


def models(bench, workspace: str, folder: Path):
    "Models that were registered through MLflow are models of the workspace, with the tags of their versions"
    path = folder / ".mlops" / "mlflow.db"
    if not path.exists(): return
    db = sqlite3.connect(path, timeout=60)
    try:
        rows = db.execute("SELECT name, version, source, run_id FROM model_versions").fetchall()
        tags = db.execute("SELECT name, version, key, value FROM model_version_tags").fetchall()
    finally: db.close()
    for name, version, source, run_id in rows:
        id = f"{workspace}/models/{name}/versions/{version}"
        if not bench.state.get(id) and (uri := model_uri(bench, workspace, name, version, source)):
            asset(bench, workspace, "models", name, str(version),
                  {"modelType": "mlflow_model", "modelUri": uri, "flavors": {},
                   **({"jobName": run_id} if run_id else {})})
        if found := bench.state.get(id):
            found["properties"]["tags"] = {key: value for one, number, key, value in tags
                                           if (one, number) == (name, version)}


def model_uri(bench, workspace: str, name: str, version: int, source: str) -> str | None:
    """Where the files of a model version are in the workspace's storage; they are uploaded if they are on this machine
    only"""
    if source.startswith("azureml://"): return source if "/datastores/" in source else None
    place = Path(unquote(urlsplit(source).path))
    if place.exists():
        prefix = f"models/{name}/{version}/{place.name}"
        bench.storage.store(place, container(bench, workspace, DATA), prefix)
        return f"azureml://datastores/{DATA}/paths/{prefix}"
    home, _, path = source.partition("/artifacts/")
    run_id = home.rpartition("/")[2]
    prefix = f"ExperimentRun/dcid.{bench.run_name(workspace, run_id)}/{path}"
    return f"azureml://datastores/{FILES}/paths/{prefix}" if bench.storage.names(container(bench, workspace, FILES),
                                                                                 prefix) else None


def registered(bench, workspace: str, folder: Path):
    """Models that were made through the resource manager are models of MLflow too, under the same number and with the
    same tags"""
    db = sqlite3.connect(folder / ".mlops" / "mlflow.db", timeout=60)
    try:
        known, stamp = (
            {(name, str(version)) for name, version in db.execute("SELECT name, version FROM model_versions")},
            int(time.time() * 1000),
        )
        for one in (one for one in bench.state.all("workspaces/models/versions")
                    if one["id"].lower().startswith(f"{workspace.lower()}/models/")):
            name, version = one["id"].split("/")[-3], one["name"]
            if (name, version) in known or not version.isdigit(): continue
            db.execute("INSERT OR IGNORE INTO registered_models (name, creation_time, last_updated_time) VALUES (?, "
                       "?, ?)", (name, stamp, stamp))
            db.execute("INSERT INTO model_versions (name, version, creation_time, last_updated_time, current_stage, "
                       "source, run_id, status) VALUES (?, ?, ?, ?, 'None', ?, '', 'READY')",
                       (name, int(version), stamp, stamp, one["properties"]["modelUri"]))
            db.executemany("INSERT INTO model_version_tags (name, version, key, value) VALUES (?, ?, ?, ?)",
                           [(name, int(version), key, value) for key, value in (one["properties"].get("tags")
                                                                                or {}).items()])
        db.commit()
    finally: db.close()
