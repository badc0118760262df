"""What each rule of decision costs on a million rows: CPU seconds and memory of a process of its own, imports included.

    .venv/bin/python bench/bench_rules.py [--rows 1000000] [--rounds 3]

`gate` judges a challenger on so many rows of thirty days, with three slices and the calibration. `drift` compares a
window of so many rows and ten features with a reference of as many, and with as many of the twelve weeks before.
`loss` adds up the losses of a window by day and looks for a rise. `canary` counts so many requests of a stage, 2 % of
which are bad. The files are made once and kept in `.bench/drift_scale`.
"""
import argparse
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
from bench_drift_scale import FOLDER, made
from harness import PYTHON, ROOT, Result, rounds, spawn, versions

DAYS, WEEK = 30, 7 * 86_400_000_000


def gate(rows: int):
    from mlops_nb.models.gate import judge
    draw = np.random.default_rng(0)
    champion, day = draw.exponential(0.4, rows), np.sort(draw.integers(0, DAYS, rows))
    slices = {f"slice {k}": draw.integers(0, k, rows).astype(str) for k in (3, 16, 100)}
    verdict = judge(champion + draw.normal(-0.01, 0.1, rows), champion, day, slices=slices,
                    calibration_error=draw.normal(0, 0.01, rows), latency_ms=draw.exponential(5, 1000))
    return verdict.interval


def drift(rows: int):
    from mlops_nb.monitors import history, signals
    from mlops_nb.monitors.collected import database
    con = database(str(FOLDER / "spill"), "120MB")
    reference, current = (f"read_parquet('{made(name, rows, shift)}')" for name, shift in (("ref", 0.0), ("cur", 0.05)))
    columns = ", ".join([f"f{i}" for i in range(7)] + [f"c{i}" for i in range(3)])
    shutil.rmtree(FOLDER / "work" / "reference", ignore_errors=True)
    samples = signals.read_samples(con, f"(SELECT {columns} FROM {reference})", f"(SELECT {columns} FROM {current})",
                                   lambda features: FOLDER / "work" / "reference")
    def timed(relation: str, weeks: int, start: int) -> history.Timed:
        time = f"{start} + file_row_number * {weeks * WEEK} // {rows} AS t"
        table = relation.replace("')", "', file_row_number = true)")
        return history.Timed(f"(SELECT {columns}, {time} FROM {table})", "t")
    before = history.Source(timed(reference, 12, 0), samples.features)
    plan = history.plan_blocks(con, timed(current, 4, 12 * WEEK), [before], (12 * WEEK, 16 * WEEK))
    limits = {"jensen_shannon_distance": 0.1, "population_stability_index": 0.2}
    found = signals.measure_drift(samples, {"numerical": limits, "categorical": limits}, signals.Rules(), plan)
    if not plan or "before" not in found[0]: sys.exit("error: the weeks before were not compared")
    return len(found)


def loss(rows: int):
    from mlops_nb.monitors import losses, performance
    from mlops_nb.monitors.collected import database
    con, p = database(str(FOLDER / "spill"), "120MB"), "f0"
    entropy = f"-({p} * ln({p}) + (1 - {p}) * ln(1 - {p}))"
    con.execute(f"""CREATE TEMP TABLE judged AS SELECT file_row_number * {DAYS} // {rows} AS day, {p} AS p,
        -ln(CASE WHEN f1 / 2 < {p} THEN {p} ELSE 1 - {p} END) AS loss, {entropy} AS promised
        FROM read_parquet('{made("ref", rows, 0.0)}', file_row_number = true) WHERE {p} > 0 AND {p} < 1""")
    days = performance.daily_sums(con, "judged")
    performance.promise_slope(con, "judged")
    served = losses.served_blocks(dict(enumerate(zip(days["n"], days["loss"], days["promised"]))))
    return performance.loss_interval(days, "log_loss"), losses.find_rise(served.loss[:4], served.loss[4:])


def canary(rows: int):
    from mlops_nb.releases.judgement import count_requests, judge_share
    from mlops_nb.releases.record import Release, new_stage
    from mlops_nb.releases.rollout import load_rollout
    plan, draw = load_rollout(ROOT / "pipelines/deployment/rollout.yml"), np.random.default_rng(0)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    release = Release("r", "endpoint", "model", "2", "new", "1", "old", asdict(plan), {}, p99_latency_ms=250.0)
    record = {**new_stage(plan.stages[2]), "begin": "0"}
    release.stages.append(record)
    mine, bad = draw.random(rows) < plan.stages[2].traffic / 100, draw.random(rows) < 0.02
    def served():
        for number, (own, fails) in enumerate(zip(mine.tolist(), bad.tolist())):
            yield {"request_id": str(number), "deployment": "new" if own else "old", "mirror": False, "valid": True,
                   "served": (start + timedelta(milliseconds=500 * number)).isoformat(), "cursor": str(number),
                   "status": 500 if fails else 200, "milliseconds": 9.0}
    count_requests(record, served(), release)
    return judge_share(release, record, plan.stages[2], last=False)


RULES = {rule.__name__: rule for rule in (gate, drift, loss, canary)}
LIMITS = {"gate": 10, "drift": 10, "loss": 5, "canary": 60}     # CPU seconds a million rows, imports not counted


def main(rows: int, count: int):
    "Write the table"
    made("ref", rows, 0.0), made("cur", rows, 0.05)
    result = Result("rules", f"What each rule of decision costs on {rows:,} rows",
                    versions=versions(PYTHON, "mlops-nb", "numpy", "duckdb"))
    def run(name: str, rows: int): return lambda: spawn([PYTHON, __file__, "--only", name, "--rows", rows])
    few = {f"{name}, 10,000 rows": run(name, 10_000) for name in RULES}
    result.add(rounds(few | {name: run(name, rows) for name in RULES}, count=count, warm=False))
    cpu = {name: row["cpu"]["median"] for name, row in result.rows.items()}
    for name, limit in LIMITS.items():
        more = cpu[name] - cpu[f"{name}, 10,000 rows"]
        result.target(f"{name}: CPU more than for 10,000 rows", more, limit * rows / 1e6, " s")
    result.notes.append(" ".join(__doc__.split("\n\n")[-1].split()))
    result.write()


if __name__ == "__main__":
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=int, default=1_000_000)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--only", choices=RULES, help="run one rule, unmeasured")
    args = given.parse_args()
    if args.only: print(RULES[args.only](args.rows))
    else: main(args.rows, args.rounds)
