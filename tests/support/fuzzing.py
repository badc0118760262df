"""What strangers send, and what reads it: each target takes any bytes, and may answer with a message only.

Run one under the fuzzer: python -m tests.support.fuzzing NAME CORPUS_FOLDER [libFuzzer's options]
"""
import atexit
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mlops_nb.errors import MlopsError

MEMORY = Path("/dev/shm")    # where a database waits for no disk
SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-", dir=MEMORY if MEMORY.is_dir() else None))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)


def read_yaml(data: bytes):
    from mlops_nb.jobs.graph import read_job
    from mlops_nb.jobs.plan import component_files
    from mlops_nb.schemas.validation import check_job, validate
    from mlops_nb.workspace.workspace import Workspace
    file = SCRATCH/"job.yml"
    file.write_bytes(data)
    files = component_files(Workspace(SCRATCH, make=False))
    for problem in validate(file, files=files): str(problem)
    read_job(file, check_job(file, files=files), files)


def read_a_notebook(data: bytes):
    from nbformat import NotebookNode

    from mlops_nb.notebooks.cells import is_stage, read_notebook
    from mlops_nb.notebooks.interface import read_parameters
    from mlops_nb.notebooks.lint import job_problems, metadata_problems
    from mlops_nb.notebooks.page import RENDERERS, page_cells, page_html
    file = SCRATCH/"stage.ipynb"
    file.write_bytes(data)
    nb = read_notebook(file)
    if is_stage(nb):
        for found in (job_problems(nb), metadata_problems(nb), read_parameters(nb)): str(found)
    text = data.decode("utf-8", "replace")
    shown = [NotebookNode(output_type="display_data", data={kind: text}) for kind in RENDERERS]
    cells = [NotebookNode(cell_type=cell.kind, source=cell.source, metadata=NotebookNode(), outputs=shown)
             for cell in nb.cells]
    page = page_html(nb.path.stem, page_cells(NotebookNode(cells=cells), {"text": text}, "Step"))
    page.encode("utf-8", "backslashreplace")


def read_ignore_file(data: bytes):
    from mlops_nb.jobs.preparation import list_files
    root = SCRATCH/"code"
    if not root.is_dir():
        for name in ("a" * 200, "a/b/c/d/e/f", "data/x.csv", "src/a.py", os.fsdecode(b"caf\xe9"), "[b]", "a b"):
            (root/name).parent.mkdir(parents=True, exist_ok=True)
            (root/name).touch()
    (root/".amlignore").write_bytes(data)
    list_files(root)


def read_request(data: bytes):
    from mlops_nb.models import signature
    fields = [signature.Field("distance", "double"), signature.Field("carrier", "string", required=False),
              signature.Field("n", "long"), signature.Field("late", "boolean"), signature.Field("day", "datetime")]
    signature.check(signature.rows(signature.parse(data)), fields)


def read_event(data: bytes):
    from mlops_nb.retraining.events import handle, list_events
    from mlops_nb.retraining.policy import Policy
    from mlops_nb.tower.parts import events_part

    from tests.support.retraining import StandIn
    root = SCRATCH/"events"
    for left in root.rglob("events.db*"): left.unlink()
    good = {"id": "good", "type": "mlops_nb.monitor.breach", "time": "2013-08-01T00:00:00Z", "data": {
        "monitor": "m", "endpoint": "e", "window": ["2013-07-01T00:00:00Z", "2013-08-01T00:00:00Z"], "breach": True,
        "signals": {"s": {"type": "model_performance", "verdict": "breach", "rows": []}}}}
    retrainer = StandIn(Policy(cooldown_days=0, daily_budget=99))
    now = datetime(2013, 8, 2, tzinfo=UTC)
    try: handle(root, data, retrainer, now)
    finally:
        handle(root, good, retrainer, now)
        assert list_events(root)[-1]["action"] != "pending"
        assert any(row["id"] == "good" and row["status"] == "done" for row in list_events(root)), "the good one waits"
        events_part({"events": list_events(root)}, root)  # type: ignore[typeddict-item]  # it reads nothing else


def read_collected(data: bytes):
    from mlops_nb.monitors.collected import Counts, database, read_events
    from mlops_nb.releases.canary import is_bad
    from mlops_nb.releases.shadow import read_predictions
    from mlops_nb.serving.collection import find_lost_field, iter_served
    sound = {"time": "2026-01-01T00:00:00Z", "id": "1", "xrequestid": "r", "data": [{"a": 1}]}
    folder = SCRATCH/".mlops"/"collected"/"e"/"blue"/"model_outputs"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir(): left.unlink()
    line = json.dumps(sound).encode() + b"\n"
    (folder/"x.jsonl").write_bytes(line + data + b"\n" + line)
    assert read_predictions(SCRATCH, "e", "blue", {"r"}, datetime(2000, 1, 1, tzinfo=UTC))["r"] == [1.0]
    for event in iter_served(folder, find_fault=find_lost_field):
        is_bad(event, 100)  # type: ignore[arg-type]  # a record that lost nothing has the fields of `Served`
    with database(SCRATCH/"spill") as con:
        read_events(con, "events", [str(folder/"x.jsonl")], Counts())
        assert con.execute("SELECT count(*) FROM events").fetchone()[0] >= 2


TARGETS: dict[str, Callable[[bytes], None]] = {
    "yaml": read_yaml, "notebook": read_a_notebook, "ignore": read_ignore_file, "request": read_request,
    "event": read_event, "collected": read_collected}


def try_one(name: str, data: bytes):
    "Let a target read; a message is an answer, any other error is a finding"
    with suppress(MlopsError): TARGETS[name](data)


def main():
    import atheris
    name = sys.argv[1]
    with atheris.instrument_imports(include=["mlops_nb", "yaml", "pathspec"]):
        for data in (b"", b"{}"): try_one(name, data)      # imports what the target needs
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: try_one(name, bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__": main()
