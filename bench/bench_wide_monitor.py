"""Reading collected rows of wide tables: seconds and memory, by columns and rows.

    .venv/bin/python bench/bench_wide_monitor.py [85x1833 1000x10000 30x200000 30x1000000]

Each size is a process that reads 25 rows a record, as an endpoint collects them. DuckDB may use 400 MB before
it spills; the figure is of the whole process, Python and DuckDB included. The files are kept in `.bench/wide_monitor`.
"""
import json
import sys

from harness import HOME, PYTHON, Result, rounds, spawn

FOLDER = HOME / "wide_monitor"
READ = """
import sys
from datetime import datetime, timedelta, timezone
from mlops_nb.monitors.collected import Counts, database, read_rows
from mlops_nb.monitors.windows import Window
file, spill, columns = sys.argv[1:]
now = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
with database(spill) as con:
    names = [f"column{number}" for number in range(int(columns))]
    read_rows(con, "read", [file], names, Window(now - timedelta(days=1), now + timedelta(days=1)), Counts())
    print(con.execute("SELECT count(*) FROM read").fetchone()[0])
"""


def collected(columns: int, rows: int):
    "A file as the endpoint collects it, made once"
    path = FOLDER / f"{columns}x{rows}.jsonl"
    if path.exists(): return path
    FOLDER.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with open(part, "w") as out:
        for first in range(0, rows, 25):
            data = [{f"column{number}": float(number * row % 97) for number in range(columns)} for row in range(25)]
            event = {"time": "2026-01-05T12:00:00Z", "id": str(first), "xrequestid": str(first), "data": data}
            out.write(json.dumps(event) + "\n")
    part.rename(path)
    return path


sizes = [tuple(map(int, size.split("x"))) for size in sys.argv[1:] or ["85x1833", "1000x10000", "30x200000"]]
files = {size: collected(*size) for size in sizes}
result = Result("wide_monitor", "Reading collected rows of wide tables", baseline="{}x{}".format(*sizes[0]))
result.add(rounds({f"{columns}x{rows}": lambda file=file, columns=columns: spawn(
    [PYTHON, "-c", READ, file, FOLDER / "spill", columns]) for (columns, rows), file in files.items()}, count=1))
result.write()
