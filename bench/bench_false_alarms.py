"""Alarms of windows in which nothing has changed, and of windows in which something has.

    .venv/bin/python bench/false_alarms.py [--windows 1000]

A signal of ten features (five numeric, five with `k` categories of random shares, many of them rare) is compared by
Jensen-Shannon distance and population stability index, as in the example's monitor. Given is the share of windows
with any alarm, by Azure's rule with its default thresholds (0.1 and 0.2), past chance alone, and by ours (past
both); first without a change, then with one numeric and one categorical feature shifted. The measures see counts
only, so counts are drawn, not rows.
"""
import argparse
from concurrent.futures import ProcessPoolExecutor

import numpy as np
from harness import Result
from scipy import special

from mlops_nb.monitors import metrics, thresholds

LIMITS = {"jensen_shannon_distance": 0.1, "population_stability_index": 0.2}
MEASURES = {"jensen_shannon_distance": metrics.jensen_shannon, "population_stability_index": metrics.psi}
TESTS = 10*len(LIMITS)
RULES = {"azure": "Azure's rule, alarms %", "chance": "past chance, alarms %", "ours": "ours, alarms %"}
SHIFTS = (0.0, 0.1, 0.25, 0.5)
SIZES = ((5000, 200), (5000, 1000), (30_000, 7000), (200, 200))  # Rows of the reference and of the window


def numbers(rng, n_ref, n_cur, shift):
    """Counts of a normal feature in bins between the ends of both samples; the ends are drawn first, the rest is
    dealt between them"""
    low, high = zip(*(_ends(rng, n, at) for n, at in ((n_ref, 0), (n_cur, shift))))
    edges = metrics.bin_edges(min(low), max(high), n_ref, n_cur)
    for n, at, a, b in zip((n_ref, n_cur), (0, shift), low, high):
        counts = rng.multinomial(
            n - 2, np.diff(special.ndtr(np.clip(edges, a, b) - at)) / (special.ndtr(b - at) - special.ndtr(a - at))
        )
        for end in (a, b): counts[min(np.searchsorted(edges, end, "right") - 1, len(counts) - 1)] += 1
        yield counts


def _ends(rng, n, at):
    "Least and greatest of n normal numbers"
    greatest = rng.random()**(1 / n)
    least = greatest*(1 - rng.random()**(1 / (n - 1)))
    return special.ndtri(least) + at, special.ndtri(greatest) + at


def features(rng, n_ref, n_cur, shares, shift):
    "Counts of ten features; the first of each kind is shifted"
    for i in range(5):
        yield tuple(numbers(rng, n_ref, n_cur, shift if i == 0 else 0))
        moved = shares[i]*(1 - shift) + np.roll(shares[i], 1)*shift if i == 0 else shares[i]
        yield rng.multinomial(n_ref, shares[i]), rng.multinomial(n_cur, moved)


def usual(rng, n_ref, n_cur, shares):
    """What each measure of each feature does not exceed in nine of ten windows without a change: thresholds lie far
    above, and need not be computed below"""
    found = [
        [[MEASURES[name](*pair) for name in LIMITS] for pair in features(rng, n_ref, n_cur, shares, 0)]
        for _ in range(200)
    ]
    return np.quantile(found, 0.9, axis=0)


def window(rng, n_ref, n_cur, shares, shift, enough):
    "Alarms of one window by the three rules, in percent"
    azure = chance = ours = False
    for (ref, cur), least in zip(features(rng, n_ref, n_cur, shares, shift), enough):
        for (name, limit), low in zip(LIMITS.items(), least):
            value = MEASURES[name](ref, cur)
            past, rare = (
                value > limit,
                value > low and value > thresholds.histogram_threshold(name, ref, cur, 0.01 / TESTS),
            )
            azure, chance, ours = azure or past, chance or rare, ours or (past and rare)
    return {"azure": 100*azure, "chance": 100*chance, "ours": 100*ours}


def cell(k, n_ref, n_cur, windows):
    "Rates of alarms by shift"
    rng, found = np.random.default_rng([k, n_ref, n_cur]), {}
    shares = rng.dirichlet(np.ones(k), 5)
    enough = usual(rng, n_ref, n_cur, shares)
    for shift in SHIFTS:
        all = [
            window(rng, n_ref, n_cur, shares, shift, enough) for _ in range(windows if shift == 0 else windows // 10)
        ]
        found[shift] = {rule: float(np.mean([one[rule] for one in all])) for rule in RULES}
    print(f"{k} categories, {n_ref:,} : {n_cur:,}", found, flush=True)
    return found


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--windows", type=int, default=1000, help="without a change; a tenth of them for each shift")
    args = given.parse_args()
    result = Result("false_alarms", "Alarms of windows with and without a change", units=RULES)
    cells = [(k, *sizes) for sizes in SIZES for k in (100, 10)]
    with ProcessPoolExecutor(2) as pool:
        rates = dict(zip(cells, pool.map(cell, *zip(*cells), [args.windows] * len(cells))))
    for (k, n_ref, n_cur), found in sorted(rates.items()):
        name = f"{k} categories, {n_ref:,} : {n_cur:,}"
        for shift, rate in found.items():
            result.rows[f"{name}, " + (f"shift {shift:g}" if shift else "no change")] = {
                rule: {"median": r, "min": r, "max": r} for rule, r in rate.items()
            }
        for rule in ("ours", "chance"):
            result.target(
                f"{name}: false alarms, {RULES[rule].split(',')[0]}, {args.windows} windows",
                found[0.0][rule],
                1.0,
                " %",
            )
    result.notes.append(
        f"Each figure is the share of windows with an alarm, {args.windows} windows without a change and "
        f"{args.windows // 10} for each shift. "
        "A shift moves one numeric feature of ten by that many standard deviations, and that share of the rows of one "
        "categorical feature to another category."
    )
    result.write()


if __name__ == "__main__": main()
