"Print the score of a plain scikit-learn model on the same rows: baseline.py FOLDER, with train, validation and test"
import json
import sys
from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

folder = Path(sys.argv[1])
roles = json.loads((folder / "columns.json").read_text())
parts = {name: pd.read_parquet(folder / f"{name}.parquet") for name in ("train", "validation", "test")}
train, test = pd.concat([parts["train"], parts["validation"]]), parts["test"]


def features(table: pd.DataFrame) -> pd.DataFrame:
    "The columns as they are; a time as the hour, the weekday and the month"
    found = table[roles["categorical"] + roles["numeric"] + roles["boolean"]].copy()
    for name in roles["times"]:
        when = pd.to_datetime(table[name])
        found = found.assign(**{f"{name} {part}": getattr(when.dt, part) for part in ("hour", "dayofweek", "month")})
    return found


encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
columns = make_column_transformer((encode, roles["categorical"] + roles["boolean"]), remainder="passthrough")
if roles["task"] == "regression":
    model = make_pipeline(columns, HistGradientBoostingRegressor(random_state=0))
    model.fit(features(train), train[roles["label"]])
    print(r2_score(test[roles["label"]], model.predict(features(test))))
else:
    label = train[roles["label"]].astype(str)
    model = make_pipeline(columns, HistGradientBoostingClassifier(random_state=0)).fit(features(train), label)
    print(log_loss(test[roles["label"]].astype(str), model.predict_proba(features(test)), labels=model[-1].classes_))
