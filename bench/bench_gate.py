"""How often the gate accepts a challenger that is no better, and one that is: days as they are, 7 to 90 of them.

    .venv/bin/python bench/bench_gate.py [--runs 2000]

A day is a sum over 300 rows of the challenger's loss minus the champion's, in units of a day's standard deviation.
Given is the share of windows whose upper bound at 95 % is below 0: without a gain (nominal 5 %), and with a gain of
half a day's standard deviation. `percentile` draws whole days and takes the percentile of their means, as the first
version did; `gate` is `mlops_nb.models.intervals`. A second table, `gate_looks`, judges up to 20 equal
challengers on one window of 30 days, each look at 95 % or as the gate counts them.
"""
import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from harness import Result

from mlops_nb.models.gate import tightened
from mlops_nb.models.intervals import clustered_mean, paired_bootstrap

ROWS, GAIN, DAYS = 300, 0.5, (7, 14, 30, 60, 90)
LIMITS = {"independent": 7, "heavy tails (t3)": 8, "correlated .37": 10}    # Percent, at 95 % confidence
UNITS = {"percentile, equal": "percentile, equal %", "gate, equal": "gate, equal %",
         "percentile, better": "percentile, better %", "gate, better": "gate, better %"}


def follow(rng, correlation, days):
    "Normal days, each of which correlates with the day before"
    noise = rng.standard_normal(days)
    for t in range(1, days): noise[t] = correlation * noise[t - 1] + np.sqrt(1 - correlation**2) * noise[t]
    return noise


def disasters(rng, days):
    "A lognormal day, skewed to the right, with mean 0"
    return rng.lognormal(0, 1, days) - np.exp(0.5)


KINDS = {
    "independent": lambda rng, days: follow(rng, 0, days),
    "heavy tails (t3)": lambda rng, days: rng.standard_t(3, days) / np.sqrt(3),
    "rare disasters": lambda rng, days: disasters(rng, days) / np.sqrt((np.e - 1) * np.e),
    "correlated .37": lambda rng, days: follow(rng, 0.37, days),
    "correlated .6": lambda rng, days: follow(rng, 0.6, days)}


def percentile(days, seed):
    "Upper bound of the mean from days drawn with replacement"
    drawn = np.random.default_rng(seed).multinomial(len(days), np.full(len(days), 1 / len(days)), size=500)
    return np.quantile(drawn @ days / len(days), 0.95)


def cell(case, runs):
    "Of one kind of days and one number of them: shares of accepted challengers in percent, and the blocks"
    kind, days = case
    rng, counts = np.random.default_rng(0), np.full(days, ROWS)
    found = {name: [] for name in UNITS}
    for seed in range(runs):
        window = KINDS[kind](rng, days)
        for name, moved in (("equal", window), ("better", window - GAIN)):
            bound = clustered_mean(moved * ROWS, counts, 500, seed=seed)
            found["gate, " + name].append(100.0 * (bound.high < 0))
            found["percentile, " + name].append(100.0 * (percentile(moved, seed) < 0))
    return {name: float(np.mean(values)) for name, values in found.items()}, bound.blocks


LOOKS = (1, 2, 5, 20)
LOOK_UNITS = {f"{rule}, {looks}": f"{rule}, {looks} look{'s' * (looks > 1)} %"
              for rule in ("each at 95 %", "counted") for looks in LOOKS}


def series(case, runs):
    "Percentage of windows that promote any of the first challengers, for one kind of days and one correlation"
    kind, common = case
    rng, counts, found = np.random.default_rng(1), np.full(30, ROWS), {name: [] for name in LOOK_UNITS}
    for seed in range(runs):
        shared, highs = KINDS[kind](rng, 30), {"each at 95 %": [], "counted": []}
        for look in range(1, max(LOOKS) + 1):
            window = (np.sqrt(common) * shared + np.sqrt(1 - common) * KINDS[kind](rng, 30)) * ROWS
            for rule, confidence in (("each at 95 %", 0.95), ("counted", tightened(0.95, look))):
                highs[rule].append(clustered_mean(window, counts, 500, confidence, seed).high)
        for rule, values in highs.items():
            for looks in LOOKS: found[f"{rule}, {looks}"].append(100.0 * (min(values[:looks]) < 0))
    return {name: float(np.mean(values)) for name, values in found.items()}


def judge_repeatedly(runs):
    "The table of looks"
    result = Result("gate_looks", "Windows that promote an equal challenger after several looks", units=LOOK_UNITS)
    cases = [(kind, common) for kind in ("independent", "correlated .37") for common in (0, 0.5)]
    with ProcessPoolExecutor(2) as pool: cells = list(pool.map(partial(series, runs=runs), cases))
    for (kind, common), rates in zip(cases, cells):
        name = f"30 days, {kind}; differences of challengers correlate by {common:g}"
        print(name, rates, flush=True)
        result.rows[name] = {rule: {"median": rate, "min": rate, "max": rate} for rule, rate in rates.items()}
        result.target(f"{name}: 20 looks, counted", rates["counted, 20"], 10 if kind == "independent" else 14, " %")
    result.notes.append(f"Each figure is a share of {runs} windows; its Monte Carlo error is at most "
                        f"{50 / np.sqrt(runs):.1f} percentage points, {100 * np.sqrt(.05 * .95 / runs):.1f} near 5 %.")
    result.write()


SHOPS = {"500 customers, 20 rows each, correlation .2": (500, 20, 0.2),
         "500 customers, 20 rows each, correlation 0": (500, 20, 0.0),
         "100 customers, 20 rows each, correlation .2": (100, 20, 0.2),
         "40 customers, 50 rows each, correlation .2": (40, 50, 0.2)}
GROUP_UNITS = {"rows, equal": "by rows, equal %", "customers, equal": "by customer, equal %",
               "rows, better": "by rows, better %", "customers, better": "by customer, better %"}


def shop(case, runs):
    "Shares of accepted challengers in percent; a better one is better by two and a half true standard errors"
    count, each, within = case
    rng, customer = np.random.default_rng(2), np.repeat(np.arange(count), each)
    found = {name: [] for name in GROUP_UNITS}
    gain = 2.5 * np.sqrt((within * each + 1 - within) / (count * each))
    for seed in range(runs):
        drawn = rng.normal(0, np.sqrt(within), count)[customer] + rng.normal(0, np.sqrt(1 - within), len(customer))
        clusters = {"rows": rng.permutation(len(customer)), "customers": customer}
        for (name, cluster), (kind, moved) in itertools.product(clusters.items(),
                                                                (("equal", drawn), ("better", drawn - gain))):
            high = paired_bootstrap(moved, cluster, 200, seed=seed, block_days=1).high
            found[f"{name}, {kind}"].append(100.0 * (high < 0))
    return {name: float(np.mean(values)) for name, values in found.items()}


def judge_groups(runs):
    "The table of groups"
    result = Result("gate_groups", "Challengers that the gate accepts where rows have a group", units=GROUP_UNITS)
    with ProcessPoolExecutor(2) as pool: cells = list(pool.map(partial(shop, runs=runs), SHOPS.values()))
    for name, rates in zip(SHOPS, cells):
        print(name, rates, flush=True)
        result.rows[name] = {rule: {"median": rate, "min": rate, "max": rate} for rule, rate in rates.items()}
        result.target(f"{name}: equal challengers accepted by customer", rates["customers, equal"], 7, " %")
    result.notes.append(f"Each figure is a share of {runs} tables; its Monte Carlo error is at most "
                        f"{50 / np.sqrt(runs):.1f} percentage points, {100 * np.sqrt(.05 * .95 / runs):.1f} near 5 %.")
    result.write()


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--runs", type=int, default=2000, help="windows of each kind")
    given.add_argument("--looks", action="store_true", help="the table of looks only")
    given.add_argument("--groups", action="store_true", help="the table of groups only")
    options = given.parse_args()
    runs = options.runs
    if not options.looks: judge_groups(max(runs // 2, 100))
    if options.groups: return
    judge_repeatedly(max(runs // 4, 100))
    if options.looks: return
    result = Result("gate", "Challengers that the gate accepts", units=UNITS)
    cases = [(kind, days) for days in DAYS for kind in KINDS]
    with ProcessPoolExecutor(2) as pool: cells = list(pool.map(partial(cell, runs=runs), cases))
    for (kind, days), (rates, blocks) in zip(cases, cells):
        name = f"{days} days ({blocks} blocks), {kind}"
        print(name, rates, flush=True)
        result.rows[name] = {rule: {"median": rate, "min": rate, "max": rate} for rule, rate in rates.items()}
        if days >= 14 and kind in LIMITS: result.target(f"{name}: equal challengers accepted", rates["gate, equal"],
                                                        LIMITS[kind], " %")
    result.notes.append(f"Each figure is a share of {runs} windows; its Monte Carlo error is at most "
                        f"{50 / np.sqrt(runs):.1f} percentage points, {100 * np.sqrt(.05 * .95 / runs):.1f} near 5 %.")
    result.write()


if __name__ == "__main__": main()
