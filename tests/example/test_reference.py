"What a monitor compares predictions with: answers of models that have not seen the rows"
import io

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_info, threadpool_limits

from mlops_nb.models.features import combine_columns
from mlops_nb.training import register
from mlops_nb.training.evaluate import answers
from mlops_nb.training.train import ESTIMATORS, fit, inputs, refit

NAMES = [f"x{i}" for i in range(8)]


def rows(seed: int, n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n, 8)), columns=NAMES)
    table = table.assign(kind=rng.choice(["a", "b"], n), day=np.arange(n) // 20)
    odds = 1 / (1 + np.exp(-table.x0 - (table.kind == "a")))
    return table.assign(two=(rng.random(n) < odds).astype(int), number=odds + rng.normal(0, .3, n),
                        three=np.where(rng.random(n) < .01, "rare", np.where(rng.random(n) < odds, "yes", "no")))


def forest(label: str, table: pd.DataFrame, **more) -> tuple[Pipeline, dict]:
    "A forest whose leaves hold single rows, and its columns"
    task = "regression" if label == "number" else "classification"
    roles = {"task": task, "label": label, "categorical": ["kind"], "numeric": NAMES, "slices": [], **more}
    kind = RandomForestRegressor if label == "number" else RandomForestClassifier
    steps = [("columns", combine_columns(roles, OrdinalEncoder())), ("model", kind(40, random_state=0))]
    return Pipeline(steps).fit(inputs(table, roles), table[label]), roles


def distance(a: pd.Series, b: pd.Series) -> float:
    edges = np.linspace(min(a.min(), b.min()), max(a.max(), b.max()), 11)
    shares = [np.histogram(one, edges)[0] / len(one) for one in (a, b)]
    return float(jensenshannon(shares[0], shares[1], base=2))


@pytest.mark.parametrize("label, column, far", [("two", "probability", .3), ("three", "probability_yes", .3),
                                                ("number", "prediction", .1)])
@pytest.mark.parametrize("more", [{}, {"day": "day"}, {"group": "day"}])
def test_without_drift_the_reference_is_near_what_is_served(label, column, far, more):
    known, new = rows(0), rows(1)
    model, roles = forest(label, known, **more)
    served = answers(model, inputs(new, roles))[column]
    assert distance(answers(model, inputs(known, roles))[column], served) > far, "in the sample it is sure of each row"
    kept = register.monitored(model, model, known, new, roles)
    reference = pd.read_parquet(io.BytesIO(kept["reference"]))
    assert len(reference) == len(known) and reference[column].notna().all()
    assert distance(reference[column], served) < .1


def test_a_class_of_few_rows_keeps_its_column():
    known = rows(2, 300)
    known.loc[known.three == "rare", "three"] = "no"
    known.loc[:2, "three"] = "rare"
    model, roles = forest("three", known, day="day")
    said = register.cross_fitted_answers(model, known, roles)
    assert [*said] == ["probability_no", "probability_rare", "probability_yes"] and said.notna().all(axis=None)
    assert np.allclose(said.sum(axis=1), 1)


SETTINGS = dict(learning_rate=.1, max_iter=60, max_leaf_nodes=7, min_samples_leaf=20, l2_regularization=1.0, C=1.0,
                seed=0)


@pytest.mark.parametrize("label", ["two", "three", "number"])
@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "linear"])
def test_fits_side_by_side_say_to_the_bit_what_fits_after_each_other_say(label, estimator, monkeypatch):
    known, task = rows(3), "regression" if label == "number" else "classification"
    roles = {"task": task, "label": label, "categorical": ["kind"], "numeric": NAMES, "slices": [], "day": "day"}
    linear = "ridge" if label == "number" else "logistic_regression"
    recipe = ESTIMATORS[linear if estimator == "linear" else estimator](roles, **SETTINGS)
    model = fit(recipe, known[:1500], known[1500:], roles)
    expected = answers(model, inputs(known, roles)) * np.nan
    fold = known.day.to_numpy() // register.TOGETHER % register.FOLDS
    for one in range(register.FOLDS):
        fresh = refit(model, known[fold != one].reset_index(drop=True), roles)
        expected.loc[fold == one] = answers(fresh, inputs(known[fold == one], roles))
    before = threadpool_info()
    for shares in [(3, 1), (2, 2), (1, None)]:
        monkeypatch.setattr(register, "_share_threads", lambda values, shares=shares: shares)
        pd.testing.assert_frame_equal(register.cross_fitted_answers(model, known, roles), expected, check_exact=True)
    assert threadpool_info() == before, "the threads of this process are as they were"


def test_the_fits_share_the_threads_and_a_large_table_is_fitted_one_at_a_time():
    shares = {}
    for threads in (1, 2, 8):
        with threadpool_limits(threads, "openmp"): shares[threads] = register._share_threads(1_000_000)
    assert shares == {1: (1, None), 2: (3, 1), 8: (3, 2)}
    with threadpool_limits(8, "openmp"):
        assert [register._share_threads(values) for values in (7_000_000, 10_000_000)] == [(2, 4), (1, None)]
