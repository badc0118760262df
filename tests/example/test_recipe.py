"The kinds of retraining, told apart by the recipe: the same stages and settings on newer days, or changed ones"
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.support.projects import command, harvest


@pytest.fixture
def project(tmp_path) -> Path:
    "A hundred days of machines that fail"
    return harvest(tmp_path, rows=2400)


def retrain(project: Path, train_end: str, test_end: str, **inputs) -> dict:
    "What the gate wrote"
    known = inputs | {"train_end": train_end, "test_end": test_end}
    words = [word for name, value in known.items() for word in ("--set", f"inputs.{name}={value}")]
    job = json.loads(command("run", "pipelines/monitoring/retrain.yml", *words, "--json", cwd=project).stdout)
    folder = next(step["outputs"]["decision"] for step in job["steps"] if "decision" in (step.get("outputs") or {}))
    return json.loads((Path(folder) / "verdict.json").read_text())


@pytest.mark.long
def test_the_same_recipe_is_refreshed_and_a_changed_one_must_be_better(project):
    when = pd.to_datetime(pd.read_csv(next((project / "data").iterdir())).when)
    days = [f"{when.quantile(share):%Y-%m-%d}" for share in (0.4, 0.6, 0.8, 1.0)]
    first = retrain(project, days[0], days[1])
    assert first["accepted"] and "the recipe is unchanged" not in first["reason"], first["reason"]
    same = retrain(project, days[1], days[2])
    assert "the recipe is unchanged" in same["reason"] and "not proven better" not in same["reason"]
    changed = retrain(project, days[2], days[3], min_samples_leaf=21)
    assert not changed["accepted"] and "it is not proven better" in changed["reason"]
    again = retrain(project, days[2], days[3])
    assert again["accepted"] and "the recipe is unchanged" in again["reason"]


@pytest.mark.long
def test_the_recipe_is_that_of_the_code_the_settings_and_the_columns(project):
    file = project / "nbs/training/03_prepare.ipynb"
    before = file.read_text()
    def recipe() -> str:
        job = json.loads(command("run", "pipelines/training/pipeline.yml", "--json", cwd=project).stdout)
        folder = next(step["outputs"]["model"] for step in job["steps"] if "model" in (step.get("outputs") or {}))
        lines = (Path(folder) / "MLmodel").read_text().splitlines()
        return next(line for line in lines if line.strip().startswith("recipe:"))
    one = recipe()
    notebook = json.loads(before)
    cell = next(cell for cell in notebook["cells"] if "".join(cell["source"]).startswith("table = sample_parquet"))
    cell["source"] = ["".join(cell["source"]) + "\nlabelled = labelled.iloc[5:]"]
    try:
        file.write_text(json.dumps(notebook))
        assert recipe() != one
    finally: file.write_text(before)
    assert recipe() == one and len(one.split()[1]) == 64
