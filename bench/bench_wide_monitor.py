"""The monitor of wide and of long tables: seconds and memory, by columns and rows.

    .venv/bin/python bench/bench_wide_monitor.py [85x1833 1000x10000 30x1000000]

Each size is a project of its own in `.bench/wide_monitor`, made once: what an endpoint collected, 25 rows a record, and
a reference in Parquet of as many rows, with a hole in each hundredth row. A process runs the monitor for drift and for
quality of the data, counting the reference as well. The memory is that of all its processes together.
"""
import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness import HOME, PYTHON, UNITS, Result, rounds, spawn

AT = datetime(2026, 1, 5, 12, tzinfo=UTC)
RUN = """
import sys
from mlops_nb.monitors.monitor import run_monitor
found = run_monitor(sys.argv[1], at="2026-01-05T13:00:00Z")
assert len(found.signals["drift"]["rows"]) == 2 * int(sys.argv[2]), found.signals["drift"]["verdict"]
assert found.rows == int(sys.argv[3]) and len(found.signals["quality"]["rows"]) == 3 * int(sys.argv[2])
"""
MONITOR = """name: m
trigger: {type: cron, expression: "0 6 * * 1"}
create_monitor:
  compute: {instance_type: standard_e4s_v3, runtime_version: "3.4"}
  monitoring_target: {ml_task: regression, endpoint_deployment_id: "azureml:e:blue"}
  monitoring_signals:
    drift: &signal
      type: data_drift
      production_data:
        input_data:
          type: uri_folder
          path: azureml://datastores/workspaceblobstore/paths/modelDataCollector/e/blue/model_inputs
        data_window: {lookback_window_size: P7D, lookback_window_offset: P0D}
      reference_data: {input_data: {type: uri_folder, path: ../../reference}}
      metric_thresholds: {numerical: {jensen_shannon_distance: 0.1, population_stability_index: 0.2}}
    quality:
      <<: *signal
      type: data_quality
      metric_thresholds: {numerical: {null_value_rate: 0.1, data_type_error_rate: 0.0, out_of_bounds_rate: 0.05}}
"""


def write_project(folder: Path, columns: int, rows: int) -> None:
    "Write what an endpoint collected, the reference, and the monitor's file"
    collected = folder / f".mlops/collected/e/blue/model_inputs/{AT:%Y/%m/%d/%H}/rows.jsonl"
    for path in (collected.parent, folder / "pipelines/monitoring", folder / "reference"): path.mkdir(parents=True)
    names = [f'"column{number}": ' for number in range(columns)]
    with open(collected, "w") as out:
        for first in range(0, rows, 25):
            time, id = f"{AT + timedelta(milliseconds=first):%Y-%m-%dT%H:%M:%S.%fZ}", str(first)
            event = {"time": time, "id": id, "xrequestid": id, "data": []}
            some = (", ".join(f"{name}{(number + 1) * row % 9973 / 8}" for number, name in enumerate(names))
                    for row in range(first, min(first + 25, rows)))
            out.write(json.dumps(event)[:-2] + ", ".join(f"{{{row}}}" for row in some) + "]}\n")
    write_reference(folder / "reference/rows.parquet", columns, rows)
    (folder / "settings.ini").write_text("[project]\nexperiment = e\nmodel = m\n")
    (folder / "pipelines/monitoring/monitor.yml").write_text(MONITOR)


def write_reference(file: Path, columns: int, rows: int) -> None:
    "Write the reference, some rows at a time"
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet
    step, writer = max(2_000_000 // columns, 1), None
    for first in range(0, rows, step):
        row = np.arange(first, min(first + step, rows))
        values = {f"column{number}": (number + 1) * row % 9967 / 8 for number in range(columns)}
        values["column0"] = np.where(row % 100, values["column0"], np.nan)
        table = pa.table({name: pa.array(value, from_pandas=True) for name, value in values.items()})
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)
    writer.close()


def project(columns: int, rows: int) -> Path:
    "The project of a size, made once"
    folder = HOME / "wide_monitor" / f"{columns}x{rows}"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        write_project(part, columns, rows)
        part.rename(folder)
    return folder


def run(columns: int, rows: int) -> dict:
    "Run the monitor once"
    folder = project(columns, rows)
    shutil.rmtree(folder / ".mlops/monitors", ignore_errors=True)
    return spawn([PYTHON, "-c", RUN, folder, columns, rows], timeout=3600, tree=True)


def main() -> None:
    sizes = [tuple(map(int, size.split("x"))) for size in sys.argv[1:] or ["85x1833", "1000x10000", "30x1000000"]]
    for size in sizes: project(*size)
    result = Result("wide_monitor", "The monitor of wide and of long tables", baseline="{}x{}".format(*sizes[0]),
                    units=UNITS | {"tree": "all processes MB"})
    result.add(rounds({f"{columns}x{rows}": lambda columns=columns, rows=rows: run(columns, rows)
                       for columns, rows in sizes}, count=1, warm=False))
    for name, row in result.rows.items():
        result.target(f"memory of {name}", max(row[key]["median"] for key in ("tree", "rss")), 400, " MB")
    result.write()


if __name__ == "__main__": main()
