"""Three million rows: `mlops-nb new` and the training pipeline of the new project, against reading and fitting alone

    .venv/bin/python bench/bench_large_table.py [--rows 3000000] [--rounds 1]

Reading and fitting alone is one process that reads the CSV file with pandas, cuts it where the project does, and fits
as its stage of training does, with the same estimator and settings: once with early stopping, once on all rows.
"""
import argparse
import shutil

from harness import HOME, PYTHON, Result, rounds, spawn, versions

WORK = HOME/"work"/"large_table"
TABLE = """
import sys, duckdb
rows, path = int(sys.argv[1]), sys.argv[2]
duckdb.sql(f'''COPY (SELECT TIMESTAMP '2024-01-01' + INTERVAL 1 SECOND * (i * 10) AS "when",
    'site' || (hash(i) % 40)::VARCHAR AS site, 'grade ' || (hash(i + 7) % 4)::VARCHAR AS grade,
    round((hash(i * 3 + 1) % 10000) / 100.0, 2) AS load, round((hash(i * 5 + 2) % 10000) / 1000.0, 3) AS wind,
    CASE WHEN (hash(i * 3 + 1) % 10000) / 100.0 + (hash(i * 13) % 60) > 80 THEN 1 ELSE 0 END AS failed
    FROM range({rows}) t(i)) TO '{path}' (HEADER)''')
"""
ALONE = """
import sys
import pandas as pd, yaml
from mlops_nb.training import train
table = pd.read_csv(sys.argv[1], parse_dates=["when"])
given = yaml.safe_load(open(sys.argv[2]))["inputs"]
table = table[table["when"] < given["train_end"]]
cut = int(len(table) * (1 - given["validation_share"]))
first, last = table.iloc[:cut].reset_index(drop=True), table.iloc[cut:].reset_index(drop=True)
roles = {"task": "classification", "label": "failed", "categorical": ["site", "grade"], "numeric": ["load", "wind"],
         "times": ["when"]}
settings = dict(learning_rate=0.05, max_iter=500, max_leaf_nodes=15, C=0.1)
settings |= {name: given[name] for name in ("min_samples_leaf", "l2_regularization", "seed")}
pipeline = train.fit(train.ESTIMATORS[given["estimator"]](roles, **settings), first, last, roles)
train.refit(pipeline, table, roles)
print(train.best_steps(pipeline))
"""


def measure(name: str, rows: int) -> dict[str, float]:
    "What one of the three costs; each needs what the one before it has left"
    project, table = WORK/"large", WORK/"table.csv"
    pipeline = project/"pipelines/training/pipeline.yml"
    if name == "mlops-nb new":
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        spawn([PYTHON, "-c", TABLE, rows, table])
        return spawn([PYTHON.with_name("mlops-nb"), "new", project, "--package", "large", "--data", table, "--target",
                      "failed", "--time", "when"], WORK, timeout=3000, tree=True)
    if name == "training pipeline":
        return spawn([PYTHON.with_name("mlops-nb"), "run", pipeline], project, timeout=6000, tree=True)
    quiet = {"GOMP_SPINCOUNT": "0"}  # as steps have it: threads that wait for each other sleep
    return spawn([PYTHON, "-c", ALONE, table, pipeline], WORK, quiet, timeout=6000, tree=True)


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=int, default=3_000_000)
    given.add_argument("--rounds", type=int, default=1)
    asked = given.parse_args()
    units = {"cpu": "CPU s", "wall": "wall s", "tree": "all processes, MB", "rss": "largest process MB"}
    result = Result("large_table", f"{asked.rows:,} rows of six columns", "reading and fitting alone", units,
                    versions=versions(PYTHON, "mlops-nb", "scikit-learn", "pandas", "duckdb"))
    names = ("mlops-nb new", "reading and fitting alone", "training pipeline")
    result.add(rounds({name: lambda name=name: measure(name, asked.rows) for name in names}, count=asked.rounds,
                      warm=False))
    cost = {name: {key: one["median"] for key, one in result.rows[name].items()} for name in names}
    ours, alone = cost["training pipeline"], cost["reading and fitting alone"]
    result.target("CPU of the training pipeline, times reading and fitting alone", ours["cpu"] / alone["cpu"], 2)
    result.target("wall time of it, times reading and fitting alone", ours["wall"] / alone["wall"], 2)
    for name in ("mlops-nb new", "training pipeline"):
        result.target(f"memory of all processes of {name}, MB", cost[name]["tree"], 1000)
    result.write()


if __name__ == "__main__": main()
