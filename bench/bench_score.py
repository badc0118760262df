"""One row in a request: CPU of the scoring script, against the same script with a table for each request.

    .venv/bin/python bench/bench_score.py [--requests 2000] [--rounds 3]

Two models as training makes them, of two columns of text, three of numbers and one of booleans, behind `run` of
`mlops_nb/deployment/score.py`. The CPU of a request is that of a process that answers them all, less that of one
that answers a single one. What is around the script in a worker, gunicorn and Azure's server, is not in it.
"""
import argparse
import shutil

from harness import HOME, PYTHON, Result, rounds, spawn, versions

FOLDER = HOME/"score"
MODEL = """
import sys
import numpy as np, pandas as pd
from mlops_nb.models.saving import save
from mlops_nb.training import train
rng, n = np.random.default_rng(0), 5_000
X = pd.DataFrame({"site": rng.choice(["a", "b", "c"], n).astype(object),
                  "tail": np.array([f"N{i}" for i in range(100)], object)[rng.integers(0, 100, n)],
                  "hour": rng.normal(12, 5, n), "size": rng.normal(size=n), "wind": rng.normal(size=n),
                  "wet": rng.choice(np.array([True, False], object), n)})
roles = {"task": "classification", "categorical": ["site", "tail"], "numeric": ["hour", "size", "wind"],
         "boolean": ["wet"]}
options = dict(learning_rate=0.1, max_iter=100, max_leaf_nodes=31, min_samples_leaf=20, l2_regularization=0.0, seed=0,
               C=1.0)
label = X["hour"] + 3 * (X["site"] == "a") + rng.normal(size=n) > 12
model = train.ESTIMATORS[sys.argv[1]](roles, **options).fit(X, label)
save(model, sys.argv[2], X_example=X)
"""
REQUESTS = """
import json, os, sys
folder, count, table = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "table"
os.environ["AZUREML_MODEL_DIR"] = folder
from mlops_nb.deployment import score
score.init()
if table: score.FEW = None
else: assert score.FEW
for i in range(count):
    row = {"site": "abc"[i % 3], "tail": f"N{i % 110}", "hour": i % 24 + 0.5, "size": 0.25, "wind": -0.5}
    row["wet"] = i % 2 == 0
    score.run(json.dumps([row]))
"""


def contestants(requests: int) -> dict:
    "What is measured, by name"
    found = {}
    for name, estimator in (("trees", "hist_gradient_boosting"), ("linear", "logistic_regression")):
        folder = FOLDER/name/"model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        spawn([PYTHON, "-c", MODEL, estimator, folder])
        for way in ("table", "mlops-nb"):
            def measure(folder=folder, way=way):
                many, one = (spawn([PYTHON, "-c", REQUESTS, folder.parent, n, way])["cpu"] for n in (requests, 1))
                return {"ms": (many - one) / (requests - 1) * 1000}
            found[f"{name}, {way}"] = measure
    return found


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--requests", type=int, default=2000)
    given.add_argument("--rounds", type=int, default=3)
    asked = given.parse_args()
    result = Result("score", "One row in a request", units={"ms": "CPU ms a request"},
                    versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas"))
    result.add(rounds(contestants(asked.requests), count=asked.rounds, warm=False))
    for name in ("trees", "linear"):
        ours, table = (result.rows[f"{name}, {way}"]["ms"]["median"] for way in ("mlops-nb", "table"))
        result.target(f"CPU of a request, times that with a table: {name}", ours / table, 0.5)
    result.notes.append("tests/models/test_few_rows.py shows that the answers are those of the pipeline, to 1e-12.")
    result.write()


if __name__ == "__main__": main()
