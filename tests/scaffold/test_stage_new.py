"`mlops-nb stage new`: a stage that passes every check before anything is written in it, as a step of the pipeline"
import json
import shutil

import pytest
import yaml

from tests.support.projects import command, make


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A project with one stage"
    folder = tmp_path_factory.mktemp("stages")
    command("new", "plain", "--package", "plain", "--mlops-nb", "0.1.0", cwd=folder)
    return folder / "plain"


@pytest.fixture
def project(made, tmp_path):
    "A copy of it"
    return shutil.copytree(made, tmp_path / "plain")


def everything(project) -> dict:
    "All files with their content"
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file() and ".mlops" not in path.parts}


def test_a_new_stage_reads_the_last_one_runs_and_passes_every_check(project):
    pipeline = project / "pipelines/training/pipeline.yml"
    pipeline.write_text(pipeline.read_text() + "    # a comment at the end\n")
    said = command("stage", "new", "tidy_up", "--pipeline", "training", cwd=project).stdout
    assert "new: nbs/training/02_tidy_up.ipynb" in said
    assert "generated: pipelines/training/components/tidy_up.yml" in said
    step = yaml.safe_load(pipeline.read_text())["jobs"]["tidy_up"]
    assert step["inputs"] == {"first_output": "${{parent.jobs.first.outputs.first_output}}"}
    assert "# a comment at the end" in pipeline.read_text()
    assert "nothing is stale" in command("check", cwd=project).stdout
    assert "2 steps" in make(project, "loop")


def test_the_text_of_the_pipeline_is_only_added_to(project):
    pipeline = project / "pipelines/training/pipeline.yml"
    text = pipeline.read_text().replace("  first:\n", "  first:      # my comment\n") + "\n\noutputs: {}   # none\n"
    pipeline.write_text(text)
    command("stage", "new", "b", cwd=project)
    kept = iter(pipeline.read_text().splitlines())
    assert all(line in kept for line in text.splitlines())
    assert [*yaml.safe_load(pipeline.read_text())["jobs"]] == ["first", "b"]


def test_after_names_the_step_to_read(project):
    command("stage", "new", "b", cwd=project)
    said = json.loads(command("stage", "new", "c", "--after", "first", "--json", cwd=project).stdout)
    assert [one["what"] for one in said] == ["new", "changed", "generated", "generated"]
    jobs = yaml.safe_load((project / "pipelines/training/pipeline.yml").read_text())["jobs"]
    assert [*jobs["b"]["inputs"]] == [*jobs["c"]["inputs"]] == ["first_output"]


def test_a_pipeline_that_is_not_there_is_begun(project):
    command("stage", "new", "watch", "--pipeline", "monitoring", cwd=project)
    assert [*yaml.safe_load((project / "pipelines/monitoring/pipeline.yml").read_text())["jobs"]] == ["watch"]
    assert (project / "plain/monitoring/watch.py").is_file()


@pytest.mark.parametrize("words, message", [
    (["Tidy"], "'Tidy' cannot name a stage"),
    (["class"], "'class' cannot name a stage"),
    (["two words"], "cannot name a stage"),
    (["first"], "nbs/training/01_first.ipynb is called first already"),
    (["b", "--pipeline", "elsewhere"], "accepted: training, deployment, monitoring"),
    (["b", "--after", "nowhere"], "accepted: first"),
])
def test_mistakes_are_refused_and_nothing_is_written(project, words, message):
    before = everything(project)
    assert message in command("stage", "new", *words, cwd=project, code=2).stderr
    assert everything(project) == before


def test_what_cannot_be_generated_leaves_everything_as_it_was(project):
    notebook = project / "nbs/training/01_first.ipynb"
    notebook.write_text(notebook.read_text().replace("rows: Annotated[int, Range(1, 1000000)]", "rows: complex"))
    before = everything(project)
    assert "rows has the type" in command("stage", "new", "b", cwd=project, code=2).stderr
    assert everything(project) == before
