"Azure's measures of classifiers with any number of classes, against scikit-learn with the arguments of azureml-metrics"
import tempfile
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, log_loss, precision_score, recall_score

from mlops_nb.errors import UserError
from mlops_nb.monitors import metrics, performance
from mlops_nb.monitors.collected import database

from tests.monitors.test_monitor import COLLECTED, START, WINDOW, Site

LABELS = {
    "two numbers": [0, 1],
    "three numbers": [0, 1, 2],
    "numbers far apart": [-3, 7, 100],
    "text": ["late", "on time", "cancelled", "it's \"odd\""],
    "true and false": [False, True],
    "numbers as text": ["1", "2", "10"],
}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_compared_as_azure_does(kind, seed):
    rng, classes = np.random.default_rng(seed), LABELS[kind]
    n = int(rng.integers(3, 200))
    truth, said = rng.choice(len(classes), n), rng.choice(max(len(classes) - seed % 2, 1), n)
    y, p = ([classes[i] for i in side] for side in (truth, said))
    con = database(tempfile.mkdtemp())
    given = pd.DataFrame({"y": [str(v) for v in y], "p": [str(v) for v in p]})  # noqa: F841 (read by DuckDB)
    columns = f"{performance.label_sql('y')} AS label, {performance.label_sql('p')} AS predicted"
    con.execute(f"CREATE TABLE judged AS SELECT {columns} FROM given")
    found = performance.scores(con, "judged", "classification")
    macro = dict(average="macro", zero_division=0)
    expected = dict(
        accuracy=accuracy_score(truth, said),
        precision=precision_score(truth, said, **macro),
        recall=recall_score(truth, said, **macro),
    )
    assert found == pytest.approx(expected, abs=1e-9)


def measured(root, task: str, columns: dict, answers: list, truth: list, **properties):
    "The signal's rows by name, and the performance, of a week in which these answers were collected"
    site = Site(root)
    for i, (said, y) in enumerate(zip(answers, truth)):
        time = START + timedelta(days=7) * i / len(answers)
        site.line("blue/model_outputs", time, f"r{i}", [said])
        site.line("outcomes", time, f"r{i}", [{"row": 0, "value": y}])
    names = ("accuracy", "precision", "recall")
    produced = {"input_data": {"type": "uri_folder", "path": COLLECTED + "blue/model_outputs"}, "data_window": WINDOW}
    signal = dict(
        type="model_performance",
        production_data={**produced, "data_column_names": columns},
        reference_data={"input_data": {"type": "uri_folder", "path": COLLECTED + "outcomes"}},
        metric_thresholds={task: dict.fromkeys(names, 0.9)},
        **({"properties": properties} if properties else {}),
    )
    site.file({"performance": signal})
    result = site.run()
    rows = {row["metric"]: row for row in result["signals"]["performance"]["rows"]}
    return rows, result["performance"], result["signals"]["performance"]["verdict"]


def test_always_one_class_of_three_is_half_right(tmp_path):
    truth = [[1, 2][i % 2] for i in range(400)]
    rows, found, verdict = measured(tmp_path, "classification", {"prediction": "label"}, [{"label": 1}] * 400, truth)
    assert rows["accuracy"]["value"] == 0.5 and rows["recall"]["value"] == 0.5 and rows["precision"]["value"] == 0.25
    assert (found["metric"], found["value"], verdict) == ("error_rate", 0.5, "breach")


def test_text_labels_are_judged(tmp_path):
    rng = np.random.default_rng(3)
    truth, said = (rng.choice(["a", "b", "c d"], 600) for _ in range(2))
    rows, *_ = measured(tmp_path, "classification", {"prediction": "label"}, [{"label": s} for s in said], [*truth])
    assert rows["precision"]["value"] == pytest.approx(precision_score(truth, said, average="macro"), abs=1e-9)


def test_a_probability_of_each_class_gives_label_and_log_loss(tmp_path):
    rng, classes = np.random.default_rng(4), ["ape", "bee", "cow"]
    p = rng.dirichlet([1, 1, 1], 500)
    truth = [classes[rng.choice(3, p=row)] for row in p]
    answers = [{f"probability_{name}": value for name, value in zip(classes, row)} for row in p.tolist()]
    rows, found, _ = measured(tmp_path, "classification", {"prediction": "probability"}, answers, truth)
    said = np.array(classes)[p.argmax(1)]
    assert rows["recall"]["value"] == pytest.approx(recall_score(truth, said, average="macro"), abs=1e-9)
    assert found["metric"] == "log_loss"
    assert found["value"] == pytest.approx(log_loss(truth, p, labels=classes), abs=1e-9)


def test_a_probability_belongs_to_the_second_class(tmp_path):
    rng = np.random.default_rng(5)
    p = rng.uniform(0.01, 0.99, 500)
    truth = np.where(rng.uniform(size=500) < p, "yes", "no")
    answers = [{"probability": value} for value in p.tolist()]
    rows, found, _ = measured(tmp_path, "classification", {"prediction": "probability"}, answers, [*truth])
    assert rows["accuracy"]["value"] == pytest.approx(((p >= 0.5) == (truth == "yes")).mean())
    assert found["value"] == pytest.approx(log_loss(truth, p), abs=1e-9)


def test_one_class_alone_does_not_say_which_it_is(tmp_path):
    answers, truth = [{"probability": 0.3}] * 300, ["no"] * 300
    (tmp_path/"a").mkdir(), (tmp_path/"b").mkdir()
    columns = {"prediction": "probability"}
    assert "one class" in measured(tmp_path/"a", "classification", columns, answers, truth)[2]
    rows, *_ = measured(tmp_path/"b", "classification", columns, answers, truth, positive="yes")
    assert rows["accuracy"]["value"] == 1


@pytest.mark.parametrize("truth, properties", [
    ([1, "no", 0, "yes"] * 100, {}),
    ([1, 0, 0, 1] * 100, {"positive": "yes"}),
    (["yes", "no", "no", 1] * 100, {"positive": "yes"}),
])
def test_ones_and_zeros_beside_words_are_the_second_and_the_first_class(tmp_path, truth, properties):
    p = [0.9, 0.2, 0.6, 0.7] * 100
    answers = [{"probability": value} for value in p]
    rows, found, _ = measured(tmp_path, "classification", {"prediction": "probability"}, answers, truth, **properties)
    assert found["value"] == pytest.approx(log_loss([1, 0, 0, 1] * 100, p), abs=1e-9)
    assert found["n"] == 400 and rows["accuracy"]["value"] == 0.75


@pytest.mark.parametrize("truth", [[1, 2, 3] * 100, [0, 1, "yes"] * 100, [2, "no", "yes"] * 100])
def test_numbers_beside_a_class_are_not_guessed_at(tmp_path, truth):
    with pytest.raises(UserError, match="the outcomes have 3 classes"):
        measured(tmp_path, "classification", {"prediction": "probability"}, [{"probability": 0.3}] * 300, truth)


def test_two_classes_that_are_numbers_stay_numbers(tmp_path):
    answers, truth = [{"probability": 0.8}] * 400, [2, 1, 2, 2] * 100
    _, found, _ = measured(tmp_path, "classification", {"prediction": "probability"}, answers, truth, positive="2")
    assert found["value"] == pytest.approx(log_loss([1, 0, 1, 1] * 100, [0.8] * 400), abs=1e-9)


def test_three_classes_and_one_probability_are_a_mistake(tmp_path):
    answers, truth = [{"probability": 0.3}] * 300, [["a", "b", "c"][i % 3] for i in range(300)]
    with pytest.raises(UserError, match="probability is one probability, and the outcomes have 3 classes: a, b, c"):
        measured(tmp_path, "classification", {"prediction": "probability"}, answers, truth)


@pytest.mark.parametrize("alarm, value, breach", [("ours", 0.95, False), ("ours", 0.6, True), ("azure", 0.95, True)])
def test_azure_alarms_when_an_accuracy_is_above(tmp_path, alarm, value, breach):
    right = int(400 * value)
    truth = [1, 0] * 200
    said = [{"label": y if i < right else 1 - y} for i, y in enumerate(truth)]
    site_settings = f"[project]\nexperiment = e\nmodel = m\n[monitoring]\nalarm = {alarm}\n"
    rows, *_ = measured(tmp_path, "classification", {"prediction": "label"}, said, truth)
    assert rows["accuracy"]["azure_breach"] == (value > 0.9)
    (tmp_path/"settings.ini").write_text(site_settings)
    from mlops_nb.monitors.monitor import run_monitor
    result = run_monitor(tmp_path, "pipelines/monitoring/m.yml", START + timedelta(days=7))
    judged = {row["metric"]: row for row in result.signals["performance"]["rows"]}
    assert judged["accuracy"]["breach"] == breach


def spark(values, buckets):
    "What PySpark's rdd.histogram does with a list of buckets, written again from its documentation and behaviour"
    from bisect import bisect_right
    steps = [b - a for a, b in zip(buckets, buckets[1:])]
    even, width = max(steps) - min(steps) < 1e-10, (buckets[-1] - buckets[0]) / len(steps)
    counters = [0] * len(buckets)
    for value in values:
        if value > buckets[-1] or value < buckets[0]: continue
        counters[int((value - buckets[0]) / width) if even else bisect_right(buckets, value) - 1] += 1
    last = counters.pop()
    counters[-1] += last
    return counters


@pytest.mark.parametrize("seed", range(60))
def test_the_bins_of_azure_lose_what_azure_loses(seed):
    rng = np.random.default_rng(seed)
    table = np.round(rng.exponential(3, int(rng.integers(20, 3000))), int(rng.integers(0, 4)))
    n_ref, n_cur = len(table), int(rng.integers(20, 3000))
    low, high = table.min(), table.max()
    k = int(np.ceil(np.log2(min(n_ref, n_cur)) + 1))
    buckets = [low, *(low + i * ((high - low) / k) for i in range(1, k + 1))]
    edges = metrics.spark_edges(low, high, n_ref, n_cur)
    assert [*edges] == buckets
    assert metrics.spark_histogram(*np.unique(table, return_counts=True), edges).tolist() == spark(table, buckets)
