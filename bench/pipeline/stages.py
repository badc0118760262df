"Five small stages: each reads files and writes one, and returns what its notebook shows"
import json
import pickle

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def ingest(out):
    random = np.random.default_rng(0)
    table = pd.DataFrame(random.normal(size=(5000, 6)), columns=list("abcdef"))
    table["late"] = (table.a + table.b*table.c + random.normal(size=5000) > 0).astype(int)
    table.to_csv(out, index=False)
    return table.describe()


def prepare(table, out):
    rows = pd.read_csv(table).assign(bc=lambda t: t.b*t.c, day=lambda t: t.index % 7)
    rows.to_pickle(out)
    return rows.groupby("day").late.mean()


def train(prepared, out):
    rows = pd.read_pickle(prepared)[:4000]
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows.drop(columns="late"), rows.late)
    with open(out, "wb") as file: pickle.dump(model, file)
    return model[-1].coef_.round(3)


def evaluate(model, prepared, out):
    rows = pd.read_pickle(prepared)[4000:]
    with open(model, "rb") as file: guess = pickle.load(file).predict_proba(rows.drop(columns="late"))[:, 1]
    found = {"auc": roc_auc_score(rows.late, guess), "loss": log_loss(rows.late, guess)}
    with open(out, "w") as file: json.dump(found, file)
    return found


def report(evaluation, prepared, out):
    with open(evaluation) as file: found = json.load(file)
    rows = pd.read_pickle(prepared).describe().T.round(2)
    with open(out, "w") as file: file.write(f"AUC {found['auc']:.3f}, loss {found['loss']:.3f}\n\n{rows.to_string()}\n")
    return rows
