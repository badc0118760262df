"""Drift of a large window: CPU seconds and memory, against Evidently and against a bare scan of the same files.

    .venv/bin/python bench/drift_scale.py [--rows 1000000] [--evidently PATH/TO/VENV/bin/python]

Seven numeric and three categorical features in Parquet, Jensen-Shannon distance and population stability index of each. Every
contestant is a process of its own; its CPU time (user and system) and its largest memory are those that the operating system
reports, less nothing. *first* counts the reference as well, *next* finds it counted. Evidently lives in a virtual environment of its own
(`python -m venv X && X/bin/pip install evidently pyarrow`).
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

OURS = """
import sys
from mlops_nb.monitoring import signals
from mlops_nb.monitoring.collected import database
folder, ref, cur = sys.argv[1:]
con = database(folder + "/spill", "120MB")
pair = signals.pair(con, f"read_parquet('{ref}')", f"read_parquet('{cur}')", lambda features: folder + "/reference")
limits = {kind: {"jensen_shannon_distance": .1, "population_stability_index": .2} for kind in ("numerical", "categorical")}
rows = signals.drift(pair, limits, signals.Rules())
print(len(rows), sum(r["breach"] for r in rows))
"""
SCAN = """
import sys, duckdb
con = duckdb.connect(); con.execute("SET threads = 2")
print(con.execute(f"SELECT {', '.join(f'sum(f{i})' for i in range(7))}, {', '.join(f'count(c{i})' for i in range(3))} FROM read_parquet('{sys.argv[3]}')").fetchone()[0])
"""
EVIDENTLY = """
import sys, pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
names = [f"f{i}" for i in range(7)], [f"c{i}" for i in range(3)]
made = DataDefinition(numerical_columns=names[0], categorical_columns=names[1])
ref, cur = (Dataset.from_pandas(pd.read_parquet(p), data_definition=made) for p in sys.argv[2:])
Report([DataDriftPreset(num_method="jensenshannon", cat_method="jensenshannon")]).run(cur, ref)
print("done")
"""
START = "import mlops_nb.monitoring.signals, duckdb; duckdb.connect()"


def make(path, rows, shift):
    "A table of random rows"
    import duckdb
    con = duckdb.connect()
    con.execute("SET threads = 2"); con.execute("SET memory_limit = '500MB'")
    numbers, labels = ", ".join(f"random() * {i + 1} + {shift} AS f{i}" for i in range(7)), ", ".join(f"'c' || (random() * {k})::INT AS c{i}" for i, k in enumerate((100, 20, 5)))
    con.execute(f"COPY (SELECT {numbers}, {labels} FROM range({rows})) TO '{path}' (FORMAT parquet)")


def measure(name, python, code, *given):
    "Run a contestant and read what it used"
    process = subprocess.Popen([python, "-c", code, *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.stdout.read(), process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    row = dict(name=name, cpu=round(used.ru_utime + used.ru_stime, 2), megabytes=round(used.ru_maxrss / 1024), ok=status == 0)
    print(f"{name:<34}{row['cpu']:>8.2f} s CPU {row['megabytes']:>6} MB   {out.strip()[:40] if row['ok'] else err.strip()[-200:]}", flush=True)
    return row


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=int, default=1_000_000)
    given.add_argument("--evidently", help="a Python that has Evidently")
    given.add_argument("--out")
    args = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ref, cur = f"{folder}/ref.parquet", f"{folder}/cur.parquet"
        make(ref, args.rows, 0.0); make(cur, args.rows, 0.05)
        rows = [measure("imports", sys.executable, START), measure("bare scan of the window", sys.executable, SCAN, folder, ref, cur),
                measure("ours, first", sys.executable, OURS, folder, ref, cur), measure("ours, next", sys.executable, OURS, folder, ref, cur)]
        if args.evidently: rows.append(measure("Evidently", args.evidently, EVIDENTLY, folder, ref, cur))
    if args.out:
        with open(args.out, "w") as file: json.dump(dict(rows=args.rows, contestants=rows), file, indent=1)


if __name__ == "__main__": main()
