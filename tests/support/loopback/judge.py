"Runs one rebuilt monitor: started by the stand-in in the Python that is a job's image"
import json
import sys
from dataclasses import asdict
from pathlib import Path


def refuse_scores(file: Path):
    "Fail as azureml-metrics does where the predictions of a classification are no labels"
    create = json.loads(file.read_text())["create_monitor"]
    for name, signal in create["monitoring_signals"].items():
        if signal["type"] != "model_performance" or "classification" not in signal["metric_thresholds"]: continue
        production, endpoint = signal["production_data"], create["monitoring_target"]["endpoint_deployment_id"]
        column = production["data_column_names"]["prediction"]
        deployment = production["input_data"]["path"].rstrip("/").split("/")[-2]
        folder = file.parent / ".mlops/collected" / endpoint.split(":")[1] / deployment / "model_outputs"
        lines = [json.loads(line) for path in folder.rglob("*.jsonl") for line in path.read_text().splitlines()]
        values = [row[column] for line in lines for row in line["data"] if column in row]
        if lines and not values: sys.exit(f"{name}: the collected outputs have no column {column}")
        if any(isinstance(value, float) and not value.is_integer() for value in values):
            sys.exit(f"{name}: Classification metrics can't handle a mix of binary and continuous targets: {column}")


def main(file: Path, at: str):
    from mlops_nb.monitors.monitor import run_monitor
    refuse_scores(file)
    (file.parent / "result.json").write_text(json.dumps(asdict(run_monitor(file.parent, file, at))))


if __name__ == "__main__": main(Path(sys.argv[1]).resolve(), sys.argv[2])
