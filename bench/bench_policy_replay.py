"""What the retraining policy gains on a year of real flights: never, always and by policy, log loss month by month.

    OMP_NUM_THREADS=1 python bench/policy_replay.py        # models are kept in .mlops/bench, so a second run takes seconds

On features and models directly, without an endpoint. Each strategy serves a month with the model that it had at its start.
`always` trains on all flights up to that day and releases without a gate. The policy trains without the last `test_days`, and the gate of
[gates] judges the challenger against the champion on them. `any` is the policy that retrains every month, whatever the harm. `refit N` is no setting: it
serves, after the gate has accepted a challenger that was judged on N days, a model that nobody judged, trained on all days. It shows what judging costs.
"""
import json
import sys
import time
from dataclasses import asdict, replace
from datetime import timezone
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_nb.core.gate import Limits, judge, paired_bootstrap
from mlops_nb.core.settings import load_settings
from mlops_nb.core.workspace import write_whole
from mlops_nb.monitoring.policy import Policy, decide, policy_of, training_window
from mlops_nb.training.evaluate import calibration_error, log_losses, reliability
from mlops_nb.training.ingest import label, read_package
from mlops_nb.training.prepare import column_roles, features
from mlops_nb.training.train import ESTIMATORS, fit, inputs, refit

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".mlops/bench/policy_replay"
ESTIMATOR = dict(learning_rate=0.05, max_iter=500, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=10.0, C=0.1, seed=0)


def flights() -> pd.DataFrame:
    "All flights of 2013 that arrived, with their features"
    table = read_package()
    made = features(table.assign(late=label(table)))
    return made[made.late.notna()].assign(late=lambda t: t.late.astype(int), number=lambda t: t.date.dt.month).reset_index(drop=True)


def day(month: int, number: int = 1) -> pd.Timestamp:
    "A day of 2013; month 13 is the January after"
    return pd.Timestamp(2013 + (month - 1) // 12, (month - 1) % 12 + 1, number)


class Models:
    "The losses of a model trained on the days from `first` to before `end`, for every flight; each model is fitted once"

    def __init__(self, table: pd.DataFrame):
        self.table, self.roles, self.y = table, column_roles(), table.late.to_numpy()
        self.X = inputs(table, self.roles)
        KEPT.mkdir(parents=True, exist_ok=True)

    def losses(self, first: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
        "Log loss of each flight"
        return log_losses(self.y, self.probabilities(first, end))

    def probabilities(self, first: pd.Timestamp, end: pd.Timestamp) -> np.ndarray:
        "As `train` does it: stop by the last 28 days, then fit again on all"
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


def gate(models: Models, challenger: tuple, champion: tuple, window: tuple, limits: Limits):
    "The verdict on days that neither has seen"
    rows = models.rows(max(window[0], champion[1]), window[1])
    part, p = models.table[rows], models.probabilities(*challenger)[rows]
    slices = {name: part[name] for name in models.roles["slices"]}
    error = calibration_error(reliability(models.y[rows], p))
    return judge(models.losses(*challenger)[rows], models.losses(*champion)[rows], part.date, slices=slices, calibration_error=error, limits=limits)


def performance(models: Models, champion: tuple, month: int, baseline: float) -> dict:
    "What the monitor would say of a matured month"
    rows = models.rows(day(month), day(month + 1))
    found = paired_bootstrap(models.losses(*champion)[rows], models.table.date[rows], n_boot=1000)
    return dict(metric="log_loss", value=found.mean, low=found.low, high=found.high, baseline=baseline, n=int(rows.sum()))


FIRST = (day(1), day(4))    # January to March
DRIFT = dict(inputs=dict(type="data_drift", verdict="breach", rows=[]))     # some feature drifts every month


def by_policy(models: Models, policy: Policy, limits: Limits, refit: bool = False) -> dict:
    "Serve April to December by the policy: the champion of each month, and what was decided at the end of each"
    champion, history, served, log = FIRST, [], {}, []
    baseline = models.month((day(1), day(3)), 3)
    for month in range(4, 13):
        served[month] = models.month(champion, month)
        if month == 12: break
        now = day(month + 1).to_pydatetime().replace(tzinfo=timezone.utc)
        result = dict(window=[f"{day(month):%Y-%m-%d}", f"{now:%Y-%m-%d}"], signals=DRIFT, performance=performance(models, champion, month, baseline))
        action = decide(result, history, policy, now)
        entry = dict(month=month, action=action.action, reason=action.reason)
        if action.action == "retrain":
            history.append(dict(at=now, action="retrain"))
            days = {name: pd.Timestamp(text) for name, text in training_window(now, policy, "2013-01-01").items()}
            challenger, window = (days["train_start"], days["train_end"]), (days["train_end"], days["test_end"])
            window = (max(window[0], champion[1]), window[1])
            if window[0] >= window[1]: continue
            verdict = gate(models, challenger, champion, window, limits)
            entry |= dict(challenger=[f"{d:%Y-%m-%d}" for d in challenger], accepted=verdict.accepted, verdict=verdict.reason)
            if verdict.accepted:
                baseline = float(models.losses(*challenger)[models.rows(*window)].mean())
                champion = (challenger[0], window[1]) if refit else challenger
        log.append(entry)
    return dict(served=served, log=log, releases=sum(entry.get("accepted", False) for entry in log))


def mean(served: dict, models: Models) -> float:
    "Mean loss of a flight of April to December"
    sizes = models.table.number.value_counts()
    return float(np.average([*served.values()], weights=[sizes[month] for month in served]))


def gain_interval(models: Models) -> dict:
    "What `always` gains over `never`, per flight, with bounds from resampled days"
    served = models.rows(day(4), day(13))
    always = sum(models.losses(day(1), day(month)) * models.rows(day(month), day(month + 1)) for month in range(4, 13))
    found = paired_bootstrap((models.losses(*FIRST) - always)[served], models.table.date[served])
    return asdict(found)


def study() -> dict:
    "Everything, as one document"
    began, models = time.time(), Models(flights())
    settings = load_settings(ROOT)
    limits = Limits(**asdict(settings.gates))
    never = {month: models.month(FIRST, month) for month in range(4, 13)}
    always = {month: models.month((day(1), day(month)), month) for month in range(4, 13)}
    policies = dict(settings=policy_of(settings.monitoring)) | {name: replace(policy_of(settings.monitoring), **change) for name, change in VARIANTS.items()}
    found = dict(never=dict(served=never, releases=0), always=dict(served=always, releases=8))
    found |= {name: by_policy(models, policy, limits) for name, policy in policies.items()}
    found |= {f"refit {days}": by_policy(models, replace(policies["any"], test_days=days), limits, refit=True) for days in (7, 14, 30)}
    gain = mean(never, models) - mean(always, models)
    for one in found.values(): one |= dict(mean=mean(one["served"], models), share=(mean(never, models) - mean(one["served"], models)) / gain)
    trailing, october = (day(7), day(10)), (day(10), day(11))
    verdicts = {f"trained before {champion[1]:%Y-%m-%d}": gate(models, trailing, champion, october, limits).reason for champion in (FIRST, (day(1), day(7)), (day(1), day(9)))}
    return dict(strategies=found, gain_of_always=gain_interval(models), october_trailing_three_months=verdicts, seconds=time.time() - began)


VARIANTS = {f"harm, test {n}": dict(test_days=n) for n in (7, 14, 30)} | {f"any, test {n}": dict(test_days=n, retrain_on="any") for n in (7, 14)}
VARIANTS |= {"any": dict(retrain_on="any", cooldown_days=20), "harm, trailing 90 days": dict(train_days=90)}


def main():
    "Print the table, keep the document"
    found = study()
    months = range(4, 13)
    print("log loss".ljust(18), *(f"{month:>6}" for month in months), "  mean  gain  releases")
    for name, one in found["strategies"].items():
        print(name.ljust(18), *(f"{one['served'][month]:6.4f}" for month in months), f"{one['mean']:.4f}  {one['share']:4.0%}  {one['releases']}")
    for name in ("settings", *VARIANTS):
        for entry in found["strategies"][name]["log"]: print(name, entry["month"], entry["action"], entry["reason"][:110], entry.get("challenger", ""), entry.get("verdict", "")[:150])
    print("always gains over never, per flight:", {key: round(value, 4) for key, value in found["gain_of_always"].items()})
    for champion, reason in found["october_trailing_three_months"].items(): print("July to September, judged on October against the champion", champion, "->", reason)
    write_whole(KEPT / "result.json", json.dumps(found, indent=1))
    print(f"{found['seconds']:.0f} s; {KEPT / 'result.json'}")


if __name__ == "__main__": sys.exit(main())
