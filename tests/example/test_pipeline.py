"The training pipeline itself, on every twentieth flight: from nothing to a champion, and again"
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.jobs import Project, steps

PIPELINE = ("pipelines/training/pipeline.yml", "--set", "inputs.every=20", "--set", "inputs.max_latency_ms=1000")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, empty_store):
    "A copy of the repository in a folder with a blank, and its first run"
    root = tmp_path_factory.mktemp("pipeline")/"my project"
    for name in ("nbs", "mlops_nb", "pipelines"): shutil.copytree(ROOT/name, root/name)
    for name in ("settings.ini", "pyproject.toml", ".amlignore"): shutil.copy(ROOT/name, root/name)
    project = Project(root, empty_store)
    project.job = project.run(*PIPELINE)
    return project


def decision(project) -> dict:
    return json.loads((Path(steps(project.job)["register"]["outputs"]["decision"]) / "verdict.json").read_text())


def test_six_steps_leave_executed_notebooks_pages_and_a_champion(trained):
    assert {name: step["status"] for name, step in steps(trained.job).items()} == dict.fromkeys(
        ("ingest", "explore", "prepare", "train", "evaluate", "register"), "Completed")
    pages = [Path(step["notebook"]) for step in trained.job["steps"]]
    assert all(
        page.suffix == ".html" and page.with_suffix(".ipynb").exists() and '<script src="http' not in page.read_text()
        for page in pages
    )
    assert decision(trained)["accepted"] is True


def test_the_registered_files_are_those_that_were_judged(trained):
    source = trained.workspace.folder/"mlartifacts"
    sealed = next(path for path in source.rglob("SHA256SUMS"))
    judged = Path(steps(trained.job)["train"]["outputs"]["model"])
    assert all((sealed.parent/path.name).read_bytes() == path.read_bytes() for path in judged.glob("*.skops"))
    assert any(judged.glob("*.skops"))


def test_nothing_runs_when_nothing_has_changed(trained):
    again = trained.run(*PIPELINE)
    assert (again["fresh"], again["id"]) == (False, trained.job["id"])


def test_a_changed_stage_runs_with_what_depends_on_it_and_the_model_in_charge_keeps_its_verdict(trained):
    before = decision(trained)
    path = trained.root/"mlops_nb"/"training"/"evaluate.py"
    path.write_text(path.read_text() + "\n# a change that changes nothing\n")
    job = trained.run(*PIPELINE)
    ran = {name for name, step in steps(job).items() if not step["reused_from"]}
    assert ran == {"evaluate", "register"}
    trained.job = job
    assert decision(trained)["accepted"] is True and decision(trained)["checks"] == before["checks"]
    with closing(sqlite3.connect(trained.workspace.folder / "mlflow.db")) as db:
        assert db.execute("SELECT count(*) FROM model_versions").fetchone() == (1,)
