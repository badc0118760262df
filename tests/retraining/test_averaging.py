"Champion and challenger as one model: what it says, what is refused, and how it comes into charge"
import json
import re
import shutil
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io

from mlops_nb.errors import UserError
from mlops_nb.models import registry, saving, tracking
from mlops_nb.models.features import FewAveraged, few_rows
from mlops_nb.models.registry import Version
from mlops_nb.retraining.averaging import (
    MOST,
    NEWEST,
    average,
    average_with_version,
    find_conflict,
    parts_of,
    renew,
    shares_of,
)
from mlops_nb.retraining.policy import Policy
from mlops_nb.retraining.retraining import Retraining
from mlops_nb.training import train

from tests.support import ROOT
from tests.support.projects import command, turning

ROLES = {"categorical": ["site"], "numeric": ["load", "wind"], "label": "y", "slices": []}
TYPES = {"site": "string", "load": "double", "wind": "double"}
OPTIONS = {"learning_rate": 0.1, "max_iter": 20, "max_leaf_nodes": 7, "min_samples_leaf": 5, "l2_regularization": 0.0,
           "seed": 0, "C": 1.0}
RNG = np.random.default_rng(0)
X = pd.DataFrame({"site": RNG.choice(["north", "south"], 400).astype(object), "load": RNG.normal(size=400),
                  "wind": np.where(RNG.random(400) < 0.2, np.nan, RNG.normal(size=400))})
NUMBER = (X["load"] + (X.site == "north") + RNG.normal(size=400)).to_numpy()
CASES = [("hist_gradient_boosting", 0), ("ridge", 0), ("hist_gradient_boosting", 2), ("hist_gradient_boosting", 3),
         ("logistic_regression", 2)]


def labels(classes: int) -> np.ndarray:
    if not classes: return NUMBER
    return np.array(["a", "b", "c"])[np.digitize(NUMBER, np.quantile(NUMBER, np.arange(1, classes) / classes))]


def fitted(name, classes, rows, columns=("site", "load", "wind")):
    "A pipeline of training, of some rows and columns"
    task = "classification" if classes else "regression"
    roles = {**ROLES, "task": task, "numeric": [one for one in ("load", "wind") if one in columns]}
    return train.ESTIMATORS[name](roles=roles, **OPTIONS).fit(X.loc[:, list(columns)][rows], labels(classes)[rows])


OLD, NEW = slice(0, 250), slice(150, 400)


@pytest.mark.parametrize("name, classes", CASES)
def test_an_average_is_saved_and_answers_as_its_parts_together(tmp_path, name, classes):
    old, new = fitted(name, classes, OLD), fitted(name, classes, NEW)
    saving.save(average(new, old, 3), tmp_path / "model", X_example=X)
    model, ask = saving.load(tmp_path / "model"), "predict_proba" if classes else "predict"
    said = getattr(model, ask)(X)
    assert np.allclose(said, (getattr(new, ask)(X) + getattr(old, ask)(X)) / 2, rtol=1e-12)
    assert shares_of(model) == {NEWEST: 0.5, "version 3": 0.5} and list(getattr(model, "classes_", ())) == list(
        getattr(new, "classes_", ()))
    few, columns = few_rows(model, TYPES), X.astype(object).where(X.notna(), None).head(9).to_dict("list")
    assert isinstance(few, FewAveraged) and np.array_equal(getattr(few, ask)(columns), said[:9])


def test_a_champion_with_fewer_columns_finds_its_own(tmp_path):
    old, new = fitted("ridge", 0, OLD, ("site", "load")), fitted("ridge", 0, NEW)
    model = average(new, old, 1)
    assert list(model.feature_names_in_) == list(X)
    assert np.allclose(model.predict(X), (new.predict(X) + old.predict(X[["site", "load"]])) / 2)
    assert find_conflict(new, old) == "" and "needs wind, which the challenger does not take" in find_conflict(old, new)


def test_a_chain_of_averages_holds_the_newest_parts_only():
    chain = first = fitted("ridge", 0, OLD)
    for version in range(1, 9): chain = average(fitted("ridge", 0, NEW), chain, version)
    shares = shares_of(chain)
    assert list(shares) == [NEWEST, "version 8", "version 7", "version 6"] and len(shares) == MOST
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3) and 0.5 < shares[NEWEST] < 0.54
    assert all(part is not first for part, _ in parts_of(chain).values())
    longer = average(fitted("ridge", 0, NEW), chain, 9)
    assert len(skops.io.dumps(longer)) < 1.02 * len(skops.io.dumps(chain))


def test_fitted_again_an_average_keeps_what_the_champion_was():
    old, new = fitted("ridge", 0, OLD), fitted("ridge", 0, NEW)
    roles, rows = {**ROLES, "task": "regression"}, X.assign(y=NUMBER)
    again = renew(average(new, old, 1), lambda part: train.refit(part, rows, roles))
    assert parts_of(again)["version 1"][0] is old
    assert np.allclose(parts_of(again)[NEWEST][0].predict(X), train.refit(new, rows, roles).predict(X))
    whole = renew(average(new, old, 1), lambda part: train.refit(part, rows, roles), every=True)
    assert not np.allclose(parts_of(whole)["version 1"][0].predict(X), old.predict(X))


@pytest.fixture
def registered(tmp_path, monkeypatch):
    "A champion in a registry of its own, which knows the days before July"
    import mlflow
    uri = f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    mlflow.set_tracking_uri(uri)
    saving.save(fitted("ridge", 0, OLD), tmp_path / "model", X_example=X)
    with tracking.run():
        registry.register(tmp_path / "model", "m", {"train_end": "2013-07-01"})
        shutil.rmtree(tmp_path / "model")
        yield tmp_path
    mlflow.set_tracking_uri(None)


def test_a_registered_version_is_verified_and_may_not_know_the_days_of_judgement(registered):
    new, roles = fitted("ridge", 0, NEW), {"train_end": "2013-07-01"}
    model, facts = average_with_version(new, "m:1", roles)
    digest = registry.list_versions("m")[0].digest
    assert facts == {"average_of": {NEWEST: 0.5, "version 1": 0.5}, "average_with": "m:1",
                     "average_with_sha256": digest}
    assert shares_of(model) == facts["average_of"]
    for text, known, said in (("m:1", {"train_end": "2013-06-30"}, "knows the days up to 2013-07-01"),
                              ("m:1", {}, "the rows have no time"), ("m:2", roles, "there is no m:2"),
                              ("m", roles, "'m' is no version")):
        with pytest.raises(UserError, match=said): average_with_version(new, text, known)
    file = next(registered.rglob("*.skops"))
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(UserError, match="SHA256SUMS|digest|sha256"): average_with_version(new, "m:1", roles)


def test_the_handler_gives_the_champion_to_train_where_settings_ask_for_it():
    version = Version("m", 7, {"train_end": "2013-05-01"}, "", "", datetime(2013, 5, 1, tzinfo=UTC))
    now, file = datetime(2013, 7, 1, tzinfo=UTC), ROOT / "pipelines/monitoring/retrain.yml"
    def window(average: bool, champion) -> dict:
        retraining = Retraining(ROOT, file, Policy(average=average), champion=lambda: champion)
        return retraining.check_average().window(now)
    assert window(True, version)["average_with"] == "m:7"
    assert "average_with" not in window(True, None) and "average_with" not in window(False, version)
    training = Retraining(ROOT, ROOT / "pipelines/training/pipeline.yml", Policy(average=True))
    with pytest.raises(UserError, match="pipeline.yml has no input average_with"): training.check_average()


def ask(project: Path, rows: list) -> list:
    "Deploy the champion as the project's files say, ask it, stop it"
    try:
        command("deploy", cwd=project)
        found = json.loads(command("endpoint", "status", project.name, "--json", cwd=project).stdout)[0]
        keys = json.loads(command("endpoint", "keys", project.name, "--json", cwd=project).stdout)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {keys['primary']}"}
        asked = urllib.request.Request(found["scoring_uri"], json.dumps({"input_data": rows}).encode(), headers)
        with urllib.request.urlopen(asked, timeout=60) as answer: return json.loads(answer.read())
    finally: command("endpoint", "stop", project.name, cwd=project)


def retrain(project: Path, *words: str) -> dict:
    "What the gate wrote, and where the model is"
    options = [word for value in words for word in ("--set", f"inputs.{value}")]
    job = json.loads(command("run", "pipelines/monitoring/retrain.yml", *options, "--json", cwd=project).stdout)
    found = {name: Path(path) for step in job["steps"] for name, path in (step.get("outputs") or {}).items()}
    return json.loads((found["decision"] / "verdict.json").read_text()) | found


@pytest.mark.long
def test_an_average_is_trained_judged_for_superiority_registered_and_served(tmp_path):
    "A road that is wet more often from day 190 on: the champion knows nothing of that, the challenger some weeks"
    data = turning(tmp_path / "turn.csv")
    command("new", "turn", "--package", "turn", "--data", data, "--target", "state", "--time", "when", cwd=tmp_path)
    project = tmp_path / "turn"
    settings = project / "settings.ini"
    settings.write_text(re.sub(r"(?m)^average = false$", "average = true", settings.read_text()))
    assert "average = true" in settings.read_text()
    first = retrain(project, "train_end=2025-05-01", "test_end=2025-06-01", "max_latency_ms=1000")
    assert first["accepted"], first["reason"]
    days = ("train_end=2025-08-20", "test_end=2025-09-20", "max_latency_ms=1000")
    second = retrain(project, *days, "average_with=turn:1")
    assert second["accepted"] and "the challenger's loss is lower" in second["reason"], second["reason"]
    card = (second["decision"] / "model_card.md").read_text()
    assert "**An average.**" in card and "challenger 50.0%, version 1 50.0%" in card and "of turn:1, unchanged" in card
    model = saving.load(second["model"])
    assert list(parts_of(model)) == [NEWEST, "version 1"]
    example = json.loads((second["model"] / "serving_input_example.json").read_text())["dataframe_split"]
    row = dict(zip(example["columns"], example["data"][0]))
    said = ask(project, [row])[0]["probability"]
    registered = saving.load(next(path.parent for path in project.rglob("mlartifacts/**/MLmodel")
                                  if (path.parent / "model_card.md").exists()
                                  and "**An average.**" in (path.parent / "model_card.md").read_text()))
    assert said == pytest.approx(registered.predict_proba(pd.DataFrame([row]))[0, 1], abs=1e-9)
    third = retrain(project, "train_end=2025-09-20", "test_end=2025-10-20", "max_latency_ms=1000")
    assert "the recipe is unchanged" not in third["reason"], "an average has no recipe, so a challenger must be better"
