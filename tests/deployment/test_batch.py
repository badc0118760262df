"Batch scoring: the pipeline as a user runs it, rows that cannot be scored, a kill in the middle"
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_nb.models import saving

from tests.support import ROOT
from tests.support.jobs import Project, steps, wait_for
from tests.support.serving import flights, register_models


def command(project, table="table.parquet", model="azureml:flight-delay:1", **inputs) -> list:
    "What a user types after `mlops-nb run`"
    given = {"table": project.root / table, "model": model, **inputs}
    return ["pipelines/deployment/batch.yml",
            *(word for name, value in given.items() for word in ("--set", f"inputs.{name}={value}"))]


@pytest.fixture(scope="module")
def batch(tmp_path_factory, empty_store):
    "A copy of the repository with a registered model, and a table with an identifier, a hole and an infinity"
    project = Project(tmp_path_factory.mktemp("batch") / "my project", empty_store)
    for name in ("nbs", "mlops_nb", "pipelines"):
        shutil.copytree(ROOT / name, project.root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("settings.ini", "pyproject.toml", ".amlignore"): shutil.copy(ROOT / name, project.root / name)
    register_models(project.root)
    X, _ = flights()
    table = X.assign(id=[f"flight-{number}" for number in range(len(X))])
    table.loc[7, "hour"], table.loc[250, "carrier"], table.loc[399, "hour"] = np.nan, None, np.inf
    table.sample(frac=1, random_state=0).to_parquet(project.root / "table.parquet", index=False)
    return project


def run(project, words, code: int = 0) -> dict:
    "Run the pipeline, however long a busy machine takes"
    process = project.start("run", *words, "--json")
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, out + err
    return json.loads(out)


def made(job) -> tuple:
    "The table that a job wrote, and its counts"
    folder = Path(steps(job)["collect"]["outputs"]["predictions"])
    return pd.read_parquet(folder / "predictions.parquet"), json.loads((folder / "counts.json").read_text())


@pytest.fixture(scope="module")
def scored(batch): return made(run(batch, command(batch, rows_each=90)))


def test_each_row_has_the_models_own_answer_in_the_order_of_the_table(batch, scored):
    table, asked = scored[0], pd.read_parquet(batch.root / "table.parquet")
    assert [*table.id] == [*asked.id] and [*table] == ["carrier", "hour", "gust", "id", "probability", "error"]
    good = table.error.isna()
    own = saving.load(batch.root / "model1").predict_proba(asked.loc[good, ["carrier", "hour", "gust"]])[:, 1]
    assert np.abs(table.probability[good] - own).max() <= 1e-9


def test_rows_that_cannot_be_scored_are_counted_and_cost_no_other_row_its_answer(scored):
    table, counts = scored
    assert (counts["rows"], counts["scored"], counts["failed"]) == (400, 397, 3)
    assert table.set_index("id").error.dropna().to_dict() == {
        "flight-7": "hour is null", "flight-250": "carrier is null", "flight-399": "Infinity is not JSON"}
    assert counts["reasons"] == {"hour is null": 1, "carrier is null": 1, "Infinity is not JSON": 1}


def test_a_killed_run_goes_on_where_it_was(batch, scored):
    "Of a hundred parts, those that were done before the kill are not done again"
    words = command(batch, rows_each=4, keep="id")
    done = lambda: [path for path in (batch.root / ".mlops/jobs").glob("*/score/minibatches/[0-9]*.json")
                    if path.parent.parent.parent not in before]
    before = {*(batch.root / ".mlops/jobs").glob("*")}
    process = batch.start("run", *words)
    wait_for(lambda: len(done()) >= 3, 600)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {path: path.read_text() for path in done()}
    assert 3 <= len(kept) < 100
    job = run(batch, words)
    assert all(path.read_text() == text for path, text in kept.items()) and len(done()) == 100
    table, counts = made(job)
    pd.testing.assert_frame_equal(table, scored[0][["id", "probability", "error"]])
    assert counts == scored[1]


def test_a_table_without_a_column_of_the_model_fails_and_says_which(batch):
    pd.read_parquet(batch.root / "table.parquet").drop(columns="hour").to_parquet(batch.root / "other.parquet")
    job = run(batch, command(batch, "other.parquet"), 1)
    assert "the table lacks hour" in steps(job)["score"]["error"] and steps(job)["collect"]["status"] == "NotStarted"


def test_a_changed_model_is_not_used(batch):
    spoilt = shutil.copytree(batch.root / "model1", batch.root / "spoilt")
    (spoilt / "requirements.txt").write_text("something-else\n")
    job = run(batch, command(batch, model=spoilt), 1)
    assert steps(job)["score"]["status"] == "Failed"
    logs = "".join(path.read_text() for path in (Path(job["folder"]) / "score").glob("std_log*.txt"))
    assert "requirements.txt was changed" in logs
