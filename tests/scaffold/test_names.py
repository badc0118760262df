"`mlops-nb new` on tables whose columns are called as what the model answers, and on more rows than training takes"
import io
import json

import numpy as np
import pandas as pd
import pytest

from mlops_nb.errors import UserError
from mlops_nb.scaffold.inspection import Choices, inspect_table
from mlops_nb.scaffold.new import monitor_values, template_flags
from mlops_nb.training import register

from tests.example.test_reference import forest, rows
from tests.support.projects import command, yields


@pytest.fixture
def table(tmp_path):
    "400 rows with a class and a number, and features of odd names"
    rng = np.random.default_rng(0)
    x = rng.normal(size=400).round(3)
    found = pd.DataFrame({"x": x, "prediction": rng.normal(size=400), "probability": rng.normal(size=400),
                          "probability_of_rain": rng.normal(size=400), "gate_day": rng.normal(size=400),
                          "when": pd.date_range("2026-01-01", periods=400, freq="6h"),
                          "number": x + rng.normal(size=400), "class": np.where(x > 0, "on time", "late")})
    found.to_parquet(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("target, out", [
    ("number", {"prediction"}), ("class", {"probability", "probability_of_rain"})])
def test_a_column_that_is_called_as_the_answer_is_left_out_with_the_reason(table, target, out):
    found = inspect_table(table, target)
    assert {name for name, why in found.left_out.items() if why == "is called as the answer of the model is"} == out
    assert not out & {*found.columns} and "gate_day" in found.columns


def test_the_day_of_the_gate_is_no_feature_where_rows_have_a_time(table):
    found = inspect_table(table, "number", Choices(time="when"))
    assert found.left_out["gate_day"] == "is called as the day that a row is judged on"


@pytest.mark.parametrize("target, choices, name", [
    ("number", Choices(keep=["prediction"]), "prediction"), ("class", Choices(keep=["probability"]), "probability"),
    ("gate_day", Choices(time="when", task="regression"), "gate_day")])
def test_a_name_that_two_columns_would_have_is_refused(table, target, choices, name):
    with pytest.raises(UserError, match=f"(?s){name} is called as .*rename the column"):
        inspect_table(table, target, choices)


def test_a_target_that_is_called_as_the_answer_stands_beside_it(tmp_path):
    known = rows(3, 300).rename(columns={"number": "prediction"}).assign(number=0.0)
    model, roles = forest("number", known.assign(number=known.prediction))
    roles["label"] = "prediction"
    kept = register.monitored(model, model, known, known, roles)
    found = pd.read_parquet(io.BytesIO(kept["baseline"]))
    assert np.allclose(found.prediction_actual, known.prediction)
    assert not np.allclose(found.prediction, known.prediction)
    known[["x0", "prediction"]].to_csv(tmp_path / "t.csv", index=False)
    values = monitor_values(inspect_table(tmp_path / "t.csv", "prediction"))
    assert values["target_yaml"] == '"prediction_actual"'
    assert values["reference_columns"] == 'target_column: "prediction_actual", prediction: "prediction"'


def test_classes_with_fractions_are_refused(table):
    with pytest.raises(UserError, match="(?s)in a row, and a class is a whole number or text.*--task regression"):
        inspect_table(table, "number", Choices(task="classification"))


@pytest.mark.parametrize("values, positive, named", [
    (["yes", "no"], "yes", True), ([2, 1], 2, True), ([True, False], 1, False), ([0, 1], 1, False)])
def test_the_monitor_is_told_which_class_it_reads_where_classes_are_not_0_and_1(tmp_path, values, positive, named):
    times = pd.date_range("2026-01-01", periods=400, freq="6h")
    y = [values[i * 7 % 5 > 2] for i in range(400)]
    pd.DataFrame({"when": times, "x": np.arange(400) * 37 % 401, "y": y}).to_parquet(tmp_path / "t.parquet")
    found = inspect_table(tmp_path / "t.parquet", "y", Choices(time="when"))
    assert found.positive == positive and ("named" in template_flags(found)) == named
    assert monitor_values(found)["positive_yaml"] == json.dumps(str(positive))


PART = """type: pipeline
experiment_name: sugar
jobs:
  ingest:
    type: command
    component: components/ingest.yml
    inputs: {table: {type: uri_file, path: ../../data/t.parquet}}
  prepare:
    type: command
    component: components/prepare.yml
    inputs: {ingested: "${{parent.jobs.ingest.outputs.ingested}}", cells: 1000}
"""


def test_more_values_than_training_takes_are_chosen_from_and_said(tmp_path):
    command("new", "sugar", "--package", "sugar", "--data", yields(tmp_path / "t.parquet"), "--target", "target",
            cwd=tmp_path)
    project = tmp_path / "sugar"
    (project / "pipelines/training/part.yml").write_text(PART.replace(", cells: 1000", ""))
    whole = command("run", "pipelines/training/part.yml", cwd=project).stdout
    assert "rows used" not in whole and "train 2" in whole
    (project / "pipelines/training/part.yml").write_text(PART)
    said = command("run", "pipelines/training/part.yml", cwd=project).stdout
    folder = max(project.glob(".mlops/jobs/*/prepare/outputs/prepared"), key=lambda path: path.stat().st_mtime)
    roles = json.loads((folder / "columns.json").read_text())
    used = sum(len(pd.read_parquet(folder / f"{part}.parquet")) for part in ("train", "validation", "test"))
    assert (roles["data"]["rows"], roles["data"]["used"]) == (442, used) and 80 <= used <= 91
    assert f"{used} of 442 rows used" in said
    assert register.describe_source(roles).startswith(f"{used} of 442 rows, 1 in 5, sha256")
