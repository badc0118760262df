"`mlops-nb stage new --before`: a stage through which data flows that went straight from one step to the next"
import json
from pathlib import Path

import pytest

from mlops_nb.jobs.graph import FromStep, read_job
from mlops_nb.scaffold.edits import insert_step, list_edges
from mlops_nb.schemas.documents import load, parse

from tests.support.projects import command, harvest, make

# By pipeline: what stands in front of its first step, what stands between two steps, and the steps on both sides
POSITIONS = [
    ("training/sweep.yml", ["--before", "ingest"], ["--after", "prepare", "--before", "candidates"],
     ("prepare", "candidates")),
    ("deployment/batch.yml", ["--after", "table", "--before", "cut"], ["--after", "score", "--before", "collect"],
     ("score", "collect")),
    ("deployment/qa.yml", ["--after", "labelled", "--before", "qa"], ["--after", "model", "--before", "qa"],
     (None, "qa")),
    ("monitoring/retrain.yml", ["--before", "ingest"], ["--after", "train", "--before", "register"],
     ("train", "register")),
    ("monitoring/traffic.yml", ["--before", "ingest"], ["--before", "prepare"], ("ingest", "prepare")),
    ("training", ["--before", "ingest"], ["--after", "ingest", "--before", "prepare"], ("ingest", "prepare")),
]    # the training pipeline last: what goes between its steps goes into the others too


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    "A project with data, in which each test puts stages into another pipeline"
    return harvest(tmp_path_factory.mktemp("between"), 1500)


def added(project, name: str, pipeline: str, *words: str) -> str:
    "Add a stage"
    return command("stage", "new", name, "--pipeline", pipeline, *words, cwd=project).stdout


def edges(project, pipeline: str) -> set[tuple[str, str]]:
    "Which step reads which"
    file = project / "pipelines" / (pipeline if pipeline.endswith(".yml") else f"{pipeline}/pipeline.yml")
    job = read_job(file)
    return {(source.step, step.name) for step in job.steps.values() for source in step.inputs.values()
            if isinstance(source, FromStep)}


@pytest.mark.parametrize("pipeline, first, between, sides", POSITIONS, ids=[row[0] for row in POSITIONS])
def test_a_stage_goes_first_between_and_last_in_every_pipeline(project, tmp_path, pipeline, first, between, sides):
    tag = pipeline.replace("/", "_").removesuffix(".yml")
    before, (left, right) = edges(project, pipeline), sides
    reader = first[-1]
    said = added(project, f"{tag}_first", pipeline, *first)
    old, _, new = said.partition("before:")[2].partition("after:")
    assert f"+ {tag}_first" in new and f"{tag}_first" not in old
    assert edges(project, pipeline) == before | {(f"{tag}_first", reader)}
    added(project, f"{tag}_between", pipeline, *between)
    now = edges(project, pipeline) - {(f"{tag}_first", reader)}
    into = {(left, f"{tag}_between")} if left else set()
    assert now == before - {(left, right)} | {(f"{tag}_between", right)} | into
    added(project, f"{tag}_last", pipeline)
    assert len([one for one in edges(project, pipeline) if one[1] == f"{tag}_last"]) == 1
    file = f"pipelines/{pipeline}" if pipeline.endswith(".yml") else f"pipelines/{pipeline}/pipeline.yml"
    command("show", file, "--graph", "--svg", str(tmp_path / "graph.svg"), cwd=project)
    for name in (f"{tag}_first", f"{tag}_between", f"{tag}_last"): assert name in (tmp_path / "graph.svg").read_text()


def test_every_pipeline_passes_the_checks_with_its_new_stages(project):
    assert "nothing is stale" in command("check", cwd=project).stdout
    drawn = command("show", "pipelines/deployment/batch.yml", "--graph", cwd=project).stdout
    assert [line.split()[0] for line in drawn.splitlines()] == \
        ["deployment_batch_first", "cut", "score", "deployment_batch_between", "collect", "deployment_batch_last"]


@pytest.fixture
def fresh(tmp_path):
    "A project of its own"
    return harvest(tmp_path, 600)


def test_a_stage_of_the_training_pipeline_stands_in_the_retraining_too(fresh):
    notebook = fresh / "nbs/training/03_prepare.ipynb"
    said = added(fresh, "clean", "training", "--after", "ingest", "--before", "prepare")
    for file in ("training/pipeline", "training/sweep", "monitoring/retrain", "monitoring/traffic"):
        assert f"changed: pipelines/{file}.yml" in said
        assert {("ingest", "clean"), ("clean", "prepare")} <= edges(fresh, f"{file}.yml")
    assert load(fresh / "pipelines/monitoring/retrain.yml")["jobs"]["clean"]["component"] == \
        "../training/components/clean.yml"
    line = next(line for line in notebook.read_text().splitlines() if "ingested: uri_folder" in line)
    assert "../../.mlops/sample/clean" in line and "output of `clean`" in line


def test_a_file_that_is_named_is_the_only_one_that_changes(fresh):
    said = added(fresh, "clean", "training/sweep.yml", "--after", "ingest", "--before", "prepare")
    assert "changed: pipelines/training/sweep.yml" in said and "pipeline.yml" not in said and "retrain" not in said


def test_several_steps_may_read_the_new_one(fresh):
    added(fresh, "polish", "training", "--after", "train", "--before", "evaluate", "--before", "register")
    now = edges(fresh, "training")
    assert {("train", "polish"), ("polish", "evaluate"), ("polish", "register")} <= now
    assert not {("train", "evaluate"), ("train", "register")} & now
    assert ("candidates", "polish") in edges(fresh, "training/sweep.yml")
    trained = {"training/pipeline": "train", "training/sweep": "candidates", "monitoring/retrain": "train"}
    for file, trains in trained.items():
        steps = load(fresh / f"pipelines/{file}.yml")["jobs"]
        assert steps["polish"]["outputs"] == {"polish_output": "${{parent.outputs.model}}"}
        assert "outputs" not in steps[trains] and "decision" in steps["register"]["outputs"]
    assert "nothing is stale" in command("check", cwd=fresh).stdout


HANDED = """jobs:
  make:
    component: make.yml
    outputs:
      # for people
      rows: ${{parent.outputs.rows}}
%s
  look:
    component: look.yml
    inputs: {rows: "${{parent.jobs.make.outputs.rows}}"}
  keep:
    component: keep.yml
    inputs:
      rows: {type: uri_folder, path: "${{parent.jobs.make.outputs.rows}}"}
"""


@pytest.mark.parametrize("more, readers, own", [
    ("", ["keep"], True), ("", ["look", "keep"], True), ("", ["look"], False),
    ("      notes: ${{parent.outputs.notes}}", ["keep"], True),
])
def test_what_the_pipeline_hands_out_follows_the_last_step_that_reads_it(more, readers, own):
    file = Path("pipeline.yml")
    chosen = [edge for edge in list_edges(parse(HANDED % more, file)) if edge.step in readers]
    steps = parse(insert_step(HANDED % more, "tidy", "tidy.yml", chosen, "tidy_output", file), file)["jobs"]
    assert ("outputs" in steps["tidy"]) == own and [*steps].index("tidy") == (1 if "look" in readers else 2)
    assert "rows" in (steps["make"].get("outputs") or {}) or own
    assert ("notes" in (steps["make"].get("outputs") or {})) == bool(more)
    if own: assert steps["tidy"]["outputs"] == {"tidy_output": "${{parent.outputs.rows}}"}


@pytest.mark.parametrize("words, message", [
    (["--before", "nowhere"], "prepare, train, evaluate, register"),
    (["--before", "register"], "accepted: --after with one of: train.model, prepare.prepared, evaluate.evaluation"),
    (["--after", "ingest", "--before", "train"], "train reads nothing of --after ingest"),
    (["--before", "ingest", "--before", "train"], "accepted: steps that read the same data"),
    (["--pipeline", "deployment", "--before", "qa"], "there is no pipeline 'deployment/pipeline.yml'"),
])
def test_a_place_that_is_none_is_refused_and_nothing_is_written(project, words, message):
    def files() -> dict: return {path: path.read_bytes() for path in project.glob("[np]*/**/*.*") if path.is_file()}
    before = files()
    assert message in command("stage", "new", "clean", *words, cwd=project, code=2).stderr
    assert files() == before


@pytest.mark.long
def test_pipelines_with_stages_first_between_and_last_run(tmp_path):
    project = harvest(tmp_path, 1500)
    for pipeline, first, between, _ in POSITIONS:
        tag = pipeline.replace("/", "_").removesuffix(".yml")
        added(project, f"{tag}_first", pipeline, *first)
        added(project, f"{tag}_between", pipeline, *between)
        added(project, f"{tag}_last", pipeline)
    make(project, "test")
    make(project, "train")
    command("deploy", cwd=project)
    try:
        files = ["pipelines/deployment/batch.yml", "pipelines/monitoring/traffic.yml",
                 "pipelines/training/sweep.yml"]
        for file in files:
            job = json.loads(command("run", file, "--json", cwd=project, timeout=1800).stdout)
            assert job["status"] == "Completed"
        command("qa", "harvest", "--deployment", "blue", cwd=project)
    finally: command("endpoint", "stop", "harvest", cwd=project)
