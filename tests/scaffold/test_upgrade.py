"`mlops-nb upgrade`: what the template wrote, what a person changed, and what it writes now"
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from mlops_nb.scaffold.earlier import recover_texts
from mlops_nb.scaffold.template import without_outputs
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
    assert (project / "pyproject.toml").read_text().count("==0.2.0") == 3     # job, loop, all


def test_a_record_that_is_damaged_is_one_message(project):
    (project / RECORD).write_bytes(b"not a zip")
    before = everything(project)
    assert "git checkout .template.zip" in command("upgrade", cwd=project, code=2).stderr
    assert everything(project) == before


@pytest.fixture
def first(tmp_path) -> Path:
    "What version 0.1.0 wrote for the same data, without what it generated"
    with zipfile.ZipFile(Path(__file__).with_name("project-0.1.0.zip")) as archive: archive.extractall(tmp_path)
    (tmp_path / "harvest/data").mkdir()
    failures(tmp_path / "harvest/data/failures.csv", rows=800)
    return tmp_path / "harvest"


def test_what_version_010_wrote_is_found_again(first):
    texts, values, flags = recover_texts(first)
    assert (values["target"], values["time"], values["task"]) == ("'failed'", "'when'", "classification")
    assert flags == {"data", "time", "classification", "binary", "one", "judged"}
    for path, text in texts.items():
        there = (first / path).read_text()
        assert text == (without_outputs(there) if path.endswith(".ipynb") else there), path


def test_an_untouched_project_of_version_010_becomes_one_of_this_version(first, made):
    before = everything(first)
    said = command("upgrade", "--dry-run", "--mlops-nb", "0.1.0", cwd=first).stdout
    assert everything(first) == before
    assert "removed: nbs/training/02_prepare.ipynb (now nbs/training/03_prepare.ipynb)" in said
    assert not any(word in said for word in ("conflict", "merged", "kept"))
    command("upgrade", "--mlops-nb", "0.1.0", cwd=first)
    now, new = ({path.relative_to(root): text for path, text in everything(root).items() if path.name != RECORD}
                for root in (first, made))
    assert now == new
    assert "nothing is stale" in command("check", cwd=first).stdout
    assert "everything is as the template" in command("upgrade", "--mlops-nb", "0.1.0", cwd=first).stdout


def test_what_you_changed_in_a_project_of_version_010_is_kept_or_named(first):
    settings, notebook = first / "settings.ini", first / "nbs/training/02_prepare.ipynb"
    settings.write_text(settings.read_text().replace("confidence = 0.95", "confidence = 0.9"))
    notebook.write_text(notebook.read_text().replace('PERIOD = \\"h\\"', 'PERIOD = \\"D\\"'))
    change_ingest(first, "    'load': 'number',", "    'id': 'text',")
    monitor = first / "pipelines/monitoring/monitor.yml"
    monitor.write_text(monitor.read_text().replace("accuracy: 0.5", "accuracy: 0.7"))
    (first / "nbs/training/03_train.ipynb").unlink()
    (first / "Makefile").write_text("mine:\n\ttrue\n")
    said = command("upgrade", "--mlops-nb", "0.1.0", cwd=first, code=1).stdout
    assert "confidence = 0.9\n" in settings.read_text() and "mine:" in (first / "Makefile").read_text()
    assert "conflict: Makefile (line " in said and "new: nbs/training/04_train.ipynb" in said
    merged = (first / "nbs/training/03_prepare.ipynb").read_text()
    assert 'PERIOD = \\"D\\"' in merged and not notebook.exists()
    ingest = (first / "nbs/training/01_ingest.ipynb").read_text()
    assert "'id': 'text'" in ingest and "'load'" not in ingest
    assert "accuracy: 0.7" in monitor.read_text() and "accuracy: 0.5" not in monitor.read_text()
    kept, = (first / ".mlops/upgrades").iterdir()
    assert 'PERIOD = \\"D\\"' in (kept / "nbs/training/02_prepare.ipynb").read_text()


def change_ingest(project: Path, old: str, new: str) -> None:
    file = project / "nbs/training/01_ingest.ipynb"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("change, message", [
    (lambda first: (first / "data/failures.csv").unlink(), "put it into"),
    (lambda first: shutil.rmtree(first / "harvest"), "make a new project of the same data"),
    (lambda first: change_ingest(first, "TARGET = 'failed'", "TARGET = choose()"), "TARGET of nbs/training/01")])
def test_a_project_without_a_record_that_cannot_be_recognised_is_one_message(first, change, message):
    change(first)
    for path in (first / "nbs/index.ipynb", first / "README.md"): path.unlink()
    before = everything(first)
    assert message in command("upgrade", cwd=first, code=2).stderr
    assert everything(first) == before


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
