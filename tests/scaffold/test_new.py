"`mlops-nb new`: a project of one's own, whose own commands pass untouched"
import json
import tomllib
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.support import ROOT
from tests.support.projects import command, failures, make, yields


@pytest.fixture(scope="module")
def harvest(tmp_path_factory):
    "A classification with a time column, from a CSV"
    folder = tmp_path_factory.mktemp("new")
    data = failures(folder / "failures.csv")
    said = command("new", "harvest", "--package", "harvest", "--data", data, "--target", "failed", "--time", "when",
                   cwd=folder).stdout
    return folder / "harvest", said


@pytest.fixture(scope="module")
def sugar(tmp_path_factory):
    "A regression without a time column, from Parquet"
    folder = tmp_path_factory.mktemp("new")
    data = yields(folder / "diabetes.parquet")
    said = command("new", "sugar", "--package", "sugar", "--data", data, "--target", "target", "--json",
                   cwd=folder).stdout
    return folder / "sugar", json.loads(said)


def source(notebook: Path) -> str:
    return "\n".join("".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"])


def test_new_says_what_it_assumed(harvest, sugar):
    assert "classification, because it is text with 2 values" in harvest[1]
    assert "left out: id is different in nearly every row" in harvest[1]
    assert "left out: unit has one value" in harvest[1]
    assert "splits by time, when" in harvest[1] and "on this machine only" in harvest[1]
    assert sugar[1]["task"] == "regression" and sugar[1]["time"] is None and len(sugar[1]["columns"]) == 10


def test_a_random_split_is_warned_of_in_prose_and_states_its_seed(harvest, sugar):
    warned = source(sugar[0] / "nbs/training/02_prepare.ipynb")
    assert "**A warning.**" in warned and "seed: Annotated[int" in warned
    assert "warning" not in source(harvest[0] / "nbs/training/02_prepare.ipynb").lower()


def test_nothing_of_the_template_or_of_the_example_is_left(harvest, sugar):
    for project in (harvest[0], sugar[0]):
        for path in project.rglob("*"):
            if path.is_file() and path.suffix in (".ipynb", ".py", ".yml", ".toml", ".ini", ".md", ".txt", ""):
                text = path.read_text()
                assert "<<" not in text and "if-" not in text, path
                assert "flight" not in text.lower() and "carrier" not in text.lower(), path


def test_mlops_nb_is_a_dependency_and_a_version_can_be_named(harvest, tmp_path):
    project = tomllib.loads((harvest[0] / "pyproject.toml").read_text())["project"]
    assert "mlops-nb[job,serve]" in project["dependencies"][0]
    command("new", "plain", "--package", "plain", "--mlops-nb", "0.1.0", cwd=tmp_path)
    found = tomllib.loads((tmp_path / "plain/pyproject.toml").read_text())["project"]
    assert found["dependencies"] == ["mlops-nb[job,serve]==0.1.0"]
    assert found["optional-dependencies"]["all"] == ["mlops-nb[all]==0.1.0"]


def test_the_image_of_a_project_serves_as_the_one_of_this_repository_does(harvest):
    there, here = (root / "pipelines/environment" for root in (harvest[0], ROOT))
    def routes(folder): return yaml.safe_load((folder / "environment.yml").read_text())["inference_config"]
    def starts(folder): return (folder / "Dockerfile").read_text().partition("\nCMD ")[2]
    assert routes(there) == routes(here) and starts(there) == starts(here) != ""
    assert "mlops-nb[job,serve]" in (there / "requirements.txt").read_text()


def test_the_loop_of_a_classification_goes_from_a_csv_to_a_served_prediction(harvest):
    project = harvest[0]
    assert "is the champion" in make(project, "loop")
    job = json.loads(command("show", "last", "--json", cwd=project).stdout)
    prepared = Path(next(step for step in job["steps"] if step["name"] == "prepare")["outputs"]["prepared"])
    parts = {name: pd.read_parquet(prepared / f"{name}.parquet") for name in ("train", "validation", "test")}
    assert parts["train"].when.max() < parts["validation"].when.min()
    assert parts["validation"].when.max() < parts["test"].when.min()
    assert "Nothing has changed" in make(project, "loop")
    assert served(project, [{"site": "north", "load": 3.0}, {"site": "new", "load": None}])[0]["probability"] > 0.8


def served(project: Path, rows: list) -> list:
    "Deploy the champion as the project's files say, ask it, stop it"
    try:
        command("deploy", cwd=project)
        found = json.loads(command("endpoint", "status", "harvest", "--json", cwd=project).stdout)[0]
        keys = json.loads(command("endpoint", "keys", "harvest", "--json", cwd=project).stdout)
        asked = urllib.request.Request(found["scoring_uri"], json.dumps({"input_data": rows}).encode(),
                                       {"Content-Type": "application/json",
                                        "Authorization": f"Bearer {keys['primary']}"})
        with urllib.request.urlopen(asked, timeout=60) as answer: said = json.loads(answer.read())
        assert "not enough data" in command("monitor", cwd=project).stdout
        return said
    finally:
        command("endpoint", "stop", "harvest", cwd=project)


@pytest.mark.long
def test_the_tests_of_a_regression_pass_untouched(sugar):
    said = make(sugar[0], "test")
    assert "nothing is stale" in said and "2 passed" in said
    verdict = json.loads((sugar[0] / ".mlops/sample/decision/verdict.json").read_text())
    # `make test` runs the stages twice: the sample registers version 1, and the same model again does not beat it
    assert verdict["opponent"] == "sugar version 1"
    assert {"loss difference upper bound", "calibration error"} <= {check["name"] for check in verdict["checks"]}


def test_a_project_without_data_begins_with_a_stage_that_runs(tmp_path):
    command("new", "empty", "--package", "empty_one", cwd=tmp_path)
    assert "10 rows" in make(tmp_path / "empty", "loop")


@pytest.mark.parametrize("options, message", [
    (["--package", "My-Package"], "small letters"),
    (["--package", "p"], "3 to 32"),
    (["--package", "json"], "is taken"),
    (["--package", "pandas"], "installed package"),
    (["--package", "p", "--target", "x"], "--data FILE"),
    (["--package", "p", "--data", "failures.csv"], "no --target"),
    (["--package", "p", "--data", "failures.csv", "--target", "broken"], "there is no such column"),
    (["--package", "p", "--data", "failures.csv", "--target", "failed", "--time", "load"], "holds numbers"),
    (["--package", "p", "--data", "failures.csv", "--target", "failed", "--task", "regression"], "failed is text"),
    (["--package", "p", "--data", "nowhere.csv", "--target", "failed"], "there is no file"),
    (["--package", "p", "--mlops-nb", "nowhere.whl"], "a version such as"),
])
def test_mistakes_are_refused_and_nothing_is_written(tmp_path, options, message):
    failures(tmp_path / "failures.csv", rows=300)
    assert message in command("new", "p", *options, cwd=tmp_path, code=2).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["failures.csv"]


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p/mine.txt").write_text("mine")
    assert "is not empty" in command("new", "p", "--package", "p", cwd=tmp_path, code=2).stderr
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["mine.txt"]



@pytest.mark.parametrize("target, options, lines", [
    ("load", ["--time", "when"], ["regression: {rmse: ", "prediction: prediction"]),
    ("site", [], ["ml_task: classification"]),
])
def test_other_kinds_of_tables_make_projects_that_pass_every_check(tmp_path, target, options, lines):
    data = failures(tmp_path / "failures.csv")
    command("new", "p", "--package", "plain", "--data", data, "--target", target, *options, cwd=tmp_path)
    assert "nothing is stale" in command("check", cwd=tmp_path / "p").stdout
    monitor = (tmp_path / "p/pipelines/monitoring/monitor.yml").read_text()
    assert all(line in monitor for line in lines)
    assert ("prediction_drift" in monitor) == (target == "load")
