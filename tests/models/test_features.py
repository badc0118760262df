"Features of times and booleans are part of the saved model: training and serving make the same"
import json

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from mlops_nb.models import saving, signature
from mlops_nb.models.features import combine_columns, fit_columns, input_names

ROLES = {"categorical": ["site"], "numeric": ["size"], "boolean": ["on"], "times": ["when"]}


def rows(n: int = 1200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"site": rng.choice(["a", "b"], n), "size": rng.normal(size=n),
                         "on": [True, None, False] * (n // 3),
                         "when": pd.date_range("2026-01-01", periods=n, freq="h").astype("datetime64[us]")})


def fitted(table: pd.DataFrame) -> Pipeline:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    wave = 10 * np.sin(table.when.dt.hour / 24 * 2 * np.pi)
    trees = HistGradientBoostingRegressor(random_state=0)
    return Pipeline([("columns", combine_columns(ROLES, codes)), ("model", trees)]).fit(table[input_names(ROLES)], wave)


def test_a_wave_over_the_hour_is_learnt():
    table = rows()
    later = table.assign(when=table.when + pd.Timedelta(days=60))
    said = fitted(table).predict(later[input_names(ROLES)])
    wave = 10 * np.sin(later.when.dt.hour / 24 * 2 * np.pi)
    assert 1 - ((said - wave) ** 2).sum() / ((wave - wave.mean()) ** 2).sum() > .95


def test_the_saved_model_takes_moments_as_json_has_them(tmp_path, monkeypatch):
    table = rows()
    model, X = fitted(table), table[input_names(ROLES)]
    digest = saving.save(model, tmp_path / "model", X_example=X)
    fields, _ = signature.read_signature(tmp_path / "model")
    assert {field.name: (field.type, field.required) for field in fields} == {
        "site": ("string", True), "size": ("double", True), "on": ("boolean", False), "when": ("datetime", True)}
    loaded, asked = saving.load(tmp_path / "model",
                                digest), json.loads(X.head(3).to_json(orient="records", date_format="iso"))
    signature.check(signature.rows(asked), fields)
    assert loaded.predict(pd.DataFrame(asked)[input_names(ROLES)]).tolist() == model.predict(X.head(3)).tolist()


TEXT = {"few": ["b", "a", "c"], "holes": ["b", None, "a"], "other holes": ["b", np.nan, "a"], "numbers": [3, 1, 2],
        "both holes": ["b", None, np.nan], "four": ["b", "a", "c", "d"], "five": ["b", "a", "c", "d", "e"]}


@pytest.mark.parametrize("values", TEXT.values(), ids=TEXT)
@pytest.mark.parametrize("limits", [{}, {"max_categories": 4}, {"max_categories": 4, "min_frequency": 500},
                                    {"max_categories": 200}], ids=str)
def test_columns_are_fitted_to_the_byte_as_scikit_learn_does_it(values: list, limits: dict):
    "Below, at and above the limit of categories, from which on the counts of the values matter"
    rng, table = np.random.default_rng(1), rows()
    X = table.assign(site=pd.Series(values, dtype=object).iloc[rng.integers(len(values), size=len(table))].to_numpy())
    X = X[input_names(ROLES)]
    one, other = (Pipeline([("columns", combine_columns(ROLES, OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-5, **limits)))]) for _ in range(2))
    np.testing.assert_array_equal(fit_columns(one, X), other.fit_transform(X))
    assert saving.canonical(skops.io.dumps(one)) == saving.canonical(skops.io.dumps(other))
    new = X.tail(7).assign(site=pd.Series(["a", "b", "never seen", None, "c", "d", "e"], dtype=object).to_numpy())
    np.testing.assert_array_equal(one.transform(new), other.transform(new))


def test_a_value_that_is_no_category_is_refused_in_the_words_of_scikit_learn():
    X = rows(6).assign(site=[["a"], ["b"]] * 3)
    steps = Pipeline([("columns", combine_columns(ROLES, OrdinalEncoder(max_categories=4)))])
    with pytest.raises(TypeError, match="uniformly strings or numbers"): fit_columns(steps, X)
    assert type(steps["columns"].transformers[0][1]) is OrdinalEncoder
