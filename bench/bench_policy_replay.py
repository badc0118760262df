"""What the retraining policy gains on a year of real flights: never, always and by policy, log loss month by month.

    OMP_NUM_THREADS=1 python bench/bench_policy_replay.py     # models are kept in .mlops/bench, so a second run
    takes seconds

On features and models directly, without an endpoint. Each strategy serves a month with the model that it had at its
start. `always` trains on all flights up to that day and releases without a gate. The policy is that of settings.ini,
without and with a refresh each month, as `make loop` has it: the challenger is trained without the last `test_days`,
the gate of [gates] judges it against the champion on them, and what is accepted is fitted again on all days, as
pipelines/monitoring/retrain.yml does it. The others change one thing each; `any` retrains every month, whatever the
harm. `averaged` is `average = true`: the estimators of `retraining.averaging`, judged for superiority.
"""
import time
from dataclasses import asdict, replace
from datetime import UTC
from pathlib import Path

import numpy as np
import pandas as pd
from harness import Result
from sklearn.base import BaseEstimator, ClassifierMixin

from mlops_nb.models.gate import judge
from mlops_nb.models.intervals import paired_bootstrap
from mlops_nb.models.settings import GateSettings
from mlops_nb.monitors.losses import find_rise, judged_blocks, served_blocks
from mlops_nb.retraining.averaging import average, renew, shares_of
from mlops_nb.retraining.policy import Policy, decide, training_window
from mlops_nb.settings import load_settings
from mlops_nb.training.evaluate import calibration_error, log_losses, reliability
from mlops_nb.training.ingest import label, read_package
from mlops_nb.training.prepare import column_roles, features
from mlops_nb.training.train import ESTIMATORS, fit, inputs, refit

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".mlops/bench/policy_replay"
ESTIMATOR = dict(
    learning_rate=0.05, max_iter=500, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=10.0, C=0.1, seed=0
)


def flights() -> pd.DataFrame:
    "All flights of 2013 that arrived, with their features"
    table = read_package()
    made = features(table.assign(late=label(table)))
    return (
        made[made.late.notna()]
        .assign(late=lambda t: t.late.astype(int), number=lambda t: t.date.dt.month)
        .reset_index(drop=True)
    )


def day(month: int, number: int = 1) -> pd.Timestamp:
    "A day of 2013; month 13 is the January after"
    return pd.Timestamp(2013 + (month - 1) // 12, (month - 1) % 12 + 1, number)


class Models:
    """The losses of a model trained on the days from `first` to before `end`, for every flight; each model is fitted
    once"""

    def __init__(self, table: pd.DataFrame):
        self.table, self.roles, self.y = table, column_roles(), table.late.to_numpy()
        self.X, self.averages = inputs(table, self.roles), []
        KEPT.mkdir(parents=True, exist_ok=True)

    def losses(self, first: pd.Timestamp, end: pd.Timestamp, number: int = 0) -> np.ndarray:
        "Log loss of each flight"
        return log_losses(self.y, self.probabilities(first, end, number))

    def keep(self, model, first: pd.Timestamp, end: pd.Timestamp) -> tuple:
        "Remember an average; the days of its newest part, and its number"
        self.averages.append((model, model.predict_proba(self.X)[:, 1]))
        return first, end, len(self.averages)

    def model(self, first: pd.Timestamp, end: pd.Timestamp, number: int = 0):
        "An estimator that says what is kept, or an average of such"
        return self.averages[number - 1][0] if number else Kept(self, first, end)

    def probabilities(self, first: pd.Timestamp, end: pd.Timestamp, number: int = 0) -> np.ndarray:
        "As `train` does it: stop by the last 28 days, then fit again on all"
        if number: return self.averages[number - 1][1]
        file = KEPT / f"{first:%m%d}-{end:%m%d}.npy"
        if file.exists(): return np.load(file)
        part = self.table[(self.table.date >= first) & (self.table.date < end)]
        cut = end - pd.Timedelta(days=28)
        early, late = (part[rows].reset_index(drop=True) for rows in (part.date < cut, part.date >= cut))
        pipeline = fit(ESTIMATORS["hist_gradient_boosting"](self.roles, **ESTIMATOR), early, late, self.roles)
        found = refit(pipeline, part.reset_index(drop=True), self.roles).predict_proba(self.X)[:, 1]
        with open(file.with_suffix(".part"), "wb") as out: np.save(out, found)
        file.with_suffix(".part").rename(file)
        return found

    def rows(self, first: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
        "The flights of some days"
        return ((self.table.date >= first) & (self.table.date < end)).to_numpy()

    def month(self, model: tuple, number: int) -> float:
        "Mean loss of a model in a month"
        return float(self.losses(*model)[self.rows(day(number), day(number + 1))].mean())


class Kept(ClassifierMixin, BaseEstimator):
    "A fitted model by the probabilities that are kept of it"
    def __init__(self, models: Models, first: pd.Timestamp, end: pd.Timestamp):
        self.models, self.first, self.end = models, first, end
        self.classes_, self.feature_names_in_ = np.array([0, 1]), np.asarray(models.X.columns)

    def fit(self, X, y): return self    # scikit-learn takes what has it for an estimator

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        p = self.models.probabilities(self.first, self.end)[X.index]
        return np.column_stack([1 - p, p])


def averaged(models: Models, challenger: tuple, champion: tuple, version: int, until: pd.Timestamp) -> tuple:
    "The average that is judged, and the same with the challenger fitted again up to a day"
    both = average(models.model(*challenger), models.model(*champion), version)
    again = renew(both, lambda part: models.model(challenger[0], until))
    return models.keep(both, *challenger), models.keep(again, challenger[0], until)


def gate(models: Models, challenger: tuple, champion: tuple, window: tuple, limits: GateSettings, refresh=False):
    "The verdict on days that neither has seen"
    rows = models.rows(max(window[0], champion[1]), window[1])
    part, p = models.table[rows], models.probabilities(*challenger)[rows]
    slices = {name: part[name] for name in models.roles["slices"]}
    error = calibration_error(reliability(models.y[rows], p))
    return judge(
        models.losses(*challenger)[rows],
        models.losses(*champion)[rows],
        part.date,
        slices=slices,
        calibration_error=error,
        limits=limits,
        refresh=refresh,
    )


def interval(models: Models, trained: tuple, window: tuple):
    "Mean loss of a model on some days, with bounds"
    rows = models.rows(*window)
    return paired_bootstrap(models.losses(*trained)[rows], models.table.date[rows])


def by_day(models: Models, trained: tuple, window: tuple) -> pd.DataFrame:
    "Count and sum of the losses of each day"
    rows = models.rows(*window)
    return pd.Series(models.losses(*trained)[rows]).groupby(models.table.date[rows].to_numpy()).agg(["count", "sum"])


def least_rise(models: Models, champion: tuple, until: pd.Timestamp, baseline: tuple) -> float | None:
    "By how much the loss is surely higher since the champion was judged"
    judged, served = by_day(models, *baseline), by_day(models, champion, (baseline[1][1], until))
    days = {number: (row["count"], row["sum"], 0.0) for number, (_, row) in enumerate(served.iterrows())}
    rise = find_rise(judged_blocks(judged["count"].to_numpy(float), judged["sum"].to_numpy()), served_blocks(days).loss)
    return rise.least if rise else None


def performance(models: Models, champion: tuple, month: int, baseline: tuple) -> dict:
    "What the monitor would say of a matured month; the baseline is a model and the days that judged it"
    window, before = (day(month), day(month + 1)), interval(models, *baseline)
    now = interval(models, champion, window)
    return dict(
        metric="log_loss",
        value=now.mean,
        low=now.low,
        high=now.high,
        baseline=before.mean,
        worse=least_rise(models, champion, window[1], baseline),
        n=int(models.rows(*window).sum()),
    )


def due_refresh(champion: tuple, policy: Policy, now: pd.Timestamp) -> dict | None:
    "What the calendar says of a champion whose newest day is `refresh_days` old"
    days = (now - champion[1]).days
    if not policy.refresh_days or days < policy.refresh_days: return None
    seen = f"{champion[1]:%Y-%m-%d}"
    return dict(window=[seen, f"{now:%Y-%m-%d}"], signals={}, refresh=dict(seen=seen, days=days))


FIRST = (day(1), day(4))    # January to March
DRIFT = dict(inputs=dict(type="data_drift", verdict="breach", rows=[]))     # some feature drifts every month


def by_policy(models: Models, policy: Policy, limits: GateSettings, again: bool = True) -> dict:
    "Serve April to December by the policy: the champion of each month, and what was decided at the end of each"
    champion, history, champions, log = FIRST, [], {}, []
    baseline = ((day(1), day(3)), (day(3), day(4)))
    for month in range(4, 13):
        champions[month] = champion
        if month == 12: break
        now = day(month + 1).to_pydatetime().replace(tzinfo=UTC)
        result = dict(
            window=[f"{day(month):%Y-%m-%d}", f"{now:%Y-%m-%d}"],
            signals=DRIFT,
            performance=performance(models, champion, month, baseline),
        )
        action, due = decide(result, history, policy, now), None
        if action.action == "none" and (due := due_refresh(champion, policy, day(month + 1))):
            action = decide(due, history, policy, now)
        entry = dict(month=month, action=action.action, reason=action.reason)
        if action.action == "retrain":
            history.append(dict(at=now, action="retrain"))
            days = {name: pd.Timestamp(text) for name, text in training_window(now, policy, "2013-01-01").items()}
            challenger, window = (
                (days["train_start"], days["train_end"]),
                (max(days["train_end"], champion[1]), days["test_end"]),
            )
            if window[0] < window[1]:
                known, after = [f"{d:%Y-%m-%d}" for d in challenger], (challenger[0], window[1])
                if policy.average:
                    challenger, after = averaged(models, challenger, champion, month, window[1])
                verdict = gate(models, challenger, champion, window, limits, bool(due) and not policy.average)
                entry |= dict(challenger=known, accepted=verdict.accepted, verdict=verdict.reason)
                if policy.average: entry |= dict(shares=shares_of(models.model(*after)))
                if verdict.accepted: champion, baseline = after if again else challenger, (challenger, window)
        log.append(entry)
    return dict(champions=champions, log=log, releases=sum(entry.get("accepted", False) for entry in log))


def losses(models: Models, champions: dict) -> np.ndarray:
    "Loss of each flight of April to December under a strategy; 0 for others"
    return sum(
        models.losses(*champion) * models.rows(day(month), day(month + 1)) for month, champion in champions.items()
    )


def gains(models: Models, found: dict) -> None:
    """Adds to each strategy its loss by month, and per flight what it gains over `never` and loses against `always`,
    with bounds from resampled days"""
    served = models.rows(day(4), day(13))
    lost = {name: losses(models, one["champions"])[served] for name, one in found.items()}
    days = models.table.date[served]
    for name, one in found.items():
        one |= dict(
            months={month: models.month(champion, month) for month, champion in one["champions"].items()},
            mean=float(lost[name].mean()),
            gain=paired_bootstrap(lost["never"] - lost[name], days),
            behind=paired_bootstrap(lost[name] - lost["always"], days),
        )
        one["share"] = one["gain"].mean / (lost["never"] - lost["always"]).mean()


def study() -> dict:
    "Every strategy, and July to September judged on October against several champions"
    models, settings = Models(flights()), load_settings(ROOT)
    limits, policy = GateSettings(**asdict(settings.named("gates"))), Policy.from_settings(settings.named("monitoring"))
    found = {"never": dict(champions=dict.fromkeys(range(4, 13), FIRST), releases=0),
             "always": dict(champions={month: (day(1), day(month)) for month in range(4, 13)}, releases=8)}
    found |= {
        name: by_policy(models, replace(policy, **change), limits, again) for name, (change, again) in VARIANTS.items()
    }
    gains(models, found)
    trailing, october = (day(7), day(10)), (day(10), day(11))
    verdicts = {
        f"trained before {champion[1]:%Y-%m-%d}": gate(models, trailing, champion, october, limits)
        for champion in (FIRST, (day(1), day(7)), (day(1), day(9)))
    }
    return dict(strategies=found, october=verdicts)


VARIANTS = {
    "refreshed each month": (dict(refresh_days=30), True),
    "averaged with the champion each month": (dict(refresh_days=30, average=True), True),
    "by harm only": ({}, True),
    "not fitted again": ({}, False),
    "14 days to judge on": (dict(test_days=14), True),
    "7 days to judge on": (dict(test_days=7), True),
    "any": (dict(retrain_on="any"), True),
    "any, 14 days to judge on": (dict(retrain_on="any", test_days=14), True),
    "trailing 90 days": (dict(train_days=90), True),
}
UNITS = {
    "loss": "log loss, April to December",
    "gain": "gain over never, 0.001",
    "behind": "behind always, 0.001",
    "share": "share of the gain, %",
    "releases": "releases",
}


def main():
    "Write the table"
    began, found = time.time(), study()
    result = Result("policy_replay", "Never, always, or by policy: a year of flights", units=UNITS)
    point = lambda value: {"median": value, "min": value, "max": value}
    for name, one in found["strategies"].items():
        within = {
            key: {"median": 1000 * one[key].mean, "min": 1000 * one[key].low, "max": 1000 * one[key].high}
            for key in ("gain", "behind")
        }
        result.rows[name] = {
            "loss": point(one["mean"]),
            **within,
            "share": point(100 * one["share"]),
            "releases": point(one["releases"]),
        }
        if name in ("never", "always", "refreshed each month", "by harm only"):
            result.notes.append(
                f"Log loss of {name} by month: " + ", ".join(f"{value:.3f}" for value in one["months"].values()) + "."
            )
    ours = found["strategies"]["refreshed each month"]
    result.target("share of the gain of `always` that the policy misses", 100 * (1 - ours["share"]), 10, " %")
    result.target("releases of the policy, at most those of always", ours["releases"],
                  found["strategies"]["always"]["releases"])
    result.target(
        "October challengers, trained on July to September, that the gate accepts, of 3",
        sum(verdict.accepted for verdict in found["october"].values()),
        0,
    )
    always = found["strategies"]["always"]["gain"]
    result.notes.append(
        f"Gains are per flight; their bounds are one-sided, 95 %, from resampled days. What `always` gains, "
        f"{always.mean:.4f} [{always.low:.4f}, {always.high:.4f}], is itself "
        f"{'not told from chance' if always.low <= 0 else 'more than chance'}, so a share of it is a ratio of two "
        f"uncertain numbers: look at the bounds of `behind always`."
    )
    for entry in ours["log"]:
        if entry["action"] == "retrain":
            result.notes.append(
                f"Refreshed at the end of 2013-{entry['month']:02d}: {entry['reason']}. "
                f"{entry.get('verdict', 'no days to judge on')}"
            )
    result.notes += [
        f"Averaged at the end of 2013-{entry['month']:02d}. {entry.get('verdict', 'No days to judge on')} "
        f"Shares: {entry.get('shares')}."
        for entry in found["strategies"]["averaged with the champion each month"]["log"] if entry["action"] == "retrain"
    ]
    result.notes += [
        f"July to September, judged on October against the model {champion}. {verdict.reason}"
        for champion, verdict in found["october"].items()
    ]
    result.notes.append(f"{time.time() - began:.0f} s with {len([*KEPT.glob('*.npy')])} models kept.")
    result.write()


if __name__ == "__main__": main()
