"""Drift of a large window: CPU seconds and memory, against Evidently and against a bare scan of the same files.

    .venv/bin/python bench/bench_drift_scale.py [--rows 1000000] [--rounds 3] [--no-evidently]

Seven numeric and three categorical features in Parquet, Jensen-Shannon distance and population stability index of
each. Every contestant is a process of its own, measured whole. *first* counts the reference as well, *next* finds
it counted. The files are made once and kept in `.bench/drift_scale`; Evidently has an environment of its own
(`bench/peers/evidently.txt`).
"""
import argparse
import shutil

from harness import HOME, PYTHON, Missing, Result, peer, rounds, spawn, versions

FOLDER = HOME/"drift_scale"
OURS = """
import sys
from mlops_nb.monitors import signals
from mlops_nb.monitors.collected import database
folder, ref, cur = sys.argv[1:]
con = database(folder + "/spill", "120MB")
reference, current = f"read_parquet('{ref}')", f"read_parquet('{cur}')"
samples = signals.read_samples(con, reference, current, lambda features: folder + "/reference")
limits = {"jensen_shannon_distance": .1, "population_stability_index": .2}
rows = signals.measure_drift(samples, {"numerical": limits, "categorical": limits}, signals.Rules())
print(len(rows))
"""
SCAN = """
import sys, duckdb
con = duckdb.connect(); con.execute("SET threads = 2")
sums, counts = [f"sum(f{i})" for i in range(7)], [f"count(DISTINCT c{i})" for i in range(3)]
for path in sys.argv[2:]: con.execute(f"SELECT {', '.join(sums + counts)} FROM read_parquet('{path}')").fetchone()
"""
EVIDENTLY = """
import sys, pandas as pd
from evidently import Dataset, DataDefinition, Report
from evidently.presets import DataDriftPreset
made = DataDefinition(numerical_columns=[f"f{i}" for i in range(7)], categorical_columns=[f"c{i}" for i in range(3)])
ref, cur = (Dataset.from_pandas(pd.read_parquet(p), data_definition=made) for p in sys.argv[2:])
Report([DataDriftPreset(num_method="jensenshannon", cat_method="jensenshannon")]).run(cur, ref)
"""
IMPORTS = "import mlops_nb.monitors.signals, duckdb; duckdb.connect()"


def made(name: str, rows: int, shift: float):
    "A table of random rows, which is made once"
    import duckdb
    path = FOLDER/f"{rows}-{name}.parquet"
    if path.exists(): return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    con, part = duckdb.connect(), path.with_suffix(".part")
    for setting in ("threads = 2", "memory_limit = '500MB'", f"temp_directory = '{FOLDER}'"):
        con.execute(f"SET {setting}")
    numbers = ", ".join(f"random() * {i + 1} + {shift} AS f{i}" for i in range(7))
    labels = ", ".join(f"'c' || (random() * {k})::INT AS c{i}" for i, k in enumerate((100, 20, 5)))
    con.execute(f"COPY (SELECT {numbers}, {labels} FROM range({rows})) TO '{part}' (FORMAT parquet)")
    part.rename(path)
    return path


def contestants(rows: int, evidently: bool) -> dict:
    "What is measured, by name"
    files = [FOLDER/"work", made("ref", rows, 0.0), made("cur", rows, 0.05)]
    def first():
        shutil.rmtree(FOLDER/"work"/"reference", ignore_errors=True)
        return spawn([PYTHON, "-c", OURS, *files])
    found = {
        "imports": lambda: spawn([PYTHON, "-c", IMPORTS]),
        "bare scan of the window": lambda: spawn([PYTHON, "-c", SCAN, files[0], files[2]]),
        "bare scan of both tables": lambda: spawn([PYTHON, "-c", SCAN, *files]),
        "mlops-nb, first": first,
        "mlops-nb, next": lambda: spawn([PYTHON, "-c", OURS, *files]),
    }
    return found | (
        {"Evidently": lambda: spawn([peer("evidently"), "-c", EVIDENTLY, *files], timeout=600)} if evidently else {}
    )


def main():
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rows", type=int, default=1_000_000)
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument(
        "--no-evidently", action="store_true", help="it holds all rows in memory, about 1 GB for a million"
    )
    args = given.parse_args()
    size = f"{args.rows // 1_000_000}m"
    result = Result(
        f"drift_scale_{size}",
        f"Drift of {args.rows:,} rows of ten features",
        baseline="bare scan of the window",
        versions=versions(PYTHON, "mlops-nb", "duckdb"),
    )
    result.add(rounds(contestants(args.rows, not args.no_evidently), count=args.rounds, warm=False))
    try: result.versions |= {} if args.no_evidently else versions(peer("evidently"), "evidently")
    except Missing: pass
    if args.no_evidently: result.missing["Evidently"] = "It was left out of this run; it holds all rows in memory."
    cpu = {name: row["cpu"]["median"] for name, row in result.rows.items()}
    result.target(
        "CPU of mlops-nb, next, above its imports",
        cpu["mlops-nb, next"] - cpu["imports"],
        0.5 * args.rows / 1_000_000,
        " s",
    )
    times = cpu["mlops-nb, first"] / cpu["bare scan of both tables"]
    result.target("CPU of mlops-nb, first, times a scan of both", times, 4)
    stored = sum(file.stat().st_size for file in (FOLDER/"work"/"reference").rglob("*") if file.is_file())
    result.target("bytes of the counted reference for each number in it", stored / args.rows / 7, 8.1)
    result.target("memory of mlops-nb, next", result.rows["mlops-nb, next"]["rss"]["median"], 250, " MB")
    result.notes.append(
        "*first* counts the reference too, *next* finds it counted. CPU is that of the whole process, imports included."
    )
    result.write()


if __name__ == "__main__": main()
