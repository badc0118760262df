"`mlops-nb upgrade`: what the template wrote, what a person changed, and what it writes now"
import json
import shutil
from pathlib import Path

import pytest

from mlops_nb.scaffold.upgrade import RECORD, merge_notebook, plan_file, read_record, write_record

from tests.support.projects import command, failures


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A project with data, and a time"
    folder = tmp_path_factory.mktemp("upgrade")
    data = failures(folder / "failures.csv", rows=800)
    command("new", "p", "--package", "harvest", "--data", data, "--target", "failed", "--time", "when",
            "--mlops-nb", "0.1.0", cwd=folder)
    return folder / "p"


@pytest.fixture
def project(made, tmp_path):
    "A copy of it"
    return shutil.copytree(made, tmp_path / "my project")


def older(project: Path, path: str, old: str, new: str) -> None:
    "Make as if the template had written `new` instead of `old`, and the project had it so"
    texts, answers = read_record(project)
    assert old in texts[path]
    write_record(project, texts | {path: texts[path].replace(old, new)}, answers)
    (project / path).write_text((project / path).read_text().replace(old, new))


def everything(project: Path) -> dict:
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".mlops" not in path.parts}


def test_a_project_of_this_version_has_nothing_to_upgrade(project):
    before = everything(project)
    assert "everything is as the template" in command("upgrade", "--mlops-nb", "0.1.0", cwd=project).stdout
    assert everything(project) == before


def test_what_only_the_template_changed_is_updated_and_what_only_you_changed_stays(project):
    older(project, "Makefile", "## Run the stage notebooks", "## Run some notebooks")
    older(project, "nbs/training/04_train.ipynb", "## Scores", "## Marks")
    settings = project / "settings.ini"
    settings.write_text(settings.read_text().replace("confidence = 0.95", "confidence = 0.9"))
    notebook = project / "nbs/training/04_train.ipynb"
    notebook.write_text(notebook.read_text().replace("# Train", "# Fit"))
    shown = command("upgrade", "--dry-run", "--mlops-nb", "0.1.0", cwd=project).stdout
    assert "updated: Makefile" in shown and "merged: nbs/training/04_train.ipynb" in shown
    assert "settings.ini" not in shown and "some notebooks" in (project / "Makefile").read_text()
    command("upgrade", "--mlops-nb", "0.1.0", cwd=project)
    assert "## Run the stage notebooks" in (project / "Makefile").read_text()
    assert "confidence = 0.9\n" in settings.read_text()
    merged = notebook.read_text()
    assert "## Scores" in merged and "# Fit" in merged
    kept, = (project / ".mlops/upgrades").iterdir()
    assert "some notebooks" in (kept / "Makefile").read_text()
    assert "everything is as the template" in command("upgrade", "--mlops-nb", "0.1.0", cwd=project).stdout


def test_conflicts_stand_between_markers_and_are_named(project):
    older(project, "pipelines/deployment/rollout.yml", "alpha: 0.01 ", "alpha: 0.02 ")
    older(project, "nbs/training/04_train.ipynb", "max_leaf_nodes: Annotated[int, Range(2, 1024)] = 15",
          "max_leaf_nodes: Annotated[int, Range(2, 1024)] = 7")
    for path, old, new in (("pipelines/deployment/rollout.yml", "alpha: 0.02 ", "alpha: 0.05 "),
                           ("nbs/training/04_train.ipynb", "Range(2, 1024)] = 7", "Range(2, 1024)] = 31")):
        (project / path).write_text((project / path).read_text().replace(old, new))
    said = command("upgrade", "--mlops-nb", "0.1.0", cwd=project, code=1).stdout
    assert "conflict: pipelines/deployment/rollout.yml (line " in said
    assert "conflict: nbs/training/04_train.ipynb (cell " in said and "mlops-nb export" in said
    text = (project / "pipelines/deployment/rollout.yml").read_text()
    assert all(one in text for one in ("<<<<<<< yours", "alpha: 0.05 ", "alpha: 0.01 ", ">>>>>>> template"))
    cells = json.loads((project / "nbs/training/04_train.ipynb").read_text())["cells"]
    marked = ["".join(cell["source"]) for cell in cells if "<<<<<<< yours" in "".join(cell["source"])]
    assert len(marked) == 1 and "= 31" in marked[0] and "= 15" in marked[0]


def test_a_file_that_you_removed_stays_away_and_a_stage_of_yours_stays(project):
    older(project, "pipelines/training/sweep.yml", "max_total_trials: 8", "max_total_trials: 9")
    (project / "pipelines/training/sweep.yml").unlink()
    command("stage", "new", "clean_rows", "--after", "ingest", cwd=project)
    said = command("upgrade", "--mlops-nb", "0.1.0", cwd=project).stdout
    assert "kept: pipelines/training/sweep.yml (you removed it)" in said
    assert (project / "nbs/training/07_clean_rows.ipynb").is_file()
    assert "nothing is stale" in command("check", cwd=project).stdout


def test_the_version_is_named_in_what_is_installed(project):
    command("upgrade", "--mlops-nb", "0.2.0", cwd=project)
    assert (project / "pyproject.toml").read_text().count("==0.2.0") == 2


@pytest.mark.parametrize("damage, message", [
    (lambda file: file.unlink(), "make a new project of the same data"),
    (lambda file: file.write_bytes(b"not a zip"), "git checkout .template.zip")])
def test_a_record_that_is_missing_or_damaged_is_one_message(project, damage, message):
    before = everything(project)
    damage(project / RECORD)
    assert message in command("upgrade", cwd=project, code=2).stderr
    assert {path: text for path, text in everything(project).items() if path.name != RECORD} == {
        path: text for path, text in before.items() if path.name != RECORD}


def cells(*sources: str) -> str:
    made = [dict(id=source.partition(" ")[0], cell_type="code", metadata={}, source=[source]) for source in sources]
    return json.dumps({"cells": made})


def test_a_cell_that_both_added_to_different_places_is_there_once_in_order():
    merged, conflicts = merge_notebook(cells("a 1", "mine 2", "b 3"), cells("a 1", "b 3"), cells("a 1", "new 4", "b 3"))
    found = ["".join(cell["source"]) for cell in json.loads(merged)["cells"]]
    assert sorted(found) == ["a 1", "b 3", "mine 2", "new 4"] and (found[0], found[-1]) == ("a 1", "b 3")
    assert conflicts == []


def test_a_file_that_the_template_gave_up_goes_unless_you_changed_it():
    gone, kept = plan_file("a.yml", "a\n", "a\n", None), plan_file("a.yml", "mine\n", "a\n", None)
    assert gone and kept and (gone.what, kept.what) == ("removed", "kept")
    assert plan_file("a.yml", None, "a\n", None) is None
