"""A wide and large table from file to tower: the memory of all processes together.

    .venv/bin/python bench/bench_wide_life.py [300x1000000]

The table has numbers, each hundredth of them missing, a tenth of its columns are categories, and the target is a sum of
some of them with noise. Nobody writes a line: `new`, then the training pipeline, then `loop`, which releases the
champion, serves a sample, monitors it and writes the tower. A page that two processes share counts once.
"""
import shutil
import sys
from pathlib import Path

from harness import HOME, PYTHON, UNITS, Missing, Result, spawn

WORK = HOME / "wide_life"
LIMIT = 2048    # MB


def write_table(file: Path, columns: int, rows: int) -> None:
    "Write the table, some rows at a time"
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet
    rng, writer, step = np.random.default_rng(0), None, 20_000
    for first in range(0, rows, step):
        n = min(step, rows - first)
        table = {f"column{number}": rng.normal(size=n).round(2) for number in range(columns - columns // 10 - 1)}
        target = sum(table[f"column{number}"] for number in range(5)) + rng.normal(size=n)
        for values in table.values(): values[rng.random(n) < .01] = np.nan
        names = {f"kind{number}": rng.integers(0, 20, n).astype(str) for number in range(columns // 10)}
        made = pa.table({name: pa.array(values, from_pandas=True) for name, values in (table | names).items()})
        made = made.append_column("target", pa.array(target))
        writer = writer or parquet.ParquetWriter(file, made.schema)
        writer.write_table(made)
    writer.close()


def live(columns: int, rows: int) -> dict[str, dict]:
    "Take the table from its file to the tower"
    file, project, mlops = WORK / f"{columns}x{rows}.parquet", WORK / "project", PYTHON.with_name("mlops-nb")
    WORK.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_table(part := file.with_suffix(".part"), columns, rows)
        part.rename(file)
    shutil.rmtree(project, ignore_errors=True)
    given = ["--package", "wide", "--data", file, "--target", "target"]
    commands = {"new": ["new", project, *given], "train": ["run", "pipelines/training/pipeline.yml"], "loop": ["loop"]}
    found = {}
    for name, words in commands.items():
        folder = WORK if name == "new" else project
        found[name] = spawn([mlops, *words], cwd=folder, timeout=7200, tree=True)
        print(name, found[name], flush=True)
    spawn([mlops, "endpoint", "stop", "project"], cwd=project, codes=(0, 1, 2))
    return found


def main() -> None:
    size = sys.argv[1] if len(sys.argv) > 1 else "300x1000000"
    result = Result("wide_life", f"A table of {size.replace('x', ' columns and ')} rows, from file to tower",
                    units=UNITS | {"tree": "all processes MB"})
    try: found = live(*map(int, size.split("x")))
    except Missing as reason: result.missing[size] = str(reason)
    else:
        result.add({name: [row] for name, row in found.items()})
        for name, row in found.items(): result.target(f"memory of {name}", row["tree"], LIMIT, " MB")
    result.write()


if __name__ == "__main__": main()
