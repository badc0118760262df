"`mlops-nb lab` in a real browser: open a stage, run all, change a parameter, export, run the pipeline"
import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support import BIN
from tests.support.browser import browser_needed
from tests.support.jobs import steps, wait_for
from tests.support.projects import command, harvest

CHANGE = "%load_ext mlops_nb\n%params every=2\nopen('../../.mlops/every.txt', 'w').write(str(every))"


@pytest.fixture
def project(tmp_path) -> Path:
    "A project of one's own, in a path with a blank"
    (tmp_path / "my lab").mkdir()
    return harvest(tmp_path / "my lab", rows=600)


@pytest.fixture
def surroundings(project, tmp_path) -> dict[str, str]:
    "A user with Jupyter folders of its own, where all cells of a notebook are in the page"
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("DATA", "CONFIG", "RUNTIME")}
    settings = tmp_path / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}))
    (tmp_path / "config").mkdir()
    (tmp_path / "config/jupyter_server_config.json").write_text(json.dumps({"ServerApp": {"allow_root": True}}))
    return os.environ | folders | {"JUPYTER_TOKEN": "letmein", "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")}


@pytest.fixture
def server(project, surroundings) -> Iterator[str]:
    "The address of the JupyterLab that the command starts"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    words = [str(BIN / "mlops-nb"), "lab", "--no-browser", "--port", address.rpartition(":")[2]]
    log = project.parent / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(words, cwd=project, env=surroundings, stdout=out, stderr=subprocess.STDOUT)
    try:
        wait_for(lambda: process.poll() is not None or responds(f"{address}/api?token=letmein"), 120)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        process.terminate()
        try: process.wait(30)
        except subprocess.TimeoutExpired: process.kill()


def responds(address: str) -> bool:
    "Whether a server answers"
    try: return urllib.request.urlopen(address, timeout=5).status == 200
    except OSError: return False


def source(notebook: Path, mark: str) -> str:
    "The cell that holds a text"
    cells = ["".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"]]
    return next(cell for cell in cells if mark in cell)


def saved(notebook: Path, text: str) -> bool:
    "Whether the cell of the parameters holds a text; not while the notebook is being written"
    try: return text in source(notebook, "every: Annotated")
    except ValueError: return False


@pytest.mark.long
@browser_needed
def test_a_stage_is_opened_run_changed_exported_and_the_pipeline_runs(browser, project, server):
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    notebook, component = project / "nbs/training/01_ingest.ipynb", project / "pipelines/training/components/ingest.yml"
    written, changed = project / ".mlops/sample/ingested/table.parquet", project / ".mlops/every.txt"
    parameters = source(notebook, "every: Annotated")
    assert yaml.safe_load(component.read_text())["inputs"]["every"]["default"] == 1
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.goto(f"{server}/lab/tree/nbs/training/01_ingest.ipynb?token=letmein")
    page.get_by_text("| Idle").wait_for()      # the kernel is connected
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    wait_for(written.is_file, 120)
    page.get_by_text("| Idle").wait_for()
    assert len(pd.read_parquet(written)) == 600
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.insert_text(CHANGE)
    page.keyboard.press("Control+Enter")
    wait_for(lambda: changed.is_file() and changed.read_text(), 120)
    assert changed.read_text() == "2"
    page.keyboard.press("Escape")
    page.keyboard.press("d")    # the cell was for trying; twice d deletes it
    page.keyboard.press("d")
    page.locator(".jp-Cell", has_text="every: Annotated").locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(parameters.replace("= 1  ", "= 2  "))
    page.keyboard.press("Control+s")
    wait_for(lambda: saved(notebook, "= 2  "), 120)
    assert "%params" not in notebook.read_text()
    subprocess.run([BIN / "nbdev-clean"], cwd=project, check=True)
    command("export", cwd=project)
    assert yaml.safe_load(component.read_text())["inputs"]["every"]["default"] == 2
    assert "nothing is stale" in command("check", cwd=project).stdout
    done = command("run", "pipelines/training/pipeline.yml", "--set", "inputs.every=2", "--json", cwd=project).stdout
    job = json.loads(done)
    assert job["status"] == "Completed"
    assert len(pd.read_parquet(project / steps(job)["ingest"]["outputs"]["ingested"] / "table.parquet")) == 300
