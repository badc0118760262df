"""Alarms of windows in which nothing has changed, and of windows in which something has.

    .venv/bin/python bench/false_alarms.py [--windows 300]

A signal of ten features (five numeric, five with `k` categories) is compared by Jensen-Shannon distance and population stability
index, as in the example's monitor. Printed: the share of windows with any alarm, by Azure's rule with its default thresholds (0.1
and 0.2), past chance alone, and by ours (past both); first without a change, then with shifts of three sizes.
"""
import argparse
import json

import numpy as np

from mlops_nb.monitoring import metrics, thresholds

LIMITS = {"jensen_shannon_distance": 0.1, "population_stability_index": 0.2}
MEASURES = {"jensen_shannon_distance": metrics.jensen_shannon, "population_stability_index": metrics.psi}


def histograms(rng, k, n_ref, n_cur, shares, shift):
    "Counts of ten features; the first of each kind is shifted"
    for i in range(5):
        ref, cur = rng.normal(size=n_ref), rng.normal(size=n_cur) + (shift if i == 0 else 0)
        edges = metrics.bin_edges(min(ref.min(), cur.min()), max(ref.max(), cur.max()), n_ref, n_cur)
        yield tuple(np.histogram(s, edges)[0] for s in (ref, cur))
        moved = shares[i] * (1 - shift) + np.roll(shares[i], 1) * shift if i == 0 else shares[i]
        yield rng.multinomial(n_ref, shares[i]), rng.multinomial(n_cur, moved)


def window(rng, k, n_ref, n_cur, shares, shift):
    "Alarms of one window by the three rules"
    tests, azure, chance, ours = 10 * len(LIMITS), False, False, False
    for ref, cur in histograms(rng, k, n_ref, n_cur, shares, shift):
        deals = thresholds.deal(ref, cur, seed=int(rng.integers(2**31)))
        for name, limit in LIMITS.items():
            value = MEASURES[name](ref, cur)
            past, unlikely = value > limit, value > thresholds.histogram_threshold(name, deals, 0.01 / tests)
            azure, chance, ours = azure | past, chance | unlikely, ours | (past and unlikely)
    return azure, chance, ours


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--windows", type=int, default=300)
    given.add_argument("--out", default="bench/false_alarms.json")
    args, rows = given.parse_args(), []
    for k in (10, 100):
        for n_ref, n_cur in ((200, 200), (5000, 200), (5000, 1000), (30_000, 7000)):
            rng = np.random.default_rng([k, n_ref, n_cur])
            shares = rng.dirichlet(np.ones(k), 5)
            for shift in (0.0, 0.1, 0.25, 0.5):
                windows = args.windows if shift == 0 else max(args.windows // 10, 10)
                found = np.mean([window(rng, k, n_ref, n_cur, shares, shift) for _ in range(windows)], axis=0)
                rows.append(dict(categories=k, n_ref=n_ref, n_cur=n_cur, shift=shift, windows=windows, azure=found[0], chance=found[1], ours=found[2]))
                print(f"{k:>4} categories {n_ref:>6} : {n_cur:<5} shift {shift:<5} {windows:>4} windows   azure {found[0]:6.1%}   past chance {found[1]:6.1%}   ours {found[2]:6.1%}", flush=True)
    with open(args.out, "w") as file: json.dump(rows, file, indent=1)


if __name__ == "__main__": main()
