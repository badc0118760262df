"What a model looks at, where it errs and what it is better than: against scikit-learn, and on the awkward tables"
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mlops_nb.models.explanation import (
    by_class,
    compare_in_words,
    confusion,
    explained_rows,
    find_rare,
    importance,
    predicted_classes,
    residuals,
)
from mlops_nb.models.figures import to_markdown
from mlops_nb.models.intervals import resample_clusters
from mlops_nb.training import evaluate

DAY = np.repeat(np.arange(50), 20)


def test_a_column_that_decides_is_found_and_one_that_is_not_read_has_no_width():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"kind": pd.Categorical(rng.choice(["a", "b"], 1000)), "when": pd.date_range("2026", periods=1000),
                      "load": rng.normal(size=1000), "holes": np.where(rng.random(1000) < .5, np.nan, 1.0)})
    seen = []

    def loss_of(X, at):
        seen.append((X.dtypes.to_dict(), len(X) == len(at)))
        return (X.kind.cat.codes.to_numpy() - kinds[at]) ** 2.0
    kinds = X.kind.cat.codes.to_numpy()
    found = importance(loss_of, X, DAY)
    assert found.index[0] == "kind" and found.low["kind"] > 0.4 < found.value["kind"] < 0.6
    assert (found.drop("kind") == 0).all(axis=None)
    assert all(dtypes == X.dtypes.to_dict() and same for dtypes, same in seen)


def test_bounds_of_importance_know_that_days_depend_on_each_other():
    rng = np.random.default_rng(1)
    X, weight = pd.DataFrame({"x": rng.normal(size=1000)}), np.exp(rng.normal(size=50))[DAY]
    def loss_of(shuffled, at): return weight[at] * (shuffled.x.to_numpy() - X.x.to_numpy()[at]) ** 2
    by_day, by_row = (importance(loss_of, X, cluster).loc["x"] for cluster in (DAY, np.arange(1000)))
    assert by_day.high - by_day.low > 1.5 * (by_row.high - by_row.low)


@pytest.mark.parametrize("features, rows", [(1, 2000), (100, 2000), (1000, 200), (10_000, 200)])
def test_the_rows_that_are_shuffled_are_bounded_by_the_width(features, rows):
    at = explained_rows(1_000_000, features)
    assert len(at) == rows and at[0] == 0 and at[-1] == 999_999
    assert explained_rows(7, features).tolist() == list(range(7))


def test_the_threshold_decides_between_two_classes_and_an_unknown_class_is_never_right():
    p = np.array([[.7, .3], [.4, .6], [.2, .8], [.9, .1]])
    assert predicted_classes(p, ["no", "yes"]).tolist() == ["no", "yes", "yes", "no"]
    said = predicted_classes(p, ["no", "yes"], threshold=0.3)
    table = confusion(np.array(["no", "yes", "yes", "new"]), said, ["no", "yes"])
    assert table.to_numpy().tolist() == [[0, 1], [0, 2], [1, 0]] and list(table.index) == ["no", "yes", "new"]
    found = by_class(table)
    assert found.recall.tolist() == [0, 1, 0] and found.precision["yes"] == pytest.approx(2 / 3)
    assert np.isnan(found.precision["new"]) and found.share.sum() == 1


def test_average_precision_and_recall_of_a_rare_class_are_those_of_a_slow_count():
    rng = np.random.default_rng(2)
    y = np.where(rng.random(1000) < .05, "yes", "no")
    p = np.clip(rng.normal(.2 + .3 * (y == "yes"), .2), 0, 1).round(2)     # many are equal
    found = find_rare(y, np.column_stack([1 - p, p]), ["no", "yes"], DAY, rate=.1, n_boot=50)
    assert list(found) == ["yes"]
    area, recall = found["yes"]["average_precision"], found["yes"]["recall"]
    assert area.mean == pytest.approx(average_precision_score(y == "yes", p)) and area.low < area.mean < area.high
    orders = [np.lexsort([rng.random(1000), -p])[:100] for _ in range(400)]     # equal ones at random
    assert recall.mean == pytest.approx(np.mean([(y[o] == "yes").sum() for o in orders]) / (y == "yes").sum(), abs=.01)
    assert found["yes"]["precision"] == pytest.approx(recall.mean * (y == "yes").sum() / 100)


def test_common_classes_are_not_rare_and_of_many_the_rarest_are_told():
    y = np.repeat(np.arange(20), np.arange(20) + 30)
    p = np.full((len(y), 20), .05)
    found = find_rare(y, p, list(range(20)), np.arange(len(y)), n_boot=50)
    assert list(found) == ["0", "1", "2", "3", "4"]
    assert found["0"]["recall"].mean == pytest.approx(.05) and found["0"]["precision"] == pytest.approx(30 / len(y))
    assert find_rare(np.repeat([0, 1], 500), np.full((1000, 2), .5), [0, 1], DAY, n_boot=50) == {}


def test_resamples_without_a_class_are_dropped_and_counted():
    y, p = (DAY == 0).astype(int), np.linspace(1, 0, 1000)
    found = evaluate.auc_interval(np.where(np.arange(1000) % 2, y, 0), p, DAY, n_boot=400)
    assert found.dropped / 400 == pytest.approx((1 - 1 / 50) ** 50, abs=.08)
    assert 0 < found.low <= found.mean <= found.high <= 1
    table = evaluate.measure(pd.DataFrame({"probability": p}), pd.Series(y), evaluate.log_losses(y, p), DAY, n_boot=50)
    assert table.dropped["auc"] > 0 == table.dropped["brier"]
    none = resample_clusters(lambda weight: np.nan, DAY, n_boot=50)
    assert none.dropped == 50 and np.isnan([none.mean, none.low, none.high]).all()


@pytest.mark.parametrize("difference, said", [
    (-.5, "Better than always predicting the class shares of training: log loss 0.5 lower (0.5 to 0.5)."),
    (.25, "Worse than always predicting the class shares of training: log loss 0.25 higher (0.25 to 0.25).")])
def test_better_than_what_is_said_in_words(difference, said):
    assert compare_in_words(np.full(1000, 1 + difference), np.ones(1000), DAY, "classification")[0] == said


def test_of_a_number_the_share_that_is_removed_is_said_and_chance_proves_nothing():
    loss, known = np.full(1000, 20.0), np.full(1000, 80.0)
    words, found = compare_in_words(loss, known, DAY, "regression")
    assert words == "Better than always predicting the mean of training: squared error 75.0 % lower (75.0 % to 75.0 %)."
    assert found.mean == -60
    noise = np.random.default_rng(0).normal(size=1000)
    assert compare_in_words(known + noise - noise.mean(), known, DAY, "regression")[0].startswith("Not proven better")


def test_no_model_is_said_to_remove_more_than_all_of_a_loss():
    known = np.repeat([1.0, 200.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 100)    # one block of days holds it all
    words, found = compare_in_words(np.zeros(1000), known, DAY, "regression")
    assert found.low < -known.mean() and words.endswith("to 100.0 %).")


def test_residuals_are_of_all_rows_and_say_which_way():
    found = residuals(np.arange(100.0), np.arange(100.0) - 2, bins=4)
    assert found.rows.sum() == 100 and len(found) == 4 and (found[["mean", "low", "high"]] == 2).all(axis=None)
    assert len(residuals(np.arange(5.0), np.arange(5.0))) == 1


class Says:
    "A model that says what it was given"
    def __init__(self, classes, p): self.classes_, self.p = classes, p
    def predict_proba(self, X): return self.p


def test_what_is_found_can_be_written_as_json(tmp_path):
    "A class that is never said, one that training did not know, a rare one"
    y = pd.Series(np.where(DAY == 3, "rare", np.where(np.arange(1000) % 2, "a", "b")), dtype="category")
    y = y.cat.add_categories("new").where(np.arange(1000) != 999, "new")
    p = np.tile([.5, .3, .1, .1], (1000, 1))
    facts, figures = evaluate.explain_errors(Says(["a", "b", "never", "rare"], p), None, y, DAY, n_boot=50)
    read = json.loads(json.dumps(facts, allow_nan=False))
    assert read["classes"]["b"]["precision"] is None and read["classes"]["never"]["recall"] is None
    assert read["confusion"]["actual"] == ["a", "b", "never", "rare", "new"] and "threshold" not in read["confusion"]
    assert np.sum(read["confusion"]["rows"]) == 1000 and list(figures) == ["confusion", "rare"]
    assert read["rare"]["classes"]["rare"]["average_precision"]["dropped"] > 0


def test_a_name_with_a_bar_or_a_line_end_does_not_break_a_table():
    table = pd.DataFrame({"value": ["1"]}, pd.Index(["a|b\nc"], name="column"))
    assert to_markdown(table).splitlines()[-1] == "| a\\|b c | 1 |"
