"A request of a few rows is answered without a table, and its answers are those of the pipeline"
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from mlops_nb.deployment import score
from mlops_nb.models.features import BooleanNumbers, FewRows, few_rows
from mlops_nb.models.saving import save
from mlops_nb.models.signature import Field
from mlops_nb.training import train

ROLES = {"categorical": ["site", "tail"], "numeric": ["hour", "count", "empty"], "boolean": ["wet"]}
TYPES = {"site": "string", "tail": "string", "hour": "double", "count": "long", "empty": "double", "wet": "boolean"}
FIELDS = [Field(name, type, required=name == "site") for name, type in TYPES.items()]
OPTIONS = {"learning_rate": 0.1, "max_iter": 30, "max_leaf_nodes": 15, "min_samples_leaf": 5, "l2_regularization": 0.0,
           "seed": 0, "C": 1.0}
TASKS = {"hist_gradient_boosting": ("classification", "regression"), "logistic_regression": ("classification",),
         "ridge": ("regression",)}
CASES = [(name, task, classes) for name, tasks in TASKS.items() for task in tasks
         for classes in ((2, 3) if task == "classification" else (0,))]


def rows(n=3000):
    "Rows of training: rare and frequent categories, holes of every kind"
    rng = np.random.default_rng(0)
    tails = np.array([f"N{i}" for i in range(400)], object)[rng.zipf(1.3, n) % 400]
    X = pd.DataFrame({"site": rng.choice(["north", "süd", "", "east"], n).astype(object), "tail": tails,
                      "hour": rng.normal(12, 5, n), "count": rng.integers(-5, 2**40, n).astype(float),
                      "empty": np.where(rng.random(n) < 0.9, np.nan, rng.normal(size=n)),
                      "wet": rng.choice(np.array([True, False, None], object), n)})
    X.loc[::7, "count"] = np.nan
    X.loc[::9, "tail"] = None
    return X, (X["hour"] + 3 * (X["site"] == "north") + rng.normal(size=n)).to_numpy()


def fitted(name, task, classes):
    X, y = rows()
    target = y if task == "regression" else np.digitize(y, np.quantile(y, np.arange(1, classes) / classes))
    return train.ESTIMATORS[name](roles={**ROLES, "task": task}, **OPTIONS).fit(X, target)


@pytest.fixture(scope="module")
def models(): return [fitted(*case) for case in CASES]


TEXT = st.one_of(st.sampled_from(["north", "süd", "", "east", "N1", "N2", "N333", "\0 unseen"]), st.text(max_size=4))
NUMBER = st.one_of(st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(-2**62, 2**62),
                   st.floats(-30, 30))
VALUES = {"site": TEXT, "tail": st.none() | TEXT, "hour": st.none() | NUMBER,
          "count": st.none() | st.integers(1 - 2**63, 2**63 - 1) | st.integers(-5, 9), "empty": st.none() | NUMBER,
          "wet": st.none() | st.booleans()}


@settings(deadline=None, max_examples=150)
@given(which=st.integers(0, len(CASES) - 1), asked=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=4))
def test_answers_are_those_of_the_pipeline(models, which, asked):
    case, columns = CASES[which], {name: [row[name] for row in asked] for name in TYPES}
    score.FIELDS = FIELDS
    model, X = models[which], score.frame(columns)
    few = few_rows(model, TYPES)
    method = "predict" if case[1] == "regression" else "predict_proba"
    assert isinstance(few, FewRows)
    expected, found = getattr(model, method)(X), getattr(few, method)(columns)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def pipeline(columns, model): return Pipeline([("columns", ColumnTransformer(columns)), ("model", model)])


SIMPLE = ("sites", OneHotEncoder(handle_unknown="ignore"), ["site"])
OTHERS = {
    "an estimator that training does not make": pipeline([SIMPLE], RandomForestClassifier(3)),
    "categories that are refused": pipeline([("sites", OrdinalEncoder(), ["site"])], LogisticRegression()),
    "columns that are mixed": pipeline([SIMPLE, ("mixed", PCA(1), ["hour"])], LogisticRegression()),
    "one column twice": pipeline([SIMPLE, ("a", StandardScaler(), ["hour"]), ("b", StandardScaler(), ["hour"])],
                                 LogisticRegression()),
    "a step more": make_pipeline(ColumnTransformer([SIMPLE]), StandardScaler(with_mean=False), LogisticRegression()),
    "no pipeline": LogisticRegression(),
}


@pytest.mark.parametrize("which", OTHERS)
def test_any_other_model_answers_by_itself(which):
    X, y = rows(300)
    model, X = OTHERS[which], X[["site", "hour"]]
    model.fit(X if which != "no pipeline" else X[["hour"]], y > 12)
    assert few_rows(model, TYPES) is None


@pytest.mark.parametrize("type", ["datetime", "float"])
def test_other_types_are_left_to_the_pipeline(type):
    X, y = rows(300)
    model = pipeline([SIMPLE, ("numbers", StandardScaler(), ["hour"])], LogisticRegression()).fit(X, y > 12)
    assert few_rows(model, TYPES) and few_rows(model, {**TYPES, "hour": type}) is None


def test_booleans_that_are_scaled():
    X, y = rows(300)
    step = make_pipeline(BooleanNumbers(), StandardScaler())
    X["wet"] = (X["wet"] == True).astype(object)  # noqa: E712
    model = pipeline([("flags", step, ["wet"])], LogisticRegression()).fit(X, y > 12)
    expected = model.predict_proba(pd.DataFrame({"wet": [True, False]}))
    np.testing.assert_allclose(few_rows(model, TYPES).predict_proba({"wet": [True, False]}), expected, rtol=1e-12)


def test_the_scoring_script_answers_few_and_many_rows_alike(tmp_path, monkeypatch):
    X, y = rows()
    model = fitted("hist_gradient_boosting", "classification", 2)
    save(model, tmp_path / "model", X_example=X)
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(tmp_path))
    score.init()
    asked = [{name: None if value is None or value != value else value for name, value in row.items()}
             for row in X.head(score.ROWS + 1).to_dict("records")]
    tables, frame = [], score.frame
    monkeypatch.setattr(score, "frame", lambda columns: tables.append(len(columns["site"])) or frame(columns))
    one_by_one = [score.answer(json.dumps([row]), "application/json")[0]["probability"] for row in asked]
    assert not tables
    together = [row["probability"] for row in score.answer(json.dumps(asked), "application/json")]
    assert tables == [score.ROWS + 1] and one_by_one == pytest.approx(together, rel=1e-12, abs=1e-12)
    refused = [json.dumps([{**asked[0], **wrong}]) for wrong in ({"hour": "six"}, {"wet": 1}, {"site": None})]
    for body in refused:
        with pytest.raises(score.signature.InvalidRequest): score.answer(body, "application/json")
