"""How often a monitor calls a model worse in a year of weekly looks: one that stays as it is, and one that does not.

    .venv/bin/python bench/bench_looks.py [--runs 1000]

A year of 364 days follows the 30 that judged the model. A day's loss has standard deviation 1. `each look` compares
the last 28 days with the 30, as the monitor did before: both means with their 95 % bounds. `all looks` is
`mlops_nb.monitors.losses`. A rise is that of all days from the release on, or from the middle of the year on; `weeks`
is the median from the rise to the alarm.
"""
import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from harness import Result

from mlops_nb.models.intervals import clustered_mean
from mlops_nb.monitors.losses import BLOCK_DAYS, find_rise, judged_blocks, served_blocks

YEAR, ROWS = 364, 100.0
DAYS = {"normal": lambda draw, n: draw.standard_normal(n),
        "heavy tails (t3)": lambda draw, n: draw.standard_t(3, n) / np.sqrt(3),
        "rare disasters": lambda draw, n: (draw.lognormal(0, 1, n) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)}
CASES = [(kind, correlation, rise, since)
         for kind, correlation in [("normal", 0), ("normal", 0.37), ("normal", 0.6), ("heavy tails (t3)", 0),
                                   ("rare disasters", 0), ("rare disasters", 0.37)]
         for rise, since in [(0, 0), (0.5, 0), (1, 0), (2, 0), (1, 182), (2, 182)]
         if not rise or kind == "normal" and correlation < 0.6]
LIMIT = 5   # Percent, whatever the days are like
UNITS = {"each": "each look, alarms %", "all": "all looks, alarms %", "weeks": "weeks to the alarm"}


def follow(draw, kind: str, correlation: float) -> np.ndarray:
    "Losses of 30 days and a year, each of which correlates with the day before"
    noise = DAYS[kind](draw, 30 + YEAR)
    for day in range(1, len(noise)):
        noise[day] = correlation * noise[day - 1] + np.sqrt(1 - correlation**2) * noise[day]
    return noise


def by_look(days: np.ndarray, seed: int) -> bool:
    "Whether any look of the year alarms if each compares its 28 days with the 30"
    def bounds(part): return clustered_mean(part * ROWS, np.full(len(part), ROWS), 200, seed=seed)
    before = bounds(days[:30])
    for end in range(30 + 28, len(days) + 1, 7):
        now = bounds(days[end - 28:end])
        if now.mean - before.mean > np.hypot(now.mean - now.low, before.high - before.mean): return True
    return False


def by_all(days: np.ndarray) -> int | None:
    "The week of the first alarm of the sequence"
    judged = judged_blocks(np.ones(30), days[:30])
    served = served_blocks({day: (ROWS, ROWS * loss, 0.0) for day, loss in enumerate(days[30:])})
    for week in range(1, YEAR // 7 + 1):
        rise = find_rise(judged, served.loss[:week * 7 // BLOCK_DAYS])
        if rise and rise.least > 0: return week
    return None


def cell(case, runs: int) -> dict[str, float]:
    "Shares of years with an alarm, in percent; of a rise those after it, and the weeks that it took"
    kind, correlation, rise, since = case
    draw, each, found = np.random.default_rng(0), [], []
    for seed in range(runs if not rise else max(runs // 5, 50)):
        days = follow(draw, kind, correlation)
        days[30 + since:] += rise
        found.append(by_all(days))
        if not rise and seed < max(runs // 10, 20): each.append(by_look(days, seed))
    right = [week for week in found if week and week > since // 7]
    rates = {"all": 100 * (len(right) if rise else sum(map(bool, found))) / len(found)}
    if each: rates["each"] = 100 * float(np.mean(each))
    if rise and right: rates["weeks"] = float(np.median(right)) - since // 7
    return rates


def name_of(case) -> str:
    "A case in words"
    kind, correlation, rise, since = case
    moved = f"rises by {rise:g} of a day's sd {'at the release' if not since else 'after half a year'}"
    return f"{kind}, correlation {correlation:g}: {moved if rise else 'nothing changes'}"


def main(runs: int):
    "Write the table"
    result = Result("looks", "Years of weekly looks in which a model is called worse", units=UNITS)
    with ProcessPoolExecutor(2) as pool: cells = list(pool.map(partial(cell, runs=runs), CASES))
    for case, rates in zip(CASES, cells):
        print(name_of(case), rates, flush=True)
        result.add({name_of(case): [rates]})
        if not case[2]: result.target(f"{name_of(case)}: alarms in a year, all looks", rates["all"], LIMIT, " %")
    few = max(runs // 10, 20), max(runs // 5, 50)
    result.notes.append(
        f"{runs:,} years without a change (`each look`: {few[0]}), {few[1]} of each rise. Monte Carlo error near 5 %: "
        f"{100 * np.sqrt(.05 * .95 / runs):.1f} percentage points. A rise counts where the alarm comes after it.")
    result.write()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--runs", type=int, default=1000, help="years without a change, of each kind of days")
    main(given.parse_args().runs)
