"Azure's measures against an independent implementation, written from the formulas with plain NumPy and SciPy"
import math
import tempfile

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import distance
from sklearn.metrics import ndcg_score

from mlops_nb.monitors import metrics, signals, thresholds
from mlops_nb.monitors.collected import database


def table_of_edges(ref, cur):
    "Sturges' bins over the joint range, as the formula says"
    low, high = min(ref.min(), cur.min()), max(ref.max(), cur.max())
    if low == high: return np.array([-0.005, 0.005] if low == 0 else sorted([low * 0.995, low * 1.005]))
    bins = math.ceil(math.log2(min(len(ref), len(cur))) + 1)
    width = (high - low) / bins
    return np.array([low] + [low + i * width for i in range(1, bins)] + [high])


def frequencies(ref, cur):
    "Counts of both samples: bins for numbers, the union of the values for categories"
    if ref.dtype.kind == "f":
        edges = table_of_edges(ref, cur)
        return tuple(np.histogram(sample, edges)[0].astype(float) for sample in (ref, cur))
    values = sorted({*ref, *cur})
    return tuple(np.array([np.sum(sample == v) for v in values], float) for sample in (ref, cur))


def independent(ref, cur):
    "Every measure of two samples without holes"
    r, c = frequencies(ref, cur)
    found = {"jensen_shannon_distance": distance.jensenshannon(r / r.sum(), c / c.sum(), base=2)}
    p, q = (r + 1) / (r.sum() + len(r)), (c + 1) / (c.sum() + len(c))
    found["population_stability_index"] = sum((b - a) * math.log(b / a) for a, b in zip(p, q))
    if ref.dtype.kind == "f":
        found["normalized_wasserstein_distance"] = stats.wasserstein_distance(ref, cur) / max(
            np.std(ref, ddof=1), 0.001
        )
        found["two_sample_kolmogorov_smirnov_test"] = stats.ks_2samp(ref, cur).pvalue
    elif len(r) == 1: found["pearsons_chi_squared_test"] = 1.0
    else:
        with np.errstate(divide="ignore"):
            found["pearsons_chi_squared_test"] = stats.chisquare(c, r / r.sum() * c.sum()).pvalue
    return found


def numbers(rng, n):
    "A numeric sample: smooth, coarse, heavy-tailed, constant, tiny or huge"
    kind = rng.integers(7)
    if kind == 0: return rng.normal(rng.normal(), 1, n)
    if kind == 1: return np.round(rng.exponential(3, n))
    if kind == 2: return rng.standard_t(1.5, n)
    if kind == 3: return np.full(n, [0.0, 7.0, -2.5][rng.integers(3)])
    if kind == 4: return rng.uniform(0, 1e-9, n)
    if kind == 5: return rng.normal(1e9, 10, n)
    return np.linspace(0, 1, n)


def case(seed):
    "Two samples of one numeric and one categorical feature, with holes, and what an independent implementation says"
    rng = np.random.default_rng(seed)
    n, m = rng.integers(2, [20, 300, 3000][seed % 3], 2)
    x, y = numbers(rng, n), numbers(rng, m)
    if seed % 4: y = rng.choice(x, m) + (rng.normal(0, 0.2, m) if seed % 4 > 1 else 0)
    k = rng.integers(1, 120 if seed % 5 == 0 else 8)
    a, b = (np.array([f"c{i}" for i in rng.integers(0, k + j, s)], dtype=object) for j, s in ((0, n), (seed % 2, m)))
    return (x, a, rng.random(n) < 0.1), (y, b, rng.random(m) < 0.1)


def ours(con, ref, cur):
    "The same through the monitor: DuckDB counts, rows with a hole dropped"
    for name, (x, c, hole) in (("ref", ref), ("cur", cur)):
        con.execute(f"CREATE OR REPLACE TABLE {name} (x DOUBLE, c VARCHAR)")
        given = pd.DataFrame({"x": np.where(hole, np.nan, x), "c": c})  # noqa: F841 (read by DuckDB)
        con.execute(f"INSERT INTO {name} SELECT CASE WHEN isnan(x) THEN NULL ELSE x END, c FROM given")
    pair = signals.read_samples(con, "ref", "cur", lambda features: tempfile.mkdtemp() + "/r")
    limits = {
        "numerical": dict.fromkeys(
            (
                "jensen_shannon_distance",
                "population_stability_index",
                "normalized_wasserstein_distance",
                "two_sample_kolmogorov_smirnov_test",
            ),
            0.1,
        ),
        "categorical": dict.fromkeys(
            ("jensen_shannon_distance", "population_stability_index", "pearsons_chi_squared_test"), 0.1
        ),
    }
    return {(r["feature"], r["metric"]): r["value"] for r in signals.measure_drift(pair, limits, signals.Rules())}


CASES = 210


def test_our_numbers_are_azures_on_210_random_cases():
    con, worst, compared = database(tempfile.mkdtemp()), 0.0, 0
    for seed in range(CASES):
        ref, cur = case(seed)
        whole = [(x[~hole], c[~hole]) for x, c, hole in (ref, cur)]
        if min(len(x) for x, _ in whole) < 2:
            whole = [(x, c) for x, c, _ in (ref, cur)]
            ref, cur = ((x, c, np.zeros(len(x), bool)) for x, c in whole)
        expected = {
            (f, k): v for f, i in (("x", 0), ("c", 1)) for k, v in independent(whole[0][i], whole[1][i]).items()
        }
        found = ours(con, ref, cur)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, rel=1e-9, abs=1e-9), (seed, key)
            worst, compared = max(worst, abs(found[key] - value) / max(1, abs(value))), compared + 1
    print(f"{compared} numbers of {CASES} cases, largest difference {worst:.1e}")
    assert compared >= 7 * CASES and worst <= 1e-9


def test_ndcg_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = rng.integers(2, 20)
        relevance, score = rng.random(n).round(rng.integers(1, 4)), rng.random(n).round(rng.integers(1, 4))
        assert float(metrics.ndcg(relevance, score)) == pytest.approx(ndcg_score([relevance], [score]), abs=1e-9)


@pytest.mark.parametrize("n_ref, n_cur", [(10_000, 50), (50, 10_000)])
def test_kolmogorov_smirnov_is_refused_where_azure_refuses_it(n_ref, n_cur):
    values = np.array([1.0, 2.0])
    assert metrics.kolmogorov_smirnov(values, np.array([n_ref, 0]), np.array([0, n_cur])) is None
    assert metrics.kolmogorov_smirnov(values, np.array([n_ref, 0]) // 2, np.array([0, n_cur]) // 2) < 1e-9


def test_quality_rates_are_those_of_the_definition():
    con = database(tempfile.mkdtemp())
    con.execute("CREATE TABLE ref AS SELECT i::DOUBLE AS x, 'c' || i % 3 AS c FROM range(1000) r(i)")
    x = "WHEN i < 30 THEN NULL WHEN i < 50 THEN 'much' WHEN i < 90 THEN '5000.5' WHEN i < 100 THEN '-1' ELSE '7'"
    c = "WHEN i < 7 THEN NULL ELSE 'c' || (i % 4)"
    con.execute(f"CREATE TABLE cur AS SELECT CASE {x} END AS x, CASE {c} END AS c FROM range(1000) r(i)")
    pair = signals.read_samples(con, "ref", "cur", lambda features: tempfile.mkdtemp() + "/r")
    found = {
        (r["feature"], r["metric"]): r["value"]
        for r in signals.measure_data_quality(pair, signals.QUALITY, signals.Rules())
    }
    assert found == {
        ("x", "null_value_rate"): 0.03,
        ("x", "data_type_error_rate"): 0.02,
        ("x", "out_of_bounds_rate"): 0.05,
        ("c", "null_value_rate"): 0.007,
        ("c", "data_type_error_rate"): 0.0,
        ("c", "out_of_bounds_rate"): 0.256,
    }  # 249 of the new c3, which is the most frequent and so fills the 7 holes


@pytest.mark.parametrize("k, n_ref, n_cur", [(12, 3000, 200), (100, 3000, 200), (100, 3000, 2000)])
def test_alarms_without_a_change_are_as_rare_as_promised_and_real_shifts_are_found(k, n_ref, n_cur):
    rng, windows, features, level = np.random.default_rng(k + n_cur), 50, 4, 0.01
    shares = rng.dirichlet(np.ones(k))
    moved = np.roll(shares, 1) * 0.5 + shares * 0.5
    def alarm(now):
        pairs = [(rng.multinomial(n_ref, shares), rng.multinomial(n_cur, now)) for _ in range(features)]
        return any(
            metrics.jensen_shannon(*p) > thresholds.histogram_threshold("jensen_shannon_distance", *p, level / features)
            for p in pairs
        )

    assert sum(alarm(shares) for _ in range(windows)) <= 3  # more than 3 of 50 at 1 %: less than once in 6,000 runs
    assert sum(alarm(moved) for _ in range(10)) >= 8
