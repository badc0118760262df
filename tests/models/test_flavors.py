"models.flavors: models of other flavours pass where scikit-learn's do, through the scoring script of the endpoint too"
import json
import os
import subprocess
import sys

import lightgbm
import mlflow.lightgbm
import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from mlflow.pyfunc.model import PythonModel

from mlops_nb.errors import UserError
from mlops_nb.models import saving
from mlops_nb.models.champion import champion_columns, measure_latencies
from mlops_nb.models.flavors import adopt

rng = np.random.default_rng(0)
X = pd.DataFrame({"distance": rng.uniform(80, 2500, 300), "hour": rng.uniform(0, 24, 300)})
Y = ((X.hour > 14) ^ (rng.random(300) < 0.2)).astype(int)
SCORE = """import json, sys
from mlops_nb.deployment import score
score.init()
print(json.dumps(score.run(sys.argv[1])))
try: score.answer('[{"hour": "six", "distance": 1.0}]', "application/json")
except Exception as refusal: print(refusal)
"""


def trained(objective: str, y) -> lightgbm.Booster:
    return lightgbm.train({"objective": objective, "verbose": -1, "num_threads": 1,
                           "num_class": 3 if objective == "multiclass" else 1}, lightgbm.Dataset(X, y), 5)


@pytest.fixture
def booster(tmp_path) -> tuple:
    "A booster, its folder and digest"
    made = trained("binary", Y)
    mlflow.lightgbm.save_model(made, tmp_path/"model", signature=infer_signature(X, made.predict(X)),
                               metadata={"classes": [0, 1]})
    return made, tmp_path/"model", adopt(tmp_path/"model", X.head())


def test_a_booster_is_asked_like_an_estimator(booster):
    made, folder, digest = booster
    model = saving.load(folder, digest)
    np.testing.assert_allclose(model.predict_proba(X), np.column_stack([1 - made.predict(X), made.predict(X)]))
    assert set(model.predict(X)) == {0,
                                     1} and list(champion_columns(model, None,
                                                                  X.assign(more=1)).columns) == ["distance", "hour"]
    assert len(measure_latencies(model.predict_proba, X.head(20)))


def test_the_endpoint_scores_it(booster):
    made, folder, digest = booster
    body = json.dumps({"input_data": {"columns": ["hour", "distance"], "data": [[6.5, 900.0], [22.0, 300.0]]}})
    done = subprocess.run([sys.executable, "-c", SCORE, body],
                          env={**os.environ, "AZUREML_MODEL_DIR": str(folder.parent), "MODEL_SHA256": digest},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said, refused = done.stdout.splitlines()[:2]
    expected = made.predict(pd.DataFrame({"distance": [900.0, 300.0], "hour": [6.5, 22.0]}))
    np.testing.assert_allclose([row["probability"] for row in json.loads(said)], expected, atol=1e-9)
    assert "hour" in refused


def test_three_classes_have_three_columns(tmp_path):
    y = pd.cut(X.hour, 3, labels=False)
    made = trained("multiclass", y)
    mlflow.lightgbm.save_model(made, tmp_path/"model", signature=infer_signature(X, made.predict(X)),
                               metadata={"classes": ["dawn", "day", "dusk"]})
    model = saving.load(tmp_path/"model", adopt(tmp_path/"model", X.head()))
    np.testing.assert_allclose(model.predict_proba(X), made.predict(X))
    assert (model.predict(X) == np.array(["dawn", "day", "dusk"])[y]).mean() > 0.9


def test_a_number_is_a_prediction(tmp_path):
    made = trained("regression", X.distance / 7)
    mlflow.lightgbm.save_model(made, tmp_path/"model", signature=infer_signature(X, made.predict(X)))
    model = saving.load(tmp_path/"model", adopt(tmp_path/"model", X.head()))
    np.testing.assert_allclose(model.predict(X), made.predict(X))
    assert not hasattr(model, "predict_proba")


class Broken(PythonModel):
    def predict(self, context, model_input): return np.full(len(model_input), np.nan)


@pytest.mark.parametrize("change, message", [
    (dict(metadata={"classes": [0, 1, 2]}), "no probabilities of 3 classes"), (dict(signature=None), "no signature"),
    (dict(python_model=Broken(), lgb_model=None), "not finite")])
def test_what_is_refused(tmp_path, change, message):
    made = trained("binary", Y)
    options = {"signature": infer_signature(X, made.predict(X)),
               **{key: value for key, value in change.items() if key != "lgb_model"}}
    if "python_model" in change: mlflow.pyfunc.save_model(path=tmp_path/"model", **options)
    else: mlflow.lightgbm.save_model(made, tmp_path/"model", **options)
    with pytest.raises(UserError, match=message): adopt(tmp_path/"model", X.head())
    assert not (tmp_path/"model"/"SHA256SUMS").exists()


def test_it_is_not_loaded_without_its_digest(booster, tmp_path):
    _, folder, digest = booster
    with pytest.raises(UserError, match="which runs code when it is loaded"): saving.load(folder)
    (folder/"model.lgb").write_text((folder/"model.lgb").read_text() + " ")
    with pytest.raises(UserError, match="was changed"): saving.load(folder, digest)


def test_a_network_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import mlflow.pytorch
    torch.manual_seed(0)
    single = X.astype("float32")
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1),
                              torch.nn.Sigmoid())
    optimizer, inputs, labels = (
        torch.optim.Adam(net.parameters(), 0.05),
        torch.tensor(single.values),
        torch.tensor(Y.values, dtype=torch.float32)[:, None],
    )
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    net.eval()
    mlflow.pytorch.save_model(net, tmp_path/"model", signature=infer_signature(single, net(inputs).detach().numpy()),
                              metadata={"classes": [0, 1]}, pip_requirements=["torch"], serialization_format="pickle")
    model = saving.load(tmp_path/"model", adopt(tmp_path/"model", single.head()))
    np.testing.assert_allclose(model.predict_proba(single)[:, 1], net(inputs).detach().numpy()[:, 0], atol=1e-6)
    assert (model.predict(single) == Y).mean() > 0.7
