"Features of times and booleans are part of the saved model: training and serving make the same"
import json

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from mlops_nb.models import saving, signature
from mlops_nb.models.features import combine_columns, input_names

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
