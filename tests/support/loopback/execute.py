"""Runs one rebuilt job: started by the stand-in in the Python that is the job's image, where the project is not
installed"""
import json
import os
import sys
from pathlib import Path


def track_through_azure(address: str):
    "Give steps the tracking address of Azure instead of that of the store behind it"
    from mlops_nb.workspace.runs import Tracker
    variables = Tracker.variables
    through = lambda self, run_id: variables(self, run_id) | {"MLFLOW_TRACKING_URI": address,
                                                              "MLFLOW_REGISTRY_URI": address}
    Tracker.variables = through  # type: ignore[method-assign]  # This process runs one job and nothing else


def main(file: Path) -> int:
    if address := os.environ.get("LOOPBACK_TRACKING"): track_through_azure(address)
    from mlops_nb.files import write_whole
    from mlops_nb.jobs.plan import make_plan
    from mlops_nb.jobs.progress import QuietView
    from mlops_nb.jobs.runner import drive, open_job
    from mlops_nb.workspace.workspace import Workspace, lock_job
    workspace = Workspace(Path.cwd(), make=True)
    planned = make_plan(workspace, file)
    id = open_job(workspace, planned)
    write_whole(file.with_name("local.json"), json.dumps({"id": id, "steps": list(planned.job.steps)}))
    with lock_job(workspace, id): return drive(workspace, planned, id, QuietView(planned.job)).exit_code


if __name__ == "__main__": sys.exit(main(Path(sys.argv[1]).resolve()))
