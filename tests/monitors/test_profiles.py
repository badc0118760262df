"The values of a reference: the same from NumPy as from SQL, in either form on disk"
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_nb.monitors import profiles
from mlops_nb.monitors.collected import database
from mlops_nb.monitors.profiles import Feature, Rows, build_reference, distinct_values

NUMBERS = st.one_of(st.none(), st.integers(-3, 3).map(float), st.floats(allow_nan=True, allow_infinity=True))


@pytest.fixture(scope="module")
def con():
    with tempfile.TemporaryDirectory() as folder, database(folder) as con: yield con


def table(con, values, type="DOUBLE"):
    "A table of one column, and the values that count"
    con.execute(f"CREATE OR REPLACE TABLE t AS SELECT unnest(?::{type}[]) AS x", [values])
    return np.array([v for v in values if v is not None and np.isfinite(v)], float)


def same(found, expected):
    "Whether values and counts are the same, bit for bit"
    # 0.0 and -0.0 are one value, of which either may be named
    assert np.array_equal(found[0] + 0.0, expected[0] + 0.0) and found[0].dtype == np.float64
    assert np.array_equal(found[1], expected[1]) and found[1].dtype == np.int64


@settings(deadline=None, max_examples=60)
@given(st.lists(NUMBERS, max_size=40))
def test_sorting_finds_what_grouping_finds(con, values):
    there, x = table(con, values), Feature("x", "DOUBLE", "numerical")
    (_, found), = distinct_values(con, Rows("t", {"x": x}, len(values)), [x])
    same(found, np.unique(there, return_counts=True))
    same(found, profiles._group_values(con, "t", x))


@settings(deadline=None, max_examples=40)
@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_a_reference_has_every_value(con, values):
    there, x = table(con, values), Feature("x", "DOUBLE", "numerical")
    with tempfile.TemporaryDirectory() as folder:
        reference = build_reference(con, "t", [x], Path(folder) / "reference")
        expected = np.unique(there, return_counts=True)
        same(reference.distinct("x"), expected)
        stored = sum(np.load(file).nbytes for file in Path(folder).rglob("*.npy"))
        assert stored <= 8 * len(there)
        if len(there):
            edges = np.array([there.min(), *np.sort(there)[:3], 0.25, 1.0, there.max()])
            edges.sort()
            below = [np.sum(there < edge) for edge in edges[:-1]] + [len(there)]
            assert reference.counts("x", edges).tolist() == np.diff(below).tolist()


@pytest.mark.parametrize("type", ["BIGINT", "FLOAT", "DECIMAL(9, 2)"])
def test_other_types_become_numbers(con, type):
    there, x = table(con, [5, 1, None, 1, 7], type), Feature("x", type.split("(")[0], "numerical")
    (_, found), = distinct_values(con, Rows("t", {"x": x}, 5), [x])
    same(found, np.unique(there, return_counts=True))


@pytest.mark.parametrize("distinct", [7, 5000])
def test_long_columns_of_few_values_are_grouped(con, monkeypatch, distinct):
    "and those of many are sorted; both are the same as one short column"
    values = np.random.default_rng(0).integers(0, distinct, 5000).astype(float)
    if distinct == 5000: values += np.arange(5000) / 1e4
    table(con, values.tolist())
    x, asked, group = Feature("x", "DOUBLE", "numerical"), [], profiles._group_values
    monkeypatch.setattr(profiles, "CELLS", 1000)
    monkeypatch.setattr(profiles, "_group_values", lambda *args: asked.append(1) or group(*args))
    (_, found), = distinct_values(con, Rows("t", {"x": x}, len(values)), [x])
    same(found, np.unique(values, return_counts=True))
    assert len(asked) == (distinct == 7)


def test_a_reference_of_an_earlier_version_is_read(con, tmp_path):
    "It has running counts also where each value occurs once"
    x = Feature("x", "DOUBLE", "numerical")
    table(con, [3.0, 1.0, 2.0])
    build_reference(con, "t", [x], tmp_path / "r")
    np.save(tmp_path / "r" / "0.running.npy", np.array([1, 2, 3]))
    reference = build_reference(con, "t", [x], tmp_path / "r")
    same(reference.distinct("x"), (np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1])))
    assert reference.counts("x", np.array([1.0, 2.0, 3.0])).tolist() == [1, 2]
