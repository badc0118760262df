"What is told of a table before a model is praised"
import numpy as np
import pandas as pd
import pytest

from mlops_nb.tables.quality import examine, find_leaks

rng = np.random.default_rng(0)
ROWS = 600
NOISE = pd.DataFrame({"a": rng.normal(size=ROWS), "b": rng.normal(size=ROWS), "c": rng.choice(["x", "y"], ROWS)})
VALUE = NOISE.a + rng.normal(size=ROWS)
SENT, DUE = rng.integers(0, 2, ROWS), rng.integers(0, 2, ROWS)
SHOP, SHELF, PRICES = rng.integers(0, 9, ROWS), rng.integers(0, 5, ROWS), rng.lognormal(size=(9, 5))
CASUAL, REGISTERED = rng.poisson(40, ROWS).astype(float), rng.poisson(100, ROWS).astype(float)


def kinds(table, target, classes, **options):
    return {"+".join(found.columns): found.kind for found in examine(table, target, classes, **options)}


@pytest.mark.parametrize("made, target, classes, expected", [
    ({"casual": CASUAL, "registered": REGISTERED}, CASUAL + REGISTERED, False, {"casual+registered": "leak"}),
    ({"gross": CASUAL * 3, "tax": REGISTERED}, CASUAL * 3 - REGISTERED, False, {"gross+tax": "leak"}),
    ({"price": CASUAL + 1, "count": REGISTERED + 1}, (CASUAL + 1) * (REGISTERED + 1), False, {"price+count": "leak"}),
    ({"euros": CASUAL}, CASUAL * 1.1, False, {"euros": "leak"}),
    ({"sent": SENT, "due": DUE}, SENT ^ DUE, True, {"sent+due": "leak"}),
    ({"shop": SHOP, "shelf": SHELF}, PRICES[SHOP, SHELF], False, {"shop+shelf": "leak"}),
    ({"paid": np.where(VALUE > 0, "never", "march")}, (VALUE > 0).astype(int), True, {"paid": "leak"}),
    ({"old_score": (VALUE > 0) + rng.normal(0, .3, ROWS)}, (VALUE > 0).astype(int), True, {"old_score": "prediction"}),
    ({"rownum": np.arange(ROWS)}, VALUE, False, {"rownum": "id"}),
    ({"customer_id": rng.permutation(ROWS)}, VALUE, False, {"customer_id": "id"}),
    ({"name": [f"n{i}" for i in range(ROWS)]}, VALUE, False, {"name": "id"}),
    ({"unit": "kg", "none": None}, VALUE, False, {"unit": "constant", "none": "empty"}),
    ({"again": NOISE.b}, VALUE, False, {"again": "copy"}),
    ({}, VALUE.where(NOISE.a > 0), False, {"": "unlabelled"}),
])
def test_each_kind_of_trouble_is_found_and_no_other(made, target, classes, expected):
    table = NOISE.assign(**made, y=target)
    assert kinds(table, "y", classes) == expected


def test_a_yes_is_remembered():
    table = NOISE.assign(casual=CASUAL, registered=REGISTERED, rownum=range(ROWS), y=CASUAL + REGISTERED)
    assert kinds(table, "y", False, keep=["casual", "registered", "rownum"]) == {}
    assert [found.columns for found in find_leaks(table, "y", False)] == [("casual", "registered")]


def test_two_columns_that_say_most_of_it_are_no_leak():
    noise = rng.random(ROWS) < .05
    table = NOISE.assign(sent=SENT, due=DUE, y=np.where(noise, 1 - (SENT ^ DUE), SENT ^ DUE))
    assert kinds(table, "y", True) == {}
    assert kinds(table.assign(y=SENT ^ DUE), "y", True, keep=["sent", "due"]) == {}


def test_a_good_feature_is_no_leak():
    table = NOISE.assign(y=(NOISE.a + rng.normal(0, .4, ROWS) > 0).astype(int))
    assert kinds(table, "y", True) == {}
